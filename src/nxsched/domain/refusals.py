"""Why a start is refused, as data and in words (rule 25)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal
from zoneinfo import ZoneInfo

from nxsched.domain.event_types import Limit
from nxsched.domain.timezones import timezone_name, zone_info

RefusalCode = Literal[
    "past", "notice", "window", "off_grid", "outside_hours", "blocked", "busy",
    "host_limit", "event_limit", "full", "not_enough_hosts",
]  # fmt: skip

RULES: dict[RefusalCode, int] = {
    "past": 13, "notice": 13, "window": 14, "event_limit": 15, "off_grid": 17, "outside_hours": 10, "blocked": 10,
    "busy": 11, "host_limit": 12, "full": 23, "not_enough_hosts": 16,
}  # fmt: skip
"""The rule behind each code, by its number in `docs/rules.md`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One rule that refuses a start.

    `code` is stable. `host` is the slug where it is about one. `start` and `end`, UTC, bound the time in the way
    (`blocked`, `busy`, `full`) or, one of them alone, the first start that the rule allows (`past`, `notice`).
    `from_date` and `until_date` are the dates of the booking window. `limit` is the one that has no room. `id` is that
    of the booking or blocked period, where it has one; `reason` is the blocked period's own. `group` counts host groups
    from 0 (the sentence from 1); it needs `need` members and has `able`.
    """

    code: RefusalCode
    host: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    from_date: date | None = None
    until_date: date | None = None
    limit: Limit | None = None
    id: str | None = None
    reason: str = ""
    group: int | None = None
    need: int | None = None
    able: int | None = None

    @property
    def rule(self) -> int:
        """The number of the rule that refuses."""
        return RULES[self.code]

    def sentence(self, timezone: str = "UTC") -> str:
        """Say it to a person, times as the clocks of `timezone` show them; an unknown one is `InvalidInput`."""
        zone = zone_info(timezone_name("timezone", timezone))

        def at(value: datetime | None) -> str:
            return f"{value.astimezone(zone):%a %Y-%m-%d} {clock(value, zone)}" if value else ""

        opens = [f"from {self.from_date}"] if self.from_date else []
        closes = [f"until {self.until_date}"] if self.until_date else []
        return _SENTENCES[self.code].format(
            host=self.host,
            start=at(self.start),
            span=f"from {at(self.start)} to {at(self.end)}",
            dates=" ".join(opens + closes),
            limit=self.limit,
            named=f" ({self.id})" if self.id else "",
            because=f": {self.reason}" if self.reason else "",
            need=self.need,
            able=self.able,
            group=(self.group or 0) + 1,
        )


def clock(at: datetime, zone: ZoneInfo) -> str:
    """The wall time of an instant; with its offset in an hour that the clocks go through twice."""
    local = at.astimezone(zone)
    text = f"{local:%H:%M:%S}".removesuffix(":00")
    if local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset():
        text += f"{local:%z}"
    return text


_SENTENCES: dict[RefusalCode, str] = {
    "past": "The start has passed: it is {start} now.",
    "notice": "The notice is too short: the earliest start is {start}.",
    "window": "The date is outside the booking window, which is open {dates}.",
    "off_grid": "The start is not on the grid of the event type.",
    "outside_hours": "{host} does not work through the whole of that time.",
    "blocked": "{host} is blocked {span}{named}{because}.",
    "busy": "{host} is busy {span}{named}, any buffers included.",
    "host_limit": "{host} has no room left within the limit of {limit}.",
    "event_limit": "The event type has no room left within the limit of {limit}.",
    "full": "The occurrence {span}{named} has too few seats left.",
    "not_enough_hosts": "The booking needs {need} of host group {group}, and {able} can take it.",
}
