"""Lock bookings that are to be changed, with what their messages need, and what they are counted by before them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any, Final

from sqlalchemy import Connection, Row, TextClause, text

from nxsched.domain.bookings import Booking, Person
from nxsched.domain.event_types import EventType
from nxsched.domain.preferences import HOST
from nxsched.domain.stored import read_event_type
from nxsched.domain.tenants import TenantDetails
from nxsched.store.bookings import COLUMNS, FROM, THEIRS, read_booking
from nxsched.store.conflicts import Waited
from nxsched.store.locks import Locks

NOTICED = timedelta(milliseconds=50)
"""A statement that took longer may have waited for somebody, and what it read is read again."""

# The occurrence first: who joins it, leaves it or stays, decides with the others what becomes of it. The time is told
# outside, after the wait for the rows.
_LOCKED_ROWS: Final = f"""
SELECT *, {{locked}}, clock_timestamp() AS told,
    clock_timestamp() - statement_timestamp() > CAST(:noticed AS interval) AS waited
FROM (
SELECT {COLUMNS}, b.status, e.name AS event_type_name, e.settings::text AS settings, t.name AS tenant_name, t.sender, (
    SELECT jsonb_agg(jsonb_build_object('slug', h.slug, 'name', h.name, 'email', h.email,
        'timezone', h.settings->>'timezone') ORDER BY c.place)
    FROM nxsched.claim c JOIN nxsched.host h ON h.tenant_id = b.tenant_id AND h.host_no = c.host_no
    WHERE c.tenant_id = b.tenant_id AND c.occurrence_id = b.occurrence_id)::text AS parties
{FROM} JOIN nxsched.tenant t ON t.tenant_id = b.tenant_id {{its}}
WHERE b.tenant_id = :tenant AND {{which}} ORDER BY b.occurrence_id, b.id {{most}} FOR NO KEY UPDATE OF {{of}} {{wait}}
) AS locked
"""

_OCCURRENCE: Final = "JOIN nxsched.occurrence o ON o.tenant_id = b.tenant_id AND o.id = b.occurrence_id"


def _locked(which: str, *, locked: str = "", most: str = "", wait: str = "", occurrences: bool = True) -> str:
    """The bookings that a condition finds, locked, with their occurrences unless nothing becomes of these."""
    its, of = (_OCCURRENCE, "o, b") if occurrences else ("", "b")
    return _LOCKED_ROWS.format(which=which, locked=locked or _NO_LOCKS, most=most, wait=wait, its=its, of=of)


_NO_LOCKS: Final = """NULL::bigint AS locked, NULL::bigint AS counted, NULL::bigint[] AS hosts,
    NULL::bigint[] AS counted_hosts, false AS crowded"""

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
    ARRAY(SELECT host_no FROM second WHERE counts) AS counted_hosts,
    EXISTS (SELECT FROM nxsched.booking other WHERE other.tenant_id = :tenant
        AND other.occurrence_id = CAST(locked.occurrence_id AS uuid) AND other.id <> CAST(locked.id AS uuid)
        AND other.status IN ('held', 'pending') AND other.expires_at <= CAST(:now AS timestamptz)) AS crowded""",
    )
)

_LOCK_SERIES: Final = text(_locked("b.series_id = CAST(:series AS uuid)"))

# Who moves a booking to another occurrence, or joins one, has this lock: so under it nothing of a series goes away, and
# nobody comes to its occurrences in another order.
_THEIR_EVENT_TYPES: Final = """
SELECT event_type_no FROM nxsched.event_type WHERE tenant_id = :tenant AND event_type_no = ANY(ARRAY(
    SELECT b.event_type_no FROM nxsched.booking b WHERE b.tenant_id = :tenant AND {which}))
ORDER BY event_type_no FOR NO KEY UPDATE"""

_LOCK_ITS_EVENT_TYPE: Final = text(_THEIR_EVENT_TYPES.format(which="b.series_id = CAST(:series AS uuid)"))

# The array is made once: while we wait for a row, it may become somebody else's, by the confirmation of a hold.
_ALL_OF_THEM: Final = f"""b.id = ANY(ARRAY({THEIRS}))
    AND (b.attendee_reference = :reference OR b.attendee_address = lower(:email))"""

_LOCK_THEIRS: Final = text(_locked(_ALL_OF_THEM, occurrences=False))

# Who takes several bookings of an occurrence without the occurrence, takes them after the event type, as those do who
# reassign it: they take one booking of it before the others.
_LOCK_THEIR_EVENT_TYPES: Final = text(_THEIR_EVENT_TYPES.format(which=_ALL_OF_THEM))

# What somebody is reminded of, as the attendee or as a host.
_REMINDED: Final = """b.status = 'confirmed' AND b.starts_at > :now AND b.id = ANY(ARRAY(
    SELECT id FROM nxsched.booking WHERE tenant_id = :tenant AND starts_at > :now AND {theirs}))"""

