"""Limits: which days, weeks, months and years have no more room (rules 21 and 22)."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nxsched.domain.event_types import Limit
from nxsched.domain.instants import DAY, date_of, day_number
from nxsched.domain.periods import Period
from nxsched.slots.intervals import Interval
from nxsched.slots.limits import Reached, during, period_of, reached, within

HOUR = 3600
days = st.dates(date(1900, 1, 1), date(2100, 12, 31))


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def refused_on(found: Reached, day: int) -> bool:
    return found.refused("UTC", day * DAY + 12 * HOUR, day * DAY + 12 * HOUR + 1) != []


def dates(period: Interval) -> tuple[str, str]:
    """The first and the last date of a period."""
    return str(date_of(period[0])), str(date_of(period[1] - 1))


@pytest.mark.parametrize(
    ("per", "day", "first", "last"),
    [
        ("day", "2026-03-04", "2026-03-04", "2026-03-04"),
        ("week", "2026-03-01", "2026-02-23", "2026-03-01"),
        ("week", "2026-03-02", "2026-03-02", "2026-03-08"),
        ("week", "2025-12-31", "2025-12-29", "2026-01-04"),
        ("week", "1969-12-31", "1969-12-29", "1970-01-04"),
        ("month", "2024-02-29", "2024-02-01", "2024-02-29"),
        ("month", "2026-02-01", "2026-02-01", "2026-02-28"),
        ("month", "2026-12-31", "2026-12-01", "2026-12-31"),
        ("month", "2026-11-01", "2026-11-01", "2026-11-30"),
        ("year", "2024-02-29", "2024-01-01", "2024-12-31"),
        ("year", "1960-12-31", "1960-01-01", "1960-12-31"),
    ],
)
def test_a_period_is_the_calendar_s_own(per: Period, day: str, first: str, last: str) -> None:
    assert dates(period_of(per, day_number(date.fromisoformat(day)))) == (first, last)


@given(per=st.sampled_from(["day", "week", "month", "year"]), day=days)
def test_a_period_holds_its_day_and_every_day_of_it_has_the_same(per: Period, day: date) -> None:
    number = day_number(day)
    start, end = period_of(per, number)
    assert start <= number < end
    assert period_of(per, start) == period_of(per, end - 1) == (start, end)
    assert period_of(per, end)[0] == end
    assert date_of(start).weekday() == 0 or per != "week"
    if per in {"month", "year"}:
        inside = {getattr(date_of(one), per) for one in (start, number, end - 1)}
        assert len(inside) == 1
        assert date_of(start).day == date_of(end).day == 1


def full(
    limit: Limit, taken: list[tuple[int, int]], *, timezone: str = "UTC", seconds: int = HOUR
) -> list[tuple[str, str]]:
    (found,) = reached([limit], taken, timezone, seconds)
    assert found.limit is limit
    assert not found.everywhere
    return [dates(period) for period in found.days]


def booked(*starts: str, minutes: int = 60) -> list[tuple[int, int]]:
    return [(at(start), at(start) + minutes * 60) for start in starts]


def test_a_count_is_reached_by_as_many_bookings() -> None:
    twice = booked("2026-03-02T09:00", "2026-03-02T10:00")
    assert full(Limit(per="day", count=2), twice) == [("2026-03-02", "2026-03-02")]
    assert full(Limit(per="day", count=3), twice) == []
    assert full(Limit(per="week", count=2), twice) == [("2026-03-02", "2026-03-08")]


def test_minutes_are_reached_where_one_more_booking_does_not_fit() -> None:
    hour = booked("2026-03-02T09:00")
    assert full(Limit(per="day", minutes=120), hour) == []
    assert full(Limit(per="day", minutes=119), hour) == [("2026-03-02", "2026-03-02")]
    assert full(Limit(per="day", minutes=120), hour, seconds=HOUR + 60) == [("2026-03-02", "2026-03-02")]


def test_count_and_minutes_of_one_limit_must_both_have_room() -> None:
    limit = Limit(per="day", count=2, minutes=300)
    assert full(limit, booked("2026-03-02T09:00", minutes=30)) == []
    assert full(limit, booked("2026-03-02T09:00", minutes=300)) == [("2026-03-02", "2026-03-02")]
    assert full(limit, booked("2026-03-02T09:00", "2026-03-02T10:00", minutes=5)) == [("2026-03-02", "2026-03-02")]


def test_a_booking_counts_on_the_local_date_on_which_it_starts() -> None:
    late = booked("2026-03-02T23:30")
    assert full(Limit(per="day", count=1), late) == [("2026-03-02", "2026-03-02")]
    assert full(Limit(per="day", count=1), late, timezone="Asia/Tokyo") == [("2026-03-03", "2026-03-03")]
    assert full(Limit(per="day", count=1), late, timezone="America/New_York") == [("2026-03-02", "2026-03-02")]


def test_a_booking_longer_than_a_limit_fits_nowhere() -> None:
    (found,) = reached([Limit(per="month", minutes=30)], [], "UTC", HOUR)
    assert found.everywhere
    assert found.refused("UTC", 5, 9) == [(5, 9)]
    (found,) = reached([Limit(per="month", minutes=60)], [], "UTC", HOUR)
    assert not found.everywhere


def test_every_limit_is_judged_by_itself() -> None:
    one, other = Limit(per="day", count=1), Limit(per="year", count=2)
    found = reached([one, other], booked("2026-03-02T09:00", "2026-05-02T09:00"), "UTC", HOUR)
    assert [(each.limit, len(each.days)) for each in found] == [(one, 2), (other, 1)]
    assert reached([], booked("2026-03-02T09:00"), "UTC", HOUR) == ()


def test_refused_starts_are_those_of_the_full_days_in_the_range() -> None:
    monday = day_number(date(2026, 3, 2))
    found = Reached(Limit(per="day", count=1), everywhere=False, days=((monday, monday + 1), (monday + 2, monday + 3)))
    start = at("2026-03-02T12:00")
    assert found.refused("UTC", start, start + 2 * DAY) == [
        (start, at("2026-03-03T00:00")),
        (at("2026-03-04T00:00"), start + 2 * DAY),
    ]
    assert [refused_on(found, monday + i) for i in range(-1, 4)] == [False, True, False, True, False]


@given(
    per=st.sampled_from(["day", "week", "month", "year"]),
    count=st.integers(1, 4),
    hours=st.lists(st.integers(0, 24 * 500), max_size=12),
    timezone=st.sampled_from(["UTC", "America/Havana", "Pacific/Apia"]),
)
def test_a_day_is_refused_where_its_period_holds_as_many_bookings_as_may_be(
    per: Period, count: int, hours: list[int], timezone: str
) -> None:
    base = at("2026-01-01")
    taken = [(base + HOUR * hour, base + HOUR * (hour + 1)) for hour in hours]
    (found,) = reached([Limit(per=per, count=count)], taken, timezone, HOUR)
    local = [datetime.fromtimestamp(start, ZoneInfo(timezone)).date() for start, _ in taken]
    for day in {*local, *(one + timedelta(days=1) for one in local)}:
        period = period_of(per, day_number(day))
        used = sum(1 for one in local if period[0] <= day_number(one) < period[1])
        midday = datetime(day.year, day.month, day.day, 12, tzinfo=ZoneInfo(timezone)).timestamp()
        assert bool(found.refused(timezone, int(midday), int(midday) + 1)) == (used >= count)


@given(
    per=st.sampled_from(["day", "week", "month", "year"]),
    hour=st.integers(0, 24 * 500),
    hours=st.lists(st.integers(-24 * 500, 24 * 900), max_size=30),
    timezone=st.sampled_from(["UTC", "America/Havana", "Pacific/Apia", "Pacific/Kiritimati", "Etc/GMT+12"]),
)
def test_the_occurrences_of_a_period_are_those_that_start_on_its_local_dates(
    per: Period, hour: int, hours: list[int], timezone: str
) -> None:
    base, zone = at("2026-01-01"), ZoneInfo(timezone)

    def local(start: int) -> int:
        return day_number(datetime.fromtimestamp(start, zone).date())

    starts = sorted(base + HOUR * one for one in hours)
    first, end = period_of(per, local(base + HOUR * hour))
    spans = during(per, base + HOUR * hour, timezone)
    inside = [start for start in starts if first <= local(start) < end]
    assert within(spans, [(start, start + HOUR) for start in starts]) == len(inside)


def test_a_period_begins_and_ends_at_local_midnight() -> None:
    noon = at("2026-03-02T12:00")
    assert during("day", noon, "UTC") == [(at("2026-03-02"), at("2026-03-03"))]
    assert during("month", noon, "Asia/Tokyo") == [(at("2026-02-28T15:00"), at("2026-03-31T15:00"))]
    day = at("2026-03-02"), at("2026-03-03")
    first, last, after = (day[0], day[1] + 5), (day[1] - 1, day[1]), (day[1], day[1] + 1)
    assert within([day], [first, last, after]) == 2
    assert within([day], []) == within([], [first]) == 0
    assert within([day, (day[1], day[1] + 1)], [first, last, after]) == 3
