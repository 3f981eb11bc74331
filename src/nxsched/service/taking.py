"""Take a slot, for a hold or a booking: judge, choose the hosts, claim their time. The heart of it all.

The order matters. What is counted (limits, least recently booked) is read in a statement after that of the locks that
guard it, where READ COMMITTED shows what others have committed meanwhile. Overlaps need no lock: the database's
constraint decides, and a claim that comes too late is no error but a row that is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection

from nxsched.domain.bookings import Booking
from nxsched.domain.bounds import MAX_OPEN_HOLDS
from nxsched.domain.events import changes, payload
from nxsched.domain.instants import epoch_exact, instant
from nxsched.domain.refusals import Refusal
from nxsched.errors import InvalidInput, PolicyViolation, SlotTaken, SlotUnavailable, TransactionConflict
from nxsched.service.choosing import Choice, choose, is_pool
from nxsched.service.ending import expire_in_the_way
from nxsched.service.ids import new_id
from nxsched.service.slots import Asked, able_at, explained, question
from nxsched.service.tools import Tools
from nxsched.slots.explain import refusals
from nxsched.slots.seats import Occurrence, in_order
from nxsched.store.changes import Change, Place, Won
from nxsched.store.conflicts import Waited
from nxsched.store.facts import Counts, Found, counts_of
from nxsched.store.ground import Ground, fetch_ground
from nxsched.store.hosts import fetch_host
from nxsched.store.locks import Locks, lock
from nxsched.store.settings import Moved, Settings

_CLASH = frozenset({"busy", "not_enough_hosts", "full"})
"""What is said of a slot that is only refused because somebody has it."""

_ROUNDS: Final = 20
"""How often the ground is read: twice at most, unless somebody changes it meanwhile."""

_SAID = 3
"""Reasons that the words of an error repeat; all of them are among its facts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The slot that is wanted; `force` skips the rules, of holds there may not be too many, `held` had it before.

    `moved` is the booking that is to be moved there: it is judged as if it were not there.
    """

    event_type: str
    start: datetime
    duration: timedelta | None
    host: str | None
    seats: int
    force: bool = False
    hold: bool = False
    held: Sequence[str] = ()
    moved: Moved | None = None

    @property
    def asked(self) -> Asked:
        """The slot as a question."""
        return Asked(
            event_type=self.event_type,
            start=self.start,
            end=self.start,
            duration=self.duration,
            host=self.host,
        )


@dataclass(frozen=True, slots=True)
class Taken:
    """What a claim needs to be written: settings, hosts, where it stands; the tools have the time it was decided at."""

    settings: Settings
    choice: Choice
    place: Place
    start: datetime
    end: datetime
    tools: Tools


Write = Callable[[Taken], Won]
"""Writes the booking with its claims; says whether their time was free."""


def take(connection: Connection, wanted: Wanted, tools: Tools, write: Write, before: Locks | None = None) -> Taken:
    """Claim the slot and write what stands on it, or raise `SlotTaken` or `SlotUnavailable`.

    `before` is what was locked before a booking was: where that is not all, it is too late to lock more.

    Which locks are needed, and what is counted under them, the settings say; and while we wait for a lock, or for
    somebody who wants the same time, all may change. So the ground is read, what it asks for is locked and counted, and
    it is read again, until it asks for nothing more and what it offers can be had.
    """
    start = epoch_exact("start", wanted.start)
    counts, locked = Counts(holds=wanted.hold), before or Locks()
    for _ in range(_ROUNDS):
        ground = fetch_ground(
            connection,
            tools.tenant,
            wanted.event_type,
            wanted.start,
            tools.now,
            counts,
            duration=wanted.duration,
            moved=wanted.moved,
        )
        _check(ground.settings, wanted)
        counted = counts
        pool = is_pool(ground.settings.event_type)
        counts = counts_of(ground.settings, (start, start + 1), latest=pool, holds=wanted.hold)
        needed = _locks(ground, wanted, start)
        if not needed <= locked:
            if before is not None or not needed.may_follow(locked):
                raise Waited("what has to be locked changed in the meantime: run the transaction again")
            locked |= needed
            tools = tools.at(lock(connection, tools.tenant, locked))
            continue
        if counts != counted:
            continue
        taken = _judged(connection, ground, wanted, tools, locked)
        if told := _cleared(connection, ground, taken):
            tools = tools.at(told)
            continue
        won = _written(connection, taken, write, moves=wanted.moved is not None)
        if won.done:
            return taken
        tools = tools.at(won.told)
    raise TransactionConflict("somebody else was quicker again and again: run the transaction again")


def changed(
    connection: Connection, taken: Taken, before: Booking | None, after: Booking, kind: str, reason: str | None = None
) -> Change:
    """A booking in the place that was taken, new or moved, with its records."""
    settings, tools = taken.settings, taken.tools
    found = [settings.hosts.get(slug) or fetch_host(connection, tools.tenant, slug) for slug in after.hosts]
    hosts = [one for one in found if one is not None]  # who has left the groups may still hold a class
    parties = [{"slug": one.slug, "name": one.name, "email": one.email, "timezone": one.timezone} for one in hosts]
    told = payload(after, settings.event_type, settings.tenant, parties, reason, before=before)
    return Change(after=after, kind=kind, event_id=new_id(), changes=changes(before, after), payload=told)


def _judged(connection: Connection, ground: Ground, wanted: Wanted, tools: Tools, locked: Locks) -> Taken:
    """The hosts who take the slot, and where it will stand. Raises the refusals."""
    start = epoch_exact("start", wanted.start)
    settings, found = ground.settings, ground.found
    if found.holds >= MAX_OPEN_HOLDS:
        words = f"{MAX_OPEN_HOLDS} holds stand already, as many as a tenant may have: release some, or let them expire"
        raise PolicyViolation(words, policy="open_holds")
    asked = question(settings, found, (start, start + 1), tools.now, wanted.host, wanted.seats)
    able = able_at(asked, start)
    reasons: list[Refusal] = [] if able else refusals(asked, start)
    if reasons and not wanted.force:  # asked again for the names of what is in the way, which may be gone by now
        raise _refusal(wanted, explained(connection, settings, wanted.asked, start, tools, wanted.seats) or reasons)
    if one := asked.joinable.get(start):
        return _joining(ground, tools, locked, one)
    before, after = start - asked.before, start + asked.duration + asked.after
    free = set(able)
    if wanted.force:
        free = {slug for slug, host in settings.hosts.items() if not host.archived}
        free = {slug for slug in free if not _claimed(found, slug, before, after)}
    choice = choose(
        settings.event_type,
        free,
        {slug: found.latest[no] for slug, no in settings.numbers.items() if no in found.latest},
        wanted.host,
        preferred=able,
        held=wanted.held,
    )
    if choice is None:
        raise _refusal(wanted, reasons)
    hosts = [settings.numbers[slug] for slug in choice.hosts]
    place = Place(
        occurrence=new_id(),
        event_type=settings.number,
        hosts=hosts,
        counted=locked & hosts,
        busy_from=instant(before),
        busy_until=instant(after),
    )
    return Taken(settings, choice, place, instant(start), instant(start + asked.duration), tools)


def _joining(ground: Ground, tools: Tools, locked: Locks, one: Occurrence) -> Taken:
    """The seats that are left of an occurrence: nothing new is claimed, and nobody is chosen."""
    settings = ground.settings
    start, end = instant(one.start), instant(one.end)
    places = settings.terms.cast.places
    place = Place(
        occurrence=ground.found.occurrences[one.start, one.hosts],
        event_type=settings.number,
        hosts=(),
        counted=locked & (),
        busy_from=start,
        busy_until=end,
        joins=True,
    )
    choice = Choice(in_order(one.hosts, places), None)
    return Taken(settings, choice, place, start, end, tools)


def _check(settings: Settings, wanted: Wanted) -> None:
    """What cannot be."""
    event_type = settings.event_type
    if wanted.seats > event_type.capacity:
        raise InvalidInput(field="seats", reason=f"must be at most {event_type.capacity}, not {wanted.seats}")
    if wanted.host is not None and wanted.host not in settings.hosts:
        raise InvalidInput(field="host", reason=f"{wanted.host} is in no host group of the event type")


def _locks(ground: Ground, wanted: Wanted, start: int) -> Locks:
    """What has to be locked: what is counted, and hosts whose time something has that has expired.

    That is the event type, for its limits, its seats or its pool, and then every host that may be chosen. A plain
    booking needs no lock: the constraint sees overlaps, and there is nothing else to see.
    """
    settings, event_type = ground.settings, ground.settings.event_type
    chosen = bool(event_type.limits) or is_pool(event_type)
    number = settings.number if chosen or event_type.capacity > 1 else None
    if not (chosen or settings.limited or any(ground.found.expired.values())):
        return Locks(number)
    hosts = set(settings.hosts)
    for group in event_type.groups:
        if group.needed == 1 and wanted.host in group.members:
            hosts -= {*group.members} - {wanted.host}
    numbers = {settings.numbers[slug] for slug in hosts}
    if chosen or settings.limited:
        return Locks(number, frozenset(numbers))
    before, after = (int(one.total_seconds()) for one in (event_type.buffer_before, event_type.buffer_after))
    end = start + int(event_type.duration.total_seconds())
    return Locks(number, frozenset(_in_the_way(ground.found, numbers, start - before, end + after)))


def _in_the_way(found: Found, hosts: Iterable[int], start: int, end: int) -> list[int]:
    """The hosts whose time something has that has expired: it must be ended first, for the constraint has no clock."""
    return [no for no in hosts if any(a < end and start < b for a, b in found.expired.get(no, ()))]


def _cleared(connection: Connection, ground: Ground, taken: Taken) -> datetime | None:
    """End what has expired and is in the way; gives the time after a wait for it, after which all is judged anew."""
    place = taken.place
    first, last = (int(at.timestamp()) for at in (place.busy_from, place.busy_until))
    over = _in_the_way(ground.found, place.hosts, first, last)
    return expire_in_the_way(connection, taken.tools, over, place) if over else None


def _written(connection: Connection, taken: Taken, write: Write, *, moves: bool) -> Won:
    """Write; with a savepoint where something may be done and other things not."""
    if len(taken.place.hosts) <= 1 and not moves:
        return write(taken)
    with connection.begin_nested() as savepoint:
        won = write(taken)
        if not won.done:
            savepoint.rollback()
    return won


def _claimed(found: Found, slug: str, start: int, end: int) -> bool:
    """Whether a booking or hold has the host's time; busy time from outside is none."""
    return any(a < end and start < b for a, b, origin in found.facts.taken.get(slug, ()) if origin is not None)


def _refusal(wanted: Wanted, reasons: Sequence[Refusal]) -> SlotUnavailable:
    if wanted.force:  # no rule refuses it
        reasons = [reason for reason in reasons if reason.code == "busy"] or reasons
    if {reason.code for reason in reasons} <= _CLASH:
        host = next((reason.host for reason in reasons if reason.code == "busy"), None)
        return SlotTaken(start=wanted.start, host=host, reasons=reasons)
    telling = [reason for reason in reasons if reason.code != "not_enough_hosts"] or reasons
    why = " ".join(reason.sentence() for reason in telling[:_SAID])
    return SlotUnavailable(f"{wanted.start.isoformat()} cannot be booked. {why}", reasons=reasons)
