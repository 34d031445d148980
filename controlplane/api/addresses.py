"""IP addresses and networks as Kubernetes reads them in fields that are older than strict parsers. Pure.

An IPv4 number may have leading zeros and is decimal even so: 010.0.0.1 is 10.0.0.1, never 8.0.0.1. Everybody who reads an
object has to agree on that, or a rule means one address where it is checked and another where it is used (CVE-2021-29923).
What only some parsers know is no address here: scopes (fe80::1%eth0), netmasks (10.0.0.0/255.0.0.0), IPv4 in the clothes of
IPv6 (::ffff:10.0.0.1) as anything but IPv4. Source: k8s.io/utils/net, ParseIPSloppy and ParseCIDRSloppy.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

_OCTETS = re.compile(r"[0-9]+(\.[0-9]+){3}", re.ASCII)
_LENGTH = re.compile(r"[0-9]+", re.ASCII)


def parse_ip(text: str) -> IPv4Address | IPv6Address:
    """The address. Raises ValueError.

    >>> parse_ip("010.096.000.001")
    IPv4Address('10.96.0.1')
    """
    if _OCTETS.fullmatch(text):
        return IPv4Address(_without_zeros(text))
    if "%" in text:
        raise ValueError(f"an address with a scope means something on one machine only: {text}")
    address = ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def parse_network(text: str) -> IPv4Network | IPv6Network:
    """The network of `address/length`, whatever the address says beyond it. Raises ValueError.

    >>> parse_network("010.1.2.3/8")
    IPv4Network('10.0.0.0/8')
    """
    address, slash, length = text.partition("/")
    if not slash or not _LENGTH.fullmatch(length) or "%" in address:
        raise ValueError(f"not an address and a length: {text}")
    if _OCTETS.fullmatch(address):
        address = _without_zeros(address)
    return ip_network(f"{address}/{int(length)}", strict=False)


def _without_zeros(text: str) -> str:
    return ".".join(part.lstrip("0") or "0" for part in text.split("."))
