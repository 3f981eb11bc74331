"""A proxy between callers and a server, in a process of its own, that can cut, hold up and garble.

It stands before PostgreSQL, where it cuts a connection at a COMMIT: before the server has it, or between the server's
doing it and its answer. And it stands before Redis, where it answers late, or nonsense, or nothing at all.
"""

from __future__ import annotations

import asyncio
import re
import signal
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

PASS: Final = 0
CUT_BEFORE: Final = 1
CUT_AFTER: Final = 2
LATE: Final = 3
NONSENSE: Final = 4
REFUSE: Final = 5

LATE_BY: Final = 3.0
"""Seconds."""

_CHUNK: Final = 65536
_COMMIT: Final = re.compile(rb"\bCOMMIT\b")
"""And not the isolation level that is called READ COMMITTED."""

_NONSENSE: Final = b"$9\r\nHTTP/1.1 \r\n:oops\r\n*-7\r\n"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a server is: a port, or the path of a socket."""

    host: str = "127.0.0.1"
    port: int = 0
    path: str | None = None

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to it."""
        if self.path is not None:
            return await asyncio.open_unix_connection(self.path)
        return await asyncio.open_connection(self.host, self.port)


@dataclass(kw_only=True)
class Proxy:
    """One of them; `mode` and `times` are shared with the tormentor: what to do, and to how many COMMITs."""

    target: Place
    mode: Any
    times: Any
    port: Any

    async def run(self) -> None:
        """Serve until the process is ended."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port.value = server.sockets[0].getsockname()[1]
        async with server:
            await server.serve_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self.mode.value == REFUSE:
                return
            theirs, ours = await self.target.connect()
        except OSError:
            return
        else:
            cut = asyncio.Event()
            pipes = [
                asyncio.ensure_future(self._up(reader, ours, cut)),
                asyncio.ensure_future(self._down(theirs, writer, cut)),
            ]
            try:
                await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pipe in pipes:
                    pipe.cancel()
                await asyncio.gather(*pipes, return_exceptions=True)
                ours.close()
        finally:
            writer.close()

    async def _up(self, reader: asyncio.StreamReader, server: asyncio.StreamWriter, cut: asyncio.Event) -> None:
        """What callers say, until they hang up, or are cut off."""
        with suppress(OSError):
            while words := await reader.read(_CHUNK):
                mode = self.mode.value
                if mode in {CUT_BEFORE, CUT_AFTER} and _COMMIT.search(words) and self._due():
                    if mode == CUT_BEFORE:
                        return
                    cut.set()
                server.write(words)
                await server.drain()

    async def _down(self, server: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: asyncio.Event) -> None:
        """What the server answers, unless nobody is to have it."""
        with suppress(OSError):
            while (words := await server.read(_CHUNK)) and not cut.is_set():
                mode = self.mode.value
                if mode == REFUSE:
                    return
                if mode == LATE:
                    await asyncio.sleep(LATE_BY)
                writer.write(_NONSENSE if mode == NONSENSE else words)
                await writer.drain()

    def _due(self) -> bool:
        if self.times.value <= 0:
            return False
        self.times.value -= 1
        return True


def serve(proxy: Proxy) -> None:
    """Be a proxy, in a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(proxy.run())
