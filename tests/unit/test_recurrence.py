"""Recurrence rules: the examples of RFC 5545, and that starting the search late changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import takewhile

import pytest
from dateutil.rrule import rrulestr
from hypothesis import assume, given
from hypothesis import strategies as st

from nxsched.domain.effort import Effort
from nxsched.domain.recurrence import Recurrence, recurrence
from nxsched.errors import InvalidInput

FOREVER = datetime(9999, 12, 31)  # noqa: DTZ001 - rules are read in wall time
RFC_START = datetime(1997, 9, 2, 9)  # noqa: DTZ001


def read(text: str, start: date = RFC_START) -> Recurrence:
    return recurrence("rrule", text, start)


def first(rule: Recurrence, number: int) -> list[datetime]:
    return [wall for _, wall in zip(range(number), rule.occurrences(rule.start, FOREVER, Effort()), strict=False)]


# From RFC 5545, section 3.8.5.3; DTSTART is 1997-09-02T09:00, a Tuesday, where none is given.
RFC_EXAMPLES: list[tuple[str, str | None, str]] = [
    ("FREQ=DAILY;COUNT=10", None, "09-02 09-03 09-04 09-05 09-06 09-07 09-08 09-09 09-10 09-11 -"),
    ("FREQ=DAILY;INTERVAL=2", None, "09-02 09-04 09-06 09-08 09-10"),
    ("FREQ=DAILY;INTERVAL=10;COUNT=5", None, "09-02 09-12 09-22 10-02 10-12 -"),
    ("FREQ=WEEKLY;COUNT=10", None, "09-02 09-09 09-16 09-23 09-30 10-07 10-14 10-21 10-28 11-04 -"),
    ("FREQ=WEEKLY;INTERVAL=2;WKST=SU", None, "09-02 09-16 09-30 10-14 10-28 11-11 11-25 12-09 12-23 1998-01-06"),
    ("FREQ=WEEKLY;COUNT=10;WKST=SU;BYDAY=TU,TH", None, "09-02 09-04 09-09 09-11 09-16 09-18 09-23 09-25 09-30 10-02 -"),
    (
        "FREQ=WEEKLY;INTERVAL=2;UNTIL=19971223;WKST=SU;BYDAY=MO,WE,FR",
        "1997-09-01",
        (
            "09-01 09-03 09-05 09-15 09-17 09-19 09-29 10-01 10-03 10-13 10-15 10-17 10-27 10-29 10-31 "
            "11-10 11-12 11-14 11-24 11-26 11-28 12-08 12-10 12-12 12-22 -"
        ),
    ),
    ("FREQ=WEEKLY;INTERVAL=2;COUNT=8;WKST=SU;BYDAY=TU,TH", None, "09-02 09-04 09-16 09-18 09-30 10-02 10-14 10-16 -"),
    ("FREQ=MONTHLY;COUNT=4;BYDAY=1FR", "1997-09-05", "09-05 10-03 11-07 12-05 -"),
    ("FREQ=MONTHLY;UNTIL=19971224T000000;BYDAY=1FR", "1997-09-05", "09-05 10-03 11-07 12-05 -"),
    ("FREQ=MONTHLY;INTERVAL=2;COUNT=4;BYDAY=1SU,-1SU", "1997-09-07", "09-07 09-28 11-02 11-30 -"),
    ("FREQ=MONTHLY;COUNT=4;BYDAY=-2MO", "1997-09-22", "09-22 10-20 11-17 12-22 -"),
    ("FREQ=MONTHLY;BYMONTHDAY=-3", "1997-09-28", "09-28 10-29 11-28 12-29 1998-01-29 1998-02-26"),
    ("FREQ=MONTHLY;COUNT=6;BYMONTHDAY=2,15", None, "09-02 09-15 10-02 10-15 11-02 11-15 -"),
    ("FREQ=MONTHLY;COUNT=5;BYMONTHDAY=1,-1", "1997-09-30", "09-30 10-01 10-31 11-01 11-30 -"),
    ("FREQ=MONTHLY;INTERVAL=18;COUNT=4;BYMONTHDAY=10,11", "1997-09-10", "09-10 09-11 1999-03-10 1999-03-11 -"),
    ("FREQ=MONTHLY;INTERVAL=2;BYDAY=TU", None, "09-02 09-09 09-16 09-23 09-30 11-04 11-11 11-18 11-25 1998-01-06"),
    ("FREQ=YEARLY;COUNT=4;BYMONTH=6,7", "1997-06-10", "06-10 07-10 1998-06-10 1998-07-10 -"),
    ("FREQ=YEARLY;INTERVAL=3;COUNT=4;BYYEARDAY=1,100,200", "1997-01-01", "01-01 04-10 07-19 2000-01-01 -"),
    ("FREQ=YEARLY;BYDAY=20MO", "1997-05-19", "05-19 1998-05-18 1999-05-17"),
    ("FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO", "1997-05-12", "05-12 1998-05-11 1999-05-17"),
    ("FREQ=YEARLY;BYMONTH=3;BYDAY=TH", "1997-03-13", "03-13 03-20 03-27 1998-03-05 1998-03-12"),
    ("FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13", None, "1998-02-13 1998-03-13 1998-11-13 1999-08-13 2000-10-13"),
    ("FREQ=MONTHLY;BYDAY=SA;BYMONTHDAY=7,8,9,10,11,12,13", "1997-09-13", "09-13 10-11 11-08 12-13 1998-01-10"),
    (
        "FREQ=YEARLY;INTERVAL=4;BYMONTH=11;BYDAY=TU;BYMONTHDAY=2,3,4,5,6,7,8",
        "1996-11-05",
        "1996-11-05 2000-11-07 2004-11-02",
    ),
    ("FREQ=MONTHLY;COUNT=3;BYDAY=TU,WE,TH;BYSETPOS=3", "1997-09-04", "09-04 10-07 11-06 -"),
    ("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-2", "1997-09-29", "09-29 10-30 11-27 12-30 1998-01-29"),
    ("FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=MO", "1997-08-05", "08-05 08-10 08-19 08-24 -"),
    ("FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=SU", "1997-08-05", "08-05 08-17 08-19 08-31 -"),
    ("FREQ=MONTHLY;BYMONTHDAY=15,30;COUNT=5", "2007-01-15", "2007-01-15 2007-01-30 2007-02-15 2007-03-15 2007-03-30 -"),
]


@pytest.mark.parametrize(("rule", "start", "expected"), RFC_EXAMPLES, ids=[rule for rule, _, _ in RFC_EXAMPLES])
@pytest.mark.parametrize("whole_days", [False, True], ids=["wall times", "dates"])
def test_the_examples_of_the_rfc_give_what_it_says(
    rule: str, start: str | None, expected: str, *, whole_days: bool
) -> None:
    """A dash at the end says that there are no more."""
    day = date.fromisoformat(start) if start else RFC_START.date()
    at = timedelta() if whole_days else timedelta(hours=9)
    wanted = [word if len(word) == 10 else f"1997-{word}" for word in expected.split() if word != "-"]
    begins = datetime(day.year, day.month, day.day) + at  # noqa: DTZ001
    found = first(read(rule, day if whole_days else begins), len(wanted) + 1)
    assert found[: len(wanted)] == [datetime.fromisoformat(word) + at for word in wanted]
    assert (len(found) == len(wanted)) == expected.endswith("-")


def test_hours_of_the_rfc_count_on_through_the_day() -> None:
    found = first(read("FREQ=HOURLY;INTERVAL=3;UNTIL=19970902T170000"), 9)
    assert [wall.hour for wall in found] == [9, 12, 15]
    found = first(read("FREQ=DAILY;BYHOUR=9,10;BYMINUTE=0,20,40"), 7)
    assert [(wall.day, wall.hour, wall.minute) for wall in found[2:]] == [
        (2, 9, 40),
        (2, 10, 0),
        (2, 10, 20),
        (2, 10, 40),
        (3, 9, 0),
    ]


def test_a_bare_date_as_until_includes_the_whole_of_that_day() -> None:
    assert [wall.hour for wall in first(read("FREQ=HOURLY;INTERVAL=5;UNTIL=19970902"), 9)] == [9, 14, 19]
    assert len(first(read("FREQ=DAILY;UNTIL=19970905"), 9)) == 4


def test_a_local_until_is_the_last_moment_itself() -> None:
    assert len(first(read("FREQ=DAILY;UNTIL=19970905T090000"), 9)) == 4
    assert len(first(read("FREQ=DAILY;UNTIL=19970905T085959"), 9)) == 3


def test_an_until_with_z_is_left_to_who_knows_the_time_zone() -> None:
    rule = read("FREQ=DAILY;UNTIL=19970905T090000Z")
    assert rule.until_is == "instant"
    found = first(rule, 20)
    assert found[3] == datetime(1997, 9, 5, 9)  # noqa: DTZ001
    assert found[-1] >= datetime(1997, 9, 6, 9), "local clocks may be half a day and more ahead"  # noqa: DTZ001


def test_occurrences_are_those_that_start_in_the_range_its_end_apart() -> None:
    rule = read("FREQ=DAILY")
    day = RFC_START + timedelta(days=400)
    assert list(rule.occurrences(day, day + timedelta(days=2), Effort())) == [day, day + timedelta(days=1)]
    assert list(rule.occurrences(day + timedelta(seconds=1), day + timedelta(days=1), Effort())) == []
    assert list(rule.occurrences(RFC_START - timedelta(days=5), RFC_START, Effort())) == []


def test_a_rule_may_look_at_ten_thousand_occurrences_and_no_more() -> None:
    rule = read("FREQ=DAILY;COUNT=20000")
    end = RFC_START + timedelta(days=10_000)
    assert len(list(rule.occurrences(RFC_START, end, Effort()))) == 10_000
    with pytest.raises(InvalidInput, match="10000") as caught:
        list(rule.occurrences(RFC_START, end + timedelta(days=1), Effort()))
    assert caught.value.field == "rrule"


def test_a_rule_that_is_old_costs_no_more_than_a_young_one() -> None:
    rule = read("FREQ=HOURLY", datetime(1900, 1, 1))  # noqa: DTZ001
    after = datetime(2899, 12, 31, 12)  # noqa: DTZ001
    assert len(list(rule.occurrences(after, after + timedelta(days=1), Effort()))) == 24


@pytest.mark.parametrize(
    ("rule", "start"),
    [
        ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29", "2023-01-01"),
        ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29;BYDAY=TU", "2023-01-01"),
        ("FREQ=YEARLY;BYYEARDAY=366;BYDAY=SU", "2023-01-01"),
        ("FREQ=MONTHLY;INTERVAL=11;BYMONTHDAY=31", "2023-02-28"),
        ("FREQ=YEARLY;BYWEEKNO=53;BYDAY=SU", "2023-01-01"),
        ("FREQ=YEARLY;INTERVAL=100;BYMONTH=2;BYMONTHDAY=29", "2100-01-01"),
        ("FREQ=YEARLY;INTERVAL=3", "2024-02-29"),
        ("FREQ=DAILY;COUNT=1;BYMONTH=12", "2023-01-01"),
    ],
)
def test_a_rule_that_comes_to_pass_seldom_is_a_rule(rule: str, start: str) -> None:
    begins = datetime.fromisoformat(start)
    expected = next(iter(rrulestr(rule, dtstart=begins)))
    assert first(read(rule, begins), 1) == [expected]


def test_what_a_rule_is_may_be_written_as_people_write_it() -> None:
    assert read("rrule:freq=weekly;byday=tu") == read("RRULE:FREQ=WEEKLY;BYDAY=TU") == read("FREQ=WEEKLY;BYDAY=TU")


# Against brute force: python-dateutil from the first occurrence on, however long ago it was.


@dataclass(frozen=True)
class Asked:
    """A rule, its first start, and a range that may lie long after it."""

    text: str
    start: datetime
    after: datetime
    before: datetime


def _items(low: int, high: int, *, most: int = 3) -> st.SearchStrategy[str]:
    return st.lists(st.integers(low, high).filter(bool), min_size=1, max_size=most, unique=True).map(
        lambda numbers: ",".join(map(str, numbers))
    )


_WEEKDAYS = st.sampled_from(["MO", "TU", "WE", "TH", "FR", "SA", "SU"])
_DAYS = st.lists(_WEEKDAYS, min_size=1, max_size=4, unique=True).map(",".join)
_ORDINAL_DAYS = st.lists(
    st.tuples(st.sampled_from(["1", "2", "4", "-1", "-2", ""]), st.sampled_from(["MO", "WE", "SU"])).map("".join),
    min_size=1,
    max_size=3,
    unique=True,
).map(",".join)

# How many days after its start a rule may be asked for, so that brute force has a few thousand steps at most.
_REACH = {"HOURLY": 100, "DAILY": 2_500, "WEEKLY": 15_000, "MONTHLY": 15_000, "YEARLY": 60_000}


@st.composite
def asked(draw: st.DrawFn, freq: str) -> Asked:
    """Draw a rule of one frequency."""
    parts = {"FREQ": freq}

    def perhaps(name: str, values: st.SearchStrategy[str], one_in: int) -> None:
        if draw(st.integers(1, one_in)) == 1:
            parts[name] = draw(values)

    perhaps("INTERVAL", st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 24, 25, 36]).map(str), 1)
    perhaps("BYDAY", _ORDINAL_DAYS if freq in {"MONTHLY", "YEARLY"} else _DAYS, 2)
    if freq != "HOURLY":
        perhaps("BYMONTH", _items(1, 12), 4)
    if freq not in {"WEEKLY", "HOURLY"}:
        perhaps("BYMONTHDAY", _items(-31, 31), 5)
    perhaps("BYHOUR", _items(1, 23), 3)
    perhaps("BYMINUTE", _items(1, 59, most=2), 5)
    perhaps("WKST", st.sampled_from(["MO", "SU", "WE"]), 3)
    perhaps("COUNT", st.integers(1, 300).map(str), 5)
    if freq != "HOURLY" and any(name.startswith("BY") for name in parts):
        perhaps("BYSETPOS", _items(-3, 3, most=2), 5)
    start = datetime(draw(st.sampled_from([1900, 1999, 2024])), 1, 1) + timedelta(  # noqa: DTZ001
        days=draw(st.integers(0, 800)), minutes=15 * draw(st.integers(0, 95))
    )
    after = start + timedelta(days=draw(st.integers(-10, _REACH[freq])), minutes=draw(st.integers(0, 1440)))
    before = after + timedelta(days=draw(st.sampled_from([1, 8, 40, 400])))
    return Asked(";".join(f"{name}={value}" for name, value in parts.items()), start, after, before)


def by_brute_force(question: Asked) -> Iterator[datetime]:
    every = rrulestr(question.text, dtstart=question.start)
    return (wall for wall in takewhile(lambda wall: wall < question.before, every) if wall >= question.after)


@pytest.mark.parametrize("freq", ["HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY"])
@given(data=st.data())
def test_where_the_search_begins_makes_no_difference(freq: str, data: st.DataObject) -> None:
    question = data.draw(asked(freq))
    try:
        found = list(read(question.text, question.start).occurrences(question.after, question.before, Effort()))
    except InvalidInput as error:
        tame = ("does not come to pass", "takes no INTERVAL", "empty set", "repeats more than")
        assume(not any(words in error.reason for words in tame))
        raise
    assert found == list(by_brute_force(question))
