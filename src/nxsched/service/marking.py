"""Say something of a booking that stays where it is: its state, and what can be changed of it without judging."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import Connection

from nxsched.domain import checks
from nxsched.domain.bookings import Booking, BookingStatus
from nxsched.domain.commands import CancelSeries, Mark, Update
from nxsched.errors import BookingNotFound, InvalidTransition
from nxsched.service import queries
from nxsched.service.changing import Done, change, keep, keep_all, locked, locked_with_counts, record, status_now
from nxsched.service.policies import keep_for_cancelling
from nxsched.service.tools import Tools
from nxsched.store.standing import Standing, lock_series


@dataclass(frozen=True, slots=True, kw_only=True)
class _Marking:
    """How a booking gets a state: from which ones, and what is recorded of it.

    `judged` may refuse it. With `news` calendars have to hear of it; with `counted` it takes time for longer than it
    would have, so that who counts what is left must wait for it.
    """

    before: frozenset[BookingStatus]
    done: Done
    judged: Callable[[Standing, Tools], None] | None = None
    news: bool = False
    counted: bool = False


_PENDING, _CONFIRMED = BookingStatus.PENDING, BookingStatus.CONFIRMED
_COMPLETED, _NO_SHOW = BookingStatus.COMPLETED, BookingStatus.NO_SHOW

_MARKINGS: Final = {
    BookingStatus.CANCELLED: _Marking(
        before=frozenset({_PENDING, _CONFIRMED}),
        done=Done("cancel", "booking.cancelled"),
        judged=keep_for_cancelling,
        news=True,
    ),
    BookingStatus.DECLINED: _Marking(before=frozenset({_PENDING}), done=Done("decline", "booking.declined")),
    _CONFIRMED: _Marking(before=frozenset({_PENDING}), done=Done("approve", "booking.confirmed"), counted=True),
    _COMPLETED: _Marking(before=frozenset({_CONFIRMED, _NO_SHOW}), done=Done("complete", "booking.completed")),
    _NO_SHOW: _Marking(before=frozenset({_CONFIRMED, _COMPLETED}), done=Done("mark_no_show", "booking.no_show")),
}

_STANDS: Final = frozenset({_PENDING, _CONFIRMED, _COMPLETED, _NO_SHOW})


def mark(connection: Connection, command: Mark, tools: Tools) -> Booking:
    """Give a booking another state; once more with the same result."""
    how = _MARKINGS[command.as_]
    if how.counted:
        standing, tools = locked_with_counts(connection, command.id, tools, anew=False)
    else:
        standing, tools = locked(connection, command.id, tools)
    if standing.booking.status is command.as_:
        return standing.booking
    after = _marked(standing, command.as_, tools)
    return keep(connection, standing, after, record(tools, command.reason), how.done, counted=how.counted)


def cancel_series(connection: Connection, command: CancelSeries, tools: Tools) -> list[Booking]:
    """Cancel those of a series that stand and have not begun, all or none; once more with the same result."""
    standing = lock_series(connection, tools.tenant, command.id)
    if not standing:
        raise BookingNotFound(id=command.id)
    tools = tools.at(max(one.told for one in standing))
    cancelled = BookingStatus.CANCELLED
    how = _MARKINGS[cancelled]
    to_come = [
        one for one in standing if status_now(one.booking, tools.now) in how.before and one.booking.start > tools.now
    ]
    done = [change(one, _marked(one, cancelled, tools), how.done) for one in to_come]
    keep_all(connection, record(tools, command.reason), done)
    return queries.series(connection, command.id, tools)


def _marked(standing: Standing, as_: BookingStatus, tools: Tools) -> Booking:
    """The booking in another state. Raises `InvalidTransition`, and what judges it."""
    before, how = standing.booking, _MARKINGS[as_]
    status = status_now(before, tools.now)
    if status not in how.before:
        raise InvalidTransition(id=before.id, from_status=status, to_status=as_)
    if how.judged is not None:
        how.judged(standing, tools)
    stays = as_ in _STANDS
    return replace(
        before,
        status=as_,
        sequence=before.sequence + how.news,
        version=before.version + 1,
        expires_at=None if stays else before.expires_at,
    )


def update(connection: Connection, command: Update, tools: Tools) -> Booking:
    """Change location and metadata; once more, nothing changes. A new location is news for calendars."""
    standing, tools = locked(connection, command.id, tools)
    before = standing.booking
    status = status_now(before, tools.now)
    if status not in _STANDS:
        raise InvalidTransition(id=before.id, from_status=status, to_status="updated")
    location = before.location if command.location is None else command.location or None
    metadata = before.metadata if command.metadata is None else command.metadata
    moved = location != before.location
    if not moved and checks.same_json(before.metadata, metadata):
        return before
    after = replace(
        before,
        location=location,
        metadata=metadata,
        sequence=before.sequence + moved,
        version=before.version + 1,
    )
    return keep(connection, standing, after, record(tools), Done("update", "booking.updated"))
