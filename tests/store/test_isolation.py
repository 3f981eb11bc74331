"""Transactions of our own are READ COMMITTED, whatever the database, the role or the application's engine says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, text

from nxsched import BlockedPeriod, EventType, Limit, Scheduler, SettableClock, SlotUnavailable, Tenant
from nxsched.embedded import APP_ROLE, WORKER_ROLE
from store.booked import ALAN, GRACE, assert_sound, count, rows
from store.conftest import DAY, HALF, HOUR, NINE, NOW, Database

UPPER = ["repeatable read", "serializable"]


def of_the_database(db: Database, level: str) -> None:
    with db.owner.begin() as connection:
        connection.execute(text(f"ALTER DATABASE {db.name} SET default_transaction_isolation = '{level}'"))


def of_the_roles(db: Database, level: str) -> None:
    with db.superuser.begin() as connection:
        for role in (APP_ROLE, WORKER_ROLE):
            connection.execute(
                text(f"ALTER ROLE {role} IN DATABASE {db.name} SET default_transaction_isolation = '{level}'")
            )


def of_nobody(db: Database, level: str) -> None:
    assert db.name
    assert level


Made = Callable[[Database, str, str], "str | Engine"]
"""What a scheduler is given: of a database, a role and a level."""

GIVEN: dict[str, tuple[Callable[[Database, str], None], Made]] = {
    "the database, a URL": (of_the_database, lambda db, role, _: db.url(role)),
    "the database, an engine": (of_the_database, lambda db, role, _: create_engine(db.url(role))),
    "the role, a URL": (of_the_roles, lambda db, role, _: db.url(role)),
    "the role, an engine": (of_the_roles, lambda db, role, _: create_engine(db.url(role))),
    "the login": (
        of_nobody,
        lambda db, role, level: create_engine(
            db.url(role),
            connect_args={"options": f"-c default_transaction_isolation={level.replace(' ', chr(92) + ' ')}"},
        ),
    ),
    "the engine": (of_nobody, lambda db, role, level: create_engine(db.url(role), isolation_level=level.upper())),
    "the engine's options": (
        of_nobody,
        lambda db, role, level: create_engine(db.url(role)).execution_options(isolation_level=level.upper()),
    ),
}


@contextmanager
def levels(engine: Engine) -> Iterator[list[str]]:
    """The isolation level at which each statement of a block ran, as the server says."""
    found: list[str] = []

    def look(connection: Any, *_: Any) -> None:  # noqa: ANN401
        found.append(connection.connection.driver_connection.execute("SHOW transaction_isolation").fetchone()[0])

    event.listen(engine, "after_cursor_execute", look)
    try:
        yield found
    finally:
        event.remove(engine, "after_cursor_execute", look)


@pytest.fixture(params=UPPER)
def level(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(params=[*GIVEN])
def scheduled(
    request: pytest.FixtureRequest, db: Database, acme: Tenant, clock: SettableClock, level: str
) -> Iterator[tuple[Scheduler, Engine]]:
    """A scheduler where everything else is at the level, and the engine of the worker's login."""
    assert acme.id == "acme"
    prepare, made = GIVEN[request.param]
    prepare(db, level)
    app, worker = (made(db, role, level) for role in (APP_ROLE, WORKER_ROLE))
    with Scheduler(app, worker_url=worker, clock=clock) as found:
        yield found, found._worker.engine  # noqa: SLF001 - our own
        for one in (app, worker):
            if isinstance(one, Engine):
                one.dispose()


def test_every_statement_of_our_own_transactions_is_read_committed(
    scheduled: tuple[Scheduler, Engine], clock: SettableClock
) -> None:
    scheduler, worker = scheduled
    acme = scheduler.tenant("acme")
    with levels(scheduler.engine) as found:
        acme.save_event_type(EventType(slug="visit", duration=HALF, hosts=["ada"], limits=[Limit(per="day", count=9)]))
        acme.block("cyd", BlockedPeriod(start=NINE, end=NINE + HOUR))
        acme.find_slots("any", start=NINE, end=NINE + DAY)
        acme.explain("any", start=NINE)
        acme.book("visit", start=NINE, attendee=GRACE, idempotency_key="k")
        acme.confirm_hold(acme.place_hold("all", start=NINE + HOUR).id, attendee=GRACE, if_free=True)
        acme.release_hold(acme.place_hold("any", start=NINE + HOUR).id)
        acme.place_hold("any", start=NINE + DAY)
        acme.cancel(acme.bookings().items[0].id)
        clock.move(HOUR)
        assert acme.sweep().holds == 1
        scheduler.create_tenant("other", name="Other")
    assert len(found) > 30
    assert set(found) == {"read committed"}
    with levels(worker) as found:
        scheduler.tenants()
        scheduler.sweep()
    assert len(found) > 5
    assert set(found) == {"read committed"}


