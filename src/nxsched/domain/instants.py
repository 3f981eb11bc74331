"""Instants at the edge: aware datetimes outside, whole seconds since the epoch inside (rule 1)."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Final

from nxsched.domain.bounds import FIRST_YEAR, LAST_YEAR
from nxsched.domain.checks import shown
from nxsched.errors import InvalidInput

DAY: Final = 86_400
"""Seconds in a day of 24 hours."""

EPOCH_WEEKDAY: Final = 3
"""1970-01-01 was a Thursday: `(day + EPOCH_WEEKDAY) % 7` is 0 on Mondays."""

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_LAST: Final = 253_402_128_000
"""9999-12-30T00:00:00Z, which every time zone can show."""

_MICROSECOND: Final = timedelta(microseconds=1)
PER_SECOND: Final = 1_000_000
"""Microseconds in a second."""
_FIRST: Final = (datetime(FIRST_YEAR, 1, 1, tzinfo=UTC) - EPOCH) // _MICROSECOND
_END: Final = (datetime(LAST_YEAR + 1, 1, 1, tzinfo=UTC) - EPOCH) // _MICROSECOND


def microseconds(field: str, value: object) -> int:
    """Microseconds since the epoch, from the fields and the offset: subclasses redefine subtraction, not these."""
    if not isinstance(value, datetime):
        raise InvalidInput(field=field, reason=f"must be an aware datetime, not {shown(value)}")
    offset = value.utcoffset()
    if offset is None:
        raise InvalidInput(field=field, reason=f"must have a time zone; {value.isoformat()} is naive")
    found = wall_seconds(value) * PER_SECOND + value.microsecond - offset // _MICROSECOND
    if not _FIRST <= found < _END:  # in UTC, in which it is kept, and will be read again
        years = f"the years {FIRST_YEAR} to {LAST_YEAR}"
        raise InvalidInput(field=field, reason=f"must lie in {years}, not {value.isoformat()}")
    return found


def epoch_floor(field: str, value: object) -> int:
    """Whole seconds since the epoch, a fraction cut off. A naive datetime is refused."""
    return microseconds(field, value) // PER_SECOND


def epoch_ceil(field: str, value: object) -> int:
    """Whole seconds since the epoch, a fraction rounded up."""
    return -(-microseconds(field, value) // PER_SECOND)


def epoch_exact(field: str, value: object) -> int:
    """Whole seconds since the epoch; a fraction of a second is refused."""
    seconds, fraction = divmod(microseconds(field, value), PER_SECOND)
    if fraction:
        raise InvalidInput(field=field, reason="must have no fraction of a second: .replace(microsecond=0)")
    return seconds


def instant(seconds: int) -> datetime:
    """The UTC datetime of whole seconds since the epoch; what lasts longer than datetimes do, ends with them."""
    return datetime.fromtimestamp(min(seconds, _LAST), UTC)


def day_number(value: date) -> int:
    """Days from 1970-01-01 to `value`: dates as integers."""
    return value.toordinal() - _EPOCH_DAY


def date_of(day: int) -> date:
    """The date that lies `day` days after 1970-01-01."""
    return date.fromordinal(day + _EPOCH_DAY)


def wall_seconds(value: datetime) -> int:
    """A naive wall time as seconds since 1970-01-01T00:00 on the same clock; its fraction is cut off."""
    return day_number(value) * DAY + value.hour * 3600 + value.minute * 60 + value.second
