"""Two transactions, one of which waits for the other: it is judged by what is then, and by the time that it is then."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, text

from nxsched import (
    Actor,
    BlockedPeriod,
    Booking,
    EventType,
    EventTypeNotFound,
    HoldExpired,
    Host,
    HostGroup,
    InvalidInput,
    InvalidTransition,
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
    WeeklyHours,
)
from nxsched.embedded import APP_ROLE, OWNER, WORKER_ROLE
from nxsched.store import migrate
from nxsched.store.ground import fetch_ground
from store.booked import ACTS, ALAN, GRACE, assert_sound, count, rows, trail
from store.conftest import DAY, HALF, HOUR, NINE, Database

pytestmark = pytest.mark.slow  # many, and most of them wait for somebody

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
PATIENCE = timedelta(seconds=25)
LONG = 0.6
"""Seconds that a wait lasts after which all is judged anew."""

ONE = [Limit(per="day", count=1)]
TWO = [Limit(per="day", count=2)]
LIMITED = {"event type": "event_limit", "host": "host_limit"}


@pytest.fixture
def scheduler(db: Database, clock: SettableClock) -> Iterator[Scheduler]:
    """A scheduler that waits as long as a busy machine needs."""
    with Scheduler(db.app, clock=clock, lock_timeout=PATIENCE) as found:
        yield found


@pytest.fixture
def today(db: Database) -> Iterator[Tenant]:
    """A tenant by the database's own clock; `visit` is with ada, who is always there."""
    with Scheduler(db.app, lock_timeout=PATIENCE) as found:
        tenant = found.create_tenant("today", name="Today")
        always = [WeeklyHours(days="mon-sun", start="00:00", end="24:00")]
        tenant.save_host(Host(slug="ada", timezone="UTC", weekly_hours=always))
        tenant.save_event_type(EventType(slug="visit", duration=HALF, hosts=["ada"]))
        yield tenant


def tomorrow(hour: int) -> datetime:
    """An hour of tomorrow; a test that runs at midnight uses one of them only, or two of the same day."""
    return datetime.now(UTC).replace(hour=hour, minute=0, second=0, microsecond=0) + DAY


def database_time(db: Database) -> datetime:
    found: datetime = rows(db, "SELECT clock_timestamp()")[0][0]
    return found


def wait_until(db: Database, moment: datetime) -> None:
    while (now := database_time(db)) < moment:
        time.sleep((moment - now).total_seconds())


@contextmanager
def beside(db: Database, call: Callable[[], Any]) -> Iterator[list[Any]]:
    """Call in another thread, and go on when that waits for a lock; in the end the list has what came of it."""
    told: list[Any] = []

    def run() -> None:
        try:
            told.append(call())
        except NxschedError as error:
            told.append(error)

    thread = threading.Thread(target=run, daemon=True)
    waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    before = len(rows(db, waiting))
    thread.start()
    until = time.monotonic() + PATIENCE.total_seconds()
    while len(rows(db, waiting)) == before:
        assert not told, f"it did not wait: {told[0]!r}"
        assert time.monotonic() < until, "it neither waits nor ends"
        time.sleep(0.005)
    yield told
    thread.join(timeout=2 * PATIENCE.total_seconds())
    assert told, "it does not end"


def codes(error: object) -> list[str]:
    """The reasons of a refusal, which is none that says that somebody was quicker."""
    assert isinstance(error, SlotUnavailable), error
    assert not isinstance(error, SlotTaken), error
    return [reason.code for reason in error.reasons]


@contextmanager
def transaction(db: Database, whose: str) -> Iterator[dict[str, Any]]:
    """The options of an action in a transaction of its own, or in the application's, which commits in the end."""
    if whose == "its own":
        yield {}
        return
    with db.app.connect() as theirs:
        yield {"within": theirs}
        theirs.commit()


in_any_transaction = pytest.mark.parametrize("whose", ["its own", "the application's"])


def limit(tenant: Tenant, whose: str, limits: list[Limit]) -> None:
    """Limit `visit`, or all that ada does."""
    if whose == "event type":
        tenant.save_event_type(replace(tenant.event_type("visit"), limits=limits))
    else:
        tenant.save_host(replace(tenant.host("ada"), limits=limits))


# A limit, and a confirmation that takes long.


@pytest.mark.parametrize("ends", ["commit", "rollback"])
@pytest.mark.parametrize("approval", [False, True], ids=["confirmed", "pending"])
@pytest.mark.parametrize("whose", ["event type", "host"])
def test_a_limit_holds_although_a_hold_ends_while_it_is_being_confirmed(
    acme: Tenant, db: Database, clock: SettableClock, whose: str, ends: str, *, approval: bool
) -> None:
    acme.save_event_type(replace(acme.event_type("visit"), requires_approval=approval))
    limit(acme, whose, ONE)
    hold = acme.place_hold("visit", start=NINE, ttl=MINUTE)
    with db.app.connect() as ours:
        acme.confirm_hold(hold.id, attendee=GRACE, within=ours)
        clock.move(MINUTE)
        with beside(db, lambda: acme.book("visit", start=NINE + HOUR, attendee=ALAN)) as told:
            getattr(ours, ends)()
    if ends == "commit":
        assert codes(told[0])[-1] == LIMITED[whose]
        assert acme.booking(hold.id).status == ("pending" if approval else "confirmed")
    else:
        assert acme.booking(told[0].id) == told[0]
        assert acme.booking(hold.id).status == "expired"
        acme.sweep()
    assert count(db, "claim", "active") == 1
    assert_sound(db)


