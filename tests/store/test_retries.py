"""When the connection breaks or another transaction is in the way: what is tried again, and what a caller is told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, event, text

from nxsched import LockTimeout, Scheduler, SettableClock, StoreUnavailable, Tenant, TransactionConflict
from nxsched.embedded import APP_ROLE
from nxsched.service import taking as taking_module
from nxsched.service import unit as unit_module
from nxsched.service import wanted as wanted_module
from store.booked import ALAN, GRACE, assert_sound, count
from store.conftest import HALF, NINE, NOW, Database
from store.recording import recorded


@pytest.fixture
def pooled(acme: Tenant, db: Database) -> Iterator[Tenant]:
    """The tenant on an engine that keeps its connections, as an application's does."""
    with Scheduler(db.url(APP_ROLE), clock=SettableClock(NOW)) as scheduler:
        yield scheduler.tenant(acme.id)


def cut(db: Database) -> None:
    """Cut every connection of the application, as a server that restarts does."""
    with db.superuser.begin() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE usename = :role AND datname = current_database()"
            ),
            {"role": APP_ROLE},
        )


def cut_at_commit(connection: Connection, db: Database, *, happened: bool) -> None:
    """Cut the connection before its COMMIT, or between the COMMIT and its answer."""
    if happened:
        connection.connection.commit()
        connection.connection.driver_connection.execute("SELECT 1")  # type: ignore[union-attr]  # so that there is one
    cut(db)


def once_before_reading(monkeypatch: pytest.MonkeyPatch, act: Any, times: int = 1) -> list[int]:  # noqa: ANN401 - a callable
    """Do something the first so many times that an action reads what is taken; gives the list of its tries."""
    original = wanted_module.fetch_ground  # type: ignore[attr-defined]
    tries: list[int] = []

    def ground(*args: Any, **options: Any) -> Any:  # noqa: ANN401 - whatever it is called with
        tries.append(1)
        if len(tries) <= times:
            act(*args)
        return original(*args, **options)

    monkeypatch.setattr("nxsched.service.wanted.fetch_ground", ground)
    return tries


def take_key_cut_off(monkeypatch: pytest.MonkeyPatch, db: Database, after: int) -> list[int]:
    """Cut the connection whenever a key is wanted, but for the first so many times; gives the list of its tries."""
    original = unit_module.take_key  # type: ignore[attr-defined]
    tries: list[int] = []

    def take_key(*args: Any, **options: Any) -> Any:  # noqa: ANN401 - whatever it is called with
        tries.append(1)
        if len(tries) > after:
            cut(db)
        return original(*args, **options)

    monkeypatch.setattr(unit_module, "take_key", take_key)
    return tries


def test_a_connection_that_was_cut_while_it_lay_idle_is_replaced(pooled: Tenant, db: Database) -> None:
    pooled.find_slots("visit", start=NINE, end=NINE)
    cut(db)
    assert pooled.book("visit", start=NINE, attendee=GRACE).status == "confirmed"
    assert_sound(db)


