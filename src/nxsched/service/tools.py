"""What an action is given beside its command: whose it is, who asks, what time it is."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import datetime

from sqlalchemy import Connection

from nxsched.clock import Clock
from nxsched.domain.bookings import Actor
from nxsched.service.ids import new_id
from nxsched.store import locks


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

    def lock(self, connection: Connection, event_type: int | None, hosts: list[int]) -> datetime:
        """Lock these rows and read the time again, since the wait may have been long; an injected clock decides."""
        found = locks.lock(connection, self.tenant, event_type, hosts)
        return found if self.clock is None else self.now
