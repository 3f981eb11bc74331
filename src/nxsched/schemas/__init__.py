"""The shape of each event's payload as JSON Schema (draft 2020-12): the files beside this one."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from nxsched.domain import checks
from nxsched.domain.events import KINDS, REMINDER


def event_schema(kind: str) -> dict[str, Any]:
    """The JSON Schema of the payloads of one kind of event, complete in itself. Raises `InvalidInput`.

    A payload's `format` is the version of this shape: it rises when a reader has to change, and not where fields are
    added, so a reader ignores what it does not know.
    """
    found = _read(checks.one_of("kind", kind, (*KINDS, REMINDER)))
    return {**found, "$defs": {"payload": _read("payload")}}


def _read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((files(__name__) / f"{name}.json").read_text(encoding="utf-8"))
    return found
