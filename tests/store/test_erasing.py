"""A person taken out of all that is stored: nothing of theirs is left, and nothing else is touched."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import partial
from random import Random
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from nxsched import (
    Actor,
    Attendee,
    Booking,
    BookingStatus,
    EventType,
    Host,
    HostGroup,
    IdempotencyConflict,
    InvalidInput,
    InvalidToken,
    Question,
    Scheduler,
    SettableClock,
    SlotUnavailable,
    StoreUnavailable,
    Tenant,
    TransactionConflict,
    WeeklyHours,
)
from nxsched.embedded import APP_ROLE, WORKER_ROLE
from nxsched.service import moving
from nxsched.store.changes import move_bookings
from nxsched.store.doctor import examine
from nxsched.store.schema import TENANT_SETTING
from store.booked import ALAN, STAFF, assert_sound, count, rows, trail
from store.conftest import DAY, HALF, HOUR, NINE, NOW, Database, furnish
from store.recording import recorded
from store.test_waiting import beside, committed

MARK = "zebrafink"
"""A word that stands in everything that the person has said or is said of them, and nowhere else."""

ZONE = "Pacific/Chatham"
EMAIL = f"{MARK}@example.test"
HER = Attendee(name=f"Grace {MARK}", email=EMAIL, timezone=ZONE, reference=f"{MARK}-7")
HERSELF = Actor(role="attendee", id=f"{MARK}-7", name=f"Grace {MARK}")
SECRET = "a secret of more than 16 letters"  # noqa: S105 - of a test
LONG = timedelta(seconds=25)


@pytest.fixture
def scheduler(db: Database, clock: SettableClock) -> Iterator[Scheduler]:
    """A scheduler with links that waits as long as a busy machine needs."""
    with Scheduler(db.app, worker_url=db.worker, clock=clock, secrets=[SECRET], lock_timeout=LONG) as found:
        yield found


@pytest.fixture
def acme(scheduler: Scheduler) -> Tenant:
    """The tenant `acme` of all tests, with more event types: with a question, by approval, of a pool, a class."""
    tenant = scheduler.create_tenant("acme", name="Acme Ltd", sender="bookings@acme.test")
    furnish(tenant)
    enlarge(tenant)
    return tenant


def enlarge(tenant: Tenant) -> None:
    """Give a tenant the other event types."""
    why = [Question(key="why", label="Why?")]
    tenant.save_event_type(
        EventType(slug="visit", name="Visit", duration=HALF, hosts=["ada"], questions=why, location="Room 1")
    )
    tenant.save_event_type(EventType(slug="ask", duration=HALF, hosts=["bob"], requires_approval=True))
    tenant.save_event_type(EventType(slug="pool", duration=HALF, hosts=[HostGroup(members=["ada", "bob", "cyd"])]))
    tenant.save_event_type(EventType(slug="class", duration=HALF, hosts=["cyd"], capacity=5))


def found(db: Database, word: str, tenant: str | None = None) -> list[str]:
    """The tables in which a word stands, in any letters, in any column of any row, looked for by raw SQL."""
    tables = rows(db, "SELECT tablename FROM pg_tables WHERE schemaname = 'nxsched' ORDER BY 1")
    where = "true" if tenant is None else f"to_jsonb(t)->>'tenant_id' = '{tenant}'"
    return [
        table
        for (table,) in tables
        if rows(db, f"SELECT 1 FROM nxsched.{table} t WHERE {where} AND t::text ILIKE :word", word=f"%{word}%")  # noqa: S608
    ]


def everything(db: Database, where: str = "true") -> dict[str, list[str]]:
    """All rows of the tables with a tenant in them, as text."""
    tables = [one for (one,) in rows(db, "SELECT tablename FROM pg_tables WHERE schemaname = 'nxsched'")]
    return {
        table: [one for (one,) in rows(db, f"SELECT t::text FROM nxsched.{table} t WHERE {where} ORDER BY 1")]  # noqa: S608
        for table in tables
        if table != "schema_version"
    }


def book(tenant: Tenant, at: int, who: Attendee = HER, event_type: str = "visit", **more: Any) -> Booking:
    """A booking so many hours after nine."""
    return tenant.book(event_type, start=NINE + at * HOUR, attendee=who, **more)


def say_everything(tenant: Tenant, db: Database) -> list[str]:
    """Put the person's words wherever they can be put; gives the ids of what was booked and held."""
    said: dict[str, Any] = {
        "attendee": HER,
        "answers": {"why": f"because {MARK}"},
        "metadata": {f"key {MARK}": [{"a": f"{MARK}"}]},
        "reference": f"order-{MARK}",
        "actor": HERSELF,
    }
    plain = {key: value for key, value in said.items() if key != "answers"}

    def key(name: str) -> dict[str, Any]:
        return {"idempotency_key": f"{name}-{MARK}", "actor": HERSELF}

    def why(name: str) -> dict[str, Any]:
        return {"reason": f"{MARK} {name}", **key(name)}

    moved = tenant.book("visit", start=NINE, idempotency_key=f"book-{MARK}", **said)
    tenant.update(moved.id, location=f"at {MARK}'s", metadata={MARK: MARK}, **key("update"))
    tenant.reschedule(moved.id, start=NINE + DAY, **why("reschedule"))
    tenant.complete(tenant.book("visit", start=NINE - 7 * DAY, force=True, **said).id, **key("complete"))
    called_off = tenant.book("visit", start=NINE, **said)
    tenant.update(called_off.id, location=f"{MARK} road")
    tenant.cancel(called_off.id, **why("cancel"))
    declined = tenant.book("ask", start=NINE + HOUR, **plain)
    tenant.decline(declined.id, **why("decline"))
    approved = tenant.book("ask", start=NINE + HOUR, **plain)
    tenant.approve(approved.id, **key("approve"))
    asked = tenant.book("ask", start=NINE + 2 * HOUR, **plain)
    pooled = tenant.book("pool", start=NINE + 3 * HOUR, host="bob", **plain)
    tenant.reassign(pooled.id, host="cyd", **why("reassign"))
    series = tenant.book_series("visit", starts=[NINE + n * DAY + 5 * HOUR for n in range(3)], **said)
    assert series[0].series_id is not None
    tenant.cancel_series(series[0].series_id, reason=f"{MARK} series", actor=HERSELF)
    held = tenant.place_hold("visit", start=NINE + 4 * HOUR, attendee=HER, **key("hold"))
    confirmed = tenant.place_hold("visit", start=NINE + 6 * HOUR, attendee=HER, actor=HERSELF)
    tenant.confirm_hold(confirmed.id, idempotency_key=f"confirm-{MARK}", **said)
    released = tenant.place_hold("visit", start=NINE + 7 * HOUR, attendee=HER)
    tenant.release_hold(released.id, **key("release"))
    seat = tenant.book("class", start=NINE, seats=2, **plain)
    linked = [tenant.book("visit", start=NINE + n * DAY + HOUR, **said) for n in (1, 2)]
    managed = [tenant.with_token(tenant.manage_token(one.id, expires=NINE + 30 * DAY)) for one in linked]
    for n, one in enumerate(managed):
        one.reschedule(start=NINE + n * DAY + 2 * HOUR, reason=f"{MARK} link", idempotency_key=f"link {n} {MARK}")
    managed[1].cancel(reason=f"{MARK} link", idempotency_key=f"ends {MARK}")
    with db.superuser.begin() as connection:
        connection.execute(text("UPDATE nxsched.outbox_event SET last_error = :words"), {"words": f"550 no {MARK}"})
    every: list[Any] = [
        moved,
        called_off,
        declined,
        approved,
        asked,
        pooled,
        *series,
        held,
        confirmed,
        released,
        seat,
        *linked,
    ]
    done = tenant.bookings(status="completed").items
    return [one.id for one in (*every, *done)]


