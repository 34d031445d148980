"""Values as Go writes them (`%#v`), which is how a 1.32 server shows a refused value that is neither text nor number.

Pure. Only the types that refusals of workloads show: maps of strings, label selectors and IntOrString.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from podnet.controlplane.api.errors import GoSyntax, go_quoted


def string_map(value: Mapping[str, str] | None) -> GoSyntax:
    """`map[string]string{"app":"web"}`."""
    if value is None:
        return GoSyntax("map[string]string(nil)")
    return GoSyntax(
        "map[string]string{" + ", ".join(f"{go_quoted(k)}:{go_quoted(value[k])}" for k in sorted(value)) + "}"
    )


def label_selector(value: Mapping[str, Any]) -> GoSyntax:
    """`v1.LabelSelector{MatchLabels:…, MatchExpressions:…}`."""
    rows = value.get("matchExpressions")
    shown = "(nil)" if rows is None else "{" + ", ".join(map(_requirement, rows)) + "}"
    labels = string_map(value.get("matchLabels"))
    return GoSyntax(f"v1.LabelSelector{{MatchLabels:{labels}, MatchExpressions:[]v1.LabelSelectorRequirement{shown}}}")


def _requirement(row: Mapping[str, Any]) -> str:
    values = row.get("values")
    shown = "(nil)" if values is None else "{" + ", ".join(map(go_quoted, values)) + "}"
    key, operator = go_quoted(row.get("key") or ""), go_quoted(row.get("operator") or "")
    return f"v1.LabelSelectorRequirement{{Key:{key}, Operator:{operator}, Values:[]string{shown}}}"


def int_or_string(value: int | str) -> GoSyntax:
    """`intstr.IntOrString{Type:0, IntVal:1, StrVal:""}`."""
    if isinstance(value, str):
        return GoSyntax(f"intstr.IntOrString{{Type:1, IntVal:0, StrVal:{go_quoted(value)}}}")
    return GoSyntax(f'intstr.IntOrString{{Type:0, IntVal:{value}, StrVal:""}}')


def strategy(value: Mapping[str, Any], go_type: str, rolling_type: str) -> GoSyntax | Mapping[str, Any]:
    """`apps.DeploymentStrategy{Type:"Blue", RollingUpdate:(*apps.RollingUpdateDeployment)(nil)}`. With a rolling update
    in it Go shows an address of its memory, which says nothing: then the value as it was sent.
    """
    if value.get("rollingUpdate") is not None:
        return value
    kind = go_quoted(value.get("type") or "")
    return GoSyntax(f"apps.{go_type}{{Type:{kind}, RollingUpdate:(*apps.{rolling_type})(nil)}}")
