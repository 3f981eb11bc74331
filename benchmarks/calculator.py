"""The calculator against its bounds: `make bench`. Ratios of times measured in one run, in turn; no absolute claims.

Cases A to E and the floor are those of docs/benchmarks.md. Each round times every case, so that a slow moment of the
machine meets all of them; what counts is the fastest of the rounds.
"""

from __future__ import annotations

import argparse
import math
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple

from inputs import FIRST_DAY, SLOT, STEP, busy_until_the_last_week, scenario, short_blocks
from rich.console import Console
from rich.progress import track
from rich.table import Table
from slotify import AvailabilityEngine, BookingPolicy, SlotGenerator
from slotify.policy import BusyPeriod

from nxsched.slots import SlotQuery, explain, find_slots
from nxsched.slots.scenario import load

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Work = Callable[[], object]


class Plain(NamedTuple):
    """A slot as the floor makes it."""

    start: datetime
    end: datetime
    hosts: tuple[str, ...]
    seats_left: int


def floor(query: SlotQuery) -> Work:
    """Only make the slots of an answer that is known: what no calculator can do without."""
    starts = [int(slot.start.timestamp()) for slot in find_slots(query)]
    hosts = find_slots(query)[0].hosts
    return lambda: [Plain(t := EPOCH + timedelta(seconds=seconds), t + SLOT, hosts, 1) for seconds in starts]


def answer(query: SlotQuery, limit: int | None = None) -> Work:
    """The whole of the work on a query that is loaded."""
    return lambda: list(find_slots(query, limit=limit))


def rival(asked: dict[str, object]) -> Work:
    """Case A on `slotify-scheduling`; busy periods are widened, since its buffers keep off its own bookings only."""
    buffer = timedelta(minutes=5)
    busy = [
        BusyPeriod(datetime.fromisoformat(start) - buffer, datetime.fromisoformat(end) + buffer)
        for start, end in asked["hosts"]["host-0"]["busy"]  # type: ignore[index]
    ]
    generator = SlotGenerator(
        start="09:00", end="17:00", duration=30, interval=15, timezone="Europe/London", weekdays=range(5)
    )
    engine = AvailabilityEngine(generator, policy=BookingPolicy(busy_periods=tuple(busy)))
    return lambda: engine.upcoming_available(30, now=FIRST_DAY)


def fastest(works: dict[str, Work], rounds: int, console: Console) -> dict[str, float]:
    """Seconds of the fastest of so many rounds, all works in turn in each round."""
    best = dict.fromkeys(works, math.inf)
    for work in works.values():
        work()
    for _ in track(range(rounds), "Measuring", console=console, transient=True):
        for name, work in works.items():
            for _ in range(3):  # the first of them finds the caches cold
                begun = time.perf_counter()
                work()
                best[name] = min(best[name], time.perf_counter() - begun)
    return best


def bounds(rounds: int, console: Console) -> bool:
    """Measure A to E, print them with their bounds, and say whether all hold."""
    a, b = load(scenario()), load(scenario(days=365, busy=2000))
    c, d = load(scenario(hosts=100)), load(scenario(hosts=10, busy=20, need="all"))
    works = {
        "A": answer(a), "floor A": floor(a), "B": answer(b), "floor B": floor(b), "C": answer(c), "D": answer(d),
        "E1": answer(b, limit=3), "E2": answer(load(busy_until_the_last_week()), limit=3),
        "slotify A": rival(scenario()),
    }  # fmt: skip
    theirs = [slot.start_utc for slot in works["slotify A"]()]  # type: ignore[attr-defined]
    if theirs != [slot.start for slot in find_slots(a)]:
        sys.exit("slotify-scheduling gives another answer to A: the comparison would mean nothing")
    took = fastest(works, rounds, console)
    rows = [
        ("A", "1 host, 30 days, 200 busy", "A", "floor A", 2.0),
        ("B", "1 host, 365 days, 2,000 busy", "B", "floor B", 2.0),
        ("C", "any of 100 hosts, 30 days, 200 busy each", "C", "A", 75.0),
        ("D", "all of 10 hosts, 30 days, 20 busy each", "D", "A", 4.5),
        ("E1", "limit=3 on B", "E1", "B", 1 / 10),
        ("E2", "limit=3 on B, busy until the last week", "E2", "B", 1 / 3),
    ]
    table = Table(title="The calculator and its bounds", title_justify="left")
    for column in ("Case", "What", "Slots", "Time", "Against", "Ratio", "At most", ""):
        table.add_column(column, justify="right" if column in {"Slots", "Time", "Ratio", "At most"} else "left")
    held = True
    for name, what, mine, other, most in rows:
        ratio = took[mine] / took[other]
        held = held and ratio <= most
        verdict = "holds" if ratio <= most else "BROKEN"
        count = f"{len(works[mine]()):,}"  # type: ignore[arg-type]
        table.add_row(name, what, count, shown(took[mine]), other, f"{ratio:.3f}", f"{most:.3f}", verdict)
    faster = took["slotify A"] / took["A"]
    table.add_row(
        "", "slotify-scheduling on A", f"{len(theirs):,}", shown(took["slotify A"]), "A", f"{faster:.0f}", "", ""
    )
    console.print(table)
    return held


