"""The table of states: what each action makes of a booking in each state, what it refuses, and with which error."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from nxsched import (
    BookingNotFound,
    EventType,
    HoldExpired,
    InvalidInput,
    InvalidToken,
    InvalidTransition,
    SettableClock,
    SlotTaken,
    Tenant,
)
from nxsched.domain.bookings import SHOWN
from store.booked import ALAN, GRACE, STAFF, assert_sound, count, rows, trail
from store.bridged import every_face
from store.conftest import DAY, HALF, HOUR, NINE, NOW, Database

TTL = timedelta(minutes=10)


def _held(acme: Tenant, slug: str = "any") -> str:
    return acme.place_hold(slug, start=NINE, ttl=TTL, host="ada", attendee=GRACE).id


def _held_to_ask(acme: Tenant) -> str:
    return _held(acme, "ask")


def _confirmed(acme: Tenant, slug: str = "any") -> str:
    """A series of one, which is a booking like any other."""
    return acme.book_series(slug, starts=[NINE], host="ada", attendee=GRACE)[0].id


def _pending(acme: Tenant) -> str:
    return _confirmed(acme, "ask")


class State(NamedTuple):
    """How a booking begins, what happens to it then, and which status it has; `like` is its column of the table."""

    begins: Callable[[Tenant], str]
    then: Callable[[Tenant, str, SettableClock], object]
    status: str
    like: str


def _stays(acme: Tenant, id_: str, clock: SettableClock) -> None:
    """Nothing happens to it."""


def _ends(acme: Tenant, id_: str, clock: SettableClock) -> None:
    clock.set(acme.booking(id_).expires_at or NOW)


def _is_swept(acme: Tenant, id_: str, clock: SettableClock) -> None:
    _ends(acme, id_, clock)
    assert acme.sweep().total == 1


STATES: dict[str, State] = {
    "held": State(_held, _stays, "held", "held"),
    "held to ask": State(_held_to_ask, _stays, "held", "held to ask"),
    "released": State(_held, lambda acme, id_, _: acme.release_hold(id_), "released", "released"),
    "expired": State(_held, _ends, "expired", "expired"),
    "expired and swept": State(_held, _is_swept, "expired", "expired"),
    "expired to ask": State(_held_to_ask, _ends, "expired", "expired to ask"),
    "pending": State(_pending, _stays, "pending", "pending"),
    "expired request": State(_pending, _ends, "expired", "expired request"),
    "expired request and swept": State(_pending, _is_swept, "expired", "expired request"),
    "declined": State(_pending, lambda acme, id_, _: acme.decline(id_), "declined", "declined"),
    "cancelled request": State(_pending, lambda acme, id_, _: acme.cancel(id_), "cancelled", "cancelled"),
    "confirmed": State(_confirmed, _stays, "confirmed", "confirmed"),
    "cancelled": State(_confirmed, lambda acme, id_, _: acme.cancel(id_), "cancelled", "cancelled"),
    "completed": State(_confirmed, lambda acme, id_, _: acme.complete(id_), "completed", "completed"),
    "no_show": State(_confirmed, lambda acme, id_, _: acme.mark_no_show(id_), "no_show", "no_show"),
}


def made(acme: Tenant, clock: SettableClock, state: str) -> str:
    """A booking in a state."""
    id_ = STATES[state].begins(acme)
    STATES[state].then(acme, id_, clock)
    assert acme.booking(id_).status == STATES[state].status
    return id_


def _confirm(acme: Tenant, id_: str, **more: Any) -> object:
    return acme.confirm_hold(id_, attendee=GRACE, **more)


def _erase(acme: Tenant, _: str, **more: Any) -> object:
    return acme.erase_attendee(email=GRACE.email, **more)


DO: dict[str, Callable[..., Any]] = {
    "approve": lambda acme, id_, **more: acme.approve(id_, **more),
    "decline": lambda acme, id_, **more: acme.decline(id_, **more),
    "complete": lambda acme, id_, **more: acme.complete(id_, **more),
    "mark_no_show": lambda acme, id_, **more: acme.mark_no_show(id_, **more),
    "cancel": lambda acme, id_, **more: acme.cancel(id_, **more),
    "reschedule": lambda acme, id_, **more: acme.reschedule(id_, start=NINE + HOUR, **more),
    "reassign": lambda acme, id_, **more: acme.reassign(id_, host="bob", **more),
    "update": lambda acme, id_, **more: acme.update(id_, location="Room 7", **more),
    "confirm_hold": _confirm,
    "confirm_hold if_free": lambda acme, id_, **more: _confirm(acme, id_, if_free=True, **more),
    "confirm_hold with other details": lambda acme, id_, **more: acme.confirm_hold(id_, attendee=ALAN, **more),
    "release_hold": lambda acme, id_, **more: acme.release_hold(id_, **more),
    "erase_attendee": _erase,
}

_HELD = {"held": "confirmed", "held to ask": "pending"}
_BOOKED = {"pending": "pending", "confirmed": "confirmed"}

ALLOWED: dict[str, dict[str, str]] = {
    "approve": {"pending": "confirmed", "confirmed": "confirmed"},
    "decline": {"pending": "declined", "declined": "declined"},
    "complete": {"confirmed": "completed", "completed": "completed", "no_show": "completed"},
    "mark_no_show": {"confirmed": "no_show", "completed": "no_show", "no_show": "no_show"},
    "cancel": {"pending": "cancelled", "confirmed": "cancelled", "cancelled": "cancelled"},
    "reschedule": _BOOKED,
    "reassign": _BOOKED,
    "update": {**_BOOKED, "completed": "completed", "no_show": "no_show"},
    "confirm_hold": {**_HELD, **_BOOKED},
    "confirm_hold if_free": {**_HELD, **_BOOKED, "expired": "confirmed", "expired to ask": "pending"},
    "confirm_hold with other details": _HELD,
    "release_hold": {
        **dict.fromkeys(("held", "held to ask", "released"), "released"),
        **dict.fromkeys(("expired", "expired to ask"), "expired"),
    },
    "erase_attendee": {one.like: one.status for one in STATES.values()},
}
"""What each action makes of a booking in each state; all else is refused."""

NOTHING_NEW = {
    ("approve", "confirmed"), ("decline", "declined"), ("complete", "completed"), ("mark_no_show", "no_show"),
    ("cancel", "cancelled"), ("cancel", "cancelled request"), ("release_hold", "released"),
    ("release_hold", "expired and swept"),
    *((f"confirm_hold{how}", state) for how in ("", " if_free") for state in _BOOKED),
}  # fmt: skip
"""Where what is asked for is so already, and nothing is written."""

BECOMES = {
    "approve": "confirmed", "decline": "declined", "complete": "completed", "mark_no_show": "no_show",
    "cancel": "cancelled", "reschedule": "rescheduled", "reassign": "reassigned", "update": "updated",
    "release_hold": "released",
}  # fmt: skip
"""What a refusal says that it cannot become; of a confirmation, what it is already or "confirmed"."""


@pytest.fixture
def acme(acme: Tenant) -> Tenant:
    acme.save_event_type(EventType(slug="ask", duration=HALF, hosts=["ada", "bob"], requires_approval=True))
    return acme


def refused(action: str, id_: str, state: State) -> tuple[type[Exception], dict[str, object]]:
    """The error of a refusal, and all that it says."""
    if state.like in {"expired", "expired to ask"} and action.startswith("confirm_hold"):
        return HoldExpired, {"id": id_, "expired_at": NOW + TTL}
    to = BECOMES.get(action) or (state.status if state.status in _BOOKED else "confirmed")
    return InvalidTransition, {"id": id_, "from_status": state.status, "to_status": to}


every_state = pytest.mark.parametrize(
    "state",
    # What differs from another in what was tidied up, or what is asked for, alone.
    [pytest.param(one, marks=[pytest.mark.slow] * ("swept" in one or "to ask" in one)) for one in STATES],
)


@every_face
@pytest.mark.parametrize("action", DO)
@every_state
def test_every_action_in_every_state_does_what_the_table_says(
    acme: Tenant, db: Database, clock: SettableClock, state: str, action: str
) -> None:
    id_ = made(acme, clock, state)
    before = acme.booking(id_)
    becomes = ALLOWED[action].get(STATES[state].like)
    if becomes is None:
        error, fields = refused(action, id_, STATES[state])
        with pytest.raises(error) as caught:
            DO[action](acme, id_)
        assert vars(caught.value) == fields
        assert acme.booking(id_) == before
        assert count(db, "audit_entry") == before.version
    else:
        DO[action](acme, id_)
        done = acme.booking(id_)
        assert done.status == becomes
        steps = 2 if action.endswith("if_free") and state in {"expired", "expired to ask"} else 1  # it expires before
        assert done.version == before.version + steps * ((action, state) not in NOTHING_NEW)
        DO[action](acme, id_)
        assert acme.booking(id_) == done  # the same again gives the same
    assert_sound(db)


@every_face
@every_state
def test_a_series_is_cancelled_where_it_stands_and_stays_else(
    acme: Tenant, db: Database, clock: SettableClock, state: str
) -> None:
    before = acme.booking(made(acme, clock, state))
    if before.series_id is None:  # a hold
        with pytest.raises(BookingNotFound) as caught:
            acme.cancel_series(before.id)
        assert vars(caught.value) == {"id": before.id}
        return
    (after,) = acme.cancel_series(before.series_id)
    assert after == acme.booking(before.id)
    if state in _BOOKED:
        assert (after.status, after.version) == ("cancelled", before.version + 1)
    else:
        assert after == before
    assert acme.cancel_series(before.series_id) == [after]
    assert_sound(db)


@every_face
@every_state
def test_every_reading_shows_the_state_and_links_lead_to_what_stands(
    acme: Tenant, db: Database, clock: SettableClock, state: str
) -> None:
    id_ = made(acme, clock, state)
    found, status = acme.booking(id_), STATES[state].status
    assert acme.history(id_)[-1].version == found.version
    assert [one.id for one in acme.bookings()] == [id_] * (status in SHOWN)
    assert [one.id for one in acme.bookings(status=status)] == [id_]
    assert [one.id for one in acme.holds()] == [id_] * (status == "held")
    if found.series_id is None:
        assert acme.hold(id_).status == status
    else:
        with pytest.raises(BookingNotFound) as missed:
            acme.hold(id_)
        assert vars(missed.value) == {"id": id_}
    if state in LINKED:
        assert acme.with_token(acme.manage_token(id_, expires=NINE + DAY)).booking() == found
    else:
        with pytest.raises(InvalidTransition) as caught:
            acme.manage_token(id_, expires=NINE + DAY)
        assert vars(caught.value) == {"id": id_, "from_status": status, "to_status": "managed"}
    assert count(db, "audit_entry") == found.version


LINKED = ("pending", "confirmed", "completed", "no_show")
BY_LINK: dict[str, Callable[[Any], Any]] = {
    "cancel": lambda managed: managed.cancel(),
    "reschedule": lambda managed: managed.reschedule(start=NINE + HOUR),
}


@every_face
@pytest.mark.parametrize("action", BY_LINK)
@pytest.mark.parametrize("state", [state for state, one in STATES.items() if one.begins in {_pending, _confirmed}])
def test_by_a_link_the_same_is_done_and_refused_while_it_leads_somewhere(
    acme: Tenant, db: Database, clock: SettableClock, state: str, action: str
) -> None:
    id_ = STATES[state].begins(acme)
    managed = acme.with_token(acme.manage_token(id_, expires=NINE + DAY))
    STATES[state].then(acme, id_, clock)
    before, becomes = acme.booking(id_), ALLOWED[action].get(STATES[state].like)
    if state in _BOOKED:
        assert BY_LINK[action](managed).status == acme.booking(id_).status == becomes
        assert acme.booking(id_).version == before.version + 1
    else:
        error, fields = refused(action, id_, STATES[state]) if state in LINKED else (InvalidToken, {})
        with pytest.raises(error) as caught:
            BY_LINK[action](managed)
        assert vars(caught.value) == fields
        assert acme.booking(id_) == before
        if state in LINKED:
            assert managed.booking() == before
    assert_sound(db)


@every_face
@pytest.mark.parametrize("action", [action for action in DO if action != "erase_attendee"])
def test_what_is_not_there_is_not_found(acme: Tenant, action: str) -> None:
    for missing in ("01a1ffe6-abed-7495-b588-e4c8d657563a", "nonsense"):
        with pytest.raises(BookingNotFound) as caught:
            DO[action](acme, missing)
        assert vars(caught.value) == {"id": missing}


@every_face
@pytest.mark.parametrize("action", DO)
def test_each_change_has_its_actor_and_happens_once_for_a_key(acme: Tenant, clock: SettableClock, action: str) -> None:
    state = next(state for state in STATES if changes(action, state))
    id_ = made(acme, clock, state)
    DO[action](acme, id_, actor=STAFF, idempotency_key="once")
    done = acme.booking(id_)
    DO[action](acme, id_, actor=STAFF, idempotency_key="once")
    assert acme.booking(id_) == done
    assert [entry.actor for entry in acme.history(id_)][-1:] == [STAFF]
    assert [entry.actor for entry in acme.history(id_)].count(STAFF) == 1


@every_face
def test_the_records_name_what_was_done(acme: Tenant, db: Database) -> None:
    id_ = acme.book("ask", start=NINE, attendee=GRACE).id
    acme.approve(id_)
    acme.update(id_, location="Room 7")
    acme.complete(id_)
    acme.mark_no_show(id_)
    acme.complete(id_)
    assert trail(db, id_) == [
        (1, "request", "booking.created"),
        (2, "approve", "booking.confirmed"),
        (3, "update", "booking.updated"),
        (4, "complete", "booking.completed"),
        (5, "mark_no_show", "booking.no_show"),
        (6, "complete", "booking.completed"),
    ]
    assert acme.history(id_)[1].changes["status"] == ("pending", "confirmed")
    other = acme.book("ask", start=NINE + HOUR, attendee=GRACE).id
    acme.decline(other, reason="Too soon")
    assert trail(db, other)[-1] == (2, "decline", "booking.declined")
    assert acme.history(other)[-1].reason == "Too soon"
    told = rows(db, "SELECT payload->>'reason' FROM nxsched.outbox_event WHERE kind = 'booking.declined'")
    assert told[0][0] == "Too soon"


@every_face
def test_approving_judges_nothing_and_ends_the_waiting(acme: Tenant, db: Database, clock: SettableClock) -> None:
    id_ = acme.book("ask", start=NINE, attendee=GRACE).id
    acme.archive_host("ada")
    approved = acme.approve(id_)
    assert (approved.status, approved.expires_at) == ("confirmed", None)
    clock.set(NINE + HOUR)
    assert acme.sweep().total == 0
    assert acme.booking(id_).status == "confirmed"
    assert_sound(db)


@every_face
def test_what_was_declined_is_free(acme: Tenant) -> None:
    id_ = acme.book("ask", start=NINE, attendee=GRACE).id
    with pytest.raises(SlotTaken):
        acme.book("visit", start=NINE, attendee=ALAN)
    acme.decline(id_)
    assert acme.book("visit", start=NINE, attendee=ALAN).status == "confirmed"


@every_face
def test_a_new_location_is_news_for_calendars_and_other_metadata_is_not(acme: Tenant) -> None:
    booking = acme.book("visit", start=NINE, attendee=GRACE, metadata={"order": 17})
    moved = acme.update(booking.id, location="Room 7")
    assert (moved.location, moved.metadata, moved.sequence, moved.version) == ("Room 7", {"order": 17}, 1, 2)
    noted = acme.update(booking.id, metadata={"order": 18})
    assert (noted.location, noted.metadata, noted.sequence, noted.version) == ("Room 7", {"order": 18}, 1, 3)
    assert acme.update(booking.id, location="Room 7", metadata={"order": 18}) == noted
    assert acme.update(booking.id, location="").location is None
    for field, given in (("location", {"location": "a\x00b"}), ("metadata", {"metadata": {"a": object()}})):
        with pytest.raises(InvalidInput) as caught:
            acme.update(booking.id, **given)
        assert caught.value.field.startswith(field)


def changes(action: str, state: str) -> bool:
    """Whether an action writes something in a state."""
    return STATES[state].like in ALLOWED[action] and (action, state) not in NOTHING_NEW


def test_the_table_has_every_action_on_a_booking_and_is_that_of_the_page() -> None:
    takes = {name: inspect.signature(one).parameters for name, one in inspect.getmembers(Tenant, inspect.isfunction)}
    writes = {name for name, parameters in takes.items() if "actor" in parameters}
    others = r"_|for_caller$|save_|archive_|block$|unblock$|replace_busy$|book$|book_series$|place_hold$|cancel_series$"
    assert {*DO} == {*ALLOWED}
    assert {action.split()[0] for action in DO} == {name for name in writes if not re.match(others, name)}
    page = (Path(__file__).parents[2] / "docs" / "concepts" / "states.md").read_text(encoding="utf-8")
    told: set[tuple[str, str, str]] = set()
    for before, action, after in re.findall(
        r"^\| (`.+|any) \| `(\w+).* \| (.+) \| `\w+` \| `.+` \|$", page, re.MULTILINE
    ):
        froms = re.findall(r"`(\w+)`", before) or [one.status for one in STATES.values()]
        told |= {(one, action, one if after == "the same" else after.strip("`")) for one in froms}
    table = {
        (STATES[state].status, action.split()[0], ALLOWED[action][STATES[state].like])
        for action in DO
        for state in STATES
        if changes(action, state)
    }
    assert table - told == {("expired", "release_hold", "expired")}  # the page says so beneath
    assert told <= table
