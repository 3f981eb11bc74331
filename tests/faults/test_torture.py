"""The fault harness: what nxsched promises holds while all around it breaks, and else the checker would see it."""

from __future__ import annotations

import contextlib
import copy
import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest

import servers
from faults.sabotage import (
    acknowledged_before_the_commit,
    acknowledged_when_it_is_leased,
    all_for_one,
    an_event_deleted_by_hand,
    in_no_order,
    without_a_second_look,
    without_row_locks,
    without_the_constraint,
)
from nxsched import Tenant
from nxsched.torture import Report, torture
from nxsched.torture.calls import BY_LINK
from nxsched.torture.checker import REMINDER, check
from nxsched.torture.evidence import Evidence
from nxsched.torture.faults import FAULTS
from nxsched.torture.journal import AFTERWARDS, Try

SECONDS = float(os.environ.get("NXSCHED_SECONDS", "60"))


def told(at: float, what: str) -> None:
    print(f"{at:7.1f} s  {what}")  # noqa: T201 - shown when the test fails


def summary(report: Report) -> str:
    """What somebody wants to know who reads the log."""
    found = [f"seed {report.seed}: {report.operations} calls, {report.workers} workers, {report.bookings} bookings"]
    found += [str(dict(one.most_common())) for one in (report.calls, report.reads, report.ends, report.faults)]
    found.append(f"99 of 100 waited {report.soon:.2f} s at most")
    return "\n".join(found)


@pytest.mark.slow
def test_whatever_breaks_what_was_promised_holds() -> None:
    # With a seed of always; `make test-slow` runs the command with a new one, which it prints.
    report = torture(seconds=SECONDS, workers=4, seed=20_261_122, every=1.5, tell=told)
    print(summary(report))  # noqa: T201 - as above
    assert report.violations == []
    assert report.ends["told"] > SECONDS
    assert report.faults.total() > SECONDS / 2
    assert {name for name in report.begun if not report.faults[name]} == set()
    assert report.planned == {one.name for one in FAULTS} or SECONDS < 60
    assert report.faults["tasks cancelled"]
    methods = {name for name in vars(Tenant) if not name.startswith("_")}
    assert methods - {BY_LINK.get(one, one) for one in (*report.calls, *report.reads)} == NOT_COUNTED or SECONDS < 60
    assert set(report.ends) >= {"told", "refused", "undone"}
    assert min(report.received[what] for what in ("events", "posts", "reminders")) > SECONDS
    assert 0 < report.repeats < report.received.total() / 2
    assert report.taken_up > 0


NOT_COUNTED = {"id", "for_caller", "for_attendee", "manage_token", "messages", "preferences", "webhooks", "with_token"}
"""Of a tenant's methods those that lead to others, or are called before a call."""

SABOTAGE: dict[str, tuple[dict[str, Any], set[str]]] = {
    "a constraint that excludes nothing": (
        {"on_stage": without_the_constraint, "sabotage": all_for_one},
        {"no two active claims of a host overlap"},
    ),
    "no row locks": (
        {"sabotage": without_row_locks},
        {"time is taken while a booking stands and no longer", "no limit is exceeded", "no seat is sold twice"},
    ),
    "an acknowledgement before the commit": (
        {"sabotage": acknowledged_before_the_commit},
        {"what was acknowledged is there", "a call happens whole or not at all"},
    ),
    "an event that somebody deletes": ({"on_stage": an_event_deleted_by_hand}, {"every change has its event"}),
    "relays that acknowledge first": (
        {"sabotage_relays": acknowledged_when_it_is_leased},
        {"everything is delivered at least once"},
    ),
    "relays that keep no order": ({"sabotage_relays": in_no_order}, {"events of a booking come in order"}),
    "reminders that nobody looks at again": (
        {"sabotage_relays": without_a_second_look},
        {"no reminder goes out for what is no more"},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SABOTAGE)
def test_the_checker_cries_out_when_something_is_sabotaged(name: str) -> None:
    options, wanted = SABOTAGE[name]
    violated: set[str] = set()
    for seed in (7, 8, 9):  # where the machine is busy, little happens in twenty seconds
        report = torture(seconds=20, workers=3, seed=seed, every=1, tell=told, **options)
        print(summary(report))  # noqa: T201 - as above
        violated |= {one.promise for one in report.violations}
        if wanted & violated:
            return
    pytest.fail(f"in a minute it saw nothing but {sorted(violated)}")


# --- each promise, on what a short run has left -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def evidences() -> list[Evidence]:
    """What there is to look at after short runs in which nothing was wrong, until each tampering finds its like in one.

    Some methods are called seldom: where the machine is busy, one run may end before any of them was told something.
    """
    seen: list[Evidence] = []
    judge = check

    def looked(found: Evidence) -> Any:  # noqa: ANN401 - what it gives
        seen.append(found)
        return judge(found)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.import_module("nxsched.torture"), "check", looked)
        for seed in range(1, 9):
            assert torture(seconds=8, workers=2, seed=seed).violations == []
            if all(tampered(tamper, seen) for tamper in TAMPERED):
                return seen
    pytest.fail(f"in no run: {[tamper.__name__ for tamper in TAMPERED if not tampered(tamper, seen)]}")


