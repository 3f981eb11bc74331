"""Checks of single values. Each returns the value it was given, or raises `InvalidInput` for the field it is told."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import accumulate
from reprlib import Repr
from typing import Any, TypeVar
from unicodedata import category

from nxsched.domain.bounds import FIRST_YEAR, MAX_MINUTES, MAX_NESTING, MAX_NUMBER, MAX_TEXT
from nxsched.errors import InvalidInput

T = TypeVar("T")

_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_JOINERS = frozenset("\u200c\u200d")
"""They shape letters of Persian and many other scripts, and emoji."""
_NO_XML = frozenset("\ufffe\uffff")
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_TEXTS = re.compile(r'"(?:[^"\\]|\\.)*"')
_LINES = str.maketrans("", "", "\n\r\t")
_SHOWN = 60

_SHORT = Repr()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxdict, _SHORT.maxother = 2, 3, 2, _SHOWN


def _hidden(character: str) -> bool:
    return (category(character) in _UNPRINTABLE and character not in _JOINERS) or character in _NO_XML


def printable(text: str) -> str:
    """A text on one line, with a mark in the place of every character that steers a terminal or hides."""
    return "".join("\N{REPLACEMENT CHARACTER}" if _hidden(c) else c for c in text)


def shown(value: object) -> str:
    """How `value` stands in an error: on one line, quoted where it is text, cut where it is long."""
    if isinstance(value, str):
        text = json.dumps(printable(value[:_SHOWN]), ensure_ascii=False)
    else:
        try:
            text = printable(_SHORT.repr(value))
        except (ValueError, RecursionError):  # a number of more digits than Python prints
            text = f"a {type(value).__name__} too large to show"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def text(field: str, value: object, *, empty: bool = False) -> str:
    """A text of at most 200 characters, all printable; empty only where that is allowed."""
    if not isinstance(value, str):
        raise InvalidInput(field=field, reason=f"must be text, not {shown(value)}")
    if not value.strip() and not (empty and not value):
        raise InvalidInput(field=field, reason="must not be empty")
    if len(value) > MAX_TEXT:
        raise InvalidInput(field=field, reason=f"must have at most {MAX_TEXT} characters, not {len(value)}")
    if not (value.isascii() and value.isprintable()) and any(map(_hidden, value)):
        raise InvalidInput(field=field, reason=f"must not hold control or formatting characters: {shown(value)}")
    return value


def prose(field: str, value: object, *, most: int) -> str:
    """A text of several lines, of at most `most` characters; no other control characters than line ends and tabs."""
    if not isinstance(value, str):
        raise InvalidInput(field=field, reason=f"must be text, not {shown(value)}")
    if len(value) > most:
        raise InvalidInput(field=field, reason=f"must have at most {most} characters, not {len(value)}")
    if any(map(_hidden, value.translate(_LINES))):
        raise InvalidInput(field=field, reason=f"must not hold control or formatting characters: {shown(value)}")
    return value


def number(field: str, value: object) -> float:
    """A finite number; a bool is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInput(field=field, reason=f"must be a number, not {shown(value)}")
    if not -MAX_NUMBER <= value <= MAX_NUMBER:  # nor is what is no number
        raise InvalidInput(field=field, reason=f"must lie between -{MAX_NUMBER} and {MAX_NUMBER}, not {shown(value)}")
    return value


def flag(field: str, value: object) -> bool:
    """True or False, and nothing that merely counts as one."""
    if not isinstance(value, bool):
        raise InvalidInput(field=field, reason=f"must be True or False, not {shown(value)}")
    return value


def json_object(field: str, value: object, *, most: int) -> dict[str, Any]:
    """A copy of an object that JSON can hold, written in at most `most` characters."""
    if not isinstance(value, Mapping):
        raise InvalidInput(field=field, reason=f"must be a dict, not {shown(value)}")
    if not value:
        return {}
    try:
        written = json.dumps(dict(value), allow_nan=False, ensure_ascii=False)
        written.encode()
    except (TypeError, ValueError, RecursionError) as error:
        reason = f"must hold what JSON can hold: {printable(str(error)[:80])}"
        raise InvalidInput(field=field, reason=reason) from error
    if len(written) > most:
        raise InvalidInput(field=field, reason=f"must be written in at most {most} characters, not {len(written)}")
    if _NUL.search(written):
        raise InvalidInput(field=field, reason="must not hold the character U+0000, which the database cannot store")
    if _depth(written) > MAX_NESTING:
        raise InvalidInput(field=field, reason=f"must not be nested more than {MAX_NESTING} deep")
    found: dict[str, Any] = json.loads(written)
    return found


