"""Text that means harm, in every argument there is: it comes back as it was given, or is refused by its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from nxsched import (
    Actor,
    Attendee,
    BlockedPeriod,
    Booking,
    BookingNotFound,
    EventNotFound,
    EventType,
    EventTypeNotFound,
    Host,
    HostGroup,
    HostNotFound,
    InvalidInput,
    InvalidToken,
    Limit,
    Override,
    Policies,
    Question,
    RateLimit,
    Scheduler,
    SettableClock,
    Tenant,
    TenantDetails,
    TenantNotFound,
    Travel,
    WebhookNotFound,
    WeeklyHours,
)
from nxsched.domain.checks import printable
from nxsched.domain.commands import booking_id
from store.conftest import DAY, HALF, NINE, NOW, Database

HOSTILE = (
    "'",
    '"; DROP TABLE nxsched.booking; --',
    "' OR '1'='1",
    "%s %(tenant)s :tenant {0} {name} ${x} $$",
    "\\",
    "\\u0000",
    "a\\'b\\\\",
    "line\nbreak",
    "line\r\nBCC: everyone@example.test",
    "tab\there",
    "\u2028",
    "right\u202eto left",
    "zero\u200bwidth",
    "\ufeff",
    "nul\x00",
    "escape\x1b[2J",
    "\x85",
    "\ud800",
    "half \udfff a pair",
    "\ufffe",
    "\uffff",
    "\ufdd0",
    "\U0010ffff",
    "\U0001f469\U0001f3fd",
    "e\u0301",
    "日本語",
    "עברית",
    "<script>alert(1)</script>",
    "=cmd|' /C calc'!A0",
    "../../etc/passwd",
    "x" * 200,
    "\U0001f4c5" * 200,
    "x" * 201,
    "x" * 100_000,
    " ",
    "\u00a0",
    " around ",
    "",
    "null",
    "{}",
)

STARTS = count()
ASKED = [
    Question(key="why", label="Why?"),
    Question(key="which", label="Which?", kind="choices", choices=["a", "b"]),
    Question(key="one", label="One?", kind="choice", choices=["a", "b"]),
]


@dataclass(frozen=True)
class Argument:
    """One argument: how it is given, which gives what is read back, and what an error may call it.

    Without `kept` there is nothing to read back: the text names something, or is one of a few.
    """

    give: Callable[[Scheduler, Tenant, str], object]
    fields: tuple[str, ...]
    kept: bool = True


def _details(tenant: Tenant, **changes: Any) -> TenantDetails:
    tenant.save_details(TenantDetails(**{"id": tenant.id, "name": "Acme", **changes}))
    return tenant.details()


def _host(tenant: Tenant, **changes: Any) -> Host:
    given = Host(**{"slug": "new", "timezone": "UTC", **changes})
    tenant.save_host(given)
    return tenant.host(given.slug)


def _event_type(tenant: Tenant, **changes: Any) -> EventType:
    given = EventType(**{"slug": "new", "duration": HALF, "hosts": ["ada"], **changes})
    tenant.save_event_type(given)
    return tenant.event_type(given.slug)


def _blocked(tenant: Tenant, **changes: Any) -> BlockedPeriod:
    made = tenant.block("cyd", BlockedPeriod(**{"start": date(2020, 1, 1), **changes}))
    return next(one for one in tenant.blocked_periods("cyd") if one.id == made.id)


def _busy(tenant: Tenant, source: str) -> str:
    tenant.replace_busy("cyd", source=source, start=NOW - DAY, end=NOW, periods=[(NOW - DAY, NOW)])
    return next(one.source for one in tenant.busy("cyd", start=NOW - DAY, end=NOW) if one.source == source)


def _start() -> datetime:
    return NINE + next(STARTS) * timedelta(minutes=5)


def _book(tenant: Tenant, *, event_type: str = "open", **given: Any) -> Booking:
    made = tenant.book(event_type, start=_start(), **{"attendee": Attendee(name="Grace"), **given})
    found = tenant.booking(made.id)
    assert found == made
    return found


def _attendee(tenant: Tenant, **given: Any) -> Attendee:
    who = Attendee(**{"name": "Grace", **given})
    hold = tenant.place_hold("open", start=_start(), attendee=who)
    assert tenant.hold(hold.id) == hold
    found = tenant.confirm_hold(hold.id, attendee=who).attendee
    assert found is not None
    assert tenant.booking(hold.id).attendee == found
    assert tenant.history(hold.id)[0].changes["attendee"][1]["name"] == found.name
    return found


def _actor(tenant: Tenant, **given: Any) -> Actor:
    who = Actor(**{"role": "staff", **given})
    found = tenant.history(tenant.book("open", start=_start(), attendee=Attendee(name="Grace"), actor=who).id)[0].actor
    assert found is not None
    return found


def _cancelled(tenant: Tenant, reason: str) -> str | None:
    return tenant.history(tenant.cancel(_book(tenant).id, reason=reason).id)[-1].reason


def _keyed(tenant: Tenant, key: str) -> str:
    start = _start()
    made = [
        tenant.book("open", start=start, attendee=Attendee(name="Grace"), idempotency_key=key, answers={"why": key})
        for _ in range(2)
    ]
    assert made[0] == made[1]
    return key


def _theirs(tenant: Tenant, **given: Any) -> Attendee:
    """Who is found by what was given, and by nothing else, and is erased by it."""
    made = tenant.book("open", start=_start(), attendee=Attendee(name="Grace", **given))
    theirs = tenant.for_attendee(**given).upcoming().items
    assert made in theirs  # beside those of the arguments above
    assert {one.attendee and (one.attendee.reference, one.attendee.email) for one in theirs} == {
        (given.get("reference"), given.get("email"))
    }
    assert tenant.erase_attendee(**given) == len(theirs)
    assert tenant.for_attendee(**given).upcoming().items == ()
    assert made.attendee is not None
    return made.attendee


def _moved_by_link(tenant: Tenant, reason: str) -> str | None:
    made = _book(tenant)
    managed = tenant.with_token(tenant.manage_token(made.id, expires=NINE + 3 * DAY))
    managed.reschedule(start=_start(), reason=reason)
    return tenant.history(made.id)[-1].reason


def _answered(tenant: Tenant, text: str) -> object:
    return _book(tenant, answers={"why": text}).answers.get("why", "")


def _named(place: str, key: str) -> tuple[str, ...]:
    return place, f"{place}[{key}]"


HOURS: dict[str, Any] = {"days": "mon", "start": "09:00", "end": "10:00"}

KEPT = {
    "tenant id": Argument(lambda s, _, x: s.create_tenant(x, name="x").details().id, ("id",)),
    "tenant name": Argument(lambda _, t, x: _details(t, name=x).name, ("name",)),
    "tenant sender": Argument(lambda _, t, x: _details(t, sender=x).sender, ("sender",)),
    "tenant settings": Argument(lambda _, t, x: _details(t, settings={x: [x]}).settings[x][0], ("settings",)),
    "host slug": Argument(lambda _, t, x: _host(t, slug=x).slug, ("slug",)),
    "host name": Argument(lambda _, t, x: _host(t, name=x).name, ("name",)),
    "host email": Argument(lambda _, t, x: _host(t, email=f"a{x}@b.test").email[1:-7], ("email",)),  # type: ignore[index]
    "host attributes": Argument(lambda _, t, x: _host(t, attributes={x: {x: x}}).attributes[x][x], ("attributes",)),
    "event type slug": Argument(lambda _, t, x: _event_type(t, slug=x).slug, ("slug", "event_type.slug")),
    "event type name": Argument(lambda _, t, x: _event_type(t, name=x).name, ("name",)),
    "description": Argument(lambda _, t, x: _event_type(t, description=x).description, ("description",)),
    "location": Argument(lambda _, t, x: _event_type(t, location=x).location, ("location",)),
    "role of a policy": Argument(
        lambda _, t, x: _event_type(t, policies=Policies(roles=[x])).policies.roles[0], ("roles[0]",)
    ),
    "question key": Argument(
        lambda _, t, x: _event_type(t, questions=[Question(key=x, label="x")]).questions[0].key, ("key",)
    ),
    "question label": Argument(
        lambda _, t, x: _event_type(t, questions=[Question(key="x", label=x)]).questions[0].label, ("label",)
    ),
    "choice": Argument(
        lambda _, t, x: (
            _event_type(t, questions=[Question(key="x", label="x", kind="choice", choices=[x])]).questions[0].choices[0]
        ),
        ("choices[0]",),
    ),
    "reason of a block": Argument(lambda _, t, x: _blocked(t, reason=x).reason, ("reason",)),
    "source": Argument(lambda _, t, x: _busy(t, x), ("source",)),
    "attendee name": Argument(lambda _, t, x: _attendee(t, name=x).name, ("attendee.name",)),
    "attendee email": Argument(lambda _, t, x: _attendee(t, email=f"a{x}@b.test").email[1:-7], ("attendee.email",)),  # type: ignore[index]
    "attendee reference": Argument(lambda _, t, x: _attendee(t, reference=x).reference, ("attendee.reference",)),
    "actor role": Argument(lambda _, t, x: _actor(t, role=x).role, ("actor.role",)),
    "actor id": Argument(lambda _, t, x: _actor(t, id=x).id, ("actor.id",)),
    "actor name": Argument(lambda _, t, x: _actor(t, name=x).name, ("actor.name",)),
    "reference": Argument(lambda _, t, x: _book(t, reference=x).reference, ("reference",)),
    "metadata": Argument(lambda _, t, x: _book(t, metadata={x: [x]}).metadata[x][0], ("metadata",)),
    "answer": Argument(lambda _, t, x: _answered(t, x), ("answers.why",)),
    "reason": Argument(lambda _, t, x: _cancelled(t, x), ("reason",)),
    "key": Argument(lambda _, t, x: _keyed(t, x), ("idempotency_key",)),
    "reference of a person": Argument(lambda _, t, x: _theirs(t, reference=x).reference, ("attendee.reference",)),
    "email of a person": Argument(
        lambda _, t, x: _theirs(t, email=f"a{x}@b.test").email[1:-7],  # type: ignore[index]
        ("attendee.email",),
    ),
    "reason by a link": Argument(lambda _, t, x: _moved_by_link(t, x), ("reason",)),
}

_OTHER: dict[str, Argument] = {
    "host timezone": Argument(lambda _, t, x: _host(t, timezone=x), ("timezone",)),
    "days": Argument(lambda _, t, x: _host(t, weekly_hours=[WeeklyHours(**{**HOURS, "days": x})]), ("days",)),
    "day": Argument(lambda _, t, x: _host(t, weekly_hours=[WeeklyHours(**{**HOURS, "days": [x]})]), ("days[0]",)),
    "start": Argument(lambda _, t, x: _host(t, weekly_hours=[WeeklyHours(**{**HOURS, "start": x})]), ("start",)),
    "end": Argument(lambda _, t, x: _host(t, weekly_hours=[WeeklyHours(**{**HOURS, "end": x})]), ("end",)),
    "hours": Argument(
        lambda _, t, x: _host(t, overrides=[Override(date=date(2026, 3, 2), hours=[(x, "10:00")])]),
        ("hours[0].start",),
    ),
    "travel": Argument(
        lambda _, t, x: _host(t, travel=[Travel(from_date=date(2026, 3, 2), until_date=date(2026, 3, 2), timezone=x)]),
        ("timezone",),
    ),
    "limit": Argument(lambda _, t, x: _host(t, limits=[Limit(per=x, count=1)]), ("per",)),  # type: ignore[arg-type]
    "align": Argument(lambda _, t, x: _event_type(t, align=x), ("align",)),
    "event timezone": Argument(lambda _, t, x: _event_type(t, timezone=x), ("timezone",)),
    "member": Argument(
        lambda _, t, x: _event_type(t, hosts=[HostGroup(members=[x])]),
        ("members[0]", "event_type.hosts[0].members[0]"),
    ),
    "need": Argument(lambda _, t, x: _event_type(t, hosts=[HostGroup(members=["ada"], need=x)]), ("need",)),  # type: ignore[arg-type]
    "kind": Argument(
        lambda _, t, x: _event_type(t, questions=[Question(key="x", label="x", kind=x)]),  # type: ignore[arg-type]
        ("kind",),
    ),
    "rule": Argument(lambda _, t, x: _blocked(t, rrule=x), ("rrule",)),
    "id of a block": Argument(lambda _, t, x: _blocked(t, id=x), ("id", "period.id")),
    "unblocked": Argument(lambda _, t, x: t.unblock(x), ("id",)),
    "attendee timezone": Argument(lambda _, t, x: _attendee(t, timezone=x), ("attendee.timezone",)),
    "moving": Argument(lambda _, t, x: t.find_slots("open", start=NOW, end=NINE, moving=x), ()),
    "host wanted": Argument(lambda _, t, x: t.find_slots("open", start=NOW, end=NINE, host=x), ("host",)),
    "host explained": Argument(lambda _, t, x: t.explain("open", start=NINE, host=x), ("host",)),
    "host held": Argument(lambda _, t, x: t.place_hold("open", start=NINE, host=x), ("host",)),
    "host booked": Argument(lambda _, t, x: _book(t, host=x), ("host",)),
    "choice taken": Argument(lambda _, t, x: _book(t, answers={"one": x or "x"}), ("answers.one",)),
    "choices taken": Argument(lambda _, t, x: _book(t, answers={"which": ["a", x]}), ("answers.which[1]",)),
    "status": Argument(lambda _, t, x: t.bookings(status=x), ("status",)),
    "series": Argument(lambda _, t, x: t.bookings(series=x), ("series",)),
    "after": Argument(lambda _, t, x: t.bookings(after=x), ("after",)),
    "after of a person": Argument(lambda _, t, x: t.for_attendee(reference="x").past(after=x), ("after",)),
    "token": Argument(lambda _, t, x: t.with_token(x), ()),
    "rate": Argument(lambda _, __, x: RateLimit(rate=x, by="tenant"), ("rate",)),
    "counted by": Argument(lambda _, __, x: RateLimit(rate="1/day", by=x), ("by",)),  # type: ignore[arg-type]
    "counted act": Argument(lambda _, __, x: RateLimit(rate="1/day", by="tenant", on=[x]), ("on",)),  # type: ignore[list-item]
}
REFUSED = {name: Argument(one.give, one.fields, kept=False) for name, one in _OTHER.items()}

NAMING: dict[str, Callable[[Scheduler, Tenant, str], object]] = {
    "tenant": lambda s, _, x: s.tenant(x),
    "host": lambda _, t, x: t.host(x),
    "archive_host": lambda _, t, x: t.archive_host(x),
    "event_type": lambda _, t, x: t.event_type(x),
    "archive_event_type": lambda _, t, x: t.archive_event_type(x),
    "block": lambda _, t, x: t.block(x, BlockedPeriod(start=date(2020, 1, 1))),
    "blocked_periods": lambda _, t, x: t.blocked_periods(x),
    "replace_busy": lambda _, t, x: t.replace_busy(x, source="x", start=NOW, end=NINE, periods=[]),
    "busy": lambda _, t, x: t.busy(x, start=NOW, end=NINE),
    "find_slots": lambda _, t, x: t.find_slots(x, start=NOW, end=NINE),
    "explain": lambda _, t, x: t.explain(x, start=NINE),
    "place_hold": lambda _, t, x: t.place_hold(x, start=NINE),
    "book": lambda _, t, x: _book(t, event_type=x),
    "booking": lambda _, t, x: t.booking(x),
    "history": lambda _, t, x: t.history(x),
    "reminders": lambda _, t, x: t.reminders(x),
    "webhook": lambda _, t, x: t.webhooks.get(x),
    "delete a webhook": lambda _, t, x: t.webhooks.delete(x),
    "deliveries of a webhook": lambda _, t, x: t.webhooks.deliveries(webhook=x),
    "delivery": lambda _, t, x: t.webhooks.delivery(x),
    "retry a delivery": lambda _, t, x: t.webhooks.retry(x),
    "hold": lambda _, t, x: t.hold(x),
    "cancel": lambda _, t, x: t.cancel(x),
    "bookings of a host": lambda _, t, x: t.bookings(host=x),
    "bookings of an event type": lambda _, t, x: t.bookings(event_type=x),
    "bookings of an attendee": lambda _, t, x: t.bookings(attendee=x),
    "bookings with words": lambda _, t, x: t.bookings(text=x),
    "holds": lambda _, t, x: t.holds(host=x),
    "manage_token": lambda _, t, x: t.manage_token(x, expires=NINE + DAY),
    "for_attendee by reference": lambda _, t, x: t.for_attendee(reference=x).upcoming(),
    "for_attendee by email": lambda _, t, x: t.for_attendee(email=x).past(),
    "erase_attendee by reference": lambda _, t, x: [None] * t.erase_attendee(reference=x),
    "erase_attendee by email": lambda _, t, x: [None] * t.erase_attendee(email=x),
}


@pytest.fixture
def scheduler(db: Database, clock: SettableClock) -> Iterator[Scheduler]:
    """A scheduler with links."""
    with Scheduler(db.app, clock=clock, secrets=["a secret of 32 letters and figures"]) as found:
        yield found


@pytest.fixture
def open_tenant(acme: Tenant) -> Iterator[Tenant]:
    """A tenant where there is always time: one host, round the clock, for five minutes at a time."""
    hours = [WeeklyHours(days="mon-sun", start="00:00", end="24:00")]
    acme.save_host(Host(slug="always", timezone="UTC", weekly_hours=hours))
    acme.save_event_type(EventType(slug="open", duration=timedelta(minutes=5), hosts=["always"], questions=ASKED))
    yield acme
    assert acme.bookings(limit=1).items is not None  # and nothing is broken


def _on_one_line(error: Exception) -> bool:
    """Whether an error can be shown as it is."""
    return printable(str(error)) == str(error) and len(str(error)) <= 300


def _shown(text: str) -> str:
    return ascii(text[:20])


@pytest.mark.slow
@pytest.mark.parametrize("names", [[*KEPT][:18], [*KEPT][18:]], ids=["set-up", "bookings"])
def test_hostile_text_comes_back_as_it_was_given_or_is_refused_by_its_place(
    scheduler: Scheduler, open_tenant: Tenant, names: list[str]
) -> None:
    wrong, kept = [], 0
    for name in names:
        argument = KEPT[name]
        for text in HOSTILE:
            try:
                found = argument.give(scheduler, open_tenant, text)
            except InvalidInput as error:
                if error.field not in argument.fields or not _on_one_line(error):
                    wrong.append((name, _shown(text), str(error)))
            except Exception as error:  # noqa: BLE001 - that is what is looked for
                wrong.append((name, _shown(text), repr(error)[:200]))
            else:
                kept += 1
                if found != text:
                    wrong.append((name, _shown(text), repr(found)[:200]))
    assert wrong == []
    assert kept > 10 * len(names)


def test_text_that_is_none_of_the_few_that_serve_is_refused_by_its_place(
    scheduler: Scheduler, open_tenant: Tenant
) -> None:
    wrong = []
    for name, argument in REFUSED.items():
        for text in HOSTILE:
            try:
                found = argument.give(scheduler, open_tenant, text)
            except InvalidInput as error:
                if error.field not in argument.fields or not _on_one_line(error):
                    wrong.append((name, _shown(text), str(error)[:200]))
            except (BookingNotFound, InvalidToken) as error:
                if argument.fields or not _on_one_line(error):
                    wrong.append((name, _shown(text), repr(error)[:200]))
            except Exception as error:  # noqa: BLE001 - that is what is looked for
                wrong.append((name, _shown(text), repr(error)[:200]))
            else:
                wrong.append((name, _shown(text), repr(found)[:200]))
    assert wrong == []


def test_hostile_text_names_nothing(scheduler: Scheduler, open_tenant: Tenant) -> None:
    _book(open_tenant)
    wrong = []
    missing = (BookingNotFound, EventNotFound, EventTypeNotFound, HostNotFound, TenantNotFound, WebhookNotFound)
    for name, call in NAMING.items():
        for text in HOSTILE:
            try:
                found = call(scheduler, open_tenant, text)
            except (InvalidInput, *missing) as error:
                if not _on_one_line(error):
                    wrong.append((name, _shown(text), ascii(str(error))[:200]))
            except Exception as error:  # noqa: BLE001 - that is what is looked for
                wrong.append((name, _shown(text), repr(error)[:200]))
            else:
                if found not in ([], ()) and getattr(found, "items", None) != ():
                    wrong.append((name, _shown(text), repr(found)[:200]))
    assert wrong == []


def test_an_answer_that_is_no_json_is_refused_also_under_a_key(open_tenant: Tenant) -> None:
    for key in (None, "key-1"):
        for answer in ({"a"}, object(), b"a", 1j, ["a"]):
            with pytest.raises(InvalidInput) as caught:
                _book(open_tenant, answers={"why": answer}, idempotency_key=key)
            assert caught.value.field in {"answers", "answers.why"}


def test_words_that_look_like_a_nul_in_json_are_kept_and_a_nul_is_refused(open_tenant: Tenant) -> None:
    for words in ("\\u0000", "\\\\u0000", "u0000", "\\"):
        assert _book(open_tenant, metadata={words: words}).metadata == {words: words}
    for words in ("\x00", "\\\x00", "\\u0000\x00"):
        for metadata in ({words: 1}, {"a": [words]}):
            with pytest.raises(InvalidInput) as caught:
                _book(open_tenant, metadata=metadata)
            assert caught.value.field == "metadata"


def test_an_id_is_a_text_or_a_uuid() -> None:
    with pytest.raises(InvalidInput):
        booking_id("id", b"x")
