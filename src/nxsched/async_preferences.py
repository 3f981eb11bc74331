# Written by tests/faces.py from preferences.py: change that, and run `make fix`.
"""What attendees and hosts of a tenant want to be written, with asyncio."""

from __future__ import annotations

from datetime import datetime

from nxsched.domain.bookings import Actor
from nxsched.domain.commands import MakeUnsubscribeToken, SavePreferences
from nxsched.domain.preferences import ATTENDEE, MessagePreferences, whose
from nxsched.service import preferring, tokens
from nxsched.service.async_unit import AsyncJoined, AsyncUnits
from nxsched.service.unit import Call


class AsyncPreferences:
    """What the attendees and hosts of one tenant want to be written: `tenant.preferences`.

    An attendee is known by an e-mail address, in letters of any size, a host as `host:` and the slug. Who has said
    nothing gets what the application has set. The errors are those of `AsyncTenant`.
    """

    def __init__(self, units: AsyncUnits, asks: Call) -> None:
        self._units = units
        self._asks = asks

    async def get(self, who: str, *, within: AsyncJoined | None = None) -> MessagePreferences:
        """What somebody has said. Raises `HostNotFound`."""
        return await self._units.run(preferring.fetch, whose("who", who), self._asks.given(within))

    async def save(
        self,
        who: str,
        preferences: MessagePreferences,
        *,
        within: AsyncJoined | None = None,
        idempotency_key: str | None = None,
        actor: Actor | None = None,
    ) -> MessagePreferences:
        """Keep what somebody says, in the place of what they have said before.

        Reminders that they do not want are not sent from now on, those that they wish for are written for the bookings
        that stand. Raises `HostNotFound`.
        """
        command = SavePreferences(who=who, preferences=preferences)
        call = self._asks.given(within, idempotency_key, actor)
        return await self._units.write(preferring.SAVE_PREFERENCES, command, call)

    async def unsubscribe_token(
        self, booking_id: str, *, to: str = ATTENDEE, expires: datetime, within: AsyncJoined | None = None
    ) -> str:
        """A token for a link in a reminder: whoever has it may end the reminders of `to`, until `expires`.

        `to` is a recipient: `"attendee"`, or `"host:ada"`. It ends sooner where the booking comes to have another
        address, or other hosts. Raises `BookingNotFound`, and `InvalidInput` where the scheduler has no `secrets`.
        """
        keyring = self._units.keyring
        return await self._units.run(
            lambda connection, asked, tools: tokens.make_unsubscribing(connection, asked, tools, keyring),
            MakeUnsubscribeToken(id=booking_id, expires=expires, to=to),
            self._asks.given(within),
        )

    async def whose(self, token: str, *, within: AsyncJoined | None = None) -> str:
        """Whom the token of a link is for, as `get` and `save` take it. Raises `InvalidToken`."""
        keyring = self._units.keyring
        keyring.need()
        return await self._units.run(
            lambda connection, asked, tools: tokens.unsubscriber(connection, asked, keyring, tools),
            tokens.read(token),
            self._asks.given(within),
        )

    async def unsubscribe(self, token: str, *, within: AsyncJoined | None = None) -> MessagePreferences:
        """End the reminders of whom a token is for; the same however often it is done. Raises `InvalidToken`."""
        self._units.keyring.need()
        action = preferring.unsubscribing(tokens.read(token), self._units.keyring)
        return await self._units.write(action, None, self._asks.given(within))
