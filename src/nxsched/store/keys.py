"""Idempotency keys: which request took a key, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, text

_TAKE: Final = text("""
INSERT INTO nxsched.idempotency_key AS k (tenant_id, key, fingerprint, result, created_at, expires_at)
VALUES (:tenant, :key, :fingerprint, jsonb_build_object('id', CAST(:subject AS text)), :now, :expires)
ON CONFLICT (tenant_id, key) DO UPDATE SET fingerprint = excluded.fingerprint, result = excluded.result,
    created_at = excluded.created_at, expires_at = excluded.expires_at
WHERE k.expires_at <= excluded.created_at
RETURNING true
""")

_FIND: Final = text(
    "SELECT fingerprint, result->>'id' FROM nxsched.idempotency_key WHERE tenant_id = :tenant AND key = :key"
)

_FORGET: Final = text("""
DELETE FROM nxsched.idempotency_key WHERE tenant_id = :tenant AND key IN (
    SELECT key FROM nxsched.idempotency_key WHERE tenant_id = :tenant AND expires_at <= :now
    ORDER BY key LIMIT :most)
""")


@dataclass(frozen=True, slots=True)
class Earlier:
    """The request that has a key already: its fingerprint, and the id of what came of it."""

    fingerprint: str
    subject: str


def take_key(  # noqa: PLR0913 - the row
    connection: Connection, tenant: str, key: str, fingerprint: str, subject: str, *, now: datetime, lasts: timedelta
) -> Earlier | None:
    """Take a key, or one that has expired; `None` where it is ours now.

    Waits for whoever takes the same key at the same time: their transaction may still fail.
    """
    values = {"tenant": tenant, "key": key, "fingerprint": fingerprint, "subject": subject}
    if connection.execute(_TAKE, {**values, "now": now, "expires": now + lasts}).one_or_none():
        return None
    found = connection.execute(_FIND, {"tenant": tenant, "key": key}).one()
    return Earlier(found[0], found[1])


def forget_keys(connection: Connection, tenant: str, now: datetime, most: int) -> int:
    """Delete expired keys, at most so many; gives how many."""
    return connection.execute(_FORGET, {"tenant": tenant, "now": now, "most": most}).rowcount
