"""The tormentor: what breaks, when, and for how long, by a seed."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import psycopg

from nxsched.torture.proxy import CUT_AFTER, CUT_BEFORE, LATE, NONSENSE, PASS, REFUSE, Proxy
from nxsched.torture.relays import FAILS, HANGS, TAKES
from nxsched.torture.stage import Redis, Stage
from nxsched.torture.worker import STATEMENT_TIMEOUT


class Fault(NamedTuple):
    """Something of a subject that breaks: its name, how often beside the others of it, and what it needs.

    `do` returns when it is over, and says how often it was met: nothing may have been there that could break.
    """

    subject: str
    name: str
    weight: int
    needs: str
    do: Callable[[Tormentor], int]


class Planned(NamedTuple):
    """A fault and the second at which it comes."""

    at: float
    fault: Fault


@dataclass
class Tormentor:
    """Breaks what is of a subject, beside those who break what is of others.

    `processes` gives those that live of it, and `dies` by process how many statements it has left; `receiver` is
    what receivers do, and `long` for how many seconds they may take nothing.
    """

    stage: Stage
    subject: str
    chance: random.Random
    processes: Callable[[], Sequence[Any]]
    dies: Callable[[], Sequence[Any]]
    receiver: Any
    long: float

    def plan(self, lasts: float, every: float) -> list[Planned]:
        """What comes when: the same for the same seed, on the same stage. The last seconds are quiet."""
        can = {"", *(["own server"] if self.stage.data else []), *self._of_redis()}
        faults = [one for one in FAULTS if one.subject == self.subject and one.needs in can]
        at, found = every, []
        first = self.chance.sample(faults, len(faults))  # each of them once, also where there is little time
        while faults and at < lasts - QUIET:
            found.append(Planned(at, first.pop() if first else self._drawn(faults)))
            at += every * (0.5 + self.chance.random())
        return found

    def _drawn(self, faults: Sequence[Fault]) -> Fault:
        return self.chance.choices(faults, [one.weight for one in faults])[0]

    def _of_redis(self) -> list[str]:
        if self.stage.redis is None:
            return []
        return ["redis"] if self.stage.redis.process is None else ["redis", "own redis"]

    @property
    def redis(self) -> Redis:
        """The Redis of the stage: what breaks one is planned only where there is one."""
        assert self.stage.redis is not None  # noqa: S101 - see above
        return self.stage.redis

    def above(self) -> psycopg.Connection[Any]:
        """A connection past the proxy."""
        return psycopg.connect(self.stage.above.replace("+psycopg", "", 1), autocommit=True)


QUIET: Final = 5.0
"""Seconds at the end without faults: what was broken is to be well by then."""


def _terminate(t: Tormentor) -> int:
    with t.above() as above:
        asked = "SELECT pid FROM pg_stat_activity WHERE usename = ANY(%s) ORDER BY pid"
        pids = [row[0] for row in above.execute(asked, [t.stage.logins])]
        these = t.chance.sample(pids, min(len(pids), t.chance.choice([1, 2, 3, 100])))
        ended = above.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) AS pid", [these]).fetchall()
    return int((True,) in ended)


def _crash(t: Tormentor) -> int:
    t.stage.crash()
    time.sleep(t.chance.choice([0, 0.5, 2]))
    t.stage.rise()
    return 1


def _exhaust(t: Tormentor) -> int:
    """Let our login have one connection more at most, and close those that are idle: who comes next finds none."""
    with t.above() as above:
        try:
            above.execute(f"ALTER ROLE {t.stage.app.username} CONNECTION LIMIT 1")
            above.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s AND state = 'idle'",
                [t.stage.app.username],
            )
            time.sleep(t.chance.choice([0.5, 2]))
        finally:
            above.execute(f"ALTER ROLE {t.stage.app.username} CONNECTION LIMIT -1")
    return 1


def _hold_lock(t: Tormentor) -> int:
    """Hold what bookings need for longer than they wait, if it can be had."""
    what = t.chance.choice(
        [
            "SELECT 1 FROM nxsched.host FOR UPDATE",
            "SELECT 1 FROM nxsched.event_type FOR UPDATE",
            "SELECT 1 FROM nxsched.booking ORDER BY random() LIMIT 50 FOR UPDATE",
            "LOCK TABLE nxsched.claim IN ACCESS EXCLUSIVE MODE",
            "LOCK TABLE nxsched.idempotency_key IN SHARE ROW EXCLUSIVE MODE",
            "SELECT 1 FROM nxsched.outbox_event WHERE done_at IS NULL FOR UPDATE",
            "SELECT 1 FROM nxsched.reminder WHERE done_at IS NULL AND dead_at IS NULL FOR UPDATE",
        ]
    )
    for _ in range(3):  # who locks in no order may be in the way of others, or they in its
        with (
            suppress(psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected),
            t.above() as above,
            above.transaction(),
        ):
            above.execute("SET LOCAL lock_timeout = '5s'")
            above.execute(what)
            time.sleep(STATEMENT_TIMEOUT + t.chance.random())
            return 1
    return 0


def _cutting(mode: int) -> Callable[[Tormentor], int]:
    def cut(t: Tormentor) -> int:
        """As often as there is a COMMIT within two seconds."""
        proxy = t.stage.relay_proxy if t.subject == RELAYS else t.stage.proxy
        most = t.chance.choice([1, 2, 5])
        proxy.times.value = most
        proxy.mode.value = mode
        until = time.monotonic() + 2
        while proxy.times.value > 0 and time.monotonic() < until:
            time.sleep(0.01)
        proxy.mode.value = PASS
        left: int = proxy.times.value
        proxy.times.value = 0
        return most - left

    return cut


def _unreachable(t: Tormentor) -> int:
    """New connections are refused, and those that are there are closed."""
    with _mode(t.stage.proxy, REFUSE), _mode(t.stage.relay_proxy, REFUSE):
        with t.above() as above:
            ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = ANY(%s)"
            above.execute(ended, [t.stage.logins])
        time.sleep(t.chance.choice([0.3, 1]))
    return 1


def _kill(t: Tormentor) -> int:
    killed = _some(t)
    for process in killed:
        process.kill()
    return int(bool(killed))


def _die_at(t: Tormentor) -> int:
    """Let one kill itself before one of its next statements, if it comes to that many within two seconds."""
    left = t.chance.choice(t.dies())
    left.value = t.chance.randrange(1, 12)
    until = time.monotonic() + 2
    while left.value > 0 and time.monotonic() < until:
        time.sleep(0.01)
    met, left.value = left.value == 0, 0
    return int(met)


def _pause(t: Tormentor) -> int:
    """For longer than a hold lives, and than others wait for a lock; and than the lease of a relay."""
    stopped = _some(t)
    try:
        for process in stopped:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGSTOP)
        time.sleep(t.chance.choice([1.5, 3]))
    finally:
        for process in stopped:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGCONT)
    return int(bool(stopped))


def _some(t: Tormentor) -> Sequence[Any]:
    processes = [one for one in t.processes() if one.is_alive()]
    return t.chance.sample(processes, min(len(processes), t.chance.choice([1, 1, 2])))


def _receiver_away(t: Tormentor) -> int:
    """All receivers, for a moment or for long."""
    t.receiver.value = t.chance.choice([FAILS, FAILS, HANGS])
    time.sleep(t.chance.choice([0.5, 2, t.long]))
    t.receiver.value = TAKES
    return 1


class _mode:  # noqa: N801 - used as a function
    """A proxy in another mode for a while."""

    def __init__(self, proxy: Proxy, mode: int) -> None:
        self._proxy = proxy
        self._now = mode

    def __enter__(self) -> None:
        self._proxy.mode.value = self._now

    def __exit__(self, *_: object) -> None:
        self._proxy.mode.value = PASS


def _redis_in(mode: int) -> Callable[[Tormentor], int]:
    def stay(t: Tormentor) -> int:
        with _mode(t.redis.proxy, mode):
            time.sleep(t.chance.choice([1, 3]))
        return 1

    return stay


def _redis_killed(t: Tormentor) -> int:
    """And started again, empty."""
    t.redis.kill()
    time.sleep(t.chance.choice([0, 1]))
    t.redis.start()
    return 1


def _redis_paused(t: Tormentor) -> int:
    t.redis.send(signal.SIGSTOP)
    time.sleep(t.chance.choice([0.2, 2]))
    t.redis.send(signal.SIGCONT)
    return 1


def _redis_flushed(t: Tormentor) -> int:
    t.redis.say("FLUSHALL")
    return 1


DATABASE: Final = "database"
WORKERS: Final = "workers"
REDIS: Final = "Redis"
RELAYS: Final = "relays"
SUBJECTS: Final = (DATABASE, WORKERS, REDIS, RELAYS)

FAULTS: Final = (
    Fault(DATABASE, "connections terminated", 4, "", _terminate),
    Fault(DATABASE, "server stopped at once and started", 2, "own server", _crash),
    Fault(DATABASE, "no connection left", 2, "", _exhaust),
    Fault(DATABASE, "a lock held for too long", 2, "", _hold_lock),
    Fault(DATABASE, "cut before COMMIT", 3, "", _cutting(CUT_BEFORE)),
    Fault(DATABASE, "cut between COMMIT and its answer", 5, "", _cutting(CUT_AFTER)),
    Fault(DATABASE, "server unreachable", 2, "", _unreachable),
    Fault(WORKERS, "workers killed", 3, "", _kill),
    Fault(WORKERS, "a worker dies between two statements", 5, "", _die_at),
    Fault(WORKERS, "workers paused", 2, "", _pause),
    Fault(RELAYS, "relays killed", 3, "", _kill),
    Fault(RELAYS, "a relay dies between two statements", 5, "", _die_at),
    Fault(RELAYS, "a relay cut between COMMIT and its answer", 3, "", _cutting(CUT_AFTER)),
    Fault(RELAYS, "relays paused", 2, "", _pause),
    Fault(RELAYS, "the receiver fails", 3, "", _receiver_away),
    Fault(REDIS, "Redis killed, started empty", 2, "own redis", _redis_killed),
    Fault(REDIS, "Redis paused", 2, "own redis", _redis_paused),
    Fault(REDIS, "Redis flushed", 2, "own redis", _redis_flushed),
    Fault(REDIS, "Redis unreachable", 1, "redis", _redis_in(REFUSE)),
    Fault(REDIS, "Redis late by 3 s", 1, "redis", _redis_in(LATE)),
    Fault(REDIS, "Redis answers nonsense", 1, "redis", _redis_in(NONSENSE)),
)
