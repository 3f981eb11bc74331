"""Slots from the database: the calculator's question, put together from what is stored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from nxsched.domain import checks
from nxsched.domain.bounds import MAX_LIMIT
from nxsched.domain.commands import booking_id
from nxsched.domain.instants import epoch_ceil, epoch_exact, instant
from nxsched.domain.refusals import Refusal
from nxsched.service.tools import Tools
from nxsched.slots.answer import Slots
from nxsched.slots.calculator import offered
from nxsched.slots.explain import refusals
from nxsched.slots.facts import prepare
from nxsched.slots.intervals import Interval
from nxsched.slots.prepared import Prepared
from nxsched.slots.query import asked_range
from nxsched.store.facts import Found, fetch_facts
from nxsched.store.settings import Settings, fetch_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Starts of an event type from `start` to before `end`; `host` and `moving` as in `Tenant.find_slots`.

    Raises `InvalidInput` for what cannot be asked, before anything is read.
    """

    event_type: str
    start: datetime
    end: datetime
    duration: timedelta | None = None
    host: str | None = None
    moving: str | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        checks.text("event_type", self.event_type)
        asked_range(self.start, self.end)
        if self.duration is not None:
            object.__setattr__(self, "duration", checks.duration("duration", self.duration, least=1))
        if self.host is not None:
            checks.text("host", self.host)
        if self.moving is not None:
            object.__setattr__(self, "moving", booking_id("moving", self.moving))
        if self.limit is not None:
            checks.whole("limit", self.limit, least=1, most=MAX_LIMIT)


def find(connection: Connection, asked: Asked, tools: Tools) -> Slots:
    """The slots that are offered."""
    span = asked_range(asked.start, asked.end)
    settings = settings_of(connection, asked, tools)
    found = fetch_facts(connection, tools.tenant, settings, span, tools.now, "find")
    seats = settings.moved.seats if settings.moved else 1
    return offered(question(settings, found, span, tools.now, asked.host, seats), asked.limit)


def explain(connection: Connection, asked: Asked, tools: Tools) -> list[Refusal]:
    """Every rule that refuses the start of what is asked."""
    start = epoch_exact("start", asked.start)
    settings = settings_of(connection, asked, tools)
    return explained(connection, settings, asked, start, tools, settings.moved.seats if settings.moved else 1)


def explained(
    connection: Connection, settings: Settings, asked: Asked, start: int, tools: Tools, seats: int = 1
) -> list[Refusal]:
    """Every rule that refuses so many seats at `start`, with the names of the bookings that are in the way."""
    found = fetch_facts(connection, tools.tenant, settings, (start, start + 1), tools.now, "explain")
    return refusals(question(settings, found, (start, start + 1), tools.now, asked.host, seats), start)


def settings_of(connection: Connection, asked: Asked, tools: Tools) -> Settings:
    """What is set for the question, with the duration that is asked for."""
    span = asked.start.astimezone(UTC), asked.end.astimezone(UTC)
    return fetch_settings(
        connection,
        tools.tenant,
        asked.event_type,
        span,
        tools.now,
        duration=asked.duration,
        moving=asked.moving,
    )


def question(
    settings: Settings, found: Found, span: Interval, now: datetime, host: str | None, seats: int = 1
) -> Prepared:
    """The question in integers; the time is rounded up to a whole second (rule 1)."""
    return prepare(settings.terms, found.facts, *span, epoch_ceil("now", now), host=host, seats=seats)


def able_at(asked: Prepared, start: int) -> tuple[str, ...]:
    """The hosts that can take `start`, none where it is not offered: what is offered is what can be booked."""
    return next((slot.hosts for slot in offered(asked, 1) if slot.start == instant(start)), ())
