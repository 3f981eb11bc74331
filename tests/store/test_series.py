"""Series: several slots are booked, all or none, and cancelled together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Connection, create_engine, text

from nxsched import (
    Actor,
    Booking,
    BookingNotFound,
    EventType,
    EventTypeNotFound,
    Host,
    HostGroup,
    IdempotencyConflict,
    InvalidInput,
    Limit,
    NxschedError,
    Policies,
    PolicyViolation,
    Question,
    Scheduler,
    SettableClock,
    SlotTaken,
    SlotUnavailable,
    Tenant,
    TransactionConflict,
    WeeklyHours,
)
from nxsched.embedded import APP_ROLE
from store.booked import ALAN, GRACE, STAFF, assert_sound, count, rows, trail
from store.conftest import DAY, HALF, HOUR, NINE, Database
from store.recording import recorded

TTL = timedelta(minutes=10)
QUARTER = timedelta(minutes=15)
ATTENDEE = Actor(role="attendee", id="user-7")
UNKNOWN = "00000000-0000-7000-8000-000000000000"
DAILY = [NINE + n * DAY for n in range(5)]
HOURLY = [NINE + n * HOUR for n in range(5)]
PATIENCE = 20.0


def codes(error: SlotUnavailable) -> dict[datetime, set[str]]:
    """The reasons of every start that is refused."""
    return {start: {reason.code for reason in reasons} for start, reasons in error.refused.items()}


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


def waiting(db: Database) -> int:
    """How many connections wait for a lock."""
    waits = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return len(rows(db, waits))


@contextmanager
def beside(db: Database, *calls: Callable[[], Any]) -> Iterator[list[Future[Any]]]:
    """Call in other threads, one after the other, and go on when each of them waits for a lock."""
    with ThreadPoolExecutor(len(calls)) as threads:
        found = []
        for n, call in enumerate(calls, start=1):
            found.append(threads.submit(call))
            until = time.monotonic() + PATIENCE
            while waiting(db) < n:
                assert not found[-1].done(), f"it did not wait: {found[-1]}"
                assert time.monotonic() < until, "it neither waits nor ends"
                time.sleep(0.005)
        yield found


# --- booking ---------------------------------------------------------------------------------------------------------


def test_all_of_a_series_are_booked_and_listed_by_start(acme: Tenant, db: Database) -> None:
    acme.save_event_type(EventType(slug="visit", duration=HALF, durations=[HOUR], hosts=["ada"], location="Room 7"))
    other = acme.book("visit", start=NINE + 6 * HOUR, attendee=ALAN)
    found = acme.book_series(
        "visit",
        starts=[*reversed(DAILY)],
        attendee=GRACE,
        duration=HOUR,
        metadata={"order": 17},
        reference="order-17",
        actor=STAFF,
    )
    assert [(one.start, one.end) for one in found] == [(start, start + HOUR) for start in DAILY]
    assert len({one.id for one in found}) == 5
    series = {one.series_id for one in found}
    assert len(series) == 1
    assert series.isdisjoint({None, *(one.id for one in found)})
    assert {(one.status.value, one.reference, one.sequence, one.version) for one in found} == {
        ("confirmed", "order-17", 0, 1)
    }
    assert {one.location for one in found} == {"Room 7"}
    assert [acme.booking(one.id) for one in found] == found
    assert list(acme.bookings(series=found[0].series_id)) == found
    assert other.series_id is None
    for one in found:
        assert trail(db, one.id) == [(1, "book", "booking.confirmed")]
        assert acme.history(one.id)[0].actor == STAFF
    told = rows(db, "SELECT payload FROM nxsched.outbox_event WHERE payload->'booking'->>'series_id' IS NOT NULL")
    assert {payload["booking"]["id"]: payload["booking"]["start"] for (payload,) in told} == {
        one.id: f"{one.start:%Y-%m-%dT%H:%M:%SZ}" for one in found
    }
    assert_sound(db)


def test_a_series_of_one_is_a_series(acme: Tenant, db: Database) -> None:
    (one,) = acme.book_series("visit", starts=[NINE], attendee=GRACE)
    assert one.series_id is not None
    assert [each.id for each in acme.bookings(series=one.series_id)] == [one.id]
    assert acme.cancel_series(one.series_id)[0].status == "cancelled"
    assert_sound(db)


def test_starts_may_be_told_in_any_time_zone(acme: Tenant) -> None:
    east = timezone(timedelta(hours=5, minutes=30))
    found = acme.book_series("visit", starts=(NINE.astimezone(east), NINE + HOUR), attendee=GRACE)
    assert [one.start for one in found] == [NINE, NINE + HOUR]
    assert {one.start.tzinfo for one in found} == {UTC}


def test_a_series_that_waits_for_approval_waits_booking_by_booking(
    acme: Tenant, clock: SettableClock, db: Database
) -> None:
    acme.save_event_type(EventType(slug="visit", duration=HALF, hosts=["ada"], requires_approval=True))
    found = acme.book_series("visit", starts=HOURLY, attendee=GRACE)
    assert [(one.status.value, one.expires_at) for one in found] == [("pending", start) for start in HOURLY]
    assert trail(db, found[1].id) == [(1, "request", "booking.created")]
    assert_sound(db)
    acme.approve(found[1].id)
    clock.set(HOURLY[0])
    assert [one.status.value for one in acme.bookings(series=found[0].series_id)] == ["confirmed"] + ["pending"] * 3
    series = found[0].series_id
    assert series is not None
    after = acme.cancel_series(series)
    assert [one.status.value for one in after] == ["expired"] + ["cancelled"] * 4
    acme.sweep()
    assert_sound(db)


def test_each_of_a_forced_series_is_recorded_as_what_it_is(acme: Tenant, clock: SettableClock, db: Database) -> None:
    acme.save_event_type(EventType(slug="visit", duration=HALF, hosts=["ada"], requires_approval=True))
    clock.set(NINE + QUARTER)
    begun, to_come = acme.book_series("visit", starts=[NINE, NINE + HOUR], attendee=GRACE, force=True, actor=STAFF)
    assert (begun.status, to_come.status) == ("confirmed", "pending")
    assert trail(db, begun.id) == [(1, "book", "booking.confirmed")]
    assert trail(db, to_come.id) == [(1, "request", "booking.created")]


def test_one_start_that_is_refused_refuses_them_all_and_every_such_start_is_told(acme: Tenant, db: Database) -> None:
    acme.book("visit", start=DAILY[1], attendee=ALAN)
    sunday = NINE + 6 * DAY
    with pytest.raises(SlotUnavailable) as caught:
        acme.book_series("visit", starts=[sunday, *DAILY], attendee=GRACE)
    assert codes(caught.value) == {
        DAILY[1]: {"busy", "not_enough_hosts"},
        sunday: {"outside_hours", "not_enough_hosts", "off_grid"},
    }
    assert caught.value.start == DAILY[1]
    assert caught.value.reasons == tuple(caught.value.refused[DAILY[1]])
    assert isinstance(caught.value, SlotTaken)
    assert caught.value.host == "ada"
    assert (count(db, "booking"), count(db, "occurrence"), count(db, "claim")) == (1, 1, 1)
    assert_sound(db)


@pytest.mark.parametrize("whose", ["event type", "host"])
@pytest.mark.parametrize("limit", [Limit(per="day", count=3), Limit(per="day", minutes=90)], ids=["count", "minutes"])
def test_each_start_is_judged_by_limits_as_if_those_before_it_were_booked(
    acme: Tenant, db: Database, whose: str, limit: Limit
) -> None:
    if whose == "host":
        acme.save_host(replace(acme.host("ada"), limits=[limit]))
    else:
        acme.save_event_type(EventType(slug="visit", duration=HALF, hosts=["ada"], limits=[limit]))
    acme.book("visit", start=NINE + 7 * HOUR, attendee=ALAN)  # later on that day, and counted all the same
    with pytest.raises(SlotUnavailable) as caught:
        acme.book_series("visit", starts=[*HOURLY, *DAILY[1:]], attendee=GRACE)
    code = {"host": "host_limit", "event type": "event_limit"}[whose]
    assert set(codes(caught.value)) == {*HOURLY[2:]}
    assert all(code in found for found in codes(caught.value).values())
    assert count(db, "booking") == 1
    found = acme.book_series("visit", starts=[*HOURLY[:2], *DAILY[1:]], attendee=GRACE)
    assert len(found) == 6
    with pytest.raises(SlotUnavailable):
        acme.book("visit", start=NINE + 5 * HOUR, attendee=ALAN)
    assert_sound(db)


def test_limits_over_weeks_and_months_are_counted_through_the_whole_series(acme: Tenant, db: Database) -> None:
    limits = [Limit(per="week", count=2), Limit(per="month", count=5)]
    acme.save_event_type(EventType(slug="visit", duration=HALF, hosts=["ada"], limits=limits))
    weeks = [NINE + 7 * n * DAY + m * DAY for n in range(4) for m in (0, 1)]
    with pytest.raises(SlotUnavailable) as caught:
        acme.book_series("visit", starts=weeks, attendee=GRACE)
    assert [*codes(caught.value)] == weeks[5:]
    thrice = [NINE + n * DAY for n in range(3)]
    with pytest.raises(SlotUnavailable) as caught:
        acme.book_series("visit", starts=thrice, attendee=GRACE)
    assert codes(caught.value) == {thrice[2]: {"event_limit"}}
    assert len(acme.book_series("visit", starts=weeks[:5], attendee=GRACE)) == 5
    assert_sound(db)


def test_the_time_of_one_keeps_the_next_from_it_buffers_included(acme: Tenant, db: Database) -> None:
    acme.save_event_type(EventType(slug="visit", duration=HALF, step=HALF, hosts=["ada"], buffer_after=QUARTER))
    with pytest.raises(SlotUnavailable) as caught:
        acme.book_series("visit", starts=[NINE, NINE + HALF, NINE + HOUR], attendee=GRACE)
    assert set(codes(caught.value)) == {NINE + HALF}
    assert len(acme.book_series("visit", starts=[NINE, NINE + HOUR], attendee=GRACE)) == 2
    assert_sound(db)


def test_all_reasons_are_told_of_a_start_also_those_that_the_series_itself_gives(acme: Tenant) -> None:
    limits = [Limit(per="day", count=1)]
    acme.save_event_type(EventType(slug="visit", duration=HALF, hosts=["ada"], limits=limits))
    odd = NINE + 2 * HOUR + timedelta(minutes=7)
    with pytest.raises(SlotUnavailable) as caught:
        acme.book_series("visit", starts=[NINE, odd], attendee=GRACE)
    assert codes(caught.value) == {odd: {"off_grid", "event_limit"}}


def test_a_series_does_not_say_that_somebody_has_a_slot_which_only_a_rule_refuses(acme: Tenant) -> None:
    acme.save_event_type(EventType(slug="visit", duration=HALF, hosts=["ada"], limits=[Limit(per="day", count=2)]))
    acme.book("visit", start=NINE + HOUR, attendee=ALAN)
    with pytest.raises(SlotUnavailable) as caught:
        acme.book_series("visit", starts=[NINE, NINE + HOUR], attendee=GRACE)
    # The limit refuses it too, now that the first of the series counts: to wait for the other to cancel is no help.
    assert codes(caught.value)[NINE + HOUR] >= {"busy", "event_limit"}


def test_hosts_are_kept_where_they_can_and_else_the_next_one_comes(acme: Tenant, db: Database) -> None:
    acme.book("any", start=DAILY[2], attendee=ALAN, host="ada")
    found = acme.book_series("any", starts=DAILY, attendee=GRACE)
    first = found[0].hosts
    assert first != ("ada",)  # who was booked before
    assert {one.hosts for one in found} == {first}
    assert {one.assigned_because for one in found[1:]} == {"has the one before it in the series"}
    acme.cancel_series(str(found[0].series_id))
    acme.book("visit", start=DAILY[1], attendee=ALAN)
    found = acme.book_series("any", starts=DAILY, attendee=GRACE, host=None)
    assert_sound(db)
    assert len({one.hosts for one in found}) == 1


def test_a_host_who_cannot_once_is_replaced_and_the_next_one_goes_on(acme: Tenant, db: Database) -> None:
    acme.save_event_type(EventType(slug="any", duration=HALF, hosts=["ada", "bob", "cyd"], strategy="priority"))
    acme.book("visit", start=DAILY[2], attendee=ALAN)
    found = acme.book_series("any", starts=DAILY, attendee=GRACE)
    assert [one.hosts[0] for one in found] == ["ada", "ada", "bob", "bob", "bob"]
    assert_sound(db)


def test_a_host_who_is_asked_for_has_them_all_or_nobody_has(acme: Tenant, db: Database) -> None:
    found = acme.book_series("any", starts=HOURLY, attendee=GRACE, host="cyd")
    assert {one.hosts for one in found} == {("cyd",)}
    with pytest.raises(SlotTaken) as caught:
        acme.book_series("any", starts=[HOURLY[4] + HALF, HOURLY[4]], attendee=GRACE, host="cyd")
    assert (caught.value.start, caught.value.host) == (HOURLY[4], "cyd")
    assert count(db, "booking") == 5
    with pytest.raises(InvalidInput) as field:
        acme.book_series("any", starts=HOURLY, attendee=GRACE, host="zoe")
    assert field.value.field == "host"
    assert_sound(db)


def test_a_series_with_several_hosts_takes_them_all_each_time(acme: Tenant, db: Database) -> None:
    found = acme.book_series("all", starts=HOURLY, attendee=GRACE)
    assert {one.hosts for one in found} == {("ada", "bob")}
    assert count(db, "claim", "active") == 10
    acme.book("visit", start=NINE + 6 * HOUR, attendee=ALAN)
    with pytest.raises(SlotTaken):
        acme.book_series("all", starts=[NINE + 5 * HOUR, NINE + 6 * HOUR], attendee=GRACE)
    assert count(db, "claim", "active") == 11
    assert_sound(db)


def test_classes_are_joined_where_one_stands_and_begun_where_none_does(acme: Tenant, db: Database) -> None:
    acme.save_event_type(
        EventType(slug="yoga", duration=HOUR, capacity=3, hosts=["ada", "bob"], limits=[Limit(per="day", count=4)])
    )
    stands = acme.book("yoga", start=NINE + HOUR, attendee=ALAN, host="bob")
    found = acme.book_series("yoga", starts=HOURLY[:3], attendee=GRACE, seats=2)
    assert found[1].hosts == ("bob",)
    assert [one.seats for one in found] == [2] * 3
    assert count(db, "occurrence", "active") == 3
    assert [acme.booking(one.id) for one in found] == found
    assert_sound(db)
    with pytest.raises(SlotUnavailable) as caught:  # a class more in the same day, and one too many
        acme.book_series("yoga", starts=[*HOURLY[2:5]], attendee=GRACE)
    assert set(codes(caught.value)) == {HOURLY[4]}
    acme.cancel_series(str(found[0].series_id))
    assert acme.booking(stands.id).status == "confirmed"
    assert count(db, "occurrence", "active") == 1
    assert_sound(db)


def test_a_series_that_joins_nothing_but_classes_claims_nothing(acme: Tenant, db: Database) -> None:
    acme.save_event_type(EventType(slug="yoga", duration=HOUR, capacity=3, hosts=["ada"]))
    first = acme.book_series("yoga", starts=HOURLY, attendee=ALAN)
    second = acme.book_series("yoga", starts=HOURLY, attendee=GRACE, seats=2)
    assert (count(db, "claim"), count(db, "occurrence")) == (5, 5)
    with pytest.raises(SlotTaken) as caught:
        acme.book_series("yoga", starts=[*HOURLY[3:], NINE + 6 * HOUR], attendee=ALAN)
    assert {start: "full" in found for start, found in codes(caught.value).items()} == dict.fromkeys(HOURLY[3:], True)
    acme.cancel_series(str(first[0].series_id))
    assert count(db, "claim", "active") == 5
    assert_sound(db)
    acme.cancel_series(str(second[0].series_id))
    assert count(db, "claim", "active") == 0
    assert_sound(db)


def test_expired_holds_in_the_way_are_ended_and_those_that_last_refuse(
    acme: Tenant, clock: SettableClock, db: Database
) -> None:
    holds = [acme.place_hold("visit", start=start, ttl=TTL) for start in DAILY[1:3]]
    acme.place_hold("visit", start=DAILY[4], ttl=2 * TTL)
    clock.move(TTL)
    with pytest.raises(SlotTaken) as caught:
        acme.book_series("visit", starts=DAILY, attendee=GRACE)
    assert [*caught.value.refused] == [DAILY[4]]
    assert len(acme.book_series("visit", starts=DAILY[:4], attendee=GRACE, actor=STAFF)) == 4
    for hold in holds:
        assert trail(db, hold.id)[1:] == [(2, "expire", "booking.hold_expired")]
        assert acme.history(hold.id)[1].actor is None
    assert_sound(db)


def test_staff_can_skip_the_rules_for_all_of_them_and_never_take_anothers_time(acme: Tenant, db: Database) -> None:
    night = [NINE + 12 * HOUR + n * DAY for n in range(3)]
    assert len(acme.book_series("visit", starts=night, attendee=GRACE, force=True, actor=STAFF)) == 3
    with pytest.raises(SlotTaken) as caught:
        acme.book_series("visit", starts=[night[0] + HOUR, *night[1:]], attendee=GRACE, force=True, actor=STAFF)
    assert [*caught.value.refused] == night[1:]
    with pytest.raises(SlotTaken):  # of two that overlap one another
        acme.book_series("visit", starts=[NINE, NINE + QUARTER], attendee=GRACE, force=True, actor=STAFF)
    assert count(db, "booking") == 3
    assert_sound(db)


def test_answers_are_judged_as_those_of_a_booking(acme: Tenant, db: Database) -> None:
    ask = [Question(key="topic", label="Topic", required=True)]
    acme.save_event_type(EventType(slug="visit", duration=HALF, hosts=["ada"], questions=ask))
    with pytest.raises(InvalidInput) as caught:
        acme.book_series("visit", starts=DAILY, attendee=GRACE)
    assert "topic" in caught.value.field
    found = acme.book_series("visit", starts=DAILY, attendee=GRACE, answers={"topic": "Tax"})
    assert [acme.booking(one.id).answers for one in found] == [{"topic": "Tax"}] * 5
    assert count(db, "booking") == 5


SECOND = timedelta(seconds=1)
BAD: dict[str, tuple[object, str]] = {
    "none": ([], "starts"),
    "too many": ([NINE + n * DAY for n in range(367)], "starts"),
    "the same": ([NINE, NINE + HOUR, NINE], "starts[2]"),
    "the same elsewhere": ([NINE, NINE.astimezone(timezone(HOUR))], "starts[1]"),
    "naive": ([NINE, (NINE + HOUR).replace(tzinfo=None)], "starts[1]"),
    "a fraction": ([NINE + timedelta(microseconds=1)], "starts[0]"),
    "no list": (NINE, "starts"),
    "a text": ("2026-03-02T09:00:00Z", "starts"),
    "texts": (["2026-03-02T09:00:00Z"], "starts[0]"),
    "nothing": (None, "starts"),
    "dates": ([NINE.date()], "starts[0]"),
    "far away": ([NINE.replace(year=9500)], "starts[0]"),
}


@pytest.mark.parametrize("what", sorted(BAD))
def test_starts_that_cannot_be_used_are_named(acme: Tenant, db: Database, what: str) -> None:
    starts: Any
    starts, field = BAD[what]
    with pytest.raises(InvalidInput) as caught:
        acme.book_series("visit", starts=starts, attendee=GRACE)
    assert caught.value.field == field
    assert count(db, "booking") == 0


def test_a_leap_year_of_days_is_a_series(acme: Tenant, db: Database) -> None:
    starts = [NINE + n * DAY for n in range(366)]
    found = acme.book_series("visit", starts=starts, attendee=GRACE, force=True)
    assert [one.start for one in found] == starts
    assert len(acme.bookings(series=found[0].series_id, limit=1000)) == 366
    assert len(acme.cancel_series(str(found[0].series_id))) == 366
    assert count(db, "claim", "active") == 0
    assert_sound(db)


def test_an_event_type_that_is_gone_takes_no_series(acme: Tenant) -> None:
    with pytest.raises(EventTypeNotFound):
        acme.book_series("nothing", starts=DAILY, attendee=GRACE)
    acme.archive_event_type("visit")
    with pytest.raises(EventTypeNotFound):
        acme.book_series("visit", starts=DAILY, attendee=GRACE)


def test_with_a_key_a_series_happens_once(acme: Tenant, db: Database) -> None:
    found = acme.book_series("visit", starts=DAILY, attendee=GRACE, idempotency_key="k")
    again = acme.book_series("visit", starts=DAILY, attendee=GRACE, idempotency_key="k")
    assert again == found
    acme.cancel(found[2].id)
    again = acme.book_series("visit", starts=DAILY, attendee=GRACE, idempotency_key="k")
    assert [one.status.value for one in again] == ["confirmed"] * 2 + ["cancelled"] + ["confirmed"] * 2
    for starts in (DAILY[:4], [*DAILY, NINE + 7 * DAY]):
        with pytest.raises(IdempotencyConflict):
            acme.book_series("visit", starts=starts, attendee=GRACE, idempotency_key="k")
    assert count(db, "booking") == 5
    cancelled = acme.cancel_series(str(found[0].series_id), idempotency_key="c")
    assert acme.cancel_series(str(found[0].series_id), idempotency_key="c") == cancelled
    with pytest.raises(IdempotencyConflict):
        acme.cancel_series(str(found[0].series_id), reason="another", idempotency_key="c")
    assert_sound(db)


def test_two_with_one_key_at_once_book_one_series(acme: Tenant, db: Database) -> None:
    found = at_once(
        *[lambda: acme.book_series("visit", starts=DAILY, attendee=GRACE, idempotency_key="k") for _ in range(3)]
    )
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 5
    assert count(db, "booking") == 5
    assert_sound(db)


# --- cancelling ------------------------------------------------------------------------------------------------------


def test_what_stands_and_has_not_begun_is_cancelled_and_the_rest_stays(
    acme: Tenant, clock: SettableClock, db: Database
) -> None:
    found = acme.book_series("visit", starts=HOURLY, attendee=GRACE)
    series = str(found[0].series_id)
    other = acme.book("visit", start=NINE + 6 * HOUR, attendee=ALAN)
    acme.cancel(found[3].id)
    acme.complete(found[4].id)
    clock.set(HOURLY[1])
    after = acme.cancel_series(series, reason="Moving away", actor=STAFF)
    assert [one.start for one in after] == HOURLY
    assert [one.status.value for one in after] == ["confirmed", "confirmed", "cancelled", "cancelled", "completed"]
    assert [(one.sequence, one.version) for one in after] == [(0, 1), (0, 1), (1, 2), (1, 2), (0, 2)]
    assert after == [acme.booking(one.id) for one in found]
    assert trail(db, found[2].id)[1:] == [(2, "cancel", "booking.cancelled")]
    entry = acme.history(found[2].id)[1]
    assert (entry.reason, entry.actor, entry.changes["status"]) == ("Moving away", STAFF, ("confirmed", "cancelled"))
    assert acme.booking(other.id) == other
    assert acme.cancel_series(series) == after
    assert acme.book("visit", start=HOURLY[2], attendee=ALAN).status == "confirmed"
    assert_sound(db)


def test_the_notice_for_cancelling_binds_the_whole_series(acme: Tenant, clock: SettableClock, db: Database) -> None:
    policies = Policies(cancel_notice=2 * HOUR)
    acme.save_event_type(EventType(slug="visit", duration=HALF, hosts=["ada"], policies=policies))
    found = acme.book_series("visit", starts=DAILY, attendee=GRACE)
    series = str(found[0].series_id)
    clock.set(DAILY[1] - HOUR)
    with pytest.raises(PolicyViolation) as caught:
        acme.cancel_series(series, actor=ATTENDEE)
    assert (caught.value.policy, caught.value.until) == ("cancel_notice", DAILY[1] - 2 * HOUR)
    assert list(acme.bookings(series=series)) == found
    clock.set(DAILY[1])  # it has begun, and is not asked about any more
    after = acme.cancel_series(series, actor=ATTENDEE)
    assert [one.status.value for one in after] == ["confirmed"] * 2 + ["cancelled"] * 3
    assert_sound(db)


def test_a_booking_of_a_series_that_was_moved_or_reassigned_is_cancelled_with_it(acme: Tenant, db: Database) -> None:
    found = acme.book_series("any", starts=DAILY, attendee=GRACE, host="ada")
    series = str(found[0].series_id)
    acme.reschedule(found[1].id, start=DAILY[4] + HOUR)
    acme.reassign(found[2].id, host="bob")
    moved = acme.bookings(series=series)
    assert [one.id for one in moved] == [found[n].id for n in (0, 2, 3, 4, 1)]
    after = acme.cancel_series(series)
    assert [one.id for one in after] == [one.id for one in moved]
    assert {one.status.value for one in after} == {"cancelled"}
    assert count(db, "claim", "active") == 0
    assert_sound(db)


def test_two_of_a_series_in_one_class_are_both_cancelled(acme: Tenant, db: Database) -> None:
    acme.save_event_type(EventType(slug="yoga", duration=HOUR, capacity=3, hosts=["ada"]))
    found = acme.book_series("yoga", starts=HOURLY[:2], attendee=GRACE)
    acme.reschedule(found[1].id, start=NINE)
    other = acme.book("yoga", start=NINE, attendee=ALAN)
    acme.cancel_series(str(found[0].series_id))
    assert (count(db, "claim", "active"), acme.booking(other.id).status) == (1, "confirmed")
    assert_sound(db)


def test_an_unknown_series_is_not_found(acme: Tenant, scheduler: Scheduler) -> None:
    booking = acme.book("visit", start=NINE, attendee=GRACE)
    (one,) = acme.book_series("visit", starts=[NINE + HOUR], attendee=GRACE)
    zeta = scheduler.create_tenant("zeta", name="Zeta")
    asked = [(acme, UNKNOWN), (acme, booking.id), (acme, one.id), (acme, "no id"), (zeta, str(one.series_id))]
    for tenant, series in asked:
        with pytest.raises(BookingNotFound) as caught:
            tenant.cancel_series(series)
        assert caught.value.id == series
    assert acme.booking(one.id).status == "confirmed"


# --- the application's transaction -----------------------------------------------------------------------------------


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_within_the_applications_transaction_a_series_goes_with_it(acme: Tenant, db: Database, isolation: str) -> None:
    taken = acme.book("visit", start=NINE + 6 * HOUR, attendee=ALAN)
    engine = create_engine(db.url(APP_ROLE), isolation_level=isolation)
    try:
        with engine.connect() as connection:
            with pytest.raises(SlotTaken):
                acme.book_series("visit", starts=[*HOURLY, taken.start], attendee=GRACE, within=connection)
            found = acme.book_series("visit", starts=HOURLY, attendee=GRACE, within=connection)
            series = str(found[0].series_id)
            assert list(acme.bookings(series=series, within=connection)) == found
            connection.rollback()
            assert count(db, "booking") == 1
            found = acme.book_series("visit", starts=HOURLY, attendee=GRACE, within=connection)
            series = str(found[0].series_id)
            connection.commit()
            after = acme.cancel_series(series, within=connection)
            assert {one.status.value for one in after} == {"cancelled"}
            connection.rollback()
            assert list(acme.bookings(series=series)) == found
            assert_sound(db)
            acme.cancel_series(series, within=connection)
            connection.commit()
    finally:
        engine.dispose()
    assert {one.status.value for one in acme.bookings(series=series)} == {"cancelled"}
    assert count(db, "claim", "active") == 1
    assert_sound(db)


def test_who_counts_with_an_older_snapshot_does_not_exceed_the_limit(acme: Tenant, db: Database) -> None:
    acme.save_event_type(EventType(slug="visit", duration=HALF, hosts=["ada"], limits=[Limit(per="day", count=3)]))
    engine = create_engine(db.url(APP_ROLE), isolation_level="REPEATABLE READ")
    try:
        with engine.connect() as connection:
            acme.bookings(within=connection)
            acme.book_series("visit", starts=HOURLY[:2], attendee=GRACE)
            with pytest.raises(TransactionConflict):
                acme.book_series("visit", starts=HOURLY[2:4], attendee=ALAN, within=connection)
            connection.rollback()
    finally:
        engine.dispose()
    assert count(db, "booking") == 2
    assert_sound(db)


# --- races -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slug", ["visit", "all"])
def test_of_two_series_in_opposite_orders_one_wins(acme: Tenant, db: Database, slug: str) -> None:
    for n in range(4):
        starts = [start + 7 * n * DAY for start in DAILY]
        found = at_once(
            lambda: acme.book_series(slug, starts=starts, attendee=GRACE),  # noqa: B023 - called at once
            lambda: acme.book_series(slug, starts=starts[::-1], attendee=ALAN),  # noqa: B023 - called at once
        )
        assert sorted(isinstance(one, list) for one in found) == [False, True], found
        (loser,) = [one for one in found if not isinstance(one, list)]
        assert isinstance(loser, SlotTaken), loser
        assert [*loser.refused] == starts
    assert count(db, "booking") == 20
    assert_sound(db)


def test_two_series_of_a_pool_at_once_both_get_what_they_want(acme: Tenant, db: Database) -> None:
    found = at_once(
        lambda: acme.book_series("any", starts=DAILY, attendee=GRACE),
        lambda: acme.book_series("any", starts=DAILY[::-1], attendee=ALAN),
        lambda: acme.book_series("any", starts=DAILY, attendee=ALAN),
    )
    assert all(isinstance(one, list) for one in found), found
    assert [len({one.hosts for one in series}) for series in found] == [1, 1, 1]
    assert len({series[0].hosts for series in found}) == 3
    assert_sound(db)


def test_series_and_plain_bookings_of_the_same_time_never_share_it(acme: Tenant, db: Database) -> None:
    for n in range(4):
        starts = [start + 7 * n * DAY for start in DAILY]
        series, *plain = at_once(
            lambda: acme.book_series("visit", starts=starts, attendee=GRACE),  # noqa: B023 - called at once
            *[lambda start=start: acme.book("visit", start=start, attendee=ALAN) for start in starts[::-2]],
        )
        won = [isinstance(one, Booking) for one in plain]
        if isinstance(series, list):
            assert not any(won), plain
        else:
            assert isinstance(series, SlotTaken), series
            assert any(won), plain
        assert all(isinstance(one, Booking | SlotTaken) for one in plain), plain
    assert_sound(db)


def test_a_series_and_a_booking_do_not_both_get_the_last_of_a_limit(acme: Tenant, db: Database) -> None:
    acme.save_host(replace(acme.host("ada"), limits=[Limit(per="day", count=3)]))
    for n in range(4):
        day = NINE + n * DAY
        found = at_once(
            lambda: acme.book_series("visit", starts=[day, day + HOUR], attendee=GRACE),  # noqa: B023 - called at once
            lambda: acme.book_series("visit", starts=[day + 2 * HOUR, day + 3 * HOUR], attendee=ALAN),  # noqa: B023
        )
        assert sorted(isinstance(one, list) for one in found) == [False, True], found
    assert count(db, "booking") == 8
    assert_sound(db)


def test_a_series_that_is_cancelled_while_it_is_cancelled_is_cancelled_once(acme: Tenant, db: Database) -> None:
    found = acme.book_series("visit", starts=DAILY, attendee=GRACE)
    series = str(found[0].series_id)
    done = at_once(*[lambda: acme.cancel_series(series)] * 3, lambda: acme.cancel(found[3].id))
    assert all(not isinstance(one, NxschedError) for one in done), done
    assert {one.version for one in acme.bookings(series=series)} == {2}
    assert count(db, "claim", "active") == 0
    assert_sound(db)


MOVES: dict[str, Callable[[Tenant, Booking, Connection], object]] = {
    "moved": lambda tenant, one, within: tenant.reschedule(one.id, start=one.start + 3 * HOUR, within=within),
    "reassigned": lambda tenant, one, within: tenant.reassign(one.id, host="bob", within=within),
}


def _cancelled_while(acme: Tenant, db: Database, how: str, *, most: int, which: int, lasts: float) -> list[Booking]:
    """What a series is after it was cancelled while one of it went to another occurrence."""
    found = acme.book_series("any", starts=DAILY[:most], attendee=GRACE, host="ada")
    series = str(found[0].series_id)
    at = [str(one[0]) for one in rows(db, "SELECT id FROM nxsched.booking ORDER BY occurrence_id")]
    one = next(each for each in found if each.id == at[which])
    with db.app.connect() as theirs:
        MOVES[how](acme, one, theirs)
        with beside(db, lambda: acme.cancel_series(series)) as (call,):
            time.sleep(lasts)
            theirs.commit()
            call.result(timeout=PATIENCE)
    assert_sound(db)
    return list(acme.bookings(series=series))


@pytest.mark.parametrize("how", sorted(MOVES))
def test_a_series_of_one_that_goes_elsewhere_meanwhile_is_found_and_cancelled(
    acme: Tenant, db: Database, how: str
) -> None:
    (after,) = _cancelled_while(acme, db, how, most=1, which=0, lasts=0.2)
    assert after.status == "cancelled"


@pytest.mark.parametrize("how", sorted(MOVES))
def test_the_last_of_a_series_that_goes_elsewhere_meanwhile_is_cancelled_too(
    acme: Tenant, db: Database, how: str
) -> None:
    after = _cancelled_while(acme, db, how, most=3, which=2, lasts=0.2)
    assert [one.status.value for one in after] == ["cancelled"] * 3


def test_the_first_of_a_series_that_goes_elsewhere_meanwhile_is_cancelled_too(acme: Tenant, db: Database) -> None:
    after = _cancelled_while(acme, db, "moved", most=3, which=0, lasts=0.2)
    assert [one.status.value for one in after] == ["cancelled"] * 3


def in_theirs(db: Database, call: Callable[[Connection], object]) -> None:
    """In the application's transaction, in which nothing is tried again; the plans are those of many occurrences."""
    with db.app.connect() as theirs:
        theirs.execute(text("SET LOCAL lock_timeout = '8s'"))
        for how in ("hashjoin", "mergejoin", "seqscan"):
            theirs.execute(text(f"SET LOCAL enable_{how} = off"))
        call(theirs)
        theirs.commit()


