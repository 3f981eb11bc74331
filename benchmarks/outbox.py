"""How fast relays drain the outbox, how late an event is, and what all that costs who books: `make bench`.

A relay is a process of its own, as is what it is compared with; the receiver does nothing. Events are copies of one:
two of each booking, of which the second waits for the first.
"""

from __future__ import annotations

import argparse
import multiprocessing as mp
import random
import statistics
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import psycopg
from ground import BEGIN, GRACE, HALF, always_open, application, server, superuser
from rich.console import Console
from rich.table import Table
from turns import Compared, compare, in_turn

from nxsched import OutboxEvent, Scheduler, Tenant, Webhook
from nxsched.embedded import WORKER_ROLE, EmbeddedServer
from nxsched.store import changes

TENANT = "outbox"
BATCH = 100
LEAST_OF_HAND = 0.5
LEAST_BESIDE_FINISHED = 0.8
LEAST_OF_A_BOOKING = 0.75
FINISHED = 1_000_000

processes = mp.get_context("forkserver")
processes.set_forkserver_preload(["nxsched.scheduler", "nxsched.relay.relay", "psycopg", "psycopg_binary"])

_COPY = """
INSERT INTO nxsched.outbox_event (tenant_id, id, booking_id, version, kind, payload, occurred_at, due_at, done_at)
SELECT %(tenant)s, gen_random_uuid(), md5(%(of)s || n / 2)::uuid, n %% 2 + 1, 'booking.confirmed', %(payload)s::jsonb,
    now(), now(), CASE WHEN %(done)s THEN now() END
FROM generate_series(2, %(count)s + 1) AS n
"""

# What the design measured: a batch is leased by one statement, and acknowledged by another. It keeps no order.
_BY_HAND = """
WITH due AS (
    SELECT tenant_id, id FROM nxsched.outbox_event
    WHERE done_at IS NULL AND dead_at IS NULL AND due_at <= now() AND (leased_until IS NULL OR leased_until <= now())
    ORDER BY due_at LIMIT 100 FOR UPDATE SKIP LOCKED
)
UPDATE nxsched.outbox_event e
SET attempts = attempts + 1, lease_owner = %(me)s, leased_until = now() + interval '1 minute'
FROM due WHERE e.tenant_id = due.tenant_id AND e.id = due.id RETURNING e.tenant_id, e.id, e.payload
"""
_DONE_BY_HAND = """
UPDATE nxsched.outbox_event SET done_at = now(), leased_until = NULL
WHERE tenant_id = %(tenant)s AND id = ANY(%(ids)s) AND lease_owner = %(me)s
"""


def nothing(_: OutboxEvent) -> None:
    """What the receiver does."""


def by_relay(url: str, who: int, ready: Any, begin: Any, done: Any) -> None:  # noqa: ANN401, ARG001 - of multiprocessing
    """Drain the outbox with a relay."""
    with Scheduler(url) as scheduler:
        relay = scheduler.relay(nothing, batch=BATCH)
        relay.run_once()
        ready.release()
        begin.wait()
        count = relay.run_once().delivered
        while scheduler.outbox.status().depth:
            count += relay.run_once().delivered
        done.put(count)


def by_hand(url: str, who: int, ready: Any, begin: Any, done: Any) -> None:  # noqa: ANN401 - of multiprocessing
    """Drain it with two statements."""
    with psycopg.connect(url, autocommit=True) as connection:
        ready.release()
        begin.wait()
        count, me = 0, {"me": f"hand {who}"}
        while rows := connection.execute(_BY_HAND, me).fetchall():
            ids = [row[1] for row in rows]
            connection.execute(_DONE_BY_HAND, {**me, "tenant": TENANT, "ids": ids})
            count += len(rows)
        done.put(count)


