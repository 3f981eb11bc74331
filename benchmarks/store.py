"""Slots and bookings on the database against their bounds: `make bench`. Ratios of times measured in one run, in turn.

The floor of a booking is the same rows written by hand: psycopg, one transaction, nothing judged. The floor of finding
slots is the same SELECTs run by psycopg, and then the calculator on a question that is ready.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import psycopg
from floor import Floor, Records, example
from ground import BEGIN, GRACE, HALF, always_open, application, case, fill, server
from inputs import FIRST_DAY, scenario
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sqlalchemy import event
from turns import Compared, compare, fastest, in_turn
from workers import Way, Workers, of_workers

from nxsched import EventType, Limit, Scheduler, SettableClock, Tenant
from nxsched.embedded import EmbeddedServer
from nxsched.slots import find_slots
from nxsched.slots.scenario import load

MONTH = timedelta(days=30)

TENANT = "bench"
LEAST_OF_FLOOR = 0.4
MOST_GROWTH = 1.3
HOSTS = 100
"""Of the tenant whose bookings grow."""


@contextmanager
def bookers(uri: str, like: Mapping[str, Records], who: int) -> Iterator[Mapping[str, Way]]:
    """A worker who books for a host of its own, one way or the other."""
    slug = f"visit-{who}"
    with Scheduler(uri) as scheduler, Floor.at(uri, TENANT, slug, like) as floor:
        tenant = scheduler.tenant(TENANT)

        def book(numbers: range) -> list[str]:
            return [tenant.book(slug, start=BEGIN + n * HALF, attendee=GRACE).id for n in numbers]

        def by_hand(numbers: range) -> list[str]:
            return [floor.book(BEGIN + n * HALF).id for n in numbers]

        yield {"book": book, "by hand": by_hand}


def recorded(tenant: Tenant, call: Callable[[], object]) -> list[tuple[str, Any]]:
    """The statements of a call with their parameters, as the driver gets them."""
    found: list[tuple[str, Any]] = []

    def listen(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:  # noqa: ANN401 - SQLAlchemy's
        found.append((statement, parameters))

    engine = tenant._units.engine  # noqa: SLF001 - our own
    event.listen(engine, "before_cursor_execute", listen)
    call()
    event.remove(engine, "before_cursor_execute", listen)
    return found


def finding(running: EmbeddedServer, rounds: int, console: Console) -> bool:
    """Slots from the database against the raw SELECTs and the calculator on what they bring."""
    table = Table(title="find_slots from the database", title_justify="left")
    for column in ("Case", "Slots", "Time", "SELECTs", "Calculator", "Ratio", "At most", ""):
        table.add_column(column, justify="right" if column not in {"Case", ""} else "left")
    held = True
    for name, hosts, most, more in (
        ("A: 1 host, 30 days, 200 busy", 1, 2.5, 20),
        ("C: any of 100 hosts, 200 busy each", 100, 2.0, 2),
    ):
        with Scheduler(application(running), clock=SettableClock(FIRST_DAY)) as scheduler:
            tenant = case(running, scheduler, f"case-{hosts}", hosts=hosts)
            query = load(scenario(hosts=hosts))

            def ours(tenant: Tenant = tenant) -> object:
                return list(tenant.find_slots("visit", start=FIRST_DAY, end=FIRST_DAY + MONTH))

            statements = recorded(tenant, ours)
            slots = list(tenant.find_slots("visit", start=FIRST_DAY, end=FIRST_DAY + MONTH))
            if slots != list(find_slots(query)):
                sys.exit(f"{name}: the database gives other slots than the calculator; the times would mean nothing")
            with psycopg.connect(application(running)) as connection:
                for statement, parameters in statements[:1]:  # who asks, and the plans: once, and not with each
                    connection.execute(statement, parameters)

                def selects(connection: Any = connection, statements: Any = statements[1:]) -> None:  # noqa: ANN401 - psycopg's
                    for statement, parameters in statements:
                        connection.execute(statement, parameters).fetchall()

                def calculator(query: Any = query) -> object:  # noqa: ANN401 - a query
                    return list(find_slots(query))

                works: dict[str, Callable[[], object]] = {"ours": ours, "selects": selects, "calculator": calculator}
                timed = {of: partial(fastest, work) for of, work in works.items()}
                took = in_turn(timed, rounds * more, console)
        of_rounds = zip(took["ours"], took["selects"], took["calculator"], strict=True)
        ratio = statistics.median(ours / (selects + calculator) for ours, selects, calculator in of_rounds)
        held = held and ratio <= most
        times = (shown(statistics.median(took[one])) for one in ("ours", "selects", "calculator"))
        verdict = "holds" if ratio <= most else "BROKEN"
        table.add_row(name, f"{len(slots):,}", *times, f"{ratio:.2f}", f"{most:.2f}", verdict)
    console.print(table)
    return held


def booking(running: EmbeddedServer, each: int, rounds: int, console: Console) -> bool:
    """Bookings a second against the same rows written by hand."""
    with Scheduler(application(running)) as scheduler:
        always_open(scheduler, TENANT, 8)
        like = example(scheduler, TENANT)
    fill(running, TENANT, 1, 2_000)  # a server that knows nothing of its tables plans for empty ones
    rows = []
    for count in (1, 8):
        with Workers(count, partial(bookers, application(running), like)) as workers:
            ways = {way: partial(workers.rate, way, each) for way in ("by hand", "book")}
            rates = in_turn(ways, rounds, console)
        rows.append(Compared(f"book, {of_workers(count)}", rates["book"], "by hand", rates["by hand"], LEAST_OF_FLOOR))
    return compare("book against the same rows written by hand", rows, console)


def growth(sizes: list[int], each: int, console: Console) -> bool:
    """The same calls on servers that hold ten thousand, a hundred thousand and a million bookings, in turn."""
    with ExitStack() as stack:
        tenants: list[Tenant] = []
        for size in sizes:
            running = stack.enter_context(server())
            tenants.append(_history(stack.enter_context(Scheduler(application(running))), console))
            with console.status(f"Storing {size:,} bookings"):
                fill(running, "history", 1, size // HOSTS)
        times = {what: [list[float]() for _ in sizes] for what in ("book", "book from a limited pool", "find_slots")}
        for n in track(range(each), "Measuring", console=console, transient=True):
            for place, tenant in enumerate(tenants):
                slug, start = f"visit-{n % HOSTS}", BEGIN + n * HALF
                works: dict[str, Callable[[], object]] = {
                    "book": partial(tenant.book, slug, start=start, attendee=GRACE),
                    "book from a limited pool": partial(tenant.book, "team", start=start, attendee=GRACE),
                    "find_slots": partial(tenant.find_slots, slug, start=BEGIN - MONTH, end=BEGIN),
                }
                for what, work in works.items():
                    begun = time.perf_counter()
                    work()
                    times[what][place].append(time.perf_counter() - begun)
    table = Table(title="Growth: the median time where so many bookings are stored", title_justify="left")
    for column in ("What", *(f"{size:,}" for size in sizes), "Growth", "At most", ""):
        table.add_column(column, justify="right" if column not in {"What", ""} else "left")
    held = True
    for what, of_sizes in times.items():
        values = [statistics.median(some[len(some) // 4 :]) for some in of_sizes]  # the first ones warm up
        ratio = values[-1] / values[0]
        held = held and ratio <= MOST_GROWTH
        verdict = "holds" if ratio <= MOST_GROWTH else "BROKEN"
        table.add_row(what, *map(shown, values), f"{ratio:.2f}", f"{MOST_GROWTH:.2f}", verdict)
    console.print(table)
    return held


def _history(scheduler: Scheduler, console: Console) -> Tenant:
    """A tenant whose hosts have a month of bookings that is looked at, outside busy time, and a pool with a limit."""
    tenant = always_open(scheduler, "history", HOSTS)
    slugs = [f"host-{n}" for n in range(HOSTS)]
    limits = [Limit(per="week", count=10_000)]  # there is room
    tenant.save_event_type(EventType(slug="team", duration=HALF, hosts=slugs[:10], limits=limits))
    first = BEGIN - 2 * MONTH
    outside = [(first + timedelta(hours=7 * n), first + timedelta(hours=7 * n, minutes=9)) for n in range(200)]
    for host, slug in track([*enumerate(slugs)], "Booking a month", console=console, transient=True):
        tenant.replace_busy(slug, source="bench", start=first, end=BEGIN, periods=outside[:100])
        for day in range(1, 31):
            tenant.book(f"visit-{host}", start=BEGIN - timedelta(day), attendee=GRACE, force=True)
    return tenant


def shown(seconds: float) -> str:
    """A time in milliseconds."""
    return f"{seconds * 1e3:.2f} ms"


def main() -> None:
    """Run the benchmark; exit status 1 where a bound is broken."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="Example: make bench, or python benchmarks/store.py --rounds 10 --most 100000"
    )
    parser.add_argument("-n", "--rounds", type=int, default=24, help="rounds to measure (default: 24)")
    parser.add_argument("--each", type=int, default=200, help="bookings of each worker in a round (default: 200)")
    parser.add_argument("--most", type=int, default=1_000_000, help="bookings to store at last (default: 1000000)")
    given = parser.parse_args()
    console = Console(width=118)
    with server() as running:
        console.print(f"PostgreSQL {running.version}, embedded, with its own settings")
        held = [
            booking(running, given.each, given.rounds, console),
            finding(running, given.rounds, console),
        ]
    held.append(growth([size for size in (10_000, 100_000, 1_000_000) if size <= given.most], 400, console))
    sys.exit(0 if all(held) else 1)


if __name__ == "__main__":
    main()
