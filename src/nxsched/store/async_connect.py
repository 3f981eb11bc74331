"""Engines for PostgreSQL with asyncio: through psycopg where they are ours, through asyncpg too where they are not."""

from __future__ import annotations

from sqlalchemy import URL

from nxsched.domain.checks import shown
from nxsched.errors import InvalidInput, MissingExtra
from nxsched.forks import in_children
from nxsched.store.connect import ASYNC_DRIVERS, OPTIONS, check_driver, checked_url, leave_to_parent, needs_libpq

try:  # all modules have these from here, so that who lacks greenlet is told what to install
    import greenlet  # type: ignore[import-untyped]  # noqa: F401 - SQLAlchemy says only once that it is missing
    from sqlalchemy.ext.asyncio import (
        AsyncConnection,
        AsyncEngine,
        AsyncSession,
        async_scoped_session,
        create_async_engine,
    )
except ImportError as _missing:
    raise MissingExtra(what="The face for asyncio", extra="async") from _missing

__all__ = [
    "AsyncConnection", "AsyncEngine", "AsyncSession", "async_scoped_session", "create_async_engine", "engine",
    "made_or_checked",
]  # fmt: skip


def engine(field: str, url: str | URL) -> AsyncEngine:
    """An engine for a URL, as `nxsched.store.connect` makes one."""
    with needs_libpq():
        made = create_async_engine(checked_url(field, url), **OPTIONS)
    in_children(made.sync_engine, leave_to_parent)
    return made


def made_or_checked(field: str, given: object) -> AsyncEngine:
    """An engine for a URL, or the application's own, if it is one for psycopg or asyncpg."""
    if isinstance(given, str | URL):
        return engine(field, given)
    if not isinstance(given, AsyncEngine):
        reason = f"must be a URL or a SQLAlchemy AsyncEngine, not {shown(given)}; Scheduler takes an Engine"
        raise InvalidInput(field=field, reason=reason)
    check_driver(field, given.sync_engine, ASYNC_DRIVERS)
    return given
