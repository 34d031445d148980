"""The `kubernetes` lines of a Corefile, understood. Reads no file and asks nobody.

    kubernetes [ZONES...] {
        endpoint URL                    tls CERT KEY CACERT             kubeconfig FILE [CONTEXT]
        namespaces NAMESPACE...         namespace_labels EXPRESSION     labels EXPRESSION
        pods disabled|insecure|verified endpoint_pod_names              noendpoints
        ttl SECONDS                     ignore empty_service            zonal
        multicluster [ZONES...]         fallthrough [ZONES...]          startup_timeout DURATION
        nodes                           (not CoreDNS's: names of nodes, <node>.node.ZONE, and their reverse)
    }

Source: the CoreDNS kubernetes plugin's README.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import cast

from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.selectors import LabelSelector, parse_label_selector
from podnet.dns.config import ConfigError, Directive, Setup, Token, parse_duration, parse_number
from podnet.dns.records.names import is_reverse, split_name
from podnet.dns.records.types import Options, PodMode

STARTUP_TIMEOUT_S = 5.0
TTL_MAX_S = 3600


@dataclass(frozen=True, slots=True)
class ApiOptions:
    """Where the API server is, when it is not the one around this pod."""

    server: str = ""
    cert_file: str = ""
    key_file: str = ""
    ca_file: str = ""
    kubeconfig: str = ""
    context: str = ""


@dataclass(frozen=True, slots=True)
class KubernetesOptions:
    """The whole block."""

    zones: tuple[str, ...]
    records: Options = field(default_factory=Options)
    api: ApiOptions = field(default_factory=ApiOptions)
    multicluster: tuple[str, ...] = ()
    fallthrough: tuple[str, ...] = ()
    startup_timeout_s: float = STARTUP_TIMEOUT_S

    @property
    def primary(self) -> str:
        """The zone that PTR records point into: the first that is no reverse zone."""
        return next((zone for zone in self.zones if not is_reverse(split_name(zone))), ".")


def parse_options(setup: Setup) -> KubernetesOptions:
    """Raises ConfigError at the word that is wrong."""
    directive = setup.once()
    options = KubernetesOptions(setup.zones_of(directive.args))
    if all(is_reverse(split_name(zone)) for zone in options.zones):
        raise directive.error("non-reverse zone name must be used")
    for line in directive.block:
        parse = _LINES.get(line.name)
        if parse is None:
            raise line.error(f"unknown property '{line.name}'")
        options = parse(options, line, setup)
    if options.records.namespaces and not options.records.namespace_labels.empty:
        raise directive.error("namespaces and namespace_labels cannot both be set")
    for zone in options.multicluster:
        if zone not in options.zones:
            raise directive.error(f"is not authoritative for the multicluster zone {zone}")
    return options


def _arguments(line: Directive, low: int, high: int | None = None) -> tuple[Token, ...]:
    count = len(line.args)
    if count < low or (high is not None and count > high) or line.has_block:
        raise line.error(f"wrong number of arguments to '{line.name}'")
    return line.args


def _endpoint(options: KubernetesOptions, line: Directive, _: Setup) -> KubernetesOptions:
    # Several endpoints were allowed long ago; one is used, as in CoreDNS.
    token = _arguments(line, 1, 1)[0]
    if not token.text.startswith(("https://", "http://")):
        raise ConfigError(f"'{token.text}' is no URL of an API server", token)
    return replace(options, api=replace(options.api, server=token.text.rstrip("/")))


def _tls(options: KubernetesOptions, line: Directive, setup: Setup) -> KubernetesOptions:
    cert, key, ca = (str(setup.path(token)) for token in _arguments(line, 3, 3))
    return replace(options, api=replace(options.api, cert_file=cert, key_file=key, ca_file=ca))


def _kubeconfig(options: KubernetesOptions, line: Directive, setup: Setup) -> KubernetesOptions:
    words = _arguments(line, 1, 2)
    context = words[1].text if len(words) == 2 else ""
    return replace(options, api=replace(options.api, kubeconfig=str(setup.path(words[0])), context=context))


def _namespaces(options: KubernetesOptions, line: Directive, _: Setup) -> KubernetesOptions:
    names = frozenset(token.text for token in _arguments(line, 1))
    return _records(options, namespaces=options.records.namespaces | names)


def _selector(line: Directive) -> LabelSelector:
    words = _arguments(line, 1)
    try:
        return parse_label_selector(" ".join(token.text for token in words))
    except StatusError as error:
        raise ConfigError(f"unable to parse label selector value: {error.message}", words[0]) from error


def _labels(options: KubernetesOptions, line: Directive, _: Setup) -> KubernetesOptions:
    return _records(options, labels=_selector(line))


def _namespace_labels(options: KubernetesOptions, line: Directive, _: Setup) -> KubernetesOptions:
    return _records(options, namespace_labels=_selector(line))


def _pods(options: KubernetesOptions, line: Directive, _: Setup) -> KubernetesOptions:
    token = _arguments(line, 1, 1)[0]
    if token.text not in ("disabled", "insecure", "verified"):
        raise ConfigError(f"wrong value for pods: {token.text}, must be one of: disabled, verified, insecure", token)
    return _records(options, pods=cast("PodMode", token.text))


def _ttl(options: KubernetesOptions, line: Directive, _: Setup) -> KubernetesOptions:
    return _records(options, ttl_s=parse_number(_arguments(line, 1, 1)[0], 0, TTL_MAX_S))


def _flag(**changes: bool) -> Callable[[KubernetesOptions, Directive, Setup], KubernetesOptions]:
    def parse(options: KubernetesOptions, line: Directive, _: Setup) -> KubernetesOptions:
        _arguments(line, 0, 0)
        return _records(options, **changes)

    return parse


def _ignore(options: KubernetesOptions, line: Directive, _: Setup) -> KubernetesOptions:
    token = _arguments(line, 1, 1)[0]
    if token.text != "empty_service":
        raise ConfigError(f"unable to parse ignore value: {token.text}, must be empty_service", token)
    return _records(options, ignore_empty_service=True)


def _multicluster(options: KubernetesOptions, line: Directive, setup: Setup) -> KubernetesOptions:
    return replace(options, multicluster=setup.zones_of(line.args))


def _fallthrough(options: KubernetesOptions, line: Directive, setup: Setup) -> KubernetesOptions:
    return replace(options, fallthrough=setup.zones_of(line.args) if line.args else (".",))


def _startup_timeout(options: KubernetesOptions, line: Directive, _: Setup) -> KubernetesOptions:
    return replace(options, startup_timeout_s=parse_duration(_arguments(line, 1, 1)[0]))


def _limit(options: KubernetesOptions, line: Directive, _: Setup) -> KubernetesOptions:
    """A handful of watches need no limit on requests; the number is checked and then has nothing to limit."""
    parse_number(_arguments(line, 1, 1)[0], 1, 1_000_000)
    return options


def _records(options: KubernetesOptions, **changes: object) -> KubernetesOptions:
    return replace(options, records=replace(options.records, **changes))  # type: ignore[arg-type]  # names above


_LINES: dict[str, Callable[[KubernetesOptions, Directive, Setup], KubernetesOptions]] = {
    "endpoint": _endpoint,
    "tls": _tls,
    "kubeconfig": _kubeconfig,
    "namespaces": _namespaces,
    "namespace_labels": _namespace_labels,
    "labels": _labels,
    "pods": _pods,
    "endpoint_pod_names": _flag(endpoint_pod_names=True),
    "noendpoints": _flag(endpoints=False),
    "zonal": _flag(zonal=True),
    "nodes": _flag(nodes=True),
    "ignore": _ignore,
    "ttl": _ttl,
    "multicluster": _multicluster,
    "fallthrough": _fallthrough,
    "startup_timeout": _startup_timeout,
    "apiserver_qps": _limit,
    "apiserver_burst": _limit,
    "apiserver_max_inflight": _limit,
}
