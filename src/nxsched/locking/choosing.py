"""Which locker a scheduler works with."""

from __future__ import annotations

from typing import Final, Literal

from nxsched.errors import InvalidInput
from nxsched.locking.locker import Locker, NoLocker

WhenUnavailable = Literal["proceed", "refuse"]

_METHODS: Final = ("check", "around", "around_async", "inside", "close", "aclose")


def chosen(
    redis: object, locker: object, when_unavailable: WhenUnavailable, *, for_asyncio: bool, counts: bool = False
) -> Locker:
    """The locker that was given; else one on Redis, if there is one; else none. Raises `InvalidInput`.

    `counts`, where Redis serves rate limits too: then `when_unavailable` is said of these, whatever the locker.
    """
    if when_unavailable not in {"proceed", "refuse"}:
        raise InvalidInput(field="when_unavailable", reason=f'must be "proceed" or "refuse", not {when_unavailable!r}')
    if locker is None:
        if redis is None and when_unavailable != "proceed":
            reason = "says what happens while Redis is away: give redis=…, too, which is None"
            raise InvalidInput(field="when_unavailable", reason=reason)
        if redis is None:
            return NoLocker()
        from nxsched.locking.redis import RedisLocker  # noqa: PLC0415 - its package is optional

        locker = RedisLocker(redis, when_unavailable=when_unavailable)  # type: ignore[arg-type] # it looks itself
    elif when_unavailable != "proceed" and not (counts and redis is not None):
        raise InvalidInput(field="when_unavailable", reason="is said to the locker itself, where one is given")
    if isinstance(locker, type) or not all(callable(getattr(locker, name, None)) for name in _METHODS):
        raise InvalidInput(field="locker", reason=f"must be a locker such as PostgresLocker(), not {locker!r:.80}")
    found: Locker = locker  # type: ignore[assignment] # it has all of its methods
    found.check(for_asyncio=for_asyncio)
    return found
