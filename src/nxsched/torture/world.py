"""What is set up to be fought over: a few hosts, and event types of every kind."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from nxsched.domain.event_types import EventType, HostGroup, Limit
from nxsched.domain.hosts import Host, WeeklyHours
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

EVENT_TYPES: Final = (*HOSTS, "pool", "pair", "class", "course", "course", *EVENT_LIMITS)
"""What is booked, one of them more often."""


def furnish(tenant: Tenant) -> None:
    """Five hosts who are always open, two of them with limits, each with an event type of their own.

    And a pool, a pair, limited ones, two with seats, one that asks for approval, and one that is booked by force.
    """
    always = [WeeklyHours(days="mon-sun", start="00:00", end="24:00")]
    for slug in HOSTS:
        limits = [HOST_LIMITS[slug]] if slug in HOST_LIMITS else []
        tenant.save_host(Host(slug=slug, timezone="UTC", weekly_hours=always, limits=limits))
        tenant.save_event_type(EventType(slug=slug, duration=HALF, hosts=[slug]))
    pair = [HostGroup(members=["bob", "ada"], need="all"), HostGroup(members=["cyd", "dan"])]
    tenant.save_event_type(EventType(slug="pool", duration=HALF, hosts=HOSTS))
    tenant.save_event_type(EventType(slug="pair", duration=HALF, hosts=pair))
    limited = {slug: [limit] for slug, limit in EVENT_LIMITS.items()}
    tenant.save_event_type(EventType(slug="limited", duration=HALF, hosts=HOSTS, limits=limited["limited"]))
    tenant.save_event_type(EventType(slug="alone", duration=HALF, hosts=["eve"], limits=limited["alone"]))
    tenant.save_event_type(
        EventType(
            slug="asked",
            duration=HALF,
            buffer_after=HALF / 2,  # what stands at the next start is in its way, too
            hosts=MEMBERS["asked"],
            limits=limited["asked"],
            requires_approval=True,
        )
    )
    tenant.save_event_type(EventType(slug="class", duration=HALF, capacity=SEATS, hosts=["ada"]))
    course = MEMBERS["course"]
    tenant.save_event_type(
        EventType(slug="course", duration=HALF, capacity=SEATS, hosts=course, requires_approval=True)
    )
    tenant.save_event_type(EventType(slug=FORCED, duration=HALF, hosts=["cyd", "dan", "eve"]))
