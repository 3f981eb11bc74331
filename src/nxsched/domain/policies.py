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
    booking may be moved. `most_holds` is how many holds of the event type an attendee may have at a time,
    `most_upcoming` how many holds and bookings together that have not begun: of who has the same `reference`, or the
    same e-mail address. They bind actors whose role is among `roles`; a call without an actor is the application's own
    and is bound by none. Raises `InvalidInput`.
    """

    cancel_notice: timedelta | None = None
    reschedule_notice: timedelta | None = None
    most_moves: int | None = None
    most_holds: int | None = None
    most_upcoming: int | None = None
    roles: Sequence[str] = ("attendee",)

    def __post_init__(self) -> None:
        """Check the values, and keep the roles as a tuple."""
        for field in ("cancel_notice", "reschedule_notice"):
            if getattr(self, field) is not None:
                checks.duration(field, getattr(self, field))
        for field, least in (("most_moves", 0), ("most_holds", 1), ("most_upcoming", 1)):
            if getattr(self, field) is not None:
                checks.whole(field, getattr(self, field), least=least, most=MAX_CAPACITY)
        roles = checks.items("roles", self.roles, str)
        for i, role in enumerate(roles):
            checks.role(f"roles[{i}]", role)
        object.__setattr__(self, "roles", roles)
