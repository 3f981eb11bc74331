"""The outbox: the events that are to be delivered. `nxsched.store.changes` fills it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, text

from nxsched.domain.outbox import OutboxEvent
from nxsched.store.queue import Queue, common


def _event(row: Mapping[str, Any]) -> OutboxEvent:
    return OutboxEvent(**common(row))


# Of a person who was erased meanwhile no error is kept, but what kind of error it was: it may name them.
EVENTS: Final = Queue(
    noun="event",
    table="outbox_event",
    line=["booking_id"],
    read=_event,
    error="CASE WHEN m.named AND e.payload->'booking'->'attendee' = 'null' THEN m.error_type ELSE m.error END",
)

# An array is made once. IN may be planned as a join that asks for the batch again for each row, and takes too many.
# What an endpoint is still to get keeps its event.
_DELETE_DONE: Final = text("""
DELETE FROM nxsched.outbox_event WHERE tenant_id = :tenant AND done_at <= :before AND id = ANY(ARRAY(
    SELECT id FROM nxsched.outbox_event e WHERE tenant_id = :tenant AND done_at <= :before
        AND (SELECT true FROM nxsched.webhook_delivery d
            WHERE d.tenant_id = :tenant AND d.event_id = e.id AND d.done_at IS NULL AND d.dead_at IS NULL
            LIMIT 1) IS NULL
    ORDER BY done_at LIMIT :most FOR UPDATE OF e SKIP LOCKED))
""")


def delete_done(connection: Connection, tenant: str, now: datetime, keep_days: int, most: int) -> int:
    """Delete events that were delivered so many days ago or earlier, at most so many; gives how many."""
    values = {"tenant": tenant, "before": now - timedelta(days=keep_days), "most": most}
    return connection.execute(_DELETE_DONE, values).rowcount
