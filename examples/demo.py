"""nxsched at work on a real PostgreSQL, which the demo starts for itself: run it with `make demo`.

    python examples/demo.py [FOLDER]

FOLDER keeps the server's data: `demo/data` unless another is named. Each run has a tenant of its own.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from nxsched import (
    Actor,
    AsyncScheduler,
    Attendee,
    Booking,
    EventType,
    HoldExpired,
    Host,
    HostGroup,
    InvalidToken,
    Scheduler,
    Slots,
    SlotTaken,
    Tenant,
    WeeklyHours,
)

ZONE = "Europe/London"
CONTENDERS = 50
MINUTE = timedelta(minutes=1)
GRACE = Attendee(name="Grace", email="grace@example.test", timezone="America/New_York")
HENRY = Attendee(name="Henry", email="henry@example.test")
STAFF = Actor(role="staff", id="u-1", name="Front desk")

console = Console(highlight=False)


def main() -> None:
    """Tell the story."""
    folder = sys.argv[1] if len(sys.argv) > 1 else "demo/data"
    began = time.monotonic()
    with Scheduler.embedded(folder, secrets=["a secret of this demo alone"]) as scheduler:
        say(f"PostgreSQL runs in {folder}, its tables are up to date: {time.monotonic() - began:.1f} seconds.")
        acme = set_up(scheduler)
        slots = show_slots(acme)
        race(scheduler, acme, slots[0].start)
        let_a_hold_expire(acme, slots[1].start)
        ask_why(acme)
        join_a_transaction(scheduler, acme, slots[2].start)
        booking = confirm_and_cancel(acme, slots[3].start)
        show_history(acme, booking)
        fill_a_class(acme)
        take_turns(acme)
        help_yourself(acme)
        asyncio.run(go_on_with_asyncio(scheduler, acme.id))
    say(f"\n{time.monotonic() - began:.0f} seconds in all. The server stops now; its data stay in {folder}.")


def set_up(scheduler: Scheduler) -> Tenant:
    """A tenant of its own for this run, with two doctors, a room and two event types."""
    chapter("A tenant, its hosts, its event types")
    name = f"acme-{len(scheduler.tenants()) + 1}"
    acme = scheduler.create_tenant(name, name="Acme Clinic", sender="bookings@acme.test")
    hours = {
        "ada": ("mon-fri", "09:00", "13:00"),
        "bob": ("mon-wed", "11:00", "17:00"),
        "room": ("mon-fri", "08:00", "18:00"),
    }
    for slug, (days, start, end) in hours.items():
        acme.save_host(Host(slug=slug, timezone=ZONE, weekly_hours=[WeeklyHours(days=days, start=start, end=end)]))
        say(f"host {slug:<11} works {days} from {start} to {end}, {ZONE}")
    acme.save_event_type(
        EventType(slug="call", name="Call", duration=60 * MINUTE, hosts=["ada"], minimum_notice=120 * MINUTE)
    )
    say("event type call   an hour with ada, two hours' notice")
    groups = [HostGroup(members=["ada", "bob"]), HostGroup(members=["room"])]
    acme.save_event_type(
        EventType(slug="visit", name="Visit", duration=45 * MINUTE, buffer_after=15 * MINUTE, hosts=groups)
    )
    say("event type visit  45 minutes with ada or bob, and the room; then 15 minutes to tidy up")
    return acme


def show_slots(acme: Tenant) -> Slots:
    """The slots of three days, and those of the event type that the rest of the demo books."""
    chapter("Free slots")
    monday = next_monday()
    table = Table("Day", "Hosts who can", "Starts", title="visit", title_justify="left")
    for day, of_day in acme.find_slots("visit", start=monday, end=monday + timedelta(days=3)).by_day(ZONE).items():
        rows: dict[str, list[str]] = {}
        for slot in of_day:
            rows.setdefault(", ".join(slot.hosts), []).append(clock(slot.start))
        for hosts, starts in rows.items():
            table.add_row(f"{day:%a %d %b}" if hosts == next(iter(rows)) else "", hosts, " ".join(starts))
        table.add_section()
    console.print(table)
    return acme.find_slots("call", start=monday, end=monday + timedelta(days=1))


def race(scheduler: Scheduler, acme: Tenant, start: datetime) -> None:
    """Many processes, each with a connection of its own, want one slot at the same moment."""
    chapter(f"{CONTENDERS} processes want {when(start)}")
    context = multiprocessing.get_context("forkserver")  # one fresh process imports nxsched, and is copied
    context.set_forkserver_preload(["__main__", "nxsched.scheduler"])
    gate, answers = context.Barrier(CONTENDERS), context.SimpleQueue()
    url = scheduler.engine.url.render_as_string(hide_password=False)
    processes = [
        context.Process(target=contend, args=(url, acme.id, f"caller {i}", start, gate, answers))
        for i in range(CONTENDERS)
    ]
    for process in processes:
        process.start()
    said = [answers.get() for _ in processes]
    for process in processes:
        process.join()
    codes = [code for code, _, _ in said]
    (winner,) = [name for code, name, _ in said if code == "booked"]
    took = max(at for _, _, at in said) - min(at for _, _, at in said)
    stand = [one for one in acme.bookings(start=start, end=start + MINUTE, status="confirmed") if one.attendee]
    say(f"{winner} has it; {codes.count('slot_taken')} got SlotTaken, {len(codes)} answers within {took:.2f} seconds")
    say(f"bookings in the database: {len(stand)}, of {', '.join(one.attendee.name for one in stand if one.attendee)}")


def contend(
    url: str, tenant: str, name: str, start: datetime, gate: Barrier, answers: SimpleQueue[tuple[str, str, float]]
) -> None:
    """What one process does: connect, wait for the others, book."""
    with Scheduler(url) as scheduler:
        acme = scheduler.tenant(tenant)
        gate.wait()
        try:
            acme.book("call", start=start, attendee=Attendee(name=name))
            code = "booked"
        except SlotTaken as error:
            code = error.code
        answers.put((code, name, time.monotonic()))


def let_a_hold_expire(acme: Tenant, start: datetime) -> None:
    """A hold keeps others away, until its time is over; nothing has to tidy it up."""
    chapter("A hold that expires")
    hold = acme.place_hold("call", start=start, ttl=timedelta(seconds=2), attendee=GRACE)
    say(f"Grace holds {when(start)} for 2 seconds")
    try:
        acme.book("call", start=start, attendee=HENRY)
    except SlotTaken as error:
        say(f"Henry, meanwhile: {error.code}")
    time.sleep(2.1)
    acme.book("call", start=start, attendee=HENRY)
    say("Henry, 2 seconds later: booked")
    try:
        acme.confirm_hold(hold.id, attendee=GRACE)
    except HoldExpired as error:
        say(f"Grace, who comes back to confirm: {error.code}")


def ask_why(acme: Tenant) -> None:
    """Every rule that refuses a start."""
    start = next_monday() + timedelta(hours=10, minutes=30)
    chapter(f"Why not {when(start)}?")
    for refusal in acme.explain("call", start=start):
        say(f"{refusal.sentence(ZONE)} [{refusal.code}, rule {refusal.rule}]")


def join_a_transaction(scheduler: Scheduler, acme: Tenant, start: datetime) -> None:
    """A booking and a row of the application's own table stand or fall together."""
    chapter("Together with a table of your own")
    with scheduler.engine.begin() as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS demo_order (booking_id uuid PRIMARY KEY, pence int)"))
    for pence in (-1, 4500):
        try:
            with scheduler.engine.begin() as connection:
                booking = acme.book("call", start=start, attendee=GRACE, within=connection)
                order = {"booking": booking.id, "pence": pence}
                connection.execute(text("INSERT INTO demo_order VALUES (:booking, :pence)"), order)
                refuse_debts(pence)
        except ValueError as error:
            say(f"the order is refused ({error}), and the transaction rolls back")
        else:
            say("the order is good, and the transaction commits")
        with scheduler.engine.connect() as connection:
            sought = {"booking": booking.id}
            orders = connection.execute(text("SELECT count(*) FROM demo_order WHERE booking_id = :booking"), sought)
            say(f"  orders: {orders.scalar_one()}, bookings: {len(acme.bookings(start=start, end=start + MINUTE))}")


