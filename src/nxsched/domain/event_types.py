"""Event types: what can be booked, with which hosts, and under which limits (rules 13 to 23)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Literal, cast

from nxsched.domain import checks
from nxsched.domain.bounds import (
    MAX_CAPACITY,
    MAX_DURATIONS,
    MAX_GROUPS,
    MAX_LIMITS,
    MAX_MEMBERS,
    MAX_PROSE,
    MAX_QUESTIONS,
    MAX_RANGE_DAYS,
)
from nxsched.domain.periods import PERIODS, Period
from nxsched.domain.policies import Policies
from nxsched.domain.questions import Question
from nxsched.domain.reminders import DEFAULT, Reminder, reminders_of
from nxsched.domain.strategies import STRATEGIES, By, Strategy
from nxsched.domain.timezones import timezone_name
from nxsched.errors import InvalidInput

Align = Literal["window", "clock", "free"]

ALIGNMENTS = ("window", "clock", "free")

_NONE = timedelta()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The most there may be in a `day`, `week` (from Monday), `month` or `year` of local dates (rule 21).

    `count` is a number of bookings, `minutes` the sum of their durations; what is given must all hold.
    Raises `InvalidInput`.
    """

    per: Period
    count: int | None = None
    minutes: int | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        checks.one_of("per", self.per, PERIODS)
        if self.count is None and self.minutes is None:
            raise InvalidInput(field="count", reason="a limit needs count, minutes or both")
        if self.count is not None:
            checks.whole("count", self.count, least=1, most=MAX_CAPACITY)
        if self.minutes is not None:
            checks.whole("minutes", self.minutes, least=1, most=MAX_CAPACITY)

    def __str__(self) -> str:
        """Return the limit in words: `4 bookings a day`."""
        parts = []
        if self.count is not None:
            parts.append(f"{self.count} booking{'s' if self.count > 1 else ''}")
        if self.minutes is not None:
            parts.append(f"{self.minutes} minute{'s' if self.minutes > 1 else ''}")
        return f"{' and '.join(parts)} a {self.per}"


def limits_of(field: str, value: object) -> tuple[Limit, ...]:
    """Limits as a tuple, at most 20 of them."""
    limits = checks.items(field, value, Limit)
    if len(limits) > MAX_LIMITS:
        raise InvalidInput(field=field, reason=f"must have at most {MAX_LIMITS} limits, not {len(limits)}")
    return limits


