"""Endpoints of tenants, and the deliveries to them. `nxsched.store.changes` makes one for each event and endpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, text

from nxsched.domain.webhooks import Answer, Delivery, Webhook
from nxsched.store.queue import Queue, common
from nxsched.store.statements import statement

GONE: Final = 410
"""The HTTP status by which an endpoint says that it wants nothing more."""


def _webhook(row: Mapping[str, Any]) -> Webhook:
    return Webhook(
        id=row["webhook_id"],
        url=row["url"],
        kinds=json.loads(row["kinds"]),
        secrets=json.loads(row["secrets"]),
        enabled=row["enabled"],
        disabled_because=row["disabled_because"],
    )


def _delivery(row: Mapping[str, Any]) -> Delivery:
    answer = json.loads(row["answer"]) if row["answer"] else None
    return Delivery(
        **common(row),
        webhook_id=row["webhook_id"],
        webhook=_webhook(row) if row["url"] else None,
        event_id=row["event_id"],
        answer=answer and Answer(**{**answer, "took": timedelta(seconds=answer["took"])}),
    )


_WEBHOOK: Final = "h.url, h.kinds::text AS kinds, h.secrets::text AS secrets, h.enabled, h.disabled_because"
_NAMES: Final = "url kinds secrets enabled disabled_because"

# One that says that it is gone is switched off; what waits for it is dead when a relay comes to it. That it was the
# same address is asked, for somebody may have given it another one meanwhile.
DELIVERIES: Final = Queue(
    noun="delivery",
    table="webhook_delivery",
    line=["webhook_id", "booking_id"],
    read=_delivery,
    payload="v.payload",
    more=f", e.webhook_id::text AS webhook_id, e.event_id::text AS event_id, e.answer::text AS answer, {_WEBHOOK}",
    more_columns=f"webhook_id event_id answer {_NAMES}",
    joined="""JOIN nxsched.outbox_event v ON v.tenant_id = e.tenant_id AND v.id = e.event_id
    LEFT JOIN nxsched.webhook h ON h.tenant_id = e.tenant_id AND h.id = e.webhook_id""",
    kept=", answer = CASE WHEN m.outcome = 'untouched' THEN e.answer ELSE m.answer END",
    also=f""", gone AS (
    UPDATE nxsched.webhook h SET enabled = false, disabled_because = 'it answered 410 Gone'
    FROM settled s WHERE (s.answer->>'status')::int = {GONE} AND h.tenant_id = s.tenant_id AND h.id = s.webhook_id
        AND h.enabled AND h.url = s.answer->>'url'
)""",
    of="(CAST(:of AS uuid) IS NULL OR e.webhook_id = CAST(:of AS uuid))",
)

_SAVE: Final = text("""
INSERT INTO nxsched.webhook (tenant_id, id, url, kinds, secrets, enabled, disabled_because, created_at)
VALUES (:tenant, CAST(:id AS uuid), :url, CAST(CAST(:kinds AS text) AS jsonb),
    CAST(CAST(:secrets AS text) AS jsonb), :enabled, :because, :now)
ON CONFLICT (tenant_id, id) DO UPDATE SET url = excluded.url, kinds = excluded.kinds, secrets = excluded.secrets,
    enabled = excluded.enabled, disabled_because = excluded.disabled_because
""")

_LIST: Final = statement(
    f"SELECT h.id::text AS webhook_id, {_WEBHOOK} FROM nxsched.webhook h"
    " WHERE h.tenant_id = :tenant AND (CAST(:id AS uuid) IS NULL OR h.id = CAST(:id AS uuid))"
    " ORDER BY h.created_at, h.id",
    f"webhook_id {_NAMES}",
)

_DELETE: Final = text("""
WITH gone AS (
    DELETE FROM nxsched.webhook WHERE tenant_id = :tenant AND id = CAST(:id AS uuid) RETURNING id
), its AS (
    DELETE FROM nxsched.webhook_delivery d USING gone WHERE d.tenant_id = :tenant AND d.webhook_id = gone.id
)
SELECT id FROM gone
""")


def save_webhook(connection: Connection, tenant: str, webhook: Webhook, now: datetime) -> None:
    """Insert an endpoint or put it in the place of another."""
    values = {
        "tenant": tenant,
        "id": webhook.id,
        "url": webhook.url,
        "kinds": json.dumps(webhook.kinds),
        "secrets": json.dumps(webhook.secrets),
        "enabled": webhook.enabled,
        "because": webhook.disabled_because,
        "now": now,
    }
    connection.execute(_SAVE, values)


def list_webhooks(connection: Connection, tenant: str, id_: str | None = None) -> list[Webhook]:
    """The endpoints of a tenant as they were made, or the one with this id."""
    rows = connection.execute(_LIST, {"tenant": tenant, "id": id_})
    return [_webhook(row._asdict()) for row in rows]


def delete_webhook(connection: Connection, tenant: str, id_: str) -> bool:
    """Delete an endpoint with all that waits for it; false where there is none."""
    return connection.execute(_DELETE, {"tenant": tenant, "id": id_}).one_or_none() is not None
