"""The tables as SQLAlchemy sees them; `migrations/` makes them, and a test holds the two together."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    DateTime,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, ExcludeConstraint
from sqlalchemy.schema import SchemaItem
from sqlalchemy.types import TypeEngine

SCHEMA: Final = "nxsched"
VERSION_TABLE: Final = "schema_version"
TENANT_SETTING: Final = "nxsched.tenant_id"
"""The transaction-local setting that row-level security compares with `tenant_id`."""

metadata: Final = MetaData(schema=SCHEMA)

_INSTANT: Final = DateTime(timezone=True)


def _table(name: str, *parts: SchemaItem, key: tuple[str, ...]) -> Table:
    """A table of tenants' rows: `tenant_id` comes first in it, in its key, and in all that refers to it."""
    return Table(
        name,
        metadata,
        Column("tenant_id", Text, nullable=False),
        *parts,
        PrimaryKeyConstraint("tenant_id", *key, name=f"{name}_pkey"),
    )


def _refers(name: str, column: str, table: str, *, cascade: bool = False) -> ForeignKeyConstraint:
    key = {"host": "host_no", "event_type": "event_type_no"}.get(table, "id")
    return ForeignKeyConstraint(
        ["tenant_id", column],
        [f"{SCHEMA}.{table}.tenant_id", f"{SCHEMA}.{table}.{key}"],
        name=f"{name}_{table}_fkey",
        ondelete="CASCADE" if cascade else None,
    )


def _of_tenant(name: str) -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["tenant_id"], [f"{SCHEMA}.tenant.tenant_id"], name=f"{name}_tenant_fkey")


def _needed(name: str, kind: TypeEngine[Any] | type[TypeEngine[Any]]) -> Column[Any]:
    return Column(name, kind, nullable=False)


def _queued() -> tuple[Column[Any], ...]:
    """The columns that every queue has, for leases and for what became of them."""
    return (
        _needed("due_at", _INSTANT),
        Column("attempts", Integer, nullable=False, server_default=text("0")),
        Column("lease_owner", Text),
        Column("leased_until", _INSTANT),
        Column("done_at", _INSTANT),
        Column("dead_at", _INSTANT),
        Column("last_error", Text),
    )


def _ordered(name: str, start: str, end: str) -> CheckConstraint:
    return CheckConstraint(f"{start} < {end} AND isfinite({start}) AND isfinite({end})", name=f"{name}_order_check")


tenant: Final = _table(
    "tenant",
    _needed("name", Text),
    Column("sender", Text),
    _needed("settings", JSONB),
    _needed("created_at", _INSTANT),
    key=(),
)

host: Final = _table(
    "host",
    Column("host_no", BigInteger, Identity(always=True), nullable=False),
    _needed("slug", Text),
    _needed("name", Text),
    Column("email", Text),
    _needed("settings", JSONB),
    _needed("attributes", JSONB),
    Column("claim_version", BigInteger, nullable=False, server_default=text("0")),
    _needed("created_at", _INSTANT),
    Column("archived_at", _INSTANT),
    UniqueConstraint("tenant_id", "slug", name="host_slug_key"),
    UniqueConstraint("host_no", name="host_number_key"),  # claims are kept apart by it, whatever the tenant
    _of_tenant("host"),
    key=("host_no",),
)

blocked_period: Final = _table(
    "blocked_period",
    _needed("id", Uuid),
    Column("host_no", BigInteger),
    _needed("definition", JSONB),
    _needed("reach_from", _INSTANT),
    _needed("reach_until", _INSTANT),
    _needed("created_at", _INSTANT),
    _of_tenant("blocked_period"),
    _refers("blocked_period", "host_no", "host"),
    CheckConstraint("reach_from < reach_until", name="blocked_period_reach_check"),
    Index("blocked_period_host", "tenant_id", "host_no", "reach_until"),
    key=("id",),
)

busy_time: Final = _table(
    "busy_time",
    Column("busy_no", BigInteger, Identity(always=True), nullable=False),
    _needed("host_no", BigInteger),
    _needed("source", Text),
    _needed("busy_from", _INSTANT),
    _needed("busy_until", _INSTANT),
    _refers("busy_time", "host_no", "host"),
    _ordered("busy_time", "busy_from", "busy_until"),
    Index("busy_time_host", "tenant_id", "host_no", "busy_until", "busy_from"),
    key=("busy_no",),
)

event_type: Final = _table(
    "event_type",
    Column("event_type_no", BigInteger, Identity(always=True), nullable=False),
    _needed("slug", Text),
    _needed("name", Text),
    _needed("settings", JSONB),
    _needed("reach_before", Integer),
    _needed("reach_after", Integer),
    Column("claim_version", BigInteger, nullable=False, server_default=text("0")),
    _needed("created_at", _INSTANT),
    Column("archived_at", _INSTANT),
    UniqueConstraint("tenant_id", "slug", name="event_type_slug_key"),
    _of_tenant("event_type"),
    key=("event_type_no",),
)

