"""Counts attempts, and refuses those that are too many."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, Protocol

from limits import RateLimitItem, WindowStats
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter as Strategy

from nxsched.domain import checks
from nxsched.errors import InvalidInput, RateLimited
from nxsched.forks import in_children
from nxsched.locking.choosing import WhenUnavailable
from nxsched.ratelimit.rates import ACTS, ORDER, Act, RateLimit, item, key

LOG: Final = logging.getLogger("nxsched.ratelimit")

MOST_LIMITS: Final = 20
"""Each costs a round trip to Redis."""

TIMEOUT: Final = 0.04
"""Seconds that Redis may take: those of the locks."""

_MARGIN: Final = 0.005
"""Seconds by which a counter may still stand at its limit when its time has come."""


class Counts(Protocol):
    """Where attempts are counted."""

    def room(self, one: RateLimitItem, key: str, *, take: bool) -> WindowStats | None:
        """Count an attempt, or look whether there is room for one; where there is not, tell when there will be."""

    async def room_async(self, one: RateLimitItem, key: str, *, take: bool) -> WindowStats | None:
        """The same for asyncio."""

    def close(self) -> None:
        """Close the connections that were made here."""

    async def aclose(self) -> None:
        """The same for asyncio."""


class InMemory:
    """Counts of this process alone."""

    def __init__(self) -> None:
        self._begin()
        in_children(self, InMemory._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._strategy = Strategy(MemoryStorage())

    def room(self, one: RateLimitItem, key: str, *, take: bool) -> WindowStats | None:
        """One at a time, so that none is lost."""
        with self._lock:
            try:
                there_is = self._strategy.hit(one, key) if take else self._strategy.test(one, key)
                return None if there_is else self._strategy.get_window_stats(one, key)
            except RuntimeError as error:  # the package starts threads, and there may be no more
                LOG.warning("an attempt was let through, for it could not be counted: %s", error)
                return None

    async def room_async(self, one: RateLimitItem, key: str, *, take: bool) -> WindowStats | None:
        """The same; nothing here waits."""
        return self.room(one, key, take=take)

    def close(self) -> None:
        """Nothing is open."""

    async def aclose(self) -> None:
        """Nothing is open."""


class Limiter:
    """Counts attempts: on Redis for all processes that share it, else in memory."""

    def __init__(self, limits: Sequence[RateLimit], counts: Counts) -> None:
        # Two that count the same in the same place would count it twice.
        items = {(one.by, one.acts, repr(found)): (one, found) for one in limits for found in [item(one.rate)]}
        self._items = dict(items.values())
        narrow_first = sorted(self._items, key=lambda one: (ORDER.index(one.by), self._items[one].get_expiry()))
        self._of = {act: [one for one in narrow_first if act in one.acts] for act in ACTS}
        self._counts = counts

    def of(self, act: Act) -> Sequence[RateLimit]:
        """The limits of an act, the narrowest first."""
        return self._of[act]

    def look(self, limit: RateLimit, act: Act, tenant: str, who: str, *, take: bool) -> None:
        """Count an attempt, or look whether there is room. Raises `RateLimited` and `StoreUnavailable`."""
        self._judge(limit, act, self._counts.room(self._items[limit], key(limit, tenant, who), take=take))

    async def look_async(self, limit: RateLimit, act: Act, tenant: str, who: str, *, take: bool) -> None:
        """The same for asyncio."""
        stats = await self._counts.room_async(self._items[limit], key(limit, tenant, who), take=take)
        self._judge(limit, act, stats)

    def close(self) -> None:
        """Close the connections that were made here."""
        self._counts.close()

    async def aclose(self) -> None:
        """The same for asyncio."""
        await self._counts.aclose()

    def _judge(self, limit: RateLimit, act: Act, stats: WindowStats | None) -> None:
        if stats is None:
            return
        # Whatever the counter says: not at once, and no longer than until all that it has counted is forgotten.
        seconds = min(max(stats.reset_time - time.time(), 0.0) + _MARGIN, 2.0 * self._items[limit].get_expiry())
        LOG.debug("an attempt (%s) was refused: %s by %s", act, limit.rate, limit.by)
        raise RateLimited(retry_after=timedelta(seconds=seconds), act=act, rate=limit.rate, by=limit.by)


def limiter(
    limits: Sequence[RateLimit], redis: object, when_unavailable: WhenUnavailable, *, for_asyncio: bool
) -> Limiter:
    """What counts for a scheduler. Raises `InvalidInput`, and `MissingExtra` for a Redis without its package."""
    found = checks.items("rate_limits", limits, RateLimit)
    if len(found) > MOST_LIMITS:
        raise InvalidInput(field="rate_limits", reason=f"must be at most {MOST_LIMITS}, not {len(found)}")
    if redis is None:
        return Limiter(found, InMemory())
    from nxsched.locking.clients import Clients  # noqa: PLC0415 - its package is optional

    clients = Clients(redis, TIMEOUT)
    clients.check(for_asyncio=for_asyncio)
    from nxsched.ratelimit.redis import OnRedis  # noqa: PLC0415 - as above

    return Limiter(found, OnRedis(clients, refuses=when_unavailable == "refuse"))
