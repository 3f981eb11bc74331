"""Tidy up what is over. Nothing depends on it: what has expired counts for nothing, swept or not."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection

from nxsched.domain.bookings import Swept
from nxsched.service.ending import expire
from nxsched.service.tools import Tools
from nxsched.store.keys import forget_keys
from nxsched.store.outbox import delete_done
from nxsched.store.reminders import delete_ended
from nxsched.store.standing import lock_due

BATCH: Final = 100
"""Rows that one transaction takes, so that nobody waits long for them."""


def sweep(connection: Connection, command: None, tools: Tools) -> Swept:  # noqa: ARG001 - as every action
    """One batch of everything that the application's role may tidy up in a tenant."""
    holds = expire(connection, tools, lock_due(connection, tools.tenant, "held", tools.now, BATCH))
    pending = expire(connection, tools, lock_due(connection, tools.tenant, "pending", tools.now, BATCH))
    keys = forget_keys(connection, tools.tenant, tools.now, BATCH)
    return Swept(holds=len(holds), pending=len(pending), keys=keys)


def sweep_events(connection: Connection, keep_days: int, tools: Tools) -> Swept:
    """One batch of what was delivered long ago; never an event that was not. Needs the worker's role."""
    return Swept(
        events=delete_done(connection, tools.tenant, tools.now, keep_days, BATCH),
        reminders=delete_ended(connection, tools.tenant, tools.now, keep_days, BATCH),
    )
