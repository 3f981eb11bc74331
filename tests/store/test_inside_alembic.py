"""The tables as a part of an application's own Alembic history, run by Alembic itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import inspect, text

from nxsched.embedded import APP_ROLE, OWNER, WORKER_ROLE
from nxsched.store import migrate
from nxsched.store.tenants import sees_all_tenants
from store.conftest import Database

ENV = """
from alembic import context
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

engine = create_engine(context.config.get_main_option("sqlalchemy.url"), poolclass=NullPool)
with engine.connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""

ORDERS = """
import sqlalchemy as sa
from alembic import op

revision = "a1"
down_revision = None


def upgrade():
    op.create_table("orders", sa.Column("id", sa.Integer, primary_key=True))
"""

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "database.md"


def shown() -> str:
    """The revision that the page shows, with the names of the roles that are there."""
    text = PAGE.read_text(encoding="utf-8").partition("<!-- file: a2.py -->\n```python\n")[2].partition("```\n")[0]
    assert text.count('"app"') == text.count('"worker"') == 1
    return text.replace('"app"', f'"{APP_ROLE}"').replace('"worker"', f'"{WORKER_ROLE}"')


@pytest.fixture
def application(tmp_path: Path, empty_db: Database) -> Config:
    """An application with two revisions of its own, the second of which makes our tables."""
    (tmp_path / "versions").mkdir()
    (tmp_path / "env.py").write_text(ENV, encoding="utf-8")
    (tmp_path / "versions" / "a1.py").write_text(ORDERS, encoding="utf-8")
    (tmp_path / "versions" / "a2.py").write_text(shown(), encoding="utf-8")
    config = Config()
    config.set_main_option("script_location", str(tmp_path))
    config.set_main_option("sqlalchemy.url", empty_db.url(OWNER).replace("%", "%%"))
    return config


def test_an_applications_revision_makes_the_tables_beside_its_own(application: Config, empty_db: Database) -> None:
    command.upgrade(application, "head")
    with empty_db.owner.connect() as connection:
        migrate.verify(connection)
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "a2"
        assert [one["name"] for one in inspect(connection).get_indexes("orders")] == ["orders_booking"]
    with empty_db.app.connect() as connection:
        migrate.verify(connection)
    with empty_db.worker.connect() as connection:
        assert sees_all_tenants(connection)


def test_where_the_revision_fails_nothing_of_it_is_left(
    application: Config, empty_db: Database, tmp_path: Path
) -> None:
    last = '    raise RuntimeError("the application thinks better of it")\n'
    (tmp_path / "versions" / "a2.py").write_text(shown() + last, encoding="utf-8")
    with pytest.raises(RuntimeError, match="thinks better"):
        command.upgrade(application, "head")
    with empty_db.owner.connect() as connection:
        assert migrate.current(connection) is None
        assert inspect(connection).get_table_names() == []
