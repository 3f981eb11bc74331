"""Names of time zones (rule 4)."""

from __future__ import annotations

from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from nxsched.domain.checks import shown
from nxsched.errors import InvalidInput

_NOT_IANA = frozenset({"localtime", "posixrules", "Factory"})


@cache
def names() -> frozenset[str]:
    """Every name known to this machine: its own zone files, and those of the package `tzdata`."""
    return frozenset(available_timezones()) - _NOT_IANA


def timezone_name(field: str, value: object) -> str:
    """An IANA time zone name; any other is refused by name, with the one that was meant where only its case differs."""
    if not isinstance(value, str):
        raise InvalidInput(
            field=field, reason=f'must be the name of a time zone, such as "Europe/London", not {shown(value)}'
        )
    if value not in names():
        known = {name.lower().rpartition("/")[2]: name for name in sorted(names()) if not name.startswith("Etc/")}
        known |= {name.lower(): name for name in names()}
        meant = known.get(value.lower().replace(" ", "_"))
        hint = f"; did you mean {shown(meant)}?" if meant else '; it takes an IANA name such as "Europe/London"'
        raise InvalidInput(field=field, reason=f"unknown time zone {shown(value)}{hint}")
    return value


def zone_info(name: str) -> ZoneInfo:
    """The rules of a zone whose name was checked; `zoneinfo` keeps one object a name."""
    return ZoneInfo(name)
