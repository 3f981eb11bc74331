"""Write bookings: each change in one statement, with its audit entry and its outbox event.

Data-modifying CTEs are one round trip, and all or nothing. What they record is made from the rows they have changed, so
that no change goes without its record and no record without its change.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final

from sqlalchemy import Connection, TextualSelect, text

from nxsched.domain.bookings import Booking
from nxsched.domain.stored import read_preferences
from nxsched.store.bell import leaves_events
from nxsched.store.conflicts import Waited
from nxsched.store.locks import NOTHING, Locks
from nxsched.store.reminders import insert_wished
from nxsched.store.statements import statement

# One text of JSON holds every row that is written: a server reads it faster than a driver makes thirty parameters. It
# is a text until it is cast, or asyncpg would send it through whatever the application has set for jsonb. A planner
# thinks that a hundred rows come of it, for which it would rather read a table of twenty thousand from end to end: so
# what they change is looked up by an array, of which it expects ten.
_WANTED: Final = """
wanted AS (
    SELECT * FROM jsonb_to_recordset(CAST(CAST(:rows AS text) AS jsonb)) AS w(id uuid, version int, sequence int,
        status text, action text, kind text, event_id uuid, changes jsonb, payload jsonb, reminders jsonb,
        attendee_name text, attendee_email text,
        attendee_timezone text, attendee_reference text, answers jsonb, metadata jsonb, location text, reference text,
        assigned_because text, expires_at timestamptz, counted bigint, counted_hosts bigint[]{more})
)"""

_CHANGING: Final = _WANTED.format(more="")
_PLACING: Final = _WANTED.format(
    more=""", occurrence_id uuid, joins boolean, event_type_no bigint, hosts bigint[], since bigint[],
        starts_at timestamptz, ends_at timestamptz, busy_from timestamptz, busy_until timestamptz, seats int,
        organizer text, series_id uuid, nonce text"""
)

_RECORDED: Final = """
audited AS (
    INSERT INTO nxsched.audit_entry (tenant_id, booking_id, version, action, actor, reason, changes, at)
    SELECT :tenant, w.id, w.version, w.action, CAST(CAST(:actor AS text) AS jsonb), :reason, w.changes, :now
    FROM changed JOIN wanted w USING (id)
), sent AS (
    INSERT INTO nxsched.outbox_event (tenant_id, id, booking_id, version, kind, payload, occurred_at, due_at)
    SELECT :tenant, w.event_id, w.id, w.version, w.kind, w.payload, :now, :now FROM changed JOIN wanted w USING (id)
), posted AS (
    INSERT INTO nxsched.webhook_delivery
        (tenant_id, id, webhook_id, event_id, booking_id, version, kind, occurred_at, due_at)
    SELECT :tenant, gen_random_uuid(), h.id, w.event_id, w.id, w.version, w.kind, :now, :now
    FROM changed JOIN wanted w USING (id)
    JOIN nxsched.webhook h ON h.tenant_id = :tenant AND h.enabled AND (h.kinds = '[]' OR h.kinds ? w.kind)
), reminding AS (
    INSERT INTO nxsched.reminder (tenant_id, id, booking_id, version, kind, recipient, before, occurred_at, due_at)
    SELECT :tenant, r.id, w.id, w.version, 'booking.reminder', r.recipient, r.before, r.due_at, r.due_at
    FROM changed JOIN wanted w USING (id) CROSS JOIN LATERAL
        jsonb_to_recordset(w.reminders) AS r(id uuid, recipient text, before text, due_at timestamptz)
    WHERE r.due_at > :now {or_waits}
)"""

# What was due and has not gone out is due again: or a change of something else would take it away.
_WAITS: Final = """OR EXISTS (
    SELECT FROM nxsched.reminder o WHERE o.tenant_id = :tenant AND o.booking_id = w.id AND o.version < w.version
        AND o.done_at IS NULL AND o.dead_at IS NULL AND o.recipient = r.recipient AND o.before = r.before
        AND o.occurred_at = r.due_at)"""

# What waits to remind somebody of a booking as it was. One that is new has none.
_SUPERSEDED: Final = """
superseded AS (
    UPDATE nxsched.reminder r SET done_at = :now, ended = 'superseded' FROM changed JOIN wanted w USING (id)
    WHERE r.tenant_id = :tenant AND r.booking_id = ANY(ARRAY(SELECT id FROM wanted)) AND r.booking_id = w.id
        AND r.version < w.version AND r.done_at IS NULL AND r.dead_at IS NULL
)"""

# What those wish who are reminded; few have wishes, and for them reminders are added by another statement.
_WISHES: Final = """(
    SELECT jsonb_object_agg(p.who, p.definition)::text FROM nxsched.message_preference p
    WHERE p.tenant_id = :tenant AND p.definition ? 'reminders' AND p.who = ANY(ARRAY(
        SELECT r->>'who' FROM wanted w CROSS JOIN LATERAL jsonb_array_elements(w.reminders) AS r))) AS wishes"""

_RECORDED_AGAIN: Final = f"{_RECORDED.format(or_waits=_WAITS)}, {_SUPERSEDED}"

# What the occurrences come to that these bookings stand in: taken for good, until the last of those ends that end by
# themselves, or not at all. Whoever writes this has locked the occurrences in a statement before, so all is seen. Where
# several stand in one it is changed whatever it comes to: of two who leave, the one with an older snapshot does not see
# that the other has left, and must not think that somebody stays.
_STANDING: Final = """
standing AS (
    SELECT occurrence_id, count(*) > 1 AS several, coalesce(bool_or(active), false) AS active,
        CASE WHEN bool_and(expires_at IS NOT NULL) FILTER (WHERE active)
            THEN max(expires_at) FILTER (WHERE active) END AS held_until
    FROM (
        SELECT b.occurrence_id, CASE WHEN w.id IS NULL THEN b.expires_at ELSE w.expires_at END AS expires_at,
            CASE WHEN w.id IS NULL THEN b.status ELSE {theirs} END
                IN ('held', 'pending', 'confirmed', 'completed', 'no_show') AS active
        FROM nxsched.booking b LEFT JOIN wanted w ON w.id = b.id
        WHERE b.tenant_id = :tenant AND b.occurrence_id = ANY(ARRAY(
            SELECT mine.occurrence_id FROM nxsched.booking mine
            WHERE mine.tenant_id = :tenant AND mine.id = ANY(ARRAY(SELECT id FROM wanted))))
    ) its GROUP BY occurrence_id
), kept AS (
    UPDATE nxsched.occurrence o SET active = standing.active, held_until = standing.held_until FROM standing
    WHERE o.tenant_id = :tenant AND o.id = ANY(ARRAY(SELECT occurrence_id FROM standing))
        AND o.id = standing.occurrence_id
        AND (standing.several OR (o.active, o.held_until) IS DISTINCT FROM (standing.active, standing.held_until))
), freed AS (
    UPDATE nxsched.claim c SET active = standing.active, held_until = standing.held_until FROM standing
    WHERE c.tenant_id = :tenant AND c.occurrence_id = ANY(ARRAY(SELECT occurrence_id FROM standing))
        AND c.occurrence_id = standing.occurrence_id
        AND (c.active, c.held_until) IS DISTINCT FROM (standing.active, standing.held_until)
    RETURNING 1
)"""

# The order of the claims is that of the hosts' numbers and of time, in which everybody inserts them: two never wait in
# a circle. The constraint looks at rows as they are, so what a move gives up it must have given up `before`.
_CLAIMED: Final = """
claimed AS (
    INSERT INTO nxsched.claim
        (tenant_id, occurrence_id, host_no, place, busy_from, busy_until, active, held_until, claimed_at)
    SELECT :tenant, w.occurrence_id, h.host_no, h.place, w.busy_from, w.busy_until, true, w.expires_at,
        CAST(:now AS timestamptz) + h.since * interval '1 microsecond'
    FROM {of} w CROSS JOIN LATERAL unnest(w.hosts, w.since) WITH ORDINALITY AS h(host_no, since, place) {before}
    ORDER BY h.host_no, w.busy_from
    ON CONFLICT ON CONSTRAINT claim_no_overlap DO NOTHING RETURNING host_no
), occurred AS (
    INSERT INTO nxsched.occurrence (tenant_id, id, event_type_no, starts_at, ends_at, active, held_until)
    SELECT :tenant, w.occurrence_id, w.event_type_no, w.starts_at, w.ends_at, true, w.expires_at
    FROM {of} w WHERE EXISTS (SELECT FROM claimed)
)"""

# Of a series some may join what stands, and others not.
_NEW: Final = """
new AS (SELECT * FROM wanted WHERE NOT joins),"""

# Bookings that move together go to one occurrence.
_PLACES: Final = """
places AS (
    SELECT occurrence_id, event_type_no, hosts, since, starts_at, ends_at, busy_from, busy_until,
        CASE WHEN bool_and(expires_at IS NOT NULL) THEN max(expires_at) END AS expires_at
    FROM wanted GROUP BY occurrence_id, event_type_no, hosts, since, starts_at, ends_at, busy_from, busy_until
),"""

_ALL_CLAIMED: Final = "(SELECT count(*) FROM claimed) = (SELECT sum(cardinality(hosts)) FROM {of})"

# Occurrence and claims are changed whatever they come to: who leaves with an older snapshot must not think itself the
# last, and what this statement sees of them may be from before a wait.
_JOINED: Final = """
joined AS (
    UPDATE nxsched.occurrence o
    SET held_until = CASE WHEN o.held_until IS NOT NULL AND w.expires_at IS NOT NULL
        THEN greatest(o.held_until, w.expires_at) END
    FROM wanted w WHERE o.tenant_id = :tenant AND o.id = ANY(ARRAY(SELECT occurrence_id FROM wanted WHERE joins))
        AND o.id = w.occurrence_id AND w.joins AND o.active
    RETURNING o.id, o.held_until
), prolonged AS (
    UPDATE nxsched.claim c SET held_until = joined.held_until FROM joined
    WHERE c.tenant_id = :tenant AND c.occurrence_id = ANY(ARRAY(SELECT id FROM joined)) AND c.occurrence_id = joined.id
)"""

_ALL_JOINED: Final = "(SELECT count(*) FROM joined) = (SELECT count(*) FROM wanted WHERE joins)"

# Who counts with an older snapshot, or will, must not count what this changes: see `nxsched.store.locks`.
_COUNTED: Final = """
counted AS (
    UPDATE nxsched.event_type SET claim_version = claim_version + 1
    WHERE tenant_id = :tenant AND event_type_no = ANY(ARRAY(SELECT counted FROM wanted))
), counted_hosts AS (
    UPDATE nxsched.host SET claim_version = claim_version + 1
    WHERE tenant_id = :tenant AND host_no = ANY(ARRAY(SELECT unnest(counted_hosts) FROM wanted))
)"""

_INSERTED: Final = """
changed AS (
    INSERT INTO nxsched.booking (tenant_id, id, occurrence_id, event_type_no, status, starts_at, ends_at, seats,
        attendee_name, attendee_email, attendee_timezone, attendee_reference, answers, metadata, location, reference,
        series_id, organizer, sequence, version, moves, assigned_because, nonce, created_at, expires_at)
    SELECT :tenant, w.id, w.occurrence_id, w.event_type_no, w.status, w.starts_at, w.ends_at, w.seats,
        w.attendee_name, w.attendee_email, w.attendee_timezone, w.attendee_reference, w.answers, w.metadata,
        w.location, w.reference, w.series_id, w.organizer, w.sequence, w.version, 0, w.assigned_because, w.nonce, :now,
        w.expires_at
    FROM wanted w WHERE {placed}
    RETURNING id
)"""

_DETAILS: Final = """
status = w.status, version = w.version, sequence = w.sequence, attendee_name = w.attendee_name,
attendee_email = w.attendee_email, attendee_timezone = w.attendee_timezone,
attendee_reference = w.attendee_reference, answers = w.answers, metadata = w.metadata, location = w.location,
reference = w.reference, expires_at = w.expires_at"""

_MOVED: Final = f"""
changed AS (
    UPDATE nxsched.booking b SET {_DETAILS}, occurrence_id = w.occurrence_id, starts_at = w.starts_at,
        ends_at = w.ends_at, assigned_because = w.assigned_because, moves = b.moves + :moved
    FROM wanted w
    WHERE b.tenant_id = :tenant AND b.id = ANY(ARRAY(SELECT id FROM wanted)) AND b.id = w.id
        AND b.version = w.version - 1 AND {{placed}}
    RETURNING b.id
)"""

_UPDATED: Final = f"""
changed AS (
    UPDATE nxsched.booking b SET {_DETAILS} FROM wanted w
    WHERE b.tenant_id = :tenant AND b.id = ANY(ARRAY(SELECT id FROM wanted)) AND b.id = w.id
        AND b.version = w.version - 1
    RETURNING b.id
)"""

NOTICED = timedelta(milliseconds=500)
"""Places that took longer to be had may have become wrong to have."""

# The time is told outside, after the wait for whoever wants the same time. Who gave up in the end may have changed much
# meanwhile, so a long wait is told too.
_WON: Final = f"""
SELECT done, clock_timestamp() AS told,
    clock_timestamp() - statement_timestamp() > CAST(:noticed AS interval) AS waited, wishes
