"""Ways to the errors of the contract: who wants one raised finds here what really raises it, and what it must say."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import text

from nxsched import (
    Actor,
    BlockedPeriodNotFound,
    BookingNotFound,
    EventNotFound,
    EventType,
    EventTypeNotFound,
    HoldExpired,
    Host,
    HostNotFound,
    IdempotencyConflict,
    InvalidInput,
    InvalidToken,
    InvalidTransition,
    NxschedError,
    Policies,
    PolicyViolation,
    Refusal,
    Scheduler,
    SettableClock,
    SlotTaken,
    SlotUnavailable,
    TemplateNotFound,
    Tenant,
    TenantNotFound,
    WebhookNotFound,
)
from store.booked import ALAN, GRACE
from store.bridged import FACES, opened, transaction
from store.conftest import DAY, HALF, HOUR, NINE, Database, furnish

UNKNOWN = "018f0c4a-6d1e-7a3b-9c55-0123456789ab"
OWN_TRANSACTIONS = FACES[:2]
"""The faces whose transactions are nxsched's own."""


@dataclass(frozen=True)
class World:
    """A tenant as all tests have it, through one face; what is opened with `more` is closed in the end."""

    face: str
    db: Database
    clock: SettableClock
    scheduler: Scheduler
    acme: Tenant
    _more: ExitStack

    def scheduler_with(self, db: Database | None = None, **options: Any) -> Scheduler:
        """Another scheduler of the same face."""
        return self._more.enter_context(opened(self.face, db or self.db, self.clock, **options))

    def holding(self, statement: str) -> None:
        """Run a statement in a transaction that goes on until the end of the test."""
        self._more.enter_context(self.db.superuser.connect()).execute(text(statement))

    def within(self, isolation: str) -> Any:  # noqa: ANN401 - a connection of either kind
        """A transaction of the application's."""
        return self._more.enter_context(transaction(self.scheduler, self.db, isolation))

    def alter(self, statement: str) -> None:
        """Change the database as its superuser does."""
        with self.db.superuser.begin() as connection:
            connection.execute(text(statement))


class Told(NamedTuple):
    """What raises an error, and all that it must say: its words whole, as a pattern where the driver has a part."""

    call: Callable[[], object]
    words: str | re.Pattern[str]
    fields: Mapping[str, object]


class Scene(NamedTuple):
    """An error, how it comes about, and on which faces it can."""

    kind: type[NxschedError]
    told: Callable[[World], Told]
    faces: Sequence[str]


SCENES: dict[str, Scene] = {}


def scene(kind: type[NxschedError], faces: Sequence[str] = FACES) -> Callable[[Callable[[World], Told]], object]:
    """Enter a way to an error into the table."""

    def enter(told: Callable[[World], Told]) -> None:
        SCENES[f"{kind.__name__}: {told.__name__.replace('_', ' ')}"] = Scene(kind, told, faces)

    return enter


# --- what is asked ---------------------------------------------------------------------------------------------------


@scene(InvalidInput)
def a_value_that_says_what_is_wrong_with_it(world: World) -> Told:
    reason = "must have a time zone; 2026-03-02T09:00:00 is naive"
    call = partial(world.acme.book, "visit", start=NINE.replace(tzinfo=None), attendee=GRACE)
    return Told(call, f"start: {reason}", {"field": "start", "reason": reason})


@scene(InvalidInput)
def a_value_that_only_the_database_can_judge(world: World) -> Told:
    call = partial(world.acme.save_event_type, EventType(slug="visit", duration=HALF, hosts=["ada", "eve"]))
    field, reason = "event_type.hosts[0].members[1]", 'there is no host "eve"'
    return Told(call, f"{field}: {reason}", {"field": field, "reason": reason})


@scene(IdempotencyConflict)
def a_key_of_another_request(world: World) -> Told:
    world.acme.book("visit", start=NINE, attendee=GRACE, idempotency_key="k-1")
    call = partial(world.acme.book, "visit", start=NINE + HOUR, attendee=GRACE, idempotency_key="k-1")
    words = "the idempotency key 'k-1' belongs to another request; a new request takes a new key"
    return Told(call, words, {"key": "k-1"})


