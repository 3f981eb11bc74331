"""What a process keeps of settings: the rows are read with every call, and what is kept is small and nobody's else."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta

import pytest
from sqlalchemy import text

from nxsched import (
    BlockedPeriod,
    EventType,
    Host,
    Scheduler,
    SettableClock,
    StoreUnavailable,
    Tenant,
    TenantNotFound,
    WeeklyHours,
)
from nxsched.store import settings
from store.booked import GRACE
from store.conftest import DAY, HALF, NINE, NOW, Database

HOURS = [WeeklyHours(days="mon-fri", start="09:00", end="17:00")]


def offered(tenant: Tenant, duration: timedelta | None = None) -> int:
    return len(tenant.find_slots("visit", start=NINE, end=NINE + DAY, duration=duration))


def test_whatever_is_set_anew_is_seen_by_the_next_call_of_every_scheduler(
    acme: Tenant, db: Database, clock: SettableClock
) -> None:
    with Scheduler(db.app, clock=clock) as second:
        other = second.tenant("acme")
        for seen in (acme, other):
            assert offered(seen) == 16
        acme.save_host(Host(slug="ada", timezone="Europe/London", weekly_hours=HOURS[:0]))
        assert [offered(seen) for seen in (acme, other)] == [0, 0]
        acme.save_host(Host(slug="ada", timezone="Europe/London", weekly_hours=HOURS))
        assert [offered(seen) for seen in (acme, other)] == [16, 16]
        acme.block("ada", BlockedPeriod(start=NINE, end=NINE + HALF))
        assert [offered(seen) for seen in (acme, other)] == [15, 15]
        acme.save_event_type(EventType(slug="visit", duration=HALF * 2, durations=[HALF], hosts=["ada"]))
        assert [offered(seen) for seen in (acme, other)] == [7, 7]
        assert [offered(seen, duration=HALF) for seen in (acme, other)] == [15, 15]


def test_large_settings_are_not_kept(acme: Tenant) -> None:
    for n in range(60):
        acme.block("ada", BlockedPeriod(start=NOW + n * DAY, end=NOW + n * DAY + HALF))
    offered(acme)
    before = settings._kept.cache_info()  # noqa: SLF001 - what it costs is what is asked
    offered(acme)
    assert settings._kept.cache_info() == before  # noqa: SLF001


def test_a_tenant_that_is_gone_is_named(acme: Tenant, scheduler: Scheduler) -> None:
    with scheduler.engine.connect() as connection:
        scheduler.create_tenant("brief", name="Brief", within=connection)
        connection.rollback()
    # As one that was made in a transaction which was rolled back.
    brief = Tenant(acme._units, "brief")  # noqa: SLF001 - our own
    for ask in (lambda: brief.book("visit", start=NINE, attendee=GRACE), lambda: offered(brief)):
        with pytest.raises(TenantNotFound) as caught:
            ask()
        assert caught.value.id == "brief"


def test_a_session_that_writes_times_in_another_style_is_told_what_to_do(acme: Tenant, scheduler: Scheduler) -> None:
    with scheduler.engine.connect() as connection:
        connection.execute(text("SET LOCAL datestyle = 'SQL'"))
        with pytest.raises(StoreUnavailable, match="SET datestyle = 'ISO'"):
            acme.bookings(within=connection)


FORK = """
import os, threading, time, warnings
from datetime import UTC, datetime, timedelta
from nxsched import EventType, Host, WeeklyHours
from nxsched.slots import SlotQuery, find_slots

warnings.simplefilter("ignore")  # to fork with threads is what is tried
HOURS = [WeeklyHours(days="mon-fri", start="09:00", end="17:00")]
NOW = datetime(2026, 3, 2, 8, tzinfo=UTC)

def question(hosts):
    found = [Host(slug=f"h{n}", timezone="Europe/London", weekly_hours=HOURS) for n in range(hosts)]
    event_type = EventType(duration=timedelta(minutes=30), hosts=[host.slug for host in found])
    return SlotQuery(event_type=event_type, hosts=found, start=NOW, end=NOW + timedelta(days=1), now=NOW)

done = threading.Event()

def work():
    while not done.is_set():
        question(300)

def child():
    if (found := os.fork()) == 0:
        os._exit(0 if len(find_slots(question(1))) == 16 else 1)
    until = time.monotonic() + 30
    while (ended := os.waitpid(found, os.WNOHANG))[0] == 0:
        if time.monotonic() > until:
            os.kill(found, 9)
        time.sleep(0.005)
    return os.waitstatus_to_exitcode(ended[1])

question(1)
threads = [threading.Thread(target=work) for _ in range(2)]
for thread in threads:
    thread.start()
codes = [child() for _ in range(30)]
done.set()
print(sum(codes), len(codes))
"""


def test_a_child_that_is_forked_while_others_calculate_calculates_too() -> None:
    command = [sys.executable, "-c", FORK]
    done = subprocess.run(command, text=True, capture_output=True, check=True, timeout=300)
    assert done.stdout == "0 30\n", done.stderr
