"""A task that is cancelled wherever it waits: all of it has happened or nothing, and no connection is lost."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.pool import AsyncAdaptedQueuePool, QueuePool

from nxsched import AsyncScheduler, AsyncTenant, Attendee, BlockedPeriod, EventType, SettableClock, Tenant
from store.booked import ALAN, GRACE, assert_sound, rows
from store.bridged import async_engine
from store.conftest import DAY, HOUR, NINE, Database

ONE: dict[str, Any] = {"poolclass": AsyncAdaptedQueuePool, "pool_size": 1, "max_overflow": 0, "pool_timeout": 2}
"""A pool that a lost connection leaves with none."""


@dataclass(frozen=True)
class Act:
    """What is cancelled: what it needs, how it is done, and how many bookings and versions it makes."""

    needs: Callable[[Tenant], str]
    do: Callable[..., Awaitable[object]]
    bookings: int
    versions: int


def _nothing(_: Tenant) -> str:
    return ""


def _hold(acme: Tenant) -> str:
    return acme.place_hold("any", start=NINE).id


def _booking(acme: Tenant) -> str:
    return acme.book("any", start=NINE, attendee=GRACE).id


def _visit(acme: Tenant) -> str:
    return acme.book("any", start=NINE, host="ada", attendee=GRACE).id


def _request(acme: Tenant) -> str:
    acme.save_event_type(EventType(slug="asked", duration=HOUR, hosts=["ada"], requires_approval=True))
    return acme.book("asked", start=NINE, attendee=GRACE).id


def _series(acme: Tenant) -> str:
    return str(acme.book_series("all", starts=[NINE, NINE + DAY], attendee=GRACE)[0].series_id)


NIGHT = BlockedPeriod(start=NINE - 9 * HOUR, end=NINE - 8 * HOUR)


def _class(acme: Tenant) -> str:
    acme.save_event_type(EventType(slug="class", duration=HOUR, hosts=["ada"], capacity=200))
    return acme.book("class", start=NINE, attendee=ALAN).id


def _zoes(acme: Tenant) -> str:
    return acme.book("any", start=NINE, attendee=Attendee(name="Zoe", reference="zoe"), metadata={"a": 1}).id


ACTS = {
    "book": Act(_nothing, lambda acme, _, **more: acme.book("any", start=NINE, attendee=GRACE, **more), 1, 1),
    "place_hold": Act(_nothing, lambda acme, _, **more: acme.place_hold("visit", start=NINE, **more), 1, 1),
    "confirm_hold": Act(_hold, lambda acme, id_, **more: acme.confirm_hold(id_, attendee=GRACE, **more), 0, 1),
    "reschedule": Act(_booking, lambda acme, id_, **more: acme.reschedule(id_, start=NINE + HOUR, **more), 0, 1),
    "cancel": Act(_booking, lambda acme, id_, **more: acme.cancel(id_, **more), 0, 1),
    "book_series": Act(
        _nothing,
        lambda acme, _, **more: acme.book_series("all", starts=[NINE, NINE + DAY], attendee=GRACE, **more),
        2,
        2,
    ),
    "reassign": Act(_visit, lambda acme, id_, **more: acme.reassign(id_, host="bob", **more), 0, 1),
    "update": Act(_booking, lambda acme, id_, **more: acme.update(id_, location="Room 7", **more), 0, 1),
    "release_hold": Act(_hold, lambda acme, id_, **more: acme.release_hold(id_, **more), 0, 1),
    "approve": Act(_request, lambda acme, id_, **more: acme.approve(id_, **more), 0, 1),
    "decline": Act(_request, lambda acme, id_, **more: acme.decline(id_, **more), 0, 1),
    "join": Act(_class, lambda acme, _, **more: acme.book("class", start=NINE, attendee=GRACE, **more), 1, 1),
    "erase_attendee": Act(_zoes, lambda acme, _, **more: acme.erase_attendee(reference="zoe", **more), 0, 1),
    "block": Act(_nothing, lambda acme, _, **more: acme.block("cyd", NIGHT, **more), 0, 0),
    "cancel_series": Act(_series, lambda acme, id_, **more: acme.cancel_series(id_, **more), 0, 2),
}

pytestmark = pytest.mark.slow

every_act = pytest.mark.parametrize("act", ACTS)
every_when = pytest.mark.parametrize("when", ["before it waits", "when it goes on"])
every_driver = pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])


@types.coroutine
def _cancelling(work: Coroutine[Any, Any, Any], at: int, when: str) -> Generator[Any, Any, Any]:
    """Do some work, and cancel the task that does it where it waits for the `at`-th time."""
    task = asyncio.current_task()
    assert task is not None
    step: Callable[[], Any] = lambda: work.send(None)  # noqa: E731 - what comes next
    waits = 0
    while True:
        try:
            awaited = step()
        except StopIteration as done:
            return done.value
        waits += 1
        if waits == at and when == "before it waits":
            task.cancel()
        try:
            yield awaited
            if waits == at and when == "when it goes on":
                raise asyncio.CancelledError  # noqa: TRY301 - as a task throws it
        except BaseException as error:  # noqa: BLE001 - all of it goes to the work
            thrown = error
            step = lambda: work.throw(thrown)  # noqa: B023, E731 - called before there is another
        else:
            step = lambda: work.send(None)  # noqa: E731


async def cancelled(work: Coroutine[Any, Any, Any], at: int, when: str) -> bool:
    """Whether some work was cancelled when it waited for the `at`-th time: else it has ended before."""

    async def task() -> None:
        await _cancelling(work, at, when)

    try:
        await asyncio.create_task(task())
    except asyncio.CancelledError:
        return True
    finally:  # what a cancelled task leaves to others, it leaves to tasks that go on
        mine = asyncio.current_task()
        await asyncio.gather(*(one for one in asyncio.all_tasks() if one is not mine), return_exceptions=True)
    return False


def tally(db: Database) -> tuple[int, int, int]:
    """How many bookings, versions of them and keys there are."""
    found = rows(
        db,
        "SELECT count(*), coalesce(sum(version), 0)::int, (SELECT count(*) FROM nxsched.idempotency_key)"
        " FROM nxsched.booking",
    )
    return tuple(found[0])


def _cleared(acme: Tenant) -> None:
    for one in [*acme.bookings(status="confirmed"), *acme.bookings(status="held")]:
        (acme.release_hold if one.status == "held" else acme.cancel)(one.id)


async def _until_it_ends(
    acme: Tenant, db: Database, act: Act, when: str, fresh: Callable[[], tuple[AsyncScheduler, AsyncTenant]]
) -> tuple[int, int]:
    """Cancel an act at each of its waits; gives how many there were, and after how many of them it had happened."""
    at = happened = 0
    goes_on = True
    while goes_on:
        at += 1
        id_ = act.needs(acme)
        before = tally(db)
        whole = (before[0] + act.bookings, before[1] + act.versions, before[2] + 1)
        scheduler, tenant = fresh()
        goes_on = await cancelled(act.do(tenant, id_, idempotency_key=f"k{at}"), at, when)  # type: ignore[arg-type]
        assert_sound(db)
        found = tally(db)
        assert found in ({before, whole} if goes_on else {whole})
        happened += goes_on and found == whole
        pool = scheduler.engine.pool
        assert isinstance(pool, QueuePool)
        assert pool.checkedout() == 0
        await act.do(tenant, id_, idempotency_key=f"k{at}")
        assert tally(db) == whole
        assert_sound(db)
        assert pool.checkedout() == 0
        _cleared(acme)
    return at - 1, happened


@every_when
@every_act
@every_driver
def test_wherever_a_call_is_cancelled_it_has_happened_or_not_and_the_next_one_works(
    acme: Tenant, db: Database, clock: SettableClock, driver: str, act: str, when: str
) -> None:
    async def run() -> None:
        engine = async_engine(db, driver, **ONE)
        scheduler = AsyncScheduler(engine, clock=clock)
        tenant = await scheduler.tenant(acme.id)
        waits, _ = await _until_it_ends(acme, db, ACTS[act], when, lambda: (scheduler, tenant))
        assert waits > 4
        await engine.dispose()

    asyncio.run(run())


@every_when
@every_driver
def test_the_first_call_on_an_engine_can_be_cancelled_too(
    acme: Tenant, db: Database, clock: SettableClock, driver: str, when: str
) -> None:
    async def run() -> None:
        made: list[AsyncScheduler] = []

        def fresh() -> tuple[AsyncScheduler, AsyncTenant]:
            made.append(AsyncScheduler(async_engine(db, driver, **ONE), clock=clock))
            return made[-1], AsyncTenant(made[-1]._units, acme.id)  # noqa: SLF001 - before any call

        waits, _ = await _until_it_ends(acme, db, ACTS["book"], when, fresh)
        assert waits > 10
        for one in made:
            await one.engine.dispose()

    asyncio.run(run())


@every_when
@every_driver
@pytest.mark.parametrize("kind", ["connection", "session"])
@pytest.mark.parametrize("ends", ["rollback", "commit"])
def test_after_a_cancelled_call_the_applications_transaction_holds_nothing_of_it(  # noqa: PLR0913, PLR0917 - all its ways
    acme: Tenant, db: Database, clock: SettableClock, driver: str, kind: str, when: str, ends: str
) -> None:
    """A commit is refused, or has nothing of the call; what is begun after a rollback is usable."""

    async def run() -> None:
        engine = async_engine(db, driver, **ONE)
        tenant = AsyncTenant(AsyncScheduler(engine, clock=clock)._units, acme.id)  # noqa: SLF001 - without a call
        before = tally(db)
        at = 0
        goes_on = True
        while goes_on:
            at += 1
            async with engine.connect() if kind == "connection" else AsyncSession(engine) as within:
                await within.execute(text("SELECT 1"))
                work = tenant.book("any", start=NINE, attendee=GRACE, within=within, idempotency_key="k")
                goes_on = await cancelled(work, at, when)
                if ends == "commit" and goes_on:
                    try:
                        await within.commit()
                    except (DBAPIError, InvalidRequestError):
                        assert tally(db) == before
                await within.rollback()
                assert tally(db) == before
                booking = await tenant.book("any", start=NINE, attendee=GRACE, within=within, idempotency_key="k")
                assert (await tenant.booking(booking.id, within=within)) == booking
                await within.rollback()
            assert tally(db) == before
            pool = engine.pool
            assert isinstance(pool, QueuePool)
            assert pool.checkedout() == 0
        assert at > 5
        await engine.dispose()

    asyncio.run(run())
