"""Who gets the bookings under each strategy: 10,000 of them, given out by the code that chooses in `book` (rule 29).

Five hosts work different hours, and one joins after a third of the time. The requests are the same for all strategies,
and the same each time: each wants a random half hour of the two weeks to come, and another where nobody is free.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from nxsched import EventType, Strategy
from nxsched.domain.periods import Period
from nxsched.service.choosing import Held, Turns, choose

BOOKINGS: Final = 10_000
SEED: Final = 29
FIRST_DAY: Final = date(2026, 1, 5)
"""A Monday."""

WEEKS: Final = 104
AHEAD: Final = 14
"""Days within which somebody wants to come."""

WISHES: Final = 10
"""Starts that somebody tries, one after the other."""

SLOTS: Final = 16
"""Half hours of a day, from 09:00 to 17:00."""

SINCE: Final = 100
"""Bookings that are looked at after somebody has joined."""


@dataclass(frozen=True)
class Worker:
    """A host: what hours they keep, in words, as days of the week and as half hours; and the day they join."""

    slug: str
    hours: str
    days: frozenset[int] = frozenset(range(5))
    closes: int = SLOTS
    joins: int = 0

    def works(self, start: Start) -> bool:
        """Whether a start lies in their hours."""
        return start.day % 7 in self.days and start.slot < self.closes and start.day >= self.joins


class Start(NamedTuple):
    """A half hour of a day, both counted from 0."""

    day: int
    slot: int

    def period(self, per: Period) -> tuple[int, ...]:
        """Its year, or its year and month, in which bookings are counted."""
        found = FIRST_DAY + timedelta(days=self.day)
        return (found.year,) if per == "year" else (found.year, found.month)


class Request(NamedTuple):
    """The day on which somebody asks, and the starts they would like, best first."""

    day: int
    wishes: Sequence[Start]


class Given(NamedTuple):
    """A booking: the day on which it was asked for, and who got it."""

    day: int
    host: str


TEAM: Final = (
    Worker("ada", "Mon to Fri"),
    Worker("bob", "Mon to Fri"),
    Worker("cyd", "mornings", closes=SLOTS // 2),
    Worker("dan", "Tue and Thu", days=frozenset({1, 3})),
    Worker("eve", "Mon to Fri, from week 35", joins=WEEKS * 7 // 3),
)

STRATEGIES: Final = {
    "least recently booked": Strategy(),
    "fewest in the month": Strategy(by="fewest_bookings", per="month"),
    "fewest in the year": Strategy(by="fewest_bookings", per="year"),
    "weighted": Strategy(by="weighted", per="month", weights={"bob": 2}),
    "priority": Strategy(by="priority"),
}


def requests() -> list[Request]:
    """All that is asked for, in the order of time."""
    rng = random.Random(SEED)
    days = sorted(rng.randrange(WEEKS * 7) for _ in range(BOOKINGS))
    return [Request(day, [_wish(rng, day) for _ in range(WISHES)]) for day in days]


def _wish(rng: random.Random, day: int) -> Start:
    """A half hour of a working day to come."""
    wanted = [later for later in range(day + 1, day + 1 + AHEAD) if later % 7 < 5]  # noqa: PLR2004 - Monday to Friday
    return Start(rng.choice(wanted), rng.randrange(SLOTS))


def given_out(strategy: Strategy, asked: Sequence[Request]) -> list[Given]:
    """Who gets each booking."""
    event_type = EventType(duration=timedelta(minutes=30), hosts=[one.slug for one in TEAM], strategy=strategy)
    taken: dict[Start, set[str]] = defaultdict(set)
    counts: dict[tuple[int, ...], Counter[str]] = defaultdict(Counter)
    latest: dict[str, int] = {}
    found: list[Given] = []
    for no, request in enumerate(asked):
        free = ((start, _free(request, start, taken[start])) for start in request.wishes)
        start, able = next((start, able) for start, able in free if able)
        turns = Turns(counts[start.period(strategy.per)], latest)
        choice = choose(event_type, able, turns, None, preferred=able, held=Held())
        assert choice is not None  # noqa: S101 - somebody is free
        (host,) = choice.hosts
        taken[start].add(host)
        counts[start.period(strategy.per)][host] += 1
        latest[host] = no
        found.append(Given(request.day, host))
    return found


def _free(request: Request, start: Start, taken: set[str]) -> set[str]:
    """Who works then, is in the team already, and has nothing else."""
    return {one.slug for one in TEAM if one.works(start) and request.day >= one.joins and one.slug not in taken}


def at_work(asked: Sequence[Request]) -> dict[str, float]:
    """By host: the part of the first wishes that lie in their hours."""
    found = Counter(slug for request in asked for slug in _free(request, request.wishes[0], set()))
    return {one.slug: found[one.slug] / len(asked) for one in TEAM}


def split_evenly(asked: Sequence[Request]) -> dict[str, float]:
    """By host: their part, if each booking were split among all who are at work then."""
    found: dict[str, float] = dict.fromkeys((one.slug for one in TEAM), 0.0)
    for request in asked:
        there = _free(request, request.wishes[0], set())
        for slug in there:
            found[slug] += 1 / len(there) / len(asked)
    return found


def table(asked: Sequence[Request], outcomes: dict[str, list[Given]]) -> Table:
    """Each host's share of the bookings beside what they were there for."""
    found = Table(title=f"Shares of {BOOKINGS:,} bookings", title_justify="left")
    found.add_column("Host", no_wrap=True)
    for column in ("At work", "Split evenly", *outcomes):
        found.add_column(column.capitalize(), justify="right")
    there, even = at_work(asked), split_evenly(asked)
    shares = [Counter(one.host for one in given) for given in outcomes.values()]
    for one in TEAM:
        parts = [share[one.slug] / BOOKINGS for share in shares]
        found.add_row(
            f"{one.slug}: {one.hours}", *(f"{part:.1%}" for part in (there[one.slug], even[one.slug], *parts))
        )
    new = TEAM[-1]
    since = next(no for no, request in enumerate(asked) if request.day >= new.joins)
    window = slice(since, since + SINCE)
    firsts = [sum(one.host == new.slug for one in given[window]) / SINCE for given in outcomes.values()]
    parts = [at_work(asked[window])[new.slug], split_evenly(asked[window])[new.slug], *firsts]
    found.add_row(f"{new.slug}, of the first {SINCE} then", *(f"{part:.1%}" for part in parts))
    return found


