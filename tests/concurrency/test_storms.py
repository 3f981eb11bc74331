"""Storms: many processes on one server, counted at the end by raw SQL."""

from __future__ import annotations

import os
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from concurrency.storm import Board, Journal, exceeded, fight, processes, tend, walk
from nxsched import Scheduler
from nxsched.embedded import APP_ROLE, WORKER_ROLE
from nxsched.torture.world import EVENT_TYPES, HALF, furnish
from store.booked import assert_sound, count, rows
from store.conftest import Database


def furnished(db: Database) -> None:
    """What tortures fight over, too."""
    with Scheduler(db.app) as scheduler:
        furnish(scheduler.create_tenant("acme", name="Acme"))


def tomorrow() -> datetime:
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


def gathered(wanted: list[tuple[Any, ...]]) -> list[Any]:
    """What each of so many processes hands in, of a function of the storm and its arguments."""
    found = processes.Queue()
    started = [processes.Process(target=target, args=(*arguments, found), daemon=True) for target, *arguments in wanted]
    for process in started:
        process.start()
    results = [found.get(timeout=1200) for _ in started]
    for process in started:
        process.join(timeout=60)
        assert process.exitcode == 0
    return results


def deadlocks(db: Database) -> int:
    """How many there were in this database since it was made; the processes have ended, and so have told of theirs."""
    found: int = rows(db, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")[0][0]
    return found


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
    outcomes = gathered([(fight, url, who, rounds, together) for who in range(workers)])
    for of_round in zip(*outcomes, strict=True):
        told = Counter(one if one.startswith("slot_") else "won" if len(one) == 36 else one for one in of_round)
        assert told["won"] == 1, told
        assert set(told) <= {"won", "slot_taken", "slot_unavailable"}, told
    won = {one for outcome in outcomes for one in outcome if len(one) == 36}
    assert {str(row[0]) for row in rows(db, "SELECT id FROM nxsched.booking")} == won
    assert count(db, "booking", "status = 'confirmed'") == len(rounds)
    assert_sound(db)
    assert deadlocks(db) == 0


MOVES = {
    (None, "held"),
    (None, "pending"),
    (None, "confirmed"),
    ("held", "pending"),
    ("held", "confirmed"),
    ("held", "released"),
    ("held", "expired"),
    ("expired", "pending"),
    ("expired", "confirmed"),
    ("pending", "cancelled"),
    ("pending", "confirmed"),
    ("pending", "declined"),
    ("held", "held"),
    ("pending", "pending"),
    ("confirmed", "cancelled"),
    ("confirmed", "completed"),
    ("confirmed", "no_show"),
    ("confirmed", "confirmed"),
    ("completed", "no_show"),
    ("no_show", "completed"),
    ("completed", "completed"),
    ("no_show", "no_show"),
}
"""All that can become of a hold or booking in a storm; what has expired is confirmed where its time is free."""


def recorded(db: Database) -> dict[str, list[str]]:
    """The states of each booking, version by version; audit trail and events tell the same, or the test fails."""
    found: dict[str, list[str]] = {}
    told = rows(
        db,
        "SELECT b.id::text, b.version, b.status, array_agg(e.version ORDER BY e.version),"
        " array_agg(e.payload->'booking'->>'status' ORDER BY e.version),"
        " (SELECT array_agg(a.version ORDER BY a.version) FROM nxsched.audit_entry a WHERE a.booking_id = b.id),"
        " (SELECT array_agg(a.changes->'status'->>1 ORDER BY a.version) FROM nxsched.audit_entry a"
        " WHERE a.booking_id = b.id)"
        " FROM nxsched.booking b LEFT JOIN nxsched.outbox_event e ON e.booking_id = b.id GROUP BY b.id, b.tenant_id",
    )
    for id_, version, status, of_events, states, of_audit, audited in told:
        assert of_events == of_audit == list(range(1, version + 1)), id_
        for n, state in enumerate(audited):  # a change that leaves the state says nothing of it
            audited[n] = state or audited[n - 1]
        assert states == audited, id_
        assert states[-1] == status, id_
        assert set(zip([None, *states], states, strict=False)) <= MOVES, (id_, states)
        found[id_] = states
    return found


def assert_kept(db: Database, journals: list[Journal]) -> None:
    """What processes were told stands in the database, and nothing else does."""
    told = {one for journal in journals for one in journal.told}
    states = recorded(db)
    assert set(states) == {one.id for one in told}, "a booking is lost, or one is there that nobody was told of"
    for one in told:
        # A hold that nobody has swept yet is over all the same.
        assert states[one.id][one.version - 1] in {one.status, "held" if one.status == "expired" else one.status}, one
    keys: dict[str, set[str]] = {}
    for one in told:
        if one.key is not None:
            keys.setdefault(one.key, set()).add(one.made)
    assert {key: len(ids) for key, ids in keys.items() if len(ids) > 1} == {}, "a key made two bookings"
    taken = rows(db, "SELECT key, result->>'id' FROM nxsched.idempotency_key")
    assert {key: {id_} for key, id_ in taken} == keys


def stormed(db: Database, seconds: float, *, pairs: bool) -> Counter[str]:
    """What was done how often by eight processes at random while another sweeps; what was promised held."""
    furnished(db)
    first = tomorrow()
    starts = [first + timedelta(days=day) + n * HALF for day in range(2) for n in range(6)]
    url = db.url(APP_ROLE)
    boards = Board(), Board()
    walkers = [(walk, url, seed, EVENT_TYPES, starts, boards, seconds, pairs) for seed in range(8)]
    journals = gathered([*walkers, (tend, url, db.url(WORKER_ROLE), db.url("postgres"), seconds)])
    assert [wrong for journal in journals for wrong in journal.wrong] == [], "what no caller may ever see"
    assert_sound(db)
    with db.superuser.begin() as connection:
        assert exceeded(connection) == []
    assert_kept(db, journals)
    done = sum((journal.done for journal in journals), Counter[str]())
    told = Counter(one for journal in journals for one in {(one.made, one.key) for one in journal.told})
    done["keys of several processes"] = sum(several > 1 for (_, key), several in told.items() if key)
    done["stored"], done["changes"] = count(db, "booking"), count(db, "audit_entry")
    shared = rows(db, "SELECT sum(seats) FROM nxsched.booking GROUP BY occurrence_id HAVING count(*) > 1")
    done["shared"], done["seats in shared"] = len(shared), sum(seats for (seats,) in shared)
    done["deadlocks"] = deadlocks(db)
    # A machine that is busy with other storms makes some wait too long; that is told, and seldom.
    assert done["gave up: lock_timeout"] + done["gave up: transaction_conflict"] <= done["calls"] / 100
    print(dict(sorted(done.items())))  # noqa: T201 - shown with -s, and when the test fails
    return done


@pytest.mark.slow
def test_whatever_many_processes_do_at_random_what_was_promised_holds(db: Database) -> None:
    done = stormed(db, float(os.environ.get("NXSCHED_SECONDS", "60")), pairs=True)
    seen = {
        "book",
        "place_hold",
        "confirm_hold",
        "cancel",
        "release_hold",
        "reschedule",
        "approve",
        "decline",
        "complete",
        "mark_no_show",
        "update",
        "reassign",
        "book_series",
        "cancel_series",
        "reschedule: slot_taken",
        "book_series: slot_taken",
        "book: slot_taken",
        "book: slot_unavailable",
    }
    seen |= {"within: committed", "within: rolled back", "swept", "looks", "keys of several processes", "shared"}
    assert [one for one in sorted(seen) if not done[one]] == []
    assert {state for states in recorded(db).values() for state in states} == {after for _, after in MOVES}
    # A caller is told of a deadlock in the application's transaction alone: whoever is told elsewhere finds it wrong.
    assert done["within: deadlock"] <= done["deadlocks"]


@pytest.mark.slow
def test_where_each_transaction_asks_for_one_thing_nobody_waits_in_a_circle(db: Database) -> None:
    """Everybody takes locks in one order: no deadlock in the whole database, not even one that is tried again."""
    done = stormed(db, float(os.environ.get("NXSCHED_SECONDS", "60")) / 3, pairs=False)
    seen = {"book", "place_hold", "confirm_hold", "cancel", "release_hold", "within: committed", "swept", "looks"}
    assert [one for one in sorted(seen) if not done[one]] == []
    assert (done["deadlocks"], done["within: deadlock"]) == (0, 0)
