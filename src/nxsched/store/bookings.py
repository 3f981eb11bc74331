"""Read bookings: one, those that are to be changed, a page of many; and their audit trail."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, TextClause, text

from nxsched.domain.bookings import Actor, Attendee, AuditEntry, Booking, BookingStatus, Person
from nxsched.domain.event_types import EventType
from nxsched.domain.stored import read_event_type
from nxsched.domain.tenants import TenantDetails
from nxsched.store.conflicts import Waited
from nxsched.store.locks import Locks
from nxsched.store.settings import counts

# What is over at its hour is over, whether somebody has tidied it up or not.
_STATUS: Final = "CASE WHEN b.status IN ('held', 'pending') AND b.expires_at <= :now THEN 'expired' ELSE b.status END"

# JSON comes as text: an application may have told the driver to read it in a way of its own.
_COLUMNS: Final = """b.id::text AS id, b.occurrence_id::text AS occurrence_id, e.slug AS event_type, b.starts_at,
    b.ends_at, b.seats, b.attendee_name, b.attendee_email, b.attendee_timezone, b.attendee_reference,
    b.answers::text AS answers, b.metadata::text AS metadata, b.location, b.reference, b.series_id::text AS series_id,
    b.organizer, b.sequence, b.version, b.moves,
    b.assigned_because, b.created_at, b.expires_at"""

_HOSTS: Final = """ARRAY(SELECT h.slug FROM nxsched.claim c
    JOIN nxsched.host h ON h.tenant_id = b.tenant_id AND h.host_no = c.host_no
    WHERE c.tenant_id = b.tenant_id AND c.occurrence_id = b.occurrence_id ORDER BY c.place) AS hosts"""

_FROM: Final = """FROM nxsched.booking b
    JOIN nxsched.event_type e ON e.tenant_id = b.tenant_id AND e.event_type_no = b.event_type_no"""

_ONE: Final = text(
    f"SELECT {_COLUMNS}, {_STATUS} AS status, {_HOSTS} {_FROM} WHERE b.tenant_id = :tenant AND b.id = CAST(:id AS uuid)"
)

# The occurrence first: who joins it, leaves it or stays, decides with the others what becomes of it. The time is told
# outside, after the wait for the rows.
_LOCKED_ROWS: Final = f"""
SELECT *, {{locked}}, clock_timestamp() AS told, clock_timestamp() - statement_timestamp() > interval '50 ms' AS waited
FROM (
SELECT {_COLUMNS}, b.status, e.name AS event_type_name, e.settings::text AS settings, t.name AS tenant_name, t.sender, (
    SELECT jsonb_agg(jsonb_build_object('slug', h.slug, 'name', h.name, 'email', h.email,
        'timezone', h.settings->>'timezone') ORDER BY c.place)
    FROM nxsched.claim c JOIN nxsched.host h ON h.tenant_id = b.tenant_id AND h.host_no = c.host_no
    WHERE c.tenant_id = b.tenant_id AND c.occurrence_id = b.occurrence_id)::text AS parties
{_FROM} JOIN nxsched.tenant t ON t.tenant_id = b.tenant_id {{its}}
WHERE b.tenant_id = :tenant AND {{which}} ORDER BY b.occurrence_id, b.id {{most}} FOR NO KEY UPDATE OF {{of}} {{wait}}
) AS locked
"""

_OCCURRENCE: Final = "JOIN nxsched.occurrence o ON o.tenant_id = b.tenant_id AND o.id = b.occurrence_id"


def _locked(which: str, *, locked: str = "", most: str = "", wait: str = "", occurrences: bool = True) -> str:
    """The bookings that a condition finds, locked, with their occurrences unless nothing becomes of these."""
    its, of = (_OCCURRENCE, "o, b") if occurrences else ("", "b")
    return _LOCKED_ROWS.format(which=which, locked=locked or _NO_LOCKS, most=most, wait=wait, its=its, of=of)


_NO_LOCKS: Final = (
    "NULL::bigint AS locked, NULL::bigint AS counted, NULL::bigint[] AS hosts, NULL::bigint[] AS counted_hosts"
)

_LOCK_ONE: Final = text(_locked("b.id = CAST(:id AS uuid)"))

_COUNTS_BY_EVENT_TYPE: Final = """(e.settings->'limits' <> '[]' OR (e.settings->>'capacity')::int > 1
        OR e.settings->'policies'->>'most_upcoming' IS NOT NULL)"""

# What is counted is locked first, in the order that everybody keeps: the event type, its hosts, the booking. A scalar
# subquery is computed before the scan that it filters.
_LOCK_COUNTED: Final = text(
    f"""