# --- what goes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "who",
    [
        {"email": EMAIL},
        {"reference": f"{MARK}-7"},
        {"email": EMAIL.upper()},
        {"email": EMAIL, "reference": f"{MARK}-7"},
    ],
    ids=["by address", "by reference", "in capitals", "by both"],
)
def test_nothing_that_a_person_has_said_is_left_in_any_row(acme: Tenant, db: Database, who: dict[str, Any]) -> None:
    made = say_everything(acme, db)
    assert found(db, MARK) == ["audit_entry", "booking", "idempotency_key", "outbox_event"]
    assert found(db, ZONE) == ["audit_entry", "booking", "outbox_event"]
    assert acme.erase_attendee(**who) == len(made)
    assert found(db, MARK) == found(db, ZONE) == []
    assert acme.bookings(text=MARK).items == acme.bookings(attendee=EMAIL).items == ()
    assert_sound(db)


def test_each_place_of_a_persons_words_is_told_apart_and_is_empty_afterwards(acme: Tenant, db: Database) -> None:
    """The test above cannot pass because a word has never been stored: here every place is looked at by its name."""
    say_everything(acme, db)
    in_json = ("attendee", "answers", "location", "metadata", "reference")
    whose = ("attendee_name", "attendee_email", "attendee_address", "attendee_reference")
    places = {
        "booking": [*whose, "answers::text", "metadata::text", "location", "reference"],
        "audit_entry": ["reason", "actor->>'id'", "actor->>'name'", *(f"changes->>'{name}'" for name in in_json)],
        "outbox_event": [
            "last_error",
            "payload->>'reason'",
            *(f"payload->'booking'->>'{name}'" for name in in_json),
        ],
        "idempotency_key": ["key"],
    }

    def full() -> set[str]:
        return {
            place
            for table, names in places.items()
            for place in names
            if count(db, table, f"({place}) LIKE '%{MARK}%'")
        }

    assert full() == {place for names in places.values() for place in names}
    acme.erase_attendee(email=EMAIL)
    assert full() == set()


def test_a_persons_words_are_found_by_nobody_who_may_read(acme: Tenant, db: Database) -> None:
    made = say_everything(acme, db)
    acme.erase_attendee(email=EMAIL)
    for id_ in made:
        booking = acme.booking(id_)
        assert (booking.attendee, booking.reference, booking.answers, booking.metadata) == (None, None, {}, {})
        assert booking.location in {None, "Room 1"}
        assert MARK not in repr(booking)
        assert MARK not in repr(acme.history(id_))
        assert acme.history(id_)[-1].action == "erase"
    assert acme.for_attendee(email=EMAIL).past().items == acme.for_attendee(reference=HER.reference).past().items == ()


