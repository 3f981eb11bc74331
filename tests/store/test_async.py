"""The face for asyncio: the whole story, many tasks at a time, what is tried again, and what is imported."""

from __future__ import annotations

import asyncio
import fcntl
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, text
from sqlalchemy.pool import AsyncAdaptedQueuePool, QueuePool

from nxsched import (
    Actor,
    AsyncScheduler,
    AsyncTenant,
    EventType,
    Host,
    HostGroup,
    IdempotencyConflict,
    InvalidInput,
    InvalidToken,
    LockTimeout,
    NxschedError,
    SchemaOutdated,
    SettableClock,
    SlotTaken,
    StoreUnavailable,
    Tenant,
    TenantNotFound,
    TransactionConflict,
    WeeklyHours,
)
from nxsched import (
    embedded as embedded_module,
)
from nxsched.embedded import APP_ROLE, OWNER, WORKER_ROLE, EmbeddedServer
from nxsched.service import unit as unit_module
from nxsched.service import wanted as wanted_module
from store.booked import ALAN, GRACE, STAFF, assert_sound, count, rows, trail
from store.bridged import async_engine
from store.conftest import DAY, HALF, HOUR, NINE, NOW, Database

HOURS = [WeeklyHours(days="mon-fri", start="09:00", end="17:00")]
SECRET = "a secret of sixteen characters"  # noqa: S105 - of a test

asyncpg: Any = pytest.importorskip("asyncpg")

every_driver = pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])


def test_the_whole_story(empty_db: Database, clock: SettableClock) -> None:  # noqa: PLR0915 - it is long
    db = empty_db

    async def story() -> None:  # noqa: PLR0915
        scheduler = AsyncScheduler(db.url(APP_ROLE), worker_url=db.url(WORKER_ROLE), clock=clock, secrets=[SECRET])
        with pytest.raises(SchemaOutdated):
            await scheduler.verify()
        await scheduler.migrate(db.url(OWNER), app_role=APP_ROLE, worker_role=WORKER_ROLE)
        async with scheduler:
            await scheduler.verify()
            acme = await scheduler.create_tenant("acme", name="Acme", sender="bookings@acme.test")
            assert isinstance(acme, AsyncTenant)
            assert (await (await scheduler.tenant("acme")).details()).name == "Acme"
            with pytest.raises(TenantNotFound):
                await scheduler.tenant("other")
            for slug in ("ada", "bob"):
                await acme.save_host(Host(slug=slug, timezone="Europe/London", weekly_hours=HOURS))
            await acme.save_event_type(EventType(slug="visit", duration=HALF, hosts=["ada"]))
            both = EventType(slug="both", duration=HALF, hosts=[HostGroup(members=["ada", "bob"], need="all")])
            await acme.save_event_type(both)
            assert [one.slug for one in await acme.hosts()] == ["ada", "bob"]
            slots = await acme.find_slots("visit", start=NINE, end=NINE + DAY)
            assert slots[0].start == NINE

            hold = await acme.place_hold("visit", start=NINE, ttl=timedelta(minutes=10))
            assert await acme.holds() == [hold]
            booked = await acme.confirm_hold(hold.id, attendee=GRACE)
            with pytest.raises(SlotTaken):
                await acme.book("both", start=NINE, attendee=ALAN)
            assert await acme.explain("visit", start=NINE)
            moved = await acme.reschedule(booked.id, start=NINE + HOUR, actor=STAFF)
            assert (await acme.booking(booked.id), moved.start) == (moved, NINE + HOUR)
            assert [one.version for one in await acme.history(booked.id)] == [1, 2, 3]

            series = await acme.book_series("both", starts=[NINE + DAY, NINE + 2 * DAY], attendee=GRACE)
            assert len(series) == 2
            page = await acme.for_attendee(reference="user-7").upcoming()
            assert [one.id for one in page] == [booked.id, *(one.id for one in series)]

            token = await acme.manage_token(booked.id, expires=NINE + DAY)
            link = acme.with_token(token)
            assert await link.booking() == moved
            assert await link.find_slots(start=NINE, end=NINE + DAY)
            assert (await link.reschedule(start=NINE + 2 * HOUR)).start == NINE + 2 * HOUR
            assert (await link.cancel(reason="ill")).status == "cancelled"
            with pytest.raises(InvalidToken):
                await link.booking()
            assert (await acme.history(booked.id))[-1].actor == Actor(role="attendee")

            await acme.save_event_type(EventType(slug="visit", duration=HALF, hosts=["ada", "bob"]))
            visit = await acme.book("visit", start=NINE + HOUR, host="ada", attendee=GRACE)
            assert (await acme.reassign(visit.id, host="bob")).hosts == ("bob",)
            key: dict[str, Any] = {"start": NINE + 3 * HOUR, "idempotency_key": "k"}
            once = await acme.book("visit", attendee=ALAN, **key)
            assert await acme.book("visit", attendee=ALAN, **key) == once
            with pytest.raises(IdempotencyConflict):
                await acme.book("visit", attendee=GRACE, **key)
            await acme.place_hold("visit", start=NINE, ttl=timedelta(minutes=10))
            clock.move(timedelta(minutes=10))
            assert (await acme.sweep()).total == 1
            assert await acme.erase_attendee(reference="user-7") == 4
            assert (await acme.booking(visit.id)).attendee is None
            assert [one.id for one in await scheduler.tenants()] == ["acme"]
            assert (await scheduler.sweep()).total == 0
            assert repr(scheduler).startswith("<AsyncScheduler on postgresql+psycopg://")
        await scheduler.close()

    asyncio.run(story())
    assert_sound(db)


