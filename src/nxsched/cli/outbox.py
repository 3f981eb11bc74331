"""`nxsched outbox`: look at what is to be delivered, have it tried again, give it up."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nxsched.cli.errors import one_line_errors
from nxsched.domain.outbox import OutboxEvent, OutboxState
from nxsched.errors import EventNotFound, InvalidInput

if TYPE_CHECKING:
    from nxsched.scheduler import Scheduler

worker_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--worker-url",
    metavar="URL",
    envvar="NXSCHED_WORKER_URL",
    show_envvar=True,
    help="The login of the worker: postgresql://worker@host/database; a password is better kept in PGPASSFILE.",
)
_IDS = click.argument("ids", metavar="ID...", nargs=-1, required=True)


@click.group()
def outbox() -> None:
    """Look at the events that are to be delivered, have them tried again, or give them up.

    Log in as the worker, which sees the events of all tenants. Exit status: 0, done; 2, it could not be done.

    \b
    Examples:
      nxsched outbox status --worker-url postgresql://worker@localhost/app
      nxsched outbox list --state dead
    """  # noqa: D301 - click ends the wrapping of lines at a backspace


@outbox.command(name="list")
@worker_option
@click.option("--tenant", metavar="ID", help="Only those of this tenant.")
@click.option("--booking", metavar="ID", help="Only those of this booking.")
@click.option(
    "--state",
    type=click.Choice([one.value for one in OutboxState]),
    help="Only those; else waiting, leased and dead ones.",
)
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1_000), help="The first so many.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one event a line, with its payload.")
def list_events(
    worker_url: str | None, tenant: str | None, booking: str | None, state: str | None, limit: int, *, as_json: bool
) -> None:
    """List events that are not delivered yet, as they happened.

    \b
    Examples:
      nxsched outbox list
      nxsched outbox list --state dead --json | jq -r .id | xargs nxsched outbox retry
    """  # noqa: D301 - see above
    with one_line_errors(database="--worker-url"), worker_scheduler(worker_url) as scheduler:
        page = scheduler.outbox.events(tenant=tenant, booking=booking, state=state, limit=limit)
        if as_json:
            for one in page:
                click.echo(json.dumps(_plain(one)))  # in ASCII: a terminal obeys some of the other characters
        elif page.items:
            _console().print(_table(page))
        else:
            click.echo("There are no such events.")
        if page.after:
            click.echo(f"There are more: --limit {limit} shows the first ones.", err=True)


@outbox.command()
@worker_option
@_IDS
def show(worker_url: str | None, ids: tuple[str, ...]) -> None:
    """Show events with their payloads, as JSON.

    \b
    Example:
      nxsched outbox show 0198a1b2-0000-7000-8000-000000000001
    """  # noqa: D301 - see above
    with one_line_errors(database="--worker-url"), worker_scheduler(worker_url) as scheduler:
        for id_ in ids:
            click.echo(json.dumps(_plain(scheduler.outbox.event(id_)), indent=2))


@outbox.command()
@worker_option
@_IDS
def retry(worker_url: str | None, ids: tuple[str, ...]) -> None:
    """Have events delivered at once, with all their attempts before them: dead, discarded or waiting ones.

    \b
    Example:
      nxsched outbox retry 0198a1b2-0000-7000-8000-000000000001
    """  # noqa: D301 - see above
    with one_line_errors(database="--worker-url"), worker_scheduler(worker_url) as scheduler:
        _each(ids, lambda id_: f"{scheduler.outbox.retry(id_).id} waits to be delivered.")


@outbox.command()
@worker_option
@_IDS
def discard(worker_url: str | None, ids: tuple[str, ...]) -> None:
    """Give dead or waiting events up; later ones of their bookings are delivered then.

    \b
    Example:
      nxsched outbox discard 0198a1b2-0000-7000-8000-000000000001
    """  # noqa: D301 - see above
    with one_line_errors(database="--worker-url"), worker_scheduler(worker_url) as scheduler:
        _each(ids, lambda id_: f"{scheduler.outbox.discard(id_).id} is discarded.")


@outbox.command()
@worker_option
@click.option("--tenant", metavar="ID", help="Only of this tenant.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; the lag in seconds.")
def status(worker_url: str | None, tenant: str | None, *, as_json: bool) -> None:
    """Say how much is not delivered, and how old it is.

    \b
    Example:
      nxsched outbox status --json
    """  # noqa: D301 - see above
    with one_line_errors(database="--worker-url"), worker_scheduler(worker_url) as scheduler:
        found = scheduler.outbox.status(tenant=tenant)
        lag = found.lag.total_seconds()
        if as_json:
            click.echo(json.dumps({"depth": found.depth, "lag": lag, "failing": found.failing, "dead": found.dead}))
            return
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_row("not delivered", f"{found.depth:,}")
        table.add_row("the oldest of them", f"{timedelta(seconds=round(lag))} ago" if found.depth else "-")
        table.add_row("tried in vain so far", f"{found.failing:,}")
        table.add_row("dead", f"{found.dead:,}")
        _console().print(table)


def _table(events: Iterable[OutboxEvent]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("Id", "Tenant", "Kind", "Version", "Happened", "State", "Attempts", "Error"):
        table.add_column(column, overflow="fold")
    for one in events:
        happened = f"{one.occurred_at:%Y-%m-%d %H:%M:%SZ}"
        cells = (one.id, one.tenant, one.kind, str(one.version), happened, one.state.value, str(one.attempts))
        table.add_row(*map(Text, cells), Text(one.error or ""))
    return table


def _each(ids: tuple[str, ...], change: Callable[[str], str]) -> None:
    """Change all of them that can be changed, and name the others; exit status 2 where there are some."""
    failed = False
    for id_ in ids:
        try:
            click.echo(change(id_))
        except (EventNotFound, InvalidInput) as error:
            if isinstance(error, InvalidInput) and error.field != "id":
                raise
            click.echo(" ".join(str(error).split()), err=True)
            failed = True
    if failed:
        sys.exit(2)


def _plain(event: OutboxEvent) -> dict[str, Any]:
    return {
        "id": event.id,
        "tenant": event.tenant,
        "kind": event.kind,
        "booking_id": event.booking_id,
        "version": event.version,
        "occurred_at": event.occurred_at.isoformat(),
        "state": event.state.value,
        "attempts": event.attempts,
        "due_at": event.due_at.isoformat(),
        "error": event.error,
        "leased_by": event.leased_by,
        "leased_until": event.leased_until and event.leased_until.isoformat(),
        "payload": event.payload,
    }


def _console() -> Console:
    return Console(highlight=False, markup=False, emoji=False)


def worker_scheduler(worker_url: str | None) -> Scheduler:
    """A scheduler on the worker's login. A missing one is an error of usage."""
    if not worker_url:
        raise click.UsageError("Name the database with --worker-url or in NXSCHED_WORKER_URL.")
    from nxsched.scheduler import Scheduler  # noqa: PLC0415 - nor should `nxsched slots` wait for it

    return Scheduler(worker_url)
