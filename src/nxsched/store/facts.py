"""The time that is taken, read in one statement and in integers: no more rows than can matter."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import compress, repeat
from operator import not_
from typing import Any, Final, Literal, NamedTuple

from sqlalchemy import Connection, TextualSelect

from nxsched.domain.bookings import Attendee
from nxsched.domain.bounds import MAX_OPEN_HOLDS
from nxsched.domain.instants import DAY, instant
from nxsched.domain.periods import Period
from nxsched.slots.facts import Facts, reach
from nxsched.slots.intervals import Interval
from nxsched.slots.limits import period_of
from nxsched.slots.prepared import Taken
from nxsched.slots.seats import Occurrence
from nxsched.store.settings import Moved, Settings, counts
from nxsched.store.statements import GROUND, statement

Purpose = Literal["find", "take", "explain"]
"""What the facts are for: finding needs no expired holds, taking those that stand in the way, explaining all names."""


class Named(NamedTuple):
    """The booking that time is taken by, as far as a refusal names it."""

    id: str | None


SOMEBODY: Final = Named(None)
"""Who has time that nobody is asked about."""


class Theirs(NamedTuple):
    """What an attendee has: open holds, those of the event type, and what of it they have before them, holds too."""

    holds: int = 0
    of_event_type: int = 0
    upcoming: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """The facts; by number of the host, the time of what has expired, and when the latest booking was made; holds.

    `occurrences` are the ids of those that have seats, by start and hosts: two can not share both. `theirs` is what the
    attendee has.
    """

    facts: Facts
    occurrences: Mapping[tuple[int, frozenset[str]], str]
    expired: dict[int, list[Interval]]
    latest: Mapping[int, int]
    holds: int
    theirs: Theirs


# Each host's times come as arrays, in order: a row for each of them would cost several times as much to read.
# `date_part` gives floats, exact for whole seconds, where `extract` would count in decimals.
_TIMES: Final = """array_agg(floor(date_part('epoch', {0}))::bigint ORDER BY {0}, {1}),
    array_agg(ceil(date_part('epoch', {1}))::bigint ORDER BY {0}, {1})"""

_NO_WORDS: Final = "NULL::text, NULL::text, NULL::text, NULL::text, NULL::boolean"
"""In the place of what only the rows of settings say."""

_NOBODY: Final = "NULL::text[], NULL::boolean[]"
_LIVING: Final = "(c.held_until IS NULL OR c.held_until > :now)"

GIVEN: Final = {
    "members": "unnest(CAST(:hosts AS bigint[])) AS h(host_no)",
    "hosts": "unnest(CAST(:hosts AS bigint[])) AS h(host_no)",
    "start": ":start",
    "end": ":end",
    "starts": ">= :start AND o.starts_at < :end",
}
"""Whose time is looked at, and when: as parameters say."""

NEAR: Final = {
    "members": "member AS h",
    "hosts": "near AS h",
    "start": "h.busy_from",
    "end": "h.busy_until",
    "starts": "= :start",
}
"""The same as the settings of the event type say, which are read in the same statement."""

NEAR_MANY: Final = {**NEAR, "starts": "= ANY(CAST(:starts AS timestamptz[]))"}
"""The same for several starts."""

_LIMITED: Final = {
    "hosts": "unnest(CAST(:limited AS bigint[])) AS h(host_no)",
    "start": ":of_hosts_from",
    "end": ":of_hosts_until",
}

# Active claims of a host are apart from one another, so at most one that begins before a range reaches into it: it is
# one step back in the index. However long the host's past and future, nothing else is looked at.
_OF_RANGE: Final = """
FROM {hosts} CROSS JOIN LATERAL (
    SELECT * FROM (
        SELECT * FROM nxsched.claim
        WHERE tenant_id = :tenant AND host_no = h.host_no AND active AND busy_from <= {start}
        ORDER BY busy_from DESC LIMIT 1
    ) before WHERE before.busy_until > {start}
    UNION ALL
    SELECT * FROM nxsched.claim
    WHERE tenant_id = :tenant AND host_no = h.host_no AND active AND busy_from > {start} AND busy_from < {end}
) c
"""

# The occurrence of what is moved, unless somebody else has seats in it now: else it stays.
_NOT_MOVED: Final = f"""AND c.occurrence_id IS DISTINCT FROM (
    SELECT occurrence_id FROM nxsched.booking mine
    WHERE mine.tenant_id = :tenant AND mine.id = CAST(:moving AS uuid) AND NOT EXISTS (
        SELECT FROM nxsched.booking b
        WHERE b.tenant_id = :tenant AND b.occurrence_id = mine.occurrence_id AND b.id <> mine.id AND {counts("b")}))"""

_CLAIMS: Final = f"""
SELECT 'claim', c.host_no, {_NO_WORDS}, {_TIMES.format("c.busy_from", "c.busy_until")}, {{names}}, {{over}}
{{of_range}} WHERE {{living}} {{not_moved}}
GROUP BY c.host_no
"""

_NAMES: Final = f"""array_agg((SELECT min(b.id::text) FROM nxsched.booking b
        WHERE b.tenant_id = :tenant AND b.occurrence_id = c.occurrence_id {{other}} AND {counts("b")})
        ORDER BY c.busy_from, c.busy_until)"""

_OVER: Final = f"array_agg(NOT {_LIVING} ORDER BY c.busy_from, c.busy_until)"

_BUSY: Final = f"""
UNION ALL
SELECT 'busy', t.host_no, {_NO_WORDS}, {_TIMES.format("t.busy_from", "t.busy_until")}, {_NOBODY}
FROM {{hosts}} CROSS JOIN LATERAL (
    SELECT * FROM nxsched.busy_time
    WHERE tenant_id = :tenant AND host_no = h.host_no AND busy_until > {{start}} AND busy_from < {{end}} OFFSET 0
) t
GROUP BY t.host_no
"""

_OF_EVENT_TYPE: Final = f"""
UNION ALL
SELECT 'of_event_type', 0, {_NO_WORDS}, {_TIMES.format("c.starts_at", "c.ends_at")}, {_NOBODY}
FROM (SELECT id AS occurrence_id, * FROM nxsched.occurrence) c
WHERE c.tenant_id = :tenant AND c.event_type_no = :event_type AND c.active
    AND c.starts_at >= :of_event_from AND c.starts_at < :of_event_until AND {_LIVING} {{not_moved}}
