"""Tokens of links: the right to see, move and cancel one booking, signed so that nobody can make one or change it.

A token holds the id of the key it was signed with, the booking and when it ends, and a MAC (HMAC, RFC 2104, with
SHA-256) of these, of what it is for, the tenant and a secret that stands with the booking.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import Connection

from nxsched.domain import checks
from nxsched.domain.bookings import BookingStatus
from nxsched.domain.commands import MakeToken, MakeUnsubscribeToken
from nxsched.domain.instants import epoch_exact, epoch_floor
from nxsched.domain.preferences import ATTENDEE, HOST, of_recipient
from nxsched.errors import BookingNotFound, InvalidInput, InvalidToken, InvalidTransition
from nxsched.service import queries
from nxsched.service.tools import Tools
from nxsched.store.bookings import fetch_nonce

Purpose = tuple[str, ...]

MANAGE: Final[Purpose] = ("manage",)
"""What a token is for; one for something else has another MAC."""

UNSUBSCRIBE: Final = "unsubscribe"
"""What one is for that ends the reminders of somebody, whose purpose also says whose they are."""

LEAST_SECRET: Final = 16
"""Characters of a secret."""

_BODY: Final = struct.Struct(">4s16sq")
"""The key's id, the booking's id, and the end in seconds since the epoch."""

_MAC: Final = hashlib.sha256().digest_size

_LINKED: Final = frozenset(
    {BookingStatus.PENDING, BookingStatus.CONFIRMED, BookingStatus.COMPLETED, BookingStatus.NO_SHOW}
)
"""What a link leads to: holds have none, and what has been called off has none any more."""


@dataclass(frozen=True, slots=True)
class Keyring:
    """The secrets that tokens are signed with: the first one signs, all of them are accepted. Never shown."""

    secrets: Sequence[str] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        """Check the values, and keep them as a tuple."""
        given: object = self.secrets
        if not isinstance(given, list | tuple):  # whatever it is, it is not shown
            raise InvalidInput(field="secrets", reason=f"must be a list of texts, not {type(given).__name__}")
        secrets: tuple[str, ...] = tuple(given)
        for i, one in enumerate(secrets):
            if not isinstance(one, str):
                raise InvalidInput(field=f"secrets[{i}]", reason=f"must be a text, not {type(one).__name__}")
            if len(one.strip()) < LEAST_SECRET or any("\ud800" <= letter <= "\udfff" for letter in one):
                reason = f"must have at least {LEAST_SECRET} characters, all of them random: secrets.token_urlsafe()"
                raise InvalidInput(field=f"secrets[{i}]", reason=reason)
            if one in secrets[:i]:
                raise InvalidInput(field=f"secrets[{i}]", reason="is the same as one before it")
        object.__setattr__(self, "secrets", secrets)

    def sign(self, tenant: str, booking: str, nonce: str, until: int, purpose: Purpose = MANAGE) -> str:
        """A token. Raises `InvalidInput` where there is no secret."""
        self.need()
        secret = self.secrets[0]
        body = _BODY.pack(_key_id(secret), UUID(booking).bytes, until)
        mac = _mac(secret, purpose, tenant, nonce, body)
        return base64.urlsafe_b64encode(body + mac).decode().rstrip("=")

    def need(self) -> None:
        """Raise `InvalidInput` where there is no secret."""
        if not self.secrets:
            reason = "are needed for links: Scheduler(…, secrets=[…]), the same in every process"
            raise InvalidInput(field="secrets", reason=reason)

    def find(self, key_id: bytes) -> str | None:
        """The secret of that id, if it is still one."""
        return next((one for one in self.secrets if hmac.compare_digest(_key_id(one), key_id)), None)


@dataclass(frozen=True, slots=True)
class Token:
    """A token, taken apart; nothing in it is to be believed before `check`."""

    key_id: bytes
    booking: str
    until: int
    body: bytes = field(repr=False)
    mac: bytes = field(repr=False)


def read(text: object) -> Token:
    """Take a token apart. Raises `InvalidToken`."""
    if not isinstance(text, str):
        raise InvalidInput(field="token", reason=f"must be a text, not {type(text).__name__}")
    try:
        found = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidToken from error
    if len(found) != _BODY.size + _MAC or base64.urlsafe_b64encode(found).decode().rstrip("=") != text:
        raise InvalidToken
    body = found[: _BODY.size]
    key_id, booking, until = _BODY.unpack(body)
    return Token(key_id, str(UUID(bytes=booking)), until, body, found[_BODY.size :])


def check(connection: Connection, token: Token, keyring: Keyring, tools: Tools, *, called_off: bool = False) -> None:
    """Raise `InvalidToken` unless it is one of ours, of this tenant, not over, and its booking is not called off.

    With `called_off` it may be: then whoever has called it off by this link is told so again.
    """
    found = fetch_nonce(connection, tools.tenant, token.booking, tools.now)
    nonce, status, told = found or ("", None, tools.now)
    genuine = _is_genuine(token, MANAGE, keyring, tools.tenant, nonce)
    if not (genuine and (called_off or status in _LINKED) and _after(token.until, tools.at(told).now)):
        raise InvalidToken


def make(connection: Connection, command: MakeToken, tools: Tools, keyring: Keyring) -> str:
    """A token for a booking that stands."""
    nonce, status = _nonce(connection, command, tools)
    if status not in _LINKED:
        raise InvalidTransition(id=command.id, from_status=status, to_status="managed")
    return _signed(command, nonce, MANAGE, tools, keyring)


def make_unsubscribing(connection: Connection, command: MakeUnsubscribeToken, tools: Tools, keyring: Keyring) -> str:
    """A token that ends somebody's reminders, whatever has become of the booking."""
    nonce, _ = _nonce(connection, command, tools)
    purpose = _unsubscribing(connection, command.id, tools).get(command.to)
    if purpose is None:
        given = checks.shown(command.to)
        reason = f"must be attendee, with an e-mail address, or host: and the slug of one, not {given}"
        raise InvalidInput(field="to", reason=reason)
    return _signed(command, nonce, purpose, tools, keyring)


