"""What a command contends for, in names for a locker; and what is done with the lock, in both faces."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from datetime import datetime, timedelta
from threading import Lock
from typing import Any, Final, TypeVar

from sqlalchemy import Connection
from tenacity import retry_if_exception_type, stop_before_delay, wait_random_exponential

from nxsched.domain.commands import Book, BookSeries, PlaceHold
from nxsched.domain.event_types import EventType
from nxsched.domain.instants import epoch_exact
from nxsched.errors import EventTypeNotFound, TenantNotFound
from nxsched.forks import in_children
from nxsched.locking import Contended, Locker, NoLocker, Permit, TurnedAway
from nxsched.service import setup, slots
from nxsched.service.tools import Tools
from nxsched.service.wanted import refusal

C = TypeVar("C")
R = TypeVar("R")

Wanting = Book | BookSeries | PlaceHold
"""Commands that contend for slots: others are about a booking that is there, and wait for its row."""


def starts_of(command: Wanting) -> Sequence[datetime]:
    """The starts of the slots that it wants."""
    return command.starts if isinstance(command, BookSeries) else [command.start]


def contended(event_type: EventType, command: Wanting, tenant: str, key: str | None) -> Contended | None:
    """Hosts who must take part, each for one at a time; pools, for as many as they can serve. None where seats are.

    The names say start and host, and nothing wider: who wants half an hour later collides only if it overlaps, and that
    the constraint sees.
    """
    if event_type.capacity > 1:
        return None
    permits = {
        one for start in starts_of(command) for one in _permits(event_type, command.host, epoch_exact("start", start))
    }
    return Contended(tenant=tenant, permits=tuple(permits), key=key)


def _permits(event_type: EventType, host: str | None, start: int) -> Iterator[Permit]:
    for n, group in enumerate(event_type.groups):
        fixed = [host] if host in group.members else []
        if group.needed == len(group.members):
            fixed = [*group.members]
        elif not fixed or group.needed > 1:
            yield Permit(f"pool:{start}:{n}:{event_type.slug}", len(group.members) // group.needed)
        for slug in fixed:
            yield Permit(f"host:{start}:{slug}")


def refuse_taken(connection: Connection, command: Wanting, tools: Tools) -> None:
    """Tell who has waited in vain that the time is taken by now, if it is. Raises `SlotTaken` or `SlotUnavailable`."""
    for start in starts_of(command):
        asked = slots.Asked(
            event_type=command.event_type, start=start, end=start, duration=command.duration, host=command.host
        )
        if reasons := slots.explain(connection, asked, tools):
            raise refusal(start, reasons)


def waiting(wait: timedelta) -> dict[str, Any]:
    """How a caller tries again for a lock that somebody has: at random, so that those who wait do not come together."""
    return {
        "retry": retry_if_exception_type(TurnedAway),
        "stop": stop_before_delay(wait),
        "wait": wait_random_exponential(multiplier=0.01, max=0.1),
        "reraise": True,
    }


def look(connection: Connection, slug: str, tools: Tools) -> EventType | None:
    """The event type; `None` where there is none, which the work itself will say."""
    try:
        return setup.event_type(connection, slug, tools)
    except (EventTypeNotFound, TenantNotFound):
        return None


class Gate:
    """A locker, and how many can be served at once: by event types as they were five minutes ago or less.

    What has changed meanwhile costs a refusal too many or a lock too few: the database judges by what is set now.
    """

    def __init__(self, locker: Locker) -> None:
        self.locker = locker
        self._seen: dict[tuple[str, str], tuple[EventType | None, float]] = {}
        self._begin_to_look()
        in_children(self, Gate._begin_to_look)

    def _begin_to_look(self) -> None:
        self._looking: dict[tuple[str, str], Future[None]] = {}
        self._lock = Lock()

    def wanting(self, command: object, within: object) -> Wanting | None:
        """The command, if a lock is asked for: never in the application's transaction, which has locks of its own."""
        if within is not None or isinstance(self.locker, NoLocker):
            return None
        return command if isinstance(command, Book | BookSeries | PlaceHold) else None

    def knows(self, tenant: str, slug: str) -> bool:
        """Whether the event type was looked at a short while ago; of many who ask later, one is to look again."""
        now = time.monotonic()
        event_type, seen = self._seen.get((tenant, slug), (None, None))
        if seen is None:
            return False
        if now - seen >= _FRESH:
            self._seen[tenant, slug] = event_type, now - _FRESH + _LOOKS  # good enough while this one looks
            return False
        return True

    def other(self, tenant: str, slug: str) -> Future[None] | None:
        """What to wait for where somebody else is looking just now; `None` for who is to look, and to say `looked`."""
        with self._lock:
            other = self._looking.get((tenant, slug))
            if other is None:
                mine = self._looking[tenant, slug] = Future()
                mine.set_running_or_notify_cancel()  # of those who wait, one who is cancelled does not cancel it
            return other

    def looked(self, tenant: str, slug: str) -> None:
        """Let those go on who waited, whatever came of it."""
        with self._lock:
            self._looking.pop((tenant, slug)).set_result(None)

    def learn(self, tenant: str, slug: str, event_type: EventType | None) -> None:
        """Remember it for a while."""
        if len(self._seen) >= _MOST:
            self._seen.clear()
        self._seen[tenant, slug] = event_type, time.monotonic()

    def contended(self, command: Wanting, tenant: str, key: str | None) -> Contended | None:
        """What the command contends for; `None` where nobody is kept away."""
        event_type, _ = self._seen.get((tenant, command.event_type), (None, 0.0))
        return None if event_type is None else contended(event_type, command, tenant, key)

    def locked(
        self, work: Callable[[Connection, C, Tools], R], wanted: Contended
    ) -> Callable[[Connection, C, Tools], R]:
        """The work, after what the locker does inside its transaction."""

        def locked(connection: Connection, command: C, tools: Tools) -> R:
            self.locker.inside(connection, wanted)
            return work(connection, command, tools)

        return locked


_FRESH: Final = 300.0
_LOOKS: Final = 2.0
"""Seconds for a look; if it has come to nothing by then, the next caller looks."""

_MOST: Final = 4096
"""Event types that are remembered: then all are looked at anew."""
