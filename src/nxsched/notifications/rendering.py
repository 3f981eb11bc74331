"""Messages made of templates and events, and mails made of messages."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from email.errors import MessageError
from email.headerregistry import Address, BaseHeader, HeaderRegistry, UnstructuredHeader
from email.message import EmailMessage
from email.policy import SMTP, Policy
from email.utils import format_datetime
from html import escape
from typing import Any

from nxsched.domain import checks
from nxsched.domain.events import REMINDER
from nxsched.domain.messages import MAX_TEMPLATE, Message, MessageTemplate
from nxsched.domain.outbox import OutboxEvent
from nxsched.domain.preferences import ATTENDEE
from nxsched.errors import InvalidInput
from nxsched.notifications import context as contexts
from nxsched.notifications.compiling import check, rendered
from nxsched.notifications.context import LINKS, context, sample

MOST_SUBJECT = 200
"""Characters of a subject; what is longer is cut."""

MOST_LINK = 900
"""Characters of a link: it may stand in a header, whose lines have 998 at most."""

_PAGE = '<!DOCTYPE html>\n<html lang="{locale}"><head><meta charset="utf-8"></head><body>\n{body}\n</body></html>'


class _AsItIs(UnstructuredHeader, BaseHeader):
    """A header that is not folded: mail programs read no address of a link that is written as an encoded word."""

    def fold(self, *, policy: Policy) -> str:
        """One line, however long."""
        return f"{self.name}: {self}{policy.linesep}"


_HEADERS = HeaderRegistry()
_HEADERS.map_to_type("list-unsubscribe", _AsItIs)
_POLICY = SMTP.clone(header_factory=_HEADERS)


def checked_links(links: Mapping[str, str] | None) -> dict[str, str]:
    """The links that an application gives. Raises `InvalidInput`."""
    given = {} if links is None else links
    if not isinstance(given, Mapping):
        raise InvalidInput(field="links", reason=f"must be a dict of URLs, not {checks.shown(given)}")
    for name, url in given.items():
        checks.one_of("links", name, LINKS)
        fine = isinstance(url, str) and url.isascii() and url.isprintable() and " " not in url
        if not fine or not url.startswith(("https://", "http://")) or {*'<>"'} & {*url}:
            raise InvalidInput(field=f"links.{name}", reason=f"must be a URL, not {checks.shown(url)}")
        if len(url) > MOST_LINK:
            raise InvalidInput(field=f"links.{name}", reason=f"must have at most {MOST_LINK} characters")
    return dict(given)


def message(
    template: MessageTemplate, payload: Mapping[str, Any], to: str, locale: str, links: Mapping[str, str]
) -> Message:
    """A template with what an event tells. Raises `InvalidInput` for a template that cannot be rendered."""
    known = context(payload, to, locale, links)
    text = rendered("text", template.text, known)
    if template.subject is None:
        return Message(text=text)
    subject = " ".join(rendered("subject", template.subject, known).split())
    html = rendered("html", template.html, known, html=True) if template.html else _as_html(text, known, locale)
    return Message(subject=subject[:MOST_SUBJECT], text=text, html=html)


def _as_html(text: str, known: Mapping[str, Any], locale: str) -> str:
    """Paragraphs, with the application's own links as links."""
    paragraphs = [escape(one.strip()).replace("\n", "<br>\n") for one in text.split("\n\n") if one.strip()]
    body = "\n".join(f"<p>{one}</p>" for one in paragraphs)
    urls = sorted({escape(url) for url in known["links"].values() if url}, key=len, reverse=True)
    if urls:
        found = "|".join(map(re.escape, urls))
        body = re.sub(rf"(?<![^\s>])({found})(?![^\s<])", r'<a href="\1">\1</a>', body)
    return _PAGE.format(locale=escape(locale), body=body)


def check_template(template: MessageTemplate) -> None:
    """Raise `InvalidInput`, with field and line, for a template that could not be rendered one day."""
    to = ATTENDEE if template.to == ATTENDEE else "host:ada"
    links = dict.fromkeys(LINKS, "https://example.test/")
    known = context(sample(template.kind, whole=True, to=to), to, template.locale, links)
    for field in ("subject", "text", "html"):
        if source := getattr(template, field):
            check(field, source, known)
    for whole in (True, False):
        preview(template, whole=whole)


def preview(template: MessageTemplate, *, whole: bool = True) -> Message:
    """The message about an event that might be: one that has everything, or hardly anything. Raises `InvalidInput`."""
    to = ATTENDEE if template.to == ATTENDEE else "host:ada"
    links = dict.fromkeys(LINKS, "https://example.test/") if whole else {}
    return message(template, sample(template.kind, whole=whole, to=to), to, template.locale, links)


def email(event: OutboxEvent, made: Message, to: str, links: Mapping[str, str], *, sender: str | None) -> EmailMessage:
    """A whole mail, for any library that speaks SMTP. Raises `InvalidInput` for no address or sender."""
    payload = event.payload
    who = contexts.recipient(payload, to)
    from_address = sender or payload["tenant"]["sender"]
    if not from_address:
        reason = "is required: the tenant has none of its own, which create_tenant and save_details give it"
        raise InvalidInput(field="sender", reason=reason)
    checks.email("sender", from_address)
    mail = EmailMessage(policy=_POLICY)
    mail["From"] = _address("sender", payload["tenant"]["name"], from_address)
    mail["To"] = _address("to", who["name"] or "", who["email"])
    mail["Subject"] = _in_a_header(made.subject or "")
    mail["Date"] = format_datetime(event.read_at)
    whose = hashlib.sha256(f"{event.id} {to}".encode()).hexdigest()[:32]
    mail["Message-ID"] = f"<{whose}@{mail['From'].addresses[0].domain}>"  # the same each time it is sent
    mail["Auto-Submitted"] = "auto-generated"
    if event.kind == REMINDER and (url := links.get("unsubscribe")):  # RFC 8058: mail programs show a button for it
        mail["List-Unsubscribe"] = f"<{url}>"
        if url.startswith("https:"):
            mail["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    mail.set_content(made.text)
    if made.html:
        mail.add_alternative(made.html[: MAX_TEMPLATE * 10], subtype="html")
    return mail


def _in_a_header(text: str) -> str:
    """One line, and nothing that reads as an encoded word: the standard library decodes those that it is given."""
    return checks.printable(" ".join(text.split())).replace("=?", "=\N{ZERO WIDTH SPACE}?")


def _address(field: str, name: str, email: str) -> Address:
    """An address as mail programs read it: a domain in ASCII. Raises `InvalidInput`."""
    local, _, domain = email.rpartition("@")
    try:
        local.encode("ascii")
        return Address(display_name=_in_a_header(name), username=local, domain=domain.encode("idna").decode())
    except (ValueError, MessageError) as error:
        raise InvalidInput(field=field, reason=f"cannot be written as an address: {checks.shown(email)}") from error
