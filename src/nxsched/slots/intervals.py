"""Sorted, disjoint, half-open intervals of whole seconds since the epoch (rule 2)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

Interval = tuple[int, int]

_NEVER: Final = (1 << 62, 1 << 62)
"""An empty interval after all others."""


def union(intervals: Iterable[Interval]) -> list[Interval]:
    """The same time in as few intervals as possible: those that overlap or touch become one, empty ones vanish."""
    merged: list[Interval] = []
    reach: int | None = None
    for start, end in sorted(intervals):
        if start >= end:
            continue
        if reach is None or start > reach:
            merged.append((start, end))
            reach = end
        elif end > reach:
            merged[-1] = (merged[-1][0], end)
            reach = end
    return merged


def subtract(
    free: Iterable[Interval], taken: Iterable[Interval], *, earlier: int = 0, later: int = 0
) -> list[Interval]:
    """What is left of `free` once `taken` is out.

    `taken` is in the order of its starts and may overlap; each of it begins `earlier` and ends `later` than it says.
    """
    left: list[Interval] = []
    stretches = iter(free)
    at, stop = next(stretches, _NEVER)
    for start, end in taken:
        first = start - earlier
        while first >= stop:
            if at < stop:
                left.append((at, stop))
            begin, stop = next(stretches, _NEVER)
            if begin > at:  # noqa: PLR1730 - max() takes longer; else what was taken last reaches into this stretch
                at = begin
        if first > at:
            left.append((at, first))
        if end + later > at:  # noqa: PLR1730 - as above
            at = end + later
    if at < stop:
        left.append((at, stop))
    left += [(max(at, begin), stop) for begin, stop in stretches if at < stop]
    return left


def covers(intervals: Iterable[Interval], start: int, end: int) -> bool:
    """Whether one of the intervals holds `[start, end)` whole."""
    return any(a <= start and end <= b for a, b in intervals)
