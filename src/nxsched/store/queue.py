"""Queues of what is to be delivered: lease what is due, write down what became of it, look at it.

Each is a table with the same columns for that. What differs is data: the table, what comes in order, what is read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Final, Generic, Literal, Protocol, TypeVar

from sqlalchemy import Connection, TextualSelect

from nxsched.domain.outbox import OutboxState, OutboxStatus
from nxsched.store.statements import statement

CHANNEL: Final = "nxsched_outbox"
"""Where a commit that left events is announced."""


class Queued(Protocol):
    """What a relay knows of whatever it delivers."""

    @property
    def id(self) -> str:
        """Its own, in its queue."""

    @property
    def tenant(self) -> str:
        """Whose it is."""

    @property
    def kind(self) -> str:
        """Of what event."""

    @property
    def payload(self) -> Mapping[str, Any]:
        """What it says."""

    @property
    def attempts(self) -> int:
        """The present one counted."""

    @property
    def error(self) -> str | None:
        """Of the attempt before."""

    @property
    def state(self) -> OutboxState:
        """What has become of it."""

    @property
    def leased_by(self) -> str | None:
        """Who has it."""

    @property
    def leased_until(self) -> datetime | None:
        """For how long."""

    @property
    def occurred_at(self) -> datetime:
        """When."""

    @property
    def read_at(self) -> datetime:
        """What time it was when it was leased."""

    @property
    def booking_id(self) -> str:
        """Of which booking."""

    @property
    def version(self) -> int:
        """Which change of it."""


T = TypeVar("T", bound=Queued)

_COLUMNS: Final = (
    "id tenant kind booking_id version occurred_at payload attempts due_at error leased delivered dead owner"
    " leased_until read_at"
)
# JSON comes as text: an application may have told the driver to read it in a way of its own.
_SEEN: Final = """e.id::text AS id, e.tenant_id AS tenant, e.kind, e.booking_id::text AS booking_id, e.version,
    e.occurred_at, {payload}::text AS payload, e.attempts, e.due_at, e.last_error AS error,
    coalesce(e.leased_until > CAST(:now AS timestamptz), false) AS leased, e.done_at IS NOT NULL AS delivered,
    e.dead_at IS NOT NULL AS dead, e.lease_owner AS owner, e.leased_until, CAST(:now AS timestamptz) AS read_at"""

_UNDONE: Final = "e.done_at IS NULL AND e.dead_at IS NULL"

# What is queued waits for the oldest of its line that is not done: a subquery for each, since the planner may make a
# join of NOT EXISTS that reads the whole queue. The batch is a number in the text: of a parameter it would expect a
# tenth of the table. Who comes to a row that somebody has just leased passes it by, and so does who waited for nothing.
#
# A lease that has ended and was not given back is one of a relay that died with it. What two have died with may have
# been what killed them: each of those goes alone, so that it takes no others with it. Attempts are counted now, so that
# what kills every relay ends as dead. What is chosen is kept as it is: rows that somebody has just changed would be
# looked for again, and not be found.
_LEASE: Final = """
WITH due AS (
    SELECT e.tenant_id, e.id, e.due_at, e.lease_owner IS NOT NULL AND e.attempts > 1 AS suspect
    FROM nxsched.{table} e
    WHERE {undone} AND e.due_at <= :before AND (e.leased_until IS NULL OR e.leased_until <= :now) AND {may}
        AND e.version = (
            SELECT o.version FROM nxsched.{table} o
            WHERE o.tenant_id = e.tenant_id AND {its_line} AND o.done_at IS NULL AND o.dead_at IS NULL
            ORDER BY o.version LIMIT 1)
    ORDER BY e.due_at LIMIT {most} FOR UPDATE OF e SKIP LOCKED
), chosen AS MATERIALIZED (
    SELECT tenant_id, id FROM due WHERE NOT EXISTS (SELECT FROM due WHERE suspect)
    UNION ALL (SELECT tenant_id, id FROM due WHERE suspect ORDER BY due_at LIMIT 1)
), leased AS (
    UPDATE nxsched.{table} e SET attempts = e.attempts + 1, lease_owner = :owner, leased_until = :until
    FROM chosen WHERE e.tenant_id = chosen.tenant_id AND e.id = chosen.id
    RETURNING e.*
)
SELECT {seen} FROM leased e {joined} ORDER BY e.due_at, e.occurred_at"""

Outcome = Literal["delivered", "skipped", "failed", "dead", "untouched", "later"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What became of what was leased: `wait` is for how long it rests where it `failed`, or is for `later`.

    One that was `untouched` goes back as if it had not been leased, and so does one for later, but for the rest.
    `answer`, as JSON, is what the receiver said.
    """

    item: Queued
    outcome: Outcome
    error: str | None = None
    wait: timedelta = timedelta()
    answer: Mapping[str, Any] | None = None

    @property
    def _is_named(self) -> bool:
        """Whether it is about a person, as far as whoever delivers it has left its payload as it was."""
        booking = self.item.payload.get("booking", {})
        return not isinstance(booking, Mapping) or bool(booking.get("attendee"))

    def row(self) -> dict[str, Any]:
        """The row of `told`."""
        return {
            "tenant_id": self.item.tenant,
            "id": self.item.id,
            "outcome": self.outcome,
            "error": self.error,
            "error_type": self.error and self.error.partition(":")[0],
            "named": self._is_named,
            "wait": self.wait.total_seconds(),
            "answer": self.answer,
        }


