"""A locker on the database's own advisory locks: contenders fail at once instead of waiting for one another."""

from __future__ import annotations

from datetime import timedelta
from hashlib import sha256
from time import perf_counter
from typing import Final

from sqlalchemy import Connection, text

from nxsched.locking.locker import Contended, OnLock, Outcome, Teller, Unlocked, checked_wait

# One place of each permit, the first that is free: CASE, so that no place of another is taken. All end with the
# transaction, so they work behind a pooler, and no crash leaves one behind.
_TRY: Final = text("""
SELECT bool_and(EXISTS (
    SELECT 1 FROM unnest(CAST(:places AS bigint[])) WITH ORDINALITY AS p(place, n)
    WHERE CASE WHEN p.n > w.before AND p.n <= w.before + w.of THEN pg_try_advisory_xact_lock(p.place) ELSE false END))
FROM unnest(CAST(:counts AS int[]), CAST(:before AS int[])) AS w(of, before)
""")
_MINE: Final = text("SELECT pg_try_advisory_xact_lock(:place)")


_MOST: Final = 1000
"""Places that a transaction may take: all of them share a table of the server's."""


class PostgresLocker(Unlocked):
    """Advisory locks of the booking's own transaction, for applications without Redis.

    Whoever comes second is turned away at once, or tries again for up to `wait`, instead of waiting for the first in
    the database; but each try takes a connection of the pool. A call that would need more than a thousand of them, such
    as a long series of many hosts, takes none: the server has room for some thousands in all. `on_lock` is called with
    a `LockEvent` after each. Raises `InvalidInput`.
    """

    def __init__(self, *, wait: timedelta = timedelta(), on_lock: OnLock | None = None) -> None:
        self.wait: timedelta = checked_wait(wait)
        self._teller = Teller(on_lock)

    def __repr__(self) -> str:
        """As it is made."""
        return f"PostgresLocker(wait={self.wait!r})"

    def inside(self, connection: Connection, contended: Contended) -> None:
        """Take the places, or raise `TurnedAway`; who repeats what is just being done waits for it in the database."""
        began = perf_counter()
        if sum(one.of for one in contended.permits) > _MOST:
            self._teller.tell("unavailable", contended, perf_counter() - began)
            return
        same = (
            bool(contended.key)
            and not connection.execute(
                _MINE, {"place": _place(contended.tenant, "request", contended.request)}
            ).scalar_one()
        )
        got = same or self._try(connection, contended)
        outcome: Outcome = "same_key" if same else "taken" if got else "turned_away"
        self._teller.tell(outcome, contended, perf_counter() - began)
        if not got:
            raise self._teller.turn_away(contended)

    @staticmethod
    def _try(connection: Connection, contended: Contended) -> bool:
        places: list[int] = []
        before: list[int] = []
        for permit in contended.permits:
            before.append(len(places))
            places += [_place(contended.tenant, permit.name, n) for n in range(permit.of)]
        counts = [one.of for one in contended.permits]
        values = {"places": places, "counts": counts, "before": before}
        return bool(connection.execute(_TRY, values).scalar_one())


def _place(tenant: str, name: str, n: object) -> int:
    """A number for what is locked: two that share one turn one another away for nothing, which is rare."""
    digest = sha256(f"nxsched\0{tenant}\0{name}\0{n}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
