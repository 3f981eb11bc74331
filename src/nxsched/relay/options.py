"""How a relay works, and what it has in hand: the same for threads and for event loops."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from inspect import isawaitable, iscoroutine, iscoroutinefunction
from typing import Any, Final, cast

from tenacity import (
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    stop_any,
    stop_when_event_set,
    wait_random_exponential,
)

from nxsched.domain import checks
from nxsched.domain.outbox import Backoff, OutboxEvent, OutboxStatus, Relayed, span
from nxsched.errors import (
    InvalidInput,
    LockTimeout,
    RetryLater,
    StoreUnavailable,
    TransactionConflict,
    Undeliverable,
)
from nxsched.service.ids import new_id
from nxsched.service.relaying import DELIVERED, Lease, Told, judged, untouched
from nxsched.service.reminding import Look
from nxsched.store.queue import Queue, Queued, Settled

LOG: Final = logging.getLogger("nxsched.relay")

MOST_BATCH: Final = 1_000
"""Events of one lease."""

SOON: Final = 0.06
"""Seconds after which a relay that was woken, or had work, looks again: who commits rings at most every 50 ms."""

SETTLED_EVERY: Final = 1.0
"""Seconds after which what was delivered is written down, though others of the batch are not."""

LATER: Final = timedelta(seconds=5)
"""After so long a relay looks again at what it could not look at."""

PASSING: Final = (StoreUnavailable, LockTimeout, TransactionConflict)
"""Errors that a relay outlasts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayReport:
    """For an application's metrics: what a relay has done since it began, and how the outbox stands."""

    done: Relayed
    status: OutboxStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a relay works. Raises `InvalidInput`."""

    deliver: Callable[[Any], Any]
    batch: int
    concurrency: int
    lease: timedelta
    poll: timedelta
    backoff: Backoff
    grace: timedelta
    on_report: Callable[[RelayReport], None] | None
    report_every: timedelta

    def __post_init__(self) -> None:
        """Check the values."""
        checks.whole("batch", self.batch, least=1, most=MOST_BATCH)
        checks.whole("concurrency", self.concurrency, least=1, most=MOST_BATCH)
        checks.kind("backoff", self.backoff, Backoff)
        span("poll", self.poll)
        span("report_every", self.report_every)
        span("grace", self.grace)
        if span("lease", self.lease) < timedelta(seconds=1):
            raise InvalidInput(field="lease", reason=f"must be a second or more, not {checks.shown(self.lease)}")
        for name, given in (("deliver", self.deliver), ("on_report", self.on_report)):
            if given is not None and not callable(given):
                raise InvalidInput(field=name, reason=f"must be a function, not {checks.shown(given)}")
        if iscoroutinefunction(self.on_report):
            raise InvalidInput(field="on_report", reason="must not be `async def`: nobody awaits it")
        timeout = getattr(self.deliver, "timeout", None)
        if isinstance(timeout, timedelta) and timeout * 2 > self.lease:
            reason = f"must be at least twice as long as an attempt may take, which is {timeout}"
            raise InvalidInput(field="lease", reason=reason)
        if self.concurrency > self.batch:
            reason = f"must be at least concurrency, which is {self.concurrency}: no more are there to be delivered"
            raise InvalidInput(field="batch", reason=reason)
        if self.deliver is None:
            raise InvalidInput(field="deliver", reason="is required: what is an event to be given to?")

    def check_deliver(self, *, for_asyncio: bool) -> None:
        """Refuse a function of the other face: it would deliver nothing, or hold up the loop."""
        is_async = iscoroutinefunction(self.deliver) or iscoroutinefunction(getattr(self.deliver, "__call__", None))  # noqa: B004 - an object may have an async one
        if is_async and not for_asyncio:
            raise InvalidInput(field="deliver", reason="is `async def`: AsyncScheduler has a relay for it")
        if for_asyncio and not is_async:
            raise InvalidInput(
                field="deliver", reason="must be `async def`; what blocks goes to a thread: await asyncio.to_thread(…)"
            )

    def pause(self, *, busy: bool) -> float:
        """Seconds until a relay looks again if nobody wakes it. Several do not all look at one moment."""
        return SOON if busy else self.poll.total_seconds() * random.uniform(0.75, 1.25)  # noqa: S311 - no secret

    @property
    def queues(self) -> Sequence[Queue[Any]]:
        """What is delivered: events and reminders, unless `deliver` is for something else."""
        queue = getattr(self.deliver, "queue", None)
        return [queue] if isinstance(queue, Queue) else DELIVERED

    def wants(self, queue: Queue[Any], before: datetime | None) -> Lease[Any]:
        """A lease under a new name; `outbox show` says who has an event."""
        owner = f"{socket.gethostname()}:{os.getpid()}:{new_id()}"
        return Lease(queue=queue, owner=owner, lasts=self.lease, most=self.batch, before=before)


class Batch:
    """What is leased, and what became of it; the lease is counted from before it was asked for."""

    def __init__(self, options: Options, wants: Lease[Any], items: Sequence[Queued], since: float) -> None:
        self._options = options
        self._wants = wants
        self.items = items
        self._since = since
        self._open = {one.id: one for one in items}
        self._told: list[Settled] = []
        self._failing: set[str] = set()
        self._lock = threading.Lock()  # several threads tell what became of events
        self._settled_at = time.monotonic()

    @property
    def left(self) -> float:
        """Seconds until the lease ends."""
        return self._since + self._options.lease.total_seconds() - time.monotonic()

    def is_for_others(self, item: Queued) -> bool:
        """Whether it had better be leased anew: its endpoint has just failed, or half of the lease is over.

        Of the latter the first one is begun in any case, or there would be no end of it.
        """
        if self._fails_with(item) in self._failing:
            return True
        return item is not self.items[0] and self.left < self._options.lease.total_seconds() / 2

    def tell(self, item: Queued, error: BaseException | None, answer: object = None) -> None:
        """An attempt was made; `error` is what it ended with, `answer` what the receiver said where that is kept."""
        said = getattr(error, "answer", None) if error is not None else answer
        kept = said if self._wants.queue.keeps_answers and isinstance(said, dict) else None
        tried = isinstance(said, dict) or not isinstance(error, Undeliverable)
        if error is not None and tried and (others := self._fails_with(item)):
            self._failing.add(others)
        one = judged(item, error, kept, self._options.backoff)
        if one.outcome != "delivered":
            self._log(one, error)
        self._keep(one)

    def _fails_with(self, item: Queued) -> str | None:
        """What it has in common with those that fail where it does."""
        same = self._wants.queue.fails_with
        return same(item) if same else None

    def to_look_at(self, item: Queued) -> Look | None:
        """What has to be looked at before it is delivered."""
        if not (self._wants.queue.look_first and isinstance(item, OutboxEvent)):
            return None
        return Look(event=item, grace=self._options.grace)

    def skip(self, item: Queued, reason: str) -> None:
        """It is not to be delivered any more."""
        LOG.info("%s is skipped: %s", self._named(item), reason)
        self._keep(Settled(item=item, outcome="skipped", error=reason))

    def put_off(self, item: Queued, error: Exception) -> None:
        """It could not be looked at, since somebody is just changing its booking: others come first."""
        LOG.warning("%s is looked at again in %.0f s: %s", self._named(item), LATER.total_seconds(), error)
        self._keep(Settled(item=item, outcome="later", wait=LATER))

    def bury(self, item: Queued) -> bool:
        """Whether something has had its attempts and never an answer: each time the relay died with it."""
        if item.attempts <= self._options.backoff.attempts:
            return False
        error = f"no answer to the last of {item.attempts - 1} attempts: the relay died, or lost its lease"
        if item.error:
            error += f"; before that: {item.error}"
        LOG.error("%s is dead: %s", self._named(item), error)
        self._keep(Settled(item=item, outcome="dead", error=error))
        return True

    def _named(self, item: Queued) -> str:
        return f"{self._wants.queue.noun} {item.id} ({item.kind} of {item.tenant})"

    def _keep(self, one: Settled) -> None:
        with self._lock:
            self._open.pop(one.item.id)
            self._told.append(one)

    def due(self) -> Told | None:
        """What is to be written down by now, if there is something."""
        return self.rest() if time.monotonic() - self._settled_at > SETTLED_EVERY else None

    def rest(self, *, last: bool = False) -> Told | None:
        """What has become of events since the last time; with `last`, that nothing has of the others."""
        with self._lock:
            told, self._told = self._told, []
            if last:
                told += map(untouched, self._open.values())
                self._open = {}
        self._settled_at = time.monotonic()
        return Told(queue=self._wants.queue, owner=self._wants.owner, done=told) if told else None

    def take_back(self, told: Told) -> None:
        """It may not have been written down: a delivery may be told twice."""
        with self._lock:
            self._told = [*told.done, *self._told]

    def retrying(self, stop: threading.Event | asyncio.Event | None) -> dict[str, Any]:
        """How to go on trying to write it down: as long as nobody else may have the events, and nobody says `stop`.

        Without an event it is tried once: somebody wants to end.
        """
        left = stop_after_delay(max(self.left, 0))
        return {
            "retry": retry_if_exception_type(PASSING),
            "stop": stop_after_attempt(1)
            if stop is None
            else stop_any(left, stop_when_event_set(cast("threading.Event", stop))),
            "wait": wait_random_exponential(multiplier=0.05, max=2),
            "reraise": True,
        }

    def _log(self, one: Settled, error: BaseException | None) -> None:
        item, of = one.item, self._options.backoff.attempts
        what = self._named(item)
        if one.outcome == "dead":
            meant = isinstance(error, Undeliverable | RetryLater)  # what was not meant had better be found
            LOG.error(
                "%s is dead after attempt %d: %s", what, item.attempts, one.error, exc_info=None if meant else error
            )
        else:
            wait = one.wait.total_seconds()
            LOG.warning("%s failed in attempt %d of %d, again in %.0f s: %s", what, item.attempts, of, wait, one.error)


def refuse_coroutine(found: object) -> None:
    """Raise `InvalidInput` for what nobody would await: nothing has been delivered."""
    if isawaitable(found):
        if iscoroutine(found):
            found.close()
        raise InvalidInput(field="deliver", reason="gave a coroutine, which nobody awaits: AsyncScheduler has a relay")


def counted(told: Told, ours: set[str]) -> Relayed:
    """What was written down, and what was not ours any more."""
    kept = [one.outcome for one in told.done if one.item.id in ours]
    lost = [one.item for one in told.done if one.item.id not in ours and one.outcome == "delivered"]
    for item in lost:
        noun = told.queue.noun
        LOG.warning("%s %s was delivered after its lease had ended: somebody else may have it too", noun, item.id)
    return Relayed(
        delivered=kept.count("delivered"), failed=kept.count("failed"), dead=kept.count("dead"), lost=len(lost)
    )


@dataclass(slots=True)
class Reporter:
    """Tells an application's metrics, from time to time, what a relay has done."""

    options: Options
    done: Relayed = field(default_factory=Relayed)
    next: float = 0.0

    @property
    def is_wanted(self) -> bool:
        """Whether somebody wants to be told."""
        return self.options.on_report is not None

    @property
    def is_due(self) -> bool:
        """Whether it is time to look how the outbox stands."""
        return self.is_wanted and time.monotonic() >= self.next

    def report(self, status: OutboxStatus) -> None:
        """Tell it. What is wrong with the metrics must not stop deliveries."""
        self.next = time.monotonic() + self.options.report_every.total_seconds()
        if self.options.on_report is None:
            return
        try:
            self.options.on_report(RelayReport(done=self.done, status=status))
        except Exception:
            LOG.exception("on_report failed")
