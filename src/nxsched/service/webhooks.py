"""Endpoints of a tenant and the deliveries to them, as the application sees them. Nothing is posted here."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from sqlalchemy import Connection

from nxsched.domain.bookings import Page
from nxsched.domain.commands import ChangeDelivery, DeleteWebhook, SaveWebhook
from nxsched.domain.webhooks import Delivery, Webhook
from nxsched.errors import InvalidInput, WebhookNotFound
from nxsched.service import relaying
from nxsched.service.ids import new_webhook_secret
from nxsched.service.tools import Tools
from nxsched.store import webhooks as store
from nxsched.store.queue import Wanted
from nxsched.store.webhooks import DELIVERIES

MOST: Final = 100
"""Endpoints of one tenant: every change of a booking writes a row for each."""


def save(connection: Connection, command: SaveWebhook, tools: Tools) -> Webhook:
    """Make an endpoint, or change the one that is there. One that is switched on again is not switched off because."""
    given = command.webhook
    store.lock_webhooks(connection, tools.tenant)
    known = store.list_webhooks(connection, tools.tenant)
    before = next((one for one in known if one.id == given.id), None)
    if given.id is not None and before is None:
        raise WebhookNotFound(id=given.id)
    if before is None and len(known) >= MOST:
        raise InvalidInput(field="webhook", reason=f"there are {MOST} already, and a tenant can have no more")
    saved = replace(
        given,
        id=given.id or tools.id,
        secrets=given.secrets or (before.secrets if before else (new_webhook_secret(),)),
        disabled_because=None if given.enabled or not before else before.disabled_because,
    )
    store.save_webhook(connection, tools.tenant, saved, tools.now)
    return saved


def webhook(connection: Connection, id_: str, tools: Tools) -> Webhook:
    """An endpoint, with its secrets. Raises `WebhookNotFound`."""
    found = store.list_webhooks(connection, tools.tenant, id_)
    if not found:
        raise WebhookNotFound(id=id_)
    return found[0]


def webhooks(connection: Connection, asked: None, tools: Tools) -> list[Webhook]:  # noqa: ARG001 - as every query
    """All endpoints of the tenant, as they were made."""
    return store.list_webhooks(connection, tools.tenant)


def delete(connection: Connection, command: DeleteWebhook, tools: Tools) -> None:
    """Delete an endpoint with its log and all that waits for it. Raises `WebhookNotFound`."""
    store.lock_webhooks(connection, tools.tenant)
    if not store.delete_webhook(connection, tools.tenant, command.id):
        raise WebhookNotFound(id=command.id)


def deliveries(connection: Connection, wanted: Wanted, tools: Tools) -> Page[Delivery]:
    """A page of the log. Raises `WebhookNotFound`."""
    if wanted.of is not None:
        webhook(connection, wanted.of, tools)
    return relaying.page(connection, DELIVERIES, replace(wanted, tenant=tools.tenant), tools)


def delivery(connection: Connection, id_: str, tools: Tools) -> Delivery:
    """One delivery. Raises `EventNotFound`."""
    return relaying.one_of(connection, DELIVERIES, id_, tools)


def change(connection: Connection, command: ChangeDelivery, tools: Tools) -> Delivery:
    """Have it posted again, or give it up. Raises `EventNotFound`, and `InvalidInput` where it cannot be."""
    how = DELIVERIES.retry if command.to == "retry" else DELIVERIES.discard
    found = relaying.changed(connection, DELIVERIES, command.id, tools, how)
    if command.to == "retry":
        store.wake_webhook(connection, tools.tenant, found.webhook_id)
    return found