HAVING count(*) > 0
"""

_OF_HOSTS: Final = f"""
UNION ALL
SELECT 'of_host', c.host_no, {_NO_WORDS}, {_TIMES.format("o.starts_at", "o.ends_at")}, {_NOBODY}
{_OF_RANGE.format(**_LIMITED)} CROSS JOIN LATERAL (
    SELECT starts_at, ends_at FROM nxsched.occurrence WHERE tenant_id = :tenant AND id = c.occurrence_id OFFSET 0
) o
WHERE {_LIVING} {{not_moved}}
GROUP BY c.host_no
"""

_SEATS: Final = f"""
UNION ALL
SELECT 'seats', s.seats, {_NO_WORDS}, ARRAY[floor(date_part('epoch', o.starts_at))::bigint],
    ARRAY[ceil(date_part('epoch', o.ends_at))::bigint],
    ARRAY[o.id::text, s.id] || ARRAY(SELECT h.slug FROM nxsched.claim c
        JOIN nxsched.host h ON h.tenant_id = :tenant AND h.host_no = c.host_no
        WHERE c.tenant_id = :tenant AND c.occurrence_id = o.id), NULL
FROM nxsched.occurrence o CROSS JOIN LATERAL (
    SELECT sum(b.seats) AS seats, min(b.id::text) AS id FROM nxsched.booking b
    WHERE b.tenant_id = :tenant AND b.occurrence_id = o.id {{other}} AND {counts("b")}
) s
WHERE o.tenant_id = :tenant AND o.event_type_no = :event_type AND o.active
    AND o.starts_at {{starts}} AND (o.held_until IS NULL OR o.held_until > :now)
    AND s.seats > 0