def test_a_limit_of_one_host_holds_for_the_event_types_of_several(
    acme: Tenant, db: Database, clock: SettableClock
) -> None:
    limit(acme, "host", ONE)
    hold = acme.place_hold("all", start=NINE, ttl=MINUTE)
    with db.app.connect() as ours:
        acme.confirm_hold(hold.id, attendee=GRACE, within=ours)
        clock.move(MINUTE)
        with beside(db, lambda: acme.book("any", start=NINE + HOUR, attendee=ALAN, host="ada")) as told:
            ours.commit()
    assert "host_limit" in codes(told[0])
    assert_sound(db)


@pytest.mark.parametrize("whose", ["event type", "host"])
def test_a_limit_holds_by_the_databases_clock_too(today: Tenant, db: Database, whose: str) -> None:
    limit(today, whose, ONE)
    start = tomorrow(9)
    hold = today.place_hold("visit", start=start, ttl=2 * SECOND)
    with db.app.connect() as ours:
        today.confirm_hold(hold.id, attendee=GRACE, within=ours)
        wait_until(db, hold.expires_at)
        with beside(db, lambda: today.book("visit", start=start + HOUR, attendee=ALAN)) as told:
            ours.commit()
    assert codes(told[0])[-1] == LIMITED[whose]
    assert count(db, "claim", "active") == 1
    assert_sound(db)


@pytest.mark.parametrize("whose", ["event type", "host"])
def test_a_confirmation_that_waited_for_what_is_counted_past_the_end_of_its_hold_comes_too_late(
    today: Tenant, db: Database, whose: str
) -> None:
    limit(today, whose, ONE)
    start = tomorrow(9)
    with db.app.connect() as ours:
        hold = today.place_hold("visit", start=start, ttl=SECOND)
        today.book("visit", start=start + DAY, attendee=ALAN, within=ours)
        with beside(db, lambda: today.confirm_hold(hold.id, attendee=GRACE)) as told:
            wait_until(db, hold.expires_at)
            ours.commit()
    assert isinstance(told[0], HoldExpired)
    assert today.book("visit", start=start + HOUR, attendee=GRACE).status == "confirmed"
    assert_sound(db)


@pytest.mark.parametrize("event_type", ["visit", "any", "all"])
@pytest.mark.parametrize("ends", ["commit", "rollback"])
def test_the_time_of_a_hold_that_is_being_confirmed_is_waited_for(
    acme: Tenant, db: Database, clock: SettableClock, event_type: str, ends: str
) -> None:
    hold = acme.place_hold(event_type, start=NINE, ttl=MINUTE, host="ada")
    with db.app.connect() as ours:
        acme.confirm_hold(hold.id, attendee=GRACE, within=ours)
        clock.move(MINUTE)
        with beside(db, lambda: acme.book("visit", start=NINE, attendee=ALAN)) as told:
            getattr(ours, ends)()
    if ends == "commit":
        assert isinstance(told[0], SlotTaken)
    else:
        assert told[0].status == "confirmed"
        assert trail(db, hold.id)[1] == (2, "expire", "booking.hold_expired")
    assert count(db, "occurrence", "active") == 1
    assert_sound(db)


# Settings that change while a booking waits for its lock.


def told_after(
    acme: Tenant, db: Database, change: Callable[[Connection], object], event_type: str = "visit", **more: Any
) -> Any:  # noqa: ANN401 - a booking or an error
    """What a booking is told for which somebody else, booking another day, has changed something before it came."""
    with db.app.connect() as ours:
        acme.place_hold(event_type, start=NINE + DAY, within=ours)
        with beside(db, lambda: acme.book(event_type, start=NINE, attendee=GRACE, **more)) as told:
            change(ours)
            ours.commit()
    assert_sound(db)
    return told[0]


waits_for = pytest.mark.parametrize("event_type", ["visit", "any"], ids=["limited", "pool"])


@waits_for
def test_who_waited_for_what_was_archived_meanwhile_does_not_find_it(
    acme: Tenant, db: Database, event_type: str
) -> None:
    limit(acme, "event type", ONE)
    told = told_after(acme, db, lambda ours: acme.archive_event_type(event_type, within=ours), event_type)
    assert isinstance(told, EventTypeNotFound)
    assert count(db, "booking") == 1


@pytest.mark.parametrize("force", [False, True], ids=["judged", "forced"])
@pytest.mark.parametrize("whose", ["event type", "host"])
def test_a_host_who_was_archived_meanwhile_gets_no_booking(
    acme: Tenant, db: Database, whose: str, *, force: bool
) -> None:
    limit(acme, whose, ONE)
    told = told_after(acme, db, lambda ours: acme.archive_host("ada", within=ours), force=force)
    assert "outside_hours" in codes(told)


def test_the_pool_goes_on_without_the_one_who_was_archived_meanwhile(acme: Tenant, db: Database) -> None:
    told = told_after(acme, db, lambda ours: acme.archive_host("ada", within=ours), "any")
    assert (told.hosts, told.assigned_because) == (("bob",), "least recently booked of 2 that were free")


