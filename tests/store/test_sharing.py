"""Seats: several bookings share one occurrence, its hosts and its claims; the last seat is given once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import create_engine

from nxsched import (
    Booking,
    EventType,
    Host,
    HostGroup,
    InvalidInput,
    Limit,
    SettableClock,
    SlotTaken,
    SlotUnavailable,
    Tenant,
    TransactionConflict,
    WeeklyHours,
)
from nxsched.embedded import APP_ROLE
from store.booked import ALAN, GRACE, STAFF, assert_sound, count, rows, trail
from store.conftest import DAY, HALF, HOUR, NINE, NOW, Database

HOURS = [WeeklyHours(days="mon-fri", start="09:00", end="17:00")]
TTL = timedelta(minutes=10)


@pytest.fixture
def yoga(acme: Tenant) -> Tenant:
    """A class with three seats, and one host."""
    acme.save_event_type(EventType(slug="yoga", duration=HOUR, step=HALF, capacity=3, hosts=["ada"]))
    return acme


def seats_left(tenant: Tenant, slug: str = "yoga") -> dict[object, int]:
    return {slot.start: slot.seats_left for slot in tenant.find_slots(slug, start=NINE, end=NINE + 3 * HOUR)}


def occurrence(db: Database, booking: Booking) -> str:
    found = rows(db, "SELECT occurrence_id FROM nxsched.booking WHERE id = CAST(:id AS uuid)", id=booking.id)
    return str(found[0][0])


def test_a_new_attendee_joins_the_occurrence_that_stands(yoga: Tenant, db: Database) -> None:
    first = yoga.book("yoga", start=NINE, attendee=GRACE)
    assert seats_left(yoga)[NINE] == 2
    assert NINE + HALF not in seats_left(yoga)  # to any other start it is busy time (rule 24)
    second = yoga.book("yoga", start=NINE, attendee=ALAN)
    assert (second.start, second.end, second.hosts) == (first.start, first.end, first.hosts)
    assert occurrence(db, first) == occurrence(db, second)
    assert (count(db, "occurrence"), count(db, "claim")) == (1, 1)
    assert trail(db, second.id) == [(1, "book", "booking.confirmed")]
    assert yoga.booking(second.id) == second
    assert_sound(db)


def test_a_full_class_is_taken_and_says_so(yoga: Tenant, db: Database) -> None:
    yoga.book("yoga", start=NINE, attendee=GRACE, seats=2)
    with pytest.raises(SlotTaken) as caught:
        yoga.book("yoga", start=NINE, attendee=ALAN, seats=2)
    assert "full" in {reason.code for reason in caught.value.reasons}
    yoga.book("yoga", start=NINE, attendee=ALAN)
    for again in (lambda: yoga.book("yoga", start=NINE, attendee=ALAN), lambda: yoga.place_hold("yoga", start=NINE)):
        with pytest.raises(SlotTaken) as caught:
            again()
        assert "full" in {reason.code for reason in caught.value.reasons}
    assert NINE not in seats_left(yoga)
    assert_sound(db)


def test_staff_can_skip_the_rules_and_never_the_number_of_seats(yoga: Tenant) -> None:
    night = NINE + 12 * HOUR
    for _ in range(3):
        yoga.book("yoga", start=night, attendee=GRACE, force=True, actor=STAFF)
    with pytest.raises(SlotTaken):
        yoga.book("yoga", start=night, attendee=GRACE, force=True, actor=STAFF)


def test_more_seats_than_the_class_has_cannot_be_asked_for(yoga: Tenant) -> None:
    with pytest.raises(InvalidInput, match="must be at most 3, not 4") as caught:
        yoga.book("yoga", start=NINE, attendee=GRACE, seats=4)
    assert caught.value.field == "seats"


def test_who_leaves_frees_their_seats_alone_and_the_last_one_frees_the_host(yoga: Tenant, db: Database) -> None:
    here = [yoga.book("yoga", start=NINE, attendee=GRACE, seats=n) for n in (1, 2)]
    yoga.cancel(here[0].id)
    assert seats_left(yoga)[NINE] == 1
    assert NINE + HALF not in seats_left(yoga)
    assert_sound(db)
    yoga.cancel(here[1].id)
    assert seats_left(yoga)[NINE + HALF] == 3
    assert count(db, "claim", "active") == 0
    assert yoga.booking(here[0].id).hosts == ("ada",)
    assert_sound(db)


def test_a_class_that_ended_with_its_last_attendee_begins_anew(yoga: Tenant, db: Database) -> None:
    old = yoga.book("yoga", start=NINE, attendee=GRACE)
    yoga.cancel(old.id)
    new = yoga.book("yoga", start=NINE, attendee=ALAN)
    assert occurrence(db, old) != occurrence(db, new)
    assert_sound(db)


def test_another_duration_is_another_occurrence(acme: Tenant) -> None:
    acme.save_event_type(EventType(slug="yoga", duration=HOUR, durations=[HALF], capacity=3, hosts=["ada"]))
    acme.book("yoga", start=NINE, attendee=GRACE)
    with pytest.raises(SlotTaken):
        acme.book("yoga", start=NINE, attendee=GRACE, duration=HALF)


def test_the_class_of_the_host_who_is_asked_for_is_joined(acme: Tenant) -> None:
    acme.save_host(Host(slug="cyd", timezone="Europe/London", weekly_hours=HOURS))
    acme.save_event_type(
        EventType(slug="yoga", duration=HOUR, capacity=3, hosts=[HostGroup(members=["ada", "cyd"], need=1)])
    )
    first = acme.book("yoga", start=NINE, attendee=GRACE)
    other = ({"ada", "cyd"} - {*first.hosts}).pop()
    assert acme.book("yoga", start=NINE, attendee=GRACE).hosts == first.hosts
    assert acme.book("yoga", start=NINE, attendee=GRACE, host=other).hosts == (other,)
    assert acme.book("yoga", start=NINE, attendee=GRACE).hosts == first.hosts  # the fullest that has room
    assert acme.book("yoga", start=NINE, attendee=GRACE).hosts == (other,)
    assert acme.book("yoga", start=NINE, attendee=GRACE, seats=1).hosts == (other,)
    with pytest.raises(SlotTaken):
        acme.book("yoga", start=NINE, attendee=GRACE)


def test_who_wants_more_seats_than_the_fullest_has_left_gets_another_class(acme: Tenant) -> None:
    acme.save_host(Host(slug="cyd", timezone="Europe/London", weekly_hours=HOURS))
    acme.save_event_type(EventType(slug="yoga", duration=HOUR, capacity=3, hosts=["ada", "cyd"]))
    first = acme.book("yoga", start=NINE, attendee=GRACE, seats=2)
    assert acme.book("yoga", start=NINE, attendee=GRACE, seats=2).hosts != first.hosts


def test_a_host_who_left_the_team_still_holds_the_class(acme: Tenant, db: Database) -> None:
    acme.save_host(Host(slug="cyd", timezone="Europe/London", weekly_hours=HOURS))
    acme.save_event_type(EventType(slug="yoga", duration=HOUR, capacity=3, hosts=["ada"]))
    acme.book("yoga", start=NINE, attendee=GRACE)
    acme.save_event_type(EventType(slug="yoga", duration=HOUR, capacity=3, hosts=["cyd"]))
    joined = acme.book("yoga", start=NINE, attendee=ALAN)
    assert joined.hosts == ("ada",)
    told = rows(db, "SELECT payload FROM nxsched.outbox_event WHERE booking_id = CAST(:id AS uuid)", id=joined.id)
    assert [one["slug"] for one in told[0][0]["hosts"]] == ["ada"]


def test_a_limit_counts_the_class_and_not_its_attendees(acme: Tenant) -> None:
    limits = [Limit(per="day", count=1)]
    acme.save_event_type(EventType(slug="yoga", duration=HOUR, capacity=3, hosts=["ada"], limits=limits))
    for _ in range(3):
        acme.book("yoga", start=NINE, attendee=GRACE)
    with pytest.raises(SlotUnavailable) as caught:
        acme.book("yoga", start=NINE + HOUR, attendee=GRACE)
    assert [reason.code for reason in caught.value.reasons] == ["event_limit"]


def test_holds_take_seats_until_they_expire(yoga: Tenant, clock: SettableClock, db: Database) -> None:
    holds = [yoga.place_hold("yoga", start=NINE, ttl=TTL * n) for n in (1, 2, 3)]
    with pytest.raises(SlotTaken):
        yoga.book("yoga", start=NINE, attendee=GRACE)
    assert_sound(db)
    clock.move(TTL)
    assert seats_left(yoga)[NINE] == 1
    yoga.book("yoga", start=NINE, attendee=GRACE)
    yoga.confirm_hold(holds[1].id, attendee=ALAN)
    assert_sound(db)
    clock.move(5 * TTL)
    assert seats_left(yoga)[NINE] == 1
    assert yoga.sweep().holds == 2
    assert_sound(db)


def test_when_only_holds_are_left_their_end_frees_the_host(yoga: Tenant, clock: SettableClock, db: Database) -> None:
    booking = yoga.book("yoga", start=NINE, attendee=GRACE)
    yoga.place_hold("yoga", start=NINE, ttl=TTL)
    yoga.place_hold("yoga", start=NINE, ttl=2 * TTL)
    yoga.cancel(booking.id)
    assert_sound(db)
    clock.move(TTL)
    assert NINE + HALF not in seats_left(yoga)
    clock.move(TTL)
    assert seats_left(yoga)[NINE + HALF] == 3
    assert yoga.book("yoga", start=NINE + HALF, attendee=GRACE).start == NINE + HALF
    assert_sound(db)


def test_a_hold_that_expired_can_be_had_again_while_a_seat_is_left(
    yoga: Tenant, clock: SettableClock, db: Database
) -> None:
    hold, other = (yoga.place_hold("yoga", start=NINE, ttl=TTL) for _ in range(2))
    yoga.book("yoga", start=NINE, attendee=GRACE)
    clock.move(TTL)
    again = yoga.confirm_hold(hold.id, attendee=ALAN, if_free=True)
    assert (again.status, again.hosts) == ("confirmed", ("ada",))
    assert trail(db, hold.id)[-1] == (3, "book", "booking.confirmed")
    yoga.book("yoga", start=NINE, attendee=GRACE)
    with pytest.raises(SlotTaken):
        yoga.confirm_hold(other.id, attendee=ALAN, if_free=True)
    assert_sound(db)


def test_the_last_seat_is_given_once(yoga: Tenant, db: Database) -> None:
    for n in range(5):
        start = NINE + n * HOUR
        yoga.book("yoga", start=start, attendee=GRACE, seats=2)
        ready = threading.Barrier(8)

        def want(at: object = start, ready: threading.Barrier = ready) -> bool:
            ready.wait()
            try:
                yoga.book("yoga", start=at, attendee=ALAN)  # type: ignore[arg-type]
            except SlotTaken:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(lambda _: want(), range(8))) == 1
    assert_sound(db)


def test_one_joins_while_the_last_one_leaves_and_the_class_goes_on_or_begins_anew(yoga: Tenant, db: Database) -> None:
    for n in range(8):
        start = NINE + n * HOUR
        here = yoga.book("yoga", start=start, attendee=GRACE)
        ready = threading.Barrier(2)

        def leave(ready: threading.Barrier = ready, here: Booking = here) -> None:
            ready.wait()
            yoga.cancel(here.id)

        def join(ready: threading.Barrier = ready, start: object = start) -> Booking:
            ready.wait()
            return yoga.book("yoga", start=start, attendee=ALAN)  # type: ignore[arg-type]

        with ThreadPoolExecutor(2) as pool:
            leaving, joining = pool.submit(leave), pool.submit(join)
            leaving.result()
            assert yoga.booking(joining.result().id).status == "confirmed"
        assert_sound(db)


def test_who_joins_after_a_wait_for_the_last_one_who_leaves_for_good_keeps_the_claims(
    yoga: Tenant, db: Database
) -> None:
    leaves = yoga.book("yoga", start=NINE, attendee=GRACE)
    yoga.place_hold("yoga", start=NINE, ttl=TTL)
    with ThreadPoolExecutor(1) as pool, db.app.connect() as connection:
        yoga.cancel(leaves.id, within=connection)  # now the claims end with the hold
        joining = pool.submit(yoga.book, "yoga", start=NINE, attendee=ALAN)
        waited_for(db)
        connection.commit()
        assert joining.result(timeout=30).status == "confirmed"
    assert_sound(db)


def waited_for(db: Database) -> None:
    """Come back when somebody waits for a lock."""
    until = time.monotonic() + 30
    while not rows(db, "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
        assert time.monotonic() < until, "nobody waits"
        time.sleep(0.01)


@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
def test_who_counts_seats_with_an_older_snapshot_is_told_to_begin_anew(
    yoga: Tenant, db: Database, isolation: str
) -> None:
    yoga.book("yoga", start=NINE, attendee=GRACE, seats=2)
    engine = create_engine(db.url(APP_ROLE), isolation_level=isolation)
    try:
        with engine.begin() as connection:
            yoga.bookings(within=connection)
            yoga.book("yoga", start=NINE, attendee=ALAN)
            with pytest.raises(TransactionConflict):
                yoga.book("yoga", start=NINE, attendee=ALAN, within=connection)
    finally:
        engine.dispose()
    assert_sound(db)


@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
def test_who_leaves_with_an_older_snapshot_is_not_taken_for_the_last_one(
    yoga: Tenant, db: Database, isolation: str
) -> None:
    here = yoga.book("yoga", start=NINE, attendee=GRACE)
    engine = create_engine(db.url(APP_ROLE), isolation_level=isolation)
    try:
        with engine.begin() as connection:
            yoga.bookings(within=connection)
            yoga.book("yoga", start=NINE, attendee=ALAN)
            with pytest.raises(TransactionConflict):
                yoga.cancel(here.id, within=connection)
    finally:
        engine.dispose()
    assert_sound(db)


@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
def test_of_two_who_leave_the_one_with_an_older_snapshot_does_not_think_that_the_other_stays(
    yoga: Tenant, db: Database, isolation: str
) -> None:
    one, other = (yoga.book("yoga", start=NINE, attendee=who) for who in (GRACE, ALAN))
    engine = create_engine(db.url(APP_ROLE), isolation_level=isolation)
    try:
        with engine.begin() as connection:
            yoga.bookings(within=connection)
            yoga.cancel(other.id)
            with pytest.raises(TransactionConflict):
                yoga.cancel(one.id, within=connection)
    finally:
        engine.dispose()
    yoga.cancel(one.id)
    assert count(db, "claim", "active") == count(db, "occurrence", "active") == 0
    assert_sound(db)


def test_slots_of_a_day_are_the_same_for_a_class_seen_by_everybody(yoga: Tenant) -> None:
    yoga.book("yoga", start=NINE, attendee=GRACE)
    assert yoga.explain("yoga", start=NINE) == []
    assert {one.code for one in yoga.explain("yoga", start=NINE + HALF)} >= {"busy"}
    assert yoga.find_slots("yoga", start=NOW, end=NOW + DAY)[0].hosts == ("ada",)
