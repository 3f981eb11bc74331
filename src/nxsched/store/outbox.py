"""Outbox events that are done. They are written with the change that they tell of: `nxsched.store.changes`."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, text

# An array is made once. IN may be planned as a join that asks for the batch again for each row, and takes too many.
_DELETE_DONE: Final = text("""
DELETE FROM nxsched.outbox_event WHERE tenant_id = :tenant AND done_at <= :before AND id = ANY(ARRAY(
    SELECT id FROM nxsched.outbox_event WHERE tenant_id = :tenant AND done_at <= :before
    ORDER BY done_at LIMIT :most FOR UPDATE SKIP LOCKED))
""")


def delete_done(connection: Connection, tenant: str, now: datetime, keep_days: int, most: int) -> int:
    """Delete events that were delivered so many days ago or earlier, at most so many; gives how many."""
    values = {"tenant": tenant, "before": now - timedelta(days=keep_days), "most": most}
    return connection.execute(_DELETE_DONE, values).rowcount
