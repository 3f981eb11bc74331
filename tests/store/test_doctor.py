"""`nxsched migrate` and `nxsched doctor`: what they print, and what they find in a spoilt database."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

import redises
from nxsched import Scheduler
from nxsched.cli import main
from nxsched.domain.findings import Finding
from nxsched.embedded import APP_ROLE, OWNER, WORKER_ROLE
from nxsched.store.doctor import CONSTRAINTS, examine
from store.conftest import Database

MINE = "(tenant_id = ( SELECT NULLIF(current_setting('nxsched.tenant_id'::text, true), ''::text) AS \"nullif\"))"
ANEW = "DROP POLICY {0} ON nxsched.{1}; CREATE POLICY {0} ON nxsched.{1} {2}"


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(main, arguments, env={"COLUMNS": "100", "NXSCHED_URL": "", **environment})


def findings(db: Database, role: str = APP_ROLE, now: datetime | None = None) -> dict[str, Finding]:
    engine = {APP_ROLE: db.app, OWNER: db.owner, WORKER_ROLE: db.worker, "postgres": db.superuser}[role]
    with engine.connect() as connection:
        return {one.name: one for one in examine(connection, now or datetime.now(UTC))}


def unwell(db: Database, role: str = APP_ROLE) -> list[str]:
    return [one.name for one in findings(db, role).values() if not one.well]


@pytest.fixture(params=["LATIN1", "SQL_ASCII"])
def other(request: pytest.FixtureRequest, empty_db: Database) -> Iterator[str]:
    """A database of the owner's in another encoding."""
    name = f"{empty_db.name}_{request.param.lower()}"
    with empty_db.superuser.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.exec_driver_sql(
            f"CREATE DATABASE {name} OWNER {OWNER} ENCODING '{request.param}' LOCALE 'C' TEMPLATE template0"
        )
        yield empty_db.server.url(OWNER, name)
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_migrated_database_is_well_in_the_eyes_of_the_applications_role(db: Database) -> None:
    assert unwell(db) == []
    result = run("doctor", "--url", db.url(APP_ROLE))
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()[1:]] == ["ok"] * 11
    assert run("doctor", NXSCHED_URL=db.url(APP_ROLE)).exit_code == 0


def test_the_doctor_names_roles_that_are_too_mighty(db: Database) -> None:
    assert unwell(db, "postgres") == ["role"]
    assert "owner" not in findings(db, "postgres")
    assert unwell(db, OWNER) == ["owner"]
    result = run("doctor", "--url", db.url(OWNER))
    assert result.exit_code == 1
    assert "migrate as another role and name this one with --app-role" in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    ("statement", "name", "found"),
    [
        ("ALTER TABLE nxsched.claim DROP CONSTRAINT claim_no_overlap", "constraint", "claim_no_overlap is missing"),
        ("ALTER TABLE nxsched.host NO FORCE ROW LEVEL SECURITY", "row-level security", "missing on host"),
        ("ALTER TABLE nxsched.booking DISABLE ROW LEVEL SECURITY", "row-level security", "missing on booking"),
        ("DROP POLICY booking_of_tenant ON nxsched.booking", "policies", "booking_of_tenant on booking is missing"),
        (
            f"CREATE POLICY report ON nxsched.booking FOR SELECT TO {APP_ROLE} USING (true)",
            "policies",
            "report on booking is none of nxsched's",
        ),
        ("CREATE POLICY report ON nxsched.host USING (true)", "policies", "report on host is none of nxsched's"),
        (
            "ALTER POLICY host_of_tenant ON nxsched.host USING (true)",
            "policies",
            f"host_of_tenant on host has another condition: true, {MINE}",
        ),
        (
            "ALTER POLICY claim_of_tenant ON nxsched.claim WITH CHECK (tenant_id > '')",
            "policies",
            f"claim_of_tenant on claim has another condition: {MINE}, (tenant_id > ''::text)",
        ),
        (
            f"ALTER POLICY tenant_of_tenant ON nxsched.tenant TO {OWNER}",
            "policies",
            "tenant_of_tenant on tenant is for other commands or roles than it should be",
        ),
        (
            f"ALTER POLICY outbox_event_select_by_worker ON nxsched.outbox_event TO {WORKER_ROLE}, {APP_ROLE}",
            "policies",
            "outbox_event_select_by_worker on outbox_event is for the worker, and holds for this login",
        ),
        (
            "ALTER POLICY outbox_event_delete_by_worker ON nxsched.outbox_event TO PUBLIC",
            "policies",
            "outbox_event_delete_by_worker on outbox_event is for the worker, and holds for this login",
        ),
        (
            ANEW.format("tenant_select_by_worker", "tenant", f"FOR ALL TO {WORKER_ROLE} USING (true)"),
            "policies",
            "tenant_select_by_worker on tenant is for other commands or roles than it should be",
        ),
        (
            ANEW.format("host_of_tenant", "host", f"AS RESTRICTIVE USING {MINE} WITH CHECK {MINE}"),
            "policies",
            "host_of_tenant on host is for other commands or roles than it should be",
        ),
        (f"REVOKE INSERT ON nxsched.claim FROM {APP_ROLE}", "rights", "lacks INSERT on claim"),
        ("UPDATE nxsched.schema_version SET version_num = '0000'", "schema", "revision 0000"),
    ],
)
def test_the_doctor_finds_what_was_spoilt(db: Database, statement: str, name: str, found: str) -> None:
    with db.superuser.begin() as connection:
        connection.execute(text(statement))
    assert unwell(db) == [name]
    assert findings(db)[name].found == found


