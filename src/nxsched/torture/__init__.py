"""Breaks everything around nxsched while many processes use it, and then proves that what it promises has held.

`nxsched torture` runs it, on a server of its own or, for whoever wants to know before they trust it, on theirs: in a
database that it makes and removes.
"""

from __future__ import annotations

import multiprocessing
import random
import signal
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import psycopg
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from nxsched.domain import checks
from nxsched.errors import NxschedError
from nxsched.scheduler import Scheduler
from nxsched.torture.calls import Board
from nxsched.torture.checker import Violation, check, gathered
from nxsched.torture.faults import QUIET, Fault, Tormentor
from nxsched.torture.journal import Asked, read
from nxsched.torture.stage import Stage, staged
from nxsched.torture.worker import HOWS, Orders, Worker, work
from nxsched.torture.world import TENANTS, furnish

__all__ = ["Report", "Worker", "torture"]

_CLOCKS: Final = (0.0, 3 * 3600.0, -5 * 3600.0, 0.5)
_LOCKS: Final = ("redis", "postgres", "none", "redis")
"""How the clocks of workers are wrong, in seconds, and what locks they take, in turn."""

_HANGS: Final = 60.0
_GRACE: Final = 20.0
_ENOUGH: Final = 500
"""Tries after which something must have been served in every way."""

SOON: Final = 6.0
"""Seconds: three times what was measured (docs/reliability.md)."""


@dataclass
class Report:
    """What was done, what was broken, and what did not hold."""

    seed: int
    violations: list[Violation] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    told_how: Counter[str] = field(default_factory=Counter)
    workers: int = 0
    bookings: int = 0
    spans: list[tuple[float, float]] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)

    @property
    def soon(self) -> float:
        """Within how many seconds, those of faults apart, 99 of 100 calls were answered that one may have held up."""
        return sorted(self.waited)[int(len(self.waited) * 0.99)] if self.waited else 0.0

    @property
    def operations(self) -> int:
        """Calls, each of them once, however often it was tried."""
        return self.calls.total()


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
    on_stage: Callable[[Stage], None] | None = None,
) -> Report:
    """Let so many workers at it for so many seconds, break something every few, and check.

    `url` is the login of somebody who may make databases and roles; without it a server is started for this alone.
    `tell` is told what breaks, and when. `sabotage` is done to each worker, and `on_stage` to the stage before they
    begin, to see the checker cry out. Raises `InvalidInput` and `StoreUnavailable`.
    """
    checks.whole("workers", workers, least=1, most=64)
    processes: Any = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["nxsched.torture.worker", "psycopg", "psycopg_binary", "asyncpg"])
    report = Report(seed)
    with staged(url, redis, processes) as stage:
        with Scheduler(stage.app_url) as scheduler:
            for slug in TENANTS:
                furnish(scheduler.create_tenant(slug, name=slug.title()))
        if on_stage is not None:
            on_stage(stage)
        _Conductor(stage, processes, report, seconds, workers, tell, sabotage).run(every)
        asked, notes = read(sorted(stage.folder.glob("*.journal")))
        _counted(report, asked, notes)
        report.violations += _checked(stage, asked, report)
    return report


@dataclass
class _Conductor:
    """Keeps workers at it: who dies is followed by another, with another name."""

    stage: Stage
    processes: Any
    report: Report
    seconds: float
    workers: int
    tell: Callable[[float, str], None]
    sabotage: Callable[[Worker], None] | None
    living: dict[int, Any] = field(default_factory=dict)
    dies: dict[int, Any] = field(default_factory=dict)
    boards: Mapping[str, Board] = field(init=False)
    first: datetime = field(init=False)
    began: float = 0.0

    def __post_init__(self) -> None:
        """Begin in two days: whatever the clocks say, no start has passed."""
        self.boards = {tenant: Board(self.processes) for tenant in TENANTS}
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        self.first = today + timedelta(days=2)

    def run(self, every: float) -> None:
        """From the first call to the last."""
        chance = random.Random(self.report.seed)  # noqa: S311 - to be played again
        tormentor = Tormentor(self.stage, chance, lambda: [*self.living.values()], lambda: [*self.dies.values()])
        plan = tormentor.plan(self.seconds, every)
        self.began = time.monotonic()
        try:
            for at, fault in plan:
                while self.passed < at:
                    self._see_to_workers()
                    time.sleep(0.02)
                if self.passed > self.seconds - QUIET:
                    break  # faults take their time, too
                self._break(tormentor, fault)
            while self.passed < self.seconds:
                self._see_to_workers()
                time.sleep(0.05)
            self._end_workers()
        finally:
            for process in self.living.values():
                process.kill()
                process.join()

    def _break(self, tormentor: Tormentor, fault: Fault) -> None:
        self.tell(self.passed, fault.name)
        began = time.monotonic()
        try:
            fault.do(tormentor)
        except (psycopg.Error, NxschedError) as error:
            self.report.violations.append(Violation("what was broken is well again", f"{fault.name}: {error}"))
        self.report.spans.append((began, time.monotonic()))
        self.report.faults[fault.name] += 1

    @property
    def passed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.began

    def _see_to_workers(self) -> None:
        for n in range(self.workers):
            process = self.living.get(n)
            if self.passed < self.seconds and (process is None or not process.is_alive()):
                if process is not None and process.exitcode != -signal.SIGKILL:
                    self.report.violations.append(Violation("workers live", f"one ended with {process.exitcode}"))
                self._start(n)

    def _start(self, n: int) -> None:
        name = f"w{n}.{self.report.workers}"
        self.report.workers += 1
        self.dies[n] = self.processes.RawValue("i", 0)
        orders = Orders(
            name=name,
            seed=self.report.seed * 1000 + self.report.workers,
            url=self.stage.url,
            redis=self.stage.redis.url if self.stage.redis and _LOCKS[n % len(_LOCKS)] == "redis" else None,
            locks=_LOCKS[n % len(_LOCKS)],
            journal=self.stage.folder / f"{name}.journal",
            first=self.first,
            begins=self.began,
            until=self.began + self.seconds,
            clock_off_by=_CLOCKS[n % len(_CLOCKS)],
            boards=self.boards,
            dies=self.dies[n],
            sabotage=self.sabotage,
        )
        self.living[n] = self.processes.Process(target=work, args=(orders,), daemon=True)
        self.living[n].start()

    def _end_workers(self) -> None:
        until = time.monotonic() + _HANGS
        for process in self.living.values():
            process.join(max(0.0, until - time.monotonic()))
            if process.exitcode is None:
                self.report.violations.append(Violation("every call is answered", f"a worker hangs: {process.pid}"))
                process.kill()
                process.join()


