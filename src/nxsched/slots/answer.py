"""The answer: a sequence of slots that holds integers and makes datetimes when it is looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from functools import partial
from itertools import accumulate, chain, groupby, islice, repeat, tee
from operator import add, sub
from typing import overload

from nxsched.domain.availability import Slot
from nxsched.domain.instants import date_of, instant
from nxsched.domain.timezones import timezone_name
from nxsched.slots.zones import zone

_slot = partial(tuple.__new__, Slot)


class _Steps(dict[int, timedelta]):
    """Seconds as timedeltas, made once; there are few different ones, and old ones go before they are many."""

    def __missing__(self, seconds: int) -> timedelta:
        if len(self) > _MOST_STEPS:
            self.clear()
        self[seconds] = step = timedelta(seconds=seconds)
        return step


_MOST_STEPS = 10_000
_STEPS = _Steps()


class Slots(Sequence[Slot]):
    """The slots that are offered, in the order of their starts; times are UTC datetimes.

    A part of it (`slots[:3]`) is a `Slots` too. Two are equal where they hold the same slots.
    """

    __slots__ = ("_duration", "_hosts", "_seats", "_starts")

    def __init__(
        self, starts: Sequence[int], duration: int, hosts: Sequence[tuple[str, ...]], seats: Sequence[int]
    ) -> None:
        """Hold starts in epoch seconds, one duration in seconds, and the hosts and seats left of each."""
        self._starts = starts
        self._duration = duration
        self._hosts = hosts
        self._seats = seats

    def __len__(self) -> int:
        """How many starts are offered."""
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> Slot: ...
    @overload
    def __getitem__(self, index: slice) -> Slots: ...
    def __getitem__(self, index: int | slice) -> Slot | Slots:
        """One slot, or a part of the answer."""
        if isinstance(index, slice):
            return Slots(self._starts[index], self._duration, self._hosts[index], self._seats[index])
        start = instant(self._starts[index])
        return Slot(start, start + timedelta(seconds=self._duration), self._hosts[index], self._seats[index])

    def __iter__(self) -> Iterator[Slot]:
        """Make the slots one after another.

        Loops in C do what a slot's constructor would; and to add one of a few kept steps to the start before takes
        half as long as to make each start from its seconds.
        """
        if not self._starts:
            return iter(())
        steps = map(_STEPS.__getitem__, map(sub, islice(self._starts, 1, None), self._starts))
        starts, again = tee(accumulate(chain((instant(self._starts[0]),), steps)))
        ends = map(add, again, repeat(timedelta(seconds=self._duration)))
        return map(_slot, zip(starts, ends, self._hosts, self._seats, strict=True))

    def __eq__(self, other: object) -> bool:
        """Whether both hold the same slots."""
        if not isinstance(other, Slots):
            return NotImplemented
        return list(self) == list(other)

    def __hash__(self) -> int:
        """Hash by the starts alone, which equal answers share."""
        return hash(tuple(self._starts))

    def __repr__(self) -> str:
        """Say how many there are, and from when to when."""
        if not self._starts:
            return "<Slots: none>"
        return f"<Slots: {len(self)} from {self[0].start.isoformat()} to {self[-1].start.isoformat()}>"

    def by_day(self, timezone: str) -> dict[date, Slots]:
        """The slots by the local date of their start in `timezone`, days in order; a day without slots is left out.

        Raises `InvalidInput` for an unknown time zone.
        """
        timezone_name("timezone", timezone)
        if not self._starts:
            return {}
        table = zone(timezone, min(self._starts), max(self._starts))
        found: dict[date, list[int]] = {}
        for day, places in groupby(range(len(self)), key=lambda i: table.day_of(self._starts[i])):
            found.setdefault(date_of(day), []).extend(places)
        return {day: self._at(found[day]) for day in sorted(found)}  # a clock that goes back may end a date twice

    def _at(self, places: Sequence[int]) -> Slots:
        starts, hosts, seats = ([column[i] for i in places] for column in (self._starts, self._hosts, self._seats))
        return Slots(starts, self._duration, hosts, seats)  # type: ignore[arg-type]
