"""Two tenants side by side: neither sees, changes or even learns of what is the other's."""

from __future__ import annotations

import inspect
import json
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Connection, Engine, Table, create_engine, text
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.pool import NullPool

from nxsched import (
    Attendee,
    BlockedPeriod,
    Booking,
    BookingStatus,
    EventType,
    Hold,
    Host,
    InvalidToken,
    LockTimeout,
    MessagePreferences,
    MessageTemplate,
    NxschedError,
    PolicyViolation,
    Reminder,
    Scheduler,
    SettableClock,
    Tenant,
    Webhook,
)
from nxsched.embedded import APP_ROLE, WORKER_ROLE
from nxsched.store.roles import ACROSS_TENANTS, RIGHTS
from nxsched.store.schema import SCHEMA, TENANT_SETTING, metadata
from store.conftest import DAY, HALF, HOUR, NINE, NOW, Database, furnish

GRACE = Attendee(name="Grace", email="grace@example.test", reference="user-7")
VERBS = ("SELECT", "INSERT", "UPDATE", "DELETE")
TABLES: dict[str, Table] = {table.name: table for table in metadata.sorted_tables}


@dataclass(frozen=True)
class Theirs:
    """What a tenant has that another might ask for."""

    booking: Booking
    hold: Hold
    blocked: str


def fill(tenant: Tenant) -> Theirs:
    """A row of the tenant in every table."""
    tenant.save_host(Host(slug="only", timezone="UTC"))
    tenant.save_event_type(EventType(slug="alone", duration=HALF, hosts=["only"]))
    period = tenant.block("ada", BlockedPeriod(start=NOW.date() + 2 * DAY))
    assert period.id is not None
    tenant.replace_busy("bob", source="google", start=NOW, end=NOW + DAY, periods=[(NINE, NINE + HOUR)])
    tenant.save_event_type(replace(tenant.event_type("visit"), reminders=[Reminder(minutes=30)]))
    tenant.messages.save_template(MessageTemplate(kind="booking.confirmed", subject="Yes", text="Yes"))
    tenant.preferences.save(str(GRACE.email), MessagePreferences(locale="de"))
    tenant.webhooks.save(Webhook(url="https://hooks.test/bookings"))
    booking = tenant.book("visit", start=NINE, attendee=GRACE, idempotency_key="key-1")
    return Theirs(booking, tenant.place_hold("visit", start=NINE + HOUR, ttl=DAY), period.id)


@pytest.fixture(params=["policies on", "policies off"])
def two(request: pytest.FixtureRequest, db: Database, clock: SettableClock) -> Iterator[tuple[Tenant, Tenant]]:
    """Two tenants with the same slugs; with row-level security, and without it, for a superuser is bound by none."""
    engine = db.app if request.param == "policies on" else db.superuser
    with Scheduler(engine, clock=clock, secrets=["a secret of 32 letters and figures"]) as scheduler:
        found = [scheduler.create_tenant(slug, name=slug.title()) for slug in ("acme", "zeta")]
        for tenant in found:
            furnish(tenant)
        yield found[0], found[1]


# --- every call ------------------------------------------------------------------------------------------------------

Call = Callable[[Tenant, str], object]

