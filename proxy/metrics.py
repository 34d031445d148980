"""What the proxy counts, and its pages on 127.0.0.1:10249, which only its own node sees.

    /proxyMode    nftables | iptables
    /healthz      ok, as long as the process answers
    /metrics      kube-proxy's names, in the Prometheus text format

Source: kube-proxy's `metricsBindAddress` and pkg/proxy/metrics of Kubernetes 1.32.
"""

from __future__ import annotations

from podnet.controlplane.metrics import CONTENT_TYPE, Registry
from podnet.proxy.healthcheck import NOT_FOUND, Answer
from podnet.proxy.model import Model

_PREFIX = "kubeproxy_"
_SYNC = f"{_PREFIX}sync_proxy_rules_"
_BUCKETS = tuple(0.001 * 2**power for power in range(15))
_FAILURES = {
    "nftables": (f"{_SYNC}nftables_sync_failures_total", "Cumulative proxy nftables sync failures"),
    "iptables": (f"{_SYNC}iptables_restore_failures_total", "Cumulative proxy iptables restore failures"),
}


class ProxyMetrics:
    """The figures of one node's proxy."""

    def __init__(self, mode: str) -> None:
        self._mode = mode
        self._model: Model | None = None
        self._registry = registry = Registry()
        self._latency = registry.histogram(
            f"{_SYNC}duration_seconds", "SyncProxyRules latency in seconds", (), _BUCKETS
        )
        self._synced = registry.gauge(
            f"{_SYNC}last_timestamp_seconds", "The last time proxy rules were successfully synced"
        )
        self._lonely = registry.gauge(
            f"{_SYNC}no_local_endpoints",
            "Number of services with a Local traffic policy and no endpoints",
            ("traffic_policy",),
        )
        self.failures = registry.counter(*_FAILURES[mode])
        self.service_changes = registry.counter(
            f"{_SYNC}service_changes_total", "Cumulative proxy rules Service changes"
        )
        self.endpoint_changes = registry.counter(
            f"{_SYNC}endpoint_changes_total", "Cumulative proxy rules Endpoint changes"
        )
        self._answers = {
            f"/{path}": registry.counter(
                f"{_PREFIX}proxy_{path}_total", f"Cumulative proxy {path} HTTP status", ("code",)
            )
            for path in ("healthz", "livez")
        }
        for counter in (self.failures, self.service_changes, self.endpoint_changes):
            counter.add(amount=0)  # what never happened is 0, not absent

    def synced(self, model: Model, took_s: float, now_s: float) -> None:
        """The rules are those of this model now."""
        self._latency.observe(took_s)
        self._synced.set(now_s)
        self._model = model

    def _count_lonely(self, model: Model) -> None:
        """Only for who asks: it looks at every port, and a sync costs what changed."""
        ports = [port for port in model.ports if port.has_endpoints and not port.local_endpoints]
        inside = {(port.namespace, port.name) for port in ports if port.internal_local}
        outside = {(port.namespace, port.name) for port in ports if port.external_local and port.has_outside}
        self._lonely.set(len(inside), "internal")
        self._lonely.set(len(outside), "external")

    def answered(self, path: str, code: int) -> None:
        """Somebody asked on port 10256 how the proxy is."""
        if path in self._answers:
            self._answers[path].add(str(code))

    def page(self, path: str) -> Answer:
        """The answer on port 10249."""
        plain = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
        if path == "/proxyMode":
            return 200, plain, self._mode.encode()
        if path == "/healthz":
            return 200, plain, b"ok"
        if path == "/metrics":
            if self._model is not None:
                self._count_lonely(self._model)
            return 200, {"Content-Type": CONTENT_TYPE}, self._registry.expose().encode()
        return NOT_FOUND