WITH its AS (
    SELECT event_type_no, occurrence_id FROM nxsched.booking WHERE tenant_id = :tenant AND id = CAST(:id AS uuid)
), first AS (
    SELECT e.event_type_no, {_COUNTS_BY_EVENT_TYPE} AS counts
    FROM its JOIN nxsched.event_type e ON e.event_type_no = its.event_type_no
    WHERE e.tenant_id = :tenant AND (:anew OR {_COUNTS_BY_EVENT_TYPE}) FOR NO KEY UPDATE OF e
), second AS (
    SELECT h.host_no, wanted.taken AND h.settings->'limits' <> '[]' AS counts FROM (
        SELECT host_no, bool_or(taken) AS taken FROM (
            SELECT c.host_no, true AS taken FROM its
            JOIN nxsched.claim c ON c.tenant_id = :tenant AND c.occurrence_id = its.occurrence_id
            UNION ALL
            SELECT m.host_no, false FROM its
            JOIN nxsched.event_type_member m ON m.tenant_id = :tenant AND m.event_type_no = its.event_type_no
            WHERE :anew
        ) AS either GROUP BY host_no
    ) wanted JOIN nxsched.host h ON h.tenant_id = :tenant AND h.host_no = wanted.host_no
    WHERE (SELECT count(*) FROM first) >= 0 AND (:anew OR h.settings->'limits' <> '[]')
    ORDER BY h.host_no FOR NO KEY UPDATE OF h
)"""
    + _locked(
        "b.id = CAST(:id AS uuid) AND (SELECT count(*) FROM second) >= 0",
        locked="""(SELECT event_type_no FROM first) AS locked, ARRAY(SELECT host_no FROM second) AS hosts,
    (SELECT event_type_no FROM first WHERE counts) AS counted,
    ARRAY(SELECT host_no FROM second WHERE counts) AS counted_hosts""",
    )
)

_LOCK_SERIES: Final = text(_locked("b.series_id = CAST(:series AS uuid)"))

# Who moves a booking to another occurrence, or joins one, has this lock: so under it nothing of a series goes away, and
# nobody comes to its occurrences in another order.
_LOCK_ITS_EVENT_TYPE: Final = text("""
SELECT event_type_no FROM nxsched.event_type WHERE tenant_id = :tenant AND event_type_no IN (
    SELECT event_type_no FROM nxsched.booking WHERE tenant_id = :tenant AND series_id = CAST(:series AS uuid))
ORDER BY event_type_no FOR NO KEY UPDATE
""")

_THEIRS: Final = """SELECT id FROM nxsched.booking WHERE tenant_id = :tenant AND attendee_reference = :reference
    UNION SELECT id FROM nxsched.booking WHERE tenant_id = :tenant AND attendee_address = lower(:email)"""
"""Two look-ups, each by its index: an OR is looked for in all bookings by start, where a tenant has many."""

_LOCK_THEIRS: Final = text(_locked(f"b.id = ANY(ARRAY({_THEIRS}))", occurrences=False))

_LOCK_OCCURRENCE: Final = text(
    _locked("""b.occurrence_id = CAST(:occurrence AS uuid)
    AND b.status IN ('held', 'pending', 'confirmed', 'completed', 'no_show')""")
)

_CLAIMS: Final = text("""
SELECT h.slug, c.host_no, c.claimed_at, c.busy_from, c.busy_until FROM nxsched.claim c
JOIN nxsched.host h ON h.tenant_id = :tenant AND h.host_no = c.host_no
WHERE c.tenant_id = :tenant AND c.occurrence_id = CAST(:occurrence AS uuid) ORDER BY c.place
""")

_LOCK_IN_THE_WAY: Final = text(
    _locked("""b.status IN ('held', 'pending') AND b.expires_at <= :now AND b.occurrence_id IN (
    SELECT c.occurrence_id FROM nxsched.claim c
    WHERE c.tenant_id = :tenant AND c.host_no = ANY(CAST(:hosts AS bigint[])) AND c.active AND c.held_until <= :now
        AND c.busy_until > :busy_from AND c.busy_from < :busy_until)""")
)

# What somebody else has in hand just now, they end or confirm themselves. The states are named for the index of those
# that end by themselves, which a parameter does not prove to be enough; an array is made once, and looked up by key.
_LOCK_DUE: Final = text(
    _locked(
        """b.status = :status AND b.expires_at <= :now AND b.id = ANY(ARRAY(
    SELECT id FROM nxsched.booking WHERE tenant_id = :tenant AND status = :status AND status IN ('held', 'pending')
        AND expires_at <= :now ORDER BY expires_at LIMIT :most))""",
        wait="SKIP LOCKED",
    )
)

_HISTORY: Final = text(
    "SELECT booking_id::text, version, action, at, actor::text, reason, changes::text FROM nxsched.audit_entry"
    " WHERE tenant_id = :tenant AND booking_id = CAST(:id AS uuid) ORDER BY version"
)


_IS_THERE: Final = text("SELECT 1 FROM nxsched.booking WHERE tenant_id = :tenant AND id = CAST(:id AS uuid)")

_NONCE: Final = text(
    f"SELECT b.nonce, {_STATUS} AS status FROM nxsched.booking b WHERE b.tenant_id = :tenant"
    " AND b.id = CAST(:id AS uuid)"
)

_ALONE: Final = text(f"""
SELECT NOT EXISTS (
    SELECT FROM nxsched.booking b WHERE b.tenant_id = :tenant AND b.occurrence_id = CAST(:occurrence AS uuid)
    AND b.id <> CAST(:id AS uuid) AND {counts("b")})
