"""In the application's own transaction: all of it or nothing, at every isolation level."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker
from sqlalchemy.pool import NullPool

from nxsched import (
    Actor,
    BlockedPeriod,
    Booking,
    BookingNotFound,
    EventType,
    EventTypeNotFound,
    HoldExpired,
    Host,
    InvalidInput,
    InvalidTransition,
    Limit,
    LockTimeout,
    NxschedError,
    Policies,
    PolicyViolation,
    Scheduler,
    SettableClock,
    SlotTaken,
    SlotUnavailable,
    StoreUnavailable,
    Tenant,
    TenantNotFound,
    TransactionConflict,
    WeeklyHours,
)
from nxsched.embedded import APP_ROLE
from store.booked import ACTS, ALAN, GRACE, assert_sound, count, rows, trail
from store.conftest import DAY, HALF, HOUR, NINE, NOW, Database

LEVELS = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]
MINUTE = timedelta(minutes=1)


class Base(DeclarativeBase):
    """The application's own tables."""


class Order(Base):
    """A row of `orders`."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    booking_id: Mapped[UUID | None]


@pytest.fixture(autouse=True)
def orders(db: Database) -> None:
    """A table of the application's own."""
    with db.owner.begin() as connection:
        connection.execute(text("CREATE TABLE orders (id int PRIMARY KEY, booking_id uuid)"))
        connection.execute(text(f"GRANT ALL ON orders TO {APP_ROLE}"))


@contextmanager
def joined(db: Database, level: str, kind: str) -> Iterator[tuple[Connection | Session, Connection]]:
    """A transaction of the application's, as a connection or as a session; committed by who asks."""
    engine = db.app.execution_options(isolation_level=level)
    if kind == "session":
        with Session(engine) as session:
            yield session, session.connection()
    else:
        with engine.connect() as connection:
            yield connection, connection


every_way = pytest.mark.parametrize("kind", ["connection", "session"])
every_level = pytest.mark.parametrize("level", LEVELS)


@every_level
@every_way
def test_order_and_booking_are_committed_as_one(acme: Tenant, db: Database, level: str, kind: str) -> None:
    with joined(db, level, kind) as (within, connection):
        connection.execute(text("INSERT INTO orders VALUES (1)"))
        hold = acme.place_hold("all", start=NINE, within=within)
        booking = acme.confirm_hold(hold.id, attendee=GRACE, within=within, idempotency_key="k")
        connection.execute(text("UPDATE orders SET booking_id = CAST(:id AS uuid)"), {"id": booking.id})
        assert acme.bookings().items == ()
        assert acme.booking(booking.id, within=within) == booking
        assert count(db, "booking") == 0
        within.commit()
    assert acme.booking(booking.id) == booking
    assert str(rows(db, "SELECT booking_id FROM orders")[0][0]) == booking.id
    assert_sound(db)


def test_the_session_of_a_thread_can_be_joined_as_it_is(acme: Tenant, db: Database) -> None:
    sessions = scoped_session(sessionmaker(db.app))
    booking = acme.book("visit", start=NINE, attendee=GRACE, within=sessions)
    sessions.rollback()
    with pytest.raises(BookingNotFound):
        acme.booking(booking.id)
    booking = acme.book("visit", start=NINE, attendee=GRACE, within=sessions)
    sessions.commit()
    assert acme.booking(booking.id) == booking
    sessions.remove()


@every_level
@every_way
def test_what_the_application_rolls_back_never_was(acme: Tenant, db: Database, level: str, kind: str) -> None:
    with joined(db, level, kind) as (within, connection):
        connection.execute(text("INSERT INTO orders VALUES (1)"))
        acme.book("any", start=NINE, attendee=GRACE, within=within, idempotency_key="k")
        within.rollback()
    tables = ("orders", "nxsched.booking", "nxsched.claim", "nxsched.occurrence", "nxsched.audit_entry")
    for table in (*tables, "nxsched.outbox_event", "nxsched.idempotency_key"):
        assert rows(db, f"SELECT count(*) FROM {table}") == [(0,)]  # noqa: S608 - ours
    assert acme.book("any", start=NINE, attendee=ALAN, idempotency_key="k").status == "confirmed"


