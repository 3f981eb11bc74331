"""Slots and bookings on the database against their bounds: `make bench`. Ratios of times measured in one run, in turn.

The floor of a booking is the same rows written by hand: psycopg, one transaction, nothing judged. The floor of finding
slots is the same SELECTs run by psycopg, and then the calculator on a question that is ready.
"""

from __future__ import annotations

import argparse
import multiprocessing as mp
import secrets
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import psycopg
from ground import BEGIN, HALF, always_open, case, fill, server
from inputs import FIRST_DAY, scenario
from psycopg.types.json import Jsonb
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sqlalchemy import event

from nxsched import Attendee, EventType, Limit, Scheduler, SettableClock, Tenant
from nxsched.embedded import APP_ROLE, EmbeddedServer
from nxsched.service.ids import new_id
from nxsched.slots import find_slots
from nxsched.slots.scenario import load

GRACE = Attendee(name="Grace", email="grace@example.test", timezone="America/New_York", reference="user-7")
MONTH = timedelta(days=30)

LEAST_OF_FLOOR = 0.4
MOST_GROWTH = 1.3
HOSTS = 100
"""Of the tenant whose bookings grow."""

processes = mp.get_context("forkserver")
processes.set_forkserver_preload(["nxsched.scheduler", "psycopg", "psycopg_binary"])

_OCCURRENCE = """INSERT INTO nxsched.occurrence (tenant_id, id, event_type_no, starts_at, ends_at, active)
    VALUES (%s, %s, %s, %s, %s, true)"""
_CLAIM = """INSERT INTO nxsched.claim
    (tenant_id, occurrence_id, host_no, place, busy_from, busy_until, active, claimed_at)
    VALUES (%s, %s, %s, 1, %s, %s, true, %s)"""
_BOOKING = """INSERT INTO nxsched.booking (tenant_id, id, occurrence_id, event_type_no, status, starts_at, ends_at,
    seats, attendee_name, attendee_email, attendee_timezone, attendee_reference, answers, metadata, organizer,
    sequence, version, moves, nonce, created_at)
    VALUES (%s, %s, %s, %s, 'confirmed', %s, %s, 1, %s, %s, %s, %s, '{}', '{}', %s, 0, 1, 0, %s, %s)"""
_AUDIT = """INSERT INTO nxsched.audit_entry (tenant_id, booking_id, version, action, changes, at)
    VALUES (%s, %s, 1, 'book', %s, %s)"""
_EVENT = """INSERT INTO nxsched.outbox_event
    (tenant_id, id, booking_id, version, kind, payload, occurred_at, due_at)
    VALUES (%s, %s, %s, 1, 'booking.confirmed', %s, %s, %s)"""


class Floor:
    """Writes the rows of a booking by hand; they are as long as those that `book` writes."""

    def __init__(self, uri: str, tenant: str, who: int, like: tuple[Any, Any]) -> None:
        self.connection = psycopg.connect(uri)
        self.tenant = tenant
        self.changes, self.payload = (Jsonb(one) for one in like)
        with self.connection.transaction():
            self.enter()
            found = self.connection.execute(
                "SELECT e.event_type_no, m.host_no FROM nxsched.event_type e JOIN nxsched.event_type_member m"
                " USING (tenant_id, event_type_no) WHERE e.slug = %s",
                [f"visit-{who}"],
            ).fetchone()
        self.event_type, self.host = found or (0, 0)

    def enter(self) -> None:
        """Set the tenant, as every transaction must."""
        self.connection.execute("SELECT set_config('nxsched.tenant_id', %s, true)", [self.tenant])

    def book(self, start: datetime) -> None:
        """Write five rows in one transaction."""
        end, now, run = start + HALF, datetime.now(start.tzinfo), self.connection.execute
        occurrence, booking, tenant, kind = new_id(), new_id(), self.tenant, self.event_type
        who = (GRACE.name, GRACE.email, GRACE.timezone, GRACE.reference)
        nonce = secrets.token_hex(16)
        with self.connection.transaction():
            self.enter()
            run(_OCCURRENCE, [tenant, occurrence, kind, start, end])
            run(_CLAIM, [tenant, occurrence, self.host, start, end, now])
            run(_BOOKING, [tenant, booking, occurrence, kind, start, end, *who, "bookings@acme.test", nonce, now])
            run(_AUDIT, [tenant, booking, self.changes, now])
            run(_EVENT, [tenant, new_id(), booking, self.payload, now, now])


def worker(url: str, uri: str, who: int, like: tuple[Any, Any], orders: Any, done: Any) -> None:  # noqa: ANN401 - queues
    """Book as told, one way or the other, and say how long it took."""
    floor = Floor(uri, "bench", who, like)
    with Scheduler(url) as scheduler:
        tenant = scheduler.tenant("bench")
        while (order := orders.get()) is not None:
            ours, first, count = order
            begun = time.perf_counter()
            for n in range(first, first + count):
                start = BEGIN + n * HALF
                if ours:
                    tenant.book(f"visit-{who}", start=start, attendee=GRACE)
                else:
                    floor.book(start)
            done.put(time.perf_counter() - begun)
    floor.connection.close()


def throughput(
    running: EmbeddedServer, workers: int, each: int, rounds: int, like: tuple[Any, Any]
) -> list[tuple[float, float]]:
    """Bookings a second of each round, by hand and by `book`, with so many workers."""
    uri = running.socket_uri(APP_ROLE, "nxsched")
    orders = [processes.Queue() for _ in range(workers)]
    done = processes.Queue()
    started = [
        processes.Process(target=worker, args=(running.url(APP_ROLE), uri, who, like, orders[who], done), daemon=True)
        for who in range(workers)
    ]
    for one in started:
        one.start()
    rates: list[tuple[float, float]] = []
    first = 20_000 * workers  # years that no other round of this run uses
    for n in range(rounds + 1):
        took: dict[bool, float] = {}
        for ours in (False, True) if n % 2 else (True, False):
            for queue in orders:
                queue.put((ours, first, each))
            took[ours] = max(done.get() for _ in orders)
            first += each
        rates.append((workers * each / took[False], workers * each / took[True]))
    for queue in orders:
        queue.put(None)
    for one in started:
        one.join()
    return rates[1:]  # the first round only warms up


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


