"""Messages: what is written to whom of an event, in their language and time zone, by templates of tenants."""

from __future__ import annotations

import smtplib
import socket
from collections.abc import Iterator
from dataclasses import replace
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from typing import Any, Literal, cast

import pytest
from aiosmtpd.controller import Controller
from hypothesis import given
from hypothesis import strategies as st

from nxsched import (
    Actor,
    Attendee,
    EventType,
    InvalidInput,
    Message,
    MessageTemplate,
    OutboxEvent,
    Question,
    Scheduler,
    SettableClock,
    TemplateNotFound,
    Tenant,
)
from nxsched.domain.events import KINDS, REMINDER
from nxsched.notifications.catalog import LOCALES, builtin
from nxsched.notifications.context import sample
from nxsched.notifications.rendering import check_template, message, preview
from store.booked import GRACE
from store.bridged import every_face
from store.conftest import DAY, HALF, HOUR, NINE

WHY = Question(key="why", label="Why do you come?")
LINKS = {"manage": "https://acme.test/b/1?t=x&y=1"}
CONFIRMED: dict[str, Any] = {"kind": "booking.confirmed", "subject": "Yes"}


def events(scheduler: Scheduler) -> list[OutboxEvent]:
    """What a relay gives to who writes messages."""
    found: list[OutboxEvent] = []
    scheduler.relay(found.append).run_once()
    return found


def template(text: str, **more: Any) -> MessageTemplate:
    return MessageTemplate(**{**CONFIRMED, "text": text, **more})


def said(tenant: Tenant, event: OutboxEvent, **more: Any) -> Message:
    found = tenant.messages.render(event, **more)
    assert found is not None
    return found


# What is built in.


@every_face
def test_who_saves_no_template_has_words_for_the_attendee_and_for_each_host(scheduler: Scheduler, acme: Tenant) -> None:
    acme.save_event_type(replace(acme.event_type("all"), questions=[WHY], location="Room 1"))
    acme.book("all", start=NINE, attendee=replace(GRACE, timezone="America/New_York"), answers={"why": "A cough"})
    (event,) = events(scheduler)
    assert acme.messages.recipients(event) == ["attendee", "host:ada", "host:bob"]
    theirs = said(acme, event, links=LINKS)
    assert theirs.subject == "Confirmed: Both, March 2, 2026"
    assert theirs.text == (
        "Hello Grace,\n\nyour booking with Acme Ltd is confirmed.\n\nWhat: Both\n"
        "When: Monday, March 2, 2026, 4:00 AM \N{EN DASH} 4:30 AM (America/New_York)\nWhere: Room 1\nWith: Ada, Bob\n"
        "Move or cancel it: https://acme.test/b/1?t=x&y=1"
    )
    url = "https://acme.test/b/1?t=x&amp;y=1"
    assert f'<a href="{url}">{url}</a></p>' in str(theirs.html)
    ours = said(acme, event, to="host:bob", locale="de")
    assert ours.subject == "Gebucht: Both, 2. März 2026"
    assert "Wann: Montag, 2. März 2026, 09:00 \N{EN DASH} 09:30 (Europe/London)\n" in ours.text
    assert f"Wer: Grace <{GRACE.email}>\nWhy do you come?: A cough" in ours.text
    assert said(acme, event, channel="sms", locale="fr") == Message(
        text="Acme Ltd : confirmé pour le 2 mars 2026, 04:00."
    )


def test_a_move_tells_where_it_was_and_who_has_lost_it(scheduler: Scheduler, acme: Tenant) -> None:
    booking = acme.book("any", start=NINE, attendee=GRACE, host="ada")
    acme.reschedule(booking.id, start=NINE + HOUR)
    acme.reassign(booking.id, host="bob", reason="Ada is ill")
    acme.cancel(booking.id, actor=Actor(role="attendee"))
    _, moved, given, cancelled = events(scheduler)
    assert "has moved from March 2, 2026, " in said(acme, moved).text
    assert acme.messages.recipients(given) == ["attendee", "host:bob", "host:ada"]
    assert said(acme, given, to="host:ada").subject == "Gone: Anybody, March 2, 2026"
    assert said(acme, given, to="host:bob").subject == "Yours: Anybody, March 2, 2026"
    assert "Reason: Ada is ill" in said(acme, given).text
    assert str(said(acme, cancelled).subject).startswith("Cancelled: ")


