"""Rate limits: how many attempts in a while, of whom, counted before any work is done. On the package `limits`."""

from nxsched.errors import MissingExtra

try:
    import limits as _limits
except ImportError as _missing:
    raise MissingExtra(what="nxsched.RateLimit", extra="limits") from _missing

del _limits

from nxsched.ratelimit.rates import RateLimit  # noqa: E402 - it needs the package

__all__ = ["RateLimit"]
