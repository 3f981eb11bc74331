"""The inputs of the benchmark: scenarios, deterministic, as an application would send them."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

FIRST_DAY = datetime(2026, 1, 5, tzinfo=UTC)
"""A Monday in winter, when London's clocks show UTC; ranges of more than twelve weeks cross clock changes."""

LONDON = ZoneInfo("Europe/London")

STEP, SLOT = timedelta(minutes=15), timedelta(minutes=30)


def scenario(*, hosts: int = 1, days: int = 30, busy: int = 200, need: int | str = 1) -> dict[str, object]:
    """A question: Mon-Fri 09:00-17:00 in London, 30 minutes every 15, buffers of 5, `busy` blocks a host at random."""
    members = [f"host-{i}" for i in range(hosts)]
    return {
        "now": written(FIRST_DAY),
        "from": written(FIRST_DAY),
        "until": written(FIRST_DAY + timedelta(days=days)),
        "event_type": {
            "slug": "visit", "duration_minutes": 30, "step_minutes": 15,
            "buffer_before_minutes": 5, "buffer_after_minutes": 5,
            "hosts": [{"members": members, "need": need}],
        },
        "hosts": {
            slug: {
                "timezone": "Europe/London",
                "weekly_hours": [{"days": ["mon", "tue", "wed", "thu", "fri"], "start": "09:00", "end": "17:00"}],
                "busy": random_blocks(random.Random(seed), days, busy),
            }
            for seed, slug in enumerate(members)
        },
    }  # fmt: skip


def random_blocks(chance: random.Random, days: int, count: int) -> list[list[str]]:
    """`count` blocks of 30 minutes on a 15-minute grid inside the hours, different ones as long as there are any."""
    weekdays = [day for day in range(days) if (FIRST_DAY + timedelta(days=day)).weekday() < 5]  # noqa: PLR2004 - Saturday
    places = [(day, quarter) for day in weekdays for quarter in range(31)]
    chosen = chance.sample(places, count)
    walls = [FIRST_DAY + timedelta(days=day, hours=9) + quarter * STEP for day, quarter in chosen]
    starts = [wall.replace(tzinfo=LONDON).astimezone(UTC) for wall in walls]
    return [[written(start), written(start + SLOT)] for start in starts]


def short_blocks(days: int, count: int) -> dict[str, object]:
    """Blocks of a second between the starts of one hour each working day: however many, the answer is the same."""
    asked = scenario(days=days, busy=0)
    weekdays = [day for day in range(days) if (FIRST_DAY + timedelta(days=day)).weekday() < 5]  # noqa: PLR2004 - Saturday
    each = count // len(weekdays)
    noons = [(FIRST_DAY + timedelta(days=day, hours=12)).replace(tzinfo=LONDON).astimezone(UTC) for day in weekdays]
    starts = [noon + timedelta(seconds=20 * i) for noon in noons for i in range(each)]
    asked["hosts"]["host-0"]["busy"] = [[written(one), written(one + timedelta(seconds=1))] for one in starts]  # type: ignore[index]
    return asked


def busy_until_the_last_week(days: int = 365, busy: int = 2000) -> dict[str, object]:
    """Case B with every working day but those of the last week busy as a whole."""
    asked = scenario(days=days, busy=busy)
    whole = [FIRST_DAY + timedelta(days=day) for day in range(days - 7)]
    asked["hosts"]["host-0"]["busy"] += [[written(day), written(day + timedelta(days=1))] for day in whole]  # type: ignore[index]
    return asked


def written(value: datetime) -> str:
    """An instant as a scenario writes it."""
    return f"{value:%Y-%m-%dT%H:%M:%SZ}"
