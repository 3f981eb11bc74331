"""What the processes of a storm do. Each is a process of its own, as application servers are."""

from __future__ import annotations

import multiprocessing as mp
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from multiprocessing.synchronize import Barrier
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import QueuePool

from nxsched import (
    Attendee,
    BookingNotFound,
    HoldExpired,
    IdempotencyConflict,
    InvalidInput,
    InvalidTransition,
    Limit,
    LockTimeout,
    Scheduler,
    SlotTaken,
    SlotUnavailable,
    Tenant,
    TransactionConflict,
)
from nxsched.torture.world import EVENT_LIMITS, FORCED, HOST_LIMITS, MEMBERS, SEATS

processes = mp.get_context("forkserver")
# What takes long to import is imported once; the path of the tests is not known there yet.
processes.set_forkserver_preload(["nxsched.scheduler", "psycopg", "psycopg_binary"])

_REFUSED = (SlotTaken, SlotUnavailable, HoldExpired, InvalidTransition, IdempotencyConflict)


def engine(url: str) -> Engine:
    """One connection, as a small application server has it."""
    return create_engine(url, poolclass=QueuePool, pool_size=1, max_overflow=0, hide_parameters=True)


def opened(url: str, worker: str | None = None) -> Scheduler:
    """A scheduler that an application closes itself."""
    return Scheduler(engine(url), worker_url=worker)


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


# What counts: bookings, and holds that are not over when the clock is looked at, which is after the rows were read.
_COUNTED: Final = """
SELECT {slug}, (o.starts_at AT TIME ZONE 'UTC')::date, count(*),
    (sum(extract(epoch FROM o.ends_at - o.starts_at)) / 60)::int
FROM nxsched.occurrence o JOIN nxsched.event_type e ON e.event_type_no = o.event_type_no {more}
WHERE e.slug <> :forced AND EXISTS (
    SELECT FROM nxsched.booking b WHERE b.occurrence_id = o.id AND (
        b.status IN ('pending', 'confirmed', 'completed', 'no_show')
        OR b.status = 'held' AND b.expires_at > clock_timestamp()))
GROUP BY 1, 2
"""
_SEATS: Final = text("""
SELECT e.slug, o.starts_at, sum(b.seats) FROM nxsched.occurrence o JOIN nxsched.booking b ON b.occurrence_id = o.id
JOIN nxsched.event_type e ON e.event_type_no = o.event_type_no
WHERE b.status IN ('pending', 'confirmed', 'completed', 'no_show')
    OR b.status = 'held' AND b.expires_at > clock_timestamp()
GROUP BY e.slug, o.id, o.starts_at HAVING sum(b.seats) > CASE WHEN e.slug IN ('class', 'course') THEN :seats ELSE 1 END
""")
_OF_EVENT_TYPES: Final = text(_COUNTED.format(slug="e.slug", more=""))
_OF_HOSTS: Final = text(
    _COUNTED.format(
        slug="h.slug",
        more="JOIN nxsched.claim c ON c.occurrence_id = o.id JOIN nxsched.host h ON h.host_no = c.host_no",
    )
)


def exceeded(connection: Connection) -> list[str]:
    """The limits that bookings exceed which were judged, and seats that were sold twice.

    Of a superuser's connection, which sees all that is there.
    """
    sold = connection.execute(_SEATS, {"seats": SEATS})
    found = [f"{slug} at {start}: {seats} seats" for slug, start, seats in sold]
    for statement, limits in ((_OF_EVENT_TYPES, EVENT_LIMITS), (_OF_HOSTS, HOST_LIMITS)):
        for slug, day, count, minutes in connection.execute(statement, {"forced": FORCED}):
            limit = limits.get(slug, Limit(per="day", count=1000))
            if count > (limit.count or count) or minutes > (limit.minutes or minutes):
                found.append(f"{slug} on {day}: {count} bookings, {minutes} minutes")
    return found