BY_BOOKING: dict[str, Call] = {
    "booking": lambda tenant, id_: tenant.booking(id_),
    "history": lambda tenant, id_: tenant.history(id_),
    "reminders": lambda tenant, id_: tenant.reminders(id_),
    "cancel": lambda tenant, id_: tenant.cancel(id_, reason="mine now"),
    "reschedule": lambda tenant, id_: tenant.reschedule(id_, start=NINE + DAY),
    "reassign": lambda tenant, id_: tenant.reassign(id_, host="ada"),
    "cancel_series": lambda tenant, id_: tenant.cancel_series(id_),
    "update": lambda tenant, id_: tenant.update(id_, location="mine now"),
    "approve": lambda tenant, id_: tenant.approve(id_),
    "decline": lambda tenant, id_: tenant.decline(id_),
    "complete": lambda tenant, id_: tenant.complete(id_),
    "mark_no_show": lambda tenant, id_: tenant.mark_no_show(id_),
    "manage_token": lambda tenant, id_: tenant.manage_token(id_, expires=NINE + DAY),
    "hold": lambda tenant, id_: tenant.hold(id_),
    "release_hold": lambda tenant, id_: tenant.release_hold(id_),
    "confirm_hold": lambda tenant, id_: tenant.confirm_hold(id_, attendee=GRACE, if_free=True),
    "find_slots": lambda tenant, id_: tenant.find_slots("visit", start=NOW, end=NOW + DAY, moving=id_),
    "explain": lambda tenant, id_: tenant.explain("visit", start=NINE, moving=id_),
}
BY_BLOCKED: dict[str, Call] = {"unblock": lambda tenant, id_: tenant.unblock(id_)}
BY_HOST: dict[str, Call] = {
    "host": lambda tenant, slug: tenant.host(slug),
    "archive_host": lambda tenant, slug: tenant.archive_host(slug),
    "block": lambda tenant, slug: tenant.block(slug, BlockedPeriod(start=NOW.date())),
    "blocked_periods": lambda tenant, slug: tenant.blocked_periods(slug),
    "replace_busy": lambda tenant, slug: tenant.replace_busy(slug, source="x", start=NOW, end=NINE, periods=[]),
    "busy": lambda tenant, slug: tenant.busy(slug, start=NOW, end=NINE),
    "find_slots": lambda tenant, slug: tenant.find_slots("visit", start=NOW, end=NOW + DAY, host=slug),
    "explain": lambda tenant, slug: tenant.explain("visit", start=NINE, host=slug),
    "place_hold": lambda tenant, slug: tenant.place_hold("visit", start=NINE, host=slug),
    "book": lambda tenant, slug: tenant.book("visit", start=NINE, attendee=GRACE, host=slug, force=True),
    "book_series": lambda tenant, slug: tenant.book_series("visit", starts=[NINE], attendee=GRACE, host=slug),
    "save_event_type": lambda tenant, slug: tenant.save_event_type(
        EventType(slug="new", duration=HALF, hosts=["ada", slug])
    ),
    "bookings": lambda tenant, slug: tenant.bookings(host=slug),
    "holds": lambda tenant, slug: tenant.holds(host=slug),
}
BY_EVENT_TYPE: dict[str, Call] = {
    "event_type": lambda tenant, slug: tenant.event_type(slug),
    "archive_event_type": lambda tenant, slug: tenant.archive_event_type(slug),
    "find_slots": lambda tenant, slug: tenant.find_slots(slug, start=NOW, end=NOW + DAY),
    "explain": lambda tenant, slug: tenant.explain(slug, start=NINE),
    "place_hold": lambda tenant, slug: tenant.place_hold(slug, start=NINE),
    "book": lambda tenant, slug: tenant.book(slug, start=NINE, attendee=GRACE, force=True),
    "book_series": lambda tenant, slug: tenant.book_series(slug, starts=[NINE], attendee=GRACE),
    "bookings": lambda tenant, slug: tenant.bookings(event_type=slug),
}
NAMING = {"slug", "host", "event_type", "booking_id", "hold_id", "id", "moving", "series", "series_id"}


def test_every_method_that_takes_an_id_or_a_slug_is_called_here() -> None:
    naming = {
        name
        for name, method in inspect.getmembers(Tenant, inspect.isfunction)
        if not name.startswith("_") and NAMING & inspect.signature(method).parameters.keys()
    }
    assert naming - {"save_host"} <= {*BY_BOOKING, *BY_BLOCKED, *BY_HOST, *BY_EVENT_TYPE}  # it is given a whole host


def outcome(call: Call, tenant: Tenant, name: str) -> tuple[object, ...]:
    """What comes of a call, without the name it was called with."""
    try:
        found = call(tenant, name)
    except NxschedError as error:
        said = {key: str(value).replace(name, "…") for key, value in vars(error).items()}
        return type(error), str(error).replace(name, "…"), said
    return "no error", str(found)


