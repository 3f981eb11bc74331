"""The scheduler and its database: what it takes, what it refuses, and what it says when something is wrong."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from nxsched import (
    Attendee,
    Host,
    InvalidInput,
    LockTimeout,
    Scheduler,
    SchemaOutdated,
    StoreUnavailable,
    Tenant,
    TenantNotFound,
    WeeklyHours,
)
from nxsched.embedded import APP_ROLE, OWNER, WORKER_ROLE
from store.conftest import Database


def test_a_plain_postgresql_url_means_psycopg(db: Database) -> None:
    url = make_url(db.url(APP_ROLE)).set(drivername="postgresql")
    for given in (url, url.render_as_string(), url.set(drivername="postgres"), db.url(APP_ROLE)):
        with Scheduler(given) as scheduler:
            scheduler.verify()
            assert scheduler.engine.driver == "psycopg"


def test_an_engine_of_the_applications_own_is_used_and_left_open(db: Database) -> None:
    engine = create_engine(db.url(APP_ROLE))
    with engine.connect() as connection:
        before = engine.pool.checkedout()  # type: ignore[attr-defined]
        with Scheduler(engine) as scheduler:
            scheduler.verify()
            assert scheduler.engine is engine
        assert connection.execute(text("SELECT 1")).scalar() == 1
        assert engine.pool.checkedout() == before == 1  # type: ignore[attr-defined]
    engine.dispose()


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("sqlite://", 'must begin with postgresql://, not "sqlite": nxsched works with PostgreSQL and psycopg'),
        (
            "postgresql+asyncpg://x/y",
            (
                'must begin with postgresql://, not "postgresql+asyncpg": nxsched works with PostgreSQL and psycopg;'
                " AsyncScheduler takes the engine that create_async_engine makes of this URL"
            ),
        ),
        ("postgresql+psycopg2://x/y", 'must begin with postgresql://, not "postgresql+psycopg2"'),
        ("no url", "must be a URL such as postgresql://app@host/database"),
        ("", "must be a URL such as postgresql://app@host/database"),
        (create_engine("sqlite://"), 'must be an engine for postgresql+psycopg, not "sqlite+pysqlite"'),
        (None, "must be a URL or a SQLAlchemy Engine, not None"),
    ],
)
def test_what_is_no_postgresql_is_refused(given: object, reason: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Scheduler(given)  # type: ignore[arg-type]
    assert caught.value.field == "database"
    assert caught.value.reason.startswith(reason)


def test_no_password_is_shown() -> None:
    secret = "correct-horse"  # noqa: S105 - not one
    scheduler = Scheduler(f"postgresql://app:{secret}@127.0.0.1:1/x")
    assert repr(scheduler) == "<Scheduler on postgresql+psycopg://app:***@127.0.0.1:1/x>"
    with pytest.raises(StoreUnavailable) as caught:
        scheduler.verify()
    assert secret not in str(caught.value)
    with pytest.raises(InvalidInput) as refused:
        Scheduler(f"app:{secret}@host")
    assert secret not in str(refused.value)


def test_a_database_that_is_away_is_one_error_with_its_cause() -> None:
    with Scheduler("postgresql://app@127.0.0.1:1/x") as scheduler, pytest.raises(StoreUnavailable) as caught:
        scheduler.verify()
    assert str(caught.value).startswith("the database cannot be reached: ")
    assert not caught.value.may_have_happened
    assert caught.value.code == "store_unavailable"
    assert caught.value.__cause__ is not None


ASKED: dict[str, Callable[[Scheduler], object]] = {
    "verify": Scheduler.verify,
    "tenants": Scheduler.tenants,
    "sweep": Scheduler.sweep,
    "tenant": lambda scheduler: scheduler.tenant("acme"),
    "create_tenant": lambda scheduler: scheduler.create_tenant("new", name="New"),
}
"""All that a scheduler can be asked for itself."""


@pytest.mark.parametrize("call", [*ASKED])
def test_whatever_is_asked_of_a_database_that_is_away_is_one_error(call: str) -> None:
    nowhere = "postgresql://app@127.0.0.1:1/x"
    with (
        Scheduler(nowhere, worker_url=nowhere) as scheduler,
        pytest.raises(StoreUnavailable, match=r"^the database cannot be reached: ") as caught,
    ):
        ASKED[call](scheduler)
    assert not caught.value.may_have_happened


@pytest.mark.parametrize("call", ["verify", "tenants", "tenant"])
def test_a_server_that_does_not_answer_is_given_up_once_after_the_connect_timeout_of_the_url(call: str) -> None:
    """It takes connections, as a host does that hangs, and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        url = f"postgresql://app@127.0.0.1:{silent.getsockname()[1]}/x?connect_timeout=2"
        with Scheduler(url, worker_url=url) as scheduler:
            began = time.monotonic()
            with pytest.raises(StoreUnavailable, match=r"^the database cannot be reached: .*timeout") as caught:
                ASKED[call](scheduler)
            assert time.monotonic() - began < 10, "it was tried several times"
    assert not caught.value.may_have_happened


