"""What persons have said of messages."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, text

from nxsched.domain.preferences import NOTHING_SAID, MessagePreferences
from nxsched.domain.stored import read_preferences, write_preferences

_FETCH: Final = text("SELECT definition::text FROM nxsched.message_preference WHERE tenant_id = :tenant AND who = :who")

_SAVE: Final = text("""
INSERT INTO nxsched.message_preference (tenant_id, who, definition, saved_at)
VALUES (:tenant, :who, CAST(CAST(:definition AS text) AS jsonb), :now)
ON CONFLICT (tenant_id, who) DO UPDATE SET definition = excluded.definition, saved_at = excluded.saved_at
""")

_END_REMINDERS: Final = text("""
INSERT INTO nxsched.message_preference AS p (tenant_id, who, definition, saved_at)
VALUES (:tenant, :who, '{"reminders": []}', :now)
ON CONFLICT (tenant_id, who) DO UPDATE
SET definition = p.definition || excluded.definition, saved_at = excluded.saved_at
RETURNING definition::text
""")

_DELETE: Final = text(
    "DELETE FROM nxsched.message_preference WHERE tenant_id = :tenant AND who = ANY(CAST(:who AS text[]))"
)


def fetch(connection: Connection, tenant: str, who: str) -> MessagePreferences:
    """What somebody has said, if anything."""
    found = connection.execute(_FETCH, {"tenant": tenant, "who": who}).scalar_one_or_none()
    return NOTHING_SAID if found is None else read_preferences(json.loads(found))


def save(connection: Connection, tenant: str, who: str, preferences: MessagePreferences, now: datetime) -> None:
    """Keep what somebody says; of who says nothing, nothing."""
    if preferences == NOTHING_SAID:
        delete(connection, tenant, [who])
        return
    values = {"tenant": tenant, "who": who, "definition": write_preferences(preferences), "now": now}
    connection.execute(_SAVE, values)


def end_reminders(connection: Connection, tenant: str, who: str, now: datetime) -> MessagePreferences:
    """Have somebody want no reminders, whatever else they have said; gives all of it."""
    found = connection.execute(_END_REMINDERS, {"tenant": tenant, "who": who, "now": now}).scalar_one()
    return read_preferences(json.loads(found))


def delete(connection: Connection, tenant: str, who: list[str]) -> None:
    """Forget what they have said."""
    connection.execute(_DELETE, {"tenant": tenant, "who": who})