def refuse_debts(pence: int) -> None:
    """A rule of the application."""
    if pence < 0:
        raise ValueError(f"{pence} pence")


def confirm_and_cancel(acme: Tenant, start: datetime) -> Booking:
    """Hold, confirm, cancel; then the time is offered again."""
    chapter("Hold, confirm, cancel")
    hold = acme.place_hold("call", start=start, attendee=GRACE)
    booking = acme.confirm_hold(hold.id, attendee=GRACE)
    say(f"{when(start)} is {booking.status} for Grace; offered: {offered(acme, start)}")
    booking = acme.cancel(booking.id, reason="Grace has a cold", actor=STAFF)
    say(f"{when(start)} is {booking.status}; offered: {offered(acme, start)}")
    return booking


def offered(acme: Tenant, start: datetime) -> str:
    """Whether a start is offered."""
    return "yes" if acme.find_slots("call", start=start, end=start + MINUTE) else "no"


def show_history(acme: Tenant, booking: Booking) -> None:
    """What happened to a booking, each change written in the transaction that made it."""
    chapter("The audit trail of that booking")
    table = Table("Version", "Action", "By", "Reason", "Changed")
    for entry in acme.history(booking.id):
        changed = ", ".join(field for field in entry.changes if field not in {"sequence", "expires_at"})
        by = entry.actor.name or entry.actor.role if entry.actor else ""
        table.add_row(str(entry.version), entry.action, by, entry.reason or "", changed)
    console.print(table)


