"""A relay that is a process of its own, dies at any statement, and whose receiver fails; and what is proved of it."""

from __future__ import annotations

import logging
import os
import random
import signal
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, event
from sqlalchemy.pool import NullPool

from nxsched import Backoff, OutboxEvent, Scheduler
from nxsched.relay.options import Batch
from nxsched.relay.relay import Relay
from nxsched.service.relaying import Told

LEASE = timedelta(seconds=1)
NEVER_DEAD = Backoff(attempts=100, first=timedelta(milliseconds=50), factor=1.5, longest=timedelta(milliseconds=300))


@dataclass(frozen=True)
class Delivery:
    """A line of the receiver's book."""

    id: str
    booking: str
    version: int


def read(book: Path) -> list[Delivery]:
    """What was delivered, in the order in which the receiver took it."""
    lines = (line.split() for line in book.read_text().splitlines())
    return [Delivery(id_, booking, int(version)) for id_, booking, version in lines]


def relay(url: str, book: str, seed: int, dies: float, fails: float, *, acknowledges_first: bool = False) -> None:
    """Deliver into the book until it dies; each statement, and each delivery, may be its last."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    engine = create_engine(url, poolclass=NullPool)

    def perhaps_die(*_: Any) -> None:
        if chance.random() < dies:
            os.kill(os.getpid(), signal.SIGKILL)

    for moment in ("before_cursor_execute", "commit"):
        event.listen(engine, moment, perhaps_die)
    taken = os.open(book, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def deliver(one: OutboxEvent) -> None:
        perhaps_die()
        if chance.random() < fails:
            raise ConnectionError("the receiver is away")
        os.write(taken, f"{one.id} {one.booking_id} {one.version}\n".encode())
        perhaps_die()

    logging.disable(logging.ERROR)  # what fails here is meant to
    if acknowledges_first:
        _acknowledge_first()
    with Scheduler(engine, worker_url=engine) as scheduler:
        relay = scheduler.relay(deliver, batch=5, lease=LEASE, poll=timedelta(milliseconds=20), backoff=NEVER_DEAD)
        relay.run()


def _acknowledge_first() -> None:
    """What must not be: an event is written down as delivered, and then delivered."""
    attempt = Relay._attempt  # noqa: SLF001 - sabotage

    def backwards(self: Relay, batch: Batch, one: OutboxEvent) -> None:
        batch.tell(one, None)
        told = batch.rest()
        assert isinstance(told, Told)
        self._settle(batch, told, None)
        batch._open[one.id] = one  # noqa: SLF001 - sabotage
        attempt(self, batch, one)

    Relay._attempt = backwards  # type: ignore[method-assign, assignment]  # noqa: SLF001 - sabotage


def violations(delivered: Iterable[Delivery], events: Iterable[Delivery]) -> list[str]:
    """What the receiver can complain of: lost, invented, out of order."""
    found: list[str] = []
    there = {one.id: one for one in events}
    latest: dict[str, int] = defaultdict(int)
    seen = set()
    for one in delivered:
        if there.get(one.id) != one:
            found.append(f"invented: {one}")
        if one.version > latest[one.booking] + 1:
            found.append(f"version {one.version} of {one.booking} came after {latest[one.booking]}")
        latest[one.booking] = max(latest[one.booking], one.version)
        seen.add(one.id)
    return found + [f"lost: {one}" for one in there.values() if one.id not in seen]
