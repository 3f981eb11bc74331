"""The tables of `docs/events.md` are written from the schemas of events: `python tests/docs/events.py` writes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nxsched import event_schema
from nxsched.domain.events import KINDS, REMINDER

PAGE = Path(__file__).parents[2] / "docs" / "events.md"

_TYPES = {"string": "text", "integer": "integer", "object": "object", "array": "list", "null": "null"}


def _kinds() -> Iterator[str]:
    yield "| kind | | `booking.status` |"
    yield "|---|---|---|"
    for kind in (*KINDS, REMINDER):
        schema = event_schema(kind)
        status = schema.get("properties", {}).get("booking", {}).get("properties", {}).get("status", {})
        states = status.get("enum", [status["const"]] if "const" in status else [])
        shown = ", ".join(f"`{one}`" for one in states) or "any"
        yield f"| `{kind}` | {schema['description']} | {shown} |"


def _payload() -> Iterator[str]:
    schema = event_schema(REMINDER)
    payload = schema["$defs"]["payload"]
    yield "| field | type | |"
    yield "|---|---|---|"
    for name, one in (*payload["properties"].items(), ("reminder", schema["properties"]["reminder"])):
        yield from _rows(name, one, payload["$defs"])


def _rows(path: str, schema: dict[str, Any], defs: dict[str, Any]) -> Iterator[str]:
    """A field, and what is in it."""
    said = schema.get("description")
    while "$ref" in schema:
        schema = defs[schema["$ref"].rpartition("/")[2]]
        said = said or schema.get("description")
    branches = list(_branches(schema, defs))
    types = list(dict.fromkeys(map(_type, branches)))
    types.sort(key=lambda one: one == "null")
    yield f"| `{path}` | {' or '.join(types)} | {said or ''} |"
    if path == "reminder.to":
        return  # as an attendee, or a host
    for one in branches:
        for name, field in one.get("properties", {}).items():
            yield from _rows(f"{path}.{name}", field, defs)
        items = _resolved(one.get("items", {}), defs)
        for name, field in items.get("properties", {}).items():
            yield from _rows(f"{path}[].{name}", field, defs)


def _branches(schema: dict[str, Any], defs: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What it may be."""
    schema = _resolved(schema, defs)
    if "oneOf" not in schema:
        yield schema
    for one in schema.get("oneOf", []):
        yield from _branches(one, defs)


def _resolved(schema: dict[str, Any], defs: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = defs[schema["$ref"].rpartition("/")[2]]
    return schema


def _type(schema: dict[str, Any]) -> str:
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return "one of the states"
    if "Z$" in schema.get("pattern", ""):
        return "instant"
    if schema.get("format") == "uuid":
        return "UUID" if schema["type"] == "string" else "UUID or null"
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return " or ".join(_TYPES[one] for one in types)


def written(page: str) -> str:
    """The page with its tables as they are now."""
    for name, rows in {"kinds": _kinds, "payload": _payload}.items():
        head, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, _, rest = page.partition(head)
        page = before + head + "\n" + "\n".join(rows()) + "\n\n" + end + rest.partition(end)[2]
    return page


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
