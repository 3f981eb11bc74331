"""Every policy of an event type, and the bounds that bind all: what they refuse, to whom, and from when on."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import nxsched
from nxsched import Actor, Attendee, EventType, Policies, PolicyViolation, SettableClock, Tenant
from nxsched.domain.bounds import MAX_ATTENDEE_HOLDS, MAX_OPEN_HOLDS
from store.booked import ALAN, GRACE, STAFF, count, rows
from store.bridged import every_face
from store.conftest import DAY, HALF, HOUR, NINE, Database

BEGIN = NINE + 4 * HOUR
MINUTE = timedelta(minutes=1)
INSTANT = timedelta(microseconds=1)
ATTENDEE, PARTNER = Actor(role="attendee", id="user-7"), Actor(role="partner")
HENRY = Attendee(name="Henry", email="henry@example.test", reference="user-8")
IRIS = Attendee(name="Iris", email="iris@example.test")


@dataclass
class Story:
    """A class with seats for everybody, and one by approval, of which the policies are; all at one time."""

    acme: Tenant
    clock: SettableClock
    db: Database
    moved: int = 0

    def keep(self, **policies: Any) -> None:
        """Set the policies."""
        kept = Policies(**policies)
        seats = EventType(slug="class", duration=HALF, hosts=["ada", "bob"], capacity=2 * MAX_OPEN_HOLDS, policies=kept)
        self.acme.save_event_type(seats)
        self.acme.save_event_type(replace(seats, slug="ask", hosts=["cyd"], requires_approval=True))

    def booked(self, who: Attendee = HENRY, slug: str = "class") -> str:
        """A booking that the application has made."""
        return self.acme.book(slug, start=BEGIN, attendee=who).id

    def held(self, who: Attendee | None = GRACE, ttl: timedelta = DAY) -> str:
        """A hold that the application has placed."""
        return self.acme.place_hold("class", start=BEGIN, attendee=who, ttl=ttl).id

    def movable(self) -> str:
        """A booking that was moved as often as is asked for."""
        id_ = self.booked()
        for n in range(self.moved):
            self.acme.reschedule(id_, start=BEGIN + (n % 2 == 0) * HOUR)
        return id_

    def series(self) -> str:
        """A series of one."""
        (one,) = self.acme.book_series("class", starts=[BEGIN], attendee=HENRY)
        return str(one.series_id)

    def holds(self, who: Attendee | None, number: int) -> None:
        """So many holds of a later class: the first is placed, and the others are copies of its row."""
        first = self.acme.place_hold("class", start=BEGIN + 3 * HOUR, attendee=who, ttl=DAY).id
        copied = rows(
            self.db,
            "SELECT string_agg(attname, ', ') FROM pg_attribute WHERE attrelid = 'nxsched.booking'::regclass"
            " AND attnum > 0 AND attgenerated = '' AND attname <> 'id'",
        )[0][0]
        with self.db.superuser.begin() as connection:
            connection.exec_driver_sql(
                f"INSERT INTO nxsched.booking (id, {copied}) SELECT gen_random_uuid(), {copied}"  # noqa: S608 - ours
                " FROM nxsched.booking CROSS JOIN generate_series(2, %s) WHERE id = %s",
                (number, first),
            )
            connection.exec_driver_sql("ANALYZE nxsched.booking")


class Act(NamedTuple):
    """What can be done: what has to be there before, and the call with its options."""

    ready: Callable[[Story], str]
    do: Callable[..., Any]


def _nothing(_: Story) -> str:
    return ""


def _move(acme: Tenant, id_: str, **more: Any) -> object:
    return acme.reschedule(id_, start=BEGIN + 2 * HOUR, **more)


SEAT: dict[str, Any] = {"start": BEGIN, "attendee": GRACE}

ACTS: dict[str, Act] = {
    "place_hold": Act(_nothing, lambda acme, _, **more: acme.place_hold("class", ttl=DAY, **SEAT, **more)),
    "confirm_hold": Act(
        lambda story: story.held(HENRY), lambda acme, id_, **more: acme.confirm_hold(id_, attendee=HENRY, **more)
    ),
    "confirm_hold if free": Act(
        lambda story: story.held(HENRY, MINUTE),
        lambda acme, id_, **more: acme.confirm_hold(id_, attendee=GRACE, if_free=True, **more),
    ),
    "release_hold": Act(lambda story: story.held(ALAN), lambda acme, id_, **more: acme.release_hold(id_, **more)),
    "book": Act(_nothing, lambda acme, _, **more: acme.book("class", **SEAT, **more)),
    "book_series": Act(
        _nothing, lambda acme, _, **more: acme.book_series("class", starts=[BEGIN], attendee=GRACE, **more)
    ),
    "cancel": Act(Story.booked, lambda acme, id_, **more: acme.cancel(id_, **more)),
    "cancel_series": Act(Story.series, lambda acme, id_, **more: acme.cancel_series(id_, **more)),
    "reschedule": Act(Story.movable, _move),
    "update": Act(Story.booked, lambda acme, id_, **more: acme.update(id_, location="Room 7", **more)),
    "approve": Act(lambda story: story.booked(slug="ask"), lambda acme, id_, **more: acme.approve(id_, **more)),
    "decline": Act(lambda story: story.booked(slug="ask"), lambda acme, id_, **more: acme.decline(id_, **more)),
    "complete": Act(Story.booked, lambda acme, id_, **more: acme.complete(id_, **more)),
    "mark_no_show": Act(Story.booked, lambda acme, id_, **more: acme.mark_no_show(id_, **more)),
    "reassign": Act(Story.booked, lambda acme, id_, **more: acme.reassign(id_, host="bob", **more)),
    "erase_attendee": Act(
        lambda story: story.booked(IRIS), lambda acme, _, **more: acme.erase_attendee(email=IRIS.email, **more)
    ),
}


class Row(NamedTuple):
    """A policy: what it refuses, up to where it allows that (`inside`), and how far `beyond` that is one step more.

    `moves` are those that a booking has had beyond; a policy without a value is a bound that binds everybody.
    """

    value: object
    refuses: tuple[str, ...]
    words: str
    inside: Callable[[Story], object] = _nothing
    beyond: Callable[[Story], object] = _nothing
    until: datetime | None = None
    moves: int = 0


def _soon(story: Story) -> None:
    story.clock.set(BEGIN - 2 * HOUR)


def _too_soon(story: Story) -> None:
    story.clock.move(INSTANT)


TABLE: dict[str, Row] = {
    "cancel_notice": Row(
        2 * HOUR,
        ("cancel", "cancel_series"),
        "the booking could be cancelled until 2026-03-02T11:00:00+00:00, 2:00:00 before its start",
        _soon,
        _too_soon,
        until=BEGIN - 2 * HOUR,
    ),
    "reschedule_notice": Row(
        2 * HOUR,
        ("reschedule",),
        "the booking could be moved until 2026-03-02T11:00:00+00:00, 2:00:00 before its start",
        _soon,
        _too_soon,
        until=BEGIN - 2 * HOUR,
    ),
    "most_moves": Row(2, ("reschedule",), "the booking may be moved at most 2 times, and was 2 times", moves=2),
    "most_holds": Row(
        2, ("place_hold",), "an attendee may have 2 open holds at a time, and has 2", Story.held, Story.held
    ),
    "most_upcoming": Row(
        2,
        ("place_hold", "book", "book_series", "confirm_hold if free"),
        "an attendee may have 2 bookings to come, and has 2",
        Story.held,
        lambda story: story.booked(GRACE),
    ),
    "attendee_holds": Row(
        None,
        ("place_hold",),
        f"{MAX_ATTENDEE_HOLDS} holds of the attendee stand already: release some, or let them expire",
        lambda story: story.holds(GRACE, MAX_ATTENDEE_HOLDS - 1),
        Story.held,
    ),
    "open_holds": Row(
        None,
        ("place_hold",),
        f"{MAX_OPEN_HOLDS} holds stand already, as many as a tenant may have: release some, or let them expire",
        # One is there of those that other acts need.
        lambda story: story.holds(None, MAX_OPEN_HOLDS - 1 - count(story.db, "booking", "status = 'held'")),
        lambda story: story.held(None),
    ),
}

FIXED = {policy for policy, row in TABLE.items() if row.value is None}
PAIRS = [(policy, act) for policy, row in TABLE.items() for act in row.refuses]

every_refusal = pytest.mark.parametrize(("policy", "act"), PAIRS)


@pytest.fixture
def story(acme: Tenant, clock: SettableClock, db: Database) -> Story:
    return Story(acme, clock, db)


def told(story: Story, policy: str, moves: int, *acts: str, **more: Any) -> list[str]:
    """Set a policy, and make ready what acts need; gives the ids."""
    row = TABLE[policy]
    if row.value is not None:
        story.keep(**{policy: row.value, "roles": ["attendee", "partner"], **more})
    else:
        story.keep(**more)
    story.moved = moves
    ids = [ACTS[act].ready(story) for act in acts]
    story.clock.move(MINUTE)  # a hold that is to be had again has expired
    if "confirm_hold if free" in acts:
        story.acme.sweep()
    return ids


def assert_refused(story: Story, policy: str, call: Callable[[], object]) -> None:
    """The policy refuses it, with all its facts, and nothing is written."""
    row, before = TABLE[policy], count(story.db, "audit_entry")
    with pytest.raises(PolicyViolation) as caught:
        call()
    assert vars(caught.value) == {"policy": policy, "until": row.until}
    assert str(caught.value) == row.words
    assert count(story.db, "audit_entry") == before


@every_face
@every_refusal
def test_each_policy_allows_what_is_just_inside_it(story: Story, policy: str, act: str) -> None:
    (id_,) = told(story, policy, max(TABLE[policy].moves - 1, 0), act)
    TABLE[policy].inside(story)
    before = count(story.db, "audit_entry")
    ACTS[act].do(story.acme, id_, actor=ATTENDEE)
    assert count(story.db, "audit_entry") == before + 1


@every_face
@every_refusal
def test_each_policy_refuses_what_is_beyond_it_to_the_roles_that_it_names(story: Story, policy: str, act: str) -> None:
    row, do, acme = TABLE[policy], ACTS[act].do, story.acme
    ids = told(story, policy, row.moves, act, act)
    row.inside(story)
    row.beyond(story)
    for actor in (ATTENDEE, PARTNER):
        assert_refused(story, policy, partial(do, acme, ids[0], actor=actor))
    for id_, free in zip(ids, (STAFF, None), strict=True):
        if policy in FIXED:
            assert_refused(story, policy, partial(do, acme, id_, actor=free))
        else:
            do(acme, id_, actor=free)


@every_face
@pytest.mark.parametrize("policy", TABLE)
def test_a_policy_refuses_nothing_else(story: Story, policy: str) -> None:
    row = TABLE[policy]
    ids = dict(zip(ACTS, told(story, policy, row.moves, *ACTS), strict=True))
    row.inside(story)
    row.beyond(story)
    for act, id_ in ids.items():
        if act in row.refuses:
            assert_refused(story, policy, partial(ACTS[act].do, story.acme, id_, actor=ATTENDEE))
    for act in sorted({*ids} - {*row.refuses}):
        ACTS[act].do(story.acme, ids[act], actor=ATTENDEE)


@pytest.mark.parametrize("policy", sorted({*TABLE} - FIXED))
def test_where_no_role_is_named_a_policy_binds_nobody(story: Story, policy: str) -> None:
    row = TABLE[policy]
    ids = told(story, policy, row.moves, *row.refuses, roles=())
    row.inside(story)
    row.beyond(story)
    for act, id_ in zip(row.refuses, ids, strict=True):
        ACTS[act].do(story.acme, id_, actor=ATTENDEE)


FORCED = {
    ("most_upcoming", "book"): True,
    ("most_upcoming", "book_series"): True,
    ("reschedule_notice", "reschedule"): False,
    ("most_moves", "reschedule"): False,
}
"""Whether `force` goes past a policy, where both are there: it does for what counts an attendee's bookings."""


