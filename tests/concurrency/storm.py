"""What the processes of a storm do. Each is a process of its own, as application servers are."""

from __future__ import annotations

import multiprocessing as mp
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from multiprocessing.synchronize import Barrier
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.pool import QueuePool

from nxsched import (
    Attendee,
    Booking,
    Hold,
    HoldExpired,
    InvalidTransition,
    Scheduler,
    SlotTaken,
    SlotUnavailable,
    Tenant,
    TransactionConflict,
)

HALF = timedelta(minutes=30)

processes = mp.get_context("forkserver")
# What takes long to import is imported once; the path of the tests is not known there yet.
processes.set_forkserver_preload(["nxsched.scheduler", "psycopg", "psycopg_binary"])

_REFUSED = (SlotTaken, SlotUnavailable, HoldExpired, InvalidTransition)


def opened(url: str) -> Scheduler:
    """A scheduler with one connection, as a small application server has it."""
    return Scheduler(create_engine(url, poolclass=QueuePool, pool_size=1, max_overflow=0, hide_parameters=True))


def fight(url: str, who: int, rounds: Sequence[tuple[str, datetime]], together: Barrier, found: Any) -> None:  # noqa: ANN401 - a queue
    """Book the same start as everybody else, round after round; tell what came of each."""
    outcomes: list[str] = []
    with opened(url) as scheduler:
        acme = scheduler.tenant("acme")
        attendee = Attendee(name=f"worker {who}", reference=str(who))
        for event_type, start in rounds:
            together.wait()
            try:
                booking = acme.book(event_type, start=start, attendee=attendee)
                outcomes.append(booking.id)
            except (SlotTaken, SlotUnavailable) as error:
                outcomes.append(error.code)
            except Exception as error:  # noqa: BLE001 - whatever else reaches a caller is what we look for
                outcomes.append(f"{type(error).__name__}: {error}")
        scheduler.engine.dispose()
    found.put(outcomes)


@dataclass
class Journal:
    """What one process was told: the last state of each booking, how often what was done, and what went wrong."""

    states: dict[str, str] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


@dataclass
class Walker:
    """One process that does at random whatever an application does."""

    url: str
    seed: int
    starts: Sequence[datetime]
    event_types: Sequence[str]
    journal: Journal = field(default_factory=Journal)
    holds: list[str] = field(default_factory=list)
    bookings: list[str] = field(default_factory=list)

    def walk(self, until: float) -> Journal:
        """Go on until the clock says so."""
        chance = random.Random(self.seed)  # noqa: S311 - to be played again
        acts = (
            [self.book] * 4
            + [self.hold] * 4
            + [self.confirm] * 3
            + [self.cancel] * 3
            + [self.release]
            + [self.join] * 2
        )
        with opened(self.url) as scheduler:
            acme = scheduler.tenant("acme")
            while time.monotonic() < until:
                act = chance.choice(acts)
                name = act.__name__
                try:
                    act(acme, chance)
                except _REFUSED as error:
                    name = f"{name}: {error.code}"
                except Exception as error:  # noqa: BLE001 - whatever else reaches a caller is what we look for
                    self.journal.wrong.append(f"{name}: {type(error).__name__}: {error}")
                self.journal.done[name] = self.journal.done.get(name, 0) + 1
            scheduler.engine.dispose()
        return self.journal

    def book(self, acme: Tenant, chance: random.Random) -> None:
        self._keep(acme.book(chance.choice(self.event_types), start=chance.choice(self.starts), attendee=self._who()))

    def hold(self, acme: Tenant, chance: random.Random) -> None:
        lasts = timedelta(seconds=chance.choice([1, 1, 2, 60]))
        self._keep(acme.place_hold(chance.choice(self.event_types), start=chance.choice(self.starts), ttl=lasts))

    def confirm(self, acme: Tenant, chance: random.Random) -> None:
        if self.holds:
            hold = self.holds.pop(chance.randrange(len(self.holds)))
            self._keep(acme.confirm_hold(hold, attendee=self._who(), if_free=chance.random() < 0.5))

    def cancel(self, acme: Tenant, chance: random.Random) -> None:
        if self.bookings:
            self._keep(acme.cancel(self.bookings.pop(chance.randrange(len(self.bookings)))))

    def release(self, acme: Tenant, chance: random.Random) -> None:
        if self.holds:
            self._keep(acme.release_hold(self.holds.pop(chance.randrange(len(self.holds)))))

    def join(self, acme: Tenant, chance: random.Random) -> None:
        """Book in a transaction of the application's own, which may think better of it or meet another."""
        engine = create_engine(self.url, poolclass=QueuePool, pool_size=1)
        level = chance.choice(["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
        try:
            with engine.execution_options(isolation_level=level).connect() as connection:
                start, event_type = chance.choice(self.starts), chance.choice(self.event_types)
                made = acme.book(event_type, start=start, attendee=self._who(), within=connection)
                if chance.random() < 0.5:
                    connection.rollback()
                    return
                connection.commit()
                self._keep(made)
        except TransactionConflict:
            self.journal.done["join: conflict"] = self.journal.done.get("join: conflict", 0) + 1
        except Exception as error:
            if getattr(getattr(error, "orig", None), "sqlstate", None) != "40001":  # the application's own COMMIT
                raise
        finally:
            engine.dispose()

    def _who(self) -> Attendee:
        return Attendee(name="walker", reference=str(self.seed))

    def _keep(self, made: Booking | Hold) -> None:
        self.journal.states[made.id] = made.status.value
        if made.status == "held":
            self.holds.append(made.id)
        elif made.status == "confirmed":
            self.bookings.append(made.id)


def walk(url: str, seed: int, event_types: Sequence[str], starts: Sequence[datetime], lasts: float, found: Any) -> None:  # noqa: ANN401 - a queue
    """Be a walker for so many seconds, and hand in the journal."""
    found.put(Walker(url, seed, starts, event_types).walk(time.monotonic() + lasts))