@scene(BookingNotFound)
def an_id_that_no_booking_has(world: World) -> Told:
    return Told(partial(world.acme.cancel, UNKNOWN), f"there is no booking {UNKNOWN}", {"id": UNKNOWN})


@scene(EventNotFound, OWN_TRANSACTIONS)
def an_id_that_no_event_has(world: World) -> Told:
    words = f"there is no event {UNKNOWN} in the outbox: what was delivered is deleted after a while"
    return Told(partial(world.scheduler.outbox.event, UNKNOWN), words, {"id": UNKNOWN})


@scene(TemplateNotFound)
def a_template_that_nobody_has_saved(world: World) -> Told:
    name = "booking.confirmed sms de-AT host"
    call = partial(
        world.acme.messages.delete_template, kind="booking.confirmed", channel="sms", locale="de-AT", to="host"
    )
    return Told(call, f"there is no template {name}", {"name": name})


@scene(WebhookNotFound)
def an_id_that_no_endpoint_has(world: World) -> Told:
    return Told(partial(world.acme.webhooks.get, UNKNOWN), f"there is no webhook {UNKNOWN}", {"id": UNKNOWN})


@scene(BookingNotFound)
def a_booking_of_another_tenant(world: World) -> Told:
    zeta = world.scheduler.create_tenant("zeta", name="Zeta")
    furnish(zeta)
    theirs = zeta.book("visit", start=NINE, attendee=GRACE).id
    return Told(partial(world.acme.booking, theirs), f"there is no booking {theirs}", {"id": theirs})


@scene(HostNotFound)
def a_slug_that_no_host_has(world: World) -> Told:
    return Told(partial(world.acme.archive_host, "eve"), "there is no host 'eve'", {"slug": "eve"})


@scene(HostNotFound)
def a_host_of_another_tenant(world: World) -> Told:
    zeta = world.scheduler.create_tenant("zeta", name="Zeta")
    zeta.save_host(Host(slug="eve", timezone="UTC"))
    return Told(partial(world.acme.blocked_periods, "eve"), "there is no host 'eve'", {"slug": "eve"})


@scene(EventTypeNotFound)
def a_slug_that_no_event_type_has(world: World) -> Told:
    call = partial(world.acme.find_slots, "dance", start=NINE, end=NINE + DAY)
    return Told(call, "there is no event type 'dance'", {"slug": "dance"})


@scene(EventTypeNotFound)
def an_event_type_that_was_archived(world: World) -> Told:
    world.acme.archive_event_type("visit")
    call = partial(world.acme.book, "visit", start=NINE, attendee=GRACE)
    return Told(call, "there is no event type 'visit'", {"slug": "visit"})


@scene(BlockedPeriodNotFound)
def an_id_that_no_blocked_period_has(world: World) -> Told:
    return Told(partial(world.acme.unblock, UNKNOWN), f"there is no blocked period {UNKNOWN}", {"id": UNKNOWN})


@scene(TenantNotFound)
def an_id_that_no_tenant_has(world: World) -> Told:
    words = "there is no tenant 'eve'; create_tenant makes one"
    return Told(partial(world.scheduler.tenant, "eve"), words, {"id": "eve"})


@scene(TenantNotFound)
def a_tenant_that_is_gone_since(world: World) -> Told:
    gone = world.scheduler.create_tenant("gone", name="Gone")
    world.alter("DELETE FROM nxsched.tenant WHERE tenant_id = 'gone'")
    words = "there is no tenant 'gone'; create_tenant makes one"
    return Told(partial(gone.save_host, Host(slug="ada", timezone="UTC")), words, {"id": "gone"})


@scene(InvalidToken)
def a_token_that_was_tampered_with(world: World) -> Told:
    id_ = world.acme.book("visit", start=NINE, attendee=GRACE).id
    token = world.acme.manage_token(id_, expires=NINE)
    other = token[:-2] + ("AA" if token[-2:] != "AA" else "BA")
    return Told(world.acme.with_token(other).booking, "the link is not valid, or not any more", {})


@scene(InvalidToken)
def a_link_whose_booking_was_called_off(world: World) -> Told:
    id_ = world.acme.book("visit", start=NINE, attendee=GRACE).id
    managed = world.acme.with_token(world.acme.manage_token(id_, expires=NINE))
    world.acme.cancel(id_)
    return Told(partial(managed.reschedule, start=NINE + HOUR), "the link is not valid, or not any more", {})


