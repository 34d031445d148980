"""The dual-stack fields of a Service: what a writer left out is inferred, what cannot be had is refused.

This cluster serves one family. As upstream on such a cluster: PreferDualStack is accepted and gets one address,
RequireDualStack and the other family are refused, and a headless Service without a selector may claim both families,
because whoever writes its endpoints serves them.

Rule: pure; works on the new object in place. Source: KEP-563; the Service registry of Kubernetes 1.32.
"""

from __future__ import annotations

from typing import Any

from podnet.controlplane.api.errors import Cause, invalid_value
from podnet.controlplane.api.types import Object
from podnet.controlplane.api.validation.services import validate_families

SERVED = "IPv4"
"""The one family that cluster addresses are given from."""

_BOTH = ("IPv4", "IPv6")

Spec = dict[str, Any]


def normalize_cluster_ips(new: Spec, old: Spec) -> None:
    """`clusterIP` and `clusterIPs` say the same. A client that knows only one of them changes only that one: then the
    other follows. Who changes both is taken at his word, and validation compares them."""
    address, addresses = new.get("clusterIP") or "", list(new.get("clusterIPs") or ())
    before, all_before = old.get("clusterIP") or "", list(old.get("clusterIPs") or ())
    if not old:
        if address and not addresses:
            addresses = [address]
    elif address != before and addresses == all_before:
        addresses = [address] if address else []
    elif address == before and addresses != all_before and not addresses:
        address = ""
    elif address and not addresses:
        addresses = [address]
    _put(new, "clusterIP", address)
    _put(new, "clusterIPs", addresses)


def _put(spec: Spec, name: str, value: object) -> None:
    if value:
        spec[name] = value
    else:
        spec.pop(name, None)


def settle_families(new: Object, old: Object | None) -> list[Cause]:
    """Give a Service its policy and families; the causes say what this cluster does not have."""
    spec: Spec = new["spec"]
    if spec.get("type") == "ExternalName":
        return []
    before: Spec = (old or {}).get("spec") or {}
    headless = spec.get("clusterIP") == "None"
    selectorless = headless and not spec.get("selector")
    if not spec.get("ipFamilyPolicy"):
        spec["ipFamilyPolicy"] = before.get("ipFamilyPolicy") or ("RequireDualStack" if selectorless else "SingleStack")
    causes = validate_families(spec)
    if causes:
        return causes
    if before:
        causes += _release_second(spec, before)
    causes += _refuse_two_in_single(spec)
    if not headless:
        causes += _infer_families(spec)
    if causes:
        return causes
    if selectorless:
        _claim_both(spec)
        return []
    return _only_served(spec)


def _release_second(spec: Spec, before: Spec) -> list[Cause]:
    """SingleStack drops the second address and family; any other policy may not lose them by the way."""
    causes: list[Cause] = []
    for name, text in (("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")):
        now, then = spec.get(name) or [], before.get(name) or []
        if spec["ipFamilyPolicy"] == "SingleStack":
            if now == then and len(now) > 1:
                spec[name] = now[:1]
        elif len(then) == 2 and len(now) == 1 and then[0] == now[0]:
            message = f"must be 'SingleStack' to release the secondary {text}"
            causes.append(invalid_value("spec.ipFamilyPolicy", spec["ipFamilyPolicy"], message))
    return causes


def _refuse_two_in_single(spec: Spec) -> list[Cause]:
    if spec["ipFamilyPolicy"] != "SingleStack":
        return []
    return [
        invalid_value(
            "spec.ipFamilyPolicy",
            "SingleStack",
            f"must be 'RequireDualStack' or 'PreferDualStack' when multiple {text} are specified",
        )
        for name, text in (("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families"))
        if len(spec.get(name) or ()) == 2
    ]


def _infer_families(spec: Spec) -> list[Cause]:
    """Addresses that were asked for by hand name their family."""
    families = list(spec.get("ipFamilies") or ())
    causes: list[Cause] = []
    addresses = spec.get("clusterIPs") or []
    for index, address in enumerate(addresses):
        family = "IPv6" if ":" in address else "IPv4"
        if index < len(families):
            continue
        if family == SERVED:
            families.append(family)
        else:
            message = f"{family} is not configured on this cluster"
            causes.append(invalid_value(f"spec.clusterIPs[{index}]", addresses, message))
    if families:
        spec["ipFamilies"] = families
    return causes


def _claim_both(spec: Spec) -> None:
    families = list(spec.get("ipFamilies") or [SERVED])
    if len(families) < 2 and spec["ipFamilyPolicy"] != "SingleStack":
        families += [family for family in _BOTH if family not in families]
    spec["ipFamilies"] = families


def _only_served(spec: Spec) -> list[Cause]:
    causes: list[Cause] = []
    if spec["ipFamilyPolicy"] == "RequireDualStack":
        message = "this cluster is not configured for dual-stack services"
        causes.append(invalid_value("spec.ipFamilyPolicy", spec["ipFamilyPolicy"], message))
    causes += [
        invalid_value(f"spec.ipFamilies[{index}]", family, "not configured on this cluster")
        for index, family in enumerate(spec.get("ipFamilies") or ())
        if family != SERVED
    ]
    if not causes and not spec.get("ipFamilies"):
        spec["ipFamilies"] = [SERVED]
    return causes
