"""`nxsched slots`: what it prints, where, and with which exit status."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner, Result

from broken import GOOD, MISSING, changed
from nxsched import __version__
from nxsched.cli import main
from nxsched.cli.slots import _Bar
from nxsched.slots import find_slots
from nxsched.slots.scenario import dump, load

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
CLINIC, CLASS, TEAM = (str(EXAMPLES / f"{name}.json") for name in ("clinic", "class", "team"))
SVG = "{http://www.w3.org/2000/svg}"

BROKEN = changed(("hosts.ada.timezone", "Mars"))
BROKEN_LINE = 'hosts.ada.timezone: unknown time zone "Mars"; it takes an IANA name such as "Europe/London"'


def run(*arguments: str, stdin: str | bytes | None = None, width: int = 200) -> Result:
    return CliRunner().invoke(main, ["slots", *arguments], input=stdin, env={"COLUMNS": str(width)})


def process(*arguments: str, stdin: bytes = b"", **options: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "nxsched", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=60, **options)


def write(file: Path, *scenarios: object) -> str:
    """Write one scenario, or several as lines."""
    file.write_text("".join(json.dumps(one) + "\n" for one in scenarios), encoding="utf-8")
    return str(file)


def london(day: str, **event: object) -> dict[str, Any]:
    """A host in London who is open all day long, on a date on which the clocks may change."""
    year, month, number = map(int, day.split("-"))
    hours = [{"days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "start": "00:00", "end": "24:00"}]
    return {
        "now": "2026-01-01T00:00:00Z",
        "from": f"{day}T00:00:00Z",
        "until": f"{year}-{month:02}-{number:02}T03:00:00Z",
        "event_type": {"slug": "visit", "duration_minutes": 30, "hosts": [{"members": ["ada"]}], **event},
        "hosts": {"ada": {"timezone": "Europe/London", "weekly_hours": hours}},
    }


# One scenario.


def test_a_table_shows_days_hosts_and_starts_by_local_clocks() -> None:
    result = run(CLINIC, "--limit", "3")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].rstrip() == "clinic: the first 3 slots, times in Europe/London"
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]
    assert rows == [
        ["Mon 2026-03-30", "dr-lindqvist, room-2", "10:00  10:15"],
        ["", "dr-okafor, dr-lindqvist, room-1, room-2", "10:30"],
    ]
    assert [cell.strip() for cell in lines[2].split("┃")[1:-1]] == ["Day", "Hosts", "Starts"]


def test_a_table_shows_the_seats_left_where_there_are_several() -> None:
    result = run(CLASS)
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in result.stdout.splitlines() if "│" in line]
    assert rows[:2] == [["Tue 2026-06-02", "ines, studio", "1", "17:00"], ["", "ines, studio", "8", "19:00"]]
    assert "Seats left" in result.stdout


def test_one_slot_is_one_slot() -> None:
    assert run(CLASS, "--limit", "1").stdout.startswith("pottery class: the first slot, times in Europe/Berlin")


def test_json_is_one_line_with_every_slot_in_utc() -> None:
    result = run(CLINIC, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    (line,) = result.stdout.splitlines()
    scenario = json.loads(Path(CLINIC).read_text(encoding="utf-8"))
    assert json.loads(line) == {"slots": dump(find_slots(load(scenario)))}
    assert line.isascii()


def test_the_time_zone_of_the_clocks_makes_no_difference_to_json() -> None:
    assert run(CLINIC, "--json", "--timezone", "Asia/Tokyo").stdout == run(CLINIC, "--json").stdout


def test_a_limit_stops_after_the_first_slots() -> None:
    every = json.loads(run(CLINIC, "--json").stdout)["slots"]
    assert json.loads(run(CLINIC, "--json", "--limit", "3").stdout)["slots"] == every[:3]
    assert json.loads(run(CLINIC, "--json", "--limit", "10000000").stdout)["slots"] == every


@pytest.mark.parametrize("limit", ["0", "-1", "ten", "10000001", "1.5"])
def test_a_limit_that_is_none_is_refused(limit: str) -> None:
    result = run(CLINIC, "--limit", limit)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--limit" in result.stderr


def test_times_are_shown_in_the_time_zone_that_is_asked_for() -> None:
    result = run(CLINIC, "--limit", "3", "--timezone", "Pacific/Auckland")
    assert "times in Pacific/Auckland" in result.stdout
    assert "│ Mon 2026-03-30 │" in result.stdout
    assert "22:00  22:15" in result.stdout


def test_an_unknown_time_zone_is_refused_with_the_one_that_was_meant() -> None:
    result = run(CLINIC, "--timezone", "europe/london")
    expected = '--timezone: unknown time zone "europe/london"; did you mean "Europe/London"?\n'
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", expected)


def test_in_an_hour_that_comes_twice_every_start_has_its_offset() -> None:
    result = run("-", stdin=json.dumps(london("2026-10-25")))
    starts = re.findall(r"\d\d:\d\d(?:[+-]\d{4})?", result.stdout.split("│")[-2])
    assert starts == ["01:00+0100", "01:30+0100", "01:00+0000", "01:30+0000", "02:00", "02:30"]


def test_a_date_that_begins_in_the_middle_of_the_range_gets_a_row_of_its_own() -> None:
    scenario = {**london("2026-06-01"), "until": "2026-06-02T00:00:00Z"}
    days = re.findall(r"\w{3} 2026-06-\d\d", run("-", stdin=json.dumps(scenario)).stdout)
    assert days == ["Mon 2026-06-01", "Tue 2026-06-02"]


def test_where_no_slot_is_free_it_says_so_and_how_to_learn_why() -> None:
    closed = changed(("hosts.room-1.weekly_hours", []))
    result = run("-", "--timezone", "Asia/Tokyo", stdin=json.dumps(closed))
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        "visit: no slot is free from Fri 2026-03-27 09:00 to Wed 2026-04-01 09:00, Asia/Tokyo. "
        "Ask --explain TIME for the reasons.\n"
    )
    assert run("-", "--json", stdin=json.dumps(closed)).stdout == '{"slots": []}\n'


@pytest.mark.parametrize(
    ("name", "slug", "title"),
    [
        ("my clinic", "visit", "my clinic"),
        (MISSING, "visit", "visit"),
        (5, "visit", "visit"),
        (MISSING, MISSING, "slots"),
        ("[red]a[/red] :smile:", "visit", "[red]a[/red] :smile:"),
        ("two\nlines\x1b[31m", "visit", "two\ufffdlines\ufffd[31m"),
        ('the "big" room \\ 1', "visit", 'the "big" room \\ 1'),
    ],
)
def test_a_table_is_entitled_by_the_name_or_the_slug(name: object, slug: object, title: str) -> None:
    scenario = changed(("event_type.slug", slug), *([("name", name)] if name is not MISSING else []))
    assert run("-", stdin=json.dumps(scenario)).stdout.startswith(f"{title}: 17 slots")


def test_a_long_name_is_cut() -> None:
    result = run("-", stdin=json.dumps(changed(("name", "n" * 5000))), width=400)
    assert result.stdout.startswith("n" * 150)
    assert max(map(len, result.stdout.splitlines())) < 300


def test_markup_in_the_names_of_hosts_is_printed_as_it_is() -> None:
    text = json.dumps(GOOD).replace('"ada"', '"[bold]ada[/bold]"').replace('"bob"', '"<b>:smile:</b>"')
    result = run("-", "--explain", "2026-03-27T09:00", stdin=text)
    assert "[bold]ada[/bold] does not work" in result.stdout
    assert "<b>:smile:</b> does not work" in result.stdout
    assert "[bold]ada[/bold], room-1" in run("-", stdin=text).stdout


def test_a_narrow_terminal_loses_no_start() -> None:
    wide, narrow = run(CLINIC, width=200).stdout, run(CLINIC, width=50).stdout
    assert max(map(len, narrow.splitlines())) <= 50
    assert re.findall(r"\d\d:\d\d", narrow) == re.findall(r"\d\d:\d\d", wide)


# Why not?


def test_an_explanation_names_every_rule_one_a_line() -> None:
    result = run(CLINIC, "--explain", "2026-03-31T12:30")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "clinic: Tue 2026-03-31 12:30 Europe/London is refused:",
        "  - The booking needs 1 of host group 1, and 0 can take it. [not_enough_hosts, rule 16]",
        "  - dr-okafor does not work through the whole of that time. [outside_hours, rule 10]",
        "  - dr-okafor is blocked from Tue 2026-03-31 12:00 to Tue 2026-03-31 13:00: ward round. [blocked, rule 10]",
        "  - dr-lindqvist does not work through the whole of that time. [outside_hours, rule 10]",
    ]


def test_an_explanation_is_not_broken_into_lines_on_a_narrow_terminal() -> None:
    wide, narrow = (run(CLINIC, "--explain", "2026-03-31T12:30", width=width).stdout for width in (200, 60))
    assert narrow.splitlines()[1:] == wide.splitlines()[1:]


def test_an_explanation_of_a_free_start_says_that_it_is_offered() -> None:
    result = run(CLINIC, "--explain", "2026-03-30T10:30")
    assert (
        result.stdout
        == "clinic: Mon 2026-03-30 10:30 Europe/London is offered; the range of the question is not looked at.\n"
    )
    assert json.loads(run(CLINIC, "--explain", "2026-03-30T10:30", "--json").stdout) == {
        "start": "2026-03-30T09:30:00Z",
        "refusals": [],
    }


@pytest.mark.parametrize(
    ("day", "asked", "timezone", "instant", "shown"),
    [
        (
            "2026-03-29",
            "2026-03-29T01:30",
            None,
            "2026-03-29T01:30:00Z",
            "02:30 Europe/London (the clocks skip 2026-03-29 01:30; rule 3)",
        ),  # skipped
        ("2026-03-29", "2026-03-29T00:30", None, "2026-03-29T00:30:00Z", "00:30 Europe/London"),
        ("2026-10-25", "2026-10-25T01:30", None, "2026-10-25T00:30:00Z", "01:30+0100 Europe/London"),  # the first
        ("2026-10-25", "2026-10-25T01:30Z", None, "2026-10-25T01:30:00Z", "01:30+0000 Europe/London"),
        ("2026-10-25", "2026-10-25T01:30+01:00", None, "2026-10-25T00:30:00Z", "01:30+0100 Europe/London"),
        ("2026-10-25", "2026-10-25T01:30:15+00:00", None, "2026-10-25T01:30:15Z", "01:30:15+0000 Europe/London"),
        ("2026-10-25", "2026-10-25T09:30", "Asia/Tokyo", "2026-10-25T00:30:00Z", "09:30 Asia/Tokyo"),
        ("2026-10-25", "2026-10-24T20:30:00-05:00", "Asia/Tokyo", "2026-10-25T01:30:00Z", "10:30 Asia/Tokyo"),
    ],
)
def test_the_time_to_explain_is_a_wall_time_or_has_an_offset(
    day: str, asked: str, timezone: str | None, instant: str, shown: str
) -> None:
    scenario, zone = json.dumps(london(day)), ["--timezone", timezone] if timezone else []
    assert json.loads(run("-", "--explain", asked, "--json", *zone, stdin=scenario).stdout)["start"] == instant
    assert f" {shown} is " in run("-", "--explain", asked, *zone, stdin=scenario).stdout


def test_an_explanation_as_json_has_the_facts_that_there_are() -> None:
    found = json.loads(run(CLINIC, "--explain", "2026-03-31T12:30", "--json").stdout)["refusals"]
    assert found[0] == {
        "code": "not_enough_hosts",
        "rule": 16,
        "group": 0,
        "need": 1,
        "able": 0,
        "sentence": "The booking needs 1 of host group 1, and 0 can take it.",
    }
    assert found[2] == {
        "code": "blocked",
        "rule": 10,
        "host": "dr-okafor",
        "start": "2026-03-31T11:00:00Z",
        "end": "2026-03-31T12:00:00Z",
        "reason": "ward round",
        "sentence": "dr-okafor is blocked from Tue 2026-03-31 12:00 to Tue 2026-03-31 13:00: ward round.",
    }
    scenario = changed(("event_type.limits", [{"per": "day", "count": 1}]))
    found = json.loads(run("-", "--explain", "2026-03-27T11:00", "--json", stdin=json.dumps(scenario)).stdout)[
        "refusals"
    ]
    assert (found[-1]["code"], found[-1]["rule"], found[-1]["limit"]) == ("event_limit", 15, {"per": "day", "count": 1})
    late = json.loads(run(CLINIC, "--explain", "2027-03-31T12:30", "--json").stdout)["refusals"][0]
    assert late == {
        "code": "window",
        "rule": 14,
        "until": "2026-05-25",
        "sentence": "The date is outside the booking window, which is open until 2026-05-25.",
    }


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ("noon", 'must be a time such as 2026-03-30T10:00 or 2026-03-30T10:00:00Z, not "noon"'),
        ("2026-03-30", 'must be a time such as 2026-03-30T10:00 or 2026-03-30T10:00:00Z, not "2026-03-30"'),
        ("2026-03-30T10:00:00.5Z", "must be a time such as 2026-03-30T10:00 or 2026-03-30T10:00:00Z, not "),
        ("2026-02-30T10:00", "2026-02-30T10:00 does not exist"),
        ("2026-03-30T25:00", "2026-03-30T25:00 does not exist"),
        ("1899-12-31T10:00", "must lie in the years 1900 to 8999"),
        ("9999-12-31T23:59", "must lie in the years 1900 to 8999"),
        ("0001-01-01T00:00+14:00", "must lie in the years 1900 to 8999"),
        ("a\nb\x1b[31m", 'must be a time such as 2026-03-30T10:00 or 2026-03-30T10:00:00Z, not "a\ufffdb\ufffd[31m"'),
        ("", "must be a time such as"),
    ],
)
def test_a_time_to_explain_that_is_none_is_refused(asked: str, reason: str) -> None:
    result = run(CLINIC, "--explain", asked)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"--explain: {reason}")
    assert result.stderr.count("\n") == 1


# Pictures.


def picture(tmp_path: Path, scenario: object, *options: str) -> ET.Element:
    file = tmp_path / "picture.svg"
    result = run("-", "--picture", str(file), *options, stdin=json.dumps(scenario))
    assert result.exit_code == 0, result.stderr
    assert result.stderr == f"The picture is in {file}\n"
    return ET.fromstring(file.read_text(encoding="utf-8"))  # noqa: S314 - our own


def texts(root: ET.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def titles(root: ET.Element, kind: str) -> list[str]:
    return [box.findtext(f"{SVG}title") or "" for box in root.iter() if box.get("class") == kind]


def test_a_picture_shows_hours_busy_time_blocked_time_and_starts(tmp_path: Path) -> None:
    root = picture(tmp_path, GOOD)
    assert root.tag == f"{SVG}svg"
    assert root.findtext(f"{SVG}title") == "visit: 17 slots, times in Europe/London"
    hours = {title for title in titles(root, "open") if title.startswith("ada: ")}
    assert hours == {f"ada: hours {at}" for at in ("09:00-17:00", "10:00-16:00", "10:00-12:00", "01:00-09:00")}
    assert "ada: busy 10:00-10:30" in titles(root, "busy")
    assert "ada: busy with buffers 10:00-10:40" in titles(root, "buffer")
    assert "ada: blocked 15:00-16:00" in titles(root, "blocked")
    starts = [title for title in titles(root, "start") if title.startswith("ada: can start at ")]
    assert len(starts) == 17
    assert len([title for title in titles(root, "start") if title.startswith("room-1: ")]) == 17
    assert "Fri 27 Mar" in texts(root)
    assert any("1 ada, 2 bob, 3 room-1" in text for text in texts(root))


def at_label(root: ET.Element, label: str, after: float = 0) -> tuple[float, float]:
    """Where a label of days or hours stands, the first one below a height."""
    found = [(float(one.get("x", 0)), float(one.get("y", 0))) for one in root.iter(f"{SVG}text") if one.text == label]
    return next(place for place in found if place[1] > after)


def place(root: ET.Element, kind: str, title: str) -> list[tuple[float, ...]]:
    """Left, top and height of the boxes, or left and middle of the marks, that have a title."""
    found: list[tuple[float, ...]] = []
    for one in root.iter():
        if one.get("class") == kind and one.findtext(f"{SVG}title") == title:
            if one.tag == f"{SVG}rect":
                found.append((float(one.get("x", 0)), float(one.get("y", 0)), float(one.get("height", 0))))
            else:
                _, (right, middle), _ = (point.split(",") for point in one.get("points", "").split())
                found.append((float(right) - 9, float(middle)))
    return found


def test_what_is_drawn_stands_under_its_day_beside_its_hour_and_in_the_lane_of_its_host(tmp_path: Path) -> None:
    root = picture(tmp_path, GOOD)
    for day, lane, kind, title, start, hours in (
        ("Fri 27 Mar", 0, "busy", "ada: busy 10:00-10:30", "10:00", 0.5),
        ("Fri 27 Mar", 0, "blocked", "ada: blocked 15:00-16:00", "15:00", 1),
        ("Fri 27 Mar", 2, "open", "room-1: hours 08:00-24:00", "08:00", 16),
        ("Mon 30 Mar", 0, "open", "ada: hours 10:00-12:00", "10:00", 2),
    ):
        left, head = at_label(root, day)
        wide = at_label(root, "2", head)[0] - at_label(root, "1", head)[0]
        top, next_hour = (at_label(root, label, head)[1] - 4 for label in (start, f"{int(start[:2]) + 1:02}:00"))
        assert (left + lane * wide, top, hours * (next_hour - top)) in place(root, kind, title)
    left, head = at_label(root, "Mon 30 Mar")
    assert (left, at_label(root, "11:00", head)[1] - 4) in place(root, "start", "ada: can start at 11:00")


def test_an_hour_that_comes_twice_is_drawn_side_by_side(tmp_path: Path) -> None:
    root = picture(tmp_path, london("2026-10-25"))
    (first,), (second,) = (
        place(root, "start", f"ada: can start at 01:30{note}") for note in ("", " (the second time)")
    )
    assert first[1] == second[1]
    assert second[0] > first[0]


def test_kinds_are_told_apart_without_colour(tmp_path: Path) -> None:
    root = picture(tmp_path, GOOD)
    style = root.findtext(f"{SVG}style") or ""
    patterns = {one.get("id"): one for one in root.iter(f"{SVG}pattern")}
    assert patterns["hatch"].find(f"{SVG}line") is not None
    assert patterns["dots"].find(f"{SVG}circle") is not None
    assert ".blocked { fill: url(#hatch)" in style
    assert ".buffer { fill: url(#dots)" in style
    assert {one.tag for one in root.iter() if one.get("class") == "start"} == {f"{SVG}polygon"}


def test_days_outside_the_range_are_marked(tmp_path: Path) -> None:
    root = picture(tmp_path, GOOD)
    left, head = at_label(root, "Thu 26 Mar")
    assert any(
        one.text == "not asked" and float(one.get("x", 0)) == left and 0 < float(one.get("y", 0)) - head < 20
        for one in root.iter(f"{SVG}text")
    )


def test_a_picture_goes_with_a_table_json_or_an_explanation(tmp_path: Path) -> None:
    file = str(tmp_path / "picture.svg")
    for options in ([], ["--json"], ["--explain", "2026-03-30T10:30"], ["--limit", "1"]):
        with_picture, without = run(CLINIC, *options, "--picture", file), run(CLINIC, *options)
        assert with_picture.stdout == without.stdout
        assert with_picture.stderr == f"The picture is in {file}\n"


@pytest.mark.parametrize("example", [CLINIC, CLASS, TEAM])
@pytest.mark.parametrize("timezone", ["Europe/London", "Pacific/Kiritimati", "America/St_Johns"])
def test_every_example_can_be_drawn_by_the_clocks_of_any_place(tmp_path: Path, example: str, timezone: str) -> None:
    scenario = json.loads(Path(example).read_text(encoding="utf-8"))
    root = picture(tmp_path, scenario, "--timezone", timezone)
    slots = find_slots(load(scenario))
    assert len(titles(root, "start")) == sum(len(slot.hosts) for slot in slots) + 1  # one in the legend
    width, height = float(root.get("width", "0")), float(root.get("height", "0"))
    for box in root.iter(f"{SVG}rect"):
        if box.get("x") is not None:
            assert 0 <= float(box.get("x", "")) <= float(box.get("x", "")) + float(box.get("width", "")) <= width
            assert 0 <= float(box.get("y", "")) <= float(box.get("y", "")) + float(box.get("height", "")) <= height


@pytest.mark.parametrize(("day", "said"), [("2026-03-29", "a day of 23 hours"), ("2026-10-25", "a day of 25 hours")])
def test_a_day_on_which_the_clocks_change_is_marked(tmp_path: Path, day: str, said: str) -> None:
    assert texts(picture(tmp_path, london(day))).count(said) == 1


@pytest.mark.parametrize(
    "name",
    ["</svg><script>alert(1)</script>", "\"'><![CDATA[", "&amp;&lt;", "--><style>*{}", "url(#x)", "{0}", "\U0001f642"],
)
def test_hostile_names_are_text_in_a_picture(tmp_path: Path, name: str) -> None:
    text = json.dumps(changed(("name", "N"))).replace('"ada"', json.dumps(name)).replace('"N"', json.dumps(name))
    root = picture(tmp_path, json.loads(text))
    drawn = (tmp_path / "picture.svg").read_text(encoding="utf-8")
    assert "<script" not in drawn
    assert "CDATA[" not in drawn.replace("&lt;![CDATA[", "")
    assert {element.tag.removeprefix(SVG) for element in root.iter()} == {
        "svg", "title", "style", "defs", "pattern", "rect", "line", "circle", "text", "polygon",
    }  # fmt: skip
    assert any(f"1 {name}, 2 bob" in text for text in texts(root))
    assert f"{name}: busy 10:00-10:30" in titles(root, "busy")
    assert root.findtext(f"{SVG}style") == picture(tmp_path, GOOD).findtext(f"{SVG}style")


def test_a_picture_without_hours_or_slots_is_a_picture_all_the_same(tmp_path: Path) -> None:
    empty = changed(*((f"hosts.{slug}", {"timezone": "UTC"}) for slug in ("ada", "bob", "room-1")))
    root = picture(tmp_path, empty)
    assert titles(root, "open") == [""]  # the legend's
    assert len(list(root.iter(f"{SVG}polygon"))) == 1
    none = {**london("2026-06-01"), "until": "2026-06-01T00:00:00Z"}
    assert picture(tmp_path, none).findtext(f"{SVG}title") == "visit: 0 slots, times in Europe/London"


def test_a_picture_takes_sixty_weeks_and_forty_hosts_at_most(tmp_path: Path) -> None:
    file = tmp_path / "picture.svg"
    sixty = {**london("2026-06-01"), "until": "2027-07-25T22:00:00Z"}
    picture(tmp_path, sixty, "--limit", "1")
    file.unlink()
    result = run(
        "-", "--picture", str(file), "--limit", "1", stdin=json.dumps({**sixty, "until": "2027-07-26T22:00:00Z"})
    )
    expected = "--picture: the range holds 61 weeks; a picture takes at most 60\n"
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", expected)
    names = [f"h{i}" for i in range(41)]
    crowd = {
        **london("2026-06-01", hosts=[{"members": names}]),
        "hosts": {name: {"timezone": "UTC"} for name in names},
    }
    result = run("-", "--picture", str(file), stdin=json.dumps(crowd))
    expected = "--picture: the event type has 41 hosts; a picture takes at most 40\n"
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", expected)
    assert not file.exists()


def test_a_picture_that_cannot_be_written_ends_with_2_before_anything_is_printed(tmp_path: Path) -> None:
    file = tmp_path / "no such folder" / "picture.svg"
    result = run(CLINIC, "--picture", str(file))
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"{file}: No such file or directory\n")
    result = run(CLINIC, "--picture", str(tmp_path))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "is a directory" in result.stderr


@pytest.mark.parametrize("name", ["picture.png", "picture", "svg"])
def test_a_picture_is_an_svg_by_its_name(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    result = run(CLINIC, "--picture", str(file))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("--picture: must be the name of an .svg file, not ")
    assert not file.exists()


def test_a_broken_scenario_is_not_drawn(tmp_path: Path) -> None:
    file = tmp_path / "picture.svg"
    result = run("-", "--picture", str(file), stdin=json.dumps(BROKEN))
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", BROKEN_LINE + "\n")
    assert not file.exists()


def test_json_lines_are_not_drawn(tmp_path: Path) -> None:
    lines = write(tmp_path / "many.jsonl", GOOD)
    result = run(lines, "--picture", str(tmp_path / "picture.svg"))
    expected = "--picture: draws one scenario, and JSON Lines may hold many\n"
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", expected)


# Files, lines and standard input.


def test_standard_input_holds_one_scenario_on_one_line_or_many() -> None:
    expected = run(CLINIC, "--json").stdout
    scenario = json.loads(Path(CLINIC).read_text(encoding="utf-8"))
    for text in (
        json.dumps(scenario),
        json.dumps(scenario, indent=2),
        json.dumps(scenario) + "\n\n",
        "\n" + json.dumps(scenario),
    ):
        result = run("-", "--json", stdin=text)
        assert (result.exit_code, result.stdout, result.stderr) == (0, expected, "")


def test_standard_input_holds_json_lines_if_its_first_line_is_a_scenario_and_more_follows() -> None:
    result = run("-", "--json", stdin="".join(json.dumps(one) + "\n" for one in (GOOD, BROKEN, GOOD)))
    good = json.dumps({"slots": dump(find_slots(load(GOOD)))})
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [good, json.dumps({"error": BROKEN_LINE}), good]
    assert result.stderr == ""


@pytest.mark.parametrize("option", [["--lines"], []])
def test_a_single_broken_line_ends_with_1_as_lines_and_with_2_by_itself(option: list[str]) -> None:
    result = run("-", "--json", *option, stdin=json.dumps(BROKEN))
    if option:
        assert (result.exit_code, result.stdout, result.stderr) == (1, json.dumps({"error": BROKEN_LINE}) + "\n", "")
    else:
        assert (result.exit_code, result.stdout, result.stderr) == (2, "", BROKEN_LINE + "\n")


@pytest.mark.parametrize(
    "data", ["\n  \n{good}\n{good}\n", "\ufeff{good}\n{good}", "{bad}\n{good}\n", "{good}\n\n{bad}"]
)
def test_lines_on_standard_input_are_known_by_either_of_the_first_two(data: str) -> None:
    text = data.replace("{good}", json.dumps(GOOD)).replace("{bad}", '{"now": ')
    answers = [json.loads(line) for line in run("-", "--json", stdin=text).stdout.splitlines()]
    assert [next(iter(one)) for one in answers] == ["error" if "bad" in one else "slots" for one in data.split()]


def test_the_ending_of_a_file_of_lines_may_be_in_capitals(tmp_path: Path) -> None:
    file = tmp_path / "CASES.JSONL"
    file.write_text(f"{json.dumps(GOOD)}\n{json.dumps(GOOD)}\n", encoding="utf-8")
    assert len(run(str(file), "--json").stdout.splitlines()) == 2


def test_sound_lines_are_answered_beside_broken_ones_each_in_its_place(tmp_path: Path) -> None:
    file = tmp_path / "many.jsonl"
    good = json.dumps(GOOD).encode()
    lines = [
        good,
        json.dumps(BROKEN).encode(),
        b"not json",
        b'{"now": "\xff"}',
        b"[]",
        b'{"a": 1, "a": 2}',
        b"[" * 99_999,
        good,
    ]
    file.write_bytes(b"\n".join(lines))
    result = run(str(file), "--json")
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    slots = dump(find_slots(load(GOOD)))
    assert result.exit_code == 1
    assert result.stderr == ""
    assert answers == [
        {"slots": slots},
        {"error": BROKEN_LINE},
        {"error": "scenario: is not JSON: Expecting value at line 1, column 1"},
        {"error": "scenario: is not UTF-8 text: byte 9 cannot be read"},
        {"error": "scenario: must be an object, not []"},
        {"error": 'scenario: has the key "a" twice in one object'},
        {"error": "scenario: is nested too deeply"},
        {"slots": slots},
    ]
    assert result.stdout.isascii()


def test_beside_tables_a_broken_line_is_named_by_its_number_on_standard_error(tmp_path: Path) -> None:
    result = run(write(tmp_path / "many.jsonl", GOOD, BROKEN, {**GOOD, "name": "third"}))
    assert (result.exit_code, result.stderr) == (1, f"line 2: {BROKEN_LINE}\n")
    heads = [line for line in result.stdout.splitlines() if re.match(r"[a-z]", line)]
    assert heads == ["line 1: 17 slots, times in Europe/London", "third: 17 slots, times in Europe/London"]
    heads = [line for line in result.output.splitlines() if re.match(r"[a-z]", line)]
    assert heads[1] == f"line 2: {BROKEN_LINE}"


def test_options_hold_for_every_line(tmp_path: Path) -> None:
    file = write(tmp_path / "many.jsonl", GOOD, GOOD)
    answers = [json.loads(line) for line in run(file, "--json", "--limit", "2").stdout.splitlines()]
    assert [len(answer["slots"]) for answer in answers] == [2, 2]
    explained = run(file, "--explain", "2026-03-27T10:45", "--timezone", "Europe/London").stdout.splitlines()
    assert explained == [
        f"line {i}: Fri 2026-03-27 10:45 Europe/London is offered; the range of the question is not looked at."
        for i in (1, 2)
    ]


def test_blank_lines_are_passed_over_and_counted(tmp_path: Path) -> None:
    file = tmp_path / "many.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\r\n\n  \r\n" + json.dumps(BROKEN).encode())
    result = run(str(file))
    assert (result.exit_code, result.stderr) == (1, f"line 4: {BROKEN_LINE}\n")
    assert "line 1: 17 slots" in result.stdout


@pytest.mark.parametrize("data", [b"", b"\n", b"  \n\n"])
def test_a_file_of_no_lines_has_no_answers(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "none.jsonl"
    file.write_bytes(data)
    result = run(str(file), "--json")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


def test_lines_are_lines_whatever_the_name_of_the_file(tmp_path: Path) -> None:
    text = write(tmp_path / "many.txt", GOOD, BROKEN)
    assert run(text, "--json").exit_code == 2
    result = run(text, "--json", "--lines")
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 2


def test_a_file_that_is_not_there_or_is_a_folder_is_said_in_one_line(tmp_path: Path) -> None:
    for file, reason in ((tmp_path / "nothing.json", "No such file or directory"), (tmp_path, "Is a directory")):
        for options in ([], ["--lines"]):
            result = run(str(file), *options)
            assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"{file}: {reason}\n")


def test_a_file_name_of_two_lines_is_said_in_one() -> None:
    result = run("no\nsuch\x1b[31m.json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    assert "\x1b" not in result.stderr


def test_help_names_the_options_and_gives_examples_that_work() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for option in ("--json", "--timezone", "--limit", "--explain", "--picture", "--lines", "--help"):
        assert option in result.stdout
    commands = re.findall(r"^ +nxsched (slots examples.*)$", result.stdout, re.MULTILINE)
    assert len(commands) >= 3
    assert CliRunner().invoke(main, ["-h"]).stdout == CliRunner().invoke(main, ["--help"]).stdout
    assert "nxsched slots examples/clinic.json" in CliRunner().invoke(main, ["--help"]).stdout


def test_the_examples_of_the_help_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "examples").symlink_to(EXAMPLES)
    monkeypatch.chdir(tmp_path)
    commands = re.findall(
        r"^ +nxsched (slots examples.*)$", run("--help").stdout + CliRunner().invoke(main, ["-h"]).stdout, re.MULTILINE
    )
    for command in commands:
        assert CliRunner().invoke(main, command.split()).exit_code == 0


# Processes of their own.


def test_it_runs_as_a_module_and_as_a_command() -> None:
    done = process("slots", CLINIC, "--json")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == run(CLINIC, "--json").stdout
    command = subprocess.run(
        [Path(sys.executable).with_name("nxsched"), "--version"], capture_output=True, text=True, check=True
    )
    assert command.stdout == f"nxsched, version {__version__}\n"


def test_without_arguments_it_shows_its_help() -> None:
    done = process()
    assert b"nxsched slots examples/clinic.json" in done.stdout + done.stderr


@pytest.mark.parametrize("package", ["click", "rich"])
def test_without_its_packages_it_names_the_extra_and_ends_with_1(package: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; from nxsched.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "slots"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "nxsched: The command line needs the extra 'cli': pip install 'nxsched[cli]'\n"


def test_without_its_packages_the_library_works() -> None:
    code = (
        "import sys; sys.modules['click'] = sys.modules['rich'] = None\n"
        "import json, nxsched\n"
        "from nxsched.slots import find_slots\n"
        "from nxsched.slots.scenario import load\n"
        f"print(len(find_slots(load(json.load(open({CLINIC!r}))))))\n"
        "try:\n    import nxsched.cli\nexcept nxsched.MissingExtra as error:\n    print(error.extra)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(len(json.loads(run(CLINIC, "--json").stdout)["slots"])), "cli"]


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    file = write(tmp_path / "many.jsonl", *[GOOD] * 300)
    command = [sys.executable, "-m", "nxsched", "slots", file, "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline().startswith(b'{"slots"')
        running.stdout.close()
        assert b"Traceback" not in running.stderr.read()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_that_knows_few_characters_is_no_reason_to_fail(encoding: str) -> None:
    text = json.dumps(GOOD).replace('"ada"', '"Zo\u00eb \u0141uk\U0001f642"')
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    for options in ([], ["--json"], ["--explain", "2026-03-27T09:00"]):
        done = process("slots", "-", *options, stdin=text.encode(), env=environment)
        assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_an_error_can_be_read_on_such_a_terminal_too(encoding: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = process(
        "slots", "-", stdin=json.dumps(changed(("hosts.ada.timezone", "Z\u00fcrich" * 30))).encode(), env=environment
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"hosts.ada.timezone: unknown time zone")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
@pytest.mark.parametrize("options", [[], ["--json"], ["--explain", "2026-03-30T10:30"]], ids=" ".join)
def test_a_full_disk_is_said_in_one_line(options: list[str]) -> None:
    command = [sys.executable, "-m", "nxsched", "slots", CLINIC, *options]
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.endswith(": No space left on device\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(os.name == "nt", reason="there is no such shell")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&-"])
def test_a_stream_that_is_closed_is_no_reason_for_a_traceback(closed: str, tmp_path: Path) -> None:
    file = CLINIC if closed == ">&-" else "-"
    command = f"exec {sys.executable} -m nxsched slots {file} --json {closed}"
    done = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False)
    assert "Traceback" not in done.stderr
    if file == "-":
        assert (done.returncode, done.stderr) == (2, "-: standard input is closed\n")


# A bar, on a terminal, for what takes long.


def slowly(fifo: Path, lines: int) -> threading.Thread:
    """Write scenarios to a pipe, which is open for a bit more than a second."""

    def writer() -> None:
        with fifo.open("w", encoding="utf-8") as stream:
            for i in range(lines):
                stream.write(json.dumps(GOOD) + "\n")
                stream.flush()
                time.sleep(1.1 if i == 0 else 0.05)

    thread = threading.Thread(target=writer, daemon=True)
    thread.start()
    return thread


def on_a_terminal(*command: str) -> tuple[int, bytes, bytes]:
    """Run with standard error on a terminal: status, standard output, and what the terminal got."""
    pty = pytest.importorskip("pty", reason="there are no terminals to pretend")
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        environment.pop(name, None)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=slave, env=environment) as running:
        os.close(slave)
        shown: list[bytes] = []

        def reader() -> None:
            try:
                while part := os.read(master, 65_536):
                    shown.append(part)
            except OSError:  # the other side is closed
                pass

        thread = threading.Thread(target=reader, daemon=True)
        thread.start()
        assert running.stdout is not None
        printed = running.stdout.read()
        status = running.wait(timeout=60)
        thread.join(timeout=10)
    os.close(master)
    return status, printed, b"".join(shown)


def test_work_of_more_than_a_second_shows_a_bar_on_a_terminal(tmp_path: Path) -> None:
    fifo = tmp_path / "many.jsonl"
    os.mkfifo(fifo)
    writer = slowly(fifo, 4)
    status, printed, shown = on_a_terminal(sys.executable, "-m", "nxsched", "slots", str(fifo), "--json")
    writer.join(timeout=10)
    assert status == 0
    assert [set(json.loads(line)) for line in printed.splitlines()] == [{"slots"}] * 4
    assert b"Answering" in shown


def test_a_bar_comes_after_a_second_and_follows_the_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    shown: list[tuple[object, object]] = []

    class Spy:
        def __init__(self, **_: object) -> None:
            shown.append(("begun", clock[0]))

        def add_task(self, _: str, total: int | None) -> int:
            shown.append(("total", total))
            return 7

        def start(self) -> None: ...

        def stop(self) -> None:
            shown.append(("stopped", None))

        def update(self, task: int, completed: int) -> None:
            shown.append((task, completed))

    module = sys.modules["nxsched.cli.slots"]  # the command of this name hides it
    monkeypatch.setattr(module, "time", type("Clock", (), {"monotonic": staticmethod(lambda: clock[0])}))
    monkeypatch.setattr(module, "Progress", Spy)
    monkeypatch.setattr("sys.stderr", type("Terminal", (), {"isatty": lambda _: True})())
    with _Bar(300) as bar:
        for _ in range(3):
            clock[0] += 0.75
            bar.advance(100)
    assert shown == [("begun", 101.5), ("total", 300), (7, 200), (7, 300), ("stopped", None)]


def test_lines_on_standard_input_are_answered_as_they_come() -> None:
    command = [sys.executable, "-m", "nxsched", "slots", "-", "--json", "--lines"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as done:
        assert done.stdin is not None
        assert done.stdout is not None
        for _ in range(2):
            done.stdin.write(json.dumps(GOOD).encode() + b"\n")
            done.stdin.flush()
            assert set(json.loads(done.stdout.readline())) == {"slots"}
        done.stdin.close()
        assert done.wait(timeout=60) == 0


def test_quick_work_shows_no_bar(tmp_path: Path) -> None:
    file = write(tmp_path / "many.jsonl", GOOD, GOOD)
    status, printed, shown = on_a_terminal(sys.executable, "-m", "nxsched", "slots", file, "--json")
    assert status == 0
    assert len(printed.splitlines()) == 2
    assert shown == b""


def test_without_a_terminal_there_is_no_bar(tmp_path: Path) -> None:
    fifo = tmp_path / "many.jsonl"
    os.mkfifo(fifo)
    writer = slowly(fifo, 3)
    done = process("slots", str(fifo), "--json")
    writer.join(timeout=10)
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(done.stdout.splitlines()) == 3
