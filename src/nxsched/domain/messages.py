"""Templates of messages, and messages that were made of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from nxsched.domain import checks
from nxsched.domain.events import KINDS, REMINDER
from nxsched.errors import InvalidInput

Channel = Literal["email", "sms"]
CHANNELS: Final = ("email", "sms")

Audience = Literal["attendee", "host"]
AUDIENCES: Final = ("attendee", "host")

MAX_TEMPLATE: Final = 20_000
"""Characters of a template, and of what it gives."""

DEFAULT_LOCALE: Final = "en"
"""Where nobody says another."""

_LOCALE: Final = re.compile(r"[a-z]{2,3}(-[A-Z]{2})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageTemplate:
    """What is written to the attendee, or to a host, about one kind of event, in one language, through one channel.

    `subject` (of an e-mail), `text` and `html` are Jinja2; without `html` it is made of the text. `locale` is a
    language, or one of a country: `de`, `de-AT`. Whether they can be rendered is checked when the template is saved.
    Raises `InvalidInput`.
    """

    kind: str
    text: str
    subject: str | None = None
    html: str | None = None
    channel: Channel = "email"
    locale: str = DEFAULT_LOCALE
    to: Audience = "attendee"

    def __post_init__(self) -> None:
        """Check the values."""
        checks.one_of("kind", self.kind, (*KINDS, REMINDER))
        checks.one_of("channel", self.channel, CHANNELS)
        checks.one_of("to", self.to, AUDIENCES)
        locale_name("locale", self.locale)
        for field in ("text", "subject", "html"):
            value = getattr(self, field)
            if value is None:
                continue
            if not checks.prose(field, value, most=MAX_TEMPLATE).strip():
                raise InvalidInput(field=field, reason="must not be empty")
        if (self.channel == "email") != (self.subject is not None):
            reason = "is required: an e-mail has one" if self.subject is None else "is for e-mails alone"
            raise InvalidInput(field="subject", reason=reason)
        if self.channel == "sms" and self.html is not None:
            raise InvalidInput(field="html", reason="is for e-mails alone")
        if self.text is None:
            raise InvalidInput(field="text", reason="is required")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message that was rendered: `subject` in a line, `text`, and `html` as a whole page; an SMS is `text` alone."""

    text: str
    subject: str | None = None
    html: str | None = None


def locale_name(field: str, value: object) -> str:
    """The name of a language, or of one in a country: `de`, `de-AT`."""
    if not isinstance(value, str) or not _LOCALE.fullmatch(value):
        raise InvalidInput(field=field, reason=f"must be a language such as de or de-AT, not {checks.shown(value)}")
    return value


def fallbacks(locale: str) -> tuple[str, ...]:
    """The languages in which something is looked for, the first first."""
    return tuple(dict.fromkeys((locale, locale.partition("-")[0], DEFAULT_LOCALE)))
