"""Commands: what a fingerprint tells apart, and what it does not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from nxsched import Attendee, BlockedPeriod, Host, InvalidInput, Override
from nxsched.domain.commands import Block, Book, SaveHost, details, fingerprint

NINE = datetime(2026, 3, 2, 9, tzinfo=UTC)
BOOK = Book(
    event_type="visit",
    start=NINE,
    host=None,
    duration=timedelta(minutes=30),
    seats=1,
    details=details(Attendee(name="Grace"), {"why": "x"}, {"order": [1, {"a": None}]}, None),
    force=False,
)


def test_the_same_instant_in_another_zone_is_the_same_request() -> None:
    tokyo = replace(BOOK, start=NINE.astimezone(timezone(timedelta(hours=9))))
    assert fingerprint(tokyo) == fingerprint(BOOK)


def test_every_argument_counts() -> None:
    others = [
        replace(BOOK, event_type="call"),
        replace(BOOK, start=NINE + timedelta(seconds=1)),
        replace(BOOK, host="ada"),
        replace(BOOK, duration=None),
        replace(BOOK, force=True),
        replace(BOOK, details=details(Attendee(name="Alan"), {"why": "x"}, {"order": [1, {"a": None}]}, None)),
        replace(BOOK, details=details(Attendee(name="Grace"), {"why": "y"}, {"order": [1, {"a": None}]}, None)),
        replace(BOOK, details=details(Attendee(name="Grace"), {"why": "x"}, {"order": [1, {"a": 0}]}, None)),
        Block(host="ada", period=BlockedPeriod(start=date(2026, 3, 2))),
        Block(host="ada", period=BlockedPeriod(start=date(2026, 3, 3))),
        Block(host=None, period=BlockedPeriod(start=date(2026, 3, 2))),
        SaveHost(host=Host(slug="ada", timezone="UTC", overrides=[Override(date=date(2026, 3, 2))])),
        SaveHost(host=Host(slug="ada", timezone="UTC", overrides=[Override(date=date(2026, 3, 3))])),
    ]
    assert len({fingerprint(one) for one in (BOOK, *others)}) == len(others) + 1


def test_one_is_not_true() -> None:
    answers: list[dict[str, object]] = [{"paid": 1}, {"paid": True}, {"paid": "1"}, {"paid": 0}, {"paid": False}]
    told = [details(Attendee(name="Grace"), one, None, None) for one in answers]
    told += [details(Attendee(name="Grace"), None, one, None) for one in answers]
    assert len({fingerprint(replace(BOOK, details=one)) for one in told}) == len(told)


@pytest.mark.parametrize("answers", [{"q": 10**5000}, {10**5000: "x"}, {"q": {10**5000}}, {"q": [{"a": -(10**5000)}]}])
def test_an_answer_that_cannot_be_written_is_refused_with_a_key_too(answers: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match="answers: cannot be written: ") as caught:
        fingerprint(replace(BOOK, details=details(Attendee(name="Grace"), answers, None, None)))
    assert caught.value.field == "answers"
