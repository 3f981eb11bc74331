"""Every block of code in the documentation runs, and prints what the page says.

- `python`, `pycon`: run in order, as one module a page, `__main__`; what stands after `>>>` must print what follows.
- `console`: what stands after `$` goes to a shell, which must print what follows. Anything but success has to be shown.
- `json`: a scenario, or a part of one that the comment before it puts in its place: `<!-- at: hosts.ada -->`.
- `sh`: make targets that exist, `nxsched` with options that it has, and a few commands of other tools, listed here.
- `sql`: run by the superuser of the server that the page has started, each statement by itself.

`<!-- file: visit.json -->` before a block writes it to a file. Each page has a directory of its own, with `examples/`.
`Scheduler.embedded` gives a page a database of its own on one server that all pages share, to save time; the pages in
`OWN_SERVER` start theirs. Schedulers that a page leaves open are closed after it.
Run as a program, this file writes the outputs anew (`python tests/docs/test_docs.py [PAGE ...]`): read what changed.
"""

from __future__ import annotations

import copy
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, chdir, contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import psycopg
import pytest
from markdown_it import MarkdownIt

import nxsched
from nxsched import Scheduler
from nxsched.cli import main as cli
from nxsched.embedded import VERSIONS
from nxsched.errors import InvalidInput
from nxsched.slots.scenario import decode, load

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests"))  # where this file is run as a program

import servers  # noqa: E402 - see above

DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *(path for path in sorted(DOCS.rglob("*.md")) if "_build" not in path.parts),
]

DIRECTIVES = frozenset({"{toctree}", "{eval-rst}"})
"""Blocks that Sphinx reads, and that `make docs` checks."""

OTHER_COMMANDS = frozenset({"sudo apt install python3-venv make", ".venv/bin/python tests/docs/test_docs.py"})
"""Commands in `sh` blocks that are not ours to run."""

OWN_SERVER = frozenset({"docs/how-to/database.md", "docs/tutorial.md"})
"""Pages that show how a server is started, and start one."""

WHEEL = f"dist/nxsched-{nxsched.__version__}-py3-none-any.whl"
"""What `make build` makes: until nxsched is on an index, it is installed from this, or from a checkout."""

