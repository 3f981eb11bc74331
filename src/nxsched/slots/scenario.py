"""Scenarios, the JSON form of a question: read one into a `SlotQuery`, write the answer back."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, TypeVar

from nxsched.domain import checks
from nxsched.domain.availability import BlockedPeriod, BookedTime, Slot, busy_seconds
from nxsched.domain.bounds import MAX_MINUTES
from nxsched.domain.event_types import BookingWindow, EventType, HostGroup, Limit
from nxsched.domain.hosts import WEEKDAYS, Host, Override, Travel, WeeklyHours
from nxsched.domain.instants import epoch_floor
from nxsched.errors import InvalidInput
from nxsched.slots.query import SlotQuery

T = TypeVar("T")

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_WALL = re.compile(_DATE.pattern + r"T([01]\d|2[0-3]):\d{2}(:\d{2})?", re.ASCII)
_INSTANT = re.compile(_WALL.pattern + r"(?P<fraction>\.\d{1,6})?(Z|[+-]\d{2}:\d{2})", re.ASCII)
_PLAIN_KEY = re.compile(r"[\w-]+")

_JSON_NAMES = {
    "from_date": "from",
    "until_date": "until",
    **{name: f"{name}_minutes" for name in (
        "duration", "step", "buffer_before", "buffer_after", "minimum_notice", "offset",
    )},
}  # fmt: skip
"""What a field of the dataclasses is called in a scenario, where the names differ."""


def load(data: object) -> SlotQuery:
    """Read a scenario: a dict as `json.loads` gives it, in the form that `docs/how-to/scenarios.md` describes.

    `name` and `expected`, which exchanged cases carry, are left out of the question.
    Raises `InvalidInput`, whose `field` is the place: `hosts.ada.weekly_hours[1].end`.
    """
    top = _Keys(
        data, "", required=("now", "from", "until", "event_type", "hosts"), optional=("closures", "name", "expected")
    )
    event_type = _event_type(top, "event_type")
    hosts = top.mapping("hosts")
    members = {slug: _host_keys(hosts.data[slug], hosts.place(slug)) for slug in hosts.data}
    return _made(
        "",
        SlotQuery,
        {"end": "until"},  # all else is said by those who read it
        event_type=event_type,
        start=top.read("from", _instant),
        end=top.read("until", _instant),
        now=top.read("now", _instant),
        closures=top.each("closures", _blocked),
        hosts=[_host(slug, keys) for slug, keys in members.items()],
        blocked={slug: keys.each("blocked", _blocked) for slug, keys in members.items()},
        bookings=_bookings(members),
        busy={slug: keys.each("busy", _busy) for slug, keys in members.items()},
    )


def dump(slots: Iterable[Slot]) -> list[dict[str, object]]:
    """The answer as JSON: start, end, hosts and seats left of each slot, instants as `2026-03-29T09:00:00Z`."""
    return [
        {"start": _written(start), "end": _written(end), "hosts": list(hosts), "seats_left": seats_left}
        for start, end, hosts, seats_left in slots
    ]


def _written(value: datetime) -> str:
    return value.replace(tzinfo=None).isoformat() + "Z"


class _Keys:
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

    def given(self, **readers: Callable[[str, object], object]) -> dict[str, Any]:
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

    def mapping(self, key: str) -> _Keys:
        """An object whose keys are names of the scenario's own."""
        value = self.data[key]
        return _Keys(value, self.place(key), optional=list(value) if isinstance(value, Mapping) else ())


def _made(place: str, kind: Callable[..., T], names: Mapping[str, str] = _JSON_NAMES, **values: Any) -> T:
    """Make one of the dataclasses; its errors get the place in the scenario and its names for the fields."""
    try:
        return kind(**values)
    except InvalidInput as error:
        field = re.sub(r"\w+", lambda word: names.get(word[0], word[0]), error.field)
        raise InvalidInput(field=f"{place}.{field}" if place else field, reason=error.reason) from error


