"""Wakes relays after a commit that has left events: at most every 50 ms, and never inside the transaction.

A NOTIFY inside would make every commit wait for all others, for they enter its queue one by one. Nothing depends on it:
relays look by themselves too, a second later at most.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from nxsched.store.queue import CHANNEL

EVERY: Final = 0.05
"""Seconds between two rings of a process; a relay that was woken looks again a little later than that."""

PATIENCE: Final = 200
"""Milliseconds that a ring may take: somebody waits for it whose booking is made."""

_LEFT: Final = "nxsched has left events"
_LOG: Final = logging.getLogger("nxsched.relay")


def leaves_events(connection: Connection) -> None:
    """Note that the transaction of this connection leaves events."""
    connection.info[_LEFT] = True


@dataclass(slots=True)
class Bell:
    """Rings for a process, unless it is not to be heard (`on`)."""

    on: bool = True
    not_before: float = 0.0

    def is_due(self, connection: Connection) -> bool:
        """Whether to ring, now that the transaction is committed."""
        return connection.info.pop(_LEFT, False) and self.on and time.monotonic() >= self.not_before

    def ring(self, connection: Connection) -> None:
        """Wake the relays. What was committed is committed: if this fails, they find it by themselves."""
        self.not_before = time.monotonic() + EVERY
        try:
            connection.exec_driver_sql(
                f"SELECT set_config('statement_timeout', '{PATIENCE}', true), pg_notify('{CHANNEL}', '')"
            )
            connection.commit()
        except Exception:  # noqa: BLE001 - of a driver whose connection was cut off it may be anything
            _LOG.debug("no relay was woken", exc_info=True)
