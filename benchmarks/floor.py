"""The floor under a booking and a move: the same rows written by hand. psycopg, one transaction, nothing judged."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple, Self

import psycopg
from ground import BEGIN, GRACE, HALF
from psycopg.types.json import Jsonb

from nxsched import Scheduler
from nxsched.service.ids import new_id

_TENANT = "SELECT set_config('nxsched.tenant_id', %s, true)"
_OCCURRENCE = """INSERT INTO nxsched.occurrence (tenant_id, id, event_type_no, starts_at, ends_at, active)
    VALUES (%s, %s, %s, %s, %s, true)"""
_CLAIM = """INSERT INTO nxsched.claim
    (tenant_id, occurrence_id, host_no, place, busy_from, busy_until, active, claimed_at)
    VALUES (%s, %s, %s, 1, %s, %s, true, %s)"""
_BOOKING = """INSERT INTO nxsched.booking (tenant_id, id, occurrence_id, event_type_no, status, starts_at, ends_at,
    seats, attendee_name, attendee_email, attendee_timezone, attendee_reference, answers, metadata, organizer,
    sequence, version, moves, nonce, created_at)
    VALUES (%s, %s, %s, %s, 'confirmed', %s, %s, 1, %s, %s, %s, %s, '{}', '{}', %s, 0, 1, 0, %s, %s)"""
_CLAIM_ENDS = "UPDATE nxsched.claim SET active = false WHERE tenant_id = %s AND occurrence_id = %s"
_OCCURRENCE_ENDS = "UPDATE nxsched.occurrence SET active = false WHERE tenant_id = %s AND id = %s"
_MOVED = """UPDATE nxsched.booking SET occurrence_id = %s, starts_at = %s, ends_at = %s,
    sequence = sequence + 1, version = version + 1, moves = moves + 1 WHERE tenant_id = %s AND id = %s"""
_AUDIT = """INSERT INTO nxsched.audit_entry (tenant_id, booking_id, version, action, changes, at)
    VALUES (%s, %s, %s, %s, %s, %s)"""
_EVENT = """INSERT INTO nxsched.outbox_event
    (tenant_id, id, booking_id, version, kind, payload, occurred_at, due_at)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"""


class Records(NamedTuple):
    """What is recorded of a version of a booking: the audit entry and the outbox event."""

    version: int
    action: str
    changes: Any
    kind: str
    payload: Any


class Stored(NamedTuple):
    """A booking that was written by hand, and where it stands."""

    id: str
    occurrence: str


def example(scheduler: Scheduler, tenant: str) -> Mapping[str, Records]:
    """The records of a real booking that has moved, by action: those that are written by hand are as long."""
    made = scheduler.tenant(tenant)
    booking = made.book("visit-0", start=BEGIN - 2 * HALF, attendee=GRACE)
    made.reschedule(booking.id, start=BEGIN - HALF)
    with scheduler.engine.begin() as connection:
        connection.exec_driver_sql(_TENANT, (tenant,))
        rows = connection.exec_driver_sql(
            "SELECT version, action, changes, kind, payload FROM nxsched.audit_entry"
            " JOIN nxsched.outbox_event USING (tenant_id, booking_id, version) WHERE booking_id = %s",
            (booking.id,),
        )
        return {row.action: Records(*row) for row in rows}


class Floor:
    """Writes for a tenant, for the host of one event type, as one process does."""

    def __init__(self, connection: psycopg.Connection, tenant: str, slug: str, like: Mapping[str, Records]) -> None:
        self.connection = connection
        self.tenant = tenant
        self.like = {
            action: one._replace(changes=Jsonb(one.changes), payload=Jsonb(one.payload)) for action, one in like.items()
        }
        with connection.transaction():
            self._enter()
            found = connection.execute(
                "SELECT e.event_type_no, m.host_no FROM nxsched.event_type e JOIN nxsched.event_type_member m"
                " USING (tenant_id, event_type_no) WHERE e.slug = %s",
                [slug],
            ).fetchone()
        self.event_type, self.host = found or (0, 0)

    @classmethod
    @contextmanager
    def at(cls, uri: str, tenant: str, slug: str, like: Mapping[str, Records]) -> Iterator[Self]:
        """On a connection of its own."""
        with psycopg.connect(uri) as connection:
            yield cls(connection, tenant, slug, like)

    def book(self, start: datetime) -> Stored:
        """Write five rows in one transaction."""
        now, run = datetime.now(UTC), self.connection.execute
        made = Stored(new_id(), new_id())
        who = (GRACE.name, GRACE.email, GRACE.timezone, GRACE.reference)
        times, nonce = (start, start + HALF), secrets.token_hex(16)
        with self.connection.transaction():
            self._enter()
            self._place(made.occurrence, start, now)
            place = [self.tenant, made.id, made.occurrence, self.event_type, *times]
            run(_BOOKING, [*place, *who, "bookings@acme.test", nonce, now])
            self._record(made.id, self.like["book"], now)
        return made

    def move(self, stored: Stored, start: datetime) -> None:
        """Write four rows and change three in one transaction: what the booking had is given up, and kept."""
        now, run, occurrence = datetime.now(UTC), self.connection.execute, new_id()
        with self.connection.transaction():
            self._enter()
            run(_CLAIM_ENDS, [self.tenant, stored.occurrence])
            run(_OCCURRENCE_ENDS, [self.tenant, stored.occurrence])
            self._place(occurrence, start, now)
            run(_MOVED, [occurrence, start, start + HALF, self.tenant, stored.id])
            self._record(stored.id, self.like["reschedule"], now)

    def _enter(self) -> None:
        """Set the tenant, as every transaction must."""
        self.connection.execute(_TENANT, [self.tenant])

    def _place(self, occurrence: str, start: datetime, now: datetime) -> None:
        end = start + HALF
        self.connection.execute(_OCCURRENCE, [self.tenant, occurrence, self.event_type, start, end])
        self.connection.execute(_CLAIM, [self.tenant, occurrence, self.host, start, end, now])

    def _record(self, booking: str, like: Records, now: datetime) -> None:
        run, version = self.connection.execute, like.version
        run(_AUDIT, [self.tenant, booking, version, like.action, like.changes, now])
        run(_EVENT, [self.tenant, new_id(), booking, version, like.kind, like.payload, now, now])
