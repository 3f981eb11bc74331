"""Recurrence rules that are refused, in which words, and that nothing else is: no crash, no endless search."""

from __future__ import annotations

from datetime import date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broken import changed, plain
from nxsched.domain.availability import BlockedPeriod
from nxsched.domain.effort import Effort
from nxsched.domain.recurrence import recurrence
from nxsched.errors import InvalidInput
from nxsched.slots import find_slots
from nxsched.slots.scenario import load

MONDAY = datetime(2026, 3, 23, 12, 0)  # noqa: DTZ001 - a wall time
NO_PART = "is no part of a recurrence rule (RFC 5545)"
NEVER = "does not come to pass in the 400 years from 2026-03-23T12:00:00 on"

# Of a period in wall time that starts on Monday, 2026-03-23, at 12:00.
BROKEN = [
    ("FREQ=SECONDLY", "FREQ=SECONDLY repeats too often; the most is HOURLY"),
    ("FREQ=MINUTELY;INTERVAL=30", "FREQ=MINUTELY repeats too often; the most is HOURLY"),
    ("FREQ=FORTNIGHTLY", 'FREQ cannot be "FORTNIGHTLY" (RFC 5545)'),
    ("INTERVAL=2", '"INTERVAL=2" has no FREQ'),
    ("FREQ=DAILY;FREQ=WEEKLY", "FREQ is given twice"),
    ("FREQ=DAILY;INTERVAL=0", 'INTERVAL cannot be "0" (RFC 5545)'),
    ("FREQ=DAILY;INTERVAL=-1", 'INTERVAL cannot be "-1" (RFC 5545)'),
    ("FREQ=DAILY;INTERVAL=1.5", 'INTERVAL cannot be "1.5" (RFC 5545)'),
    ("FREQ=DAILY;COUNT=0", 'COUNT cannot be "0" (RFC 5545)'),
    ("FREQ=DAILY;COUNT=3;UNTIL=20260401", "takes UNTIL or COUNT, not both"),
    ("FREQ=YEARLY;BYMONTH=13", 'BYMONTH cannot be "13" (RFC 5545)'),
    ("FREQ=YEARLY;BYMONTH=0", 'BYMONTH cannot be "0" (RFC 5545)'),
    ("FREQ=YEARLY;BYMONTH=-1", 'BYMONTH cannot be "-1" (RFC 5545)'),
    ("FREQ=MONTHLY;BYMONTHDAY=32", 'BYMONTHDAY cannot be "32" (RFC 5545)'),
    ("FREQ=MONTHLY;BYMONTHDAY=0", 'BYMONTHDAY cannot be "0" (RFC 5545)'),
    ("FREQ=YEARLY;BYYEARDAY=367", 'BYYEARDAY cannot be "367" (RFC 5545)'),
    ("FREQ=YEARLY;BYWEEKNO=54", 'BYWEEKNO cannot be "54" (RFC 5545)'),
    ("FREQ=DAILY;BYSETPOS=0", 'BYSETPOS cannot be "0" (RFC 5545)'),
    ("FREQ=DAILY;BYSETPOS=367", 'BYSETPOS cannot be "367" (RFC 5545)'),
    ("FREQ=DAILY;BYHOUR=24", 'BYHOUR cannot be "24" (RFC 5545)'),
    ("FREQ=DAILY;BYHOUR=-1", 'BYHOUR cannot be "-1" (RFC 5545)'),
    ("FREQ=DAILY;BYHOUR=", 'BYHOUR cannot be "" (RFC 5545)'),
    ("FREQ=DAILY;BYHOUR=1,,2", 'BYHOUR cannot be "1,,2" (RFC 5545)'),
    ("FREQ=DAILY;BYMINUTE=60", 'BYMINUTE cannot be "60" (RFC 5545)'),
    ("FREQ=WEEKLY;BYDAY=MONDAY", 'BYDAY cannot be "MONDAY" (RFC 5545)'),
    ("FREQ=MONTHLY;BYDAY=0MO", 'BYDAY cannot be "0MO" (RFC 5545)'),
    ("FREQ=MONTHLY;BYDAY=54MO", 'BYDAY cannot be "54MO" (RFC 5545)'),
    ("FREQ=DAILY;WKST=XX", 'WKST cannot be "XX" (RFC 5545)'),
    ("FREQ=WEEKLY;BYDAY=1MO", 'BYDAY="1MO" counts weekdays, which needs FREQ=MONTHLY or YEARLY'),
    ("FREQ=DAILY;BYDAY=-1FR", 'BYDAY="-1FR" counts weekdays, which needs FREQ=MONTHLY or YEARLY'),
    ("FREQ=DAILY;UNTIL=20260401T000000+0100", 'UNTIL cannot be "20260401T000000+0100" (RFC 5545)'),
    ("FREQ=DAILY;UNTIL=2026-04-01", 'UNTIL cannot be "2026-04-01" (RFC 5545)'),
    ("FREQ=DAILY;UNTIL=\uff12\uff10\uff12\uff160401", 'UNTIL cannot be "\uff12\uff10\uff12\uff160401" (RFC 5545)'),
    ("FREQ=DAILY;UNTIL=20260230", "UNTIL=20260230 is no date"),
    ("FREQ=DAILY;UNTIL=20260401T250000", "UNTIL=20260401T250000 is no date"),
    ("FREQ=DAILY;UNTIL=20260401T240000Z", "UNTIL=20260401T240000Z is no date"),
    ("FREQ=DAILY;BYEASTER=0", f'"BYEASTER=0" {NO_PART}'),
    ("FREQ=DAILY;X-FOO=1", f'"X-FOO=1" {NO_PART}'),
    ("FREQ = DAILY", f'"FREQ = DAILY" {NO_PART}'),
    ("EXDATE:20260401", f'"EXDATE:20260401" {NO_PART}'),
    ("FREQ=DAILY;DTSTART=19000101T000000", f'"DTSTART=19000101T000000" {NO_PART}'),
    ("FREQ=DAILY\nDTSTART:19000101T000000", 'FREQ cannot be "DAILY\ufffdDTSTART:19000101T000000" (RFC 5545)'),
    (
        "DTSTART:19000101T000000\nRRULE:FREQ=DAILY",
        f'"DTSTART:19000101T000000\ufffdRRULE:FREQ=DAILY" {NO_PART}',
    ),
    ("FREQ=DAILY;COUNT=2\nEXRULE:FREQ=DAILY", 'COUNT cannot be "2\ufffdEXRULE:FREQ=DAILY" (RFC 5545)'),
    ("FREQ=DAILY\n", 'FREQ cannot be "DAILY\ufffd" (RFC 5545)'),
    ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", f'"FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30" {NEVER}'),
    ("FREQ=DAILY;BYMONTH=4,6;BYMONTHDAY=31", f'"FREQ=DAILY;BYMONTH=4,6;BYMONTHDAY=31" {NEVER}'),
    ("FREQ=WEEKLY;BYDAY=MO;BYSETPOS=2", f'"FREQ=WEEKLY;BYDAY=MO;BYSETPOS=2" {NEVER}'),
    ("FREQ=DAILY;INTERVAL=7;BYDAY=TU", f'"FREQ=DAILY;INTERVAL=7;BYDAY=TU" {NEVER}'),
    ("FREQ=MONTHLY;INTERVAL=12;BYMONTH=4", f'"FREQ=MONTHLY;INTERVAL=12;BYMONTH=4" {NEVER}'),
    ("FREQ=MONTHLY;BYWEEKNO=3", "FREQ=MONTHLY takes no BYWEEKNO"),
    ("FREQ=MONTHLY;BYYEARDAY=82", "FREQ=MONTHLY takes no BYYEARDAY"),
    ("FREQ=WEEKLY;BYMONTHDAY=3", "FREQ=WEEKLY takes no BYMONTHDAY"),
    ("FREQ=DAILY;BYYEARDAY=82", "FREQ=DAILY takes no BYYEARDAY"),
    ("FREQ=HOURLY;BYSETPOS=1;BYHOUR=9", "FREQ=HOURLY takes no BYSETPOS"),
    ("FREQ=HOURLY;BYYEARDAY=1;BYMONTH=1;BYWEEKNO=1;BYMONTHDAY=1", "FREQ=HOURLY takes no BYMONTH"),
    ("FREQ=DAILY;BYSETPOS=1", "BYSETPOS needs another BY part to choose from"),
    ("FREQ=YEARLY;BYWEEKNO=20;BYDAY=1MO", "BYDAY counts no weekdays beside BYWEEKNO"),
    ("FREQ=MONTHLY;BYDAY=6MO", 'BYDAY="6MO": no month has more than 5 of a weekday'),
    ("FREQ=YEARLY;BYMONTH=2;BYDAY=MO,-53TU", 'BYDAY="MO,-53TU": no month has more than 5 of a weekday'),
]  # fmt: skip