@contextmanager
def in_hand(db: Database, booking: Booking) -> Iterator[Connection]:
    """Somebody has a booking's occurrence in hand until they roll back."""
    with db.superuser.connect() as theirs:
        theirs.execute(
            text(
                "SELECT 1 FROM nxsched.occurrence WHERE id = (SELECT occurrence_id FROM nxsched.booking"
                " WHERE id = CAST(:id AS uuid)) FOR NO KEY UPDATE"
            ),
            {"id": booking.id},
        )
        yield theirs


def test_a_series_goes_by_instants_in_the_hour_that_comes_twice(acme: Tenant, db: Database) -> None:
    always = [WeeklyHours(days="mon-sun", start="00:00", end="24:00")]
    acme.save_host(Host(slug="ada", timezone="Europe/London", weekly_hours=always))
    acme.save_event_type(EventType(slug="short", duration=HALF / 2, hosts=["ada"]))
    first, second = (datetime(2026, 10, 25, 1, tzinfo=ZoneInfo("Europe/London"), fold=fold) for fold in (0, 1))
    starts = [second, first.replace(minute=45), first.replace(minute=15)]
    made = acme.book_series("short", starts=starts, attendee=GRACE)
    assert [f"{one.start:%H:%M}" for one in made] == ["00:15", "00:45", "01:00"]
    acme.book("short", start=first, attendee=ALAN)
    with pytest.raises(SlotUnavailable) as caught:
        acme.book_series("short", starts=[first, second], attendee=ALAN)
    assert [f"{one:%H:%M}" for one in caught.value.refused] == ["00:00", "01:00"]
    assert_sound(db)


