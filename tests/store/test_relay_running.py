"""A relay that runs: woken by a commit, looking by itself where nobody wakes it, outlasting a database that is away."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.pool import NullPool

from nxsched import (
    AsyncScheduler,
    EventType,
    InvalidInput,
    OutboxEvent,
    Relayed,
    RelayReport,
    Scheduler,
    StoreUnavailable,
    Tenant,
)
from nxsched.embedded import APP_ROLE, WORKER_ROLE
from nxsched.store import bell
from nxsched.testing import NOW as SOON
from nxsched.testing import an_attendee, furnish
from store.bridged import async_engine
from store.conftest import HALF, Database
from store.pooler import pooler
from store.test_behind_a_pooler import folder

LONG = timedelta(minutes=10)
"""Nobody looks by himself while a test runs."""
OFTEN = timedelta(milliseconds=50)
PATIENCE = 30.0
"""Seconds for which a test waits for what is to happen at once."""

DRIVERS = ["psycopg", "asyncpg"]


@pytest.fixture
def live(db: Database) -> Iterator[Scheduler]:
    """A scheduler without a clock of the test's: the relay waits for real."""
    with Scheduler(db.url(APP_ROLE), worker_url=db.url(WORKER_ROLE)) as found:
        yield found


@pytest.fixture
def shop(live: Scheduler) -> Tenant:
    tenant = furnish(live.create_tenant("acme", name="Acme"))
    tenant.save_event_type(EventType(slug="free", name="Free", duration=HALF, hosts=["ada"]))
    return tenant


def book(tenant: Tenant, **more: Any) -> str:
    """The next slot that is free, whatever day it is."""
    now = tenant.find_slots("visit", start=START, end=START + timedelta(days=20), limit=1)
    return tenant.book("visit", start=now[0].start, attendee=an_attendee(), **more).id


START = SOON + timedelta(days=7 * 600)


@contextmanager
def running(run: Callable[[threading.Event], object]) -> Iterator[threading.Event]:
    """A relay in a thread, until the block ends."""
    stop = threading.Event()
    failed: list[BaseException] = []

    def work() -> None:
        try:
            run(stop)
        except BaseException as error:  # noqa: BLE001 - told below
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(PATIENCE)
    assert not thread.is_alive()
    assert not failed, failed


def on_a_loop(db: Database, driver: str, got: list[str]) -> Callable[[threading.Event], object]:
    """The relay for asyncio, on a loop of its own."""

    async def story(stop: threading.Event) -> None:
        async def deliver(event: OutboxEvent) -> None:
            got.append(event.booking_id)

        worker = async_engine(db, driver, role=WORKER_ROLE)
        async with AsyncScheduler(async_engine(db, driver), worker_url=worker) as scheduler:
            ended = asyncio.Event()
            task = asyncio.create_task(scheduler.relay(deliver, poll=OFTEN).run(ended))
            await asyncio.to_thread(stop.wait)
            ended.set()
            await task

    return lambda stop: asyncio.run(story(stop))


def wait_until(true: Callable[[], object]) -> None:
    ends = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < ends, "it did not happen"
        time.sleep(0.01)


def listening(db: Database) -> int:
    with db.superuser.connect() as connection:
        found: int = connection.execute(
            text("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = :name"),
            {"name": db.name},
        ).scalar_one()
    return found


# Woken.


def test_a_commit_wakes_a_relay_that_would_not_look_by_itself(live: Scheduler, shop: Tenant, db: Database) -> None:
    got: list[str] = []
    with running(live.relay(lambda event: got.append(event.booking_id), poll=LONG).run):
        wait_until(lambda: listening(db))
        first = book(shop)
        wait_until(lambda: got == [first])
        second = book(shop)
        wait_until(lambda: got == [first, second])
    assert listening(db) == 0


