"""The ground that answers share: time that limits close, and blocked periods far from Greenwich."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from nxsched import BlockedPeriod
from nxsched.domain.effort import Effort
from nxsched.slots.expand import blocked_time
from nxsched.slots.terrain import _outside

HOUR = 3600


def test_time_that_is_closed_is_taken_out_of_every_segment() -> None:
    assert _outside([(2, 10, 1)], [(0, 1), (5, 6)]) == [(2, 5, 1), (6, 10, 1)]
    assert _outside([(4, 10, 1), (12, 14, 3)], [(0, 1), (2, 3), (5, 6), (13, 20)]) == [
        (4, 5, 1),
        (6, 10, 1),
        (12, 13, 3),
    ]
    assert _outside([(1, 4, 1), (4, 9, 2)], [(3, 5)]) == [(1, 3, 1), (5, 9, 2)]


@pytest.mark.parametrize(("timezone", "ahead"), [("Pacific/Kiritimati", 14), ("Pacific/Honolulu", -10)])
@pytest.mark.parametrize("rule", [None, "FREQ=DAILY;COUNT=1"])
def test_a_blocked_period_is_found_where_it_meets_a_range_however_far_its_clocks_are(
    timezone: str, ahead: int, rule: str | None
) -> None:
    wall = datetime(2026, 3, 2, 12)  # noqa: DTZ001 - a wall time
    period = BlockedPeriod(start=wall, end=wall + timedelta(hours=1), rrule=rule)
    begins = int(wall.replace(tzinfo=UTC).timestamp()) - ahead * HOUR

    def found(start: int, end: int) -> list[tuple[int, int]]:
        return [one[:2] for one in blocked_time([period], ["closures[0]"], timezone, start, end, Effort())]

    whole = [(begins, begins + HOUR)]
    assert found(begins, begins + 1) == found(begins + HOUR - 1, begins + HOUR) == whole
    assert found(begins - 1, begins) == found(begins + HOUR, begins + HOUR + 1) == []
