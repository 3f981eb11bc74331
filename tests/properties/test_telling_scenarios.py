"""Scenarios that chance hardly finds: exact ties and lengths, answered by the calculator and the model alike.

Each is one the model answers differently as soon as the rule in its name is bent a little.
"""

from __future__ import annotations

import copy
from datetime import datetime, timedelta
from typing import Any

import pytest

from model import answer, codes_at
from nxsched.slots import explain, find_slots
from nxsched.slots.scenario import load
from strategies import WEEKDAYS, moment, text

Json = dict[str, Any]


def hours(start: str, end: str, *days: str) -> Json:
    return {"days": list(days) or list(WEEKDAYS), "start": start, "end": end}


def scenario(start: str, until: str, event: Json, *, now: str = "2026-01-01T00:00:00Z", **hosts: Json) -> Json:
    event_type = {"slug": "visit", "duration_minutes": 30, "hosts": [{"members": list(hosts)}], **event}
    zoned = {slug: {"timezone": "UTC", **host} for slug, host in hosts.items()}
    return {"now": now, "from": start, "until": until, "event_type": event_type, "hosts": zoned}


def booking(name: str, start: str, **more: Any) -> Json:
    end = text(moment(start) + timedelta(minutes=30))
    return {"id": name, "event_type": "visit", "start": start, "end": end, **more}


MONDAY, TUESDAY, THURSDAY = "2026-03-02T00:00:00Z", "2026-03-03T00:00:00Z", "2026-03-05T00:00:00Z"
TEN = "2026-03-02T10:00:00Z"

