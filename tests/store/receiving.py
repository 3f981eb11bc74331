"""Endpoints that tests post to: real servers, with and without TLS, that do what they are told."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


@dataclass
class Posted:
    """A request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def said(self) -> Any:  # noqa: ANN401 - JSON
        return json.loads(self.body)


@dataclass
class Endpoint:
    """A server; `answers` are statuses with their headers, one for each request, the last of them from then on."""

    port: int
    scheme: str
    host: str
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=lambda: [(204, {})])
    posted: list[Posted] = field(default_factory=list)
    hangs: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}/hook?of=acme"

    @property
    def kinds(self) -> list[str]:
        return [one.said["type"] for one in self.posted]

    def answer(self, status: int, **headers: str) -> None:
        """From now on."""
        self.answers[:] = [(status, {name.replace("_", "-"): value for name, value in headers.items()})]


@contextmanager
def endpoint(*, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Iterator[Endpoint]:
    """A server on this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            found.posted.append(Posted(self.path, dict(self.headers), self.rfile.read(length)))
            status, headers = found.answers.pop(0) if len(found.answers) > 1 else found.answers[0]
            if found.hangs.is_set():  # an answer that comes a byte at a time, and never to its end
                while found.hangs.is_set():
                    self.wfile.write(b"H")
                    time.sleep(0.02)
                return
            self.send_response_only(status)  # with no header of its own
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Who hangs up, hangs up."""

    with Server(("127.0.0.1", 0), Handler) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        found = Endpoint(server.server_port, "https" if tls else "http", host)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield found
        finally:
            found.hangs.clear()
            server.shutdown()
            thread.join()


def resolving(
    patch: pytest.MonkeyPatch, host: str, *answers: Sequence[str], then: Callable[[], object] = lambda: None
) -> list[str]:
    """Have a name stand for these addresses, each time for the next ones; gives how often it was asked for."""
    real, asked = socket.getaddrinfo, list[str]()

    def found(name: Any, port: Any, *more: Any, **options: Any) -> Any:  # noqa: ANN401 - as the real one
        if name != host:
            return real(name, port, *more, **options)
        answer = answers[min(len(asked), len(answers) - 1)]
        asked.append(host)
        then()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in answer]

    patch.setattr(socket, "getaddrinfo", found)
    return asked
