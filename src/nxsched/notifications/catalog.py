"""The words of each language: a few that every message needs, and templates for who saves none."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any, Final

from nxsched.domain.messages import Audience, Channel, MessageTemplate, fallbacks

LOCALES: Final = ("de", "en", "fr")
"""The languages that are built in."""


@cache
def _read(locale: str) -> dict[str, Any]:
    return tomllib.loads((files(__name__.rpartition(".")[0]) / f"{locale}.toml").read_text(encoding="utf-8"))


def words(locale: str) -> dict[str, str]:
    """Single words, in that language or the nearest that is built in."""
    found: dict[str, str] = _read(next(one for one in fallbacks(locale) if one in LOCALES))["words"]
    return found


@cache
def builtin(kind: str, channel: Channel, locale: str, to: Audience) -> MessageTemplate | None:
    """The template for who has saved none in that language; `None` for a kind that nobody is written to about."""
    found: dict[str, str] | None = _read(locale)[to].get(kind) if locale in LOCALES else None
    if found is None:
        return None
    if channel == "sms":
        return MessageTemplate(kind=kind, channel="sms", locale=locale, to=to, text=found["sms"])
    return MessageTemplate(kind=kind, locale=locale, to=to, subject=found["subject"], text=found["text"])
