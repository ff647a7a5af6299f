"""The address that a request comes from, behind the proxies that are trusted."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from aiohttp import web

HEADER = "X-Forwarded-For"
"""Each proxy adds the address of its own client at the end."""


def client_address(
    request: web.Request, trusted_proxies: Sequence[IPv4Network | IPv6Network]
) -> IPv4Address | IPv6Address | None:
    """The last address on the way that is no trusted proxy's; None where that is no address.

    Anybody can write what stands before it.
    """
    address = _parsed(request.remote or "")
    forwarded = ",".join(request.headers.getall(HEADER, ())).split(",")
    while forwarded and address and any(address in network for network in trusted_proxies):
        hop = forwarded.pop().strip()
        address = _parsed(hop) if hop else address
    return address


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    """The address in ``192.0.2.1``, ``192.0.2.1:443`` or ``[2001:db8::1]:443``."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    # As a socket for both families names an IPv4 client.
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address
