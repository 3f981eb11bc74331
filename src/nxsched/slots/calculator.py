"""Find the slots: the starts of the grid at which enough hosts can, in one sweep over a range (rules 1 to 24)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final

from nxsched.domain import checks
from nxsched.domain.bounds import MAX_LIMIT, MAX_STARTS
from nxsched.domain.effort import Effort
from nxsched.domain.instants import DAY
from nxsched.errors import InvalidInput
from nxsched.slots.answer import Slots
from nxsched.slots.groups import Names, Segment
from nxsched.slots.intervals import Interval
from nxsched.slots.prepared import Prepared
from nxsched.slots.query import SlotQuery
from nxsched.slots.seats import in_order
from nxsched.slots.terrain import Terrain

_FIRST_CHUNK: Final = 7 * DAY
_LONG_CHUNK: Final = 400 * DAY


def find_slots(query: SlotQuery, limit: int | None = None) -> Slots:
    """The slots that the event type offers in the query's range, by start (`docs/rules.md`).

    With a `limit` the first so many: the work stops there, whatever the size of the range.
    Raises `InvalidInput` for a limit below 1, without a limit where there would be more than 100,000 starts, and where
    hours and blocked periods hold more than a million windows and occurrences.
    """
    checks.kind("query", query, SlotQuery)
    return offered(query.prepared, limit)


def offered(asked: Prepared, limit: int | None = None) -> Slots:
    """The slots of a prepared question; errors and limit as in `find_slots`."""
    if limit is not None:
        checks.whole("limit", limit, least=1, most=MAX_LIMIT)
    effort = Effort()
    most = limit or MAX_STARTS + 1
    starts: list[int] = []
    hosts: list[tuple[str, ...]] = []
    seats: list[int] = []
    for start, end in _chunks(asked, limit):
        for a, b in open_starts(asked, start, end):
            more = _offers(Terrain(asked, a, b, effort), most - len(starts))
            starts += more[0]
            hosts += more[1]
            seats += more[2]
        if len(starts) >= most:
            break
    if limit is None and len(starts) > MAX_STARTS:
        reason = f"without one the answer would hold more than {MAX_STARTS} starts; set it, or ask for a shorter range"
        raise InvalidInput(field="limit", reason=reason)
    return Slots(starts[:most], asked.duration, hosts[:most], seats[:most])


def open_starts(asked: Prepared, start: int, end: int) -> list[Interval]:
    """The starts in `[start, end)` that notice and booking window allow (rules 13 and 14)."""
    start = max(start, asked.earliest)
    return asked.in_window(start, end) if start < end else []


def _chunks(asked: Prepared, limit: int | None) -> Iterator[Interval]:
    """The range in pieces: of 400 days, or, where the first few slots may do, small ones that double up to that."""
    start, size = max(asked.start, asked.earliest), _LONG_CHUNK if limit is None else _FIRST_CHUNK
    while start < asked.end:
        end = min(start + size, asked.end)
        yield start, end
        start, size = end, min(2 * size, _LONG_CHUNK)


def _offers(terrain: Terrain, most: int) -> tuple[list[int], list[tuple[str, ...]], list[int]]:
    """The first `most` or more of the offers on a terrain: starts, hosts, seats left."""
    asked = terrain.asked
    capacity = asked.capacity
    segments = terrain.offered()
    starts, hosts = _pick(terrain.grid(), segments, Names([member.slug for member in asked.members]), most)
    seats = [capacity] * len(starts)
    first, last = (bisect_left(asked.joinable_starts, at) for at in (terrain.start, terrain.end))
    if first == last:
        return starts, hosts, seats
    offers = dict(zip(starts, zip(hosts, seats, strict=True), strict=True))
    for at in asked.joinable_starts[first:last]:  # instead of a new occurrence (rule 23)
        one = asked.joinable[at]
        offers[at] = in_order(one.hosts, asked.places), capacity - one.seats
    starts = sorted(offers)
    return starts, [offers[at][0] for at in starts], [offers[at][1] for at in starts]


def _pick(  # noqa: C901 - the innermost loop: a call for each segment would double its time
    grid: Sequence[range], segments: Sequence[Segment], names: Names, most: int
) -> tuple[list[int], list[tuple[str, ...]]]:
    """The first `most` starts of the grid that lie in a segment, each with the hosts of the segment."""
    starts: list[int] = []
    hosts: list[tuple[str, ...]] = []
    if not segments:
        return starts, hosts
    i, n = 0, len(segments)
    for run in grid:
        begin, stop, step = run.start, run.stop, run.step
        while i < n and segments[i][1] <= begin:
            i += 1
        while i < n:
            start, end, bits = segments[i]
            if start >= stop:
                break
            if start < begin:
                start = begin
            else:
                start += (begin - start) % step  # the next start of the grid
            last = end if end < stop else stop  # noqa: FURB136 - min() takes twice as long, once a segment
            if start + step >= last:
                if start < last:
                    starts.append(start)
                    hosts.append(names[bits])
            else:
                found = range(start, last, step)[: most - len(starts)]
                starts += found
                hosts += [names[bits]] * len(found)
            if end > stop:  # it may reach into the next run
                break
            i += 1
        if len(starts) >= most:
            break
    return starts[:most], hosts[:most]
