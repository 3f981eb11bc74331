"""The face of nxsched towards an application: a database, its migrations, and the way to its tenants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import URL, Engine

from nxsched.clock import Clock
from nxsched.domain import checks
from nxsched.domain.bookings import Actor, Swept
from nxsched.domain.bounds import MAX_RANGE_DAYS
from nxsched.domain.commands import SaveTenant
from nxsched.domain.outbox import Backoff, OutboxEvent
from nxsched.domain.tenants import TenantDetails
from nxsched.errors import NxschedError
from nxsched.locking import Locker
from nxsched.locking.choosing import WhenUnavailable
from nxsched.outbox import Outbox
from nxsched.service import actions
from nxsched.service.sweeping import sweep_events
from nxsched.service.unit import Call, Joined, units_on
from nxsched.service.upgrading import run_upgrade
from nxsched.store import connect, migrate
from nxsched.store.tenants import list_tenants
from nxsched.tenant import Tenant

if TYPE_CHECKING:
    from nxsched.embedded import EmbeddedServer
    from nxsched.ratelimit import RateLimit
    from nxsched.relay.options import RelayReport
    from nxsched.relay.relay import Relay
    from nxsched.relay.webhooks import WebhookDelivery


class Scheduler:
    """nxsched on a PostgreSQL database, 14 or later, through psycopg.

    `database` is a URL (`postgresql://app@host/database`) or a SQLAlchemy `Engine` of the application's own. The role
    that logs in should be neither a superuser nor the owner of the tables: `nxsched doctor` looks. `worker_url` logs in
    as the worker's role, for what crosses tenants: `tenants()`, `sweep()`, `relay()` and `outbox`. Nothing is connected
    to before it is used. Safe to share between threads, and a forked child has connections of its own; as a context
    manager it closes itself.

    A transaction of our own waits at most `lock_timeout` for others, and `statement_timeout` for a statement.
    Idempotency keys are remembered for `keys_last`, at most 366 days. The database tells the time unless there is a
    `clock`. Links are signed with the first of `secrets`, texts of 16 random characters or more, and accepted with any
    of them.

    With `redis`, a URL or a client of the package `redis`, who books or holds a slot takes a lock there before the
    database is asked: `nxsched.locking.RedisLocker`. While Redis is away they `"proceed"` without it, or, with
    `when_unavailable="refuse"`, raise `StoreUnavailable`. `locker` is another locker, or one with options of its own.
    Attempts that exceed one of `rate_limits` raise `RateLimited`: they are counted on Redis, else in this process.

    Changes of bookings leave events, which `relay` delivers. A commit of our own that has left some wakes the relays,
    at most every 50 ms, unless `wake_relays` is off; they look by themselves every second, too.

    Raises `InvalidInput` for a URL or engine of another database or driver, and `MissingExtra` where there is no libpq.
    """

    def __init__(  # noqa: PLR0913 - keywords
        self,
        database: str | URL | Engine,
        *,
        worker_url: str | URL | Engine | None = None,
        clock: Clock | None = None,
        secrets: Sequence[str] = (),
        redis: str | object | None = None,
        locker: Locker | None = None,
        rate_limits: Sequence[RateLimit] = (),
        when_unavailable: WhenUnavailable = "proceed",
        lock_timeout: timedelta = timedelta(seconds=5),
        statement_timeout: timedelta = timedelta(seconds=30),
        keys_last: timedelta = timedelta(days=1),
        wake_relays: bool = True,
    ) -> None:
        self._own = isinstance(database, str | URL)
        self._engine: Engine = connect.made_or_checked("database", database)
        worker = None if worker_url is None else connect.made_or_checked("worker_url", worker_url)
        self._worker_own = isinstance(worker_url, str | URL)
        self._units = units_on(
            self._engine,
            own=self._own,
            clock=clock,
            secrets=secrets,
            redis=redis,
            locker=locker,
            rate_limits=rate_limits,
            when_unavailable=when_unavailable,
            for_asyncio=False,
            lock_timeout=lock_timeout,
            statement_timeout=statement_timeout,
            keys_last=keys_last,
            wake_relays=wake_relays,
        )
        self._worker = self._units if worker is None else self._units.on(worker, own=self._worker_own)
        self._server: EmbeddedServer | None = None
        self._known: set[str] = set()
        self._looked = False

    @classmethod
    def embedded(cls, path: str | Path, *, version: int | None = None, **options: Any) -> Self:
        """A scheduler on a PostgreSQL of its own, which lives in the folder `path`: started or joined, and migrated.

        For development, tests and what runs on one machine. The server has no network port, and it stops when the last
        process that uses the folder has closed its scheduler or ended. `version` is the PostgreSQL of a new folder;
        `options` are those of the class.
        Raises `InvalidInput`, `MissingExtra` and `StoreUnavailable`.
        """
        from nxsched import embedded  # noqa: PLC0415 - its packages are optional

        server = embedded.start_migrated(path, version=version)
        try:
            found = cls(server.url(), **{"worker_url": server.worker_url(), **options})
        except BaseException:
            server.close()
            raise
        found._server = server
        return found

    @property
    def engine(self) -> Engine:
        """The engine that this scheduler works with, for an application that wants to join its transactions."""
        return self._engine

    def close(self) -> None:
        """Give connections and the embedded server back. An application's own engine stays as it is.

        A call after that connects again, or finds no embedded server: `StoreUnavailable`.
        """
        if self._own:
            self._engine.dispose()
        if self._worker_own:
            self._worker.engine.dispose()
        self._units.close()
        if self._server is not None:
            self._server.close()

    def __enter__(self) -> Self:
        """Use the scheduler for a while."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def __repr__(self) -> str:
        """Name the database, without a password."""
        return f"<Scheduler on {self._engine.url.render_as_string(hide_password=True)}>"

    def create_tenant(  # noqa: PLR0913 - keywords
        self,
        id: str,  # noqa: A002 - its name everywhere
        *,
        name: str,
        sender: str | None = None,
        settings: Mapping[str, Any] | None = None,
        within: Joined | None = None,
        idempotency_key: str | None = None,
        actor: Actor | None = None,
    ) -> Tenant:
        """Make a tenant. `id` is the application's own and never changes; `sender` is the address of invitations.

        `within`, `idempotency_key` and `actor` as in every method of `Tenant`. Raises `InvalidInput`, also where there
        is one with that id.
        """
        made = TenantDetails(id=id, name=name, sender=sender, settings=settings or {})
        call = Call(tenant=made.id, within=within, key=idempotency_key, actor=actor)
        self._units.write(actions.SAVE_TENANT, SaveTenant(tenant=made, new=True), call)
        if within is None:
            self._look_once()
        return Tenant(self._units, made.id)

    def tenant(self, id: str, *, within: Joined | None = None) -> Tenant:  # noqa: A002 - its name everywhere
        """A tenant: all that concerns its hosts and bookings. Looked up once, then known. Raises `TenantNotFound`."""
        checks.text("id", id)
        found = Tenant(self._units, id)
        if id not in self._known:
            found.details(within=within)
            if within is None:
                self._look_once()
                self._known.add(id)
        return found

    def tenants(self) -> list[TenantDetails]:
        """All tenants, by id. Raises `InvalidInput` where the login sees one at a time: give a `worker_url`."""
        return self._worker.run(lambda connection, _, __: list_tenants(connection), None, _NO_TENANT)

    def sweep(self, *, keep_days: int = 30) -> Swept:
        """Tidy up every tenant: what `Tenant.sweep` does, and events that were delivered `keep_days` ago or earlier.

        In short transactions; nothing depends on it, and several processes may do it at a time. What fails in one
        tenant is raised when all the others are swept. Raises `InvalidInput` where the login sees one tenant at a time:
        give a `worker_url`.
        """
        checks.whole("keep_days", keep_days, least=0, most=MAX_RANGE_DAYS)
        done = Swept()
        failed: list[NxschedError] = []
        for one in self.tenants():
            try:
                done += Tenant(self._worker, one.id).sweep()
                while (batch := self._worker.run(sweep_events, keep_days, Call(tenant=one.id))).total:
                    done += batch
            except NxschedError as error:  # the others are not to wait for it
                error.add_note(f"while the tenant {one.id} was swept; the others were all the same")
                failed.append(error)
        if failed:
            raise failed[0]
        return done

    @property
    def outbox(self) -> Outbox:
        """The events that are to be delivered, of all tenants: to look at, to have tried again, to give up."""
        return Outbox(self._worker)

    def relay(  # noqa: PLR0913 - keywords
        self,
        deliver: Callable[[OutboxEvent], None] | WebhookDelivery,
        *,
        concurrency: int = 1,
        batch: int = 100,
        lease: timedelta = timedelta(minutes=1),
        poll: timedelta = timedelta(seconds=1),
        backoff: Backoff | None = None,
        grace: timedelta = timedelta(hours=1),
        on_report: Callable[[RelayReport], None] | None = None,
        report_every: timedelta = timedelta(seconds=15),
    ) -> Relay:
        """A relay, which gives the events of all tenants to `deliver`: `run_once()`, or `run(stop)`.

        `deliver` gets one `OutboxEvent`, outside any transaction, and returns when it is delivered. What it raises
        means that it was not: it is tried again after a while, as `backoff` says, and is dead after the last attempt.
        `RetryLater` says when at the earliest, `Undeliverable` that it never will be. It should give up by itself
        before half of the `lease` is over. A `WebhookDelivery` posts events to the endpoints of tenants, beside a relay
        that gives them to a function.

        A relay takes a `batch` of events at a time, for the time of the `lease`, and delivers so many of them at once
        (`concurrency`). Reminders come as events of the kind `booking.reminder`, and are skipped once they are late by
        `grace`. Who dies leaves them to others when the lease ends. It looks every `poll`, and when it is
        woken. `on_report` is told how things stand, at most every `report_every`. Raises `InvalidInput`.
        """
        from nxsched.relay.options import Options  # noqa: PLC0415 - who books does not wait for it
        from nxsched.relay.relay import Relay  # noqa: PLC0415 - as above

        options = Options(
            deliver=deliver,
            batch=batch,
            concurrency=concurrency,
            lease=lease,
            poll=poll,
            backoff=Backoff() if backoff is None else backoff,
            grace=grace,
            on_report=on_report,
            report_every=report_every,
        )
        return Relay(self._worker, options)

    def verify(self) -> None:
        """Raise `SchemaOutdated`, with the command to run, unless the tables are those that this version works with.

        Raises `StoreUnavailable` where the database cannot be reached.
        """
        self._units.run(lambda connection, _, __: migrate.verify(connection), None, _NO_TENANT)
        self._look_once()

    def _look_once(self) -> None:
        """Warn of a login that no policy binds, when it is first used."""
        if not self._looked:
            self._looked = True
            self._units.run(lambda connection, _, __: connect.warn_of_might(connection), None, _NO_TENANT)

    def migrate(
        self,
        url: str | URL | None = None,
        *,
        to: str = "head",
        app_role: str | None = None,
        worker_role: str | None = None,
    ) -> None:
        """Bring the tables up to a revision and grant the roles their least rights, in one transaction.

        `url` logs in as the role that owns the tables; without it the scheduler's own login does, and becomes their
        owner if they are new. Processes that book meanwhile wait for the statements that change their tables; where
        the upgrade itself waits too long for one of them, or meets them in a deadlock, it gives way and begins anew.
        Raises `InvalidInput` for an unknown revision or role, `StoreUnavailable`, and after many tries `LockTimeout` or
        `TransactionConflict`.
        """
        engine = self._engine if url is None else connect.engine("url", url)

        try:
            run_upgrade(engine, to, app_role=app_role, worker_role=worker_role)
        finally:
            if url is not None:
                engine.dispose()


_NO_TENANT = Call(tenant="")
"""Of what concerns no tenant, or all of them."""
