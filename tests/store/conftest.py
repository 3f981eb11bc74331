"""Every test of the store runs on each PostgreSQL that the embedded package holds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import NullPool

import servers
from nxsched.embedded import APP_ROLE, OWNER, VERSIONS, WORKER_ROLE, EmbeddedServer


@dataclass(frozen=True)
class Database:
    """A database, as its owner, the application's role, the worker and the superuser see it."""

    server: EmbeddedServer
    name: str
    owner: Engine
    app: Engine
    worker: Engine
    superuser: Engine

    def url(self, role: str) -> str:
        return self.server.url(role, self.name)


@pytest.fixture(scope="session", params=VERSIONS, ids="postgres {}".format)
def server(request: pytest.FixtureRequest) -> Iterator[EmbeddedServer]:
    found = servers.started(os.environ["NXSCHED_TEST_RUN"], request.param)
    yield found
    found.close()


def _seen(server: EmbeddedServer, name: str) -> Database:
    engines = [
        create_engine(server.url(role, name), poolclass=NullPool) for role in (OWNER, APP_ROLE, WORKER_ROLE, "postgres")
    ]
    return Database(server, name, *engines)


@pytest.fixture
def db(server: EmbeddedServer) -> Iterator[Database]:
    with servers.database(server) as name:
        yield _seen(server, name)


@pytest.fixture
def empty_db(server: EmbeddedServer) -> Iterator[Database]:
    with servers.database(server, migrated=False) as name:
        yield _seen(server, name)
