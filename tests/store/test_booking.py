"""Book and cancel: what is promised, on every PostgreSQL."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pendulum
import pytest
from psycopg.types.json import set_json_loads
from sqlalchemy import create_engine, event, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.pool import NullPool

from nxsched import (
    Actor,
    BlockedPeriod,
    Booking,
    BookingNotFound,
    EventType,
    EventTypeNotFound,
    HostGroup,
    InvalidInput,
    InvalidTransition,
    Limit,
    Question,
    Scheduler,
    SettableClock,
    SlotTaken,
    SlotUnavailable,
    Tenant,
    WeeklyHours,
)
from nxsched.embedded import APP_ROLE
from nxsched.store.ground import fetch_ground
from store.booked import ACTS, ALAN, GRACE, STAFF, assert_sound, count, rows, trail
from store.conftest import DAY, HALF, HOUR, NINE, NOW, Database

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
QUARTER = timedelta(minutes=15)


def test_what_is_booked_is_offered_no_more(acme: Tenant) -> None:
    booking = acme.book("visit", start=NINE, attendee=GRACE)
    assert (booking.start, booking.end, booking.hosts, booking.status) == (NINE, NINE + HALF, ("ada",), "confirmed")
    assert acme.find_slots("visit", start=NINE, end=NINE + DAY)[0].start == NINE + HALF
    with pytest.raises(SlotTaken) as caught:
        acme.book("visit", start=NINE, attendee=GRACE)
    assert caught.value.host == "ada"
    assert caught.value.code == "slot_taken"
    assert {reason.id for reason in caught.value.reasons if reason.code == "busy"} == {booking.id}


def test_what_is_offered_is_booked_slot_after_slot_and_nothing_else(acme: Tenant, db: Database) -> None:
    slots = acme.find_slots("visit", start=NINE, end=NINE + DAY)
    assert len(slots) == 16
    for slot in slots:
        assert acme.book("visit", start=slot.start, attendee=GRACE).start == slot.start
    assert len(acme.find_slots("visit", start=NINE, end=NINE + DAY)) == 0
    assert len(acme.bookings().items) == 16
    assert_sound(db)


def test_a_booking_is_read_back_as_it_was_given(acme: Tenant) -> None:
    acme.save_event_type(
        EventType(
            slug="visit",
            duration=HALF,
            hosts=["ada"],
            location="Room 4",
            questions=[Question(key="why", label="Why do you come?", required=True)],
        )
    )
    booking = acme.book(
        "visit",
        start=NINE,
        attendee=GRACE,
        answers={"why": "A cough,\nand a cold."},
        metadata={"order": 17, "tags": ["a", None]},
        reference="order-17",
    )
    assert booking.answers == {"why": "A cough,\nand a cold."}
    assert booking.metadata == {"order": 17, "tags": ["a", None]}
    assert (booking.location, booking.reference, booking.organizer) == ("Room 4", "order-17", "bookings@acme.test")
    assert (booking.sequence, booking.version, booking.uid, booking.created_at) == (0, 1, booking.id, NOW)
    assert acme.booking(booking.id) == booking


def test_a_rule_that_refuses_is_named_with_its_reasons(acme: Tenant) -> None:
    acme.block("ada", BlockedPeriod(start=NINE, end=NINE + HOUR, reason="dentist"))
    with pytest.raises(SlotUnavailable) as caught:
        acme.book("visit", start=NINE, attendee=GRACE)
    assert caught.value.code == "slot_unavailable"
    assert [reason.code for reason in caught.value.reasons] == ["not_enough_hosts", "blocked"]
    assert list(caught.value.reasons) == acme.explain("visit", start=NINE)
    assert "dentist" in str(caught.value)


@pytest.mark.parametrize(
    ("offset", "codes"),
    [
        (-timedelta(hours=2), {"past", "off_grid", "not_enough_hosts", "outside_hours"}),
        (timedelta(minutes=7), {"off_grid"}),
        (timedelta(hours=9), {"off_grid", "not_enough_hosts", "outside_hours"}),
    ],
)
def test_a_start_that_is_not_offered_is_refused(acme: Tenant, offset: timedelta, codes: set[str]) -> None:
    with pytest.raises(SlotUnavailable) as caught:
        acme.book("visit", start=NINE + offset, attendee=GRACE)
    assert {reason.code for reason in caught.value.reasons} == codes


def test_force_skips_the_rules_but_never_the_constraint(acme: Tenant, db: Database) -> None:
    acme.save_event_type(EventType(slug="visit", duration=HALF, hosts=["ada"], limits=[Limit(per="day", count=1)]))
    night = NINE + timedelta(hours=12, minutes=7)
    assert acme.book("visit", start=night, attendee=GRACE, force=True, actor=STAFF).start == night
    assert acme.book("visit", start=night + HALF, attendee=GRACE, force=True).status == "confirmed"
    with pytest.raises(SlotTaken) as caught:
        acme.book("visit", start=night + HALF / 2, attendee=GRACE, force=True)
    assert caught.value.start == night + HALF / 2
    with pytest.raises(SlotUnavailable) as refused:
        acme.book("visit", start=NINE, attendee=GRACE)
    assert [reason.code for reason in refused.value.reasons] == ["event_limit"]
    assert_sound(db)


def test_force_takes_of_a_pool_who_is_able_first(acme: Tenant) -> None:
    acme.block("ada", BlockedPeriod(start=NINE, end=NINE + HOUR))
    assert acme.book("any", start=NINE, attendee=GRACE, force=True).hosts == ("bob",)
    assert acme.book("any", start=NINE, attendee=GRACE, force=True).hosts == ("cyd",)
    assert acme.book("any", start=NINE, attendee=GRACE, force=True).hosts == ("ada",)
    with pytest.raises(SlotTaken):
        acme.book("any", start=NINE, attendee=GRACE, force=True)


def test_force_does_not_bring_back_who_is_archived(acme: Tenant) -> None:
    acme.archive_host("ada")
    with pytest.raises(SlotUnavailable, match="ada") as raised:
        acme.book("visit", start=NINE, attendee=GRACE, force=True)
    assert not isinstance(raised.value, SlotTaken)
    assert acme.book("any", start=NINE, attendee=GRACE, force=True).hosts == ("bob",)
    acme.archive_host("bob")
    acme.archive_host("cyd")
    with pytest.raises(SlotUnavailable) as refused:
        acme.book("any", start=NINE + HOUR, attendee=GRACE, force=True)
    assert not isinstance(refused.value, SlotTaken)
    assert {reason.host for reason in refused.value.reasons} == {None, "ada", "bob", "cyd"}


def test_buffers_of_both_bookings_keep_apart(acme: Tenant) -> None:
    acme.save_event_type(
        EventType(
            slug="visit", duration=HALF, step=HALF / 6, buffer_before=HALF / 3, buffer_after=HALF / 3, hosts=["ada"]
        )
    )
    acme.book("visit", start=NINE, attendee=GRACE)
    offered = [slot.start for slot in acme.find_slots("visit", start=NINE, end=NINE + 2 * HOUR)]
    assert offered[0] == NINE + HALF + 2 * HALF / 3
    with pytest.raises(SlotTaken):
        acme.book("visit", start=offered[0] - HALF / 6, attendee=GRACE)
    assert acme.book("visit", start=offered[0], attendee=GRACE).start == offered[0]


def test_of_a_pool_the_least_recently_booked_is_taken(acme: Tenant, clock: SettableClock) -> None:
    got = []
    for slot in range(6):
        clock.move(timedelta(seconds=1))
        got.append(acme.book("any", start=NINE + slot * HALF, attendee=GRACE))
    assert [one.hosts for one in got] == [("ada",), ("bob",), ("cyd",)] * 2
    assert got[0].assigned_because == "least recently booked of 3 that were free"
    acme.cancel(got[5].id)
    clock.move(timedelta(seconds=1))
    assert acme.book("any", start=NINE + 6 * HALF, attendee=GRACE).hosts == ("cyd",)


def test_the_host_who_is_asked_for_is_taken(acme: Tenant) -> None:
    assert {slot.hosts for slot in acme.find_slots("any", start=NINE, end=NINE + DAY, host="cyd")} == {("cyd",)}
    booking = acme.book("any", start=NINE, attendee=GRACE, host="cyd")
    assert (booking.hosts, booking.assigned_because) == (("cyd",), "cyd was asked for")
    with pytest.raises(SlotTaken) as caught:
        acme.book("any", start=NINE, attendee=GRACE, host="cyd")
    assert caught.value.host == "cyd"
    assert NINE not in [slot.start for slot in acme.find_slots("any", start=NINE, end=NINE + DAY, host="cyd")]
    with pytest.raises(InvalidInput) as refused:
        acme.book("any", start=NINE, attendee=GRACE, host="dan")
    assert refused.value.field == "host"


def test_a_group_is_taken_whole_or_not_at_all(acme: Tenant, db: Database) -> None:
    booking = acme.book("all", start=NINE, attendee=GRACE)
    assert booking.hosts == ("ada", "bob")
    for event_type in ("visit", "all"):
        with pytest.raises(SlotTaken):
            acme.book(event_type, start=NINE, attendee=GRACE)
    acme.book("visit", start=NINE + HALF, attendee=GRACE)
    before = count(db, "claim")
    with pytest.raises(SlotTaken):
        acme.book("all", start=NINE + HALF, attendee=GRACE, force=True)
    assert count(db, "claim") == before
    acme.cancel(booking.id)
    assert acme.book("all", start=NINE, attendee=GRACE).hosts == ("ada", "bob")
    assert_sound(db)


def test_several_groups_give_each_what_it_needs(acme: Tenant) -> None:
    groups = [HostGroup(members=["cyd"]), HostGroup(members=["ada", "bob"], need=1)]
    acme.save_event_type(EventType(slug="two", duration=HALF, hosts=groups))
    assert acme.book("two", start=NINE, attendee=GRACE).hosts == ("cyd", "ada")
    with pytest.raises(SlotTaken):
        acme.book("two", start=NINE, attendee=GRACE)
    assert acme.book("two", start=NINE + HALF, attendee=GRACE, host="ada").hosts == ("cyd", "ada")


def test_two_of_three_are_chosen_in_the_order_of_the_group(acme: Tenant, clock: SettableClock) -> None:
    acme.save_event_type(
        EventType(slug="pair", duration=HALF, hosts=[HostGroup(members=["ada", "bob", "cyd"], need=2)])
    )
    assert acme.book("pair", start=NINE, attendee=GRACE).hosts == ("ada", "bob")
    clock.move(timedelta(seconds=1))
    second = acme.book("pair", start=NINE + HALF, attendee=GRACE)
    assert second.hosts == ("ada", "cyd")
    assert acme.booking(second.id).hosts == ("ada", "cyd")
    clock.move(timedelta(seconds=1))
    third = acme.book("pair", start=NINE + HOUR, attendee=GRACE, host="cyd")
    assert third.hosts == ("bob", "cyd")
    assert third.assigned_because == "cyd was asked for, the rest least recently booked of 2 that were free"


def test_limits_count_what_is_booked_and_not_what_is_cancelled(acme: Tenant) -> None:
    acme.save_event_type(EventType(slug="visit", duration=HALF, hosts=["ada"], limits=[Limit(per="day", count=2)]))
    first = acme.book("visit", start=NINE, attendee=GRACE)
    acme.book("visit", start=NINE + HALF, attendee=GRACE)
    with pytest.raises(SlotUnavailable) as caught:
        acme.book("visit", start=NINE + HOUR, attendee=GRACE)
    assert [reason.code for reason in caught.value.reasons] == ["event_limit"]
    acme.cancel(first.id)
    acme.book("visit", start=NINE + HOUR, attendee=GRACE)
    acme.book("visit", start=NINE + DAY, attendee=GRACE)


def test_a_hosts_own_limit_counts_all_its_event_types(acme: Tenant) -> None:
    acme.save_host(replace(acme.host("ada"), limits=[Limit(per="day", minutes=60)]))
    acme.book("visit", start=NINE, attendee=GRACE)
    acme.book("all", start=NINE + HALF, attendee=GRACE)
    with pytest.raises(SlotUnavailable) as caught:
        acme.book("visit", start=NINE + HOUR, attendee=GRACE)
    assert [reason.code for reason in caught.value.reasons] == ["not_enough_hosts", "host_limit"]
    assert acme.book("any", start=NINE + HOUR, attendee=GRACE).hosts == ("cyd",)


def test_another_duration_can_be_chosen_where_it_is_given(acme: Tenant) -> None:
    acme.save_event_type(EventType(slug="visit", duration=HALF, durations=[HOUR], hosts=["ada"]))
    assert acme.book("visit", start=NINE, attendee=GRACE, duration=HOUR).end == NINE + HOUR
    with pytest.raises(InvalidInput, match="must be one of 30, 60 minutes") as caught:
        acme.book("visit", start=NINE, attendee=GRACE, duration=HALF * 3)
    assert caught.value.field == "duration"


def test_more_seats_than_there_are_cannot_be_asked_for(acme: Tenant) -> None:
    with pytest.raises(InvalidInput, match="must be at most 1, not 2"):
        acme.book("visit", start=NINE, attendee=GRACE, seats=2)


def test_what_needs_approval_is_pending_and_takes_the_time(acme: Tenant, db: Database) -> None:
    acme.save_event_type(EventType(slug="visit", duration=HALF, hosts=["ada"], requires_approval=True))
    booking = acme.book("visit", start=NINE, attendee=GRACE)
    assert (booking.status, booking.expires_at) == ("pending", NINE)
    assert trail(db, booking.id) == [(1, "request", "booking.created")]
    with pytest.raises(SlotTaken):
        acme.book("visit", start=NINE, attendee=GRACE)
    assert acme.cancel(booking.id).status == "cancelled"


@pytest.fixture
def unapproved(acme: Tenant, db: Database, clock: SettableClock) -> Booking:
    """A booking of ada from nine to half past, which nobody has approved; it is five past, and nobody has swept.

    Her `walk` begins whenever it is asked for and takes a quarter of an hour.
    """
    acme.save_event_type(EventType(slug="visit", duration=HALF, hosts=["ada"], requires_approval=True))
    acme.save_event_type(EventType(slug="walk", duration=QUARTER, step=MINUTE, hosts=["ada"]))
    found = acme.book("visit", start=NINE, attendee=GRACE)
    clock.set(NINE - timedelta(microseconds=1))
    assert [reason.code for reason in acme.explain("walk", start=NINE)] == ["not_enough_hosts", "busy"]
    clock.set(NINE + 5 * MINUTE)
    assert rows(db, "SELECT status FROM nxsched.booking") == [("pending",)]
    return found


def test_nobody_is_kept_away_by_what_was_not_approved_before_its_start(
    acme: Tenant, db: Database, clock: SettableClock, unapproved: Booking
) -> None:
    assert acme.find_slots("walk", start=NINE, end=NINE + HOUR)[0].start == NINE + 5 * MINUTE
    assert acme.explain("walk", start=NINE + QUARTER) == []
    assert acme.booking(unapproved.id).status == "expired"
    assert acme.bookings().items == ()
    walk = acme.book("walk", start=NINE + QUARTER, attendee=ALAN)
    assert trail(db, unapproved.id) == [(1, "request", "booking.created"), (2, "expire", "booking.expired")]
    entry = acme.history(unapproved.id)[1]
    assert (entry.actor, entry.at, entry.changes) == (None, clock.now(), {"status": ("pending", "expired")})
    assert acme.sweep().pending == 0
    assert [one.id for one in acme.bookings()] == [walk.id]
    assert_sound(db)


def test_at_its_very_start_the_time_of_what_was_not_approved_is_free(
    acme: Tenant, db: Database, clock: SettableClock, unapproved: Booking
) -> None:
    clock.set(NINE)
    assert acme.find_slots("walk", start=NINE, end=NINE + HOUR)[0].start == NINE
    assert acme.book("walk", start=NINE, attendee=ALAN).status == "confirmed"
    assert acme.booking(unapproved.id).version == 2
    assert_sound(db)


def test_buffers_may_reach_into_what_was_not_approved(acme: Tenant, db: Database, unapproved: Booking) -> None:
    acme.save_event_type(EventType(slug="walk", duration=QUARTER, buffer_before=HALF, hosts=["ada"]))
    start = NINE + HALF
    assert acme.find_slots("walk", start=start, end=start + HOUR)[0].start == start
    assert acme.explain("walk", start=start) == []
    assert acme.book("walk", start=start, attendee=ALAN).start == start
    assert trail(db, unapproved.id)[1:] == [(2, "expire", "booking.expired")]
    assert_sound(db)


@pytest.mark.parametrize("start", [NINE, NINE + timedelta(minutes=20), NINE - timedelta(minutes=20)])
def test_force_takes_the_time_of_what_was_not_approved(
    acme: Tenant, db: Database, unapproved: Booking, start: datetime
) -> None:
    assert acme.book("visit", start=start, attendee=ALAN, force=True).start == start
    assert trail(db, unapproved.id)[1:] == [(2, "expire", "booking.expired")]
    assert count(db, "claim", "active") == 1
    assert_sound(db)


@pytest.mark.parametrize("whose", ["event type", "host"])
def test_no_limit_counts_what_was_not_approved(acme: Tenant, db: Database, unapproved: Booking, whose: str) -> None:
    limits = [Limit(per="day", count=1)]
    if whose == "event type":
        acme.save_event_type(replace(acme.event_type("visit"), limits=limits))
    else:
        acme.save_host(replace(acme.host("ada"), limits=limits))
    start = NINE + HOUR
    assert acme.find_slots("visit", start=start, end=start + HOUR)[0].start == start
    assert acme.explain("visit", start=start) == []
    acme.book("visit", start=start, attendee=ALAN)
    assert rows(db, "SELECT status FROM nxsched.booking WHERE id = :id", id=unapproved.id) == [("pending",)]
    assert acme.sweep().pending == 1
    assert "limit" in acme.explain("visit", start=start + HALF)[-1].code
    assert_sound(db)


def test_a_pool_forgets_what_was_not_approved(acme: Tenant, unapproved: Booking) -> None:
    assert unapproved.hosts == ("ada",)
    assert acme.book("any", start=NINE + HOUR, attendee=ALAN).hosts == ("ada",)


def test_the_sweep_ends_what_was_not_approved_once(acme: Tenant, db: Database, unapproved: Booking) -> None:
    with pytest.raises(InvalidTransition) as caught:
        acme.cancel(unapproved.id)
    assert (caught.value.from_status, caught.value.to_status) == ("expired", "cancelled")
    assert [acme.sweep().pending for _ in range(2)] == [1, 0]
    acme.book("walk", start=NINE + QUARTER, attendee=ALAN)
    assert trail(db, unapproved.id)[1:] == [(2, "expire", "booking.expired")]
    assert rows(db, "SELECT status, expires_at FROM nxsched.booking WHERE id = :id", id=unapproved.id) == [
        ("expired", NINE)
    ]
    assert_sound(db)


@pytest.mark.parametrize("made", ["booked", "held before", "had again"])
def test_what_was_not_approved_is_no_hold_and_no_booking_swept_or_not(
    acme: Tenant, db: Database, clock: SettableClock, made: str
) -> None:
    acme.save_event_type(EventType(slug="visit", duration=HALF, hosts=["ada"], requires_approval=True))
    if made == "booked":
        id_ = acme.book("visit", start=NINE, attendee=GRACE).id
    else:
        id_ = acme.place_hold("visit", start=NINE, ttl=MINUTE).id
        clock.move(MINUTE * (made == "had again"))
        assert acme.confirm_hold(id_, attendee=GRACE, if_free=True).status == "pending"
    clock.set(NINE)
    wanted = {"cancel": "cancelled", "release": "released"}
    for swept in (False, True):
        assert acme.booking(id_).status == "expired"
        with pytest.raises(BookingNotFound):
            acme.hold(id_)
        for name, act in ACTS.items():
            with pytest.raises(InvalidTransition) as caught:
                act(acme, id_)
            told = (caught.value.id, caught.value.from_status, caught.value.to_status)
            assert told == (id_, "expired", wanted.get(name, "confirmed")), (name, swept)
        assert acme.sweep().pending == (not swept)
    assert trail(db, id_)[-1][1:] == ("expire", "booking.expired")
    assert_sound(db)


def test_what_begins_now_can_no_longer_be_approved_and_is_not_offered(acme: Tenant, clock: SettableClock) -> None:
    approved = EventType(slug="visit", duration=HALF, hosts=["ada"], requires_approval=True)
    tick = timedelta(microseconds=1)
    offered = {"approved": [], "plain": []}  # type: dict[str, list[bool]]
    for name, event_type in (("approved", approved), ("plain", replace(approved, requires_approval=False))):
        acme.save_event_type(event_type)
        for now in (NINE - SECOND - tick, NINE - SECOND, NINE - tick, NINE, NINE + tick):
            clock.set(now)
            found = [slot.start for slot in acme.find_slots("visit", start=NINE, end=NINE + HALF)] == [NINE]
            offered[name].append(found)
            assert (acme.explain("visit", start=NINE) == []) is found
            for act in (acme.book, acme.place_hold):
                if found:
                    made = act("visit", start=NINE, attendee=GRACE)
                    assert made.status == (
                        "held" if act == acme.place_hold else "pending" if name == "approved" else "confirmed"
                    )
                    (acme.release_hold if act == acme.place_hold else acme.cancel)(made.id)
                else:
                    with pytest.raises(SlotUnavailable) as caught:
                        act("visit", start=NINE, attendee=GRACE)
                    assert {one.code for one in caught.value.reasons} <= {"past", "notice"}
    assert offered == {"approved": [True, True, False, False, False], "plain": [True, True, True, True, False]}


def test_the_sweep_ends_all_that_is_over_however_much_it_is(acme: Tenant, db: Database, clock: SettableClock) -> None:
    always = [WeeklyHours(days="mon-sun", start="00:00", end="24:00")]
    five = timedelta(minutes=5)
    for slug, host, approval in (("ask", "ada", True), ("hold", "bob", False)):
        acme.save_host(replace(acme.host(host), weekly_hours=always))
        acme.save_event_type(EventType(slug=slug, duration=five, hosts=[host], requires_approval=approval))
    many = 251
    with db.app.begin() as connection:
        for n in range(many):
            acme.book("ask", start=NINE + n * five, attendee=GRACE, within=connection)
            acme.place_hold("hold", start=NINE + n * five, ttl=HOUR, within=connection)
    standing = acme.book("ask", start=NINE + 2 * DAY, attendee=GRACE)
    clock.set(NINE + DAY)
    swept = acme.sweep()
    assert (swept.pending, swept.holds, swept.total) == (many, many, 2 * many)
    assert acme.sweep().total == 0
    ends = rows(
        db,
        "SELECT e.kind, count(*), count(DISTINCT e.booking_id) FROM nxsched.audit_entry a"
        " JOIN nxsched.outbox_event e USING (booking_id, version) WHERE a.action = 'expire' GROUP BY 1 ORDER BY 1",
    )
    assert ends == [("booking.expired", many, many), ("booking.hold_expired", many, many)]
    assert count(db, "claim", "active") == 1
    assert acme.booking(standing.id) == standing
    assert_sound(db)


@pytest.mark.parametrize("offset", [-QUARTER, timedelta()], ids=["begun", "beginning"])
def test_what_is_forced_after_its_start_needs_no_approval(
    acme: Tenant, db: Database, clock: SettableClock, offset: timedelta
) -> None:
    acme.save_event_type(EventType(slug="visit", duration=HALF, hosts=["ada"], requires_approval=True))
    booking = acme.book("visit", start=clock.now() + offset, attendee=GRACE, force=True)
    assert (booking.status, booking.expires_at) == ("confirmed", None)
    assert trail(db, booking.id) == [(1, "book", "booking.confirmed")]
    later = acme.book("visit", start=clock.now() + HOUR, attendee=GRACE, force=True)
    assert (later.status, later.expires_at) == ("pending", clock.now() + HOUR)
    assert_sound(db)


def test_answers_are_checked_before_anything_is_written(acme: Tenant, db: Database) -> None:
    questions = [
        Question(key="why", label="Why?", required=True),
        Question(key="size", label="Size", kind="choice", choices=["S", "L"]),
    ]
    acme.save_event_type(EventType(slug="visit", duration=HALF, hosts=["ada"], questions=questions))
    wrong: list[tuple[dict[str, Any], str]] = [
        ({}, "answers.why"),
        ({"why": ""}, "answers.why"),
        ({"why": 5}, "answers.why"),
        ({"why": "x" * 5_001}, "answers.why"),
        ({"why": "x\x00"}, "answers.why"),
        ({"why": "x", "size": "M"}, "answers.size"),
        ({"why": "x", "colour": "red"}, "answers.colour"),
    ]
    for answers, field in wrong:
        with pytest.raises(InvalidInput) as caught:
            acme.book("visit", start=NINE, attendee=GRACE, answers=answers)
        assert caught.value.field == field
    assert count(db, "booking") == count(db, "claim") == count(db, "audit_entry") == 0
    assert acme.book("visit", start=NINE, attendee=GRACE, answers={"why": "x", "size": "L"}).answers["size"] == "L"


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"start": NINE.replace(tzinfo=None)}, "start"),
        ({"start": NINE + timedelta(microseconds=1)}, "start"),
        ({"start": "tomorrow"}, "start"),
        ({"attendee": "Grace"}, "attendee"),
        ({"seats": 0}, "seats"),
        ({"seats": True}, "seats"),
        ({"host": ""}, "host"),
        ({"duration": 30}, "duration"),
        ({"metadata": {"x": object()}}, "metadata"),
        ({"metadata": {"x": float("nan")}}, "metadata"),
        ({"metadata": {"x": "\x00"}}, "metadata"),
        ({"metadata": {"x": "y" * 20_001}}, "metadata"),
        ({"metadata": []}, "metadata"),
        ({"answers": "no"}, "answers"),
        ({"reference": ""}, "reference"),
        ({"force": 1}, "force"),
        ({"idempotency_key": ""}, "idempotency_key"),
        ({"actor": "nina"}, "actor"),
        ({"within": "here"}, "within"),
    ],
)
def test_an_argument_that_cannot_be_used_is_named(
    acme: Tenant, db: Database, arguments: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        acme.book("visit", **{"start": NINE, "attendee": GRACE, **arguments})
    assert caught.value.field == field
    assert count(db, "booking") == 0


def test_an_unknown_event_type_is_not_found(acme: Tenant) -> None:
    for act in (acme.book, acme.place_hold):
        with pytest.raises(EventTypeNotFound) as caught:
            act("visits", start=NINE, attendee=GRACE)
        assert caught.value.slug == "visits"


def test_any_aware_datetime_is_taken_and_utc_comes_back(acme: Tenant) -> None:
    start = pendulum.instance(NINE).in_timezone("Asia/Tokyo")
    booking = acme.book("visit", start=start, attendee=GRACE)
    assert booking.start == NINE
    assert booking.start.tzinfo is UTC
    assert acme.booking(booking.id).start.tzinfo is UTC
    assert len(acme.find_slots("visit", start=start, end=start.add(days=1))) == 15


def test_a_cancelled_booking_frees_its_time_and_keeps_its_record(acme: Tenant, db: Database) -> None:
    booking = acme.book("visit", start=NINE, attendee=GRACE, actor=STAFF)
    cancelled = acme.cancel(booking.id, reason="ill", actor=STAFF)
    assert (cancelled.status, cancelled.sequence, cancelled.version) == ("cancelled", 1, 2)
    assert acme.booking(booking.id) == cancelled
    assert acme.cancel(booking.id, reason="ill") == cancelled
    assert acme.find_slots("visit", start=NINE, end=NINE + DAY)[0].start == NINE
    assert trail(db, booking.id) == [(1, "book", "booking.confirmed"), (2, "cancel", "booking.cancelled")]
    entry = acme.history(booking.id)[1]
    assert (entry.actor, entry.reason, entry.at) == (STAFF, "ill", NOW)
    assert entry.changes == {"status": ("confirmed", "cancelled"), "sequence": (0, 1)}
    assert acme.book("visit", start=NINE, attendee=ALAN).status == "confirmed"
    assert_sound(db)


def test_what_is_over_cannot_be_cancelled(acme: Tenant) -> None:
    hold = acme.place_hold("visit", start=NINE)
    with pytest.raises(InvalidTransition) as caught:
        acme.cancel(hold.id)
    assert (caught.value.from_status, caught.value.to_status) == ("held", "cancelled")


@pytest.mark.parametrize("id_", ["", "x", "00000000-0000-7000-8000-000000000000", "' OR 1=1 --", "é" * 300])
def test_a_booking_that_is_not_there_is_not_found(acme: Tenant, id_: str) -> None:
    for act in (acme.cancel, acme.booking, acme.release_hold, acme.history, acme.hold):
        with pytest.raises(BookingNotFound):
            act(id_)
    with pytest.raises(BookingNotFound):
        acme.confirm_hold(id_, attendee=GRACE)


def test_an_event_holds_enough_for_a_message_and_no_secret(acme: Tenant, db: Database) -> None:
    booking = acme.book("all", start=NINE, attendee=GRACE, reference="order-17")
    payload, nonce = rows(
        db, "SELECT e.payload, b.nonce FROM nxsched.outbox_event e JOIN nxsched.booking b ON b.id = e.booking_id"
    )[0]
    assert payload["format"] == 1
    assert payload["tenant"] == {"id": "acme", "name": "Acme Ltd", "sender": "bookings@acme.test"}
    assert payload["event_type"] == {
        "slug": "all",
        "name": "Both",
        "description": "",
        "timezone": None,
        "questions": [],
    }
    assert (payload["previous"], payload["actor"], payload["former_hosts"]) == (None, None, [])
    assert payload["hosts"] == [
        {"slug": slug, "name": slug.title(), "email": f"{slug}@acme.test", "timezone": "Europe/London"}
        for slug in ("ada", "bob")
    ]
    assert payload["booking"]["start"] == "2026-03-02T09:00:00Z"
    assert payload["booking"]["attendee"]["timezone"] == "America/New_York"
    assert payload["booking"]["uid"] == payload["booking"]["id"] == booking.id
    assert nonce not in str(payload)
    why = Question(key="why", label="Why do you come?")
    acme.save_event_type(replace(acme.event_type("visit"), timezone="Asia/Tokyo", questions=[why]))
    acme.book("visit", start=NINE + HOUR, attendee=GRACE)
    asked = rows(db, "SELECT payload FROM nxsched.outbox_event ORDER BY occurred_at, id DESC")
    told = next(one["event_type"] for (one,) in asked if one["event_type"]["slug"] == "visit")
    assert told["timezone"] == "Asia/Tokyo"
    assert told["questions"] == [{"key": "why", "label": "Why do you come?"}]
    acme.cancel(booking.id, reason="ill", actor=Actor(role="staff", id="7"))
    later = rows(db, "SELECT payload FROM nxsched.outbox_event WHERE kind = 'booking.cancelled'")[0][0]
    assert (later["hosts"], later["previous"]["status"]) == (payload["hosts"], "confirmed")
    assert later["actor"] == {"role": "staff", "id": "7", "name": None}
    assert (later["reason"], later["booking"]["status"], later["booking"]["sequence"]) == ("ill", "cancelled", 1)


def test_settings_that_change_never_change_bookings_that_exist(acme: Tenant, db: Database) -> None:
    booking = acme.book("visit", start=NINE, attendee=GRACE)
    stored = "SELECT c, o, b FROM nxsched.claim c, nxsched.occurrence o, nxsched.booking b"
    before = rows(db, stored)
    acme.save_event_type(EventType(slug="visit", duration=HOUR, hosts=["bob"], buffer_after=HALF))
    acme.save_host(replace(acme.host("ada"), weekly_hours=()))
    acme.archive_host("ada")
    acme.archive_event_type("visit")
    assert acme.booking(booking.id) == booking
    assert len(before) == 1
    assert rows(db, stored) == before
    assert trail(db, booking.id) == [(1, "book", "booking.confirmed")]


def test_an_overlapping_claim_is_refused_by_the_database_itself(acme: Tenant, db: Database) -> None:
    acme.book("visit", start=NINE, attendee=GRACE)
    copy = text("""
        INSERT INTO nxsched.claim
            (tenant_id, occurrence_id, host_no, place, busy_from, busy_until, active, claimed_at)
        SELECT tenant_id, gen_random_uuid(), host_no, 1, busy_from + interval '29 minutes',
            busy_until + interval '1 hour', true, now() FROM nxsched.claim""")
    with db.superuser.connect() as connection:
        connection.execute(text("SET session_replication_role = replica"))
        with pytest.raises(IntegrityError, match="claim_no_overlap"):
            connection.execute(copy)


@pytest.mark.parametrize(
    ("until", "why"),
    [
        ("NULL", 'null value in column "busy_until"'),
        ("busy_from", "claim_order_check"),
        ("'infinity'", "claim_order_check"),
        ("busy_from - interval '1 minute'", "claim_order_check"),
    ],
)
def test_a_claim_that_would_slip_past_the_constraint_cannot_be_stored(
    acme: Tenant, db: Database, until: str, why: str
) -> None:
    acme.book("visit", start=NINE, attendee=GRACE)
    with db.superuser.connect() as connection, pytest.raises(IntegrityError, match=why):
        connection.execute(text(f"UPDATE nxsched.claim SET busy_until = {until}"))  # noqa: S608 - see above


def test_a_host_of_another_event_type_who_was_taken_meanwhile_is_replaced_in_the_same_call(
    acme: Tenant, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plain booking takes no lock, so it may come between a pool's reading and its writing."""
    hidden = {"busy": False}

    def stale(*args: Any, **options: Any) -> Any:  # noqa: ANN401 - whatever it is called with
        found = fetch_ground(*args, **options)
        if not hidden["busy"] and args[5].latest:
            hidden["busy"] = True
            acme.book("visit", start=NINE, attendee=ALAN)
        return found

    monkeypatch.setattr("nxsched.service.wanted.fetch_ground", stale)
    booking = acme.book("any", start=NINE, attendee=GRACE)
    assert booking.hosts == ("bob",)
    assert len(acme.bookings().items) == 2
    assert_sound(db)


