"""`nxsched sweep`: tidy up what is over."""

from __future__ import annotations

import click

from nxsched.cli.errors import one_line_errors
from nxsched.cli.outbox import worker_option, worker_scheduler


@click.command()
@worker_option
@click.option(
    "--keep-days",
    default=30,
    show_default=True,
    type=click.IntRange(0),
    help="Keep what was delivered for so many days.",
)
def sweep(worker_url: str | None, keep_days: int) -> None:
    """End holds and requests whose time is over, and delete what nobody needs any more, of all tenants.

    Run it every minute or every few minutes: so late may the events of what ends by itself be. Several at a time do no
    harm. Exit status: 0, done; 2, it could not be done.

    \b
    Examples:
      nxsched sweep --worker-url postgresql://worker@localhost/app
      nxsched sweep --keep-days 7
    """  # noqa: D301 - click ends the wrapping of lines at a backspace
    with one_line_errors(database="--worker-url", keep_days="--keep-days"), worker_scheduler(worker_url) as scheduler:
        done = scheduler.sweep(keep_days=keep_days)
    click.echo(
        f"Ended: {done.holds:,} holds, {done.pending:,} requests."
        f" Deleted: {done.events:,} events, {done.reminders:,} reminders, {done.keys:,} idempotency keys."
    )
