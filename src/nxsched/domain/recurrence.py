"""Recurrence rules of blocked periods: the RRULE of RFC 5545, section 3.3.10, expanded by python-dateutil (rule 9)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from math import prod
from typing import Literal

from dateutil.rrule import rrule, rrulestr

from nxsched.domain.bounds import MAX_RULE, MAX_RULE_OCCURRENCES, MAX_RULE_TIMES
from nxsched.domain.checks import shown
from nxsched.domain.effort import Effort
from nxsched.errors import InvalidInput

_DAYS = "MO|TU|WE|TH|FR|SA|SU"
_FREQUENCIES = ("YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY")
_TIME_PARTS = ("BYSECOND", "BYMINUTE", "BYHOUR")


def _signed(most: str) -> str:
    return rf"[+-]?0*({most})"


def _listed(item: str) -> re.Pattern[str]:
    return re.compile(rf"({item})(,({item}))*")


_PARTS = {
    "FREQ": re.compile("|".join((*_FREQUENCIES, "MINUTELY", "SECONDLY"))),
    "UNTIL": re.compile(r"\d{8}(T\d{6}Z?)?"),
    "COUNT": re.compile(r"0*[1-9]\d{0,6}"),
    "INTERVAL": re.compile(r"0*[1-9]\d{0,4}"),
    "BYSECOND": _listed(r"[0-5]?\d"),
    "BYMINUTE": _listed(r"[0-5]?\d"),
    "BYHOUR": _listed(r"[01]?\d|2[0-3]"),
    "BYDAY": _listed(rf"([+-]?0*([1-9]|[1-4]\d|5[0-3]))?({_DAYS})"),
    "BYMONTHDAY": _listed(_signed(r"[1-9]|[12]\d|3[01]")),
    "BYYEARDAY": _listed(_signed(r"[1-9]|[1-9]\d|[12]\d\d|3[0-5]\d|36[0-6]")),
    "BYWEEKNO": _listed(_signed(r"[1-9]|[1-4]\d|5[0-3]")),
    "BYMONTH": _listed(r"0*([1-9]|1[0-2])"),
    "BYSETPOS": _listed(_signed(r"[1-9]|[1-9]\d|[12]\d\d|3[0-5]\d|36[0-6]")),
    "WKST": re.compile(_DAYS),
}
"""What each part of a rule may hold. python-dateutil takes some values that RFC 5545 forbids, and searches without
end for an INTERVAL of 0: so the text is read before it gets there."""

_MOST = {"COUNT": 9_999_999, "INTERVAL": 99_999, "BYSECOND": 59}
"""What RFC 5545 leaves open and we do not: a leap second is no time of day."""

_WITHOUT_TIMES = (re.compile(r";?BY(HOUR|MINUTE|SECOND)=[^;]*"), re.compile(r";?BY(MINUTE|SECOND)=[^;]*"))
"""What has no part in whether a rule ever comes to pass: the times of a day, and of an hour in an hourly rule."""

_LONG_STEPS = {"YEARLY", "MONTHLY"}
_A_YEAR = 50
"""To walk through a year takes as long as so many occurrences."""

_WEEKS_A_MONTH = 5
_SHORTEST_MONTH = 28

_FORBIDDEN = {
    "YEARLY": set[str](),
    "MONTHLY": {"BYWEEKNO", "BYYEARDAY"},
    "WEEKLY": {"BYWEEKNO", "BYYEARDAY", "BYMONTHDAY"},
    "DAILY": {"BYWEEKNO", "BYYEARDAY"},
    # Beyond RFC 5545: hour by hour, python-dateutil would search 8,000 years for a 30th of February.
    "HOURLY": {"BYWEEKNO", "BYYEARDAY", "BYMONTHDAY", "BYMONTH", "BYSETPOS"},
}

_UNITS = {"HOURLY": timedelta(hours=1), "DAILY": timedelta(days=1), "WEEKLY": timedelta(weeks=1)}


@dataclass(frozen=True, slots=True)
class Recurrence:
    """A rule with its DTSTART, a wall time; `occurrences` gives wall times, and UNTIL in the form it was written."""

    text: str
    start: datetime
    freq: str
    interval: int
    fixed_start: bool
    until: datetime | None
    until_is: Literal["instant", "local"]

    def occurrences(self, after: datetime, before: datetime, effort: Effort) -> Iterator[datetime]:
        """Wall times of the occurrences with `after <= start < before`, ascending; `effort` counts all looked at.

        Raises `InvalidInput` where more than 10,000 would have to be looked at.
        """
        # Where an instant lies on the clocks of a host that is not known here, is uncertain by more than a day.
        spare = timedelta(days=2 if self.until_is == "instant" else 0)
        anchor = self._anchor(after)
        if self.freq in _LONG_STEPS:  # years without an occurrence take their time too
            effort.spend(_A_YEAR * max(before.year - anchor.year + 1, 0))
        last = min(self.until or datetime.max, datetime.max - spare) + spare  # noqa: DTZ901 - a wall time
        for looked_at, wall in enumerate(_rrule(self.text, anchor)):
            if wall >= before or wall > last:
                return
            if looked_at >= MAX_RULE_OCCURRENCES:
                reason = f"repeats more than {MAX_RULE_OCCURRENCES} times up to {before:%Y-%m-%d}; that is the most"
                raise InvalidInput(field="rrule", reason=reason)
            effort.spend(1)
            if wall >= after:
                yield wall

    def ever(self) -> bool:
        """Whether the rule yields anything in 400 years, UNTIL apart.

        python-dateutil searches up to the year 9999. The calendar repeats every 400 years: asked in the last two
        of these rounds the question has the same answer and a near end.
        """
        late = self.start.replace(year=9200 + self.start.year % 400)
        text = self.text if "BYSETPOS" in self.text else _WITHOUT_TIMES[self.freq == "HOURLY"].sub("", self.text)
        return next(iter(rrulestr(text.strip(";"), dtstart=late)), None) is not None

    def _anchor(self, after: datetime) -> datetime:
        """A start from which the rule repeats in the same way, as near before `after` as whole intervals allow."""
        if self.fixed_start or after <= self.start:
            return self.start
        unit = _UNITS.get(self.freq)
        if unit is not None:
            return self.start + (after - self.start) // (unit * self.interval) * (unit * self.interval)
        start = self.start.replace(day=1) if "BYMONTHDAY" in self.text else self.start
        if start.day > _SHORTEST_MONTH:  # a date that not every month or year has
            return start
        months = (after.year - self.start.year) * 12 + after.month - self.start.month - 1
        length = self.interval * (12 if self.freq == "YEARLY" else 1)
        years, month = divmod(self.start.month - 1 + max(months, 0) // length * length, 12)
        return max(start.replace(year=start.year + years, month=month + 1), self.start)


@lru_cache(maxsize=1024)
def _rrule(text: str, start: datetime) -> rrule:
    rule = rrulestr(text, dtstart=start)
    assert isinstance(rule, rrule)  # noqa: S101 - the checked text holds one RRULE and nothing else
    return rule


def recurrence(field: str, value: object, start: date) -> Recurrence:
    """Read the RRULE `value`; `start`, a date or a wall time, is its DTSTART. Raises `InvalidInput`."""
    if not isinstance(value, str):
        raise InvalidInput(field=field, reason=f"must be a recurrence rule such as FREQ=DAILY, not {shown(value)}")
    if len(value) > MAX_RULE:
        raise InvalidInput(field=field, reason=f"must have at most {MAX_RULE} characters, not {len(value)}")
    return _read(field, value, start)


@lru_cache(maxsize=4096)
def _read(field: str, value: str, start: date) -> Recurrence:
    """The rule itself; hosts share rules, and applications read the same ones again and again."""
    parts = _parts(field, value)
    whole_days = not isinstance(start, datetime)
    _refuse_combinations(field, parts, whole_days=whole_days)
    times = prod(parts[part].count(",") + 1 for part in _TIME_PARTS if part in parts)
    if times > MAX_RULE_TIMES:
        reason = f"BYHOUR, BYMINUTE and BYSECOND give {times} times; the most is {MAX_RULE_TIMES}"
        raise InvalidInput(field=field, reason=reason)
    until, until_is = _until(field, parts.pop("UNTIL", None))
    if parts["FREQ"] == "DAILY" and "BYMONTHDAY" in parts:
        # The same days; but to go through them one by one, up to the next 29th of February on a Monday, takes long.
        parts["FREQ"] = "YEARLY"
    rule = Recurrence(
        text=";".join(f"{name}={part}" for name, part in parts.items()),
        start=start if isinstance(start, datetime) else datetime(start.year, start.month, start.day),  # noqa: DTZ001 - a wall time
        freq=parts["FREQ"],
        interval=int(parts.get("INTERVAL", "1")),
        # A shifted start would count anew, and BYSETPOS counts within the first, partial, period.
        fixed_start="COUNT" in parts or "BYSETPOS" in parts,
        until=until,
        until_is=until_is,
    )
    try:
        ever = rule.ever()
    except ValueError as error:
        raise InvalidInput(field=field, reason=f"{shown(value)} cannot be expanded: {str(error)[:80]}") from error
    if not ever:
        raise InvalidInput(
            field=field, reason=f"{shown(value)} does not come to pass in the 400 years from {start.isoformat()} on"
        )
    return rule


def _refuse_combinations(field: str, parts: dict[str, str], *, whole_days: bool) -> None:
    """Refuse what RFC 5545 forbids side by side, and what would repeat too often or be searched for without end."""
    freq = parts["FREQ"]
    if freq not in _FREQUENCIES or (whole_days and freq == "HOURLY"):
        least = "DAILY for whole days" if whole_days else "HOURLY"
        raise InvalidInput(field=field, reason=f"FREQ={freq} repeats too often; the most is {least}")
    if whole_days and any(part in parts for part in _TIME_PARTS):
        raise InvalidInput(field=field, reason="whole days take no BYHOUR, BYMINUTE or BYSECOND")
    if "UNTIL" in parts and "COUNT" in parts:
        raise InvalidInput(field=field, reason="takes UNTIL or COUNT, not both")
    for part in sorted(parts.keys() & _FORBIDDEN[freq]):
        raise InvalidInput(field=field, reason=f"FREQ={freq} takes no {part}")
    if freq == "DAILY" and "BYMONTHDAY" in parts and (int(parts.get("INTERVAL", "1")) > 1 or "BYSETPOS" in parts):
        raise InvalidInput(field=field, reason="FREQ=DAILY takes no INTERVAL and no BYSETPOS beside BYMONTHDAY")
    if "BYSETPOS" in parts and not any(part.startswith("BY") for part in parts.keys() - {"BYSETPOS"}):
        raise InvalidInput(field=field, reason="BYSETPOS needs another BY part to choose from")
    ordinals = [int(number) for number in re.findall(r"\d+", parts.get("BYDAY", ""))]
    if ordinals and freq not in {"MONTHLY", "YEARLY"}:
        reason = f"BYDAY={shown(parts['BYDAY'])} counts weekdays, which needs FREQ=MONTHLY or YEARLY"
        raise InvalidInput(field=field, reason=reason)
    if ordinals and "BYWEEKNO" in parts:
        raise InvalidInput(field=field, reason="BYDAY counts no weekdays beside BYWEEKNO")
    if max(ordinals, default=0) > _WEEKS_A_MONTH and (freq == "MONTHLY" or "BYMONTH" in parts):
        raise InvalidInput(field=field, reason=f"BYDAY={shown(parts['BYDAY'])}: no month has more than 5 of a weekday")


def _parts(field: str, value: str) -> dict[str, str]:
    """The parts of a rule by name, every one of them as RFC 5545 has it."""
    parts: dict[str, str] = {}
    for part in value.upper().removeprefix("RRULE:").split(";"):
        name, _, content = part.partition("=")
        pattern = _PARTS.get(name)
        if pattern is None:
            raise InvalidInput(field=field, reason=f"{shown(part)} is no part of a recurrence rule (RFC 5545)")
        if name in parts:
            raise InvalidInput(field=field, reason=f"{name} is given twice")
        most = _MOST.get(name)
        if most is not None and content.isdecimal() and len(content) < MAX_RULE and int(content) > most:
            raise InvalidInput(field=field, reason=f"{name} must be at most {most}, not {shown(content)}")
        if not pattern.fullmatch(content) or not content.isascii():
            raise InvalidInput(field=field, reason=f"{name} cannot be {shown(content)} (RFC 5545)")
        parts[name] = content
    if "FREQ" not in parts:
        raise InvalidInput(field=field, reason=f"{shown(value)} has no FREQ")
    return parts


def _until(field: str, value: str | None) -> tuple[datetime | None, Literal["instant", "local"]]:
    """UNTIL, read as UTC (with `Z`) or as a wall time; a bare date includes that whole day."""
    if value is None:
        return None, "local"
    try:
        if value.endswith("Z"):
            return datetime.strptime(value, "%Y%m%dT%H%M%SZ"), "instant"  # noqa: DTZ007 - compared as seconds
        if "T" in value:
            return datetime.strptime(value, "%Y%m%dT%H%M%S"), "local"  # noqa: DTZ007 - a wall time
        return datetime.strptime(value + "T235959", "%Y%m%dT%H%M%S"), "local"  # noqa: DTZ007 - a wall time
    except ValueError as error:
        raise InvalidInput(field=field, reason=f"UNTIL={value} is no date") from error
