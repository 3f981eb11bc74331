"""Every clock change of every IANA time zone from 2024 to 2030: the calculator against the model.

Two zones that change from one offset to another at the same instant behave alike around it, so that each distinct
change is looked at once; that zones taken to be alike are alike is checked second by second around every change.
"""

from __future__ import annotations

import copy
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import pytest

from model import answer
from nxsched.slots import find_slots
from nxsched.slots.scenario import load
from strategies import FIRST_SECOND, WEEKDAYS, ClockChange, clock_changes, offset, text

Json = dict[str, Any]
Table = tuple[int, tuple[ClockChange, ...]]

START = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp())
END = int(datetime(2031, 1, 1, tzinfo=UTC).timestamp())

TELLING = (
    "Europe/London",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Beirut",
    "America/Havana",
    "Africa/Cairo",
    "Africa/Casablanca",
    "America/St_Johns",
    "Pacific/Chatham",
    "America/Santiago",
    "Antarctica/Troll",
    "America/Nuuk",
    "Atlantic/Azores",
)

# Hours, then what else the event type and the host have.
KINDS: dict[str, tuple[str, str, Json, Json]] = {
    "nine to five": ("09:00", "17:00", {}, {}),
    "all day": ("00:00", "24:00", {}, {}),
    "evenings": ("20:00", "24:00", {}, {}),
    "nights": ("22:00", "06:00", {"step_minutes": 25}, {}),
    "all day by the clock": ("00:00", "24:00", {"align": "clock", "step_minutes": 45, "offset_minutes": 10}, {}),
    "small hours, packed": ("00:00", "05:00", {"align": "free", "step_minutes": 20}, {"lunch": True}),
}


@cache
def tables() -> dict[Table, list[str]]:
    """Zone names by what their clocks do."""
    names: dict[Table, list[str]] = {}
    for name in sorted(available_timezones() - {"localtime"}):
        names.setdefault((offset(FIRST_SECOND, ZoneInfo(name)), clock_changes(name)), []).append(name)
    return names


def distinct_changes() -> dict[ClockChange, str]:
    """Each clock change with one zone that has it."""
    found: dict[ClockChange, str] = {}
    for (_, changes), names in tables().items():
        for change in changes:
            if START <= change.second < END:
                found.setdefault(change, names[0])
    return found


def scenario_around(day: date, zone: str, kind: str) -> Json:
    start, end, more, host = KINDS[kind]
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    scenario: Json = {
        "now": text(midnight - timedelta(days=30)),
        "from": text(midnight - timedelta(hours=36)),
        "until": text(midnight + timedelta(hours=60)),
        "event_type": {"slug": "visit", "duration_minutes": 30, "step_minutes": 15, "hosts": [{"members": ["ada"]}]},
        "hosts": {
            "ada": {
                "timezone": zone,
                "weekly_hours": [{"days": list(WEEKDAYS), "start": start, "end": end}],
            }
        },
    }
    scenario["event_type"].update(more)
    if host:
        before = day - timedelta(days=3)
        scenario["hosts"]["ada"]["blocked"] = [
            {"start": f"{before}T01:30", "end": f"{before}T02:10", "rrule": "FREQ=DAILY"}
        ]
    return scenario


def local_date_of(change: ClockChange, zone: str) -> date:
    return datetime.fromtimestamp(change.second, ZoneInfo(zone)).date()


def agree(scenario: Json) -> bool:
    found = [
        {"start": text(slot.start), "end": text(slot.end), "hosts": list(slot.hosts), "seats_left": slot.seats_left}
        for slot in find_slots(load(copy.deepcopy(scenario)))
    ]
    return found == answer(scenario)


@pytest.mark.parametrize("zone", TELLING)
def test_the_calculator_agrees_with_the_model_around_telling_clock_changes(zone: str) -> None:
    changes = [change for change in clock_changes(zone) if START <= change.second < END]
    assert changes
    days = {local_date_of(change, zone) for change in (*changes[:2], changes[-1])}
    wrong = [(day, kind) for day in sorted(days) for kind in KINDS if not agree(scenario_around(day, zone, kind))]
    assert not wrong


def test_zones_that_are_taken_to_be_alike_have_the_same_offsets_around_every_clock_change() -> None:
    moments = sorted({change.second + near for _, changes in tables() for change in changes for near in (-1, 0)})
    for names in tables().values():
        first, *others = names
        expected = [offset(second, ZoneInfo(first)) for second in moments]
        for name in others:
            zone = ZoneInfo(name)
            assert [offset(second, zone) for second in moments] == expected, (first, name)


@pytest.mark.parametrize("kind", ["nine to five", "all day by the clock"])
def test_the_calculator_agrees_with_the_model_in_every_zone_that_keeps_its_clock(kind: str) -> None:
    steady = [names[0] for (_, changes), names in tables().items() if not changes]
    assert steady
    assert [name for name in steady if not agree(scenario_around(date(2026, 6, 1), name, kind))] == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_calculator_agrees_with_the_model_around_every_clock_change_until_2030(kind: str) -> None:
    changes = distinct_changes()
    assert len(changes) > 300
    wrong = [
        (zone, text(datetime.fromtimestamp(change.second, UTC)))
        for change, zone in sorted(changes.items())
        if not agree(scenario_around(local_date_of(change, zone), zone, kind))
    ]
    assert not wrong
