"""The benchmarks run to their end. Their bounds are for a quiet machine and many rounds: `make bench`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "arguments", "tables"),
    [
        ("calculator.py", ("--rounds", "1"), ["any of 100 hosts", "exponent"]),
        ("store.py", ("--rounds", "1", "--each", "5", "--most", "10000"), ["written by hand", "SELECTs", "Growth"]),
        ("lifecycle.py", ("--rounds", "1", "--each", "5"), ["Joins to one class", "reschedule", "asyncio"]),
        (
            "outbox.py",
            ("--rounds", "1", "--events", "400", "--finished", "400", "--bookings", "9"),
            ["by hand", "looking", "reminders"],
        ),
        ("load.py", ("--rounds", "1", "--clients", "50", "--hosts", "64"), ["one slot", "by hand", "silent", "beside"]),
    ],
)
def test_a_benchmark_measures_all_that_it_names(script: str, arguments: tuple[str, ...], tables: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode in {0, 1}, done.stderr  # 1: a bound is broken, which so short a run says nothing about
    assert "Traceback" not in done.stderr
    assert [table for table in tables if table.lower() not in done.stdout.lower()] == [], done.stdout
