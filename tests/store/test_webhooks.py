"""Webhooks: what changes is posted to the endpoints of its tenant, signed, and to no private address."""

from __future__ import annotations

import base64
import logging
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import httpx
import pytest
import trustme
from sqlalchemy import text
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from nxsched import (
    AsyncWebhookDelivery,
    Attendee,
    Backoff,
    Delivery,
    EventNotFound,
    InvalidInput,
    OutboxEvent,
    OutboxState,
    Relayed,
    Scheduler,
    SettableClock,
    Tenant,
    Webhook,
    WebhookAnswer,
    WebhookDelivery,
    WebhookNotFound,
    new_webhook_secret,
)
from nxsched.relay.webhooks import LARGEST
from nxsched.service.webhooks import MOST
from store.booked import GRACE, rows
from store.bridged import Bridge, every_face, transaction
from store.conftest import DAY, HALF, HOUR, NINE, NOW, Database, furnish
from store.receiving import Endpoint, endpoint, resolving
from store.recording import nodes, plan, recorded

HERE = ["127.0.0.0/8"]
MINUTE = timedelta(minutes=1)
LATER: dict[str, Any] = {"backoff": Backoff(first=MINUTE, factor=1, attempts=3)}


@pytest.fixture
def ours() -> Iterator[Endpoint]:
    with endpoint() as found:
        yield found


@pytest.fixture
def theirs() -> Iterator[Endpoint]:
    with endpoint() as found:
        yield found


def post(scheduler: Scheduler, *, relay: dict[str, Any] | None = None, **options: Any) -> Relayed:
    """What a relay posts of what is due."""
    given = {"allow": HERE, "allow_http": True, **options}
    if isinstance(cast("object", scheduler), Bridge):
        made = cast("Any", AsyncWebhookDelivery(**given))
        found: Relayed = cast("Any", scheduler).bare("relay")(made, **(relay or {})).run_once()
        return found
    return scheduler.relay(WebhookDelivery(**given), **(relay or {})).run_once()


def deliveries(tenant: Tenant, **wanted: Any) -> list[Delivery]:
    return list(tenant.webhooks.deliveries(**wanted))


def book(tenant: Tenant, at: timedelta = timedelta(), **more: Any) -> str:
    return tenant.book("visit", start=NINE + at, attendee=GRACE, **more).id


# What is posted.


@every_face
def test_each_change_is_posted_to_each_endpoint_of_its_tenant_in_order(
    scheduler: Scheduler, acme: Tenant, ours: Endpoint, theirs: Endpoint
) -> None:
    for one in (ours, theirs):
        acme.webhooks.save(Webhook(url=one.url))
    id_ = book(acme)
    acme.reschedule(id_, start=NINE + HOUR)
    acme.cancel(id_)
    assert post(scheduler) == Relayed(delivered=6)
    assert post(scheduler) == Relayed()
    for one in (ours, theirs):
        assert one.kinds == ["booking.confirmed", "booking.rescheduled", "booking.cancelled"]
        assert [(two.said["booking_id"], two.said["version"]) for two in one.posted] == [(id_, 1), (id_, 2), (id_, 3)]
        assert one.posted[0].path == "/hook?of=acme"