@pytest.fixture
def classes(acme: Tenant, db: Database) -> list[Booking]:
    """A series of two classes with a seat left in each, the first to be locked first."""
    acme.save_event_type(EventType(slug="yoga", duration=HOUR, capacity=4, hosts=["ada"]))
    found = acme.book_series("yoga", starts=HOURLY[:2], attendee=GRACE)
    order = [str(one[0]) for one in rows(db, "SELECT id FROM nxsched.booking ORDER BY occurrence_id")]
    return sorted(found, key=lambda one: order.index(one.id))


def test_who_moves_from_a_class_of_a_series_to_another_meets_no_deadlock_with_its_end(
    acme: Tenant, classes: list[Booking], db: Database
) -> None:
    first, last = classes
    other = acme.book("yoga", start=last.start, attendee=ALAN)
    calls: list[Callable[[Connection], object]] = [
        lambda theirs: acme.cancel_series(str(first.series_id), within=theirs),
        lambda theirs: acme.reschedule(other.id, start=first.start, within=theirs),
    ]
    with in_hand(db, first) as somebody, beside(db, *[partial(in_theirs, db, call) for call in calls]) as found:
        somebody.rollback()
    assert [call.exception() for call in found] == [None, None]
    assert_sound(db)


def test_a_series_that_joins_classes_meets_no_deadlock_with_the_end_of_another(acme: Tenant, db: Database) -> None:
    acme.save_event_type(EventType(slug="yoga", duration=HOUR, capacity=4, hosts=["ada"]))
    late, early = (acme.book("yoga", start=NINE + n * HOUR, attendee=ALAN) for n in (1, 0))  # made in this order
    grace = acme.book_series("yoga", starts=HOURLY[:2], attendee=GRACE)[0].series_id
    calls: list[Callable[[Connection], object]] = [
        lambda theirs: acme.book_series("yoga", starts=HOURLY[:2], attendee=ALAN, within=theirs),
        lambda theirs: acme.cancel_series(str(grace), within=theirs),
    ]
    with in_hand(db, early) as somebody, beside(db, *[partial(in_theirs, db, call) for call in calls]) as found:
        somebody.rollback()
    assert [call.exception() for call in found] == [None, None]
    assert acme.booking(late.id).status == "confirmed"
    assert_sound(db)