def test_who_waited_counts_what_was_committed_meanwhile(
    scheduled: tuple[Scheduler, Engine], db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an upper level the count would be of a snapshot that is older than the lock: a conflict, or one too many."""
    scheduler, _ = scheduled
    acme = scheduler.tenant("acme")
    acme.save_event_type(EventType(slug="visit", duration=HALF, hosts=["ada"], limits=[Limit(per="day", count=1)]))
    other = Scheduler(db.app, clock=SettableClock(NOW)).tenant("acme")
    from nxsched.service import taking  # noqa: PLC0415 - only here

    original = taking.lock  # type: ignore[attr-defined]
    tries: list[int] = []

    def lock(*args: Any) -> Any:  # noqa: ANN401 - as it is
        """Somebody is quicker, after our first look and before our lock."""
        tries.append(1)
        if len(tries) == 1:
            other.book("visit", start=NINE + HOUR, attendee=ALAN)
        return original(*args)

    monkeypatch.setattr("nxsched.service.taking.lock", lock)
    with pytest.raises(SlotUnavailable) as caught:
        acme.book("visit", start=NINE, attendee=GRACE)
    assert "event_limit" in [reason.code for reason in caught.value.reasons]
    assert len(tries) == 2, "the lock of the other and ours, and no second try"
    assert count(db, "booking") == 1
    assert_sound(db)


@pytest.mark.parametrize("given", ["the engine", "the engine's options", "the role, an engine"])
def test_the_applications_own_transactions_stay_at_the_level_that_it_chose(
    db: Database, acme: Tenant, clock: SettableClock, level: str, given: str
) -> None:
    """Also on the very connection that an action had before, from a pool of one."""
    prepare, made = GIVEN[given]
    prepare(db, level)
    engine = made(db, APP_ROLE, level)
    assert isinstance(engine, Engine)
    show = text("SHOW transaction_isolation")
    pid = text("SELECT pg_backend_pid()")
    with Scheduler(engine, clock=clock) as scheduler:
        tenant = scheduler.tenant(acme.id)
        pids = set()
        for n in range(2):
            tenant.book("visit", start=NINE + n * HALF, attendee=GRACE)
            with engine.connect() as connection:
                assert connection.execute(show).scalar() == level
                pids.add(connection.execute(pid).scalar())
                tenant.book("visit", start=NINE + DAY + n * HALF, attendee=GRACE, within=connection)
                assert connection.execute(show).scalar() == level
                connection.commit()
                assert connection.execute(show).scalar() == level
        assert len(pids) == 1
    engine.dispose()
    assert count(db, "booking") == 4
    assert rows(db, "SELECT DISTINCT status FROM nxsched.booking") == [("confirmed",)]


@pytest.mark.parametrize("given", ["the engine", "the engine's options"])
def test_an_engine_in_autocommit_still_gives_us_transactions(db: Database, acme: Tenant, given: str) -> None:
    """A booking that fails half-way is not there, though each statement of the application's is committed at once."""
    engine = GIVEN[given][1](db, APP_ROLE, "AUTOCOMMIT")
    assert isinstance(engine, Engine)
    with Scheduler(engine, clock=SettableClock(NOW), statement_timeout=timedelta(seconds=20)) as scheduler:
        tenant = scheduler.tenant(acme.id)

        def fail(_connection: Any, _cursor: Any, sql: str, *_: Any) -> None:  # noqa: ANN401
            if "INSERT INTO nxsched.booking" in sql:
                raise RuntimeError

        with levels(engine) as found:
            event.listen(engine, "after_cursor_execute", fail)
            with pytest.raises(RuntimeError):
                tenant.book("visit", start=NINE, attendee=GRACE, idempotency_key="k")
            event.remove(engine, "after_cursor_execute", fail)
            assert count(db, "booking") == count(db, "claim") == count(db, "idempotency_key") == 0
            tenant.book("visit", start=NINE, attendee=GRACE, idempotency_key="k")
        assert set(found) == {"read committed"}
        with engine.connect() as connection:
            assert connection.connection.driver_connection.autocommit  # type: ignore[union-attr]
    engine.dispose()
    assert count(db, "booking") == 1
    assert_sound(db)
