"""Looks at a Redis, and says whether it can give locks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from secrets import token_hex
from typing import Any, Final

from redis.exceptions import NoPermissionError

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
        except NoPermissionError:
            info = {}
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
        yield from _what_it_is(info)
        for _ in range(5):
            with locker.around(Contended(tenant="nxsched doctor", permits=(Permit(token_hex(8)),))):
                pass
        taken = told[0].outcome == "taken"
        yield Finding(
            name="redis locks",
            well=taken,
            found="a lock was taken, and given back" if taken else "no lock could be taken",
            advice="the log above says why; its user needs the rights +evalsha, +eval, +zadd, +zrem, +zcard, +zscore, "
            "+zrange, +zremrangebyscore, +pttl, +pexpire and +time on nxsched:*, and it needs memory to write",
        )
        took, patience = (seconds * 1000 for seconds in (min(one.seconds for one in told), TIMEOUT.total_seconds()))
        yield Finding(
            name="redis answers",
            well=took <= patience,
            found=f"in {took:.0f} ms",
            advice=f"bookings do without locks where it takes more than {patience:.0f} ms: bring it nearer, or give "
            "RedisLocker another timeout",
        )
    finally:
        locker.close()


def _what_it_is(info: Mapping[str, Any]) -> Iterator[Finding]:
    """By what it says of itself, where its user may ask: neither locks nor limits need that."""
    if not info:
        yield Finding(name="redis", well=True, found="its user may not ask for its version (+info)", advice="")
        return
    version = str(info.get("redis_version", "0"))
    yield Finding(
        name="redis",
        well=int(version.partition(".")[0]) >= OLDEST,
        found=f"Redis {version}",
        advice=f"locks need Redis {OLDEST} or later: upgrade the server",
    )
    yield Finding(
        name="redis role",
        well=info.get("role", "master") == "master",
        found=str(info.get("role", "master")),
        advice="a replica takes no locks: give the URL of its master, or a client that Sentinel leads to it",
    )
