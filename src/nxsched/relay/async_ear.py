"""The ear of a relay on an event loop, through psycopg or asyncpg: see `nxsched.relay.ear`."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Any, Self

from nxsched.relay.ear import AGAIN, SLICE
from nxsched.relay.options import LOG
from nxsched.store.async_connect import AsyncConnection, AsyncEngine
from nxsched.store.queue import CHANNEL


class AsyncEar:
    """Listens on a connection that is taken out of the pool, for tasks."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._connection: AsyncConnection | None = None
        self._raw: Any = None
        self._not_before = 0.0
        self._rung = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Listen for a while."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connection."""
        await self._close()

    async def wait(self, seconds: float, stop: asyncio.Event) -> bool:
        """Wait so long, or until somebody rings or `stop` is set; gives whether somebody rang."""
        ends = time.monotonic() + seconds
        while not stop.is_set() and (left := ends - time.monotonic()) > 0:
            raw = await self._listening()
            if raw is None:
                await at_most(left, stop)
                return False
            try:
                if hasattr(raw, "notifies"):  # psycopg
                    async for _ in raw.notifies(timeout=min(left, SLICE), stop_after=1):
                        return True
                else:
                    await at_most(min(left, SLICE), self._rung)
                    if self._rung.is_set():
                        self._rung.clear()
                        return True
                    if raw.is_closed():
                        raise ConnectionError("the connection was closed")  # noqa: TRY301 - as the other driver does
            except Exception as error:  # noqa: BLE001 - whatever it is, it is only the ear
                await self._lost(error)
        return False

    async def _listening(self) -> Any:  # noqa: ANN401 - the driver's connection
        if self._connection is None and time.monotonic() >= self._not_before:
            try:
                self._connection = connection = await self._engine.connect()
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                self._raw = (await connection.get_raw_connection()).driver_connection
                await connection.run_sync(lambda sync: sync.detach())
                if hasattr(self._raw, "add_listener"):
                    await self._raw.add_listener(CHANNEL, lambda *_: self._rung.set())
                else:
                    await connection.exec_driver_sql(f"LISTEN {CHANNEL}")
            except Exception as error:  # noqa: BLE001 - asyncpg raises errors of its own here
                await self._lost(error)
        return None if self._connection is None else self._raw

    async def _lost(self, error: Exception) -> None:
        LOG.info("nobody wakes the relay for now, it looks by itself: %s", error)
        self._not_before = time.monotonic() + AGAIN
        await self._close()

    async def _close(self) -> None:
        # What was taken out of the pool is not closed with it by every driver.
        for one in (self._connection, self._raw):
            if one is not None:
                try:
                    await one.close()
                except Exception:  # noqa: BLE001 - of a connection that was cut off it may be anything
                    LOG.debug("the connection was broken", exc_info=True)
        self._connection = self._raw = None


async def at_most(seconds: float, event: asyncio.Event) -> None:
    """Wait for an event, but no longer than so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
