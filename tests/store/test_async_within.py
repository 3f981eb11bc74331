"""The face for asyncio in the application's own transaction, through psycopg and through asyncpg."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool

from nxsched import (
    AsyncScheduler,
    AsyncTenant,
    BookingNotFound,
    EventTypeNotFound,
    InvalidInput,
    LockTimeout,
    NxschedError,
    Scheduler,
    SchemaOutdated,
    SettableClock,
    SlotTaken,
    StoreUnavailable,
    Tenant,
    TenantNotFound,
    TransactionConflict,
)
from nxsched.embedded import APP_ROLE, WORKER_ROLE
from store.booked import ALAN, GRACE, assert_sound, count, rows
from store.bridged import async_engine
from store.conftest import DAY, HALF, HOUR, NINE, Database

pytestmark = pytest.mark.slow  # many, and most of them wait for somebody

LEVELS = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]

every_driver = pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
every_way = pytest.mark.parametrize(
    "kind", ["connection", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("session", "scoped session"))]
)
every_level = pytest.mark.parametrize("level", LEVELS)

Within = AsyncConnection | AsyncSession | async_scoped_session[AsyncSession]


@pytest.fixture(autouse=True)
def orders(db: Database) -> None:
    """A table of the application's own."""
    with db.owner.begin() as connection:
        connection.execute(text("CREATE TABLE orders (id int PRIMARY KEY, booking_id uuid)"))
        connection.execute(text(f"GRANT ALL ON orders TO {APP_ROLE}"))


@pytest.fixture
def tenant(acme: Tenant, db: Database, clock: SettableClock) -> AsyncTenant:
    """The tenant `acme` with asyncio."""
    scheduler = AsyncScheduler(async_engine(db), worker_url=async_engine(db, role=WORKER_ROLE), clock=clock)
    return asyncio.run(scheduler.tenant(acme.id))


@asynccontextmanager
async def joined(db: Database, driver: str, kind: str, level: str = "READ COMMITTED") -> AsyncIterator[Within]:
    """A transaction of the application's; committed by who asks."""
    engine = async_engine(db, driver, isolation_level=level)
    if kind == "connection":
        async with engine.connect() as connection:
            yield connection
    elif kind == "session":
        async with AsyncSession(engine) as session:
            yield session
    else:
        sessions = async_scoped_session(async_sessionmaker(engine), asyncio.current_task)
        yield sessions
        await sessions.remove()


def told(work: Coroutine[Any, Any, None]) -> None:
    """Run a story."""
    asyncio.run(work)


@every_level
@every_way
@every_driver
def test_order_and_booking_are_committed_as_one_or_never_were(
    tenant: AsyncTenant, db: Database, driver: str, kind: str, level: str
) -> None:
    async def story() -> None:
        async with joined(db, driver, kind, level) as within:
            for ends in ("rollback", "commit"):
                await within.execute(text("INSERT INTO orders VALUES (1)"))
                hold = await tenant.place_hold("all", start=NINE, within=within)
                booking = await tenant.confirm_hold(hold.id, attendee=GRACE, within=within, idempotency_key="k")
                moved = await tenant.reschedule(booking.id, start=NINE + HOUR, within=within)
                await within.execute(text("UPDATE orders SET booking_id = CAST(:id AS uuid)"), {"id": booking.id})
                assert (await tenant.bookings()).items == ()
                assert await tenant.booking(booking.id, within=within) == moved
                assert len(await tenant.history(booking.id, within=within)) == 3
                assert count(db, "booking") == 0
                await getattr(within, ends)()
                if ends == "rollback":
                    tables = ("orders", "nxsched.booking", "nxsched.claim", "nxsched.audit_entry")
                    for table in (*tables, "nxsched.outbox_event", "nxsched.idempotency_key"):
                        assert rows(db, f"SELECT count(*) FROM {table}") == [(0,)]  # noqa: S608 - ours
            assert await tenant.booking(booking.id) == moved
        assert str(rows(db, "SELECT booking_id FROM orders")[0][0]) == booking.id
        assert_sound(db)

    told(story())


