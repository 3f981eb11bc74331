"""What the benchmarks of the store stand on: an embedded server, tenants with hosts, and bookings by the million."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
from inputs import scenario

from nxsched import Attendee, EventType, Host, Scheduler, Tenant, WeeklyHours
from nxsched.domain import forms
from nxsched.embedded import APP_ROLE, EmbeddedServer, start
from nxsched.service.ids import new_id

GRACE = Attendee(name="Grace", email="grace@example.test", timezone="America/New_York", reference="user-7")
HALF = timedelta(minutes=30)
BEGIN = datetime(2030, 1, 7, tzinfo=UTC)
"""A Monday far enough ahead that every start is in the future."""

WEEKS = timedelta(weeks=6)
YEARS = timedelta(days=20_000)
"""Between six weeks before `BEGIN` and so long after it, nobody books but the benchmark."""

_FILL = """
WITH placed AS (
    SELECT gen_random_uuid() AS id, h.host_no, e.event_type_no,
        CASE WHEN n %% 2 = 0 THEN %(until)s - (n / 2) * interval '30 minutes'
            ELSE %(from)s + (n / 2) * interval '30 minutes' END AS starts_at
    FROM (
        SELECT host_no, row_number() OVER (ORDER BY host_no) AS place FROM nxsched.host WHERE tenant_id = %(tenant)s
    ) h
    JOIN nxsched.event_type e ON e.tenant_id = %(tenant)s AND e.slug = 'visit-' || (h.place - 1)
    CROSS JOIN generate_series(%(first)s::int, %(last)s::int) AS n
), made AS (
    SELECT *, starts_at + interval '30 minutes' AS ends_at FROM placed
), occurred AS (
    INSERT INTO nxsched.occurrence (tenant_id, id, event_type_no, starts_at, ends_at, active)
    SELECT %(tenant)s, id, event_type_no, starts_at, ends_at, true FROM made
), claimed AS (
    INSERT INTO nxsched.claim (tenant_id, occurrence_id, host_no, place, busy_from, busy_until, active, claimed_at)
    SELECT %(tenant)s, id, host_no, 1, starts_at, ends_at, true, starts_at FROM made
), booked AS (
    INSERT INTO nxsched.booking (tenant_id, id, occurrence_id, event_type_no, status, starts_at, ends_at, seats,
        attendee_name, attendee_email, answers, metadata, sequence, version, moves, nonce, created_at)
    SELECT %(tenant)s, id, id, event_type_no, 'confirmed', starts_at, ends_at, 1, 'Grace', 'grace@example.test',
        '{}', '{}', 0, 1, 0, 'none', starts_at FROM made
), audited AS (
    INSERT INTO nxsched.audit_entry (tenant_id, booking_id, version, action, changes, at)
    SELECT %(tenant)s, id, 1, 'book', '{}', starts_at FROM made
)
INSERT INTO nxsched.outbox_event (tenant_id, id, booking_id, version, kind, payload, occurred_at, due_at, done_at)
SELECT %(tenant)s, id, id, 1, 'booking.confirmed', '{}', starts_at, starts_at, starts_at FROM made
"""


_BOOKED = """
WITH made AS (
    SELECT %s::uuid AS id, h.tenant_id, h.host_no, e.event_type_no, %s::timestamptz AS starts_at,
        %s::timestamptz AS ends_at
    FROM nxsched.host h JOIN nxsched.event_type e USING (tenant_id) WHERE h.tenant_id = %s AND h.slug = %s
), occurred AS (
    INSERT INTO nxsched.occurrence (tenant_id, id, event_type_no, starts_at, ends_at, active)
    SELECT tenant_id, id, event_type_no, starts_at, ends_at, true FROM made
), claimed AS (
    INSERT INTO nxsched.claim (tenant_id, occurrence_id, host_no, place, busy_from, busy_until, active, claimed_at)
    SELECT tenant_id, id, host_no, 1, starts_at, ends_at, true, starts_at FROM made
)
INSERT INTO nxsched.booking (tenant_id, id, occurrence_id, event_type_no, status, starts_at, ends_at, seats,
    attendee_name, answers, metadata, sequence, version, moves, nonce, created_at)