event_type_member: Final = _table(
    "event_type_member",
    _needed("event_type_no", BigInteger),
    _needed("host_no", BigInteger),
    _refers("event_type_member", "event_type_no", "event_type", cascade=True),
    _refers("event_type_member", "host_no", "host"),
    Index("event_type_member_host", "tenant_id", "host_no"),
    key=("event_type_no", "host_no"),
)

occurrence: Final = _table(
    "occurrence",
    _needed("id", Uuid),
    _needed("event_type_no", BigInteger),
    _needed("starts_at", _INSTANT),
    _needed("ends_at", _INSTANT),
    _needed("active", Boolean),
    Column("held_until", _INSTANT),
    _refers("occurrence", "event_type_no", "event_type"),
    _ordered("occurrence", "starts_at", "ends_at"),
    Index("occurrence_event_type", "tenant_id", "event_type_no", "starts_at", postgresql_where=text("active")),
    key=("id",),
)

CLAIM_NO_OVERLAP: Final = "claim_no_overlap"

claim: Final = _table(
    "claim",
    _needed("occurrence_id", Uuid),
    _needed("host_no", BigInteger),
    _needed("place", Integer),
    _needed("busy_from", _INSTANT),
    _needed("busy_until", _INSTANT),
    _needed("active", Boolean),
    Column("held_until", _INSTANT),
    _needed("claimed_at", _INSTANT),
    _refers("claim", "occurrence_id", "occurrence"),
    _refers("claim", "host_no", "host"),
    _ordered("claim", "busy_from", "busy_until"),
    ExcludeConstraint(
        (text("int8range(host_no, host_no, '[]')"), "&&"),
        (text("tstzrange(busy_from, busy_until)"), "&&"),
        name=CLAIM_NO_OVERLAP,
        using="gist",
        where=text("active"),
    ),
    Index("claim_host", "tenant_id", "host_no", "active", "busy_from", "busy_until"),
    Index(
        "claim_latest",
        "tenant_id",
        "host_no",
        "claimed_at",
        postgresql_where=text("active AND claimed_at > '-infinity'"),
    ),
    key=("occurrence_id", "host_no"),
)

booking: Final = _table(
    "booking",
    _needed("id", Uuid),
    _needed("occurrence_id", Uuid),
    _needed("event_type_no", BigInteger),
    _needed("status", Text),
    _needed("starts_at", _INSTANT),
    _needed("ends_at", _INSTANT),
    _needed("seats", Integer),
    Column("attendee_name", Text),
    Column("attendee_email", Text),
    Column("attendee_address", Text, Computed("lower(attendee_email)", persisted=True)),
    Column("attendee_timezone", Text),
    Column("attendee_reference", Text),
    _needed("answers", JSONB),
    _needed("metadata", JSONB),
    Column("location", Text),
    Column("reference", Text),
    Column("series_id", Uuid),
    Column("organizer", Text),
    _needed("sequence", Integer),
    _needed("version", Integer),
    _needed("moves", Integer),
    Column("assigned_because", Text),
    _needed("nonce", Text),
    _needed("created_at", _INSTANT),
    Column("expires_at", _INSTANT),
    _refers("booking", "occurrence_id", "occurrence"),
    _refers("booking", "event_type_no", "event_type"),
    CheckConstraint(
        "status IN ('held', 'pending', 'confirmed', 'cancelled', 'declined',"
        " 'expired', 'released', 'completed', 'no_show')",
        name="booking_status_check",
    ),
    CheckConstraint("status NOT IN ('held', 'pending') OR expires_at IS NOT NULL", name="booking_expiry_check"),
    _ordered("booking", "starts_at", "ends_at"),
    CheckConstraint("seats > 0", name="booking_seats_check"),
    CheckConstraint("version > 0 AND sequence >= 0 AND moves >= 0", name="booking_version_check"),
    Index("booking_start", "tenant_id", "starts_at", "id"),
    Index("booking_occurrence", "tenant_id", "occurrence_id"),
    Index("booking_event_type", "tenant_id", "event_type_no", "starts_at", "id"),
    Index("booking_attendee_address", "tenant_id", "attendee_address", "starts_at"),
    Index("booking_attendee_reference", "tenant_id", "attendee_reference", "starts_at"),
    Index("booking_series", "tenant_id", "series_id", postgresql_where=text("series_id IS NOT NULL")),
    Index("booking_open", "tenant_id", "status", "expires_at", postgresql_where=text("status IN ('held', 'pending')")),
    key=("id",),
)

audit_entry: Final = _table(
    "audit_entry",
    _needed("booking_id", Uuid),
    _needed("version", Integer),
    _needed("action", Text),
    Column("actor", JSONB),
    Column("reason", Text),
    _needed("changes", JSONB),
    _needed("at", _INSTANT),
    _refers("audit_entry", "booking_id", "booking"),
    key=("booking_id", "version"),
)

_UNDONE = text("done_at IS NULL AND dead_at IS NULL")

