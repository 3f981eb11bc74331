"""Write bookings: each change in one statement, with its audit entry and its outbox event.

Data-modifying CTEs are one round trip, and all or nothing. What they record is made from the rows they have changed, so
that no change goes without its record and no record without its change.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, text

from nxsched.domain.bookings import Booking
from nxsched.store.conflicts import Waited
from nxsched.store.locks import Locks
from nxsched.store.statements import statement

# One text of JSON holds every row that is written: a server reads it faster than a driver makes thirty parameters.
_WANTED: Final = """
wanted AS (
    SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS w(id uuid, version int, status text, kind text,
        event_id uuid, changes jsonb, payload jsonb, attendee_name text, attendee_email text, attendee_timezone text,
        attendee_reference text, answers jsonb, metadata jsonb, reference text, assigned_because text,
        expires_at timestamptz{more})
)"""

_COUNTS: Final = ", counted bigint, counted_hosts bigint[]"

_PLACED: Final = f"""{_COUNTS}, occurrence_id uuid, event_type_no bigint, hosts bigint[], starts_at timestamptz,
        ends_at timestamptz, busy_from timestamptz, busy_until timestamptz, seats int, location text, organizer text,
        nonce text"""

_CHANGED: Final = _WANTED.format(more="")
_CONFIRMING: Final = _WANTED.format(more=_COUNTS)
_CLAIMING: Final = _WANTED.format(more=_PLACED)

_RECORDED: Final = """
audited AS (
    INSERT INTO nxsched.audit_entry (tenant_id, booking_id, version, action, actor, reason, changes, at)
    SELECT :tenant, w.id, w.version, :action, CAST(:actor AS jsonb), :reason, w.changes, :now
    FROM changed JOIN wanted w USING (id)
), sent AS (
    INSERT INTO nxsched.outbox_event (tenant_id, id, booking_id, version, kind, payload, occurred_at, due_at)
    SELECT :tenant, w.event_id, w.id, w.version, w.kind, w.payload, :now, :now FROM changed JOIN wanted w USING (id)
)"""

# The order of the claims is that of the hosts' numbers, in which everybody inserts them: two never wait in a circle.
_CLAIMED: Final = """
claimed AS (
    INSERT INTO nxsched.claim
        (tenant_id, occurrence_id, host_no, place, busy_from, busy_until, active, held_until, claimed_at)
    SELECT :tenant, w.occurrence_id, h.host_no, h.place, w.busy_from, w.busy_until, true, w.expires_at, :now
    FROM wanted w CROSS JOIN LATERAL unnest(w.hosts) WITH ORDINALITY AS h(host_no, place) ORDER BY h.host_no
    ON CONFLICT ON CONSTRAINT claim_no_overlap DO NOTHING RETURNING host_no
), occurred AS (
    INSERT INTO nxsched.occurrence (tenant_id, id, event_type_no, starts_at, ends_at, active, held_until)
    SELECT :tenant, w.occurrence_id, w.event_type_no, w.starts_at, w.ends_at, true, w.expires_at
    FROM wanted w WHERE EXISTS (SELECT FROM claimed)
)"""

# The time is told outside, after the wait for whoever wants the same time. Who gave up in the end may have changed much
# meanwhile, so a long wait is told too.
_WON: Final = """
SELECT won, clock_timestamp() AS told, clock_timestamp() - statement_timestamp() > interval '500 ms' AS waited
FROM (SELECT ARRAY(SELECT host_no FROM claimed) AS won OFFSET 0) claims"""

_WON_COLUMNS: Final = "won told waited"

_ALL_CLAIMED: Final = "(SELECT count(*) FROM claimed) = cardinality(w.hosts)"

# Who counts with an older snapshot, or will, must not count what this changes: see `nxsched.store.locks`.
_COUNTED: Final = """
counted AS (
    UPDATE nxsched.event_type e SET claim_version = claim_version + 1 FROM wanted w
    WHERE e.tenant_id = :tenant AND e.event_type_no = w.counted
), counted_hosts AS (
    UPDATE nxsched.host h SET claim_version = claim_version + 1 FROM wanted w
    WHERE h.tenant_id = :tenant AND h.host_no = ANY(w.counted_hosts)
)"""

_INSERTED: Final = f"""
changed AS (
    INSERT INTO nxsched.booking (tenant_id, id, occurrence_id, event_type_no, status, starts_at, ends_at, seats,
        attendee_name, attendee_email, attendee_timezone, attendee_reference, answers, metadata, location, reference,
        organizer, sequence, version, moves, assigned_because, nonce, created_at, expires_at)
    SELECT :tenant, w.id, w.occurrence_id, w.event_type_no, w.status, w.starts_at, w.ends_at, w.seats,
        w.attendee_name, w.attendee_email, w.attendee_timezone, w.attendee_reference, w.answers, w.metadata,
        w.location, w.reference, w.organizer, 0, w.version, 0, w.assigned_because, w.nonce, :now, w.expires_at
    FROM wanted w WHERE {_ALL_CLAIMED}
    RETURNING id
), {_RECORDED}
{_WON}
"""

_INSERT: Final = statement(f"WITH {_CLAIMING}, {_CLAIMED}, {_INSERTED}", _WON_COLUMNS)
_INSERT_COUNTED: Final = statement(f"WITH {_CLAIMING}, {_CLAIMED}, {_COUNTED}, {_INSERTED}", _WON_COLUMNS)

_DETAILS: Final = """
status = w.status, version = w.version, attendee_name = w.attendee_name, attendee_email = w.attendee_email,
attendee_timezone = w.attendee_timezone, attendee_reference = w.attendee_reference, answers = w.answers,
metadata = w.metadata, reference = w.reference, expires_at = w.expires_at"""

_CONFIRM: Final = text(f"""
WITH {_CONFIRMING}, {_COUNTED}, changed AS (
    UPDATE nxsched.booking b SET {_DETAILS} FROM wanted w
    WHERE b.tenant_id = :tenant AND b.id = w.id AND b.version = w.version - 1
    RETURNING b.id, b.occurrence_id, b.expires_at
), occurred AS (
    UPDATE nxsched.occurrence o SET held_until = changed.expires_at FROM changed
    WHERE o.tenant_id = :tenant AND o.id = changed.occurrence_id
), claimed AS (
    UPDATE nxsched.claim c SET held_until = changed.expires_at FROM changed
    WHERE c.tenant_id = :tenant AND c.occurrence_id = changed.occurrence_id
), {_RECORDED}
SELECT id FROM changed
""")

_REVIVE: Final = text(f"""
WITH {_CLAIMING}, {_CLAIMED}, {_COUNTED}, changed AS (
    UPDATE nxsched.booking b SET {_DETAILS}, occurrence_id = w.occurrence_id, assigned_because = w.assigned_because
    FROM wanted w
    WHERE b.tenant_id = :tenant AND b.id = w.id AND b.version = w.version - 1 AND b.status = 'expired'
        AND {_ALL_CLAIMED}
    RETURNING b.id
), {_RECORDED}
{_WON}
""")

_END: Final = text(f"""
WITH {_CHANGED}, changed AS (
    UPDATE nxsched.booking b SET status = w.status, version = w.version, sequence = b.sequence + :moved FROM wanted w
    WHERE b.tenant_id = :tenant AND b.id = w.id AND b.version = w.version - 1
    RETURNING b.id, b.occurrence_id
), empty AS (
    SELECT DISTINCT occurrence_id FROM changed WHERE NOT EXISTS (
        SELECT FROM nxsched.booking other
        WHERE other.tenant_id = :tenant AND other.occurrence_id = changed.occurrence_id
        AND other.id NOT IN (SELECT id FROM wanted)
        AND other.status IN ('held', 'pending', 'confirmed', 'completed', 'no_show'))
), occurred AS (
    UPDATE nxsched.occurrence o SET active = false, held_until = NULL FROM empty
    WHERE o.tenant_id = :tenant AND o.id = empty.occurrence_id
), freed AS (
    UPDATE nxsched.claim c SET active = false, held_until = NULL FROM empty
    WHERE c.tenant_id = :tenant AND c.occurrence_id = empty.occurrence_id
), {_RECORDED}
SELECT id::text FROM changed
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A booking after a change, with the records of it, as JSON objects; `kind` is that of the event."""

    after: Booking
    kind: str
    event_id: str
    changes: dict[str, Any]
    payload: dict[str, Any]

    def end(self) -> dict[str, Any]:
        """The row of `wanted`, as far as an end needs it."""
        return {
            "id": self.after.id,
            "version": self.after.version,
            "status": self.after.status.value,
            "kind": self.kind,
            "event_id": self.event_id,
            "changes": self.changes,
            "payload": self.payload,
        }

    def row(self) -> dict[str, Any]:
        """The row of `wanted`."""
        booking, who = self.after, self.after.attendee
        return {
            **self.end(),
            "attendee_name": who and who.name,
            "attendee_email": who and who.email,
            "attendee_timezone": who and who.timezone,
            "attendee_reference": who and who.reference,
            "answers": booking.answers,
            "metadata": booking.metadata,
            "reference": booking.reference,
            "assigned_because": booking.assigned_because,
            "expires_at": booking.expires_at and booking.expires_at.isoformat(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What the changes of one action have in common: when, what, by whom, why."""

    tenant: str
    now: datetime
    action: str
    actor: str | None
    reason: str | None

    def values(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The parameters of `wanted` and of what is recorded."""
        return {
            "tenant": self.tenant,
            "now": self.now,
            "action": self.action,
            "actor": self.actor,
            "reason": self.reason,
            "rows": json.dumps(rows, ensure_ascii=False),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a new booking stands: a new occurrence, its hosts' numbers in the order of the groups, their busy time.

    `counted` is what of it is counted, and locked.
    """

    occurrence: str
    event_type: int
    hosts: Sequence[int]
    busy_from: datetime
    busy_until: datetime
    counted: Locks

    def row(self, booking: Booking) -> dict[str, Any]:
        """What the row of `wanted` has of it."""
        return {
            "occurrence_id": self.occurrence,
            "event_type_no": self.event_type,
            "hosts": list(self.hosts),
            **_counted(self.counted),
            "busy_from": self.busy_from.isoformat(),
            "busy_until": self.busy_until.isoformat(),
            "starts_at": booking.start.isoformat(),
            "ends_at": booking.end.isoformat(),
        }


def _counted(locks: Locks) -> dict[str, Any]:
    return {"counted": locks.event_type, "counted_hosts": list(locks.hosts)}


@dataclass(frozen=True, slots=True)
class Won:
    """The hosts whose time was free, and the time after the wait for it."""

    hosts: frozenset[int]
    told: datetime


def insert_booking(connection: Connection, record: Record, change: Change, place: Place, nonce: str) -> Won:
    """Insert a booking or hold with its claims; gives the hosts whose time was free.

    Where one of them was taken, no booking is there; the claims of the others are, and the caller's savepoint goes.
    """
    booking = change.after
    row = {
        **change.row(),
        **place.row(booking),
        "seats": booking.seats,
        "location": booking.location,
        "organizer": booking.organizer,
        "nonce": nonce,
    }
    insert = _INSERT_COUNTED if place.counted != Locks() else _INSERT
    return _won(connection.execute(insert, record.values([row])).one(), place)


def revive_booking(connection: Connection, record: Record, change: Change, place: Place) -> Won:
    """Make a booking of an expired hold, in a new occurrence; otherwise as `insert_booking`."""
    row = {**change.row(), **place.row(change.after)}
    return _won(connection.execute(_REVIVE, record.values([row])).one(), place)


def _won(row: Row[Any], place: Place) -> Won:
    """Raises `Waited` where all was had, but after a wait in which it may have become wrong to have it."""
    found = Won(frozenset(row.won), row.told.astimezone(UTC))
    if row.waited and len(found.hosts) == len(place.hosts):
        raise Waited("somebody else had the time for a while: run the transaction again")
    return found


def confirm_booking(connection: Connection, record: Record, change: Change, counted: Locks) -> None:
    """Make a booking of a hold that is locked, as is what it is counted by."""
    connection.execute(_CONFIRM, record.values([{**change.row(), **_counted(counted)}]))


def end_bookings(connection: Connection, record: Record, changes: Sequence[Change]) -> None:
    """End bookings that are locked, all in the same way; the claims of an occurrence end with the last of them."""
    moved = 1 if changes[0].after.status == "cancelled" else 0
    connection.execute(_END, {**record.values([one.end() for one in changes]), "moved": moved})
