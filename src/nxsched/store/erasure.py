"""Take persons out of records: audit entries, outbox events, idempotency keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, text

from nxsched.domain.bookings import Person

_ERASE_RECORDS: Final = text("SELECT nxsched.erase_records(CAST(:ids AS uuid[]))")
_ERASE_PERSON: Final = text("SELECT nxsched.erase_person(CAST(:reference AS text), CAST(:email AS text))")

# A key that has expired may be taken anew at this moment, by somebody who then waits for the booking: that is theirs.
# One that has not expired somebody may have in hand who repeats their call, which is over soon.
_FORGET: Final = text("""
DELETE FROM nxsched.idempotency_key WHERE tenant_id = :tenant AND key = ANY(ARRAY(
    SELECT key FROM nxsched.idempotency_key WHERE tenant_id = :tenant AND result->>'id' = ANY(CAST(:ids AS text[]))
        AND expires_at <= :now FOR UPDATE SKIP LOCKED) || ARRAY(
    SELECT key FROM nxsched.idempotency_key WHERE tenant_id = :tenant AND result->>'id' = ANY(CAST(:ids AS text[]))
        AND expires_at > :now ORDER BY key FOR UPDATE))
""")

# Links that were made with the nonce before end here.
_NONCES: Final = text("""
UPDATE nxsched.booking b SET nonce = n.nonce FROM unnest(CAST(:ids AS uuid[]), CAST(:nonces AS text[])) AS n(id, nonce)
WHERE b.tenant_id = :tenant AND b.id = n.id
""")


def erase_records(connection: Connection, ids: Sequence[str], person: Person) -> None:
    """Take attendees, their words and the application's notes out of all records of these bookings.

    And what the records of other bookings say of the person.
    """
    connection.execute(_ERASE_RECORDS, {"ids": list(ids)})
    connection.execute(_ERASE_PERSON, {"reference": person.reference, "email": person.email})


def forget_keys_of(connection: Connection, tenant: str, ids: Sequence[str], now: datetime) -> None:
    """Forget the idempotency keys under which something was done to these bookings and series."""
    connection.execute(_FORGET, {"tenant": tenant, "ids": list(ids), "now": now})


def change_nonces(connection: Connection, tenant: str, nonces: Mapping[str, str]) -> None:
    """Give bookings other nonces."""
    connection.execute(_NONCES, {"tenant": tenant, "ids": [*nonces], "nonces": [*nonces.values()]})
