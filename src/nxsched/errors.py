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


def _again(kind: type[NxschedError], args: tuple[object, ...], facts: dict[str, object]) -> NxschedError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(facts)
    return error
