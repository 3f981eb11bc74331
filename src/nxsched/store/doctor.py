"""Look at a database and say what is wrong with it, each line with what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Connection, text

from nxsched.domain.findings import Finding
from nxsched.store import migrate
from nxsched.store.roles import ACROSS_TENANTS, FUNCTIONS, RIGHTS, worker_policy
from nxsched.store.schema import CLAIM_NO_OVERLAP, SCHEMA, TENANT_SETTING, metadata
from nxsched.store.tenants import sees_all_tenants
from nxsched.store.zone_data import zone_data

OLDEST: Final = 14
_CALLED: Final = {"app": "application's", "worker": "worker's"}
_CLOCKS: Final = 2.0
"""Seconds that the clocks of application and database may differ before it is worth a word."""

CONSTRAINTS: Final = {
    CLAIM_NO_OVERLAP: "EXCLUDE USING gist (int8range(host_no, host_no, '[]') WITH &&,"
    " tstzrange(busy_from, busy_until) WITH &&) WHERE (active)",
    # What is empty or endless would slip past the other.
    "claim_order_check": "CHECK (busy_from < busy_until AND isfinite(busy_from) AND isfinite(busy_until))",
}
"""What keeps the claims of a host apart: constraints of the table `claim`, as PostgreSQL prints them."""

_TENANTS: Final = f"tenant_id = (SELECT NULLIF(current_setting('{TENANT_SETTING}', true), ''))"

POLICIES: Final = {
    **{(table.name, f"{table.name}_of_tenant"): ("ALL", _TENANTS, _TENANTS) for table in metadata.tables.values()},
    **{(table, worker_policy(table, right)): (right, "true", "") for table, right in ACROSS_TENANTS},
}
"""Table and name of each policy: for which command it is, which rows it shows, which it lets be written."""

_LOOKS: Final = text(
    "SELECT current_user, coalesce(has_schema_privilege(to_regnamespace(:schema)::oid, 'USAGE'), true)"
)
_NOISE: Final = re.compile(r"::text\b|\bAS \"?\w+\"?")
_WORDS: Final = re.compile(r"'[^']*'|\w+|[^\w\s()']+")


def examine(connection: Connection, now: datetime) -> Iterator[Finding]:
    """All findings, by the role that `connection` logged in as; `now` is what the application's clock shows."""
    yield _server(connection)
    yield _encoding(connection)
    user, looks = connection.execute(_LOOKS, {"schema": SCHEMA}).one()
    if not looks:
        yield Finding(
            name="schema",
            well=False,
            found=f"{user} has no right to look into it",
            advice=f"as the owner of the tables: `nxsched migrate --url … --app-role {user}`",
        )
        return
    found = migrate.current(connection)
    yield Finding(
        name="schema",
        well=found == migrate.head(),
        found=f"revision {found}" if found else "no nxsched tables",
        advice=f"this version of nxsched is made for {migrate.head()}: upgrade nxsched"
        if found and found > migrate.head()
        else f"revision {migrate.head()} is needed: run `nxsched migrate --url …` as the owner of the tables",
    )
    yield _clock(connection, now)
    yield Finding(name="time zones", well=True, found=zone_data())
    if found is None:
        return
    yield from _role(connection)
    yield _security(connection)
    yield _policies(connection)
    yield _constraints(connection)
    yield _rights(connection, "app", 0)


def examine_worker(connection: Connection, app: str) -> Iterator[Finding]:
    """What matters of the worker's login, where one is used beside the application's, `app`."""
    user, looks = connection.execute(_LOOKS, {"schema": SCHEMA}).one()
    if not looks:
        yield Finding(
            name="worker",
            well=False,
            found=f"{user} has no right to look into the schema",
            advice=f"as the owner of the tables: `nxsched migrate --url … --worker-role {user}`",
        )
        return
    if user == app:
        yield Finding(
            name="worker",
            well=False,
            found=f"{user} is the application's role",
            advice="the application must not cross tenants: make another role for the worker, and name it with"
            " `nxsched migrate --worker-role`",
        )
        return
    if migrate.current(connection) is None:
        return
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
        advice=f"as the owner: `nxsched migrate --url … --worker-role {user}`",
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