BASE: dict[str, Any] = {
    "now": "2026-03-02T08:00:00Z",
    "from": "2026-03-02T00:00:00Z",
    "until": "2026-03-09T00:00:00Z",
    "event_type": {"slug": "visit", "duration_minutes": 30, "hosts": [{"members": ["ada", "bob"]}]},
    "hosts": {
        "ada": {
            "timezone": "Europe/London",
            "weekly_hours": [{"days": ["mon", "tue"], "start": "09:00", "end": "17:00"}],
        },
        "bob": {"timezone": "Europe/London"},
        "room-1": {"timezone": "Europe/London"},
    },
}
"""The scenario whose parts the pages show."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: the lines of `text` begin at line `first` of the page, counted from 0."""

    page: str
    first: int
    language: str
    text: str
    notes: dict[str, str]

    def __str__(self) -> str:
        """Say where the block stands."""
        return f"{self.page}:{self.first}"


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page, in order, each with what the comment before it says."""
    notes: dict[str, str] = {}
    for token in MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8")):
        if token.type == "html_block":
            notes = dict(re.findall(r"<!-- (at|file): (\S+) -->", token.content))
            continue
        if token.type in {"fence", "code_block"}:
            assert token.map is not None
            yield Block(str(page.relative_to(ROOT)), token.map[0] + 1, token.info.strip(), token.content, notes)
        if token.type not in {"list_item_open", "paragraph_close"}:
            notes = {}


class Reader:
    """Someone who reads a page from top to bottom and tries everything, in a directory of their own."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.module = ModuleType("__main__")
        self.namespace = self.module.__dict__
        shutil.copytree(ROOT / "examples", place / "examples")

    def said(self, block: Block) -> str:
        """The text of the block as it should be: its inputs, each with what it really printed."""
        if "file" in block.notes:
            (self.place / block.notes["file"]).write_text(block.text, encoding="utf-8")
        with chdir(self.place):
            if block.language in {"python", "pycon"}:
                if block.language == "pycon" or ">>> " in block.text:
                    return _transcript(block.text, ">>> ", "... ", self.interactive)
                exec(compile(block.text, str(block), "exec", dont_inherit=True), self.namespace)  # noqa: S102 - our own pages
            elif block.language == "console":
                return _transcript(block.text, "$ ", "> ", self.shell)
            elif block.language == "json":
                load(_scenario(block))
            elif block.language == "sql":
                self.superuser(block.text)
            elif block.language == "sh":
                for command in block.text.splitlines():
                    check_command(command)
            elif block.language not in DIRECTIVES:
                raise AssertionError(f"{block}: a block in {block.language or 'no language'!r}, which nothing runs")
        return block.text

    def interactive(self, source: str) -> str:
        """What Python prints for one statement at its prompt."""
        out = io.StringIO()
        try:
            with redirect_stdout(out):
                exec(compile(source, "<page>", "single", dont_inherit=True), self.namespace)  # noqa: S102 - our own pages
        except Exception as error:  # noqa: BLE001 - a page may show any
            return "Traceback (most recent call last):\n  ...\n" + "".join(traceback.format_exception_only(error))
        return out.getvalue()

    def superuser(self, statements: str) -> None:
        """Run SQL as who sets up a server does."""
        server = self.namespace["scheduler"]._server  # noqa: SLF001 - nobody else needs it
        with psycopg.connect(servers.superuser(server), autocommit=True) as connection:
            for statement in statements.strip().removesuffix(";").split(";\n"):
                connection.execute(statement.encode())

    def shell(self, command: str) -> str:
        """What a shell prints for one command, on a terminal of 80 columns; blanks at the end of a line are cut."""
        env = {
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.defpath)),
            "HOME": str(self.place),
            "COLUMNS": "80",
            "NO_COLOR": "1",
            "TERM": "dumb",
            "PYTHONUTF8": "1",
        }
        done = subprocess.run(
            ["bash", "-c", command], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        text = "".join(line.rstrip() + "\n" for line in done.stdout.decode().splitlines())
        assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{text}"
        return text


@contextmanager
def reading(page: Path) -> Iterator[Reader]:
    """A reader of a page, who leaves nothing open behind."""
    with ExitStack() as stack:
        # Not in a folder of pytest's: their rights change while others of its runs begin.
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nxsched-")))
        stack.callback(servers.wait_until_stopped, place)
        reader = Reader(place)
        # Frameworks look for what a page defines by its module's name, as in a program of one file.
        stack.callback(sys.modules.__setitem__, "__main__", sys.modules["__main__"])
        sys.modules["__main__"] = reader.module
        if str(page.relative_to(ROOT)) not in OWN_SERVER:
            stack.enter_context(shared_server())
        try:
            yield reader
        finally:
            for value in reader.namespace.values():
                if isinstance(value, Scheduler):
                    value.close()


@contextmanager
def shared_server() -> Iterator[None]:
    """Let `Scheduler.embedded` make a database on the server of this run, a new one for each folder."""
    run = os.environ["NXSCHED_TEST_RUN"]
    names: dict[Path, str] = {}
    with ExitStack() as stack:

        def start(path: str | Path, *, version: int | None = None) -> servers.Server:
            folder, version = Path(path).resolve(), version or VERSIONS[-1]
            if folder not in names:
                kept = servers.started(run, version)
                stack.callback(kept.close)
                names[folder] = stack.enter_context(servers.database(kept))
            server = servers.started(run, version)
            server.url = partial(server.url, database=names[folder])  # type: ignore[method-assign]
            return server

        stack.enter_context(patch("nxsched.embedded.start", start))
        yield


def _transcript(text: str, prompt: str, more: str, run: Callable[[str], str]) -> str:
    """A session anew: each input, with what it prints now; blank lines before an input stay."""
    found: list[str] = []
    lines = text.splitlines()
    i = 0
    while i < len(lines):
        assert lines[i].startswith(prompt), f"an input was expected, not {lines[i]!r}"
        begin = i
        i += 1
        while i < len(lines) and (lines[i].startswith(more) or lines[i] == more.rstrip()):
            i += 1
        asked = lines[begin:i]
        begin = i
        while i < len(lines) and not lines[i].startswith(prompt):
            i += 1
        blanks = i - len("\n".join(lines[begin:i]).rstrip("\n").splitlines()) - begin
        source = "\n".join(line[len(prompt) :] for line in asked) + "\n"
        found += [*asked, *run(source).splitlines(), *[""] * blanks]
    return "".join(line + "\n" for line in found)


def _scenario(block: Block) -> object:
    """The scenario that a `json` block is, or belongs to."""
    data = decode(block.text)
    if "at" not in block.notes:
        return data
    whole: Any = {"top": copy.deepcopy(BASE)}
    *way, last = re.findall(r"[\w-]+", f"top.{block.notes['at']}".removesuffix(".top"))
    place = whole
    for key in way:
        place = place[int(key) if key.isdigit() else key]
    if isinstance(data, dict) and isinstance(place.get(last), dict):
        place[last].update(data)
    else:
        place[last] = data
    return whole["top"]


def check_command(command: str) -> None:
    """See that a command of an `sh` block can be given: a make target is there, an extra is one of ours."""
    words = command.partition("  #")[0].split()
    if words and words[0] == "make":
        asked = [word for word in words[1:] if "=" not in word]
        for target in asked:
            assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target
        env = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}}
        done = subprocess.run(["make", "-n", *asked], cwd=ROOT, env=env, capture_output=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr.decode()}"
    elif words and words[0] == "nxsched":
        asked_for = cli.commands[words[1]]
        asked_for.make_context(words[1], words[2:])
    elif found := re.fullmatch(rf"pip install '?(?:\.|{re.escape(WHEEL)})(?:\[([\w,]+)\])?'?", " ".join(words)):
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert found[1] is None or extras.keys() >= {*found[1].split(",")}, command
    else:
        assert not words or " ".join(words) in OTHER_COMMANDS, f"nobody knows whether this can be run: {command}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_of_a_page_runs_and_prints_what_it_shows(page: Path) -> None:
    with reading(page) as reader:
        for block in blocks(page):
            said = reader.said(block)
            assert said == block.text, f"{block} prints something else (left: now, right: the page)"


