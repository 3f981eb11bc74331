"""Approve, decline, complete, mark as no-show, update: every move between states, allowed and refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from nxsched import (
    BookingNotFound,
    EventType,
    InvalidInput,
    InvalidTransition,
    SettableClock,
    SlotTaken,
    Tenant,
)
from store.booked import ALAN, GRACE, STAFF, assert_sound, rows, trail
from store.bridged import every_face
from store.conftest import HALF, HOUR, NINE, Database

pytestmark = every_face

TTL = timedelta(minutes=10)


def _held(acme: Tenant, _: SettableClock) -> str:
    return acme.place_hold("visit", start=NINE, ttl=TTL).id


def _pending(acme: Tenant, _: SettableClock) -> str:
    return acme.book("ask", start=NINE, attendee=GRACE).id


def _confirmed(acme: Tenant, _: SettableClock) -> str:
    return acme.book("visit", start=NINE, attendee=GRACE).id


def _expired(acme: Tenant, clock: SettableClock) -> str:
    id_ = _held(acme, clock)
    clock.move(TTL)
    return id_


def _expired_request(acme: Tenant, clock: SettableClock) -> str:
    id_ = _pending(acme, clock)
    clock.set(NINE)
    return id_


MAKE: dict[str, Callable[[Tenant, SettableClock], str]] = {
    "held": _held,
    "released": lambda acme, clock: acme.release_hold(_held(acme, clock)).id,
    "expired": _expired,
    "pending": _pending,
    "expired request": _expired_request,
    "declined": lambda acme, clock: acme.decline(_pending(acme, clock)).id,
    "confirmed": _confirmed,
    "cancelled": lambda acme, clock: acme.cancel(_confirmed(acme, clock)).id,
    "completed": lambda acme, clock: acme.complete(_confirmed(acme, clock)).id,
    "no_show": lambda acme, clock: acme.mark_no_show(_confirmed(acme, clock)).id,
}

DO: dict[str, Callable[..., Any]] = {
    "approve": lambda acme, id_, **more: acme.approve(id_, **more),
    "decline": lambda acme, id_, **more: acme.decline(id_, **more),
    "complete": lambda acme, id_, **more: acme.complete(id_, **more),
    "mark_no_show": lambda acme, id_, **more: acme.mark_no_show(id_, **more),
    "cancel": lambda acme, id_, **more: acme.cancel(id_, **more),
    "reschedule": lambda acme, id_, **more: acme.reschedule(id_, start=NINE + HOUR, **more),
    "update": lambda acme, id_, **more: acme.update(id_, location="Room 7", **more),
}

ALLOWED: dict[str, dict[str, str]] = {
    "approve": {"pending": "confirmed", "confirmed": "confirmed"},
    "decline": {"pending": "declined", "declined": "declined"},
    "complete": {"confirmed": "completed", "completed": "completed", "no_show": "completed"},
    "mark_no_show": {"confirmed": "no_show", "completed": "no_show", "no_show": "no_show"},
    "cancel": {"pending": "cancelled", "confirmed": "cancelled", "cancelled": "cancelled"},
    "reschedule": {"pending": "pending", "confirmed": "confirmed"},
    "update": {"pending": "pending", "confirmed": "confirmed", "completed": "completed", "no_show": "no_show"},
}
"""What each action makes of a booking in each state; all else is refused."""


@pytest.fixture
def acme(acme: Tenant) -> Tenant:
    acme.save_event_type(EventType(slug="ask", duration=HALF, hosts=["ada"], requires_approval=True))
    return acme


@pytest.mark.parametrize("action", DO)
@pytest.mark.parametrize("state", MAKE)
def test_every_action_in_every_state_does_what_the_table_says(
    acme: Tenant, db: Database, clock: SettableClock, state: str, action: str
) -> None:
    id_ = MAKE[state](acme, clock)
    version = acme.booking(id_).version
    becomes = ALLOWED[action].get(state)
    if becomes is None:
        with pytest.raises(InvalidTransition) as caught:
            DO[action](acme, id_)
        assert (caught.value.id, caught.value.from_status) == (id_, state.split(maxsplit=1)[0])
        assert acme.booking(id_).version == version
    else:
        done = DO[action](acme, id_)
        assert done.status == becomes
        assert acme.booking(id_) == done
        repeated = state == becomes and action not in {"reschedule", "update"}
        assert done.version == version + (not repeated)
        assert DO[action](acme, id_) == done  # the same again gives the same
    assert_sound(db)


@pytest.mark.parametrize("action", DO)
def test_what_is_not_there_is_not_found(acme: Tenant, action: str) -> None:
    for missing in ("01a1ffe6-abed-7495-b588-e4c8d657563a", "nonsense"):
        with pytest.raises(BookingNotFound) as caught:
            DO[action](acme, missing)
        assert caught.value.id == missing


@pytest.mark.parametrize("action", DO)
def test_each_change_has_its_actor_and_happens_once_for_a_key(acme: Tenant, action: str) -> None:
    state = "pending" if action in {"approve", "decline"} else "confirmed"
    id_ = acme.book("ask" if state == "pending" else "visit", start=NINE, attendee=GRACE).id
    first = DO[action](acme, id_, actor=STAFF, idempotency_key="once")
    assert DO[action](acme, id_, actor=STAFF, idempotency_key="once") == first
    assert [entry.actor for entry in acme.history(id_)] == [None, STAFF]


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


def test_approving_judges_nothing_and_ends_the_waiting(acme: Tenant, db: Database, clock: SettableClock) -> None:
    id_ = acme.book("ask", start=NINE, attendee=GRACE).id
    acme.archive_host("ada")
    approved = acme.approve(id_)
    assert (approved.status, approved.expires_at) == ("confirmed", None)
    clock.set(NINE + HOUR)
    assert acme.sweep().total == 0
    assert acme.booking(id_).status == "confirmed"
    assert_sound(db)


def test_what_was_declined_is_free(acme: Tenant) -> None:
    id_ = acme.book("ask", start=NINE, attendee=GRACE).id
    with pytest.raises(SlotTaken):
        acme.book("visit", start=NINE, attendee=ALAN)
    acme.decline(id_)
    assert acme.book("visit", start=NINE, attendee=ALAN).status == "confirmed"


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