class Outbox:
    """The outbox of a server, filled as it is needed."""

    def __init__(self, running: EmbeddedServer, events: int) -> None:
        self.running = running
        self.events = events
        self.url = running.socket_uri(WORKER_ROLE, "nxsched")
        with self._superuser() as connection:
            row = connection.execute("SELECT payload::text FROM nxsched.outbox_event LIMIT 1").fetchone()
        self._payload: str = row[0] if row else sys.exit("there is no event to copy")

    def _superuser(self) -> psycopg.Connection:
        return psycopg.connect(superuser(self.running), autocommit=True)

    def empty(self) -> None:
        """Take out all there is."""
        with self._superuser() as connection:
            connection.execute("TRUNCATE nxsched.outbox_event, nxsched.webhook_delivery, nxsched.reminder")

    def fill(self, finished: int) -> None:
        """Nothing but so many events, and so many that are done long ago."""
        with self._superuser() as connection:
            connection.execute("TRUNCATE nxsched.outbox_event, nxsched.webhook_delivery, nxsched.reminder")
            values = {"tenant": TENANT, "payload": self._payload}
            for count, done in ((finished, True), (self.events, False)):
                if count:
                    connection.execute(_COPY, {**values, "count": count, "done": done, "of": f"{done}"})
            connection.execute("VACUUM ANALYZE nxsched.outbox_event")

    def drained(self, work: Callable[..., None], count: int, finished: int = 0) -> float:
        """Events a second, by so many processes."""
        self.empty()
        ready, begin, done = processes.Semaphore(0), processes.Event(), processes.Queue()
        started = [processes.Process(target=work, args=(self.url, n, ready, begin, done)) for n in range(count)]
        for one in started:
            one.start()
        for _ in started:
            ready.acquire()
        self.fill(finished)
        begun = time.perf_counter()
        begin.set()
        found: int = sum(done.get() for _ in started)
        took = time.perf_counter() - begun
        for one in started:
            one.join()
        if found != self.events:
            sys.exit(f"{found} of {self.events} events were delivered")
        return found / took


def throughput(outbox: Outbox, rounds: int, finished: int, console: Console) -> bool:
    """One, two and four relays; and one beside a million events that are done."""
    works = {}
    for count in (1, 2, 4):
        works[f"{count} by hand"] = partial(outbox.drained, by_hand, count)
        works[f"{count} relays"] = partial(outbox.drained, by_relay, count)
    beside = f"1 relay beside {finished:,} finished events"
    works[beside] = partial(outbox.drained, by_relay, 1, finished)
    found = in_turn(works, rounds, console)
    rows = [
        Compared(f"{n} relays", found[f"{n} relays"], f"{n} by hand", found[f"{n} by hand"], LEAST_OF_HAND)
        for n in (1, 2, 4)
    ]
    rows.append(Compared(beside, found[beside], "1 relays", found["1 relays"], LEAST_BESIDE_FINISHED))
    return compare(f"Events delivered, of {outbox.events:,}", rows, console)


def listen(url: str, told: Any, ready: Any) -> None:  # noqa: ANN401 - of multiprocessing
    """Tell when each event came."""
    with Scheduler(url) as scheduler:
        ready.release()
        scheduler.relay(lambda event: told.put((event.booking_id, time.monotonic()))).run()


def lag(running: EmbeddedServer, outbox: Outbox, bookings: int, console: Console) -> None:
    """From the commit of a booking to its delivery, woken and by looking alone."""
    table = Table(title="From commit to delivery, milliseconds", title_justify="left")
    for column in ("", "half of them", "99 of 100"):
        table.add_column(column, justify="right" if column else "left")
    start = BEGIN
    for wake in (True, False):
        outbox.empty()
        told, ready = processes.Queue(), processes.Semaphore(0)
        relay = processes.Process(target=listen, args=(outbox.url, told, ready), daemon=True)
        relay.start()
        ready.acquire()
        time.sleep(3)  # it listens, and has delivered what there was
        while not told.empty():
            told.get()
        with Scheduler(application(running), wake_relays=wake) as scheduler:
            tenant, committed = scheduler.tenant(TENANT), {}
            for _ in range(bookings):
                booking = tenant.book("visit-0", start=start, attendee=GRACE)
                committed[booking.id] = time.monotonic()
                start += HALF
                time.sleep(random.uniform(0.1, 1.2))  # or a relay that has just had work finds the next at once
        came: dict[str, float] = {}
        while len(came) < bookings:
            id_, at = told.get(timeout=30)
            came[id_] = at
        relay.terminate()
        relay.join()
        late = sorted(max(came[id_] - at, 0) * 1000 for id_, at in committed.items())
        cut = statistics.quantiles(late, n=100) if len(late) > 1 else late * 99
        table.add_row("woken" if wake else "by looking alone", f"{cut[49]:,.0f}", f"{cut[98]:,.0f}")
    console.print(table)


