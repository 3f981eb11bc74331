"""Migrations on real servers: from nothing to the tables that the code knows, and the rights of each role."""

from __future__ import annotations

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, func, select, text
from sqlalchemy.exc import DBAPIError

from nxsched import Scheduler
from nxsched.embedded import APP_ROLE, OWNER, WORKER_ROLE
from nxsched.errors import InvalidInput, SchemaOutdated, StoreUnavailable
from nxsched.store import migrate
from nxsched.store.roles import ACROSS_TENANTS, RIGHTS
from nxsched.store.schema import SCHEMA, VERSION_TABLE, metadata
from store.conftest import Database


def test_an_empty_database_is_outdated_and_the_error_says_what_to_run(empty_db: Database) -> None:
    with empty_db.owner.connect() as connection, pytest.raises(SchemaOutdated, match="run `nxsched migrate`") as caught:
        migrate.verify(connection)
    assert (caught.value.found, caught.value.wanted, caught.value.code) == (None, migrate.head(), "schema_outdated")


def test_tables_and_metadata_agree(db: Database) -> None:
    options = {
        "include_schemas": True,
        "compare_server_default": True,
        "version_table": VERSION_TABLE,
        "version_table_schema": SCHEMA,
        "include_name": lambda name, kind, _parents: kind != "schema" or name == SCHEMA,
    }
    with db.owner.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []


_OURS = "c.relnamespace = 'nxsched'::regnamespace AND c.relkind = 'r' AND c.relname <> :versions"

_CATALOG = {
    "columns": """
        SELECT c.relname || '.' || attname, concat_ws(' ', format_type(atttypid, atttypmod), attnotnull,
            'identity:', attidentity, 'generated:', attgenerated, 'default:', pg_get_expr(adbin, adrelid))
        FROM pg_class c JOIN pg_attribute ON attrelid = c.oid
        LEFT JOIN pg_attrdef ON adrelid = c.oid AND adnum = attnum
        WHERE [ours] AND attnum > 0 AND NOT attisdropped""",
    "constraints": """
        SELECT c.relname || ' ' || conname, concat_ws(' ', pg_get_constraintdef(o.oid), convalidated)
        FROM pg_class c JOIN pg_constraint o ON conrelid = c.oid WHERE [ours]""",
    "indexes": """
        SELECT x.relname, pg_get_indexdef(x.oid)
        FROM pg_class c JOIN pg_index ON indrelid = c.oid JOIN pg_class x ON x.oid = indexrelid WHERE [ours]""",
}
"""All that the metadata says of the tables, as the server writes it."""

_BESIDE = {
    "how they are stored": "SELECT c.relname, c.reloptions::text FROM pg_class c WHERE [ours]",
    "row-level security": """
        SELECT c.relname, concat_ws(' ', c.relrowsecurity, c.relforcerowsecurity) FROM pg_class c WHERE [ours]""",
    "policies": """
        SELECT tablename || ' ' || policyname, concat_ws(' ', permissive, roles, cmd, qual, with_check)
        FROM pg_policies JOIN pg_class c ON c.relname = tablename WHERE schemaname = 'nxsched' AND [ours]""",
}
"""What only the migration says."""


def _catalog(db: Database, queries: dict[str, str]) -> dict[str, dict[str, str]]:
    """What the server says of the tables, by name; checks and exclusions too, which Alembic does not compare."""
    found: dict[str, dict[str, str]] = {}
    with db.owner.connect() as connection:
        for kind, query in queries.items():
            rows = connection.execute(text(query.replace("[ours]", _OURS)), {"versions": VERSION_TABLE}).all()
            assert rows, kind
            found[kind] = {row[0]: row[1] for row in rows}
            assert len(found[kind]) == len(rows), kind
    return found


def test_the_migration_makes_exactly_what_the_metadata_says(db: Database, empty_db: Database) -> None:
    with empty_db.owner.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
        metadata.create_all(connection)
    made = _catalog(db, _CATALOG)
    assert made == _catalog(empty_db, _CATALOG)
    tables = {table.name for table in metadata.tables.values()}
    assert {name.split(".")[0] for name in made["columns"]} == tables
    assert {name.split()[0] for name in made["constraints"]} == tables
    assert made["constraints"]["claim claim_no_overlap"].startswith("EXCLUDE USING gist")
    assert made["indexes"].keys() >= {
        "claim_no_overlap",
        "booking_attendee_address",
        *(f"{one}_pkey" for one in tables),
    }


