"""What tests of bookings have in common: people, and the database looked at past all Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import text

from nxsched import Actor, Attendee
from store.conftest import Database

GRACE = Attendee(name="Grace", email="grace@example.test", timezone="America/New_York", reference="user-7")
ALAN = Attendee(name="Alan")
STAFF = Actor(role="staff", id="9", name="Nina")

ACTS: dict[str, Callable[..., Any]] = {
    "cancel": lambda tenant, id_, **more: tenant.cancel(id_, **more),
    "confirm": lambda tenant, id_, **more: tenant.confirm_hold(id_, attendee=GRACE, **more),
    "confirm if free": lambda tenant, id_, **more: tenant.confirm_hold(id_, attendee=GRACE, if_free=True, **more),
    "release": lambda tenant, id_, **more: tenant.release_hold(id_, **more),
}
"""What can be done to a hold or a booking: called with the tenant, the id and options such as `within`."""


def rows(db: Database, statement: str, **values: object) -> Sequence[Any]:
    """What a superuser sees, whom no policy binds."""
    with db.superuser.begin() as connection:
        return connection.execute(text(statement), values).all()


def count(db: Database, table: str, where: str = "true", **values: object) -> int:
    """How many rows there are."""
    found: int = rows(db, f"SELECT count(*) FROM nxsched.{table} WHERE {where}", **values)[0][0]  # noqa: S608 - ours
    return found


def trail(db: Database, booking_id: str) -> list[tuple[int, str, str]]:
    """Version, audited action and kind of event of each change of a booking: both are there, or the test fails."""
    found = rows(
        db,
        "SELECT coalesce(a.version, e.version), a.action, e.kind FROM nxsched.audit_entry a"
        " FULL JOIN nxsched.outbox_event e ON e.booking_id = a.booking_id AND e.version = a.version"
        " WHERE coalesce(a.booking_id, e.booking_id) = CAST(:id AS uuid) ORDER BY 1",
        id=booking_id,
    )
    return [(version, action, kind) for version, action, kind in found]


def assert_sound(db: Database) -> None:
    """What holds at any time, whatever was done: counted by raw SQL."""
    assert not rows(
        db,
        "SELECT a.host_no FROM nxsched.claim a JOIN nxsched.claim b ON a.host_no = b.host_no AND a.active AND b.active"
        " AND a.occurrence_id < b.occurrence_id AND a.busy_from < b.busy_until AND b.busy_from < a.busy_until",
    ), "two active claims of a host overlap"
    assert not rows(
        db,
        "SELECT o.id FROM nxsched.occurrence o LEFT JOIN nxsched.claim c ON c.occurrence_id = o.id LEFT JOIN ("
        "   SELECT occurrence_id, starts_at, ends_at, CASE WHEN status IN ('held', 'pending') THEN expires_at"
        "     ELSE 'infinity' END AS ends FROM nxsched.booking"
        "   WHERE status IN ('held', 'pending', 'confirmed', 'completed', 'no_show')"
        " ) b ON b.occurrence_id = o.id GROUP BY o.id, o.active, o.held_until, c.active, c.held_until"
        ", o.starts_at, o.ends_at HAVING o.active <> (count(b.ends) > 0) OR c.active IS DISTINCT FROM o.active"
        " OR o.held_until IS DISTINCT FROM nullif(max(b.ends), 'infinity')"
        " OR c.held_until IS DISTINCT FROM o.held_until"
        " OR bool_or((b.starts_at, b.ends_at) <> (o.starts_at, o.ends_at))",
    ), "a claim and its bookings disagree on when the time is taken, and until when"
    assert not rows(
        db,
        "SELECT b.id FROM nxsched.booking b LEFT JOIN nxsched.audit_entry a ON a.booking_id = b.id"
        " GROUP BY b.id, b.version HAVING count(a.version) <> b.version OR max(a.version) <> b.version",
    ), "a change has no audit entry, or more than one"
    assert not rows(
        db,
        "SELECT b.id FROM nxsched.booking b LEFT JOIN nxsched.outbox_event e ON e.booking_id = b.id"
        " GROUP BY b.id, b.version HAVING count(e.version) <> b.version OR max(e.version) <> b.version",
    ), "a change has no event, or more than one"
    assert not rows(
        db,
        "SELECT o.id FROM nxsched.occurrence o LEFT JOIN nxsched.claim c ON c.occurrence_id = o.id"
        " LEFT JOIN nxsched.booking b ON b.occurrence_id = o.id WHERE o.active GROUP BY o.id"
        " HAVING count(c) = 0 OR count(b) = 0",
    ), "an occurrence stands for nothing"
