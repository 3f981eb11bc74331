"""Storms: many processes on one server, counted at the end by raw SQL."""

from __future__ import annotations

import os
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from concurrency.storm import HALF, fight, processes, walk
from nxsched import EventType, Host, HostGroup, Limit, Scheduler, Tenant, WeeklyHours
from nxsched.embedded import APP_ROLE
from store.booked import assert_sound, count, rows
from store.conftest import Database

HOSTS = ("ada", "bob", "cyd", "dan", "eve")
DAYS = 40


def furnished(db: Database) -> Tenant:
    """Five hosts who are always open, each with an event type of their own, and a pool, a pair and limited ones."""
    with Scheduler(db.app) as scheduler:
        acme = scheduler.create_tenant("acme", name="Acme")
    always = [WeeklyHours(days="mon-sun", start="00:00", end="24:00")]
    for slug in HOSTS:
        acme.save_host(Host(slug=slug, timezone="UTC", weekly_hours=always))
        acme.save_event_type(EventType(slug=slug, duration=HALF, hosts=[slug]))
    pair = [HostGroup(members=["bob", "ada"], need="all"), HostGroup(members=["cyd", "dan"])]
    acme.save_event_type(EventType(slug="pool", duration=HALF, hosts=HOSTS))
    acme.save_event_type(EventType(slug="pair", duration=HALF, hosts=pair))
    few = [Limit(per="day", count=3)]
    acme.save_event_type(EventType(slug="limited", duration=HALF, hosts=HOSTS, limits=few))
    acme.save_event_type(EventType(slug="alone", duration=HALF, hosts=["eve"], limits=[Limit(per="day", minutes=90)]))
    return acme


def tomorrow() -> datetime:
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


def gathered(target: Any, arguments: list[tuple[Any, ...]]) -> list[Any]:  # noqa: ANN401 - any of the storm's
    """What each of so many processes hands in."""
    found = processes.Queue()
    started = [processes.Process(target=target, args=(*one, found), daemon=True) for one in arguments]
    for process in started:
        process.start()
    results = [found.get(timeout=1200) for _ in started]
    for process in started:
        process.join()
    return results


@pytest.mark.slow
def test_of_sixty_four_processes_one_gets_the_slot(db: Database) -> None:
    rounds_wanted = int(os.environ.get("NXSCHED_ROUNDS", "100"))
    furnished(db)
    kinds = ("ada", "pair", "alone", "bob")
    first = tomorrow()
    # Each start once, no limit ever met: a day has three of "alone" at most, and nobody else has eve.
    rounds = [(kinds[n % 4], first + timedelta(days=n // 8) + (n % 8) * HALF) for n in range(rounds_wanted)]
    workers = 64
    together = processes.Barrier(workers)
    url = db.url(APP_ROLE)
    outcomes = gathered(fight, [(url, who, rounds, together) for who in range(workers)])
    for of_round in zip(*outcomes, strict=True):
        told = Counter(one if one.startswith("slot_") else "won" if len(one) == 36 else one for one in of_round)
        assert told["won"] == 1, told
        assert set(told) <= {"won", "slot_taken", "slot_unavailable"}, told
    won = {one for outcome in outcomes for one in outcome if len(one) == 36}
    assert {str(row[0]) for row in rows(db, "SELECT id FROM nxsched.booking")} == won
    assert count(db, "booking", "status = 'confirmed'") == len(rounds)
    assert_sound(db)
    assert rows(db, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == [(0,)]


@pytest.mark.slow
def test_whatever_many_processes_do_at_random_what_was_promised_holds(db: Database) -> None:
    seconds = float(os.environ.get("NXSCHED_SECONDS", "60"))
    furnished(db)
    first = tomorrow()
    starts = [first + timedelta(days=day) + n * HALF for day in range(2) for n in range(6)]
    event_types = (*HOSTS, "pool", "pair", "limited", "alone")
    url = db.url(APP_ROLE)
    journals = gathered(walk, [(url, seed, event_types, starts, seconds) for seed in range(8)])
    assert [wrong for journal in journals for wrong in journal.wrong] == []
    assert_sound(db)
    over = rows(
        db,
        "SELECT e.slug, o.starts_at::date, count(*) FROM nxsched.occurrence o JOIN nxsched.event_type e"
        " ON e.event_type_no = o.event_type_no WHERE o.active AND e.slug IN ('limited', 'alone')"
        " AND (o.held_until IS NULL OR o.held_until > clock_timestamp()) GROUP BY 1, 2 HAVING count(*) > 3",
    )
    assert over == [], "a limit was exceeded"
    stored = {str(row[0]): row[1] for row in rows(db, "SELECT id, status FROM nxsched.booking")}
    for journal in journals:
        for booking, told in journal.states.items():
            assert stored[booking] == told or (told == "held" and stored[booking] == "expired"), booking
    done: Counter[str] = Counter()
    for journal in journals:
        done.update(journal.done)
    assert min(done[act] for act in ("book", "hold", "confirm", "cancel", "release", "join")) > 0
    assert done["book: slot_taken"] > 0
    print(dict(sorted(done.items())))  # noqa: T201 - shown with -s, and when the test fails