@every_level
@every_way
def test_a_refusal_in_the_middle_leaves_the_transaction_usable(
    acme: Tenant, db: Database, level: str, kind: str
) -> None:
    acme.book("visit", start=NINE, attendee=ALAN)
    with joined(db, level, kind) as (within, connection):
        connection.execute(text("INSERT INTO orders VALUES (1)"))
        with pytest.raises(SlotTaken):
            acme.book("visit", start=NINE, attendee=GRACE, within=within, idempotency_key="k")
        with pytest.raises(SlotTaken):
            acme.book("all", start=NINE, attendee=GRACE, within=within, force=True)
        connection.execute(text("INSERT INTO orders VALUES (2)"))
        later = acme.book("visit", start=NINE + HALF, attendee=GRACE, within=within, idempotency_key="k")
        within.commit()
    assert rows(db, "SELECT id FROM orders ORDER BY id") == [(1,), (2,)]
    assert [one.id for one in acme.bookings(start=NINE + HALF)] == [later.id]
    assert_sound(db)


@every_level
def test_a_time_taken_since_the_snapshot_is_refused_or_a_conflict_and_the_transaction_goes_on(
    acme: Tenant, db: Database, level: str
) -> None:
    with joined(db, level, "connection") as (within, connection):
        connection.execute(text("INSERT INTO orders VALUES (1)"))
        acme.book("visit", start=NINE, attendee=ALAN)
        refused = SlotTaken if level == "READ COMMITTED" else TransactionConflict
        with pytest.raises(refused):
            acme.book("visit", start=NINE, attendee=GRACE, within=within)
        connection.execute(text("INSERT INTO orders VALUES (2)"))
        within.rollback()
    assert_sound(db)
    assert count(db, "booking") == 1


@every_level
@pytest.mark.parametrize("how", ["booked", "confirmed", "had again"])
@pytest.mark.parametrize("whose", ["event", "host"])
def test_an_old_snapshot_cannot_go_past_a_limit(
    acme: Tenant, db: Database, clock: SettableClock, level: str, whose: str, how: str
) -> None:
    one = [Limit(per="day", count=1)]
    if whose == "event":
        acme.save_event_type(EventType(slug="limited", duration=HALF, hosts=["ada", "bob"], limits=one))
    else:
        acme.save_event_type(EventType(slug="limited", duration=HALF, hosts=["ada"]))
        acme.save_host(replace(acme.host("ada"), limits=one))
    minute = timedelta(minutes=1)
    hold = None if how == "booked" else acme.place_hold("limited", start=NINE, ttl=minute)
    with joined(db, level, "connection") as (within, connection):
        connection.execute(text("SELECT count(*) FROM orders"))  # the snapshot is taken here
        clock.move(minute * (how == "had again"))
        if hold is None:
            acme.book("limited", start=NINE, attendee=ALAN)
        else:
            acme.confirm_hold(hold.id, attendee=ALAN, if_free=True)
        clock.move(minute)  # in the snapshot there is nothing but a hold that is over
        if level == "READ COMMITTED":
            with pytest.raises(SlotUnavailable) as caught:
                acme.book("limited", start=NINE + HOUR, attendee=GRACE, within=within)
            assert not isinstance(caught.value, SlotTaken)
            told = {reason.code for reason in caught.value.reasons}
            assert told & {"event_limit", "host_limit"} == {f"{whose}_limit"}
        else:
            with pytest.raises(TransactionConflict):
                acme.book("limited", start=NINE + HOUR, attendee=GRACE, within=within)
        within.commit()
    assert count(db, "booking") == count(db, "claim", "active") == 1
    assert_sound(db)