STEP: Final = 14
"""Days of which the picture draws one point."""

MOST: Final = 70
"""Percent at the upper end of all panels."""

COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000")
"""Told apart by those who see few colours, too (Okabe and Ito)."""


def draw(outcomes: dict[str, list[Given]], path: Path) -> None:
    """Draw each host's share of the bookings over time, a panel for each strategy; the same bytes each time."""
    settings: dict[Any, Any] = {"svg.hashsalt": "nxsched", "svg.fonttype": "none", "font.size": 9}
    with mpl.rc_context(settings):
        figure = Figure(figsize=(9, 5), layout="constrained", facecolor="white")
        *panels, last = figure.subplots(2, 3, sharex=True, sharey=True).flat
        for axes, (name, given) in zip(panels, outcomes.items(), strict=True):
            _panel(axes, name, given)
        last.axis("off")  # its place is for the legend
        labels = [f"{one.slug}: {one.hours}" for one in TEAM]
        last.legend(panels[0].lines[: len(TEAM)], labels, loc="center", frameon=False)
        figure.supxlabel("weeks")
        figure.supylabel("share of the bookings of two weeks")
        figure.savefig(path, format="svg", metadata={"Date": None, "Title": "Whose turn it is, by strategy"})


def _panel(axes: Axes, name: str, given: Sequence[Given]) -> None:
    bins = [Counter[str]() for _ in range(WEEKS * 7 // STEP)]
    for one in given:
        bins[one.day // STEP][one.host] += 1
    weeks = [no * STEP / 7 for no in range(len(bins))]
    for colour, worker in zip(COLOURS, TEAM, strict=True):
        shares = [100 * found[worker.slug] / found.total() for found in bins]
        axes.plot(weeks, shares, color=colour, linewidth=1.3)
    axes.axvline(TEAM[-1].joins / 7, color="#999999", linewidth=0.8, linestyle=":")
    weights = ": bob's is 2" if name == "weighted" else ""
    axes.set_title(f"{name}{weights}", loc="left")
    axes.yaxis.set_major_formatter("{x:.0f} %")
    axes.set_xlim(0, weeks[-1])
    axes.set_ylim(0, MOST)
    axes.tick_params(labelbottom=True)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Give out the bookings by each strategy, and print the shares."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="Example: python benchmarks/fairness.py --picture docs/images/fairness.svg"
    )
    parser.add_argument("--picture", type=Path, metavar="FILE", help="also draw the shares over time, as SVG")
    picture: Path | None = parser.parse_args().picture
    asked = requests()
    outcomes = {name: given_out(strategy, asked) for name, strategy in STRATEGIES.items()}
    Console(width=118).print(table(asked, outcomes))
    if picture is not None:
        draw(outcomes, picture)


if __name__ == "__main__":
    main()
