"""A locker on Redis, a single server, Sentinel or Cluster: it keeps a stampede away from the database."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from hashlib import sha256
from secrets import token_hex
from time import perf_counter
from typing import Any, Final
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from nxsched.errors import InvalidInput, MissingExtra, StoreUnavailable
from nxsched.locking.breaker import Breaker
from nxsched.locking.choosing import WhenUnavailable
from nxsched.locking.locker import LOG, Contended, OnLock, Outcome, Teller, Unlocked, checked_wait

try:
    from redis import Redis, RedisCluster
    from redis import asyncio as aio
    from redis.asyncio.retry import Retry as AsyncRetry
    from redis.backoff import NoBackoff
    from redis.retry import Retry
except ImportError as _missing:
    raise MissingExtra(what="nxsched.locking.RedisLocker", extra="redis") from _missing

Client = Redis | RedisCluster | aio.Redis | aio.RedisCluster

# A permit is a sorted set of those who have a place, by when each place ends by the server's clock. All or nothing, in
# one step; keys of one tenant lie in one slot of a cluster.
_TAKE: Final = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
for i, key in ipairs(KEYS) do
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
    if redis.call('ZCARD', key) >= tonumber(ARGV[3 + i]) then
        if ARGV[2] ~= '' then
            for _, one in ipairs(redis.call('ZRANGE', key, 0, -1)) do
                if string.sub(one, 1, #ARGV[2] + 1) == ARGV[2] .. ':' then return 'same_key' end
            end
        end
        return 'turned_away'
    end
end
for _, key in ipairs(KEYS) do
    redis.call('ZADD', key, now + ARGV[3], ARGV[1])
    redis.call('PEXPIRE', key, ARGV[3])
end
return 'taken'
"""

_GIVE_BACK: Final = """
local given = 0
for _, key in ipairs(KEYS) do given = given + redis.call('ZREM', key, ARGV[1]) end
return given
"""

_TOLD: Final[dict[object, Outcome]] = {b"taken": "taken", b"turned_away": "turned_away", b"same_key": "same_key"}
_TOLD.update({key.decode(): told for key, told in _TOLD.items() if isinstance(key, bytes)})

_SCHEMES: Final = {"redis", "rediss", "unix", "redis+cluster", "rediss+cluster"}


class RedisLocker(Unlocked):
    """Locks on Redis: of a thousand who want one slot, few reach the database.

    `server` is a URL, or a client of the package `redis` that the application has made with its own time-outs:
    `redis://cache/0`, `rediss://…`, `unix:///path`, `redis+cluster://node:6379`, or what
    `Sentinel(…).master_for("name")` gives. A client serves one face: that of `redis.asyncio` for asyncio.

    Who comes second is turned away with `LockTimeout`, or tries again for up to `wait`. A place ends by itself after
    `ttl`. What takes Redis longer than `timeout`, or fails, is not tried again for `rest`: meanwhile bookings go on
    without locks, or are refused with `StoreUnavailable` if `when_unavailable` is `"refuse"`. `prefix` begins every
    key. `on_lock` is called with a `LockEvent` after each try. Raises `InvalidInput`.
    """

    def __init__(  # noqa: PLR0913 - keywords
        self,
        server: str | Client,
        *,
        wait: timedelta = timedelta(),
        ttl: timedelta = timedelta(seconds=5),
        timeout: timedelta = timedelta(milliseconds=50),
        rest: timedelta = timedelta(seconds=1),
        when_unavailable: WhenUnavailable = "proceed",
        prefix: str = "nxsched",
        on_lock: OnLock | None = None,
    ) -> None:
        self.wait: timedelta = checked_wait(wait)
        self._ttl = _milliseconds("ttl", ttl, most=timedelta(minutes=1))
        self._timeout = _milliseconds("timeout", timeout, most=timedelta(seconds=10)) / 1000
        self._breaker = Breaker(_milliseconds("rest", rest, most=timedelta(minutes=10)) / 1000)
        if when_unavailable not in {"proceed", "refuse"}:
            reason = f'must be "proceed" or "refuse", not {when_unavailable!r}'
            raise InvalidInput(field="when_unavailable", reason=reason)
        self._refuses = when_unavailable == "refuse"
        if not isinstance(prefix, str) or not prefix or {"{", "}"} & {*prefix}:
            raise InvalidInput(field="prefix", reason=f"must be a text without braces, not {prefix!r}")
        self._prefix = prefix
        self._teller = Teller(on_lock)
        self._clients = _Clients(server, self._timeout)

    def __repr__(self) -> str:
        """Name the server, without a password."""
        return f"<RedisLocker on {self._clients}>"

    def check(self, *, for_asyncio: bool) -> None:
        """A client that was given serves one face. Raises `InvalidInput`."""
        self._clients.check(for_asyncio=for_asyncio)

    @contextmanager
    def around(self, contended: Contended) -> Iterator[None]:
        """Have a place for each permit while something runs."""
        member = self._member(contended)
        began = perf_counter()
        told = self._told(contended, self._ask(_TAKE, contended, member), began)
        try:
            yield
        finally:
            if told == "taken":
                self._ask(_GIVE_BACK, contended, member)

    @asynccontextmanager
    async def around_async(self, contended: Contended) -> AsyncIterator[None]:
        """The same for asyncio."""
        member = self._member(contended)
        began = perf_counter()
        told: Outcome = "taken"  # so it may be, until there is an answer
        try:
            answer = await _to_its_end(self._ask_async(_TAKE, contended, member))
            told = "unavailable" if answer is None else _TOLD[answer]
            self._told(contended, answer, began)
            yield
        finally:
            if told == "taken":
                await _to_its_end(self._ask_async(_GIVE_BACK, contended, member))

    def close(self) -> None:
        """Close the connections that were made here."""
        self._clients.close()

    async def aclose(self) -> None:
        """The same for asyncio."""
        await self._clients.aclose()

    def look(self) -> dict[str, Any]:
        """What the server says of itself, asked past the breaker. Raises what the package `redis` does."""
        found: dict[str, Any] = self._clients.sync().info()
        return found

    def _member(self, contended: Contended) -> str:
        """Who has the place: nobody else has the same, and who repeats the request can see it is theirs."""
        return f"{contended.request}:{token_hex(12)}"

    def _told(self, contended: Contended, answer: object, began: float) -> Outcome:
        """What came of a try; whoever may not go on is told so."""
        outcome = "unavailable" if answer is None else _TOLD[answer]
        self._teller.tell(outcome, contended, perf_counter() - began)
        if outcome == "turned_away":
            raise self._teller.turn_away(contended)
        if outcome == "unavailable" and self._refuses:
            reason = "Redis cannot be asked for a lock, and nothing is booked meanwhile (when_unavailable); try again"
            raise StoreUnavailable(reason)
        return outcome

    def _arguments(self, script: str, contended: Contended, member: str) -> list[Any]:
        # One tenant, one slot of a cluster: what stands in the braces says which.
        tag = sha256(contended.tenant.encode()).hexdigest()[:16]
        keys = [f"{self._prefix}:{{{tag}}}:{one.name}" for one in contended.permits]
        more = [contended.request, self._ttl, *(one.of for one in contended.permits)] if script is _TAKE else []
        return [script, len(keys), *keys, member, *more]

    def _ask(self, script: str, contended: Contended, member: str) -> object:
        """What Redis says, or `None` where it says nothing that can be used."""
        if not self._breaker.may_ask():
            return None
        try:
            answer: object = self._clients.sync().eval(*self._arguments(script, contended, member))
        except Exception as error:  # noqa: BLE001 - whatever it is that answers
            return self._failed(error)
        return self._understood(script, answer)

    async def _ask_async(self, script: str, contended: Contended, member: str) -> object:
        if not self._breaker.may_ask():
            return None
        try:
            answer: object = await self._clients.of_loop().eval(*self._arguments(script, contended, member))
        except Exception as error:  # noqa: BLE001 - whatever it is that answers
            return self._failed(error)
        return self._understood(script, answer)

    def _understood(self, script: str, answer: object) -> object:
        if not (answer in _TOLD if isinstance(answer, str | bytes) else script is _GIVE_BACK and type(answer) is int):
            return self._failed(ValueError(f"an answer that no Redis gives: {answer!r:.80}"))
        if self._breaker.worked():
            LOG.warning("Redis answers again: locks are taken")
        return answer

    def _failed(self, error: Exception) -> object:
        """Let it rest; the log is told once."""
        if self._breaker.failed():
            meanwhile = "nothing is booked" if self._refuses else "bookings go on without locks"
            LOG.warning("Redis cannot be asked for locks, %s meanwhile: %s: %s", meanwhile, type(error).__name__, error)
        return None


