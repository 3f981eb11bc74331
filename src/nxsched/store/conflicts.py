"""Errors of the driver as errors of nxsched: translated once, at the edge."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from nxsched.errors import NxschedError, SchemaOutdated, StoreUnavailable
from nxsched.store import migrate

_NO_TABLES = {"42P01", "3F000", "42703"}
"""Undefined table, invalid schema name, undefined column."""


@contextmanager
def translated() -> Iterator[None]:
    """Raise what the driver raises as an error of nxsched, with the driver's own as its cause."""
    try:
        yield
    except (DBAPIError, PoolTimeout) as error:
        found = translation(error)
        if found is None:
            raise
        raise found from error


def translation(error: Exception) -> NxschedError | None:
    """The error of nxsched that says what an error of the driver means; `None` for a mistake of our own."""
    if isinstance(error, PoolTimeout):
        return StoreUnavailable("every connection of the pool is in use, and none came free in time")
    if not isinstance(error, DBAPIError):
        return None
    state = getattr(error.orig, "sqlstate", None)
    if state in _NO_TABLES:
        return SchemaOutdated(found=None, wanted=migrate.head())
    if state == "42501":  # insufficient privilege, or a row of another tenant
        reason = str(error.orig).splitlines()[0]
        return StoreUnavailable(f"the database refuses this login: {reason}; `nxsched doctor` says what it lacks")
    if error.connection_invalidated or isinstance(error, OperationalError | InterfaceError):
        words = str(error.orig).strip().splitlines()
        return StoreUnavailable(f"the database cannot be reached: {words[0] if words else type(error.orig).__name__}")
    return None
