"""Works that take turns, and tables of how they compare: what slows the machine for a while slows all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.progress import track
from rich.table import Table


def in_turn(works: Mapping[str, Callable[[], float]], rounds: int, console: Console) -> dict[str, list[float]]:
    """What each work gives in so many rounds, all of them once in each; in every other round the last begins.

    One round before them warms up.
    """
    found: dict[str, list[float]] = {name: [] for name in works}
    order = list(works)
    for n in track(range(rounds + 1), "Measuring", console=console, transient=True):
        for name in order:
            value = works[name]()
            if n:
                found[name].append(value)
        order.reverse()
    return found


def fastest(work: Callable[[], object]) -> float:
    """Seconds of the fastest of three."""
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times)


class Compared(NamedTuple):
    """How often a second something was done in each round, and something else in the same; `least` is the bound."""

    what: str
    rates: Sequence[float]
    other: str
    of_other: Sequence[float]
    least: float | None = None


def compare(title: str, rows: Iterable[Compared], console: Console) -> bool:
    """Print the medians, and the median of the rounds' own ratios; says whether the bounds hold."""
    table = Table(title=title, title_justify="left")
    for column in ("What", "A second", "Against", "A second", "Ratio", "Quartiles", "At least", ""):
        table.add_column(column, justify="left" if column in {"What", "Against", ""} else "right")
    held = True
    for what, rates, other, of_other, least in rows:
        ratios = [mine / theirs for mine, theirs in zip(rates, of_other, strict=True)]
        low, ratio, high = statistics.quantiles(ratios, method="inclusive") if len(ratios) > 1 else ratios * 3
        holds = least is None or ratio >= least
        held = held and holds
        bound = ("", "") if least is None else (f"{least:.2f}", "holds" if holds else "BROKEN")
        medians = [f"{statistics.median(some):,.0f}" for some in (rates, of_other)]
        table.add_row(what, medians[0], other, medians[1], f"{ratio:.2f}", f"{low:.2f} to {high:.2f}", *bound)
    console.print(table)
    return held
