"""Rate limits: whose attempts at what are counted, where, and what becomes of it when Redis is away."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from limits.aio.strategies import SlidingWindowCounterRateLimiter as AsyncStrategy
from limits.strategies import SlidingWindowCounterRateLimiter as Strategy
from redis import Redis, RedisCluster
from redis import asyncio as aio

import redises
from nxsched import (
    Actor,
    AsyncScheduler,
    Attendee,
    BookingNotFound,
    InvalidInput,
    InvalidToken,
    NxschedError,
    RateLimit,
    RateLimited,
    Scheduler,
    SettableClock,
    StoreUnavailable,
    Tenant,
)
from nxsched.locking import NoLocker
from nxsched.ratelimit import limiter
from nxsched.ratelimit.rates import ACTS, Act, By, network
from store.booked import ALAN, GRACE
from store.bridged import FACES, async_engine, on_face, opened
from store.conftest import DAY, HOUR, NINE, NOW, Database, furnish
from store.recording import recorded

ONCE = "1/year"
"""A limit that no window ends in the middle of a test."""

STAFF = Actor(role="staff", id="7")
WHERE = ["memory", "redis"]


class Open:
    """Opens the tenant for a caller, on a face, with limits that are counted in memory or on Redis."""

    def __init__(self, db: Database, clock: SettableClock, redis: redises.RedisServer) -> None:
        self._db, self._clock, self._redis = db, clock, redis
        self._after = ExitStack()
        self.engine = db.app

    def __call__(
        self, *limits: RateLimit, face: str = "sync", where: str = "memory", called: bool = True, **options: Any
    ) -> Tenant:
        at: dict[str, Any] = {"redis": self._redis.url, "locker": NoLocker()} if where == "redis" else {}
        one = opened(face, self._db, self._clock, rate_limits=limits, **{**at, **options})
        scheduler = self._after.enter_context(one)
        self.engine = getattr(scheduler.engine, "sync_engine", scheduler.engine)
        tenant = scheduler.tenant("acme")
        return tenant.for_caller(address="203.0.113.7", actor=STAFF) if called else tenant

    def close(self) -> None:
        """Close them all."""
        self._after.close()


@pytest.fixture(scope="module")
def redis() -> Iterator[redises.RedisServer]:
    with redises.started() as found:
        yield found


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine Redis may take longer than it has in an application, where attempts then are let through."""
    monkeypatch.setattr(limiter, "TIMEOUT", 10.0)


@pytest.fixture
def limited(acme: Tenant, db: Database, clock: SettableClock, redis: redises.RedisServer) -> Iterator[Open]:
    assert acme.id == "acme"
    redis.client.flushall()
    found = Open(db, clock, redis)
    yield found
    found.close()


def acts(tenant: Tenant, one: str, other: str, hold: str) -> Mapping[str, list[Callable[[], Any]]]:
    """The calls that are attempts at something; all of them by Grace, where an attendee is known."""
    return {
        "book": [
            partial(tenant.book, "visit", start=NINE + HOUR, attendee=GRACE),
            partial(tenant.book_series, "visit", starts=[NINE + 2 * HOUR, NINE + 3 * HOUR], attendee=GRACE),
            partial(tenant.confirm_hold, hold, attendee=GRACE),
        ],
        "hold": [partial(tenant.place_hold, "visit", start=NINE + 4 * HOUR, attendee=GRACE)],
        "reschedule": [partial(tenant.reschedule, one, start=NINE + 5 * HOUR)],
        "cancel": [partial(tenant.cancel, one), partial(tenant.cancel_series, other)],
        "slots": [
            partial(tenant.find_slots, "visit", start=NOW, end=NOW + DAY),
            partial(tenant.explain, "visit", start=NINE),
        ],
    }


def booked(acme: Tenant) -> tuple[str, str, str]:
    """A booking, a series and a hold of Grace."""
    one = acme.book("visit", start=NINE, attendee=GRACE).id
    series = acme.book_series("any", starts=[NINE + DAY, NINE + 2 * DAY], attendee=GRACE)[0].series_id
    assert series is not None
    return one, series, acme.place_hold("visit", start=NINE + 6 * HOUR, ttl=HOUR, attendee=GRACE).id


