"""What a template can name: an event's payload as plain words, in the reader's own language and time zone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from nxsched.domain import checks
from nxsched.domain.events import REMINDER
from nxsched.domain.messages import fallbacks
from nxsched.domain.preferences import ATTENDEE, HOST
from nxsched.errors import InvalidInput, MissingExtra
from nxsched.notifications.catalog import words

try:
    import pendulum
except ModuleNotFoundError as _missing:
    raise MissingExtra(what="Rendering messages", extra="messages") from _missing

LINKS: Final = ("manage", "join", "unsubscribe")
"""The links that an application may give to a message."""


def recipients(payload: Mapping[str, Any]) -> list[str]:
    """Who has to hear of an event: `attendee`, and hosts as `host:` and slug; those who have just lost it too."""
    if reminder := payload.get("reminder"):
        return [str(reminder["recipient"])]
    found = [ATTENDEE] if payload["booking"]["attendee"] else []
    return [*found, *(f"{HOST}{one['slug']}" for one in (*payload["hosts"], *payload["former_hosts"]))]


def recipient(payload: Mapping[str, Any], to: str) -> Mapping[str, Any]:
    """A recipient as the payload knows them. Raises `InvalidInput`."""
    if to == ATTENDEE:
        if payload["booking"]["attendee"]:
            return dict(payload["booking"]["attendee"])
        raise InvalidInput(field="to", reason="the booking has no attendee, or not any more")
    for one in (*payload["hosts"], *payload["former_hosts"]):
        if to == f"{HOST}{one['slug']}":
            return dict(one)
    raise InvalidInput(field="to", reason=f"must be attendee, or host: and the slug of one, not {checks.shown(to)}")


def context(payload: Mapping[str, Any], to: str, locale: str, links: Mapping[str, str]) -> dict[str, Any]:
    """Everything that a template can name, as texts, lists and dicts of them."""
    who = recipient(payload, to)
    booking, previous = payload["booking"], payload["previous"]
    zone = _zone(payload, who)
    former = to in {f"{HOST}{one['slug']}" for one in payload["former_hosts"]}
    said = words(locale)
    found: dict[str, Any] = {
        "tenant": {"id": payload["tenant"]["id"], "name": payload["tenant"]["name"]},
        "event_type": {
            "slug": payload["event_type"]["slug"],
            "name": payload["event_type"]["name"] or payload["event_type"]["slug"],
            "description": payload["event_type"]["description"],
        },
        "booking": {
            **{name: booking[name] for name in ("id", "status", "seats", "location", "reference")},
            **_times(booking, zone, locale),
        },
        "previous": previous
        and {**_times(previous, zone, locale), "location": previous["location"], "status": previous["status"]},
        "attendee": booking["attendee"]
        and {name: booking["attendee"][name] for name in ("name", "email", "reference", "timezone")},
        "hosts": [{"slug": one["slug"], "name": _name(one), "email": one["email"]} for one in payload["hosts"]],
        "former_hosts": [
            {"slug": one["slug"], "name": _name(one), "email": one["email"]} for one in payload["former_hosts"]
        ],
        "answers": _answers(payload, said),
        "reason": payload["reason"],
        "actor": payload["actor"] and {"role": payload["actor"]["role"], "name": payload["actor"]["name"]},
        "recipient": {"name": _name(who), "email": who["email"], "former": former},
        "reminder": _reminder(payload, locale),
        "links": {name: links.get(name) for name in LINKS},
    }
    found["greeting"] = said["greeting"].format(name=found["recipient"]["name"])
    found["details"] = _details(found, to, said)
    return found


def _name(who: Mapping[str, Any]) -> str:
    return str(who["name"] or who.get("slug") or "")


def _zone(payload: Mapping[str, Any], who: Mapping[str, Any]) -> str:
    """The reader's own time zone, or what comes next to it."""
    hosts = [one["timezone"] for one in (*payload["hosts"], *payload["former_hosts"])]
    return str(next(one for one in (who["timezone"], payload["event_type"]["timezone"], *hosts, "UTC") if one))


def _times(booking: Mapping[str, Any], zone: str, locale: str) -> dict[str, Any]:
    start, end = (pendulum.instance(datetime.fromisoformat(booking[name])) for name in ("start", "end"))
    length = pendulum.duration(seconds=(end - start).total_seconds())
    return {
        "start": _moment(start, zone, locale),
        "end": _moment(end, zone, locale),
        "duration": length.in_words(locale=_pendulums(locale)),
    }


def _moment(at: pendulum.DateTime, zone: str, locale: str) -> dict[str, str]:
    local, name = at.in_timezone(zone), _pendulums(locale)
    return {
        "weekday": local.format("dddd", locale=name),
        "date": local.format("LL", locale=name),
        "time": local.format("LT", locale=name),
        "timezone": zone,
        "iso": local.isoformat(),
    }