@every_level
@every_way
@pytest.mark.parametrize(
    ("acts", "told"),
    [
        (("confirm", "cancel"), "cancelled"),
        (("confirm", "confirm"), "confirmed"),
        (("confirm", "release"), ("confirmed", "released")),
        (("release", "release"), "released"),
        (("release", "confirm"), ("released", "confirmed")),
        (("release", "confirm if free"), ("released", "confirmed")),
    ],
)
def test_what_somebody_has_changed_since_the_snapshot_is_seen_or_a_conflict(
    acme: Tenant, db: Database, level: str, kind: str, acts: tuple[str, str], told: str | tuple[str, str]
) -> None:
    theirs, ours = acts
    hold = acme.place_hold("visit", start=NINE)
    with joined(db, level, kind) as (within, _):
        within.execute(text("INSERT INTO orders VALUES (1)"))  # the snapshot is taken here
        ACTS[theirs](acme, hold.id)
        if level != "READ COMMITTED":
            with pytest.raises(TransactionConflict):
                ACTS[ours](acme, hold.id, within=within)
            within.rollback()
            within.execute(text("INSERT INTO orders VALUES (1)"))
        if isinstance(told, tuple):
            with pytest.raises(InvalidTransition) as caught:
                ACTS[ours](acme, hold.id, within=within)
            assert (caught.value.from_status, caught.value.to_status) == told
        else:
            assert ACTS[ours](acme, hold.id, within=within).status == told
        within.commit()
    assert acme.booking(hold.id).version == (3 if ours == "cancel" else 2)
    assert rows(db, "SELECT id FROM orders") == [(1,)]
    assert_sound(db)


@every_level
@every_way
def test_what_was_cancelled_since_the_snapshot_is_cancelled_once(
    acme: Tenant, db: Database, level: str, kind: str
) -> None:
    booking = acme.book("all", start=NINE, attendee=GRACE)
    with joined(db, level, kind) as (within, _):
        assert acme.booking(booking.id, within=within) == booking  # the snapshot is taken here
        cancelled = acme.cancel(booking.id, reason="ill")
        if level != "READ COMMITTED":
            assert acme.booking(booking.id, within=within) == booking
            with pytest.raises(TransactionConflict):
                acme.cancel(booking.id, reason="late", within=within)
            within.rollback()
        assert acme.cancel(booking.id, reason="late", within=within) == cancelled
        within.commit()
    assert [entry.reason for entry in acme.history(booking.id)] == [None, "ill"]
    assert_sound(db)


@every_level
@every_way
def test_expired_holds_are_out_of_the_way_of_the_applications_transaction(
    acme: Tenant, db: Database, clock: SettableClock, level: str, kind: str
) -> None:
    wanted = {"visit": NINE, "any": NINE + HOUR, "all": NINE + 2 * HOUR}
    holds = [acme.place_hold(event_type, start=start, ttl=MINUTE) for event_type, start in wanted.items()]
    with joined(db, level, kind) as (within, _):
        within.execute(text("INSERT INTO orders VALUES (1)"))  # the snapshot is taken here
        clock.move(MINUTE)
        for ends in (within.rollback, within.commit):
            for hold in holds:
                booking = acme.book(hold.event_type, start=hold.start, attendee=ALAN, within=within)
                assert booking.hosts == hold.hosts
                assert acme.booking(hold.id, within=within).version == 2
            ends()
            assert {acme.booking(hold.id).version for hold in holds} == {1 if ends == within.rollback else 2}
    for hold in holds:
        assert trail(db, hold.id)[1:] == [(2, "expire", "booking.hold_expired")]
    assert len(acme.bookings().items) == 3
    assert_sound(db)


@every_level
@every_way
@pytest.mark.parametrize("since", ["placed", "swept", "taken", "had again"])
def test_an_expired_hold_that_changed_since_the_snapshot_is_seen_or_a_conflict(
    acme: Tenant, db: Database, clock: SettableClock, level: str, kind: str, since: str
) -> None:
    with joined(db, level, kind) as (within, _):
        if since == "placed":
            within.execute(text("SELECT count(*) FROM orders"))  # the snapshot is taken here
        hold = acme.place_hold("visit", start=NINE, ttl=MINUTE)
        clock.move(MINUTE)
        within.execute(text("SELECT count(*) FROM orders"))  # or here
        if since == "swept":
            acme.sweep()
        elif since == "taken":
            acme.book("visit", start=NINE, attendee=ALAN)
        elif since == "had again":
            acme.confirm_hold(hold.id, attendee=ALAN, if_free=True)
        if level != "READ COMMITTED":
            with pytest.raises(TransactionConflict):
                acme.book("visit", start=NINE, attendee=GRACE, within=within)
            within.rollback()
        if since in {"placed", "swept"}:
            assert acme.book("visit", start=NINE, attendee=GRACE, within=within).status == "confirmed"
        else:
            with pytest.raises(SlotTaken):
                acme.book("visit", start=NINE, attendee=GRACE, within=within)
        within.commit()
    assert count(db, "claim", "active") == 1
    assert trail(db, hold.id)[1] == (2, "expire", "booking.hold_expired")
    assert_sound(db)


