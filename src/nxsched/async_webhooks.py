# Written by tests/faces.py from webhooks.py: change that, and run `make fix`.
"""The endpoints of a tenant as an application manages them, and the log of what was posted to them, with asyncio."""

from __future__ import annotations

from typing import TypeVar

from nxsched.domain.bookings import Actor, Page
from nxsched.domain.commands import ChangeDelivery, DeleteWebhook, SaveWebhook, booking_id
from nxsched.domain.outbox import OutboxState
from nxsched.domain.webhooks import Delivery, Webhook
from nxsched.errors import BookingNotFound, WebhookNotFound
from nxsched.service import actions, webhooks
from nxsched.service.async_unit import AsyncJoined, AsyncUnits
from nxsched.service.relaying import Asked
from nxsched.service.unit import Action, Call

C = TypeVar("C")
R = TypeVar("R")


class AsyncWebhooks:
    """The endpoints of one tenant: `tenant.webhooks`. Changes that follow are posted to those that are enabled.

    A relay posts them: `scheduler.relay(WebhookDelivery())`. Every method takes `within`, those that write an
    `idempotency_key` too, as those of `AsyncTenant`, and they raise the same errors.
    """

    def __init__(self, units: AsyncUnits, asks: Call) -> None:
        self._units = units
        self._asks = asks

    async def save(
        self,
        webhook: Webhook,
        *,
        within: AsyncJoined | None = None,
        idempotency_key: str | None = None,
        actor: Actor | None = None,
    ) -> Webhook:
        """Make an endpoint, or change the one with its `id`; gives it with `id` and secrets.

        It gets the events of what is changed from now on. Without `secrets` a new one gets one, and an old one keeps
        those that it has. Raises `WebhookNotFound`, and `InvalidInput` for more than 100.
        """
        return await self._write(actions.SAVE_WEBHOOK, SaveWebhook(webhook=webhook), within, idempotency_key, actor)

    async def all(self, *, within: AsyncJoined | None = None) -> list[Webhook]:
        """All endpoints of the tenant, as they were made, with their secrets."""
        return await self._units.run(webhooks.webhooks, None, self._asks.given(within))

    async def get(self, id: str, *, within: AsyncJoined | None = None) -> Webhook:  # noqa: A002 - its name everywhere
        """One endpoint. Raises `WebhookNotFound`."""
        return await self._units.run(webhooks.webhook, _id(id), self._asks.given(within))

    async def delete(
        self,
        id: str,  # noqa: A002 - its name everywhere
        *,
        within: AsyncJoined | None = None,
        idempotency_key: str | None = None,
        actor: Actor | None = None,
    ) -> None:
        """Delete an endpoint with its log, and all that waits for it. Raises `WebhookNotFound`."""
        await self._write(actions.DELETE_WEBHOOK, DeleteWebhook(id=_id(id)), within, idempotency_key, actor)

    async def deliveries(
        self,
        *,
        webhook: str | None = None,
        booking: str | None = None,
        state: OutboxState | str | None = None,
        after: str | None = None,
        limit: int = 50,
        within: AsyncJoined | None = None,
    ) -> Page[Delivery]:
        """The log: one for each event and endpoint, as the events happened, with the last answer and error.

        Of one endpoint, one booking, or in one `state`; `after` is that of the page before. Raises `WebhookNotFound`,
        and `BookingNotFound` for what is no id.
        """
        asked = Asked(tenant=None, booking=booking, state=state, after=after, limit=limit)
        wanted = asked.every(of=None if webhook is None else _id(webhook))
        return await self._units.run(webhooks.deliveries, wanted, self._asks.given(within))

    async def delivery(self, id: str, *, within: AsyncJoined | None = None) -> Delivery:  # noqa: A002 - its name everywhere
        """One delivery. Raises `EventNotFound`."""
        return await self._units.run(webhooks.delivery, id, self._asks.given(within))

    async def retry(
        self,
        id: str,  # noqa: A002 - its name everywhere
        *,
        within: AsyncJoined | None = None,
        idempotency_key: str | None = None,
        actor: Actor | None = None,
    ) -> Delivery:
        """Have a dead, discarded or waiting delivery posted at once, with all its attempts before it.

        Raises `EventNotFound`, and `InvalidInput` for one that is being posted or was delivered.
        """
        command = ChangeDelivery(id=id, to="retry")
        return await self._write(actions.CHANGE_DELIVERY, command, within, idempotency_key, actor)

    async def discard(
        self,
        id: str,  # noqa: A002 - its name everywhere
        *,
        within: AsyncJoined | None = None,
        idempotency_key: str | None = None,
        actor: Actor | None = None,
    ) -> Delivery:
        """Give a dead or waiting delivery up for good. Raises as `retry`, also for one that was discarded."""
        command = ChangeDelivery(id=id, to="discard")
        return await self._write(actions.CHANGE_DELIVERY, command, within, idempotency_key, actor)

    async def _write(
        self, action: Action[C, R], command: C, within: AsyncJoined | None, key: str | None, actor: Actor | None
    ) -> R:
        return await self._units.write(action, command, self._asks.given(within, key, actor))


def _id(given: object) -> str:
    try:
        return booking_id("id", given, "webhook")
    except BookingNotFound as error:
        raise WebhookNotFound(id=error.id) from error
