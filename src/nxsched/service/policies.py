"""What an event type's policies forbid to those whose role they bind."""

from __future__ import annotations

from datetime import timedelta

from nxsched.domain.policies import Policies
from nxsched.errors import PolicyViolation
from nxsched.service.tools import Tools
from nxsched.store.bookings import Standing


def keep_for_cancelling(standing: Standing, tools: Tools) -> None:
    """Raises `PolicyViolation` where it is too late to cancel."""
    policies = standing.event_type.policies
    if _binds(policies, tools):
        _keep_notice("cancel_notice", policies.cancel_notice, "cancelled", standing, tools)


def keep_for_moving(standing: Standing, tools: Tools) -> None:
    """Raises `PolicyViolation` where it is too late to move, and where the booking was moved often enough."""
    policies = standing.event_type.policies
    if not _binds(policies, tools):
        return
    _keep_notice("reschedule_notice", policies.reschedule_notice, "moved", standing, tools)
    most = policies.most_moves
    if most is not None and standing.moves >= most:
        often = f"at most {most} time{'s' if most > 1 else ''}" if most else "not at all"
        raise PolicyViolation(f"the booking may be moved {often}, and was {standing.moves} times", policy="most_moves")


def _binds(policies: Policies, tools: Tools) -> bool:
    return tools.actor is not None and tools.actor.role in policies.roles


def _keep_notice(policy: str, notice: timedelta | None, done: str, standing: Standing, tools: Tools) -> None:
    if notice is None:
        return
    until = standing.booking.start - notice
    if tools.now > until:
        words = f"the booking could be {done} until {until.isoformat()}, {notice} before its start"
        raise PolicyViolation(words, policy=policy, until=until)