def _counted(report: Report, asked: Mapping[str, Asked], notes: Sequence[Mapping[str, Any]]) -> None:
    for one in asked.values():
        report.calls[one.method] += 1
        for tried in one.tries:
            report.ends[tried.end or "killed"] += 1
            report.told_how[tried.how] += tried.end == "told"
    for how in HOWS:
        if not report.told_how[str(how)] and report.ends.total() > _ENOUGH:
            report.violations.append(Violation("all faces and levels are served", f"never: {how}"))
    report.waited = _waited(report.spans, asked)
    if report.soon > SOON:
        found = f"99 of 100 that a fault may have held up took up to {report.soon:.1f} s beside it"
        report.violations.append(Violation("calls are answered soon after a fault", found))
    for note in notes:
        if "wrong" in note:
            report.violations.append(Violation("callers see no errors but ours", note["wrong"]))
        if "looks" in note:
            report.calls[note["looks"]] += 1
    cancelled = sum("cancelled" in one for one in notes)
    if cancelled:
        report.faults["tasks cancelled"] += cancelled


def _waited(spans: Sequence[tuple[float, float]], asked: Mapping[str, Asked]) -> list[float]:
    """Of the tries that a fault may have held up, how long each waited while nothing was broken."""
    ends = [ended for _, ended in spans]
    found: list[float] = []
    for one in asked.values():
        for tried in one.tries:
            if tried.ended is None:  # its process was killed
                continue
            quiet, met = tried.ended - tried.began, False
            for began, ended in spans[bisect_left(ends, tried.began - 1) :]:
                if began > tried.ended:
                    break
                met = True
                quiet -= max(0.0, min(ended, tried.ended) - max(began, tried.began))
            if met:
                found.append(quiet)
    return found


def _checked(stage: Stage, asked: Mapping[str, Asked], report: Report) -> list[Violation]:
    """Tidy up, look at what is left, and judge."""
    left = _left(stage)
    above = create_engine(stage.above, poolclass=NullPool)
    app = create_engine(stage.app_url, poolclass=NullPool)
    violations: list[Violation] = []
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
            found = gathered(connection, tenant, asked, seen, left, swept_at)
        report.bookings += len(found.rows)
        violations += check(found)
    return violations


_TABLES: Final = (
    "tenant", "host", "event_type", "event_type_member", "occurrence", "claim", "booking", "audit_entry",
    "outbox_event", "idempotency_key", "blocked_period", "busy_time",
)  # fmt: skip


def _left(stage: Stage) -> list[str]:
    """Connections and locks of the application's login that are still there some time after its last process ended."""
    until = time.monotonic() + _GRACE
    plain = stage.above.replace("+psycopg", "", 1)
    with psycopg.connect(plain, autocommit=True) as above:
        while True:
            left = above.execute(
                "SELECT 'connection ' || pid || ': ' || state || ' ' || left(query, 60) FROM pg_stat_activity"
                " WHERE usename = %s UNION ALL SELECT 'lock ' || locktype || ' of ' || pid FROM pg_locks"
                " WHERE database = (SELECT oid FROM pg_database WHERE datname = current_database())"
                " AND pid <> pg_backend_pid()",
                [stage.app.username],
            ).fetchall()
            if not left or time.monotonic() > until:
                return [one[0] for one in left]
            time.sleep(0.1)
