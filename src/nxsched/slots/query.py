"""The question that the calculator answers: an event type, its hosts, what is taken already, and a range of starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from nxsched.domain import checks
from nxsched.domain.availability import BlockedPeriod, BookedTime
from nxsched.domain.bounds import MAX_RANGE_DAYS
from nxsched.domain.event_types import EventType
from nxsched.domain.hosts import Host
from nxsched.domain.instants import DAY, epoch_ceil
from nxsched.errors import InvalidInput
from nxsched.slots.prepared import Prepared, prepare


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotQuery:
    """A question: the slots of `event_type` with `start <= slot.start < end`, seen from `now`.

    `hosts` are all members of the event type's groups; others may be given, since their bookings count towards its
    limits. `blocked` and `busy` are by slug, `busy` as pairs of aware datetimes; `closures` block every host.
    `bookings` are pending, held and confirmed ones, each once, however many hosts it has. For a right answer they
    must reach two days beyond the range on either side, over the whole period of every limit, and a bit further by the
    longest buffer.

    A query is checked and put in order once, when it is made: asking it again is cheaper. Raises `InvalidInput`.
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

    def __post_init__(self) -> None:
        """Check the values, keep them as tuples, and prepare the integers that the calculator works on."""
        checks.instance("event_type", self.event_type, EventType)
        hosts = checks.items("hosts", self.hosts, Host)
        slugs = {host.slug for host in hosts}
        if len(slugs) < len(hosts):
            raise InvalidInput(field="hosts", reason="must not hold two hosts with the same slug")
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
        keep(self, "blocked", {s: checks.items(f"blocked.{s}", b, BlockedPeriod) for s, b in self.blocked.items()})
        keep(self, "busy", {slug: tuple(periods) for slug, periods in self.busy.items()})
        keep(self, "prepared", prepare(self, start, end, epoch_ceil("now", self.now)))

    def _refuse_unknown_hosts(self, slugs: set[str]) -> None:
        for g, group in enumerate(self.event_type.groups):
            for m, slug in enumerate(group.members):
                if slug not in slugs:
                    place = f"event_type.hosts[{g}].members[{m}]"
                    raise InvalidInput(field=place, reason=f"there is no host {checks.shown(slug)}")
        for name in ("blocked", "busy"):
            for slug in getattr(self, name):
                if slug not in slugs:
                    raise InvalidInput(field=f"{name}.{slug}", reason=f"there is no host {checks.shown(slug)}")
