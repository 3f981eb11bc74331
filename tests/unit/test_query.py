"""The question: what it refuses, and that any kind of aware datetime will do and none but UTC comes back."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from typing import Any, NoReturn
from zoneinfo import ZoneInfo

import pendulum
import pytest
from dateutil import tz
from hypothesis import given
from hypothesis import strategies as st

from nxsched import (
    BlockedPeriod,
    BookedTime,
    BookingWindow,
    EventType,
    Host,
    InvalidInput,
    Limit,
    Override,
    WeeklyHours,
)
from nxsched.slots import SlotQuery, explain, find_slots

HALF = timedelta(minutes=30)
HOUR = timedelta(hours=1)
MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
NINE = MONDAY.replace(hour=9)
LONDON = ZoneInfo("Europe/London")


def always(slug: str = "ada", timezone: str = "UTC", **more: Any) -> Host:
    hours = [WeeklyHours(days="mon-sun", start="00:00", end="24:00")]
    return Host(slug=slug, timezone=timezone, weekly_hours=hours, **more)


def question(**changes: Any) -> SlotQuery:
    """Two hosts that are open from nine to twelve, for half an hour, on one Monday."""
    hours = [WeeklyHours(days="mon", start="09:00", end="12:00")]
    values: dict[str, Any] = {
        "event_type": EventType(duration=HALF, hosts=["ada", "bob"], slug="visit"),
        "hosts": [Host(slug=slug, timezone="UTC", weekly_hours=hours) for slug in ("ada", "bob")],
        "start": MONDAY,
        "end": MONDAY + timedelta(days=1),
        "now": MONDAY - timedelta(days=9),
    }
    return SlotQuery(**{**values, **changes})


def clock(query: SlotQuery, limit: int | None = None) -> list[str]:
    return [f"{slot.start:%H:%M}" for slot in find_slots(query, limit)]


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"event_type": "visit"}, "event_type", 'must be an EventType, not "visit"'),
        ({"hosts": "ada"}, "hosts", 'must be a list of Host, not "ada"'),
        ({"hosts": None}, "hosts", "must be a list of Host, not None"),
        ({"hosts": ["ada"]}, "hosts[0]", 'must be a Host, not "ada"'),
        ({"hosts": [always(), always()]}, "hosts", "must not hold two hosts with the same slug"),
        ({"hosts": [always()]}, "event_type.hosts[0].members[1]", 'there is no host "bob"'),
        ({"start": MONDAY.replace(tzinfo=None)}, "start", "must have a time zone; 2026-03-02T00:00:00 is naive"),
        ({"end": date(2026, 3, 3)}, "end", "must be an aware datetime, not datetime.date(2026, 3, 3)"),
        ({"now": None}, "now", "must be an aware datetime, not None"),
        ({"end": MONDAY - timedelta(seconds=1)}, "end", "must not lie before the start of the range"),
        ({"end": MONDAY + timedelta(days=36_526)}, "end", "the range holds 36526 days; the most is 36525"),
        (
            {"end": MONDAY + timedelta(days=36_525, seconds=1)},
            "end",
            "the range holds 36526 days; the most is 36525",
        ),
        ({"blocked": {"zoe": []}}, "blocked.zoe", 'there is no host "zoe"'),
        ({"busy": {"zoe": []}}, "busy.zoe", 'there is no host "zoe"'),
        ({"busy": {"\x1b\n" + "z" * 90: []}}, "busy.\ufffd\ufffd" + "z" * 58, None),
        ({"busy": {"ada": [(NINE, NINE - HOUR)]}}, "hosts.ada.busy[0][1]", None),
        ({"busy": {"ada": [(NINE, NINE), NINE]}}, "hosts.ada.busy[1]", None),
        ({"busy": {"bob": [(NINE, None)]}}, "hosts.bob.busy[0][1]", "must be an aware datetime, not None"),
        ({"busy": {"ada": None}}, "hosts.ada.busy", None),
        ({"busy": [(NINE, NINE)]}, "busy", None),
        ({"blocked": [BlockedPeriod(start=date(2026, 3, 2))]}, "blocked", None),
        ({"blocked": {"ada": [NINE]}}, "hosts.ada.blocked[0]", None),
        ({"blocked": {"ada": None}}, "hosts.ada.blocked", None),
        ({"closures": [date(2026, 3, 2)]}, "closures[0]", None),
        ({"closures": BlockedPeriod(start=date(2026, 3, 2))}, "closures", None),
        ({"bookings": [NINE]}, "bookings[0]", None),
        ({"bookings": {"ada": []}}, "bookings[0]", None),
        (
            {"bookings": [BookedTime(start=NINE, end=NINE + HOUR, hosts=[slug], id="b1") for slug in ("ada", "bob")]},
            "bookings[1].id",
            'there is another booking "b1", bookings[0]; give each booking once, with all its hosts',
        ),
    ],
)
def test_a_question_that_cannot_be_is_refused(changes: dict[str, object], field: str, reason: str | None) -> None:
    with pytest.raises(InvalidInput) as caught:
        question(**changes)
    assert caught.value.field == field
    assert reason in {None, caught.value.reason}
    assert str(caught.value).isprintable()


def test_a_question_is_equal_to_one_that_asks_the_same_and_never_changes() -> None:
    assert question() == question()
    assert question() != question(now=MONDAY)
    with pytest.raises(dataclasses.FrozenInstanceError):
        question().now = MONDAY  # type: ignore[misc]
    bookings: list[BookedTime] = []
    query = question(bookings=bookings)
    bookings.append(BookedTime(start=NINE, end=NINE + HALF, hosts=["ada", "bob"]))
    assert clock(query)[0] == "09:00"
    assert clock(dataclasses.replace(query, bookings=bookings))[0] == "09:30"


def test_a_question_travels_between_processes() -> None:
    query = question(blocked={"ada": [BlockedPeriod(start=date(2026, 3, 2), rrule="FREQ=WEEKLY")]})
    arrived = pickle.loads(pickle.dumps(query))  # noqa: S301 - our own
    assert arrived == query
    assert find_slots(arrived) == find_slots(query)


def test_an_empty_range_has_no_slots() -> None:
    assert clock(question(start=NINE, end=NINE)) == []
    assert clock(question(start=NINE, end=NINE + timedelta(seconds=1))) == ["09:00"]
    assert clock(question(start=NINE + timedelta(microseconds=1), end=NINE + HALF)) == []


def test_a_range_of_a_hundred_years_is_no_more_than_one_may_ask_for() -> None:
    query = question(end=MONDAY + timedelta(days=36_525))
    assert find_slots(query, limit=3)[0].start == NINE
    assert len(find_slots(query)) == 6 * 5218


@pytest.mark.parametrize("limit", [0, -1, True, 1.0, "3", 10_000_001])
def test_a_limit_is_a_number_of_at_least_one(limit: Any) -> None:  # noqa: ANN401 - whatever is given
    with pytest.raises(InvalidInput) as caught:
        find_slots(question(), limit=limit)
    assert caught.value.field == "limit"


def test_a_limit_gives_the_first_slots_however_far_they_lie() -> None:
    query = question(
        end=MONDAY + timedelta(days=3000),
        blocked={slug: [BlockedPeriod(start=date(2026, 3, 2), end=date(2031, 3, 2))] for slug in ("ada", "bob")},
    )
    assert find_slots(query, limit=4) == find_slots(query)[:4]
    assert find_slots(query, limit=4)[0].start == datetime(2031, 3, 3, 9, tzinfo=UTC)
    assert clock(question(), limit=2) == ["09:00", "09:30"]


def test_notice_and_now_are_kept_by_the_search_for_the_first_few_too() -> None:
    late = question(now=NINE + HOUR, event_type=EventType(duration=HALF, hosts=["ada"], minimum_notice=HOUR))
    assert clock(late) == clock(late, limit=9) == ["11:00", "11:30"]
    assert clock(question(now=MONDAY + timedelta(days=2))) == []
    assert clock(question(now=MONDAY + timedelta(days=2)), limit=1) == []


def test_a_clock_that_goes_back_over_midnight_cuts_the_booking_window_in_two() -> None:
    """St John's, 2010-11-07: at 00:01 the clock goes back to 23:01 of the sixth, which alone may be booked."""
    start = datetime(2010, 11, 7, 2, 0, tzinfo=UTC)
    query = question(
        event_type=EventType(
            duration=timedelta(minutes=1),
            step=timedelta(minutes=10),
            align="clock",
            hosts=["ada"],
            booking_window=BookingWindow(from_date=date(2010, 11, 6), until_date=date(2010, 11, 6)),
        ),
        hosts=[always(timezone="America/St_Johns")],
        start=start,
        end=start + timedelta(hours=3),
        now=start,
    )
    expected = ["02:00", "02:10", "02:20", "02:40", "02:50", "03:00", "03:10", "03:20"]
    assert clock(query) == expected
    for limit in range(1, 10):
        assert clock(query, limit) == expected[:limit]


