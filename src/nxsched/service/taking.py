"""Take slots, for holds and bookings: judge, choose the hosts, claim their time. The heart of it all.

The order matters. What is counted (limits, whose turn it is) is read in a statement after that of the locks that guard
it, where READ COMMITTED shows what others have committed meanwhile. Overlaps need no lock: the database's constraint
decides, and a claim that comes too late is no error but a row that is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

from sqlalchemy import Connection

from nxsched.domain.bookings import Booking
from nxsched.domain.event_types import EventType
from nxsched.domain.events import changes, party, payload
from nxsched.domain.hosts import Host
from nxsched.errors import TransactionConflict
from nxsched.service.changing import Done
from nxsched.service.choosing import Choice
from nxsched.service.ending import expire_in_the_way
from nxsched.service.ids import new_id
from nxsched.service.reminding import wanted
from nxsched.service.tools import Tools
from nxsched.store.changes import Change, Place, Won
from nxsched.store.conflicts import Waited
from nxsched.store.facts import Counts, Found
from nxsched.store.ground import Ground
from nxsched.store.hosts import fetch_host
from nxsched.store.locks import Locks, lock
from nxsched.store.settings import Settings
from nxsched.store.standing import Standing

_ROUNDS: Final = 20
"""How often the ground is read: twice at most, unless somebody changes it meanwhile."""


@dataclass(frozen=True, slots=True)
class Spot:
    """Who takes a slot, when, and where that will stand."""

    choice: Choice
    place: Place
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Taken:
    """What claims need to be written: settings and spots; the tools have the time it was decided at."""

    settings: Settings
    spots: Sequence[Spot]
    tools: Tools
    _others: dict[str, Host | None] = field(default_factory=dict)

    def host(self, connection: Connection, slug: str) -> Host | None:
        """A host of it: who has left the groups may still have a class, and is looked up once."""
        if slug in self.settings.hosts:
            return self.settings.hosts[slug]
        if slug not in self._others:
            self._others[slug] = fetch_host(connection, self.tools.tenant, slug)
        return self._others[slug]

    @property
    def event_type(self) -> EventType:
        """What is booked."""
        return self.settings.event_type

    @property
    def places(self) -> list[Place]:
        """Where it will stand."""
        return [spot.place for spot in self.spots]


class Bid(Protocol):
    """What somebody wants: which ground it is judged on, what is counted and locked for it, and who is to take it."""

    @property
    def moves(self) -> bool:
        """Whether something is given up for it."""

    @property
    def beside(self) -> str | None:
        """The occurrence that is given up for it, where something in it has expired: it would keep its time."""

    @property
    def known(self) -> Counts:
        """What has to be counted whatever the settings say."""

    def ground(self, connection: Connection, tools: Tools, counts: Counts) -> Ground:
        """What it is judged by, with what was to be counted. Raises what cannot be."""

    def counts(self, settings: Settings, tools: Tools) -> Counts:
        """What has to be counted, as the settings say."""

    def locks(self, ground: Ground) -> Locks:
        """What has to be locked, as the ground says."""

    def judged(self, connection: Connection, ground: Ground, tools: Tools, locked: Locks) -> Sequence[Spot]:
        """Who takes it. Raises the refusals."""


Write = Callable[[Taken], Won]
"""Writes bookings with their claims; says whether their time was free."""


def take(connection: Connection, bid: Bid, tools: Tools, write: Write, before: Locks | None = None) -> Taken:
    """Claim what is wanted and write what stands on it, or raise `SlotTaken` or `SlotUnavailable`.

    `before` is what was locked before a booking was: where that is not all, it is too late to lock more.

    Which locks are needed, and what is counted under them, the settings say; and while we wait for a lock, or for
    somebody who wants the same time, all may change. So the ground is read, what it asks for is locked and counted, and
    it is read again, until it asks for nothing more and what it offers can be had.
    """
    counts, locked, beside = bid.known, before or Locks(), bid.beside
    for _ in range(_ROUNDS):
        ground = bid.ground(connection, tools, counts)
        counted, counts = counts, bid.counts(ground.settings, tools)
        needed = bid.locks(ground)
        if not needed <= locked:
            if before is not None or not needed.may_follow(locked):
                raise Waited("what has to be locked changed in the meantime: run the transaction again")
            locked |= needed
            tools = tools.at(lock(connection, tools.tenant, locked))
            continue
        if counts != counted:
            continue
        taken = Taken(ground.settings, bid.judged(connection, ground, tools, locked), tools)
        told, beside = _cleared(connection, ground.found, taken, beside), None
        if told:
            tools = tools.at(told)
            continue
        won = _written(connection, taken, write, moves=bid.moves)
        if won.done:
            return taken
        tools = tools.at(won.told)
    raise TransactionConflict("somebody else was quicker again and again: run the transaction again")


def changed(connection: Connection, taken: Taken, standing: Standing | None, after: Booking, done: Done) -> Change:
    """A booking in a place that was taken, new or moved, with its records; `standing` is what it was."""
    before = standing.booking if standing else None
    settings = taken.settings
    parties = [party(one) for slug in after.hosts if (one := taken.host(connection, slug))]
    were = standing.parties if standing else ()
    told = payload(after, settings.event_type, settings.tenant, parties, before=before, hosts_before=were)
    return Change(
        after=after,
        action=done.action,
        kind=done.kind,
        event_id=new_id(),
        changes=changes(before, after),
        payload=told,
        reminders=wanted(after, settings.event_type, parties),
    )


def in_the_way(found: Found, hosts: Iterable[int], start: int, end: int) -> list[int]:
    """The hosts whose time something has that has expired: it must be ended first, for the constraint has no clock."""
    return [no for no in hosts if any(a < end and start < b for a, b in found.expired.get(no, ()))]


def _cleared(connection: Connection, found: Found, taken: Taken, beside: str | None) -> datetime | None:
    """End what has expired and is in the way; gives the time after a wait for it, after which all is judged anew."""
    if not (found.expired or beside):
        return None
    over: set[int] = set()
    for place in taken.places:
        first, last = (int(at.timestamp()) for at in (place.busy_from, place.busy_until))
        over.update(in_the_way(found, place.hosts, first, last))
    if not (over or beside):
        return None
    return expire_in_the_way(connection, taken.tools, sorted(over), taken.places, beside)


def _written(connection: Connection, taken: Taken, write: Write, *, moves: bool) -> Won:
    """Write; with a savepoint where something may be done and other things not."""
    if sum(len(place.hosts) for place in taken.places) <= 1 and len(taken.spots) == 1 and not moves:
        return write(taken)
    with connection.begin_nested() as savepoint:
        won = write(taken)
        if not won.done:
            savepoint.rollback()
    return won
