# Written by tests/faces.py from self_service.py: change that, and run `make fix`.
"""What a person may do with their own bookings: by a link, or logged in to the application, with asyncio."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, TypeVar

from sqlalchemy import Connection

from nxsched.domain.bookings import Actor, Booking, BookingStatus, Page, Person
from nxsched.domain.commands import Mark, Reschedule
from nxsched.service import actions, queries, slots, tokens
from nxsched.service.async_unit import AsyncJoined, AsyncUnits
from nxsched.service.tools import Tools
from nxsched.service.unit import Action, Call
from nxsched.slots.answer import Slots

C = TypeVar("C")
R = TypeVar("R")

_BY_LINK: Final = Actor(role="attendee")
"""Who acts by a link: whoever has it."""

_NOT_KNOWN_YET: Final = "that of the booking"


@dataclass(frozen=True, slots=True)
class AsyncManagedBooking:
    """The booking of a link: it can be seen, moved and cancelled, and nothing else; `AsyncTenant.with_token` gives it.

    The link is looked at again with every call: each may raise `InvalidToken`. The actor is an attendee, so the event
    type's policies bind, and raise `PolicyViolation`. Other errors are those of the same methods of `AsyncTenant`.
    """

    _units: AsyncUnits = field(repr=False)
    _asks: Call = field(repr=False)
    _token: tokens.Token = field(repr=False)

    @property
    def id(self) -> str:
        """The booking's id."""
        return self._token.booking

    async def booking(self, *, within: AsyncJoined | None = None) -> Booking:
        """The booking as it is now."""
        return await self._units.run(self._guarded(queries.booking), self.id, self._call(within))

    async def find_slots(
        self,
        *,
        start: datetime,
        end: datetime,
        duration: timedelta | None = None,
        host: str | None = None,
        limit: int | None = None,
        within: AsyncJoined | None = None,
    ) -> Slots:
        """Where the booking could go: the slots of its event type as if it were not there, as long as it is."""
        asked = slots.Asked(
            event_type=_NOT_KNOWN_YET, start=start, end=end, duration=duration, host=host, moving=self.id, limit=limit
        )

        def find(connection: Connection, asked: slots.Asked, tools: Tools) -> Slots:
            mine = queries.booking(connection, self.id, tools)
            return slots.find(connection, replace(asked, event_type=mine.event_type), tools)

        return await self._units.read(self._guarded(find), asked, self._call(within))

    async def reschedule(
        self,
        *,
        start: datetime,
        duration: timedelta | None = None,
        host: str | None = None,
        reason: str | None = None,
        within: AsyncJoined | None = None,
        idempotency_key: str | None = None,
    ) -> Booking:
        """Move the booking to another start."""
        command = Reschedule(id=self.id, start=start, duration=duration, host=host, reason=reason, force=False)
        return await self._write(actions.RESCHEDULE, command, within, idempotency_key)

    async def cancel(
        self, *, reason: str | None = None, within: AsyncJoined | None = None, idempotency_key: str | None = None
    ) -> Booking:
        """Cancel the booking; the link ends with it."""
        command = Mark(id=self.id, as_=BookingStatus.CANCELLED, reason=reason)
        return await self._write(actions.MARK, command, within, idempotency_key)

    async def _write(self, action: Action[C, R], command: C, within: AsyncJoined | None, key: str | None) -> R:
        guarded = Action(
            do=self._guarded(action.do, writes=True),
            subject=action.subject,
            again=self._guarded(action.again, called_off=True),
            first=self._look,  # a stranger does not learn which keys there are, nor waits for them
        )
        return await self._units.write(guarded, command, self._call(within, key))

    def _guarded(
        self, work: Callable[[Connection, C, Tools], R], *, writes: bool = False, called_off: bool = False
    ) -> Callable[[Connection, C, Tools], R]:
        """The same after a look at the link, in one transaction; and before another, where it may end meanwhile."""

        def guarded(connection: Connection, asked: C, tools: Tools) -> R:
            self._look(connection, tools, called_off=called_off)
            found = work(connection, asked, tools)
            if writes:  # in the wait for the booking somebody may have taken the link away
                self._look(connection, tools)
            return found

        return guarded

    def _look(self, connection: Connection, tools: Tools, *, called_off: bool = True) -> None:
        """Raises `InvalidToken`; unless it may be, also where the booking was called off."""
        tokens.check(connection, self._token, self._units.keyring, tools, called_off=called_off)

    def _call(self, within: AsyncJoined | None, key: str | None = None) -> Call:
        return self._asks.given(within, key, _BY_LINK)


@dataclass(frozen=True, slots=True)
class AsyncAttendeeBookings:
    """The bookings of a person whom the application knows, in one tenant; `AsyncTenant.for_attendee` gives it."""

    _units: AsyncUnits = field(repr=False)
    _tenant: str
    _person: Person

    async def upcoming(
        self, *, after: str | None = None, limit: int = 50, within: AsyncJoined | None = None
    ) -> Page[Booking]:
        """Those that are pending or confirmed and have not ended, the next one first."""
        return await self._page(to_come=True, after=after, limit=limit, within=within)

    async def past(
        self, *, after: str | None = None, limit: int = 50, within: AsyncJoined | None = None
    ) -> Page[Booking]:
        """All others that `bookings` lists, cancelled and declined ones too, the latest start first."""
        return await self._page(to_come=False, after=after, limit=limit, within=within)

    async def _page(self, *, to_come: bool, after: str | None, limit: int, within: AsyncJoined | None) -> Page[Booking]:
        wanted = queries.Theirs(person=self._person, to_come=to_come, after=after, limit=limit)
        wanted.filter()
        return await self._units.run(queries.bookings, wanted, Call(tenant=self._tenant, within=within))
