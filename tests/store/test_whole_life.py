"""Everything that can be done with bookings, in any order and on both faces, comes to what a diary by hand comes to."""

from __future__ import annotations

import inspect
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule, run_state_machine_as_test

from nxsched import (
    Actor,
    Attendee,
    AttendeeBookings,
    AuditEntry,
    BookingStatus,
    InvalidToken,
    ManagedBooking,
    NxschedError,
    Slots,
    Tenant,
    TenantDetails,
)
from nxsched.domain.checks import same_json
from nxsched.domain.events import written
from nxsched.testing import recorded_events
from store.booked import STAFF, assert_sound
from store.bridged import Loop, async_engine
from store.conftest import DAY, HALF, HOUR, NINE, NOW, Database
from store.diary import EVENT_TYPES, HOSTS, SHOWN, STANDS, Diary, Entry, Found, Said, lasts, period
from store.life import FACES, Face, Life, host_of

# Times that meet one another, one beside the grid, and one when nobody works.
STARTS = [NINE, NINE + HALF, NINE + HOUR, NINE + 5 * HOUR, NINE + DAY, NINE + DAY + HALF]
ODD_STARTS = [NINE + timedelta(minutes=10), NINE + 9 * HOUR]

PEOPLE = [
    Attendee(name="Grace", reference="grace"),
    Attendee(name="Alan", reference="alan", email="Alan@people.test", timezone="Asia/Tokyo"),
]
ATTENDEE = Actor(role="attendee")
"""Whom policies bind."""

starts = st.sampled_from(STARTS * 3 + ODD_STARTS)
kinds = st.sampled_from(sorted([*EVENT_TYPES, "class", "class", "course", "asked", "strict", "strict"]))
people = st.sampled_from(PEOPLE)
hosts = st.sampled_from(HOSTS)
actors = st.sampled_from([None, ATTENDEE, ATTENDEE, STAFF])
reasons = st.sampled_from([None, None, "ill", "no time"])
durations = st.sampled_from([None, None, None, HALF, HOUR])
picks = st.integers(min_value=0, max_value=160)
seldom = st.sampled_from([False] * 5 + [True])
often = st.sampled_from([False, False, True])
faces = st.tuples(st.sampled_from(FACES), st.sampled_from([True] * 4 + [False]))


MARKS = {
    "approve": ("confirmed", {"pending"}),
    "decline": ("declined", {"pending"}),
    "complete": ("completed", {"confirmed", "no_show"}),
    "mark_no_show": ("no_show", {"confirmed", "completed"}),
}
"""What each comes to, and from where."""


class Wish(NamedTuple):
    """What somebody wants to book or hold, and on whose behalf; for how long it is held."""

    event_type: str
    start: datetime
    attendee: Attendee
    actor: Actor | None = None
    host: str | None = None
    seats: int = 1
    force: bool = False
    keyed: bool = False
    minutes: int = 20
    duration: timedelta | None = None
    topic: str | None = None
    reference: str | None = None
    reason: str | None = None
    metadata: dict[str, Any] | None = None

    @property
    def bound(self) -> bool:
        return self.actor == ATTENDEE

    def lasts(self, kind: str) -> timedelta | None:
        """What is not offered is asked for seldom."""
        return self.duration if lasts(EVENT_TYPES[kind], self.duration) or self.minutes == 1 else None

    def said(self, kind: str) -> Said:
        """Only what is asked is answered."""
        answers = {"topic": self.topic} if self.topic and EVENT_TYPES[kind].questions else {}
        return Said(answers, self.reference, self.metadata or {})


wishes = st.builds(
    Wish,
    kinds,
    starts,
    people,
    actor=actors,
    host=st.none() | st.none() | hosts,
    seats=st.sampled_from([1, 1, 1, 2]),
    force=seldom,
    keyed=st.booleans(),
    minutes=st.sampled_from([1, 20, 180]),
    duration=durations,
    topic=st.sampled_from([None, "Roses", "Tea"]),
    reference=st.sampled_from([None, "order 1", "order 2"]),
    reason=reasons,
    metadata=st.sampled_from([None, None, {"order": 7, "paid": True}]),
)


