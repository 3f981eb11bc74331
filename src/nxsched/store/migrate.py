"""Bring the tables up to date, with Alembic, beside or inside the application's own migrations."""

from __future__ import annotations

from importlib.resources import files
from io import StringIO
from pathlib import Path
from typing import Any, Final

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text

from nxsched.domain.checks import shown
from nxsched.errors import InvalidInput, SchemaOutdated
from nxsched.store.roles import Roles, grant, statements
from nxsched.store.schema import SCHEMA, VERSION_TABLE

ENCODING: Final = "UTF8"
"""Of the database, as PostgreSQL calls it."""

_LOCK: Final = 0x6E787363  # "nxsc": two upgrades at a time go one after the other


def head() -> str:
    """The newest revision, which this version of nxsched works with."""
    newest = _scripts().get_current_head()
    assert newest is not None  # noqa: S101 - there is a first revision
    return newest


def current(connection: Connection) -> str | None:
    """The revision of the database; `None` where there are no tables yet."""
    if connection.execute(text(f"SELECT to_regclass('{SCHEMA}.{VERSION_TABLE}')")).scalar() is None:
        return None
    found = connection.execute(text(f"SELECT version_num FROM {SCHEMA}.{VERSION_TABLE}")).scalar()
    return str(found) if found is not None else None


def verify(connection: Connection) -> None:
    """Raise `SchemaOutdated`, which holds the command to run, unless the database is at the newest revision."""
    found = current(connection)
    if found != head():
        raise SchemaOutdated(found=found, wanted=head())


def upgrade(
    connection: Connection,
    to: str = "head",
    *,
    app_role: str | None = None,
    worker_role: str | None = None,
    lock_timeout: int | None = None,
) -> None:
    """Bring the tables up to the revision `to`, and grant their least rights to the roles that are named.

    Runs in the transaction of `connection` and commits nothing, so that an application's own Alembic revision can call
    it with `op.get_bind()`. The role that runs it becomes the owner of the tables. Upgrades of several processes wait
    for one another. `lock_timeout`, in milliseconds, is how long a statement may wait for a table that somebody uses,
    while all who come later wait behind it. Raises `InvalidInput` for a revision that is not known, for a role that
    does not exist, for a database that is not in UTF-8, and where somebody else owns the tables, and `SchemaOutdated`
    for tables of a later version.
    """
    options = _options(to)
    roles = Roles(app=app_role, worker=worker_role)
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    roles.check(connection)
    if lock_timeout is not None:
        connection.execute(text("SELECT set_config('lock_timeout', :wait, true)"), {"wait": str(lock_timeout)})
    _refuse_other_encodings(connection)
    _refuse_strangers(connection)
    found = current(connection)
    if found is not None and found > head():
        raise SchemaOutdated(found=found, wanted=head())
    # A filter of row-level security over the owner's own statements would let a backfill do nothing; this raises.
    before = connection.execute(text("SELECT current_setting('row_security')")).scalar_one()
    connection.execute(text("SELECT set_config('row_security', 'off', true)"))
    if connection.execute(text("SELECT to_regnamespace(:name)"), {"name": SCHEMA}).scalar() is None:
        connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
    context = MigrationContext.configure(connection, opts=options)
    context.run_migrations(op=Operations(context))
    grant(connection, roles)
    connection.execute(text("SELECT set_config('row_security', :before, true)"), {"before": before})


def sql(to: str = "head", *, app_role: str | None = None, worker_role: str | None = None) -> str:
    """The statements of an upgrade from nothing, for who wants to read them or run them by hand, in one transaction."""
    out = StringIO()
    options = {**_options(to), "as_sql": True, "output_buffer": out}
    context = MigrationContext.configure(dialect_name="postgresql", opts=options)
    out.write(f"BEGIN;\n\nCREATE SCHEMA IF NOT EXISTS {SCHEMA};\n\n")
    context.run_migrations(op=Operations(context))
    for statement in statements(Roles(app=app_role, worker=worker_role)):
        out.write(f"{statement};\n\n")
    out.write("COMMIT;\n")
    return out.getvalue()


def _refuse_other_encodings(connection: Connection) -> None:
    """Names of people are text of any script; elsewhere some could not be written, or would be read as bytes."""
    found = connection.execute(text("SHOW server_encoding")).scalar_one()
    if found != ENCODING:
        reason = (
            f"is a database in {found}, and nxsched needs {ENCODING}: make one with"
            f" CREATE DATABASE … ENCODING '{ENCODING}' TEMPLATE template0"
        )
        raise InvalidInput(field="url", reason=reason)


def _refuse_strangers(connection: Connection) -> None:
    """Who does not own the tables could change nothing, and PostgreSQL would only warn about the rights it granted."""
    found = connection.execute(
        text(
            "SELECT current_user, pg_get_userbyid(relowner), pg_has_role(relowner, 'MEMBER') FROM pg_class"
            " WHERE oid = to_regclass(:table)"
        ),
        {"table": f"{SCHEMA}.{VERSION_TABLE}"},
    ).one_or_none()
    if found is not None and not found[2]:
        reason = f"logs in as {shown(found[0])}, and the tables belong to {shown(found[1])}: log in as their owner"
        raise InvalidInput(field="url", reason=reason)


def _options(to: str) -> dict[str, Any]:
    scripts = _scripts()
    try:
        scripts.get_revision(to)
    except CommandError as error:
        known = ", ".join(reversed([script.revision for script in scripts.walk_revisions()]))
        raise InvalidInput(
            field="to", reason=f"there is no revision {shown(to)}; there are {known}, and head"
        ) from error

    def steps(found: Any, _context: MigrationContext) -> Any:  # noqa: ANN401 - Alembic's own
        return scripts._upgrade_revs(to, found)  # noqa: SLF001 - as Alembic's own commands do

    return {"fn": steps, "version_table": VERSION_TABLE, "version_table_schema": SCHEMA}


def _scripts() -> ScriptDirectory:
    place = str(_folder())
    return ScriptDirectory(place, version_locations=[place])


def _folder() -> Path:
    """The folder of the revisions: in the installed package, else in the checkout that is installed as editable."""
    installed = Path(str(files("nxsched"))) / "migrations"
    return installed if installed.is_dir() else Path(__file__).resolve().parents[3] / "migrations"
