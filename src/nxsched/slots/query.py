"""The question that the calculator answers: an event type, its hosts, what is taken already, and a range of starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

from nxsched.domain import checks
from nxsched.domain.availability import BlockedPeriod, BookedTime, busy_seconds
from nxsched.domain.bounds import MAX_RANGE_DAYS
from nxsched.domain.event_types import EventType
from nxsched.domain.hosts import Host
from nxsched.domain.instants import DAY, epoch_ceil
from nxsched.errors import InvalidInput
from nxsched.slots.facts import Facts, Terms, prepare
from nxsched.slots.intervals import Interval
from nxsched.slots.prepared import Prepared, Taken
from nxsched.slots.seats import occurrences


def asked_range(start: object, end: object) -> tuple[int, int]:
    """The range of a question in epoch seconds; one that ends before it starts, or is too long, is refused."""
    first, last = epoch_ceil("start", start), epoch_ceil("end", end)
    if last < first:
        raise InvalidInput(field="end", reason="must not lie before the start of the range")
    if last - first > MAX_RANGE_DAYS * DAY:
        days = -(-(last - first) // DAY)
        raise InvalidInput(field="end", reason=f"the range holds {days} days; the most is {MAX_RANGE_DAYS}")
    return first, last


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotQuery:
    """A question: the slots of `event_type` with `start <= slot.start < end`, seen from `now`.

    `hosts` are all members of the event type's groups; others may be given, since their bookings count towards its
    limits. `blocked` and `busy` are by slug, `busy` as pairs of aware datetimes; `closures` block every host.
    `bookings` are pending, held and confirmed ones, each once, however many hosts it has. For a right answer they and
    `busy` must reach beyond the range on either side by two days, the duration and the longest buffers; and bookings
    must cover the whole of every period of a limit. With a `host`, only what that member can take is offered.

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
    host: str | None = None
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
        start, end = asked_range(self.start, self.end)
        keep = object.__setattr__
        keep(self, "hosts", hosts)
        keep(self, "closures", checks.items("closures", self.closures, BlockedPeriod))
        keep(self, "bookings", checks.items("bookings", self.bookings, BookedTime))
        self._refuse_twins()
        keep(
            self, "blocked", {s: checks.items(f"hosts.{s}.blocked", b, BlockedPeriod) for s, b in self.blocked.items()}
        )
        keep(self, "busy", {s: checks.items(f"hosts.{s}.busy", pairs, object) for s, pairs in self.busy.items()})
        terms = Terms(self.event_type, {host.slug: host for host in hosts}, self.blocked, self.closures)
        keep(self, "prepared", prepare(terms, _facts(self), start, end, epoch_ceil("now", self.now), host=self.host))

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


def _facts(query: SlotQuery) -> Facts:
    """The time that is taken, in integers: bookings with their own buffers, outside busy time without (rule 11)."""
    event = query.event_type
    of_host: dict[str, list[Interval]] = {host.slug: [] for host in query.hosts if host.limits}
    taken: dict[str, list[Taken]] = {host.slug: [] for host in query.hosts}
    for booking in query.bookings:
        start, end = booking.busy()
        for slug in booking.hosts:
            if slug in taken:
                taken[slug].append((start, end, booking))
    for slug, pairs in query.busy.items():
        outside = [busy_seconds(f"hosts.{slug}.busy[{i}]", pair) for i, pair in enumerate(pairs)]
        taken[slug].extend((start, end, None) for start, end in outside if start < end)
    found = occurrences(query.bookings)
    for one in found:
        for slug in one.hosts & of_host.keys():
            of_host[slug].append((one.start, one.end))
    own = [one for one in found if event.slug and one.event_type == event.slug]
    return Facts(
        taken=taken,
        of_event_type=[(one.start, one.end) for one in own],
        of_host=of_host,
        standing=own,
    )
