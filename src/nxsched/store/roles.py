"""Who may do what: the least rights of the application's role and of the worker's, and row-level security (RLS)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql.base import PGDialect

from nxsched.domain.checks import shown
from nxsched.errors import InvalidInput
from nxsched.store.schema import SCHEMA, VERSION_TABLE

RIGHTS: Final[dict[str, tuple[str, str]]] = {
    # table: what the application may do, what the worker may do
    "tenant": ("SELECT, INSERT, UPDATE", "SELECT"),
    "host": ("SELECT, INSERT, UPDATE", "SELECT, UPDATE"),
    "blocked_period": ("SELECT, INSERT, DELETE", "SELECT"),
    "busy_time": ("SELECT, INSERT, DELETE", "SELECT, INSERT, DELETE"),
    "event_type": ("SELECT, INSERT, UPDATE", "SELECT, UPDATE"),
    "event_type_member": ("SELECT, INSERT, DELETE", "SELECT"),
    "occurrence": ("SELECT, INSERT, UPDATE", "SELECT, UPDATE"),
    "claim": ("SELECT, INSERT, UPDATE", "SELECT, UPDATE"),
    "booking": ("SELECT, INSERT, UPDATE", "SELECT, UPDATE"),
    "audit_entry": ("SELECT, INSERT", "SELECT, INSERT"),
    "outbox_event": ("SELECT, INSERT", "SELECT, INSERT, UPDATE, DELETE"),
    "reminder": ("SELECT, INSERT, UPDATE", "SELECT, INSERT, UPDATE, DELETE"),
    "message_template": ("SELECT, INSERT, UPDATE, DELETE", "SELECT"),
    "message_preference": ("SELECT, INSERT, UPDATE, DELETE", "SELECT"),
    "webhook": ("SELECT, INSERT, UPDATE, DELETE", "SELECT, UPDATE"),
    "webhook_delivery": ("SELECT, INSERT, UPDATE, DELETE", "SELECT, INSERT, UPDATE, DELETE"),
    "idempotency_key": ("SELECT, INSERT, UPDATE, DELETE", "SELECT, UPDATE, DELETE"),
    VERSION_TABLE: ("SELECT", "SELECT"),
}
"""What each role may do; row-level security decides in which rows."""

FUNCTIONS: Final = ("erase_records(uuid[])", "erase_person(text, text)")
"""The functions by which the application takes a person out of records that it may not change otherwise."""

ACROSS_TENANTS: Final = (
    ("tenant", "SELECT"),
    ("outbox_event", "SELECT"),
    ("outbox_event", "UPDATE"),
    ("outbox_event", "DELETE"),
    ("reminder", "SELECT"),
    ("reminder", "UPDATE"),
    ("reminder", "DELETE"),
    ("webhook", "SELECT"),
    ("webhook", "UPDATE"),
    ("webhook_delivery", "SELECT"),
    ("webhook_delivery", "UPDATE"),
    ("webhook_delivery", "DELETE"),
)
"""What the worker may do in the rows of all tenants; all else it does tenant by tenant."""

_WORKERS: Final = text(
    "SELECT unnest(roles) FROM pg_policies"
    f" WHERE schemaname = '{SCHEMA}' AND tablename = 'tenant' AND policyname = :policy"
)
_BOOKS: Final = text(
    "SELECT has_table_privilege(:role, oid, 'INSERT') FROM pg_class"
    f" WHERE relname = 'booking' AND relnamespace = to_regnamespace('{SCHEMA}')"
    " AND NOT pg_has_role(:role, relowner, 'USAGE')"
)

_PREPARER: Final = PGDialect().identifier_preparer  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """The names of the roles that rights are granted to; none for a role that is not used. Raises `InvalidInput`."""

    app: str | None = None
    worker: str | None = None

    def __post_init__(self) -> None:
        """One role for both would see all tenants."""
        if self.app is not None and self.app == self.worker:
            raise InvalidInput(field="worker_role", reason="must be another role than the application's")

    def check(self, connection: Connection) -> None:
        """Raise `InvalidInput` for a role that does not exist, and for one that was the other of old."""
        for field, role in (("app_role", self.app), ("worker_role", self.worker)):
            if role is not None:
                found = connection.execute(
                    text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role}
                ).scalar()
                if found is None:
                    reason = f"there is no role {shown(role)}; make it first: CREATE ROLE … LOGIN"
                    raise InvalidInput(field=field, reason=reason)
        if self.app in _workers(connection):
            reason = f"{shown(self.app)} is a worker's role, which sees all tenants: name another one"
            raise InvalidInput(field="app_role", reason=reason)
        if self.worker is not None and _books(connection, self.worker):
            reason = f"{shown(self.worker)} is an application's role, which must not see all tenants: name another one"
            raise InvalidInput(field="worker_role", reason=reason)


def grant(connection: Connection, roles: Roles) -> None:
    """Grant the rights; what was granted before stays, to other roles too."""
    for statement in statements(roles, _workers(connection)):
        connection.exec_driver_sql(statement)


def statements(roles: Roles, workers: Iterable[str] = ()) -> Iterator[str]:
    """The statements that grant the rights; `workers` are roles that have had the worker's before."""
    for role, place in ((roles.app, 0), (roles.worker, 1)):
        if role is not None:
            name = _quoted(role)
            yield f"GRANT USAGE ON SCHEMA {SCHEMA} TO {name}"
            for table, rights in RIGHTS.items():
                yield f"GRANT {rights[place]} ON {SCHEMA}.{table} TO {name}"
            if place == 0:
                for function in FUNCTIONS:
                    yield f"GRANT EXECUTE ON FUNCTION {SCHEMA}.{function} TO {name}"
    if roles.worker is not None:
        names = ", ".join(_quoted(role) for role in sorted({*workers, roles.worker}))
        for table, right in ACROSS_TENANTS:
            policy = worker_policy(table, right)
            yield f"DROP POLICY IF EXISTS {policy} ON {SCHEMA}.{table}"
            yield f"CREATE POLICY {policy} ON {SCHEMA}.{table} FOR {right} TO {names} USING (true)"


def worker_policy(table: str, right: str) -> str:
    """The name of the policy that lets the worker use a right in the rows of all tenants."""
    return f"{table}_{right.lower()}_by_worker"


def _workers(connection: Connection) -> set[str]:
    """The roles that see all tenants."""
    return set(connection.execute(_WORKERS, {"policy": worker_policy("tenant", "SELECT")}).scalars())


def _books(connection: Connection, role: str) -> bool:
    """Whether a role may insert bookings, as an application's may; the owner of the tables may do anything anyway."""
    return bool(connection.execute(_BOOKS, {"role": role}).scalar())


def _quoted(role: str) -> str:
    return str(_PREPARER.quote_identifier(role))
