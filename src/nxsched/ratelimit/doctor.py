"""Looks whether a Redis can count attempts."""

from __future__ import annotations

from secrets import token_hex

from nxsched.domain.findings import Finding
from nxsched.errors import StoreUnavailable
from nxsched.locking.clients import Clients
from nxsched.ratelimit.rates import item
from nxsched.ratelimit.redis import OnRedis

_PATIENCE = 2.0
"""Seconds."""


def examine(url: str) -> Finding:
    """Count one attempt, of nobody. Raises `InvalidInput` for no URL."""
    counts = OnRedis(Clients(url, _PATIENCE), refuses=True)
    try:
        counts.room(item("1/second"), token_hex(16), take=True)
        counted = True
    except StoreUnavailable:
        counted = False
    finally:
        counts.close()
    return Finding(
        name="redis limits",
        well=counted,
        found="an attempt was counted" if counted else "attempts cannot be counted",
        advice="the log above says why; for rate limits its user needs the rights +evalsha, +script, +get, +set, "
        "+incrby, +exists, +pttl and +rename on nxsched:*, and it needs memory to write",
    )
