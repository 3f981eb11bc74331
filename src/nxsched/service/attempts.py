"""What of a call counts towards rate limits: which act it is, and who attempts it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection

from nxsched.domain.bookings import Actor, BookingStatus
from nxsched.domain.commands import Book, BookSeries, CancelSeries, ConfirmHold, Mark, PlaceHold, Reschedule
from nxsched.locking.choosing import WhenUnavailable
from nxsched.service.slots import Asked
from nxsched.service.tools import Tools
from nxsched.store.bookings import fetch_address

if TYPE_CHECKING:  # its package is optional
    from nxsched.ratelimit.limiter import Limiter
    from nxsched.ratelimit.rates import Act, By, RateLimit

_ACTS: Final[Mapping[type, Act]] = {
    Book: "book",
    BookSeries: "book",
    ConfirmHold: "book",
    PlaceHold: "hold",
    Reschedule: "reschedule",
    CancelSeries: "cancel",
    Asked: "slots",
}


@dataclass(frozen=True, slots=True)
class Attempt:
    """An act, and who attempts it, as far as the call says so; `looks` where the booking says who its attendee is."""

    act: Act
    who: Mapping[By, str | None]
    looks: bool

    def of_attendee(self, address: str | None) -> Attempt:
        """The same, when the booking was looked up."""
        return replace(self, who={**self.who, "attendee": address}, looks=False)


def attempt(command: object, tenant: str, actor: Actor | None, address: str | None) -> Attempt | None:
    """What is attempted; `None` where it is nothing that is counted."""
    act: Act | None = _ACTS.get(type(command))
    if isinstance(command, Mark) and command.as_ is BookingStatus.CANCELLED:
        act = "cancel"
    if act is None:
        return None
    attendee = None
    if isinstance(command, Book | BookSeries | ConfirmHold):
        attendee = command.details.attendee
    elif isinstance(command, PlaceHold):
        attendee = command.attendee
    who: dict[By, str | None] = {
        "address": address,
        "attendee": attendee.email.lower() if attendee and attendee.email else None,
        "actor": f"{actor.role}\0{actor.id}" if actor and actor.id else None,
        "tenant": tenant,
    }
    return Attempt(act, who, looks=isinstance(command, Reschedule | Mark | CancelSeries))


def look_after(first: Callable[[Connection, Tools], None] | None) -> Callable[[Connection, Any, Tools], str | None]:
    """What looks up the attendee of the booking or series that a command is about, after a look at who asks."""

    def look(connection: Connection, command: Any, tools: Tools) -> str | None:  # noqa: ANN401 - whatever has an id
        if first is not None:
            first(connection, tools)
        return fetch_address(connection, tools.tenant, command.id, series=isinstance(command, CancelSeries))

    return look


def limiter(
    limits: Sequence[RateLimit], redis: object, when_unavailable: WhenUnavailable, *, for_asyncio: bool
) -> Limiter | None:
    """What counts attempts; nothing where there are no limits. Raises `InvalidInput` and `MissingExtra`."""
    if not limits:
        return None
    from nxsched.ratelimit.limiter import limiter as made  # noqa: PLC0415 - its package is optional

    return made(limits, redis, when_unavailable, for_asyncio=for_asyncio)