def fill_a_class(acme: Tenant) -> None:
    """Three seats and ten who want in; who leaves makes room."""
    chapter("A class with three seats, and ten who want in")
    acme.save_event_type(EventType(slug="class", name="First aid", duration=60 * MINUTE, hosts=["bob"], capacity=3))
    start = acme.find_slots("class", start=next_monday(), end=next_monday() + timedelta(days=3), limit=1)[0].start
    people = ("Ann", "Ben", "Cem", "Dora", "Eli", "Fay", "Gus", "Hal", "Ida", "Jan")
    with ThreadPoolExecutor(len(people)) as pool:
        came = [*pool.map(lambda name: sit_down(acme, start, name), people)]
    inside = [booking for booking in came if booking is not None]
    say(f"{when(start)}: {len(inside)} have a seat, {came.count(None)} were told that it is full")
    acme.cancel(inside[0].id, reason="has a cold")
    later = next(name for name, booking in zip(people, came, strict=True) if booking is None)
    say(f"{named(inside[0])} leaves, and {later} gets the seat: {sit_down(acme, start, later) is not None}")


def sit_down(acme: Tenant, start: datetime, name: str) -> Booking | None:
    """A seat, if there is one left."""
    try:
        return acme.book("class", start=start, attendee=Attendee(name=name))
    except SlotTaken:
        return None