""")

_BEFORE_ITS_END: Final = text("""
SELECT CASE b.status WHEN 'expired' THEN (
    SELECT changes->'status'->>0 FROM nxsched.audit_entry
    WHERE tenant_id = :tenant AND booking_id = b.id AND action = 'expire' ORDER BY version DESC LIMIT 1
) ELSE b.status END
FROM nxsched.booking b WHERE b.tenant_id = :tenant AND b.id = CAST(:id AS uuid)
""")


@dataclass(frozen=True, slots=True)
class Standing:
    """A booking as it is stored, locked, with what its messages need beside it.

    `parties` are its hosts, as JSON; `moves` is how often it was moved; `told` is the time after the wait for the lock,
    `waited` whether there was one.
    `locked` is what was locked before it, and `counted` is that of it which its confirmation is counted by.
    """

    booking: Booking
    occurrence: str
    event_type: EventType
    tenant: TenantDetails
    parties: Sequence[Mapping[str, Any]]
    moves: int
    told: datetime
    waited: bool
    locked: Locks
    counted: Locks


def fetch_booking(connection: Connection, tenant: str, id_: str, now: datetime) -> Booking | None:
    """A booking or hold, if there is one, in the state that it has now."""
    row = connection.execute(_ONE, {"tenant": tenant, "id": id_, "now": now}).one_or_none()
    return _booking(row, row.hosts) if row else None


def lock_booking(connection: Connection, tenant: str, id_: str) -> Standing | None:
    """The booking that is to be changed, locked, if there is one."""
    return _one(connection, _LOCK_ONE, {"tenant": tenant, "id": id_})


def lock_counted(connection: Connection, tenant: str, id_: str, *, anew: bool) -> Standing | None:
    """The same, after what it is counted by: an event type with limits or seats, and hosts with limits.

    `anew` locks the event type and all of its hosts, limits or not, for what may have to be judged anew.
    """
    return _one(connection, _LOCK_COUNTED, {"tenant": tenant, "id": id_, "anew": anew})


def stands_alone(connection: Connection, tenant: str, standing: Standing, now: datetime) -> bool:
    """Whether nobody else has seats in the booking's occurrence, which is locked."""
    values = {"tenant": tenant, "occurrence": standing.occurrence, "id": standing.booking.id, "now": now}
    alone: bool = connection.execute(_ALONE, values).scalar_one()
    return alone


def lock_expired(
    connection: Connection, tenant: str, hosts: Sequence[int], span: tuple[datetime, datetime], now: datetime
) -> list[Standing]:
    """What has expired with claims on these hosts that reach into the span, locked in one order."""
    values = {"tenant": tenant, "hosts": list(hosts), "busy_from": span[0], "busy_until": span[1], "now": now}
    return _standing(connection, _LOCK_IN_THE_WAY, values)


def lock_series(connection: Connection, tenant: str, series: str) -> list[Standing]:
    """All bookings of a series, whatever has become of them, locked in one order, after their event type."""
    connection.execute(_LOCK_ITS_EVENT_TYPE, {"tenant": tenant, "series": series})
    return _settled(connection, _LOCK_SERIES, {"tenant": tenant, "series": series})


