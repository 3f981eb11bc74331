"""Time that is taken, and time that is offered: blocked periods, bookings as the calculator sees them, slots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from nxsched.domain import checks
from nxsched.domain.bounds import FIRST_YEAR, MAX_CAPACITY
from nxsched.domain.instants import PER_SECOND, epoch_ceil, epoch_exact, epoch_floor, microseconds
from nxsched.domain.recurrence import Recurrence, recurrence
from nxsched.errors import InvalidInput

_NONE = timedelta()


class Slot(NamedTuple):
    """One start that is offered.

    `start` and `end` are UTC datetimes; `hosts` are the slugs of all members that can take it, group by group in the
    order of the group; `seats_left` are the seats of the occurrence that stands, or the capacity of a new one.
    """

    start: datetime
    end: datetime
    hosts: tuple[str, ...]
    seats_left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockedPeriod:
    """Time taken out of the hours, once or by recurrence rule (rule 9).

    `start` and `end` are both dates (whole local days, the last one included; no `end`: the same day), or both wall
    times (naive datetimes, in the host's own zone), or both instants (aware datetimes, and then no `rrule`).
    `rrule` is an RFC 5545 RRULE with `start` as its DTSTART. `id` comes back in refusals. Raises `InvalidInput`.
    """

    start: date
    end: date | None = None
    rrule: str | None = None
    reason: str = ""
    id: str | None = None
    recurrence: Recurrence | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        """Check the values, and read the rule."""
        kind = _kind("start", self.start)
        object.__setattr__(self, "start", _plain(self.start))
        if self.end is None and kind != "date":
            raise InvalidInput(field="end", reason=f"is required where start is {_KINDS[kind]}")
        if self.end is not None and (other := _kind("end", self.end)) != kind:
            raise InvalidInput(field="end", reason=f"must be {_KINDS[kind]} as start is, not {_KINDS[other]}")
        if self.end is not None:
            object.__setattr__(self, "end", _plain(self.end))
            lasts = _lasts(self.start, self.end)
            if lasts < 0 or (lasts == 0 and kind != "date"):
                raise InvalidInput(field="end", reason=f"must be after start: {self.end} is not after {self.start}")
        checks.text("reason", self.reason, empty=True)
        if self.id is not None:
            checks.text("id", self.id)
        if self.rrule is not None:
            if kind == "instant":
                raise InvalidInput(
                    field="rrule", reason="needs dates or wall times; a period in instants takes no rule"
                )
            object.__setattr__(self, "recurrence", recurrence("rrule", self.rrule, self.start))

    def instants(self) -> tuple[int, int] | None:
        """Start and end in epoch seconds, widened to whole ones, of a period in instants; `None` for the others."""
        if not isinstance(self.start, datetime) or self.start.tzinfo is None:
            return None
        return epoch_floor("start", self.start), epoch_ceil("end", self.end)

    def reach(self) -> tuple[datetime, datetime]:
        """Two instants between which all that it blocks lies, in any time zone, with more than a day to spare."""
        last = self.end or self.start
        first, until = (datetime(one.year, one.month, one.day, tzinfo=UTC) for one in (self.start, last))
        if self.recurrence is None:
            return first - _SPARE, min(until, _FOR_EVER - _SPARE) + _SPARE
        ends = self.recurrence.until
        if ends is None:
            return first - _SPARE, _FOR_EVER
        lasts = until - first
        return first - _SPARE, max(min(ends.replace(tzinfo=UTC), _FOR_EVER - lasts - _SPARE) + lasts + _SPARE, first)


_SPARE = timedelta(days=3)
_FOR_EVER = datetime(9999, 12, 30, tzinfo=UTC)

_KINDS = {"date": "a date", "wall": "a wall time", "instant": "an instant"}


def _plain(value: date) -> date:
    """A date or wall time of the standard library: other calendars' subtract in their own way. Instants stay."""
    if not isinstance(value, datetime):
        return date(value.year, value.month, value.day)
    if value.tzinfo is not None:
        return value
    return datetime(value.year, value.month, value.day, value.hour, value.minute, value.second)  # noqa: DTZ001 - a wall time


def _lasts(start: date, end: date) -> float:
    """Seconds from start to end, both of a kind. Instants are not compared: Python would compare their wall times."""
    if isinstance(start, datetime) and start.tzinfo is not None:
        return microseconds("end", end) - microseconds("start", start)
    return (end - start).total_seconds()


def _kind(name: str, value: object) -> str:
    if isinstance(value, datetime):
        if value.tzinfo is not None:
            epoch_floor(name, value)
            return "instant"
        if value.year < FIRST_YEAR:
            raise InvalidInput(field=name, reason=f"must not lie before the year {FIRST_YEAR}")
        if value.microsecond:
            raise InvalidInput(field=name, reason="must have no fraction of a second: .replace(microsecond=0)")
        return "wall"
    checks.calendar_date(name, value)
    return "date"


@dataclass(frozen=True, slots=True, kw_only=True)
class BookedTime:
    """What a booking or a hold takes, as far as slots are concerned.

    `hosts` are slugs. It is busy from `start` less `buffer_before` to `end` plus `buffer_after` (rule 11), with its own
    buffers; `seats` are taken from the occurrence that shares its event type, start, end and hosts (rule 23). Without
    an `event_type` it is an occurrence by itself. `id` comes back in refusals. Raises `InvalidInput`.
    """

    start: datetime
    end: datetime
    hosts: Sequence[str]
    event_type: str | None = None
    buffer_before: timedelta = _NONE
    buffer_after: timedelta = _NONE
    seats: int = 1
    id: str | None = None

    def __post_init__(self) -> None:
        """Check the values, and keep the hosts as a tuple."""
        if epoch_exact("end", self.end) <= epoch_exact("start", self.start):
            reason = f"must be after start: {self.end.isoformat()} is not after {self.start.isoformat()}"
            raise InvalidInput(field="end", reason=reason)
        hosts = checks.items("hosts", self.hosts, str)
        if not hosts:
            raise InvalidInput(field="hosts", reason="must name at least one host")
        for i, slug in enumerate(hosts):
            checks.text(f"hosts[{i}]", slug)
        if len(set(hosts)) < len(hosts):
            raise InvalidInput(field="hosts", reason="must name each host once")
        object.__setattr__(self, "hosts", hosts)
        if self.event_type is not None:
            checks.text("event_type", self.event_type)
        checks.duration("buffer_before", self.buffer_before)
        checks.duration("buffer_after", self.buffer_after)
        checks.whole("seats", self.seats, least=1, most=MAX_CAPACITY)
        if self.id is not None:
            checks.text("id", self.id)

    def span(self) -> tuple[int, int]:
        """Start and end in epoch seconds."""
        return epoch_exact("start", self.start), epoch_exact("end", self.end)

    def busy(self) -> tuple[int, int]:
        """When its hosts are busy, its own buffers included, in epoch seconds (rule 11)."""
        start, end = self.span()
        return start - int(self.buffer_before.total_seconds()), end + int(self.buffer_after.total_seconds())


@dataclass(frozen=True, slots=True, kw_only=True)
class BusyTime:
    """Busy time that an outside calendar has reported, UTC; `source` is the application's name for the calendar."""

    source: str
    start: datetime
    end: datetime


def busy_seconds(field: str, value: object) -> tuple[int, int]:
    """Outside busy time in epoch seconds, widened to whole ones; one that is empty stays empty (rules 1 and 2)."""
    start, end = checks.pair(field, value)
    first, last = microseconds(f"{field}[0]", start), microseconds(f"{field}[1]", end)
    if last < first:
        raise InvalidInput(field=f"{field}[1]", reason=f"must not lie before the start: {end} is before {start}")
    whole = first // PER_SECOND
    return whole, -(-last // PER_SECOND) if first < last else whole
