"""How hard hypothesis tries (`NXSCHED_PROFILE=slow` for the long run, `dev` otherwise), and servers that are shared."""

from __future__ import annotations

import os
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, settings

import servers
from broken import plain
from nxsched.domain import recurrence
from nxsched.slots import zones

pytest_plugins = ["nxsched.testing"]

# All processes of one run share its servers; they inherit this from the first.
os.environ.setdefault("NXSCHED_TEST_RUN", uuid4().hex[:12])

_RELAXED = (HealthCheck.too_slow,)

# On a build machine the example database is lost: there, what failed is printed so that it can be played back.
_ON_CI = "CI" in os.environ and "NXSCHED_PROFILE" not in os.environ

settings.register_profile("dev", max_examples=50, deadline=None, suppress_health_check=_RELAXED, print_blob=_ON_CI)
settings.register_profile("slow", max_examples=300, deadline=None, suppress_health_check=_RELAXED)
settings.register_profile(
    # For mutants: the same few examples each time, and no search for a smaller one.
    "mutation",
    max_examples=30,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=_RELAXED,
)
settings.load_profile(os.environ.get("NXSCHED_PROFILE") or "dev")


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name tests in plain characters: mutmut runs them by name."""
    return plain(val) if isinstance(val, str) else None


def pytest_runtest_setup() -> None:
    """Let no table that an earlier test left behind hide a mutant."""
    if os.environ.get("NXSCHED_PROFILE") == "mutation":
        for kept in (zones._table, zones._changes, recurrence._rrule, recurrence._read):  # noqa: SLF001 - our own
            kept.cache_clear()


def pytest_unconfigure(config: pytest.Config) -> None:
    """When the last process of the run is done, nothing of its servers is left."""
    if not hasattr(config, "workerinput"):
        servers.remove(os.environ["NXSCHED_TEST_RUN"])