def test_what_is_another_tenants_is_as_if_it_were_not_there(db: Database, two: tuple[Tenant, Tenant]) -> None:
    acme, zeta = two
    theirs = fill(acme)
    before = rows(db, "acme")
    asked: list[tuple[dict[str, Call], tuple[str, ...], str]] = [
        (BY_BOOKING, (theirs.booking.id, theirs.hold.id), str(uuid4())),
        (BY_BLOCKED, (theirs.blocked,), str(uuid4())),
        (BY_HOST, ("only",), "none"),
        (BY_EVENT_TYPE, ("alone",), "none"),
    ]
    for calls, names, unknown in asked:
        for method, call in calls.items():
            for name in names:
                got = outcome(call, zeta, name)
                assert got == outcome(call, zeta, unknown), method
                assert got[0] != "no error" or method in {"bookings", "holds"}, method
    assert rows(db, "acme") == before
    assert zeta.bookings(text="Grace").items == zeta.bookings(attendee="user-7").items == ()
    assert zeta.bookings(series=theirs.booking.id).items == ()
    assert zeta.for_attendee(email=GRACE.email, reference=GRACE.reference).upcoming().items == ()
    assert zeta.for_attendee(email=GRACE.email, reference=GRACE.reference).past().items == ()
    token = acme.manage_token(theirs.booking.id, expires=NINE + DAY)
    with pytest.raises(InvalidToken):
        zeta.with_token(token).booking()
    assert zeta.erase_attendee(email=GRACE.email, reference=GRACE.reference) == 0
    assert rows(db, "acme") == before
    assert acme.with_token(token).booking() == theirs.booking
    assert len(zeta.find_slots("visit", start=NOW, end=NOW + DAY)) == 16


def rows(db: Database, tenant: str) -> dict[str, list[str]]:
    """All that a tenant has, as text."""
    with db.superuser.connect() as connection:
        return {
            name: list(
                connection.execute(
                    text(f"SELECT t::text FROM {table} t WHERE tenant_id = :tenant ORDER BY 1"),  # noqa: S608
                    {"tenant": tenant},
                ).scalars()
            )
            for name, table in TABLES.items()
        }


def test_the_same_slugs_keys_and_ids_serve_both(db: Database, two: tuple[Tenant, Tenant]) -> None:
    acme, zeta = two
    ours, theirs = fill(acme), fill(zeta)
    assert {ours.booking.id, ours.hold.id} & {theirs.booking.id, theirs.hold.id} == set()
    for tenant, own in ((acme, ours), (zeta, theirs)):
        assert tenant.bookings().items == (own.booking,)
        assert tenant.holds() == [own.hold]
        assert tenant.book("visit", start=NINE, attendee=GRACE, idempotency_key="key-1") == own.booking
    shared = str(uuid4())
    for tenant in (acme, zeta):
        assert tenant.block(None, BlockedPeriod(start=NOW.date(), id=shared)).id == shared
    acme.unblock(shared)
    assert [one.id for one in zeta.blocked_periods()] == [shared]
    before = rows(db, "zeta")
    acme.archive_host("ada")
    acme.archive_event_type("visit")
    acme.cancel(ours.booking.id)
    acme.release_hold(ours.hold.id)
    assert acme.erase_attendee(email=GRACE.email) == 1
    acme.replace_busy("bob", source="google", start=NOW, end=NOW + DAY, periods=[])
    acme.save_host(replace(acme.host("bob"), name="Changed"))
    acme.sweep()
    assert rows(db, "zeta") == before


LISTS: dict[str, Callable[[Tenant], object]] = {
    "hosts": lambda tenant: tenant.hosts(archived=True),
    "event_types": lambda tenant: tenant.event_types(archived=True),
    "blocked_periods": lambda tenant: tenant.blocked_periods(),
    "bookings": lambda tenant: tenant.bookings(status=[*BookingStatus]),
    "holds": lambda tenant: tenant.holds(),
    "upcoming": lambda tenant: tenant.for_attendee(email=GRACE.email).upcoming(),
    "past": lambda tenant: tenant.for_attendee(email=GRACE.email).past(),
    "details": lambda tenant: tenant.details(),
}


@pytest.mark.parametrize("name", LISTS)
def test_what_is_listed_is_the_tenants_own(two: tuple[Tenant, Tenant], name: str) -> None:
    acme, zeta = two
    before = LISTS[name](zeta)
    fill(acme)
    acme.save_host(Host(slug="new", timezone="Europe/London"))
    acme.save_event_type(EventType(slug="new", duration=HALF, hosts=["new"]))
    acme.block(None, BlockedPeriod(start=NOW.date()))
    acme.save_details(replace(acme.details(), name="Changed"))
    assert LISTS[name](zeta) == before


def test_a_sweep_tidies_up_after_its_own_tenant_alone(
    db: Database, two: tuple[Tenant, Tenant], clock: SettableClock
) -> None:
    acme, zeta = two
    fill(acme), fill(zeta)
    clock.move(400 * DAY)
    before = rows(db, "zeta")
    assert acme.sweep().total > 1
    assert rows(db, "zeta") == before
    assert zeta.sweep().total > 1


