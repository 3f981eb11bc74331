"""What an event type's policies forbid to those whose role they bind."""

from __future__ import annotations

from datetime import timedelta

from nxsched.domain.bounds import MAX_ATTENDEE_HOLDS
from nxsched.domain.event_types import EventType
from nxsched.domain.policies import Policies
from nxsched.errors import PolicyViolation
from nxsched.service.tools import Tools
from nxsched.store.facts import Theirs
from nxsched.store.standing import Standing


def keep_for_cancelling(standing: Standing, tools: Tools) -> None:
    """Raises `PolicyViolation` where it is too late to cancel."""
    policies = standing.event_type.policies
    if bind(policies, tools):
        _keep_notice("cancel_notice", policies.cancel_notice, "cancelled", standing, tools)


def keep_for_moving(standing: Standing, tools: Tools) -> None:
    """Raises `PolicyViolation` where it is too late to move, and where the booking was moved often enough."""
    policies = standing.event_type.policies
    if not bind(policies, tools):
        return
    _keep_notice("reschedule_notice", policies.reschedule_notice, "moved", standing, tools)
    most = policies.most_moves
    if most is not None and standing.moves >= most:
        often = f"at most {most} time{'s' if most > 1 else ''}" if most else "not at all"
        was = f"{standing.moves} time{'s' if standing.moves != 1 else ''}"
        raise PolicyViolation(f"the booking may be moved {often}, and was {was}", policy="most_moves")


def keep_for_attendee(event_type: EventType, theirs: Theirs, tools: Tools, more: int, *, hold: bool) -> None:
    """Raises `PolicyViolation` where an attendee would have too many holds, or too much before them."""
    if hold and theirs.holds >= MAX_ATTENDEE_HOLDS:
        words = f"{MAX_ATTENDEE_HOLDS} holds of the attendee stand already: release some, or let them expire"
        raise PolicyViolation(words, policy="attendee_holds")
    policies = event_type.policies
    if not bind(policies, tools):
        return
    most = policies.most_holds
    if hold and most is not None and theirs.of_event_type >= most:
        words = f"an attendee may have {most} open hold{'s' * (most > 1)} at a time, and has {theirs.of_event_type}"
        raise PolicyViolation(words, policy="most_holds")
    most = policies.most_upcoming
    if most is not None and theirs.upcoming + more > most:
        words = f"an attendee may have {most} booking{'s' if most > 1 else ''} to come, and has {theirs.upcoming}"
        if more > 1:
            words += f"; {more} more were asked for"
        raise PolicyViolation(words, policy="most_upcoming")


def bind(policies: Policies, tools: Tools) -> bool:
    """Whether they bind who asks; a call without an actor is the application's own."""
    return tools.actor is not None and tools.actor.role in policies.roles


def _keep_notice(policy: str, notice: timedelta | None, done: str, standing: Standing, tools: Tools) -> None:
    if notice is None:
        return
    until = standing.booking.start - notice
    if tools.now > until:
        words = f"the booking could be {done} until {until.isoformat()}, {notice} before its start"
        raise PolicyViolation(words, policy=policy, until=until)