# --- slots -----------------------------------------------------------------------------------------------------------

SUNDAY = NINE + 6 * DAY
NOBODY = Refusal(code="not_enough_hosts", group=0, need=1, able=0)
CLOSED = (Refusal(code="off_grid"), NOBODY, Refusal(code="outside_hours", host="ada"))


def busy(booking_id: str | None) -> Refusal:
    """Ada has a booking at nine."""
    return Refusal(code="busy", host="ada", start=NINE, end=NINE + HALF, id=booking_id)


@scene(SlotUnavailable)
def a_start_that_rules_refuse(world: World) -> Told:
    words = (
        "2026-03-08T09:00:00+00:00 cannot be booked. The start is not on the grid of the event type."
        " ada does not work through the whole of that time."
    )
    call = partial(world.acme.place_hold, "visit", start=SUNDAY)
    return Told(call, words, {"start": SUNDAY, "reasons": CLOSED, "refused": {SUNDAY: CLOSED}})


@scene(SlotUnavailable)
def several_starts_of_a_series(world: World) -> Told:
    world.acme.book("visit", start=NINE + 7 * DAY, attendee=ALAN)
    starts = [NINE, SUNDAY, NINE + 7 * DAY]
    taken = replace(busy(None), start=NINE + 7 * DAY, end=NINE + 7 * DAY + HALF)
    fields = {"start": SUNDAY, "reasons": CLOSED, "refused": {SUNDAY: CLOSED, NINE + 7 * DAY: (NOBODY, taken)}}
    words = re.compile(r"2026-03-08T09:00:00\+00:00 cannot be booked\. .+")
    return Told(partial(world.acme.book_series, "visit", starts=starts, attendee=GRACE), words, fields)


@scene(SlotUnavailable)
def a_move_where_the_event_type_was_archived(world: World) -> Told:
    id_ = world.acme.book("visit", start=NINE, attendee=GRACE).id
    world.acme.archive_event_type("visit")
    words = "the booking cannot be moved: its event type 'visit' is archived; saving it brings it back"
    call = partial(world.acme.reschedule, id_, start=NINE + HOUR)
    return Told(call, words, {"start": NINE + HOUR, "reasons": (), "refused": {NINE + HOUR: ()}})


@scene(SlotUnavailable)
def an_expired_hold_whose_event_type_was_archived(world: World) -> Told:
    id_ = world.acme.place_hold("visit", start=NINE, ttl=HALF).id
    world.clock.move(HALF)
    world.acme.archive_event_type("visit")
    words = "the hold cannot be had again: there is no event type 'visit'"
    call = partial(world.acme.confirm_hold, id_, attendee=GRACE, if_free=True)
    return Told(call, words, {"start": NINE, "reasons": (), "refused": {NINE: ()}})


@scene(SlotTaken)
def a_slot_that_somebody_has(world: World) -> Told:
    id_ = world.acme.book("visit", start=NINE, attendee=ALAN).id
    reasons = (NOBODY, busy(id_))
    fields = {"start": NINE, "reasons": reasons, "refused": {NINE: reasons}, "host": "ada"}
    words = "2026-03-02T09:00:00+00:00 is taken already: ada is busy"
    return Told(partial(world.acme.book, "visit", start=NINE, attendee=GRACE), words, fields)


@scene(SlotTaken)
def a_slot_that_somebody_has_and_that_staff_would_force(world: World) -> Told:
    id_ = world.acme.book("visit", start=NINE, attendee=ALAN).id
    fields = {"start": NINE, "reasons": (busy(id_),), "refused": {NINE: (busy(id_),)}, "host": "ada"}
    words = "2026-03-02T09:00:00+00:00 is taken already: ada is busy"
    return Told(partial(world.acme.book, "visit", start=NINE, attendee=GRACE, force=True), words, fields)


