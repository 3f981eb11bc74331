"""Clocks. The database's own decides unless one of these is put in its place: for tests, and to replay what was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Protocol

from nxsched.errors import InvalidInput


class Clock(Protocol):
    """Something that tells the time."""

    def now(self) -> datetime:
        """The time, as an aware datetime."""


class SettableClock:
    """A clock that stands still until it is moved. Safe to share between threads."""

    def __init__(self, now: datetime) -> None:
        """Stand at `now`, an aware datetime."""
        self._lock = Lock()
        self.set(now)

    def now(self) -> datetime:
        """The time at which it stands."""
        return self._now

    def set(self, now: datetime) -> None:
        """Stand at another time. Raises `InvalidInput` for what is no aware datetime."""
        if not isinstance(now, datetime) or now.utcoffset() is None:
            raise InvalidInput(field="now", reason=f"must be an aware datetime, not {now!r:.100}")
        with self._lock:
            self._now: datetime = now.astimezone(UTC)

    def move(self, by: timedelta) -> None:
        """Go on, or back. Raises `InvalidInput` for what is no timedelta."""
        if not isinstance(by, timedelta):
            raise InvalidInput(field="by", reason=f"must be a timedelta, not {by!r:.100}")
        with self._lock:
            self._now += by