def test_who_closes_a_scheduler_leaves_no_connection_of_ours_and_the_applications_open(db: Database) -> None:
    """A call after that connects again."""

    async def story() -> None:
        scheduler = AsyncScheduler(db.url(APP_ROLE))
        await scheduler.verify()
        pool = scheduler.engine.pool
        assert isinstance(pool, QueuePool)
        assert pool.checkedin() == 1
        await scheduler.close()
        pool = scheduler.engine.pool
        assert isinstance(pool, QueuePool)
        assert pool.checkedin() == 0
        await scheduler.verify()
        await scheduler.close()
        theirs = async_engine(db, poolclass=AsyncAdaptedQueuePool)
        async with AsyncScheduler(theirs) as scheduler:
            await scheduler.verify()
        pool = theirs.pool
        assert isinstance(pool, QueuePool)
        assert pool.checkedin() == 1
        await theirs.dispose()

    asyncio.run(story())


_ROUND_TRIPS = 3
"""Of every call: a transaction begins, something is asked, and it ends. Whoever waits lets others go on."""


def test_tasks_that_book_at_once_have_one_winner_a_slot_and_the_event_loop_goes_on(
    acme: Tenant, db: Database, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = 0
    starts = [NINE + n * HALF for n in range(10)]
    acme.save_event_type(EventType(slug="class", duration=HALF, hosts=["cyd"], capacity=50))

    def blocks(seconds: float) -> None:
        raise AssertionError(f"the event loop is to sleep for {seconds} seconds")

    monkeypatch.setattr(time, "sleep", blocks)

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    async def story() -> None:
        async with AsyncScheduler(db.url(APP_ROLE), clock=clock) as scheduler:
            tenant = await scheduler.tenant(acme.id)

            async def one(n: int) -> str | None:
                before = ticks
                try:
                    return (await tenant.book("visit", start=starts[n % len(starts)], attendee=GRACE)).id
                except SlotTaken:
                    return None
                finally:
                    assert ticks >= before + _ROUND_TRIPS

            async def other(n: int) -> None:
                before, day = ticks, timedelta(days=1 + n)
                seat = await tenant.book("class", start=NINE + DAY, attendee=GRACE)
                await tenant.reschedule(seat.id, start=NINE + 2 * DAY)
                hold = await tenant.place_hold("any", start=NINE + day)
                await tenant.release_hold(hold.id)
                series = await tenant.book_series("any", starts=[NINE + day, NINE + day + HALF], attendee=GRACE)
                await tenant.cancel_series(series[0].series_id or "")
                await tenant.find_slots("any", start=NINE, end=NINE + 7 * DAY)
                await tenant.cancel(seat.id)
                assert ticks >= before + 8 * _ROUND_TRIPS

            ticker = asyncio.create_task(tick())
            found = await asyncio.gather(*(one(n) for n in range(50)), *(other(n) for n in range(3)))
            ticker.cancel()
            won = [id_ for id_ in found if id_]
            booked = (await tenant.bookings(status="confirmed")).items
            assert {one.id for one in booked} == {*won}
            assert [one.start for one in booked] == starts
        assert len(won) == len(starts)

    asyncio.run(story())
    assert_sound(db)


@pytest.mark.parametrize("event_type", ["visit", "any"], ids=["claim", "lock"])
def test_while_a_task_waits_for_somebody_else_the_event_loop_goes_on(
    acme: Tenant, db: Database, clock: SettableClock, event_type: str
) -> None:
    """Who is in the way goes only when the loop has turned: a loop that is blocked ends with a time-out."""

    async def story() -> None:
        async with AsyncScheduler(db.url(APP_ROLE), clock=clock) as scheduler:
            tenant = await scheduler.tenant(acme.id)
            with db.app.connect() as theirs:
                acme.book(event_type, start=NINE, host="ada", attendee=ALAN, within=theirs)
                ours = asyncio.create_task(tenant.book(event_type, start=NINE, host="ada", attendee=GRACE))
                while not rows(db, "SELECT FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110 - the server's event
                    await asyncio.sleep(0)
                theirs.rollback()
                assert (await ours).status == "confirmed"

    asyncio.run(story())
    assert_sound(db)


def cut(db: Database) -> None:
    """Cut every connection of the application."""
    rows(
        db,
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE usename = :role AND datname = current_database()",
        role=APP_ROLE,
    )


def before_reading(monkeypatch: pytest.MonkeyPatch, act: Callable[[Connection], object], times: int = 1) -> list[int]:
    """Do something the first so many times that an action reads what is taken; gives the list of its tries."""
    original = wanted_module.fetch_ground  # type: ignore[attr-defined]
    tries: list[int] = []

    def ground(connection: Connection, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - whatever it gives
        tries.append(1)
        if len(tries) <= times:
            act(connection)
        return original(connection, *args, **options)

    monkeypatch.setattr(wanted_module, "fetch_ground", ground)
    return tries


@pytest.fixture(params=["psycopg", "asyncpg"])
def pooled(db: Database, clock: SettableClock, request: pytest.FixtureRequest) -> AsyncScheduler:
    """A scheduler on an engine that keeps its connections; it is for one event loop."""
    return AsyncScheduler(async_engine(db, request.param, poolclass=AsyncAdaptedQueuePool), clock=clock)


def on(scheduler: AsyncScheduler, story: Callable[[AsyncTenant], Any]) -> None:
    """Run a story of the tenant `acme`, and close the engine."""

    async def run() -> None:
        try:
            await story(await scheduler.tenant("acme"))
        finally:
            await scheduler.engine.dispose()

    asyncio.run(run())


def test_a_connection_that_was_cut_is_replaced_while_it_lies_idle_and_in_the_middle(
    acme: Tenant, pooled: AsyncScheduler, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(tenant: AsyncTenant) -> None:
        cut(db)
        assert (await tenant.book("visit", start=NINE, attendee=GRACE)).status == "confirmed"
        tries = before_reading(monkeypatch, lambda _: cut(db))
        assert (await tenant.book("visit", start=NINE + HALF, attendee=GRACE)).status == "confirmed"
        assert len(tries) == 2

    assert acme.id == "acme"
    on(pooled, story)
    assert count(db, "booking") == 2
    assert_sound(db)


def test_a_database_that_stays_away_is_reported_after_a_few_tries(
    acme: Tenant, pooled: AsyncScheduler, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(tenant: AsyncTenant) -> None:
        tries = before_reading(monkeypatch, lambda _: cut(db), times=100)
        with pytest.raises(StoreUnavailable) as caught:
            await tenant.book("visit", start=NINE, attendee=GRACE)
        assert not caught.value.may_have_happened
        assert len(tries) == 6

    on(pooled, story)
    assert acme.bookings().items == ()


def cut_at_commit(scheduler: AsyncScheduler, db: Database, *, happened: bool) -> None:
    """Cut the connection of the next COMMIT before it, or between it and its answer."""

    def fail(connection: Connection) -> None:
        if happened:
            connection.connection.commit()
            connection.connection.cursor().execute("SELECT 1")  # so that there is a transaction
        cut(db)

    event.listen(scheduler.engine.sync_engine, "commit", fail, once=True)


@pytest.mark.parametrize("happened", [True, False])
def test_a_cut_at_commit_may_have_happened_and_with_a_key_happens_once(
    acme: Tenant, pooled: AsyncScheduler, db: Database, *, happened: bool
) -> None:
    async def story(tenant: AsyncTenant) -> None:
        cut_at_commit(pooled, db, happened=happened)
        with pytest.raises(StoreUnavailable, match="broke at COMMIT") as caught:
            await tenant.book("visit", start=NINE, attendee=GRACE)
        assert caught.value.may_have_happened
        assert count(db, "booking") == int(happened)
        cut_at_commit(pooled, db, happened=happened)
        booking = await tenant.book("visit", start=NINE + HALF, attendee=GRACE, idempotency_key="k")
        assert await tenant.booking(booking.id) == booking
        assert trail(db, booking.id) == [(1, "book", "booking.confirmed")]

    on(pooled, story)
    assert count(db, "booking") == count(db, "audit_entry") == 1 + happened
    assert acme.bookings(start=NINE + HALF).items
    assert_sound(db)


def test_what_may_have_happened_is_not_forgotten_when_the_database_stays_away(
    acme: Tenant, pooled: AsyncScheduler, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = unit_module.take_key  # type: ignore[attr-defined]
    tries: list[int] = []

    def take_key(*args: Any, **options: Any) -> Any:  # noqa: ANN401 - whatever it gives
        tries.append(1)
        if len(tries) > 1:
            cut(db)
        return original(*args, **options)

    async def story(tenant: AsyncTenant) -> None:
        cut_at_commit(pooled, db, happened=True)
        monkeypatch.setattr(unit_module, "take_key", take_key)
        with pytest.raises(StoreUnavailable) as caught:
            await tenant.book("visit", start=NINE, attendee=GRACE, idempotency_key="k")
        assert caught.value.may_have_happened
        assert len(tries) == 6

    on(pooled, story)
    assert len(acme.bookings().items) == 1


@every_driver
def test_a_doubt_is_told_though_the_last_try_has_only_waited(
    acme: Tenant, db: Database, clock: SettableClock, driver: str
) -> None:
    engine = async_engine(db, driver, poolclass=AsyncAdaptedQueuePool)
    scheduler = AsyncScheduler(engine, clock=clock, lock_timeout=timedelta(milliseconds=100))

    with ExitStack() as opened:

        def fail(_: Connection) -> None:
            cut(db)
            theirs = opened.enter_context(db.app.connect())
            acme.book("visit", start=NINE, attendee=GRACE, within=theirs, idempotency_key="k")

        async def story(tenant: AsyncTenant) -> None:
            event.listen(engine.sync_engine, "commit", fail, once=True)
            with pytest.raises(StoreUnavailable, match="whether the change was made is not known") as caught:
                await tenant.book("visit", start=NINE, attendee=GRACE, idempotency_key="k")
            assert caught.value.may_have_happened
            assert isinstance(caught.value.__cause__, LockTimeout)

        on(scheduler, story)


@pytest.mark.parametrize("state", ["40001", "40P01"])
def test_a_conflict_is_tried_again_and_after_the_last_try_told(
    acme: Tenant, pooled: AsyncScheduler, db: Database, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    def conflict(connection: Connection) -> None:
        connection.execute(text(f"DO $$ BEGIN RAISE SQLSTATE '{state}'; END $$"))

    async def story(tenant: AsyncTenant) -> None:
        with monkeypatch.context() as patched:
            tries = before_reading(patched, conflict, times=3)
            assert (await tenant.book("visit", start=NINE, attendee=GRACE)).status == "confirmed"
            assert len(tries) == 4
        tries = before_reading(monkeypatch, conflict, times=100)
        with pytest.raises(TransactionConflict):
            await tenant.book("visit", start=NINE + HALF, attendee=GRACE)
        assert len(tries) == 6

    on(pooled, story)
    assert len(acme.bookings().items) == 1
    assert_sound(db)


def test_who_is_cancelled_between_two_tries_tries_no_more_and_holds_nothing(
    acme: Tenant, pooled: AsyncScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait between two tries is asyncio's own, with no connection in hand."""
    waits: list[int] = []

    async def sleep(_: float) -> None:
        pool = pooled.engine.pool
        assert isinstance(pool, QueuePool)
        waits.append(pool.checkedout())
        await asyncio.Event().wait()

    async def story(tenant: AsyncTenant) -> None:
        tries = before_reading(
            monkeypatch, lambda one: one.execute(text("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$")), times=100
        )
        monkeypatch.setattr("tenacity.asyncio.AsyncRetrying.__init__", _sleeping(sleep))
        task = asyncio.create_task(tenant.book("visit", start=NINE, attendee=GRACE))
        while not waits:  # noqa: ASYNC110 - told by a patch
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (len(tries), waits) == (1, [0])

    on(pooled, story)
    assert acme.bookings().items == ()


def _sleeping(sleep: Callable[[float], Any]) -> Callable[..., None]:
    from tenacity.asyncio import AsyncRetrying  # noqa: PLC0415 - only here

    original = AsyncRetrying.__init__

    def init(self: AsyncRetrying, *args: Any, **options: Any) -> None:
        original(self, *args, **{**options, "sleep": sleep})

    return init


def test_deadlocks_of_tasks_that_meet_for_real_are_tried_again(
    acme: Tenant, pooled: AsyncScheduler, db: Database
) -> None:
    """Two teams of the same people in turn, and the tasks of both at the same starts."""
    for slug, members in (("there", ["ada", "bob", "cyd"]), ("back", ["cyd", "bob", "ada"])):
        acme.save_event_type(EventType(slug=slug, duration=HALF, hosts=[HostGroup(members=members, need="all")]))

    async def story(tenant: AsyncTenant) -> None:
        async def one(n: int) -> NxschedError | None:
            try:
                await tenant.book(("there", "back")[n % 2], start=NINE + n // 8 * HALF, attendee=GRACE)
            except NxschedError as error:
                return error
            return None

        found = await asyncio.gather(*(one(n) for n in range(32)))
        assert found.count(None) == 4
        assert {type(error) for error in found} == {SlotTaken, type(None)}

    on(pooled, story)
    assert_sound(db)


def test_a_pool_with_no_connection_left_is_named(acme: Tenant, db: Database) -> None:
    async def story() -> None:
        engine = async_engine(db, poolclass=AsyncAdaptedQueuePool, pool_size=1, max_overflow=0, pool_timeout=0.05)
        async with engine.connect():
            with pytest.raises(StoreUnavailable, match="every connection"):
                await AsyncScheduler(engine).tenant(acme.id)
        await engine.dispose()

    asyncio.run(story())


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name: the path of a socket may have about a hundred characters."""
    with tempfile.TemporaryDirectory(prefix="nxsched-") as found:
        place = Path(found) / "data"
        yield place
        wait_until_stopped(place)


def wait_until_stopped(place: Path) -> None:
    """The watcher holds this lock until it has stopped the server."""
    if (place / "watcher").exists():
        lock = os.open(place / "watcher", os.O_RDWR)
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.close(lock)


def test_an_embedded_server_starts_while_the_event_loop_goes_on_and_stops_with_its_scheduler(folder: Path) -> None:
    async def story() -> None:
        ticks = 0
        starting = asyncio.create_task(AsyncScheduler.embedded(folder, clock=SettableClock(NOW)))
        while not starting.done():
            ticks += 1
            await asyncio.sleep(0)
        async with await starting as scheduler:
            await scheduler.verify()
            await scheduler.create_tenant("acme", name="Acme")
            assert [one.id for one in await scheduler.tenants()] == ["acme"]
            assert (folder / "pgdata" / "postmaster.pid").exists()
        assert ticks > 1
        with pytest.raises(InvalidInput):
            await AsyncScheduler.embedded("")

    asyncio.run(story())
    wait_until_stopped(folder)
    assert not (folder / "pgdata" / "postmaster.pid").exists()


def test_a_server_that_was_started_for_a_cancelled_task_stops(folder: Path) -> None:
    async def story() -> None:
        task = asyncio.create_task(AsyncScheduler.embedded(folder))
        while not (folder / "users").exists():  # noqa: ASYNC110 - a thread makes it
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})

    asyncio.run(story())
    wait_until_stopped(folder)
    assert (folder / "pgdata").exists()
    assert not (folder / "pgdata" / "postmaster.pid").exists()


class FakeServer:
    """A server that is only closed."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    def close(self) -> None:
        self.closed.set()


@pytest.fixture
def starting(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event, FakeServer]:
    """A server that starts when it is told to: whether it is asked for, what tells it, and the server."""
    asked, go, server = threading.Event(), threading.Event(), FakeServer()

    def start_migrated(*_: object, **__: object) -> EmbeddedServer:
        asked.set()
        go.wait()
        return server  # type: ignore[return-value]

    monkeypatch.setattr(embedded_module, "start_migrated", start_migrated)
    return asked, go, server


def test_who_is_cancelled_while_a_server_starts_keeps_none(
    starting: tuple[threading.Event, threading.Event, FakeServer],
) -> None:
    asked, go, server = starting

    async def story() -> None:
        task = asyncio.create_task(AsyncScheduler.embedded("anywhere"))
        await asyncio.to_thread(asked.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go.set()
        assert await asyncio.to_thread(server.closed.wait, 10)

    asyncio.run(story())


def test_a_program_that_ends_while_a_server_starts_keeps_none(
    starting: tuple[threading.Event, threading.Event, FakeServer],
) -> None:
    """`asyncio.run` cancels all that is left, and waits for its threads: that is how Ctrl-C ends a program."""
    asked, go, server = starting

    async def story() -> None:
        task = asyncio.create_task(AsyncScheduler.embedded("anywhere"))
        await asyncio.to_thread(asked.wait)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        left.append(asyncio.create_task(until_all_are_cancelled()))
        await asyncio.sleep(0)

    async def until_all_are_cancelled() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            go.set()

    left: list[asyncio.Task[None]] = []
    asyncio.run(story())
    assert go.is_set()
    assert server.closed.is_set()


def run(program: str) -> str:
    """What a new process prints."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


WITHOUT_GREENLET = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "greenlet":
            raise ModuleNotFoundError("No module named 'greenlet'", name="greenlet")

sys.meta_path.insert(0, Blocked())
"""


def test_without_greenlet_the_other_face_works_and_this_one_names_the_extra(acme: Tenant, db: Database) -> None:
    program = f"""
import nxsched
with nxsched.Scheduler({db.url(APP_ROLE)!r}) as scheduler:
    print(scheduler.tenant({acme.id!r}).bookings().items)
for name in ("AsyncScheduler", "AsyncTenant", "AsyncManagedBooking", "AsyncAttendeeBookings"):
    for _ in range(2):
        try:
            getattr(nxsched, name)
        except nxsched.MissingExtra as error:
            print(error.extra, "nxsched[async]" in str(error))
"""
    assert run(WITHOUT_GREENLET + program).splitlines() == ["()", *["async True"] * 8]


@pytest.mark.parametrize("name", ["nxsched", "nxsched.Scheduler", "nxsched.Tenant"])
def test_the_other_face_imports_nothing_of_this_one(name: str) -> None:
    program = f"import sys, nxsched; {name}; print([one for one in sys.modules if one.startswith('nxsched.async_')"
    more = " or one in ('sqlalchemy.ext.asyncio', 'asyncpg', 'greenlet')])"
    assert run(program + more) == "[]"


def test_a_connection_that_ends_while_it_is_opened_is_told_like_any_other(
    acme: Tenant, db: Database, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLAlchemy sets a connection of asyncpg up before it looks after its errors."""

    async def ends(connection: Any, *_: object, **__: object) -> None:  # noqa: ANN401 - of asyncpg
        connection.terminate()
        connection._check_open()  # noqa: SLF001 - as each of its methods begins

    async def story() -> None:
        engine = async_engine(db, "asyncpg")
        async with AsyncScheduler(engine, clock=clock) as scheduler:
            tenant = await scheduler.tenant(acme.id)
            await engine.dispose()
            monkeypatch.setattr(asyncpg.Connection, "set_type_codec", ends)
            with pytest.raises(StoreUnavailable, match="connection is closed"):
                await tenant.book("visit", start=NINE, attendee=GRACE)
            monkeypatch.undo()
            await tenant.book("visit", start=NINE, attendee=GRACE)
        await engine.dispose()

    asyncio.run(story())
    assert count(db, "booking") == 1


def test_a_connection_of_asyncpg_that_is_in_disorder_is_told_like_any_other(
    acme: Tenant, db: Database, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one whose task was cancelled and that broke at the same moment: asyncpg finds itself in a state of its own."""

    async def broken(*_: object, **__: object) -> None:
        raise asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress")

    async def story() -> None:
        engine = async_engine(db, "asyncpg")
        async with AsyncScheduler(engine, clock=clock) as scheduler:
            tenant = await scheduler.tenant(acme.id)
            async with engine.connect() as connection:
                await connection.begin()
                monkeypatch.setattr(asyncpg.Connection, "prepare", broken)
                with pytest.raises(StoreUnavailable, match=r"cannot be reached: .*another operation"):
                    await tenant.book("visit", start=NINE, attendee=GRACE, within=connection)
                monkeypatch.undo()
            await tenant.book("visit", start=NINE, attendee=GRACE)
        await engine.dispose()

    asyncio.run(story())
    assert count(db, "booking") == 1
