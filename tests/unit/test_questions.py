"""Questions and their answers, and what else an event type says of itself."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from nxsched import EventType, InvalidInput, Question
from nxsched.domain.commands import fingerprint
from nxsched.domain.questions import answers

HALF = timedelta(minutes=30)

ASKED = [
    Question(key="why", label="Why?", required=True),
    Question(key="age", label="Age", kind="number"),
    Question(key="new", label="New here?", kind="yes_no"),
    Question(key="size", label="Size", kind="choice", choices=["S", "L"]),
    Question(key="days", label="Days", kind="choices", choices=["mon", "tue"]),
]


def test_answers_of_every_kind_are_kept_and_empty_ones_answer_nothing() -> None:
    given = {"why": "a\tb\nc", "age": 4.5, "new": False, "size": "L", "days": ("tue", "mon")}
    assert answers(ASKED, given) == {**given, "days": ["tue", "mon"]}
    assert answers(ASKED, {"why": "x", "size": "", "days": [], "age": None}) == {"why": "x"}


@pytest.mark.parametrize(
    ("given", "field", "reason"),
    [
        ({}, "answers.why", "is required and missing"),
        ({"why": "x", "age": True}, "answers.age", "must be a number, not True"),
        ({"why": "x", "age": "4"}, "answers.age", 'must be a number, not "4"'),
        ({"why": "x", "age": float("nan")}, "answers.age", "must lie between"),
        ({"why": "x", "age": 10**15 + 1}, "answers.age", "must lie between"),
        ({"why": "x", "new": "yes"}, "answers.new", "must be a bool"),
        ({"why": "x", "size": "M"}, "answers.size", "must be one of S, L"),
        ({"why": "x", "days": ["mon", "sun"]}, "answers.days[1]", "must be one of mon, tue"),
        ({"why": "x", "days": "mon"}, "answers.days", 'must be a list of choices, not "mon"'),
        ({"why": "x", "days": ["mon", "mon"]}, "answers.days", "must name each choice once"),
        ({"why": "x", "days": {"mon"}}, "answers.days", "must be a list of choices"),
        ({"why": "x", "days": iter(["mon"])}, "answers.days", "must be a list of choices"),
        ({"why": "x", "what": "y"}, "answers.what", 'asks no such question; it asks "why", "age"'),
        ({"why": "x\x07"}, "answers.why", "must not hold control"),
    ],
)
def test_an_answer_that_does_not_fit_its_question_is_refused(given: dict[str, Any], field: str, reason: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        answers(ASKED, given)
    assert caught.value.field == field
    assert reason in caught.value.reason


def test_where_nothing_is_asked_nothing_is_answered() -> None:
    assert answers([], {}) == {}
    with pytest.raises(InvalidInput, match=r"the event type asks no such question$"):
        answers([], {"why": "x"})


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"key": ""}, "key"),
        ({"label": ""}, "label"),
        ({"kind": "date"}, "kind"),
        ({"required": 1}, "required"),
        ({"kind": "choice"}, "choices"),
        ({"choices": ["a"]}, "choices"),
        ({"kind": "choice", "choices": ["a", "a"]}, "choices"),
        ({"kind": "choice", "choices": [str(n) for n in range(101)]}, "choices"),
        ({"kind": "choice", "choices": ["a", ""]}, "choices[1]"),
        ({"kind": "choice", "choices": "ab"}, "choices"),
    ],
)
def test_a_question_that_cannot_be_asked_is_refused(values: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Question(**{"key": "why", "label": "Why?", **values})
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"durations": [HALF]}, "durations"),
        ({"durations": [HALF * 2, HALF * 2]}, "durations"),
        ({"durations": [HALF * n for n in range(2, 23)]}, "durations"),
        ({"durations": [timedelta()]}, "durations[0]"),
        ({"durations": [30]}, "durations[0]"),
        ({"questions": [Question(key="a", label="A"), Question(key="a", label="B")]}, "questions[1].key"),
        ({"questions": [Question(key=str(n), label="A") for n in range(51)]}, "questions"),
        ({"questions": ["why"]}, "questions[0]"),
        ({"requires_approval": 1}, "requires_approval"),
        ({"archived": None}, "archived"),
        ({"policies": {}}, "policies"),
        ({"location": ""}, "location"),
        ({"name": "a\nb"}, "name"),
        ({"description": "x" * 10_001}, "description"),
        ({"description": 5}, "description"),
    ],
)
def test_what_an_event_type_says_of_itself_is_checked(values: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        EventType(duration=HALF, hosts=["ada"], **values)
    assert caught.value.field == field


def test_a_duration_that_is_chosen_takes_the_place_of_the_own() -> None:
    event = EventType(duration=HALF, durations=[HALF * 2], hosts=["ada"])
    assert event.lasting(None) is event
    assert event.lasting(HALF) is event
    assert event.lasting(HALF * 2).duration == HALF * 2
    with pytest.raises(InvalidInput, match="must be one of 30, 60 minutes, not 90"):
        event.lasting(HALF * 3)


def test_what_contains_itself_has_no_fingerprint() -> None:
    own: dict[str, Any] = {}
    own["itself"] = own
    with pytest.raises(InvalidInput, match="nested too deeply"):
        fingerprint(own)


def test_a_key_that_is_no_text_is_named_as_far_as_it_can_be() -> None:
    for key, field in ((3, "answers.3"), (10**5000, "answers.a int too large to show")):
        with pytest.raises(InvalidInput, match="asks no such question") as caught:
            answers([], {key: "x"})  # type: ignore[dict-item]
        assert caught.value.field == field


def test_the_duration_that_is_kept_is_the_event_types_and_not_the_callers() -> None:
    class Hours(timedelta):
        """Equal to what it is worth, and unlike it in all else."""

    event = EventType(duration=HALF, durations=[HALF * 2], hosts=["ada"])
    assert type(event.lasting(Hours(hours=1)).duration) is timedelta
