"""Moves: a booking goes to another start, judged as if it were not there, and stays the same booking."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import create_engine

from nxsched import (
    Actor,
    Booking,
    EventType,
    Host,
    HostGroup,
    InvalidInput,
    InvalidTransition,
    Limit,
    SettableClock,
    SlotTaken,
    SlotUnavailable,
    Tenant,
    WeeklyHours,
)
from nxsched.embedded import APP_ROLE
from store.booked import ALAN, GRACE, STAFF, assert_sound, count, rows, trail
from store.bridged import every_face
from store.conftest import DAY, HALF, HOUR, NINE, Database

HOURS = [WeeklyHours(days="mon-fri", start="09:00", end="17:00")]
ATTENDEE = Actor(role="attendee", id="user-7")
QUARTER = timedelta(minutes=15)


def written(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


@every_face
def test_a_moved_booking_keeps_its_id_its_state_and_its_details(acme: Tenant, db: Database) -> None:
    before = acme.book("visit", start=NINE, attendee=GRACE, metadata={"order": 17}, reference="order-17")
    after = acme.reschedule(before.id, start=NINE + HOUR, reason="The train is late", actor=STAFF)
    assert (after.id, after.uid, after.status) == (before.id, before.uid, "confirmed")
    assert (after.start, after.end) == (NINE + HOUR, NINE + HOUR + HALF)
    assert (after.sequence, after.version) == (1, 2)
    assert (after.attendee, after.metadata, after.reference) == (GRACE, {"order": 17}, "order-17")
    assert acme.booking(before.id) == after
    assert trail(db, before.id) == [(1, "book", "booking.confirmed"), (2, "reschedule", "booking.rescheduled")]
    entry = acme.history(before.id)[1]
    assert (entry.reason, entry.actor) == ("The train is late", STAFF)
    assert entry.changes["start"] == (written(NINE), written(NINE + HOUR))
    payload = rows(db, "SELECT payload FROM nxsched.outbox_event WHERE version = 2")[0][0]
    assert payload["previous"]["start"] == written(NINE)
    assert payload["booking"]["start"] == written(after.start)
    assert_sound(db)


@every_face
def test_the_time_that_was_given_up_is_free_and_the_new_one_is_taken(acme: Tenant, db: Database) -> None:
    booking = acme.book("visit", start=NINE, attendee=GRACE)
    acme.reschedule(booking.id, start=NINE + HOUR)
    assert acme.book("visit", start=NINE, attendee=ALAN).status == "confirmed"
    with pytest.raises(SlotTaken):
        acme.book("visit", start=NINE + HOUR, attendee=ALAN)
    assert count(db, "claim", "active") == 2
    assert_sound(db)


@every_face
def test_a_booking_can_move_into_its_own_time(acme: Tenant, db: Database) -> None:
    acme.save_event_type(EventType(slug="visit", duration=HOUR, step=QUARTER, hosts=["ada"], buffer_after=HALF))
    booking = acme.book("visit", start=NINE, attendee=GRACE)
    for start in (NINE + QUARTER, NINE + HALF, NINE):
        assert start in {slot.start for slot in acme.find_slots("visit", start=NINE, end=NINE + DAY, moving=booking.id)}
        assert acme.reschedule(booking.id, start=start).start == start
    assert acme.booking(booking.id).sequence == 3
    assert_sound(db)


def test_what_is_offered_to_a_move_is_what_it_can_have(acme: Tenant, db: Database) -> None:
    limits = [Limit(per="day", count=2)]
    acme.save_event_type(EventType(slug="visit", duration=HALF, hosts=["ada"], limits=limits))
    acme.book("visit", start=NINE, attendee=GRACE)
    booking = acme.book("visit", start=NINE + HALF, attendee=GRACE)
    assert len(acme.find_slots("visit", start=NINE, end=NINE + DAY)) == 0  # the limit is reached, with it
    offered = [slot.start for slot in acme.find_slots("visit", start=NINE, end=NINE + DAY, moving=booking.id)]
    assert len(offered) == 15
    for start in offered[1:4]:
        assert acme.explain("visit", start=start, moving=booking.id) == []
        acme.reschedule(booking.id, start=start)
    with pytest.raises(SlotTaken):
        acme.reschedule(booking.id, start=NINE)
    with pytest.raises(SlotUnavailable) as caught:
        acme.reschedule(booking.id, start=NINE + timedelta(minutes=7))
    assert "off_grid" in {reason.code for reason in caught.value.reasons}
    assert acme.booking(booking.id).start == offered[3]
    assert_sound(db)


def test_the_same_move_again_changes_nothing(acme: Tenant) -> None:
    booking = acme.book("visit", start=NINE, attendee=GRACE)
    moved = acme.reschedule(booking.id, start=NINE + HOUR)
    assert acme.reschedule(booking.id, start=NINE + HOUR) == moved
    assert acme.reschedule(booking.id, start=NINE + HOUR, idempotency_key="k") == moved
    back = acme.reschedule(booking.id, start=NINE, idempotency_key="back")
    assert acme.reschedule(booking.id, start=NINE, idempotency_key="back") == back
    assert len(acme.history(booking.id)) == 3


def test_a_move_keeps_its_duration_unless_another_is_given(acme: Tenant, db: Database) -> None:
    acme.save_event_type(EventType(slug="visit", duration=HALF, durations=[HOUR], hosts=["ada"]))
    booking = acme.book("visit", start=NINE, attendee=GRACE, duration=HOUR)
    assert acme.reschedule(booking.id, start=NINE + 2 * HOUR).end == NINE + 3 * HOUR
    assert acme.reschedule(booking.id, start=NINE + 2 * HOUR, duration=HALF).end == NINE + 2 * HOUR + HALF
    with pytest.raises(InvalidInput, match="must be one of 30, 60 minutes"):
        acme.reschedule(booking.id, start=NINE, duration=HALF * 3)
    assert_sound(db)


@every_face
def test_what_has_expired_beside_a_booking_does_not_keep_its_time(
    acme: Tenant, db: Database, clock: SettableClock
) -> None:
    acme.save_event_type(EventType(slug="class", duration=HOUR, step=HALF, hosts=["ada"], capacity=3))
    booking = acme.book("class", start=NINE, attendee=GRACE)
    hold = acme.place_hold("class", start=NINE, ttl=timedelta(minutes=10))
    clock.move(timedelta(minutes=10))
    assert NINE + HALF in [
        slot.start for slot in acme.find_slots("class", start=NINE, end=NINE + HOUR, moving=booking.id)
    ]
    assert acme.reschedule(booking.id, start=NINE + HALF).start == NINE + HALF
    assert [one.action for one in acme.history(hold.id)] == ["hold", "expire"]
    assert_sound(db)


@every_face
def test_times_are_compared_as_instants_whatever_zone_they_are_given_in(acme: Tenant, db: Database) -> None:
    """In a zone of theirs, Python adds and compares by the wall: an hour is lost when clocks go forward."""
    london = ZoneInfo("Europe/London")
    always = [WeeklyHours(days="mon-sun", start="00:00", end="24:00")]
    acme.save_host(Host(slug="ada", timezone="Europe/London", weekly_hours=always))
    acme.save_event_type(EventType(slug="visit", duration=HOUR, durations=[2 * HOUR], step=HALF, hosts=["ada"]))
    before = datetime(2026, 3, 29, 0, 30, tzinfo=london)
    booking = acme.book("visit", start=before, attendee=GRACE)
    longer = acme.reschedule(booking.id, start=before, duration=2 * HOUR)
    assert longer.end - longer.start == 2 * HOUR
    for start in (before, before.astimezone(UTC)):
        assert acme.reschedule(booking.id, start=start) == longer
    twice = datetime(2026, 10, 25, 1, 30, tzinfo=london)
    other = acme.book("visit", start=twice, attendee=GRACE)
    assert acme.reschedule(other.id, start=twice) == other
    assert acme.reschedule(other.id, start=twice.replace(fold=1)).start == other.start + HOUR
    assert_sound(db)


@every_face
def test_who_has_more_seats_than_there_are_now_is_offered_no_move(acme: Tenant) -> None:
    acme.save_event_type(EventType(slug="class", duration=HALF, hosts=["ada"], capacity=3))
    booking = acme.book("class", start=NINE, attendee=GRACE, seats=3)
    acme.save_event_type(EventType(slug="class", duration=HALF, hosts=["ada"], capacity=2))
    for call in (
        lambda: acme.find_slots("class", start=NINE, end=NINE + DAY, moving=booking.id),
        lambda: acme.explain("class", start=NINE + HOUR, moving=booking.id),
        lambda: acme.reschedule(booking.id, start=NINE + HOUR),
        lambda: acme.reschedule(booking.id, start=NINE + HOUR, force=True),
    ):
        with pytest.raises(InvalidInput) as caught:
            call()
        assert (caught.value.field, caught.value.reason) == (
            "seats", "the booking has 3, and its event type gives 2 at most now: book it anew"
        )  # fmt: skip


@every_face
def test_a_booking_whose_duration_is_not_offered_any_more_is_moved_with_another(acme: Tenant) -> None:
    booking = acme.book("visit", start=NINE, attendee=GRACE)
    acme.save_event_type(EventType(slug="visit", duration=HOUR, hosts=["ada"]))
    for call in (
        lambda: acme.find_slots("visit", start=NINE, end=NINE + DAY, moving=booking.id),
        lambda: acme.explain("visit", start=NINE, moving=booking.id),
        lambda: acme.reschedule(booking.id, start=NINE + HOUR),
    ):
        with pytest.raises(InvalidInput) as caught:
            call()
        assert caught.value.field == "duration"
        assert caught.value.reason == (
            "has to be given, for the one that the booking has is not offered any more: must be 60 minutes, not 30"
        )
    assert acme.explain("visit", start=NINE, moving=booking.id, duration=HOUR) == []
    with pytest.raises(InvalidInput, match=r"^duration: must be 60 minutes, not 90$"):
        acme.reschedule(booking.id, start=NINE, duration=HALF * 3)
    assert acme.reschedule(booking.id, start=NINE, duration=HOUR).end == NINE + HOUR


@every_face
def test_a_move_is_offered_slots_as_long_as_the_booking_unless_asked_for_others(acme: Tenant) -> None:
    acme.save_event_type(EventType(slug="visit", duration=HALF, durations=[HOUR], step=HALF, hosts=["ada"]))
    booking = acme.book("visit", start=NINE, attendee=GRACE, duration=HOUR)
    acme.book("visit", start=NINE + HALF * 3, attendee=ALAN)

    def offered(duration: timedelta | None = None) -> list[datetime]:
        slots = acme.find_slots("visit", start=NINE, end=NINE + HALF * 3, duration=duration, moving=booking.id)
        return [slot.start for slot in slots]

    assert offered() == offered(duration=HOUR) == [NINE, NINE + HALF]
    assert offered(duration=HALF) == [NINE, NINE + HALF, NINE + HOUR]
    assert {one.code for one in acme.explain("visit", start=NINE + HOUR, moving=booking.id)} >= {"busy"}
    assert acme.explain("visit", start=NINE + HOUR, moving=booking.id, duration=HALF) == []


def test_a_move_keeps_its_host_where_it_can_and_else_takes_the_next(acme: Tenant, db: Database) -> None:
    acme.save_host(Host(slug="cyd", timezone="Europe/London", weekly_hours=HOURS))
    acme.save_event_type(EventType(slug="any", duration=HALF, hosts=["ada", "cyd"]))
    booking = acme.book("any", start=NINE, attendee=GRACE, host="cyd")
    moved = acme.reschedule(booking.id, start=NINE + HOUR)
    assert (moved.hosts, moved.assigned_because) == (("cyd",), "held it before")
    acme.book("any", start=NINE + 2 * HOUR, attendee=GRACE, host="cyd")
    assert acme.reschedule(booking.id, start=NINE + 2 * HOUR).hosts == ("ada",)
    assert acme.reschedule(booking.id, start=NINE + 3 * HOUR, host="cyd").hosts == ("cyd",)
    assert_sound(db)


def test_all_hosts_move_or_none(acme: Tenant, db: Database) -> None:
    acme.save_host(Host(slug="room", timezone="Europe/London", weekly_hours=HOURS))
    both = [HostGroup(members=["ada"]), HostGroup(members=["room"])]
    acme.save_event_type(EventType(slug="talk", duration=HALF, hosts=both))
    acme.save_event_type(EventType(slug="room", duration=HALF, hosts=["room"]))
    booking = acme.book("talk", start=NINE, attendee=GRACE)
    acme.book("room", start=NINE + HOUR, attendee=ALAN)
    with pytest.raises(SlotTaken):
        acme.reschedule(booking.id, start=NINE + HOUR)
    with pytest.raises(SlotTaken):
        acme.book("visit", start=NINE, attendee=ALAN)
    assert acme.reschedule(booking.id, start=NINE + 2 * HOUR).hosts == ("ada", "room")
    assert_sound(db)


def test_an_attendee_of_a_class_moves_alone(acme: Tenant, db: Database) -> None:
    acme.save_event_type(EventType(slug="yoga", duration=HOUR, capacity=3, hosts=["ada"]))
    stays = acme.book("yoga", start=NINE, attendee=GRACE)
    goes = acme.book("yoga", start=NINE, attendee=ALAN, seats=2)
    there = acme.book("yoga", start=NINE + HOUR, attendee=GRACE)
    acme.reschedule(goes.id, start=NINE + HOUR)
    assert acme.booking(stays.id).start == NINE
    offered = {slot.start: slot.seats_left for slot in acme.find_slots("yoga", start=NINE, end=NINE + DAY)}
    assert (offered[NINE], NINE + HOUR in offered) == (2, False)
    assert_sound(db)
    with pytest.raises(SlotTaken):
        acme.reschedule(stays.id, start=NINE + HOUR)
    acme.reschedule(there.id, start=NINE)
    acme.reschedule(goes.id, start=NINE + 3 * HOUR)
    assert acme.explain("visit", start=NINE + HOUR) == []  # nobody is there any more
    assert_sound(db)


def test_a_pending_booking_moves_with_its_end(acme: Tenant, db: Database) -> None:
    acme.save_event_type(EventType(slug="visit", duration=HALF, hosts=["ada"], requires_approval=True))
    booking = acme.book("visit", start=NINE, attendee=GRACE)
    moved = acme.reschedule(booking.id, start=NINE + HOUR)
    assert (moved.status, moved.expires_at) == ("pending", NINE + HOUR)
    assert acme.approve(booking.id).status == "confirmed"
    assert_sound(db)


def test_a_booking_of_an_archived_event_type_stays_where_it_is(acme: Tenant) -> None:
    booking = acme.book("visit", start=NINE, attendee=GRACE)
    acme.archive_event_type("visit")
    with pytest.raises(SlotUnavailable, match="cannot be moved"):
        acme.reschedule(booking.id, start=NINE + HOUR)


def test_staff_can_move_past_the_rules_and_never_into_another_booking(acme: Tenant, db: Database) -> None:
    booking = acme.book("visit", start=NINE, attendee=GRACE)
    acme.book("visit", start=NINE + HOUR, attendee=ALAN)
    night = NINE + 12 * HOUR
    assert acme.reschedule(booking.id, start=night, force=True, actor=STAFF).start == night
    with pytest.raises(SlotTaken):
        acme.reschedule(booking.id, start=NINE + HOUR, force=True, actor=STAFF)
    assert_sound(db)


@every_face
def test_what_cannot_be_moved_there_has_no_slots_to_go_to(acme: Tenant, clock: SettableClock) -> None:
    booking = acme.book("visit", start=NINE, attendee=GRACE)
    hold = acme.place_hold("any", start=NINE + HOUR, ttl=HOUR)
    span: dict[str, Any] = {"start": NINE, "end": NINE + DAY}
    with pytest.raises(InvalidInput, match='is a booking of "visit", not of "any"') as caught:
        acme.find_slots("any", moving=booking.id, **span)
    assert caught.value.field == "moving"
    with pytest.raises(InvalidInput):
        acme.explain("any", start=NINE, moving=booking.id)
    for status, kind, id_ in (("held", "any", hold.id), ("cancelled", "visit", acme.cancel(booking.id).id)):
        with pytest.raises(InvalidTransition) as refused:
            acme.find_slots(kind, moving=id_, **span)
        assert (refused.value.from_status, refused.value.to_status) == (status, "rescheduled")
    clock.move(2 * HOUR)
    with pytest.raises(InvalidTransition) as refused:
        acme.explain("any", start=NINE + 3 * HOUR, moving=hold.id)
    assert refused.value.from_status == "expired"


@every_face
def test_a_request_is_not_forced_into_the_past_where_it_would_be_over(
    acme: Tenant, db: Database, clock: SettableClock
) -> None:
    acme.save_event_type(EventType(slug="ask", duration=HALF, hosts=["bob"], requires_approval=True))
    request = acme.book("ask", start=NINE + 4 * HOUR, attendee=GRACE)
    clock.move(2 * HOUR)
    for start in (NINE, NINE + HOUR):  # an hour ago, and just now
        with pytest.raises(SlotUnavailable, match="approve it first") as caught:
            acme.reschedule(request.id, start=start, force=True, actor=STAFF)
        assert (caught.value.start, [one.code for one in caught.value.reasons]) == (start, ["past"])
    assert acme.booking(request.id) == request
    acme.approve(request.id)
    assert acme.reschedule(request.id, start=NINE, force=True, actor=STAFF).status == "confirmed"
    assert_sound(db)


def test_many_move_to_one_slot_and_one_arrives(acme: Tenant, db: Database) -> None:
    ones = [acme.book("visit", start=NINE + n * HALF, attendee=GRACE) for n in range(6)]
    ready = threading.Barrier(len(ones))

    def move(one: Booking) -> bool:
        ready.wait()
        try:
            acme.reschedule(one.id, start=NINE + 4 * HOUR)
        except SlotTaken:
            return False
        return True

    with ThreadPoolExecutor(len(ones)) as pool:
        assert sum(pool.map(move, ones)) == 1
    assert count(db, "claim", "active") == len(ones)
    assert_sound(db)


def test_two_swap_their_classes_again_and_again(acme: Tenant, db: Database) -> None:
    acme.save_event_type(EventType(slug="yoga", duration=HOUR, capacity=2, hosts=["ada"]))
    ones = [acme.book("yoga", start=NINE + n * HOUR, attendee=GRACE) for n in range(2)]

    def wander(one: Booking) -> None:
        for n in range(10):
            acme.reschedule(one.id, start=NINE + (n % 3) * HOUR)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(wander, ones))
    assert_sound(db)


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_a_move_within_the_applications_transaction_goes_with_it(acme: Tenant, db: Database, isolation: str) -> None:
    booking = acme.book("visit", start=NINE, attendee=GRACE)
    acme.book("visit", start=NINE + HALF, attendee=ALAN)
    engine = create_engine(db.url(APP_ROLE), isolation_level=isolation)
    try:
        with engine.connect() as connection:
            with pytest.raises(SlotTaken):
                acme.reschedule(booking.id, start=NINE + HALF, within=connection)
            acme.reschedule(booking.id, start=NINE + HOUR, within=connection)
            assert acme.booking(booking.id, within=connection).start == NINE + HOUR
            connection.rollback()
            assert acme.booking(booking.id) == booking
            acme.reschedule(booking.id, start=NINE + HOUR, within=connection)
            connection.commit()
    finally:
        engine.dispose()
    assert acme.booking(booking.id).start == NINE + HOUR
    assert_sound(db)
