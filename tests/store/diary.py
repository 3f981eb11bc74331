"""A tenant's diary kept by hand: what bookings come to by the rules of the docs, in memory and in plain Python.

It is slow and knows one world alone: hosts who work from 9 to 17 UTC, Monday to Friday, and starts every half
hour. What nxsched does is compared with it, call by call.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from nxsched import Attendee, BlockedPeriod, EventType, HostGroup, Limit, Policies, Question, Strategy
from store.conftest import HALF, HOUR, NOW

HOSTS = ("ada", "bob", "cyd")
HOST_LIMITS = {"cyd": 3}
"""Occurrences a day."""

EVENT_TYPES = {
    one.slug: one
    for one in (
        EventType(slug="visit", duration=HALF, align="clock", hosts=["ada"]),
        EventType(slug="any", duration=HALF, align="clock", hosts=["ada", "bob", "cyd"]),
        EventType(
            slug="fair",
            duration=HALF,
            align="clock",
            hosts=[HostGroup(members=["cyd", "bob", "ada"], need=2)],
            strategy=Strategy(by="fewest_bookings", per="day"),
        ),
        EventType(
            slug="both",
            duration=HALF,
            align="clock",
            buffer_after=HALF,
            hosts=[HostGroup(members=["ada", "bob"], need="all")],
        ),
        EventType(slug="class", duration=HALF, align="clock", capacity=3, hosts=["cyd"], location="Hall"),
        EventType(slug="course", duration=HALF, align="clock", capacity=2, hosts=["bob", "cyd"], strategy="priority"),
        EventType(slug="asked", duration=HALF, align="clock", hosts=["bob"], requires_approval=True),
        EventType(
            slug="limited", duration=HALF, align="clock", hosts=["ada", "bob"], limits=[Limit(per="day", count=2)]
        ),
        EventType(
            slug="long",
            duration=HALF,
            durations=[HOUR],
            step=HALF,
            align="clock",
            hosts=["ada", "bob", "cyd"],
            strategy=Strategy(by="weighted", per="day", weights={"bob": 2, "cyd": 3}),
            questions=[Question(key="topic", label="What is it about?")],
        ),
        EventType(
            slug="strict",
            duration=HALF,
            align="clock",
            hosts=["ada", "cyd"],
            policies=Policies(cancel_notice=HOUR, reschedule_notice=HOUR, most_moves=1, most_holds=1, most_upcoming=2),
        ),
    )
}
ALIVE = {"held", "pending", "confirmed", "completed", "no_show"}
SHOWN = {"pending", "confirmed", "cancelled", "declined", "completed", "no_show"}
STANDS = {"pending", "confirmed", "completed", "no_show"}

Span = tuple[datetime, datetime]


class Refused(Exception):
    """What nxsched has to refuse, by its error's code; the codes of the reasons, where it is about a slot."""

    def __init__(self, code: str, reasons: Collection[str] | None = None, policy: str | None = None) -> None:
        super().__init__(code)
        self.code, self.policy = code, policy
        self.reasons = None if reasons is None else sorted(reasons)


def unavailable(reasons: Collection[str]) -> Refused:
    """A slot that is only refused because somebody has it is taken."""
    return Refused(
        "slot_taken" if {"busy", "not_enough_hosts", "full"}.issuperset(reasons) else "slot_unavailable", reasons
    )


class Step(NamedTuple):
    """What was done with a booking, the event that says so, why, and in which role."""

    action: str
    kind: str
    reason: str | None = None
    role: str | None = None


class Said(NamedTuple):
    """What somebody says with a booking, besides who they are."""

    answers: dict[str, Any] = {}  # noqa: RUF012 - nobody changes it
    reference: str | None = None
    metadata: dict[str, Any] = {}  # noqa: RUF012 - nor this


NOTHING = Said()


@dataclass(eq=False)
class Occurrence:
    """Where bookings stand; `made` is when each host counts as booked."""

    event_type: str
    start: datetime
    duration: timedelta
    hosts: tuple[str, ...]
    busy: Span
    made: dict[str, datetime]


