"""Say something of a booking that stays where it is: approved, completed, nobody came; another location, other data."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from sqlalchemy import Connection

from nxsched.domain import checks
from nxsched.domain.bookings import Booking, BookingStatus
from nxsched.domain.commands import Mark, Update
from nxsched.errors import InvalidTransition
from nxsched.service.ending import change, found, status_now
from nxsched.service.tools import Tools
from nxsched.store.bookings import Standing, lock_booking, lock_counted
from nxsched.store.changes import Record, change_bookings

_MARKS: Final = {
    BookingStatus.CONFIRMED: ({BookingStatus.PENDING}, "approve", "booking.confirmed"),
    BookingStatus.COMPLETED: ({BookingStatus.CONFIRMED, BookingStatus.NO_SHOW}, "complete", "booking.completed"),
    BookingStatus.NO_SHOW: ({BookingStatus.CONFIRMED, BookingStatus.COMPLETED}, "mark_no_show", "booking.no_show"),
}
"""For each state that a booking can be given: those it can have before, the action and the kind of its event."""

_STANDS: Final = {BookingStatus.PENDING, BookingStatus.CONFIRMED, BookingStatus.COMPLETED, BookingStatus.NO_SHOW}


def mark(connection: Connection, command: Mark, tools: Tools) -> Booking:
    """Give a booking another state in which it keeps its time; once more with the same result. Nothing is judged."""
    approves = command.as_ is BookingStatus.CONFIRMED
    if approves:  # it is about to expire by itself: who counts what is left must wait for us, or we for them
        standing = found(lock_counted(connection, tools.tenant, command.id, anew=False), command.id)
    else:
        standing = found(lock_booking(connection, tools.tenant, command.id), command.id)
    tools = tools.at(standing.told)
    before = standing.booking
    if before.status is command.as_:
        return before
    allowed, action, kind = _MARKS[command.as_]
    status = status_now(before, tools.now)
    if status not in allowed:
        raise InvalidTransition(id=before.id, from_status=status, to_status=command.as_)
    after = replace(before, status=command.as_, version=before.version + 1, expires_at=None)
    return _changed(connection, tools, standing, after, action, kind)


def update(connection: Connection, command: Update, tools: Tools) -> Booking:
    """Change location and metadata; once more, nothing changes. A new location is news for calendars."""
    standing = found(lock_booking(connection, tools.tenant, command.id), command.id)
    tools = tools.at(standing.told)
    before = standing.booking
    status = status_now(before, tools.now)
    if status not in _STANDS:
        raise InvalidTransition(id=before.id, from_status=status, to_status="updated")
    location = before.location if command.location is None else command.location or None
    metadata = before.metadata if command.metadata is None else command.metadata
    moved = location != before.location
    if not moved and checks.same_json(before.metadata, metadata):
        return before
    after = replace(
        before,
        location=location,
        metadata=metadata,
        sequence=before.sequence + moved,
        version=before.version + 1,
    )
    return _changed(connection, tools, standing, after, "update", "booking.updated")


def _changed(
    connection: Connection, tools: Tools, standing: Standing, after: Booking, action: str, kind: str
) -> Booking:
    record = Record(tenant=tools.tenant, now=tools.now, action=action, actor=tools.actor_json, reason=None)
    change_bookings(connection, record, [change(standing, after, kind, None)], standing.counted)
    return after
