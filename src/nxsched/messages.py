"""The messages of a tenant: its templates, and what is written of an event to whom."""

from __future__ import annotations

from collections.abc import Mapping
from email.message import EmailMessage
from typing import TypeVar

from nxsched.domain import checks
from nxsched.domain.bookings import Actor
from nxsched.domain.commands import DeleteTemplate, SaveTemplate, TemplateName
from nxsched.domain.messages import CHANNELS, Audience, Channel, Message, MessageTemplate, locale_name
from nxsched.domain.outbox import OutboxEvent
from nxsched.domain.preferences import ATTENDEE, of_recipient
from nxsched.notifications import context, rendering
from nxsched.service import messaging
from nxsched.service.unit import Action, Call, Joined, Units

C = TypeVar("C")
R = TypeVar("R")


class Messages:
    """The messages of one tenant: `tenant.messages`. With the extra `messages`, else they raise `MissingExtra`.

    Methods that write take `within`, `idempotency_key` and `actor` as those of `Tenant`, and raise the same errors.
    """

    def __init__(self, units: Units, asks: Call) -> None:
        self._units = units
        self._asks = asks

    def save_template(
        self,
        template: MessageTemplate,
        *,
        within: Joined | None = None,
        idempotency_key: str | None = None,
        actor: Actor | None = None,
    ) -> MessageTemplate:
        """Save a template in the place of the one for the same kind, channel, language and reader.

        Raises `InvalidInput`, with field and line, for one that says what no template may, names what a message does
        not know.
        """
        command = SaveTemplate(template=messaging.checked(template))
        return self._write(messaging.SAVE_TEMPLATE, command, within, idempotency_key, actor)

    def templates(self, *, within: Joined | None = None) -> list[MessageTemplate]:
        """All templates that the tenant has saved; for what it has not, there are built-in ones."""
        return self._units.run(messaging.templates, None, self._asks.given(within))

    def delete_template(  # noqa: PLR0913 - keywords
        self,
        *,
        kind: str,
        channel: Channel = "email",
        locale: str = "en",
        to: Audience = "attendee",
        within: Joined | None = None,
        idempotency_key: str | None = None,
        actor: Actor | None = None,
    ) -> None:
        """Delete a template: what is built in is used again. Raises `TemplateNotFound`."""
        command = DeleteTemplate(name=TemplateName(kind=kind, channel=channel, locale=locale, to=to))
        self._write(messaging.DELETE_TEMPLATE, command, within, idempotency_key, actor)

    def preview_template(self, template: MessageTemplate) -> Message:
        """The message that a template gives about an event that might be. Raises as `save_template`."""
        return rendering.preview(messaging.checked(template))

    def recipients(self, event: OutboxEvent) -> list[str]:
        """Who has to hear of it: `"attendee"`, hosts as `"host:ada"`, also those who have just lost the booking."""
        return context.recipients(event.payload)

    def render(
        self,
        event: OutboxEvent,
        channel: Channel = "email",
        *,
        to: str = "attendee",
        locale: str | None = None,
        links: Mapping[str, str] | None = None,
        within: Joined | None = None,
    ) -> Message | None:
        """What is written of an event to `to`, one of its `recipients`.

        `None` for a kind that needs no words, and for who does not want to be written to through that channel. Dates
        are in the reader's time zone. The language is `locale`, such as `de` or `de-AT`; else the one that they prefer;
        else English. `links` are URLs of the application's: `manage`, `join`, `unsubscribe`. Raises `InvalidInput`.
        """
        checks.one_of("channel", channel, CHANNELS)
        if locale is not None:
            locale_name("locale", locale)
        given = rendering.checked_links(links)
        reader = context.recipient(event.payload, to)
        audience: Audience = "attendee" if to == ATTENDEE else "host"
        which = messaging.Which(
            kind=event.kind, channel=channel, to=audience, who=of_recipient(to, reader["email"]), locale=locale
        )
        found = self._units.run(messaging.nearest, which, self._asks.given(within))
        if found is None:
            return None
        template, language = found
        return rendering.message(template, event.payload, to, language, given)

    def to_email(
        self,
        event: OutboxEvent,
        *,
        to: str = "attendee",
        locale: str | None = None,
        links: Mapping[str, str] | None = None,
        sender: str | None = None,
        within: Joined | None = None,
    ) -> EmailMessage | None:
        """A whole mail about an event, for any library that speaks SMTP.

        `None` where there is nothing to say, for who wants no mails, and for who has no address.
        `sender` is an address, that of the tenant unless one is given. The `Message-ID` is the same each time. In a
        reminder the link `unsubscribe` stands as `List-Unsubscribe` too, which has to be ended by one POST. Raises
        `InvalidInput`, also where nobody has said who sends.
        """
        if not context.recipient(event.payload, to)["email"]:
            return None
        made = self.render(event, to=to, locale=locale, links=links, within=within)
        return rendering.email(event, made, to, links or {}, sender=sender) if made else None

    def _write(
        self, action: Action[C, R], command: C, within: Joined | None, key: str | None, actor: Actor | None
    ) -> R:
        return self._units.write(action, command, self._asks.given(within, key, actor))
