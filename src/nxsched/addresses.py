"""Whom we talk to when a stranger has named the host: nobody behind our own walls, unless that was allowed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final

from nxsched.domain import checks
from nxsched.errors import InvalidInput

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

LOG: Final = logging.getLogger("nxsched.addresses")

_NAT64: Final = ip_network("64:ff9b::/96")
_NOBODYS: Final = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16",
            "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15",
            "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
            "::/128", "::1/128", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "3fff::/20", "5f00::/16",
            "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
        ),
    )
)  # fmt: skip
"""Private, local, reserved, for documents and for many at once; and what clouds have for their machines alone.

The standard library knows most of them, and another release of it others.
"""
_LAST_32_BITS: Final = 0xFFFF_FFFF


class NotAllowed(Exception):
    """A host that a stranger has named stands for no address that we would talk to."""


def networks(field: str, value: object) -> tuple[Network, ...]:
    """Networks as `10.0.0.0/8`, or single addresses. Raises `InvalidInput`."""
    found: list[Network] = []
    for i, one in enumerate(checks.items(field, value, str)):
        try:
            found.append(ip_network(one))
        except ValueError as error:
            reason = f"must be a network such as 10.0.0.0/8, not {checks.shown(one)}: {error}"
            raise InvalidInput(field=f"{field}[{i}]", reason=reason) from error
    return tuple(found)


def is_allowed(address: Address, allowed: Sequence[Network]) -> bool:
    """Whether an address is everybody's, or in a network that was allowed.

    One that stands for another, as IPv4 in IPv6 does in several ways, is judged by that one.
    """
    meant = _meant(address)
    if any(one in network for one in (address, meant) for network in allowed):
        return True
    if any(one in network for one in (address, meant) for network in _NOBODYS):
        return False
    return meant.is_global and not (meant.is_multicast or meant.is_reserved or meant.is_unspecified)


def _meant(address: Address) -> Address:
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped or address.sixtofour:
        return address.ipv4_mapped or address.sixtofour or address
    if address.teredo:
        return address.teredo[1]
    low = IPv4Address(int(address) & _LAST_32_BITS)
    if address in _NAT64:
        return low
    old = int(address) >> 32 == 0 and int(address) > 1  # ::a.b.c.d, which nobody uses any more
    return low if old else address


async def resolve(host: str, port: int, allowed: Sequence[Network]) -> list[str]:
    """The addresses of a host that may be talked to, in the order of the resolver. Raises `NotAllowed` and `OSError`.

    Who connects takes one of these and asks no resolver again: it might say something else then.
    """
    found = await _looked_up(host, port)
    addresses = [ip_address(str(sockaddr[0]).partition("%")[0]) for *_, sockaddr in found]
    wanted = [str(one) for one in dict.fromkeys(addresses) if is_allowed(one, allowed)]
    if not wanted:
        LOG.debug("%s is %s", host, addresses)  # which is nobody's business who has named it
        raise NotAllowed("the host has no public address, nor one that the sender was allowed")
    return wanted


async def _looked_up(host: str, port: int) -> list[Any]:
    """What the resolver of this machine says, in a thread that nobody waits for: a time-out ends the wait, not it.

    The loop's own threads are few, and all that ends the loop would wait for them.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[Any]] = loop.create_future()

    def look() -> None:
        found: list[Any] | Exception
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
            found = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(tell, found)

    def tell(found: list[Any] | Exception) -> None:
        if answer.done():
            return
        if isinstance(found, Exception):
            answer.set_exception(found)
        else:
            answer.set_result(found)

    threading.Thread(target=look, name="nxsched-resolve", daemon=True).start()
    return await answer
