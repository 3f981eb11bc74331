"""The story of bookings as an application tests it, with what nxsched gives applications for their tests."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from nxsched import (
    Actor,
    AsyncScheduler,
    HoldExpired,
    InvalidToken,
    Policies,
    PolicyViolation,
    Scheduler,
    SettableClock,
    SlotTaken,
    SlotUnavailable,
)
from nxsched.testing import (
    NOW,
    Database,
    a_host,
    an_attendee,
    an_event_type,
    assert_events,
    async_furnish,
    async_recorded_events,
    furnish,
    recorded_events,
)

HOUR = timedelta(hours=1)
HALF = timedelta(minutes=30)
NINE = NOW + HOUR


def test_a_slot_is_found_held_paid_for_and_booked(nxsched_scheduler: Scheduler) -> None:
    acme = furnish(nxsched_scheduler.create_tenant("acme", name="Acme"))
    slot = acme.find_slots("visit", start=NOW, end=NOW + 24 * HOUR, limit=1)[0]
    assert slot.start == NINE
    hold = acme.place_hold("visit", start=slot.start)
    with pytest.raises(SlotTaken):
        acme.book("visit", start=slot.start, attendee=an_attendee("Henry"))
    booking = acme.confirm_hold(hold.id, attendee=an_attendee())
    assert_events(recorded_events(acme, booking.id), "booking.held", "booking.confirmed", status="confirmed")


def test_a_hold_ends_when_the_clock_says_so(nxsched_scheduler: Scheduler, nxsched_clock: SettableClock) -> None:
    acme = furnish(nxsched_scheduler.create_tenant("acme", name="Acme"))
    hold = acme.place_hold("visit", start=NINE, ttl=timedelta(minutes=10))
    nxsched_clock.move(timedelta(minutes=10))
    with pytest.raises(HoldExpired):
        acme.confirm_hold(hold.id, attendee=an_attendee())
    assert acme.book("visit", start=NINE, attendee=an_attendee("Henry")).status == "confirmed"
    assert nxsched_scheduler.sweep().holds == 0  # whoever wanted its time has ended it
    assert_events(recorded_events(acme, hold.id), "booking.held", "booking.hold_expired")


def test_a_class_is_full_and_who_leaves_makes_room(nxsched_scheduler: Scheduler) -> None:
    acme = furnish(
        nxsched_scheduler.create_tenant("acme", name="Acme"), event_types=[an_event_type("class", capacity=2)]
    )
    first, _ = (acme.book("class", start=NINE, attendee=an_attendee(name)) for name in ("Grace", "Henry"))
    with pytest.raises(SlotUnavailable):
        acme.book("class", start=NINE, attendee=an_attendee("Ida"))
    acme.cancel(first.id)
    assert acme.book("class", start=NINE, attendee=an_attendee("Ida")).hosts == ("ada",)


def test_a_team_moves_gives_away_and_calls_off(nxsched_scheduler: Scheduler) -> None:
    acme = furnish(
        nxsched_scheduler.create_tenant("acme", name="Acme"),
        a_host("ada"),
        a_host("bob"),
        event_types=[an_event_type(hosts=["ada", "bob"])],
    )
    booking = acme.book("visit", start=NINE, attendee=an_attendee())
    acme.reschedule(booking.id, start=NINE + HOUR)
    acme.reassign(booking.id, host="bob", reason="Ada is ill")
    acme.cancel(booking.id, reason="Bob is ill too")
    kinds = ("booking.confirmed", "booking.rescheduled", "booking.reassigned", "booking.cancelled")
    assert_events(recorded_events(acme, booking.id), *kinds, hosts=["bob"], sequence=3)
    series = acme.book_series("visit", starts=[NINE + n * 24 * HOUR for n in range(3)], attendee=an_attendee())
    assert len(recorded_events(acme)) == 4 + 3
    assert {one.status for one in acme.cancel_series(series[0].series_id or "")} == {"cancelled"}


def test_an_attendee_helps_themselves_within_the_policies(
    nxsched_scheduler: Scheduler, nxsched_clock: SettableClock
) -> None:
    policies = Policies(cancel_notice=HOUR, most_upcoming=1)
    acme = furnish(nxsched_scheduler.create_tenant("acme", name="Acme"), event_types=[an_event_type(policies=policies)])
    booking = acme.book("visit", start=NINE + HOUR, attendee=an_attendee(reference="user-7"))
    mine = acme.with_token(acme.manage_token(booking.id, expires=NINE + 6 * HOUR))
    assert mine.reschedule(start=NINE + 2 * HOUR).start == NINE + 2 * HOUR
    attendee = Actor(role="attendee", id="user-7")
    with pytest.raises(PolicyViolation):
        acme.book("visit", start=NINE, attendee=an_attendee(reference="user-7"), actor=attendee)
    nxsched_clock.set(NINE + 2 * HOUR - HALF)
    with pytest.raises(PolicyViolation):
        mine.cancel()
    nxsched_clock.set(NINE + 6 * HOUR)
    with pytest.raises(InvalidToken):
        mine.booking()
    assert acme.erase_attendee(reference="user-7") == 1
    assert acme.booking(booking.id).attendee is None


def test_the_same_with_asyncio(nxsched_async_scheduler: AsyncScheduler, nxsched_clock: SettableClock) -> None:
    async def story() -> None:
        acme = await async_furnish(await nxsched_async_scheduler.create_tenant("acme", name="Acme"))

        async def book(name: str) -> str:
            try:
                return (await acme.book("visit", start=NINE, attendee=an_attendee(name))).id
            except SlotTaken as error:
                return error.code

        told = await asyncio.gather(*[book(name) for name in ("Grace", "Henry", "Ida")])
        assert sorted(told)[1:] == ["slot_taken"] * 2
        (won,) = {*told} - {"slot_taken"}
        nxsched_clock.move(HALF)
        await acme.cancel(won, reason="A cold")
        events = await async_recorded_events(acme, won)
        assert_events(events, "booking.confirmed", "booking.cancelled", status="cancelled")
        assert events[-1].payload["reason"] == "A cold"

    asyncio.run(story())


def test_each_test_has_a_database_of_its_own(nxsched_scheduler: Scheduler, nxsched_database: Database) -> None:
    assert nxsched_scheduler.tenants() == []
    with nxsched_database.scheduler() as other:
        other.create_tenant("acme", name="Acme")
    assert [one.id for one in nxsched_scheduler.tenants()] == ["acme"]


def test_what_is_not_as_expected_is_said(nxsched_scheduler: Scheduler) -> None:
    acme = furnish(nxsched_scheduler.create_tenant("acme", name="Acme"))
    assert_events(recorded_events(acme))
    acme.book("visit", start=NINE, attendee=an_attendee())
    found = recorded_events(acme)
    with pytest.raises(AssertionError, match=r"expected the events none; there are booking\.confirmed"):
        assert_events(found)
    with pytest.raises(AssertionError, match="expected status to be 'held', and it is 'confirmed'"):
        assert_events(found, "booking.confirmed", status="held")
    with pytest.raises(AssertionError, match="has no 'colour'; it has answers, assigned_because"):
        assert_events(found, "booking.confirmed", colour="red")
