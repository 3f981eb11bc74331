"""What somebody wants to be written: through which channels, when they are reminded, in which language."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from nxsched.domain import checks
from nxsched.domain.messages import CHANNELS, Channel, locale_name
from nxsched.domain.reminders import Reminder, reminders_of
from nxsched.errors import InvalidInput

ATTENDEE: Final = "attendee"
HOST: Final = "host:"
"""Whom a message goes to: the attendee of a booking, or the host with a slug."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagePreferences:
    """What somebody has said of messages; what is `None` they have not, and it stays as the application has it.

    `channels` are those that they want to be written to through, none of them if it is empty. `reminders` are in the
    place of those that event types have for them, empty for none at all. `locale` is their language, such as `de` or
    `de-AT`. Raises `InvalidInput`.
    """

    channels: Sequence[Channel] | None = None
    reminders: Sequence[Reminder] | None = None
    locale: str | None = None

    def __post_init__(self) -> None:
        """Check the values, and keep them as tuples."""
        if self.channels is not None:
            channels = checks.items("channels", self.channels, str)
            for i, one in enumerate(channels):
                checks.one_of(f"channels[{i}]", one, CHANNELS)
                if one in channels[:i]:
                    raise InvalidInput(field=f"channels[{i}]", reason=f"{one} is there already")
            object.__setattr__(self, "channels", channels)
        if self.reminders is not None:
            reminders = reminders_of("reminders", self.reminders)
            for i, reminder in enumerate(reminders):
                if reminder.to != ATTENDEE:
                    raise InvalidInput(field=f"reminders[{i}].to", reason="is left out: they are for whom they are of")
            object.__setattr__(self, "reminders", reminders)
        if self.locale is not None:
            locale_name("locale", self.locale)

    def wants(self, channel: Channel) -> bool:
        """Whether they want to be written to through a channel."""
        return self.channels is None or channel in self.channels

    def wants_reminder(self, before: str, *, wished: bool) -> bool:
        """Whether they want to be reminded so long before, as `Reminder.before` has it.

        One that was written since they `wished` for it they want as long as they say so.
        """
        if self.channels == ():
            return False
        return not wished if self.reminders is None else before in {one.before for one in self.reminders}


NOTHING_SAID: Final = MessagePreferences()


def whose(field: str, value: object) -> str:
    """Whose preferences: an e-mail address, in small letters, or `host:` and a slug. Raises `InvalidInput`."""
    if isinstance(value, str) and value.startswith(HOST):
        return HOST + checks.text(field, value.removeprefix(HOST))
    found = checks.text(field, value)
    if not checks.is_email(found):
        reason = f"must be an e-mail address, or host: and the slug of one, not {checks.shown(value)}"
        raise InvalidInput(field=field, reason=reason)
    return found.lower()


def of_recipient(recipient: str, email: str | None) -> str | None:
    """Whose preferences count for a recipient: an attendee's are those of their address, if they have one."""
    return recipient if recipient != ATTENDEE else email and email.lower()
