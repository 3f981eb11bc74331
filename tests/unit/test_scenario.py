"""Scenarios that are sound: what may be left out, and what is the same as what."""

from __future__ import annotations

import copy
from datetime import UTC, date, datetime, timedelta
from types import MappingProxyType
from typing import Any

import pytest

from broken import GOOD, MISSING, changed
from nxsched import BookedTime, EventType, Host, InvalidInput, Limit, WeeklyHours
from nxsched.slots import SlotQuery, find_slots
from nxsched.slots.scenario import decode, dump, load

ADA, ROOM = "hosts.ada.bookings[0]", "hosts.room-1.bookings[0]"

MINIMAL: dict[str, Any] = {
    "now": "2026-03-01T00:00:00Z",
    "from": "2026-03-02T00:00:00Z",
    "until": "2026-03-03T00:00:00Z",
    "event_type": {"duration_minutes": 30, "hosts": [{"members": ["ada"]}]},
    "hosts": {"ada": {"timezone": "UTC"}},
}


def open_from(start: str, end: str, **host: object) -> dict[str, Any]:
    """The smallest scenario, with hours every day."""
    week = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    hours = [{"days": week, "start": start, "end": end}]
    return {**MINIMAL, "hosts": {"ada": {"timezone": "UTC", "weekly_hours": hours, **host}}}


def clock(scenario: object) -> list[str]:
    return [f"{slot.start:%H:%M}" for slot in find_slots(load(scenario))]


def test_only_a_few_keys_are_required() -> None:
    assert clock(MINIMAL) == []
    assert clock(open_from("09:00", "10:30")) == ["09:00", "09:30", "10:00"]


def test_what_is_left_out_is_as_if_its_default_were_given() -> None:
    scenario = copy.deepcopy(open_from("09:00", "10:30"))
    given = copy.deepcopy(scenario)
    given["event_type"] |= {
        "step_minutes": 30,
        "buffer_before_minutes": 0,
        "buffer_after_minutes": 0,
        "minimum_notice_minutes": 0,
        "booking_window": {},
        "limits": [],
        "align": "window",
        "offset_minutes": 0,
        "capacity": 1,
        "timezone": "UTC",
        "hosts": [{"members": ["ada"], "need": 1}],
    }
    given["hosts"]["ada"] |= {
        "overrides": [],
        "travel": [],
        "blocked": [],
        "bookings": [],
        "busy": [],
        "limits": [],
    }
    given |= {"closures": [], "name": "x", "expected": None}
    assert find_slots(load(given)) == find_slots(load(scenario))


def test_reading_changes_nothing_in_what_is_read() -> None:
    before = copy.deepcopy(GOOD)
    load(GOOD)
    assert before == GOOD


def test_any_mapping_and_any_sequence_will_do() -> None:
    frozen = MappingProxyType({**MINIMAL, "closures": ()})
    assert load(frozen) == load(MINIMAL)


def test_a_scenario_is_the_question_that_its_dataclasses_ask() -> None:
    scenario = open_from(
        "09:00",
        "12:00",
        bookings=[
            {"id": "b", "start": "2026-03-02T09:30:00Z", "end": "2026-03-02T10:00:00Z", "buffer_after_minutes": 5}
        ],
        busy=[["2026-03-02T10:59:59.5Z", "2026-03-02T12:00:00+01:00"]],
        limits=[{"per": "day", "count": 2}],
    )
    start = datetime(2026, 3, 2, tzinfo=UTC)
    asked = SlotQuery(
        event_type=EventType(duration=timedelta(minutes=30), hosts=["ada"]),
        hosts=[
            Host(
                slug="ada",
                timezone="UTC",
                weekly_hours=[WeeklyHours(days="mon-sun", start="09:00", end="12:00")],
                limits=[Limit(per="day", count=2)],
            )
        ],
        start=start,
        end=start + timedelta(days=1),
        now=start - timedelta(days=1),
        bookings=[
            BookedTime(
                start=start.replace(hour=9, minute=30),
                end=start.replace(hour=10),
                hosts=["ada"],
                buffer_after=timedelta(minutes=5),
                id="b",
            )
        ],
        busy={
            "ada": [
                (start.replace(hour=10, minute=59, second=59, microsecond=500_000), start.replace(hour=11)),
            ]
        },
        blocked={"ada": []},
    )
    assert load(scenario) == asked
    assert clock(scenario) == ["09:00", "11:00", "11:30"]


