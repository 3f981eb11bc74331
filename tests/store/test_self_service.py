"""What a person does with their own bookings: by a link, which opens one of them, or known to the application."""

from __future__ import annotations

import base64
import inspect
import logging
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from nxsched import (
    Actor,
    Attendee,
    AttendeeBookings,
    Booking,
    BookingNotFound,
    EventType,
    Host,
    IdempotencyConflict,
    InvalidInput,
    InvalidToken,
    InvalidTransition,
    ManagedBooking,
    NxschedError,
    Policies,
    PolicyViolation,
    Scheduler,
    SettableClock,
    SlotTaken,
    SlotUnavailable,
    Tenant,
    WeeklyHours,
)
from nxsched.embedded import APP_ROLE
from store.booked import ALAN, GRACE, STAFF, assert_sound, count, rows, trail
from store.conftest import DAY, HALF, HOUR, NINE, NOW, Database, furnish
from store.recording import recorded
from store.test_waiting import beside, committed

OLD, NEW = "an old secret of more than 16", "a new secret of more than 16"
END = NINE + 30 * DAY
LONG = timedelta(seconds=25)
UNKNOWN = "018f0c4a-6d1e-7a3b-9c55-0123456789ab"


@pytest.fixture
def scheduler(db: Database, clock: SettableClock) -> Iterator[Scheduler]:
    """A scheduler with links that waits as long as a busy machine needs."""
    with Scheduler(db.app, worker_url=db.worker, clock=clock, secrets=[OLD], lock_timeout=LONG) as found:
        yield found


@pytest.fixture
def acme(scheduler: Scheduler) -> Tenant:
    """The tenant `acme` of all tests, with an event type by approval and a class besides."""
    tenant = scheduler.create_tenant("acme", name="Acme Ltd", sender="bookings@acme.test")
    furnish(tenant)
    tenant.save_event_type(EventType(slug="ask", duration=HALF, hosts=["bob"], requires_approval=True))
    tenant.save_event_type(EventType(slug="class", duration=HALF, hosts=["cyd"], capacity=4))
    return tenant


@pytest.fixture
def booking(acme: Tenant) -> Booking:
    return acme.book("visit", start=NINE, attendee=GRACE, metadata={"a": 1})


@pytest.fixture
def token(acme: Tenant, booking: Booking) -> str:
    return acme.manage_token(booking.id, expires=END)


@pytest.fixture
def managed(acme: Tenant, token: str) -> ManagedBooking:
    return acme.with_token(token)


def look(tenant: Tenant, token: str, **within: Any) -> Booking:
    """The booking of a link."""
    return tenant.with_token(token).booking(**within)


def everything(db: Database) -> dict[str, list[str]]:
    """All rows of all tables as text."""
    tables = rows(db, "SELECT tablename FROM pg_tables WHERE schemaname = 'nxsched'")
    return {
        table: [one for (one,) in rows(db, f"SELECT t::text FROM nxsched.{table} t ORDER BY 1")]  # noqa: S608
        for (table,) in tables
    }


def outcome(call: Callable[[], object]) -> tuple[object, ...]:
    """All that an error says to who catches it."""
    with pytest.raises(InvalidToken) as caught:
        call()
    error = caught.value
    return type(error), error.args, str(error), vars(error), error.code


# --- what a link opens -----------------------------------------------------------------------------------------------


def test_a_link_shows_its_booking(acme: Tenant, booking: Booking, managed: ManagedBooking) -> None:
    assert managed.id == booking.id
    assert managed.booking() == booking
    acme.update(booking.id, location="Room 2")
    assert managed.booking() == acme.booking(booking.id) != booking


def test_a_link_moves_its_booking_as_the_attendee(acme: Tenant, booking: Booking, managed: ManagedBooking) -> None:
    moved = managed.reschedule(start=NINE + HOUR, reason="train is late")
    assert moved == acme.booking(booking.id) == managed.booking()
    assert (moved.start, moved.sequence, moved.version) == (NINE + HOUR, 1, 2)
    last = acme.history(booking.id)[-1]
    assert (last.action, last.actor, last.reason) == ("reschedule", Actor(role="attendee"), "train is late")


def test_a_link_cancels_its_booking_as_the_attendee_and_ends_with_it(
    acme: Tenant, db: Database, booking: Booking, managed: ManagedBooking, token: str
) -> None:
    gone = managed.cancel(reason="ill")
    assert gone == acme.booking(booking.id)
    assert gone.status == "cancelled"
    last = acme.history(booking.id)[-1]
    assert (last.action, last.actor, last.reason) == ("cancel", Actor(role="attendee"), "ill")
    for call in (partial(look, acme, token), managed.booking, managed.cancel):
        with pytest.raises(InvalidToken):
            call()
    assert acme.book("visit", start=NINE, attendee=ALAN).start == NINE
    assert_sound(db)


def test_a_link_can_do_nothing_else() -> None:
    public = {name for name, _ in inspect.getmembers(ManagedBooking) if not name.startswith("_")}
    assert public == {"id", "booking", "find_slots", "reschedule", "cancel"}
    for method in ("reschedule", "cancel", "find_slots", "booking"):
        taken = inspect.signature(getattr(ManagedBooking, method)).parameters
        assert not {"force", "actor", "booking_id", "moving", "event_type", "attendee"} & {*taken}


