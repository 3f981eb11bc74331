"""Whose turn it is, on the database: what is counted, in which period, and what others do meanwhile (rule 29)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from nxsched import (
    Actor,
    BlockedPeriod,
    Booking,
    EventType,
    Host,
    HostGroup,
    InvalidInput,
    Policies,
    PolicyViolation,
    Scheduler,
    SettableClock,
    SlotTaken,
    Strategy,
    Tenant,
    WeeklyHours,
)
from nxsched.domain.periods import Period
from nxsched.domain.strategies import By
from store.booked import ALAN, GRACE, assert_sound
from store.conftest import DAY, HALF, HOUR, NINE, NOW, Database
from store.recording import recorded
from store.test_waiting import PATIENCE, beside

MINUTE = timedelta(minutes=1)
KINDS: tuple[By, ...] = ("least_recently_booked", "fewest_bookings", "weighted", "priority")
THREE = ("ada", "bob", "cyd")


@pytest.fixture
def scheduler(db: Database, clock: SettableClock) -> Iterator[Scheduler]:
    """A scheduler that waits as long as a busy machine needs."""
    with Scheduler(db.app, worker_url=db.worker, clock=clock, lock_timeout=PATIENCE) as found:
        yield found


def pool(tenant: Tenant, strategy: Strategy | By, *hosts: str, slug: str = "pool", **more: Any) -> None:
    tenant.save_event_type(EventType(slug=slug, duration=HALF, hosts=hosts or THREE, strategy=strategy, **more))


def booked(tenant: Tenant, clock: SettableClock, times: int, start: datetime = NINE) -> str:
    """The initials of who gets bookings one after the other, each at a start at which all are free."""
    found = []
    for n in range(times):
        clock.move(timedelta(seconds=1))
        found.append(tenant.book("pool", start=start + n * HALF, attendee=GRACE).hosts[0][0])
    return "".join(found)


def has(booking: Booking, slug: str = "ada") -> int:
    """How many bookings a host had when a booking was given out, as its reason says."""
    assert booking.assigned_because is not None
    _, _, number = booking.assigned_because.partition(f"{slug} has ")
    return int(number.partition(",")[0].rstrip(")"))


@pytest.mark.parametrize(
    ("strategy", "hosts"),
    [
        ("least_recently_booked", "cabcabca"),
        ("fewest_bookings", "ccabcabc"),
        (Strategy(by="fewest_bookings", per="week"), "ccabcabc"),
        (Strategy(by="weighted", weights={"cyd": 3}), "ccccccccabc"),
        (Strategy(by="weighted", weights={"ada": 4, "bob": 2}), "acaabaac"),
        ("priority", "aaaaaaaa"),
    ],
    ids=str,
)
def test_each_strategy_gives_out_bookings_in_its_way(
    acme: Tenant, clock: SettableClock, strategy: Strategy | By, hosts: str
) -> None:
    """Ada and bob have two bookings of another event type already."""
    for n in (0, 1):
        acme.book("all", start=NINE + DAY + n * HALF, attendee=ALAN)
    pool(acme, strategy)
    assert booked(acme, clock, len(hosts)) == hosts


@pytest.mark.parametrize(
    ("strategy", "because"),
    [
        ("least_recently_booked", "least recently booked of 3 that were free"),
        (
            Strategy(by="fewest_bookings", per="year"),
            "fewest bookings in the year of 3 that were free (ada has 1, bob has 0, cyd has 0)",
        ),
        (
            Strategy(by="weighted", per="day", weights={"bob": 2}),
            "fewest bookings in the day by weight of 3 that were free (ada has 1, bob has 0, cyd has 0)",
        ),
        ("priority", "first in the order of the group of 3 that were free"),
    ],
    ids=str,
)
def test_the_reason_is_kept_with_the_booking(acme: Tenant, strategy: Strategy | By, because: str) -> None:
    acme.book("visit", start=NINE + HOUR, attendee=ALAN)
    pool(acme, strategy)
    booking = acme.book("pool", start=NINE, attendee=GRACE)
    assert booking.assigned_because == because
    assert acme.booking(booking.id) == booking
    assert acme.history(booking.id)[0].changes["assigned_because"] == (None, because)
    hold = acme.place_hold("pool", start=NINE)
    assert hold.assigned_because is not None
    assert acme.confirm_hold(hold.id, attendee=GRACE).assigned_because == hold.assigned_because


@pytest.mark.parametrize("by", KINDS)
def test_whoever_was_asked_for_gets_it_and_it_counts_for_them(acme: Tenant, by: By) -> None:
    pool(acme, by)
    asked = acme.book("pool", start=NINE, attendee=GRACE, host="bob")
    assert (asked.hosts, asked.assigned_because) == (("bob",), "bob was asked for")
    after = acme.book("pool", start=NINE + HALF, attendee=GRACE, host="cyd")
    assert after.hosts == ("cyd",)
    assert acme.book("pool", start=NINE + HOUR, attendee=GRACE).hosts == ("ada",)


@pytest.mark.parametrize("by", KINDS)
def test_a_booking_that_moves_stays_with_its_host_where_they_can(acme: Tenant, by: By) -> None:
    pool(acme, by)
    booking = acme.book("pool", start=NINE, attendee=GRACE, host="cyd")
    moved = acme.reschedule(booking.id, start=NINE + HOUR)
    assert (moved.hosts, moved.assigned_because) == (("cyd",), "held it before")
    acme.block("cyd", BlockedPeriod(start=NINE + 2 * HOUR, end=NINE + 3 * HOUR))
    assert acme.reschedule(booking.id, start=NINE + 2 * HOUR).hosts == ("ada",)


def test_a_booking_that_moves_does_not_count_against_who_has_it(acme: Tenant) -> None:
    pool(acme, Strategy(by="fewest_bookings", per="day"), "ada", "bob", "cyd")
    booking = acme.book("pool", start=NINE, attendee=GRACE, host="cyd")
    acme.book("visit", start=NINE + DAY, attendee=GRACE)
    acme.block("cyd", BlockedPeriod(start=NINE + HOUR, end=NINE + 2 * HOUR))
    moved = acme.reschedule(booking.id, start=NINE + HOUR)
    assert moved.assigned_because == "fewest bookings in the day of 2 that were free (ada has 0, bob has 0)"
    assert has(acme.book("pool", start=NINE + 3 * HOUR, attendee=GRACE), "cyd") == 0


def test_each_booking_of_a_series_counts_for_the_next(acme: Tenant) -> None:
    pool(acme, Strategy(by="fewest_bookings", per="week"), "ada", "bob")
    acme.block("ada", BlockedPeriod(start=NINE + DAY, end=NINE + DAY + HOUR))
    acme.block("bob", BlockedPeriod(start=NINE + 2 * DAY, end=NINE + 2 * DAY + HOUR))
    series = acme.book_series("pool", starts=[NINE + n * DAY for n in range(4)], attendee=GRACE)
    assert [one.hosts for one in series] == [("ada",), ("bob",), ("ada",), ("ada",)]
    assert series[3].assigned_because == "has the one before it in the series"
    assert has(acme.book("pool", start=NINE + 4 * DAY, attendee=GRACE)) == 3


def test_what_is_cancelled_declined_released_or_expired_does_not_count(acme: Tenant, clock: SettableClock) -> None:
    pool(acme, "fewest_bookings")
    acme.save_event_type(EventType(slug="audit", duration=HALF, hosts=["ada"], requires_approval=True))
    starts = iter([NINE + n * HALF for n in range(16)])
    acme.place_hold("visit", start=next(starts), ttl=MINUTE)
    released = acme.place_hold("visit", start=next(starts))
    declined = acme.book("audit", start=next(starts), attendee=GRACE)
    cancelled, completed, missed = (acme.book("visit", start=next(starts), attendee=GRACE) for _ in range(3))
    ends: list[Callable[[], object]] = [
        lambda: acme.cancel(cancelled.id),
        lambda: acme.decline(declined.id),
        lambda: acme.release_hold(released.id),
        lambda: clock.move(MINUTE),
    ]
    for left, end in enumerate(ends):
        probe = acme.book("pool", start=NINE + DAY, attendee=GRACE)
        assert has(probe) == 6 - left
        acme.cancel(probe.id)
        end()
    acme.complete(completed.id)
    acme.mark_no_show(missed.id)
    assert has(acme.book("pool", start=NINE + DAY, attendee=GRACE)) == 2


@pytest.mark.parametrize("tidied", [False, True])
def test_a_hold_counts_while_it_stands_whether_it_was_tidied_up_or_not(
    acme: Tenant, scheduler: Scheduler, clock: SettableClock, *, tidied: bool
) -> None:
    pool(acme, "fewest_bookings", "ada", "bob")
    acme.place_hold("visit", start=NINE, ttl=2 * MINUTE)
    clock.move(2 * MINUTE - timedelta(microseconds=1))
    assert acme.book("pool", start=NINE + DAY, attendee=GRACE).hosts == ("bob",)
    clock.move(timedelta(microseconds=1))
    if tidied:
        scheduler.sweep()
    assert acme.book("pool", start=NINE + DAY + HOUR, attendee=GRACE).hosts == ("ada",)


def test_what_is_no_booking_does_not_count(acme: Tenant) -> None:
    pool(acme, "fewest_bookings")
    acme.block("ada", BlockedPeriod(start=NINE, end=NINE + HOUR))
    outside = (NINE + 2 * HOUR, NINE + 3 * HOUR)
    acme.replace_busy("ada", source="cal", start=NOW, end=NOW + DAY, periods=[outside])
    assert has(acme.book("pool", start=NINE + DAY, attendee=GRACE)) == 0


def test_a_class_counts_once_however_many_are_in_it(acme: Tenant) -> None:
    pool(acme, "fewest_bookings", slug="class", capacity=3)
    classes = [acme.book("class", start=NINE, attendee=GRACE) for _ in range(4)]
    assert [one.hosts for one in classes] == [("ada",)] * 3 + [("bob",)]
    assert [one.assigned_because is None for one in classes] == [False, True, True, False]
    pool(acme, "fewest_bookings")
    booking = acme.book("pool", start=NINE + DAY, attendee=GRACE)
    assert (booking.hosts, has(booking), has(booking, "bob")) == (("cyd",), 1, 1)


AUCKLAND: list[tuple[Period, datetime]] = [
    ("day", datetime(2026, 3, 9, 11, tzinfo=UTC)),
    ("week", datetime(2026, 3, 8, 11, tzinfo=UTC)),
    ("month", datetime(2026, 3, 31, 11, tzinfo=UTC)),
    ("year", datetime(2026, 12, 31, 11, tzinfo=UTC)),
]
"""A period, and an instant at which one begins in Auckland, 13 hours before UTC comes to it."""


@pytest.mark.parametrize(("per", "begins"), AUCKLAND)
@pytest.mark.parametrize("by", ["fewest_bookings", "weighted"])
def test_a_period_begins_at_midnight_in_the_time_zone_of_the_event_type(
    acme: Tenant, by: By, per: Period, begins: datetime
) -> None:
    for slug in THREE:
        always = [WeeklyHours(days="mon-sun", start="00:00", end="24:00")]
        acme.save_host(replace(acme.host(slug), weekly_hours=always))
    pool(acme, Strategy(by=by, per=per), timezone="Pacific/Auckland")
    acme.book("visit", start=begins - HALF, attendee=ALAN)
    first = acme.book("pool", start=begins, attendee=GRACE)
    assert (first.hosts, has(first)) == (("bob",), 0)  # of equals, who was booked longest ago
    before = acme.book("pool", start=begins - HALF - HOUR, attendee=GRACE)
    assert (before.hosts, has(before), has(before, "bob")) == (("cyd",), 1, 0)
    after = acme.book("pool", start=begins + HOUR, attendee=GRACE)
    assert (after.hosts, has(after), has(after, "bob")) == (("ada",), 0, 1)


@pytest.mark.parametrize(("per", "begins"), AUCKLAND[:3])
def test_a_period_ends_where_the_next_one_begins(acme: Tenant, per: Period, begins: datetime) -> None:
    for slug in THREE:
        always = [WeeklyHours(days="mon-sun", start="00:00", end="24:00")]
        acme.save_host(replace(acme.host(slug), weekly_hours=always))
    ends = begins + {"day": DAY, "week": 7 * DAY, "month": 30 * DAY + HOUR}[per]  # the clocks go back on 5 April
    pool(acme, Strategy(by="fewest_bookings", per=per), timezone="Pacific/Auckland")
    acme.book("visit", start=ends, attendee=ALAN)
    assert has(acme.book("pool", start=begins, attendee=GRACE)) == 0
    acme.book("visit", start=ends - HALF, attendee=ALAN)
    assert has(acme.book("pool", start=begins + HOUR, attendee=GRACE)) == 1


def test_without_a_time_zone_of_its_own_an_event_type_counts_in_that_of_its_first_host(acme: Tenant) -> None:
    for slug in THREE:
        always = [WeeklyHours(days="mon-sun", start="00:00", end="24:00")]
        acme.save_host(replace(acme.host(slug), weekly_hours=always))
    pool(acme, Strategy(by="fewest_bookings", per="month"))
    june = datetime(2026, 6, 30, 22, tzinfo=UTC)
    acme.book("visit", start=june + HOUR, attendee=ALAN)  # midnight in London, where it is summer
    assert has(acme.book("pool", start=june, attendee=GRACE)) == 0
    assert has(acme.book("pool", start=june + DAY, attendee=GRACE)) == 1


@pytest.mark.parametrize("per", ["day", "week", "month", "year"])
@pytest.mark.parametrize("by", KINDS)
def test_a_strategy_is_read_back_as_it_was_given(acme: Tenant, by: By, per: Period) -> None:
    weights = {"ada": 1, "bob": 1000} if by == "weighted" else {}
    given = EventType(
        slug="pool", duration=HALF, hosts=THREE, strategy=Strategy(by=by, per=per, weights=weights), location="Room 4"
    )
    acme.save_event_type(given)
    assert acme.event_type("pool") == given
    assert given in acme.event_types()
    acme.save_event_type(replace(given, strategy="priority"))
    assert acme.event_type("pool").chosen_by == Strategy(by="priority")
    acme.save_event_type(replace(given, strategy=Strategy()))
    assert acme.event_type("pool").chosen_by == Strategy()


def test_a_strategy_that_cannot_be_is_refused_and_changes_nothing(acme: Tenant) -> None:
    pool(acme, Strategy(by="weighted", weights={"cyd": 2}))
    before = acme.event_type("pool")
    attempts: list[tuple[Callable[[], Any], str]] = [
        (lambda: replace(before, strategy="at_random"), "strategy"),  # type: ignore[arg-type]
        (lambda: replace(before, hosts=["ada", "bob"]), "strategy.weights.cyd"),
        (lambda: replace(before, strategy=Strategy(by="weighted", weights={"cyd": 1001})), "weights.cyd"),
        (lambda: replace(before, strategy=Strategy(by="weighted", weights={"cyd": 0})), "weights.cyd"),
        (lambda: replace(before, strategy=Strategy(by="weighted", weights={"cyd": True})), "weights.cyd"),
        (lambda: replace(before, strategy=Strategy(by="priority", weights={"cyd": 1})), "weights"),
    ]
    for attempt, field in attempts:
        with pytest.raises(InvalidInput) as caught:
            acme.save_event_type(attempt())
        assert caught.value.field == field
    assert acme.event_type("pool") == before


def at_once(db: Database, clock: SettableClock, calls: list[tuple[str, datetime]]) -> list[Booking]:
    """Book all of it, eight at a time, each with connections of its own."""

    def book(call: tuple[str, datetime]) -> Booking:
        with Scheduler(db.app, clock=clock, lock_timeout=PATIENCE) as other:
            return other.tenant("acme").book(call[0], start=call[1], attendee=GRACE)

    with ThreadPoolExecutor(8) as executor:
        return list(executor.map(book, calls))


@pytest.mark.parametrize("per", ["day", "year"])
def test_many_who_book_a_pool_at_once_leave_it_even(
    acme: Tenant, db: Database, clock: SettableClock, per: Period
) -> None:
    pool(acme, Strategy(by="fewest_bookings", per=per))
    found = at_once(db, clock, [("pool", NINE + n * HALF) for n in range(15)])
    assert Counter(one.hosts for one in found) == {(slug,): 5 for slug in THREE}
    assert_sound(db)


def test_pools_of_two_event_types_that_share_their_hosts_count_each_others_bookings(
    acme: Tenant, db: Database, clock: SettableClock
) -> None:
    pool(acme, "fewest_bookings")
    pool(acme, "fewest_bookings", "cyd", "bob", "ada", slug="other")
    found = at_once(db, clock, [(("pool", "other")[n % 2], NINE + n * HALF) for n in range(15)])
    assert Counter(one.hosts for one in found) == {(slug,): 5 for slug in THREE}
    assert_sound(db)


def test_many_who_book_a_weighted_pool_at_once_get_the_shares_of_the_weights(
    acme: Tenant, db: Database, clock: SettableClock
) -> None:
    pool(acme, Strategy(by="weighted", weights={"ada": 3}))
    found = at_once(db, clock, [("pool", NINE + n * HALF) for n in range(15)])
    assert Counter(one.hosts for one in found) == {("ada",): 9, ("bob",): 3, ("cyd",): 3}


@pytest.mark.parametrize("by", KINDS)
def test_where_the_chosen_one_is_taken_meanwhile_the_next_one_is_booked_in_the_same_call(
    acme: Tenant, db: Database, by: By
) -> None:
    pool(acme, by)
    with db.app.connect() as theirs:
        acme.book("visit", start=NINE, attendee=ALAN, within=theirs)
        with beside(db, lambda: acme.book("pool", start=NINE, attendee=GRACE)) as told:
            theirs.commit()
    (booking,) = told
    assert booking.hosts == ("bob",)
    assert "of 2 that were free" in booking.assigned_because
    assert_sound(db)


@pytest.mark.parametrize("by", KINDS)
def test_where_the_others_give_up_the_chosen_one_is_booked(acme: Tenant, db: Database, by: By) -> None:
    pool(acme, by)
    with db.app.connect() as theirs:
        acme.book("visit", start=NINE, attendee=ALAN, within=theirs)
        with beside(db, lambda: acme.book("pool", start=NINE, attendee=GRACE)) as told:
            theirs.rollback()
    assert told[0].hosts == ("ada",)
    assert "of 3 that were free" in told[0].assigned_because


@pytest.mark.parametrize("by", ["fewest_bookings", "weighted"])
def test_a_booking_of_one_host_that_is_not_committed_yet_is_not_counted(acme: Tenant, db: Database, by: By) -> None:
    """It takes no lock: the pool does not wait for it, and misses it. The next one sees it."""
    pool(acme, by, "ada", "bob")
    with db.app.connect() as theirs:
        acme.book("visit", start=NINE + HOUR, attendee=ALAN, within=theirs)
        missed = acme.book("pool", start=NINE, attendee=GRACE)
        theirs.commit()
    assert (missed.hosts, has(missed)) == (("ada",), 0)
    seen = acme.book("pool", start=NINE + 3 * HOUR, attendee=GRACE)
    assert (seen.hosts, has(seen)) == (("bob",), 2)


@pytest.mark.parametrize("by", KINDS)
def test_a_pool_of_which_nobody_is_left_is_taken(acme: Tenant, by: By) -> None:
    pool(acme, by)
    assert {acme.book("pool", start=NINE, attendee=GRACE).hosts for _ in THREE} == {(slug,) for slug in THREE}
    with pytest.raises(SlotTaken):
        acme.book("pool", start=NINE, attendee=GRACE)


def test_a_booking_of_a_pool_takes_as_many_statements_by_every_strategy(acme: Tenant, scheduler: Scheduler) -> None:
    many = [f"h{n:03}" for n in range(100)]
    hours = [WeeklyHours(days="mon-fri", start="09:00", end="17:00")]
    with scheduler.engine.begin() as within:
        for slug in many:
            acme.save_host(Host(slug=slug, timezone="Europe/London", weekly_hours=hours), within=within)
    counts = {}
    for day, by in enumerate(KINDS):
        groups = [HostGroup(members=many[:50]), HostGroup(members=many[50:], need=2)]
        acme.save_event_type(EventType(slug="pool", duration=HALF, hosts=groups, strategy=by))
        for hour in range(3):
            with recorded(scheduler.engine) as found:
                acme.book("pool", start=NINE + day * DAY + hour * HOUR, attendee=GRACE)
            counts[by, hour] = len(found)
    assert set(counts.values()) == {5}, counts


def test_a_policy_on_attendees_and_a_strategy_are_counted_together(acme: Tenant) -> None:
    pool(acme, "fewest_bookings", "ada", "bob", policies=Policies(most_upcoming=3))
    book = partial(acme.book, "pool", attendee=GRACE, actor=Actor(role="attendee", id="user-7"))
    found = [book(start=NINE + n * HALF) for n in range(3)]
    assert [one.hosts for one in found] == [("ada",), ("bob",), ("ada",)]
    with pytest.raises(PolicyViolation):
        book(start=NINE + 2 * HOUR)