def test_the_location_of_the_event_type_stays_and_another_one_goes(acme: Tenant) -> None:
    theirs, ours = book(acme, 0), book(acme, 1)
    acme.update(theirs.id, location="her flat")
    acme.erase_attendee(email=EMAIL)
    assert acme.booking(theirs.id).location is None
    assert acme.booking(ours.id).location == "Room 1"


@pytest.mark.parametrize("stored", ["Ärger@Example.test", "ÅSE@ÉCOLE.test"])
def test_an_address_is_found_in_other_letters_than_those_of_english(acme: Tenant, stored: str) -> None:
    made = book(acme, 0, Attendee(name="X", email=stored))
    assert acme.for_attendee(email=stored.lower()).upcoming().items == (made,)
    assert acme.erase_attendee(email=stored.swapcase()) == 1


def test_a_link_ends_when_its_person_is_erased(acme: Tenant) -> None:
    made = book(acme, 0)
    token = acme.manage_token(made.id, expires=NINE + DAY)
    managed = acme.with_token(token)
    acme.erase_attendee(email=EMAIL)
    for call in (
        lambda: acme.with_token(token).booking(),
        managed.booking,
        managed.cancel,
        lambda: managed.reschedule(start=NINE + HOUR),
        lambda: managed.find_slots(start=NOW, end=NOW + DAY),
    ):
        with pytest.raises(InvalidToken):
            call()
    assert acme.booking(made.id).status == "confirmed"


@pytest.mark.parametrize("action", ["book", "cancel"])
def test_the_keys_of_a_series_go_too(acme: Tenant, db: Database, action: str) -> None:
    key: dict[str, Any] = {"idempotency_key": f"series {MARK}"}
    series = acme.book_series("visit", starts=[NINE, NINE + DAY], attendee=HER, **(key if action == "book" else {}))
    if action == "cancel":
        acme.cancel_series(str(series[0].series_id), **key)
    assert found(db, MARK)[-2] == "idempotency_key"
    assert acme.erase_attendee(email=EMAIL) == 2
    assert found(db, MARK) == []


def test_who_erases_themselves_leaves_no_name_with_it(acme: Tenant, db: Database) -> None:
    book(acme, 0)
    assert acme.erase_attendee(email=EMAIL, actor=HERSELF) == 1
    assert found(db, MARK) == []


@pytest.mark.parametrize("whose", [ALAN, replace(HER, name="Grace", email="new@example.test", reference=None)])
def test_who_held_what_another_confirmed_is_erased_too(acme: Tenant, db: Database, whose: Attendee) -> None:
    hold = acme.place_hold("visit", start=NINE, attendee=HER)
    acme.confirm_hold(hold.id, attendee=whose)
    assert found(db, EMAIL) == ["audit_entry", "outbox_event"]
    acme.erase_attendee(email=EMAIL)
    assert found(db, EMAIL) == []


def test_who_booked_for_another_is_erased_by_their_reference(acme: Tenant, db: Database) -> None:
    book(acme, 0, ALAN, actor=HERSELF)
    book(acme, 1)
    acme.erase_attendee(reference=HER.reference, email=EMAIL)
    assert found(db, MARK) == []


# --- what stays ------------------------------------------------------------------------------------------------------

KEPT = {
    "booking": "id, tenant_id, occurrence_id, event_type_no, status, starts_at, ends_at, seats, series_id, organizer,"
    " moves, assigned_because, created_at, expires_at",
    "audit_entry": "tenant_id, booking_id, version, action, at, actor->>'role',"
    " changes - '{attendee,answers,location,metadata,reference}'::text[]",
    "outbox_event": "tenant_id, id, booking_id, version, kind, occurred_at, due_at, attempts,"
    " (payload - '{reason,booking}'::text[]) #- '{previous,location}' #- '{actor,id}' #- '{actor,name}',"
    " (payload->'booking') - '{attendee,answers,location,metadata,reference}'::text[]",
    "occurrence": "o::text",
    "claim": "o::text",
    "host": "o::text",
    "event_type": "o::text",
}


def kept(db: Database) -> dict[str, list[str]]:
    """What an erasure leaves as it is, as text; its own entries and events apart."""
    own = {
        "audit_entry": "action <> 'erase'",
        "outbox_event": "(booking_id, version) NOT IN (SELECT booking_id, version FROM nxsched.audit_entry"
        " WHERE action = 'erase')",
    }
    return {
        table: sorted(map(str, rows(db, f"SELECT {names} FROM nxsched.{table} o WHERE {own.get(table, 'true')}")))  # noqa: S608
        for table, names in KEPT.items()
    }


def test_times_hosts_states_and_records_stay(acme: Tenant, db: Database) -> None:
    made = say_everything(acme, db)
    before, trails = kept(db), {id_: trail(db, id_) for id_ in made}
    sequences = {id_: acme.booking(id_).sequence for id_ in made}
    assert min(map(len, before.values())) >= 3
    assert acme.erase_attendee(email=EMAIL, actor=STAFF) == len(made)
    assert kept(db) == before
    for id_ in made:
        version = len(trails[id_]) + 1
        assert trail(db, id_) == [*trails[id_], (version, "erase", "booking.updated")]
        assert acme.booking(id_).version == version
        last, sequence = acme.history(id_)[-1], acme.booking(id_).sequence
        # A location that goes is news for calendars: that its number has risen says nothing of anybody.
        risen = {} if sequence == sequences[id_] else {"sequence": (sequences[id_], sequence)}
        assert (last.actor, last.reason, last.changes, last.at) == (STAFF, None, risen, NOW)
    assert_sound(db)


