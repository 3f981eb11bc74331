"""Units of work: an action in a transaction of its own, retried where that is safe, or in the application's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from sqlalchemy import Connection, Engine, NestedTransaction
from sqlalchemy.exc import DBAPIError, InvalidRequestError, PendingRollbackError, StatementError
from sqlalchemy.orm import Session, scoped_session
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from nxsched.clock import Clock
from nxsched.domain import checks
from nxsched.domain.bookings import Actor
from nxsched.domain.bounds import MAX_KEY_DAYS
from nxsched.domain.commands import fingerprint
from nxsched.errors import (
    IdempotencyConflict,
    InvalidInput,
    LockTimeout,
    NxschedError,
    RateLimited,
    StoreUnavailable,
    TransactionConflict,
)
from nxsched.locking import Locker, NoLocker, TurnedAway
from nxsched.locking.choosing import WhenUnavailable, chosen
from nxsched.service.attempts import attempt, limiter, look_after
from nxsched.service.contending import Gate, look, refuse_taken, waiting
from nxsched.service.ids import new_id
from nxsched.service.tokens import Keyring
from nxsched.service.tools import Tools
from nxsched.store.bell import Bell
from nxsched.store.conflicts import FAILED_BEFORE, Waited, translated
from nxsched.store.connect import ASYNC_DRIVERS, DRIVER, ISOLATION
from nxsched.store.keys import take_key
from nxsched.store.transactions import enter, join, leave

if TYPE_CHECKING:  # its package is optional
    from nxsched.ratelimit.limiter import Limiter
    from nxsched.ratelimit.rates import RateLimit

C = TypeVar("C")
R = TypeVar("R")

Work = Callable[[Connection, C, Tools], R]
"""What is done in a transaction, with what is asked for."""

First = Callable[[Connection, Tools], None]
"""Judges who asks."""

Joined = Connection | Session | scoped_session[Session]
"""The application's own transaction, as `within=` takes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action(Generic[C, R]):
    """Something that can be asked for: how it is done, and what its repeat with the same key gives.

    `subject` names what the action is about, for the record of the key: what it may make has the id of the tools.
    `first` judges who asks, before a key is looked at.
    """

    do: Callable[[Connection, C, Tools], R]
    subject: Callable[[C, Tools], str]
    again: Callable[[Connection, str, Tools], R]
    first: First | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """How an action is asked for: whose rows, in whose transaction, under which key, on whose behalf, from where."""

    tenant: str
    within: object = None
    key: str | None = None
    actor: Actor | None = None
    caller: Actor | None = None
    address: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Check the values."""
        if self.key is not None:
            checks.text("idempotency_key", self.key)
        for actor in (self.actor, self.caller):
            if actor is not None:
                checks.kind("actor", actor, Actor)
        if self.address is not None:
            checks.text("address", self.address)

    @property
    def who(self) -> Actor | None:
        """Who is counted: the actor of the call, or else that of the caller."""
        return self.actor if self.actor and self.actor.id else self.caller

    def given(self, within: object, key: str | None = None, actor: Actor | None = None) -> Call:
        """The same with what a method was given."""
        return replace(self, within=within, key=key, actor=actor or self.caller)


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """Runs actions on an engine, in transactions that are READ COMMITTED: one of our `own` has that from the start.

    Time-outs are in milliseconds; `keys_last` is for how long a key is remembered.
    """

    engine: Engine
    own: bool
    clock: Clock | None = None
    lock_timeout: int = 5_000
    statement_timeout: int = 30_000
    keys_last: timedelta = timedelta(days=1)
    attempts: int = 6
    keyring: Keyring = field(default_factory=Keyring)
    gate: Gate = field(default_factory=lambda: Gate(NoLocker()))
    limiter: Limiter | None = None
    bell: Bell = field(default_factory=Bell)
    _retrying: tuple[Retrying, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Make ready what retries."""
        retrying = tuple(Retrying(**retried(self.attempts, keyed=keyed)) for keyed in (False, True))
        object.__setattr__(self, "_retrying", retrying)

    def on(self, engine: Engine, *, own: bool) -> Units:
        """The same on another engine."""
        return replace(self, engine=engine, own=own)

    def write(self, action: Action[C, R], command: C, call: Call) -> R:
        """Run what changes something: once for a key, however often it is asked for; behind a lock, if there is one."""
        work = self.work(action, command, call)
        self.admit(command, call, action.first)
        wants = self.gate.wanting(command, call.within)
        if wants is None:
            return self.run(work, command, call)
        tenant, slug = call.tenant, wants.event_type
        if not self.gate.knows(tenant, slug):
            self._learn(tenant, slug)
        wanted = self.gate.contended(wants, tenant, call.key)
        if wanted is None:
            return self.run(work, command, call)

        def attempt() -> R:
            with self.gate.locker.around(wanted):
                return self.run(self.gate.locked(work, wanted), command, call)

        if not self.gate.locker.wait:
            return attempt()
        try:
            found: R = Retrying(**waiting(self.gate.locker.wait))(attempt)
        except TurnedAway:
            self.run(refuse_taken, wants, Call(tenant=tenant))
            raise
        return found

    def _learn(self, tenant: str, slug: str) -> None:
        """Look at an event type for the gate; of many who do not know it, one does."""
        gate = self.gate
        other = gate.other(tenant, slug)
        if other is not None:
            other.result()
        try:
            if other is None or not gate.knows(tenant, slug):
                gate.learn(tenant, slug, self.run(look, slug, Call(tenant=tenant)))
        finally:
            if other is None:
                gate.looked(tenant, slug)

    def read(self, work: Work[C, R], asked: C, call: Call) -> R:
        """Run a query that rate limits count."""
        self.admit(asked, call)
        return self.run(work, asked, call)

    def admit(self, command: object, call: Call, first: First | None = None) -> None:
        """Count an attempt, before any work. Raises `RateLimited`."""
        if self.limiter is None or (asks := attempt(command, call.tenant, call.who, call.address)) is None:
            return
        met: list[tuple[RateLimit, str]] = []
        full: list[RateLimited] = []
        limits = self.limiter.of(asks.act)
        for limit in limits:
            if limit.by == "attendee" and asks.looks:
                if full:
                    break  # who is refused anyway is not looked for
                asks = asks.of_attendee(
                    self.run(look_after(first), command, Call(tenant=call.tenant, within=call.within))
                )
            if who := asks.who[limit.by]:
                met.append((limit, who))
                if len(limits) > 1:  # what one of them refuses is not to take anything of the others
                    try:
                        self.limiter.look(limit, asks.act, call.tenant, who, take=False)
                    except RateLimited as error:
                        full.append(error)
        if full:  # there is room again when there is in all of them
            raise max(full, key=lambda one: one.retry_after)
        for limit, who in met:
            self.limiter.look(limit, asks.act, call.tenant, who, take=True)

    def close(self) -> None:
        """Give back what lockers and limits have open."""
        try:
            self.gate.locker.close()
        finally:
            if self.limiter is not None:
                self.limiter.close()

    def run(self, work: Work[C, R], asked: C, call: Call) -> R:
        """Run a query, or anything else that has no key."""
        if call.within is not None:
            return self.joined(work, asked, call, call.within)
        doubts = Doubts()
        try:
            return self._alone(work, asked, call)
        except (TransactionConflict, StoreUnavailable) as error:
            failed = [doubts.noted(error)]

        def attempt() -> R:  # what retries costs as much as a statement, and is told of the first try if it failed
            if failed:
                raise failed.pop()
            try:
                return self._alone(work, asked, call)
            except StoreUnavailable as error:
                doubts.noted(error)
                raise

        try:
            found: R = self._retrying[call.key is not None](attempt)
        except (StoreUnavailable, TransactionConflict, LockTimeout) as error:
            if other := doubts.told(error):
                raise other from error
            raise
        return found

    def work(self, action: Action[C, R], command: C, call: Call) -> Work[C, R]:
        """What runs an action: once, where the call has a key, and then what its repeat gives."""
        if call.key is None:
            return action.do
        key, digest = call.key, fingerprint(command)

        def once(connection: Connection, command: C, tools: Tools) -> R:
            if action.first is not None:
                action.first(connection, tools)
            subject = action.subject(command, tools)
            found = take_key(connection, tools.tenant, key, digest, subject, now=tools.now, lasts=self.keys_last)
            tools = tools.at(found.told)
            if found.is_new:
                return action.do(connection, command, tools)
            if found.fingerprint != digest:
                raise IdempotencyConflict(key=key)
            return action.again(connection, found.subject, tools)

        return once

    def _alone(self, work: Work[C, R], asked: C, call: Call) -> R:
        """In a transaction of its own."""
        with translated(call.tenant) as edge, self.engine.connect() as connection:
            if not self.own:  # of an engine's options, those of the application's would have the last word
                connection.execution_options(isolation_level=ISOLATION)
            result = self.inside(connection, work, asked, call)
            edge.at_commit = True
            connection.commit()
            if self.bell.is_due(connection):
                self.bell.ring(connection)
        return result

    def inside(self, connection: Connection, work: Work[C, R], asked: C, call: Call) -> R:
        """In a transaction of our own that has begun, and is to be committed."""
        now = enter(
            connection,
            call.tenant,
            lock_timeout=self.lock_timeout,
            statement_timeout=self.statement_timeout,
        )
        return work(connection, asked, self._tools(call, now))

    def joined(self, work: Work[C, R], asked: C, call: Call, within: object) -> R:
        """In the application's transaction: a savepoint that an error rolls back, and nothing is committed."""
        for tried in range(1, self.attempts + 1):
            try:
                with translated(call.tenant):
                    connection, savepoint = _begun(within)
                    with savepoint:
                        before, now = join(connection, call.tenant)
                        result = work(connection, asked, self._tools(call, now))
                        leave(connection, before)
                        return result
            except Waited:
                if tried == self.attempts:
                    raise
        raise AssertionError("the last try returns or raises")

    def _tools(self, call: Call, now: datetime) -> Tools:
        at = _told_by(self.clock) if self.clock else now
        return Tools(tenant=call.tenant, now=at, actor=call.actor, clock=self.clock, id=new_id())


