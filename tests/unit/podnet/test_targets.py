"""Names people type: targets, capture points, URLs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.addresses import is_target, split_url
from podnet.targets import Point, Target, TargetError, parse_point, parse_target


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("a", Target("pod", "a", "default")),
        ("pod/a", Target("pod", "a", "default")),
        ("po/a", Target("pod", "a", "default")),
        ("pods/a", Target("pod", "a", "default")),
        ("pod/shop/a", Target("pod", "a", "shop")),
        ("node/worker-1", Target("node", "worker-1")),
        ("no/worker-1", Target("node", "worker-1")),
        ("host/client", Target("host", "client")),
        ("switch/s1", Target("switch", "s1")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_targets_parse(text, target):
    assert parse_target(text) == target


@pytest.mark.parametrize("text", ["", "/", "pod/", "/a", "node/a/b", "svc/a", "pod/a/b/c", "pod//b", "host/"])
def test_what_is_no_target_is_refused_with_a_hint(text):
    with pytest.raises(TargetError, match="pod/NAME"):
        parse_target(text)


def test_namespace_and_container_reach_the_pod():
    assert parse_target("pod/a", "shop", "main") == Target("pod", "a", "shop", "main")


@pytest.mark.parametrize(
    ("text", "point"),
    [
        ("pod/a", Point(Target("pod", "a", "default"), "")),
        ("pod/shop/a:eth0", Point(Target("pod", "a", "shop"), "eth0")),
        ("node/worker-1:flannel.1", Point(Target("node", "worker-1"), "flannel.1")),
        ("node/worker-1/eth0", Point(Target("node", "worker-1"), "eth0")),
        ("switch/s1:s1-eth2", Point(Target("switch", "s1"), "s1-eth2")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_points_parse(text, point):
    assert parse_point(text) == point


@given(st.text(max_size=40))
def test_parsing_never_fails_otherwise_than_by_refusal(text):
    try:
        target = parse_target(text)
    except TargetError:
        return
    assert target.kind in {"pod", "node", "host", "switch"}
    assert target.name


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("pod/b", ("http://", "pod/b", "", "")),
        ("pod/b:8080", ("http://", "pod/b", ":8080", "")),
        ("http://pod/b:8080/hostname", ("http://", "pod/b", ":8080", "/hostname")),
        ("https://pod/shop/b:443/x/y", ("https://", "pod/shop/b", ":443", "/x/y")),
        ("pod/b/healthz", ("http://", "pod/b", "", "/healthz")),
        ("node/worker-1:10250/healthz", ("http://", "node/worker-1", ":10250", "/healthz")),
        ("host/client", ("http://", "host/client", "", "")),
        ("http://10.244.1.2:80/", None),
        ("http://web.default.svc/", None),
        ("http://podium/x", None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_urls_split(url, parts):
    assert split_url(url) == parts


@pytest.mark.parametrize(
    ("text", "answer"), [("pod/a", True), ("10.0.0.1", False), ("pod", False), ("web.default", False), ("x/y", False)]
)
def test_is_target(text, answer):
    assert is_target(text) is answer
