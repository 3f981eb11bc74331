"""Relays under fire: processes that bring events, reminders and posts to a receiver, who fails now and then.

The receiver is a journal: what stands in it was received. A relay may die at any statement, and after it has delivered.
"""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from sqlalchemy import create_engine

from nxsched.async_scheduler import AsyncScheduler
from nxsched.domain.outbox import Backoff, OutboxEvent
from nxsched.domain.webhooks import Delivery
from nxsched.errors import Undeliverable
from nxsched.scheduler import Scheduler
from nxsched.store.async_connect import create_async_engine
from nxsched.store.webhooks import DELIVERIES
from nxsched.torture.evidence import Received, is_poison
from nxsched.torture.journal import Journal, written
from nxsched.torture.mortal import mortal

LEASE: Final = timedelta(seconds=2)

BACKOFF: Final = Backoff(attempts=100, first=timedelta(milliseconds=50), factor=1.5, longest=timedelta(seconds=4))
"""Nothing dies of being tried too often."""

_FAILS: Final = 0.03
_FORGETS: Final = 0.02
"""How often the receiver fails without having taken what it was given, and how often having taken it."""

_SLOW: Final = 0.02
"""Seconds that it takes at most."""

_LOCK_TIMEOUT: Final = timedelta(seconds=1)
"""Shorter than the tormentor holds locks."""

TAKES, FAILS, HANGS = range(3)
"""What the receiver does: take what it is given, fail at once, or after a second."""


@dataclass(frozen=True, kw_only=True)
class RelayOrders:
    """What a process begins with: `mode` says what the receiver does, `dies` is as that of workers."""

    name: str
    seed: int
    face: str
    url: str
    journal: Path
    mode: Any
    dies: Any
    ends: Any
    sabotage: Callable[[], None] | None = None


@dataclass
class Receiver:
    """Where it all goes."""

    orders: RelayOrders
    chance: random.Random = field(init=False)
    journal: Journal = field(init=False)

    def __post_init__(self) -> None:
        """Open the journal."""
        self.chance = random.Random(self.orders.seed)  # noqa: S311 - to be played again
        self.journal = Journal(self.orders.journal)

    def waits(self) -> float:
        """Seconds until it takes something."""
        return 1.0 if self.orders.mode.value == HANGS else self.chance.random() * _SLOW

    def take(self, one: OutboxEvent | Delivery) -> None:
        """Write it down, or fail."""
        if self.orders.mode.value != TAKES or self.chance.random() < _FAILS:
            raise ConnectionError("the receiver is away")
        if is_poison(one.id):
            raise Undeliverable("nobody wants it")
        got = Received(
            id=one.id,
            of=one.webhook_id if isinstance(one, Delivery) else None,
            tenant=one.tenant,
            booking=one.booking_id,
            version=one.version,
            kind=one.kind,
            told="booking" in one.payload,
            received_at=time.monotonic(),
            read_at=written(one.read_at),
        )
        self.journal.note(got=got)
        if self.chance.random() < _FORGETS:
            raise ConnectionError("the receiver has taken it, and its answer is lost")


def _posts(deliver: Any) -> Any:  # noqa: ANN401 - a function of either face
    """The same for what goes to endpoints."""
    found: Any = partial(deliver)
    found.queue = DELIVERIES
    return found


_OPTIONS: Final[dict[str, Any]] = {
    "lease": LEASE,
    "backoff": BACKOFF,
    "batch": 50,
    "concurrency": 4,
    "poll": timedelta(milliseconds=200),
}


def relay(orders: RelayOrders) -> None:
    """Be a relay of events and reminders, and one of posts, until the end is told."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # meant for who has started us
    logging.getLogger("nxsched").addHandler(logging.NullHandler())  # what goes wrong, goes wrong on purpose
    if orders.sabotage is not None:
        orders.sabotage()
    receiver = Receiver(orders)
    if orders.face == "asyncio":
        asyncio.run(_for_tasks(orders, receiver))
    else:
        _for_threads(orders, receiver)


def _for_threads(orders: RelayOrders, receiver: Receiver) -> None:
    stop = threading.Event()
    engine = mortal(create_engine(orders.url), orders.dies)
    with Scheduler(engine, worker_url=engine, lock_timeout=_LOCK_TIMEOUT) as scheduler:

        def deliver(one: OutboxEvent) -> None:
            time.sleep(receiver.waits())
            receiver.take(one)

        with ThreadPoolExecutor(2) as pool:
            at_work = [pool.submit(scheduler.relay(one, **_OPTIONS).run, stop) for one in (deliver, _posts(deliver))]
            while not (orders.ends.value or any(one.done() for one in at_work)):
                time.sleep(0.05)
            stop.set()
            for one in at_work:
                one.result()
    engine.dispose()


async def _for_tasks(orders: RelayOrders, receiver: Receiver) -> None:
    stop = asyncio.Event()
    engine = create_async_engine(orders.url.replace("+psycopg", "+asyncpg", 1).replace("sslmode=", "ssl=", 1))
    mortal(engine.sync_engine, orders.dies)
    async with (
        AsyncScheduler(engine, worker_url=engine, lock_timeout=_LOCK_TIMEOUT) as scheduler,
        asyncio.TaskGroup() as group,
    ):

        async def deliver(one: OutboxEvent) -> None:
            await asyncio.sleep(receiver.waits())
            receiver.take(one)

        for one in (deliver, _posts(deliver)):
            group.create_task(scheduler.relay(one, **_OPTIONS).run(stop))
        while not orders.ends.value:  # noqa: ASYNC110 - another process says so
            await asyncio.sleep(0.05)
        stop.set()
    await engine.dispose()
