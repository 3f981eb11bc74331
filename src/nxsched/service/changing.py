"""How every change of a booking begins and ends: it is locked and looked at, and written with its records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from nxsched.domain.bookings import Booking, BookingStatus
from nxsched.domain.events import changes, payload
from nxsched.errors import BookingNotFound
from nxsched.service.ids import new_id
from nxsched.service.reminding import wanted
from nxsched.service.tools import Tools
from nxsched.store.changes import Change, Record, change_bookings
from nxsched.store.locks import NOTHING
from nxsched.store.standing import Standing, lock_booking, lock_counted


class Done(NamedTuple):
    """What was done, as the audit trail calls it, and the kind of its event."""

    action: str
    kind: str


def locked(connection: Connection, id_: str, tools: Tools) -> tuple[Standing, Tools]:
    """The booking that is to be changed, locked, and the time after the wait for it. Raises `BookingNotFound`."""
    return _found(lock_booking(connection, tools.tenant, id_), id_, tools)


def locked_with_counts(connection: Connection, id_: str, tools: Tools, *, anew: bool) -> tuple[Standing, Tools]:
    """The same, after what it is counted by; with `anew` after all that a new place of it would be counted by."""
    return _found(lock_counted(connection, tools.tenant, id_, tools.now, anew=anew), id_, tools)


def _found(standing: Standing | None, id_: str, tools: Tools) -> tuple[Standing, Tools]:
    if standing is None:
        raise BookingNotFound(id=id_)
    return standing, tools.at(standing.told)


def has_expired(booking: Booking, now: datetime) -> bool:
    """Whether a hold, or a booking that is pending, is over, tidied up or not: at its last instant it is."""
    ends = booking.status in {BookingStatus.HELD, BookingStatus.PENDING}
    return ends and booking.expires_at is not None and booking.expires_at <= now


def status_now(booking: Booking, now: datetime) -> BookingStatus:
    """The state of a booking, tidied up or not."""
    return BookingStatus.EXPIRED if has_expired(booking, now) else booking.status


def record(tools: Tools, reason: str | None = None) -> Record:
    """What is recorded of all changes of a call."""
    return Record(tenant=tools.tenant, now=tools.now, actor=tools.actor_json, reason=reason)


def change(
    standing: Standing,
    after: Booking,
    done: Done,
    parties: Sequence[Mapping[str, Any]] | None = None,
) -> Change:
    """A change of a booking with its records; `parties` are its hosts after it, where they are others."""
    parties = standing.parties if parties is None else parties
    told = payload(
        after,
        standing.event_type,
        standing.tenant,
        parties,
        before=standing.booking,
        hosts_before=standing.parties,
    )
    return Change(
        after=after,
        action=done.action,
        kind=done.kind,
        event_id=new_id(),
        changes=changes(standing.booking, after),
        payload=told,
        reminders=wanted(after, standing.event_type, parties),
    )


def keep(
    connection: Connection, standing: Standing, after: Booking, told: Record, done: Done, *, counted: bool = False
) -> Booking:
    """Write a change of one booking, which is locked; with `counted`, what counts it has to know."""
    one = change(standing, after, done)
    change_bookings(connection, told, [one], standing.counted if counted else NOTHING)
    return after


def keep_all(connection: Connection, told: Record, done: Sequence[Change]) -> list[Booking]:
    """Write changes of several bookings, which are locked."""
    if done:
        change_bookings(connection, told, done)
    return [one.after for one in done]