def test_what_is_posted_is_the_event_and_nothing_of_the_environment(
    scheduler: Scheduler, acme: Tenant, ours: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    acme.webhooks.save(Webhook(url=ours.url))
    book(acme)
    (event,) = scheduler.outbox.events()
    assert post(scheduler) == Relayed(delivered=1)
    (got,) = ours.posted
    assert got.said == {
        "type": "booking.confirmed",
        "timestamp": "2026-03-02T08:00:00Z",
        "id": event.id,
        "tenant": "acme",
        "booking_id": event.booking_id,
        "version": 1,
        "data": event.payload,
    }
    assert got.headers["webhook-id"] == event.id
    assert got.headers["Host"] == f"127.0.0.1:{ours.port}"
    assert got.headers["Content-Type"] == "application/json"
    assert got.headers["User-Agent"].startswith("nxsched/")


def test_the_official_verifier_accepts_what_is_posted_and_nothing_else(db: Database, ours: Endpoint) -> None:
    old, new = new_webhook_secret(), new_webhook_secret()
    with Scheduler(db.app, worker_url=db.worker) as scheduler:  # whose time is now, as the verifier's is
        acme = scheduler.create_tenant("acme", name="Acme")
        furnish(acme)
        saved = acme.webhooks.save(Webhook(url=ours.url, secrets=[new, old]))
        assert saved.secrets == (new, old)
        start = (datetime.now(UTC) + 30 * DAY).replace(hour=10, minute=0, second=0, microsecond=0)
        acme.book("visit", start=start, attendee=Attendee(name="Zoë Ångström"), force=True)
        assert post(scheduler) == Relayed(delivered=1)
    (got,) = ours.posted
    for secret in (old, new):  # a receiver may hold either
        assert Verifier(secret).verify(got.body, got.headers) == got.said
    stale = str(int(got.headers["webhook-timestamp"]) - 301)
    for secret, body, headers in (
        (new_webhook_secret(), got.body, got.headers),
        (new, got.body.replace("Zoë".encode(), b"Zoe"), got.headers),
        (new, got.body, {**got.headers, "webhook-id": "another"}),
        (new, got.body, {**got.headers, "webhook-timestamp": stale}),
    ):
        with pytest.raises(WebhookVerificationError):
            Verifier(secret).verify(body, headers)


def test_each_attempt_has_a_time_of_its_own_and_the_same_id(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock, ours: Endpoint
) -> None:
    acme.webhooks.save(Webhook(url=ours.url))
    ours.answers = [(500, {}), (200, {})]
    book(acme)
    post(scheduler, relay=LATER)
    clock.move(5 * MINUTE)
    assert post(scheduler) == Relayed(delivered=1)
    first, second = (one.headers for one in ours.posted)
    assert first["webhook-id"] == second["webhook-id"]
    assert int(second["webhook-timestamp"]) - int(first["webhook-timestamp"]) == 300
    assert first["webhook-signature"] != second["webhook-signature"]


def test_an_endpoint_gets_the_kinds_that_it_wants_from_when_it_was_saved(
    scheduler: Scheduler, acme: Tenant, ours: Endpoint
) -> None:
    early = book(acme)
    saved = acme.webhooks.save(Webhook(url=ours.url, kinds=["booking.cancelled", "booking.cancelled"]))
    assert saved.kinds == ("booking.cancelled",)
    book(acme, HOUR)
    acme.cancel(early)
    post(scheduler)
    assert ours.kinds == ["booking.cancelled"]
    acme.webhooks.save(replace(saved, enabled=False))
    acme.cancel(book(acme, 2 * HOUR))
    assert post(scheduler) == Relayed()
    acme.webhooks.save(replace(saved, kinds=()))
    book(acme, 3 * HOUR)
    post(scheduler)
    assert ours.kinds == ["booking.cancelled", "booking.confirmed"]


@every_face
def test_what_is_rolled_back_is_not_posted(scheduler: Scheduler, acme: Tenant, db: Database, ours: Endpoint) -> None:
    acme.webhooks.save(Webhook(url=ours.url))
    with transaction(scheduler, db, "READ COMMITTED") as within:
        acme.book("visit", start=NINE, attendee=GRACE, within=within)
    assert post(scheduler) == Relayed()
    assert deliveries(acme) == []


def test_events_go_to_a_function_and_to_endpoints_beside_each_other(
    scheduler: Scheduler, acme: Tenant, ours: Endpoint
) -> None:
    acme.webhooks.save(Webhook(url=ours.url))
    book(acme)
    got: list[str] = []
    assert scheduler.relay(lambda event: got.append(event.kind)).run_once() == Relayed(delivered=1)
    assert ours.posted == []
    assert post(scheduler) == Relayed(delivered=1)
    assert (got, ours.kinds) == (["booking.confirmed"], ["booking.confirmed"])


@every_face
def test_one_endpoint_of_the_applications_own_gets_the_events_of_all_tenants(
    scheduler: Scheduler, acme: Tenant, ours: Endpoint
) -> None:
    secret = new_webhook_secret()
    book(acme)
    if isinstance(cast("object", scheduler), Bridge):
        deliver = cast("Any", AsyncWebhookDelivery(allow=HERE, allow_http=True).to(ours.url, secrets=[secret]))
        done = cast("Any", scheduler).bare("relay")(deliver).run_once()
    else:
        done = scheduler.relay(WebhookDelivery(allow=HERE, allow_http=True).to(ours.url, secrets=[secret])).run_once()
    assert done == Relayed(delivered=1)
    assert ours.posted[0].said["tenant"] == "acme"
    assert scheduler.outbox.status().depth == 0


def test_a_body_that_would_be_too_large_comes_without_answers_and_metadata(
    scheduler: Scheduler, acme: Tenant, ours: Endpoint
) -> None:
    acme.webhooks.save(Webhook(url=ours.url))
    acme.book("visit", start=NINE, attendee=GRACE, metadata={"notes": "ä" * 15_000})
    acme.book("visit", start=NINE + HOUR, attendee=GRACE, metadata={"notes": "short"})
    post(scheduler)
    large, small = sorted((one.said for one in ours.posted), key=lambda one: one["data"]["booking"]["start"])
    assert (large["shortened"], large["data"]["booking"]["metadata"]) == (True, {})
    assert large["data"]["booking"]["attendee"]["name"] == "Grace"
    assert ("shortened" in small, small["data"]["booking"]["metadata"]) == (False, {"notes": "short"})
    assert max(len(one.body) for one in ours.posted) < LARGEST


def test_who_was_erased_is_not_posted_any_more(scheduler: Scheduler, acme: Tenant, ours: Endpoint) -> None:
    acme.webhooks.save(Webhook(url=ours.url))
    book(acme)
    acme.erase_attendee(email=GRACE.email)
    while post(scheduler).delivered:
        pass
    assert len(ours.posted) == 2
    assert all(b"Grace" not in one.body and one.said["data"]["booking"]["attendee"] is None for one in ours.posted)


# What fails.


def test_an_endpoint_that_fails_holds_up_no_other_and_repeats_nothing_to_it(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock, ours: Endpoint, theirs: Endpoint
) -> None:
    good, bad = (acme.webhooks.save(Webhook(url=one.url)).id for one in (ours, theirs))
    theirs.answer(500)
    first, second = book(acme), book(acme, HOUR)
    acme.cancel(first)
    assert post(scheduler, relay=LATER) == Relayed(delivered=3, failed=1)  # the other is not tried while it rests
    assert sorted(ours.kinds) == ["booking.cancelled", "booking.confirmed", "booking.confirmed"]
    assert len(theirs.posted) == 1
    done = Relayed()
    while done.dead < 2:
        assert len(theirs.posted) < 8
        clock.move(10 * MINUTE)
        done += post(scheduler, relay=LATER)
    assert done.delivered == 0
    theirs.answer(200)
    clock.move(10 * MINUTE)
    assert post(scheduler, relay=LATER) == Relayed(delivered=1)
    assert len(ours.posted) == 3
    assert theirs.kinds[-1] == "booking.cancelled"  # the one before it is dead
    states = {(one.webhook_id, one.booking_id, one.version): one.state for one in deliveries(acme)}
    assert {state for (webhook, *_), state in states.items() if webhook == good} == {OutboxState.DELIVERED}
    assert states[bad, first, 1] is states[bad, second, 1] is OutboxState.DEAD  # type: ignore[index]
    again = next(one for one in deliveries(acme, webhook=bad, state="dead") if one.booking_id == second)
    assert acme.webhooks.retry(again.id).state is OutboxState.WAITING
    assert post(scheduler) == Relayed(delivered=1)
    assert acme.webhooks.delivery(again.id).state is OutboxState.DELIVERED


def test_the_log_has_status_and_duration_of_the_last_attempt(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock, ours: Endpoint
) -> None:
    saved = acme.webhooks.save(Webhook(url=ours.url))
    ours.answer(503)
    id_ = book(acme)
    (one,) = deliveries(acme)
    assert (one.state, one.attempts, one.answer, one.error) == (OutboxState.WAITING, 0, None, None)
    post(scheduler, relay=LATER)
    (one,) = deliveries(acme, webhook=saved.id, booking=id_, state="waiting")
    assert (one.attempts, one.error) == (1, "PostFailed: it answered 503")
    assert one.answer is not None
    assert (one.answer.status, one.answer.url) == (503, ours.url)
    assert timedelta() < one.answer.took < timedelta(seconds=15)
    assert one.webhook == saved
    ours.answer(201)
    clock.move(2 * MINUTE)
    post(scheduler)
    (one,) = deliveries(acme)
    assert isinstance(one.answer, WebhookAnswer)
    assert (one.state, one.attempts, one.answer.status, one.error) == (OutboxState.DELIVERED, 2, 201, None)
    assert "whsec" not in repr(one)
    assert "Grace" not in repr(one)


def test_the_log_comes_in_pages(scheduler: Scheduler, acme: Tenant, ours: Endpoint, theirs: Endpoint) -> None:
    for one in (ours, theirs):
        acme.webhooks.save(Webhook(url=one.url))
    for i in range(5):
        book(acme, i * HALF)
    post(scheduler)
    found, after = list[str](), None
    while True:
        page = acme.webhooks.deliveries(limit=3, after=after)
        assert len(page) <= 3
        found += [one.id for one in page]
        if (after := page.after) is None:
            break
    assert len(found) == len({*found}) == 10
    assert found == [one.id for one in deliveries(acme, limit=1_000)]


def test_410_switches_an_endpoint_off_and_what_waits_for_it_is_dead(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock, ours: Endpoint, theirs: Endpoint
) -> None:
    saved = acme.webhooks.save(Webhook(url=ours.url))
    acme.webhooks.save(Webhook(url=theirs.url))
    ours.answer(410)
    acme.cancel(book(acme))
    assert post(scheduler) == Relayed(delivered=2, dead=1)
    clock.move(MINUTE)
    assert post(scheduler) == Relayed(dead=1)
    assert len(ours.posted) == 1
    found = acme.webhooks.get(saved.id or "")
    assert (found.enabled, found.disabled_because) == (False, "it answered 410 Gone")
    assert {one.error for one in deliveries(acme, state="dead")} == {
        "Undeliverable: it answered 410 Gone",
        "Undeliverable: the endpoint is disabled: it answered 410 Gone",
    }
    book(acme, HOUR)
    assert post(scheduler) == Relayed(delivered=1)  # to the other
    ours.answer(200)
    again = acme.webhooks.save(replace(found, enabled=True))
    assert (again.enabled, again.disabled_because, again.secrets) == (True, None, saved.secrets)
    for one in deliveries(acme, state="dead"):
        acme.webhooks.retry(one.id)
    post(scheduler)
    post(scheduler)
    assert ours.kinds == ["booking.confirmed", "booking.confirmed", "booking.cancelled"]


def test_410_of_an_old_address_does_not_switch_off_a_new_one(
    scheduler: Scheduler, acme: Tenant, ours: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = acme.webhooks.save(Webhook(url=ours.url.replace("127.0.0.1", "old.test")))
    ours.answer(410)
    book(acme)
    moved = replace(saved, url="https://new.test/")
    resolving(monkeypatch, "old.test", ["127.0.0.1"], then=lambda: acme.webhooks.save(moved))
    assert post(scheduler) == Relayed(dead=1)
    assert acme.webhooks.get(saved.id or "") == moved


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_a_failure_and_is_not_followed(
    scheduler: Scheduler, acme: Tenant, ours: Endpoint, theirs: Endpoint, status: int
) -> None:
    acme.webhooks.save(Webhook(url=ours.url))
    ours.answer(status, Location=theirs.url)
    book(acme)
    assert post(scheduler) == Relayed(failed=1)
    assert (len(ours.posted), theirs.posted) == (1, [])
    assert deliveries(acme)[0].error == f"PostFailed: it answered {status}"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry_After": "120"}, 120),
        ({"Retry_After": "Mon, 23 Nov 2026 10:02:00 GMT", "Date": "Mon, 23 Nov 2026 10:00:00 GMT"}, 120),
        ({"Retry_After": "Mon, 23 Nov 2026 09:00:00 GMT", "Date": "Mon, 23 Nov 2026 10:00:00 GMT"}, 0),
        ({"Retry_After": "soon"}, 0),
        ({"Retry_After": "-5"}, 0),
        ({"Retry_After": "9" * 400}, 0),
    ],
)
def test_an_endpoint_that_says_when_to_come_again_is_heard(
    scheduler: Scheduler, acme: Tenant, ours: Endpoint, headers: dict[str, str], seconds: int
) -> None:
    acme.webhooks.save(Webhook(url=ours.url))
    ours.answers = [(429, {name.replace("_", "-"): value for name, value in headers.items()})]
    book(acme)
    quick = {"backoff": Backoff(first=timedelta(milliseconds=1), factor=1)}
    assert post(scheduler, relay=quick) == Relayed(failed=1)
    (one,) = deliveries(acme)
    wait = (one.due_at - one.occurred_at).total_seconds()
    assert seconds <= wait < seconds + 1