def tampered(tamper: Callable[[Evidence], None], seen: list[Evidence]) -> Evidence | None:
    """The first that has what is to be tampered with, with that done to it."""
    for one in seen:
        found = copy.deepcopy(replace(one))
        with contextlib.suppress(StopIteration):
            tamper(found)
            return found
    return None


def standing(found: Evidence) -> Any:  # noqa: ANN401 - a row
    """A booking that stands, and changed once or more."""
    return next(
        row for row in found.rows.values() if row.now["status"] == "confirmed" and row.version > 1 and not row.is_erased
    )


def made(found: Evidence, end: str, *methods: str) -> Any:  # noqa: ANN401 - what was asked
    """A call that came to that end in its only try, and was about nobody who was erased."""
    return next(
        one
        for one in found.asked.values()
        if [tried.end for tried in one.tries] == [end]
        and (not methods or one.method in methods)
        and not found.forgotten(one)
    )


def overlapping(found: Evidence) -> None:
    one = next(one for one in found.claims if one["active"])
    found.claims.append({**one, "busy_from": one["busy_from"] + timedelta(minutes=1)})  # type: ignore[attr-defined]


def claimed_at_another_time(found: Evidence) -> None:
    one = next(one for one in found.claims if one["active"])
    one["busy_until"] += timedelta(days=1)  # type: ignore[index]


def moved_without_its_occurrence(found: Evidence) -> None:
    standing(found).now["starts_at"] += timedelta(days=1)


def told_of_another(found: Evidence) -> None:
    made(found, "told", "cancel").arguments["booking_id"] = "another"


def refused_after_all(found: Evidence) -> None:
    one = made(found, "told", "book")
    one.tries[0].end, one.tries[0].told = None, []
    one.tries.append(Try("again", 0.0, 1.0, "refused", "slot_taken"))


def key_of_another(found: Evidence) -> None:
    found.keys[made(found, "told", "book").key] = "another"  # type: ignore[index]


def ended_too_early(found: Evidence) -> None:
    occurrence = standing(found).now["occurrence"]
    next(one for one in found.claims if one["occurrence"] == occurrence)["active"] = False  # type: ignore[index]


def lost(found: Evidence) -> None:
    del found.rows[made(found, "told", "book").tries[0].told[0].id]  # type: ignore[attr-defined]


def told_otherwise(found: Evidence) -> None:
    tried = made(found, "told", "book").tries[0]
    tried.told = [one._replace(status="declined") for one in tried.told]


def not_reached_yet(found: Evidence) -> None:
    tried = made(found, "told", "book").tries[0]
    tried.told = [one._replace(version=99) for one in tried.told]


def key_of_what_was_refused(found: Evidence) -> None:
    found.keys[made(found, "refused").key] = "whatever"  # type: ignore[index]


def change_of_what_was_taken_back(found: Evidence) -> None:
    standing(found).entries[-1] = standing(found).entries[-1]._replace(actor=made(found, "undone").key)
    found.__post_init__()


def key_gone(found: Evidence) -> None:
    del found.keys[made(found, "told", "book").key]  # type: ignore[attr-defined]


def series_in_parts(found: Evidence) -> None:
    made(found, "told", "book_series").arguments["starts"].append("one more")


def done_twice(found: Evidence) -> None:
    row = standing(found)
    row.entries[1] = row.entries[1]._replace(actor=row.entries[0].actor)
    found.__post_init__()


def two_answers(found: Evidence) -> None:
    one = made(found, "told", "book")
    other = made(found, "told", "place_hold")
    one.tries.append(Try("again", 0.0, 1.0, "told", "", other.tries[0].told))


