"""For applications that test: a pytest plugin with a throw-away scheduler for each test, a clock, and its events.

Installed with the extra `testing`, and switched on by `pytest_plugins = ["nxsched.testing"]` in `conftest.py`. A run of
the tests starts one embedded PostgreSQL, migrates one database, and copies it for each test that asks for it: some
milliseconds. For pytest, which would warn where it is imported before it is a plugin: PYTEST_DONT_REWRITE.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, Final, Protocol

from nxsched.clock import SettableClock
from nxsched.domain.bookings import Attendee
from nxsched.domain.checks import same_json
from nxsched.domain.event_types import EventType
from nxsched.domain.events import plain
from nxsched.domain.hosts import Host, WeeklyHours
from nxsched.errors import InvalidInput, MissingExtra

try:
    import psycopg
    import pytest

    from nxsched.embedded import APP_ROLE, OWNER, WORKER_ROLE, start
except ImportError as _missing:
    raise MissingExtra(what="nxsched.testing", extra="testing") from _missing

from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from nxsched.async_scheduler import AsyncScheduler
from nxsched.async_tenant import AsyncTenant
from nxsched.scheduler import Scheduler
from nxsched.service.unit import Call
from nxsched.store import migrate
from nxsched.store.async_connect import create_async_engine
from nxsched.tenant import Tenant

NOW: Final = datetime(2026, 3, 2, 8, tzinfo=UTC)
"""Where the clock of a test stands: a Monday in winter, an hour before the hosts of `furnish` begin."""

SECRETS: Final = ("for tests: not a secret at all",)
"""What the schedulers of tests sign links with."""

_numbers = count()


class Server(Protocol):
    """A PostgreSQL server with the three roles, on which databases can be made."""

    def url(self, role: str, database: str) -> str:
        """A URL for SQLAlchemy."""

    def socket_uri(self, role: str, database: str) -> str:
        """The same for libpq."""


def make_template(server: Server, name: str) -> None:
    """Make a migrated database that others are copied from."""
    with psycopg.connect(server.socket_uri("postgres", "postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}_new OWNER {OWNER}")
        engine = create_engine(server.url(OWNER, f"{name}_new"), poolclass=NullPool)
        with engine.begin() as owner:
            migrate.upgrade(owner, app_role=APP_ROLE, worker_role=WORKER_ROLE)
            owner.exec_driver_sql(f"GRANT CREATE ON SCHEMA public TO {APP_ROLE}")  # as in an embedded database
        connection.execute(f"ALTER DATABASE {name}_new RENAME TO {name}")


@contextmanager
def copied(server: Server, template: str, name: str) -> Iterator[str]:
    """A copy of a database, for a while."""
    with psycopg.connect(server.socket_uri("postgres", "postgres"), autocommit=True) as connection:
        strategy = " STRATEGY FILE_COPY" if connection.info.server_version >= _WITH_STRATEGIES else ""
        # Where nothing has to reach the disk, a copy of the files is several times as fast as one through the log.
        connection.execute(f"CREATE DATABASE {name} OWNER {OWNER} TEMPLATE {template}{strategy}")
        try:
            yield name
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


_WITH_STRATEGIES: Final = 15_00_00


def forget_the_disk(server: Server) -> None:
    """Let nothing reach the disk: the server does not outlive the tests."""
    with psycopg.connect(server.socket_uri("postgres", "postgres"), autocommit=True) as connection:
        for setting in ("fsync", "full_page_writes", "autovacuum"):
            connection.execute(f"ALTER SYSTEM SET {setting} = off")
        connection.execute("SELECT pg_reload_conf()")


@dataclass(frozen=True, slots=True)
class Database:
    """A database of one test, migrated and empty, which is gone afterwards."""

    server: Server = field(repr=False)
    name: str

    def url(self, role: str = APP_ROLE) -> str:
        """A URL for SQLAlchemy, for the application's role unless it is `nxsched_worker` or `nxsched_owner`."""
        return self.server.url(role, self.name)

    def scheduler(self, **options: Any) -> Scheduler:
        """A scheduler on it, on the application's role, that keeps no connections. `options` are those of the class."""
        engines = [create_engine(self.url(role), poolclass=NullPool) for role in (APP_ROLE, WORKER_ROLE)]
        return Scheduler(engines[0], **{"worker_url": engines[1], "secrets": SECRETS, **options})

    def async_scheduler(self, **options: Any) -> AsyncScheduler:
        """The same for asyncio; since it keeps no connections, it need not be closed, and any event loop may use it."""
        engines = [create_async_engine(self.url(role), poolclass=NullPool) for role in (APP_ROLE, WORKER_ROLE)]
        return AsyncScheduler(engines[0], **{"worker_url": engines[1], "secrets": SECRETS, **options})


@pytest.fixture(scope="session")
def nxsched_server() -> Iterator[Server]:
    """An embedded PostgreSQL of this process of the tests, with a migrated database to copy from."""
    folder = Path(tempfile.mkdtemp(prefix="nxsched-testing-"))
    server = start(folder / "server")
    try:
        forget_the_disk(server)
        make_template(server, "template")
        yield server
    finally:
        server.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def nxsched_database(nxsched_server: Server) -> Iterator[Database]:
    """A migrated database of this test alone."""
    with copied(nxsched_server, "template", f"test_{next(_numbers)}") as name:
        yield Database(nxsched_server, name)


@pytest.fixture
def nxsched_clock() -> SettableClock:
    """The clock of the test's schedulers: it stands at `NOW` until it is set or moved."""
    return SettableClock(NOW)