def test_the_event_of_an_erasure_tells_of_the_booking_and_of_nobody(acme: Tenant, db: Database) -> None:
    made = book(acme, 0, answers={"why": "x"}, reference="order-1")
    acme.erase_attendee(email=EMAIL)
    payload = rows(db, "SELECT payload FROM nxsched.outbox_event WHERE version = 2")[0][0]
    assert payload["booking"]["id"] == made.id
    assert payload["booking"]["version"] == 2
    assert payload["booking"]["attendee"] is None
    assert payload["booking"]["reference"] is None
    assert (payload["previous"], payload["actor"], payload["reason"]) == (None, None, None)
    assert [one["slug"] for one in payload["hosts"]] == ["ada"]


def test_other_persons_are_not_touched(acme: Tenant, db: Database) -> None:
    """Also those with nearly the same address or reference, and those in the same class."""
    others = [
        ALAN,
        Attendee(name=HER.name, email=f"x{EMAIL}", reference=f"{MARK}-77"),
        Attendee(name=HER.name, email=f"{EMAIL}s", reference=f"{MARK.upper()}-7"),
        Attendee(name=HER.name, reference=EMAIL),
        Attendee(name=HER.name, email=f"{MARK}-7@example.test"),
        Attendee(name="_", email="zebrafin_@example.test", reference="%"),
    ]
    for at, who in enumerate(others):
        one = book(acme, at, who, "visit" if at else "class", idempotency_key=f"other {at}", actor=STAFF)
        acme.update(one.id, location="elsewhere")
    book(acme, 0, event_type="class", seats=2)
    mine = [one.id for one in acme.bookings(attendee=EMAIL) if one.attendee == HER]
    where = f"t::text NOT LIKE '%{mine[0]}%'"
    before = everything(db, where)
    assert acme.erase_attendee(email=EMAIL, reference=HER.reference) == len(mine) == 1
    assert everything(db, where) == before


def test_the_same_person_in_another_tenant_stays(acme: Tenant, scheduler: Scheduler, db: Database) -> None:
    zeta = scheduler.create_tenant("zeta", name="Zeta")
    furnish(zeta)
    enlarge(zeta)
    theirs, ours = say_everything(zeta, db), say_everything(acme, db)
    before = everything(db, "t.tenant_id = 'zeta'")
    assert acme.erase_attendee(email=EMAIL) == len(ours)
    assert everything(db, "t.tenant_id = 'zeta'") == before
    assert found(db, MARK, "acme") == []
    assert zeta.erase_attendee(email=EMAIL) == len(theirs)
    assert found(db, MARK) == []


def test_nobody_is_erased_who_is_not_there(acme: Tenant, db: Database) -> None:
    book(acme, 0)
    before = everything(db)
    others: list[dict[str, Any]] = [{"email": "nobody@example.test"}, {"reference": EMAIL}, {"reference": MARK.upper()}]
    for who in others:
        assert acme.erase_attendee(**who) == 0
    assert everything(db) == before


@pytest.mark.parametrize(
    ("who", "field"),
    [
        ({}, "reference"),
        ({"email": ""}, "email"),
        ({"email": "grace"}, "email"),
        ({"reference": " "}, "reference"),
        ({"reference": 7}, "reference"),
        ({"email": EMAIL, "reference": "x" * 201}, "reference"),
    ],
)
def test_a_person_that_cannot_be_is_refused(acme: Tenant, who: dict[str, Any], field: str) -> None:
    for call in (acme.erase_attendee, acme.for_attendee):
        with pytest.raises(InvalidInput) as caught:
            call(**who)
        assert caught.value.field == field


def test_what_was_erased_can_still_be_moved_cancelled_and_confirmed(
    acme: Tenant, db: Database, clock: SettableClock
) -> None:
    one, other = book(acme, 0), book(acme, 1)
    hold = acme.place_hold("visit", start=NINE + 2 * HOUR, attendee=HER)
    lapsed = acme.place_hold("visit", start=NINE + 3 * HOUR, attendee=HER, ttl=timedelta(minutes=1))
    pooled = book(acme, 0, event_type="pool", host="bob")
    asked = book(acme, 5, event_type="ask")
    assert acme.erase_attendee(email=EMAIL) == 6
    clock.move(timedelta(minutes=2))
    assert acme.reschedule(one.id, start=NINE + 4 * HOUR).start == NINE + 4 * HOUR
    assert acme.reassign(pooled.id, host="cyd").hosts == ("cyd",)
    assert acme.cancel(other.id).status == "cancelled"
    assert acme.approve(asked.id).status == "confirmed"
    assert acme.sweep().holds == 1
    assert acme.hold(lapsed.id).status == "expired"
    assert acme.hold(hold.id).attendee is None
    assert acme.confirm_hold(hold.id, attendee=ALAN).attendee == ALAN
    assert found(db, MARK) == []
    assert_sound(db)


