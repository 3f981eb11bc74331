"""A locker on Redis, a single server, Sentinel or Cluster: it keeps a stampede away from the database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from hashlib import sha256
from secrets import token_hex
from time import perf_counter
from typing import Any, Final

from nxsched.errors import InvalidInput, StoreUnavailable
from nxsched.locking.asking import Answer, Asking, NoAnswer, Script
from nxsched.locking.breaker import Breaker
from nxsched.locking.choosing import WhenUnavailable
from nxsched.locking.clients import Client, Clients
from nxsched.locking.locker import LOG, Contended, OnLock, Outcome, Teller, Unlocked, checked_wait

TIMEOUT: Final = timedelta(milliseconds=40)
"""How long an answer may take unless something else is said."""

# A permit is a sorted set of those who have a place, by when each place ends by the server's clock. All or nothing, in
# one step; keys of one tenant lie in one slot of a cluster. A client that retries may ask twice for the same place.
_TAKE: Final = Script("""
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
for i, key in ipairs(KEYS) do
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
    local mine = redis.call('ZSCORE', key, ARGV[1])
    if not mine and redis.call('ZCARD', key) >= tonumber(ARGV[3 + i]) then
        if ARGV[2] ~= '' then
            for _, one in ipairs(redis.call('ZRANGE', key, 0, -1)) do
                if string.sub(one, 1, #ARGV[2] + 1) == ARGV[2] .. ':' then return 'same_key' end
            end
        end
        return 'turned_away'
    end
end
for _, key in ipairs(KEYS) do
    redis.call('ZADD', key, now + ARGV[3], ARGV[1])
    if redis.call('PTTL', key) < tonumber(ARGV[3]) then redis.call('PEXPIRE', key, ARGV[3]) end
end
return 'taken'
""")

_GIVE_BACK: Final = Script("""
local given = 0
for _, key in ipairs(KEYS) do given = given + redis.call('ZREM', key, ARGV[1]) end
return given
""")

_TOLD: Final[dict[object, Outcome]] = {b"taken": "taken", b"turned_away": "turned_away", b"same_key": "same_key"}
_TOLD.update({key.decode(): told for key, told in _TOLD.items() if isinstance(key, bytes)})


class RedisLocker(Unlocked):
    """Locks on Redis: of a thousand who want one slot, few reach the database.

    `server` is a URL, or a client of the package `redis` that the application has made with its own time-outs:
    `redis://cache/0`, `rediss://…`, `unix:///path`, `redis+cluster://node:6379`, or what
    `Sentinel(…).master_for("name")` gives. A client serves one face: that of `redis.asyncio` for asyncio.

    Who comes second is turned away with `LockTimeout`, or tries again for up to `wait`. A place ends by itself after
    `ttl`. What takes Redis longer than `timeout`, or fails, is not tried again for `rest`: meanwhile bookings go on
    without locks, or are refused with `StoreUnavailable` if `when_unavailable` is `"refuse"`. `prefix` begins every
    key. `on_lock` is called with a `LockEvent` after each try. Raises `InvalidInput`.
    """

    def __init__(  # noqa: PLR0913 - keywords
        self,
        server: str | Client,
        *,
        wait: timedelta = timedelta(),
        ttl: timedelta = timedelta(seconds=5),
        timeout: timedelta = TIMEOUT,
        rest: timedelta = timedelta(seconds=1),
        when_unavailable: WhenUnavailable = "proceed",
        prefix: str = "nxsched",
        on_lock: OnLock | None = None,
    ) -> None:
        self.wait: timedelta = checked_wait(wait)
        self._ttl = _milliseconds("ttl", ttl, most=timedelta(minutes=1))
        self._timeout = _milliseconds("timeout", timeout, most=timedelta(seconds=10)) / 1000
        self._breaker = Breaker(_milliseconds("rest", rest, most=timedelta(minutes=10)) / 1000)
        if when_unavailable not in {"proceed", "refuse"}:
            reason = f'must be "proceed" or "refuse", not {when_unavailable!r}'
            raise InvalidInput(field="when_unavailable", reason=reason)
        self._refuses = when_unavailable == "refuse"
        if not isinstance(prefix, str) or not prefix or {"{", "}"} & {*prefix}:
            raise InvalidInput(field="prefix", reason=f"must be a text without braces, not {prefix!r}")
        self._prefix = prefix
        self._teller = Teller(on_lock)
        self._clients = Clients(server, self._timeout)
        self._asking = Asking(self._clients, self._timeout)

    def __repr__(self) -> str:
        """Name the server, without a password."""
        return f"<RedisLocker on {self._clients}>"

    def check(self, *, for_asyncio: bool) -> None:
        """A client that was given serves one face. Raises `InvalidInput`."""
        self._clients.check(for_asyncio=for_asyncio)

    @contextmanager
    def around(self, contended: Contended) -> Iterator[None]:
        """Have a place for each permit while something runs."""
        member = self._member(contended)
        began = perf_counter()
        told: Outcome = "taken"  # so it may be, until there is an answer
        try:
            answer = self._ask(_TAKE, contended, member)
            told = "unavailable" if answer is None else _TOLD[answer]
            self._told(contended, told, began)
            yield
        finally:
            if told == "taken":
                self._ask(_GIVE_BACK, contended, member)

    @asynccontextmanager
    async def around_async(self, contended: Contended) -> AsyncIterator[None]:
        """The same for asyncio."""
        member = self._member(contended)
        began = perf_counter()
        told: Outcome = "taken"
        try:
            answer = await self._ask_async(_TAKE, contended, member)
            told = "unavailable" if answer is None else _TOLD[answer]
            self._told(contended, told, began)
            yield
        finally:
            if told == "taken":
                await self._ask_async(_GIVE_BACK, contended, member)

    def close(self) -> None:
        """Close the connections that were made here."""
        self._asking.close()
        self._clients.close()

    async def aclose(self) -> None:
        """The same for asyncio."""
        await self._asking.settle()
        await self._clients.aclose()

    def look(self) -> dict[str, Any]:
        """What the server says of itself, asked past the breaker. Raises what the package `redis` does."""
        found: dict[str, Any] = self._clients.sync().info()
        return found

    def _member(self, contended: Contended) -> str:
        """Who has the place: nobody else has the same, and who repeats the request can see it is theirs."""
        return f"{contended.request}:{token_hex(12)}"

    def _told(self, contended: Contended, outcome: Outcome, began: float) -> None:
        """Whoever may not go on is told so."""
        self._teller.tell(outcome, contended, perf_counter() - began)
        if outcome == "turned_away":
            raise self._teller.turn_away(contended)
        if outcome == "unavailable" and self._refuses:
            reason = "Redis cannot be asked for a lock, and nothing is booked meanwhile (when_unavailable); try again"
            raise StoreUnavailable(reason)

    def _values(self, script: Script, contended: Contended, member: str) -> list[Any]:
        # One tenant, one slot of a cluster: what stands in the braces says which.
        tag = sha256(contended.tenant.encode()).hexdigest()[:16]
        keys = [f"{self._prefix}:{{{tag}}}:{one.name}" for one in contended.permits]
        more = [contended.request, self._ttl, *(one.of for one in contended.permits)] if script is _TAKE else []
        return [len(keys), *keys, member, *more]

    def _ask(self, script: Script, contended: Contended, member: str) -> object:
        """What Redis says, or `None` where it says nothing that can be used."""
        if not self._breaker.may_ask():
            return None
        answer = self._asking.ask(script, self._values(script, contended, member), wait=script is _TAKE)
        return self._understood(script, answer)

    async def _ask_async(self, script: Script, contended: Contended, member: str) -> object:
        if not self._breaker.may_ask():
            return None
        values = self._values(script, contended, member)
        return self._understood(script, await self._asking.ask_async(script, values, to_its_end=script is _GIVE_BACK))

    def _understood(self, script: Script, answer: Answer) -> object:
        if isinstance(answer, NoAnswer):
            return None
        if isinstance(answer, Exception):
            return self._failed(answer)
        if not (answer in _TOLD if isinstance(answer, str | bytes) else script is _GIVE_BACK and type(answer) is int):
            return self._failed(ValueError(f"an answer that no Redis gives: {answer!r:.80}"))
        if self._breaker.worked():
            LOG.warning("Redis answers again: locks are taken")
        return answer

    def _failed(self, error: Exception) -> object:
        """Let it rest; the log is told once."""
        if self._breaker.failed():
            meanwhile = "nothing is booked" if self._refuses else "bookings go on without locks"
            LOG.warning("Redis cannot be asked for locks, %s meanwhile: %s: %s", meanwhile, type(error).__name__, error)
        return None


def _milliseconds(field: str, value: object, *, most: timedelta) -> int:
    if not isinstance(value, timedelta) or not timedelta(milliseconds=1) <= value <= most:
        raise InvalidInput(field=field, reason=f"must be a timedelta from a millisecond to {most}, not {value!r}")
    return int(value.total_seconds() * 1000)