def test_instants_may_have_any_offset_and_a_fraction_where_it_is_rounded() -> None:
    shifted = changed(
        ("now", "2026-03-25T16:59:59.5+09:00"),
        ("from", "2026-03-26T19:00:00-05:00"),
        ("until", "2026-04-01T05:30:00+05:30"),
    )
    assert find_slots(load(shifted)) == find_slots(load(GOOD))
    late = {**open_from("09:00", "10:30"), "now": "2026-03-02T09:30:00.000001Z"}
    assert clock(late) == ["10:00"]
    assert clock({**late, "now": "2026-03-02T09:30:00Z"}) == ["09:30", "10:00"]
    assert clock({**late, "now": "2026-03-02T08:00:00Z", "from": "2026-03-02T09:00:00.25Z"}) == ["09:30", "10:00"]


@pytest.mark.parametrize(
    ("period", "expected"),
    [
        ({"start": "2026-03-02"}, []),
        ({"start": "2026-01-01", "end": "9999-12-31"}, []),
        ({"start": "1900-01-01", "end": "2026-03-01"}, ["09:00", "09:30", "10:00"]),
        ({"start": "2026-03-02T09:00", "end": "2026-03-02T09:10"}, ["09:30", "10:00"]),
        ({"start": "2026-03-02T09:00:00", "end": "2026-03-02T09:00:01"}, ["09:30", "10:00"]),
        ({"start": "2026-03-02T09:59:59.999Z", "end": "2026-03-02T09:59:59.9999Z"}, ["09:00", "10:00"]),
        ({"start": "2026-03-02T12:30:00+03:00", "end": "2026-03-02T12:31:00+03:00"}, ["09:00", "10:00"]),
        ({"start": "2020-01-06", "rrule": "FREQ=WEEKLY"}, []),
        ({"start": "2020-01-07", "end": "2020-01-12", "rrule": "FREQ=WEEKLY"}, ["09:00", "09:30", "10:00"]),
        ({"start": "2020-01-06T09:30", "end": "2020-01-06T10:00", "rrule": "FREQ=DAILY"}, ["09:00", "10:00"]),
        ({"start": "9999-12-31", "rrule": "FREQ=DAILY"}, ["09:00", "09:30", "10:00"]),
    ],
)
def test_a_blocked_period_is_dates_wall_times_or_instants(period: dict[str, str], expected: list[str]) -> None:
    assert clock(open_from("09:00", "10:30", blocked=[period])) == expected
    assert clock({**open_from("09:00", "10:30"), "closures": [period]}) == expected


# Bookings that share an id.


def test_a_booking_of_several_hosts_counts_once() -> None:
    once = changed(("event_type.limits", [{"per": "day", "count": 2}]), ("hosts.ada.busy", []))
    assert load(once).bookings == (
        BookedTime(
            start=datetime(2026, 3, 27, 10, tzinfo=UTC),
            end=datetime(2026, 3, 27, 10, 30, tzinfo=UTC),
            hosts=["ada", "room-1"],
            event_type="visit",
            buffer_after=timedelta(minutes=10),
            id="b1",
        ),
    )
    friday = date(2026, 3, 27)
    assert friday in find_slots(load(once)).by_day("UTC")
    assert friday not in find_slots(
        load({**once, **changed(("event_type.limits", [{"per": "day", "count": 1}]))})
    ).by_day("UTC")
    apart = changed(("event_type.limits", [{"per": "day", "count": 2}]), (f"{ROOM}.id", "b2"))
    assert friday not in find_slots(load(apart)).by_day("UTC")