def test_a_limit_is_kept_where_places_can_be_joined_beside_the_grid() -> None:
    joined = [
        BookedTime(
            start=NINE + timedelta(minutes=m), end=NINE + timedelta(minutes=m + 30), hosts=["ada"], event_type="class"
        )
        for m in (5, 95)
    ]
    query = question(event_type=EventType(duration=HALF, hosts=["ada"], slug="class", capacity=3), bookings=joined)
    expected = ["09:05", "10:00", "10:35", "11:30"]
    assert clock(query) == expected
    assert [slot.seats_left for slot in find_slots(query)] == [2, 3, 2, 3]
    for limit in range(1, 6):
        assert clock(query, limit) == expected[:limit]


def test_the_time_zone_of_the_event_type_is_its_own_or_that_of_the_first_member() -> None:
    tokyo = [always("ada", "Asia/Tokyo"), always("bob", "UTC")]
    assert question(hosts=tokyo).timezone == "Asia/Tokyo"
    own = EventType(duration=HALF, hosts=["ada", "bob"], timezone="Europe/London")
    assert question(hosts=tokyo, event_type=own).timezone == "Europe/London"


def test_other_hosts_may_be_given_and_their_bookings_count_for_the_event_type() -> None:
    event = EventType(duration=HALF, hosts=["ada"], slug="visit", limits=[Limit(per="day", count=1)])
    booking = BookedTime(start=NINE, end=NINE + HALF, hosts=["bob"], event_type="visit")
    assert clock(question(event_type=event, bookings=[booking])) == []
    assert len(clock(question(event_type=event, bookings=[dataclasses.replace(booking, event_type="call")]))) == 6


