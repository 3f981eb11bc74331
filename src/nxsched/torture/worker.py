"""An application server under fire: a process that asks for whatever applications ask for, on both faces at once.

Some of its calls have transactions of their own, some join one of the application's, at each isolation level. Each has
an idempotency key, and is written down before it is made and after it was answered. Who does not know what came of a
call asks again with its key, as applications should.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from nxsched.async_scheduler import AsyncScheduler
from nxsched.domain.availability import BlockedPeriod
from nxsched.domain.bookings import Booking, Hold, Page
from nxsched.errors import (
    BlockedPeriodNotFound,
    BookingNotFound,
    HoldExpired,
    InvalidInput,
    InvalidToken,
    InvalidTransition,
    LockTimeout,
    NxschedError,
    PolicyViolation,
    RateLimited,
    SlotUnavailable,
    StoreUnavailable,
    TransactionConflict,
)
from nxsched.locking import Locker, NoLocker, PostgresLocker
from nxsched.scheduler import Scheduler
from nxsched.store.async_connect import AsyncEngine, create_async_engine
from nxsched.torture.calls import BY_LINK, Board, Call, Chooser, Known, days
from nxsched.torture.journal import End, Journal, Told, written
from nxsched.torture.mortal import mortal
from nxsched.torture.world import EVENT_TYPES, HOSTS

LOCK_TIMEOUT: Final = 1.0
STATEMENT_TIMEOUT: Final = 2.0
"""Seconds: shorter than what the tormentor holds up."""

SECRET: Final = "only for the links of a torture"  # noqa: S105 - nobody else has them
"""What signs them."""

_LANES: Final = 4
"""Calls at a time, on twice as few connections."""

_POOL_TIMEOUT: Final = 2.0
_HOARDS: Final = 2.2
"""Seconds."""

_TRIES: Final = 6
_GONE: Final = {"store_unavailable", "OperationalError", "DBAPIError 08003"}
_ONCE_MORE: Final = 0.05
"""How often somebody asks again who was told."""

_SHOWN: Final = 0.8
KEYS_LAST: Final = timedelta(days=7)
"""Longer than anybody runs this."""

_READS: Final = 0.1
"""How often something is read, or tidied up, between two calls."""

_OF_THE_OTHER: Final = 0.2
"""How much is asked of the second tenant, by the same processes on the same connections."""

_LEVELS: Final = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")


class How(NamedTuple):
    """On which face, and in whose transaction: of its own, or one of the application's of that isolation level."""

    face: str
    level: str | None

    def __str__(self) -> str:
        """For the journal."""
        return f"{self.face}, within {self.level}" if self.level else self.face


HOWS: Final = [
    *(How(face, level) for face in ("sync", "psycopg", "asyncpg") for level in (None, *_LEVELS)),
    *(How("session", level) for level in _LEVELS),
]
"""A session is that of SQLAlchemy, in a thread."""

OWN: Final = [How("sync", None), How("psycopg", None)]

Locks = Literal["redis", "redis or nothing", "postgres", "none"]
"""With Redis or nothing, nobody books while Redis is away, and who is turned away tries again for a while."""


@dataclass(frozen=True, kw_only=True)
class Orders:
    """What a process begins with: where to connect to, when to end, and how its clock is wrong.

    With `limits` attempts are counted on Redis, and none is too many. `dies` counts statements down: at the one where
    it comes to nothing, the process kills itself. `sabotage` is done to the worker before it begins, by tests that want
    to see the checker cry out.
    """

    name: str
    seed: int
    url: str
    redis: str | None
    limits: bool
    locks: Locks
    journal: Path
    first: datetime
    begins: float
    until: float
    clock_off_by: float
    boards: Mapping[str, Board]
    prefix: str
    dies: Any
    sabotage: Callable[[Worker], None] | None = None


class Answer(NamedTuple):
    """What came of a try."""

    end: End
    said: str = ""
    told: Sequence[Told] = ()


