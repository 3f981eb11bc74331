"""Take a slot, for a hold or a booking: judge, choose the hosts, claim their time. The heart of it all.

The order matters. Counts (limits, least recently booked) are read after the locks that guard them, in a statement of
their own, where READ COMMITTED shows what others have committed meanwhile. Overlaps need no lock: the database's
constraint decides, and a claim that comes too late is no error but a row that is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection

from nxsched.domain.instants import epoch_exact, instant
from nxsched.domain.refusals import Refusal
from nxsched.errors import InvalidInput, SlotTaken, SlotUnavailable
from nxsched.service.choosing import Choice, choose, is_pool
from nxsched.service.ending import expire_in_the_way
from nxsched.service.ids import new_id
from nxsched.service.slots import Asked, able_at, explained, question, settings_of
from nxsched.service.tools import Tools
from nxsched.slots.explain import refusals
from nxsched.store.changes import Place
from nxsched.store.facts import Found, fetch_facts
from nxsched.store.settings import Settings

_CLASH = frozenset({"busy", "not_enough_hosts", "full"})
"""What is said of a slot that is only refused because somebody has it."""

_SAID = 3
"""Reasons that the words of an error repeat; all of them are among its facts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The slot that is wanted; `force` skips the rules."""

    event_type: str
    start: datetime
    duration: timedelta | None
    host: str | None
    seats: int
    force: bool = False

    @property
    def asked(self) -> Asked:
        """The slot as a question."""
        return Asked(
            event_type=self.event_type,
            start=self.start,
            end=self.start,
            duration=self.duration,
            host=self.host,
        )


@dataclass(frozen=True, slots=True)
class Taken:
    """What a claim needs to be written: the settings, the hosts, where it stands, and the time it was decided at."""

    settings: Settings
    choice: Choice
    place: Place
    start: datetime
    end: datetime
    now: datetime


Write = Callable[[Taken], set[int]]
"""Writes the booking with its claims; gives the numbers of the hosts whose time was free."""


def take(connection: Connection, wanted: Wanted, tools: Tools, write: Write) -> Taken:
    """Claim the slot and write what stands on it, or raise `SlotTaken` or `SlotUnavailable`."""
    start = epoch_exact("start", wanted.start)
    settings = settings_of(connection, wanted.asked, tools)
    _check(settings, wanted)
    locked_at = _lock(connection, settings, tools, wanted)
    now = locked_at or tools.now
    pool = is_pool(settings.event_type)
    found = fetch_facts(connection, tools.tenant, settings, (start, start + 1), now, "take", latest=pool)
    asked = question(settings, found, (start, start + 1), now, wanted.host)
    able = able_at(asked, start)
    reasons: list[Refusal] = [] if able else refusals(asked, start)
    if reasons and not wanted.force:  # asked again for the names of what is in the way, which may be gone by now
        tools = replace(tools, now=now)
        raise _refusal(wanted, explained(connection, settings, wanted.asked, start, tools) or reasons)
    preferred = set(able)
    free = {slug for slug, host in settings.hosts.items() if not host.archived} if wanted.force else preferred
    end = start + asked.duration
    latest = {slug: found.latest[no] for slug, no in settings.numbers.items() if no in found.latest}
    before, after = start - asked.before, end + asked.after
    if wanted.force:
        free = {slug for slug in free if not _claimed(found, slug, before, after)}
    while True:
        choice = choose(settings.event_type, free, latest, wanted.host, preferred=preferred)
        if choice is None:
            raise _refusal(wanted, reasons)
        numbers = [settings.numbers[slug] for slug in choice.hosts]
        place = Place(
            occurrence=new_id(),
            event_type=settings.number,
            hosts=numbers,
            busy_from=instant(before),
            busy_until=instant(after),
        )
        taken = Taken(settings, choice, place, instant(start), instant(end), now)
        _make_way(connection, tools, taken, found, locked=locked_at is not None)
        won = _written(connection, taken, write)
        if len(won) == len(numbers):
            return taken
        lost = {slug for slug in choice.hosts if settings.numbers[slug] not in won}
        free -= lost
        reasons = [Refusal(code="busy", host=slug, start=instant(before), end=instant(after)) for slug in sorted(lost)]


def _check(settings: Settings, wanted: Wanted) -> None:
    """What this version cannot do, and what cannot be."""
    event_type = settings.event_type
    if event_type.capacity > 1:
        reason = f"{event_type.slug} has {event_type.capacity} seats; event types with seats cannot be booked yet"
        raise InvalidInput(field="event_type", reason=reason)
    if wanted.seats > event_type.capacity:
        raise InvalidInput(field="seats", reason=f"must be at most {event_type.capacity}, not {wanted.seats}")
    if wanted.host is not None and wanted.host not in settings.hosts:
        raise InvalidInput(field="host", reason=f"{wanted.host} is in no host group of the event type")


def _lock(connection: Connection, settings: Settings, tools: Tools, wanted: Wanted) -> datetime | None:
    """Lock what is counted, and give the time after that; `None` where nothing is counted.

    That is the event type, for its limits or its pool, and then every host that may be chosen. A plain booking needs no
    lock: the constraint sees overlaps, and there is nothing else to see.
    """
    event_type = settings.event_type
    first = settings.number if event_type.limits or is_pool(event_type) else None
    if first is None and not any(host.limits for host in settings.hosts.values()):
        return None
    hosts = set(settings.hosts)
    for group in event_type.groups:
        if group.needed == 1 and wanted.host in group.members:
            hosts -= {*group.members} - {wanted.host}
    return tools.lock(connection, first, sorted(settings.numbers[slug] for slug in hosts))


def _make_way(connection: Connection, tools: Tools, taken: Taken, found: Found, *, locked: bool) -> None:
    """Release the expired holds that still stand in the way of the chosen hosts: the constraint reads no clock."""
    first, last = (int(at.timestamp()) for at in (taken.place.busy_from, taken.place.busy_until))
    hosts = [no for no in taken.place.hosts if any(a < last and first < b for a, b in found.expired.get(no, ()))]
    if hosts:
        if not locked:
            tools.lock(connection, None, sorted(hosts))
        expire_in_the_way(connection, tools, hosts, taken.place, taken.now)


def _written(connection: Connection, taken: Taken, write: Write) -> set[int]:
    """Write; with a savepoint where some claims may be had and others not."""
    if len(taken.place.hosts) == 1:
        return write(taken)
    with connection.begin_nested() as savepoint:
        won = write(taken)
        if len(won) < len(taken.place.hosts):
            savepoint.rollback()
    return won


def _claimed(found: Found, slug: str, start: int, end: int) -> bool:
    """Whether a booking or hold has the host's time; busy time from outside is none."""
    return any(a < end and start < b for a, b, origin in found.facts.taken.get(slug, ()) if origin is not None)


def _refusal(wanted: Wanted, reasons: Sequence[Refusal]) -> SlotUnavailable:
    if wanted.force:  # no rule refuses it
        reasons = [reason for reason in reasons if reason.code == "busy"]
    if wanted.force or {reason.code for reason in reasons} <= _CLASH:
        host = next((reason.host for reason in reasons if reason.code == "busy"), None)
        return SlotTaken(start=wanted.start, host=host, reasons=reasons)
    telling = [reason for reason in reasons if reason.code != "not_enough_hosts"] or reasons
    why = " ".join(reason.sentence() for reason in telling[:_SAID])
    return SlotUnavailable(f"{wanted.start.isoformat()} cannot be booked. {why}", reasons=reasons)
