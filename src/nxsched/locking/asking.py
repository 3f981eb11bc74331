"""Ask a Redis: what many callers ask at one moment goes to it together.

A round trip costs little on the wire and much in the process: what a client does for each, and the interpreter's lock,
which a thread has to get again after each wait. So one thread asks for all that came while Redis was answering, and a
task of its own for all tasks of an event loop. Questions are answered in the order in which they came.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha1
from typing import Any, Final

from nxsched.locking.clients import Clients, NoScriptError, OfLoops, Watch

Answer = object
"""What Redis said, or the error that came instead."""

_AT_ONCE: Final = 64
"""What goes to Redis together at most: more would look like a Redis that is slow."""

_PATIENCE: Final = 1.0
"""Seconds beyond what Redis may take: a signal may have torn the thread out of it that asks for the others."""


class NoAnswer(Exception):
    """There is none, which says nothing of Redis: nobody waited for it, or the event loop was late, or is ending."""


class Script:
    """A script, and how Redis names it."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.digest: str = sha1(source.encode()).hexdigest()  # noqa: S324 - as Redis does


class _Question:
    """`tell` is called when there is an answer, or when whoever waits for it has to ask: who does not wait has none."""

    __slots__ = ("answer", "answered", "script", "tell", "values")

    def __init__(self, script: Script, values: Sequence[Any], tell: Callable[[], object] | None = None) -> None:
        self.script = script
        self.values = values
        self.tell = tell
        self.answer: Answer = None
        self.answered = False


class _Threads:
    """What the threads of one process wait for, and whether one of them is asking."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.lock = threading.Lock()
        self.waiting: deque[_Question] = deque()
        self.asking = False


class _Tasks:
    """What the tasks of one event loop wait for, and the one that is asking."""

    def __init__(self) -> None:
        self.waiting: deque[_Question] = deque()
        self.asking: asyncio.Task[None] | None = None


class Asking:
    """Asks for threads and for tasks. `timeout` is what an answer may take, in seconds."""

    def __init__(self, clients: Clients, timeout: float) -> None:
        self._clients = clients
        self._timeout = timeout
        self._threads = _Threads()
        self._tasks = OfLoops(_Tasks)

    def ask(self, script: Script, values: Sequence[Any], *, wait: bool = True) -> Answer:
        """The answer. Without `wait` there is none where another thread is asking, which sees to this, too."""
        question = _Question(script, values)
        threads = self._threads
        if threads.process != os.getpid():  # who was asking is in the process that forked, and not here
            threads = self._threads = _Threads()
        with threads.lock:
            threads.waiting.append(question)
            mine, threads.asking = not threads.asking, True
            if not mine and wait:
                told = threading.Lock()
                told.acquire()
                question.tell = told.release
        if not mine:
            if not wait:
                return NoAnswer()
            if not told.acquire(timeout=2 * self._timeout + _PATIENCE) and not question.answered:
                self._threads = _Threads()
                return TimeoutError("the thread that asks Redis for all does not come back")
        if not question.answered:
            question.tell = None
            self._ask_for_all(threads, question)
        return question.answer

    def _ask_for_all(self, threads: _Threads, mine: _Question) -> None:
        """Ask until one's own question is answered; then it is the turn of another one who waits, if there is one."""
        asked: list[_Question] = []
        try:
            while True:
                with threads.lock:
                    next_one = next((one for one in threads.waiting if one.tell is not None), None)
                    if mine.answered and (next_one is not None or not threads.waiting):
                        threads.asking = next_one is not None
                        break
                    asked = _first(threads.waiting)
                _answer(asked, _together(self._clients.sync(), asked))
        except BaseException as error:
            with threads.lock:  # what waits for a Redis that has just failed need not find that out for itself
                asked += threads.waiting
                threads.waiting.clear()
                threads.asking = False
            _answer(asked, [error if isinstance(error, Exception) else NoAnswer()] * len(asked))
            if not isinstance(error, Exception):
                raise
        else:
            if next_one is not None and next_one.tell is not None:
                next_one.tell()

    async def ask_async(self, script: Script, values: Sequence[Any]) -> Answer:
        """The same for asyncio. It is asked to its end, also where the task is cancelled that waits for it."""
        tasks, loop = self._tasks.get(), asyncio.get_running_loop()
        told: asyncio.Future[None] = loop.create_future()
        question = _Question(script, values, partial(_wake, told))
        tasks.waiting.append(question)
        if tasks.asking is None:
            tasks.asking = loop.create_task(self._ask_for_tasks(tasks))
        await told
        return question.answer

    async def settle(self) -> None:
        """Wait until all is asked that tasks of the event loop have left."""
        while (asking := self._tasks.get().asking) is not None:
            await asyncio.wait([asking])

    async def _ask_for_tasks(self, tasks: _Tasks) -> None:
        asked: list[_Question] = []
        try:
            while tasks.waiting:
                asked = _first(tasks.waiting)
                watch = Watch(self._timeout)
                try:
                    answers = await _together_async(self._clients.of_loop(), asked)
                except Exception as error:  # noqa: BLE001 - whatever it is that answers
                    asked += tasks.waiting
                    tasks.waiting.clear()
                    answers = [NoAnswer() if watch.stood_still() else error] * len(asked)
                finally:
                    watch.end()
                _answer(asked, answers)
            tasks.asking = None
        except asyncio.CancelledError:  # the loop is about to end, and those who wait with it: they give back
            tasks.asking = asyncio.get_running_loop().create_task(self._ask_for_tasks(tasks)) if tasks.waiting else None
            _answer(asked, [NoAnswer()] * len(asked))
            raise


def _wake(told: asyncio.Future[None]) -> None:
    if not told.done():  # whoever waited for it was cancelled
        told.set_result(None)


def _first(waiting: deque[_Question]) -> list[_Question]:
    return [waiting.popleft() for _ in range(min(len(waiting), _AT_ONCE))]


def _answer(asked: Sequence[_Question], answers: Sequence[Answer]) -> None:
    for one, answer in zip(asked, answers, strict=True):
        if not one.answered:
            one.answer, one.answered = answer, True
            if one.tell is not None:
                one.tell()


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