@every_level
@every_way
def test_what_met_a_conflict_is_rolled_back_and_run_again(acme: Tenant, db: Database, level: str, kind: str) -> None:
    """The loop that every application on an upper level has: three others come between, one after the other."""
    tries: list[Booking] = []
    late = NINE + 4 * HOUR
    with joined(db, level, kind) as (within, _):
        for attempt in range(4):
            within.execute(text("INSERT INTO orders VALUES (1)"))
            first = acme.book("visit", start=NINE + DAY, attendee=GRACE, within=within, idempotency_key="first")
            if attempt < 3:
                tries.append(acme.book("any", start=NINE + attempt * HALF, attendee=ALAN))
            try:
                second = acme.book(
                    "any", start=NINE + 4 * HOUR, attendee=GRACE, within=within, idempotency_key="second"
                )
            except TransactionConflict:
                within.rollback()
            else:
                within.commit()
                break
    assert len(tries) == (1 if level == "READ COMMITTED" else 3)
    assert [one.id for one in acme.bookings()] == [one.id for one in (*tries, second, first)]
    assert acme.book("any", start=late, attendee=GRACE, idempotency_key="second") == second
    assert rows(db, "SELECT id FROM orders") == [(1,)]
    assert_sound(db)


@every_level
@every_way
def test_whatever_is_refused_the_application_goes_on_and_commits(
    acme: Tenant, db: Database, clock: SettableClock, level: str, kind: str
) -> None:
    policies = Policies(cancel_notice=DAY)
    acme.save_event_type(EventType(slug="strict", duration=HALF, hosts=["bob"], policies=policies))
    strict = acme.book("strict", start=NINE, attendee=GRACE)
    over = acme.place_hold("visit", start=NINE, ttl=MINUTE)
    clock.move(MINUTE)
    before = {table: count(db, table) for table in ("booking", "claim", "audit_entry", "outbox_event")}
    with joined(db, level, kind) as (within, _):
        refused: list[tuple[type[NxschedError], Callable[[], object]]] = [
            (SlotTaken, lambda: acme.book("strict", start=NINE, attendee=ALAN, within=within)),
            (SlotTaken, lambda: acme.place_hold("all", start=NINE, within=within)),
            (SlotUnavailable, lambda: acme.book("visit", start=NINE - DAY, attendee=ALAN, within=within)),
            (EventTypeNotFound, lambda: acme.book("nothing", start=NINE, attendee=ALAN, within=within)),
            (HoldExpired, lambda: acme.confirm_hold(over.id, attendee=ALAN, within=within)),
            (InvalidTransition, lambda: acme.cancel(over.id, within=within)),
            (InvalidTransition, lambda: acme.release_hold(strict.id, within=within)),
            (PolicyViolation, lambda: acme.cancel(strict.id, actor=Actor(role="attendee", id="7"), within=within)),
            (BookingNotFound, lambda: acme.cancel("nothing", within=within)),
            (InvalidInput, lambda: acme.book("visit", start=NINE, attendee=ALAN, seats=2, within=within)),
        ]
        for n, (error, call) in enumerate(refused):
            within.execute(text("INSERT INTO orders VALUES (:n)"), {"n": n})
            with pytest.raises(error):
                call()
        within.commit()
    assert rows(db, "SELECT count(*) FROM orders") == [(len(refused),)]
    assert {table: count(db, table) for table in before} == before
    assert_sound(db)


