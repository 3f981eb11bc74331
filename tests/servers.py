"""Real PostgreSQL servers for tests: one of each version for a whole run, and a new database for each test.

`NXSCHED_TEST_POSTGRES`, a URL for the superuser `postgres`, has the tests of the store run on that server instead: of a
version that the embedded package does not hold. The three roles are made there, and must come in without a password.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path

import psycopg
from sqlalchemy import URL, make_url

from nxsched import testing
from nxsched.embedded import APP_ROLE, OWNER, VERSIONS, WORKER_ROLE, EmbeddedServer, start

_GIVEN = "NXSCHED_TEST_POSTGRES"
_MEMORY = Path("/dev/shm")  # noqa: S108 - the folders in it are made with names of their own
_ROOM = 8 * 2**30
_numbers = count()


@dataclass(frozen=True)
class GivenServer:
    """A server that somebody else has started, as tests see an embedded one."""

    place: URL
    folder: Path

    def url(self, role: str, database: str) -> str:
        found = self.place.set(drivername="postgresql+psycopg", username=role, database=database)
        return found.render_as_string(hide_password=False)

    def socket_uri(self, role: str, database: str) -> str:
        return self.url(role, database).replace("+psycopg", "", 1)

    def close(self) -> None:
        """It goes on without us."""


Server = EmbeddedServer | GivenServer


def versions() -> list[int]:
    """The versions that tests run on, the newest first; 0 is the server that was given."""
    return [0] if _GIVEN in os.environ else sorted(VERSIONS, reverse=True)


def _given(run: str) -> GivenServer:
    return GivenServer(make_url(os.environ[_GIVEN]), folder(run) / "given")


def _opened(run: str, version: int) -> Server:
    if version:
        return start(folder(run) / str(version), version=version)
    found = _given(run)
    place = found.folder
    place.mkdir(parents=True, exist_ok=True)
    with _alone(place / "roles"), psycopg.connect(superuser(found), autocommit=True) as connection:
        for role in (OWNER, APP_ROLE, WORKER_ROLE):
            if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone() is None:
                connection.execute(f'CREATE ROLE "{role}" LOGIN')
    return found


def folder(run: str) -> Path:
    """Where the servers of one run of the tests live; all its processes share them."""
    return _place() / f"nxsched-tests-{run}"


@cache
def _place() -> Path:
    """A file system in memory, where there is room in one: databases are made there in half of the time."""
    roomy = _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).total > _ROOM
    return _MEMORY if roomy else Path(tempfile.gettempdir())


def started(run: str, version: int) -> Server:
    """The server of a version, with a migrated database to copy from."""
    server, template = _opened(run, version), _template()
    with _alone(server.folder / "template"), psycopg.connect(superuser(server), autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [template]).fetchone() is None:
            if version:
                testing.forget_the_disk(server)
            testing.make_template(server, template)
    return server


def _template() -> str:
    """The migrated database that others are copied from, of this run of the tests alone."""
    return f"migrated_{os.environ['NXSCHED_TEST_RUN']}"


def superuser(server: Server, database: str = "postgres") -> str:
    """Where the server's superuser connects to."""
    return server.socket_uri("postgres", database)


@contextmanager
def database(server: Server, *, migrated: bool = True) -> Iterator[str]:
    """A database of its own for one test; gives its name."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with testing.copied(server, _template() if migrated else "template0", name):
        yield name


def wait_until_stopped(place: Path) -> None:
    """Wait until every server whose folder is in `place` has stopped: its watcher holds a lock until then."""
    for watcher in place.glob("*/watcher"):
        with _alone(watcher):
            pass


def remove(run: str) -> None:
    """Wait until the servers of a run have stopped, and remove their folders."""
    wait_until_stopped(folder(run))
    if _GIVEN in os.environ and (folder(run) / "given").exists():
        with psycopg.connect(superuser(_given(run)), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {_template()}")
    shutil.rmtree(folder(run), ignore_errors=True)


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    lock = os.open(file, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
