"""Reminders: a queue whose rows are due in the future. `nxsched.store.changes` writes them and takes them back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, text

from nxsched.domain.bookings import Booking
from nxsched.domain.instants import instant
from nxsched.domain.outbox import OutboxEvent
from nxsched.domain.preferences import MessagePreferences
from nxsched.domain.reminders import Reminder, ReminderState, ScheduledReminder
from nxsched.slots.zones import before as time_before
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
    payload="jsonb_build_object('reminder', jsonb_build_object('recipient', e.recipient, 'before', e.before,"
    " 'wished', e.wished))",
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


# What was due at this moment and has not gone out is due again, as that of the event type is.
_INSERT_WISHED: Final = text("""
INSERT INTO nxsched.reminder (tenant_id, id, booking_id, version, kind, recipient, before, wished, occurred_at, due_at)
SELECT :tenant, gen_random_uuid(), r.id, r.version, 'booking.reminder', r.recipient, r.before, true, r.due_at, r.due_at
FROM jsonb_to_recordset(CAST(CAST(:rows AS text) AS jsonb))
    AS r(id uuid, version int, recipient text, before text, due_at timestamptz)
WHERE r.due_at > :now OR EXISTS (
    SELECT FROM nxsched.reminder o WHERE o.tenant_id = :tenant AND o.booking_id = r.id AND o.version = r.version - 1
        AND o.ended = 'superseded' AND o.done_at = :now AND o.recipient = r.recipient AND o.before = r.before
        AND o.occurred_at = r.due_at)
ON CONFLICT ON CONSTRAINT reminder_once_key DO NOTHING
""")


def due(start: datetime, timezone: str, reminder: Reminder) -> datetime:
    """When a reminder of something that starts then is due, by the clocks of a time zone."""
    return instant(time_before(timezone, int(start.timestamp()), reminder.days, reminder.seconds))


def insert_wished(
    connection: Connection,
    tenant: str,
    now: datetime,
    bookings: Sequence[tuple[Booking, Sequence[Mapping[str, Any]]]],
    wishes: Mapping[str, MessagePreferences],
) -> None:
    """Write reminders of bookings that those who are reminded wish for, where they are not there already."""
    rows = [row for booking, reminders in bookings for row in _wished(booking, reminders, wishes)]
    if rows:
        connection.execute(_INSERT_WISHED, {"tenant": tenant, "now": now, "rows": json.dumps(rows)})


def _wished(
    booking: Booking, reminders: Sequence[Mapping[str, Any]], wishes: Mapping[str, MessagePreferences]
) -> Iterator[Mapping[str, Any]]:
    for one in {one["recipient"]: one for one in reminders}.values():
        wish = wishes.get(one["who"])
        for reminder in (wish and wish.reminders) or ():
            yield {
                "id": booking.id,
                "version": booking.version,
                "recipient": one["recipient"],
                "before": reminder.before,
                "due_at": due(booking.start, one["timezone"], reminder).isoformat(),
            }


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
