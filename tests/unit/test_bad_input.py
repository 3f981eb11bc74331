"""Every key of a scenario, broken in every way we could think of, and the exact line that says so.

Recurrence rules have a table of their own, in `test_bad_rules.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from broken import GOOD, MISSING, changed, plain
from nxsched.cli import main
from nxsched.errors import InvalidInput
from nxsched.slots import find_slots
from nxsched.slots.scenario import decode, load

REQUIRED = "is required and missing"
NO_OBJECT = "must be an object, not [1]"
NO_LIST = "must be a list, not {}"
INSTANT = "must be an instant such as 2026-03-29T09:00:00Z, not"
DATE = "must be a date such as 2026-03-29, not"
MOMENT = "must be a date (2026-03-29), a wall time (2026-03-29T09:00) or an instant (2026-03-29T09:00:00Z), not"
UNPRINTABLE = "must not hold control or formatting characters:"
YEARS = "must lie in the years 1900 to 8999, not"
WALL = "must be a wall time HH:MM from 00:00 to 24:00, not"
WALL_START = "must be a wall time HH:MM from 00:00 to 23:59, not"
SAME_ID = 'differs from hosts.ada.bookings[0], which has the same id "b1"'
TOP_KEYS = "unknown key; the keys here are now, from, until, event_type, hosts, closures, name, expected"

# The place that is changed, and there: the broken value, and what is said about it.
BROKEN: dict[str, list[tuple[object, str]]] = {
    "now": [
        (MISSING, REQUIRED),
        ("2026-03-25T08:00:00", f'{INSTANT} "2026-03-25T08:00:00", which has no Z and no offset'),
        ("2026-03-25T24:00:00Z", f'{INSTANT} "2026-03-25T24:00:00Z"'),
        ("2026-03-25 08:00:00Z", f'{INSTANT} "2026-03-25 08:00:00Z"'),
        ("2026-03-25T08:00:00z", f'{INSTANT} "2026-03-25T08:00:00z"'),
        ("2026-03-25T08:00:00.1234567Z", f'{INSTANT} "2026-03-25T08:00:00.1234567Z"'),
        ("\uff12\uff10\uff12\uff16-03-25T08:00:00Z", f'{INSTANT} "\uff12\uff10\uff12\uff16-03-25T08:00:00Z"'),
        ("1899-12-31T23:00:00Z", f"{YEARS} 1899-12-31T23:00:00+00:00"),
        (1774569600, f"{INSTANT} 1774569600"),
    ],
    "from": [
        (MISSING, REQUIRED),
        ("2026-03-27", f'{INSTANT} "2026-03-27", which has no Z and no offset'),
        ({"at": "2026-03-27"}, f"{INSTANT} {{'at': '2026-03-27'}}"),
    ],
    "until": [
        (MISSING, REQUIRED),
        ("", f'{INSTANT} ""'),
        (["2026-03-27T00:00:00Z"], f"{INSTANT} ['2026-03-27T00:00:00Z']"),
        ("2126-03-29T00:00:00Z", "the range holds 36526 days; the most is 36525"),
    ],
    "timezone": [("Europe/London", TOP_KEYS)],
    "closures": [({}, NO_LIST), ("mon", 'must be a list, not "mon"')],
    "closures[0]": [([1], NO_OBJECT)],
    "closures[0].start": [(MISSING, REQUIRED)],
    "closures[0].end": [("2026-04-01", "must be after start: 2026-04-01 is not after 2026-04-03")],
    "closures[0].timezone": [("UTC", "unknown key; the keys here are start, end, rrule, reason, id")],
    # event types
    "event_type": [(MISSING, REQUIRED), ([1], NO_OBJECT)],
    "event_type.duration": [
        (
            30,
            (
                "unknown key; the keys here are duration_minutes, hosts, slug, step_minutes, buffer_before_minutes, "
                "buffer_after_minutes, minimum_notice_minutes, booking_window, limits, align, offset_minutes, "
                "capacity, timezone"
            ),
        )
    ],
    "event_type.slug": [
        ("", "must not be empty"),
        ("   ", "must not be empty"),
        ("x" * 201, "must have at most 200 characters, not 201"),
        (5, "must be text, not 5"),
        ("a\nb", f'{UNPRINTABLE} "a\ufffdb"'),
        ("\ud800", f'{UNPRINTABLE} "\ufffd"'),
        ("a\u202eb", f'{UNPRINTABLE} "a\ufffdb"'),
        ("<b>\x1b[31m</b>", f'{UNPRINTABLE} "<b>\ufffd[31m</b>"'),
    ],
    "event_type.duration_minutes": [
        (MISSING, REQUIRED),
        (0, "must lie between 1 and 527040 minutes, not 0"),
        (1.5, "must be a whole number, not 1.5"),
        (30.0, "must be a whole number, not 30.0"),
        ("30", 'must be a whole number, not "30"'),
        ([30], "must be a whole number, not [30]"),
    ],
    "event_type.step_minutes": [
        (0, "must lie between 1 and 527040 minutes, not 0"),
        ("15", 'must be a whole number, not "15"'),
    ],
    "event_type.buffer_before_minutes": [
        (-1, "must lie between 0 and 527040 minutes, not -1"),
        (0.5, "must be a whole number, not 0.5"),
    ],
    "event_type.buffer_after_minutes": [(527041, "must be at most 527040 minutes, not 527041")],
    "event_type.minimum_notice_minutes": [
        (-60, "must lie between 0 and 527040 minutes, not -60"),
        ("2h", 'must be a whole number, not "2h"'),
    ],
    "event_type.offset_minutes": [
        (-1, "must lie between 0 and 527040 minutes, not -1"),
        (1e300, "must be a whole number, not 1e+300"),
    ],
    "event_type.capacity": [
        (0, "must lie between 1 and 1000000, not 0"),
        (1000001, "must lie between 1 and 1000000, not 1000001"),
        (1.5, "must be a whole number, not 1.5"),
        ("1", 'must be a whole number, not "1"'),
        (float("inf"), "must be a whole number, not inf"),
    ],
    "event_type.align": [
        ("grid", 'must be one of window, clock, free, not "grid"'),
        ("Window", 'must be one of window, clock, free, not "Window"'),
        (1, "must be one of window, clock, free, not 1"),
    ],
    "event_type.timezone": [
        ("Europe/Lodnon", 'unknown time zone "Europe/Lodnon"; it takes an IANA name such as "Europe/London"'),
        ("europe/london", 'unknown time zone "europe/london"; did you mean "Europe/London"?'),
        ("", 'unknown time zone ""; it takes an IANA name such as "Europe/London"'),
    ],
    "event_type.booking_window": [([1], NO_OBJECT)],
    "event_type.booking_window.start": [("2026-01-01", "unknown key; the keys here are days, from, until")],
    "event_type.booking_window.days": [
        (-1, "must lie between 0 and 36525, not -1"),
        (36526, "must lie between 0 and 36525, not 36526"),
        (1.5, "must be a whole number, not 1.5"),
    ],
    "event_type.booking_window.from": [("1 March", f'{DATE} "1 March"')],
    "event_type.booking_window.until": [
        ("2026-02-01", "must not lie before the first date: 2026-02-01 is before 2026-03-01"),
        ("1899-12-31", "must not lie before the year 1900, as 1899-12-31 does"),
        ("2026-03-27T10:00:00Z", f'{DATE} "2026-03-27T10:00:00Z"'),
    ],
    "event_type.limits": [({}, NO_LIST)],
    "event_type.limits[0]": [([1], NO_OBJECT)],
    "event_type.limits[0].hours": [(1, "unknown key; the keys here are per, count, minutes")],
    "event_type.limits[0].per": [
        (MISSING, REQUIRED),
        ("hour", 'must be one of day, week, month, year, not "hour"'),
        (5, "must be one of day, week, month, year, not 5"),
    ],
    "event_type.limits[0].count": [
        (MISSING, "a limit needs count, minutes or both"),
        (0, "must lie between 1 and 1000000, not 0"),
        (1000001, "must lie between 1 and 1000000, not 1000001"),
        ("4", 'must be a whole number, not "4"'),
        (1.0, "must be a whole number, not 1.0"),
    ],
    "event_type.limits[0].minutes": [
        (0, "must lie between 1 and 1000000, not 0"),
        ("x", 'must be a whole number, not "x"'),
    ],
    "event_type.hosts": [
        (MISSING, REQUIRED),
        ({}, NO_LIST),
        ("ada", 'must be a list, not "ada"'),
        ([], "must name at least one host"),
    ],
    "event_type.hosts[0]": [([1], NO_OBJECT), ("ada", 'must be an object, not "ada"')],
    "event_type.hosts[0].name": [("x", "unknown key; the keys here are members, need")],
    "event_type.hosts[0].members": [
        (MISSING, REQUIRED),
        ({}, NO_LIST),
        ([], "must name at least one host"),
    ],
    "event_type.hosts[0].members[1]": [
        (7, "must be text, not 7"),
        ("", "must not be empty"),
        ("a\u2028b", f'{UNPRINTABLE} "a\ufffdb"'),
        ("zoe", 'there is no host "zoe"'),
        ("<script>" * 20, 'there is no host "' + "<script>" * 7 + "<s\u2026"),
    ],
    "event_type.hosts[0].need": [
        (0, 'must be "all" or a number from 1 to 2, not 0'),
        (3, 'must be "all" or a number from 1 to 2, not 3'),
        (1.0, 'must be "all" or a number from 1 to 2, not 1.0'),
    ],
    # hosts and their hours
    "hosts": [(MISSING, REQUIRED), ([1], NO_OBJECT)],
    "hosts.ada": [([1], NO_OBJECT)],
    "hosts.ada.name": [
        (
            "Ada",
            "unknown key; the keys here are timezone, weekly_hours, overrides, travel, blocked, bookings, busy, limits",
        )
    ],
    "hosts.ada.timezone": [
        (MISSING, REQUIRED),
        ("BST", 'unknown time zone "BST"; it takes an IANA name such as "Europe/London"'),
        ("localtime", 'unknown time zone "localtime"; it takes an IANA name such as "Europe/London"'),
        ("../etc/passwd", 'unknown time zone "../etc/passwd"; it takes an IANA name such as "Europe/London"'),
        ("x" * 5000, f'unknown time zone "{"x" * 58}\u2026; it takes an IANA name such as "Europe/London"'),
    ],
    "hosts.ada.weekly_hours": [({}, NO_LIST)],
    "hosts.ada.weekly_hours[0]": [([1], NO_OBJECT)],
    "hosts.ada.weekly_hours[0].day": [("mon", "unknown key; the keys here are days, start, end")],
    "hosts.ada.weekly_hours[0].days": [
        (MISSING, REQUIRED),
        ({}, NO_LIST),
        ("mon", 'must be a list, not "mon"'),
        ([], "must name at least one weekday"),
    ],
    "hosts.ada.weekly_hours[1].start": [
        (MISSING, REQUIRED),
        ("24:00", f'{WALL_START} "24:00"'),
        ("noon", f'{WALL_START} "noon"'),
    ],
    "hosts.ada.weekly_hours[1].end": [
        (MISSING, REQUIRED),
        ("25:00", f'{WALL} "25:00"'),
        ("9:00", f'{WALL} "9:00"'),
        ("09:60", f'{WALL} "09:60"'),
        ("24:01", f'{WALL} "24:01"'),
        ("09:00:00", f'{WALL} "09:00:00"'),
        ("09:00\n", f'{WALL} "09:00\ufffd"'),
        ("\u0660\u0669:00", f'{WALL} "\u0660\u0669:00"'),
        ("", f'{WALL} ""'),
        (900, f"{WALL} 900"),
    ],
    "hosts.ada.overrides": [({}, NO_LIST)],
    "hosts.ada.overrides[0]": [([1], NO_OBJECT)],
    "hosts.ada.overrides[0].closed": [(True, "unknown key; the keys here are date, hours")],
    "hosts.ada.overrides[0].date": [
        (MISSING, REQUIRED),
        (20260330, f"{DATE} 20260330"),
        ("1899-12-31", "must not lie before the year 1900, as 1899-12-31 does"),
    ],
    "hosts.ada.overrides[0].hours": [(MISSING, REQUIRED), ({}, NO_LIST)],
    "hosts.ada.overrides[0].hours[0]": [([1], NO_OBJECT)],
    "hosts.ada.overrides[0].hours[0].from": [("10:00", "unknown key; the keys here are start, end")],
    "hosts.ada.overrides[0].hours[0].start": [(MISSING, REQUIRED), ("24:00", f'{WALL_START} "24:00"')],
    "hosts.ada.overrides[0].hours[0].end": [(MISSING, REQUIRED), ("25:00", f'{WALL} "25:00"')],
    "hosts.ada.travel": [({}, NO_LIST)],
    "hosts.ada.travel[0]": [([1], NO_OBJECT)],
    "hosts.ada.travel[0].zone": [("x", "unknown key; the keys here are from, until, timezone")],
    "hosts.ada.travel[0].from": [
        (MISSING, REQUIRED),
        ("31.3.2026", f'{DATE} "31.3.2026"'),
        ("1899-12-31", "must not lie before the year 1900, as 1899-12-31 does"),
    ],
    "hosts.ada.travel[0].until": [
        (MISSING, REQUIRED),
        ("2026-03-30", "must not lie before the first date: 2026-03-30 is before 2026-03-31"),
    ],
    "hosts.ada.travel[0].timezone": [
        (MISSING, REQUIRED),
        ("ASIA/TOKYO", 'unknown time zone "ASIA/TOKYO"; did you mean "Asia/Tokyo"?'),
    ],
    "hosts.ada.limits": [({}, NO_LIST)],
    "hosts.ada.limits[0]": [([1], NO_OBJECT)],
    "hosts.ada.limits[0].max": [(4, "unknown key; the keys here are per, count, minutes")],
    "hosts.ada.limits[0].per": [("Day", 'must be one of day, week, month, year, not "Day"')],
    "hosts.ada.limits[0].count": [(0.5, "must be a whole number, not 0.5")],
    "hosts.ada.limits[0].minutes": [(1000001, "must lie between 1 and 1000000, not 1000001")],
    # blocked periods
    "hosts.ada.blocked": [({}, NO_LIST)],
    "hosts.ada.blocked[0]": [([1], NO_OBJECT)],
    "hosts.ada.blocked[0].until": [("x", "unknown key; the keys here are start, end, rrule, reason, id")],
    "hosts.ada.blocked[0].start": [
        (MISSING, REQUIRED),
        (5, f"{MOMENT} 5"),
        ("tomorrow", f'{MOMENT} "tomorrow"'),
        ("2026-03-23T12", f'{MOMENT} "2026-03-23T12"'),
        ("2026-03-23T25:00", f'{MOMENT} "2026-03-23T25:00"'),
        ("2026-03-23T12:00:00.5", f'{MOMENT} "2026-03-23T12:00:00.5"'),
        ("1899-12-31", "must not lie before the year 1900, as 1899-12-31 does"),
        ("1899-12-31T00:00", "must not lie before the year 1900"),
        ("1899-12-31T00:00:00Z", f"{YEARS} 1899-12-31T00:00:00+00:00"),
    ],
    "hosts.ada.blocked[0].end": [
        ("2026-03-27", "must be after start: 2026-03-27 is not after 2026-03-28"),
        ("2026-03-29T00:00", "must be a date as start is, not a wall time"),
        ("2026-03-29T00:00:00Z", "must be a date as start is, not an instant"),
    ],
    "hosts.ada.blocked[1].end": [
        (MISSING, "is required where start is a wall time"),
        ("2026-03-24", "must be a wall time as start is, not a date"),
        ("2026-03-23T12:45:00Z", "must be a wall time as start is, not an instant"),
        ("2026-03-23T12:00", "must be after start: 2026-03-23 12:00:00 is not after 2026-03-23 12:00:00"),
    ],
    "hosts.ada.blocked[2].end": [
        (MISSING, "is required where start is an instant"),
        ("2026-03-28", "must be an instant as start is, not a date"),
        ("2026-03-27T16:00", "must be an instant as start is, not a wall time"),
        (
            "2026-03-27T14:00:00Z",
            "must be after start: 2026-03-27 14:00:00+00:00 is not after 2026-03-27 15:00:00+00:00",
        ),
    ],
    "hosts.ada.blocked[0].reason": [
        (5, "must be text, not 5"),
        ("x\x00", f'{UNPRINTABLE} "x\ufffd"'),
        ("x" * 201, "must have at most 200 characters, not 201"),
    ],
    "hosts.ada.blocked[0].id": [("", "must not be empty"), (7, "must be text, not 7")],
    # bookings and busy time
    "hosts.ada.bookings": [({}, NO_LIST)],
    "hosts.ada.bookings[0]": [([1], NO_OBJECT)],
    "hosts.ada.bookings[0].host": [
        (
            "x",
            (
                "unknown key; the keys here are start, end, id, event_type, buffer_before_minutes, "
                "buffer_after_minutes, seats"
            ),
        )
    ],
    "hosts.ada.bookings[0].start": [
        (MISSING, REQUIRED),
        ("2026-03-27T00:00:00", f'{INSTANT} "2026-03-27T00:00:00", which has no Z and no offset'),
        ("2026-03-27T10:00:00.5Z", "must have no fraction of a second: .replace(microsecond=0)"),
        ("1899-12-31T00:00:00Z", f"{YEARS} 1899-12-31T00:00:00+00:00"),
    ],
    "hosts.ada.bookings[0].end": [
        (MISSING, REQUIRED),
        (
            "2026-03-27T10:00:00Z",
            "must be after start: 2026-03-27T10:00:00+00:00 is not after 2026-03-27T10:00:00+00:00",
        ),
        (
            "2026-03-27T09:00:00Z",
            "must be after start: 2026-03-27T09:00:00+00:00 is not after 2026-03-27T10:00:00+00:00",
        ),
        ("2026-03-27T10:30:00.001Z", "must have no fraction of a second: .replace(microsecond=0)"),
    ],
    "hosts.ada.bookings[0].seats": [
        (0, "must lie between 1 and 1000000, not 0"),
        (1000001, "must lie between 1 and 1000000, not 1000001"),
        ("1", 'must be a whole number, not "1"'),
        (1.0, "must be a whole number, not 1.0"),
    ],
    "hosts.ada.bookings[0].id": [
        ("", "must not be empty"),
        (5, "must be text, not 5"),
        ("a\tb", f'{UNPRINTABLE} "a\ufffdb"'),
    ],
    "hosts.ada.bookings[0].event_type": [
        ("", "must not be empty"),
        ("x" * 201, "must have at most 200 characters, not 201"),
    ],
    "hosts.ada.bookings[0].buffer_before_minutes": [
        (-1, "must lie between 0 and 527040 minutes, not -1"),
        (527041, "must be at most 527040 minutes, not 527041"),
        ("10", 'must be a whole number, not "10"'),
    ],
    "hosts.ada.bookings[0].buffer_after_minutes": [(0.1, "must be a whole number, not 0.1")],
    "hosts.room-1.bookings[0].start": [("2026-03-27T10:01:00Z", SAME_ID)],
    "hosts.room-1.bookings[0].end": [("2026-03-27T10:31:00Z", SAME_ID)],
    "hosts.room-1.bookings[0].seats": [(2, SAME_ID)],
    "hosts.room-1.bookings[0].event_type": [("call", SAME_ID), (MISSING, SAME_ID)],
    "hosts.room-1.bookings[0].buffer_before_minutes": [(5, SAME_ID)],
    "hosts.room-1.bookings[0].buffer_after_minutes": [(0, SAME_ID), (MISSING, SAME_ID)],
    "hosts.ada.busy": [({}, NO_LIST), ("mon", 'must be a list, not "mon"')],
    "hosts.ada.busy[0]": [
        ([], "must be a pair of start and end, not []"),
        (["2026-03-27T13:00:00Z"], "must be a pair of start and end, not ['2026-03-27T13:00:00Z']"),
        ([1, 2, 3], "must be a pair of start and end, not [1, 2, 3]"),
        ("ab", 'must be a pair of start and end, not "ab"'),
        ({"start": "x"}, "must be a pair of start and end, not {'start': 'x'}"),
    ],
    "hosts.ada.busy[0][1]": [
        ("2026-03-27T14:00:00", f'{INSTANT} "2026-03-27T14:00:00", which has no Z and no offset'),
        (
            "2026-03-27T12:59:59Z",
            "must not lie before the start: 2026-03-27 12:59:59+00:00 is before 2026-03-27 13:00:00+00:00",
        ),
    ],
}

# Where the fault shows at another place than the one that is changed, or takes several changes.
ELSEWHERE: list[tuple[list[tuple[str, object]], str]] = [
    ([("from", "2026-04-01T00:00:01Z")], "until: must not lie before the start of the range"),
    ([("hosts", {})], 'event_type.hosts[0].members[0]: there is no host "ada"'),
    ([("hosts.bob", MISSING)], 'event_type.hosts[0].members[1]: there is no host "bob"'),
    (
        [("event_type.hosts[0].members", [f"h{i}" for i in range(1001)])],
        "event_type.hosts: must have at most 1000 members in all, not 1002",
    ),
    (
        [("hosts.ada.weekly_hours[1].days", [1])],
        "hosts.ada.weekly_hours[1].days[0]: must be one of mon, tue, wed, thu, fri, sat, sun, not 1",
    ),
    (
        [("hosts.ada.weekly_hours[1].days", ["mon", "monday"])],
        'hosts.ada.weekly_hours[1].days[1]: must be one of mon, tue, wed, thu, fri, sat, sun, not "monday"',
    ),
    (
        [("hosts.ada.weekly_hours[1].days", ["Mon"])],
        'hosts.ada.weekly_hours[1].days[0]: must be one of mon, tue, wed, thu, fri, sat, sun, not "Mon"',
    ),
    (
        [("hosts.ada.weekly_hours[1].days", ["mon-fri"])],
        'hosts.ada.weekly_hours[1].days[0]: must be one of mon, tue, wed, thu, fri, sat, sun, not "mon-fri"',
    ),
    (
        [("hosts.ada.overrides[1].date", "2026-03-30")],
        "hosts.ada.overrides[1].date: 2026-03-30 is overridden already by overrides[0]; give all its hours there",
    ),
    (
        [("hosts.ada.travel[0].until", "2026-04-10")],
        "hosts.ada.travel[1].from: overlaps travel[0], which lasts until 2026-04-10",
    ),
    (
        [("hosts.ada.travel[1].from", "2026-03-30")],
        "hosts.ada.travel[0].from: overlaps travel[1], which lasts until 2026-04-12",
    ),
    ([("hosts.ada.busy[0]", [1, 2])], f"hosts.ada.busy[0][0]: {INSTANT} 1"),
    (
        [("hosts.ada.bookings[1]", {"id": "b1", "start": "2026-03-28T10:00:00Z", "end": "2026-03-28T10:30:00Z"})],
        f"hosts.ada.bookings[1].buffer_after_minutes: {SAME_ID}",
    ),
    ([("hosts.zo\ne", {"timezone": "UTC"})], f'hosts."zo\ufffde": {UNPRINTABLE} "zo\ufffde"'),
    ([("hosts.\ud800", {"timezone": "UTC"})], f'hosts."\ufffd": {UNPRINTABLE} "\ufffd"'),
    (
        [("hosts.</svg><script>\x1b", {"timezone": "UTC"})],
        f'hosts."</svg><script>\ufffd": {UNPRINTABLE} "</svg><script>\ufffd"',
    ),
    (
        [("hosts.<script>", {"timezone": "Mars"})],
        'hosts."<script>".timezone: unknown time zone "Mars"; it takes an IANA name such as "Europe/London"',
    ),
    (
        [("hosts." + "a" * 5000, {"timezone": "UTC"})],
        f'hosts."{"a" * 58}\u2026: must have at most 200 characters, not 5000',
    ),
    (
        [("hosts." + "a" * 201, {"timezone": "UTC", "busy": [1]})],
        f'hosts."{"a" * 58}\u2026: must have at most 200 characters, not 201',
    ),
    ([("from\nuntil", 1)], f'"from\ufffduntil": {TOP_KEYS}'),
    ([("k" * 100_000, 1)], f'"{"k" * 58}\u2026: {TOP_KEYS}'),
    ([("<b>", 1)], f'"<b>": {TOP_KEYS}'),
    ([("a b", 1)], f'"a b": {TOP_KEYS}'),
]

# Here the place is right; the words say less than they could, or say it in Python's terms, and may be mended.
REWORDABLE: dict[str, list[object]] = {
    "closures": [None],
    "event_type": [None],
    "hosts.ada": [None],
    "event_type.hosts": [None],
    "hosts.ada.weekly_hours[0].days": [None],
    "hosts.ada.busy": [None],
    "now": [None, True, "9000-01-01T00:00:00Z", "2026-03-25T08:00:00+25:00", "2026-03-25T08:00:60Z"],
    "from": ["2026-02-30T00:00:00Z"],
    "hosts.ada.bookings[0].start": [None, "2026-02-30T00:00:00Z"],
    "hosts.ada.busy[0]": [None],
    "hosts.ada.busy[0][1]": [None],
    "event_type.duration_minutes": [True, None, -1, 527041],
    "event_type.buffer_after_minutes": [False],
    "event_type.capacity": [True, None, float("nan")],
    "event_type.align": [None],
    "event_type.slug": [None],
    "event_type.timezone": [None, 5],
    "hosts.ada.timezone": [None, 5, "GMT+1", "UTC+1"],
    "hosts.ada.travel[0].timezone": [None, ["UTC"]],
    "event_type.booking_window.days": [True, None],
    "event_type.booking_window.from": [None, "2026-13-01"],
    "event_type.limits[0].per": [None],
    "event_type.limits[0].count": [True, None],
    "hosts.ada.limits[0].minutes": [False],
    "event_type.hosts[0].need": [True, None, "some", "ALL"],
    "event_type.hosts[0].members[1]": ["ada"],
    "event_type.hosts[1].members[0]": ["ada"],
    "hosts.ada.weekly_hours[1].start": [None],
    "hosts.ada.weekly_hours[1].end": [None],
    "hosts.ada.weekly_hours[1].days[0]": [None, "mon-"],
    "hosts.ada.overrides[0].date": ["2026-02-29", None],
    "hosts.ada.blocked[0].start": [None, "2026-02-30", "2026-03-23T12:61"],
    "hosts.ada.blocked[0].id": [None],
    "closures[0].end": [None],
    "hosts.ada.bookings[0].seats": [True, None],
    "hosts.ada.bookings[0].id": [None],
    "hosts.ada.bookings[0].event_type": [None],
    "hosts.ada.bookings[0].buffer_before_minutes": [None, True],
}

SOUND = json.dumps(GOOD)

LINES: list[tuple[dict[str, Any], str]] = [
    *((changed((place, value)), f"{place}: {reason}") for place, rows in BROKEN.items() for value, reason in rows),
    *((changed(*changes), line) for changes, line in ELSEWHERE),
]
PLACES: list[tuple[dict[str, Any], str]] = [
    (changed((place, value)), place) for place, values in REWORDABLE.items() for value in values
]
NAMES = [plain(text) for _, text in (*LINES, *PLACES)]


def refusal(scenario: object) -> str:
    """The error that a scenario ends with, between reading and answering."""
    with pytest.raises(InvalidInput) as caught:
        find_slots(load(scenario))
    return str(caught.value)


def answered(text: str, *options: str) -> Result:
    """What `nxsched slots -` makes of a text on standard input."""
    return CliRunner().invoke(main, ["slots", "-", "--json", *options], input=text.encode("utf-8", "surrogatepass"))


def assert_refused_on_the_command_line(result: Result, line: str) -> None:
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", line + "\n")


def test_the_scenario_that_is_broken_below_is_sound_itself() -> None:
    assert len(find_slots(load(GOOD))) == 17


@pytest.mark.parametrize(("scenario", "line"), LINES, ids=NAMES[: len(LINES)])
def test_a_broken_scenario_is_refused_in_these_words(scenario: dict[str, Any], line: str) -> None:
    assert refusal(scenario) == line


@pytest.mark.parametrize(("scenario", "place"), PLACES, ids=NAMES[len(LINES) :])
def test_a_broken_scenario_is_refused_at_its_place(scenario: dict[str, Any], place: str) -> None:
    assert refusal(scenario).startswith(f"{place}: ")


@pytest.mark.parametrize("scenario", [scenario for scenario, _ in (*LINES, *PLACES)], ids=NAMES)
def test_the_error_stays_one_short_line_whatever_was_written(scenario: dict[str, Any]) -> None:
    line = refusal(scenario)
    assert line.isprintable()
    assert len(line) < 320


@pytest.mark.parametrize("scenario", [scenario for scenario, _ in (*LINES, *PLACES)], ids=NAMES)
def test_the_command_line_says_the_same_on_standard_error_and_ends_with_2(scenario: dict[str, Any]) -> None:
    text = json.dumps(scenario).replace("Infinity", "1e999").replace("NaN", "1e999")
    assert_refused_on_the_command_line(answered(text), refusal(json.loads(text)))


@pytest.mark.parametrize(("scenario", "line"), LINES[:: len(LINES) // 5], ids=NAMES[: len(LINES) : len(LINES) // 5])
def test_a_process_of_its_own_does_so_too(scenario: dict[str, Any], line: str, tmp_path: Path) -> None:
    file = tmp_path / "broken.json"
    file.write_text(json.dumps(scenario), encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", "nxsched", "slots", str(file)], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.decode()) == (2, b"", line + "\n")


def test_every_key_of_a_scenario_is_broken_at_least_once() -> None:
    keys: set[str] = set()

    def collect(value: object) -> None:
        if isinstance(value, dict):
            keys.update(key for key in value if key not in GOOD["hosts"])
            for inner in value.values():
                collect(inner)
        elif isinstance(value, list):
            for inner in value:
                collect(inner)

    collect(GOOD)
    tried = {place.rsplit(".", maxsplit=1)[-1].split("[")[0] for place in (*BROKEN, *REWORDABLE)}
    assert keys - tried == {"rrule"}


def test_a_question_with_too_many_answers_is_refused() -> None:
    day = [{"days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "start": "00:00", "end": "24:00"}]
    scenario = {
        "now": "2026-01-01T00:00:00Z",
        "from": "2026-01-01T00:00:00Z",
        "until": "2026-03-11T10:40:00Z",
        "event_type": {"duration_minutes": 1, "hosts": [{"members": ["ada"]}]},
        "hosts": {"ada": {"timezone": "UTC", "weekly_hours": day}},
    }
    assert len(find_slots(load(scenario))) == 100_000
    scenario["until"] = "2026-03-11T10:41:00Z"
    assert "more than 100000 starts" in refusal(scenario)
    assert len(find_slots(load(scenario), limit=100_001)) == 100_001


@pytest.mark.parametrize(
    "place",
    [
        "now",
        "event_type.duration_minutes",
        "event_type.capacity",
        "event_type.hosts[0].need",
        "event_type.limits[0].count",
        "event_type.booking_window.days",
        "hosts.ada.timezone",
        "hosts.ada.busy[0]",
        "hosts.ada.bookings[0].seats",
        "closures[0]",
    ],
)
def test_a_number_of_5000_digits_is_refused_at_its_place(place: str) -> None:
    assert refusal(changed((place, 10**5000))).startswith(f"{place}: ")


def test_a_list_nested_deeper_than_python_can_print_is_refused_in_one_line() -> None:
    nested: object = []
    for _ in range(100_000):
        nested = [nested]
    assert refusal(changed(("closures[0].start", nested))).startswith("closures[0].start: ")


def test_json_nested_just_as_deep_as_can_be_read_is_refused_in_one_line() -> None:
    for depth in range(800, 1100):
        nested = SOUND.replace('"start": "2026-04-03"', '"start": ' + "[" * depth + "]" * depth)
        with pytest.raises(InvalidInput):
            load(decode(nested))


def test_a_key_that_is_empty_or_no_text_is_refused() -> None:
    numbered: dict[Any, object] = {5: 1, **GOOD}
    assert refusal({**GOOD, "": 1}) == f'"": {TOP_KEYS}'
    assert refusal(numbered) == f"5: {TOP_KEYS}"
    assert refusal(changed(("hosts", {5: {"timezone": "UTC"}, **GOOD["hosts"]}))) == "hosts.5: must be text, not 5"


# Text that never becomes a scenario.
TEXTS: list[tuple[bytes, str]] = [
    (b"", "scenario: is empty"),
    (b"\xef\xbb\xbf", "scenario: is empty"),
    (b"  \n", "scenario: is empty"),
    (b"slots, please", "scenario: is not JSON: Expecting value at line 1, column 1"),
    (b"{} {}", "scenario: is not JSON: Extra data at line 1, column 4; a file of one scenario a line is JSON Lines"),
    (b"{\n'now': 1}", "scenario: is not JSON: Expecting property name enclosed in double quotes at line 2, column 1"),
    (b"[]", "scenario: must be an object, not []"),
    (b"[{}, {}]", "scenario: must be an object, not [{}, {}]"),
    (b'"x"', 'scenario: must be an object, not "x"'),
    (b"5", "scenario: must be an object, not 5"),
    (b"{}", "now: is required and missing"),
    ('{"now": "\u00e9"}'.encode("latin-1"), "scenario: is not UTF-8 text: byte 9 cannot be read"),
    (SOUND.encode("utf-16"), "scenario: is not UTF-8 text: byte 0 cannot be read"),
    (b"\x1f\x8b\x08\x00", "scenario: is not UTF-8 text: byte 1 cannot be read"),
    (b'{"now": "\xed\xa0\x80"}', "scenario: is not UTF-8 text: byte 9 cannot be read"),
    (b'{"now": NaN}', "scenario: holds NaN, which is no JSON"),
    (b'{"now": -Infinity}', "scenario: holds -Infinity, which is no JSON"),
    (b'{"now": 1, "now": 1}', 'scenario: has the key "now" twice in one object'),
    (b'{"name": {"a\\nb": 1, "c": 2, "a\\nb": 3}}', 'scenario: has the key "a\ufffdb" twice in one object'),
    (
        SOUND.replace('"seats": 1', '"seats": 1, "seats": 2').encode(),
        'scenario: has the key "seats" twice in one object',
    ),
    (b"[" * 100_000, "scenario: is nested too deeply"),
    (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "scenario: is nested too deeply"),
]


@pytest.mark.parametrize(("data", "line"), TEXTS, ids=[plain(data[:40]) for data, _ in TEXTS])
def test_a_file_that_holds_no_scenario_is_refused_in_these_words(data: bytes, line: str, tmp_path: Path) -> None:
    file = tmp_path / "text.json"
    file.write_bytes(data)
    assert_refused_on_the_command_line(CliRunner().invoke(main, ["slots", str(file)]), line)
    assert line.isprintable()


@pytest.mark.parametrize(
    "data",
    [
        SOUND[:100],
        '{"now": "a\x01b"}',
        SOUND.replace('"seats": 1', '"seats": ' + "1" * 5001),
        SOUND.replace('"seats": 1', '"seats": 1,'),
        "\x00",
    ],
)
def test_text_that_is_no_json_for_some_other_reason_is_refused_in_one_short_line(data: str) -> None:
    with pytest.raises(InvalidInput, match=r"^scenario: is not JSON") as caught:
        decode(data)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 220


def test_a_byte_order_mark_in_front_of_a_sound_scenario_is_passed_over() -> None:
    assert answered("\ufeff" + SOUND).stdout == answered(SOUND).stdout
    assert answered(SOUND).exit_code == 0


def test_a_key_that_is_written_twice_among_many_is_found_without_delay() -> None:
    keys = ",".join(f'"k{i}": 0' for i in range(20_000))
    script = (
        "import sys\n"
        "from nxsched.errors import InvalidInput\n"
        "from nxsched.slots.scenario import decode\n"
        "try:\n    decode(sys.stdin.read())\nexcept InvalidInput as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=f'{{{keys}, "k19999": 1}}',
        text=True,
        capture_output=True,
        timeout=5,
        check=True,
    )
    assert done.stdout == 'scenario: has the key "k19999" twice in one object\n'
