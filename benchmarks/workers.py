"""Processes that work on one database at a time, as those of an application do."""

from __future__ import annotations

import multiprocessing as mp
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

Way = Callable[[range], Sequence[str]]
"""Does something for each of the numbers; gives the ids of the bookings that were acknowledged."""

Equipment = Callable[[int], AbstractContextManager[Mapping[str, Way]]]
"""What a worker, by its number, opens and keeps open: the ways that it knows, by name. It goes to another process."""

PATIENCE = 600.0
"""Seconds that a worker may take."""

_processes = mp.get_context("forkserver")
_processes.set_forkserver_preload(["nxsched.async_scheduler", "nxsched.scheduler", "psycopg", "psycopg_binary"])


class Workers:
    """So many of them, who all do the same thing at a time."""

    def __init__(self, count: int, equipment: Equipment) -> None:
        self.count = count
        self.acknowledged: dict[str, list[str]] = defaultdict(list)
        """The ids of bookings, by the way that they came."""
        self._used = 20_000 * count  # each count of workers has years of its own
        self._orders = [_processes.Queue() for _ in range(count)]
        self._done = _processes.Queue()
        self._started = [
            _processes.Process(target=_work, args=(who, equipment, orders, self._done), daemon=True)
            for who, orders in enumerate(self._orders)
        ]

    def __enter__(self) -> Self:
        """Start them."""
        for one in self._started:
            one.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Let them go, at once where something has failed."""
        for queue, one in zip(self._orders, self._started, strict=True):
            if kind is None:
                queue.put(None)
            else:
                one.terminate()
        for one in self._started:
            one.join()

    def rate(self, way: str, each: int, *, ready: str | None = None) -> float:
        """How often a second something is done, where each does it so often, for numbers that are new.

        `ready` is done before, for the same numbers, and takes no time.
        """
        numbers = range(self._used, self._used + each)
        self._used += each
        if ready is not None:
            self._do(ready, numbers)
        return self.count * each / self._do(way, numbers)

    def _do(self, way: str, numbers: range) -> float:
        """Seconds of the one who takes longest."""
        for queue in self._orders:
            queue.put((way, numbers))
        took: list[float] = []
        for _ in self._orders:
            seconds, ids, failed = self._done.get(timeout=PATIENCE)
            if failed:
                sys.exit(f"{way}: a worker failed\n{failed}")
            took.append(seconds)
            self.acknowledged[way] += ids
        return max(took)


def _work(who: int, equipment: Equipment, orders: Any, done: Any) -> None:  # noqa: ANN401 - queues
    """Do as told, and say how long it took and what came of it, or what went wrong."""
    try:
        with equipment(who) as ways:
            while (order := orders.get()) is not None:
                way, numbers = order
                begun = time.perf_counter()
                ids = ways[way](numbers)
                done.put((time.perf_counter() - begun, ids, None))
    except Exception:  # noqa: BLE001 - it is told, and ends the benchmark
        done.put((0.0, [], traceback.format_exc()))


def of_workers(count: int) -> str:
    """So many workers, in words."""
    return "one worker" if count == 1 else f"{count} workers"
