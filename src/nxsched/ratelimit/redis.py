"""Counts on a Redis, a single server, Sentinel or Cluster: for all processes that share it.

Its clock is the only one that matters: what is counted is forgotten by times to live.
"""

from __future__ import annotations

import logging
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
from nxsched.locking.clients import Clients, to_its_end

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

    def hit(self, one: RateLimitItem, key: str) -> WindowStats | None:
        """Count an attempt, or tell when there will be room. Raises `StoreUnavailable`."""
        if not self._breaker.may_ask():
            self._away()
            return None
        try:
            strategy = Strategy(_Counters(self._clients.sync()))
            stats = None if strategy.hit(one, key) else strategy.get_window_stats(one, key)
        except Exception as error:  # noqa: BLE001 - whatever it is that answers
            self._failed(error)
            return None
        self._worked()
        return stats

    async def hit_async(self, one: RateLimitItem, key: str) -> WindowStats | None:
        """The same for asyncio."""
        if not self._breaker.may_ask():
            self._away()
            return None
        try:
            strategy = AsyncStrategy(_AsyncCounters(self._clients.of_loop()))
            stats = None
            if not await to_its_end(strategy.hit(one, key)):
                stats = await to_its_end(strategy.get_window_stats(one, key))
        except Exception as error:  # noqa: BLE001 - whatever it is that answers
            self._failed(error)
            return None
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


class _Counters(RedisStorage):
    """The package's counters on a client that is there already: its own would have other time-outs."""

    def __init__(self, client: Any) -> None:  # noqa: ANN401 - of a server, Sentinel or Cluster
        Storage.__init__(self)
        self.key_prefix = _PREFIX
        self.target_server = "redis"
        self.dependency = redis
        self.storage = client
        self.initialize_storage("")


class _AsyncCounters(AsyncRedisStorage):
    """The same for asyncio."""

    def __init__(self, client: Any) -> None:  # noqa: ANN401 - of a server, Sentinel or Cluster
        AsyncStorage.__init__(self)
        self.bridge = bridge = RedispyBridge("redis://", redis, _PREFIX)
        bridge.storage = client
        bridge.connection_getter = lambda _: client
        bridge.register_scripts()
