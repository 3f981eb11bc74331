"""Outbox events as who delivers them sees them, when they are tried again, and the figures of a relay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from urllib.parse import quote

from nxsched.domain import checks
from nxsched.domain.events import plain
from nxsched.errors import InvalidInput

MOST_ATTEMPTS: Final = 100
"""Attempts that a `Backoff` may allow."""


class OutboxState(StrEnum):
    """What has become of an event so far."""

    WAITING = "waiting"
    LEASED = "leased"
    DELIVERED = "delivered"
    DEAD = "dead"
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxEvent:
    """A change of a booking that the application is to be told of, or that it is time to remind somebody of it.

    `id` is the same however often it is delivered: by it a receiver knows what it has had already. Versions of a
    booking run from 1 without a gap, and it is delivered in that order. `payload` is JSON, in the shape of
    `event_schema(kind)`. `attempts` counts the present one. `due_at` is when it is tried next, `error` what the last
    attempt failed with; `leased_by` names the relay that has it, or has delivered it: host, process, batch. `read_at`
    is what time the database said when this was read. Times are UTC.
    """

    id: str
    tenant: str
    kind: str
    booking_id: str
    version: int
    occurred_at: datetime
    payload: Mapping[str, Any] = field(repr=False, hash=False)
    state: OutboxState
    attempts: int
    due_at: datetime
    error: str | None = None
    leased_by: str | None = None
    leased_until: datetime | None = None
    read_at: datetime = field(repr=False, compare=False)

    def to_cloudevent(self, *, source: str | None = None) -> dict[str, Any]:
        """The event in the JSON shape of CloudEvents 1.0, with the payload as its `data`.

        `source` is a URI that names the application; without one it is `/tenants/` and the tenant. Raises
        `InvalidInput`.
        """
        if source is not None:
            checks.text("source", source)
        return {
            "specversion": "1.0",
            "id": self.id,
            "source": source or f"/tenants/{quote(self.tenant, safe='')}",
            "type": self.kind,
            "subject": self.booking_id,
            "time": plain(self.occurred_at),
            "datacontenttype": "application/json",
            "tenant": self.tenant,
            "bookingversion": self.version,
            "data": dict(self.payload),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """When what failed is tried again: after a random time up to `first`, then up to `factor` times as long, and so on.

    No wait is longer than `longest`. After `attempts` it is dead. The default is ten attempts in about three days.
    Raises `InvalidInput`.
    """

    attempts: int = 10
    first: timedelta = timedelta(seconds=10)
    factor: float = 5.0
    longest: timedelta = timedelta(hours=40)

    def __post_init__(self) -> None:
        """Check the values."""
        checks.whole("backoff.attempts", self.attempts, least=1, most=MOST_ATTEMPTS)
        span("backoff.first", self.first)
        span("backoff.longest", self.longest)
        if not 1 <= checks.number("backoff.factor", self.factor) <= MOST_ATTEMPTS:
            reason = f"must lie between 1 and {MOST_ATTEMPTS}, not {checks.shown(self.factor)}"
            raise InvalidInput(field="backoff.factor", reason=reason)

    def most(self, attempt: int) -> timedelta:
        """The longest wait after this attempt, the first being 1."""
        factor = float(self.factor) ** (attempt - 1)
        return self.first * factor if factor < self.longest / self.first else self.longest


def span(name: str, value: object) -> timedelta:
    """A time from a millisecond to a hundred days."""
    if not isinstance(value, timedelta) or not timedelta(milliseconds=1) <= value <= timedelta(days=100):
        raise InvalidInput(
            field=name, reason=f"must be a timedelta from a millisecond to 100 days, not {checks.shown(value)}"
        )
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Relayed:
    """What a relay has done: events delivered, attempts that failed and are made again, events that are dead now.

    `lost` were delivered after their lease had ended, so somebody else may have delivered them too.
    """

    delivered: int = 0
    failed: int = 0
    dead: int = 0
    lost: int = 0

    def __add__(self, other: Relayed) -> Relayed:
        """The two together."""
        return Relayed(
            delivered=self.delivered + other.delivered,
            failed=self.failed + other.failed,
            dead=self.dead + other.dead,
            lost=self.lost + other.lost,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxStatus:
    """How the outbox stands: `depth` events are undelivered, and `lag` is the age of the oldest of them.

    Those that wait for their next attempt count as well. `failing` of them have been tried in vain, and `dead` events
    have been given up.
    """

    depth: int
    lag: timedelta
    failing: int
    dead: int