def test_what_is_committed_right_after_a_ring_is_delivered_too(live: Scheduler, shop: Tenant, db: Database) -> None:
    got: list[str] = []
    with running(live.relay(lambda event: got.append(event.booking_id), poll=LONG).run):
        wait_until(lambda: listening(db))
        booked = [book(shop) for _ in range(8)]
        wait_until(lambda: got == booked)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_commit_wakes_a_relay_on_an_event_loop(live: Scheduler, shop: Tenant, db: Database, driver: str) -> None:
    async def story() -> None:
        got: list[str] = []

        async def deliver(event: OutboxEvent) -> None:
            got.append(event.booking_id)

        engines = async_engine(db, driver), async_engine(db, driver, role=WORKER_ROLE)
        async with AsyncScheduler(engines[0], worker_url=engines[1]) as scheduler:
            stop = asyncio.Event()
            task = asyncio.create_task(scheduler.relay(deliver, poll=LONG).run(stop))
            await asyncio.to_thread(wait_until, lambda: listening(db))
            first = await asyncio.to_thread(book, shop)
            tenant = await scheduler.tenant("acme")
            slots = await tenant.find_slots("visit", start=START, end=START + timedelta(days=5), limit=1)
            second = (await tenant.book("visit", start=slots[0].start, attendee=an_attendee())).id
            await asyncio.to_thread(wait_until, lambda: got == [first, second])
            stop.set()
            assert await task == Relayed(delivered=2)

    asyncio.run(asyncio.wait_for(story(), PATIENCE))
    assert live.outbox.status().depth == 0


@contextmanager
def heard(db: Database) -> Iterator[Callable[[], int]]:
    """How often somebody has rung."""
    with db.worker.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        raw: Any = connection.connection.driver_connection
        connection.exec_driver_sql("LISTEN nxsched_outbox")
        found = [0]

        def rung() -> int:
            found[0] += len(list(raw.notifies(timeout=0.2)))
            return found[0]

        yield rung


def test_nobody_rings_inside_a_transaction_nor_for_one_of_the_applications(shop: Tenant, db: Database) -> None:
    with heard(db) as rung:
        with db.app.begin() as connection:
            book(shop, within=connection)
        assert rung() == 0
        shop.update(book(shop), location="Room 2")
        assert rung() >= 1


def test_nobody_rings_for_what_leaves_no_event_nor_where_that_is_turned_off(db: Database, shop: Tenant) -> None:
    with heard(db) as rung, Scheduler(db.app, wake_relays=False) as scheduler:
        shop.save_event_type(EventType(slug="other", name="Other", duration=HALF, hosts=["ada"]))
        assert list(shop.holds()) == []
        book(scheduler.tenant("acme"))
        assert rung() == 0


def test_many_commits_ring_once(db: Database, shop: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bell, "EVERY", 60.0)
    with heard(db) as rung:
        for _ in range(5):
            book(shop)
        assert rung() == 1


def test_a_ring_that_fails_takes_nothing_back(shop: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bell, "CHANNEL", "'no channel")
    booking = book(shop)
    assert shop.booking(booking).status == "confirmed"


def test_wake_relays_is_true_or_false(db: Database) -> None:
    with pytest.raises(InvalidInput, match=r"^wake_relays: must be True or False, not 1"):
        Scheduler(db.app, wake_relays=1)  # type: ignore[arg-type]


# By itself.


def test_a_relay_looks_by_itself_for_what_the_application_has_committed(
    live: Scheduler, shop: Tenant, db: Database
) -> None:
    got: list[str] = []
    with running(live.relay(lambda event: got.append(event.booking_id), poll=OFTEN).run):
        with db.app.begin() as connection:
            booked = book(shop, within=connection)
        wait_until(lambda: got == [booked])


def test_behind_a_pooler_nobody_is_heard_and_everything_is_delivered(db: Database, shop: Tenant) -> None:
    with pooler(folder(db), WORKER_ROLE, db.name, sessions=2) as socket:
        url = f"postgresql+psycopg://{WORKER_ROLE}@/{db.name}?host={socket}"
        engine = create_engine(url, connect_args={"prepare_threshold": None})
        with Scheduler(db.app, worker_url=engine) as scheduler:
            got: list[str] = []
            with running(scheduler.relay(lambda one: got.append(one.booking_id), poll=OFTEN).run):
                booked = book(shop)
                wait_until(lambda: got == [booked])
        engine.dispose()


def test_a_relay_works_with_a_single_connection(db: Database, shop: Tenant) -> None:
    engine = create_engine(db.url(WORKER_ROLE), pool_size=1, max_overflow=0, pool_timeout=PATIENCE)
    with Scheduler(db.app, worker_url=engine) as scheduler:
        got: list[str] = []
        with running(scheduler.relay(lambda event: got.append(event.booking_id), poll=LONG).run):
            wait_until(lambda: listening(db))
            booked = book(shop)
            wait_until(lambda: got == [booked])
    engine.dispose()


