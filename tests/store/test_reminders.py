"""Reminders: due in the future, moved and taken back with the booking, looked at once more before they go out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from nxsched import (
    Attendee,
    Backoff,
    Booking,
    BookingNotFound,
    BookingStatus,
    EventType,
    Host,
    InvalidInput,
    OutboxEvent,
    Relayed,
    Reminder,
    ReminderState,
    RetryLater,
    Scheduler,
    SettableClock,
    Tenant,
    event_schema,
)
from nxsched.service.reminding import wanted
from store.booked import GRACE, rows
from store.bridged import every_face
from store.conftest import DAY, HALF, HOUR, NINE, NOW, Database

MINUTE = timedelta(minutes=1)
NEXT_WEEK = NINE + 7 * DAY


class Outbox:
    """What a `deliver` was given of reminders; it fails for those of which `fails` says so."""

    def __init__(self) -> None:
        self.got: list[OutboxEvent] = []
        self.fails: BaseException | None = None
        self.first: Callable[[], object] = lambda: None

    def __call__(self, event: OutboxEvent) -> None:
        if event.kind != "booking.reminder":
            return
        self.first()
        if self.fails:
            raise self.fails
        self.got.append(event)

    @property
    def told(self) -> list[tuple[str, str]]:
        return [(one.payload["reminder"]["recipient"], one.payload["reminder"]["before"]) for one in self.got]


@pytest.fixture
def sent() -> Outbox:
    return Outbox()


def states(tenant: Tenant, booking: Booking) -> list[tuple[str, int, str]]:
    return [(one.before, one.version, one.state.value) for one in tenant.reminders(booking.id)]


def book(tenant: Tenant, start: datetime = NEXT_WEEK, event_type: str = "visit", **more: Any) -> Booking:
    return tenant.book(event_type, start=start, attendee=GRACE, **more)


@every_face
def test_an_attendee_is_reminded_a_day_and_an_hour_before(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock, sent: Outbox
) -> None:
    booking = book(acme)
    relay = scheduler.relay(sent)
    assert relay.run_once() == Relayed(delivered=1)
    assert [(one.before, one.due_at, one.recipient) for one in acme.reminders(booking.id)] == [
        ("P1D", NEXT_WEEK - DAY, "attendee"),
        ("PT1H", NEXT_WEEK - HOUR, "attendee"),
    ]
    assert scheduler.outbox.status().depth == 0, "what is not due yet is no backlog"
    clock.set(NEXT_WEEK - DAY - MINUTE)
    assert relay.run_once() == Relayed()
    clock.set(NEXT_WEEK - DAY)
    assert scheduler.outbox.status().depth == 1
    assert relay.run_once() == Relayed(delivered=1)
    assert relay.run_once() == Relayed()
    clock.set(NEXT_WEEK - HOUR + MINUTE)
    assert relay.run_once() == Relayed(delivered=1)
    assert sent.told == [("attendee", "P1D"), ("attendee", "PT1H")]
    assert states(acme, booking) == [("P1D", 1, "sent"), ("PT1H", 1, "sent")]
    assert rows_of_events(acme, booking) == 1, "a reminder is no change of a booking"


def rows_of_events(tenant: Tenant, booking: Booking) -> int:
    return len(tenant.history(booking.id))


def test_a_reminder_says_all_that_a_message_needs(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock, sent: Outbox
) -> None:
    booking = book(acme, reference="order-7")
    clock.set(NEXT_WEEK - HOUR)
    scheduler.relay(sent).run_once()
    (event,) = sent.got  # of the other it is too late
    Draft202012Validator(event_schema("booking.reminder")).validate(event.payload)
    assert (event.kind, event.booking_id, event.version, event.tenant) == ("booking.reminder", booking.id, 1, "acme")
    assert event.payload["booking"]["reference"] == "order-7"
    assert event.payload["reminder"] == {
        "recipient": "attendee",
        "before": "PT1H",
        "to": {"name": "Grace", "email": GRACE.email, "timezone": GRACE.timezone, "reference": GRACE.reference},
    }
    assert event.payload["hosts"][0]["email"] == "ada@acme.test"
    assert event.to_cloudevent()["type"] == "booking.reminder"


def test_hosts_are_reminded_each_where_the_event_type_says_so(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock, sent: Outbox
) -> None:
    acme.save_event_type(replace(acme.event_type("all"), reminders=[Reminder(minutes=90, to="hosts")]))
    booking = book(acme, event_type="all")
    assert acme.event_type("all").reminders == (Reminder(minutes=90, to="hosts"),)
    clock.set(NEXT_WEEK - 90 * MINUTE)
    scheduler.relay(sent).run_once()
    assert sorted(sent.told) == [("host:ada", "PT1H30M"), ("host:bob", "PT1H30M")]
    assert {one.payload["reminder"]["to"]["email"] for one in sent.got} == {"ada@acme.test", "bob@acme.test"}
    assert len(acme.reminders(booking.id)) == 2


def test_an_event_type_may_have_none(acme: Tenant) -> None:
    acme.save_event_type(replace(acme.event_type("visit"), reminders=()))
    assert acme.event_type("visit").reminders == ()
    assert acme.reminders(book(acme).id) == []


def test_what_is_past_when_somebody_books_is_not_written(acme: Tenant) -> None:
    booking = book(acme, NOW + 90 * MINUTE)
    assert states(acme, booking) == [("PT1H", 1, "waiting")]
    assert states(acme, book(acme, NOW + HOUR)) == []


# What changes.


def test_a_booking_that_moves_takes_its_reminders_along(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock, sent: Outbox
) -> None:
    booking = book(acme)
    acme.reschedule(booking.id, start=NEXT_WEEK + 2 * HOUR)
    assert [(one.before, one.version, one.state.value, one.due_at) for one in acme.reminders(booking.id)] == [
        ("P1D", 1, "superseded", NEXT_WEEK - DAY),
        ("P1D", 2, "waiting", NEXT_WEEK + 2 * HOUR - DAY),
        ("PT1H", 1, "superseded", NEXT_WEEK - HOUR),
        ("PT1H", 2, "waiting", NEXT_WEEK + HOUR),
    ]
    clock.set(NEXT_WEEK - HOUR)
    scheduler.relay(sent).run_once()
    assert sent.got == []
    clock.set(NEXT_WEEK + HOUR)
    scheduler.relay(sent).run_once()
    assert sent.told == [("attendee", "PT1H")]


@pytest.mark.parametrize("how", ["cancel", "erase"])
def test_a_booking_that_ends_or_has_nobody_left_reminds_nobody(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock, sent: Outbox, how: str
) -> None:
    booking = book(acme)
    if how == "cancel":
        acme.cancel(booking.id)
    else:
        acme.erase_attendee(email=GRACE.email)
    assert states(acme, booking) == [("P1D", 1, "superseded"), ("PT1H", 1, "superseded")]
    clock.set(NEXT_WEEK - HOUR)
    scheduler.relay(sent).run_once()
    assert sent.got == []


def test_what_was_sent_is_not_sent_again_after_a_change_of_something_else(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock, sent: Outbox
) -> None:
    booking = book(acme)
    clock.set(NEXT_WEEK - DAY)
    scheduler.relay(sent).run_once()
    acme.update(booking.id, location="Room 7")
    assert states(acme, booking) == [("P1D", 1, "sent"), ("PT1H", 1, "superseded"), ("PT1H", 2, "waiting")]
    clock.set(NEXT_WEEK - HOUR)
    scheduler.relay(sent).run_once()
    assert sent.told == [("attendee", "P1D"), ("attendee", "PT1H")]
    assert sent.got[1].payload["booking"]["location"] == "Room 7"


def test_what_was_due_and_has_not_gone_out_is_due_again_after_a_change_of_something_else(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock, sent: Outbox
) -> None:
    booking = book(acme)
    scheduler.relay(sent).run_once()
    clock.set(NEXT_WEEK - DAY)
    sent.fails = OSError("the mail server is away")
    assert scheduler.relay(sent).run_once() == Relayed(failed=1)
    assert scheduler.outbox.status().depth == 1, "it is late"
    clock.move(MINUTE)
    acme.update(booking.id, location="Room 7")
    sent.fails = None
    assert scheduler.relay(sent).run_once() == Relayed(delivered=2)
    assert sent.told == [("attendee", "P1D")]
    assert ("P1D", 2, "sent") in states(acme, booking)
    acme.reschedule(booking.id, start=NEXT_WEEK + HALF)
    assert [one for one in states(acme, booking) if one[1] == 3] == [("P1D", 3, "waiting"), ("PT1H", 3, "waiting")]


def test_what_changes_while_a_reminder_goes_out_has_gone_out(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock, sent: Outbox, db: Database
) -> None:
    booking = book(acme)
    clock.set(NEXT_WEEK - HOUR)

    def cancel() -> None:
        with Scheduler(db.app, clock=clock) as beside:
            beside.tenant("acme").cancel(booking.id)

    sent.first = cancel
    scheduler.relay(sent).run_once()
    assert ("PT1H", 1, "sent") in states(acme, booking)


def test_a_host_whose_slug_is_attendee_is_no_attendee(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock, sent: Outbox
) -> None:
    acme.save_host(Host(slug="attendee", name="Ann", timezone="UTC"))
    acme.save_event_type(
        EventType(slug="odd", duration=HALF, hosts=["attendee"], reminders=[Reminder(hours=1, to="hosts")])
    )
    acme.book("odd", start=NEXT_WEEK, attendee=GRACE, force=True)
    clock.set(NEXT_WEEK - HOUR)
    scheduler.relay(sent).run_once()
    assert [one.payload["reminder"]["to"]["name"] for one in sent.got] == ["Ann"]


def test_grace_counts_from_when_it_was_due_and_not_from_the_last_attempt(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock, sent: Outbox
) -> None:
    booking = book(acme)
    clock.set(NEXT_WEEK - DAY)
    sent.fails = OSError("no route")
    often = Backoff(attempts=50, first=30 * MINUTE, factor=1)
    for _ in range(4):
        scheduler.relay(sent, backoff=often).run_once()
        clock.move(31 * MINUTE)
    one = acme.reminders(booking.id)[0]
    assert (one.state, one.due_at) == (ReminderState.SKIPPED, NEXT_WEEK - DAY)


def test_what_is_held_or_pending_reminds_nobody_until_it_is_confirmed(acme: Tenant) -> None:
    hold = acme.place_hold("visit", start=NEXT_WEEK, ttl=DAY)
    assert acme.reminders(hold.id) == []
    assert states(acme, acme.confirm_hold(hold.id, attendee=GRACE)) == [("P1D", 2, "waiting"), ("PT1H", 2, "waiting")]
    acme.save_event_type(EventType(slug="ask", name="Ask", duration=HALF, hosts=["bob"], requires_approval=True))
    pending = book(acme, event_type="ask")
    assert states(acme, pending) == []
    assert len(states(acme, acme.approve(pending.id))) == 2


def test_who_gets_the_booking_of_another_host_is_reminded_in_their_place(acme: Tenant) -> None:
    acme.save_event_type(replace(acme.event_type("any"), reminders=[Reminder(hours=2, to="hosts")]))
    booking = book(acme, event_type="any", host="ada")
    acme.reassign(booking.id, host="bob")
    assert [(one.recipient, one.state) for one in acme.reminders(booking.id)] == [
        ("host:ada", ReminderState.SUPERSEDED),
        ("host:bob", ReminderState.WAITING),
    ]


@every_face
def test_a_booking_that_changes_while_its_reminder_is_leased_is_looked_at_again(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock, sent: Outbox, db: Database
) -> None:
    one, other = book(acme), book(acme, NEXT_WEEK + HALF)
    clock.set(NEXT_WEEK - HALF)  # both are due, and leased together

    def cancel_the_other() -> None:
        with Scheduler(db.app, clock=clock) as beside:
            beside.tenant("acme").cancel(other.id)

    sent.first = cancel_the_other
    scheduler.relay(sent).run_once()
    assert [event.booking_id for event in sent.got] == [one.id]
    assert ("PT1H", 1, "superseded") in states(acme, other)


# What is late, and what fails.


def test_a_booking_that_somebody_has_locked_holds_up_its_own_reminder_alone(
    db: Database, acme: Tenant, clock: SettableClock, sent: Outbox
) -> None:
    locked, other = book(acme), book(acme, NEXT_WEEK + HOUR)
    clock.set(NEXT_WEEK - HOUR)
    patient = Scheduler(db.app, worker_url=db.worker, clock=clock, lock_timeout=timedelta(milliseconds=100))
    with db.app.connect() as ours:
        acme.update(locked.id, metadata={"a": 1}, within=ours)
        got: list[str] = []

        def deliver(event: OutboxEvent) -> None:
            got.append(event.kind)
            sent(event)

        assert patient.relay(deliver, grace=2 * DAY).run_once() == Relayed(delivered=3)
        ours.rollback()
    assert sorted(got) == ["booking.confirmed", "booking.confirmed", "booking.reminder"]
    assert [one.booking_id for one in sent.got] == [other.id]
    assert {one.attempts for one in acme.reminders(locked.id)} == {0}
    clock.move(timedelta(seconds=5))
    assert patient.relay(sent, grace=2 * DAY).run_once().delivered == 2


def test_many_reminders_do_not_hold_up_events_nor_events_reminders(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock
) -> None:
    for n in range(4):
        book(acme, NEXT_WEEK + n * HOUR)
    clock.set(NEXT_WEEK - HOUR)
    got: list[str] = []
    scheduler.relay(lambda event: got.append(event.kind), batch=1, grace=2 * DAY).run_once()
    assert got[:4] == ["booking.reminder", "booking.confirmed"] * 2


@every_face
def test_what_comes_too_late_is_skipped_and_says_so(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock, sent: Outbox
) -> None:
    booking = book(acme)
    clock.set(NEXT_WEEK - DAY + 61 * MINUTE)
    assert scheduler.relay(sent).run_once() == Relayed(delivered=1)  # the confirmation, however late
    clock.set(NEXT_WEEK)
    scheduler.relay(sent, grace=2 * HOUR).run_once()
    assert sent.got == []
    assert [(one.before, one.state.value, one.reason) for one in acme.reminders(booking.id)] == [
        ("P1D", "skipped", "too late: it was due at 2026-03-08T09:00:00Z"),
        ("PT1H", "skipped", "too late: the booking has begun"),
    ]
    assert scheduler.outbox.status().depth == 0


def test_one_that_fails_is_tried_again_and_is_dead_in_the_end(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock, sent: Outbox
) -> None:
    booking = book(acme)
    options: dict[str, Any] = {"backoff": Backoff(attempts=2, first=MINUTE, factor=1)}
    scheduler.relay(sent).run_once()
    clock.set(NEXT_WEEK - DAY)
    sent.fails = RetryLater("the mail server is full")
    assert scheduler.relay(sent, **options).run_once() == Relayed(failed=1)
    one = acme.reminders(booking.id)[0]
    assert (one.state, one.attempts, one.reason) == (
        ReminderState.WAITING, 1, "RetryLater: the mail server is full"
    )  # fmt: skip
    clock.move(2 * MINUTE)
    assert scheduler.relay(sent, **options).run_once() == Relayed(dead=1)
    assert acme.reminders(booking.id)[0].state is ReminderState.DEAD
    assert (scheduler.outbox.status().dead, scheduler.outbox.status().depth) == (0, 0), "it is over"
    sent.fails = None
    clock.set(NEXT_WEEK - HOUR)
    assert scheduler.relay(sent, **options).run_once() == Relayed(delivered=1), "the other does not wait for it"


def test_one_that_is_retried_for_too_long_is_skipped(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock, sent: Outbox
) -> None:
    booking = book(acme)
    clock.set(NEXT_WEEK - HOUR)
    sent.fails = OSError("no route")
    scheduler.relay(sent, backoff=Backoff(first=MINUTE, factor=1), grace=10 * MINUTE).run_once()
    clock.move(11 * MINUTE)
    sent.fails = None
    scheduler.relay(sent, grace=10 * MINUTE).run_once()
    assert sent.got == []
    assert {one.state for one in acme.reminders(booking.id)} == {ReminderState.SKIPPED}


def test_no_error_of_an_erased_person_is_kept(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock, sent: Outbox, db: Database
) -> None:
    book(acme)
    clock.set(NEXT_WEEK - DAY)
    sent.fails = OSError(f"no mailbox {GRACE.email}")
    scheduler.relay(sent).run_once()
    assert rows(db, "SELECT count(*) FROM nxsched.reminder WHERE last_error ~ 'grace'") == [(1,)]
    acme.erase_attendee(email=GRACE.email)
    assert rows(db, "SELECT count(*) FROM nxsched.reminder WHERE last_error ~ 'grace'") == [(0,)]


def test_what_has_ended_is_swept_after_a_while(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock, sent: Outbox
) -> None:
    booking = book(acme)
    kept = book(acme, NINE + 60 * DAY)
    clock.set(NEXT_WEEK - HOUR)
    scheduler.relay(sent).run_once()
    assert len(acme.reminders(booking.id)) == 2
    clock.move(31 * DAY)
    assert scheduler.sweep().reminders == 2
    assert acme.reminders(booking.id) == []
    assert len(acme.reminders(kept.id)) == 2


def test_reminders_of_another_tenant_are_nobody_elses(scheduler: Scheduler, acme: Tenant) -> None:
    booking = book(acme)
    with pytest.raises(BookingNotFound):
        scheduler.create_tenant("zeta", name="Zeta").reminders(booking.id)


# When they are due.

LONDON, NEW_YORK = ZoneInfo("Europe/London"), ZoneInfo("America/New_York")


@pytest.mark.parametrize(
    ("start", "timezone", "reminder", "due"),
    [
        # Clocks go forward in the night of 2026-03-29 in London: the day before has 23 hours.
        ("2026-03-29T09:00+01:00", "Europe/London", Reminder(days=1), "2026-03-28T09:00+00:00"),
        ("2026-03-29T09:00+01:00", "Europe/London", Reminder(hours=24), "2026-03-28T08:00+00:00"),
        ("2026-03-29T09:00+01:00", "America/New_York", Reminder(days=1), "2026-03-28T08:00+00:00"),
        # 01:30 of the 29th is skipped: it is read with the offset before, which is 02:30.
        ("2026-03-30T01:30+01:00", "Europe/London", Reminder(days=1), "2026-03-29T01:30+00:00"),
        # Clocks go back on 2026-10-25: the first 01:30 of the two.
        ("2026-10-26T01:30+00:00", "Europe/London", Reminder(days=1), "2026-10-25T01:30+01:00"),
        ("2026-10-25T01:30+00:00", "Europe/London", Reminder(hours=1), "2026-10-25T01:30+01:00"),
        ("2026-10-26T09:00+00:00", "Europe/London", Reminder(days=1, hours=2), "2026-10-25T07:00+00:00"),
        # A date that was skipped altogether.
        ("2011-12-31T09:00+14:00", "Pacific/Apia", Reminder(days=1), "2011-12-30T19:00+00:00"),
    ],
)
def test_days_are_counted_on_the_wall_clock_and_hours_as_they_pass(
    start: str, timezone: str, reminder: Reminder, due: str
) -> None:
    assert due_at(datetime.fromisoformat(start), timezone, reminder) == datetime.fromisoformat(due)


def due_at(start: datetime, timezone: str, reminder: Reminder) -> datetime:
    who = Attendee(name="Grace", timezone=timezone)
    booking = a_booking(start.astimezone(UTC), who)
    event_type = EventType(duration=HALF, hosts=["ada"], reminders=[reminder])
    (row,) = wanted(booking, event_type, [{"slug": "ada", "timezone": "UTC"}])
    return datetime.fromisoformat(row["due_at"])


def a_booking(start: datetime, attendee: Attendee | None) -> Booking:
    nothing: dict[str, Any] = dict.fromkeys(
        ("location", "reference", "series_id", "organizer", "assigned_because", "expires_at")
    )
    return Booking(
        id="x", event_type="visit", status=BookingStatus.CONFIRMED, start=start, end=start + HALF, hosts=("ada",),
        attendee=attendee, seats=1, answers={}, metadata={}, sequence=0, version=1, created_at=start, **nothing,
    )  # fmt: skip


@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2030, 1, 1)).map(lambda at: at.replace(microsecond=0, tzinfo=UTC)),  # noqa: DTZ001
    st.sampled_from(["Europe/London", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kathmandu"]),
    st.integers(1, 30),
)
def test_a_day_before_is_what_the_standard_librarys_calendar_says(at: datetime, timezone: str, days: int) -> None:
    zone = ZoneInfo(timezone)
    wall = at.astimezone(zone).replace(fold=0) - timedelta(days=days)  # arithmetic of the wall clock
    expected = wall.replace(fold=0).astimezone(UTC)
    assert due_at(at, timezone, Reminder(days=days)) == expected


def test_an_attendee_whose_time_zone_nobody_knows_has_that_of_the_event_type_or_of_the_host() -> None:
    start = datetime(2026, 3, 29, 8, tzinfo=UTC)
    hosts = [{"slug": "ada", "timezone": "Europe/London"}]
    event_type = EventType(duration=HALF, hosts=["ada"], reminders=[Reminder(days=1)])
    booking = a_booking(start, Attendee(name="Grace"))
    for one, hour in ((event_type, 9), (replace(event_type, timezone="America/New_York"), 8)):
        (row,) = wanted(booking, one, hosts)
        assert datetime.fromisoformat(row["due_at"]).hour == hour
    assert wanted(a_booking(start, None), event_type, hosts) == []


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, "minutes"),
        ({"days": -1}, "days"),
        ({"days": 367}, "days"),
        ({"hours": 1.5}, "hours"),
        ({"minutes": True}, "minutes"),
        ({"hours": 1, "to": "everybody"}, "to"),
    ],
)
def test_bad_reminders_are_named(given: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Reminder(**given)
    assert caught.value.field == field


def test_an_event_type_has_ten_reminders_at_most_and_none_twice() -> None:
    for reminders, field in (
        ([Reminder(minutes=i + 1) for i in range(11)], "reminders"),
        ([Reminder(minutes=60), Reminder(hours=1)], "reminders[1]"),
        ([cast("Reminder", "P1D")], "reminders[0]"),
    ):
        with pytest.raises(InvalidInput) as caught:
            EventType(duration=HALF, hosts=["ada"], reminders=reminders)
        assert caught.value.field == field
    both = [Reminder(hours=1), Reminder(hours=1, to="hosts")]
    assert EventType(duration=HALF, hosts=["ada"], reminders=both).reminders == tuple(both)


def test_a_host_in_another_zone_is_reminded_by_its_own_clock(acme: Tenant) -> None:
    acme.save_host(Host(slug="eve", timezone="America/New_York"))
    acme.save_event_type(EventType(slug="far", duration=HALF, hosts=["eve"], reminders=[Reminder(days=1, to="hosts")]))
    start = datetime(2026, 3, 8, 15, tzinfo=UTC)  # clocks go forward in the night before
    booking = acme.book("far", start=start, attendee=GRACE, force=True)
    assert [one.due_at for one in acme.reminders(booking.id)] == [datetime(2026, 3, 7, 16, tzinfo=UTC)]