def test_tables_that_somebody_keeps_locked_are_waited_for_as_long_as_the_login_allows(
    db: Database, acme: Tenant
) -> None:
    """`verify` and `tenants` have no time-outs of their own, but keep those of the login."""
    assert acme.id == "acme"
    options = {"connect_args": {"options": "-c lock_timeout=50ms"}, "poolclass": NullPool}
    app, worker = (create_engine(db.url(role), **options) for role in (APP_ROLE, WORKER_ROLE))
    with (
        Scheduler(app, worker_url=worker, lock_timeout=timedelta(milliseconds=50)) as scheduler,
        db.superuser.connect() as holding,
    ):
        holding.execute(text("LOCK TABLE nxsched.tenant, nxsched.schema_version IN ACCESS EXCLUSIVE MODE"))
        for call in ASKED.values():
            with pytest.raises(LockTimeout):
                call(scheduler)
        holding.rollback()
        assert [one.id for one in scheduler.tenants()] == ["acme"]


def test_a_scheduler_migrates_with_the_owners_url_and_then_verifies(empty_db: Database) -> None:
    with Scheduler(empty_db.url(APP_ROLE)) as scheduler:
        with pytest.raises(SchemaOutdated, match="lacks tables of nxsched, or columns of them, and 0001 is needed"):
            scheduler.verify()
        scheduler.migrate(empty_db.url(OWNER), app_role=APP_ROLE, worker_role=WORKER_ROLE)
        scheduler.verify()


COMMAND = "and 0001 is needed: run `nxsched migrate` as the owner of its tables"
START = datetime(2026, 3, 2, 9, tzinfo=UTC)

ACTIONS: dict[str, Callable[[Tenant, Connection | None], object]] = {
    "book": lambda acme, within: acme.book("visit", start=START, attendee=Attendee(name="Grace"), within=within),
    "book with a key": lambda acme, within: acme.book(
        "visit", start=START, attendee=Attendee(name="Grace"), within=within, idempotency_key="k"
    ),
    "find_slots": lambda acme, within: acme.find_slots(
        "visit", start=START, end=START + timedelta(days=1), within=within
    ),
    "cancel": lambda acme, within: acme.cancel("018f0c4a-6d1e-7a3b-9c55-0123456789ab", within=within),
    "bookings": lambda acme, within: acme.bookings(within=within),
    "save_host": lambda acme, within: acme.save_host(Host(slug="ada", timezone="UTC"), within=within),
}


@pytest.mark.parametrize("action", [*ACTIONS])
@pytest.mark.parametrize(
    "lost",
    [
        "DROP SCHEMA nxsched CASCADE",
        """ALTER TABLE nxsched.booking RENAME COLUMN seats TO places;
        ALTER TABLE nxsched.host RENAME COLUMN settings TO options;
        ALTER TABLE nxsched.event_type RENAME COLUMN settings TO options""",
    ],
    ids=["no tables", "older tables"],
)
def test_an_action_on_a_database_that_is_not_migrated_names_the_command_to_run(
    acme: Tenant, db: Database, action: str, lost: str
) -> None:
    with db.owner.begin() as connection:
        connection.execute(text(lost))
    with pytest.raises(SchemaOutdated) as caught:
        ACTIONS[action](acme, None)
    assert str(caught.value) == f"the database lacks tables of nxsched, or columns of them, {COMMAND}"
    assert (caught.value.code, caught.value.found, caught.value.wanted) == ("schema_outdated", None, "0001")
    with db.app.begin() as within:
        with pytest.raises(SchemaOutdated, match=re.escape(COMMAND)):
            ACTIONS[action](acme, within)
        assert within.execute(text("SELECT 'still usable'")).scalar() == "still usable"


@pytest.mark.parametrize("call", ASKED)
def test_a_scheduler_on_an_empty_database_names_the_command_to_run_whatever_it_is_asked(
    empty_db: Database, call: str
) -> None:
    with (
        Scheduler(empty_db.app, worker_url=empty_db.worker) as scheduler,
        pytest.raises(SchemaOutdated, match=re.escape(COMMAND)),
    ):
        ASKED[call](scheduler)