@every_level
def test_objects_of_a_session_that_were_not_flushed_yet_survive_a_refusal(
    acme: Tenant, db: Database, level: str
) -> None:
    acme.book("visit", start=NINE, attendee=ALAN)
    with joined(db, level, "session") as (within, _):
        assert isinstance(within, Session)
        order = Order(id=1)
        within.add(order)
        with pytest.raises(SlotTaken):
            acme.book("visit", start=NINE, attendee=GRACE, within=within)
        order.booking_id = UUID(acme.book("visit", start=NINE + HALF, attendee=GRACE, within=within).id)
        within.flush()
        with pytest.raises(SlotTaken):
            acme.book("visit", start=NINE + HALF, attendee=GRACE, within=within)
        within.add(Order(id=2))
        within.commit()
        assert order.booking_id == UUID(acme.bookings(start=NINE + HALF).items[0].id)
    assert rows(db, "SELECT id FROM orders ORDER BY id") == [(1,), (2,)]


@every_level
@every_way
def test_a_savepoint_of_the_applications_takes_back_what_stands_behind_it(
    acme: Tenant, db: Database, level: str, kind: str
) -> None:
    with joined(db, level, kind) as (within, _):
        kept = acme.book("visit", start=NINE + HALF, attendee=GRACE, within=within)
        with within.begin_nested() as savepoint:
            acme.book("visit", start=NINE, attendee=ALAN, within=within, idempotency_key="k")
            acme.cancel(kept.id, within=within)
            savepoint.rollback()
        assert acme.booking(kept.id, within=within) == kept
        with within.begin_nested():
            again = acme.book("visit", start=NINE, attendee=ALAN, within=within, idempotency_key="k")
        within.commit()
    assert [one.id for one in acme.bookings()] == [again.id, kept.id]
    assert_sound(db)


@every_level
@every_way
def test_the_time_is_that_of_the_call_however_old_the_transaction_is(
    acme: Tenant, db: Database, level: str, kind: str
) -> None:
    start = NINE + 371 * DAY
    with Scheduler(db.app) as by_the_database, joined(db, level, kind) as (within, _):
        tenant = by_the_database.tenant(acme.id)
        within.execute(text("SELECT count(*) FROM orders"))
        later = rows(db, "SELECT clock_timestamp()")[0][0]
        booking = tenant.book("visit", start=start, attendee=GRACE, force=True, within=within)
        assert booking.created_at > later
        assert tenant.cancel(booking.id, within=within).version == 2
        within.commit()
    assert [entry.at > later for entry in acme.history(booking.id)] == [True, True]


@every_level
def test_of_two_who_report_busy_time_since_their_snapshot_the_second_sees_the_first_or_a_conflict(
    acme: Tenant, db: Database, level: str
) -> None:
    """Their periods overlap: each would keep what it cannot see."""
    span: dict[str, Any] = {"source": "calendar", "start": NINE, "end": NINE + DAY}
    with joined(db, level, "connection") as (first, _), joined(db, level, "connection") as (second, _):
        for one in (first, second):
            one.execute(text("SELECT count(*) FROM orders"))
        acme.replace_busy("ada", **span, periods=[(NINE, NINE + HALF)], within=first)
        first.commit()
        if level != "READ COMMITTED":
            with pytest.raises(TransactionConflict):
                acme.replace_busy("ada", **span, periods=[(NINE, NINE + HOUR)], within=second)
            second.rollback()
            assert [one.end for one in acme.busy("ada", start=NINE, end=NINE + DAY)] == [NINE + HALF]
        acme.replace_busy("ada", **span, periods=[(NINE, NINE + HOUR)], within=second)
        second.commit()
    assert [one.end for one in acme.busy("ada", start=NINE, end=NINE + DAY)] == [NINE + HOUR]


def test_the_tenant_that_was_set_is_put_back(acme: Tenant, scheduler: Scheduler, db: Database) -> None:
    other = scheduler.create_tenant("other", name="Other")
    setting = text("SELECT current_setting('nxsched.tenant_id', true)")
    with db.app.begin() as connection:
        acme.book("visit", start=NINE, attendee=GRACE, within=connection)
        assert connection.execute(setting).scalar() in (None, "")
        assert connection.execute(text("SELECT count(*) FROM nxsched.booking")).scalar() == 0
        connection.execute(text("SELECT set_config('nxsched.tenant_id', 'other', true)"))
        with pytest.raises(SlotTaken):
            acme.book("visit", start=NINE, attendee=GRACE, within=connection)
        assert connection.execute(setting).scalar() == "other"
        assert acme.bookings(within=connection).items[0].attendee == GRACE
        assert other.bookings(within=connection).items == ()
        assert connection.execute(setting).scalar() == "other"