def outcome(call: Callable[[], Any]) -> str:
    try:
        call()
    except NxschedError as error:
        return error.code
    return "done"


@pytest.mark.parametrize(("where", "face"), [on_face(where, face=face) for where in WHERE for face in FACES])
@pytest.mark.parametrize("by", ["address", "attendee", "actor", "tenant"])
def test_every_act_is_counted_by_whomever_a_limit_names(
    acme: Tenant, limited: Open, by: By, where: str, face: str
) -> None:
    theirs = booked(acme)
    for act in sorted(ACTS - ({"slots"} if by == "attendee" else set())):
        calls = acts(limited(RateLimit(rate=ONCE, by=by, on=act), face=face, where=where), *theirs)
        first, *others = calls[act]
        assert outcome(first) != "rate_limited"
        for call in (*others, first):
            with pytest.raises(RateLimited) as caught:
                call()
            assert (caught.value.act, caught.value.by, caught.value.rate) == (act, by, ONCE)
            assert timedelta() < caught.value.retry_after <= timedelta(days=720)
        for other in sorted(ACTS - {act}):
            assert "rate_limited" not in [outcome(call) for call in calls[other]]


@pytest.mark.parametrize("face", [on_face(face=face) for face in FACES])
def test_what_is_too_much_is_refused_before_any_work(acme: Tenant, limited: Open, face: str) -> None:
    one, series, hold = booked(acme)
    tenant = limited(RateLimit(rate=ONCE, by="tenant"), face=face)
    tenant.cancel(one)
    entries = len(acme.history(one))
    with recorded(limited.engine) as found:
        for calls in acts(tenant, one, series, hold).values():
            for call in calls:
                with pytest.raises(RateLimited):
                    call()
    assert not found
    assert len(acme.history(one)) == entries
    with pytest.raises(RateLimited):  # nor does a key help: a repeat is an attempt
        tenant.cancel(one, idempotency_key="key")


def test_what_cannot_be_an_attempt_is_not_counted(limited: Open) -> None:
    tenant = limited(RateLimit(rate=ONCE, by="address", on="book"))
    with pytest.raises(InvalidInput):
        tenant.book("visit", start=NINE.replace(tzinfo=None), attendee=GRACE)
    tenant.book("visit", start=NINE, attendee=GRACE)


def test_a_limit_on_several_acts_counts_them_together_and_several_limits_count_apart(limited: Open) -> None:
    tenant = limited(RateLimit(rate="2/year", by="address", on=["hold", "book"]), RateLimit(rate="1/day", by="actor"))
    other = tenant.for_caller(address="203.0.113.7", actor=Actor(role="staff", id="8"))
    third = tenant.for_caller(address="203.0.113.7", actor=Actor(role="staff", id="9"))
    tenant.book("visit", start=NINE, attendee=GRACE)
    with pytest.raises(
        RateLimited, match=r"too many attempts by this actor \(1/day\), the last one: slots\. Try again"
    ):
        tenant.find_slots("visit", start=NOW, end=NOW + DAY)
    other.place_hold("visit", start=NINE + HOUR)
    with pytest.raises(RateLimited, match=r"too many attempts by this address \(2/year\), the last one: book"):
        third.book("visit", start=NINE + 2 * HOUR, attendee=GRACE)
    third.find_slots("visit", start=NOW, end=NOW + DAY)


def test_who_asks_too_often_takes_nothing_of_what_the_others_may_ask(limited: Open) -> None:
    tenant = limited(RateLimit(rate="2/year", by="tenant"), RateLimit(rate=ONCE, by="address"))
    tenant.explain("visit", start=NINE)
    for _ in range(10):
        with pytest.raises(RateLimited, match="by this address"):
            tenant.explain("visit", start=NINE)
    tenant.for_caller(address="203.0.113.8").explain("visit", start=NINE)
    with pytest.raises(RateLimited, match=r"in this tenant \(2/year\)"):
        tenant.for_caller(address="203.0.113.9").explain("visit", start=NINE)


