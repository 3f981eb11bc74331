"""A tenant's life beside its diary: how calls are made, in every way that there is, and compared with it."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Collection
from datetime import datetime
from itertools import count
from typing import Any

from hypothesis.stateful import RuleBasedStateMachine
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from nxsched import (
    AsyncScheduler,
    Booking,
    Hold,
    Host,
    Limit,
    NxschedError,
    Scheduler,
    SettableClock,
    SlotUnavailable,
    WeeklyHours,
)
from store.booked import STAFF
from store.bridged import Loop
from store.conftest import NOW, Database
from store.diary import EVENT_TYPES, HOST_LIMITS, HOSTS, Diary, Entry, Refused

FACES = ["sync", "within", "asyncio", "asyncio within psycopg", "asyncio within asyncpg"]

Face = tuple[str, bool]
"""How a call is made; and whether the application keeps what it has done within its transaction."""

Of = Callable[[Any], Any]
"""What of a tenant is asked: itself, or what it gives without asking the database."""

Tally = Counter[tuple[str, str]]
"""How often a method was called with a keyword, and what it came to."""

_numbers = count()


class Life(RuleBasedStateMachine):
    """One tenant's bookings, and the diary of them."""

    def __init__(self, db: Database, engine: Engine, engines: dict[str, AsyncEngine], loop: Loop, tally: Tally) -> None:
        super().__init__()
        self.clock = SettableClock(NOW)
        self.loop, self.engine, self.engines = loop, engine, engines
        name = f"life-{next(_numbers)}"
        options: dict[str, Any] = {"clock": self.clock, "secrets": ["of these tests alone, and of nobody else"]}
        self.scheduler = Scheduler(engine, worker_url=db.worker, **options)
        self.acme = self.scheduler.create_tenant(name, name="Acme", sender="bookings@acme.test")
        self.seen = loop.run(AsyncScheduler(engines["psycopg"], **options).tenant(name))
        for slug in HOSTS:
            self.acme.save_host(host_of(slug))
        for event_type in EVENT_TYPES.values():
            self.acme.save_event_type(event_type)
        self.diary = Diary()
        self.keyed: list[tuple[datetime, str, tuple[Any, ...], dict[str, Any], str]] = []
        self.series: list[str] = []
        self.calls = 0
        self.tally = tally

    # How a call is made, and compared.

    def ask(self, face: Face, method: str, *args: Any, of: Of = lambda tenant: tenant, **options: Any) -> Any:  # noqa: ANN401
        """What it gives, by any way of asking, of a tenant or of what it gives; an error is given too."""
        way, kept = face
        found = self._asked(way, kept, method, args, options, of)
        self.tally[method, str(getattr(found, "policy", None) or getattr(found, "code", "done"))] += 1
        for keyword, value in options.items():
            self.tally[method, f"{keyword}="] += value is not None
        return found

    def _asked(self, way: str, kept: bool, method: str, args: tuple[Any, ...], options: dict[str, Any], of: Of) -> Any:  # noqa: ANN401
        try:
            if way == "sync":
                return getattr(of(self.acme), method)(*args, **options)
            if way == "within":
                with self.engine.connect() as connection:
                    try:
                        return getattr(of(self.acme), method)(*args, **options, within=connection)
                    finally:
                        connection.commit() if kept else connection.rollback()
            return self.loop.run(self._ask(way, kept, of, method, args, options))
        except NxschedError as error:
            return error

    async def _ask(
        self, way: str, kept: bool, of: Of, method: str, args: tuple[Any, ...], options: dict[str, Any]
    ) -> Any:  # noqa: ANN401
        call = getattr(of(self.seen), method)
        if way == "asyncio":
            return await call(*args, **options)
        async with self.engines[way.rsplit(maxsplit=1)[-1]].connect() as connection:
            try:
                return await call(*args, **options, within=connection)
            finally:
                await (connection.commit() if kept else connection.rollback())

    def write(
        self,
        face: Face,
        method: str,
        *args: Any,
        expected: Callable[[Diary], Any],
        keyed: bool = False,
        **options: Any,
    ) -> tuple[Any, Any]:
        """Ask for it and do it in the diary, which forgets it where the application rolls back; give both answers."""
        self.calls += 1
        if keyed or self.calls % 3 == 0:
            options["idempotency_key"] = f"key {next(_numbers)}"
        mine = options.get("of")
        if mine is None and options.get("actor") is None and self.calls % 2 == 0:
            options["actor"] = STAFF
        role = "attendee" if mine else options["actor"].role if options.get("actor") else None
        before = [len(one.trail) for one in self.diary.entries]
        kept = face[1] or "within" not in face[0]
        diary = self.diary if kept else copy.deepcopy(self.diary)
        given = self.ask(face, method, *args, **options)
        try:
            told = expected(diary)
        except Refused as refused:
            refuses(given, refused)
            return None, None
        assert not isinstance(given, NxschedError), f"{method} should be accepted: {given!r}"
        for n, one in enumerate(diary.entries):
            had = before[n] if n < len(before) else 0
            new = one.trail[had:]
            one.trail[had:] = [step._replace(role=None if step.action == "expire" else role) for step in new]
        if not kept:
            return None, None
        if keyed:
            made = given[0].series_id if isinstance(given, list) else given.id
            self.keyed.append((self.clock.now(), method, args, options, str(made)))
        return given, told

    def pick(self, n: int, likely: Collection[str] = ()) -> int:
        """The place of one of those in the diary: three times of four one in a `likely` state, if there is one."""
        states = [self.diary.status(one) for one in self.diary.entries]
        places = [i for i, status in enumerate(states) if status in likely or n % 4 == 0]
        return places[n // 4 % len(places)] if places else n % len(states)

    def same(self, entry: Entry, found: Booking | Hold) -> None:
        """A booking is as the diary has it."""
        status = self.diary.status(entry)
        at = entry.at
        expected = (status, at.event_type, at.start, at.start + at.duration, at.hosts, entry.attendee, entry.seats)
        have = (found.status.value, found.event_type, found.start, found.end, found.hosts, found.attendee, found.seats)
        assert have == expected
        if status in {"held", "pending"}:
            assert found.expires_at == entry.ends
        # What is over by itself has one change more, once somebody has tidied it up.
        assert found.version - len(entry.trail) in ({0, 1} if status == "expired" else {0})
        if isinstance(found, Booking):
            said = (found.sequence, found.location, found.metadata, found.series_id, found.answers, found.reference)
            known = (entry.sequence, entry.location, entry.metadata, entry.series, entry.answers, entry.reference)
            assert said == known
            assert (found.uid, found.organizer) == (entry.id or found.id, "bookings@acme.test")


def refuses(given: object, refused: Refused) -> None:
    """What was given is the error that the diary has, for the same reasons."""
    assert isinstance(given, NxschedError), f"there should be {refused.code} {refused.reasons}: {given}"
    assert given.code == refused.code, f"{given!r}, and not {refused.code} {refused.reasons}"
    if refused.policy:
        assert given.policy == refused.policy  # type: ignore[attr-defined]
    if isinstance(given, SlotUnavailable) and refused.reasons is not None:
        assert {one.code for one in given.reasons} == {*refused.reasons}


def host_of(slug: str) -> Host:
    limits = [Limit(per="day", count=HOST_LIMITS[slug])] if slug in HOST_LIMITS else []
    hours = [WeeklyHours(days="mon-fri", start="09:00", end="17:00")]
    return Host(slug=slug, name=slug.title(), timezone="UTC", weekly_hours=hours, limits=limits)
