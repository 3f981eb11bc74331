"""The errors nxsched raises: one root, a stable `code` each, their facts as fields."""

from __future__ import annotations

from typing import ClassVar


class NxschedError(Exception):
    """The root of every error that nxsched raises on purpose."""

    code: ClassVar[str] = "nxsched_error"


class InvalidInput(NxschedError, ValueError):
    """A value that was passed in cannot be used; nothing was computed or written.

    `field` is the place (`hosts.ada.weekly_hours[1].end`), `reason` says what is wrong with it and what is expected.
    """

    code: ClassVar[str] = "invalid_input"

    def __init__(self, *, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason

    def __reduce__(self) -> tuple[object, ...]:
        """Let the error travel between processes, though its fields are keyword-only."""
        return (_invalid_input, (self.field, self.reason))


def _invalid_input(field: str, reason: str) -> InvalidInput:
    return InvalidInput(field=field, reason=reason)


class MissingExtra(NxschedError, ImportError):
    """A part of nxsched was used whose packages are optional, and they are not installed."""

    code: ClassVar[str] = "missing_extra"

    def __init__(self, *, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra '{extra}': pip install 'nxsched[{extra}]'")
        self.extra = extra