def test_a_pool_of_which_all_were_archived_meanwhile_has_nobody(acme: Tenant, db: Database) -> None:
    def archive(ours: Connection) -> None:
        for slug in ("ada", "bob", "cyd"):
            acme.archive_host(slug, within=ours)

    assert codes(told_after(acme, db, archive, "any")) == ["off_grid", "not_enough_hosts", *["outside_hours"] * 3]


@pytest.mark.parametrize("whose", ["event type", "host"])
def test_a_limit_that_was_lowered_meanwhile_is_kept(acme: Tenant, db: Database, whose: str) -> None:
    limit(acme, whose, TWO)
    acme.book("visit", start=NINE + HOUR, attendee=ALAN)
    visit, ada = acme.event_type("visit"), acme.host("ada")

    def lower(ours: Connection) -> None:
        if whose == "event type":
            acme.save_event_type(replace(visit, limits=ONE), within=ours)
        else:
            acme.save_host(replace(ada, limits=ONE), within=ours)

    assert codes(told_after(acme, db, lower))[-1] == LIMITED[whose]
    assert count(db, "claim", "busy_from < :end", end=NINE + DAY) == 1


def test_a_limit_that_was_raised_meanwhile_gives_room(acme: Tenant, db: Database) -> None:
    limit(acme, "event type", ONE)
    acme.book("visit", start=NINE + HOUR, attendee=ALAN)
    visit = replace(acme.event_type("visit"), limits=TWO)
    assert told_after(acme, db, lambda ours: acme.save_event_type(visit, within=ours)).status == "confirmed"


@pytest.mark.parametrize(("before", "after"), [("event type", "host"), ("host", "event type")])
def test_a_limit_that_went_elsewhere_meanwhile_is_kept(acme: Tenant, db: Database, before: str, after: str) -> None:
    limit(acme, before, TWO)
    acme.book("visit", start=NINE + HOUR, attendee=ALAN)
    visit, ada = acme.event_type("visit"), acme.host("ada")

    def move(ours: Connection) -> None:
        acme.save_event_type(replace(visit, limits=ONE if after == "event type" else []), within=ours)
        acme.save_host(replace(ada, limits=ONE if after == "host" else []), within=ours)

    assert codes(told_after(acme, db, move))[-1] == LIMITED[after]


def test_a_limit_of_a_host_who_is_new_meanwhile_is_kept_and_locked(acme: Tenant, db: Database) -> None:
    """The one who waited for ada's lock waits once more, for bob's: somebody who books bob is in the middle of it."""
    acme.save_event_type(EventType(slug="bobs", duration=HALF, hosts=["bob"]))
    acme.save_host(replace(acme.host("bob"), limits=ONE))
    limit(acme, "event type", ONE)
    with db.app.connect() as others, db.app.connect() as ours:
        acme.book("bobs", start=NINE + HOUR, attendee=ALAN, within=others)
        acme.place_hold("visit", start=NINE + DAY, within=ours)
        visit = replace(acme.event_type("visit"), hosts=acme.event_type("bobs").hosts)
        with beside(db, lambda: acme.book("visit", start=NINE, attendee=GRACE)) as told:
            acme.save_event_type(visit, within=ours)
            ours.commit()
            time.sleep(0.2)
            assert told == []
            others.commit()
    assert "host_limit" in codes(told[0])
    assert_sound(db)


@waits_for
def test_time_that_was_blocked_meanwhile_is_not_booked(acme: Tenant, db: Database, event_type: str) -> None:
    limit(acme, "event type", ONE)
    period = BlockedPeriod(start=NINE, end=NINE + HOUR)
    told = told_after(acme, db, lambda _: acme.block("ada", period), event_type)
    if event_type == "any":
        assert told.hosts == ("bob",)
    else:
        assert codes(told) == ["not_enough_hosts", "blocked"]


@waits_for
def test_while_everybody_is_away_nobody_books_although_it_was_asked_before(
    acme: Tenant, db: Database, event_type: str
) -> None:
    limit(acme, "event type", ONE)
    told = told_after(acme, db, lambda _: acme.block(None, BlockedPeriod(start=NINE, end=NINE + HOUR)), event_type)
    assert "blocked" in codes(told)


def test_time_that_was_opened_meanwhile_can_be_booked(acme: Tenant, db: Database) -> None:
    limit(acme, "event type", ONE)
    blocked = acme.block("ada", BlockedPeriod(start=NINE, end=NINE + HOUR))
    assert told_after(acme, db, lambda _: acme.unblock(str(blocked.id))).status == "confirmed"


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"duration": HOUR}, {"end": NINE + HOUR}),
        ({"requires_approval": True}, {"status": "pending", "expires_at": NINE}),
        ({"location": "Room 5"}, {"location": "Room 5"}),
        ({"buffer_before": HALF}, {"start": NINE}),
    ],
)
def test_a_booking_that_waited_is_what_its_event_type_has_become(
    acme: Tenant, db: Database, changed: dict[str, Any], found: dict[str, Any]
) -> None:
    limit(acme, "event type", ONE)
    visit = replace(acme.event_type("visit"), **changed)
    told = told_after(acme, db, lambda ours: acme.save_event_type(visit, within=ours))
    assert {field: getattr(told, field) for field in found} == found
    busy = rows(
        db,
        "SELECT busy_from FROM nxsched.claim JOIN nxsched.booking USING (occurrence_id) WHERE starts_at = :nine",
        nine=NINE,
    )
    assert [row[0] for row in busy] == [NINE - changed.get("buffer_before", timedelta())]


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"questions": [Question(key="why", label="Why?", required=True)]}, "answers.why"),
        ({"duration": HOUR}, "duration"),
    ],
)
def test_what_was_asked_and_can_no_longer_be_had_is_refused_after_the_wait(
    acme: Tenant, db: Database, changed: dict[str, Any], field: str
) -> None:
    limit(acme, "event type", ONE)
    visit = replace(acme.event_type("visit"), **changed)
    told = told_after(acme, db, lambda ours: acme.save_event_type(visit, within=ours), duration=HALF)
    assert isinstance(told, InvalidInput)
    assert told.field == field
    assert count(db, "booking") == 1