def test_a_location_that_goes_is_news_for_calendars(acme: Tenant) -> None:
    made = book(acme, 0)
    before = acme.update(made.id, location="her flat")
    acme.erase_attendee(email=EMAIL)
    assert acme.booking(made.id).location is None
    assert acme.booking(made.id).sequence == before.sequence + 1


def test_who_books_again_after_an_erasure_is_there_anew(acme: Tenant) -> None:
    book(acme, 0)
    acme.erase_attendee(email=EMAIL)
    again = book(acme, 1)
    assert acme.for_attendee(email=EMAIL).upcoming().items == (again,)
    assert acme.erase_attendee(email=EMAIL) == 1


# --- transactions, keys, effort --------------------------------------------------------------------------------------


def test_an_erasure_is_rolled_back_with_the_transaction_of_the_application(acme: Tenant, db: Database) -> None:
    made = say_everything(acme, db)
    before = everything(db)
    with db.app.connect() as connection:
        assert acme.erase_attendee(email=EMAIL, within=connection) == len(made)
        assert acme.bookings(attendee=EMAIL, within=connection).items == ()
        connection.rollback()
    assert everything(db) == before
    with db.app.begin() as connection:
        with connection.begin_nested() as savepoint:
            acme.erase_attendee(email=EMAIL, within=connection)
            savepoint.rollback()
        assert acme.bookings(attendee=EMAIL, within=connection).items != ()
    assert everything(db) == before
    with db.app.begin() as connection:
        acme.erase_attendee(email=EMAIL, within=connection)
    assert found(db, MARK) == []


def test_a_person_who_books_and_is_erased_in_one_transaction_is_not_there(acme: Tenant, db: Database) -> None:
    with db.app.begin() as connection:
        acme.book("visit", start=NINE, attendee=HER, idempotency_key=MARK, within=connection)
        assert acme.erase_attendee(email=EMAIL, within=connection) == 1
        acme.book("visit", start=NINE + HOUR, attendee=ALAN, within=connection)
    assert found(db, MARK) == []
    assert_sound(db)


def test_an_erasure_under_a_key_happens_once(acme: Tenant, db: Database) -> None:
    book(acme, 0)
    assert acme.erase_attendee(email=EMAIL, idempotency_key="erase") == 1
    before = everything(db)
    acme.erase_attendee(email=EMAIL, idempotency_key="erase")
    assert everything(db) == before
    with pytest.raises(IdempotencyConflict):
        acme.erase_attendee(email="other@example.test", idempotency_key="erase")


def many(tenant: Tenant, number: int) -> None:
    """So many bookings of the person."""
    always = [WeeklyHours(days="mon-sun", start="00:00", end="24:00")]
    tenant.save_host(Host(slug="always", timezone="UTC", weekly_hours=always))
    five = timedelta(minutes=5)
    tenant.save_event_type(EventType(slug="often", duration=five, hosts=["always"]))
    starts = [NINE + n * five for n in range(number)]
    for first in range(0, number, 250):
        tenant.book_series("often", starts=starts[first : first + 250], attendee=HER)


@pytest.mark.parametrize("number", [1, 1_000])
def test_an_erasure_takes_nine_statements_however_many_bookings_there_are(
    acme: Tenant, scheduler: Scheduler, db: Database, number: int
) -> None:
    many(acme, number)
    with recorded(scheduler.engine) as sent:
        assert acme.erase_attendee(email=EMAIL) == number
    assert len(sent) == 9
    assert found(db, MARK) == []
    assert count(db, "audit_entry", "action = 'erase' AND version = 2") == number
    assert count(db, "outbox_event", "kind = 'booking.updated' AND version = 2") == number
    assert count(db, "booking", "version = 2") == count(db, "booking") == number
    nonces = rows(db, "SELECT count(DISTINCT nonce) FROM nxsched.booking")[0][0]
    assert nonces == number


# --- rights ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def two(acme: Tenant, scheduler: Scheduler, db: Database) -> list[str]:
    """Two tenants with a booking of the person each, the second one's in a list of the ids that are to be erased."""
    zeta = scheduler.create_tenant("zeta", name="Zeta")
    furnish(zeta)
    for tenant in (acme, zeta):
        made = tenant.book("visit", start=NINE, attendee=HER, actor=HERSELF)
        tenant.cancel(made.id, reason=MARK)
    return [id_ for (id_,) in rows(db, "SELECT id::text FROM nxsched.booking")]


def records(db: Database, tenant: str) -> tuple[list[str], list[str]]:
    """Audit entries and events of a tenant, as text."""
    every = everything(db, f"t.tenant_id = '{tenant}'")
    return every["audit_entry"], every["outbox_event"]


HOSTILE = """
CREATE SCHEMA hostile;
CREATE FUNCTION hostile.current_setting(text) RETURNS text LANGUAGE sql AS $$ SELECT 'zeta' $$;
CREATE FUNCTION hostile.same(text, text) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$;
CREATE OPERATOR hostile.= (LEFTARG = text, RIGHTARG = text, FUNCTION = hostile.same);
CREATE FUNCTION hostile.same(uuid, uuid) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$;
CREATE OPERATOR hostile.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = hostile.same);
GRANT USAGE ON SCHEMA hostile TO PUBLIC;
"""


