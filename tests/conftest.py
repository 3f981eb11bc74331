"""How hard hypothesis tries: `NXSCHED_PROFILE=slow` for the long run, `dev` otherwise."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

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
