"""What a relay asks of the database, and how it judges what became of a delivery. Nothing is delivered here."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import Connection

from nxsched.domain import checks
from nxsched.domain.bookings import Page
from nxsched.domain.bounds import MAX_PAGE
from nxsched.domain.commands import booking_id
from nxsched.domain.instants import microseconds
from nxsched.domain.outbox import Backoff, OutboxEvent, OutboxState, OutboxStatus
from nxsched.errors import BookingNotFound, EventNotFound, InvalidInput, RetryLater, TenantNotFound, Undeliverable
from nxsched.service.tools import Tools
from nxsched.store.outbox import EVENTS
from nxsched.store.queue import One, Queue, Queued, Settled, Wanted
from nxsched.store.reminders import REMINDERS
from nxsched.store.tenants import fetch_tenant, sees_all_tenants

MOST_ERROR: Final = 1_000
"""Characters of an error that are kept."""


T = TypeVar("T", bound=Queued)

DELIVERED: Final = (REMINDERS, EVENTS)
"""What a relay gives to an application's `deliver`: first what cannot wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease(Generic[T]):
    """What a relay wants to have: of which queue, under which name, for how long, how much, due when at the latest."""

    queue: Queue[T]
    owner: str
    lasts: timedelta
    most: int
    before: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a relay tells of what it has leased under a name."""

    queue: Queue[Any]
    owner: str
    done: Sequence[Settled]


def take(connection: Connection, wants: Lease[T], tools: Tools) -> tuple[datetime, list[T]]:
    """The time, and what is leased."""
    before = min(wants.before or tools.now, tools.now)
    return tools.now, wants.queue.lease(connection, wants.owner, tools.now, before, wants.lasts, wants.most)


def settle(connection: Connection, told: Told, tools: Tools) -> set[str]:
    """Write down what became of what was leased; gives the ids of that whose lease was still ours."""
    return told.queue.settle(connection, told.owner, tools.now, told.done)


def stands(connection: Connection, queues: Sequence[Queue[Any]], tools: Tools) -> OutboxStatus:
    """How queues stand together, of all tenants."""
    return _together(connection, queues, None, tools)


def see_all(connection: Connection, asked: None, tools: Tools) -> None:  # noqa: ARG001 - as every query
    """Raise `InvalidInput` for a login that would see no event."""
    if not sees_all_tenants(connection):
        reason = (
            "must log in as a role that sees the events of all tenants: one that `nxsched migrate --worker-role` has"
            " named"
        )
        raise InvalidInput(field="worker_url", reason=reason)


def judged(item: Queued, error: BaseException | None, answer: Mapping[str, Any] | None, backoff: Backoff) -> Settled:
    """What becomes of something after an attempt."""
    if error is None:
        return Settled(item=item, outcome="delivered", answer=answer)
    words = in_words(error)
    if not isinstance(error, Exception):  # it was interrupted, and nobody knows
        return Settled(item=item, outcome="failed", error=words, answer=answer)
    if isinstance(error, Undeliverable) or item.attempts >= backoff.attempts:
        return Settled(item=item, outcome="dead", error=words, answer=answer)
    # Full jitter: many that fail together, because their receiver is away, do not come back together.
    wait = backoff.most(item.attempts) * random.random()  # noqa: S311 - no secret
    if isinstance(error, RetryLater) and isinstance(error.after, timedelta):
        wait = max(wait, min(error.after, backoff.longest))
    return Settled(item=item, outcome="failed", error=words, wait=wait, answer=answer)


def untouched(item: Queued) -> Settled:
    """It goes back as if it had not been leased."""
    return Settled(item=item, outcome="untouched")


def in_words(error: BaseException) -> str:
    """An error as it is kept: one line, without what steers a terminal."""
    try:
        words = str(error)
    except Exception:  # noqa: BLE001 - it is somebody else's
        words = "(an error that cannot be printed)"
    return checks.printable(f"{type(error).__name__}: {words}"[:MOST_ERROR])


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What of a queue somebody wants to see, as they say it. Raises `InvalidInput`."""

    tenant: str | None
    booking: str | None
    state: OutboxState | str | None
    after: str | None
    limit: int

    def every(self, of: str | None) -> Wanted:
        """The same in all states, unless one is named; `of` as in `Wanted`."""
        return replace(self.wanted, every=self.state is None, of=of)

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
    return page(connection, EVENTS, wanted, tools)


