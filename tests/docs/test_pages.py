"""The pages say the same as the code: rules, codes, keys, bounds, names, pictures; and their links lead somewhere."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

import nxsched
from docs import events
from nxsched import InvalidInput, slots
from nxsched.domain import bounds
from nxsched.domain.bookings import ACTIVE, SHOWN, BookingStatus
from nxsched.domain.events import KINDS, REMINDER
from nxsched.domain.refusals import RULES
from nxsched.slots import scenario
from nxsched.store.roles import RIGHTS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")] if "_build" not in path.parts)


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def headings(page: Path) -> list[str]:
    tokens = MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8"))
    return [tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "heading_open"]


def anchor(heading: str) -> str:
    """The anchor of a heading, as code hosting sites and Sphinx make it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def links(page: Path) -> Iterator[str]:
    for token in MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8")):
        for child in token.children or ():
            for name in ("href", "src"):
                if name in child.attrs:
                    yield str(child.attrs[name])


def rows(page: str) -> list[list[str]]:
    """The rows of all tables of a page, as cells."""
    lines = [line for line in text(page).splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading_that_are_there(page: Path) -> None:
    for link in links(page):
        if re.match(r"https?:", link):
            continue
        path, _, heading = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), link
        assert not heading or heading in map(anchor, headings(target)), link


def test_the_readme_lists_every_page() -> None:
    named = {(ROOT / link).resolve() for link in links(ROOT / "README.md") if ":" not in link}
    assert {page for page in PAGES if page not in named} == {ROOT / "README.md", DOCS / "index.md"}


def test_the_rules_have_their_numbers_in_order() -> None:
    found = [re.match(r"Rule (\d+): ", heading) for heading in headings(DOCS / "rules.md")]
    assert [int(match[1]) for match in found if match] == list(range(1, 30))


def test_the_table_of_codes_has_every_code_with_its_rule() -> None:
    codes = [row for row in rows("docs/how-to/explain.md") if row[0].startswith("`")]
    assert {row[0].strip("`"): int(re.findall(r"\d+", row[1])[0]) for row in codes} == RULES


@pytest.mark.parametrize(
    "place",
    [
        (),
        ("event_type",),
        ("event_type", "hosts", 0),
        ("event_type", "limits", 0),
        ("event_type", "booking_window"),
        ("hosts", "ada"),
        ("hosts", "ada", "weekly_hours", 0),
        ("hosts", "ada", "overrides", 0),
        ("hosts", "ada", "overrides", 0, "hours", 0),
        ("hosts", "ada", "travel", 0),
        ("hosts", "ada", "blocked", 0),
        ("hosts", "ada", "bookings", 0),
        ("hosts", "ada", "limits", 0),
        ("closures", 0),
    ],
    ids=lambda place: ".".join(map(str, place)) or "top",
)
def test_every_key_of_a_scenario_is_in_the_reference(place: tuple[str | int, ...]) -> None:
    at: Any = {"no such key": 0}
    for key in reversed(place):
        at = [at] if isinstance(key, int) else {key: at}
    ada = {"timezone": "UTC", "overrides": [{"date": "2026-01-01", "hours": []}]}
    whole = {
        "now": "2026-01-01T00:00:00Z",
        "from": "2026-01-01T00:00:00Z",
        "until": "2026-01-01T00:00:00Z",
        "event_type": {"duration_minutes": 30, "hosts": [{"members": ["ada"]}]},
        "hosts": {"ada": ada},
    }
    with pytest.raises(InvalidInput, match="unknown key") as caught:
        scenario.load(_merged(whole, at))
    keys = re.findall(r"\w+", caught.value.reason.partition("the keys here are ")[2])
    assert keys
    for key in keys:
        assert re.search(rf'`([\w\[\]]+\.)?{key}`|"{key}": ', text("docs/how-to/scenarios.md")), key


def _merged(whole: Any, part: Any) -> Any:  # noqa: ANN401 - JSON
    """A scenario with a part put in: objects key by key, all else replaced."""
    if isinstance(whole, dict) and isinstance(part, dict):
        return {**whole, **{key: _merged(whole.get(key), value) for key, value in part.items()}}
    if isinstance(part, list) and isinstance(whole, list) and whole:
        return [_merged(whole[0], part[0])]
    return part


