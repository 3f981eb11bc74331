"""Write a question of the calculator into a database: what is set by the library, what is booked by plain SQL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID, uuid5

from sqlalchemy import Connection, text

from nxsched import EventType, Scheduler, Tenant
from nxsched.domain.availability import BookedTime
from nxsched.domain.refusals import Refusal
from nxsched.slots.query import SlotQuery

_NAMES = UUID("00000000-0000-4000-8000-000000000000")

NAMELESS = "nameless"
"""The slug of an event type that has none in its scenario: no booking belongs to it."""

NOBODYS = "nobodys"
"""The event type of bookings that have none in their scenario: each is an occurrence by itself."""

LIVE = ("confirmed", "pending", "held", "completed", "no_show")
OVER = ("cancelled", "declined", "expired", "released")
UNSWEPT = {"hold that is over": "held", "request that is over": "pending"}
"""What is over and nobody has swept, with its status: its claim stands in the table, and counts for nothing."""

STATUSES = ("confirmed", "confirmed", *LIVE, *UNSWEPT)


@dataclass(frozen=True)
class Row:
    """A booking with its status in the table."""

    booking: BookedTime
    status: str


@dataclass(frozen=True)
class Occurrence:
    """Rows that stand on the same claims."""

    rows: Sequence[Row]
    active: bool


@dataclass(frozen=True)
class Written:
    """A question, and the rows that say the same: `query` knows only what is in force, and the ids of the tables."""

    query: SlotQuery
    occurrences: Sequence[Occurrence]

    @property
    def first(self) -> Mapping[str, str]:
        """By id of a booking, the first id of its occurrence, which is what a refusal of the database names."""
        found: dict[str, str] = {}
        kept = {booking.id for booking in self.query.bookings}
        for occurrence in self.occurrences:
            ids = [str(row.booking.id) for row in occurrence.rows if row.booking.id in kept]
            found |= dict.fromkeys(ids, min(ids, default=""))
        return found

    def refusals(self, given: Sequence[Refusal]) -> set[Refusal]:
        """What the calculator says, as the database says it: an occurrence is in the way once, by its first id."""
        first = self.first
        return {replace(one, id=first.get(one.id or "", one.id)) for one in given}


def name(place: object) -> str:
    """An id for what stands at a place, the same each time."""
    return str(uuid5(_NAMES, str(place)))


def rows_of(query: SlotQuery, statuses: Sequence[str]) -> Written:
    """The question in rows; bookings take the statuses in turn, and those that the tables cannot hold are over."""
    bookings = [replace(one, id=name(("booking", i))) for i, one in enumerate(query.bookings)]
    occurrences: dict[object, list[Row]] = {}
    over: list[Occurrence] = []
    busy: dict[str, list[tuple[int, int]]] = {}
    for i, booking in enumerate(bookings):
        key = (booking.event_type, booking.span(), booking.busy(), frozenset(booking.hosts))
        start, end = booking.busy()
        status = statuses[i % len(statuses)]
        if booking.event_type is not None and key in occurrences:
            occurrences[key].append(Row(booking, status))
        elif any(a < end and start < b for slug in booking.hosts for a, b in busy.get(slug, [])):
            over.append(Occurrence([Row(booking, OVER[i % len(OVER)])], active=False))
        else:
            occurrences[key if booking.event_type is not None else i] = [Row(booking, status)]
            for slug in booking.hosts:
                busy.setdefault(slug, []).append((start, end))
    standing = [Occurrence(rows, active=True) for rows in occurrences.values()]
    kept = [row.booking for one in standing for row in one.rows if row.status in LIVE]
    blocked = {
        slug: [replace(one, id=name((slug, i))) for i, one in enumerate(periods)]
        for slug, periods in query.blocked.items()
    }
    closures = [replace(one, id=name(("closure", i))) for i, one in enumerate(query.closures)]
    order = {booking.id: i for i, booking in enumerate(bookings)}
    kept.sort(key=lambda one: order[one.id])
    found = replace(query, bookings=kept, blocked=blocked, closures=closures)
    return Written(found, [*standing, *over])


def write(scheduler: Scheduler, tenant_id: str, written: Written) -> Tenant:
    """Make a tenant in which all of it is set and booked, as the application's role."""
    query = written.query
    with scheduler.engine.begin() as within:
        tenant = scheduler.create_tenant(tenant_id, name="Acme Ltd", within=within)
        for host in query.hosts:
            tenant.save_host(host, within=within)
        slugs = {booking.event_type or NOBODYS for one in written.occurrences for booking in _bookings(one)}
        for slug in sorted(slugs - {query.event_type.slug}):
            other = EventType(slug=slug, duration=timedelta(minutes=30), hosts=[query.hosts[0].slug])
            tenant.save_event_type(other, within=within)
        tenant.save_event_type(replace(query.event_type, slug=query.event_type.slug or NAMELESS), within=within)
        for slug, periods in query.blocked.items():
            for period in periods:
                tenant.block(slug, period, within=within)
        for period in query.closures:
            tenant.block(None, period, within=within)
        for slug, pairs in query.busy.items():
            if pairs:
                start, end = min(a for a, _ in pairs), max(b for _, b in pairs)
                start, end = start - timedelta(days=1), end + timedelta(days=1)
                tenant.replace_busy(slug, source="outside", start=start, end=end, periods=pairs, within=within)
        _book(within, tenant_id, written)
    return tenant


