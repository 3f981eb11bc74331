"""Holds: they block like bookings, end by themselves, and become bookings under the same id."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import pytest

from nxsched import (
    BlockedPeriod,
    BookingNotFound,
    EventType,
    HoldExpired,
    Host,
    HostGroup,
    InvalidInput,
    InvalidTransition,
    Limit,
    PolicyViolation,
    Question,
    Scheduler,
    SettableClock,
    SlotTaken,
    SlotUnavailable,
    Tenant,
    WeeklyHours,
)
from store.booked import ALAN, GRACE, STAFF, assert_sound, count, rows, trail
from store.conftest import DAY, HALF, HOUR, NINE, NOW, Database

MINUTE = timedelta(minutes=1)


def test_a_hold_blocks_as_a_booking_does(acme: Tenant) -> None:
    hold = acme.place_hold("visit", start=NINE, attendee=GRACE, actor=STAFF)
    assert (hold.status, hold.start, hold.hosts, hold.attendee) == ("held", NINE, ("ada",), GRACE)
    assert hold.expires_at == NOW + 15 * MINUTE
    assert acme.hold(hold.id) == hold
    assert acme.holds() == acme.holds(host="ada") == [hold]
    assert acme.holds(host="bob") == []
    assert acme.bookings().items == ()
    for act in (acme.book, acme.place_hold):
        with pytest.raises(SlotTaken):
            act("visit", start=NINE, attendee=ALAN)
    assert acme.find_slots("visit", start=NINE, end=NINE + DAY)[0].start == NINE + HALF


def test_a_hold_becomes_a_booking_under_the_same_id(acme: Tenant, db: Database) -> None:
    hold = acme.place_hold("visit", start=NINE)
    booking = acme.confirm_hold(hold.id, attendee=GRACE, metadata={"order": 17}, reference="order-17", actor=STAFF)
    assert (booking.id, booking.status, booking.attendee, booking.version) == (hold.id, "confirmed", GRACE, 2)
    assert (booking.expires_at, booking.created_at) == (None, NOW)
    assert acme.booking(hold.id) == booking
    assert acme.holds() == []
    with pytest.raises(BookingNotFound):
        acme.hold(hold.id)
    assert trail(db, hold.id) == [(1, "hold", "booking.held"), (2, "confirm", "booking.confirmed")]
    assert acme.history(hold.id)[1].changes["attendee"][1]["email"] == GRACE.email
    assert_sound(db)


def test_confirming_once_more_gives_the_same_and_otherwise_is_refused(acme: Tenant, db: Database) -> None:
    hold = acme.place_hold("visit", start=NINE)
    booking = acme.confirm_hold(hold.id, attendee=GRACE)
    assert acme.confirm_hold(hold.id, attendee=GRACE) == booking
    with pytest.raises(InvalidTransition) as caught:
        acme.confirm_hold(hold.id, attendee=ALAN)
    assert (caught.value.from_status, caught.value.to_status) == ("confirmed", "confirmed")
    assert count(db, "audit_entry") == 2


def test_a_hold_ends_at_its_last_instant_even_if_nothing_sweeps(acme: Tenant, clock: SettableClock) -> None:
    hold = acme.place_hold("visit", start=NINE, ttl=MINUTE)
    clock.set(hold.expires_at - timedelta(microseconds=1))
    with pytest.raises(SlotTaken):
        acme.book("visit", start=NINE, attendee=ALAN)
    clock.set(hold.expires_at)
    assert acme.holds() == []
    assert acme.hold(hold.id).status == "expired"
    assert acme.find_slots("visit", start=NINE, end=NINE + DAY)[0].start == NINE
    assert acme.explain("visit", start=NINE) == []
    with pytest.raises(HoldExpired) as caught:
        acme.confirm_hold(hold.id, attendee=GRACE)
    assert (caught.value.id, caught.value.expired_at) == (hold.id, hold.expires_at)


@pytest.mark.parametrize("swept", [True, False])
@pytest.mark.parametrize("event_type", ["visit", "any", "all"])
def test_who_wants_the_time_of_an_expired_hold_gets_it_and_records_its_end(
    acme: Tenant, db: Database, clock: SettableClock, event_type: str, *, swept: bool
) -> None:
    hold = acme.place_hold(event_type, start=NINE, ttl=MINUTE)
    clock.move(MINUTE)
    if swept:
        assert acme.sweep().holds == 1
    booking = acme.book(event_type, start=NINE, attendee=ALAN)
    assert booking.hosts == hold.hosts
    assert trail(db, hold.id) == [(1, "hold", "booking.held"), (2, "expire", "booking.hold_expired")]
    entry = acme.history(hold.id)[1]
    assert (entry.actor, entry.changes) == (None, {"status": ("held", "expired")})
    assert_sound(db)


def test_a_hold_of_which_a_part_is_in_the_way_goes_too(acme: Tenant, db: Database, clock: SettableClock) -> None:
    acme.save_event_type(EventType(slug="long", duration=2 * HOUR, step=HALF, hosts=["ada", "bob"]))
    holds = [acme.place_hold("visit", start=NINE + n * HALF, ttl=MINUTE) for n in range(3)]
    late = acme.place_hold("visit", start=NINE + 5 * HALF, ttl=MINUTE)
    clock.move(MINUTE)
    acme.book("long", start=NINE, attendee=ALAN, host="ada")
    assert [acme.booking(hold.id).status for hold in holds] == ["expired"] * 3
    assert [len(acme.history(hold.id)) for hold in (*holds, late)] == [2, 2, 2, 1]
    assert_sound(db)


def test_an_expired_hold_is_confirmed_where_its_time_is_free_and_that_is_asked_for(
    acme: Tenant, db: Database, clock: SettableClock
) -> None:
    hold = acme.place_hold("any", start=NINE, ttl=MINUTE)
    clock.move(MINUTE)
    booking = acme.confirm_hold(hold.id, attendee=GRACE, if_free=True)
    assert (booking.id, booking.status, booking.version) == (hold.id, "confirmed", 3)
    assert acme.booking(hold.id) == booking
    assert trail(db, hold.id) == [
        (1, "hold", "booking.held"),
        (2, "expire", "booking.hold_expired"),
        (3, "book", "booking.confirmed"),
    ]
    assert_sound(db)


@pytest.mark.parametrize("swept", [True, False])
def test_if_free_judges_all_the_rules_as_booking_does(
    acme: Tenant, db: Database, clock: SettableClock, *, swept: bool
) -> None:
    hold = acme.place_hold("visit", start=NINE, ttl=MINUTE)
    clock.move(MINUTE)
    if swept:
        acme.sweep()
    blocked = acme.block("ada", BlockedPeriod(start=NINE, end=NINE + HOUR))
    with pytest.raises(SlotUnavailable) as caught:
        acme.confirm_hold(hold.id, attendee=GRACE, if_free=True)
    assert [reason.code for reason in caught.value.reasons] == ["not_enough_hosts", "blocked"]
    assert acme.hold(hold.id).version == (2 if swept else 1)
    acme.unblock(str(blocked.id))
    taken = acme.book("visit", start=NINE, attendee=ALAN)
    with pytest.raises(SlotTaken):
        acme.confirm_hold(hold.id, attendee=GRACE, if_free=True)
    acme.cancel(taken.id)
    assert acme.confirm_hold(hold.id, attendee=GRACE, if_free=True).status == "confirmed"
    assert_sound(db)


def test_the_hold_is_the_promise_whatever_the_settings_are_by_then(acme: Tenant) -> None:
    hold = acme.place_hold("visit", start=NINE)
    acme.block("ada", BlockedPeriod(start=NINE, end=NINE + HOUR))
    acme.save_event_type(EventType(slug="visit", duration=HOUR, hosts=["bob"], limits=[Limit(per="day", count=1)]))
    acme.archive_event_type("visit")
    booking = acme.confirm_hold(hold.id, attendee=GRACE)
    assert (booking.status, booking.end, booking.hosts) == ("confirmed", NINE + HALF, ("ada",))


def test_answers_are_judged_when_the_hold_is_confirmed(acme: Tenant) -> None:
    questions = [Question(key="why", label="Why?", required=True)]
    acme.save_event_type(EventType(slug="visit", duration=HALF, hosts=["ada"], questions=questions))
    hold = acme.place_hold("visit", start=NINE)
    with pytest.raises(InvalidInput) as caught:
        acme.confirm_hold(hold.id, attendee=GRACE)
    assert caught.value.field == "answers.why"
    assert acme.hold(hold.id).status == "held"
    assert acme.confirm_hold(hold.id, attendee=GRACE, answers={"why": "cough"}).answers == {"why": "cough"}


def test_a_hold_of_what_needs_approval_becomes_pending(acme: Tenant, db: Database) -> None:
    acme.save_event_type(EventType(slug="visit", duration=HALF, hosts=["ada"], requires_approval=True))
    hold = acme.place_hold("visit", start=NINE)
    booking = acme.confirm_hold(hold.id, attendee=GRACE)
    assert (booking.status, booking.expires_at) == ("pending", NINE)
    assert trail(db, hold.id)[1] == (2, "request", "booking.created")
    with pytest.raises(SlotTaken):
        acme.book("visit", start=NINE, attendee=ALAN)


def test_a_hold_of_what_needs_approval_ends_at_its_start(acme: Tenant, db: Database, clock: SettableClock) -> None:
    acme.save_event_type(EventType(slug="visit", duration=HALF, hosts=["ada"], requires_approval=True))
    assert acme.place_hold("visit", start=NINE + HOUR, ttl=MINUTE).expires_at == NOW + MINUTE
    hold = acme.place_hold("visit", start=NINE, ttl=DAY)
    assert hold.expires_at == NINE
    clock.set(NINE)
    assert acme.holds() == []
    with pytest.raises(HoldExpired) as caught:
        acme.confirm_hold(hold.id, attendee=GRACE)
    assert caught.value.expired_at == NINE
    assert acme.book("visit", start=NINE, attendee=ALAN, force=True).status == "confirmed"
    assert trail(db, hold.id)[1:] == [(2, "expire", "booking.hold_expired")]
    assert_sound(db)


@pytest.mark.parametrize("offset", [timedelta(), MINUTE], ids=["at its start", "after it"])
def test_a_hold_that_has_begun_cannot_wait_for_approval(
    acme: Tenant, db: Database, clock: SettableClock, offset: timedelta
) -> None:
    """The event type has come to need approval only after the hold was placed."""
    hold = acme.place_hold("visit", start=NINE, ttl=DAY)
    other = acme.place_hold("visit", start=NINE + HALF, ttl=DAY)
    acme.save_event_type(EventType(slug="visit", duration=HALF, hosts=["ada"], requires_approval=True))
    assert hold.expires_at == NOW + DAY
    clock.set(NINE + offset)
    with pytest.raises(HoldExpired) as caught:
        acme.confirm_hold(hold.id, attendee=GRACE)
    assert (caught.value.id, caught.value.expired_at) == (hold.id, NINE)
    assert acme.hold(hold.id) == hold
    assert acme.confirm_hold(other.id, attendee=GRACE).status == "pending"
    acme.save_event_type(EventType(slug="visit", duration=HALF, hosts=["ada"]))
    assert acme.confirm_hold(hold.id, attendee=GRACE).status == "confirmed"
    assert_sound(db)


def test_a_hold_that_has_begun_cannot_be_had_again_with_approval(
    acme: Tenant, db: Database, clock: SettableClock
) -> None:
    hold = acme.place_hold("visit", start=NINE, ttl=DAY)
    acme.save_event_type(EventType(slug="visit", duration=HALF, hosts=["ada"], requires_approval=True))
    clock.set(NINE + MINUTE)
    with pytest.raises(SlotUnavailable) as caught:
        acme.confirm_hold(hold.id, attendee=GRACE, if_free=True)
    assert "past" in [reason.code for reason in caught.value.reasons]
    assert acme.hold(hold.id) == hold
    assert_sound(db)


@pytest.mark.parametrize("number", [1e23, 1.0, -0.0, 1e-7, 10**30, 0.1, 1e300])
def test_a_number_in_the_metadata_is_the_same_when_the_confirmation_is_repeated(
    acme: Tenant, db: Database, number: float
) -> None:
    hold = acme.place_hold("visit", start=NINE)
    said: dict[str, Any] = {"metadata": {"n": number, "more": [{"n": number}]}}
    acme.confirm_hold(hold.id, attendee=GRACE, **said)
    again = acme.confirm_hold(hold.id, attendee=GRACE, **said)
    assert again == acme.booking(hold.id)
    assert (again.status, again.version, float(again.metadata["n"])) == ("confirmed", 2, float(number))
    assert count(db, "audit_entry") == 2
    with pytest.raises(InvalidTransition):
        acme.confirm_hold(hold.id, attendee=GRACE, metadata={"n": number + 1 if number < 10 else number * 2})


@pytest.mark.parametrize("other", ["1", None, 2, [1], True, ["number", "1"]])
def test_what_only_looks_like_the_number_is_another_confirmation(acme: Tenant, other: object) -> None:
    hold = acme.place_hold("visit", start=NINE)
    acme.confirm_hold(hold.id, attendee=GRACE, metadata={"n": 1})
    with pytest.raises(InvalidTransition):
        acme.confirm_hold(hold.id, attendee=GRACE, metadata={"n": other})


@pytest.mark.parametrize("swept", [True, False])
def test_a_hold_of_a_duration_that_is_no_longer_offered_cannot_be_had_again(
    acme: Tenant, db: Database, clock: SettableClock, *, swept: bool
) -> None:
    acme.save_event_type(EventType(slug="visit", duration=HALF, durations=[HOUR], hosts=["ada"]))
    holds = [acme.place_hold("visit", start=NINE + n * HOUR, duration=HOUR, ttl=(n + 1) * MINUTE) for n in range(2)]
    acme.save_event_type(EventType(slug="visit", duration=HALF, hosts=["ada"]))
    clock.move(MINUTE)
    if swept:
        acme.sweep()
    before = acme.hold(holds[0].id)
    with pytest.raises(SlotUnavailable, match="must be") as caught:
        acme.confirm_hold(holds[0].id, attendee=GRACE, if_free=True)
    assert not isinstance(caught.value, SlotTaken)
    assert acme.hold(holds[0].id) == before
    booking = acme.confirm_hold(holds[1].id, attendee=GRACE, if_free=True)
    assert booking.end - booking.start == HOUR
    assert_sound(db)


def test_true_is_not_one_where_the_event_type_asks_otherwise_by_now(acme: Tenant) -> None:
    def ask(kind: Any) -> None:  # noqa: ANN401 - a kind of question
        questions = [Question(key="paid", label="Paid?", kind=kind)]
        acme.save_event_type(EventType(slug="visit", duration=HALF, hosts=["ada"], questions=questions))

    ask("number")
    hold = acme.place_hold("visit", start=NINE)
    booking = acme.confirm_hold(hold.id, attendee=GRACE, answers={"paid": 1})
    ask("yes_no")
    with pytest.raises(InvalidTransition):
        acme.confirm_hold(hold.id, attendee=GRACE, answers={"paid": True})
    assert acme.confirm_hold(hold.id, attendee=GRACE, answers={"paid": 1}) == booking


@pytest.mark.parametrize(
    "questions",
    [
        [],
        [Question(key="who", label="Who?")],
        [Question(key="who", label="Who?", required=True)],
        [Question(key="why", label="Why?", kind="number")],
    ],
    ids=["none", "another", "another that is required", "of another kind"],
)
@pytest.mark.parametrize("if_free", [False, True], ids=["plain", "if free"])
def test_a_confirmation_is_the_same_although_the_event_type_asks_otherwise_by_now(
    acme: Tenant, db: Database, questions: list[Question], *, if_free: bool
) -> None:
    visit = EventType(slug="visit", duration=HALF, hosts=["ada"])
    acme.save_event_type(replace(visit, questions=[Question(key="why", label="Why?", required=True)]))
    hold = acme.place_hold("visit", start=NINE)
    booking = acme.confirm_hold(hold.id, attendee=GRACE, answers={"why": "cough"})
    acme.save_event_type(replace(visit, questions=questions))
    assert acme.confirm_hold(hold.id, attendee=GRACE, answers={"why": "cough"}, if_free=if_free) == booking
    assert len(acme.history(hold.id)) == 2
    with pytest.raises((InvalidInput, InvalidTransition)):
        acme.confirm_hold(hold.id, attendee=GRACE, answers={"why": "fever"}, if_free=if_free)
    assert acme.booking(hold.id) == booking
    assert_sound(db)


@pytest.mark.parametrize(
    "answer",
    [
        object(),
        {1},
        10**5000,
        float("nan"),
        [1],
    ],
    ids=["object", "set", "huge", "nan", "list"],
)
def test_an_answer_that_is_no_json_is_refused_when_a_confirmation_is_repeated(acme: Tenant, answer: object) -> None:
    asking = EventType(slug="visit", duration=HALF, hosts=["ada"], questions=[Question(key="why", label="Why?")])
    acme.save_event_type(asking)
    hold = acme.place_hold("visit", start=NINE)
    acme.confirm_hold(hold.id, attendee=GRACE, answers={"why": "cough"})
    with pytest.raises(InvalidInput) as caught:
        acme.confirm_hold(hold.id, attendee=GRACE, answers={"why": answer})
    assert caught.value.field == "answers.why"


@pytest.mark.parametrize("swept", [True, False])
def test_who_had_the_hold_has_the_booking_although_others_were_booked_longer_ago(
    acme: Tenant, db: Database, clock: SettableClock, *, swept: bool
) -> None:
    hold = acme.place_hold("any", start=NINE, host="bob", ttl=MINUTE)
    other = acme.place_hold("any", start=NINE + HALF, host="bob", ttl=MINUTE)
    clock.move(MINUTE)
    acme.book("any", start=NINE + HOUR, attendee=ALAN, host="bob")
    if swept:
        acme.sweep()
    kept = acme.confirm_hold(hold.id, attendee=GRACE, if_free=True)
    assert (kept.hosts, kept.assigned_because) == (("bob",), "held it before")
    acme.block("bob", BlockedPeriod(start=NINE + HALF, end=NINE + HOUR))
    other_one = acme.confirm_hold(other.id, attendee=GRACE, if_free=True)
    assert (other_one.hosts, other_one.assigned_because) == (("ada",), "least recently booked of 2 that were free")
    assert_sound(db)


def test_of_several_who_had_the_hold_those_who_can_have_the_booking(
    acme: Tenant, db: Database, clock: SettableClock
) -> None:
    acme.save_event_type(EventType(slug="two", duration=HALF, hosts=[HostGroup(members=["ada", "bob", "cyd"], need=2)]))
    acme.book("any", start=NINE + HOUR, attendee=ALAN, host="ada")
    holds = [acme.place_hold("two", start=NINE + n * HALF, ttl=MINUTE) for n in (0, 4)]
    assert holds[0].hosts == ("bob", "cyd")
    clock.move(MINUTE)
    for n in (2, 3):
        acme.book("two", start=NINE + n * HOUR + HALF, attendee=ALAN, host="cyd")
    acme.book("any", start=NINE + 5 * HOUR, attendee=ALAN, host="bob")
    assert acme.confirm_hold(holds[0].id, attendee=GRACE, if_free=True).hosts == ("bob", "cyd")
    assert_sound(db)


@pytest.mark.parametrize("swept", [True, False])
def test_a_hold_of_what_was_archived_cannot_be_had_again(
    acme: Tenant, db: Database, clock: SettableClock, *, swept: bool
) -> None:
    visit = acme.event_type("visit")
    hold = acme.place_hold("visit", start=NINE, ttl=MINUTE)
    clock.move(MINUTE)
    if swept:
        acme.sweep()
    before = acme.hold(hold.id)
    acme.archive_event_type("visit")
    with pytest.raises(SlotUnavailable, match="the hold cannot be had again: there is no event type") as caught:
        acme.confirm_hold(hold.id, attendee=GRACE, if_free=True)
    assert not isinstance(caught.value, SlotTaken)
    assert acme.hold(hold.id) == before
    with pytest.raises(HoldExpired):
        acme.confirm_hold(hold.id, attendee=GRACE)
    acme.save_event_type(visit)
    assert acme.confirm_hold(hold.id, attendee=GRACE, if_free=True).status == "confirmed"
    assert_sound(db)


def test_a_hold_that_is_given_back_blocks_nobody(acme: Tenant, db: Database) -> None:
    hold = acme.place_hold("all", start=NINE)
    released = acme.release_hold(hold.id)
    assert (released.status, released.version) == ("released", 2)
    assert acme.release_hold(hold.id) == released == acme.hold(hold.id)
    assert trail(db, hold.id)[1] == (2, "release", "booking.hold_released")
    assert acme.book("all", start=NINE, attendee=ALAN).status == "confirmed"
    with pytest.raises(InvalidTransition):
        acme.confirm_hold(hold.id, attendee=GRACE)
    with pytest.raises(InvalidTransition) as caught:
        acme.release_hold(acme.bookings().items[0].id)
    assert (caught.value.from_status, caught.value.to_status) == ("confirmed", "released")


def test_giving_back_a_hold_that_has_expired_records_that_it_expired(
    acme: Tenant, db: Database, clock: SettableClock
) -> None:
    hold = acme.place_hold("visit", start=NINE, ttl=MINUTE)
    clock.move(MINUTE)
    over = acme.release_hold(hold.id)
    assert (over.status, over.version) == ("expired", 2)
    assert trail(db, hold.id)[1:] == [(2, "expire", "booking.hold_expired")]
    assert acme.sweep().holds == 0
    assert acme.release_hold(hold.id) == acme.hold(hold.id) == over
    assert len(acme.history(hold.id)) == 2


def test_holds_count_towards_limits_until_they_expire(acme: Tenant, clock: SettableClock) -> None:
    acme.save_event_type(EventType(slug="visit", duration=HALF, hosts=["ada"], limits=[Limit(per="day", count=1)]))
    acme.place_hold("visit", start=NINE, ttl=MINUTE)
    with pytest.raises(SlotUnavailable) as caught:
        acme.book("visit", start=NINE + HALF, attendee=GRACE)
    assert [reason.code for reason in caught.value.reasons] == ["event_limit"]
    clock.move(MINUTE)
    assert acme.book("visit", start=NINE + HALF, attendee=GRACE).status == "confirmed"


@pytest.mark.parametrize("ttl", [timedelta(), -MINUTE, timedelta(days=7, seconds=1), 15, None])
def test_a_hold_lasts_between_a_second_and_a_week(acme: Tenant, ttl: Any) -> None:  # noqa: ANN401 - also what is none
    with pytest.raises(InvalidInput) as caught:
        acme.place_hold("visit", start=NINE, ttl=ttl)
    assert caught.value.field == "ttl"


class _Told(type):
    """Lets everything that is a datetime be one of the clock that is off, too."""

    def __instancecheck__(cls, found: object) -> bool:
        return isinstance(found, datetime)


@pytest.fixture(params=[-5 * HOUR, 5 * HOUR], ids=["behind", "ahead"])
def off(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> timedelta:
    """Put the clock of the process off, for whatever nxsched might read it with: by hours, and gives by how many."""
    by: timedelta = request.param
    true = time.time

    class Off(datetime, metaclass=_Told):
        def __new__(cls, *args: Any, **more: Any) -> datetime:  # type: ignore[misc]
            return datetime(*args, **more)  # noqa: DTZ001 - what it is asked for

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + by

        @classmethod
        def utcnow(cls) -> datetime:  # type: ignore[override]
            return cls.now(UTC).replace(tzinfo=None)

    for name, module in [*sys.modules.items()]:
        if name.split(".")[0] == "nxsched" and getattr(module, "datetime", None) is datetime:
            monkeypatch.setattr(module, "datetime", Off)
    monkeypatch.setattr("datetime.datetime", Off)
    monkeypatch.setattr(time, "time", lambda: true() + by.total_seconds())
    monkeypatch.setattr(time, "time_ns", lambda: int((true() + by.total_seconds()) * 1e9))
    return by


def database_time(db: Database) -> datetime:
    found: datetime = rows(db, "SELECT clock_timestamp()")[0][0]
    return found


@pytest.fixture
def always(db: Database) -> Iterator[Tenant]:
    """A tenant without a clock of its own, with one host who is always there."""
    with Scheduler(db.app) as scheduler:
        tenant = scheduler.create_tenant("always", name="Always")
        hours = [WeeklyHours(days="mon-sun", start="00:00", end="24:00")]
        tenant.save_host(Host(slug="ada", timezone="UTC", weekly_hours=hours))
        tenant.save_event_type(EventType(slug="visit", duration=HALF, hosts=["ada"]))
        yield tenant


def test_the_databases_clock_decides_what_is_past_where_no_other_is_given(
    always: Tenant, db: Database, off: timedelta
) -> None:
    now = database_time(db)
    offered = always.find_slots("visit", start=now - 8 * HOUR, end=now + 8 * HOUR)
    assert now <= offered[0].start <= database_time(db) + HALF, f"by a clock that is off by {off}"
    assert [reason.code for reason in always.explain("visit", start=offered[0].start - HALF)] == ["past"]
    with pytest.raises(SlotUnavailable):
        always.book("visit", start=offered[0].start - HALF, attendee=GRACE)
    assert always.book("visit", start=offered[1].start, attendee=GRACE).status == "confirmed"


def test_a_clock_that_is_off_ends_no_hold_early_and_lets_none_live(
    always: Tenant, db: Database, off: timedelta
) -> None:
    assert off
    before = database_time(db)
    start = before.replace(hour=12, minute=0, second=0, microsecond=0) + 2 * DAY
    long = always.place_hold("visit", start=start, ttl=HOUR)
    short = always.place_hold("visit", start=start + HOUR, ttl=timedelta(seconds=1))
    gone = always.place_hold("visit", start=start + 2 * HOUR, ttl=timedelta(seconds=1))
    assert before <= long.created_at <= short.created_at <= database_time(db)
    assert [one.expires_at - one.created_at for one in (long, short)] == [HOUR, timedelta(seconds=1)]
    while database_time(db) < gone.expires_at:
        time.sleep(0.05)
    assert always.holds() == [long]
    assert (always.hold(long.id).status, always.hold(short.id).status) == ("held", "expired")
    with pytest.raises(SlotTaken):
        always.book("visit", start=long.start, attendee=ALAN)
    with pytest.raises(HoldExpired):
        always.confirm_hold(short.id, attendee=GRACE)
    assert always.book("visit", start=short.start, attendee=ALAN).status == "confirmed"
    assert always.sweep().holds == 1
    assert always.confirm_hold(long.id, attendee=GRACE).status == "confirmed"
    changed = [entry.at for one in (long, short, gone) for entry in always.history(one.id)]
    assert len(changed) == 6
    assert all(before <= at <= database_time(db) for at in changed)
    assert_sound(db)


def test_a_confirmation_that_waited_past_the_end_of_the_hold_comes_too_late(db: Database) -> None:
    """The time that counts is the one after the wait for the row, not the one before."""
    from store.conftest import furnish  # noqa: PLC0415 - only here

    with Scheduler(db.app) as scheduler, db.app.connect() as holding:
        acme = scheduler.create_tenant("acme", name="Acme")
        furnish(acme)
        start = acme.find_slots("visit", start=NINE + 365 * DAY, end=NINE + 372 * DAY)[0].start
        hold = acme.place_hold("visit", start=start, ttl=timedelta(seconds=1))
        acme.release_hold(hold.id, within=holding)
        giving_up = threading.Timer(1.5, holding.rollback)
        giving_up.start()
        with pytest.raises(HoldExpired):
            acme.confirm_hold(hold.id, attendee=GRACE)
        giving_up.join()
        assert acme.hold(hold.id).status == "expired"
    assert_sound(db)


def test_two_who_confirm_an_expired_hold_at_once_are_told_the_same(
    acme: Tenant, db: Database, clock: SettableClock
) -> None:
    for n in range(5):
        hold = acme.place_hold("visit", start=NINE + n * HALF, ttl=MINUTE)
        clock.move(MINUTE)
        found: list[Any] = []
        barrier = threading.Barrier(2)

        def confirm(hold_id: str = hold.id, found: list[Any] = found, barrier: threading.Barrier = barrier) -> None:
            with Scheduler(db.app, clock=clock) as other:
                tenant = other.tenant("acme")
                barrier.wait(timeout=60)
                found.append(tenant.confirm_hold(hold_id, attendee=GRACE, if_free=True))

        threads = [threading.Thread(target=confirm) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [acme.booking(hold.id)] * 2
    assert_sound(db)


def test_of_a_confirmation_and_a_release_at_the_same_time_one_wins(
    acme: Tenant, db: Database, clock: SettableClock
) -> None:
    """Many rounds: the hold expires, somebody confirms it at its last moment, another wants its time."""
    for n in range(20):
        start = NINE + (n % 16) * HALF + (n // 16) * DAY
        hold = acme.place_hold("visit", start=start, ttl=MINUTE)
        early = SettableClock(clock.now() + MINUTE - timedelta(microseconds=1))
        clock.move(MINUTE)
        outcomes: list[str] = []
        barrier = threading.Barrier(2)

        def confirm(
            hold_id: str = hold.id,
            early: SettableClock = early,
            barrier: threading.Barrier = barrier,
            outcomes: list[str] = outcomes,
        ) -> None:
            with Scheduler(db.app, clock=early) as other:
                tenant = other.tenant("acme")
                barrier.wait(timeout=60)
                try:
                    outcomes.append(tenant.confirm_hold(hold_id, attendee=GRACE).status)
                except HoldExpired:
                    outcomes.append("expired")

        thread = threading.Thread(target=confirm)
        thread.start()
        barrier.wait(timeout=60)
        try:
            acme.book("visit", start=start, attendee=ALAN)
            outcomes.append("booked")
        except SlotTaken:
            outcomes.append("taken")
        thread.join()
        assert set(outcomes) in ({"confirmed", "taken"}, {"expired", "booked"})
        assert count(db, "claim", "active") == n + 1
    assert_sound(db)


def test_a_tenant_has_no_more_holds_at_a_time_than_the_bound(
    acme: Tenant, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nxsched.service.wanted.MAX_OPEN_HOLDS", 2)
    acme.place_hold("visit", start=NINE, ttl=timedelta(minutes=1))
    acme.place_hold("any", start=NINE, ttl=timedelta(minutes=2))
    with pytest.raises(PolicyViolation, match="2 holds stand already") as caught:
        acme.place_hold("any", start=NINE)
    assert caught.value.policy == "open_holds"
    assert acme.book("any", start=NINE, attendee=GRACE).status == "confirmed"
    clock.move(timedelta(minutes=1))
    assert acme.place_hold("visit", start=NINE + HOUR).status == "held"
