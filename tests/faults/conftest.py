"""Explorers run on the newest of the servers that the tests of the store run on."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

import servers
from store.conftest import VERSIONS, acme, clock, db, scheduler

__all__ = ["acme", "clock", "db", "scheduler"]


@pytest.fixture(scope="session")
def server() -> Iterator[servers.Server]:
    found = servers.started(os.environ["NXSCHED_TEST_RUN"], VERSIONS[0])
    yield found
    found.close()
