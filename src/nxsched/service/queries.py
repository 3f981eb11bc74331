"""Read what is booked: one booking, a page of many, holds, the audit trail."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from sqlalchemy import Connection

from nxsched.domain import checks
from nxsched.domain.bookings import SHOWN, AuditEntry, Booking, BookingStatus, Hold, Page, Person
from nxsched.domain.bounds import MAX_PAGE, MAX_SERIES
from nxsched.domain.commands import booking_id
from nxsched.domain.instants import microseconds
from nxsched.errors import BookingNotFound, InvalidInput
from nxsched.service.tools import Tools
from nxsched.store.bookings import Filter, fetch_booking, list_bookings, list_history, was_held

OF_HOLDS = frozenset({BookingStatus.HELD, BookingStatus.EXPIRED, BookingStatus.RELEASED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The bookings that are wanted, as `Tenant.bookings` takes them; checked when they are looked for."""

    host: str | None
    attendee: str | None
    event_type: str | None
    series: str | None
    status: object
    start: datetime | None
    end: datetime | None
    text: str | None
    after: str | None
    limit: int

    def filter(self) -> Filter:
        """What the store looks for. Raises `InvalidInput`."""
        for name in ("host", "attendee", "event_type", "text"):
            if getattr(self, name) is not None:
                checks.text(name, getattr(self, name))
        for name in ("start", "end"):
            if getattr(self, name) is not None:
                microseconds(name, getattr(self, name))
        checks.whole("limit", self.limit, least=1, most=MAX_PAGE)
        return Filter(
            statuses=_statuses(self.status),
            host=self.host,
            event_type=self.event_type,
            person=None if self.attendee is None else _person(self.attendee),
            series=_series(self.series) if self.series is not None else None,
            start=self.start and self.start.astimezone(UTC),
            end=self.end and self.end.astimezone(UTC),
            words=self.text,
            after=_place(self.after) if self.after is not None else None,
        )


def booking(connection: Connection, id_: str, tools: Tools) -> Booking:
    """A booking in any state, holds included. Raises `BookingNotFound`."""
    found = fetch_booking(connection, tools.tenant, id_, tools.now)
    if found is None:
        raise BookingNotFound(id=id_)
    return found


def hold(connection: Connection, id_: str, tools: Tools) -> Hold:
    """A hold, also one that is over; what became a booking is a hold no more."""
    found = booking(connection, id_, tools)
    if found.status not in OF_HOLDS:
        raise BookingNotFound(id=id_)
    if found.status is BookingStatus.EXPIRED and not was_held(connection, tools.tenant, id_):
        raise BookingNotFound(id=id_)
    return as_hold(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Theirs:
    """A page of a person's bookings: those to come, or the others, the latest first."""

    person: Person
    to_come: bool
    after: str | None
    limit: int

    def filter(self) -> Filter:
        """What the store looks for. Raises `InvalidInput`."""
        checks.whole("limit", self.limit, least=1, most=MAX_PAGE)
        return Filter(
            statuses=sorted(SHOWN),
            person=self.person,
            to_come=self.to_come,
            latest_first=not self.to_come,
            after=_place(self.after) if self.after is not None else None,
        )


def holds(connection: Connection, host: str | None, tools: Tools) -> list[Hold]:
    """The holds that have not expired, by start."""
    found: list[Hold] = []
    wanted = Filter(statuses=["held"], host=host)
    while True:
        page = list_bookings(connection, tools.tenant, wanted, MAX_PAGE, tools.now)
        found += [as_hold(one) for one in page]
        if len(page) < MAX_PAGE:
            return found
        wanted = replace(wanted, after=(page[-1].start, page[-1].id))


def bookings(connection: Connection, wanted: Wanted | Theirs, tools: Tools) -> Page[Booking]:
    """One page of bookings, in their order."""
    found = list_bookings(connection, tools.tenant, wanted.filter(), wanted.limit + 1, tools.now)
    items = found[: wanted.limit]
    more = len(found) > wanted.limit
    return Page(items=tuple(items), after=_cursor(items[-1]) if more else None)


def series(connection: Connection, id_: str, tools: Tools) -> list[Booking]:
    """All bookings of a series by start, in whatever state. Raises `BookingNotFound`."""
    every = Filter(statuses=[status.value for status in BookingStatus], series=id_)
    found = list_bookings(connection, tools.tenant, every, MAX_SERIES, tools.now)
    if not found:
        raise BookingNotFound(id=id_)
    return found


def history(connection: Connection, id_: str, tools: Tools) -> list[AuditEntry]:
    """The audit trail of a booking, oldest first."""
    found = list_history(connection, tools.tenant, id_)
    if not found:
        raise BookingNotFound(id=id_)
    return found


def as_hold(found: Booking) -> Hold:
    """The same as a hold: it has an end."""
    assert found.expires_at is not None  # noqa: S101 - the table holds it
    return Hold(
        id=found.id,
        event_type=found.event_type,
        status=found.status,
        start=found.start,
        end=found.end,
        hosts=found.hosts,
        seats=found.seats,
        attendee=found.attendee,
        version=found.version,
        assigned_because=found.assigned_because,
        created_at=found.created_at,
        expires_at=found.expires_at,
    )


def _person(text: str) -> Person:
    """Who has this reference; or this address, if it is one."""
    return Person(reference=text, email=text if checks.is_email(text) else None)


def _statuses(given: object) -> list[str]:
    if given is None:
        return sorted(SHOWN)
    known = [one.value for one in BookingStatus]
    if isinstance(given, str):
        return [checks.one_of("status", str(given), known)]
    several = checks.items("status", given, str)
    return [checks.one_of(f"status[{i}]", str(one), known) for i, one in enumerate(several)]


def _cursor(last: Booking) -> str:
    where = json.dumps([last.start.isoformat(), last.id])
    return base64.urlsafe_b64encode(where.encode()).decode()


def _series(given: object) -> str:
    try:
        return booking_id("series", given)
    except BookingNotFound as error:
        raise InvalidInput(field="series", reason=f"must be the id of a series, not {checks.shown(given)}") from error


def _place(cursor: object) -> tuple[datetime, str]:
    try:
        start, id_ = json.loads(base64.urlsafe_b64decode(str(cursor).encode()))
        at = datetime.fromisoformat(start)
        microseconds("after", at)
        return at.astimezone(UTC), booking_id("after", id_)
    except (ValueError, TypeError, RecursionError, BookingNotFound) as error:
        raise InvalidInput(field="after", reason="must be what an earlier page gave as its `after`") from error
