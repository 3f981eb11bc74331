"""Look at a database and say what is wrong with it, each line with what to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Connection, text

from nxsched.store import migrate
from nxsched.store.roles import RIGHTS
from nxsched.store.schema import CLAIM_NO_OVERLAP, SCHEMA, metadata
from nxsched.store.tenants import sees_all_tenants

OLDEST: Final = 14
_CALLED: Final = {"app": "application's", "worker": "worker's"}
_CLOCKS: Final = 2.0
"""Seconds that the clocks of application and database may differ before it is worth a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at: whether it is well, what was found, and what to do if it is not."""

    name: str
    well: bool
    found: str
    advice: str = ""


def examine(connection: Connection, now: datetime) -> Iterator[Finding]:
    """All findings, by the role that `connection` logged in as; `now` is what the application's clock shows."""
    yield _server(connection)
    found = migrate.current(connection)
    yield Finding(
        name="schema",
        well=found == migrate.head(),
        found=f"revision {found}" if found else "no nxsched tables",
        advice=f"revision {migrate.head()} is needed: run `nxsched migrate --url …` as the owner of the tables",
    )
    yield _clock(connection, now)
    if found is None:
        return
    yield from _role(connection)
    yield _security(connection)
    yield _constraint(connection)
    yield _rights(connection, "app", 0)


def examine_worker(connection: Connection, app: str) -> Iterator[Finding]:
    """What matters of the worker's login, where one is used beside the application's, `app`."""
    if migrate.current(connection) is None:
        return
    user = connection.execute(text("SELECT current_user")).scalar_one()
    lent = connection.execute(
        text("SELECT pg_has_role(:app, current_user, 'MEMBER') AND NOT rolsuper FROM pg_roles WHERE rolname = :app"),
        {"app": app},
    ).scalar_one()
    yield Finding(
        name="worker",
        well=not lent,
        found=f"{user}, {'and' if lent else 'not'} lent to {app}",
        advice=f"the application could cross tenants: REVOKE {user} FROM {app}, and log in as two roles",
    )
    everyone = sees_all_tenants(connection)
    yield Finding(
        name="worker's view",
        well=everyone,
        found="sees all tenants" if everyone else "sees no tenant",
        advice="as the owner: `nxsched migrate --url … --worker-role THIS_ROLE`",
    )
    yield _rights(connection, "worker", 1)


def _server(connection: Connection) -> Finding:
    number = int(connection.execute(text("SHOW server_version_num")).scalar_one())
    return Finding(
        name="server",
        well=number // 10_000 >= OLDEST,
        found=f"PostgreSQL {connection.execute(text('SHOW server_version')).scalar_one()}",
        advice=f"nxsched needs PostgreSQL {OLDEST} or later: upgrade the server",
    )


def _clock(connection: Connection, now: datetime) -> Finding:
    theirs = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    apart = abs((theirs.astimezone(UTC) - now).total_seconds())
    return Finding(
        name="clock",
        well=apart < _CLOCKS,
        found="less than a second apart" if apart < 1 else f"{apart:.0f} seconds apart",
        advice="the database's clock decides, so bookings stay right; let both machines follow a time server",
    )


def _role(connection: Connection) -> Iterator[Finding]:
    user, superuser, bypasses = connection.execute(
        text("SELECT rolname, rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user")
    ).one()
    owns = connection.execute(
        text(
            "SELECT count(*) FROM pg_class"
            " WHERE relnamespace = to_regnamespace(:schema) AND pg_has_role(relowner, 'MEMBER')"
        ),
        {"schema": SCHEMA},
    ).scalar_one()
    kind = "a superuser" if superuser else "bypasses row-level security" if bypasses else "an ordinary role"
    yield Finding(
        name="role",
        well=not (superuser or bypasses),
        found=f"{user}, {kind}",
        advice="tenants are not kept apart for such a role: log in as a role with LOGIN and nothing else",
    )
    yield Finding(
        name="owner",
        well=bool(superuser) or not owns,
        found=f"{user} {'owns the tables' if owns else 'does not own the tables'}",
        advice="who owns the tables can drop their rules: migrate as another role and name this one with --app-role",
    )


def _security(connection: Connection) -> Finding:
    forced = set(
        connection.execute(
            text(
                "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(:schema)"
                " AND relrowsecurity AND relforcerowsecurity"
            ),
            {"schema": SCHEMA},
        ).scalars()
    )
    without = sorted({table.name for table in metadata.tables.values()} - forced)
    return Finding(
        name="row-level security",
        well=not without,
        found=f"missing on {', '.join(without)}" if without else "enabled and forced on every table",
        advice="as the owner: ALTER TABLE … ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
    )


def _constraint(connection: Connection) -> Finding:
    valid = connection.execute(
        text(
            "SELECT count(*) FROM pg_constraint WHERE conname = :name AND contype = 'x' AND convalidated"
            " AND conrelid = to_regclass(:table)"
        ),
        {"name": CLAIM_NO_OVERLAP, "table": f"{SCHEMA}.claim"},
    ).scalar_one()
    return Finding(
        name="constraint",
        well=bool(valid),
        found=f"{CLAIM_NO_OVERLAP} is {'there' if valid else 'missing'}",
        advice="without it two bookings of one host can collide: stop booking, and restore the table's constraint",
    )


def _rights(connection: Connection, role: str, place: int) -> Finding:
    lacking = [
        f"{right} on {table}"
        for table, rights in RIGHTS.items()
        for right in rights[place].split(", ")
        if not connection.execute(
            text("SELECT has_table_privilege(:table, :right)"), {"table": f"{SCHEMA}.{table}", "right": right}
        ).scalar_one()
    ]
    return Finding(
        name="rights" if role == "app" else f"{role}'s rights",
        well=not lacking,
        found=f"lacks {', '.join(lacking)}" if lacking else f"all that the {_CALLED[role]} role needs",
        advice=f"as the owner: `nxsched migrate --url … --{role}-role THIS_ROLE`",
    )
