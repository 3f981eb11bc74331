"""Units of work: an action in a transaction of its own, retried where that is safe, or in the application's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Generic, TypeVar

from sqlalchemy import Connection, Engine, NestedTransaction
from sqlalchemy.exc import DBAPIError, InvalidRequestError, PendingRollbackError
from sqlalchemy.orm import Session, scoped_session
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from nxsched.clock import Clock
from nxsched.domain import checks
from nxsched.domain.bookings import Actor
from nxsched.domain.commands import fingerprint
from nxsched.errors import (
    IdempotencyConflict,
    InvalidInput,
    LockTimeout,
    NxschedError,
    StoreUnavailable,
    TransactionConflict,
)
from nxsched.service.ids import new_id
from nxsched.service.tokens import Keyring
from nxsched.service.tools import Tools
from nxsched.store.conflicts import FAILED_BEFORE, Waited, translated
from nxsched.store.connect import DRIVER, ISOLATION
from nxsched.store.keys import take_key
from nxsched.store.transactions import enter, join, leave

C = TypeVar("C")
R = TypeVar("R")

Joined = Connection | Session | scoped_session[Session]
"""The application's own transaction, as `within=` takes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action(Generic[C, R]):
    """Something that can be asked for: how it is done, and what its repeat with the same key gives.

    `subject` names what the action is about, for the record of the key: what it may make has the id of the tools.
    """

    do: Callable[[Connection, C, Tools], R]
    subject: Callable[[C, Tools], str]
    again: Callable[[Connection, str, Tools], R]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """How an action is asked for: whose rows, in whose transaction, under which key, on whose behalf."""

    tenant: str
    within: Joined | None = None
    key: str | None = None
    actor: Actor | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        if self.key is not None:
            checks.text("idempotency_key", self.key)
        if self.actor is not None:
            checks.kind("actor", self.actor, Actor)


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
    _retrying: tuple[Retrying, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Make ready what retries."""
        retrying = tuple(
            Retrying(
                retry=retry_if_exception(partial(_may_be_retried, keyed=keyed)),
                stop=stop_after_attempt(self.attempts),
                wait=wait_random_exponential(multiplier=0.01, max=0.5),
                reraise=True,
            )
            for keyed in (False, True)
        )
        object.__setattr__(self, "_retrying", retrying)

    def on(self, engine: Engine, *, own: bool) -> Units:
        """The same on another engine."""
        return replace(self, engine=engine, own=own)

    def write(self, action: Action[C, R], command: C, call: Call) -> R:
        """Run what changes something: once for a key, however often it is asked for."""
        if call.key is None:
            return self.run(action.do, command, call)
        key, digest = call.key, fingerprint(command)

        def once(connection: Connection, command: C, tools: Tools) -> R:
            subject = action.subject(command, tools)
            found = take_key(connection, tools.tenant, key, digest, subject, now=tools.now, lasts=self.keys_last)
            tools = tools.at(found.told)
            if found.is_new:
                return action.do(connection, command, tools)
            if found.fingerprint != digest:
                raise IdempotencyConflict(key=key)
            return action.again(connection, found.subject, tools)

        return self.run(once, command, call)

    def run(self, work: Callable[[Connection, C, Tools], R], asked: C, call: Call) -> R:
        """Run a query, or anything else that has no key."""
        if call.within is not None:
            return self._joined(work, asked, call, call.within)
        failed: list[NxschedError] = []
        try:
            return self._alone(work, asked, call)
        except (TransactionConflict, StoreUnavailable) as error:
            failed.append(error)
            doubts = [getattr(error, "may_have_happened", False)]

        def attempt() -> R:  # what retries costs as much as a statement, and is told of the first try if it failed
            if failed:
                raise failed.pop()
            try:
                return self._alone(work, asked, call)
            except StoreUnavailable as error:
                doubts.append(error.may_have_happened)
                raise

        try:
            found: R = self._retrying[call.key is not None](attempt)
        except StoreUnavailable as error:
            error.may_have_happened = any(doubts)  # what a later try cannot know
            raise
        except (TransactionConflict, LockTimeout) as error:
            if not any(doubts):
                raise
            reason = f"the connection broke at COMMIT, and whether the change was made is not known yet: {error}"
            raise StoreUnavailable(reason, may_have_happened=True) from error
        return found

    def _alone(self, work: Callable[[Connection, C, Tools], R], asked: C, call: Call) -> R:
        """In a transaction of its own."""
        with translated(call.tenant) as edge, self.engine.connect() as connection:
            if not self.own:  # of an engine's options, those of the application's would have the last word
                connection.execution_options(isolation_level=ISOLATION)
            now = enter(
                connection,
                call.tenant,
                lock_timeout=self.lock_timeout,
                statement_timeout=self.statement_timeout,
            )
            result = work(connection, asked, self._tools(call, now))
            edge.at_commit = True
            connection.commit()
        return result

    def _joined(self, work: Callable[[Connection, C, Tools], R], asked: C, call: Call, within: Joined) -> R:
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
        at = self.clock.now() if self.clock else now
        return Tools(tenant=call.tenant, now=at, actor=call.actor, clock=self.clock, id=new_id())


def _begun(within: object) -> tuple[Connection, NestedTransaction]:
    """The connection of the application's transaction, and a savepoint in it.

    Raises `InvalidInput` for what cannot be joined, and `StoreUnavailable` for what has to be rolled back before.
    """
    if isinstance(within, scoped_session):
        within = within()
    if not isinstance(within, Connection | Session):
        reason = f"must be a SQLAlchemy Connection or Session, not {checks.shown(within)}"
        raise InvalidInput(field="within", reason=reason)
    try:
        connection = within.connection() if isinstance(within, Session) else within
        _check(connection)
        return connection, connection.begin_nested()
    except PendingRollbackError as error:
        raise StoreUnavailable(FAILED_BEFORE) from error
    except InvalidRequestError as error:  # closed, over, or bound to nothing
        reason = f"has no transaction to join: {checks.printable(str(error))}"
        raise InvalidInput(field="within", reason=reason) from error


def _check(connection: Connection) -> None:
    """Refuse a connection that is none of PostgreSQL and psycopg, and one that commits each statement."""
    if connection.dialect.name != "postgresql" or connection.dialect.driver != DRIVER:
        kind = f"{connection.dialect.name}+{connection.dialect.driver}"
        raise InvalidInput(field="within", reason=f"must be a connection of postgresql+{DRIVER}, not {kind}")
    if getattr(connection.connection.driver_connection, "autocommit", False):
        reason = "is an AUTOCOMMIT connection, which has no transaction to join"
        raise InvalidInput(field="within", reason=reason)


def _may_be_retried(error: BaseException, *, keyed: bool) -> bool:
    """Whether the same again can do no harm: nothing has happened, or a key keeps it from happening twice."""
    if isinstance(error, TransactionConflict):
        return True
    if not isinstance(error, StoreUnavailable):
        return False
    lost = isinstance(error.__cause__, DBAPIError) and error.__cause__.connection_invalidated
    return lost and (keyed or not error.may_have_happened)
