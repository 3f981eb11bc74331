"""Hosts, their blocked periods and their outside busy time: write and read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, text

from nxsched.domain.availability import BlockedPeriod, BusyTime
from nxsched.domain.hosts import Host
from nxsched.domain.stored import read_blocked, read_host, write_blocked, write_host
from nxsched.slots.intervals import Interval

_SAVE: Final = text("""
INSERT INTO nxsched.host AS h (tenant_id, slug, name, email, settings, attributes, created_at, archived_at)
VALUES (:tenant, :slug, :name, :email, CAST(CAST(:settings AS text) AS jsonb),
    CAST(CAST(:attributes AS text) AS jsonb), :now, CASE WHEN :archived THEN CAST(:now AS timestamptz) END)
ON CONFLICT (tenant_id, slug) DO UPDATE SET name = excluded.name, email = excluded.email,
    settings = excluded.settings, attributes = excluded.attributes,
    archived_at = CASE WHEN :archived THEN coalesce(h.archived_at, excluded.archived_at) END
""")

_COLUMNS: Final = "host_no, slug, name, email, settings::text, attributes, archived_at IS NOT NULL AS archived"
_LIST: Final = text(f"""
SELECT {_COLUMNS} FROM nxsched.host WHERE tenant_id = :tenant AND (archived_at IS NULL OR :archived) ORDER BY slug
""")
_FIND: Final = text(f"SELECT {_COLUMNS} FROM nxsched.host WHERE tenant_id = :tenant AND slug = :slug")

_ARCHIVE: Final = text("""
UPDATE nxsched.host SET archived_at = coalesce(archived_at, :now) WHERE tenant_id = :tenant AND slug = :slug
RETURNING true
""")

_NUMBER: Final = text("SELECT host_no FROM nxsched.host WHERE tenant_id = :tenant AND slug = :slug")

_LOCK: Final = text("""
UPDATE nxsched.host SET claim_version = claim_version + 1 WHERE tenant_id = :tenant AND slug = :slug RETURNING host_no
""")

_BLOCK: Final = text("""
INSERT INTO nxsched.blocked_period (tenant_id, id, host_no, definition, reach_from, reach_until, created_at)
VALUES (:tenant, CAST(:id AS uuid), :host, CAST(CAST(:definition AS text) AS jsonb), :reach_from, :reach_until, :now)
ON CONFLICT (tenant_id, id) DO NOTHING RETURNING true
""")

_BLOCKED: Final = """
SELECT id::text, definition::text FROM nxsched.blocked_period WHERE tenant_id = :tenant AND {which}
ORDER BY reach_from, id
"""
_BLOCKED_ONE: Final = text(_BLOCKED.format(which="id = CAST(:id AS uuid)"))
_BLOCKED_HOST: Final = text(_BLOCKED.format(which="host_no = :host"))
_CLOSURES: Final = text(_BLOCKED.format(which="host_no IS NULL"))

_UNBLOCK: Final = text(
    "DELETE FROM nxsched.blocked_period WHERE tenant_id = :tenant AND id = CAST(:id AS uuid) RETURNING true"
)

_FORGET_BUSY: Final = text("""
DELETE FROM nxsched.busy_time WHERE tenant_id = :tenant AND host_no = :host AND source = :source
    AND busy_until > :start AND busy_from < :end