def test_the_bounds_are_those_of_the_code() -> None:
    table = text("docs/rules.md").partition("### Bounds")[2].partition("\n\nA range")[0]
    rows = dict(re.findall(r"^\| (.+) \| ([\d,]+)[^|]*\|$", table, flags=re.MULTILINE))
    assert rows == {
        "starts in an answer without a `limit`": f"{bounds.MAX_STARTS:,}",
        "`limit`": f"{bounds.MAX_LIMIT:,}",
        "days between the ends of a range": f"{bounds.MAX_RANGE_DAYS:,}",
        "occurrences of one recurrence rule looked at for one range": f"{bounds.MAX_RULE_OCCURRENCES:,}",
        "windows of hours and occurrences of blocked periods looked at for one question, all hosts together": (
            f"{bounds.MAX_WORK:,}"
        ),
        "limits of one event type or host": f"{bounds.MAX_LIMITS:,}",
        "characters of a recurrence rule": f"{bounds.MAX_RULE:,}",
        "INTERVAL of a recurrence rule": "99,999",
        "COUNT of a recurrence rule": "9,999,999",
        "times of a day that BYHOUR, BYMINUTE and BYSECOND of a rule give": f"{bounds.MAX_RULE_TIMES:,}",
        "host groups of an event type": f"{bounds.MAX_GROUPS:,}",
        "members of all groups of an event type": f"{bounds.MAX_MEMBERS:,}",
        "minutes of a duration, step, buffer, notice or offset": f"{bounds.MAX_MINUTES:,}",
        "capacity, seats, `count` and `minutes` of a limit": f"{bounds.MAX_CAPACITY:,}",
        "days of a booking window": f"{bounds.MAX_RANGE_DAYS:,}",
        "durations of an event type, its own included": f"{bounds.MAX_DURATIONS:,}",
        "questions of an event type": f"{bounds.MAX_QUESTIONS:,}",
        "choices of a question": f"{bounds.MAX_CHOICES:,}",
        "characters of an answer": f"{bounds.MAX_ANSWER:,}",
        "a number in an answer": f"{bounds.MAX_NUMBER:,}",
        "characters of a description": f"{bounds.MAX_PROSE:,}",
        "characters of JSON in metadata, attributes or settings": f"{bounds.MAX_JSON:,}",
        "busy periods in one report": f"{bounds.MAX_PERIODS:,}",
        "minutes of a hold": f"{bounds.MAX_HOLD_MINUTES:,}",
        "holds of a tenant that stand at a time": f"{bounds.MAX_OPEN_HOLDS:,}",
        "bookings on a page": f"{bounds.MAX_PAGE:,}",
        "bookings of a series": f"{bounds.MAX_SERIES:,}",
        "weight of a host": f"{bounds.MAX_WEIGHT:,}",
        "holds of one attendee that stand at a time": f"{bounds.MAX_ATTENDEE_HOLDS:,}",
        "days for which an idempotency key is remembered": f"{bounds.MAX_KEY_DAYS:,}",
        "objects and lists inside one another in such JSON": f"{bounds.MAX_NESTING:,}",
    }
    assert f"years {bounds.FIRST_YEAR} to {bounds.LAST_YEAR}, UTC." in text("docs/rules.md")
    assert f"at most {bounds.MAX_TEXT} characters" in text("docs/rules.md")


def test_the_states_are_those_of_the_code() -> None:
    found = re.findall(r"^\| `(\w+)` \| (yes|no) \| (yes|no) \|", text("docs/concepts/states.md"), flags=re.MULTILINE)
    assert [state for state, _, _ in found] == [state.value for state in BookingStatus]
    assert {state for state, active, _ in found if active == "yes"} == ACTIVE
    assert {state for state, _, shown in found if shown == "yes"} == SHOWN


def test_every_error_is_in_the_reference_with_its_code() -> None:
    found = dict(re.findall(r"^\| `(\w+)` \| `(\w+)` \|", text("docs/reference.md"), flags=re.MULTILINE))
    errors = {name: getattr(nxsched, name) for name in nxsched.__all__}
    assert found == {
        name: error.code
        for name, error in errors.items()
        if isinstance(error, type) and issubclass(error, nxsched.NxschedError)
    }


def test_the_pages_on_frameworks_answer_with_the_statuses_of_the_reference() -> None:
    table = re.findall(
        r"^\| (\d{3}) \| (.+?) \|", text("docs/reference.md").partition("### Over HTTP")[2], re.MULTILINE
    )
    told = {code: int(status) for status, codes in table for code in re.findall(r"`(\w+)`", codes)}
    errors = (getattr(nxsched, name) for name in nxsched.__all__)
    codes = {error.code for error in errors if isinstance(error, type) and issubclass(error, nxsched.NxschedError)}
    assert codes - told.keys() == {"nxsched_error", "schema_outdated", "missing_extra", "event_not_found"}
    for page in ("fastapi", "django", "flask"):
        found = re.search(r"^CODES = (\{.*?^\})", text(f"docs/how-to/{page}.md"), re.MULTILINE | re.DOTALL)
        assert found, page
        assert {code: status for status, codes in ast.literal_eval(found[1]).items() for code in codes} == told, page


def test_the_rights_are_those_of_the_code() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| ([A-Z, ]+) \| ([A-Z, ]+) \|$", text("docs/how-to/database.md"), flags=re.MULTILINE
    )
    assert {table: (app, worker) for table, app, worker in rows} == RIGHTS


def test_the_tables_of_events_are_those_of_their_schemas() -> None:
    page = text("docs/events.md")
    assert events.written(page) == page, "run make docs-output"
    assert all(f"`{kind}`" in page for kind in (*KINDS, REMINDER))


def test_every_public_name_is_in_the_reference() -> None:
    page = text("docs/reference.md")
    public = {f"nxsched.{name}" for name in nxsched.__all__} | {f"nxsched.slots.{name}" for name in slots.__all__}
    assert [name for name in sorted(public - {"nxsched.slots.Slots"}) if not re.search(rf"\b{name}\b", page)] == []


def test_every_module_is_in_the_architecture() -> None:
    source = ROOT / "src" / "nxsched"
    modules = {".".join(path.relative_to(source).with_suffix("").parts) for path in source.rglob("*.py")}
    page = text("docs/architecture.md")
    assert [name for name in sorted(modules) if not name.endswith("__init__") and f"`{name}`" not in page] == [
        "__main__"
    ]


def test_the_picture_of_the_clinic_is_what_the_command_draws(tmp_path: Path) -> None:
    drawn = tmp_path / "clinic.svg"
    command = [sys.executable, "-m", "nxsched", "slots", "examples/clinic.json", "--picture", str(drawn)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    kept = text("docs/images/clinic.svg")
    assert drawn.read_text(encoding="utf-8") == kept, "draw it anew: nxsched slots … --picture docs/images/clinic.svg"
