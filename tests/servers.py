"""Real PostgreSQL servers for tests: one of each version for a whole run, and a new database for each test."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path

import psycopg
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from nxsched.embedded import APP_ROLE, OWNER, WORKER_ROLE, EmbeddedServer, start
from nxsched.store import migrate

_TEMPLATE = "migrated"
_MEMORY = Path("/dev/shm")  # noqa: S108 - the folders in it are made with names of their own
_ROOM = 8 * 2**30
_numbers = count()


def folder(run: str) -> Path:
    """Where the servers of one run of the tests live; all its processes share them."""
    return _place() / f"nxsched-tests-{run}"


@cache
def _place() -> Path:
    """A file system in memory, where there is room in one: databases are made there in half of the time."""
    roomy = _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).total > _ROOM
    return _MEMORY if roomy else Path(tempfile.gettempdir())


def started(run: str, version: int) -> EmbeddedServer:
    """The server of a version, with a migrated database to copy from."""
    server = start(folder(run) / str(version), version=version)
    with _alone(server.folder / "template"), psycopg.connect(superuser(server), autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [_TEMPLATE]).fetchone() is None:
            # Nothing of it outlives the tests, so nothing has to reach the disk.
            for setting in ("fsync", "full_page_writes", "autovacuum"):
                connection.execute(f"ALTER SYSTEM SET {setting} = off")
            connection.execute("SELECT pg_reload_conf()")
            connection.execute(f"CREATE DATABASE {_TEMPLATE}_new OWNER {OWNER}")
            engine = create_engine(server.url(OWNER, f"{_TEMPLATE}_new"), poolclass=NullPool)
            with engine.begin() as owner:
                migrate.upgrade(owner, app_role=APP_ROLE, worker_role=WORKER_ROLE)
                owner.exec_driver_sql(f"GRANT CREATE ON SCHEMA public TO {APP_ROLE}")  # as in an embedded database
            connection.execute(f"ALTER DATABASE {_TEMPLATE}_new RENAME TO {_TEMPLATE}")
    return server


def superuser(server: EmbeddedServer, database: str = "postgres") -> str:
    """Where the server's superuser connects to."""
    return server.socket_uri("postgres", database)


@contextmanager
def database(server: EmbeddedServer, *, migrated: bool = True) -> Iterator[str]:
    """A database of its own for one test; gives its name."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    source = _TEMPLATE if migrated else "template0"
    with psycopg.connect(superuser(server), autocommit=True) as connection:
        # Where nothing has to reach the disk, a copy of the files is several times as fast as one through the log.
        connection.execute(f"CREATE DATABASE {name} OWNER {OWNER} TEMPLATE {source} STRATEGY FILE_COPY")
        try:
            yield name
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def wait_until_stopped(place: Path) -> None:
    """Wait until every server whose folder is in `place` has stopped: its watcher holds a lock until then."""
    for watcher in place.glob("*/watcher"):
        with _alone(watcher):
            pass


def remove(run: str) -> None:
    """Wait until the servers of a run have stopped, and remove their folders."""
    wait_until_stopped(folder(run))
    shutil.rmtree(folder(run), ignore_errors=True)


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    lock = os.open(file, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
