"""A key makes one of many: the same call, however often it is made, happens once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from nxsched import (
    BlockedPeriod,
    BlockedPeriodNotFound,
    Booking,
    EventType,
    Host,
    IdempotencyConflict,
    InvalidInput,
    NxschedError,
    Scheduler,
    SettableClock,
    SlotTaken,
    Tenant,
)
from store.booked import ALAN, GRACE, assert_sound, count, rows
from store.conftest import HALF, NINE, NOW, Database


def test_the_repeat_gives_the_booking_as_it_is_now(acme: Tenant, db: Database) -> None:
    booking = acme.book("visit", start=NINE, attendee=GRACE, idempotency_key="k")
    assert acme.book("visit", start=NINE, attendee=GRACE, idempotency_key="k") == booking
    cancelled = acme.cancel(booking.id)
    assert acme.book("visit", start=NINE, attendee=GRACE, idempotency_key="k") == cancelled
    assert count(db, "booking") == 1
    assert count(db, "outbox_event") == 2


def test_the_same_key_for_another_request_is_a_conflict(acme: Tenant) -> None:
    acme.book("visit", start=NINE, attendee=GRACE, idempotency_key="k")
    others: list[Callable[[], object]] = [
        lambda: acme.book("visit", start=NINE, attendee=ALAN, idempotency_key="k"),
        lambda: acme.book("visit", start=NINE + HALF, attendee=GRACE, idempotency_key="k"),
        lambda: acme.book("visit", start=NINE, attendee=GRACE, metadata={"x": 1}, idempotency_key="k"),
        lambda: acme.book("visit", start=NINE, attendee=GRACE, force=True, idempotency_key="k"),
        lambda: acme.place_hold("visit", start=NINE, attendee=GRACE, idempotency_key="k"),
        lambda: acme.archive_host("ada", idempotency_key="k"),
    ]
    for other in others:
        with pytest.raises(IdempotencyConflict) as caught:
            other()
        assert caught.value.key == "k"


def test_one_is_not_true_for_a_key_either(acme: Tenant) -> None:
    first = acme.book("visit", start=NINE, attendee=GRACE, metadata={"paid": True}, idempotency_key="k")
    with pytest.raises(IdempotencyConflict):
        acme.book("visit", start=NINE, attendee=GRACE, metadata={"paid": 1}, idempotency_key="k")
    assert acme.book("visit", start=NINE, attendee=GRACE, metadata={"paid": True}, idempotency_key="k") == first


def test_a_key_is_remembered_for_months_where_that_is_asked_for_but_not_for_ever(db: Database) -> None:
    clock = SettableClock(NOW)
    with Scheduler(db.app, keys_last=timedelta(days=60), clock=clock) as scheduler:
        scheduler.create_tenant("acme", name="Acme", idempotency_key="k")
        clock.move(timedelta(days=59))
        assert scheduler.create_tenant("acme", name="Acme", idempotency_key="k").id == "acme"
    for wrong in (timedelta(), timedelta(days=367), 60):
        with pytest.raises(InvalidInput, match="keys_last: must be a timedelta from a millisecond to 366 days"):
            Scheduler(db.app, keys_last=wrong)  # type: ignore[arg-type]


def test_a_refusal_leaves_no_key(acme: Tenant, db: Database) -> None:
    first = acme.book("visit", start=NINE, attendee=ALAN)
    with pytest.raises(SlotTaken):
        acme.book("visit", start=NINE, attendee=GRACE, idempotency_key="k")
    assert count(db, "idempotency_key") == 0
    acme.cancel(first.id)
    assert acme.book("visit", start=NINE, attendee=GRACE, idempotency_key="k").status == "confirmed"


def test_a_hold_that_was_confirmed_comes_back_to_its_key_as_confirmed(acme: Tenant, clock: SettableClock) -> None:
    hold = acme.place_hold("visit", start=NINE, idempotency_key="k")
    acme.confirm_hold(hold.id, attendee=GRACE)
    clock.move(timedelta(hours=1))
    again = acme.place_hold("visit", start=NINE, idempotency_key="k")
    assert (again.id, again.status, again.expires_at) == (hold.id, "confirmed", hold.expires_at)


def test_what_was_taken_away_since_is_not_found_by_its_key(acme: Tenant) -> None:
    period = BlockedPeriod(start=NINE, end=NINE + HALF)
    made = acme.block("ada", period, idempotency_key="k")
    assert acme.block("ada", period, idempotency_key="k") == made
    acme.unblock(str(made.id))
    with pytest.raises(BlockedPeriodNotFound):
        acme.block("ada", period, idempotency_key="k")


def test_what_is_nested_too_deeply_is_refused_by_its_name(acme: Tenant) -> None:
    deep: dict[str, Any] = {}
    for _ in range(50):
        deep = {"x": deep}
    with pytest.raises(InvalidInput, match="must not be nested more than 50 deep") as caught:
        acme.book("visit", start=NINE, attendee=GRACE, metadata=deep, idempotency_key="k")
    assert caught.value.field == "metadata"
    own: dict[str, Any] = {"text": "brackets in a text {[{[ count for nothing"}
    assert acme.book("visit", start=NINE, attendee=GRACE, metadata=own, idempotency_key="k").metadata == own
    own["itself"] = own
    with pytest.raises(InvalidInput, match="nested too deeply"):
        acme.book("visit", start=NINE, attendee=GRACE, answers=own, idempotency_key="k2")


def test_each_tenant_has_keys_of_its_own(scheduler: Scheduler, acme: Tenant, db: Database) -> None:
    other = scheduler.create_tenant("other", name="Other")
    other.save_host(Host(slug="ada", timezone="UTC"))
    acme.archive_host("ada", idempotency_key="k")
    assert (acme.host("ada").archived, other.host("ada").archived) == (True, False)
    other.archive_host("ada", idempotency_key="k")
    assert other.host("ada").archived
    assert rows(db, "SELECT tenant_id, key FROM nxsched.idempotency_key ORDER BY 1") == [("acme", "k"), ("other", "k")]


def test_a_key_is_forgotten_after_its_time_and_may_be_taken_over(
    acme: Tenant, db: Database, clock: SettableClock
) -> None:
    first = acme.book("visit", start=NINE + timedelta(days=2), attendee=GRACE, idempotency_key="k")
    clock.move(timedelta(days=1) - timedelta(microseconds=1))
    assert acme.book("visit", start=NINE + timedelta(days=2), attendee=GRACE, idempotency_key="k") == first
    clock.move(timedelta(microseconds=1))
    second = acme.book("visit", start=NINE + timedelta(days=3), attendee=GRACE, idempotency_key="k")
    assert second.id != first.id
    assert acme.book("visit", start=NINE + timedelta(days=3), attendee=GRACE, idempotency_key="k") == second
    clock.move(timedelta(days=1))
    assert acme.sweep().keys == 1
    assert count(db, "idempotency_key") == 0


def test_how_long_a_key_is_remembered_can_be_chosen(db: Database, acme: Tenant) -> None:
    with Scheduler(db.app, keys_last=timedelta(minutes=5), clock=SettableClock(NOW)) as scheduler:
        scheduler.tenant(acme.id).archive_host("ada", idempotency_key="k")
    assert rows(db, "SELECT expires_at - created_at FROM nxsched.idempotency_key") == [(timedelta(minutes=5),)]


def test_two_that_arrive_together_give_one_booking(acme: Tenant, db: Database) -> None:
    assert acme.id == "acme"
    for n in range(10):
        found: list[Booking | NxschedError] = []
        barrier = threading.Barrier(4)

        def book(n: int = n, found: list[Any] = found, barrier: threading.Barrier = barrier) -> None:
            with Scheduler(db.app, clock=SettableClock(NOW)) as scheduler:
                tenant = scheduler.tenant("acme")
                barrier.wait(timeout=60)
                start = NINE + n * HALF
                found.append(tenant.book("visit", start=start, attendee=GRACE, idempotency_key=f"k{n}"))

        threads = [threading.Thread(target=book) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 4
        assert len({one.id for one in found if isinstance(one, Booking)}) == 1
    assert count(db, "booking") == 10
    assert_sound(db)


def test_every_write_takes_a_key(scheduler: Scheduler, acme: Tenant, db: Database) -> None:
    hold = acme.place_hold("visit", start=NINE)
    other = acme.place_hold("visit", start=NINE + HALF)
    booking = acme.book("visit", start=NINE + 2 * HALF, attendee=GRACE)
    period = BlockedPeriod(start=NINE, end=NINE + HALF)
    blocked = acme.block(None, period)
    busy = [(NINE, NINE + HALF)]
    calls: list[Callable[[str], object]] = [
        lambda key: scheduler.create_tenant("new", name="New", idempotency_key=key).id,
        lambda key: acme.save_details(acme.details(), idempotency_key=key),
        lambda key: acme.save_host(Host(slug="dan", timezone="UTC"), idempotency_key=key),
        lambda key: acme.save_event_type(EventType(slug="new", duration=HALF, hosts=["ada"]), idempotency_key=key),
        lambda key: acme.block("ada", period, idempotency_key=key),
        lambda key: acme.unblock(str(blocked.id), idempotency_key=key),
        lambda key: acme.replace_busy(
            "ada", source="x", start=NINE, end=NINE + HALF, periods=busy, idempotency_key=key
        ),
        lambda key: acme.place_hold("any", start=NINE + HALF * 8, idempotency_key=key),
        lambda key: acme.confirm_hold(hold.id, attendee=GRACE, idempotency_key=key),
        lambda key: acme.release_hold(other.id, idempotency_key=key),
        lambda key: acme.cancel(booking.id, reason="ill", idempotency_key=key),
        lambda key: acme.archive_event_type("any", idempotency_key=key),
        lambda key: acme.archive_host("cyd", idempotency_key=key),
    ]
    for n, call in enumerate(calls):
        first = call(f"key-{n}")
        before = count(db, "audit_entry"), count(db, "blocked_period"), count(db, "busy_time")
        assert call(f"key-{n}") == first
        assert (count(db, "audit_entry"), count(db, "blocked_period"), count(db, "busy_time")) == before
    assert count(db, "idempotency_key") == len(calls)
