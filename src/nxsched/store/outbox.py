"""The outbox: lease what is due, write down what became of it, look at it. `nxsched.store.changes` fills it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final, Literal

from sqlalchemy import Connection, TextualSelect, text

from nxsched.domain.outbox import OutboxEvent, OutboxState, OutboxStatus
from nxsched.store.statements import statement

CHANNEL: Final = "nxsched_outbox"
"""Where a commit that left events is announced."""

_COLUMNS: Final = (
    "id tenant kind booking_id version occurred_at payload attempts due_at error leased delivered dead owner"
    " leased_until"
)
# JSON comes as text: an application may have told the driver to read it in a way of its own.
_SEEN: Final = """e.id::text AS id, e.tenant_id AS tenant, e.kind, e.booking_id::text AS booking_id, e.version,
    e.occurred_at, e.payload::text AS payload, e.attempts, e.due_at, e.last_error AS error,
    coalesce(e.leased_until > CAST(:now AS timestamptz), false) AS leased, e.done_at IS NOT NULL AS delivered,
    e.dead_at IS NOT NULL AS dead, e.lease_owner AS owner, e.leased_until"""

_UNDONE: Final = "done_at IS NULL AND dead_at IS NULL"

# An event waits for the oldest one of its booking that is not done: a subquery for each, since the planner may make a
# join of NOT EXISTS that reads the whole outbox. The batch is a number in the text: of a parameter it would expect a
# tenth of the table. Who comes to a row that somebody has just leased passes it by, and so does who waited for nothing.
#
# A lease that has ended and was not given back is one of a relay that died with it. What two have died with may have
# been what killed them: each of those goes alone, so that it takes no others with it. Attempts are counted now, so that
# what kills every relay ends as dead. What is chosen is kept as it is: rows that somebody has just changed would be
# looked for again, and not be found.
_LEASE: Final = f"""
WITH due AS (
    SELECT e.tenant_id, e.id, e.due_at, e.lease_owner IS NOT NULL AND e.attempts > 1 AS suspect
    FROM nxsched.outbox_event e
    WHERE {_UNDONE} AND e.due_at <= :before AND (e.leased_until IS NULL OR e.leased_until <= :now)
        AND e.version = (
            SELECT o.version FROM nxsched.outbox_event o
            WHERE o.tenant_id = e.tenant_id AND o.booking_id = e.booking_id AND o.done_at IS NULL AND o.dead_at IS NULL
            ORDER BY o.version LIMIT 1)
    ORDER BY e.due_at LIMIT {{most}} FOR UPDATE OF e SKIP LOCKED
), chosen AS MATERIALIZED (
    SELECT tenant_id, id FROM due WHERE NOT EXISTS (SELECT FROM due WHERE suspect)
    UNION ALL (SELECT tenant_id, id FROM due WHERE suspect ORDER BY due_at LIMIT 1)
), leased AS (
    UPDATE nxsched.outbox_event e SET attempts = e.attempts + 1, lease_owner = :owner, leased_until = :until
    FROM chosen WHERE e.tenant_id = chosen.tenant_id AND e.id = chosen.id
    RETURNING e.*
)
SELECT {_SEEN} FROM leased e ORDER BY e.due_at, e.occurred_at"""


@cache
def _lease(most: int) -> TextualSelect:
    return statement(_LEASE.format(most=most), _COLUMNS)


def lease(
    connection: Connection, owner: str, now: datetime, before: datetime, lasts: timedelta, most: int
) -> list[OutboxEvent]:
    """Lease events that were due `before`, of each booking the oldest, at most so many, for who delivers them."""
    values = {"owner": owner, "now": now, "before": before, "until": now + lasts}
    return [_event(row) for row in connection.execute(_lease(most), values)]


Outcome = Literal["delivered", "failed", "dead", "untouched"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What became of a leased event: `wait` is for how long it rests where it `failed`.

    One that was `untouched` goes back as if it had not been leased.
    """

    event: OutboxEvent
    outcome: Outcome
    error: str | None = None
    wait: timedelta = timedelta()

    def row(self) -> dict[str, Any]:
        """The row of `told`."""
        return {
            "tenant_id": self.event.tenant,
            "id": self.event.id,
            "outcome": self.outcome,
            "error": self.error,
            "error_type": self.error and self.error.partition(":")[0],
            "named": bool(self.event.payload.get("booking", {}).get("attendee")),
            "wait": self.wait.total_seconds(),
        }


