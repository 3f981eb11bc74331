"""Endpoints of tenants that events are posted to, and what became of each post."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from nxsched.domain import checks
from nxsched.domain.events import KINDS
from nxsched.domain.outbox import OutboxState
from nxsched.errors import InvalidInput

MAX_URL: Final = 2_000
"""Characters in the address of an endpoint."""

MAX_SECRETS: Final = 5
"""Secrets of one endpoint."""

_LABEL: Final = "[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST: Final = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*\.?|[0-9a-f:.]+")

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - of every secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """An endpoint of a tenant, to which its events are posted, signed as Standard Webhooks has it.

    `kinds` are those that it wants; none: all. `secrets` sign every post, each of them, so that a receiver may hold an
    old one or a new one: `whsec_` and 24 to 64 bytes in base64. Where none are given, saving makes one. One that is not
    `enabled` gets nothing; `disabled_because` says why, where nobody has switched it off. `id` is `None` until it is
    saved. Raises `InvalidInput`.
    """

    url: str
    kinds: Sequence[str] = ()
    secrets: Sequence[str] = field(default=(), repr=False)
    enabled: bool = True
    id: str | None = None
    disabled_because: str | None = None

    def __post_init__(self) -> None:
        """Check the values, and keep the lists as tuples."""
        address("url", self.url)
        kinds = checks.items("kinds", self.kinds, str)
        for i, kind in enumerate(kinds):
            checks.one_of(f"kinds[{i}]", kind, KINDS)
        object.__setattr__(self, "kinds", tuple(dict.fromkeys(kinds)))
        object.__setattr__(self, "secrets", signing_secrets("secrets", self.secrets))
        checks.flag("enabled", self.enabled)


def address(name: str, value: object) -> str:
    """The address of an endpoint: http or https, a host, no login. Whether it is posted to, the sender decides."""
    if isinstance(value, str) and "@" in re.split("[/?#]", value.partition("://")[2], maxsplit=1)[0]:
        reason = "must have no user or password: the signature says who posts"
        raise InvalidInput(field=name, reason=reason)
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or " " in value:
        reason = f"must be a URL in ASCII, without spaces, not {checks.shown(value)}; other names are written xn--…"
        raise InvalidInput(field=name, reason=reason)
    if len(value) > MAX_URL:
        raise InvalidInput(field=name, reason=f"must have at most {MAX_URL} characters, not {len(value)}")
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as error:
        raise InvalidInput(field=name, reason=f"must be a URL, not {checks.shown(value)}: {error}") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise InvalidInput(field=name, reason=f"must be https://host/path, not {checks.shown(value)}")
    if "#" in value:
        raise InvalidInput(field=name, reason="must have no fragment: nobody would see it")
    if not _HOST.fullmatch(parts.hostname):
        raise InvalidInput(field=name, reason=f"must name a host, not {checks.shown(parts.hostname)}")
    return value


def signing_secrets(name: str, value: object) -> tuple[str, ...]:
    """Secrets that sign posts; errors do not show them."""
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
        raise InvalidInput(field=name, reason="must be a list of texts")
    found = tuple(value)
    if len(found) > MAX_SECRETS or len({*found}) < len(found):
        raise InvalidInput(field=name, reason=f"must be at most {MAX_SECRETS}, each given once")
    for i, one in enumerate(found):
        try:
            raw = base64.b64decode(one.removeprefix(SECRET_PREFIX), validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        if not one.startswith(SECRET_PREFIX) or not 24 <= len(raw) <= 64:  # noqa: PLR2004 - as the standard has it
            reason = f"must be {SECRET_PREFIX} and 24 to 64 bytes in base64: new_webhook_secret() makes one"
            raise InvalidInput(field=f"{name}[{i}]", reason=reason)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookAnswer:
    """What an endpoint said to a post to this `url`: its HTTP `status`, `None` without one, and how long it took."""

    url: str
    status: int | None
    took: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """An event on its way to an endpoint: an entry of the log.

    `id` is its own, `event_id` that of the event, which is what the endpoint is told. `webhook` is that endpoint,
    `None` where it was deleted. `answer` is what it said to the last attempt, `error` why that has failed; `attempts`
    counts the present one, and `due_at` is when it is tried next. Of one booking, an endpoint gets the events in the
    order of their versions. `leased_by` names the relay that has it, or has delivered it; `read_at` is what time the
    database said then. Times are UTC.
    """

    id: str
    tenant: str
    webhook_id: str
    webhook: Webhook | None = field(repr=False)
    event_id: str
    kind: str
    booking_id: str
    version: int
    occurred_at: datetime
    payload: Mapping[str, Any] = field(repr=False, hash=False)
    state: OutboxState
    attempts: int
    due_at: datetime
    error: str | None = None
    answer: WebhookAnswer | None = None
    leased_by: str | None = None
    leased_until: datetime | None = None
    read_at: datetime = field(repr=False, compare=False)