class Bookings(Life):
    """Whatever can be done, as rules."""

    # Holds and bookings.

    @initialize(
        several=st.lists(st.tuples(kinds | st.just("strict"), starts, people, st.booleans()), min_size=4, max_size=12)
    )
    def begin(self, several: list[tuple[str, datetime, Attendee, bool]]) -> None:
        """With a diary that is not empty: the rules are chosen at random, and few of them book."""
        for event_type, start, who, holds in several:
            (self.hold if holds else self.book)(("sync", True), Wish(event_type, start, who))

    @rule(face=faces, wish=wishes)
    def hold(self, face: Face, wish: Wish) -> None:
        ttl = timedelta(minutes=wish.minutes)
        asked = {"host": wish.host, "seats": wish.seats, "duration": wish.lasts(wish.event_type)}
        who = None if wish.force else wish.attendee
        found, entry = self.write(
            face,
            "place_hold",
            wish.event_type,
            start=wish.start,
            ttl=ttl,
            attendee=who,
            actor=wish.actor,
            **asked,
            keyed=wish.keyed,
            expected=lambda diary: diary.hold(
                wish.event_type, wish.start, ttl, attendee=who, bound=wish.bound, **asked
            ),
        )
        if entry:
            entry.id = found.id
            self.same(entry, found)

    @rule(face=faces, wish=wishes)
    def book(self, face: Face, wish: Wish) -> None:
        kind, said, options = self.booked(wish)
        found, entries = self.write(
            face,
            "book",
            kind,
            start=wish.start,
            attendee=wish.attendee,
            actor=wish.actor,
            **options,
            **said._asdict(),
            keyed=wish.keyed,
            expected=lambda diary: diary.book(
                kind, [wish.start], wish.attendee, said=said, bound=wish.bound, **options
            ),
        )
        if entries:
            entries[0].id = found.id
            self.same(entries[0], found)

    @staticmethod
    def booked(wish: Wish) -> tuple[str, Said, dict[str, Any]]:
        kind = wish.event_type
        options = {"host": wish.host, "seats": wish.seats, "duration": wish.lasts(kind), "force": wish.force}
        return kind, wish.said(kind), options

    @rule(face=faces, wish=wishes, several=st.lists(starts, min_size=1, max_size=4, unique=True))
    def book_series(self, face: Face, wish: Wish, several: list[datetime]) -> None:
        kind, said, options = self.booked(wish)
        found, entries = self.write(
            face,
            "book_series",
            kind,
            starts=several,
            attendee=wish.attendee,
            actor=wish.actor,
            **options,
            **said._asdict(),
            keyed=wish.keyed,
            expected=lambda diary: diary.book(kind, several, wish.attendee, said=said, bound=wish.bound, **options),
        )
        if entries:
            self.series.append(found[0].series_id)
            for entry, one in zip(entries, found, strict=True):
                entry.id, entry.series = one.id, one.series_id
                self.same(entry, one)

    @precondition(lambda self: self.diary.entries)
    @rule(face=faces, n=picks, wish=wishes)
    def confirm(self, face: Face, n: int, wish: Wish) -> None:
        if_free, who = not wish.force, wish.attendee
        place = self.pick(n, {"held", "expired"})
        said = wish.said(self.diary.entries[place].at.event_type)
        options = {"attendee": who, "if_free": if_free, "actor": wish.actor, "keyed": wish.keyed, **said._asdict()}

        def act(diary: Diary, entry: Entry) -> None:
            diary.confirm(entry, who, said=said, if_free=if_free, bound=wish.bound)

        self.change(face, "confirm_hold", place, act, **options)

    @precondition(lambda self: self.diary.entries)
    @rule(face=faces, n=picks, keyed=seldom)
    def release(self, face: Face, n: int, keyed: bool) -> None:
        self.change(face, "release_hold", self.pick(n, {"held"}), Diary.release, keyed=keyed)

    @precondition(lambda self: self.diary.entries)
    @rule(face=faces, n=picks, actor=actors, reason=reasons, keyed=seldom)
    def cancel(self, face: Face, n: int, actor: Actor | None, reason: str | None, keyed: bool) -> None:
        def act(diary: Diary, entry: Entry) -> None:
            diary.mark(entry, "cancelled", reason=reason, bound=actor == ATTENDEE)

        self.change(face, "cancel", self.pick(n), act, actor=actor, reason=reason, keyed=keyed)

    @precondition(lambda self: self.diary.entries)
    @rule(face=faces, n=picks, keyed=seldom, which=st.sampled_from(sorted(MARKS)), reason=reasons)
    def mark(self, face: Face, n: int, keyed: bool, which: str, reason: str | None) -> None:
        status, likely = MARKS[which]
        why: dict[str, Any] = {"reason": reason} if which == "decline" else {}
        self.change(
            face, which, self.pick(n, likely), lambda diary, entry: diary.mark(entry, status, **why), **why, keyed=keyed
        )

    @precondition(lambda self: self.diary.entries)
    @rule(face=faces, n=picks, wish=wishes)
    def reschedule(self, face: Face, n: int, wish: Wish) -> None:
        place = self.pick(n, {"pending", "confirmed"})
        options: dict[str, Any] = {
            "start": wish.start,
            "duration": wish.lasts(self.diary.entries[place].at.event_type),
            "host": wish.host,
            "reason": wish.reason,
            "force": wish.force,
        }

        def act(diary: Diary, entry: Entry) -> None:
            diary.reschedule(entry, **options, bound=wish.bound)

        self.change(face, "reschedule", place, act, **options, actor=wish.actor, keyed=wish.keyed)

    @precondition(lambda self: self.diary.entries)
    @rule(face=faces, n=picks, host=hosts, instead_of=st.none() | hosts, reason=reasons, keyed=seldom)
    def reassign(self, face: Face, n: int, host: str, instead_of: str | None, reason: str | None, keyed: bool) -> None:
        options: dict[str, Any] = {"host": host, "instead_of": instead_of, "reason": reason}
        place = self.pick(n, {"pending", "confirmed"})
        self.change(
            face, "reassign", place, lambda diary, entry: diary.reassign(entry, **options), **options, keyed=keyed
        )

    @precondition(lambda self: self.diary.entries)
    @rule(face=faces, n=picks, keyed=seldom, said=st.fixed_dictionaries({
        "location": st.sampled_from([None, "", "Hall", "Room 7"]),
        "metadata": st.sampled_from([None, {}, {"colour": "red"}]),
    }))  # fmt: skip
    def update(self, face: Face, n: int, keyed: bool, said: dict[str, Any]) -> None:
        place = self.pick(n, STANDS)
        self.change(face, "update", place, lambda diary, entry: diary.update(entry, **said), **said, keyed=keyed)

    def change(self, face: Face, method: str, place: int, act: Callable[[Diary, Entry], None], **options: Any) -> None:
        """Do something with what is there."""
        id_ = self.diary.entries[place].id

        def expected(diary: Diary) -> Entry:
            act(diary, diary.entries[place])
            return diary.entries[place]

        found, entry = self.write(face, method, id_, **options, expected=expected)
        if entry:
            self.same(entry, found)

    @precondition(lambda self: self.series)
    @rule(face=faces, n=picks, actor=actors, reason=reasons, keyed=seldom)
    def cancel_series(self, face: Face, n: int, actor: Actor | None, reason: str | None, keyed: bool) -> None:
        id_ = self.series[n % len(self.series)]
        found, entries = self.write(
            face, "cancel_series", id_, actor=actor, reason=reason, keyed=keyed,
            expected=lambda diary: diary.cancel_series(id_, reason=reason, bound=actor == ATTENDEE),
        )  # fmt: skip
        for entry, one in zip(entries or [], found or [], strict=True):
            assert entry.id == one.id
            self.same(entry, one)

    @rule(face=faces, who=people, several=st.permutations(STARTS))
    def push_their_luck(self, face: Face, who: Attendee, several: list[datetime]) -> None:
        """An attendee books what policies bind until these say no, and gives it up too late."""
        wish = Wish("strict", several[2], who, actor=ATTENDEE)
        self.book_series(face, wish, several[:2])
        self.book(face, wish)
        self.hold(face, wish._replace(start=several[3]))
        self.book_series(face, wish, several[4:])
        if self.series:
            self.wait_for_a_start()
            self.cancel_series(face, len(self.series) - 1, ATTENDEE, None, keyed=False)

    @precondition(lambda self: self.keyed)
    @rule(face=faces, n=picks)
    def repeat(self, face: Face, n: int) -> None:
        """The same call with its key does nothing more, and gives what has become of it."""
        at, method, args, options, made = self.keyed[n % len(self.keyed)]
        if self.clock.now() - at >= DAY:
            return
        found = self.ask(face, method, *args, **options)
        several = found if isinstance(found, list) else [found]
        for one in several:
            assert not isinstance(one, NxschedError), repr(one)
            entry = next(entry for entry in self.diary.entries if entry.id == one.id)
            assert made in {entry.id, entry.series}
            self.same(entry, one)

    @precondition(lambda self: self.keyed)
    @rule(face=faces, n=picks, start=starts)
    def misuse(self, face: Face, n: int, start: datetime) -> None:
        """A key is for one call."""
        at, _, _, options, _ = self.keyed[n % len(self.keyed)]
        if self.clock.now() - at < DAY:
            other: dict[str, Any] = {"start": start, "attendee": Attendee(name="Somebody else")}
            found = self.ask(face, "book", "visit", **other, idempotency_key=options["idempotency_key"])
            assert isinstance(found, NxschedError)
            assert found.code == "idempotency_conflict"

    # The attendee's own.

    @precondition(lambda self: self.diary.entries)
    @rule(face=faces, n=picks, what=st.sampled_from(["look", "move", "cancel"]), wish=wishes)
    def by_link(self, face: Face, n: int, what: str, wish: Wish) -> None:
        place = self.pick(n, {"pending", "confirmed"})
        entry = self.diary.entries[place]
        start, reason, duration = wish.start, wish.reason, wish.lasts(entry.at.event_type)
        token = self.ask(face, "manage_token", entry.id, expires=self.clock.now() + DAY)
        if self.diary.status(entry) not in STANDS:
            assert isinstance(token, NxschedError)
            assert token.code == "invalid_transition"
            return

        def mine(tenant: Any) -> Any:  # noqa: ANN401 - of either face
            return tenant.with_token(token)

        self.same(entry, self.ask(face, "booking", of=mine))
        if what == "look":
            kind = entry.at.event_type
            asked: dict[str, Any] = {"host": wish.host, "duration": duration}
            slots = self.ask(face, "find_slots", of=mine, start=NOW, end=NOW + 2 * DAY, **asked)
            if refused := self.cannot_look(kind, wish.host, entry, duration):
                assert isinstance(slots, NxschedError)
                assert slots.code == refused
            else:
                self.offered(slots, kind, without=entry, **asked)
        elif what == "cancel":
            self.write(
                face,
                "cancel",
                of=mine,
                reason=reason,
                expected=lambda diary: diary.mark(diary.entries[place], "cancelled", reason=reason, bound=True),
            )
        else:
            self.write(
                face,
                "reschedule",
                of=mine,
                start=start,
                duration=duration,
                host=wish.host,
                reason=reason,
                expected=lambda diary: diary.reschedule(
                    diary.entries[place], start, duration=duration, host=wish.host, reason=reason, bound=True
                ),
            )
        if entry.status == "cancelled":
            assert isinstance(self.ask(face, "booking", of=mine), InvalidToken)

    @rule(face=faces, who=people, address=st.booleans(), limit=st.integers(1, 4))
    def their_own(self, face: Face, who: Attendee, address: bool, limit: int) -> None:
        theirs = [one for one in self.diary.listed() if one.attendee == who]
        now = self.clock.now()
        to_come = [
            one
            for one in theirs
            if self.diary.status(one) in {"pending", "confirmed"} and one.at.start + one.at.duration > now
        ]

        def mine(tenant: Any) -> Any:  # noqa: ANN401 - of either face
            return tenant.for_attendee(**_known_by(who, address=address))

        self.turned(face, "upcoming", to_come, of=mine, limit=limit)
        self.turned(face, "past", [one for one in reversed(theirs) if one not in to_come], of=mine, limit=limit)

    @rule(
        face=faces,
        said=st.fixed_dictionaries(
            {},
            optional={
                "host": hosts,
                "attendee": st.sampled_from(["grace", "alan", "alan@PEOPLE.test", "nobody@people.test"]),
                "event_type": kinds,
                "start": starts,
                "end": starts,
                "status": st.sampled_from([["confirmed"], ["cancelled", "declined"], ["held", "expired"]]),
                "text": st.sampled_from(["gRa", "alan", "people", "ORDER 1", "nobody"]),
            },
        ),
        limit=st.integers(1, 5),
    )
    def search(self, face: Face, said: dict[str, Any], limit: int) -> None:
        self.turned(face, "bookings", [one for one in self.listed(said) if _fits(one, said)], limit=limit, **said)

    def listed(self, said: dict[str, Any]) -> list[Entry]:
        return self.diary.listed({*said["status"]}) if "status" in said else self.diary.listed()

    @precondition(lambda self: self.series)
    @rule(face=faces, n=picks, limit=st.integers(1, 3))
    def list_series(self, face: Face, n: int, limit: int) -> None:
        id_ = self.series[n % len(self.series)]
        self.turned(
            face, "bookings", [one for one in self.diary.listed() if one.series == id_], series=id_, limit=limit
        )

    def turned(self, face: Face, method: str, expected: list[Entry], **options: Any) -> None:
        """All pages of a list, one after the other."""
        found: list[Any] = []
        after = None
        while True:
            page = self.ask(face, method, after=after, **options)
            assert not isinstance(page, NxschedError), repr(page)
            assert len(page.items) <= options["limit"]
            found += page.items
            after = page.after
            if after is None:
                break
        assert [one.id for one in found] == [one.id for one in expected]
        for entry, one in zip(expected, found, strict=True):
            self.same(entry, one)

    @precondition(lambda self: self.diary.entries)
    @rule(face=faces, n=picks)
    def look_at_one(self, face: Face, n: int) -> None:
        entry = self.diary.entries[self.pick(n)]
        self.same(entry, self.ask(face, "booking", entry.id))
        hold = self.ask(face, "hold", entry.id)
        if isinstance(hold, NxschedError):
            assert hold.code == "booking_not_found"
            assert self.diary.status(entry) not in {"held", "released"}
        else:
            self.same(entry, hold)
        told = [_done(one) for one in self.ask(face, "history", entry.id) if one.action != "expire"]
        assert told == [(one.action, one.reason, one.role) for one in entry.trail if one.action != "expire"]

    @rule(face=faces, host=hosts)
    def look_at_what_is_set(self, face: Face, host: str) -> None:
        for method, every in (("hosts", HOSTS), ("event_types", tuple(EVENT_TYPES))):
            there = sorted({*every} - self.diary.archived)
            assert [one.slug for one in self.ask(face, method)] == there
            assert [one.slug for one in self.ask(face, method, archived=True)] == sorted(every)
        assert self.ask(face, "host", host) == replace(host_of(host), archived=host in self.diary.archived)
        for kind, set_ in EVENT_TYPES.items():
            assert self.ask(face, "event_type", kind) == replace(set_, archived=kind in self.diary.archived)
        assert self.ask(face, "details").name == self.diary.name
        for slug in (host, None):
            blocked = {id_ for id_, (whose, _) in self.diary.blocked.items() if whose == slug}
            assert {one.id for one in self.ask(face, "blocked_periods", slug)} == blocked
        busy = [one for (whose, _), several in self.diary.busy.items() if whose == host for one in several]
        told = self.ask(face, "busy", host, start=NOW, end=NOW + 3 * DAY)
        assert sorted((one.start, one.end) for one in told) == sorted(busy)

    @rule(face=faces, who=people, address=st.booleans(), sure=seldom)
    def erase(self, face: Face, who: Attendee, address: bool, sure: bool) -> None:
        if not sure:
            return
        before = {one.id for one in self.diary.entries if one.attendee == who}
        found, told = self.write(
            face,
            "erase_attendee",
            **_known_by(who, address=address),
            expected=lambda diary: diary.erase(str(who.reference)),
        )
        if told is not None:
            assert found == told
            series = {one.series for one in self.diary.entries if one.id in before}
            self.keyed = [one for one in self.keyed if one[-1] not in before | series]

    # What is set.

    @rule(face=faces, name=st.sampled_from(["Acme", "Acme & Co"]))
    def rename(self, face: Face, name: str) -> None:
        details = TenantDetails(id=self.acme.id, name=name, sender="bookings@acme.test")

        def expected(diary: Diary) -> None:
            diary.name = name

        self.write(face, "save_details", details, expected=expected)

    @rule(face=faces, host=st.none() | hosts, start=starts, halves=st.integers(min_value=1, max_value=4), sure=often)
    def block(self, face: Face, host: str | None, start: datetime, halves: int, sure: bool) -> None:
        span = (start, start + halves * HALF)
        if sure:
            found, _ = self.write(face, "block", host, period(span), expected=lambda _: None)
            if found:
                self.diary.blocked[found.id] = (host, span)

    @precondition(lambda self: self.diary.blocked)
    @rule(face=faces)
    def unblock(self, face: Face) -> None:
        id_ = min(self.diary.blocked)
        self.write(face, "unblock", id_, expected=lambda diary: diary.blocked.pop(id_))

    @rule(face=faces, host=hosts, source=st.sampled_from(["google", "work"]), start=starts, length=st.integers(0, 4))
    def replace_busy(self, face: Face, host: str, source: str, start: datetime, length: int) -> None:
        periods = [(start, start + length * HALF)] if length else []
        self.write(
            face, "replace_busy", host, source=source, start=NOW, end=NOW + 3 * DAY, periods=periods,
            expected=lambda diary: diary.busy.update({(host, source): periods}),
        )  # fmt: skip

    @rule(face=faces, slug=st.sampled_from([*HOSTS, *EVENT_TYPES]), sure=often)
    def archive(self, face: Face, slug: str, sure: bool) -> None:
        if sure:
            method = "archive_host" if slug in HOSTS else "archive_event_type"
            self.write(face, method, slug, expected=lambda diary: diary.archived.add(slug))

    @precondition(lambda self: self.diary.archived)
    @rule(face=faces)
    def bring_back(self, face: Face) -> None:
        slug = min(self.diary.archived, key=lambda one: (one not in HOSTS, one))
        method, what = ("save_host", host_of(slug)) if slug in HOSTS else ("save_event_type", EVENT_TYPES[slug])
        self.write(face, method, what, expected=lambda diary: diary.archived.discard(slug))

    # Time, and what is read.

    @rule(minutes=st.sampled_from([1, 1, 5, 30, 60, 240]))
    def wait(self, minutes: int) -> None:
        self.clock.move(timedelta(minutes=minutes))
        self.diary.now = self.clock.now()

    @rule()
    def wait_for_a_start(self) -> None:
        to_come = [one for one in STARTS if one > self.clock.now()]
        if to_come:
            self.clock.set(to_come[0])
            self.diary.now = self.clock.now()

    @rule(face=st.sampled_from(["sync", "asyncio"]))
    def sweep(self, face: str) -> None:
        swept = self.ask((face, True), "sweep")
        assert not isinstance(swept, NxschedError), repr(swept)

    @rule(face=faces, kind=kinds, host=st.none() | hosts, duration=durations)
    def find(self, face: Face, kind: str, host: str | None, duration: timedelta | None) -> None:
        self.compare(face, kind, host, None, duration)

    @precondition(lambda self: self.diary.entries)
    @rule(face=faces, n=picks, duration=durations)
    def find_for_a_move(self, face: Face, n: int, duration: timedelta | None) -> None:
        moving = self.diary.entries[self.pick(n, {"pending", "confirmed"})]
        kind = moving.at.event_type
        self.compare(face, kind, None, moving, duration if lasts(EVENT_TYPES[kind], duration) else None)

    def compare(
        self, face: Face, kind: str, host: str | None, moving: Entry | None, duration: timedelta | None
    ) -> None:
        asked: dict[str, Any] = {"host": host, "duration": duration, "moving": None if moving is None else moving.id}
        found = self.ask(face, "find_slots", kind, start=NOW, end=NOW + 2 * DAY, **asked)
        if refused := self.cannot_look(kind, host, moving, duration):
            assert isinstance(found, NxschedError)
            assert found.code == refused
            return
        assert isinstance(found, Slots), repr(found)
        self.offered(found, kind, host=host, without=moving, duration=duration)
        first = self.ask(face, "find_slots", kind, start=NOW, end=NOW + 2 * DAY, limit=3, **asked)
        assert list(first) == list(found)[:3]
        for start in [*STARTS, *ODD_STARTS]:
            reasons = self.ask(face, "explain", kind, start=start, **asked)
            expected = self.free(kind, start, host, moving, duration)
            assert {one.code for one in reasons} == {*expected.reasons}, f"{kind} at {start}"

    def free(
        self, kind: str, start: datetime, host: str | None, moving: Entry | None, duration: timedelta | None
    ) -> Found:
        """What the diary offers; to what moves, for as many seats and as long as it has."""
        seats = 1
        if moving is not None:
            seats, duration = moving.seats, duration or moving.at.duration
        return self.diary.find(kind, start, host=host, without=moving, seats=seats, duration=duration)

    def cannot_look(
        self, kind: str, host: str | None, moving: Entry | None, duration: timedelta | None = None
    ) -> str | None:
        if kind in self.diary.archived:
            return "event_type_not_found"
        if moving is not None and self.diary.status(moving) not in {"pending", "confirmed"}:
            return "invalid_transition"
        rightly = (host is None or host in _members(kind)) and lasts(EVENT_TYPES[kind], duration)
        return None if rightly else "invalid_input"

    def offered(
        self,
        found: Slots,
        kind: str,
        *,
        host: str | None = None,
        without: Entry | None = None,
        duration: timedelta | None = None,
    ) -> None:
        expected = []
        for n in range(96):
            start = NOW + n * HALF
            one = self.free(kind, start, host, without, duration)
            if one.able:
                expected.append((start, one.able, one.left))
        assert [(slot.start, slot.hosts, slot.seats_left) for slot in found] == expected

    @invariant()
    def lists_all(self) -> None:
        """All that is listed is in the diary, and the other way round."""
        listed = self.acme.bookings(limit=1000)
        expected = self.diary.listed()
        assert [one.id for one in listed] == [one.id for one in expected]
        for entry, one in zip(expected, listed, strict=True):
            self.same(entry, one)

    @rule(face=faces)
    def look_at_the_rest(self, face: Face) -> None:
        held = self.diary.listed({"held"})
        for host in (None, "cyd"):
            theirs = [one for one in held if host is None or host in one.at.hosts]
            for entry, one in zip(theirs, self.ask(face, "holds", host=host), strict=True):
                assert entry.id == one.id
                self.same(entry, one)
        over = self.diary.listed({*BookingStatus} - SHOWN - {"held"})
        page = self.ask(face, "bookings", status=["expired", "released"], limit=1000)
        for entry, one in zip(over, page, strict=True):
            assert entry.id == one.id
            self.same(entry, one)

    def teardown(self) -> None:
        """Every change is in the audit trail and among the events, once, in its order."""
        self.acme.sweep()
        for entry in self.diary.entries:
            trail = [(one.action, one.kind) for one in entry.trail]
            if self.diary.status(entry) == "expired":
                trail.append(("expire", "booking.hold_expired" if entry.was_hold else "booking.expired"))
            history = self.acme.history(entry.id)
            events = sorted(recorded_events(self.acme, entry.id), key=lambda one: one.version)
            assert [one.version for one in history] == [one.version for one in events] == [*range(1, len(trail) + 1)]
            done = [(one.action, event.kind) for one, event in zip(history, events, strict=True)]
            # When it was tidied up that something is over, nobody is told: a person may be erased before, or after.
            assert sorted(done) == sorted(trail)
            assert [one for one in done if one[0] != "expire"] == [one for one in trail if one[0] != "expire"]
            roles = [(one.action, one.role) for one in entry.trail if one.action != "expire"]
            assert [_done(one)[::2] for one in history if one.action != "expire"] == roles
            # Its last event tells of it as it is, and its audit entries, one after the other, come to that too.
            now = written(self.acme.booking(entry.id))
            assert same_json(events[-1].payload["booking"], now)
            replayed: dict[str, Any] = {}
            erased = "erase" in {one.action for one in history}
            for one in history:
                assert one.changes or erased
                replayed |= {name: after for name, (_, after) in one.changes.items()}
            for name in ("status", "start", "end", "hosts", "seats"):
                assert same_json(replayed[name], now[name])


