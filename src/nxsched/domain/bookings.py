"""Bookings and holds as an application sees them, who asks for them, and what happened to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Generic, TypeVar

from nxsched.domain import checks
from nxsched.domain.timezones import timezone_name
from nxsched.errors import InvalidInput

T = TypeVar("T")


class BookingStatus(StrEnum):
    """The state of a booking; `docs/concepts/states.md` has the moves between them."""

    HELD = "held"
    PENDING = "pending"
    CONFIRMED = "confirmed"
    CANCELLED = "cancelled"
    DECLINED = "declined"
    EXPIRED = "expired"
    RELEASED = "released"
    COMPLETED = "completed"
    NO_SHOW = "no_show"


ACTIVE: Final = frozenset({"held", "pending", "confirmed", "completed", "no_show"})
"""The states in which the hosts' time is taken."""

MOVABLE: Final = frozenset({"pending", "confirmed"})
"""The states in which a booking can go to another start, or another host."""

SHOWN: Final = frozenset({"pending", "confirmed", "cancelled", "declined", "completed", "no_show"})
"""The states that a list of bookings shows unless it is asked for others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attendee:
    """Who books. `reference` is the application's own id of the person; `timezone` is an IANA name.

    Raises `InvalidInput`.
    """

    name: str
    email: str | None = None
    timezone: str | None = None
    reference: str | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        checks.text("attendee.name", self.name)
        if self.email is not None:
            checks.email("attendee.email", self.email)
        if self.timezone is not None:
            timezone_name("attendee.timezone", self.timezone)
        if self.reference is not None:
            checks.text("attendee.reference", self.reference)


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who is looked for: who has this reference, or this e-mail address in whatever letters. Raises `InvalidInput`."""

    reference: str | None = None
    email: str | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        if self.reference is None and self.email is None:
            raise InvalidInput(field="reference", reason="or email is required: whose bookings?")
        if self.reference is not None:
            checks.text("reference", self.reference)
        if self.email is not None:
            checks.email("email", self.email)


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """On whose behalf a change is made; it stands in the audit trail.

    `role` is `attendee`, `staff`, `system` or a word of the application's own, in small letters: policies bind by it.
    `id` and `name` are the application's, which has to know whose booking they may change. Raises `InvalidInput`.
    """

    role: str
    id: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        checks.role("actor.role", self.role)
        if self.id is not None:
            checks.text("actor.id", self.id)
        if self.name is not None:
            checks.text("actor.name", self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A claim on a slot that ends by itself at `expires_at`; times are UTC, `hosts` are slugs.

    `status` is `held`, or `expired` or `released` once it is over. `confirm_hold` makes it a booking of the same id,
    whose status is then shown where a call that placed or released the hold is repeated with its key.
    """

    id: str
    event_type: str
    status: BookingStatus
    start: datetime
    end: datetime
    hosts: tuple[str, ...]
    seats: int
    attendee: Attendee | None
    version: int
    assigned_because: str | None
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Booking:
    """One attendee's seats in an occurrence of an event type; times are UTC, `hosts` are slugs.

    `sequence` rises with every move, change of location and cancellation, `version` with every change. `organizer` is
    the tenant's sender as it was when the booking was made; neither it nor `uid` ever changes. `assigned_because` says
    how the hosts were chosen from a pool.
    """

    id: str
    event_type: str
    status: BookingStatus
    start: datetime
    end: datetime
    hosts: tuple[str, ...]
    attendee: Attendee | None
    seats: int
    answers: Mapping[str, Any]
    location: str | None
    metadata: Mapping[str, Any]
    reference: str | None
    series_id: str | None
    organizer: str | None
    sequence: int
    version: int
    assigned_because: str | None
    created_at: datetime
    expires_at: datetime | None

    @property
    def uid(self) -> str:
        """The UID in calendars: the booking's id, which is a UUID as RFC 7986 asks."""
        return self.id


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One change of a booking: what was done, by whom, why, and each field before and after."""

    booking_id: str
    version: int
    action: str
    at: datetime
    actor: Actor | None
    reason: str | None
    changes: Mapping[str, tuple[Any, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """A part of a long list. `after` goes into the next call and gives the next page; `None` on the last one."""

    items: tuple[T, ...]
    after: str | None

    def __iter__(self) -> Iterator[T]:
        """Go through the items of this page."""
        return iter(self.items)

    def __len__(self) -> int:
        """How many items this page holds."""
        return len(self.items)

    def __getitem__(self, place: int) -> T:
        """One item of this page."""
        return self.items[place]


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What was tidied up: expired holds, pending bookings past their start, idempotency keys, events and reminders."""

    holds: int = 0
    pending: int = 0
    keys: int = 0
    events: int = 0
    reminders: int = 0

    def __add__(self, other: Swept) -> Swept:
        """The two together."""
        return Swept(
            holds=self.holds + other.holds,
            pending=self.pending + other.pending,
            keys=self.keys + other.keys,
            events=self.events + other.events,
            reminders=self.reminders + other.reminders,
        )

    @property
    def total(self) -> int:
        """All of it."""
        return self.holds + self.pending + self.keys + self.events + self.reminders