@dataclass(eq=False)
class Entry:
    """A booking or hold. `ends` is when it is over by itself; `trail` is what was done, with its event and why."""

    at: Occurrence
    status: str
    attendee: Attendee | None
    seats: int
    ends: datetime | None = None
    id: str = ""
    series: str | None = None
    location: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)
    reference: str | None = None
    sequence: int = 0
    moves: int = 0
    trail: list[Step] = field(default_factory=list)

    @property
    def kind(self) -> EventType:
        return EVENT_TYPES[self.at.event_type]

    @property
    def was_hold(self) -> bool:
        """Of one whose time is over: whether it was a hold, and not a request."""
        return self.status == "held"

    def done(self, action: str, kind: str, reason: str | None = None) -> None:
        self.trail.append(Step(action, f"booking.{kind}", reason))


@dataclass(frozen=True)
class Found:
    """Who can take a start, or the occurrence that can be joined; else the codes of all that refuses it."""

    able: tuple[str, ...] = ()
    joins: Occurrence | None = None
    left: int = 0
    reasons: tuple[str, ...] = ()


@dataclass
class Diary:
    """Everything that is known of one tenant; `now` is moved by whoever keeps it."""

    name: str = "Acme"
    now: datetime = NOW
    entries: list[Entry] = field(default_factory=list)
    archived: set[str] = field(default_factory=set)
    blocked: dict[str, tuple[str | None, Span]] = field(default_factory=dict)
    busy: dict[tuple[str, str], list[Span]] = field(default_factory=dict)

    # What stands.

    def status(self, entry: Entry) -> str:
        over = entry.status in {"held", "pending"} and entry.ends is not None and entry.ends <= self.now
        return "expired" if over else entry.status

    def alive(self, without: Entry | None = None) -> list[Entry]:
        return [one for one in self.entries if one is not without and self.status(one) in ALIVE]

    def occurrences(self, without: Entry | None = None) -> list[Occurrence]:
        return list(dict.fromkeys(one.at for one in self.alive(without)))

    def taken(self, at: Occurrence, without: Entry | None = None) -> int:
        """Seats."""
        return sum(one.seats for one in self.alive(without) if one.at is at)

    def listed(self, statuses: Collection[str] = SHOWN) -> list[Entry]:
        found = [one for one in self.entries if self.status(one) in statuses]
        return sorted(found, key=lambda one: (one.at.start, one.id))

    # The rules.

    def find(
        self,
        slug: str,
        start: datetime,
        *,
        seats: int = 1,
        host: str | None = None,
        duration: timedelta | None = None,
        without: Entry | None = None,
    ) -> Found:
        """What `find_slots` offers at a start, or what `explain` says of it."""
        kind, reasons = EVENT_TYPES[slug], []
        length = duration or kind.duration
        if start < self.now:
            reasons.append("past")
        if kind.requires_approval and start <= self.now:
            reasons.append("notice")
        standing = [one for one in self.occurrences(without) if (one.event_type, one.start) == (slug, start)]
        full = standing if kind.capacity > 1 else []
        if joins := self._joined(kind, full, seats, host, without):
            left = kind.capacity - self.taken(joins, without)
            return Found(reasons=tuple(reasons)) if reasons else Found(joins.hosts, joins, left)
        of_day = [one for one in self.occurrences(without) if one.start.date() == start.date()]
        if start.minute % 30:
            reasons.append("off_grid")
        own = [one for one in of_day if one.event_type == slug]
        reasons += ["event_limit" for limit in kind.limits if len(own) >= (limit.count or 0)]
        own_time, span = _times(kind, start, length)
        unable = {
            member: self.unable(member, own_time, span, without) for group in kind.groups for member in group.members
        }
        able: list[str] = []
        short: list[tuple[Sequence[str], list[str]]] = []
        for group in kind.groups:
            members: Sequence[str] = group.members
            free = [member for member in members if not unable[member]]
            wanted = host in members
            if (wanted and host not in free) or len(free) < group.needed:
                short.append(([str(host)] if wanted and host not in free else members, free))
            able += [str(host)] if wanted and group.needed == 1 else free
        if short:
            hosts = {member for members, _ in short for member in members}
            reasons += ["full" for one in full if hosts.intersection(one.hosts)]
            reasons += [code for members, _ in short for member in members for code in unable[member]]
            reasons += ["not_enough_hosts" for _ in short]
        return Found(reasons=tuple(reasons)) if reasons else Found(tuple(able), left=kind.capacity)

    def _joined(
        self, kind: EventType, standing: Iterable[Occurrence], seats: int, host: str | None, without: Entry | None
    ) -> Occurrence | None:
        with_room = [
            (-taken, [HOSTS.index(slug) for slug in one.hosts], n, one)
            for n, one in enumerate(standing)
            if (taken := self.taken(one, without)) + seats <= kind.capacity and (host is None or host in one.hosts)
        ]
        return min(with_room)[-1] if with_room else None

    def unable(self, slug: str, own_time: Span, span: Span, without: Entry | None = None) -> list[str]:
        """Why a host cannot take a start: rules 10 to 12."""
        start, end = own_time
        nine, five = (start.replace(hour=hour, minute=0) for hour in (9, 17))
        open_ = start.weekday() < 5 and nine <= start and end <= five
        reasons = [] if open_ and slug not in self.archived else ["outside_hours"]
        reasons += [
            "blocked" for host, block in self.blocked.values() if host in {None, slug} and _meet(block, own_time)
        ]
        theirs = [one for one in self.occurrences(without) if slug in one.hosts]
        outside = [one for (host, _), several in self.busy.items() if host == slug for one in several]
        reasons += ["busy" for one in _united(theirs, outside) if _meet(one, span)]
        of_day = [one for one in theirs if one.start.date() == start.date()]
        return [*reasons, *["host_limit"] * (len(of_day) >= HOST_LIMITS.get(slug, 1000))]

    def claimed(self, slug: str, span: Span, without: Entry | None = None) -> bool:
        return any(slug in one.hosts and _meet(one.busy, span) for one in self.occurrences(without))

    def place(  # noqa: PLR0913 - what is asked
        self,
        slug: str,
        start: datetime,
        *,
        seats: int = 1,
        host: str | None = None,
        duration: timedelta | None = None,
        force: bool = False,
        held: Sequence[str] = (),
        without: Entry | None = None,
        since: datetime | None = None,
    ) -> Occurrence:
        """Where a booking comes to stand: new, or one that it joins."""
        self._can_ask(slug, seats, host, duration)
        kind = EVENT_TYPES[slug]
        length = duration or kind.duration
        found = self.find(slug, start, seats=seats, host=host, duration=duration, without=without)
        if found.reasons and not force:
            raise unavailable(found.reasons)
        standing = [one for one in self.occurrences(without) if (one.event_type, one.start) == (slug, start)]
        if kind.capacity > 1 and (joins := self._joined(kind, standing, seats, host, without)):
            return joins
        _, span = _times(kind, start, length)
        free = set(found.able)
        if force:
            free = {one for one in _members(kind) if one not in self.archived and not self.claimed(one, span, without)}
        chosen = self._chosen(kind, start, free, host, found.able, held, without)
        if chosen is None:
            busy = [code for code in found.reasons if code == "busy"]
            raise unavailable(busy or found.reasons)
        now = since or self.now
        made = {one: now + timedelta(microseconds=rank) for one, rank in chosen.items()}
        return Occurrence(slug, start, length, tuple(chosen), span, made)

    def _chosen(  # noqa: PLR0913, PLR0917 - what it goes by
        self,
        kind: EventType,
        start: datetime,
        free: Collection[str],
        host: str | None,
        preferred: Collection[str],
        held: Sequence[str],
        without: Entry | None,
    ) -> dict[str, int] | None:
        """Rule 29: in each group who was asked for, had it before, could by the rules, and then whose turn it is."""
        pool = any(len(group.members) > group.needed for group in kind.groups)
        by = kind.chosen_by.by
        found: dict[str, int] = {}
        for group in kind.groups:
            members = list(group.members)
            able = [slug for slug in members if slug in free]
            if len(able) < group.needed or (host in members and host not in able):
                return None

            def turn(slug: str) -> tuple[float, datetime]:
                if by == "priority" or not pool:
                    return 0, NOW
                there = self.occurrences(without)
                day = [one for one in there if slug in one.hosts and one.start.date() == start.date()]
                latest = max((one.made[slug] for one in self.occurrences() if slug in one.hosts), default=_NEVER)
                if by == "weighted":
                    return (len(day) + 1) / kind.chosen_by.weights.get(slug, 1), latest
                return len(day) if by == "fewest_bookings" else 0, latest

            able.sort(key=lambda slug: (slug != host, slug not in held, slug not in preferred, turn(slug)))
            chosen = able[: group.needed]
            found |= {slug: able.index(slug) for slug in members if slug in chosen}
        return found

    # What is done.

    def keep_policies(self, slug: str, who: Attendee | None, more: int, *, hold: bool, bound: bool) -> None:
        policies = EVENT_TYPES[slug].policies
        if who is None or not (who.reference or who.email) or not bound:
            return
        theirs = [
            one
            for one in self.alive()
            if one.at.event_type == slug and one.attendee is not None and one.attendee.reference == who.reference
        ]
        holds = [one for one in theirs if one.status == "held"]
        if hold and policies.most_holds is not None and len(holds) >= policies.most_holds:
            raise Refused("policy_violation", policy="most_holds")
        to_come = [one for one in theirs if one.at.start > self.now]
        if policies.most_upcoming is not None and len(to_come) + more > policies.most_upcoming:
            raise Refused("policy_violation", policy="most_upcoming")

    def hold(self, slug: str, start: datetime, ttl: timedelta, *, bound: bool = False, **options: Any) -> Entry:
        who = options.pop("attendee", None)
        seats = self._asks_rightly(slug, options)
        self.keep_policies(slug, who, 1, hold=True, bound=bound)
        at = self.place(slug, start, **options)
        ends = self.now + ttl
        if EVENT_TYPES[slug].requires_approval:
            ends = min(ends, start)
        entry = Entry(at, "held", who, seats, ends, location=EVENT_TYPES[slug].location)
        entry.done("hold", "held")
        self.entries.append(entry)
        return entry

    def book(
        self,
        slug: str,
        starts: Sequence[datetime],
        who: Attendee,
        *,
        said: Said = NOTHING,
        bound: bool = False,
        **options: Any,
    ) -> list[Entry]:
        """One, or a series: all or none, each with the hosts of the one before it where they can."""
        force = options.get("force", False)
        seats = self._asks_rightly(slug, options)
        if not force:
            self.keep_policies(slug, who, len(starts), hold=False, bound=bound)
        kind = EVENT_TYPES[slug]
        made: list[Entry] = []
        refused: list[Refused] = []
        before = len(self.entries)
        held: Sequence[str] = ()
        for start in sorted(starts):
            try:
                at = self.place(slug, start, held=held, since=_LATER if len(starts) > 1 else None, **options)
            except Refused as error:
                refused.append(error)
                continue
            held = at.hosts
            asks = kind.requires_approval and not (force and start <= self.now)
            entry = Entry(at, "pending" if asks else "confirmed", who, seats, start if asks else None)
            entry.location, (entry.answers, entry.reference, entry.metadata) = kind.location, said
            entry.done(*(("request", "created") if asks else ("book", "confirmed")))
            self.entries.append(entry)
            made.append(entry)
        if refused:
            del self.entries[before:]
            raise refused[0]
        for entry in made:  # within the series they were the last of all
            if len(starts) > 1:
                entry.at.made = {
                    slug: self.now + (at - _LATER) if at >= _LATER else at for slug, at in entry.at.made.items()
                }
        return made

    def _asks_rightly(self, slug: str, options: dict[str, Any]) -> int:
        """How many seats are wanted."""
        seats = int(options.get("seats", 1))
        self._can_ask(slug, seats, options.get("host"), options.get("duration"))
        return seats

    def _can_ask(self, slug: str, seats: int, host: str | None, duration: timedelta | None) -> None:
        if slug in self.archived:
            raise Refused("event_type_not_found")
        kind = EVENT_TYPES[slug]
        if seats > kind.capacity or host not in {None, *_members(kind)} or not lasts(kind, duration):
            raise Refused("invalid_input")

    def confirm(self, entry: Entry, who: Attendee, *, said: Said = NOTHING, if_free: bool, bound: bool = False) -> None:
        status = self.status(entry)
        there = (entry.attendee, entry.answers, entry.reference, entry.metadata)
        if status in {"pending", "confirmed"} and there == (who, *said):
            return
        if not entry.was_hold:
            raise Refused("invalid_transition")
        kind = entry.kind
        ends = entry.at.start if kind.requires_approval else None
        if status == "held" and not (ends is not None and ends <= self.now):
            entry.done(*(("request", "created") if ends else ("confirm", "confirmed")))
        elif not if_free:
            raise Refused("hold_expired")
        else:
            if entry.at.event_type in self.archived:
                raise Refused("slot_unavailable")
            over = entry if status == "held" else None  # its request would be over: the hold ends for it
            self.keep_policies(entry.at.event_type, who, 1, hold=False, bound=bound)
            before = entry.at
            at = self.place(
                before.event_type,
                before.start,
                seats=entry.seats,
                duration=before.duration,
                held=before.hosts,
                without=over,
            )
            entry.done("expire", "hold_expired")
            entry.at = at
            entry.done(*(("request", "created") if ends else ("book", "confirmed")))
        entry.status, entry.ends, entry.attendee = "pending" if ends else "confirmed", ends, who
        entry.answers, entry.reference, entry.metadata = said

    def release(self, entry: Entry) -> None:
        if entry.status == "released":
            return
        if not entry.was_hold:
            raise Refused("invalid_transition")
        if self.status(entry) == "held":
            entry.status = "released"
            entry.done("release", "hold_released")

    def mark(self, entry: Entry, status: str, *, reason: str | None = None, bound: bool = False) -> None:
        """Cancel, decline, approve, complete, or say that nobody came."""
        if entry.status == status:
            return
        before, action, kind = _MARKS[status]
        if self.status(entry) not in before:
            raise Refused("invalid_transition")
        if status == "cancelled":
            self._keep_notice(entry, "cancel_notice", bound=bound)
            entry.sequence += 1
        entry.status = status
        entry.done(action, kind, reason)

    def _keep_notice(self, entry: Entry, policy: str, *, bound: bool) -> None:
        notice = getattr(entry.kind.policies, policy)
        if bound and notice is not None and self.now > entry.at.start - notice:
            raise Refused("policy_violation", policy=policy)

    def cancel_series(self, id_: str, *, reason: str | None, bound: bool) -> list[Entry]:
        series = [one for one in self.entries if one.series == id_]
        to_come = [one for one in series if self.status(one) in {"pending", "confirmed"} and one.at.start > self.now]
        for one in to_come:
            self._keep_notice(one, "cancel_notice", bound=bound)
        for one in to_come:
            self.mark(one, "cancelled", reason=reason)
        return sorted(series, key=lambda one: (one.at.start, one.id))

    def reschedule(  # noqa: PLR0913 - what is asked
        self,
        entry: Entry,
        start: datetime,
        *,
        duration: timedelta | None = None,
        host: str | None = None,
        reason: str | None = None,
        force: bool = False,
        bound: bool = False,
    ) -> None:
        if self.status(entry) not in {"pending", "confirmed"}:
            raise Refused("invalid_transition")
        asked: dict[str, Any] = {"duration": duration or entry.at.duration, "host": host, "force": force}
        if (start, asked["duration"]) == (entry.at.start, entry.at.duration) and host in {None, *entry.at.hosts}:
            return
        policies = entry.kind.policies
        self._keep_notice(entry, "reschedule_notice", bound=bound)
        if bound and policies.most_moves is not None and entry.moves >= policies.most_moves:
            raise Refused("policy_violation", policy="most_moves")
        if entry.at.event_type in self.archived:
            raise Refused("slot_unavailable")
        slug, held = entry.at.event_type, entry.at.hosts
        at = self.place(slug, start, seats=entry.seats, **asked, held=held, without=entry)
        if entry.status == "pending" and start <= self.now:
            raise Refused("slot_unavailable", ["past"])
        entry.at = at
        entry.ends = start if entry.status == "pending" else None
        entry.moves += 1
        entry.sequence += 1
        entry.done("reschedule", "rescheduled", reason)

    def reassign(self, entry: Entry, host: str, instead_of: str | None, reason: str | None) -> None:
        if self.status(entry) not in {"pending", "confirmed"}:
            raise Refused("invalid_transition")
        at = entry.at
        leaving = instead_of or (at.hosts[0] if len(at.hosts) == 1 else None)
        if at.hosts == (host,) if instead_of is None else instead_of not in at.hosts and host in at.hosts:
            return  # it was done before
        if leaving not in at.hosts or host in at.hosts:
            raise Refused("invalid_input")
        if not any({host, leaving}.issubset(group.members) for group in entry.kind.groups):
            raise Refused("invalid_input")
        if reasons := self.unable(host, (at.start, at.start + at.duration), at.busy):
            raise unavailable(reasons)
        order = _members(entry.kind)
        hosts = tuple(sorted({*at.hosts, host} - {leaving}, key=order.index))
        new = Occurrence(at.event_type, at.start, at.duration, hosts, at.busy, {**at.made, host: self.now})
        for one in self.alive():
            if one.at is at:
                one.at = new
                one.sequence += 1
                one.done("reassign", "reassigned", reason)

    def update(self, entry: Entry, location: str | None, metadata: dict[str, Any] | None) -> None:
        if self.status(entry) not in STANDS:
            raise Refused("invalid_transition")
        place = entry.location if location is None else location or None
        said = entry.metadata if metadata is None else metadata
        if (place, said) != (entry.location, entry.metadata):
            entry.sequence += place != entry.location
            entry.location, entry.metadata = place, said
            entry.done("update", "updated")

    def erase(self, reference: str) -> int:
        theirs = [one for one in self.entries if one.attendee is not None and one.attendee.reference == reference]
        for one in theirs:
            if one.location not in {None, one.kind.location}:
                one.location = None
                one.sequence += 1
            one.attendee, one.metadata, one.answers, one.reference = None, {}, {}, None
            one.trail = [step._replace(reason=None) for step in one.trail]
            one.done("erase", "updated")
        return len(theirs)


