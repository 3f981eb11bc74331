"""Host groups: when enough members can, and which. Hosts are bits of an integer (rule 16)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, compress, pairwise
from operator import xor

from nxsched.slots.intervals import Interval
from nxsched.slots.prepared import Group

Segment = tuple[int, int, int]
"""`(start, end, hosts)`: half-open, and the hosts as bits."""

_BITS = bytes.maketrans(b"01", b"\x00\x01")


def enough(groups: Sequence[Group]) -> Callable[[int], bool]:
    """A test of hosts as bits: has every group as many as it needs? It remembers its answers."""
    if len(groups) == 1 and groups[0].need == 1:
        return bool
    known: dict[int, bool] = {}

    def test(hosts: int) -> bool:
        answer = known.get(hosts)
        if answer is None:
            answer = known[hosts] = all(group.able(hosts) >= group.need for group in groups)
        return answer

    return test


def sweep(parts: Sequence[tuple[Sequence[Interval], int]], test: Callable[[int], bool]) -> list[Segment]:
    """Lay the times of all hosts over one another; what is left is where the `test` holds.

    `parts` are sorted, disjoint intervals with the bits of the hosts they are the time of. A segment ends where the
    hosts change.
    """
    if len(parts) == 1:
        times, hosts = parts[0]
        return [(start, end, hosts) for start, end in times] if test(hosts) else []
    changes: dict[int, int] = {}
    for times, hosts in parts:
        for start, end in times:
            changes[start] = changes.get(start, 0) ^ hosts
            changes[end] = changes.get(end, 0) ^ hosts
    moments = sorted(changes)
    present = accumulate(map(changes.__getitem__, moments), xor)
    return [(start, end, hosts) for (start, end), hosts in zip(pairwise(moments), present, strict=False) if test(hosts)]


def shared(parts: Iterable[tuple[Sequence[Interval], int]]) -> list[tuple[Sequence[Interval], int]]:
    """The same parts, with those that are one and the same list of intervals taken together."""
    found: dict[int, tuple[Sequence[Interval], int]] = {}
    for times, hosts in parts:
        found[id(times)] = times, found.get(id(times), (times, 0))[1] | hosts
    return list(found.values())


class Names(dict[int, tuple[str, ...]]):
    """Hosts as bits to their slugs, in the order of the groups; each answer is made once."""

    def __init__(self, slugs: Sequence[str]) -> None:
        super().__init__()
        self._slugs = slugs

    def __missing__(self, hosts: int) -> tuple[str, ...]:
        """Pick the slugs of the bits that are set, lowest first."""
        self[hosts] = found = tuple(compress(self._slugs, f"{hosts:b}".encode().translate(_BITS)[::-1]))
        return found