FROM (SELECT EXISTS (SELECT FROM changed) AS done, {_WISHES} OFFSET 0) claims"""


@cache
def _placed(*, new: bool, counted: bool, claims: bool, joins: bool) -> TextualSelect:
    """The statement that places bookings, new or moved, in new occurrences, in some that stand, or in both."""
    parts, placed = [_PLACING], list[str]()
    if not new:
        parts.append(_STANDING.format(theirs="'gone'"))
    if claims:
        of = "places" if not new else "new" if joins else "wanted"
        apart = {"places": _PLACES, "new": _NEW, "wanted": ""}[of]
        before = "" if new else "WHERE (SELECT count(*) FROM freed) >= 0"
        parts.append(apart + _CLAIMED.format(of=of, before=before))
        placed.append(_ALL_CLAIMED.format(of=of))
    if joins:
        parts.append(_JOINED)
        placed.append(_ALL_JOINED)
    if counted:
        parts.append(_COUNTED)
    parts.append((_INSERTED if new else _MOVED).format(placed=" AND ".join(placed)))
    parts += [_RECORDED.format(or_waits="")] if new else [_RECORDED_AGAIN]
    return statement(f"WITH {', '.join(parts)} {_WON}", "done told waited wishes")


_CHANGE: Final = text(
    f"WITH {_CHANGING}, {_STANDING.format(theirs='w.status')}, {_COUNTED}, {_UPDATED}, {_RECORDED_AGAIN}"
    f" SELECT {_WISHES}"
)


# Where neither state nor end changes, nothing becomes of the occurrences, and they need not be locked.
_CHANGE_DETAILS: Final = text(f"WITH {_CHANGING}, {_UPDATED}, {_RECORDED_AGAIN} SELECT {_WISHES}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A booking after a change, with the records of it, as JSON objects: what was done, and the `kind` of the event."""

    after: Booking
    action: str
    kind: str
    event_id: str
    changes: dict[str, Any]
    payload: dict[str, Any]
    reminders: Sequence[Mapping[str, Any]]

    def row(self) -> dict[str, Any]:
        """The row of `wanted`."""
        booking, who = self.after, self.after.attendee
        return {
            "id": booking.id,
            "version": booking.version,
            "sequence": booking.sequence,
            "status": booking.status.value,
            "action": self.action,
            "kind": self.kind,
            "event_id": self.event_id,
            "changes": self.changes,
            "payload": self.payload,
            "reminders": self.reminders,
            "attendee_name": who and who.name,
            "attendee_email": who and who.email,
            "attendee_timezone": who and who.timezone,
            "attendee_reference": who and who.reference,
            "answers": booking.answers,
            "metadata": booking.metadata,
            "location": booking.location,
            "reference": booking.reference,
            "assigned_because": booking.assigned_because,
            "expires_at": booking.expires_at and booking.expires_at.isoformat(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What the changes of one call have in common: when, by whom, why."""

    tenant: str
    now: datetime
    actor: str | None
    reason: str | None

    def values(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The parameters of `wanted` and of what is recorded; events say who did it, and why."""
        told = {"actor": self.actor and json.loads(self.actor), "reason": self.reason}
        rows = [{**row, "payload": {**row["payload"], **told}} for row in rows]
        return {
            "tenant": self.tenant,
            "now": self.now,
            "actor": self.actor,
            "reason": self.reason,
            "rows": json.dumps(rows, ensure_ascii=False),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a booking is to stand: a new occurrence, its hosts' numbers in the order of the groups, their busy time.

    One that `joins` an occurrence claims nothing, and has no hosts of its own. `since` is when each host counts as
    booked, in microseconds from now: who came first now is to come first again. `counted` is what of it is counted, and
    locked.
    """

    occurrence: str
    event_type: int
    hosts: Sequence[int]
    since: Sequence[int]
    busy_from: datetime
    busy_until: datetime
    counted: Locks
    joins: bool = False

    def row(self, booking: Booking) -> dict[str, Any]:
        """What the row of `wanted` has of it."""
        return {
            "occurrence_id": self.occurrence,
            "joins": self.joins,
            "event_type_no": self.event_type,
            "hosts": list(self.hosts),
            "since": list(self.since),
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
    """Whether the place was free, and the time after the wait for it."""

    done: bool
    told: datetime


def insert_bookings(
    connection: Connection, record: Record, changes: Sequence[Change], places: Sequence[Place], nonces: Sequence[str]
) -> Won:
    """Insert bookings or holds, each in its place, all or none.

    Where one is not free no booking is there, but claims of some of the hosts may be: the caller's savepoint goes.
    """
    rows = [
        {
            **change.row(),
            **place.row(change.after),
            "seats": change.after.seats,
            "organizer": change.after.organizer,
            "series_id": change.after.series_id,
            "nonce": nonce,
        }
        for change, place, nonce in zip(changes, places, nonces, strict=True)
    ]
    return _place(connection, record, changes, places, record.values(rows), new=True)


def move_bookings(
    connection: Connection, record: Record, changes: Sequence[Change], place: Place, *, moved: int
) -> Won:
    """Move bookings that are locked, with their occurrence, to one place; `moved` is what it counts for as a move.

    Where it is not free nothing has moved, but what they had may be given up: the caller's savepoint goes.
    """
    rows = [{**one.row(), **place.row(one.after)} for one in changes]
    return _place(connection, record, changes, [place], {**record.values(rows), "moved": moved}, new=False)


def _place(
    connection: Connection,
    record: Record,
    changes: Sequence[Change],
    places: Sequence[Place],
    values: Mapping[str, Any],
    *,
    new: bool,
) -> Won:
    """Raises `Waited` where the places were had, but after a wait in which it may have become wrong to have them."""
    joins = {place.joins for place in places}
    counted = any(place.counted != NOTHING for place in places)
    placed = _placed(new=new, counted=counted, claims=False in joins, joins=True in joins)
    row = connection.execute(placed, {**values, "noticed": NOTICED}).one()
    leaves_events(connection)
    if row.waited and row.done:
        raise Waited("somebody else had the time for a while: run the transaction again")
    if row.done:
        _wished(connection, record, changes, row.wishes)
    return Won(row.done, row.told.astimezone(UTC))


def _wished(connection: Connection, record: Record, changes: Sequence[Change], wishes: str | None) -> None:
    """Add the reminders that somebody wishes for, as they were when the changes were written."""
    if wishes:
        wanted = {who: read_preferences(one) for who, one in json.loads(wishes).items()}
        bookings = [(one.after, one.reminders) for one in changes]
        insert_wished(connection, record.tenant, record.now, bookings, wanted)


def change_bookings(
    connection: Connection, record: Record, changes: Sequence[Change], counted: Locks = NOTHING
) -> None:
    """Change bookings that are locked, with their occurrences, where they stand.

    An occurrence and its claims end with the last of its bookings. `counted` is what counts them, and is locked.
    """
    rows = [{**one.row(), **_counted(counted)} for one in changes]
    _wished(connection, record, changes, connection.execute(_CHANGE, record.values(rows)).scalar_one())
    leaves_events(connection)


def change_details(connection: Connection, record: Record, changes: Sequence[Change]) -> None:
    """Change bookings that are locked, in nothing that their occurrences depend on."""
    rows = [{**one.row(), **_counted(NOTHING)} for one in changes]
    _wished(connection, record, changes, connection.execute(_CHANGE_DETAILS, record.values(rows)).scalar_one())
    leaves_events(connection)