def test_the_applications_time_outs_are_left_alone(acme: Tenant, db: Database) -> None:
    with db.app.begin() as connection:
        connection.execute(text("SET LOCAL lock_timeout = '1234ms'"))
        acme.book("visit", start=NINE, attendee=GRACE, within=connection)
        assert connection.execute(text("SHOW lock_timeout")).scalar() == "1234ms"
        assert connection.execute(text("SHOW statement_timeout")).scalar() == "0"


def test_several_actions_see_one_another_in_one_transaction(acme: Tenant, db: Database) -> None:
    with db.app.begin() as connection:
        first = acme.book("visit", start=NINE, attendee=GRACE, within=connection)
        offered = acme.find_slots("visit", start=NINE, end=NINE + DAY, within=connection)
        assert offered[0].start == NINE + HALF
        assert acme.explain("visit", start=NINE, within=connection) != []
        acme.cancel(first.id, within=connection)
        assert acme.find_slots("visit", start=NINE, end=NINE + DAY, within=connection)[0].start == NINE
        second = acme.book("visit", start=NINE, attendee=ALAN, within=connection)
        assert [one.version for one in acme.history(first.id, within=connection)] == [1, 2]
    assert [one.id for one in acme.bookings(status="confirmed")] == [second.id]
    assert_sound(db)


def test_who_waits_in_the_applications_transaction_is_told(acme: Tenant, db: Database) -> None:
    with db.app.connect() as first, db.app.connect() as second:
        acme.book("any", start=NINE, attendee=GRACE, within=first)
        second.execute(text("SET lock_timeout = '50ms'"))
        with pytest.raises(LockTimeout) as caught:
            acme.book("any", start=NINE, attendee=ALAN, within=second)
        assert caught.value.code == "lock_timeout"
        second.execute(text("INSERT INTO orders VALUES (1)"))


@pytest.mark.parametrize("event_type", ["visit", "any"], ids=["claim", "lock"])
@pytest.mark.parametrize("ends", ["lock_timeout", "statement_timeout"])
def test_time_outs_of_the_applications_own_end_a_wait_and_leave_its_transaction_usable(
    acme: Tenant, db: Database, ends: str, event_type: str
) -> None:
    """Waiting for the other's claim, which the constraint does, or for the lock of a pool."""
    with db.app.connect() as first, db.app.connect() as second:
        acme.book(event_type, start=NINE, host="ada", attendee=GRACE, within=first)
        second.execute(text("INSERT INTO orders VALUES (1)"))
        second.execute(text(f"SET LOCAL {ends} = '500ms'"))
        told = (
            pytest.raises(LockTimeout, match="did not finish in time: try again")
            if ends == "lock_timeout"
            else pytest.raises(StoreUnavailable, match="longer than statement_timeout allows")
        )
        with told as caught:
            acme.book(event_type, start=NINE, host="ada", attendee=ALAN, within=second, idempotency_key="k")
        assert not getattr(caught.value, "may_have_happened", False)
        second.execute(text("INSERT INTO orders VALUES (2)"))
        first.rollback()
        booking = acme.book(event_type, start=NINE, host="ada", attendee=ALAN, within=second, idempotency_key="k")
        second.commit()
    assert rows(db, "SELECT id FROM orders ORDER BY id") == [(1,), (2,)]
    assert acme.bookings().items == (booking,)
    assert_sound(db)