def test_a_link_leaves_all_other_bookings_as_they_are(acme: Tenant, db: Database) -> None:
    mine = acme.book("class", start=NINE, attendee=GRACE)
    others = [acme.book("class", start=NINE, attendee=who) for who in (ALAN, GRACE)]
    managed = acme.with_token(acme.manage_token(mine.id, expires=END))
    managed.reschedule(start=NINE + HOUR)
    assert [acme.booking(one.id) for one in others] == others
    managed.cancel()
    assert [acme.booking(one.id) for one in others] == others
    assert_sound(db)


def test_a_link_to_a_request_stands_until_it_is_answered(acme: Tenant, clock: SettableClock) -> None:
    asked = [acme.book("ask", start=NINE + n * HOUR, attendee=GRACE) for n in range(3)]
    links = [acme.manage_token(one.id, expires=END) for one in asked]
    assert [acme.with_token(one).booking() for one in links] == asked
    acme.approve(asked[0].id)
    acme.decline(asked[1].id)
    assert acme.with_token(links[0]).booking().status == "confirmed"
    with pytest.raises(InvalidToken):
        look(acme, links[1])
    assert acme.with_token(links[2]).reschedule(start=NINE + 4 * HOUR).status == "pending"
    clock.move(6 * HOUR)  # nobody has tidied up
    with pytest.raises(InvalidToken):
        look(acme, links[2])
    acme.sweep()
    with pytest.raises(InvalidToken):
        look(acme, links[2])


def test_links_are_made_for_bookings_that_stand_alone(acme: Tenant, clock: SettableClock) -> None:
    hold = acme.place_hold("visit", start=NINE + HOUR, attendee=GRACE)
    released = acme.release_hold(acme.place_hold("visit", start=NINE + 2 * HOUR).id)
    cancelled = acme.cancel(acme.book("visit", start=NINE + 3 * HOUR, attendee=GRACE).id)
    declined = acme.decline(acme.book("ask", start=NINE, attendee=GRACE).id)
    for id_ in (hold.id, released.id, cancelled.id, declined.id):
        with pytest.raises(InvalidTransition):
            acme.manage_token(id_, expires=END)
    clock.move(timedelta(minutes=15))
    with pytest.raises(InvalidTransition) as caught:
        acme.manage_token(hold.id, expires=END)
    assert caught.value.from_status == "expired"
    with pytest.raises(BookingNotFound):
        acme.manage_token(UNKNOWN, expires=END)
    confirmed = acme.confirm_hold(hold.id, attendee=GRACE, if_free=True)
    assert acme.with_token(acme.manage_token(confirmed.id, expires=END)).booking() == confirmed


def test_without_secrets_there_are_no_links(db: Database, clock: SettableClock, booking: Booking, token: str) -> None:
    with Scheduler(db.app, clock=clock) as plain:
        tenant = plain.tenant("acme")
        for call in (partial(tenant.manage_token, booking.id, expires=END), partial(tenant.with_token, token)):
            with pytest.raises(InvalidInput) as caught:
                call()
            assert caught.value.field == "secrets"


# --- when it ends ----------------------------------------------------------------------------------------------------


def test_a_link_ends_at_its_second_and_a_managed_booking_with_it(
    acme: Tenant, booking: Booking, clock: SettableClock
) -> None:
    token = acme.manage_token(booking.id, expires=NOW + timedelta(minutes=1))
    managed = acme.with_token(token)
    clock.move(timedelta(seconds=59.999999))
    assert managed.booking() == booking
    clock.move(timedelta(microseconds=1))
    for call in (
        partial(look, acme, token),
        managed.booking,
        managed.cancel,
        partial(managed.reschedule, start=NINE + HOUR),
        partial(managed.find_slots, start=NOW, end=NOW + DAY),
    ):
        with pytest.raises(InvalidToken):
            call()
    assert acme.booking(booking.id) == booking


def test_secrets_go_round(acme: Tenant, db: Database, clock: SettableClock, booking: Booking, token: str) -> None:
    with (
        Scheduler(db.app, clock=clock, secrets=[NEW, OLD]) as both,
        Scheduler(db.app, clock=clock, secrets=[NEW]) as new,
    ):
        later = both.tenant("acme").manage_token(booking.id, expires=END)
        assert later != token
        for one in (token, later):
            assert both.tenant("acme").with_token(one).booking() == booking
        assert new.tenant("acme").with_token(later).booking() == booking
        with pytest.raises(InvalidToken):
            look(new.tenant("acme"), token)
    with pytest.raises(InvalidToken):
        look(acme, later)


def test_a_link_ends_with_the_nonce_that_stands_with_the_booking(
    acme: Tenant, db: Database, booking: Booking, token: str
) -> None:
    with db.superuser.begin() as connection:
        connection.execute(text("UPDATE nxsched.booking SET nonce = reverse(nonce)"))
    with pytest.raises(InvalidToken):
        look(acme, token)
    assert acme.with_token(acme.manage_token(booking.id, expires=END)).booking() == booking


