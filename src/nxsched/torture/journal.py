"""What callers asked for and were told: lines of JSON, appended and synced before and after each call.

A line that is there was written before whatever came after it, also where its process was killed in between. A process
that is killed while it writes leaves half a line, which says nothing.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

End = Literal["told", "refused", "unknown", "undone", "wrong"]
"""What came of a try: it was done and said so; it was refused; nobody knows; the application thought better of it; an
error that no caller may ever see."""


AFTERWARDS: Final = "afterwards"
"""How a call is made when all is over."""


class Told(NamedTuple):
    """What a caller was told of a booking or hold; `start` as its events have it."""

    id: str
    version: int
    status: str
    start: str
    hosts: Sequence[str]


@dataclass(slots=True)
class Try:
    """One time that a call was made."""

    how: str
    began: float
    ended: float | None = None
    end: End | None = None
    said: str = ""
    told: Sequence[Told] = ()


@dataclass(slots=True)
class Asked:
    """A call, with the key of its tries: all that it leaves behind names that key."""

    key: str
    tenant: str
    method: str
    arguments: dict[str, Any]
    tries: list[Try] = field(default_factory=list)


class Journal:
    """Of one process. Times are those of the system's monotonic clock, which all processes share."""

    def __init__(self, file: Path) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def begin(self, how: str, key: str, tenant: str, method: str, arguments: Mapping[str, Any]) -> None:
        """Before a call."""
        self._write({"begin": key, "how": how, "tenant": tenant, "method": method, "arguments": arguments})

    def end(self, key: str, end: End, said: str = "", told: Sequence[Told] = ()) -> None:
        """After it."""
        self._write({"end": key, "as": end, "said": said, "told": told})

    def note(self, **words: object) -> None:
        """What is counted besides."""
        self._write({"note": words})

    def _write(self, words: dict[str, Any]) -> None:
        line = json.dumps({**words, "at": time.monotonic()})
        os.write(self._file, line.encode() + b"\n")
        os.fsync(self._file)


def written(one: datetime) -> str:
    """An instant, as events have it."""
    return one.astimezone(UTC).isoformat().replace("+00:00", "Z")


def read(files: Sequence[Path]) -> tuple[dict[str, Asked], list[dict[str, Any]]]:
    """All calls by their keys, and the notes. A try without an end is one whose process was killed."""
    asked: dict[str, Asked] = {}
    notes: list[dict[str, Any]] = []
    for file in files:
        for line in _lines(file):
            if "note" in line:
                notes.append(line["note"])
            elif "begin" in line:
                new = Asked(line["begin"], line["tenant"], line["method"], line["arguments"])
                one = asked.setdefault(new.key, new)
                one.tries.append(Try(line["how"], line["at"]))
            else:
                last = asked[line["end"]].tries[-1]
                last.ended, last.end, last.said = line["at"], line["as"], line["said"]
                last.told = [Told(*one) for one in line["told"]]
    return asked, notes


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    for line in file.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):
            yield json.loads(line)