def test_an_upgrade_can_be_repeated(db: Database) -> None:
    with db.owner.begin() as connection:
        migrate.upgrade(connection, app_role=APP_ROLE, worker_role=WORKER_ROLE)
        migrate.verify(connection)
        assert migrate.current(connection) == migrate.head()


def test_an_upgrade_is_part_of_the_callers_transaction(empty_db: Database) -> None:
    with empty_db.owner.connect() as connection:
        with connection.begin() as transaction:
            migrate.upgrade(connection)
            assert connection.execute(text("SELECT current_setting('row_security')")).scalar() == "on"
            transaction.rollback()
        assert migrate.current(connection) is None
        assert connection.execute(text("SELECT to_regnamespace('nxsched')")).scalar() is None


def test_the_schema_may_be_there_already(empty_db: Database) -> None:
    with empty_db.owner.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
        migrate.upgrade(connection, to="0001")
        migrate.verify(connection)


def test_the_sql_of_an_upgrade_makes_what_the_upgrade_makes(db: Database, empty_db: Database) -> None:
    script = migrate.sql(app_role=APP_ROLE, worker_role=WORKER_ROLE)
    with empty_db.owner.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(script)
        migrate.verify(connection)
    everything = _CATALOG | _BESIDE
    assert _catalog(empty_db, everything) == _catalog(db, everything)
    assert _rights(empty_db) == _rights(db)


def test_a_revision_that_is_not_known_is_refused_by_name(empty_db: Database) -> None:
    with empty_db.owner.begin() as connection, pytest.raises(InvalidInput, match=r'^to: there is no revision "0099"'):
        migrate.upgrade(connection, to="0099")


@pytest.mark.parametrize(("app", "worker", "field"), [("nobody", None, "app_role"), (None, "nobody", "worker_role")])
def test_a_role_that_does_not_exist_is_refused_before_anything_is_made(
    empty_db: Database, app: str | None, worker: str | None, field: str
) -> None:
    with empty_db.owner.begin() as connection:
        with pytest.raises(InvalidInput, match='there is no role "nobody"') as caught:
            migrate.upgrade(connection, app_role=app, worker_role=worker)
        assert caught.value.field == field
        assert migrate.current(connection) is None


def test_application_and_worker_cannot_be_one_role(empty_db: Database) -> None:
    with empty_db.owner.begin() as connection, pytest.raises(InvalidInput, match="another role"):
        migrate.upgrade(connection, app_role=APP_ROLE, worker_role=APP_ROLE)
    with pytest.raises(InvalidInput, match="another role") as caught:
        migrate.sql(app_role=APP_ROLE, worker_role=APP_ROLE)
    assert caught.value.field == "worker_role"


def test_an_application_does_not_become_a_worker_nor_a_worker_an_application(db: Database) -> None:
    with db.owner.begin() as connection:
        with pytest.raises(InvalidInput, match="is an application's role, which must not see all tenants"):
            migrate.upgrade(connection, worker_role=APP_ROLE)
        with pytest.raises(InvalidInput, match="is a worker's role, which sees all tenants"):
            migrate.upgrade(connection, app_role=WORKER_ROLE)
        migrate.upgrade(connection, worker_role=OWNER)  # who owns the tables may do as it likes


def test_a_second_worker_leaves_the_first_its_view(db: Database, stranger: str) -> None:
    with Scheduler(db.url(stranger)) as second:
        with pytest.raises(StoreUnavailable, match="refuses this login"):
            second.tenants()
        with db.owner.begin() as connection:
            migrate.upgrade(connection, worker_role=stranger)
        assert second.tenants() == []
    with Scheduler(db.url(WORKER_ROLE)) as first:
        assert first.tenants() == []


def test_a_login_that_has_the_workers_role_sees_all_tenants(db: Database, stranger: str) -> None:
    with db.superuser.begin() as connection:
        connection.exec_driver_sql(f"GRANT {WORKER_ROLE} TO {stranger}")
    with Scheduler(db.url(stranger)) as scheduler:
        assert scheduler.tenants() == []


def _rights(db: Database) -> dict[tuple[str, str], set[str]]:
    with db.superuser.connect() as connection:
        found = connection.execute(
            text(
                "SELECT grantee, table_name, privilege_type FROM information_schema.role_table_grants"
                " WHERE table_schema = 'nxsched' AND grantee IN (:app, :worker)"
            ),
            {"app": APP_ROLE, "worker": WORKER_ROLE},
        )
        rights: dict[tuple[str, str], set[str]] = {}
        for role, table, right in found:
            rights.setdefault((role, table), set()).add(right)
        return rights


