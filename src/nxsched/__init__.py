"""A scheduling engine to embed: slots of people, rooms and teams, right in every time zone."""

from typing import TYPE_CHECKING

from nxsched.domain.availability import BlockedPeriod, BookedTime, Slot
from nxsched.domain.event_types import BookingWindow, EventType, HostGroup, Limit
from nxsched.domain.hosts import Host, Override, Travel, WeeklyHours
from nxsched.domain.refusals import Refusal
from nxsched.errors import InvalidInput, MissingExtra, NxschedError, SchemaOutdated, StoreUnavailable
from nxsched.slots.answer import Slots

if TYPE_CHECKING:
    from nxsched.scheduler import Scheduler

__version__ = "0.1.0"

__all__ = [
    "BlockedPeriod",
    "BookedTime",
    "BookingWindow",
    "EventType",
    "Host",
    "HostGroup",
    "InvalidInput",
    "Limit",
    "MissingExtra",
    "NxschedError",
    "Override",
    "Refusal",
    "Scheduler",
    "SchemaOutdated",
    "Slot",
    "Slots",
    "StoreUnavailable",
    "Travel",
    "WeeklyHours",
    "__version__",
]


def __getattr__(name: str) -> object:
    """Import the scheduler when it is asked for: who only computes slots need not wait for the database's packages."""
    if name == "Scheduler":
        from nxsched.scheduler import Scheduler  # noqa: PLC0415 - see above

        return Scheduler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