def _bookings(occurrence: Occurrence) -> Iterator[BookedTime]:
    return (row.booking for row in occurrence.rows)


_OCCURRENCE = text("""
INSERT INTO nxsched.occurrence (tenant_id, id, event_type_no, starts_at, ends_at, active, held_until)
SELECT :tenant, :occurrence, event_type_no, :starts_at, :ends_at, :active, :held_until
FROM nxsched.event_type WHERE tenant_id = :tenant AND slug = :event_type
""")

_CLAIM = text("""
INSERT INTO nxsched.claim
    (tenant_id, occurrence_id, host_no, place, busy_from, busy_until, active, held_until, claimed_at)
SELECT :tenant, :occurrence, host_no, :place, to_timestamp(:busy_from), to_timestamp(:busy_until), :active, :held_until,
    :now
FROM nxsched.host WHERE tenant_id = :tenant AND slug = :host
""")

_BOOKING = text("""
INSERT INTO nxsched.booking (tenant_id, id, occurrence_id, event_type_no, status, starts_at, ends_at, seats, answers,
    metadata, sequence, version, moves, nonce, created_at, expires_at)
SELECT :tenant, :id, :occurrence, event_type_no, :status, :starts_at, :ends_at, :seats, '{}', '{}', 0, 1, 0, 'nonce',
    :now, :expires_at
FROM nxsched.event_type WHERE tenant_id = :tenant AND slug = :event_type
""")


def _book(connection: Connection, tenant_id: str, written: Written) -> None:
    """Insert occurrences, claims and bookings, each where the library would have them."""
    now = written.query.now
    connection.execute(text("SELECT set_config('nxsched.tenant_id', :tenant, true)"), {"tenant": tenant_id})
    for i, one in enumerate(written.occurrences):
        first = one.rows[0].booking
        busy_from, busy_until = first.busy()
        ends = [_expiry(row.status, now) for row in one.rows]
        common = {
            "tenant": tenant_id,
            "occurrence": name((tenant_id, i)),
            "event_type": first.event_type or NOBODYS,
            "starts_at": first.start,
            "ends_at": first.end,
            "active": one.active,
            "held_until": None if None in ends or not one.active else max(at for at in ends if at),
            "now": now,
        }
        connection.execute(_OCCURRENCE, common)
        for place, slug in enumerate(first.hosts, 1):
            values = {**common, "host": slug, "place": place, "busy_from": busy_from, "busy_until": busy_until}
            connection.execute(_CLAIM, values)
        for row, expires_at in zip(one.rows, ends, strict=True):
            status = UNSWEPT.get(row.status, row.status)
            values = {"id": row.booking.id, "status": status, "seats": row.booking.seats, "expires_at": expires_at}
            connection.execute(_BOOKING, {**common, **values})


def _expiry(status: str, now: datetime) -> datetime | None:
    """What is over ended at this very moment; what lives lives a moment longer."""
    if status in UNSWEPT:
        return now
    return now + timedelta(microseconds=1) if status in UNSWEPT.values() else None
