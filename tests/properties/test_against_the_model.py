"""The calculator and `explain` against the model, and what must be true of their answers whatever the model says.

How many examples are tried is up to the profile of hypothesis that tests/conftest.py loads.
"""

from __future__ import annotations

import copy
import re
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from model import answer, codes, codes_at
from nxsched.slots import explain, find_slots
from nxsched.slots.scenario import load
from strategies import (
    STEADY_ZONES,
    ZONES,
    add_booking,
    moment,
    more_time_taken,
    scenarios,
    starts_near,
    text,
)

Json = dict[str, Any]

CROWDED = scenarios(capacities=(2, 3, 5), max_days=2, style="crowded")
ALL_KINDS = st.one_of(scenarios(), scenarios(style="long"), scenarios(style="changes"), CROWDED)

RELAXED = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)


def in_turn(part: int = 1) -> settings:
    """The profile's settings with one part in so many of its examples, for tests that are slow."""
    examples = settings().max_examples // part
    return settings(deadline=None, suppress_health_check=RELAXED, max_examples=max(examples, 8))


def found(scenario: Json) -> list[Json]:
    """What the calculator answers, as in `expected`."""
    return [
        {"start": text(slot.start), "end": text(slot.end), "hosts": list(slot.hosts), "seats_left": slot.seats_left}
        for slot in find_slots(load(copy.deepcopy(scenario)))
    ]


def starts_of(scenario: Json) -> set[datetime]:
    return {slot.start for slot in find_slots(load(copy.deepcopy(scenario)))}


def between(scenario: Json, start: datetime, until: datetime) -> Json:
    return {**scenario, "from": text(start), "until": text(until)}


def refusals(scenario: Json, start: datetime) -> set[tuple[str, str | None]]:
    return {(refusal.code, refusal.host) for refusal in explain(load(copy.deepcopy(scenario)), start)}


# --- the model -------------------------------------------------------------------------------------------------------


@in_turn()
@given(scenarios())
def test_the_calculator_agrees_with_the_model_on_random_scenarios(scenario: Json) -> None:
    expected = answer(scenario)
    event("slots" if expected else "no slots")
    assert found(scenario) == expected


@in_turn()
@given(scenarios(aligns=("free",), capacities=(1,), max_hosts=3))
def test_the_calculator_agrees_with_the_model_on_packed_appointments(scenario: Json) -> None:
    assert found(scenario) == answer(scenario)


@in_turn()
@given(CROWDED)
def test_the_calculator_agrees_with_the_model_on_seats(scenario: Json) -> None:
    expected = answer(scenario)
    event("joined" if any(slot["seats_left"] < scenario["event_type"]["capacity"] for slot in expected) else "new")
    assert found(scenario) == expected


@in_turn()
@given(scenarios(style="changes", max_days=2, steps=(None, 15, 5, 30, 7, 10)))
def test_the_calculator_agrees_with_the_model_right_where_clocks_change(scenario: Json) -> None:
    assert found(scenario) == answer(scenario)


@in_turn()
@given(scenarios(style="long", steps=(None, 45, 7, 25, 90, 1440), max_days=4))
def test_the_calculator_agrees_with_the_model_around_the_clock(scenario: Json) -> None:
    assert found(scenario) == answer(scenario)


@in_turn(4)
@given(scenarios(max_days=1, aligns=("clock", "window", "free"), steps=(1, 2, 7)))
def test_the_calculator_agrees_with_the_model_where_any_minute_may_be_a_start(scenario: Json) -> None:
    assert found(scenario) == answer(scenario)


@in_turn(2)
@given(st.data(), ALL_KINDS)
def test_explain_gives_the_reasons_that_the_model_gives(data: st.DataObject, scenario: Json) -> None:
    starts = data.draw(st.lists(starts_near(scenario), min_size=1, max_size=12))
    query = load(copy.deepcopy(scenario))
    expected = codes_at(scenario, starts)
    assert [{(refusal.code, refusal.host) for refusal in explain(query, start)} for start in starts] == expected


@in_turn(5)
@given(st.data(), scenarios(max_days=1))
def test_explain_of_a_start_far_from_the_range_gives_the_models_reasons(data: st.DataObject, scenario: Json) -> None:
    near = data.draw(starts_near(scenario))
    start = near + timedelta(days=data.draw(st.sampled_from((7, -7, 30, -3, 3, 364))))
    assert refusals(scenario, start) == codes(scenario, start)


@in_turn(40)
@given(st.data(), scenarios(max_days=1))
def test_explain_is_empty_at_exactly_the_starts_that_are_offered(data: st.DataObject, scenario: Json) -> None:
    start = moment(scenario["from"])
    until = start + timedelta(minutes=data.draw(st.integers(12 * 60, 30 * 60)))
    scenario = between(scenario, start, until)
    offered = starts_of(scenario)
    query = load(copy.deepcopy(scenario))
    whole = start.replace(second=0) + timedelta(minutes=1 if start.second else 0)
    minutes = {whole + timedelta(minutes=n) for n in range(1801) if whole + timedelta(minutes=n) < until}
    odd = {near for near in data.draw(st.lists(starts_near(scenario), max_size=8)) if start <= near < until}
    for asked in sorted(minutes | offered | odd):
        assert (not explain(query, asked)) == (asked in offered), asked


