"""Idempotency keys: which request took a key, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Connection, text

_TAKE: Final = text("""
INSERT INTO nxsched.idempotency_key AS k (tenant_id, key, fingerprint, result, created_at, expires_at)
VALUES (:tenant, :key, :fingerprint, jsonb_build_object('id', CAST(:subject AS text)), :now, :expires)
ON CONFLICT (tenant_id, key) DO UPDATE SET fingerprint = excluded.fingerprint, result = excluded.result,
    created_at = excluded.created_at, expires_at = excluded.expires_at
WHERE k.expires_at <= excluded.created_at
RETURNING clock_timestamp() AS told
""")

_FIND: Final = text(
    "SELECT fingerprint, result->>'id', clock_timestamp() FROM nxsched.idempotency_key"
    " WHERE tenant_id = :tenant AND key = :key"
)

# One that somebody takes anew is passed by. An array is made once, where IN may be planned to take too many.
_FORGET: Final = text("""
DELETE FROM nxsched.idempotency_key WHERE tenant_id = :tenant AND expires_at <= :now AND key = ANY(ARRAY(
    SELECT key FROM nxsched.idempotency_key WHERE tenant_id = :tenant AND expires_at <= :now
    ORDER BY expires_at LIMIT :most FOR UPDATE SKIP LOCKED))
""")


@dataclass(frozen=True, slots=True)
class Key:
    """A key: the request that has it, the id of what comes of it, whether it is ours; and the time after the wait."""

    fingerprint: str
    subject: str
    is_new: bool
    told: datetime


def take_key(  # noqa: PLR0913 - the row
    connection: Connection, tenant: str, key: str, fingerprint: str, subject: str, *, now: datetime, lasts: timedelta
) -> Key:
    """Take a key, or one that has expired, if nobody has it.

    Waits for whoever takes the same key at the same time: their transaction may still fail.
    """
    values = {"tenant": tenant, "key": key, "fingerprint": fingerprint, "subject": subject}
    taken = connection.execute(_TAKE, {**values, "now": now, "expires": now + lasts}).one_or_none()
    if taken is not None:
        return Key(fingerprint, subject, is_new=True, told=taken.told.astimezone(UTC))
    found = connection.execute(_FIND, {"tenant": tenant, "key": key}).one()
    return Key(found[0], found[1], is_new=False, told=found[2].astimezone(UTC))


def forget_keys(connection: Connection, tenant: str, now: datetime, most: int) -> int:
    """Delete expired keys, at most so many; gives how many."""
    return connection.execute(_FORGET, {"tenant": tenant, "now": now, "most": most}).rowcount
