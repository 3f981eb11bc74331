"""An explorer of interleavings: operations on connections of their own, one statement at a time, in every order.

Each operation runs in a thread that stops before every statement and before its COMMIT. The explorer lets one of them
go on at a time, and looks whether it then waits in the database for another. It takes each choice that there was in
turn, so that every order is met that the statements and their locks allow, without chance.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.pool import QueuePool

from nxsched import NxschedError, Scheduler, SettableClock, Tenant
from store.bridged import SECRET
from store.conftest import Database

PATIENCE = 20.0
OTHERWISE = 2.0
"""Seconds after which an order is given up that cannot be had again, and another one followed."""

Operation = Callable[[Tenant], Any]


@dataclass
class Actor:
    """An operation on its way: at a gate, on the move, or done."""

    engine: Engine
    pid: int
    go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    at_gate: bool = False
    done: bool = False
    free: bool = True
    outcome: str = ""

    def gate(self) -> None:
        """Wait to be let through."""
        if not self.free:
            self.at_gate = True
            self.go.acquire()

    def run(self, operation: Operation, tenant: Tenant) -> None:
        """Do it, and say what came of it."""
        self.free = False
        self.gate()
        try:
            made = operation(tenant)
            self.outcome = made.status.value if hasattr(made, "status") else "done"
        except NxschedError as error:
            self.outcome = error.code
        except Exception as error:  # noqa: BLE001 - whatever reaches a caller
            self.outcome = f"{type(error).__name__}: {error}"
        finally:
            self.free, self.done = True, True


class Explorer:
    """Runs operations side by side on one database, on as many connections."""

    def __init__(
        self, db: Database, actors: int, clock: SettableClock, rewrite: Callable[[str], str] | None = None
    ) -> None:
        self._watch = db.superuser.connect()
        self.given_up = 0
        self._actors: list[Actor] = []
        self._tenants: list[Tenant] = []
        for _ in range(actors):
            engine = create_engine(db.app.url, poolclass=QueuePool, pool_size=1, max_overflow=0)
            with engine.connect() as connection:
                pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
            actor = Actor(engine, pid)
            _gated(actor, rewrite)
            self._actors.append(actor)
            self._tenants.append(Scheduler(engine, clock=clock, wake_relays=False, secrets=[SECRET]).tenant("acme"))

    def close(self) -> None:
        """Give the connections back."""
        self._watch.close()
        for actor in self._actors:
            actor.engine.dispose()

    def every(self, operations: Callable[[int], Sequence[Operation]]) -> Iterator[tuple[Sequence[int], list[str]]]:
        """Every order of what `operations` gives for the number of the run: who went on when, and what came of each."""
        pending: list[list[int]] = [[]]
        n = 0
        while pending:
            prefix = pending.pop()
            taken, choices, outcomes = self._run(operations(n), partial(_first_of, prefix))
            n += 1
            for at in range(len(prefix), len(taken)):
                pending += [[*taken[:at], other] for other in choices[at] if other != taken[at]]
            yield taken, outcomes

    def sample(
        self, operations: Callable[[int], Sequence[Operation]], times: int, seed: int
    ) -> Iterator[tuple[Sequence[int], list[str]]]:
        """As many orders, drawn with a seed."""
        chance = random.Random(seed)  # noqa: S311 - to be played again
        for n in range(times):
            taken, _, outcomes = self._run(operations(n), lambda _, ready: chance.choice(ready))
            yield taken, outcomes

    def _run(
        self, operations: Sequence[Operation], choose: Callable[[int, list[int]], int]
    ) -> tuple[list[int], list[list[int]], list[str]]:
        actors = self._actors
        threads = []
        for actor, tenant, operation in zip(actors, self._tenants, operations, strict=True):
            actor.at_gate, actor.done, actor.outcome = False, False, ""
            threads.append(threading.Thread(target=actor.run, args=(operation, tenant), daemon=True))
            threads[-1].start()
        for n in range(len(actors)):
            self._settle(n)
        taken: list[int] = []
        choices: list[list[int]] = []
        until, since = time.monotonic() + PATIENCE, time.monotonic()
        while not all(actor.done for actor in actors):
            assert time.monotonic() < until, "nobody can go on"
            ready = [n for n, actor in enumerate(actors) if actor.at_gate and not actor.done]
            if not ready:  # all of them wait in the database, and one will be let go
                time.sleep(0.001)
                continue
            chosen = choose(len(taken), ready)
            if chosen not in ready and time.monotonic() < since + OTHERWISE:
                time.sleep(0.001)  # it waits in the database, a moment longer than the last time
                continue
            if (
                chosen not in ready
            ):  # who has waited for longer looks once more: there is a statement more than last time
                chosen = ready[0]
                self.given_up += 1
            since = time.monotonic()
            taken.append(chosen)
            choices.append(ready)
            actors[chosen].at_gate = False
            actors[chosen].go.release()
            for n, actor in enumerate(actors):  # whoever waited for it may be on the move as well
                if not actor.at_gate and not actor.done:
                    self._settle(n)
        for thread in threads:
            thread.join()
        return taken, choices, [actor.outcome for actor in actors]

    def _settle(self, n: int) -> None:
        """Wait until it has come to its next gate or its end, or waits in the database for somebody."""
        actor = self._actors[n]
        until = time.monotonic() + PATIENCE
        looked = time.monotonic() + 0.003
        while not (actor.at_gate or actor.done):
            assert time.monotonic() < until, "it neither goes on nor waits"
            if time.monotonic() > looked and self._waits(actor.pid):
                return
            time.sleep(0.0002)

    def _waits(self, pid: int) -> bool:
        found = self._watch.execute(
            text("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = :pid"), {"pid": pid}
        ).scalar_one()
        self._watch.rollback()
        return bool(found)


def _gated(actor: Actor, rewrite: Callable[[str], str] | None) -> None:
    def before(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> tuple[str, Any]:  # noqa: ANN401
        actor.gate()
        return (rewrite(statement) if rewrite else statement), parameters

    event.listen(actor.engine, "before_cursor_execute", before, retval=True)
    event.listen(actor.engine, "commit", lambda _: actor.gate())


def _first_of(prefix: Sequence[int], at: int, ready: list[int]) -> int:
    """As it is written; then whoever comes first."""
    return prefix[at] if at < len(prefix) else ready[0]


@contextmanager
def exploring(
    db: Database, actors: int, clock: SettableClock, rewrite: Callable[[str], str] | None = None
) -> Iterator[Explorer]:
    """An explorer for a while."""
    found = Explorer(db, actors, clock, rewrite)
    try:
        yield found
    finally:
        found.close()
