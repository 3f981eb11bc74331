"""Reassigning: an occurrence goes to another host at its own time, with all who have seats in it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import create_engine

from nxsched import (
    Actor,
    Attendee,
    BlockedPeriod,
    Booking,
    EventType,
    Host,
    HostGroup,
    HostNotFound,
    InvalidInput,
    InvalidTransition,
    Limit,
    NxschedError,
    Policies,
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
from store.conftest import DAY, HALF, HOUR, NINE, NOW, Database
from store.recording import recorded

HOURS = [WeeklyHours(days="mon-fri", start="09:00", end="17:00")]
TTL = timedelta(minutes=10)
QUARTER = timedelta(minutes=15)


@pytest.fixture
def pool(acme: Tenant) -> Tenant:
    """`any` is with one of three in their order, `solo` with bob alone, `yoga` a class of four with one of two."""
    trio = ["ada", "bob", "cyd"]
    acme.save_event_type(EventType(slug="any", name="Anybody", duration=HALF, hosts=trio, strategy="priority"))
    acme.save_event_type(EventType(slug="solo", duration=HALF, hosts=["bob"]))
    acme.save_event_type(
        EventType(slug="yoga", duration=HOUR, capacity=4, hosts=["ada", "bob", "cyd"], strategy="priority")
    )
    return acme


@pytest.fixture
def talk(acme: Tenant) -> Tenant:
    """`talk` is with one of ada and bob, and in one of two rooms."""
    for room in ("red", "blue"):
        acme.save_host(Host(slug=room, timezone="Europe/London", weekly_hours=HOURS))
    groups = [HostGroup(members=["ada", "bob"]), HostGroup(members=["red", "blue"])]
    acme.save_event_type(EventType(slug="talk", duration=HALF, hosts=groups, strategy="priority"))
    return acme


def codes(error: SlotUnavailable) -> set[str]:
    return {reason.code for reason in error.reasons}


def told(db: Database, booking: Booking) -> dict[str, Any]:
    """The payload of the latest event of a booking."""
    found = rows(
        db,
        "SELECT payload FROM nxsched.outbox_event WHERE booking_id = CAST(:id AS uuid) ORDER BY version DESC LIMIT 1",
        id=booking.id,
    )
    payload: dict[str, Any] = found[0][0]
    return payload


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


# --- what changes, and what does not ---------------------------------------------------------------------------------


def test_another_host_has_the_booking_at_its_own_time_and_all_else_stays(pool: Tenant, db: Database) -> None:
    before = pool.book("any", start=NINE, attendee=GRACE, metadata={"order": 17}, reference="order-17")
    after = pool.reassign(before.id, host="bob", reason="Ada is ill", actor=STAFF)
    assert after == replace(before, hosts=("bob",), sequence=1, version=2, assigned_because="in the place of ada")
    assert pool.booking(before.id) == after
    assert trail(db, before.id) == [(1, "book", "booking.confirmed"), (2, "reassign", "booking.reassigned")]
    entry = pool.history(before.id)[1]
    assert (entry.reason, entry.actor) == ("Ada is ill", STAFF)
    assert entry.changes["hosts"] == (["ada"], ["bob"])
    assert entry.changes["sequence"] == (0, 1)
    assert "start" not in entry.changes
    assert_sound(db)


def test_the_event_tells_who_has_it_now_and_who_had_it(pool: Tenant, db: Database) -> None:
    booking = pool.book("any", start=NINE, attendee=GRACE)
    pool.reassign(booking.id, host="bob", reason="Ada is ill")
    payload = told(db, booking)
    assert payload["previous"] == {
        "status": "confirmed",
        "start": "2026-03-02T09:00:00Z",
        "end": "2026-03-02T09:30:00Z",
        "hosts": ["ada"],
        "location": None,
    }
    assert payload["former_hosts"] == [
        {"slug": "ada", "name": "Ada", "email": "ada@acme.test", "timezone": "Europe/London"},
    ]
    assert payload["hosts"] == [
        {"slug": "bob", "name": "Bob", "email": "bob@acme.test", "timezone": "Europe/London"},
    ]
    assert (payload["booking"]["hosts"], payload["booking"]["sequence"]) == (["bob"], 1)
    assert (payload["reason"], payload["booking"]["version"]) == ("Ada is ill", 2)
    assert payload["event_type"]["slug"] == "any"


def test_the_time_of_the_old_host_is_free_and_that_of_the_new_one_is_taken(pool: Tenant, db: Database) -> None:
    booking = pool.book("any", start=NINE, attendee=GRACE)
    pool.reassign(booking.id, host="bob")
    assert count(db, "claim", "active") == 1
    assert pool.book("visit", start=NINE, attendee=ALAN).hosts == ("ada",)
    with pytest.raises(SlotTaken):
        pool.book("solo", start=NINE, attendee=ALAN)
    assert [one.id for one in pool.bookings(host="bob")] == [booking.id]
    assert booking.id not in {one.id for one in pool.bookings(host="ada")}
    assert_sound(db)


def test_the_same_again_gives_the_same_and_writes_nothing(pool: Tenant, db: Database) -> None:
    booking = pool.book("any", start=NINE, attendee=GRACE)
    after = pool.reassign(booking.id, host="bob", idempotency_key="k")
    assert pool.reassign(booking.id, host="bob") == after
    assert pool.reassign(booking.id, host="bob", instead_of="ada") == after
    assert pool.reassign(booking.id, host="bob", idempotency_key="k") == after
    assert count(db, "audit_entry") == 2
    pool.reassign(booking.id, host="cyd")
    again = pool.reassign(booking.id, host="bob", idempotency_key="k")  # it was done, and something else since
    assert (again.hosts, again.version) == (("cyd",), 3)
    assert_sound(db)


def test_it_goes_on_and_back_again(pool: Tenant, db: Database) -> None:
    booking = pool.book("any", start=NINE, attendee=GRACE)
    for n, host in enumerate(("bob", "cyd", "ada", "bob"), start=1):
        after = pool.reassign(booking.id, host=host)
        assert (after.hosts, after.sequence) == ((host,), n)
    assert (count(db, "claim", "active"), count(db, "occurrence", "active")) == (1, 1)
    assert_sound(db)


def test_a_request_that_waits_for_approval_goes_and_still_waits(
    pool: Tenant, clock: SettableClock, db: Database
) -> None:
    pool.save_event_type(EventType(slug="any", duration=HALF, hosts=["ada", "bob"], requires_approval=True))
    booking = pool.book("any", start=NINE, attendee=GRACE, host="ada")
    after = pool.reassign(booking.id, host="bob")
    assert (after.status, after.expires_at, after.hosts) == ("pending", NINE, ("bob",))
    assert_sound(db)
    assert pool.approve(booking.id).hosts == ("bob",)
    other = pool.book("any", start=NINE + HOUR, attendee=GRACE, host="ada")
    clock.set(NINE + HOUR)
    with pytest.raises(InvalidTransition) as caught:
        pool.reassign(other.id, host="bob")
    assert caught.value.from_status == "expired"
    assert_sound(db)


def test_it_is_no_move_by_the_policies_and_binds_nobody(pool: Tenant) -> None:
    policies = Policies(most_moves=1, reschedule_notice=DAY, cancel_notice=DAY)
    pool.save_event_type(EventType(slug="any", duration=HALF, hosts=["ada", "bob", "cyd"], policies=policies))
    booking = pool.book("any", start=NINE + 2 * DAY, attendee=GRACE, host="ada")
    attendee = Actor(role="attendee")
    pool.reassign(booking.id, host="bob", actor=attendee)
    pool.reassign(booking.id, host="cyd", actor=attendee)
    assert pool.reschedule(booking.id, start=NINE + 3 * DAY, actor=attendee).hosts == ("cyd",)


def test_a_booking_that_has_begun_can_still_go_to_another(pool: Tenant, clock: SettableClock, db: Database) -> None:
    booking = pool.book("any", start=NINE, attendee=GRACE)
    clock.set(NINE + QUARTER)
    assert pool.reassign(booking.id, host="bob").hosts == ("bob",)
    assert_sound(db)


# --- several hosts ---------------------------------------------------------------------------------------------------


def test_of_several_hosts_it_must_be_said_who_is_replaced(talk: Tenant, db: Database) -> None:
    booking = talk.book("talk", start=NINE, attendee=GRACE)
    assert booking.hosts == ("ada", "red")
    with pytest.raises(InvalidInput, match="ada, red") as caught:
        talk.reassign(booking.id, host="bob")
    assert caught.value.field == "instead_of"
    after = talk.reassign(booking.id, host="blue", instead_of="red")
    assert (after.hosts, after.assigned_because) == (("ada", "blue"), "in the place of red")
    assert talk.booking(booking.id) == after
    assert talk.reassign(booking.id, host="blue", instead_of="red") == after
    assert [one["slug"] for one in told(db, booking)["hosts"]] == ["ada", "blue"]
    assert told(db, booking)["previous"]["hosts"] == ["ada", "red"]
    assert talk.book("talk", start=NINE, attendee=ALAN, host="bob").hosts == ("bob", "red")
    assert count(db, "claim", "active") == 4
    assert_sound(db)


def test_who_comes_is_of_the_group_of_who_goes(talk: Tenant, db: Database) -> None:
    booking = talk.book("talk", start=NINE, attendee=GRACE)
    for host, instead_of, field in (
        ("blue", "ada", "host"),  # of the other group
        ("cyd", "ada", "host"),  # of none
        ("bob", "cyd", "instead_of"),  # who has no part in it
        ("red", "ada", "host"),  # who has one already
    ):
        with pytest.raises(InvalidInput) as caught:
            talk.reassign(booking.id, host=host, instead_of=instead_of)
        assert caught.value.field == field
    assert talk.booking(booking.id) == booking
    assert_sound(db)


def test_one_who_has_left_the_groups_can_be_replaced(pool: Tenant, db: Database) -> None:
    booking = pool.book("any", start=NINE, attendee=GRACE)
    pool.save_event_type(EventType(slug="any", duration=HOUR, hosts=["bob", "cyd"]))
    pool.archive_host("ada")
    assert pool.reassign(booking.id, host="cyd").hosts == ("cyd",)
    assert pool.booking(booking.id).end == NINE + HALF
    assert_sound(db)


def test_the_class_keeps_its_order_of_hosts_for_those_who_join(acme: Tenant, db: Database) -> None:
    pair = [HostGroup(members=["ada", "bob", "cyd"], need=2)]
    acme.save_event_type(EventType(slug="duet", duration=HOUR, capacity=5, hosts=pair, strategy="priority"))
    booking = acme.book("duet", start=NINE, attendee=GRACE)
    assert booking.hosts == ("ada", "bob")
    acme.reassign(booking.id, host="cyd", instead_of="ada")
    assert {*acme.booking(booking.id).hosts} == {"bob", "cyd"}
    joined = acme.book("duet", start=NINE, attendee=ALAN)
    assert joined.hosts == acme.booking(booking.id).hosts
    assert joined == acme.booking(joined.id)
    assert_sound(db)


def test_hosts_who_stay_are_not_taken_for_booked_anew(talk: Tenant, clock: SettableClock) -> None:
    talk.save_event_type(
        EventType(
            slug="talk",
            duration=HALF,
            hosts=[HostGroup(members=["ada", "bob"]), HostGroup(members=["red", "blue"])],
        )
    )
    first = talk.book("talk", start=NINE, attendee=GRACE)
    assert first.hosts == ("ada", "red")
    clock.move(timedelta(minutes=1))
    assert talk.book("talk", start=NINE + HOUR, attendee=GRACE, host="ada").hosts == ("ada", "blue")
    clock.move(timedelta(minutes=1))
    talk.reassign(first.id, host="bob", instead_of="ada")
    clock.move(timedelta(minutes=1))
    # Of the rooms, red was booked first, so it is its turn (rule 29): that the talk got another speaker is no booking.
    assert talk.book("talk", start=NINE + 2 * HOUR, attendee=GRACE).hosts[1] == "red"


# --- classes ---------------------------------------------------------------------------------------------------------


def test_all_who_have_seats_go_along_each_with_their_records(pool: Tenant, clock: SettableClock, db: Database) -> None:
    here = [pool.book("yoga", start=NINE, attendee=GRACE) for _ in range(2)]
    gone = pool.book("yoga", start=NINE, attendee=ALAN)
    pool.cancel(gone.id)
    hold = pool.place_hold("yoga", start=NINE, ttl=2 * TTL)
    late = pool.place_hold("yoga", start=NINE, ttl=TTL, attendee=ALAN)
    clock.move(TTL)
    after = pool.reassign(here[0].id, host="bob", reason="Ada is ill", actor=STAFF)
    assert after.id == here[0].id
    for one in here:
        found = pool.booking(one.id)
        assert (found.hosts, found.sequence, found.version) == (("bob",), 1, 2)
        assert trail(db, one.id)[1:] == [(2, "reassign", "booking.reassigned")]
        assert pool.history(one.id)[1].actor == STAFF
        assert (told(db, one)["previous"]["hosts"], told(db, one)["hosts"][0]["slug"]) == (["ada"], "bob")
        assert told(db, one)["booking"]["id"] == one.id
    assert pool.hold(hold.id).hosts == ("bob",)
    assert trail(db, late.id)[1:] == [(2, "expire", "booking.hold_expired")]
    assert pool.history(late.id)[1].actor is None
    assert pool.hold(late.id).hosts == ("ada",)
    assert (pool.booking(gone.id).hosts, pool.booking(gone.id).version) == (("ada",), 2)
    assert pool.book("visit", start=NINE, attendee=ALAN).hosts == ("ada",)
    assert_sound(db)
    assert pool.confirm_hold(hold.id, attendee=ALAN).hosts == ("bob",)
    assert pool.book("yoga", start=NINE, attendee=ALAN).hosts == ("bob",)  # the class goes on, and is joined
    assert count(db, "occurrence", "active") == 2
    assert_sound(db)


def test_who_came_already_goes_along_with_the_class(pool: Tenant, db: Database) -> None:
    one, other = (pool.book("yoga", start=NINE, attendee=GRACE) for _ in range(2))
    pool.complete(one.id)
    pool.reassign(other.id, host="bob")
    assert (pool.booking(one.id).hosts, pool.booking(one.id).status) == (("bob",), "completed")
    assert count(db, "claim", "active") == 1
    assert_sound(db)


def test_a_class_does_not_go_to_a_host_who_has_another_one_then(pool: Tenant, db: Database) -> None:
    one = pool.book("yoga", start=NINE, attendee=GRACE, host="ada")
    pool.book("yoga", start=NINE, attendee=ALAN, host="bob")
    with pytest.raises(SlotTaken) as caught:
        pool.reassign(one.id, host="bob")
    assert (caught.value.start, caught.value.host, codes(caught.value)) == (NINE, "bob", {"busy"})
    assert pool.booking(one.id) == one
    assert_sound(db)


# --- what is judged --------------------------------------------------------------------------------------------------


def _closed(tenant: Tenant) -> None:
    late = [WeeklyHours(days="mon-fri", start="10:00", end="17:00")]
    tenant.save_host(Host(slug="bob", timezone="Europe/London", weekly_hours=late))


def _limited(tenant: Tenant) -> None:
    tenant.save_host(replace(tenant.host("bob"), limits=[Limit(per="day", count=1)]))
    tenant.book("solo", start=NINE + HOUR, attendee=ALAN)


REFUSED: dict[str, tuple[Callable[[Tenant], object], str]] = {
    "hours": (_closed, "outside_hours"),
    "archived": (lambda tenant: tenant.archive_host("bob"), "outside_hours"),
    "blocked": (lambda tenant: tenant.block("bob", BlockedPeriod(start=NOW, end=NINE + QUARTER)), "blocked"),
    "busy outside": (
        lambda tenant: tenant.replace_busy(
            "bob", source="cal", start=NOW, end=NOW + DAY, periods=[(NINE + QUARTER, NINE + HOUR)]
        ),
        "busy",
    ),
    "booked": (lambda tenant: tenant.book("solo", start=NINE, attendee=ALAN), "busy"),
    "held": (lambda tenant: tenant.place_hold("solo", start=NINE, ttl=TTL), "busy"),
    "limit": (_limited, "host_limit"),
}


@pytest.mark.parametrize("why", sorted(REFUSED))
def test_the_new_hosts_hours_blocked_and_busy_time_and_limits_are_judged(pool: Tenant, db: Database, why: str) -> None:
    booking = pool.book("any", start=NINE, attendee=GRACE)
    prepare, code = REFUSED[why]
    prepare(pool)
    with pytest.raises(SlotUnavailable) as caught:
        pool.reassign(booking.id, host="bob")
    assert codes(caught.value) == {code}
    assert {reason.host for reason in caught.value.reasons} == {"bob"}
    assert isinstance(caught.value, SlotTaken) == (code == "busy")
    assert caught.value.start == NINE
    assert caught.value.refused == {NINE: caught.value.reasons}
    assert pool.booking(booking.id) == booking
    assert pool.reassign(booking.id, host="cyd").hosts == ("cyd",)
    assert_sound(db)


def test_a_refusal_names_the_booking_that_is_in_the_way(pool: Tenant) -> None:
    booking = pool.book("any", start=NINE, attendee=GRACE)
    other = pool.book("solo", start=NINE, attendee=ALAN)
    with pytest.raises(SlotTaken) as caught:
        pool.reassign(booking.id, host="bob")
    assert [(one.id, one.start, one.end) for one in caught.value.reasons] == [(other.id, NINE, NINE + HALF)]


def test_nothing_else_is_judged(pool: Tenant, db: Database) -> None:
    booking = pool.book("any", start=NINE + QUARTER, attendee=GRACE, force=True, host="ada")
    limits = [Limit(per="day", count=1)]
    pool.save_host(replace(pool.host("ada"), limits=limits))
    pool.save_event_type(
        EventType(slug="any", duration=HOUR, hosts=["ada", "bob"], minimum_notice=30 * DAY, limits=limits, step=HOUR)
    )
    pool.book("solo", start=NINE + 3 * HOUR, attendee=ALAN)
    assert pool.reassign(booking.id, host="bob").hosts == ("bob",)
    assert_sound(db)


def test_the_limit_of_the_old_host_has_room_again(pool: Tenant, db: Database) -> None:
    limits = [Limit(per="day", count=1)]
    for slug in ("ada", "bob"):
        pool.save_host(replace(pool.host(slug), limits=limits))
    booking = pool.book("any", start=NINE, attendee=GRACE)
    with pytest.raises(SlotUnavailable):
        pool.book("visit", start=NINE + HOUR, attendee=ALAN)
    pool.reassign(booking.id, host="bob")
    assert pool.book("visit", start=NINE + HOUR, attendee=ALAN).hosts == ("ada",)
    with pytest.raises(SlotUnavailable) as caught:
        pool.book("solo", start=NINE + HOUR, attendee=ALAN)
    assert "host_limit" in codes(caught.value)
    assert_sound(db)


def test_it_keeps_its_buffers_although_others_are_set_since(pool: Tenant, db: Database) -> None:
    trio = ["ada", "bob", "cyd"]
    pool.save_event_type(
        EventType(slug="any", duration=HALF, hosts=trio, buffer_before=QUARTER, buffer_after=HALF, strategy="priority")
    )
    booking = pool.book("any", start=NINE + HOUR, attendee=GRACE)
    pool.save_event_type(EventType(slug="any", duration=HALF, hosts=trio, strategy="priority"))
    pool.book("solo", start=NINE + 2 * HOUR, attendee=ALAN)  # as the buffer ends
    pool.reassign(booking.id, host="bob")
    claimed = "SELECT busy_from, busy_until FROM nxsched.claim c JOIN nxsched.host h USING (host_no) WHERE active"
    span = (NINE + HOUR - QUARTER, NINE + 2 * HOUR)
    assert tuple(rows(db, f"{claimed} AND slug = 'bob' ORDER BY 1")[0]) == span
    assert not rows(db, f"{claimed} AND slug = 'ada'")
    with pytest.raises(SlotTaken):
        pool.book("solo", start=NINE + HOUR + HALF, attendee=ALAN)
    assert_sound(db)


def test_its_buffers_are_judged_by_what_the_new_host_has(pool: Tenant, db: Database) -> None:
    pool.save_event_type(EventType(slug="any", duration=HALF, hosts=["ada", "bob"], buffer_after=HALF))
    booking = pool.book("any", start=NINE, attendee=GRACE, host="ada")
    pool.save_event_type(EventType(slug="any", duration=HALF, hosts=["ada", "bob"]))
    pool.book("solo", start=NINE + HALF, attendee=ALAN)
    with pytest.raises(SlotTaken):
        pool.reassign(booking.id, host="bob")
    assert_sound(db)


def test_what_an_archived_event_type_has_can_still_go_to_another(pool: Tenant, db: Database) -> None:
    booking = pool.book("any", start=NINE, attendee=GRACE)
    pool.archive_event_type("any")
    assert pool.reassign(booking.id, host="bob").hosts == ("bob",)
    assert pool.booking(booking.id).event_type == "any"
    assert_sound(db)


def test_what_has_expired_in_the_new_hosts_way_is_ended(pool: Tenant, clock: SettableClock, db: Database) -> None:
    booking = pool.book("any", start=NINE, attendee=GRACE)
    hold = pool.place_hold("solo", start=NINE, ttl=TTL)
    clock.move(TTL)
    assert pool.reassign(booking.id, host="bob", actor=STAFF).hosts == ("bob",)
    assert trail(db, hold.id)[1:] == [(2, "expire", "booking.hold_expired")]
    assert pool.history(hold.id)[1].actor is None
    assert_sound(db)


def test_an_unknown_host_is_refused(pool: Tenant) -> None:
    booking = pool.book("any", start=NINE, attendee=GRACE)
    with pytest.raises((HostNotFound, InvalidInput)):
        pool.reassign(booking.id, host="nobody")
    assert pool.booking(booking.id) == booking


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"host": 7}, "host"),
        ({"host": ""}, "host"),
        ({"host": "bob", "instead_of": 7}, "instead_of"),
        ({"host": "bob", "reason": ""}, "reason"),
    ],
)
def test_what_cannot_be_asked_is_named(pool: Tenant, arguments: dict[str, Any], field: str) -> None:
    booking = pool.book("any", start=NINE, attendee=GRACE)
    with pytest.raises(InvalidInput) as caught:
        pool.reassign(booking.id, **arguments)
    assert caught.value.field == field


# --- the application's transaction -----------------------------------------------------------------------------------


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_within_the_applications_transaction_it_goes_with_it(pool: Tenant, db: Database, isolation: str) -> None:
    here = [pool.book("yoga", start=NINE, attendee=GRACE) for _ in range(2)]
    pool.book("solo", start=NINE, attendee=ALAN)
    engine = create_engine(db.url(APP_ROLE), isolation_level=isolation)
    try:
        with engine.connect() as connection:
            with pytest.raises(SlotTaken):
                pool.reassign(here[0].id, host="bob", within=connection)
            assert pool.reassign(here[0].id, host="cyd", within=connection).hosts == ("cyd",)
            assert pool.booking(here[1].id, within=connection).hosts == ("cyd",)
            connection.rollback()
            assert [pool.booking(one.id) for one in here] == here
            assert_sound(db)
            pool.reassign(here[0].id, host="cyd", within=connection)
            connection.commit()
    finally:
        engine.dispose()
    assert [pool.booking(one.id).hosts for one in here] == [("cyd",)] * 2
    assert_sound(db)


def test_who_counts_with_an_older_snapshot_is_told_to_begin_anew(pool: Tenant, db: Database) -> None:
    pool.save_host(replace(pool.host("bob"), limits=[Limit(per="day", count=1)]))
    booking = pool.book("any", start=NINE, attendee=GRACE)
    engine = create_engine(db.url(APP_ROLE), isolation_level="REPEATABLE READ")
    try:
        with engine.connect() as connection:
            pool.booking(booking.id, within=connection)
            pool.reassign(booking.id, host="bob")
            with pytest.raises(TransactionConflict):
                pool.book("solo", start=NINE + HOUR, attendee=ALAN, within=connection)
            connection.rollback()
    finally:
        engine.dispose()
    assert_sound(db)


@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
def test_whose_turn_it_is_is_not_counted_with_an_older_snapshot(pool: Tenant, db: Database, isolation: str) -> None:
    booking = pool.book("any", start=NINE, attendee=GRACE, host="ada")
    engine = create_engine(db.url(APP_ROLE), isolation_level=isolation)
    try:
        with engine.connect() as connection:
            pool.booking(booking.id, within=connection)
            pool.reassign(booking.id, host="bob")
            with pytest.raises(TransactionConflict):
                pool.book("any", start=NINE + HOUR, attendee=ALAN, within=connection)
            connection.rollback()
    finally:
        engine.dispose()
    assert_sound(db)


# --- races -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", range(4))
def test_of_a_reassignment_and_a_cancellation_both_are_done_or_the_first_is_too_late(
    pool: Tenant, db: Database, n: int
) -> None:
    start = NINE + n * HOUR
    booking = pool.book("any", start=start, attendee=GRACE, host="ada")
    reassigned, cancelled = at_once(lambda: pool.reassign(booking.id, host="bob"), lambda: pool.cancel(booking.id))
    assert isinstance(cancelled, Booking), cancelled
    assert isinstance(reassigned, Booking | InvalidTransition), reassigned
    found = pool.booking(booking.id)
    assert (found.status, found.hosts) == ("cancelled", ("bob",) if isinstance(reassigned, Booking) else ("ada",))
    assert count(db, "claim", "active") == 0
    assert_sound(db)


@pytest.mark.parametrize("n", range(4))
def test_who_joins_a_class_that_goes_to_another_goes_along_or_comes_after(pool: Tenant, db: Database, n: int) -> None:
    start = NINE + n * HOUR
    first = pool.book("yoga", start=start, attendee=GRACE)
    reassigned, joined, other = at_once(
        lambda: pool.reassign(first.id, host="cyd"),
        lambda: pool.book("yoga", start=start, attendee=ALAN),
        lambda: pool.book("yoga", start=start, attendee=ALAN),
    )
    assert all(isinstance(one, Booking) for one in (reassigned, joined, other)), (reassigned, joined, other)
    assert [pool.booking(one.id).hosts for one in (first, joined, other)] == [("cyd",)] * 3
    assert count(db, "occurrence", "active") == 1
    assert_sound(db)


def test_who_leaves_a_class_that_goes_to_another_frees_nobody_elses_time(pool: Tenant, db: Database) -> None:
    for n in range(4):
        start = NINE + n * HOUR
        here = [pool.book("yoga", start=start, attendee=GRACE) for _ in range(3)]
        found = at_once(
            lambda: pool.reassign(here[0].id, host="cyd"),  # noqa: B023 - called at once
            lambda: pool.cancel(here[1].id),  # noqa: B023 - called at once
            lambda: pool.cancel(here[2].id),  # noqa: B023 - called at once
        )
        assert all(isinstance(one, Booking) for one in found), found
        assert pool.booking(here[0].id).hosts == ("cyd",)
    assert count(db, "claim", "active") == 4
    assert_sound(db)


def test_the_new_hosts_time_is_given_once(pool: Tenant, db: Database) -> None:
    for n in range(6):
        start = NINE + n * HOUR
        booking = pool.book("any", start=start, attendee=GRACE, host="ada")
        found = at_once(
            lambda: pool.reassign(booking.id, host="bob"),  # noqa: B023 - called at once
            lambda: pool.book("solo", start=start, attendee=ALAN),  # noqa: B023 - called at once
        )
        assert sorted(type(one) is Booking for one in found) == [False, True], found
        assert [type(one) for one in found if not isinstance(one, Booking)] == [SlotTaken]
        assert pool.booking(booking.id).hosts == (("bob",) if isinstance(found[0], Booking) else ("ada",))
    assert count(db, "claim", "active") == 6 + sum(1 for one in pool.bookings(host="bob") if one.event_type == "solo")
    assert_sound(db)


def test_two_who_give_the_same_class_away_take_turns(pool: Tenant, db: Database) -> None:
    for n in range(4):
        start = NINE + n * HOUR
        one, other = (pool.book("yoga", start=start, attendee=GRACE) for _ in range(2))
        found = at_once(
            lambda: pool.reassign(one.id, host="bob"),  # noqa: B023 - called at once
            lambda: pool.reassign(other.id, host="cyd"),  # noqa: B023 - called at once
        )
        assert all(isinstance(each, Booking) for each in found), found
        after = [pool.booking(each.id) for each in (one, other)]
        assert after[0].hosts == after[1].hosts
        assert [(each.sequence, each.version) for each in after] == [(2, 3), (2, 3)]
    assert count(db, "claim", "active") == 4
    assert_sound(db)


def test_two_who_want_the_last_place_of_the_new_hosts_limit_do_not_both_get_it(pool: Tenant, db: Database) -> None:
    pool.save_host(replace(pool.host("bob"), limits=[Limit(per="day", count=1)]))
    for n in range(4):
        day = NINE + n * DAY
        ones = [pool.book("any", start=day + m * HOUR, attendee=GRACE, host="ada") for m in range(2)]
        found = at_once(
            lambda: pool.reassign(ones[0].id, host="bob"),  # noqa: B023 - called at once
            lambda: pool.reassign(ones[1].id, host="bob"),  # noqa: B023 - called at once
            lambda: pool.book("solo", start=day + 2 * HOUR, attendee=ALAN),  # noqa: B023 - called at once
        )
        assert sum(isinstance(one, Booking) for one in found) == 1, found
        assert all(isinstance(one, Booking | SlotUnavailable) for one in found), found
    assert_sound(db)


def test_two_who_swap_their_hosts_are_both_refused_or_one_after_the_other(pool: Tenant, db: Database) -> None:
    one = pool.book("any", start=NINE, attendee=GRACE, host="ada")
    other = pool.book("yoga", start=NINE, attendee=GRACE, host="bob")
    found = at_once(lambda: pool.reassign(one.id, host="bob"), lambda: pool.reassign(other.id, host="ada"))
    assert [type(each) for each in found] == [SlotTaken, SlotTaken]
    assert_sound(db)


# --- statements ------------------------------------------------------------------------------------------------------


def test_a_class_of_ten_goes_to_another_in_six_statements(pool: Tenant, scheduler: Scheduler) -> None:
    pool.save_event_type(EventType(slug="yoga", duration=HOUR, capacity=10, hosts=["ada", "bob"]))
    ten = [pool.book("yoga", start=NINE, attendee=Attendee(name=f"Number {n}")) for n in range(10)]
    other = {"ada": "bob", "bob": "ada"}[ten[0].hosts[0]]
    with recorded(scheduler.engine) as found:
        pool.reassign(ten[0].id, host=other)
    assert len(found) <= 8
    assert len(found) == 6
    assert {pool.booking(one.id).hosts for one in ten} == {(other,)}
