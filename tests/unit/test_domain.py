"""The dataclasses that a question is made of: what they take, what they refuse, and that they never change."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from nxsched import (
    Actor,
    BlockedPeriod,
    BookedTime,
    BookingWindow,
    EventType,
    Host,
    HostGroup,
    InvalidInput,
    Limit,
    MissingExtra,
    Override,
    Policies,
    Refusal,
    Reminder,
    Slot,
    Strategy,
    Travel,
    WeeklyHours,
)
from nxsched.domain.availability import busy_seconds

LONDON = ZoneInfo("Europe/London")
NINE = datetime(2026, 3, 2, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
HALF = timedelta(minutes=30)

MADE: dict[str, Callable[[], Any]] = {
    "Policies": lambda: Policies(cancel_notice=timedelta(hours=2), most_moves=1),
    "Strategy": lambda: Strategy(by="weighted", per="week", weights={"ada": 3}),
    "WeeklyHours": lambda: WeeklyHours(days="mon-fri", start="09:00", end="17:00"),
    "Override": lambda: Override(date=date(2026, 3, 2), hours=[("10:00", "12:00")]),
    "Travel": lambda: Travel(from_date=date(2026, 3, 2), until_date=date(2026, 3, 3), timezone="Asia/Tokyo"),
    "Limit": lambda: Limit(per="day", count=4),
    "Host": lambda: Host(slug="ada", timezone="Europe/London", weekly_hours=[MADE["WeeklyHours"]()]),
    "HostGroup": lambda: HostGroup(members=["ada", "bob"], need="all"),
    "Reminder": lambda: Reminder(days=1, to="hosts"),
    "BookingWindow": lambda: BookingWindow(days=30, from_date=date(2026, 3, 2)),
    "EventType": lambda: EventType(duration=HALF, hosts=["ada", "bob"], limits=[MADE["Limit"]()]),
    "BlockedPeriod": lambda: BlockedPeriod(start=date(2026, 3, 2), rrule="FREQ=WEEKLY", id="k"),
    "BookedTime": lambda: BookedTime(start=NINE, end=NINE + HOUR, hosts=["ada"], id="b"),
    "Refusal": lambda: Refusal(code="busy", host="ada", start=NINE, end=NINE + HOUR),
}


def refused(make: Callable[..., object], **values: object) -> tuple[str, str]:
    with pytest.raises(InvalidInput) as caught:
        make(**values)
    return caught.value.field, caught.value.reason


# What they all have in common.


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_two_that_were_made_alike_are_equal_and_have_one_hash(make: Callable[[], Any]) -> None:
    assert make() == make()
    assert hash(make()) == hash(make())
    assert len({make(), make()}) == 1


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_nothing_in_it_can_be_set(make: Callable[[], Any]) -> None:
    made = make()
    for field in dataclasses.fields(made):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(made, field.name, None)
    with pytest.raises((AttributeError, TypeError)):
        made.something_else = 1


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_it_travels_between_processes_and_can_be_copied(make: Callable[[], Any]) -> None:
    made = make()
    assert pickle.loads(pickle.dumps(made)) == made  # noqa: S301 - our own
    assert copy.deepcopy(made) == made
    assert repr(pickle.loads(pickle.dumps(made))) == repr(made)  # noqa: S301


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_what_it_says_of_itself_makes_it_again(make: Callable[[], Any]) -> None:
    names = {name: value for name, value in globals().items() if name in MADE}
    said = repr(make())
    assert eval(said, {**names, "datetime": __import__("datetime")}) == make()  # noqa: S307 - our own words


def test_lists_that_are_changed_later_change_nothing() -> None:
    hours = [WeeklyHours(days="mon", start="09:00", end="17:00")]
    windows = [("10:00", "12:00")]
    members = ["ada"]
    host = Host(
        slug="ada", timezone="UTC", weekly_hours=hours, overrides=[Override(date=date(2026, 3, 2), hours=windows)]
    )
    group = HostGroup(members=members)
    hours.clear()
    windows.clear()
    members.append("bob")
    assert len(host.weekly_hours) == 1
    assert host.overrides[0].hours == (("10:00", "12:00"),)
    assert group.members == ("ada",)


def test_values_are_given_by_name_alone() -> None:
    with pytest.raises(TypeError):
        WeeklyHours("mon", "09:00", "17:00")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        InvalidInput("field", "reason")  # type: ignore[call-arg]


def test_a_change_is_checked_like_a_first_value() -> None:
    hours = WeeklyHours(days="mon", start="09:00", end="17:00")
    assert dataclasses.replace(hours, end="24:00").end == "24:00"
    assert refused(lambda: dataclasses.replace(hours, end="25:00")) == (
        "end",
        'must be a wall time HH:MM from 00:00 to 24:00, not "25:00"',
    )
    period = BlockedPeriod(start=date(2026, 3, 2), rrule="FREQ=WEEKLY")
    assert dataclasses.replace(period, start=date(2026, 3, 3)).start == date(2026, 3, 3)


# Errors.


def test_an_error_has_its_place_and_its_reason_as_fields_and_a_stable_code() -> None:
    error = InvalidInput(field="hosts.ada.timezone", reason="unknown time zone")
    assert (error.field, error.reason, error.code) == ("hosts.ada.timezone", "unknown time zone", "invalid_input")
    assert str(error) == "hosts.ada.timezone: unknown time zone"


def test_a_missing_extra_says_how_to_install_it() -> None:
    error = MissingExtra(what="The command line", extra="cli")
    assert str(error) == "The command line needs the extra 'cli': pip install 'nxsched[cli]'"
    assert error.extra == "cli"


# Hours.


@pytest.mark.parametrize(
    ("days", "names"),
    [
        ("mon", "mon"),
        ("mon-fri", "mon tue wed thu fri"),
        ("sat-sun", "sat sun"),
        ("mon-mon", "mon"),
        ("fri,mon", "mon fri"),
        ("mon-wed,wed-thu", "mon tue wed thu"),
        ("mon, wed", "mon wed"),
        (["sun", "mon", "sun"], "mon sun"),
        (["mon-tue", "sun"], "mon tue sun"),
    ],
)
def test_weekdays_are_named_one_by_one_or_as_a_range(days: str | list[str], names: str) -> None:
    assert WeeklyHours(days=days, start="09:00", end="17:00").days == tuple(names.split())


@pytest.mark.parametrize(
    ("days", "field", "reason"),
    [
        ("fri-mon", "days", '"fri-mon" goes backwards; name the days one by one'),
        ("monday", "days", 'must be one of mon, tue, wed, thu, fri, sat, sun, not "monday"'),
        ("", "days", 'must be one of mon, tue, wed, thu, fri, sat, sun, not ""'),
        ("mon,", "days", 'must be one of mon, tue, wed, thu, fri, sat, sun, not ""'),
        ([], "days", "must name at least one weekday"),
        (["mon", 2], "days[1]", "must be a str, not 2"),
        (["mon", "sun-sat"], "days[1]", '"sun-sat" goes backwards; name the days one by one'),
        (5, "days", "must be a list of str, not 5"),
        (None, "days", "must be a list of str, not None"),
        (b"mon", "days", "must be a list of str, not b'mon'"),
    ],
)
def test_weekdays_that_are_none_are_refused(days: object, field: str, reason: str) -> None:
    assert refused(WeeklyHours, days=days, start="09:00", end="17:00") == (field, reason)


def test_a_window_may_end_at_24_00_or_on_the_next_day_but_not_begin_at_24_00() -> None:
    for start, end in [
        ("00:00", "24:00"),
        ("22:00", "06:00"),
        ("00:00", "00:00"),
        ("09:00", "09:00"),
        ("23:59", "00:00"),
    ]:
        assert WeeklyHours(days="mon", start=start, end=end).end == end
    assert refused(WeeklyHours, days="mon", start="24:00", end="24:00")[0] == "start"


@pytest.mark.parametrize("value", ["9:00", "09:00 ", "0900", "24:30", "12:60", 9, None, True, b"09:00"])
def test_a_wall_time_has_two_digits_for_hours_and_minutes_and_nothing_else(value: object) -> None:
    assert refused(WeeklyHours, days="mon", start=value, end="24:00")[0] == "start"
    assert refused(WeeklyHours, days="mon", start="00:00", end=value)[0] == "end"
    assert refused(Override, date=date(2026, 3, 2), hours=[("00:00", "01:00"), ("02:00", value)])[0] == "hours[1].end"


def test_an_override_without_hours_closes_the_date() -> None:
    assert Override(date=date(2026, 3, 2)).hours == ()


def test_an_override_keeps_dates_plain_and_hours_as_pairs() -> None:
    class Day(date):
        pass

    override = Override(date=Day(2026, 3, 2), hours=[["10:00", "12:00"]])  # type: ignore[list-item]
    assert type(override.date) is date
    assert override == Override(date=date(2026, 3, 2), hours=[("10:00", "12:00")])


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"date": "2026-03-02"}, "date"),
        ({"date": NINE}, "date"),
        ({"date": date(1899, 12, 31)}, "date"),
        ({"date": None}, "date"),
        ({"hours": "10:00"}, "hours"),
        ({"hours": [("10:00",)]}, "hours[0]"),
        ({"hours": ["ab"]}, "hours[0]"),
        ({"hours": [("10:00", "12:00", "13:00")]}, "hours[0]"),
        ({"hours": [("10:00", "12:00"), 5]}, "hours[1]"),
        ({"hours": None}, "hours"),
    ],
)
def test_an_override_that_cannot_be_read_is_refused(values: dict[str, object], field: str) -> None:
    assert refused(Override, **{"date": date(2026, 3, 2), **values})[0] == field


def test_a_trip_has_both_its_ends_and_they_do_not_cross() -> None:
    day = date(2026, 3, 2)
    assert Travel(from_date=day, until_date=day, timezone="Asia/Tokyo").until_date == day
    assert refused(Travel, from_date=day, until_date=day - timedelta(days=1), timezone="Asia/Tokyo") == (
        "until_date",
        "must not lie before the first date: 2026-03-01 is before 2026-03-02",
    )
    assert refused(Travel, from_date=NINE, until_date=day, timezone="Asia/Tokyo")[0] == "from_date"
    assert refused(Travel, from_date=day, until_date="2026-03-02", timezone="Asia/Tokyo")[0] == "until_date"
    assert refused(Travel, from_date=day, until_date=day, timezone="Tokyo") == (
        "timezone",
        'unknown time zone "Tokyo"; did you mean "Asia/Tokyo"?',
    )


def test_trips_are_kept_in_the_order_of_their_dates() -> None:
    def trip(first: int, last: int) -> Travel:
        return Travel(from_date=date(2026, 3, first), until_date=date(2026, 3, last), timezone="Asia/Tokyo")

    host = Host(slug="ada", timezone="UTC", travel=[trip(9, 9), trip(1, 3), trip(4, 8)])
    assert [one.from_date.day for one in host.travel] == [1, 4, 9]
    with pytest.raises(InvalidInput, match=r"^travel\[0\].*overlaps travel\[1\], which lasts until 2026-03-03$"):
        Host(slug="ada", timezone="UTC", travel=[trip(3, 4), trip(1, 3)])


def test_a_second_override_of_a_date_is_refused() -> None:
    closed = Override(date=date(2026, 3, 2))
    assert refused(Host, slug="ada", timezone="UTC", overrides=[closed, Override(date=date(2026, 3, 3)), closed]) == (
        "overrides[2].date",
        "2026-03-02 is overridden already by overrides[0]; give all its hours there",
    )


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"slug": ""}, "slug"),
        ({"slug": "a\nb"}, "slug"),
        ({"slug": None}, "slug"),
        ({"slug": "x" * 201}, "slug"),
        ({"timezone": "europe/london"}, "timezone"),
        ({"timezone": None}, "timezone"),
        ({"timezone": LONDON}, "timezone"),
        ({"weekly_hours": "mon"}, "weekly_hours"),
        ({"weekly_hours": [None]}, "weekly_hours[0]"),
        ({"overrides": [date(2026, 3, 2)]}, "overrides[0]"),
        ({"travel": {"from": 1}}, "travel[0]"),
        ({"travel": 5}, "travel"),
        ({"limits": ["day"]}, "limits[0]"),
    ],
)
def test_a_host_that_cannot_be_read_is_refused(values: dict[str, object], field: str) -> None:
    assert refused(Host, **{"slug": "ada", "timezone": "UTC", **values})[0] == field


@pytest.mark.parametrize(
    "name", ["localtime", "posixrules", "Factory", "", "UTC ", "utc+1", "../UTC", "Europe", "x" * 999]
)
def test_what_is_no_place_is_an_unknown_time_zone(name: str) -> None:
    assert refused(Host, slug="ada", timezone=name)[1].startswith("unknown time zone ")


@pytest.mark.parametrize(
    "name", ["UTC", "Europe/London", "Asia/Kolkata", "America/Argentina/Buenos_Aires", "Etc/GMT+12"]
)
def test_names_of_the_iana_are_time_zones(name: str) -> None:
    assert Host(slug="ada", timezone=name).timezone == name


@pytest.mark.parametrize(("name", "meant"), [("utc", "UTC"), ("ASIA/KOLKATA", "Asia/Kolkata"), ("gmt", "GMT")])
def test_a_time_zone_in_the_wrong_case_is_refused_with_the_right_one(name: str, meant: str) -> None:
    assert refused(Host, slug="ada", timezone=name)[1] == f'unknown time zone "{name}"; did you mean "{meant}"?'


def test_what_is_no_text_is_no_time_zone() -> None:
    assert refused(Host, slug="ada", timezone=5) == (
        "timezone",
        'must be the name of a time zone, such as "Europe/London", not 5',
    )


# Event types.


def test_a_limit_counts_or_adds_up_or_both_and_says_so() -> None:
    assert str(Limit(per="day", count=4)) == "4 bookings a day"
    assert str(Limit(per="week", count=1)) == "1 booking a week"
    assert str(Limit(per="month", minutes=600)) == "600 minutes a month"
    assert str(Limit(per="year", count=2, minutes=1)) == "2 bookings and 1 minute a year"


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"per": "day"}, "count"),
        ({"per": "hour", "count": 1}, "per"),
        ({"per": ["day"], "count": 1}, "per"),
        ({"per": "day", "count": 0}, "count"),
        ({"per": "day", "count": True}, "count"),
        ({"per": "day", "count": 1.0}, "count"),
        ({"per": "day", "minutes": 0}, "minutes"),
        ({"per": "day", "count": 1, "minutes": 1_000_001}, "minutes"),
        ({"per": "day", "minutes": timedelta(minutes=5)}, "minutes"),
    ],
)
def test_a_limit_that_says_nothing_is_refused(values: dict[str, object], field: str) -> None:
    assert refused(Limit, **values)[0] == field


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"days": -1}, "days"),
        ({"days": True}, "days"),
        ({"days": 36_526}, "days"),
        ({"from_date": NINE}, "from_date"),
        ({"until_date": "2026-03-02"}, "until_date"),
        ({"from_date": date(2026, 3, 2), "until_date": date(2026, 3, 1)}, "until_date"),
    ],
)
def test_a_booking_window_that_cannot_be_is_refused(values: dict[str, object], field: str) -> None:
    assert refused(BookingWindow, **values)[0] == field


def test_a_booking_window_may_hold_one_day_or_all_of_them() -> None:
    day = date(2026, 3, 2)
    assert BookingWindow(from_date=day, until_date=day).until_date == day
    assert BookingWindow(days=0).days == 0
    assert BookingWindow() == BookingWindow(days=None)


def test_a_group_needs_one_of_its_members_unless_it_says_otherwise() -> None:
    assert HostGroup(members=["ada", "bob"]).needed == 1
    assert HostGroup(members=["ada", "bob"], need=2).needed == 2
    assert HostGroup(members=["ada", "bob"], need="all").needed == 2


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"members": []}, "members"),
        ({"members": "ada"}, "members"),
        ({"members": [5]}, "members[0]"),
        ({"members": ["ada", ""]}, "members[1]"),
        ({"need": 0}, "need"),
        ({"need": 3}, "need"),
        ({"need": True}, "need"),
        ({"need": "any"}, "need"),
        ({"need": None}, "need"),
        ({"need": 1.5}, "need"),
    ],
)
def test_a_group_that_cannot_be_read_is_refused(values: dict[str, object], field: str) -> None:
    assert refused(HostGroup, **{"members": ["ada", "bob"], **values})[0] == field


def test_slugs_are_short_for_one_group_that_needs_one_of_them() -> None:
    event = EventType(duration=HALF, hosts=["ada", "bob"])
    assert event.groups == (HostGroup(members=["ada", "bob"], need=1),)
    assert event == EventType(duration=HALF, hosts=[HostGroup(members=["ada", "bob"])])


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"duration": timedelta()}, "duration"),
        ({"duration": timedelta(minutes=-30)}, "duration"),
        ({"duration": timedelta(seconds=90)}, "duration"),
        ({"duration": timedelta(minutes=1, microseconds=1)}, "duration"),
        ({"duration": timedelta(days=367)}, "duration"),
        ({"duration": timedelta.max}, "duration"),
        ({"duration": 30}, "duration"),
        ({"duration": None}, "duration"),
        ({"step": timedelta()}, "step"),
        ({"step": 15}, "step"),
        ({"buffer_before": timedelta(minutes=-1)}, "buffer_before"),
        ({"buffer_after": timedelta(seconds=1)}, "buffer_after"),
        ({"minimum_notice": None}, "minimum_notice"),
        ({"offset": timedelta(days=-1)}, "offset"),
        ({"slug": "a\x00"}, "slug"),
        ({"slug": None}, "slug"),
        ({"booking_window": 30}, "booking_window"),
        ({"limits": [5]}, "limits[0]"),
        ({"limits": Limit(per="day", count=1)}, "limits"),
        ({"align": "grid"}, "align"),
        ({"capacity": 0}, "capacity"),
        ({"capacity": 1.0}, "capacity"),
        ({"timezone": "Mars"}, "timezone"),
        ({"hosts": []}, "hosts"),
        ({"hosts": "ada"}, "hosts"),
        ({"hosts": None}, "hosts"),
        ({"hosts": ["ada", 5]}, "hosts[1]"),
        ({"hosts": [5]}, "hosts[0]"),
        ({"hosts": [HostGroup(members=["ada"]), "bob"]}, "hosts[1]"),
        ({"hosts": ["ada", "ada"]}, "hosts[0].members[1]"),
        ({"hosts": [HostGroup(members=["ada"]), HostGroup(members=["bob", "ada"])]}, "hosts[1].members[1]"),
        ({"hosts": [f"h{i}" for i in range(1001)]}, "hosts"),
    ],
)
def test_an_event_type_that_cannot_be_is_refused(values: dict[str, object], field: str) -> None:
    assert refused(EventType, **{"duration": HALF, "hosts": ["ada"], **values})[0] == field


def test_an_event_type_takes_all_it_is_allowed_to() -> None:
    longest = timedelta(days=366)
    event = EventType(
        duration=longest,
        step=longest,
        buffer_before=longest,
        minimum_notice=longest,
        hosts=[f"h{i}" for i in range(1000)],
    )
    assert len(event.groups[0].members) == 1000
    assert event.capacity == 1
    assert EventType(duration=HALF, hosts=["ada"], capacity=1_000_000).capacity == 1_000_000


def test_an_event_type_may_have_a_slug() -> None:
    assert EventType(duration=HALF, hosts=["ada"]).slug == ""
    assert EventType(duration=HALF, hosts=["ada"], slug="visit").slug == "visit"


# Time that is taken.


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (date(2026, 3, 2), None),
        (date(2026, 3, 2), date(2026, 3, 2)),
        (date(2026, 3, 2), date(9999, 12, 31)),
        (datetime(2026, 3, 2, 9), datetime(2026, 3, 2, 9, 0, 1)),  # noqa: DTZ001
        (NINE, NINE + timedelta(microseconds=1)),
        (NINE, datetime(2026, 3, 2, 10, 30, tzinfo=timezone(HOUR)).replace(hour=11)),
    ],
)
def test_a_period_is_blocked_by_dates_by_wall_times_or_by_instants(start: date, end: date | None) -> None:
    assert BlockedPeriod(start=start, end=end).end == end


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"start": "2026-03-02"}, "start"),
        ({"start": None}, "start"),
        ({"start": date(1899, 12, 31)}, "start"),
        ({"start": datetime(1899, 12, 31), "end": datetime(1900, 1, 1)}, "start"),  # noqa: DTZ001
        ({"start": datetime(2026, 3, 2, 9, 0, 0, 1), "end": datetime(2026, 3, 3)}, "start"),  # noqa: DTZ001
        ({"start": datetime(2026, 3, 2, 9)}, "end"),  # noqa: DTZ001
        ({"start": NINE}, "end"),
        ({"start": NINE, "end": NINE}, "end"),
        ({"start": NINE, "end": NINE - HOUR}, "end"),
        ({"start": NINE, "end": date(2026, 3, 3)}, "end"),
        ({"start": NINE, "end": datetime(2026, 3, 3)}, "end"),  # noqa: DTZ001
        ({"start": NINE.replace(year=9000), "end": NINE.replace(year=9001)}, "start"),
        ({"start": date(2026, 3, 2), "end": date(2026, 3, 1)}, "end"),
        ({"start": date(2026, 3, 2), "reason": 5}, "reason"),
        ({"start": date(2026, 3, 2), "reason": "\n"}, "reason"),
        ({"start": date(2026, 3, 2), "id": ""}, "id"),
        ({"start": date(2026, 3, 2), "rrule": 5}, "rrule"),
        ({"start": date(2026, 3, 2), "rrule": "FREQ=HOURLY"}, "rrule"),
        ({"start": NINE, "end": NINE + HOUR, "rrule": "FREQ=DAILY"}, "rrule"),
    ],
)
def test_a_blocked_period_that_cannot_be_is_refused(values: dict[str, object], field: str) -> None:
    assert refused(BlockedPeriod, **values)[0] == field


IN_THE_FOLD = datetime(2026, 10, 25, 1, 50, tzinfo=LONDON)
LATER_IN_THE_FOLD = datetime(2026, 10, 25, 1, 10, tzinfo=LONDON, fold=1)


def test_a_period_across_the_hour_that_comes_twice_ends_after_it_starts() -> None:
    assert BlockedPeriod(start=IN_THE_FOLD, end=LATER_IN_THE_FOLD).end == LATER_IN_THE_FOLD
    same_hands = IN_THE_FOLD.replace(fold=1)
    assert BlockedPeriod(start=IN_THE_FOLD, end=same_hands).end is same_hands
    assert refused(BlockedPeriod, start=LATER_IN_THE_FOLD, end=IN_THE_FOLD)[0] == "end"


def test_busy_time_across_the_hour_that_comes_twice_ends_after_it_starts() -> None:
    start, end = int(IN_THE_FOLD.timestamp()), int(LATER_IN_THE_FOLD.timestamp())
    assert busy_seconds("busy", (IN_THE_FOLD, LATER_IN_THE_FOLD)) == (start, end)
    assert busy_seconds("busy", (IN_THE_FOLD, IN_THE_FOLD.replace(fold=1))) == (start, start + 3600)
    assert refused(busy_seconds, field="busy", value=(LATER_IN_THE_FOLD, IN_THE_FOLD))[0] == "busy[1]"


def test_busy_time_is_widened_to_whole_seconds_and_stays_empty_where_it_is() -> None:
    first, half = int(NINE.timestamp()), timedelta(milliseconds=500)
    assert busy_seconds("busy", (NINE + half, NINE + half)) == (first, first)
    assert busy_seconds("busy", (NINE, NINE)) == (first, first)
    assert busy_seconds("busy", [NINE + half, NINE + half * 1.5]) == (first, first + 1)
    assert busy_seconds("busy", (NINE - half, NINE + HOUR)) == (first - 1, first + 3600)


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ((NINE, NINE - timedelta(microseconds=1)), "busy[1]"),
        ((NINE,), "busy"),
        ((NINE, NINE, NINE), "busy"),
        ("ab", "busy"),
        (None, "busy"),
        ({NINE, NINE + HOUR}, "busy"),
        ((NINE.replace(tzinfo=None), NINE), "busy[0]"),
        ((NINE, date(2026, 3, 3)), "busy[1]"),
        ((NINE, None), "busy[1]"),
    ],
)
def test_busy_time_that_cannot_be_is_refused(value: object, field: str) -> None:
    assert refused(busy_seconds, field="busy", value=value)[0] == field


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"start": NINE.replace(tzinfo=None)}, "start"),
        ({"start": NINE + timedelta(microseconds=1)}, "start"),
        ({"end": NINE}, "end"),
        ({"end": NINE - HOUR}, "end"),
        ({"end": NINE + timedelta(milliseconds=1)}, "end"),
        ({"end": "2026-03-02T10:00:00Z"}, "end"),
        ({"hosts": []}, "hosts"),
        ({"hosts": "ada"}, "hosts"),
        ({"hosts": [5]}, "hosts[0]"),
        ({"event_type": ""}, "event_type"),
        ({"buffer_before": timedelta(seconds=30)}, "buffer_before"),
        ({"buffer_after": timedelta(days=400)}, "buffer_after"),
        ({"seats": 0}, "seats"),
        ({"seats": True}, "seats"),
        ({"id": "\ud800"}, "id"),
    ],
)
def test_a_booking_that_cannot_be_is_refused(values: dict[str, object], field: str) -> None:
    good = {"start": NINE, "end": NINE + HOUR, "hosts": ["ada"]}
    assert refused(BookedTime, **{**good, **values})[0] == field


def test_a_booking_across_the_hour_that_comes_twice_ends_after_it_starts() -> None:
    assert BookedTime(start=IN_THE_FOLD, end=LATER_IN_THE_FOLD, hosts=["ada"]).end == LATER_IN_THE_FOLD
    assert refused(BookedTime, start=LATER_IN_THE_FOLD, end=IN_THE_FOLD, hosts=["ada"])[0] == "end"


@pytest.mark.parametrize("year", [1899, 9000, 9999])
def test_an_instant_lies_in_years_that_can_be_reckoned_with(year: int) -> None:
    assert (
        refused(BookedTime, start=NINE.replace(year=year), end=NINE.replace(year=year) + HOUR, hosts=["ada"])[0]
        == "end"
    )


def test_the_first_and_the_last_instant_are_taken() -> None:
    first, last = datetime(1900, 1, 1, tzinfo=UTC), datetime(8999, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert BookedTime(start=first, end=last, hosts=["ada"]).end == last


def test_a_slot_is_a_tuple_with_names() -> None:
    slot = Slot(NINE, NINE + HOUR, ("ada",), 1)
    start, end, hosts, seats_left = slot
    assert (start, end, hosts, seats_left) == (slot.start, slot.end, slot.hosts, slot.seats_left)


def test_slugs_and_groups_are_not_mixed() -> None:
    for hosts in (["ada", HostGroup(members=["bob"])], [HostGroup(members=["bob"]), "ada"]):
        with pytest.raises(InvalidInput, match=r"^hosts\[1\]: is of another kind than the first: give slugs"):
            EventType(duration=timedelta(minutes=30), hosts=hosts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("hosts", "field", "reason"),
    [
        (["ada", "bob", "ada"], "hosts", "must name each host once"),
        (["ada", ""], "hosts[1]", "must not be empty"),
    ],
)
def test_a_booking_names_each_of_its_hosts_once(hosts: list[str], field: str, reason: str) -> None:
    start = datetime(2026, 3, 2, 9, tzinfo=UTC)
    with pytest.raises(InvalidInput) as caught:
        BookedTime(start=start, end=start + timedelta(hours=1), hosts=hosts)
    assert (caught.value.field, caught.value.reason) == (field, reason)


@pytest.mark.parametrize("role", ["Staff", " staff", "", 7, "a" * 300, "a\x00"])
def test_a_role_is_a_word_in_small_letters(role: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        Actor(role=role)  # type: ignore[arg-type]
    assert caught.value.field == "actor.role"
