"""A query in integers: what the calculator needs and what does not depend on the range, worked out once."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from nxsched.domain.availability import BlockedPeriod, BookedTime, busy_seconds
from nxsched.domain.event_types import BookingWindow
from nxsched.domain.hosts import Host
from nxsched.domain.instants import day_number, epoch_exact
from nxsched.slots.expand import Hours, read_hours
from nxsched.slots.intervals import Interval, union
from nxsched.slots.limits import Reached, reached
from nxsched.slots.seats import Occurrence, by_start, joinable, occurrences
from nxsched.slots.zones import zone

if TYPE_CHECKING:
    from nxsched.slots.query import SlotQuery

PlacedPeriod = tuple[str, BlockedPeriod]
"""A blocked period behind its place in the question."""

ALWAYS: Final = (-(10**7), 10**7)
"""All the days there are."""


@dataclass(frozen=True, slots=True)
class Member:
    """A host in a group of the event type: its bit, and its time in integers.

    `busy` is sorted and disjoint, own buffers included; members that share `hours` and `blocked` share the objects.
    """

    bit: int
    slug: str
    timezone: str
    hours: Hours
    blocked: tuple[PlacedPeriod, ...]
    busy: tuple[Interval, ...]
    reached: tuple[Reached, ...]

    def busy_within(self, start: int, end: int) -> tuple[Interval, ...]:
        """The busy time that meets `[start, end)`, found without looking at the rest."""
        first = bisect_right(self.busy, start, key=lambda one: one[1])
        return self.busy[first : bisect_left(self.busy, (end,), first)]


@dataclass(frozen=True, slots=True)
class Group:
    """A host group: the bits of its members, and how many of them it takes."""

    bits: int
    need: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """The question in whole seconds; `joinable` and `standing` are by start, `days` is rule 14 as day numbers."""

    start: int
    end: int
    now: int
    earliest: int
    timezone: str
    days: Interval
    duration: int
    step: int
    offset: int
    before: int
    after: int
    members: tuple[Member, ...]
    groups: tuple[Group, ...]
    places: Mapping[str, int]
    reached: tuple[Reached, ...]
    standing: Mapping[int, Sequence[Occurrence]]
    joinable: Mapping[int, Occurrence]
    joinable_starts: tuple[int, ...]


def busy_time(query: SlotQuery, slug: str) -> Iterator[tuple[int, int, str | None]]:
    """When a host is busy: its bookings with their own buffers and ids, and its outside busy time (rule 11)."""
    for booking in query.bookings:
        if slug in booking.hosts:
            yield *_busy(booking), booking.id
    for start, end in _outside(query, slug):
        if start < end:
            yield start, end, None


def _outside(query: SlotQuery, slug: str) -> Iterator[Interval]:
    for i, pair in enumerate(query.busy.get(slug, ())):
        yield busy_seconds(f"busy.{slug}[{i}]", pair)


def _busy(booking: BookedTime) -> Interval:
    start = epoch_exact("start", booking.start) - int(booking.buffer_before.total_seconds())
    return start, epoch_exact("end", booking.end) + int(booking.buffer_after.total_seconds())


def prepare(query: SlotQuery, start: int, end: int, now: int) -> Prepared:
    """Work out what does not depend on the range."""
    event = query.event_type
    hosts = {host.slug: host for host in query.hosts}
    slugs = [slug for group in event.groups for slug in group.members]
    places = {slug: i for i, slug in enumerate(slugs)}
    timezone = event.timezone or hosts[slugs[0]].timezone
    duration = int(event.duration.total_seconds())
    found = occurrences(query.bookings)
    own = [(one.start, one.end) for one in found if event.slug and one.event_type == event.slug]
    standing = by_start(found, event.slug, duration) if event.slug and event.capacity > 1 else {}
    open_ones = {at: one for at, ones in standing.items() if (one := joinable(ones, event.capacity, places))}
    return Prepared(
        start=start,
        end=end,
        now=now,
        earliest=now + int(event.minimum_notice.total_seconds()),
        timezone=timezone,
        days=_days(event.booking_window, zone(timezone, now, now).day_of(now)),
        duration=duration,
        step=int((event.step or event.duration).total_seconds()),
        offset=int(event.offset.total_seconds()),
        before=int(event.buffer_before.total_seconds()),
        after=int(event.buffer_after.total_seconds()),
        members=_members(query, [hosts[slug] for slug in slugs], found, duration),
        groups=tuple(Group(sum(1 << places[slug] for slug in group.members), group.needed) for group in event.groups),
        places=places,
        reached=reached(event.limits, own, timezone, duration),
        standing=standing,
        joinable=open_ones,
        joinable_starts=tuple(sorted(open_ones)),
    )


def _members(query: SlotQuery, hosts: Sequence[Host], found: Sequence[Occurrence], duration: int) -> tuple[Member, ...]:
    busy: dict[str, list[Interval]] = {host.slug: [] for host in hosts}
    for booking in query.bookings:
        for slug in booking.hosts:
            if slug in busy:
                busy[slug].append(_busy(booking))
    for slug in query.busy:
        busy.setdefault(slug, []).extend(_outside(query, slug))
    own: dict[str, list[Interval]] = {host.slug: [] for host in hosts if host.limits}
    for one in found:
        for slug in one.hosts & own.keys():
            own[slug].append((one.start, one.end))
    hours: dict[object, Hours] = {}
    closures = tuple((f"closures[{i}]", period) for i, period in enumerate(query.closures))
    blocks: dict[tuple[PlacedPeriod, ...], tuple[PlacedPeriod, ...]] = {}
    members: list[Member] = []
    for i, host in enumerate(hosts):
        key = (host.timezone, host.weekly_hours, host.overrides, host.travel)
        shared = hours.get(key) or hours.setdefault(key, read_hours(host))
        own_blocks = enumerate(query.blocked.get(host.slug, ()))
        blocked = (*((f"hosts.{host.slug}.blocked[{n}]", period) for n, period in own_blocks), *closures)
        members.append(
            Member(
                bit=1 << i,
                slug=host.slug,
                timezone=host.timezone,
                hours=shared,
                blocked=blocks.setdefault(blocked, blocked),
                busy=tuple(union(busy[host.slug])),
                reached=reached(host.limits, own.get(host.slug, ()), host.timezone, duration),
            )
        )
    return tuple(members)


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
