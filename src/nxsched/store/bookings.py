"""Read bookings: one, a page of many, and their audit trail."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, text

from nxsched.domain.bookings import Actor, Attendee, AuditEntry, Booking, BookingStatus, Person

# What is over at its hour is over, whether somebody has tidied it up or not.
STATUS: Final = "CASE WHEN b.status IN ('held', 'pending') AND b.expires_at <= :now THEN 'expired' ELSE b.status END"

# JSON comes as text: an application may have told the driver to read it in a way of its own.
COLUMNS: Final = """b.id::text AS id, b.occurrence_id::text AS occurrence_id, e.slug AS event_type, b.starts_at,
    b.ends_at, b.seats, b.attendee_name, b.attendee_email, b.attendee_timezone, b.attendee_reference,
    b.answers::text AS answers, b.metadata::text AS metadata, b.location, b.reference, b.series_id::text AS series_id,
    b.organizer, b.sequence, b.version, b.moves,
    b.assigned_because, b.created_at, b.expires_at"""

_HOSTS: Final = """ARRAY(SELECT h.slug FROM nxsched.claim c
    JOIN nxsched.host h ON h.tenant_id = b.tenant_id AND h.host_no = c.host_no
    WHERE c.tenant_id = b.tenant_id AND c.occurrence_id = b.occurrence_id ORDER BY c.place) AS hosts"""

FROM: Final = """FROM nxsched.booking b
    JOIN nxsched.event_type e ON e.tenant_id = b.tenant_id AND e.event_type_no = b.event_type_no"""

_ONE: Final = text(
    f"SELECT {COLUMNS}, {STATUS} AS status, {_HOSTS} {FROM} WHERE b.tenant_id = :tenant AND b.id = CAST(:id AS uuid)"
)

THEIRS: Final = """SELECT id FROM nxsched.booking WHERE tenant_id = :tenant AND attendee_reference = :reference
    UNION SELECT id FROM nxsched.booking WHERE tenant_id = :tenant AND attendee_address = lower(:email)"""
"""Two look-ups, each by its index: an OR is looked for in all bookings by start, where a tenant has many."""

_HISTORY: Final = text(
    "SELECT booking_id::text, version, action, at, actor::text, reason, changes::text FROM nxsched.audit_entry"
    " WHERE tenant_id = :tenant AND booking_id = CAST(:id AS uuid) ORDER BY version"
)


_NONCE: Final = text(
    f"SELECT b.nonce, {STATUS} AS status, clock_timestamp() AS told FROM nxsched.booking b WHERE b.tenant_id = :tenant"
    " AND b.id = CAST(:id AS uuid)"
)

_ADDRESS: Final = text(
    "SELECT attendee_address FROM nxsched.booking WHERE tenant_id = :tenant AND id = CAST(:id AS uuid)"
)
_ADDRESS_OF_SERIES: Final = text("""
SELECT attendee_address FROM nxsched.booking WHERE tenant_id = :tenant AND series_id = CAST(:id AS uuid)
    AND attendee_address IS NOT NULL LIMIT 1
""")

_BEFORE_ITS_END: Final = text("""
SELECT CASE b.status WHEN 'expired' THEN (
    SELECT changes->'status'->>0 FROM nxsched.audit_entry
    WHERE tenant_id = :tenant AND booking_id = b.id AND action = 'expire' ORDER BY version DESC LIMIT 1
) ELSE b.status END
FROM nxsched.booking b WHERE b.tenant_id = :tenant AND b.id = CAST(:id AS uuid)
""")


def fetch_booking(connection: Connection, tenant: str, id_: str, now: datetime) -> Booking | None:
    """A booking or hold, if there is one, in the state that it has now."""
    row = connection.execute(_ONE, {"tenant": tenant, "id": id_, "now": now}).one_or_none()
    return read_booking(row, row.hosts) if row else None


def fetch_nonce(
    connection: Connection, tenant: str, id_: str, now: datetime
) -> tuple[str, BookingStatus, datetime] | None:
    """The secret that stands with a booking, the state it has now, and the time."""
    row = connection.execute(_NONCE, {"tenant": tenant, "id": id_, "now": now}).one_or_none()
    return (row.nonce, BookingStatus(row.status), row.told.astimezone(UTC)) if row else None


def fetch_address(connection: Connection, tenant: str, id_: str, *, series: bool) -> str | None:
    """The e-mail address, in small letters, of who has a booking or a series; `None` where there is none."""
    statement = _ADDRESS_OF_SERIES if series else _ADDRESS
    found: str | None = connection.execute(statement, {"tenant": tenant, "id": id_}).scalar()
    return found


def was_held(connection: Connection, tenant: str, id_: str) -> bool:
    """Whether a booking that has expired, tidied up or not, was a hold, and not one that waited for approval."""
    status: str = connection.execute(_BEFORE_ITS_END, {"tenant": tenant, "id": id_}).scalar_one()
    return status == "held"


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


_TO_COME: Final = f"({STATUS} IN ('pending', 'confirmed') AND b.ends_at > :now)"

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
    conditions = ["b.tenant_id = :tenant", f"{STATUS} = ANY(:statuses)"]
    if {"held", "pending"}.issuperset(wanted.statuses):  # few of many: an index has them, and sees that from this
        conditions.append("b.status IN ('held', 'pending')")
    for name, condition in _CONDITIONS.items():
        value = getattr(wanted, name)
        if value is not None:
            conditions.append(condition)
            values[name] = value
    if wanted.person is not None:
        conditions.append(f"b.id = ANY(ARRAY({THEIRS}))")
        values |= {"reference": wanted.person.reference, "email": wanted.person.email}
    if wanted.to_come is not None:
        conditions.append(_TO_COME if wanted.to_come else f"NOT {_TO_COME}")
    way, beyond = ("DESC", "<") if wanted.latest_first else ("ASC", ">")
    if wanted.after is not None:
        conditions.append(f"(b.starts_at, b.id) {beyond} (:after_start, CAST(:after_id AS uuid))")
        values["after_start"], values["after_id"] = wanted.after
    statement = text(
        f"SELECT {COLUMNS}, {STATUS} AS status, {_HOSTS} {FROM}"
        f" WHERE {' AND '.join(conditions)} ORDER BY b.starts_at {way}, b.id {way} LIMIT :limit"
    )
    return [read_booking(row, row.hosts) for row in connection.execute(statement, values)]


def read_booking(row: Row[Any], hosts: Sequence[str]) -> Booking:
    """A booking as a row of `COLUMNS` and a status has it."""
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