# Aware datetimes of every kind.


class Fixed(tzinfo):
    """A time zone as an application may have written it."""

    def utcoffset(self, _: datetime | None) -> timedelta:
        return timedelta(hours=5, minutes=45)

    def dst(self, _: datetime | None) -> timedelta:
        return timedelta()

    def tzname(self, _: datetime | None) -> str:
        return "fixed"


class Stamp(datetime):
    """A datetime of an application's own, whose arithmetic is not to be trusted."""

    def __sub__(self, other: object) -> NoReturn:
        """Refuse to subtract."""
        raise NotImplementedError


KINDS: dict[str, Callable[[datetime], datetime]] = {
    "UTC": lambda at: at,
    "a fixed offset": lambda at: at.astimezone(timezone(timedelta(hours=-3, minutes=-30))),
    "an offset of seconds": lambda at: at.astimezone(timezone(timedelta(seconds=75))),
    "zoneinfo": lambda at: at.astimezone(ZoneInfo("America/New_York")),
    "zoneinfo, another": lambda at: at.astimezone(ZoneInfo("Pacific/Kiritimati")),
    "dateutil": lambda at: at.astimezone(tz.gettz("Europe/London")),
    "dateutil, UTC": lambda at: at.astimezone(tz.UTC),
    "dateutil, an offset": lambda at: at.astimezone(tz.tzoffset("x", 3600)),
    "pendulum": lambda at: pendulum.instance(at).in_timezone("Europe/London"),
    "pendulum, UTC": pendulum.instance,
    "a class of one's own": lambda at: at.astimezone(Fixed()),
    "a subclass": lambda at: Stamp.fromtimestamp(at.timestamp(), LONDON),
}