@every_face
@pytest.mark.parametrize(("policy", "act"), FORCED)
def test_force_goes_past_what_counts_bookings_and_past_no_other_policy(story: Story, policy: str, act: str) -> None:
    row, do = TABLE[policy], ACTS[act].do
    (id_,) = told(story, policy, row.moves, act)
    row.inside(story)
    row.beyond(story)
    if FORCED[policy, act]:
        do(story.acme, id_, actor=ATTENDEE, force=True)
    else:
        assert_refused(story, policy, lambda: do(story.acme, id_, actor=ATTENDEE, force=True))
        do(story.acme, id_, actor=STAFF, force=True)


LINKED: dict[str, Callable[[Any], object]] = {
    "cancel": lambda managed: managed.cancel(),
    "reschedule": lambda managed: managed.reschedule(start=BEGIN + 2 * HOUR),
}
"""What can be done by a link, which is an attendee's."""

BY_LINK = [(policy, act) for policy, act in PAIRS if act in LINKED]


@every_face
@pytest.mark.parametrize(("policy", "act"), BY_LINK)
def test_a_policy_binds_who_comes_by_a_link_as_any_attendee(story: Story, policy: str, act: str) -> None:
    row, acme = TABLE[policy], story.acme
    inside, *beyond = (
        acme.with_token(acme.manage_token(id_, expires=BEGIN))
        for moves in (max(row.moves - 1, 0), row.moves, row.moves)
        for id_ in told(story, policy, moves, act)
    )
    row.inside(story)
    LINKED[act](inside)
    row.beyond(story)
    assert_refused(story, policy, lambda: LINKED[act](beyond[0]))
    story.keep(**{policy: row.value, "roles": ["staff", "partner"]})
    LINKED[act](beyond[0])
    story.keep(**{policy: row.value})
    assert_refused(story, policy, lambda: LINKED[act](beyond[1]))


