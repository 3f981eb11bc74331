"""A slow and obvious reading of docs/rules.md, against which the slot calculator is tested.

Time is drawn as numpy arrays with one element per second. Nothing here is shared with the calculator: the model takes
the raw scenario (section 10) and works every rule out by painting seconds and looking at them. The numbers in the
comments are those of the rules. Scenarios are taken to be valid; nothing is refused here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
from dateutil.rrule import rrulestr

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy.typing as npt

    Seconds = npt.NDArray[np.bool_]

Json = dict[str, Any]
Code = tuple[str, str | None]

DAY = 86_400
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
ONE_DAY = timedelta(days=1)
# A stretch that reaches back this far is longer than 24 hours, and has a local midnight shortly before any start in it.
MARGIN = 3 * DAY


def answer(scenario: Json) -> list[Json]:
    """The slots of a scenario, in the form that `expected` has in the shared cases."""
    first, until = _seconds(scenario["from"]), _seconds(scenario["until"])
    if until <= first:
        return []
    world = World(scenario, first, until)
    slots = []
    for start in sorted({*world.candidates(first, until), *world.joinable}):
        # 17: the range holds the start; the end may lie beyond.
        if first <= start < until and not world.codes(start):
            hosts, seats_left = world.offer(start)
            slots.append(
                {
                    "start": _text(start),
                    "end": _text(start + world.duration),
                    "hosts": hosts,
                    "seats_left": seats_left,
                }
            )
    return slots


def codes(scenario: Json, start: datetime) -> set[Code]:
    """Every (code, host) with which rule 25 refuses the start; empty if it is offered."""
    return codes_at(scenario, [start])[0]


def codes_at(scenario: Json, starts: Sequence[datetime]) -> list[set[Code]]:
    """`codes` for several starts that are not far apart, drawn on one canvas."""
    moments = [_second(start) for start in starts]
    world = World(scenario, min(moments), max(moments) + 1)
    return [world.codes(moment) for moment in moments]


# --- instants and wall times -----------------------------------------------------------------------------------------


def _seconds(text: str) -> int:
    return _second(datetime.fromisoformat(text))


def _second(moment: datetime) -> int:
    """Epoch seconds of an instant without a fraction."""
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    assert since.microseconds == 0
    return since.days * DAY + since.seconds


def _second_before(moment: datetime) -> int:
    return _second(moment.replace(microsecond=0))


def _second_after(moment: datetime) -> int:
    return _second_before(moment) + (1 if moment.microsecond else 0)


def _text(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _instant(wall: datetime, zone: ZoneInfo) -> int:
    """Rule 3: the first of two; what is skipped is read with the offset before the gap. `fold=0` says both."""
    offset = wall.replace(tzinfo=zone, fold=0).utcoffset()
    assert offset is not None
    return _second((wall - offset).replace(tzinfo=UTC))


def _local(second: int, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(second, zone)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time())


def _on(day: date, wall: str) -> datetime:
    """A wall time "09:00" on a date; "24:00" is the midnight that ends it."""
    hours, minutes = wall.split(":")
    return _midnight(day) + timedelta(hours=int(hours), minutes=int(minutes))


def _span(window: Json, day: date, zone: ZoneInfo) -> tuple[int, int]:
    """Rule 6: where `end` is not later than `start`, the window ends on the next date."""
    start, end = _on(day, window["start"]), _on(day, window["end"])
    if end <= start:
        end += ONE_DAY
    return _instant(start, zone), _instant(end, zone)


# --- recurrence ------------------------------------------------------------------------------------------------------


def _occurrences(first: datetime, rule: str | None, zone: ZoneInfo, last: datetime) -> Iterator[datetime]:
    """Rule 9: the wall times at which a blocked period starts, none much later than `last`."""
    if rule is None:
        yield first
        return
    parts = [part.split("=") for part in rule.split(";")]
    limit = next((value for name, value in parts if name == "UNTIL"), None)
    endless = ";".join("=".join(part) for part in parts if part[0] != "UNTIL")
    for start in rrulestr(endless, dtstart=first):
        if start > last:
            return
        if limit is None or _in_time(start, limit, zone):
            yield start


def _in_time(start: datetime, limit: str, zone: ZoneInfo) -> bool:
    """UNTIL with `Z` is an instant, without it local; a bare date includes that day."""
    if limit.endswith("Z"):
        return _instant(start, zone) <= _seconds(limit)
    if "T" in limit:
        return start <= datetime.fromisoformat(limit)
    return start.date() <= date.fromisoformat(limit)


# --- bookings --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Occurrence:
    """Rule 23: the bookings that share event type, start, end and set of hosts."""

    event_type: str | None
    start: int
    end: int
    hosts: frozenset[str]
    seats: int


def _known_occurrences(hosts: Json) -> list[Occurrence]:
    # 22: bookings with the same id are one, whichever hosts list them; without an id each is its own.
    bookings: dict[object, tuple[Json, set[str]]] = {}
    for slug, host in hosts.items():
        for number, booking in enumerate(host.get("bookings", [])):
            name = ("id", booking["id"]) if booking.get("id") is not None else ("none", slug, number)
            bookings.setdefault(name, (booking, set()))[1].add(slug)
    # 22, 23: what shares event type, start, end and hosts is one occurrence; without an event type each is alone.
    together: dict[object, list[tuple[Json, set[str]]]] = {}
    for key, (booking, holders) in bookings.items():
        event_type = booking.get("event_type")
        moment = (event_type, _seconds(booking["start"]), _seconds(booking["end"]), frozenset(holders))
        together.setdefault(key if event_type is None else moment, []).append((booking, holders))
    return [
        Occurrence(
            event_type=members[0][0].get("event_type"),
            start=_seconds(members[0][0]["start"]),
            end=_seconds(members[0][0]["end"]),
            hosts=frozenset(members[0][1]),
            seats=sum(booking.get("seats", 1) for booking, _ in members),
        )
        for members in together.values()
    ]


# --- limits ----------------------------------------------------------------------------------------------------------


def _period(day: date, per: str) -> tuple[int, ...]:
    if per == "day":
        return (day.year, day.month, day.day)
    if per == "week":  # 21: from Monday
        return tuple(day.isocalendar())[:2]
    if per == "month":
        return (day.year, day.month)
    assert per == "year"
    return (day.year,)


def _has_room(
    limits: Iterable[Json], occurrences: Iterable[Occurrence], zone: ZoneInfo, start: int, duration: int
) -> bool:
    """Rule 21: there is room when the new booking still fits, by the local date on which bookings start."""
    known = list(occurrences)
    for limit in limits:
        period = _period(_local(start, zone).date(), limit["per"])
        same = [o for o in known if _period(_local(o.start, zone).date(), limit["per"]) == period]
        if limit.get("count") is not None and len(same) + 1 > limit["count"]:
            return False
        if limit.get("minutes") is not None and sum(o.end - o.start for o in same) + duration > limit["minutes"] * 60:
            return False
    return True


# --- pictures --------------------------------------------------------------------------------------------------------


def _count_in(picture: Seconds, length: int) -> npt.NDArray[np.int32]:
    """How many of each [s, s + length) are true, for every s that leaves room for the length."""
    trues = np.zeros(len(picture) + 1, dtype=np.int32)
    np.cumsum(picture, dtype=np.int32, out=trues[1:])
    return trues[length:] - trues[: len(trues) - length]


def _all_of(picture: Seconds, length: int) -> Seconds:
    """For every second s: are all of [s, s + length) true? What lies beyond the picture is false."""
    padded = np.concatenate([picture, np.zeros(length - 1, dtype=bool)])
    fits: Seconds = _count_in(padded, length) == length
    return fits


def _any_of(picture: Seconds, before: int, after: int) -> Seconds:
    """For every second s: is any of [s - before, s + after) true? What lies beyond the picture is false."""
    padded = np.concatenate([np.zeros(before, dtype=bool), picture, np.zeros(after - 1, dtype=bool)])
    return _count_in(padded, before + after) > 0


def _stretches(picture: Seconds) -> list[tuple[int, int]]:
    """The maximal runs [start, end) of what is true, as places in the picture."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], picture, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