def test_a_reminder_goes_to_whom_it_is_for(scheduler: Scheduler, acme: Tenant, clock: SettableClock) -> None:
    acme.book("visit", start=NINE + 7 * DAY, attendee=GRACE)
    clock.set(NINE + 7 * DAY - HOUR)
    reminder = next(one for one in events(scheduler) if one.kind == REMINDER)
    assert acme.messages.recipients(reminder) == ["attendee"]
    assert str(said(acme, reminder).subject).startswith("Reminder: Visit, March 9, 2026, ")


def test_of_some_kinds_there_is_nothing_to_say(scheduler: Scheduler, acme: Tenant) -> None:
    acme.place_hold("visit", start=NINE, attendee=GRACE)
    (held,) = events(scheduler)
    assert acme.messages.render(held) is None
    assert acme.messages.to_email(held) is None


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("to", ["attendee", "host"])
def test_every_built_in_template_is_one_that_could_be_saved(locale: str, to: Literal["attendee", "host"]) -> None:
    found = [builtin(kind, channel, locale, to) for kind in (*KINDS, REMINDER) for channel in ("email", "sms")]
    assert len([one for one in found if one]) == {"attendee": 16, "host": 12}[to]
    for one in filter(None, found):
        check_template(one)
        for whole in (True, False):
            made = preview(one, whole=whole)
            words = f"{made.subject or ''}\n{made.text}"
            assert not [one for one in ("{", "None", "  ") if one in words], words


# Templates of a tenant.


@every_face
def test_templates_are_saved_used_listed_and_deleted(scheduler: Scheduler, acme: Tenant) -> None:
    acme.book("visit", start=NINE, attendee=GRACE)
    (event,) = events(scheduler)
    mine = template("Bis {{ booking.start.weekday }}, {{ attendee.name }}!", locale="de", subject="Servus")
    assert acme.messages.save_template(mine, idempotency_key="a") == mine
    assert acme.messages.save_template(mine, idempotency_key="a") == mine
    again = replace(mine, text="Bis {{ booking.start.weekday }}.", html="<b>{{ attendee.name }}</b>")
    acme.messages.save_template(again)
    assert acme.messages.templates() == [again]
    assert said(acme, event, locale="de-AT") == Message(subject="Servus", text="Bis Montag.", html="<b>Grace</b>")
    assert str(said(acme, event, locale="de", to="host:ada").subject).startswith("Gebucht")
    assert said(acme, event).subject == "Confirmed: Visit, March 2, 2026"
    zeta = scheduler.create_tenant("zeta", name="Zeta")
    assert zeta.messages.templates() == []
    assert str(said(zeta, event, locale="de").subject).startswith("Bestätigt")
    acme.messages.delete_template(kind="booking.confirmed", locale="de")
    assert str(said(acme, event, locale="de").subject).startswith("Bestätigt")
    with pytest.raises(TemplateNotFound, match=r"^there is no template booking\.confirmed email de attendee$"):
        acme.messages.delete_template(kind="booking.confirmed", locale="de")


