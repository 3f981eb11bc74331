"""An upgrade runs while others book: they wait for it at most as long as its statements take."""

from __future__ import annotations

import shutil
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from nxsched import Scheduler, SettableClock, Tenant
from nxsched.embedded import APP_ROLE, OWNER, WORKER_ROLE
from nxsched.store import migrate
from store.booked import GRACE, assert_sound, count
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


@pytest.fixture
def newer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version of nxsched that has one revision more."""
    folder = tmp_path / "migrations"
    shutil.copytree(migrate._folder(), folder, ignore=shutil.ignore_patterns("__pycache__"))  # noqa: SLF001 - our own
    (folder / "0002_note.py").write_text(NEXT, encoding="utf-8")
    monkeypatch.setattr(migrate, "_folder", lambda: folder)


@pytest.mark.usefixtures("newer")
def test_an_upgrade_runs_while_others_book(acme: Tenant, db: Database) -> None:
    upgraded = threading.Event()
    wrong: list[Exception] = []
    after: list[str] = []

    def book(offset: int) -> None:
        with Scheduler(db.app, clock=SettableClock(NOW)) as scheduler:
            tenant = scheduler.tenant("acme")
            for n in range(10_000):
                start = NINE + timedelta(days=7 * (n // 8)) + (n % 8 + 8 * offset) * HALF
                try:
                    booking = tenant.book("visit", start=start, attendee=GRACE)
                    assert tenant.booking(booking.id) == booking
                except Exception as error:  # noqa: BLE001 - all of them are wrong
                    wrong.append(error)
                    return
                if upgraded.is_set():
                    after.append(booking.id)
                    return

    assert acme.id == "acme"
    threads = [threading.Thread(target=book, args=(offset,)) for offset in range(2)]
    for thread in threads:
        thread.start()
    while count(db, "booking") < 5:
        pass
    with Scheduler(db.url(OWNER)) as owner:
        owner.migrate(app_role=APP_ROLE, worker_role=WORKER_ROLE)
        owner.verify()
        owner.engine.dispose()
    upgraded.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(after) == 2
    with db.owner.begin() as connection:
        connection.execute(text("SET LOCAL row_security = on"))
        assert connection.execute(text("SELECT count(*) FROM nxsched.booking")).scalar() == 0
    assert count(db, "booking", "note = 'backfilled'") >= 5
    assert_sound(db)
