"""`nxsched sweep`: what a cron job does."""

from __future__ import annotations

from datetime import timedelta

from click.testing import CliRunner, Result

from nxsched import Scheduler, Tenant
from nxsched.cli import main
from nxsched.embedded import APP_ROLE, WORKER_ROLE
from store.booked import GRACE
from store.conftest import HOUR, NINE, Database


def run(db: Database, *arguments: str, role: str = WORKER_ROLE) -> Result:
    return CliRunner(env={"NXSCHED_WORKER_URL": db.url(role)}).invoke(main, ["sweep", *arguments])


def test_it_ends_what_is_over_and_deletes_what_was_delivered(db: Database, acme: Tenant, scheduler: Scheduler) -> None:
    hold = acme.place_hold("visit", start=NINE, ttl=timedelta(minutes=5))  # long ago, by the database's clock
    acme.book("visit", start=NINE + HOUR, attendee=GRACE, idempotency_key="k")
    scheduler.relay(lambda _: None).run_once()
    done = run(db, "--keep-days", "0")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == "Ended: 1 holds, 0 requests. Deleted: 2 events, 0 reminders, 1 idempotency keys.\n"
    assert acme.hold(hold.id).status == "expired"
    assert run(db).stdout.startswith("Ended: 0 holds")


def test_what_it_cannot_do_it_says_in_a_line(db: Database) -> None:
    for arguments, role, words in (
        (["--keep-days", "9999999"], WORKER_ROLE, "--keep-days: must lie between 0 and"),
        ([], APP_ROLE, "--worker-url: must log in as a role that sees all tenants"),
    ):
        done = run(db, *arguments, role=role)
        assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
        assert done.stderr.startswith(words), done.stderr