def lock_occurrence(connection: Connection, tenant: str, occurrence: str) -> list[Standing]:
    """All that stands in an occurrence, which is locked already, so that nobody joins it or leaves."""
    return _settled(connection, _LOCK_OCCURRENCE, {"tenant": tenant, "occurrence": occurrence})


@dataclass(frozen=True, slots=True)
class Claims:
    """The time that an occurrence takes, from when until when; by slug its hosts' numbers, and when they got it."""

    hosts: Mapping[str, tuple[int, datetime]]
    busy_from: datetime
    busy_until: datetime


def fetch_claims(connection: Connection, tenant: str, occurrence: str) -> Claims:
    """The claims of an occurrence."""
    rows = connection.execute(_CLAIMS, {"tenant": tenant, "occurrence": occurrence}).all()
    hosts = {row.slug: (row.host_no, row.claimed_at.astimezone(UTC)) for row in rows}
    return Claims(hosts, rows[0].busy_from.astimezone(UTC), rows[0].busy_until.astimezone(UTC))


def lock_attendee(connection: Connection, tenant: str, who: Person) -> list[Standing]:
    """All bookings and holds of a person, locked in one order."""
    return _settled(connection, _LOCK_THEIRS, {"tenant": tenant, "reference": who.reference, "email": who.email})


def fetch_nonce(connection: Connection, tenant: str, id_: str, now: datetime) -> tuple[str, BookingStatus] | None:
    """The secret that stands with a booking, and the state it has now."""
    row = connection.execute(_NONCE, {"tenant": tenant, "id": id_, "now": now}).one_or_none()
    return (row.nonce, BookingStatus(row.status)) if row else None


def lock_due(connection: Connection, tenant: str, status: str, now: datetime, most: int) -> list[Standing]:
    """Holds, or pending bookings, whose time is over, at most so many; none that somebody else has locked."""
    return _standing(connection, _LOCK_DUE, {"tenant": tenant, "status": status, "now": now, "most": most})


def was_held(connection: Connection, tenant: str, id_: str) -> bool:
    """Whether a booking that has expired, tidied up or not, was a hold, and not one that waited for approval."""
    status: str = connection.execute(_BEFORE_ITS_END, {"tenant": tenant, "id": id_}).scalar_one()
    return status == "held"


def _one(connection: Connection, statement: TextClause, values: dict[str, Any]) -> Standing | None:
    """A booking, locked. After a wait it is read again: what is beside it was read before."""
    found = _standing(connection, statement, values)
    if not found and connection.execute(_IS_THERE, {"tenant": values["tenant"], "id": values["id"]}).one_or_none():
        raise Waited("the booking went to another occurrence in the meantime: run the transaction again")
    if any(one.waited for one in found):
        again = _standing(connection, _LOCK_ONE, {"tenant": values["tenant"], "id": values["id"]})
        found = [replace(now, locked=one.locked, counted=one.counted) for one, now in zip(found, again, strict=True)]
    return next(iter(found), None)


def _settled(connection: Connection, statement: TextClause, values: dict[str, Any]) -> list[Standing]:
    """Bookings, locked; after a wait read again, when nobody else can change them."""
    found = _standing(connection, statement, values)
    if not any(one.waited for one in found):
        return found
    again = _standing(connection, statement, values)
    if {one.booking.id for one in again} != {one.booking.id for one in found}:
        raise Waited("other bookings were changed in the meantime: run the transaction again")
    return again


def _standing(connection: Connection, statement: TextClause, values: dict[str, Any]) -> list[Standing]:
    rows = connection.execute(statement, values).all()
    if any(row.parties is None for row in rows):  # while we waited for the row, it went to claims we do not see yet
        raise Waited("the booking went to another occurrence in the meantime: run the transaction again")
    return [_stands(row, json.loads(row.parties), values["tenant"]) for row in rows]


def _stands(row: Row[Any], parties: Sequence[Mapping[str, Any]], tenant: str) -> Standing:
    return Standing(
        _booking(row, [one["slug"] for one in parties]),
        row.occurrence_id,
        read_event_type(row.event_type, row.event_type_name, row.settings, archived=False),
        TenantDetails(id=tenant, name=row.tenant_name, sender=row.sender),
        parties,
        row.moves,
        row.told.astimezone(UTC),
        row.waited,
        Locks(row.locked, frozenset(row.hosts or ())),
        Locks(row.counted, frozenset(row.counted_hosts or ())),
    )


