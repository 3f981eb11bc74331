"""The time that is taken, read in one statement and in integers: no more rows than can matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import compress, repeat
from operator import not_
from typing import Any, Final, Literal, NamedTuple

from sqlalchemy import Connection, TextClause, text

from nxsched.domain.event_types import Limit
from nxsched.domain.instants import DAY, instant
from nxsched.slots.facts import Facts
from nxsched.slots.intervals import Interval
from nxsched.slots.limits import period_of
from nxsched.slots.prepared import Taken
from nxsched.slots.seats import Occurrence
from nxsched.store.settings import Settings

_FREE_GRID: Final = 2 * DAY + 3600
"""How far around a range the alignment `free` looks at busy time (rule 20)."""


Purpose = Literal["find", "take", "explain"]
"""What the facts are for: finding needs no expired holds, taking those that stand in the way, explaining all names."""


class Named(NamedTuple):
    """The booking that time is taken by, as far as a refusal names it."""

    id: str | None


_SOMEBODY: Final = Named(None)


@dataclass(frozen=True, slots=True)
class Found:
    """The facts; by number of the host, the time of expired holds, and when the latest booking was made."""

    facts: Facts
    expired: dict[int, list[Interval]]
    latest: Mapping[int, int]


# Each host's times come as arrays, in order: a row for each of them would cost several times as much to read.
# `date_part` gives floats, exact for whole seconds, where `extract` would count in decimals.
_TIMES: Final = """array_agg(floor(date_part('epoch', {0}))::bigint ORDER BY {0}, {1}),
    array_agg(ceil(date_part('epoch', {1}))::bigint ORDER BY {0}, {1})"""

_COUNTS: Final = """(b.status IN ('pending', 'confirmed', 'completed', 'no_show')
    OR (b.status = 'held' AND b.expires_at > :now))"""

_NOBODY: Final = "NULL::text[], NULL::boolean[]"
_LIVING: Final = "(c.held_until IS NULL OR c.held_until > :now)"

# Active claims of a host are apart from one another, so at most one that begins before a range reaches into it: it is
# one step back in the index. However long the host's past and future, nothing else is looked at.
_OF_RANGE: Final = """
FROM unnest(CAST(:{hosts} AS bigint[])) AS h(host_no) CROSS JOIN LATERAL (
    SELECT * FROM (
        SELECT * FROM nxsched.claim
        WHERE tenant_id = :tenant AND host_no = h.host_no AND active AND busy_from <= :{start}
        ORDER BY busy_from DESC LIMIT 1
    ) before WHERE before.busy_until > :{start}
    UNION ALL
    SELECT * FROM nxsched.claim
    WHERE tenant_id = :tenant AND host_no = h.host_no AND active AND busy_from > :{start} AND busy_from < :{end}
) c
"""
_BUSY_THEN: Final = _OF_RANGE.format(hosts="hosts", start="start", end="end")
_COUNTED: Final = _OF_RANGE.format(hosts="limited", start="of_hosts_from", end="of_hosts_until")

_CLAIMS: Final = f"""
SELECT 'claim', c.host_no, {_TIMES.format("c.busy_from", "c.busy_until")}, {{names}}, {{over}}
{_BUSY_THEN} WHERE {{living}} {{not_moved}}
GROUP BY c.host_no
"""

_NAMES: Final = f"""array_agg((SELECT min(b.id::text) FROM nxsched.booking b
        WHERE b.tenant_id = :tenant AND b.occurrence_id = c.occurrence_id {{other}} AND {_COUNTS})
        ORDER BY c.busy_from, c.busy_until)"""

_OVER: Final = f"array_agg(NOT {_LIVING} ORDER BY c.busy_from, c.busy_until)"

_BUSY: Final = f"""
UNION ALL
SELECT 'busy', t.host_no, {_TIMES.format("t.busy_from", "t.busy_until")}, {_NOBODY}
FROM nxsched.busy_time t
WHERE t.tenant_id = :tenant AND t.host_no = ANY(:hosts) AND t.busy_until > :start AND t.busy_from < :end
GROUP BY t.host_no
"""

_OF_EVENT_TYPE: Final = f"""
UNION ALL
SELECT 'event_type', 0, {_TIMES.format("c.starts_at", "c.ends_at")}, {_NOBODY}
FROM (SELECT id AS occurrence_id, * FROM nxsched.occurrence) c
WHERE c.tenant_id = :tenant AND c.event_type_no = :event_type AND c.active
    AND c.starts_at >= :of_event_from AND c.starts_at < :of_event_until AND {_LIVING} {{not_moved}}