def _begun(within: object) -> tuple[Connection, NestedTransaction]:
    """The connection of the application's transaction, and a savepoint in it.

    Raises `InvalidInput` for what cannot be joined, and `StoreUnavailable` for what has to be rolled back before.
    """
    if isinstance(within, scoped_session):
        within = within()
    if not isinstance(within, Connection | Session):
        reason = f"must be a SQLAlchemy Connection (engine.connect() gives one) or Session, not {checks.shown(within)}"
        raise InvalidInput(field="within", reason=reason)
    try:
        connection = within.connection() if isinstance(within, Session) else within
        _check(connection)
        return connection, connection.begin_nested()
    except PendingRollbackError as error:
        raise StoreUnavailable(FAILED_BEFORE) from error
    except (InvalidRequestError, StatementError) as error:  # closed, over, bound to nothing, or of an event loop
        if isinstance(error, StatementError) and not isinstance(error.orig, InvalidRequestError):
            raise
        reason = f"has no transaction to join: {checks.printable(str(error))}"
        raise InvalidInput(field="within", reason=reason) from error


def _check(connection: Connection) -> None:
    """Refuse a connection that is none of PostgreSQL and psycopg, and one that commits each statement."""
    dialect = connection.dialect
    drivers = ASYNC_DRIVERS if dialect.is_async else (DRIVER,)
    if dialect.name != "postgresql" or dialect.driver not in drivers:
        wanted = " or ".join(f"postgresql+{driver}" for driver in drivers)
        kind = f"{dialect.name}+{dialect.driver}"
        raise InvalidInput(field="within", reason=f"must be a connection of {wanted}, not {kind}")
    if getattr(connection.connection.dbapi_connection, "autocommit", False):
        reason = "is an AUTOCOMMIT connection, which has no transaction to join"
        raise InvalidInput(field="within", reason=reason)


