"""Where counting starts, and so where starts may lie (rules 18 to 20): a grid is a list of ranges, by arithmetic."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from nxsched.domain.instants import DAY
from nxsched.slots.intervals import Interval
from nxsched.slots.zones import Zone

MINUTE = 60


def window_grid(stretches: Sequence[Interval], step: int, table: Zone, lo: int, hi: int) -> list[range]:
    """Count from the start of each stretch of combined availability (rule 18).

    The starts in `[lo, hi)`; `step` is in seconds, `table` the event type's zone.
    """
    return _counted(((start, end, end - start > DAY) for start, end in stretches), step, table, lo, hi)


def free_grid(stretches: Sequence[Interval], step: int, table: Zone, lo: int, hi: int) -> list[range]:
    """Count from the first start that fits, at a whole minute (rule 20).

    `stretches` hold the starts that fit, so that the last of one is a second before its end.
    """
    whole = ((-(-start // MINUTE) * MINUTE, end, end - 1 - start > DAY) for start, end in stretches)
    return _counted(whole, step, table, lo, hi)


def clock_grid(step: int, offset: int, table: Zone, lo: int, hi: int) -> list[range]:
    """Count on the wall clock from each midnight: minutes since then, less `offset`, divide by step (rule 19)."""
    found: list[range] = []
    for start, end, ahead in table.spans(lo, hi):
        if DAY % step == 0:  # every day has the same grid: midnight goes on where the day before ends
            found.append(_steps(offset - ahead, start, end, step))
            continue
        for day in range((start + ahead) // DAY, (end - 1 + ahead) // DAY + 1):
            midnight = day * DAY - ahead
            found.append(_steps(midnight + offset, max(start, midnight), min(end, midnight + DAY), step))
    return [run for run in found if run]


def _counted(stretches: Iterable[tuple[int, int, bool]], step: int, table: Zone, lo: int, hi: int) -> list[range]:
    """Count from the start of each stretch `(start, end, long)`, and anew at every local midnight in a long one."""
    found: list[range] = []
    for start, end, long in stretches:
        if end <= lo or start >= hi:
            continue
        if not long:
            found.append(range(start if start >= lo else lo + (start - lo) % step, min(end, hi), step))
            continue
        # Midnights further off than two days cannot be the last one before a start that is wanted.
        anchors = table.midnights(max(start, lo - 2 * DAY), min(end, hi))
        for one, other in pairwise((start, *anchors, end)):
            if other > lo and one < hi:
                found.append(_steps(one, max(one, lo), min(other, hi), step))
    return [run for run in found if run]


def _steps(anchor: int, start: int, end: int, step: int) -> range:
    """The numbers of `[start, end)` that lie whole steps from `anchor`, before or after it."""
    return range(start + (anchor - start) % step, end, step)
