"""The JSON form of hosts, event types and blocked periods, as scenarios and the database hold it: read and written."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, TypeVar

from nxsched.domain import checks
from nxsched.domain.availability import BlockedPeriod
from nxsched.domain.bounds import MAX_MINUTES
from nxsched.domain.event_types import BookingWindow, EventType, HostGroup, Limit
from nxsched.domain.hosts import WEEKDAYS, Host, Override, Travel, WeeklyHours
from nxsched.domain.instants import epoch_floor
from nxsched.errors import InvalidInput

T = TypeVar("T")

Reader = Callable[[str, object], object]
"""Reads a value that stands at a place."""

NOTHING: Mapping[str, Reader] = {}

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_WALL = re.compile(_DATE.pattern + r"T([01]\d|2[0-3]):\d{2}(:\d{2})?", re.ASCII)
_INSTANT = re.compile(_WALL.pattern + r"(?P<fraction>\.\d{1,6})?(Z|[+-]\d{2}:\d{2})", re.ASCII)
_PLAIN_KEY = re.compile(r"[\w-]+")

_DURATIONS = ("duration", "step", "buffer_before", "buffer_after", "minimum_notice", "offset")

JSON_NAMES = {"from_date": "from", "until_date": "until", **{name: f"{name}_minutes" for name in _DURATIONS}}
"""What a field of the dataclasses is called in a scenario, where the names differ."""


class Keys:
    """An object of the scenario whose keys were checked, and the place it stands at."""

    def __init__(self, data: object, place: str, *, required: Sequence[str] = (), optional: Sequence[str] = ()) -> None:
        if not isinstance(data, Mapping):
            raise InvalidInput(field=place or "scenario", reason=f"must be an object, not {checks.shown(data)}")
        self.data: Mapping[str, object] = data
        self._place = place
        if data.keys() - {*required, *optional}:
            known = (*required, *optional)
            key = next(key for key in data if key not in known)
            raise InvalidInput(field=self.place(key), reason=f"unknown key; the keys here are {', '.join(known)}")
        for key in required:
            if key not in data:
                raise InvalidInput(field=self.place(key), reason="is required and missing")

    def place(self, key: object) -> str:
        """Where the value of a key stands; a key that is no plain word is quoted."""
        name = key if isinstance(key, str) and _PLAIN_KEY.fullmatch(key) and len(key) < 60 else checks.shown(key)  # noqa: PLR2004 - as in an error
        return f"{self._place}.{name}" if self._place else str(name)

    def read(self, key: str, reader: Callable[[str, object], T]) -> T:
        """The value of a key that is there."""
        return reader(self.place(key), self.data[key])

    def given(self, **readers: Reader) -> dict[str, Any]:
        """The values of those keys that are there; the rest keeps its default."""
        return {key: self.read(key, reader) for key, reader in readers.items() if key in self.data}

    def each(self, key: str, reader: Callable[[str, object], T]) -> list[T]:
        """Every item of a list, none where the key is missing."""
        return [reader(f"{self.place(key)}[{i}]", item) for i, item in enumerate(self.list(key))]

    def list(self, key: str) -> Sequence[object]:
        """A list, empty where the key is missing."""
        value = self.data.get(key, ())
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise InvalidInput(field=self.place(key), reason=f"must be a list, not {checks.shown(value)}")
        return value

    def mapping(self, key: str) -> Keys:
        """An object whose keys are names of the scenario's own."""
        value = self.data[key]
        return Keys(value, self.place(key), optional=list(value) if isinstance(value, Mapping) else ())


def made(place: str, kind: Callable[..., T], names: Mapping[str, str] = JSON_NAMES, **values: Any) -> T:
    """Make one of the dataclasses; its errors get the place in the scenario and its names for the fields."""
    try:
        return kind(**values)
    except InvalidInput as error:
        field = re.sub(r"\w+", lambda word: names.get(word[0], word[0]), error.field)
        raise InvalidInput(field=f"{place}.{field}" if place else field, reason=error.reason) from error


def event_type(place: str, data: object, also: Mapping[str, Reader] = NOTHING) -> EventType:
    """An event type; `also` reads the keys that only a stored one has."""
    keys = Keys(
        data,
        place,
        required=("duration_minutes", "hosts"),
        optional=(
            "slug", "step_minutes", "buffer_before_minutes", "buffer_after_minutes", "minimum_notice_minutes",
            "booking_window", "limits", "align", "offset_minutes", "capacity", "timezone", *also,
        ),
    )  # fmt: skip
    durations: dict[str, Any] = {
        name: keys.read(f"{name}_minutes", minutes) for name in _DURATIONS if f"{name}_minutes" in keys.data
    }
    plain = keys.given(
        slug=checks.text, booking_window=_booking_window, align=_as_is, capacity=_as_is, timezone=_text, **also
    )
    groups = keys.each("hosts", _group)
    limits = keys.each("limits", _limit)
    return made(place, EventType, hosts=groups, limits=limits, **durations, **plain)


def _group(place: str, data: object) -> HostGroup:
    keys = Keys(data, place, required=("members",), optional=("need",))
    members = keys.each("members", checks.text)
    return made(place, HostGroup, members=members, **keys.given(need=_as_is))


