"""Names that are made of addresses and addresses that are hidden in names. Pure.

Source: Kubernetes DNS specification 1.1.0 §2.4; kubernetes.io/docs/concepts/services-networking/dns-pod-service; RFC 1035
§3.5 and RFC 3596 §2.5 for the reverse zones.
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address

from podnet.controlplane.api.addresses import parse_ip
from podnet.dns.records.types import Labels

LABEL_MAX = 63
_REVERSE_4 = ("in-addr", "arpa")
_REVERSE_6 = ("ip6", "arpa")


def endpoint_label(address: str, hostname: str = "", pod: str = "", *, pod_names: bool = False) -> str:
    """The first label of an endpoint's name: its host name, its pod's where that is asked for and fits, its address.

    >>> endpoint_label("10.11.12.13"), endpoint_label("2001:db8::")
    ('10-11-12-13', '2001-db8--0')
    """
    if hostname:
        return hostname.lower()
    if pod_names and pod and len(pod) <= LABEL_MAX and "." not in pod:
        return pod.lower()
    label = address.lower().replace(".", "-").replace(":", "-")
    return f"{label}0" if label.endswith("-") else label  # a label may not end in a hyphen


def pod_address(label: str) -> str:
    """The address a pod's name spells, canonical; empty when it spells none.

    >>> pod_address("10-244-1-7"), pod_address("fd00--1:2"), pod_address("fd00--1")
    ('10.244.1.7', '', 'fd00::1')
    """
    separator = "." if label.count("-") == 3 and "--" not in label else ":"
    try:
        return "" if ":" in label or "%" in label else str(ip_address(label.replace("-", separator)))
    except ValueError:
        return ""


def canonical_address(text: str) -> str:
    """An address in its one canonical spelling; empty for what is none."""
    try:
        return str(parse_ip(text))
    except ValueError:
        return ""


def reverse_address(labels: Labels) -> str:
    """The address a name of the reverse zones stands for; empty when it is none, or not a whole one.

    >>> reverse_address(("1", "0", "96", "10", "in-addr", "arpa"))
    '10.96.0.1'
    """
    tail, digits = labels[-2:], labels[:-2]
    if tail == _REVERSE_4 and len(digits) == 4:
        return canonical_address(".".join(reversed(digits)))
    if tail == _REVERSE_6 and len(digits) == 32 and all(len(digit) == 1 for digit in digits):
        nibbles = "".join(reversed(digits))
        try:
            return str(IPv6Address(int(nibbles, 16)))
        except ValueError:
            return ""
    return ""


def is_reverse(labels: Labels) -> bool:
    """Whether a name lies in a reverse zone."""
    return labels[-2:] in (_REVERSE_4, _REVERSE_6)


def split_name(name: str) -> Labels:
    """`Web.default.svc.` → its labels in lower case."""
    text = name.rstrip(".").lower()
    return tuple(text.split(".")) if text else ()