@every_way
def test_a_session_that_the_server_ended_because_it_lay_idle_is_one_error_and_nothing_of_it_is_there(
    acme: Tenant, db: Database, kind: str
) -> None:
    with joined(db, "READ COMMITTED", kind) as (within, connection):
        connection.execute(text("INSERT INTO orders VALUES (1)"))
        acme.book("visit", start=NINE, attendee=GRACE, within=within)
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = '100ms'"))
        time.sleep(0.5)
        with pytest.raises(
            StoreUnavailable, match="lay idle for longer than idle_in_transaction_session_timeout allows"
        ) as caught:
            acme.book("visit", start=NINE + HALF, attendee=GRACE, within=within, idempotency_key="k")
        assert not caught.value.may_have_happened
        assert isinstance(caught.value.__cause__, DBAPIError)
        with pytest.raises(StoreUnavailable, match="has failed before: roll it back"):
            acme.bookings(within=within)
        within.rollback()
        assert acme.bookings(within=within).items == ()
        booking = acme.book("visit", start=NINE, attendee=ALAN, within=within, idempotency_key="k")
        within.commit()
    assert acme.bookings().items == (booking,)
    assert rows(db, "SELECT id FROM orders") == []
    assert_sound(db)


def test_a_transaction_that_failed_before_is_named(acme: Tenant, db: Database) -> None:
    with db.app.connect() as connection:
        with pytest.raises(DBAPIError, match="no_such_table"):
            connection.execute(text("SELECT * FROM no_such_table"))
        with pytest.raises(StoreUnavailable, match="has failed before: roll it back"):
            acme.book("visit", start=NINE, attendee=GRACE, within=connection)


def test_a_connection_that_broke_in_its_transaction_has_to_be_rolled_back(acme: Tenant, db: Database) -> None:
    with db.app.connect() as connection:
        connection.execute(text("INSERT INTO orders VALUES (1)"))
        connection.invalidate()
        with pytest.raises(StoreUnavailable, match="has failed before: roll it back"):
            acme.book("visit", start=NINE, attendee=GRACE, within=connection)
        connection.rollback()
        acme.book("visit", start=NINE, attendee=GRACE, within=connection)
        connection.commit()
    assert rows(db, "SELECT id FROM orders") == []
    assert count(db, "booking") == 1


def test_a_session_whose_flush_failed_has_to_be_rolled_back(acme: Tenant, db: Database) -> None:
    with Session(db.app) as session:
        session.execute(text("INSERT INTO orders VALUES (1)"))
        session.commit()
        session.add(Order(id=1))
        with pytest.raises(IntegrityError):
            session.flush()
        with pytest.raises(StoreUnavailable, match="has failed before: roll it back"):
            acme.book("visit", start=NINE, attendee=GRACE, within=session)
        session.rollback()
        acme.book("visit", start=NINE, attendee=GRACE, within=session)
        session.commit()
    assert count(db, "booking") == 1


def test_what_is_closed_or_over_is_refused(acme: Tenant, db: Database) -> None:
    with db.app.connect() as closed:
        pass
    permanently = Session(db.app, close_resets_only=False)
    permanently.close()
    for within, words in (
        (closed, "This Connection is closed"),
        (Session(closed), "This Connection is closed"),
        (permanently, "permanently closed"),
        (Session(), "not bound"),
    ):
        with pytest.raises(InvalidInput, match=words) as caught:
            acme.book("visit", start=NINE, attendee=GRACE, within=within)
        assert caught.value.field == "within"
        with pytest.raises(InvalidInput, match=words):
            acme.bookings(within=within)
    with db.app.connect() as connection, connection.begin() as transaction:
        transaction.rollback()
        with pytest.raises(InvalidInput, match="closed transaction"):
            acme.book("visit", start=NINE, attendee=GRACE, within=connection)
    assert count(db, "booking") == 0


def test_a_session_that_reaches_no_database_is_named(acme: Tenant) -> None:
    engine = create_engine("postgresql+psycopg://app@127.0.0.1:1/x", poolclass=NullPool)
    with Session(engine) as session, pytest.raises(StoreUnavailable, match="cannot be reached"):
        acme.book("visit", start=NINE, attendee=GRACE, within=session)


