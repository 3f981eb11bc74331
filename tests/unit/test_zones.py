"""Tables of time zones against `zoneinfo`, near the changes of the clocks above all."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones
from zoneinfo import _zoneinfo as pure_zoneinfo  # type: ignore[attr-defined]

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nxsched.domain.instants import DAY
from nxsched.slots.zones import Zone, zone

NAMES = sorted(available_timezones() - {"localtime", "posixrules", "Factory"})
FIRST, END = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (1900, 2100))

names = st.sampled_from(NAMES)
moments = st.integers(FIRST, END)


def at(text: str) -> int:
    """The epoch seconds of an instant such as `2026-03-29T01:00Z`."""
    return int(datetime.fromisoformat(text).timestamp())


def day(text: str) -> int:
    return date.fromisoformat(text).toordinal() - date(1970, 1, 1).toordinal()


def offset(name: str, instant: int) -> int:
    found = datetime.fromtimestamp(instant, ZoneInfo(name)).utcoffset()
    assert found is not None
    return int(found.total_seconds())


def wall_to_instant(name: str, wall: int) -> int:
    """What `zoneinfo` says of a wall time, `fold=0`."""
    local = (datetime(1970, 1, 1) + timedelta(seconds=wall)).replace(tzinfo=ZoneInfo(name))  # noqa: DTZ001
    return round((local - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())


@st.composite
def near_changes(draw: st.DrawFn) -> tuple[str, int]:
    """Draw a zone and an instant, mostly within two days of a change of its clocks."""
    name, start = draw(names), draw(moments)
    for days in range(1, 400):
        if offset(name, start + days * DAY) != offset(name, start):
            start += days * DAY
            break
    return name, start + draw(st.integers(-2 * DAY, 2 * DAY))


@given(place=near_changes())
def test_a_table_knows_offset_and_local_date_of_an_instant(place: tuple[str, int]) -> None:
    name, instant = place
    table = zone(name, instant, instant)
    assert table.offset_at(instant) == offset(name, instant)
    local = datetime.fromtimestamp(instant, ZoneInfo(name)).date()
    assert table.day_of(instant) == local.toordinal() - date(1970, 1, 1).toordinal()


@given(place=near_changes(), shift=st.integers(-15, 15).map(lambda quarters: 900 * quarters))
def test_a_table_turns_wall_times_into_instants_as_zoneinfo_does(place: tuple[str, int], shift: int) -> None:
    name, instant = place
    wall = instant + offset(name, instant) + shift
    assert zone(name, instant, instant).instant(wall) == wall_to_instant(name, wall)


@given(place=near_changes(), days=st.integers(0, 800))
def test_a_table_is_good_for_the_whole_range_it_was_made_for(place: tuple[str, int], days: int) -> None:
    name, start = place
    end = start + days * DAY
    table = zone(name, start, end)
    for instant in (start, start + (end - start) // 3, end - 1, end):
        assert table.offset_at(instant) == offset(name, instant)
        wall = instant + offset(name, instant)
        assert table.instant(wall) == wall_to_instant(name, wall)


@given(place=near_changes(), far=st.integers(FIRST, END))
def test_a_wall_time_far_from_the_range_of_a_table_is_read_right_all_the_same(place: tuple[str, int], far: int) -> None:
    name, instant = place
    assert zone(name, instant, instant).instant(far) == wall_to_instant(name, far)


@given(
    place=near_changes(),
    walls=st.lists(st.tuples(st.integers(-4 * 96, 4 * 96), st.integers(-10, 2 * 96 - 1)), max_size=12),
)
def test_windows_become_instants_end_by_end(place: tuple[str, int], walls: list[tuple[int, int]]) -> None:
    name, instant = place
    midnight = (instant + offset(name, instant)) // DAY * DAY
    windows = sorted((midnight + 900 * start, midnight + 900 * (start + lasts)) for start, lasts in walls)
    expected = [(wall_to_instant(name, start), wall_to_instant(name, end)) for start, end in windows]
    found = zone(name, instant - 5 * DAY, instant + 5 * DAY).instants(windows)
    assert found == [(start, end) for start, end in expected if start < end]


@given(place=near_changes(), lasts=st.integers(1, 20 * DAY))
def test_spans_cut_a_range_where_the_offset_changes(place: tuple[str, int], lasts: int) -> None:
    name, start = place
    end = start + lasts
    spans = list(zone(name, start, end).spans(start, end))
    assert (spans[0][0], spans[-1][1]) == (start, end)
    for (_, stop, before), (begin, _, after) in pairwise(spans):
        assert stop == begin
        assert before != after
    for begin, stop, ahead in spans:
        assert begin < stop
        assert ahead == offset(name, begin) == offset(name, stop - 1)


@given(place=near_changes(), lasts=st.integers(1, 4 * DAY), first=st.integers(-2, 4), days=st.integers(0, 3))
def test_during_holds_the_instants_of_the_dates_and_no_other(
    place: tuple[str, int], lasts: int, first: int, days: int
) -> None:
    name, start = place
    table = zone(name, start, start + lasts)
    first += table.day_of(start)
    found = table.during(first, first + days, start, start + lasts)
    assert all(start <= a < b <= start + lasts for a, b in found)
    assert all(b < a for (_, b), (a, _) in pairwise(found))
    edges = {edge + near for pair in found for edge in pair for near in (-1, 0, 1)}
    for instant in {*range(start, start + lasts, 3600), *edges} & set(range(start, start + lasts)):
        local = datetime.fromtimestamp(instant, ZoneInfo(name)).date().toordinal() - date(1970, 1, 1).toordinal()
        assert any(a <= instant < b for a, b in found) == (first <= local < first + days)


@given(place=near_changes(), lasts=st.integers(0, 6 * DAY))
def test_midnights_are_those_of_zoneinfo_inside_the_range(place: tuple[str, int], lasts: int) -> None:
    name, start = place
    end = start + lasts
    days = range(start // DAY - 3, end // DAY + 4)
    expected = {wall_to_instant(name, one * DAY) for one in days}
    assert zone(name, start, end).midnights(start, end) == sorted(one for one in expected if start < one < end)


# Clocks that change at midnight.


@pytest.mark.parametrize(
    ("name", "date_", "expected"),
    [
        ("America/Havana", "2026-03-08", "2026-03-08T05:00Z"),  # 00:00 is skipped: it lands at 01:00
        ("America/Havana", "2026-11-01", "2026-11-01T04:00Z"),  # 00:00 comes twice: the first
        ("Africa/Cairo", "2026-04-24", "2026-04-23T22:00Z"),  # skipped
        ("Africa/Cairo", "2026-10-30", "2026-10-29T22:00Z"),  # 23:00 to 24:00 comes twice, 00:00 once
        ("America/St_Johns", "2010-11-07", "2010-11-07T02:30Z"),  # at 00:01 the clock goes back to 23:01
        ("America/St_Johns", "2010-03-14", "2010-03-14T03:30Z"),  # at 00:01 it goes forward: midnight was there
        ("Pacific/Apia", "2011-12-29", "2011-12-29T10:00Z"),
        ("Pacific/Apia", "2011-12-30", "2011-12-30T10:00Z"),  # the whole day is skipped
        ("Pacific/Apia", "2011-12-31", "2011-12-30T10:00Z"),
        ("Pacific/Apia", "2012-01-01", "2011-12-31T10:00Z"),
        ("Asia/Kathmandu", "1986-01-01", "1985-12-31T18:30Z"),  # fifteen minutes are skipped
    ],
)
def test_a_midnight_that_is_skipped_or_comes_twice_is_where_rule_3_says(name: str, date_: str, expected: str) -> None:
    instant = at(expected)
    table = zone(name, instant - DAY, instant + DAY)
    assert table.instant(day(date_) * DAY) == instant
    assert instant in table.midnights(instant - 1, instant + 1)


def test_a_date_that_comes_twice_is_two_intervals() -> None:
    """St John's, 2010-11-07: at 00:01 the clock goes back to 23:01 of the sixth."""
    start, end = at("2010-11-06T12:00Z"), at("2010-11-08T12:00Z")
    table = zone("America/St_Johns", start, end)
    sixth, seventh = day("2010-11-06"), day("2010-11-07")
    assert table.during(sixth, sixth + 1, start, end) == [
        (start, at("2010-11-07T02:30Z")),
        (at("2010-11-07T02:31Z"), at("2010-11-07T03:30Z")),
    ]
    assert table.during(seventh, seventh + 1, start, end) == [
        (at("2010-11-07T02:30Z"), at("2010-11-07T02:31Z")),
        (at("2010-11-07T03:30Z"), at("2010-11-08T03:30Z")),
    ]
    assert table.midnights(start, end) == [at("2010-11-07T02:30Z"), at("2010-11-08T03:30Z")]