@every_level
@every_way
@every_driver
def test_a_refusal_in_the_middle_leaves_the_transaction_usable(
    tenant: AsyncTenant, db: Database, driver: str, kind: str, level: str
) -> None:
    async def story() -> None:
        await tenant.book("visit", start=NINE, attendee=ALAN)
        async with joined(db, driver, kind, level) as within:
            refused: list[tuple[type[NxschedError], Callable[[], Coroutine[Any, Any, object]]]] = [
                (SlotTaken, lambda: tenant.book("visit", start=NINE, attendee=GRACE, within=within)),
                (SlotTaken, lambda: tenant.book("all", start=NINE, attendee=GRACE, within=within, force=True)),
                (EventTypeNotFound, lambda: tenant.book("none", start=NINE, attendee=GRACE, within=within)),
                (BookingNotFound, lambda: tenant.cancel("none", within=within)),
                (InvalidInput, lambda: tenant.book("visit", start=NINE, attendee=GRACE, seats=2, within=within)),
            ]
            for n, (error, call) in enumerate(refused):
                await within.execute(text("INSERT INTO orders VALUES (:n)"), {"n": n})
                with pytest.raises(error):
                    await call()
            later = await tenant.book(
                "visit", start=NINE + HALF, attendee=GRACE, within=within, idempotency_key="k", metadata={"a": [1.5]}
            )
            again = tenant.book(
                "visit", start=NINE + HALF, attendee=GRACE, within=within, idempotency_key="k", metadata={"a": [1.5]}
            )
            assert await again == later
            await within.commit()
        assert rows(db, "SELECT count(*) FROM orders") == [(len(refused),)]
        assert [one.id for one in await tenant.bookings(start=NINE + HALF)] == [later.id]
        assert_sound(db)

    told(story())


@every_level
@every_way
@every_driver
def test_what_was_taken_since_the_snapshot_is_refused_or_a_conflict(
    tenant: AsyncTenant, db: Database, driver: str, kind: str, level: str
) -> None:
    async def story() -> None:
        async with joined(db, driver, kind, level) as within:
            await within.execute(text("INSERT INTO orders VALUES (1)"))  # the snapshot is taken here
            await tenant.book("any", start=NINE, host="ada", attendee=ALAN)
            expected = SlotTaken if level == "READ COMMITTED" else TransactionConflict
            for event_type in ("visit", "any"):
                with pytest.raises(expected):
                    await tenant.book(event_type, start=NINE, host="ada", attendee=GRACE, within=within)
            await within.execute(text("INSERT INTO orders VALUES (2)"))
            await within.rollback()
            booking = await tenant.book("any", start=NINE, attendee=GRACE, within=within)
            assert booking.hosts == ("bob",)
            await within.commit()
        assert count(db, "booking") == 2
        assert_sound(db)

    told(story())


@every_driver
def test_the_tenant_that_was_set_is_put_back(tenant: AsyncTenant, db: Database, driver: str) -> None:
    setting = text("SELECT current_setting('nxsched.tenant_id', true)")

    async def story() -> None:
        async with async_engine(db, driver).begin() as connection:
            await tenant.book("visit", start=NINE, attendee=GRACE, within=connection)
            assert await connection.scalar(setting) in {None, ""}
            await connection.execute(text("SELECT set_config('nxsched.tenant_id', 'other', true)"))
            with pytest.raises(SlotTaken):
                await tenant.book("visit", start=NINE, attendee=GRACE, within=connection)
            assert await connection.scalar(setting) == "other"
            assert (await tenant.bookings(within=connection)).items[0].attendee == GRACE
            assert await connection.scalar(setting) == "other"
            assert await connection.scalar(text("SELECT count(*) FROM nxsched.booking")) == 0

    told(story())


