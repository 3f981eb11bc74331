"""`nxsched outbox`: what whoever runs an application sees of its events, and does with them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from click.testing import CliRunner, Result

from nxsched import Attendee, RetryLater, Scheduler, Tenant, Undeliverable
from nxsched.cli import main
from nxsched.embedded import APP_ROLE, WORKER_ROLE
from store.conftest import HOUR, NINE, Database


def run(db: Database, *arguments: str, role: str = WORKER_ROLE) -> Result:
    return CliRunner(env={"NXSCHED_WORKER_URL": db.url(role), "COLUMNS": "200"}).invoke(main, ["outbox", *arguments])


@pytest.fixture
def dead(scheduler: Scheduler, acme: Tenant) -> tuple[str, str]:
    """A dead event, and one that waits."""
    acme.save_event_type(replace(acme.event_type("visit"), reminders=()))
    for at in range(2):
        acme.book("visit", start=NINE + at * HOUR, attendee=Attendee(name="Zoë [bold]\u200d"))
    first, second = (one.id for one in scheduler.outbox.events())

    def deliver(event: object) -> None:
        if getattr(event, "id", None) == first:
            raise Undeliverable("[red]no\x1b such receiver")
        raise RetryLater("busy", after=timedelta(hours=1))

    scheduler.relay(deliver).run_once()
    return first, second


def test_a_list_shows_what_is_not_delivered(db: Database, dead: tuple[str, str]) -> None:
    found = run(db, "list")
    assert found.exit_code == 0
    first, second = found.stdout.splitlines()[1:]
    assert first.split(maxsplit=8)[:5] == [dead[0], "acme", "booking.confirmed", "1", "2026-03-02"]
    assert first.endswith("dead     1         Undeliverable: [red]no\N{REPLACEMENT CHARACTER} such receiver")
    assert second.split()[-4:] == ["waiting", "1", "RetryLater:", "busy"]
    assert [line.split()[0] for line in run(db, "list", "--state", "dead").stdout.splitlines()[1:]] == [dead[0]]
    assert run(db, "list", "--state", "discarded").stdout == "There are no such events.\n"
    more = run(db, "list", "--limit", "1")
    assert more.stderr == "There are more: --limit 1 shows the first ones.\n"
    assert run(db, "list", "--limit", "1", "--json").stderr == more.stderr
    as_json = [json.loads(line) for line in run(db, "list", "--json").stdout.splitlines()]
    assert [one["id"] for one in as_json] == [*dead]
    assert as_json[0]["payload"]["booking"]["attendee"]["name"] == "Zoë [bold]\u200d"


def test_events_are_shown_whole(db: Database, dead: tuple[str, str]) -> None:
    found = json.loads(run(db, "show", dead[0]).stdout)
    assert (found["state"], found["attempts"], found["payload"]["format"]) == ("dead", 1, 1)


def test_events_are_tried_again_or_given_up(db: Database, dead: tuple[str, str]) -> None:
    assert run(db, "retry", dead[0]).stdout == f"{dead[0]} waits to be delivered.\n"
    assert run(db, "discard", dead[1]).stdout == f"{dead[1]} is discarded.\n"
    got: list[str] = []
    with Scheduler(db.app, worker_url=db.worker) as scheduler:  # by the database's clock, as the command
        scheduler.relay(lambda event: got.append(event.id)).run_once()
    assert got == [dead[0]]
    again = run(db, "retry", dead[0], dead[1])
    assert (again.exit_code, again.stderr) == (2, f"id: was delivered already: {dead[0]}\n")
    assert again.stdout == f"{dead[1]} waits to be delivered.\n", "it goes on with the others"


def test_what_a_terminal_would_obey_is_escaped(db: Database, scheduler: Scheduler, acme: Tenant) -> None:
    acme.book("visit", start=NINE, attendee=Attendee(name="Grace"), metadata={"a": "\x9b31m\u202e"})
    event = scheduler.outbox.events()[0].id
    assert run(db, "show", event).stdout.isascii()
    assert run(db, "list", "--json").stdout.isascii()


def test_the_status_says_how_things_stand(db: Database, dead: tuple[str, str]) -> None:
    del dead
    lines = dict(line.rsplit(maxsplit=1) for line in run(db, "status").stdout.splitlines() if "oldest" not in line)
    assert lines == {"not delivered": "1", "tried in vain so far": "1", "dead": "1"}
    found = json.loads(run(db, "status", "--json", "--tenant", "acme").stdout)
    assert found.keys() == {"depth", "lag", "failing", "dead"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "nonsense"], "there is no event nonsense in the outbox"),
        (["list", "--booking", "\x1b"], "there is no booking \N{REPLACEMENT CHARACTER}"),
        (["retry", "0198a1b2-0000-7000-8000-000000000001"], "there is no event 0198a1b2-0000-7000-8000-000000000001"),
        (["list", "--tenant", ""], "--tenant: must not be empty"),
        (["status", "--tenant", "nobody"], "there is no tenant 'nobody'"),
        (["list", "--state", "lost"], "'lost' is not one of"),
    ],
)
def test_mistakes_are_told_in_a_line(db: Database, arguments: list[str], said: str) -> None:
    found = run(db, *arguments)
    assert found.exit_code == 2
    assert said in found.stderr


def test_who_logs_in_as_the_application_is_told_who_to_be(db: Database) -> None:
    found = run(db, "list", role=APP_ROLE)
    assert found.exit_code == 2
    assert found.stderr.startswith("--worker-url: must log in as a role that sees the events of all tenants")
    other = CliRunner().invoke(main, ["outbox", "status", "--worker-url", "mysql://worker@localhost/app"])
    assert other.stderr.startswith("--worker-url: must begin with postgresql://")
    nowhere = CliRunner().invoke(main, ["outbox", "status"])
    assert (nowhere.exit_code, "Name the database with --worker-url" in nowhere.stderr) == (2, True)
