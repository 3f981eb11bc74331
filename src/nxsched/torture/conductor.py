"""Keeps workers at it, lets tormentors loose on them, and asks again afterwards what nobody has told."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any, Final

import psycopg

from nxsched.errors import NxschedError
from nxsched.scheduler import Scheduler
from nxsched.torture.calls import Board, Call
from nxsched.torture.checker import Violation
from nxsched.torture.faults import QUIET, REDIS, SUBJECTS, Planned, Tormentor
from nxsched.torture.journal import AFTERWARDS, Asked, Journal
from nxsched.torture.report import Report, Span
from nxsched.torture.stage import Stage
from nxsched.torture.worker import KEYS_LAST, SECRET, Answer, Locks, Orders, Worker, judged, told_of, work
from nxsched.torture.world import TENANTS

_CLOCKS: Final = (3 * 3600.0, 0.0, 0.5, -5 * 3600.0)
"""How the clocks of workers are wrong, in seconds: of each process otherwise than of the one before it."""

_LOCKS: Final[Sequence[Locks]] = ("redis", "postgres", "none", "redis or nothing")
"""What locks workers take, in turn."""

_HANGS: Final = 60.0


@dataclass
class Conductor:
    """Keeps workers at it: who dies is followed by another, with another name."""

    stage: Stage
    processes: Any
    report: Report
    seconds: float
    workers: int
    tell: Callable[[float, str], None]
    sabotage: Callable[[Worker], None] | None
    living: dict[int, Any] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    dies: dict[int, Any] = field(default_factory=dict)
    boards: Mapping[str, Board] = field(init=False)
    first: datetime = field(init=False)
    began: float = 0.0
    over: Event = field(default_factory=Event)

    def __post_init__(self) -> None:
        """Begin in two days: whatever the clocks say, no start has passed."""
        self.boards = {tenant: Board(self.processes) for tenant in TENANTS}
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        self.first = today + timedelta(days=2)

    def run(self, every: float) -> None:
        """From the first call to the last."""
        plans = [
            (tormentor, tormentor.plan(self.seconds, every))
            for tormentor in (
                Tormentor(
                    self.stage,
                    subject,
                    random.Random(f"{self.report.seed} {subject}"),  # noqa: S311 - to be played again
                    lambda: [*self.living.values()],
                    lambda: [*self.dies.values()],
                )
                for subject in SUBJECTS
            )
        ]
        self.report.planned = {one.fault.name for _, plan in plans for one in plan}
        self.began = time.monotonic()
        if self.stage.redis is None:
            self.tell(0.0, "no redis-server here: nothing of Redis breaks, and nobody takes locks on it")
        self._see_to_workers()
        try:
            with ThreadPoolExecutor(len(plans)) as tormentors:
                at_work = [tormentors.submit(self._torment, *one) for one in plans]
                try:
                    while self.passed < self.seconds:
                        self._see_to_workers()
                        time.sleep(0.02)
                finally:
                    self.over.set()
                for one in at_work:
                    one.result()
            self._end_workers()
        finally:
            for process in self.living.values():
                process.kill()
                process.join()

    def _torment(self, tormentor: Tormentor, plan: Sequence[Planned]) -> None:
        """Break one thing after the other, beside those who break others."""
        for at, fault in plan:
            if self.over.wait(max(0.0, at - self.passed)) or self.passed > self.seconds - QUIET:
                break  # faults take their time, too
            self.tell(self.passed, fault.name)
            began = time.monotonic()
            try:
                times = fault.do(tormentor)
            except (psycopg.Error, NxschedError) as error:
                self.report.violations.append(Violation("what was broken is well again", f"{fault.name}: {error}"))
            else:
                self.report.faults[fault.name] += times
            # Whatever Redis does, nobody is to wait for it.
            self.report.spans.append(Span(began, time.monotonic(), excuses=tormentor.subject != REDIS))

    @property
    def passed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.began

    def _see_to_workers(self) -> None:
        for n in range(self.workers):
            process = self.living.get(n)
            if self.passed < self.seconds and (process is None or not process.is_alive()):
                if process is not None:
                    self.report.ended[self.names[n]] = time.monotonic()
                if process is not None and process.exitcode != -signal.SIGKILL:
                    self.report.violations.append(Violation("workers live", f"one ended with {process.exitcode}"))
                self._start(n)

    def _start(self, n: int) -> None:
        name = self.names[n] = f"w{n}.{self.report.workers}"
        self.dies[n] = self.processes.RawValue("i", 0)
        orders = Orders(
            name=name,
            seed=self.report.seed * 1000 + self.report.workers + 1,
            url=self.stage.url,
            redis=self.stage.redis.url if self.stage.redis else None,
            limits=self.stage.redis is not None and self.stage.redis.process is not None,
            locks=_LOCKS[n % len(_LOCKS)],
            journal=self.stage.folder / f"{name}.journal",
            first=self.first,
            begins=self.began,
            until=self.began + self.seconds,
            clock_off_by=_CLOCKS[(n + self.report.workers // self.workers) % len(_CLOCKS)],
            boards=self.boards,
            prefix=self.stage.app.username or "",
            dies=self.dies[n],
            sabotage=self.sabotage,
        )
        self.report.workers += 1
        process = self.processes.Process(target=work, args=(orders,), daemon=True)
        process.start()
        self.living[n] = process

    def _end_workers(self) -> None:
        until = time.monotonic() + _HANGS
        for process in self.living.values():
            process.join(max(0.0, until - time.monotonic()))
            if process.exitcode is None:
                self.report.violations.append(Violation("every call is answered", f"a worker hangs: {process.pid}"))
                process.kill()
                process.join()
            elif process.exitcode not in {0, -signal.SIGKILL}:
                self.report.violations.append(Violation("workers live", f"one ended with {process.exitcode}"))


def ask_again(stage: Stage, asked: Mapping[str, Asked]) -> Path:
    """Make each call that nobody was answered once more, with its key; gives the journal of what comes of it."""
    file = stage.folder / f"{AFTERWARDS}.journal"
    journal = Journal(file)
    with Scheduler(stage.app_url, secrets=[SECRET], keys_last=KEYS_LAST) as scheduler:
        for one in asked.values():
            if one.tries[-1].end not in {None, "unknown"}:
                continue
            call = Call(one.key, one.tenant, one.method, one.arguments)
            journal.begin(AFTERWARDS, *call)
            try:
                made: Any = call.of(scheduler.tenant(call.tenant))(**call.spelled())
            except Exception as error:  # noqa: BLE001 - whatever reaches a caller
                answer = judged(error, method=call.method)
            else:
                answer = Answer("told", "", told_of(made))
            journal.end(call.key, *answer)
    return file
