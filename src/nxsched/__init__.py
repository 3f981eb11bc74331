"""A scheduling engine to embed: slots of people, rooms and teams, right in every time zone."""

from nxsched.domain.availability import BlockedPeriod, BookedTime, Slot
from nxsched.domain.event_types import BookingWindow, EventType, HostGroup, Limit
from nxsched.domain.hosts import Host, Override, Travel, WeeklyHours
from nxsched.domain.refusals import Refusal
from nxsched.errors import InvalidInput, MissingExtra, NxschedError
from nxsched.slots.answer import Slots

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
    "Slot",
    "Slots",
    "Travel",
    "WeeklyHours",
    "__version__",
]
