"""What is booked, as it is read: one, many by pages, holds, trails; and what is swept away."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from nxsched import (
    Actor,
    Attendee,
    Booking,
    BookingNotFound,
    BookingStatus,
    EventType,
    HoldExpired,
    Host,
    InvalidInput,
    Scheduler,
    SettableClock,
    Tenant,
    WeeklyHours,
)
from store.booked import ACTS, assert_sound, trail
from store.conftest import DAY, HALF, HOUR, NINE, NOW, Database, furnish
from store.recording import recorded

GRACE = Attendee(name="Grace Hopper", email="Grace@example.test", timezone="America/New_York", reference="user-7")
LINUS = Attendee(name="Linus", email="linus@example.test", reference="user-8")
UNKNOWN = "018f0c4a-6d1e-7a3b-9c55-0123456789ab"
NAMELESS = Attendee(name="N. N.")


def ids(found: object) -> list[str]:
    assert hasattr(found, "__iter__")
    return [one.id for one in found]


def ask(tenant: Tenant) -> None:
    """An event type that wants approval, with bob."""
    tenant.save_event_type(EventType(slug="ask", duration=HALF, hosts=["bob"], requires_approval=True))


# --- filters ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def few(acme: Tenant) -> dict[str, Booking]:
    """Five bookings: of several hosts, event types, attendees and days, and one that is cancelled."""
    found = {
        "ada 9": acme.book("visit", start=NINE, attendee=GRACE, reference="order-1"),
        "both 10": acme.book("all", start=NINE + HOUR, attendee=LINUS, reference="order_2"),
        "bob 9": acme.book("any", start=NINE, attendee=NAMELESS, host="bob", reference="100%"),
        "ada tomorrow": acme.book("visit", start=NINE + DAY, attendee=LINUS),
        "gone": acme.book("visit", start=NINE + 2 * HOUR, attendee=GRACE),
    }
    found["gone"] = acme.cancel(found["gone"].id)
    return found


ASKED: list[tuple[dict[str, Any], set[str]]] = [
    ({}, {"ada 9", "both 10", "bob 9", "ada tomorrow", "gone"}),
    ({"host": "ada"}, {"ada 9", "both 10", "ada tomorrow", "gone"}),
    ({"host": "bob"}, {"bob 9", "both 10"}),
    ({"host": "cyd"}, set()),
    ({"host": "nobody"}, set()),
    ({"attendee": "grace@EXAMPLE.test"}, {"ada 9", "gone"}),
    ({"attendee": "user-8"}, {"both 10", "ada tomorrow"}),
    ({"attendee": "USER-8"}, set()),
    ({"attendee": "user"}, set()),
    ({"event_type": "visit"}, {"ada 9", "ada tomorrow", "gone"}),
    ({"event_type": "nothing"}, set()),
    ({"series": UNKNOWN}, set()),
    ({"status": "cancelled"}, {"gone"}),
    ({"status": BookingStatus.CONFIRMED}, {"ada 9", "both 10", "bob 9", "ada tomorrow"}),
    ({"status": ["cancelled", BookingStatus.CONFIRMED]}, {"ada 9", "both 10", "bob 9", "ada tomorrow", "gone"}),
    ({"status": []}, set()),
    ({"start": NINE + HOUR}, {"both 10", "ada tomorrow", "gone"}),
    ({"end": NINE + HOUR}, {"ada 9", "bob 9"}),
    ({"start": NINE, "end": NINE}, set()),
    ({"start": NINE + HOUR, "end": NINE + DAY}, {"both 10", "gone"}),
    ({"host": "ada", "attendee": "user-8", "event_type": "visit"}, {"ada tomorrow"}),
    ({"host": "ada", "status": "confirmed", "end": NINE + DAY}, {"ada 9", "both 10"}),
    ({"host": "bob", "text": "linus", "start": NINE, "end": NINE + DAY, "limit": 1}, {"both 10"}),
]


def test_bookings_are_those_that_fit_all_that_is_asked(acme: Tenant, few: dict[str, Booking]) -> None:
    for asked, names in ASKED:
        page = acme.bookings(**asked)
        assert page.after is None
        assert {name for name, one in few.items() if one in page.items} == names, asked
        assert list(page) == sorted(page, key=lambda one: (one.start, one.id))
        assert len(page) == len(names)
        assert [page[n] for n in range(len(page))] == [*page]


WORDS: list[tuple[str, set[str]]] = [
    ("HOPPER", {"ada 9", "gone"}),
    ("example.test", {"ada 9", "both 10", "ada tomorrow", "gone"}),
    ("user-8", {"both 10", "ada tomorrow"}),
    ("order", {"ada 9", "both 10"}),
    ("%", {"bob 9"}),
    ("0%", {"bob 9"}),
    ("_", {"both 10"}),
    ("order_1", set()),
    ("'", set()),
    ("' OR '1'='1", set()),
    ("\\", set()),
    (":words", set()),
    (".*", set()),
    ("n. n.", {"bob 9"}),
]


def test_text_is_looked_for_as_it_stands(acme: Tenant, few: dict[str, Booking]) -> None:
    for words, names in WORDS:
        found = acme.bookings(text=words).items
        assert {name for name, one in few.items() if one in found} == names, words


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"host": ""}, "host"),
    ({"attendee": "a\x00b"}, "attendee"),
    ({"event_type": 5}, "event_type"),
    ({"text": "x" * 201}, "text"),
    ({"text": " "}, "text"),
    ({"series": 5}, "series"),
    ({"series": "no id"}, "series"),
    ({"status": "gone"}, "status"),
    ({"status": ["held", "gone"]}, "status[1]"),
    ({"status": ["held", "gone"]}, "status[1]"),
    ({"status": 5}, "status"),
    ({"start": NINE.replace(tzinfo=None)}, "start"),
    ({"end": "2026-03-02"}, "end"),
    ({"limit": 0}, "limit"),
    ({"limit": 1_001}, "limit"),
    ({"limit": True}, "limit"),
]


def test_what_cannot_be_asked_of_bookings_is_named(acme: Tenant) -> None:
    for asked, field in REFUSED:
        with pytest.raises(InvalidInput) as caught:
            acme.bookings(**asked)
        assert caught.value.field == field


def test_held_expired_and_released_ones_are_shown_when_they_are_asked_for(acme: Tenant) -> None:
    held = acme.place_hold("visit", start=NINE)
    released = acme.release_hold(acme.place_hold("visit", start=NINE + HOUR).id)
    assert acme.bookings().items == ()
    assert ids(acme.bookings(status="held")) == [held.id]
    assert ids(acme.bookings(status=["held", "released", "expired"])) == [held.id, released.id]


# --- pages -----------------------------------------------------------------------------------------------------------


def crowd(tenant: Tenant, hosts: int, starts: int) -> list[str]:
    """Bookings of many hosts at the same few starts; the ids, in the order of a list."""
    hours = [WeeklyHours(days="mon-fri", start="00:00", end="24:00")]
    slugs = [f"host-{n}" for n in range(hosts)]
    for slug in slugs:
        tenant.save_host(Host(slug=slug, timezone="UTC", weekly_hours=hours))
    tenant.save_event_type(EventType(slug="crowd", duration=HALF, hosts=slugs))
    made = [tenant.book("crowd", start=NINE + n * HALF, attendee=NAMELESS) for n in range(starts) for _ in range(hosts)]
    return [one.id for one in sorted(made, key=lambda one: (one.start, one.id))]


def walk(tenant: Tenant, limit: int, **asked: Any) -> list[list[str]]:
    pages, after = [], None
    while True:
        page = tenant.bookings(limit=limit, after=after, **asked)
        pages.append(ids(page))
        after = page.after
        if after is None:
            return pages


def test_pages_give_every_booking_once_and_in_order_also_where_starts_are_equal(acme: Tenant) -> None:
    expected = crowd(acme, 5, 4)
    for limit in (3, 1, 7, 20, 1_000):
        pages = walk(acme, limit)
        assert [one for page in pages for one in page] == expected
        assert {len(page) for page in pages[:-1]} <= {limit}
        assert pages[-1]
    assert len(walk(acme, 20)) == 1
    late = walk(acme, 3, start=NINE + HALF, end=NINE + 3 * HALF)
    assert [one for page in late for one in page] == expected[5:15]


def test_a_booking_made_meanwhile_disturbs_no_page(acme: Tenant) -> None:
    expected = crowd(acme, 4, 3)
    first = acme.bookings(limit=6)
    acme.book("visit", start=NINE, attendee=GRACE)
    acme.cancel(expected[0])
    assert ids(first) + ids(acme.bookings(limit=50, after=first.after)) == expected


def _cursor(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


NO_CURSORS: list[Any] = [
    "",
    "junk",
    "§",
    "\ud800",
    5,
    "bnVsbA==",
    _cursor([]),
    _cursor("ab"),
    _cursor({"a": 1, "b": 2}),
    _cursor(["2026-03-02T09:00:00+00:00", "no id"]),
    _cursor(["2026-03-02T09:00:00+00:00", 5]),
    _cursor(["2026-03-02T09:00:00+00:00", None]),
    _cursor(["2026-03-02T09:00:00", UNKNOWN]),
    _cursor(["0001-01-01T00:00:00+14:00", UNKNOWN]),
    _cursor(["9999-12-31T23:59:59-14:00", UNKNOWN]),
    _cursor(["never", UNKNOWN]),
    _cursor([5, UNKNOWN]),
    base64.urlsafe_b64encode(b"[" * 100_000).decode(),
]


def test_a_cursor_that_no_page_gave_is_refused(acme: Tenant) -> None:
    for after in NO_CURSORS:
        with pytest.raises(InvalidInput) as caught:
            acme.bookings(after=after)
        assert (caught.value.field, caught.value.reason) == (
            "after",
            "must be what an earlier page gave as its `after`",
        )


# --- one of them -----------------------------------------------------------------------------------------------------


JUNK = ("", "no id", "018f", "%", "'; DROP TABLE nxsched.booking; --", "\x00", "\ud800", "x" * 10_000)


def test_what_can_be_no_id_names_no_booking(acme: Tenant) -> None:
    calls: list[Callable[[str], object]] = [acme.booking, acme.hold, acme.history, acme.cancel, acme.release_hold]
    calls += [lambda id_: acme.find_slots("visit", start=NOW, end=NOW + DAY, moving=id_)]
    calls += [lambda id_: acme.explain("visit", start=NINE, moving=id_)]
    for junk in JUNK:
        for call in calls:
            with pytest.raises(BookingNotFound) as caught:
                call(junk)
            assert len(str(caught.value)) < 300
            assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("field", "value"), [("event_type", None), ("host", ["ada"]), ("duration", 30), ("limit", 0), ("moving", 5)]
)
def test_a_question_that_cannot_be_asked_is_refused_by_its_name(acme: Tenant, field: str, value: object) -> None:
    said: dict[str, Any] = {"event_type": "visit", field: value}
    with pytest.raises(InvalidInput) as caught:
        acme.find_slots(**said, start=NOW, end=NOW + DAY)
    assert caught.value.field == field
    if field != "limit":
        with pytest.raises(InvalidInput) as caught:
            acme.explain(**said, start=NINE)
        assert caught.value.field == field


def test_an_id_that_is_no_text_is_refused_by_its_name(acme: Tenant) -> None:
    with pytest.raises(InvalidInput) as caught:
        acme.booking(5)  # type: ignore[arg-type]
    assert caught.value.field == "booking_id"
    with pytest.raises(InvalidInput) as caught:
        acme.hold(None)  # type: ignore[arg-type]
    assert caught.value.field == "hold_id"


def test_an_id_nobody_has_names_no_booking(acme: Tenant) -> None:
    calls: list[Callable[[str], object]] = [acme.booking, acme.hold, acme.history, acme.cancel, acme.release_hold]
    for call in calls:
        with pytest.raises(BookingNotFound) as caught:
            call(UNKNOWN)
        assert caught.value.id == UNKNOWN


def test_an_id_is_known_in_any_of_its_forms(acme: Tenant) -> None:
    booking = acme.book("visit", start=NINE, attendee=GRACE)
    for form in (booking.id.upper(), booking.id.replace("-", ""), f"urn:uuid:{booking.id}"):
        assert acme.booking(form) == booking


def test_another_tenants_booking_is_not_there(scheduler: Scheduler, acme: Tenant) -> None:
    booking = acme.book("visit", start=NINE, attendee=GRACE)
    other = scheduler.create_tenant("other", name="Other")
    furnish(other)
    with pytest.raises(BookingNotFound):
        other.booking(booking.id)
    assert other.bookings().items == ()
    assert other.bookings(host="ada").items == other.bookings(event_type="visit").items == ()


# --- holds -----------------------------------------------------------------------------------------------------------


def test_holds_are_those_that_stand_by_start_and_of_one_host_if_asked(acme: Tenant, clock: SettableClock) -> None:
    later = acme.place_hold("visit", start=NINE + HOUR, ttl=HOUR)
    short = acme.place_hold("any", start=NINE, host="bob", ttl=timedelta(minutes=1))
    acme.release_hold(acme.place_hold("visit", start=NINE + 3 * HOUR).id)
    acme.book("visit", start=NINE + 2 * HOUR, attendee=GRACE)
    assert acme.holds() == [short, later]
    assert acme.holds(host="ada") == [later]
    assert acme.holds(host="nobody") == []
    clock.move(timedelta(minutes=1))
    assert acme.holds() == [later]
    assert acme.hold(short.id).status == "expired"


def test_a_hold_can_be_read_when_it_is_over_but_not_when_it_is_a_booking(acme: Tenant) -> None:
    hold = acme.place_hold("visit", start=NINE, attendee=GRACE)
    assert acme.hold(hold.id) == hold
    assert acme.booking(hold.id).status == "held"
    acme.confirm_hold(hold.id, attendee=GRACE)
    with pytest.raises(BookingNotFound):
        acme.hold(hold.id)
    released = acme.release_hold(acme.place_hold("visit", start=NINE + HOUR).id)
    assert acme.hold(released.id) == released
    assert released.status == "released"


def test_a_pending_booking_is_no_hold(acme: Tenant) -> None:
    ask(acme)
    booking = acme.book("ask", start=NINE, attendee=GRACE)
    assert (booking.status, booking.expires_at) == ("pending", NINE)
    assert acme.holds() == []
    with pytest.raises(BookingNotFound):
        acme.hold(booking.id)


# --- trails ----------------------------------------------------------------------------------------------------------


def test_history_tells_what_was_done_by_whom_and_why(acme: Tenant, clock: SettableClock) -> None:
    staff = Actor(role="staff", id="s-1", name="Sam")
    hold = acme.place_hold("visit", start=NINE)
    clock.move(timedelta(minutes=1))
    acme.confirm_hold(hold.id, attendee=GRACE, reference="order-1", metadata={"a": [1]}, actor=staff)
    clock.move(timedelta(minutes=1))
    acme.cancel(hold.id, reason="ill", actor=Actor(role="attendee"))
    trail = acme.history(hold.id)
    assert [(one.version, one.action, one.actor, one.reason) for one in trail] == [
        (1, "hold", None, None),
        (2, "confirm", staff, None),
        (3, "cancel", Actor(role="attendee"), "ill"),
    ]
    assert [one.at for one in trail] == [NOW + n * timedelta(minutes=1) for n in range(3)]
    assert {one.booking_id for one in trail} == {hold.id}
    assert trail[0].changes["start"] == (None, "2026-03-02T09:00:00Z")
    assert trail[0].changes["hosts"] == (None, ["ada"])
    assert trail[1].changes == {
        "status": ("held", "confirmed"),
        "attendee": (
            None,
            {
                "name": "Grace Hopper",
                "email": "Grace@example.test",
                "timezone": "America/New_York",
                "reference": "user-7",
            },
        ),
        "reference": (None, "order-1"),
        "metadata": ({}, {"a": [1]}),
        "expires_at": ("2026-03-02T08:15:00Z", None),
    }
    assert trail[2].changes == {"status": ("confirmed", "cancelled"), "sequence": (0, 1)}


# --- sweep -----------------------------------------------------------------------------------------------------------


def test_a_sweep_ends_what_has_expired_and_nothing_else(acme: Tenant, clock: SettableClock) -> None:
    ask(acme)
    held = acme.place_hold("visit", start=NINE)
    longer = acme.place_hold("visit", start=NINE + HOUR, ttl=DAY)
    pending = acme.book("ask", start=NINE, attendee=GRACE)
    waiting = acme.book("ask", start=NINE + DAY, attendee=GRACE)
    confirmed = acme.book("visit", start=NINE + 2 * HOUR, attendee=GRACE)
    assert acme.sweep().total == 0
    clock.set(NINE)
    swept = acme.sweep()
    assert (swept.holds, swept.pending, swept.keys, swept.events, swept.total) == (1, 1, 0, 0, 2)
    assert acme.sweep().total == 0
    states = {one.id: acme.booking(one.id).status for one in (held, longer, pending, waiting, confirmed)}
    assert states == {
        held.id: "expired",
        longer.id: "held",
        pending.id: "expired",
        waiting.id: "pending",
        confirmed.id: "confirmed",
    }
    for gone in (held, pending):
        last = acme.history(gone.id)[-1]
        assert (last.action, last.actor, last.at, last.version) == ("expire", None, NINE, 2)
    with pytest.raises(HoldExpired):
        acme.confirm_hold(held.id, attendee=GRACE)
    assert acme.confirm_hold(longer.id, attendee=GRACE).status == "confirmed"
    assert acme.book("visit", start=NINE, attendee=LINUS).hosts == ("ada",)


def test_a_sweep_goes_on_in_small_batches_until_nothing_is_left(
    acme: Tenant, scheduler: Scheduler, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three of each at a time: the last batch of each kind is not full, and each kind has another number of them."""
    monkeypatch.setattr("nxsched.service.sweeping.BATCH", 3)
    ask(acme)
    held = [acme.place_hold("visit", start=NINE + n * HALF).id for n in range(8)]
    keyed = [
        acme.place_hold("any", start=NINE + n * HALF, host="cyd", ttl=3 * DAY, idempotency_key=str(n)) for n in range(4)
    ]
    pending = [acme.book("ask", start=NINE + n * HALF, attendee=GRACE).id for n in range(5)]
    clock.set(NOW + DAY)
    with recorded(scheduler.engine) as found:
        swept = acme.sweep()
    assert (swept.holds, swept.pending, swept.keys, swept.total) == (8, 5, 4, 17)
    due = [one.rows for one in found if "SKIP LOCKED" in one.sql and "DELETE" not in one.sql]
    assert due == [3, 3, 3, 2, 2, 0, 0, 0], "holds and pending ones, batch by batch"
    assert [one.rows for one in found if "DELETE FROM nxsched.idempotency_key" in one.sql] == [3, 1, 0, 0]
    assert {one.id for one in acme.holds()} == {one.id for one in keyed}
    assert {acme.booking(one).status for one in held + pending} == {"expired"}
    assert {len(acme.history(one)) for one in held + pending} == {2}
    assert acme.sweep().total == 0