# Later events of a booking rest as long as the one that they wait for, so that nobody looks at them in vain each time;
# when that is dead it is their turn. Of a person who was erased meanwhile no error is kept, but what kind of error it
# was: it may name them. Who delivered an event stays named: asked again after a connection broke at COMMIT, this says
# once more what it had done.
_SETTLE: Final = statement(
    f"""
WITH told AS (
    SELECT * FROM jsonb_to_recordset(CAST(CAST(:rows AS text) AS jsonb))
        AS t(tenant_id text, id uuid, outcome text, error text, error_type text, named boolean, wait float8)
), mine AS (
    SELECT e.tenant_id, e.id, t.outcome, t.error, t.error_type, t.named,
        CAST(:now AS timestamptz) + t.wait * interval '1 second' AS next
    FROM told t JOIN nxsched.outbox_event e ON e.tenant_id = t.tenant_id AND e.id = t.id WHERE e.lease_owner = :owner
), settled AS (
    UPDATE nxsched.outbox_event e SET leased_until = NULL,
        lease_owner = CASE WHEN m.outcome = 'delivered' THEN e.lease_owner END,
        attempts = e.attempts - CASE WHEN m.outcome = 'untouched' THEN 1 ELSE 0 END,
        last_error = CASE WHEN m.outcome = 'untouched' THEN e.last_error
            WHEN m.named AND e.payload->'booking'->'attendee' = 'null' THEN m.error_type ELSE m.error END,
        done_at = CASE WHEN m.outcome = 'delivered' THEN CAST(:now AS timestamptz) END,
        dead_at = CASE WHEN m.outcome = 'dead' THEN CAST(:now AS timestamptz) END,
        due_at = CASE WHEN m.outcome = 'failed' THEN m.next ELSE e.due_at END
    FROM mine m WHERE e.tenant_id = m.tenant_id AND e.id = m.id AND e.lease_owner = :owner AND {_UNDONE}
    RETURNING e.tenant_id, e.booking_id, e.version, m.outcome, m.next
), following AS (
    UPDATE nxsched.outbox_event e
    SET due_at = CASE WHEN s.outcome = 'failed' THEN s.next ELSE least(e.due_at, s.next) END
    FROM settled s
    WHERE s.outcome IN ('failed', 'dead') AND e.tenant_id = s.tenant_id AND e.booking_id = s.booking_id
        AND e.version > s.version AND {_UNDONE}
)
SELECT id::text AS id FROM mine""",
    "id",
)


def settle(connection: Connection, owner: str, now: datetime, done: Sequence[Settled]) -> set[str]:
    """Write down what became of leased events; gives the ids of those whose lease was still ours."""
    rows = json.dumps([one.row() for one in done], ensure_ascii=False)
    return set(connection.execute(_SETTLE, {"owner": owner, "now": now, "rows": rows}).scalars())


_STATUS: Final = statement(
    f"""
SELECT count(*) AS depth, min(occurred_at) AS oldest, count(*) FILTER (WHERE last_error IS NOT NULL) AS failing,
    (SELECT count(*) FROM nxsched.outbox_event
        WHERE dead_at IS NOT NULL AND done_at IS NULL AND {{tenant}}) AS dead
FROM nxsched.outbox_event WHERE {_UNDONE} AND {{tenant}}""".format(
        tenant="(CAST(:tenant AS text) IS NULL OR tenant_id = CAST(:tenant AS text))"
    ),
    "depth oldest failing dead",
)


def status(connection: Connection, tenant: str | None, now: datetime) -> OutboxStatus:
    """How the outbox of a tenant stands, or that of all."""
    found = connection.execute(_STATUS, {"tenant": tenant}).one()
    lag = max(now - found.oldest, timedelta()) if found.oldest else timedelta()
    return OutboxStatus(depth=found.depth, lag=lag, failing=found.failing, dead=found.dead)


