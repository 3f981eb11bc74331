"""The first statement of an action, and the last: whose rows it sees, how long it waits, what time it is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Connection, text

from nxsched.store.schema import TENANT_SETTING
from nxsched.store.statements import statement

# Our statements want the same plan whatever their parameters are, and to plan one takes longer than to run it.
_OPEN: Final = statement(
    f"SELECT set_config('{TENANT_SETTING}', :tenant, true) || set_config('lock_timeout', :lock_timeout, true)"
    " || set_config('statement_timeout', :statement_timeout, true)"
    " || set_config('idle_in_transaction_session_timeout', :statement_timeout, true)"
    " || set_config('plan_cache_mode', 'force_generic_plan', true) AS set, clock_timestamp() AS now",
    "set now",
)
_JOIN: Final = text(
    f"SELECT current_setting('{TENANT_SETTING}', true), set_config('{TENANT_SETTING}', :tenant, true),"
    " clock_timestamp()"
)
_NOW: Final = text("SELECT clock_timestamp()")
_LEAVE: Final = text(f"SELECT set_config('{TENANT_SETTING}', :before, true)")


def enter(connection: Connection, tenant: str, *, lock_timeout: int, statement_timeout: int) -> datetime:
    """Begin a transaction of our own: its tenant, its time-outs in milliseconds; gives the database's time.

    A process that stops between two statements loses its locks as one does whose statement takes too long.
    """
    found: datetime = connection.execute(
        _OPEN, {"tenant": tenant, "lock_timeout": str(lock_timeout), "statement_timeout": str(statement_timeout)}
    ).one()[1]
    return found.astimezone(UTC)


def tell_time(connection: Connection) -> datetime:
    """The database's time."""
    found: datetime = connection.execute(_NOW).scalar_one()
    return found.astimezone(UTC)


def join(connection: Connection, tenant: str) -> tuple[str, datetime]:
    """Work in the application's transaction: set the tenant; gives the one that was set before, and the time."""
    before, _, now = connection.execute(_JOIN, {"tenant": tenant}).one()
    return before or "", now.astimezone(UTC)


def leave(connection: Connection, before: str) -> None:
    """Put the tenant back that was set before."""
    connection.execute(_LEAVE, {"before": before})
