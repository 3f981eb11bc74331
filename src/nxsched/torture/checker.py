"""Proves by raw SQL and by the journals that what nxsched promises has held, or says what has not.

It shares nothing with what it judges: no statement, no model, no helper of the rest of the package.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any, Final, NamedTuple

from nxsched.torture.evidence import Entry, Evidence, Row, is_poison
from nxsched.torture.journal import AFTERWARDS, Asked, written
from nxsched.torture.world import EVENT_LIMITS, EVENT_TYPES_SAVED, FORCED, HALF, HOST_LIMITS, HOSTS, HOSTS_SAVED, SEATS

_STANDS: Final = frozenset({"held", "pending", "confirmed", "completed", "no_show"})


class Violation(NamedTuple):
    """Something that was promised and did not hold."""

    promise: str
    found: str


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
                else:
                    then = row.states()[told.version]
                    if told.start != then["start"] or (told.status in _STANDS and [*told.hosts] != then["hosts"]):
                        yield f"{one.key}: {told.id} was at {told.start} with {told.hosts}, and its entries say {then}"


def what_was_done_is_what_was_asked(found: Evidence) -> Iterator[str]:
    """Each change is of the kind that its call is, and comes to what was asked for; so does what needed no change."""
    for one in found.asked.values():
        if one.method not in _ASKED:
            continue
        actions, comes_to = _ASKED[one.method]
        done = found.entries_of(one.key)
        for row, entry in done:
            state = row.states()[entry.version]
            if entry.action not in actions or not comes_to(state, one.arguments):
                yield f"{one.key}: {one.method} of {row.id} is called {entry.action}, and came to {state}"
        yield from _other_series(one, done)
        if not done and one.key in found.keys:
            for row in _about(found, one):
                told = [each._asdict() for tried in one.tries for each in tried.told]
                if not any(comes_to(state, one.arguments) for state in (*row.states().values(), *told)):
                    yield f"{one.key}: {one.method} of {row.id} has its key, and it was never so"


def _other_series(one: Asked, done: Sequence[tuple[Row, Entry]]) -> Iterator[str]:
    """Series of other starts. There may be more than one of a call whose key was forgotten with a person."""
    if one.method == "book_series":
        made = sorted((row.now["series_id"], row.states()[1]["start"]) for row, _ in done)
        for _, series in groupby(made, key=itemgetter(0)):
            if (starts := [start for _, start in series]) != one.arguments["starts"]:
                yield f"{one.key}: a series at {starts}"


def _about(found: Evidence, one: Asked) -> list[Row]:
    id_ = one.arguments.get("booking_id", one.arguments.get("hold_id"))
    row = found.rows.get(id_ or "")
    return [] if row is None else [row]


Came = Callable[[Mapping[str, Any], Mapping[str, Any]], bool]


def _is(*statuses: str) -> Came:
    return lambda state, _: state["status"] in statuses


def _starts(state: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    return bool(state["start"] in asked.get("starts", [asked.get("start")]))


def _given(state: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    return asked["host"] in state["hosts"] and asked["instead_of"] not in state["hosts"]


def _located(state: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    return state.get("location") in {asked["location"], None}  # None: it was somebody's who was erased


_ASKED: Final[Mapping[str, tuple[set[str], Came]]] = {
    "book": ({"book", "request"}, _starts),
    "book_series": ({"book", "request"}, _starts),
    "place_hold": ({"hold"}, _starts),
    "confirm_hold": ({"confirm", "request", "book"}, _is("confirmed", "pending")),  # over, and its time still free
    "release_hold": ({"release"}, _is("released", "expired")),
    "cancel": ({"cancel"}, _is("cancelled")),
    "cancel by link": ({"cancel"}, _is("cancelled")),
    "cancel_series": ({"cancel"}, _is("cancelled")),
    "reschedule": ({"reschedule"}, _starts),
    "reschedule by link": ({"reschedule"}, _starts),
    "reassign": ({"reassign"}, _given),
    "approve": ({"approve"}, _is("confirmed")),
    "decline": ({"decline"}, _is("declined")),
    "complete": ({"complete"}, _is("completed")),
    "mark_no_show": ({"mark_no_show"}, _is("no_show")),
    "update": ({"update"}, _located),
    "erase_attendee": ({"erase"}, lambda *_: True),
}
"""What changes of a method are called, and what they come to."""


def what_nobody_was_told_is_told_who_asks_again(found: Evidence) -> Iterator[str]:
    """When all was over, each call without an answer was made once more: one whose key was there, had happened."""
    for one in found.asked.values():
        last = one.tries[-1]
        knew = one.key in found.keys_before and not found.forgotten(one)
        if last.how == AFTERWARDS and knew and last.end != "told":
            yield f"{one.key}: {one.method} has its key, and who asks again is told {last.said}"
        if last.end in {"unknown", None} and found.keys_before:
            yield f"{one.key}: {one.method} has no answer, when all is over: {last.said}"


def settings_are_as_somebody_saved_them(found: Evidence) -> Iterator[str]:
    """The name of each host, event type and tenant; blocked periods once each; busy time as one call reported it."""
    for method, slug, name in found.names:
        calls = [one for one in found.asked.values() if one.method == method and one.arguments.get("of") == slug]
        if name not in {one.key for one in calls if _may_have_happened(one)} and not (
            name == _NAMES.get((method, slug), name) and not any(_was_told(one) for one in calls)
        ):
            yield f"{method}: {slug or 'the tenant'} is called {name}"
    unblocked = [one for one in found.asked.values() if one.method == "unblock"]
    for one in found.asked.values():
        if one.method == "block":
            times = found.blocked.get(one.key, 0)
            gone = [other for other in unblocked if other.arguments["of"] == one.key]
            taken_away = any(_was_told(other) for other in gone)
            missing = not times and _was_told(one) and not any(_may_have_happened(other) for other in gone)
            if times > 1 or (times and (taken_away or not _may_have_happened(one))) or missing:
                yield f"{one.key}: {times} blocked periods"
    for host in HOSTS:
        calls = [one for one in found.asked.values() if one.method == "replace_busy" and one.arguments["of"] == host]
        might = [one.arguments["periods"] for one in calls if _may_have_happened(one)]
        starts = found.busy.get(host, [])
        if starts not in might and (starts or any(_was_told(one) for one in calls)):
            yield f"{host} is busy at {starts}, as nobody has said"


_NAMES: Final = {
    **{("save_host", one.slug): one.name for one in HOSTS_SAVED},
    **{("save_event_type", one.slug): one.name for one in EVENT_TYPES_SAVED},
}
"""As they were in the beginning; the tenant's is any."""


