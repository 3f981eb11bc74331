"""Ask a Redis: what many callers ask at one moment goes to it together.

A round trip costs little on the wire and much in the process: what a client does for each, and the interpreter's lock,
which a thread has to get again after each wait. So one thread asks for all that came while Redis was answering, and a
task of its own for all tasks of an event loop. Questions are answered in the order in which they came.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from hashlib import sha1
from typing import Any, Final

from nxsched.forks import in_children
from nxsched.locking.clients import OF_REDIS, Clients, NoScriptError, OfLoops, Watch

Answer = object
"""What Redis said, or the error that came instead."""

_AT_ONCE: Final = 64
"""What goes to Redis together at most: more would look like a Redis that is slow."""

_TIMES: Final = 3
"""How often something is asked for tasks, whose own task may be cancelled each time."""

_PATIENCE: Final = 1.0
"""Seconds beyond what Redis may take, for which those wait whom somebody else asks for."""


class NoAnswer(Exception):
    """There is none, which says nothing of Redis: nobody waited for it, or who asked was torn out of it."""


class Script:
    """A script, and how Redis names it."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.digest: str = sha1(source.encode()).hexdigest()  # noqa: S324 - as Redis does


class _Question:
    """`tell` is called when there is an answer, or when whoever waits for it has to ask: who does not wait has none."""

    __slots__ = ("answer", "answered", "asked", "script", "tell", "values")

    def __init__(self, script: Script, values: Sequence[Any], tell: Callable[[], object] | None = None) -> None:
        self.script = script
        self.values = values
        self.tell = tell
        self.asked = 0
        self.answer: Answer = None
        self.answered = False


class _Threads:
    """What the threads of one process wait for; whether one of them asks, and who was told last that it is to."""

    def __init__(self) -> None:
        self.lock = threading.RLock()  # a signal handler may ask, too
        self.waiting: deque[_Question] = deque()
        self.asking = False
        self.heir: _Question | None = None

    def hand_on(self) -> bool:
        """Let somebody else ask, if anybody waits; `False` where there is only what nobody waits for."""
        heir = next((one for one in self.waiting if one.tell is not None), None)
        if heir is None and self.waiting:
            return False
        self.heir, self.asking = heir, heir is not None
        if heir is not None and heir.tell is not None:
            heir.tell()
        return True

    def withdraw(self, question: _Question) -> None:
        """Forget who waits no more. What Redis is being asked already, it is asked."""
        with self.lock:
            with suppress(ValueError):
                self.waiting.remove(question)
            if self.heir is question and not self.hand_on():
                self.asking = False  # what is left goes with the next question


class _Tasks:
    """What the tasks of one event loop wait for, and the one that asks."""

    def __init__(self) -> None:
        self.waiting: deque[_Question] = deque()
        self.asking: asyncio.Task[None] | None = None


