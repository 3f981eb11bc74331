"""Weekly hours and blocked periods, which recur in wall time, as intervals of instants (rules 5 to 9)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Final

from nxsched.domain.availability import BlockedPeriod
from nxsched.domain.effort import Effort
from nxsched.domain.hosts import WEEKDAYS, Host, Travel, window_minutes
from nxsched.domain.instants import DAY, EPOCH, EPOCH_WEEKDAY, day_number, wall_seconds
from nxsched.errors import InvalidInput
from nxsched.slots.intervals import Interval, union
from nxsched.slots.zones import Zone, zone

_READING: Final = 10
"""To make a rule ready takes as long as so many of its occurrences."""


Blocked = tuple[int, int, BlockedPeriod]
"""An occurrence of a blocked period, as instants, and the period."""


@dataclass(frozen=True, slots=True)
class Hours:
    """The hours of a host in integers: windows are seconds after the midnight of their date."""

    timezone: str
    week: tuple[tuple[Interval, ...], ...]
    overrides: Mapping[int, tuple[Interval, ...]]
    travel: tuple[Travel, ...]


def read_hours(host: Host) -> Hours:
    """Weekly hours, overrides and travel of a host, read once."""
    week: list[list[Interval]] = [[] for _ in WEEKDAYS]
    for entry in host.weekly_hours:
        for day in entry.days:
            week[WEEKDAYS.index(day)].append(_window(entry.start, entry.end))
    overrides = {day_number(one.date): tuple(sorted(_window(*pair) for pair in one.hours)) for one in host.overrides}
    return Hours(host.timezone, tuple(tuple(sorted(windows)) for windows in week), overrides, tuple(host.travel))


@lru_cache(maxsize=4096)
def _window(start: str, end: str) -> Interval:
    a, b = window_minutes(start, end)
    return a * 60, b * 60


def open_time(hours: Hours, start: int, end: int, effort: Effort) -> list[Interval]:
    """When the hours are open (rule 8), complete between `start` and `end`; stretches may reach beyond.

    A window lasts less than two days from the midnight of its date, and that lies at most a day from the one in UTC.
    """
    found: list[Interval] = []
    week, overrides = hours.week, hours.overrides
    a_week = sum(map(len, week))
    for name, first, last in _dates_by_zone(hours, start // DAY - 3, end // DAY + 2):
        effort.spend((last - first) * (a_week + 1) // 7 + 1)
        windows = [
            (day * DAY + a, day * DAY + b)
            for day in range(first, last)
            for a, b in overrides.get(day, week[(day + EPOCH_WEEKDAY) % 7])
        ]
        found += zone(name, start, end).instants(windows)
    return union(found)


def _dates_by_zone(hours: Hours, first: int, last: int) -> Iterator[tuple[str, int, int]]:
    """The dates of `[first, last)` in runs, each with the zone its windows are read in (rule 7)."""
    for trip in hours.travel:
        away, back = max(day_number(trip.from_date), first), min(day_number(trip.until_date) + 1, last)
        if away < back:
            yield hours.timezone, first, away
            yield trip.timezone, away, back
            first = back
    yield hours.timezone, first, last


def blocked_time(
    periods: Iterable[BlockedPeriod], places: Iterable[str], timezone: str, start: int, end: int, effort: Effort
) -> Iterator[Blocked]:
    """Each occurrence of each period that meets `[start, end)`, as instants, with the period it comes from (rule 9).

    Every period has its place in the question, for an error that it may cause.
    """
    table = zone(timezone, start, end)
    for period, place in zip(periods, places, strict=True):
        try:
            occurrences = _occurrences(period, table, start, end, effort)
            found = [one for one in occurrences if start < one[1] and one[0] < end]
        except InvalidInput as error:
            if error.field != "rrule":
                raise
            raise InvalidInput(field=f"{place}.{error.field}", reason=error.reason) from error
        yield from ((a, b, period) for a, b in found if a < b)


def _occurrences(period: BlockedPeriod, table: Zone, start: int, end: int, effort: Effort) -> Iterator[Interval]:
    effort.spend(1)
    if (absolute := period.instants()) is not None:
        yield absolute
        return
    begins = _wall(period.start)
    lasts = _wall(period.end or period.start) - begins
    if not isinstance(period.start, datetime):
        lasts += DAY
    if period.recurrence is None:
        # A wall time differs from its instant by less than two days: what lies further off need not be converted.
        if begins < end + 2 * DAY and begins + lasts > start - 2 * DAY:
            yield table.instant(begins), table.instant(begins + lasts)
        return
    effort.spend(_READING)
    rule = period.recurrence
    until = wall_seconds(rule.until) if rule.until is not None and rule.until_is == "instant" else None
    for wall in rule.occurrences(_naive(max(begins, start - lasts - 2 * DAY)), _naive(end + 2 * DAY), effort):
        begins = wall_seconds(wall)
        at = table.instant(begins)
        if until is not None and at > until:
            continue  # the next one may lie earlier, where this one was skipped and moved behind a gap
        yield at, table.instant(begins + lasts)


def _wall(value: date) -> int:
    return wall_seconds(value) if isinstance(value, datetime) else day_number(value) * DAY


def _naive(wall: int) -> datetime:
    return (EPOCH + timedelta(seconds=wall)).replace(tzinfo=None)