class World:
    """A scenario drawn second by second around the starts [first, until) that are asked about."""

    def __init__(self, scenario: Json, first: int, until: int) -> None:
        event = scenario["event_type"]
        self.hosts: Json = scenario["hosts"]
        self.closures: list[Json] = scenario.get("closures", [])
        self.slug: str | None = event.get("slug")
        self.duration = event["duration_minutes"] * 60
        self.step = (event.get("step_minutes") or event["duration_minutes"]) * 60  # section 6: defaults to the duration
        self.before = event.get("buffer_before_minutes", 0) * 60
        self.after = event.get("buffer_after_minutes", 0) * 60
        self.notice = event.get("minimum_notice_minutes", 0) * 60
        self.window: Json = event.get("booking_window") or {}
        self.limits: list[Json] = event.get("limits", [])
        self.align: str = event.get("align", "window")
        self.offset = event.get("offset_minutes", 0)
        self.capacity: int = event.get("capacity", 1)
        self.groups: list[list[str]] = [group["members"] for group in event["hosts"]]
        # 16: need is 1 if absent
        needs = [group.get("need", 1) for group in event["hosts"]]
        self.needs = [len(group) if need == "all" else need for group, need in zip(self.groups, needs, strict=True)]
        # 14: its own zone if set, else that of the first member of its first group
        self.zone = ZoneInfo(event.get("timezone") or self.hosts[self.groups[0][0]]["timezone"])
        # 1: now is rounded up
        self.now = _second_after(datetime.fromisoformat(scenario["now"]))
        self.occurrences = _known_occurrences(self.hosts)

        self.first, self.until = first, until
        self.low = first - MARGIN - self.before
        self.size = until + MARGIN + self.duration + self.after - self.low

        members = [slug for group in self.groups for slug in group]
        self.in_hours = {slug: self._hours(slug) for slug in members}
        blocked = {slug: self._blocked(slug) for slug in members}
        busy = {slug: self._busy(slug) for slug in members}
        self.whole_in_hours = {slug: _all_of(self.in_hours[slug], self.duration) for slug in members}
        self.meets_blocked = {slug: _any_of(blocked[slug], 0, self.duration) for slug in members}
        # 11: with the buffers, which may reach outside the hours and into blocked periods
        self.meets_busy = {slug: _any_of(busy[slug], self.before, self.duration + self.after) for slug in members}
        # 10: the whole slot lies inside one stretch of free time; 11: and it meets nothing busy
        free = {slug: _all_of(self.in_hours[slug] & ~blocked[slug], self.duration) for slug in members}
        self.fits = {slug: free[slug] & ~self.meets_busy[slug] for slug in members}
        self.on_grid = self._grid()
        self.joinable = self._joinable()

    # --- painting

    def _paint(self, picture: Seconds, start: int, end: int) -> None:
        picture[max(start - self.low, 0) : max(end - self.low, 0)] = True

    def _blank(self) -> Seconds:
        return np.zeros(self.size, dtype=bool)

    def _dates(self) -> list[date]:
        """Every local date that any zone can have in the picture, and some more."""
        day = datetime.fromtimestamp(self.low, UTC).date() - 3 * ONE_DAY
        last = datetime.fromtimestamp(self.low + self.size, UTC).date() + 3 * ONE_DAY
        days = []
        while day <= last:
            days.append(day)
            day += ONE_DAY
        return days

    def _hours(self, slug: str) -> Seconds:
        """Rules 5 to 8. Painting over what is painted makes windows that overlap or touch one (8)."""
        host = self.hosts[slug]
        picture = self._blank()
        for day in self._dates():
            # 5: an override for the date, also an empty one, replaces the hours of its weekday
            overrides = [o for o in host.get("overrides", []) if date.fromisoformat(o["date"]) == day]
            windows = (
                overrides[0]["hours"]
                if overrides
                else [w for w in host.get("weekly_hours", []) if WEEKDAYS[day.weekday()] in w["days"]]
            )
            # 7: on the dates of a trip, both ends included, they are read in the zone of the trip
            zone = ZoneInfo(host["timezone"])
            for trip in host.get("travel", []):
                if date.fromisoformat(trip["from"]) <= day <= date.fromisoformat(trip["until"]):
                    zone = ZoneInfo(trip["timezone"])
            for window in windows:
                # 3: a window whose end instant is not after its start instant is empty
                self._paint(picture, *_span(window, day, zone))
        return picture

    def _blocked(self, slug: str) -> Seconds:
        """Rule 9: the host's own blocked periods and the closures of the tenant, at home also on trips."""
        zone = ZoneInfo(self.hosts[slug]["timezone"])
        last = datetime.fromtimestamp(self.low + self.size, UTC).replace(tzinfo=None) + 3 * ONE_DAY
        picture = self._blank()
        for period in [*self.hosts[slug].get("blocked", []), *self.closures]:
            if "T" not in period["start"]:
                # whole local dates, the last one included; without an end the same day
                start = _midnight(date.fromisoformat(period["start"]))
                end = _midnight(date.fromisoformat(period.get("end") or period["start"])) + ONE_DAY
            else:
                start, end = datetime.fromisoformat(period["start"]), datetime.fromisoformat(period["end"])
            if start.tzinfo is not None:
                # in instants: absolute, and without a rule; a fraction of a second still takes the second
                self._paint(picture, _second_before(start), _second_after(end))
                continue
            # a rule repeats start and end in wall time, and rule 3 reads both
            for occurrence in _occurrences(start, period.get("rrule"), zone, last):
                self._paint(picture, _instant(occurrence, zone), _instant(occurrence + (end - start), zone))
        return picture

    def _busy(self, slug: str) -> Seconds:
        host = self.hosts[slug]
        picture = self._blank()
        # 11: a booking is busy with its own buffers; 24: an occurrence with seats left as well
        for booking in host.get("bookings", []):
            self._paint(
                picture,
                _seconds(booking["start"]) - booking.get("buffer_before_minutes", 0) * 60,
                _seconds(booking["end"]) + booking.get("buffer_after_minutes", 0) * 60,
            )
        for start, end in host.get("busy", []):
            if datetime.fromisoformat(start) == datetime.fromisoformat(end):
                continue  # 2: empty, hence ignored
            # 1: widened to whole seconds
            self._paint(
                picture, _second_before(datetime.fromisoformat(start)), _second_after(datetime.fromisoformat(end))
            )
        return picture

    # --- the grid

    def _enough(self, pictures: dict[str, Seconds]) -> Seconds:
        """Where every group has at least `need` members for whom the picture is true."""
        everywhere = np.ones(self.size, dtype=bool)
        for group, need in zip(self.groups, self.needs, strict=True):
            everywhere &= np.sum([pictures[slug] for slug in group], axis=0) >= need
        return everywhere

    def _midnights(self) -> list[int]:
        return [_instant(_midnight(day), self.zone) - self.low for day in self._dates()]

    def _grid(self) -> Seconds:
        if self.align == "clock":
            return self._clock_grid()
        grid = self._blank()
        if self.align == "window":
            # 18: the stretches of combined availability, before blocked periods and busy time
            for start, end in _stretches(self._enough(self.in_hours)):
                self._count(grid, start, end, longer_than_a_day=end - start > DAY)
        else:
            assert self.align == "free"
            # 20: the stretches of starts that fit, from the first start to the last
            for start, end in _stretches(self._enough(self.fits)):
                # one that begins within a minute begins counting at the next whole minute
                whole_minute = start + -(self.low + start) % 60
                self._count(grid, whole_minute, end, longer_than_a_day=(end - 1) - start > DAY)
        return grid

    def _count(self, grid: Seconds, start: int, end: int, *, longer_than_a_day: bool) -> None:
        """Mark every step of [start, end); in a long stretch anew at every local midnight inside it."""
        anchors = [start]
        if longer_than_a_day:
            anchors += sorted({midnight for midnight in self._midnights() if start < midnight < end})
        for anchor, following in zip(anchors, [*anchors[1:], end], strict=True):
            grid[anchor : max(following, anchor) : self.step] = True

    def _clock_grid(self) -> Seconds:
        # 19: minutes since midnight on the wall, less the offset, divide by the step
        grid = self._blank()
        for second in range(self.first + -self.first % 60, self.until, 60):
            wall = _local(second, self.zone)
            assert wall.second == 0  # true of every zone since 1972
            if (wall.hour * 60 + wall.minute - self.offset) * 60 % self.step == 0:
                grid[second - self.low] = True
        return grid

    # --- seats

    def _rank(self, occurrence: Occurrence) -> list[tuple[int, str]]:
        """Who holds an occurrence, in the order of the groups; who is in no group comes last, by slug."""
        order = {slug: place for place, slug in enumerate(slug for group in self.groups for slug in group)}
        return sorted((order[slug], "") if slug in order else (len(order), slug) for slug in occurrence.hosts)

    def _ours(self) -> list[Occurrence]:
        """The occurrences of this event type; without a slug there are none."""
        return [o for o in self.occurrences if self.slug is not None and o.event_type == self.slug]

    def _joinable(self) -> dict[int, Occurrence]:
        """Rule 23: by start, the occurrence that is offered instead of a new one."""
        joinable: dict[int, Occurrence] = {}
        if self.capacity > 1:
            with_room = [o for o in self._ours() if o.end - o.start == self.duration and o.seats < self.capacity]
            # the fullest; between equals the one whose hosts come first
            for occurrence in sorted(with_room, key=lambda o: (-o.seats, self._rank(o))):
                joinable.setdefault(occurrence.start, occurrence)
        return joinable

    # --- one start

    def candidates(self, first: int, until: int) -> list[int]:
        """The starts of [first, until) that are on the grid and fit; the other rules are left to `codes`."""
        possible = self.on_grid & self._enough(self.fits)
        return [self.low + int(place) for place in np.flatnonzero(possible) if first <= self.low + place < until]

    def takers(self, group: list[str], start: int) -> list[str]:
        """The members that can take a new booking (section 4), in the order of the group."""
        return [
            slug for slug in group if self.fits[slug][start - self.low] and not self._host_limit_refuses(slug, start)
        ]

    def _host_limit_refuses(self, slug: str, start: int) -> bool:
        # 12; 22: all of the host's occurrences, in the host's zone
        mine = [o for o in self.occurrences if slug in o.hosts]
        zone = ZoneInfo(self.hosts[slug]["timezone"])
        return not _has_room(self.hosts[slug].get("limits", []), mine, zone, start, self.duration)

    def codes(self, start: int) -> set[Code]:
        found: set[Code] = set()
        # 13
        if start < self.now:
            found.add(("past", None))
        if self.notice > 0 and start < self.now + self.notice:
            found.add(("notice", None))
        if not self._in_booking_window(start):
            found.add(("window", None))
        # 23: only rules 13, 14 and 17 apply to joining
        if start in self.joinable:
            return found
        place = start - self.low
        # 17
        if not self.on_grid[place]:
            found.add(("off_grid", None))
        # 15; 22: its own occurrences, also with hosts outside its groups, in its zone
        if not _has_room(self.limits, self._ours(), self.zone, start, self.duration):
            found.add(("event_limit", None))
        # 16
        for group, need in zip(self.groups, self.needs, strict=True):
            if len(self.takers(group, start)) < need:
                found |= self._group_codes(group, start)
        return found

    def _group_codes(self, group: list[str], start: int) -> set[Code]:
        """About a group that falls short: what is in the way of each member that cannot take the start."""
        found: set[Code] = {("not_enough_hosts", None)}
        for slug in group:
            if slug not in self.takers(group, start):
                found |= self._host_codes(slug, start)
        if self.capacity > 1 and any(
            o.start == start
            and o.end - o.start == self.duration
            and o.seats >= self.capacity
            and not o.hosts.isdisjoint(group)
            for o in self._ours()
        ):
            found.add(("full", None))
        return found

    def _host_codes(self, slug: str, start: int) -> set[Code]:
        place = start - self.low
        found: set[Code] = set()
        if not self.whole_in_hours[slug][place]:
            found.add(("outside_hours", slug))
        if self.meets_blocked[slug][place]:
            found.add(("blocked", slug))
        if self.meets_busy[slug][place]:
            found.add(("busy", slug))
        if self._host_limit_refuses(slug, start):
            found.add(("host_limit", slug))
        return found

    def _in_booking_window(self, start: int) -> bool:
        # 14: by the local date in the event type's zone; what is given must all hold
        day = _local(start, self.zone).date()
        today = _local(self.now, self.zone).date()
        days, earliest, latest = (self.window.get(key) for key in ("days", "from", "until"))
        return (
            (days is None or day <= today + timedelta(days=days))
            and (earliest is None or day >= date.fromisoformat(earliest))
            and (latest is None or day <= date.fromisoformat(latest))
        )

    def offer(self, start: int) -> tuple[list[str], int]:
        """Hosts and seats of a start that is offered."""
        if start in self.joinable:
            occurrence = self.joinable[start]
            slugs = [slug for group in self.groups for slug in group if slug in occurrence.hosts]
            return [*slugs, *sorted(occurrence.hosts - set(slugs))], self.capacity - occurrence.seats
        return [slug for group in self.groups for slug in self.takers(group, start)], self.capacity