def test_a_language_that_nobody_knows_falls_back_to_english_and_dates_to_the_nearest(
    scheduler: Scheduler, acme: Tenant
) -> None:
    acme.book("visit", start=NINE, attendee=GRACE)
    (event,) = events(scheduler)
    assert str(said(acme, event, locale="nl").subject).startswith("Confirmed: Visit, 2 maart 2026")
    assert str(said(acme, event, locale="xx").subject) == "Confirmed: Visit, March 2, 2026"
    acme.messages.save_template(template("Tot {{ booking.start.weekday }}", locale="nl"))
    assert said(acme, event, locale="nl-BE").text == "Tot maandag"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Hello\n{{ atendee.name }}", "line 2: there is no atendee: there are actor, answers, attendee, "),
        ("{{ booking.begin }}", "line 1: booking has no begin: it has duration, end, id, "),
        ("\n\n{{ booking.start.hour }}", "line 3: booking.start has no hour: it has date, "),
        ("{% if reason %}", "line 1: Unexpected end of template."),
        ("{{ reason ", "line 1: unexpected end of template"),
        ("{{ '1'|join('12')|join('12') }}", "line 1: join is for a list, outside of loops"),
        ("{% for one in hosts %}{{ hosts|length }}{% endfor %}", "line 1: length is for a list, outside of loops"),
        ("{% if booking.seats > 1 %}x{% endif %}", "line 1: values can be compared by == and != alone"),
        ("{{ tenant.name" + "|upper" * 90 + " }}", "line 1: is too much: a template may have 1000 parts, 20 of them"),
        ("{{ tenant.name }}" * 1_100, "line 1: is too much"),
        ("{% if reason %}" * 110 + "x" + "{% endif %}" * 110, "line 1: is too much"),
        ("{{ " + "(" * 150 + "1" + ")" * 150 + " }}", "is no template that can be read: "),
        ("{{ " + "not " * 3_000 + "reason }}", "is no template that can be read: "),
        ("{{ " + "9" * 5_000 + " }}", "is no template that can be read: "),
        ("{{ reminder.before }}", "line 1: reminder has no before: it has nothing"),
        ("{% for a in hosts %}{% for b in hosts %}x{% endfor %}{% endfor %}", "line 1: a loop in a loop"),
        ("{% for a in tenant.name %}x{% endfor %}", "line 1: only a list can be gone through"),
        ("{% for a in hosts %}{{ a.age }}{% endfor %}", "line 1: a has no age: it has email, name, slug"),
        ("{% set x = 1 %}", "line 1: assign has no place in a message"),
        ("{% include 'x' %}", "line 1: include has no place in a message"),
        ("{% macro x() %}{% endmacro %}", "line 1: macro has no place in a message"),
        ("{{ 'a' * 1000000000 }}", "line 1: mul has no place in a message"),
        ("{{ range(3) }}", "line 1: call has no place in a message"),
        ("{{ tenant.name.__class__ }}", "line 1: tenant.name has no __class__: it has nothing"),
        ("{{ tenant['__class__'] }}", "line 1: tenant has no __class__"),
        ("{{ ''.__class__ }}", "line 1: only names of values can stand here"),
        ("{{ reason | pprint }}", "line 1: there is no filter pprint: there are capitalize, "),
        ("{{ hosts | map(attribute='x') }}", "line 1: there is no filter map"),
        ("{{ reason | default(tenant.name) }}", "line 1: default takes plain words and numbers"),
        ("{{ reason is sameas 1 }}", "line 1: there is no test sameas: there are defined, none"),
        ("{{ loop.index }}", "line 1: there is no loop"),
    ],
)
def test_what_no_template_may_say_is_refused_with_its_line(acme: Tenant, text: str, reason: str) -> None:
    for call in (acme.messages.save_template, acme.messages.preview_template):
        with pytest.raises(InvalidInput) as caught:
            call(template(text))
        assert caught.value.field == "template.text"
        assert reason in caught.value.reason
    for more in ({"subject": text}, {"html": text}):
        with pytest.raises(InvalidInput) as caught:
            acme.messages.save_template(template("x", **more))
        assert caught.value.field in {"template.subject", "template.html"}
    assert acme.messages.templates() == []


def test_what_is_missing_is_empty_and_no_mail_fails_for_it(acme: Tenant) -> None:
    text = (
        "{{ previous.start.date }}{{ reason|upper }}{{ attendee.name }}{{ hosts[5].name }}{{ former_hosts[0].name }}"
        "{% if actor.name == 'Eve' %}x{% endif %}{{ booking.location|default('nowhere') }}"
        "{% for one in hosts %}{{ loop.index }}. {{ one.name }}{% else %}nobody{% endfor %}{{ hosts|join|length }}"
    ).replace("{{ hosts|join|length }}", "{{ hosts|length }}")
    made = acme.messages.preview_template(template(text))
    assert made.text == "March 27, 2026A REASONGrace HopperBobxRoom 11. Ada1"
    acme.messages.save_template(template(text))
    nothing = sample("booking.confirmed", whole=False)
    nothing["booking"]["attendee"] = None
    assert message(template(text, to="host"), nothing, "host:ada", "en", {}).text == "nowhere1. Ada1"


