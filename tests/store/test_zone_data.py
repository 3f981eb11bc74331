"""The time zone data that is named is the one that `zoneinfo` reads."""

from __future__ import annotations

import shutil
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import pytest
import tzdata

from nxsched.domain.timezones import names
from nxsched.store.zone_data import zone_data

ZONES = Path(str(files("tzdata") / "zoneinfo"))


@pytest.fixture(autouse=True)
def path_is_put_back() -> Iterator[None]:
    before = zoneinfo.TZPATH
    yield
    zoneinfo.reset_tzpath(before)


def test_without_data_of_the_system_it_is_that_of_the_package() -> None:
    zoneinfo.reset_tzpath([])
    assert zone_data() == f"tzdata {tzdata.IANA_VERSION} (package)"


@pytest.mark.parametrize(
    ("file", "first_line", "version"),
    [
        ("tzdata.zi", "# version 2024a\n# more\n", "2024a"),
        ("+VERSION", "2023d\n", "2023d"),
        ("tzdata.zi", "something else\n", "of an unknown version"),
        ("readme", "2023d\n", "of an unknown version"),
    ],
)
def test_data_of_the_system_come_first(tmp_path: Path, file: str, first_line: str, version: str) -> None:
    shutil.copytree(ZONES, tmp_path, dirs_exist_ok=True)
    (tmp_path / "tzdata.zi").unlink(missing_ok=True)
    (tmp_path / file).write_text(first_line)
    zoneinfo.reset_tzpath([tmp_path])
    assert names() <= zoneinfo.available_timezones()
    assert zone_data() == f"tzdata {version} ({tmp_path})"


def test_zones_that_the_system_lacks_are_those_of_the_package(tmp_path: Path) -> None:
    (tmp_path / "Europe").mkdir()
    shutil.copy(ZONES / "Asia" / "Tokyo", tmp_path / "Europe" / "London")
    (tmp_path / "+VERSION").write_text("2020a")
    zoneinfo.reset_tzpath([tmp_path])
    assert zone_data() == f"tzdata {tzdata.IANA_VERSION} (package); 2020a ({tmp_path}) for 1 of {len(names())}"
    summer = datetime(2026, 7, 1, tzinfo=UTC)
    hours = [summer.astimezone(zoneinfo.ZoneInfo.no_cache(name)).hour for name in ("Europe/London", "Europe/Rome")]
    assert hours == [9, 2]
