"""A relay for asyncio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from datetime import datetime
from typing import Any

from tenacity import AsyncRetrying

from nxsched.domain.outbox import Relayed
from nxsched.relay.async_ear import AsyncEar, at_most
from nxsched.relay.options import LOG, PASSING, SETTLED_EVERY, SOON, Batch, Options, Reporter, counted
from nxsched.service import relaying, reminding
from nxsched.service.async_unit import AsyncUnits
from nxsched.service.relaying import Told
from nxsched.service.unit import Call
from nxsched.store.queue import Queue, Queued


class AsyncRelay:
    """Delivers the events of all tenants, with asyncio: `scheduler.relay(deliver)` makes one.

    Events of one booking come in their order, each when the one before it is delivered or dead; those of different
    bookings come in any order. Each is delivered at least once: who dies after a delivery and before it is written down
    has it delivered again. Several relays, in tasks or processes, share the work.
    """

    def __init__(self, units: AsyncUnits, options: Options) -> None:
        options.check_deliver(for_asyncio=True)
        self._units = units
        self._options = options
        self._looked = False

    async def run_once(self, stop: asyncio.Event | None = None) -> Relayed:
        """Deliver what is due when it begins, and return: for a scheduled task, or a test.

        What fails is tried again by a later run. Raises `StoreUnavailable` where the database is away, and
        `InvalidInput` where the login sees one tenant at a time; never what `deliver` raises.
        """
        reporter = Reporter(self._options)
        await self._drain(stop or asyncio.Event(), reporter)
        await self._report(reporter, last=True)
        return reporter.done

    async def run(self, stop: asyncio.Event | None = None) -> Relayed:
        """Deliver until `stop` is set, and give what was done; a database that is away is waited for.

        What is being delivered when `stop` is set is finished, and nothing else is begun. Raises `InvalidInput` where
        the login sees one tenant at a time.
        """
        stop = stop or asyncio.Event()
        reporter = Reporter(self._options)
        async with AsyncEar(self._units.engine) as ear:
            woken = False
            while not stop.is_set():
                before, looked = reporter.done, time.monotonic()
                try:
                    await self._drain(stop, reporter)
                    await self._report(reporter)
                except PASSING as error:
                    LOG.warning("the relay goes on when the database is there again: %s", error)
                except Exception:
                    if not self._looked:  # it has never worked
                        raise
                    LOG.exception("the relay goes on, whatever this is")
                woken = await ear.wait(self._options.pause(busy=woken or reporter.done != before), stop)
                if woken and (rest := SOON - (time.monotonic() - looked)) > 0:  # many ring; one look is enough
                    await at_most(rest, stop)
        with suppress(*PASSING):
            await self._report(reporter, last=True)
        return reporter.done

    async def _drain(self, stop: asyncio.Event, reporter: Reporter) -> None:
        """Deliver batch after batch, of each queue in turn, until nothing is left that was due at the beginning."""
        if not self._looked:
            await self._units.run(relaying.see_all, None, _NO_TENANT)
            self._looked = True
        left, before = [*self._options.queues], None
        while left and not stop.is_set():
            queue = left.pop(0)
            now, batch = await self._take(queue, before)
            before = before or now
            if batch.items:
                left.append(queue)
                await self._deliver(batch, stop, reporter)
                await self._report(reporter)

    async def _report(self, reporter: Reporter, *, last: bool = False) -> None:
        """Look how the outbox stands, and tell it, if it is time to."""
        if reporter.is_due or (last and reporter.is_wanted):
            reporter.report(await self._units.run(relaying.stands, self._options.queues, _NO_TENANT))

    async def _take(self, queue: Queue[Any], before: datetime | None) -> tuple[datetime, Batch]:
        wants, since = self._options.wants(queue, before), time.monotonic()
        now, items = await self._units.run(relaying.take, wants, _NO_TENANT)
        return now, Batch(self._options, wants, items, since)

    async def _deliver(self, batch: Batch, stop: asyncio.Event, reporter: Reporter) -> None:
        """Deliver a batch. What was not begun goes back, whatever happens."""

        async def attempt(item: Queued) -> None:
            if not stop.is_set() and not batch.bury(item) and not batch.is_for_others(item):
                await self._attempt(batch, item)

        try:
            async with aclosing(self._each(attempt, batch)) as attempts:
                async for _ in attempts:
                    if told := batch.due():
                        reporter.done += await self._settle(batch, told, stop)
            reporter.done += await self._settle(batch, batch.rest(last=True), stop)
        except BaseException:
            with suppress(*PASSING):  # the other error says more
                reporter.done += await self._settle(batch, batch.rest(last=True), None)
            raise

    async def _attempt(self, batch: Batch, item: Queued) -> None:
        try:
            if look := batch.to_look_at(item):
                try:
                    found = await self._units.run(reminding.look, look, Call(tenant=item.tenant))
                except PASSING as error:  # nothing was tried
                    batch.put_off(item, error)
                    return
                if isinstance(found, str):
                    batch.skip(item, found)
                    return
                item = found
            answer = await self._options.deliver(item)
        except Exception as error:  # noqa: BLE001 - whatever an application raises means that it was not delivered
            batch.tell(item, error)
        except BaseException as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and not task.cancelling():
                batch.tell(item, RuntimeError("what it waited for was cancelled"))  # and we were not
                return
            batch.tell(item, error)
            raise
        else:
            batch.tell(item, None, answer)

    async def _settle(self, batch: Batch, told: Told | None, stop: asyncio.Event | None) -> Relayed:
        """Write down what became of events, while nobody else may have them."""
        if told is None:
            return Relayed()
        try:
            ours: set[str] = await AsyncRetrying(**batch.retrying(stop))(
                self._units.run, relaying.settle, told, _NO_TENANT
            )
        except BaseException:
            batch.take_back(told)
            raise
        return counted(told, ours)

    async def _each(self, attempt: Callable[[Queued], Awaitable[None]], batch: Batch) -> AsyncGenerator[None]:
        """Make an attempt with each event, several at a time where there are to be more than one."""
        if self._options.concurrency == 1:
            for item in batch.items:
                await attempt(item)
                yield
            return
        places = asyncio.Semaphore(self._options.concurrency)

        async def placed(item: Queued) -> None:
            async with places:
                await attempt(item)

        begun = waiting = {asyncio.create_task(placed(item)) for item in batch.items}
        try:
            while waiting:  # what hangs is not to keep the others from being written down
                done, waiting = await asyncio.wait(waiting, timeout=SETTLED_EVERY, return_when=asyncio.FIRST_COMPLETED)
                for one in done:
                    one.result()
                yield
        finally:  # where this is interrupted, nobody is to deliver what is given back
            for one in begun:
                one.cancel()
            await asyncio.gather(*begun, return_exceptions=True)


_NO_TENANT = Call(tenant="")
"""Of what concerns all tenants."""
