"""The table and the picture of whose turn it is are those of the simulation, which is the same every time."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "teams.md"
PICTURE = ROOT / "docs" / "images" / "fairness.svg"
VERSION = re.compile(r"Matplotlib v([\d.]+)")


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[list[str]], str]:
    """The rows of the table, and the picture."""
    drawn = tmp_path_factory.mktemp("fairness") / "fairness.svg"
    command = [sys.executable, str(ROOT / "benchmarks" / "fairness.py"), "--picture", str(drawn)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    return cells(done.stdout, "│"), drawn.read_text(encoding="utf-8")


def cells(text: str, border: str) -> list[list[str]]:
    """The rows of a table that hold shares."""
    lines = [line.strip().strip(border) for line in text.splitlines() if line.startswith(border) and "%" in line]
    return [[cell.strip() for cell in line.split(border)] for line in lines]


def test_the_table_has_the_shares_of_the_simulation(simulated: tuple[list[list[str]], str]) -> None:
    rows, _ = simulated
    assert [row[0][:3] for row in rows] == ["ada", "bob", "cyd", "dan", "eve", "eve"]
    assert cells(PAGE.read_text(encoding="utf-8"), "|") == rows


def test_each_booking_has_one_host(simulated: tuple[list[list[str]], str]) -> None:
    rows, _ = simulated
    for column in list(zip(*rows[:5], strict=True))[2:]:
        assert sum(float(cell.rstrip("%")) for cell in column) == pytest.approx(100, abs=0.3)


def test_the_picture_is_what_the_simulation_draws(simulated: tuple[list[list[str]], str]) -> None:
    _, drawn = simulated
    kept = PICTURE.read_text(encoding="utf-8")
    again = "draw it anew: python benchmarks/fairness.py --picture docs/images/fairness.svg"
    assert texts(kept) == texts(drawn), again
    found = VERSION.search(kept)
    assert found is not None
    if found[1] == mpl.__version__:  # another one sets its lines in another way
        assert kept == drawn, again


def texts(picture: str) -> list[str]:
    """All that can be read in a picture."""
    return re.findall(r"<text[^>]*>([^<]+)</text>", picture)


def test_the_picture_is_small_and_has_words_that_can_be_read_and_no_date() -> None:
    kept = PICTURE.read_text(encoding="utf-8")
    assert len(kept) < 100_000
    assert "dc:date" not in kept
    assert {"least recently booked", "priority", "eve: Mon to Fri, from week 35"} <= {*texts(kept)}


def test_the_command_tells_how_it_is_used() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "fairness.py"), "--help"]
    told = subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout
    assert "Example: python benchmarks/fairness.py --picture" in told
