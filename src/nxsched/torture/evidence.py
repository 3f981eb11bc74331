"""What there is to be judged: all that is stored, read by SQL of its own, and what callers asked for and were told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, text

from nxsched.torture.journal import Asked, written


class Entry(NamedTuple):
    """A line of the audit trail; by a link nobody says who they are, but their reason does."""

    version: int
    action: str
    actor: str | None
    changes: Mapping[str, Sequence[Any]]
    at: datetime


class Told(NamedTuple):
    """An outbox event."""

    version: int
    kind: str
    booking: Mapping[str, Any]


class Received(NamedTuple):
    """What a receiver was given: an event, a reminder, or the post of an event to the endpoint `of`.

    `received_at` is on the monotonic clock, `read_at` is when a relay read it, as the database tells the time; `told`,
    whether it says anything of the booking.
    """

    id: str
    of: str | None
    tenant: str
    booking: str
    version: int
    kind: str
    told: bool
    received_at: float
    read_at: str


class Queued(NamedTuple):
    """What there is to be delivered since `at`, and what became of it."""

    id: str
    of: str | None
    booking: str
    version: int
    kind: str
    done: bool
    dead: bool
    ended: str | None
    at: datetime


def is_poison(id_: str) -> bool:
    """Whether the receiver will never take what has this id: one of 256."""
    return id_.endswith("00")


@dataclass
class Row:
    """A booking as it is stored, with its records."""

    id: str
    now: Mapping[str, Any]
    version: int
    entries: list[Entry] = field(default_factory=list)
    events: list[Told] = field(default_factory=list)

    @property
    def is_erased(self) -> bool:
        """Whether its attendee was taken out of it."""
        return any(one.action == "erase" for one in self.entries)

    def states(self) -> dict[int, dict[str, Any]]:
        """What its audit entries add up to, version by version."""
        found: dict[int, dict[str, Any]] = {}
        state: dict[str, Any] = {}
        for entry in self.entries:
            state = {**state, **{name: after for name, (_, after) in entry.changes.items()}}
            found[entry.version] = state
        return found


@dataclass
class Evidence:
    """All that there is to be looked at: what is stored, and what callers were told."""

    rows: Mapping[str, Row]
    claims: Sequence[Mapping[str, Any]]
    occurrences: Sequence[Mapping[str, Any]]
    keys: Mapping[str, str]
    asked: Mapping[str, Asked]
    names: Sequence[tuple[str, str, str]]
    blocked: Mapping[str, int]
    busy: Mapping[str, Sequence[str]]
    people: Collection[str]
    seen_by_the_other: Mapping[str, int]
    left: Sequence[str]
    swept_at: datetime
    received: Sequence[Received] = ()
    queued: Mapping[str, Queued] = field(default_factory=dict)
    drained_at: datetime | None = None
    keys_before: Collection[str] = ()
    orphans: Sequence[str] = ()

    def forgotten(self, one: Asked) -> bool:
        """Whether it was about somebody who was erased since: then its key is gone, and who repeats it begins anew."""
        about = {one.arguments.get("booking_id"), one.arguments.get("hold_id")}
        about |= {row.id for row, _ in self.entries_of(one.key)}
        about |= {told.id for tried in one.tries for told in tried.told}
        about |= {row.id for row in self._of_series.get(one.arguments.get("series_id"), [])}
        return not about.isdisjoint(self._erased)

    def entries_of(self, key: str) -> list[tuple[Row, Entry]]:
        """What a call has left in the audit trail."""
        return self._by_key.get(key, [])

    def __post_init__(self) -> None:
        """Find entries by the call that made them, and who was erased."""
        self._erased = {row.id for row in self.rows.values() if row.is_erased}
        self._of_series: dict[str | None, list[Row]] = defaultdict(list)
        for row in self.rows.values():
            if row.now["series_id"] is not None:
                self._of_series[row.now["series_id"]].append(row)
        self._by_key: dict[str, list[tuple[Row, Entry]]] = defaultdict(list)
        for row in self.rows.values():
            for entry in row.entries:
                if entry.actor is not None:
                    self._by_key[entry.actor].append((row, entry))


def gathered(
    above: Connection,
    tenant: str,
    asked: Mapping[str, Asked],
    seen_by_the_other: Mapping[str, int],
    left: Sequence[str],
    swept_at: datetime,
) -> Evidence:
    """The evidence of a tenant, read through a login that sees everything."""
    rows: dict[str, Row] = {}
    for one in above.execute(_BOOKINGS, {"tenant": tenant}).mappings():
        rows[one["id"]] = Row(one["id"], dict(one), one["version"])
    orphans: list[str] = []
    for id_, version, action, actor, changes, at in above.execute(_ENTRIES, {"tenant": tenant}):
        if id_ in rows:
            rows[id_].entries.append(Entry(version, action, actor, changes, at))
        else:
            orphans.append(f"an audit entry of {id_}, which is not there")
    for id_, version, booking, kind in above.execute(_EVENTS, {"tenant": tenant}):
        if id_ in rows:
            rows[id_].events.append(Told(version, kind, booking))
        else:
            orphans.append(f"an event of {id_}, which is not there")
    busy: dict[str, list[str]] = defaultdict(list)
    for host, start in above.execute(_BUSY, {"tenant": tenant}):
        busy[host].append(written(start))
    return Evidence(
        rows,
        [dict(one) for one in above.execute(_CLAIMS, {"tenant": tenant}).mappings()],
        [dict(one) for one in above.execute(_OCCURRENCES, {"tenant": tenant}).mappings()],
        {row.key: row.id for row in above.execute(_KEYS, {"tenant": tenant})},
        {key: one for key, one in asked.items() if one.tenant == tenant},
        [(kind, slug, name) for kind, slug, name in above.execute(_NAMES, {"tenant": tenant})],
        {row.reason: row.times for row in above.execute(_BLOCKED, {"tenant": tenant})},
        busy,
        {f"who {of} {key}" for of, key in above.execute(_PEOPLE, {"tenant": tenant})},
        seen_by_the_other,
        left,
        swept_at,
        queued={one.id: Queued(*one) for one in above.execute(_QUEUED, {"tenant": tenant})},
        orphans=orphans,
    )


_BOOKINGS: Final = text("""
SELECT b.id::text, b.version, b.status, b.starts_at, b.ends_at, b.expires_at, b.seats, b.location, b.sequence,
    b.assigned_because, b.occurrence_id::text AS occurrence, b.series_id::text, e.slug AS event_type, o.active,
    b.answers, b.metadata, b.reference, CASE WHEN b.attendee_name IS NOT NULL THEN jsonb_build_object('name',
        b.attendee_name, 'email', b.attendee_email, 'timezone', b.attendee_timezone, 'reference', b.attendee_reference)
        END AS attendee,
    ARRAY(SELECT h.slug FROM nxsched.claim c JOIN nxsched.host h ON h.host_no = c.host_no
        WHERE c.occurrence_id = b.occurrence_id ORDER BY c.place) AS hosts
