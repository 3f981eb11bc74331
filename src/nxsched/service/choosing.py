"""Which hosts a booking gets, of those that can take it (rule 29)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from nxsched.domain.event_types import EventType, HostGroup
from nxsched.domain.strategies import Strategy


class Turns(NamedTuple):
    """By slug: how many bookings a host has in the period, and when they were booked last; no entry for never."""

    counts: Mapping[str, int] = MappingProxyType({})
    latest: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Choice:
    """The hosts in the order of the groups, and why these; no reason where there was nothing to choose.

    `ranks` are their places in the order of turns: who comes first now is to come first again, of those booked at once.
    """

    hosts: tuple[str, ...]
    because: str | None
    ranks: tuple[int, ...] = field(default=(), compare=False)


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
    ranks: list[int] = []
    for group in event_type.groups:
        free = [slug for slug in group.members if slug in able]
        if len(free) < group.needed or (host in group.members and host not in free):
            return None
        ranked = sorted(
            free, key=lambda slug: (slug != host, slug not in held.hosts, slug not in preferred, _turn(by, slug, turns))
        )
        theirs = sorted(ranked[: group.needed], key=group.members.index)
        chosen += theirs
        ranks += [ranked.index(slug) for slug in theirs]
        if len(group.members) > group.needed:
            because.append(_reason(by, group, ranked, host, turns, preferred=preferred, held=held))
    return Choice(tuple(chosen), "; ".join(because) or None, tuple(ranks))


def _turn(by: Strategy, slug: str, turns: Turns) -> tuple[float, int]:
    """Who has the least comes first, and of those who was booked longest ago."""
    count, latest = turns.counts.get(slug, 0), turns.latest.get(slug, -1)
    if by.by == "priority":
        return 0, 0
    if by.by == "weighted":  # who would have the least with this one, each counted by their weight
        return (count + 1) / by.weights.get(slug, 1), latest
    return count if by.counts else 0, latest


def _reason(  # noqa: PLR0913 - what it goes by
    by: Strategy,
    group: HostGroup,
    ranked: Sequence[str],
    host: str | None,
    turns: Turns,
    *,
    preferred: Collection[str],
    held: Held,
) -> str:
    """Why the first of those that are free were chosen, as many as the group needs."""
    needed = group.needed
    chosen = ranked[:needed]
    said = [f"{slug} was asked for" for slug in chosen if slug == host]
    again = [slug for slug in chosen if slug != host and slug in held.hosts]
    said += [held.because] if len(again) == needed else [f"{slug} {held.because}" for slug in again]
    rest = chosen[len(said) if len(again) < needed else needed :]
    if not rest:
        return ", ".join(said)
    others = ranked[needed - len(rest) :]
    if {*rest}.issubset(preferred):
        others = [slug for slug in others if slug in preferred]
    found = "nobody else was free"
    if len(others) > len(rest):
        found = f"{_HOW[by.by].format(per=by.per)} of {len(others)} that were free"
        if by.counts:
            shown = sorted(others[:_SHOWN], key=group.members.index)
            found += f" ({', '.join(f'{slug} has {turns.counts.get(slug, 0)}' for slug in shown)})"
    return ", ".join([*said, f"the rest {found}" if said and len(others) > len(rest) else found])


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
