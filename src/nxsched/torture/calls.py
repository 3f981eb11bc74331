"""Calls at random: whatever an application does, on what it and others have made."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing.context import BaseContext
from typing import Any, Final, NamedTuple
from zlib import crc32

from nxsched.domain.availability import BlockedPeriod
from nxsched.domain.bookings import Actor, Attendee
from nxsched.domain.tenants import TenantDetails
from nxsched.torture.journal import written
from nxsched.torture.world import EVENT_TYPES, EVENT_TYPES_SAVED, FORCED, HALF, HOSTS, HOSTS_SAVED, MEMBERS, SPARE


class Call(NamedTuple):
    """A method of a tenant, or of the link of a booking, with an idempotency key; what it leaves behind names the key.

    `arguments` are JSON, as the journal has them; `spelled` makes of them what the method takes.
    """

    key: str
    tenant: str
    method: str
    arguments: dict[str, Any]

    def of(self, tenant: Any) -> Callable[..., Any]:  # noqa: ANN401 - of either face
        """The method."""
        if self.method in BY_LINK:
            tenant = tenant.with_token(self.arguments["token"])
        found: Callable[..., Any] = getattr(tenant, BY_LINK.get(self.method, self.method))
        return partial(found, *self._saved())

    def spelled(self) -> dict[str, Any]:
        """Its arguments, with the key and an actor who is called the same; behind a link nobody says who they are."""
        found: dict[str, Any] = {"idempotency_key": self.key}
        if self.method not in BY_LINK:
            found["actor"] = Actor(role="staff", id=self.key)
        for name, value in self.arguments.items():
            if name not in _OURS and not (name == "booking_id" and self.method in BY_LINK):
                found[name] = _SPELLED.get(name, _as_it_is)(value)
        return found

    def _saved(self) -> Sequence[object]:
        """What is set up, with the key as its name."""
        match self.method:
            case "save_host":
                return [replace(_HOSTS[self.arguments["of"]], name=self.key)]
            case "save_event_type":
                return [replace(_EVENT_TYPES[self.arguments["of"]], name=self.key)]
            case "save_details":
                return [TenantDetails(id=self.tenant, name=self.key)]
            case "block":
                return [self.arguments["of"], BlockedPeriod(start=_LONG_AGO.date(), reason=self.key)]
            case "replace_busy":
                return [self.arguments["of"]]
            case _:
                return []


BY_LINK: Final = {"cancel by link": "cancel", "reschedule by link": "reschedule"}

_OURS: Final = {"of", "token"}
"""Arguments that no method has."""

_HOSTS: Final = {one.slug: one for one in HOSTS_SAVED}
_EVENT_TYPES: Final = {one.slug: one for one in EVENT_TYPES_SAVED}

_LONG_AGO: Final = datetime(2001, 1, 1, tzinfo=UTC)
"""Where what is set up is in nobody's way."""


def _as_it_is(value: object) -> object:
    return value


def _pairs(starts: Sequence[str]) -> list[tuple[datetime, datetime]]:
    """Busy time from outside, five minutes each."""
    return [(datetime.fromisoformat(one), datetime.fromisoformat(one) + timedelta(minutes=5)) for one in starts]


_SPELLED: Final[Mapping[str, Callable[[Any], object]]] = {
    "start": datetime.fromisoformat,
    "end": datetime.fromisoformat,
    "starts": lambda starts: [datetime.fromisoformat(one) for one in starts],
    "periods": _pairs,
    "ttl": lambda seconds: timedelta(seconds=seconds),
    "attendee": lambda who: Attendee(name=who, email=f"{who.replace(' ', '.')}@example.test", reference=who),
}


class Known(NamedTuple):
    """What somebody was told of a booking or hold."""

    id: str
    status: str
    event_type: str
    hosts: Sequence[str]
    series: str | None
    who: str | None