async def _to_its_end(asking: Coroutine[Any, Any, object]) -> object:
    """Wait for an answer, also where the task is cancelled meanwhile, and then let it be cancelled.

    The time-outs bound the wait. A connection of redis-py may swallow a cancellation that comes while it is opened, and
    what was asked for may have been done all the same.
    """
    task = asyncio.ensure_future(asking)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


class _Clients:
    """A client for threads, and one for each event loop; or the application's own, for the face that it fits."""

    def __init__(self, server: object, timeout: float) -> None:
        self._timeout = timeout
        self._lock = threading.Lock()
        self._url = server if isinstance(server, str) else None
        self._given = None if isinstance(server, str) else server
        self._made: Any = None
        self._of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = WeakKeyDictionary()
        if self._url is not None:
            if urlsplit(self._url).scheme not in _SCHEMES:
                reason = "must be a URL such as redis://cache/0, rediss://cache/0 or redis+cluster://node:6379"
                raise InvalidInput(field="redis", reason=reason)
        elif not isinstance(server, Redis | RedisCluster | aio.Redis | aio.RedisCluster):
            reason = f"must be a URL or a client of the package redis, not {type(server).__name__}"
            raise InvalidInput(field="redis", reason=reason)

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
        if self._given is not None:
            return self._given
        loop = asyncio.get_running_loop()
        if loop not in self._of_loops:
            self._of_loops[loop] = self._client(aio.Redis, aio.RedisCluster, AsyncRetry(NoBackoff(), 0))
        return self._of_loops[loop]

    def _client(self, single: Any, cluster: Any, retry: Any) -> Any:  # noqa: ANN401 - of either kind
        url = self._url or ""
        kind = cluster if "+cluster:" in url else single
        return kind.from_url(
            url.replace("+cluster:", ":", 1),
            socket_timeout=self._timeout,
            socket_connect_timeout=self._timeout,
            retry=retry,
        )

    def close(self) -> None:
        """Close the client that was made here."""
        with self._lock:
            made, self._made = self._made, None
        if made is not None:
            made.close()

    async def aclose(self) -> None:
        """The same of the event loop that runs."""
        made = self._of_loops.pop(asyncio.get_running_loop(), None)
        if made is not None:
            await made.aclose()


def _milliseconds(field: str, value: object, *, most: timedelta) -> int:
    if not isinstance(value, timedelta) or not timedelta(milliseconds=1) <= value <= most:
        raise InvalidInput(field=field, reason=f"must be a timedelta from a millisecond to {most}, not {value!r}")
    return int(value.total_seconds() * 1000)
