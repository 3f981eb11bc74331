"""Hears when somebody commits events, on a connection of its own. Nobody depends on it: relays look by themselves too.

Behind a pooler that lends connections by the transaction nothing is heard.
"""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Any, Final, Self

from sqlalchemy import Connection, Engine

from nxsched.relay.options import LOG
from nxsched.store.queue import CHANNEL

SLICE: Final = 0.1
"""Seconds after which a relay looks whether it is to stop."""

AGAIN: Final = 5.0
"""Seconds until a connection that was lost is tried again."""


class Ear:
    """Listens on a connection that is taken out of the pool, for threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        self._raw: Any = None
        self._not_before = 0.0

    def __enter__(self) -> Self:
        """Listen for a while."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connection."""
        self._close()

    def wait(self, seconds: float, stop: threading.Event) -> bool:
        """Wait so long, or until somebody rings or `stop` is set; gives whether somebody rang."""
        ends = time.monotonic() + seconds
        while not stop.is_set() and (left := ends - time.monotonic()) > 0:
            raw = self._listening()
            if raw is None:
                stop.wait(left)
                return False
            try:
                for _ in raw.notifies(timeout=min(left, SLICE), stop_after=1):
                    return True
            except Exception as error:  # noqa: BLE001 - whatever it is, it is only the ear
                self._lost(error)
        return False

    def _listening(self) -> Any:  # noqa: ANN401 - the driver's connection
        if self._connection is None and time.monotonic() >= self._not_before:
            try:
                self._connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
                self._raw = self._connection.connection.driver_connection
                self._connection.detach()
                self._connection.exec_driver_sql(f"LISTEN {CHANNEL}")
            except Exception as error:  # noqa: BLE001 - an engine's own way to connect may raise anything
                self._lost(error)
        return None if self._connection is None else self._raw

    def _lost(self, error: Exception) -> None:
        LOG.info("nobody wakes the relay for now, it looks by itself: %s", error)
        self._not_before = time.monotonic() + AGAIN
        self._close()

    def _close(self) -> None:
        # What was taken out of the pool is not closed with it where its end fails.
        for one in (self._connection, self._raw):
            if one is not None:
                try:
                    one.close()
                except Exception:  # noqa: BLE001 - of a connection that was cut off it may be anything
                    LOG.debug("the connection was broken", exc_info=True)
        self._connection = self._raw = None
