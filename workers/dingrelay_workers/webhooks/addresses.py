"""Addresses that a webhook may reach: public ones, and those of networks that the settings allow.

An endpoint's URL comes from outside, and the workers stand inside: what answers at ``169.254.169.254``
or in the office network must not be reached by naming it in a webhook (SSRF). The check is made of
the very address that is connected to, so a name that leads elsewhere the second time gains nothing.
"""

import ipaddress
from collections.abc import Sequence

from dingrelay_producers.settings import Settings

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",  # this host (RFC 1122)
        "10.0.0.0/8",  # private (RFC 1918)
        "100.64.0.0/10",  # behind a carrier's NAT (RFC 6598); clouds keep services there
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local, with the clouds' metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocols
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
        "2001::/23",  # protocols, with Teredo, which carries any IPv4 address
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which carries any IPv4 address
        "3fff::/20",  # documentation
    )
)
_PUBLIC_V6 = ipaddress.ip_network("2000::/3")
"""All that is handed out of IPv6. What is outside it is loopback, link-local, unique local (fc00::/7),
multicast, IPv4-mapped (::ffff:0:0/96), NAT64 (64:ff9b::/96 and 64:ff9b:1::/48) and discard-only."""

_LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


class AddressRefused(OSError):
    """An address that webhooks may not reach."""


class Reachable:
    """The addresses that webhooks may reach.

    Args:
        networks: that are allowed though they are not public.
    """

    def __init__(self, networks: Sequence[Network] = ()) -> None:
        self._allowed = tuple(networks)

    @classmethod
    def from_settings(cls, settings: Settings) -> "Reachable":
        """The addresses allowed by the settings; outside production this machine, too."""
        allowed = [
            ipaddress.ip_network(part.strip())
            for part in settings.webhook_networks.split(",")
            if part.strip()
        ]
        return cls(allowed if settings.env == "production" else [*allowed, *_LOOPBACK])

    def check(self, address: str) -> None:
        """Let an address pass that may be reached.

        Raises:
            AddressRefused: it may not, or is none.
        """
        try:
            # A zone (fe80::1%eth0) says by which way, and is no part of the address.
            ip = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            raise AddressRefused("no address") from None
        mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
        # The system would connect to the IPv4 address in it, so that is what must be allowed.
        if any(form in network for form in (mapped or ip, ip) for network in self._allowed):
            return
        if isinstance(ip, ipaddress.IPv6Address) and ip not in _PUBLIC_V6:
            raise AddressRefused("not a public address")
        if any(ip in network for network in _NOT_PUBLIC):
            raise AddressRefused("not a public address")


def literal(host: str) -> str | None:
    """The address that a URL's host spells; None for a name."""
    try:
        return str(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        return None
