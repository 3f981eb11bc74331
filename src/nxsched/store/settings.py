"""What the application has set, read in one statement: an event type, its hosts, and the time that is blocked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache, lru_cache
from typing import Any, Final

from sqlalchemy import Connection, TextualSelect

from nxsched.domain import checks
from nxsched.domain.availability import BlockedPeriod
from nxsched.domain.bookings import MOVABLE
from nxsched.domain.bounds import MAX_MINUTES
from nxsched.domain.event_types import EventType, Limit
from nxsched.domain.hosts import Host
from nxsched.domain.stored import read_blocked, read_event_type, read_host
from nxsched.domain.tenants import TenantDetails
from nxsched.errors import (
    BookingNotFound,
    EventTypeNotFound,
    HostNotFound,
    InvalidInput,
    InvalidTransition,
    TenantNotFound,
)
from nxsched.slots.facts import Terms
from nxsched.store.bookings import STATUS
from nxsched.store.statements import GROUND, statement


def counts(booking: str) -> str:
    """The condition that a booking takes time: whose time is over does not, swept or not."""
    return f"""({booking}.status IN ('confirmed', 'completed', 'no_show')
        OR ({booking}.status IN ('held', 'pending') AND {booking}.expires_at > :now))"""


_AROUND: Final = timedelta(minutes=MAX_MINUTES, days=4)
"""How far beyond a range blocked time may matter: to the end of the longest slot, and what stretches look at."""


@dataclass(frozen=True, slots=True)
class Moved:
    """The booking that is to be moved, and how many seats it has."""

    id: str
    seats: int


@dataclass(frozen=True, slots=True)
class Settings:
    """An event type with its number, the tenant, and the terms: its hosts by slug, and their blocked time.

    Hosts have numbers, by slug; `limited` has the limits of those that have some. The same rows give the same object,
    and nothing in it is changed.
    """

    number: int
    tenant: TenantDetails
    terms: Terms
    numbers: Mapping[str, int]
    slugs: Mapping[int, str]
    limited: Mapping[int, Sequence[Limit]]
    moved: Moved | None = None

    @property
    def event_type(self) -> EventType:
        """The event type, with the duration that was asked for."""
        return self.terms.event_type

    @property
    def hosts(self) -> Mapping[str, Host]:
        """The members of its groups, by slug."""
        return self.terms.hosts


NO_TIMES: Final = "NULL::bigint[], NULL::bigint[], NULL::text[], NULL::boolean[]"
"""In the place of what only the rows of taken time say: settings and taken time may be asked for in one statement."""

WANTED: Final = """
WITH wanted AS (
    SELECT event_type_no, slug, name, settings::text AS settings, reach_before, reach_after FROM nxsched.event_type
    WHERE tenant_id = :tenant AND slug = :slug AND archived_at IS NULL
), member AS (
    SELECT m.host_no FROM nxsched.event_type_member m JOIN wanted USING (event_type_no) WHERE m.tenant_id = :tenant
)"""

SETTINGS: Final = f"""
SELECT 'event_type', event_type_no, slug, name, NULL::text, settings, false, {NO_TIMES} FROM wanted
UNION ALL
SELECT 'tenant', 0, tenant_id, name, sender, NULL, false, {NO_TIMES} FROM nxsched.tenant WHERE tenant_id = :tenant
UNION ALL
SELECT 'host', h.host_no, h.slug, h.name, h.email, h.settings::text, h.archived_at IS NOT NULL, {NO_TIMES}
FROM member JOIN nxsched.host h ON h.tenant_id = :tenant AND h.host_no = member.host_no
UNION ALL
SELECT 'blocked', b.host_no, b.id::text, NULL, NULL, b.definition::text, false, {NO_TIMES}
FROM member CROSS JOIN LATERAL (
    SELECT * FROM nxsched.blocked_period
    WHERE tenant_id = :tenant AND host_no = member.host_no AND reach_until > :set_from AND reach_from < :set_until
    OFFSET 0
) b
UNION ALL
SELECT 'closure', 0, b.id::text, NULL, NULL, b.definition::text, false, {NO_TIMES}
FROM nxsched.blocked_period b
WHERE b.tenant_id = :tenant AND b.host_no IS NULL AND b.reach_until > :set_from AND b.reach_from < :set_until
"""

_MOVED: Final = f"""
UNION ALL
SELECT 'moved', b.seats, b.id::text, e.slug, {STATUS}, EXTRACT(epoch FROM b.ends_at - b.starts_at)::bigint::text,
    false, {NO_TIMES}