def test_whatever_is_wrong_with_a_link_the_error_says_the_same(
    acme: Tenant, scheduler: Scheduler, db: Database, booking: Booking, token: str, clock: SettableClock
) -> None:
    zeta = scheduler.create_tenant("zeta", name="Zeta")
    with Scheduler(db.app, clock=clock, secrets=[NEW]) as other:
        foreign = other.tenant("acme").manage_token(booking.id, expires=END)
    gone = acme.book("visit", start=NINE + HOUR, attendee=GRACE)
    dead = acme.manage_token(gone.id, expires=END)
    acme.cancel(gone.id)
    short = acme.manage_token(booking.id, expires=NOW + timedelta(seconds=1))
    clock.move(timedelta(seconds=1))
    nobody = bytearray(base64.urlsafe_b64decode(token))
    nobody[4:20] = bytes(16)
    wrong = [
        partial(look, acme, one)
        for one in (
            "",
            "x" * 80,
            token[:-1],
            token[:-1] + ("A" if token[-1] != "A" else "B"),
            foreign,
            dead,
            short,
            base64.urlsafe_b64encode(nobody).decode(),
            "\ud800" * 80,
        )
    ]
    wrong.append(partial(look, zeta, token))
    told = [outcome(call) for call in wrong]
    assert all(one == told[0] for one in told)
    assert booking.id not in str(told)
    assert look(acme, token) == booking


def test_a_link_opens_nothing_of_another_tenant_though_it_had_the_same_booking(
    acme: Tenant, scheduler: Scheduler, db: Database, booking: Booking, token: str
) -> None:
    """The rows of one tenant copied to another, ids and nonces with them, as who restores a backup may do."""
    zeta = scheduler.create_tenant("zeta", name="Zeta")
    tables = ("host", "event_type", "occurrence", "booking")
    with db.superuser.begin() as connection:
        connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        for table in tables:
            names = rows(
                db,
                "SELECT string_agg(attname, ', ') FROM pg_attribute WHERE attrelid = CAST(:table AS regclass)"
                " AND attnum > 0 AND attgenerated = '' AND attname <> 'tenant_id' AND attidentity = ''",
                table=f"nxsched.{table}",
            )[0][0]
            connection.exec_driver_sql(
                f"INSERT INTO nxsched.{table} (tenant_id, {names}) SELECT 'zeta', {names} FROM nxsched.{table}"  # noqa: S608
            )
        connection.exec_driver_sql(
            "UPDATE nxsched.booking b SET event_type_no = (SELECT min(event_type_no) FROM nxsched.event_type e"
            " WHERE e.tenant_id = 'zeta' AND slug = 'visit') WHERE tenant_id = 'zeta'"
        )
    assert zeta.booking(booking.id).attendee == GRACE
    assert look(acme, token) == booking
    with pytest.raises(InvalidToken):
        look(zeta, token)
    with pytest.raises(InvalidToken):
        look(acme, zeta.manage_token(booking.id, expires=END))


# --- policies --------------------------------------------------------------------------------------------------------


def test_moves_by_a_link_count_and_a_link_has_no_way_round_the_rules(
    acme: Tenant, db: Database, booking: Booking, managed: ManagedBooking
) -> None:
    acme.save_event_type(replace(acme.event_type("visit"), policies=Policies(most_moves=1)))
    acme.book("visit", start=NINE + HOUR, attendee=ALAN)
    with pytest.raises(SlotTaken):
        managed.reschedule(start=NINE + HOUR)
    with pytest.raises(SlotUnavailable):
        managed.reschedule(start=NINE + 12 * HOUR)
    with pytest.raises(InvalidInput):
        managed.reschedule(start=NINE.replace(tzinfo=None))
    assert managed.booking() == booking
    managed.reschedule(start=NINE + 2 * HOUR)
    with pytest.raises(PolicyViolation):
        managed.reschedule(start=NINE + 3 * HOUR)
    assert trail(db, booking.id)[-1][0] == 2


# --- slots -----------------------------------------------------------------------------------------------------------


def test_a_link_finds_the_slots_of_its_event_type_as_if_the_booking_were_not_there(
    acme: Tenant, booking: Booking, managed: ManagedBooking
) -> None:
    acme.book("visit", start=NINE + HOUR, attendee=ALAN)
    span: dict[str, Any] = {"start": NOW, "end": NOW + DAY}
    found = managed.find_slots(**span)
    assert list(found) == list(acme.find_slots("visit", moving=booking.id, **span))
    starts = [one.start for one in found]
    assert NINE in starts
    assert NINE + HOUR not in starts
    assert len(managed.find_slots(**span, limit=3)) == 3
    assert len(managed.find_slots(**span, host="ada")) == len(found)
    for start in (starts[1], starts[-1]):
        assert managed.reschedule(start=start).start == start


