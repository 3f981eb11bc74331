"""Hold, confirm, release, book, cancel: what is promised, on every PostgreSQL."""

from __future__ import annotations

import pytest

from nxsched import Attendee, SlotTaken, Tenant
from store.conftest import NINE

GRACE = Attendee(name="Grace", email="grace@example.test", timezone="America/New_York", reference="user-7")


def test_what_is_booked_is_offered_no_more(acme: Tenant) -> None:
    booking = acme.book("visit", start=NINE, attendee=GRACE)
    assert (booking.start, booking.hosts, booking.status) == (NINE, ("ada",), "confirmed")
    with pytest.raises(SlotTaken) as caught:
        acme.book("visit", start=NINE, attendee=GRACE)
    assert caught.value.host == "ada"
    assert {reason.id for reason in caught.value.reasons if reason.code == "busy"} == {booking.id}