class Asking:
    """Asks for threads and for tasks. `timeout` is what an answer may take, in seconds."""

    def __init__(self, clients: Clients, timeout: float) -> None:
        self._clients = clients
        self._timeout = timeout
        self._tasks = OfLoops(_Tasks)
        self._begin()
        in_children(self, Asking._begin)

    def _begin(self) -> None:
        self._threads = _Threads()

    def ask(self, script: Script, values: Sequence[Any], *, wait: bool = True) -> Answer:
        """The answer. Without `wait` there is none where another thread is asking, which sees to this, too."""
        question, threads = _Question(script, values), self._threads
        told = threading.Lock()
        told.acquire()
        with threads.lock:
            threads.waiting.append(question)
            other, threads.asking = threads.asking, True
            if other and wait:
                question.tell = partial(_let_go, told)
        if other and not wait:
            return NoAnswer()
        if other and not self._waited(threads, question, told):
            return TimeoutError("the thread that asks Redis for all does not come back")
        if not question.answered:
            self._ask_for_all(threads, question)
        return question.answer

    def _waited(self, threads: _Threads, question: _Question, told: threading.Lock) -> bool:
        """Wait for the answer, or for one's turn to ask."""
        try:
            if told.acquire(timeout=2 * self._timeout + _PATIENCE):
                return True
        except BaseException:  # of a signal handler
            threads.withdraw(question)
            raise
        with threads.lock:
            if question.answered or threads.heir is question:  # at the last moment
                return True
            if self._threads is threads:
                self._threads = _Threads()
        return False

    def _ask_for_all(self, threads: _Threads, mine: _Question) -> None:
        """Ask until one's own question is answered; then it is the turn of another one who waits, if there is one."""
        mine.tell, threads.heir = None, None
        asked: list[_Question] = []
        try:
            while True:
                with threads.lock:
                    if mine.answered and threads.hand_on():
                        return
                    asked = _first(threads.waiting)
                _answer(asked, _together(self._clients.sync(), asked))
        except BaseException as error:
            with threads.lock:  # what waits for a Redis that has just failed need not find that out for itself
                asked += threads.waiting
                threads.waiting.clear()
                threads.hand_on()
            of_redis = isinstance(error, OF_REDIS)
            _answer(asked, [error if of_redis else NoAnswer()] * len(asked))
            if not of_redis:
                raise

    async def ask_async(self, script: Script, values: Sequence[Any], *, to_its_end: bool = False) -> Answer:
        """The same for asyncio. Who is cancelled meanwhile has asked all the same, and waits if it is `to_its_end`."""
        tasks, question = self._tasks.get(), _Question(script, values)
        told = _told(question)
        tasks.waiting.append(question)
        if tasks.asking is None:
            self._have_asked(tasks)
        cancelled: asyncio.CancelledError | None = None
        while not question.answered:
            try:
                async with asyncio.timeout(2 * self._timeout + _PATIENCE):
                    await told
            except TimeoutError:  # a loop that stands still, or one of whose callbacks was torn to pieces by a signal
                if self._tasks.get() is tasks:
                    self._tasks.pop()
                return NoAnswer()
            except asyncio.CancelledError as error:
                if not to_its_end:
                    raise
                cancelled, told = error, _told(question)
        if cancelled is not None:
            raise cancelled
        return question.answer

    async def settle(self) -> None:
        """Wait until all is asked that tasks of the event loop have left."""
        tasks = self._tasks.get()
        while tasks.asking is not None:
            await asyncio.wait([tasks.asking])
            await asyncio.sleep(0)

    def close(self) -> None:
        """Wait until all is asked that threads have left."""
        over = time.monotonic() + 2 * self._timeout
        while self._threads.asking and time.monotonic() < over:
            time.sleep(0.001)

    def _have_asked(self, tasks: _Tasks) -> None:
        asked: list[_Question] = []
        tasks.asking = asyncio.get_running_loop().create_task(self._ask_for_tasks(tasks.waiting, asked))
        tasks.asking.add_done_callback(partial(self._over, tasks, asked))

    def _over(self, tasks: _Tasks, asked: Sequence[_Question], task: asyncio.Task[None]) -> None:
        """What a task has left, another one asks: it may have been cancelled, by the end of a loop or before it began.

        Those who are cancelled with it give back what they may have.
        """
        if not task.cancelled():
            task.exception()  # of a signal: told by the loop to whoever runs it
        left = [one for one in asked if not one.answered]
        _answer(given_up := [one for one in left if one.asked >= _TIMES], [NoAnswer()] * len(given_up))
        tasks.waiting.extendleft(one for one in reversed(left) if not one.answered)
        tasks.asking = None
        if tasks.waiting:
            self._have_asked(tasks)

    async def _ask_for_tasks(self, waiting: deque[_Question], asked: list[_Question]) -> None:
        while waiting:
            asked[:] = _first(waiting)
            watch = Watch(self._timeout)
            try:
                _answer(asked, await _together_async(self._clients.of_loop(), asked))
            except Exception as error:  # noqa: BLE001 - whatever it is that answers
                asked += waiting
                waiting.clear()
                _answer(asked, [NoAnswer() if watch.stood_still() else error] * len(asked))
            finally:
                watch.end()


def _let_go(told: threading.Lock) -> None:
    with suppress(RuntimeError):  # told before, by somebody who was torn out of it then
        told.release()


def _told(question: _Question) -> asyncio.Future[None]:
    told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    question.tell = partial(_wake, told)
    return told


def _wake(told: asyncio.Future[None]) -> None:
    if not told.done():  # whoever waited for it was cancelled
        told.set_result(None)


def _first(waiting: deque[_Question]) -> list[_Question]:
    found = [waiting.popleft() for _ in range(min(len(waiting), _AT_ONCE))]
    for one in found:
        one.asked += 1
    return found


def _answer(asked: Sequence[_Question], answers: Sequence[Answer]) -> None:
    for one, answer in zip(asked, answers, strict=True):
        if not one.answered:
            one.answer, one.answered, tell = answer, True, one.tell
            if tell is not None:
                tell()


def _together(client: Any, asked: Sequence[_Question]) -> list[Answer]:  # noqa: ANN401 - of redis
    answers: list[Answer] = _pipeline(client, asked).execute(raise_on_error=False)
    if _unknown(answers):
        answers = _pipeline(client, asked, known=False).execute(raise_on_error=False)
    return answers


async def _together_async(client: Any, asked: Sequence[_Question]) -> list[Answer]:  # noqa: ANN401 - of redis
    answers: list[Answer] = await _pipeline(client, asked).execute(raise_on_error=False)
    if _unknown(answers):
        answers = await _pipeline(client, asked, known=False).execute(raise_on_error=False)
    return answers


def _pipeline(client: Any, asked: Sequence[_Question], *, known: bool = True) -> Any:  # noqa: ANN401 - of redis
    """The questions as one request: by digest, or as scripts that Redis knows from then on."""
    pipeline = client.pipeline(transaction=False)
    for one in asked:
        script = ("EVALSHA", one.script.digest) if known else ("EVAL", one.script.source)
        pipeline.execute_command(*script, *one.values)
    return pipeline


def _unknown(answers: Sequence[Answer]) -> bool:
    """Whether Redis has forgotten a script. Then all is asked again, in order: what was done is not done twice."""
    return any(isinstance(one, NoScriptError) for one in answers)