def test_the_tutorial_as_a_program_runs_a_second_time_and_a_third() -> None:
    page = DOCS / "tutorial.md"
    lines = [
        (line[4:] if block.language == "pycon" else line)
        for block in blocks(page)
        if block.language in {"python", "pycon"}
        for line in block.text.splitlines()
        if block.language == "python" or line.startswith((">>>", "..."))
    ]
    with reading(page) as reader:
        program = reader.place / "salon.py"
        program.write_text("\n".join(lines) + "\n", encoding="utf-8")
        for _ in range(3):
            subprocess.run([sys.executable, program], cwd=reader.place, check=True)


@pytest.mark.parametrize(
    ("language", "source"),
    [
        ("", "no language"),
        ("text", "a language that nothing runs"),
        ("python", "1 / 0\n"),
        ("pycon", "1 + 1\n"),
        ("console", "$ false\n"),
        ("console", "$ nxsched slots missing.json\nmissing.json: No such file or directory\n"),
        ("json", "{}\n"),
        ("sh", "make coffee\n"),
        ("sh", "pip install '.[coffee]'\n"),
        ("sh", "pip install 'nxsched[cli]'\n"),
        ("sh", "rm -r build\n"),
    ],
)
def test_a_block_that_does_not_work_is_noticed(language: str, source: str, tmp_path: Path) -> None:
    with pytest.raises((AssertionError, InvalidInput, ZeroDivisionError)):
        Reader(tmp_path).said(Block("page.md", 1, language, source, {}))


@pytest.mark.parametrize(
    ("language", "source", "said"),
    [
        ("pycon", ">>> 1 + 1\n3\n>>> 2\n", ">>> 1 + 1\n2\n>>> 2\n2\n"),
        ("pycon", ">>> if True:\n...     print(4)\n\n>>> None\n5\n", ">>> if True:\n...     print(4)\n4\n\n>>> None\n"),
        (
            "pycon",
            ">>> [][0]\n",
            ">>> [][0]\nTraceback (most recent call last):\n  ...\nIndexError: list index out of range\n",
        ),
        ("console", "$ echo a; echo; echo b\na\n", "$ echo a; echo; echo b\na\n\nb\n"),
    ],
)
def test_an_output_that_differs_is_noticed(language: str, source: str, said: str, tmp_path: Path) -> None:
    assert Reader(tmp_path).said(Block("page.md", 1, language, source, {})) == said


def test_a_part_of_a_scenario_is_put_in_its_place_and_judged_there(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    part = Block("page.md", 1, "json", '[{"per": "day"}]', {"at": "hosts.ada.limits"})
    with pytest.raises(InvalidInput, match=r"hosts\.ada\.limits\[0\]"):
        reader.said(part)


def main() -> None:
    """Write the outputs of every page anew, or of those that are named."""
    run = os.environ["NXSCHED_TEST_RUN"] = uuid4().hex[:12]
    asked = [Path(name).resolve() for name in sys.argv[1:]] or PAGES
    try:
        for page in asked:
            lines = page.read_text(encoding="utf-8").splitlines(keepends=True)
            with reading(page) as reader:
                said = [(block, reader.said(block)) for block in blocks(page)]
            for block, text in reversed(said):
                lines[block.first : block.first + block.text.count("\n")] = [text]
            page.write_text("".join(lines), encoding="utf-8")
    finally:
        servers.remove(run)


if __name__ == "__main__":
    main()
