"""Reminders of bookings: when and whom, and what became of each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Literal

from nxsched.domain import checks
from nxsched.errors import InvalidInput

To = Literal["attendee", "hosts"]
TO: Final = ("attendee", "hosts")

MOST_DAYS: Final = 366
"""Days before the start at which somebody may be reminded."""

MOST_REMINDERS: Final = 10
"""Reminders of one event type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reminder:
    """Some time before a booking begins: `days` on the wall clock of who is reminded, then `hours` and `minutes`.

    A day before 9:00 is 9:00 of the day before, however long that night is; an hour is an hour. `to` is the
    `attendee`, or the `hosts`, each of them. Raises `InvalidInput`.
    """

    days: int = 0
    hours: int = 0
    minutes: int = 0
    to: To = "attendee"

    def __post_init__(self) -> None:
        """Check the values."""
        checks.whole("days", self.days, least=0, most=MOST_DAYS)
        checks.whole("hours", self.hours, least=0, most=MOST_DAYS * 24)
        checks.whole("minutes", self.minutes, least=0, most=MOST_DAYS * 24 * 60)
        checks.one_of("to", self.to, TO)
        if not (self.days or self.hours or self.minutes):
            raise InvalidInput(field="minutes", reason="or hours or days are required: how long before?")

    @property
    def before(self) -> str:
        """How long before, as ISO 8601 writes it: `P1D`, `PT1H30M`."""
        hours, minutes = self.hours + self.minutes // 60, self.minutes % 60
        time = (f"{hours}H" if hours else "") + (f"{minutes}M" if minutes else "")
        return "P" + (f"{self.days}D" if self.days else "") + (f"T{time}" if time else "")

    @property
    def seconds(self) -> int:
        """Of elapsed time, beside the days."""
        return (self.hours * 60 + self.minutes) * 60


DEFAULT: Final = (Reminder(days=1), Reminder(hours=1))
"""A day before, and an hour before, to the attendee."""


def reminders_of(field: str, value: object) -> tuple[Reminder, ...]:
    """Reminders as a tuple: some, and none twice."""
    found = checks.items(field, value, Reminder)
    if len(found) > MOST_REMINDERS:
        raise InvalidInput(field=field, reason=f"must be at most {MOST_REMINDERS}, not {len(found)}")
    for i, one in enumerate(found):
        if (one.before, one.to) in {(other.before, other.to) for other in found[:i]}:
            raise InvalidInput(field=f"{field}[{i}]", reason=f"{one.before} before, to the {one.to}, is there already")
    return found


class ReminderState(StrEnum):
    """What has become of a reminder so far."""

    WAITING = "waiting"
    LEASED = "leased"
    SENT = "sent"
    SUPERSEDED = "superseded"
    SKIPPED = "skipped"
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledReminder:
    """A reminder of one booking, `before` as in `Reminder`; `recipient` is `attendee`, or `host:` and the slug.

    It belongs to one `version` of the booking: the next one supersedes it, and writes its own. `reason` says why it was
    skipped, or with what the last attempt failed. Times are UTC.
    """

    id: str
    booking_id: str
    version: int
    recipient: str
    before: str
    due_at: datetime
    state: ReminderState
    attempts: int
    reason: str | None
