"""Templates of a tenant, and which of them is used. It renders them, so it needs the extra `messages`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from nxsched.domain.commands import DeleteTemplate, SaveTemplate, TemplateName
from nxsched.domain.messages import DEFAULT_LOCALE, Audience, Channel, MessageTemplate, fallbacks
from nxsched.domain.preferences import NOTHING_SAID
from nxsched.errors import InvalidInput, TemplateNotFound
from nxsched.notifications.catalog import builtin
from nxsched.notifications.rendering import check_template
from nxsched.service.tools import Tools
from nxsched.service.unit import Action
from nxsched.store import templates as store
from nxsched.store.preferences import fetch


@dataclass(frozen=True, slots=True, kw_only=True)
class Which:
    """Which template is looked for, who reads it, and in which language if that is not theirs to say."""

    kind: str
    channel: Channel
    to: Audience
    who: str | None
    locale: str | None


def _save(connection: Connection, command: SaveTemplate, tools: Tools) -> MessageTemplate:
    store.save_template(connection, tools.tenant, command.template, tools.now)
    return command.template


def _delete(connection: Connection, command: DeleteTemplate, tools: Tools) -> None:
    if not store.delete_template(connection, tools.tenant, command.name):
        raise TemplateNotFound(name=str(command.name))


def _again(connection: Connection, name: str, tools: Tools) -> MessageTemplate:
    wanted = TemplateName.read(name)
    for found in store.find_templates(connection, tools.tenant, wanted.kind, wanted.channel, wanted.to):
        if found.locale == wanted.locale:
            return found
    raise TemplateNotFound(name=name)


def templates(connection: Connection, asked: None, tools: Tools) -> list[MessageTemplate]:  # noqa: ARG001 - as every query
    """All templates that the tenant has saved."""
    return store.list_templates(connection, tools.tenant)


def nearest(connection: Connection, which: Which, tools: Tools) -> tuple[MessageTemplate, str] | None:
    """What is used, and in which language; nothing for who does not want to be written to.

    That is the tenant's template in that language, else what is built in, else both in the next language.
    """
    said = fetch(connection, tools.tenant, which.who) if which.who else NOTHING_SAID
    if not said.wants(which.channel):
        return None
    language = which.locale or said.locale or DEFAULT_LOCALE
    saved = store.find_templates(connection, tools.tenant, which.kind, which.channel, which.to)
    for locale in fallbacks(language):
        mine = next((one for one in saved if one.locale == locale), None)
        if found := mine or builtin(which.kind, which.channel, locale, which.to):
            return found, language
    return None


def checked(template: object) -> MessageTemplate:
    """A template that can be rendered. Raises `InvalidInput`, with the line."""
    if not isinstance(template, MessageTemplate):
        raise InvalidInput(field="template", reason="must be a MessageTemplate")
    try:
        check_template(template)
    except InvalidInput as error:
        raise InvalidInput(field=f"template.{error.field}", reason=error.reason) from error
    return template


SAVE_TEMPLATE: Final[Action[SaveTemplate, MessageTemplate]] = Action(
    do=_save, subject=lambda command, _: str(command.name), again=_again
)
DELETE_TEMPLATE: Final[Action[DeleteTemplate, None]] = Action(
    do=_delete, subject=lambda command, _: str(command.name), again=lambda *_: None
)