@pytest.fixture
def nxsched_scheduler(nxsched_database: Database, nxsched_clock: SettableClock) -> Iterator[Scheduler]:
    """A scheduler of this test alone, with the clock `nxsched_clock`."""
    with nxsched_database.scheduler(clock=nxsched_clock) as scheduler:
        yield scheduler


@pytest.fixture
def nxsched_async_scheduler(nxsched_database: Database, nxsched_clock: SettableClock) -> AsyncScheduler:
    """The same for asyncio, on the same database; it need not be closed."""
    return nxsched_database.async_scheduler(clock=nxsched_clock)


# Factories: what is not said is as good as anything.


def a_host(slug: str = "ada", **said: Any) -> Host:
    """A host in London who works from Monday to Friday, 9 to 17."""
    hours = [WeeklyHours(days="mon-fri", start="09:00", end="17:00")]
    usual = {"name": slug.title(), "email": f"{slug}@example.test", "timezone": "Europe/London", "weekly_hours": hours}
    return Host(slug=slug, **{**usual, **said})


def an_event_type(slug: str = "visit", **said: Any) -> EventType:
    """An event type of half an hour with ada."""
    return EventType(slug=slug, **{"name": slug.title(), "duration": timedelta(minutes=30), "hosts": ["ada"], **said})


def an_attendee(name: str = "Grace", **said: Any) -> Attendee:
    """An attendee with an e-mail address."""
    return Attendee(name=name, **{"email": f"{'.'.join(name.lower().split())}@example.test", **said})


def furnish(tenant: Tenant, *hosts: Host, event_types: Sequence[EventType] = ()) -> Tenant:
    """Give a tenant hosts and event types: those that are named, and what they need.

    That is a host for each that an event type names, and a visit of half an hour with any of the hosts; ada's, if
    nothing is named. Raises `InvalidInput` for a tenant of asyncio, which `async_furnish` takes.
    """
    _no_coroutines(tenant, "async_furnish")
    their_hosts, their_event_types = _furniture(hosts, event_types)
    for host in their_hosts:
        tenant.save_host(host)
    for event_type in their_event_types:
        tenant.save_event_type(event_type)
    return tenant


async def async_furnish(tenant: AsyncTenant, *hosts: Host, event_types: Sequence[EventType] = ()) -> AsyncTenant:
    """The same for asyncio."""
    their_hosts, their_event_types = _furniture(hosts, event_types)
    for host in their_hosts:
        await tenant.save_host(host)
    for event_type in their_event_types:
        await tenant.save_event_type(event_type)
    return tenant


def _furniture(hosts: Sequence[Host], event_types: Sequence[EventType]) -> tuple[list[Host], list[EventType]]:
    have = [one.slug for one in hosts]
    needed = {slug: None for one in event_types for group in one.groups for slug in group.members if slug not in have}
    if not (have or needed):
        needed = {"ada": None}
    found = [*hosts, *map(a_host, needed)]
    return found, [*event_types] or [an_event_type(hosts=[one.slug for one in found])]


def _no_coroutines(tenant: object, twin: str) -> None:
    if isinstance(tenant, AsyncTenant):
        raise InvalidInput(field="tenant", reason=f"is an AsyncTenant: await {twin}(…)")


# Outbox events: what the application will be told.


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedEvent:
    """An outbox event as it stands in the database: `payload` is what a message is written from."""

    kind: str
    booking_id: str
    version: int
    payload: dict[str, Any] = field(repr=False)


def recorded_events(tenant: Tenant, booking_id: str | None = None) -> list[RecordedEvent]:
    """The outbox events of a tenant, or of one booking, as they happened; of one moment, by booking and version."""
    _no_coroutines(tenant, "async_recorded_events")
    return tenant._units.run(_events, booking_id, Call(tenant=tenant.id))  # noqa: SLF001 - our own


async def async_recorded_events(tenant: AsyncTenant, booking_id: str | None = None) -> list[RecordedEvent]:
    """The same for asyncio."""
    return await tenant._units.run(_events, booking_id, Call(tenant=tenant.id))  # noqa: SLF001 - our own


def assert_events(found: Sequence[RecordedEvent], *kinds: str, **holds: Any) -> None:
    """Fail unless the events are of these kinds, in this order, and the last one's booking holds what is named.

    `assert_events(recorded_events(acme), "booking.confirmed", "booking.cancelled", status="cancelled")`. Fields of a
    `Booking` may be given as it has them, or as JSON has them.
    """
    __tracebackhide__ = True
    have = [one.kind for one in found]
    if have != [*kinds]:
        raise AssertionError(f"expected the events {', '.join(kinds) or 'none'}; there are {', '.join(have) or 'none'}")
    booking = found[-1].payload["booking"] if found else {}
    for name, wanted in holds.items():
        if name not in booking:
            raise AssertionError(f"the booking of an event has no {name!r}; it has {', '.join(sorted(booking))}")
        if booking[name] != wanted and not same_json(booking[name], plain(wanted)):
            raise AssertionError(f"{kinds[-1]}: expected {name} to be {wanted!r}, and it is {booking[name]!r}")


_EVENTS = text("""
SELECT kind, booking_id::text AS booking_id, version, payload FROM nxsched.outbox_event
WHERE tenant_id = :tenant AND (CAST(:booking AS uuid) IS NULL OR booking_id = CAST(:booking AS uuid))
ORDER BY CASE WHEN :booking IS NOT NULL THEN version END, occurred_at, booking_id, version
""")


def _events(connection: Any, booking_id: str | None, tools: Any) -> list[RecordedEvent]:  # noqa: ANN401 - as every query
    rows = connection.execute(_EVENTS, {"tenant": tools.tenant, "booking": booking_id})
    return [
        RecordedEvent(kind=row.kind, booking_id=row.booking_id, version=row.version, payload=row.payload)
        for row in rows
    ]