def test_the_holds_of_another_tenant_fill_no_bound(two: tuple[Tenant, Tenant], monkeypatch: pytest.MonkeyPatch) -> None:
    acme, zeta = two
    monkeypatch.setattr("nxsched.service.wanted.MAX_OPEN_HOLDS", 1)
    acme.place_hold("visit", start=NINE)
    assert zeta.place_hold("visit", start=NINE).status == "held"
    with pytest.raises(PolicyViolation):
        acme.place_hold("visit", start=NINE + HOUR)


def test_two_tenants_may_work_in_one_transaction_of_the_application(db: Database, two: tuple[Tenant, Tenant]) -> None:
    acme, zeta = two
    ours, theirs = fill(acme), fill(zeta)
    with db.app.begin() as connection:
        connection.execute(text(f"SELECT set_config('{TENANT_SETTING}', 'mine', true)"))
        assert acme.bookings(within=connection).items == (ours.booking,)
        assert zeta.bookings(within=connection).items == (theirs.booking,)
        made = zeta.book("visit", start=NINE + 2 * HOUR, attendee=GRACE, within=connection)
        with pytest.raises(NxschedError):
            acme.booking(made.id, within=connection)
        with pytest.raises(NxschedError):
            acme.cancel(theirs.booking.id, within=connection)
        assert setting(connection) == "mine"
    assert zeta.booking(made.id) == made


# --- rows ------------------------------------------------------------------------------------------------------------


def setting(connection: Connection) -> str | None:
    found: str | None = connection.execute(text(f"SELECT current_setting('{TENANT_SETTING}', true)")).scalar()
    return found


def become(connection: Connection, tenant: str) -> None:
    connection.execute(text(f"SELECT set_config('{TENANT_SETTING}', :tenant, true)"), {"tenant": tenant})


def count(connection: Connection, table: Table) -> int:
    return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())  # noqa: S608


def columns(table: Table) -> str:
    """The columns that can be given."""
    return ", ".join(column.name for column in table.columns if column.identity is None and column.computed is None)


def copies(db: Database) -> dict[str, str]:
    """For each table the text of one of its rows, of the tenant zeta, as a record to insert."""
    with db.superuser.connect() as connection:
        return {
            name: connection.execute(
                text(f"SELECT row_to_json(t)::text FROM {table} t WHERE tenant_id = 'zeta' LIMIT 1")  # noqa: S608
            ).scalar_one()
            for name, table in TABLES.items()
        }


def state(connection: Connection, statement: str, **values: Any) -> tuple[str, int]:
    """The SQLSTATE of a statement, and how many rows it touched; nothing of it stays."""
    savepoint = connection.begin_nested()
    try:
        return "", connection.execute(text(statement), values).rowcount
    except DBAPIError as error:
        return str(getattr(error.orig, "sqlstate", None)), 0
    finally:
        savepoint.rollback()


def insert(table: Table) -> str:
    record = f"json_populate_record(NULL::{table}, CAST(:row AS json))"
    return f"INSERT INTO {table} ({columns(table)}) SELECT {columns(table)} FROM {record}"  # noqa: S608


@pytest.fixture
def zeta_filled(db: Database, scheduler: Scheduler, acme: Tenant) -> Tenant:
    """A tenant beside `acme`, both with a row in every table."""
    zeta = scheduler.create_tenant("zeta", name="Zeta")
    furnish(zeta)
    fill(acme)
    fill(zeta)
    with db.superuser.connect() as connection:
        assert [name for name, table in TABLES.items() if not count(connection, table)] == []
    return zeta


def test_there_are_sixteen_tables_and_each_has_its_rights() -> None:
    assert len(TABLES) == 17
    assert TABLES.keys() == RIGHTS.keys() - {"schema_version"}


@pytest.mark.usefixtures("zeta_filled")
@pytest.mark.parametrize("tenant", [None, "", "nobody", "acme"])
def test_rows_of_other_tenants_cannot_be_read_inserted_changed_or_deleted(db: Database, tenant: str | None) -> None:
    records = copies(db)
    with db.app.connect() as connection:
        if tenant is not None:
            become(connection, tenant)
        for name, table in TABLES.items():
            rights = RIGHTS[name][0].split(", ")
            seen = connection.execute(text(f"SELECT DISTINCT tenant_id FROM {table}")).scalars().all()  # noqa: S608
            assert seen == (["acme"] if tenant == "acme" else []), name
            assert state(connection, insert(table), row=records[name])[0] == "42501", name
            allowed = {"UPDATE": "UPDATE" in rights, "DELETE": "DELETE" in rights}
            change = f"UPDATE {table} SET tenant_id = tenant_id WHERE tenant_id = 'zeta'"  # noqa: S608
            assert state(connection, change) == ("" if allowed["UPDATE"] else "42501", 0), name
            delete = f"DELETE FROM {table} WHERE tenant_id = 'zeta'"  # noqa: S608
            assert state(connection, delete) == ("" if allowed["DELETE"] else "42501", 0), name
            move = f"UPDATE {table} SET tenant_id = 'zeta'"  # noqa: S608
            if tenant == "acme" and allowed["UPDATE"]:
                assert state(connection, move)[0] == "42501", name


