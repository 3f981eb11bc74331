"""Proves by raw SQL and by the journals that what nxsched promises has held, or says what has not.

It shares nothing with what it judges: no statement, no model, no helper of the rest of the package.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, text

from nxsched.torture.journal import Asked
from nxsched.torture.world import EVENT_LIMITS, FORCED, HALF, HOST_LIMITS, SEATS

_STANDS: Final = frozenset({"held", "pending", "confirmed", "completed", "no_show"})


class Violation(NamedTuple):
    """Something that was promised and did not hold."""

    promise: str
    found: str


class Entry(NamedTuple):
    """A line of the audit trail."""

    version: int
    action: str
    actor: str | None
    changes: Mapping[str, Sequence[Any]]


@dataclass
class Row:
    """A booking as it is stored, with its records."""

    id: str
    now: Mapping[str, Any]
    version: int
    entries: list[Entry] = field(default_factory=list)
    events: list[tuple[int, Mapping[str, Any]]] = field(default_factory=list)

    def states(self) -> dict[int, dict[str, Any]]:
        """What its audit entries add up to, version by version."""
        found: dict[int, dict[str, Any]] = {}
        state: dict[str, Any] = {}
        for entry in self.entries:
            state = {**state, **{name: after for name, (_, after) in entry.changes.items()}}
            found[entry.version] = state
        return found


@dataclass
class Evidence:
    """All that there is to be looked at: what is stored, and what callers were told."""

    rows: Mapping[str, Row]
    claims: Sequence[Mapping[str, Any]]
    occurrences: Sequence[Mapping[str, Any]]
    keys: Mapping[str, str]
    asked: Mapping[str, Asked]
    seen_by_the_other: Mapping[str, int]
    left: Sequence[str]
    swept_at: datetime
    orphans: Sequence[str] = ()

    def entries_of(self, key: str) -> list[tuple[Row, Entry]]:
        """What a call has left in the audit trail."""
        return self._by_key.get(key, [])

    def __post_init__(self) -> None:
        """Find entries by the call that made them."""
        self._by_key: dict[str, list[tuple[Row, Entry]]] = defaultdict(list)
        for row in self.rows.values():
            for entry in row.entries:
                if entry.actor is not None:
                    self._by_key[entry.actor].append((row, entry))


def gathered(
    above: Connection,
    tenant: str,
    asked: Mapping[str, Asked],
    seen_by_the_other: Mapping[str, int],
    left: Sequence[str],
    swept_at: datetime,
) -> Evidence:
    """The evidence of a tenant, read through a login that sees everything."""
    rows: dict[str, Row] = {}
    for one in above.execute(_BOOKINGS, {"tenant": tenant}).mappings():
        rows[one["id"]] = Row(one["id"], dict(one), one["version"])
    orphans: list[str] = []
    for id_, version, action, actor, changes in above.execute(_ENTRIES, {"tenant": tenant}):
        if id_ in rows:
            rows[id_].entries.append(Entry(version, action, actor, changes))
        else:
            orphans.append(f"an audit entry of {id_}, which is not there")
    for id_, version, booking in above.execute(_EVENTS, {"tenant": tenant}):
        if id_ in rows:
            rows[id_].events.append((version, booking))
        else:
            orphans.append(f"an event of {id_}, which is not there")
    return Evidence(
        rows,
        [dict(one) for one in above.execute(_CLAIMS, {"tenant": tenant}).mappings()],
        [dict(one) for one in above.execute(_OCCURRENCES, {"tenant": tenant}).mappings()],
        {row.key: row.id for row in above.execute(_KEYS, {"tenant": tenant})},
        {key: one for key, one in asked.items() if one.tenant == tenant},
        seen_by_the_other,
        left,
        swept_at,
        orphans,
    )


_BOOKINGS: Final = text("""
SELECT b.id::text, b.version, b.status, b.starts_at, b.ends_at, b.expires_at, b.seats, b.location, b.sequence,
    b.assigned_because, b.occurrence_id::text AS occurrence, b.attendee_reference, e.slug AS event_type, o.active,
    ARRAY(SELECT h.slug FROM nxsched.claim c JOIN nxsched.host h ON h.host_no = c.host_no
        WHERE c.occurrence_id = b.occurrence_id ORDER BY c.place) AS hosts