EXCLUDE = "EXCLUDE USING gist ({host}tstzrange(busy_from, busy_until) WITH &&){rest}"
NUMBER = "int8range(host_no, host_no, '[]'::text) WITH &&, "


@pytest.mark.parametrize(
    "definition",
    [
        EXCLUDE.format(host="", rest=" WHERE (active)"),
        EXCLUDE.format(host=NUMBER, rest=""),
        EXCLUDE.format(host=NUMBER, rest=" WHERE ((active AND (place > 0)))"),
        EXCLUDE.format(host=NUMBER, rest=" WHERE ((NOT active))"),
        EXCLUDE.format(host=NUMBER.replace("[]", "()"), rest=" WHERE (active)"),
        EXCLUDE.format(host=NUMBER, rest=" WHERE (active) DEFERRABLE INITIALLY DEFERRED"),
        "UNIQUE (tenant_id, host_no, busy_from)",
    ],
)
def test_another_constraint_of_the_name_is_noticed(db: Database, definition: str) -> None:
    with db.superuser.begin() as connection:
        connection.execute(text("ALTER TABLE nxsched.claim DROP CONSTRAINT claim_no_overlap"))
        connection.execute(text(f"ALTER TABLE nxsched.claim ADD CONSTRAINT claim_no_overlap {definition}"))
    assert unwell(db) == ["constraint"]
    assert findings(db)["constraint"].found == f"claim_no_overlap is another one: {definition}"


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_what_the_doctor_says_brings_a_constraint_back(db: Database, name: str) -> None:
    with db.superuser.begin() as connection:
        connection.execute(text(f"ALTER TABLE nxsched.claim DROP CONSTRAINT {name}"))
    advice = findings(db)["constraint"].advice
    with db.owner.begin() as connection:
        connection.exec_driver_sql(advice[advice.index("ALTER TABLE") :])
    assert unwell(db) == []


def test_the_doctor_names_the_command_for_a_role_without_rights(db: Database, stranger: str) -> None:
    result = run("doctor", "--url", db.url(stranger), "--worker-url", db.url(stranger))
    assert result.exit_code == 1
    said = " ".join(result.stdout.split())
    assert f"{stranger} has no right to look into it" in said
    assert f"--app-role {stranger}" in said
    assert f"--worker-role {stranger}" in said


@pytest.mark.parametrize("definition", ["CHECK ((busy_from < busy_until))", "CHECK (true) NOT VALID"])
def test_a_constraint_that_lets_endless_times_in_is_noticed(db: Database, definition: str) -> None:
    with db.superuser.begin() as connection:
        connection.execute(text("ALTER TABLE nxsched.claim DROP CONSTRAINT claim_order_check"))
        connection.execute(text(f"ALTER TABLE nxsched.claim ADD CONSTRAINT claim_order_check {definition}"))
    assert findings(db)["constraint"].found.startswith(f"claim_order_check is another one: {definition}")