_NEVER = NOW - timedelta(days=10_000)
_LATER = NOW + timedelta(days=10_000)
_MARKS = {
    "cancelled": ({"pending", "confirmed"}, "cancel", "cancelled"),
    "declined": ({"pending"}, "decline", "declined"),
    "confirmed": ({"pending"}, "approve", "confirmed"),
    "completed": ({"confirmed", "no_show"}, "complete", "completed"),
    "no_show": ({"confirmed", "completed"}, "mark_no_show", "no_show"),
}


def _members(kind: EventType) -> list[str]:
    return [slug for group in kind.groups for slug in group.members]


def lasts(kind: EventType, duration: timedelta | None) -> bool:
    """Whether it can be had for so long."""
    return duration in {None, kind.duration, *kind.durations}


def _times(kind: EventType, start: datetime, duration: timedelta) -> tuple[Span, Span]:
    """Its own time, and that with its buffers."""
    end = start + duration
    return (start, end), (start - kind.buffer_before, end + kind.buffer_after)


def _meet(one: Span, other: Span) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def _united(theirs: Iterable[Occurrence], outside: Iterable[Span]) -> Iterator[Span]:
    yield from (one.busy for one in theirs)
    yield from outside


def period(span: Span) -> BlockedPeriod:
    """Blocked time as nxsched takes it."""
    return BlockedPeriod(start=span[0], end=span[1])
