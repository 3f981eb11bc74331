"""What is set up to be fought over: a few hosts, and event types of every kind."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from nxsched.domain.event_types import EventType, HostGroup, Limit
from nxsched.domain.hosts import Host, WeeklyHours
from nxsched.domain.webhooks import Webhook
from nxsched.tenant import Tenant

TENANTS: Final = ("acme", "zeta")
"""Two, whose hosts and event types have the same names; most happens to the first."""

HALF: Final = timedelta(minutes=30)
HOSTS: Final = ("ada", "bob", "cyd", "dan", "eve")

EVENT_LIMITS: Final = {
    "limited": Limit(per="day", count=3),
    "alone": Limit(per="day", minutes=90),
    "asked": Limit(per="day", count=2),
}
HOST_LIMITS: Final = {"dan": Limit(per="day", count=3), "eve": Limit(per="day", minutes=120)}
SEATS: Final = 3
"""Of the event types `class`, with one host, and `course`, with any of three."""

MEMBERS: Final = {
    "pool": HOSTS,
    "limited": HOSTS,
    "asked": ("bob", "eve"),
    "course": ("bob", "cyd", "dan"),
}
"""Who may have the bookings of an event type that has several to choose from."""

FORCED: Final = "forced"
"""The event type that is booked by force, and in no other way."""

SPARE: Final = "spare"
"""A host and an event type of whom nothing is booked."""

EVENT_TYPES: Final = (*HOSTS, "pool", "pair", "class", "course", "course", *EVENT_LIMITS)
"""What is booked, one of them more often."""


_ALWAYS: Final = [WeeklyHours(days="mon-sun", start="00:00", end="24:00")]

HOSTS_SAVED: Final = [
    Host(
        slug=slug,
        timezone="UTC",
        weekly_hours=_ALWAYS,
        limits=[HOST_LIMITS[slug]] if slug in HOST_LIMITS else [],
    )
    for slug in (*HOSTS, SPARE)
]
"""Five who are always open, two of them with limits, and one who is archived and brought back."""

EVENT_TYPES_SAVED: Final = [
    *[EventType(slug=slug, duration=HALF, hosts=[slug]) for slug in HOSTS],
    EventType(slug="pool", duration=HALF, hosts=MEMBERS["pool"]),
    EventType(
        slug="pair",
        duration=HALF,
        hosts=[HostGroup(members=["bob", "ada"], need="all"), HostGroup(members=["cyd", "dan"])],
    ),
    EventType(slug="limited", duration=HALF, hosts=MEMBERS["limited"], limits=[EVENT_LIMITS["limited"]]),
    EventType(slug="alone", duration=HALF, hosts=["eve"], limits=[EVENT_LIMITS["alone"]]),
    EventType(
        slug="asked",
        duration=HALF,
        buffer_after=HALF / 2,  # what stands at the next start is in its way, too
        hosts=MEMBERS["asked"],
        limits=[EVENT_LIMITS["asked"]],
        requires_approval=True,
    ),
    EventType(slug="class", duration=HALF, capacity=SEATS, hosts=["ada"]),
    EventType(slug="course", duration=HALF, capacity=SEATS, hosts=MEMBERS["course"], requires_approval=True),
    EventType(slug=FORCED, duration=HALF, hosts=["cyd", "dan", "eve"]),
    EventType(slug=SPARE, duration=HALF, hosts=["ada"]),
]
"""One for each host, a pool, a pair, limited ones, one that asks for approval, two with seats, one booked by force."""


def furnish(tenant: Tenant) -> None:
    """Save them."""
    for host in HOSTS_SAVED:
        tenant.save_host(host)
    for event_type in EVENT_TYPES_SAVED:
        tenant.save_event_type(event_type)
    tenant.webhooks.save(Webhook(url="https://receiver.invalid/"))
