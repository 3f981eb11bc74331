"""Sorted, disjoint, half-open intervals of whole seconds since the epoch (rule 2)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Interval = tuple[int, int]


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


def subtract(free: Sequence[Interval], taken: Sequence[Interval]) -> list[Interval]:
    """What is left of `free` once `taken` is out; `taken` is in the order of its starts and may overlap."""
    left: list[Interval] = []
    i, n = 0, len(taken)
    for begin, stop in free:
        at = begin
        while i < n:
            start, end = taken[i]
            if start >= stop:
                break
            if start > at:
                left.append((at, start))
            at = max(at, end)
            if end > stop:  # it may reach into the next stretch
                break
            i += 1
        if at < stop:
            left.append((at, stop))
    return left


def covers(intervals: Iterable[Interval], start: int, end: int) -> bool:
    """Whether one of the intervals holds `[start, end)` whole."""
    return any(a <= start and end <= b for a, b in intervals)
