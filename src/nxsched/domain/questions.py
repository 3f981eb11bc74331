"""Questions that an event type asks the attendee, and their answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from nxsched.domain import checks
from nxsched.domain.bounds import MAX_ANSWER, MAX_CHOICES
from nxsched.errors import InvalidInput

QuestionKind = Literal["text", "number", "yes_no", "choice", "choices"]
KINDS: Final = ("text", "number", "yes_no", "choice", "choices")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question. `key` names its answer; `label` is what the attendee reads.

    The answer is a text of at most 5,000 characters (`text`), a number (`number`), `True` or `False` (`yes_no`), one
    of `choices` (`choice`) or a list of some of them (`choices`). Raises `InvalidInput`.
    """

    key: str
    label: str
    kind: QuestionKind = "text"
    required: bool = False
    choices: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Check the values, and keep the choices as a tuple."""
        checks.text("key", self.key)
        checks.text("label", self.label)
        checks.one_of("kind", self.kind, KINDS)
        checks.kind("required", self.required, bool)
        choices = checks.items("choices", self.choices, str)
        for i, choice in enumerate(choices):
            checks.text(f"choices[{i}]", choice)
        if (self.kind in {"choice", "choices"}) != bool(choices):
            reason = "are needed for this kind" if not choices else f"are not for the kind {self.kind}"
            raise InvalidInput(field="choices", reason=reason)
        if len(choices) > MAX_CHOICES or len(set(choices)) < len(choices):
            raise InvalidInput(field="choices", reason=f"must be at most {MAX_CHOICES}, each given once")
        object.__setattr__(self, "choices", choices)

    def answer(self, field: str, value: object) -> Any:  # noqa: ANN401 - a text, a number, a bool or a list
        """The answer, checked. Raises `InvalidInput`."""
        if self.kind == "text":
            return checks.prose(field, value, most=MAX_ANSWER)
        if self.kind == "number":
            return checks.number(field, value)
        if self.kind == "yes_no":
            checks.kind(field, value, bool)
            return value
        if self.kind == "choice":
            return checks.one_of(field, value, self.choices)
        if not isinstance(value, list | tuple):  # others are read once only, or in another order each time
            raise InvalidInput(field=field, reason=f"must be a list of choices, not {checks.shown(value)}")
        chosen = checks.items(field, value, str)
        if len({*chosen}) < len(chosen):
            raise InvalidInput(field=field, reason="must name each choice once")
        return [checks.one_of(f"{field}[{i}]", one, self.choices) for i, one in enumerate(chosen)]


def answers(questions: Sequence[Question], given: Mapping[str, object]) -> dict[str, Any]:
    """The answers, each checked against its question. Raises `InvalidInput`, also for one that is required and missing.

    An empty text and an empty list answer nothing.
    """
    known = {question.key: question for question in questions}
    for key in given:
        if key not in known:
            asked = f"; it asks {', '.join(map(checks.shown, known))}" if known else ""
            reason = f"the event type asks no such question{asked}"
            name = checks.printable(key[:60]) if isinstance(key, str) else checks.shown(key)
            raise InvalidInput(field=f"answers.{name}", reason=reason)
    found: dict[str, Any] = {}
    for key, question in known.items():
        value = given.get(key)
        if value is not None and value not in ("", [], ()):
            found[key] = question.answer(f"answers.{key}", value)
        elif question.required:
            raise InvalidInput(field=f"answers.{key}", reason="is required and missing")
    return found