# --- ranges and limits on the answer ---------------------------------------------------------------------------------


@in_turn()
@given(st.data(), ALL_KINDS)
def test_the_answer_to_a_range_is_the_sum_of_the_answers_to_its_parts(data: st.DataObject, scenario: Json) -> None:
    start, until = moment(scenario["from"]), moment(scenario["until"])
    seconds = int((until - start).total_seconds())
    anywhere = st.integers(1, seconds - 1).map(lambda second: start + timedelta(seconds=second))
    cuts = set(data.draw(st.lists(anywhere, max_size=4)))
    whole = found(scenario)
    if whole:  # cut at a start, just before one and just after
        near = st.sampled_from([moment(slot["start"]) for slot in whole])
        cuts |= {
            cut + timedelta(seconds=data.draw(st.integers(-1, 1))) for cut in data.draw(st.lists(near, max_size=3))
        }
    points = [start, *sorted(cut for cut in cuts if start < cut < until), until]
    parts = [slot for left, right in pairwise(points) for slot in found(between(scenario, left, right))]
    assert parts == whole


@in_turn(4)
@given(ALL_KINDS, st.integers(0, 40), st.integers(0, 80), st.sampled_from((0, 1, 30, 3599)))
def test_a_range_of_weeks_holds_the_slots_of_the_days_within_it(
    scenario: Json, earlier: int, later: int, seconds: int
) -> None:
    start, until = scenario["from"], scenario["until"]
    wide = between(
        scenario,
        moment(start) - timedelta(days=earlier, seconds=seconds),
        moment(until) + timedelta(days=later, seconds=seconds),
    )
    assert [slot for slot in found(wide) if start <= slot["start"] < until] == found(scenario)