# Later ones of a line rest as long as the one that they wait for, so that nobody looks at them in vain each time; when
# that is dead it is their turn. Who delivered something stays named: asked again after a connection broke at COMMIT,
# this says once more what it had done.
_SETTLE: Final = """
WITH told AS (
    SELECT * FROM jsonb_to_recordset(CAST(CAST(:rows AS text) AS jsonb)) AS t(tenant_id text, id uuid, outcome text,
        error text, error_type text, named boolean, wait float8, answer jsonb)
), mine AS (
    SELECT e.tenant_id, e.id, t.outcome, t.error, t.error_type, t.named, t.answer,
        CAST(:now AS timestamptz) + t.wait * interval '1 second' AS next
    FROM told t JOIN nxsched.{table} e ON e.tenant_id = t.tenant_id AND e.id = t.id WHERE e.lease_owner = :owner
), settled AS (
    UPDATE nxsched.{table} e SET leased_until = NULL,
        lease_owner = CASE WHEN m.outcome = 'delivered' THEN e.lease_owner END,
        attempts = e.attempts - CASE WHEN m.outcome IN ('untouched', 'later') THEN 1 ELSE 0 END,
        last_error = CASE WHEN m.outcome IN ('untouched', 'later') THEN e.last_error ELSE {error} END,
        done_at = CASE WHEN m.outcome IN ('delivered', 'skipped') THEN CAST(:now AS timestamptz) END,
        dead_at = CASE WHEN m.outcome = 'dead' THEN CAST(:now AS timestamptz) END,
        due_at = CASE WHEN m.outcome IN ('failed', 'later') THEN m.next ELSE e.due_at END{kept}
    FROM mine m WHERE e.tenant_id = m.tenant_id AND e.id = m.id AND e.lease_owner = :owner AND {undone}
    RETURNING e.tenant_id, {line}, e.version, m.outcome, m.next, m.answer
), following AS (
    UPDATE nxsched.{table} e
    SET due_at = CASE WHEN o.outcome = 'failed' THEN o.next ELSE least(e.due_at, o.next) END
    FROM settled o
    WHERE o.outcome IN ('failed', 'dead') AND o.tenant_id = e.tenant_id AND {its_line}
        AND e.version > o.version AND {undone}
){also}
SELECT id::text AS id FROM mine"""

_STATUS: Final = """
SELECT count(*) AS depth, min({since}) AS oldest, count(*) FILTER (WHERE last_error IS NOT NULL) AS failing,
    (SELECT count(*) FROM nxsched.{table}
        WHERE dead_at IS NOT NULL AND done_at IS NULL AND {tenant}) AS dead
FROM nxsched.{table} e WHERE {undone} AND {backlog} AND {tenant}"""

_OF_TENANT: Final = "(CAST(:tenant AS text) IS NULL OR tenant_id = CAST(:tenant AS text))"

_STATES: Final[Mapping[OutboxState | None, str]] = {
    OutboxState.WAITING: f"{_UNDONE} AND coalesce(e.leased_until <= :now, true)",
    OutboxState.LEASED: f"{_UNDONE} AND e.leased_until > :now",
    OutboxState.DELIVERED: "e.done_at IS NOT NULL AND e.dead_at IS NULL",
    OutboxState.DEAD: "e.dead_at IS NOT NULL AND e.done_at IS NULL",
    OutboxState.DISCARDED: "e.done_at IS NOT NULL AND e.dead_at IS NOT NULL",
    None: f"(({_UNDONE}) OR (e.dead_at IS NOT NULL AND e.done_at IS NULL))",  # not delivered yet, each by its index
}

