"""What a process keeps of settings: the rows are read with every call, and what is kept is small and nobody's else."""

from __future__ import annotations

import os
import threading
import time
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
from nxsched.slots import SlotQuery, find_slots
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
    brief = scheduler.tenant(acme.id)
    brief._id = "brief"  # noqa: SLF001 - as one that was made in a transaction which was rolled back
    for ask in (lambda: brief.book("visit", start=NINE, attendee=GRACE), lambda: offered(brief)):
        with pytest.raises(TenantNotFound) as caught:
            ask()
        assert caught.value.id == "brief"


def test_a_session_that_writes_times_in_another_style_is_told_what_to_do(acme: Tenant, scheduler: Scheduler) -> None:
    with scheduler.engine.connect() as connection:
        connection.execute(text("SET LOCAL datestyle = 'SQL'"))
        with pytest.raises(StoreUnavailable, match="SET datestyle = 'ISO'"):
            acme.bookings(within=connection)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # to fork with threads is what is tried
def test_a_child_that_is_forked_while_others_calculate_calculates_too() -> None:
    many = [Host(slug=f"h{n}", timezone="Europe/London", weekly_hours=HOURS) for n in range(300)]
    event_type = EventType(duration=HALF, hosts=[host.slug for host in many])
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            SlotQuery(event_type=event_type, hosts=many, start=NINE, end=NINE + DAY, now=NOW)

    def ask() -> int:
        one = EventType(duration=HALF, hosts=["h0"])
        return len(find_slots(SlotQuery(event_type=one, hosts=many[:1], start=NINE, end=NINE + DAY, now=NOW)))

    assert ask() == 16
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            if (child := os.fork()) == 0:
                os._exit(0 if ask() == 16 else 1)
            until = time.monotonic() + 60
            while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < until:
                time.sleep(0.005)
            if ended[0] == 0:
                os.kill(child, 9)
                os.waitpid(child, 0)
            assert ended == (child, 0), "the child hangs, or answers otherwise"
    finally:
        done.set()
        for thread in threads:
            thread.join()