# Who waits for a row sees what was done to it, and records the time after the wait.


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        ("confirm", "confirm", "confirmed"),
        ("confirm", "confirm if free", "confirmed"),
        ("confirm", "release", ("confirmed", "released")),
        ("confirm", "cancel", "cancelled"),
        ("release", "confirm", ("released", "confirmed")),
        ("release", "confirm if free", ("released", "confirmed")),
        ("release", "release", "released"),
        ("release", "cancel", ("released", "cancelled")),
    ],
)
@pytest.mark.parametrize("limited", [False, True], ids=["plain", "limited"])
def test_the_second_at_a_hold_waits_and_sees_what_the_first_did(
    acme: Tenant, db: Database, first: str, second: str, told: str | tuple[str, str], *, limited: bool
) -> None:
    limit(acme, "event type", ONE if limited else [])
    hold = acme.place_hold("visit", start=NINE)
    with db.app.connect() as ours:
        ACTS[first](acme, hold.id, within=ours)
        with beside(db, lambda: ACTS[second](acme, hold.id)) as found:
            ours.commit()
    if isinstance(told, tuple):
        assert isinstance(found[0], InvalidTransition)
        assert (found[0].from_status, found[0].to_status) == told
        assert len(acme.history(hold.id)) == 2
    else:
        assert found[0].status == told
        assert acme.booking(hold.id).version == found[0].version == (3 if told == "cancelled" else 2)
    assert_sound(db)


def test_of_two_who_cancel_at_once_the_second_is_told_the_same(acme: Tenant, db: Database) -> None:
    booking = acme.book("visit", start=NINE, attendee=GRACE)
    with db.app.connect() as ours:
        first = acme.cancel(booking.id, reason="ill", within=ours)
        with beside(db, lambda: acme.cancel(booking.id, reason="late")) as told:
            ours.commit()
    assert told == [first]
    assert [entry.reason for entry in acme.history(booking.id)] == [None, "ill"]
    assert_sound(db)


@pytest.mark.parametrize("act", ["cancel", "confirm", "confirm if free", "release"])
def test_what_waited_for_its_row_is_recorded_at_the_time_after_the_wait(today: Tenant, db: Database, act: str) -> None:
    start = tomorrow(9)
    id_ = (today.book if act == "cancel" else today.place_hold)("visit", start=start, attendee=GRACE).id
    with db.superuser.connect() as ours:
        ours.execute(text("SELECT 1 FROM nxsched.booking FOR UPDATE"))
        with beside(db, lambda: ACTS[act](today, id_)):
            free = database_time(db)
            ours.rollback()
    assert today.history(id_)[-1].at >= free
    assert rows(db, "SELECT max(occurred_at) >= :free, max(due_at) >= :free FROM nxsched.outbox_event", free=free) == [
        (True, True)
    ]
    assert_sound(db)


@pytest.mark.parametrize("event_type", ["visit", "any"], ids=["limited", "pool"])
def test_what_waited_for_its_lock_is_made_at_the_time_after_the_wait(
    today: Tenant, db: Database, event_type: str
) -> None:
    limit(today, "event type", ONE)
    start = tomorrow(9)
    today.save_host(replace(today.host("ada"), slug="bob"))
    today.save_event_type(EventType(slug="any", duration=HALF, hosts=["ada", "bob"]))
    with db.app.connect() as ours:
        today.place_hold(event_type, start=start + DAY, within=ours)
        with beside(db, lambda: today.place_hold(event_type, start=start, ttl=MINUTE)) as told:
            free = database_time(db)
            ours.rollback()
    hold = told[0]
    assert hold.created_at >= free
    assert hold.expires_at == hold.created_at + MINUTE
    assert today.history(hold.id)[0].at == hold.created_at


def test_the_notice_of_who_waited_past_it_is_too_short(today: Tenant, db: Database) -> None:
    today.save_event_type(replace(today.event_type("visit"), policies=Policies(cancel_notice=HOUR)))
    until = database_time(db).replace(microsecond=0) + 4 * SECOND
    booking = today.book("visit", start=until + HOUR, attendee=GRACE, force=True)
    with db.app.connect() as ours:
        today.cancel(booking.id, within=ours)
        with beside(db, lambda: today.cancel(booking.id, actor=Actor(role="attendee", id="7"))) as told:
            assert database_time(db) < until
            wait_until(db, until + SECOND / 1000)
            ours.rollback()
    assert isinstance(told[0], PolicyViolation)
    assert (told[0].policy, told[0].until) == ("cancel_notice", until)
    assert today.booking(booking.id) == booking


# A long wait for whoever wants the same time: nothing is locked there, and much can have changed when they give up.


