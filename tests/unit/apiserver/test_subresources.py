"""Binding, eviction, scale, tokens, reviews, finalize, ephemeral containers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from podnet.controlplane import pki
from podnet.controlplane.api import resources as r
from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.apiserver.local import LocalClient
from podnet.controlplane.apiserver.options import UserInfo
from podnet.controlplane.apiserver.registry import Registry
from podnet.controlplane.apiserver.subresources.token import check_token
from podnet.controlplane.apiserver.tokens import TokenError, TokenIssuer

ISSUER = "https://kubernetes.default.svc.cluster.local"


@pytest.fixture(scope="module")
def pki_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pki")
    pki.ensure_pki(path, advertise_address="192.168.100.1", service_ip="10.96.0.1", cluster_domain="cluster.local")
    return path


@pytest.fixture
def issuer(pki_dir: Path, clock: Any) -> TokenIssuer:
    return TokenIssuer(pki_dir / "sa.key", ISSUER, clock)


async def make_pod(
    client: LocalClient, name: str = "p", labels: dict[str, str] | None = None, **spec: Any
) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default", "labels": labels or {}}
    return await client.create(
        r.PODS, {"metadata": metadata, "spec": {"containers": [{"name": "c", "image": "i"}], **spec}}
    )


def binding(name: str = "p", node: str = "n1", **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default", **metadata}, "target": {"kind": "Node", "name": node}}


# -- binding


async def test_binding_gives_a_pod_its_node(client: LocalClient) -> None:
    await make_pod(client)
    status = await client.create(r.PODS, binding(annotations={"a": "b"}), subresource="binding", name="p")
    assert status["status"] == "Success"
    pod = await client.get(r.PODS, "p", "default")
    assert pod["spec"]["nodeName"] == "n1"
    assert pod["metadata"]["annotations"] == {"a": "b"}
    (condition,) = pod["status"]["conditions"]
    assert (condition["type"], condition["status"]) == ("PodScheduled", "True")


async def test_the_collection_of_bindings_does_the_same(client: LocalClient) -> None:
    await make_pod(client)
    await client.create(r.BINDINGS, binding())
    assert (await client.get(r.PODS, "p", "default"))["spec"]["nodeName"] == "n1"


async def test_a_bound_pod_is_not_bound_again(client: LocalClient) -> None:
    await make_pod(client)
    await client.create(r.PODS, binding(), subresource="binding", name="p")
    with pytest.raises(StatusError) as caught:
        await client.create(r.PODS, binding(node="n2"), subresource="binding", name="p")
    assert caught.value.is_conflict
    assert caught.value.message == (
        'Operation cannot be fulfilled on pods/binding "p": pod p is already assigned to node "n1"'
    )


async def test_a_binding_may_insist_on_the_uid(client: LocalClient) -> None:
    await make_pod(client)
    with pytest.raises(StatusError, match="Precondition failed: UID"):
        await client.create(r.PODS, binding(uid="other"), subresource="binding", name="p")


@pytest.mark.parametrize(
    ("target", "field"),
    [({}, "target.name"), ({"kind": "Node"}, "target.name"), ({"kind": "Pod", "name": "x"}, "target.kind")],
)
async def test_a_binding_needs_a_node(client: LocalClient, target: dict[str, str], field: str) -> None:
    await make_pod(client)
    with pytest.raises(StatusError) as caught:
        await client.create(r.PODS, {**binding(), "target": target}, subresource="binding", name="p")
    assert caught.value.code in {400, 422}
    assert field in caught.value.message


async def test_a_pod_that_goes_is_not_bound(client: LocalClient) -> None:
    await make_pod(client, "q")
    await client.patch(r.PODS, "q", "default", {"metadata": {"finalizers": ["x.y/z"]}})
    await client.delete(r.PODS, "q", "default")
    with pytest.raises(StatusError, match="is being deleted, cannot be assigned to a host"):
        await client.create(r.PODS, binding("q"), subresource="binding", name="q")


# -- pod deletion


async def test_a_running_pod_is_given_time(client: LocalClient, clock: Any) -> None:
    await make_pod(client, nodeName="n1")
    marked = await client.delete(r.PODS, "p", "default")
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 30
    again = await client.delete(r.PODS, "p", "default")
    assert again["metadata"]["resourceVersion"] == marked["metadata"]["resourceVersion"]
    gone = await client.delete(r.PODS, "p", "default", grace_period_s=0, uid=marked["metadata"]["uid"])
    assert gone["kind"] == "Pod"
    with pytest.raises(StatusError):
        await client.get(r.PODS, "p", "default")


async def test_status_of_a_going_pod_may_be_written(client: LocalClient) -> None:
    await make_pod(client, nodeName="n1")
    await client.delete(r.PODS, "p", "default")
    pod = await client.patch(r.PODS, "p", "default", {"status": {"phase": "Failed"}}, subresource="status")
    assert pod["status"]["phase"] == "Failed"
    assert pod["metadata"]["deletionTimestamp"]


# -- scale


async def deployment(client: LocalClient, replicas: int = 2) -> dict[str, Any]:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    selector = {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "In", "values": ["d", "e"]}]}
    template["metadata"]["labels"]["c"] = "d"  # type: ignore[index]
    spec = {"replicas": replicas, "selector": selector, "template": template}
    return await client.create(r.DEPLOYMENTS, {"metadata": {"name": "d", "namespace": "default"}, "spec": spec})


async def test_scale_reads_and_writes_replicas_only(client: LocalClient) -> None:
    made = await deployment(client)
    scale = await client.patch(r.DEPLOYMENTS, "d", "default", {"spec": {"replicas": 5}}, subresource="scale")
    assert (scale["kind"], scale["apiVersion"], scale["spec"]) == ("Scale", "autoscaling/v1", {"replicas": 5})
    assert scale["status"]["selector"] == "a=b,c in (d,e)"
    after = await client.get(r.DEPLOYMENTS, "d", "default")
    assert after["spec"] == {**made["spec"], "replicas": 5}
    assert after["metadata"]["generation"] == 2
    scale["spec"]["replicas"] = 0
    assert (await client.update(r.DEPLOYMENTS, scale, subresource="scale"))["spec"] == {}
    assert (await client.get(r.DEPLOYMENTS, "d", "default"))["spec"]["replicas"] == 0


async def test_a_stale_scale_is_refused(client: LocalClient) -> None:
    made = await deployment(client)
    await client.patch(r.DEPLOYMENTS, "d", "default", {"metadata": {"labels": {"x": "y"}}})
    scale = {
        "metadata": {"name": "d", "namespace": "default", "resourceVersion": made["metadata"]["resourceVersion"]},
        "spec": {"replicas": 1},
    }
    with pytest.raises(StatusError) as caught:
        await client.update(r.DEPLOYMENTS, scale, subresource="scale")
    assert caught.value.is_conflict


@pytest.mark.parametrize(
    ("patch", "code"),
    [({"spec": {"replicas": -1}}, 422), ({"spec": {"replicas": "x"}}, 400), ({"spec": {"foo": 1}}, 400)],
)
async def test_scales_that_make_no_sense(client: LocalClient, patch: dict[str, Any], code: int) -> None:
    await deployment(client)
    with pytest.raises(StatusError) as caught:
        await client.patch(r.DEPLOYMENTS, "d", "default", patch, subresource="scale")
    assert caught.value.code == code


# -- eviction


async def budget(client: LocalClient, allowed: int, name: str = "b") -> None:
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}
    await client.create(r.PODDISRUPTIONBUDGETS, {"metadata": {"name": name, "namespace": "default"}, "spec": spec})
    status = {
        "disruptionsAllowed": allowed,
        "currentHealthy": 1,
        "desiredHealthy": 1,
        "expectedPods": 1,
        "observedGeneration": 1,
    }
    await client.patch(r.PODDISRUPTIONBUDGETS, name, "default", {"status": status}, subresource="status")


async def running(client: LocalClient) -> None:
    await make_pod(client, labels={"app": "web"}, nodeName="n1")
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    await client.patch(r.PODS, "p", "default", {"status": status}, subresource="status")


EVICTION = {"metadata": {"name": "p", "namespace": "default"}}


async def test_eviction_without_a_budget_deletes(client: LocalClient) -> None:
    await running(client)
    assert (await client.create(r.PODS, EVICTION, subresource="eviction", name="p"))["status"] == "Success"
    assert (await client.get(r.PODS, "p", "default"))["metadata"]["deletionTimestamp"]


async def test_eviction_charges_the_budget(client: LocalClient) -> None:
    await running(client)
    await budget(client, 1)
    await client.create(r.PODS, EVICTION, subresource="eviction", name="p")
    status = (await client.get(r.PODDISRUPTIONBUDGETS, "b", "default"))["status"]
    assert status["disruptionsAllowed"] == 0
    assert "p" in status["disruptedPods"]
    assert [(c["status"], c["reason"]) for c in status["conditions"]] == [("False", "InsufficientPods")]
    conditions = (await client.get(r.PODS, "p", "default"))["status"]["conditions"]
    (marked,) = [condition for condition in conditions if condition["type"] == "DisruptionTarget"]
    said = (marked["status"], marked["reason"], marked["message"])
    assert said == ("True", "EvictionByEvictionAPI", "Eviction API: evicting")


async def test_eviction_beyond_the_budget_is_refused(client: LocalClient) -> None:
    await running(client)
    await budget(client, 0)
    with pytest.raises(StatusError) as caught:
        await client.create(r.PODS, EVICTION, subresource="eviction", name="p")
    error = caught.value
    assert (error.code, error.reason) == (429, "TooManyRequests")
    assert error.message == "Cannot evict pod as it would violate the pod's disruption budget."
    assert error.details is not None
    assert error.details["causes"][0]["reason"] == "DisruptionBudget"
    assert "deletionTimestamp" not in (await client.get(r.PODS, "p", "default"))["metadata"]


async def test_a_finished_pod_needs_no_budget(client: LocalClient) -> None:
    await running(client)
    await client.patch(r.PODS, "p", "default", {"status": {"phase": "Succeeded"}}, subresource="status")
    await budget(client, 0)
    assert (await client.create(r.PODS, EVICTION, subresource="eviction", name="p"))["status"] == "Success"


async def test_two_budgets_are_one_too_many(client: LocalClient) -> None:
    await running(client)
    await budget(client, 1)
    await budget(client, 1, "b2")
    with pytest.raises(StatusError, match=r"^This pod has more than one PodDisruptionBudget") as caught:
        await client.create(r.PODS, EVICTION, subresource="eviction", name="p")
    assert caught.value.code == 500


async def test_a_budget_that_cannot_be_counted_says_so(client: LocalClient) -> None:
    await running(client)
    await budget(client, 0)
    conditions = [{"type": "DisruptionAllowed", "status": "False", "reason": "SyncFailed", "message": "no scale"}]
    body = {"status": {"conditions": [{**conditions[0], "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}
    await client.patch(r.PODDISRUPTIONBUDGETS, "b", "default", body, subresource="status")
    with pytest.raises(StatusError) as caught:
        await client.create(r.PODS, EVICTION, subresource="eviction", name="p")
    assert caught.value.details is not None
    text = "The disruption budget b does not allow evicting pods currently because it failed sync: no scale"
    assert caught.value.details["causes"][0]["message"] == text


# -- finalize


async def test_a_namespace_goes_when_it_is_finalized(client: LocalClient) -> None:
    await client.create(r.NAMESPACES, {"metadata": {"name": "x"}})
    await client.delete(r.NAMESPACES, "x")
    namespace = await client.get(r.NAMESPACES, "x")
    assert (namespace["status"]["phase"], namespace["spec"]) == ("Terminating", {"finalizers": ["kubernetes"]})
    kept = await client.update(r.NAMESPACES, {**namespace, "spec": {}})
    assert kept["spec"] == {"finalizers": ["kubernetes"]}
    namespace["spec"] = {"finalizers": []}
    await client.update(r.NAMESPACES, namespace, subresource="finalize")
    with pytest.raises(StatusError):
        await client.get(r.NAMESPACES, "x")


# -- ephemeral containers


async def test_ephemeral_containers_have_a_door_of_their_own(client: LocalClient) -> None:
    made = await make_pod(client)
    patch = {"spec": {"ephemeralContainers": [{"name": "debug", "image": "busybox"}], "nodeName": "n9"}}
    pod = await client.patch(r.PODS, "p", "default", patch, patch_type="strategic", subresource="ephemeralcontainers")
    assert [c["name"] for c in pod["spec"]["ephemeralContainers"]] == ["debug"]
    assert "nodeName" not in pod["spec"]
    stripped = {**pod, "spec": {k: v for k, v in pod["spec"].items() if k != "ephemeralContainers"}}
    assert (await client.update(r.PODS, stripped))["spec"]["ephemeralContainers"] == pod["spec"]["ephemeralContainers"]
    assert made["spec"]["containers"] == pod["spec"]["containers"]


# -- tokens


async def token_for(registry: Registry, issuer: TokenIssuer, **spec: Any) -> dict[str, Any]:
    client = LocalClient(registry, tokens=issuer)
    request = {"metadata": {"namespace": "default"}, "spec": spec}
    return await client.create(r.SERVICEACCOUNTS, request, subresource="token", name="default")


async def test_a_token_says_who_its_bearer_is(registry: Registry, issuer: TokenIssuer) -> None:
    answer = await token_for(registry, issuer)
    assert answer["status"]["expirationTimestamp"] == "2027-01-15T09:00:00Z"
    claims = check_token(registry, issuer, answer["status"]["token"], [])
    assert claims.user.name == "system:serviceaccount:default:default"
    assert claims.user.groups == ("system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated")


async def test_a_token_runs_out(registry: Registry, issuer: TokenIssuer, clock: Any) -> None:
    token = (await token_for(registry, issuer, expirationSeconds=600))["status"]["token"]
    clock.now += 599
    check_token(registry, issuer, token, [])
    clock.now += 1
    with pytest.raises(TokenError, match="expired"):
        check_token(registry, issuer, token, [])


async def test_a_token_is_for_its_audience(registry: Registry, issuer: TokenIssuer) -> None:
    token = (await token_for(registry, issuer, audiences=["vault"]))["status"]["token"]
    assert check_token(registry, issuer, token, ["vault"]).audiences == ("vault",)
    with pytest.raises(TokenError, match="audiences"):
        check_token(registry, issuer, token, [])


async def test_a_token_dies_with_its_pod(registry: Registry, issuer: TokenIssuer, client: LocalClient) -> None:
    pod = await make_pod(client)
    bound = {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": pod["metadata"]["uid"]}
    token = (await token_for(registry, issuer, boundObjectRef=bound))["status"]["token"]
    user = check_token(registry, issuer, token, []).user
    assert user.extra["authentication.kubernetes.io/pod-name"] == ("p",)
    await client.delete(r.PODS, "p", "default")
    await registry.cache.wait_fresh()
    with pytest.raises(TokenError, match="bound to does not exist"):
        check_token(registry, issuer, token, [])


async def test_a_token_dies_with_its_account(registry: Registry, issuer: TokenIssuer, client: LocalClient) -> None:
    token = (await token_for(registry, issuer))["status"]["token"]
    await client.delete(r.SERVICEACCOUNTS, "default", "default")
    await client.create(r.SERVICEACCOUNTS, {"metadata": {"name": "default", "namespace": "default"}})
    await registry.cache.wait_fresh()
    with pytest.raises(TokenError, match="does not exist any more"):
        check_token(registry, issuer, token, [])


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"expirationSeconds": 1}, "may not specify a duration less than 10 minutes"),
        ({"expirationSeconds": 2**33}, "may not specify a duration larger than 1<<32 seconds"),
        ({"boundObjectRef": {"kind": "Pod", "name": "nope"}}, 'pods "nope" not found'),
        ({"boundObjectRef": {"kind": "Deployment", "name": "d"}}, "cannot bind token"),
    ],
    ids=str,
)
async def test_tokens_that_are_not_given(
    registry: Registry, issuer: TokenIssuer, spec: dict[str, Any], words: str
) -> None:
    with pytest.raises(StatusError, match=words):
        await token_for(registry, issuer, **spec)


@pytest.mark.parametrize("break_it", ["", "x", "a.b.c", "head", "body", "signature", "none", "long"])
async def test_forged_tokens_prove_nothing(registry: Registry, issuer: TokenIssuer, break_it: str) -> None:
    import base64

    token = (await token_for(registry, issuer))["status"]["token"]
    head, body, signature = token.split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
    forged = {
        "head": f"x{head}.{body}.{signature}",
        "body": f"{head}.{body[:-4]}AAAA.{signature}",
        "signature": f"{head}.{body}.{signature[:-4]}AAAA",
        "none": f"{none}.{body}.",
        "long": token * 100,
    }.get(break_it, break_it)
    with pytest.raises(TokenError):
        check_token(registry, issuer, forged, [])


async def test_another_clusters_token_is_refused(
    registry: Registry, tmp_path: Path, issuer: TokenIssuer, clock: Any
) -> None:
    pki.ensure_pki(tmp_path, advertise_address="192.168.100.1", service_ip="10.96.0.1", cluster_domain="cluster.local")
    token = (await token_for(registry, TokenIssuer(tmp_path / "sa.key", ISSUER, clock)))["status"]["token"]
    with pytest.raises(TokenError, match="signature"):
        check_token(registry, issuer, token, [])


async def test_token_reviews(registry: Registry, issuer: TokenIssuer) -> None:
    client = LocalClient(registry, tokens=issuer)
    token = (await token_for(registry, issuer))["status"]["token"]
    good = await client.create(r.TOKENREVIEWS, {"spec": {"token": token}})
    assert good["status"]["authenticated"] is True
    assert good["status"]["user"]["username"] == "system:serviceaccount:default:default"
    bad = await client.create(r.TOKENREVIEWS, {"spec": {"token": "x"}})
    assert bad["status"].get("authenticated") is None
    assert "invalid bearer token" in bad["status"]["error"]


def test_the_published_key_checks_the_signature(issuer: TokenIssuer) -> None:
    (key,) = issuer.jwks()["keys"]
    assert (key["kty"], key["crv"], key["alg"], key["kid"]) == ("EC", "P-256", "ES256", issuer.key_id)
    assert issuer.discovery("https://x:1")["jwks_uri"] == "https://x:1/openid/v1/jwks"


# -- reviews


async def test_who_am_i(registry: Registry) -> None:
    client = LocalClient(registry, user=UserInfo("jane", ("devs",)))
    review = await client.create(r.SELFSUBJECTREVIEWS, {})
    assert review["status"]["userInfo"] == {"username": "jane", "groups": ["devs"]}


@pytest.mark.parametrize(
    "attributes", [{"resourceAttributes": {"verb": "get"}}, {"nonResourceAttributes": {"path": "/x", "verb": "get"}}]
)
async def test_may_i(registry: Registry, attributes: dict[str, Any]) -> None:
    client = LocalClient(registry, user=UserInfo("jane", ("devs", "system:authenticated")))
    assert (await client.create(r.SELFSUBJECTACCESSREVIEWS, {"spec": attributes}))["status"]["allowed"] is True
    other = {"spec": {**attributes, "user": "system:anonymous"}}
    assert (await client.create(r.SUBJECTACCESSREVIEWS, other))["status"]["allowed"] is False


@pytest.mark.parametrize("spec", [{}, {"resourceAttributes": {"verb": "get"}, "nonResourceAttributes": {"path": "/x"}}])
async def test_reviews_of_nothing(client: LocalClient, spec: dict[str, Any]) -> None:
    with pytest.raises(StatusError, match="exactly one of nonResourceAttributes or resourceAttributes") as caught:
        await client.create(r.SELFSUBJECTACCESSREVIEWS, {"spec": spec})
    assert caught.value.code == 422
