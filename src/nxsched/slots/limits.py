"""Limits of event types and hosts: the local dates on which there is no more room (rules 21 and 22)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import takewhile
from operator import itemgetter

from nxsched.domain.event_types import Limit
from nxsched.domain.instants import DAY, EPOCH_WEEKDAY, date_of, day_number
from nxsched.domain.periods import Period
from nxsched.slots.intervals import Interval
from nxsched.slots.zones import zone


@dataclass(frozen=True, slots=True)
class Reached:
    """A limit, and where it has no room for one more booking: everywhere, or on some local dates (day numbers)."""

    limit: Limit
    everywhere: bool
    days: tuple[Interval, ...]

    def refused(self, timezone: str, start: int, end: int) -> list[Interval]:
        """The starts in `[start, end)` that the limit refuses, by local date in `timezone`."""
        if self.everywhere:
            return [(start, end)]
        table = zone(timezone, start, end)
        near = bisect_right(self.days, table.day_of(start) - 2, key=lambda period: period[1])
        days = takewhile(lambda period: period[0] <= table.day_of(end) + 1, self.days[near:])
        return [found for first, last in days for found in table.during(first, last, start, end)]


def reached(
    limits: Iterable[Limit], occurrences: Iterable[tuple[int, int]], timezone: str, seconds: int
) -> tuple[Reached, ...]:
    """What is used up of each limit by `occurrences` (start, end), when a booking of `seconds` more is asked for."""
    limits = tuple(limits)
    if not limits:
        return ()
    taken = [(zone(timezone, start, start).day_of(start), end - start) for start, end in occurrences]
    used = {per: _used(per, taken) for per in {limit.per for limit in limits}}
    found: list[Reached] = []
    for limit in limits:
        periods = used[limit.per].items()
        full = [period for period, (count, total) in periods if not _room(limit, count, total + seconds)]
        found.append(Reached(limit, not _room(limit, 0, seconds), tuple(sorted(full))))
    return tuple(found)


def during(per: Period, at: int, timezone: str) -> list[Interval]:
    """The instants of the period of local dates that holds the instant `at`."""
    first, end = period_of(per, zone(timezone, at, at).day_of(at))
    reach = (first - 2) * DAY, (end + 2) * DAY
    return zone(timezone, *reach).during(first, end, *reach)


def within(spans: Iterable[Interval], occurrences: Sequence[Interval]) -> int:
    """How many occurrences, in their order, start in the spans."""
    start = itemgetter(0)
    return sum(bisect_left(occurrences, b, key=start) - bisect_left(occurrences, a, key=start) for a, b in spans)


def _used(per: Period, taken: Iterable[tuple[int, int]]) -> dict[Interval, tuple[int, int]]:
    """How many occurrences (local date, seconds) each period holds, and how long they last together."""
    used: dict[Interval, tuple[int, int]] = {}
    for day, lasts in taken:
        period = period_of(per, day)
        count, total = used.get(period, (0, 0))
        used[period] = count + 1, total + lasts
    return used


def _room(limit: Limit, count: int, total: int) -> bool:
    """Whether one more than `count` fits, and `total` seconds do."""
    fits = limit.count is None or count < limit.count
    return fits and (limit.minutes is None or total <= limit.minutes * 60)


def period_of(per: Period, day: int) -> Interval:
    """The day, the week from Monday, the month or the year that holds a local date, as half-open day numbers."""
    if per == "day":
        return day, day + 1
    if per == "week":
        monday = day - (day + EPOCH_WEEKDAY) % 7
        return monday, monday + 7
    found = date_of(day)
    if per == "month":
        first = found.replace(day=1)
        after = date(first.year + first.month // 12, first.month % 12 + 1, 1)
    else:
        first, after = date(found.year, 1, 1), date(found.year + 1, 1, 1)
    return day_number(first), day_number(after)
