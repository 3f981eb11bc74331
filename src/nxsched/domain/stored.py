"""Hosts, event types and blocked periods as the database holds them: scenarios' JSON form, and what only they have."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from nxsched.domain import checks, forms
from nxsched.domain.availability import BlockedPeriod
from nxsched.domain.event_types import EventType, Limit
from nxsched.domain.hosts import Host
from nxsched.domain.policies import Policies
from nxsched.domain.preferences import MessagePreferences
from nxsched.domain.questions import Question
from nxsched.domain.reminders import DEFAULT, Reminder
from nxsched.domain.strategies import Strategy

_KEPT: Final = 8192
"""Texts whose meaning is kept in memory: hosts and event types are read with every question, and change rarely."""


@lru_cache(maxsize=_KEPT)
def read_host(slug: str, name: str, email: str | None, settings: str, *, archived: bool) -> Host:
    """A host from its row, but for its attributes, which no rule looks at."""
    keys = forms.host_keys(json.loads(settings), f"hosts.{slug}")
    return forms.host(slug, keys, name=name, email=email, archived=archived)


def write_host(host: Host) -> str:
    """What the calculator needs of a host."""
    settings = {
        "timezone": host.timezone,
        "weekly_hours": [{"days": [*one.days], "start": one.start, "end": one.end} for one in host.weekly_hours],
        "overrides": [
            {"date": one.date.isoformat(), "hours": [{"start": start, "end": end} for start, end in one.hours]}
            for one in host.overrides
        ],
        "travel": [
            {"from": one.from_date.isoformat(), "until": one.until_date.isoformat(), "timezone": one.timezone}
            for one in host.travel
        ],
        "limits": _limits(host.limits),
    }
    return json.dumps({key: value for key, value in settings.items() if value})


@lru_cache(maxsize=_KEPT)
def read_event_type(slug: str, name: str, settings: str, *, archived: bool) -> EventType:
    """An event type from its row."""
    found = {"slug": slug, "name": name, "archived": archived, **json.loads(settings)}
    return forms.event_type(f"event_types.{slug}", found, _ALSO)


def write_event_type(event: EventType) -> str:
    """All of an event type but its slug and its name."""
    window = event.booking_window
    settings = {
        "duration_minutes": _minutes(event.duration),
        "durations": [_minutes(one) for one in event.durations],
        "step_minutes": _minutes_or_none(event.step),
        "buffer_before_minutes": _minutes(event.buffer_before),
        "buffer_after_minutes": _minutes(event.buffer_after),
        "minimum_notice_minutes": _minutes(event.minimum_notice),
        "booking_window": _given(
            {
                "days": window.days,
                "from": window.from_date and window.from_date.isoformat(),
                "until": window.until_date and window.until_date.isoformat(),
            }
        ),
        "limits": _limits(event.limits),
        "align": event.align,
        "offset_minutes": _minutes(event.offset),
        "capacity": event.capacity,
        "timezone": event.timezone,
        "hosts": [{"members": [*group.members], "need": group.need} for group in event.groups],
        "description": event.description,
        "location": event.location,
        "questions": [
            _given(
                {
                    "key": one.key,
                    "label": one.label,
                    "kind": one.kind,
                    "required": one.required,
                    "choices": [*one.choices] or None,
                }
            )
            for one in event.questions
        ],
        "requires_approval": event.requires_approval,
        "policies": _given(
            {
                "cancel_notice_minutes": _minutes_or_none(event.policies.cancel_notice),
                "reschedule_notice_minutes": _minutes_or_none(event.policies.reschedule_notice),
                "most_moves": event.policies.most_moves,
                "most_holds": event.policies.most_holds,
                "most_upcoming": event.policies.most_upcoming,
                "roles": [*event.policies.roles],
            }
        ),
        "strategy": _strategy(event.chosen_by),
        "reminders": None if event.reminders == DEFAULT else [asdict(one) for one in event.reminders],
    }
    return json.dumps(_given(settings))


@lru_cache(maxsize=_KEPT)
def read_blocked(id_: str, definition: str) -> BlockedPeriod:
    """A blocked period from its row."""
    return forms.blocked(f"blocked.{id_}", {"id": id_, **json.loads(definition)})


def write_blocked(period: BlockedPeriod) -> str:
    """A blocked period, but for its id."""
    found = {
        "start": _moment(period.start),
        "end": period.end and _moment(period.end),
        "rrule": period.rrule,
        "reason": period.reason,
    }
    return json.dumps(_given(found))


def read_preferences(definition: Mapping[str, Any]) -> MessagePreferences:
    """What somebody has said of messages."""
    reminders = definition.get("reminders")
    return MessagePreferences(
        channels=definition.get("channels"),
        reminders=None if reminders is None else [Reminder(**one) for one in reminders],
        locale=definition.get("locale"),
    )


def write_preferences(preferences: MessagePreferences) -> str:
    """What of it was said."""
    return json.dumps(_given(asdict(preferences)))


def _moment(value: date) -> str:
    """A date, a wall time or an instant, in a form that tells which."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return value.isoformat()


def _given(values: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in values.items() if value is not None}


def _limits(limits: Sequence[Limit]) -> list[dict[str, object]]:
    return [_given({"per": one.per, "count": one.count, "minutes": one.minutes}) for one in limits]


def _strategy(strategy: Strategy) -> dict[str, object] | None:
    """`None` where nothing was chosen."""
    if strategy == Strategy():
        return None
    return {"by": strategy.by, "per": strategy.per, "weights": dict(strategy.weights)}


def _minutes(value: timedelta) -> int:
    return int(value.total_seconds()) // 60


def _minutes_or_none(value: timedelta | None) -> int | None:
    return None if value is None else _minutes(value)


def _as_is(_place: str, value: object) -> object:
    return value


def _durations(place: str, value: object) -> object:
    return [forms.minutes(place, one) for one in checks.items(place, value, int)]


def _questions(place: str, value: object) -> object:
    return [Question(**one) for one in checks.items(place, value, dict)]


def _policies(place: str, value: Any) -> object:  # noqa: ANN401 - JSON that we have written
    read = {key.removesuffix("_minutes"): one for key, one in value.items()}
    for key in ("cancel_notice", "reschedule_notice"):
        if key in read:
            read[key] = forms.minutes(place, read[key])
    return Policies(**read)


def _reminders(place: str, value: object) -> object:
    return [Reminder(**one) for one in checks.items(place, value, dict)]


def _chosen_by(_place: str, value: Any) -> object:  # noqa: ANN401 - JSON that we have written
    return Strategy(**value)


_ALSO: Final[Mapping[str, forms.Reader]] = {
    "name": _as_is,
    "archived": _as_is,
    "durations": _durations,
    "description": _as_is,
    "location": _as_is,
    "questions": _questions,
    "requires_approval": _as_is,
    "policies": _policies,
    "strategy": _chosen_by,
    "reminders": _reminders,
}