@pytest.mark.parametrize(
    "changes",
    [
        [(f"{ROOM}.buffer_before_minutes", 0)],
        [(f"{ADA}.buffer_before_minutes", MISSING)],
        [(f"{ROOM}.seats", 1)],
        [(f"{ADA}.seats", MISSING)],
        [(f"{ADA}.buffer_after_minutes", MISSING), (f"{ROOM}.buffer_after_minutes", 0)],
        [(f"{ROOM}.start", "2026-03-27T11:00:00+01:00")],
        [(f"{ROOM}.end", "2026-03-27T05:30:00.000-05:00")],
    ],
)
def test_bookings_agree_where_what_one_leaves_out_is_the_default_of_the_other(
    changes: list[tuple[str, object]],
) -> None:
    (booking,) = load(changed(*changes)).bookings
    assert booking.hosts == ("ada", "room-1")


def test_a_booking_that_stands_twice_at_one_host_is_one() -> None:
    twice = changed(("hosts.ada.bookings[1]", GOOD["hosts"]["ada"]["bookings"][0]))
    assert load(twice) == load(GOOD)


def test_bookings_without_an_id_are_each_its_own() -> None:
    nameless = changed((f"{ADA}.id", MISSING), (f"{ROOM}.id", MISSING))
    assert [booking.hosts for booking in load(nameless).bookings] == [("ada",), ("room-1",)]


def test_an_id_may_read_like_a_place_in_the_scenario() -> None:
    other = {"start": "2026-03-28T10:00:00Z", "end": "2026-03-28T10:30:00Z"}
    scenario = changed(
        (f"{ADA}.id", "hosts.ada.bookings[1]"),
        (f"{ROOM}.id", "hosts.ada.bookings[1]"),
        ("hosts.ada.bookings[1]", other),
    )
    assert [booking.hosts for booking in load(scenario).bookings] == [("ada", "room-1"), ("ada",)]


# Names of every kind.


@pytest.mark.parametrize(
    "slug", ["[bold]", "a.b", "a b", "\u0142\u00f3d\u017a", "\U0001f642", "start", "end", "from_date", "0", "'\"\\"]
)
def test_a_slug_may_be_any_text(slug: str) -> None:
    scenario = open_from("09:00", "10:00")
    scenario["hosts"] = {slug: scenario["hosts"]["ada"]}
    scenario["event_type"] = {**scenario["event_type"], "hosts": [{"members": [slug]}]}
    assert [slot["hosts"] for slot in dump(find_slots(load(scenario)))] == [[slug], [slug]]


def test_many_hosts_are_read() -> None:
    crowd = {**MINIMAL, "hosts": {**MINIMAL["hosts"], **{f"h{i}": {"timezone": "UTC"} for i in range(20_000)}}}
    assert len(load(crowd).hosts) == 20_001


def test_json_is_decoded_to_what_it_says() -> None:
    assert decode('{"a": [1, 2.5, true, null, "x"], "b": {}}') == {"a": [1, 2.5, True, None, "x"], "b": {}}


@pytest.mark.parametrize("hosts", [5, None, "ada", ["ada"]])
def test_hosts_are_an_object(hosts: object) -> None:
    with pytest.raises(InvalidInput, match=r"^hosts: must be an object, not "):
        load(changed(("hosts", hosts)))


def test_a_key_of_sixty_characters_is_quoted_in_its_place_and_a_shorter_one_is_not() -> None:
    for length, place in ((59, "k" * 59), (60, '"' + "k" * 58 + "\u2026")):
        with pytest.raises(InvalidInput) as caught:
            load(changed(("k" * length, 1)))
        assert caught.value.field == place


def test_a_leap_year_of_minutes_is_the_longest_duration() -> None:
    assert load(changed(("event_type.duration_minutes", 527_040))).event_type.duration == timedelta(days=366)
    with pytest.raises(InvalidInput, match=r"^event_type\.duration_minutes: must be at most 527040 minutes"):
        load(changed(("event_type.duration_minutes", 527_041)))


def test_a_date_that_does_not_exist_is_repeated() -> None:
    with pytest.raises(InvalidInput, match=r"^now: 2026-02-30T00:00:00Z does not exist: "):
        load(changed(("now", "2026-02-30T00:00:00Z")))