def test_a_notice_of_nothing_is_kept_to_the_start_itself(story: Story) -> None:
    story.keep(cancel_notice=timedelta(0), reschedule_notice=timedelta(0))
    ids = [story.booked() for _ in range(4)]
    story.clock.set(BEGIN)
    for act, inside, beyond in (("cancel", ids[0], ids[1]), ("reschedule", ids[2], ids[3])):
        story.clock.set(BEGIN)
        ACTS[act].do(story.acme, inside, actor=ATTENDEE)
        story.clock.move(INSTANT)
        with pytest.raises(PolicyViolation) as caught:
            ACTS[act].do(story.acme, beyond, actor=ATTENDEE)
        assert vars(caught.value) == {"policy": f"{act}_notice", "until": BEGIN}


def test_what_may_be_moved_not_at_all_may_not_be_moved_once(story: Story) -> None:
    story.keep(most_moves=0)
    id_ = story.booked()
    with pytest.raises(PolicyViolation, match="may be moved not at all") as caught:
        _move(story.acme, id_, actor=ATTENDEE)
    assert vars(caught.value) == {"policy": "most_moves", "until": None}
    _move(story.acme, id_, actor=STAFF)


def test_the_table_has_every_policy_every_bound_and_every_act() -> None:
    package = Path(nxsched.__file__).parent
    source = "".join(path.read_text(encoding="utf-8") for path in package.rglob("*.py"))
    named = {*re.findall(r'policy="(\w+)"|_keep_notice\("(\w+)"', source)}
    assert {*TABLE} == {name for pair in named for name in pair if name}
    assert {*TABLE} - FIXED == {field.name for field in fields(Policies)} - {"roles"}
    methods = inspect.getmembers(Tenant, inspect.isfunction)
    writing = {name for name, one in methods if "actor" in inspect.signature(one).parameters}
    setting_up = r"_|for_caller$|save_|archive_|block$|unblock$|replace_busy$"
    assert {act.split()[0] for act in ACTS} == {name for name in writing if not re.match(setting_up, name)}
    forced = {name for name in writing if "force" in inspect.signature(getattr(Tenant, name)).parameters}
    assert {*FORCED} == {(policy, act) for policy, act in PAIRS if act in forced}
    docs = Path(__file__).parents[2] / "docs"
    pages = "".join((docs / page).read_text(encoding="utf-8") for page in ("reference.md", "how-to/bookings.md"))
    assert all(f"`{policy}`" in pages for policy in TABLE)
