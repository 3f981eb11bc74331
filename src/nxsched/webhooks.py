"""The endpoints of a tenant as an application manages them, and the log of what was posted to them."""

from __future__ import annotations

from typing import TypeVar

from nxsched.domain.bookings import Actor, Page
from nxsched.domain.commands import ChangeDelivery, DeleteWebhook, SaveWebhook, booking_id
from nxsched.domain.outbox import OutboxState
from nxsched.domain.webhooks import Delivery, Webhook
from nxsched.errors import BookingNotFound, WebhookNotFound
from nxsched.service import actions, webhooks
from nxsched.service.relaying import Asked
from nxsched.service.unit import Action, Call, Joined, Units

C = TypeVar("C")
R = TypeVar("R")


class Webhooks:
    """The endpoints of one tenant: `tenant.webhooks`. Changes that follow are posted to those that are enabled.

    A relay posts them: `scheduler.relay(WebhookDelivery())`. Every method takes `within`, those that write an
    `idempotency_key` too, as those of `Tenant`, and they raise the same errors.
    """

    def __init__(self, units: Units, asks: Call) -> None:
        self._units = units
        self._asks = asks

    def save(
        self,
        webhook: Webhook,
        *,
        within: Joined | None = None,
        idempotency_key: str | None = None,
        actor: Actor | None = None,
    ) -> Webhook:
        """Make an endpoint, or change the one with its `id`; gives it with `id` and secrets.

        It gets the events of what is changed from now on. Without `secrets` a new one gets one, and an old one keeps
        those that it has. Raises `WebhookNotFound`, and `InvalidInput` for more than 100.
        """
        return self._write(actions.SAVE_WEBHOOK, SaveWebhook(webhook=webhook), within, idempotency_key, actor)

    def all(self, *, within: Joined | None = None) -> list[Webhook]:
        """All endpoints of the tenant, as they were made, with their secrets."""
        return self._units.run(webhooks.webhooks, None, self._asks.given(within))

    def get(self, id: str, *, within: Joined | None = None) -> Webhook:  # noqa: A002 - its name everywhere
        """One endpoint. Raises `WebhookNotFound`."""
        return self._units.run(webhooks.webhook, _id(id), self._asks.given(within))

    def delete(
        self,
        id: str,  # noqa: A002 - its name everywhere
        *,
        within: Joined | None = None,
        idempotency_key: str | None = None,
        actor: Actor | None = None,
    ) -> None:
        """Delete an endpoint with its log, and all that waits for it. Raises `WebhookNotFound`."""
        self._write(actions.DELETE_WEBHOOK, DeleteWebhook(id=_id(id)), within, idempotency_key, actor)

    def deliveries(
        self,
        *,
        webhook: str | None = None,
        booking: str | None = None,
        state: OutboxState | str | None = None,
        after: str | None = None,
        limit: int = 50,
        within: Joined | None = None,
    ) -> Page[Delivery]:
        """The log: one for each event and endpoint, as the events happened, with the last answer and error.

        Of one endpoint, one booking, or in one `state`; `after` is that of the page before. Raises `WebhookNotFound`,
        and `BookingNotFound` for what is no id.
        """
        asked = Asked(tenant=None, booking=booking, state=state, after=after, limit=limit)
        wanted = asked.every(of=None if webhook is None else _id(webhook))
        return self._units.run(webhooks.deliveries, wanted, self._asks.given(within))

    def delivery(self, id: str, *, within: Joined | None = None) -> Delivery:  # noqa: A002 - its name everywhere
        """One delivery. Raises `EventNotFound`."""
        return self._units.run(webhooks.delivery, id, self._asks.given(within))

    def retry(
        self,
        id: str,  # noqa: A002 - its name everywhere
        *,
        within: Joined | None = None,
        idempotency_key: str | None = None,
        actor: Actor | None = None,
    ) -> Delivery:
        """Have a dead, discarded or waiting delivery posted at once, with all its attempts before it.

        Raises `EventNotFound`, and `InvalidInput` for one that is being posted or was delivered.
        """
        command = ChangeDelivery(id=id, to="retry")
        return self._write(actions.CHANGE_DELIVERY, command, within, idempotency_key, actor)

    def discard(
        self,
        id: str,  # noqa: A002 - its name everywhere
        *,
        within: Joined | None = None,
        idempotency_key: str | None = None,
        actor: Actor | None = None,
    ) -> Delivery:
        """Give a dead or waiting delivery up for good. Raises as `retry`, also for one that was discarded."""
        command = ChangeDelivery(id=id, to="discard")
        return self._write(actions.CHANGE_DELIVERY, command, within, idempotency_key, actor)

    def _write(
        self, action: Action[C, R], command: C, within: Joined | None, key: str | None, actor: Actor | None
    ) -> R:
        return self._units.write(action, command, self._asks.given(within, key, actor))


def _id(given: object) -> str:
    try:
        return booking_id("id", given, "webhook")
    except BookingNotFound as error:
        raise WebhookNotFound(id=error.id) from error
