"""Counts on a Redis, a single server, Sentinel or Cluster: for all processes that share it.

Its clock is the only one that matters: what is counted is forgotten by times to live.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

import redis
from limits import RateLimitItem, WindowStats
from limits.aio.storage import RedisStorage as AsyncRedisStorage
from limits.aio.storage.base import Storage as AsyncStorage
from limits.aio.storage.redis.redispy import RedispyBridge
from limits.aio.strategies import SlidingWindowCounterRateLimiter as AsyncStrategy
from limits.storage import RedisStorage
from limits.storage.base import Storage
from limits.strategies import SlidingWindowCounterRateLimiter as Strategy

from nxsched.errors import StoreUnavailable
from nxsched.locking.breaker import Breaker
from nxsched.locking.clients import OF_REDIS, Clients, Watch, to_its_end
from nxsched.ratelimit.limiter import TIMEOUT

LOG: Final = logging.getLogger("nxsched.ratelimit")

_PREFIX: Final = "nxsched:rate"
_REST: Final = 1.0
"""Seconds that Redis is not asked after a failure: those of the locks."""


class OnRedis:
    """What takes Redis too long, or fails, is not tried again for a while: attempts go on uncounted, or are refused."""

    def __init__(self, clients: Clients, *, refuses: bool) -> None:
        self._clients = clients
        self._breaker = Breaker(_REST)
        self._refuses = refuses

    def room(self, one: RateLimitItem, key: str, *, take: bool) -> WindowStats | None:
        """Count an attempt, or look whether there is room. Raises `StoreUnavailable`."""
        if not self._breaker.may_ask():
            self._away()
            return None
        try:
            strategy = Strategy(_Counters(self._clients.sync()))
            stats = None
            for again in (True, False):
                if strategy.hit(one, key) if take else strategy.test(one, key):
                    break
                if stats := _known(one, strategy.get_window_stats(one, key), again=again):
                    break
        except OF_REDIS as error:
            self._failed(error)
            return None
        self._worked()
        return stats

    async def room_async(self, one: RateLimitItem, key: str, *, take: bool) -> WindowStats | None:
        """The same for asyncio."""
        async with self._clients.turn():
            if not self._breaker.may_ask():
                self._away()
                return None
            watch = Watch(TIMEOUT)
            try:
                strategy = AsyncStrategy(_AsyncCounters(self._clients.of_loop()))
                stats = None
                for again in (True, False):
                    if await to_its_end(strategy.hit(one, key) if take else strategy.test(one, key)):
                        break
                    if stats := _known(one, await to_its_end(strategy.get_window_stats(one, key)), again=again):
                        break
            except Exception as error:  # noqa: BLE001 - whatever it is that answers
                if watch.stood_still():
                    self._away()
                else:
                    self._failed(error)
                return None
            finally:
                watch.end()
        self._worked()
        return stats

    def close(self) -> None:
        """Close the client that was made here."""
        self._clients.close()

    async def aclose(self) -> None:
        """The same of the event loop that runs."""
        await self._clients.aclose()

    def _worked(self) -> None:
        if self._breaker.worked():
            LOG.warning("Redis answers again: rate limits are counted")

    def _failed(self, error: Exception) -> None:
        if self._breaker.failed():
            meanwhile = "attempts are refused" if self._refuses else "attempts are let through"
            LOG.warning("Redis cannot count attempts, %s meanwhile: %s: %s", meanwhile, type(error).__name__, error)
        self._away()

    def _away(self) -> None:
        if self._refuses:
            reason = (
                "Redis cannot be asked for rate limits, and nothing goes on meanwhile (when_unavailable); try again"
            )
            raise StoreUnavailable(reason)


def _known(one: RateLimitItem, stats: WindowStats, *, again: bool) -> WindowStats | None:
    """What is refused was counted before; `None` where its window has passed since, so that it is asked `again`.

    Raises `ValueError` for what no Redis says: that there is no room, twice, where nothing was counted.
    """
    if stats.remaining < one.amount:
        return stats
    if again:
        return None
    raise ValueError("there is no room, and nothing was counted")


class _Taken:
    """The script that counts, whose answer is yes or no. Raises `ValueError` for what no Redis says."""

    def __init__(self, script: Callable[..., Any]) -> None:
        self._script = script

    def __call__(self, keys: list[str], values: list[int]) -> bool:
        return self._understood(self._script(keys, values))

    @staticmethod
    def _understood(answer: object) -> bool:
        if answer is not None and answer not in {0, 1}:
            raise ValueError(f"an answer that no Redis gives: {answer!r:.80}")
        return bool(answer)


class _AsyncTaken(_Taken):
    """The same for asyncio."""

    async def __call__(self, keys: list[str], values: list[int]) -> bool:  # type: ignore[override] # it is awaited
        return self._understood(await self._script(keys, values))


class _Counters(RedisStorage):
    """The package's counters on a client that is there already: its own would have other time-outs."""

    def __init__(self, client: Any) -> None:  # noqa: ANN401 - of a server, Sentinel or Cluster
        Storage.__init__(self)
        self.key_prefix = _PREFIX
        self.target_server = "redis"
        self.dependency = redis
        self.storage = client
        self.initialize_storage("")
        self.lua_acquire_sliding_window = _Taken(self.lua_acquire_sliding_window)  # type: ignore[assignment] # as it


class _AsyncCounters(AsyncRedisStorage):
    """The same for asyncio."""

    def __init__(self, client: Any) -> None:  # noqa: ANN401 - of a server, Sentinel or Cluster
        AsyncStorage.__init__(self)
        self.bridge = bridge = RedispyBridge("redis://", redis, _PREFIX)
        bridge.storage = client
        bridge.connection_getter = lambda _: client
        bridge.register_scripts()
        bridge.lua_acquire_sliding_window = _AsyncTaken(bridge.lua_acquire_sliding_window)  # type: ignore[assignment]