# Refused in words, or at a place, that may be mended; or not refused properly yet.
REWORDABLE = [
    "",
    "RRULE:",
    "every day",
    "FREQ=DAILY;",
    "FREQ=DAILY;;COUNT=2",
    "FREQ=DAILY;UNTIL=tomorrow",
    "FREQ=DAILY;INTERVAL=100000",
    "FREQ=DAILY;COUNT=10000000",
    "FREQ=DAILY;BYSECOND=60",
    "FREQ=HOURLY;INTERVAL=2;BYHOUR=13",
    "FREQ=DAILY;BYDAY=" + "MO," * 200,
    "X" * 5000,
    "FREQ=DAILY;COUNT=" + "9" * 5000,
    "FREQ=YEARLY;BYDAY=54MO",
    None,
    5,
    True,
    ["FREQ=DAILY"],
]


def refused(rule: object, place: str = "hosts.ada.blocked[1].rrule") -> str:
    with pytest.raises(InvalidInput) as caught:
        find_slots(load(changed((place, rule))))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 220
    return str(caught.value)


@pytest.mark.parametrize(("rule", "reason"), BROKEN, ids=[plain(rule) for rule, _ in BROKEN])
def test_a_broken_rule_is_refused_in_these_words(rule: str, reason: str) -> None:
    assert refused(rule) == f"hosts.ada.blocked[1].rrule: {reason}"