@pytest.mark.usefixtures("zeta_filled")
def test_a_tenants_own_rows_can_be_read_and_inserted(db: Database) -> None:
    """The counterpart: what is refused above is refused for the tenant alone."""
    records = copies(db)
    with db.app.connect() as connection:
        become(connection, "zeta")
        for name, table in TABLES.items():
            assert count(connection, table) > 0, name
            assert state(connection, insert(table), row=records[name])[0] in {"23505", "23P01", ""}, name


def test_the_tenant_does_not_outlive_its_transaction_on_a_pooled_connection(db: Database) -> None:
    engine = create_engine(db.url(APP_ROLE), pool_size=1, max_overflow=0)

    def process(connection: Connection) -> int:
        return int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())

    with Scheduler(engine) as scheduler:
        with engine.connect() as connection:
            first = process(connection)
        acme = scheduler.create_tenant("acme", name="Acme")
        furnish(acme)
        with pytest.raises(NxschedError):
            acme.host("nobody")
        with engine.connect() as connection:
            assert process(connection) == first
            assert setting(connection) == ""
            assert {count(connection, table) for table in TABLES.values()} == {0}
        with engine.connect() as connection, connection.begin():
            acme.host("ada", within=connection)
            assert setting(connection) == ""
            assert count(connection, TABLES["host"]) == 0
    engine.dispose()


# --- roles -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [APP_ROLE, WORKER_ROLE])
def test_each_role_has_the_rights_that_are_listed_and_no_more(db: Database, role: str) -> None:
    place = (APP_ROLE, WORKER_ROLE).index(role)
    every = (*VERBS, "TRUNCATE", "REFERENCES", "TRIGGER")
    with db.superuser.connect() as connection:
        for table, rights in RIGHTS.items():
            had = {
                right
                for right in every
                if connection.execute(
                    text("SELECT has_table_privilege(:role, :table, :right)"),
                    {"role": role, "table": f"{SCHEMA}.{table}", "right": right},
                ).scalar()
            }
            assert had == set(rights[place].split(", ")), table
        everything = connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'nxsched'"))
        assert set(everything.scalars()) == RIGHTS.keys()
        flags = connection.execute(
            text("SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = :role"),
            {"role": role},
        ).one()
        assert not any(flags)


STATEMENTS = {
    "SELECT": "SELECT tenant_id FROM {table}",
    "INSERT": "{insert}",
    "UPDATE": "UPDATE {table} SET tenant_id = tenant_id",
    "DELETE": "DELETE FROM {table}",
}


@pytest.mark.usefixtures("zeta_filled")
@pytest.mark.parametrize("tenant", [None, "acme"])
@pytest.mark.parametrize("role", [APP_ROLE, WORKER_ROLE])
def test_each_role_does_in_the_rows_what_is_listed_and_no_more(db: Database, role: str, tenant: str | None) -> None:
    """The worker reads tenants and works on events across tenants; all else is done within the one that is set."""
    place = (APP_ROLE, WORKER_ROLE).index(role)
    records = copies(db)
    with db.superuser.connect() as connection:
        total = {name: count(connection, table) for name, table in TABLES.items()}
        own = {
            name: connection.execute(
                text(f"SELECT count(*) FROM {table} WHERE tenant_id = 'acme'")  # noqa: S608
            ).scalar_one()
            for name, table in TABLES.items()
        }
    engine = db.app if place == 0 else db.worker
    with engine.connect() as connection:
        if tenant is not None:
            become(connection, tenant)
        for name, table in TABLES.items():
            for verb in VERBS:
                statement = STATEMENTS[verb].format(table=table, insert=insert(table))
                values = {"row": records[name]} if verb == "INSERT" else {}
                found = state(connection, statement, **values)
                across = place == 1 and (name, verb) in ACROSS_TENANTS
                if verb not in RIGHTS[name][place].split(", ") or verb == "INSERT":
                    expected = ("42501", 0)
                elif across:
                    expected = ("", total[name])
                else:
                    expected = ("", own[name] if tenant else 0)
                if found[0] == "23503" and verb == "DELETE":  # others refer to it: it was found
                    found = ("", expected[1])
                assert found == expected, (name, verb)


