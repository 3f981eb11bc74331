"""`nxsched migrate` and `nxsched doctor`: look after the tables of a database."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nxsched.cli.errors import one_line_errors

if TYPE_CHECKING:
    from nxsched.scheduler import Scheduler

_URL = click.option(
    "--url",
    metavar="URL",
    envvar="NXSCHED_URL",
    show_envvar=True,
    help="The database: postgresql://role@host/database; a password is better kept in PGPASSFILE.",
)


@click.command()
@_URL
@click.option("--to", default="head", show_default=True, metavar="REVISION", help="Stop at this revision.")
@click.option("--app-role", metavar="ROLE", help="Grant the rights of the application to this role.")
@click.option("--worker-role", metavar="ROLE", help="Grant the rights of the worker to this role.")
@click.option("--sql", "as_sql", is_flag=True, help="Print the statements for a new database, and run nothing.")
def migrate(url: str | None, to: str, app_role: str | None, worker_role: str | None, *, as_sql: bool) -> None:
    """Make the tables, or bring them up to date.

    Log in as the role that is to own them, and name the role of the application: it should be another one.

    \b
    Examples:
      nxsched migrate --url postgresql://owner@localhost/app --app-role app --worker-role worker
      nxsched migrate --sql --app-role app > nxsched.sql
    """  # noqa: D301 - click ends the wrapping of lines at a backspace
    from nxsched.store import migrate as migrations  # noqa: PLC0415 - nor should `nxsched slots` wait for it
    from nxsched.store.conflicts import translated  # noqa: PLC0415 - see above

    with one_line_errors():
        if as_sql:
            click.echo(migrations.sql(to, app_role=app_role, worker_role=worker_role), nl=False)
            return
        with _scheduler(url) as scheduler:
            scheduler.migrate(to=to, app_role=app_role, worker_role=worker_role)
            with translated(), scheduler.engine.connect() as connection:
                click.echo(f"The tables are at revision {migrations.current(connection)}.")


@click.command()
@_URL
@click.option(
    "--worker-url",
    metavar="URL",
    envvar="NXSCHED_WORKER_URL",
    show_envvar=True,
    help="The login of the worker, if there is one: it is looked at too.",
)
@click.option(
    "--redis",
    "redis_url",
    metavar="URL",
    envvar="NXSCHED_REDIS",
    show_envvar=True,
    help="The Redis that gives locks and counts attempts, if there is one: redis://host/0.",
)
def doctor(url: str | None, worker_url: str | None, redis_url: str | None) -> None:
    """Say what is wrong with a database, and what to do.

    Log in as the application does: it is looked at with the application's eyes. Exit status: 0, all is well; 1,
    something is not; 2, it cannot be reached.

    \b
    Example:
      nxsched doctor --url postgresql://app@localhost/app --worker-url postgresql://worker@localhost/app
    """  # noqa: D301 - click ends the wrapping of lines at a backspace
    from nxsched.store.conflicts import translated  # noqa: PLC0415 - see above
    from nxsched.store.doctor import examine, examine_worker  # noqa: PLC0415 - see above

    with one_line_errors(), _scheduler(url) as scheduler:
        with translated(), scheduler.engine.connect() as connection:
            findings = list(examine(connection, datetime.now(UTC)))
            app = connection.exec_driver_sql("SELECT current_user").scalar_one()
        if worker_url:
            with translated(), _scheduler(worker_url) as worker, worker.engine.connect() as connection:
                findings += examine_worker(connection, app)
        if redis_url:
            from nxsched.locking.doctor import examine as examine_redis  # noqa: PLC0415 - its package is optional

            findings += examine_redis(redis_url)
            if find_spec("limits") and all(one.well for one in findings if one.name == "redis"):
                from nxsched.ratelimit.doctor import examine as examine_limits  # noqa: PLC0415 - as above

                findings.append(examine_limits(redis_url))
        table = Table(box=None, pad_edge=False)
        for column in ("", "What", "Found"):
            table.add_column(column, overflow="fold")
        for one in findings:
            table.add_row(
                "ok" if one.well else "NO", one.name, Text(one.found if one.well else f"{one.found}\n{one.advice}")
            )
        Console(highlight=False, markup=False, emoji=False).print(table)
        sys.exit(0 if all(one.well for one in findings) else 1)


def _scheduler(url: str | None) -> Scheduler:
    if not url:
        raise click.UsageError("Name the database with --url or in NXSCHED_URL.")
    from nxsched.scheduler import Scheduler  # noqa: PLC0415 - see above

    return Scheduler(url)
