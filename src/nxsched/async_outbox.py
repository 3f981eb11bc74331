# Written by tests/faces.py from outbox.py: change that, and run `make fix`.
"""The outbox as who runs an application looks at it: what waits, what is dead, and what is to become of it, with asyncio."""

from __future__ import annotations

from nxsched.domain.bookings import Page
from nxsched.domain.outbox import OutboxEvent, OutboxState, OutboxStatus
from nxsched.service import relaying
from nxsched.service.async_unit import AsyncUnits
from nxsched.service.relaying import Asked
from nxsched.service.unit import Call


class AsyncOutbox:
    """The events of all tenants that are to be delivered, or were: `scheduler.outbox`.

    Every method needs the worker's role: it raises `InvalidInput` where the login sees one tenant at a time.
    """

    def __init__(self, units: AsyncUnits) -> None:
        self._units = units

    async def events(
        self,
        *,
        tenant: str | None = None,
        booking: str | None = None,
        state: OutboxState | str | None = None,
        after: str | None = None,
        limit: int = 50,
    ) -> Page[OutboxEvent]:
        """Events as they happened, those that are not delivered yet: waiting, leased or dead; or those in a `state`.

        `after` is that of the page before; a page has at most 1,000. Raises `InvalidInput` and `TenantNotFound`.
        """
        wanted = Asked(tenant=tenant, booking=booking, state=state, after=after, limit=limit).wanted
        return await self._units.run(relaying.events, wanted, _NO_TENANT)

    async def event(self, id: str) -> OutboxEvent:  # noqa: A002 - its name everywhere
        """One event, with the error of its last attempt. Raises `EventNotFound`."""
        return await self._units.run(relaying.event, id, _NO_TENANT)

    async def retry(self, id: str) -> OutboxEvent:  # noqa: A002 - its name everywhere
        """Have a dead, discarded or waiting event delivered at once, with all its attempts before it.

        Later events of its booking that wait are to follow it; those that were delivered since were not held up. Raises
        `EventNotFound`, and `InvalidInput` for one that is leased or was delivered.
        """
        return await self._units.run(relaying.retry, id, _NO_TENANT)

    async def discard(self, id: str) -> OutboxEvent:  # noqa: A002 - its name everywhere
        """Give a dead or waiting event up for good; the later ones of its booking are delivered then.

        `retry` brings it back until it is tidied away. Raises as that does, also for one that was discarded.
        """
        return await self._units.run(relaying.discard, id, _NO_TENANT)

    async def status(self, *, tenant: str | None = None) -> OutboxStatus:
        """How much is not delivered, how old it is, how much of it fails, how much is dead. Raises `TenantNotFound`."""
        return await self._units.run(relaying.status, tenant, _NO_TENANT)


_NO_TENANT = Call(tenant="")
"""Of what concerns all tenants."""