def in_turn(works: dict[str, Callable[[], object]], rounds: int, console: Console) -> dict[str, list[float]]:
    """Seconds of so many rounds, all works in turn in each; of a work in a round the fastest of three."""
    took: dict[str, list[float]] = {name: [] for name in works}
    for _ in track(range(rounds), "Measuring", console=console, transient=True):
        for name, work in works.items():
            times = []
            for _ in range(3):
                begun = time.perf_counter()
                work()
                times.append(time.perf_counter() - begun)
            took[name].append(min(times))
    return took


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
        with Scheduler(running.url(APP_ROLE), clock=SettableClock(FIRST_DAY)) as scheduler:
            tenant = case(running, scheduler, f"case-{hosts}", hosts=hosts)
            query = load(scenario(hosts=hosts))

            def ours(tenant: Tenant = tenant) -> object:
                return list(tenant.find_slots("visit", start=FIRST_DAY, end=FIRST_DAY + MONTH))

            statements = recorded(tenant, ours)
            slots = list(tenant.find_slots("visit", start=FIRST_DAY, end=FIRST_DAY + MONTH))
            if slots != list(find_slots(query)):
                sys.exit(f"{name}: the database gives other slots than the calculator; the times would mean nothing")
            with psycopg.connect(running.socket_uri(APP_ROLE, "nxsched")) as connection:
                for statement, parameters in statements[:1]:  # who asks, and the plans: once, and not with each
                    connection.execute(statement, parameters)

                def selects(connection: Any = connection, statements: Any = statements[1:]) -> None:  # noqa: ANN401 - psycopg's
                    for statement, parameters in statements:
                        connection.execute(statement, parameters).fetchall()

                def calculator(query: Any = query) -> object:  # noqa: ANN401 - a query
                    return list(find_slots(query))

                works: dict[str, Callable[[], object]] = {"ours": ours, "selects": selects, "calculator": calculator}
                took = in_turn(works, rounds * more, console)
        of_rounds = zip(took["ours"], took["selects"], took["calculator"], strict=True)
        ratio = statistics.median(ours / (selects + calculator) for ours, selects, calculator in of_rounds)
        held = held and ratio <= most
        times = (shown(statistics.median(took[one])) for one in ("ours", "selects", "calculator"))
        verdict = "holds" if ratio <= most else "BROKEN"
        table.add_row(name, f"{len(slots):,}", *times, f"{ratio:.2f}", f"{most:.2f}", verdict)
    console.print(table)
    return held


def booking(running: EmbeddedServer, each: int, rounds: int, console: Console, like: tuple[Any, Any]) -> bool:
    """Bookings a second against the same rows written by hand, medians; the ratio is the median of the rounds'."""
    table = Table(title="book against the same rows written by hand", title_justify="left")
    for column in ("Workers", "book", "By hand", "Ratio", "Quartiles", "At least", ""):
        table.add_column(column, justify="right")
    held = True
    for workers in (1, 8):
        pairs = throughput(running, workers, each, rounds, like)
        ratios = [ours / by_hand for by_hand, ours in pairs]
        low, ratio, high = statistics.quantiles(ratios, method="inclusive") if len(ratios) > 1 else ratios * 3
        held = held and ratio >= LEAST_OF_FLOOR
        verdict = "holds" if ratio >= LEAST_OF_FLOOR else "BROKEN"
        rates = (f"{statistics.median(pair[ours] for pair in pairs):,.0f} a second" for ours in (1, 0))
        spread = f"{low:.2f} to {high:.2f}"
        table.add_row(str(workers), *rates, f"{ratio:.2f}", spread, f"{LEAST_OF_FLOOR:.2f}", verdict)
    console.print(table)
    return held


def growth(sizes: list[int], each: int, console: Console) -> bool:
    """The same calls on servers that hold ten thousand, a hundred thousand and a million bookings, in turn."""
    with ExitStack() as stack:
        tenants: list[Tenant] = []
        for size in sizes:
            running = stack.enter_context(server())
            tenants.append(_history(stack.enter_context(Scheduler(running.url(APP_ROLE))), console))
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


def example(running: EmbeddedServer) -> tuple[Any, Any]:
    """The records of one real booking: the rows written by hand are as long."""
    with Scheduler(running.url(APP_ROLE)) as scheduler:
        tenant = always_open(scheduler, "bench", 8)
        tenant.book("visit-0", start=BEGIN - HALF, attendee=GRACE)
        with scheduler.engine.begin() as connection:
            connection.exec_driver_sql("SELECT set_config('nxsched.tenant_id', 'bench', true)")
            changes = connection.exec_driver_sql("SELECT changes FROM nxsched.audit_entry").scalar_one()
            payload = connection.exec_driver_sql("SELECT payload FROM nxsched.outbox_event").scalar_one()
    fill(running, "bench", 1, 2_000)  # a server that knows nothing of its tables plans for empty ones
    return changes, payload


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
            booking(running, given.each, given.rounds, console, example(running)),
            finding(running, given.rounds, console),
        ]
    held.append(growth([size for size in (10_000, 100_000, 1_000_000) if size <= given.most], 400, console))
    sys.exit(0 if all(held) else 1)


if __name__ == "__main__":
    main()