def _done(one: AuditEntry) -> tuple[str, str | None, str | None]:
    return one.action, one.reason, one.actor.role if one.actor else None


def _fits(entry: Entry, said: dict[str, Any]) -> bool:
    """Whether a search finds it."""
    who = entry.attendee
    return (
        said.get("host") in {None, *entry.at.hosts}
        and ("attendee" not in said or said["attendee"].lower() in _words(who))
        and said.get("event_type") in {None, entry.at.event_type}
        and entry.at.start >= said.get("start", NOW)
        and entry.at.start < said.get("end", NOW + 100 * DAY)
        and ("text" not in said or said["text"].lower() in " ".join([*_words(who), entry.reference or ""]))
    )


def _words(who: Attendee | None) -> list[str]:
    return [] if who is None else [word.lower() for word in (who.name, who.email, who.reference) if word]


def _known_by(who: Attendee, *, address: bool) -> dict[str, Any]:
    return {"email": who.email.upper()} if address and who.email else {"reference": who.reference}


def _members(kind: str) -> list[str]:
    return [slug for group in EVENT_TYPES[kind].groups for slug in group.members]


@pytest.fixture
def loop() -> Iterator[Loop]:
    found = Loop()
    yield found
    found.close()


RUNS = int(os.environ.get("NXSCHED_RUNS", "6"))


