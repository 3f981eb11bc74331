"""Joins to a class, moves, and bookings with asyncio, each against what it compares with: `make bench`.

The floor of a move is the same rows written by hand, as that of a booking is in `store.py`. The joins of a class are
counted at the end, by raw SQL: every seat that was acknowledged is sold, and none of them twice.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial

import psycopg
from floor import Floor, Records, Stored, example
from ground import BEGIN, GRACE, HALF, YEARS, always_open, application, fill, server, superuser
from rich.console import Console
from sqlalchemy.ext.asyncio import create_async_engine
from turns import Compared, compare, in_turn
from workers import Way, Workers, of_workers

from nxsched import AsyncScheduler, AsyncTenant, EventType, Scheduler
from nxsched.embedded import EmbeddedServer

LEAST_OF_SYNC = 0.45
MANY = 8
"""Workers."""

TASKS = 64
CONNECTIONS = 8
"""That many tasks share, where the application says how many are kept open."""

ONE_TASK, MANY_TASKS = "one task", f"{TASKS} tasks"
MANY_TASKS_KEPT = f"{TASKS} tasks, {CONNECTIONS} connections kept"

SEATS = 400
"""Of a class: so many joins, by all workers together, and the next one begins."""

_OVERSOLD = """
WITH its AS (
    SELECT e.slug, o.starts_at, (e.settings->>'capacity')::int AS capacity,
        (SELECT coalesce(sum(b.seats), 0) FROM nxsched.booking b
            WHERE b.tenant_id = o.tenant_id AND b.occurrence_id = o.id AND b.status = 'confirmed') AS seats,
        (SELECT count(*) FROM nxsched.claim c
            WHERE c.tenant_id = o.tenant_id AND c.occurrence_id = o.id AND c.active) AS claims
    FROM nxsched.occurrence o JOIN nxsched.event_type e USING (tenant_id, event_type_no)
    WHERE o.tenant_id = %s AND o.active
)
SELECT slug, starts_at, count(*), sum(seats) FROM its GROUP BY slug, starts_at
HAVING count(*) <> 1 OR sum(seats) NOT BETWEEN 1 AND max(capacity) OR sum(claims) <> 1
"""
_BOOKED = """SELECT id::text FROM nxsched.booking WHERE tenant_id = %s AND status = 'confirmed' AND seats = 1
    AND starts_at >= %s AND starts_at < %s"""
_MOVED = """
SELECT DISTINCT b.version, b.sequence, b.moves, b.starts_at - o.starts_at, o.active,
    ARRAY(SELECT (c.active, c.busy_from = b.starts_at, c.busy_until = b.ends_at) FROM nxsched.claim c
        WHERE c.tenant_id = b.tenant_id AND c.occurrence_id = o.id)::text,
    ARRAY(SELECT (a.version, a.action) FROM nxsched.audit_entry a
        WHERE a.tenant_id = b.tenant_id AND a.booking_id = b.id AND a.version > 1)::text,
    ARRAY(SELECT (x.version, x.kind) FROM nxsched.outbox_event x
        WHERE x.tenant_id = b.tenant_id AND x.booking_id = b.id AND x.version > 1)::text
