"""Relays that are killed at any statement, and a receiver that fails: every event comes, in order, at least once."""

from __future__ import annotations

import multiprocessing as mp
import random
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from faults.relays import Delivery, read, relay, violations
from nxsched import Attendee, Scheduler, Tenant
from nxsched.embedded import WORKER_ROLE
from store.booked import rows
from store.conftest import HALF, Database, furnish

processes = mp.get_context("forkserver")
GRACE = Attendee(name="Grace")
PATIENCE = 60.0


def work(acme: Tenant, seed: int, seconds: float, start: datetime) -> None:
    """Bookings that are made, changed and cancelled all the time."""
    chance, ends, n = random.Random(seed), time.monotonic() + seconds, 0  # noqa: S311 - no secret
    while time.monotonic() < ends:
        booking = acme.book("visit", start=start + n % 16 * HALF, attendee=GRACE)
        for change in range(chance.randrange(4)):
            acme.update(booking.id, location=f"Room {change}")
        acme.cancel(booking.id)
        n += 1


def storm(
    db: Database, acme: Tenant, book: Path, *, seconds: float, seed: int, acknowledges_first: bool = False
) -> int:
    """Two relays at a time, each followed by another when it dies, while somebody books; gives how many have died."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    died = 0

    def begun(dies: float, fails: float) -> mp.process.BaseProcess:
        values = (db.url(WORKER_ROLE), str(book), chance.randrange(2**32), dies, fails)
        process = processes.Process(target=relay, args=values, kwargs={"acknowledges_first": acknowledges_first})
        process.start()
        return process

    running = [begun(0.01, 0.1) for _ in range(2)]
    try:
        slots = acme.find_slots("visit", start=NEXT, end=NEXT + timedelta(days=5), limit=1)
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            work(acme, chance.randrange(2**32), 0.1, slots[0].start)
            for i, process in enumerate(running):
                if not process.is_alive():
                    process.join()
                    running[i] = begun(0.01, 0.1)
                    died += 1
        for process in running:
            process.kill()
            process.join()
        running = [begun(0, 0)]
        wait_until(lambda: not undone(db))
    finally:
        for process in running:
            process.kill()
            process.join()
    return died


NEXT = datetime.fromisoformat("2037-06-01T00:00:00+00:00")


def undone(db: Database) -> int:
    found: int = rows(db, "SELECT count(*) FROM nxsched.outbox_event WHERE done_at IS NULL AND dead_at IS NULL")[0][0]
    return found


def wait_until(true: Callable[[], bool]) -> None:
    ends = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < ends, "it did not happen"
        time.sleep(0.05)


def events(db: Database) -> list[Delivery]:
    found = rows(db, "SELECT id::text, booking_id::text, version FROM nxsched.outbox_event")
    return [Delivery(*row) for row in found]


@pytest.fixture
def shop(db: Database) -> Tenant:
    """A tenant whose time is the database's own."""
    with Scheduler(db.app) as scheduler:
        tenant = scheduler.create_tenant("acme", name="Acme")
    furnish(tenant)
    return tenant


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_kills_relays_every_event_is_delivered_in_order(
    db: Database, shop: Tenant, tmp_path: Path, seed: int
) -> None:
    book = tmp_path / "book"
    died = storm(db, shop, book, seconds=15, seed=seed)
    delivered = read(book)
    assert not violations(delivered, events(db))
    assert died > 5
    repeats = len(delivered) - len({one.id for one in delivered})
    print(f"{len(delivered)} deliveries, {repeats} of them repeats; {died} relays died")  # noqa: T201 - a figure
    assert 0 < repeats < len(delivered) / 2


@pytest.mark.slow
def test_a_relay_that_acknowledges_before_it_delivers_is_found_out(db: Database, shop: Tenant, tmp_path: Path) -> None:
    book = tmp_path / "book"
    ends = time.monotonic() + PATIENCE
    seed = 0
    while not any(one.startswith("lost") for one in violations(read(book) if book.exists() else [], events(db))):
        assert time.monotonic() < ends, "nothing was found"
        seed += 1
        storm(db, shop, book, seconds=1, seed=seed, acknowledges_first=True)


def test_what_the_receiver_complains_of_is_told() -> None:
    first, second, third = (Delivery(f"e{n}", "b", n) for n in (1, 2, 3))
    assert violations([first, first, second, first, third], [first, second, third]) == []
    assert violations([first, third, second], [first, second, third]) == ["version 3 of b came after 1"]
    assert violations([first], [first, second]) == [f"lost: {second}"]
    assert violations([first, second], [first]) == [f"invented: {second}"]
