"""Why a start is refused: every code with its facts, in their order, and its sentence (rule 25)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, get_args

import pytest

from nxsched import (
    BlockedPeriod,
    BookedTime,
    BookingWindow,
    EventType,
    Host,
    HostGroup,
    InvalidInput,
    Limit,
    Refusal,
    WeeklyHours,
)
from nxsched.domain.refusals import RULES, RefusalCode
from nxsched.slots import SlotQuery, explain, find_slots

HALF = timedelta(minutes=30)
MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(clock: str, day: int = 2) -> datetime:
    hour, minute = clock.split(":")
    return datetime(2026, 3, day, int(hour), int(minute), tzinfo=UTC)


def host(slug: str, *, limits: list[Limit] | None = None, timezone: str = "UTC") -> Host:
    hours = [WeeklyHours(days="mon-fri", start="09:00", end="12:00")]
    return Host(slug=slug, timezone=timezone, weekly_hours=hours, limits=limits or [])


def question(*hosts: Host, event: dict[str, Any] | None = None, **more: Any) -> SlotQuery:
    """A visit of half an hour with one of the hosts, on any day of March."""
    found = hosts or (host("ada"),)
    values: dict[str, Any] = {"duration": HALF, "slug": "visit", "hosts": [one.slug for one in found], **(event or {})}
    asked = {"start": MONDAY, "end": at("00:00", 31), "now": NOW, **more}
    return SlotQuery(event_type=EventType(**values), hosts=found, **asked)


def booking(clock: str, *, hosts: str = "ada", minutes: int = 30, **more: Any) -> BookedTime:
    start = at(clock)
    values: dict[str, Any] = {"event_type": "visit", **more}
    return BookedTime(start=start, end=start + timedelta(minutes=minutes), hosts=hosts.split(), **values)


def codes(query: SlotQuery, start: datetime) -> list[str]:
    return [f"{one.code} {one.host}" if one.host else one.code for one in explain(query, start)]


def sentences(query: SlotQuery, start: datetime, timezone: str = "UTC") -> list[str]:
    return [one.sentence(timezone) for one in explain(query, start)]


def test_a_start_that_is_offered_breaks_no_rule() -> None:
    assert explain(question(), at("09:00")) == []
    assert find_slots(question())[0].start == at("09:00")


def test_the_range_of_the_query_plays_no_part() -> None:
    narrow = question(start=at("00:00", 30), end=at("00:00", 30))
    assert explain(narrow, at("09:00")) == []
    assert codes(narrow, at("09:10")) == ["off_grid"]


def test_a_start_before_now_has_passed() -> None:
    query = question(now=at("09:15"))
    assert explain(query, at("09:00")) == [Refusal(code="past", start=at("09:15"))]
    assert sentences(query, at("09:00")) == ["The start has passed: it is Mon 2026-03-02 09:15 now."]
    assert explain(question(now=at("09:00")), at("09:00")) == []


def test_a_start_within_the_notice_is_refused_with_the_earliest_one() -> None:
    query = question(now=at("09:10"), event={"minimum_notice": timedelta(hours=1)})
    assert explain(query, at("10:00")) == [Refusal(code="notice", start=at("10:10"))]
    assert codes(query, at("09:00")) == ["past", "notice"]
    assert sentences(query, at("10:00"), "Asia/Tokyo") == [
        "The notice is too short: the earliest start is Mon 2026-03-02 19:10."
    ]
    assert explain(query, at("10:30")) == []


@pytest.mark.parametrize(
    ("window", "day", "dates", "said"),
    [
        (BookingWindow(days=1), 3, (None, date(2026, 3, 2)), "until 2026-03-02"),
        (BookingWindow(from_date=date(2026, 3, 3)), 2, (date(2026, 3, 3), None), "from 2026-03-03"),
        (BookingWindow(until_date=date(2026, 3, 2)), 3, (None, date(2026, 3, 2)), "until 2026-03-02"),
        (
            BookingWindow(days=9, from_date=date(2026, 3, 3), until_date=date(2026, 3, 4)),
            5,
            (date(2026, 3, 3), date(2026, 3, 4)),
            "from 2026-03-03 until 2026-03-04",
        ),
        (
            BookingWindow(days=2, until_date=date(2026, 3, 9)),
            4,
            (None, date(2026, 3, 3)),
            "until 2026-03-03",
        ),
    ],
)
def test_a_date_outside_the_booking_window_is_refused_with_its_dates(
    window: BookingWindow, day: int, dates: tuple[date | None, date | None], said: str
) -> None:
    query = question(event={"booking_window": window})
    start = at("09:00", day)
    assert explain(query, start) == [Refusal(code="window", from_date=dates[0], until_date=dates[1])]
    assert sentences(query, start) == [f"The date is outside the booking window, which is open {said}."]


def test_what_is_in_the_way_comes_by_its_start_however_long_it_lasts() -> None:
    taken = [
        (at("10:15"), at("10:20")),
        (at("08:00"), at("11:00")),
        (at("09:00"), at("10:05")),
        (at("08:00"), at("10:10")),
    ]
    refusals = [one for one in explain(question(busy={"ada": taken}), at("10:00")) if one.code == "busy"]
    assert [(one.start, one.end) for one in refusals] == sorted(taken)


def test_busy_time_that_ends_as_it_starts_is_not_in_the_way() -> None:
    taken = {"ada": [(at("10:10"), at("10:10")), (at("10:00"), at("10:05"))]}
    assert codes(question(busy=taken), at("10:00")) == ["not_enough_hosts", "busy ada"]


def test_the_last_second_of_a_day_is_judged_by_its_own_day() -> None:
    last = at("23:59") + timedelta(seconds=59)
    tomorrow = question(event={"booking_window": BookingWindow(from_date=date(2026, 3, 3))})
    assert "window" in codes(tomorrow, last)
    assert "window" not in codes(tomorrow, last + timedelta(seconds=1))
    taken = BookedTime(start=at("09:00", 3), end=at("09:30", 3), hosts=["ada"], event_type="visit")
    full = question(event={"limits": [Limit(per="day", count=1)]}, bookings=[taken])
    assert "event_limit" not in codes(full, last)
    assert "event_limit" in codes(full, last + timedelta(seconds=1))


def test_a_start_beside_the_grid_is_refused() -> None:
    assert explain(question(), at("09:10")) == [Refusal(code="off_grid")]
    assert sentences(question(), at("09:10")) == ["The start is not on the grid of the event type."]
    assert codes(question(event={"align": "clock", "offset": timedelta(minutes=10)}), at("09:10")) == []
    assert codes(question(event={"align": "free"}, bookings=[booking("09:00", minutes=10)]), at("09:10")) == []


def test_a_start_outside_the_hours_is_off_the_grid_too() -> None:
    assert codes(question(), at("08:00")) == ["off_grid", "not_enough_hosts", "outside_hours ada"]
    assert codes(question(), at("11:45")) == ["off_grid", "not_enough_hosts", "outside_hours ada"]
    assert sentences(question(), at("08:00"))[1:] == [
        "The booking needs 1 of host group 1, and 0 can take it.",
        "ada does not work through the whole of that time.",
    ]


def test_blocked_time_is_named_with_its_id_and_reason() -> None:
    periods = [
        BlockedPeriod(start=at("10:00"), end=at("10:15"), id="k1", reason="fire drill"),
        BlockedPeriod(start=at("10:15"), end=at("10:30")),
        BlockedPeriod(start=at("10:30"), end=at("11:00"), id="k3"),
    ]
    query = question(blocked={"ada": periods}, closures=[BlockedPeriod(start=date(2026, 3, 3), reason="holiday")])
    short = Refusal(code="not_enough_hosts", group=0, need=1, able=0)
    assert explain(query, at("10:00")) == [
        short,
        Refusal(code="blocked", host="ada", start=at("10:00"), end=at("10:15"), id="k1", reason="fire drill"),
        Refusal(code="blocked", host="ada", start=at("10:15"), end=at("10:30")),
    ]
    assert sentences(query, at("10:00"))[1:] == [
        "ada is blocked from Mon 2026-03-02 10:00 to Mon 2026-03-02 10:15 (k1): fire drill.",
        "ada is blocked from Mon 2026-03-02 10:15 to Mon 2026-03-02 10:30.",
    ]
    assert explain(query, at("09:00", 3)) == [
        short,
        Refusal(code="blocked", host="ada", start=at("00:00", 3), end=at("00:00", 4), reason="holiday"),
    ]


def test_busy_time_is_named_with_the_booking_and_its_own_buffers_earliest_first() -> None:
    ten = timedelta(minutes=10)
    query = question(
        event={"buffer_before": ten, "buffer_after": ten, "step": HALF / 3},
        bookings=[booking("10:40", id="b2", buffer_before=ten), booking("09:30", id="b1", buffer_after=ten)],
        busy={"ada": [(at("10:00"), at("10:00")), (at("10:15"), at("10:20") - timedelta(microseconds=1))]},
    )
    assert explain(query, at("10:10"))[1:] == [
        Refusal(code="busy", host="ada", start=at("09:30"), end=at("10:10"), id="b1"),
        Refusal(code="busy", host="ada", start=at("10:15"), end=at("10:20")),
        Refusal(code="busy", host="ada", start=at("10:30"), end=at("11:10"), id="b2"),
    ]
    assert sentences(query, at("10:10"))[1] == (
        "ada is busy from Mon 2026-03-02 09:30 to Mon 2026-03-02 10:10 (b1), any buffers included."
    )
    assert sentences(query, at("10:10"), "Asia/Tokyo")[2] == (
        "ada is busy from Mon 2026-03-02 19:15 to Mon 2026-03-02 19:20, any buffers included."
    )


def test_a_fraction_of_a_minute_is_said() -> None:
    query = question(busy={"ada": [(at("09:00") + timedelta(seconds=5, microseconds=1), at("09:10"))]})
    assert sentences(query, at("09:00"))[1].startswith(
        "ada is busy from Mon 2026-03-02 09:00:05 to Mon 2026-03-02 09:10,"
    )


def test_a_limit_of_the_event_type_without_room_is_named() -> None:
    limits = [Limit(per="day", count=1), Limit(per="week", count=9), Limit(per="month", minutes=59)]
    query = question(event={"limits": limits}, bookings=[booking("09:00", id="b1")])
    assert explain(query, at("10:00")) == [
        Refusal(code="event_limit", limit=limits[0]),
        Refusal(code="event_limit", limit=limits[2]),
    ]
    assert sentences(query, at("10:00")) == [
        "The event type has no room left within the limit of 1 booking a day.",
        "The event type has no room left within the limit of 59 minutes a month.",
    ]
    assert explain(query, at("10:00", 3)) == [Refusal(code="event_limit", limit=limits[2])]


def test_a_limit_that_can_never_have_room_is_named_every_day() -> None:
    limit = Limit(per="day", minutes=29)
    assert explain(question(event={"limits": [limit]}), at("09:00")) == [Refusal(code="event_limit", limit=limit)]


def test_a_limit_of_a_host_without_room_is_named_in_its_own_time_zone() -> None:
    limit = Limit(per="day", count=1)
    query = question(host("ada", limits=[limit]), bookings=[booking("09:00", event_type="other")])
    assert explain(query, at("10:00")) == [
        Refusal(code="not_enough_hosts", group=0, need=1, able=0),
        Refusal(code="host_limit", host="ada", limit=limit),
    ]
    assert sentences(query, at("10:00"))[1] == "ada has no room left within the limit of 1 booking a day."
    assert explain(query, at("09:00", 3)) == []


def test_hosts_are_named_for_groups_that_fall_short_and_for_no_other() -> None:
    members = [host(slug) for slug in ("ada", "bob", "cyd")]
    groups = [HostGroup(members=["ada", "bob"], need=1), HostGroup(members=["cyd"], need="all")]
    query = question(
        *members, event={"hosts": groups}, bookings=[booking("09:00"), booking("09:30", hosts="cyd ada bob")]
    )
    assert explain(query, at("09:00")) == []
    assert explain(query, at("09:30")) == [
        Refusal(code="not_enough_hosts", group=0, need=1, able=0),
        *(Refusal(code="busy", host=slug, start=at("09:30"), end=at("10:00")) for slug in ("ada", "bob")),
        Refusal(code="not_enough_hosts", group=1, need=1, able=0),
        Refusal(code="busy", host="cyd", start=at("09:30"), end=at("10:00")),
    ]
    second = explain(query, at("09:30"))[3]
    assert second.sentence() == "The booking needs 1 of host group 2, and 0 can take it."


def test_of_a_group_that_needs_several_it_is_said_how_many_can() -> None:
    members = [host(slug) for slug in ("ada", "bob", "cyd")]
    query = question(
        *members, event={"hosts": [HostGroup(members=["ada", "bob", "cyd"], need=3)]}, bookings=[booking("09:00")]
    )
    assert explain(query, at("09:00"))[0] == Refusal(code="not_enough_hosts", group=0, need=3, able=2)
    assert codes(query, at("09:00")) == ["not_enough_hosts", "busy ada"]


def full_class(**changes: Any) -> SlotQuery:
    taken = [booking("09:00", id="s1", seats=2), booking("09:00", id="s2"), booking("10:00", id="s3")]
    return question(event={"capacity": 3}, bookings=taken, **changes)


def test_a_full_occurrence_is_named_beside_the_busy_time_it_is() -> None:
    query = full_class()
    assert explain(query, at("09:00")) == [
        Refusal(code="full", start=at("09:00"), end=at("09:30"), id="s1"),
        Refusal(code="not_enough_hosts", group=0, need=1, able=0),
        Refusal(code="busy", host="ada", start=at("09:00"), end=at("09:30"), id="s1"),
        Refusal(code="busy", host="ada", start=at("09:00"), end=at("09:30"), id="s2"),
    ]
    assert sentences(query, at("09:00"))[0] == (
        "The occurrence from Mon 2026-03-02 09:00 to Mon 2026-03-02 09:30 (s1) has too few seats left."
    )


def test_a_full_occurrence_without_an_id_is_named_by_its_time() -> None:
    query = question(event={"capacity": 2}, bookings=[booking("09:00", seats=2)])
    assert explain(query, at("09:00"))[0] == Refusal(code="full", start=at("09:00"), end=at("09:30"))


def test_a_full_occurrence_of_hosts_that_are_not_needed_is_no_reason() -> None:
    query = question(
        host("ada"),
        event={"capacity": 2, "hosts": ["ada"]},
        bookings=[booking("09:00", hosts="zoe", seats=2)],
        busy={"ada": [(at("09:00"), at("09:10"))]},
    )
    assert codes(query, at("09:00")) == ["not_enough_hosts", "busy ada"]


def test_a_start_that_can_be_joined_breaks_only_the_rules_about_its_time() -> None:
    assert explain(full_class(), at("10:00")) == []
    assert codes(full_class(now=at("11:00")), at("10:00")) == ["past"]
    beside = replace(full_class(), bookings=[booking("09:07", id="s4")])
    assert explain(beside, at("09:07")) == []
    limited = question(event={"capacity": 2, "limits": [Limit(per="day", count=1)]}, bookings=[booking("09:00")])
    assert explain(limited, at("09:00")) == []
    assert codes(limited, at("10:00")) == ["event_limit"]


@pytest.mark.parametrize("start", [at("09:00").replace(tzinfo=None), date(2026, 3, 2), None, "2026-03-02T09:00:00Z"])
def test_a_start_is_an_aware_datetime(start: Any) -> None:  # noqa: ANN401 - whatever is given
    with pytest.raises(InvalidInput) as caught:
        explain(question(), start)
    assert caught.value.field == "start"


def test_a_start_has_no_fraction_of_a_second() -> None:
    with pytest.raises(InvalidInput, match=r"^start: must have no fraction of a second"):
        explain(question(), at("09:00") + timedelta(microseconds=1))


@pytest.mark.parametrize("start", [datetime(1900, 1, 1, tzinfo=UTC), datetime(8999, 12, 31, 23, tzinfo=UTC)])
def test_the_first_and_the_last_start_there_are_can_be_asked_for(start: datetime) -> None:
    assert "not_enough_hosts" in codes(question(), start)


@pytest.mark.parametrize("timezone", ["UTC", "Pacific/Kiritimati", "Etc/GMT+12"])
@pytest.mark.parametrize(
    "period",
    [
        BlockedPeriod(start=date(2026, 1, 1), end=date.max),
        BlockedPeriod(start=datetime(2026, 1, 1), end=datetime(9999, 12, 31, 23, 59, 59)),  # noqa: DTZ001
        BlockedPeriod(start=date(2026, 1, 1), end=date.max, rrule="FREQ=YEARLY"),
    ],
    ids=["dates", "wall times", "a rule"],
)
def test_what_is_blocked_for_ever_is_said_to_be(period: BlockedPeriod, timezone: str) -> None:
    query = question(host("ada", timezone=timezone), closures=[period])
    assert list(find_slots(query)) == []
    refusals = [one for one in explain(query, at("09:00")) if one.code == "blocked"]
    assert len(refusals) == 1
    for zone in ("UTC", "Pacific/Kiritimati", "Etc/GMT+12"):
        assert refusals[0].sentence(zone).startswith("ada is blocked from ")


# Refusals themselves.


def test_every_code_has_a_rule_and_a_sentence() -> None:
    assert set(get_args(RefusalCode)) == set(RULES)
    for code in get_args(RefusalCode):
        refusal = Refusal(
            code=code, host="ada", start=MONDAY, end=MONDAY, limit=Limit(per="day", count=1), need=1, able=0
        )
        assert refusal.rule == RULES[code]
        said = refusal.sentence()
        assert said.endswith(".")
        assert "None" not in said
        assert "{" not in said


def test_braces_in_names_are_taken_as_they_are() -> None:
    refusal = Refusal(code="blocked", host="{host}", start=MONDAY, end=MONDAY + HALF, id="{0}", reason="{reason.x}")
    assert refusal.sentence() == (
        "{host} is blocked from Mon 2026-03-02 00:00 to Mon 2026-03-02 00:30 ({0}): {reason.x}."
    )


def test_a_sentence_needs_a_time_zone_that_there_is() -> None:
    with pytest.raises(InvalidInput) as caught:
        Refusal(code="past", start=MONDAY).sentence("Mars/Olympus")
    assert caught.value.field == "timezone"
