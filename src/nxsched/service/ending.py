"""Ends of bookings and holds: cancelled, released, expired. The hosts' time is free with the last of its bookings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from time import monotonic

from sqlalchemy import Connection

from nxsched.domain.bookings import Booking, BookingStatus
from nxsched.domain.commands import Cancel, Decline, ReleaseHold
from nxsched.domain.events import changes, payload
from nxsched.errors import BookingNotFound, InvalidTransition
from nxsched.service.ids import new_id
from nxsched.service.policies import keep_for_cancelling
from nxsched.service.tools import Tools
from nxsched.store.bookings import Standing, lock_booking, lock_expired, was_held
from nxsched.store.changes import Change, Place, Record, change_bookings
from nxsched.store.transactions import tell_time

_NOTICED = 0.05
"""Seconds after which a statement may have waited for somebody."""

_ENDS = {
    BookingStatus.CANCELLED: ("cancel", "booking.cancelled"),
    BookingStatus.DECLINED: ("decline", "booking.declined"),
    BookingStatus.RELEASED: ("release", "booking.hold_released"),
}


def decline(connection: Connection, command: Decline, tools: Tools) -> Booking:
    """Turn a pending booking down; once more with the same result."""
    standing = found(lock_booking(connection, tools.tenant, command.id), command.id)
    tools = tools.at(standing.told)
    before = standing.booking
    if before.status is BookingStatus.DECLINED:
        return before
    status = status_now(before, tools.now)
    if status is not BookingStatus.PENDING:
        raise InvalidTransition(id=before.id, from_status=status, to_status="declined")
    after = replace(before, status=BookingStatus.DECLINED, version=before.version + 1)
    return _end(connection, tools, standing, after, command.reason)


def cancel(connection: Connection, command: Cancel, tools: Tools) -> Booking:
    """Cancel a booking that is confirmed or pending; once more with the same result."""
    standing = found(lock_booking(connection, tools.tenant, command.id), command.id)
    tools = tools.at(standing.told)
    before = standing.booking
    if before.status is BookingStatus.CANCELLED:
        return before
    status = status_now(before, tools.now)
    if status not in {BookingStatus.CONFIRMED, BookingStatus.PENDING}:
        raise InvalidTransition(id=before.id, from_status=status, to_status="cancelled")
    keep_for_cancelling(standing, tools)
    after = replace(before, status=BookingStatus.CANCELLED, version=before.version + 1, sequence=before.sequence + 1)
    return _end(connection, tools, standing, after, command.reason)


def release(connection: Connection, command: ReleaseHold, tools: Tools) -> Booking:
    """Give a hold back before its time is over; once more with the same result."""
    standing = found(lock_booking(connection, tools.tenant, command.id), command.id)
    tools = tools.at(standing.told)
    before = standing.booking
    if before.status is BookingStatus.RELEASED:
        return before
    if not is_hold(connection, tools, standing):
        raise InvalidTransition(id=before.id, from_status=status_now(before, tools.now), to_status="released")
    if before.status is BookingStatus.EXPIRED:
        return before
    if has_expired(before, tools.now):
        return expire(connection, tools, [standing])[0]
    after = replace(before, status=BookingStatus.RELEASED, version=before.version + 1)
    return _end(connection, tools, standing, after, None)


def found(standing: Standing | None, id_: str) -> Standing:
    """The booking that is to be changed, locked. Raises `BookingNotFound`."""
    if standing is None:
        raise BookingNotFound(id=id_)
    return standing


def has_expired(booking: Booking, now: datetime) -> bool:
    """Whether a hold, or a booking that is pending, is over, tidied up or not: at its last instant it is."""
    ends = booking.status in {BookingStatus.HELD, BookingStatus.PENDING}
    return ends and booking.expires_at is not None and booking.expires_at <= now


def status_now(booking: Booking, now: datetime) -> BookingStatus:
    """The state of a booking, tidied up or not."""
    return BookingStatus.EXPIRED if has_expired(booking, now) else booking.status


def is_hold(connection: Connection, tools: Tools, standing: Standing) -> bool:
    """Whether it is a hold, also one that has expired; a booking that waited for approval in vain is none."""
    status = standing.booking.status
    if status is BookingStatus.EXPIRED:
        return was_held(connection, tools.tenant, standing.booking.id)
    return status is BookingStatus.HELD


def expire(connection: Connection, tools: Tools, over: Sequence[Standing]) -> list[Booking]:
    """End holds and pending bookings whose time is over, all of them locked. Nobody's act."""
    if not over:
        return []
    record = Record(tenant=tools.tenant, now=tools.now, action="expire", actor=None, reason=None)
    done = [
        change(one, replace(one.booking, status=BookingStatus.EXPIRED, version=one.booking.version + 1), kind, None)
        for one in over
        for kind in ["booking.hold_expired" if one.booking.status is BookingStatus.HELD else "booking.expired"]
    ]
    change_bookings(connection, record, done)
    return [one.after for one in done]


def expire_in_the_way(connection: Connection, tools: Tools, hosts: Sequence[int], place: Place) -> datetime | None:
    """End what has expired and reaches into the time of `place` on these hosts, which are locked.

    Somebody may confirm one of them at this moment, or end it: whoever locks its row first has it. Gives the time after
    the wait for them, if there was one. A row that went to somebody else says nothing of it, so it is measured here.
    """
    span = place.busy_from, place.busy_until
    begun = monotonic()
    over = lock_expired(connection, tools.tenant, hosts, span, tools.now)
    waited = not over or monotonic() - begun > _NOTICED
    if waited:
        tools = tools.at(tell_time(connection))
    expire(connection, tools, over)
    return tools.now if waited else None


def change(standing: Standing, after: Booking, kind: str, reason: str | None) -> Change:
    """A change with its records."""
    return Change(
        after=after,
        kind=kind,
        event_id=new_id(),
        changes=changes(standing.booking, after),
        payload=payload(after, standing.event_type, standing.tenant, standing.parties, reason),
    )


def _end(connection: Connection, tools: Tools, standing: Standing, after: Booking, reason: str | None) -> Booking:
    action, kind = _ENDS[after.status]
    record = Record(tenant=tools.tenant, now=tools.now, action=action, actor=tools.actor_json, reason=reason)
    change_bookings(connection, record, [change(standing, after, kind, reason)])
    return after
