"""Which hosts a booking gets, of those that can take it (rule 29)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nxsched.domain.event_types import EventType, HostGroup
from nxsched.domain.strategies import Strategy

Turns = Mapping[str, int]
"""By slug: how many bookings a host has in the period, or when they were booked last; no entry for never."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The hosts in the order of the groups, and why these; no reason where there was nothing to choose."""

    hosts: tuple[str, ...]
    because: str | None


class Held(NamedTuple):
    """Hosts who are to have it again where they can, and what is said of that."""

    hosts: Sequence[str] = ()
    because: str = "held it before"


def choose(
    event_type: EventType,
    able: Collection[str],
    turns: Turns,
    host: str | None,
    *,
    preferred: Collection[str],
    held: Held,
) -> Choice | None:
    """As many hosts of each group as it needs, all of them `able`; `None` where a group has too few.

    The one who was asked for comes first, then those who had `held` it, then those `preferred`, then whose turn it is
    by the event type's strategy, then the order of the group.
    """
    by = event_type.chosen_by
    chosen: list[str] = []
    because: list[str] = []
    for group in event_type.groups:
        free = [slug for slug in group.members if slug in able]
        if len(free) < group.needed or (host in group.members and host not in free):
            return None
        ranked = sorted(
            free, key=lambda slug: (slug != host, slug not in held.hosts, slug not in preferred, _turn(by, slug, turns))
        )
        chosen += sorted(ranked[: group.needed], key=group.members.index)
        if len(group.members) > group.needed:
            same = {*held.hosts}.issuperset(ranked[: group.needed])
            because.append(held.because if same else _reason(by, group, host, free, turns))
    return Choice(tuple(chosen), "; ".join(because) or None)


def _turn(by: Strategy, slug: str, turns: Turns) -> float:
    """Who has the least comes first."""
    if by.by == "least_recently_booked":
        return turns.get(slug, -1)
    if by.by == "weighted":  # who would have the least with this one, each counted by their weight
        return (turns.get(slug, 0) + 1) / by.weights.get(slug, 1)
    return turns.get(slug, 0) if by.counts else 0


def _reason(by: Strategy, group: HostGroup, host: str | None, free: Collection[str], turns: Turns) -> str:
    asked = f"{host} was asked for" if host in group.members else ""
    if asked and group.needed == 1:
        return asked
    found = "nobody else was free"
    if len(free) > group.needed:
        found = f"{_HOW[by.by].format(per=by.per)} of {len(free)} that were free"
        if by.counts:
            found += f" ({', '.join(f'{slug} has {turns.get(slug, 0)}' for slug in [*free][:_SHOWN])})"
    return f"{asked}, the rest {found}" if asked else found


_HOW = {
    "least_recently_booked": "least recently booked",
    "fewest_bookings": "fewest bookings in the {per}",
    "weighted": "fewest bookings in the {per} by weight",
    "priority": "first in the order of the group",
}

_SHOWN = 10
"""Hosts whose numbers a reason repeats."""


def is_pool(event_type: EventType) -> bool:
    """Whether there is a group with more members than it needs."""
    return any(len(group.members) > group.needed for group in event_type.groups)