def _event_type(top: _Keys, key: str) -> EventType:
    keys = _Keys(
        top.data[key],
        key,
        required=("duration_minutes", "hosts"),
        optional=(
            "slug", "step_minutes", "buffer_before_minutes", "buffer_after_minutes", "minimum_notice_minutes",
            "booking_window", "limits", "align", "offset_minutes", "capacity", "timezone",
        ),
    )  # fmt: skip
    minutes: dict[str, Any] = {
        name: keys.read(f"{name}_minutes", _minutes)
        for name in ("duration", "step", "buffer_before", "buffer_after", "minimum_notice", "offset")
        if f"{name}_minutes" in keys.data
    }
    plain = keys.given(slug=checks.text, booking_window=_booking_window, align=_as_is, capacity=_as_is, timezone=_text)
    groups = keys.each("hosts", _group)
    limits = keys.each("limits", _limit)
    return _made(key, EventType, hosts=groups, limits=limits, **minutes, **plain)


def _group(place: str, data: object) -> HostGroup:
    keys = _Keys(data, place, required=("members",), optional=("need",))
    members = keys.each("members", checks.text)
    return _made(place, HostGroup, members=members, **keys.given(need=_as_is))


def _limit(place: str, data: object) -> Limit:
    keys = _Keys(data, place, required=("per",), optional=("count", "minutes"))
    return _made(place, Limit, **keys.given(per=_as_is, count=_integer, minutes=_integer))


def _booking_window(place: str, data: object) -> BookingWindow:
    keys = _Keys(data, place, optional=("days", "from", "until"))
    dates: dict[str, Any] = {f"{key}_date": keys.read(key, _date) for key in ("from", "until") if key in keys.data}
    return _made(place, BookingWindow, **keys.given(days=_integer), **dates)


def _host_keys(data: object, place: str) -> _Keys:
    optional = ("weekly_hours", "overrides", "travel", "blocked", "bookings", "busy", "limits")
    return _Keys(data, place, required=("timezone",), optional=optional)


def _host(slug: str, keys: _Keys) -> Host:
    lists: dict[str, Any] = {
        "weekly_hours": keys.each("weekly_hours", _weekly_hours),
        "overrides": keys.each("overrides", _override),
        "travel": keys.each("travel", _travel),
        "limits": keys.each("limits", _limit),
    }
    place = keys.place("slug").removesuffix(".slug")
    checks.text(place, slug)
    return _made(place, Host, slug=slug, timezone=keys.read("timezone", _text), **lists)


def _weekly_hours(place: str, data: object) -> WeeklyHours:
    keys = _Keys(data, place, required=("days", "start", "end"))
    days = keys.each("days", _weekday)
    return _made(place, WeeklyHours, days=days, **keys.given(start=_as_is, end=_as_is))


def _override(place: str, data: object) -> Override:
    keys = _Keys(data, place, required=("date", "hours"))
    windows = [
        _Keys(window, f"{place}.hours[{i}]", required=("start", "end")) for i, window in enumerate(keys.list("hours"))
    ]
    pairs = [(window.read("start", _as_is), window.read("end", _as_is)) for window in windows]
    return _made(place, Override, date=keys.read("date", _date), hours=pairs)


def _travel(place: str, data: object) -> Travel:
    keys = _Keys(data, place, required=("from", "until", "timezone"))
    from_date, until_date = keys.read("from", _date), keys.read("until", _date)
    zone = keys.read("timezone", _text)
    return _made(place, Travel, from_date=from_date, until_date=until_date, timezone=zone)


def _blocked(place: str, data: object) -> BlockedPeriod:
    keys = _Keys(data, place, required=("start",), optional=("end", "rrule", "reason", "id"))
    values = keys.given(start=_moment, end=_moment, rrule=_text, reason=_text, id=_text)
    return _made(place, BlockedPeriod, **values)


def _busy(place: str, data: object) -> tuple[datetime, datetime]:
    start, end = checks.pair(place, data)
    found = _instant(f"{place}[0]", start), _instant(f"{place}[1]", end)
    busy_seconds(place, found)
    return found


