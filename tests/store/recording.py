"""What an engine really sends: every statement with its parameters, and how many rows came back."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import pytest
from psycopg.sql import Literal
from sqlalchemy import Connection, Engine, event

from nxsched.store import changes, standing

Json = dict[str, Any]

_PARAMETER: Final = re.compile(r"%\((\w+)\)s")


@dataclass(frozen=True)
class Statement:
    """One statement as the driver got it."""

    sql: str
    parameters: Any
    rows: int

    @property
    def is_savepoint(self) -> bool:
        """Whether it only begins or ends a savepoint."""
        return self.sql.split(maxsplit=1)[0] in {"SAVEPOINT", "RELEASE", "ROLLBACK"}

    @property
    def is_ring(self) -> bool:
        """Whether it only wakes the relays, which a process does at most every 50 ms."""
        return "pg_notify" in self.sql


@contextmanager
def recorded(engine: Engine) -> Iterator[list[Statement]]:
    """The statements of a block, savepoints and what wakes relays apart, as they come.

    Nobody has to wait here: what takes long does so because the machine is busy, and is not read again.
    """
    found: list[Statement] = []

    def listen(_connection: Any, cursor: Any, sql: str, parameters: Any, *_: Any) -> None:  # noqa: ANN401
        statement = Statement(sql, parameters, cursor.rowcount)
        if not statement.is_savepoint and not statement.is_ring:
            found.append(statement)

    event.listen(engine, "after_cursor_execute", listen)
    patience = pytest.MonkeyPatch()
    for module in (standing, changes):
        patience.setattr(module, "NOTICED", timedelta(minutes=1))
    try:
        yield found
    finally:
        patience.undo()
        event.remove(engine, "after_cursor_execute", listen)


def plan(connection: Connection, statement: Statement, *options: str) -> Json:
    """How the database does it in our transactions: with one plan for all parameters. With ANALYZE, how it did."""
    how = ", ".join((*options, "FORMAT JSON"))
    driver: Any = connection.connection.driver_connection
    names = [*dict.fromkeys(_PARAMETER.findall(statement.sql))]
    prepared = _PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", statement.sql)
    values = ", ".join(Literal(statement.parameters[name]).as_string(driver) for name in names)
    driver.execute("SET LOCAL plan_cache_mode = force_generic_plan")
    driver.execute(f"PREPARE planned AS {prepared}")
    found = driver.execute(f"EXPLAIN ({how}) EXECUTE planned" + f" ({values})" * bool(names)).fetchone()[0]
    driver.execute("DEALLOCATE planned")
    top: Json = found[0]["Plan"]
    return top


def nodes(top: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every step of a plan."""
    yield top
    for below in top.get("Plans", ()):
        yield from nodes(below)
