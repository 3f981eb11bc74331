"""Tidy up what is over. Nothing depends on it: what has expired counts for nothing, swept or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from nxsched.service.ending import expire
from nxsched.service.tools import Tools
from nxsched.store.bookings import lock_due
from nxsched.store.keys import forget_keys
from nxsched.store.outbox import delete_done

BATCH: Final = 500
"""Rows that one transaction takes, so that nobody waits long for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What was tidied up: expired holds, pending bookings past their start, idempotency keys, delivered events."""

    holds: int = 0
    pending: int = 0
    keys: int = 0
    events: int = 0

    def __add__(self, other: Swept) -> Swept:
        """The two together."""
        return Swept(
            holds=self.holds + other.holds,
            pending=self.pending + other.pending,
            keys=self.keys + other.keys,
            events=self.events + other.events,
        )

    @property
    def total(self) -> int:
        """All of it."""
        return self.holds + self.pending + self.keys + self.events


def sweep(connection: Connection, command: None, tools: Tools) -> Swept:  # noqa: ARG001 - as every action
    """One batch of everything that the application's role may tidy up in a tenant."""
    holds = expire(connection, tools, lock_due(connection, tools.tenant, "held", tools.now, BATCH), tools.now)
    pending = expire(connection, tools, lock_due(connection, tools.tenant, "pending", tools.now, BATCH), tools.now)
    keys = forget_keys(connection, tools.tenant, tools.now, BATCH)
    return Swept(holds=len(holds), pending=len(pending), keys=keys)


def sweep_events(connection: Connection, keep_days: int, tools: Tools) -> Swept:
    """One batch of the events that were delivered long ago; never one that was not. Needs the worker's role."""
    return Swept(events=delete_done(connection, tools.tenant, tools.now, keep_days, BATCH))
