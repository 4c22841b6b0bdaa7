"""Which addresses a call for credentials may go to. It must not look anything up.

Explicit tables, because `is_private` and `is_global` let several ways to the inside pass: addresses mapped or
translated from IPv4, 6to4, and the clouds' own service addresses.
"""

from __future__ import annotations

import ipaddress
from enum import StrEnum
from typing import TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

# Never the place of a token service that somebody names: this network, link-local, multicast, metadata services.
_NEVER_4 = ("0.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "168.63.129.16/32", "100.100.100.200/32")
_NEVER_6 = ("fe80::/9", "ff00::/8", "fd00:ec2::/32", "fd20:ce::/32", "64:ff9b:1::/48", "2001::/32", "2002::/16")
_LOW_6 = "::/96"  # IPv4 in its first disguise, and the loopback address
_INSIDE_4 = ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
             "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24")  # fmt: skip
_PUBLIC_6 = "2000::/3"
_NOT_PUBLIC_6 = ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
_TRANSLATED = "64:ff9b::/96"


class Reach(StrEnum):
    """Who named the host, and so where it may be."""

    PUBLIC = "public"  # a host of the cloud itself: on the Internet
    NAMED = "named"  # by the configuration file: anywhere but where machines keep their credentials
    MACHINE = "machine"  # the machine's own credential service, which the operator has asked for


def may_reach(text: str, reach: Reach) -> bool:
    """Whether a call may go to this literal address."""
    address = _plain(ipaddress.ip_address(text.partition("%")[0]))
    if reach is Reach.MACHINE:
        return True
    if isinstance(address, ipaddress.IPv4Address):
        return not _within(address, _NEVER_4) and (reach is Reach.NAMED or not _within(address, _INSIDE_4))
    if _within(address, _NEVER_6) or (_within(address, (_LOW_6,)) and not address.is_loopback):
        return False
    return reach is Reach.NAMED or (_within(address, (_PUBLIC_6,)) and not _within(address, _NOT_PUBLIC_6))


def is_loopback(host: str) -> bool:
    """Whether a host of a URL is this machine."""
    try:
        return _plain(ipaddress.ip_address(host)).is_loopback
    except ValueError:
        return host == "localhost"


def _plain(address: Address) -> Address:
    """An IPv4 address in the clothes of IPv6 is judged as what it is."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if _within(address, (_TRANSLATED,)):
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _within(address: Address, networks: tuple[str, ...]) -> bool:
    return any(address in ipaddress.ip_network(network) for network in networks)