def _bookings(hosts: Mapping[str, _Keys]) -> list[BookedTime]:
    """The bookings of all hosts; those that share an id are one, and must agree (rule 22)."""
    found: dict[object, tuple[str, dict[str, Any], list[str]]] = {}
    for slug, keys in hosts.items():
        for i, data in enumerate(keys.list("bookings")):
            place = f"{keys.place('bookings')}[{i}]"
            values = _booking(place, data)
            first, known, slugs = found.setdefault(
                ("id", values["id"]) if "id" in values else place, (place, values, [])
            )
            for field in sorted(known.keys() | values.keys()):
                if known.get(field) != values.get(field):
                    name = _JSON_NAMES.get(field, field)
                    reason = f"differs from {first}, which has the same id {checks.shown(values['id'])}"
                    raise InvalidInput(field=f"{place}.{name}", reason=reason)
            if slug not in slugs:
                slugs.append(slug)
    return [_made(place, BookedTime, hosts=slugs, **values) for place, values, slugs in found.values()]


def _booking(place: str, data: object) -> dict[str, Any]:
    optional = ("id", "event_type", "buffer_before_minutes", "buffer_after_minutes", "seats")
    keys = _Keys(data, place, required=("start", "end"), optional=optional)
    values = keys.given(id=checks.text, event_type=checks.text, start=_instant, end=_instant, seats=_integer)
    for name in ("buffer_before", "buffer_after"):
        values[name] = keys.read(f"{name}_minutes", _minutes) if f"{name}_minutes" in keys.data else timedelta()
    values.setdefault("seats", 1)
    _made(place, BookedTime, hosts=["-"], **values)
    return values


def _as_is(_place: str, value: object) -> Any:  # noqa: ANN401 - the dataclass that takes the value checks it
    return value


def _weekday(place: str, value: object) -> str:
    return checks.one_of(place, value, WEEKDAYS)


def _text(place: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidInput(field=place, reason=f"must be text, not {checks.shown(value)}")
    return value


def _integer(place: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInput(field=place, reason=f"must be a whole number, not {checks.shown(value)}")
    return value


def _minutes(place: str, value: object) -> timedelta:
    number = _integer(place, value)
    if abs(number) > MAX_MINUTES:  # else the dataclass that takes it says what it takes, in its own bounds
        raise InvalidInput(field=place, reason=f"must be at most {MAX_MINUTES} minutes, not {checks.shown(number)}")
    return timedelta(minutes=number)


def _instant(place: str, value: object) -> datetime:
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
        return _instant(place, value)
    forms = "a date (2026-03-29), a wall time (2026-03-29T09:00) or an instant (2026-03-29T09:00:00Z)"
    raise InvalidInput(field=place, reason=f"must be {forms}, not {checks.shown(value)}")


def _parsed(place: str, value: str, parse: Callable[[str], T]) -> T:
    try:
        return parse(value)
    except ValueError as error:
        raise InvalidInput(field=place, reason=f"{value} does not exist: {error}") from error


def decode(text: str) -> object:
    """Decode the JSON of one scenario; a key that is written twice, which JSON would lose, is refused."""
    if not text.strip():
        raise InvalidInput(field="scenario", reason="is empty")
    try:
        return json.loads(text, object_pairs_hook=_no_twins, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        several = "; a file of one scenario a line is JSON Lines" if error.msg == "Extra data" else ""
        reason = f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}{several}"
        raise InvalidInput(field="scenario", reason=reason) from error
    except RecursionError as error:
        raise InvalidInput(field="scenario", reason="is nested too deeply") from error
    except ValueError as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(field="scenario", reason=f"is not JSON that can be read: {error}") from error


def _no_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise InvalidInput(field="scenario", reason=f"has the key {checks.shown(twice)} twice in one object")
    return found


def _no_constant(name: str) -> object:
    raise InvalidInput(field="scenario", reason=f"holds {name}, which is no JSON")
