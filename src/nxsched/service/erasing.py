"""Take a person out of what is stored: bookings keep their times and count as before, and say nobody's name."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection

from nxsched.domain.bookings import Actor
from nxsched.domain.commands import EraseAttendee
from nxsched.domain.events import changes, payload
from nxsched.service.changing import record
from nxsched.service.ids import new_id, new_nonce
from nxsched.service.reminding import wanted
from nxsched.service.tools import Tools
from nxsched.store.changes import Change, change_details
from nxsched.store.erasure import change_nonces, erase_records, forget_keys_of
from nxsched.store.preferences import delete
from nxsched.store.standing import Standing, lock_attendee


def erase_attendee(connection: Connection, command: EraseAttendee, tools: Tools) -> int:
    """Erase all that is known of a person; gives the number of bookings and holds that were theirs."""
    theirs = lock_attendee(connection, tools.tenant, command.person)
    tools = tools.at(max((one.told for one in theirs), default=tools.now))
    if tools.actor is not None and tools.actor.role == "attendee":  # it may be the person
        tools = replace(tools, actor=Actor(role="attendee"))
    ids = [one.booking.id for one in theirs]
    change_details(connection, record(tools), [_erased(one) for one in theirs])
    erase_records(connection, ids, command.person)
    addresses = {one.booking.attendee.email for one in theirs if one.booking.attendee} | {command.person.email}
    known = sorted(one.lower() for one in addresses if one)
    delete(connection, tools.tenant, known)
    series = {one.booking.series_id for one in theirs if one.booking.series_id}
    forget_keys_of(connection, tools.tenant, [*ids, *series, *known], tools.now)
    change_nonces(connection, tools.tenant, {id_: new_nonce() for id_ in ids})
    return len(ids)


def _erased(one: Standing) -> Change:
    """Without the person, their words, and what the application has noted beside them."""
    before = one.booking
    location = before.location if before.location == one.event_type.location else None
    after = replace(
        before,
        attendee=None,
        answers={},
        metadata={},
        reference=None,
        location=location,
        sequence=before.sequence + (location != before.location),
        version=before.version + 1,
    )
    told = payload(after, one.event_type, one.tenant, one.parties)
    # What was there before is what must not be written down again.
    kept = {name: both for name, both in changes(before, after).items() if name == "sequence"}
    return Change(
        after=after,
        action="erase",
        kind="booking.updated",
        event_id=new_id(),
        changes=kept,
        payload=told,
        reminders=wanted(after, one.event_type, one.parties),
    )