def list_history(connection: Connection, tenant: str, id_: str) -> list[AuditEntry]:
    """The audit trail of a booking, oldest first."""
    return [
        AuditEntry(
            booking_id=row.booking_id,
            version=row.version,
            action=row.action,
            at=row.at.astimezone(UTC),
            actor=Actor(**json.loads(row.actor)) if row.actor else None,
            reason=row.reason,
            changes={field: (before, after) for field, (before, after) in json.loads(row.changes).items()},
        )
        for row in connection.execute(_HISTORY, {"tenant": tenant, "id": id_})
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which bookings a list shows; what is `None` shows all. `after` is where the page before ended: start and id.

    `to_come` are those that stand and have not ended, or all others.
    """

    statuses: Sequence[str]
    host: str | None = None
    event_type: str | None = None
    person: Person | None = None
    series: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    words: str | None = None
    to_come: bool | None = None
    after: tuple[datetime, str] | None = None
    latest_first: bool = False


_TO_COME: Final = f"({_STATUS} IN ('pending', 'confirmed') AND b.ends_at > :now)"

_CONDITIONS: Final[Mapping[str, str]] = {
    "host": """EXISTS (SELECT FROM nxsched.claim c
        JOIN nxsched.host h ON h.tenant_id = c.tenant_id AND h.host_no = c.host_no
        WHERE c.tenant_id = b.tenant_id AND c.occurrence_id = b.occurrence_id AND h.slug = :host)""",
    "event_type": """b.event_type_no = (SELECT event_type_no FROM nxsched.event_type
        WHERE tenant_id = :tenant AND slug = :event_type)""",
    "series": "b.series_id = CAST(:series AS uuid)",
    "start": "b.starts_at >= :start",
    "end": "b.starts_at < :end",
    "words": """strpos(lower(concat_ws(' ', b.attendee_name, b.attendee_email, b.attendee_reference, b.reference)),
        lower(:words)) > 0""",
}


def list_bookings(connection: Connection, tenant: str, wanted: Filter, limit: int, now: datetime) -> list[Booking]:
    """Bookings by start and id, at most `limit` of them, in the state that they have now."""
    values: dict[str, Any] = {"tenant": tenant, "statuses": list(wanted.statuses), "limit": limit, "now": now}
    conditions = ["b.tenant_id = :tenant", f"{_STATUS} = ANY(:statuses)"]
    if {"held", "pending"}.issuperset(wanted.statuses):  # few of many: an index has them, and sees that from this
        conditions.append("b.status IN ('held', 'pending')")
    for name, condition in _CONDITIONS.items():
        value = getattr(wanted, name)
        if value is not None:
            conditions.append(condition)
            values[name] = value
    if wanted.person is not None:
        conditions.append(f"b.id = ANY(ARRAY({_THEIRS}))")
        values |= {"reference": wanted.person.reference, "email": wanted.person.email}
    if wanted.to_come is not None:
        conditions.append(_TO_COME if wanted.to_come else f"NOT {_TO_COME}")
    way, beyond = ("DESC", "<") if wanted.latest_first else ("ASC", ">")
    if wanted.after is not None:
        conditions.append(f"(b.starts_at, b.id) {beyond} (:after_start, CAST(:after_id AS uuid))")
        values["after_start"], values["after_id"] = wanted.after
    statement = text(
        f"SELECT {_COLUMNS}, {_STATUS} AS status, {_HOSTS} {_FROM}"
        f" WHERE {' AND '.join(conditions)} ORDER BY b.starts_at {way}, b.id {way} LIMIT :limit"
    )
    return [_booking(row, row.hosts) for row in connection.execute(statement, values)]


def _booking(row: Row[Any], hosts: Sequence[str]) -> Booking:
    attendee = None
    if row.attendee_name is not None:
        attendee = Attendee(
            name=row.attendee_name,
            email=row.attendee_email,
            timezone=row.attendee_timezone,
            reference=row.attendee_reference,
        )
    return Booking(
        id=row.id,
        event_type=row.event_type,
        status=BookingStatus(row.status),
        start=row.starts_at.astimezone(UTC),
        end=row.ends_at.astimezone(UTC),
        hosts=tuple(hosts),
        attendee=attendee,
        seats=row.seats,
        answers=json.loads(row.answers),
        location=row.location,
        metadata=json.loads(row.metadata),
        reference=row.reference,
        series_id=row.series_id,
        organizer=row.organizer,
        sequence=row.sequence,
        version=row.version,
        assigned_because=row.assigned_because,
        created_at=row.created_at.astimezone(UTC),
        expires_at=row.expires_at and row.expires_at.astimezone(UTC),
    )
