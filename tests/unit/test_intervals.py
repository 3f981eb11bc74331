"""Intervals against sets of seconds, which need no cleverness."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from nxsched.slots.intervals import Interval, covers, subtract, union

END = 60

intervals = st.lists(st.tuples(st.integers(0, END), st.integers(0, END)), max_size=8)


def seconds(times: list[Interval]) -> set[int]:
    return {second for start, end in times for second in range(start, end)}


def is_in_order(times: list[Interval]) -> bool:
    """Sorted, disjoint and none of them empty."""
    return all(a < b for a, b in times) and all(b <= a for (_, b), (a, _) in pairwise(times))


@given(times=intervals)
def test_a_union_is_the_same_time_in_as_few_intervals_as_possible(times: list[Interval]) -> None:
    found = union(times)
    assert seconds(found) == seconds(times)
    assert is_in_order(found)
    assert all(b < a for (_, b), (a, _) in pairwise(found))


@given(times=intervals)
def test_the_union_of_a_union_is_itself(times: list[Interval]) -> None:
    assert union(union(times)) == union(times)
    assert union(iter(times)) == union(times[::-1])


@given(
    free=intervals.map(union),
    taken=intervals.map(lambda times: sorted(one for one in times if one[0] < one[1])),
    earlier=st.integers(0, 5),
    later=st.integers(0, 5),
)
def test_what_is_taken_is_what_is_no_longer_free(
    free: list[Interval], taken: list[Interval], earlier: int, later: int
) -> None:
    grown = [(start - earlier, end + later) for start, end in taken]
    found = subtract(free, taken, earlier=earlier, later=later)
    assert seconds(found) == seconds(free) - seconds(grown)
    assert is_in_order(found)


@given(cuts=st.lists(st.integers(0, END), min_size=2, max_size=12, unique=True).map(sorted), taken=intervals.map(union))
def test_stretches_that_touch_stay_apart(cuts: list[int], taken: list[Interval]) -> None:
    free = list(pairwise(cuts))
    found = subtract(free, taken)
    assert seconds(found) == seconds(free) - seconds(taken)
    assert all(any(a <= start and end <= b for a, b in free) for start, end in found)


def test_nothing_is_taken_from_nothing() -> None:
    assert subtract([], []) == []
    assert subtract([], [(0, 5)]) == []
    assert subtract([(0, 5), (7, 9)], []) == [(0, 5), (7, 9)]


def test_what_is_taken_may_come_from_an_iterator() -> None:
    assert subtract(iter([(0, 9)]), iter([(2, 3), (4, 5)])) == [(0, 2), (3, 4), (5, 9)]


@given(times=intervals.map(union), start=st.integers(0, END), lasts=st.integers(1, END))
def test_a_stretch_is_covered_where_one_interval_holds_all_of_it(times: list[Interval], start: int, lasts: int) -> None:
    assert covers(times, start, start + lasts) == (set(range(start, start + lasts)) <= seconds(times))
