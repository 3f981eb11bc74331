"""How much one question may ask for: what would take too long is refused, and the error names the bound."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import takewhile

import pytest
from dateutil.rrule import rrulestr

from nxsched import BlockedPeriod, EventType, Host, InvalidInput, Limit, WeeklyHours
from nxsched.domain.effort import Effort
from nxsched.domain.event_types import Align
from nxsched.domain.instants import DAY
from nxsched.domain.recurrence import recurrence
from nxsched.slots import SlotQuery, calculator, explain, find_slots
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
        question(days=400, closures=rules(3_000)),
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


def test_a_limit_looks_at_a_week_first_and_then_at_twice_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[tuple[int, int]] = []

    def spy(asked: Prepared, align: Align, start: int, end: int, effort: Effort) -> Terrain:
        looked.append((start // DAY, end // DAY))
        return Terrain(asked, align, start, end, effort)

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
