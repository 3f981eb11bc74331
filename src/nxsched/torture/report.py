"""What a torture has come to: what was done, what was broken, how long callers waited, and what did not hold."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, NamedTuple

from nxsched.torture.checker import REMINDER, Violation
from nxsched.torture.evidence import Received
from nxsched.torture.journal import Asked
from nxsched.torture.worker import HOWS

_ENOUGH: Final = 500
"""Tries after which something must have been served in every way."""

SOON: Final = 1.5
"""Seconds: three times what was measured (docs/reliability.md)."""


class Span(NamedTuple):
    """A fault in seconds of the monotonic clock; `excuses`, whether a call may wait for as long as it lasts.

    `of` names the worker to whom alone it happened.
    """

    began: float
    ended: float
    excuses: bool
    of: str | None = None


@dataclass
class Report:
    """What was done, what was broken, and what did not hold."""

    seed: int
    violations: list[Violation] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    planned: set[str] = field(default_factory=set)
    begun: set[str] = field(default_factory=set)
    calls: Counter[str] = field(default_factory=Counter)
    reads: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    told_how: Counter[str] = field(default_factory=Counter)
    workers: int = 0
    relays: int = 0
    received: Counter[str] = field(default_factory=Counter)
    repeats: int = 0
    taken_up: float = 0.0
    bookings: int = 0
    asked_again: int = 0
    spans: list[Span] = field(default_factory=list)
    ended: dict[str, float] = field(default_factory=dict)
    waited: list[float] = field(default_factory=list)

    @property
    def soon(self) -> float:
        """Within how many seconds, those of faults apart, 99 of 100 calls were answered that one may have held up."""
        return sorted(self.waited)[int(len(self.waited) * 0.99)] if self.waited else 0.0

    def count_received(self, received: Sequence[Received]) -> None:
        """Add up what receivers were given, and how much of it more than once."""
        for one in received:
            self.received["reminders" if one.kind == REMINDER else "posts" if one.of else "events"] += 1
        self.repeats = len(received) - len({one.id for one in received})

    @property
    def operations(self) -> int:
        """Calls, each of them once, however often it was tried."""
        return self.calls.total()

    def count(self, asked: Mapping[str, Asked], notes: Sequence[Mapping[str, Any]]) -> None:
        """Add up what the journals say."""
        for one in asked.values():
            self.calls[one.method] += 1
            for tried in one.tries:
                self.ends[tried.end or "killed"] += 1
                self.told_how[tried.how] += tried.end == "told"
        for how in HOWS:
            if not self.told_how[str(how)] and self.ends.total() > _ENOUGH:
                self.violations.append(Violation("all faces and levels are served", f"never: {how}"))
        for note in notes:
            if "exhausted" in note:
                began, ended = note["exhausted"]
                self.spans.append(Span(began, ended, excuses=True, of=note["of"]))
        self.waited = _waited(self.spans, asked, self.ended)
        if self.soon > SOON:
            found = f"99 of 100 that a fault may have held up took up to {self.soon:.1f} s beside it"
            self.violations.append(Violation("calls are answered soon after a fault", found))
        self._count_notes(notes)

    def _count_notes(self, notes: Sequence[Mapping[str, Any]]) -> None:
        for note in notes:
            if "wrong" in note:
                self.violations.append(Violation("callers see no errors but ours", note["wrong"]))
            if "looks" in note:
                self.reads[note["looks"]] += 1
            for kind, name in {"cancelled": "tasks cancelled", "exhausted": "a worker's pool exhausted"}.items():
                if kind in note:
                    self.faults[name] += 1


def _waited(spans: Sequence[Span], asked: Mapping[str, Asked], killed: Mapping[str, float]) -> list[float]:
    """Of the tries that a fault may have held up, how long each waited, the time of those that excuse it apart.

    `killed` says when processes were found dead: until then those waited whom they have not answered.
    """
    found: list[float] = []
    for worker, calls in groupby(sorted(asked.values(), key=_worker), key=_worker):
        theirs = [one for one in spans if one.of in {None, worker}]
        broken = _joined([(one.began, one.ended) for one in theirs])
        excused = _joined([(one.began, one.ended) for one in theirs if one.excuses])
        for tried in (one for call in calls for one in call.tries):
            over = tried.ended or killed.get(worker)
            if over is not None and next(_meeting(broken, tried.began, over), None):
                held = sum(
                    min(ended, over) - max(began, tried.began) for began, ended in _meeting(excused, tried.began, over)
                )
                found.append(over - tried.began - max(0.0, held))
    return found


def _worker(call: Asked) -> str:
    """Whose call it is, by its key."""
    return call.key.rpartition(".")[0]


def _meeting(spans: Sequence[tuple[float, float]], began: float, ended: float) -> Iterator[tuple[float, float]]:
    """Those of the spans, which do not overlap, that lie in this time."""
    for one in spans[bisect_left(spans, began, key=itemgetter(1)) :]:
        if one[0] > ended:
            return
        yield one


def _joined(spans: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Without overlaps: what is broken twice is broken."""
    found: list[tuple[float, float]] = []
    for began, ended in sorted(spans):
        if found and began <= found[-1][1]:
            found[-1] = found[-1][0], max(ended, found[-1][1])
        else:
            found.append((began, ended))
    return found
