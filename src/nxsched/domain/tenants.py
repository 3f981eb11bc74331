"""Tenants: the customers of the application, whose bookings are kept apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nxsched.domain import checks
from nxsched.domain.bounds import MAX_JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantDetails:
    """A tenant as it is stored: the application's own stable `id`, a name, the `sender` of its invitations.

    `settings` are the application's own, anything that JSON can hold. Raises `InvalidInput`.
    """

    id: str
    name: str
    sender: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Check the values."""
        checks.text("id", self.id)
        checks.text("name", self.name)
        if self.sender is not None:
            checks.email("sender", self.sender)
        object.__setattr__(self, "settings", checks.json_object("settings", self.settings, most=MAX_JSON))
