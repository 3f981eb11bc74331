"""A pooler as PgBouncer is in transaction mode: each transaction of a client goes to the next free server session."""

from __future__ import annotations

import socket
import struct
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from queue import Queue
from threading import Thread

Message = tuple[bytes, bytes]
"""Kind and body of a message; its length lies between them."""

_SYNC, _QUERY, _TERMINATE, _READY, _LOGIN = b"S", b"Q", b"X", b"Z", 196_608
_SOCKET = ".s.PGSQL.5432"


@contextmanager
def pooler(folder: Path, user: str, database: str, sessions: int) -> Iterator[str]:
    """The folder of a socket that takes clients, and passes their transactions on to so many sessions of one user.

    Sessions take turns, the longest unused one first, and are cleaned by nobody, as between two transactions there.
    """
    free: Queue[socket.socket] = Queue()
    with ExitStack() as stack:
        for _ in range(sessions):
            session = stack.enter_context(_connect(folder / _SOCKET))
            greeting = _log_in(session, user, database)
            free.put(session)
        place = stack.enter_context(tempfile.TemporaryDirectory(prefix="pool-"))
        door = stack.enter_context(socket.socket(socket.AF_UNIX))
        door.bind(f"{place}/{_SOCKET}")
        door.listen()

        def receive() -> None:
            with suppress(OSError):  # the door is closed
                while True:
                    client, _ = door.accept()
                    Thread(target=_serve, args=(client, free, greeting), daemon=True).start()

        Thread(target=receive, daemon=True).start()
        stack.callback(door.shutdown, socket.SHUT_RDWR)
        yield place


def _connect(path: Path) -> socket.socket:
    found = socket.socket(socket.AF_UNIX)
    found.connect(str(path))
    return found


def _log_in(session: socket.socket, user: str, database: str) -> list[Message]:
    """Begin a session; gives what the server says of itself, which every client is told."""
    body = struct.pack("!i", _LOGIN) + b"".join(
        one.encode() + b"\0" for one in ("user", user, "database", database, "client_encoding", "UTF8", "")
    )
    session.sendall(struct.pack("!i", len(body) + 4) + body)
    return list(_answers(session))


def _serve(client: socket.socket, free: Queue[socket.socket], greeting: list[Message]) -> None:
    """Pass the transactions of a client on, until it goes."""
    with client, suppress(ConnectionError):
        _exactly(client, struct.unpack("!i", _exactly(client, 4))[0] - 4)
        for message in greeting:
            _send(client, message)
        session = None
        while (message := _receive(client))[0] != _TERMINATE:
            session = session or free.get(timeout=10)
            _send(session, message)
            if message[0] in (_SYNC, _QUERY):
                for answer in _answers(session):
                    _send(client, answer)
                if answer[1] == b"I":  # in no transaction
                    free.put(session)
                    session = None


def _answers(session: socket.socket) -> Iterator[Message]:
    message = (b"", b"")
    while message[0] != _READY:
        message = _receive(session)
        yield message


def _receive(sender: socket.socket) -> Message:
    kind = _exactly(sender, 1)
    return kind, _exactly(sender, struct.unpack("!i", _exactly(sender, 4))[0] - 4)


def _send(receiver: socket.socket, message: Message) -> None:
    kind, body = message
    receiver.sendall(kind + struct.pack("!i", len(body) + 4) + body)


def _exactly(sender: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        more = sender.recv(size - len(found))
        if not more:
            raise ConnectionError
        found += more
    return found