def test_the_statements_of_a_migration_make_a_policy_well_again(db: Database) -> None:
    with db.superuser.begin() as connection:
        connection.execute(text("DROP POLICY host_of_tenant ON nxsched.host"))
    printed = run("migrate", "--sql").stdout.split(";")
    (statement,) = (one for one in printed if "CREATE POLICY host_of_tenant" in one)
    with db.owner.begin() as connection:
        connection.exec_driver_sql(statement)
    assert unwell(db) == []


def test_the_doctor_looks_at_the_workers_login_too(db: Database) -> None:
    urls = ("--url", db.url(APP_ROLE), "--worker-url")
    result = run("doctor", *urls, db.url(WORKER_ROLE))
    assert result.exit_code == 0
    assert f"{WORKER_ROLE}, not lent to {APP_ROLE}" in result.stdout
    assert "sees all tenants" in result.stdout
    assert "all that the worker's role needs" in result.stdout
    with db.superuser.begin() as connection:
        connection.execute(text("DROP POLICY tenant_select_by_worker ON nxsched.tenant"))
        connection.execute(text(f"REVOKE DELETE ON nxsched.outbox_event FROM {WORKER_ROLE}"))
    result = run("doctor", *urls, db.url(WORKER_ROLE))
    assert result.exit_code == 1
    assert "sees no tenant" in result.stdout
    assert "lacks DELETE on outbox_event" in result.stdout
    assert f"--worker-role {WORKER_ROLE}" in result.stdout


def test_the_doctor_sees_a_worker_that_is_the_application(db: Database) -> None:
    result = run("doctor", "--url", db.url(APP_ROLE), "--worker-url", db.url(APP_ROLE))
    assert result.exit_code == 1
    assert f"{APP_ROLE} is the application's role" in result.stdout
    assert "make another role for the worker" in " ".join(result.stdout.split())


def test_the_doctor_sees_a_worker_that_is_lent_to_the_application(db: Database, stranger: str) -> None:
    with db.superuser.begin() as connection:
        connection.exec_driver_sql(f"GRANT {WORKER_ROLE} TO {stranger}")
    result = run("doctor", "--url", db.url(stranger), "--worker-url", db.url(WORKER_ROLE))
    assert result.exit_code == 1
    assert f"{WORKER_ROLE}, and lent to {stranger}" in " ".join(result.stdout.split())
    assert "log in as two roles" in " ".join(result.stdout.split())


def test_a_login_that_no_policy_binds_is_warned_of_once(db: Database, caplog: pytest.LogCaptureFixture) -> None:
    for role, warnings in ((APP_ROLE, 0), ("postgres", 1)):
        caplog.clear()
        with Scheduler(db.server.socket_uri(role, db.name)) as scheduler:
            scheduler.verify()
            scheduler.verify()
        assert [one.levelname for one in caplog.records] == ["WARNING"] * warnings
    assert caplog.messages[0].startswith("row-level security, which keeps tenants apart, does not bind postgres")


def test_the_doctor_sees_clocks_that_differ(db: Database) -> None:
    now = datetime.now(UTC)
    assert not findings(db, now=now + timedelta(hours=1))["clock"].well
    assert findings(db, now=now - timedelta(hours=1))["clock"].found.endswith(" seconds apart")
    assert findings(db)["clock"].found == "less than a second apart"


def test_of_an_empty_database_the_doctor_says_to_migrate(empty_db: Database) -> None:
    assert unwell(empty_db) == ["schema"]
    result = run("doctor", "--url", empty_db.url(APP_ROLE))
    assert result.exit_code == 1
    assert "no nxsched tables" in result.stdout
    assert "run `nxsched migrate --url" in " ".join(result.stdout.split())


def test_a_database_in_another_encoding_is_named_and_not_migrated(other: str) -> None:
    result = run("migrate", "--url", other)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "nxsched needs UTF8: make one with CREATE DATABASE … ENCODING 'UTF8'" in " ".join(result.stderr.split())
    result = run("doctor", "--url", other)
    assert result.exit_code == 1
    assert "nxsched needs UTF8" in " ".join(result.stdout.split())