def test_an_endpoint_that_never_ends_its_answer_fails_in_time(
    scheduler: Scheduler, acme: Tenant, ours: Endpoint
) -> None:
    acme.webhooks.save(Webhook(url=ours.url))
    ours.hangs.set()
    book(acme)
    assert post(scheduler, timeout=timedelta(seconds=0.3)) == Relayed(failed=1)
    (one,) = deliveries(acme)
    assert one.error == "PostFailed: no answer in 0.3 s"
    assert one.answer is not None
    assert one.answer.status is None


def test_who_is_not_there_is_tried_again(scheduler: Scheduler, acme: Tenant) -> None:
    acme.webhooks.save(Webhook(url="http://127.0.0.1:1/"))
    acme.webhooks.save(Webhook(url="http://nobody.invalid/"))
    book(acme)
    assert post(scheduler) == Relayed(failed=2)
    errors = sorted(str(one.error) for one in deliveries(acme))
    assert [one.partition(": ")[2].partition(":")[0] for one in errors] == ["ConnectError", "gaierror"]


def test_what_is_left_of_a_deleted_endpoint_is_not_posted(
    scheduler: Scheduler, acme: Tenant, db: Database, ours: Endpoint
) -> None:
    saved = acme.webhooks.save(Webhook(url=ours.url))
    book(acme)
    acme.webhooks.delete(saved.id or "")
    assert deliveries(acme) == []
    assert post(scheduler) == Relayed()
    # Somebody booked in a transaction that had seen it before, and committed afterwards.
    again = acme.webhooks.save(Webhook(url=ours.url))
    book(acme, HOUR)
    with db.superuser.begin() as connection:
        connection.execute(text("DELETE FROM nxsched.webhook"))
    assert post(scheduler) == Relayed(dead=1)
    (one,) = deliveries(acme)
    assert (one.webhook_id, one.webhook, one.error) == (
        again.id,
        None,
        "Undeliverable: the endpoint was deleted, or is of a newer version of nxsched",
    )
    assert ours.posted == []