@pytest.mark.parametrize("owner", ["the tables' owner", "a superuser"])
@pytest.mark.parametrize("how", ["plain", "row_security", "search_path", "temporary tables"])
def test_records_of_another_tenant_cannot_be_erased(db: Database, two: list[str], how: str, owner: str) -> None:
    with db.superuser.begin() as connection:
        connection.exec_driver_sql(HOSTILE)
        if owner == "a superuser":  # whom no policy binds
            connection.exec_driver_sql("ALTER FUNCTION nxsched.erase_records(uuid[]) OWNER TO CURRENT_USER")
    before, ours = records(db, "zeta"), records(db, "acme")
    with db.app.begin() as connection:
        if how == "row_security":
            connection.exec_driver_sql("SET LOCAL row_security = off")
        if how == "search_path":
            connection.exec_driver_sql("SET LOCAL search_path = hostile, pg_temp, pg_catalog")
        if how == "temporary tables":
            connection.exec_driver_sql(
                "CREATE TEMP TABLE audit_entry (tenant_id text); CREATE TEMP TABLE outbox_event (tenant_id text);"
                " SET LOCAL search_path = pg_temp, nxsched, pg_catalog"
            )
        connection.execute(text(f"SELECT pg_catalog.set_config('{TENANT_SETTING}', 'acme', true)"))
        connection.execute(text("SELECT nxsched.erase_records(CAST(:ids AS uuid[]))"), {"ids": two})
    assert records(db, "zeta") == before
    assert MARK in str(before)
    assert MARK in str(ours)
    assert MARK not in str(records(db, "acme"))


@pytest.mark.parametrize("tenant", [None, "", "nobody", "ZETA", "zeta ", "'zeta'"])
def test_without_a_tenant_nothing_is_erased(db: Database, two: list[str], tenant: str | None) -> None:
    before = everything(db)
    with db.app.connect() as connection:
        erasing = partial(connection.execute, text("SELECT nxsched.erase_records(CAST(:ids AS uuid[]))"), {"ids": two})
        if tenant is None:
            with pytest.raises(DBAPIError, match="unrecognized configuration parameter"):
                erasing()
        else:
            connection.execute(text(f"SELECT set_config('{TENANT_SETTING}', :tenant, true)"), {"tenant": tenant})
            erasing()
        connection.commit()
    assert everything(db) == before


def refused(db: Database, role: str, statement: str) -> str:
    """The SQLSTATE with which a role is refused, with the tenant `acme` set."""
    with db.superuser.connect() as connection:
        connection.exec_driver_sql(f"SET LOCAL SESSION AUTHORIZATION {role}")
        connection.execute(text(f"SELECT set_config('{TENANT_SETTING}', 'acme', true)"))
        try:
            connection.exec_driver_sql(statement)
        except DBAPIError as error:
            return str(getattr(error.orig, "sqlstate", None))
        return ""


@pytest.mark.usefixtures("two")
def test_only_the_applications_role_may_erase_and_it_may_change_no_record_otherwise(
    db: Database, stranger: str
) -> None:
    ids = "SELECT nxsched.erase_records('{}')"
    assert refused(db, APP_ROLE, ids) == ""
    assert refused(db, WORKER_ROLE, ids) == refused(db, stranger, ids) == "42501"
    with db.superuser.begin() as connection:  # to see the schema is not to run what is in it
        connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA nxsched TO {stranger}")
    assert refused(db, stranger, ids) == "42501"
    for table in ("audit_entry", "outbox_event"):
        for statement in (
            f"UPDATE nxsched.{table} SET version = version",  # noqa: S608
            f"DELETE FROM nxsched.{table}",  # noqa: S608
            f"TRUNCATE nxsched.{table}",
            f"SELECT 1 FROM nxsched.{table} FOR UPDATE",  # noqa: S608
        ):
            assert refused(db, APP_ROLE, statement) == "42501", statement
    owners = "ALTER FUNCTION nxsched.erase_records(uuid[]) SET search_path = public"
    replaced = "CREATE OR REPLACE FUNCTION nxsched.erase_records(uuid[]) RETURNS void LANGUAGE sql AS 'SELECT'"
    for statement in (owners, replaced):
        assert refused(db, APP_ROLE, statement) == "42501", statement
    with db.app.begin() as connection:  # a warning says that nothing was granted
        connection.exec_driver_sql("GRANT EXECUTE ON FUNCTION nxsched.erase_records TO PUBLIC")
    assert refused(db, stranger, ids) == "42501"


def test_erasing_alone_runs_with_the_owners_rights(db: Database) -> None:
    told = rows(
        db,
        "SELECT p.proname, p.prosecdef, pg_get_userbyid(p.proowner) = pg_get_userbyid(c.relowner),"
        " has_function_privilege('public', p.oid, 'EXECUTE'), p.proconfig"
        " FROM pg_proc p JOIN pg_class c ON c.relnamespace = p.pronamespace AND c.relname = 'booking'"
        " WHERE p.pronamespace = 'nxsched'::regnamespace ORDER BY p.proname",
    )
    assert [tuple(one) for one in told] == [
        (name, True, True, False, ["search_path=pg_catalog, pg_temp", "row_security=on"])
        for name in ("erase_person", "erase_records")
    ]


