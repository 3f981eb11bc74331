"""Reminders: a queue whose rows are due in the future. `nxsched.store.changes` writes them and takes them back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, text

from nxsched.domain.outbox import OutboxEvent
from nxsched.domain.reminders import ReminderState, ScheduledReminder
from nxsched.store.queue import Queue, common
from nxsched.store.statements import statement


def _event(row: Mapping[str, Any]) -> OutboxEvent:
    return OutboxEvent(**common(row))


# It happens when it is due: `due_at` goes on with each attempt. What waits for its time is no backlog. What was
# superseded while it went out has gone out all the same. The erasure of a person supersedes what waits, as any change
# does, so that no error that names them is written down afterwards.
REMINDERS: Final = Queue(
    noun="reminder",
    table="reminder",
    line=["id"],
    read=_event,
    payload="jsonb_build_object('reminder', jsonb_build_object('recipient', e.recipient, 'before', e.before))",
    kept=""", ended = CASE m.outcome WHEN 'delivered' THEN 'sent' WHEN 'skipped' THEN 'skipped' WHEN 'dead' THEN 'dead'
            ELSE e.ended END""",
    also=""", went_out AS (
    UPDATE nxsched.reminder e SET ended = 'sent' FROM mine m
    WHERE m.outcome = 'delivered' AND e.tenant_id = m.tenant_id AND e.id = m.id AND e.ended = 'superseded'
)""",
    look_first=True,
    backlog="(due_at <= :now OR attempts > 0)",
)

_LIST: Final = statement(
    """
SELECT r.id::text AS id, r.booking_id::text AS booking_id, r.version, r.recipient, r.before, r.occurred_at AS due_at,
    coalesce(r.ended, CASE WHEN r.leased_until > :now THEN 'leased' ELSE 'waiting' END) AS state, r.attempts,
    r.last_error AS reason
FROM nxsched.reminder r WHERE r.tenant_id = :tenant AND r.booking_id = CAST(:booking AS uuid)
ORDER BY r.occurred_at, r.version, r.recipient""",
    "id booking_id version recipient before due_at state attempts reason",
)

_DELETE_ENDED: Final = text("""
DELETE FROM nxsched.reminder WHERE tenant_id = :tenant AND ended_at <= :before AND id = ANY(ARRAY(
    SELECT id FROM nxsched.reminder WHERE tenant_id = :tenant AND ended_at <= :before
    ORDER BY ended_at LIMIT :most FOR UPDATE SKIP LOCKED))
""")


def list_reminders(connection: Connection, tenant: str, booking: str, now: datetime) -> list[ScheduledReminder]:
    """All reminders of a booking, by when they are due."""
    rows = connection.execute(_LIST, {"tenant": tenant, "booking": booking, "now": now})
    return [
        ScheduledReminder(**{**row, "due_at": row["due_at"].astimezone(UTC), "state": ReminderState(row["state"])})
        for row in rows.mappings()
    ]


def delete_ended(connection: Connection, tenant: str, now: datetime, keep_days: int, most: int) -> int:
    """Delete reminders that ended so many days ago or earlier, at most so many; gives how many."""
    values = {"tenant": tenant, "before": now - timedelta(days=keep_days), "most": most}
    return connection.execute(_DELETE_ENDED, values).rowcount
