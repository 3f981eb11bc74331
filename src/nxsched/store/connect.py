"""Engines for PostgreSQL through psycopg."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError

from nxsched.domain.checks import shown
from nxsched.errors import InvalidInput, MissingExtra
from nxsched.forks import in_children

DRIVER: Final = "psycopg"

ASYNC_DRIVERS: Final = ("psycopg", "asyncpg")
"""Those whose connections of asyncio can be joined."""

ISOLATION: Final = "READ COMMITTED"
"""Of our own transactions, whatever the database's default is: only there a count after a lock sees the truth."""

# Superusers and who has BYPASSRLS, and everybody, or the owner, where it was switched off.
_MIGHTY: Final = text("""
SELECT current_user WHERE EXISTS (
    SELECT FROM pg_class WHERE relnamespace = 'nxsched'::regnamespace AND relkind = 'r'
    AND relname <> 'schema_version' AND NOT row_security_active(oid))
""")

_log = logging.getLogger(__name__)


def engine(field: str, url: str | URL) -> Engine:
    """An engine for a URL; `postgresql://` means psycopg. Values of statements are kept out of logs and errors.

    Raises `InvalidInput` for another database or driver, and `MissingExtra` where psycopg finds no libpq.
    """
    with needs_libpq():
        made = create_engine(checked_url(field, url), **OPTIONS)
    return in_children(made, leave_to_parent)


OPTIONS: Final[dict[str, Any]] = {
    "hide_parameters": True,
    "isolation_level": ISOLATION,
    "connect_args": {"client_encoding": "UTF8"},  # else a database in SQL_ASCII answers in bytes
}


_NO_URL: Final = "must be a URL such as postgresql://app@host/database; Scheduler.embedded takes a folder"


def checked_url(field: str, url: str | URL) -> URL:
    """A URL for PostgreSQL and psycopg. Raises `InvalidInput`."""
    try:
        found = make_url(url)
    except ArgumentError as error:  # it would repeat the password
        raise InvalidInput(field=field, reason=_NO_URL) from error
    if found.drivername in {"postgresql", "postgres"}:
        found = found.set(drivername=f"postgresql+{DRIVER}")
    if found.drivername != f"postgresql+{DRIVER}":
        reason = (
            f"must begin with postgresql://, not {shown(found.drivername)}: nxsched works with PostgreSQL and psycopg"
        )
        if found.drivername == "postgresql+asyncpg":
            reason += "; AsyncScheduler takes the engine that create_async_engine makes of this URL"
        raise InvalidInput(field=field, reason=reason)
    return found


@contextmanager
def needs_libpq() -> Iterator[None]:
    """Name the extra where psycopg finds no libpq."""
    try:
        yield
    except ImportError as error:
        raise MissingExtra(what="PostgreSQL, on a machine without libpq,", extra="binary") from error


def leave_to_parent(engine: Engine) -> None:
    """In a child after a fork: the connections are the parent's."""
    engine.dispose(close=False)


def made_or_checked(field: str, given: object) -> Engine:
    """An engine for a URL, or the application's own, if it is one for psycopg."""
    if isinstance(given, str | URL):
        return engine(field, given)
    if not isinstance(given, Engine):
        reason = f"must be a URL or a SQLAlchemy Engine, not {shown(given)}; AsyncScheduler takes an AsyncEngine"
        raise InvalidInput(field=field, reason=reason)
    check_driver(field, given, (DRIVER,))
    return given


def check_driver(field: str, given: Engine, drivers: Sequence[str]) -> None:
    """Refuse an engine of another database or driver."""
    if given.dialect.name != "postgresql" or given.driver not in drivers:
        kind = shown(f"{given.dialect.name}+{given.driver}")
        wanted = " or ".join(f"postgresql+{driver}" for driver in drivers)
        raise InvalidInput(field=field, reason=f"must be an engine for {wanted}, not {kind}")


def warn_of_might(connection: Connection) -> None:
    """Log a warning where row-level security does not bind the role that logs in.

    For such a role no policy counts: the queries' own conditions are then all that keeps tenants apart.
    """
    found = connection.execute(_MIGHTY).scalar()
    if found:
        _log.warning(
            "row-level security, which keeps tenants apart, does not bind %s: let nxsched log in as an ordinary role,"
            " and see what `nxsched doctor` says",
            found,
        )
