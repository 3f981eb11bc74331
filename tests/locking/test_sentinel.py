"""Locks and rate limits on a Redis that a real Sentinel names, and after it has named another."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from limits import parse
from redis import sentinel as of_threads
from redis.asyncio import sentinel as of_asyncio
from redis.exceptions import RedisError

import redises
from nxsched.locking import Contended, LockEvent, Permit, RedisLocker, TurnedAway
from nxsched.locking.clients import Clients
from nxsched.ratelimit.redis import OnRedis

ADA = Contended(tenant="acme", permits=(Permit("host:1773133200:ada"),))
NAME = "bookings"
Sentinel: Any = of_threads.Sentinel
AsyncSentinel: Any = of_asyncio.Sentinel
PATIENCE = 20.0
ONCE = parse("1/year")


@pytest.fixture
def told() -> list[LockEvent]:
    return []


@pytest.fixture
def master() -> Iterator[redises.RedisServer]:
    with redises.started() as found:
        yield found


@pytest.fixture
def sentinel(master: redises.RedisServer) -> Iterator[tuple[str, int]]:
    with redises.watched(NAME, master) as port:
        yield "127.0.0.1", port


def test_the_master_that_a_sentinel_names_gives_locks_and_counts(
    sentinel: tuple[str, int], told: list[LockEvent]
) -> None:
    client = Sentinel([sentinel], socket_timeout=10).master_for(NAME, socket_timeout=10)
    locker = RedisLocker(client, on_lock=told.append)
    locker.check(for_asyncio=False)
    with locker.around(ADA), pytest.raises(TurnedAway), locker.around(ADA):
        pass
    counts = OnRedis(Clients(client, 10), refuses=True)
    assert counts.room(ONCE, "one", take=True) is None
    assert counts.room(ONCE, "one", take=True) is not None
    client.close()
    assert [one.outcome for one in told] == ["taken", "turned_away"]


def test_with_asyncio_too(sentinel: tuple[str, int], told: list[LockEvent]) -> None:
    async def story() -> None:
        names = AsyncSentinel([sentinel], socket_timeout=10)
        client = names.master_for(NAME, socket_timeout=10)
        locker = RedisLocker(client, on_lock=told.append)
        locker.check(for_asyncio=True)
        async with locker.around_async(ADA):
            with pytest.raises(TurnedAway):
                async with locker.around_async(ADA):
                    pass
        counts = OnRedis(Clients(client, 10), refuses=True)
        assert await counts.room_async(ONCE, "one", take=True) is None
        assert await counts.room_async(ONCE, "one", take=True) is not None
        await client.aclose()
        for one in names.sentinels:
            await one.aclose()

    asyncio.run(story())
    assert [one.outcome for one in told] == ["taken", "turned_away"]


@pytest.mark.slow
def test_after_a_failover_the_new_master_gives_them_and_nobody_was_kept_from_the_database(
    master: redises.RedisServer, sentinel: tuple[str, int], told: list[LockEvent]
) -> None:
    with redises.started("--replicaof", "127.0.0.1", str(master.port)) as replica:
        names: Any = Sentinel([sentinel], socket_timeout=1)
        _until(lambda: names.discover_slaves(NAME) == [("127.0.0.1", replica.port)])
        client = names.master_for(NAME, socket_timeout=1)
        locker = RedisLocker(client, rest=timedelta(milliseconds=50), on_lock=told.append)
        with locker.around(ADA):
            pass
        master.kill()
        with locker.around(ADA):
            pass  # nobody can tell, and bookings go on
        assert [one.outcome for one in told] == ["taken", "unavailable"]
        _until(lambda: names.discover_master(NAME) == ("127.0.0.1", replica.port))

        def taken() -> bool:
            # What the old master had told the new one of may include our place, and not that we gave it back.
            with suppress(TurnedAway), locker.around(ADA):
                return told[-1].outcome == "taken"
            return False

        _until(taken)
        client.close()


def _until(holds: Any) -> None:  # noqa: ANN401 - a function
    until = time.monotonic() + PATIENCE
    while True:
        with suppress(RedisError):
            if holds():
                return
        assert time.monotonic() < until
        time.sleep(0.05)