# Whom we do not talk to.


PRIVATE = ["127.0.0.1", "10.1.2.3", "169.254.169.254", "192.168.0.1", "100.64.0.1", "0.0.0.0"]  # noqa: S104 - to be refused


@pytest.mark.parametrize("address", PRIVATE)
def test_no_private_address_is_talked_to_by_whatever_name(
    scheduler: Scheduler, acme: Tenant, ours: Endpoint, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    resolving(monkeypatch, "inside.test", [address])
    acme.webhooks.save(Webhook(url=f"http://inside.test:{ours.port}/"))
    acme.webhooks.save(Webhook(url=f"http://{address}:{ours.port}/"))
    book(acme)
    assert post(scheduler, allow=()) == Relayed(failed=2)
    assert ours.posted == []
    for one in deliveries(acme):
        assert one.error == (
            "PostFailed: NotAllowed: the host has no public address, nor one that the sender was allowed"
        )


def test_a_name_is_resolved_once_and_that_address_is_taken(
    scheduler: Scheduler, acme: Tenant, ours: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = resolving(monkeypatch, "rebind.test", ["127.0.0.1"], ["127.0.0.2"])
    acme.webhooks.save(Webhook(url=f"http://rebind.test:{ours.port}/"))
    book(acme)
    assert post(scheduler, allow=["127.0.0.1/32"]) == Relayed(delivered=1)
    assert asked == ["rebind.test"]
    assert ours.posted[0].headers["Host"] == f"rebind.test:{ours.port}"


def test_of_several_addresses_one_that_may_be_talked_to_and_answers_is_taken(
    scheduler: Scheduler, acme: Tenant, ours: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, "many.test", ["10.0.0.1", "127.0.0.77", "127.0.0.1"])
    acme.webhooks.save(Webhook(url=f"http://many.test:{ours.port}/"))
    book(acme)
    assert post(scheduler) == Relayed(delivered=1)


def test_plain_http_is_posted_to_where_that_was_allowed(scheduler: Scheduler, acme: Tenant, ours: Endpoint) -> None:
    acme.webhooks.save(Webhook(url=ours.url))
    book(acme)
    assert post(scheduler, allow_http=False) == Relayed(dead=1)
    assert deliveries(acme)[0].error == "Undeliverable: the endpoint is not https, and the sender has no allow_http"
    assert ours.posted == []


def test_a_certificate_has_to_be_of_the_name_that_was_asked_for(
    scheduler: Scheduler, acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("hooks.test").configure_cert(tls)
    known = ssl.create_default_context()
    authority.configure_trust(known)
    for name in ("hooks.test", "other.test"):
        resolving(monkeypatch, name, ["127.0.0.1"])
    with endpoint(tls=tls, host="hooks.test") as secure:
        acme.webhooks.save(Webhook(url=secure.url))
        acme.webhooks.save(Webhook(url=secure.url.replace("hooks", "other")))
        book(acme)
        assert post(scheduler, allow_http=False) == Relayed(failed=2)  # of an authority that nobody knows
        for one in deliveries(acme):
            acme.webhooks.retry(one.id)
        assert post(scheduler, allow_http=False, ssl_context=known) == Relayed(delivered=1, failed=1)
        assert [one.headers["Host"] for one in secure.posted] == [f"hooks.test:{secure.port}"]
    (failed,) = deliveries(acme, state="waiting")
    assert "certificate" in str(failed.error).lower()


def test_nothing_that_is_secret_is_logged(
    scheduler: Scheduler, acme: Tenant, ours: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="nxsched")
    saved = acme.webhooks.save(Webhook(url=ours.url))
    ours.answer(500)
    book(acme)
    post(scheduler)
    assert "failed in attempt 1 of 10" in caplog.text
    assert "delivery " in caplog.text
    assert saved.secrets[0] not in caplog.text
    assert "Grace" not in caplog.text
    assert saved.secrets[0] not in repr(saved)


@pytest.mark.slow
def test_a_lease_reads_no_more_than_it_needs_whatever_is_done_or_waits(
    db: Database, acme: Tenant, clock: SettableClock, ours: Endpoint
) -> None:
    """Ten thousand that are done, as many that wait for an older one, some that are due; for ten endpoints."""
    acme.webhooks.save(Webhook(url=ours.url))
    book(acme)
    with db.superuser.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for what, count, version, done, due in (
            ("done", 10_000, 1, NOW, NOW),
            ("head", 5_000, 1, None, NOW + DAY),
            ("head", 5_000, 2, None, NOW + DAY),
            ("due", 1_000, 1, None, NOW),
        ):
            connection.execute(
                text(
                    "WITH event AS (INSERT INTO nxsched.outbox_event"
                    " (tenant_id, id, booking_id, version, kind, payload, occurred_at, due_at)"
                    " SELECT 'acme', gen_random_uuid(), md5(:what || n)::uuid, :version, 'booking.confirmed', '{}',"
                    " :now, :now FROM generate_series(1, :count) n RETURNING *)"
                    " INSERT INTO nxsched.webhook_delivery (tenant_id, id, webhook_id, event_id, booking_id, version,"
                    " kind, occurred_at, due_at, done_at)"
                    " SELECT 'acme', gen_random_uuid(), md5(right(e.booking_id::text, 1))::uuid, e.id, e.booking_id,"
                    " :version, e.kind, :now, :due, :done FROM event e"
                ),
                {"what": what, "count": count, "version": version, "done": done, "due": due, "now": NOW},
            )
        connection.exec_driver_sql("VACUUM ANALYZE nxsched.webhook_delivery, nxsched.outbox_event")
    with Scheduler(db.app, worker_url=db.worker, clock=clock) as scheduler, recorded(db.worker) as sent:
        post(scheduler)
    asked = next(one for one in sent if "SKIP LOCKED" in one.sql)
    with db.worker.begin() as connection:
        top = plan(connection, asked, "ANALYZE")
        connection.rollback()
    assert not [one for one in nodes(top) if one["Node Type"] == "Seq Scan" and "webhook_delivery" in str(one)]
    assert max(one["Actual Rows"] * one["Actual Loops"] for one in nodes(top)) <= 200


# Setting up.


@every_face
def test_endpoints_are_saved_read_changed_and_deleted(scheduler: Scheduler, acme: Tenant) -> None:
    hooks = acme.webhooks
    one = hooks.save(Webhook(url="https://one.test/", kinds=["booking.confirmed"]), idempotency_key="a")
    assert hooks.save(Webhook(url="https://one.test/", kinds=["booking.confirmed"]), idempotency_key="a") == one
    assert one.id is not None
    assert len(base64.b64decode(one.secrets[0].removeprefix("whsec_"))) == 32
    two = hooks.save(Webhook(url="https://two.test/"))
    assert hooks.all() == [one, two]
    moved = hooks.save(Webhook(id=one.id, url="https://three.test/"))
    assert (moved.secrets, moved.kinds) == (one.secrets, ())
    assert hooks.get(one.id) == moved
    turned = hooks.save(replace(moved, secrets=(new_webhook_secret(), *moved.secrets)))
    assert hooks.get(one.id).secrets == turned.secrets
    hooks.delete(one.id)
    assert hooks.all() == [two]
    for call in (hooks.get, hooks.delete, lambda id_: hooks.save(Webhook(id=id_, url="https://one.test/"))):
        with pytest.raises(WebhookNotFound):
            call(one.id)
    with pytest.raises(WebhookNotFound):
        hooks.deliveries(webhook=one.id)
    zeta = scheduler.create_tenant("zeta", name="Zeta")
    for call in (zeta.webhooks.get, zeta.webhooks.delete):
        with pytest.raises(WebhookNotFound):
            call(two.id or "")
    assert zeta.webhooks.all() == []


def test_the_deliveries_of_another_tenant_are_nobody_elses(scheduler: Scheduler, acme: Tenant, ours: Endpoint) -> None:
    acme.webhooks.save(Webhook(url=ours.url))
    book(acme)
    (one,) = deliveries(acme)
    zeta = scheduler.create_tenant("zeta", name="Zeta")
    assert deliveries(zeta) == []
    for call in (zeta.webhooks.delivery, zeta.webhooks.retry, zeta.webhooks.discard):
        with pytest.raises(EventNotFound, match=rf"^there is no delivery {one.id} in the outbox"):
            call(one.id)
    assert acme.webhooks.discard(one.id).state is OutboxState.DISCARDED
    assert post(scheduler) == Relayed()
    with pytest.raises(InvalidInput, match=r"^id: was discarded already"):
        acme.webhooks.discard(one.id)


def test_a_tenant_has_a_hundred_endpoints_at_most(acme: Tenant) -> None:
    for i in range(MOST):
        acme.webhooks.save(Webhook(url=f"https://hooks.test/{i}"))
    with pytest.raises(InvalidInput, match=r"^webhook: there are 100 already"):
        acme.webhooks.save(Webhook(url="https://hooks.test/more"))
    last = acme.webhooks.all()[-1]
    assert acme.webhooks.save(replace(last, url="https://hooks.test/moved")).url == "https://hooks.test/moved"


def test_events_stay_while_an_endpoint_waits_for_them_and_take_their_log_with_them(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock, db: Database, ours: Endpoint
) -> None:
    acme.webhooks.save(Webhook(url=ours.url))
    book(acme)
    book(acme, HOUR)
    scheduler.relay(lambda _: None).run_once()
    (first, second) = deliveries(acme)
    acme.webhooks.discard(first.id)
    clock.move(31 * DAY)
    assert scheduler.sweep().events == 1
    assert [one.id for one in deliveries(acme)] == [second.id]
    ours.answer(500)
    post(scheduler, relay={"backoff": Backoff(attempts=1)})
    assert acme.webhooks.delivery(second.id).state is OutboxState.DEAD
    assert scheduler.sweep().events == 1, "what is dead is kept as long as what was delivered"
    assert rows(db, "SELECT 1 FROM nxsched.webhook_delivery") == []


SECRET = new_webhook_secret()


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"url": "ftp://one.test/"}, "url"),
        ({"url": "https:///path"}, "url"),
        ({"url": "one.test"}, "url"),
        ({"url": "https://user:secret@one.test/"}, "url"),
        ({"url": "https://one.test/#part"}, "url"),
        ({"url": "https://one.test:0/"}, "url"),
        ({"url": "https://one.test:99999/"}, "url"),
        ({"url": "https://one.test/a b"}, "url"),
        ({"url": "https://one.test/\r\nHost: two.test"}, "url"),
        ({"url": "https://bücher.test/"}, "url"),
        ({"url": "https://[::1/"}, "url"),
        ({"url": "https://one..test/"}, "url"),
        ({"url": "https://*.test/"}, "url"),
        ({"url": f"https://{'a' * 64}.test/"}, "url"),
        ({"url": "https://one.test/", "secrets": SECRET}, "secrets"),
        ({"url": "https://one.test/", "secrets": [SECRET.encode()]}, "secrets"),
        ({"url": "https://one.test/" + "a" * 2_000}, "url"),
        ({"url": None}, "url"),
        ({"url": "https://one.test/", "kinds": ["booking.gone"]}, "kinds[0]"),
        ({"url": "https://one.test/", "kinds": "booking.held"}, "kinds"),
        ({"url": "https://one.test/", "secrets": ["whsec_" + "A" * 8]}, "secrets[0]"),
        ({"url": "https://one.test/", "secrets": ["a secret that is no base64"]}, "secrets[0]"),
        ({"url": "https://one.test/", "secrets": [SECRET, SECRET]}, "secrets"),
        ({"url": "https://one.test/", "enabled": "yes"}, "enabled"),
    ],
)
def test_bad_input_names_the_field_and_shows_no_secret(given: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Webhook(**given)
    assert caught.value.field == field
    assert "secret that" not in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"allow": ["10.0.0.0/33"]}, "allow[0]"),
        ({"allow": "10.0.0.0/8"}, "allow"),
        ({"allow_http": 1}, "allow_http"),
        ({"timeout": 15}, "timeout"),
        ({"ssl_context": True}, "ssl_context"),
    ],
)
def test_options_of_the_sender_are_checked(given: dict[str, Any], field: str) -> None:
    for kind in (WebhookDelivery, AsyncWebhookDelivery):
        with pytest.raises(InvalidInput) as caught:
            kind(**given)
        assert caught.value.field == field