_STATES: Final[Mapping[OutboxState | None, str]] = {
    OutboxState.WAITING: f"{_UNDONE} AND coalesce(leased_until <= :now, true)",
    OutboxState.LEASED: f"{_UNDONE} AND leased_until > :now",
    OutboxState.DELIVERED: "done_at IS NOT NULL AND dead_at IS NULL",
    OutboxState.DEAD: "dead_at IS NOT NULL AND done_at IS NULL",
    OutboxState.DISCARDED: "done_at IS NOT NULL AND dead_at IS NOT NULL",
    None: f"(({_UNDONE}) OR (dead_at IS NOT NULL AND done_at IS NULL))",  # not delivered yet, each by its index
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which events are looked for: of which tenant, booking and state, after which one, how many."""

    tenant: str | None
    booking: str | None
    state: OutboxState | None
    after: tuple[datetime, str, int] | None
    limit: int


@cache
def _list(state: OutboxState | None) -> TextualSelect:
    return statement(
        f"""
SELECT {_SEEN} FROM nxsched.outbox_event e
WHERE {_STATES[state]} AND (CAST(:tenant AS text) IS NULL OR e.tenant_id = CAST(:tenant AS text))
    AND (CAST(:booking AS uuid) IS NULL OR e.booking_id = CAST(:booking AS uuid))
    AND (CAST(:after AS timestamptz) IS NULL
        OR (e.occurred_at, e.booking_id, e.version)
            > (CAST(:after AS timestamptz), CAST(:after_booking AS uuid), CAST(:after_version AS int)))
ORDER BY e.occurred_at, e.booking_id, e.version LIMIT :limit""",
        _COLUMNS,
    )


def find_events(connection: Connection, wanted: Wanted, now: datetime) -> list[OutboxEvent]:
    """Events as they happened; of one moment by booking and version."""
    after = wanted.after or (None, None, None)
    values = {
        "tenant": wanted.tenant,
        "booking": wanted.booking,
        "now": now,
        "after": after[0],
        "after_booking": after[1],
        "after_version": after[2],
        "limit": wanted.limit,
    }
    return [_event(row) for row in connection.execute(_list(wanted.state), values)]


# Keys begin with the tenant: to look in each is quick.
_HAS_ID: Final = "tenant_id = ANY(ARRAY(SELECT tenant_id FROM nxsched.tenant)) AND id = CAST(:id AS uuid)"

_FIND: Final = statement(f"SELECT {_SEEN} FROM nxsched.outbox_event e WHERE {_HAS_ID}", _COLUMNS)

# What is leased is being delivered, and what was delivered is over: neither is changed. What waits behind it is to be
# looked at.
_BY_HAND: Final = f"""
WITH changed AS (
    UPDATE nxsched.outbox_event SET {{changes}}, lease_owner = NULL, leased_until = NULL
    WHERE {_HAS_ID} AND {{may_be}} AND coalesce(leased_until <= :now, true)
    RETURNING *
), following AS (
    UPDATE nxsched.outbox_event e SET due_at = :now FROM changed c
    WHERE e.tenant_id = c.tenant_id AND e.booking_id = c.booking_id AND e.version > c.version
        AND e.done_at IS NULL AND e.dead_at IS NULL
)
SELECT {_SEEN} FROM changed e"""

_RETRY: Final = statement(
    _BY_HAND.format(
        changes="dead_at = NULL, done_at = NULL, attempts = 0, due_at = :now",
        may_be="(done_at IS NULL OR dead_at IS NOT NULL)",
    ),
    _COLUMNS,
)
_DISCARD: Final = statement(
    _BY_HAND.format(changes="dead_at = coalesce(dead_at, :now), done_at = :now", may_be="done_at IS NULL"), _COLUMNS
)


def find_event(connection: Connection, id_: str, now: datetime) -> OutboxEvent | None:
    """One event."""
    return _one(connection, _FIND, id_, now)


def retry_event(connection: Connection, id_: str, now: datetime) -> OutboxEvent | None:
    """Have an event delivered again from the first attempt on, now; `None` where it is leased, delivered or unknown."""
    return _one(connection, _RETRY, id_, now)


def discard_event(connection: Connection, id_: str, now: datetime) -> OutboxEvent | None:
    """Give an event up for good; `None` where it is leased, delivered or unknown."""
    return _one(connection, _DISCARD, id_, now)


def _one(connection: Connection, asked: TextualSelect, id_: str, now: datetime) -> OutboxEvent | None:
    found = connection.execute(asked, {"id": id_, "now": now}).one_or_none()
    return _event(found) if found else None


def _event(row: Any) -> OutboxEvent:  # noqa: ANN401 - a row
    return OutboxEvent(
        id=row.id,
        tenant=row.tenant,
        kind=row.kind,
        booking_id=row.booking_id,
        version=row.version,
        occurred_at=row.occurred_at.astimezone(UTC),
        payload=json.loads(row.payload),
        state=_state(row),
        attempts=row.attempts,
        due_at=row.due_at.astimezone(UTC),
        error=row.error,
        leased_by=row.owner,
        leased_until=row.leased_until and row.leased_until.astimezone(UTC),
    )


def _state(row: Any) -> OutboxState:  # noqa: ANN401 - a row
    if row.dead:
        return OutboxState.DISCARDED if row.delivered else OutboxState.DEAD
    if row.delivered:
        return OutboxState.DELIVERED
    return OutboxState.LEASED if row.leased else OutboxState.WAITING


# An array is made once. IN may be planned as a join that asks for the batch again for each row, and takes too many.
_DELETE_DONE: Final = text("""
DELETE FROM nxsched.outbox_event WHERE tenant_id = :tenant AND done_at <= :before AND id = ANY(ARRAY(
    SELECT id FROM nxsched.outbox_event WHERE tenant_id = :tenant AND done_at <= :before
    ORDER BY done_at LIMIT :most FOR UPDATE SKIP LOCKED))
""")


def delete_done(connection: Connection, tenant: str, now: datetime, keep_days: int, most: int) -> int:
    """Delete events that were delivered so many days ago or earlier, at most so many; gives how many."""
    values = {"tenant": tenant, "before": now - timedelta(days=keep_days), "most": most}
    return connection.execute(_DELETE_DONE, values).rowcount
