"""The actions that write, each with what its repeat gives: the state of things as they are now."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from nxsched.domain.availability import BlockedPeriod
from nxsched.domain.bookings import Booking, Hold
from nxsched.domain.commands import (
    Archive,
    Block,
    Book,
    BookSeries,
    CancelSeries,
    ChangeDelivery,
    ConfirmHold,
    DeleteWebhook,
    EraseAttendee,
    Mark,
    PlaceHold,
    Reassign,
    ReleaseHold,
    ReplaceBusy,
    Reschedule,
    SaveEventType,
    SaveHost,
    SaveTenant,
    SaveWebhook,
    Unblock,
    Update,
)
from nxsched.domain.event_types import EventType
from nxsched.domain.hosts import Host
from nxsched.domain.tenants import TenantDetails
from nxsched.domain.webhooks import Delivery, Webhook
from nxsched.service import booking, ending, erasing, marking, moving, queries, reassigning, setup, webhooks
from nxsched.service.tools import Tools
from nxsched.service.unit import Action


def _place_hold(connection: Connection, command: PlaceHold, tools: Tools) -> Hold:
    return queries.as_hold(booking.place_hold(connection, command, tools))


def _release(connection: Connection, command: ReleaseHold, tools: Tools) -> Hold:
    return queries.as_hold(ending.release(connection, command, tools))


def _hold(connection: Connection, id_: str, tools: Tools) -> Hold:
    """Also what has become a booking by now, with the end that it had as a hold."""
    found = queries.booking(connection, id_, tools)
    if found.status not in queries.OF_HOLDS:
        ended = queries.history(connection, id_, tools)[0].changes["expires_at"][1]
        found = replace(found, expires_at=datetime.fromisoformat(ended))
    return queries.as_hold(found)


def _tenant(connection: Connection, id_: str, tools: Tools) -> TenantDetails:  # noqa: ARG001 - it is the tools' own
    return setup.tenant(connection, tools)


def _nothing(connection: Connection, id_: str, tools: Tools) -> None:  # noqa: ARG001 - it was done
    return None


def _made(command: object, tools: Tools) -> str:  # noqa: ARG001 - what it makes has the tools' id
    return tools.id


BOOK: Final[Action[Book, Booking]] = Action(do=booking.book, subject=_made, again=queries.booking)
BOOK_SERIES: Final[Action[BookSeries, list[Booking]]] = Action(
    do=booking.book_series, subject=_made, again=queries.series
)
CANCEL_SERIES: Final[Action[CancelSeries, list[Booking]]] = Action(
    do=marking.cancel_series, subject=lambda command, _: command.id, again=queries.series
)
PLACE_HOLD: Final[Action[PlaceHold, Hold]] = Action(do=_place_hold, subject=_made, again=_hold)
CONFIRM_HOLD: Final[Action[ConfirmHold, Booking]] = Action(
    do=booking.confirm_hold, subject=lambda command, _: command.id, again=queries.booking
)
RELEASE_HOLD: Final[Action[ReleaseHold, Hold]] = Action(do=_release, subject=lambda command, _: command.id, again=_hold)
RESCHEDULE: Final[Action[Reschedule, Booking]] = Action(
    do=moving.reschedule, subject=lambda command, _: command.id, again=queries.booking
)
ERASE_ATTENDEE: Final[Action[EraseAttendee, int]] = Action(
    do=erasing.erase_attendee,
    subject=_made,
    again=lambda *_: 0,  # nothing of theirs was left
)
REASSIGN: Final[Action[Reassign, Booking]] = Action(
    do=reassigning.reassign, subject=lambda command, _: command.id, again=queries.booking
)
MARK: Final[Action[Mark, Booking]] = Action(
    do=marking.mark, subject=lambda command, _: command.id, again=queries.booking
)
UPDATE: Final[Action[Update, Booking]] = Action(
    do=marking.update, subject=lambda command, _: command.id, again=queries.booking
)
SAVE_TENANT: Final[Action[SaveTenant, TenantDetails]] = Action(
    do=setup.save_tenant, subject=lambda command, _: command.tenant.id, again=_tenant
)
SAVE_HOST: Final[Action[SaveHost, Host]] = Action(
    do=setup.save_host, subject=lambda command, _: command.host.slug, again=setup.host
)
SAVE_EVENT_TYPE: Final[Action[SaveEventType, EventType]] = Action(
    do=setup.save_event_type, subject=lambda command, _: command.event_type.slug, again=setup.event_type
)
ARCHIVE: Final[Action[Archive, None]] = Action(
    do=setup.archive, subject=lambda command, _: command.slug, again=_nothing
)
BLOCK: Final[Action[Block, BlockedPeriod]] = Action(
    do=setup.block, subject=lambda command, tools: command.period.id or tools.id, again=setup.blocked_period
)
UNBLOCK: Final[Action[Unblock, None]] = Action(do=setup.unblock, subject=lambda command, _: command.id, again=_nothing)
REPLACE_BUSY: Final[Action[ReplaceBusy, None]] = Action(
    do=setup.replace_busy, subject=lambda command, _: command.host, again=_nothing
)
SAVE_WEBHOOK: Final[Action[SaveWebhook, Webhook]] = Action(
    do=webhooks.save, subject=lambda command, tools: command.webhook.id or tools.id, again=webhooks.webhook
)
DELETE_WEBHOOK: Final[Action[DeleteWebhook, None]] = Action(
    do=webhooks.delete, subject=lambda command, _: command.id, again=_nothing
)
CHANGE_DELIVERY: Final[Action[ChangeDelivery, Delivery]] = Action(
    do=webhooks.change, subject=lambda command, _: command.id, again=webhooks.delivery
)