@pytest.mark.parametrize("rule", REWORDABLE, ids=plain)
def test_a_broken_rule_is_refused_at_its_place(rule: object) -> None:
    assert refused(rule).startswith("hosts.ada.blocked[1].rrule: ")


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ("FREQ=HOURLY", "FREQ=HOURLY repeats too often; the most is DAILY for whole days"),
        ("FREQ=SECONDLY", "FREQ=SECONDLY repeats too often; the most is DAILY for whole days"),
        ("FREQ=DAILY;BYHOUR=3", "whole days take no BYHOUR, BYMINUTE or BYSECOND"),
        ("FREQ=DAILY;BYMINUTE=0", "whole days take no BYHOUR, BYMINUTE or BYSECOND"),
        ("FREQ=DAILY;BYSECOND=0", "whole days take no BYHOUR, BYMINUTE or BYSECOND"),
    ],
)
def test_a_rule_of_whole_days_takes_no_times(rule: str, reason: str) -> None:
    assert refused(rule, "closures[0].rrule") == f"closures[0].rrule: {reason}"
    assert refused(rule, "hosts.ada.blocked[0].rrule") == f"hosts.ada.blocked[0].rrule: {reason}"


def test_a_period_in_instants_takes_no_rule() -> None:
    expected = "hosts.ada.blocked[2].rrule: needs dates or wall times; a period in instants takes no rule"
    assert refused("FREQ=DAILY", "hosts.ada.blocked[2].rrule") == expected


def test_a_rule_that_repeats_too_often_for_the_range_is_refused_at_its_place() -> None:
    scenario = changed(
        ("hosts.ada.blocked[1].rrule", "FREQ=HOURLY;BYMINUTE=0,15,30,45"),
        ("event_type.booking_window", {}),
        ("until", "2028-01-01T00:00:00Z"),
    )
    with pytest.raises(InvalidInput, match=r"^hosts\.ada\.blocked\[1\]\.rrule: .*10000"):
        find_slots(load(scenario))
    with pytest.raises(InvalidInput, match=r"^closures\[0\]\.rrule: .*10000"):
        find_slots(load(changed(("closures[0]", {"start": "1990-01-01", "rrule": "FREQ=DAILY;COUNT=50000"}))))


