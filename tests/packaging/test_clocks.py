"""Whose time it is: that of the database, or of the clock that an application has given; never this machine's."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "nxsched"

TOLD = {"now", "utcnow", "today", "time", "time_ns", "gmtime", "localtime", "ctime"}
OF = {"datetime", "date", "time"}
"""`datetime.now` and the like: a call of one of the first on one of the second."""

ALLOWED = {
    "service/ids.py": "time_ns",  # ids are sorted by about when they were made, which nobody relies on
    "ratelimit/limiter.py": "time",  # how long to wait, from what the counters' own clock has said
    "cli/database.py": "now",  # what a doctor thinks of the zone data's age
}


def asked(file: Path) -> Iterator[str]:
    """What a module asks this machine's clock."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=of), attr=told)) if of in OF and told in TOLD:
                yield told


def test_nobody_asks_this_machine_what_time_it_is() -> None:
    """Servers of an application disagree on the time, and holds, notices and limits have to be the same on all."""
    found = {
        f"{file.relative_to(SOURCE)}": name
        for file in SOURCE.rglob("*.py")
        if file.parent.name != "torture"  # which sets clocks wrong
        for name in asked(file)
    }
    assert found == ALLOWED