def units_on(  # noqa: PLR0913 - the options of a scheduler
    engine: Engine,
    *,
    own: bool,
    clock: Clock | None,
    secrets: Sequence[str],
    redis: object,
    locker: Locker | None,
    rate_limits: Sequence[RateLimit],
    when_unavailable: WhenUnavailable,
    for_asyncio: bool,
    lock_timeout: timedelta,
    statement_timeout: timedelta,
    keys_last: timedelta,
    wake_relays: bool,
) -> Units:
    """Units as an application asks for them. Raises `InvalidInput`."""
    if clock is not None and not callable(getattr(clock, "now", None)):
        raise InvalidInput(field="clock", reason=f"must have a method now(), not {checks.shown(clock)}")
    return Units(
        engine=engine,
        own=own,
        clock=clock,
        keyring=Keyring(secrets),
        gate=Gate(chosen(redis, locker, when_unavailable, for_asyncio=for_asyncio, counts=bool(rate_limits))),
        limiter=limiter(rate_limits, redis, when_unavailable, for_asyncio=for_asyncio),
        lock_timeout=_milliseconds("lock_timeout", lock_timeout),
        statement_timeout=_milliseconds("statement_timeout", statement_timeout),
        keys_last=_key_time(keys_last),
        bell=Bell(checks.flag("wake_relays", wake_relays)),
    )


