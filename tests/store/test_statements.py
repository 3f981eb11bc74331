"""How many statements each action takes: a round trip each, so that none may creep in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial

import pytest

from nxsched import (
    Attendee,
    BlockedPeriod,
    EventType,
    Host,
    HostGroup,
    Limit,
    Scheduler,
    SettableClock,
    SlotTaken,
    Tenant,
    WeeklyHours,
)
from store.conftest import DAY, HALF, HOUR, NINE, NOW
from store.recording import recorded

GRACE = Attendee(name="Grace", email="grace@example.test")
ALAN = Attendee(name="Alan", email="alan@example.test")
MANY = [f"h{n:03}" for n in range(100)]
LIMITS = [Limit(per="day", count=20), Limit(per="week", minutes=6000)]


def statements(scheduler: Scheduler, action: Callable[[], object]) -> int:
    """How many statements an action sends, savepoints apart."""
    with recorded(scheduler.engine) as found:
        action()
    return len(found)


def team(tenant: Tenant, scheduler: Scheduler, members: Sequence[str], capacity: int = 1) -> None:
    """An event type with one of the members that has all features: limits, buffers, blocked and busy time, closures."""
    hours = [WeeklyHours(days="mon-fri", start="09:00", end="17:00")]
    with scheduler.engine.begin() as within:
        for slug in members:
            host = Host(slug=slug, timezone="Europe/London", weekly_hours=hours, limits=LIMITS)
            tenant.save_host(host, within=within)
            lunch = BlockedPeriod(start=NOW + 4 * HOUR, end=NOW + 5 * HOUR)
            tenant.block(slug, lunch, within=within)
            outside = (NOW + 6 * HOUR, NOW + 7 * HOUR)
            tenant.replace_busy(slug, source="cal", start=NOW, end=NOW + DAY, periods=[outside], within=within)
        tenant.block(None, BlockedPeriod(start=(NOW + 2 * DAY).date()), within=within)
        event_type = EventType(
            slug="team",
            duration=HALF,
            durations=[HOUR],
            hosts=[HostGroup(members=members)],
            limits=LIMITS,
            buffer_before=timedelta(minutes=5),
            buffer_after=timedelta(minutes=5),
            capacity=capacity,
        )
        tenant.save_event_type(event_type, within=within)


@pytest.mark.parametrize("members", [MANY[:1], MANY], ids=["1 host", "100 hosts"])
def test_slots_and_explanations_take_three_statements_however_many_hosts_and_features(
    acme: Tenant, scheduler: Scheduler, members: Sequence[str]
) -> None:
    team(acme, scheduler, members)
    booking = acme.book("team", start=NINE, attendee=GRACE)
    acme.place_hold("team", start=NINE + HOUR)
    team(acme, scheduler, members, capacity=3)
    find = partial(acme.find_slots, "team", start=NOW, end=NOW + 7 * DAY)
    assert statements(scheduler, find) == 3
    assert statements(scheduler, lambda: find(duration=HOUR, moving=booking.id, limit=5)) == 3
    assert statements(scheduler, lambda: find(host=members[0], moving=booking.id)) == 3
    assert statements(scheduler, lambda: acme.explain("team", start=NINE)) == 3
    assert statements(scheduler, lambda: acme.explain("team", start=NINE, moving=booking.id, host=members[0])) == 3


def test_a_plain_booking_takes_three_statements_and_a_fourth_with_a_key(acme: Tenant, scheduler: Scheduler) -> None:
    def book(at: int, key: str | None = None) -> int:
        start = NINE + at * HOUR
        return statements(scheduler, lambda: acme.book("visit", start=start, attendee=GRACE, idempotency_key=key))

    assert book(0) == 3
    assert book(1, "key") == 4
    # Again: the tenant, the key, whose it is, the booking.
    assert book(1, "key") == 4


def test_a_booking_of_a_pool_with_limits_and_a_key_and_an_expired_hold_in_the_way_takes_eight_statements(
    acme: Tenant, scheduler: Scheduler, clock: SettableClock
) -> None:
    team(acme, scheduler, MANY[:2])
    for _ in range(2):
        acme.place_hold("team", start=NINE, ttl=timedelta(minutes=1))
    clock.move(timedelta(minutes=2))
    book = statements(scheduler, lambda: acme.book("team", start=NINE, attendee=GRACE, idempotency_key="key"))
    assert book == 8
    hold = statements(scheduler, lambda: acme.place_hold("team", start=NINE, idempotency_key="other"))
    assert hold == 8
    assert {one.status for one in acme.bookings(status=["held", "expired", "confirmed"])} == {
        "held",
        "expired",
        "confirmed",
    }


@pytest.mark.parametrize("capacity", [1, 3])
def test_a_move_in_a_pool_with_limits_and_a_key_and_an_expired_hold_in_the_way_takes_eight_statements(
    acme: Tenant, scheduler: Scheduler, clock: SettableClock, capacity: int
) -> None:
    team(acme, scheduler, MANY[:2], capacity=capacity)
    booking = acme.book("team", start=NINE + HOUR, attendee=GRACE)
    for _ in range(2 * capacity):
        acme.place_hold("team", start=NINE, ttl=timedelta(minutes=1))
    clock.move(timedelta(minutes=2))
    assert statements(scheduler, lambda: acme.reschedule(booking.id, start=NINE, idempotency_key="key")) == 8


def test_a_move_away_from_a_hold_that_is_over_in_the_same_class_takes_eight_statements_too(
    acme: Tenant, scheduler: Scheduler, clock: SettableClock
) -> None:
    team(acme, scheduler, MANY[:2], capacity=3)
    booking = acme.book("team", start=NINE, attendee=GRACE)
    acme.place_hold("team", start=NINE, ttl=timedelta(minutes=1))
    clock.move(timedelta(minutes=1))
    assert statements(scheduler, lambda: acme.reschedule(booking.id, start=NINE + HOUR, idempotency_key="key")) == 8


def test_what_has_expired_beside_a_booking_and_where_it_goes_is_ended_in_the_same_two_statements(
    acme: Tenant, scheduler: Scheduler, clock: SettableClock
) -> None:
    team(acme, scheduler, MANY[:1], capacity=3)
    booking = acme.book("team", start=NINE, attendee=GRACE)
    for start in (NINE, NINE + HOUR):
        acme.place_hold("team", start=start, ttl=timedelta(minutes=1))
    clock.move(timedelta(minutes=1))
    assert statements(scheduler, lambda: acme.reschedule(booking.id, start=NINE + HOUR, idempotency_key="key")) == 8
    assert [one.status for one in acme.bookings(status="expired")] == ["expired"] * 2


def test_an_expired_hold_in_the_way_of_a_plain_booking_takes_four_statements_more(
    acme: Tenant, scheduler: Scheduler, clock: SettableClock
) -> None:
    acme.place_hold("visit", start=NINE, ttl=timedelta(minutes=1))
    clock.move(timedelta(minutes=2))
    assert statements(scheduler, lambda: acme.book("visit", start=NINE, attendee=GRACE)) == 7


def test_a_booking_of_two_hosts_takes_no_more_statements_than_one_of_one(acme: Tenant, scheduler: Scheduler) -> None:
    assert statements(scheduler, lambda: acme.book("all", start=NINE, attendee=GRACE)) == 3


def test_a_slot_that_is_refused_takes_three_statements_and_no_write(acme: Tenant, scheduler: Scheduler) -> None:
    acme.book("visit", start=NINE, attendee=GRACE)
    with recorded(scheduler.engine) as found, pytest.raises(SlotTaken):
        acme.book("visit", start=NINE, attendee=GRACE)
    assert len(found) == 3
    assert not [one for one in found if "INSERT" in one.sql]


def test_holds_and_their_ends_take_few_statements(acme: Tenant, scheduler: Scheduler) -> None:
    def count(action: Callable[[], object]) -> int:
        return statements(scheduler, action)

    assert count(lambda: acme.place_hold("visit", start=NINE)) == 3
    hold, other = (acme.place_hold("visit", start=NINE + n * HOUR) for n in (1, 2))
    assert count(lambda: acme.confirm_hold(hold.id, attendee=GRACE, idempotency_key="key")) == 4
    assert count(lambda: acme.release_hold(other.id, idempotency_key="other")) == 4
    assert count(lambda: acme.cancel(hold.id, idempotency_key="third")) == 4


def test_moves_classes_and_approvals_take_few_statements(
    acme: Tenant, scheduler: Scheduler, clock: SettableClock
) -> None:
    def count(action: Callable[[], object]) -> int:
        return statements(scheduler, action)

    team(acme, scheduler, MANY[:3], capacity=3)
    one = acme.book("team", start=NINE, attendee=GRACE)
    assert count(lambda: acme.book("team", start=NINE, attendee=GRACE, idempotency_key="join")) == 6
    acme.cancel(one.id)
    for_a_minute = acme.place_hold("team", start=NINE, ttl=timedelta(minutes=1))
    clock.move(timedelta(minutes=1))
    assert count(lambda: acme.book("team", start=NINE, attendee=GRACE, idempotency_key="beside one that is over")) <= 8
    assert count(lambda: acme.confirm_hold(for_a_minute.id, attendee=ALAN, if_free=True, idempotency_key="again")) <= 8
    one = acme.bookings(event_type="team", status="confirmed").items[0]
    plain = acme.book("visit", start=NINE, attendee=GRACE)
    assert count(lambda: acme.reschedule(plain.id, start=NINE + HOUR, idempotency_key="plain")) == 5
    assert count(lambda: acme.reschedule(one.id, start=NINE + 2 * HOUR, idempotency_key="moved")) == 6
    acme.save_event_type(EventType(slug="visit", duration=HALF, hosts=["ada"], requires_approval=True, capacity=2))
    for n, action in enumerate((acme.approve, acme.decline)):
        pending = acme.book("visit", start=NINE + (3 + n) * HOUR, attendee=GRACE)
        assert count(lambda: action(pending.id, idempotency_key=pending.id)) == 4  # noqa: B023 - called at once
    acts: list[Callable[..., object]] = [acme.complete, acme.mark_no_show, partial(acme.update, location="Room 7")]
    for n, act in enumerate(acts):
        assert count(lambda: act(plain.id, idempotency_key=str(n))) == 4  # noqa: B023 - called at once


def test_a_hold_that_is_had_again_takes_what_its_booking_takes_and_its_lock(
    acme: Tenant, scheduler: Scheduler, clock: SettableClock
) -> None:
    acme.save_event_type(EventType(slug="team", duration=HALF, hosts=["ada", "bob", "cyd"], limits=LIMITS))
    for event_type, most in (("visit", 5), ("team", 6)):
        hold = acme.place_hold(event_type, start=NINE, ttl=timedelta(minutes=1))
        clock.move(timedelta(minutes=1))
        call = partial(acme.confirm_hold, hold.id, attendee=GRACE, if_free=True)
        assert statements(scheduler, call) <= most


def test_an_action_in_the_applications_transaction_takes_one_statement_more(acme: Tenant, scheduler: Scheduler) -> None:
    with scheduler.engine.begin() as within:
        # The tenant that was set before is put back.
        assert statements(scheduler, lambda: acme.book("visit", start=NINE, attendee=GRACE, within=within)) == 4
        assert statements(scheduler, lambda: acme.find_slots("visit", start=NOW, end=NOW + DAY, within=within)) == 4


def test_what_is_set_up_may_be_read_in_two_statements(acme: Tenant, scheduler: Scheduler) -> None:
    booking = acme.book("visit", start=NINE, attendee=GRACE)
    reads: list[Callable[[], object]] = [
        lambda: acme.booking(booking.id),
        acme.bookings,
        acme.holds,
        lambda: acme.history(booking.id),
        acme.hosts,
        acme.event_types,
        acme.details,
    ]
    assert [statements(scheduler, read) for read in reads] == [2] * len(reads)
