"""`nxsched relay`: a process that posts what the outbox holds until it is told to stop."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner, Result

from nxsched import Scheduler, Tenant, Webhook, new_webhook_secret
from nxsched.cli import main
from nxsched.embedded import APP_ROLE, WORKER_ROLE
from store.booked import GRACE
from store.conftest import DAY, HOUR, Database, furnish
from store.receiving import Endpoint, endpoint

HERE = ("--allow", "127.0.0.0/8", "--allow-http")
SECRET = new_webhook_secret()
SOON = (datetime.now(UTC) + 30 * DAY).replace(hour=10, minute=0, second=0, microsecond=0)


@pytest.fixture
def ours() -> Iterator[Endpoint]:
    with endpoint() as found:
        yield found


@pytest.fixture
def shop(db: Database) -> Iterator[tuple[Scheduler, Tenant]]:
    with Scheduler(db.url(APP_ROLE), worker_url=db.url(WORKER_ROLE)) as scheduler:
        tenant = scheduler.create_tenant("acme", name="Acme")
        furnish(tenant)
        yield scheduler, tenant


def run(db: Database, *arguments: str, role: str = WORKER_ROLE, secret: str = SECRET) -> Result:
    environment = {"NXSCHED_WORKER_URL": db.url(role), "NXSCHED_WEBHOOK_SECRET": secret}
    before = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)]
    try:
        return CliRunner(env=environment).invoke(main, ["relay", *arguments])
    finally:
        for one, what in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
            signal.signal(one, what)


def test_once_it_posts_what_is_due_and_ends(db: Database, shop: tuple[Scheduler, Tenant], ours: Endpoint) -> None:
    scheduler, acme = shop
    acme.webhooks.save(Webhook(url=ours.url.replace("acme", "endpoint")))
    acme.book("visit", start=SOON, attendee=GRACE, force=True)
    done = run(db, "--webhook", ours.url, "--endpoints", "--once", *HERE)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-2:] == [
        "events: 1 delivered, 0 to be tried again, 0 dead",
        "endpoints: 1 delivered, 0 to be tried again, 0 dead",
    ]
    assert sorted(one.path for one in ours.posted) == ["/hook?of=acme", "/hook?of=endpoint"]
    acme.book("visit", start=SOON + HOUR, attendee=GRACE, force=True)
    assert run(db, "--endpoints", "--events-done", "--once", *HERE).exit_code == 0
    assert (len(ours.posted), scheduler.outbox.status().depth) == (3, 0)


def test_marking_events_as_delivered_marks_no_reminder_as_sent(
    db: Database, shop: tuple[Scheduler, Tenant], ours: Endpoint
) -> None:
    _, acme = shop
    booking = acme.book("visit", start=SOON, attendee=GRACE, force=True)
    due = "UPDATE nxsched.reminder SET due_at = now(), occurred_at = now()"
    with db.superuser.begin() as connection:
        connection.exec_driver_sql(due)
    done = run(db, "--endpoints", "--events-done", "--once", *HERE)
    assert done.stdout.splitlines()[-2].startswith("events: 1 delivered")
    assert {one.state for one in acme.reminders(booking.id)} == {"waiting"}
    assert ours.posted == []


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_runs_until_it_is_told_to_stop(
    db: Database, shop: tuple[Scheduler, Tenant], ours: Endpoint, how: signal.Signals
) -> None:
    _, acme = shop
    command = [sys.executable, "-m", "nxsched", "relay", "--webhook", ours.url, "--secret", SECRET, *HERE]
    with subprocess.Popen(
        [*command, "--worker-url", db.url(WORKER_ROLE)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        for i in range(2):
            acme.book("visit", start=SOON + i * HOUR, attendee=GRACE, force=True)
            patience = time.monotonic() + 60
            while len(ours.posted) <= i:
                assert time.monotonic() < patience
                time.sleep(0.02)
        running.send_signal(how)
        said, wrong = running.communicate(timeout=60)
    assert (running.returncode, wrong) == (0, "")
    assert said.splitlines()[-1] == "events: 2 delivered, 0 to be tried again, 0 dead"


def test_what_it_cannot_do_it_says_in_a_line(db: Database) -> None:
    for arguments, role, words in (
        ((), WORKER_ROLE, "Say where to: --webhook URL, --endpoints, or both."),
        (("--webhook", "https://one.test/", "--events-done"), WORKER_ROLE, "there can be only one."),
        (("--webhook", "http://one.test/"), WORKER_ROLE, "--webhook: must be https, unless http is allowed"),
        (("--webhook", "nothing"), WORKER_ROLE, "--webhook: must be https://host/path"),
        (("--endpoints", "--allow", "10.0.0.0/64"), WORKER_ROLE, "--allow"),
        (("--endpoints",), APP_ROLE, "--worker-url: must log in as a role that sees the events of all tenants"),
        (
            ("--endpoints", "--worker-url", "mysql://one.test/"),
            WORKER_ROLE,
            "--worker-url: must begin with postgresql://",
        ),
    ):
        found = run(db, *arguments, role=role)
        assert found.exit_code == 2, arguments
        assert words in found.stderr, arguments
        assert "Traceback" not in found.stderr
    found = run(db, "--webhook", "https://one.test/", secret="")
    assert (found.exit_code, found.stderr[:19]) == (2, "--secret: must have")
    assert run(db, "--help").stdout.startswith("Usage: ")


def test_a_failing_endpoint_is_named_with_what_it_said(
    db: Database, shop: tuple[Scheduler, Tenant], ours: Endpoint
) -> None:
    _, acme = shop
    ours.answer(500)
    acme.book("visit", start=SOON, attendee=GRACE, force=True)
    began = datetime.now(UTC)
    done = run(db, "--webhook", ours.url, "--once", *HERE)
    assert done.stdout.endswith("events: 0 delivered, 1 to be tried again, 0 dead\n")
    assert datetime.now(UTC) - began < timedelta(minutes=1)