def test_a_link_finds_slots_as_long_as_its_booking_is(acme: Tenant) -> None:
    acme.save_event_type(EventType(slug="visit", duration=HALF, durations=[HOUR, 2 * HOUR], hosts=["ada"]))
    made = acme.book("visit", start=NINE, duration=2 * HOUR, attendee=GRACE)
    managed = acme.with_token(acme.manage_token(made.id, expires=END))
    found = managed.find_slots(start=NOW, end=NOW + DAY)
    assert {one.end - one.start for one in found} == {2 * HOUR}
    moved = managed.reschedule(start=found[-1].start)
    assert (moved.start, moved.end) == (found[-1].start, found[-1].end)
    assert {one.end - one.start for one in managed.find_slots(start=NOW, end=NOW + DAY, duration=HALF)} == {HALF}


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"start": NOW.replace(tzinfo=None)}, "start"),
        ({"end": NOW - DAY}, "end"),
        ({"duration": timedelta(seconds=1)}, "duration"),
        ({"host": ""}, "host"),
        ({"limit": 0}, "limit"),
    ],
)
def test_what_cannot_be_asked_of_slots_is_named(managed: ManagedBooking, asked: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        managed.find_slots(**{"start": NOW, "end": NOW + DAY, **asked})
    assert caught.value.field == field


def test_a_link_finds_slots_with_seats_enough(acme: Tenant) -> None:
    mine = acme.book("class", start=NINE, seats=3, attendee=GRACE)
    acme.book("class", start=NINE + HOUR, seats=2, attendee=ALAN)
    managed = acme.with_token(acme.manage_token(mine.id, expires=END))
    with pytest.raises(SlotUnavailable):
        managed.reschedule(start=NINE + HOUR)
    assert NINE + HOUR not in [one.start for one in managed.find_slots(start=NOW, end=NOW + DAY)]


# --- looking writes nothing, and says nothing ------------------------------------------------------------------------


def test_to_look_by_a_link_writes_nothing_and_serves_where_nothing_can_be_written(
    acme: Tenant, db: Database, clock: SettableClock, booking: Booking, token: str
) -> None:
    before = everything(db)
    reading = create_engine(
        db.url(APP_ROLE), poolclass=NullPool, connect_args={"options": "-c default_transaction_read_only=on"}
    )
    with Scheduler(reading, clock=clock, secrets=[OLD]) as scheduler:
        tenant = scheduler.tenant("acme")
        made = tenant.manage_token(booking.id, expires=END)
        assert made == token
        managed = tenant.with_token(token)
        assert managed.booking() == booking
        assert len(managed.find_slots(start=NOW, end=NOW + DAY)) == 16
        assert tenant.for_attendee(email=GRACE.email).upcoming().items == (booking,)
        assert tenant.for_attendee(email=GRACE.email).past().items == ()
        with pytest.raises(NxschedError):
            managed.cancel()
        with reading.connect() as connection:
            assert look(tenant, token, within=connection) == booking
    assert everything(db) == before
    acme.with_token(token).cancel()
    assert everything(db) != before


def test_looking_takes_no_lock(acme: Tenant, db: Database, booking: Booking, token: str) -> None:
    with db.superuser.connect() as ours:
        ours.execute(text("SELECT 1 FROM nxsched.booking FOR UPDATE"))
        ours.execute(text("SELECT 1 FROM nxsched.occurrence FOR UPDATE"))
        managed = acme.with_token(token)
        assert managed.booking() == booking
        assert len(managed.find_slots(start=NOW, end=NOW + DAY)) == 16


@pytest.mark.usefixtures("acme")
def test_a_token_stands_in_no_row_no_parameter_no_log_and_no_error(
    db: Database, clock: SettableClock, caplog: pytest.LogCaptureFixture
) -> None:
    engine = create_engine(db.url(APP_ROLE), poolclass=NullPool, echo="debug")
    shown: list[str] = []
    with Scheduler(engine, clock=clock, secrets=[OLD]) as scheduler, caplog.at_level(logging.DEBUG):
        tenant = scheduler.tenant("acme")
        made = [tenant.book("visit", start=NINE + n * HOUR, attendee=GRACE) for n in range(2)]
        with recorded(engine) as sent:
            tokens = [tenant.manage_token(one.id, expires=END) for one in made]
            links = [tenant.with_token(one) for one in tokens]
            links[0].find_slots(start=NOW, end=NOW + DAY)
            links[0].reschedule(start=NINE + 3 * HOUR, reason="r", idempotency_key="k")
            links[1].cancel(reason="r", idempotency_key="l")
            for call in (
                links[1].booking,
                partial(look, tenant, tokens[1]),
                partial(look, tenant, tokens[0][:-1]),
                partial(links[0].reschedule, start=NINE - DAY),
                partial(links[0].reschedule, start=NINE + 4 * HOUR, idempotency_key="k"),
                partial(links[0].cancel, reason="\x00"),
            ):
                try:
                    call()
                except NxschedError as error:
                    shown += ["".join(traceback.format_exception(error)), repr(error), repr(vars(error))]
        assert len(shown) == 3 * 6
        shown += [repr(one) for one in (*links, tenant, scheduler, scheduler.__dict__, tenant.__dict__)]
        shown += [str(one) for one in links]
    shown += [repr(one.sql) + repr(one.parameters) for one in sent]
    shown += [one.getMessage() for one in caplog.records]
    shown += [one for table in everything(db).values() for one in table]
    assert any("nxsched.booking" in one for one in shown)
    macs = [base64.urlsafe_b64decode(one)[28:] for one in tokens]
    secrets = [*tokens, *(one[:60] for one in tokens), *map(repr, macs), *(one.hex() for one in macs), OLD]
    for said in shown:
        assert not any(secret in said for secret in secrets)


def test_a_forged_link_learns_of_no_key_and_waits_for_none(
    acme: Tenant, db: Database, clock: SettableClock, booking: Booking
) -> None:
    acme.book("any", start=NINE, attendee=GRACE, idempotency_key="order-17")
    with Scheduler(db.app, clock=clock, secrets=[NEW]) as other:
        forged = acme.with_token(other.tenant("acme").manage_token(booking.id, expires=END))
    with db.app.connect() as ours:
        acme.cancel(booking.id, idempotency_key="order-18", within=ours)
        for key in ("order-17", "order-18", "order-19"):
            for act in (forged.cancel, partial(forged.reschedule, start=NINE + HOUR)):
                with pytest.raises(InvalidToken):
                    act(idempotency_key=key)


# --- statements ------------------------------------------------------------------------------------------------------


def test_to_open_a_link_takes_two_statements_after_the_one_that_begins(
    acme: Tenant, scheduler: Scheduler, booking: Booking, token: str
) -> None:
    """Who it is, and the booking; a booking that is looked at without a link takes one less."""

    def statements(call: Callable[[], object]) -> int:
        with recorded(scheduler.engine) as sent:
            call()
        return len(sent)

    assert statements(partial(acme.booking, booking.id)) == 2
    assert statements(partial(acme.manage_token, booking.id, expires=END)) == 2
    managed = acme.with_token(token)
    assert statements(managed.booking) == 3
    assert statements(partial(managed.find_slots, start=NOW, end=NOW + DAY)) == 5
    by_staff, by_link = partial(acme.reschedule, booking.id), managed.reschedule
    moves = statements(partial(by_staff, start=NINE + HOUR))
    assert statements(partial(by_link, start=NINE + 2 * HOUR)) == moves + 2
    keyed = statements(partial(by_staff, start=NINE + 3 * HOUR, idempotency_key="a"))
    assert statements(partial(by_link, start=NINE + 4 * HOUR, idempotency_key="b")) == keyed + 3
    assert statements(managed.cancel) == 5


def test_a_link_of_a_wrong_form_takes_no_statement(acme: Tenant, scheduler: Scheduler) -> None:
    with recorded(scheduler.engine) as sent, pytest.raises(InvalidToken):
        acme.with_token("x" * 79)
    assert sent == []


# --- keys and transactions -------------------------------------------------------------------------------------------


def test_a_move_by_a_link_happens_once_for_a_key(
    acme: Tenant, db: Database, booking: Booking, managed: ManagedBooking, token: str
) -> None:
    moved = managed.reschedule(start=NINE + HOUR, idempotency_key="k")
    later = managed.reschedule(start=NINE + 2 * HOUR, idempotency_key="l")
    assert managed.reschedule(start=NINE + HOUR, idempotency_key="k") == later != moved
    assert acme.with_token(token).reschedule(start=NINE + HOUR, idempotency_key="k") == later
    with pytest.raises(IdempotencyConflict):
        managed.reschedule(start=NINE + 3 * HOUR, idempotency_key="k")
    assert trail(db, booking.id)[-1][0] == 3


def test_a_cancellation_by_a_link_is_told_again_to_another_request_with_its_key(
    acme: Tenant, db: Database, booking: Booking, token: str
) -> None:
    gone = acme.with_token(token).cancel(idempotency_key="k")
    assert acme.with_token(token).cancel(idempotency_key="k") == gone
    for refused in ("another", None):
        with pytest.raises(InvalidToken):
            acme.with_token(token).cancel(idempotency_key=refused)
    assert [one[0] for one in trail(db, booking.id)] == [1, 2]


def test_the_repeat_of_a_move_needs_a_link_that_is_good(
    acme: Tenant, db: Database, clock: SettableClock, booking: Booking
) -> None:
    short = acme.with_token(acme.manage_token(booking.id, expires=NOW + timedelta(minutes=1)))
    moved = short.reschedule(start=NINE + HOUR, idempotency_key="k")
    with db.superuser.begin() as connection:
        connection.execute(text("UPDATE nxsched.booking SET nonce = reverse(nonce)"))
    with pytest.raises(InvalidToken):
        short.reschedule(start=NINE + HOUR, idempotency_key="k")
    fresh = acme.with_token(acme.manage_token(booking.id, expires=NOW + timedelta(minutes=1)))
    assert fresh.reschedule(start=NINE + HOUR, idempotency_key="k") == moved
    clock.move(timedelta(minutes=1))
    with pytest.raises(InvalidToken):
        fresh.reschedule(start=NINE + HOUR, idempotency_key="k")


def test_a_key_that_a_dead_link_brings_stays_free(
    acme: Tenant, db: Database, managed: ManagedBooking, booking: Booking
) -> None:
    acme.cancel(booking.id)
    for call in (managed.cancel, partial(managed.reschedule, start=NINE + HOUR)):
        with pytest.raises(InvalidToken):
            call(idempotency_key="k")
    assert count(db, "idempotency_key") == 0


@pytest.mark.parametrize("whose", ["its own", "the application's"])
def test_a_cancellation_by_a_link_happens_once_for_a_key_and_its_repeat_gives_the_same(
    db: Database, managed: ManagedBooking, whose: str
) -> None:
    """As who repeats a request that broke off does, the library among them where the connection breaks at COMMIT."""
    with db.app.connect() as connection:
        options: dict[str, Any] = {"within": connection} if whose == "the application's" else {}
        gone = managed.cancel(reason="ill", idempotency_key="k", **options)
        assert managed.cancel(reason="ill", idempotency_key="k", **options) == gone


@pytest.mark.parametrize("act", ["cancel", "reschedule"])
def test_what_a_link_does_goes_with_the_transaction_of_the_application(
    acme: Tenant, db: Database, booking: Booking, token: str, act: str
) -> None:
    before = everything(db)
    with db.app.connect() as connection:
        managed = acme.with_token(token)
        if act == "cancel":
            assert managed.cancel(within=connection, idempotency_key="k").status == "cancelled"
            with pytest.raises(InvalidToken):
                managed.booking(within=connection)
        else:
            assert managed.reschedule(start=NINE + HOUR, within=connection, idempotency_key="k").start == NINE + HOUR
            assert managed.booking(within=connection).start == NINE + HOUR
        assert managed.booking() == booking
        connection.rollback()
    assert everything(db) == before


def test_a_wrong_link_leaves_the_transaction_of_the_application_as_it_was(acme: Tenant, db: Database) -> None:
    with db.app.begin() as connection:
        made = acme.book("visit", start=NINE, attendee=GRACE, within=connection)
        with pytest.raises(InvalidToken):
            look(acme, "A" * 80, within=connection)
        token = acme.manage_token(made.id, expires=END, within=connection)
        assert look(acme, token, within=connection) == made
    assert look(acme, token) == made


# --- races -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", ["commit", "rollback"])
def test_of_a_link_and_staff_who_cancel_at_a_time_one_does(
    acme: Tenant, db: Database, booking: Booking, managed: ManagedBooking, ends: str
) -> None:
    with db.app.connect() as ours:
        acme.cancel(booking.id, reason="staff", actor=STAFF, within=ours)
        with beside(db, committed(db, partial(managed.cancel, reason="link"))) as told:
            getattr(ours, ends)()
    assert isinstance(told[0], InvalidToken) or told[0] == acme.booking(booking.id)
    assert acme.history(booking.id)[-1].reason == ("staff" if ends == "commit" else "link")
    assert trail(db, booking.id) == [(1, "book", "booking.confirmed"), (2, "cancel", "booking.cancelled")]
    assert_sound(db)


def test_of_many_who_cancel_one_booking_by_link_and_as_staff_one_does(
    acme: Tenant, db: Database, booking: Booking, token: str
) -> None:
    meeting = threading.Barrier(6)

    def cancel(n: int) -> object:
        managed = acme.with_token(token)
        meeting.wait(timeout=LONG.total_seconds())
        try:
            return managed.cancel() if n % 2 else acme.cancel(booking.id, actor=STAFF)
        except NxschedError as error:
            return error

    with ThreadPoolExecutor(6) as pool:
        told = list(pool.map(cancel, range(6)))
    gone = acme.booking(booking.id)
    assert gone.status == "cancelled"
    assert all(one == gone or isinstance(one, InvalidToken) for one in told)
    assert trail(db, booking.id) == [(1, "book", "booking.confirmed"), (2, "cancel", "booking.cancelled")]
    assert_sound(db)


def test_who_looks_by_a_link_sees_the_booking_until_its_erasure_is_there(
    acme: Tenant, db: Database, booking: Booking, token: str
) -> None:
    with db.app.connect() as ours:
        acme.erase_attendee(email=GRACE.email, within=ours)
        assert look(acme, token) == booking
        ours.commit()
    with pytest.raises(InvalidToken):
        look(acme, token)


@pytest.mark.parametrize("wait", [0.0, 0.1], ids=["short", "long"])
@pytest.mark.parametrize("act", ["cancel", "reschedule"])
def test_a_link_that_ends_by_an_erasure_in_the_wait_does_nothing_more(
    acme: Tenant, db: Database, booking: Booking, managed: ManagedBooking, act: str, wait: float
) -> None:
    acts = {
        "cancel": partial(managed.cancel, reason="Grace is ill"),
        "reschedule": partial(managed.reschedule, start=NINE + HOUR, reason="Grace is ill"),
    }
    with db.app.connect() as ours:
        acme.erase_attendee(email=GRACE.email, within=ours)
        with beside(db, acts[act]) as told:
            time.sleep(wait)
            ours.commit()
    assert isinstance(told[0], InvalidToken)
    assert acme.booking(booking.id).version == 2
    assert count(db, "audit_entry", "reason IS NOT NULL") == 0


@pytest.mark.parametrize("act", ["cancel", "reschedule"])
def test_a_link_whose_time_ends_in_the_wait_does_nothing_more(db: Database, act: str) -> None:
    """By the database's own time, which goes on."""
    with Scheduler(db.app, secrets=[OLD], lock_timeout=LONG) as scheduler:
        tenant = scheduler.create_tenant("today", name="Today")
        always = [WeeklyHours(days="mon-sun", start="00:00", end="24:00")]
        tenant.save_host(Host(slug="ada", timezone="UTC", weekly_hours=always))
        tenant.save_event_type(EventType(slug="visit", duration=HALF, hosts=["ada"]))
        tomorrow = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + DAY
        booking = tenant.book("visit", start=tomorrow, attendee=GRACE)
        with db.app.connect() as ours:
            tenant.update(booking.id, location="Room 7", within=ours)
            ends = rows(db, "SELECT clock_timestamp()")[0][0].replace(microsecond=0) + timedelta(seconds=2)
            mine = tenant.with_token(tenant.manage_token(booking.id, expires=ends))
            move = partial(mine.reschedule, start=tomorrow + HOUR)
            with beside(db, mine.cancel if act == "cancel" else move) as told:
                while rows(db, "SELECT clock_timestamp()")[0][0] < ends:
                    time.sleep(0.05)
                ours.commit()
        assert isinstance(told[0], InvalidToken)
        assert [one.action for one in tenant.history(booking.id)] == ["book", "update"]


# --- an attendee whom the application knows --------------------------------------------------------------------------


def pages(of: Callable[..., Any], limit: int) -> list[Booking]:
    """All that is listed, by pages of at most so many."""
    found: list[Booking] = []
    after: str | None = None
    while True:
        page = of(after=after, limit=limit)
        assert len(page) <= limit
        found += page
        after = page.after
        if after is None:
            return found
        assert len(page) == limit


def live(tenant: Tenant, clock: SettableClock) -> list[str]:
    """Bookings of a person in every state, at the same few starts; the clock ends at eleven, in the midst of some."""
    made = [tenant.book("class", start=NINE + n * HALF, attendee=GRACE) for n in range(8) for _ in range(2)]
    made += [tenant.book("visit", start=NINE + n * DAY, attendee=GRACE) for n in range(1, 4)]
    made += [tenant.book("ask", start=NINE + n * HOUR, attendee=GRACE) for n in range(6)]
    made += [tenant.book("any", start=NINE + 5 * HOUR, attendee=replace(GRACE, reference=None))]
    tenant.cancel(made[0].id), tenant.cancel(made[17].id)
    tenant.complete(made[1].id), tenant.complete(made[15].id)
    tenant.mark_no_show(made[2].id)
    tenant.decline(made[19].id), tenant.decline(made[23].id)
    tenant.approve(made[20].id), tenant.approve(made[24].id)
    tenant.place_hold("visit", start=NINE + 6 * HOUR, attendee=GRACE, ttl=DAY)
    tenant.book("visit", start=NINE, attendee=ALAN)
    tenant.book("visit", start=NINE + HOUR, attendee=Attendee(name="Grace", email="grace@example.tests"))
    clock.move(3 * HOUR)
    return [one.id for one in made]


@pytest.mark.parametrize("who", [{"email": "GRACE@Example.TEST"}, {"email": GRACE.email, "reference": "user-7"}])
@pytest.mark.parametrize("swept", [False, True], ids=["as it is", "tidied up"])
def test_every_booking_that_is_shown_is_to_come_or_past(
    acme: Tenant, clock: SettableClock, who: dict[str, str], *, swept: bool
) -> None:
    made = live(acme, clock)
    if swept:
        acme.sweep()
    mine = acme.for_attendee(**who)
    for _ in range(12):
        shown = {one.id: one for one in acme.bookings(attendee=GRACE.email, limit=1_000)}
        assert {*shown} <= {*made}
        upcoming, past = pages(mine.upcoming, 1_000), pages(mine.past, 1_000)
        ids = [one.id for one in (*upcoming, *past)]
        assert sorted(ids) == sorted(shown)
        assert upcoming == sorted(upcoming, key=lambda one: (one.start, one.id))
        assert past == sorted(past, key=lambda one: (one.start, one.id), reverse=True)
        for one in upcoming:
            assert one.status in {"pending", "confirmed"}
            assert one.end > clock.now()
        for one in past:
            assert one.status not in {"pending", "confirmed"} or one.end <= clock.now()
        assert {one.id: one for one in (*upcoming, *past)} == shown
        clock.move(HALF)
    assert upcoming
    assert past
    clock.move(7 * DAY)
    assert mine.upcoming().items == ()


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 13])
def test_pages_of_a_persons_bookings_hold_each_once_in_either_direction(
    acme: Tenant, clock: SettableClock, limit: int
) -> None:
    live(acme, clock)
    mine = acme.for_attendee(email=GRACE.email)
    for of in (mine.upcoming, mine.past):
        whole = of(limit=1_000)
        assert whole.after is None
        assert len(whole) >= 8
        assert pages(of, limit) == list(whole)


