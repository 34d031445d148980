"""The registry of resources is complete and consistent with the schemas."""

from __future__ import annotations

import pytest

from podnet.controlplane.api import resources, schema
from podnet.controlplane.api.types import Resource

BETA = {"ipaddresses", "servicecidrs"}  # of networking.k8s.io/v1beta1; GA one release later


def test_there_are_59_of_ga_and_two_of_beta_with_distinct_names() -> None:
    """By URL, by kind, by short name inside a group."""
    beta = {r.plural for r in resources.RESOURCES if "beta" in r.version}
    assert beta == BETA
    count = 59 + len(BETA)
    assert len(resources.RESOURCES) == count
    assert len({(r.group, r.version, r.plural) for r in resources.RESOURCES}) == count
    assert len({(r.api_version, r.kind) for r in resources.RESOURCES}) == count


@pytest.mark.parametrize("resource", resources.RESOURCES, ids=lambda r: f"{r.qualified_name}/{r.version}")
def test_each_is_found_and_has_a_schema(resource: Resource) -> None:
    """Both ways, with every subresource's kind that is a body."""
    assert resources.find(resource.group, resource.version, resource.plural) is resource
    assert resources.by_kind(resource.api_version, resource.kind) is resource
    assert schema.definition(resource.api_version, resource.kind) is not None
    assert resource.singular == resource.kind.lower()
    assert resource.verbs == tuple(sorted(resource.verbs))
    for name, sub in resource.subresources.items():
        assert sub.name == name
        assert sub.verbs
        if not sub.kind.endswith("Options"):  # those of exec, attach, proxy, … are query strings
            api_version = f"{sub.group}/{sub.version}" if sub.group else sub.version
            assert schema.definition(api_version, sub.kind) is not None, name


def test_what_is_not_there_is_none() -> None:
    """Unknown names, and known names in the wrong version."""
    assert resources.find("apps", "v1beta1", "deployments") is None
    assert resources.find("", "v1", "deployments") is None
    assert resources.by_kind("v1", "Deployment") is None


def test_spot_checks_against_kubectl_api_resources() -> None:
    """Rows a user would notice."""
    pods = resources.PODS
    assert (pods.short_names, pods.categories, pods.namespaced, pods.path) == (("po",), ("all",), True, "/api/v1")
    assert set(pods.subresources) == {
        "attach", "binding", "ephemeralcontainers", "eviction", "exec", "log", "portforward", "proxy", "status",
    }  # fmt: skip
    eviction = pods.subresources["eviction"]
    assert (eviction.kind, eviction.group, eviction.version, eviction.verbs) == (
        "Eviction",
        "policy",
        "v1",
        ("create",),
    )
    assert "deletecollection" not in resources.NAMESPACES.verbs
    assert resources.NAMESPACES.subresources["finalize"].verbs == ("update",)
    scale = resources.DEPLOYMENTS.subresources["scale"]
    assert (scale.kind, scale.group, scale.version) == ("Scale", "autoscaling", "v1")
    assert resources.DEPLOYMENTS.subresources["status"].group == "apps"
    assert resources.DEPLOYMENTS.qualified_name == "deployments.apps"
    assert resources.CUSTOMRESOURCEDEFINITIONS.short_names == ("crd", "crds")
    assert resources.COMPONENTSTATUSES.verbs == ("get", "list")


def test_group_versions_are_ordered() -> None:
    """Core first; autoscaling/v2 is preferred to v1; every resource appears once."""
    order = list(resources.group_versions())
    assert order[0] == ("", "v1")
    assert order.index(("autoscaling", "v2")) < order.index(("autoscaling", "v1"))
    assert order.index(("", "v1")) < order.index(("events.k8s.io", "v1"))
    flat = [resource for group in resources.group_versions().values() for resource in group]
    assert sorted(map(str, flat)) == sorted(map(str, resources.RESOURCES))
    for (group, version), members in resources.group_versions().items():
        assert all((member.group, member.version) == (group, version) for member in members)


def test_two_views_of_one_storage() -> None:
    """Events and autoscalers are stored once."""
    assert resources.storage_resource(resources.EVENTS_V1) is resources.EVENTS
    assert resources.storage_resource(resources.HORIZONTALPODAUTOSCALERS_V1) is resources.HORIZONTALPODAUTOSCALERS
    assert resources.storage_resource(resources.PODS) is resources.PODS


def test_constants_name_what_they_say() -> None:
    """Each upper-case constant is a row of the registry."""
    constants = {name: value for name, value in vars(resources).items() if isinstance(value, Resource)}
    assert set(constants.values()) <= set(resources.RESOURCES)
    assert len(constants) >= 50
    for name, value in constants.items():
        assert name.removesuffix("_V1").lower() == value.plural
