"""Scenarios, the JSON form of a question: read one into a `SlotQuery`, write the answer back."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar

from nxsched.domain import checks, forms
from nxsched.domain.availability import BookedTime, Slot, busy_seconds
from nxsched.errors import InvalidInput
from nxsched.slots.query import SlotQuery

T = TypeVar("T")


def load(data: object) -> SlotQuery:
    """Read a scenario: a dict as `json.loads` gives it, in the form that `docs/how-to/scenarios.md` describes.

    `name` and `expected`, which exchanged cases carry, are left out of the question.
    Raises `InvalidInput`, whose `field` is the place: `hosts.ada.weekly_hours[1].end`.
    """
    top = forms.Keys(
        data, "", required=("now", "from", "until", "event_type", "hosts"), optional=("closures", "name", "expected")
    )
    event_type = forms.event_type("event_type", top.data["event_type"])
    hosts = top.mapping("hosts")
    members = {slug: forms.host_keys(hosts.data[slug], hosts.place(slug)) for slug in hosts.data}
    return forms.made(
        "",
        SlotQuery,
        {"end": "until"},  # all else is said by those who read it
        event_type=event_type,
        start=top.read("from", forms.instant),
        end=top.read("until", forms.instant),
        now=top.read("now", forms.instant),
        closures=top.each("closures", forms.blocked),
        hosts=[forms.host(slug, keys) for slug, keys in members.items()],
        blocked={slug: keys.each("blocked", forms.blocked) for slug, keys in members.items()},
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


def _busy(place: str, data: object) -> tuple[datetime, datetime]:
    start, end = checks.pair(place, data)
    found = forms.instant(f"{place}[0]", start), forms.instant(f"{place}[1]", end)
    busy_seconds(place, found)
    return found


def _bookings(hosts: Mapping[str, forms.Keys]) -> list[BookedTime]:
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
                    name = forms.JSON_NAMES.get(field, field)
                    reason = f"differs from {first}, which has the same id {checks.shown(values['id'])}"
                    raise InvalidInput(field=f"{place}.{name}", reason=reason)
            if slug not in slugs:
                slugs.append(slug)
    return [forms.made(place, BookedTime, hosts=slugs, **values) for place, values, slugs in found.values()]


def _booking(place: str, data: object) -> dict[str, Any]:
    optional = ("id", "event_type", "buffer_before_minutes", "buffer_after_minutes", "seats")
    keys = forms.Keys(data, place, required=("start", "end"), optional=optional)
    values = keys.given(id=checks.text, event_type=checks.text, start=forms.instant, end=forms.instant)
    values |= keys.given(seats=forms.integer)
    for name in ("buffer_before", "buffer_after"):
        values[name] = keys.read(f"{name}_minutes", forms.minutes) if f"{name}_minutes" in keys.data else timedelta()
    values.setdefault("seats", 1)
    forms.made(place, BookedTime, hosts=["-"], **values)
    return values


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
