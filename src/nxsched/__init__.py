"""A scheduling engine to embed: slots of people, rooms and teams, right in every time zone."""

from importlib import import_module
from typing import TYPE_CHECKING

from nxsched.clock import Clock, SettableClock
from nxsched.domain.availability import BlockedPeriod, BookedTime, BusyTime, Slot
from nxsched.domain.bookings import Actor, Attendee, AuditEntry, Booking, BookingStatus, Hold, Page, Swept
from nxsched.domain.event_types import BookingWindow, EventType, HostGroup, Limit
from nxsched.domain.hosts import Host, Override, Travel, WeeklyHours
from nxsched.domain.messages import Message, MessageTemplate
from nxsched.domain.outbox import Backoff, OutboxEvent, OutboxState, OutboxStatus, Relayed
from nxsched.domain.policies import Policies
from nxsched.domain.preferences import MessagePreferences
from nxsched.domain.questions import Question
from nxsched.domain.refusals import Refusal
from nxsched.domain.reminders import Reminder, ReminderState, ScheduledReminder
from nxsched.domain.strategies import Strategy
from nxsched.domain.tenants import TenantDetails
from nxsched.domain.webhooks import Delivery, Webhook, WebhookAnswer
from nxsched.errors import (
    BlockedPeriodNotFound,
    BookingNotFound,
    EventNotFound,
    EventTypeNotFound,
    HoldExpired,
    HostNotFound,
    IdempotencyConflict,
    InvalidInput,
    InvalidToken,
    InvalidTransition,
    LockTimeout,
    MissingExtra,
    NxschedError,
    PolicyViolation,
    RateLimited,
    RetryLater,
    SchemaOutdated,
    SlotTaken,
    SlotUnavailable,
    StoreUnavailable,
    TemplateNotFound,
    TenantNotFound,
    TransactionConflict,
    Undeliverable,
    WebhookNotFound,
)
from nxsched.slots.answer import Slots

if TYPE_CHECKING:
    from nxsched.async_messages import AsyncMessages
    from nxsched.async_outbox import AsyncOutbox
    from nxsched.async_preferences import AsyncPreferences
    from nxsched.async_scheduler import AsyncScheduler
    from nxsched.async_self_service import AsyncAttendeeBookings, AsyncManagedBooking
    from nxsched.async_tenant import AsyncTenant
    from nxsched.async_webhooks import AsyncWebhooks
    from nxsched.messages import Messages
    from nxsched.outbox import Outbox
    from nxsched.preferences import Preferences
    from nxsched.ratelimit import RateLimit
    from nxsched.relay.async_relay import AsyncRelay
    from nxsched.relay.options import RelayReport
    from nxsched.relay.relay import Relay
    from nxsched.relay.webhooks import AsyncWebhookDelivery, WebhookDelivery
    from nxsched.scheduler import Scheduler
    from nxsched.schemas import event_schema
    from nxsched.self_service import AttendeeBookings, ManagedBooking
    from nxsched.service.ids import new_webhook_secret
    from nxsched.tenant import Tenant
    from nxsched.webhooks import Webhooks

__version__ = "0.1.0"

__all__ = [
    "Actor",
    "AsyncAttendeeBookings",
    "AsyncManagedBooking",
    "AsyncMessages",
    "AsyncOutbox",
    "AsyncPreferences",
    "AsyncRelay",
    "AsyncScheduler",
    "AsyncTenant",
    "AsyncWebhookDelivery",
    "AsyncWebhooks",
    "Attendee",
    "AttendeeBookings",
    "AuditEntry",
    "Backoff",
    "BlockedPeriod",
    "BlockedPeriodNotFound",
    "BookedTime",
    "Booking",
    "BookingNotFound",
    "BookingStatus",
    "BookingWindow",
    "BusyTime",
    "Clock",
    "Delivery",
    "EventNotFound",
    "EventType",
    "EventTypeNotFound",
    "Hold",
    "HoldExpired",
    "Host",
    "HostGroup",
    "HostNotFound",
    "IdempotencyConflict",
    "InvalidInput",
    "InvalidToken",
    "InvalidTransition",
    "Limit",
    "LockTimeout",
    "ManagedBooking",
    "Message",
    "MessagePreferences",
    "MessageTemplate",
    "Messages",
    "MissingExtra",
    "NxschedError",
    "Outbox",
    "OutboxEvent",
    "OutboxState",
    "OutboxStatus",
    "Override",
    "Page",
    "Policies",
    "PolicyViolation",
    "Preferences",
    "Question",
    "RateLimit",
    "RateLimited",
    "Refusal",
    "Relay",
    "RelayReport",
    "Relayed",
    "Reminder",
    "ReminderState",
    "RetryLater",
    "ScheduledReminder",
    "Scheduler",
    "SchemaOutdated",
    "SettableClock",
    "Slot",
    "SlotTaken",
    "SlotUnavailable",
    "Slots",
    "StoreUnavailable",
    "Strategy",
    "Swept",
    "TemplateNotFound",
    "Tenant",
    "TenantDetails",
    "TenantNotFound",
    "TransactionConflict",
    "Travel",
    "Undeliverable",
    "Webhook",
    "WebhookAnswer",
    "WebhookDelivery",
    "WebhookNotFound",
    "Webhooks",
    "WeeklyHours",
    "__version__",
    "event_schema",
    "new_webhook_secret",
]  # fmt: skip


_LATER = {
    "AsyncAttendeeBookings": "async_self_service",
    "AsyncManagedBooking": "async_self_service",
    "AsyncScheduler": "async_scheduler",
    "AsyncTenant": "async_tenant",
    "AsyncOutbox": "async_outbox",
    "AsyncRelay": "relay.async_relay",
    "AttendeeBookings": "self_service",
    "ManagedBooking": "self_service",
    "event_schema": "schemas",
    "AsyncWebhookDelivery": "relay.webhooks",
    "AsyncWebhooks": "async_webhooks",
    "AsyncMessages": "async_messages",
    "AsyncPreferences": "async_preferences",
    "Preferences": "preferences",
    "Messages": "messages",
    "Outbox": "outbox",
    "RateLimit": "ratelimit",
    "Relay": "relay.relay",
    "RelayReport": "relay.options",
    "Scheduler": "scheduler",
    "Tenant": "tenant",
    "WebhookDelivery": "relay.webhooks",
    "Webhooks": "webhooks",
    "new_webhook_secret": "service.ids",
}


def __getattr__(name: str) -> object:
    """Import the scheduler when it is asked for: who only computes slots need not wait for the database's packages."""
    if name in _LATER:
        return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
