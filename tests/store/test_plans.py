"""How the database goes about it with a million bookings: nothing that grows is read from end to end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.pool import NullPool

import servers
from nxsched import (
    Attendee,
    BlockedPeriod,
    EventType,
    Host,
    Limit,
    MessagePreferences,
    Reminder,
    Scheduler,
    SettableClock,
    Tenant,
    WeeklyHours,
)
from nxsched.embedded import APP_ROLE, WORKER_ROLE, EmbeddedServer
from store.conftest import DAY, HOUR, NOW
from store.recording import nodes, plan, recorded

pytestmark = pytest.mark.slow

QUARTER = timedelta(minutes=15)
GRACE = Attendee(name="Grace", email="grace@example.test", reference="user-7")

GROWING = {
    "claim",
    "booking",
    "occurrence",
    "busy_time",
    "audit_entry",
    "outbox_event",
    "reminder",
    "webhook_delivery",
    "idempotency_key",
    "blocked_period",
    "message_preference",
}
"""The tables that time fills; hosts and event types are as many as there are."""

CHANGES = {"book plain", "confirm_hold", "release_hold", "cancel", "reschedule", "update", "complete", "book a seat"}
"""Actions that change few rows, each found by its key."""

HOSTS = 50


@dataclass(frozen=True)
class Shape:
    """How many tenants, and bookings of one host: one an hour, three fifths of them in the past."""

    tenants: int
    each: int


SHAPES = {"20 tenants": Shape(20, 1000), "1 tenant": Shape(1, 4000)}
"""A million bookings of many tenants, of whom each has few; and one tenant who has all of them."""

FILL = (
    # Hosts and event types of the other tenants, as many as the first has.
    """
    INSERT INTO nxsched.tenant (tenant_id, name, settings, created_at)
    SELECT 'tenant-' || t, 'Tenant', '{}', now() FROM generate_series(2, :tenants) AS t
    """,
    """
    INSERT INTO nxsched.host (tenant_id, slug, name, settings, attributes, created_at)
    SELECT 'tenant-' || t, h.slug, h.name, h.settings, h.attributes, h.created_at
    FROM generate_series(2, :tenants) AS t, nxsched.host h WHERE h.tenant_id = 'tenant-1'
    """,
    """
    INSERT INTO nxsched.event_type (tenant_id, slug, name, settings, reach_before, reach_after, created_at)
    SELECT 'tenant-' || t, e.slug, e.name, e.settings, e.reach_before, e.reach_after, e.created_at
    FROM generate_series(2, :tenants) AS t, nxsched.event_type e WHERE e.tenant_id = 'tenant-1'
    """,
    """
    CREATE TABLE public.made AS
    SELECT gen_random_uuid() AS id, h.tenant_id, h.host_no, e.event_type_no, n,
        CAST(:now AS timestamptz) + make_interval(hours => n - :each * 3 / 5) AS at,
        CASE WHEN n % 10 = 0 THEN 'cancelled' WHEN n < :each * 3 / 5 THEN 'completed'
            WHEN n % 100 = 1 THEN 'pending' WHEN n % 100 = 2 THEN 'held' ELSE 'confirmed' END AS status
    FROM nxsched.host h JOIN nxsched.event_type e ON e.tenant_id = h.tenant_id AND e.slug = 'visit',
        generate_series(1, :each) AS n
    """,
    """
    INSERT INTO nxsched.occurrence (tenant_id, id, event_type_no, starts_at, ends_at, active, held_until)
    SELECT tenant_id, id, event_type_no, at, at + interval '30 minutes', status <> 'cancelled',
        CASE WHEN status IN ('held', 'pending') THEN at END FROM public.made
    """,
    """
    INSERT INTO nxsched.claim
        (tenant_id, occurrence_id, host_no, place, busy_from, busy_until, active, held_until, claimed_at)
    SELECT tenant_id, id, host_no, 1, at, at + interval '30 minutes', status <> 'cancelled',
        CASE WHEN status IN ('held', 'pending') THEN at END, at - interval '1 day' FROM public.made
    """,
    """
    INSERT INTO nxsched.booking (tenant_id, id, occurrence_id, event_type_no, status, starts_at, ends_at, seats,
        attendee_name, attendee_email, attendee_reference, answers, metadata, reference, series_id, sequence, version,
        moves, nonce, created_at, expires_at)
    SELECT tenant_id, id, id, event_type_no, status, at, at + interval '30 minutes', 1, 'Somebody',
        'person' || n % 5000 || '@example.test', 'user-' || n % 5000, '{}', '{}', 'r' || n,
        CASE WHEN n % 20 = 3 THEN id END, 0, 1, 0, 'nonce', at - interval '1 day',
        CASE WHEN status IN ('held', 'pending') THEN at END FROM public.made
    """,
    """
    INSERT INTO nxsched.audit_entry (tenant_id, booking_id, version, action, changes, at)
    SELECT tenant_id, id, 1, 'book', '{}', at FROM public.made
    """,
    """
    INSERT INTO nxsched.outbox_event
        (tenant_id, id, booking_id, version, kind, payload, occurred_at, due_at, done_at)
    SELECT tenant_id, id, id, 1, 'booking.confirmed', '{}', at, at, CASE WHEN n % 100 > 0 THEN at END FROM public.made
    """,
    """
    INSERT INTO nxsched.reminder
        (tenant_id, id, booking_id, version, kind, recipient, before, occurred_at, due_at, done_at, ended)
    SELECT tenant_id, gen_random_uuid(), id, 1, 'booking.reminder', 'attendee', 'P1D', at - interval '2 days',
        at - interval '1 day', CASE WHEN at < CAST(:now AS timestamptz) THEN at END,
        CASE WHEN at < CAST(:now AS timestamptz) THEN 'sent' END FROM public.made
    """,
    """
    INSERT INTO nxsched.webhook_delivery
        (tenant_id, id, webhook_id, event_id, booking_id, version, kind, occurred_at, due_at, done_at)
    SELECT tenant_id, gen_random_uuid(), gen_random_uuid(), id, id, 1, 'booking.confirmed', at, at, at FROM public.made
    """,
    """
    INSERT INTO nxsched.message_preference (tenant_id, who, definition, saved_at)
    SELECT 'tenant-' || t, 'person' || n || '@example.test', '{"reminders": [{"hours": 2}]}', CAST(:now AS timestamptz)
    FROM generate_series(1, :tenants) AS t, generate_series(1, 5000) AS n
    """,
    """
    INSERT INTO nxsched.idempotency_key (tenant_id, key, fingerprint, result, created_at, expires_at)
    SELECT tenant_id, id::text, 'f', '{}', at, at + interval '1 day' FROM public.made WHERE n % 10 = 1
    """,
    """
    INSERT INTO nxsched.busy_time (tenant_id, host_no, source, busy_from, busy_until)
    SELECT tenant_id, host_no, 'cal', at + interval '31 minutes', at + interval '40 minutes'
    FROM public.made WHERE n % 5 = 1
    """,
    """
    INSERT INTO nxsched.blocked_period (tenant_id, id, host_no, definition, reach_from, reach_until, created_at)
    SELECT tenant_id, id, CASE WHEN n % 500 > 0 THEN host_no END,
        jsonb_build_object('start', at, 'end', at + interval '1 minute'), at - interval '3 days',
        at + interval '3 days', at
    FROM public.made WHERE n % 50 = 0
    """,
    "DROP TABLE public.made",
)


@dataclass(frozen=True)
class Full:
    """A database with all of it, and the clock that is read there."""

    shape: Shape
    scheduler: Scheduler
    worker: Engine
    clock: SettableClock


@pytest.fixture(scope="module", params=SHAPES)
def full(server: EmbeddedServer, request: pytest.FixtureRequest) -> Iterator[Full]:
    """A database with many bookings, of fifty hosts of each tenant."""
    with _filled(server, SHAPES[request.param]) as found:
        yield found


@pytest.fixture(scope="module")
def young(server: EmbeddedServer) -> Iterator[Full]:
    """A database with 12,500 bookings of one tenant: so few that to read them all seems cheap to a planner."""
    with _filled(server, Shape(1, 250)) as found:
        yield found


@contextmanager
def _filled(server: EmbeddedServer, shape: Shape) -> Iterator[Full]:
    with servers.database(server) as name:
        url = server.url(APP_ROLE, name)
        clock = SettableClock(NOW)
        worker = create_engine(server.url(WORKER_ROLE, name), poolclass=NullPool)
        with Scheduler(url, worker_url=worker, clock=clock) as scheduler:
            _furnish(scheduler)
            superuser = Scheduler(server.socket_uri("postgres", name))
            with superuser.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                # The rows fit together: to look up every reference would take longer than all the rest.
                connection.exec_driver_sql("SET session_replication_role = replica")
                for statement in FILL:
                    values = {"tenants": shape.tenants, "now": NOW, "each": shape.each}
                    used = {key: value for key, value in values.items() if f":{key}" in statement}
                    connection.execute(text(statement), used)
                connection.exec_driver_sql("VACUUM ANALYZE")
                found = connection.execute(text("SELECT count(*) FROM nxsched.booking")).scalar_one()
                assert found == shape.tenants * HOSTS * shape.each
            superuser.close()
            yield Full(shape, scheduler, worker, clock)


def _furnish(scheduler: Scheduler) -> Tenant:
    """A tenant, with hosts around the clock, and event types of one host, of all, and with all features."""
    tenant = scheduler.create_tenant("tenant-1", name="Acme Ltd")
    days = [WeeklyHours(days="mon-sun", start="00:00", end="24:00")]
    slugs = [f"h{n:02}" for n in range(HOSTS)]
    limits = [Limit(per="week", count=10_000)]  # there is room
    with scheduler.engine.begin() as within:
        for slug in slugs:
            tenant.save_host(Host(slug=slug, timezone="Europe/London", weekly_hours=days, limits=limits), within=within)
        for slug, hosts in (("visit", slugs[:1]), ("any", slugs)):
            event_type = EventType(slug=slug, duration=QUARTER, hosts=hosts, limits=limits)
            tenant.save_event_type(event_type, within=within)
        tenant.save_event_type(EventType(slug="plain", duration=QUARTER, hosts=slugs[:1]), within=within)
        seats = EventType(slug="seats", duration=QUARTER, hosts=slugs, capacity=5, limits=limits)
        tenant.save_event_type(seats, within=within)
    return tenant


def _actions(  # noqa: PLR0915 - all of them
    tenant: Tenant, clock: SettableClock
) -> Iterator[tuple[str, Callable[[], object]]]:
    """All that an application does, each with a name; made one after the other, since some need what others made."""
    yield "find_slots", lambda: tenant.find_slots("plain", start=NOW, end=NOW + 7 * DAY)
    yield "find_slots of a pool with limits", lambda: tenant.find_slots("any", start=NOW, end=NOW + 7 * DAY)
    yield "find_slots with seats", lambda: tenant.find_slots("seats", start=NOW, end=NOW + 60 * DAY)
    one = tenant.bookings(host="h00", status="confirmed", start=NOW, limit=1).items[0]
    yield (
        "find_slots with moving",
        lambda: tenant.find_slots("visit", start=NOW, end=NOW + 7 * DAY, moving=one.id, duration=QUARTER),
    )
    yield "explain", lambda: tenant.explain("seats", start=one.start)
    yield "explain of a start long ago", lambda: tenant.explain("any", start=NOW - 20 * DAY)

    at = [slot.start for slot in tenant.find_slots("visit", start=NOW, end=NOW + 7 * DAY)][:20]
    for i, slug in enumerate(("plain", "visit", "any")):
        tenant.place_hold(slug, start=at[i], ttl=timedelta(minutes=1))
    clock.move(timedelta(minutes=2))
    for i, slug in enumerate(("plain", "visit", "any")):
        yield f"book {slug}", partial(tenant.book, slug, start=at[i], attendee=GRACE, idempotency_key=f"book {slug}")
    holds = [tenant.place_hold("visit", start=at[3 + i]) for i in range(3)]
    yield "place_hold", lambda: tenant.place_hold("any", start=at[6], idempotency_key="hold")
    yield "confirm_hold", lambda: tenant.confirm_hold(holds[0].id, attendee=GRACE, idempotency_key="confirm")
    yield "release_hold", lambda: tenant.release_hold(holds[1].id, idempotency_key="release")
    clock.move(DAY / 24)
    yield "confirm_hold if free", lambda: tenant.confirm_hold(holds[2].id, attendee=GRACE, if_free=True)
    yield "cancel", lambda: tenant.cancel(one.id, idempotency_key="cancel")
    two = tenant.book("visit", start=at[7], attendee=GRACE)
    yield "reschedule", lambda: tenant.reschedule(two.id, start=at[8], idempotency_key="move")
    three = tenant.book("any", start=at[10], attendee=GRACE)
    span: dict[str, Any] = {"start": NOW, "end": NOW + 7 * DAY}
    yield "find_slots of a pool with moving", lambda: tenant.find_slots("any", moving=three.id, **span)
    yield "update", lambda: tenant.update(two.id, location="Room 7")
    yield "complete", lambda: tenant.complete(two.id)
    tenant.book("seats", start=at[9], attendee=GRACE)
    yield "book a seat", lambda: tenant.book("seats", start=at[9], attendee=GRACE)

    yield "booking", lambda: tenant.booking(one.id)
    yield "history", lambda: tenant.history(one.id)
    yield "bookings", tenant.bookings
    yield "bookings from", lambda: tenant.bookings(start=NOW)
    yield "bookings until", lambda: tenant.bookings(end=NOW)
    yield "bookings of a week", lambda: tenant.bookings(start=NOW, end=NOW + 7 * DAY)
    yield "bookings of a host", lambda: tenant.bookings(host="h07")
    yield "bookings of a host from", lambda: tenant.bookings(host="h07", start=NOW)
    yield "bookings of nobody", lambda: tenant.bookings(host="nobody")
    yield "bookings of an event type", lambda: tenant.bookings(event_type="visit")
    yield "bookings of an event type that has none", lambda: tenant.bookings(event_type="seats")
    yield "bookings of an address", lambda: tenant.bookings(attendee="Person7@example.test")
    yield "bookings of a reference", lambda: tenant.bookings(attendee="user-7")
    yield "bookings of a series", lambda: tenant.bookings(series=str(uuid4()))
    yield "bookings in a state", lambda: tenant.bookings(status="pending")
    yield "bookings held", lambda: tenant.bookings(status="held")
    yield "bookings with words", lambda: tenant.bookings(text="r77", start=NOW, end=NOW + 7 * DAY)
    page = tenant.bookings(limit=1000)
    yield "bookings of the next page", lambda: tenant.bookings(after=page.after)
    yield "holds", tenant.holds
    yield "holds of a host", lambda: tenant.holds(host="h07")

    yield "block", lambda: tenant.block("h00", BlockedPeriod(start=NOW, end=NOW + HOUR))
    yield "blocked_periods", lambda: tenant.blocked_periods("h00")
    yield "closures", tenant.blocked_periods
    yield "unblock", lambda: tenant.unblock(str(tenant.blocked_periods("h00")[0].id))
    busy = [(NOW, NOW + HOUR)]
    yield "replace_busy", lambda: tenant.replace_busy("h00", source="cal", start=NOW, end=NOW + DAY, periods=busy)
    yield "busy", lambda: tenant.busy("h00", start=NOW, end=NOW + DAY)
    wish = MessagePreferences(reminders=[Reminder(hours=3)])
    yield "preferences", lambda: tenant.preferences.get("person7@example.test")
    yield "prefer", lambda: tenant.preferences.save("person7@example.test", wish)
    yield "prefer as a host", lambda: tenant.preferences.save("host:h07", wish)
    wisher = replace(GRACE, email="person8@example.test")
    yield "book with a wish", lambda: tenant.book("any", start=at[11], attendee=wisher)
    yield "sweep", tenant.sweep


def scanned(top: Mapping[str, Any]) -> set[str]:
    """The growing tables that a plan reads from end to end."""
    return {node["Relation Name"] for node in nodes(top) if node["Node Type"] == "Seq Scan"} & GROWING


def looked_at(top: Mapping[str, Any]) -> int:
    """The most rows of a growing table that one node of a plan has looked at, whether it liked them or not."""
    return max(
        (
            (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
            for node in nodes(top)
            if node.get("Relation Name") in GROWING
        ),
        default=0,
    )


def scans(engine: Engine, action: Callable[[], object]) -> list[str]:
    """The statements of an action that read a growing table from end to end; all are explained as they were sent."""
    with recorded(engine) as found:
        action()
    ours = {one.sql: one for one in found if "nxsched." in one.sql and "set_config" not in one.sql}
    assert ours
    with engine.connect() as connection:
        connection.execute(text("SELECT set_config('nxsched.tenant_id', 'tenant-1', true)"))
        seen = [(one, scanned(plan(connection, one))) for one in ours.values()]
    return [f"{sorted(tables)}: {one.sql}" for one, tables in seen if tables]


def test_nothing_that_grows_is_read_from_end_to_end(full: Full) -> None:
    tenant = full.scheduler.tenant("tenant-1")
    found = {name: scans(full.scheduler.engine, action) for name, action in _actions(tenant, full.clock)}
    assert len(found) > 40
    assert {name: sqls for name, sqls in found.items() if sqls} == {}


def test_a_change_looks_up_its_rows_by_their_keys_where_there_are_few_others(young: Full) -> None:
    tenant = young.scheduler.tenant("tenant-1")
    actions = _actions(tenant, young.clock)
    found = {name: scans(young.scheduler.engine, action) for name, action in actions if name in CHANGES}
    assert found.keys() == CHANGES
    assert {name: sqls for name, sqls in found.items() if sqls} == {}


def test_the_worker_reads_nothing_that_grows_from_end_to_end_either(full: Full) -> None:
    assert scans(full.worker, full.scheduler.sweep) == []


def test_the_sweep_looks_at_what_is_due_and_at_little_else(full: Full) -> None:
    with recorded(full.scheduler.engine) as found:
        full.scheduler.tenant("tenant-1").sweep()
    ours = {one.sql: one for one in found if "SKIP LOCKED" in one.sql}
    assert len(ours) == 2  # bookings that end by themselves, and keys
    with full.scheduler.engine.connect() as connection:
        connection.execute(text("SELECT set_config('nxsched.tenant_id', 'tenant-1', true)"))
        most = [looked_at(plan(connection, one, "ANALYZE")) for one in ours.values()]
    assert max(most) <= 1000, most


def test_who_is_looked_for_by_an_address_is_found_without_looking_at_all_others(full: Full) -> None:
    with recorded(full.scheduler.engine) as found:
        full.scheduler.tenant("tenant-1").bookings(attendee="person7@example.test")
    (one,) = (one for one in found if "attendee_address" in one.sql and "set_config" not in one.sql)
    with full.scheduler.engine.connect() as connection:
        connection.execute(text("SELECT set_config('nxsched.tenant_id', 'tenant-1', true)"))
        assert looked_at(plan(connection, one, "ANALYZE")) <= 1000