_ATTENDEES: Final = _REMINDED.format(theirs="attendee_address = lower(:who)")
_HOSTS: Final = _REMINDED.format(
    theirs="""occurrence_id = ANY(ARRAY(
        SELECT c.occurrence_id FROM nxsched.claim c
        JOIN nxsched.host h ON h.tenant_id = :tenant AND h.host_no = c.host_no
        WHERE c.tenant_id = :tenant AND h.slug = :who AND c.active AND c.busy_until > :now))"""
)
_LOCK_ATTENDEES, _LOCK_HOSTS = (
    (text(_THEIR_EVENT_TYPES.format(which=which)), text(_locked(which, occurrences=False)))
    for which in (_ATTENDEES, _HOSTS)
)

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
        AND c.busy_until > :busy_from AND c.busy_from < :busy_until
    UNION ALL SELECT CAST(:beside AS uuid))""")
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

_IS_THERE: Final = text("SELECT 1 FROM nxsched.booking WHERE tenant_id = :tenant AND id = CAST(:id AS uuid)")


@dataclass(frozen=True, slots=True)
class Standing:
    """A booking as it is stored, locked, with what its messages need beside it.

    `parties` are its hosts, as JSON; `moves` is how often it was moved; `told` is the time after the wait for the lock,
    `waited` whether there was one.
    `locked` is what was locked before it, and `counted` is that of it which its confirmation is counted by; `crowded`,
    whether something beside it in its occurrence is over and was not tidied up.
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
    crowded: bool


def lock_booking(connection: Connection, tenant: str, id_: str) -> Standing | None:
    """The booking that is to be changed, locked, if there is one."""
    return _one(connection, _LOCK_ONE, {"tenant": tenant, "id": id_})


def lock_counted(connection: Connection, tenant: str, id_: str, now: datetime, *, anew: bool) -> Standing | None:
    """The same, after what it is counted by: an event type with limits or seats, and hosts with limits.

    `anew` locks the event type and all of its hosts, limits or not, for what may have to be judged anew.
    """
    return _one(connection, _LOCK_COUNTED, {"tenant": tenant, "id": id_, "anew": anew, "now": now})


def lock_expired(
    connection: Connection,
    tenant: str,
    hosts: Sequence[int],
    span: tuple[datetime, datetime],
    now: datetime,
    *,
    beside: str | None,
) -> tuple[list[Standing], bool]:
    """What has expired with claims on these hosts that reach into the span, or in an occurrence, locked in order.

    And whether there may have been a wait for it: a row that went to somebody else says nothing of it.
    """
    begun = monotonic()
    values = {"tenant": tenant, "hosts": list(hosts), "busy_from": span[0], "busy_until": span[1], "now": now}
    found = _standing(connection, _LOCK_IN_THE_WAY, {**values, "beside": beside})
    return found, not found or timedelta(seconds=monotonic() - begun) > NOTICED


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
    """All bookings and holds of a person, locked in one order, after their event types."""
    values = {"tenant": tenant, "reference": who.reference, "email": who.email}
    connection.execute(_LOCK_THEIR_EVENT_TYPES, values)
    return _settled(connection, _LOCK_THEIRS, values)


def lock_reminded(connection: Connection, tenant: str, who: str, now: datetime) -> list[Standing]:
    """The bookings to come of somebody, as `nxsched.domain.preferences` calls them, locked as those of a person."""
    slug = who.removeprefix(HOST)
    event_types, bookings = _LOCK_ATTENDEES if slug == who else _LOCK_HOSTS
    values = {"tenant": tenant, "who": slug, "now": now}
    connection.execute(event_types, values)
    return _settled(connection, bookings, values)


def lock_due(connection: Connection, tenant: str, status: str, now: datetime, most: int) -> list[Standing]:
    """Holds, or pending bookings, whose time is over, at most so many; none that somebody else has locked."""
    return _standing(connection, _LOCK_DUE, {"tenant": tenant, "status": status, "now": now, "most": most})


def _one(connection: Connection, statement: TextClause, values: dict[str, Any]) -> Standing | None:
    """A booking, locked. After a wait it is read again: what is beside it was read before."""
    found = _standing(connection, statement, values)
    if not found and connection.execute(_IS_THERE, {"tenant": values["tenant"], "id": values["id"]}).one_or_none():
        raise Waited("the booking went to another occurrence in the meantime: run the transaction again")
    if any(one.waited for one in found):
        again = _standing(connection, _LOCK_ONE, {"tenant": values["tenant"], "id": values["id"]})
        found = [
            replace(now, locked=one.locked, counted=one.counted, crowded=one.crowded)
            for one, now in zip(found, again, strict=True)
        ]
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
    rows = connection.execute(statement, {**values, "noticed": NOTICED}).all()
    if any(row.parties is None for row in rows):  # while we waited for the row, it went to claims we do not see yet
        raise Waited("the booking went to another occurrence in the meantime: run the transaction again")
    return [_stands(row, json.loads(row.parties), values["tenant"]) for row in rows]


def _stands(row: Row[Any], parties: Sequence[Mapping[str, Any]], tenant: str) -> Standing:
    return Standing(
        read_booking(row, [one["slug"] for one in parties]),
        row.occurrence_id,
        read_event_type(row.event_type, row.event_type_name, row.settings, archived=False),
        TenantDetails(id=tenant, name=row.tenant_name, sender=row.sender),
        parties,
        row.moves,
        row.told.astimezone(UTC),
        row.waited,
        Locks(row.locked, frozenset(row.hosts or ())),
        Locks(row.counted, frozenset(row.counted_hosts or ())),
        row.crowded,
    )