def _pendulums(locale: str) -> str:
    """The name of a language that pendulum knows."""
    for one in fallbacks(locale):
        name = one.replace("-", "_").lower()
        try:
            pendulum.locale(name)
        except ValueError:
            continue
        return name
    return "en"


def _answers(payload: Mapping[str, Any], said: Mapping[str, str]) -> list[dict[str, str]]:
    """Questions that were answered, in their order; and answers to questions that are not asked any more."""
    given = dict(payload["booking"]["answers"])
    labels = {one["key"]: one["label"] for one in payload["event_type"]["questions"]}
    keys = [*(key for key in labels if key in given), *(key for key in given if key not in labels)]
    return [{"question": labels.get(key, key), "answer": _answer(given[key], said)} for key in keys]


def _answer(value: object, said: Mapping[str, str]) -> str:
    if isinstance(value, bool):
        return said["yes"] if value else said["no"]
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


def _reminder(payload: Mapping[str, Any], locale: str) -> dict[str, str] | None:
    """How long before, in words: `P1DT2H` as `1 day 2 hours`."""
    reminder = payload.get("reminder")
    if reminder is None:
        return None
    parts = re.fullmatch(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?)?", reminder["before"])
    days, hours, minutes = (int(one or 0) for one in (parts.groups() if parts else (0, 0, 0)))
    length = pendulum.duration(days=days, hours=hours, minutes=minutes)
    return {"before": length.in_words(locale=_pendulums(locale))}


def _details(found: Mapping[str, Any], to: str, said: Mapping[str, str]) -> str:
    """When, where and with whom, a line each."""
    booking = found["booking"]
    start, end = booking["start"], booking["end"]
    until = end["time"] if end["date"] == start["date"] else f"{end['date']}, {end['time']}"
    span = f"{start['time']} \N{EN DASH} {until}"
    lines = [
        (said["what"], found["event_type"]["name"]),
        (said["when"], f"{start['weekday']}, {start['date']}, {span} ({start['timezone']})"),
        (said["where"], booking["location"]),
    ]
    if to == ATTENDEE:
        lines.append((said["with"], ", ".join(one["name"] for one in found["hosts"])))
    elif found["attendee"]:
        email = found["attendee"]["email"]
        lines.append((said["who"], found["attendee"]["name"] + (f" <{email}>" if email else "")))
    lines += [(one["question"], one["answer"]) for one in found["answers"]] if to != ATTENDEE else []
    lines.append((said["reason"], found["reason"]))
    if to == ATTENDEE:  # who has the link is the attendee
        lines.append((said["manage"], found["links"]["manage"]))
    lines.append((said["join"], found["links"]["join"]))
    if found["reminder"]:
        lines.append((said["unsubscribe"], found["links"]["unsubscribe"]))
    return "\n".join(f"{name}: {value}" for name, value in lines if value)


_HOST_OF_SAMPLE: Final = {"slug": "ada", "name": "Ada", "email": "ada@example.test", "timezone": "Europe/London"}


def sample(kind: str, *, whole: bool, to: str = ATTENDEE) -> dict[str, Any]:
    """The payload of an event that has everything, or as little as it may: to try a template with."""
    booking = {
        "id": "00000000-0000-7000-8000-000000000000", "status": "confirmed", "seats": 1,
        "start": "2026-03-30T08:00:00Z", "end": "2026-03-30T08:30:00Z", "hosts": ["ada"], "answers": {},
        "location": None, "reference": None,
        "attendee": {"name": "Grace Hopper", "email": None, "timezone": None, "reference": None},
    }  # fmt: skip
    payload: dict[str, Any] = {
        "tenant": {"id": "acme", "name": "Acme Ltd", "sender": "bookings@example.test"},
        "event_type": {"slug": "visit", "name": "Visit", "description": "", "timezone": None, "questions": []},
        "booking": booking, "hosts": [_HOST_OF_SAMPLE], "former_hosts": [], "previous": None, "actor": None,
        "reason": None,
    }  # fmt: skip
    if whole:
        booking["attendee"] = {
            "name": "Grace Hopper", "email": "grace@example.test", "timezone": "America/New_York", "reference": "7",
        }  # fmt: skip
        booking |= {"location": "Room 1", "reference": "order-7", "answers": {"why": "A cough"}}
        payload |= {
            "former_hosts": [{**_HOST_OF_SAMPLE, "slug": "bob", "name": "Bob"}],
            "previous": {**booking, "start": "2026-03-27T09:00:00Z", "end": "2026-03-27T09:30:00Z"},
            "actor": {"role": "staff", "id": "1", "name": "Eve"}, "reason": "A reason",
        }  # fmt: skip
        payload["event_type"]["questions"] = [{"key": "why", "label": "Why do you come?"}]
    if kind == REMINDER:
        payload["reminder"] = {"recipient": ATTENDEE if to == ATTENDEE else "host:ada", "before": "PT1H"}
    return payload