""")

_INSERT_BUSY: Final = text("""
INSERT INTO nxsched.busy_time (tenant_id, host_no, source, busy_from, busy_until)
SELECT :tenant, :host, :source, to_timestamp(p.a), to_timestamp(p.b)
FROM unnest(CAST(:starts AS bigint[]), CAST(:ends AS bigint[])) AS p(a, b)
""")

_BUSY: Final = text("""
SELECT source, busy_from, busy_until FROM nxsched.busy_time
WHERE tenant_id = :tenant AND host_no = :host AND busy_until > :start AND busy_from < :end
ORDER BY busy_from, busy_until, source
""")


def save_host(connection: Connection, tenant: str, host: Host, now: datetime) -> None:
    """Insert a host, or put it in the place of the one with its slug."""
    values = {
        "tenant": tenant,
        "slug": host.slug,
        "name": host.name,
        "email": host.email,
        "settings": write_host(host),
        "attributes": json.dumps(host.attributes),
        "archived": host.archived,
        "now": now,
    }
    connection.execute(_SAVE, values)


def fetch_host(connection: Connection, tenant: str, slug: str) -> Host | None:
    """A host, if there is one; also one that is archived."""
    row = connection.execute(_FIND, {"tenant": tenant, "slug": slug}).one_or_none()
    return _host(row) if row else None


def list_hosts(connection: Connection, tenant: str, *, archived: bool) -> list[Host]:
    """Hosts by slug."""
    return [_host(row) for row in connection.execute(_LIST, {"tenant": tenant, "archived": archived})]


def archive_host(connection: Connection, tenant: str, slug: str, now: datetime) -> bool:
    """Archive a host; false where there is none."""
    return connection.execute(_ARCHIVE, {"tenant": tenant, "slug": slug, "now": now}).one_or_none() is not None


def fetch_host_number(connection: Connection, tenant: str, slug: str) -> int | None:
    """The number of a host."""
    number: int | None = connection.execute(_NUMBER, {"tenant": tenant, "slug": slug}).scalar()
    return number


def lock_host(connection: Connection, tenant: str, slug: str) -> int | None:
    """Lock a host as `nxsched.store.locks` does, and change it at once; gives its number."""
    number: int | None = connection.execute(_LOCK, {"tenant": tenant, "slug": slug}).scalar()
    return number


def insert_blocked(connection: Connection, tenant: str, host: int | None, period: BlockedPeriod, now: datetime) -> bool:
    """Insert a blocked period of a host, or of the whole tenant; false where there is one with its id."""
    first, last = period.reach()
    values = {
        "tenant": tenant,
        "id": period.id,
        "host": host,
        "definition": write_blocked(period),
        "reach_from": first,
        "reach_until": last,
        "now": now,
    }
    return connection.execute(_BLOCK, values).one_or_none() is not None


def fetch_blocked(connection: Connection, tenant: str, id_: str) -> BlockedPeriod | None:
    """A blocked period, if there is one."""
    row = connection.execute(_BLOCKED_ONE, {"tenant": tenant, "id": id_}).one_or_none()
    return read_blocked(*row) if row else None


def list_blocked(connection: Connection, tenant: str, host: int | None) -> list[BlockedPeriod]:
    """The blocked periods of a host, or the closures of the tenant, by their beginning."""
    if host is None:
        rows = connection.execute(_CLOSURES, {"tenant": tenant})
    else:
        rows = connection.execute(_BLOCKED_HOST, {"tenant": tenant, "host": host})
    return [read_blocked(*row) for row in rows]


def delete_blocked(connection: Connection, tenant: str, id_: str) -> bool:
    """Delete a blocked period; false where there is none."""
    return connection.execute(_UNBLOCK, {"tenant": tenant, "id": id_}).one_or_none() is not None


def replace_busy(
    connection: Connection,
    tenant: str,
    host: int,
    source: str,
    span: tuple[datetime, datetime],
    busy: Sequence[Interval],
) -> None:
    """Put these times in the place of all that the source had reported in the span."""
    whose = {"tenant": tenant, "host": host, "source": source}
    connection.execute(_FORGET_BUSY, {**whose, "start": span[0], "end": span[1]})
    if busy:
        connection.execute(_INSERT_BUSY, {**whose, "starts": [a for a, _ in busy], "ends": [b for _, b in busy]})


def list_busy(connection: Connection, tenant: str, host: int, start: datetime, end: datetime) -> list[BusyTime]:
    """What outside calendars have reported, by start."""
    rows = connection.execute(_BUSY, {"tenant": tenant, "host": host, "start": start, "end": end})
    return [
        BusyTime(source=source, start=first.astimezone(UTC), end=last.astimezone(UTC)) for source, first, last in rows
    ]


def _host(row: Row[Any]) -> Host:
    found = read_host(row.slug, row.name, row.email, row.settings, archived=row.archived)
    return replace(found, attributes=row.attributes)  # never those of the host that is kept in memory
