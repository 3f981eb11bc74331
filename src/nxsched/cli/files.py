"""Read scenarios from a file or from standard input."""

from __future__ import annotations

import json
import sys
from codecs import BOM_UTF8
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from nxsched.domain.checks import printable
from nxsched.errors import InvalidInput


@contextmanager
def opened(file: str) -> Iterator[BinaryIO]:
    """Open a file for reading, or standard input where it is `-`. A file that cannot be read is `InvalidInput`."""
    if file == "-":
        if sys.stdin is None:
            raise InvalidInput(field="-", reason="standard input is closed")
        yield sys.stdin.buffer
        return
    try:
        stream = Path(file).open("rb")  # noqa: SIM115 - closed below; only errors of opening are caught
    except (OSError, ValueError) as error:
        raise InvalidInput(field=printable(file), reason=getattr(error, "strerror", None) or str(error)) from error
    with stream:
        yield stream


def beginning(file: str, stream: BinaryIO) -> tuple[list[bytes], bool]:
    """The lines that must be read to tell what this is, and whether it is JSON Lines.

    The name says it. On standard input it is JSON Lines where one of the first two lines is a whole scenario; lines
    without text do not count, and one line alone is one in any case. No more is read than that.
    """
    if file != "-":
        return [], file.lower().endswith(".jsonl")
    read: list[bytes] = []
    with_text: list[bytes] = []
    while len(with_text) < _TELLING and (line := stream.readline()):
        read.append(line)
        if text := line.removeprefix(BOM_UTF8).strip():
            with_text.append(text)
    return read, len(with_text) == _TELLING and any(map(_whole_scenario, with_text))


_TELLING = 2


def _whole_scenario(line: bytes) -> bool:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and "event_type" in found


def text_of(data: bytes) -> str:
    """The text of a scenario; a byte order mark at its front is passed over."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(field="scenario", reason=f"is not UTF-8 text: byte {error.start} cannot be read") from error
