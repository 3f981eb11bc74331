"""Connections to a Redis, for threads and for event loops: a server, Sentinel or Cluster."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from math import inf
from typing import Any, Final, Generic, TypeVar
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from nxsched.errors import InvalidInput, MissingExtra
from nxsched.forks import in_children
from nxsched.locking.locker import LOG

try:
    from redis import ConnectionPool, Redis, RedisCluster
    from redis import asyncio as aio
    from redis.asyncio.retry import Retry as AsyncRetry
    from redis.backoff import NoBackoff
    from redis.exceptions import NoScriptError, RedisError
    from redis.retry import Retry
except ImportError as _missing:
    raise MissingExtra(what="a scheduler with redis=…", extra="redis") from _missing

__all__ = ["OF_REDIS", "Client", "Clients", "NoScriptError", "OfLoops", "Watch", "to_its_end"]

T = TypeVar("T")

Client = Redis | RedisCluster | aio.Redis | aio.RedisCluster

OF_REDIS: Final = (
    RedisError, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError,
    RuntimeError,
)  # fmt: skip
"""What may come of whatever it is that answers, and not what a signal handler raises in a thread that asks."""

_AT_ONCE: Final = 32
"""What one event loop asks at a time: more would wait for one another, and look like a Redis that is slow."""

_MOST_CONNECTIONS: Final = 10_000
"""Of threads: as many as there are. The package's own bound would look like a Redis that is away."""

_SCHEMES: Final = {"redis", "rediss", "unix", "redis+cluster", "rediss+cluster"}


class OfLoops(Generic[T]):
    """One of something for each event loop, made when it is first asked for."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._of: WeakKeyDictionary[asyncio.AbstractEventLoop, T] = WeakKeyDictionary()
        self._begin()
        in_children(self, OfLoops._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()  # other threads have loops, too

    def get(self) -> T:
        """That of the loop that runs."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if loop not in self._of:
                for over in [one for one in self._of if one.is_closed()]:
                    del self._of[over]
                self._of[loop] = self._make()
            return self._of[loop]

    def pop(self) -> T | None:
        """Forget that of the loop that runs."""
        with self._lock:
            return self._of.pop(asyncio.get_running_loop(), None)