class Board:
    """What all processes see, each booking in a place of its own. Nothing is locked: a process may die at any time.

    So what is read may be torn: a sum before it says whether it is.
    """

    _PLACES: Final = 97
    _LENGTH: Final = 320

    def __init__(self, processes: BaseContext) -> None:
        self._words: Any = processes.RawArray("c", self._PLACES * self._LENGTH)

    def put(self, known: Known) -> None:
        """Show something, in the place of what was known of it before, or of something else."""
        words = _summed(json.dumps(known).encode())
        if len(words) <= self._LENGTH:
            place = int(known.id[-8:], 16) % self._PLACES * self._LENGTH
            self._words[place : place + self._LENGTH] = words.ljust(self._LENGTH)

    def pick(self, chance: random.Random, wanted: Callable[[Known], bool]) -> Known | None:
        """Something that is wanted, if there is any."""
        first = chance.randrange(self._PLACES)
        for n in range(self._PLACES):
            place = (first + n) % self._PLACES * self._LENGTH
            words = bytes(self._words[place : place + self._LENGTH]).strip(b"\0 ")
            if not words or _summed(words[_SUM:]) != words:  # empty, or just being written
                continue
            found = Known(*json.loads(words[_SUM:]))
            if wanted(found):
                return found
        return None


_SUM: Final = 8


def _summed(words: bytes) -> bytes:
    return b"%08x" % crc32(words) + words


_HOT: Final = 0.5
_HOT_FOR: Final = 0.1
"""How often a slot is wanted that all want just now, and for how many seconds that is so."""

_OPEN: Final = {"pending", "confirmed"}

Asking = tuple[str, dict[str, Any]]
"""A method and its arguments."""


