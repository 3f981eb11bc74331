"""A circuit breaker: after a failure nothing is asked for a while, and then one caller looks whether it works again."""

from __future__ import annotations

import threading
import time

from nxsched.forks import in_children


class Breaker:
    """Closed while all is well. Safe between threads; `rest` is in seconds."""

    def __init__(self, rest: float) -> None:
        self._rest = rest
        self._lock = threading.Lock()
        self._until: float | None = None
        in_children(self, Breaker._begin_anew)

    def _begin_anew(self) -> None:
        self._lock = threading.Lock()

    def may_ask(self) -> bool:
        """Whether to ask: always, or after a failure once in a `rest`, whoever comes first."""
        if self._until is None:
            return True
        with self._lock:
            now = time.monotonic()
            if self._until is None or now >= self._until:
                self._until = None if self._until is None else now + self._rest
                return True
            return False

    def failed(self) -> bool:
        """Ask nothing for a while. Gives whether all was well before: one failure is news, the next ones are not."""
        with self._lock:
            news = self._until is None
            self._until = time.monotonic() + self._rest
            return news

    def worked(self) -> bool:
        """All is well. Gives whether that is news."""
        if self._until is None:
            return False
        with self._lock:
            news, self._until = self._until is not None, None
            return news
