"""Bring the tables of a database up to date, and give way to who uses them."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection, Engine
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random

from nxsched.errors import LockTimeout, TransactionConflict
from nxsched.store import connect, migrate
from nxsched.store.conflicts import translated

_WAITS: Final = 3_000
"""Milliseconds that an upgrade waits for a table; everybody who books waits behind it."""

GIVING_WAY: Final[dict[str, Any]] = {
    "retry": retry_if_exception_type((TransactionConflict, LockTimeout)),
    "stop": stop_after_attempt(20),
    "wait": wait_random(0.1, 2),
    "reraise": True,
}
"""How an upgrade begins anew where others are in its way."""


def run_upgrade(engine: Engine, to: str, *, app_role: str | None, worker_role: str | None) -> None:
    """Upgrade in one transaction, which is begun anew where it waits too long for somebody."""

    def once() -> None:
        with translated(), engine.connect() as connection:
            # What another upgrade has made while this one waited for it must be seen.
            connection.execution_options(isolation_level=connect.ISOLATION)
            upgrade(connection, to, app_role, worker_role)
            connection.commit()

    Retrying(**GIVING_WAY)(once)


def upgrade(connection: Connection, to: str, app_role: str | None, worker_role: str | None) -> None:
    """Upgrade, unless somebody has to be waited for for too long."""
    migrate.upgrade(connection, to, app_role=app_role, worker_role=worker_role, lock_timeout=_WAITS)