FROM nxsched.booking b JOIN nxsched.event_type e ON e.event_type_no = b.event_type_no
JOIN nxsched.occurrence o ON o.id = b.occurrence_id WHERE b.tenant_id = :tenant
""")
_ENTRIES: Final = text("""
SELECT booking_id::text, version, action, actor->>'id', changes FROM nxsched.audit_entry WHERE tenant_id = :tenant
ORDER BY booking_id, version
""")
_EVENTS: Final = text("""
SELECT booking_id::text, version, payload->'booking' FROM nxsched.outbox_event WHERE tenant_id = :tenant
ORDER BY booking_id, version
""")
_CLAIMS: Final = text("SELECT *, occurrence_id::text AS occurrence FROM nxsched.claim WHERE tenant_id = :tenant")
_OCCURRENCES: Final = text("""
SELECT o.id::text, o.starts_at, o.ends_at, o.active, e.slug, ARRAY(SELECT h.slug FROM nxsched.claim c
    JOIN nxsched.host h ON h.host_no = c.host_no WHERE c.occurrence_id = o.id) AS hosts
FROM nxsched.occurrence o JOIN nxsched.event_type e ON e.event_type_no = o.event_type_no WHERE o.tenant_id = :tenant
""")
_KEYS: Final = text("SELECT key, result->>'id' AS id FROM nxsched.idempotency_key WHERE tenant_id = :tenant")


def no_two_active_claims_of_a_host_overlap(found: Evidence) -> Iterator[str]:
    """Computed here, whatever the constraint says."""
    of_host: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for one in found.claims:
        if one["active"]:
            of_host[one["host_no"]].append(one)
    for claims in of_host.values():
        claims.sort(key=lambda one: one["busy_from"])
        for one, other in pairwise(claims):
            if other["busy_from"] < one["busy_until"]:
                yield f"host {one['host_no']}: {one['occurrence']} and {other['occurrence']} at {other['busy_from']}"


def time_is_taken_while_a_booking_stands_and_no_longer(found: Evidence) -> Iterator[str]:
    """Claims are active with the bookings of their occurrence, at its time, with the buffer of the event type."""
    standing = {row.now["occurrence"] for row in found.rows.values() if row.now["status"] in _STANDS}
    times = {one["id"]: one for one in found.occurrences}
    for one in found.claims:
        its = times[one["occurrence"]]
        buffer = HALF / 2 if its["slug"] == "asked" else timedelta()
        if (one["busy_from"], one["busy_until"]) != (its["starts_at"], its["ends_at"] + buffer):
            yield f"{one['occurrence']} at {its['starts_at']} claims {one['busy_from']} to {one['busy_until']}"
    for row in found.rows.values():
        its = times[row.now["occurrence"]]
        if (row.now["starts_at"], row.now["ends_at"]) != (its["starts_at"], its["ends_at"]):
            yield f"{row.id} is at {row.now['starts_at']}, and its occurrence at {its['starts_at']}"
    for one in (*found.claims, *found.occurrences):
        id_ = one.get("occurrence", one.get("id"))
        if one["active"] != (id_ in standing):
            yield f"{id_} is {'' if one['active'] else 'not '}active"


def what_was_acknowledged_is_there(found: Evidence) -> Iterator[str]:
    """In the state that a caller was told, or a later one."""
    for one in found.asked.values():
        for tried in one.tries:
            for told in tried.told:
                row = found.rows.get(told.id)
                if row is None:
                    yield f"{one.key}: {one.method} made {told.id}, which is not there"
                    continue
                about = one.arguments.get("booking_id", one.arguments.get("hold_id", told.id))
                if about != told.id:
                    yield f"{one.key}: {one.method} of {about} was told of {told.id}"
                state = row.states().get(told.version, {}).get("status")
                if state is None:
                    yield f"{one.key}: {told.id} was at version {told.version}, and has {row.version}"
                elif told.status not in {state, "expired" if state == "held" else state}:  # over, and not tidied up
                    yield f"{one.key}: {told.id} was {told.status} at version {told.version}, which says {state}"


def what_was_refused_left_nothing(found: Evidence) -> Iterator[str]:
    """No booking, no change, no key: nor did what the application took back.

    Where an earlier try has no end that is known, a refusal by a rule says all the same that it came to nothing.
    """
    for one in found.asked.values():
        last = one.tries[-1]
        ends = {tried.end for tried in one.tries}
        decided = last.end == "refused" and last.said in _BY_A_RULE and "told" not in ends
        if (ends <= {"refused", "undone"} or decided) and (left := _left(found, one)):
            yield f"{one.key}: {one.method} was refused ({last.said}), and left {left}"


_BY_A_RULE: Final = {"slot_taken", "slot_unavailable", "invalid_transition", "hold_expired", "policy_violation"}


def a_call_happens_whole_or_not_at_all(found: Evidence) -> Iterator[str]:
    """Its key says which, also where nobody was told: the key and what was done stand together."""
    for one in found.asked.values():
        done = found.entries_of(one.key)
        if done and one.key not in found.keys:
            yield f"{one.key}: {one.method} has changed {done[0][0].id}, and its key is not there"
        if one.key in found.keys and not done and one.method in {"book", "place_hold", "book_series"}:
            yield f"{one.key}: {one.method} has its key, and has made nothing"
        if one.method == "book_series" and done and len(done) != len(one.arguments["starts"]):
            yield f"{one.key}: {len(done)} of a series of {len(one.arguments['starts'])}"
        made = {row.id for row, entry in done if entry.version == 1}
        if one.method in {"book", "place_hold"} and made and made != {found.keys.get(one.key)}:
            yield f"{one.key}: {one.method} has made {sorted(made)}, and its key says {found.keys.get(one.key)}"
        if one.key not in found.keys and any(tried.end == "told" for tried in one.tries):
            yield f"{one.key}: {one.method} was acknowledged, and its key is not there"


def a_call_happens_once(found: Evidence) -> Iterator[str]:
    """However often it was tried."""
    for one in found.asked.values():
        seen: set[str] = set()
        for row, entry in found.entries_of(one.key):
            if row.id in seen:
                yield f"{one.key}: {one.method} has changed {row.id} twice, the second time at {entry.version}"
            seen.add(row.id)
        answers = {tuple(sorted(told.id for told in tried.told)) for tried in one.tries if tried.told}
        if len(answers) > 1:
            yield f"{one.key}: {one.method} was told two things: {sorted(answers)}"


def every_change_names_a_call_that_was_made(found: Evidence) -> Iterator[str]:
    """Nothing is there that nobody asked for, but what ends by itself."""
    for row in found.rows.values():
        for entry in row.entries:
            if entry.actor is None and entry.action != "expire":
                yield f"{row.id}: {entry.action} at {entry.version} is nobody's act"
            elif entry.actor is not None and entry.actor not in found.asked:
                yield f"{row.id}: {entry.action} at {entry.version} by {entry.actor}, who asked for nothing"


def audit_entries_add_up_to_what_is_stored(found: Evidence) -> Iterator[str]:
    """Replayed in their order, they give the present state of every booking; each begins where the last one ended."""
    yield from found.orphans
    for row in found.rows.values():
        if [entry.version for entry in row.entries] != list(range(1, row.version + 1)):
            yield f"{row.id}: versions {[entry.version for entry in row.entries]} of {row.version}"
            continue
        states = row.states()
        for entry in row.entries:
            known = states.get(entry.version - 1, {})
            for name, (before, _) in entry.changes.items():
                if (before or None) != (known.get(name) or None):
                    yield f"{row.id}: {entry.version} says that {name} was {before!r}, and it was {known.get(name)!r}"
        state = states[row.version]
        for name, column in _AUDITED.items():
            stored, said = _plain(row.now[column]), state.get(name)
            if name == "hosts" and not row.now["active"]:
                continue  # who had it is not kept with what is over
            if (stored or None) != (said or None):
                yield f"{row.id}: {name} is {stored!r}, and its audit entries say {said!r}"


_AUDITED: Final = {
    "status": "status",
    "start": "starts_at",
    "end": "ends_at",
    "hosts": "hosts",
    "seats": "seats",
    "location": "location",
    "expires_at": "expires_at",
    "sequence": "sequence",
    "assigned_because": "assigned_because",
}


def every_change_has_its_event(found: Evidence) -> Iterator[str]:
    """Versions run from 1 without a gap, and each event tells of the booking as its audit entries had it then."""
    for row in found.rows.values():
        if [version for version, _ in row.events] != list(range(1, row.version + 1)):
            yield f"{row.id}: events {[version for version, _ in row.events]} of {row.version}"
            continue
        states = row.states()
        for version, booking in row.events:
            for name in (*_AUDITED, "attendee", "answers", "metadata", "reference"):
                said = states.get(version, {}).get(name)
                if (booking[name] or None) != (said or None):
                    yield f"{row.id}: event {version} says {name} {booking[name]!r}, and its audit entries {said!r}"


def no_limit_is_exceeded(found: Evidence) -> Iterator[str]:
    """By what was booked without force: a day's bookings and minutes of event types and of hosts."""
    taken: dict[tuple[str, str], list[float]] = defaultdict(list)
    for one in found.occurrences:
        if one["active"] and one["slug"] != FORCED:
            minutes = (one["ends_at"] - one["starts_at"]).total_seconds() / 60
            for slug in {one["slug"], *one["hosts"]}:
                taken[slug, f"{one['starts_at']:%Y-%m-%d}"].append(minutes)
    limits = {
        **{slug: [limit] for slug, limit in EVENT_LIMITS.items()},
        **{slug: [limit] for slug, limit in HOST_LIMITS.items()},
    }
    for (slug, day), minutes_of in taken.items():
        for limit in limits.get(slug, []):
            if (limit.count and len(minutes_of) > limit.count) or (limit.minutes and sum(minutes_of) > limit.minutes):
                yield f"{slug} on {day}: {len(minutes_of)} bookings, {sum(minutes_of):.0f} minutes"


