"""Revisions: the annotations by which `kubectl rollout history` and `undo` find their way.

Pure. Every ReplicaSet carries the revision it last was the new one of, and those it was before; the Deployment carries
the newest. Source: kubernetes pkg/controller/deployment/util/deployment_util.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from podnet.controlplane.api import meta, numbers
from podnet.controlplane.api.types import Object

REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED_REPLICAS = "deployment.kubernetes.io/desired-replicas"
MAX_REPLICAS = "deployment.kubernetes.io/max-replicas"
ROLLBACK_TO = "deprecated.deployment.rollback.to"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_NOT_COPIED = frozenset({LAST_APPLIED, REVISION, REVISION_HISTORY, DESIRED_REPLICAS, MAX_REPLICAS, ROLLBACK_TO})


def annotations_of(obj: Object) -> dict[str, str]:
    """`metadata.annotations`, or an empty map."""
    return meta.metadata(obj).get("annotations") or {}


def revision_of(obj: Object) -> int:
    """The revision annotation as a number, 0 when it is absent or no number."""
    return _number(annotations_of(obj).get(REVISION))


def next_revision(others: Iterable[Object]) -> int:
    """One more than any other ReplicaSet has: what the new one is to carry."""
    return max((revision_of(replica_set) for replica_set in others), default=0) + 1


def new_annotations(deployment: Object, current: Mapping[str, str], revision: int) -> dict[str, str]:
    """The annotations of the new ReplicaSet: the Deployment's own, and its place in history."""
    own = {key: value for key, value in annotations_of(deployment).items() if key not in _NOT_COPIED}
    out = {**current, **own}
    old = current.get(REVISION)
    if _number(old) < revision:
        out[REVISION] = str(revision)
        if old:
            history = [entry for entry in current.get(REVISION_HISTORY, "").split(",") if entry]
            out[REVISION_HISTORY] = ",".join([*history, old])
    return out


def replica_annotations(deployment: Object, surge: int) -> dict[str, str]:
    """What a ReplicaSet notes of the Deployment's size: proportional scaling compares against it."""
    replicas = int(deployment["spec"].get("replicas", 1))
    return {DESIRED_REPLICAS: str(replicas), MAX_REPLICAS: str(replicas + surge)}


def annotation_number(obj: Object, key: str) -> int | None:
    """A numeric annotation, None when it is absent or no number."""
    return numbers.integer(annotations_of(obj).get(key))


def plan_cleanup(deployment: Object, old: Iterable[Object]) -> list[Object]:
    """The old ReplicaSets beyond revisionHistoryLimit: empty, observed, lowest revision first."""
    limit = int(deployment["spec"].get("revisionHistoryLimit", 10))
    alive = [replica_set for replica_set in old if not meta.is_terminating(replica_set)]
    excess = len(alive) - limit
    if excess <= 0:
        return []
    oldest = sorted(alive, key=lambda rs: (revision_of(rs), meta.metadata(rs).get("creationTimestamp", "")))[:excess]
    return [replica_set for replica_set in oldest if _is_finished(replica_set)]


def _is_finished(replica_set: Object) -> bool:
    status = replica_set.get("status") or {}
    return (
        not status.get("replicas")
        and not replica_set["spec"].get("replicas", 1)
        and meta.generation(replica_set) <= int(status.get("observedGeneration", 0))
    )


def _number(text: str | None) -> int:
    return numbers.natural(text) or 0