def nobodys_act(found: Evidence) -> None:
    standing(found).entries[-1] = standing(found).entries[-1]._replace(actor=None)


def somebody_elses_act(found: Evidence) -> None:
    standing(found).entries[-1] = standing(found).entries[-1]._replace(actor="who?")


def another_place(found: Evidence) -> None:
    standing(found).now["location"] = "elsewhere"


def entry_missing(found: Evidence) -> None:
    del standing(found).entries[-1]
    found.__post_init__()


def event_missing(found: Evidence) -> None:
    del standing(found).events[0]


def entry_begins_elsewhere(found: Evidence) -> None:
    row = next(row for row in found.rows.values() if len(row.entries) > 1 and "status" in row.entries[1].changes)
    _, after = row.entries[1].changes["status"]
    row.entries[1] = row.entries[1]._replace(changes={**row.entries[1].changes, "status": ("declined", after)})


def event_of_another_day(found: Evidence) -> None:
    one = standing(found).events[0]
    standing(found).events[0] = one._replace(booking={**one.booking, "start": "2030-01-01T00:00:00Z"})


def event_of_nothing(found: Evidence) -> None:
    found.orphans.append("an event of nothing")  # type: ignore[attr-defined]


def event_says_otherwise(found: Evidence) -> None:
    one = standing(found).events[-1]
    standing(found).events[-1] = one._replace(booking={**one.booking, "status": "declined"})


def event_of_another_kind(found: Evidence) -> None:
    standing(found).events[-1] = standing(found).events[-1]._replace(kind="booking.held")


def another_name(found: Evidence) -> None:
    standing(found).now["attendee"]["name"] = "Nobody"


def busy_time_lost(found: Evidence) -> None:
    next(one for one in found.busy.values() if one)
    found.busy.clear()  # type: ignore[attr-defined]


def over_a_limit(found: Evidence) -> None:
    one = next(one for one in found.occurrences if one["active"] and one["slug"] == "limited")
    found.occurrences.extend([one] * 3)  # type: ignore[attr-defined]


def seats_sold_twice(found: Evidence) -> None:
    standing(found).now["seats"] = 4


def seen_by_others(found: Evidence) -> None:
    found.seen_by_the_other["booking"] = 1  # type: ignore[index]


def raw_error(found: Evidence) -> None:
    tried = made(found, "refused").tries[0]
    tried.end, tried.said = "wrong", "OperationalError: raw"


def connection_left(found: Evidence) -> None:
    found.left.append("connection 7: idle in transaction")  # type: ignore[attr-defined]


def hold_left(found: Evidence) -> None:
    row = standing(found)
    row.now["status"], row.now["expires_at"] = "held", found.swept_at - timedelta(seconds=1)


def told_another_start(found: Evidence) -> None:
    tried = made(found, "told", "book").tries[0]
    tried.told = [one._replace(start="2030-01-01T00:00:00Z") for one in tried.told]


def called_by_another_name(found: Evidence) -> None:
    row = standing(found)
    row.entries[0] = row.entries[0]._replace(action="cancel")
    found.__post_init__()


def moved_somewhere_else(found: Evidence) -> None:
    one = made(found, "told", "reschedule")
    one.arguments["start"] = "2030-01-01T00:00:00Z"


def refused_afterwards(found: Evidence) -> None:
    one = made(found, "told", "book")
    one.tries.append(Try(AFTERWARDS, 0.0, 1.0, "refused", "slot_taken"))
    found.keys_before = {one.key}


def never_answered(found: Evidence) -> None:
    made(found, "told", "book").tries.append(Try(AFTERWARDS, 0.0, 1.0, "unknown"))
    found.keys_before = {"any"}


def called_as_nobody_said(found: Evidence) -> None:
    found.names.append(("save_host", "ada", "Nobody"))  # type: ignore[attr-defined]


def blocked_twice(found: Evidence) -> None:
    found.blocked[made(found, "told", "block").key] = 2  # type: ignore[index]


def half_of_a_report(found: Evidence) -> None:
    host = made(found, "told", "replace_busy").arguments["of"]
    whole = next(one for one in [found.busy.get(host, [])] if len(one) > 1)
    found.busy[host] = whole[:1]  # type: ignore[index]


def still_there(found: Evidence) -> None:
    one = next(
        one
        for one in found.asked.values()
        if one.method == "erase_attendee"
        and one.tries[0].end == "told"
        and one.arguments["reference"] not in found.people
    )
    found.people.add(one.arguments["reference"])  # type: ignore[attr-defined]


