"""Hosts, event types and blocked periods are read as they were written, whatever they hold."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

import strategies
from nxsched import BlockedPeriod, BookingWindow, EventType, Host, InvalidInput, Policies, Question
from nxsched.domain.instants import epoch_ceil, epoch_floor
from nxsched.domain.questions import QuestionKind
from nxsched.domain.stored import (
    read_blocked,
    read_event_type,
    read_host,
    write_blocked,
    write_event_type,
    write_host,
)
from nxsched.slots import scenario

ID = "018f0c4a-6d1e-7a3b-9c55-0123456789ab"

_CHARACTERS = st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"], exclude_characters="\ufffe\uffff")
TEXTS = st.text(_CHARACTERS, min_size=1, max_size=200).filter(str.strip)
NAMES = st.one_of(st.just(""), TEXTS)
PROSE = st.text(st.one_of(_CHARACTERS, st.sampled_from("\n\r\t")), max_size=500)
MINUTES = st.one_of(st.integers(0, 366 * 24 * 60), st.sampled_from((0, 1, 1440))).map(lambda n: timedelta(minutes=n))
DURATIONS = MINUTES.filter(bool)
SOME_DATES = st.dates(date(1900, 1, 1), date(9999, 12, 31))


@st.composite
def _questions(draw: st.DrawFn, key: str) -> Question:
    kinds: tuple[QuestionKind, ...] = ("text", "number", "yes_no", "choice", "choices")
    kind = draw(st.sampled_from(kinds))
    choices = draw(st.lists(TEXTS, min_size=1, max_size=4, unique=True)) if kind.startswith("choice") else []
    return Question(key=key, label=draw(TEXTS), kind=kind, required=draw(st.booleans()), choices=choices)


POLICIES = st.builds(
    Policies,
    cancel_notice=st.none() | MINUTES,
    reschedule_notice=st.none() | MINUTES,
    most_moves=st.none() | st.integers(0, 1_000_000),
    roles=st.lists(TEXTS.map(str.lower).map(str.strip).filter(bool), max_size=3),
)


@st.composite
def windows(draw: st.DrawFn) -> BookingWindow:
    first, last = sorted((draw(SOME_DATES), draw(SOME_DATES)))
    return BookingWindow(
        days=draw(st.none() | st.integers(0, 36_525)),
        from_date=draw(st.sampled_from((None, first))),
        until_date=draw(st.sampled_from((None, last))),
    )


@st.composite
def event_types(draw: st.DrawFn, from_scenario: EventType) -> EventType:
    """An event type of a scenario, with all that a scenario has no place for."""
    keys = draw(st.lists(TEXTS, max_size=4, unique=True))
    others = draw(st.lists(DURATIONS, max_size=4, unique=True))
    return replace(
        from_scenario,
        slug=draw(TEXTS),
        name=draw(NAMES),
        description=draw(PROSE),
        location=draw(st.none() | TEXTS),
        durations=[one for one in others if one != from_scenario.duration],
        questions=[draw(_questions(key)) for key in keys],
        requires_approval=draw(st.booleans()),
        policies=draw(POLICIES),
        booking_window=draw(st.sampled_from((from_scenario.booking_window, draw(windows())))),
        archived=draw(st.booleans()),
    )


@st.composite
def blocked_periods(draw: st.DrawFn) -> BlockedPeriod:
    """Periods anywhere, up to the ends of what can be said; those of scenarios lie near bookings."""
    kind = draw(st.sampled_from(("date", "wall", "instant")))
    reason = draw(NAMES)
    if kind == "date":
        first, last = sorted((draw(SOME_DATES), draw(SOME_DATES)))
        return BlockedPeriod(start=first, end=draw(st.sampled_from((None, last))), reason=reason)
    limits: dict[str, Any] = {"min_value": datetime(1900, 1, 1), "max_value": datetime(9999, 12, 31, 23, 59, 59)}  # noqa: DTZ001
    at = st.datetimes(**limits)
    first, last = sorted((draw(at), draw(at)))
    if kind == "wall":
        start, end = first.replace(microsecond=0), last.replace(microsecond=0)
        rule = draw(st.sampled_from((None, "FREQ=WEEKLY", "FREQ=DAILY;COUNT=5", "FREQ=YEARLY;UNTIL=99991231T000000Z")))
    else:
        zone = timezone(timedelta(minutes=draw(st.integers(-1439, 1439))))
        start, end, rule = first.replace(tzinfo=zone), last.replace(tzinfo=zone), None
    return BlockedPeriod(start=start, end=end, rrule=rule, reason=reason)


def read_again(period: BlockedPeriod) -> BlockedPeriod:
    return read_blocked(ID, write_blocked(period))


@given(st.data(), strategies.scenarios())
def test_what_a_scenario_can_hold_is_read_as_it_was_written(
    data: st.DataObject, given_scenario: dict[str, Any]
) -> None:
    query = scenario.load(given_scenario)
    for host in query.hosts:
        named = replace(host, name=data.draw(NAMES), email=data.draw(st.sampled_from((None, "a@b.test"))))
        found = read_host(named.slug, named.name, named.email, write_host(named), archived=False)
        assert found == named
        assert isinstance(found, Host)
    event = data.draw(event_types(query.event_type))
    assert read_event_type(event.slug, event.name, write_event_type(event), archived=event.archived) == event
    for period in (*query.closures, *(one for ones in query.blocked.values() for one in ones)):
        assert read_again(period) == replace(period, id=ID)


@given(st.data())
def test_a_blocked_period_is_read_as_it_was_written_and_lies_within_its_reach(data: st.DataObject) -> None:
    try:
        period = data.draw(blocked_periods())
    except InvalidInput:
        return
    found = read_again(period)
    assert found == replace(period, id=ID)
    assert found.instants() == period.instants()
    first, last = period.reach()
    assert first < last
    assert first.tzinfo is last.tzinfo is UTC
    if (span := period.instants()) is not None:
        assert epoch_floor("first", max(first, _FIRST)) <= span[0]
        assert span[1] <= epoch_ceil("last", min(last, _LAST))


_FIRST = datetime(1900, 1, 1, tzinfo=UTC)
_LAST = datetime(8999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
