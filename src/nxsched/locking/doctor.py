"""Looks at a Redis, and says whether it can give locks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from secrets import token_hex
from time import perf_counter
from typing import Final

from nxsched.domain.findings import Finding
from nxsched.locking.locker import Contended, LockEvent, Permit
from nxsched.locking.redis import TIMEOUT, RedisLocker

OLDEST: Final = 5
"""The first Redis whose scripts may ask for the time and write."""


def examine(url: str) -> Iterator[Finding]:
    """All findings: whether it answers, what it is, and whether it gives a lock. Raises `InvalidInput` for no URL."""
    told: list[LockEvent] = []
    locker = RedisLocker(url, timeout=timedelta(seconds=2), on_lock=told.append)
    try:
        try:
            info = locker.look()
            took = min(_seconds(locker) for _ in range(5)) * 1000
        except Exception as error:  # noqa: BLE001 - whatever it is that answers
            words = f"{type(error).__name__}: {error}"
            yield Finding(
                name="redis",
                well=False,
                found=words,
                advice="start it, or mend the URL (server, password, number of the database, redis+cluster:// or not); "
                "until then bookings go on without locks, or are refused, as `when_unavailable` says",
            )
            return
        version = str(info.get("redis_version", "0"))
        yield Finding(
            name="redis",
            well=int(version.partition(".")[0]) >= OLDEST,
            found=f"Redis {version}",
            advice=f"locks need Redis {OLDEST} or later: upgrade the server",
        )
        patience = TIMEOUT.total_seconds() * 1000
        yield Finding(
            name="redis answers",
            well=took <= patience,
            found=f"in {took:.0f} ms",
            advice=f"bookings do without locks where it takes more than {patience:.0f} ms: bring it nearer, or give "
            "RedisLocker another timeout",
        )
        yield Finding(
            name="redis role",
            well=info.get("role", "master") == "master",
            found=str(info.get("role", "master")),
            advice="a replica takes no locks: give the URL of its master, or a client that Sentinel leads to it",
        )
        with locker.around(Contended(tenant="nxsched doctor", permits=(Permit(token_hex(8)),))):
            yield Finding(
                name="redis locks",
                well=told[0].outcome == "taken",
                found="a lock was taken, and given back" if told[0].outcome == "taken" else "no lock could be taken",
                advice="its log says why; the role needs the rights +evalsha, +eval, +zadd, +zrem, +zcard, "
                "+zscore, +zrange, +zremrangebyscore, +pexpire and +time on nxsched:*",
            )
    finally:
        locker.close()


def _seconds(locker: RedisLocker) -> float:
    began = perf_counter()
    locker.look()
    return perf_counter() - began
