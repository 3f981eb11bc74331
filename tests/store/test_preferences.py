"""What attendees and hosts want to be written: reminders, channels, languages, and links that end reminders."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from nxsched import (
    Attendee,
    BookingNotFound,
    EventType,
    Host,
    HostNotFound,
    IdempotencyConflict,
    InvalidInput,
    InvalidToken,
    MessagePreferences,
    OutboxEvent,
    Relayed,
    Reminder,
    Scheduler,
    SettableClock,
    Tenant,
)
from store.booked import GRACE, rows
from store.bridged import every_face
from store.conftest import DAY, HALF, HOUR, Database
from store.test_reminders import NEXT_WEEK, Outbox, book, states

TWO_HOURS = Reminder(hours=2)
WISH = MessagePreferences(reminders=[TWO_HOURS])
NONE = MessagePreferences(reminders=[])
GRACE_EMAIL = str(GRACE.email)
ALAN = Attendee(name="Alan", email="alan@example.test")


@pytest.fixture
def sent() -> Outbox:
    return Outbox()


def befores(tenant: Tenant, booking_id: str, recipient: str = "attendee") -> list[tuple[int, str, str]]:
    return [
        (one.version, one.before, one.state.value) for one in tenant.reminders(booking_id) if one.recipient == recipient
    ]


def confirmed(scheduler: Scheduler) -> OutboxEvent:
    [event] = [one for one in scheduler.outbox.events().items if one.kind == "booking.confirmed"]
    return event


@every_face
@pytest.mark.usefixtures("scheduler")
def test_what_somebody_says_is_kept_and_replaced_and_forgotten(acme: Tenant) -> None:
    said = MessagePreferences(channels=["sms"], reminders=[Reminder(days=2), TWO_HOURS], locale="de-AT")
    assert acme.preferences.get(GRACE_EMAIL) == MessagePreferences()
    assert acme.preferences.save(GRACE_EMAIL.upper(), said) == said
    assert acme.preferences.get(GRACE_EMAIL) == said
    assert acme.preferences.get("host:ada") == acme.preferences.get(str(ALAN.email)) == MessagePreferences()
    acme.preferences.save(GRACE_EMAIL, NONE)
    assert acme.preferences.get(GRACE_EMAIL) == NONE
    acme.preferences.save(GRACE_EMAIL, MessagePreferences())
    assert acme.preferences.get(GRACE_EMAIL) == MessagePreferences()


def test_who_says_nothing_leaves_no_row(acme: Tenant, db: Database) -> None:
    acme.preferences.save("host:ada", NONE)
    assert rows(db, "SELECT who FROM nxsched.message_preference") == [("host:ada",)]
    acme.preferences.save("host:ada", MessagePreferences())
    assert rows(db, "SELECT who FROM nxsched.message_preference") == []


def test_a_key_saves_once(acme: Tenant) -> None:
    acme.preferences.save(GRACE_EMAIL, NONE, idempotency_key="k")
    acme.preferences.save(GRACE_EMAIL, WISH)
    assert acme.preferences.save(GRACE_EMAIL, NONE, idempotency_key="k") == WISH, "as it is now"
    with pytest.raises(IdempotencyConflict):
        acme.preferences.save(GRACE_EMAIL, WISH, idempotency_key="k")


@every_face
def test_who_wants_no_reminders_gets_none_and_the_others_do(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock, sent: Outbox
) -> None:
    acme.save_event_type(
        replace(acme.event_type("visit"), reminders=[Reminder(hours=1), Reminder(hours=1, to="hosts")])
    )
    booking = book(acme)
    acme.preferences.save(GRACE_EMAIL, NONE)
    clock.set(NEXT_WEEK - HOUR)
    scheduler.relay(sent).run_once()
    assert sent.told == [("host:ada", "PT1H")]
    assert befores(acme, booking.id) == [(1, "PT1H", "skipped")]
    assert [one.reason for one in acme.reminders(booking.id) if one.recipient == "attendee"] == ["not wanted"]


@every_face
def test_a_wish_is_in_the_place_of_what_the_event_type_has(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock, sent: Outbox
) -> None:
    acme.preferences.save(GRACE_EMAIL, MessagePreferences(reminders=[TWO_HOURS, Reminder(hours=1)]))
    booking = book(acme)
    assert befores(acme, booking.id) == [(1, "P1D", "waiting"), (1, "PT2H", "waiting"), (1, "PT1H", "waiting")]
    relay = scheduler.relay(sent)
    for before in (DAY, 2 * HOUR, HOUR):
        clock.set(NEXT_WEEK - before)
        relay.run_once()
    assert sent.told == [("attendee", "PT2H"), ("attendee", "PT1H")]
    assert befores(acme, booking.id) == [(1, "P1D", "skipped"), (1, "PT2H", "sent"), (1, "PT1H", "sent")]


@every_face
def test_a_wish_holds_for_what_is_booked_already(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock, sent: Outbox
) -> None:
    mine, anothers = book(acme), acme.book("visit", start=NEXT_WEEK + HOUR, attendee=ALAN)
    off = book(acme, NEXT_WEEK + 2 * HOUR)
    acme.cancel(off.id)
    acme.preferences.save(GRACE_EMAIL, WISH)
    acme.preferences.save(GRACE_EMAIL, WISH)
    assert befores(acme, mine.id) == [(1, "P1D", "waiting"), (1, "PT2H", "waiting"), (1, "PT1H", "waiting")]
    assert befores(acme, anothers.id) == [(1, "P1D", "waiting"), (1, "PT1H", "waiting")]
    assert befores(acme, off.id) == [(1, "P1D", "superseded"), (1, "PT1H", "superseded")]
    clock.set(NEXT_WEEK - 2 * HOUR)
    scheduler.relay(sent, grace=2 * DAY).run_once()
    assert sorted(one.booking_id for one in sent.got) == sorted([mine.id, anothers.id])
    assert sorted(sent.told) == [("attendee", "P1D"), ("attendee", "PT2H")]


@every_face
@pytest.mark.usefixtures("scheduler")
def test_wishes_move_with_the_booking_and_end_with_it(acme: Tenant) -> None:
    acme.preferences.save(GRACE_EMAIL, WISH)
    booking = book(acme)
    acme.reschedule(booking.id, start=NEXT_WEEK + HOUR)
    acme.update(booking.id, location="elsewhere")
    acme.cancel(booking.id)
    assert {state for _, before, state in befores(acme, booking.id) if before == "PT2H"} == {"superseded"}
    assert [version for version, before, _ in befores(acme, booking.id) if before == "PT2H"] == [1, 2, 3]


def test_a_wish_that_was_due_and_has_not_gone_out_is_due_again_after_a_change_of_something_else(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock, sent: Outbox
) -> None:
    acme.preferences.save(GRACE_EMAIL, WISH)
    booking = book(acme)
    clock.set(NEXT_WEEK - 2 * HOUR + timedelta(minutes=1))
    acme.update(booking.id, location="elsewhere")
    scheduler.relay(sent).run_once()
    assert sent.told == [("attendee", "PT2H")]
    acme.update(booking.id, location="and elsewhere")
    scheduler.relay(sent).run_once()
    assert sent.told == [("attendee", "PT2H")], "what has gone out does not go out again"


def test_a_hold_that_is_confirmed_and_an_attendee_who_comes_later_have_their_wishes(acme: Tenant) -> None:
    acme.preferences.save(GRACE_EMAIL, WISH)
    acme.preferences.save(str(ALAN.email), MessagePreferences(reminders=[Reminder(minutes=5)]))
    hold = acme.place_hold("visit", start=NEXT_WEEK)
    booking = acme.confirm_hold(hold.id, attendee=GRACE)
    assert [before for _, before, _ in befores(acme, booking.id)] == ["P1D", "PT2H", "PT1H"]
    graces = acme.place_hold("visit", start=NEXT_WEEK + HOUR, attendee=GRACE)
    alans = acme.confirm_hold(graces.id, attendee=ALAN)
    assert [before for _, before, _ in befores(acme, alans.id)] == ["P1D", "PT1H", "PT5M"]


def test_all_of_a_series_have_them(acme: Tenant) -> None:
    acme.preferences.save(GRACE_EMAIL, WISH)
    series = acme.book_series("visit", starts=[NEXT_WEEK, NEXT_WEEK + HOUR], attendee=GRACE)
    assert [[before for _, before, _ in befores(acme, one.id)] for one in series] == [["P1D", "PT2H", "PT1H"]] * 2


def test_whom_an_event_type_does_not_remind_has_no_wish(acme: Tenant) -> None:
    acme.save_event_type(replace(acme.event_type("visit"), reminders=[Reminder(hours=1, to="hosts")]))
    acme.preferences.save(GRACE_EMAIL, WISH)
    acme.preferences.save("host:ada", WISH)
    booking = book(acme)
    assert [(one.recipient, one.before) for one in acme.reminders(booking.id)] == [
        ("host:ada", "PT2H"),
        ("host:ada", "PT1H"),
    ]


def test_a_wish_of_a_host_holds_for_what_is_booked_already(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock, sent: Outbox
) -> None:
    acme.save_event_type(replace(acme.event_type("visit"), reminders=[Reminder(hours=1, to="hosts")]))
    acme.save_event_type(
        EventType(slug="of bob", duration=HALF, hosts=["bob"], reminders=[Reminder(hours=1, to="hosts")])
    )
    mine, bobs = book(acme), book(acme, event_type="of bob")
    acme.preferences.save("host:ada", WISH)
    assert befores(acme, mine.id, "host:ada") == [(1, "PT2H", "waiting"), (1, "PT1H", "waiting")]
    assert befores(acme, bobs.id, "host:bob") == [(1, "PT1H", "waiting")]
    clock.set(NEXT_WEEK - HOUR)
    scheduler.relay(sent, grace=DAY).run_once()
    assert sent.told == [("host:ada", "PT2H"), ("host:bob", "PT1H")]


def test_what_is_past_of_a_wish_is_not_written(acme: Tenant, clock: SettableClock) -> None:
    booking = book(acme)
    clock.set(NEXT_WEEK - HOUR - timedelta(minutes=30))
    acme.preferences.save(GRACE_EMAIL, WISH)
    assert [before for _, before, _ in befores(acme, booking.id)] == ["P1D", "PT1H"]


@pytest.mark.parametrize("now", [MessagePreferences(), MessagePreferences(locale="de")])
def test_a_wish_that_was_taken_back_is_not_sent_and_what_the_event_type_has_is(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock, sent: Outbox, now: MessagePreferences
) -> None:
    acme.preferences.save(GRACE_EMAIL, WISH)
    booking = book(acme)
    acme.preferences.save(GRACE_EMAIL, now)
    clock.set(NEXT_WEEK - HOUR)
    scheduler.relay(sent, grace=2 * HOUR).run_once()
    assert sent.told == [("attendee", "PT1H")]
    assert befores(acme, booking.id)[1] == (1, "PT2H", "skipped")


def test_who_wants_no_messages_is_not_reminded(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock, sent: Outbox
) -> None:
    book(acme)
    acme.preferences.save(GRACE_EMAIL, MessagePreferences(channels=[]))
    clock.set(NEXT_WEEK - HOUR)
    scheduler.relay(sent).run_once()
    assert sent.told == []


def test_a_wish_for_what_the_event_type_has_come_to_have_since_is_written(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock, sent: Outbox
) -> None:
    book(acme)
    acme.save_event_type(replace(acme.event_type("visit"), reminders=[TWO_HOURS]))
    acme.preferences.save(GRACE_EMAIL, WISH)
    clock.set(NEXT_WEEK - 2 * HOUR)
    scheduler.relay(sent, grace=2 * DAY).run_once()
    assert sent.told == [("attendee", "PT2H")]


def test_what_is_approved_or_given_to_another_host_has_the_wishes_of_who_has_it_then(acme: Tenant) -> None:
    hosts = [Reminder(hours=1, to="hosts"), Reminder(hours=1)]
    acme.save_event_type(replace(acme.event_type("any"), reminders=hosts, requires_approval=True))
    for who in (GRACE_EMAIL, "host:bob", "host:cyd"):
        acme.preferences.save(who, WISH)
    booking = acme.book("any", start=NEXT_WEEK, attendee=GRACE, host="bob")
    assert acme.reminders(booking.id) == []
    acme.approve(booking.id)
    two_hours = [(one.version, one.recipient) for one in acme.reminders(booking.id) if one.before == "PT2H"]
    assert two_hours == [(2, "attendee"), (2, "host:bob")]
    acme.reassign(booking.id, host="cyd")
    standing = [one.recipient for one in acme.reminders(booking.id) if one.state == "waiting" and one.before == "PT2H"]
    assert standing == ["attendee", "host:cyd"]


def test_what_was_wanted_again_is_sent_again(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock, sent: Outbox
) -> None:
    book(acme)
    acme.preferences.save(GRACE_EMAIL, NONE)
    acme.preferences.save(GRACE_EMAIL, MessagePreferences(reminders=[Reminder(hours=1)]))
    clock.set(NEXT_WEEK - HOUR)
    scheduler.relay(sent, grace=2 * DAY).run_once()
    assert sent.told == [("attendee", "PT1H")]


@every_face
def test_messages_are_in_the_language_and_through_the_channels_that_somebody_prefers(
    scheduler: Scheduler, acme: Tenant
) -> None:
    book(acme)
    event = confirmed(scheduler)
    acme.preferences.save(GRACE_EMAIL, MessagePreferences(locale="de", channels=["email"]))
    said = acme.messages.render(event)
    assert said is not None
    assert (said.subject or "").startswith("Bestätigt")
    assert acme.messages.render(event, "sms") is None
    english = acme.messages.render(event, locale="en")
    assert english is not None
    assert (english.subject or "").startswith("Confirmed"), "what is asked for goes before what is preferred"
    to_ada = acme.messages.render(event, to="host:ada")
    assert to_ada is not None
    assert (to_ada.subject or "").startswith("Booked")
    acme.preferences.save(GRACE_EMAIL, MessagePreferences(channels=[]))
    assert acme.messages.render(event) is None
    assert acme.messages.to_email(event, sender="acme@acme.test") is None


def test_an_attendee_without_an_address_prefers_nothing(acme: Tenant, scheduler: Scheduler) -> None:
    booking = acme.book("visit", start=NEXT_WEEK, attendee=Attendee(name="Somebody", reference="user-8"))
    assert [before for _, before, _ in befores(acme, booking.id)] == ["P1D", "PT1H"]
    assert acme.messages.render(confirmed(scheduler)) is not None


# --- links -----------------------------------------------------------------------------------------------------------


@every_face
@pytest.mark.usefixtures("scheduler")
def test_a_link_ends_the_reminders_of_who_has_it(acme: Tenant) -> None:
    booking = book(acme)
    acme.preferences.save(GRACE_EMAIL, MessagePreferences(locale="fr", reminders=[TWO_HOURS]))
    token = acme.preferences.unsubscribe_token(booking.id, expires=NEXT_WEEK + 30 * DAY)
    assert acme.preferences.whose(token) == GRACE_EMAIL.lower()
    for _ in range(2):
        assert acme.preferences.unsubscribe(token) == MessagePreferences(locale="fr", reminders=[])
    assert acme.preferences.get(GRACE_EMAIL) == MessagePreferences(locale="fr", reminders=[])
    theirs = acme.preferences.unsubscribe_token(booking.id, to="host:ada", expires=NEXT_WEEK)
    assert acme.preferences.whose(theirs) == "host:ada"
    acme.preferences.unsubscribe(theirs)
    assert acme.preferences.get("host:ada") == MessagePreferences(reminders=[])


def test_a_link_outlives_the_booking_and_ends_in_time(acme: Tenant, clock: SettableClock) -> None:
    booking = book(acme)
    token = acme.preferences.unsubscribe_token(booking.id, expires=NEXT_WEEK)
    acme.cancel(booking.id)
    assert acme.preferences.whose(token) == GRACE_EMAIL.lower()
    late = acme.preferences.unsubscribe_token(booking.id, expires=NEXT_WEEK + DAY)
    clock.set(NEXT_WEEK)
    with pytest.raises(InvalidToken):
        acme.preferences.unsubscribe(token)
    assert acme.preferences.whose(late) == GRACE_EMAIL.lower()


def test_a_link_for_one_thing_is_none_for_another(acme: Tenant) -> None:
    booking = book(acme)
    managing = acme.manage_token(booking.id, expires=NEXT_WEEK)
    ending = acme.preferences.unsubscribe_token(booking.id, expires=NEXT_WEEK)
    with pytest.raises(InvalidToken):
        acme.with_token(ending).booking()
    with pytest.raises(InvalidToken):
        acme.preferences.unsubscribe(managing)
    assert acme.preferences.get(GRACE_EMAIL) == MessagePreferences()


def test_a_link_of_a_host_ends_when_the_booking_goes_to_another(acme: Tenant) -> None:
    booking = acme.book("any", start=NEXT_WEEK, attendee=GRACE, host="bob")
    token = acme.preferences.unsubscribe_token(booking.id, to="host:bob", expires=NEXT_WEEK)
    acme.reassign(booking.id, host="cyd")
    with pytest.raises(InvalidToken):
        acme.preferences.unsubscribe(token)


def test_a_link_of_a_wrong_address_is_nothing_to_the_right_one(acme: Tenant) -> None:
    hold = acme.place_hold("visit", start=NEXT_WEEK, attendee=GRACE)
    token = acme.preferences.unsubscribe_token(hold.id, expires=NEXT_WEEK)
    acme.confirm_hold(hold.id, attendee=ALAN)
    with pytest.raises(InvalidToken):
        acme.preferences.unsubscribe(token)
    assert acme.preferences.get(str(ALAN.email)) == MessagePreferences()


def test_a_changed_link_and_one_of_another_tenant_are_none(acme: Tenant, scheduler: Scheduler) -> None:
    booking = book(acme)
    token = acme.preferences.unsubscribe_token(booking.id, expires=NEXT_WEEK)
    scheduler.create_tenant("zeta", name="Zeta")
    zeta = acme._units  # noqa: SLF001 - the same secrets, another tenant
    others: list[tuple[Tenant, str]] = [(Tenant(zeta, "zeta"), token)]
    others += [(acme, token[:n] + ("A" if token[n] != "A" else "B") + token[n + 1 :]) for n in range(len(token))]
    for tenant, bad in others:
        with pytest.raises(InvalidToken):
            tenant.preferences.unsubscribe(bad)


def test_whom_a_link_can_be_for(acme: Tenant, db: Database, clock: SettableClock) -> None:
    booking = book(acme)
    nobody = acme.book("visit", start=NEXT_WEEK + HOUR, attendee=Attendee(name="Somebody", reference="u"))
    bad: list[Any] = ["host:bob", "grace", "", None, 7]
    for id_, to in (*((booking.id, one) for one in bad), (nobody.id, "attendee")):
        with pytest.raises(InvalidInput) as caught:
            acme.preferences.unsubscribe_token(id_, to=to, expires=NEXT_WEEK)
        assert caught.value.field == "to"
    with pytest.raises(BookingNotFound):
        acme.preferences.unsubscribe_token("0190a1b2-0000-7000-8000-000000000000", expires=NEXT_WEEK)
    with pytest.raises(InvalidInput, match="secrets"):
        Scheduler(db.app, clock=clock).tenant("acme").preferences.unsubscribe_token(booking.id, expires=NEXT_WEEK)


def test_a_reminder_has_the_header_that_mail_programs_show_a_button_for(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock, sent: Outbox
) -> None:
    book(acme)
    event = confirmed(scheduler)
    url = "https://acme.test/unsubscribe?t=abc"
    clock.set(NEXT_WEEK - HOUR)
    scheduler.relay(sent).run_once()
    mail = acme.messages.to_email(sent.got[0], links={"unsubscribe": url}, sender="acme@acme.test")
    assert mail is not None
    assert mail["List-Unsubscribe"] == f"<{url}>"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert f"\nNo more reminders: {url}\n" in mail.get_body(("plain",)).get_content()  # type: ignore[union-attr]
    other = acme.messages.to_email(event, links={"unsubscribe": url}, sender="acme@acme.test")
    assert other is not None
    assert other["List-Unsubscribe"] is None, "a confirmation is no reminder, and comes all the same"


@pytest.mark.parametrize("scheme", ["https", "http"])
def test_the_link_in_the_header_is_one_line_however_long(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock, sent: Outbox, scheme: str
) -> None:
    booking = book(acme)
    token = acme.preferences.unsubscribe_token(booking.id, expires=NEXT_WEEK + DAY)
    url = f"{scheme}://acme.test/unsubscribe?token={token}&more={'x' * 700}"
    clock.set(NEXT_WEEK - HOUR)
    scheduler.relay(sent).run_once()
    mail = acme.messages.to_email(sent.got[0], links={"unsubscribe": url}, sender="acme@acme.test")
    assert mail is not None
    written = mail.as_bytes()
    assert f"\r\nList-Unsubscribe: <{url}>\r\n".encode() in written
    assert (b"\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" in written) == (scheme == "https")
    for bad in (url + "x" * 100, "https://a.test/>,<mailto:x@y.test"):
        with pytest.raises(InvalidInput) as caught:
            acme.messages.to_email(sent.got[0], links={"unsubscribe": bad}, sender="acme@acme.test")
        assert caught.value.field == "links.unsubscribe"


# --- persons, and bad input ------------------------------------------------------------------------------------------


def test_who_is_erased_prefers_nothing_any_more(acme: Tenant, db: Database) -> None:
    acme.preferences.save(GRACE_EMAIL, NONE)
    acme.preferences.save("alan.private@example.test", NONE)
    acme.preferences.save("host:ada", NONE)
    book(acme)
    acme.book(
        "visit",
        start=NEXT_WEEK + HOUR,
        attendee=Attendee(name="Alan", email="Alan.Private@example.test", reference="user-9"),
    )
    acme.preferences.save(GRACE_EMAIL, NONE, idempotency_key="a key")
    token = acme.preferences.unsubscribe_token(acme.bookings(attendee="user-7").items[0].id, expires=NEXT_WEEK)
    acme.erase_attendee(email=GRACE_EMAIL)
    assert rows(db, "SELECT key FROM nxsched.idempotency_key") == []
    with pytest.raises(InvalidToken):
        acme.preferences.unsubscribe(token)
    acme.erase_attendee(reference="user-9")
    assert rows(db, "SELECT who FROM nxsched.message_preference") == [("host:ada",)]


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"channels": "email"}, "channels"),
        ({"channels": ["pigeon"]}, "channels[0]"),
        ({"channels": ["sms", "sms"]}, "channels[1]"),
        ({"channels": [7]}, "channels[0]"),
        ({"reminders": [timedelta(hours=1)]}, "reminders[0]"),
        ({"reminders": [TWO_HOURS, Reminder(minutes=120)]}, "reminders[1]"),
        ({"reminders": [Reminder(hours=1, to="hosts")]}, "reminders[0].to"),
        ({"reminders": True}, "reminders"),
        ({"locale": "german"}, "locale"),
        ({"locale": 7}, "locale"),
    ],
)
def test_bad_preferences_are_named(given: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        MessagePreferences(**given)
    assert caught.value.field == field


def test_a_host_with_a_long_slug_and_an_attendee_with_other_letters_have_preferences(acme: Tenant) -> None:
    slug = "h" * 200
    acme.save_host(Host(slug=slug, timezone="UTC"))
    for who in (f"host:{slug}", "jürgen@exämple.test"):
        acme.preferences.save(who, WISH)
        assert acme.preferences.get(who) == WISH


def test_preferences_of_one_tenant_are_nothing_to_another(scheduler: Scheduler, acme: Tenant) -> None:
    zeta = scheduler.create_tenant("zeta", name="Zeta")
    zeta.save_host(Host(slug="ada", timezone="UTC", weekly_hours=acme.host("ada").weekly_hours))
    zeta.save_event_type(EventType(slug="visit", duration=HALF, hosts=["ada"]))
    zeta.preferences.save(GRACE_EMAIL, WISH)
    booking = book(acme)
    assert acme.preferences.get(GRACE_EMAIL) == MessagePreferences()
    assert [before for _, before, _ in befores(acme, booking.id)] == ["P1D", "PT1H"]


def test_whose_preferences_is_looked_at_first(acme: Tenant, db: Database) -> None:
    bad: list[Any] = ["ada", "", None, 7, "host:", "grace\n@example.test"]
    for who in bad:
        for call in (acme.preferences.get, lambda one: acme.preferences.save(one, NONE)):
            with pytest.raises(InvalidInput) as caught:
                call(who)
            assert caught.value.field == "who"
    for call in (acme.preferences.get, lambda one: acme.preferences.save(one, NONE)):
        with pytest.raises(HostNotFound):
            call("host:nobody")
    with pytest.raises(InvalidInput, match="MessagePreferences"):
        acme.preferences.save(GRACE_EMAIL, {"reminders": []})  # type: ignore[arg-type]
    assert rows(db, "SELECT who FROM nxsched.message_preference") == []


def test_an_event_that_is_not_confirmed_has_no_wish(acme: Tenant) -> None:
    acme.preferences.save(GRACE_EMAIL, WISH)
    booking = book(acme)
    acme.cancel(booking.id)
    acme.preferences.save(GRACE_EMAIL, MessagePreferences(reminders=[Reminder(minutes=7)]))
    assert all(state == "superseded" for *_, state in states(acme, booking))


def test_a_relay_counts_what_is_not_wanted_as_done(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock, sent: Outbox
) -> None:
    book(acme)
    scheduler.relay(sent).run_once()
    acme.preferences.save(GRACE_EMAIL, NONE)
    clock.set(NEXT_WEEK - HOUR)
    assert scheduler.relay(sent).run_once() == Relayed()
    assert scheduler.outbox.status().depth == 0