_LIST: Final = """
SELECT {seen} FROM nxsched.{table} e {joined}
WHERE {state} {given}
    AND (CAST(:after AS timestamptz) IS NULL
        OR (e.occurred_at, e.booking_id, e.version, e.id)
            > (CAST(:after AS timestamptz), CAST(:after_booking AS uuid), CAST(:after_version AS int),
                CAST(:after_id AS uuid)))
ORDER BY e.occurred_at, e.booking_id, e.version, e.id LIMIT :limit"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is looked for: of which tenant, booking and state, after which one, how many.

    `every` means all states, and not only what is not delivered yet. `of` is what only some queues know: of deliveries,
    the endpoint.
    """

    tenant: str | None
    booking: str | None
    state: OutboxState | None
    after: tuple[datetime, str, int, str] | None
    limit: int
    every: bool = False
    of: str | None = None

    @property
    def given(self) -> dict[str, str]:
        """By what rows are looked up: a plan is made for what is asked, and knows no other."""
        found = {"tenant": self.tenant, "booking": self.booking, "of": self.of}
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True, slots=True)
class One:
    """One that is meant: of a tenant, or of whichever it is for who sees all of them."""

    id: str
    tenant: str | None = None


# Keys begin with the tenant: where none is named, to look in each is quick.
_HAS_ID: Final = """e.tenant_id = ANY(CASE WHEN CAST(:tenant AS text) IS NULL
    THEN ARRAY(SELECT tenant_id FROM nxsched.tenant) ELSE ARRAY[CAST(:tenant AS text)] END)
    AND e.id = CAST(:id AS uuid)"""

# What is leased is being delivered, and what was delivered is over: neither is changed. What waits behind it is to be
# looked at.
_BY_HAND: Final = """
WITH changed AS (
    UPDATE nxsched.{table} e SET {changes}, lease_owner = NULL, leased_until = NULL
    WHERE {has_id} AND {may_be} AND coalesce(e.leased_until <= :now, true)
    RETURNING *
), following AS (
    UPDATE nxsched.{table} e SET due_at = :now FROM changed o
    WHERE o.tenant_id = e.tenant_id AND {its_line} AND e.version > o.version AND {undone}
)
SELECT {seen} FROM changed e {joined}"""


