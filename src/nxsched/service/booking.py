"""Book a slot, hold one, and make a booking of a hold."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection

from nxsched.domain.bookings import Attendee, Booking, BookingStatus
from nxsched.domain.commands import Book, ConfirmHold, PlaceHold
from nxsched.domain.events import changes, payload
from nxsched.domain.questions import answers
from nxsched.errors import HoldExpired, InvalidTransition
from nxsched.service.ending import change, expire, has_expired, locked
from nxsched.service.ids import new_id, new_nonce
from nxsched.service.taking import Taken, Wanted, take
from nxsched.service.tools import Tools
from nxsched.store.bookings import Standing
from nxsched.store.changes import Change, Record, confirm_booking, insert_booking, revive_booking
from nxsched.store.settings import Settings

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

    def write(taken: Taken) -> set[int]:
        status = _status(taken.settings)
        booking = replace(
            _booking(taken, tools, said.attendee, command.seats),
            status=status,
            answers=answers(taken.settings.event_type.questions, said.answers),
            metadata=said.metadata,
            reference=said.reference,
            expires_at=taken.start if status is BookingStatus.PENDING else None,
        )
        made[:] = [booking]
        return _insert(connection, taken, tools, booking)

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
    )
    made: list[Booking] = []

    def write(taken: Taken) -> set[int]:
        booking = _booking(taken, tools, command.attendee, command.seats)
        made[:] = [replace(booking, expires_at=taken.now + command.ttl)]
        return _insert(connection, taken, tools, made[0])

    take(connection, wanted, tools, write)
    return made[0]


def confirm_hold(connection: Connection, command: ConfirmHold, tools: Tools) -> Booking:
    """Make a booking of a hold: only its expiry and the answers are judged, for the hold is the promise (rule 27)."""
    standing = locked(connection, tools.tenant, command.id)
    before = standing.booking
    said = command.details
    found = answers(standing.event_type.questions, said.answers)
    if _is_confirmed_so(before, command, found):
        return before
    if before.status not in {BookingStatus.HELD, BookingStatus.EXPIRED}:
        raise InvalidTransition(id=before.id, from_status=before.status, to_status="confirmed")
    status = BookingStatus.PENDING if standing.event_type.requires_approval else BookingStatus.CONFIRMED
    after = replace(
        before,
        status=status,
        attendee=said.attendee,
        answers=found,
        metadata=said.metadata,
        reference=said.reference,
        version=before.version + 1,
        expires_at=before.start if status is BookingStatus.PENDING else None,
    )
    if before.status is BookingStatus.HELD and not has_expired(before, tools.now):
        action, kind = _KINDS[status]
        record = _record(tools, ("confirm" if action == "book" else action, kind))
        at = tools.now if tools.clock else None
        if confirm_booking(connection, record, change(standing, after, None), at):
            return after
    if not command.if_free:
        assert before.expires_at is not None  # noqa: S101 - the table holds it
        raise HoldExpired(id=before.id, expired_at=before.expires_at)
    return _revive(connection, tools, standing, after)


def _revive(connection: Connection, tools: Tools, standing: Standing, after: Booking) -> Booking:
    """Book the time of a hold that has expired, if the rules allow it now as they would any booking."""
    before = standing.booking
    if before.status is BookingStatus.HELD:
        before = expire(connection, tools, [standing], tools.now)[0]
    wanted = Wanted(
        event_type=before.event_type,
        start=before.start,
        duration=before.end - before.start,
        host=None,
        seats=before.seats,
    )
    made: list[Booking] = []

    def write(taken: Taken) -> set[int]:
        booking = replace(
            after, version=before.version + 1, hosts=taken.choice.hosts, assigned_because=taken.choice.because
        )
        made[:] = [booking]
        one = Change(
            after=booking,
            event_id=new_id(),
            changes=changes(before, booking),
            payload=_payload(taken.settings, booking),
        )
        return revive_booking(connection, _record(tools, _KINDS[after.status]), one, taken.place)

    take(connection, wanted, tools, write)
    return made[0]


def _is_confirmed_so(before: Booking, command: ConfirmHold, found: dict[str, object]) -> bool:
    """Whether this very confirmation was made before."""
    said = command.details
    return (
        before.status in {BookingStatus.CONFIRMED, BookingStatus.PENDING}
        and before.attendee == said.attendee
        and (before.answers, before.metadata, before.reference) == (found, said.metadata, said.reference)
    )


def _status(settings: Settings) -> BookingStatus:
    return BookingStatus.PENDING if settings.event_type.requires_approval else BookingStatus.CONFIRMED


def _booking(taken: Taken, tools: Tools, attendee: Attendee | None, seats: int) -> Booking:
    """What stands on the slot that was taken: a hold, until somebody says more."""
    return Booking(
        id=tools.id,
        event_type=taken.settings.event_type.slug,
        status=BookingStatus.HELD,
        start=taken.start,
        end=taken.end,
        hosts=taken.choice.hosts,
        attendee=attendee,
        seats=seats,
        answers={},
        location=taken.settings.event_type.location,
        metadata={},
        reference=None,
        series_id=None,
        organizer=taken.settings.tenant.sender,
        sequence=0,
        version=1,
        assigned_because=taken.choice.because,
        created_at=taken.now,
        expires_at=None,
    )


def _insert(connection: Connection, taken: Taken, tools: Tools, booking: Booking) -> set[int]:
    one = Change(
        after=booking,
        event_id=new_id(),
        changes=changes(None, booking),
        payload=_payload(taken.settings, booking),
    )
    record = replace(_record(tools, _KINDS[booking.status]), now=taken.now)
    return insert_booking(connection, record, one, taken.place, new_nonce())


def _payload(settings: Settings, booking: Booking) -> dict[str, object]:
    hosts = [settings.hosts[slug] for slug in booking.hosts]
    parties = [{"slug": one.slug, "name": one.name, "email": one.email, "timezone": one.timezone} for one in hosts]
    return payload(booking, settings.event_type, settings.tenant, parties, None)


def _record(tools: Tools, named: tuple[str, str]) -> Record:
    action, kind = named
    return Record(tenant=tools.tenant, now=tools.now, action=action, kind=kind, actor=tools.actor_json, reason=None)
