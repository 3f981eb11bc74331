"""Give an occurrence to another host: all who have seats in it go along, and nobody's start changes (rule 28)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection

from nxsched.domain.bookings import MOVABLE, Booking
from nxsched.domain.commands import Reassign
from nxsched.domain.event_types import EventType
from nxsched.domain.events import party
from nxsched.domain.instants import epoch_exact
from nxsched.errors import InvalidInput, InvalidTransition
from nxsched.service.changing import Done, change, has_expired, locked_with_counts, record, status_now
from nxsched.service.choosing import Choice
from nxsched.service.ending import expire
from nxsched.service.ids import new_id
from nxsched.service.slots import question
from nxsched.service.taking import Spot, Taken, take
from nxsched.service.tools import Tools
from nxsched.service.wanted import refusal
from nxsched.slots.explain import refusals
from nxsched.store.changes import Place, Won, move_bookings
from nxsched.store.facts import Counts, counts_of
from nxsched.store.ground import Ground, fetch_instead
from nxsched.store.locks import NOTHING, Locks
from nxsched.store.settings import Settings
from nxsched.store.standing import Claims, Standing, fetch_claims, lock_occurrence

_JUDGED = frozenset({"outside_hours", "blocked", "busy", "host_limit"})
"""What is asked of the new host: rules 10 to 12."""

_DONE = Done("reassign", "booking.reassigned")

_MICROSECOND = timedelta(microseconds=1)


def reassign(connection: Connection, command: Reassign, tools: Tools) -> Booking:
    """Put another host in the place of one; once more with the same result."""
    standing, tools = locked_with_counts(connection, command.id, tools, anew=True)
    before = standing.booking
    status = status_now(before, tools.now)
    if status not in MOVABLE:
        raise InvalidTransition(id=before.id, from_status=status, to_status="reassigned")
    leaving = _leaving(before, command)
    if leaving is None:
        return before
    _check_group(standing.event_type, before.hosts, leaving, command.host)
    every = lock_occurrence(connection, tools.tenant, standing.occurrence)
    expire(connection, tools, [one for one in every if has_expired(one.booking, tools.now)])
    going = [one for one in every if not has_expired(one.booking, tools.now)]
    claims = fetch_claims(connection, tools.tenant, standing.occurrence)
    hosts = _in_order(standing.event_type, [command.host if slug == leaving else slug for slug in before.hosts])
    because = f"in the place of {leaving}"
    done: list[Booking] = []

    def write(taken: Taken) -> Won:
        done[:] = [
            replace(
                one.booking,
                hosts=hosts,
                sequence=one.booking.sequence + 1,
                version=one.booking.version + 1,
                assigned_because=because,
            )
            for one in going
        ]
        comes = party(taken.settings.hosts[command.host])
        known = {one["slug"]: one for one in [*standing.parties, comes]}
        parties = [known[slug] for slug in hosts]
        changes = [change(one, after, _DONE, parties) for one, after in zip(going, done, strict=True)]
        told = record(taken.tools, command.reason)
        return move_bookings(connection, told, changes, taken.spots[0].place, moved=0)

    bid = _Instead(command.host, standing, claims, hosts)
    take(connection, bid, tools, write, standing.locked)
    return next(one for one in done if one.id == before.id)


def _leaving(before: Booking, command: Reassign) -> str | None:
    """The host who is to be replaced, or `None` where that was done before."""
    if command.instead_of is None:
        if before.hosts == (command.host,):
            return None
        if len(before.hosts) > 1:
            reason = f"must say which of {', '.join(before.hosts)} is replaced"
            raise InvalidInput(field="instead_of", reason=reason)
        return before.hosts[0]
    if command.instead_of not in before.hosts:
        if command.host in before.hosts:
            return None
        raise InvalidInput(field="instead_of", reason=f"{command.instead_of} has no part in the booking")
    if command.host in before.hosts:
        raise InvalidInput(field="host", reason=f"{command.host} has a part in the booking already")
    return command.instead_of


def _check_group(event_type: EventType, hosts: Sequence[str], leaving: str, host: str) -> None:
    """Who comes is of the group of who goes; where that one is in no group any more, of one that has too few."""
    staying = {*hosts} - {leaving}
    groups = (
        [group for group in event_type.groups if leaving in group.members]
        or [group for group in event_type.groups if len(staying.intersection(group.members)) < group.needed]
        or event_type.groups
    )
    if not any(host in group.members for group in groups):
        reason = f"{host} is not in the host group of {leaving}: {', '.join(groups[0].members[:10])}"
        raise InvalidInput(field="host", reason=reason)


def _in_order(event_type: EventType, hosts: Sequence[str]) -> tuple[str, ...]:
    """Hosts in the order of the groups; who is in none any more comes last."""
    places = {slug: i for i, slug in enumerate(slug for group in event_type.groups for slug in group.members)}
    return tuple(sorted(hosts, key=lambda slug: places.get(slug, len(places))))


@dataclass(frozen=True, slots=True)
class _Instead:
    """An occurrence for another host, at its own time: the claims it has, with the buffers they were made with."""

    host: str
    standing: Standing
    claims: Claims
    hosts: Sequence[str]

    moves = True
    known = Counts()
    beside = None

    def ground(self, connection: Connection, tools: Tools, counts: Counts) -> Ground:
        """What is set and taken for the new host."""
        booking = self.standing.booking
        alone = EventType(
            slug=booking.event_type,
            duration=booking.end - booking.start,
            buffer_before=booking.start - self.claims.busy_from,
            buffer_after=self.claims.busy_until - booking.end,
            hosts=[self.host],
        )
        occurrence = self.standing.occurrence
        return fetch_instead(connection, tools.tenant, alone, occurrence, self.host, self._span, tools.now, counts)

    def counts(self, settings: Settings, tools: Tools) -> Counts:  # noqa: ARG002 - as every bid
        """The new host's own limits."""
        start = epoch_exact("start", self.standing.booking.start)
        return counts_of(settings, (start, start + 1))

    def locks(self, ground: Ground) -> Locks:
        """The new host, where they have limits or something in their time has expired; they are locked already."""
        settings, found = ground.settings, ground.found
        if settings.limited or any(found.expired.values()):
            return Locks(None, frozenset(settings.numbers.values()))
        return NOTHING

    def judged(self, connection: Connection, ground: Ground, tools: Tools, locked: Locks) -> Sequence[Spot]:  # noqa: ARG002
        """The occurrence with the new host, if rules 10 to 12 allow it."""
        booking, settings = self.standing.booking, ground.settings
        start = epoch_exact("start", booking.start)
        asked = question(settings, ground.found, (start, start + 1), tools.now, None)
        reasons = [one for one in refusals(asked, start) if one.code in _JUDGED]
        if reasons:
            raise refusal(booking.start, reasons)
        made = {**self.claims.hosts, self.host: (settings.numbers[self.host], tools.now)}
        place = Place(
            occurrence=new_id(),
            event_type=settings.number,
            hosts=[made[slug][0] for slug in self.hosts],
            since=[(made[slug][1] - tools.now) // _MICROSECOND for slug in self.hosts],
            counted=self.standing.counted | (locked & (no for no, _ in made.values())),
            busy_from=self.claims.busy_from,
            busy_until=self.claims.busy_until,
        )
        return [Spot(Choice(tuple(self.hosts), None), place, booking.start, booking.end)]

    @property
    def _span(self) -> tuple[datetime, datetime]:
        return self.claims.busy_from, self.claims.busy_until
