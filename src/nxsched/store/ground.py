"""What a slot is judged by: settings and the time that is taken, as they are at one moment, in one statement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final

from sqlalchemy import Connection, TextualSelect

from nxsched.domain.event_types import EventType
from nxsched.store.facts import NEAR, NEAR_MANY, Counts, Found, left_out, read_facts, times
from nxsched.store.settings import SETTINGS, WANTED, Moved, Settings, read_settings, set_for, settings_instead
from nxsched.store.statements import GROUND, statement

_NEAR: Final = """, near AS (
    SELECT host_no, CAST(:start AS timestamptz) - make_interval(mins => wanted.reach_before) AS busy_from,
        CAST(:start AS timestamptz) + make_interval(mins => wanted.reach_after) AS busy_until
    FROM member CROSS JOIN wanted
)"""
_NEAR_MANY: Final = """, near AS (
    SELECT host_no, s.start - make_interval(mins => wanted.reach_before) AS busy_from,
        s.start + make_interval(mins => wanted.reach_after) AS busy_until
    FROM member CROSS JOIN wanted CROSS JOIN unnest(CAST(:starts AS timestamptz[])) AS s(start)
)"""

# A booking that goes to another host keeps its event type and its time, whatever has become of them.
_INSTEAD: Final = """
WITH wanted AS (
    SELECT e.event_type_no, e.slug, e.name, e.settings::text AS settings FROM nxsched.event_type e
    JOIN nxsched.occurrence o ON o.tenant_id = :tenant AND o.event_type_no = e.event_type_no
    WHERE e.tenant_id = :tenant AND o.id = CAST(:occurrence AS uuid)
), member AS (
    SELECT host_no FROM nxsched.host WHERE tenant_id = :tenant AND slug = :host
), near AS (
    SELECT host_no, CAST(:busy_from AS timestamptz) AS busy_from, CAST(:busy_until AS timestamptz) AS busy_until
    FROM member
)"""


@dataclass(frozen=True, slots=True)
class Ground:
    """An event type with all that is set for it, and what is taken near a start."""

    settings: Settings
    found: Found


@cache
def _statement(parts: frozenset[str], *, many: bool) -> TextualSelect:
    near, where = (_NEAR_MANY, NEAR_MANY) if many else (_NEAR, NEAR)
    return statement(f"{WANTED}{near}{SETTINGS}UNION ALL{times(where, 'take', parts)}", GROUND)


@cache
def _instead(parts: frozenset[str]) -> TextualSelect:
    return statement(f"{_INSTEAD}{SETTINGS}UNION ALL{times(NEAR, 'explain', parts)}", GROUND)


def fetch_ground(  # noqa: PLR0913 - what is asked
    connection: Connection,
    tenant: str,
    slug: str,
    starts: Sequence[datetime],
    now: datetime,
    counts: Counts,
    *,
    duration: timedelta | None,
    moved: Moved | None = None,
) -> Ground:
    """The event type `slug` as it is now, and what is taken around `starts`, without the booking that is `moved`.

    Raises `EventTypeNotFound`, and `InvalidInput` for a duration that is not offered.
    `counts` says what is counted as well; whoever needs that knows it from a ground that was read before.
    """
    at = [start.astimezone(UTC) for start in starts]
    many = len(at) > 1
    values = {"tenant": tenant, "slug": slug, "now": now, **set_for(min(at), max(at)), **counts.values()}
    values |= {"starts": at} if many else {"start": at[0]}
    parts, without = left_out(moved)
    rows = connection.execute(_statement(counts.parts() | parts, many=many), {**values, **without}).all()
    settings = read_settings(rows, tenant, slug, duration)
    if moved is not None:
        settings = replace(settings, moved=moved)
    return Ground(settings, read_facts(settings, rows))


def fetch_instead(  # noqa: PLR0913, PLR0917 - what is asked
    connection: Connection,
    tenant: str,
    event_type: EventType,
    occurrence: str,
    host: str,
    span: tuple[datetime, datetime],
    now: datetime,
    counts: Counts,
) -> Ground:
    """What is set for `host`, and what they have in `span`, for an occurrence of `event_type` that may go to them.

    The event type is one that has only them. Raises `HostNotFound`.
    """
    values = {"tenant": tenant, "occurrence": occurrence, "host": host, "busy_from": span[0], "busy_until": span[1]}
    values |= {"now": now, **set_for(*span), **counts.values()}
    rows = connection.execute(_instead(counts.parts()), values).all()
    settings = settings_instead(rows, tenant, event_type, host)
    return Ground(settings, read_facts(settings, rows))
