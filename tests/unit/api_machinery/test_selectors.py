"""Label and field selectors: matching, printing, refusing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.controlplane.api import resources, selectors
from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.fields import parse_field_selector, supported_fields

LABELS = {"app": "web", "tier": "front", "n": "5", "empty": ""}


@pytest.mark.parametrize(
    ("text", "matches", "printed"),
    [
        ("", True, ""),
        ("app=web", True, "app=web"),
        ("app==web", True, "app==web"),
        ("app = web , tier=front", True, "app=web,tier=front"),
        ("app=db", False, "app=db"),
        ("app!=db", True, "app!=db"),
        ("app!=web", False, "app!=web"),
        ("absent!=x", True, "absent!=x"),
        ("absent=x", False, "absent=x"),
        ("app", True, "app"),
        ("absent", False, "absent"),
        ("!absent", True, "!absent"),
        ("! app", False, "!app"),
        ("app in (web, db)", True, "app in (db,web)"),
        ("app in (db)", False, "app in (db)"),
        ("app notin (db)", True, "app notin (db)"),
        ("app notin (web,db)", False, "app notin (db,web)"),
        ("absent notin (x)", True, "absent notin (x)"),
        ("absent in (x)", False, "absent in (x)"),
        ("empty=", True, "empty="),
        ("app=", False, "app="),
        ("absent=", False, "absent="),
        ("empty in ()", True, "empty in ()"),
        ("empty in (,a)", True, "empty in (,a)"),
        ("n>4", True, "n>4"),
        ("n<4", False, "n<4"),
        ("app>4", False, "app>4"),
        ("absent>4", False, "absent>4"),
        ("tier,app=web,!x", True, "app=web,tier,!x"),
        ("in=in", False, "in=in"),
        ("notin notin (in)", True, "notin notin (in)"),
        ("example.com/app!=x", True, "example.com/app!=x"),
    ],
)
def test_label_selector(text: str, matches: bool, printed: str) -> None:
    """Whether it selects LABELS, and how it prints (by key)."""
    selector = selectors.parse_label_selector(text)
    assert selector.matches(LABELS) is matches
    assert str(selector) == printed
    assert selectors.parse_label_selector(printed) == selector


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("=a", "unable to parse requirement: found '=', expected: !, identifier, or 'end of string'"),
        ("a==b=c", "unable to parse requirement: found '=', expected: ',' or 'end of string'"),
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a,", "unable to parse requirement: found '', expected: identifier after ','"),
        ("a,,b", "unable to parse requirement: found ',', expected: identifier after ','"),
        ("!", "unable to parse requirement: found '', expected: identifier"),
        ("!a=b", "unable to parse requirement: found '=', expected: ',' or 'end of string'"),
        ("a in b", "unable to parse requirement: found 'b' expected: '('"),
        ("a in (b", "unable to parse requirement: found '', expected: ',', or ')'"),
        ("a in (b c)", "unable to parse requirement: found 'c', expected: ',' or ')'"),
        ("a=(b)", "unable to parse requirement: found '(', expected: identifier"),
    ],
)
def test_label_selector_syntax(text: str, message: str) -> None:
    """400 with upstream's sentence."""
    with pytest.raises(StatusError) as raised:
        selectors.parse_label_selector(text)
    assert (raised.value.code, raised.value.reason, raised.value.message) == (400, "BadRequest", message)


@pytest.mark.parametrize(
    ("text", "beginning"),
    [
        ("a/b/c=1", 'unable to parse requirement: <nil>: Invalid value: "a/b/c": a qualified name must consist'),
        ("-a", 'unable to parse requirement: <nil>: Invalid value: "-a": name part must consist'),
        ("a=b$", 'unable to parse requirement: values[0][a]: Invalid value: "b$": a valid label must be'),
        ("a>b", "unable to parse requirement: values[0]: Invalid value: \"b\": for 'Gt', 'Lt' operators, the value"),
    ],
)
def test_label_selector_values(text: str, beginning: str) -> None:
    """Keys and values are validated like those of labels."""
    with pytest.raises(StatusError) as raised:
        selectors.parse_label_selector(text)
    assert raised.value.message.startswith(beginning)


@given(st.text(alphabet="ab=!,()<> in\tnoé\u00a0/.-_0", max_size=20))
def test_any_text_parses_or_is_refused(text: str) -> None:
    """Nothing else happens, and what parses prints to something that means the same."""
    try:
        selector = selectors.parse_label_selector(text)
    except StatusError as error:
        assert error.code == 400  # noqa: PT017 - either outcome is fine
        return
    again = selectors.parse_label_selector(str(selector))
    for labels in ({}, {"a": "b"}, {"in": "a", "b": ""}):
        assert again.matches(labels) == selector.matches(labels)