def test_an_endpoint_of_the_applications_own_is_checked_too() -> None:
    for kind in (WebhookDelivery, AsyncWebhookDelivery):
        for url, secrets, field in (
            ("http://one.test/", [SECRET], "url"),
            ("https://one.test/", [], "secrets"),
            ("https://one.test/", ["x"], "secrets[0]"),
        ):
            with pytest.raises(InvalidInput) as caught:
                kind().to(url, secrets=secrets)
            assert caught.value.field == field


def test_an_unknown_endpoint_id_is_not_found_and_no_id_is_bad_input(acme: Tenant) -> None:
    with pytest.raises(WebhookNotFound):
        acme.webhooks.get("nothing like an id")
    with pytest.raises(InvalidInput, match=r"^id: must be the id of a webhook"):
        acme.webhooks.get(cast("str", 7))
    with pytest.raises(InvalidInput, match=r"^webhook: must be a Webhook"):
        acme.webhooks.save(cast("Webhook", "https://one.test/"))
    with pytest.raises(InvalidInput, match=r"^webhook\.id"):
        acme.webhooks.save(Webhook(id="no id", url="https://one.test/"))


def test_httpx_is_what_posts(ours: Endpoint) -> None:
    """What the version that is installed here does with an address in the place of a name, this project relies on."""
    request = httpx.Client().build_request(
        "POST", httpx.URL("https://hooks.test:8443/a?b=c").copy_with(host="::1"), headers={"Host": "hooks.test:8443"}
    )
    assert str(request.url) == "https://[::1]:8443/a?b=c"
    assert request.headers["Host"] == "hooks.test:8443"
    assert ours.posted == []