class Board:
    """Ids that all processes see: what one has booked, another cancels; and two at a time, and after it is over."""

    _PLACES = 30
    _LENGTH = 36

    def __init__(self) -> None:
        self._ids = processes.Array("c", self._PLACES * self._LENGTH)

    def put(self, chance: random.Random, id_: str) -> None:
        place = chance.randrange(self._PLACES) * self._LENGTH
        self._ids[place : place + self._LENGTH] = id_.encode()

    def pick(self, chance: random.Random) -> str | None:
        place = chance.randrange(self._PLACES) * self._LENGTH
        return bytes(self._ids[place : place + self._LENGTH]).strip(b"\0").decode() or None


class Told(NamedTuple):
    """What a caller was told of a booking or hold, once it was committed; the key of the call, and what it made."""

    id: str
    version: int
    status: str
    key: str | None
    made: str


@dataclass
class Journal:
    """What one process was told, how often what was done, and what went wrong."""

    told: set[Told] = field(default_factory=set)
    done: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class Call(NamedTuple):
    """A method of a tenant with its arguments."""

    method: str
    arguments: dict[str, Any]


@dataclass
class Walker:
    """One process that does at random whatever an application does."""

    url: str
    seed: int
    starts: Sequence[datetime]
    event_types: Sequence[str]
    holds: Board
    bookings: Board
    pairs: bool
    journal: Journal = field(default_factory=Journal)
    keyed: list[Call] = field(default_factory=list)
    chance: random.Random = field(init=False)
    acme: Tenant = field(init=False)

    def walk(self, until: float) -> Journal:
        """Go on until the clock says so: half of the calls in transactions of their own, half in the application's."""
        self.chance = random.Random(self.seed)  # noqa: S311 - to be played again
        own = engine(self.url)
        with opened(self.url) as scheduler:
            self.acme = scheduler.tenant("acme")
            while time.monotonic() < until:
                try:
                    if self.chance.random() < 0.5:
                        self.keep(self.ask())
                    else:
                        self.join(own)
                except (TransactionConflict, LockTimeout) as error:  # after all tries; nothing was written
                    self.journal.done[f"gave up: {error.code}"] += 1
                except Exception as error:  # noqa: BLE001 - whatever else reaches a caller is what we look for
                    self.journal.wrong.append(f"{type(error).__name__}: {error}")
            scheduler.engine.dispose()
        own.dispose()
        return self.journal

    def join(self, own: Engine) -> None:
        """Ask for one thing in the application's transaction, which may think better of it or meet another.

        With `pairs` now and then for two: nobody keeps an order there, and two may wait for one another.
        """
        level = self.chance.choice(["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
        try:
            with own.execution_options(isolation_level=level).connect() as connection:
                asked = [self.ask(connection) for _ in range(1 + (self.pairs and self.chance.random() < 0.1))]
                time.sleep(self.chance.choice([0, 0, 0.01, 0.05]))  # the application's own work, under our locks
                if self.chance.random() < 0.3:
                    connection.rollback()
                    self.journal.done["within: rolled back"] += 1
                    return
                connection.commit()
        except TransactionConflict as error:
            self.journal.done[f"within: {'deadlock' if 'deadlock' in str(error) else 'conflict'}"] += 1
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != "40001":  # else it is of the application's own COMMIT
                raise
            self.journal.done["within: conflict at commit"] += 1
        else:
            self.journal.done["within: committed"] += 1
            self.keep([one for told in asked for one in told])

    def ask(self, within: Connection | None = None) -> list[Told]:
        """Make a call; gives what was told, or nothing where it was refused."""
        call = self.call()
        if call is None:
            return []
        key = call.arguments.get("idempotency_key")
        if key is not None:
            self.keyed = [*self.keyed[-20:], call]
        self.journal.done["calls"] += 1
        self.journal.done["calls within"] += within is not None
        try:
            made = getattr(self.acme, call.method)(**call.arguments, within=within)
        except _REFUSED as error:
            self.journal.done[f"{call.method}: {error.code}"] += 1
            return []
        except InvalidInput as error:
            if call.method != "reassign":  # somebody else has given it to another host meanwhile
                raise
            self.journal.done[f"{call.method}: {error.code}"] += 1
            return []
        except BookingNotFound as error:
            # A snapshot from before somebody else's COMMIT does not hold what they have shown since.
            if within is None or within.get_isolation_level() == "READ COMMITTED":
                raise
            self.journal.done[f"{call.method}: {error.code}"] += 1
            return []
        self.journal.done[call.method] += 1
        series = isinstance(made, list)
        return [
            Told(one.id, one.version, one.status.value, key, one.series_id if series else one.id)
            for one in (made if series else [made])
        ]

    def keep(self, told: Sequence[Told]) -> None:
        """Write down what was committed, and show it to the others."""
        for one in told:
            self.journal.told.add(one)
            board = self.holds if one.status == "held" else self.bookings
            board.put(self.chance, one.id)

    def call(self) -> Call | None:
        """What to ask for next: something new, or the same as before with the same key."""
        if self.keyed and self.chance.random() < 0.1:
            return self.chance.choice(self.keyed)
        new = (
            [self.book] * 4
            + [self.by_force]
            + [self.place_hold] * 5
            + [self.confirm_hold] * 4
            + [self.cancel] * 3
            + [self.reschedule] * 3
            + [self.mark] * 3
            + [self.reassign] * 2
            + [self.book_series, self.cancel_series]
            + [self.release_hold] * 2
        )
        return self.chance.choice(new)()

    def book(self) -> Call:
        slot = self.slot("book")
        key = slot["idempotency_key"]
        # Now and then somebody has the key for something else.
        name = "another" if key and self.chance.random() < 0.05 else "walker"
        if key is None and slot["event_type"] in {"class", "course"}:
            slot["seats"] = self.chance.choice([1, 1, 2])
        return Call("book", {**slot, "attendee": Attendee(name=name, reference=key)})

    def by_force(self) -> Call:
        start = self.chance.choice(self.starts)
        return Call("book", {"event_type": FORCED, "start": start, "attendee": self.who(), "force": True})

    def place_hold(self) -> Call:
        """Hold a slot for so short that it is soon in the way of others; without a key now and then for longer."""
        slot = self.slot("hold")
        lasts = 1 if slot["idempotency_key"] or self.chance.random() < 0.7 else 60
        return Call("place_hold", {**slot, "ttl": timedelta(seconds=lasts)})

    def confirm_hold(self) -> Call | None:
        found = self.one_of(self.holds)
        if found is None:
            return None
        id_, keyed = found
        if_free = self.chance.random() < 0.5
        if not keyed:
            return Call("confirm_hold", {"hold_id": id_, "attendee": self.who(), "if_free": if_free})
        key = f"confirm {id_} {if_free}"
        arguments = {"hold_id": id_, "attendee": Attendee(name="walker"), "if_free": if_free, "idempotency_key": key}
        return Call("confirm_hold", arguments)

    def cancel(self) -> Call | None:
        return self.end("cancel", "booking_id")

    def reschedule(self) -> Call | None:
        """Move one that anybody made."""
        found = self.one_of(self.bookings)
        if found is None:
            return None
        id_, keyed = found
        start = self.chance.choice(self.starts)
        key = {"idempotency_key": f"move {id_} {start}"} if keyed else {}
        return Call("reschedule", {"booking_id": id_, "start": start, **key})

    def mark(self) -> Call | None:
        """Say something of one that anybody made."""
        methods = ["approve"] * 3 + ["decline"] * 2 + ["complete", "mark_no_show", "update"]
        method = self.chance.choice(methods)
        if method in {"approve", "decline"} and (waiting := self.acme.bookings(status="pending").items):
            return Call(method, {"booking_id": self.chance.choice(waiting).id})
        found = self.end(method, "booking_id")
        if found is None or method != "update":
            return found
        return Call(method, {**found.arguments, "location": "Room 7"})

    def reassign(self) -> Call | None:
        """Give one that anybody made to another host who could have it."""
        found = self.one_of(self.bookings)
        if found is None:
            return None
        id_, keyed = found
        booking = self.acme.booking(id_)
        leaving = self.chance.choice(booking.hosts)
        others = [slug for slug in MEMBERS.get(booking.event_type, ()) if slug not in booking.hosts]
        if not others:
            return None
        host = self.chance.choice(others)
        key = {"idempotency_key": f"give {id_} {leaving} {host}"} if keyed else {}
        return Call("reassign", {"booking_id": id_, "host": host, "instead_of": leaving, **key})

    def book_series(self) -> Call:
        slot = self.slot("series")
        starts = {slot.pop("start"), *self.chance.sample(self.starts, 2)}
        if slot["idempotency_key"]:  # the same for everybody who has it
            starts = {*random.Random(slot["idempotency_key"]).sample(self.starts, 3)}  # noqa: S311
        attendee = Attendee(name="walker", reference=slot["idempotency_key"])
        return Call("book_series", {**slot, "starts": sorted(starts), "attendee": attendee})

    def cancel_series(self) -> Call | None:
        """All of what anybody made."""
        found = self.one_of(self.bookings)
        series = found and self.acme.booking(found[0]).series_id
        return Call("cancel_series", {"series_id": series}) if series else None

    def release_hold(self) -> Call | None:
        return self.end("release_hold", "hold_id")

    def end(self, method: str, name: str) -> Call | None:
        """End one that anybody made; now and then one that this is not for."""
        usual, other = (self.holds, self.bookings) if method == "release_hold" else (self.bookings, self.holds)
        found = self.one_of(usual if self.chance.random() < 0.9 else other)
        if found is None:
            return None
        id_, keyed = found
        return Call(method, {name: id_, **({"idempotency_key": f"{method} {id_}"} if keyed else {})})

    def slot(self, kind: str) -> dict[str, Any]:
        """Event type and start, with a key or without; all processes have the same keys within the same second."""
        found = self.chance
        key = None
        if self.chance.random() < 0.3:
            key = f"{kind} {int(time.time() * 2)} {self.chance.randrange(2)}"
            found = random.Random(key)  # noqa: S311 - the same for everybody who has the key
        event_type, start = found.choice(self.event_types), found.choice(self.starts)
        return {"event_type": event_type, "start": start, "idempotency_key": key}

    def one_of(self, board: Board) -> tuple[str, bool] | None:
        """An id that anybody has shown, or one that stands in the list, and whether to use it with a key.

        Holds are looked up more seldom: some must be forgotten, for those alone expire.
        """
        found = board.pick(self.chance)
        if self.chance.random() < (0.02 if board is self.holds else 0.25):
            listed = self.acme.holds() if board is self.holds else self.acme.bookings(status=["pending", "confirmed"])
            found = self.chance.choice([one.id for one in listed] or [found])
        return None if found is None else (found, self.chance.random() < 0.3)

    def who(self) -> Attendee:
        return Attendee(name="walker", reference=str(self.seed))


def walk(  # noqa: PLR0913, PLR0917 - what a process begins with
    url: str,
    seed: int,
    event_types: Sequence[str],
    starts: Sequence[datetime],
    boards: tuple[Board, Board],
    lasts: float,
    pairs: bool,
    found: Any,  # noqa: ANN401 - a queue
) -> None:
    """Be a walker for so many seconds, and hand in the journal."""
    found.put(Walker(url, seed, starts, event_types, *boards, pairs).walk(time.monotonic() + lasts))


def tend(url: str, worker: str, superuser: str, lasts: float, found: Any) -> None:  # noqa: ANN401 - a queue
    """Sweep for so many seconds, and look meanwhile whether a limit is exceeded."""
    journal = Journal()
    until = time.monotonic() + lasts
    above = engine(superuser)
    with opened(url, worker) as scheduler:
        while time.monotonic() < until:
            try:
                journal.done["swept"] += scheduler.sweep().holds
                with above.begin() as connection:
                    journal.wrong += exceeded(connection)
                journal.done["looks"] += 1
            except Exception as error:  # noqa: BLE001 - as above
                journal.wrong.append(f"sweep: {type(error).__name__}: {error}")
            time.sleep(0.05)
        scheduler.engine.dispose()
    above.dispose()
    found.put(journal)