FROM nxsched.booking b JOIN nxsched.occurrence o ON o.tenant_id = b.tenant_id AND o.id = b.occurrence_id
WHERE b.tenant_id = %s AND b.id = ANY(%s::uuid[])
"""


@contextmanager
def joiners(uri: str, tenant: str, count: int, who: int) -> Iterator[Mapping[str, Way]]:
    """One of several workers who join the same classes, or book for a host of their own."""
    with Scheduler(uri) as scheduler:
        made = scheduler.tenant(tenant)

        def join(numbers: range) -> list[str]:
            starts = (BEGIN + n // (SEATS // count) * HALF for n in numbers)
            return [made.book(f"class-{count}", start=start, attendee=GRACE).id for start in starts]

        def book(numbers: range) -> list[str]:
            return [made.book(f"visit-{who}", start=BEGIN + n * HALF, attendee=GRACE).id for n in numbers]

        yield {"join": join, "book": book}


def joins(running: EmbeddedServer, each: int, rounds: int, console: Console) -> bool:
    """Joins a second of many workers, against their plain bookings and against one who joins alone."""
    name = "classes"
    with Scheduler(application(running)) as scheduler:
        made = always_open(scheduler, name, MANY + 2)
        for count, host in ((1, f"host-{MANY}"), (MANY, f"host-{MANY + 1}")):
            made.save_event_type(EventType(slug=f"class-{count}", duration=HALF, hosts=[host], capacity=SEATS))
    fill(running, name, 1, 2_000)
    with (
        Workers(MANY, partial(joiners, application(running), name, MANY)) as many,
        Workers(1, partial(joiners, application(running), name, 1)) as one,
    ):
        rates = in_turn(
            {
                "book": partial(many.rate, "book", each),
                "join": partial(many.rate, "join", each),
                "join alone": partial(one.rate, "join", each),
            },
            rounds,
            console,
        )
    acknowledged = [id_ for workers in (many, one) for ids in workers.acknowledged.values() for id_ in ids]
    seats = counted(running, name, acknowledged)
    join = f"join, {of_workers(MANY)}"
    held = compare(
        "Joins to one class",
        [
            Compared(join, rates["join"], "plain slots of their own", rates["book"]),
            Compared(join, rates["join"], "one worker joins alone", rates["join alone"]),
        ],
        console,
    )
    console.print(f"{seats:,} seats and slots acknowledged, all of them sold, none twice; one occurrence a start\n")
    return held


def counted(running: EmbeddedServer, tenant: str, acknowledged: Sequence[str]) -> int:
    """How many were sold; ends the benchmark where it is not what was acknowledged, or more than there was."""
    with psycopg.connect(superuser(running)) as connection:
        oversold = connection.execute(_OVERSOLD, [tenant]).fetchall()
        sold = [id_ for (id_,) in connection.execute(_BOOKED, [tenant, BEGIN, BEGIN + YEARS])]
    if oversold or sorted(sold) != sorted(acknowledged):
        words = f"{len(acknowledged)} were acknowledged and {len(sold)} are sold; sold wrongly: {oversold[:5]}"
        sys.exit(f"{tenant}: {words}")
    return len(sold)


@contextmanager
def movers(uri: str, tenant: str, like: Mapping[str, Records], who: int) -> Iterator[Mapping[str, Way]]:
    """A worker who stores bookings and moves each of them once, by half an hour, one way or the other."""
    slug = f"visit-{who}"
    stored: dict[int, Stored] = {}

    def start(n: int) -> datetime:
        return BEGIN + 2 * n * HALF

    with Scheduler(uri) as scheduler, Floor.at(uri, tenant, slug, like) as floor:
        made = scheduler.tenant(tenant)

        def store(numbers: range) -> list[str]:
            stored.update((n, floor.book(start(n))) for n in numbers)
            return []

        def move(numbers: range) -> list[str]:
            return [made.reschedule(stored[n].id, start=start(n) + HALF).id for n in numbers]

        def by_hand(numbers: range) -> list[str]:
            for n in numbers:
                floor.move(stored[n], start(n) + HALF)
            return [stored[n].id for n in numbers]

        yield {"store": store, "reschedule": move, "by hand": by_hand}


def moves(running: EmbeddedServer, each: int, rounds: int, console: Console) -> bool:
    """Moves a second against the same rows written by hand."""
    name = "moves"
    with Scheduler(application(running)) as scheduler:
        always_open(scheduler, name, MANY)
        like = example(scheduler, name)
    fill(running, name, 1, 2_000)
    rows = []
    for count in (1, MANY):
        with Workers(count, partial(movers, application(running), name, like)) as workers:
            ways = {way: partial(workers.rate, way, each, ready="store") for way in ("by hand", "reschedule")}
            rates = in_turn(ways, rounds, console)
        alike(running, name, workers.acknowledged)
        what = f"reschedule, {of_workers(count)}"
        rows.append(Compared(what, rates["reschedule"], "by hand", rates["by hand"]))
    return compare("reschedule against the same rows written by hand", rows, console)


def alike(running: EmbeddedServer, tenant: str, moved: Mapping[str, Sequence[str]]) -> None:
    """End the benchmark where what was moved by hand is not what `reschedule` leaves."""
    with psycopg.connect(superuser(running)) as connection:
        left = {way: connection.execute(_MOVED, [tenant, ids]).fetchall() for way, ids in moved.items() if ids}
    first = next(iter(left.values()))
    if len(first) != 1 or any(rows != first for rows in left.values()):
        sys.exit(f"by hand a move leaves other rows than reschedule; the times would mean nothing: {left}")


@contextmanager
def tasks(uri: str, tenant: str, _who: int) -> Iterator[Mapping[str, Way]]:
    """A worker who books without asyncio, and with it: one task, and many at once, each for a host of its own."""
    url = uri.replace("postgresql", "postgresql+psycopg", 1)
    engine = create_async_engine(url, pool_size=CONNECTIONS, max_overflow=0)
    with asyncio.Runner() as runner, Scheduler(uri) as scheduler:
        plain, kept = AsyncScheduler(uri), AsyncScheduler(engine)
        made = scheduler.tenant(tenant)
        of_url, of_engine = (runner.run(one.tenant(tenant)) for one in (plain, kept))

        def book(numbers: range) -> list[str]:
            return [made.book("visit-0", start=BEGIN + n * HALF, attendee=GRACE).id for n in numbers]

        yield {
            "book": book,
            ONE_TASK: lambda numbers: runner.run(at_once(of_url, 1, numbers)),
            MANY_TASKS: lambda numbers: runner.run(at_once(of_url, TASKS, numbers)),
            MANY_TASKS_KEPT: lambda numbers: runner.run(at_once(of_engine, TASKS, numbers)),
        }
        runner.run(plain.close())
        runner.run(engine.dispose())


async def at_once(tenant: AsyncTenant, count: int, numbers: range) -> list[str]:
    """Book with so many tasks, each of which takes the next number when it is done with one."""
    left = iter(numbers)

    async def task(who: int) -> list[str]:
        slug = f"visit-{who}"
        return [(await tenant.book(slug, start=BEGIN + n * HALF, attendee=GRACE)).id for n in left]

    found = await asyncio.gather(*(task(who) for who in range(count)))
    return [id_ for ids in found for id_ in ids]


def asynchronous(running: EmbeddedServer, each: int, rounds: int, console: Console) -> bool:
    """Bookings a second of `AsyncScheduler` against those of `Scheduler`, in one process."""
    name = "tasks"
    with Scheduler(application(running)) as scheduler:
        always_open(scheduler, name, TASKS)
    fill(running, name, 1, 250)
    bounds = {ONE_TASK: LEAST_OF_SYNC, MANY_TASKS: None, MANY_TASKS_KEPT: None}
    with Workers(1, partial(tasks, application(running), name)) as worker:
        rates = in_turn({way: partial(worker.rate, way, each) for way in ("book", *bounds)}, rounds, console)
    counted(running, name, [id_ for ids in worker.acknowledged.values() for id_ in ids])
    rows = [Compared(way, rates[way], "without asyncio", rates["book"], least) for way, least in bounds.items()]
    return compare("book with asyncio against book without, in one process", rows, console)


def main() -> None:
    """Run the benchmark; exit status 1 where a bound is broken."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="Example: make bench, or python benchmarks/lifecycle.py --rounds 10"
    )
    parser.add_argument("-n", "--rounds", type=int, default=24, help="rounds to measure (default: 24)")
    parser.add_argument("--each", type=int, default=200, help="calls of each worker in a round (default: 200)")
    given = parser.parse_args()
    console = Console(width=118)
    with server() as running:
        console.print(f"PostgreSQL {running.version}, embedded, with its own settings")
        held = [measure(running, given.each, given.rounds, console) for measure in (joins, moves, asynchronous)]
    sys.exit(0 if all(held) else 1)


if __name__ == "__main__":
    main()