def test_a_template_that_gives_too_much_is_refused(scheduler: Scheduler, acme: Tenant) -> None:
    acme.save_event_type(replace(acme.event_type("all"), description="x" * 10_000))
    acme.messages.save_template(template("{{ event_type.description }}" * 3))
    acme.book("all", start=NINE, attendee=GRACE)
    (event,) = events(scheduler)
    with pytest.raises(InvalidInput, match=r"^text: gives more than 20000 characters$"):
        acme.messages.render(event)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"kind": "booking.gone"}, "kind"),
        ({"channel": "fax"}, "channel"),
        ({"to": "everybody"}, "to"),
        ({"locale": "german"}, "locale"),
        ({"locale": "../en"}, "locale"),
        ({"text": " "}, "text"),
        ({"text": "x" * 20_001}, "text"),
        ({"text": None}, "text"),
        ({"subject": None}, "subject"),
        ({"channel": "sms"}, "subject"),
        ({"channel": "sms", "subject": None, "html": "<p>"}, "html"),
    ],
)
def test_bad_templates_are_named(given: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        MessageTemplate(**{**CONFIRMED, "text": "x", **given})
    assert caught.value.field == field


def test_what_render_is_given_is_checked(scheduler: Scheduler, acme: Tenant) -> None:
    acme.book("visit", start=NINE, attendee=Attendee(name="Grace"))
    (event,) = events(scheduler)
    for options, field in (
        ({"to": "bob"}, "to"),
        ({"to": "host:bob"}, "to"),
        ({"channel": "fax"}, "channel"),
        ({"locale": "english"}, "locale"),
        ({"links": {"home": "https://acme.test"}}, "links"),
        ({"links": {"manage": "javascript:alert(1)"}}, "links.manage"),
        ({"links": {"manage": "https://a\nb"}}, "links.manage"),
        ({"links": ["https://acme.test"]}, "links"),
    ):
        with pytest.raises(InvalidInput) as caught:
            acme.messages.render(event, **cast("Any", options))
        assert caught.value.field == field
    with pytest.raises(InvalidInput, match=r"^template: must be a MessageTemplate"):
        acme.messages.save_template(cast("MessageTemplate", "Hello"))
    assert acme.messages.to_email(event) is None, "the attendee has no address"


def test_an_event_type_without_a_name_is_called_by_its_slug(scheduler: Scheduler, acme: Tenant) -> None:
    acme.save_event_type(EventType(slug="check-up", duration=HALF, hosts=["ada"]))
    acme.book("check-up", start=NINE, attendee=GRACE)
    [event] = scheduler.outbox.events()
    said = acme.messages.render(event)
    assert said is not None
    assert str(said.subject).startswith("Confirmed: check-up, ")


# Text that people write.

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60)


def payload(**words: str) -> dict[str, Any]:
    found = sample("booking.confirmed", whole=True)
    found["booking"]["attendee"]["name"] = words["name"]
    found["booking"]["location"] = words["location"]
    found["event_type"]["name"] = words["title"]
    found["reason"] = words["reason"]
    return found


@given(TEXTS, TEXTS, TEXTS, st.text(max_size=60))
def test_words_of_people_are_no_markup_no_template_and_no_second_line_of_a_subject(
    name: str, location: str, title: str, reason: str
) -> None:
    of = payload(name=name, location=location, title=title, reason=reason)
    mine = MessageTemplate(
        kind="booking.confirmed",
        subject="{{ attendee.name }} {{ event_type.name }}",
        text="{{ attendee.name }}|{{ booking.location }}",
        html="<p>{{ attendee.name }} {{ reason }}</p>",
    )
    made = message(mine, of, "attendee", "en", {})
    assert len(str(made.subject).splitlines()) <= 1
    assert made.text == f"{name}|{location}".strip()
    assert str(made.html).count("<") == 2
    standard = builtin("booking.confirmed", "email", "en", "attendee")
    assert standard
    html = str(message(standard, of, "attendee", "en", {}).html)
    tags = {one.partition(">")[0] for one in html.split("<")[1:]}
    assert tags - {"p", "/p", "br"} == {
        *("!DOCTYPE html", 'html lang="en"', "head", 'meta charset="utf-8"', "/head", "body", "/body", "/html")
    }


# Mails.


@pytest.mark.parametrize(
    "word",
    ["=?utf-8?q?a=0D=0ABcc:_evil@x.test?=", "=?utf-8?q?=0D=0A=0D=0Abody?=", "=?utf-8?b?Cg==?=", "a\u2028b"],
)
def test_what_reads_as_an_encoded_word_adds_no_header(scheduler: Scheduler, acme: Tenant, word: str) -> None:
    acme.save_event_type(replace(acme.event_type("visit"), name=word.replace("\u2028", "")))
    acme.book("visit", start=NINE, attendee=replace(GRACE, name=word.replace("\u2028", "")))
    (event,) = events(scheduler)
    acme.messages.save_template(template("x", subject="{{ attendee.name }} {{ event_type.name }}"))
    mail = acme.messages.to_email(event)
    assert mail is not None
    read = message_from_bytes(mail.as_bytes(), policy=SMTP)
    assert set(read.keys()) == {
        *("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type")
    }
    assert [one.addr_spec for one in read["To"].addresses] == [GRACE.email]
    assert "=\u200b?" in read["Subject"] or "=?" not in word


def test_addresses_are_written_so_that_mail_programs_read_them(scheduler: Scheduler, acme: Tenant) -> None:
    acme.book("visit", start=NINE, attendee=replace(GRACE, email="grace@exämple.test"))
    (event,) = events(scheduler)
    mail = acme.messages.to_email(event, sender="a@bücher.test")
    assert mail is not None
    read = message_from_bytes(mail.as_bytes(), policy=SMTP)
    assert read["To"].addresses[0].addr_spec == "grace@xn--exmple-cua.test"
    assert read["From"].addresses[0].addr_spec == "a@xn--bcher-kva.test"
    assert read["Message-ID"].endswith("@xn--bcher-kva.test>")
    with pytest.raises(InvalidInput, match=r"^sender: cannot be written as an address: "):
        acme.messages.to_email(event, sender="ä@acme.test")