def test_whatever_is_done_in_whatever_order_comes_to_what_a_diary_by_hand_says(db: Database, loop: Loop) -> None:
    tally: Counter[tuple[str, str]] = Counter()
    engines = {driver: async_engine(db, driver) for driver in ("psycopg", "asyncpg")}
    run_state_machine_as_test(
        cast("type[Bookings]", lambda: Bookings(db, db.app, engines, loop, tally)),
        settings=settings(
            max_examples=RUNS,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=[*HealthCheck],
            print_blob=True,
            report_multiple_bugs=False,
        ),
    )
    assert_sound(db)
    if RUNS >= MANY:
        seen = {one for one, times in tally.items() if times}
        assert sorted(expected() - seen) == []
        print(*(f"{method} {what}: {times}" for (method, what), times in sorted(tally.items())), sep="\n")  # noqa: T201


MANY = 400
"""Runs in which everything is met that can be asked, and whatever can be answered."""


def expected() -> set[tuple[str, str]]:
    """Every method, done and with every keyword; every policy that refuses."""
    found = {(method, policy) for method, policies in REFUSED.items() for policy in policies}
    for face in (Tenant, ManagedBooking, AttendeeBookings):
        for name, method in inspect.getmembers(face, inspect.isfunction):
            if not name.startswith("_") and name not in {"with_token", "for_attendee", "for_caller"}:
                asked = inspect.signature(method).parameters.values()
                keywords = {f"{one.name}=" for one in asked if one.kind is one.KEYWORD_ONLY and one.name != "within"}
                found |= {(name, what) for what in {"done", *keywords}}
    return found


REFUSED = {
    "place_hold": ["most_holds", "most_upcoming", "slot_taken", "slot_unavailable", "event_type_not_found"],
    "book": ["most_upcoming", "slot_taken", "slot_unavailable", "event_type_not_found", "invalid_input"],
    "book_series": ["most_upcoming", "slot_taken", "slot_unavailable"],
    "confirm_hold": ["hold_expired", "invalid_transition", "slot_taken", "slot_unavailable"],
    "release_hold": ["invalid_transition"],
    "cancel": ["cancel_notice", "invalid_transition"],
    "cancel_series": ["cancel_notice"],
    "reschedule": ["reschedule_notice", "most_moves", "slot_taken", "slot_unavailable", "invalid_transition"],
    "reassign": ["slot_taken", "slot_unavailable", "invalid_input", "invalid_transition"],
    **{one: ["invalid_transition"] for one in (*MARKS, "update", "manage_token")},
}