def test_each_role_has_the_rights_that_are_listed_and_no_other(db: Database) -> None:
    listed = {
        (role, table): set(rights[i].split(", "))
        for table, rights in RIGHTS.items()
        for i, role in enumerate((APP_ROLE, WORKER_ROLE))
    }
    assert _rights(db) == listed
    assert RIGHTS.keys() == {table.name for table in metadata.tables.values()} | {VERSION_TABLE}


def test_every_table_of_tenants_enforces_row_level_security_even_on_its_owner(db: Database) -> None:
    with db.superuser.connect() as connection:
        found = connection.execute(
            text(
                "SELECT relname, relrowsecurity AND relforcerowsecurity FROM pg_class"
                " WHERE relnamespace = 'nxsched'::regnamespace AND relkind = 'r'"
            )
        )
        assert {name for name, forced in found if forced} == {table.name for table in metadata.tables.values()}


def test_only_the_worker_crosses_tenants_and_only_where_it_is_listed(db: Database) -> None:
    with db.superuser.connect() as connection:
        found = connection.execute(
            text("SELECT tablename, cmd, roles::text[] FROM pg_policies WHERE schemaname = 'nxsched' AND qual = 'true'")
        )
        assert {(table, right, *roles) for table, right, roles in found} == {
            (table, right, WORKER_ROLE) for table, right in ACROSS_TENANTS
        }


def _tenant(connection: Connection, tenant: str) -> None:
    connection.execute(text("SELECT set_config('nxsched.tenant_id', :tenant, true)"), {"tenant": tenant})


_INSERT = text("INSERT INTO nxsched.tenant (tenant_id, name, settings, created_at) VALUES (:id, 'x', '{}', now())")


def test_without_a_tenant_nothing_is_seen_and_nothing_written(db: Database) -> None:
    with db.app.begin() as connection:
        _tenant(connection, "acme")
        connection.execute(_INSERT, {"id": "acme"})
    with db.app.connect() as connection:
        for table in metadata.sorted_tables:
            assert connection.execute(select(func.count()).select_from(table)).scalar() == 0
        with pytest.raises(DBAPIError, match="row-level security"):
            connection.execute(_INSERT, {"id": "other"})


def test_another_tenant_is_neither_seen_nor_written(db: Database) -> None:
    with db.app.begin() as connection:
        _tenant(connection, "acme")
        connection.execute(_INSERT, {"id": "acme"})
        _tenant(connection, "other")
        assert connection.execute(text("SELECT count(*) FROM nxsched.tenant")).scalar() == 0
        assert connection.execute(text("UPDATE nxsched.tenant SET name = 'taken'")).rowcount == 0
        with pytest.raises(DBAPIError, match="row-level security"), connection.begin_nested():
            connection.execute(_INSERT, {"id": "acme"})
        _tenant(connection, "acme")
        assert connection.execute(text("SELECT name FROM nxsched.tenant")).scalar() == "x"


def test_the_owner_is_held_to_the_tenant_too(db: Database) -> None:
    with db.owner.connect() as connection, pytest.raises(DBAPIError, match="row-level security"):
        connection.execute(_INSERT, {"id": "acme"})


def test_the_worker_sees_all_tenants_and_writes_to_none(db: Database) -> None:
    for tenant in ("acme", "other"):
        with db.app.begin() as connection:
            _tenant(connection, tenant)
            connection.execute(_INSERT, {"id": tenant})
    with db.worker.connect() as connection:
        assert connection.execute(text("SELECT tenant_id FROM nxsched.tenant ORDER BY 1")).scalars().all() == [
            "acme",
            "other",
        ]
        assert connection.execute(text("SELECT count(*) FROM nxsched.host")).scalar() == 0
        for statement in ("UPDATE nxsched.tenant SET name = 'x'", "DELETE FROM nxsched.booking"):
            with pytest.raises(DBAPIError, match="permission denied"), connection.begin_nested():
                connection.execute(text(statement))


def test_nobody_but_the_owner_changes_the_tables(db: Database) -> None:
    for engine in (db.app, db.worker):
        with engine.connect() as connection:
            for statement in ("DROP TABLE nxsched.claim", "ALTER TABLE nxsched.claim DROP CONSTRAINT claim_no_overlap"):
                with pytest.raises(DBAPIError, match="must be owner"), connection.begin_nested():
                    connection.execute(text(statement))
            with pytest.raises(DBAPIError, match="permission denied"), connection.begin_nested():
                connection.execute(text("TRUNCATE nxsched.audit_entry"))
