"""An upgrade runs while others book: they wait for it at most as long as its statements take."""

from __future__ import annotations

import multiprocessing as mp
import shutil
import time
from datetime import timedelta
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from nxsched import Scheduler, SettableClock, Tenant
from nxsched.embedded import APP_ROLE, OWNER, WORKER_ROLE
from nxsched.store import migrate
from store.booked import GRACE, assert_sound, count, rows
from store.conftest import HALF, NINE, NOW, Database

NEXT = """
revision = "0002"
down_revision = "0001"


def upgrade(op):
    op.execute("ALTER TABLE nxsched.booking ADD COLUMN note text")
    op.execute("ALTER TABLE nxsched.claim ADD COLUMN note text NOT NULL DEFAULT 'x'")
    op.execute("ALTER TABLE nxsched.booking NO FORCE ROW LEVEL SECURITY")  # else the owner sees no tenant's rows
    op.execute("UPDATE nxsched.booking SET note = 'backfilled'")
    op.execute("ALTER TABLE nxsched.booking FORCE ROW LEVEL SECURITY")
    op.execute("SELECT pg_sleep(0.3)")
    op.execute("ALTER TABLE nxsched.host ADD COLUMN note text")
"""


PATIENCE = 60
"""Seconds after which a process is not waited for any longer."""

processes = mp.get_context("forkserver")
processes.set_forkserver_preload(["nxsched.scheduler", "psycopg", "psycopg_binary"])


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """The folder of a version of nxsched that has one revision more."""
    folder = tmp_path / "migrations"
    shutil.copytree(migrate._folder(), folder, ignore=shutil.ignore_patterns("__pycache__"))  # noqa: SLF001 - our own
    (folder / "0002_note.py").write_text(NEXT, encoding="utf-8")
    return folder


def book(url: str, offset: int, upgraded: Event, found: Any) -> None:  # noqa: ANN401 - a queue
    """Book until the upgrade is done, and once more; tell which bookings were acknowledged and what went wrong."""
    made: list[str] = []
    wrong: list[str] = []
    done = False
    with Scheduler(url, clock=SettableClock(NOW)) as scheduler:
        tenant = scheduler.tenant("acme")
        while not done and not wrong:
            done = upgraded.is_set()
            week, half = divmod(len(made), 6)  # until three in the afternoon, which is open in summer, too
            start = NINE + timedelta(weeks=week) + (half + 6 * offset) * HALF
            try:
                booking = tenant.book("visit", start=start, attendee=GRACE)
                made.append(booking.id)
                assert tenant.booking(booking.id) == booking
            except Exception as error:  # noqa: BLE001 - all of them are wrong
                wrong.append(f"{type(error).__name__}: {error}")
    found.put((made, wrong, done))


def upgrade(url: str, folder: Path, upgraded: Event) -> None:
    """What the newer version does when it is rolled out."""
    migrate._folder = lambda: folder  # noqa: SLF001 - its own
    with Scheduler(url) as owner:
        owner.migrate(app_role=APP_ROLE, worker_role=WORKER_ROLE)
        owner.verify()
    upgraded.set()


def test_an_upgrade_runs_while_other_processes_book(acme: Tenant, db: Database, newer: Path) -> None:
    assert acme.id == "acme"
    upgraded = processes.Event()
    found = processes.Queue()
    url = db.url(APP_ROLE)
    booking = [processes.Process(target=book, args=(url, n, upgraded, found), daemon=True) for n in range(2)]
    for process in booking:
        process.start()
    patience = time.monotonic() + PATIENCE
    while count(db, "booking") < 5:
        assert time.monotonic() < patience
        time.sleep(0.01)
    upgrading = processes.Process(target=upgrade, args=(db.url(OWNER), newer, upgraded), daemon=True)
    upgrading.start()
    upgrading.join(PATIENCE)
    assert upgrading.exitcode == 0
    told = [found.get(timeout=PATIENCE) for _ in booking]
    for process in booking:
        process.join(PATIENCE)
        assert process.exitcode == 0
    assert [wrong for _, wrong, _ in told] == [[], []]
    assert all(done for *_, done in told)
    stored = rows(db, "SELECT id::text, status, note FROM nxsched.booking")
    assert {(id_, status) for id_, status, _ in stored} == {(id_, "confirmed") for made, *_ in told for id_ in made}
    notes = [note for *_, note in stored]
    assert notes.count("backfilled") >= 5
    assert notes.count(None) >= 2  # those that were booked when it was done
    with db.owner.begin() as connection:
        connection.execute(text("SET LOCAL row_security = on"))
        assert connection.execute(text("SELECT count(*) FROM nxsched.booking")).scalar() == 0
    assert_sound(db)