@every_driver
def test_what_is_no_transaction_to_join_is_refused(
    tenant: AsyncTenant, acme: Tenant, db: Database, driver: str
) -> None:
    async def refused(within: object, words: str) -> None:
        with pytest.raises(InvalidInput, match=words) as caught:
            await tenant.book("visit", start=NINE, attendee=GRACE, within=within)  # type: ignore[arg-type]
        assert caught.value.field == "within"

    async def story() -> None:
        engine = async_engine(db, driver)
        wanted = "must be a SQLAlchemy AsyncConnection .* or AsyncSession, not"
        await refused(engine, wanted)
        await refused(engine.connect(), "has not been started")
        async with engine.connect() as connection:
            await refused(connection.sync_connection, wanted)
            with pytest.raises(InvalidInput, match="or Session, not"):
                acme.bookings(within=connection)  # type: ignore[arg-type]
        await refused(connection, "This Connection is closed")
        await refused(AsyncSession(connection), "This Connection is closed")
        await refused(AsyncSession(), "not bound")
        session = AsyncSession(engine, close_resets_only=False)
        await refused(session.sync_session, wanted)
        await session.close()
        await refused(session, "permanently closed")
        async with engine.connect() as connection, connection.begin() as transaction:
            await transaction.rollback()
            await refused(connection, "closed transaction")
        async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            await refused(connection, "AUTOCOMMIT")
        async with async_engine(db, driver, isolation_level="AUTOCOMMIT").connect() as connection:
            await refused(connection, "AUTOCOMMIT")
        with db.app.connect() as other:
            await refused(other, wanted)

    told(story())
    assert count(db, "booking") == 0


def test_a_connection_of_asyncio_in_hand_of_sqlalchemys_own_bridge_joins_the_other_face(
    acme: Tenant, db: Database
) -> None:
    """An application that runs synchronous code with `run_sync` has a connection that looks like any other."""

    async def story() -> None:
        async with async_engine(db, "asyncpg").begin() as connection:

            def inside(sync: Connection) -> str:
                return acme.book("visit", start=NINE, attendee=GRACE, within=sync).id

            id_ = await connection.run_sync(inside)
        assert acme.booking(id_).status == "confirmed"

    told(story())


def test_a_connection_of_asyncio_outside_its_loop_is_named(acme: Tenant, db: Database) -> None:
    async def story() -> None:
        async with async_engine(db).connect() as connection:
            with pytest.raises(InvalidInput, match="has no transaction to join"):
                acme.bookings(within=connection.sync_connection)

    told(story())


@every_driver
@pytest.mark.parametrize(
    ("state", "error"),
    [
        ("40001", TransactionConflict),
        ("40P01", TransactionConflict),
        ("55P03", LockTimeout),
        ("57014", StoreUnavailable),
        ("42501", StoreUnavailable),
        ("42P01", SchemaOutdated),
        ("25006", StoreUnavailable),
        ("53300", StoreUnavailable),
        ("57P01", StoreUnavailable),
        ("57P03", StoreUnavailable),
    ],
)
def test_what_the_server_says_is_the_same_error_through_both_drivers(
    tenant: AsyncTenant, db: Database, monkeypatch: pytest.MonkeyPatch, driver: str, state: str, error: type
) -> None:
    def raising(connection: Connection, *_: object, **__: object) -> None:
        connection.execute(text(f"DO $$ BEGIN RAISE SQLSTATE '{state}'; END $$"))

    async def story() -> None:
        async with async_engine(db, driver).connect() as connection:
            with monkeypatch.context() as patched:
                patched.setattr("nxsched.service.wanted.fetch_ground", raising)
                with pytest.raises(error):
                    await tenant.book("visit", start=NINE, attendee=GRACE, within=connection)
            assert (await tenant.book("visit", start=NINE, attendee=GRACE, within=connection)).status == "confirmed"

    told(story())


@every_driver
def test_who_waits_in_the_applications_transaction_is_told(tenant: AsyncTenant, db: Database, driver: str) -> None:
    async def story() -> None:
        engine = async_engine(db, driver)
        async with engine.connect() as first, engine.connect() as second:
            for event_type, timeout, error in (
                ("any", "lock_timeout", LockTimeout),
                ("visit", "lock_timeout", LockTimeout),
                ("visit", "statement_timeout", StoreUnavailable),
            ):
                await tenant.book(event_type, start=NINE, host="ada", attendee=GRACE, within=first)
                await second.execute(text(f"SET LOCAL {timeout} = '200ms'"))
                with pytest.raises(error):
                    await tenant.book(event_type, start=NINE, host="ada", attendee=ALAN, within=second)
                await second.execute(text("INSERT INTO orders VALUES (1)"))
                await first.rollback()
                await tenant.book(event_type, start=NINE, host="ada", attendee=ALAN, within=second)
                await second.rollback()

    told(story())