@pytest.mark.parametrize("where", WHERE)
def test_what_one_limit_refuses_takes_nothing_of_another(limited: Open, where: str) -> None:
    limits = [RateLimit(rate="2/year", by="attendee", on="hold"), RateLimit(rate="1/year", by="tenant", on="hold")]
    tenant = limited(*limits, where=where)
    tenant.place_hold("visit", start=NINE, attendee=ALAN)
    for _ in range(5):
        with pytest.raises(RateLimited, match="in this tenant"):
            tenant.place_hold("visit", start=NINE + HOUR, attendee=GRACE)
    again = limited(limits[0], where=where)  # on Redis the same counts; in memory new ones
    again.place_hold("visit", start=NINE + HOUR, attendee=GRACE)
    again.place_hold("visit", start=NINE + 2 * HOUR, attendee=GRACE)


def test_who_is_too_quick_by_address_is_not_even_looked_up(acme: Tenant, limited: Open) -> None:
    one = acme.book("visit", start=NINE, attendee=GRACE)
    tenant = limited(RateLimit(rate=ONCE, by="address"), RateLimit(rate="9/year", by="attendee"))
    tenant.explain("visit", start=NINE)
    with recorded(limited.engine) as found:
        for _ in range(3):
            with pytest.raises(RateLimited, match="by this address"):
                tenant.cancel(one.id)
    assert not found


def test_two_limits_that_are_the_same_count_once(limited: Open) -> None:
    tenant = limited(RateLimit(rate="2/day", by="tenant"), RateLimit(rate="2 per 1 day", by="tenant"))
    tenant.explain("visit", start=NINE)
    tenant.explain("visit", start=NINE)
    with pytest.raises(RateLimited):
        tenant.explain("visit", start=NINE)


def test_what_is_known_of_a_caller_adds_up(acme: Tenant, limited: Open) -> None:
    limits = [RateLimit(rate=ONCE, by="address", on="slots"), RateLimit(rate=ONCE, by="actor", on="hold")]
    tenant = limited(*limits, called=False).for_caller(address="203.0.113.7").for_caller(actor=STAFF)
    one = tenant.place_hold("visit", start=NINE)
    tenant.explain("visit", start=NINE)
    assert acme.history(one.id)[0].actor == STAFF
    for call in (partial(tenant.place_hold, "visit", start=NINE), partial(tenant.explain, "visit", start=NINE)):
        with pytest.raises(RateLimited):
            call()


@pytest.mark.usefixtures("acme")
def test_three_hundred_tasks_at_once_get_as_many_as_there_are(db: Database, redis: redises.RedisServer) -> None:
    redis.client.flushall()

    async def story() -> list[bool]:
        limits = [RateLimit(rate="10/year", by="tenant")]
        scheduler = AsyncScheduler(async_engine(db), redis=redis.url, locker=NoLocker(), rate_limits=limits)
        tenant = await scheduler.tenant("acme")

        async def ask() -> bool:
            try:
                await tenant.explain("visit", start=NINE)
            except RateLimited:
                return False
            return True

        try:
            return await asyncio.gather(*(ask() for _ in range(300)))
        finally:
            await scheduler.close()

    assert sum(asyncio.run(story())) == 10


@pytest.mark.parametrize("where", WHERE)
def test_tenants_are_counted_apart(limited: Open, db: Database, where: str) -> None:
    tenant = limited(RateLimit(rate=ONCE, by="address"), RateLimit(rate=ONCE, by="tenant"), where=where)
    tenant.explain("visit", start=NINE)
    with Scheduler(db.app) as plain:
        furnish(plain.create_tenant("zeta", name="Zeta"))
    zeta = Tenant(tenant._units, "zeta").for_caller(address="203.0.113.7", actor=STAFF)  # noqa: SLF001 - the same scheduler
    zeta.explain("visit", start=NINE)
    for one in (tenant, zeta):
        with pytest.raises(RateLimited):
            one.explain("visit", start=NINE)


def test_who_is_not_named_is_not_counted(limited: Open) -> None:
    limits = [RateLimit(rate=ONCE, by=by, on="hold") for by in ("address", "attendee", "actor")]
    nobody = limited(*limits, called=False)
    for n in range(3):
        nobody.place_hold("visit", start=NINE + n * HOUR, actor=Actor(role="staff"))
    without = Attendee(name="Grace", reference="user-7")
    nobody.place_hold("visit", start=NINE + 3 * HOUR, attendee=without)
    nobody.place_hold("visit", start=NINE + 4 * HOUR, attendee=without)


