"""The answer as a sequence, and as JSON."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nxsched import InvalidInput, Slot, Slots
from nxsched.slots.scenario import dump

HOUR = timedelta(hours=1)
NINE = datetime(2026, 3, 2, 9, tzinfo=UTC)
FIRST = int(NINE.timestamp())


def some(number: int = 5, *, step: int = 1800) -> Slots:
    starts = [FIRST + step * i for i in range(number)]
    return Slots(
        starts, 3600, [("ada",) if i % 2 else ("ada", "bob") for i in range(number)], [i + 1 for i in range(number)]
    )


def plain(number: int = 5) -> list[Slot]:
    """The same, spelt out."""
    return [
        Slot(NINE + i * HOUR / 2, NINE + i * HOUR / 2 + HOUR, ("ada",) if i % 2 else ("ada", "bob"), i + 1)
        for i in range(number)
    ]


def test_it_is_a_sequence_of_slots() -> None:
    assert isinstance(some(), Sequence)
    assert list(some()) == plain()
    assert len(some()) == 5
    assert some()
    assert not some(0)
    assert list(some(0)) == []


def test_a_slot_looked_up_is_the_slot_met_on_the_way() -> None:
    slots = some()
    assert [slots[i] for i in range(len(slots))] == list(slots)
    assert [slots[i - len(slots)] for i in range(len(slots))] == list(slots)
    assert [*reversed(slots)] == plain()[::-1]
    for slot in (*slots, slots[0]):
        assert type(slot) is Slot
        assert type(slot.start) is type(slot.end) is datetime
        assert slot.start.tzinfo is slot.end.tzinfo is UTC


@pytest.mark.parametrize("index", [5, -6, 100])
def test_there_is_no_slot_beyond_the_last(index: int) -> None:
    with pytest.raises(IndexError):
        some()[index]


@given(
    number=st.integers(0, 8),
    start=st.none() | st.integers(-10, 10),
    stop=st.none() | st.integers(-10, 10),
    step=st.none() | st.integers(-4, 4).filter(bool),
)
def test_a_part_of_an_answer_is_an_answer(number: int, start: int | None, stop: int | None, step: int | None) -> None:
    cut = slice(start, stop, step)
    part = some(number)[cut]
    assert isinstance(part, Slots)
    assert list(part) == plain(number)[cut]
    assert part == part[:]


def test_what_a_sequence_can_do_it_can() -> None:
    slots = some()
    assert plain()[3] in slots
    assert plain()[3]._replace(seats_left=9) not in slots
    assert slots.index(plain()[3]) == 3
    assert slots.count(plain()[3]) == 1


def test_two_are_equal_where_they_hold_the_same_slots() -> None:
    assert some() == some()
    assert hash(some()) == hash(some())
    assert hash(some()) != hash(some()[1:])
    assert some() != some(4)
    assert some()[:4] == some(4)
    assert hash(some()[:4]) == hash(some(4))
    assert some() == Slots(tuple(some()._starts), 3600, tuple(some()._hosts), tuple(some()._seats))  # noqa: SLF001
    assert some(0) == Slots([], 60, [], [])
    assert hash(some(0)) == hash(Slots((), 60, (), ()))


@pytest.mark.parametrize(
    "other",
    [
        Slots([FIRST + 1], 3600, [("ada", "bob")], [1]),
        Slots([FIRST], 3601, [("ada", "bob")], [1]),
        Slots([FIRST], 3600, [("ada",)], [1]),
        Slots([FIRST], 3600, [("ada", "bob")], [2]),
        Slots([], 3600, [], []),
        [*some(1)],
        None,
    ],
    ids=repr,
)
def test_a_difference_in_start_duration_hosts_or_seats_makes_two_answers(other: object) -> None:
    assert some(1) != other


def test_it_says_how_many_there_are_and_from_when_to_when() -> None:
    assert repr(some()) == "<Slots: 5 from 2026-03-02T09:00:00+00:00 to 2026-03-02T11:00:00+00:00>"
    assert repr(some(0)) == "<Slots: none>"


def test_it_travels_between_processes() -> None:
    assert pickle.loads(pickle.dumps(some())) == some()  # noqa: S301 - our own


def test_it_cannot_be_given_what_it_does_not_hold() -> None:
    with pytest.raises(AttributeError):
        some().timezone = "UTC"  # type: ignore[attr-defined]


# By day.


def test_slots_by_day_are_those_that_start_on_the_local_date() -> None:
    slots = some(48)
    by_day = slots.by_day("America/Los_Angeles")
    assert list(by_day) == [date(2026, 3, 2), date(2026, 3, 3)]
    assert by_day[date(2026, 3, 2)] == slots[: 2 * 23]
    assert by_day[date(2026, 3, 3)] == slots[2 * 23 :]
    assert list(slots.by_day("UTC")) == [date(2026, 3, 2), date(2026, 3, 3)]
    assert list(slots.by_day("Pacific/Kiritimati")) == [date(2026, 3, 2), date(2026, 3, 3)]
    assert list(some(1).by_day("Pacific/Kiritimati")) == [date(2026, 3, 2)]
    assert list(some(0).by_day("UTC")) == []


def test_a_day_without_slots_is_left_out() -> None:
    assert list(some(3, step=2 * 86_400).by_day("UTC")) == [date(2026, 3, 2), date(2026, 3, 4), date(2026, 3, 6)]


def test_a_date_that_comes_twice_has_all_its_slots_in_the_order_of_their_starts() -> None:
    """St John's, 2010-11-07: at 00:01 the clock goes back to 23:01 of the sixth."""
    first = int(datetime(2010, 11, 7, 2, 0, tzinfo=UTC).timestamp())
    slots = Slots([first + 1800 * i for i in range(4)], 600, [("ada",)] * 4, [1] * 4)
    found = slots.by_day("America/St_Johns")
    assert {day.day: [slot.start.strftime("%H:%M") for slot in part] for day, part in found.items()} == {
        6: ["02:00", "03:00"],
        7: ["02:30", "03:30"],
    }


