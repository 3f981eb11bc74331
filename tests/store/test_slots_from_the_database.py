"""Slots from the database are those that the calculator finds in a scenario that says the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from nxsched import Attendee, BookingWindow, EventType, Limit, Scheduler, SettableClock, Slot, Tenant
from nxsched.domain.bookings import MOVABLE
from nxsched.embedded import APP_ROLE
from nxsched.slots import explain, find_slots
from nxsched.slots.query import SlotQuery
from nxsched.slots.scenario import dump, load
from store.conftest import DAY, HALF, HOUR, NINE, NOW, Database
from store.recording import nodes, plan, recorded
from store.written import NAMELESS, STATUSES, Written, rows_of, write
from strategies import scenarios, starts_near

Json = dict[str, Any]

CASES: list[Json] = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "cases" / "slots.jsonl").read_text(encoding="utf-8").splitlines()
]
CROWDED = scenarios(capacities=(2, 3, 5), max_days=2, style="crowded")
ALL_KINDS = st.one_of(scenarios(), CROWDED, scenarios(style="long"), scenarios(style="changes"))
GRACE = Attendee(name="Grace", email="grace@example.test")

_numbers = count()


@pytest.fixture
def pooled(db: Database, clock: SettableClock) -> Iterator[Scheduler]:
    """A scheduler that keeps its connections, for tests that make many tenants."""
    with Scheduler(db.url(APP_ROLE), clock=clock) as found:
        yield found


def in_turn(part: int = 1) -> settings:
    """One part in so many of the profile's examples; all of them share one database, each has its own tenant."""
    relaxed = (
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.filter_too_much,
        HealthCheck.function_scoped_fixture,
    )
    # Each example is a tenant in the database: to look for a smaller one that fails takes minutes.
    phases = [Phase.explicit, Phase.reuse, Phase.generate]
    examples = max(settings().max_examples // part, 8)
    return settings(deadline=None, suppress_health_check=relaxed, max_examples=examples, phases=phases)


def stored(scheduler: Scheduler, clock: SettableClock, written: Written) -> Tenant:
    """A new tenant that holds it, at the time of the question."""
    clock.set(written.query.now)
    return write(scheduler, f"tenant-{next(_numbers)}", written)


def slug_of(query: SlotQuery) -> str:
    return query.event_type.slug or NAMELESS


def offered(tenant: Tenant, query: SlotQuery, **also: Any) -> list[Slot]:
    return list(tenant.find_slots(slug_of(query), start=query.start, end=query.end, host=query.host, **also))


def without(written: Written, id_: str) -> Written:
    """The same without one booking."""
    left = [booking for booking in written.query.bookings if booking.id != id_]
    return replace(written, query=replace(written.query, bookings=left))


def compare(data: st.DataObject, scenario: Json, tenant: Tenant, written: Written, moving: str | None = None) -> None:
    """Everything that can be asked about a question has the calculator's answer."""
    query = written.query
    expected = list(find_slots(query))
    # Where a booking is to be moved, it would be for as long as that is.
    more: dict[str, Any] = {} if moving is None else {"moving": moving, "duration": query.event_type.duration}
    assert offered(tenant, query, **more) == expected
    limit = data.draw(st.integers(1, len(expected) + 1))
    assert offered(tenant, query, **more, limit=limit) == expected[:limit]
    starts = data.draw(st.lists(starts_near(scenario), min_size=1, max_size=5))
    starts += [booking.start for booking in query.bookings[:2]]
    for start in starts:
        found = tenant.explain(slug_of(query), start=start, host=query.host, **more)
        assert set(found) == written.refusals(explain(query, start)), start


@in_turn()
@given(st.data(), ALL_KINDS)
def test_the_database_answers_as_the_calculator_does(
    pooled: Scheduler, clock: SettableClock, data: st.DataObject, scenario: Json
) -> None:
    statuses = data.draw(st.lists(st.sampled_from(STATUSES), min_size=1, max_size=8))
    written = rows_of(load(scenario), statuses)
    tenant = stored(pooled, clock, written)
    event("slots" if list(find_slots(written.query)) else "no slots")
    compare(data, scenario, tenant, written)


@in_turn(2)
@given(st.data(), ALL_KINDS)
def test_one_host_that_is_asked_for_has_the_slots_that_the_calculator_gives_it(
    pooled: Scheduler, clock: SettableClock, data: st.DataObject, scenario: Json
) -> None:
    written = rows_of(load(scenario), data.draw(st.lists(st.sampled_from(STATUSES), min_size=1, max_size=8)))
    tenant = stored(pooled, clock, written)
    for group in written.query.event_type.groups:
        for slug in group.members:
            compare(data, scenario, tenant, replace(written, query=replace(written.query, host=slug)))


@in_turn(2)
@given(st.data(), st.one_of(CROWDED, scenarios()))
def test_a_booking_that_is_to_be_moved_counts_as_if_it_were_not_there(
    pooled: Scheduler, clock: SettableClock, data: st.DataObject, scenario: Json
) -> None:
    written = rows_of(load(scenario), data.draw(st.lists(st.sampled_from(STATUSES), min_size=1, max_size=8)))
    tenant = stored(pooled, clock, written)
    movable = {row.booking.id for one in written.occurrences for row in one.rows if row.status in MOVABLE}
    for booking in written.query.bookings:
        assert booking.id is not None
        own = booking.event_type == slug_of(written.query) and booking.id in movable
        if own and booking.seats == 1:  # a move needs all of its seats, and a query asks for one
            compare(data, scenario, tenant, without(written, booking.id), moving=booking.id)


def test_every_exchanged_case_is_answered_from_the_database_too(pooled: Scheduler, clock: SettableClock) -> None:
    whole = 0
    for case in CASES:
        written = rows_of(load(case), ["confirmed"])
        tenant = stored(pooled, clock, written)
        found = offered(tenant, written.query)
        assert found == list(find_slots(written.query)), case["name"]
        if all(one.active for one in written.occurrences):
            whole += 1
            assert dump(found) == case["expected"], case["name"]
        for start in [slot.start for slot in found[:3]]:
            assert tenant.explain(slug_of(written.query), start=start) == [], case["name"]
    assert whole > len(CASES) * 3 // 4


# --- holds -----------------------------------------------------------------------------------------------------------


def starts(tenant: Tenant, event_type: str = "visit", *, days: int = 1) -> list[datetime]:
    return [slot.start for slot in tenant.find_slots(event_type, start=NOW, end=NOW + days * DAY)]


def test_a_hold_blocks_its_time_until_the_very_moment_at_which_it_expires(acme: Tenant, clock: SettableClock) -> None:
    free = starts(acme)
    hold = acme.place_hold("visit", start=NINE + HOUR, ttl=timedelta(minutes=10))
    assert starts(acme) == [start for start in free if start != NINE + HOUR]
    assert [one.code for one in acme.explain("visit", start=NINE + HOUR)] == ["not_enough_hosts", "busy"]
    clock.set(hold.expires_at - timedelta(microseconds=1))
    assert NINE + HOUR not in starts(acme)
    clock.set(hold.expires_at)
    assert starts(acme) == free
    assert acme.explain("visit", start=NINE + HOUR) == []


def test_a_hold_that_has_expired_blocks_nobody_though_nothing_has_swept_it(
    acme: Tenant, db: Database, clock: SettableClock
) -> None:
    free = starts(acme, "any", days=5)
    for at in free[:20]:
        for _ in range(3):
            acme.place_hold("any", start=at, ttl=timedelta(minutes=1))
    assert len(starts(acme, "any", days=5)) == len(free) - 20
    clock.move(timedelta(minutes=1))
    assert starts(acme, "any", days=5) == free
    with db.superuser.connect() as connection:
        standing = connection.execute(text("SELECT count(*) FROM nxsched.claim WHERE active")).scalar_one()
    assert standing == 60


@pytest.mark.parametrize("whose", ["event type", "host"])
def test_a_hold_counts_in_a_limit_until_it_expires(acme: Tenant, clock: SettableClock, whose: str) -> None:
    one_a_day = [Limit(per="day", count=1)]
    if whose == "host":
        acme.save_host(replace(acme.host("ada"), limits=one_a_day))
    else:
        acme.save_event_type(replace(acme.event_type("visit"), limits=one_a_day))
    free = starts(acme, days=2)
    hold = acme.place_hold("visit", start=NINE + HOUR)
    tomorrow = [start for start in free if start >= NOW + DAY]
    assert starts(acme, days=2) == tomorrow
    code = "host_limit" if whose == "host" else "event_limit"
    assert code in {one.code for one in acme.explain("visit", start=NINE + 3 * HOUR)}
    clock.set(hold.expires_at)
    assert starts(acme, days=2) == free


def test_a_booking_that_is_cancelled_gives_its_time_and_its_room_in_limits_back(acme: Tenant) -> None:
    acme.save_event_type(replace(acme.event_type("visit"), limits=[Limit(per="day", count=1)]))
    free = starts(acme)
    booking = acme.book("visit", start=NINE, attendee=GRACE)
    assert starts(acme) == []
    acme.cancel(booking.id)
    assert starts(acme) == free


def test_what_a_host_has_from_other_event_types_is_busy_and_counts_in_its_own_limit_alone(acme: Tenant) -> None:
    acme.save_host(replace(acme.host("ada"), limits=[Limit(per="day", count=2)]))
    acme.save_event_type(replace(acme.event_type("visit"), limits=[Limit(per="day", count=2)]))
    acme.save_event_type(EventType(slug="call", duration=HALF, hosts=["ada"]))
    acme.book("call", start=NINE, attendee=GRACE)
    assert starts(acme)[0] == NINE + HALF
    acme.book("call", start=NINE + HALF, attendee=GRACE)
    assert starts(acme) == []
    codes = {one.code for one in acme.explain("visit", start=NINE + HOUR)}
    assert codes == {"not_enough_hosts", "host_limit"}


def test_a_start_that_has_passed_is_explained_in_full(acme: Tenant, clock: SettableClock) -> None:
    booking = acme.book("visit", start=NINE, attendee=GRACE)
    clock.set(NINE + HOUR)
    found = acme.explain("visit", start=NINE)
    assert [one.code for one in found] == ["past", "not_enough_hosts", "busy"]
    assert found[-1].id == booking.id


def test_a_start_beyond_the_booking_window_is_explained_in_full(acme: Tenant) -> None:
    booking = acme.book("visit", start=NINE + 14 * DAY, attendee=GRACE)
    acme.save_event_type(replace(acme.event_type("visit"), booking_window=BookingWindow(days=3)))
    found = acme.explain("visit", start=NINE + 14 * DAY)
    assert [one.code for one in found] == ["window", "not_enough_hosts", "busy"]
    assert found[-1].id == booking.id


@pytest.mark.parametrize("days", [-3, 14], ids=["that has passed", "beyond the window"])
def test_staff_can_book_a_time_that_is_not_offered_where_a_hold_has_expired(
    acme: Tenant, clock: SettableClock, days: int
) -> None:
    clock.move(-7 * DAY)
    start = NINE + days * DAY
    hold = acme.place_hold("visit", start=start)
    clock.set(NOW)
    acme.save_event_type(replace(acme.event_type("visit"), booking_window=BookingWindow(days=3)))
    booking = acme.book("visit", start=start, attendee=GRACE, force=True)
    assert (booking.start, booking.hosts) == (start, ("ada",))
    assert acme.booking(hold.id).status == "expired"


# --- history ---------------------------------------------------------------------------------------------------------


TEN_YEARS = text(
    """
WITH old AS (
    SELECT gen_random_uuid() AS id, NOW_AT - make_interval(hours => 17 * n) AS at, n FROM generate_series(2, 5001) AS n
), whose AS (
    SELECT h.host_no, e.event_type_no FROM nxsched.host h, nxsched.event_type e
    WHERE h.tenant_id = 'acme' AND h.slug = 'ada' AND e.tenant_id = 'acme' AND e.slug = 'visit'
), occurred AS (
    INSERT INTO nxsched.occurrence (tenant_id, id, event_type_no, starts_at, ends_at, active)
    SELECT 'acme', id, event_type_no, at, at + interval '30 minutes', n % 10 > 0 FROM old, whose
), claimed AS (
    INSERT INTO nxsched.claim
        (tenant_id, occurrence_id, host_no, place, busy_from, busy_until, active, claimed_at)
    SELECT 'acme', id, host_no, 1, at, at + interval '30 minutes', n % 10 > 0, at FROM old, whose
)
INSERT INTO nxsched.booking (tenant_id, id, occurrence_id, event_type_no, status, starts_at, ends_at, seats, answers,
    metadata, sequence, version, moves, nonce, created_at)
SELECT 'acme', id, id, event_type_no, CASE WHEN n % 10 > 0 THEN 'completed' ELSE 'cancelled' END, at,
    at + interval '30 minutes', 1, '{}', '{}', 0, 1, 0, 'nonce', at
FROM old, whose
""".replace("NOW_AT", "CAST(:now AS timestamptz)")
)


def test_ten_years_of_a_host_are_not_read(acme: Tenant, db: Database, scheduler: Scheduler) -> None:
    free = starts(acme, days=7)
    with db.superuser.begin() as connection:
        connection.execute(TEN_YEARS, {"now": NOW})
    with db.superuser.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE nxsched.claim, nxsched.occurrence, nxsched.booking"))
    acme.save_host(replace(acme.host("ada"), limits=[Limit(per="week", count=40)]))
    acme.save_event_type(replace(acme.event_type("visit"), limits=[Limit(per="week", minutes=1200)]))
    acme.book("visit", start=NINE, attendee=GRACE)
    with recorded(scheduler.engine) as found:
        assert starts(acme, days=7) == free[1:]
        assert acme.explain("visit", start=NINE)
        acme.book("visit", start=NINE + HALF, attendee=GRACE)
    assert max(statement.rows for statement in found) < 80
    reads = [one for one in found if "SELECT 'claim'" in one.sql]
    assert len(reads) == 4  # the booking reads again after its lock
    for statement in reads:
        with db.app.connect() as connection:
            connection.execute(text("SELECT set_config('nxsched.tenant_id', 'acme', true)"))
            for node in nodes(plan(connection, statement, "ANALYZE")):
                looked_at = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
                assert looked_at * node["Actual Loops"] < 200, (node.get("Relation Name"), node.get("Filter"))
