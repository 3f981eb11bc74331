"""Places on a real Redis: who gets one, who is turned away, and what becomes of them when things break."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from redis import Redis, RedisCluster
from redis import asyncio as aio
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry

import redises
from nxsched import InvalidInput, LockTimeout, StoreUnavailable
from nxsched.locking import Contended, LockEvent, Permit, RedisLocker, TurnedAway, clients
from nxsched.locking.choosing import chosen
from nxsched.locking.clients import Watch
from nxsched.locking.redis import _TAKE

ADA = Contended(tenant="acme", permits=(Permit("host:1773133200:ada"),))
LONG = timedelta(seconds=10)
SHORT = timedelta(milliseconds=30)


def wanted(*names: str, of: int = 1, tenant: str = "acme", key: str | None = None) -> Contended:
    return Contended(tenant=tenant, permits=tuple(Permit(name, of) for name in names), key=key)


class Told(list[LockEvent]):
    """What lockers say of themselves."""

    @property
    def outcomes(self) -> list[str]:
        return [one.outcome for one in self]


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def locker(redis: redises.RedisServer, told: Told) -> Iterator[RedisLocker]:
    found = RedisLocker(redis.url, timeout=LONG, on_lock=told.append)
    yield found
    found.close()


def enter(locker: RedisLocker, contended: Contended, face: str) -> None:
    """Have the lock for a moment."""

    async def story() -> None:
        try:
            async with locker.around_async(contended):
                pass
        finally:
            await locker.aclose()

    if face == "asyncio":
        asyncio.run(story())
    else:
        with locker.around(contended):
            pass


every_face = pytest.mark.parametrize("face", ["sync", "asyncio"])


@every_face
def test_the_second_is_turned_away_until_the_first_is_done(locker: RedisLocker, told: Told, face: str) -> None:
    with locker.around(ADA):
        with pytest.raises(TurnedAway, match=r"host:1773133200:ada of acme; nothing was written\. Try again") as caught:
            enter(locker, ADA, face)
        assert isinstance(caught.value, LockTimeout)
    enter(locker, ADA, face)
    assert told.outcomes == ["taken", "turned_away", "taken"]
    assert [(one.tenant, one.names) for one in told] == [("acme", ("host:1773133200:ada",))] * 3


@every_face
def test_a_place_is_given_back_whatever_happens(locker: RedisLocker, redis: redises.RedisServer, face: str) -> None:
    async def fails() -> None:
        try:
            async with locker.around_async(ADA):
                raise ZeroDivisionError
        finally:
            await locker.aclose()

    def fails_too() -> None:
        with locker.around(ADA):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(fails()) if face == "asyncio" else fails_too()
    assert redis.client.keys() == []


@pytest.mark.parametrize("times", [1, 2, 4])
def test_a_task_that_is_cancelled_leaves_no_place(locker: RedisLocker, redis: redises.RedisServer, times: int) -> None:
    """However often somebody in a hurry cancels it."""

    async def story(steps: int) -> None:
        async def work() -> None:
            async with locker.around_async(ADA):
                await asyncio.sleep(60)

        task = asyncio.create_task(work())
        for _ in range(steps):
            await asyncio.sleep(0)
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0)
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        await locker.aclose()

    for steps in range(40):
        asyncio.run(story(steps))
        assert redis.client.keys() == [], f"cancelled after {steps} steps"


def test_a_pool_serves_as_many_as_it_has(locker: RedisLocker) -> None:
    pool = wanted("pool:1:0:any", of=3)
    with ExitStack() as three:
        for _ in range(3):
            three.enter_context(locker.around(pool))
        with pytest.raises(TurnedAway):
            enter(locker, pool, "sync")
    enter(locker, pool, "sync")


def test_all_places_are_had_or_none(locker: RedisLocker, redis: redises.RedisServer) -> None:
    with locker.around(wanted("b")):
        with pytest.raises(TurnedAway):
            enter(locker, wanted("a", "b", "c"), "sync")
        assert len(redis.client.keys()) == 1
        enter(locker, wanted("a", "c"), "sync")


def test_tenants_do_not_meet(locker: RedisLocker) -> None:
    with locker.around(wanted("x")):
        enter(locker, wanted("x", tenant="other"), "sync")


@every_face
def test_who_has_the_holders_key_goes_on_and_gives_nothing_back(
    locker: RedisLocker, told: Told, redis: redises.RedisServer, face: str
) -> None:
    with locker.around(wanted("x", key="k")):
        enter(locker, wanted("x", key="k"), face)
        with pytest.raises(TurnedAway):
            enter(locker, wanted("x", key="other"), face)
        with pytest.raises(TurnedAway):
            enter(locker, wanted("x"), face)
        assert len(redis.client.keys()) == 1
    assert told.outcomes == ["taken", "same_key", "turned_away", "turned_away"]


def test_the_key_of_another_tenant_is_another() -> None:
    assert wanted("x", key="k").request != wanted("x", key="k", tenant="other").request


def test_no_key_can_be_read_in_redis(locker: RedisLocker, redis: redises.RedisServer) -> None:
    with locker.around(wanted("x", key="order 7 of grace@example.test")):
        [key] = redis.client.keys()
        stored = repr([key, redis.client.zrange(key, 0, -1)])
    assert ":x" in stored
    assert "grace" not in stored


def test_a_place_ends_by_itself(redis: redises.RedisServer) -> None:
    locker = RedisLocker(redis.url, ttl=timedelta(milliseconds=50), timeout=LONG)
    with locker.around(ADA):
        while redis.client.dbsize():
            pass
        enter(locker, ADA, "sync")
    locker.close()


def test_who_was_too_long_gives_back_nothing_of_the_next(redis: redises.RedisServer) -> None:
    short = RedisLocker(redis.url, ttl=timedelta(milliseconds=20), timeout=LONG)
    locker = RedisLocker(redis.url, timeout=LONG)
    with ExitStack() as first:
        first.enter_context(short.around(ADA))
        while redis.client.dbsize():
            pass
        with locker.around(ADA):
            first.close()
            with pytest.raises(TurnedAway):
                enter(locker, ADA, "sync")
    short.close()
    locker.close()


@pytest.mark.parametrize("name", ["", "}{", "a\nb", "é" * 300, "\0", "{x}"])
def test_whatever_names_there_are_work_and_lie_in_one_slot_of_a_cluster(
    locker: RedisLocker, redis: redises.RedisServer, name: str
) -> None:
    contended = Contended(tenant=name or "t", permits=(Permit(name), Permit(f"{name} and more")))
    with locker.around(contended):
        keys: list[Any] = redis.client.keys("*")
        assert len(keys) == 2
        assert len({key_slot(key) for key in keys}) == 1
        with pytest.raises(TurnedAway):
            enter(locker, contended, "sync")


# --- what breaks ----------------------------------------------------------------------------------------------------


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that is no Redis; it does with each connection what it is told to."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        over = threading.Event()

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection, suppress(OSError):  # who asked has gone
                    if not over.is_set():
                        answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"redis://127.0.0.1:{listening.getsockname()[1]}/0"
        finally:
            over.set()
            with socket.create_connection(listening.getsockname()):
                listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def nonsense(connection: socket.socket) -> None:
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n<html>")


def lies(connection: socket.socket) -> None:
    """Whatever it is asked, it says that this is fine."""
    while connection.recv(4096):
        connection.sendall(b"+OK\r\n" * 8)


def hangs_up(connection: socket.socket) -> None:
    connection.recv(1)


def says_nothing(connection: socket.socket) -> None:
    while connection.recv(4096):
        pass


@every_face
@pytest.mark.parametrize("answer", [nonsense, lies, hangs_up, says_nothing])
def test_what_is_no_redis_is_left_alone_after_one_try(
    answer: Callable[[socket.socket], None],
    face: str,
    told: Told,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clients, "_LATE", 60.0)  # a machine that is busy is not meant here
    caplog.set_level(logging.INFO, logger="nxsched.locking")
    seen: list[int] = []

    def counted(connection: socket.socket) -> None:
        seen.append(1)
        answer(connection)

    with answering(counted) as url:
        locker = RedisLocker(url, timeout=SHORT, rest=timedelta(minutes=5), on_lock=told.append)
        for _ in range(5):
            enter(locker, ADA, face)
        locker.close()
        refusing = RedisLocker(url, timeout=SHORT, when_unavailable="refuse")
        with pytest.raises(StoreUnavailable, match="Redis cannot be asked for a lock") as caught:
            enter(refusing, ADA, face)
        refusing.close()
    assert not caught.value.may_have_happened
    assert told.outcomes == ["unavailable"] * 5
    assert len(caplog.records) == 2, "one warning a locker"
    assert "bookings go on without locks meanwhile" in caplog.messages[0]
    assert "nothing is booked meanwhile" in caplog.messages[1]
    assert len(seen) <= 4


@every_face
def test_bookings_go_on_while_redis_is_gone_and_locks_come_back_with_it(
    face: str, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="nxsched.locking")
    with redises.started() as server:
        locker = RedisLocker(server.url, timeout=LONG, rest=timedelta(milliseconds=1), on_lock=told.append)
        enter(locker, ADA, face)
        server.kill()
        enter(locker, ADA, face)
        server.start()
        while told.outcomes[-1] != "taken":
            enter(locker, ADA, face)
        locker.close()
    assert told.outcomes[:2] == ["taken", "unavailable"]
    assert {one.levelname for one in caplog.records} == {"WARNING"}
    assert "Redis cannot be asked for locks" in caplog.messages[0]
    assert caplog.messages[-1] == "Redis answers again: locks are taken"
    assert len(caplog.messages) == 2


@every_face
def test_a_redis_that_stands_still_is_not_waited_for(redis: redises.RedisServer, told: Told, face: str) -> None:
    locker = RedisLocker(redis.url, timeout=SHORT, rest=timedelta(milliseconds=1), on_lock=told.append)
    with redis.paused():
        enter(locker, ADA, face)
        enter(locker, ADA, face)
    assert told.outcomes == ["unavailable"] * 2
    with redis.client as client:  # what it was asked meanwhile it does now
        client.flushall()
    locker.close()


def test_who_has_a_place_when_redis_forgets_all_is_not_disturbed(
    locker: RedisLocker, redis: redises.RedisServer
) -> None:
    with locker.around(ADA):
        redis.client.flushall()
        enter(locker, ADA, "sync")


def test_who_asks_twice_for_the_same_place_has_it(redis: redises.RedisServer) -> None:
    """A client of the application's own may send a question again that was answered."""
    locker = RedisLocker(redis.url, timeout=LONG)
    wanted = Contended(tenant="acme", permits=(Permit("host:1:ada"), Permit("pool:1", 2)), key=None)
    asked = [locker._ask(_TAKE, wanted, "me") for _ in range(3)]  # noqa: SLF001 - what a client sends again
    assert asked == [b"taken"] * 3
    assert locker._ask(_TAKE, wanted, "another") == b"turned_away"  # noqa: SLF001 - as above


