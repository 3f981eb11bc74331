"""How much one question may ask for: what would take too long is refused, and the error names the bound."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import takewhile

import pytest
from dateutil.rrule import rrulestr

from nxsched import BlockedPeriod, EventType, Host, HostGroup, InvalidInput, Limit, WeeklyHours
from nxsched.domain.bounds import MAX_WORK
from nxsched.domain.effort import Effort
from nxsched.domain.instants import DAY
from nxsched.domain.recurrence import recurrence
from nxsched.slots import SlotQuery, calculator, explain, find_slots
from nxsched.slots.expand import blocked_time
from nxsched.slots.prepared import Prepared
from nxsched.slots.terrain import Terrain

START = datetime(2026, 3, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)


def question(
    windows: int = 1, days: int = 7, closures: list[BlockedPeriod] | None = None, hosts: int = 1, minutes: int = 1
) -> SlotQuery:
    """Hosts with so many windows of a minute a day, each with other ones, so that nothing can be shared."""
    return SlotQuery(
        event_type=EventType(duration=timedelta(minutes=minutes), hosts=[f"h{i}" for i in range(hosts)]),
        hosts=[Host(slug=f"h{i}", timezone="UTC", weekly_hours=list(_windows(windows, i))) for i in range(hosts)],
        start=START,
        end=START + timedelta(days=days),
        now=START,
        closures=closures or [],
    )


def _windows(number: int, first: int) -> Iterator[WeeklyHours]:
    for minute in range(first, first + 2 * number, 2):
        yield WeeklyHours(days="mon-sun", start=_wall(minute), end=_wall(minute + 1))


def _wall(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def rules(number: int) -> list[BlockedPeriod]:
    """Different rules that block nothing that is open."""
    start = datetime(2026, 3, 1, 20)  # noqa: DTZ001 - a wall time
    return [
        BlockedPeriod(
            start=start + i * timedelta(minutes=1), end=start + i * timedelta(minutes=1) + HOUR, rrule="FREQ=DAILY"
        )
        for i in range(number)
    ]


@pytest.mark.parametrize(
    "asked",
    [
        question(windows=400, days=36_000, minutes=2),
        question(windows=10, days=600, hosts=400, minutes=2),
        pytest.param(question(days=400, closures=rules(3_000)), marks=pytest.mark.slow),
    ],
    ids=["many windows", "many hosts", "many rules"],
)
def test_a_range_that_holds_more_than_a_million_windows_and_occurrences_is_refused(asked: SlotQuery) -> None:
    with pytest.raises(InvalidInput, match=r"more than 1000000 windows and occurrences; ask for a shorter") as caught:
        find_slots(asked)
    assert caught.value.field == "range"


def test_the_work_of_all_pieces_of_a_long_range_is_added_up() -> None:
    asked = question(windows=30, days=36_000, minutes=2)
    assert len(find_slots(question(windows=30, days=400, minutes=2))) == 0
    with pytest.raises(InvalidInput, match="1000000"):
        find_slots(asked)


def test_a_limit_that_is_reached_soon_spares_the_work() -> None:
    assert len(find_slots(question(windows=400, days=36_000), limit=5)) == 5


def test_the_occurrences_of_rules_count_in_what_a_question_looks_at() -> None:
    spent = Effort()
    spent.spend(MAX_WORK - 100)
    first = int(START.timestamp())
    with pytest.raises(InvalidInput) as caught:
        list(blocked_time(rules(2), ["closures[0]", "closures[1]"], "UTC", first, first + 90 * 86_400, spent))
    assert caught.value.field == "range", "and not a rule"


def test_a_limit_looks_at_a_week_first_and_then_at_twice_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[tuple[int, int]] = []

    def spy(asked: Prepared, start: int, end: int, effort: Effort) -> Terrain:
        looked.append((start // DAY, end // DAY))
        return Terrain(asked, start, end, effort)

    monkeypatch.setattr(calculator, "Terrain", spy)
    first = int(START.timestamp()) // DAY
    assert len(find_slots(question(days=365), limit=3)) == 3
    assert looked == [(first, first + 7)]
    looked.clear()
    assert len(find_slots(question(days=365, minutes=2), limit=3)) == 0
    assert looked[:3] == [(first, first + 7), (first + 7, first + 21), (first + 21, first + 49)]
    looked.clear()
    find_slots(question(days=900))
    assert looked == [(first, first + 400), (first + 400, first + 800), (first + 800, first + 900)]


def test_a_start_is_explained_whatever_the_range() -> None:
    assert [one.code for one in explain(question(windows=400, days=36_000), START + 30 * timedelta(minutes=1))] == []


def test_a_team_of_a_hundred_may_ask_for_a_year() -> None:
    assert len(find_slots(question(windows=3, days=365, hosts=100, closures=rules(5)), limit=100_000)) == 365 * 104


def test_effort_is_refused_one_beyond_the_bound() -> None:
    effort = Effort()
    effort.spend(999_999)
    effort.spend(1)
    with pytest.raises(InvalidInput, match=r"^range: its hours"):
        effort.spend(1)


def test_twenty_limits_are_the_most() -> None:
    limits = [Limit(per="day", count=i + 1) for i in range(21)]
    assert len(Host(slug="ada", timezone="UTC", limits=limits[:20]).limits) == 20
    with pytest.raises(InvalidInput, match=r"^limits: must have at most 20 limits, not 21$"):
        Host(slug="ada", timezone="UTC", limits=limits)
    with pytest.raises(InvalidInput, match=r"^limits: must have at most 20 limits, not 21$"):
        EventType(duration=HOUR, hosts=["ada"], limits=limits)


@pytest.mark.parametrize("more", ["", ";BYDAY=FR", ";BYMONTH=2,7;BYDAY=MO", ";BYHOUR=8,9", ";COUNT=7;BYDAY=WE"])
@pytest.mark.parametrize("days", ["13", "29,30", "-1", "1,-1"])
def test_days_of_the_month_of_a_daily_rule_are_the_days_that_python_dateutil_gives(days: str, more: str) -> None:
    text = f"FREQ=DAILY;BYMONTHDAY={days}{more}"
    start = datetime(2026, 3, 23, 12)  # noqa: DTZ001 - a wall time
    found = recurrence("rrule", text, start).occurrences(start, datetime(2060, 1, 1), Effort())  # noqa: DTZ001
    every = list(takewhile(lambda at: at.year < 2060, rrulestr(text, dtstart=start)))
    assert list(found) == every
    late = datetime(2031, 1, 1)  # noqa: DTZ001
    found = recurrence("rrule", text, start).occurrences(late, datetime(2060, 1, 1), Effort())  # noqa: DTZ001
    assert list(found) == [at for at in every if at >= late]


@pytest.mark.parametrize("more", ["INTERVAL=2", "BYDAY=MO;BYSETPOS=1"])
def test_days_of_the_month_of_a_daily_rule_take_no_interval(more: str) -> None:
    with pytest.raises(InvalidInput, match=r"^rrule: FREQ=DAILY takes no INTERVAL and no BYSETPOS beside BYMONTHDAY$"):
        recurrence("rrule", f"FREQ=DAILY;BYMONTHDAY=13;{more}", date(2026, 3, 23))


HMS = f"BYHOUR={','.join(map(str, range(24)))};BYMINUTE={','.join(map(str, range(60)))}"


def test_a_rule_may_name_two_hundred_and_eighty_eight_times_of_a_day() -> None:
    start = datetime(2026, 3, 23, 12)  # noqa: DTZ001 - a wall time
    every_five = "FREQ=DAILY;" + HMS.split(";", maxsplit=1)[0] + ";BYMINUTE=0,5,10,15,20,25,30,35,40,45,50,55"
    assert recurrence("rrule", every_five, start).freq == "DAILY"
    with pytest.raises(InvalidInput, match=r"^rrule: BYHOUR, BYMINUTE and BYSECOND give 1440 times; the most is 288$"):
        recurrence("rrule", f"FREQ=DAILY;{HMS}", start)


def test_the_order_of_the_parts_of_a_rule_makes_no_difference_to_whether_it_comes_to_pass() -> None:
    start = datetime(2026, 3, 23, 12)  # noqa: DTZ001 - a wall time
    assert recurrence("rrule", "BYHOUR=8,9;FREQ=WEEKLY;BYDAY=MO;BYMINUTE=5", start).interval == 1


def test_years_without_an_occurrence_are_work_too() -> None:
    rule = recurrence("rrule", "FREQ=YEARLY;COUNT=9;BYMONTH=2;BYMONTHDAY=29;BYDAY=MO", datetime(1900, 1, 1))  # noqa: DTZ001
    effort = Effort()
    assert list(rule.occurrences(datetime(2026, 1, 1), datetime(2027, 1, 1), effort)) == []  # noqa: DTZ001
    assert effort.spent > 50 * 126


def test_a_rule_by_days_of_the_month_is_found_near_the_range_whatever_the_day_of_its_start() -> None:
    for day in (28, 29, 31):
        rule = recurrence("rrule", "FREQ=MONTHLY;INTERVAL=2;BYMONTHDAY=5,31", datetime(1990, 1, day))  # noqa: DTZ001
        effort = Effort()
        found = list(rule.occurrences(datetime(2026, 1, 1), datetime(2026, 4, 1), effort))  # noqa: DTZ001
        assert [(at.month, at.day) for at in found] == [(1, 5), (1, 31), (3, 5), (3, 31)]
        assert effort.spent < 500
        early = list(rule.occurrences(datetime(1990, 1, 1), datetime(1990, 3, 10), Effort()))  # noqa: DTZ001
        assert [(at.month, at.day) for at in early] == [(1, 31), (3, 5)]


def test_twenty_groups_are_the_most() -> None:
    groups = [HostGroup(members=[f"h{i}"]) for i in range(21)]
    assert len(EventType(duration=HOUR, hosts=groups[:20]).groups) == 20
    with pytest.raises(InvalidInput, match=r"^hosts: must have at most 20 groups, not 21$"):
        EventType(duration=HOUR, hosts=groups)


def test_with_a_limit_the_pieces_are_no_longer_than_without() -> None:
    closure = BlockedPeriod(start=datetime(2026, 1, 1, 9), end=datetime(2026, 1, 1, 9, 30), rrule="FREQ=HOURLY")  # noqa: DTZ001
    asked = question(days=1300, minutes=2, closures=[closure])
    assert len(find_slots(asked, limit=1)) == len(find_slots(asked)) == 0


def test_members_that_share_their_blocked_periods_are_explained_at_the_price_of_one() -> None:
    closures = [BlockedPeriod(start=date(2026, 1, 1) + timedelta(days=i)) for i in range(1_001)]
    asked = question(hosts=1_000, closures=closures)
    assert len([one for one in explain(asked, START) if one.code == "blocked"]) == 1_000