# One that is away, and many that are not.


def test_one_that_hangs_takes_no_more_places_than_there_are_at_a_time_and_rests_then(
    scheduler: Scheduler, acme: Tenant, clock: SettableClock, ours: Endpoint, theirs: Endpoint
) -> None:
    away = acme.webhooks.save(Webhook(url=theirs.url)).id
    for i in range(8):
        book(acme, i * HALF)
    acme.webhooks.save(Webhook(url=ours.url))
    book(acme, DAY)
    theirs.hangs.set()
    options: dict[str, Any] = {"timeout": timedelta(seconds=0.5), "relay": {"concurrency": 2}}
    assert post(scheduler, **options) == Relayed(delivered=1, failed=2)
    assert len(theirs.posted) == 2
    book(acme, DAY + HOUR)
    assert post(scheduler, **options) == Relayed(delivered=1), "it rests, whatever waits for it"
    theirs.hangs.clear()
    clock.move(DAY)
    assert post(scheduler) == Relayed(delivered=10)
    theirs.answer(500)
    book(acme, 3 * DAY)
    post(scheduler)
    assert post(scheduler) == Relayed()
    (waiting,) = deliveries(acme, webhook=away, state="waiting")
    acme.webhooks.retry(waiting.id)
    theirs.answer(200)
    assert post(scheduler) == Relayed(delivered=1), "who says retry does not wait for it"