@pytest.mark.parametrize("timezone", ["Mars", "europe/london", "", None])
def test_a_day_needs_a_time_zone_that_there_is(timezone: str) -> None:
    for slots in (some(), some(0)):
        with pytest.raises(InvalidInput) as caught:
            slots.by_day(timezone)
        assert caught.value.field == "timezone"


@given(
    starts=st.lists(st.integers(0, 4_000_000_000), min_size=1, max_size=20, unique=True).map(sorted),
    timezone=st.sampled_from(["UTC", "Europe/London", "Pacific/Apia", "America/Havana", "Asia/Kathmandu"]),
)
def test_every_slot_is_in_one_day_and_on_the_right_date(starts: list[int], timezone: str) -> None:
    slots = Slots(starts, 60, [("ada",)] * len(starts), [1] * len(starts))
    for part in (slots, slots[::2], slots[::-1]):
        is_by_day(part, timezone)


def is_by_day(slots: Slots, timezone: str) -> None:
    by_day = slots.by_day(timezone)
    assert sorted(slot for part in by_day.values() for slot in part) == sorted(slots)
    assert all(slot.start.astimezone(ZoneInfo(timezone)).date() == day for day, part in by_day.items() for slot in part)


@given(starts=st.lists(st.integers(0, 10**10), max_size=300, unique=True).map(sorted), duration=st.integers(60, 10**7))
def test_the_fast_loop_makes_the_same_datetimes(starts: list[int], duration: int) -> None:
    slots = Slots(starts, duration, [("ada",)] * len(starts), [1] * len(starts))
    expected = [datetime.fromtimestamp(start, UTC) for start in starts]
    assert [slot.start for slot in slots] == expected
    assert [slot.end for slot in slots] == [start + timedelta(seconds=duration) for start in expected]


def test_many_different_gaps_between_starts_do_no_harm() -> None:
    """The steps between starts are kept; they are forgotten before they become too many."""
    starts = [FIRST]
    for gap in range(60, 21_000):
        starts.append(starts[-1] + gap)
    slots = Slots(starts, 60, [("ada",)] * len(starts), [1] * len(starts))
    assert [slot.start for slot in slots] == [datetime.fromtimestamp(start, UTC) for start in starts]


# As JSON.


def test_json_holds_instants_with_z() -> None:
    assert dump(some(2)) == [
        {"start": "2026-03-02T09:00:00Z", "end": "2026-03-02T10:00:00Z", "hosts": ["ada", "bob"], "seats_left": 1},
        {"start": "2026-03-02T09:30:00Z", "end": "2026-03-02T10:30:00Z", "hosts": ["ada"], "seats_left": 2},
    ]
    assert dump(some(0)) == []