def test_an_actor_is_a_role_with_an_id_given_with_the_call_or_by_the_caller(limited: Open) -> None:
    tenant = limited(RateLimit(rate=ONCE, by="actor", on="hold"))
    tenant.place_hold("visit", start=NINE)
    tenant.place_hold("visit", start=NINE + HOUR, actor=Actor(role="staff", id="8"))
    tenant.place_hold("visit", start=NINE + 2 * HOUR, actor=Actor(role="attendee", id="7"))
    for call in (
        tenant.place_hold,
        partial(tenant.place_hold, actor=Actor(role="staff", id="7", name="Nina")),
    ):
        with pytest.raises(RateLimited):
            call("visit", start=NINE + 3 * HOUR)


def test_the_actor_of_a_caller_stands_in_the_audit_trail_unless_the_call_names_another(acme: Tenant) -> None:
    caller = acme.for_caller(actor=STAFF)
    one = caller.book("visit", start=NINE, attendee=GRACE)
    caller.cancel(one.id, actor=Actor(role="system"))
    assert [entry.actor for entry in acme.history(one.id)] == [STAFF, Actor(role="system")]


def test_addresses_of_attendees_are_the_same_in_small_letters(acme: Tenant, limited: Open) -> None:
    tenant = limited(RateLimit(rate=ONCE, by="attendee"))
    one = acme.book("visit", start=NINE, attendee=Attendee(name="G", email="Grace@Example.test"))
    tenant.book("visit", start=NINE + HOUR, attendee=Attendee(name="G", email="GRACE@example.test"))
    with pytest.raises(RateLimited):
        tenant.cancel(one.id)
    with pytest.raises(BookingNotFound):  # nobody's
        tenant.cancel("018f0000-0000-7000-8000-000000000000")


@pytest.mark.parametrize("face", [on_face(face=face) for face in FACES])
def test_what_is_done_by_a_link_is_counted_and_strangers_count_nothing(acme: Tenant, limited: Open, face: str) -> None:
    one, other = (acme.book("any", start=NINE + n * HOUR, attendee=GRACE) for n in (0, 1))
    token = acme.manage_token(one.id, expires=NINE)
    tenant = limited(RateLimit(rate=ONCE, by="attendee", on=["reschedule", "cancel"]), face=face)
    forged = tenant.with_token(token[:-2] + ("AA" if token[-2:] != "AA" else "BA"))
    for call in (partial(forged.reschedule, start=NINE + 3 * HOUR), forged.cancel):
        with pytest.raises(InvalidToken):
            call()
    tenant.with_token(token).reschedule(start=NINE + 2 * HOUR)
    with pytest.raises(RateLimited):
        tenant.with_token(token).cancel()
    with pytest.raises(RateLimited):
        tenant.cancel(other.id)
    assert acme.booking(one.id).status == "confirmed"


def test_links_are_counted_by_address_where_they_are_looked_at(acme: Tenant, limited: Open) -> None:
    one = acme.book("visit", start=NINE, attendee=GRACE)
    mine = limited(RateLimit(rate=ONCE, by="address")).with_token(acme.manage_token(one.id, expires=NINE))
    mine.find_slots(start=NOW, end=NOW + DAY)
    for call in (partial(mine.find_slots, start=NOW, end=NOW + DAY), mine.cancel):
        with pytest.raises(RateLimited):
            call()
    assert mine.booking().status == "confirmed"  # to look is not limited


def test_by_a_link_the_actor_is_that_of_the_caller(acme: Tenant, limited: Open) -> None:
    one = acme.book("visit", start=NINE, attendee=GRACE)
    mine = limited(RateLimit(rate=ONCE, by="actor")).with_token(acme.manage_token(one.id, expires=NINE))
    mine.find_slots(start=NOW, end=NOW + DAY)
    with pytest.raises(RateLimited):
        mine.cancel()