FROM nxsched.booking b JOIN nxsched.event_type e ON e.tenant_id = :tenant AND e.event_type_no = b.event_type_no
WHERE b.tenant_id = :tenant AND b.id = CAST(:moving AS uuid)
"""


@cache
def _statement(*, moving: bool) -> TextualSelect:
    return statement(WANTED + SETTINGS + _MOVED * moving, GROUND)


def set_for(start: datetime, end: datetime) -> dict[str, object]:
    """The parameters that say which blocked time may matter to starts from `start` to `end`."""
    return {"set_from": start - _AROUND, "set_until": end + _AROUND}


def fetch_settings(  # noqa: PLR0913 - what is asked
    connection: Connection,
    tenant: str,
    slug: str,
    span: tuple[datetime, datetime],
    now: datetime,
    *,
    duration: timedelta | None,
    moving: str | None,
) -> Settings:
    """The event type `slug` with a duration that it offers, and all that is set for starts in `span`.

    `moving` is a booking that is looked up beside it; it keeps its duration unless one is given. Raises
    `EventTypeNotFound`, also for an archived one, `BookingNotFound`, `InvalidTransition` for a booking that cannot be
    moved, and `InvalidInput` for one of another event type and for a duration that is not offered.
    """
    values = {"tenant": tenant, "slug": slug, **set_for(*span)}
    if moving is not None:
        values |= {"moving": moving, "now": now}
    rows = connection.execute(_statement(moving=moving is not None), values).all()
    if moving is None:
        return read_settings(rows, tenant, slug, duration)
    moved = next((row[1:6] for row in rows if row[0] == "moved"), None)
    no, key, its, status, lasts = moved or (0, moving, None, None, "0")
    keeps = duration is None and its == slug
    try:
        found = read_settings(rows, tenant, slug, timedelta(seconds=int(lasts)) if keeps else duration)
    except InvalidInput as error:
        if keeps:
            raise EventType.no_longer(error) from error
        raise
    if its is None:
        raise BookingNotFound(id=moving)
    if its != slug:
        reason = f"is a booking of {checks.shown(its)}, not of {checks.shown(slug)}"
        raise InvalidInput(field="moving", reason=reason)
    if status not in MOVABLE:
        raise InvalidTransition(id=key, from_status=status, to_status="rescheduled")
    keep_seats(no, found.event_type)
    return replace(found, moved=Moved(key, no))


def keep_seats(seats: int, event_type: EventType) -> None:
    """Raises `InvalidInput` for a booking that is to be moved with more seats than there are now."""
    if seats > event_type.capacity:
        reason = f"the booking has {seats}, and its event type gives {event_type.capacity} at most now: book it anew"
        raise InvalidInput(field="seats", reason=reason)


_SET: Final = frozenset({"event_type", "tenant", "host", "blocked", "closure"})
"""The kinds of rows that say what is set, in their first seven columns."""


def read_settings(rows: Sequence[Any], tenant: str, slug: str, duration: timedelta | None) -> Settings:
    """What the rows say of the event type `slug`; those of anything else are passed over.

    Raises `EventTypeNotFound`, `TenantNotFound`, and `InvalidInput` for a duration that is not offered.
    """
    set_ = tuple([row[:7] for row in rows if row[0] in _SET])
    found = _kept(set_, duration) if len(set_) <= _MOST_KEPT else _settings(set_, duration)
    if found is None:
        raise EventTypeNotFound(slug=slug) if any(row[0] == "tenant" for row in set_) else TenantNotFound(id=tenant)
    return found


_MOST_KEPT: Final = 50
"""Rows of settings that are kept: of larger ones, a few would fill the memory, and working them out pays less."""


def settings_instead(rows: Sequence[Any], tenant: str, event_type: EventType, host: str) -> Settings:
    """What the rows say of `event_type`, which has no other host than that one. Raises `HostNotFound`."""
    found = _read([row[:7] for row in rows if row[0] in _SET])
    if found.tenant is None:
        raise TenantNotFound(id=tenant)
    if host not in found.hosts:
        raise HostNotFound(slug=host)
    return found.settings(found.tenant, event_type)


@dataclass(slots=True)
class _Read:
    """What rows of settings say, row by row."""

    number: int = 0
    event_type: EventType | None = None
    tenant: TenantDetails | None = None
    hosts: dict[str, Host] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    blocked: dict[int, list[BlockedPeriod]] = field(default_factory=dict)
    closures: list[BlockedPeriod] = field(default_factory=list)

    def settings(self, tenant: TenantDetails, event_type: EventType) -> Settings:
        """All of it for an event type."""
        numbers, hosts = self.numbers, self.hosts
        of_hosts = {slug: self.blocked[no] for slug, no in numbers.items() if no in self.blocked}
        return Settings(
            number=self.number,
            tenant=tenant,
            terms=Terms(event_type, hosts, of_hosts, tuple(self.closures)),
            numbers=numbers,
            slugs={no: slug for slug, no in numbers.items()},
            limited={numbers[slug]: host.limits for slug, host in hosts.items() if host.limits},
        )


def _read(rows: Sequence[Sequence[Any]]) -> _Read:
    found = _Read()
    for kind, no, key, name, address, words, flag in rows:
        if kind == "host":
            found.hosts[key] = _open_host(key, name, address, words, archived=flag)
            found.numbers[key] = no
        elif kind == "blocked":
            found.blocked.setdefault(no, []).append(read_blocked(key, words))
        elif kind == "closure":
            found.closures.append(read_blocked(key, words))
        elif kind == "event_type":
            found.number, found.event_type = no, read_event_type(key, name, words, archived=flag)
        elif kind == "tenant":
            found.tenant = _tenant(key, name, address)
    return found


def _settings(rows: Sequence[Sequence[Any]], duration: timedelta | None) -> Settings | None:
    """What the rows say, or `None` where there is no such event type, or no tenant."""
    found = _read(rows)
    if found.tenant is None or found.event_type is None:
        return None
    return found.settings(found.tenant, found.event_type.lasting(duration))


_kept = lru_cache(maxsize=128)(_settings)


@lru_cache(maxsize=1024)
def _tenant(id_: str, name: str, sender: str | None) -> TenantDetails:
    return TenantDetails(id=id_, name=name, sender=sender)


@lru_cache(maxsize=8192)
def _open_host(slug: str, name: str, email: str | None, settings: str, *, archived: bool) -> Host:
    """A host as the calculator shall see it: one that is archived works no hours."""
    host = read_host(slug, name, email, settings, archived=archived)
    return replace(host, weekly_hours=(), overrides=()) if host.archived else host
