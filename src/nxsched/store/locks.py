"""Take turns: locks on an event type and on hosts, in one order, so that nobody waits in a circle.

A lock is a change. A row that was only locked would let a transaction with an older snapshot (REPEATABLE READ, the
application's own) count what it cannot see; where the row changed, that transaction gets a serialization failure.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Connection, text

_EVENT_TYPE: Final = """
UPDATE nxsched.event_type SET claim_version = claim_version + 1
WHERE tenant_id = :tenant AND event_type_no = :event_type RETURNING clock_timestamp() AS at"""

_HOSTS: Final = """
UPDATE nxsched.host h SET claim_version = claim_version + 1 FROM (
    SELECT host_no FROM nxsched.host
    WHERE tenant_id = :tenant AND host_no = ANY(CAST(:hosts AS bigint[])) {after}
    ORDER BY host_no FOR NO KEY UPDATE
) locked
WHERE h.tenant_id = :tenant AND h.host_no = locked.host_no RETURNING clock_timestamp() AS at"""

_LOCK_HOSTS: Final = text(_HOSTS.format(after=""))
# A scalar subquery is computed before the scan that it filters: the event type's lock comes first.
_LOCK_BOTH: Final = text(
    f"WITH first AS ({_EVENT_TYPE}), second AS ({_HOSTS.format(after='AND (SELECT count(*) FROM first) >= 0')})"
    " SELECT max(at) FROM (SELECT at FROM first UNION ALL SELECT at FROM second) AS ats"
)


@dataclass(frozen=True, slots=True)
class Locks:
    """What is locked: an event type, if any, and hosts, by their numbers."""

    event_type: int | None = None
    hosts: frozenset[int] = frozenset()

    def __le__(self, other: Locks) -> bool:
        """Whether the other holds all of these."""
        return self.event_type in {None, other.event_type} and self.hosts <= other.hosts

    def __or__(self, other: Locks) -> Locks:
        """Both together."""
        return Locks(other.event_type or self.event_type, self.hosts | other.hosts)


def lock(connection: Connection, tenant: str, wanted: Locks) -> datetime:
    """Lock an event type, if one is given, and then hosts, in the order of their numbers; gives the time after that."""
    values: dict[str, object] = {"tenant": tenant, "hosts": list(wanted.hosts)}
    if wanted.event_type is None:
        rows = connection.execute(_LOCK_HOSTS, values)
    else:
        rows = connection.execute(_LOCK_BOTH, {**values, "event_type": wanted.event_type})
    times: list[datetime] = [row[0].astimezone(UTC) for row in rows]
    return max(times)