def _nonce(connection: Connection, command: MakeToken, tools: Tools) -> tuple[str, BookingStatus]:
    found = fetch_nonce(connection, tools.tenant, command.id, tools.now)
    if found is None:
        raise BookingNotFound(id=command.id)
    return found[:2]


def _signed(command: MakeToken, nonce: str, purpose: Purpose, tools: Tools, keyring: Keyring) -> str:
    until = epoch_exact("expires", command.expires)
    if not _after(until, tools.now):
        raise InvalidInput(field="expires", reason=f"must lie in the future, not at {command.expires.isoformat()}")
    return keyring.sign(tools.tenant, command.id, nonce, until, purpose)


def unsubscriber(connection: Connection, token: Token, keyring: Keyring, tools: Tools) -> str:
    """Whose reminders a token ends, as `whose` has it. Raises `InvalidToken`."""
    found = fetch_nonce(connection, tools.tenant, token.booking, tools.now)
    if found is None or not _after(token.until, tools.at(found[2]).now):
        raise InvalidToken
    for purpose in _unsubscribing(connection, token.booking, tools).values():
        if _is_genuine(token, purpose, keyring, tools.tenant, found[0]):
            return purpose[1]
    raise InvalidToken


def _unsubscribing(connection: Connection, booking: str, tools: Tools) -> dict[str, Purpose]:
    """What tokens are for that end the reminders of those who have a booking, each by their recipient.

    An address that was corrected is another's: a token that was mailed to the wrong one ends with that.
    """
    found = queries.booking(connection, booking, tools)
    recipients = [ATTENDEE, *(f"{HOST}{slug}" for slug in found.hosts)]
    of = {one: of_recipient(one, found.attendee.email if found.attendee else None) for one in recipients}
    return {recipient: (UNSUBSCRIBE, who) for recipient, who in of.items() if who}


def _is_genuine(token: Token, purpose: Purpose, keyring: Keyring, tenant: str, nonce: str) -> bool:
    secret = keyring.find(token.key_id)
    genuine = hmac.compare_digest(_mac(secret or "", purpose, tenant, nonce, token.body), token.mac)
    return genuine and secret is not None


def _after(until: int, now: datetime) -> bool:
    return epoch_floor("now", now) < until


def _key_id(secret: str) -> bytes:
    return hmac.digest(secret.encode(), b"nxsched key id", "sha256")[:4]


def _mac(secret: str, purpose: Purpose, tenant: str, nonce: str, body: bytes) -> bytes:
    said = json.dumps(["nxsched", *purpose, tenant, nonce, body.hex()]).encode()  # no two texts of these are the same
    return hmac.digest(secret.encode(), said, "sha256")