@contextmanager
def rival(
    acme: Tenant, db: Database, call: Callable[..., Any], whose: str, event_type: str = "visit"
) -> Iterator[list[Any]]:
    """Call while somebody else is about to book ada at nine, who gives up in the end."""
    with db.app.connect() as ours, transaction(db, whose) as options:
        acme.book(event_type, start=NINE, attendee=ALAN, within=ours)
        with beside(db, lambda: call(**options)) as told:
            time.sleep(LONG)
            yield told
            ours.rollback()
    assert_sound(db)


def wanted(acme: Tenant, event_type: str = "visit", **more: Any) -> Callable[..., Any]:
    """A booking of ada at nine."""
    return lambda **options: acme.book(event_type, start=NINE, attendee=GRACE, **more, **options)


@in_any_transaction
@pytest.mark.parametrize("event_type", ["visit", "all"])
def test_who_waited_long_for_the_time_gets_it_once(acme: Tenant, db: Database, whose: str, event_type: str) -> None:
    with rival(acme, db, wanted(acme, event_type, idempotency_key="k"), whose, event_type) as told:
        pass
    assert (told[0].status, told[0].attendee) == ("confirmed", GRACE)
    assert wanted(acme, event_type, idempotency_key="k")() == told[0]
    assert trail(db, told[0].id) == [(1, "book", "booking.confirmed")]
    assert (count(db, "booking"), count(db, "occurrence"), count(db, "idempotency_key")) == (1, 1, 1)


@in_any_transaction
@pytest.mark.parametrize(("notice", "code"), [(timedelta(), "past"), (HOUR, "notice")])
def test_a_start_that_came_too_near_in_a_long_wait_is_refused(
    acme: Tenant, db: Database, clock: SettableClock, whose: str, notice: timedelta, code: str
) -> None:
    acme.save_event_type(replace(acme.event_type("visit"), minimum_notice=notice))
    with rival(acme, db, wanted(acme), whose) as told:
        clock.set(NINE - notice + SECOND)
    assert code in codes(told[0])
    assert count(db, "booking") == 0


@in_any_transaction
@pytest.mark.parametrize("event_type", ["visit", "all"])
def test_what_was_archived_in_a_long_wait_is_not_found(acme: Tenant, db: Database, whose: str, event_type: str) -> None:
    with rival(acme, db, wanted(acme, event_type), whose, event_type) as told:
        acme.archive_event_type(event_type)
    assert isinstance(told[0], EventTypeNotFound)
    assert count(db, "booking") == 0


@in_any_transaction
def test_time_that_was_blocked_in_a_long_wait_is_not_booked(acme: Tenant, db: Database, whose: str) -> None:
    with rival(acme, db, wanted(acme), whose) as told:
        acme.block("ada", BlockedPeriod(start=NINE, end=NINE + HOUR))
    assert codes(told[0]) == ["not_enough_hosts", "blocked"]


@in_any_transaction
def test_who_waited_long_for_time_that_is_taken_in_the_end_is_told_so(acme: Tenant, db: Database, whose: str) -> None:
    with db.app.connect() as ours, transaction(db, whose) as options:
        acme.book("visit", start=NINE, attendee=ALAN, within=ours)
        with beside(db, lambda: wanted(acme)(**options)) as told:
            time.sleep(LONG)
            ours.commit()
    assert isinstance(told[0], SlotTaken)
    assert count(db, "booking") == 1


@in_any_transaction
def test_an_expired_hold_that_is_wanted_again_is_judged_after_a_long_wait(
    acme: Tenant, db: Database, clock: SettableClock, whose: str
) -> None:
    hold = acme.place_hold("visit", start=NINE, ttl=MINUTE)
    clock.move(MINUTE)
    acme.sweep()

    def confirm(**options: Any) -> Any:  # noqa: ANN401 - a booking
        return acme.confirm_hold(hold.id, attendee=GRACE, if_free=True, **options)

    with rival(acme, db, confirm, whose) as told:
        blocked = acme.block("ada", BlockedPeriod(start=NINE, end=NINE + HOUR))
    assert codes(told[0]) == ["not_enough_hosts", "blocked"]
    assert acme.hold(hold.id).version == 2
    acme.unblock(str(blocked.id))
    with rival(acme, db, confirm, whose) as told:
        pass
    assert acme.booking(hold.id) == told[0]
    assert (told[0].status, told[0].version) == ("confirmed", 3)


def hold_beside(
    today: Tenant, db: Database, whose: str, before: Callable[[Connection], object], ends: str = "rollback", **more: Any
) -> tuple[Any, datetime]:
    """A hold of one second that waited longer than that, and when the wait was over."""
    with db.app.connect() as ours, transaction(db, whose) as options:
        before(ours)
        with beside(db, lambda: today.place_hold("visit", start=tomorrow(9), ttl=SECOND, **more, **options)) as told:
            time.sleep(1.2)
            free = database_time(db)
            getattr(ours, ends)()
    assert_sound(db)
    return told[0], free


@in_any_transaction
def test_a_hold_that_waited_long_for_its_time_lasts_from_then_on(today: Tenant, db: Database, whose: str) -> None:
    start = tomorrow(9)
    hold, free = hold_beside(
        today, db, whose, lambda ours: today.book("visit", start=start, attendee=ALAN, within=ours)
    )
    assert hold.created_at >= free
    assert hold.expires_at == hold.created_at + SECOND
    assert today.history(hold.id)[0].at == hold.created_at