@scene(SlotTaken)
def a_class_without_a_seat(world: World) -> Told:
    world.acme.save_event_type(EventType(slug="class", duration=HALF, hosts=["ada"], capacity=2))
    id_ = world.acme.book("class", start=NINE, seats=2, attendee=ALAN).id
    reasons = (Refusal(code="full", start=NINE, end=NINE + HALF, id=id_), NOBODY, busy(id_))
    fields = {"start": NINE, "reasons": reasons, "refused": {NINE: reasons}, "host": "ada"}
    words = "2026-03-02T09:00:00+00:00 is taken already: ada is busy"
    return Told(partial(world.acme.book, "class", start=NINE, attendee=GRACE), words, fields)


@scene(SlotTaken)
def the_first_refused_start_of_a_series(world: World) -> Told:
    world.acme.book("visit", start=NINE, attendee=ALAN)
    reasons = (NOBODY, busy(None))
    refused = {NINE: reasons, SUNDAY: CLOSED}
    fields = {"start": NINE, "reasons": reasons, "refused": refused, "host": "ada"}
    words = "2026-03-02T09:00:00+00:00 is taken already: ada is busy"
    call = partial(world.acme.book_series, "visit", starts=[SUNDAY, NINE, NINE + DAY], attendee=GRACE)
    return Told(call, words, fields)


# --- what stands -----------------------------------------------------------------------------------------------------


@scene(HoldExpired)
def a_hold_that_is_confirmed_too_late(world: World) -> Told:
    hold = world.acme.place_hold("visit", start=NINE, ttl=HALF)
    world.clock.move(HALF)
    words = (
        f"the hold {hold.id} expired at 2026-03-02T08:30:00+00:00;"
        " if_free=True confirms it where its time is still free"
    )
    call = partial(world.acme.confirm_hold, hold.id, attendee=GRACE)
    return Told(call, words, {"id": hold.id, "expired_at": hold.expires_at})


@scene(InvalidTransition)
def a_state_that_does_not_lead_there(world: World) -> Told:
    id_ = world.acme.cancel(world.acme.book("visit", start=NINE, attendee=GRACE).id).id
    fields = {"id": id_, "from_status": "cancelled", "to_status": "completed"}
    words = f"the booking {id_} is cancelled and cannot be completed"
    return Told(partial(world.acme.complete, id_), words, fields)


@scene(InvalidTransition)
def a_confirmation_with_other_details(world: World) -> Told:
    id_ = world.acme.book("visit", start=NINE, attendee=GRACE).id
    fields = {"id": id_, "from_status": "confirmed", "to_status": "confirmed"}
    words = f"the booking {id_} is confirmed already, with other details"
    return Told(partial(world.acme.confirm_hold, id_, attendee=ALAN), words, fields)


@scene(InvalidTransition)
def a_confirmation_of_a_request_with_other_details(world: World) -> Told:
    world.acme.save_event_type(EventType(slug="ask", duration=HALF, hosts=["ada"], requires_approval=True))
    id_ = world.acme.book("ask", start=NINE, attendee=GRACE).id
    fields = {"id": id_, "from_status": "pending", "to_status": "pending"}
    words = f"the booking {id_} is pending already, with other details"
    return Told(partial(world.acme.confirm_hold, id_, attendee=ALAN), words, fields)


@scene(PolicyViolation)
def a_policy_that_had_its_time(world: World) -> Told:
    world.acme.save_event_type(replace(world.acme.event_type("visit"), policies=Policies(cancel_notice=HOUR)))
    id_ = world.acme.book("visit", start=NINE, attendee=GRACE).id
    world.clock.move(timedelta(microseconds=1))
    words = "the booking could be cancelled until 2026-03-02T08:00:00+00:00, 1:00:00 before its start"
    call = partial(world.acme.cancel, id_, actor=Actor(role="attendee"))
    return Told(call, words, {"policy": "cancel_notice", "until": NINE - HOUR})


@scene(PolicyViolation)
def a_policy_that_counts(world: World) -> Told:
    world.acme.save_event_type(replace(world.acme.event_type("visit"), policies=Policies(most_upcoming=1)))
    world.acme.book("visit", start=NINE, attendee=GRACE)
    words = "an attendee may have 1 booking to come, and has 1"
    actor = Actor(role="attendee")
    call = partial(world.acme.book, "visit", start=NINE + HOUR, attendee=GRACE, actor=actor)
    return Told(call, words, {"policy": "most_upcoming", "until": None})