def same_json(one: object, other: object) -> bool:
    """Whether two values are the same in JSON, whose numbers have no type: `1e23` comes back as a whole one."""
    try:
        first, second = (json.loads(json.dumps(it), parse_float=_number, parse_int=_number) for it in (one, other))
    except (TypeError, ValueError, RecursionError):  # one of them is no JSON
        return False
    return bool(first == second)


def _number(written: str) -> tuple[str, Decimal]:
    """A number that is equal to no other value: to Python, 1 is true."""
    return "number", Decimal(written)


def _depth(written: str) -> int:
    """How deep JSON is nested; its texts are left out."""
    steps = ((one in "{[") - (one in "}]") for one in _TEXTS.sub("", written) if one in "{}[]")
    return max(accumulate(steps), default=0)


def email(field: str, value: object) -> str:
    """An address of e-mail, as far as its form goes: whether it exists, only a message can tell."""
    found = text(field, value)
    if not is_email(found):
        raise InvalidInput(field=field, reason=f"must be an address such as ada@example.test, not {shown(value)}")
    return found


def is_email(found: str) -> bool:
    """Whether a text has the form of an address."""
    name, at, domain = found.rpartition("@")
    return bool(name and at and domain) and not any(one.isspace() or one in '<>,;:"()[]\\' for one in found)


def whole(field: str, value: object, *, least: int, most: int) -> int:
    """A whole number between `least` and `most`, both included; a bool is none."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInput(field=field, reason=f"must be a whole number, not {shown(value)}")
    if not least <= value <= most:
        raise InvalidInput(field=field, reason=f"must lie between {least} and {most}, not {shown(value)}")
    return value


def duration(field: str, value: object, *, least: int = 0) -> timedelta:
    """A timedelta of whole minutes, at least `least` of them and at most a leap year's."""
    if not isinstance(value, timedelta):
        raise InvalidInput(field=field, reason=f"must be a timedelta, not {shown(value)}")
    minutes = value.total_seconds() / 60  # by the number: subclasses of timedelta divide in their own way
    if minutes % 1:
        raise InvalidInput(field=field, reason=f"must be whole minutes, not {value}")
    if not least <= minutes <= MAX_MINUTES:
        raise InvalidInput(field=field, reason=f"must lie between {least} and {MAX_MINUTES} minutes, not {minutes:.0f}")
    return timedelta(minutes=minutes)


def role(field: str, value: object) -> str:
    """A word that policies compare letter by letter: what differs in capitals alone would be another one."""
    found = text(field, value)
    if found != found.lower() or found != found.strip():
        raise InvalidInput(
            field=field, reason=f"must be in small letters, without blanks around it, not {shown(found)}"
        )
    return found


def one_of(field: str, value: object, choices: Sequence[str]) -> str:
    """One of the texts in `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise InvalidInput(field=field, reason=f"must be one of {', '.join(choices)}, not {shown(value)}")
    return value


def calendar_date(field: str, value: object) -> date:
    """A date, and not a datetime; not before 1900."""
    if isinstance(value, datetime) or not isinstance(value, date):
        raise InvalidInput(field=field, reason=f"must be a date, not {shown(value)}")
    if value.year < FIRST_YEAR:
        raise InvalidInput(field=field, reason=f"must not lie before the year {FIRST_YEAR}, as {value} does")
    return date(value.year, value.month, value.day)


def items(field: str, value: object, kind: type[T]) -> tuple[T, ...]:
    """A collection of `kind` as a tuple; a text is no collection."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        what = "a list" if kind is object else f"a list of {kind.__name__}"
        raise InvalidInput(field=field, reason=f"must be {what}, not {shown(value)}")
    found = tuple(value)
    for i, item in enumerate(found):
        if not isinstance(item, kind):
            raise InvalidInput(field=f"{field}[{i}]", reason=f"must be a {kind.__name__}, not {shown(item)}")
    return found


def kind(field: str, value: object, wanted: type) -> None:
    """Refuse what is no `wanted`."""
    if not isinstance(value, wanted):
        article = "an" if wanted.__name__[0] in "AEIOU" else "a"
        raise InvalidInput(field=field, reason=f"must be {article} {wanted.__name__}, not {shown(value)}")


def pair(field: str, value: object) -> tuple[Any, Any]:
    """Two values in a row, a start and an end; a text of two characters is none."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:  # noqa: PLR2004 - a pair has two
        raise InvalidInput(field=field, reason=f"must be a pair of start and end, not {shown(value)}")
    return value[0], value[1]
