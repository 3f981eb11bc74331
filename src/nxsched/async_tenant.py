# Written by tests/faces.py from tenant.py: change that, and run `make fix`.
"""The face of nxsched towards one tenant of the application, with asyncio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from nxsched.async_preferences import AsyncPreferences
from nxsched.async_self_service import AsyncAttendeeBookings, AsyncManagedBooking
from nxsched.async_webhooks import AsyncWebhooks
from nxsched.domain import checks
from nxsched.domain.availability import BlockedPeriod, BusyTime
from nxsched.domain.bookings import Actor, Attendee, AuditEntry, Booking, BookingStatus, Hold, Page, Person, Swept
from nxsched.domain.commands import (
    Archive,
    Block,
    Book,
    BookSeries,
    CancelSeries,
    ConfirmHold,
    EraseAttendee,
    MakeToken,
    Mark,
    PlaceHold,
    Reassign,
    ReleaseHold,
    ReplaceBusy,
    Reschedule,
    SaveEventType,
    SaveHost,
    SaveTenant,
    Unblock,
    Update,
    booking_id,
    details,
)
from nxsched.domain.event_types import EventType
from nxsched.domain.hosts import Host
from nxsched.domain.instants import epoch_exact, microseconds
from nxsched.domain.refusals import Refusal
from nxsched.domain.reminders import ScheduledReminder
from nxsched.domain.tenants import TenantDetails
from nxsched.errors import InvalidInput
from nxsched.service import actions, queries, reminding, setup, slots, sweeping, tokens
from nxsched.service.async_unit import AsyncJoined, AsyncUnits
from nxsched.service.unit import Action, Call
from nxsched.slots.answer import Slots

if TYPE_CHECKING:
    from nxsched.async_messages import AsyncMessages

C = TypeVar("C")
R = TypeVar("R")

_HOLD = timedelta(minutes=15)


class AsyncTenant:
    """Everything that can be done for one tenant; `AsyncScheduler.tenant` gives it. Safe to share between tasks.

    Every method takes `within`, the application's own SQLAlchemy connection or session: then it works in that
    transaction, behind a savepoint, and commits nothing. Methods that write also take an `idempotency_key`, with which
    the same call happens once however often it is made, and the `actor` for the audit trail, which is that of bookings
    and holds.

    Any of them may raise `StoreUnavailable`, `SchemaOutdated`, `TransactionConflict` (under `within`, or after several
    tries) and `LockTimeout`; those that write also `IdempotencyConflict` and, for a tenant that is gone,
    `TenantNotFound`. `InvalidInput` names the argument that cannot be used, before anything is written.
    """

    def __init__(self, units: AsyncUnits, id: str, asks: Call | None = None) -> None:  # noqa: A002 - its name everywhere
        """Bind a tenant's id to where its rows are, and to who asks."""
        self._units = units
        self._id = id
        self._asks = asks or Call(tenant=id)

    @property
    def id(self) -> str:
        """The application's own id of the tenant."""
        return self._id

    def __repr__(self) -> str:
        """Name the tenant, and say whether it is one caller's."""
        caller = " for one caller" if self._asks.address or self._asks.caller else ""
        return f"<AsyncTenant {self._id}{caller}>"

    def for_caller(self, *, address: str | None = None, actor: Actor | None = None) -> AsyncTenant:
        """The same tenant for one caller, whom rate limits count by address and actor, also where they read slots.

        `address` is the network address of who asks, as the application knows it behind its proxies, or any other text
        that tells callers apart. `actor` is that of everything written by it which names no other. What is not given
        stays as it was.
        """
        known = self._asks
        asks = replace(
            known,
            address=known.address if address is None else address,
            caller=known.caller if actor is None else actor,
        )
        return AsyncTenant(self._units, self._id, asks)

    @property
    def webhooks(self) -> AsyncWebhooks:
        """The endpoints to which the events of this tenant are posted, and the log of that."""
        return AsyncWebhooks(self._units, self._asks)

    @property
    def preferences(self) -> AsyncPreferences:
        """What attendees and hosts want to be written: reminders, channels, languages."""
        return AsyncPreferences(self._units, self._asks)

    @property
    def messages(self) -> AsyncMessages:
        """What is written to people about the events of this tenant. Raises `MissingExtra`."""
        from nxsched.async_messages import AsyncMessages  # noqa: PLC0415 - its packages are optional

        return AsyncMessages(self._units, self._asks)

    # Set up.

    async def details(self, *, within: AsyncJoined | None = None) -> TenantDetails:
        """Name, sender and settings of the tenant."""
        return await self._units.run(
            lambda connection, _, tools: setup.tenant(connection, tools), None, self._call(within)
        )

    async def save_details(
        self,
        details: TenantDetails,
        *,
        within: AsyncJoined | None = None,
        idempotency_key: str | None = None,
        actor: Actor | None = None,
    ) -> TenantDetails:
        """Change name, sender and settings. Invitations of bookings that exist keep their sender."""
        checks.kind("details", details, TenantDetails)
        if details.id != self._id:
            raise InvalidInput(field="details.id", reason=f"must be {checks.shown(self._id)}; it never changes")
        command = SaveTenant(tenant=details, new=False)
        return await self._write(actions.SAVE_TENANT, command, within, idempotency_key, actor)

    async def save_host(
        self,
        host: Host,
        *,
        within: AsyncJoined | None = None,
        idempotency_key: str | None = None,
        actor: Actor | None = None,
    ) -> Host:
        """Insert a host, or put it in the place of the one with its slug; bookings that exist stay as they are."""
        return await self._write(actions.SAVE_HOST, SaveHost(host=host), within, idempotency_key, actor)

    async def host(self, slug: str, *, within: AsyncJoined | None = None) -> Host:
        """A host, also an archived one. Raises `HostNotFound`."""
        return await self._units.run(setup.host, checks.text("slug", slug), self._call(within))

    async def hosts(self, *, archived: bool = False, within: AsyncJoined | None = None) -> list[Host]:
        """All hosts by slug, without those that are archived unless they are asked for."""
        return await self._units.run(setup.hosts, checks.flag("archived", archived), self._call(within))

    async def archive_host(
        self,
        slug: str,
        *,
        within: AsyncJoined | None = None,
        idempotency_key: str | None = None,
        actor: Actor | None = None,
    ) -> None:
        """Take no new bookings for a host; to save it again brings it back. Raises `HostNotFound`."""
        await self._write(actions.ARCHIVE, Archive(kind="host", slug=slug), within, idempotency_key, actor)

    async def save_event_type(
        self,
        event_type: EventType,
        *,
        within: AsyncJoined | None = None,
        idempotency_key: str | None = None,
        actor: Actor | None = None,
    ) -> EventType:
        """Insert an event type, or put it in the place of the one with its slug; bookings stay as they are.

        All its hosts must be there: `InvalidInput` names the one that is not.
        """
        command = SaveEventType(event_type=event_type)
        return await self._write(actions.SAVE_EVENT_TYPE, command, within, idempotency_key, actor)

    async def event_type(self, slug: str, *, within: AsyncJoined | None = None) -> EventType:
        """An event type, also an archived one. Raises `EventTypeNotFound`."""
        return await self._units.run(setup.event_type, checks.text("slug", slug), self._call(within))

    async def event_types(self, *, archived: bool = False, within: AsyncJoined | None = None) -> list[EventType]:
        """All event types by slug, without those that are archived unless they are asked for."""
        return await self._units.run(setup.event_types, checks.flag("archived", archived), self._call(within))

    async def archive_event_type(
        self,
        slug: str,
        *,
        within: AsyncJoined | None = None,
        idempotency_key: str | None = None,
        actor: Actor | None = None,
    ) -> None:
        """Take no new bookings for an event type; to save it again brings it back. Raises `EventTypeNotFound`."""
        await self._write(actions.ARCHIVE, Archive(kind="event_type", slug=slug), within, idempotency_key, actor)

    async def block(
        self,
        host: str | None,
        period: BlockedPeriod,
        *,
        within: AsyncJoined | None = None,
        idempotency_key: str | None = None,
        actor: Actor | None = None,
    ) -> BlockedPeriod:
        """Block time of a host, or of the whole tenant where `host` is `None`; gives the period with its `id`.

        Bookings that exist stay as they are. Raises `HostNotFound`, and `BlockedPeriodNotFound` where a call that is
        repeated with its key has blocked a period that was taken away since.
        """
        return await self._write(actions.BLOCK, Block(host=host, period=period), within, idempotency_key, actor)

    async def blocked_periods(
        self, host: str | None = None, *, within: AsyncJoined | None = None
    ) -> list[BlockedPeriod]:
        """The blocked periods of a host, or those of the whole tenant, by their beginning. Raises `HostNotFound`."""
        slug = None if host is None else checks.text("host", host)
        return await self._units.run(setup.blocked_periods, slug, self._call(within))

    async def unblock(
        self,
        id: str,  # noqa: A002 - its name everywhere
        *,
        within: AsyncJoined | None = None,
        idempotency_key: str | None = None,
        actor: Actor | None = None,
    ) -> None:
        """Take a blocked period away. Raises `BlockedPeriodNotFound`."""
        await self._write(actions.UNBLOCK, Unblock(id=id), within, idempotency_key, actor)

    async def replace_busy(
        self,
        host: str,
        *,
        source: str,
        start: datetime,
        end: datetime,
        periods: Sequence[tuple[datetime, datetime]],
        within: AsyncJoined | None = None,
        idempotency_key: str | None = None,
        actor: Actor | None = None,
    ) -> None:
        """Say all that an outside calendar knows of a host's busy time between `start` and `end`.

        `periods` are pairs of aware datetimes that meet that range; they take the place of everything that `source`
        had reported there before. Raises `HostNotFound`.
        """
        command = ReplaceBusy(host=host, source=source, start=start, end=end, periods=periods)
        await self._write(actions.REPLACE_BUSY, command, within, idempotency_key, actor)

    async def busy(
        self, host: str, *, start: datetime, end: datetime, within: AsyncJoined | None = None
    ) -> list[BusyTime]:
        """What outside calendars have reported of a host between `start` and `end`. Raises `HostNotFound`."""
        checks.text("host", host)
        if microseconds("end", end) < microseconds("start", start):
            raise InvalidInput(field="end", reason="must not lie before start")
        return await self._units.run(
            lambda connection, slug, tools: setup.busy(connection, slug, start, end, tools), host, self._call(within)
        )

    # Slots.

    async def find_slots(
        self,
        event_type: str,
        *,
        start: datetime,
        end: datetime,
        duration: timedelta | None = None,
        host: str | None = None,
        limit: int | None = None,
        moving: str | None = None,
        within: AsyncJoined | None = None,
    ) -> Slots:
        """The slots of an event type with `start <= slot.start < end`; what is offered, `book` accepts.

        `duration` is one of the event type's, `host` a member that must take part. `limit` gives the first so many.
        With `moving`, a booking's id, as if that booking were not there, for as many seats as it has, and for as long
        as it is unless `duration` is given (rule 26).
        Raises `EventTypeNotFound` and, for `moving`, `BookingNotFound` and, where it cannot be moved,
        `InvalidTransition`.
        """
        asked = slots.Asked(
            event_type=event_type, start=start, end=end, duration=duration, host=host, moving=moving, limit=limit
        )
        return await self._units.read(slots.find, asked, self._call(within))

    async def explain(
        self,
        event_type: str,
        *,
        start: datetime,
        duration: timedelta | None = None,
        host: str | None = None,
        moving: str | None = None,
        within: AsyncJoined | None = None,
    ) -> list[Refusal]:
        """Every rule that refuses a start; none where it is offered (rule 25). Arguments as in `find_slots`."""
        epoch_exact("start", start)
        asked = slots.Asked(event_type=event_type, start=start, end=start, duration=duration, host=host, moving=moving)
        return await self._units.read(slots.explain, asked, self._call(within))

    # Hold and book.

    async def place_hold(
        self,
        event_type: str,
        *,
        start: datetime,
        ttl: timedelta = _HOLD,
        host: str | None = None,
        duration: timedelta | None = None,
        seats: int = 1,
        attendee: Attendee | None = None,
        within: AsyncJoined | None = None,
        idempotency_key: str | None = None,
        actor: Actor | None = None,
    ) -> Hold:
        """Claim a slot for `ttl`, at most a week: it blocks as a booking does, and ends by itself.

        Raises `SlotTaken` where somebody else has it, `SlotUnavailable` with all reasons where a rule refuses it,
        `PolicyViolation` where there are too many holds or bookings already, and `EventTypeNotFound`.
        """
        command = PlaceHold(
            event_type=event_type,
            start=start,
            ttl=ttl,
            host=host,
            duration=duration,
            seats=seats,
            attendee=attendee,
        )
        return await self._write(actions.PLACE_HOLD, command, within, idempotency_key, actor)

    async def confirm_hold(
        self,
        hold_id: str,
        *,
        attendee: Attendee,
        answers: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        reference: str | None = None,
        if_free: bool = False,
        within: AsyncJoined | None = None,
        idempotency_key: str | None = None,
        actor: Actor | None = None,
    ) -> Booking:
        """Make a booking of a hold, under the same id: pending where the event type asks for approval.

        Only the expiry and the answers are judged: the hold is the promise (rule 27). Raises `HoldExpired` for one that
        is over; with `if_free` its time is booked anew if the rules allow it, else `SlotTaken`, `SlotUnavailable` or
        `PolicyViolation`. Also `BookingNotFound` and `InvalidTransition`.
        """
        said = details(attendee, answers, metadata, reference)
        command = ConfirmHold(id=hold_id, details=said, if_free=if_free)
        return await self._write(actions.CONFIRM_HOLD, command, within, idempotency_key, actor)

    async def release_hold(
        self,
        hold_id: str,
        *,
        within: AsyncJoined | None = None,
        idempotency_key: str | None = None,
        actor: Actor | None = None,
    ) -> Hold:
        """Give a hold back before its time is over. Raises `BookingNotFound` and `InvalidTransition`."""
        return await self._write(actions.RELEASE_HOLD, ReleaseHold(id=hold_id), within, idempotency_key, actor)

    async def book(
        self,
        event_type: str,
        *,
        start: datetime,
        attendee: Attendee,
        host: str | None = None,
        duration: timedelta | None = None,
        seats: int = 1,
        answers: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        reference: str | None = None,
        force: bool = False,
        within: AsyncJoined | None = None,
        idempotency_key: str | None = None,
        actor: Actor | None = None,
    ) -> Booking:
        """Book a slot: pending where the event type asks for approval, else confirmed.

        `force` is for staff: it skips the rules, limits among them, but nobody is ever booked twice. Raises `SlotTaken`
        where somebody else has the slot, `SlotUnavailable` with all reasons where a rule refuses it, `PolicyViolation`
        where the attendee has too many bookings already, and `EventTypeNotFound`.
        """
        command = Book(
            event_type=event_type,
            start=start,
            host=host,
            duration=duration,
            seats=seats,
            details=details(attendee, answers, metadata, reference),
            force=force,
        )
        return await self._write(actions.BOOK, command, within, idempotency_key, actor)

    async def book_series(
        self,
        event_type: str,
        *,
        starts: Sequence[datetime],
        attendee: Attendee,
        host: str | None = None,
        duration: timedelta | None = None,
        seats: int = 1,
        answers: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        reference: str | None = None,
        force: bool = False,
        within: AsyncJoined | None = None,
        idempotency_key: str | None = None,
        actor: Actor | None = None,
    ) -> list[Booking]:
        """Book several slots, all or none: at most 366 bookings with one `series_id`, by start.

        Each is judged as if those before it were booked, and goes to the same hosts where they can. Raises what `book`
        does; `refused` of `SlotUnavailable` has the reasons of every start that cannot be had.
        """
        command = BookSeries(
            event_type=event_type,
            starts=starts,
            host=host,
            duration=duration,
            seats=seats,
            details=details(attendee, answers, metadata, reference),
            force=force,
        )
        return await self._write(actions.BOOK_SERIES, command, within, idempotency_key, actor)

    async def cancel(
        self,
        booking_id: str,
        *,
        reason: str | None = None,
        within: AsyncJoined | None = None,
        idempotency_key: str | None = None,
        actor: Actor | None = None,
    ) -> Booking:
        """Cancel a booking that is confirmed or pending, and free its time.

        Raises `BookingNotFound`, `InvalidTransition` and, for an actor whom the event type's policies bind,
        `PolicyViolation`.
        """
        command = Mark(id=booking_id, as_=BookingStatus.CANCELLED, reason=reason)
        return await self._write(actions.MARK, command, within, idempotency_key, actor)

    async def cancel_series(
        self,
        series_id: str,
        *,
        reason: str | None = None,
        within: AsyncJoined | None = None,
        idempotency_key: str | None = None,
        actor: Actor | None = None,
    ) -> list[Booking]:
        """Cancel all of a series that stands and has not begun, and free its time; gives the whole series by start.

        Raises `BookingNotFound` and, for an actor whom the event type's policies bind, `PolicyViolation`: then none of
        them is cancelled.
        """
        command = CancelSeries(id=series_id, reason=reason)
        return await self._write(actions.CANCEL_SERIES, command, within, idempotency_key, actor)

    async def reschedule(
        self,
        booking_id: str,
        *,
        start: datetime,
        duration: timedelta | None = None,
        host: str | None = None,
        reason: str | None = None,
        force: bool = False,
        within: AsyncJoined | None = None,
        idempotency_key: str | None = None,
        actor: Actor | None = None,
    ) -> Booking:
        """Move a booking that is confirmed or pending to another start, if a slot is offered there.

        It is judged as if it were not there, as `find_slots(moving=…)` shows, and keeps its id, its state and, unless
        others are given and where they can, its duration and its hosts; of a class, its attendee moves alone. `force`
        is that of `book`. Raises `BookingNotFound`, `InvalidTransition`, `SlotTaken`, `SlotUnavailable` and, for an
        actor whom the event type's policies bind, `PolicyViolation`.
        """
        command = Reschedule(id=booking_id, start=start, duration=duration, host=host, reason=reason, force=force)
        return await self._write(actions.RESCHEDULE, command, within, idempotency_key, actor)

    async def reassign(
        self,
        booking_id: str,
        *,
        host: str,
        instead_of: str | None = None,
        reason: str | None = None,
        within: AsyncJoined | None = None,
        idempotency_key: str | None = None,
        actor: Actor | None = None,
    ) -> Booking:
        """Give a booking that is confirmed or pending to another host of the same group, at the same time.

        All who have seats in its occurrence go along. `instead_of` says who is replaced, where it has several hosts.
        The new host's hours, blocked and busy time and own limits are judged (rule 28), nothing else. Raises
        `BookingNotFound`, `InvalidTransition`, `SlotTaken` and `SlotUnavailable`.
        """
        command = Reassign(id=booking_id, host=host, instead_of=instead_of, reason=reason)
        return await self._write(actions.REASSIGN, command, within, idempotency_key, actor)

    async def update(
        self,
        booking_id: str,
        *,
        location: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        within: AsyncJoined | None = None,
        idempotency_key: str | None = None,
        actor: Actor | None = None,
    ) -> Booking:
        """Change the location of a booking, or all of its metadata; what is `None` stays, and `""` is no location.

        Raises `BookingNotFound`, and `InvalidTransition` for a booking that is over.
        """
        command = Update(id=booking_id, location=location, metadata=metadata)
        return await self._write(actions.UPDATE, command, within, idempotency_key, actor)

    async def approve(
        self,
        booking_id: str,
        *,
        within: AsyncJoined | None = None,
        idempotency_key: str | None = None,
        actor: Actor | None = None,
    ) -> Booking:
        """Confirm a booking that waits for approval; no rule is judged again.

        Raises `BookingNotFound`, and `InvalidTransition`, also where it has expired: at its start, it is over.
        """
        command = Mark(id=booking_id, as_=BookingStatus.CONFIRMED)
        return await self._write(actions.MARK, command, within, idempotency_key, actor)

    async def decline(
        self,
        booking_id: str,
        *,
        reason: str | None = None,
        within: AsyncJoined | None = None,
        idempotency_key: str | None = None,
        actor: Actor | None = None,
    ) -> Booking:
        """Turn down a booking that waits for approval, and free its time.

        Raises `BookingNotFound` and `InvalidTransition`.
        """
        command = Mark(id=booking_id, as_=BookingStatus.DECLINED, reason=reason)
        return await self._write(actions.MARK, command, within, idempotency_key, actor)

    async def complete(
        self,
        booking_id: str,
        *,
        within: AsyncJoined | None = None,
        idempotency_key: str | None = None,
        actor: Actor | None = None,
    ) -> Booking:
        """Say that a booking took place, also of one that was marked as no-show by mistake.

        Raises `BookingNotFound` and `InvalidTransition`.
        """
        command = Mark(id=booking_id, as_=BookingStatus.COMPLETED)
        return await self._write(actions.MARK, command, within, idempotency_key, actor)

    async def mark_no_show(
        self,
        booking_id: str,
        *,
        within: AsyncJoined | None = None,
        idempotency_key: str | None = None,
        actor: Actor | None = None,
    ) -> Booking:
        """Say that nobody came, also of a booking that was marked as completed by mistake.

        Raises `BookingNotFound` and `InvalidTransition`.
        """
        command = Mark(id=booking_id, as_=BookingStatus.NO_SHOW)
        return await self._write(actions.MARK, command, within, idempotency_key, actor)

    # The attendee's own.

    async def manage_token(self, booking_id: str, *, expires: datetime, within: AsyncJoined | None = None) -> str:
        """A token for a link: whoever has it may see, move and cancel this booking until `expires`, a whole second.

        It is a secret: it belongs into the message to the attendee and into no log. It ends when the booking is called
        off. Raises `BookingNotFound`, `InvalidTransition` for a hold or a booking that was called off, and
        `InvalidInput` where the scheduler has no `secrets`.
        """
        command = MakeToken(id=booking_id, expires=expires)
        keyring = self._units.keyring
        return await self._units.run(
            lambda connection, asked, tools: tokens.make(connection, asked, tools, keyring), command, self._call(within)
        )

    def with_token(self, token: str) -> AsyncManagedBooking:
        """The booking of a link. Asks nothing yet: each of its methods looks at the link, and may raise `InvalidToken`.

        What can be no token at all raises `InvalidToken` here, and a scheduler that has no `secrets`, `InvalidInput`.
        """
        self._units.keyring.need()
        return AsyncManagedBooking(self._units, self._asks, tokens.read(token))

    def for_attendee(self, *, reference: str | None = None, email: str | None = None) -> AsyncAttendeeBookings:
        """The bookings of a person whom the application has made sure of, by reference, e-mail address or either.

        nxsched takes its word: an address that nobody has confirmed shows the bookings of whoever has it.
        """
        return AsyncAttendeeBookings(self._units, self._id, Person(reference=reference, email=email))

    async def erase_attendee(
        self,
        *,
        email: str | None = None,
        reference: str | None = None,
        within: AsyncJoined | None = None,
        idempotency_key: str | None = None,
        actor: Actor | None = None,
    ) -> int:
        """Take a person out of all their bookings and holds, of the audit trail, events and idempotency records.

        Gone are the attendee, answers, metadata, references, reasons, and locations that are not the event type's;
        links end. Times, hosts and states stay, and bookings to come stand. Each booking gets an entry in the audit
        trail and an event. Gives how many there were.
        """
        command = EraseAttendee(person=Person(reference=reference, email=email))
        return await self._write(actions.ERASE_ATTENDEE, command, within, idempotency_key, actor)

    # Read.

    async def booking(self, booking_id: str, *, within: AsyncJoined | None = None) -> Booking:
        """A booking or hold in any state. Raises `BookingNotFound`."""
        return await self._units.run(queries.booking, _id("booking_id", booking_id), self._call(within))

    async def bookings(
        self,
        *,
        host: str | None = None,
        attendee: str | None = None,
        event_type: str | None = None,
        series: str | None = None,
        status: BookingStatus | str | Sequence[BookingStatus | str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        text: str | None = None,
        after: str | None = None,
        limit: int = 50,
        within: AsyncJoined | None = None,
    ) -> Page[Booking]:
        """Bookings that fit all that is given, by start, at most 1,000 a page.

        `attendee` is an e-mail address or the application's reference of the person; `text` is looked for in names,
        addresses and references; `start <= booking.start < end`. Held, expired and released ones are left out unless
        `status` asks for them. `after` is what the page before gave as its `after`.
        """
        wanted = queries.Wanted(
            host=host,
            attendee=attendee,
            event_type=event_type,
            series=series,
            status=status,
            start=start,
            end=end,
            text=text,
            after=after,
            limit=limit,
        )
        wanted.filter()
        return await self._units.run(queries.bookings, wanted, self._call(within))

    async def hold(self, hold_id: str, *, within: AsyncJoined | None = None) -> Hold:
        """A hold, also one that is over. Raises `BookingNotFound`, also for one that became a booking."""
        return await self._units.run(queries.hold, _id("hold_id", hold_id), self._call(within))

    async def holds(self, *, host: str | None = None, within: AsyncJoined | None = None) -> list[Hold]:
        """The holds that have not expired, of one host or of all, by start."""
        slug = None if host is None else checks.text("host", host)
        return await self._units.run(queries.holds, slug, self._call(within))

    async def reminders(
        self,
        booking_id: str,
        *,
        within: AsyncJoined | None = None,
    ) -> list[ScheduledReminder]:
        """All reminders of a booking, by when they are due: what waits, what was sent, and what was not and why.

        Raises `BookingNotFound`.
        """
        return await self._units.run(reminding.reminders, _id("booking_id", booking_id), self._call(within))

    async def history(self, booking_id: str, *, within: AsyncJoined | None = None) -> list[AuditEntry]:
        """The audit trail of a booking or hold, oldest first. Raises `BookingNotFound`."""
        return await self._units.run(queries.history, _id("booking_id", booking_id), self._call(within))

    async def sweep(self) -> Swept:
        """Tidy up what has expired, in short transactions; nothing depends on it. Gives what was tidied up."""
        done = Swept()
        while (batch := await self._units.run(sweeping.sweep, None, self._call(None))).total:
            done += batch
        return done

    async def _write(
        self, action: Action[C, R], command: C, within: AsyncJoined | None, key: str | None, actor: Actor | None
    ) -> R:
        return await self._units.write(action, command, self._asks.given(within, key, actor))

    def _call(self, within: AsyncJoined | None) -> Call:
        return self._asks.given(within)


def _id(field: str, value: str) -> str:
    return booking_id(field, value)
