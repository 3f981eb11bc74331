"""What somebody wants to be written, and the reminders that follow from it for what they have booked already."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from sqlalchemy import Connection

from nxsched.domain.commands import SavePreferences
from nxsched.domain.preferences import HOST, MessagePreferences
from nxsched.errors import HostNotFound
from nxsched.service.reminding import wanted
from nxsched.service.tokens import Keyring, Token, unsubscriber
from nxsched.service.tools import Tools
from nxsched.service.unit import Action
from nxsched.store import preferences as store
from nxsched.store.hosts import fetch_host
from nxsched.store.reminders import insert_wished
from nxsched.store.standing import lock_reminded


def save(connection: Connection, command: SavePreferences, tools: Tools) -> MessagePreferences:
    """Keep what somebody says. Raises `HostNotFound`."""
    _look_for(connection, command.who, tools)
    store.save(connection, tools.tenant, command.who, command.preferences, tools.now)
    if command.preferences.reminders:
        _remind(connection, command, tools)
    return command.preferences


def _remind(connection: Connection, command: SavePreferences, tools: Tools) -> None:
    """Write what they wish for of the bookings that stand; what they do not wish for is not sent."""
    standing = lock_reminded(connection, tools.tenant, command.who, tools.now)
    tools = tools.at(max((one.told for one in standing), default=tools.now))
    bookings = [
        (one.booking, [row for row in wanted(one.booking, one.event_type, one.parties) if row["who"] == command.who])
        for one in standing
    ]
    insert_wished(connection, tools.tenant, tools.now, bookings, {command.who: command.preferences})


def fetch(connection: Connection, who: str, tools: Tools) -> MessagePreferences:
    """What somebody has said. Raises `HostNotFound`."""
    _look_for(connection, who, tools)
    return store.fetch(connection, tools.tenant, who)


def _look_for(connection: Connection, who: str, tools: Tools) -> None:
    slug = who.removeprefix(HOST)
    if slug != who and fetch_host(connection, tools.tenant, slug) is None:
        raise HostNotFound(slug=slug)


def unsubscribing(token: Token, keyring: Keyring) -> Action[None, MessagePreferences]:
    """What whoever has a token may do: have no reminders any more."""

    def do(connection: Connection, _: None, tools: Tools) -> MessagePreferences:
        who = unsubscriber(connection, token, keyring, tools)
        said = replace(store.fetch(connection, tools.tenant, who), reminders=())
        store.save(connection, tools.tenant, who, said, tools.now)
        return said

    return Action(do=do, subject=lambda *_: "", again=lambda connection, _, tools: do(connection, None, tools))


SAVE_PREFERENCES: Final[Action[SavePreferences, MessagePreferences]] = Action(
    do=save, subject=lambda command, _: command.who, again=fetch
)