def test_the_command_migrates_and_says_where_the_tables_are(empty_db: Database) -> None:
    arguments = ("migrate", "--url", empty_db.url(OWNER), "--app-role", APP_ROLE, "--worker-role", WORKER_ROLE)
    for _ in range(2):
        result = run(*arguments)
        assert (result.exit_code, result.stdout, result.stderr) == (0, "The tables are at revision 0001.\n", "")
    assert unwell(empty_db) == []


@pytest.mark.parametrize("name", ["migrate", "doctor"])
def test_what_goes_wrong_is_one_line_and_status_2(name: str, empty_db: Database) -> None:
    for arguments, line in (
        (("--url", "postgresql://app@127.0.0.1:1/x"), "the database cannot be reached: "),
        (("--url", "mysql://x/y"), '--url: must begin with postgresql://, not "mysql"'),
    ):
        result = run(name, *arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith(line)
        assert result.stderr.count("\n") == 1
    assert "Name the database with --url or in NXSCHED_URL." in run(name).stderr
    unknown = run("migrate", "--url", empty_db.url(OWNER), "--to", "0009")
    assert (unknown.exit_code, unknown.stderr) == (2, '--to: there is no revision "0009"; there are 0001, and head\n')


def test_the_statements_of_a_migration_are_printed_and_nothing_is_run(empty_db: Database) -> None:
    result = run("migrate", "--sql", "--app-role", "my app", NXSCHED_URL=empty_db.url(OWNER))
    assert result.exit_code == 0
    assert result.stdout.startswith("BEGIN;\n")
    assert result.stdout.endswith("COMMIT;\n")
    assert 'GRANT USAGE ON SCHEMA nxsched TO "my app";' in result.stdout
    assert unwell(empty_db) == ["schema"]


def test_the_doctor_looks_at_a_redis(db: Database) -> None:
    with redises.started() as server:
        result = run("doctor", "--url", db.url(APP_ROLE), "--redis", server.url)
        assert result.exit_code == 0, result.stdout
        told = " ".join(result.stdout.split())
        assert re.search(r"ok redis Redis [\d.]+ ok redis role master", told)
        assert re.search(r"ok redis locks a lock was taken, and given back ok redis answers in \d+ ms", told)
        assert "ok redis limits an attempt was counted" in told
        assert [key for key in server.client.scan_iter() if not key.startswith(b"nxsched:rate:")] == []
        server.client.acl_setuser("default", enabled=True, nopass=True, commands=["-get"], reset=False)
        result = run("doctor", "--url", db.url(APP_ROLE), "--redis", server.url)
        assert result.exit_code == 1
        told = " ".join(result.stdout.split())
        assert "NO redis limits attempts cannot be counted" in told
        assert "ok redis locks" in told
        server.client.acl_setuser("default", enabled=True, nopass=True, commands=["-evalsha"], reset=False)
        result = run("doctor", "--url", db.url(APP_ROLE), "--redis", server.url)
        assert result.exit_code == 1
        assert "NO redis locks no lock could be taken" in " ".join(result.stdout.split())
        zset = ["+zadd", "+zrem", "+zcard", "+zscore", "+zrange", "+zremrangebyscore"]
        may = ["+evalsha", "+eval", *zset, "+pttl", "+pexpire", "+time"]
        server.client.acl_setuser("app", enabled=True, passwords=["+secret"], commands=may, keys=["nxsched:*"])
        theirs = server.url.replace("redis://", "redis://app:secret@")
        told = " ".join(run("doctor", "--url", db.url(APP_ROLE), "--redis", theirs).stdout.split())
        assert "ok redis its user may not ask for its version (+info) ok redis locks a lock was taken" in told
        assert "NO redis limits" in told
    gone = run("doctor", "--url", db.url(APP_ROLE), NXSCHED_REDIS=server.url)
    assert gone.exit_code == 1
    assert "NO redis ConnectionError: " in " ".join(gone.stdout.split())
    wrong = run("doctor", "--url", db.url(APP_ROLE), "--redis", "http://x")
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("--redis: must be a URL such as redis://cache/0")