def test_a_date_that_was_skipped_is_no_time_at_all() -> None:
    """Samoa went from the 29th to the 31st of December 2011."""
    start, end = at("2011-12-29T00:00Z"), at("2012-01-01T00:00Z")
    table = zone("Pacific/Apia", start, end)
    assert table.during(day("2011-12-30"), day("2011-12-31"), start, end) == []
    assert table.during(day("2011-12-29"), day("2012-01-01"), start, end) == [
        (at("2011-12-29T10:00Z"), at("2011-12-31T10:00Z"))
    ]
    assert table.midnights(start, end) == [at("2011-12-29T10:00Z"), at("2011-12-30T10:00Z"), at("2011-12-31T10:00Z")]


def test_ends_are_strict_for_midnights_and_half_open_for_dates() -> None:
    midnight = at("2026-03-02T00:00Z")
    table = zone("UTC", midnight, midnight)
    assert table.midnights(midnight, midnight + DAY) == []
    assert table.midnights(midnight - 1, midnight + DAY + 1) == [midnight, midnight + DAY]
    assert table.during(midnight // DAY, midnight // DAY + 1, midnight - 5, midnight + 5) == [(midnight, midnight + 5)]
    assert table.during(midnight // DAY, midnight // DAY, midnight - 5, midnight + 5) == []


@pytest.mark.parametrize("name", ["UTC", "Pacific/Kiritimati", "Etc/GMT+12", "Europe/London"])
def test_a_wall_time_after_the_last_date_there_is_does_no_harm(name: str) -> None:
    table = zone(name, at("2026-03-02T00:00Z"), at("2026-03-02T00:00Z"))
    end_of_time = (date.max.toordinal() - date(1970, 1, 1).toordinal() + 1) * DAY
    assert abs(table.instant(end_of_time) - end_of_time) <= DAY
    assert table.instant(end_of_time - DAY) == wall_to_instant(name, end_of_time - DAY)


def test_one_table_serves_every_range_of_the_same_years() -> None:
    one, other = zone("Europe/London", at("2026-02-01T00:00Z"), at("2026-03-01T00:00Z")), at("2026-05-01T00:00Z")
    assert isinstance(one, Zone)
    assert zone("Europe/London", other, other) is one


# All of it, which takes long.


def changes_of(name: str) -> list[int]:
    """The instants at which a zone's offset changes, from its file."""
    every = pure_zoneinfo.ZoneInfo.no_cache(name)._trans_utc  # noqa: SLF001
    return [
        instant for instant in every if FIRST <= instant < END and offset(name, instant) != offset(name, instant - 1)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_change_of_every_zone_is_in_its_table(name: str) -> None:
    changes = changes_of(name)
    assert all(b - a > 2 * DAY for a, b in pairwise(changes))  # a table asks every second day
    table = zone(name, FIRST, END)
    found = [start for start, _, _ in table.spans(FIRST, END)][1:]
    assert [one for one in found if one <= max(changes, default=FIRST)] == [one for one in changes if one > FIRST]
    for change in found:
        before, after = offset(name, change - 1), offset(name, change)
        for instant in (change - 1, change, change + 1):
            assert table.offset_at(instant) == offset(name, instant)
        for clock in (change + before, change + after):
            for wall in (clock - 1, clock, clock + 1):
                assert table.instant(wall) == wall_to_instant(name, wall)
