"""The relay: what is left in the outbox is delivered, in the order of each booking, at least once."""

from __future__ import annotations

import inspect
import logging
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from random import Random
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from sqlalchemy import text

from nxsched import (
    Attendee,
    Backoff,
    EventNotFound,
    EventType,
    InvalidInput,
    OutboxEvent,
    OutboxState,
    OutboxStatus,
    Question,
    Relayed,
    RelayReport,
    RetryLater,
    Scheduler,
    SettableClock,
    Tenant,
    TenantNotFound,
    Undeliverable,
    event_schema,
)
from nxsched.domain.events import KINDS
from nxsched.service import relaying
from nxsched.service.unit import Call
from nxsched.store.outbox import EVENTS
from store.booked import ACTS, GRACE, rows
from store.bridged import every_face
from store.conftest import DAY, HALF, HOUR, NINE, NOW, Database
from store.recording import nodes, plan, recorded

MINUTE = timedelta(minutes=1)


class Receiver:
    """Takes what is delivered; fails for events of which `fails` says so."""

    def __init__(self, fails: Callable[[OutboxEvent], BaseException | None] = lambda _: None) -> None:
        self.got: list[OutboxEvent] = []
        self.tried: list[OutboxEvent] = []
        self.fails = fails

    def __call__(self, event: OutboxEvent) -> None:
        self.tried.append(event)
        if error := self.fails(event):
            raise error
        self.got.append(event)

    @property
    def kinds(self) -> list[str]:
        return [one.kind for one in self.got]


def always(error: Callable[[], BaseException]) -> Callable[[OutboxEvent], BaseException]:
    return lambda _: error()


def book(tenant: Tenant, at: timedelta = timedelta(), event_type: str = "visit") -> str:
    return tenant.book(event_type, start=NINE + at, attendee=GRACE).id


def take(scheduler: Scheduler, most: int = 100, lasts: timedelta = MINUTE) -> list[OutboxEvent]:
    """What a relay leases; it dies before it has told anything."""
    wants: relaying.Lease[OutboxEvent] = relaying.Lease(queue=EVENTS, owner=str(uuid4()), lasts=lasts, most=most)
    outbox: Any = scheduler.outbox
    found = outbox._units.run(relaying.take, wants, Call(tenant=""))  # noqa: SLF001 - a relay's own way
    leased: list[OutboxEvent] = (outbox._loop.run(found) if inspect.iscoroutine(found) else found)[1]  # noqa: SLF001
    return leased


# What is delivered.


def live(acme: Tenant, clock: SettableClock) -> None:
    """A change of every kind."""
    why = Question(key="why", label="Why?")
    acme.save_event_type(
        EventType(slug="ask", name="Ask", duration=HALF, hosts=["ada"], requires_approval=True, questions=[why])
    )
    ACTS["release"](acme, acme.place_hold("visit", start=NINE, ttl=MINUTE).id)
    acme.place_hold("visit", start=NINE, ttl=MINUTE)
    clock.move(2 * MINUTE)
    acme.sweep()
    said = {"answers": {"why": "A cough"}, "metadata": {"a": [1, None]}, "reference": "order-7"}
    asked = [acme.book("ask", start=NINE + at * HOUR, attendee=GRACE, **said).id for at in (0, 1, 2)]  # type: ignore[arg-type]
    acme.approve(asked[0])
    acme.decline(asked[1], reason="No")
    acme.reschedule(asked[0], start=NINE + 4 * HOUR, reason="Later")
    acme.update(asked[0], location="Room 2")
    pool = book(acme, 5 * HOUR, "any")
    acme.reassign(pool, host="bob" if acme.booking(pool).hosts != ("bob",) else "cyd")
    acme.cancel(pool, reason="A cold")
    clock.move(DAY)
    acme.sweep()
    acme.complete(asked[0])
    acme.mark_no_show(asked[0])


def closed(kind: str) -> Draft202012Validator:
    """The schema of a kind, which allows nothing that it does not name: a shape that is published may grow."""

    def close(part: Any) -> Any:  # noqa: ANN401 - JSON
        if isinstance(part, list):
            return [close(one) for one in part]
        if not isinstance(part, dict):
            return part
        found = {key: close(value) for key, value in part.items()}
        return {**found, "additionalProperties": False} if "required" in found else found

    return Draft202012Validator(close(event_schema(kind)))


