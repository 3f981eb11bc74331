"""Event types and their members: write and read."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Row, text

from nxsched.domain.event_types import EventType
from nxsched.domain.stored import read_event_type, write_event_type
from nxsched.slots.facts import reach

_SAVE: Final = text("""
INSERT INTO nxsched.event_type AS e
    (tenant_id, slug, name, settings, reach_before, reach_after, created_at, archived_at)
VALUES (:tenant, :slug, :name, CAST(CAST(:settings AS text) AS jsonb), :reach_before, :reach_after, :now,
    CASE WHEN :archived THEN CAST(:now AS timestamptz) END)
ON CONFLICT (tenant_id, slug) DO UPDATE SET name = excluded.name, settings = excluded.settings,
    reach_before = excluded.reach_before, reach_after = excluded.reach_after,
    archived_at = CASE WHEN :archived THEN coalesce(e.archived_at, excluded.archived_at) END
RETURNING event_type_no
""")

_LEAVE: Final = text("""
DELETE FROM nxsched.event_type_member m WHERE m.tenant_id = :tenant AND m.event_type_no = :event_type
    AND m.host_no NOT IN (SELECT host_no FROM nxsched.host WHERE tenant_id = :tenant AND slug = ANY(:slugs))
""")

_ENTER: Final = text("""
INSERT INTO nxsched.event_type_member (tenant_id, event_type_no, host_no)
SELECT :tenant, :event_type, host_no FROM nxsched.host WHERE tenant_id = :tenant AND slug = ANY(:slugs)
ON CONFLICT DO NOTHING
""")

_KNOWN: Final = text("SELECT slug FROM nxsched.host WHERE tenant_id = :tenant AND slug = ANY(:slugs)")

_MINUTE: Final = timedelta(minutes=1)

_COLUMNS: Final = "slug, name, settings::text, archived_at IS NOT NULL AS archived"
_FIND: Final = text(f"SELECT {_COLUMNS} FROM nxsched.event_type WHERE tenant_id = :tenant AND slug = :slug")
_LIST: Final = text(f"""
SELECT {_COLUMNS} FROM nxsched.event_type WHERE tenant_id = :tenant AND (archived_at IS NULL OR :archived)
ORDER BY slug
""")

_ARCHIVE: Final = text("""
UPDATE nxsched.event_type SET archived_at = coalesce(archived_at, :now) WHERE tenant_id = :tenant AND slug = :slug
RETURNING true
""")


def list_known_hosts(connection: Connection, tenant: str, event_type: EventType) -> set[str]:
    """Those of the event type's members that there are."""
    return set(connection.execute(_KNOWN, {"tenant": tenant, "slugs": _slugs(event_type)}).scalars())


def save_event_type(connection: Connection, tenant: str, event_type: EventType, now: datetime) -> None:
    """Insert an event type with its members, or put it in the place of the one with its slug."""
    before, after = reach(event_type)
    values = {
        "tenant": tenant,
        "slug": event_type.slug,
        "name": event_type.name,
        "settings": write_event_type(event_type),
        "reach_before": before // _MINUTE,
        "reach_after": after // _MINUTE,
        "archived": event_type.archived,
        "now": now,
    }
    number = connection.execute(_SAVE, values).scalar_one()
    members = {"tenant": tenant, "event_type": number, "slugs": _slugs(event_type)}
    connection.execute(_LEAVE, members)
    connection.execute(_ENTER, members)


def fetch_event_type(connection: Connection, tenant: str, slug: str) -> EventType | None:
    """An event type, if there is one; also one that is archived."""
    row = connection.execute(_FIND, {"tenant": tenant, "slug": slug}).one_or_none()
    return _event_type(row) if row else None


def list_event_types(connection: Connection, tenant: str, *, archived: bool) -> list[EventType]:
    """Event types by slug."""
    return [_event_type(row) for row in connection.execute(_LIST, {"tenant": tenant, "archived": archived})]


def archive_event_type(connection: Connection, tenant: str, slug: str, now: datetime) -> bool:
    """Archive an event type; false where there is none."""
    return connection.execute(_ARCHIVE, {"tenant": tenant, "slug": slug, "now": now}).one_or_none() is not None


def _slugs(event_type: EventType) -> list[str]:
    return [slug for group in event_type.groups for slug in group.members]


def _event_type(row: Row[Any]) -> EventType:
    # Not the one that is kept: what the application does to its own is to change nobody else's.
    return read_event_type.__wrapped__(row.slug, row.name, row.settings, archived=row.archived)
