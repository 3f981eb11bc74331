"""The errors nxsched raises: one root, a stable `code` each, their facts as fields."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:  # a refusal is data of a floor above; only its name is needed here
    from nxsched.domain.refusals import Refusal


class NxschedError(Exception):
    """The root of every error that nxsched raises on purpose."""

    code: ClassVar[str] = "nxsched_error"

    def __reduce__(self) -> tuple[object, ...]:
        """Let errors travel between processes with their facts, though these are keyword-only arguments."""
        return _again, (type(self), self.args, self.__dict__)


class InvalidInput(NxschedError, ValueError):
    """A value that was passed in cannot be used; nothing was computed or written.

    `field` is the place (`hosts.ada.weekly_hours[1].end`), `reason` says what is wrong with it and what is expected.
    """

    code: ClassVar[str] = "invalid_input"

    def __init__(self, *, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class MissingExtra(NxschedError, ImportError):
    """A part of nxsched was used whose packages are optional, and they are not installed."""

    code: ClassVar[str] = "missing_extra"

    def __init__(self, *, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra '{extra}': pip install 'nxsched[{extra}]'")
        self.extra = extra


class StoreUnavailable(NxschedError):
    """The database could not be reached, the connection broke, or it refuses what was asked: its message says which.

    Or Redis could not, and the scheduler is to refuse bookings then (`when_unavailable`).
    `may_have_happened` is true where it broke at COMMIT: the change may have been made, and only the database knows.
    """

    code: ClassVar[str] = "store_unavailable"

    def __init__(self, message: str, *, may_have_happened: bool = False) -> None:
        super().__init__(message)
        self.may_have_happened = may_have_happened


class SchemaOutdated(NxschedError):
    """The tables of the database are not those that this version of nxsched works with.

    `found` is the revision of the database, `None` where there are no tables; `wanted` is the one that is needed.
    """

    code: ClassVar[str] = "schema_outdated"

    def __init__(self, *, found: str | None, wanted: str) -> None:
        state = f"is at revision {found}" if found else "lacks tables of nxsched, or columns of them"
        advice = f"and {wanted} is needed: run `nxsched migrate` as the owner of its tables"
        if found and found > wanted:
            advice = f"which this version of nxsched, made for {wanted}, does not know: upgrade nxsched"
        super().__init__(f"the database {state}, {advice}")
        self.found = found
        self.wanted = wanted


class SlotUnavailable(NxschedError):
    """The slot cannot be had; nothing was written. `reasons` are what `explain` says of it.

    `start` is the start that was asked for, of a series the first that is refused; `refused` has the reasons of every
    start that is.
    """

    code: ClassVar[str] = "slot_unavailable"

    def __init__(self, message: str, *, start: datetime | None = None, reasons: Sequence[Refusal] = ()) -> None:
        super().__init__(message)
        self.start = start
        self.reasons: tuple[Refusal, ...] = tuple(reasons)
        self.refused: dict[datetime, Sequence[Refusal]] = {} if start is None else {start: self.reasons}


class SlotTaken(SlotUnavailable):
    """Somebody else has the slot: the event type would offer it, and its hosts are busy at that time.

    `host` is one of the hosts that is taken.
    """

    code: ClassVar[str] = "slot_taken"

    def __init__(self, *, start: datetime, host: str | None, reasons: Sequence[Refusal] = ()) -> None:
        super().__init__(
            f"{start.isoformat()} is taken already" + (f": {host} is busy" if host else ""),
            start=start,
            reasons=reasons,
        )
        self.host = host


class HoldExpired(NxschedError):
    """The hold ended before it was confirmed. `expired_at` is when."""

    code: ClassVar[str] = "hold_expired"

    def __init__(self, *, id: str, expired_at: datetime) -> None:  # noqa: A002 - its name everywhere
        super().__init__(
            f"the hold {id} expired at {expired_at.isoformat()}; if_free=True confirms it where its time is still free"
        )
        self.id = id
        self.expired_at = expired_at


class BookingNotFound(NxschedError, LookupError):
    """There is no such hold or booking, or it is another tenant's."""

    code: ClassVar[str] = "booking_not_found"

    def __init__(self, *, id: str) -> None:  # noqa: A002 - its name everywhere
        super().__init__(f"there is no booking {id}")
        self.id = id


class HostNotFound(NxschedError, LookupError):
    """There is no host of that slug, or it is another tenant's."""

    code: ClassVar[str] = "host_not_found"

    def __init__(self, *, slug: str) -> None:
        super().__init__(f"there is no host {slug!r}")
        self.slug = slug


class EventTypeNotFound(NxschedError, LookupError):
    """There is no event type of that slug, or it is another tenant's."""

    code: ClassVar[str] = "event_type_not_found"

    def __init__(self, *, slug: str) -> None:
        super().__init__(f"there is no event type {slug!r}")
        self.slug = slug


class BlockedPeriodNotFound(NxschedError, LookupError):
    """There is no such blocked period, or it is another tenant's."""

    code: ClassVar[str] = "blocked_period_not_found"

    def __init__(self, *, id: str) -> None:  # noqa: A002 - its name everywhere
        super().__init__(f"there is no blocked period {id}")
        self.id = id