def no_seat_is_sold_twice(found: Evidence) -> Iterator[str]:
    """No occurrence exceeds its capacity."""
    seats: dict[tuple[str, str], int] = defaultdict(int)
    for row in found.rows.values():
        if row.now["status"] in _STANDS:
            seats[row.now["occurrence"], row.now["event_type"]] += row.now["seats"]
    for (occurrence, slug), sold in seats.items():
        if sold > (SEATS if slug in {"class", "course"} else 1):
            yield f"{slug}, {occurrence}: {sold} seats"


def nothing_is_seen_by_another_tenant(found: Evidence) -> Iterator[str]:
    """Whatever table the application's login reads under this tenant's setting, it sees no rows of others."""
    for table, count in found.seen_by_the_other.items():
        if count:
            yield f"{count} rows of {table}"


def callers_see_no_errors_but_ours(found: Evidence) -> Iterator[str]:
    """And of ours only those that they have to reckon with."""
    for one in found.asked.values():
        for tried in one.tries:
            if tried.end == "wrong":
                yield f"{one.key}: {one.method} ({tried.how}): {tried.said}"


def nothing_outlives_its_time(found: Evidence) -> Iterator[str]:
    """After a sweep: no connection, no lock, no hold."""
    yield from found.left
    for row in found.rows.values():
        if row.now["status"] in {"held", "pending"} and row.now["expires_at"] < found.swept_at:
            yield f"{row.id} is {row.now['status']}, and was to end at {row.now['expires_at']}"


PROMISES: Final[Sequence[Callable[[Evidence], Iterator[str]]]] = (
    no_two_active_claims_of_a_host_overlap,
    time_is_taken_while_a_booking_stands_and_no_longer,
    what_was_acknowledged_is_there,
    what_was_refused_left_nothing,
    a_call_happens_whole_or_not_at_all,
    a_call_happens_once,
    every_change_names_a_call_that_was_made,
    audit_entries_add_up_to_what_is_stored,
    every_change_has_its_event,
    no_limit_is_exceeded,
    no_seat_is_sold_twice,
    nothing_is_seen_by_another_tenant,
    callers_see_no_errors_but_ours,
    nothing_outlives_its_time,
)


def check(found: Evidence) -> list[Violation]:
    """All that did not hold."""
    return [Violation(promise.__name__.replace("_", " "), one) for promise in PROMISES for one in promise(found)]


def _left(found: Evidence, one: Asked) -> str:
    """What a call has left, in words; nothing where it left nothing."""
    if one.key in found.keys:
        return f"its key, of {found.keys[one.key]}"
    return ", ".join(f"{entry.action} of {row.id}" for row, entry in found.entries_of(one.key))


def _plain(value: object) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return json.loads(json.dumps(value))
