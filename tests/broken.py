"""A good scenario that has every key there is, and a way to break it in one place."""

from __future__ import annotations

import copy
import re
from typing import Any

Json = dict[str, Any]

MISSING = object()
"""As a value: take the key away."""

GOOD: Json = {
    "now": "2026-03-25T08:00:00Z",
    "from": "2026-03-27T00:00:00Z",
    "until": "2026-04-01T00:00:00Z",
    "closures": [{"start": "2026-04-03", "reason": "Good Friday"}],
    "event_type": {
        "slug": "visit",
        "duration_minutes": 30,
        "step_minutes": 15,
        "buffer_before_minutes": 0,
        "buffer_after_minutes": 10,
        "minimum_notice_minutes": 120,
        "booking_window": {"days": 30, "from": "2026-03-01", "until": "2026-12-31"},
        "limits": [{"per": "day", "count": 4}, {"per": "week", "minutes": 600}],
        "align": "window",
        "offset_minutes": 0,
        "capacity": 1,
        "timezone": "Europe/London",
        "hosts": [{"members": ["ada", "bob"], "need": 1}, {"members": ["room-1"], "need": "all"}],
    },
    "hosts": {
        "ada": {
            "timezone": "Europe/London",
            "weekly_hours": [
                {"days": ["mon", "tue"], "start": "09:00", "end": "17:00"},
                {"days": ["fri"], "start": "10:00", "end": "16:00"},
            ],
            "overrides": [
                {"date": "2026-03-30", "hours": [{"start": "10:00", "end": "12:00"}]},
                {"date": "2026-04-06", "hours": []},
            ],
            "travel": [
                {"from": "2026-03-31", "until": "2026-04-02", "timezone": "Asia/Tokyo"},
                {"from": "2026-04-10", "until": "2026-04-12", "timezone": "Asia/Seoul"},
            ],
            "blocked": [
                {"start": "2026-03-28", "end": "2026-03-29", "id": "k1", "reason": "away"},
                {"start": "2026-03-23T12:00", "end": "2026-03-23T12:45", "rrule": "FREQ=DAILY"},
                {"start": "2026-03-27T15:00:00Z", "end": "2026-03-27T16:00:00Z"},
            ],
            "bookings": [
                {
                    "id": "b1",
                    "event_type": "visit",
                    "start": "2026-03-27T10:00:00Z",
                    "end": "2026-03-27T10:30:00Z",
                    "buffer_before_minutes": 0,
                    "buffer_after_minutes": 10,
                    "seats": 1,
                }
            ],
            "busy": [
                ["2026-03-27T13:00:00Z", "2026-03-27T13:20:00Z"],
                ["2026-03-30T09:00:00.25Z", "2026-03-30T10:20:00+01:00"],
            ],
            "limits": [{"per": "day", "count": 6}],
        },
        "bob": {"timezone": "Europe/London"},
        "room-1": {
            "timezone": "Europe/London",
            "weekly_hours": [{"days": ["mon", "tue", "fri"], "start": "08:00", "end": "24:00"}],
            "bookings": [
                {
                    "id": "b1",
                    "event_type": "visit",
                    "start": "2026-03-27T10:00:00Z",
                    "end": "2026-03-27T10:30:00Z",
                    "buffer_after_minutes": 10,
                }
            ],
        },
    },
}


def changed(*changes: tuple[str, object]) -> Json:
    """The good scenario with a value put, or a key taken away, at places such as `hosts.ada.weekly_hours[1].end`."""
    scenario = copy.deepcopy(GOOD)
    for path, value in changes:
        *parents, last = [int(part) if part.isdigit() else part for part in re.findall(r"[^.\[\]]+", path)]
        target: Any = scenario
        for part in parents:
            target = target[part]
        if value is MISSING:
            del target[last]
        elif isinstance(target, list) and last == len(target):
            target.append(value)
        else:
            target[last] = value
    return scenario


def plain(text: object) -> str:
    """A text as the name of a test: ASCII without backslashes, which every tool can repeat."""
    return re.sub(r"[^ -\[\]-~]", "?", str(text))[:100]