def _encoding(connection: Connection) -> Finding:
    found = connection.execute(text("SHOW server_encoding")).scalar_one()
    return Finding(
        name="encoding",
        well=found == migrate.ENCODING,
        found=found,
        advice=f"nxsched needs {migrate.ENCODING}: make a database with that encoding, and move what there is into it",
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
    if superuser:
        return
    yield Finding(
        name="owner",
        well=not owns,
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


def _policies(connection: Connection) -> Finding:
    """Whether the policies are ours, and those that cross tenants do not hold for this login; no policy binds some."""
    rows = connection.execute(
        text(
            "SELECT tablename, policyname, permissive = 'PERMISSIVE' AS permissive, cmd, qual, with_check,"
            " roles = '{public}' AS for_all,"
            " 'public' = ANY(roles) OR NOT rolsuper AND EXISTS ("
            "   SELECT FROM pg_roles r WHERE r.rolname = ANY(roles) AND pg_has_role(r.oid, 'MEMBER')) AS for_me"
            " FROM pg_policies, pg_roles"
            " WHERE schemaname = :schema AND tablename = ANY(:tables) AND pg_roles.rolname = current_user"
            " ORDER BY tablename, policyname"
        ),
        {"schema": SCHEMA, "tables": [table.name for table in metadata.tables.values()]},
    ).all()
    across = {(table, worker_policy(table, right)) for table, right in ACROSS_TENANTS}
    wrong = [
        f"{name} on {table} is missing"
        for table, name in sorted(POLICIES.keys() - across - {(row.tablename, row.policyname) for row in rows})
    ]
    for row in rows:
        policy = (row.tablename, row.policyname)
        command, shows, lets = POLICIES.get(policy, ("", "", ""))
        if policy not in POLICIES:
            problem = "is none of nxsched's"
        elif not row.permissive or row.cmd != command or not (row.for_all or policy in across):
            problem = "is for other commands or roles than it should be"
        elif not (_same(row.qual, shows) and _same(row.with_check, lets)):
            problem = f"has another condition: {row.qual}" + (f", {row.with_check}" if row.with_check else "")
        elif policy in across and row.for_me:
            problem = "is for the worker, and holds for this login"
        else:
            continue
        wrong.append(f"{row.policyname} on {row.tablename} {problem}")
    return Finding(
        name="policies",
        well=not wrong,
        found="; ".join(wrong) or "as the migration made them",
        advice="tenants may see one another's rows, or not their own: as the owner, DROP POLICY what is wrong here, and"
        " make again what should be there: `nxsched migrate --sql` prints it",
    )


def _constraints(connection: Connection) -> Finding:
    rows = connection.execute(
        text(
            # It says so where one is deferrable, not valid or not enforced, and is then another one.
            "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = to_regclass(:table)"
        ),
        {"table": f"{SCHEMA}.claim"},
    )
    found: dict[str, str] = {row[0]: row[1] for row in rows}
    spoilt = [name for name, definition in CONSTRAINTS.items() if not _same(found.get(name), definition)]
    wrong = [f"{name} is {f'another one: {found[name]}' if name in found else 'missing'}" for name in spoilt]
    restored = [
        f"ALTER TABLE {SCHEMA}.claim DROP CONSTRAINT IF EXISTS {name}, ADD CONSTRAINT {name} {CONSTRAINTS[name]};"
        for name in spoilt
    ]
    return Finding(
        name="constraint",
        well=not wrong,
        found="; ".join(wrong) or f"{CLAIM_NO_OVERLAP} is there",
        advice=f"without it two bookings of one host can collide: stop booking, and as the owner: {' '.join(restored)}",
    )


def _same(printed: str | None, expected: str) -> bool:
    """Whether PostgreSQL prints what is expected, but for blanks, parentheses, and the types and names that it adds."""
    one, other = (_WORDS.findall(_NOISE.sub("", definition)) for definition in (printed or "", expected))
    return one == other


def _rights(connection: Connection, role: str, place: int) -> Finding:
    wanted = [(table, right) for table, rights in RIGHTS.items() for right in rights[place].split(", ")]
    user = connection.execute(text("SELECT current_user")).scalar_one()
    lacking = connection.execute(
        text(
            "SELECT privilege || ' on ' || name FROM unnest(CAST(:tables AS text[]), CAST(:rights AS text[]))"
            " WITH ORDINALITY AS wanted (name, privilege, number)"
            " WHERE NOT has_table_privilege(format('%I.%I', CAST(:schema AS text), name), privilege) ORDER BY number"
        ),
        {"tables": [one[0] for one in wanted], "rights": [one[1] for one in wanted], "schema": SCHEMA},
    ).scalars()
    functions = connection.execute(
        text(
            "SELECT 'EXECUTE on ' || name FROM unnest(CAST(:names AS text[])) AS wanted (name)"
            " WHERE NOT coalesce(has_function_privilege(to_regprocedure(:schema || '.' || name), 'EXECUTE'), false)"
        ),
        {"names": list(FUNCTIONS) if role == "app" else [], "schema": SCHEMA},
    ).scalars()
    lacks = ", ".join([*lacking, *functions])
    return Finding(
        name="rights" if role == "app" else f"{role}'s rights",
        well=not lacks,
        found=f"lacks {lacks}" if lacks else f"all that the {_CALLED[role]} role needs",
        advice=f"as the owner: `nxsched migrate --url … --{role}-role {user}`",
    )
