"""Tenants: insert, read, change."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, text

from nxsched.domain.tenants import TenantDetails
from nxsched.errors import InvalidInput
from nxsched.store.roles import worker_policy

_INSERT: Final = text("""
INSERT INTO nxsched.tenant (tenant_id, name, sender, settings, created_at)
VALUES (:tenant, :name, :sender, CAST(CAST(:settings AS text) AS jsonb), :now)
ON CONFLICT (tenant_id) DO NOTHING RETURNING true
""")

_UPDATE: Final = text("""
UPDATE nxsched.tenant SET name = :name, sender = :sender, settings = CAST(CAST(:settings AS text) AS jsonb)
WHERE tenant_id = :tenant RETURNING true
""")

_FIND: Final = text("SELECT tenant_id AS id, name, sender, settings FROM nxsched.tenant WHERE tenant_id = :tenant")
_LIST: Final = text("SELECT tenant_id AS id, name, sender, settings FROM nxsched.tenant ORDER BY tenant_id")

_SEES_ALL: Final = text("""
SELECT NOT row_security_active('nxsched.tenant') OR EXISTS (
    SELECT FROM pg_policies, unnest(roles) AS worker
    WHERE schemaname = 'nxsched' AND tablename = 'tenant' AND policyname = :policy AND pg_has_role(worker, 'USAGE'))
""")


def insert_tenant(connection: Connection, tenant: TenantDetails, now: datetime) -> bool:
    """Insert a tenant; false where there is one with its id."""
    return connection.execute(_INSERT, {**_values(tenant), "now": now}).one_or_none() is not None


def update_tenant(connection: Connection, tenant: TenantDetails) -> bool:
    """Change a tenant; false where there is none with its id."""
    return connection.execute(_UPDATE, _values(tenant)).one_or_none() is not None


def fetch_tenant(connection: Connection, tenant: str) -> TenantDetails | None:
    """A tenant, if there is one."""
    found = connection.execute(_FIND, {"tenant": tenant}).one_or_none()
    return TenantDetails(**found._mapping) if found else None  # noqa: SLF001 - a row's own name for its columns


def sees_all_tenants(connection: Connection) -> bool:
    """Whether this login may see the tenants all at once, as the worker's role does."""
    return bool(connection.execute(_SEES_ALL, {"policy": worker_policy("tenant", "SELECT")}).scalar_one())


def list_tenants(connection: Connection) -> list[TenantDetails]:
    """All tenants, for a login that may see them all. Raises `InvalidInput` for any other."""
    if not sees_all_tenants(connection):
        reason = "must log in as a role that sees all tenants: one that `nxsched migrate --worker-role` has named"
        raise InvalidInput(field="worker_url", reason=reason)
    return [TenantDetails(**row._mapping) for row in connection.execute(_LIST)]  # noqa: SLF001 - as above


def _values(tenant: TenantDetails) -> dict[str, object]:
    settings = json.dumps(tenant.settings)
    return {"tenant": tenant.id, "name": tenant.name, "sender": tenant.sender, "settings": settings}
