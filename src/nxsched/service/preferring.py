"""What somebody wants to be written, and the reminders that follow from it for what they have booked already."""

from __future__ import annotations

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
from nxsched.store.standing import lock_booking, lock_reminded


def save(connection: Connection, command: SavePreferences, tools: Tools) -> MessagePreferences:
    """Keep what somebody says. Raises `HostNotFound`."""
    tenant, who, said = tools.tenant, command.who, command.preferences
    before = fetch(connection, who, tools)
    # Bookings are locked before preferences, as who erases a person does.
    wishes = said.reminders and said.reminders != before.reminders
    standing = lock_reminded(connection, tenant, who, tools.now) if wishes else []
    tools = tools.at(max((one.told for one in standing), default=tools.now))
    store.save(connection, tenant, who, said, tools.now)
    bookings = [
        (one.booking, [row for row in wanted(one.booking, one.event_type, one.parties) if row["who"] == who])
        for one in standing
    ]
    insert_wished(connection, tenant, tools.now, bookings, {who: said})
    return said


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
        lock_booking(connection, tools.tenant, token.booking)  # nobody erases the person meanwhile
        who = unsubscriber(connection, token, keyring, tools)
        return store.end_reminders(connection, tools.tenant, who, tools.now)

    return Action(do=do, subject=lambda *_: "", again=lambda connection, _, tools: do(connection, None, tools))


SAVE_PREFERENCES: Final[Action[SavePreferences, MessagePreferences]] = Action(
    do=save, subject=lambda command, _: command.who, again=fetch
)