FALL_BACK = datetime(2026, 10, 25, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("base", [NINE, FALL_BACK, datetime(2026, 3, 29, 0, 0, tzinfo=UTC)], ids=str)
def test_every_kind_of_aware_datetime_asks_the_same_question(
    kind: Callable[[datetime], datetime], base: datetime
) -> None:
    """Half an hour steps over three hours, in which clocks may change."""
    event = EventType(duration=HALF, hosts=["ada"], slug="visit")

    def query(make: Callable[[datetime], datetime]) -> SlotQuery:
        return question(
            event_type=event,
            hosts=[always(timezone="Europe/London")],
            start=make(base),
            end=make(base + 6 * HOUR),
            now=make(base - 9 * HOUR),
            bookings=[BookedTime(start=make(base + HOUR), end=make(base + HOUR + HALF), hosts=["ada"])],
            busy={"ada": [(make(base + 2 * HOUR), make(base + 2 * HOUR + HALF))]},
            blocked={"ada": [BlockedPeriod(start=make(base + 3 * HOUR), end=make(base + 3 * HOUR + HALF))]},
        )

    answer = find_slots(query(kind))
    assert answer == find_slots(query(lambda at: at))
    assert [slot.start - base for slot in answer] == [i * HALF for i in (0, 1, 3, 5, 7, 8, 9, 10, 11)]
    for slot in answer:
        assert type(slot.start) is type(slot.end) is datetime
        assert slot.start.tzinfo is slot.end.tzinfo is UTC
    for start, codes in ((base, []), (base + HOUR, ["busy"]), (base + 3 * HOUR, ["blocked"])):
        refusals = explain(query(kind), kind(start))
        assert [one.code for one in refusals if one.code != "not_enough_hosts"] == codes
        assert all(one.start is None or one.start.tzinfo is UTC for one in refusals)


@pytest.mark.parametrize("fold", [0, 1])
def test_the_second_pass_of_an_hour_that_comes_twice_is_told_apart_by_fold(fold: int) -> None:
    start = datetime(2026, 10, 25, 1, 30, tzinfo=LONDON, fold=fold)
    instant = FALL_BACK + HALF + fold * HOUR
    query = question(
        event_type=EventType(duration=HALF, hosts=["ada"]), hosts=[always()], start=start, end=start + HALF, now=start
    )
    assert query.prepared.start == int(instant.timestamp())
    assert explain(query, start) == []
    assert explain(query, instant) == []


def test_periods_that_differ_by_the_pass_of_an_hour_alone_are_told_apart() -> None:
    def period(fold: int) -> BlockedPeriod:
        start = datetime(2026, 10, 25, 1, 0, tzinfo=LONDON, fold=fold)
        return BlockedPeriod(start=start, end=start.replace(minute=30))

    query = question(
        hosts=[always("ada"), always("bob")],
        start=FALL_BACK,
        end=FALL_BACK + 2 * HOUR,
        blocked={"ada": [period(0)], "bob": [period(1)]},
    )
    assert [slot.hosts for slot in find_slots(query)] == [("bob",), ("ada", "bob"), ("ada",), ("ada", "bob")]


@pytest.mark.parametrize("kind", ["busy", "blocked", "bookings"])
def test_time_taken_from_the_first_pass_of_an_hour_to_the_second_is_taken(kind: str) -> None:
    start = datetime(2026, 10, 25, 1, 40, tzinfo=LONDON)
    end = datetime(2026, 10, 25, 1, 20, tzinfo=LONDON, fold=1)
    taken: dict[str, Any] = {
        "busy": {"ada": [(start, end)]},
        "blocked": {"ada": [BlockedPeriod(start=start, end=end)]} if kind == "blocked" else {},
        "bookings": [BookedTime(start=start, end=end, hosts=["ada"])],
    }
    query = question(
        event_type=EventType(duration=timedelta(minutes=20), hosts=["ada"]),
        hosts=[always()],
        start=FALL_BACK,
        end=FALL_BACK + 2 * HOUR,
        **{kind: taken[kind]},
    )
    assert clock(query) == ["00:00", "00:20", "01:20", "01:40"]


def test_naive_datetimes_of_pendulum_are_wall_times_like_others() -> None:
    start, end = pendulum.naive(2020, 1, 6, 9), pendulum.naive(2020, 1, 6, 10)
    for values in ({}, {"rrule": "FREQ=DAILY"}, {"rrule": "FREQ=MONTHLY;BYMONTHDAY=2"}):
        ours = BlockedPeriod(start=start, end=end, **values)
        plain = BlockedPeriod(start=datetime(2020, 1, 6, 9), end=datetime(2020, 1, 6, 10), **values)  # noqa: DTZ001
        assert find_slots(question(closures=[ours])) == find_slots(question(closures=[plain]))


def test_dates_of_pendulum_are_dates_like_others() -> None:
    day = pendulum.date(2026, 3, 2)
    assert clock(question(closures=[BlockedPeriod(start=day)])) == []
    assert clock(question(closures=[BlockedPeriod(start=day, rrule="FREQ=WEEKLY")])) == []
    window = BookingWindow(from_date=day.add(days=1))
    assert clock(question(event_type=EventType(duration=HALF, hosts=["ada"], booking_window=window))) == []
    closed = [
        Host(slug=s, timezone="UTC", overrides=[Override(date=day, hours=[("10:00", "10:30")])]) for s in ("ada", "bob")
    ]
    assert clock(question(hosts=closed)) == ["10:00"]


def test_durations_of_pendulum_are_durations_like_others() -> None:
    half, ten = pendulum.duration(minutes=30), pendulum.duration(minutes=10)
    event = EventType(
        duration=half, step=ten, buffer_before=ten, buffer_after=ten, minimum_notice=ten, offset=ten, hosts=["ada"]
    )
    plain = timedelta(minutes=10)
    same = EventType(
        duration=HALF,
        step=plain,
        buffer_before=plain,
        buffer_after=plain,
        minimum_notice=plain,
        offset=plain,
        hosts=["ada"],
    )
    booked, also = (
        BookedTime(start=NINE, end=NINE + HALF, hosts=["ada"], buffer_before=buffer, buffer_after=buffer)
        for buffer in (ten, plain)
    )
    for align in ("window", "clock", "free"):
        ours = question(event_type=dataclasses.replace(event, align=align), bookings=[booked])
        theirs = question(event_type=dataclasses.replace(same, align=align), bookings=[also])
        assert find_slots(ours) == find_slots(theirs)
        assert len(find_slots(ours)) > 0
    with pytest.raises(InvalidInput):
        EventType(duration=pendulum.duration(seconds=90), hosts=["ada"])


@given(shift=st.integers(-14 * 60, 14 * 60), seconds=st.integers(0, 59))
def test_the_offset_a_start_is_written_with_makes_no_difference(shift: int, seconds: int) -> None:
    offset = timezone(timedelta(minutes=shift, seconds=seconds if shift >= 0 else -seconds))
    query = question(start=NINE.astimezone(offset), end=(NINE + HOUR).astimezone(offset))
    assert clock(query) == ["09:00", "09:30"]
    assert explain(query, NINE.astimezone(offset)) == []


@pytest.mark.parametrize("ask", [find_slots, lambda query: explain(query, NINE)])
def test_what_is_asked_is_a_question(ask: Callable[[object], object]) -> None:
    with pytest.raises(InvalidInput, match=r"^query: must be a SlotQuery, not 5$"):
        ask(5)


def test_a_hundred_thousand_starts_are_the_most_without_a_limit() -> None:
    event = EventType(duration=timedelta(minutes=1), hosts=["ada"])
    asked = question(event_type=event, hosts=[always()], end=MONDAY + timedelta(minutes=100_000))
    assert len(find_slots(asked)) == 100_000
    more = question(event_type=event, hosts=[always()], end=MONDAY + timedelta(minutes=100_001))
    with pytest.raises(
        InvalidInput, match=r"^limit: without one the answer would hold more than 100000 starts; set it"
    ):
        find_slots(more)
    assert len(find_slots(more, limit=100_001)) == 100_001


DAYS = timedelta(days=1)


def test_an_event_of_days_looks_as_far_ahead_as_it_lasts() -> None:
    event = EventType(duration=5 * DAYS, hosts=["ada"], step=DAYS)
    free = question(event_type=event, hosts=[always()])
    assert [slot.end for slot in find_slots(free)] == [MONDAY + 5 * DAYS]
    blocked = BlockedPeriod(start=MONDAY + 5 * DAYS - HOUR, end=MONDAY + 6 * DAYS)
    assert len(find_slots(question(event_type=event, hosts=[always()], blocked={"ada": [blocked]}))) == 0
    after = BlockedPeriod(start=MONDAY + 5 * DAYS, end=MONDAY + 6 * DAYS)
    assert len(find_slots(question(event_type=event, hosts=[always()], blocked={"ada": [after]}))) == 1


@pytest.mark.parametrize(("far", "offered"), [(4 * DAYS - HOUR, 0), (4 * DAYS, 1)])
def test_buffers_of_days_reach_as_far_as_they_last(far: timedelta, offered: int) -> None:
    hosts = [always()]
    before = EventType(duration=HALF, hosts=["ada"], step=DAYS, buffer_before=4 * DAYS)
    taken = {"ada": [(MONDAY - far - HOUR, MONDAY - far)]}
    assert len(find_slots(question(event_type=before, hosts=hosts, busy=taken))) == offered
    after = EventType(duration=HALF, hosts=["ada"], step=DAYS, buffer_after=4 * DAYS)
    taken = {"ada": [(MONDAY + HALF + far, MONDAY + HALF + far + HOUR)]}
    assert len(find_slots(question(event_type=after, hosts=hosts, busy=taken))) == offered


def test_behind_a_gap_an_occurrence_may_still_come_before_an_until_that_the_last_one_missed() -> None:
    """02:30 does not exist and becomes 03:30; 03:00 comes after it in the rule and before it in time."""
    paris = always(timezone="Europe/Paris")
    night = datetime(2026, 3, 29, 1, tzinfo=UTC)
    block = BlockedPeriod(
        start=datetime(2026, 3, 29, 2, 30),  # noqa: DTZ001 - wall times
        end=datetime(2026, 3, 29, 2, 45),  # noqa: DTZ001
        rrule="FREQ=HOURLY;BYMINUTE=0,30;UNTIL=20260329T011500Z",
    )
    event = EventType(duration=timedelta(minutes=15), hosts=["ada"])
    asked = question(
        event_type=event, hosts=[paris], start=night, end=night + HOUR, blocked={"ada": [block]}, now=night - DAYS
    )
    assert clock(asked) == ["01:15", "01:30", "01:45"]
