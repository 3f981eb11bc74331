"""What many ask at one moment goes to Redis together: nobody is forgotten, mixed up, or left waiting."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from datetime import timedelta
from typing import Any

import pytest
from redis import Redis

import redises
from nxsched.locking import Contended, LockEvent, Permit, RedisLocker, TurnedAway, asking
from nxsched.locking.clients import Clients
from nxsched.ratelimit.limiter import InMemory
from nxsched.ratelimit.rates import item

MANY = 200
LONG = timedelta(seconds=10)


def place(name: str) -> Contended:
    return Contended(tenant="acme", permits=(Permit(name),))


@pytest.fixture
def told() -> list[LockEvent]:
    return []


@pytest.fixture
def locker(redis: redises.RedisServer, told: list[LockEvent]) -> Iterator[RedisLocker]:
    found = RedisLocker(redis.url, timeout=LONG, on_lock=told.append)
    yield found
    found.close()


@pytest.fixture
def connections(redis: redises.RedisServer) -> Iterator[Callable[[], int]]:
    """How many were made so far."""
    with redis.client as client:
        before = client.info("stats")["total_connections_received"]
        yield lambda: client.info("stats")["total_connections_received"] - before


def until(true: Callable[[], bool]) -> None:
    while not true():
        time.sleep(0.001)


def on_threads(number: int, work: Callable[[int], None]) -> None:
    """Let so many threads begin together. Raises what they raise."""
    ready = threading.Barrier(number)

    def one(who: int) -> None:
        ready.wait()
        work(who)

    with ThreadPoolExecutor(number) as threads:
        for done in [threads.submit(one, who) for who in range(number)]:
            done.result(timeout=60)


def test_threads_ask_over_one_connection_and_everybody_gets_an_answer(
    locker: RedisLocker, connections: Callable[[], int], told: list[LockEvent]
) -> None:
    def take(who: int) -> None:
        for _ in range(MANY):  # what was given back without waiting is free for who gave it back
            with locker.around(place(f"place-{who}")):
                pass

    on_threads(16, take)
    assert Counter(one.outcome for one in told) == {"taken": 16 * MANY}
    assert connections() == 1


def test_tasks_ask_over_one_connection_and_everybody_gets_an_answer(
    locker: RedisLocker, redis: redises.RedisServer, connections: Callable[[], int], told: list[LockEvent]
) -> None:
    async def take(who: int) -> None:
        for _ in range(2):
            async with locker.around_async(place(f"place-{who}")):
                await asyncio.sleep(0)

    async def story() -> None:
        await asyncio.gather(*(take(who) for who in range(MANY)))
        await locker.aclose()

    asyncio.run(story())
    assert Counter(one.outcome for one in told) == {"taken": 2 * MANY}
    assert connections() == 1
    assert redis.client.keys() == []


def test_a_place_is_had_by_one_thread_or_task_at_a_time(locker: RedisLocker) -> None:
    inside, most, had = 0, 0, 0
    counting = threading.Lock()

    def come_and_go(by: int) -> None:
        nonlocal inside, most, had
        with counting:
            inside += by
            most, had = max(most, inside), had + (by > 0)

    def take(who: int) -> None:
        async def task() -> None:
            try:
                async with locker.around_async(place("the place")):
                    come_and_go(1)
                    await asyncio.sleep(0)
                    come_and_go(-1)
            except TurnedAway:
                await asyncio.sleep(0)

        async def tasks() -> None:
            await asyncio.gather(*(task() for _ in range(MANY)))
            await locker.aclose()

        if who % 4 == 0:
            return asyncio.run(tasks())
        for _ in range(MANY):
            try:
                with locker.around(place("the place")):
                    come_and_go(1)
                    come_and_go(-1)
            except TurnedAway:
                pass
        return None

    on_threads(12, take)
    assert most == 1
    assert had > 1


@pytest.mark.parametrize("face", ["sync", "asyncio"])
def test_a_redis_that_has_forgotten_the_scripts_is_told_them_by_whoever_asks(
    locker: RedisLocker, redis: redises.RedisServer, told: list[LockEvent], face: str
) -> None:
    async def take(who: int) -> None:
        async with locker.around_async(place(f"place-{who}")):
            await asyncio.sleep(0)

    async def story() -> None:
        await asyncio.gather(*(take(who) for who in range(MANY)))
        await locker.aclose()

    def taken(who: int) -> None:
        with locker.around(place(f"place-{who}")):
            pass

    for _ in range(5):
        redis.client.script_flush()
        on_threads(16, taken) if face == "sync" else asyncio.run(story())
    assert {one.outcome for one in told} == {"taken"}
    assert redis.client.keys() == []


def test_all_who_wait_for_a_redis_that_has_gone_are_told_so_and_it_is_asked_once(
    redis: redises.RedisServer, connections: Callable[[], int], told: list[LockEvent]
) -> None:
    """A thousand who each find out for themselves would hold one another up for many time-outs."""
    locker = RedisLocker(redis.url, timeout=timedelta(seconds=2), rest=timedelta(minutes=5), on_lock=told.append)

    def taken(who: int) -> None:
        with locker.around(place(f"place-{who}")):
            pass

    on_threads(16, taken)
    with redis.paused():
        on_threads(16, taken)
    locker.close()
    assert Counter(one.outcome for one in told) == {"taken": 16, "unavailable": 16}
    assert connections() <= 1


class Held:
    """A client that lets nobody go who asks it, until it is told what shall happen."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._over = threading.Event()
        self._error: BaseException | None = None
        self.asked = 0

    def pipeline(self, **options: Any) -> Any:  # noqa: ANN401 - of redis
        self.asked += 1
        if not self._over.is_set():
            assert self._over.wait(20)
            if self._error is not None:
                raise self._error
        return self._client.pipeline(**options)

    def go_on(self, error: BaseException | None = None) -> None:
        self._error = error
        self._over.set()


