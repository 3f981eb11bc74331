"""A Redis for all tests of a process; each begins with an empty one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import redises


@pytest.fixture(scope="session")
def redis_server() -> Iterator[redises.RedisServer]:
    with redises.started() as found:
        yield found


@pytest.fixture
def redis(redis_server: redises.RedisServer) -> redises.RedisServer:
    with redis_server.client as client:
        client.flushall()
    return redis_server