def test_an_application_may_read_json_in_a_way_of_its_own(acme: Tenant, db: Database, clock: SettableClock) -> None:
    asked = [Question(key="weight", label="How heavy?", kind="number")]
    acme.save_event_type(EventType(slug="visit", duration=HALF, hosts=["ada"], questions=asked))
    engine = create_engine(db.url(APP_ROLE), poolclass=NullPool)

    @event.listens_for(engine, "connect")
    def read_decimals(connection: Any, _: object) -> None:  # noqa: ANN401 - the driver's
        set_json_loads(partial(json.loads, parse_float=Decimal), connection)

    with Scheduler(engine, clock=clock) as scheduler:
        tenant = scheduler.tenant("acme")
        booking = tenant.book("visit", start=NINE, attendee=GRACE, answers={"weight": 1.5}, metadata={"a": [2.5]})
        assert tenant.booking(booking.id) == booking
        assert tenant.cancel(booking.id).status == "cancelled"
        assert tenant.history(booking.id)[0].changes["answers"] == (None, {"weight": 1.5})
    assert_sound(db)


def test_the_audit_trail_tells_one_from_true(acme: Tenant) -> None:
    booking = acme.book("visit", start=NINE, attendee=GRACE, metadata={"paid": 1})
    acme.update(booking.id, metadata={"paid": True})
    assert acme.history(booking.id)[-1].changes == {"metadata": ({"paid": 1}, {"paid": True})}