def test_a_page_goes_on_where_the_one_before_ended_whatever_has_come_and_gone(acme: Tenant) -> None:
    made = [acme.book("visit", start=NINE + n * HOUR, attendee=GRACE) for n in range(6)]
    mine = acme.for_attendee(reference="user-7")
    first = mine.upcoming(limit=2)
    acme.cancel(made[1].id)  # where the cursor stands
    acme.cancel(made[2].id)
    early = acme.book("visit", start=NINE + HALF, attendee=GRACE)
    assert [one.id for one in mine.upcoming(after=first.after)] == [one.id for one in made[3:]]
    assert early in mine.upcoming().items
    assert [one.id for one in mine.past(limit=1)] == [made[2].id]
    assert [one.id for one in mine.past(after=mine.past(limit=1).after)] == [made[1].id]


def test_a_booking_is_to_come_until_its_end_and_no_longer(acme: Tenant, booking: Booking, clock: SettableClock) -> None:
    mine = acme.for_attendee(email=GRACE.email)
    clock.move(booking.end - NOW - timedelta(microseconds=1))
    assert (mine.upcoming().items, mine.past().items) == ((booking,), ())
    clock.move(timedelta(microseconds=1))
    assert (mine.upcoming().items, mine.past().items) == ((), (booking,))