SELECT tenant_id, id, id, event_type_no, 'confirmed', starts_at, ends_at, 1, 'Grace', '{}', '{}', 0, 1, 0, 'none',
    starts_at FROM made
"""


@contextmanager
def server() -> Iterator[EmbeddedServer]:
    """The embedded server, as anybody gets it, in a folder that goes afterwards."""
    with (
        TemporaryDirectory(prefix="nxsched-bench-", ignore_cleanup_errors=True) as folder,
        Scheduler.embedded(Path(folder) / "data"),
    ):
        running = start(Path(folder) / "data")
        try:
            yield running
        finally:
            running.close()


def application(running: EmbeddedServer) -> str:
    """Where an application logs in; psycopg takes it as well."""
    return running.socket_uri(APP_ROLE, "nxsched")


def superuser(running: EmbeddedServer) -> str:
    """Where all rows can be seen, past every policy."""
    return running.socket_uri("postgres", "nxsched")


def always_open(scheduler: Scheduler, tenant: str, hosts: int) -> Tenant:
    """A tenant whose hosts are open day and night, each with an event type of its own, `visit-0` and so on."""
    made = scheduler.create_tenant(tenant, name=tenant, sender="bookings@acme.test")
    hours = [WeeklyHours(days="mon-sun", start="00:00", end="24:00")]
    for n in range(hosts):
        made.save_host(Host(slug=f"host-{n}", name=f"Host {n}", timezone="Europe/London", weekly_hours=hours))
        made.save_event_type(EventType(slug=f"visit-{n}", name="Visit", duration=HALF, hosts=[f"host-{n}"]))
    return made


def case(running: EmbeddedServer, scheduler: Scheduler, tenant: str, *, hosts: int) -> Tenant:
    """A case of the calculator's benchmark as a tenant: its busy blocks are bookings, or outside where they overlap."""
    asked: Any = scenario(hosts=hosts)
    booked: dict[str, list[tuple[datetime, datetime]]] = {}
    made = scheduler.create_tenant(tenant, name=tenant)
    first, last = (datetime.fromisoformat(asked[end]) for end in ("from", "until"))
    for slug, told in asked["hosts"].items():
        made.save_host(forms.host(slug, forms.host_keys(told, slug)))
        busy = sorted((datetime.fromisoformat(begin), datetime.fromisoformat(end)) for begin, end in told["busy"])
        booked[slug] = []
        for begin, end in busy:
            if not booked[slug] or booked[slug][-1][1] <= begin:
                booked[slug].append((begin, end))
        outside = [one for one in busy if one not in booked[slug]]
        made.replace_busy(slug, source="bench", start=first, end=last, periods=outside)
    made.save_event_type(forms.event_type("event_type", asked["event_type"]))
    with psycopg.connect(superuser(running)) as connection, connection.cursor() as cursor:
        rows = [(new_id(), *one, tenant, slug) for slug, times in booked.items() for one in times]
        cursor.executemany(_BOOKED, rows)
    vacuum(running)
    return made


def fill(running: EmbeddedServer, tenant: str, first: int, last: int) -> None:
    """Bookings of each host of a tenant, one after the other: half of them in the past, half in years to come.

    They come as close as a week to the time that the benchmark works in.
    """
    with psycopg.connect(superuser(running)) as connection:
        values = {"tenant": tenant, "until": BEGIN - WEEKS, "from": BEGIN + YEARS, "first": first, "last": last}
        connection.execute(_FILL, values)
    vacuum(running)


def vacuum(running: EmbeddedServer) -> None:
    """Let the server know its tables, and be done with what was written."""
    with psycopg.connect(superuser(running), autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")
