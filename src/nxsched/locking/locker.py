"""What a locker is: it keeps those away from the database who want what somebody is just booking."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from inspect import iscoroutinefunction
from typing import Final, Literal, Protocol

from sqlalchemy import Connection

from nxsched.errors import InvalidInput, LockTimeout

LOG: Final = logging.getLogger("nxsched.locking")

Outcome = Literal["taken", "turned_away", "same_key", "unavailable"]
"""Of a try: we have the lock; somebody else has it; who has it asks for the same under our key; nobody can tell."""


@dataclass(frozen=True, slots=True, order=True)
class Permit:
    """A name for work that collides, and how many may do it at once: a pool of three hosts serves three."""

    name: str
    of: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Contended:
    """What one command contends for: permits in the order of their names, within a tenant.

    `key` is the idempotency key that the command has: who repeats it goes on to the database, which has the answer.
    """

    tenant: str
    permits: tuple[Permit, ...]
    key: str | None = None

    def __post_init__(self) -> None:
        """Everybody takes them in one order."""
        object.__setattr__(self, "permits", tuple(sorted(self.permits)))

    @property
    def request(self) -> str:
        """What says that two ask for the same: nothing of the key can be read from it."""
        return "" if self.key is None else sha256(f"{self.tenant}\0{self.key}".encode()).hexdigest()[:32]

    def __str__(self) -> str:
        """For logs."""
        return f"{', '.join(one.name for one in self.permits[:3])} of {self.tenant}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LockEvent:
    """What a lock did, for an application's metrics: `seconds` is how long the locker took to say so."""

    outcome: Outcome
    tenant: str
    names: tuple[str, ...]
    seconds: float


OnLock = Callable[[LockEvent], None]


class TurnedAway(LockTimeout):
    """Somebody else has the lock: who can wait may try again."""


class Locker(Protocol):
    """Keeps callers from the database while somebody does what collides with their work.

    A lock is around the transaction, or inside it, at its beginning; who does not get it raises `TurnedAway`. `wait` is
    for how long a caller may try again before the error is given to it. A locker decides nothing, and is asked for
    nothing in a transaction of the application's.
    """

    wait: timedelta

    def check(self, *, for_asyncio: bool) -> None:
        """Raises `InvalidInput` where it cannot serve this face."""

    def around(self, contended: Contended) -> AbstractContextManager[None]:
        """Have the lock while something runs. Raises `TurnedAway`."""

    def around_async(self, contended: Contended) -> AbstractAsyncContextManager[None]:
        """The same for asyncio."""

    def inside(self, connection: Connection, contended: Contended) -> None:
        """Take the lock in a transaction that has begun, and whose end releases it. Raises `TurnedAway`."""

    def close(self) -> None:
        """Give connections back."""

    async def aclose(self) -> None:
        """The same for asyncio."""


class Unlocked:
    """What lockers share that have nothing to do around a transaction, or nothing inside it."""

    def check(self, *, for_asyncio: bool) -> None:
        """Serves both."""

    @contextmanager
    def around(self, contended: Contended) -> Iterator[None]:  # noqa: ARG002 - there is none
        """Nothing."""
        yield

    @asynccontextmanager
    async def around_async(self, contended: Contended) -> AsyncIterator[None]:  # noqa: ARG002 - there is none
        """Nothing."""
        yield

    def inside(self, connection: Connection, contended: Contended) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""

    async def aclose(self) -> None:
        """Nothing."""


class NoLocker(Unlocked):
    """No locks: all go to the database, and wait there for one another."""

    wait: timedelta = timedelta()

    def __repr__(self) -> str:
        """As it is made."""
        return "NoLocker()"


@dataclass(frozen=True, slots=True)
class Teller:
    """Tells the log and the application what a lock did."""

    on_lock: OnLock | None = None

    def __post_init__(self) -> None:
        """Raises `InvalidInput` for what cannot be called, or would have to be awaited."""
        if self.on_lock is not None and (not callable(self.on_lock) or iscoroutinefunction(self.on_lock)):
            reason = f"must be a function that takes a LockEvent, and no coroutine, not {self.on_lock!r:.80}"
            raise InvalidInput(field="on_lock", reason=reason)

    def tell(self, outcome: Outcome, contended: Contended, seconds: float) -> None:
        """Whatever the application does with it does not reach the caller."""
        LOG.debug("%s: %s, %.1f ms", contended, outcome, seconds * 1000)
        if self.on_lock is None:
            return
        names = tuple(one.name for one in contended.permits)
        try:
            self.on_lock(LockEvent(outcome=outcome, tenant=contended.tenant, names=names, seconds=seconds))
        except Exception:
            LOG.exception("on_lock raised an error, which changes nothing")

    def turn_away(self, contended: Contended) -> TurnedAway:
        """The error for who comes second."""
        return TurnedAway(f"somebody else is just booking {contended}; nothing was written. Try again in a moment")


def checked_wait(value: object) -> timedelta:
    """For how long a caller may wait, at most a minute. Raises `InvalidInput`."""
    if not isinstance(value, timedelta) or not timedelta() <= value <= _LONGEST:
        raise InvalidInput(field="wait", reason=f"must be a timedelta from 0 to a minute, not {value!r}")
    return value


_LONGEST: Final = timedelta(minutes=1)
