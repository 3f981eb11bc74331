"""Hosts and their hours: whoever or whatever is booked (rules 5 to 8)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import pairwise
from typing import Any

from nxsched.domain import checks
from nxsched.domain.bounds import MAX_JSON
from nxsched.domain.event_types import Limit, limits_of
from nxsched.domain.timezones import timezone_name
from nxsched.errors import InvalidInput

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_WALL_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")


def wall_time(field: str, value: object, *, end: bool = False) -> int:
    """Minutes since midnight of a wall time `HH:MM`; as an `end`, `24:00` too (rule 6)."""
    if isinstance(value, str):
        if end and value == "24:00":
            return 24 * 60
        found = _WALL_TIME.fullmatch(value)
        if found:
            return int(found[1]) * 60 + int(found[2])
    latest = "24:00" if end else "23:59"
    raise InvalidInput(
        field=field, reason=f"must be a wall time HH:MM from 00:00 to {latest}, not {checks.shown(value)}"
    )


def window_minutes(start: object, end: object, *, path: str = "") -> tuple[int, int]:
    """A window in minutes since the midnight of its date; on the next date they go on from 24 * 60 (rule 6)."""
    a, b = wall_time(f"{path}start", start), wall_time(f"{path}end", end, end=True)
    return a, b if a < b else b + 24 * 60


def _weekdays(field: str, value: object) -> tuple[str, ...]:
    """The weekdays meant by `"mon-fri"`, `"sat"` or a list of names, from Monday on, each once."""
    names: list[str] = []
    parts = value.split(",") if isinstance(value, str) else checks.items(field, value, str)
    for i, part in enumerate(parts):
        place = field if isinstance(value, str) else f"{field}[{i}]"
        first, dash, last = part.strip().partition("-")
        a = WEEKDAYS.index(checks.one_of(place, first, WEEKDAYS))
        b = WEEKDAYS.index(checks.one_of(place, last, WEEKDAYS)) if dash else a
        if b < a:
            raise InvalidInput(field=place, reason=f"{checks.shown(part)} goes backwards; name the days one by one")
        names += WEEKDAYS[a : b + 1]
    if not names:
        raise InvalidInput(field=field, reason="must name at least one weekday")
    return tuple(day for day in WEEKDAYS if day in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class WeeklyHours:
    """One window of local time on some weekdays, week after week (rules 5 and 6).

    `days` is `"mon-fri"`, `"mon,wed"` or a list of `mon` … `sun`. `start` and `end` are wall times `HH:MM`; an `end`
    that is not later than `start` lies on the next date, and `24:00` is midnight at the end of the day.
    Raises `InvalidInput`.
    """

    days: str | Sequence[str]
    start: str
    end: str

    def __post_init__(self) -> None:
        """Check the values, and keep the days as a tuple of names."""
        object.__setattr__(self, "days", _weekdays("days", self.days))
        window_minutes(self.start, self.end)


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """The hours of one date, instead of the weekly ones (rule 5).

    `hours` are pairs of wall times, `[("10:00", "12:00")]`, read as in `WeeklyHours`; none at all: closed.
    Raises `InvalidInput`.
    """

    date: date
    hours: Sequence[tuple[str, str]] = ()

    def __post_init__(self) -> None:
        """Check the values, and keep the hours as a tuple of pairs."""
        object.__setattr__(self, "date", checks.calendar_date("date", self.date))
        pairs = [checks.pair(f"hours[{i}]", pair) for i, pair in enumerate(checks.items("hours", self.hours, object))]
        for i, (start, end) in enumerate(pairs):
            window_minutes(start, end, path=f"hours[{i}].")
        object.__setattr__(self, "hours", tuple(pairs))


@dataclass(frozen=True, slots=True, kw_only=True)
class Travel:
    """Dates, both included, on which a host's windows are read in another time zone (rule 7). Raises `InvalidInput`."""

    from_date: date
    until_date: date
    timezone: str

    def __post_init__(self) -> None:
        """Check the values."""
        object.__setattr__(self, "from_date", checks.calendar_date("from_date", self.from_date))
        object.__setattr__(self, "until_date", checks.calendar_date("until_date", self.until_date))
        timezone_name("timezone", self.timezone)
        if self.until_date < self.from_date:
            reason = f"must not lie before the first date: {self.until_date} is before {self.from_date}"
            raise InvalidInput(field="until_date", reason=reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Whoever or whatever is booked: a person, a room, a device.

    `slug` names it; `name` and `email` are what people read and write to. Without `weekly_hours` and `overrides` a host
    is never open. `limits` count all its bookings, by local date in its own `timezone` (rule 22). `attributes` are the
    application's own, anything that JSON can hold. An `archived` host takes no new bookings. Raises `InvalidInput`.
    """

    slug: str
    timezone: str
    name: str = ""
    email: str | None = None
    weekly_hours: Sequence[WeeklyHours] = ()
    overrides: Sequence[Override] = ()
    travel: Sequence[Travel] = ()
    limits: Sequence[Limit] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict, hash=False)
    archived: bool = False

    def __post_init__(self) -> None:
        """Check the values, and keep the lists as tuples, trips in the order of their dates."""
        checks.text("slug", self.slug)
        timezone_name("timezone", self.timezone)
        checks.text("name", self.name, empty=True)
        if self.email is not None:
            checks.email("email", self.email)
        checks.flag("archived", self.archived)
        object.__setattr__(self, "attributes", checks.json_object("attributes", self.attributes, most=MAX_JSON))
        object.__setattr__(self, "weekly_hours", checks.items("weekly_hours", self.weekly_hours, WeeklyHours))
        object.__setattr__(self, "overrides", checks.items("overrides", self.overrides, Override))
        object.__setattr__(self, "travel", checks.items("travel", self.travel, Travel))
        object.__setattr__(self, "limits", limits_of("limits", self.limits))
        self._refuse_second_overrides()
        self._refuse_trips_that_overlap()

    def _refuse_second_overrides(self) -> None:
        seen: dict[date, int] = {}
        for i, override in enumerate(self.overrides):
            first = seen.setdefault(override.date, i)
            if first != i:
                reason = f"{override.date} is overridden already by overrides[{first}]; give all its hours there"
                raise InvalidInput(field=f"overrides[{i}].date", reason=reason)

    def _refuse_trips_that_overlap(self) -> None:
        places = sorted(range(len(self.travel)), key=lambda i: self.travel[i].from_date)
        for one, other in pairwise(places):
            if self.travel[other].from_date <= self.travel[one].until_date:
                reason = f"overlaps travel[{one}], which lasts until {self.travel[one].until_date}"
                raise InvalidInput(field=f"travel[{other}].from_date", reason=reason)
        object.__setattr__(self, "travel", tuple(self.travel[i] for i in places))
