"""Every test of the store runs on each PostgreSQL that the embedded package holds, on the newest one first."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import NullPool

import servers
from nxsched import EventType, Host, HostGroup, Scheduler, SettableClock, Tenant, WeeklyHours
from nxsched.embedded import APP_ROLE, OWNER, WORKER_ROLE
from store.bridged import opened


@dataclass(frozen=True)
class Database:
    """A database, as its owner, the application's role, the worker and the superuser see it."""

    server: servers.Server
    name: str
    owner: Engine
    app: Engine
    worker: Engine
    superuser: Engine

    def url(self, role: str) -> str:
        return self.server.url(role, self.name)


VERSIONS = servers.versions()


@pytest.fixture(
    scope="session",
    # The older ones take as long again: `make test-slow` runs them, and so does every change before it lands.
    params=[pytest.param(one, marks=[pytest.mark.slow] * (one != VERSIONS[0])) for one in VERSIONS],
    ids="postgres {}".format,
)
def server(request: pytest.FixtureRequest) -> Iterator[servers.Server]:
    found = servers.started(os.environ["NXSCHED_TEST_RUN"], request.param)
    yield found
    found.close()


def seen(server: servers.Server, name: str) -> Database:
    """A database of a server."""
    engines = [
        create_engine(server.url(role, name), poolclass=NullPool) for role in (OWNER, APP_ROLE, WORKER_ROLE, "postgres")
    ]
    return Database(server, name, *engines)


@pytest.fixture
def db(server: servers.Server) -> Iterator[Database]:
    with servers.database(server) as name:
        yield seen(server, name)


@pytest.fixture
def empty_db(server: servers.Server) -> Iterator[Database]:
    with servers.database(server, migrated=False) as name:
        yield seen(server, name)


@pytest.fixture
def stranger(db: Database) -> Iterator[str]:
    """A role that may log in and nothing else."""
    name = f"stranger_{db.name}"
    with db.superuser.begin() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {name} LOGIN")
    yield name
    with db.superuser.begin() as connection:
        connection.exec_driver_sql(f"DROP OWNED BY {name}; DROP ROLE {name}")


NOW = datetime(2026, 3, 2, 8, tzinfo=UTC)
"""A Monday in winter, an hour before the hosts of `acme` begin."""

NINE = NOW + timedelta(hours=1)
HALF = timedelta(minutes=30)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock(NOW)


@pytest.fixture
def scheduler(db: Database, clock: SettableClock, request: pytest.FixtureRequest) -> Iterator[Scheduler]:
    """A scheduler as an application has it, on the application's role, with a clock that the test moves.

    Tests that are marked with `store.bridged.every_face` have it of the face for asyncio too.
    """
    with opened(getattr(request, "param", "sync"), db, clock) as found:
        yield found


@pytest.fixture
def acme(scheduler: Scheduler) -> Tenant:
    """A tenant with three hosts in London, open 9 to 17 from Monday to Friday, and three event types of half an hour.

    `visit` is with ada, `any` with one of the three (least recently booked), `all` with ada and bob together.
    """
    tenant = scheduler.create_tenant("acme", name="Acme Ltd", sender="bookings@acme.test")
    furnish(tenant)
    return tenant


def furnish(tenant: Tenant) -> None:
    """Give a tenant the hosts and event types of `acme`."""
    hours = [WeeklyHours(days="mon-fri", start="09:00", end="17:00")]
    for slug in ("ada", "bob", "cyd"):
        email = f"{slug}@acme.test"
        tenant.save_host(Host(slug=slug, name=slug.title(), email=email, timezone="Europe/London", weekly_hours=hours))
    tenant.save_event_type(EventType(slug="visit", name="Visit", duration=HALF, hosts=["ada"]))
    tenant.save_event_type(EventType(slug="any", name="Anybody", duration=HALF, hosts=["ada", "bob", "cyd"]))
    tenant.save_event_type(
        EventType(slug="all", name="Both", duration=HALF, hosts=[HostGroup(members=["ada", "bob"], need="all")])
    )
