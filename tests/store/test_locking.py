"""Bookings behind locks: few of many reach the database, and what they come to is the same as without."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event

import redises
from nxsched import (
    AsyncScheduler,
    EventType,
    EventTypeNotFound,
    InvalidInput,
    LockTimeout,
    NxschedError,
    Scheduler,
    SettableClock,
    SlotTaken,
    StoreUnavailable,
    Tenant,
)
from nxsched.locking import Contended, Locker, LockEvent, NoLocker, Permit, PostgresLocker, RedisLocker
from store.booked import ALAN, GRACE, assert_sound, count
from store.bridged import async_engine
from store.conftest import HALF, HOUR, NINE, Database
from store.test_waiting import PATIENCE, beside

Make = Callable[..., Locker]


@pytest.fixture(scope="module")
def redis() -> Iterator[redises.RedisServer]:
    with redises.started() as found:
        yield found


@pytest.fixture
def told() -> list[LockEvent]:
    return []


@pytest.fixture
def on_redis(redis: redises.RedisServer) -> Iterator[Make]:
    """A locker on Redis, with options; it is closed in the end."""
    with ExitStack() as ended:

        def made(**options: Any) -> RedisLocker:
            locker = RedisLocker(redis.url, timeout=timedelta(seconds=10), **options)
            ended.callback(locker.close)
            return locker

        yield made


@pytest.fixture(params=["redis", "postgres"])
def make(request: pytest.FixtureRequest, redis: redises.RedisServer, on_redis: Make, told: list[LockEvent]) -> Make:
    """A locker of either kind, with options."""
    if request.param == "postgres":
        return lambda **options: PostgresLocker(on_lock=told.append, **options)
    redis.client.flushall()
    return lambda **options: on_redis(on_lock=told.append, **options)


def behind(acme: Tenant, db: Database, clock: SettableClock, locker: Locker) -> Tenant:
    """The same tenant, of a scheduler with that locker."""
    return Scheduler(db.app, clock=clock, lock_timeout=PATIENCE, locker=locker).tenant(acme.id)


def outcomes(told: list[LockEvent]) -> list[str]:
    return [one.outcome for one in told]


def code(call: Callable[[], Any]) -> str:
    try:
        call()
    except NxschedError as error:
        return error.code
    return "done"


def test_who_comes_second_is_turned_away_while_the_first_is_still_at_it(
    acme: Tenant, db: Database, clock: SettableClock, make: Make, told: list[LockEvent]
) -> None:
    locked = behind(acme, db, clock, make())
    with db.app.connect() as ours:
        acme.book("visit", start=NINE, attendee=GRACE, within=ours)  # whoever books it too waits for us
        with beside(db, lambda: locked.book("visit", start=NINE, attendee=ALAN)) as first:
            with pytest.raises(LockTimeout, match=r"somebody else is just booking host:.*:ada of acme"):
                locked.book("visit", start=NINE, attendee=ALAN)
            with pytest.raises(LockTimeout):
                locked.place_hold("visit", start=NINE)
            with pytest.raises(LockTimeout):
                locked.book_series("visit", starts=[NINE + HOUR, NINE], attendee=ALAN)
            locked.book("visit", start=NINE + HOUR, attendee=ALAN)
            ours.rollback()
    assert first[0].attendee == ALAN
    with pytest.raises(SlotTaken):
        locked.book("visit", start=NINE, attendee=GRACE)
    assert outcomes(told) == ["taken", *["turned_away"] * 3, "taken", "taken"]
    assert_sound(db)


def test_two_event_types_of_one_host_meet(acme: Tenant, db: Database, clock: SettableClock, make: Make) -> None:
    locked = behind(acme, db, clock, make())
    with db.app.connect() as ours:
        acme.book("visit", start=NINE, attendee=GRACE, within=ours)
        with beside(db, lambda: locked.book("all", start=NINE, attendee=ALAN)):
            assert code(lambda: locked.book("visit", start=NINE, attendee=ALAN)) == "lock_timeout"
            ours.rollback()


def test_who_repeats_what_is_just_being_done_waits_for_its_answer(
    acme: Tenant, db: Database, clock: SettableClock, make: Make, told: list[LockEvent]
) -> None:
    locked = behind(acme, db, clock, make())

    def book() -> str:
        return locked.book("visit", start=NINE, attendee=ALAN, idempotency_key="k").id

    with db.app.connect() as ours:
        acme.book("visit", start=NINE, attendee=GRACE, within=ours)
        with beside(db, book) as first, beside(db, book) as second:
            assert code(lambda: locked.book("visit", start=NINE, attendee=GRACE, idempotency_key="x")) == "lock_timeout"
            ours.rollback()
    assert first == second
    assert count(db, "booking") == 1
    assert sorted(outcomes(told)) == ["same_key", "taken", "turned_away"]


@pytest.mark.parametrize("ends", ["commit", "rollback"])
def test_who_may_wait_is_told_what_came_of_the_first(
    acme: Tenant, db: Database, clock: SettableClock, make: Make, told: list[LockEvent], ends: str
) -> None:
    locked, patient = behind(acme, db, clock, make()), behind(acme, db, clock, make(wait=timedelta(seconds=30)))
    with db.app.connect() as ours:
        acme.book("visit", start=NINE, attendee=GRACE, within=ours)
        with (
            beside(db, lambda: locked.book("visit", start=NINE, attendee=GRACE)) as first,
            ThreadPoolExecutor(1) as pool,
        ):
            waits = pool.submit(code, lambda: patient.book("visit", start=NINE, attendee=ALAN))
            while "turned_away" not in outcomes(told):
                assert not waits.done()
            getattr(ours, ends)()
    assert getattr(first[0], "code", "done") == ("slot_taken" if ends == "commit" else "done")
    assert waits.result() == "slot_taken"


def test_who_has_waited_in_vain_is_told_that_the_time_is_taken_by_now(
    acme: Tenant, db: Database, clock: SettableClock, on_redis: Make
) -> None:
    locker: Any = on_redis(wait=timedelta(milliseconds=50))
    patient = behind(acme, db, clock, locker)
    with locker.around(Contended(tenant=acme.id, permits=(Permit("host:1772442000:ada"),))):
        with pytest.raises(LockTimeout):  # nobody knows yet
            patient.book("visit", start=NINE, attendee=ALAN)
        acme.book("visit", start=NINE, attendee=GRACE)
        with pytest.raises(SlotTaken):
            patient.book("visit", start=NINE, attendee=ALAN)
    assert_sound(db)


def test_a_pool_lets_in_as_many_as_it_serves_and_seats_need_no_lock(
    acme: Tenant, db: Database, clock: SettableClock, make: Make, told: list[LockEvent]
) -> None:
    acme.save_event_type(EventType(slug="class", duration=HALF, hosts=["bob"], capacity=5))
    locked = behind(acme, db, clock, make())
    for who in (GRACE, ALAN, GRACE):
        locked.book("any", start=NINE, attendee=who)
        locked.book("class", start=NINE + HOUR, attendee=who)
    locked.book("any", start=NINE + HALF, host="cyd", attendee=GRACE)
    assert {one.names for one in told} == {("pool:1772442000:0:any",), ("host:1772443800:cyd",)}
    assert len(told) == 4


def test_nothing_is_locked_in_a_transaction_of_the_applications(
    acme: Tenant, db: Database, clock: SettableClock, make: Make, told: list[LockEvent]
) -> None:
    locked = behind(acme, db, clock, make())
    with db.app.begin() as ours:
        booking = locked.book("visit", start=NINE, attendee=GRACE, within=ours)
    locked.reschedule(booking.id, start=NINE + HOUR)
    locked.cancel(booking.id)
    locked.find_slots("visit", start=NINE, end=NINE + HOUR)
    assert told == []


def test_what_is_not_there_is_said_as_without_a_lock(
    acme: Tenant, db: Database, clock: SettableClock, make: Make, told: list[LockEvent]
) -> None:
    locked = behind(acme, db, clock, make())
    for _ in range(2):
        with pytest.raises(EventTypeNotFound):
            locked.book("nothing", start=NINE, attendee=GRACE)
    with pytest.raises(InvalidInput):
        locked.book("visit", start=NINE, attendee=GRACE, host="cyd")
    assert outcomes(told) == ["taken"]


def test_of_many_one_has_the_slot_and_few_reach_the_database(
    acme: Tenant, db: Database, clock: SettableClock, make: Make
) -> None:
    locked = behind(acme, db, clock, make())
    gate = threading.Barrier(16)

    def book(n: int) -> str:
        gate.wait()
        return code(lambda: locked.book("visit", start=NINE + n // 16 * HALF, attendee=GRACE))

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(book, range(16 * 8)))
    assert found.count("done") == count(db, "booking") == 8
    assert {*found} <= {"done", "slot_taken", "lock_timeout"}
    assert_sound(db)


def test_of_many_in_a_new_process_hardly_any_comes_to_the_database(
    acme: Tenant, db: Database, clock: SettableClock, redis: redises.RedisServer
) -> None:
    """Not even to look at the event type: of those who do not know it yet, one does."""
    taken = 0

    def counted(*_: object) -> None:
        nonlocal taken
        taken += 1

    async def story() -> list[str]:
        engine = async_engine(db)
        event.listen(engine.sync_engine, "checkout", counted)
        locker = RedisLocker(redis.url, timeout=timedelta(seconds=10))
        async with AsyncScheduler(engine, clock=clock, lock_timeout=PATIENCE, locker=locker) as scheduler:
            tenant = await scheduler.tenant(acme.id)
            calls = [tenant.book("visit", start=NINE, attendee=GRACE) for _ in range(300)]
            found = await asyncio.gather(*calls, return_exceptions=True)
        await engine.dispose()
        return [getattr(one, "code", "done") for one in found]

    redis.client.flushall()
    found = asyncio.run(story())
    assert found.count("done") == 1
    assert {*found} <= {"done", "slot_taken", "lock_timeout"}
    assert taken <= 20


def test_who_waits_for_anothers_look_looks_for_themselves_where_that_one_fails(
    acme: Tenant, db: Database, clock: SettableClock, on_redis: Make
) -> None:
    locked = behind(acme, db, clock, on_redis())
    gate = locked._units.gate  # noqa: SLF001 - where they meet
    assert gate.other(acme.id, "visit") is None  # somebody is looking
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(code, lambda: locked.book("visit", start=NINE, attendee=GRACE))
        with pytest.raises(TimeoutError):
            second.result(timeout=0.2)
        gate.looked(acme.id, "visit")  # and has learnt nothing
        assert second.result() == "done"


def test_who_would_need_more_advisory_locks_than_a_server_has_takes_none(db: Database, told: list[LockEvent]) -> None:
    locker = PostgresLocker(on_lock=told.append)
    many = Contended(tenant="acme", permits=tuple(Permit(f"host:{n}:ada") for n in range(1001)), key=None)
    with db.app.connect() as connection:
        locker.inside(connection, many)
        assert not connection.in_transaction()
        locker.inside(connection, replace(many, permits=many.permits[:1000]))
    assert outcomes(told) == ["unavailable", "taken"]


def test_each_try_for_a_lock_is_told_to_the_log(
    acme: Tenant,
    db: Database,
    clock: SettableClock,
    make: Make,
    told: list[LockEvent],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level("DEBUG", logger="nxsched.locking"):
        behind(acme, db, clock, make()).book("visit", start=NINE, attendee=GRACE)
    lines = [one.getMessage() for one in caplog.records if one.name == "nxsched.locking"]
    assert len(lines) == 1
    assert re.fullmatch(r".*acme.*: taken, \d+\.\d ms", lines[0]), lines
    assert [one.seconds > 0 for one in told] == [True]


def test_tasks_take_the_same_locks_as_threads(
    acme: Tenant, db: Database, clock: SettableClock, make: Make, told: list[LockEvent]
) -> None:
    async def story() -> list[Any]:
        engine = async_engine(db)
        async with AsyncScheduler(engine, clock=clock, lock_timeout=PATIENCE, locker=make()) as scheduler:
            tenant = await scheduler.tenant(acme.id)
            calls = [tenant.book("visit", start=NINE, attendee=GRACE) for _ in range(8)]
            found = await asyncio.gather(*calls, return_exceptions=True)
            series = [tenant.book("visit", start=NINE + HOUR, attendee=GRACE, idempotency_key="k") for _ in range(8)]
            same = await asyncio.gather(*series)
            assert len({one.id for one in same}) == 1
        await engine.dispose()
        return found

    found = asyncio.run(story())
    assert sorted({getattr(one, "code", "done") for one in found} - {"slot_taken"}) == ["done", "lock_timeout"]
    assert {"taken", "turned_away"} <= {*outcomes(told)}
    assert_sound(db)


def test_without_redis_bookings_are_made_or_refused_as_it_is_set(
    acme: Tenant, db: Database, clock: SettableClock
) -> None:
    nobody = f"redis://127.0.0.1:{redises.free_port()}/0"
    with Scheduler(db.app, clock=clock, redis=nobody) as going_on:
        going_on.tenant(acme.id).book("visit", start=NINE, attendee=GRACE)
    with Scheduler(db.app, clock=clock, redis=nobody, when_unavailable="refuse") as refusing:
        with pytest.raises(StoreUnavailable, match="Redis cannot be asked"):
            refusing.tenant(acme.id).book("visit", start=NINE + HOUR, attendee=GRACE)
        refusing.tenant(acme.id).find_slots("visit", start=NINE, end=NINE + HOUR)
    assert count(db, "booking") == 1


def test_what_is_no_locker_is_refused(redis: redises.RedisServer) -> None:
    for options, field in (
        ({"locker": "redis"}, "locker"),
        ({"locker": PostgresLocker}, "locker"),
        ({"locker": NoLocker(), "when_unavailable": "refuse"}, "when_unavailable"),
        ({"when_unavailable": "never"}, "when_unavailable"),
        ({"redis": "http://x"}, "redis"),
        ({"redis": 7}, "redis"),
    ):
        for face in (Scheduler, AsyncScheduler):
            with pytest.raises(InvalidInput) as caught:
                face("postgresql://app@host/x", **options)
            assert caught.value.field == field
    with pytest.raises(InvalidInput, match=r"must be a client of redis\.asyncio, or a URL: this is AsyncScheduler"):
        AsyncScheduler("postgresql://app@host/x", redis=redis.client)


def test_advisory_locks_end_with_the_transaction(acme: Tenant, db: Database, clock: SettableClock) -> None:
    locked = behind(acme, db, clock, PostgresLocker())
    locked.book("visit", start=NINE, attendee=GRACE, idempotency_key="k")
    with pytest.raises(SlotTaken):
        locked.book("visit", start=NINE, attendee=GRACE)
    with db.superuser.connect() as connection:
        found = connection.exec_driver_sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").scalar_one()
    assert found == 0