@dataclass
class Chooser:
    """Chooses what to ask a tenant for; `starts` gives those that are fought over just now.

    `blocked` are the periods that this process has blocked and not yet taken away, by the keys of the calls.
    """

    tenant: str
    chance: random.Random
    board: Board
    starts: Callable[[], Sequence[datetime]]
    blocked: list[tuple[str, str]] = field(default_factory=list)
    ever_blocked: set[str] = field(default_factory=set)

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
            self._cancel_by_link,
            self._reschedule_by_link,
            self._erase,
            *[self._set_up] * 2,
        ]
        found = None
        while found is None:
            found = self.chance.choice(makers)(key)
        return Call(key, self.tenant, *found)

    def _who(self, key: str) -> str:
        """The person who comes with a call, and with no other."""
        return f"who {self.tenant} {key}"

    def _start(self) -> str:
        return written(self.chance.choice(self.starts()))

    def _slot(self) -> tuple[str, str]:
        """An event type and a start; often those that everybody wants at this moment."""
        chance = self.chance
        if chance.random() < _HOT:
            chance = random.Random(int(time.monotonic() / _HOT_FOR))  # noqa: S311 - the same in all processes
        return chance.choice(EVENT_TYPES), written(chance.choice(self.starts()))

    def _book(self, key: str) -> Asking:
        event_type, start = self._slot()
        seats = self.chance.choice([1, 1, 2]) if event_type in {"class", "course"} else 1
        told = {"attendee": self._who(key), "seats": seats, "metadata": {"by": key}, "reference": key}
        return "book", {"event_type": event_type, "start": start, **told}

    def _book_by_force(self, key: str) -> Asking:
        return "book", {"event_type": FORCED, "start": self._start(), "attendee": self._who(key), "force": True}

    def _book_series(self, key: str) -> Asking:
        starts = sorted(written(one) for one in self.chance.sample(self.starts(), 3))
        return "book_series", {
            "event_type": self.chance.choice(EVENT_TYPES),
            "starts": starts,
            "attendee": self._who(key),
        }

    def _place_hold(self, _: str) -> Asking:
        """For so short a time that it is soon in the way of others; now and then for longer."""
        event_type, start = self._slot()
        return "place_hold", {"event_type": event_type, "start": start, "ttl": self.chance.choice([1, 1, 2, 30])}

    def _confirm_hold(self, key: str) -> Asking | None:
        found = self.board.pick(self.chance, lambda one: one.status == "held")
        if_free = self.chance.random() < 0.5  # noqa: PLR2004 - one of two
        return found and ("confirm_hold", {"hold_id": found.id, "attendee": self._who(key), "if_free": if_free})

    def _release_hold(self, _: str) -> Asking | None:
        found = self.board.pick(self.chance, lambda one: one.status == "held")
        return found and ("release_hold", {"hold_id": found.id})

    def _cancel(self, key: str) -> Asking | None:
        found = self.board.pick(self.chance, lambda one: one.status in _OPEN)
        return found and ("cancel", {"booking_id": found.id, "reason": key})

    def _cancel_series(self, key: str) -> Asking | None:
        found = self.board.pick(self.chance, lambda one: one.series is not None)
        return found and ("cancel_series", {"series_id": found.series, "reason": key})

    def _reschedule(self, key: str) -> Asking | None:
        found = self.board.pick(self.chance, lambda one: one.status in _OPEN)
        return found and ("reschedule", {"booking_id": found.id, "start": self._start(), "reason": key})

    def _cancel_by_link(self, key: str) -> Asking | None:
        """As an attendee does; the token comes into it before it is asked for."""
        found = self.board.pick(self.chance, lambda one: one.status in _OPEN)
        return found and ("cancel by link", {"booking_id": found.id, "reason": key})

    def _reschedule_by_link(self, key: str) -> Asking | None:
        found = self.board.pick(self.chance, lambda one: one.status in _OPEN)
        return found and ("reschedule by link", {"booking_id": found.id, "start": self._start(), "reason": key})

    def _erase(self, _: str) -> Asking | None:
        found = self.board.pick(self.chance, lambda one: one.who is not None)
        return found and ("erase_attendee", {"reference": found.who})

    def _set_up(self, _: str) -> Asking:
        """Save what is there under another name, or say what matters to nobody: others book with it meanwhile."""
        host = self.chance.choice(HOSTS)
        first = _LONG_AGO + timedelta(minutes=5 * self.chance.randrange(1000))
        busy: dict[str, Any] = {
            "of": host,
            "source": "outside",
            "start": written(_LONG_AGO),
            "end": written(_LONG_AGO + timedelta(days=30)),
            "periods": [written(first + n * timedelta(days=7)) for n in range(PERIODS)],
        }
        found: Sequence[Asking] = (
            ("save_host", {"of": host}),
            ("save_event_type", {"of": self.chance.choice([*EVENT_TYPES, SPARE])}),
            ("archive_host", {"slug": SPARE}),
            ("archive_event_type", {"slug": SPARE}),
            ("save_details", {}),
            ("block", {"of": self.chance.choice([host, None])}),
            ("replace_busy", busy),
        )
        if self.blocked and self.chance.random() < 0.5:  # noqa: PLR2004 - before the process is killed
            key, id_ = self.blocked.pop()
            return "unblock", {"id": id_, "of": key}
        return self.chance.choice(found)

    def _mark(self, key: str) -> Asking | None:
        """Say something of one that anybody made, rarely what keeps its time for good."""
        method = self.chance.choice(["approve"] * 3 + ["decline"] * 3 + ["update"] * 3 + ["complete", "mark_no_show"])
        wanted = {"pending"} if method in {"approve", "decline"} else {"confirmed"}
        found = self.board.pick(self.chance, lambda one: one.status in wanted)
        said: dict[str, dict[str, Any]] = {
            "update": {"location": f"Room {key}", "metadata": {"by": key, "seats": [1, {"2": None}]}},
            "decline": {"reason": key},
        }
        more = said.get(method, {})
        return found and (method, {"booking_id": found.id, **more})

    def _reassign(self, key: str) -> Asking | None:
        """Give one to another host who could have it, as it was when somebody was told of it."""
        found = self.board.pick(self.chance, lambda one: one.status in _OPEN and one.event_type in MEMBERS)
        if found is None:
            return None
        host = self.chance.choice([slug for slug in MEMBERS[found.event_type] if slug not in found.hosts])
        leaving = self.chance.choice(found.hosts)
        return "reassign", {"booking_id": found.id, "host": host, "instead_of": leaving, "reason": key}


PERIODS: Final = 3
"""How many an outside calendar reports at a time, a week apart."""


def days(first: datetime, passed: float) -> Sequence[datetime]:
    """The starts that are fought over when so many seconds have passed: three days, which move on as they fill."""
    day = first + timedelta(days=int(passed / _A_DAY_LASTS))
    return [day + timedelta(days=n) + m * HALF for n in range(3) for m in range(24)]


_A_DAY_LASTS: Final = 15.0
"""Seconds."""