@every_face
def test_every_kind_of_event_is_delivered_in_order_and_in_the_shape_of_its_schema(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock
) -> None:
    live(acme, clock)
    receiver = Receiver()
    done = scheduler.relay(receiver).run_once()
    assert set(receiver.kinds) == set(KINDS)
    assert done == Relayed(delivered=len(receiver.got))
    versions = defaultdict(list)
    for event in receiver.got:
        versions[event.booking_id].append(event.version)
        closed(event.kind).validate(event.payload)
        assert (event.tenant, event.payload["booking"]["version"]) == ("acme", event.version)
    assert all(found == [*range(1, len(found) + 1)] for found in versions.values())
    by_kind = {one.kind: one.payload for one in receiver.got}
    assert by_kind["booking.declined"]["reason"] == "No"
    assert by_kind["booking.rescheduled"]["booking"]["answers"] == {"why": "A cough"}
    assert scheduler.relay(receiver).run_once() == Relayed()
    assert scheduler.outbox.status() == OutboxStatus(depth=0, lag=timedelta(), failing=0, dead=0)


def test_who_was_erased_is_in_no_event_and_all_keep_their_shape(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock
) -> None:
    live(acme, clock)
    acme.erase_attendee(email=GRACE.email)
    receiver = Receiver()
    scheduler.relay(receiver).run_once()
    assert set(receiver.kinds) == set(KINDS)
    for event in receiver.got:
        closed(event.kind).validate(event.payload)
        assert "Grace" not in str(event.payload)


def test_a_series_and_an_attendee_of_whom_only_the_name_is_known_have_the_shape_of_the_schema(
    scheduler: Scheduler, acme: Tenant
) -> None:
    acme.save_event_type(EventType(slug="long", name="Long", duration=HOUR, description="Two\nlines", hosts=["bob"]))
    acme.book("long", start=NINE, attendee=Attendee(name="Zoë"))
    acme.book_series("visit", starts=[NINE, NINE + DAY], attendee=GRACE)
    receiver = Receiver()
    scheduler.relay(receiver).run_once()
    assert len(receiver.got) == 3
    for event in receiver.got:
        closed(event.kind).validate(event.payload)


def test_schemas_refuse_what_is_not_of_their_shape_and_let_it_grow(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock
) -> None:
    live(acme, clock)
    receiver = Receiver()
    scheduler.relay(receiver).run_once()
    for event in {one.kind: one for one in receiver.got}.values():
        Draft202012Validator.check_schema(event_schema(event.kind))
        validator = Draft202012Validator(event_schema(event.kind))
        whole = dict(event.payload)
        booking = whole["booking"]
        assert validator.is_valid(whole)
        assert validator.is_valid({**whole, "more": 1, "booking": {**booking, "more": 1}})
        assert not closed(event.kind).is_valid({**whole, "booking": {**booking, "more": 1}})
        for broken in (
            {key: whole[key] for key in whole if key != "hosts"},
            {**whole, "format": 2},
            {**whole, "booking": {**booking, "status": "gone"}},
            {**whole, "booking": {**booking, "start": "2026-03-02 09:00"}},
            {**whole, "booking": {key: booking[key] for key in booking if key != "uid"}},
            {**whole, "booking": {**booking, "attendee": "Grace"}},
        ):
            assert not validator.is_valid(broken), event.kind
    held = next(one for one in receiver.got if one.kind == "booking.held").payload
    assert not Draft202012Validator(event_schema("booking.cancelled")).is_valid(held)
    assert not Draft202012Validator(event_schema("booking.rescheduled")).is_valid(held)


def test_there_is_no_schema_of_an_unknown_kind() -> None:
    with pytest.raises(InvalidInput, match=r"^kind: must be one of booking\.held, .*, not \"\.\./booking\"$"):
        event_schema("../booking")


def test_an_event_is_a_cloudevent_on_request(scheduler: Scheduler, acme: Tenant) -> None:
    booking = book(acme)
    receiver = Receiver()
    scheduler.relay(receiver).run_once()
    (event,) = receiver.got
    assert event.to_cloudevent() == {
        "specversion": "1.0",
        "id": event.id,
        "source": "/tenants/acme",
        "type": "booking.confirmed",
        "subject": booking,
        "time": "2026-03-02T08:00:00Z",
        "datacontenttype": "application/json",
        "tenant": "acme",
        "bookingversion": 1,
        "data": event.payload,
    }
    assert event.to_cloudevent(source="https://acme.test")["source"] == "https://acme.test"
    with pytest.raises(InvalidInput, match=r"^source: must not be empty"):
        event.to_cloudevent(source=" ")


def test_what_is_undone_with_its_transaction_is_never_delivered(
    scheduler: Scheduler, acme: Tenant, db: Database
) -> None:
    with db.app.connect() as connection:
        acme.book("visit", start=NINE, attendee=GRACE, within=connection)
        connection.rollback()
    with db.app.begin() as connection:
        acme.book("visit", start=NINE + HOUR, attendee=GRACE, within=connection)
    receiver = Receiver()
    scheduler.relay(receiver).run_once()
    assert [one.payload["booking"]["start"] for one in receiver.got] == ["2026-03-02T10:00:00Z"]