def test_what_joins_a_transaction_is_counted_too(acme: Tenant, limited: Open, db: Database) -> None:
    tenant = limited(RateLimit(rate=ONCE, by="attendee"))
    one = acme.book("visit", start=NINE, attendee=GRACE)
    with db.app.begin() as within:
        tenant.reschedule(one.id, start=NINE + HOUR, within=within)
        with pytest.raises(RateLimited):
            tenant.cancel(one.id, within=within)
    assert acme.booking(one.id).start == NINE + HOUR


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("203.0.113.7", "203.0.113.7", True),
        ("203.0.113.7", "203.0.113.8", False),
        ("203.0.113.7", "::ffff:203.0.113.7", True),
        ("2001:db8:1:2::1", "2001:DB8:1:2:ffff:0:0:9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("203.0.113.7", "203.0.113.7:5123", True),
        ("203.0.113.7", "64:ff9b::cb00:7107", True),
        ("203.0.113.8", "64:ff9b::cb00:7107", False),
        ("203.0.113.7", "2002:cb00:7107::1", True),
        ("2001:db8:1:2::1", "[2001:db8:1:2::9]:443", True),
        ("2001:db8:1:2::1", " 2001:db8:1:2::9 ", True),
        ("device-7", "device-8", False),
    ],
)
def test_addresses_are_counted_as_one_caller_has_them(one: str, other: str, same: bool) -> None:
    assert (network(one) == network(other)) == same


def test_many_threads_at_once_get_as_many_as_there_are(limited: Open) -> None:
    tenant = limited(RateLimit(rate="25/year", by="tenant"))
    together = threading.Barrier(8)
    done: list[str] = []

    def ask() -> None:
        together.wait()
        for _ in range(10):
            try:
                tenant.explain("visit", start=NINE)
            except RateLimited:
                continue
            done.append("let through")

    with ThreadPoolExecutor(8) as pool:
        for one in [pool.submit(ask) for _ in range(8)]:
            one.result()
    assert len(done) == 25


@pytest.mark.parametrize("where", WHERE)
def test_there_is_room_again_when_the_error_says_so(limited: Open, where: str) -> None:
    tenant = limited(RateLimit(rate="3/second", by="tenant"), where=where)
    for _ in range(4):
        with pytest.raises(RateLimited) as caught:  # noqa: PT012 - some of them are let through
            while True:
                tenant.explain("visit", start=NINE)
        assert caught.value.retry_after <= timedelta(seconds=2)  # the window, and its share in the next one
        time.sleep(caught.value.retry_after.total_seconds())
        tenant.explain("visit", start=NINE)


@pytest.mark.parametrize("where", WHERE)
def test_where_several_are_full_there_is_room_again_when_there_is_in_all_of_them(limited: Open, where: str) -> None:
    tenant = limited(RateLimit(rate="2/second", by="tenant"), RateLimit(rate="2/hour", by="tenant"), where=where)
    for _ in range(2):
        tenant.explain("visit", start=NINE)
    with pytest.raises(RateLimited) as caught:
        tenant.explain("visit", start=NINE)
    assert caught.value.rate == "2/hour"
    assert caught.value.retry_after > timedelta(seconds=2)


# --- Redis -----------------------------------------------------------------------------------------------------------

PROGRAM = """
import json, sys
from datetime import datetime
from nxsched import RateLimit, RateLimited, Scheduler
from nxsched.ratelimit import limiter
limiter.TIMEOUT = 10
url, redis, start = sys.argv[1:]
tenant = Scheduler(url, redis=redis, rate_limits=[RateLimit(rate="15/year", by="tenant")]).tenant("acme")
done = 0
for _ in range(10):
    try:
        tenant.explain("visit", start=datetime.fromisoformat(start))
    except RateLimited:
        continue
    done += 1
print(json.dumps(done))
"""


@pytest.mark.usefixtures("acme")
def test_processes_share_what_is_counted_on_redis(db: Database, redis: redises.RedisServer) -> None:
    redis.client.flushall()
    url = db.app.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", PROGRAM, url, redis.url, NINE.isoformat()]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert sum(json.loads(one.communicate()[0]) for one in running) == 15


def test_both_faces_share_what_is_counted_on_redis(limited: Open) -> None:
    limit = RateLimit(rate="2/year", by="tenant")
    faces = [limited(limit, face=face, where="redis") for face in ("sync", "asyncio")]
    for one in faces:
        one.explain("visit", start=NINE)
    for one in faces:
        with pytest.raises(RateLimited):
            one.explain("visit", start=NINE)


