"""The exchanged cases: every one is answered exactly, by the library and on the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nxsched.slots import find_slots
from nxsched.slots.scenario import decode, dump, load

FILE = Path(__file__).parents[1] / "cases" / "slots.jsonl"
CASES: list[dict[str, Any]] = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]


def test_there_are_as_many_cases_as_were_exchanged_and_each_has_its_own_name() -> None:
    assert len(CASES) == 190
    assert len({case["name"] for case in CASES}) == 190


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_case_is_answered_exactly(case: dict[str, Any]) -> None:
    assert dump(find_slots(load(case))) == case["expected"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_limit_gives_the_first_slots_of_the_answer(case: dict[str, Any]) -> None:
    expected = case["expected"]
    for limit in {1, 2, len(expected) // 2 + 1, len(expected) + 1}:
        assert dump(find_slots(load(case), limit=limit)) == expected[:limit]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_name_and_the_expected_answer_are_no_part_of_the_question(case: dict[str, Any]) -> None:
    bare = {key: value for key, value in case.items() if key not in {"name", "expected"}}
    assert load(bare) == load(case)


def test_the_command_line_answers_the_whole_file_line_by_line_and_says_nothing_else() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nxsched", "slots", str(FILE), "--json"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    answers = [decode(line) for line in done.stdout.splitlines()]
    assert len(answers) == 190
    assert answers == [{"slots": case["expected"]} for case in CASES]