@in_any_transaction
def test_a_hold_that_waited_for_its_key_lasts_from_then_on(today: Tenant, db: Database, whose: str) -> None:
    start = tomorrow(9)
    hold, free = hold_beside(
        today,
        db,
        whose,
        lambda ours: today.place_hold("visit", start=start, ttl=SECOND, within=ours, idempotency_key="k"),
        idempotency_key="k",
    )
    assert hold.created_at >= free
    assert hold.expires_at == hold.created_at + SECOND


@in_any_transaction
@pytest.mark.parametrize("ends", ["commit", "rollback"])
def test_a_hold_that_waited_for_the_end_of_one_that_is_over_lasts_from_then_on(
    today: Tenant, db: Database, whose: str, ends: str
) -> None:
    """Somebody has the row of the expired hold in hand, and no lock on its host."""
    start = tomorrow(9)
    over = today.place_hold("visit", start=start, ttl=SECOND)
    wait_until(db, over.expires_at)
    hold, free = hold_beside(today, db, whose, lambda ours: today.release_hold(over.id, within=ours), ends)
    assert today.hold(over.id).status == "expired"
    assert hold.created_at >= free
    assert hold.expires_at == hold.created_at + SECOND


# A hold that is over, and two who want its time.


@in_any_transaction
@pytest.mark.parametrize("ends", ["commit", "rollback"])
@pytest.mark.parametrize("event_type", ["visit", "all"])
def test_of_two_who_want_the_time_of_a_hold_that_is_over_the_second_waits(
    acme: Tenant, db: Database, clock: SettableClock, whose: str, ends: str, event_type: str
) -> None:
    hold = acme.place_hold(event_type, start=NINE, ttl=MINUTE)
    clock.move(MINUTE)
    with db.app.connect() as ours, transaction(db, whose) as options:
        first = acme.book(event_type, start=NINE, attendee=ALAN, within=ours)
        with beside(db, lambda: wanted(acme, event_type)(**options)) as told:
            getattr(ours, ends)()
    if ends == "commit":
        assert isinstance(told[0], SlotTaken)
        assert acme.booking(first.id) == first
    else:
        assert acme.booking(told[0].id) == told[0]
    assert count(db, "occurrence", "active") == 1
    assert trail(db, hold.id) == [(1, "hold", "booking.held"), (2, "expire", "booking.hold_expired")]
    assert_sound(db)


# Settings that change while somebody waits for a booking.


def told_after_row(db: Database, whose: str, act: Callable[..., Any], change: Callable[[], object]) -> Any:  # noqa: ANN401 - a booking or an error
    """What comes of an act that waits for the row of `visit`, of which the settings change until it is free again."""
    with db.superuser.connect() as ours, transaction(db, whose) as options:
        ours.execute(text("SELECT 1 FROM nxsched.booking FOR UPDATE"))
        with beside(db, lambda: act(**options)) as told:
            change()
            time.sleep(0.1)
            ours.rollback()
    assert_sound(db)
    return told[0]


@in_any_transaction
def test_the_notice_of_a_policy_that_came_in_the_wait_is_kept(acme: Tenant, db: Database, whose: str) -> None:
    booking = acme.book("visit", start=NINE, attendee=GRACE)
    strict = replace(acme.event_type("visit"), policies=Policies(cancel_notice=2 * HOUR))

    def cancel(**options: Any) -> Any:  # noqa: ANN401 - a booking
        return acme.cancel(booking.id, actor=Actor(role="attendee", id="7"), **options)

    told = told_after_row(db, whose, cancel, lambda: acme.save_event_type(strict))
    assert isinstance(told, PolicyViolation)
    assert (told.policy, told.until) == ("cancel_notice", NINE - 2 * HOUR)
    assert acme.booking(booking.id) == booking
    lax = replace(strict, policies=Policies())
    assert told_after_row(db, whose, cancel, lambda: acme.save_event_type(lax)).status == "cancelled"


@in_any_transaction
def test_a_question_that_came_in_the_wait_has_to_be_answered(acme: Tenant, db: Database, whose: str) -> None:
    hold = acme.place_hold("visit", start=NINE)
    plain = acme.event_type("visit")
    asking = replace(plain, questions=[Question(key="why", label="Why?", required=True)])

    def confirm(**options: Any) -> Any:  # noqa: ANN401 - a booking
        return acme.confirm_hold(hold.id, attendee=GRACE, **options)

    told = told_after_row(db, whose, confirm, lambda: acme.save_event_type(asking))
    assert isinstance(told, InvalidInput)
    assert told.field == "answers.why"
    assert acme.hold(hold.id) == hold
    told = told_after_row(db, whose, confirm, lambda: acme.save_event_type(plain))
    assert (told.status, told.answers) == ("confirmed", {})


@in_any_transaction
def test_a_confirmation_needs_the_approval_that_came_in_the_wait(acme: Tenant, db: Database, whose: str) -> None:
    hold = acme.place_hold("visit", start=NINE)
    approved = replace(acme.event_type("visit"), requires_approval=True)
    told = told_after_row(
        db,
        whose,
        lambda **options: acme.confirm_hold(hold.id, attendee=GRACE, **options),
        lambda: acme.save_event_type(approved),
    )
    assert (told.status, told.expires_at) == ("pending", NINE)
    assert acme.booking(hold.id) == told
    assert trail(db, hold.id)[1] == (2, "request", "booking.created")