@pytest.mark.usefixtures("acme")
def test_event_loops_that_are_over_leave_no_client_behind(db: Database, redis: redises.RedisServer) -> None:
    redis.client.flushall()
    limits = [RateLimit(rate="3/year", by="tenant")]
    scheduler = AsyncScheduler(async_engine(db), redis=redis.url, locker=NoLocker(), rate_limits=limits)

    async def ask() -> None:
        try:
            tenant = await scheduler.tenant("acme")
            await tenant.explain("visit", start=NINE)
        finally:
            await scheduler.close()

    for _ in range(3):
        asyncio.run(ask())
    with pytest.raises(RateLimited):
        asyncio.run(ask())


def test_nothing_of_a_person_can_be_read_on_redis_and_nothing_stays_there(
    limited: Open, redis: redises.RedisServer
) -> None:
    tenant = limited(*(RateLimit(rate=ONCE, by=by) for by in ("address", "attendee", "actor")), where="redis")
    tenant.book("visit", start=NINE, attendee=GRACE)
    client: Any = redis.client
    keys = client.keys()
    assert len(keys) == 3
    for key in keys:
        words = key.decode() + client.get(key).decode()
        assert words.startswith("nxsched:rate:")
        assert not any(part in words.lower() for part in ("grace", "203.0", "staff", "acme"))
        assert client.pttl(key) > 0


@pytest.mark.parametrize("face", ["sync", "asyncio"])
def test_while_redis_is_away_attempts_are_let_through_and_the_log_is_told_once(
    limited: Open, caplog: pytest.LogCaptureFixture, face: str
) -> None:
    caplog.set_level(logging.WARNING)
    with redises.started() as server:
        tenant = limited(RateLimit(rate=ONCE, by="tenant"), face=face, redis=server.url, locker=NoLocker())
        tenant.explain("visit", start=NINE)
        server.kill()
        for _ in range(3):
            tenant.explain("visit", start=NINE)
        assert len(caplog.messages) == 1
        assert caplog.messages[0].startswith("Redis cannot count attempts, attempts are let through meanwhile: ")
        server.start()  # empty: what was counted is forgotten
        until_counted(tenant)
    assert caplog.messages[1:] == ["Redis answers again: rate limits are counted"]


@pytest.mark.parametrize("face", ["sync", "asyncio"])
def test_a_window_that_passes_between_two_questions_is_no_fault_of_redis(
    limited: Open, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, face: str
) -> None:
    """Who was refused, and is then found to have room, is asked for once more."""
    caplog.set_level(logging.WARNING)
    stats, theirs = Strategy.get_window_stats, AsyncStrategy.get_window_stats
    passed: list[float] = []

    def slowly(self: Any, *asked: Any) -> Any:  # noqa: ANN401 - of the package
        time.sleep(0 if passed else 2.1)
        passed.append(2.1)
        return stats(self, *asked)

    async def slowly_too(self: Any, *asked: Any) -> Any:  # noqa: ANN401 - of the package
        await asyncio.sleep(0 if passed else 2.1)
        passed.append(2.1)
        return await theirs(self, *asked)

    monkeypatch.setattr(Strategy, "get_window_stats", slowly)
    monkeypatch.setattr(AsyncStrategy, "get_window_stats", slowly_too)
    monkeypatch.setattr(limiter, "TIMEOUT", 10)
    tenant = limited(RateLimit(rate="1/second", by="tenant"), face=face, where="redis", locker=NoLocker())
    for _ in range(2):
        tenant.explain("visit", start=NINE)  # the second one is refused at first, and its window is over then
    with pytest.raises(RateLimited):  # noqa: PT012 - some of them may be let through
        for _ in range(5):
            tenant.explain("visit", start=NINE)
    assert passed
    assert caplog.messages == []


@pytest.mark.parametrize("face", ["sync", "asyncio"])
def test_the_rights_that_the_page_names_are_enough(
    limited: Open, redis: redises.RedisServer, caplog: pytest.LogCaptureFixture, face: str
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "rate-limits.md").read_text(encoding="utf-8")
    rights = re.findall(r"\+[a-z|]+", page[page.index("rights of their own") : page.index("beside those of [locks]")])
    assert rights
    said: Any = redis.client
    greets = ["+ping", "+hello", "+client", "+select", "+info"]
    said.execute_command("ACL", "SETUSER", "limits", "on", ">secret", "~nxsched:*", "-@all", *greets, *rights)
    url = redis.url.replace("redis://", "redis://limits:secret@")
    tenant = limited(RateLimit(rate=ONCE, by="tenant"), face=face, redis=url, locker=NoLocker())
    tenant.explain("visit", start=NINE)
    with pytest.raises(RateLimited):
        tenant.explain("visit", start=NINE)
    assert caplog.messages == []


