"""The face for asyncio as tests of the other face use it: each call runs on an event loop in a thread."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from nxsched import (
    AsyncAttendeeBookings,
    AsyncManagedBooking,
    AsyncMessages,
    AsyncOutbox,
    AsyncPreferences,
    AsyncRelay,
    AsyncScheduler,
    AsyncTenant,
    AsyncWebhooks,
    OutboxEvent,
    Scheduler,
    SettableClock,
)
from nxsched.embedded import APP_ROLE, WORKER_ROLE

if TYPE_CHECKING:
    from store.conftest import Database

SECRET = "a secret of sixteen characters"  # noqa: S105 - of tests

FACES = ["sync", "asyncio", "asyncio joined by asyncpg"]
"""The two faces, and the second in a transaction of the application's for each call, committed after it."""


def on_face(*values: object, face: str) -> object:
    """A parameter of a test with the face that it is for; only the first is not slow."""
    return pytest.param(*values, face, marks=[pytest.mark.slow] * (face != "sync"))


every_face = pytest.mark.parametrize("scheduler", [on_face(face=face) for face in FACES], indirect=True)

_SEEN = (
    AsyncScheduler,
    AsyncTenant,
    AsyncManagedBooking,
    AsyncAttendeeBookings,
    AsyncOutbox,
    AsyncRelay,
    AsyncWebhooks,
    AsyncMessages,
    AsyncPreferences,
)


def async_engine(db: Database, driver: str = "psycopg", role: str = APP_ROLE, **options: Any) -> AsyncEngine:
    """An engine of the application's own."""
    url = db.url(role).replace("+psycopg", f"+{driver}", 1)
    return create_async_engine(url, **{"poolclass": NullPool, **options})


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401 - whatever it gives
        """Wait for what runs on the loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        """Stop it."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Bridge:
    """An object of the face for asyncio, whose methods wait; each joins a transaction if there is an engine for it."""

    def __init__(self, loop: Loop, seen: object, joins: AsyncEngine | None) -> None:
        self._loop = loop
        self._seen = seen
        self._joins = joins

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401, D105 - whatever it is
        found = getattr(self._seen, name)
        if not callable(found):
            return Bridge(self._loop, found, self._joins) if isinstance(found, _SEEN) else found

        def call(*args: Any, **options: Any) -> Any:  # noqa: ANN401 - whatever it gives
            if name == "relay":
                args = tuple(_as_async(one) for one in args)
            takes = "within" in inspect.signature(found).parameters and "within" not in options
            given = self._joined(found, *args, **options) if self._joins and takes else found(*args, **options)
            given = self._loop.run(given) if inspect.iscoroutine(given) else given
            return Bridge(self._loop, given, self._joins) if isinstance(given, _SEEN) else given

        return call

    def bare(self, name: str) -> Any:  # noqa: ANN401 - whatever it is
        """A method that is given its arguments as they are, and not made for asyncio."""

        def call(*args: Any, **options: Any) -> Any:  # noqa: ANN401 - whatever it gives
            return Bridge(self._loop, getattr(self._seen, name)(*args, **options), self._joins)

        return call

    async def _joined(self, found: Any, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - whatever it gives
        assert self._joins is not None
        async with self._joins.begin() as within:
            return await found(*args, within=within, **options)

    @contextmanager
    def transaction(self, db: Database, isolation: str) -> Iterator[Any]:
        """A transaction of the application's, through the driver of the engine that calls join."""
        driver = "psycopg" if self._joins is None else self._joins.driver
        connection = self._loop.run(_started(async_engine(db, driver, isolation_level=isolation)))
        try:
            yield connection
        finally:
            self._loop.run(connection.close())


def _as_async(deliver: Callable[[OutboxEvent], None]) -> Callable[[OutboxEvent], Awaitable[None]]:
    async def delivered(event: OutboxEvent) -> None:
        await asyncio.sleep(0)
        deliver(event)

    return delivered


async def _started(engine: AsyncEngine) -> AsyncConnection:
    return await engine.connect()


@contextmanager
def transaction(scheduler: object, db: Database, isolation: str) -> Iterator[Any]:
    """A transaction of the application's as `within=` of the scheduler's face takes it; rolled back in the end."""
    if isinstance(scheduler, Bridge):
        with scheduler.transaction(db, isolation) as within:
            yield within
    else:
        with db.app.execution_options(isolation_level=isolation).connect() as within:
            yield within


@contextmanager
def opened(face: str, db: Database, clock: SettableClock, **more: Any) -> Iterator[Scheduler]:
    """A scheduler of a face, as `store.conftest.scheduler` is one; with links, and what else is asked for."""
    options: dict[str, Any] = {"clock": clock, "secrets": [SECRET], **more}
    if face == "sync":
        with Scheduler(db.app, worker_url=db.worker, **options) as found:
            yield found
        return
    loop = Loop()
    driver = face.rsplit(maxsplit=1)[-1]
    joins = None if driver == "asyncio" else async_engine(db, driver)
    made = AsyncScheduler(async_engine(db), worker_url=async_engine(db, role=WORKER_ROLE), **options)
    try:
        yield cast("Scheduler", Bridge(loop, made, joins))
    finally:
        loop.run(made.close())
        loop.close()
