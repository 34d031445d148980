"""Admission: what is added to objects, and who is turned away."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from podnet.controlplane.api import resources as r
from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.apiserver import registry as registry_module
from podnet.controlplane.apiserver.local import LocalClient
from podnet.controlplane.apiserver.options import UserInfo
from podnet.controlplane.apiserver.registry import Registry

MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


async def make_pod(client: LocalClient, name: str = "p", namespace: str = "default", **spec: Any) -> dict[str, Any]:
    spec.setdefault("containers", [{"name": "c", "image": "i"}])
    return await client.create(r.PODS, {"metadata": {"name": name, "namespace": namespace}, "spec": spec})


async def refused(client: LocalClient, **spec: Any) -> str:
    with pytest.raises(StatusError) as caught:
        await make_pod(client, **spec)
    assert (caught.value.code, caught.value.reason) == (403, "Forbidden")
    return caught.value.message


# -- ServiceAccount


async def test_every_container_gets_the_token(client: LocalClient) -> None:
    pod = await make_pod(client, initContainers=[{"name": "i", "image": "x"}])
    (volume,) = pod["spec"]["volumes"]
    assert volume["name"].startswith("kube-api-access-")
    assert len(volume["name"]) == len("kube-api-access-") + 5
    sources = volume["projected"]["sources"]
    assert [next(iter(source)) for source in sources] == ["serviceAccountToken", "configMap", "downwardAPI"]
    assert sources[0]["serviceAccountToken"] == {"expirationSeconds": 3607, "path": "token"}
    assert volume["projected"]["defaultMode"] == 420
    for container in (*pod["spec"]["containers"], *pod["spec"]["initContainers"]):
        assert container["volumeMounts"] == [{"name": volume["name"], "readOnly": True, "mountPath": MOUNT}]
    assert (pod["spec"]["serviceAccountName"], pod["spec"]["serviceAccount"]) == ("default", "default")


async def test_a_pod_may_decline_the_token(client: LocalClient) -> None:
    assert "volumes" not in (await make_pod(client, automountServiceAccountToken=False))["spec"]


async def test_an_account_may_decline_for_its_pods(client: LocalClient) -> None:
    account = {"metadata": {"name": "shy", "namespace": "default"}, "automountServiceAccountToken": False}
    await client.create(r.SERVICEACCOUNTS, account)
    assert "volumes" not in (await make_pod(client, serviceAccountName="shy"))["spec"]
    assert (
        "volumes" in (await make_pod(client, "q", serviceAccountName="shy", automountServiceAccountToken=True))["spec"]
    )


async def test_a_mount_of_ones_own_is_kept(client: LocalClient) -> None:
    mount = {"name": "mine", "mountPath": MOUNT}
    pod = await make_pod(
        client,
        containers=[{"name": "c", "image": "i", "volumeMounts": [mount]}],
        volumes=[{"name": "mine", "emptyDir": {}}],
    )
    assert [volume["name"] for volume in pod["spec"]["volumes"]] == ["mine"]


async def test_pull_secrets_come_from_the_account(client: LocalClient) -> None:
    account = {"metadata": {"name": "pull", "namespace": "default"}, "imagePullSecrets": [{"name": "s"}]}
    await client.create(r.SERVICEACCOUNTS, account)
    assert (await make_pod(client, serviceAccountName="pull"))["spec"]["imagePullSecrets"] == [{"name": "s"}]


async def test_an_account_that_is_not_there(client: LocalClient) -> None:
    message = await refused(client, serviceAccountName="ghost")
    assert message == (
        'pods "p" is forbidden: error looking up service account default/ghost: serviceaccount "ghost" not found'
    )


async def test_a_pod_waits_for_its_namespaces_account(client: LocalClient) -> None:
    await client.create(r.NAMESPACES, {"metadata": {"name": "new"}})
    making = asyncio.create_task(make_pod(client, namespace="new"))
    await asyncio.sleep(0.05)
    assert not making.done()
    await client.create(r.SERVICEACCOUNTS, {"metadata": {"name": "default", "namespace": "new"}})
    assert (await making)["spec"]["serviceAccountName"] == "default"


async def test_but_not_for_ever(client: LocalClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "SERVICE_ACCOUNT_WAIT_S", 0.05)
    await client.create(r.NAMESPACES, {"metadata": {"name": "new"}})
    with pytest.raises(StatusError, match='serviceaccount "default" not found'):
        await make_pod(client, namespace="new")


# -- Priority and tolerations


@pytest.mark.parametrize(
    ("name", "value"),
    [("", 0), ("system-node-critical", 2000001000), ("system-cluster-critical", 2000000000), ("low", -5)],
)
async def test_priority(client: LocalClient, name: str, value: int) -> None:
    await client.create(r.PRIORITYCLASSES, {"metadata": {"name": "low"}, "value": -5})
    spec = (await make_pod(client, namespace="kube-system", **({"priorityClassName": name} if name else {})))["spec"]
    assert (spec["priority"], spec["preemptionPolicy"]) == (value, "PreemptLowerPriority")


@pytest.mark.parametrize("name", ["system-node-critical", "system-cluster-critical"])
async def test_the_systems_priorities_never_go(client: LocalClient, name: str) -> None:
    with pytest.raises(StatusError, match="this is a system priority class and cannot be deleted"):
        await client.delete(r.PRIORITYCLASSES, name)
    assert (await client.get(r.PRIORITYCLASSES, name))["value"] >= 2_000_000_000


async def test_one_priority_is_everybodys(client: LocalClient) -> None:
    first = await client.create(r.PRIORITYCLASSES, {"metadata": {"name": "d"}, "value": 7, "globalDefault": True})
    words = "PriorityClass d is already marked as default. Only one default can exist"
    with pytest.raises(StatusError, match=words):
        await client.create(r.PRIORITYCLASSES, {"metadata": {"name": "e"}, "value": 8, "globalDefault": True})
    other = await client.create(r.PRIORITYCLASSES, {"metadata": {"name": "e"}, "value": 8})
    with pytest.raises(StatusError, match=words):
        await client.update(r.PRIORITYCLASSES, {**other, "globalDefault": True})
    await client.update(r.PRIORITYCLASSES, {**first, "description": "it stays the default"})


async def test_the_global_default_priority(client: LocalClient) -> None:
    await client.create(
        r.PRIORITYCLASSES, {"metadata": {"name": "d"}, "value": 7, "globalDefault": True, "preemptionPolicy": "Never"}
    )
    spec = (await make_pod(client))["spec"]
    assert (spec["priorityClassName"], spec["priority"], spec["preemptionPolicy"]) == ("d", 7, "Never")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"priorityClassName": "ghost"}, "no PriorityClass with name ghost was found"),
        ({"priority": 5}, "the integer value of priority (5) must not be provided in pod spec"),
        ({"preemptionPolicy": "Never"}, "the string value of PreemptionPolicy (Never) must not be provided"),
    ],
)
async def test_priorities_that_are_refused(client: LocalClient, spec: dict[str, Any], words: str) -> None:
    assert words in await refused(client, **spec)


@pytest.mark.parametrize(
    ("given", "added"),
    [
        ([], ["not-ready", "unreachable"]),
        ([{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}], ["unreachable"]),
        ([{"operator": "Exists"}], []),
        ([{"operator": "Exists", "effect": "NoSchedule"}], ["not-ready", "unreachable"]),
    ],
)
async def test_tolerations(client: LocalClient, given: list[Any], added: list[str]) -> None:
    tolerations = (await make_pod(client, tolerations=given))["spec"].get("tolerations", [])
    assert tolerations[: len(given)] == given
    assert tolerations[len(given) :] == [
        {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
        for key in added
    ]


# -- LimitRanger


async def limit(client: LocalClient, **item: Any) -> None:
    item.setdefault("type", "Container")
    await client.create(r.LIMITRANGES, {"metadata": {"name": "l", "namespace": "default"}, "spec": {"limits": [item]}})


def container(**resources: Any) -> list[dict[str, Any]]:
    return [{"name": "c", "image": "i", "resources": resources}]


async def test_limits_are_filled_in(client: LocalClient) -> None:
    await limit(client, default={"cpu": "500m"}, defaultRequest={"cpu": "100m", "memory": "64Mi"})
    (made,) = (await make_pod(client))["spec"]["containers"]
    assert made["resources"] == {"limits": {"cpu": "500m"}, "requests": {"cpu": "100m", "memory": "64Mi"}}


async def test_what_was_filled_in_is_told(client: LocalClient) -> None:
    await limit(client, default={"cpu": "500m"}, defaultRequest={"cpu": "100m", "memory": "64Mi"})
    own = {"name": "i", "image": "i", "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}}}
    made = await make_pod(client, containers=container(), initContainers=[own])
    assert made["metadata"]["annotations"]["kubernetes.io/limit-ranger"] == (
        "LimitRanger plugin set: cpu, memory request for container c; cpu limit for container c; "
        "cpu limit for init container i"
    )
    full = {"requests": {"cpu": "1m", "memory": "1Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}}
    assert "annotations" not in (await make_pod(client, "q", containers=container(**full)))["metadata"]


@pytest.mark.parametrize(
    ("item", "resources", "message"),
    [
        (
            {"min": {"cpu": "100m"}},
            {"requests": {"cpu": "50m"}, "limits": {"cpu": "1"}},
            "minimum cpu usage per Container is 100m, but request is 50m",
        ),
        (
            {"max": {"memory": "1Gi"}},
            {"requests": {"memory": "1Gi"}, "limits": {"memory": "2Gi"}},
            "maximum memory usage per Container is 1Gi, but limit is 2Gi",
        ),
        ({"type": "Pod", "max": {"cpu": "1"}}, {}, "maximum cpu usage per Pod is 1.  No limit is specified"),
        (
            {"maxLimitRequestRatio": {"cpu": "2"}},
            {"requests": {"cpu": "1"}, "limits": {"cpu": "4"}},
            "cpu max limit to request ratio per Container is 2, but provided ratio is 4.000000",
        ),
        (
            {"maxLimitRequestRatio": {"memory": "2"}},
            {"requests": {"memory": "1Mi"}},
            "memory max limit to request ratio per Container is 2, but no limit is specified or limit is 0",
        ),
        (
            {"type": "Pod", "min": {"cpu": "1"}},
            {"requests": {"cpu": "500m"}},
            "minimum cpu usage per Pod is 1, but request is 500m",
        ),
    ],
)
async def test_limits_that_are_kept(
    client: LocalClient, item: dict[str, Any], resources: dict[str, Any], message: str
) -> None:
    await limit(client, **item)
    assert await refused(client, containers=container(**resources)) == f'pods "p" is forbidden: {message}'


# -- ResourceQuota


async def quota(client: LocalClient, *scopes: str, **hard: str) -> None:
    spec = {
        "hard": {key.replace("__", "/").replace("_", "."): value for key, value in hard.items()},
        "scopes": list(scopes),
    }
    await client.create(r.RESOURCEQUOTAS, {"metadata": {"name": "q", "namespace": "default"}, "spec": spec})


async def test_one_pod_too_many(client: LocalClient) -> None:
    await quota(client, pods="1")
    await make_pod(client, "first")
    assert await refused(client) == (
        'pods "p" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1'
    )
    await client.delete(r.PODS, "first", "default")
    await make_pod(client)


async def test_a_finished_pod_does_not_count(client: LocalClient) -> None:
    await quota(client, pods="1")
    await make_pod(client, "first")
    await client.patch(r.PODS, "first", "default", {"status": {"phase": "Succeeded"}}, subresource="status")
    await make_pod(client)


async def test_what_a_quota_counts_must_be_said(client: LocalClient) -> None:
    await quota(client, requests_cpu="1", limits_memory="1Gi")
    assert await refused(client) == (
        'pods "p" is forbidden: failed quota: q: must specify limits.memory for: c; requests.cpu for: c'
    )


async def test_disk_is_counted_where_it_is_asked_for_and_need_not_be(client: LocalClient) -> None:
    await quota(client, **{"requests_ephemeral-storage": "1Gi"})
    await make_pod(client, "silent")
    asked = container(requests={"ephemeral-storage": "2Gi"})
    assert "requested: requests.ephemeral-storage=2Gi" in await refused(client, containers=asked)


async def test_amounts_add_up(client: LocalClient) -> None:
    await quota(client, requests_cpu="1")
    await make_pod(client, "first", containers=container(requests={"cpu": "700m"}))
    assert "requested: requests.cpu=400m, used: requests.cpu=700m, limited: requests.cpu=1" in await refused(
        client, containers=container(requests={"cpu": "400m"})
    )


@pytest.mark.parametrize(
    ("hard", "resource", "spec"),
    [
        ({"services": "0"}, r.SERVICES, {"ports": [{"port": 80}]}),
        ({"services_nodeports": "0"}, r.SERVICES, {"type": "NodePort", "ports": [{"port": 80}]}),
        (
            {"count__deployments_apps": "0"},
            r.DEPLOYMENTS,
            {
                "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": container()}},
            },
        ),
        (
            {"requests_storage": "1Gi"},
            r.PERSISTENTVOLUMECLAIMS,
            {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}},
        ),
    ],
)
async def test_other_things_count_too(
    client: LocalClient, hard: dict[str, str], resource: Any, spec: dict[str, Any]
) -> None:
    await quota(client, **hard)
    with pytest.raises(StatusError, match="exceeded quota: q") as caught:
        await client.create(resource, {"metadata": {"name": "x", "namespace": "default"}, "spec": spec})
    assert caught.value.code == 403


async def test_a_service_that_opens_ports_asks_for_more(client: LocalClient) -> None:
    await quota(client, services_nodeports="0")
    made = await client.create(
        r.SERVICES, {"metadata": {"name": "s", "namespace": "default"}, "spec": {"ports": [{"port": 80}]}}
    )
    with pytest.raises(StatusError, match=r"requested: services\.nodeports=1, used: services\.nodeports=0"):
        await client.update(r.SERVICES, {**made, "spec": {**made["spec"], "type": "NodePort"}})
    await client.update(r.SERVICES, {**made, "spec": {**made["spec"], "ports": [{"port": 81}]}})


async def test_a_sidecar_counts_with_what_it_stands_beside(client: LocalClient) -> None:
    await quota(client, requests_cpu="1")
    sidecar = {**container(requests={"cpu": "600m"})[0], "name": "s", "restartPolicy": "Always"}
    asked = await refused(client, initContainers=[sidecar], containers=container(requests={"cpu": "600m"}))
    assert "requested: requests.cpu=1200m, used: requests.cpu=0" in asked
    once = {**sidecar, "restartPolicy": None}
    await make_pod(client, initContainers=[once], containers=container(requests={"cpu": "600m"}))


async def test_a_finished_pod_is_still_an_object(client: LocalClient) -> None:
    await quota(client, count__pods="1")
    await make_pod(client, "first")
    await client.patch(r.PODS, "first", "default", {"status": {"phase": "Succeeded"}}, subresource="status")
    assert "exceeded quota: q, requested: count/pods=1" in await refused(client)


async def test_a_scope_narrows(client: LocalClient) -> None:
    await quota(client, "BestEffort", pods="0")
    assert "exceeded quota" in await refused(client)
    await make_pod(client, containers=container(requests={"cpu": "1"}))


async def test_parallel_creations_do_not_slip_through(client: LocalClient) -> None:
    await quota(client, pods="3")
    done = await asyncio.gather(*(make_pod(client, f"p{i}") for i in range(12)), return_exceptions=True)
    assert sum(not isinstance(result, StatusError) for result in done) == 3


async def test_parallel_services_have_different_addresses(client: LocalClient) -> None:
    made = await asyncio.gather(
        *(
            client.create(
                r.SERVICES,
                {
                    "metadata": {"name": f"s{i}", "namespace": "default"},
                    "spec": {"type": "NodePort", "ports": [{"port": 80}]},
                },
            )
            for i in range(30)
        )
    )
    assert len({service["spec"]["clusterIP"] for service in made}) == 30
    assert len({service["spec"]["ports"][0]["nodePort"] for service in made}) == 30


# -- a Job's labels


async def test_a_name_that_was_taken_leaves_no_label(client: LocalClient, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = iter(["j-a", "j-a", "j-b"])
    monkeypatch.setattr(registry_module.meta, "generate_name", lambda *_: next(tries))
    template = {"spec": {"restartPolicy": "Never", "containers": container()}}
    job = {"metadata": {"generateName": "j-", "namespace": "default"}, "spec": {"template": template}}
    made = [await client.create(r.JOBS, json.loads(json.dumps(job))) for _ in range(2)]
    names = [found["spec"]["template"]["metadata"]["labels"]["batch.kubernetes.io/job-name"] for found in made]
    assert names == ["j-a", "j-b"]


async def test_a_copy_of_a_job_is_refused(client: LocalClient) -> None:
    template = {"spec": {"restartPolicy": "Never", "containers": container()}}
    job = await client.create(
        r.JOBS, {"metadata": {"name": "j", "namespace": "default"}, "spec": {"template": template}}
    )
    with pytest.raises(StatusError, match="`selector` not auto-generated") as caught:
        await client.create(r.JOBS, {"metadata": {"name": "k", "namespace": "default"}, "spec": job["spec"]})
    fields = [cause["field"] for cause in caught.value.details["causes"]]
    assert "spec.template.metadata.labels[controller-uid]" in fields


# -- the requester of a certificate


async def test_a_signing_request_says_who_asked(registry: Registry) -> None:
    client = LocalClient(registry, user=UserInfo("jane", ("devs",)))
    spec = {
        "request": "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0=",
        "signerName": "x.y/z",
        "usages": ["client auth"],
        "username": "root",
        "groups": ["system:masters"],
    }
    made = await client.create(r.CERTIFICATESIGNINGREQUESTS, {"metadata": {"name": "c"}, "spec": spec})
    assert (made["spec"]["username"], made["spec"]["groups"]) == ("jane", ["devs"])


# -- concurrency


async def test_parallel_patches_all_count(client: LocalClient) -> None:
    await client.create(r.CONFIGMAPS, {"metadata": {"name": "a", "namespace": "default"}})
    await asyncio.gather(*(client.patch(r.CONFIGMAPS, "a", "default", {"data": {f"k{i}": "v"}}) for i in range(15)))
    assert len((await client.get(r.CONFIGMAPS, "a", "default"))["data"]) == 15


async def test_parallel_updates_one_wins(client: LocalClient) -> None:
    made = await client.create(r.CONFIGMAPS, {"metadata": {"name": "a", "namespace": "default"}})
    done = await asyncio.gather(
        *(client.update(r.CONFIGMAPS, {**made, "data": {"k": str(i)}}) for i in range(8)), return_exceptions=True
    )
    assert sum(isinstance(result, dict) for result in done) == 1
    assert all(result.is_conflict for result in done if isinstance(result, StatusError))
