"""Whom we talk to when a stranger has named the host: nobody behind our own walls, unless that was allowed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from nxsched.domain import checks
from nxsched.errors import InvalidInput

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

_NAT64: Final = (ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/48"))
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
    return meant.is_global and not (meant.is_multicast or meant.is_reserved or meant.is_unspecified)


def _meant(address: Address) -> Address:
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped or address.sixtofour:
        return address.ipv4_mapped or address.sixtofour or address
    if address.teredo:
        return address.teredo[1]
    low = IPv4Address(int(address) & _LAST_32_BITS)
    if any(address in network for network in _NAT64):
        return low
    old = int(address) >> 32 == 0 and int(address) > 1  # ::a.b.c.d, which nobody uses any more
    return low if old else address


async def resolve(host: str, port: int, allowed: Sequence[Network]) -> list[str]:
    """The addresses of a host that may be talked to, in the order of the resolver. Raises `NotAllowed` and `OSError`.

    Who connects takes one of these and asks no resolver again: it might say something else then.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [ip_address(str(sockaddr[0]).partition("%")[0]) for *_, sockaddr in found]
    wanted = [str(one) for one in dict.fromkeys(addresses) if is_allowed(one, allowed)]
    if not wanted:
        raise NotAllowed(f"{host} is {addresses[0] if addresses else 'nothing'}, which is no public address")
    return wanted
