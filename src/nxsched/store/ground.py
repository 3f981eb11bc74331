"""What a slot is judged by: settings and the time that is taken, as they are at one moment, in one statement."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final

from sqlalchemy import Connection, TextualSelect

from nxsched.store.facts import NEAR, Counts, Found, left_out, read_facts, times
from nxsched.store.settings import SETTINGS, WANTED, Moved, Settings, read_settings, set_for
from nxsched.store.statements import GROUND, statement

_NEAR: Final = """, near AS (
    SELECT host_no, CAST(:start AS timestamptz) - make_interval(mins => wanted.reach_before) AS busy_from,
        CAST(:start AS timestamptz) + make_interval(mins => wanted.reach_after) AS busy_until
    FROM member CROSS JOIN wanted
)"""


@dataclass(frozen=True, slots=True)
class Ground:
    """An event type with all that is set for it, and what is taken near a start."""

    settings: Settings
    found: Found


@cache
def _statement(parts: frozenset[str]) -> TextualSelect:
    return statement(f"{WANTED}{_NEAR}{SETTINGS}UNION ALL{times(NEAR, 'take', parts)}", GROUND)


def fetch_ground(  # noqa: PLR0913 - what is asked
    connection: Connection,
    tenant: str,
    slug: str,
    start: datetime,
    now: datetime,
    counts: Counts,
    *,
    duration: timedelta | None,
    moved: Moved | None = None,
) -> Ground:
    """The event type `slug` as it is now, and what is taken around `start`, without the booking that is `moved`.

    Raises `EventTypeNotFound`, and `InvalidInput` for a duration that is not offered.
    `counts` says what is counted as well; whoever needs that knows it from a ground that was read before.
    """
    start = start.astimezone(UTC)
    values = {"tenant": tenant, "slug": slug, "start": start, "now": now, **set_for(start, start), **counts.values()}
    parts, without = left_out(moved)
    rows = connection.execute(_statement(counts.parts() | parts), {**values, **without}).all()
    settings = read_settings(rows, tenant, slug, duration)
    if moved is not None:
        settings = replace(settings, moved=moved)
    return Ground(settings, read_facts(settings, rows))
