"""Write bookings: each change in one statement, with its audit entry and its outbox event.

Data-modifying CTEs are one round trip, and all or nothing. What they record is made from the rows they have changed, so
that no change goes without its record and no record without its change.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, text

from nxsched.domain.bookings import Booking

_RECORDED: Final = """
audited AS (
    INSERT INTO nxsched.audit_entry (tenant_id, booking_id, version, action, actor, reason, changes, at)
    SELECT :tenant, w.id, w.version, :action, CAST(:actor AS jsonb), :reason, w.changes, :now
    FROM changed JOIN wanted w USING (id)
), sent AS (
    INSERT INTO nxsched.outbox_event (tenant_id, id, booking_id, version, kind, payload, occurred_at, due_at)
    SELECT :tenant, w.event_id, w.id, w.version, :kind, w.payload, :now, :now FROM changed JOIN wanted w USING (id)
)"""

# One text of JSON for all rows: an array of texts full of quotes takes the driver long to escape.
_WANTED: Final = """
wanted AS (
    SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb))
        AS w(id uuid, version int, event_id uuid, changes jsonb, payload jsonb)
)"""

# The order of the claims is that of the hosts' numbers, in which everybody inserts them: two never wait in a circle.
_CLAIMED: Final = """
claimed AS (
    INSERT INTO nxsched.claim
        (tenant_id, occurrence_id, host_no, place, busy_from, busy_until, active, held_until, claimed_at)
    SELECT :tenant, CAST(:occurrence AS uuid), h.host_no, h.place, :busy_from, :busy_until, true, :held_until, :now
    FROM unnest(CAST(:hosts AS bigint[])) WITH ORDINALITY AS h(host_no, place) ORDER BY h.host_no
    ON CONFLICT ON CONSTRAINT claim_no_overlap DO NOTHING RETURNING host_no
), occurred AS (
    INSERT INTO nxsched.occurrence (tenant_id, id, event_type_no, starts_at, ends_at, active, held_until)
    SELECT :tenant, CAST(:occurrence AS uuid), :event_type, :starts_at, :ends_at, true, :held_until
    WHERE EXISTS (SELECT FROM claimed)
)"""

_ALL_CLAIMED: Final = "(SELECT count(*) FROM claimed) = cardinality(CAST(:hosts AS bigint[]))"

_INSERT: Final = text(f"""
WITH {_WANTED}, {_CLAIMED}, changed AS (
    INSERT INTO nxsched.booking (tenant_id, id, occurrence_id, event_type_no, status, starts_at, ends_at, seats,
        attendee_name, attendee_email, attendee_timezone, attendee_reference, answers, metadata, location, reference,
        organizer, sequence, version, moves, assigned_because, nonce, created_at, expires_at)
    SELECT :tenant, w.id, CAST(:occurrence AS uuid), :event_type, :status, :starts_at, :ends_at, :seats,
        :attendee_name, :attendee_email, :attendee_timezone, :attendee_reference, CAST(:answers AS jsonb),
        CAST(:metadata AS jsonb), :location, :reference, :organizer, 0, 1, 0, :assigned_because, :nonce, :now,
        :expires_at
    FROM wanted w WHERE {_ALL_CLAIMED}
    RETURNING id
), {_RECORDED}
SELECT host_no FROM claimed
""")

_DETAILS: Final = """
status = :status, version = w.version, attendee_name = :attendee_name, attendee_email = :attendee_email,
attendee_timezone = :attendee_timezone, attendee_reference = :attendee_reference, answers = CAST(:answers AS jsonb),
metadata = CAST(:metadata AS jsonb), reference = :reference, organizer = :organizer, expires_at = :expires_at"""

_CONFIRM: Final = text(f"""
WITH {_WANTED}, changed AS (
    UPDATE nxsched.booking b SET {_DETAILS} FROM wanted w
    WHERE b.tenant_id = :tenant AND b.id = w.id AND b.version = w.version - 1 AND b.status = 'held'
        AND b.expires_at > coalesce(CAST(:clock AS timestamptz), clock_timestamp())
    RETURNING b.id, b.occurrence_id
), occurred AS (
    UPDATE nxsched.occurrence o SET held_until = NULL FROM changed
    WHERE o.tenant_id = :tenant AND o.id = changed.occurrence_id
), claimed AS (
    UPDATE nxsched.claim c SET held_until = NULL FROM changed
    WHERE c.tenant_id = :tenant AND c.occurrence_id = changed.occurrence_id
), {_RECORDED}
SELECT id FROM changed
""")

_REVIVE: Final = text(f"""
WITH {_WANTED}, {_CLAIMED}, changed AS (
    UPDATE nxsched.booking b SET {_DETAILS}, occurrence_id = CAST(:occurrence AS uuid),
        assigned_because = :assigned_because
    FROM wanted w
    WHERE b.tenant_id = :tenant AND b.id = w.id AND b.version = w.version - 1 AND b.status = 'expired'
        AND {_ALL_CLAIMED}
    RETURNING b.id
), {_RECORDED}
SELECT host_no FROM claimed
""")

_END: Final = text(f"""
WITH {_WANTED}, changed AS (
    UPDATE nxsched.booking b SET status = :status, version = w.version, sequence = b.sequence + :moved FROM wanted w
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
    """A booking after a change, with the records of it, as JSON objects."""

    after: Booking
    event_id: str
    changes: dict[str, Any]
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What the changes of one action have in common: when, what, by whom, why."""

    tenant: str
    now: datetime
    action: str
    kind: str
    actor: str | None
    reason: str | None

    def values(self, changes: Sequence[Change]) -> dict[str, Any]:
        """The parameters of `wanted` and of what is recorded."""
        return {
            "tenant": self.tenant,
            "now": self.now,
            "action": self.action,
            "kind": self.kind,
            "actor": self.actor,
            "reason": self.reason,
            "rows": json.dumps(
                [
                    {
                        "id": one.after.id,
                        "version": one.after.version,
                        "event_id": one.event_id,
                        "changes": one.changes,
                        "payload": one.payload,
                    }
                    for one in changes
                ]
            ),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a new booking stands: a new occurrence, its hosts' numbers in the order of the groups, their busy time."""

    occurrence: str
    event_type: int
    hosts: Sequence[int]
    busy_from: datetime
    busy_until: datetime

    def values(self, booking: Booking) -> dict[str, Any]:
        """The parameters of what is claimed."""
        return {
            "occurrence": self.occurrence,
            "event_type": self.event_type,
            "hosts": list(self.hosts),
            "busy_from": self.busy_from,
            "busy_until": self.busy_until,
            "starts_at": booking.start,
            "ends_at": booking.end,
            "held_until": booking.expires_at if booking.status == "held" else None,
        }


def insert_booking(connection: Connection, record: Record, change: Change, place: Place, nonce: str) -> set[int]:
    """Insert a booking or hold with its claims; gives the hosts whose time was free.

    Where one of them was taken, no booking is there; the claims of the others are, and the caller's savepoint goes.
    """
    booking = change.after
    values = {
        **record.values([change]),
        **place.values(booking),
        **_details(booking),
        "seats": booking.seats,
        "location": booking.location,
        "assigned_because": booking.assigned_because,
        "nonce": nonce,
    }
    return {row[0] for row in connection.execute(_INSERT, values)}


def revive_booking(connection: Connection, record: Record, change: Change, place: Place) -> set[int]:
    """Make a booking of an expired hold, in a new occurrence; otherwise as `insert_booking`."""
    booking = change.after
    values = {
        **record.values([change]),
        **place.values(booking),
        **_details(booking),
        "assigned_because": booking.assigned_because,
    }
    return {row[0] for row in connection.execute(_REVIVE, values)}


def confirm_booking(connection: Connection, record: Record, change: Change, clock: datetime | None) -> bool:
    """Make a booking of a hold that is locked; false where it has expired, for to lock it may have taken long.

    `clock` tells the time where the database's does not.
    """
    values = {**record.values([change]), **_details(change.after), "clock": clock}
    return connection.execute(_CONFIRM, values).one_or_none() is not None


def end_bookings(connection: Connection, record: Record, changes: Sequence[Change]) -> None:
    """End bookings that are locked, all in the same way; the claims of an occurrence end with the last of them."""
    first = changes[0].after
    moved = 1 if first.status == "cancelled" else 0
    connection.execute(_END, {**record.values(changes), "status": first.status.value, "moved": moved})


def _details(booking: Booking) -> dict[str, Any]:
    who = booking.attendee
    return {
        "status": booking.status.value,
        "attendee_name": who and who.name,
        "attendee_email": who and who.email,
        "attendee_timezone": who and who.timezone,
        "attendee_reference": who and who.reference,
        "answers": json.dumps(booking.answers),
        "metadata": json.dumps(booking.metadata),
        "reference": booking.reference,
        "organizer": booking.organizer,
        "expires_at": booking.expires_at,
    }
