"""From what is known, in integers, to what the calculator works on: the one way to it, from a query or a database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from operator import itemgetter
from typing import Final

from nxsched.domain import checks
from nxsched.domain.availability import BlockedPeriod
from nxsched.domain.event_types import BookingWindow, EventType
from nxsched.domain.hosts import Host
from nxsched.domain.instants import day_number
from nxsched.errors import InvalidInput
from nxsched.slots.expand import Hours, read_hours
from nxsched.slots.intervals import Interval, union
from nxsched.slots.limits import reached
from nxsched.slots.prepared import ALWAYS, Group, Member, Prepared, Taken
from nxsched.slots.seats import Occurrence, by_start, joinable
from nxsched.slots.zones import zone


@dataclass(frozen=True, slots=True)
class Cast:
    """The members of the groups, with nothing taken; their places by slug, and the groups."""

    members: tuple[Member, ...]
    places: Mapping[str, int]
    groups: tuple[Group, ...]


@dataclass(frozen=True, slots=True)
class Terms:
    """What the application has set, by slug, and `cast`, who plays a part in it. Nothing of it is ever changed."""

    event_type: EventType
    hosts: Mapping[str, Host]
    blocked: Mapping[str, Sequence[BlockedPeriod]]
    closures: Sequence[BlockedPeriod]
    cast: Cast = field(init=False)

    def __post_init__(self) -> None:
        """Work out the cast; at once, for a lock that is taken later may be held where a process forks."""
        slugs = [slug for group in self.event_type.groups for slug in group.members]
        places = {slug: i for i, slug in enumerate(slugs)}
        groups = (Group(sum(1 << places[slug] for slug in one.members), one.needed) for one in self.event_type.groups)
        cast = Cast(_idle_members(self, [self.hosts[slug] for slug in slugs]), places, tuple(groups))
        object.__setattr__(self, "cast", cast)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is taken already, in epoch seconds.

    `taken` holds the busy time of each member, in any order. `of_event_type` and `of_host` are
    start and end of the occurrences that limits count (rule 22); `standing` those that have seats (rule 23).
    """

    taken: Mapping[str, list[Taken]]
    of_event_type: Sequence[Interval]
    of_host: Mapping[str, Sequence[Interval]]
    standing: Sequence[Occurrence]


_TO_APPROVE: Final = 1
"""Seconds of notice at least where somebody has to approve, which ends at the start."""

_FREE_GRID: Final = timedelta(days=2, hours=1)
"""How far around a start the alignment `free` looks at busy time (rule 20)."""


def reach(event_type: EventType) -> tuple[timedelta, timedelta]:
    """How far before and after a start busy time can matter to it, whichever duration is chosen."""
    longest = max(event_type.duration, *event_type.durations, timedelta())
    wider = _FREE_GRID if event_type.align == "free" else timedelta()
    return longest + event_type.buffer_before + wider, longest + event_type.buffer_after + wider


def prepare(  # noqa: PLR0913 - a question
    terms: Terms, facts: Facts, start: int, end: int, now: int, *, host: str | None, seats: int = 1
) -> Prepared:
    """Work out what does not depend on the range; `host` is the one that is asked for, if any, with so many seats.

    Raises `InvalidInput` for a host that is no member.
    """
    event, cast = terms.event_type, terms.cast
    places = cast.places
    if host is not None and host not in places:
        raise InvalidInput(field="host", reason=f"{checks.shown(host)} is in no host group of the event type")
    timezone = event.timezone or cast.members[0].timezone
    duration = int(event.duration.total_seconds())
    standing = by_start(facts.standing, duration) if event.slug and event.capacity > 1 else {}
    open_ones = {
        at: one for at, ones in standing.items() if (one := joinable(_with(ones, host), event.capacity, places, seats))
    }
    return Prepared(
        start=start,
        end=end,
        now=now,
        earliest=now + max(int(event.minimum_notice.total_seconds()), _TO_APPROVE * event.requires_approval),
        timezone=timezone,
        days=_days(event.booking_window, zone(timezone, now, now).day_of(now)),
        duration=duration,
        step=int((event.step or event.duration).total_seconds()),
        offset=int(event.offset.total_seconds()),
        align=event.align,
        capacity=event.capacity,
        before=int(event.buffer_before.total_seconds()),
        after=int(event.buffer_after.total_seconds()),
        members=tuple(_with_facts(one, terms.hosts[one.slug], facts, duration) for one in cast.members),
        groups=cast.groups,
        required=1 << places[host] if host is not None else 0,
        places=places,
        reached=reached(event.limits, facts.of_event_type, timezone, duration),
        standing=standing,
        joinable=open_ones,
        joinable_starts=tuple(sorted(open_ones)),
    )


def _with(ones: Sequence[Occurrence], host: str | None) -> Sequence[Occurrence]:
    """Those of the occurrences that the host takes part in who is asked for."""
    return ones if host is None else [one for one in ones if host in one.hosts]


def _idle_members(terms: Terms, hosts: Sequence[Host]) -> tuple[Member, ...]:
    hours: dict[object, Hours] = {}
    closures = [f"closures[{i}]" for i in range(len(terms.closures))]
    blocks: dict[tuple[int, ...], tuple[BlockedPeriod, ...]] = {}
    members: list[Member] = []
    for i, host in enumerate(hosts):
        key = (host.timezone, host.weekly_hours, host.overrides, host.travel)
        shared = hours.get(key) or hours.setdefault(key, read_hours(host))
        own_blocks = terms.blocked.get(host.slug, ())
        blocked = (*own_blocks, *terms.closures)
        members.append(
            Member(
                bit=1 << i,
                slug=host.slug,
                timezone=host.timezone,
                hours=shared,
                # The same periods, not equal ones: Python calls instants equal that differ by a fold alone.
                blocked=blocks.setdefault(tuple(map(id, blocked)), blocked),
                places=(*(f"hosts.{host.slug}.blocked[{n}]" for n in range(len(own_blocks))), *closures),
                taken=(),
                busy=(),
                reached=(),
            )
        )
    return tuple(members)


def _with_facts(idle: Member, host: Host, facts: Facts, duration: int) -> Member:
    """The member with what is taken."""
    taken = facts.taken.get(host.slug)
    if not taken and not host.limits:
        return idle
    taken = sorted(taken or (), key=itemgetter(0, 1))
    return Member(
        bit=idle.bit,
        slug=idle.slug,
        timezone=idle.timezone,
        hours=idle.hours,
        blocked=idle.blocked,
        places=idle.places,
        taken=taken,
        busy=tuple(union((start, end) for start, end, _ in taken)),
        reached=reached(host.limits, facts.of_host.get(host.slug, ()), host.timezone, duration),
    )


def _days(window: BookingWindow, today: int) -> Interval:
    """The local dates of rule 14 as day numbers, half-open."""
    first, end = ALWAYS
    if window.from_date is not None:
        first = day_number(window.from_date)
    if window.until_date is not None:
        end = day_number(window.until_date) + 1
    if window.days is not None:
        end = min(end, today + window.days + 1)
    return first, end