# What fails.


@every_face
def test_what_fails_is_tried_again_later_and_holds_up_only_its_own_booking(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock
) -> None:
    poison, other = book(acme), book(acme, HOUR)
    acme.cancel(poison)
    acme.cancel(other)
    receiver = Receiver(lambda event: ValueError("no") if event.booking_id == poison and event.version == 1 else None)
    relay = scheduler.relay(receiver, backoff=Backoff(attempts=3, first=MINUTE, factor=1, longest=MINUTE))
    assert relay.run_once() == Relayed(delivered=2, failed=1)
    assert [one.booking_id for one in receiver.got] == [other, other]
    assert scheduler.outbox.status().depth == 2
    (first, second) = scheduler.outbox.events(booking=poison)
    assert (first.state, first.attempts, first.error) == (OutboxState.WAITING, 1, "ValueError: no")
    assert NOW <= first.due_at <= NOW + MINUTE
    assert second.due_at == first.due_at, "nobody looks at it in vain"
    clock.move(MINUTE)
    assert relay.run_once() == Relayed(failed=1)
    assert relay.run_once() in (Relayed(), Relayed(dead=1))
    clock.move(MINUTE)
    relay.run_once()
    clock.move(timedelta(seconds=1))
    relay.run_once()
    assert scheduler.outbox.events(booking=poison, state="dead")[0].attempts == 3
    assert [one.kind for one in receiver.got if one.booking_id == poison] == ["booking.cancelled"]
    assert scheduler.outbox.status() == OutboxStatus(depth=0, lag=timedelta(), failing=0, dead=1)


def test_what_comes_after_a_dead_event_is_delivered_by_the_same_run(scheduler: Scheduler, acme: Tenant) -> None:
    acme.cancel(book(acme))
    receiver = Receiver(lambda event: Undeliverable("nobody there") if event.version == 1 else None)
    assert scheduler.relay(receiver).run_once() == Relayed(delivered=1, dead=1)
    assert receiver.kinds == ["booking.cancelled"]


def test_an_event_that_will_never_be_taken_is_dead_at_once_with_its_error(scheduler: Scheduler, acme: Tenant) -> None:
    book(acme)
    assert scheduler.relay(Receiver(always(lambda: Undeliverable("gone\nfor \x1b good")))).run_once() == Relayed(dead=1)
    (dead,) = scheduler.outbox.events()
    assert (dead.state, dead.attempts) == (OutboxState.DEAD, 1)
    assert dead.error == "Undeliverable: gone\N{REPLACEMENT CHARACTER}for \N{REPLACEMENT CHARACTER} good"


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [
        (timedelta(minutes=5), 5 * MINUTE, 5 * MINUTE),
        (timedelta(days=300), 10 * MINUTE, 10 * MINUTE),  # at most as long as any wait
        (90, timedelta(seconds=90), timedelta(seconds=90)),
        (0.5, timedelta(), timedelta(seconds=1)),
        (None, timedelta(), timedelta(seconds=1)),
        (timedelta(seconds=-5), timedelta(), timedelta(seconds=1)),
    ],
)
def test_a_receiver_may_say_when_it_wants_to_be_asked_again(
    scheduler: Scheduler, acme: Tenant, asked: timedelta | float | None, least: timedelta, most: timedelta
) -> None:
    book(acme)
    backoff = Backoff(first=timedelta(seconds=1), longest=10 * MINUTE)
    relay = scheduler.relay(Receiver(always(lambda: RetryLater("busy", after=asked))), backoff=backoff)
    assert relay.run_once() == Relayed(failed=1)
    assert NOW + least <= scheduler.outbox.events()[0].due_at <= NOW + most


class Unprintable(Exception):
    def __str__(self) -> str:  # noqa: D105 - it has none
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (Unprintable(), "Unprintable: (an error that cannot be printed)"),
        (ValueError("\x00\ud800"), "ValueError: \N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"),
        (KeyError("x" * 5_000), "KeyError: '" + "x" * 989),
        (ValueError(), "ValueError: "),
    ],
    ids=["unprintable", "no text of a database", "long", "empty"],
)
def test_errors_are_kept_whatever_they_say(scheduler: Scheduler, acme: Tenant, error: Exception, kept: str) -> None:
    book(acme)
    scheduler.relay(Receiver(always(lambda: error))).run_once()
    assert scheduler.outbox.events()[0].error == kept


