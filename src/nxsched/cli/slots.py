"""`nxsched slots`: answer scenario files."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from itertools import chain
from pathlib import Path
from typing import Self
from zoneinfo import ZoneInfo

import click
from rich.console import Console
from rich.progress import Progress

from nxsched.cli.files import beginning, opened, text_of
from nxsched.cli.picture import draw
from nxsched.cli.show import show_refusals, show_slots
from nxsched.domain.bounds import MAX_LIMIT, MAX_TEXT
from nxsched.domain.checks import printable, shown
from nxsched.domain.instants import epoch_exact
from nxsched.domain.refusals import Refusal
from nxsched.domain.timezones import timezone_name
from nxsched.errors import InvalidInput
from nxsched.slots import SlotQuery, Slots, explain, find_slots
from nxsched.slots.scenario import decode, dump, load

_ASKED = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2})?(Z|[+-]\d{2}:\d{2})?", re.ASCII)
_PATIENCE = 1.0
"""Seconds of work after which a bar shows how far it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was asked for on the command line."""

    as_json: bool
    timezone: str | None
    limit: int | None
    explain: str | None
    picture: Path | None


@click.command()
@click.argument("file")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a scenario, instants in UTC.")
@click.option("--timezone", metavar="NAME", help="Time zone of the times shown and asked; else the event type's own.")
@click.option("--limit", type=click.IntRange(min=1, max=MAX_LIMIT), metavar="N", help="Stop after the first N slots.")
@click.option(
    "--explain", metavar="TIME", help="Say why TIME is refused: 2026-03-30T10:00 in --timezone, or with Z or an offset."
)
@click.option(
    "--picture",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.svg",
    help="Draw hours, busy time and slots, week by week.",
)
@click.option("--lines", is_flag=True, help="Read FILE as JSON Lines, whatever its name.")
def slots(file: str, *, lines: bool, **asked: object) -> None:
    """Answer the scenario in FILE: which slots are free.

    FILE is JSON, or JSON Lines (.jsonl: one scenario a line, one answer a line); - is standard input.
    Exit status: 0, answered; 1, lines of a JSON Lines file are broken; 2, the file, the scenario or an option is wrong.

    \b
    Examples:
      nxsched slots examples/clinic.json
      nxsched slots examples/clinic.json --limit 3 --json
      nxsched slots examples/clinic.json --explain 2026-03-30T10:00
      nxsched slots examples/team.json --timezone Asia/Tokyo --picture team.svg
    """  # noqa: D301 - click ends the wrapping of lines at a backspace
    try:
        status = _answer_file(file, Options(**asked), lines=lines)  # type: ignore[arg-type]  # click checked them
        sys.stdout.flush()
    except InvalidInput as error:
        click.echo(str(error), err=True)
        status = 2
    except BrokenPipeError:  # whoever reads has seen enough
        raise
    except OSError as error:
        click.echo(f"{printable(file)}: cannot be read, or its answer not be written: {error.strerror}", err=True)
        status = 2
        # What could not be written is still in the buffer, and Python would try again on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(status)


def _answer_file(file: str, options: Options, *, lines: bool) -> int:
    """Answer all that a file holds, and give the exit status."""
    if options.timezone is not None:
        timezone_name("--timezone", options.timezone)
    if options.explain is not None:
        _moment(options.explain, "UTC")
    if options.picture is not None and options.picture.suffix != ".svg":
        raise InvalidInput(
            field="--picture", reason=f"must be the name of an .svg file, not {shown(str(options.picture))}"
        )
    with opened(file) as stream:
        if sys.stdout is None:
            raise InvalidInput(field="-", reason="standard output is closed")
        begun, known = ([], True) if lines else beginning(file, stream)
        if known:
            if options.picture:
                raise InvalidInput(field="--picture", reason="draws one scenario, and JSON Lines may hold many")
            return _answer_lines(file, chain(begun, stream), options)
        _answer(decode(text_of(b"".join(begun) + stream.read())), "", options)
    return 0


def _answer_lines(file: str, lines: Iterable[bytes], options: Options) -> int:
    """Answer each line as soon as it is there; a broken one gives its error in its place, and status 1 in the end."""
    status = 0
    size = Path(file).stat().st_size if file != "-" and Path(file).is_file() else None
    with _Bar(size) as bar:
        for number, line in enumerate(lines, start=1):
            try:
                if text := text_of(line).strip():
                    _answer(decode(text), f"line {number}", options)
            except InvalidInput as error:
                status = 1
                if options.as_json:
                    click.echo(json.dumps({"error": str(error)}))
                else:
                    click.echo(f"line {number}: {error}", err=True)
            bar.advance(len(line))
    return status


def _answer(data: object, title: str, options: Options) -> None:
    """Answer one scenario on standard output, the picture first: an error comes before anything is printed."""
    query = load(data)
    timezone = options.timezone or query.timezone
    name = data.get("name") if isinstance(data, dict) else None
    title = printable(name if isinstance(name, str) else title or query.event_type.slug or "slots")[:MAX_TEXT]
    if options.picture:
        _draw(options.picture, query, find_slots(query, limit=options.limit), timezone, title)
    console = Console(highlight=False, markup=False, emoji=False)
    if options.explain is not None:
        start = _moment(options.explain, timezone)
        refusals = explain(query, start)
        if options.as_json:
            click.echo(json.dumps({"start": _json(start), "refusals": [_refusal(one, timezone) for one in refusals]}))
        else:
            show_refusals(console, title, start, refusals, timezone, options.explain)
    elif options.as_json:
        _echo_slots(find_slots(query, limit=options.limit))
    else:
        show_slots(console, title, query, find_slots(query, limit=options.limit), timezone, options.limit)


def _echo_slots(found: Slots) -> None:
    """One line of JSON, slot by slot: with many hosts it is long."""
    click.echo('{"slots": [', nl=False)
    for i, slot in enumerate(found):
        sys.stdout.write((", " if i else "") + json.dumps(dump([slot])[0]))
    click.echo("]}")


def _draw(file: Path, query: SlotQuery, found: Slots, timezone: str, title: str) -> None:
    try:
        file.write_text(draw(query, found, timezone, title), encoding="utf-8")
    except OSError as error:
        raise InvalidInput(field=printable(str(file)), reason=error.strerror or str(error)) from error
    click.echo(f"The picture is in {file}", err=True)


def _moment(text: str, timezone: str) -> datetime:
    """The instant of `--explain`: with `Z` or an offset as it stands, else a wall time read by rule 3."""
    if not _ASKED.fullmatch(text):
        reason = f"must be a time such as 2026-03-30T10:00 or 2026-03-30T10:00:00Z, not {shown(text)}"
        raise InvalidInput(field="--explain", reason=reason)
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(field="--explain", reason=f"{text} does not exist: {error}") from error
    found = found if found.tzinfo else found.replace(tzinfo=ZoneInfo(timezone), fold=0)
    epoch_exact("--explain", found)
    return found.astimezone(UTC)


def _refusal(refusal: Refusal, timezone: str) -> dict[str, object]:
    """A refusal as JSON: its code, rule and sentence, and those of its facts that there are."""
    facts = {
        "host": refusal.host,
        "start": refusal.start,
        "end": refusal.end,
        "from": refusal.from_date,
        "until": refusal.until_date,
        "limit": refusal.limit and {k: v for k, v in asdict(refusal.limit).items() if v is not None},
        "id": refusal.id,
        "reason": refusal.reason or None,
        "group": refusal.group,
        "need": refusal.need,
        "able": refusal.able,
    }
    given = {name: _json(value) for name, value in facts.items() if value is not None}
    return {"code": refusal.code, "rule": refusal.rule, **given, "sentence": refusal.sentence(timezone)}


def _json(value: object) -> object:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%dT%H:%M:%SZ}"
    return value.isoformat() if isinstance(value, date) else value


class _Bar:
    """A progress bar on standard error: only on a terminal, and only for work that takes more than a second."""

    def __init__(self, size: int | None) -> None:
        self._size, self._done, self._begun = size, 0, time.monotonic()
        self._bar: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def advance(self, size: int) -> None:
        """So many bytes more are done."""
        self._done += size
        if self._bar is None and sys.stderr.isatty() and time.monotonic() - self._begun > _PATIENCE:
            # What is printed meanwhile may go around the bar only where it goes to the same terminal.
            aside = sys.stdout.isatty()
            self._bar = Progress(console=Console(stderr=True), transient=True, redirect_stdout=aside)
            self._task = self._bar.add_task("Answering", total=self._size)
            self._bar.start()
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