def test_a_rule_that_ends_in_the_last_year_of_all_is_a_rule_without_an_end() -> None:
    endless = find_slots(load(changed(("hosts.ada.blocked[1].rrule", "FREQ=DAILY"))))
    for until in ("99991231", "99991231T235959", "99991231T235959Z"):
        assert find_slots(load(changed(("hosts.ada.blocked[1].rrule", f"FREQ=DAILY;UNTIL={until}")))) == endless


@pytest.mark.parametrize("until", ["18000101", "18000101T000000Z", "20260323T115959", "20260323T115959Z"])
def test_a_rule_that_ended_before_its_first_occurrence_blocks_nothing(until: str) -> None:
    none = find_slots(load(changed(("hosts.ada.blocked[1]", {"start": "2020-01-01"}))))
    assert find_slots(load(changed(("hosts.ada.blocked[1].rrule", f"FREQ=DAILY;UNTIL={until}")))) == none


@pytest.mark.parametrize(
    "rule",
    [
        "freq=daily;byhour=12",
        "RRULE:FREQ=DAILY",
        "rrule:FREQ=DAILY",
        "INTERVAL=1;FREQ=DAILY",
        "FREQ=DAILY;INTERVAL=1;BYHOUR=12",
        "FREQ=DAILY;WKST=SU",
        "FREQ=HOURLY;BYHOUR=12",
        "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR,SA,SU",
    ],
)
def test_case_order_and_a_prefix_make_no_difference_to_a_rule(rule: str) -> None:
    same = find_slots(load(changed(("hosts.ada.blocked[1].rrule", "FREQ=DAILY"))))
    assert find_slots(load(changed(("hosts.ada.blocked[1].rrule", rule)))) == same


# Whatever is written, the answer is a rule or InvalidInput, and it comes soon.

NUMBERS = st.sampled_from(["0", "1", "2", "3", "5", "6", "7", "12", "13", "29", "30", "31", "53", "99", "366", "99999"])
SIGNED = st.tuples(st.sampled_from(["", "", "-", "+"]), NUMBERS).map("".join)
DAYS = st.tuples(st.one_of(st.just(""), SIGNED), st.sampled_from(["MO", "WE", "FR", "SU"])).map("".join)
PARTS = st.one_of(
    st.tuples(st.sampled_from(["INTERVAL", "COUNT"]), NUMBERS).map("=".join),
    st.tuples(
        st.sampled_from(["BYMONTH", "BYMONTHDAY", "BYYEARDAY", "BYWEEKNO", "BYHOUR", "BYMINUTE", "BYSETPOS"]),
        st.lists(SIGNED, min_size=1, max_size=3).map(",".join),
    ).map("=".join),
    st.tuples(st.just("BYDAY"), st.lists(DAYS, min_size=1, max_size=3).map(",".join)).map("=".join),
    st.sampled_from(["WKST=SU", "UNTIL=20270101", "UNTIL=20270101T000000Z", "BYDAY=", "X=1"]),
)
RULES = st.tuples(
    st.sampled_from(["YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY"]).map("FREQ={}".format),
    st.lists(PARTS, max_size=4, unique_by=lambda part: part.split("=")[0]).map(";".join),
).map(lambda parts: ";".join(part for part in parts if part))


@given(rule=st.one_of(RULES, st.text(max_size=60)), start=st.sampled_from([MONDAY, MONDAY.date(), date(2024, 2, 29)]))
def test_whatever_is_written_is_a_rule_or_refused(rule: str, start: date) -> None:
    try:
        found = recurrence("rrule", rule, start)
        for _ in zip(range(50), found.occurrences(found.start, datetime(2060, 1, 1), Effort()), strict=False):  # noqa: DTZ001
            pass
    except InvalidInput as error:
        assert error.field == "rrule"  # noqa: PT017 - a rule is as good


@pytest.mark.parametrize(
    "rule",
    [
        "FREQ=HOURLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=HOURLY;BYMINUTE=0,10,20,30,40,50;BYSECOND=0,30;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=HOURLY;BYSETPOS=2",
        "FREQ=DAILY;BYSETPOS=2",
        "FREQ=HOURLY;INTERVAL=24;BYHOUR=13",
    ],
)
def test_a_rule_that_never_comes_to_pass_is_refused(rule: str) -> None:
    with pytest.raises(InvalidInput):
        BlockedPeriod(start=MONDAY, end=MONDAY.replace(hour=13), rrule=rule)
