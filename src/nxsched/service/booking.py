"""Book a slot, hold one, and make a booking of a hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from nxsched.domain import checks
from nxsched.domain.bookings import Booking, BookingStatus
from nxsched.domain.commands import Book, ConfirmHold, PlaceHold
from nxsched.domain.questions import answers
from nxsched.errors import EventTypeNotFound, HoldExpired, InvalidInput, InvalidTransition, SlotUnavailable
from nxsched.service.ending import change, expire, found, has_expired, is_hold, status_now
from nxsched.service.ids import new_nonce
from nxsched.service.taking import Taken, Wanted, changed, take
from nxsched.service.tools import Tools
from nxsched.store.bookings import Standing, lock_counted
from nxsched.store.changes import Record, Won, change_bookings, insert_booking, move_bookings

_KINDS = {
    BookingStatus.HELD: ("hold", "booking.held"),
    BookingStatus.PENDING: ("request", "booking.created"),
    BookingStatus.CONFIRMED: ("book", "booking.confirmed"),
}


def book(connection: Connection, command: Book, tools: Tools) -> Booking:
    """Take the slot and book it, or raise `SlotTaken` or `SlotUnavailable`."""
    wanted = Wanted(
        event_type=command.event_type,
        start=command.start,
        duration=command.duration,
        host=command.host,
        seats=command.seats,
        force=command.force,
    )
    said = command.details
    made: list[Booking] = []

    def write(taken: Taken) -> Won:
        ends = None
        if taken.settings.event_type.requires_approval and not (command.force and taken.start <= taken.tools.now):
            ends = taken.start
        booking = _booking(
            taken,
            status=BookingStatus.PENDING if ends else BookingStatus.CONFIRMED,
            attendee=said.attendee,
            seats=command.seats,
            answers=answers(taken.settings.event_type.questions, said.answers),
            metadata=said.metadata,
            reference=said.reference,
            expires_at=ends,
        )
        made[:] = [booking]
        return _insert(connection, taken, booking)

    take(connection, wanted, tools, write)
    return made[0]


def place_hold(connection: Connection, command: PlaceHold, tools: Tools) -> Booking:
    """Take the slot and hold it, or raise `SlotTaken` or `SlotUnavailable`."""
    wanted = Wanted(
        event_type=command.event_type,
        start=command.start,
        duration=command.duration,
        host=command.host,
        seats=command.seats,
        hold=True,
    )
    made: list[Booking] = []

    def write(taken: Taken) -> Won:
        ends = taken.tools.now + command.ttl
        if taken.settings.event_type.requires_approval:
            ends = min(ends, taken.start)
        booking = _booking(
            taken,
            status=BookingStatus.HELD,
            attendee=command.attendee,
            seats=command.seats,
            answers={},
            metadata={},
            reference=None,
            expires_at=ends,
        )
        made[:] = [booking]
        return _insert(connection, taken, booking)

    take(connection, wanted, tools, write)
    return made[0]


def confirm_hold(connection: Connection, command: ConfirmHold, tools: Tools) -> Booking:
    """Make a booking of a hold: only its expiry and the answers are judged, for the hold is the promise (rule 27)."""
    standing = found(lock_counted(connection, tools.tenant, command.id, anew=command.if_free), command.id)
    tools = tools.at(standing.told)
    before = standing.booking
    said = command.details
    now_status = status_now(before, tools.now)
    stands = now_status in {BookingStatus.CONFIRMED, BookingStatus.PENDING}
    if stands and _is_confirmed_so(before, command, said.answers):
        return before
    answered = answers(standing.event_type.questions, said.answers)
    if stands and _is_confirmed_so(before, command, answered):
        return before
    if not is_hold(connection, tools, standing):
        raise InvalidTransition(id=before.id, from_status=now_status, to_status="confirmed")
    status = BookingStatus.PENDING if standing.event_type.requires_approval else BookingStatus.CONFIRMED
    after = replace(
        before,
        status=status,
        attendee=said.attendee,
        answers=answered,
        metadata=said.metadata,
        reference=said.reference,
        version=before.version + 1,
        expires_at=before.start if status is BookingStatus.PENDING else None,
    )
    if before.status is BookingStatus.HELD and not (has_expired(before, tools.now) or has_expired(after, tools.now)):
        action, kind = _KINDS[status]
        record = _record(tools, "confirm" if action == "book" else action)
        change_bookings(connection, record, [change(standing, after, kind, None)], standing.counted)
        return after
    if not command.if_free:
        raise HoldExpired(id=before.id, expired_at=min(at for at in (before.expires_at, after.expires_at) if at))
    return _revive(connection, tools, standing, after)


def _revive(connection: Connection, tools: Tools, standing: Standing, after: Booking) -> Booking:
    """Book the time of a hold that has expired, if the rules allow it now as they would any booking."""
    before = standing.booking
    if before.status is BookingStatus.HELD:
        before = expire(connection, tools, [standing])[0]
    wanted = Wanted(
        event_type=before.event_type,
        start=before.start,
        duration=before.end - before.start,
        host=None,
        seats=before.seats,
        held=before.hosts,
    )
    made: list[Booking] = []
    action, kind = _KINDS[after.status]

    def write(taken: Taken) -> Won:
        booking = replace(
            after, version=before.version + 1, hosts=taken.choice.hosts, assigned_because=taken.choice.because
        )
        made[:] = [booking]
        one = changed(connection, taken, before, booking, kind)
        return move_bookings(connection, _record(taken.tools, action), [one], taken.place, moved=0)

    try:
        take(connection, wanted, tools, write, standing.locked)
    except (InvalidInput, EventTypeNotFound) as error:  # what was asked for then is no longer offered
        raise SlotUnavailable(f"the hold cannot be had again: {error}") from error
    return made[0]


def _is_confirmed_so(before: Booking, command: ConfirmHold, answered: Mapping[str, object]) -> bool:
    """Whether a booking has all that this confirmation says."""
    said = command.details
    return (before.attendee, before.reference) == (said.attendee, said.reference) and checks.same_json(
        (before.answers, before.metadata), (answered, said.metadata)
    )


def _booking(taken: Taken, **said: Any) -> Booking:
    """What stands on the slot that was taken, and what was said with it."""
    return Booking(
        **said,
        id=taken.tools.id,
        event_type=taken.settings.event_type.slug,
        start=taken.start,
        end=taken.end,
        hosts=taken.choice.hosts,
        location=taken.settings.event_type.location,
        series_id=None,
        organizer=taken.settings.tenant.sender,
        sequence=0,
        version=1,
        assigned_because=taken.choice.because,
        created_at=taken.tools.now,
    )


def _insert(connection: Connection, taken: Taken, booking: Booking) -> Won:
    action, kind = _KINDS[booking.status]
    one = changed(connection, taken, None, booking, kind)
    return insert_booking(connection, _record(taken.tools, action), one, taken.place, new_nonce())


def _record(tools: Tools, action: str) -> Record:
    return Record(tenant=tools.tenant, now=tools.now, action=action, actor=tools.actor_json, reason=None)