def test_in_a_read_only_transaction_only_reads_succeed(acme: Tenant, db: Database) -> None:
    booking = acme.book("visit", start=NINE, attendee=GRACE)
    block = acme.block("cyd", BlockedPeriod(start=NOW, end=NINE))
    writes: list[Callable[[Connection | None], object]] = [
        lambda within: acme.book("visit", start=NINE + HOUR, attendee=ALAN, within=within),
        lambda within: acme.book("visit", start=NINE + HOUR, attendee=ALAN, within=within, idempotency_key="k"),
        lambda within: acme.place_hold("any", start=NINE + HOUR, within=within),
        lambda within: acme.cancel(booking.id, within=within),
        lambda within: acme.save_host(Host(slug="dan", timezone="UTC"), within=within),
        lambda within: acme.save_event_type(EventType(slug="new", duration=HALF, hosts=["ada"]), within=within),
        lambda within: acme.unblock(block.id or "", within=within),
        lambda within: acme.replace_busy("ada", source="x", start=NINE, end=NINE + DAY, periods=(), within=within),
    ]
    read_only = db.app.execution_options(postgresql_readonly=True)
    for write in writes:
        with read_only.connect() as connection:
            with pytest.raises(StoreUnavailable, match="no changes here, in a read-only transaction or on a standby"):
                write(connection)
            assert acme.bookings(within=connection).items == (booking,)
            assert acme.find_slots("visit", start=NINE, end=NINE + DAY, within=connection)
    assert acme.bookings().items == (booking,)


def test_a_server_that_takes_no_changes_is_named(acme: Tenant, db: Database) -> None:
    engine = create_engine(
        db.url(APP_ROLE), connect_args={"options": "-c default_transaction_read_only=on"}, poolclass=NullPool
    )
    with Scheduler(engine, clock=SettableClock(NOW)) as scheduler:
        tenant = scheduler.tenant(acme.id)
        with pytest.raises(StoreUnavailable, match=r"takes no changes here.*: cannot execute") as caught:
            tenant.book("visit", start=NINE, attendee=GRACE, idempotency_key="k")
        assert not caught.value.may_have_happened
        assert tenant.bookings().items == ()


def test_what_has_no_transaction_is_refused(acme: Tenant, db: Database) -> None:
    engine = db.app.execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection, pytest.raises(InvalidInput, match="AUTOCOMMIT") as caught:
        acme.book("visit", start=NINE, attendee=GRACE, within=connection)
    assert caught.value.field == "within"
    assert count(db, "booking") == 0


def test_another_database_or_driver_is_refused(acme: Tenant, db: Database) -> None:
    other = create_engine("sqlite://", poolclass=NullPool)
    with other.connect() as connection, pytest.raises(InvalidInput, match=r"not sqlite\+pysqlite"):
        acme.book("visit", start=NINE, attendee=GRACE, within=connection)
    uri = db.server.socket_uri(APP_ROLE, db.name)
    with psycopg.connect(uri) as raw, pytest.raises(InvalidInput, match=r"must be a SQLAlchemy Connection \(engine"):
        acme.book("visit", start=NINE, attendee=GRACE, within=raw)  # type: ignore[arg-type]


def test_a_tenant_can_be_made_and_set_up_and_booked_in_the_applications_transaction(
    scheduler: Scheduler, db: Database
) -> None:
    hours = [WeeklyHours(days="mon-fri", start="09:00", end="17:00")]
    with db.app.connect() as connection:
        for ends in (connection.rollback, connection.commit):
            new = scheduler.create_tenant("new", name="New", within=connection)
            assert scheduler.tenant("new", within=connection).details(within=connection).name == "New"
            new.save_host(Host(slug="ada", timezone="UTC", weekly_hours=hours), within=connection)
            new.save_event_type(EventType(slug="visit", duration=HALF, hosts=["ada"]), within=connection)
            new.block("ada", BlockedPeriod(start=NINE, end=NINE + HALF), within=connection)
            with pytest.raises(SlotUnavailable):
                new.book("visit", start=NINE, attendee=GRACE, within=connection)
            booking = new.book("visit", start=NINE + HALF, attendee=GRACE, within=connection)
            with pytest.raises(TenantNotFound):
                scheduler.tenant("new")
            ends()
            if ends == connection.rollback:
                with pytest.raises(TenantNotFound):
                    new.save_host(Host(slug="ada", timezone="UTC"))
                assert count(db, "tenant") == count(db, "host") == count(db, "booking") == 0
    assert scheduler.tenant("new").bookings().items == (booking,)
    assert_sound(db)