# --- secrets ---------------------------------------------------------------------------------------------------------


def test_no_secret_of_a_booking_is_told_to_anyone(db: Database, acme: Tenant, clock: SettableClock) -> None:
    acme.save_event_type(EventType(slug="ask", duration=HALF, hosts=["cyd"], requires_approval=True))
    made = [acme.book("visit", start=NINE, attendee=GRACE), acme.book("ask", start=NINE, attendee=GRACE)]
    hold = acme.place_hold("visit", start=NINE + HOUR)
    made.append(acme.confirm_hold(hold.id, attendee=GRACE))
    acme.release_hold(acme.place_hold("visit", start=NINE + 2 * HOUR).id)
    acme.cancel(made[0].id, reason="ill")
    clock.move(timedelta(days=1))
    acme.sweep()
    with db.superuser.connect() as connection:
        nonces = set(connection.execute(text("SELECT nonce FROM nxsched.booking")).scalars())
        payloads = connection.execute(text("SELECT payload FROM nxsched.outbox_event")).scalars().all()
        trails = connection.execute(text("SELECT changes FROM nxsched.audit_entry")).scalars().all()
    assert len(nonces) == 4
    assert {len(nonce) for nonce in nonces} == {32}
    assert len(payloads) == len(trails) == 8
    shown = [*map(repr, acme.bookings(status=["confirmed", "cancelled", "expired", "released"])), repr(hold)]
    shown += [repr(acme.history(one.id)) for one in made] + [repr(acme), repr(acme.details())]
    shown += map(json.dumps, [*payloads, *trails])
    for said in shown:
        assert "nonce" not in said
        assert not any(nonce in said for nonce in nonces)


def test_an_error_of_the_database_shows_no_values(db: Database) -> None:
    with Scheduler(db.url(APP_ROLE)) as scheduler, scheduler.engine.connect() as connection:
        with pytest.raises(ProgrammingError) as caught:
            connection.execute(text("SELECT :secret FROM nowhere"), {"secret": "correct-horse"})
        assert "correct-horse" not in str(caught.value)


def test_what_fails_in_an_engine_of_the_applications_shows_no_values_either(acme: Tenant, db: Database) -> None:
    secret = uuid4().hex
    engine = create_engine(db.url(APP_ROLE), poolclass=NullPool)
    with Scheduler(engine, clock=SettableClock(NOW), lock_timeout=timedelta(milliseconds=50)) as scheduler:
        theirs = scheduler.tenant("acme")
        with db.app.connect() as ours:
            acme.book("visit", start=NINE + HOUR, attendee=GRACE, within=ours)
            with pytest.raises(LockTimeout) as caught:
                theirs.book("visit", start=NINE + HOUR, attendee=Attendee(name=secret))
            ours.rollback()
    said = "".join(traceback.format_exception(caught.value))
    assert "LockNotAvailable" in said
    assert "SQL parameters hidden" in said
    assert secret not in said


def test_a_number_of_a_host_is_one_hosts_whatever_the_tenant(acme: Tenant, db: Database) -> None:
    """Claims are kept apart by it: one that two tenants share would make the time of one the other's."""
    assert acme.hosts()
    copy = (
        "INSERT INTO nxsched.host (tenant_id, host_no, slug, name, settings, attributes, created_at)"
        " OVERRIDING SYSTEM VALUE"
        " SELECT tenant_id, host_no, 'copy', name, settings, attributes, created_at FROM nxsched.host LIMIT 1"
    )
    with db.superuser.begin() as connection, pytest.raises(IntegrityError, match="host_number_key"):
        connection.execute(text(copy.replace("SELECT tenant_id, host_no", "SELECT 'zeta', host_no")))


def logins(db: Database) -> list[Engine]:
    return [db.app, db.worker, db.owner]


def test_also_the_owner_is_bound_by_the_policies(db: Database, acme: Tenant) -> None:
    assert acme.hosts()
    for engine in logins(db):
        with engine.connect() as connection:
            assert count(connection, TABLES["host"]) == 0