def test_a_sweep_forgets_the_keys_that_are_over(db: Database, clock: SettableClock) -> None:
    with Scheduler(db.app, clock=clock, keys_last=HOUR) as scheduler:
        acme = scheduler.create_tenant("acme", name="Acme")
        furnish(acme)
        acme.book("visit", start=NINE, attendee=GRACE, idempotency_key="old")
        clock.move(HALF)
        acme.book("visit", start=NINE + HOUR, attendee=GRACE, idempotency_key="new")
        assert acme.sweep().keys == 0
        clock.move(HALF)
        assert acme.sweep().keys == 1
        assert keys(db.superuser) == ["new"]


def test_a_tenant_that_cannot_be_swept_keeps_no_other_waiting(
    db: Database, scheduler: Scheduler, clock: SettableClock
) -> None:
    """Its event type has a time zone that this machine does not know."""
    for slug in ("alpha", "beta"):
        tenant = scheduler.create_tenant(slug, name=slug)
        furnish(tenant)
        tenant.place_hold("visit", start=NINE)
    with db.superuser.begin() as connection:
        broken = "UPDATE nxsched.event_type SET settings = settings || CAST(:zone AS jsonb) WHERE tenant_id = 'alpha'"
        connection.execute(text(broken), {"zone": json.dumps({"timezone": "Mars/Phobos"})})
    clock.move(HOUR)
    for _ in range(2):
        with pytest.raises(InvalidInput, match="Mars/Phobos") as caught:
            scheduler.sweep()
        assert caught.value.__notes__ == ["while the tenant alpha was swept; the others were all the same"]
    with db.superuser.connect() as connection:
        found = connection.execute(text("SELECT tenant_id, status FROM nxsched.booking ORDER BY 1")).all()
    assert [tuple(one) for one in found] == [("alpha", "held"), ("beta", "expired")]


