"""What an action is given beside its command: whose it is, who asks, what time it is."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime

from nxsched.clock import Clock
from nxsched.domain.bookings import Actor
from nxsched.service.ids import new_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """The tenant, the actor, and the time that was read at the beginning; `id` is for what the action may make."""

    tenant: str
    now: datetime
    actor: Actor | None = None
    clock: Clock | None = None
    id: str = field(default_factory=new_id)

    @property
    def actor_json(self) -> str | None:
        """The actor as the audit trail holds it."""
        return json.dumps(asdict(self.actor)) if self.actor else None

    def at(self, told: datetime) -> Tools:
        """The same after a wait: the database has told the time again. An injected clock decides all the same."""
        return replace(self, now=told) if self.clock is None else self