SCENARIOS = {
    "rule 3: a window that ends before it begins, in the gap": scenario(
        "2026-03-29T00:00:00Z",
        "2026-03-30T00:00:00Z",
        {"duration_minutes": 10},
        ada={"timezone": "Europe/London", "weekly_hours": [hours("01:30", "02:00")]},
    ),
    "rule 3: a window that is skipped whole lands after the gap": scenario(
        "2026-03-29T00:00:00Z",
        "2026-03-30T00:00:00Z",
        {"duration_minutes": 10},
        ada={"timezone": "Europe/London", "weekly_hours": [hours("01:15", "01:45")]},
    ),
    "rule 3: a window that begins and ends in the repeated hour": scenario(
        "2026-10-25T00:00:00Z",
        "2026-10-26T00:00:00Z",
        {"duration_minutes": 10},
        ada={"timezone": "Europe/London", "weekly_hours": [hours("01:15", "01:45")]},
    ),
    "rule 3: an overnight window that ends in the gap": scenario(
        "2026-03-28T00:00:00Z",
        "2026-03-30T00:00:00Z",
        {"duration_minutes": 10},
        ada={"timezone": "Europe/London", "weekly_hours": [hours("23:30", "01:20")]},
    ),
    "rule 7: a trip on which two zones give the same instants twice": scenario(
        MONDAY,
        THURSDAY,
        {},
        ada={
            "timezone": "Pacific/Kiritimati",
            "weekly_hours": [hours("09:00", "11:00")],
            "travel": [{"from": "2026-03-03", "until": "2026-03-03", "timezone": "Etc/GMT+12"}],
        },
    ),
    "rule 9: a blocked hour that ends before it begins, in the gap": scenario(
        "2026-03-29T00:00:00Z",
        "2026-03-30T00:00:00Z",
        {"duration_minutes": 10},
        ada={
            "timezone": "Europe/London",
            "weekly_hours": [hours("00:00", "06:00")],
            "blocked": [{"start": "2026-03-01T01:30", "end": "2026-03-01T02:00", "rrule": "FREQ=DAILY"}],
        },
    ),
    "rule 9: a blocked hour that begins in the gap and ends after it": scenario(
        "2026-03-29T00:00:00Z",
        "2026-03-30T00:00:00Z",
        {"duration_minutes": 10},
        ada={
            "timezone": "Europe/London",
            "weekly_hours": [hours("00:00", "06:00")],
            "blocked": [{"start": "2026-03-01T01:30", "end": "2026-03-01T03:00", "rrule": "FREQ=DAILY"}],
        },
    ),
    "rule 9: the repeated hour is blocked once": scenario(
        "2026-10-25T00:00:00Z",
        "2026-10-26T00:00:00Z",
        {"duration_minutes": 10},
        ada={
            "timezone": "Europe/London",
            "weekly_hours": [hours("00:00", "06:00")],
            "blocked": [{"start": "2026-10-01T01:00", "end": "2026-10-01T02:00", "rrule": "FREQ=DAILY"}],
        },
    ),
    **{
        f"rule 9: UNTIL={limit} in New York": scenario(
            MONDAY,
            "2026-03-07T00:00:00Z",
            {},
            ada={
                "timezone": "America/New_York",
                "weekly_hours": [hours("18:00", "23:00")],
                "blocked": [
                    {"start": "2026-02-20T20:00", "end": "2026-02-20T21:00", "rrule": f"FREQ=DAILY;UNTIL={limit}"}
                ],
            },
        )
        for limit in (
            "20260304",
            "20260305T010000Z",
            "20260305T005959Z",
            "20260304T200000Z",
            "20260304T200000",
            "20260304T195959",
            "20260305T010000",
        )
    },
    **{
        f"rule 9: whole days with UNTIL={limit} in Tokyo": scenario(
            MONDAY,
            "2026-03-07T00:00:00Z",
            {},
            ada={
                "timezone": "Asia/Tokyo",
                "weekly_hours": [hours("09:00", "11:00")],
                "blocked": [{"start": "2026-03-02", "rrule": f"FREQ=DAILY;UNTIL={limit}"}],
            },
        )
        for limit in ("20260304", "20260303T150000Z", "20260303T145959Z", "20260304T000000", "20260303T235959")
    },
    "rule 9: a long occurrence that began before the range": scenario(
        MONDAY,
        THURSDAY,
        {},
        ada={
            "weekly_hours": [hours("09:00", "11:00")],
            "blocked": [
                {"start": "2025-11-20", "end": "2025-12-31", "rrule": "FREQ=YEARLY"},
                {"start": "2026-01-02T10:00", "end": "2026-03-03T10:00", "rrule": "FREQ=MONTHLY;COUNT=1"},
            ],
        },
    ),
    "rule 18: 24 hours are not longer than 24 hours": scenario(
        MONDAY,
        THURSDAY,
        {"step_minutes": 25, "timezone": "Asia/Kathmandu"},
        ada={"weekly_hours": [hours("00:00", "24:00", "tue")]},
    ),
    "rule 18: 24 hours and five minutes are": scenario(
        MONDAY,
        THURSDAY,
        {"step_minutes": 25, "timezone": "Asia/Kathmandu"},
        ada={"weekly_hours": [hours("00:00", "24:00", "tue"), hours("00:00", "00:05", "wed")]},
    ),
    "rule 18: a day of 25 hours, and midnight elsewhere": scenario(
        "2026-10-24T00:00:00Z",
        "2026-10-27T00:00:00Z",
        {"step_minutes": 25, "timezone": "America/New_York"},
        ada={"timezone": "Europe/London", "weekly_hours": [hours("00:00", "24:00", "sun")]},
    ),
    "rule 18: a day of 25 hours at home, where no midnight is inside": scenario(
        "2026-10-24T00:00:00Z",
        "2026-10-27T00:00:00Z",
        {"step_minutes": 35},
        ada={"timezone": "Europe/London", "weekly_hours": [hours("00:00", "24:00", "sun")]},
    ),
    "rule 18: midnight that happens twice, round the clock in Havana": scenario(
        "2026-10-30T00:00:00Z",
        "2026-11-03T00:00:00Z",
        {"step_minutes": 35},
        ada={"timezone": "America/Havana", "weekly_hours": [hours("00:00", "24:00")]},
    ),
    "rule 18: midnight that is skipped, round the clock in Havana": scenario(
        "2026-03-07T00:00:00Z",
        "2026-03-10T00:00:00Z",
        {"step_minutes": 35},
        ada={"timezone": "America/Havana", "weekly_hours": [hours("00:00", "24:00")]},
    ),
    **{
        f"rule 18: a step that is longer than the gap between two windows, asked from {start[11:19]}": scenario(
            start,
            TUESDAY,
            {"step_minutes": 1440},
            ada={"weekly_hours": [hours("00:00", "01:00"), hours("09:00", "17:00"), hours("22:00", "23:00")]},
        )
        for start in (MONDAY, "2026-03-02T00:00:01Z", "2026-03-02T00:30:00Z", "2026-03-02T10:00:00Z")
    },
    **{
        f"rule 20: the same, packed, asked from {start[11:19]}": scenario(
            start,
            TUESDAY,
            {"step_minutes": 1440, "align": "free"},
            ada={
                "weekly_hours": [hours("00:00", "01:00"), hours("09:00", "17:00"), hours("22:00", "23:00")],
                "busy": [["2026-03-02T12:00:00Z", "2026-03-02T12:10:00Z"]],
            },
        )
        for start in (MONDAY, "2026-03-02T00:00:01Z", "2026-03-02T00:30:00Z", "2026-03-02T10:00:00Z")
    },
    **{
        f"rule 20: from the first start to the last in {more} after 24 hours": scenario(
            MONDAY,
            THURSDAY,
            {"align": "free", "step_minutes": 25, "timezone": "Asia/Kathmandu"},
            ada={"weekly_hours": [hours("00:00", "24:00", "tue"), hours("00:00", more, "wed")]},
        )
        for more in ("00:29", "00:30", "00:31", "01:00")
    },
    **{
        f"rule 20: a stretch of 24 hours that begins {second} seconds into a minute and ends at {last}": scenario(
            MONDAY,
            THURSDAY,
            {"align": "free", "step_minutes": 25, "timezone": "Asia/Kathmandu"},
            ada={
                "weekly_hours": [hours("00:00", "24:00")],
                "busy": [
                    ["2026-03-01T12:00:00Z", f"2026-03-02T12:00:{second:02}Z"],
                    [f"2026-03-03T12:{last}Z", "2026-03-03T13:00:00Z"],
                ],
            },
        )
        for second in (0, 30, 59)
        for last in ("29:59", "30:00", "30:01", "30:29", "30:30", "30:31", "31:00", "31:01")
    },
    "rule 20: a stretch within one minute has no start": scenario(
        MONDAY,
        TUESDAY,
        {"align": "free"},
        ada={
            "weekly_hours": [hours("09:00", "12:00")],
            "busy": [["2026-03-02T09:00:00Z", "2026-03-02T09:10:01Z"], ["2026-03-02T09:40:58Z", TEN]],
        },
    ),
    "rule 23: the fullest, although it comes second": scenario(
        MONDAY,
        TUESDAY,
        {"capacity": 4},
        ada={"bookings": [booking("a", TEN)]},
        bob={"bookings": [booking("b", TEN, seats=3)]},
        cyd={"bookings": [booking("c", TEN, seats=4)]},
    ),
    "rule 23: between equals by the order of the groups, not by name": scenario(
        MONDAY,
        TUESDAY,
        {"capacity": 4, "hosts": [{"members": ["cyd"]}, {"members": ["bob", "ada"]}]},
        ada={"bookings": [booking("a", TEN)]},
        bob={"bookings": [booking("b", TEN), booking("d", "2026-03-02T12:00:00Z")]},
        cyd={"bookings": [booking("d", "2026-03-02T12:00:00Z")]},
    ),
    "rule 23: between equals those outside the groups come last": scenario(
        MONDAY,
        TUESDAY,
        {"capacity": 4, "hosts": [{"members": ["cyd"]}]},
        ada={"bookings": [booking("a", TEN), booking("d", "2026-03-02T12:00:00Z")]},
        bob={"bookings": [booking("b", TEN), booking("e", "2026-03-02T12:00:00Z")]},
        cyd={"bookings": [booking("a", TEN), booking("c", "2026-03-02T12:00:00Z")]},
    ),
    "rule 23: more people than seats": scenario(
        MONDAY,
        TUESDAY,
        {"capacity": 2},
        ada={"weekly_hours": [hours("09:00", "12:00")], "bookings": [booking("a", TEN, seats=2), booking("b", TEN)]},
    ),
    "rule 23: a full class of somebody outside the groups": scenario(
        MONDAY,
        TUESDAY,
        {"capacity": 2, "hosts": [{"members": ["ada"]}]},
        ada={"weekly_hours": [hours("09:00", "12:00")], "busy": [[TEN, "2026-03-02T10:10:00Z"]]},
        bob={"bookings": [booking("b", TEN, seats=2)]},
    ),
    "rule 25: a full class in a group that falls short": scenario(
        MONDAY,
        TUESDAY,
        {"capacity": 2},
        ada={"weekly_hours": [hours("09:00", "12:00")], "bookings": [booking("a", TEN), booking("b", TEN)]},
    ),
    "rule 25: a full class in a group that does not fall short": scenario(
        MONDAY,
        TUESDAY,
        {"capacity": 2, "hosts": [{"members": ["ada", "bob"]}, {"members": ["cyd"]}]},
        ada={"weekly_hours": [hours("09:00", "12:00")], "bookings": [booking("a", TEN, seats=2)]},
        bob={"weekly_hours": [hours("09:00", "12:00")]},
        cyd={"weekly_hours": [hours("09:00", "12:00")], "busy": [[TEN, "2026-03-02T10:10:00Z"]]},
    ),
    **{
        f"rule 13: the first start after a notice of an hour, at {now[11:]}": scenario(
            MONDAY,
            TUESDAY,
            {"minimum_notice_minutes": 60},
            now=now,
            ada={"weekly_hours": [hours("09:00", "12:00")]},
        )
        for now in ("2026-03-02T09:00:00Z", "2026-03-02T09:00:00.000001Z", "2026-03-02T08:59:59.999999Z")
    },
    **{
        f"rule 14: today and tomorrow in {zone}, when it is {now[11:]}": scenario(
            "2026-03-01T00:00:00Z",
            THURSDAY,
            {"booking_window": {"days": 1}, "timezone": zone},
            now=now,
            ada={"weekly_hours": [hours("00:00", "24:00")]},
        )
        for zone in ("Pacific/Kiritimati", "Etc/GMT+12")
        for now in ("2026-03-02T09:59:59Z", "2026-03-02T09:59:59.5Z", "2026-03-02T11:59:59Z", "2026-03-02T12:00:00Z")
    },
    "rule 21: a year of weeks: the days around New Year are one week": scenario(
        "2026-12-28T00:00:00Z",
        "2027-01-06T00:00:00Z",
        {"limits": [{"per": "week", "count": 1}]},
        ada={"weekly_hours": [hours("09:00", "10:00")], "bookings": [booking("a", "2026-12-29T12:00:00Z")]},
    ),
    "rule 21: a limit of minutes that the booking fills exactly": scenario(
        MONDAY,
        TUESDAY,
        {"limits": [{"per": "day", "minutes": 60}]},
        ada={"weekly_hours": [hours("09:00", "10:00")], "bookings": [booking("a", "2026-03-02T12:00:00Z")]},
    ),
    "rule 22: bookings without an event type are each alone": scenario(
        MONDAY,
        TUESDAY,
        {},
        ada={
            "weekly_hours": [hours("13:00", "14:00")],
            "limits": [{"per": "day", "count": 2}],
            "bookings": [
                {"id": "a", "start": TEN, "end": "2026-03-02T10:30:00Z"},
                {"id": "b", "start": TEN, "end": "2026-03-02T10:30:00Z"},
            ],
        },
    ),
    "rule 22: two people in one class of another event type are one booking of the host": scenario(
        MONDAY,
        TUESDAY,
        {},
        ada={
            "weekly_hours": [hours("13:00", "14:00")],
            "limits": [{"per": "day", "count": 2}],
            "bookings": [booking("a", TEN, event_type="call"), booking("b", TEN, event_type="call")],
        },
    ),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_calculator_answers_a_telling_scenario_as_the_model_does(name: str) -> None:
    found = [
        {"start": text(slot.start), "end": text(slot.end), "hosts": list(slot.hosts), "seats_left": slot.seats_left}
        for slot in find_slots(load(copy.deepcopy(SCENARIOS[name])))
    ]
    assert found == answer(SCENARIOS[name])


@pytest.mark.parametrize("name", SCENARIOS)
def test_explain_says_of_a_telling_scenario_what_the_model_says(name: str) -> None:
    asked = SCENARIOS[name]
    query = load(copy.deepcopy(asked))
    starts = _quarters(moment(asked["from"]), moment(asked["until"]))
    expected = dict(zip(starts, codes_at(asked, starts), strict=True))
    found = {start: {(refusal.code, refusal.host) for refusal in explain(query, start)} for start in starts}
    assert found == expected


def _quarters(start: datetime, until: datetime) -> list[datetime]:
    return [start + timedelta(minutes=15 * n) for n in range(int((until - start) / timedelta(minutes=15)))]