def test_an_action_that_is_cut_off_in_the_middle_is_done_again(
    pooled: Tenant, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = once_before_reading(monkeypatch, lambda *_: cut(db))
    assert pooled.book("visit", start=NINE, attendee=GRACE).status == "confirmed"
    assert len(tries) == 2
    assert count(db, "booking") == 1
    assert_sound(db)


def test_a_database_that_stays_away_is_reported_after_a_few_tries(
    pooled: Tenant, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = once_before_reading(monkeypatch, lambda *_: cut(db), times=100)
    with pytest.raises(StoreUnavailable) as caught:
        pooled.book("visit", start=NINE, attendee=GRACE)
    assert not caught.value.may_have_happened
    assert len(tries) == 6
    assert count(db, "booking") == 0


@pytest.mark.parametrize("happened", [True, False])
def test_a_cut_at_commit_may_have_happened(pooled: Tenant, db: Database, *, happened: bool) -> None:
    def fail(connection: Connection) -> None:
        cut_at_commit(connection, db, happened=happened)

    event.listen(pooled._units.engine, "commit", fail, once=True)  # noqa: SLF001 - our own
    with pytest.raises(StoreUnavailable, match="broke at COMMIT") as caught:
        pooled.book("visit", start=NINE, attendee=GRACE)
    assert caught.value.may_have_happened
    assert count(db, "booking") == int(happened)


@pytest.mark.parametrize("happened", [True, False])
def test_with_a_key_a_cut_at_commit_is_tried_again_and_happens_once(
    pooled: Tenant, db: Database, *, happened: bool
) -> None:
    def fail(connection: Connection) -> None:
        cut_at_commit(connection, db, happened=happened)

    event.listen(pooled._units.engine, "commit", fail, once=True)  # noqa: SLF001 - our own
    booking = pooled.book("visit", start=NINE, attendee=GRACE, idempotency_key="k")
    assert pooled.booking(booking.id) == booking
    assert count(db, "booking") == count(db, "audit_entry") == count(db, "outbox_event") == 1
    assert_sound(db)


def test_a_deadlock_is_tried_again(pooled: Tenant, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def deadlock(connection: Connection, *_: object) -> None:
        connection.execute(text("DO $$ BEGIN RAISE SQLSTATE '40P01'; END $$"))

    tries = once_before_reading(monkeypatch, deadlock, times=3)
    assert pooled.book("visit", start=NINE, attendee=GRACE).status == "confirmed"
    assert len(tries) == 4
    assert_sound(db)


def test_after_the_last_try_the_conflict_reaches_the_caller(
    pooled: Tenant, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def conflict(connection: Connection, *_: object) -> None:
        connection.execute(text("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$"))

    tries = once_before_reading(monkeypatch, conflict, times=100)
    with pytest.raises(TransactionConflict, match="a serialization failure: run it again"):
        pooled.book("visit", start=NINE, attendee=GRACE)
    assert len(tries) == 6
    assert count(db, "booking") == 0


def test_in_the_applications_transaction_nothing_is_tried_again(
    acme: Tenant, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def conflict(connection: Connection, *_: object) -> None:
        connection.execute(text("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$"))

    tries = once_before_reading(monkeypatch, conflict)
    with db.app.connect() as connection, pytest.raises(TransactionConflict):
        acme.book("visit", start=NINE, attendee=GRACE, within=connection)
    assert len(tries) == 1


def test_who_waits_too_long_for_a_lock_is_told_to_try_again(acme: Tenant, db: Database) -> None:
    with db.app.connect() as holding:
        acme.book("any", start=NINE, attendee=ALAN, within=holding)
        options = {"lock_timeout": timedelta(milliseconds=50), "clock": SettableClock(NOW)}
        with Scheduler(db.app, **options) as scheduler, pytest.raises(LockTimeout):  # type: ignore[arg-type]
            scheduler.tenant("acme").book("any", start=NINE, attendee=GRACE)


def test_a_statement_that_takes_too_long_is_named(acme: Tenant, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    once_before_reading(monkeypatch, lambda connection, *_: connection.execute(text("SELECT pg_sleep(5)")))
    options = {"statement_timeout": timedelta(milliseconds=50), "clock": SettableClock(NOW)}
    with Scheduler(db.app, **options) as scheduler, pytest.raises(StoreUnavailable, match="statement_timeout"):  # type: ignore[arg-type]
        scheduler.tenant(acme.id).book("visit", start=NINE, attendee=GRACE)


@pytest.mark.parametrize("event_type", ["visit", "any"], ids=["claim", "lock"])
@pytest.mark.parametrize("ends", ["lock_timeout", "statement_timeout"])
def test_a_booking_that_waits_for_another_longer_than_it_may_is_told_and_is_not_there(
    acme: Tenant, db: Database, ends: str, event_type: str
) -> None:
    """It is told once, and not after several tries; and as soon as the other is gone, the same call succeeds."""
    options: dict[str, Any] = {"clock": SettableClock(NOW), ends: timedelta(milliseconds=500)}
    asked: dict[str, Any] = {"start": NINE, "host": "ada", "idempotency_key": "k"}
    with db.app.connect() as holding, Scheduler(db.app, **options) as scheduler:
        acme.book(event_type, start=NINE, host="ada", attendee=ALAN, within=holding)
        tenant = scheduler.tenant("acme")
        told = (
            pytest.raises(LockTimeout, match="did not finish in time: try again")
            if ends == "lock_timeout"
            else pytest.raises(StoreUnavailable, match="longer than statement_timeout allows")
        )
        with recorded(db.app) as sent, told as caught:
            tenant.book(event_type, attendee=GRACE, **asked)
        assert not getattr(caught.value, "may_have_happened", False)
        assert len([one for one in sent if "nxsched.idempotency_key" in one.sql]) == 1
        assert count(db, "booking") == count(db, "claim") == count(db, "idempotency_key") == 0
        holding.rollback()
        booking = tenant.book(event_type, attendee=GRACE, **asked)
    assert acme.bookings().items == (booking,)
    assert_sound(db)


def test_a_process_that_hangs_between_two_statements_loses_its_transaction_and_begins_anew(
    pooled: Tenant, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its locks do not outlive `statement_timeout`, and the server says so with one error that is tried again."""
    assert pooled.id == "acme"
    tries = once_before_reading(monkeypatch, lambda *_: time.sleep(1))
    options: dict[str, Any] = {"statement_timeout": timedelta(milliseconds=400), "clock": SettableClock(NOW)}
    with Scheduler(db.url(APP_ROLE), **options) as scheduler:
        booking = scheduler.tenant("acme").book("visit", start=NINE, attendee=GRACE)
    assert len(tries) == 2
    assert pooled.bookings().items == (booking,)
    assert_sound(db)


def test_a_process_that_hangs_each_time_is_told_that_nothing_has_happened(
    pooled: Tenant, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = once_before_reading(monkeypatch, lambda *_: time.sleep(0.6), times=100)
    options: dict[str, Any] = {"statement_timeout": timedelta(milliseconds=250), "clock": SettableClock(NOW)}
    with (
        Scheduler(db.url(APP_ROLE), **options) as scheduler,
        pytest.raises(
            StoreUnavailable, match="lay idle for longer than idle_in_transaction_session_timeout allows"
        ) as caught,
    ):
        scheduler.tenant("acme").book("visit", start=NINE, attendee=GRACE, idempotency_key="k")
    assert not caught.value.may_have_happened
    assert len(tries) == 6
    assert pooled.bookings().items == ()
    assert count(db, "idempotency_key") == 0


def test_a_pool_with_no_connection_left_is_named(acme: Tenant, db: Database) -> None:
    from sqlalchemy import create_engine  # noqa: PLC0415 - only here

    engine = create_engine(db.url(APP_ROLE), pool_size=1, max_overflow=0, pool_timeout=0.05)
    with engine.connect(), Scheduler(engine) as scheduler, pytest.raises(StoreUnavailable, match="every connection"):
        scheduler.tenant(acme.id)
    engine.dispose()


@pytest.mark.parametrize("happened", [True, False])
@pytest.mark.parametrize(
    "conflicts",
    [0, 1, 3],
    ids="{} conflicts before".format,
)
def test_what_may_have_happened_is_not_forgotten_when_the_database_stays_away(
    pooled: Tenant, db: Database, monkeypatch: pytest.MonkeyPatch, conflicts: int, *, happened: bool
) -> None:
    def fail(connection: Connection) -> None:
        cut_at_commit(connection, db, happened=happened)

    def conflict(connection: Connection, *_: object) -> None:
        connection.execute(text("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$"))

    once_before_reading(monkeypatch, conflict, times=conflicts)
    event.listen(pooled._units.engine, "commit", fail, once=True)  # noqa: SLF001 - our own
    looked = take_key_cut_off(monkeypatch, db, after=conflicts + 1)
    with pytest.raises(StoreUnavailable) as caught:
        pooled.book("visit", start=NINE, attendee=GRACE, idempotency_key="k")
    assert caught.value.may_have_happened
    assert len(looked) == 6
    assert count(db, "booking") == int(happened)


def test_a_doubt_is_told_though_the_last_try_has_only_waited(acme: Tenant, db: Database) -> None:
    """The connection breaks at COMMIT, and before it is tried anew somebody else has the key in hand."""
    options: dict[str, Any] = {"clock": SettableClock(NOW), "lock_timeout": timedelta(milliseconds=100)}
    with ExitStack() as opened:
        scheduler = opened.enter_context(Scheduler(db.url(APP_ROLE), **options))
        tenant = scheduler.tenant("acme")

        def fail(connection: Connection) -> None:
            cut_at_commit(connection, db, happened=False)
            theirs = opened.enter_context(db.app.connect())
            acme.book("visit", start=NINE, attendee=GRACE, within=theirs, idempotency_key="k")

        event.listen(scheduler.engine, "commit", fail, once=True)
        with pytest.raises(StoreUnavailable, match="whether the change was made is not known") as caught:
            tenant.book("visit", start=NINE, attendee=GRACE, idempotency_key="k")
        assert caught.value.may_have_happened
        assert isinstance(caught.value.__cause__, LockTimeout)


def quicker(monkeypatch: pytest.MonkeyPatch, acme: Tenant, times: int) -> list[int]:
    """Somebody takes nine o'clock after it was read as free, and gives it back before it is read again.

    The first so many times, with two readings a try; gives the list of all readings.
    """
    original = wanted_module.fetch_ground  # type: ignore[attr-defined]
    readings: list[int] = []
    taken: list[str] = []

    def ground(*args: Any, **options: Any) -> Any:  # noqa: ANN401 - whatever it is called with
        while taken:
            acme.cancel(taken.pop())
        found = original(*args, **options)
        readings.append(1)
        if len(readings) <= times:
            with monkeypatch.context() as undisturbed:
                undisturbed.setattr(wanted_module, "fetch_ground", original)
                taken.append(acme.book("visit", start=NINE, attendee=ALAN).id)
        return found

    monkeypatch.setattr(taking_module, "_ROUNDS", 2)
    monkeypatch.setattr(wanted_module, "fetch_ground", ground)
    return readings


def test_who_finds_somebody_quicker_in_every_round_begins_again(
    acme: Tenant, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = quicker(monkeypatch, acme, times=2)
    booking = acme.book("visit", start=NINE, attendee=GRACE)
    assert len(readings) == 3
    assert [one.id for one in acme.bookings(status="confirmed")] == [booking.id]
    assert_sound(db)


def test_who_finds_somebody_quicker_in_the_last_try_too_is_told_of_the_conflict(
    acme: Tenant, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = quicker(monkeypatch, acme, times=100)
    with pytest.raises(TransactionConflict, match="somebody else was quicker again and again"):
        acme.book("visit", start=NINE, attendee=GRACE)
    assert len(readings) == 6 * 2
    assert_sound(db)


def test_in_the_applications_transaction_somebody_quicker_is_a_conflict_after_one_try(
    acme: Tenant, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = quicker(monkeypatch, acme, times=100)
    with db.app.connect() as connection:
        with pytest.raises(TransactionConflict, match="somebody else was quicker again and again"):
            acme.book("visit", start=NINE, attendee=GRACE, within=connection)
        assert len(readings) == 2
        assert acme.book("visit", start=NINE + HALF, attendee=GRACE, within=connection).status == "confirmed"
        connection.commit()
    assert_sound(db)


def test_a_pool_of_which_a_lock_was_missing_until_the_last_round_begins_again(
    acme: Tenant, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taking_module, "_ROUNDS", 1)
    with pytest.raises(TransactionConflict, match="run the transaction again"):
        acme.book("any", start=NINE, attendee=GRACE)
    monkeypatch.setattr(taking_module, "_ROUNDS", 2)
    assert acme.book("any", start=NINE, attendee=GRACE).hosts == ("ada",)
    assert_sound(db)
