"""`nxsched relay`: a process that posts events, until it is told to stop."""

from __future__ import annotations

import logging
import signal
import threading
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from nxsched.cli.errors import one_line_errors
from nxsched.cli.outbox import worker_option, worker_scheduler
from nxsched.store.outbox import EVENTS

if TYPE_CHECKING:
    from nxsched.domain.outbox import OutboxEvent, Relayed
    from nxsched.relay.options import RelayReport
    from nxsched.relay.relay import Relay
    from nxsched.relay.webhooks import WebhookDelivery
    from nxsched.scheduler import Scheduler

_LOOK_EVERY = 0.5
"""Seconds after which the main thread hears of a signal at the latest."""


@click.command()
@worker_option
@click.option("--webhook", metavar="URL", help="Post every event of all tenants to this endpoint of your own.")
@click.option(
    "--secret",
    "secrets",
    metavar="WHSEC",
    multiple=True,
    envvar="NXSCHED_WEBHOOK_SECRET",
    show_envvar=True,
    help="What signs the posts to --webhook: whsec_…; two while one takes the place of the other.",
)
@click.option("--endpoints", is_flag=True, help="Post to the endpoints that tenants have saved.")
@click.option(
    "--events-done",
    is_flag=True,
    help="Mark every event as delivered, but no reminder: where the endpoints of tenants are all that wants them.",
)
@click.option("--allow", metavar="NETWORK", multiple=True, help="Post into this network too, such as 10.0.0.0/8.")
@click.option("--allow-http", is_flag=True, help="Post to http:// too.")
@click.option(
    "--timeout", default=15.0, show_default=True, type=click.FloatRange(0.1, 25), help="Seconds for one attempt."
)
@click.option(
    "--concurrency", default=8, show_default=True, type=click.IntRange(1, 100), help="Posts under way at a time."
)
@click.option("--once", is_flag=True, help="Deliver what is due now, and end.")
def relay(worker_url: str | None, secrets: tuple[str, ...], *, concurrency: int, once: bool, **given: Any) -> None:
    """Post what the outbox holds, signed as Standard Webhooks has it, until SIGTERM or SIGINT.

    What is being posted then is finished. Several of these processes share the work. Exit status: 0, it was told to
    stop, or --once is done; 2, it could not begin.

    \b
    Examples:
      nxsched relay --endpoints --worker-url postgresql://worker@localhost/app
      NXSCHED_WEBHOOK_SECRET=whsec_… nxsched relay --webhook https://app.example.com/bookings
    """  # noqa: D301 - click ends the wrapping of lines at a backspace
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it would log addresses whole
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    with (
        one_line_errors(database="--worker-url", url="--webhook", secrets="--secret", allow="--allow"),
        worker_scheduler(worker_url) as found,
    ):
        relays = list(_relays(found, secrets, concurrency, given))
        stop = threading.Event()
        for one in (signal.SIGTERM, signal.SIGINT):
            signal.signal(one, lambda *_: stop.set())
        with ThreadPoolExecutor(len(relays)) as pool:
            running = [pool.submit(one.run_once if once else one.run, stop) for _, one in relays]
            _wait(running, stop)
        for (what, _), done in zip(relays, running, strict=True):
            click.echo(f"{what}: {_words(done.result())}")


def _relays(
    scheduler: Scheduler, secrets: tuple[str, ...], concurrency: int, given: dict[str, Any]
) -> list[tuple[str, Relay]]:
    """What is to run, each with what it is called."""
    from nxsched.relay.webhooks import WebhookDelivery  # noqa: PLC0415 - its packages are optional

    if given["webhook"] and given["events_done"]:
        raise click.UsageError("Of --webhook and --events-done, which both take the events, there can be only one.")
    if not (given["webhook"] or given["endpoints"] or given["events_done"]):
        raise click.UsageError("Say where to: --webhook URL, --endpoints, or both.")
    posts = WebhookDelivery(
        timeout=timedelta(seconds=given["timeout"]), allow=given["allow"], allow_http=given["allow_http"]
    )
    wanted: list[tuple[str, Any]] = []
    if given["webhook"]:
        wanted.append(("events", posts.to(given["webhook"], secrets=secrets)))
    if given["events_done"]:
        wanted.append(("events", _Nothing()))
    if given["endpoints"]:
        wanted.append(("endpoints", posts))
    return [(what, _made(scheduler, what, deliver, concurrency)) for what, deliver in wanted]


def _made(scheduler: Scheduler, what: str, deliver: WebhookDelivery, concurrency: int) -> Relay:
    said: list[str] = []

    def report(one: RelayReport) -> None:
        status = one.status
        words = f"{what}: {_words(one.done)}; {status.depth:,} wait, the oldest {status.lag.total_seconds():,.0f} s"
        if said[-1:] != [words]:
            said[:] = [words]
            click.echo(words)

    return scheduler.relay(deliver, concurrency=concurrency, on_report=report)


class _Nothing:
    """An event has been posted to whoever wanted it, or will be. Reminders are left: nobody would send them."""

    queue = EVENTS

    def __call__(self, event: OutboxEvent) -> None:
        """Do nothing."""


def _wait(running: list[Future[Relayed]], stop: threading.Event) -> None:
    """Until all have ended; where one fails, the others are told to. Signals come between the looks."""
    while True:
        done, waiting = wait(running, timeout=_LOOK_EVERY, return_when=FIRST_EXCEPTION)
        if any(one.exception() for one in done):
            stop.set()
            wait(waiting)
            return
        if not waiting:
            return


def _words(done: Relayed) -> str:
    words = f"{done.delivered:,} delivered, {done.failed:,} to be tried again, {done.dead:,} dead"
    return words + (f", {done.lost:,} perhaps twice" if done.lost else "")
