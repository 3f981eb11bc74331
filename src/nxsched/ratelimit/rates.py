"""What a rate limit is: attempts at what, of whom, how many in which time."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from ipaddress import IPv4Address, IPv6Network, ip_address
from typing import Final, Literal, cast, get_args

from limits import RateLimitItem, parse_many

from nxsched.domain import checks
from nxsched.errors import InvalidInput

Act = Literal["book", "hold", "reschedule", "cancel", "slots"]
By = Literal["address", "attendee", "actor", "tenant"]

ORDER: Final[tuple[By, ...]] = get_args(By)
"""From the narrowest: what one caller asks too often is not to be counted to the others' cost."""

ACTS: Final[frozenset[Act]] = frozenset(get_args(Act))

_MOST_ATTEMPTS: Final = 1_000_000
_LONGEST: Final = timedelta(days=366)


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """At most so many attempts in a while, in each tenant apart: `RateLimit(rate="5/minute", by="address")`.

    `rate` is such as `"5/minute"`, `"100/15 minutes"` or `"1000 per day"`, in seconds, minutes, hours, days, months (of
    30 days) or a year. `by` says whose attempts are counted together: those of one `"address"`, one `"attendee"` (by
    e-mail address), one `"actor"` (by role and id), or of the whole `"tenant"`; where a call does not say who it is,
    they are not counted. `on` says attempts at what: `"book"`, `"hold"`, `"reschedule"`, `"cancel"`, and reads of
    `"slots"`; one or several, all of which share one count. Without it they are all that `by` knows: reads of slots
    have no attendee. Raises `InvalidInput`.
    """

    rate: str
    by: By
    on: Act | Collection[Act] | None = None

    def __post_init__(self) -> None:
        """Check the values, and keep what is counted as a frozen set."""
        item(self.rate)
        if self.by not in ORDER:
            raise InvalidInput(field="by", reason=f"must be one of {', '.join(ORDER)}, not {checks.shown(self.by)}")
        known = ACTS - {"slots"} if self.by == "attendee" else ACTS
        on: object = known if self.on is None else [self.on] if isinstance(self.on, str) else self.on
        if not isinstance(on, Collection) or not on or not all(isinstance(act, str) and act in ACTS for act in on):
            reason = f"must be one or more of {', '.join(sorted(ACTS))}, not {checks.shown(self.on)}"
            raise InvalidInput(field="on", reason=reason)
        if not known.issuperset(on):
            reason = "slots are read without an attendee: count them by address, actor or tenant"
            raise InvalidInput(field="on", reason=reason)
        object.__setattr__(self, "on", frozenset(on))

    @property
    def acts(self) -> frozenset[Act]:
        """What is counted."""
        return cast("frozenset[Act]", self.on)


def item(rate: object) -> RateLimitItem:
    """A rate as the package has it. Raises `InvalidInput`."""
    words = checks.text("rate", rate)
    try:
        found = parse_many(words)
    except ValueError as error:
        units = "seconds, minutes, hours, days, months or a year"
        reason = f'must be such as "5/minute" or "100/15 minutes", in {units}, not {checks.shown(rate)}'
        raise InvalidInput(field="rate", reason=reason) from error
    if re.search(r"(/|per)\s*0+\s*[a-z]", words, re.IGNORECASE):  # which the package takes for one
        raise InvalidInput(field="rate", reason="must be counted in a second to 366 days")
    if len(found) != 1:
        raise InvalidInput(field="rate", reason="must be one rate: give a RateLimit for each")
    if not 1 <= found[0].amount <= _MOST_ATTEMPTS:
        raise InvalidInput(field="rate", reason=f"must allow 1 to {_MOST_ATTEMPTS:,} attempts, not {found[0].amount}")
    if not 1 <= found[0].get_expiry() <= _LONGEST.total_seconds():
        raise InvalidInput(field="rate", reason=f"must be counted in a second to {_LONGEST.days} days")
    return found[0]


def key(limit: RateLimit, tenant: str, who: str) -> str:
    """Where attempts are counted: nothing of a person can be read from it."""
    parts = [tenant, limit.by, network(who) if limit.by == "address" else who, *sorted(limit.acts)]
    return sha256("\0".join(parts).encode()).hexdigest()[:32]


def network(address: str) -> str:
    """An address as it is counted: without its port; of IPv6 the network of 64 bits, which one caller has alone.

    What stands for an IPv4 address (mapped, 6to4, NAT64) is that.
    """
    words = address.strip()
    found = _WITH_PORT.fullmatch(words)
    plain = found[1] or found[2] if found else words
    try:
        ip = ip_address(plain)
    except ValueError:
        return words
    if isinstance(ip, IPv4Address):
        return str(ip)
    if ip in _NAT64:
        return str(IPv4Address(ip.packed[12:]))
    return str(ip.ipv4_mapped or ip.sixtofour or ip.packed[:8].hex())


_WITH_PORT: Final = re.compile(r"\[([^\]]+)\](?::\d+)?|([\d.]+):\d+")
_NAT64: Final = IPv6Network("64:ff9b::/96")
