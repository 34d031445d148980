"""What the scheduler would say of one pod now, node by node, from the objects of the API.

Pure; `decide.explain` is the judge. A pod that is placed already is judged as if it still had to be: its `spec.nodeName`
and its own share of its node are left aside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from podnet.controlplane.api import meta
from podnet.controlplane.api.types import Object
from podnet.controlplane.scheduler.cache import SchedulerCache
from podnet.controlplane.scheduler.decide import NodeVerdict, Placement, decide, explain
from podnet.controlplane.scheduler.scores import SCORES
from podnet.controlplane.scheduler.types import parse_pod
from podnet.controlplane.scheduler.volumes import volume_snapshot

DEFAULT_SCHEDULER = "default-scheduler"
_OVER = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class ClusterObjects:
    """Everything a decision looks at."""

    nodes: Sequence[Object] = ()
    pods: Sequence[Object] = ()
    namespaces: Sequence[Object] = ()
    claims: Sequence[Object] = ()
    volumes: Sequence[Object] = ()
    classes: Sequence[Object] = ()


@dataclass(frozen=True, slots=True)
class PodReport:
    """`node`: where the pod is, "" while it has none. `best`: the nodes with the highest total. `message`: what the
    pod's condition would say if no node will do. `notes`: why the scheduler may not look at it at all."""

    pod: str
    node: str
    phase: str
    best: tuple[str, ...]
    message: str
    notes: tuple[str, ...]
    verdicts: tuple[NodeVerdict, ...]


def report_pod(pod: Object, cluster: ClusterObjects) -> PodReport:
    """What every filter and score says of every node for this pod."""
    key, node = meta.key(pod), pod["spec"].get("nodeName") or ""
    labels: dict[str, Mapping[str, str]] = {meta.name(obj): meta.labels(obj) for obj in cluster.namespaces}
    judged = parse_pod({**pod, "spec": {k: v for k, v in pod["spec"].items() if k != "nodeName"}})
    cache = _world(key, cluster)
    nodes = sorted(cache.nodes(judged), key=lambda info: info.name)
    storage = volume_snapshot(cluster.claims, cluster.volumes, cluster.classes)
    verdicts = explain(judged, nodes, lambda name: labels.get(name, {}), storage)
    outcome = decide(judged, nodes, lambda _count: 0, lambda name: labels.get(name, {}), storage)
    totals = [verdict.total for verdict in verdicts if verdict.total is not None]
    return PodReport(
        pod=key,
        node=node,
        phase=(pod.get("status") or {}).get("phase") or "Pending",
        best=tuple(verdict.node for verdict in verdicts if totals and verdict.total == max(totals)),
        message="" if isinstance(outcome, Placement) else outcome.message,
        notes=_notes(pod),
        verdicts=tuple(verdicts),
    )


def _world(but: str, cluster: ClusterObjects) -> SchedulerCache:
    """Nodes with the pods on them, as the scheduler sees them, without the pod that is judged."""
    cache = SchedulerCache()
    for node in cluster.nodes:
        cache.set_node(node)
    for pod in cluster.pods:
        status = pod.get("status") or {}
        if meta.key(pod) == but or status.get("phase") in _OVER:
            continue
        if pod["spec"].get("nodeName"):
            cache.set_pod(parse_pod(pod), pod["spec"]["nodeName"])
        elif status.get("nominatedNodeName"):
            cache.nominate(parse_pod(pod), status["nominatedNodeName"])
    return cache


def _notes(pod: Object) -> tuple[str, ...]:
    spec, notes = pod["spec"], []
    gates = [gate["name"] for gate in spec.get("schedulingGates") or ()]
    if gates:
        notes.append(
            f"it has schedulingGates ({', '.join(gates)}): the scheduler does not look at it before they are gone"
        )
    name = spec.get("schedulerName") or DEFAULT_SCHEDULER
    if name != DEFAULT_SCHEDULER:
        notes.append(f"spec.schedulerName is {name}: another scheduler is to place it")
    if meta.is_terminating(pod):
        notes.append("it is being deleted")
    return tuple(notes)


def render_report(report: PodReport) -> Iterator[str]:
    """A report for people, as lines."""
    where = f"on {report.node}" if report.node else "on no node yet"
    yield f"Pod {report.pod} ({report.phase}), {where}"
    if report.node:
        yield "computed as of now, as if the pod still had to be placed; when it was, things may have been different"
    else:
        yield "computed as of now"
    for note in report.notes:
        yield f"note: {note}"
    names = [name for name, _, _ in SCORES]
    yield ""
    yield "FILTERS"
    width = max((len(verdict.node) for verdict in report.verdicts), default=0)
    for verdict in report.verdicts:
        if not verdict.filters:
            yield f"  {verdict.node.ljust(width)}  passes all"
        for filter_name, reasons in verdict.filters.items():
            yield f"  {verdict.node.ljust(width)}  {filter_name}: {', '.join(reasons)}"
    feasible = [verdict for verdict in report.verdicts if verdict.total is not None]
    yield ""
    if not feasible:
        yield report.message
        return
    yield "SCORES (0 to 100 each, times weight)"
    nodes = [verdict.node for verdict in feasible]
    label = max(map(len, names)) + 2
    yield f"  {''.ljust(label)}  WEIGHT  " + "  ".join(nodes)
    for score, weight, _ in SCORES:
        cells = [str(verdict.scores.get(score, 0)).rjust(len(verdict.node)) for verdict in feasible]
        yield f"  {score.ljust(label)}  {str(weight).rjust(6)}  " + "  ".join(cells)
    totals = [str(verdict.total).rjust(len(verdict.node)) for verdict in feasible]
    yield f"  {'total'.ljust(label)}          " + "  ".join(totals)
    yield ""
    if len(report.best) == 1:
        yield f"best: {report.best[0]}"
    else:
        yield f"best: {', '.join(report.best)}, equally; the scheduler picks one of them at random"
