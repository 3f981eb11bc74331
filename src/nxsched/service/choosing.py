"""Which hosts a booking gets, of those that can take it (rule 29)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from nxsched.domain.event_types import EventType, HostGroup


@dataclass(frozen=True, slots=True)
class Choice:
    """The hosts in the order of the groups, and why these; no reason where there was nothing to choose."""

    hosts: tuple[str, ...]
    because: str | None


def choose(
    event_type: EventType,
    able: Collection[str],
    latest: Mapping[str, int],
    host: str | None,
    *,
    preferred: Collection[str],
    held: Collection[str] = (),
) -> Choice | None:
    """As many hosts of each group as it needs, all of them `able`; `None` where a group has too few.

    The one who was asked for comes first, then those who had `held` the time, then those `preferred`, then who was
    booked longest ago, or never (`latest` holds when, for those who were), then the order of the group.
    """
    chosen: list[str] = []
    because: list[str] = []
    for group in event_type.groups:
        free = [slug for slug in group.members if slug in able]
        if len(free) < group.needed or (host in group.members and host not in free):
            return None
        ranked = sorted(
            free, key=lambda slug: (slug != host, slug not in held, slug not in preferred, latest.get(slug, -1))
        )
        chosen += sorted(ranked[: group.needed], key=group.members.index)
        if len(group.members) > group.needed:
            kept = {*held}.issuperset(ranked[: group.needed])
            because.append("held it before" if kept else _reason(group, host, len(free)))
    return Choice(tuple(chosen), "; ".join(because) or None)


def _reason(group: HostGroup, host: str | None, free: int) -> str:
    asked = f"{host} was asked for" if host in group.members else ""
    if asked and group.needed == 1:
        return asked
    least = f"least recently booked of {free} that were free" if free > group.needed else "nobody else was free"
    return f"{asked}, the rest {least}" if asked else least


def is_pool(event_type: EventType) -> bool:
    """Whether there is a group with more members than it needs."""
    return any(len(group.members) > group.needed for group in event_type.groups)
