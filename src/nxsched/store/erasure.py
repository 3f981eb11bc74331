"""Take persons out of records: audit entries, outbox events, idempotency keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import Connection, text

from nxsched.store.roles import ERASE_RECORDS
from nxsched.store.schema import SCHEMA

_ERASE: Final = text(f"SELECT {SCHEMA}.{ERASE_RECORDS}(CAST(:ids AS uuid[]))")

_FORGET: Final = text(
    "DELETE FROM nxsched.idempotency_key WHERE tenant_id = :tenant AND result->>'id' = ANY(CAST(:ids AS text[]))"
)

# Links that were made with the nonce before end here.
_NONCES: Final = text("""
UPDATE nxsched.booking b SET nonce = n.nonce FROM unnest(CAST(:ids AS uuid[]), CAST(:nonces AS text[])) AS n(id, nonce)
WHERE b.tenant_id = :tenant AND b.id = n.id
""")


def erase_records(connection: Connection, ids: Sequence[str]) -> None:
    """Take the attendees, their words and the application's notes out of all records of these bookings."""
    connection.execute(_ERASE, {"ids": list(ids)})


def forget_keys_of(connection: Connection, tenant: str, ids: Sequence[str]) -> None:
    """Forget the idempotency keys under which something was done to these bookings."""
    connection.execute(_FORGET, {"tenant": tenant, "ids": list(ids)})


def change_nonces(connection: Connection, tenant: str, nonces: Mapping[str, str]) -> None:
    """Give bookings other nonces."""
    connection.execute(_NONCES, {"tenant": tenant, "ids": [*nonces], "nonces": [*nonces.values()]})