def take_turns(acme: Tenant) -> None:
    """A team whose bookings go round, with the reason of each; a move, and another host."""
    chapter("A team, a move, a stand-in")
    hours = [WeeklyHours(days="mon-fri", start="14:00", end="18:00")]
    for slug in ("kim", "lou", "mia"):
        acme.save_host(Host(slug=slug, timezone=ZONE, weekly_hours=hours))
    acme.save_event_type(
        EventType(slug="advice", duration=60 * MINUTE, hosts=["kim", "lou", "mia"], strategy="fewest_bookings")
    )
    start = acme.find_slots("advice", start=next_monday(), end=next_monday() + timedelta(days=1), limit=1)[0].start
    table = Table("Start", "Host", "Because")
    for n in (0, 0, 1, 1):
        booking = acme.book("advice", start=start + n * 60 * MINUTE, attendee=GRACE)
        table.add_row(when(booking.start), *booking.hosts, booking.assigned_because)
    booking = acme.reschedule(booking.id, start=start + 2 * 60 * MINUTE, reason="Grace is late")
    table.add_row(when(booking.start), *booking.hosts, f"moved: {booking.assigned_because}")
    stand_in = next(slug for slug in ("kim", "lou", "mia") if slug not in booking.hosts)
    booking = acme.reassign(booking.id, host=stand_in, reason="ill")
    table.add_row(when(booking.start), *booking.hosts, booking.assigned_because)
    console.print(table)
    weekly = [start + timedelta(days=1 + n) for n in range(3)]
    series = acme.book_series("advice", starts=weekly, attendee=HENRY)
    say(f"a series of {len(series)}, with {', '.join(sorted({slug for one in series for slug in one.hosts}))}")


def help_yourself(acme: Tenant) -> None:
    """A link: whoever has it can move and cancel this booking, and nothing else."""
    chapter("A link for Grace")
    booking = next(one for one in acme.bookings(event_type="advice", status="confirmed") if one.attendee == GRACE)
    token = acme.manage_token(booking.id, expires=booking.end.replace(microsecond=0))
    say(f"https://acme.test/booking/{token}")
    mine = acme.with_token(token)
    slots = mine.find_slots(start=booking.start, end=booking.start + timedelta(days=1))
    moved = mine.reschedule(start=slots[-1].start)
    say(f"she moves it from {when(booking.start)} to {when(moved.start)}, and cancels it: {mine.cancel().status}")
    try:
        acme.with_token(token).booking()
    except InvalidToken as error:
        say(f"the link, after that: {error}")


async def go_on_with_asyncio(scheduler: Scheduler, tenant: str) -> None:
    """The same, awaited: a hundred tasks on a handful of connections."""
    chapter("A hundred tasks of asyncio")
    async with AsyncScheduler(scheduler.engine.url) as asynchronous:
        acme = await asynchronous.tenant(tenant)
        monday = next_monday() + timedelta(days=7)
        slots = await acme.find_slots("advice", start=monday, end=monday + timedelta(days=5))

        async def book(n: int) -> str:
            try:
                await acme.book("advice", start=slots[n % len(slots)].start, attendee=Attendee(name=f"task {n}"))
            except SlotTaken as error:
                return error.code
            return "booked"

        came = Counter(await asyncio.gather(*[book(n) for n in range(100)]))
        say(f"{len(slots)} starts of three hosts: {came['booked']} booked, {came['slot_taken']} got SlotTaken")


def named(booking: Booking) -> str:
    """Who has a booking."""
    return booking.attendee.name if booking.attendee else "nobody"


def next_monday() -> datetime:
    """The first instant of the next Monday in London that is two days away or more."""
    today = datetime.now(ZoneInfo(ZONE)).date() + timedelta(days=2)
    monday = today + timedelta(days=-today.weekday() % 7)
    return datetime(monday.year, monday.month, monday.day, tzinfo=ZoneInfo(ZONE)).astimezone(UTC)


def when(start: datetime) -> str:
    """A start as London's clocks show it."""
    return f"{start.astimezone(ZoneInfo(ZONE)):%A} at {clock(start)}"


def clock(start: datetime) -> str:
    """The time of day in London."""
    return f"{start.astimezone(ZoneInfo(ZONE)):%H:%M}"


def chapter(title: str) -> None:
    """Begin a part."""
    console.print()
    console.rule(f"[bold]{title}", align="left", style="dim")


def say(words: str) -> None:
    """Print a line, however long."""
    console.print(words, markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