def keys(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.execute(text("SELECT key FROM nxsched.idempotency_key ORDER BY key")).scalars())


def deliver(db: Database, booking: Booking, *, done: datetime | None = None, dead: datetime | None = None) -> None:
    with db.superuser.begin() as connection:
        connection.execute(
            text("UPDATE nxsched.outbox_event SET done_at = :done, dead_at = :dead WHERE booking_id = :id"),
            {"done": done, "dead": dead, "id": booking.id},
        )


def told(db: Database) -> set[str]:
    with db.superuser.connect() as connection:
        return set(connection.execute(text("SELECT booking_id::text FROM nxsched.outbox_event")).scalars())


def test_the_schedulers_sweep_deletes_events_long_delivered_and_never_one_that_was_not(
    db: Database, scheduler: Scheduler, acme: Tenant, clock: SettableClock
) -> None:
    other = scheduler.create_tenant("other", name="Other")
    furnish(other)
    long, just, late, dead, never = (acme.book("visit", start=NINE + n * HALF, attendee=GRACE) for n in range(5))
    theirs = other.book("visit", start=NINE, attendee=GRACE)
    hold = other.place_hold("visit", start=NINE + HOUR)
    deliver(db, long, done=NOW)
    deliver(db, theirs, done=NOW)
    deliver(db, just, done=NOW + DAY)
    deliver(db, late, done=NOW + DAY + timedelta(seconds=1))
    deliver(db, dead, dead=NOW)
    clock.set(NOW + 31 * DAY)
    assert acme.sweep().events == 0  # the application's role may not
    swept = scheduler.sweep()
    assert (swept.holds, swept.pending, swept.keys, swept.events) == (1, 0, 0, 3)
    assert told(db) == {late.id, dead.id, never.id, hold.id}
    assert acme.booking(long.id) == long
    assert other.hold(hold.id).status == "expired"
    assert scheduler.sweep(keep_days=0).events == 1
    assert told(db) == {dead.id, never.id, hold.id}
    assert scheduler.sweep(keep_days=0).total == 0


