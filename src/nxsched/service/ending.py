"""Ends of holds: released, expired. The hosts' time is free with the last of its bookings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection

from nxsched.domain.bookings import Booking, BookingStatus
from nxsched.domain.commands import ReleaseHold
from nxsched.errors import InvalidTransition
from nxsched.service.changing import Done, change, has_expired, keep, keep_all, locked, record, status_now
from nxsched.service.tools import Tools
from nxsched.store.bookings import was_held
from nxsched.store.changes import Place
from nxsched.store.standing import Standing, lock_expired
from nxsched.store.transactions import tell_time

_HOLD_EXPIRED = Done("expire", "booking.hold_expired")
_EXPIRED = Done("expire", "booking.expired")


def release(connection: Connection, command: ReleaseHold, tools: Tools) -> Booking:
    """Give a hold back before its time is over; once more with the same result."""
    standing, tools = locked(connection, command.id, tools)
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
    return keep(connection, standing, after, record(tools), Done("release", "booking.hold_released"))


def is_hold(connection: Connection, tools: Tools, standing: Standing) -> bool:
    """Whether it is a hold, also one that has expired; a booking that waited for approval in vain is none."""
    status = standing.booking.status
    if status is BookingStatus.EXPIRED:
        return was_held(connection, tools.tenant, standing.booking.id)
    return status is BookingStatus.HELD


def expire(connection: Connection, tools: Tools, over: Sequence[Standing]) -> list[Booking]:
    """End holds and pending bookings whose time is over, all of them locked. Nobody's act."""
    done = [
        change(one, replace(one.booking, status=BookingStatus.EXPIRED, version=one.booking.version + 1), how)
        for one in over
        for how in [_HOLD_EXPIRED if one.booking.status is BookingStatus.HELD else _EXPIRED]
    ]
    return keep_all(connection, record(replace(tools, actor=None)), done)


def expire_in_the_way(
    connection: Connection, tools: Tools, hosts: Sequence[int], places: Sequence[Place], beside: str | None
) -> datetime | None:
    """End what has expired and reaches into the time of `places`, or lies between, on these hosts, which are locked.

    With it ends what has expired in the occurrence `beside`, which is locked too.

    Somebody may confirm one of them at this moment, or end it: whoever locks its row first has it. Gives the time after
    the wait for them, if there was one.
    """
    span = min(place.busy_from for place in places), max(place.busy_until for place in places)
    over, waited = lock_expired(connection, tools.tenant, hosts, span, tools.now, beside=beside)
    if waited:
        tools = tools.at(tell_time(connection))
    expire(connection, tools, over)
    return tools.now if waited else None
