"""A relay for threads: it delivers what is due, one event after the other or several at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

from tenacity import Retrying

from nxsched.domain.outbox import Relayed
from nxsched.relay.ear import Ear
from nxsched.relay.options import LOG, PASSING, SETTLED_EVERY, SOON, Batch, Options, Reporter, counted, refuse_coroutine
from nxsched.service import relaying, reminding
from nxsched.service.relaying import Told
from nxsched.service.unit import Call, Units
from nxsched.store.queue import Queue, Queued


class Relay:
    """Delivers the events of all tenants: `scheduler.relay(deliver)` makes one.

    Events of one booking come in their order, each when the one before it is delivered or dead; those of different
    bookings come in any order. Each is delivered at least once: who dies after a delivery and before it is written down
    has it delivered again. Several relays, in threads or processes, share the work.
    """

    def __init__(self, units: Units, options: Options) -> None:
        options.check_deliver(for_asyncio=False)
        self._units = units
        self._options = options
        self._looked = False

    def run_once(self, stop: threading.Event | None = None) -> Relayed:
        """Deliver what is due when it begins, and return: for a scheduled task, or a test.

        What fails is tried again by a later run. Raises `StoreUnavailable` where the database is away, and
        `InvalidInput` where the login sees one tenant at a time; never what `deliver` raises.
        """
        reporter = Reporter(self._options)
        with self._workers() as pool:
            self._drain(stop or threading.Event(), pool, reporter)
        self._report(reporter, last=True)
        return reporter.done

    def run(self, stop: threading.Event | None = None) -> Relayed:
        """Deliver until `stop` is set, and give what was done; a database that is away is waited for.

        What is being delivered when `stop` is set is finished, and nothing else is begun. Raises `InvalidInput` where
        the login sees one tenant at a time.
        """
        stop = stop or threading.Event()
        reporter = Reporter(self._options)
        with Ear(self._units.engine) as ear, self._workers() as pool:
            woken = False
            while not stop.is_set():
                before, looked = reporter.done, time.monotonic()
                try:
                    self._drain(stop, pool, reporter)
                    self._report(reporter)
                except PASSING as error:
                    LOG.warning("the relay goes on when the database is there again: %s", error)
                except Exception:
                    if not self._looked:  # it has never worked
                        raise
                    LOG.exception("the relay goes on, whatever this is")
                woken = ear.wait(self._options.pause(busy=woken or reporter.done != before), stop)
                if woken and (rest := SOON - (time.monotonic() - looked)) > 0:  # many ring; one look is enough
                    stop.wait(rest)
        with suppress(*PASSING):
            self._report(reporter, last=True)
        return reporter.done

    def _drain(self, stop: threading.Event, pool: ThreadPoolExecutor | None, reporter: Reporter) -> None:
        """Deliver batch after batch, of each queue in turn, until nothing is left that was due at the beginning."""
        if not self._looked:
            self._units.run(relaying.see_all, None, _NO_TENANT)
            self._looked = True
        left, before = [*self._options.queues], None
        while left and not stop.is_set():
            queue = left.pop(0)
            now, batch = self._take(queue, before)
            before = before or now
            if batch.items:
                left.append(queue)
                self._deliver(batch, stop, pool, reporter)
                self._report(reporter)

    def _report(self, reporter: Reporter, *, last: bool = False) -> None:
        """Look how the outbox stands, and tell it, if it is time to."""
        if reporter.is_due or (last and reporter.is_wanted):
            reporter.report(self._units.run(relaying.stands, self._options.queues, _NO_TENANT))

    def _take(self, queue: Queue[Any], before: datetime | None) -> tuple[datetime, Batch]:
        wants, since = self._options.wants(queue, before), time.monotonic()
        now, items = self._units.run(relaying.take, wants, _NO_TENANT)
        return now, Batch(self._options, wants, items, since)

    def _deliver(
        self, batch: Batch, stop: threading.Event, pool: ThreadPoolExecutor | None, reporter: Reporter
    ) -> None:
        """Deliver a batch. What was not begun goes back, whatever happens."""

        def attempt(item: Queued) -> None:
            if not stop.is_set() and not batch.bury(item) and not batch.is_for_others(item):
                self._attempt(batch, item)

        try:
            for _ in _each(attempt, batch, pool):
                if told := batch.due():
                    reporter.done += self._settle(batch, told, stop)
            reporter.done += self._settle(batch, batch.rest(last=True), stop)
        except BaseException:
            with suppress(*PASSING):  # the other error says more
                reporter.done += self._settle(batch, batch.rest(last=True), None)
            raise

    def _attempt(self, batch: Batch, item: Queued) -> None:
        try:
            if look := batch.to_look_at(item):
                try:
                    found = self._units.run(reminding.look, look, Call(tenant=item.tenant))
                except PASSING as error:  # nothing was tried
                    batch.put_off(item, error)
                    return
                if isinstance(found, str):
                    batch.skip(item, found)
                    return
                item = found
            answer = self._options.deliver(item)
            refuse_coroutine(answer)
        except Exception as error:  # noqa: BLE001 - whatever an application raises means that it was not delivered
            batch.tell(item, error)
        except BaseException as error:  # we are told to end
            batch.tell(item, error)
            raise
        else:
            batch.tell(item, None, answer)

    def _settle(self, batch: Batch, told: Told | None, stop: threading.Event | None) -> Relayed:
        """Write down what became of events, while nobody else may have them."""
        if told is None:
            return Relayed()
        try:
            ours = Retrying(**batch.retrying(stop))(self._units.run, relaying.settle, told, _NO_TENANT)
        except BaseException:
            batch.take_back(told)
            raise
        return counted(told, ours)

    @contextmanager
    def _workers(self) -> Iterator[ThreadPoolExecutor | None]:
        """Threads that deliver, where there is to be more than one."""
        if self._options.concurrency == 1:
            yield None
            return
        with ThreadPoolExecutor(self._options.concurrency, thread_name_prefix="nxsched-relay") as pool:
            yield pool


def _each(attempt: Callable[[Queued], None], batch: Batch, pool: ThreadPoolExecutor | None) -> Iterator[None]:
    """Make an attempt with each event, several at a time where there are threads for it."""
    if pool is None:
        yield from map(attempt, batch.items)
        return
    begun = waiting = {pool.submit(attempt, item) for item in batch.items}
    try:
        while waiting:  # what hangs is not to keep the others from being written down
            done, waiting = wait(waiting, timeout=SETTLED_EVERY, return_when=FIRST_COMPLETED)
            for one in done:
                one.result()
            yield
    finally:  # where this is interrupted, nobody is to deliver what has been given back
        for one in begun:
            one.cancel()
        wait(begun)


_NO_TENANT = Call(tenant="")
"""Of what concerns all tenants."""