def test_a_character_that_no_mail_can_hold_is_replaced(acme: Tenant) -> None:
    made = acme.messages.preview_template(template("a{{ '\\ud800' }}b", subject="a{{ '\\x00' }}b"))
    assert (made.subject, made.text) == ("a\N{REPLACEMENT CHARACTER}b",) * 2
    with pytest.raises(InvalidInput, match=r"^text: must not hold control"):
        template("a\x00b")


def test_only_the_attendee_gets_the_link_to_manage_the_booking(scheduler: Scheduler, acme: Tenant) -> None:
    acme.book("visit", start=NINE, attendee=GRACE)
    (event,) = events(scheduler)
    assert LINKS["manage"] in said(acme, event, links=LINKS).text
    assert LINKS["manage"] not in said(acme, event, to="host:ada", links=LINKS).text


def test_a_mail_is_whole_and_the_same_each_time(scheduler: Scheduler, acme: Tenant) -> None:
    acme.book("visit", start=NINE, attendee=replace(GRACE, name='Zoë "Z", Ångström'))
    (event,) = events(scheduler)
    mail = acme.messages.to_email(event, links=LINKS)
    again = acme.messages.to_email(event, links=LINKS)
    assert isinstance(mail, EmailMessage)
    assert again is not None
    read = message_from_bytes(mail.as_bytes(), policy=SMTP)
    assert read["From"].addresses[0].addr_spec == "bookings@acme.test"
    assert read["From"].addresses[0].display_name == "Acme Ltd"
    assert read["To"].addresses[0].display_name == 'Zoë "Z", Ångström'
    assert read["Subject"] == "Confirmed: Visit, March 2, 2026"
    assert read["Message-ID"] == again["Message-ID"]
    assert read["Message-ID"].endswith("@acme.test>")
    assert acme.messages.to_email(event, to="host:ada")["Message-ID"] != read["Message-ID"]  # type: ignore[index]
    assert read["Auto-Submitted"] == "auto-generated"
    assert read["Date"].datetime == event.read_at
    assert [part.get_content_type() for part in read.walk()] == ["multipart/alternative", "text/plain", "text/html"]
    other = acme.messages.to_email(event, sender="other@acme.test")
    assert other is not None
    assert other["From"].addresses[0].addr_spec == "other@acme.test"
    with pytest.raises(InvalidInput, match=r"^sender: "):
        acme.messages.to_email(event, sender="nobody")


class Mailbox:
    """Takes mails as a server does."""

    def __init__(self) -> None:
        self.got: list[tuple[list[str], EmailMessage]] = []

    async def handle_DATA(self, _server: object, _session: object, envelope: Any) -> str:  # noqa: ANN401, N802 - its name
        self.got.append((list(envelope.rcpt_tos), message_from_bytes(envelope.content, policy=SMTP)))
        return "250 OK"


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, int]]:
    """A real server on this machine."""
    box = Mailbox()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = Controller(box, hostname="127.0.0.1", port=port)
    server.start()
    try:
        yield box, port
    finally:
        server.stop()


def test_mails_go_out_by_smtp_to_all_who_have_to_hear(
    scheduler: Scheduler, acme: Tenant, mailbox: tuple[Mailbox, int]
) -> None:
    box, port = mailbox
    acme.save_event_type(EventType(slug="both", name="Bést", duration=HALF, hosts=["ada"], location="Réception"))

    def deliver(event: OutboxEvent) -> None:
        tenant = scheduler.tenant(event.tenant)
        with smtplib.SMTP("127.0.0.1", port, timeout=10) as server:
            for one in tenant.messages.recipients(event):
                if mail := tenant.messages.to_email(event, to=one):
                    server.send_message(mail)

    booking = acme.book("both", start=NINE, attendee=GRACE)
    acme.cancel(booking.id, reason="ill")
    assert scheduler.relay(deliver).run_once().delivered == 2
    assert [to for to, _ in box.got] == [[GRACE.email], ["ada@acme.test"]] * 2
    subjects = [mail["Subject"] for _, mail in box.got]
    assert subjects == [f"{word}: Bést, March 2, 2026" for word in ("Confirmed", "Booked", "Cancelled", "Cancelled")]
    body = box.got[2][1].get_body(("plain",))
    assert body is not None
    assert "Where: Réception" in body.get_content()
