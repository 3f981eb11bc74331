"""A query in integers: what the calculator works on, and what does not depend on the range."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Final, Protocol

from nxsched.domain.availability import BlockedPeriod
from nxsched.domain.event_types import Align
from nxsched.slots.expand import Hours
from nxsched.slots.intervals import Interval
from nxsched.slots.limits import Reached
from nxsched.slots.seats import Occurrence
from nxsched.slots.zones import zone


class Origin(Protocol):
    """The booking that busy time comes from: all that an answer says of it is its id."""

    @property
    def id(self) -> str | None:
        """What the application calls it."""


Taken = tuple[int, int, Origin | None]
"""Busy time of one host, and the booking it comes from; none for outside busy time."""

ALWAYS: Final = (-(10**7), 10**7)
"""All the days there are."""


@dataclass(frozen=True, slots=True)
class Member:
    """A host in a group of the event type: its bit, and its time in integers.

    `taken` is busy time piece by piece, in order, own buffers included, and `busy` the union of it. Members that share
    `hours` and `blocked` share the objects. `places` are those of the blocked periods in the question, for errors.
    """

    bit: int
    slug: str
    timezone: str
    hours: Hours
    blocked: tuple[BlockedPeriod, ...]
    places: tuple[str, ...]
    taken: Sequence[Taken]
    busy: tuple[Interval, ...]
    reached: tuple[Reached, ...]

    def busy_within(self, start: int, end: int) -> tuple[Interval, ...]:
        """The busy time that meets `[start, end)`, found without looking at the rest."""
        first = bisect_right(self.busy, start, key=lambda one: one[1])
        return self.busy[first : bisect_left(self.busy, (end,), first)]

    def in_the_way(self, start: int, end: int) -> list[Taken]:
        """Every piece of the busy time that meets `[start, end)`, earliest first."""
        before = bisect_left(self.taken, end, key=itemgetter(0))
        return [one for one in self.taken[:before] if one[1] > start]


@dataclass(frozen=True, slots=True)
class Group:
    """A host group: the bits of its members, and how many of them it takes."""

    bits: int
    need: int

    def able(self, hosts: int) -> int:
        """How many of these hosts, given as bits, are members."""
        return (hosts & self.bits).bit_count()


@dataclass(frozen=True, slots=True)
class Prepared:
    """The question in whole seconds; `joinable` and `standing` are by start, `days` is rule 14 as day numbers.

    `required` is the bit of the one host that is asked for, 0 where any will do.
    """

    start: int
    end: int
    now: int
    earliest: int
    timezone: str
    days: Interval
    duration: int
    step: int
    offset: int
    align: Align
    capacity: int
    before: int
    after: int
    members: tuple[Member, ...]
    groups: tuple[Group, ...]
    required: int
    places: Mapping[str, int]
    reached: tuple[Reached, ...]
    standing: Mapping[int, Sequence[Occurrence]]
    joinable: Mapping[int, Occurrence]
    joinable_starts: tuple[int, ...]

    def in_window(self, start: int, end: int) -> list[Interval]:
        """The starts in `[start, end)` on whose local date the booking window is open (rule 14)."""
        return zone(self.timezone, start, end).during(*self.days, start, end)