"""

_LATEST: Final = f"""
UNION ALL
SELECT 'latest', h.host_no, {_NO_WORDS}, ARRAY[(date_part('epoch', l.claimed_at) * 1000000)::bigint], NULL, NULL, NULL
FROM {{members}} CROSS JOIN LATERAL (
    SELECT c.claimed_at FROM nxsched.claim c
    WHERE c.tenant_id = :tenant AND c.host_no = h.host_no AND c.active AND c.claimed_at > '-infinity'
        AND (c.held_until IS NULL OR c.held_until > :now)
    ORDER BY c.claimed_at DESC LIMIT 1
) l
"""


_HOLDS: Final = f"""
UNION ALL
SELECT 'holds', count(*), {_NO_WORDS}, NULL, NULL, NULL, NULL FROM (
    SELECT FROM nxsched.booking b WHERE b.tenant_id = :tenant AND b.status = 'held' AND b.expires_at > :now
    LIMIT {MAX_OPEN_HOLDS}
) open
"""

# A hold lasts a week at most, and begins to before its start.
_THEIRS: Final = f"""
UNION ALL
SELECT 'theirs', 0, {_NO_WORDS}, ARRAY[
    count(*) FILTER (WHERE b.status = 'held'),
    count(*) FILTER (WHERE b.status = 'held' AND b.event_type_no = wanted.event_type_no),
    count(*) FILTER (WHERE b.starts_at > :now AND b.event_type_no = wanted.event_type_no)], NULL, NULL, NULL
FROM wanted JOIN nxsched.booking b ON b.tenant_id = :tenant AND b.id = ANY(ARRAY(
    SELECT id FROM nxsched.booking WHERE tenant_id = :tenant AND attendee_reference = :attendee_reference
        AND starts_at > CAST(:now AS timestamptz) - interval '8 days'
    UNION
    SELECT id FROM nxsched.booking WHERE tenant_id = :tenant AND attendee_address = lower(:attendee_email)
        AND starts_at > CAST(:now AS timestamptz) - interval '8 days'))
WHERE {counts("b")}
"""

_ALSO: Final = {
    "of_event_type": _OF_EVENT_TYPE,
    "of_hosts": _OF_HOSTS,
    "seats": _SEATS,
    "latest": _LATEST,
    "holds": _HOLDS,
    "theirs": _THEIRS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What is counted beside the time that is taken: occurrences for limits, whose turn it is, holds, an attendee's."""

    event_type: int | None = None
    of_event_type: tuple[datetime, datetime] | None = None
    limited: tuple[int, ...] = ()
    of_hosts: tuple[datetime, datetime] | None = None
    seats: bool = False
    latest: bool = False
    holds: bool = False
    theirs: Attendee | None = None

    def values(self) -> dict[str, Any]:
        """The parameters of the statement."""
        found: dict[str, Any] = {}
        if self.event_type is not None:
            found["event_type"] = self.event_type
        if self.of_event_type is not None:
            found["of_event_from"], found["of_event_until"] = self.of_event_type
        if self.of_hosts is not None:
            found["limited"] = [*self.limited]
            found["of_hosts_from"], found["of_hosts_until"] = self.of_hosts
        if self.theirs is not None:
            found["attendee_reference"] = self.theirs.reference
            found["attendee_email"] = self.theirs.email
        return found

    def parts(self) -> frozenset[str]:
        """The parts of the statement."""
        wanted: dict[str, object] = {
            "of_event_type": self.of_event_type,
            "of_hosts": self.of_hosts,
            "seats": self.seats,
            "latest": self.latest,
            "holds": self.holds,
            "theirs": self.theirs,
        }
        return frozenset(part for part, value in wanted.items() if value)


def counts_of(settings: Settings, asked: Interval, *, per: Period | None = None) -> Counts:
    """What is to be counted for starts in `asked`, epoch seconds; with `per` also the bookings of all hosts in it."""
    event = settings.event_type
    of_hosts = {limit.per for limits in settings.limited.values() for limit in limits}
    counted = [*settings.limited]
    if per is not None:
        of_hosts.add(per)
        counted = [*settings.slugs]
    return Counts(
        event_type=settings.number if event.limits or event.capacity > 1 else None,
        of_event_type=_periods({limit.per for limit in event.limits}, asked) if event.limits else None,
        limited=tuple(sorted(counted)),
        of_hosts=_periods(of_hosts, asked) if of_hosts else None,
        seats=event.capacity > 1,
    )


