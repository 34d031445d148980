"""IPAddress and ServiceCIDR: who holds a cluster address, and from which ranges they come.

Source: KEP-1880; the messages of a 1.32 server with networking.k8s.io/v1beta1 served.
"""

from __future__ import annotations

import ipaddress

from podnet.controlplane.api import names
from podnet.controlplane.api.addresses import parse_network
from podnet.controlplane.api.errors import Cause, invalid_value, required
from podnet.controlplane.api.types import Object
from podnet.controlplane.api.validation.services import validate_cidr
from podnet.controlplane.api.validation.values import immutable, part, strings, texts


def ip_address_name(name: str) -> list[str]:
    """The name of an IPAddress is the address itself, written in its one canonical form."""
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return [f'ParseAddr("{name}"): unable to parse IP']
    return [] if str(address) == name else ["must be a canonical form IP address"]


def validate_ip_address(obj: Object) -> list[Cause]:
    """An IPAddress belongs to something."""
    parent = part(obj, "spec").get("parentRef")
    if parent is None:
        return [required("spec.parentRef")]
    causes: list[Cause] = []
    if parent.get("group"):
        causes += texts("spec.parentRef.group", parent["group"], names.dns1123_subdomain(parent["group"]))
    for field in ("resource", "name"):
        value = parent.get(field) or ""
        path = f"spec.parentRef.{field}"
        causes += texts(path, value, names.path_segment(value)) if value else [required(path)]
    if parent.get("namespace"):
        causes += texts("spec.parentRef.namespace", parent["namespace"], names.path_segment(parent["namespace"]))
    return causes


def validate_ip_address_update(new: Object, old: Object) -> list[Cause]:
    """It stays with its parent."""
    return immutable(part(new, "spec"), part(old, "spec"), "parentRef", "spec")


def validate_service_cidr(obj: Object) -> list[Cause]:
    """One range, or one of each family."""
    cidrs = strings(part(obj, "spec"), "cidrs")
    if not cidrs:
        return [required("spec.cidrs", "at least one CIDR required")]
    if len(cidrs) > 2:
        return [invalid_value("spec.cidrs", cidrs, "may only hold up to 2 values")]
    causes: list[Cause] = []
    for index, cidr in enumerate(cidrs):
        path = f"spec.cidrs[{index}]"
        problems = validate_cidr(cidr, path)
        if not problems and str(parse_network(cidr)) != cidr:
            shown = parse_network(cidr)
            problems = [invalid_value(path, cidr, f'must be in canonical form ("{shown}")')]
        causes += problems
    if not causes and len(cidrs) == 2 and (":" in cidrs[0]) == (":" in cidrs[1]):
        text = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/96"
        causes.append(invalid_value("spec.cidrs", cidrs, text))
    return causes


def validate_service_cidr_update(new: Object, old: Object) -> list[Cause]:
    """The ranges stay: Services have addresses from them."""
    return immutable(part(new, "spec"), part(old, "spec"), "cidrs", "spec")