def test_the_schedulers_sweep_deletes_events_in_small_batches_until_none_is_left(
    db: Database, scheduler: Scheduler, acme: Tenant, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nxsched.service.sweeping.BATCH", 3)
    other = scheduler.create_tenant("other", name="Other")
    furnish(other)
    for tenant, delivered in ((acme, 7), (other, 4)):
        for n in range(delivered):
            deliver(db, tenant.book("visit", start=NINE + n * HALF, attendee=GRACE), done=NOW)
    never = [one.book("any", start=NINE, attendee=GRACE, host="bob").id for one in (acme, other)]
    clock.set(NOW + 31 * DAY)
    with recorded(db.worker) as found:
        assert scheduler.sweep().events == 11
    assert [one.rows for one in found if "DELETE FROM nxsched.outbox_event" in one.sql] == [3, 3, 1, 0, 3, 1, 0]
    assert told(db) == set(never)


@pytest.mark.parametrize("ends", ["commit", "rollback"])
@pytest.mark.parametrize("act", ["confirm", "release", "cancel"])
def test_a_sweep_passes_over_what_somebody_has_in_hand_and_does_the_others_without_waiting(
    acme: Tenant, db: Database, clock: SettableClock, act: str, ends: str
) -> None:
    ask(acme)
    due = [acme.book("ask", start=NINE + n * HALF, attendee=GRACE).id for n in range(3)]
    due += [acme.place_hold("visit", start=NINE + n * HALF, ttl=HOUR).id for n in range(3)]
    theirs = due[1 if act == "cancel" else 4]
    # Whoever waits longer than this for a row is told so, and fails.
    with (
        Scheduler(db.app, worker_url=db.worker, clock=clock, lock_timeout=timedelta(milliseconds=500)) as hasty,
        db.app.connect() as connection,
    ):
        ACTS[act](acme, theirs, within=connection)
        clock.set(NINE + HOUR)
        swept = hasty.tenant("acme").sweep()
        assert (swept.holds, swept.pending) == ((3, 2) if act == "cancel" else (2, 3))
        assert hasty.sweep().total == 0
        expired = {one for one in due if trail(db, one)[1:]}
        assert expired == {*due} - {theirs}
        getattr(connection, ends)()
        assert hasty.sweep().total == (0 if ends == "commit" else 1)
    last = trail(db, theirs)[-1]
    assert last[:2] == (2, act if ends == "commit" else "expire")
    assert_sound(db)


@pytest.mark.parametrize("keep_days", [-1, 1.5, "30", True, 10**9])
def test_days_to_keep_events_are_a_whole_number(scheduler: Scheduler, keep_days: Any) -> None:  # noqa: ANN401
    with pytest.raises(InvalidInput) as caught:
        scheduler.sweep(keep_days=keep_days)
    assert caught.value.field == "keep_days"


def test_tenants_are_listed_for_the_worker_and_for_nobody_else(db: Database, scheduler: Scheduler) -> None:
    for slug in ("beta", "alpha"):
        scheduler.create_tenant(slug, name=slug.title(), settings={"n": 1})
    found = scheduler.tenants()
    assert [(one.id, one.name, one.settings) for one in found] == [
        ("alpha", "Alpha", {"n": 1}),
        ("beta", "Beta", {"n": 1}),
    ]
    for login in (db.app, db.owner):
        with Scheduler(login) as alone:
            with pytest.raises(InvalidInput, match=r"^worker_url: must log in as a role that sees all tenants"):
                alone.tenants()
            with pytest.raises(InvalidInput, match="worker_url"):
                alone.sweep()
    with Scheduler(db.superuser) as everything:
        assert everything.tenants() == found