def times(where: Mapping[str, str], purpose: Purpose, parts: frozenset[str]) -> str:
    """The SELECTs that say what is taken, for the hosts and the time that `where` names.

    Beside what is counted, `parts` may hold `seats`; and `moved`, which leaves out a booking, and its occurrence where
    it stands there alone.
    """
    other = "AND b.id <> CAST(:moving AS uuid)" if "moved" in parts else ""
    chosen = _CLAIMS + _BUSY + "".join(text for part, text in _ALSO.items() if part in parts)
    return chosen.format(
        of_range=_OF_RANGE.format(**where),
        names=_NAMES.format(other=other) if purpose == "explain" else "NULL::text[]",
        over="NULL::boolean[]" if purpose == "find" else _OVER,
        living=_LIVING if purpose == "find" else "true",
        not_moved=_NOT_MOVED if "moved" in parts else "",
        other=other,
        **where,
    )


@cache
def _statement(purpose: Purpose, parts: frozenset[str]) -> TextualSelect:
    return statement(times(GIVEN, purpose, parts), GROUND)


def fetch_facts(
    connection: Connection, tenant: str, settings: Settings, asked: Interval, now: datetime, purpose: Purpose
) -> Found:
    """What is taken, as far as starts in `asked`, epoch seconds, can depend on it."""
    counts = counts_of(settings, asked)
    parts = counts.parts()
    start, end = _offered(settings, asked, now) if purpose == "find" else asked
    before, after = reach(settings.event_type)
    values: dict[str, Any] = {
        "tenant": tenant,
        "now": now,
        "hosts": [*settings.numbers.values()],
        "start": instant(start) - before,
        "end": instant(end) + after,
        **counts.values(),
    }
    more, without = left_out(settings.moved)
    rows = connection.execute(_statement(purpose, parts | more), {**values, **without}).all()
    return read_facts(settings, rows)


def left_out(moved: Moved | None) -> tuple[frozenset[str], dict[str, Any]]:
    """The parts of the statement that leave out a booking which is moved, and their parameters."""
    return (frozenset(), {}) if moved is None else (frozenset({"moved"}), {"moving": moved.id})


def read_facts(settings: Settings, rows: Sequence[Any]) -> Found:
    """What the rows say; those of settings are passed over."""
    slugs = settings.slugs
    taken: dict[str, list[Taken]] = {}
    of_event_type: Sequence[Interval] = ()
    of_host: dict[str, Sequence[Interval]] = {}
    standing: list[Occurrence] = []
    occurrences: dict[tuple[int, frozenset[str]], str] = {}
    expired: dict[int, list[Interval]] = {}
    latest: dict[int, int] = {}
    holds, theirs = 0, Theirs()
    for kind, no, *_, starts, ends, names, over in rows:
        if kind in {"claim", "busy"}:
            times = taken.setdefault(slugs[no], [])
            origins = map(Named, names) if names else repeat(None if kind == "busy" else SOMEBODY, len(starts))
            of_claims = list(zip(starts, ends, origins, strict=True))
            if over is None:
                times += of_claims
            else:
                times += compress(of_claims, map(not_, over))
                expired[no] = [(start, end) for start, end, _ in compress(of_claims, over)]
        elif kind == "of_event_type":
            of_event_type = list(zip(starts, ends, strict=True))
        elif kind == "of_host":
            of_host[slugs[no]] = list(zip(starts, ends, strict=True))
        elif kind == "seats":
            id_, name, *hosts = names
            one = Occurrence(settings.event_type.slug, starts[0], ends[0], frozenset(hosts), no, (name,))
            standing.append(one)
            occurrences[one.start, one.hosts] = id_
        elif kind == "latest":
            latest[no] = starts[0]
        elif kind == "holds":
            holds = no
        elif kind == "theirs":
            theirs = Theirs(*starts)
    return Found(Facts(taken, of_event_type, of_host, standing), occurrences, expired, latest, holds, theirs)


def _offered(settings: Settings, asked: Interval, now: datetime) -> Interval:
    """The starts that may be offered: none that has passed, nor one beyond the window. Refusals are told of all."""
    start, end = max(asked[0], int(now.timestamp())), asked[1]
    days = settings.event_type.booking_window.days
    if days is not None:
        end = min(end, int(now.timestamp()) + (days + 3) * DAY)
    return min(start, end), end


def _periods(pers: Collection[Period], asked: Interval) -> tuple[datetime, datetime]:
    """The time of all occurrences that are counted in such periods with starts in `asked`, in any time zone."""
    first, last = asked[0] // DAY - 1, asked[1] // DAY + 1
    start = min(period_of(per, first)[0] for per in pers) - 1
    end = max(period_of(per, last)[1] for per in pers) + 1
    return instant(start * DAY), instant(end * DAY)