def _told_by(clock: Clock) -> datetime:
    """Its time, in UTC: in a zone of its own, time that is added goes by the wall."""
    at = clock.now()
    if not isinstance(at, datetime) or at.tzinfo is None:
        raise InvalidInput(field="clock", reason=f"must tell an aware datetime, not {checks.shown(at)}")
    return at.astimezone(UTC)


def _key_time(value: object) -> timedelta:
    if not isinstance(value, timedelta) or not timedelta(seconds=_LEAST_SECONDS) <= value <= timedelta(MAX_KEY_DAYS):
        reason = f"must be a timedelta from a millisecond to {MAX_KEY_DAYS} days, not {checks.shown(value)}"
        raise InvalidInput(field="keys_last", reason=reason)
    return value


def _milliseconds(field: str, value: object) -> int:
    if not isinstance(value, timedelta) or value.total_seconds() < _LEAST_SECONDS:
        raise InvalidInput(
            field=field, reason=f"must be a timedelta of a millisecond or more, not {checks.shown(value)}"
        )
    return min(int(value.total_seconds() * 1000), _MOST_MILLISECONDS)


_LEAST_SECONDS: Final = 0.001
_MOST_MILLISECONDS: Final = 2**31 - 1
"""What PostgreSQL takes: 24 days."""


class Doubts:
    """Whether one of several tries may have happened: what a later one cannot know."""

    def __init__(self) -> None:
        self._any = False

    def noted(self, error: NxschedError) -> NxschedError:
        """The error of a try."""
        self._any = self._any or getattr(error, "may_have_happened", False)
        return error

    def told(self, error: NxschedError) -> NxschedError | None:
        """What the caller is told in the end, in the place of the last error; `None` where that says it all."""
        if isinstance(error, StoreUnavailable):
            error.may_have_happened = self._any
        elif self._any:
            reason = f"the connection broke at COMMIT, and whether the change was made is not known yet: {error}"
            return StoreUnavailable(reason, may_have_happened=True)
        return None


def retried(attempts: int, *, keyed: bool) -> dict[str, Any]:
    """What is tried again, how often and when."""
    return {
        "retry": retry_if_exception(partial(_may_be_retried, keyed=keyed)),
        "stop": stop_after_attempt(attempts),
        "wait": wait_random_exponential(multiplier=0.01, max=0.5),
        "reraise": True,
    }


def _may_be_retried(error: BaseException, *, keyed: bool) -> bool:
    """Whether the same again can do no harm: nothing has happened, or a key keeps it from happening twice."""
    if isinstance(error, TransactionConflict):
        return True
    if not isinstance(error, StoreUnavailable):
        return False
    lost = isinstance(error.__cause__, DBAPIError) and error.__cause__.connection_invalidated
    return lost and (keyed or not error.may_have_happened)
