"""Templates of messages."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, text

from nxsched.domain.commands import TemplateName
from nxsched.domain.messages import MessageTemplate
from nxsched.store.statements import statement

_SAVE: Final = text("""
INSERT INTO nxsched.message_template (tenant_id, kind, channel, locale, audience, subject, text, html, saved_at)
VALUES (:tenant, :kind, :channel, :locale, :to, :subject, :text, :html, :now)
ON CONFLICT (tenant_id, kind, channel, locale, audience) DO UPDATE
SET subject = excluded.subject, text = excluded.text, html = excluded.html, saved_at = excluded.saved_at
""")

_NAMES: Final = "kind channel locale to subject text html"
_SEEN: Final = 'kind, channel, locale, audience AS "to", subject, text, html FROM nxsched.message_template'
_LIST: Final = statement(f"SELECT {_SEEN} WHERE tenant_id = :tenant ORDER BY kind, channel, audience, locale", _NAMES)
_FIND: Final = statement(
    f"SELECT {_SEEN} WHERE tenant_id = :tenant AND kind = :kind AND channel = :channel AND audience = :to", _NAMES
)
_DELETE: Final = text("""
DELETE FROM nxsched.message_template
WHERE tenant_id = :tenant AND kind = :kind AND channel = :channel AND locale = :locale AND audience = :to RETURNING 1
""")


def save_template(connection: Connection, tenant: str, template: MessageTemplate, now: datetime) -> None:
    """Insert a template or put it in the place of another."""
    values = {name: getattr(template, name) for name in _NAMES.split()}
    connection.execute(_SAVE, {**values, "tenant": tenant, "now": now})


def list_templates(connection: Connection, tenant: str) -> list[MessageTemplate]:
    """All templates of a tenant."""
    return [MessageTemplate(**row._asdict()) for row in connection.execute(_LIST, {"tenant": tenant})]


def find_templates(connection: Connection, tenant: str, kind: str, channel: str, to: str) -> list[MessageTemplate]:
    """The templates of one kind, in all languages."""
    values = {"tenant": tenant, "kind": kind, "channel": channel, "to": to}
    return [MessageTemplate(**row._asdict()) for row in connection.execute(_FIND, values)]


def delete_template(connection: Connection, tenant: str, name: TemplateName) -> bool:
    """Delete a template; false where there is none."""
    return connection.execute(_DELETE, {**asdict(name), "tenant": tenant}).one_or_none() is not None
