"""What a relay asks of the database, and how it judges what became of a delivery. Nothing is delivered here."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Connection

from nxsched.domain import checks
from nxsched.domain.bookings import Page
from nxsched.domain.bounds import MAX_PAGE
from nxsched.domain.commands import booking_id
from nxsched.domain.instants import microseconds
from nxsched.domain.outbox import Backoff, OutboxEvent, OutboxState, OutboxStatus
from nxsched.errors import BookingNotFound, EventNotFound, InvalidInput, RetryLater, TenantNotFound, Undeliverable
from nxsched.service.tools import Tools
from nxsched.store import outbox
from nxsched.store.outbox import Settled, Wanted
from nxsched.store.tenants import fetch_tenant, sees_all_tenants

MOST_ERROR: Final = 1_000
"""Characters of an error that are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """What a relay wants to have: under which name, for how long, how much, and due when at the latest."""

    owner: str
    lasts: timedelta
    most: int
    before: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a relay tells of events that it has leased under a name."""

    owner: str
    done: Sequence[Settled]


def take(connection: Connection, wants: Lease, tools: Tools) -> tuple[datetime, list[OutboxEvent]]:
    """The time, and what is leased."""
    before = min(wants.before or tools.now, tools.now)
    return tools.now, outbox.lease(connection, wants.owner, tools.now, before, wants.lasts, wants.most)


def settle(connection: Connection, told: Told, tools: Tools) -> set[str]:
    """Write down what became of leased events; gives the ids of those whose lease was still ours."""
    return outbox.settle(connection, told.owner, tools.now, told.done)


def see_all(connection: Connection, asked: None, tools: Tools) -> None:  # noqa: ARG001 - as every query
    """Raise `InvalidInput` for a login that would see no event."""
    if not sees_all_tenants(connection):
        reason = (
            "must log in as a role that sees the events of all tenants: one that `nxsched migrate --worker-role` has"
            " named"
        )
        raise InvalidInput(field="worker_url", reason=reason)


def judged(event: OutboxEvent, error: BaseException | None, backoff: Backoff) -> Settled:
    """What becomes of an event after an attempt."""
    if error is None:
        return Settled(event=event, outcome="delivered")
    words = in_words(error)
    if not isinstance(error, Exception):  # it was interrupted, and nobody knows
        return Settled(event=event, outcome="failed", error=words)
    if isinstance(error, Undeliverable) or event.attempts >= backoff.attempts:
        return Settled(event=event, outcome="dead", error=words)
    # Full jitter: many that fail together, because their receiver is away, do not come back together.
    wait = backoff.most(event.attempts) * random.random()  # noqa: S311 - no secret
    if isinstance(error, RetryLater) and isinstance(error.after, timedelta):
        wait = max(wait, min(error.after, backoff.longest))
    return Settled(event=event, outcome="failed", error=words, wait=wait)


def untouched(event: OutboxEvent) -> Settled:
    """It goes back as if it had not been leased."""
    return Settled(event=event, outcome="untouched")


def in_words(error: BaseException) -> str:
    """An error as it is kept: one line, without what steers a terminal."""
    try:
        words = str(error)
    except Exception:  # noqa: BLE001 - it is somebody else's
        words = "(an error that cannot be printed)"
    return checks.printable(f"{type(error).__name__}: {words}"[:MOST_ERROR])


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which events of the outbox somebody wants to see, as they say it. Raises `InvalidInput`."""

    tenant: str | None
    booking: str | None
    state: OutboxState | str | None
    after: str | None
    limit: int

    @property
    def wanted(self) -> Wanted:
        """The same, checked."""
        if self.tenant is not None:
            checks.text("tenant", self.tenant)
        if self.state is not None:
            checks.one_of("state", self.state, [one.value for one in OutboxState])
        return Wanted(
            tenant=self.tenant,
            booking=None if self.booking is None else booking_id("booking", self.booking),
            state=None if self.state is None else OutboxState(self.state),
            after=None if self.after is None else _place(self.after),
            limit=checks.whole("limit", self.limit, least=1, most=MAX_PAGE) + 1,
        )


def events(connection: Connection, wanted: Wanted, tools: Tools) -> Page[OutboxEvent]:
    """A page of events, and the way to the next one."""
    see_all(connection, None, tools)
    _look_for(connection, wanted.tenant)
    found = outbox.find_events(connection, wanted, tools.now)
    items = found[: wanted.limit - 1]
    return Page(items=tuple(items), after=_cursor(items[-1]) if len(found) > len(items) else None)


def event(connection: Connection, given: str, tools: Tools) -> OutboxEvent:
    """One event. Raises `EventNotFound`."""
    see_all(connection, None, tools)
    id_ = _id(given)
    found = outbox.find_event(connection, id_, tools.now)
    if found is None:
        raise EventNotFound(id=id_)
    return found


def retry(connection: Connection, id_: str, tools: Tools) -> OutboxEvent:
    """Have it delivered again. Raises `EventNotFound`, and `InvalidInput` where it is leased or delivered."""
    return _changed(connection, id_, tools, outbox.retry_event)


def discard(connection: Connection, id_: str, tools: Tools) -> OutboxEvent:
    """Give it up. Raises as `retry`."""
    return _changed(connection, id_, tools, outbox.discard_event)


def _changed(
    connection: Connection,
    given: str,
    tools: Tools,
    change: Callable[[Connection, str, datetime], OutboxEvent | None],
) -> OutboxEvent:
    see_all(connection, None, tools)
    id_ = _id(given)
    found = change(connection, id_, tools.now)
    if found is None:
        there = event(connection, id_, tools)
        reason = {
            OutboxState.LEASED: f"is being delivered by {there.leased_by}, until {there.leased_until}: wait for that",
            OutboxState.DELIVERED: "was delivered already",
            OutboxState.DISCARDED: "was discarded already",
        }.get(there.state, "was changed by somebody else at this moment: try again")
        raise InvalidInput(field="id", reason=f"{reason}: {id_}")
    return found


def _id(given: object) -> str:
    try:
        return booking_id("id", given, "event")
    except BookingNotFound as error:
        raise EventNotFound(id=error.id) from error


def status(connection: Connection, tenant: str | None, tools: Tools) -> OutboxStatus:
    """How the outbox stands, of a tenant or of all."""
    see_all(connection, None, tools)
    _look_for(connection, tenant)
    return outbox.status(connection, tenant, tools.now)


def _look_for(connection: Connection, tenant: str | None) -> None:
    """Nothing of a tenant that is not there would look as if all were well."""
    if tenant is not None and fetch_tenant(connection, checks.text("tenant", tenant)) is None:
        raise TenantNotFound(id=tenant)


def _cursor(last: OutboxEvent) -> str:
    where = json.dumps([last.occurred_at.isoformat(), last.booking_id, last.version])
    return base64.urlsafe_b64encode(where.encode()).decode()


def _place(cursor: object) -> tuple[datetime, str, int]:
    try:
        start, booking, version = json.loads(base64.urlsafe_b64decode(str(cursor).encode()))
        at = datetime.fromisoformat(start)
        microseconds("after", at)
        whole = checks.whole("after", version, least=1, most=2**31 - 1)
        return at.astimezone(UTC), booking_id("after", booking), whole
    except (ValueError, TypeError, RecursionError, BookingNotFound) as error:
        raise InvalidInput(field="after", reason="must be what an earlier page gave as its `after`") from error