def test_waits_grow_and_are_bounded() -> None:
    backoff = Backoff()
    most = [backoff.most(attempt) for attempt in range(1, 10)]
    assert most[:4] == [timedelta(seconds=one) for one in (10, 50, 250, 1250)]
    assert most[-1] == backoff.longest
    assert timedelta(days=2.5) < sum(most, timedelta()) / 2 < timedelta(days=3.5), "about three days"
    assert Backoff(factor=100, attempts=100).most(100) == timedelta(hours=40)
    assert Backoff(factor=1).most(9) == timedelta(seconds=10)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"attempts": 0}, "backoff.attempts: must lie between 1 and 100"),
        ({"attempts": True}, "backoff.attempts: must be a whole number"),
        ({"first": timedelta()}, "backoff.first: must be a timedelta from a millisecond to 100 days"),
        ({"longest": 3}, "backoff.longest: must be a timedelta"),
        ({"factor": 0.5}, "backoff.factor: must lie between 1 and 100"),
        ({"factor": float("nan")}, "backoff.factor: must"),
    ],
)
def test_a_backoff_that_makes_no_sense_is_refused(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{reason}"):
        Backoff(**given)


async def _async(event: OutboxEvent) -> None: ...


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"deliver": None}, "deliver: is required"),
        ({"deliver": 3}, "deliver: must be a function, not 3"),
        ({"deliver": _async}, "deliver: is `async def`: AsyncScheduler has a relay for it"),
        ({"batch": 0}, "batch: must lie between 1 and 1000"),
        ({"concurrency": 1.5}, "concurrency: must be a whole number"),
        ({"lease": timedelta(milliseconds=999)}, "lease: must be a second or more"),
        ({"lease": 60}, "lease: must be a timedelta"),
        ({"concurrency": 101}, "batch: must be at least concurrency, which is 101"),
        ({"on_report": _async}, "on_report: must not be `async def`"),
        ({"poll": timedelta()}, "poll: must be a timedelta from a millisecond"),
        ({"backoff": 10}, "backoff: must be a Backoff"),
        ({"on_report": "print"}, "on_report: must be a function"),
        ({"report_every": timedelta(days=200)}, "report_every: must be a timedelta"),
    ],
)
def test_options_of_a_relay_are_checked(scheduler: Scheduler, given: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{reason}"):
        scheduler.relay(given.pop("deliver", print), **given)


def test_a_coroutine_that_nobody_awaits_is_no_delivery(scheduler: Scheduler, acme: Tenant) -> None:
    book(acme)
    deliver: Any = lambda event: _async(event)  # noqa: E731, PLW0108 - what nobody can see to be async
    assert scheduler.relay(deliver).run_once() == Relayed(failed=1)
    error = scheduler.outbox.events()[0].error
    assert error == "InvalidInput: deliver: gave a coroutine, which nobody awaits: AsyncScheduler has a relay"


def test_whoever_changes_a_payload_harms_nobody(scheduler: Scheduler, acme: Tenant) -> None:
    book(acme)

    def deliver(event: OutboxEvent) -> None:
        event.payload["booking"] = None  # type: ignore[index]

    assert scheduler.relay(deliver).run_once() == Relayed(delivered=1)


@every_face
def test_the_lag_is_the_age_of_the_oldest_event_that_is_not_delivered(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock
) -> None:
    first = book(acme)
    clock.move(MINUTE)
    book(acme, HOUR)
    clock.move(MINUTE)
    assert scheduler.outbox.status() == OutboxStatus(depth=2, lag=2 * MINUTE, failing=0, dead=0)
    assert scheduler.outbox.status(tenant="acme").lag == 2 * MINUTE
    scheduler.relay(Receiver(lambda one: ValueError() if one.booking_id == first else None)).run_once()
    assert scheduler.outbox.status() == OutboxStatus(depth=1, lag=2 * MINUTE, failing=1, dead=0)


@every_face
@pytest.mark.parametrize(("given", "error"), [("nobody", TenantNotFound), ("a\x00", InvalidInput), (3, InvalidInput)])
def test_how_a_tenant_stands_that_is_not_there_is_no_good_news(
    scheduler: Scheduler, given: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        scheduler.outbox.status(tenant=given)
    with pytest.raises(error):
        scheduler.outbox.events(tenant=given)


@every_face
def test_who_runs_once_is_told_how_things_stand_too(scheduler: Scheduler, acme: Tenant) -> None:
    book(acme)
    told: list[RelayReport] = []
    scheduler.relay(Receiver(), on_report=told.append).run_once()
    assert (told[-1].done, told[-1].status.depth) == (Relayed(delivered=1), 0)


def test_the_error_of_an_event_does_not_outlast_the_erasure_of_whom_it_names(
    scheduler: Scheduler, acme: Tenant, db: Database
) -> None:
    def deliver(event: OutboxEvent) -> None:
        who = event.payload["booking"]["attendee"]
        if event.kind == "booking.confirmed" and who["email"]:
            acme.erase_attendee(email=GRACE.email)  # while it is being delivered
        raise Undeliverable(f"no {who and who['email']} here")

    relay = scheduler.relay(deliver)
    held = acme.place_hold("visit", start=NINE, ttl=HOUR, attendee=GRACE)
    relay.run_once()
    assert scheduler.outbox.events()[0].error == "Undeliverable: no grace@example.test here"
    acme.confirm_hold(held.id, attendee=Attendee(name="Bob"))
    theirs = book(acme, HOUR)
    relay.run_once()
    assert [one.error for one in scheduler.outbox.events(booking=held.id)] == [None, "Undeliverable: no None here"]
    assert scheduler.outbox.events(booking=theirs)[0].error == "Undeliverable"
    assert "grace@" not in str(rows(db, "SELECT last_error, payload FROM nxsched.outbox_event"))


# Leases.


@every_face
def test_who_dies_leaves_its_events_to_others_when_the_lease_ends(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock
) -> None:
    for at in range(3):
        book(acme, at * HOUR)
    assert len(take(scheduler)) == 3
    receiver = Receiver()
    relay = scheduler.relay(receiver)
    leased = scheduler.outbox.events().items
    assert [one.state for one in leased] == ["leased"] * 3
    assert {one.leased_until for one in leased} == {NOW + MINUTE}
    clock.move(MINUTE - timedelta(microseconds=1))
    assert relay.run_once() == Relayed()
    clock.move(timedelta(microseconds=1))
    assert relay.run_once() == Relayed(delivered=3)
    assert [one.attempts for one in receiver.got] == [2, 2, 2]


def test_what_may_have_killed_a_relay_goes_alone_and_takes_no_others_with_it(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock
) -> None:
    for at in range(3):
        book(acme, at * HOUR)
    take(scheduler)
    clock.move(MINUTE)
    assert len(take(scheduler)) == 3, "one death is no pattern"
    book(acme, 3 * HOUR)
    clock.move(MINUTE)
    assert [len(take(scheduler)) for _ in range(5)] == [1, 1, 1, 1, 0]


def test_an_event_that_kills_every_relay_ends_as_dead(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock, caplog: pytest.LogCaptureFixture
) -> None:
    acme.cancel(book(acme))
    for _ in range(3):
        assert [one.version for one in take(scheduler)] == [1]
        clock.move(MINUTE)
    receiver = Receiver()
    with caplog.at_level(logging.ERROR, "nxsched.relay"):
        done = scheduler.relay(receiver, backoff=Backoff(attempts=3)).run_once()
    assert done == Relayed(delivered=1, dead=1)
    assert receiver.kinds == ["booking.cancelled"]
    (dead,) = scheduler.outbox.events(state="dead")
    assert dead.error == "no answer to the last of 3 attempts: the relay died, or lost its lease"
    assert dead.error in caplog.text


def test_who_delivers_for_longer_than_the_lease_is_told_that_it_has_lost_it(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock, db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    book(acme)
    other = Receiver()

    def slowly(_: OutboxEvent) -> None:
        clock.move(2 * MINUTE)
        assert scheduler.relay(other).run_once() == Relayed(delivered=1)

    with caplog.at_level(logging.WARNING, "nxsched.relay"):
        assert scheduler.relay(slowly).run_once() == Relayed(lost=1)
    assert "was delivered after its lease had ended: somebody else may have it too" in caplog.text
    assert rows(db, "SELECT done_at IS NOT NULL, dead_at, attempts FROM nxsched.outbox_event") == [(True, None, 2)]


def test_what_a_relay_comes_to_late_goes_back_without_an_attempt(
    scheduler: Scheduler, acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at in range(3):
        book(acme, at * HOUR)
    now = [0.0]
    monkeypatch.setattr("nxsched.relay.options.time.monotonic", lambda: now[0])
    taken = []

    def slowly(event: OutboxEvent) -> None:
        taken.append(event.attempts)
        now[0] += 31

    assert scheduler.relay(slowly).run_once() == Relayed(delivered=3)
    assert taken == [1, 1, 1], "one in each lease, and never counted twice"


def test_a_relay_that_is_stopped_finishes_what_it_has_begun_and_gives_back_the_rest(
    db: Database, acme: Tenant, clock: SettableClock
) -> None:
    for at in range(3):
        book(acme, at * HOUR)
    stop = threading.Event()
    with Scheduler(db.app, worker_url=db.worker, clock=clock) as scheduler:
        done = scheduler.relay(lambda _: stop.set()).run(stop)
        assert done == Relayed(delivered=1)
        assert [(one.state, one.attempts) for one in scheduler.outbox.events()] == [("waiting", 0)] * 2
        receiver = Receiver()
        assert scheduler.relay(receiver).run_once() == Relayed(delivered=2)


@pytest.mark.parametrize("concurrency", [1, 2])
def test_a_relay_that_is_interrupted_has_told_what_it_knows(
    db: Database, acme: Tenant, clock: SettableClock, concurrency: int
) -> None:
    for at in range(4):
        book(acme, at * HOUR)
    seen: list[str] = []

    def interrupted(event: OutboxEvent) -> None:
        seen.append(event.id)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with Scheduler(db.app, worker_url=db.worker, clock=clock) as scheduler:
        with pytest.raises(KeyboardInterrupt):
            scheduler.relay(interrupted, concurrency=concurrency).run_once()
        left = {one.id: one for one in scheduler.outbox.events()}
        assert seen[0] not in left
        assert (left[seen[1]].attempts, left[seen[1]].error) == (1, "KeyboardInterrupt: ")
        assert {one.state for one in left.values()} == {"waiting"}
        receiver = Receiver()
        assert scheduler.relay(receiver).run_once() == Relayed(delivered=len(left))


@every_face
def test_several_are_delivered_at_once_where_that_is_asked_for(scheduler: Scheduler, acme: Tenant) -> None:
    bookings = [book(acme, at * HOUR) for at in range(6)]
    for one in bookings:
        acme.cancel(one)
    receiver = Receiver(lambda event: ValueError() if event.booking_id == bookings[0] else None)
    assert scheduler.relay(receiver, concurrency=4).run_once() == Relayed(delivered=10, failed=1)


def test_threads_deliver_side_by_side(db: Database, acme: Tenant, clock: SettableClock) -> None:
    for at in range(2):
        book(acme, at * HOUR)
    together = threading.Barrier(2, timeout=30)

    def deliver(_: OutboxEvent) -> None:
        together.wait()

    with Scheduler(db.app, worker_url=db.worker, clock=clock) as scheduler:
        assert scheduler.relay(deliver, concurrency=2).run_once() == Relayed(delivered=2)


def test_relays_side_by_side_deliver_everything_once_and_each_booking_in_order(
    db: Database, acme: Tenant, clock: SettableClock
) -> None:
    for at in range(16):
        booking = book(acme, at * HALF)
        for n in range(4):
            acme.update(booking, location=f"Room {n}")
    seen: list[tuple[str, int]] = []
    with Scheduler(db.app, worker_url=db.worker, clock=clock) as scheduler, ThreadPoolExecutor(4) as pool:

        def relay(_: int) -> Relayed:
            run = scheduler.relay(lambda event: seen.append((event.booking_id, event.version)), batch=3)
            done = Relayed()
            while scheduler.outbox.status().depth:
                done += run.run_once()
            return done

        done = sum(pool.map(relay, range(4)), Relayed())
    assert done == Relayed(delivered=80)
    assert Counter(seen).most_common(1)[0][1] == 1
    for booking in {one for one, _ in seen}:
        assert [version for one, version in seen if one == booking] == [1, 2, 3, 4, 5]


@pytest.mark.slow
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), batch=st.integers(1, 4), changes=st.lists(st.integers(0, 3), min_size=3, max_size=3))
def test_whatever_fails_order_holds_and_nothing_is_lost(  # noqa: PLR0913, PLR0917 - fixtures
    scheduler: Scheduler,
    acme: Tenant,
    clock: SettableClock,
    db: Database,
    seed: int,
    batch: int,
    changes: list[int],
) -> None:
    with db.superuser.begin() as connection:
        connection.exec_driver_sql(
            "TRUNCATE nxsched.booking, nxsched.claim, nxsched.occurrence, nxsched.outbox_event CASCADE"
        )
    clock.set(NOW)
    for at, count in enumerate(changes):
        booking = book(acme, at * HOUR)
        for n in range(count):
            acme.update(booking, location=f"Room {n}")
    chance = Random(seed)  # noqa: S311 - no secret
    errors: list[Callable[[], BaseException] | None] = [
        None,
        None,
        ValueError,
        lambda: RetryLater("busy", after=MINUTE),
        lambda: Undeliverable("never"),
    ]

    def fails(_: OutboxEvent) -> BaseException | None:
        made = chance.choice(errors)
        return made() if made else None

    receiver = Receiver(fails)
    relay = scheduler.relay(receiver, batch=batch, backoff=Backoff(attempts=3))
    for _ in range(15):
        relay.run_once()
        if chance.random() < 0.5:
            take(scheduler, most=2)
        clock.move(2 * MINUTE)
    clock.move(10 * DAY)
    receiver.fails = lambda _: None
    while relay.run_once() != Relayed():
        clock.move(MINUTE)
    got = [(one.booking_id, one.version) for one in receiver.got]
    dead = {(one.booking_id, one.version) for one in scheduler.outbox.events(state="dead")}
    assert {*got} | dead == {
        (row.booking, row.version)
        for row in rows(db, "SELECT booking_id::text AS booking, version FROM nxsched.outbox_event")
    }
    assert len({*got}) == len(got)
    assert not {*got} & dead
    for booking in {one for one, _ in got}:
        versions = [version for one, version in got if one == booking]
        assert versions == sorted(versions)
    assert scheduler.outbox.status().depth == 0


# Who looks at it.


@every_face
def test_the_outbox_lists_what_is_not_delivered_yet_page_by_page(scheduler: Scheduler, acme: Tenant) -> None:
    for at in range(5):
        book(acme, at * HOUR)
    other = scheduler.create_tenant("other", name="Other")
    outbox = scheduler.outbox
    assert len(outbox.events(tenant="acme")) == 5
    assert len(outbox.events(tenant=other.id)) == 0
    first = outbox.events(limit=2)
    second = outbox.events(limit=2, after=first.after)
    third = outbox.events(limit=2, after=second.after)
    assert [len(one) for one in (first, second, third)] == [2, 2, 1]
    assert third.after is None
    found = [one.id for page in (first, second, third) for one in page]
    assert found == [one.id for one in outbox.events()]
    assert outbox.event(found[0]).payload["booking"]["attendee"]["name"] == "Grace"
    scheduler.relay(Receiver(), batch=1).run_once()
    assert len(outbox.events()) == 0
    assert {one.id for one in outbox.events(state=OutboxState.DELIVERED)} == {*found}


@every_face
def test_a_dead_event_is_retried_or_discarded_by_hand(scheduler: Scheduler, acme: Tenant) -> None:
    first, second = book(acme), book(acme, HOUR)
    scheduler.relay(Receiver(always(lambda: Undeliverable("no")))).run_once()
    one, other = (scheduler.outbox.events(booking=found)[0] for found in (first, second))
    again = scheduler.outbox.retry(one.id)
    assert (again.state, again.attempts) == ("waiting", 0)
    assert scheduler.outbox.discard(other.id).state == "discarded"
    receiver = Receiver()
    assert scheduler.relay(receiver).run_once() == Relayed(delivered=1)
    assert [event.id for event in receiver.got] == [one.id]
    with pytest.raises(InvalidInput, match=f"^id: was delivered already: {one.id}"):
        scheduler.outbox.retry(one.id)
    with pytest.raises(InvalidInput, match=f"^id: was delivered already: {one.id}"):
        scheduler.outbox.discard(one.id)
    with pytest.raises(InvalidInput, match=f"^id: was discarded already: {other.id}"):
        scheduler.outbox.discard(other.id)
    assert scheduler.outbox.retry(other.id).state == "waiting", "it was not tidied away yet"
    assert scheduler.outbox.status().dead == 0


def test_an_event_that_holds_up_others_is_discarded_and_they_go_on(scheduler: Scheduler, acme: Tenant) -> None:
    acme.cancel(book(acme))
    scheduler.relay(Receiver(always(lambda: RetryLater("away", after=HOUR)))).run_once()
    scheduler.outbox.discard(scheduler.outbox.events()[0].id)
    receiver = Receiver()
    scheduler.relay(receiver).run_once()
    assert receiver.kinds == ["booking.cancelled"]


def test_an_event_that_waits_for_its_next_attempt_is_retried_at_once_with_those_behind_it(
    scheduler: Scheduler, acme: Tenant
) -> None:
    acme.cancel(book(acme))
    scheduler.relay(Receiver(always(lambda: RetryLater("away", after=HOUR)))).run_once()
    scheduler.outbox.retry(scheduler.outbox.events()[0].id)
    receiver = Receiver()
    scheduler.relay(receiver).run_once()
    assert receiver.kinds == ["booking.confirmed", "booking.cancelled"]


def test_what_is_being_delivered_is_not_changed_by_hand(scheduler: Scheduler, acme: Tenant) -> None:
    book(acme)
    (leased,) = take(scheduler)
    for change in (scheduler.outbox.retry, scheduler.outbox.discard):
        with pytest.raises(
            InvalidInput, match=rf"^id: is being delivered by {leased.leased_by}, until 2026-03-02 08:01:00\+00:00"
        ):
            change(leased.id)


@every_face
@pytest.mark.parametrize("given", ["nonsense", "", "01a2054d-15aa-7cfd-9af7-ad340abc1af0"])
def test_an_event_that_is_not_there_is_not_found(scheduler: Scheduler, given: str) -> None:
    for ask in (scheduler.outbox.event, scheduler.outbox.retry, scheduler.outbox.discard):
        with pytest.raises(EventNotFound):
            ask(given)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"limit": 0}, "limit: must lie between 1 and 1000"),
        ({"state": "lost"}, "state: must be one of waiting, leased, delivered, dead, discarded"),
        ({"tenant": ""}, "tenant: must not be empty"),
        ({"booking": 3}, "booking: must be the id of a booking"),
        ({"after": "x"}, "after: must be what an earlier page gave"),
        ({"after": "WzEsMiwzXQ=="}, "after: must be what an earlier page gave"),
    ],
)
def test_a_list_that_makes_no_sense_is_refused(scheduler: Scheduler, given: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{reason}"):
        scheduler.outbox.events(**given)


def test_a_login_that_sees_one_tenant_at_a_time_is_told_so_at_once(db: Database, acme: Tenant) -> None:
    book(acme)
    with Scheduler(db.app) as scheduler:
        calls: list[Callable[[], object]] = [
            scheduler.relay(Receiver()).run_once,
            scheduler.relay(Receiver()).run,
            scheduler.outbox.events,
            scheduler.outbox.status,
            lambda: scheduler.outbox.retry(str(uuid4())),
        ]
        for call in calls:
            with pytest.raises(InvalidInput, match=r"^worker_url: must log in as a role that sees the events of all"):
                call()


def test_what_was_delivered_is_swept_after_a_while_and_the_dead_stay(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock
) -> None:
    for at in range(3):
        book(acme, at * HOUR)
    poison, waits = (one.id for one in scheduler.outbox.events().items[:2])
    failing = {poison: Undeliverable("no"), waits: RetryLater("later", after=timedelta(days=2))}
    scheduler.relay(Receiver(lambda event: failing.get(event.id))).run_once()
    clock.move(30 * DAY)
    assert scheduler.sweep().events == 1
    assert {one.id for one in scheduler.outbox.events()} == {poison, waits}
    scheduler.outbox.discard(poison)
    clock.move(30 * DAY)
    assert scheduler.sweep().events == 1
    assert {one.id for one in scheduler.outbox.events()} == {waits}


# What it costs.


def test_a_batch_takes_two_statements_for_its_lease_and_two_for_what_became_of_it(
    db: Database, acme: Tenant, clock: SettableClock
) -> None:
    for at in range(5):
        book(acme, at * HOUR)
    with Scheduler(db.app, worker_url=db.worker, clock=clock) as scheduler:
        relay = scheduler.relay(Receiver())
        relay.run_once()
        book(acme, 5 * HOUR)
        with recorded(db.worker) as sent:
            assert relay.run_once() == Relayed(delivered=1)
    assert len(sent) == 8, "and two that find nothing more, and two that find no reminder"


def test_a_lease_reads_no_more_than_it_needs_whatever_is_done_or_waits(
    db: Database, acme: Tenant, clock: SettableClock
) -> None:
    """Ten thousand that are done, as many that wait for an older one of their booking, some that are due."""
    book(acme)
    with db.superuser.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for what, count, version, done, due in (
            ("done", 10_000, 1, NOW, NOW),
            ("head", 5_000, 1, None, NOW + DAY),
            ("head", 5_000, 2, None, NOW + DAY),
            ("due", 1_000, 1, None, NOW),
        ):
            connection.execute(
                text(
                    "INSERT INTO nxsched.outbox_event"
                    " (tenant_id, id, booking_id, version, kind, payload, occurred_at, due_at, done_at)"
                    " SELECT 'acme', gen_random_uuid(), md5(:what || n)::uuid, :version, 'booking.confirmed', '{}',"
                    " :now, :due, :done FROM generate_series(1, :count) n"
                ),
                {"what": what, "count": count, "version": version, "done": done, "due": due, "now": NOW},
            )
        connection.exec_driver_sql("VACUUM ANALYZE nxsched.outbox_event")
    with Scheduler(db.app, worker_url=db.worker, clock=clock) as scheduler, recorded(db.worker) as sent:
        assert len(take(scheduler)) == 100
    (asked,) = (one for one in sent if "SKIP LOCKED" in one.sql)
    with db.worker.begin() as connection:
        top = plan(connection, asked, "ANALYZE")
        connection.rollback()
    assert not [one for one in nodes(top) if one["Node Type"] == "Seq Scan"]
    assert max(one["Actual Rows"] * one["Actual Loops"] for one in nodes(top)) <= 200
