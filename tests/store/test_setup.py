"""The set-up side: tenants, hosts, event types, blocked and busy time are kept as they were given, and decide slots."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from uuid import uuid4

import pytest

from nxsched import (
    Attendee,
    BlockedPeriod,
    BlockedPeriodNotFound,
    BookingWindow,
    BusyTime,
    EventType,
    EventTypeNotFound,
    Host,
    HostGroup,
    HostNotFound,
    IdempotencyConflict,
    InvalidInput,
    Limit,
    Override,
    Policies,
    Question,
    Scheduler,
    SlotUnavailable,
    Tenant,
    TenantDetails,
    TenantNotFound,
    Travel,
    WeeklyHours,
)
from store.conftest import DAY, HALF, HOUR, NINE, NOW

GRACE = Attendee(name="Grace", email="grace@example.test")
NOON = NOW + 4 * HOUR
TUESDAY, WEDNESDAY = date(2026, 3, 3), date(2026, 3, 4)
ALL_DAY = 16
"""Half hours from 9 to 17."""

EVERYTHING = EventType(
    slug="everything",
    name="All there is",
    description="First line\n\n\ttabbed, with 'quotes' and \"more\"\r\nlast line",
    location="Room 5, 2nd floor",
    duration=HALF,
    durations=[timedelta(minutes=45), timedelta(minutes=60), timedelta(days=2)],
    step=timedelta(minutes=10),
    buffer_before=timedelta(minutes=5),
    buffer_after=timedelta(minutes=15),
    minimum_notice=timedelta(hours=2),
    booking_window=BookingWindow(days=60, from_date=date(2026, 3, 2), until_date=date(9999, 12, 31)),
    limits=[Limit(per="day", count=4), Limit(per="week", minutes=600), Limit(per="year", count=9, minutes=90)],
    align="clock",
    offset=timedelta(minutes=7),
    capacity=12,
    timezone="Asia/Kathmandu",
    hosts=[HostGroup(members=["ada", "bob"], need="all"), HostGroup(members=["cyd"])],
    questions=[
        Question(key="why", label="What brings you here?", required=True),
        Question(key="age", label="How old?", kind="number"),
        Question(key="new", label="For the first time?", kind="yes_no", required=True),
        Question(key="where", label="Where?", kind="choice", choices=["here", "there"]),
        Question(key="which", label="Which of these?", kind="choices", choices=["a", "b, c", "it's"]),
    ],
    requires_approval=True,
    policies=Policies(
        cancel_notice=timedelta(days=1), reschedule_notice=timedelta(0), most_moves=0, roles=["attendee", "parent"]
    ),
)


def starts(tenant: Tenant, event_type: str = "visit", *, start: datetime = NOW, days: int = 1) -> list[datetime]:
    return [slot.start for slot in tenant.find_slots(event_type, start=start, end=start + days * DAY)]


# --- tenants ---------------------------------------------------------------------------------------------------------


def test_a_tenant_is_kept_as_it_was_made(scheduler: Scheduler) -> None:
    settings = {"theme": {"dark": True}, "tags": ["a", None, 1, 1.5], "": "empty key"}
    made = scheduler.create_tenant("acme", name="Acme Ltd", sender="bookings@acme.test", settings=settings)
    wanted = TenantDetails(id="acme", name="Acme Ltd", sender="bookings@acme.test", settings=settings)
    assert made.details() == scheduler.tenant("acme").details() == wanted


def test_a_tenant_is_made_once(scheduler: Scheduler) -> None:
    scheduler.create_tenant("acme", name="Acme Ltd")
    with pytest.raises(InvalidInput) as caught:
        scheduler.create_tenant("acme", name="Another")
    assert (caught.value.field, caught.value.reason) == (
        "id",
        'there is a tenant "acme" already, which scheduler.tenant gives',
    )
    assert scheduler.tenant("acme").details().name == "Acme Ltd"


def test_with_a_key_a_tenant_may_be_made_again_and_is_made_once(scheduler: Scheduler) -> None:
    for _ in range(2):
        assert scheduler.create_tenant("acme", name="Acme Ltd", idempotency_key="k").id == "acme"
    with pytest.raises(IdempotencyConflict):
        scheduler.create_tenant("acme", name="Another", idempotency_key="k")
    with pytest.raises(InvalidInput):
        scheduler.create_tenant("acme", name="Acme Ltd", idempotency_key="another")
    assert [(one.id, one.name) for one in scheduler.tenants()] == [("acme", "Acme Ltd")]


def test_a_tenant_that_is_not_there_is_an_error_with_its_id(scheduler: Scheduler) -> None:
    with pytest.raises(TenantNotFound) as caught:
        scheduler.tenant("nobody")
    assert caught.value.id == "nobody"


def test_details_can_be_changed_but_not_the_id(acme: Tenant) -> None:
    changed = TenantDetails(id="acme", name="Acme plc", settings={"a": 1})
    assert acme.save_details(changed) == acme.details() == changed
    with pytest.raises(InvalidInput) as caught:
        acme.save_details(replace(changed, id="other"))
    assert (caught.value.field, caught.value.reason) == ("details.id", 'must be "acme"; it never changes')
    assert acme.details() == changed


# --- hosts -----------------------------------------------------------------------------------------------------------

EVERY_HOST = Host(
    slug="eve",
    name="Eve O'Hara",
    email="eve@acme.test",
    timezone="America/St_Johns",
    weekly_hours=[
        WeeklyHours(days="mon-fri", start="09:00", end="12:30"),
        WeeklyHours(days=["sat", "sun"], start="22:00", end="06:00"),
        WeeklyHours(days="mon", start="00:00", end="24:00"),
    ],
    overrides=[Override(date=date(2026, 3, 2)), Override(date=date(2026, 3, 3), hours=[("10:00", "11:00")])],
    travel=[
        Travel(from_date=date(2026, 4, 1), until_date=date(2026, 4, 3), timezone="Asia/Tokyo"),
        Travel(from_date=date(2026, 3, 9), until_date=date(2026, 3, 9), timezone="Europe/Paris"),
    ],
    limits=[Limit(per="month", minutes=600)],
    attributes={"languages": ["en", "日本語"], "rate": 1.25, "nested": {"empty": {}, "none": None}},
)


def test_a_host_is_kept_as_it_was_given(acme: Tenant) -> None:
    assert acme.save_host(EVERY_HOST) == EVERY_HOST
    assert acme.host("eve") == EVERY_HOST
    assert acme.hosts()[-1] == EVERY_HOST


def test_saving_a_host_again_replaces_all_of_it(acme: Tenant) -> None:
    acme.save_host(EVERY_HOST)
    bare = Host(slug="eve", timezone="UTC")
    acme.save_host(bare)
    assert acme.host("eve") == bare
    assert [host.slug for host in acme.hosts()] == ["ada", "bob", "cyd", "eve"]


def test_what_a_caller_does_to_the_attributes_it_was_given_stays_with_it(scheduler: Scheduler, acme: Tenant) -> None:
    other = scheduler.create_tenant("other", name="Other")
    other.save_host(acme.host("ada"))
    acme.host("ada").attributes["note"] = "private"  # type: ignore[index]
    assert acme.host("ada").attributes == other.host("ada").attributes == {}


def test_an_archived_host_is_offered_no_more_until_it_is_saved_again(acme: Tenant) -> None:
    ada = acme.host("ada")
    acme.archive_host("ada")
    acme.archive_host("ada")  # once more changes nothing
    assert acme.host("ada") == replace(ada, archived=True)
    assert [host.slug for host in acme.hosts()] == ["bob", "cyd"]
    assert [host.slug for host in acme.hosts(archived=True)] == ["ada", "bob", "cyd"]
    assert (starts(acme), starts(acme, "all")) == ([], [])
    assert {slot.hosts for slot in acme.find_slots("any", start=NOW, end=NOW + DAY)} == {("bob", "cyd")}
    with pytest.raises(SlotUnavailable):
        acme.book("visit", start=NINE, attendee=GRACE)
    acme.save_host(ada)
    assert acme.host("ada") == ada
    assert len(starts(acme)) == ALL_DAY


def test_a_host_can_be_saved_as_archived(acme: Tenant) -> None:
    acme.save_host(replace(acme.host("ada"), archived=True))
    assert acme.host("ada").archived
    assert starts(acme) == []


def test_a_host_that_is_not_there_is_an_error_with_its_slug(acme: Tenant) -> None:
    for call in (acme.host, acme.archive_host, acme.blocked_periods):
        with pytest.raises(HostNotFound) as caught:
            call("nobody")
        assert caught.value.slug == "nobody"


# --- event types -----------------------------------------------------------------------------------------------------


def test_an_event_type_is_kept_as_it_was_given(acme: Tenant) -> None:
    assert acme.save_event_type(EVERYTHING) == EVERYTHING
    assert acme.event_type("everything") == EVERYTHING
    assert [one.slug for one in acme.event_types()] == ["all", "any", "everything", "visit"]
    assert acme.event_types()[2] == EVERYTHING


@pytest.mark.parametrize(
    "policies",
    [
        Policies(),
        Policies(cancel_notice=timedelta(0)),
        Policies(reschedule_notice=timedelta(0), most_moves=0),
        Policies(cancel_notice=timedelta(days=366), most_moves=3, roles=[]),
    ],
)
def test_policies_are_kept_also_those_of_no_time_at_all(acme: Tenant, policies: Policies) -> None:
    acme.save_event_type(replace(EVERYTHING, policies=policies))
    assert acme.event_type("everything").policies == policies


def test_saving_an_event_type_again_replaces_all_of_it(acme: Tenant) -> None:
    acme.save_event_type(EVERYTHING)
    bare = EventType(slug="everything", duration=HALF, hosts=["cyd"])
    acme.save_event_type(bare)
    assert acme.event_type("everything") == bare


def test_an_unknown_member_is_named_with_its_place(acme: Tenant) -> None:
    groups = [HostGroup(members=["ada"]), HostGroup(members=["bob", "nobody"])]
    with pytest.raises(InvalidInput) as caught:
        acme.save_event_type(EventType(slug="new", duration=HALF, hosts=groups))
    assert caught.value.field == "event_type.hosts[1].members[1]"
    assert caught.value.reason == 'there is no host "nobody"'
    with pytest.raises(EventTypeNotFound):
        acme.event_type("new")


def test_an_event_type_needs_a_slug_to_be_stored(acme: Tenant) -> None:
    with pytest.raises(InvalidInput) as caught:
        acme.save_event_type(EventType(slug="", duration=HALF, hosts=["ada"]))
    assert caught.value.field == "event_type.slug"


def test_members_that_leave_take_no_part_and_those_that_enter_do(acme: Tenant) -> None:
    acme.save_event_type(replace(acme.event_type("any"), hosts=["cyd", "ada"]))
    slot = acme.find_slots("any", start=NOW, end=NOW + DAY)[0]
    assert slot.hosts == ("cyd", "ada")
    acme.save_event_type(replace(acme.event_type("any"), hosts=["bob"]))
    assert {slot.hosts for slot in acme.find_slots("any", start=NOW, end=NOW + DAY)} == {("bob",)}


def test_an_archived_event_type_can_be_read_but_not_booked_until_it_is_saved_again(acme: Tenant) -> None:
    visit = acme.event_type("visit")
    acme.archive_event_type("visit")
    acme.archive_event_type("visit")
    with pytest.raises(EventTypeNotFound) as caught:
        acme.find_slots("visit", start=NOW, end=NOW + DAY)
    assert caught.value.slug == "visit"
    with pytest.raises(EventTypeNotFound):
        acme.explain("visit", start=NINE)
    with pytest.raises(EventTypeNotFound):
        acme.book("visit", start=NINE, attendee=GRACE)
    assert acme.event_type("visit") == replace(visit, archived=True)
    assert [one.slug for one in acme.event_types()] == ["all", "any"]
    assert [one.slug for one in acme.event_types(archived=True)] == ["all", "any", "visit"]
    acme.save_event_type(visit)
    assert acme.event_type("visit") == visit
    assert len(starts(acme)) == ALL_DAY


def test_an_event_type_that_is_not_there_is_an_error_with_its_slug(acme: Tenant) -> None:
    for call in (acme.event_type, acme.archive_event_type):
        with pytest.raises(EventTypeNotFound) as caught:
            call("nothing")
        assert caught.value.slug == "nothing"


# --- blocked periods -------------------------------------------------------------------------------------------------


def test_blocked_dates_take_whole_days_away(acme: Tenant) -> None:
    period = acme.block("ada", BlockedPeriod(start=TUESDAY, end=WEDNESDAY, reason="away"))
    assert period == BlockedPeriod(start=TUESDAY, end=WEDNESDAY, reason="away", id=period.id)
    assert acme.blocked_periods("ada") == [period]
    assert acme.blocked_periods("bob") == acme.blocked_periods() == []
    assert {at.date() for at in starts(acme, days=5)} == {date(2026, 3, day) for day in (2, 5, 6)}
    refused = acme.explain("visit", start=NINE + DAY)
    assert [(one.code, one.host, one.reason, one.id) for one in refused if one.code == "blocked"] == [
        ("blocked", "ada", "away", period.id)
    ]


def test_a_date_without_an_end_is_that_day_alone(acme: Tenant) -> None:
    acme.block("ada", BlockedPeriod(start=TUESDAY))
    assert [len(starts(acme, start=NOW + n * DAY)) for n in range(3)] == [ALL_DAY, 0, ALL_DAY]


def test_a_wall_time_with_a_rule_takes_lunch_away_every_day(acme: Tenant) -> None:
    lunch = BlockedPeriod(start=datetime(2026, 2, 2, 12), end=datetime(2026, 2, 2, 13), rrule="FREQ=DAILY")  # noqa: DTZ001
    period = acme.block("ada", lunch)
    assert acme.blocked_periods("ada") == [replace(lunch, id=period.id)]
    for week in range(6):  # the clocks change on 29 March: lunch is at noon on the wall
        day = NOW + timedelta(weeks=week)
        assert {at.hour + (week > 3) for at in starts(acme, start=day)} == {9, 10, 11, 13, 14, 15, 16}


def test_instants_take_their_own_time_away_in_whatever_zone_they_were_given(acme: Tenant) -> None:
    elsewhere = timezone(timedelta(hours=9))
    given = BlockedPeriod(
        start=(NINE + HOUR).astimezone(elsewhere), end=(NINE + 2 * HOUR).astimezone(elsewhere), reason="dentist"
    )
    period = acme.block("ada", given)
    assert acme.blocked_periods("ada") == [period]
    assert {NINE + HOUR, NINE + HOUR + HALF} & set(starts(acme)) == set()
    assert len(starts(acme)) == ALL_DAY - 2


def test_a_closure_of_the_tenant_takes_the_time_of_all_hosts(acme: Tenant) -> None:
    period = acme.block(None, BlockedPeriod(start=TUESDAY, reason="inventory"))
    assert acme.blocked_periods() == [period]
    assert acme.blocked_periods("ada") == []
    for event_type in ("visit", "any", "all"):
        assert starts(acme, event_type, start=NOW + DAY) == []
        assert len(starts(acme, event_type)) == ALL_DAY


def test_what_is_unblocked_is_offered_again(acme: Tenant) -> None:
    period = acme.block("ada", BlockedPeriod(start=date(2026, 3, 2)))
    assert period.id is not None
    assert starts(acme) == []
    acme.unblock(period.id.upper())
    assert acme.blocked_periods("ada") == []
    assert len(starts(acme)) == ALL_DAY
    with pytest.raises(BlockedPeriodNotFound) as caught:
        acme.unblock(period.id)
    assert caught.value.id == period.id
    with pytest.raises(InvalidInput) as refused:
        acme.unblock("no id")
    assert refused.value.field == "id"


def test_who_repeats_a_call_that_blocked_what_was_taken_away_since_is_told_so(acme: Tenant) -> None:
    period = BlockedPeriod(start=TUESDAY)
    blocked = acme.block("ada", period, idempotency_key="holiday")
    assert acme.block("ada", period, idempotency_key="holiday") == blocked
    assert blocked.id is not None
    acme.unblock(blocked.id)
    with pytest.raises(BlockedPeriodNotFound):
        acme.block("ada", period, idempotency_key="holiday")
    assert acme.blocked_periods("ada") == []


def test_blocked_periods_come_by_their_beginning(acme: Tenant) -> None:
    days = [date(2026, 5, 1), date(2025, 1, 1), date(2026, 3, 2)]
    for day in days:
        acme.block("ada", BlockedPeriod(start=day))
    assert [one.start for one in acme.blocked_periods("ada")] == sorted(days)


def test_an_id_of_the_applications_own_is_kept_and_serves_once(acme: Tenant) -> None:
    mine = str(uuid4())
    period = acme.block("ada", BlockedPeriod(start=TUESDAY, id=mine.upper()))
    assert period.id == mine
    assert acme.blocked_periods("ada") == [period]
    with pytest.raises(InvalidInput) as caught:
        acme.block("bob", BlockedPeriod(start=WEDNESDAY, id=mine))
    assert caught.value.field == "period.id"
    assert acme.blocked_periods("bob") == []
    with pytest.raises(InvalidInput) as caught:
        acme.block("ada", BlockedPeriod(start=WEDNESDAY, id="mine"))
    assert caught.value.field == "period.id"


def _lunch(day: date, rule: str) -> BlockedPeriod:
    noon = datetime(day.year, day.month, day.day, 12)  # noqa: DTZ001
    return BlockedPeriod(start=noon, end=noon + HOUR, rrule=rule)


@pytest.mark.parametrize(
    ("period", "blocks"),
    [
        (_lunch(date(2020, 1, 1), "FREQ=DAILY;UNTIL=20990101"), (True, True)),
        (_lunch(date(2020, 1, 1), "FREQ=DAILY;UNTIL=99991231T235959Z"), (True, True)),
        (_lunch(date(2020, 1, 1), "FREQ=DAILY;UNTIL=20260301"), (False, False)),
        (_lunch(date(2020, 1, 1), "FREQ=DAILY;UNTIL=20260302T120000"), (True, False)),
        (_lunch(date(2020, 1, 1), "FREQ=DAILY;UNTIL=20260302T115959Z"), (False, False)),
        (_lunch(date(2026, 2, 28), "FREQ=DAILY;COUNT=3"), (True, False)),
        (_lunch(date(2016, 3, 7), "FREQ=WEEKLY;COUNT=1000"), (True, False)),
        (_lunch(date(2020, 1, 1), "FREQ=DAILY;COUNT=10"), (False, False)),
        (_lunch(date(1900, 1, 1), "FREQ=WEEKLY"), (True, False)),
        (_lunch(date(2090, 1, 1), "FREQ=DAILY"), (False, False)),
        (BlockedPeriod(start=date(2020, 1, 1), end=date(9999, 12, 31)), (True, True)),
        (BlockedPeriod(start=date(1900, 1, 1), end=date(2026, 3, 2)), (True, False)),
        (BlockedPeriod(start=date(1900, 3, 2), end=date(9999, 12, 31), rrule="FREQ=YEARLY"), (True, True)),
        (BlockedPeriod(start=date(9999, 12, 31)), (False, False)),
        (
            BlockedPeriod(start=date(2026, 3, 1), end=date(2026, 3, 2), rrule="FREQ=YEARLY;UNTIL=20260301"),
            (True, False),
        ),
    ],
)
def test_a_period_blocks_however_far_it_reaches(acme: Tenant, period: BlockedPeriod, blocks: tuple[bool, bool]) -> None:
    kept = acme.block("ada", period)
    assert acme.blocked_periods("ada") == [kept]
    assert tuple(NOON + n * DAY not in starts(acme, start=NOW + n * DAY) for n in range(2)) == blocks


def test_instants_at_the_edge_of_the_years_are_kept_or_refused(acme: Tenant) -> None:
    for hours in (-12, 0, 14):
        zone = timezone(timedelta(hours=hours))
        for start in (datetime(1900, 1, 1, tzinfo=zone), datetime(8999, 12, 31, 22, tzinfo=zone)):
            try:
                acme.block("ada", BlockedPeriod(start=start, end=start + HOUR))
            except InvalidInput as error:
                assert error.field in {"start", "end"}  # noqa: PT017 - either is right
    assert {one.start.year for one in acme.blocked_periods("ada")} == {1900, 8999}
    assert len(starts(acme)) == ALL_DAY


# --- outside busy time -----------------------------------------------------------------------------------------------


def test_busy_time_takes_slots_away_and_is_read_back_in_utc(acme: Tenant) -> None:
    zone = timezone(timedelta(hours=-5))
    periods = [((NINE + HOUR).astimezone(zone), (NINE + 2 * HOUR).astimezone(zone))]
    acme.replace_busy("ada", source="google", start=NOW, end=NOW + DAY, periods=periods)
    found = acme.busy("ada", start=NOW, end=NOW + DAY)
    assert found == [BusyTime(source="google", start=NINE + HOUR, end=NINE + 2 * HOUR)]
    assert found[0].start.tzinfo is UTC
    assert len(starts(acme)) == ALL_DAY - 2
    assert acme.busy("bob", start=NOW, end=NOW + DAY) == []


def test_busy_time_is_replaced_in_its_range_and_for_its_source_alone(acme: Tenant) -> None:
    def report(source: str, day: int, *hours: int) -> None:
        start = NOW + day * DAY
        periods = [(start + hour * HOUR, start + (hour + 1) * HOUR) for hour in hours]
        acme.replace_busy("ada", source=source, start=start, end=start + DAY, periods=periods)

    def told() -> list[tuple[str, int, int]]:
        found = acme.busy("ada", start=NOW - DAY, end=NOW + 5 * DAY)
        return sorted((one.source, (one.start - NOW).days, (one.start - NOW).seconds // 3600) for one in found)

    report("google", 0, 1, 2)
    report("google", 1, 3)
    report("outlook", 0, 2)
    assert told() == [("google", 0, 1), ("google", 0, 2), ("google", 1, 3), ("outlook", 0, 2)]
    report("google", 0, 4)
    assert told() == [("google", 0, 4), ("google", 1, 3), ("outlook", 0, 2)]
    report("google", 0)
    assert told() == [("google", 1, 3), ("outlook", 0, 2)]
    assert NOW + 2 * HOUR not in starts(acme)


def test_what_ends_where_the_range_begins_stays(acme: Tenant) -> None:
    acme.replace_busy("ada", source="a", start=NOW, end=NINE, periods=[(NOW, NINE)])
    acme.replace_busy("ada", source="a", start=NINE, end=NOON, periods=[(NINE, NOON)])
    assert [one.start for one in acme.busy("ada", start=NOW, end=NOON)] == [NOW, NINE]
    assert [one.start for one in acme.busy("ada", start=NINE, end=NOON)] == [NINE]
    assert acme.busy("ada", start=NOON, end=NOON + HOUR) == []


def test_empty_busy_time_is_left_out_and_fractions_are_widened(acme: Tenant) -> None:
    fraction = timedelta(microseconds=1)
    periods = [(NINE, NINE), (NINE + HOUR + fraction, NINE + HOUR + 2 * fraction)]
    acme.replace_busy("ada", source="a", start=NOW, end=NOON, periods=periods)
    one = BusyTime(source="a", start=NINE + HOUR, end=NINE + HOUR + timedelta(seconds=1))
    assert acme.busy("ada", start=NOW, end=NOON) == [one]


@pytest.mark.parametrize(
    ("start", "end", "periods", "field"),
    [
        (NINE, NINE, [], "end"),
        (NOON, NINE, [], "end"),
        (NINE, NOON, [(NINE, NINE + HOUR), (NOON, NOON + HOUR)], "periods[1]"),
        (NINE, NOON, [(NOW, NINE)], "periods[0]"),
        (NINE, NOON, [(NOON, NINE)], "periods[0][1]"),
        (NINE, NOON, [(NINE, NINE.replace(tzinfo=None))], "periods[0][1]"),
        (NINE.replace(tzinfo=None), NOON, [], "start"),
        (NINE, NOON, [(NINE, NOON)] * 10_001, "periods"),
        (NINE, NOON, "ab", "periods"),
    ],
)
def test_busy_time_that_cannot_be_is_refused(
    acme: Tenant, start: datetime, end: datetime, periods: list[tuple[datetime, datetime]], field: str
) -> None:
    acme.replace_busy("ada", source="a", start=NOW, end=NOW + DAY, periods=[(NINE, NOON)])
    with pytest.raises(InvalidInput) as caught:
        acme.replace_busy("ada", source="a", start=start, end=end, periods=periods)
    assert caught.value.field == field
    assert len(acme.busy("ada", start=NOW, end=NOW + DAY)) == 1


def test_busy_time_of_a_host_that_is_not_there_is_an_error(acme: Tenant) -> None:
    with pytest.raises(HostNotFound):
        acme.replace_busy("nobody", source="a", start=NINE, end=NOON, periods=[])
    with pytest.raises(HostNotFound):
        acme.busy("nobody", start=NINE, end=NOON)
    with pytest.raises(InvalidInput) as caught:
        acme.busy("ada", start=NOON, end=NINE)
    assert caught.value.field == "end"


# --- what exists -----------------------------------------------------------------------------------------------------


def test_settings_that_change_never_change_bookings_that_exist(acme: Tenant) -> None:
    booked = [acme.book(slug, start=NINE + n * HOUR, attendee=GRACE) for n, slug in enumerate(("visit", "any", "all"))]
    hold = acme.place_hold("visit", start=NINE + 5 * HOUR)
    trails = [acme.history(one.id) for one in booked]
    for slug in ("visit", "any", "all"):
        acme.save_event_type(
            replace(EVERYTHING, slug=slug, duration=timedelta(minutes=5), hosts=["cyd"], location="elsewhere")
        )
        acme.archive_event_type(slug)
    for slug in ("ada", "bob", "cyd"):
        acme.save_host(Host(slug=slug, timezone="Asia/Tokyo", limits=[Limit(per="year", count=1)]))
        acme.archive_host(slug)
    acme.block(None, BlockedPeriod(start=date(2020, 1, 1), end=date(2030, 1, 1)))
    acme.save_details(TenantDetails(id="acme", name="Renamed", sender="new@acme.test"))
    assert [acme.booking(one.id) for one in booked] == booked
    assert acme.bookings().items == tuple(booked)
    assert [acme.history(one.id) for one in booked] == trails
    assert acme.holds() == [hold]
    assert acme.cancel(booked[0].id).status == "cancelled"
