"""Locks that save work: who wants a slot that somebody is just booking is turned away before the database is asked.

What they say decides nothing. Without them, or where they are lost, broken or wrong, the same bookings come to stand:
the constraint in the database decides.
"""

from typing import TYPE_CHECKING

from nxsched.locking.locker import Contended, Locker, LockEvent, NoLocker, Permit, TurnedAway
from nxsched.locking.postgres import PostgresLocker

if TYPE_CHECKING:
    from nxsched.locking.redis import RedisLocker

__all__ = [
    "Contended", "LockEvent", "Locker", "NoLocker", "Permit", "PostgresLocker", "RedisLocker", "TurnedAway",
]  # fmt: skip


def __getattr__(name: str) -> object:
    """Import what needs an extra when it is asked for."""
    if name == "RedisLocker":
        from nxsched.locking.redis import RedisLocker  # noqa: PLC0415 - its package is optional

        return RedisLocker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
