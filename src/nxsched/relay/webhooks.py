"""Post events to endpoints as Standard Webhooks has it: signed, to public addresses only, and in a limited time."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from ssl import SSLContext
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

from nxsched import __version__
from nxsched.addresses import NotAllowed, networks, resolve
from nxsched.domain import checks
from nxsched.domain.events import plain
from nxsched.domain.outbox import OutboxEvent, span
from nxsched.domain.webhooks import Delivery, address, signing_secrets
from nxsched.errors import InvalidInput, MissingExtra, RetryLater, Undeliverable
from nxsched.store.queue import Queue, Queued
from nxsched.store.webhooks import DELIVERIES, GONE

try:
    import httpx
    from standardwebhooks import Webhook as Signer
except ModuleNotFoundError as _missing:
    raise MissingExtra(what="Posting webhooks", extra="webhooks") from _missing

LARGEST: Final = 20_000
"""Bytes of a body; a larger one is sent without what people and the application have written at length."""

MOST_ADDRESSES: Final = 3
"""Addresses of one host that are tried, one after the other."""


class PostFailed(Exception):
    """An endpoint did not take an event this time."""


@dataclass(frozen=True, slots=True)
class _Post:
    """What is posted where."""

    url: str
    secrets: Sequence[str]
    id: str
    at: datetime
    body: bytes


class _Poster:
    """What threads and event loops have in common: one coroutine that posts."""

    queue: ClassVar[Queue[Delivery]] = DELIVERIES

    def __init__(
        self,
        *,
        timeout: timedelta = timedelta(seconds=15),
        allow: Sequence[str] = (),
        allow_http: bool = False,
        ssl_context: SSLContext | None = None,
    ) -> None:
        self.timeout: timedelta = span("timeout", timeout)
        self._timeout = timeout.total_seconds()
        self._allow = networks("allow", allow)
        self._allow_http = checks.flag("allow_http", allow_http)
        if ssl_context is not None:
            checks.kind("ssl_context", ssl_context, SSLContext)
        self._ssl = ssl_context or httpx.create_ssl_context()

    def _sender(self, url: str, secrets: Sequence[str]) -> Callable[[OutboxEvent], Coroutine[Any, Any, None]]:
        """What posts to an endpoint that the application names. Raises `InvalidInput`."""
        address("url", url)
        if not self._is_allowed(url):
            raise InvalidInput(field="url", reason=f"must be https, unless http is allowed, not {checks.shown(url)}")
        keys = signing_secrets("secrets", secrets)
        if not keys:
            raise InvalidInput(field="secrets", reason="must have one: new_webhook_secret() makes one")

        async def post(event: OutboxEvent) -> None:
            await self._post(_Post(url, keys, event.id, event.read_at, _body(event, event.id)))

        post.timeout = self.timeout  # type: ignore[attr-defined]  # a lease is to be longer
        return post

    def _is_allowed(self, url: str) -> bool:
        return self._allow_http or urlsplit(url).scheme == "https"

    async def _deliver(self, delivery: Delivery) -> dict[str, Any]:
        """Post to the endpoint of a tenant."""
        if not isinstance(delivery, Delivery):
            raise InvalidInput(field="deliver", reason="is given events: a WebhookDelivery goes to a relay as it is")
        webhook = delivery.webhook
        if webhook is None:
            raise Undeliverable("the endpoint was deleted, or is of a newer version of nxsched")
        if not webhook.enabled:
            raise Undeliverable(f"the endpoint is disabled: {webhook.disabled_because or 'it was switched off'}")
        if not self._is_allowed(webhook.url):
            raise Undeliverable("the endpoint is not https, and the sender has no allow_http")
        body = _body(delivery, delivery.event_id)
        return await self._post(_Post(webhook.url, webhook.secrets, delivery.event_id, delivery.read_at, body))

    async def _post(self, post: _Post) -> dict[str, Any]:
        """Post once; gives what was answered, and raises with that what was no success."""
        begun = time.monotonic()
        status: int | None = None
        after: timedelta | None = None
        words = ""
        try:
            async with asyncio.timeout(self._timeout):
                status, after = await self._ask(post)
        except TimeoutError:
            words = f"no answer in {self._timeout:g} s"
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError, NotAllowed) as error:
            words = f"{type(error).__name__}: {error}"
        answer = {"url": post.url, "status": status, "took": round(time.monotonic() - begun, 3)}
        if status is not None and 200 <= status < 300:  # noqa: PLR2004 - HTTP
            return answer
        raise _failure(status, after, words, answer)

    async def _ask(self, post: _Post) -> tuple[int, timedelta | None]:
        """The status of the answer, and when it wants to be asked again; nothing else of it is read."""
        parts = urlsplit(post.url)
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        addresses = (await resolve(host, port, self._allow))[:MOST_ADDRESSES]
        headers = {"Host": parts.netloc, **_signed(post)}
        url = httpx.URL(post.url)
        # Nothing of the environment: a proxy would resolve the name once more. No connection is kept: the next post to
        # that address may be for another host.
        async with httpx.AsyncClient(
            verify=self._ssl,
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(self._timeout, connect=self._timeout / (MOST_ADDRESSES + 1)),
            limits=httpx.Limits(max_keepalive_connections=0),
        ) as client:
            for i, one in enumerate(addresses):
                request = client.build_request(
                    "POST",
                    url.copy_with(host=one),
                    headers=headers,
                    content=post.body,
                    extensions={"sni_hostname": host},  # which the certificate is for
                )
                try:
                    response = await client.send(request, stream=True)
                except (httpx.ConnectError, httpx.ConnectTimeout):
                    if i + 1 == len(addresses):
                        raise
                    continue
                await response.aclose()
                return response.status_code, _retry_after(response.headers)
        raise NotAllowed(host)  # there is always one


class WebhookDelivery(_Poster):
    """Posts events to the endpoints of tenants: `scheduler.relay(WebhookDelivery())`, with the extra `webhooks`.

    Each event goes to every endpoint that wanted it when it happened, signed as Standard Webhooks has it, and each of
    these deliveries fails, waits and dies by itself. A status of 2xx is success; redirects are not followed; 410
    switches the endpoint off; `Retry-After` is honoured. An attempt takes at most `timeout`.

    Names are resolved once, and an address that is not public is not talked to, unless it is in one of the networks of
    `allow` (`10.0.0.0/8`). Nor is plain http, unless `allow_http`. `ssl_context` is for authorities of your own.
    Proxies of the environment are not used. Raises `InvalidInput`, and `MissingExtra`.
    """

    def __call__(self, delivery: Delivery) -> dict[str, Any]:
        """Post once. Raises what a relay expects: `RetryLater`, `Undeliverable`, or that it failed."""
        return asyncio.run(self._deliver(delivery))

    def to(self, url: str, *, secrets: Sequence[str]) -> Callable[[OutboxEvent], None]:
        """A `deliver` that posts every event of all tenants to one endpoint of the application's own.

        Raises `InvalidInput`.
        """
        post = self._sender(url, secrets)

        def deliver(event: OutboxEvent) -> None:
            asyncio.run(post(event))

        deliver.timeout = self.timeout  # type: ignore[attr-defined]  # a lease is to be longer
        return deliver


class AsyncWebhookDelivery(_Poster):
    """`WebhookDelivery` for `AsyncScheduler`."""

    async def __call__(self, delivery: Delivery) -> dict[str, Any]:
        """Post once. Raises what a relay expects: `RetryLater`, `Undeliverable`, or that it failed."""
        return await self._deliver(delivery)

    def to(self, url: str, *, secrets: Sequence[str]) -> Callable[[OutboxEvent], Awaitable[None]]:
        """A `deliver` that posts every event of all tenants to one endpoint of the application's own.

        Raises `InvalidInput`.
        """
        return self._sender(url, secrets)


def _failure(status: int | None, after: timedelta | None, words: str, answer: dict[str, Any]) -> Exception:
    """What is raised for an answer that is no success, with what was answered."""
    if status == GONE:
        error: Exception = Undeliverable("it answered 410 Gone")
    elif after is not None:
        error = RetryLater(f"it answered {status}", after=after)
    else:
        error = PostFailed(words or f"it answered {status}")
    vars(error)["answer"] = answer  # for the log: a relay looks for it
    return error


def _body(item: Queued, event_id: str) -> bytes:
    """What is posted. Where that is too much, without answers, metadata, description and questions."""
    told = {
        "type": item.kind,
        "timestamp": plain(item.occurred_at),
        "id": event_id,
        "tenant": item.tenant,
        "booking_id": item.booking_id,
        "version": item.version,
        "data": item.payload,
    }
    body = _json(told)
    if len(body) > LARGEST:
        booking = {**item.payload["booking"], "answers": {}, "metadata": {}}
        event_type = {**item.payload["event_type"], "description": "", "questions": []}
        short = {**item.payload, "booking": booking, "event_type": event_type}
        body = _json({**told, "shortened": True, "data": short})
    return body


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _signed(post: _Post) -> dict[str, str]:
    body = post.body.decode()
    return {
        "Content-Type": "application/json",
        "User-Agent": f"nxsched/{__version__}",
        "webhook-id": post.id,
        "webhook-timestamp": str(int(post.at.timestamp())),
        "webhook-signature": " ".join(Signer(one).sign(post.id, post.at, body) for one in post.secrets),
    }


def _retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """When to ask again: after so many seconds, or at a date, for which the receiver's own clock counts."""
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch("[0-9]{1,9}", value):
        return timedelta(seconds=int(value))
    try:
        at, now = (parsedate_to_datetime(one) for one in (value, headers.get("Date", "")))
        return max(at - now, timedelta())
    except (ValueError, TypeError, OverflowError):
        return None
