"""How many holds and bookings to come one attendee may have: by an event type's policies, and by a bound of all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest
from sqlalchemy import create_engine

from nxsched import (
    Actor,
    Attendee,
    Booking,
    EventType,
    Hold,
    InvalidInput,
    NxschedError,
    Policies,
    PolicyViolation,
    Scheduler,
    SettableClock,
    SlotTaken,
    Tenant,
    TransactionConflict,
)
from nxsched.domain.bounds import MAX_ATTENDEE_HOLDS
from nxsched.embedded import APP_ROLE
from store.booked import ALAN, GRACE, STAFF, assert_sound, count
from store.conftest import DAY, HALF, HOUR, NINE, Database, furnish

TTL = timedelta(minutes=10)
ATTENDEE = Actor(role="attendee", id="user-7")
HENRY = Attendee(name="Henry", email="henry@example.test", reference="user-8")


def keep(tenant: Tenant, slug: str = "visit", **policies: Any) -> None:
    """Set policies of an event type."""
    tenant.save_event_type(replace(tenant.event_type(slug), policies=Policies(**policies)))


def violated(call: Callable[[], object]) -> str:
    """The policy that a call violates."""
    with pytest.raises(PolicyViolation) as caught:
        call()
    assert caught.value.until is None
    return caught.value.policy


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """What came of calls that were made at the same time."""
    ready = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> object:
        ready.wait()
        try:
            return call()
        except NxschedError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


def hold(tenant: Tenant, n: int, attendee: Attendee | None = GRACE, slug: str = "visit", **more: Any) -> Hold:
    """The hold of the nth hour, for ten minutes."""
    options = {"ttl": TTL, "actor": ATTENDEE, **more}
    return tenant.place_hold(slug, start=NINE + n * HOUR, attendee=attendee, **options)


def book(tenant: Tenant, n: int, attendee: Attendee = GRACE, slug: str = "visit", **more: Any) -> Booking:
    """The booking of the nth hour."""
    return tenant.book(slug, start=NINE + n * HOUR, attendee=attendee, **{"actor": ATTENDEE, **more})


# --- most_upcoming ---------------------------------------------------------------------------------------------------


def test_an_attendee_has_so_many_bookings_to_come_and_no_more(acme: Tenant, clock: SettableClock, db: Database) -> None:
    keep(acme, most_upcoming=2)
    first, _ = book(acme, 0), book(acme, 1)
    with pytest.raises(PolicyViolation, match="may have 2 bookings to come, and has 2") as caught:
        book(acme, 2)
    assert (caught.value.policy, caught.value.until) == ("most_upcoming", None)
    assert count(db, "booking") == 2
    book(acme, 2, HENRY)
    clock.set(NINE)  # the first has begun
    book(acme, 3)
    assert violated(lambda: book(acme, 4)) == "most_upcoming"
    acme.cancel(first.id)
    assert violated(lambda: book(acme, 4)) == "most_upcoming"  # it was not counted any more
    assert_sound(db)


def test_what_is_cancelled_declined_or_expired_is_not_to_come(acme: Tenant, clock: SettableClock) -> None:
    acme.save_event_type(EventType(slug="visit", duration=HALF, hosts=["ada"], requires_approval=True))
    keep(acme, most_upcoming=1)
    acme.cancel(book(acme, 1).id)
    acme.decline(book(acme, 1).id)
    book(acme, 0)
    assert violated(lambda: book(acme, 2)) == "most_upcoming"
    clock.set(NINE)
    assert book(acme, 2).status == "pending"


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (Attendee(name="G", reference="user-7"), True),
        (Attendee(name="G", email="grace@example.test"), True),
        (Attendee(name="G", email="Grace@EXAMPLE.test", reference="user-9"), True),
        (Attendee(name="G", email="other@example.test", reference="user-7"), True),
        (Attendee(name="Grace"), False),
        (Attendee(name="Grace", email="other@example.test"), False),
        (Attendee(name="Grace", reference="USER-7"), False),
        (Attendee(name="Grace", email="grace@example.test.org", reference="user-70"), False),
    ],
)
def test_the_same_attendee_is_known_by_reference_or_address(acme: Tenant, other: Attendee, same: bool) -> None:
    keep(acme, most_upcoming=1)
    book(acme, 0)
    if same:
        assert violated(lambda: book(acme, 1, other)) == "most_upcoming"
        assert violated(lambda: hold(acme, 1, other)) == "most_upcoming"
    else:
        assert book(acme, 1, other).status == "confirmed"


def test_the_address_that_was_booked_with_may_have_capitals(acme: Tenant) -> None:
    keep(acme, most_upcoming=1)
    book(acme, 0, Attendee(name="G", email="GRACE@Example.Test"))
    assert violated(lambda: book(acme, 1)) == "most_upcoming"


def test_who_has_neither_reference_nor_address_is_not_counted(acme: Tenant) -> None:
    keep(acme, most_upcoming=1, most_holds=1)
    for n in range(3):
        book(acme, n, ALAN)
        hold(acme, n + 4, None)


def test_only_what_is_of_the_event_type_counts(acme: Tenant) -> None:
    keep(acme, most_upcoming=1)
    book(acme, 0, slug="any")
    book(acme, 1, slug="any")
    book(acme, 2)
    assert violated(lambda: book(acme, 3)) == "most_upcoming"
    book(acme, 3, slug="any")


def test_other_tenants_bookings_do_not_count(acme: Tenant, scheduler: Scheduler, db: Database) -> None:
    zeta = scheduler.create_tenant("zeta", name="Zeta")
    furnish(zeta)
    for tenant in (acme, zeta):
        keep(tenant, most_upcoming=1, most_holds=1)
        hold(tenant, 0)
    for tenant in (acme, zeta):
        assert violated(lambda: book(tenant, 1)) == "most_upcoming"  # noqa: B023 - called at once
    assert_sound(db)


def test_holds_count_until_they_expire_or_are_released(acme: Tenant, clock: SettableClock, db: Database) -> None:
    keep(acme, most_upcoming=1)
    held = hold(acme, 0)
    assert violated(lambda: book(acme, 1)) == "most_upcoming"
    assert violated(lambda: hold(acme, 1)) == "most_upcoming"
    assert acme.confirm_hold(held.id, attendee=GRACE, actor=ATTENDEE).status == "confirmed"  # a hold is a promise
    assert violated(lambda: book(acme, 1)) == "most_upcoming"
    acme.cancel(held.id)
    acme.release_hold(hold(acme, 1).id)
    hold(acme, 1)
    clock.move(TTL)
    assert book(acme, 2).status == "confirmed"
    assert_sound(db)


def test_a_series_counts_with_all_its_bookings(acme: Tenant, db: Database) -> None:
    keep(acme, most_upcoming=4)
    book(acme, 0)
    starts = [NINE + n * DAY for n in range(1, 5)]
    with pytest.raises(PolicyViolation, match="has 1") as caught:
        acme.book_series("visit", starts=starts, attendee=GRACE, actor=ATTENDEE)
    assert caught.value.policy == "most_upcoming"
    assert count(db, "booking") == 1
    assert len(acme.book_series("visit", starts=starts[:3], attendee=GRACE, actor=ATTENDEE)) == 3
    assert violated(lambda: book(acme, 1)) == "most_upcoming"
    assert len(acme.book_series("visit", starts=[starts[3]], attendee=GRACE, actor=STAFF)) == 1
    assert_sound(db)


def test_seats_of_a_party_are_one_booking(acme: Tenant) -> None:
    acme.save_event_type(EventType(slug="yoga", duration=HALF, hosts=["ada"], capacity=9))
    keep(acme, "yoga", most_upcoming=1)
    book(acme, 0, slug="yoga", seats=5)
    assert violated(lambda: book(acme, 0, slug="yoga")) == "most_upcoming"


def test_a_slot_that_somebody_has_is_told_to_who_may_have_one(acme: Tenant) -> None:
    keep(acme, most_upcoming=1)
    book(acme, 0, HENRY)
    with pytest.raises(SlotTaken):
        book(acme, 0)


def test_a_booking_that_moves_counts_once(acme: Tenant) -> None:
    keep(acme, most_upcoming=1)
    booking = book(acme, 0)
    assert acme.reschedule(booking.id, start=NINE + 2 * HOUR, actor=ATTENDEE).start == NINE + 2 * HOUR


def test_with_a_key_the_same_again_is_not_counted(acme: Tenant) -> None:
    keep(acme, most_upcoming=1, most_holds=1)
    booking = book(acme, 0, idempotency_key="k")
    assert book(acme, 0, idempotency_key="k") == booking


def test_a_hold_that_is_had_again_after_its_time_is_judged_as_a_new_booking(acme: Tenant, clock: SettableClock) -> None:
    keep(acme, most_upcoming=1)
    late = hold(acme, 1)
    clock.move(TTL)
    book(acme, 2)
    with pytest.raises(PolicyViolation) as caught:
        acme.confirm_hold(late.id, attendee=GRACE, if_free=True, actor=ATTENDEE)
    assert caught.value.policy == "most_upcoming"


# --- most_holds ------------------------------------------------------------------------------------------------------


def test_an_attendee_has_so_many_holds_at_a_time(acme: Tenant, clock: SettableClock, db: Database) -> None:
    keep(acme, most_holds=2)
    first, _ = hold(acme, 0), hold(acme, 1, ttl=2 * TTL)
    with pytest.raises(PolicyViolation, match="may have 2 open holds at a time, and has 2") as caught:
        hold(acme, 2)
    assert caught.value.policy == "most_holds"
    hold(acme, 2, HENRY)
    hold(acme, 2, slug="any")  # of another event type
    acme.confirm_hold(first.id, attendee=GRACE)
    third = hold(acme, 3)
    book(acme, 4)  # no hold
    assert violated(lambda: hold(acme, 5)) == "most_holds"
    acme.release_hold(third.id)
    hold(acme, 5, ttl=2 * TTL)
    assert violated(lambda: hold(acme, 6)) == "most_holds"
    clock.move(2 * TTL - timedelta(seconds=1))
    assert violated(lambda: hold(acme, 6)) == "most_holds"
    clock.move(timedelta(seconds=1))
    hold(acme, 6)
    assert_sound(db)


@pytest.mark.parametrize("name", ["most_holds", "most_upcoming"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "2", True, 10**9])
def test_a_policy_of_nothing_or_nonsense_is_refused(name: str, value: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        Policies(**{name: cast("Any", value)})
    assert caught.value.field == name


def test_policies_are_kept_as_they_were_given(acme: Tenant) -> None:
    keep(acme, most_holds=3, most_upcoming=7, roles=("partner",))
    assert acme.event_type("visit").policies == Policies(most_holds=3, most_upcoming=7, roles=("partner",))


# --- the bound of all ------------------------------------------------------------------------------------------------


@pytest.fixture
def crowded(acme: Tenant) -> Tenant:
    """A class with room for all, in which Grace has all the holds that she can have but one."""
    acme.save_event_type(EventType(slug="yoga", duration=HALF, hosts=["cyd"], capacity=500))
    for n in range(MAX_ATTENDEE_HOLDS - 1):
        ttl = TTL if n else 2 * TTL
        acme.place_hold("yoga", start=NINE, attendee=GRACE, ttl=ttl)
    return acme


def test_an_attendee_has_a_hundred_holds_at_most_whoever_asks(
    crowded: Tenant, clock: SettableClock, db: Database
) -> None:
    last = hold(crowded, 0, slug="visit", actor=None)
    for actor in (None, STAFF, ATTENDEE):
        for slug in ("yoga", "visit"):
            call = lambda: hold(crowded, 1, slug=slug, actor=actor)  # noqa: B023, E731 - called at once
            assert violated(call) == "attendee_holds"
    hold(crowded, 0, HENRY, slug="yoga")
    assert crowded.book("yoga", start=NINE, attendee=GRACE).status == "confirmed"  # no hold
    crowded.release_hold(last.id)
    hold(crowded, 1)
    assert violated(lambda: hold(crowded, 2)) == "attendee_holds"
    clock.move(TTL)
    hold(crowded, 2)
    assert_sound(db)


# --- races -----------------------------------------------------------------------------------------------------------


def test_of_many_at_once_as_many_have_their_booking_as_may(acme: Tenant, db: Database) -> None:
    keep(acme, most_upcoming=2)
    found = at_once(*[lambda n=n: book(acme, n) for n in range(5)])
    assert sum(isinstance(one, Booking) for one in found) == 2, found
    assert {one.policy for one in found if isinstance(one, PolicyViolation)} == {"most_upcoming"}
    assert count(db, "booking") == 2
    assert_sound(db)


def test_two_who_are_known_by_different_things_do_not_both_get_the_last_one(acme: Tenant, db: Database) -> None:
    keep(acme, "any", most_upcoming=2)
    by_address = Attendee(name="G", email="GRACE@example.test")
    by_reference = Attendee(name="G", reference="user-7")
    book(acme, 7, slug="any")
    found = at_once(
        lambda: book(acme, 0, by_address, slug="any"),
        lambda: book(acme, 1, GRACE, slug="any"),
        lambda: hold(acme, 2, GRACE, slug="any"),
    )
    assert sum(isinstance(one, Booking | Hold) for one in found) == 1, found
    with pytest.raises(PolicyViolation):
        book(acme, 3, slug="any")
    assert book(acme, 3, replace(by_reference, reference="user-6"), slug="any").status == "confirmed"
    assert_sound(db)


def test_of_many_at_once_as_many_have_their_hold_as_may(acme: Tenant, db: Database) -> None:
    keep(acme, most_holds=1)
    found = at_once(*[lambda n=n: hold(acme, n) for n in range(5)])
    assert sum(isinstance(one, Hold) for one in found) == 1, found
    assert {one.policy for one in found if isinstance(one, PolicyViolation)} == {"most_holds"}
    assert_sound(db)


def test_a_series_and_a_booking_at_once_do_not_both_get_the_last_one(acme: Tenant, db: Database) -> None:
    keep(acme, most_upcoming=3)
    found = at_once(
        lambda: acme.book_series("visit", starts=[NINE, NINE + HOUR], attendee=GRACE, actor=ATTENDEE),
        lambda: acme.book_series("visit", starts=[NINE + 2 * HOUR, NINE + 3 * HOUR], attendee=GRACE, actor=ATTENDEE),
    )
    assert sorted(isinstance(one, list) for one in found) == [False, True], found
    assert_sound(db)


@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
def test_who_counts_with_an_older_snapshot_is_told_to_begin_anew(acme: Tenant, db: Database, isolation: str) -> None:
    keep(acme, most_upcoming=1)
    engine = create_engine(db.url(APP_ROLE), isolation_level=isolation)
    try:
        with engine.connect() as connection:
            acme.bookings(within=connection)
            booking = book(acme, 0)
            with pytest.raises(TransactionConflict):
                book(acme, 1, within=connection)
            connection.rollback()
            assert violated(lambda: book(acme, 1, within=connection)) == "most_upcoming"
            connection.rollback()
            acme.cancel(booking.id)
            book(acme, 1, within=connection)
            connection.rollback()
    finally:
        engine.dispose()
    assert book(acme, 2).status == "confirmed"
    assert_sound(db)


def test_a_hold_that_ends_while_it_is_being_confirmed_leaves_no_room(
    acme: Tenant, clock: SettableClock, db: Database
) -> None:
    keep(acme, most_upcoming=1)
    held = hold(acme, 1)
    with db.app.connect() as theirs:
        acme.confirm_hold(held.id, attendee=GRACE, actor=ATTENDEE, within=theirs)
        clock.move(TTL)  # for all who do not see it confirmed yet, it is over

        def other() -> object:
            with suppress(NxschedError):
                return book(acme, 3)
            return None

        with ThreadPoolExecutor(1) as threads:
            call = threads.submit(other)
            with suppress(NotYet):
                call.result(timeout=0.5)
            theirs.commit()
    assert count(db, "booking", "status IN ('held', 'confirmed')") == 1
    assert_sound(db)