HAVING count(*) > 0
"""

_OF_HOSTS: Final = f"""
UNION ALL
SELECT 'host', c.host_no, {_TIMES.format("o.starts_at", "o.ends_at")}, {_NOBODY}
{_COUNTED} CROSS JOIN LATERAL (
    SELECT starts_at, ends_at FROM nxsched.occurrence WHERE tenant_id = :tenant AND id = c.occurrence_id OFFSET 0
) o
WHERE {_LIVING} {{not_moved}}
GROUP BY c.host_no
"""

_SEATS: Final = f"""
UNION ALL
SELECT 'seats', s.seats, ARRAY[floor(date_part('epoch', o.starts_at))::bigint],
    ARRAY[ceil(date_part('epoch', o.ends_at))::bigint],
    s.id || ARRAY(SELECT h.slug FROM nxsched.claim c
        JOIN nxsched.host h ON h.tenant_id = :tenant AND h.host_no = c.host_no
        WHERE c.tenant_id = :tenant AND c.occurrence_id = o.id), NULL
FROM nxsched.occurrence o CROSS JOIN LATERAL (
    SELECT sum(b.seats) AS seats, min(b.id::text) AS id FROM nxsched.booking b
    WHERE b.tenant_id = :tenant AND b.occurrence_id = o.id {{other}} AND {_COUNTS}
) s
WHERE o.tenant_id = :tenant AND o.event_type_no = :event_type AND o.active
    AND o.starts_at >= :start AND o.starts_at < :end AND (o.held_until IS NULL OR o.held_until > :now)
    AND s.seats > 0
