"""Move a booking to another start: it keeps its id, its UID and its state, and what it gives up is free."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection

from nxsched.domain.bookings import Booking, BookingStatus
from nxsched.domain.commands import Reschedule
from nxsched.errors import EventTypeNotFound, InvalidTransition, SlotUnavailable
from nxsched.service.ending import found, status_now
from nxsched.service.policies import keep_for_moving
from nxsched.service.taking import Taken, Wanted, changed, take
from nxsched.service.tools import Tools
from nxsched.store.bookings import lock_counted, stands_alone
from nxsched.store.changes import Record, Won, move_bookings
from nxsched.store.settings import Moved


def reschedule(connection: Connection, command: Reschedule, tools: Tools) -> Booking:
    """Move a booking, judged as if it were not there (rule 26); once more with the same result."""
    standing = found(lock_counted(connection, tools.tenant, command.id, anew=True), command.id)
    tools = tools.at(standing.told)
    before = standing.booking
    status = status_now(before, tools.now)
    if status not in {BookingStatus.CONFIRMED, BookingStatus.PENDING}:
        raise InvalidTransition(id=before.id, from_status=status, to_status="rescheduled")
    duration = command.duration or before.end - before.start
    same = (before.start, before.end) == (command.start, command.start + duration)
    if same and command.host in {None, *before.hosts}:
        return before
    keep_for_moving(standing, tools)
    alone = stands_alone(connection, tools.tenant, standing, tools.now)
    wanted = Wanted(
        event_type=before.event_type,
        start=command.start,
        duration=duration,
        host=command.host,
        seats=before.seats,
        force=command.force,
        held=before.hosts,
        moved=Moved(before.id, standing.occurrence if alone else None),
    )
    made: list[Booking] = []

    def write(taken: Taken) -> Won:
        booking = replace(
            before,
            start=taken.start,
            end=taken.end,
            hosts=taken.choice.hosts,
            sequence=before.sequence + 1,
            version=before.version + 1,
            assigned_because=taken.choice.because,
            expires_at=taken.start if before.status is BookingStatus.PENDING else None,
        )
        made[:] = [booking]
        told = taken.tools
        record = Record(
            tenant=told.tenant, now=told.now, action="reschedule", actor=told.actor_json, reason=command.reason
        )
        one = changed(connection, taken, before, booking, "booking.rescheduled", command.reason)
        return move_bookings(connection, record, [one], taken.place, moved=1)

    try:
        take(connection, wanted, tools, write, standing.locked)
    except EventTypeNotFound as error:
        raise SlotUnavailable(f"the booking cannot be moved: {error}") from error
    return made[0]
