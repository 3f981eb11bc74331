"""Move a booking to another start: it keeps its id, its UID and its state, and what it gives up is free."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection

from nxsched.domain.bookings import MOVABLE, Booking, BookingStatus
from nxsched.domain.commands import Reschedule
from nxsched.domain.event_types import EventType
from nxsched.domain.instants import epoch_ceil, instant
from nxsched.domain.refusals import Refusal
from nxsched.errors import EventTypeNotFound, InvalidInput, InvalidTransition, SlotUnavailable
from nxsched.service.changing import Done, locked_with_counts, record, status_now
from nxsched.service.choosing import Held
from nxsched.service.policies import keep_for_moving
from nxsched.service.taking import Taken, changed, take
from nxsched.service.tools import Tools
from nxsched.service.wanted import Wanted
from nxsched.store.changes import Won, move_bookings
from nxsched.store.settings import Moved

_DONE = Done("reschedule", "booking.rescheduled")


def reschedule(connection: Connection, command: Reschedule, tools: Tools) -> Booking:
    """Move a booking, judged as if it were not there (rule 26); once more with the same result."""
    standing, tools = locked_with_counts(connection, command.id, tools, anew=True)
    before = standing.booking
    status = status_now(before, tools.now)
    if status not in MOVABLE:
        raise InvalidTransition(id=before.id, from_status=status, to_status="rescheduled")
    duration = command.duration or before.end - before.start
    same = (before.start, before.end) == (command.start, command.start + duration)
    if same and command.host in {None, *before.hosts}:
        return before
    keep_for_moving(standing, tools)
    wanted = Wanted(
        event_type=before.event_type,
        starts=[command.start],
        duration=duration,
        host=command.host,
        seats=before.seats,
        force=command.force,
        held=Held(before.hosts),
        moved=Moved(before.id, before.seats),
        beside=standing.occurrence if standing.crowded else None,
    )
    made: list[Booking] = []

    def write(taken: Taken) -> Won:
        spot = taken.spots[0]
        if before.status is BookingStatus.PENDING and spot.start <= taken.tools.now:  # by force: no rule allows it
            raise _over(spot.start, taken.tools.now)
        booking = replace(
            before,
            start=spot.start,
            end=spot.end,
            hosts=spot.choice.hosts,
            sequence=before.sequence + 1,
            version=before.version + 1,
            assigned_because=spot.choice.because,
            expires_at=spot.start if before.status is BookingStatus.PENDING else None,
        )
        made[:] = [booking]
        one = changed(connection, taken, standing, booking, _DONE)
        told = record(taken.tools, command.reason)
        return move_bookings(connection, told, [one], spot.place, moved=1)

    try:
        take(connection, wanted, tools, write, standing.locked)
    except EventTypeNotFound as error:
        words = f"the booking cannot be moved: its event type {error.slug!r} is archived; saving it brings it back"
        raise SlotUnavailable(words, start=command.start) from error
    except InvalidInput as error:
        if error.field == "duration" and command.duration is None:
            raise EventType.no_longer(error) from error
        raise
    return made[0]


def _over(start: datetime, now: datetime) -> SlotUnavailable:
    """Why a booking that waits for approval cannot go there, by no force: at its start it is over."""
    words = f"a booking that waits for approval ends at its start, and {start.isoformat()} has passed: approve it first"
    return SlotUnavailable(words, start=start, reasons=[Refusal(code="past", start=instant(epoch_ceil("now", now)))])
