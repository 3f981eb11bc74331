"""Keeps workers at it, lets tormentors loose on them, and asks again afterwards what nobody has told."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
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
from nxsched.torture.faults import DATABASE, QUIET, RELAYS, SUBJECTS, WORKERS, Planned, Tormentor
from nxsched.torture.journal import AFTERWARDS, Asked, Journal
from nxsched.torture.relays import HANGS, LEASE, TAKES, RelayOrders, relay
from nxsched.torture.report import Report, Span
from nxsched.torture.stage import Stage
from nxsched.torture.worker import KEYS_LAST, SECRET, Answer, Locks, Orders, Worker, judged, told_of, work
from nxsched.torture.world import TENANTS

_CLOCKS: Final = (3 * 3600.0, 0.0, 0.5, -5 * 3600.0)
"""How the clocks of workers are wrong, in seconds: of each process otherwise than of the one before it."""

_LOCKS: Final[Sequence[Locks]] = ("redis", "postgres", "none", "redis or nothing")
"""What locks workers take, in turn."""

_HANGS: Final = 60.0

_LONG: Final = 120.0
"""Seconds for which a receiver takes nothing, at most."""


@dataclass
class Crew:
    """Processes of a kind, so many at a time: who dies is followed by another, with another name.

    `begin` starts one, by its place and how many there were before it, and gives it with its name.
    """

    kind: str
    size: int
    begin: Callable[[int, int, Any], tuple[str, Any]]
    number: Callable[[], Any]
    living: dict[int, Any] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    dies: dict[int, Any] = field(default_factory=dict)
    begun: int = 0

    def see_to(self, dead: Callable[[str], None] = lambda _: None) -> Iterator[Violation]:
        """Have all of them at work; `dead` is told who is not any more. One that has ended otherwise is wrong."""
        for n in range(self.size):
            process = self.living.get(n)
            if process is not None and process.is_alive():
                continue
            if process is not None:
                dead(self.names[n])
                yield from self._wrong(process)
            self.dies[n] = self.number()
            self.names[n], self.living[n] = self.begin(n, self.begun, self.dies[n])
            self.begun += 1

    def end(self) -> Iterator[Violation]:
        """Wait until they have ended, as they were told."""
        until = time.monotonic() + _HANGS
        for process in self.living.values():
            process.join(max(0.0, until - time.monotonic()))
            if process.exitcode is None:
                yield Violation("every call is answered", f"one of the {self.kind} hangs: {process.pid}")
                process.kill()
                process.join()
            yield from self._wrong(process)
        self.living.clear()

    def kill(self) -> None:
        """End them at once."""
        for process in self.living.values():
            process.kill()
            process.join()

    def _wrong(self, process: Any) -> Iterator[Violation]:  # noqa: ANN401 - of multiprocessing
        if process.exitcode not in {0, -signal.SIGKILL}:
            yield Violation(f"{self.kind} live", f"one ended with {process.exitcode}")


@dataclass
class Conductor:
    """Keeps workers and relays at it, while tormentors break what is around them."""

    stage: Stage
    processes: Any
    report: Report
    seconds: float
    workers: int
    tell: Callable[[float, str], None]
    sabotage: Callable[[Worker], None] | None
    sabotage_relays: Callable[[], None] | None
    crew: Crew = field(init=False)
    relays: Crew = field(init=False)
    receiver: Any = field(init=False)
    ends: Any = field(init=False)
    boards: Mapping[str, Board] = field(init=False)
    first: datetime = field(init=False)
    began: float = 0.0
    over: Event = field(default_factory=Event)

    def __post_init__(self) -> None:
        """Begin in two days: whatever the clocks say, no start has passed."""
        self.boards = {tenant: Board(self.processes) for tenant in TENANTS}
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        self.first = today + timedelta(days=2)
        self.receiver, self.ends = self._number(), self._number()
        self.crew = Crew("workers", self.workers, self._worker, self._number)
        self.relays = Crew("relays", len(_FACES), self._relay, self._number)

    def _number(self) -> Any:  # noqa: ANN401 - shared by processes
        return self.processes.RawValue("i", 0)

    def run(self, every: float) -> None:
        """From the first call to the last."""
        plans = [
            (tormentor, tormentor.plan(self.seconds, every))
            for tormentor in (
                Tormentor(
                    self.stage,
                    subject,
                    random.Random(f"{self.report.seed} {subject}"),  # noqa: S311 - to be played again
                    lambda crew=crew: [*crew.living.values()],  # type: ignore[misc]
                    lambda crew=crew: [*crew.dies.values()],  # type: ignore[misc]
                    self.receiver,
                    min(_LONG, self.seconds / 20),
                )
                for subject in SUBJECTS
                for crew in [self.relays if subject == RELAYS else self.crew]
            )
        ]
        self.report.planned = {one.fault.name for _, plan in plans for one in plan}
        self.began = time.monotonic()
        if self.stage.redis is None:
            self.tell(0.0, "no redis-server here: nothing of Redis breaks, and nobody takes locks on it")
        self._see_to()
        try:
            with ThreadPoolExecutor(len(plans) + 1) as tormentors:
                at_work = [tormentors.submit(self._torment, *one) for one in plans]
                at_work.append(tormentors.submit(self._hurry))
                try:
                    while self.passed < self.seconds:
                        self._see_to()
                        time.sleep(0.02)
                finally:
                    self.over.set()
                for one in at_work:
                    one.result()
            self.report.violations += self.crew.end()
        finally:
            self.crew.kill()

    def _torment(self, tormentor: Tormentor, plan: Sequence[Planned]) -> None:
        """Break one thing after the other, beside those who break others."""
        for at, fault in plan:
            if self.over.wait(max(0.0, at - self.passed)) or self.passed > self.seconds - QUIET:
                break  # faults take their time, too
            self.tell(self.passed, fault.name)
            self.report.begun.add(fault.name)
            began = time.monotonic()
            try:
                times = fault.do(tormentor)
            except (psycopg.Error, NxschedError) as error:
                self.report.violations.append(Violation("what was broken is well again", f"{fault.name}: {error}"))
            else:
                self.report.faults[fault.name] += times
            # Whatever Redis and relays do, nobody is to wait for it.
            self.report.spans.append(Span(began, time.monotonic(), excuses=tormentor.subject in {DATABASE, WORKERS}))

    @property
    def passed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.began

    def _hurry(self) -> None:
        """Let the time of some reminders come: bookings are days away, and this lasts for minutes."""
        while not self.over.wait(0.2):
            with suppress(psycopg.OperationalError), psycopg.connect(plain(self.stage.above), autocommit=True) as above:
                above.execute(_HURRY, [5])

    def _see_to(self) -> None:
        self.report.violations += self.relays.see_to()
        if self.passed < self.seconds:
            self.report.violations += self.crew.see_to(self._ended)

    def _ended(self, name: str) -> None:
        self.report.ended[name] = time.monotonic()

    def _worker(self, n: int, begun: int, dies: Any) -> tuple[str, Any]:  # noqa: ANN401 - shared by processes
        name = f"w{n}.{begun}"
        orders = Orders(
            name=name,
            seed=self.report.seed * 1000 + begun + 1,
            url=self.stage.url,
            redis=self.stage.redis.url if self.stage.redis else None,
            limits=self.stage.redis is not None and self.stage.redis.process is not None,
            locks=_LOCKS[n % len(_LOCKS)],
            journal=self.stage.folder / f"{name}.journal",
            first=self.first,
            begins=self.began,
            until=self.began + self.seconds,
            clock_off_by=_CLOCKS[(n + begun // self.workers) % len(_CLOCKS)],
            boards=self.boards,
            prefix=self.stage.app.username or "",
            dies=dies,
            sabotage=self.sabotage,
        )
        self.report.workers += 1
        return name, self._begun(work, orders)

    def _relay(self, n: int, begun: int, dies: Any) -> tuple[str, Any]:  # noqa: ANN401 - shared by processes
        name = f"relay{n}.{begun}"
        orders = RelayOrders(
            name=name,
            seed=self.report.seed * 1000 + begun + 1,
            face=_FACES[n],
            url=self.stage.relay_url,
            journal=self.stage.folder / f"{name}.journal",
            mode=self.receiver,
            dies=dies,
            ends=self.ends,
            sabotage=self.sabotage_relays,
        )
        self.report.relays += 1
        return name, self._begun(relay, orders)

    def _begun(self, what: Callable[[Any], None], orders: object) -> Any:  # noqa: ANN401 - of multiprocessing
        process = self.processes.Process(target=what, args=(orders,), daemon=True)
        process.start()
        return process

    def _taken(self, above: psycopg.Connection[Any], *, still: bool = False) -> list[set[str]]:
        """Who has leases, by the names of batches; with `still`, also those that have ended."""
        asked = _TAKEN if still else f"{_TAKEN} AND leased_until > now()"
        return [{owner for (owner,) in above.execute(asked.format(table=table))} for table in QUEUES]

    def _killed_at_work(self, above: psycopg.Connection[Any]) -> list[set[str]]:
        """Kill all relays when they have something; gives the names of the batches that die with them."""
        self.receiver.value = HANGS
        taken: list[set[str]] = []
        for _ in range(3):  # who ends a batch at that moment dies with nothing
            self.report.violations += self.relays.see_to()
            above.execute(_HURRY, [100])
            until = time.monotonic() + _TAKEN_UP
            while not any(self._taken(above)) and time.monotonic() < until:
                time.sleep(0.01)
            self.relays.kill()
            if any(taken := self._taken(above)):
                break
        self.receiver.value = TAKES
        return taken

    def drain(self) -> datetime:
        """Kill all relays in the midst of their work, and let others take it up, until nothing is left to do.

        Gives the time, as the database tells it, until which that was so.
        """
        with psycopg.connect(plain(self.stage.above), autocommit=True) as above:
            taken = self._killed_at_work(above)
            self.report.violations += self.relays.see_to()
            began = time.monotonic()
            bound = LEASE.total_seconds() + _TAKEN_UP
            while left := sum(map(len, _in_common(taken, self._taken(above, still=True)))):
                self.report.taken_up = time.monotonic() - began
                if self.report.taken_up > bound:
                    found = f"{left} leases of killed relays were with nobody else after {bound:.0f} s"
                    self.report.violations.append(Violation("what a dead relay had is taken up", found))
                    break
                time.sleep(0.05)
            [now] = above.execute("SELECT clock_timestamp()").fetchone() or [None]
            assert isinstance(now, datetime)  # noqa: S101 - it tells the time
            until = time.monotonic() + _HANGS
            while any(above.execute(_LEFT_TO_DO.format(table=t)).fetchone() != (0,) for t in QUEUES):
                if time.monotonic() > until:
                    break  # the checker says what is left
                time.sleep(0.05)
                self.report.violations += self.relays.see_to()
        self.ends.value = 1
        self.report.violations += self.relays.end()
        return now


def plain(url: str) -> str:
    """As psycopg takes it."""
    return url.replace("+psycopg", "", 1)


def _in_common(one: Sequence[set[str]], other: Sequence[set[str]]) -> Iterator[set[str]]:
    yield from (mine & theirs for mine, theirs in zip(one, other, strict=True))


QUEUES: Final = ("outbox_event", "reminder", "webhook_delivery")

_FACES: Final = ("threads", "asyncio")
"""Of relays, each of which has one for events and reminders, and one for posts."""

_TAKEN_UP: Final = 5.0
"""Seconds beyond their lease, and until there is something to be taken up."""

_HURRY: Final = """
UPDATE nxsched.reminder r SET occurred_at = now(), due_at = now() FROM (
    SELECT tenant_id, id FROM nxsched.reminder
    WHERE done_at IS NULL AND dead_at IS NULL AND attempts = 0 AND due_at > now() + interval '1 hour'
    ORDER BY random() LIMIT %s FOR UPDATE SKIP LOCKED
) AS others WHERE (r.tenant_id, r.id) = (others.tenant_id, others.id)"""
_UNDONE: Final = "FROM nxsched.{table} WHERE done_at IS NULL AND dead_at IS NULL"
_TAKEN: Final = f"SELECT DISTINCT lease_owner {_UNDONE} AND lease_owner IS NOT NULL"
_LEFT_TO_DO: Final = f"SELECT count(*) {_UNDONE} AND (due_at <= now() OR attempts > 0)"


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