@every_driver
def test_a_tenant_or_right_that_is_missing_is_named(
    tenant: AsyncTenant, db: Database, stranger: str, driver: str
) -> None:
    async def story() -> None:
        gone = AsyncTenant(tenant._units, "gone")  # noqa: SLF001 - as one that was deleted since
        async with async_engine(db, driver).connect() as connection:
            with pytest.raises(TenantNotFound):
                await gone.details(within=connection)
            with pytest.raises(TenantNotFound):
                await gone.save_host(await tenant.host("ada"), within=connection)
        async with async_engine(db, driver, stranger).connect() as connection:
            with pytest.raises(StoreUnavailable, match="refuses this login: permission denied"):
                await tenant.bookings(within=connection)

    told(story())


@every_driver
def test_a_database_without_tables_is_named(tenant: AsyncTenant, empty_db: Database, driver: str) -> None:
    async def story() -> None:
        async with async_engine(empty_db, driver).connect() as connection:
            with pytest.raises(SchemaOutdated):
                await tenant.book("visit", start=NINE, attendee=GRACE, within=connection)

    told(story())


@every_driver
@every_way
def test_a_connection_that_the_server_cuts_has_to_be_rolled_back(
    tenant: AsyncTenant, db: Database, driver: str, kind: str
) -> None:
    async def story() -> None:
        async with joined(db, driver, kind) as within:
            pid = (await within.execute(text("SELECT pg_backend_pid()"))).scalar_one()
            rows(db, "SELECT pg_terminate_backend(:pid, 5000)", pid=pid)
            with pytest.raises(StoreUnavailable) as caught:
                await tenant.book("visit", start=NINE, attendee=GRACE, within=within)
            assert not caught.value.may_have_happened
            with pytest.raises(StoreUnavailable, match="has failed before: roll it back"):
                await tenant.bookings(within=within)
            await within.rollback()
            await tenant.book("visit", start=NINE, attendee=GRACE, within=within)
            await within.commit()
        assert count(db, "booking") == 1

    told(story())


@every_driver
@pytest.mark.parametrize("where", ["app@127.0.0.1:1/x", "app@no-such-host.invalid/x"])
def test_a_database_that_is_away_is_one_error(tenant: AsyncTenant, driver: str, where: str) -> None:
    engine = create_async_engine(f"postgresql+{driver}://{where}", poolclass=NullPool)

    async def story() -> None:
        with pytest.raises(StoreUnavailable, match="cannot be reached") as caught:
            await AsyncScheduler(engine).verify()
        assert not caught.value.may_have_happened
        async with AsyncSession(engine) as session:
            with pytest.raises(StoreUnavailable, match="cannot be reached"):
                await tenant.bookings(within=session)

    told(story())


@every_driver
@pytest.mark.parametrize("what", ["login", "database"])
def test_a_login_or_database_that_is_not_there_is_one_error(db: Database, driver: str, what: str) -> None:
    url = db.server.url("nobody_here" if what == "login" else APP_ROLE, db.name if what == "login" else "not_there")
    engine = create_async_engine(url.replace("+psycopg", f"+{driver}"), poolclass=NullPool)

    async def story() -> None:
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            await AsyncScheduler(engine).verify()

    told(story())