@dataclass
class Worker:
    """One process."""

    orders: Orders
    chance: random.Random = field(init=False)
    journal: Journal = field(init=False)
    choosers: list[Chooser] = field(init=False)
    numbers: int = 0

    def __post_init__(self) -> None:
        """Set the clocks of this process wrong, and connect to nothing yet."""
        orders = self.orders
        self.chance = random.Random(orders.seed)  # noqa: S311 - to be played again
        self.journal = Journal(orders.journal)
        self.choosers = [Chooser(tenant, self.chance, board, self.starts) for tenant, board in orders.boards.items()]
        _set_clocks(orders.clock_off_by)
        url = orders.url
        self.engine: Engine = mortal(
            create_engine(url, pool_size=_LANES // 2, max_overflow=0, pool_timeout=_POOL_TIMEOUT, hide_parameters=True),
            orders.dies,
        )
        theirs = {"psycopg": url, "asyncpg": url.replace("+psycopg", "+asyncpg", 1).replace("sslmode=", "ssl=", 1)}
        self.async_engines: dict[str, AsyncEngine] = {
            driver: create_async_engine(url, pool_size=_LANES // 2, max_overflow=0, pool_timeout=_POOL_TIMEOUT)
            for driver, url in theirs.items()
        }
        for one in self.async_engines.values():
            mortal(one.sync_engine, orders.dies)
        waits = {
            "lock_timeout": timedelta(seconds=LOCK_TIMEOUT),
            "statement_timeout": timedelta(seconds=STATEMENT_TIMEOUT),
        }
        options: dict[str, Any] = {"keys_last": KEYS_LAST, "secrets": [SECRET], **waits}
        if orders.redis and orders.limits and find_spec("limits"):
            from nxsched.ratelimit import RateLimit  # noqa: PLC0415 - its package is optional

            limits = [RateLimit(rate="1000000/minute", by=by) for by in ("tenant", "attendee")]
            options |= {"redis": orders.redis, "rate_limits": limits}
            options["when_unavailable"] = "refuse" if orders.locks == "redis or nothing" else "proceed"
        self.scheduler: Scheduler = Scheduler(self.engine, locker=self._locker(), **options)
        self.async_schedulers: dict[str, AsyncScheduler] = {
            driver: AsyncScheduler(engine, locker=self._locker(), **options)
            for driver, engine in self.async_engines.items()
        }

    def starts(self) -> Sequence[datetime]:
        """What is fought over just now."""
        return days(self.orders.first, time.monotonic() - self.orders.begins)

    def _locker(self) -> Locker:
        locks, redis = self.orders.locks, self.orders.redis
        if redis is None or not locks.startswith("redis"):
            return PostgresLocker() if locks == "postgres" else NoLocker()
        from nxsched.locking import RedisLocker  # noqa: PLC0415 - its package is optional

        if locks == "redis":
            return RedisLocker(redis, prefix=self.orders.prefix)
        patient = timedelta(seconds=0.1)
        return RedisLocker(redis, prefix=self.orders.prefix, wait=patient, when_unavailable="refuse")

    async def live(self) -> None:
        """Go on until the time is over."""
        self.journal.note(worker=self.orders.name, pid=os.getpid(), clock_off_by=self.orders.clock_off_by)
        async with asyncio.TaskGroup() as group:
            for _ in range(_LANES):
                group.create_task(self.lane())
            group.create_task(self.hoard())
        for pool in (self.engine.pool, *(one.sync_engine.pool for one in self.async_engines.values())):
            if isinstance(pool, QueuePool) and pool.checkedout():
                self.journal.note(wrong=f"{pool.checkedout()} connections were not given back")
        for driver, engine in self.async_engines.items():
            await self.async_schedulers[driver].close()
            await engine.dispose()
        self.scheduler.close()
        self.engine.dispose()

    async def lane(self) -> None:
        """One call after the other, each until it is known what came of it."""
        while time.monotonic() < self.orders.until:
            if self.chance.random() < _READS:
                await self.look()
            self.numbers += 1
            chooser = self.choosers[self.chance.random() < _OF_THE_OTHER]
            call = await self.with_its_token(chooser.call(f"{self.orders.name}.{self.numbers}"))
            if call is None:
                continue
            how = self.chance.choice(HOWS)
            for tried in range(_TRIES):
                answer = await self.one_try(call, how)
                if answer.said in _GONE:  # who finds nobody does not ask at once for something else
                    await asyncio.sleep(0.1)
                if answer.end != "unknown" and not (answer.end == "told" and self.chance.random() < _ONCE_MORE):
                    break
                await asyncio.sleep(0.05 * 2**tried)
                how = self.chance.choice(OWN)

    async def hoard(self) -> None:
        """Now and then, keep all connections of the pool for threads for longer than anybody waits for one."""
        while (at := time.monotonic() + self.chance.uniform(1, 15)) < self.orders.until - _HOARDS:
            await asyncio.sleep(at - time.monotonic())
            began = time.monotonic()
            with suppress(SQLAlchemyError), ExitStack() as held:  # somebody else may have them, or the server be away
                for _ in range(_LANES // 2):
                    held.enter_context(await asyncio.to_thread(self.engine.connect))
                await asyncio.sleep(_HOARDS)
                self.journal.note(exhausted=[began, time.monotonic()], of=self.orders.name)

    async def with_its_token(self, call: Call) -> Call | None:
        """The call, with the token of the link if it is made by one; `None` where the booking has no link any more."""
        if call.method not in BY_LINK:
            return call
        try:
            tenant = await asyncio.to_thread(self.scheduler.tenant, call.tenant)
            until = self.orders.first + timedelta(days=365)
            token = await asyncio.to_thread(tenant.manage_token, call.arguments["booking_id"], expires=until)
        except Exception as error:  # noqa: BLE001 - whatever reaches a caller
            answer = judged(error)
            if answer.end == "wrong":
                self.journal.note(wrong=f"manage_token: {answer.said}")
            return None
        return call._replace(arguments={**call.arguments, "token": token})

    async def look(self) -> None:
        """Read something, or tidy up; what comes of it is not written down unless it is wrong."""
        chooser = self.chance.choice(self.choosers)
        start = self.chance.choice(self.starts())
        event_type = self.chance.choice(EVENT_TYPES)
        days = {"start": start, "end": start + timedelta(days=2)}
        host = self.chance.choice(HOSTS)
        looks: list[tuple[str, Callable[[Any], Any]]] = [
            ("find_slots", lambda tenant: tenant.find_slots(event_type, **days)),
            ("explain", lambda tenant: tenant.explain(event_type, start=start)),
            ("bookings", lambda tenant: tenant.bookings(start=start, limit=20)),
            ("holds", lambda tenant: tenant.holds()),
            ("details", lambda tenant: tenant.details()),
            ("hosts", lambda tenant: tenant.hosts()),
            ("host", lambda tenant: tenant.host(host)),
            ("event_types", lambda tenant: tenant.event_types()),
            ("event_type", lambda tenant: tenant.event_type(event_type)),
            ("blocked_periods", lambda tenant: tenant.blocked_periods()),
            ("busy", lambda tenant: tenant.busy(host, **days)),
            ("sweep", lambda tenant: tenant.sweep()),
        ]
        if known := chooser.board.pick(self.chance, lambda one: one.status != "held" and one.who is not None):
            looks += [
                ("booking", lambda tenant: tenant.booking(known.id)),
                ("history", lambda tenant: tenant.history(known.id)),
                ("reminders", lambda tenant: tenant.reminders(known.id)),
                ("upcoming", lambda tenant: tenant.for_attendee(reference=known.who).upcoming()),
                ("past", lambda tenant: tenant.for_attendee(reference=known.who).past()),
            ]
        if held := chooser.board.pick(self.chance, lambda one: one.status == "held"):
            looks.append(("hold", lambda tenant: tenant.hold(held.id)))
        method, look = self.chance.choice(looks)
        self.journal.note(looks=method)
        try:
            if self.chance.random() < 0.5:  # noqa: PLR2004 - one of two
                tenant = await asyncio.to_thread(self.scheduler.tenant, chooser.tenant)
                seen = await asyncio.to_thread(look, tenant)
            else:
                theirs = await self.async_schedulers[self.chance.choice(["psycopg", "asyncpg"])].tenant(chooser.tenant)
                seen = await look(theirs)
            if others := [one for one in _people(seen) if one in self.orders.boards and one != chooser.tenant]:
                self.journal.note(wrong=f"{method}: {chooser.tenant} sees what is of {others[0]}")
        except Exception as error:  # noqa: BLE001 - whatever reaches a caller
            answer = judged(error)
            is_a_booking_now = method == "hold" and isinstance(error, BookingNotFound)
            if answer.end == "wrong" and not is_a_booking_now:
                self.journal.note(wrong=f"{method}: {answer.said}")

    async def one_try(self, call: Call, how: How) -> Answer:
        """Make a call, and write down what came of it; now and then its task is cancelled meanwhile."""
        self.journal.begin(str(how), *call)
        if how.face in {"sync", "session"}:
            answer = await asyncio.to_thread(self.ask, call, how)
        else:
            task = asyncio.create_task(self.ask_async(call, how))
            if self.chance.random() < 0.03:  # noqa: PLR2004 - seldom
                await asyncio.sleep(self.chance.random() * 0.02)
                if task.cancel():
                    self.journal.note(cancelled=call.key)
            try:
                answer = await task
            except asyncio.CancelledError:
                answer = Answer("unknown", "cancelled")
        self.journal.end(call.key, *answer)
        return answer

    def ask(self, call: Call, how: How) -> Answer:
        """On the face for threads."""
        try:
            tenant = self.scheduler.tenant(call.tenant)
            if how.level is None:
                return self.told(call, call.of(tenant)(**call.spelled()))
        except Exception as error:  # noqa: BLE001 - whatever reaches a caller
            return judged(error, method=call.method)
        committing = False
        engine = self.engine.execution_options(isolation_level=how.level)
        try:
            with Session(engine) if how.face == "session" else engine.connect() as within:
                try:
                    made = call.of(tenant)(**call.spelled(), within=within)
                except Exception as error:  # noqa: BLE001 - as above
                    return judged(error, how.level, method=call.method)
                time.sleep(self.own_work())
                if self.thinks_better():
                    within.rollback()
                    return Answer("undone")
                committing = True
                return self.finished(call, within.commit, made)
        except Exception as error:  # noqa: BLE001 - of the application's own transaction
            return _own(error, committing=committing)

    async def ask_async(self, call: Call, how: How) -> Answer:
        """On the face for asyncio."""
        try:
            tenant = await self.async_schedulers[how.face].tenant(call.tenant)
            if how.level is None:
                return self.told(call, await call.of(tenant)(**call.spelled()))
        except Exception as error:  # noqa: BLE001 - as above
            return judged(error, method=call.method)
        committing = False
        engine: AsyncEngine = self.async_engines[how.face].execution_options(isolation_level=how.level)
        try:
            async with engine.connect() as within:
                try:
                    made = await call.of(tenant)(**call.spelled(), within=within)
                except Exception as error:  # noqa: BLE001 - as above
                    return judged(error, how.level, method=call.method)
                await asyncio.sleep(self.own_work())
                if self.thinks_better():
                    await within.rollback()
                    return Answer("undone")
                committing = True
                await within.commit()
                return self.told(call, made)
        except Exception as error:  # noqa: BLE001 - as above
            return _own(error, committing=committing)

    def finished(self, call: Call, commit: Callable[[], None], made: object) -> Answer:
        """Commit, and then say so; in this order."""
        commit()
        return self.told(call, made)

    def own_work(self) -> float:
        """For how many seconds an application does something else in its transaction, while others wait for it."""
        return self.chance.choice([0, 0, 0, 0.01, 0.03])

    def thinks_better(self) -> bool:
        """Whether an application that has joined takes it all back."""
        return self.chance.random() < 0.2  # noqa: PLR2004 - now and then

    def told(self, call: Call, made: object) -> Answer:
        """What a caller was told, and is shown to the others."""
        for one in _bookings(made):
            if self.chance.random() < _SHOWN:
                series = one.series_id if isinstance(one, Booking) else None
                who = one.attendee.reference if one.attendee else None
                known = Known(one.id, one.status.value, one.event_type, one.hosts, series, who)
                self.orders.boards[call.tenant].put(known)
        if isinstance(made, BlockedPeriod) and made.id is not None:
            of_it = next(one for one in self.choosers if one.tenant == call.tenant)
            if call.key not in of_it.ever_blocked:  # who asks once more is told once more
                of_it.blocked.append((call.key, made.id))
            of_it.ever_blocked.add(call.key)
        return Answer("told", "", told_of(made))


def told_of(made: object) -> list[Told]:
    """What a caller knows by what a method gave: of each booking and hold."""
    return [Told(one.id, one.version, one.status.value, written(one.start), one.hosts) for one in _bookings(made)]


def _people(seen: object) -> list[str]:
    """The tenants of whom people are that somebody sees."""
    every: Any = seen if isinstance(seen, list | Page) else [seen]
    who = [one.attendee.reference for one in every if isinstance(one, Booking) and one.attendee]
    return [one.split()[1] for one in who if one]


def _bookings(made: object) -> list[Booking | Hold]:
    return [one for one in (made if isinstance(made, list) else [made]) if isinstance(one, Booking | Hold)]


_EXPECTED: Final = (
    SlotUnavailable,
    HoldExpired,
    InvalidToken,
    InvalidTransition,
    PolicyViolation,
    RateLimited,
    LockTimeout,
    TransactionConflict,
    StoreUnavailable,
)
"""What a caller has to reckon with: others are the caller's mistakes, which workers do not make."""


def judged(error: Exception, level: str | None = None, *, method: str = "") -> Answer:
    """What an error of a call says of it; any that is not to be reckoned with is wrong."""
    if isinstance(error, BlockedPeriodNotFound) and method == "block":  # asked again, when it was done and undone
        return Answer("told", error.code)
    if isinstance(error, StoreUnavailable) and error.may_have_happened:
        return Answer("unknown", error.code)
    expected = isinstance(error, _EXPECTED)
    # Somebody else has given it to another host meanwhile; or the snapshot is older than what others have shown since.
    expected |= isinstance(error, InvalidInput) and error.field in {"host", "instead_of"}
    expected |= isinstance(error, BookingNotFound) and level in _LEVELS[1:]
    if expected and isinstance(error, NxschedError):
        return Answer("undone" if level else "refused", error.code)
    return Answer("wrong", f"{type(error).__name__}: {error}")


def _own(error: Exception, *, committing: bool) -> Answer:
    """An error of the application's own transaction: at its COMMIT nobody knows, unless the server says so."""
    raw = type(error).__module__.startswith("asyncpg.")  # of a connection that ended while it was opened
    if not (raw or isinstance(error, SQLAlchemyError | OSError)):
        return Answer("wrong", f"{type(error).__name__}: {error}")
    state = getattr(error.orig, "sqlstate", None) if isinstance(error, DBAPIError) else None
    known = not committing or (state is not None and state[:2] in {"40", "23"})
    return Answer("undone" if known else "unknown", f"{type(error).__name__} {state or ''}".strip())


def _set_clocks(seconds: float) -> None:
    """Have `time.time` tell this process another time than the others; what `datetime.now` tells stays as it is."""
    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() + seconds
    time.time_ns = lambda: now_ns() + int(seconds * 1e9)


def work(orders: Orders) -> None:
    """Be a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # meant for who has started us
    logging.getLogger("nxsched").addHandler(logging.NullHandler())  # what goes wrong, goes wrong on purpose
    worker = Worker(orders)
    if orders.sabotage is not None:
        orders.sabotage(worker)
    asyncio.run(worker.live())
