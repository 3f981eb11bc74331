"""Which time zone data this process works with: its version decides what the clocks of the future show."""

from __future__ import annotations

import zoneinfo
from collections import Counter
from pathlib import Path
from typing import Final

import tzdata

from nxsched.domain.timezones import names

_PACKAGE: Final = "package"


def zone_data() -> str:
    """The version of the data, and where they are; several, where `zoneinfo` finds some zones here and others there.

    It looks for a zone in one folder of the system after the other, and then in the package `tzdata`.
    """
    found = Counter(map(_place, names())).most_common()
    most, *others = [f"{_version(place)} ({place})" for place, _ in found]
    some = [f"{other} for {n} of {len(names())}" for other, (_, n) in zip(others, found[1:], strict=True)]
    return "; ".join((f"tzdata {most}", *some))


def _place(name: str) -> str:
    return next((folder for folder in zoneinfo.TZPATH if Path(folder, name).is_file()), _PACKAGE)


def _version(place: str) -> str:
    if place == _PACKAGE:
        return str(tzdata.IANA_VERSION)
    for file, prefix in (("tzdata.zi", "# version "), ("+VERSION", "")):
        try:
            with Path(place, file).open(encoding="utf-8", errors="replace") as lines:
                first = lines.readline().strip()
        except OSError:
            continue
        if first.startswith(prefix):
            return first.removeprefix(prefix)
    return "of an unknown version"
