"""The face of nxsched towards an application: a database, its migrations, and the way to its tenants."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from sqlalchemy import URL, Engine

from nxsched.store import connect, migrate
from nxsched.store.conflicts import translated

if TYPE_CHECKING:
    from nxsched.embedded import EmbeddedServer


class Scheduler:
    """nxsched on a PostgreSQL database, 14 or later, through psycopg.

    `database` is a URL (`postgresql://app@host/database`) or a SQLAlchemy `Engine` of the application's own. The role
    that logs in should be neither a superuser nor the owner of the tables: `nxsched doctor` looks. Nothing is connected
    to before it is used. Safe to share between threads; as a context manager it closes itself.

    Raises `InvalidInput` for a URL or engine of another database or driver, and `MissingExtra` where there is no libpq.
    """

    def __init__(self, database: str | URL | Engine) -> None:
        self._own = isinstance(database, str | URL)
        self._engine: Engine = connect.made_or_checked("database", database)
        self._server: EmbeddedServer | None = None

    @classmethod
    def embedded(cls, path: str | Path, *, version: int | None = None) -> Self:
        """A scheduler on a PostgreSQL of its own, which lives in the folder `path`: started or joined, and migrated.

        For development, tests and what runs on one machine. The server has no network port, and it stops when the last
        process that uses the folder has closed its scheduler or ended. `version` is the PostgreSQL of a new folder.
        Raises `InvalidInput`, `MissingExtra` and `StoreUnavailable`.
        """
        from nxsched import embedded  # noqa: PLC0415 - its packages are optional

        server = embedded.start(path, version=version)
        try:
            owner = connect.engine("path", server.url(embedded.OWNER))
            try:
                with translated(), owner.begin() as connection:
                    if migrate.current(connection) != migrate.head():
                        migrate.upgrade(connection, app_role=embedded.APP_ROLE, worker_role=embedded.WORKER_ROLE)
            finally:
                owner.dispose()
            found = cls(server.url())
        except BaseException:
            server.close()
            raise
        found._server = server
        return found

    @property
    def engine(self) -> Engine:
        """The engine that this scheduler works with, for an application that wants to join its transactions."""
        return self._engine

    def close(self) -> None:
        """Give connections and the embedded server back. An application's own engine stays as it is."""
        if self._own:
            self._engine.dispose()
        if self._server is not None:
            self._server.close()

    def __enter__(self) -> Self:
        """Use the scheduler for a while."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def __repr__(self) -> str:
        """Name the database, without a password."""
        return f"<Scheduler on {self._engine.url.render_as_string(hide_password=True)}>"

    def verify(self) -> None:
        """Raise `SchemaOutdated`, with the command to run, unless the tables are those that this version works with.

        Raises `StoreUnavailable` where the database cannot be reached.
        """
        with translated(), self._engine.connect() as connection:
            migrate.verify(connection)

    def migrate(
        self,
        url: str | URL | None = None,
        *,
        to: str = "head",
        app_role: str | None = None,
        worker_role: str | None = None,
    ) -> None:
        """Bring the tables up to a revision and grant the roles their least rights, in one transaction.

        `url` logs in as the role that owns the tables; without it the scheduler's own login does, and becomes their
        owner if they are new. Processes that book meanwhile wait at most for the statements that change their tables.
        Raises `InvalidInput` for an unknown revision or role, and `StoreUnavailable`.
        """
        engine = self._engine if url is None else connect.engine("url", url)
        try:
            with translated(), engine.begin() as connection:
                migrate.upgrade(connection, to, app_role=app_role, worker_role=worker_role)
        finally:
            if url is not None:
                engine.dispose()
