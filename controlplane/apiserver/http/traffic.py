"""What the API server counts of its requests, for `/metrics`, under upstream's names.

The rule: a request costs two additions to dictionaries (one by code, one for its duration); gauges are looked up, and
all text is made, when somebody scrapes. No label holds anything a client can choose.
Source: apiserver pkg/endpoints/metrics and pkg/storage/cacher/metrics of Kubernetes 1.32.
"""

from __future__ import annotations

from podnet.controlplane.api.resources import RESOURCES, storage_resource
from podnet.controlplane.api.types import Resource
from podnet.controlplane.apiserver.http.documents import VERSION
from podnet.controlplane.apiserver.http.paths import Target
from podnet.controlplane.apiserver.http.protocol import APIRequest
from podnet.controlplane.apiserver.watchcache import WatchCache
from podnet.controlplane.metrics import API_LATENCY_BOUNDS_S, Registry

_VERBS = {"GET": "GET", "HEAD": "GET", "POST": "POST", "PUT": "PUT", "PATCH": "PATCH", "DELETE": "DELETE"}
_OF_COLLECTIONS = {"GET": "LIST", "DELETE": "DELETECOLLECTION"}
_READING = frozenset({"GET", "HEAD"})
_CONNECTS = frozenset({"exec", "attach", "portforward", "proxy"})
_WHERE = ("group", "version", "resource", "subresource", "scope")


class Traffic:
    """The counts of one server. `begin` and `end` bracket every request."""

    def __init__(self, metrics: Registry, cache: WatchCache) -> None:
        self.metrics = metrics
        self._cache = cache
        self._reading = 0
        self._changing = 0
        self._requests = metrics.counter(
            "apiserver_request_total",
            "Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, "
            "component, and HTTP response code.",
            ("verb", *_WHERE, "dry_run", "code", "component"),
        )
        self._duration = metrics.histogram(
            "apiserver_request_duration_seconds",
            "Response latency distribution in seconds for each verb, dry run value, group, version, resource, "
            "subresource, scope and component.",
            ("verb", *_WHERE, "dry_run", "component"),
            API_LATENCY_BOUNDS_S,
        )
        self._long_running = metrics.gauge(
            "apiserver_longrunning_requests",
            "Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, scope "
            "and component. Not all requests are tracked this way.",
            ("verb", *_WHERE, "component"),
        )
        self._watch_events = metrics.counter(
            "apiserver_watch_events_total", "Number of events sent in watch clients", ("group", "version", "kind")
        )
        self._inflight = metrics.gauge(
            "apiserver_current_inflight_requests",
            "Maximal number of currently used inflight request limit of this apiserver per request kind in last second.",
            ("request_kind",),
        )
        self._objects = metrics.gauge(
            "apiserver_storage_objects",
            "Number of stored objects at the time of last check split by kind.",
            ("resource",),
        )
        self._watchers = metrics.gauge(
            "apiserver_registered_watchers",
            "Number of currently registered watchers for a given resource",
            ("group", "version", "kind"),
        )
        self._received = metrics.counter(
            "apiserver_watch_cache_events_received_total",
            "Counter of events received in watch cache broken by resource type.",
            ("resource",),
        )
        self._version = metrics.gauge(
            "apiserver_watch_cache_resource_version",
            "Current resource version of watch cache broken by resource type.",
            ("resource",),
        )
        metrics.gauge(
            "kubernetes_build_info",
            "A metric with a constant '1' value labeled by major, minor, git version, git commit, git tree state, "
            "build date, Go version, and compiler from which Kubernetes was built, and platform on which it is running.",
            tuple(_BUILD),
        ).set(1, *_BUILD.values())
        metrics.collect(self._look)

    def begin(self, method: str) -> None:
        """A request has come."""
        if method in _READING:
            self._reading += 1
        else:
            self._changing += 1

    def stays(self, request: APIRequest) -> None:
        """It turns out to be one that stays, a watch or a stream: then it is not in flight, but long-running."""
        if request.target is not None and not request.long:
            request.long = True
            self._leave(request.method)
            self._long_running.add(_verb(request), *_place(request.target), "apiserver")

    def end(self, request: APIRequest, code: int, seconds: float) -> None:
        """A request is answered, or its client has gone (code 0)."""
        verb, target = _verb(request), request.target
        place = ("", "", "", request.document, "") if target is None else _place(target)
        dry_run = "All" if request.dry_run else ""
        self._requests.add(verb, *place, dry_run, str(code), "apiserver")
        self._duration.observe(seconds, verb, *place, dry_run, "apiserver")
        if request.long:
            self._long_running.add(verb, *place, "apiserver", amount=-1)
        else:
            self._leave(request.method)

    def _leave(self, method: str) -> None:
        if method in _READING:
            self._reading -= 1
        else:
            self._changing -= 1

    def sent(self, resource: Resource, events: int) -> None:
        """So many events went out on a watch."""
        self._watch_events.add(resource.group, resource.version, resource.kind, amount=events)

    def _look(self) -> None:
        """The gauges, at the moment of a scrape."""
        self._inflight.set(self._reading, "readOnly")  # the scrape itself is one of them
        self._inflight.set(self._changing, "mutating")
        for resource in RESOURCES:
            if storage_resource(resource) is not resource or "list" not in resource.verbs:
                continue
            cached, name = self._cache.of(resource), resource.qualified_name
            self._objects.set(len(cached.entries), name)
            self._watchers.set(len(cached.watchers), resource.group, resource.version, resource.kind)
            self._received.values[(name,)] = cached.received
            self._version.set(cached.changed or cached.oldest, name)


def _verb(request: APIRequest) -> str:
    verb = _VERBS.get(request.method, "OTHER")
    target = request.target
    if request.verb or target is None:
        return request.verb or verb
    if target.subresource in _CONNECTS:
        return "CONNECT"
    return verb if target.name else _OF_COLLECTIONS.get(verb, verb)


def _place(target: Target) -> tuple[str, str, str, str, str]:
    resource = target.resource
    scope = "resource" if target.name else "namespace" if target.namespace else "cluster"
    return resource.group, resource.version, resource.plural, target.subresource, scope


_BUILD = {
    "major": VERSION["major"],
    "minor": VERSION["minor"],
    "git_version": VERSION["gitVersion"],
    "git_commit": VERSION["gitCommit"],
    "git_tree_state": VERSION["gitTreeState"],
    "build_date": VERSION["buildDate"],
    "go_version": VERSION["goVersion"],
    "compiler": VERSION["compiler"],
    "platform": VERSION["platform"],
}
