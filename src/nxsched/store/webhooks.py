"""Endpoints of tenants, and the deliveries to them. `nxsched.store.changes` makes one for each event and endpoint."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, text

from nxsched.domain.webhooks import Delivery, Webhook, WebhookAnswer
from nxsched.errors import InvalidInput
from nxsched.store.queue import Queue, common
from nxsched.store.statements import statement

LOG: Final = logging.getLogger("nxsched.webhooks")

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
        webhook=_webhook_or_none(row),
        event_id=row["event_id"],
        answer=answer and WebhookAnswer(**{**answer, "took": timedelta(seconds=answer["took"])}),
    )


def _webhook_or_none(row: Mapping[str, Any]) -> Webhook | None:
    """One that another version has saved, and this one cannot read, must not keep the others from being posted to."""
    if row["url"] is None:
        return None
    try:
        return _webhook(row)
    except InvalidInput as error:
        LOG.warning("the webhook %s of %s cannot be read: %s", row["webhook_id"], row["tenant"], error)
        return None


_WEBHOOK: Final = "h.url, h.kinds::text AS kinds, h.secrets::text AS secrets, h.enabled, h.disabled_because"
_NAMES: Final = "url kinds secrets enabled disabled_because"

# An endpoint that fails rests, longer each time, whatever waits for it: or those of one that is away would take the
# places of all others. One that says that it is gone is switched off; what waits for it is dead when a relay comes to
# it. That it was the same address is asked, for somebody may have given it another one meanwhile.
_HEARD: Final = f""", heard AS (
    UPDATE nxsched.webhook h SET enabled = h.enabled AND NOT s.gone,
        disabled_because = CASE WHEN h.enabled AND s.gone THEN 'it answered {GONE} Gone' ELSE h.disabled_because END,
        failures = CASE WHEN s.alive THEN 0 ELSE h.failures + 1 END,
        rests_until = CASE WHEN NOT s.alive THEN CAST(:now AS timestamptz)
            + least(interval '1 hour', interval '5 seconds' * 2 ^ least(h.failures, 12)) END
    FROM (
        SELECT tenant_id, webhook_id, bool_or(outcome = 'delivered') AS alive, max(answer->>'url') AS url,
            bool_or(coalesce(answer->>'status', '') = '{GONE}') AS gone
        FROM settled WHERE answer IS NOT NULL GROUP BY tenant_id, webhook_id
    ) s
    WHERE h.tenant_id = s.tenant_id AND h.id = s.webhook_id AND h.url = s.url AND (NOT s.alive OR h.failures > 0)
)"""

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
    also=_HEARD,
    may="""coalesce((SELECT h.rests_until FROM nxsched.webhook h
            WHERE h.tenant_id = e.tenant_id AND h.id = e.webhook_id) <= :now, true)""",
    of="e.webhook_id",
    keeps_answers=True,
    fails_with=lambda delivery: delivery.webhook_id,
)

_SAVE: Final = text("""
INSERT INTO nxsched.webhook (tenant_id, id, url, kinds, secrets, enabled, disabled_because, created_at)
VALUES (:tenant, CAST(:id AS uuid), :url, CAST(CAST(:kinds AS text) AS jsonb),
    CAST(CAST(:secrets AS text) AS jsonb), :enabled, :because, :now)
ON CONFLICT (tenant_id, id) DO UPDATE SET url = excluded.url, kinds = excluded.kinds, secrets = excluded.secrets,
    enabled = excluded.enabled, disabled_because = excluded.disabled_because, failures = 0, rests_until = NULL
""")

_LIST: Final = statement(
    f"SELECT h.id::text AS webhook_id, {_WEBHOOK} FROM nxsched.webhook h"
    " WHERE h.tenant_id = :tenant AND (CAST(:id AS uuid) IS NULL OR h.id = CAST(:id AS uuid))"
    " ORDER BY h.created_at, h.id",
    f"webhook_id {_NAMES}",
)

# What it has had stays in the log, until its event goes.
_DELETE_ITS: Final = text("""
DELETE FROM nxsched.webhook_delivery
WHERE tenant_id = :tenant AND webhook_id = CAST(:id AS uuid) AND done_at IS NULL AND dead_at IS NULL
""")
_DELETE: Final = text("DELETE FROM nxsched.webhook WHERE tenant_id = :tenant AND id = CAST(:id AS uuid) RETURNING id")
_WAKE: Final = text("""
UPDATE nxsched.webhook SET rests_until = NULL
WHERE tenant_id = :tenant AND id = CAST(:id AS uuid) AND rests_until IS NOT NULL
""")

_LOCK: Final = text("SELECT 1 FROM nxsched.tenant WHERE tenant_id = :tenant FOR NO KEY UPDATE")


def lock_webhooks(connection: Connection, tenant: str) -> None:
    """Let nobody else save or delete endpoints of the tenant until the transaction ends."""
    connection.execute(_LOCK, {"tenant": tenant})


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
    values = {"tenant": tenant, "id": id_}
    connection.execute(_DELETE_ITS, values)
    return connection.execute(_DELETE, values).one_or_none() is not None


def wake_webhook(connection: Connection, tenant: str, id_: str) -> None:
    """Have an endpoint that rests posted to again."""
    connection.execute(_WAKE, {"tenant": tenant, "id": id_})