def queued(found: Evidence, **state: Any) -> Any:  # noqa: ANN401 - a row
    """An event that was delivered; with another state, if one is given."""
    one = next(
        one
        for one in found.queued.values()
        if one.done and one.of is None and one.kind != REMINDER and found.drained_at and one.at < found.drained_at
    )
    found.queued[one.id] = one._replace(**state)  # type: ignore[index]
    return one


def not_received(found: Evidence) -> None:
    id_ = queued(found).id
    found.received = [one for one in found.received if one.id != id_]


def left_undone(found: Evidence) -> None:
    queued(found, done=False)


def given_up(found: Evidence) -> None:
    one = next(one for one in found.queued.values() if not one.id.endswith("00"))
    found.queued[one.id] = one._replace(dead=True)  # type: ignore[index]


def invented(found: Evidence) -> None:
    found.received = [found.received[0]._replace(id="another"), *found.received] if found.received else next(iter(()))


def out_of_order(found: Evidence) -> None:
    there = {(one.of, one.booking, one.version) for one in found.received if one.kind != REMINDER}
    second = next(
        one for one in found.received if one.kind != REMINDER and (one.of, one.booking, one.version - 1) in there
    )
    found.received = [second._replace(received_at=0.0), *found.received]


def reminded(found: Evidence) -> Any:  # noqa: ANN401 - what was received
    return next(
        one
        for one in found.received
        if one.kind == REMINDER and one.booking in found.rows and found.rows[one.booking].version > one.version
    )


def reminded_too_late(found: Evidence) -> None:
    found.received = [reminded(found)._replace(read_at="2100-01-01T00:00:00Z"), *found.received]


def reminded_of_nothing(found: Evidence) -> None:
    found.received = [reminded(found)._replace(told=False), *found.received]


def ended_somehow(found: Evidence) -> None:
    one = next(one for one in found.queued.values() if one.kind == REMINDER and one.ended)
    found.queued[one.id] = one._replace(ended=None)  # type: ignore[index]


TAMPERED: dict[Callable[[Evidence], None], str] = {
    overlapping: "no two active claims of a host overlap",
    claimed_at_another_time: "time is taken while a booking stands and no longer",
    moved_without_its_occurrence: "time is taken while a booking stands and no longer",
    told_of_another: "what was acknowledged is there",
    refused_after_all: "what was refused left nothing",
    key_of_another: "a call happens whole or not at all",
    ended_too_early: "time is taken while a booking stands and no longer",
    told_another_start: "what was acknowledged is there",
    called_by_another_name: "what was done is what was asked",
    moved_somewhere_else: "what was done is what was asked",
    refused_afterwards: "what nobody was told is told who asks again",
    never_answered: "what nobody was told is told who asks again",
    called_as_nobody_said: "settings are as somebody saved them",
    blocked_twice: "settings are as somebody saved them",
    half_of_a_report: "settings are as somebody saved them",
    still_there: "who was erased is nowhere",
    lost: "what was acknowledged is there",
    told_otherwise: "what was acknowledged is there",
    not_reached_yet: "what was acknowledged is there",
    key_of_what_was_refused: "what was refused left nothing",
    change_of_what_was_taken_back: "what was refused left nothing",
    key_gone: "a call happens whole or not at all",
    series_in_parts: "a call happens whole or not at all",
    done_twice: "a call happens once",
    two_answers: "a call happens once",
    nobodys_act: "every change names a call that was made",
    somebody_elses_act: "every change names a call that was made",
    another_place: "audit entries add up to what is stored",
    entry_missing: "audit entries add up to what is stored",
    event_missing: "every change has its event",
    entry_begins_elsewhere: "audit entries add up to what is stored",
    not_received: "everything is delivered at least once",
    left_undone: "everything is delivered at least once",
    given_up: "everything is delivered at least once",
    invented: "nothing is delivered that is not there",
    out_of_order: "events of a booking come in order",
    reminded_too_late: "no reminder goes out for what is no more",
    reminded_of_nothing: "no reminder goes out for what is no more",
    ended_somehow: "no reminder goes out for what is no more",
    event_of_nothing: "audit entries add up to what is stored",
    event_of_another_day: "every change has its event",
    event_says_otherwise: "every change has its event",
    event_of_another_kind: "every change has its event",
    another_name: "audit entries add up to what is stored",
    busy_time_lost: "settings are as somebody saved them",
    over_a_limit: "no limit is exceeded",
    seats_sold_twice: "no seat is sold twice",
    seen_by_others: "nothing is seen by another tenant",
    raw_error: "callers see no errors but ours",
    connection_left: "nothing outlives its time",
    hold_left: "nothing outlives its time",
}


