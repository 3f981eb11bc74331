"""Calls at random: whatever an application does, on what it and others have made."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from multiprocessing.context import BaseContext
from typing import Any, Final, NamedTuple

from nxsched.domain.bookings import Actor, Attendee
from nxsched.torture.world import EVENT_TYPES, FORCED, HALF, MEMBERS


class Call(NamedTuple):
    """A method of a tenant with its arguments, among them the idempotency key and an actor who is called the same."""

    tenant: str
    method: str
    arguments: dict[str, Any]

    @property
    def key(self) -> str:
        """What everything that it leaves behind names."""
        found: str = self.arguments["idempotency_key"]
        return found


class Known(NamedTuple):
    """What somebody was told of a booking or hold."""

    id: str
    status: str
    event_type: str
    hosts: Sequence[str]
    series: str | None


class Board:
    """What all processes see, each booking in a place of its own. Nothing is locked: a process may die at any time.

    So what is read may be torn, and no JSON.
    """

    _PLACES: Final = 97
    _LENGTH: Final = 256

    def __init__(self, processes: BaseContext) -> None:
        self._words: Any = processes.RawArray("c", self._PLACES * self._LENGTH)

    def put(self, known: Known) -> None:
        """Show something, in the place of what was known of it before, or of something else."""
        words = json.dumps(known).encode()
        if len(words) <= self._LENGTH:
            place = int(known.id[-8:], 16) % self._PLACES * self._LENGTH
            self._words[place : place + self._LENGTH] = words.ljust(self._LENGTH)

    def pick(self, chance: random.Random, wanted: Callable[[Known], bool]) -> Known | None:
        """Something that is wanted, if there is any."""
        first = chance.randrange(self._PLACES)
        for n in range(self._PLACES):
            place = (first + n) % self._PLACES * self._LENGTH
            try:
                found = Known(*json.loads(bytes(self._words[place : place + self._LENGTH])))
            except (ValueError, TypeError):  # empty, or just being written
                continue
            if wanted(found):
                return found
        return None


_HOT: Final = 0.5
_HOT_FOR: Final = 0.1
"""How often a slot is wanted that all want just now, and for how many seconds that is so."""

_OPEN: Final = {"pending", "confirmed"}


@dataclass
class Chooser:
    """Chooses what to ask a tenant for; `starts` gives those that are fought over just now."""

    tenant: str
    chance: random.Random
    board: Board
    starts: Callable[[], Sequence[datetime]]

    def call(self, key: str) -> Call:
        """A call with a key of its own."""
        makers = [
            *[self._book] * 5,
            *[self._place_hold] * 5,
            *[self._confirm_hold] * 5,
            *[self._release_hold] * 2,
            *[self._cancel] * 4,
            *[self._reschedule] * 3,
            *[self._mark] * 3,
            *[self._reassign] * 2,
            self._book_by_force,
            self._book_series,
            self._cancel_series,
        ]
        found = None
        while found is None:
            found = self.chance.choice(makers)(key)
        method, arguments = found
        return Call(self.tenant, method, {**arguments, "idempotency_key": key, "actor": Actor(role="staff", id=key)})

    def _start(self) -> datetime:
        return self.chance.choice(self.starts())

    def _slot(self) -> tuple[str, datetime]:
        """An event type and a start; often those that everybody wants at this moment."""
        chance = self.chance
        if chance.random() < _HOT:
            chance = random.Random(int(time.monotonic() / _HOT_FOR))  # noqa: S311 - the same in all processes
        return chance.choice(EVENT_TYPES), chance.choice(self.starts())

    def _book(self, key: str) -> tuple[str, dict[str, Any]]:
        event_type, start = self._slot()
        seats = self.chance.choice([1, 1, 2]) if event_type in {"class", "course"} else 1
        return "book", {"event_type": event_type, "start": start, "attendee": _who(key), "seats": seats}

    def _book_by_force(self, key: str) -> tuple[str, dict[str, Any]]:
        return "book", {"event_type": FORCED, "start": self._start(), "attendee": _who(key), "force": True}

    def _book_series(self, key: str) -> tuple[str, dict[str, Any]]:
        starts = self.chance.sample(self.starts(), 3)
        return "book_series", {
            "event_type": self.chance.choice(EVENT_TYPES),
            "starts": sorted(starts),
            "attendee": _who(key),
        }

    def _place_hold(self, _: str) -> tuple[str, dict[str, Any]]:
        """For so short a time that it is soon in the way of others; now and then for longer."""
        lasts = timedelta(seconds=self.chance.choice([1, 1, 2, 30]))
        event_type, start = self._slot()
        return "place_hold", {"event_type": event_type, "start": start, "ttl": lasts}

    def _confirm_hold(self, key: str) -> tuple[str, dict[str, Any]] | None:
        found = self.board.pick(self.chance, lambda one: one.status == "held")
        if_free = self.chance.random() < 0.5  # noqa: PLR2004 - one of two
        return found and ("confirm_hold", {"hold_id": found.id, "attendee": _who(key), "if_free": if_free})

    def _release_hold(self, _: str) -> tuple[str, dict[str, Any]] | None:
        found = self.board.pick(self.chance, lambda one: one.status == "held")
        return found and ("release_hold", {"hold_id": found.id})

    def _cancel(self, key: str) -> tuple[str, dict[str, Any]] | None:
        found = self.board.pick(self.chance, lambda one: one.status in _OPEN)
        return found and ("cancel", {"booking_id": found.id, "reason": key})

    def _cancel_series(self, key: str) -> tuple[str, dict[str, Any]] | None:
        found = self.board.pick(self.chance, lambda one: one.series is not None)
        return found and ("cancel_series", {"series_id": found.series, "reason": key})

    def _reschedule(self, key: str) -> tuple[str, dict[str, Any]] | None:
        found = self.board.pick(self.chance, lambda one: one.status in _OPEN)
        return found and ("reschedule", {"booking_id": found.id, "start": self._start(), "reason": key})

    def _mark(self, key: str) -> tuple[str, dict[str, Any]] | None:
        """Say something of one that anybody made, rarely what keeps its time for good."""
        method = self.chance.choice(["approve"] * 3 + ["decline"] * 3 + ["update"] * 3 + ["complete", "mark_no_show"])
        wanted = {"pending"} if method in {"approve", "decline"} else {"confirmed"}
        found = self.board.pick(self.chance, lambda one: one.status in wanted)
        more = {"update": {"location": f"Room {key}"}, "decline": {"reason": key}}.get(method, {})
        return found and (method, {"booking_id": found.id, **more})

    def _reassign(self, key: str) -> tuple[str, dict[str, Any]] | None:
        """Give one to another host who could have it, as it was when somebody was told of it."""
        found = self.board.pick(self.chance, lambda one: one.status in _OPEN and one.event_type in MEMBERS)
        if found is None:
            return None
        host = self.chance.choice([slug for slug in MEMBERS[found.event_type] if slug not in found.hosts])
        leaving = self.chance.choice(found.hosts)
        return "reassign", {"booking_id": found.id, "host": host, "instead_of": leaving, "reason": key}


def _who(key: str) -> Attendee:
    return Attendee(name="caller", reference=key)


def days(first: datetime, passed: float) -> Sequence[datetime]:
    """The starts that are fought over when so many seconds have passed: three days, which move on as they fill."""
    day = first + timedelta(days=int(passed / _A_DAY_LASTS))
    return [day + timedelta(days=n) + m * HALF for n in range(3) for m in range(8)]


_A_DAY_LASTS: Final = 15.0
"""Seconds."""