def test_tables_of_a_later_version_are_named_by_all_and_left_alone(db: Database) -> None:
    with db.superuser.begin() as connection:
        connection.execute(text("UPDATE nxsched.schema_version SET version_num = '0002'"))
    with Scheduler(db.url(OWNER)) as scheduler:
        for call in (scheduler.verify, scheduler.migrate):
            with pytest.raises(SchemaOutdated, match=r"at revision 0002, .* does not know: upgrade nxsched") as caught:
                call()
            assert (caught.value.found, caught.value.wanted) == ("0002", "0001")


def test_the_applications_role_cannot_migrate(empty_db: Database, db: Database) -> None:
    with (
        Scheduler(empty_db.url(APP_ROLE)) as scheduler,
        pytest.raises(StoreUnavailable, match="refuses this login: permission denied for database"),
    ):
        scheduler.migrate(app_role=APP_ROLE)
    with Scheduler(db.url(APP_ROLE)) as scheduler, pytest.raises(InvalidInput) as caught:
        scheduler.migrate(app_role=APP_ROLE)
    assert caught.value.field == "url"
    assert caught.value.reason == f'logs in as "{APP_ROLE}", and the tables belong to "{OWNER}": log in as their owner'


def test_one_login_for_everything_works(empty_db: Database) -> None:
    with Scheduler(empty_db.url(OWNER)) as scheduler:
        scheduler.migrate()
        scheduler.verify()
        scheduler.create_tenant("acme", name="Acme")
        with pytest.raises(TenantNotFound):
            scheduler.tenant("other")
        assert scheduler.tenant("acme").bookings().items == ()


@pytest.mark.parametrize("implementation", ["c"])
def test_without_a_libpq_the_error_names_the_extra(implementation: str) -> None:
    script = (
        "from nxsched import MissingExtra, Scheduler\n"
        "try:\n    Scheduler('postgresql://app@localhost/x')\n"
        "except MissingExtra as error:\n    print(error.extra, '|', error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PSYCOPG_IMPL": implementation},
        text=True,
        capture_output=True,
        check=True,
    )
    assert done.stdout.startswith("binary | PostgreSQL, on a machine without libpq, needs the extra 'binary'")
    assert "pip install 'nxsched[binary]'" in done.stdout


FORK = """
import os, sys
from datetime import datetime, timedelta
from nxsched import Attendee, Scheduler
tenant = Scheduler(sys.argv[1]).tenant("acme")
start = datetime.fromisoformat(sys.argv[2])
tenant.find_slots("visit", start=start, end=start)
children = []
for n in range(3):
    if (child := os.fork()) == 0:
        for i in range(4):
            tenant.book("visit", start=start + (4 * n + i) * timedelta(minutes=30), attendee=Attendee(name="Grace"))
        os._exit(0)
    children.append(child)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
print(codes, len(tenant.bookings()))
"""


def test_children_that_a_process_forks_after_its_first_call_book_side_by_side(acme: Tenant, db: Database) -> None:
    start = datetime.now(UTC).replace(hour=9, minute=0, second=0, microsecond=0) + timedelta(days=7)
    hours = [WeeklyHours(days="mon-sun", start="00:00", end="24:00")]
    acme.save_host(Host(slug="ada", timezone="Europe/London", weekly_hours=hours))
    command = [sys.executable, "-c", FORK, db.url(APP_ROLE), start.isoformat()]
    done = subprocess.run(command, text=True, capture_output=True, check=True, timeout=60)
    assert done.stdout == "[0, 0, 0] 12\n", done.stderr


def test_what_tells_no_time_is_no_clock(db: Database) -> None:
    with pytest.raises(InvalidInput, match=r"clock: must have a method now\(\)"):
        Scheduler(db.url(APP_ROLE), clock=12)  # type: ignore[arg-type]


@dataclass
class Wall:
    """A clock of the application's own."""

    at: datetime

    def now(self) -> datetime:
        return self.at


def test_a_clock_may_tell_the_time_of_any_zone_and_has_to_tell_which(acme: Tenant, db: Database) -> None:
    """By the wall an hour of the hold would be lost: clocks go forward meanwhile."""
    at = datetime(2026, 3, 29, 0, 30, tzinfo=ZoneInfo("Europe/London"))
    theirs = Scheduler(db.app, clock=Wall(at)).tenant(acme.id)
    hold = theirs.place_hold("visit", start=datetime(2026, 3, 30, 9, tzinfo=UTC), ttl=timedelta(hours=2))
    assert hold.expires_at - hold.created_at == timedelta(hours=2)
    assert (hold.created_at, hold.created_at.utcoffset()) == (at, timedelta())
    assert theirs.hold(hold.id) == hold
    with pytest.raises(InvalidInput, match="clock: must tell an aware datetime, not"):
        Scheduler(db.app, clock=Wall(at.replace(tzinfo=None))).tenant(acme.id)
