"""Take turns: locks on an event type and on hosts, in one order, so that nobody waits in a circle.

A lock alone would let a transaction with an older snapshot (REPEATABLE READ, the application's own) count what it
cannot see. So whoever books under locks changes the rows as well, in the statement that writes the booking: then that
transaction gets a serialization failure. Lock and change are two statements: one that does both comes to a row twice,
and where the row has got a new version meanwhile, PostgreSQL may wait for the old one, and in a circle.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Connection, text

# A scalar subquery is computed before the scan that it filters: the event type's lock comes first. The time is told
# outside, after the wait.
_LOCK: Final = text("""
WITH first AS (
    SELECT event_type_no FROM nxsched.event_type
    WHERE tenant_id = :tenant AND event_type_no = :event_type FOR NO KEY UPDATE
), second AS (
    SELECT host_no FROM nxsched.host
    WHERE tenant_id = :tenant AND host_no = ANY(CAST(:hosts AS bigint[])) AND (SELECT count(*) FROM first) >= 0
    ORDER BY host_no FOR NO KEY UPDATE
)
SELECT clock_timestamp() FROM (SELECT count(*) FROM second OFFSET 0) AS locked""")


@dataclass(frozen=True, slots=True)
class Locks:
    """What is locked: an event type, if any, and hosts, by their numbers."""

    event_type: int | None = None
    hosts: frozenset[int] = frozenset()

    def __le__(self, other: Locks) -> bool:
        """Whether the other holds all of these."""
        return self.event_type in {None, other.event_type} and self.hosts <= other.hosts

    def may_follow(self, held: Locks) -> bool:
        """Whether what `held` lacks of these comes, in the order that everybody keeps, after all that it has."""
        if self.event_type not in {None, held.event_type} and held.hosts:
            return False
        return max(held.hosts, default=0) < min(self.hosts - held.hosts, default=1 << 63)

    def __or__(self, other: Locks) -> Locks:
        """Both together."""
        return Locks(other.event_type or self.event_type, self.hosts | other.hosts)

    def __and__(self, hosts: Iterable[int]) -> Locks:
        """Of the hosts, only these."""
        return Locks(self.event_type, self.hosts & {*hosts})


NOTHING: Final = Locks()


def lock(connection: Connection, tenant: str, wanted: Locks) -> datetime:
    """Lock an event type, if one is given, and then hosts, in the order of their numbers; gives the time after that."""
    values = {"tenant": tenant, "event_type": wanted.event_type, "hosts": list(wanted.hosts)}
    told: datetime = connection.execute(_LOCK, values).scalar_one()
    return told.astimezone(UTC)