def _limit(place: str, data: object) -> Limit:
    keys = Keys(data, place, required=("per",), optional=("count", "minutes"))
    return made(place, Limit, **keys.given(per=_as_is, count=integer, minutes=integer))


def _booking_window(place: str, data: object) -> BookingWindow:
    keys = Keys(data, place, optional=("days", "from", "until"))
    dates: dict[str, Any] = {f"{key}_date": keys.read(key, _date) for key in ("from", "until") if key in keys.data}
    return made(place, BookingWindow, **keys.given(days=integer), **dates)


def host_keys(data: object, place: str) -> Keys:
    """The keys of a host in a scenario, checked."""
    optional = ("weekly_hours", "overrides", "travel", "blocked", "bookings", "busy", "limits")
    return Keys(data, place, required=("timezone",), optional=optional)


def host(slug: str, keys: Keys, **also: Any) -> Host:
    """A host; what is no matter of its hours and limits is given beside them."""
    lists: dict[str, Any] = {
        "weekly_hours": keys.each("weekly_hours", _weekly_hours),
        "overrides": keys.each("overrides", _override),
        "travel": keys.each("travel", _travel),
        "limits": keys.each("limits", _limit),
    }
    place = keys.place("slug").removesuffix(".slug")
    checks.text(place, slug)
    return made(place, Host, slug=slug, timezone=keys.read("timezone", _text), **lists, **also)


def _weekly_hours(place: str, data: object) -> WeeklyHours:
    keys = Keys(data, place, required=("days", "start", "end"))
    days = keys.each("days", _weekday)
    return made(place, WeeklyHours, days=days, **keys.given(start=_as_is, end=_as_is))


def _override(place: str, data: object) -> Override:
    keys = Keys(data, place, required=("date", "hours"))
    windows = [
        Keys(window, f"{place}.hours[{i}]", required=("start", "end")) for i, window in enumerate(keys.list("hours"))
    ]
    pairs = [(window.read("start", _as_is), window.read("end", _as_is)) for window in windows]
    return made(place, Override, date=keys.read("date", _date), hours=pairs)


def _travel(place: str, data: object) -> Travel:
    keys = Keys(data, place, required=("from", "until", "timezone"))
    from_date, until_date = keys.read("from", _date), keys.read("until", _date)
    zone = keys.read("timezone", _text)
    return made(place, Travel, from_date=from_date, until_date=until_date, timezone=zone)


def blocked(place: str, data: object) -> BlockedPeriod:
    """A blocked period of dates, wall times or instants, by the form of its start."""
    keys = Keys(data, place, required=("start",), optional=("end", "rrule", "reason", "id"))
    values = keys.given(start=_moment, end=_moment, rrule=_text, reason=_text, id=_text)
    return made(place, BlockedPeriod, **values)


def _as_is(_place: str, value: object) -> Any:  # noqa: ANN401 - the dataclass that takes the value checks it
    return value


def _weekday(place: str, value: object) -> str:
    return checks.one_of(place, value, WEEKDAYS)


def _text(place: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidInput(field=place, reason=f"must be text, not {checks.shown(value)}")
    return value


def integer(place: str, value: object) -> int:
    """A whole number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInput(field=place, reason=f"must be a whole number, not {checks.shown(value)}")
    return value


def minutes(place: str, value: object) -> timedelta:
    """A whole number of minutes."""
    number = integer(place, value)
    if abs(number) > MAX_MINUTES:  # else the dataclass that takes it says what it takes, in its own bounds
        raise InvalidInput(field=place, reason=f"must be at most {MAX_MINUTES} minutes, not {checks.shown(number)}")
    return timedelta(minutes=number)


def instant(place: str, value: object) -> datetime:
    """An instant such as 2026-03-29T09:00:00Z."""
    if not isinstance(value, str) or not _INSTANT.fullmatch(value):
        known = isinstance(value, str) and (_WALL.fullmatch(value) or _DATE.fullmatch(value))
        lacks = ", which has no Z and no offset" if known else ""
        reason = f"must be an instant such as 2026-03-29T09:00:00Z, not {checks.shown(value)}{lacks}"
        raise InvalidInput(field=place, reason=reason)
    found = _parsed(place, value, datetime.fromisoformat)
    epoch_floor(place, found)
    return found


def _date(place: str, value: object) -> date:
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        raise InvalidInput(field=place, reason=f"must be a date such as 2026-03-29, not {checks.shown(value)}")
    return _parsed(place, value, date.fromisoformat)


def _moment(place: str, value: object) -> date:
    """A date, a wall time or an instant, by its form."""
    if isinstance(value, str) and _DATE.fullmatch(value):
        return _date(place, value)
    if isinstance(value, str) and _WALL.fullmatch(value):
        return _parsed(place, value, datetime.fromisoformat)
    if isinstance(value, str) and _INSTANT.fullmatch(value):
        return instant(place, value)
    forms = "a date (2026-03-29), a wall time (2026-03-29T09:00) or an instant (2026-03-29T09:00:00Z)"
    raise InvalidInput(field=place, reason=f"must be {forms}, not {checks.shown(value)}")


def _parsed(place: str, value: str, parse: Callable[[str], T]) -> T:
    try:
        return parse(value)
    except ValueError as error:
        raise InvalidInput(field=place, reason=f"{value} does not exist: {error}") from error