@dataclass(frozen=True, slots=True, kw_only=True)
class BookingWindow:
    """The local dates on which a slot may start (rule 14): all that is given must hold; nothing given allows all.

    `days` counts from today: 0 is today alone. `from_date` and `until_date` are both included.
    Raises `InvalidInput`.
    """

    days: int | None = None
    from_date: date | None = None
    until_date: date | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        if self.days is not None:
            checks.whole("days", self.days, least=0, most=MAX_RANGE_DAYS)
        for name in ("from_date", "until_date"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, checks.calendar_date(name, value))
        if self.from_date and self.until_date and self.until_date < self.from_date:
            reason = f"must not lie before the first date: {self.until_date} is before {self.from_date}"
            raise InvalidInput(field="until_date", reason=reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostGroup:
    """Hosts, by slug, of which a booking needs `need`: a number, or `"all"` (rule 16). Raises `InvalidInput`."""

    members: Sequence[str]
    need: int | Literal["all"] = 1

    def __post_init__(self) -> None:
        """Check the values, and keep the members as a tuple."""
        members = checks.items("members", self.members, str)
        if not members:
            raise InvalidInput(field="members", reason="must name at least one host")
        for i, slug in enumerate(members):
            checks.text(f"members[{i}]", slug)
        object.__setattr__(self, "members", members)
        whole = isinstance(self.need, int) and not isinstance(self.need, bool)
        if self.need != "all" and not (whole and 1 <= int(self.need) <= len(members)):
            reason = f'must be "all" or a number from 1 to {len(members)}, not {checks.shown(self.need)}'
            raise InvalidInput(field="need", reason=reason)

    @property
    def needed(self) -> int:
        """`need` as a number."""
        return len(self.members) if isinstance(self.need, str) else self.need


@dataclass(frozen=True, slots=True, kw_only=True)
class EventType:
    """What can be booked: how long it takes, where its starts lie, who takes part.

    `hosts` are host groups, or slugs: `["ada", "bob"]` is short for one group that needs one of them. `step` is the
    duration if None. `timezone` is that of the first member of the first group if None (rule 14). `slug` may be empty
    for an event type that stands in a question alone: no booking belongs to it. All durations are whole minutes.

    `durations` are others that an attendee may choose instead of `duration`. `name`, `description` and `location` are
    for people; `questions` are asked of the attendee. With `requires_approval` a booking is pending and takes its time
    until it is approved or declined, or its start has come. With a `capacity` bookings share an occurrence, and its
    hosts (rule 23). `policies` say who may still cancel or move a booking. `strategy` says who of those that are free
    gets a booking (rule 29): `"priority"` is short for `Strategy(by="priority")`. The attendee of a
    confirmed booking is reminded a day and an hour before it, unless other `reminders` are given. An `archived` event
    type takes no new bookings. Raises `InvalidInput`.
    """

    duration: timedelta
    hosts: Sequence[HostGroup] | Sequence[str]
    slug: str = ""
    step: timedelta | None = None
    buffer_before: timedelta = _NONE
    buffer_after: timedelta = _NONE
    minimum_notice: timedelta = _NONE
    booking_window: BookingWindow = BookingWindow()
    limits: Sequence[Limit] = ()
    align: Align = "window"
    offset: timedelta = _NONE
    capacity: int = 1
    timezone: str | None = None
    name: str = ""
    description: str = ""
    location: str | None = None
    durations: Sequence[timedelta] = ()
    questions: Sequence[Question] = ()
    requires_approval: bool = False
    policies: Policies = field(default_factory=Policies)
    strategy: Strategy | By = field(default_factory=Strategy)
    reminders: Sequence[Reminder] = DEFAULT
    archived: bool = False

    def __post_init__(self) -> None:
        """Check the values, and keep the lists as tuples."""
        checks.text("slug", self.slug, empty=True)
        checks.duration("duration", self.duration, least=1)
        if self.step is not None:
            checks.duration("step", self.step, least=1)
        for name in ("buffer_before", "buffer_after", "minimum_notice", "offset"):
            checks.duration(name, getattr(self, name))
        checks.kind("booking_window", self.booking_window, BookingWindow)
        object.__setattr__(self, "limits", limits_of("limits", self.limits))
        checks.one_of("align", self.align, ALIGNMENTS)
        checks.whole("capacity", self.capacity, least=1, most=MAX_CAPACITY)
        if self.timezone is not None:
            timezone_name("timezone", self.timezone)
        object.__setattr__(self, "hosts", _groups(self.hosts))
        checks.text("name", self.name, empty=True)
        checks.prose("description", self.description, most=MAX_PROSE)
        if self.location is not None:
            checks.text("location", self.location)
        checks.flag("requires_approval", self.requires_approval)
        checks.flag("archived", self.archived)
        object.__setattr__(self, "reminders", reminders_of("reminders", self.reminders))
        checks.kind("policies", self.policies, Policies)
        self._keep_strategy()
        self._keep_durations()
        self._keep_questions()

    def _keep_durations(self) -> None:
        others = checks.items("durations", self.durations, timedelta)
        found = tuple(checks.duration(f"durations[{i}]", one, least=1) for i, one in enumerate(others))
        if len(found) >= MAX_DURATIONS or len({self.duration, *found}) <= len(found):
            reason = f"must be fewer than {MAX_DURATIONS}, all different, and without the event type's own duration"
            raise InvalidInput(field="durations", reason=reason)
        object.__setattr__(self, "durations", found)

    def _keep_strategy(self) -> None:
        if isinstance(self.strategy, str):
            checks.one_of("strategy", self.strategy, STRATEGIES)
            object.__setattr__(self, "strategy", Strategy(by=self.strategy))
        checks.kind("strategy", self.strategy, Strategy)
        members = {slug for group in self.groups for slug in group.members}
        for slug in self.chosen_by.weights:
            if slug not in members:
                raise InvalidInput(field=f"strategy.weights.{slug}", reason="is in no host group")

    def _keep_questions(self) -> None:
        found = checks.items("questions", self.questions, Question)
        if len(found) > MAX_QUESTIONS:
            raise InvalidInput(field="questions", reason=f"must be at most {MAX_QUESTIONS}, not {len(found)}")
        for i, question in enumerate(found):
            if question.key in {one.key for one in found[:i]}:
                reason = f"{checks.shown(question.key)} is the key of another question"
                raise InvalidInput(field=f"questions[{i}].key", reason=reason)
        object.__setattr__(self, "questions", found)

    def lasting(self, duration: timedelta | None) -> EventType:
        """The event type with the duration that was chosen; its own where that is `None`. Raises `InvalidInput`."""
        if duration is None or duration == self.duration:
            return self
        if duration not in self.durations:
            offered = [f"{one.total_seconds() / 60:.0f}" for one in (self.duration, *self.durations)]
            minutes = f"{'one of ' * (len(offered) > 1)}{', '.join(offered)} minutes"
            reason = f"must be {minutes}, not {duration.total_seconds() / 60:g}"
            raise InvalidInput(field="duration", reason=reason)
        found = next(one for one in self.durations if one == duration)  # ours: equal ones may be of a class of theirs
        return replace(self, duration=found, durations=())

    @staticmethod
    def no_longer(error: InvalidInput) -> InvalidInput:
        """The error for who gave no duration, where the one that a booking has is not offered any more."""
        reason = f"has to be given, for the one that the booking has is not offered any more: {error.reason}"
        return InvalidInput(field=error.field, reason=reason)

    @property
    def chosen_by(self) -> Strategy:
        """`strategy` as a strategy."""
        return cast("Strategy", self.strategy)  # what it became when it was checked

    @property
    def groups(self) -> tuple[HostGroup, ...]:
        """`hosts` as groups."""
        return cast("tuple[HostGroup, ...]", self.hosts)  # what they became when they were checked


def _groups(value: object) -> tuple[HostGroup, ...]:
    """Host groups, whichever way they were written; no host stands in two places (rule 16)."""
    if isinstance(value, str):
        raise InvalidInput(field="hosts", reason=f"must be a list of slugs or of HostGroups, not {checks.shown(value)}")
    given = checks.items("hosts", value, object)
    if not given:
        raise InvalidInput(field="hosts", reason="must name at least one host")
    other = next((i for i, one in enumerate(given) if {type(one), type(given[0])} == {str, HostGroup}), None)
    if other is not None:
        reason = (
            "is of another kind than the first: give slugs, which are one group, or HostGroups, and not some of each"
        )
        raise InvalidInput(field=f"hosts[{other}]", reason=reason)
    if isinstance(given[0], str):
        groups: tuple[HostGroup, ...] = (HostGroup(members=checks.items("hosts", given, str)),)
    else:
        groups = checks.items("hosts", given, HostGroup)
    if len(groups) > MAX_GROUPS:
        raise InvalidInput(field="hosts", reason=f"must have at most {MAX_GROUPS} groups, not {len(groups)}")
    seen: dict[str, int] = {}
    for g, group in enumerate(groups):
        for m, slug in enumerate(group.members):
            place = f"hosts[{g}].members[{m}]"
            if slug in seen:
                raise InvalidInput(
                    field=place,
                    reason=f"{checks.shown(slug)} is in group {seen[slug] + 1} already",
                )
            seen[slug] = g
    if len(seen) > MAX_MEMBERS:
        raise InvalidInput(field="hosts", reason=f"must have at most {MAX_MEMBERS} members in all, not {len(seen)}")
    return groups
