"""Breaks everything around nxsched while many processes use it, and then proves that what it promises has held.

`nxsched torture` runs it, on a server of its own or, for whoever wants to know before they trust it, on theirs: in a
database that it makes and removes.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from importlib.util import find_spec
from typing import Any, Final, NamedTuple

import psycopg
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from nxsched.domain import checks
from nxsched.errors import MissingExtra
from nxsched.scheduler import Scheduler
from nxsched.torture.checker import check
from nxsched.torture.conductor import Conductor, ask_again, plain
from nxsched.torture.evidence import Received, gathered
from nxsched.torture.journal import AFTERWARDS, Asked, read
from nxsched.torture.report import Report
from nxsched.torture.stage import Stage, staged
from nxsched.torture.worker import Worker
from nxsched.torture.world import TENANTS, furnish

__all__ = ["Report", "Worker", "torture"]

_GRACE: Final = 20.0

LOCKS_LAST: Final = 5_000
"""Milliseconds: what locks on Redis have to live unless something else is said."""


def torture(  # noqa: PLR0913 - keywords
    *,
    seconds: float,
    workers: int = 4,
    seed: int,
    url: str | None = None,
    redis: str | None = None,
    every: float = 2.0,
    tell: Callable[[float, str], None] = lambda _, __: None,
    sabotage: Callable[[Worker], None] | None = None,
    sabotage_relays: Callable[[], None] | None = None,
    on_stage: Callable[[Stage], None] | None = None,
) -> Report:
    """Let so many workers at it for so many seconds, break something every few, and check.

    `url` is the login of somebody who may make databases and roles; without it a server is started for this alone.
    `tell` is told what breaks, and when. `sabotage` is done to each worker, `sabotage_relays` in each relay, and
    `on_stage` to the stage before they begin, to see the checker cry out. Raises `InvalidInput` and `StoreUnavailable`.
    """
    checks.whole("workers", workers, least=1, most=64)
    for package, extra in {"asyncpg": "asyncpg", **({"redis": "redis"} if redis else {})}.items():
        if find_spec(package) is None:
            raise MissingExtra(what="a torture" + " with redis=…" * (package == "redis"), extra=extra)
    processes: Any = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(
        ["nxsched.torture.worker", "nxsched.torture.relays", "psycopg", "psycopg_binary", "asyncpg"]
    )
    report = Report(seed)
    with staged(url, redis, processes) as stage:
        with Scheduler(stage.app_url) as scheduler:
            for slug in TENANTS:
                furnish(scheduler.create_tenant(slug, name=slug.title()))
        if on_stage is not None:
            on_stage(stage)
        conductor = Conductor(stage, processes, report, seconds, workers, tell, sabotage, sabotage_relays)
        try:
            conductor.run(every)
            asked, notes = read(sorted(stage.folder.glob("*.journal")))
            report.count(asked, notes)
            left = [*_left(stage, stage.logins[:1]), *_left_in_redis(stage)]
            keys = _checked(stage, Heard(asked, left), report)
            afterwards = ask_again(stage, asked)
            drained_at = conductor.drain()
        finally:
            conductor.relays.kill()
        asked, notes = read([*(one for one in sorted(stage.folder.glob("*.journal")) if one != afterwards), afterwards])
        received = [Received(*one["got"]) for one in notes if "got" in one]
        report.count_received(received)
        report.asked_again = sum(one.tries[-1].how == AFTERWARDS for one in asked.values())
        left += _left(stage, stage.logins)
        _checked(stage, Heard(asked, left, keys, Deliveries(received, drained_at)), report)
    return report


class Deliveries(NamedTuple):
    """What receivers were given, until nothing was left of what there was to deliver before `drained_at`."""

    received: Sequence[Received]
    drained_at: datetime


class Heard(NamedTuple):
    """What callers have heard, and what was left; `keys` are those that were there the last time."""

    asked: Mapping[str, Asked]
    left: Sequence[str]
    keys: Collection[str] = ()
    deliveries: Deliveries | None = None


def _checked(stage: Stage, heard: Heard, report: Report) -> Collection[str]:
    """Tidy up, look at what is there, and judge; gives the keys that are there."""
    above = create_engine(stage.above, poolclass=NullPool)
    app = create_engine(stage.app_url, poolclass=NullPool)
    keys: set[str] = set()
    report.bookings = 0
    for tenant in TENANTS:
        with above.connect() as connection, Scheduler(stage.app_url) as scheduler:
            swept_at = connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
            scheduler.tenant(tenant).sweep()
        seen: dict[str, int] = {}
        with app.begin() as connection:
            connection.exec_driver_sql("SELECT set_config('nxsched.tenant_id', %s, true)", (tenant,))
            for table in _TABLES:
                statement = f"SELECT count(*) FROM nxsched.{table} WHERE tenant_id <> %s"  # noqa: S608 - our own names
                seen[table] = connection.exec_driver_sql(statement, (tenant,)).scalar_one()
        with above.connect() as connection:
            found = gathered(connection, tenant, heard.asked, seen, heard.left, swept_at)
        found = replace(found, keys_before=heard.keys)
        if heard.deliveries is None:
            found = replace(found, queued={})  # relays are still at it
        else:
            received, drained_at = heard.deliveries
            theirs = [one for one in received if one.tenant == tenant]
            found = replace(found, received=theirs, drained_at=drained_at)
        report.bookings += len(found.rows)
        report.violations += [one for one in check(found) if one not in report.violations]
        keys.update(found.keys)
    return keys


_TABLES: Final = (
    "tenant", "host", "event_type", "event_type_member", "occurrence", "claim", "booking", "audit_entry",
    "outbox_event", "reminder", "webhook", "webhook_delivery", "idempotency_key", "blocked_period", "busy_time",
    "message_template", "message_preference",
)  # fmt: skip


def _left(stage: Stage, logins: Sequence[str]) -> list[str]:
    """Connections and locks of these logins that are still there some time after their last process ended."""
    until = time.monotonic() + _GRACE
    with psycopg.connect(plain(stage.above), autocommit=True) as above:
        while True:
            left = above.execute(
                "SELECT 'connection ' || pid || ': ' || state || ' ' || left(query, 60) FROM pg_stat_activity"
                " WHERE usename = ANY(%s) UNION ALL SELECT 'lock ' || locktype || ' of ' || pid FROM pg_locks"
                " WHERE database = (SELECT oid FROM pg_database WHERE datname = current_database())"
                " AND pid <> pg_backend_pid()"
                " AND pid NOT IN (SELECT pid FROM pg_stat_activity WHERE usename = ANY(%s))",
                [[*logins], [one for one in stage.logins if one not in logins]],
            ).fetchall()
            if not left or time.monotonic() > until:
                return [one[0] for one in left]
            time.sleep(0.1)


def _left_in_redis(stage: Stage) -> list[str]:
    """Locks of workers that will not end by themselves, or later than their time says."""
    if stage.redis is None:
        return []
    from redis import Redis, RedisError  # noqa: PLC0415 - the package is optional, and there where a Redis is

    target = stage.redis.proxy.target
    try:
        with Redis(target.host, target.port) as client:
            locks = {key: client.pttl(key) for key in client.scan_iter(f"{stage.app.username}:*", count=1000)}
    except RedisError as error:
        return [f"Redis cannot be asked for the locks that are left: {error}"]
    # One that is gone meanwhile has -2, and one that stays for good -1.
    return [f"a lock on Redis: {key!r} ends in {ms} ms" for key, ms in locks.items() if ms == -1 or ms > LOCKS_LAST]
