"""Grids by arithmetic against grids by counting (rules 18 to 20)."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nxsched.domain.instants import DAY
from nxsched.slots.grid import clock_grid, free_grid, window_grid
from nxsched.slots.intervals import Interval, union
from nxsched.slots.zones import zone

# Clocks change on 2026-03-29 and 2026-10-25 in Europe; Havana's change at midnight; UTC's never.
PLACES = [
    ("UTC", "2026-03-01"),
    ("Europe/London", "2026-03-28"),
    ("Europe/London", "2026-10-24"),
    ("America/Havana", "2026-10-31"),
    ("America/Havana", "2026-03-07"),
    ("Australia/Lord_Howe", "2026-04-04"),
    ("America/St_Johns", "2010-11-06"),
    ("Pacific/Kiritimati", "2026-03-01"),
    ("Pacific/Pago_Pago", "2026-03-01"),
]
MINUTES = [1, 5, 7, 15, 25, 30, 45, 60, 90, 480, 700, 1440, 1500]


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def starts(runs: list[range]) -> list[int]:
    found = [start for run in runs for start in run]
    assert found == sorted(set(found))
    return found


def counted(anchors: list[int], end: int, step: int) -> set[int]:
    """Count from each anchor to the next, and to the end from the last."""
    ends = [*anchors[1:], end]
    return {start for anchor, stop in zip(anchors, ends, strict=True) for start in range(anchor, stop, step)}


@st.composite
def stretches(draw: st.DrawFn, *, unit: int = 60) -> tuple[str, int, list[Interval]]:
    """Draw a place, a first day there and some stretches of time on the days after."""
    name, day = draw(st.sampled_from(PLACES))
    minute = st.integers(-600, 7 * 1440)
    pairs = draw(st.lists(st.tuples(minute, st.integers(1, 4 * 1440)), max_size=4))
    second = st.integers(0, 59) if unit == 1 else st.just(0)
    base = at(day)
    return name, base, union((base + 60 * a + draw(second), base + 60 * (a + b) + draw(second)) for a, b in pairs)


asked = st.tuples(st.integers(0, 6 * DAY), st.integers(1, 3 * DAY))
steps = st.sampled_from(MINUTES).map(lambda minutes: 60 * minutes)


@given(place=stretches(), step=steps, asked=asked)
def test_a_window_grid_counts_from_each_stretch_and_anew_at_midnights_in_a_long_one(
    place: tuple[str, int, list[Interval]], step: int, asked: tuple[int, int]
) -> None:
    name, base, times = place
    lo, hi = base + asked[0], base + sum(asked)
    table = zone(name, lo, hi)
    expected: set[int] = set()
    for start, end in times:
        midnights = table.midnights(start, end) if end - start > DAY else []
        expected |= counted([start, *midnights], end, step)
    assert starts(window_grid(times, step, table, lo, hi)) == sorted(one for one in expected if lo <= one < hi)


@given(place=stretches(unit=1), step=steps, asked=asked)
def test_a_free_grid_counts_from_the_first_whole_minute(
    place: tuple[str, int, list[Interval]], step: int, asked: tuple[int, int]
) -> None:
    name, base, times = place
    lo, hi = base + asked[0], base + sum(asked)
    table = zone(name, lo, hi)
    expected: set[int] = set()
    for start, end in times:
        minute = -(-start // 60) * 60
        midnights = [one for one in table.midnights(start, end) if one > minute] if end - 1 - start > DAY else []
        expected |= counted([minute, *midnights], end, step)
    assert starts(free_grid(times, step, table, lo, hi)) == sorted(one for one in expected if lo <= one < hi)


@given(
    place=st.sampled_from(PLACES),
    step=steps,
    offset=st.sampled_from([0, 5, 61, 719, 2000]),
    asked=asked,
    data=st.data(),
)
def test_a_clock_grid_is_where_the_minutes_since_midnight_divide(
    place: tuple[str, str], step: int, offset: int, asked: tuple[int, int], data: st.DataObject
) -> None:
    name, day = place
    lo, hi = at(day) + asked[0], at(day) + sum(asked)
    table = zone(name, lo, hi)

    def on_grid(instant: int) -> bool:
        wall = instant + table.offset_at(instant)
        return (wall % DAY - 60 * offset) % step == 0

    found = starts(clock_grid(step, 60 * offset, table, lo, hi))
    assert all(lo <= one < hi for one in found)
    if step >= 900:
        minutes = range(-(-lo // 60) * 60, hi, 60)
        assert found == [one for one in minutes if on_grid(one)]
    else:
        for one in [data.draw(st.integers(lo, hi - 1)), *found[:5], *found[-5:]]:
            assert (one in found) == on_grid(one)


@pytest.mark.parametrize(("timezone", "day"), [("Pacific/Kiritimati", 14), ("Pacific/Honolulu", -10), ("UTC", 0)])
@pytest.mark.parametrize("last", [-1, 0, 1, 3600])
def test_a_clock_grid_that_no_day_divides_begins_anew_at_each_local_midnight(
    timezone: str, day: int, last: int
) -> None:
    lo = at("2026-03-02") - day * 3600 - 3 * 3600
    hi = lo + 3 * 3600 + 3 * DAY + last
    table = zone(timezone, lo, hi)
    found = starts(clock_grid(7 * 3600, 61 * 60, table, lo, hi))
    walls = [(one + day * 3600) % DAY for one in found]
    counted_from = [61 * 60 + hours * 3600 for hours in (0, 7, 14, 21)]
    expected = [at("2026-03-02") + DAY * i + wall - day * 3600 for i in range(-1, 4) for wall in counted_from]
    assert found == [one for one in expected if lo <= one < hi]
    assert set(walls) <= set(counted_from)
    midnights = starts(clock_grid(7 * 3600, 0, table, lo, hi))
    assert (hi - last in midnights) == (last > 0)


@pytest.mark.parametrize("align", [window_grid, free_grid])
def test_a_stretch_of_just_24_hours_is_counted_in_one_and_a_longer_one_anew_at_midnight(align: object) -> None:
    """Of starts that fit, the last lies a second before the end."""
    table = zone("UTC", at("2026-03-02"), at("2026-03-06"))
    start, step = at("2026-03-02T09:00"), 3600 * 7
    more = 1 if align is free_grid else 0
    make = free_grid if align is free_grid else window_grid
    one = starts(make([(start, start + DAY + more)], step, table, start, start + 3 * DAY))
    two = starts(make([(start, start + DAY + more + 60)], step, table, start, start + 3 * DAY))
    assert one == [start, start + step, start + 2 * step, start + 3 * step]
    assert two == [start, start + step, start + 2 * step, at("2026-03-03"), at("2026-03-03T07:00")]


def test_a_stretch_that_ends_before_its_first_whole_minute_gives_no_free_start() -> None:
    begin = at("2026-03-02T09:00") + 1
    table = zone("UTC", begin, begin)
    assert starts(free_grid([(begin, begin + 58)], 900, table, begin - DAY, begin + DAY)) == []
    assert starts(free_grid([(begin, begin + 60)], 900, table, begin - DAY, begin + DAY)) == [begin + 59]