def test_a_persons_bookings_are_those_of_their_tenant(acme: Tenant, scheduler: Scheduler, booking: Booking) -> None:
    zeta = scheduler.create_tenant("zeta", name="Zeta")
    furnish(zeta)
    theirs = zeta.book("visit", start=NINE, attendee=GRACE)
    assert acme.for_attendee(email=GRACE.email, reference=GRACE.reference).upcoming().items == (booking,)
    assert zeta.for_attendee(email=GRACE.email).upcoming().items == (theirs,)
    zeta.cancel(theirs.id)
    assert acme.for_attendee(email=GRACE.email).past().items == ()
    after = acme.for_attendee(email=GRACE.email).upcoming(after=cursor(theirs))
    assert {one.id for one in after} <= {booking.id}


def cursor(last: Booking) -> str:
    """A cursor that stands at a booking, as a page that ends there gives it."""
    return base64.urlsafe_b64encode(f'["{last.start.isoformat()}", "{last.id}"]'.encode()).decode()


def test_a_reference_and_an_address_are_two_things(acme: Tenant) -> None:
    one = acme.book("visit", start=NINE, attendee=Attendee(name="A", reference="grace@example.test"))
    other = acme.book("visit", start=NINE + HOUR, attendee=Attendee(name="B", email="grace@example.test"))
    assert acme.for_attendee(email="grace@example.test").upcoming().items == (other,)
    assert acme.for_attendee(reference="grace@example.test").upcoming().items == (one,)
    both = acme.for_attendee(reference="grace@example.test", email="grace@example.test")
    assert both.upcoming().items == (one, other)
    assert acme.for_attendee(reference="GRACE@example.test").upcoming().items == ()


