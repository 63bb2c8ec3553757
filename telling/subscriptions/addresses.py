"""Which addresses may be connected to.

A receiver inside of the network may act on any POST. So loopback and private addresses are refused, unless
DORMOUSE_WEBHOOK_PRIVATE is true.
"""

import ipaddress
import socket
from typing import Any

from django.conf import settings

#: Addresses of IPv6 that a gateway translates to IPv4 (RFC 6052).
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class AddressRefused(OSError):
    """The address is not on the public internet."""

    def __init__(self, address: str) -> None:
        super().__init__(f"its address {address} is not public, and DORMOUSE_WEBHOOK_PRIVATE is not true")


def open_socket(found: tuple[Any, ...]) -> socket.socket:
    """Return a socket for an address as `getaddrinfo` returns it, which is the one that is then connected to.

    Raises AddressRefused. So it does not matter what a name resolved to before, or to what it resolves later.
    """
    family, type, protocol, _, address = found
    check(str(address[0]))
    return socket.socket(family, type, protocol)


def check(address: str) -> None:
    """Raise AddressRefused if no delivery may go to this IP address."""
    if not settings.DORMOUSE_WEBHOOK_PRIVATE and not is_public(address):
        raise AddressRefused(address)


def check_host(host: str) -> None:
    """Raise AddressRefused if `host` is, or now resolves to, an address that no delivery may go to. Raises OSError."""
    if not settings.DORMOUSE_WEBHOOK_PRIVATE:
        for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM):
            check(str(found[4][0]))


def is_public(address: str) -> bool:
    """Return whether an IP address is on the public internet. An IPv4 address inside of an IPv6 one decides."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        embedded = found.ipv4_mapped or found.sixtofour
        if found in NAT64:
            embedded = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if embedded:
            return is_public(str(embedded))
        if found.is_site_local:  # fec0::/10, which Python takes for global
            return False
    return found.is_global and not found.is_multicast and not found.is_reserved