@in_turn(2)
@given(scenarios(max_days=2))
def test_a_range_of_one_second_holds_the_slot_that_starts_in_it(scenario: Json) -> None:
    slots = found(scenario)
    for slot in slots[:: max(len(slots) // 5, 1)]:
        start = moment(slot["start"])
        assert found(between(scenario, start, start + timedelta(seconds=1))) == [slot]
        assert slot not in found(between(scenario, start - timedelta(seconds=1), start))


@in_turn(2)
@given(st.data(), scenarios(max_days=3))
def test_a_limit_takes_the_first_of_all_slots(data: st.DataObject, scenario: Json) -> None:
    query = load(copy.deepcopy(scenario))
    every = list(find_slots(query))
    for limit in {1, 2, len(every), len(every) + 1, data.draw(st.integers(1, 40))} - {0}:
        assert list(find_slots(query, limit=limit)) == every[:limit]


@in_turn(2)
@given(scenarios())
def test_slots_are_in_order_and_within_the_range(scenario: Json) -> None:
    query = load(copy.deepcopy(scenario))
    slots = find_slots(query)
    event_type = scenario["event_type"]
    assert len(slots) == len(list(slots))
    assert all(earlier.start < later.start for earlier, later in pairwise(slots))
    for slot in slots:
        assert moment(scenario["from"]) <= slot.start < moment(scenario["until"])
        assert slot.start.utcoffset() == timedelta(0)
        assert slot.end - slot.start == timedelta(minutes=event_type["duration_minutes"])
        assert 1 <= slot.seats_left <= event_type.get("capacity", 1)
        assert slot.hosts
        assert len(set(slot.hosts)) == len(slot.hosts)


@in_turn(2)
@given(scenarios(max_days=4), st.sampled_from(ZONES))
def test_by_day_regroups_the_same_slots_by_local_date(scenario: Json, timezone: str) -> None:
    slots = find_slots(load(copy.deepcopy(scenario)))
    expected: dict[date, list[Any]] = {}
    for slot in slots:
        expected.setdefault(slot.start.astimezone(ZoneInfo(timezone)).date(), []).append(slot)
    days = slots.by_day(timezone)
    assert list(days) == sorted(expected)
    assert {day: list(of_day) for day, of_day in days.items()} == expected


# --- taking more time ------------------------------------------------------------------------------------------------


@in_turn()
@given(st.data(), scenarios(max_days=3))
def test_taking_more_time_adds_no_start(data: st.DataObject, scenario: Json) -> None:
    """A booking, busy time or a blocked period more; the grid of `free` and seats to join have their own words."""
    kind, what, holders = data.draw(more_time_taken(scenario))
    event(kind)
    fuller = copy.deepcopy(scenario)
    match kind:
        case "booking":
            add_booking(fuller["hosts"], what, holders, "new")
        case "busy":
            fuller["hosts"][holders[0]].setdefault("busy", []).append(what["busy"])
        case "blocked":
            fuller["hosts"][holders[0]].setdefault("blocked", []).append(what)
        case _:
            fuller.setdefault("closures", []).append(what)
    before = {slot["start"]: slot for slot in found(scenario)}
    after = {slot["start"]: slot for slot in found(fuller)}
    event_type = scenario["event_type"]
    capacity = event_type.get("capacity", 1)
    # With seats, a booking of this event type may itself be what is joined, at its own start and nowhere else.
    own = {what["start"]} if kind == "booking" and capacity > 1 and what.get("event_type") is not None else set()
    added = set(after) - set(before) - own
    if event_type.get("align") == "free":
        # Packed appointments move along: the start was free before, it was only not counted to.
        for start in added:
            assert refusals(scenario, moment(start)) == {("off_grid", None)}
    else:
        assert not added
    for start in set(after) & set(before) - own:
        assert set(after[start]["hosts"]) <= set(before[start]["hosts"])


# --- what makes no difference ----------------------------------------------------------------------------------------


@in_turn()
@given(st.data(), ALL_KINDS)
def test_the_order_in_which_things_are_listed_makes_no_difference(data: st.DataObject, scenario: Json) -> None:
    def shuffled(items: list[Any]) -> list[Any]:
        return list(data.draw(st.permutations(items)))

    other = copy.deepcopy(scenario)
    for name in ("closures",):
        if name in other:
            other[name] = shuffled(other[name])
    if "limits" in other["event_type"]:
        other["event_type"]["limits"] = shuffled(other["event_type"]["limits"])
    for host in other["hosts"].values():
        for name in ("weekly_hours", "overrides", "travel", "blocked", "bookings", "busy", "limits"):
            if name in host:
                host[name] = shuffled(host[name])
    other["hosts"] = dict(shuffled(list(other["hosts"].items())))
    assert found(other) == found(scenario)


@in_turn(2)
@given(scenarios(max_days=3))
def test_spelled_out_defaults_make_no_difference(scenario: Json) -> None:
    other = copy.deepcopy(scenario)
    event_type = other["event_type"]
    first = event_type["hosts"][0]["members"][0]
    for key, value in {
        "step_minutes": event_type["duration_minutes"],
        "buffer_before_minutes": 0,
        "buffer_after_minutes": 0,
        "minimum_notice_minutes": 0,
        "align": "window",
        "capacity": 1,
        "limits": [],
        "timezone": other["hosts"][first]["timezone"],
    }.items():
        event_type.setdefault(key, value)
    for group in event_type["hosts"]:
        group.setdefault("need", 1)
    other.setdefault("closures", [])
    for host in other["hosts"].values():
        for key in ("overrides", "travel", "blocked", "bookings", "busy", "limits"):
            host.setdefault(key, [])
        for booking in host["bookings"]:
            booking.setdefault("seats", 1)
            booking.setdefault("buffer_before_minutes", 0)
            booking.setdefault("buffer_after_minutes", 0)
    assert found(other) == found(scenario)


@in_turn(2)
@given(scenarios(max_days=3, max_hosts=3))
def test_a_host_that_is_in_no_group_and_holds_nothing_makes_no_difference(scenario: Json) -> None:
    other = copy.deepcopy(scenario)
    other["hosts"]["zoe"] = {
        "timezone": "Asia/Tokyo",
        "weekly_hours": [{"days": ["mon", "tue"], "start": "00:00", "end": "24:00"}],
        "limits": [{"per": "year", "count": 1}],
    }
    assert found(other) == found(scenario)


# --- shifting --------------------------------------------------------------------------------------------------------

_STAMP = re.compile(r"\d{4}-\d\d-\d\d(T.*)?")
_UNTIL = re.compile(r"(?<=UNTIL=)\d{8}")


def shifted(thing: Any, weeks: int) -> Any:  # noqa: ANN401  # JSON of any kind
    """Every date and time in a scenario or an answer, so many weeks later."""
    by = timedelta(weeks=weeks)
    if isinstance(thing, dict):
        return {key: shifted(value, weeks) for key, value in thing.items()}
    if isinstance(thing, list):
        return [shifted(item, weeks) for item in thing]
    if not isinstance(thing, str):
        return thing
    if _STAMP.fullmatch(thing):
        return str(date.fromisoformat(thing[:10]) + by) + thing[10:]
    return _UNTIL.sub(lambda day: f"{datetime.strptime(day[0], '%Y%m%d').replace(tzinfo=UTC) + by:%Y%m%d}", thing)


@in_turn()
@given(
    scenarios(zones=STEADY_ZONES, periods=("day", "week"), frequencies=("DAILY", "WEEKLY", "HOURLY")),
    st.sampled_from((1, -1, 2, 26, 52, 53, -40, 300)),
)
def test_the_same_scenario_weeks_later_has_the_same_answer_weeks_later(scenario: Json, weeks: int) -> None:
    # A rule with an interval counts from its start, which moves along; weeks begin on Monday there as well.
    assume(shifted(shifted(scenario, weeks), -weeks) == scenario)
    assert found(shifted(scenario, weeks)) == shifted(found(scenario), weeks)
