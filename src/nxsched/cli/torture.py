"""`nxsched torture`: breaks everything around nxsched while it is used, and proves that what it promises has held."""

from __future__ import annotations

import random
import signal
import sys
from collections import Counter

import click
from rich.console import Console
from rich.table import Table

from nxsched.cli.errors import one_line_errors


@click.command()
@click.option("--seconds", default=60, show_default=True, type=click.IntRange(10, 86_400), help="For how long.")
@click.option("--workers", default=4, show_default=True, type=click.IntRange(1, 64), help="Processes that book.")
@click.option("--seed", type=click.IntRange(0), help="What breaks when; without it a new one, which is printed.")
@click.option("--every", default=2.0, show_default=True, type=click.FloatRange(0.1), help="Seconds between two faults.")
@click.option(
    "--url",
    metavar="URL",
    help="Your server, as its superuser: postgresql://postgres@host/postgres. Without it one is started for this.",
)
@click.option("--redis", metavar="URL", help="Your Redis; without it one is started, where there is a redis-server.")
def torture(seconds: int, workers: int, seed: int | None, every: float, url: str | None, redis: str | None) -> None:
    """Book from many processes while servers stop, connections break and processes die; then check all of it.

    It makes a database and two logins of its own, and removes them; on a server that was named it touches nothing else,
    but keeps it busy. Exit status: 0, all that nxsched promises has held; 1, something has not; 2, it could not begin.

    \b
    Examples:
      nxsched torture --seconds 60
      nxsched torture --seconds 1800 --workers 8 --url postgresql://postgres@localhost/postgres
    """  # noqa: D301 - click ends the wrapping of lines at a backspace
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was made is removed, too
    seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    console = Console(highlight=False, markup=False, emoji=False)
    with one_line_errors():
        from nxsched.torture import torture as run  # noqa: PLC0415 - nor should `nxsched slots` wait for it

        console.print(f"Seed {seed}: {seconds} seconds, {workers} workers.")
        report = run(
            seconds=seconds,
            workers=workers,
            seed=seed,
            every=every,
            url=url,
            redis=redis,
            tell=lambda at, what: console.print(f"{at:7.1f} s  {what}"),
        )
    console.print(_table("Calls", report.calls), _table("What came of their tries", report.ends), sep="\n")
    console.print(_table("Reads, and sweeps", report.reads))
    console.print(_table("Faults", report.faults))
    console.print(
        f"{report.operations:,} calls by {report.workers} processes made {report.bookings:,} bookings and holds;"
    )
    console.print(f"{report.asked_again:,} of them had no answer, and were made once more when all was over.")
    received = ", ".join(f"{times:,} {what}" for what, times in report.received.most_common())
    share = report.repeats / max(1, report.received.total())
    console.print(f"{report.relays} relays delivered {received}; {share:.1%} of them were repeats.")
    console.print(f"What they had when all were killed, others had after {report.taken_up:.1f} s.")
    if report.waited:
        console.print(
            f"Of 100 tries that a fault may have held up, 99 took {report.soon:.2f} s at most, its own time apart."
        )
    for promise, found in report.violations[:_SHOWN]:
        console.print(f"VIOLATED: {promise}: {found}")
    console.print(f"Violations: {len(report.violations)}")
    sys.exit(1 if report.violations else 0)


_SHOWN = 100


def _table(title: str, counted: Counter[str]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(title, overflow="fold", min_width=42)
    table.add_column("", justify="right")
    for what, times in counted.most_common():
        table.add_row(what, f"{times:,}")
    return table
