"""Time zones as tables of integers: wall time to instant (rule 3) and instant to local date, without a datetime.

A table holds the offsets of one zone over the years that a question needs. It is built once from `zoneinfo`, whose
answers it gives, and kept.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from nxsched.domain.instants import DAY
from nxsched.domain.timezones import zone_info
from nxsched.slots.intervals import Interval

_YEAR: Final = 31_556_952
_PROBE: Final = 2 * DAY
_WALL_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - a wall time

_Change = tuple[int, int, int]
"""An instant, and the offsets before it and from it on, in seconds."""


class Zone:
    """The offsets of one zone over some years."""

    __slots__ = ("_first", "_instants", "_last", "_offsets", "_walls", "name")

    def __init__(self, name: str, first: int, last: int, offset: int, changes: list[_Change]) -> None:
        """Hold the `changes` of the instants from `first` to `last`; `offset` is in force before the first of them."""
        self.name: str = name
        self._first, self._last = first, last
        self._instants = [at for at, _, _ in changes]
        self._offsets = [offset, *(after for _, _, after in changes)]
        # Both in a gap and in a fold the offset before the change is the one that counts (fold=0): a wall time is read
        # with the new offset from where the later of the two clocks stands at the change.
        self._walls = [at + max(before, after) for at, before, after in changes]

    def instant(self, wall: int) -> int:
        """The instant of a wall time, given as seconds since 1970-01-01T00:00 on the same clock (rule 3)."""
        if self._first + DAY <= wall <= self._last - DAY:
            return wall - self._offsets[bisect_right(self._walls, wall)]
        try:
            local = (_WALL_EPOCH + timedelta(seconds=wall)).replace(tzinfo=zone_info(self.name))
            offset = local.utcoffset() or timedelta()
        except OverflowError:  # the end of 9999-12-31
            return wall
        return wall - int(offset.total_seconds())

    def instants(self, windows: list[Interval]) -> list[Interval]:
        """Windows of wall time, sorted and shorter than two days, as instants; those that end up empty vanish."""
        found: list[Interval] = []
        done = 0
        for change, offset in zip([*self._walls, None], self._offsets, strict=True):
            near = len(windows) if change is None else bisect_left(windows, (change - 2 * DAY,), done)
            found += [(start - offset, end - offset) for start, end in windows[done:near] if start < end]
            done = near
            if change is not None:
                near = bisect_left(windows, (change,), done)
                ends = ((self.instant(start), self.instant(end)) for start, end in windows[done:near])
                found += [(start, end) for start, end in ends if start < end]
                done = near
        return found

    def offset_at(self, instant: int) -> int:
        """Seconds that local clocks are ahead of UTC at an instant."""
        return self._offsets[bisect_right(self._instants, instant)]

    def day_of(self, instant: int) -> int:
        """The local date of an instant, in days since 1970-01-01."""
        return (instant + self.offset_at(instant)) // DAY

    def spans(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """`[start, end)` cut where the offset changes: `(start, end, offset)`."""
        i = bisect_right(self._instants, start)
        for change in self._instants[i:]:
            if change >= end:
                break
            yield start, change, self._offsets[i]
            start, i = change, i + 1
        yield start, end, self._offsets[i]

    def during(self, first_day: int, end_day: int, start: int, end: int) -> list[Interval]:
        """The instants of `[start, end)` whose local date lies in `[first_day, end_day)`.

        Mostly one interval; a clock that goes back over midnight can make a date come twice.
        """
        found: list[Interval] = []
        for a, b, offset in self.spans(start, end):
            lo, hi = max(a, first_day * DAY - offset), min(b, end_day * DAY - offset)
            if lo < hi:
                joined = found.pop()[0] if found and found[-1][1] == lo else lo
                found.append((joined, hi))
        return found

    def midnights(self, start: int, end: int) -> list[int]:
        """The local midnights strictly inside `(start, end)`; one that is skipped or comes twice as rule 3 says."""
        days = range(self.day_of(start), self.day_of(end) + 2)
        return sorted({at for day in days if start < (at := self.instant(day * DAY)) < end})


def zone(name: str, start: int, end: int) -> Zone:
    """The table of a zone that is good for instants from `start` to `end`, and for some months around."""
    return _table(name, start // _YEAR + 1970 - 1, end // _YEAR + 1970 + 1)


def before(name: str, instant: int, days: int, seconds: int) -> int:
    """So many days on the wall clock before an instant, and so many seconds before that."""
    table = zone(name, instant - (days + 1) * DAY, instant)
    wall = instant + table.offset_at(instant) - days * DAY
    return (table.instant(wall) if days else instant) - seconds


@lru_cache(maxsize=4096)
def _table(name: str, first: int, last: int) -> Zone:
    """The table of the calendar years `first` to `last`, both included."""
    changes = [change for year in range(first, last + 1) for change in _changes(name, year)]
    start, end = _new_year(first), _new_year(last + 1)
    return Zone(name, start, end, _offset(name, start), changes)


@lru_cache(maxsize=65_536)
def _changes(name: str, year: int) -> tuple[_Change, ...]:
    """The changes of offset in a calendar year of UTC, found by asking `zoneinfo`.

    Every second day is asked: the closest two changes of any zone, ever, lie almost four days apart.
    """
    found: list[_Change] = []
    end = _new_year(year + 1)
    lo = _new_year(year) - 1
    before = _offset(name, lo)
    while lo < end - 1:
        hi = min(lo + _PROBE, end - 1)
        after = _offset(name, hi)
        if after != before:
            found.append((_change_between(name, lo, hi, before), before, after))
        lo, before = hi, after
    return tuple(found)


def _change_between(name: str, lo: int, hi: int, before: int) -> int:
    """The first instant after `lo` at which the offset is no longer `before`; at `hi` it is not."""
    while hi - lo > 1:
        middle = (lo + hi) // 2
        if _offset(name, middle) == before:
            lo = middle
        else:
            hi = middle
    return hi


def _offset(name: str, instant: int) -> int:
    offset = datetime.fromtimestamp(instant, zone_info(name)).utcoffset() or timedelta()
    return int(offset.total_seconds())


def _new_year(year: int) -> int:
    return int(datetime(year, 1, 1, tzinfo=UTC).timestamp())
