"""What members can do around a range of starts: the one ground on which slots are found and refused."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

from nxsched.domain.effort import Effort
from nxsched.domain.instants import DAY
from nxsched.slots.expand import Blocked, blocked_time, open_time
from nxsched.slots.grid import clock_grid, free_grid, window_grid
from nxsched.slots.groups import Segment, enough, shared, sweep
from nxsched.slots.intervals import Interval, subtract, union
from nxsched.slots.limits import Reached
from nxsched.slots.prepared import Member, Prepared
from nxsched.slots.zones import Zone, zone

_AROUND = 2 * DAY + 3600
"""How far around a range the hours must be known: far enough to see that a stretch is longer than a day, and to have
a midnight before the range for sure, also on a day of 25 hours (rules 18 and 20)."""


class Terrain:
    """Hours, free time, fitting starts and grid for the starts in `[start, end)`; each worked out once, on demand."""

    def __init__(self, asked: Prepared, start: int, end: int, effort: Effort | None = None) -> None:
        """Look at the starts in `[start, end)`; `effort` goes on counting from terrain to terrain."""
        self.asked: Prepared = asked
        self.start: int = start
        self.end: int = end
        self.effort: Effort = effort or Effort()
        self._from, self._until = start - _AROUND, end + _AROUND
        self._hours: dict[int, list[Interval]] = {}
        self._blocked: dict[tuple[int, str], list[Blocked]] = {}
        self._fitting: dict[tuple[int, int, str], list[Interval]] = {}
        self._fits: list[Segment] | None = None
        self.test: Callable[[int], bool] = enough(asked.groups)
        self.table: Zone = zone(asked.timezone, start, end)

    def hours(self, member: Member) -> list[Interval]:
        """When the member works (rule 8), before anything is taken out."""
        known = self._hours.get(id(member.hours))
        if known is None:
            reach = self._until + self.asked.duration
            known = self._hours[id(member.hours)] = open_time(member.hours, self._from, reach, self.effort)
        return known

    def fitting(self, member: Member) -> list[Interval]:
        """The starts of slots that lie whole in one stretch of the member's free time (rules 9 and 10)."""
        key = (id(member.hours), id(member.blocked), member.timezone)
        known = self._fitting.get(key)
        if known is None:
            free = self.hours(member)
            if member.blocked:
                free = subtract(free, union((start, end) for start, end, _ in self.blocked(member)))
            lead = self.asked.duration - 1
            known = self._fitting[key] = [(start, end - lead) for start, end in free if end - lead > start]
        return known

    def blocked(self, member: Member) -> list[Blocked]:
        """Every occurrence of the member's blocked periods (rule 9)."""
        key = (id(member.blocked), member.timezone)
        known = self._blocked.get(key)
        if known is None:
            reach = self._until + self.asked.duration
            found = blocked_time(member.blocked, member.places, member.timezone, self._from, reach, self.effort)
            known = self._blocked[key] = list(found)
        return known

    def able(self, member: Member) -> list[Interval]:
        """The starts that the member's free time and busy time allow (rules 10 and 11)."""
        fitting = self.fitting(member)
        if not fitting or not member.busy:
            return fitting
        before, lead = self.asked.before, self.asked.duration + self.asked.after - 1
        busy = member.busy_within(fitting[0][0] - before, fitting[-1][1] + lead)
        return subtract(fitting, busy, earlier=lead, later=before)

    def fits(self) -> list[Segment]:
        """The starts at which every group has enough members that rules 10 and 11 allow, with these members."""
        if self._fits is None:
            self._fits = self._free(self.test)
        return self._fits

    def grid(self) -> list[range]:
        """The starts that lie on the grid (rules 17 to 20), whether anyone can take them or not."""
        asked, table = self.asked, self.table
        if asked.align == "clock":
            return clock_grid(asked.step, asked.offset, table, self.start, self.end)
        if asked.align == "free":
            stretches = union((start, end) for start, end, _ in self.fits())
            return free_grid(stretches, asked.step, table, self.start, self.end)
        parts = shared((self.hours(member), member.bit) for member in asked.members)
        if len(parts) == 1:  # they all keep the same hours, which are a union already
            return window_grid(parts[0][0], asked.step, table, self.start, self.end)
        combined = union((start, end) for start, end, _ in sweep(parts, self.test))
        return window_grid(combined, asked.step, table, self.start, self.end)

    def offered(self) -> list[Segment]:
        """The starts that fit and that no limit refuses, with the members for them (rules 10 to 12, 15 and 16)."""
        segments = self._with_room(self.fits(), self.test)
        if self.asked.required:
            segments = self._with_required(segments)
        closed = self._refused(self.asked.reached, self.asked.timezone)
        return _outside(segments, closed) if closed else segments

    def _with_required(self, segments: list[Segment]) -> list[Segment]:
        """Where the host that is asked for can; alone of its group where that takes one."""
        wanted = self.asked.required
        group = next(group for group in self.asked.groups if group.bits & wanted)
        others = group.bits & ~wanted if group.need == 1 else 0
        return [(start, end, hosts & ~others) for start, end, hosts in segments if hosts & wanted]

    def able_hosts(self) -> int:
        """The members that can take the first start, as bits, be they enough or not (rules 10 to 12)."""
        segments = self._with_room(self._free(bool), bool)
        return next((hosts for start, end, hosts in segments if start <= self.start < end), 0)

    def _free(self, test: Callable[[int], bool]) -> list[Segment]:
        return sweep(shared((self.able(member), member.bit) for member in self.asked.members), test)

    def _with_room(self, segments: list[Segment], test: Callable[[int], bool]) -> list[Segment]:
        """The segments where the `test` still holds without the members whose own limits refuse (rule 12)."""
        refused = [
            (self._refused(member.reached, member.timezone), member.bit)
            for member in self.asked.members
            if member.reached
        ]
        return self._without(segments, refused, test) if any(times for times, _ in refused) else segments

    def _refused(self, reached: Sequence[Reached], timezone: str) -> list[Interval]:
        return union(time for limit in reached for time in limit.refused(timezone, self.start, self.end))

    def _without(
        self, segments: list[Segment], refused: Sequence[tuple[list[Interval], int]], test: Callable[[int], bool]
    ) -> list[Segment]:
        """The segments, less each member where its own limits refuse."""
        shift = len(self.asked.members)
        every = (1 << shift) - 1
        present = [([(start, end)], hosts) for start, end, hosts in segments]
        absent = [(times, bits << shift) for times, bits in refused]

        def left(both: int) -> int:
            return both & every & ~(both >> shift)

        cut = sweep([*present, *absent], lambda both: test(left(both)))
        return [(start, end, left(both)) for start, end, both in cut]


def _outside(segments: Sequence[Segment], closed: Sequence[Interval]) -> list[Segment]:
    """The segments without the time that is closed to everybody."""
    found: list[Segment] = []
    first = 0
    for start, end, hosts in segments:
        while first < len(closed) and closed[first][1] <= start:
            first += 1
        found += [(a, b, hosts) for a, b in subtract([(start, end)], closed[first : bisect_left(closed, (end,))])]
    return found
