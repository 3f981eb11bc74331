"""One slot, and many who book and cancel it: whatever they were told, one order of their calls explains it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import cache, partial
from typing import NamedTuple, TypeVar

import pytest
from sqlalchemy import text

from nxsched import Attendee, Scheduler, SettableClock, SlotTaken, StoreUnavailable, Tenant, TransactionConflict
from store.booked import assert_sound
from store.conftest import DAY, HALF, NINE, Database


class Event(NamedTuple):
    """A call as its caller saw it: when it was made and answered, and which booking it made or ended, if any."""

    called: float
    answered: float
    method: str
    id: str | None


def explained(history: Sequence[Event]) -> bool:
    """Whether the calls can be put in an order that keeps to their times, and in which a plain slot answers the same.

    A slot is free or has one booking. Who books a free one gets it, who books another is refused, and who cancels the
    booking that it has makes it free.
    """

    @cache
    def possible(left: frozenset[int], has: str | None) -> bool:
        if not left:
            return True
        first = min(history[n].answered for n in left)
        for n in left:
            one = history[n]
            if one.called > first:  # another was answered before it was made
                continue
            if one.method == "cancel":
                fits, then = has == one.id, None
            else:
                fits, then = (has is None) == (one.id is not None), one.id or has
            if fits and possible(left - {n}, then):
                return True
        return False

    return possible(frozenset(range(len(history))), None)


T = TypeVar("T")


def answered(call: Callable[[], T]) -> T:
    """What comes of a call with a key, however often it has to be made."""
    while True:
        try:
            return call()
        except (StoreUnavailable, TransactionConflict):
            time.sleep(0.005)


def fought(tenants: Sequence[Tenant], start: datetime, seed: int) -> list[Event]:
    """What happened when each of them booked a slot some times, and gave it back."""
    together = threading.Barrier(len(tenants))

    def fight(n: int) -> list[Event]:
        chance = random.Random(f"{seed} {n}")  # noqa: S311 - to be played again
        found: list[Event] = []
        together.wait()
        for m in range(4):
            key, called = f"{seed} {n} {m}", time.monotonic()
            book = partial(tenants[n].book, "visit", start=start, attendee=Attendee(name=str(n)), idempotency_key=key)
            try:
                id_ = answered(book).id
            except SlotTaken:
                id_ = None
            found.append(Event(called, time.monotonic(), "book", id_))
            time.sleep(chance.random() * 0.005)
            if id_ is not None:
                called = time.monotonic()
                answered(partial(tenants[n].cancel, id_, idempotency_key=f"{key} again"))
                found.append(Event(called, time.monotonic(), "cancel", id_))
        return found

    with ThreadPoolExecutor(len(tenants)) as pool:
        return [one for found in pool.map(fight, range(len(tenants))) for one in found]


@pytest.mark.slow
def test_histories_of_one_slot_are_those_of_a_slot_that_serves_one_after_the_other(
    acme: Tenant, db: Database, clock: SettableClock
) -> None:
    tenants = [Scheduler(db.app, clock=clock).tenant(acme.id) for _ in range(5)]
    served = contended = 0
    for n in range(60):
        start = NINE + n // 10 * 7 * DAY + n % 10 * HALF
        history = fought(tenants, start, n)
        assert explained(history), history
        served += sum(one.id is not None and one.method == "book" for one in history)
        contended += sum(one.id is None for one in history)
    assert served > 120
    assert contended > 120
    assert_sound(db)


@pytest.mark.slow
def test_histories_of_one_slot_are_those_of_a_slot_also_where_connections_break(
    acme: Tenant, db: Database, clock: SettableClock
) -> None:
    """Who gets no answer asks again with the key: the call lasts until somebody was told."""
    tenants = [Scheduler(db.app, clock=clock).tenant(acme.id) for _ in range(5)]
    over = threading.Event()
    ended = 0

    def terminate() -> None:
        nonlocal ended
        chance = random.Random(20_261_122)  # noqa: S311 - to be played again
        with db.superuser.connect().execution_options(isolation_level="AUTOCOMMIT") as above:
            while not over.wait(chance.random() * 0.02):
                ended += len(above.execute(_TERMINATE).fetchall())

    with ThreadPoolExecutor(1) as pool:
        tormentor = pool.submit(terminate)
        try:
            for n in range(40):
                history = fought(tenants, NINE + n // 10 * 7 * DAY + n % 10 * HALF, n)
                assert explained(history), history
        finally:
            over.set()
        tormentor.result()
    assert ended > 40
    assert_sound(db)


_TERMINATE = text("""
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
    AND backend_type = 'client backend' AND state <> 'idle' LIMIT 1
""")


def test_a_history_that_no_slot_could_have_is_told_from_one_that_it_could() -> None:
    one, other = Event(0, 5, "book", "a"), Event(1, 4, "book", "b")
    assert not explained([one, other])  # sold twice
    assert explained([one, Event(1, 4, "book", None)])
    assert not explained([Event(0, 1, "book", None)])  # refused, and nobody had it
    assert explained([one, Event(6, 7, "cancel", "a"), Event(8, 9, "book", "b")])
    assert not explained([one, Event(8, 9, "cancel", "a"), Event(6, 7, "book", "b")])  # before it was free
    assert explained([one, Event(6, 9, "cancel", "a"), Event(7, 8, "book", "b")])  # it may have been free
    assert not explained([one, Event(6, 7, "cancel", "a"), Event(8, 9, "book", None)])  # it was free, and refused
