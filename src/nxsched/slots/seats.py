"""Occurrences and their seats: which can be joined, and which are full (rules 22 to 24)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nxsched.domain.availability import BookedTime


@dataclass(frozen=True, slots=True)
class Occurrence:
    """Bookings that share event type, start, end and hosts: one class, with its seats."""

    event_type: str | None
    start: int
    end: int
    hosts: frozenset[str]
    seats: int
    ids: tuple[str, ...]


def occurrences(bookings: Iterable[BookedTime]) -> list[Occurrence]:
    """The occurrences that the bookings make up; one without an event type is an occurrence by itself."""
    found: dict[object, Occurrence] = {}
    for i, booking in enumerate(bookings):
        start, end = booking.span()
        hosts = frozenset(booking.hosts)
        key = i if booking.event_type is None else (booking.event_type, start, end, hosts)
        one = found.get(key)
        seats, ids = (one.seats, one.ids) if one else (0, ())
        own = (booking.id,) if booking.id is not None else ()
        found[key] = Occurrence(booking.event_type, start, end, hosts, seats + booking.seats, ids + own)
    return list(found.values())


def by_start(standing: Iterable[Occurrence], seconds: int) -> dict[int, list[Occurrence]]:
    """The occurrences that last as long as asked for, by start."""
    found: dict[int, list[Occurrence]] = {}
    for one in standing:
        if one.end - one.start == seconds:
            found.setdefault(one.start, []).append(one)
    return found


def joinable(
    standing: Iterable[Occurrence], capacity: int, places: Mapping[str, int], seats: int = 1
) -> Occurrence | None:
    """Of the occurrences at one start, the fullest with so many seats left.

    Between equals it is the one whose hosts come first.
    """
    with_room = [one for one in standing if one.seats + seats <= capacity]
    return min(with_room, key=lambda one: (-one.seats, _order(one.hosts, places)), default=None)


def in_order(hosts: Iterable[str], places: Mapping[str, int]) -> tuple[str, ...]:
    """Hosts in the order of the groups; one that is in no group any more comes last."""
    return tuple(slug for _, slug in _order(hosts, places))


def _order(hosts: Iterable[str], places: Mapping[str, int]) -> list[tuple[int, str]]:
    return sorted((places.get(slug, len(places)), slug) for slug in hosts)