def page(connection: Connection, queue: Queue[T], wanted: Wanted, tools: Tools) -> Page[T]:
    """A page of a queue, and the way to the next one."""
    found = queue.page(connection, wanted, tools.now)
    items = found[: wanted.limit - 1]
    return Page(items=tuple(items), after=_cursor(items[-1]) if len(found) > len(items) else None)


def event(connection: Connection, given: str, tools: Tools) -> OutboxEvent:
    """One event. Raises `EventNotFound`."""
    see_all(connection, None, tools)
    return one_of(connection, EVENTS, given, tools)


def one_of(connection: Connection, queue: Queue[T], given: str, tools: Tools) -> T:
    """One of a queue. Raises `EventNotFound`."""
    id_ = _id(given, queue.noun)
    found = queue.find(connection, _one(id_, tools), tools.now)
    if found is None:
        raise EventNotFound(id=id_, noun=queue.noun)
    return found


def retry(connection: Connection, id_: str, tools: Tools) -> OutboxEvent:
    """Have it delivered again. Raises `EventNotFound`, and `InvalidInput` where it is leased or delivered."""
    see_all(connection, None, tools)
    return changed(connection, EVENTS, id_, tools, EVENTS.retry)


def discard(connection: Connection, id_: str, tools: Tools) -> OutboxEvent:
    """Give it up. Raises as `retry`."""
    see_all(connection, None, tools)
    return changed(connection, EVENTS, id_, tools, EVENTS.discard)


def changed(
    connection: Connection,
    queue: Queue[T],
    given: str,
    tools: Tools,
    change: Callable[[Connection, One, datetime], T | None],
) -> T:
    """Change one by hand. Raises `EventNotFound`, and `InvalidInput` where it cannot be."""
    id_ = _id(given, queue.noun)
    found = change(connection, _one(id_, tools), tools.now)
    if found is None:
        there = one_of(connection, queue, id_, tools)
        reason = {
            OutboxState.LEASED: f"is being delivered by {there.leased_by}, until {there.leased_until}: wait for that",
            OutboxState.DELIVERED: "was delivered already",
            OutboxState.DISCARDED: "was discarded already",
        }.get(there.state, "was changed by somebody else at this moment: try again")
        raise InvalidInput(field="id", reason=f"{reason}: {id_}")
    return found


def _one(id_: str, tools: Tools) -> One:
    """One of the tenant that asks, or of any, for who asks as none."""
    return One(id_, tools.tenant or None)


def _id(given: object, noun: str = "event") -> str:
    try:
        return booking_id("id", given, noun)
    except BookingNotFound as error:
        raise EventNotFound(id=error.id, noun=noun) from error


def status(connection: Connection, tenant: str | None, tools: Tools) -> OutboxStatus:
    """How the outbox stands, of a tenant or of all."""
    see_all(connection, None, tools)
    _look_for(connection, tenant)
    return _together(connection, DELIVERED, tenant, tools)


def _together(connection: Connection, queues: Sequence[Queue[Any]], tenant: str | None, tools: Tools) -> OutboxStatus:
    found = [one.status(connection, tenant, tools.now) for one in queues]
    dead = [status.dead for queue, status in zip(queues, found, strict=True) if queue is not REMINDERS]
    return OutboxStatus(
        depth=sum(one.depth for one in found),
        lag=max(one.lag for one in found),
        failing=sum(one.failing for one in found),
        dead=sum(dead),  # a dead reminder is over
    )


def _look_for(connection: Connection, tenant: str | None) -> None:
    """Nothing of a tenant that is not there would look as if all were well."""
    if tenant is not None and fetch_tenant(connection, checks.text("tenant", tenant)) is None:
        raise TenantNotFound(id=tenant)


def _cursor(last: Queued) -> str:
    where = json.dumps([last.occurred_at.isoformat(), last.booking_id, last.version, last.id])
    return base64.urlsafe_b64encode(where.encode()).decode()


def _place(cursor: object) -> tuple[datetime, str, int, str]:
    try:
        start, booking, version, id_ = json.loads(base64.urlsafe_b64decode(str(cursor).encode()))
        at = datetime.fromisoformat(start)
        microseconds("after", at)
        whole = checks.whole("after", version, least=1, most=2**31 - 1)
        return at.astimezone(UTC), booking_id("after", booking), whole, booking_id("after", id_)
    except (ValueError, TypeError, RecursionError, BookingNotFound) as error:
        raise InvalidInput(field="after", reason="must be what an earlier page gave as its `after`") from error
