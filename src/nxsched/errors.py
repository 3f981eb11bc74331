"""The errors nxsched raises: one root, a stable `code` each, their facts as fields."""

from __future__ import annotations

from typing import ClassVar


class NxschedError(Exception):
    """The root of every error that nxsched raises on purpose."""

    code: ClassVar[str] = "nxsched_error"

    def __reduce__(self) -> tuple[object, ...]:
        """Let errors travel between processes with their facts, though these are keyword-only arguments."""
        return _again, (type(self), self.args, self.__dict__)


class InvalidInput(NxschedError, ValueError):
    """A value that was passed in cannot be used; nothing was computed or written.

    `field` is the place (`hosts.ada.weekly_hours[1].end`), `reason` says what is wrong with it and what is expected.
    """

    code: ClassVar[str] = "invalid_input"

    def __init__(self, *, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class MissingExtra(NxschedError, ImportError):
    """A part of nxsched was used whose packages are optional, and they are not installed."""

    code: ClassVar[str] = "missing_extra"

    def __init__(self, *, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra '{extra}': pip install 'nxsched[{extra}]'")
        self.extra = extra


class StoreUnavailable(NxschedError):
    """The database could not be reached, or the connection broke.

    `may_have_happened` is true where it broke at COMMIT: the change may have been made, and only the database knows.
    """

    code: ClassVar[str] = "store_unavailable"

    def __init__(self, message: str, *, may_have_happened: bool = False) -> None:
        super().__init__(message)
        self.may_have_happened = may_have_happened


class SchemaOutdated(NxschedError):
    """The tables of the database are not those that this version of nxsched works with.

    `found` is the revision of the database, `None` where there are no tables; `wanted` is the one that is needed.
    """

    code: ClassVar[str] = "schema_outdated"

    def __init__(self, *, found: str | None, wanted: str) -> None:
        state = f"is at revision {found}" if found else "has no nxsched tables"
        super().__init__(
            f"the database {state}, and {wanted} is needed: run `nxsched migrate` as the owner of its tables"
        )
        self.found = found
        self.wanted = wanted


def _again(kind: type[NxschedError], args: tuple[object, ...], facts: dict[str, object]) -> NxschedError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(facts)
    return error