@in_any_transaction
def test_a_confirmation_that_waited_for_the_lock_of_its_event_type_is_judged_by_what_that_has_become(
    acme: Tenant, db: Database, whose: str
) -> None:
    limit(acme, "event type", TWO)
    hold = acme.place_hold("visit", start=NINE)
    asking = replace(acme.event_type("visit"), questions=[Question(key="why", label="Why?", required=True)])
    with db.app.connect() as ours, transaction(db, whose) as options:
        acme.book("visit", start=NINE + DAY, attendee=ALAN, within=ours)
        acme.save_event_type(asking, within=ours)
        with beside(db, lambda: acme.confirm_hold(hold.id, attendee=GRACE, **options)) as told:
            time.sleep(0.1)
            ours.commit()
    assert isinstance(told[0], InvalidInput)
    assert told[0].field == "answers.why"
    assert acme.hold(hold.id) == hold


# Keys.


@pytest.mark.parametrize("ends", ["commit", "rollback"])
def test_the_sweep_passes_an_expired_key_by_that_somebody_takes_anew(
    acme: Tenant, db: Database, clock: SettableClock, ends: str
) -> None:
    start = NINE + 2 * DAY
    first = acme.book("visit", start=start, attendee=GRACE, idempotency_key="k")
    acme.cancel(first.id)
    clock.move(DAY)
    with db.app.connect() as ours:
        second = acme.book("visit", start=start, attendee=GRACE, idempotency_key="k", within=ours)
        assert second.id != first.id
        assert acme.sweep().keys == 0
        getattr(ours, ends)()
    if ends == "commit":
        assert acme.sweep().keys == 0
        assert acme.book("visit", start=start, attendee=GRACE, idempotency_key="k") == second
    else:
        assert acme.sweep().keys == 1
        assert count(db, "idempotency_key") == 0


# Locks in one order, and in one go.