@pytest.mark.slow
@pytest.mark.parametrize("tamper", TAMPERED, ids=lambda one: one.__name__.replace("_", " "))
def test_each_promise_is_looked_at(evidences: list[Evidence], tamper: Callable[[Evidence], None]) -> None:
    assert [check(copy.deepcopy(replace(one))) for one in evidences] == [[]] * len(evidences)
    found = tampered(tamper, evidences)
    assert found
    assert TAMPERED[tamper] in {one.promise for one in check(found)}


def test_every_promise_is_tampered_with() -> None:
    from nxsched.torture.checker import PROMISES  # noqa: PLC0415 - of this test alone

    assert {one.__name__.replace("_", " ") for one in PROMISES} == {*TAMPERED.values()}


# --- the command ------------------------------------------------------------------------------------------------------


def nxsched(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nxsched", "torture", *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_on_a_server_that_is_named_it_leaves_nothing_behind(server: servers.Server) -> None:
    # Of others it breaks nothing, so it may be the one of the other tests.
    with psycopg.connect(servers.superuser(server)) as connection:
        before = connection.execute("SELECT rolname FROM pg_roles ORDER BY 1").fetchall()
    done = nxsched("--seconds", "12", "--workers", "2", "--seed", "3", "--url", servers.superuser(server))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("Seed 3: 12 seconds, 2 workers.\n")
    assert done.stdout.endswith("Violations: 0\n")
    assert "server stopped" not in done.stdout  # it is not ours
    with psycopg.connect(servers.superuser(server)) as connection:
        assert connection.execute("SELECT rolname FROM pg_roles ORDER BY 1").fetchall() == before
        left = "SELECT datname FROM pg_database WHERE datname LIKE 'nxsched_torture%'"
        assert connection.execute(left).fetchall() == []


@pytest.mark.slow
def test_what_cannot_be_tortured_is_told_in_one_line() -> None:
    for arguments, words in (
        (["--url", "mysql://localhost/x"], "--url: must be a postgresql:// URL"),
        (["--url", "postgresql://postgres@127.0.0.1:1/x"], "no database can be made for it: "),
        (["--url", "shop"], "--url: must be a postgresql:// URL"),
        (["--redis", "redis://:secret@127.0.0.1:1/0"], "--redis: must be redis://host:port, without a password"),
        (["--redis", "redis://127.0.0.1:99999"], "--redis: must be redis://host:port, without a password"),
        (["--redis", "redis://127.0.0.1:1"], "no Redis answers at 127.0.0.1:1: "),
    ):
        done = nxsched(*arguments)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert done.stderr.startswith(words)


@pytest.mark.slow
def test_who_is_told_to_end_leaves_nothing_behind(server: servers.Server) -> None:
    command = [sys.executable, "-m", "nxsched", "torture", "--seconds", "3600", "--workers", "2"]
    with subprocess.Popen([*command, "--url", servers.superuser(server)], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        while " s  " not in running.stdout.readline():  # until something breaks
            pass
        running.terminate()
        running.communicate(timeout=60)
    assert running.returncode == 143
    with psycopg.connect(servers.superuser(server)) as connection:
        left = "SELECT datname FROM pg_database WHERE datname LIKE 'nxsched_torture%'"
        assert connection.execute(left).fetchall() == []


def test_without_the_package_redis_it_can_be_had_all_the_same() -> None:
    program = "import sys; sys.modules['redis'] = None; import nxsched.torture"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    ("package", "options", "extra"),
    [("greenlet", [], "async"), ("asyncpg", [], "asyncpg"), ("redis", ["--redis", "redis://cache:6379"], "redis")],
)
def test_a_package_that_it_needs_is_missed_before_it_begins(package: str, options: list[str], extra: str) -> None:
    program = f"import sys; sys.modules[{package!r}] = None; from nxsched.cli import main; main()"
    command = [sys.executable, "-c", program, "torture", "--seconds", "10", *options]
    found = subprocess.run(command, check=False, capture_output=True, text=True)
    assert found.returncode == 2, found.stdout + found.stderr
    assert found.stderr.endswith(f"needs the extra '{extra}': pip install 'nxsched[{extra}]'\n")
