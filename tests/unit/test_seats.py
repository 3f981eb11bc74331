"""Occurrences: which bookings share one, and which of several is joined (rules 22 to 24)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from nxsched import BookedTime
from nxsched.slots.seats import Occurrence, by_start, in_order, joinable, occurrences

NINE = datetime(2026, 3, 2, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
PLACES = {"ada": 0, "bob": 1, "cyd": 2}


def booked(
    hosts: str = "ada", *, event_type: str | None = "class", seats: int = 1, name: str | None = None
) -> BookedTime:
    return BookedTime(start=NINE, end=NINE + HOUR, hosts=hosts.split(), event_type=event_type, seats=seats, id=name)


def standing(hosts: str, seats: int) -> Occurrence:
    return Occurrence("class", 0, 3600, frozenset(hosts.split()), seats, ())


def test_bookings_that_share_type_times_and_hosts_are_one_occurrence() -> None:
    (one,) = occurrences([booked("ada bob", seats=2, name="s1"), booked("bob ada", name="s2"), booked("ada bob")])
    assert one == Occurrence(
        "class", int(NINE.timestamp()), int(NINE.timestamp()) + 3600, frozenset({"ada", "bob"}), 4, ("s1", "s2")
    )


def test_a_difference_in_any_of_them_makes_two() -> None:
    first = booked()
    for other in (
        booked("bob"),
        booked("ada bob"),
        booked(event_type="call"),
        BookedTime(start=NINE, end=NINE + 2 * HOUR, hosts=["ada"], event_type="class"),
        BookedTime(start=NINE - HOUR, end=NINE + HOUR, hosts=["ada"], event_type="class"),
    ):
        assert len(occurrences([first, other])) == 2


def test_a_booking_without_an_event_type_is_an_occurrence_by_itself() -> None:
    assert len(occurrences([booked(event_type=None), booked(event_type=None), booked()])) == 3


def test_only_occurrences_of_the_duration_can_be_joined() -> None:
    found = occurrences([booked("ada"), booked("bob")])
    by = by_start(found, 3600)
    assert list(by) == [int(NINE.timestamp())]
    assert [one.hosts for one in by[int(NINE.timestamp())]] == [{"ada"}, {"bob"}]
    assert by_start(found, 1800) == {}


def test_the_fullest_with_a_seat_left_is_joined() -> None:
    assert joinable([standing("ada", 1), standing("bob", 2), standing("cyd", 3)], 3, PLACES) == standing("bob", 2)
    assert joinable([standing("ada", 3), standing("bob", 4)], 3, PLACES) is None
    assert joinable([], 3, PLACES) is None


def test_between_equals_the_one_whose_hosts_come_first_is_joined() -> None:
    assert joinable([standing("cyd", 1), standing("bob", 1)], 2, PLACES) == standing("bob", 1)
    assert joinable([standing("bob cyd", 1), standing("ada cyd", 1)], 2, PLACES) == standing("ada cyd", 1)
    assert joinable([standing("zoe", 1), standing("cyd", 1)], 2, PLACES) == standing("cyd", 1)
    assert joinable([standing("zoe", 1), standing("yan", 1)], 2, PLACES) == standing("yan", 1)


def test_hosts_stand_in_the_order_of_the_groups_and_strangers_last() -> None:
    assert in_order({"cyd", "zoe", "ada", "yan"}, PLACES) == ("ada", "cyd", "yan", "zoe")
