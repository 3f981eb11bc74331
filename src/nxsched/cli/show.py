"""Slots and refusals for people to read: a table by day, a list of sentences."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.table import Table
from rich.text import Text

from nxsched.domain.refusals import Refusal, clock
from nxsched.slots import SlotQuery, Slots


def show_slots(
    console: Console, title: str, query: SlotQuery, slots: Slots, timezone: str, limit: int | None = None
) -> None:
    """Print the slots by local day; those with the same hosts share a row."""
    zone = ZoneInfo(timezone)
    if not slots:
        start, end = (f"{at.astimezone(zone):%a %Y-%m-%d %H:%M}" for at in (query.start, query.end))
        console.print(
            Text(f"{title}: no slot is free from {start} to {end}, {timezone}. Ask --explain TIME for the reasons."),
            soft_wrap=True,
        )
        return
    seats = query.event_type.capacity > 1
    number = _counted(len(slots), "slot")
    if len(slots) == limit:
        number = "the first slot" if limit == 1 else f"the first {number}"
    console.print(Text(f"{title}: {number}, times in {timezone}"), soft_wrap=True)
    table = Table()
    for column in ("Day", "Hosts", *(["Seats left"] if seats else []), "Starts"):
        table.add_column(column, overflow="fold")
    for day, of_day in slots.by_day(timezone).items():
        rows: dict[tuple[tuple[str, ...], int], list[str]] = {}
        for slot in of_day:
            rows.setdefault((slot.hosts, slot.seats_left), []).append(clock(slot.start, zone))
        label = f"{day:%a %Y-%m-%d}"
        for (hosts, left), starts in rows.items():
            cells = [label, ", ".join(hosts), *([str(left)] if seats else []), "  ".join(starts)]
            table.add_row(*(Text(cell) for cell in cells))
            label = ""
        table.add_section()
    console.print(table)


def show_refusals(
    console: Console, title: str, start: datetime, refusals: Sequence[Refusal], timezone: str, written: str = ""
) -> None:
    """Print why a start is refused, one sentence a line, each with its code and the number of its rule.

    `written` is the time as it was asked for: one that the clocks skip is another when it is read.
    """
    local = start.astimezone(ZoneInfo(timezone))
    asked = f"{title}: {local:%a %Y-%m-%d} {clock(start, ZoneInfo(timezone))} {timezone}"
    wall = datetime.fromisoformat(written) if written else local
    if wall.tzinfo is None and wall != local.replace(tzinfo=None):
        asked += f" (the clocks skip {wall:%Y-%m-%d %H:%M}; rule 3)"
    if not refusals:
        console.print(Text(f"{asked} is offered; the range of the question is not looked at."), soft_wrap=True)
        return
    console.print(Text(f"{asked} is refused:"), soft_wrap=True)
    for refusal in refusals:
        console.print(Text(f"  - {refusal.sentence(timezone)} [{refusal.code}, rule {refusal.rule}]"), soft_wrap=True)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
