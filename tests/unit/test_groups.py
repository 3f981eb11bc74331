"""Host groups as bits, against sets of names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nxsched.slots.groups import Names, enough, shared, sweep
from nxsched.slots.intervals import Interval, union
from nxsched.slots.prepared import Group

SLUGS = ["ada", "bob", "cyd", "dee"]
END = 40

times = st.lists(st.tuples(st.integers(0, END), st.integers(0, END)), max_size=6).map(union)
hosts = st.lists(times, min_size=1, max_size=4)


@st.composite
def groups(draw: st.DrawFn) -> list[Group]:
    """Draw a division of the four hosts into groups, and the need of each."""
    cuts = sorted(draw(st.sets(st.integers(1, 3))))
    found = []
    for first, end in zip([0, *cuts], [*cuts, 4], strict=True):
        bits = sum(1 << i for i in range(first, end))
        found.append(Group(bits, draw(st.integers(1, end - first))))
    return found


@given(found=groups(), present=st.integers(0, 15))
def test_there_are_enough_where_every_group_has_as_many_as_it_needs(found: list[Group], present: int) -> None:
    test = enough(found)
    expected = all(sum(1 for i in range(4) if present & group.bits & 1 << i) >= group.need for group in found)
    assert bool(test(present)) == expected
    assert bool(test(present)) == expected


@given(found=groups(), every=hosts)
def test_a_sweep_holds_every_moment_with_enough_hosts_and_just_these(
    found: list[Group], every: list[list[Interval]]
) -> None:
    test = enough(found)
    segments = sweep([(mine, 1 << i) for i, mine in enumerate(every)], test)
    present = {
        moment: bits
        for moment in range(END)
        if test(bits := sum(1 << i for i, mine in enumerate(every) if any(a <= moment < b for a, b in mine)))
    }
    assert {moment: bits for start, end, bits in segments for moment in range(start, end)} == present
    assert all(start < end for start, end, _ in segments)
    assert segments == sorted(segments)


def test_hosts_with_one_and_the_same_time_are_taken_together() -> None:
    ours, equal = [(0, 5)], [(0, 5)]
    assert shared([(ours, 1), (equal, 2), (ours, 4)]) == [(ours, 5), (equal, 2)]


@pytest.mark.parametrize(("bits", "names"), [(0, ()), (1, ("ada",)), (0b1010, ("bob", "dee")), (15, tuple(SLUGS))])
def test_bits_are_names_in_the_order_of_the_groups(bits: int, names: tuple[str, ...]) -> None:
    known = Names(SLUGS)
    assert known[bits] == names
    assert known[bits] is known[bits]
