"""What a change leaves behind: its outbox event, for whoever writes messages, and its entry in the audit trail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from nxsched.domain import checks
from nxsched.domain.bookings import Attendee, Booking
from nxsched.domain.event_types import EventType
from nxsched.domain.hosts import Host
from nxsched.domain.tenants import TenantDetails

PAYLOAD_FORMAT: Final = 1
"""The version of the payloads' shape; it rises when a reader has to change."""

KINDS: Final = (
    "booking.held", "booking.hold_expired", "booking.hold_released", "booking.created", "booking.confirmed",
    "booking.declined", "booking.rescheduled", "booking.reassigned", "booking.updated", "booking.cancelled",
    "booking.expired", "booking.completed", "booking.no_show",
)  # fmt: skip
"""The kinds of events that changes leave; `nxsched/schemas` has the shape of each."""

REMINDER: Final = "booking.reminder"
"""The kind of what comes beside them, when its time has come."""

_AUDITED: Final = ("status", "start", "end", "hosts", "attendee", "seats", "answers", "location", "metadata",
    "reference", "expires_at", "sequence", "assigned_because")  # fmt: skip
"""The fields whose changes the audit trail holds."""


def payload(
    booking: Booking,
    event_type: EventType,
    tenant: TenantDetails,
    hosts: Sequence[Mapping[str, Any]],
    *,
    before: Booking | None = None,
    hosts_before: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """What an event says: enough to write a message without another query, and no secret.

    `previous` is what the booking was `before`. Who did it, and why, is added where the change is recorded.
    """
    return {
        "format": PAYLOAD_FORMAT,
        "tenant": {"id": tenant.id, "name": tenant.name, "sender": tenant.sender},
        "event_type": {
            "slug": event_type.slug,
            "name": event_type.name,
            "description": event_type.description,
            "timezone": event_type.timezone,
            "questions": [{"key": one.key, "label": one.label} for one in event_type.questions],
        },
        "booking": written(booking),
        "hosts": [dict(one) for one in hosts],
        "former_hosts": [dict(one) for one in hosts_before if one["slug"] not in booking.hosts],
        "previous": before and _before(before),
    }


def _before(booking: Booking) -> dict[str, Any]:
    """What people have to be told of a booking as it was."""
    told = written(booking)
    return {field: told[field] for field in ("status", "start", "end", "hosts", "location")}


def party(host: Host) -> dict[str, Any]:
    """A host as an event tells of them."""
    return {"slug": host.slug, "name": host.name, "email": host.email, "timezone": host.timezone}


def written(booking: Booking) -> dict[str, Any]:
    """A booking as JSON; instants as `2026-03-29T09:00:00Z`."""
    return {
        "id": booking.id,
        "status": booking.status.value,
        "start": plain(booking.start),
        "end": plain(booking.end),
        "hosts": [*booking.hosts],
        "attendee": plain(booking.attendee),
        "seats": booking.seats,
        "answers": booking.answers,
        "location": booking.location,
        "metadata": booking.metadata,
        "reference": booking.reference,
        "series_id": booking.series_id,
        "organizer": booking.organizer,
        "uid": booking.uid,
        "sequence": booking.sequence,
        "version": booking.version,
        "assigned_because": booking.assigned_because,
        "created_at": plain(booking.created_at),
        "expires_at": plain(booking.expires_at),
    }


def changes(before: Booking | None, after: Booking) -> dict[str, tuple[Any, Any]]:
    """The fields that differ, each before and after; of a new booking those that hold something."""
    found: dict[str, tuple[Any, Any]] = {}
    for field in _AUDITED:
        old = getattr(before, field) if before is not None else None
        new = getattr(after, field)
        same = checks.same_json(old, new) if isinstance(new, Mapping) else old == new  # in JSON, 1 is not true
        if not same and not (before is None and not new):
            found[field] = plain(old), plain(new)
    return found


def plain(value: object) -> Any:  # noqa: ANN401 - JSON
    """A field of a booking as JSON has it."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()[: -len("+00:00")] + "Z"
    if isinstance(value, Attendee):
        return {
            "name": value.name,
            "email": value.email,
            "timezone": value.timezone,
            "reference": value.reference,
        }
    return value