def _may_have_happened(one: Asked) -> bool:
    return any(tried.end in {"told", "unknown", None} for tried in one.tries)


def _was_told(one: Asked) -> bool:
    return any(tried.end == "told" for tried in one.tries)


def who_was_erased_is_nowhere(found: Evidence) -> Iterator[str]:
    """In no booking, audit entry or event, if the person's own calls had ended before."""
    brought = {one.arguments["attendee"]: one for one in found.asked.values() if "attendee" in one.arguments}
    for one in found.asked.values():
        if one.method == "erase_attendee" and (who := one.arguments["reference"]) in found.people:
            began = one.tries[0].began if _was_told(one) else 0.0
            if all(tried.ended is not None and tried.ended < began for tried in brought[who].tries):
                yield f"{one.key}: {who} was erased, and is still there"


def what_was_refused_left_nothing(found: Evidence) -> Iterator[str]:
    """No booking, no change, no key: nor did what the application took back.

    Where an earlier try has no end that is known, a refusal by a rule says all the same that it came to nothing.
    """
    for one in found.asked.values():
        last = one.tries[-1]
        ends = {tried.end for tried in one.tries}
        decided = last.end == "refused" and last.said in _BY_A_RULE and "told" not in ends
        if decided and found.forgotten(one):
            continue  # an earlier try had happened, and its key has gone with the person
        if (ends <= {"refused", "undone"} or decided) and (left := _left(found, one)):
            yield f"{one.key}: {one.method} was refused ({last.said}), and left {left}"


_BY_A_RULE: Final = {"slot_taken", "slot_unavailable", "invalid_transition", "hold_expired", "policy_violation"}


def a_call_happens_whole_or_not_at_all(found: Evidence) -> Iterator[str]:
    """Its key says which, also where nobody was told: the key and what was done stand together."""
    for one in found.asked.values():
        done = found.entries_of(one.key)
        if found.forgotten(one):
            continue
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
        if found.forgotten(one):
            continue
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
            if entry.actor is None and entry.action != "expire" and not row.is_erased:
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
    "attendee": "attendee",
    "answers": "answers",
    "metadata": "metadata",
    "reference": "reference",
}


def every_change_has_its_event(found: Evidence) -> Iterator[str]:
    """Versions run from 1 without a gap; each event tells of the booking as its audit entries had it then, and why."""
    for row in found.rows.values():
        if [event.version for event in row.events] != list(range(1, row.version + 1)):
            yield f"{row.id}: events {[event.version for event in row.events]} of {row.version}"
            continue
        states = row.states()
        for event, entry in zip(row.events, row.entries, strict=False):
            if event.kind not in _KINDS.get(entry.action, ()):
                yield f"{row.id}: event {event.version} is a {event.kind}, and was {entry.action}"
            for name in _AUDITED:
                said = states.get(event.version, {}).get(name)
                if (event.booking[name] or None) != (said or None):
                    told = f"event {event.version} says {name} {event.booking[name]!r}"
                    yield f"{row.id}: {told}, and its audit entries {said!r}"


