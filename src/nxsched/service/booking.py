"""Book slots, hold one, and make a booking of a hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from nxsched.domain import checks
from nxsched.domain.bookings import Attendee, Booking, BookingStatus
from nxsched.domain.commands import Book, BookSeries, ConfirmHold, PlaceHold
from nxsched.domain.questions import answers
from nxsched.errors import EventTypeNotFound, HoldExpired, InvalidInput, InvalidTransition, SlotUnavailable
from nxsched.service.changing import Done, has_expired, keep, locked_with_counts, record, status_now
from nxsched.service.choosing import Held
from nxsched.service.ending import expire, is_hold
from nxsched.service.ids import new_id, new_nonce
from nxsched.service.taking import Spot, Taken, changed, take
from nxsched.service.tools import Tools
from nxsched.service.wanted import Wanted
from nxsched.store.changes import Won, insert_bookings, move_bookings
from nxsched.store.standing import Standing

_DONE = {
    BookingStatus.HELD: Done("hold", "booking.held"),
    BookingStatus.PENDING: Done("request", "booking.created"),
    BookingStatus.CONFIRMED: Done("book", "booking.confirmed"),
}
"""What is recorded of a booking that comes to be in a state."""

_CONFIRMED = Done("confirm", "booking.confirmed")


def book(connection: Connection, command: Book, tools: Tools) -> Booking:
    """Take the slot and book it, or raise `SlotTaken` or `SlotUnavailable`."""
    return _book(connection, command, [command.start], tools, series=None)[0]


def book_series(connection: Connection, command: BookSeries, tools: Tools) -> list[Booking]:
    """Take all of the slots and book them, or raise what refuses some of them."""
    return _book(connection, command, command.starts, tools, series=tools.id)


def _book(
    connection: Connection, command: Book | BookSeries, starts: Sequence[datetime], tools: Tools, *, series: str | None
) -> list[Booking]:
    said = command.details
    wanted = Wanted(
        event_type=command.event_type,
        starts=starts,
        duration=command.duration,
        host=command.host,
        seats=command.seats,
        force=command.force,
        attendee=_countable(said.attendee),
    )
    made: list[Booking] = []

    def write(taken: Taken) -> Won:
        event_type = taken.event_type
        answered = answers(event_type.questions, said.answers)
        made.clear()
        for spot in taken.spots:
            ends = None
            if event_type.requires_approval and not (command.force and spot.start <= taken.tools.now):
                ends = spot.start
            booking = _booking(
                taken,
                spot,
                id=tools.id if series is None else new_id(),
                status=BookingStatus.PENDING if ends else BookingStatus.CONFIRMED,
                attendee=said.attendee,
                seats=command.seats,
                answers=answered,
                metadata=said.metadata,
                reference=said.reference,
                series_id=series,
                expires_at=ends,
            )
            made.append(booking)
        return _insert(connection, taken, made)

    take(connection, wanted, tools, write)
    return made


def place_hold(connection: Connection, command: PlaceHold, tools: Tools) -> Booking:
    """Take the slot and hold it, or raise `SlotTaken` or `SlotUnavailable`."""
    wanted = Wanted(
        event_type=command.event_type,
        starts=[command.start],
        duration=command.duration,
        host=command.host,
        seats=command.seats,
        hold=True,
        attendee=_countable(command.attendee),
    )
    made: list[Booking] = []

    def write(taken: Taken) -> Won:
        spot = taken.spots[0]
        ends = taken.tools.now + command.ttl
        if taken.event_type.requires_approval:
            ends = min(ends, spot.start)
        booking = _booking(
            taken,
            spot,
            id=tools.id,
            status=BookingStatus.HELD,
            attendee=command.attendee,
            seats=command.seats,
            answers={},
            metadata={},
            reference=None,
            series_id=None,
            expires_at=ends,
        )
        made[:] = [booking]
        return _insert(connection, taken, made)

    take(connection, wanted, tools, write)
    return made[0]


def confirm_hold(connection: Connection, command: ConfirmHold, tools: Tools) -> Booking:
    """Make a booking of a hold: only its expiry and the answers are judged, for the hold is the promise (rule 27)."""
    standing, tools = locked_with_counts(connection, command.id, tools, anew=command.if_free)
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
        # What is pending can become confirmed, by approval: what it cannot is to be asked for in another way.
        raise InvalidTransition(id=before.id, from_status=now_status, to_status=now_status if stands else "confirmed")
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
        done = _CONFIRMED if status is BookingStatus.CONFIRMED else _DONE[status]
        return keep(connection, standing, after, record(tools), done, counted=True)
    if not command.if_free:
        raise HoldExpired(id=before.id, expired_at=min(at for at in (before.expires_at, after.expires_at) if at))
    return _revive(connection, tools, standing, after)


def _revive(connection: Connection, tools: Tools, standing: Standing, after: Booking) -> Booking:
    """Book the time of a hold that has expired, if the rules allow it now as they would any booking."""
    before = standing.booking
    if before.status is BookingStatus.HELD:
        before = expire(connection, tools, [standing])[0]
        standing = replace(standing, booking=before)
    wanted = Wanted(
        event_type=before.event_type,
        starts=[before.start],
        duration=before.end - before.start,
        host=None,
        seats=before.seats,
        held=Held(before.hosts),
        attendee=_countable(after.attendee),
    )
    made: list[Booking] = []

    def write(taken: Taken) -> Won:
        spot = taken.spots[0]
        booking = replace(
            after, version=before.version + 1, hosts=spot.choice.hosts, assigned_because=spot.choice.because
        )
        made[:] = [booking]
        one = changed(connection, taken, standing, booking, _DONE[after.status])
        return move_bookings(connection, record(taken.tools), [one], spot.place, moved=0)

    try:
        take(connection, wanted, tools, write, standing.locked)
    except (InvalidInput, EventTypeNotFound) as error:  # what was asked for then is no longer offered
        raise SlotUnavailable(f"the hold cannot be had again: {error}", start=before.start) from error
    return made[0]


def _is_confirmed_so(before: Booking, command: ConfirmHold, answered: Mapping[str, object]) -> bool:
    """Whether a booking has all that this confirmation says."""
    said = command.details
    return (before.attendee, before.reference) == (said.attendee, said.reference) and checks.same_json(
        (before.answers, before.metadata), (answered, said.metadata)
    )


def _countable(attendee: Attendee | None) -> Attendee | None:
    """Who can be told from others."""
    return attendee if attendee is not None and (attendee.reference or attendee.email) else None


def _booking(taken: Taken, spot: Spot, **said: Any) -> Booking:
    """What stands on a slot that was taken, and what was said with it."""
    return Booking(
        **said,
        event_type=taken.event_type.slug,
        start=spot.start,
        end=spot.end,
        hosts=spot.choice.hosts,
        location=taken.event_type.location,
        organizer=taken.settings.tenant.sender,
        sequence=0,
        version=1,
        assigned_because=spot.choice.because,
        created_at=taken.tools.now,
    )


def _insert(connection: Connection, taken: Taken, made: Sequence[Booking]) -> Won:
    changes = [changed(connection, taken, None, booking, _DONE[booking.status]) for booking in made]
    nonces = [new_nonce() for _ in made]
    return insert_bookings(connection, record(taken.tools), changes, taken.places, nonces)
