"""Behind a pooler that gives every transaction another session: nothing of ours lasts longer than a transaction."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner
from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.orm import Session

from nxsched import Scheduler, SettableClock, SlotTaken, StoreUnavailable, Tenant
from nxsched.cli import main
from nxsched.embedded import APP_ROLE, OWNER
from store.booked import ALAN, GRACE, assert_sound, rows
from store.conftest import DAY, HALF, NINE, NOW, Database, furnish
from store.pooler import pooler

SESSIONS = 3


def folder(db: Database) -> Path:
    """The folder of the server's socket."""
    return Path(str(make_url(db.url(APP_ROLE)).query["host"]))


@pytest.fixture
def place(db: Database) -> Iterator[str]:
    """The folder of the pooler's socket."""
    with pooler(folder(db), APP_ROLE, db.name, SESSIONS) as found:
        yield found


@pytest.fixture
def engine(place: str, db: Database) -> Iterator[Engine]:
    """An engine as an application makes it that works through a pooler."""
    found = create_engine(
        f"postgresql+psycopg://{APP_ROLE}@/{db.name}?host={place}", connect_args={"prepare_threshold": None}
    )
    yield found
    found.dispose()


@pytest.fixture
def tenants(engine: Engine) -> list[Tenant]:
    """Two tenants with the same hosts and event types."""
    scheduler = Scheduler(engine, clock=SettableClock(NOW))
    found = [scheduler.create_tenant(name, name=name) for name in ("acme", "globex")]
    for tenant in found:
        furnish(tenant)
    return found


def assert_clean(place: str, db: Database, role: str = APP_ROLE) -> None:
    """What lasts in the sessions, each seen from inside: the pooler gives every statement the next one."""
    with psycopg.connect(host=place, user=role, dbname=db.name, autocommit=True, prepare_threshold=None) as client:
        seen = [
            client.execute(
                "SELECT pg_backend_pid(), coalesce(current_setting('nxsched.tenant_id', true), ''),"
                " (SELECT string_agg(name, ' ') FROM pg_settings WHERE source = 'session'),"
                " (SELECT count(*) FROM pg_prepared_statements), (SELECT count(*) FROM nxsched.booking),"
                " (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory')"
            ).fetchone()
            for _ in range(SESSIONS)
        ]
    assert [one[1:] for one in seen if one] == [("", None, 0, 0, 0)] * SESSIONS
    pids = {one[0] for one in seen if one}
    assert len(pids) == SESSIONS
    states = rows(db, "SELECT DISTINCT state FROM pg_stat_activity WHERE pid = ANY(:pids)", pids=list(pids))
    assert states == [("idle",)]


def work(tenant: Tenant, day: int) -> None:
    """A bit of everything, on a day that others want too."""
    start = NINE + day * DAY
    assert tenant.find_slots("visit", start=start, end=start + DAY)
    hold = tenant.place_hold("all", start=start)
    booking = tenant.confirm_hold(hold.id, attendee=GRACE, idempotency_key=f"confirm-{day}")
    with pytest.raises(SlotTaken):
        tenant.book("visit", start=start, attendee=ALAN)
    again = [tenant.book("any", start=start, attendee=ALAN, idempotency_key=f"book-{day}").id for _ in range(2)]
    assert again[0] == again[1]
    assert [one.id for one in tenant.bookings(start=start, end=start + DAY)] == sorted([booking.id, again[0]])
    tenant.cancel(booking.id)
    assert [one.version for one in tenant.history(booking.id)] == [1, 2, 3]


def test_tenants_share_sessions_and_leave_nothing_behind(tenants: list[Tenant], place: str, db: Database) -> None:
    for day in range(5):
        for tenant in tenants:
            work(tenant, day)
    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(work, tenant, 7 + day) for day in range(5) for tenant in tenants]:
            done.result()
    assert [len(tenant.bookings().items) for tenant in tenants] == [20, 20]
    assert_sound(db)
    assert_clean(place, db)


@pytest.mark.parametrize("kept", [True, False])
def test_the_applications_own_transaction_leaves_nothing_behind(
    tenants: list[Tenant], engine: Engine, place: str, db: Database, *, kept: bool
) -> None:
    acme, globex = tenants
    for turn in range(6):
        with engine.connect() as connection, Session(engine) as session:
            start = NINE + turn * HALF
            first = acme.book("visit", start=start, attendee=GRACE, within=connection)
            second = globex.book("visit", start=start, attendee=ALAN, within=session, idempotency_key=f"k{turn}")
            with pytest.raises(SlotTaken):
                acme.book("visit", start=start, attendee=ALAN, within=connection)
            globex.find_slots("any", start=start, end=start + DAY, within=connection)
            for within in (connection, session):
                if kept:
                    within.commit()
                else:
                    within.rollback()
            found = [len(tenant.bookings(start=start, end=start + HALF).items) for tenant in tenants]
            assert found == [int(kept)] * 2
            if kept:
                assert acme.booking(first.id).attendee == GRACE
                assert globex.booking(second.id).attendee == ALAN
    assert_sound(db)
    assert_clean(place, db)


def test_migrations_and_the_doctor_leave_nothing_behind(empty_db: Database) -> None:
    with pooler(folder(empty_db), OWNER, empty_db.name, SESSIONS) as place:
        through = f"postgresql://{OWNER}@/{empty_db.name}?host={place}"
        for _ in range(3):
            done = CliRunner().invoke(main, ["migrate", "--url", through, "--app-role", APP_ROLE])
            assert done.stdout == "The tables are at revision 0001.\n"
        assert "as the migration made them" in CliRunner().invoke(main, ["doctor", "--url", through]).stdout
        assert_clean(place, empty_db, OWNER)


def test_prepared_statements_would_not_be_found_there(place: str, db: Database) -> None:
    """Why the threshold is needed; and that sessions change."""
    engine = create_engine(f"postgresql+psycopg://{APP_ROLE}@/{db.name}?host={place}")
    scheduler = Scheduler(engine, clock=SettableClock(NOW))

    def make_many() -> None:
        for turn in range(20):
            scheduler.create_tenant(f"t{turn}", name="Some")

    with pytest.raises(StoreUnavailable, match="behind a pooler needs prepare_threshold=None"):
        make_many()
    engine.dispose()
