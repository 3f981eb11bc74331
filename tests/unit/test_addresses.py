"""Whom we talk to when a stranger has named the host."""

from __future__ import annotations

import asyncio
from ipaddress import IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nxsched.addresses import NotAllowed, is_allowed, networks, resolve

PUBLIC = ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450:4001:81b::200e"]
INSIDE = [
    *("0.0.0.0", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.9.9.9", "169.254.169.254", "172.16.0.1", "192.168.1.1"),  # noqa: S104 - refused
    *("192.0.2.1", "198.18.0.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "fe80::1", "fc00::1", "fd12:3456::1", "ff02::1", "2001:db8::1"),
    # what some releases of the standard library do not know
    *("64:ff9b:1:7f00:0:100:808:808", "fec0::1", "3fff::1", "192.0.0.192", "168.63.129.16"),
    # an address in another one
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "2002:a00:1::1", "64:ff9b::7f00:1", "64:ff9b:1::a00:1"),
    *(
        "::127.0.0.1",
        "::a00:1",
        "64:ff9b:1:7f00:0:100:808:808",
        "fec0::1",
        "3fff::1",
        "192.0.0.192",
        "168.63.129.16",
        "2001:0:4136:e378:8000:63bf:80ff:fffe",
    ),
]


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_everybodys_is_talked_to(address: str) -> None:
    assert is_allowed(ip_address(address), ())


@pytest.mark.parametrize("address", INSIDE)
def test_what_is_behind_a_wall_is_not_in_whatever_form(address: str) -> None:
    assert not is_allowed(ip_address(address), ())


def test_what_was_allowed_is_talked_to_and_what_is_beside_it_is_not() -> None:
    allowed = networks("allow", ["10.1.0.0/16", "::1"])
    for address, expected in (
        ("10.1.2.3", True),
        ("10.2.2.3", False),
        ("::ffff:10.1.2.3", True),
        ("::ffff:10.2.2.3", False),
        ("::1", True),
        ("::2", False),
        ("127.0.0.1", False),
    ):
        assert is_allowed(ip_address(address), allowed) is expected, address


@given(st.ip_addresses(v=4))
def test_an_address_in_another_is_judged_as_that_address(address: object) -> None:
    bare = ip_address(str(address))
    number = int(bare)
    for network, shift in (("::ffff:0:0/96", 0), ("64:ff9b::/96", 0), ("2002::/16", 80)):
        wrapped = IPv6Address(int(ip_network(network).network_address) | number << shift)
        assert is_allowed(wrapped, ()) <= is_allowed(bare, ()), wrapped


def test_a_name_of_this_machine_is_not_talked_to() -> None:
    with pytest.raises(NotAllowed, match=r"^the host has no public address"):
        asyncio.run(resolve("localhost", 80, ()))
    with pytest.raises(NotAllowed):
        asyncio.run(resolve("0x7f000001", 80, ()))  # as some resolvers read it
    with pytest.raises(NotAllowed):
        asyncio.run(resolve("2130706433", 80, ()))
    assert asyncio.run(resolve("127.0.0.1", 80, networks("allow", ["127.0.0.0/8"]))) == ["127.0.0.1"]