class WebhookNotFound(NxschedError, LookupError):
    """There is no such endpoint, or it is another tenant's."""

    code: ClassVar[str] = "webhook_not_found"

    def __init__(self, *, id: str) -> None:  # noqa: A002 - its name everywhere
        super().__init__(f"there is no webhook {id}")
        self.id = id


class TemplateNotFound(NxschedError, LookupError):
    """The tenant has saved no such template. `name` has its kind, channel, language and reader."""

    code: ClassVar[str] = "template_not_found"

    def __init__(self, *, name: str) -> None:
        super().__init__(f"there is no template {name}")
        self.name = name


class TenantNotFound(NxschedError, LookupError):
    """There is no tenant of that id."""

    code: ClassVar[str] = "tenant_not_found"

    def __init__(self, *, id: str) -> None:  # noqa: A002 - its name everywhere
        super().__init__(f"there is no tenant {id!r}; create_tenant makes one")
        self.id = id


class InvalidToken(NxschedError):
    """The token is not one of ours, not of this tenant, over, or its booking was called off: nobody is told which."""

    code: ClassVar[str] = "invalid_token"

    def __init__(self) -> None:
        super().__init__("the link is not valid, or not any more")


class InvalidTransition(NxschedError):
    """A booking in this state cannot go into the other: `from_status` and `to_status`."""

    code: ClassVar[str] = "invalid_transition"

    def __init__(self, *, id: str, from_status: str, to_status: str) -> None:  # noqa: A002 - its name everywhere
        words = f"is {from_status} and cannot be {to_status.replace('no_show', 'marked as no-show')}"
        if from_status == to_status:
            words = f"is {from_status} already, with other details"
        if from_status == "held":
            words += ": it is a hold, which confirm_hold makes a booking, and release_hold gives back"
        super().__init__(f"the booking {id} {words}")
        self.id = id
        self.from_status = from_status
        self.to_status = to_status


class PolicyViolation(NxschedError):
    """A policy of the event type forbids it. `policy` is its name in `Policies`, `until` when it was still allowed.

    Two are bounds that bind everybody, where too many holds stand already: `open_holds`, of the tenant, and
    `attendee_holds`, of the attendee.
    """

    code: ClassVar[str] = "policy_violation"

    def __init__(self, message: str, *, policy: str, until: datetime | None = None) -> None:
        super().__init__(message)
        self.policy = policy
        self.until = until


class IdempotencyConflict(NxschedError):
    """The key was used before, for another action or with other arguments."""

    code: ClassVar[str] = "idempotency_conflict"

    def __init__(self, *, key: str) -> None:
        super().__init__(f"the idempotency key {key!r} belongs to another request; a new request takes a new key")
        self.key = key


class RateLimited(NxschedError):
    """Too many attempts in too short a time; nothing was looked at. There is room again after `retry_after`.

    `act` is what was attempted (`book`, `hold`, `reschedule`, `cancel`, `slots`), `rate` the limit that is reached, and
    `by` whose attempts it counts (`address`, `attendee`, `actor`, `tenant`).
    """

    code: ClassVar[str] = "rate_limited"

    def __init__(self, *, retry_after: timedelta, act: str, rate: str, by: str) -> None:
        whose = "in this tenant" if by == "tenant" else f"by this {by}"
        seconds = f"{retry_after.total_seconds():,.0f} s" if retry_after >= timedelta(seconds=1) else "a moment"
        super().__init__(f"too many attempts {whose} ({rate}), the last one: {act}. Try again in {seconds}")
        self.retry_after = retry_after
        self.act = act
        self.rate = rate
        self.by = by


class LockTimeout(NxschedError):
    """Somebody else works on the same hosts, and did not finish in time; nothing was written. Try again."""

    code: ClassVar[str] = "lock_timeout"


class TransactionConflict(NxschedError):
    """The transaction met another one and cannot go on (serialization failure or deadlock).

    Under `within=`, roll the whole transaction back and run it again; else it was tried several times already.
    """

    code: ClassVar[str] = "transaction_conflict"


class EventNotFound(NxschedError, LookupError):
    """There is no such event in the outbox, or delivery of one, or it was delivered and tidied away."""

    code: ClassVar[str] = "event_not_found"

    def __init__(self, *, id: str, noun: str = "event") -> None:  # noqa: A002 - its name everywhere
        super().__init__(f"there is no {noun} {id} in the outbox: what was delivered is deleted after a while")
        self.id = id


class RetryLater(Exception):
    """For the application's `deliver` to raise: the receiver wants to be asked again, and not before `after`.

    `after` is a timedelta, or seconds, as in the header `Retry-After`; a relay waits for no longer than its `Backoff`'s
    `longest`.
    """

    def __init__(self, reason: str, *, after: timedelta | float | None = None) -> None:
        super().__init__(reason)
        self.after: timedelta | None = timedelta(seconds=after) if isinstance(after, int | float) else after


class Undeliverable(Exception):
    """For the application's `deliver` to raise: the event will never be taken, so it is dead at once."""


def _again(kind: type[NxschedError], args: tuple[object, ...], facts: dict[str, object]) -> NxschedError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(facts)
    return error
