"""How much work a question makes: counted while it is done, so that a hostile one is refused before it takes long."""

from __future__ import annotations

from nxsched.domain.bounds import MAX_WORK
from nxsched.errors import InvalidInput


class Effort:
    """What one question has looked at so far."""

    __slots__ = ("spent",)

    def __init__(self) -> None:
        self.spent: int = 0

    def spend(self, units: int) -> None:
        """Count `units` more windows or occurrences. Raises `InvalidInput` beyond the bound."""
        self.spent += units
        if self.spent > MAX_WORK:
            reason = (
                f"its hours and blocked periods hold more than {MAX_WORK} windows and occurrences; "
                "ask for a shorter range or for fewer hosts"
            )
            raise InvalidInput(field="range", reason=reason)
