"""Statements written as SQL."""

from __future__ import annotations

from typing import Final

from sqlalchemy import TextualSelect, column, text


def statement(sql: str, columns: str) -> TextualSelect:
    """SQL with the names of its columns, in order: how its rows are read is then worked out once, and not each time."""
    return text(sql).columns(*map(column, columns.split()))


GROUND: Final = "kind no key name address words flag starts ends names over"
"""The columns of all that slots are judged by: settings have words, and what is taken has times."""