def test_a_name_server_that_hangs_is_not_waited_for(
    scheduler: Scheduler, acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    forever = threading.Event()
    resolving(monkeypatch, "slow.test", ["127.0.0.1"], then=lambda: forever.wait(60))
    acme.webhooks.save(Webhook(url="http://slow.test/"))
    book(acme)
    try:
        assert post(scheduler, timeout=timedelta(seconds=0.2)) == Relayed(failed=1)
        assert not forever.is_set()
        assert deliveries(acme)[0].error == "PostFailed: no answer in 0.2 s"
    finally:
        forever.set()


def test_what_a_function_gives_back_is_nobodys_business(scheduler: Scheduler, acme: Tenant) -> None:
    book(acme)
    got: list[object] = []

    def deliver(event: OutboxEvent) -> dict[str, object]:
        got.append(event)
        return {"at": datetime.now(UTC)}

    deliver.queue = "of the application's own"  # type: ignore[attr-defined]
    assert scheduler.relay(cast("Any", deliver)).run_once() == Relayed(delivered=1)


def test_where_one_login_does_all_a_tenant_still_has_its_own_deliveries_alone(db: Database, ours: Endpoint) -> None:
    with Scheduler(db.superuser, worker_url=db.superuser) as scheduler:
        acme, zeta = (scheduler.create_tenant(one, name=one) for one in ("acme", "zeta"))
        furnish(acme)
        acme.webhooks.save(Webhook(url=ours.url))
        acme.book("visit", start=datetime.now(UTC).replace(microsecond=0) + 30 * DAY, attendee=GRACE, force=True)
        (one,) = deliveries(acme)
        assert deliveries(zeta) == []
        for call in (zeta.webhooks.delivery, zeta.webhooks.retry, zeta.webhooks.discard):
            with pytest.raises(EventNotFound):
                call(one.id)


def test_an_endpoint_that_was_switched_off_with_much_to_come_holds_up_nobody(
    db: Database, acme: Tenant, clock: SettableClock, ours: Endpoint
) -> None:
    off, _ = (acme.webhooks.save(Webhook(url=ours.url + one)) for one in ("off", "on"))
    for n in range(5):
        acme.book("visit", start=NINE + n * HALF, attendee=GRACE)
    acme.webhooks.save(replace(off, enabled=False))
    with Scheduler(db.app, worker_url=db.worker, clock=clock) as scheduler, recorded(db.worker) as sent:
        done = scheduler.relay(WebhookDelivery(allow=HERE, allow_http=True)).run_once()
    assert done == Relayed(delivered=5, dead=5)
    assert {one.path[-2:] for one in ours.posted} == {"on"}
    assert sum("SKIP LOCKED" in one.sql for one in sent) == 2, "one lease for all of them, and one that finds nothing"


def test_an_attempt_that_may_take_longer_than_half_of_the_lease_is_refused(scheduler: Scheduler) -> None:
    with pytest.raises(InvalidInput, match=r"^lease: must be at least twice as long as an attempt may take"):
        scheduler.relay(WebhookDelivery(timeout=timedelta(minutes=1)))
    with pytest.raises(InvalidInput, match=r"^lease: must be at least twice as long as an attempt may take"):
        scheduler.relay(WebhookDelivery(timeout=MINUTE).to("https://a.test/", secrets=[new_webhook_secret()]))


def test_an_endpoint_of_a_newer_version_keeps_no_other_from_being_posted_to(
    scheduler: Scheduler, acme: Tenant, db: Database, ours: Endpoint, theirs: Endpoint
) -> None:
    for one in (ours, theirs):
        acme.webhooks.save(Webhook(url=one.url))
    book(acme)
    with db.superuser.begin() as connection:
        connection.execute(
            text("UPDATE nxsched.webhook SET kinds = '[\"booking.of_tomorrow\"]' WHERE url = :url"), {"url": ours.url}
        )
    assert post(scheduler) == Relayed(delivered=1, dead=1)
    assert (len(ours.posted), len(theirs.posted)) == (0, 1)