def test_the_doctor_sees_that_the_application_may_not_erase(acme: Tenant, db: Database) -> None:
    book(acme, 0)
    with db.superuser.begin() as connection:
        connection.exec_driver_sql(f"REVOKE EXECUTE ON FUNCTION nxsched.erase_records FROM {APP_ROLE}")
    with pytest.raises(StoreUnavailable, match="erase_records"):
        acme.erase_attendee(email=EMAIL)
    with db.app.connect() as connection:
        assert "rights" in [one.name for one in examine(connection, NOW) if not one.well]


# --- races -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def erase(acme: Tenant, db: Database) -> Callable[[], Any]:
    """An erasure in the application's transaction, where a deadlock would reach the caller."""
    call: Callable[..., Any] = partial(acme.erase_attendee, email=EMAIL)
    return committed(db, call)


@pytest.mark.parametrize("wait", [0.0, 0.2], ids=["short", "long"])
def test_what_another_confirms_while_an_erasure_waits_is_theirs(
    acme: Tenant, db: Database, erase: Callable[[], Any], wait: float
) -> None:
    hold = acme.place_hold("visit", start=NINE, attendee=HER)
    said: dict[str, Any] = {"attendee": ALAN, "metadata": {"order": 7}, "reference": "order-7"}
    with db.app.connect() as ours:
        confirmed = acme.confirm_hold(hold.id, **said, within=ours)
        with beside(db, erase) as told:
            time.sleep(wait)
            ours.commit()
    assert told == [0]
    assert acme.booking(hold.id) == confirmed
    assert_sound(db)


@pytest.mark.parametrize("ends", ["commit", "rollback"])
def test_an_erasure_waits_for_a_cancellation_and_takes_its_reason_too(
    acme: Tenant, db: Database, erase: Callable[[], Any], ends: str
) -> None:
    made = book(acme, 0)
    with db.app.connect() as ours:
        acme.cancel(made.id, reason=MARK, actor=HERSELF, idempotency_key=MARK, within=ours)
        with beside(db, erase) as told:
            time.sleep(0.1)
            getattr(ours, ends)()
    assert told == [1]
    assert found(db, MARK) == []
    assert acme.booking(made.id).status == ("cancelled" if ends == "commit" else "confirmed")
    assert_sound(db)


def test_two_who_erase_one_person_at_a_time_erase_them_once(
    acme: Tenant, db: Database, erase: Callable[[], Any]
) -> None:
    made = [book(acme, n) for n in range(3)]
    with db.app.connect() as ours:
        assert acme.erase_attendee(email=EMAIL, within=ours) == 3
        with beside(db, erase) as told:
            time.sleep(0.1)
            ours.commit()
    assert told == [0]
    assert {acme.booking(one.id).version for one in made} == {2}
    assert_sound(db)


def test_who_cancels_and_moves_what_is_being_erased_brings_no_word_back(acme: Tenant, db: Database) -> None:
    one, other = book(acme, 0), book(acme, 1)
    acts = [partial(acme.cancel, one.id), partial(acme.reschedule, other.id, start=NINE + 3 * HOUR)]
    with db.app.connect() as ours:
        acme.erase_attendee(email=EMAIL, within=ours)
        with beside(db, committed(db, acts[0])) as first, beside(db, committed(db, acts[1])) as second:
            time.sleep(0.1)
            ours.commit()
    assert (first[0].status, first[0].attendee) == ("cancelled", None)
    assert (second[0].start, second[0].attendee) == (NINE + 3 * HOUR, None)
    assert found(db, MARK) == []
    assert_sound(db)


MOVES: dict[str, Callable[..., Any]] = {
    "reschedule": lambda tenant, id_, **more: tenant.reschedule(id_, start=NINE + 3 * HOUR, **more),
    "reassign": lambda tenant, id_, **more: tenant.reassign(id_, host="bob", **more),
}


@pytest.mark.parametrize("wait", [0.0, 0.1], ids=["short", "long"])
@pytest.mark.parametrize("move", MOVES)
def test_a_booking_that_is_moved_in_the_wait_is_erased_too(
    acme: Tenant, db: Database, erase: Callable[[], Any], move: str, wait: float
) -> None:
    made = acme.book("pool", start=NINE, host="ada", attendee=HER)
    with db.app.connect() as ours:
        MOVES[move](acme, made.id, reason=MARK, within=ours)
        with beside(db, erase) as told:
            time.sleep(wait)
            ours.commit()
    assert told == [1]
    assert found(db, MARK) == []


def test_the_last_of_several_bookings_that_is_moved_in_the_wait_is_erased_too(
    acme: Tenant, db: Database, erase: Callable[[], Any]
) -> None:
    for at in range(3):
        book(acme, at)
    last = rows(db, "SELECT id::text FROM nxsched.booking ORDER BY occurrence_id DESC LIMIT 1")[0][0]
    with db.app.connect() as ours:
        acme.reschedule(last, start=NINE + 5 * HOUR, within=ours)
        with beside(db, erase) as told:
            time.sleep(0.1)
            ours.commit()
    assert told == [3]
    assert found(db, MARK) == []


