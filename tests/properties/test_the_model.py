"""The model itself: it answers every shared case, and a few refusals that were worked out by hand."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from model import answer, codes

CASES = [json.loads(line) for line in (Path(__file__).parents[1] / "cases" / "slots.jsonl").read_text().splitlines()]

Json = dict[str, Any]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_model_answers_every_case(case: Json) -> None:
    assert answer(case) == case["expected"]


@pytest.mark.parametrize("case", CASES[::10], ids=lambda case: case["name"])
def test_the_model_refuses_nothing_that_it_offers(case: Json) -> None:
    for slot in answer(case)[:3]:
        assert codes(case, datetime.fromisoformat(slot["start"])) == set()


def _day_of(*, event: Json | None = None, **host: Any) -> Json:
    """A Monday in UTC, hours from nine to twelve, half an hour each, asked about at ten the evening before."""
    return {
        "now": "2026-03-01T22:00:00Z",
        "from": "2026-03-02T00:00:00Z",
        "until": "2026-03-03T00:00:00Z",
        "event_type": {"slug": "visit", "duration_minutes": 30, "hosts": [{"members": ["ada"]}], **(event or {})},
        "hosts": {
            "ada": {
                "timezone": "UTC",
                "weekly_hours": [{"days": ["mon"], "start": "09:00", "end": "12:00"}],
                **host,
            }
        },
    }


def _booked(start: str, end: str, **more: Any) -> list[Json]:
    day = "2026-03-02T"
    return [{"id": "b", "event_type": "visit", "start": f"{day}{start}:00Z", "end": f"{day}{end}:00Z", **more}]


NOBODY = ("not_enough_hosts", None)


@pytest.mark.parametrize(
    ("scenario", "start", "expected"),
    [
        (_day_of(), "2026-03-02T09:00:00Z", set()),
        (_day_of(), "2026-03-02T11:30:00Z", set()),
        (_day_of(), "2026-03-02T09:15:00Z", {("off_grid", None)}),
        (_day_of(), "2026-03-02T09:00:01Z", {("off_grid", None)}),
        (_day_of(), "2026-03-02T11:45:00Z", {("off_grid", None), NOBODY, ("outside_hours", "ada")}),
        (_day_of(), "2026-03-02T12:00:00Z", {("off_grid", None), NOBODY, ("outside_hours", "ada")}),
        (_day_of(event={"align": "clock"}), "2026-03-02T12:00:00Z", {NOBODY, ("outside_hours", "ada")}),
        (_day_of(), "2026-02-23T09:00:00Z", {("past", None)}),
        (_day_of(event={"minimum_notice_minutes": 660}), "2026-03-02T09:00:00Z", set()),
        (_day_of(event={"minimum_notice_minutes": 661}), "2026-03-02T09:00:00Z", {("notice", None)}),
        (
            _day_of(event={"minimum_notice_minutes": 60}),
            "2026-02-23T09:00:00Z",
            {("past", None), ("notice", None)},
        ),
        (_day_of(event={"booking_window": {"days": 0}}), "2026-03-02T09:00:00Z", {("window", None)}),
        (_day_of(event={"booking_window": {"days": 1}}), "2026-03-02T09:00:00Z", set()),
        # The range plays no part: a Monday later.
        (_day_of(), "2026-03-09T09:00:00Z", set()),
        (_day_of(bookings=_booked("09:00", "09:30")), "2026-03-02T09:00:00Z", {NOBODY, ("busy", "ada")}),
        (_day_of(bookings=_booked("09:00", "09:30")), "2026-03-02T09:30:00Z", set()),
        (
            _day_of(bookings=_booked("09:00", "09:30", buffer_after_minutes=1)),
            "2026-03-02T09:30:00Z",
            {NOBODY, ("busy", "ada")},
        ),
        (
            _day_of(blocked=[{"start": "2026-03-02T11:00", "end": "2026-03-02T13:00"}]),
            "2026-03-02T11:45:00Z",
            {("off_grid", None), NOBODY, ("outside_hours", "ada"), ("blocked", "ada")},
        ),
        # What fits alone is on the grid where appointments are packed.
        (
            _day_of(event={"align": "free"}, blocked=[{"start": "2026-03-02"}]),
            "2026-03-02T09:00:00Z",
            {("off_grid", None), NOBODY, ("blocked", "ada")},
        ),
        (
            _day_of(limits=[{"per": "day", "count": 1}], bookings=_booked("09:00", "09:30")),
            "2026-03-02T10:00:00Z",
            {NOBODY, ("host_limit", "ada")},
        ),
        (
            _day_of(event={"limits": [{"per": "day", "count": 1}]}, bookings=_booked("09:00", "09:30")),
            "2026-03-02T10:00:00Z",
            {("event_limit", None)},
        ),
        # Two seats: one taken, both taken.
        (_day_of(event={"capacity": 2}, bookings=_booked("09:10", "09:40")), "2026-03-02T09:10:00Z", set()),
        (
            _day_of(event={"capacity": 2}, bookings=_booked("09:00", "09:30", seats=2)),
            "2026-03-02T09:00:00Z",
            {NOBODY, ("busy", "ada"), ("full", None)},
        ),
        (
            _day_of(event={"capacity": 2}, bookings=_booked("09:00", "10:00", seats=2)),
            "2026-03-02T09:00:00Z",
            {NOBODY, ("busy", "ada")},
        ),
    ],
)
def test_the_model_gives_every_reason(scenario: Json, start: str, expected: set[tuple[str, str | None]]) -> None:
    assert codes(scenario, datetime.fromisoformat(start)) == expected
