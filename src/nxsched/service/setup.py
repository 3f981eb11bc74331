"""What an application sets up: the tenant, hosts, event types, blocked and busy time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from sqlalchemy import Connection

from nxsched.domain.availability import BlockedPeriod, BusyTime
from nxsched.domain.checks import shown
from nxsched.domain.commands import Archive, Block, ReplaceBusy, SaveEventType, SaveHost, SaveTenant, Unblock
from nxsched.domain.event_types import EventType
from nxsched.domain.hosts import Host
from nxsched.domain.tenants import TenantDetails
from nxsched.errors import BlockedPeriodNotFound, EventTypeNotFound, HostNotFound, InvalidInput, TenantNotFound
from nxsched.service.tools import Tools
from nxsched.store import event_types as store_event_types
from nxsched.store import hosts as store_hosts
from nxsched.store import tenants


def save_tenant(connection: Connection, command: SaveTenant, tools: Tools) -> TenantDetails:
    """Make a tenant, or change the one that is there."""
    if command.new:
        if not tenants.insert_tenant(connection, command.tenant, tools.now):
            reason = f"there is a tenant {shown(command.tenant.id)} already, which scheduler.tenant gives"
            raise InvalidInput(field="id", reason=reason)
    elif not tenants.update_tenant(connection, command.tenant):
        raise TenantNotFound(id=command.tenant.id)
    return command.tenant


def tenant(connection: Connection, tools: Tools) -> TenantDetails:
    """The tenant itself."""
    found = tenants.fetch_tenant(connection, tools.tenant)
    if found is None:
        raise TenantNotFound(id=tools.tenant)
    return found


def save_host(connection: Connection, command: SaveHost, tools: Tools) -> Host:
    """Insert a host or put it in the place of another."""
    store_hosts.save_host(connection, tools.tenant, command.host, tools.now)
    return command.host


def host(connection: Connection, slug: str, tools: Tools) -> Host:
    """A host."""
    found = store_hosts.fetch_host(connection, tools.tenant, slug)
    if found is None:
        raise HostNotFound(slug=slug)
    return found


def hosts(connection: Connection, archived: bool, tools: Tools) -> list[Host]:
    """All hosts by slug."""
    return store_hosts.list_hosts(connection, tools.tenant, archived=archived)


def event_types(connection: Connection, archived: bool, tools: Tools) -> list[EventType]:
    """All event types by slug."""
    return store_event_types.list_event_types(connection, tools.tenant, archived=archived)


def save_event_type(connection: Connection, command: SaveEventType, tools: Tools) -> EventType:
    """Insert an event type or put it in the place of another; all its hosts must be there."""
    wanted = command.event_type
    known = store_event_types.list_known_hosts(connection, tools.tenant, wanted)
    for g, group in enumerate(wanted.groups):
        for m, slug in enumerate(group.members):
            if slug not in known:
                place = f"event_type.hosts[{g}].members[{m}]"
                raise InvalidInput(field=place, reason=f"there is no host {shown(slug)}")
    store_event_types.save_event_type(connection, tools.tenant, wanted, tools.now)
    return wanted


def event_type(connection: Connection, slug: str, tools: Tools) -> EventType:
    """An event type."""
    found = store_event_types.fetch_event_type(connection, tools.tenant, slug)
    if found is None:
        raise EventTypeNotFound(slug=slug)
    return found


def archive(connection: Connection, command: Archive, tools: Tools) -> None:
    """Take no new bookings for a host or an event type."""
    if command.kind == "host":
        if not store_hosts.archive_host(connection, tools.tenant, command.slug, tools.now):
            raise HostNotFound(slug=command.slug)
    elif not store_event_types.archive_event_type(connection, tools.tenant, command.slug, tools.now):
        raise EventTypeNotFound(slug=command.slug)


def block(connection: Connection, command: Block, tools: Tools) -> BlockedPeriod:
    """Block time of a host, or of the whole tenant."""
    number = None if command.host is None else _number(connection, command.host, tools)
    period = replace(command.period, id=command.period.id or tools.id)
    if not store_hosts.insert_blocked(connection, tools.tenant, number, period, tools.now):
        raise InvalidInput(field="period.id", reason=f"there is a blocked period {period.id} already")
    return period


def blocked_period(connection: Connection, id_: str, tools: Tools) -> BlockedPeriod:
    """A blocked period."""
    found = store_hosts.fetch_blocked(connection, tools.tenant, id_)
    if found is None:
        raise BlockedPeriodNotFound(id=id_)
    return found


def blocked_periods(connection: Connection, slug: str | None, tools: Tools) -> list[BlockedPeriod]:
    """The blocked periods of a host, or the closures of the tenant."""
    number = None if slug is None else _number(connection, slug, tools)
    return store_hosts.list_blocked(connection, tools.tenant, number)


def unblock(connection: Connection, command: Unblock, tools: Tools) -> None:
    """Take a blocked period away."""
    if not store_hosts.delete_blocked(connection, tools.tenant, command.id):
        raise BlockedPeriodNotFound(id=command.id)


def replace_busy(connection: Connection, command: ReplaceBusy, tools: Tools) -> None:
    """Put what a source reports in the place of all it had reported in a range."""
    number = store_hosts.lock_host(connection, tools.tenant, command.host)
    if number is None:
        raise HostNotFound(slug=command.host)
    span = command.start.astimezone(UTC), command.end.astimezone(UTC)
    store_hosts.replace_busy(connection, tools.tenant, number, command.source, span, command.seconds)


def busy(connection: Connection, slug: str, start: datetime, end: datetime, tools: Tools) -> list[BusyTime]:
    """What outside calendars have reported of a host."""
    return store_hosts.list_busy(connection, tools.tenant, _number(connection, slug, tools), start, end)


def _number(connection: Connection, slug: str, tools: Tools) -> int:
    found = store_hosts.fetch_host_number(connection, tools.tenant, slug)
    if found is None:
        raise HostNotFound(slug=slug)
    return found
