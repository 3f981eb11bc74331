"""Say why a start is refused: the same ground as the calculator's, asked rule by rule (rule 25)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from nxsched.domain import checks
from nxsched.domain.instants import date_of, epoch_exact, instant
from nxsched.domain.refusals import Refusal
from nxsched.slots.intervals import covers
from nxsched.slots.limits import Reached
from nxsched.slots.prepared import ALWAYS, Group, Member, Prepared
from nxsched.slots.query import SlotQuery
from nxsched.slots.terrain import Terrain


def explain(query: SlotQuery, start: datetime) -> list[Refusal]:
    """Every rule that refuses `start`, an aware datetime of whole seconds; none where the start is offered.

    The query's range plays no part. Raises `InvalidInput`.
    """
    checks.kind("query", query, SlotQuery)
    return refusals(query.prepared, epoch_exact("start", start))


def refusals(asked: Prepared, start: int) -> list[Refusal]:
    """Every rule that refuses `start`, in epoch seconds, in a prepared question."""
    return list(_Judgement(asked, start).refusals())


class _Judgement:
    """One start, looked at rule by rule."""

    def __init__(self, asked: Prepared, start: int) -> None:
        self.asked = asked
        self.start = start
        self.end = start + asked.duration
        self.terrain = Terrain(asked, start, start + 1)

    def refusals(self) -> Iterator[Refusal]:
        """The event type's refusals, then group by group those of its hosts."""
        yield from self._time()
        if self.start in self.asked.joinable:
            return
        if not any(self.start in run for run in self.terrain.grid()):
            yield Refusal(code="off_grid")
        for limit in self._without_room(self.asked.reached, self.asked.timezone):
            yield Refusal(code="event_limit", limit=limit.limit)
        yield from self._short()

    def _short(self) -> Iterator[Refusal]:
        """The groups that fall short, each with the refusals of its hosts, after the occurrences that are full."""
        able = self.terrain.able_hosts()
        absent = self.asked.required & ~able  # the one who is asked for cannot
        groups = [Group(absent, 1) if group.bits & absent else group for group in self.asked.groups]
        short = {i: group for i, group in enumerate(groups) if group.able(able) < group.need}
        members = {i: [one for one in self.asked.members if one.bit & group.bits] for i, group in short.items()}
        yield from self._full({one.slug for of_group in members.values() for one in of_group})
        for i, group in short.items():
            yield Refusal(code="not_enough_hosts", group=i, need=group.need, able=group.able(able))
            for member in members[i]:
                yield from self._host(member)

    def _time(self) -> Iterator[Refusal]:
        asked = self.asked
        if self.start < asked.now:
            yield Refusal(code="past", start=instant(asked.now))
        if self.start < asked.earliest and asked.earliest > asked.now:
            yield Refusal(code="notice", start=instant(asked.earliest))
        if not asked.in_window(self.start, self.start + 1):
            first, end = asked.days
            from_date = date_of(first) if first != ALWAYS[0] else None
            until_date = date_of(end - 1) if end != ALWAYS[1] else None
            yield Refusal(code="window", from_date=from_date, until_date=until_date)

    def _host(self, member: Member) -> Iterator[Refusal]:
        if not covers(self.terrain.hours(member), self.start, self.end):
            yield Refusal(code="outside_hours", host=member.slug)
        meets = (one for one in self.terrain.blocked(member) if self.start < one[1] and one[0] < self.end)
        for start, end, period in meets:
            yield Refusal(
                code="blocked",
                host=member.slug,
                start=instant(start),
                end=instant(end),
                id=period.id,
                reason=period.reason,
            )
        first, last = self.start - self.asked.before, self.end + self.asked.after
        for start, end, booking in member.in_the_way(first, last):
            name = booking.id if booking else None
            yield Refusal(code="busy", host=member.slug, start=instant(start), end=instant(end), id=name)
        for limit in self._without_room(member.reached, member.timezone):
            yield Refusal(code="host_limit", host=member.slug, limit=limit.limit)

    def _full(self, slugs: set[str]) -> Iterator[Refusal]:
        """The full occurrences at this start that keep hosts of short groups busy (rule 23)."""
        for one in self.asked.standing.get(self.start, ()):
            if one.hosts & slugs:
                name = one.ids[0] if one.ids else None
                yield Refusal(code="full", start=instant(one.start), end=instant(one.end), id=name)

    def _without_room(self, limits: Iterable[Reached], timezone: str) -> Iterator[Reached]:
        return (limit for limit in limits if limit.refused(timezone, self.start, self.start + 1))