def test_the_time_out_of_asyncpgs_own_is_one_error(
    tenant: AsyncTenant, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(connection: Connection, *_: object, **__: object) -> None:
        connection.execute(text("SELECT pg_sleep(5)"))

    async def story() -> None:
        engine = async_engine(db, "asyncpg", connect_args={"command_timeout": 0.1})
        monkeypatch.setattr("nxsched.service.wanted.fetch_ground", slow)
        async with engine.connect() as connection:
            with pytest.raises(StoreUnavailable):
                await tenant.book("visit", start=NINE, attendee=GRACE, within=connection)

    told(story())


@every_driver
def test_prepared_statements_outlive_a_change_of_the_tables(tenant: AsyncTenant, db: Database, driver: str) -> None:
    """Each driver keeps statements prepared on a connection; a later version adds columns meanwhile."""

    async def story() -> None:
        engine = async_engine(db, driver, poolclass=AsyncAdaptedQueuePool, pool_size=1, max_overflow=0)

        async def some(day: int) -> None:
            for n in range(8):
                async with engine.begin() as connection:
                    booking = await tenant.book(
                        "visit", start=NINE + day * DAY + n * HALF, attendee=GRACE, within=connection
                    )
                    assert await tenant.booking(booking.id, within=connection) == booking
                    assert booking in (await tenant.bookings(within=connection)).items

        await some(0)
        with db.owner.begin() as owner:
            tables = owner.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'nxsched'")).scalars()
            for table in tables.all():
                owner.execute(text(f"ALTER TABLE nxsched.{table} ADD COLUMN later text"))
        await some(1)
        await engine.dispose()
        assert count(db, "booking") == 16
        assert_sound(db)

    told(story())


@every_driver
def test_an_engine_of_the_applications_own_may_have_options(
    tenant: AsyncTenant, db: Database, clock: SettableClock, driver: str
) -> None:
    """Whatever its isolation level is, and whether or not it keeps statements prepared."""
    connecting = {"prepare_threshold": None} if driver == "psycopg" else {"statement_cache_size": 0}
    options: list[dict[str, Any]] = [
        {"isolation_level": "AUTOCOMMIT"},
        {"isolation_level": "SERIALIZABLE"},
        {"execution_options": {"isolation_level": "AUTOCOMMIT"}},
        {"query_cache_size": 0, "pool_pre_ping": True, "poolclass": AsyncAdaptedQueuePool},
        {"connect_args": connecting},
    ]

    async def story() -> None:
        for n, option in enumerate(options):
            engine = async_engine(db, driver, **option)
            async with AsyncScheduler(engine, clock=clock) as scheduler:
                mine = await scheduler.tenant(tenant.id)
                booking = await mine.book("visit", start=NINE + n * HALF, attendee=GRACE, idempotency_key=f"{n}")
                with pytest.raises(SlotTaken):
                    await mine.book("visit", start=NINE + n * HALF, attendee=GRACE)
                assert await mine.booking(booking.id) == booking
                assert await mine.find_slots("any", start=NINE, end=NINE + DAY)
            await engine.dispose()
        assert count(db, "booking") == len(options)
        assert_sound(db)

    told(story())


@pytest.mark.parametrize("act", ["book", "save_host", "save_event_type"])
def test_codecs_that_the_application_has_set_for_asyncpg_change_nothing_of_ours(
    tenant: AsyncTenant, acme: Tenant, db: Database, act: str
) -> None:
    """Its own values of `jsonb` are objects, and ours are to be read by everybody."""

    def codec(connection: Any, _: object) -> None:  # noqa: ANN401 - the driver's
        connection.run_async(
            lambda it: it.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
        )

    async def story() -> None:
        engine = async_engine(db, "asyncpg")
        event.listen(engine.sync_engine, "connect", codec)
        async with engine.begin() as within:
            if act == "book":
                booking = await tenant.book("visit", start=NINE, attendee=GRACE, metadata={"a": 1.5}, within=within)
                assert (await tenant.booking(booking.id, within=within)).metadata == {"a": 1.5}
            elif act == "save_host":
                await tenant.save_host(await tenant.host("ada"), within=within)
            else:
                await tenant.save_event_type(await tenant.event_type("visit"), within=within)

    told(story())
    assert acme.find_slots("visit", start=NINE, end=NINE + DAY)


@every_driver
def test_a_session_whose_flush_failed_has_to_be_rolled_back(tenant: AsyncTenant, db: Database, driver: str) -> None:
    async def story() -> None:
        async with AsyncSession(async_engine(db, driver)) as session:
            await session.execute(text("INSERT INTO orders VALUES (1)"))
            with pytest.raises(IntegrityError):
                await session.execute(text("INSERT INTO orders VALUES (1)"))
            with pytest.raises(StoreUnavailable, match="has failed before: roll it back"):
                await tenant.book("visit", start=NINE, attendee=GRACE, within=session)
            await session.rollback()
            await tenant.book("visit", start=NINE, attendee=GRACE, within=session)
            await session.commit()
        assert count(db, "booking") == 1

    told(story())


def test_another_driver_is_refused() -> None:
    with pytest.raises(InvalidInput, match="Scheduler takes an Engine"):
        AsyncScheduler(create_engine("postgresql+psycopg://x/y"))  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="AsyncScheduler takes an AsyncEngine"):
        Scheduler(create_async_engine("postgresql+psycopg://x/y"))  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=r'not "postgresql\+asyncpg"'):
        AsyncScheduler("postgresql+asyncpg://x/y")