_KINDS: Final[Mapping[str, set[str]]] = {
    "hold": {"booking.held"},
    "request": {"booking.created"},
    "book": {"booking.confirmed"},
    "confirm": {"booking.confirmed"},
    "approve": {"booking.confirmed"},
    "decline": {"booking.declined"},
    "release": {"booking.hold_released"},
    "expire": {"booking.hold_expired", "booking.expired"},
    "cancel": {"booking.cancelled"},
    "reschedule": {"booking.rescheduled"},
    "reassign": {"booking.reassigned"},
    "update": {"booking.updated"},
    "erase": {"booking.updated"},
    "complete": {"booking.completed"},
    "mark_no_show": {"booking.no_show"},
}
"""What events of an act are called."""


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


def everything_is_delivered_at_least_once(found: Evidence) -> Iterator[str]:
    """What is written down as delivered was received, and in the end all is, but what the receiver will never take."""
    received = {one.id for one in found.received}
    for one in found.queued.values():
        what = f"{one.kind} {one.version} of {one.booking}{f' to {one.of}' if one.of else ''}"
        if one.done and one.ended in {None, "sent"} and one.id not in received:
            yield f"{what} counts as delivered, and was not received"
        if one.dead and not is_poison(one.id):
            yield f"{what} was given up"
        if found.drained_at and not (one.done or one.dead) and one.at < found.drained_at:
            yield f"{what} is left"


def nothing_is_delivered_that_is_not_there(found: Evidence) -> Iterator[str]:
    """Each that was received is a row, of that booking and version."""
    for one in found.received:
        row = found.queued.get(one.id)
        if row is None or (row.of, row.booking, row.version, row.kind) != (one.of, one.booking, one.version, one.kind):
            yield f"{one.kind} {one.version} of {one.booking} was received, and there is {row}"


def events_of_a_booking_come_in_order(found: Evidence) -> Iterator[str]:
    """To a function, and to each endpoint: none comes before the one before it has come, or is given up."""
    first: dict[tuple[str | None, str, int], float] = {}
    for one in found.received:
        if one.kind != REMINDER:
            key = one.of, one.booking, one.version
            first[key] = min(one.received_at, first.get(key, one.received_at))
    dead = {(one.of, one.booking, one.version) for one in found.queued.values() if one.dead}
    for (of, booking, version), at in first.items():
        before = of, booking, version - 1
        if version > 1 and before not in dead and first.get(before, at + 1) > at:
            yield f"{version} of {booking} came before {version - 1}, to {of or 'the function'}"


def no_reminder_goes_out_for_what_is_no_more(found: Evidence) -> Iterator[str]:
    """For nothing that had changed before the sender looked; each ends, and says how."""
    for one in found.received:
        if one.kind != REMINDER:
            continue
        if not one.told:
            yield f"a reminder of {one.booking} says nothing of it"
        row = found.rows.get(one.booking)
        for entry in row.entries if row else ():
            if entry.version > one.version and entry.at < datetime.fromisoformat(one.read_at):
                yield f"{one.booking} was reminded of at {one.read_at}, and changed at {entry.at} ({entry.action})"
                break
    for queued in found.queued.values():
        if queued.kind == REMINDER and (queued.done or queued.dead) != (queued.ended is not None):
            yield f"a reminder of {queued.booking} has ended, and is {queued.ended}"


REMINDER: Final = "booking.reminder"

PROMISES: Final[Sequence[Callable[[Evidence], Iterator[str]]]] = (
    no_two_active_claims_of_a_host_overlap,
    time_is_taken_while_a_booking_stands_and_no_longer,
    what_was_acknowledged_is_there,
    what_was_done_is_what_was_asked,
    what_nobody_was_told_is_told_who_asks_again,
    settings_are_as_somebody_saved_them,
    who_was_erased_is_nowhere,
    what_was_refused_left_nothing,
    a_call_happens_whole_or_not_at_all,
    a_call_happens_once,
    every_change_names_a_call_that_was_made,
    audit_entries_add_up_to_what_is_stored,
    every_change_has_its_event,
    everything_is_delivered_at_least_once,
    nothing_is_delivered_that_is_not_there,
    events_of_a_booking_come_in_order,
    no_reminder_goes_out_for_what_is_no_more,
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
    return written(value) if isinstance(value, datetime) else json.loads(json.dumps(value))
