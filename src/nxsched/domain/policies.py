"""What may be done to a booking that stands, and until when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from nxsched.domain import checks
from nxsched.domain.bounds import MAX_CAPACITY


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """What actors of some roles must keep to; nothing set: no policy.

    `cancel_notice` and `reschedule_notice` are the least time before the start, `most_moves` the number of times a
    booking may be moved. They bind actors whose role is among `roles`; a call without an actor is the application's own
    and is bound by none. Raises `InvalidInput`.
    """

    cancel_notice: timedelta | None = None
    reschedule_notice: timedelta | None = None
    most_moves: int | None = None
    roles: Sequence[str] = ("attendee",)

    def __post_init__(self) -> None:
        """Check the values, and keep the roles as a tuple."""
        for field in ("cancel_notice", "reschedule_notice"):
            if getattr(self, field) is not None:
                checks.duration(field, getattr(self, field))
        if self.most_moves is not None:
            checks.whole("most_moves", self.most_moves, least=0, most=MAX_CAPACITY)
        roles = checks.items("roles", self.roles, str)
        for i, role in enumerate(roles):
            checks.role(f"roles[{i}]", role)
        object.__setattr__(self, "roles", roles)