def test_expired_holds_of_pools_that_share_hosts_are_had_again_without_a_deadlock(
    acme: Tenant, db: Database, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the application's transactions, where a deadlock would reach the caller."""
    acme.save_event_type(EventType(slug="other", duration=HALF, hosts=["cyd", "bob", "ada"]))
    kinds = [("any", "bob"), ("other", "ada"), ("any", "cyd"), ("other", "bob")]
    holds = [
        acme.place_hold(event_type, start=NINE + n * HOUR, host=host, ttl=MINUTE)
        for n, (event_type, host) in enumerate(kinds)
    ]
    clock.move(MINUTE)
    meeting = threading.Barrier(2)

    def ground(*args: Any, **options: Any) -> Any:  # noqa: ANN401 - whatever it is called with
        # Each has its first locks: if two could come this far, each would go on to want what the other has.
        with suppress(threading.BrokenBarrierError):
            meeting.wait(timeout=LONG)
        return fetch_ground(*args, **options)

    monkeypatch.setattr("nxsched.service.wanted.fetch_ground", ground)
    told: list[Any] = []

    def confirm(id_: str) -> None:
        with db.app.connect() as connection:
            try:
                told.append(acme.confirm_hold(id_, attendee=GRACE, if_free=True, within=connection))
            except NxschedError as error:
                told.append(error)
            connection.commit()

    threads = [threading.Thread(target=confirm, args=[hold.id]) for hold in holds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=2 * PATIENCE.total_seconds())
    assert [getattr(one, "status", one) for one in told] == ["confirmed"] * len(holds)
    assert_sound(db)


def test_the_hosts_of_an_expired_hold_are_locked_in_the_order_that_everybody_keeps(
    acme: Tenant, db: Database, clock: SettableClock
) -> None:
    acme.save_event_type(EventType(slug="other", duration=HALF, hosts=["cyd", "bob", "ada"]))
    hold = acme.place_hold("other", start=NINE, host="cyd", ttl=MINUTE)
    clock.move(MINUTE)
    with db.superuser.connect() as ours:
        ours.execute(text("SELECT 1 FROM nxsched.host WHERE slug = 'bob' FOR UPDATE"))
        with beside(db, lambda: acme.confirm_hold(hold.id, attendee=GRACE, if_free=True)) as told:
            assert rows(db, "SELECT slug FROM nxsched.host FOR UPDATE SKIP LOCKED") == [("cyd",)]
            ours.rollback()
    assert told[0].status == "confirmed"
    assert_sound(db)


@pytest.mark.parametrize("act", ["book", "confirm"])
def test_two_who_wait_for_a_host_whom_a_third_changes_while_a_fourth_has_a_claim_do_not_wait_for_one_another(
    acme: Tenant, db: Database, clock: SettableClock, act: str
) -> None:
    """PostgreSQL lets who locks and changes a row in one statement wait for its old version, and so in a circle."""
    for slug in ("pool", "first", "second"):
        acme.save_event_type(EventType(slug=slug, duration=HALF, hosts=["ada", "bob"]))
    slots = {"first": NINE + 2 * HOUR, "second": NINE + 3 * HOUR}
    holds = {slug: acme.place_hold(slug, start=start, host="ada", ttl=MINUTE) for slug, start in slots.items()}
    clock.move(MINUTE)

    def have(slug: str) -> Booking:
        with db.app.begin() as connection:
            if act == "book":
                return acme.book(slug, start=slots[slug], host="ada", attendee=ALAN, within=connection)
            return acme.confirm_hold(holds[slug].id, attendee=ALAN, if_free=True, within=connection)

    with db.app.connect() as claiming, db.app.connect() as changing:
        acme.book("visit", start=NINE, attendee=GRACE, within=claiming)
        acme.book("pool", start=NINE + HOUR, host="ada", attendee=GRACE, within=changing)
        with beside(db, partial(have, "first")) as first, beside(db, partial(have, "second")) as second:
            changing.commit()
        assert [getattr(one, "status", one) for one in (*first, *second)] == ["confirmed"] * 2
        claiming.commit()
    assert_sound(db)


def committed(db: Database, call: Callable[..., Booking]) -> Callable[[], Booking]:
    """The call in the application's transaction, which commits; a deadlock would reach its caller."""

    def run() -> Booking:
        with db.app.begin() as connection:
            return call(within=connection)

    return run


@pytest.mark.parametrize("whose", ["event type", "host"])
def test_a_limit_that_is_set_while_somebody_waits_to_confirm_is_not_locked_behind_the_hold(
    acme: Tenant, db: Database, whose: str
) -> None:
    hold = acme.place_hold("visit", start=NINE, ttl=HOUR)
    confirm = committed(db, partial(acme.confirm_hold, hold.id, attendee=ALAN))
    with db.app.connect() as ours:
        acme.release_hold(hold.id, within=ours)
        with beside(db, confirm) as first:
            limit(acme, whose, TWO)
            with beside(db, confirm) as second:
                ours.rollback()
    assert [getattr(one, "status", one) for one in (*first, *second)] == ["confirmed"] * 2
    assert_sound(db)


def test_who_comes_to_need_a_lock_that_goes_before_those_it_has_begins_anew(today: Tenant, db: Database) -> None:
    today.save_host(replace(today.host("ada"), slug="bob"))
    today.save_event_type(EventType(slug="other", duration=HALF, hosts=["bob"]))
    today.save_event_type(EventType(slug="all", duration=HALF, hosts=[HostGroup(members=["ada", "bob"], need="all")]))
    span: dict[str, Any] = {"source": "calendar", "start": tomorrow(9), "end": tomorrow(10), "periods": []}
    book = committed(db, partial(today.book, "all", start=tomorrow(9), attendee=ALAN))
    with db.app.connect() as ours:
        today.replace_busy("bob", **span, within=ours)
        bobs = today.place_hold("other", start=tomorrow(9), ttl=SECOND)
        adas = today.place_hold("visit", start=tomorrow(9), ttl=2 * SECOND)
        wait_until(db, bobs.expires_at)
        with beside(db, book) as first:  # bob's hold is over, and he is waited for; ada's would refuse
            wait_until(db, adas.expires_at)
            with beside(db, book) as second:  # ada's is over, too, and her lock goes first
                ours.commit()
    assert sorted(str(getattr(one, "status", getattr(one, "code", one))) for one in (*first, *second)) == [
        "confirmed",
        "slot_taken",
    ]
    assert_sound(db)


def test_an_expired_hold_whose_hosts_changed_while_it_was_waited_for_begins_anew(
    acme: Tenant, db: Database, clock: SettableClock
) -> None:
    acme.save_event_type(EventType(slug="other", duration=HALF, hosts=["bob"]))
    acme.save_event_type(EventType(slug="limited", duration=HALF, hosts=["ada", "bob"], limits=TWO))
    hold = acme.place_hold("other", start=NINE, ttl=MINUTE)
    clock.move(MINUTE)
    confirm = committed(db, partial(acme.confirm_hold, hold.id, attendee=ALAN, if_free=True))
    book = committed(db, partial(acme.book, "limited", start=NINE + HOUR, attendee=ALAN))
    with db.app.connect() as saving, db.app.connect() as releasing:
        acme.release_hold(hold.id, within=releasing)
        acme.save_event_type(EventType(slug="other", duration=HALF, hosts=["ada", "bob"]), within=saving)
        with beside(db, confirm) as first:
            saving.commit()  # it goes on to wait for the hold, with bob's lock and without ada's
            with beside(db, book) as second:
                releasing.rollback()
    assert [getattr(one, "status", one) for one in (*first, *second)] == ["confirmed"] * 2
    assert_sound(db)


# Upgrades.


def test_an_upgrade_that_waited_for_another_sees_what_that_has_made_whatever_the_engines_level(
    empty_db: Database,
) -> None:
    engine = empty_db.owner.execution_options(isolation_level="SERIALIZABLE")
    with Scheduler(engine) as scheduler, empty_db.owner.connect() as first:
        migrate.upgrade(first)
        with beside(empty_db, scheduler.migrate) as told:
            first.commit()
        assert told == [None]
        scheduler.verify()


def test_roles_are_looked_at_when_other_upgrades_have_named_theirs(empty_db: Database) -> None:
    with Scheduler(empty_db.url(OWNER)) as scheduler, empty_db.owner.connect() as first:
        migrate.upgrade(first, app_role=APP_ROLE, worker_role=WORKER_ROLE)
        with beside(empty_db, partial(scheduler.migrate, app_role=WORKER_ROLE, worker_role=APP_ROLE)) as told:
            first.commit()
        assert isinstance(told[0], InvalidInput)
        assert told[0].field == "app_role"