def beside(rounds: int, console: Console) -> None:
    """What the bounds leave out: reading a scenario, making its query, and the explanation of one start."""
    table = Table(title="Beside the answer", title_justify="left")
    for column in ("Case", "Read the scenario", "Make the query", "Answer", "Explain a start"):
        table.add_column(column, justify="left" if column == "Case" else "right")
    for name, asked in (("A", scenario()), ("B", scenario(days=365, busy=2000)), ("C", scenario(hosts=100))):
        query = load(asked)
        given = {one.name: getattr(query, one.name) for one in fields(query) if one.init}
        busy = query.busy["host-0"][0][0]
        took = fastest(
            {
                "read": partial(load, asked), "make": partial(SlotQuery, **given), "answer": answer(query),
                "explain": partial(explain, query, busy),
            },
            rounds,
            console,
        )  # fmt: skip
        table.add_row(name, *(shown(took[what]) for what in ("read", "make", "answer", "explain")))
    console.print(table)


def growth(rounds: int, console: Console) -> bool:
    """Double the busy blocks, the days, the hosts: the time may double too, and the fitted exponent say 1."""
    series: dict[str, dict[int, dict[str, object]]] = {
        "busy blocks, 1 host, 364 days": {260 * n: short_blocks(364, 260 * n) for n in (8, 16, 32, 64)},
        "days, 1 host, 6 busy a day": {n: scenario(days=n, busy=6 * n * 5 // 7) for n in (91, 182, 364, 728)},
        "hosts, any of them, 30 days": {n: scenario(hosts=n) for n in (25, 50, 100, 200)},
        "hosts, all of them, 30 days": {n: scenario(hosts=n, busy=5, need="all") for n in (10, 20, 40, 80)},
    }
    table = Table(title="Growth: time when the size doubles", title_justify="left")
    for column in ("What grows", "Sizes", "Times", "Exponent", "At most"):
        table.add_column(column)
    held = True
    for what, sizes in series.items():
        took = fastest({str(n): answer(load(asked)) for n, asked in sizes.items()}, rounds, console)
        exponent = slope([math.log(n) for n in sizes], [math.log(seconds) for seconds in took.values()])
        held = held and exponent <= MOST_EXPONENT
        times = "  ".join(shown(seconds) for seconds in took.values())
        table.add_row(what, "  ".join(took), times, f"{exponent:.2f}", f"{MOST_EXPONENT:.2f}")
    console.print(table)
    return held


MOST_EXPONENT = 1.1
"""Linear, and a tenth for the noise of a shared machine."""


def slope(xs: list[float], ys: list[float]) -> float:
    """The slope of the line of least squares."""
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)


def shown(seconds: float) -> str:
    """A time in the unit that suits it."""
    return f"{seconds * 1e6:.0f} µs" if seconds < 1e-3 else f"{seconds * 1e3:.2f} ms"  # noqa: PLR2004 - a millisecond


def processor() -> str:
    """What the processor calls itself."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} cores of {names[0]}" if names else platform.machine()


def main() -> None:
    """Run the benchmark; exit status 1 where a bound is broken."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="Example: make bench, or python benchmarks/calculator.py -n 20"
    )
    parser.add_argument("-n", "--rounds", type=int, default=40, help="rounds to take the fastest of (default: 40)")
    rounds = parser.parse_args().rounds
    console = Console(width=118)
    console.print(f"Python {platform.python_version()}, {platform.system()}, {processor()}; steps {STEP}, slots {SLOT}")
    held = [bounds(rounds, console), growth(max(rounds // 4, 3), console)]
    beside(max(rounds // 8, 3), console)
    sys.exit(0 if all(held) else 1)


if __name__ == "__main__":
    main()