def until_counted(tenant: Tenant) -> None:
    """Ask until Redis has rested, is found well, and has counted one."""
    while True:
        with suppress(StoreUnavailable):
            try:
                tenant.explain("visit", start=NINE)
            except RateLimited:
                return
        time.sleep(0.1)


@pytest.mark.parametrize("face", ["sync", "asyncio"])
def test_or_they_are_refused_while_locks_do_without(limited: Open, face: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiter, "TIMEOUT", 0.05)
    with redises.started() as server:
        refusing: dict[str, Any] = {"redis": server.url, "when_unavailable": "refuse", "locker": NoLocker()}
        tenant = limited(RateLimit(rate=ONCE, by="tenant"), face=face, **refusing)
        with server.paused(), recorded(limited.engine) as found:
            for _ in range(3):
                with pytest.raises(
                    StoreUnavailable, match=r"Redis cannot be asked for rate limits, and nothing goes on"
                ):
                    tenant.explain("visit", start=NINE)
        assert not found
        until_counted(tenant)


@pytest.mark.parametrize("face", ["sync", "asyncio"])
def test_a_cluster_counts_as_well(limited: Open, face: str) -> None:
    limit = RateLimit(rate=ONCE, by="tenant")
    with redises.started("--cluster-enabled", "yes") as server:
        ask: Any = server.client
        ask.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
        while ask.cluster("INFO")["cluster_state"] != "ok":
            pass
        url = server.url.replace("redis:", "redis+cluster:")
        tenant = limited(limit, RateLimit(rate=ONCE, by="address"), face=face, redis=url, locker=NoLocker())
        tenant.explain("visit", start=NINE)
        with RedisCluster.from_url(server.url) as cluster:
            for one in (tenant, limited(limit, redis=cluster, locker=NoLocker())):
                with pytest.raises(RateLimited):
                    one.explain("visit", start=NINE)


def test_a_client_of_the_applications_own_does_as_well(limited: Open, db: Database, redis: redises.RedisServer) -> None:
    limit = RateLimit(rate="2/year", by="tenant")
    with Redis.from_url(redis.url, decode_responses=True) as client:
        tenant = limited(limit, redis=client, locker=NoLocker())
        tenant.explain("visit", start=NINE)

        async def story() -> None:
            async with aio.Redis.from_url(redis.url, decode_responses=True) as theirs:
                scheduler = AsyncScheduler(async_engine(db), redis=theirs, locker=NoLocker(), rate_limits=[limit])
                there = await scheduler.tenant("acme")
                await there.explain("visit", start=NINE)
                with pytest.raises(RateLimited):
                    await there.explain("visit", start=NINE)
                await scheduler.close()
                assert await theirs.ping()

        asyncio.run(story())
        with pytest.raises(RateLimited):
            tenant.explain("visit", start=NINE)