"""

_LATEST: Final = """
UNION ALL
SELECT 'latest', p.host_no, ARRAY[(date_part('epoch', l.claimed_at) * 1000000)::bigint], NULL, NULL, NULL
FROM unnest(CAST(:hosts AS bigint[])) AS p(host_no) CROSS JOIN LATERAL (
    SELECT c.claimed_at FROM nxsched.claim c
    WHERE c.tenant_id = :tenant AND c.host_no = p.host_no AND c.active AND c.claimed_at > '-infinity'
        AND (c.held_until IS NULL OR c.held_until > :now)
    ORDER BY c.claimed_at DESC LIMIT 1
) l
"""


@cache
def _statement(  # noqa: PLR0913 - one for each part
    purpose: Purpose, *, moved: bool, alone: bool, of_event_type: bool, of_hosts: bool, seats: bool, latest: bool
) -> TextClause:
    parts = _CLAIMS + _BUSY + _OF_EVENT_TYPE * of_event_type + _OF_HOSTS * of_hosts + _SEATS * seats + _LATEST * latest
    other = "AND b.id <> CAST(:moving AS uuid)" if moved else ""
    return text(
        parts.format(
            names=_NAMES.format(other=other) if purpose == "explain" else "NULL::text[]",
            over="NULL::boolean[]" if purpose == "find" else _OVER,
            living=_LIVING if purpose == "find" else "true",
            not_moved="AND c.occurrence_id <> CAST(:without AS uuid)" if alone else "",
            other=other,
        )
    )


def fetch_facts(  # noqa: PLR0913 - what is asked
    connection: Connection,
    tenant: str,
    settings: Settings,
    asked: Interval,
    now: datetime,
    purpose: Purpose,
    *,
    latest: bool = False,
) -> Found:
    """What is taken, as far as starts in `asked`, epoch seconds, can depend on it.

    `latest` says when each host was last booked.
    """
    event, moved = settings.event_type, settings.moved
    limited = [slug for slug, host in settings.hosts.items() if host.limits]
    start, end = _around(settings, _offered(settings, asked, now) if purpose == "find" else asked)
    values: dict[str, Any] = {
        "tenant": tenant,
        "now": now,
        "hosts": [*settings.numbers.values()],
        "start": instant(start),
        "end": instant(end),
    }
    if event.limits or event.capacity > 1:
        values["event_type"] = settings.number
    if event.limits:
        values["of_event_from"], values["of_event_until"] = _periods(event.limits, asked)
    if limited:
        values["limited"] = [settings.numbers[slug] for slug in limited]
        limits = [limit for slug in limited for limit in settings.hosts[slug].limits]
        values["of_hosts_from"], values["of_hosts_until"] = _periods(limits, asked)
    if moved:
        values["moving"], values["without"] = moved.id, moved.occurrence
    statement = _statement(
        purpose,
        moved=moved is not None,
        alone=moved is not None and moved.occurrence is not None,
        of_event_type=bool(event.limits),
        of_hosts=bool(limited),
        seats=event.capacity > 1,
        latest=latest,
    )
    wanted = set(statement._bindparams)  # noqa: SLF001 - the names in the text; others would be refused
    rows = connection.execute(statement, {key: value for key, value in values.items() if key in wanted})
    return _read(settings, rows.all())


def _read(settings: Settings, rows: Sequence[Any]) -> Found:
    slugs = {no: slug for slug, no in settings.numbers.items()}
    taken: dict[str, list[Taken]] = {}
    of_event_type: Sequence[Interval] = ()
    of_host: dict[str, Sequence[Interval]] = {}
    standing: list[Occurrence] = []
    expired: dict[int, list[Interval]] = {}
    latest: dict[int, int] = {}
    for kind, no, starts, ends, names, over in rows:
        if kind in {"claim", "busy"}:
            times = taken.setdefault(slugs[no], [])
            origins = map(Named, names) if names else repeat(None if kind == "busy" else _SOMEBODY, len(starts))
            of_claims = list(zip(starts, ends, origins, strict=True))
            if over is None:
                times += of_claims
            else:
                times += compress(of_claims, map(not_, over))
                expired[no] = [(start, end) for start, end, _ in compress(of_claims, over)]
        elif kind == "event_type":
            of_event_type = list(zip(starts, ends, strict=True))
        elif kind == "host":
            of_host[slugs[no]] = list(zip(starts, ends, strict=True))
        elif kind == "seats":
            name, *hosts = names
            standing.append(Occurrence(settings.event_type.slug, starts[0], ends[0], frozenset(hosts), no, (name,)))
        else:
            latest[no] = starts[0]
    return Found(Facts(taken, of_event_type, of_host, standing), expired, latest)


def _offered(settings: Settings, asked: Interval, now: datetime) -> Interval:
    """The starts that may be offered: none that has passed, nor one beyond the window. Refusals are told of all."""
    start, end = max(asked[0], int(now.timestamp())), asked[1]
    days = settings.event_type.booking_window.days
    if days is not None:
        end = min(end, int(now.timestamp()) + (days + 3) * DAY)
    return min(start, end), end


def _around(settings: Settings, starts: Interval) -> Interval:
    """The range in which busy time can matter to these starts."""
    event = settings.event_type
    before = int((event.duration + event.buffer_before).total_seconds())
    after = int((event.duration + event.buffer_after).total_seconds())
    wider = _FREE_GRID if event.align == "free" else 0
    return starts[0] - before - wider, starts[1] + after + wider


def _periods(limits: Sequence[Limit], asked: Interval) -> tuple[datetime, datetime]:
    """The time of all occurrences that the limits count together with starts in `asked`, in any time zone."""
    first, last = asked[0] // DAY - 1, asked[1] // DAY + 1
    start = min(period_of(limit.per, first)[0] for limit in limits) - 1
    end = max(period_of(limit.per, last)[1] for limit in limits) + 1
    return instant(start * DAY), instant(end * DAY)
