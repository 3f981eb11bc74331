"""What can be asked of a tenant, as data that checks itself before anything is read or written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from nxsched.domain import checks
from nxsched.domain.availability import BlockedPeriod, busy_seconds
from nxsched.domain.bookings import Attendee, BookingStatus, Person
from nxsched.domain.bounds import MAX_CAPACITY, MAX_HOLD_MINUTES, MAX_JSON, MAX_PERIODS, MAX_SERIES, MAX_TEXT
from nxsched.domain.event_types import EventType
from nxsched.domain.events import KINDS, REMINDER
from nxsched.domain.hosts import Host
from nxsched.domain.instants import epoch_ceil, epoch_exact, epoch_floor, instant, microseconds
from nxsched.domain.messages import AUDIENCES, CHANNELS, MessageTemplate, locale_name
from nxsched.domain.preferences import MessagePreferences, whose
from nxsched.domain.tenants import TenantDetails
from nxsched.domain.webhooks import Webhook
from nxsched.errors import BookingNotFound, InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slots:
    """Slots of an event type: what holds, bookings and series have in common."""

    event_type: str
    host: str | None
    duration: timedelta | None
    seats: int

    def __post_init__(self) -> None:
        """Check the values."""
        checks.text("event_type", self.event_type)
        if self.host is not None:
            checks.text("host", self.host)
        if self.duration is not None:
            checks.duration("duration", self.duration, least=1)
        checks.whole("seats", self.seats, least=1, most=MAX_CAPACITY)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Start(_Slots):
    """One slot."""

    start: datetime

    def __post_init__(self) -> None:
        """Check the values."""
        _Slots.__post_init__(self)
        object.__setattr__(self, "start", _whole("start", self.start))


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceHold(_Start):
    """Hold a slot for a while."""

    ttl: timedelta
    attendee: Attendee | None

    def __post_init__(self) -> None:
        """Check the values."""
        _Start.__post_init__(self)
        if not isinstance(self.ttl, timedelta):
            raise InvalidInput(field="ttl", reason=f"must be a timedelta, not {checks.shown(self.ttl)}")
        if not 1 <= self.ttl.total_seconds() <= MAX_HOLD_MINUTES * 60:
            reason = f"must lie between a second and {MAX_HOLD_MINUTES} minutes, not {self.ttl}"
            raise InvalidInput(field="ttl", reason=reason)
        if self.attendee is not None:
            checks.kind("attendee", self.attendee, Attendee)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Details:
    """What an attendee says with a booking."""

    attendee: Attendee
    answers: Mapping[str, Any]
    metadata: Mapping[str, Any]
    reference: str | None

    def __post_init__(self) -> None:
        """Check the values; the answers are looked at beside their questions."""
        checks.kind("attendee", self.attendee, Attendee)
        checks.kind("answers", self.answers, Mapping)
        object.__setattr__(self, "metadata", checks.json_object("metadata", self.metadata, most=MAX_JSON))
        if self.reference is not None:
            checks.text("reference", self.reference)


@dataclass(frozen=True, slots=True, kw_only=True)
class Book(_Start):
    """Book a slot."""

    details: _Details
    force: bool

    def __post_init__(self) -> None:
        """Check the values."""
        _Start.__post_init__(self)
        checks.flag("force", self.force)


@dataclass(frozen=True, slots=True, kw_only=True)
class BookSeries(_Slots):
    """Book several slots at once."""

    starts: Sequence[datetime]
    details: _Details
    force: bool

    def __post_init__(self) -> None:
        """Check the values, and keep the starts as a tuple."""
        _Slots.__post_init__(self)
        checks.flag("force", self.force)
        starts = checks.items("starts", self.starts, datetime)
        if not 1 <= len(starts) <= MAX_SERIES:
            raise InvalidInput(field="starts", reason=f"must be 1 to {MAX_SERIES}, not {len(starts)}")
        found = tuple(_whole(f"starts[{i}]", start) for i, start in enumerate(starts))
        seen: dict[datetime, int] = {}
        for i, start in enumerate(found):
            first = seen.setdefault(start, i)
            if first != i:
                raise InvalidInput(field=f"starts[{i}]", reason=f"is the same as starts[{first}]")
        object.__setattr__(self, "starts", found)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmHold:
    """Make a booking of a hold."""

    id: str
    details: _Details
    if_free: bool

    def __post_init__(self) -> None:
        """Check the values."""
        object.__setattr__(self, "id", booking_id("hold_id", self.id))
        checks.flag("if_free", self.if_free)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseHold:
    """Give a hold back."""

    id: str

    def __post_init__(self) -> None:
        """Check the value."""
        object.__setattr__(self, "id", booking_id("hold_id", self.id))


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Give a booking the state `as_`: cancelled, declined, approved, completed, or that nobody came."""

    id: str
    as_: BookingStatus
    reason: str | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        object.__setattr__(self, "id", booking_id("booking_id", self.id))
        _reason(self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelSeries:
    """Cancel what is to come of a series."""

    id: str
    reason: str | None

    def __post_init__(self) -> None:
        """Check the values."""
        object.__setattr__(self, "id", booking_id("series_id", self.id, of="series"))
        _reason(self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reassign:
    """Give a booking's occurrence to another host."""

    id: str
    host: str
    instead_of: str | None
    reason: str | None

    def __post_init__(self) -> None:
        """Check the values."""
        object.__setattr__(self, "id", booking_id("booking_id", self.id))
        checks.text("host", self.host)
        if self.instead_of is not None:
            checks.text("instead_of", self.instead_of)
        _reason(self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeToken:
    """Make a link to a booking that is good until `expires`."""

    id: str
    expires: datetime

    def __post_init__(self) -> None:
        """Check the values."""
        object.__setattr__(self, "id", booking_id("booking_id", self.id))
        epoch_exact("expires", self.expires)


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeUnsubscribeToken(MakeToken):
    """Make a link that ends the reminders of `to`, a recipient of what is written about the booking."""

    to: str

    def __post_init__(self) -> None:
        """Check the values."""
        MakeToken.__post_init__(self)
        checks.kind("to", self.to, str)


@dataclass(frozen=True, slots=True, kw_only=True)
class EraseAttendee:
    """Take a person out of everything that is stored."""

    person: Person


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """Change what can be changed of a booking that stands; what is `None` stays."""

    id: str
    location: str | None
    metadata: Mapping[str, Any] | None

    def __post_init__(self) -> None:
        """Check the values."""
        object.__setattr__(self, "id", booking_id("booking_id", self.id))
        if self.location is not None:
            checks.text("location", self.location, empty=True)
        if self.metadata is not None:
            object.__setattr__(self, "metadata", checks.json_object("metadata", self.metadata, most=MAX_JSON))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reschedule:
    """Move a booking to another start."""

    id: str
    start: datetime
    duration: timedelta | None
    host: str | None
    reason: str | None
    force: bool

    def __post_init__(self) -> None:
        """Check the values."""
        object.__setattr__(self, "id", booking_id("booking_id", self.id))
        object.__setattr__(self, "start", _whole("start", self.start))
        if self.duration is not None:
            checks.duration("duration", self.duration, least=1)
        if self.host is not None:
            checks.text("host", self.host)
        _reason(self.reason)
        checks.flag("force", self.force)


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveTenant:
    """Make a tenant, or change one that is there."""

    tenant: TenantDetails
    new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveHost:
    """Insert a host, or put it in the place of the one with its slug."""

    host: Host

    def __post_init__(self) -> None:
        """Check the value."""
        checks.kind("host", self.host, Host)


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveEventType:
    """Insert an event type, or put it in the place of the one with its slug."""

    event_type: EventType

    def __post_init__(self) -> None:
        """Check the value: what is stored needs a name to be found by."""
        checks.kind("event_type", self.event_type, EventType)
        checks.text("event_type.slug", self.event_type.slug)


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """Take no new bookings for a host or an event type."""

    kind: str
    slug: str

    def __post_init__(self) -> None:
        """Check the value."""
        checks.text("slug", self.slug)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Block time of a host, or of the whole tenant."""

    host: str | None
    period: BlockedPeriod

    def __post_init__(self) -> None:
        """Check the values."""
        if self.host is not None:
            checks.text("host", self.host)
        checks.kind("period", self.period, BlockedPeriod)
        if self.period.id is not None:
            object.__setattr__(self, "period", replace(self.period, id=_uuid("period.id", self.period.id)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Unblock:
    """Take a blocked period away."""

    id: str

    def __post_init__(self) -> None:
        """Check the value."""
        object.__setattr__(self, "id", _uuid("id", self.id))


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveWebhook:
    """Make an endpoint, or change one."""

    webhook: Webhook

    def __post_init__(self) -> None:
        """Check the value."""
        checks.kind("webhook", self.webhook, Webhook)
        if self.webhook.id is not None:
            object.__setattr__(self, "webhook", replace(self.webhook, id=_uuid("webhook.id", self.webhook.id)))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteWebhook:
    """Delete an endpoint."""

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeDelivery:
    """Have something posted again, or give it up."""

    id: str
    to: Literal["retry", "discard"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateName:
    """Which template: of one kind, channel, language and reader there is one."""

    kind: str
    channel: str
    locale: str
    to: str

    def __post_init__(self) -> None:
        """Check the values."""
        checks.one_of("kind", self.kind, (*KINDS, REMINDER))
        checks.one_of("channel", self.channel, CHANNELS)
        locale_name("locale", self.locale)
        checks.one_of("to", self.to, AUDIENCES)

    def __str__(self) -> str:
        """Return it in words: `booking.confirmed email en attendee`."""
        return f"{self.kind} {self.channel} {self.locale} {self.to}"

    @classmethod
    def read(cls, name: str) -> TemplateName:
        """What such words name."""
        kind, channel, locale, to = name.split()
        return cls(kind=kind, channel=channel, locale=locale, to=to)


@dataclass(frozen=True, slots=True, kw_only=True)
class SavePreferences:
    """Save what somebody has said of messages."""

    who: str
    preferences: MessagePreferences

    def __post_init__(self) -> None:
        """Check the values."""
        object.__setattr__(self, "who", whose("who", self.who))
        checks.kind("preferences", self.preferences, MessagePreferences)


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveTemplate:
    """Save a template, which was checked."""

    template: MessageTemplate

    @property
    def name(self) -> TemplateName:
        """Which one it is."""
        of = self.template
        return TemplateName(kind=of.kind, channel=of.channel, locale=of.locale, to=of.to)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteTemplate:
    """Delete a template."""

    name: TemplateName


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaceBusy:
    """Say all that a source knows of a host's busy time in a range."""

    host: str
    source: str
    start: datetime
    end: datetime
    periods: Sequence[tuple[datetime, datetime]]
    seconds: Sequence[tuple[int, int]] = field(init=False)

    def __post_init__(self) -> None:
        """Check the values; `seconds` are the periods that are not empty, in whole seconds since the epoch."""
        checks.text("host", self.host)
        checks.text("source", self.source)
        if microseconds("end", self.end) <= microseconds("start", self.start):
            raise InvalidInput(field="end", reason="must be after start")
        given = checks.items("periods", self.periods, object)
        if len(given) > MAX_PERIODS:
            raise InvalidInput(field="periods", reason=f"must be at most {MAX_PERIODS}, not {len(given)}")
        first, last = epoch_floor("start", self.start), epoch_ceil("end", self.end)
        found = [busy_seconds(f"periods[{i}]", pair) for i, pair in enumerate(given)]
        for i, (a, b) in enumerate(found):
            if a < b and not (a < last and first < b):
                reason = "lies outside the range from start to end, in which it would take the place of others"
                raise InvalidInput(field=f"periods[{i}]", reason=reason)
        object.__setattr__(self, "periods", given)
        object.__setattr__(self, "seconds", tuple((a, b) for a, b in found if a < b))


def details(
    attendee: Attendee, answers: Mapping[str, Any] | None, metadata: Mapping[str, Any] | None, reference: str | None
) -> _Details:
    """What an attendee says with a booking, checked."""
    return _Details(
        attendee=attendee,
        answers={} if answers is None else answers,
        metadata={} if metadata is None else metadata,
        reference=reference,
    )


def _whole(field: str, start: datetime) -> datetime:
    """A start in UTC, in which times can be compared and added to: in a zone of theirs that is done by the wall."""
    return instant(epoch_exact(field, start))


def booking_id(place: str, value: object, of: str = "booking") -> str:
    """The id of a hold, booking or series, as text. What cannot be one, names none: `BookingNotFound`."""
    if not isinstance(value, str | UUID):
        raise InvalidInput(field=place, reason=f"must be the id of a {of}, not {checks.shown(value)}")
    try:
        return str(UUID(str(value)))
    except ValueError as error:
        raise BookingNotFound(id=checks.printable(str(value)[:MAX_TEXT])) from error


def _reason(value: str | None) -> None:
    if value is not None:
        checks.text("reason", value)


def _uuid(place: str, value: object) -> str:
    try:
        return str(UUID(str(value)))
    except (ValueError, RecursionError) as error:
        raise InvalidInput(field=place, reason=f"must be a UUID, not {checks.shown(value)}") from error


def fingerprint(command: object) -> str:
    """A digest of an action and its arguments: equal commands have equal ones, others have others."""
    # An answer that JSON cannot hold is refused beside its question; until then it is told by what it says of itself.
    # Only answers are not checked yet, so nothing else can be at fault.
    try:
        written = json.dumps([type(command).__name__, _plain(command)], sort_keys=True, default=repr)
    except RecursionError as error:
        raise InvalidInput(field="answers", reason="are nested too deeply") from error
    except ValueError as error:  # a number of more digits than Python writes
        reason = f"cannot be written: {checks.printable(str(error)[:80])}"
        raise InvalidInput(field="answers", reason=reason) from error
    return hashlib.sha256(written.encode()).hexdigest()


def _plain(value: object) -> object:
    if is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value) if one.compare}
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return _moment(value)


def _moment(value: object) -> object:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return microseconds("instant", value)
    if isinstance(value, date):
        return value.isoformat()
    return value.total_seconds() if isinstance(value, timedelta) else value