class Clients:
    """A client for threads, and one for each event loop; or the application's own, for the face that it fits."""

    def __init__(self, server: object, timeout: float) -> None:
        self._timeout = timeout
        self._lock = threading.Lock()
        self._url = server if isinstance(server, str) else None
        self._given = None if isinstance(server, str) else server
        self._made: Any = None
        self._of_parents: list[Any] = []
        self._of_loops = OfLoops(lambda: self._client(aio.Redis, aio.RedisCluster, AsyncRetry(NoBackoff(), 0)))
        self._turns = OfLoops(lambda: asyncio.Semaphore(_AT_ONCE))
        if self._url is not None:
            if urlsplit(self._url).scheme not in _SCHEMES:
                reason = "must be a URL such as redis://cache/0, rediss://cache/0 or redis+cluster://node:6379"
                raise InvalidInput(field="redis", reason=reason)
            parts = urlsplit(self._url)
            database = "/?0?" if "cluster" in parts.scheme else "/?[0-9]*"
            if parts.scheme != "unix" and not re.fullmatch(database, parts.path):
                reason = f"is a URL whose path is the number of a database, if anything, not {parts.path!r:.80}"
                raise InvalidInput(field="redis", reason=reason)
            try:  # what is wrong with it is to be told here, and not taken for a Redis that is away
                ConnectionPool.from_url(self._url.replace("+cluster:", ":", 1)).make_connection()
            except (ValueError, TypeError) as error:
                reason = "is a URL with a port or an option that no Redis takes"
                raise InvalidInput(field="redis", reason=reason) from error
        elif not isinstance(server, Redis | RedisCluster | aio.Redis | aio.RedisCluster):
            reason = f"must be a URL or a client of the package redis, not {type(server).__name__}"
            raise InvalidInput(field="redis", reason=reason)

        elif (seconds := _longest_wait(server)) > _LONG:
            LOG.warning(
                "the client of redis that was given waits for up to %.0f s for a Redis that stands still, and so do "
                "bookings: give it a socket_timeout such as 0.05 and Retry(NoBackoff(), 0), or give a URL",
                seconds,
            )
        in_children(self, Clients._begin_anew)

    def _begin_anew(self) -> None:
        # What ends in the child as if it were its own would wait for locks of the client's, too.
        self._of_parents.append(self._made)
        self._lock, self._made = threading.Lock(), None

    def __str__(self) -> str:
        """Without what is secret."""
        if self._url is None:
            return type(self._given).__name__
        parts = urlsplit(self._url)
        return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"

    def check(self, *, for_asyncio: bool) -> None:
        """Raises `InvalidInput` for a client of the other face."""
        if self._given is not None and isinstance(self._given, aio.Redis | aio.RedisCluster) != for_asyncio:
            reason = (
                "must be a client of redis.asyncio, or a URL: this is AsyncScheduler"
                if for_asyncio
                else "is a client of redis.asyncio, which AsyncScheduler takes; give a client for threads, or a URL"
            )
            raise InvalidInput(field="redis", reason=reason)

    def sync(self) -> Any:  # noqa: ANN401 - a client of either kind
        """The client for threads."""
        if self._given is not None:
            return self._given
        with self._lock:
            if self._made is None:
                self._made = self._client(Redis, RedisCluster, Retry(NoBackoff(), 0))
            return self._made

    def of_loop(self) -> Any:  # noqa: ANN401 - a client of either kind
        """The client for the event loop that runs."""
        return self._given if self._given is not None else self._of_loops.get()

    def turn(self) -> asyncio.Semaphore:
        """What a task of the event loop that runs has while it asks."""
        return self._turns.get()

    def _client(self, single: Any, cluster: Any, retry: Any) -> Any:  # noqa: ANN401 - of either kind
        url = self._url or ""
        kind = cluster if "+cluster:" in url else single
        return kind.from_url(
            url.replace("+cluster:", ":", 1),
            socket_timeout=self._timeout,
            socket_connect_timeout=self._timeout,
            retry=retry,
            max_connections=_MOST_CONNECTIONS,
        )

    def close(self) -> None:
        """Close the client that was made here."""
        with self._lock:
            made, self._made = self._made, None
        if made is not None:
            made.close()

    async def aclose(self) -> None:
        """The same of the event loop that runs."""
        made = self._of_loops.pop()
        if made is not None:
            await made.aclose()


def _longest_wait(client: Any) -> float:  # noqa: ANN401 - a client of either kind
    """How many seconds a client waits for an answer, all of its tries together, without the time between them."""
    options = getattr(client, "connection_kwargs", None)
    if isinstance(client, RedisCluster):
        options = client.nodes_manager.connection_kwargs
    elif options is None:
        options = client.connection_pool.connection_kwargs
    timeout, retry = options.get("socket_timeout", _DEFAULT), options.get("retry")
    tries = 1 if retry is None else 1 + max(0, retry.get_retries())
    return inf if timeout is None else float(timeout) * tries


_DEFAULT: Final = 5.0
"""Seconds of redis-py where nothing is said."""

_LONG: Final = 1.0


async def to_its_end(asking: Coroutine[Any, Any, T]) -> T:
    """Wait for an answer, also where the task is cancelled meanwhile, and then let it be cancelled.

    The time-outs bound the wait. A connection of redis-py may swallow a cancellation that comes while it is opened, and
    what was asked for may have been done all the same.
    """
    task = asyncio.ensure_future(asking)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with suppress(asyncio.CancelledError):  # somebody may be in a hurry, and cancel twice
                await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # nobody will ask for it
        raise


class Watch:
    """Looks whether an event loop is too busy to hear what Redis says in time: then that is not to blame."""

    def __init__(self, timeout: float) -> None:
        loop = asyncio.get_running_loop()
        self._due = loop.time() + 0.9 * timeout
        self._told: float | None = None
        self._handle = loop.call_at(self._due, self._tell, loop)

    def _tell(self, loop: asyncio.AbstractEventLoop) -> None:
        self._told = loop.time()

    def stood_still(self) -> bool:
        """Whether it came late to what was due shortly before the time was over."""
        return self._told is not None and self._told - self._due > _LATE

    def end(self) -> None:
        """Look no more."""
        self._handle.cancel()


_LATE: Final = 0.01
"""Seconds."""