def cut(db: Database, query: str = "%") -> None:
    """End the worker's connections."""
    with db.superuser.connect() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = :name AND usename = :role AND query LIKE :query"
            ),
            {"name": db.name, "role": WORKER_ROLE, "query": query},
        )


@pytest.mark.parametrize("driver", ["threads", *DRIVERS])
def test_a_relay_whose_ear_is_cut_off_looks_by_itself_and_listens_again_later(
    live: Scheduler, shop: Tenant, db: Database, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("ear", "async_ear"):
        monkeypatch.setattr(f"nxsched.relay.{module}.AGAIN", 0.2)
    got: list[str] = []
    run: Callable[[threading.Event], object] = live.relay(lambda event: got.append(event.booking_id), poll=OFTEN).run
    if driver != "threads":
        run = on_a_loop(db, driver, got)
    with running(run):
        wait_until(lambda: listening(db))
        cut(db, "LISTEN%")
        booked = book(shop)
        wait_until(lambda: got == [booked])
        wait_until(lambda: listening(db))


@pytest.mark.parametrize("face", ["sync", "asyncio"])
def test_a_relay_outlasts_a_database_that_is_away(
    db: Database, shop: Tenant, face: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The login may not come in for a while, and its connections are cut."""
    got: list[str] = []

    def sync(stop: threading.Event) -> None:
        with Scheduler(db.app, worker_url=db.url(WORKER_ROLE)) as scheduler:
            scheduler.relay(lambda event: got.append(event.booking_id), poll=OFTEN).run(stop)

    with (
        caplog.at_level(logging.WARNING, "nxsched.relay"),
        running(sync if face == "sync" else on_a_loop(db, "psycopg", got)),
    ):
        first = book(shop)
        wait_until(lambda: got == [first])
        locked_out(db, out=True)
        try:
            cut(db)
            wait_until(lambda: "the relay goes on when the database is there again" in caplog.text)
            second = book(shop)
        finally:
            locked_out(db, out=False)
        wait_until(lambda: got == [first, second])


def locked_out(db: Database, *, out: bool) -> None:
    with db.superuser.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        how = "REVOKE CONNECT ON DATABASE {} FROM PUBLIC, {}" if out else "GRANT CONNECT ON DATABASE {} TO PUBLIC, {}"
        connection.exec_driver_sql(how.format(db.name, WORKER_ROLE))
        connection.exec_driver_sql(f"GRANT CONNECT ON DATABASE {db.name} TO {APP_ROLE}")


def test_who_runs_once_is_told_that_the_database_is_away(db: Database, shop: Tenant) -> None:
    book(shop)
    engine = create_engine(db.url(WORKER_ROLE).replace(db.name, "nowhere"), poolclass=NullPool)
    with Scheduler(db.app, worker_url=engine) as scheduler, pytest.raises(StoreUnavailable):
        scheduler.relay(print).run_once()


def test_what_was_delivered_is_written_down_when_the_database_is_there_again(
    db: Database, live: Scheduler, shop: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    got: list[str] = []

    def deliver(event: OutboxEvent) -> None:
        got.append(event.booking_id)
        failing.append(StoreUnavailable("away"))

    failing: list[StoreUnavailable] = []
    with Scheduler(db.app, worker_url=db.url(WORKER_ROLE)) as scheduler:
        connect = Engine.connect

        def failing_connect(engine: Engine) -> Connection:
            if failing:
                raise failing.pop()
            return connect(engine)

        monkeypatch.setattr(Engine, "connect", failing_connect)
        booked = book(shop)
        assert scheduler.relay(deliver).run_once() == Relayed(delivered=1)
    assert got == [booked]
    assert live.outbox.status().depth == 0


# Reports.


def test_reports_say_what_was_done_and_how_the_outbox_stands(live: Scheduler, shop: Tenant) -> None:
    book(shop)
    reports: list[RelayReport] = []

    def tell(report: RelayReport) -> None:
        reports.append(report)
        raise RuntimeError("what is wrong with the metrics stops no delivery")

    relay = live.relay(print, on_report=tell, report_every=timedelta(milliseconds=1), poll=timedelta(milliseconds=10))
    with running(relay.run):
        wait_until(lambda: reports and reports[-1].done.delivered == 1)
        book(shop)
        wait_until(lambda: reports[-1].done.delivered == 2)
    assert reports[-1].status.depth == 0


@pytest.mark.parametrize("given", [print, lambda _: None])
def test_the_face_for_asyncio_wants_a_coroutine_function(db: Database, given: Callable[[object], None]) -> None:
    scheduler = AsyncScheduler(async_engine(db))
    with pytest.raises(InvalidInput, match=r"^deliver: must be `async def`"):
        scheduler.relay(given)  # type: ignore[arg-type]


class Delivers:
    """An object that can be called."""

    async def __call__(self, event: OutboxEvent) -> None: ...


def test_an_object_with_an_async_call_is_taken_for_what_it_is(db: Database) -> None:
    deliver: Callable[[OutboxEvent], Awaitable[None]] = Delivers()
    AsyncScheduler(async_engine(db)).relay(deliver)
    with pytest.raises(InvalidInput, match=r"^deliver: is `async def`"):
        Scheduler(db.app).relay(deliver)  # type: ignore[arg-type]


@pytest.mark.parametrize("concurrency", [1, 3])
def test_what_a_delivery_waits_for_may_be_cancelled_and_the_relay_goes_on(
    live: Scheduler, shop: Tenant, db: Database, concurrency: int
) -> None:
    for _ in range(3):
        book(shop)

    async def story() -> Relayed:
        seen: list[str] = []

        async def deliver(event: OutboxEvent) -> None:
            seen.append(event.id)
            if len(seen) == 1:
                theirs = asyncio.get_running_loop().create_future()
                theirs.cancel()
                await theirs

        async with AsyncScheduler(async_engine(db), worker_url=async_engine(db, role=WORKER_ROLE)) as scheduler:
            return await scheduler.relay(deliver, concurrency=concurrency).run_once()

    assert asyncio.run(story()) == Relayed(delivered=2, failed=1)
    assert live.outbox.events()[0].error == "RuntimeError: what it waited for was cancelled"


def test_what_hangs_does_not_keep_the_others_from_being_written_down(live: Scheduler, shop: Tenant) -> None:
    hangs = book(shop)
    others = [book(shop) for _ in range(3)]
    ended = threading.Event()

    def deliver(event: OutboxEvent) -> None:
        if event.booking_id == hangs:
            assert ended.wait(PATIENCE)

    with running(live.relay(deliver, concurrency=2).run):
        wait_until(lambda: live.outbox.status().depth == 1)
        ended.set()
        wait_until(lambda: live.outbox.status().depth == 0)
    assert len(others) == 3


def test_an_engine_that_fails_in_a_way_of_its_own_is_outlasted(
    live: Scheduler, shop: Tenant, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[str] = []
    failing: list[Exception] = []
    connect = Engine.connect

    def failing_connect(engine: Engine) -> Connection:
        if failing and threading.current_thread() is not threading.main_thread():
            raise failing.pop()
        return connect(engine)

    monkeypatch.setattr(Engine, "connect", failing_connect)
    with running(live.relay(lambda event: got.append(event.booking_id), poll=OFTEN).run):
        first = book(shop)
        wait_until(lambda: got == [first])
        failing += [RuntimeError("no token"), RuntimeError("no token")]
        wait_until(lambda: "the relay goes on, whatever this is" in caplog.text)
        second = book(shop)
        wait_until(lambda: got == [first, second])


def test_a_task_that_is_cancelled_gives_back_what_it_has_not_begun(live: Scheduler, shop: Tenant, db: Database) -> None:
    for _ in range(3):
        book(shop)

    async def story() -> None:
        begun = asyncio.Event()

        async def deliver(_: OutboxEvent) -> None:
            begun.set()
            await asyncio.sleep(PATIENCE)

        async with AsyncScheduler(async_engine(db), worker_url=async_engine(db, role=WORKER_ROLE)) as scheduler:
            task = asyncio.create_task(scheduler.relay(deliver, concurrency=2).run())
            await begun.wait()
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(story())
    left = list(live.outbox.events())
    assert sorted(one.attempts for one in left) == [0, 1, 1]
    assert {one.state for one in left} == {"waiting"}
    assert live.relay(lambda _: None).run_once() == Relayed(delivered=3)