# --- statements ------------------------------------------------------------------------------------------------------


def _twenty(acme: Tenant) -> list[datetime]:
    acme.save_event_type(EventType(slug="any", duration=HALF, hosts=["ada", "bob", "cyd"]))
    return [NINE + (n // 5) * DAY + (n % 5) * HOUR for n in range(20)]


def test_a_series_of_twenty_in_a_pool_takes_five_statements_and_so_does_its_end(
    acme: Tenant, scheduler: Scheduler
) -> None:
    starts = _twenty(acme)
    with recorded(scheduler.engine) as sent:
        found = acme.book_series("any", starts=starts, attendee=GRACE)
    assert len(sent) <= 8
    assert len(sent) == 5
    with recorded(scheduler.engine) as sent:
        acme.cancel_series(str(found[0].series_id))
    assert len(sent) == 5


def test_a_series_with_limits_and_classes_takes_few_statements(acme: Tenant, scheduler: Scheduler) -> None:
    limits = [Limit(per="day", count=20)]
    acme.save_event_type(
        EventType(slug="yoga", duration=HOUR, capacity=9, hosts=[HostGroup(members=["ada", "bob"])], limits=limits)
    )
    starts = [NINE + (n // 5) * DAY + (n % 5) * HOUR for n in range(20)]
    acme.book_series("yoga", starts=starts[::2], attendee=GRACE)
    with recorded(scheduler.engine) as sent:
        acme.book_series("yoga", starts=starts, attendee=GRACE)
    assert len(sent) <= 8


def test_a_series_that_is_refused_takes_no_statement_for_each_of_its_starts(acme: Tenant, scheduler: Scheduler) -> None:
    starts = _twenty(acme)
    acme.book_series("any", starts=starts, attendee=GRACE, host="ada")
    with recorded(scheduler.engine) as sent, pytest.raises(SlotTaken) as caught:
        acme.book_series("any", starts=starts, attendee=GRACE, host="ada")
    assert len(caught.value.refused) == 20
    assert len(sent) <= 8


def test_a_series_within_a_class_of_a_host_who_left_takes_few_statements(acme: Tenant, scheduler: Scheduler) -> None:
    acme.save_event_type(EventType(slug="yoga", duration=HOUR, capacity=9, hosts=["ada"]))
    starts = [NINE + (n // 5) * DAY + (n % 5) * HOUR for n in range(20)]
    acme.book_series("yoga", starts=starts, attendee=GRACE)
    acme.save_event_type(EventType(slug="yoga", duration=HOUR, capacity=9, hosts=["bob"]))
    with recorded(scheduler.engine) as sent:
        found = acme.book_series("yoga", starts=starts, attendee=ALAN)
    assert {one.hosts for one in found} == {("ada",)}
    assert len(sent) <= 8