def test_a_booking_of_a_series_that_is_moved_in_the_wait_is_cancelled_with_it(acme: Tenant, db: Database) -> None:
    series = acme.book_series("visit", starts=[NINE + HOUR, NINE + 2 * HOUR], attendee=HER)
    last = rows(db, "SELECT id::text FROM nxsched.booking ORDER BY occurrence_id DESC LIMIT 1")[0][0]
    with db.app.connect() as ours:
        acme.reschedule(last, start=NINE + 5 * HOUR, within=ours)
        with beside(db, partial(acme.cancel_series, str(series[0].series_id))) as told:
            time.sleep(0.1)
            ours.commit()
    assert {one.status for one in told[0]} == {"cancelled"}


def test_who_takes_an_expired_key_anew_and_who_erases_do_not_wait_for_one_another(
    acme: Tenant, db: Database, clock: SettableClock, erase: Callable[[], Any]
) -> None:
    made = acme.book("visit", start=NINE + 2 * DAY, attendee=HER, idempotency_key="k")
    clock.move(DAY)
    cancel = committed(db, partial(acme.cancel, made.id, idempotency_key="k"))
    with db.superuser.connect() as ours:
        ours.execute(text("SELECT 1 FROM nxsched.booking FOR UPDATE"))
        with beside(db, erase) as first, beside(db, cancel) as second:
            ours.rollback()
    assert [one for one in (*first, *second) if isinstance(one, TransactionConflict)] == []


def test_a_key_goes_too_whose_call_is_repeated_just_now(acme: Tenant, db: Database, erase: Callable[[], Any]) -> None:
    call = partial(acme.book, "visit", start=NINE + 2 * DAY, attendee=HER, idempotency_key="k")
    made = call()
    with db.app.connect() as ours:
        assert call(within=ours) == made
        with beside(db, erase) as told:
            time.sleep(0.1)
            ours.commit()
    assert told == [1]
    assert rows(db, "SELECT key FROM nxsched.idempotency_key") == []


def test_who_moves_from_a_class_to_an_earlier_one_and_who_erases_do_not_wait_for_one_another(
    acme: Tenant, db: Database, erase: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same person, who has seats in both; the occurrence with the lower id is the one that is gone to."""
    made = [book(acme, 0, event_type="class")]
    time.sleep(0.01)  # ids go by milliseconds
    made.append(book(acme, 2, event_type="class"))
    order = [one for (one,) in rows(db, "SELECT starts_at FROM nxsched.occurrence ORDER BY id")]
    assert order == [one.start for one in made]
    locked, go = threading.Event(), threading.Event()

    def slowly(*args: Any, **options: Any) -> Any:  # noqa: ANN401 - whatever it is called with
        locked.set()
        assert go.wait(timeout=LONG.total_seconds())
        return move_bookings(*args, **options)

    monkeypatch.setattr(moving, move_bookings.__name__, slowly)
    move = committed(db, partial(acme.reschedule, made[1].id, start=made[0].start))
    with ThreadPoolExecutor() as pool:
        moved = pool.submit(move)
        assert locked.wait(timeout=LONG.total_seconds())
        with beside(db, erase) as told:
            go.set()
        assert moved.exception() is None
    assert not isinstance(told[0], TransactionConflict)


@pytest.mark.parametrize("moves", [False, True], ids=["booked and cancelled", "and moved"])
def test_who_erases_while_the_person_books_leaves_nothing_of_what_was_there_before(  # noqa: C901 - a storm
    acme: Tenant, db: Database, *, moves: bool
) -> None:
    """In transactions of the library's own, which are had again where they meet."""
    acme.save_event_type(EventType(slug="room", duration=HALF, hosts=["cyd"], capacity=3))
    known: list[str] = []
    left: list[str] = []
    wrong: list[BaseException] = []
    over = threading.Event()

    def live(seed: int) -> None:
        random, mine = Random(seed), list[str]()  # noqa: S311 - a test
        while not over.is_set():
            start = NINE + random.randrange(3) * DAY + random.randrange(14) * HALF
            try:
                act = random.choice(["book", "book", "cancel", "move"])
                if act == "book" or not mine:
                    made = acme.book(random.choice(["any", "room"]), start=start, attendee=HER, actor=HERSELF)
                    mine.append(made.id)
                    known.append(made.id)
                elif act == "cancel":
                    acme.cancel(mine.pop(), actor=Actor(role="attendee"))
                elif moves:
                    acme.reschedule(mine[-1], start=start, actor=Actor(role="attendee"))
            except SlotUnavailable:
                continue
            except BaseException as error:  # noqa: BLE001 - looked at below
                wrong.append(error)

    threads = [threading.Thread(target=live, args=[seed]) for seed in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(12):
            before = list(known)
            acme.erase_attendee(email=EMAIL)
            theirs = acme.bookings(status=[*BookingStatus], attendee=EMAIL, limit=1_000)
            left += [one.id for one in theirs if one.id in before]
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert len(known) > 12
    assert moves or left == []  # what is moved in that moment is left: see the tests above
    acme.erase_attendee(email=EMAIL)
    assert found(db, MARK) == []
    assert_sound(db)