FROM nxsched.booking b JOIN nxsched.event_type e ON e.event_type_no = b.event_type_no
JOIN nxsched.occurrence o ON o.id = b.occurrence_id WHERE b.tenant_id = :tenant
""")
_ENTRIES: Final = text("""
SELECT booking_id::text, version, action, coalesce(actor->>'id', reason), changes, at FROM nxsched.audit_entry
WHERE tenant_id = :tenant ORDER BY booking_id, version
""")
_EVENTS: Final = text("""
SELECT booking_id::text, version, payload->'booking', kind FROM nxsched.outbox_event WHERE tenant_id = :tenant
ORDER BY booking_id, version
""")
_QUEUED: Final = text("""
SELECT id::text, NULL AS of, booking_id::text, version, kind, done_at IS NOT NULL, dead_at IS NOT NULL, NULL AS ended,
    occurred_at AS at FROM nxsched.outbox_event WHERE tenant_id = :tenant
UNION ALL SELECT id::text, webhook_id::text, booking_id::text, version, kind, done_at IS NOT NULL, dead_at IS NOT NULL,
    NULL, occurred_at FROM nxsched.webhook_delivery WHERE tenant_id = :tenant
UNION ALL SELECT id::text, NULL, booking_id::text, version, kind, done_at IS NOT NULL, dead_at IS NOT NULL, ended,
    occurred_at FROM nxsched.reminder WHERE tenant_id = :tenant
""")
_CLAIMS: Final = text("SELECT *, occurrence_id::text AS occurrence FROM nxsched.claim WHERE tenant_id = :tenant")
_OCCURRENCES: Final = text("""
SELECT o.id::text, o.starts_at, o.ends_at, o.active, e.slug, ARRAY(SELECT h.slug FROM nxsched.claim c
    JOIN nxsched.host h ON h.host_no = c.host_no WHERE c.occurrence_id = o.id) AS hosts
FROM nxsched.occurrence o JOIN nxsched.event_type e ON e.event_type_no = o.event_type_no WHERE o.tenant_id = :tenant
""")
_KEYS: Final = text("SELECT key, result->>'id' AS id FROM nxsched.idempotency_key WHERE tenant_id = :tenant")
_NAMES: Final = text("""
SELECT 'save_host', slug, name FROM nxsched.host WHERE tenant_id = :tenant
UNION ALL SELECT 'save_event_type', slug, name FROM nxsched.event_type WHERE tenant_id = :tenant
UNION ALL SELECT 'save_details', NULL, name FROM nxsched.tenant WHERE tenant_id = :tenant
""")
_BLOCKED: Final = text("""
SELECT definition->>'reason' AS reason, count(*) AS times FROM nxsched.blocked_period
WHERE tenant_id = :tenant GROUP BY 1
""")
_BUSY: Final = text("""
SELECT h.slug, t.busy_from FROM nxsched.busy_time t JOIN nxsched.host h USING (tenant_id, host_no)
WHERE tenant_id = :tenant ORDER BY 1, 2
""")
_PEOPLE: Final = text("""
SELECT DISTINCT found[1], found[2] FROM (
    SELECT to_jsonb(b)::text FROM nxsched.booking b WHERE tenant_id = :tenant
    UNION ALL SELECT to_jsonb(a)::text FROM nxsched.audit_entry a WHERE tenant_id = :tenant
    UNION ALL SELECT to_jsonb(o)::text FROM nxsched.outbox_event o WHERE tenant_id = :tenant
    UNION ALL SELECT to_jsonb(k)::text FROM nxsched.idempotency_key k WHERE tenant_id = :tenant
) AS stored(told), regexp_matches(told, 'who.([a-z]+).(w\\d+\\.\\d+\\.\\d+)', 'g') AS found
""")
"""People by their names, references and addresses, wherever these stand."""
