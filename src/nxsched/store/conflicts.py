"""Errors of the driver as errors of nxsched: translated once, at the edge."""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self

from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from nxsched.errors import (
    LockTimeout,
    NxschedError,
    SchemaOutdated,
    StoreUnavailable,
    TenantNotFound,
    TransactionConflict,
)
from nxsched.store import migrate

_NO_TABLES: Final = {"42P01", "3F000", "42703"}
"""Undefined table, invalid schema name, undefined column."""

_AWAY: Final = ("08", "28", "3D", "53", "57", "58")
"""Classes of what an OperationalError is to psycopg, and any error to asyncpg: no connection, login or resources."""

FAILED_BEFORE: Final = "the application's transaction has failed before: roll it back, and begin anew"

_CONFLICTS: Final = {"40001": "a serialization failure", "40P01": "a deadlock"}


class Waited(TransactionConflict):
    """While a statement waited, what was read or judged before it went out of date: the action is to be done again."""


class translated:  # noqa: N801 - used as a function
    """Raise what the driver raises in a block as an error of nxsched, with the driver's own as its cause.

    `at_commit` says that the block has come to its COMMIT: what fails from then on may have happened.
    """

    def __init__(self, tenant: str | None = None) -> None:
        self.tenant = tenant
        self.at_commit = False

    def __enter__(self) -> Self:
        """Begin the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Raise the translation, if there is one. The driver's own shows no values: they may be personal, or secret."""
        if isinstance(error, StatementError):
            error.hide_parameters = True
        found = None if error is None else translation(error, self.tenant, at_commit=self.at_commit)
        if found is not None:
            raise found from error


def translation(error: BaseException, tenant: str | None = None, *, at_commit: bool = False) -> NxschedError | None:
    """The error of nxsched that says what an error of the driver means; `None` for a mistake of our own."""
    if isinstance(error, PoolTimeout):
        return StoreUnavailable("every connection of the pool is in use, and none came free in time")
    if isinstance(error, NotImplementedError) and "DateStyle" in str(error):
        return StoreUnavailable("nxsched reads times in ISO format: SET datestyle = 'ISO' for this login or session")
    if isinstance(error, OSError):  # what asyncpg lets through of a socket, a name or a time-out of its own
        return _away(str(error) or "it did not answer in time", at_commit=at_commit)
    if type(error).__module__.partition(".")[0] == "asyncpg":  # raw, as a connection that is being opened ends
        return _away(str(error), at_commit=at_commit)
    if not isinstance(error, DBAPIError):
        return None
    words = (str(error.orig).strip().splitlines() or [type(error.orig).__name__])[0]
    state = getattr(error.orig, "sqlstate", None)
    found = _by_state(state, words)
    if found is None and tenant is not None and _names_no_tenant(error):
        found = TenantNotFound(id=tenant)
    lost = error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)
    lost |= isinstance(error, InternalError) and state is None  # asyncpg itself, of a connection that was cut off
    if found is None and (lost or (state or "").startswith(_AWAY)):
        found = _away(words, at_commit=at_commit)
    return found


def _away(words: str, *, at_commit: bool) -> StoreUnavailable:
    broke = "the connection broke at COMMIT, and the change may have been made"
    reason = broke if at_commit else "the database cannot be reached"
    return StoreUnavailable(f"{reason}: {words}", may_have_happened=at_commit)


def _by_state(state: str | None, words: str) -> NxschedError | None:
    if state in _NO_TABLES:
        return SchemaOutdated(found=None, wanted=migrate.head())
    if state in _CONFLICTS:
        return TransactionConflict(f"the transaction met another one, with {_CONFLICTS[state]}: run it again")
    if state == "55P03":
        return LockTimeout("somebody else works on the same hosts, and did not finish in time: try again")
    reason = _REASONS.get(state or "")
    return StoreUnavailable(reason.format(words=words)) if reason else None


_OTHER_SESSION: Final = (
    "the session changed, and with it the prepared statements: an engine behind a pooler needs prepare_threshold=None"
)

_REASONS: Final = {
    # insufficient privilege, or a row of another tenant
    "42501": "the database refuses this login: {words}; as the owner of the tables, `nxsched migrate --app-role`"
    " grants the application's role what it needs, and --worker-role the worker's",
    "42883": "a function of nxsched is missing: {words}; as the owner of the tables, `nxsched migrate` makes it",
    "42704": "something is gone that nxsched needs: {words}; `nxsched doctor` says what to do",
    "57014": "a statement took longer than statement_timeout allows, or was cancelled",
    "25P02": FAILED_BEFORE,
    "25P03": "the server ended a transaction that lay idle for longer than idle_in_transaction_session_timeout allows",
    "25006": "the database takes no changes here, in a read-only transaction or on a standby server: {words}",
    # a prepared statement that is not there, or is there already
    "26000": _OTHER_SESSION,
    "42P05": _OTHER_SESSION,
}


def _names_no_tenant(error: DBAPIError) -> bool:
    """What the constraint's name says, as psycopg tells it, or asyncpg."""
    told = getattr(error.orig, "diag", None) or getattr(error.orig, "__cause__", None)
    return str(getattr(told, "constraint_name", None)).endswith("_tenant_fkey")