# --- what cannot be a limit ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "field", "reason"),
    [
        ({"rate": "often"}, "rate", 'must be such as "5/minute" or "100/15 minutes", in seconds, minutes'),
        ({"rate": "5/week"}, "rate", 'must be such as "5/minute" or "100/15 minutes", in seconds'),
        ({"rate": "5"}, "rate", 'must be such as "5/minute"'),
        ({"rate": 5}, "rate", "must be text, not 5"),
        ({"rate": "1/minute; 5/hour"}, "rate", "must be one rate: give a RateLimit for each"),
        ({"rate": "0/minute"}, "rate", "must allow 1 to 1,000,000 attempts, not 0"),
        ({"rate": "10000000/minute"}, "rate", "must allow 1 to 1,000,000 attempts, not 10000000"),
        ({"rate": "1/9 years"}, "rate", "must be counted in a second to 366 days"),
        ({"rate": "5/0 minutes"}, "rate", "must be counted in a second to 366 days"),
        ({"rate": "9" * 5000 + "/minute"}, "rate", "must have at most 200"),
        ({"by": "ip"}, "by", 'must be one of address, attendee, actor, tenant, not "ip"'),
        ({"on": "read"}, "on", 'must be one or more of book, cancel, hold, reschedule, slots, not "read"'),
        ({"on": ["book", 7]}, "on", "must be one or more of book, cancel, hold, reschedule, slots"),
        ({"on": []}, "on", "must be one or more of book, cancel, hold, reschedule, slots, not []"),
        ({"on": 7}, "on", "must be one or more of book, cancel, hold, reschedule, slots"),
        ({"by": "attendee", "on": ["book", "slots"]}, "on", "slots are read without an attendee"),
    ],
)
def test_what_cannot_be_a_limit_is_refused(options: dict[str, Any], field: str, reason: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        RateLimit(**{"rate": "5/minute", "by": "tenant", **options})
    assert caught.value.field == field
    assert caught.value.reason.startswith(reason)


@pytest.mark.parametrize(
    ("options", "field", "reason"),
    [
        ({"rate_limits": ["5/minute"]}, "rate_limits[0]", "must be"),
        (
            {"rate_limits": [RateLimit(rate=f"{n}/day", by="tenant") for n in range(1, 22)]},
            "rate_limits",
            "must be at most",
        ),
        ({"rate_limits": [RateLimit(rate="1/day", by="tenant")], "redis": "http://cache"}, "redis", "must be a URL"),
        ({"redis": "redis://cache:port/0"}, "redis", "is a URL with a port or an option that no Redis takes"),
        (
            {"redis": "redis://cache/0?sockettimeout=1"},
            "redis",
            "is a URL with a port or an option that no Redis takes",
        ),
        (
            {"rate_limits": [RateLimit(rate="1/day", by="tenant")], "locker": NoLocker(), "when_unavailable": "refuse"},
            "when_unavailable",
            "is said to the locker itself",
        ),
    ],
)
def test_what_a_scheduler_cannot_do_is_refused(db: Database, options: dict[str, Any], field: str, reason: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Scheduler(db.app, **options)
    assert caught.value.field == field
    assert caught.value.reason.startswith(reason)


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("words", ["' OR 1=1", "{x}", "*", "\N{PILE OF POO}", "%s", "e\u0301"], ids=ascii)
def test_whatever_an_address_is_it_is_counted_as_that(limited: Open, words: str, where: str) -> None:
    tenant = limited(RateLimit(rate=ONCE, by="address"), where=where)
    tenant.explain("visit", start=NINE)
    theirs = tenant.for_caller(address=words)
    theirs.explain("visit", start=NINE)
    with pytest.raises(RateLimited):
        theirs.explain("visit", start=NINE)


def test_an_address_is_a_text(acme: Tenant) -> None:
    for wrong in ("", 7, "x" * 100_000, "\x00"):
        with pytest.raises(InvalidInput) as caught:
            acme.for_caller(address=wrong)  # type: ignore[arg-type]
        assert caught.value.field == "address"


def test_a_limit_says_what_it_counts() -> None:
    every: set[Act] = {"book", "hold", "reschedule", "cancel", "slots"}
    assert RateLimit(rate="5/minute", by="address").acts == every
    assert RateLimit(rate="5/minute", by="attendee").acts == every - {"slots"}
    assert RateLimit(rate="5/minute", by="tenant", on="slots").acts == {"slots"}
    assert RateLimit(rate="5 per 2 hours", by="tenant", on=["slots", "book"]).acts == {"slots", "book"}


NO = "nxsched.locking.NoLocker()"
LIMIT = "nxsched.RateLimit(rate='1/day', by='tenant')"


def test_without_its_package_the_error_names_the_extra() -> None:
    for missing, call, words in (
        ("limits", "nxsched.RateLimit", "nxsched.RateLimit needs the extra 'limits': pip install 'nxsched[limits]'"),
        (
            "redis",
            f"nxsched.Scheduler('postgresql://x', redis='redis://c', locker={NO}, rate_limits=[{LIMIT}])",
            "a scheduler with redis=… needs the extra 'redis': pip install 'nxsched[redis]'",
        ),
    ):
        program = (
            f"import sys; sys.modules['{missing}'] = None\nimport nxsched, nxsched.locking\n"
            f"try:\n    {call}\nexcept nxsched.MissingExtra as error:\n    print(error)\n"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == words