@pytest.mark.parametrize(
    ("obj", "matches", "printed"),
    [
        (None, False, "<none>"),
        ({}, True, "<none>"),
        ({"matchLabels": {"app": "web"}}, True, "app=web"),
        ({"matchLabels": {"tier": "front", "app": "web"}}, True, "app=web,tier=front"),
        ({"matchLabels": {"app": "db"}}, False, "app=db"),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "db"]}]}, True, "app in (db,web)"),
        ({"matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["y"]}]}, True, "x notin (y)"),
        ({"matchExpressions": [{"key": "x", "operator": "Exists"}]}, False, "x"),
        ({"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}, True, "!x"),
        (
            {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "Exists"}]},
            True,
            "app=web,tier",
        ),
    ],
)
def test_label_selector_object(obj: dict[str, Any] | None, matches: bool, printed: str) -> None:
    """None selects nothing, {} everything."""
    assert selectors.from_label_selector_object(obj).matches(LABELS) is matches
    assert selectors.format_label_selector(obj) == printed


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ({"key": "a", "operator": "Is"}, '"Is" is not a valid label selector operator'),
        (
            {"key": "a", "operator": "In", "values": []},
            "values: Invalid value: []string{}: for 'in', 'notin' operators",
        ),
        (
            {"key": "a", "operator": "Exists", "values": ["b"]},
            'values: Invalid value: []string{"b"}: values set must be empty',
        ),
    ],
)
def test_bad_label_selector_object(expression: dict[str, Any], message: str) -> None:
    """400, and `<error>` in a table."""
    obj = {"matchExpressions": [expression]}
    with pytest.raises(StatusError) as raised:
        selectors.from_label_selector_object(obj)
    assert raised.value.code == 400
    assert raised.value.message.startswith(message)
    assert selectors.format_label_selector(obj) == "<error>"


def test_labels_as_text_and_as_selector() -> None:
    """Sorted by key; `<none>` where there are none; a Service's map selects by equality."""
    assert selectors.format_labels({"b": "2", "a": "1"}) == "a=1,b=2"
    assert selectors.format_labels(None) == "<none>"
    assert selectors.from_labels({"app": "web"}).matches(LABELS)
    assert not selectors.from_labels({"app": "web", "x": "y"}).matches(LABELS)


POD = {
    "metadata": {"name": "a", "namespace": "default"},
    "spec": {"nodeName": "n1", "restartPolicy": "Always", "serviceAccountName": "default"},
    "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]},
}
EVENT = {
    "metadata": {"name": "e", "namespace": "default"},
    "involvedObject": {"kind": "Pod", "name": "a", "uid": "u"},
    "reason": "Pulled",
    "source": {"component": "kubelet"},
    "type": "Normal",
}


@pytest.mark.parametrize(
    ("resource", "obj", "text", "matches"),
    [
        (resources.PODS, POD, "", True),
        (resources.PODS, POD, "metadata.name=a", True),
        (resources.PODS, POD, "metadata.name==b", False),
        (resources.PODS, POD, "spec.nodeName=n1,status.phase!=Succeeded,status.phase!=Failed", True),
        (resources.PODS, POD, "status.phase!=Running", False),
        (resources.PODS, POD, "status.podIPs=fd00::1", True),
        (resources.PODS, POD, "spec.hostNetwork=false", True),
        (resources.PODS, POD, "status.nominatedNodeName=", True),
        (resources.EVENTS, EVENT, "involvedObject.kind=Pod,involvedObject.name=a,involvedObject.uid=u", True),
        (resources.EVENTS, EVENT, "involvedObject.namespace=x", False),
        (resources.EVENTS, EVENT, "source=kubelet,reason=Pulled,type!=Warning", True),
        (resources.EVENTS_V1, EVENT, "regarding.kind=Pod", True),
        (resources.NODES, {"spec": {}}, "spec.unschedulable=false", True),
        (resources.NODES, {"spec": {"unschedulable": True}}, "spec.unschedulable=true", True),
        (resources.NAMESPACES, {"status": {"phase": "Active"}}, "status.phase=Active", True),
        (resources.SECRETS, {"type": "Opaque"}, "type=Opaque", True),
        (resources.SERVICES, {"spec": {"clusterIP": "None", "type": "ClusterIP"}}, "spec.clusterIP=None", True),
        (resources.REPLICASETS, {}, "status.replicas=0", True),
        (resources.JOBS, {"status": {"succeeded": 3}}, "status.successful=3", True),
        (resources.CONFIGMAPS, {"metadata": {"name": "a,b=c\\"}}, r"metadata.name=a\,b\=c\\", True),
    ],
)
def test_field_selector(resource: Any, obj: dict[str, Any], text: str, matches: bool) -> None:
    """Whether it selects the object; it prints to something that means the same."""
    selector = parse_field_selector(text, resource)
    assert selector.matches(obj) is matches
    assert parse_field_selector(str(selector), resource).matches(obj) is matches


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("foo=bar", "field label not supported: foo"),
        ("spec.containers=x", "field label not supported: spec.containers"),
        ("metadata.labels.a=x", "field label not supported: metadata.labels.a"),
        ("metadata.name", "invalid selector: 'metadata.name'; can't understand 'metadata.name'"),
        ("metadata.name=a=b", "invalid field selector: unescaped character in value: ="),
    ],
)
def test_field_selector_refusals(text: str, message: str) -> None:
    """400 with upstream's sentence."""
    with pytest.raises(StatusError) as raised:
        parse_field_selector(text, resources.PODS)
    assert (raised.value.code, raised.value.message) == (400, message)


def test_every_kind_has_name_and_namespace() -> None:
    """And a custom resource what its CRD adds."""
    without = {"Node", "Namespace", "CertificateSigningRequest"}  # cluster-scoped, with a list of their own
    for resource in resources.RESOURCES:
        assert "metadata.name" in supported_fields(resource)
        assert ("metadata.namespace" in supported_fields(resource)) is (resource.kind not in without)
    selector = parse_field_selector("spec.color=red", resources.CONFIGMAPS, extra=(".spec.color",))
    assert selector.matches({"spec": {"color": "red"}})
    assert selector.exact("spec.color") == "red"
    assert selector.exact("metadata.name") is None