def test_an_on_lock_that_fails_changes_nothing(redis: redises.RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    def fails(_: LockEvent) -> None:
        raise ZeroDivisionError

    locker = RedisLocker(redis.url, timeout=LONG, on_lock=fails)
    enter(locker, ADA, "sync")
    assert caplog.messages == ["on_lock raised an error, which changes nothing"]
    locker.close()


# --- other servers, other clients -------------------------------------------------------------------------------------


@every_face
def test_a_client_of_the_applications_own_does_as_well(redis: redises.RedisServer, told: Told, face: str) -> None:
    async def story() -> None:
        async with aio.Redis.from_url(redis.url, decode_responses=True) as client:
            theirs = RedisLocker(client, on_lock=told.append)
            theirs.check(for_asyncio=True)
            with pytest.raises(InvalidInput, match=r"is a client of redis\.asyncio, which AsyncScheduler takes"):
                theirs.check(for_asyncio=False)
            async with theirs.around_async(ADA):
                pass
            await theirs.aclose()
            assert await client.ping()

    if face == "asyncio":
        asyncio.run(story())
    else:
        with Redis.from_url(redis.url, decode_responses=True) as client:
            theirs = RedisLocker(client, on_lock=told.append)
            theirs.check(for_asyncio=False)
            with pytest.raises(InvalidInput, match=r"must be a client of redis\.asyncio, or a URL"):
                theirs.check(for_asyncio=True)
            enter(theirs, ADA, "sync")
            theirs.close()
            assert client.ping()
    assert told.outcomes == ["taken"]


@every_face
def test_a_cluster_does_as_well(told: Told, face: str) -> None:
    with redises.started("--cluster-enabled", "yes") as server:
        client: Any = server.client
        client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
        while client.cluster("INFO")["cluster_state"] != "ok":
            pass
        locker = RedisLocker(server.url.replace("redis:", "redis+cluster:"), timeout=LONG, on_lock=told.append)
        both = wanted("a", "b")
        enter(locker, both, face)
        with locker.around(both), pytest.raises(TurnedAway):
            enter(locker, both, face)
        locker.close()
        with RedisCluster.from_url(server.url) as cluster:
            theirs = RedisLocker(cluster)
            enter(theirs, both, "sync")
        del locker, theirs, cluster, client
        with warnings.catch_warnings():  # a client of a cluster leaves connections open when it is closed
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
    assert told.outcomes == ["taken", "taken", "turned_away"]


@pytest.mark.parametrize(
    ("options", "field", "reason"),
    [
        ({"server": "http://cache"}, "redis", "must be a URL such as redis://cache/0"),
        ({"server": 7}, "redis", "must be a URL or a client of the package redis, not int"),
        ({"server": "redis://cache/bookings"}, "redis", "is a URL whose path is the number of a database"),
        ({"server": "redis+cluster://node:6379/1"}, "redis", "is a URL whose path is the number of a database"),
        ({"on_lock": "print"}, "on_lock", "must be a function that takes a LockEvent"),
        ({"on_lock": asyncio.sleep}, "on_lock", "must be a function that takes a LockEvent, and no coroutine"),
        ({"wait": timedelta(minutes=2)}, "wait", "must be a timedelta from 0 to a minute"),
        ({"wait": 1}, "wait", "must be a timedelta from 0 to a minute"),
        ({"ttl": timedelta()}, "ttl", "must be a timedelta from a millisecond to 0:01:00"),
        ({"timeout": timedelta(minutes=1)}, "timeout", "must be a timedelta from a millisecond to 0:00:10"),
        ({"rest": None}, "rest", "must be a timedelta from a millisecond to 0:10:00"),
        ({"when_unavailable": "perhaps"}, "when_unavailable", 'must be "proceed" or "refuse"'),
        ({"prefix": "{}"}, "prefix", "must be a text without braces"),
    ],
)
def test_what_cannot_be_an_option_is_refused(options: dict[str, Any], field: str, reason: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        RedisLocker(**{"server": "redis://cache/0", **options})
    assert caught.value.field == field
    assert caught.value.reason.startswith(reason)


def test_no_password_is_shown() -> None:
    assert repr(RedisLocker("redis://app:secret@cache:7000/1")) == "<RedisLocker on redis://cache:7000/1>"


def test_an_event_loop_that_is_busy_is_told_from_a_redis_that_is_slow() -> None:
    async def story() -> bool:
        watch = Watch(0.05)
        time.sleep(0.2)  # noqa: ASYNC251 - it stands still
        await asyncio.sleep(0.01)
        try:
            return watch.stood_still()
        finally:
            watch.end()

    assert asyncio.run(story())


@pytest.mark.parametrize(
    ("client", "waits"),
    [
        (Redis(), "55"),  # five seconds, eleven times
        (Redis(socket_timeout=None), "inf"),
        (Redis(socket_timeout=0.05, retry=Retry(NoBackoff(), 0)), None),
        (Redis.from_url("redis://cache/0?socket_timeout=0.05"), None),
        (aio.Redis(), "55"),
        (aio.RedisCluster(host="cache"), "5"),
    ],
)
def test_a_client_that_waits_for_long_is_warned_of(
    client: Any,  # noqa: ANN401 - of each kind
    waits: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    RedisLocker(client)
    if waits is None:
        assert caplog.messages == []
    else:
        assert f"waits for up to {waits} s for a Redis that stands still" in caplog.messages[0]


def test_what_happens_while_redis_is_away_is_not_said_where_there_is_none() -> None:
    with pytest.raises(InvalidInput, match=r"give redis=…, too, which is None") as caught:
        chosen(None, None, "refuse", for_asyncio=False)
    assert caught.value.field == "when_unavailable"
