"""The question that the calculator answers: an event type, its hosts, what is taken already, and a range of starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter
from typing import ClassVar

from nxsched.domain import checks
from nxsched.domain.availability import BlockedPeriod, BookedTime, busy_seconds
from nxsched.domain.bounds import MAX_RANGE_DAYS
from nxsched.domain.event_types import BookingWindow, EventType
from nxsched.domain.hosts import Host
from nxsched.domain.instants import DAY, day_number, epoch_ceil
from nxsched.errors import InvalidInput
from nxsched.slots.expand import Hours, read_hours
from nxsched.slots.intervals import Interval, union
from nxsched.slots.limits import reached
from nxsched.slots.prepared import ALWAYS, Group, Member, Prepared, Taken
from nxsched.slots.seats import Occurrence, by_start, joinable, occurrences
from nxsched.slots.zones import zone


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotQuery:
    """A question: the slots of `event_type` with `start <= slot.start < end`, seen from `now`.

    `hosts` are all members of the event type's groups; others may be given, since their bookings count towards its
    limits. `blocked` and `busy` are by slug, `busy` as pairs of aware datetimes; `closures` block every host.
    `bookings` are pending, held and confirmed ones, each once, however many hosts it has. For a right answer they and
    `busy` must reach beyond the range on either side by two days, the duration and the longest buffers; and bookings
    must cover the whole of every period of a limit.

    A query is checked and put in order once, when it is made: asking it again is cheaper. What it holds must not be
    changed afterwards; `prepared` is for the calculator alone. Raises `InvalidInput`, with places as in a scenario.
    """

    event_type: EventType
    hosts: Sequence[Host]
    start: datetime
    end: datetime
    now: datetime
    blocked: Mapping[str, Sequence[BlockedPeriod]] = field(default_factory=dict)
    closures: Sequence[BlockedPeriod] = ()
    bookings: Sequence[BookedTime] = ()
    busy: Mapping[str, Sequence[tuple[datetime, datetime]]] = field(default_factory=dict)
    prepared: Prepared = field(init=False, repr=False, compare=False)

    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # it holds mappings

    def __post_init__(self) -> None:
        """Check the values, keep them as tuples, and prepare the integers that the calculator works on."""
        checks.kind("event_type", self.event_type, EventType)
        hosts = checks.items("hosts", self.hosts, Host)
        slugs = {host.slug for host in hosts}
        if len(slugs) < len(hosts):
            raise InvalidInput(field="hosts", reason="must not hold two hosts with the same slug")
        for name in ("blocked", "busy"):
            checks.kind(name, getattr(self, name), Mapping)
        self._refuse_unknown_hosts(slugs)
        start, end = epoch_ceil("start", self.start), epoch_ceil("end", self.end)
        if end < start:
            raise InvalidInput(field="end", reason="must not lie before the start of the range")
        if end - start > MAX_RANGE_DAYS * DAY:
            days = -(-(end - start) // DAY)
            raise InvalidInput(field="end", reason=f"the range holds {days} days; the most is {MAX_RANGE_DAYS}")
        keep = object.__setattr__
        keep(self, "hosts", hosts)
        keep(self, "closures", checks.items("closures", self.closures, BlockedPeriod))
        keep(self, "bookings", checks.items("bookings", self.bookings, BookedTime))
        self._refuse_twins()
        keep(
            self, "blocked", {s: checks.items(f"hosts.{s}.blocked", b, BlockedPeriod) for s, b in self.blocked.items()}
        )
        keep(self, "busy", {s: checks.items(f"hosts.{s}.busy", pairs, object) for s, pairs in self.busy.items()})
        keep(self, "prepared", _prepare(self, start, end, epoch_ceil("now", self.now)))

    @property
    def timezone(self) -> str:
        """The event type's time zone: its own, else that of the first member of its first group (rule 14)."""
        return self.prepared.timezone

    def _refuse_twins(self) -> None:
        """A join gives a row a host; taken for bookings, they would count twice and leave their occurrence."""
        seen: dict[str, int] = {}
        for i, booking in enumerate(self.bookings):
            if booking.id is not None and (first := seen.setdefault(booking.id, i)) != i:
                reason = (
                    f"there is another booking {checks.shown(booking.id)}, bookings[{first}]; "
                    "give each booking once, with all its hosts"
                )
                raise InvalidInput(field=f"bookings[{i}].id", reason=reason)

    def _refuse_unknown_hosts(self, slugs: set[str]) -> None:
        for g, group in enumerate(self.event_type.groups):
            for m, slug in enumerate(group.members):
                if slug not in slugs:
                    place = f"event_type.hosts[{g}].members[{m}]"
                    raise InvalidInput(field=place, reason=f"there is no host {checks.shown(slug)}")
        for name in ("blocked", "busy"):
            for slug in getattr(self, name):
                if slug not in slugs:
                    raise InvalidInput(
                        field=f"{name}.{checks.printable(str(slug)[:60])}",
                        reason=f"there is no host {checks.shown(slug)}",
                    )


def _taken(query: SlotQuery, slugs: Iterable[str]) -> dict[str, list[Taken]]:
    """When each host is busy, in order: bookings with their own buffers, outside busy time without (rule 11)."""
    found: dict[str, list[Taken]] = {slug: [] for slug in slugs}
    for booking in query.bookings:
        start, end = booking.busy()
        for slug in booking.hosts:
            if slug in found:
                found[slug].append((start, end, booking))
    for slug, pairs in query.busy.items():
        outside = [busy_seconds(f"hosts.{slug}.busy[{i}]", pair) for i, pair in enumerate(pairs)]
        found.setdefault(slug, []).extend((start, end, None) for start, end in outside if start < end)
    for times in found.values():
        times.sort(key=itemgetter(0, 1))
    return found


def _prepare(query: SlotQuery, start: int, end: int, now: int) -> Prepared:
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
    taken = _taken(query, [host.slug for host in hosts])
    own: dict[str, list[Interval]] = {host.slug: [] for host in hosts if host.limits}
    for one in found:
        for slug in one.hosts & own.keys():
            own[slug].append((one.start, one.end))
    hours: dict[object, Hours] = {}
    closures = [f"closures[{i}]" for i in range(len(query.closures))]
    blocks: dict[tuple[int, ...], tuple[BlockedPeriod, ...]] = {}
    members: list[Member] = []
    for i, host in enumerate(hosts):
        key = (host.timezone, host.weekly_hours, host.overrides, host.travel)
        shared = hours.get(key) or hours.setdefault(key, read_hours(host))
        own_blocks = query.blocked.get(host.slug, ())
        blocked = (*own_blocks, *query.closures)
        members.append(
            Member(
                bit=1 << i,
                slug=host.slug,
                timezone=host.timezone,
                hours=shared,
                # The same periods, not equal ones: Python calls instants equal that differ by a fold alone.
                blocked=blocks.setdefault(tuple(map(id, blocked)), blocked),
                places=(*(f"hosts.{host.slug}.blocked[{n}]" for n in range(len(own_blocks))), *closures),
                taken=taken[host.slug],
                busy=tuple(union((start, end) for start, end, _ in taken[host.slug])),
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