class Cost:
    """Bookings one after the other, with all that they leave to be delivered, and with their audit entry alone."""

    def __init__(self, running: EmbeddedServer, each: int) -> None:
        self.running = running
        self.each = each
        self._start = BEGIN + timedelta(days=365)
        self._whole = changes._RECORDED  # noqa: SLF001 - to be taken apart

    def book(self, *, recorded: str, endpoints: int = 0, wake: bool = True) -> float:
        """Bookings a second."""
        changes._RECORDED = recorded  # type: ignore[misc]  # noqa: SLF001 - the statement is made of it
        changes._placed.cache_clear()  # noqa: SLF001 - and made anew
        try:
            with Scheduler(application(self.running), wake_relays=wake) as scheduler:
                tenant = scheduler.tenant(TENANT)
                for one in tenant.webhooks.all():
                    tenant.webhooks.delete(one.id or "")
                for i in range(endpoints):
                    tenant.webhooks.save(Webhook(url=f"https://hooks.invalid/{i}"))
                self._next(tenant)  # a connection, and its statements
                begun = time.perf_counter()
                for _ in range(self.each):
                    self._next(tenant)
                return self.each / (time.perf_counter() - begun)
        finally:
            changes._RECORDED = self._whole  # type: ignore[misc]  # noqa: SLF001 - as above
            changes._placed.cache_clear()  # noqa: SLF001 - as above

    def _next(self, tenant: Tenant) -> None:
        tenant.book("visit-0", start=self._start, attendee=GRACE)
        self._start += HALF

    def measured(self, rounds: int, console: Console) -> bool:
        """The audit entry stays in any case."""
        audited = self._whole.partition(", sent AS (")[0]
        works = {
            "without an outbox": partial(self.book, recorded=audited, wake=False),
            "with event and two reminders": partial(self.book, recorded=self._whole),
            "and with three endpoints": partial(self.book, recorded=self._whole, endpoints=3),
        }
        found = in_turn(works, rounds, console)
        bare, whole, posted = works
        return compare(
            "Bookings",
            [
                Compared(whole, found[whole], bare, found[bare], LEAST_OF_A_BOOKING),
                Compared(posted, found[posted], bare, found[bare]),
            ],
            console,
        )


def main() -> None:
    """Run the benchmark; exit status 1 where a bound is broken."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="Example: make bench, or python benchmarks/outbox.py --rounds 3"
    )
    parser.add_argument("-n", "--rounds", type=int, default=5, help="rounds to measure (default: 5)")
    parser.add_argument("--events", type=int, default=100_000, help="to deliver in each (default: 100000)")
    parser.add_argument("--finished", type=int, default=FINISHED, help="that are done (default: 1000000)")
    parser.add_argument("--bookings", type=int, default=100, help="whose lag and cost are measured (default: 100)")
    given = parser.parse_args()
    console = Console(width=118)
    with server() as running:
        console.print(f"PostgreSQL {running.version}, embedded, with its own settings")
        with Scheduler(application(running)) as scheduler:
            tenant = always_open(scheduler, TENANT, 1)
            tenant.book("visit-0", start=BEGIN - HALF, attendee=GRACE)
        outbox = Outbox(running, given.events)
        lag(running, outbox, given.bookings, console)
        held = [Cost(running, given.bookings).measured(given.rounds, console)]
        held.append(throughput(outbox, given.rounds, given.finished, console))
    sys.exit(0 if all(held) else 1)


if __name__ == "__main__":
    main()
