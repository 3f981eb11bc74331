"""Draw a question and its answer: the weeks of the range as columns of days, one lane a host (an SVG)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from nxsched.domain.availability import BookedTime
from nxsched.domain.instants import DAY, EPOCH_WEEKDAY, date_of
from nxsched.errors import InvalidInput
from nxsched.slots import SlotQuery, Slots
from nxsched.slots.intervals import Interval, union
from nxsched.slots.terrain import Terrain
from nxsched.slots.zones import Zone, zone

MAX_WEEKS = 60
MAX_LANES = 40

_LANE, _GAP, _HOUR = 26, 10, 26
_LEFT, _TOP = 52, 118
_HEAD = 44

# Told apart by pattern and shape first; the colours (a palette safe for the colour-blind) only help.
_STYLE = """
text { font: 11px system-ui, sans-serif; fill: #222 }
.paper { fill: #fff }
.title { font-size: 16px; font-weight: 600 }
.day { font-weight: 600 }
.lane { font-size: 9px }
.closed { fill: #f4f4f4; stroke: #ccc; stroke-width: .5 }
.open { fill: #fff; stroke: #777; stroke-width: .7 }
.blocked { fill: url(#hatch); stroke: #555; stroke-width: .7 }
.busy { fill: #3d4a57; stroke: #222; stroke-width: .7 }
.buffer { fill: url(#dots); stroke: #3d4a57; stroke-width: .7; stroke-dasharray: 2 1 }
.start { fill: #0072b2; stroke: #fff; stroke-width: .8 }
.hour { stroke: #ddd; stroke-width: .5 }
"""


_OnSheet = tuple[int, Interval, bool]
"""A day, seconds after its midnight on the wall, and whether the clocks show them for the second time."""

_AGAIN = " (the second time)"


@dataclass(frozen=True, slots=True)
class _Lane:
    """What is drawn for one host: instants for the boxes, seconds for the marks."""

    name: str
    boxes: tuple[tuple[str, str, Sequence[Interval]], ...]
    starts: Sequence[int]


def draw(query: SlotQuery, slots: Slots, timezone: str, title: str) -> str:
    """The picture as SVG text, days and hours by the clocks of `timezone`.

    Raises `InvalidInput` for more than 60 weeks or 40 hosts, which nobody could read.
    """
    asked = query.prepared
    table = zone(timezone, asked.start, asked.end)
    first = _monday(table.day_of(asked.start))
    last = table.day_of(max(asked.start, asked.end - 1))
    weeks = (last - first) // 7 + 1
    if weeks > MAX_WEEKS:
        raise InvalidInput(
            field="--picture", reason=f"the range holds {weeks} weeks; a picture takes at most {MAX_WEEKS}"
        )
    if len(asked.members) > MAX_LANES:
        reason = f"the event type has {len(asked.members)} hosts; a picture takes at most {MAX_LANES}"
        raise InvalidInput(field="--picture", reason=reason)
    days = range(first, first + 7 * weeks)
    sheet = _Sheet(table, days, range(table.day_of(asked.start), last + 1), list(_lanes(query, slots, table, days)))
    return sheet.drawn(f"{title}: {len(slots)} slots, times in {timezone}")


def _lanes(query: SlotQuery, slots: Slots, table: Zone, days: range) -> Iterator[_Lane]:
    """The lanes of the members, in the order of the groups."""
    asked = query.prepared
    start, end = table.instant(days.start * DAY), table.instant(days.stop * DAY)
    terrain = Terrain(asked, start, end)
    offered: dict[str, list[int]] = {}
    for slot in slots:
        for slug in slot.hosts:
            offered.setdefault(slug, []).append(int(slot.start.timestamp()))
    for member in asked.members:
        with_buffers = [(a, b) for a, b, booking in member.taken if booking]
        busy = [booking.span() if isinstance(booking, BookedTime) else (a, b) for a, b, booking in member.taken]
        yield _Lane(
            member.slug,
            (
                ("open", "hours", terrain.hours(member)),
                ("blocked", "blocked", union((a, b) for a, b, _ in terrain.blocked(member))),
                ("buffer", "busy with buffers", with_buffers),
                ("busy", "busy", union(busy)),
            ),
            offered.get(member.slug, []),
        )


class _Sheet:
    """A drawing in the making: where days and hours lie, and the elements that are on it."""

    def __init__(self, table: Zone, days: range, asked: range, lanes: Sequence[_Lane]) -> None:
        self.table, self.days, self.asked, self.lanes = table, days, asked, lanes
        times = [wall for lane in lanes for _, wall, _ in self._everything(lane)]
        self.opens = min((a for a, _ in times), default=9 * 3600) // 3600
        self.closes = max(-(-max((b for _, b in times), default=17 * 3600) // 3600), self.opens + 1)
        self.day_width = max(len(lanes) * _LANE, 3 * _LANE) + _GAP
        self.week_height = _HEAD + (self.closes - self.opens) * _HOUR + 24

    def drawn(self, title: str) -> str:
        """Draw everything."""
        weeks = len(self.days) // 7
        width, height = max(_LEFT + 7 * self.day_width + 20, 900), _TOP + weeks * self.week_height
        self.root = ET.Element("svg", xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {width} {height}", role="img")
        self.root.set("width", str(width))
        self.root.set("height", str(height))
        ET.SubElement(self.root, "title").text = title
        ET.SubElement(self.root, "style").text = _STYLE
        self._patterns()
        self._box("paper", (0, 0), (width, height))
        self._text(_LEFT, 30, title, "title")
        self._legend()
        for week in range(weeks):
            self._week(self.days[7 * week : 7 * week + 7], _TOP + week * self.week_height)
        for i, lane in enumerate(self.lanes):
            self._lane(lane, i * _LANE)
        ET.indent(self.root)
        return ET.tostring(self.root, encoding="unicode", xml_declaration=True) + "\n"

    def _everything(self, lane: _Lane) -> Iterator[_OnSheet]:
        """The walls of all that will be drawn for a lane, by day."""
        for kind, _, times in lane.boxes:
            if kind != "blocked":
                yield from self._by_day(times)
        yield from self._by_day((at, at + 60) for at in lane.starts)

    def _by_day(self, times: Iterable[Interval]) -> Iterator[_OnSheet]:
        """Cut instants into days and seconds after midnight, as the clocks show them."""
        first, last = self.table.instant(self.days.start * DAY), self.table.instant(self.days.stop * DAY)
        for start, end in times:
            for a, b, offset in self.table.spans(max(start, first), max(min(end, last), start, first)):
                for day in range((a + offset) // DAY, (b - 1 + offset) // DAY + 1):
                    midnight = day * DAY - offset
                    if day in self.days and a < b:
                        again = self.table.instant(max(a, midnight) + offset) != max(a, midnight)
                        yield day, (max(a, midnight) - midnight, min(b, midnight + DAY) - midnight), again

    def _week(self, days: range, top: int) -> None:
        body, bottom = top + _HEAD, top + _HEAD + (self.closes - self.opens) * _HOUR
        for hour in range(self.opens, self.closes + 1):
            y = body + (hour - self.opens) * _HOUR
            line = {"class": "hour", "x1": str(_LEFT), "x2": str(_LEFT + 7 * self.day_width - _GAP)}
            ET.SubElement(self.root, "line", line, y1=str(y), y2=str(y))
            self._text(8, y + 4, f"{hour:02}:00")
        self._text(8, top + 14, f"{date_of(days.start):%Y}", "day")
        for column, day in enumerate(days):
            left = _LEFT + column * self.day_width
            long = (self.table.instant((day + 1) * DAY) - self.table.instant(day * DAY)) / 3600
            self._text(left, top + 14, f"{date_of(day):%a %d %b}", "day")
            if day not in self.asked:
                self._text(left, top + 26, "not asked", "lane")
            elif long != 24:  # noqa: PLR2004 - an ordinary day
                self._text(left, top + 26, f"a day of {long:g} hours", "lane")
            for i, lane in enumerate(self.lanes):
                x = left + i * _LANE
                self._text(x + 7, top + 39, str(i + 1), "lane", lane.name)
                self._box("closed", (x, body), (_LANE - 4, bottom - body))

    def _lane(self, lane: _Lane, shift: int) -> None:
        """Draw all of a host, whatever the week."""
        for kind, name, times in lane.boxes:
            for day, (a, b), again in self._by_day(times):
                first, last = max(a, self.opens * 3600), min(b, self.closes * 3600)
                if first < last:
                    (x, y), (_, end) = self._place(day, first), self._place(day, last)
                    said = f"{lane.name}: {name} {_clock(a)}-{_clock(b)}{_AGAIN * again}"
                    self._box(kind, (x + shift, y), (_LANE - 4, end - y), said)
        for day, (a, _), again in self._by_day((at, at + 1) for at in lane.starts):
            x, y = self._place(day, a)
            aside = _LANE / 2 if again else 0  # beside the first pass, not over it
            self._mark(x + shift + aside, y, f"{lane.name}: can start at {_clock(a)}{_AGAIN * again}")

    def _place(self, day: int, seconds: int) -> tuple[float, float]:
        """Where a time of a day lies on the sheet, first lane."""
        week, column = divmod(day - self.days.start, 7)
        body = _TOP + week * self.week_height + _HEAD
        return _LEFT + column * self.day_width, round(body + (seconds / 3600 - self.opens) * _HOUR, 2)

    def _legend(self) -> None:
        entries = (
            ("closed", "outside hours"), ("open", "hours"), ("blocked", "blocked (hatched)"), ("busy", "busy (dark)"),
            ("buffer", "buffer (dotted)"), ("start", "start that is offered (pointer)"),
        )  # fmt: skip
        x = _LEFT
        for kind, name in entries:
            if kind == "start":
                self._mark(x + 6, 62, name)
            else:
                self._box(kind, (x, 54), (18, 16))
            self._text(x + 24, 66, name)
            x += 38 + 7 * len(name)
        self._text(
            _LEFT,
            92,
            "Columns of a day: " + ", ".join(f"{i} {lane.name}" for i, lane in enumerate(self.lanes, start=1)),
        )

    def _patterns(self) -> None:
        defs = ET.SubElement(self.root, "defs")
        size = {"width": "6", "height": "6", "patternUnits": "userSpaceOnUse"}
        hatch = ET.SubElement(defs, "pattern", size, id="hatch", patternTransform="rotate(45)")
        ET.SubElement(hatch, "rect", width="6", height="6", fill="#fdf3e1")
        ET.SubElement(hatch, "line", x1="0", y1="0", x2="0", y2="6", stroke="#8a5a00")
        dots = ET.SubElement(defs, "pattern", {**size, "width": "4", "height": "4"}, id="dots")
        ET.SubElement(dots, "rect", width="4", height="4", fill="#fff")
        ET.SubElement(dots, "circle", cx="2", cy="2", r="0.8", fill="#3d4a57")

    def _box(self, kind: str, at: tuple[float, float], size: tuple[float, float], said: str = "") -> None:
        (x, y), (width, height) = at, size
        place = {"x": f"{x:g}", "y": f"{y:g}", "width": f"{width:g}", "height": f"{height:.2f}"}
        box = ET.SubElement(self.root, "rect", {"class": kind, **place})
        if said:
            ET.SubElement(box, "title").text = said

    def _mark(self, x: float, y: float, said: str) -> None:
        points = f"{x:g},{y - 3:g} {x + 9:g},{y:g} {x:g},{y + 3:g}"
        mark = ET.SubElement(self.root, "polygon", {"class": "start", "points": points})
        ET.SubElement(mark, "title").text = said

    def _text(self, x: float, y: float, text: str, kind: str = "", said: str = "") -> None:
        element = ET.SubElement(self.root, "text", {"x": f"{x:g}", "y": f"{y:g}", **({"class": kind} if kind else {})})
        element.text = text
        if said:
            ET.SubElement(element, "title").text = said


def _clock(seconds: int) -> str:
    hours, rest = divmod(seconds, 3600)
    return f"{hours:02}:{rest // 60:02}" + (f":{rest % 60:02}" if rest % 60 else "")


def _monday(day: int) -> int:
    return day - (day + EPOCH_WEEKDAY) % 7
