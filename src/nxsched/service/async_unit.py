"""Units of work for who works with asyncio: the same actions, each in a greenlet that waits for the event loop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from tenacity import AsyncRetrying

from nxsched.domain import checks
from nxsched.errors import InvalidInput, LockTimeout, RateLimited, StoreUnavailable, TransactionConflict
from nxsched.locking import TurnedAway
from nxsched.service.attempts import attempt, look_after
from nxsched.service.contending import Gate, look, refuse_taken, waiting
from nxsched.service.tokens import Keyring
from nxsched.service.unit import Action, Call, Doubts, First, Units, Work, retried, units_on
from nxsched.service.upgrading import GIVING_WAY, upgrade
from nxsched.store.async_connect import AsyncConnection, AsyncEngine, AsyncSession, async_scoped_session
from nxsched.store.conflicts import translated
from nxsched.store.connect import ISOLATION

if TYPE_CHECKING:  # its package is optional
    from nxsched.ratelimit.rates import RateLimit

C = TypeVar("C")
R = TypeVar("R")

AsyncJoined = AsyncConnection | AsyncSession | async_scoped_session[AsyncSession]
"""The application's own transaction, as `within=` takes it."""


@dataclass(frozen=True, slots=True)
class AsyncUnits:
    """Runs actions on an engine of asyncio; `units` says how, on the same engine as the greenlets see it."""

    engine: AsyncEngine
    units: Units

    @property
    def keyring(self) -> Keyring:
        """The secrets of links."""
        return self.units.keyring

    @property
    def gate(self) -> Gate:
        """Where locks are taken."""
        return self.units.gate

    def on(self, engine: AsyncEngine, *, own: bool) -> AsyncUnits:
        """The same on another engine."""
        return AsyncUnits(engine, self.units.on(engine.sync_engine, own=own))

    async def write(self, action: Action[C, R], command: C, call: Call) -> R:
        """Run what changes something: once for a key, however often it is asked for; behind a lock, if there is one."""
        work, gate = self.units.work(action, command, call), self.gate
        await self.admit(command, call, action.first)
        wants = gate.wanting(command, call.within)
        if wants is None:
            return await self.run(work, command, call)
        tenant, slug = call.tenant, wants.event_type
        if not gate.knows(tenant, slug):
            await self._learn(tenant, slug)
        wanted = gate.contended(wants, tenant, call.key)
        if wanted is None:
            return await self.run(work, command, call)

        async def attempt() -> R:
            async with gate.locker.around_async(wanted):
                return await self.run(gate.locked(work, wanted), command, call)

        if not gate.locker.wait:
            return await attempt()
        try:
            found: R = await AsyncRetrying(**waiting(gate.locker.wait))(attempt)
        except TurnedAway:
            await self.run(refuse_taken, wants, Call(tenant=tenant))
            raise
        return found

    async def _learn(self, tenant: str, slug: str) -> None:
        """Look at an event type for the gate; of many who do not know it, one does."""
        gate = self.gate
        other = gate.other(tenant, slug)
        if other is not None:
            await asyncio.wrap_future(other)
        try:
            if other is None or not gate.knows(tenant, slug):
                gate.learn(tenant, slug, await self.run(look, slug, Call(tenant=tenant)))
        finally:
            if other is None:
                gate.looked(tenant, slug)

    async def read(self, work: Work[C, R], asked: C, call: Call) -> R:
        """Run a query that rate limits count."""
        await self.admit(asked, call)
        return await self.run(work, asked, call)

    async def admit(self, command: object, call: Call, first: First | None = None) -> None:
        """Count an attempt, before any work. Raises `RateLimited`."""
        limiter = self.units.limiter
        if limiter is None or (asks := attempt(command, call.tenant, call.who, call.address)) is None:
            return
        met: list[tuple[RateLimit, str]] = []
        full: list[RateLimited] = []
        limits = limiter.of(asks.act)
        for limit in limits:
            if limit.by == "attendee" and asks.looks:
                if full:
                    break
                found = await self.run(look_after(first), command, Call(tenant=call.tenant, within=call.within))
                asks = asks.of_attendee(found)
            if who := asks.who[limit.by]:
                met.append((limit, who))
                if len(limits) > 1:
                    try:
                        await limiter.look_async(limit, asks.act, call.tenant, who, take=False)
                    except RateLimited as error:
                        full.append(error)
        if full:
            raise max(full, key=lambda one: one.retry_after)
        for limit, who in met:
            await limiter.look_async(limit, asks.act, call.tenant, who, take=True)

    async def close(self) -> None:
        """Give back what lockers and limits have open."""
        try:
            await self.gate.locker.aclose()
        finally:
            if self.units.limiter is not None:
                await self.units.limiter.aclose()

    async def run(self, work: Work[C, R], asked: C, call: Call) -> R:
        """Run a query, or anything else that has no key."""
        if call.within is not None:
            return await self._joined(work, asked, call, call.within)
        doubts = Doubts()

        async def attempt() -> R:
            try:
                return await self._alone(work, asked, call)
            except StoreUnavailable as error:
                doubts.noted(error)
                raise

        retrying = AsyncRetrying(**retried(self.units.attempts, keyed=call.key is not None))
        try:
            found: R = await retrying(attempt)
        except (StoreUnavailable, TransactionConflict, LockTimeout) as error:
            if other := doubts.told(error):
                raise other from error
            raise
        return found

    async def _alone(self, work: Work[C, R], asked: C, call: Call) -> R:
        """In a transaction of its own."""
        with translated(call.tenant) as edge:
            async with self.engine.connect() as connection:
                if not self.units.own:  # of an engine's options, those of the application's would have the last word
                    await connection.execution_options(isolation_level=ISOLATION)
                result = await connection.run_sync(self.units.inside, work, asked, call)
                edge.at_commit = True
                await connection.commit()
                if await connection.run_sync(self.units.bell.is_due):
                    await connection.run_sync(self.units.bell.ring)
        return result

    async def _joined(self, work: Work[C, R], asked: C, call: Call, within: object) -> R:
        """In the application's transaction."""
        if isinstance(within, async_scoped_session):
            within = within()
        if not isinstance(within, AsyncConnection | AsyncSession):
            reason = (
                "must be a SQLAlchemy AsyncConnection (`async with engine.connect() as connection`) or AsyncSession,"
                f" not {checks.shown(within)}"
            )
            raise InvalidInput(field="within", reason=reason)
        if isinstance(within, AsyncConnection) and within.sync_connection is None:
            reason = "is a connection that has not been started: async with engine.connect() as connection"
            raise InvalidInput(field="within", reason=reason)
        return await within.run_sync(lambda sync: self.units.joined(work, asked, call, sync))


def async_units_on(engine: AsyncEngine, *, own: bool, **options: Any) -> AsyncUnits:
    """Units as an application asks for them. Raises `InvalidInput`."""
    return AsyncUnits(engine, units_on(engine.sync_engine, own=own, **options))


async def async_run_upgrade(engine: AsyncEngine, to: str, *, app_role: str | None, worker_role: str | None) -> None:
    """Bring the tables up to date, as `nxsched.service.upgrading` does."""

    async def once() -> None:
        with translated():
            async with engine.connect() as connection:
                await connection.execution_options(isolation_level=ISOLATION)
                await connection.run_sync(upgrade, to, app_role, worker_role)
                await connection.commit()

    await AsyncRetrying(**GIVING_WAY)(once)