@dataclass(frozen=True)
class Queue(Generic[T]):
    """A table of what is to be delivered, and how its rows are read.

    `line` are the columns that what comes in order of versions has in common. `payload` is where the payload stands,
    `error` what of an error is kept, `kept` and `also` what else is written down when something is settled. The age
    of what is `backlog` counts from `since`; `may` keeps what is due from being leased.
    What is to be looked at once more before it is delivered says so with `look_first`. Where one fails, the others that
    give the same for `fails_with` go back untried.
    """

    noun: str
    table: str
    line: Sequence[str]
    read: Callable[[Mapping[str, Any]], T]
    payload: str = "e.payload"
    more: str = ""
    more_columns: str = ""
    joined: str = ""
    error: str = "m.error"
    kept: str = ""
    also: str = ""
    of: str = ""
    keeps_answers: bool = False
    look_first: bool = False
    fails_with: Callable[[T], str] | None = None
    may: str = "true"
    since: str = "occurred_at"
    backlog: str = "true"

    def lease(
        self, connection: Connection, owner: str, now: datetime, before: datetime, lasts: timedelta, most: int
    ) -> list[T]:
        """Lease what was due `before`, of each line the oldest, at most so many, for who delivers it."""
        values = {"owner": owner, "now": now, "before": before, "until": now + lasts}
        return [self._read(row) for row in connection.execute(self._leasing(most), values)]

    def settle(self, connection: Connection, owner: str, now: datetime, done: Sequence[Settled]) -> set[str]:
        """Write down what became of what was leased; gives the ids of that whose lease was still ours."""
        rows = json.dumps([one.row() for one in done], ensure_ascii=False)
        return set(connection.execute(self._settling, {"owner": owner, "now": now, "rows": rows}).scalars())

    def status(self, connection: Connection, tenant: str | None, now: datetime) -> OutboxStatus:
        """How the queue of a tenant stands, or that of all."""
        found = connection.execute(self._status, {"tenant": tenant, "now": now}).one()
        lag = max(now - found.oldest, timedelta()) if found.oldest else timedelta()
        return OutboxStatus(depth=found.depth, lag=lag, failing=found.failing, dead=found.dead)

    def page(self, connection: Connection, wanted: Wanted, now: datetime) -> list[T]:
        """What is queued as it happened; of one moment by booking and version."""
        after = wanted.after or (None, None, None, None)
        values = {
            **wanted.given,
            "now": now,
            "after": after[0],
            "after_booking": after[1],
            "after_version": after[2],
            "after_id": after[3],
            "limit": wanted.limit,
        }
        return [self._read(row) for row in connection.execute(self._listing(wanted), values)]

    def find(self, connection: Connection, one: One, now: datetime) -> T | None:
        """One of them."""
        return self._one(connection, self._finding, one, now)

    def retry(self, connection: Connection, one: One, now: datetime) -> T | None:
        """Have it delivered again from the first attempt on, now; `None` where it is leased, delivered or unknown."""
        return self._one(connection, self._retrying, one, now)

    def discard(self, connection: Connection, one: One, now: datetime) -> T | None:
        """Give it up for good; `None` where it is leased, delivered or unknown."""
        return self._one(connection, self._discarding, one, now)

    def _one(self, connection: Connection, asked: TextualSelect, one: One, now: datetime) -> T | None:
        found = connection.execute(asked, {"tenant": one.tenant, "id": one.id, "now": now}).one_or_none()
        return self._read(found) if found else None

    def _read(self, row: Any) -> T:  # noqa: ANN401 - a row
        return self.read(row._mapping)  # noqa: SLF001 - a row's own name for its columns

    def _statement(self, sql: str, columns: str, **parts: object) -> TextualSelect:
        return statement(
            sql.format(
                table=self.table,
                line=", ".join(f"e.{one}" for one in self.line),
                its_line=" AND ".join(f"o.{one} = e.{one}" for one in self.line),
                seen=_SEEN.format(payload=self.payload) + self.more,
                joined=self.joined,
                undone=_UNDONE,
                has_id=_HAS_ID,
                **parts,
            ),
            columns,
        )

    @property
    def _columns(self) -> str:
        return f"{_COLUMNS} {self.more_columns}"

    @cached_property
    def _made(self) -> dict[object, TextualSelect]:
        """Statements that differ by what is asked."""
        return {}

    def _leasing(self, most: int) -> TextualSelect:
        if most not in self._made:
            self._made[most] = self._statement(_LEASE, self._columns, most=most, may=self.may)
        return self._made[most]

    def _listing(self, wanted: Wanted) -> TextualSelect:
        which = "every" if wanted.every else wanted.state, *wanted.given
        if which not in self._made:
            columns = {"tenant": "e.tenant_id", "booking": "e.booking_id", "of": self.of}
            given = " ".join(
                f"AND {columns[name]} = CAST(:{name} AS {'text' if name == 'tenant' else 'uuid'})"
                for name in wanted.given
            )
            state = "true" if wanted.every else _STATES[wanted.state]
            self._made[which] = self._statement(_LIST, self._columns, state=state, given=given)
        return self._made[which]

    @cached_property
    def _settling(self) -> TextualSelect:
        return self._statement(_SETTLE, "id", error=self.error, kept=self.kept, also=self.also)

    @cached_property
    def _status(self) -> TextualSelect:
        return self._statement(
            _STATUS, "depth oldest failing dead", tenant=_OF_TENANT, since=self.since, backlog=self.backlog
        )

    @cached_property
    def _finding(self) -> TextualSelect:
        return self._statement("SELECT {seen} FROM nxsched.{table} e {joined} WHERE {has_id}", self._columns)

    @cached_property
    def _retrying(self) -> TextualSelect:
        changes = "dead_at = NULL, done_at = NULL, attempts = 0, due_at = :now"
        may_be = "(e.done_at IS NULL OR e.dead_at IS NOT NULL)"
        return self._statement(_BY_HAND, self._columns, changes=changes, may_be=may_be)

    @cached_property
    def _discarding(self) -> TextualSelect:
        changes = "dead_at = coalesce(dead_at, :now), done_at = :now"
        return self._statement(_BY_HAND, self._columns, changes=changes, may_be="e.done_at IS NULL")


def common(row: Mapping[str, Any]) -> dict[str, Any]:
    """What every queue reads of a row."""
    return {
        "id": row["id"],
        "tenant": row["tenant"],
        "kind": row["kind"],
        "booking_id": row["booking_id"],
        "version": row["version"],
        "occurred_at": row["occurred_at"].astimezone(UTC),
        "payload": json.loads(row["payload"]),
        "state": _state(row),
        "attempts": row["attempts"],
        "due_at": row["due_at"].astimezone(UTC),
        "error": row["error"],
        "leased_by": row["owner"],
        "leased_until": row["leased_until"] and row["leased_until"].astimezone(UTC),
        "read_at": row["read_at"].astimezone(UTC),
    }


def _state(row: Mapping[str, Any]) -> OutboxState:
    if row["dead"]:
        return OutboxState.DISCARDED if row["delivered"] else OutboxState.DEAD
    if row["delivered"]:
        return OutboxState.DELIVERED
    return OutboxState.LEASED if row["leased"] else OutboxState.WAITING
