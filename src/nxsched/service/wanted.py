"""Slots of an event type that somebody wants: one, or all of a series. What they are judged by, and who gets them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection

from nxsched.domain.bookings import Attendee
from nxsched.domain.bounds import MAX_OPEN_HOLDS
from nxsched.domain.instants import epoch_exact, instant
from nxsched.domain.refusals import Refusal
from nxsched.errors import InvalidInput, PolicyViolation, SlotTaken, SlotUnavailable
from nxsched.service.choosing import Choice, Held, Turns, choose, is_pool
from nxsched.service.ids import new_id
from nxsched.service.policies import bind, keep_for_attendee
from nxsched.service.slots import Asked, able_at, explained, question
from nxsched.service.taking import Spot, in_the_way
from nxsched.service.tools import Tools
from nxsched.slots.explain import refusals
from nxsched.slots.intervals import Interval
from nxsched.slots.limits import during, within
from nxsched.slots.prepared import Prepared
from nxsched.slots.seats import Occurrence, in_order
from nxsched.store.changes import Place
from nxsched.store.facts import SOMEBODY, Counts, Found, counts_of
from nxsched.store.ground import Ground, fetch_ground
from nxsched.store.locks import Locks
from nxsched.store.settings import Moved, Settings, keep_seats

_CLASH = frozenset({"busy", "not_enough_hosts", "full"})
"""What is said of a slot that is only refused because somebody has it."""

_SAID: Final = 3
"""Reasons that the words of an error repeat; all of them are among its facts."""

_IN_THE_SERIES: Final = "has the one before it in the series"

_JUST_NOW: Final = 1 << 62
"""When a host was booked last whom this series has booked, in microseconds: after all others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The slots that are wanted; `force` skips the rules, of holds there may not be too many, `held` had it before.

    `moved` is the booking that is to be moved there: it is judged as if it were not there; `beside` is its occurrence,
    where something else in it has expired. `attendee` is who wants them, where that is counted.
    """

    event_type: str
    starts: Sequence[datetime]
    duration: timedelta | None
    host: str | None
    seats: int
    force: bool = False
    hold: bool = False
    held: Held = field(default_factory=Held)
    moved: Moved | None = None
    beside: str | None = None
    attendee: Attendee | None = None
    seconds: Sequence[int] = field(init=False)

    def __post_init__(self) -> None:
        """Bring the starts into their order, `seconds` since the epoch."""
        starts = sorted(self.starts) if len(self.starts) > 1 else self.starts
        object.__setattr__(self, "starts", starts)
        object.__setattr__(self, "seconds", [epoch_exact("start", start) for start in starts])

    @property
    def moves(self) -> bool:
        """Whether a booking gives up its place for it."""
        return self.moved is not None

    @property
    def known(self) -> Counts:
        """Holds are always counted."""
        return Counts(holds=True, theirs=self.attendee) if self.hold else _NOTHING

    def ground(self, connection: Connection, tools: Tools, counts: Counts) -> Ground:
        """The event type and what is taken around the starts. Raises `InvalidInput` for what can never be had."""
        found = fetch_ground(
            connection,
            tools.tenant,
            self.event_type,
            self.starts,
            tools.now,
            counts,
            duration=self.duration,
            moved=self.moved,
        )
        event_type = found.settings.event_type
        if self.moves:
            keep_seats(self.seats, event_type)
        if self.seats > event_type.capacity:
            raise InvalidInput(field="seats", reason=f"must be at most {event_type.capacity}, not {self.seats}")
        if self.host is not None and self.host not in found.settings.hosts:
            raise InvalidInput(field="host", reason=f"{self.host} is in no host group of the event type")
        return found

    def counts(self, settings: Settings, tools: Tools) -> Counts:
        """Limits, seats, whose turn it is in a pool; holds, and what the attendee has."""
        event_type = settings.event_type
        by = event_type.chosen_by
        pool = is_pool(event_type)
        theirs = self.attendee if self.hold or self._kept(settings, tools) else None
        found = counts_of(settings, self._span, per=by.per if pool and by.counts else None)
        if not (pool or self.hold or theirs):
            return found
        return replace(found, latest=pool and by.by != "priority", holds=self.hold, theirs=theirs)

    def locks(self, ground: Ground) -> Locks:
        """What is counted, and hosts whose time something has that has expired.

        That is the event type, for its limits, its seats, its pool or what an attendee may have of it, and then every
        host that may be chosen. A plain booking needs no lock: the constraint sees overlaps, and there is nothing else
        to see. A series takes them all, before anything of it is there.
        """
        settings, event_type = ground.settings, ground.settings.event_type
        chosen = bool(event_type.limits) or is_pool(event_type) or len(self.starts) > 1
        policies = event_type.policies
        counts = event_type.capacity > 1 or policies.most_holds or policies.most_upcoming
        number = settings.number if chosen or counts else None
        if not (chosen or settings.limited or any(ground.found.expired.values())):
            return Locks(number)
        hosts = set(settings.hosts)
        for group in event_type.groups:
            if group.needed == 1 and self.host in group.members:
                hosts -= {*group.members} - {self.host}
        numbers = {settings.numbers[slug] for slug in hosts}
        if chosen or settings.limited:
            return Locks(number, frozenset(numbers))
        before, after = (int(one.total_seconds()) for one in (event_type.buffer_before, event_type.buffer_after))
        lasts = int(event_type.duration.total_seconds())
        start = self.seconds[0]
        return Locks(number, frozenset(in_the_way(ground.found, numbers, start - before, start + lasts + after)))

    def judged(self, connection: Connection, ground: Ground, tools: Tools, locked: Locks) -> Sequence[Spot]:
        """The hosts who take each slot, judged as if those before it were booked. Raises the refusals of all."""
        if ground.found.holds >= MAX_OPEN_HOLDS:
            words = (
                f"{MAX_OPEN_HOLDS} holds stand already, as many as a tenant may have: release some, or let them expire"
            )
            raise PolicyViolation(words, policy="open_holds")
        if self.attendee is not None and not self.force:
            keep_for_attendee(ground.settings.event_type, ground.found.theirs, tools, len(self.starts), hold=self.hold)
        judge = _Judge(self, connection, ground, tools, locked)
        if len(self.starts) == 1:
            return [judge.spot(self.starts[0], self.seconds[0])]
        return judge.series()

    @property
    def _span(self) -> Interval:
        return self.seconds[0], self.seconds[-1] + 1

    def _kept(self, settings: Settings, tools: Tools) -> bool:
        """Whether a policy says how much one attendee may have, and binds who asks."""
        policies = settings.event_type.policies
        return policies.most_upcoming is not None and not self.force and bind(policies, tools)


_NOTHING: Final = Counts()


class _Judge:
    """One look at the ground."""

    def __init__(self, wanted: Wanted, connection: Connection, ground: Ground, tools: Tools, locked: Locks) -> None:
        self.wanted = wanted
        self.connection = connection
        self.settings = ground.settings
        self.found = ground.found
        self.tools = tools
        self.locked = locked
        self.held = wanted.held

    def series(self) -> list[Spot]:
        """A spot for each start, each with the hosts of the one before it where they can."""
        self.found = _own(self.found)
        spots: list[Spot] = []
        refused: dict[datetime, Sequence[Refusal]] = {}
        first: SlotUnavailable | None = None
        for start, at in zip(self.wanted.starts, self.wanted.seconds, strict=True):
            try:
                spot = self.spot(start, at)
            except SlotUnavailable as error:
                refused |= error.refused
                first = first or error
                continue
            spots.append(spot)
            self._book(spot)
            self.held = Held(spot.choice.hosts, _IN_THE_SERIES)
        if first is not None:
            first.refused = refused
            raise first
        return spots

    def spot(self, start: datetime, at: int) -> Spot:
        """Who takes a start, and where it will stand."""
        wanted, settings = self.wanted, self.settings
        asked = question(settings, self.found, (at, at + 1), self.tools.now, wanted.host, wanted.seats)
        able = able_at(asked, at)
        reasons: list[Refusal] = [] if able else refusals(asked, at)
        if reasons and not wanted.force:
            raise self._refusal(start, self._named(start, at) or reasons)
        if one := asked.joinable.get(at):
            return self._joining(one)
        before, after = at - asked.before, at + asked.duration + asked.after
        free = set(able)
        if wanted.force:
            free = {slug for slug, host in settings.hosts.items() if not host.archived}
            free = {slug for slug in free if not _claimed(self.found, slug, before, after)}
        choice = choose(settings.event_type, free, self._turns(asked, at), wanted.host, preferred=able, held=self.held)
        if choice is None:
            raise self._refusal(start, self._named(start, at) or reasons)
        hosts = [settings.numbers[slug] for slug in choice.hosts]
        place = Place(
            occurrence=new_id(),
            event_type=settings.number,
            hosts=hosts,
            since=choice.ranks,
            counted=self.locked & hosts,
            busy_from=instant(before),
            busy_until=instant(after),
        )
        return Spot(choice, place, instant(at), instant(at + asked.duration))

    def _named(self, start: datetime, at: int) -> Sequence[Refusal]:
        """What refuses a start with the names of what is in the way, which is asked again, and may be gone by now.

        Not in a series: what is in the way there may be the series itself, and there may be hundreds of starts.
        """
        wanted = self.wanted
        if len(wanted.starts) > 1:
            return ()
        asked = Asked(event_type=wanted.event_type, start=start, end=start, duration=wanted.duration, host=wanted.host)
        return explained(self.connection, self.settings, asked, at, self.tools, wanted.seats)

    def _turns(self, asked: Prepared, at: int) -> Turns:
        """Whose turn it is, by how the event type chooses; nothing where that is the order of the group."""
        settings, found, by = self.settings, self.found, self.settings.event_type.chosen_by
        latest = {slug: found.latest[no] for slug, no in settings.numbers.items() if no in found.latest}
        if not by.counts:
            return Turns(latest=latest)
        of_host = found.facts.of_host
        spans = during(by.per, at, asked.timezone)
        return Turns({slug: within(spans, of_host.get(slug, ())) for slug in settings.numbers}, latest)

    def _joining(self, one: Occurrence) -> Spot:
        """The seats that are left of an occurrence: nothing new is claimed, and nobody is chosen."""
        start, end = instant(one.start), instant(one.end)
        place = Place(
            occurrence=self.found.occurrences[one.start, one.hosts],
            event_type=self.settings.number,
            hosts=(),
            since=(),
            counted=self.locked & (),
            busy_from=start,
            busy_until=end,
            joins=True,
        )
        return Spot(Choice(in_order(one.hosts, self.settings.terms.cast.places), None), place, start, end)

    def _book(self, spot: Spot) -> None:
        """Take what a spot needs as booked, for those that come after it; what it joins was counted before."""
        if spot.place.joins:
            return
        facts, numbers = self.found.facts, self.settings.numbers
        lasts = int(spot.start.timestamp()), int(spot.end.timestamp())
        busy = int(spot.place.busy_from.timestamp()), int(spot.place.busy_until.timestamp())
        taken, of_host = {**facts.taken}, {**facts.of_host}
        for slug in spot.choice.hosts:
            taken[slug] = [*taken.get(slug, ()), (*busy, SOMEBODY)]
            of_host[slug] = sorted([*of_host.get(slug, ()), lasts])
        latest = {**self.found.latest, **{numbers[slug]: _JUST_NOW for slug in spot.choice.hosts}}
        facts = replace(facts, taken=taken, of_event_type=[*facts.of_event_type, lasts], of_host=of_host)
        self.found = replace(self.found, facts=facts, latest=latest)

    def _refusal(self, start: datetime, reasons: Sequence[Refusal]) -> SlotUnavailable:
        if self.wanted.force:  # no rule refuses it
            reasons = [reason for reason in reasons if reason.code == "busy"] or reasons
        return refusal(start, reasons)


def refusal(start: datetime, reasons: Sequence[Refusal]) -> SlotUnavailable:
    """The error that says why a start cannot be had."""
    if {reason.code for reason in reasons} <= _CLASH:
        host = next((reason.host for reason in reasons if reason.code == "busy"), None)
        return SlotTaken(start=start, host=host, reasons=reasons)
    telling = [reason for reason in reasons if reason.code != "not_enough_hosts"] or reasons
    why = " ".join(reason.sentence() for reason in telling[:_SAID])
    return SlotUnavailable(f"{start.isoformat()} cannot be booked. {why}", start=start, reasons=reasons)


def _own(found: Found) -> Found:
    """What is taken, for us to add to; what lies near two starts was read twice."""
    taken = {slug: sorted(set(times), key=lambda one: one[:2]) for slug, times in found.facts.taken.items()}
    return replace(found, facts=replace(found.facts, taken=taken))


def _claimed(found: Found, slug: str, start: int, end: int) -> bool:
    """Whether a booking or hold has the host's time; busy time from outside is none."""
    return any(a < end and start < b for a, b, origin in found.facts.taken.get(slug, ()) if origin is not None)