@pytest.fixture
def held(redis: redises.RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    with redis.client as client:
        found = Held(client)
        monkeypatch.setattr(Clients, "sync", lambda _: found)
        yield found


def begun(locker: RedisLocker, name: str, raises: type[BaseException] | None = None) -> threading.Thread:
    """A thread that wants a place."""

    def work() -> None:
        with pytest.raises(raises) if raises else nullcontext(), locker.around(place(name)):
            pass

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_who_is_interrupted_while_asking_for_others_leaves_nobody_waiting(
    locker: RedisLocker, held: Held, told: list[LockEvent]
) -> None:
    first = begun(locker, "one", raises=KeyboardInterrupt)
    until(lambda: held.asked == 1)
    others = [begun(locker, name) for name in ("two", "three")]
    time.sleep(0.2)  # they wait
    held.go_on(KeyboardInterrupt())
    for thread in (first, *others):
        thread.join(10)
        assert not thread.is_alive()
    with locker.around(place("one")):
        pass
    assert Counter(one.outcome for one in told) == {"unavailable": 2, "taken": 1}


def test_nobody_waits_forever_for_a_thread_that_does_not_come_back(
    redis: redises.RedisServer, held: Held, told: list[LockEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "_PATIENCE", 0.1)
    short = timedelta(milliseconds=50)
    locker = RedisLocker(redis.url, timeout=short, rest=short, on_lock=told.append)
    first = begun(locker, "one")
    until(lambda: held.asked == 1)
    with locker.around(place("two")):
        assert [one.outcome for one in told] == ["unavailable"]
    time.sleep(0.1)  # the breaker rests
    held.go_on()
    with locker.around(place("three")):
        pass
    first.join(10)
    assert not first.is_alive()
    assert Counter(one.outcome for one in told) == {"unavailable": 1, "taken": 2}
    with redis.client as client:
        until(lambda: client.keys() == [])
    locker.close()


def test_a_process_that_was_forked_while_a_thread_was_asking_asks_for_itself(
    locker: RedisLocker, held: Held, told: list[LockEvent]
) -> None:
    first = begun(locker, "one")
    until(lambda: held.asked == 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12, for the threads there are
        child = os.fork()
    if child == 0:
        try:
            held.go_on()
            with locker.around(place("two")):
                pass
        finally:
            os._exit(0 if [one.outcome for one in told] == ["taken"] else 1)
    assert os.waitpid(child, 0)[1] == 0
    held.go_on()
    first.join(10)
    assert not first.is_alive()


class Torn(BaseException):
    """What a signal handler raises."""


def test_who_is_torn_out_of_its_wait_is_not_waited_for(locker: RedisLocker, held: Held, told: list[LockEvent]) -> None:
    """By a signal: then it is not its turn to ask for the others, and they do not stand still until it is."""

    def tear(*_: object) -> None:
        raise Torn

    first = begun(locker, "one")
    until(lambda: held.asked == 1)
    others: list[threading.Thread] = []
    later = threading.Timer(0.1, lambda: others.extend(begun(locker, name) for name in ("three", "four")))
    later.start()
    before = signal.signal(signal.SIGALRM, tear)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.4)
        with pytest.raises(Torn), locker.around(place("two")):
            pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    held.go_on()
    later.join()
    for thread in (first, *others):
        thread.join(10)
        assert not thread.is_alive()
    assert Counter(one.outcome for one in told) == {"taken": 3}  # who waits for nobody is told that Redis is away


class SoftTimeLimit(Exception):
    """What a job's signal handler raises in its thread, whatever that is doing."""


def test_what_a_signal_handler_raises_is_not_taken_for_a_redis_that_is_away(
    locker: RedisLocker, held: Held, told: list[LockEvent]
) -> None:
    job = begun(locker, "one", raises=SoftTimeLimit)
    until(lambda: held.asked == 1)
    held.go_on(SoftTimeLimit())
    job.join(10)
    assert not job.is_alive()
    with locker.around(place("one")):
        pass
    assert [one.outcome for one in told] == ["taken"]


def test_a_child_that_is_forked_while_a_lock_of_the_parent_is_held_does_not_wait_for_it(
    locker: RedisLocker, told: list[LockEvent]
) -> None:
    counts = InMemory()
    with (
        locker._clients._lock,  # noqa: SLF001 - as another thread may hold them
        locker._breaker._lock,  # noqa: SLF001
        locker._asking._threads.lock,  # noqa: SLF001
        counts._lock,  # noqa: SLF001
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            try:
                with locker.around(place("two")):
                    room = counts.room(item("1/hour"), "somebody", take=True)
            finally:
                os._exit(0 if [one.outcome for one in told] == ["taken"] and room is None else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_shorter_time_to_live_takes_no_place_away_from_others(redis: redises.RedisServer) -> None:
    """As while an application is deployed that has a new one."""
    pool = Contended(tenant="acme", permits=(Permit("pool", 2),))
    old = RedisLocker(redis.url, timeout=LONG, ttl=timedelta(seconds=30))
    new = RedisLocker(redis.url, timeout=LONG, ttl=timedelta(milliseconds=50))
    with old.around(pool):
        with new.around(pool):
            time.sleep(0.1)
        with old.around(pool), pytest.raises(TurnedAway), old.around(pool):
            pass
    old.close()
    new.close()


@pytest.mark.parametrize("steps", [*range(12), 15, 20, 30])
def test_tasks_that_are_all_cancelled_leave_no_place(
    locker: RedisLocker, redis: redises.RedisServer, steps: int
) -> None:
    """As at the end of a loop, where whoever asks for them is cancelled, too."""

    async def take(who: int) -> None:
        async with locker.around_async(place(f"place-{who}")):
            await asyncio.sleep(60)

    async def story() -> None:
        tasks = [asyncio.create_task(take(who)) for who in range(MANY)]
        for _ in range(steps):
            await asyncio.sleep(0)
        for one in asyncio.all_tasks() - {asyncio.current_task()}:
            one.cancel()
        for task in tasks:
            with pytest.raises(asyncio.CancelledError):
                await task
        await locker.aclose()

    asyncio.run(story())
    assert redis.client.keys() == []


def let_loops_end(redis: redises.RedisServer, number: int) -> None:
    locker = RedisLocker(redis.url, timeout=LONG)

    async def take(who: int) -> None:
        while True:
            async with locker.around_async(place(f"place-{who}")):
                await asyncio.sleep(0)

    async def story(steps: int) -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(take(who)) for who in range(number)]
        for _ in range(steps):
            await asyncio.sleep(0)
        return tasks

    for steps in range(30):
        assert all(task.cancelled() for task in asyncio.run(story(steps)))
        assert redis.client.keys() == [], f"after {steps} steps"


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("number", [1, 64])
def test_a_loop_that_ends_with_tasks_in_it_ends_and_leaves_no_place(redis: redises.RedisServer, number: int) -> None:
    """Nobody closes the locker, nor waits for the tasks: the end of the loop cancels them, and who asks for them."""
    let_loops_end(redis, number)
    gc.collect()  # connections that nobody closed


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, MemoryError, ZeroDivisionError])
def test_whatever_ends_the_task_that_asks_nobody_waits_forever(
    locker: RedisLocker, redis: redises.RedisServer, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop that is interrupted may run on, to close what is open."""
    real, times = asking._together_async, 0  # noqa: SLF001 - our own

    async def together(*given: Any) -> Any:  # noqa: ANN401 - as it
        nonlocal times
        times += 1
        if times == 1:
            raise error
        return await real(*given)

    monkeypatch.setattr(asking, "_together_async", together)
    monkeypatch.setattr(locker._breaker, "_rest", 0.0)  # noqa: SLF001

    async def take(name: str) -> None:
        async with locker.around_async(place(name)):
            await asyncio.sleep(0)

    with asyncio.Runner() as runner:
        tasks: list[asyncio.Task[None]] = []

        async def story() -> None:
            tasks.extend(asyncio.create_task(take(f"place-{n}")) for n in range(3))
            await asyncio.gather(*tasks)

        with suppress(error):
            runner.run(story())
        runner.run(asyncio.wait_for(asyncio.wait(tasks), 10))
        runner.run(asyncio.wait_for(take("again"), 10))
        runner.run(asyncio.wait_for(locker.aclose(), 10))
    assert redis.client.keys() == []


def test_tasks_that_begin_at_once_are_answered_too(redis: redises.RedisServer, told: list[LockEvent]) -> None:
    nowhere = RedisLocker("unix:///there/is/none", rest=timedelta(milliseconds=1), on_lock=told.append)

    async def story() -> None:
        asyncio.get_running_loop().set_task_factory(getattr(asyncio, "eager_task_factory", None))  # of Python 3.12
        for _ in range(3):
            async with nowhere.around_async(place("one")):
                await asyncio.sleep(0.01)
        await nowhere.aclose()

    asyncio.run(asyncio.wait_for(story(), 10))
    assert [one.outcome for one in told] == ["unavailable"] * 3
    assert redis.client.keys() == []