def test_what_is_done_in_the_applications_transaction_is_seen_there(acme: Tenant, db: Database) -> None:
    mine = acme.for_attendee(email=GRACE.email)
    with db.app.connect() as connection:
        made = acme.book("visit", start=NINE, attendee=GRACE, within=connection)
        assert mine.upcoming(within=connection).items == (made,)
        acme.cancel(made.id, within=connection)
        assert [one.id for one in mine.past(within=connection)] == [made.id]
        assert mine.upcoming().items == mine.past().items == ()


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 1_001}, "limit"),
        ({"limit": True}, "limit"),
        ({"after": ""}, "after"),
        ({"after": "x"}, "after"),
        ({"after": 5}, "after"),
    ],
)
def test_a_page_that_cannot_be_is_refused(acme: Tenant, asked: dict[str, Any], field: str) -> None:
    mine = acme.for_attendee(email=GRACE.email)
    assert isinstance(mine, AttendeeBookings)
    for of in (mine.upcoming, mine.past):
        with pytest.raises(InvalidInput) as caught:
            of(**asked)
        assert caught.value.field == field


def test_an_attendee_can_look_and_nothing_else() -> None:
    public = {name for name, _ in inspect.getmembers(AttendeeBookings) if not name.startswith("_")}
    assert public == {"upcoming", "past"}


def test_a_page_of_a_persons_bookings_takes_one_statement_after_the_one_that_begins(
    acme: Tenant, scheduler: Scheduler
) -> None:
    acme.book_series("visit", starts=[NINE + n * HALF for n in range(10)], attendee=GRACE)
    mine = acme.for_attendee(email=GRACE.email)
    for of, number in ((mine.upcoming, 10), (mine.past, 0)):
        with recorded(scheduler.engine) as sent:
            assert len(of()) == number
        assert len(sent) == 2


def test_the_end_of_a_link_may_be_told_in_any_zone(acme: Tenant, booking: Booking) -> None:
    there = datetime.fromisoformat("2026-04-01T09:00:00+05:30")
    here = datetime.fromisoformat("2026-04-01T03:30:00+00:00")
    assert acme.manage_token(booking.id, expires=there) == acme.manage_token(booking.id.upper(), expires=here)
