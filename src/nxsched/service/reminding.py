"""Reminders: which a booking gets, and whether one still fits when its time has come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection

from nxsched.domain.bookings import Booking, BookingStatus
from nxsched.domain.event_types import EventType
from nxsched.domain.events import payload, plain
from nxsched.domain.outbox import OutboxEvent
from nxsched.domain.preferences import ATTENDEE, HOST, NOTHING_SAID, of_recipient
from nxsched.domain.reminders import Reminder, ScheduledReminder
from nxsched.service import queries
from nxsched.service.ids import new_id
from nxsched.service.tools import Tools
from nxsched.store import preferences
from nxsched.store import reminders as store
from nxsched.store.standing import lock_booking


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A reminder whose time has come, and for how long after it may still be sent."""

    event: OutboxEvent
    grace: timedelta


def wanted(booking: Booking, event_type: EventType, parties: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The reminders of a booking that stands, with those that are past; as rows of JSON.

    They are those of its event type. What somebody prefers is looked at when they are written, and when they go out.
    """
    if booking.status is not BookingStatus.CONFIRMED:
        return []
    return [
        {
            "id": new_id(),
            "recipient": recipient,
            "who": of_recipient(recipient, booking.attendee.email if booking.attendee else None),
            "timezone": timezone,
            "before": one.before,
            "due_at": store.due(booking.start, timezone, one).isoformat(),
        }
        for one in event_type.reminders
        for recipient, timezone in _recipients(booking, event_type, parties, one)
    ]


def _recipients(
    booking: Booking, event_type: EventType, parties: Sequence[Mapping[str, Any]], reminder: Reminder
) -> Iterator[tuple[str, str]]:
    """Who is reminded, and on whose wall clock: an attendee's that nobody knows is that of the event type."""
    if reminder.to == "hosts":
        yield from ((f"{HOST}{one['slug']}", one["timezone"]) for one in parties)
    elif booking.attendee is not None:
        yield ATTENDEE, booking.attendee.timezone or event_type.timezone or parties[0]["timezone"]


def look(connection: Connection, asked: Look, tools: Tools) -> OutboxEvent | str:
    """The event of a reminder as its booking is now, or why it is not sent."""
    event = asked.event
    standing = lock_booking(connection, tools.tenant, event.booking_id)
    if standing is None or standing.booking.version != event.version:
        return "the booking has changed"
    tools = tools.at(standing.told)
    booking = standing.booking
    if booking.status is not BookingStatus.CONFIRMED:
        return f"the booking is {booking.status.value}"
    if booking.start <= tools.now:
        return "too late: the booking has begun"
    if tools.now - event.occurred_at > asked.grace:
        return f"too late: it was due at {plain(event.occurred_at)}"
    reminder = dict(event.payload["reminder"])
    who = of_recipient(reminder["recipient"], booking.attendee.email if booking.attendee else None)
    said = preferences.fetch(connection, tools.tenant, who) if who else NOTHING_SAID
    if not said.wants_reminder(reminder["before"], wished=reminder.pop("wished")):
        return "not wanted"
    told = payload(booking, standing.event_type, standing.tenant, standing.parties)
    whom = told["booking"]["attendee"]
    if reminder["recipient"] != ATTENDEE:
        slug = reminder["recipient"].removeprefix(HOST)
        whom = next(one for one in told["hosts"] if one["slug"] == slug)
    return replace(
        event,
        payload={**told, "actor": None, "reason": None, "reminder": {**reminder, "to": whom}},
        read_at=tools.now,
    )


def reminders(connection: Connection, booking_id: str, tools: Tools) -> list[ScheduledReminder]:
    """All reminders of a booking, of every version, by when they are due. Raises `BookingNotFound`."""
    queries.booking(connection, booking_id, tools)
    return store.list_reminders(connection, tools.tenant, booking_id, tools.now)
