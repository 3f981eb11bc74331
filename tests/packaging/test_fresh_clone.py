"""The two commands of the README, on a fresh clone, as on a machine that has Python and make and nothing of ours."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

ROOT = Path(__file__).parents[2]

OURS = re.compile(r"(PYTHON|PYTEST|COV|MAKE|MFLAGS|NXSCHED|MUTANT|VIRTUAL_ENV)")
"""Variables that this run has set, or that would lead the clone back to it."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ROOT / ".git").exists(), reason="there is no repository to clone"),
]


def clean_environment() -> dict[str, str]:
    """The environment without a virtual environment, ours or any, and without what a running test sets."""
    places = [
        place
        for place in os.environ.get("PATH", os.defpath).split(os.pathsep)
        if place and Path(place) != Path(sys.executable).parent and not (Path(place).parent / "pyvenv.cfg").exists()
    ]
    kept = {name: value for name, value in os.environ.items() if not OURS.match(name)}
    return {**kept, "PATH": os.pathsep.join(places)}


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder that is none of pytest's: each session of it, the clone's too, closes its folders to other users.

    The server is another user where root starts it.
    """
    with TemporaryDirectory(prefix="nxsched-clone-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def test_the_commands_of_the_readme_work_on_a_fresh_clone(elsewhere: Path) -> None:
    clone = elsewhere / "nxsched"
    env = clean_environment()
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], env=env, check=True, capture_output=True)
    first = re.search(r"^```sh\n(.*?)^```", (clone / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert first is not None
    assert first[1].split("\n") == ["make demo", "make test", ""]

    said = {}
    for command in first[1].splitlines():
        done = subprocess.run(
            command.split(),
            cwd=clone,
            env=env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        said[command] = done.stdout
        assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout[-5000:]}"

    demo = said["make demo"]
    assert "49 got SlotTaken" in demo
    assert "bookings in the database: 1" in demo
    assert "Grace, who comes back to confirm: hold_expired" in demo
    assert "orders: 0, bookings: 0" in demo
    assert "orders: 1, bookings: 1" in demo
    for told in (
        "3 have a seat, 7 were told",
        "gets the seat: True",
        "moved: held it before",
        "in the place of",
        "she moves it from",
        "the link, after that: the link is not valid",
        "60 booked, 40 got SlotTaken",
    ):
        assert told in demo
    for name in ("clinic", "team", "class"):
        assert (clone / "demo" / f"{name}.svg").read_text(encoding="utf-8").rstrip().endswith("</svg>")
    assert re.search(r"\d{2,} passed", said["make test"])
    assert not re.search(r"\d+ (failed|error)", said["make test"])
    status = subprocess.run(
        ["git", "status", "--short"], cwd=clone, env=env, check=True, capture_output=True, text=True
    )
    assert status.stdout == ""
