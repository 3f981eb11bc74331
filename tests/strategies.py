"""Hypothesis strategies that make scenarios (rules, section 10): wide and nasty, yet valid.

Everything is built from small integers around one anchor date, near a clock change more often than not, and bookings,
busy time and blocked periods lie near the hours, so that rules get in each other's way. What is drawn first in a list
is the simplest, for the shrinker.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Sequence

Json = dict[str, Any]

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
SLUGS = ("ada", "bob", "cyd", "dee")
PERIODS = ("day", "week", "month", "year")

ZONES = (
    "UTC",
    "Europe/London",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Asia/Beirut",
    "America/Havana",
    "Africa/Cairo",
    "Pacific/Kiritimati",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Africa/Casablanca",
    "America/St_Johns",
    "America/Santiago",
    "Antarctica/Troll",
    "Atlantic/Azores",
    "America/Nuuk",
    "Asia/Tokyo",
    "Etc/GMT+12",
)
# No clock has changed there since 2024, and none is announced.
STEADY_ZONES = (
    "UTC",
    "Asia/Tokyo",
    "Africa/Lagos",
    "Asia/Kathmandu",
    "Pacific/Kiritimati",
    "America/Phoenix",
    "Pacific/Marquesas",
    "Etc/GMT+12",
)

ONE_DAY = timedelta(days=1)
FIRST_SECOND = int(datetime(2023, 12, 1, tzinfo=UTC).timestamp())
LAST_SECOND = int(datetime(2031, 2, 1, tzinfo=UTC).timestamp())


@dataclass(frozen=True, order=True)
class ClockChange:
    """The first second of a new offset; offsets in seconds."""

    second: int
    before: int
    after: int


def offset(second: int, zone: ZoneInfo) -> int:
    found = datetime.fromtimestamp(second, zone).utcoffset()
    assert found is not None
    return int(found.total_seconds())


@cache
def clock_changes(name: str) -> tuple[ClockChange, ...]:
    """Every clock change of a zone from December 2023 to January 2031, found by looking every second day."""
    zone = ZoneInfo(name)
    changes = []
    left = FIRST_SECOND
    while left < LAST_SECOND:
        right = left + 2 * 86_400
        before, after = offset(left, zone), offset(right, zone)
        if before != after:
            low, high = left, right
            while high - low > 1:
                middle = (low + high) // 2
                if offset(middle, zone) == before:
                    low = middle
                else:
                    high = middle
            changes.append(ClockChange(high, before, after))
        left = right
    return tuple(changes)


def text(moment: datetime) -> str:
    """An instant as in the scenarios, with a fraction where it has one."""
    naive = moment.astimezone(UTC).replace(tzinfo=None)
    return naive.isoformat(timespec="microseconds" if naive.microsecond else "seconds") + "Z"


def moment(value: str) -> datetime:
    return datetime.fromisoformat(value)


def _midnight(value: datetime) -> datetime:
    return value.replace(hour=0, minute=0)


def _wall(value: datetime) -> str:
    return value.isoformat(timespec="seconds" if value.second else "minutes")


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _rarely(draw: st.DrawFn, of: int = 6) -> bool:
    return draw(st.integers(0, of - 1)) == of - 1


# --- hours -----------------------------------------------------------------------------------------------------------

TELLING_WINDOWS = (
    ("09:00", "17:00"),
    ("09:00", "12:00"),
    ("13:00", "17:00"),
    ("00:00", "24:00"),
    ("00:00", "00:00"),
    ("22:00", "06:00"),
    ("20:00", "24:00"),
    ("00:00", "03:00"),
    ("01:00", "03:00"),
    ("02:00", "03:00"),
    ("02:15", "02:45"),
    ("01:30", "02:00"),
    ("23:30", "00:30"),
    ("12:00", "12:00"),
    ("00:30", "00:15"),
    ("23:00", "01:05"),
)


# Around the clock, or nearly: what is about 24 hours long, or touches what is.
LONG_WINDOWS = (
    ("00:00", "24:00"),
    ("00:00", "00:00"),
    ("00:00", "00:30"),
    ("00:00", "01:00"),
    ("12:00", "12:00"),
    ("23:00", "24:00"),
    ("00:00", "23:00"),
    ("01:00", "00:00"),
    ("23:30", "23:30"),
)


def _window(start: int, length: int) -> Json:
    """A window from a minute of the day, for less than a day; or for all of one, if that is its length."""
    return {"start": _clock(start % 1440), "end": _clock((start + length) % 1440)}


@st.composite
def windows(draw: st.DrawFn, edges: tuple[int, ...] = (), *, long: bool = False) -> Json:
    """One window of hours: a telling one, one near a clock change, or any start and length in steps of five minutes."""
    if long and not _rarely(draw, 8):
        start, end = draw(st.sampled_from(LONG_WINDOWS))
        return {"start": start, "end": end}
    if edges and _rarely(draw, 3):
        return draw(_windows_near(edges))
    if draw(st.booleans()):
        start, end = draw(st.sampled_from(TELLING_WINDOWS))
        return {"start": start, "end": end}
    first = draw(st.integers(0, 24 * 4 - 1)) * 15 + draw(st.sampled_from((0, 0, 0, 5, 10)))
    length = draw(st.sampled_from((60, 30, 90, 15, 180, 240, 480, 720, 1200, 50, 1435)))
    last = first + length
    return {"start": _clock(first), "end": _clock(last if last <= 24 * 60 else last - 24 * 60)}


@st.composite
def _windows_near(draw: st.DrawFn, edges: tuple[int, ...]) -> Json:
    """A short window where clocks change: it may be skipped, doubled, or end before it begins."""
    first = draw(st.sampled_from(edges)) + draw(st.integers(-3, 4)) * 15
    return _window(first, draw(st.sampled_from((30, 15, 60, 45, 90, 180))))


DAYS = st.one_of(
    st.just(list(WEEKDAYS)),
    st.just(list(WEEKDAYS[:5])),
    st.lists(st.sampled_from(WEEKDAYS), min_size=1, max_size=4, unique=True),
)


@st.composite
def _weekly_hours(draw: st.DrawFn, style: str, edges: tuple[int, ...], duration: int) -> list[Json]:
    if style == "changes" and edges:
        return [{"days": list(WEEKDAYS), **draw(_windows_near(edges))} for _ in range(draw(st.integers(1, 3)))]
    if style == "long" and draw(st.booleans()):
        return draw(_day_and_a_bit(duration))
    long = style == "long"
    count = draw(st.sampled_from((1, 2, 3, 4) if long else (1, 2, 1, 3, 0)))
    weekly = [{"days": draw(DAYS), **draw(windows(edges, long=long))} for _ in range(count)]
    if not long and draw(st.integers(0, 3)) < 3:  # long hours every day, so that most scenarios have slots
        start, end = draw(st.sampled_from(TELLING_WINDOWS[:7]))
        weekly.insert(0, {"days": list(WEEKDAYS), "start": start, "end": end})
    return weekly


@st.composite
def _day_and_a_bit(draw: st.DrawFn, duration: int) -> list[Json]:
    """Some days 24 hours, others a bit more: what is a long stretch, and what is not quite."""
    first = draw(st.sampled_from((0, 720, 60, 1410, 545)))
    day = draw(st.integers(0, 6))
    more = draw(st.sampled_from((duration, duration + 5, 30, duration + 60, 60, 65)))
    return [
        {"days": [WEEKDAYS[day], WEEKDAYS[(day + 3) % 7]], **_window(first, 1440)},
        {"days": [WEEKDAYS[(day + 1) % 7]], **_window(first, more)},
    ]


# --- recurrence ------------------------------------------------------------------------------------------------------

RULES: dict[str, tuple[str, ...]] = {
    "DAILY": ("FREQ=DAILY", "FREQ=DAILY;INTERVAL=2", "FREQ=DAILY;INTERVAL=3", "FREQ=DAILY;BYDAY=MO,WE,FR,SU"),
    "WEEKLY": (
        "FREQ=WEEKLY",
        "FREQ=WEEKLY;BYDAY=MO,SU,TU",
        "FREQ=WEEKLY;INTERVAL=2;BYDAY=SA,SU",
        "FREQ=WEEKLY;INTERVAL=2;WKST=SU;BYDAY=SU,MO",
        "FREQ=WEEKLY;BYDAY=SU,FR,SA",
    ),
    "MONTHLY": (
        "FREQ=MONTHLY",
        "FREQ=MONTHLY;BYDAY=-1SU,1SU",
        "FREQ=MONTHLY;BYDAY=2SU,-1FR",
        "FREQ=MONTHLY;BYMONTHDAY=1,29,-1",
        "FREQ=MONTHLY;INTERVAL=2;BYMONTHDAY=31",
        "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1",
    ),
    "YEARLY": ("FREQ=YEARLY", "FREQ=YEARLY;BYMONTH=3,10;BYDAY=-1SU", "FREQ=YEARLY;BYMONTH=3;BYMONTHDAY=29,30,31"),
    "HOURLY": (
        "FREQ=HOURLY;INTERVAL=6",
        "FREQ=HOURLY",
        "FREQ=HOURLY;INTERVAL=5",
        "FREQ=HOURLY;INTERVAL=25;BYDAY=SA,SU,MO",
        "FREQ=HOURLY;BYHOUR=0,1,2,3",
    ),
}
LOOKBACK: dict[str, tuple[int, ...]] = {
    "DAILY": (0, 1, 2, 7, 100),
    "WEEKLY": (0, 1, 6, 7, 14, 365),
    "MONTHLY": (0, 10, 31, 120, 800),
    "YEARLY": (0, 1, 365, 366, 1500),
    "HOURLY": (0, 1, 2, 20),
}


NEAR = tuple(timedelta(seconds=n) for n in (0, 0, 1, -1, 60, 3_600, -3_600, -7_200, 18_000, -18_000, 86_400))


@st.composite
def _until(draw: st.DrawFn, occurrence: datetime, zone: str) -> str:
    """UNTIL in one of its three forms, at an occurrence or close to it."""
    until = occurrence + draw(st.sampled_from(NEAR))
    form = draw(st.sampled_from(("%Y%m%d", "%Y%m%dT%H%M%SZ", "%Y%m%dT%H%M%S")))
    if form.endswith("Z"):
        until = until.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    return until.strftime(form)


@st.composite
def _blocked(draw: st.DrawFn, frame: Frame, frequencies: Sequence[str], zone: str) -> Json:
    kind = draw(st.sampled_from(("wall", "date", "wall", "instant")))
    if kind == "instant":
        start = draw(frame.instants())
        length = timedelta(minutes=draw(st.sampled_from((30, 15, 60, 300, 1500))), seconds=draw(ODD_SECONDS))
        return {"start": text(start), "end": text(start + length)}
    rule = None
    first = frame.local(draw)
    if draw(st.booleans()):
        frequency = draw(st.sampled_from([f for f in frequencies if kind == "wall" or f != "HOURLY"]))
        rule = draw(st.sampled_from(RULES[frequency]))
        if kind == "date" and rule in {"FREQ=DAILY", "FREQ=DAILY;INTERVAL=2"} and not _rarely(draw):
            rule = "FREQ=WEEKLY"  # or else there would be hardly a day left in too many scenarios
        bound = draw(st.sampled_from(("", "UNTIL", "COUNT", "UNTIL")))
        if bound == "COUNT":
            rule += f";COUNT={draw(st.sampled_from((1, 2, 3, 5, 40)))}"
        elif bound == "UNTIL":
            rule += f";UNTIL={draw(_until(first if kind == 'wall' else _midnight(first), zone))}"
        first -= timedelta(days=draw(st.sampled_from(LOOKBACK[frequency])))
    if kind == "date":
        period: Json = {"start": first.date().isoformat()}
        days = draw(st.sampled_from((None, 0, 1, 2)))
        if days is not None:
            period["end"] = (first.date() + timedelta(days=days)).isoformat()
    else:
        length = timedelta(minutes=draw(st.sampled_from((45, 15, 30, 60, 180, 600, 1440, 1500, 3000))))
        period = {"start": _wall(first), "end": _wall(first + length)}
    if rule is not None:
        period["rrule"] = rule
    return period


# --- where things happen ---------------------------------------------------------------------------------------------

ODD_SECONDS = st.sampled_from((0, 0, 0, 0, 0, 0, 30, 1, 59))
FRACTIONS = st.sampled_from((0, 0, 0, 500_000, 1, 999_999, 250_000))


@dataclass(frozen=True)
class Frame:
    """The days and the times of day near which everything in a scenario lies."""

    day: date
    days: int
    times: tuple[int, ...]  # minutes since midnight at which hours begin or end
    zones: tuple[str, ...]
    step: int

    def local(self, draw: st.DrawFn) -> datetime:
        """A wall time near an edge of the hours, on one of the days or next to them."""
        day = self.day + draw(st.integers(-1, self.days)) * ONE_DAY
        minutes = draw(st.sampled_from(self.times)) + draw(st.integers(-3, 8)) * draw(st.sampled_from((self.step, 5)))
        return datetime.combine(day, time()) + timedelta(minutes=minutes)

    def instants(self) -> st.SearchStrategy[datetime]:
        return _instants(self)


@st.composite
def _instants(draw: st.DrawFn, frame: Frame) -> datetime:
    wall = frame.local(draw)
    zone = ZoneInfo(draw(st.sampled_from(frame.zones)))
    return wall.replace(tzinfo=zone).astimezone(UTC)


@st.composite
def _busy(draw: st.DrawFn, frame: Frame) -> list[str]:
    start = draw(frame.instants()) + timedelta(seconds=draw(ODD_SECONDS), microseconds=draw(FRACTIONS))
    length = timedelta(
        minutes=draw(st.sampled_from((20, 5, 60, 0, 300, 0))),
        seconds=draw(ODD_SECONDS),
        microseconds=draw(FRACTIONS),
    )
    return [text(start), text(start + length)]


@st.composite
def _bookings(
    draw: st.DrawFn, frame: Frame, hosts: list[str], duration: int, capacity: int, *, crowded: bool = False
) -> list[tuple[Json, list[str]]]:
    """Some bookings that are one occurrence, unless they have no event type; each with its hosts."""
    start = draw(frame.instants()) + timedelta(seconds=draw(ODD_SECONDS) if _rarely(draw) else 0)
    minutes = duration
    if not crowded or _rarely(draw):
        minutes = draw(st.sampled_from((duration, duration, duration, duration, duration, 30, 60, 5, 480)))
    common: Json = {"start": text(start), "end": text(start + timedelta(minutes=minutes))}
    slug: str | None = "visit"
    if not crowded or _rarely(draw):
        slug = draw(st.sampled_from(("visit", "visit", "visit", "visit", "call", None)))
    if slug is not None:
        common["event_type"] = slug
    for side in ("before", "after"):
        buffer = draw(st.sampled_from((None, None, 10, 0, 5, 60)))
        if buffer is not None:
            common[f"buffer_{side}_minutes"] = buffer
    size = draw(st.sampled_from((1, 1, 1, 2, len(hosts))))
    holders = draw(st.permutations(hosts))[:size]
    made = []
    for _ in range(draw(st.sampled_from((1, 1, 2, 1, 3))) if capacity > 1 or _rarely(draw) else 1):
        booking = dict(common)
        seats = draw(st.sampled_from((None, 1, None, 2, capacity))) if capacity > 1 else None
        if seats is not None:
            booking["seats"] = seats
        made.append((booking, holders))
    if len(hosts) > 1 and capacity > 1 and draw(st.booleans()):
        # another occurrence or two at the same moment, held by somebody else
        for _ in range(draw(st.sampled_from((1, 2)))):
            others = draw(st.permutations(hosts))[: draw(st.sampled_from((1, 1, 2)))]
            made.append(({**common, "seats": draw(st.sampled_from((1, 2, capacity)))}, others))
    return made


@st.composite
def _travel(draw: st.DrawFn, frame: Frame) -> list[Json]:
    trips = []
    day = frame.day - 2 * ONE_DAY
    for _ in range(draw(st.sampled_from((1, 2)))):
        first = day + draw(st.integers(0, 3)) * ONE_DAY
        last = first + draw(st.integers(0, 2)) * ONE_DAY
        trips.append({"from": str(first), "until": str(last), "timezone": draw(st.sampled_from(frame.zones))})
        day = last + ONE_DAY
    return trips


@st.composite
def _limits(draw: st.DrawFn, periods: Sequence[str], duration: int) -> list[Json]:
    limits = []
    for _ in range(draw(st.sampled_from((1, 1, 2)))):
        limit: Json = {"per": draw(st.sampled_from(periods))}
        kind = draw(st.sampled_from(("count", "minutes", "both")))
        if kind != "minutes":
            limit["count"] = draw(st.integers(1, 4))
        if kind != "count":
            limit["minutes"] = draw(st.sampled_from((2 * duration, duration, 3 * duration, 4 * duration, 240, 10)))
        limits.append(limit)
    return limits


@st.composite
def _groups(draw: st.DrawFn, hosts: list[str]) -> list[Json]:
    order = draw(st.permutations(hosts))
    used = order[: draw(st.integers(1, len(order)))] if _rarely(draw, 3) else order
    cut = draw(st.integers(1, len(used) - 1)) if len(used) > 1 and _rarely(draw, 3) else len(used)
    groups = []
    for members in (used[:cut], used[cut:]):
        if members:
            need = draw(st.sampled_from((1, None, 1, "all", *range(1, len(members) + 1))))
            groups.append({"members": list(members)} if need is None else {"members": list(members), "need": need})
    return groups


@st.composite
def _booking_window(draw: st.DrawFn, frame: Frame) -> Json:
    window: Json = {}
    kind = draw(st.integers(1, 7))
    if kind & 1:
        window["days"] = draw(st.sampled_from((2, 0, 1, 3, 5, 7, 12)))
    first = draw(st.integers(-1, frame.days))
    if kind & 2:
        window["from"] = str(frame.day + first * ONE_DAY)
    if kind & 4:
        window["until"] = str(frame.day + draw(st.integers(first, frame.days)) * ONE_DAY)
    return window


# --- all of it -------------------------------------------------------------------------------------------------------


@st.composite
def _day(draw: st.DrawFn, zones: Sequence[str], *, always: bool) -> date:
    """A date near a clock change of one of the zones where they have any, else any date or a telling one."""
    changes = [change for name in zones for change in clock_changes(name)]
    if changes and (always or draw(st.integers(0, 3)) < 3):
        change = draw(st.sampled_from(changes))
        return datetime.fromtimestamp(change.second, UTC).date() - draw(st.integers(0, 2)) * ONE_DAY
    telling = (date(2026, 3, 2), date(2028, 2, 28), date(2026, 12, 30), date(2024, 2, 27), date(2029, 12, 31))
    if draw(st.booleans()):
        return draw(st.sampled_from(telling))
    return date(2024, 1, 10) + draw(st.integers(0, 2500)) * ONE_DAY


def _edges(zones: Sequence[str], day: date, days: int) -> tuple[int, ...]:
    """Minutes since midnight, on the clock before and after, at which clocks change on one of the days."""
    found = set()
    for name in zones:
        for change in clock_changes(name):
            if -2 <= (datetime.fromtimestamp(change.second, UTC).date() - day).days <= days + 1:
                found |= {(change.second + offset) // 60 % 1440 for offset in (change.before, change.after)}
    return tuple(sorted(found))


def _minutes(clock: str) -> int:
    return int(clock[:2]) * 60 + int(clock[3:])


@dataclass(frozen=True, kw_only=True)
class Taste:
    """What scenarios are made of.

    The style is "wide"; "long" for hours around the clock, or a bit more than 24 of them; "changes" for short hours
    right where clocks change; "crowded" for many bookings of the event type itself.
    """

    zones: Sequence[str] = ZONES
    aligns: Sequence[str] = ("window", "clock", "free")
    capacities: Sequence[int] = (1, 1, 1, 2, 3, 5)
    periods: Sequence[str] = PERIODS
    frequencies: Sequence[str] = tuple(RULES)
    max_days: int = 5
    max_hosts: int = 4
    steps: Sequence[int | None] = (None, None, 30, 15, 60, 7, 25, 45, 90, 1440, 5)
    style: str = "wide"


def scenarios(**taste: Any) -> st.SearchStrategy[Json]:
    """Valid scenarios, in their JSON form, without `name` and `expected`; the keywords are those of `Taste`."""
    return _scenarios(Taste(**taste))


@st.composite
def _scenarios(draw: st.DrawFn, taste: Taste) -> Json:
    slugs = list(SLUGS[: draw(st.integers(1, taste.max_hosts))])
    homes = [draw(st.sampled_from(taste.zones))]
    homes += [homes[0] if draw(st.booleans()) else draw(st.sampled_from(taste.zones)) for _ in slugs[1:]]
    zones = tuple(dict.fromkeys(homes))

    day = draw(_day(zones, always=taste.style == "changes"))
    days = draw(st.integers(1, taste.max_days))
    edges = _edges(zones, day, days)
    duration = draw(_duration(taste))
    hours = [draw(_weekly_hours(taste.style, edges, duration)) for _ in slugs]
    step = draw(st.sampled_from(taste.steps))
    times = {_minutes(window[edge]) for windows_of in hours for window in windows_of for edge in ("start", "end")}
    if taste.style == "changes" and edges:
        times = set()
    frame = Frame(day, days, (*sorted(times), *edges) or (540,), zones, step or duration)

    event = draw(_event_type(taste, frame, duration, step))
    event["hosts"] = draw(_groups(slugs))
    hosts = {
        slug: {**draw(_host(taste, frame, home, duration, edges)), "weekly_hours": weekly}
        for slug, home, weekly in zip(slugs, homes, hours, strict=True)
    }
    draw(_fill(taste, frame, hosts, duration, event.get("capacity", 1)))

    scenario: Json = draw(_question(frame, event.get("minimum_notice_minutes", 0)))
    if _rarely(draw):
        closures = st.lists(_blocked(frame, taste.frequencies, homes[0]), max_size=2)
        scenario["closures"] = draw(closures)
    return {**scenario, "event_type": event, "hosts": hosts}


@st.composite
def _duration(draw: st.DrawFn, taste: Taste) -> int:
    if taste.style == "changes":
        return draw(st.sampled_from((15, 5, 30, 10, 20, 60)))
    if _rarely(draw, 25):
        return 1500
    return draw(st.sampled_from((30, 60, 15, 30, 45, 20, 50, 60, 25, 90, 120, 5, 10, 480)))


@st.composite
def _question(draw: st.DrawFn, frame: Frame, notice: int) -> Json:
    """Now, and the range that is asked about."""
    start = datetime.combine(frame.day, time(), UTC) + timedelta(
        minutes=draw(st.sampled_from((0, 0, 720, 337, 1403))), seconds=draw(ODD_SECONDS)
    )
    until = start + timedelta(
        days=frame.days, minutes=draw(st.sampled_from((0, 0, -300, 71))), seconds=draw(ODD_SECONDS)
    )
    if _rarely(draw, 3):  # something may start exactly now, or as soon as the notice allows
        now = draw(frame.instants()) - timedelta(minutes=notice, days=draw(st.sampled_from((0, 0, 1, 2, 3))))
    else:
        now = start + timedelta(
            hours=draw(st.sampled_from((-48, -72, -1, -24, -240, -30, 0, 9, 30))),
            seconds=draw(ODD_SECONDS),
            microseconds=draw(FRACTIONS) if _rarely(draw) else 0,
        )
    return {"now": text(now), "from": text(start), "until": text(until)}


@st.composite
def _event_type(draw: st.DrawFn, taste: Taste, frame: Frame, duration: int, step: int | None) -> Json:
    """All of an event type but its groups."""
    event: Json = {} if _rarely(draw, 12) else {"slug": "visit"}
    event["duration_minutes"] = duration
    if step is not None:
        event["step_minutes"] = step
    align = draw(st.sampled_from(taste.aligns)) if draw(st.booleans()) else taste.aligns[0]
    if align != "window":
        event["align"] = align
    if align == "clock" and draw(st.booleans()):
        event["offset_minutes"] = draw(st.sampled_from((5, 10, 7, 0, 30, 600)))
    capacity = draw(st.sampled_from(taste.capacities))
    if capacity > 1 or _rarely(draw):
        event["capacity"] = capacity
    extras: list[tuple[str, int, st.SearchStrategy[Any]]] = [
        ("buffer_before_minutes", 3, st.sampled_from((10, 5, 15, 60, 0, 300))),
        ("buffer_after_minutes", 3, st.sampled_from((10, 5, 15, 60, 0, 300))),
        ("minimum_notice_minutes", 5, st.sampled_from((60, 120, 7, 0, 1440, 4320))),
        ("booking_window", 5, _booking_window(frame)),
        ("limits", 5, _limits(taste.periods, duration)),
        ("timezone", 2 if taste.style == "long" else 4, st.sampled_from(taste.zones)),
    ]
    return event | {name: draw(values) for name, of, values in extras if _rarely(draw, of)}


@st.composite
def _host(draw: st.DrawFn, taste: Taste, frame: Frame, home: str, duration: int, edges: tuple[int, ...]) -> Json:
    """All of a host but its weekly hours and bookings."""
    host: Json = {"timezone": home}
    if _rarely(draw, 4):
        dates = draw(st.lists(st.integers(-1, frame.days), min_size=1, max_size=3, unique=True))
        hours = st.lists(windows(edges, long=taste.style == "long"), max_size=2)
        host["overrides"] = [{"date": str(frame.day + at * ONE_DAY), "hours": draw(hours)} for at in dates]
    extras: list[tuple[str, int, st.SearchStrategy[Any]]] = [
        ("travel", 5, _travel(frame)),
        (
            "blocked",
            2 if taste.style == "changes" else 3,
            st.lists(_blocked(frame, taste.frequencies, home), min_size=1, max_size=3),
        ),
        ("busy", 3, st.lists(_busy(frame), min_size=1, max_size=4)),
        ("limits", 5, _limits(taste.periods, duration)),
    ]
    return host | {name: draw(values) for name, of, values in extras if _rarely(draw, of)}


@st.composite
def _fill(draw: st.DrawFn, taste: Taste, frame: Frame, hosts: Json, duration: int, capacity: int) -> None:
    """Give the hosts their bookings; most have an id, and those of several hosts need one."""
    crowded = taste.style == "crowded"
    number = 0
    for _ in range(draw(st.sampled_from((2, 1, 3, 4) if crowded else (1, 0, 2, 3, 5)))):
        for booking, holders in draw(_bookings(frame, list(hosts), duration, capacity, crowded=crowded)):
            add_booking(hosts, booking, holders, None if len(holders) == 1 and number % 3 == 2 else f"b{number}")
            number += 1


def add_booking(hosts: Json, booking: Json, holders: Sequence[str], name: str | None) -> None:
    """Put one booking in the lists of all its hosts."""
    for slug in holders:
        named = dict(booking) if name is None else {"id": name, **booking}
        hosts[slug].setdefault("bookings", []).append(named)


# --- things to do to a scenario --------------------------------------------------------------------------------------


@st.composite
def more_time_taken(draw: st.DrawFn, scenario: Json) -> tuple[str, Json, list[str]]:
    """One thing more that takes time: its kind (booking, busy, blocked, closure), itself, and the hosts it is about."""
    event, hosts = scenario["event_type"], scenario["hosts"]
    frame = frame_of(scenario)
    kind = draw(st.sampled_from(("booking", "busy", "blocked", "closure")))
    if kind == "booking":
        booking, holders = draw(_bookings(frame, list(hosts), event["duration_minutes"], event.get("capacity", 1)))[0]
        return kind, booking, list(holders)
    holder = [draw(st.sampled_from(list(hosts)))]
    if kind == "busy":
        return kind, {"busy": draw(_busy(frame))}, holder
    return kind, draw(_blocked(frame, tuple(RULES), hosts[holder[0]]["timezone"])), holder


def frame_of(scenario: Json) -> Frame:
    event, hosts = scenario["event_type"], scenario["hosts"]
    start, until = moment(scenario["from"]), moment(scenario["until"])
    edges = {
        _minutes(window[edge])
        for host in hosts.values()
        for window in host.get("weekly_hours", [])
        for edge in ("start", "end")
    }
    return Frame(
        day=start.date(),
        days=max((until.date() - start.date()).days, 1),
        times=tuple(sorted(edges)) or (540,),
        zones=tuple(dict.fromkeys(host["timezone"] for host in hosts.values())),
        step=event.get("step_minutes") or event["duration_minutes"],
    )


def starts_near(scenario: Json) -> st.SearchStrategy[datetime]:
    """Starts worth asking about: near the hours, at a booking or anywhere in the range, on the minute or off it."""
    start, until = moment(scenario["from"]), moment(scenario["until"])
    length = max(int((until - start).total_seconds()), 1)
    anywhere = st.integers(0, length).map(lambda second: start + timedelta(seconds=second))
    near = frame_of(scenario).instants()
    claims = [claim for host in scenario["hosts"].values() for claim in host.get("bookings", [])]
    if claims:
        near = st.one_of(near, st.sampled_from([moment(claim["start"]) for claim in claims]))
    return st.one_of(near, st.builds(_later, near, st.sampled_from((1, 30, 59, -1))), anywhere)


def _later(start: datetime, seconds: int) -> datetime:
    return start + timedelta(seconds=seconds)