outbox_event: Final = _table(
    "outbox_event",
    _needed("id", Uuid),
    _needed("booking_id", Uuid),
    _needed("version", Integer),
    _needed("kind", Text),
    _needed("payload", JSONB),
    _needed("occurred_at", _INSTANT),
    *_queued(),
    UniqueConstraint("tenant_id", "booking_id", "version", name="outbox_event_version_key"),
    Index("outbox_event_undone", "due_at", postgresql_where=_UNDONE),
    Index("outbox_event_oldest", "tenant_id", "booking_id", "version", postgresql_where=_UNDONE),
    Index("outbox_event_done", "tenant_id", "done_at", postgresql_where=text("done_at IS NOT NULL")),
    Index("outbox_event_dead", "dead_at", postgresql_where=text("dead_at IS NOT NULL AND done_at IS NULL")),
    key=("id",),
)

reminder: Final = _table(
    "reminder",
    _needed("id", Uuid),
    _needed("booking_id", Uuid),
    _needed("version", Integer),
    _needed("kind", Text),
    _needed("recipient", Text),
    _needed("before", Text),
    Column("wished", Boolean, nullable=False, server_default=text("false")),
    _needed("occurred_at", _INSTANT),
    *_queued(),
    Column("ended_at", _INSTANT, Computed("coalesce(done_at, dead_at)", persisted=True)),
    Column("ended", Text),
    _refers("reminder", "booking_id", "booking"),
    UniqueConstraint("tenant_id", "booking_id", "version", "before", "recipient", name="reminder_once_key"),
    CheckConstraint(
        "(ended IS NULL) = (done_at IS NULL AND dead_at IS NULL)"
        " AND coalesce(ended IN ('sent', 'superseded', 'skipped', 'dead'), true)",
        name="reminder_ended_check",
    ),
    Index("reminder_undone", "due_at", postgresql_where=_UNDONE),
    Index("reminder_waiting", "tenant_id", "booking_id", postgresql_where=_UNDONE),
    Index("reminder_ended", "tenant_id", "ended_at", postgresql_where=text("ended_at IS NOT NULL")),
    Index("reminder_dead", "dead_at", postgresql_where=text("dead_at IS NOT NULL AND done_at IS NULL")),
    key=("id",),
)

message_template: Final = _table(
    "message_template",
    _needed("kind", Text),
    _needed("channel", Text),
    _needed("locale", Text),
    _needed("audience", Text),
    Column("subject", Text),
    _needed("text", Text),
    Column("html", Text),
    _needed("saved_at", _INSTANT),
    _of_tenant("message_template"),
    key=("kind", "channel", "locale", "audience"),
)

message_preference: Final = _table(
    "message_preference",
    _needed("who", Text),
    _needed("definition", JSONB),
    _needed("saved_at", _INSTANT),
    _of_tenant("message_preference"),
    key=("who",),
)

webhook: Final = _table(
    "webhook",
    _needed("id", Uuid),
    _needed("url", Text),
    _needed("kinds", JSONB),
    _needed("secrets", JSONB),
    _needed("enabled", Boolean),
    Column("disabled_because", Text),
    Column("failures", Integer, nullable=False, server_default=text("0")),
    Column("rests_until", _INSTANT),
    _needed("created_at", _INSTANT),
    _of_tenant("webhook"),
    key=("id",),
)

webhook_delivery: Final = _table(
    "webhook_delivery",
    _needed("id", Uuid),
    _needed("webhook_id", Uuid),
    _needed("event_id", Uuid),
    _needed("booking_id", Uuid),
    _needed("version", Integer),
    _needed("kind", Text),
    _needed("occurred_at", _INSTANT),
    *_queued(),
    Column("answer", JSONB),
    UniqueConstraint("tenant_id", "event_id", "webhook_id", name="webhook_delivery_event_key"),
    ForeignKeyConstraint(
        ["tenant_id", "event_id"],
        [f"{SCHEMA}.outbox_event.tenant_id", f"{SCHEMA}.outbox_event.id"],
        name="webhook_delivery_event_fkey",
        ondelete="CASCADE",
    ),
    Index("webhook_delivery_undone", "due_at", postgresql_where=_UNDONE),
    Index("webhook_delivery_oldest", "tenant_id", "webhook_id", "booking_id", "version", postgresql_where=_UNDONE),
    Index("webhook_delivery_dead", "dead_at", postgresql_where=text("dead_at IS NOT NULL AND done_at IS NULL")),
    Index("webhook_delivery_log", "tenant_id", "occurred_at", "booking_id", "version", "id"),
    Index("webhook_delivery_log_of_webhook", "tenant_id", "webhook_id", "occurred_at"),
    Index("webhook_delivery_log_of_booking", "tenant_id", "booking_id"),
    key=("id",),
)

idempotency_key: Final = _table(
    "idempotency_key",
    _needed("key", Text),
    _needed("fingerprint", Text),
    _needed("result", JSONB),
    _needed("created_at", _INSTANT),
    _needed("expires_at", _INSTANT),
    Index("idempotency_key_expiry", "tenant_id", "expires_at"),
    key=("key",),
)
