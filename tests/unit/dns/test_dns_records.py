"""The zone index: its laws, what it shares, and names made of addresses."""

from __future__ import annotations

import sys
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from kubernetes_objects import (
    CLUSTER,
    NAMESPACES,
    endpoint,
    endpoint_slice,
    gone,
    headless,
    namespace,
    pod,
    service,
)

from podnet.dns.message import A_, AAAA_, PTR_, SRV_
from podnet.dns.records.edit import apply_changes, build_zone
from podnet.dns.records.names import (
    canonical_address,
    endpoint_label,
    is_reverse,
    pod_address,
    reverse_address,
    split_name,
)
from podnet.dns.records.types import NODATA, NXDOMAIN, Options

OPTIONS = Options(pods="verified", zonal=True)

LABELS = [
    ({"address": "10.11.12.13"}, "10-11-12-13"),
    ({"address": "10.11.12.13", "hostname": "epname"}, "epname"),
    ({"address": "10.11.12.13", "pod": "hello-abcde"}, "10-11-12-13"),
    ({"address": "10.11.12.13", "hostname": "epname", "pod": "hello-abcde"}, "epname"),
    ({"address": "10.11.12.13", "hostname": "epname", "pod": "hello-abcde", "pod_names": True}, "epname"),
    ({"address": "10.11.12.13", "pod": "hello-abcde", "pod_names": True}, "hello-abcde"),
    ({"address": "10.11.12.13", "pod": "x" * 63, "pod_names": True}, "x" * 63),
    ({"address": "10.11.12.13", "pod": "x" * 64, "pod_names": True}, "10-11-12-13"),
    ({"address": "10.11.12.13", "pod": "two.labels", "pod_names": True}, "10-11-12-13"),
    ({"address": "2001:db8:3333:4444:5555:6666:7777:8888"}, "2001-db8-3333-4444-5555-6666-7777-8888"),
    ({"address": "2001:db8:3333:4444:5555:6666::"}, "2001-db8-3333-4444-5555-6666--0"),
]


@pytest.mark.parametrize(("given_", "label"), LABELS, ids=[row[1][:20] for row in LABELS])
def test_endpoint_label(given_, label):
    given_ = dict(given_)
    assert endpoint_label(given_.pop("address"), **given_) == label


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_an_endpoints_name_spells_its_address(address):
    assert pod_address(endpoint_label(str(address))) == str(address)


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_a_reverse_name_is_its_address(address):
    name = split_name(address.reverse_pointer)
    assert is_reverse(name)
    assert reverse_address(name) == str(address)


@given(st.text(max_size=70))
def test_any_text_is_an_address_or_none(text):
    for found in (pod_address(text), canonical_address(text), reverse_address(split_name(text))):
        assert found == "" or str(ip_address(found)) == found


@pytest.mark.parametrize(
    "name", ["4.3.2.in-addr.arpa", "in-addr.arpa", "256.0.0.1.in-addr.arpa", "x.0.0.1.in-addr.arpa", "1.0.ip6.arpa"]
)
def test_half_an_address_is_none(name):
    assert reverse_address(split_name(name)) == ""


PARSED = [
    ("_http._tcp.web.default.svc", SRV_, True),
    ("http.tcp.web.default.svc", SRV_, True),
    ("_http._udp.web.default.svc", SRV_, False),
    ("_tcp.web.default.svc", SRV_, False),
    ("10-1-0-1.web.default.svc", A_, True),
    ("web.default.pood", A_, False),
    ("x.y.z.web.default.svc", A_, False),
    ("web.default", A_, False),
    ("default.svc", A_, True),
    ("svc", A_, True),
    ("pod", A_, True),
    ("", A_, True),
    ("dns-version", A_, True),
]


@pytest.mark.parametrize(("name", "qtype", "exists"), PARSED, ids=[row[0] or "apex" for row in PARSED])
def test_which_names_exist(name, qtype, exists):
    changes = [namespace("default"), service("default", "web", "10.96.0.7")]
    changes.append(endpoint_slice("default", "web", endpoint("10.1.0.1")))
    zone = build_zone(Options(), changes, 1)
    assert zone.lookup(split_name(name), qtype).exists == exists


def test_conditions_of_endpoints():
    parts = [endpoint("10.0.0.1"), endpoint("10.0.0.2", ready=False), endpoint("10.0.0.3", ready=None)]
    changes = [namespace("a"), headless("a", "s"), endpoint_slice("a", "s", *parts)]
    zone = build_zone(Options(), changes, 1)
    assert [each.value for each in zone.lookup(("s", "a", "svc"), A_).records] == ["10.0.0.1", "10.0.0.3"]


def test_weights_never_fall_to_nothing():
    parts = [endpoint(f"10.0.{n // 250}.{n % 250 + 1}") for n in range(300)]
    zone = build_zone(Options(), [namespace("a"), headless("a", "s"), endpoint_slice("a", "s", *parts)], 1)
    assert {each.weight for each in zone.lookup(("_http", "_tcp", "s", "a", "svc"), SRV_).records} == {1}


def test_two_ports_of_one_number_are_one_record():
    ports = (("dns", "udp", 53), ("dns-tcp", "tcp", 53), ("metrics", "tcp", 9153))
    zone = build_zone(Options(), [namespace("a"), service("a", "dns", "10.96.0.10", ports=ports)], 1)
    records = zone.lookup(("dns", "a", "svc"), SRV_).records
    assert [(each.weight, each.port) for each in records] == [(33, 53), (33, 9153)]


def test_pods_that_ended_have_no_name():
    def exists(*pods):
        zone = build_zone(Options(pods="verified"), [namespace("a"), *pods], 1)
        return zone.lookup(("10-0-0-1", "a", "pod"), A_).exists

    assert exists(pod("a", "p", "10.0.0.1"))
    assert not exists(pod("a", "p", "10.0.0.1", phase="Succeeded"))
    assert not exists(pod("a", "p", "10.0.0.1", deletionTimestamp="2026-01-01T00:00:00Z"))
    assert not exists(pod("b", "p", "10.0.0.1"))
    assert not exists(pod("a", "p", "10.0.0.1"), gone(pod("a", "p")))
    # The name of a released address goes on with the pod that has it now.
    assert exists(pod("a", "p", "10.0.0.1"), pod("a", "q", "10.0.0.1"), gone(pod("a", "p")))


@pytest.mark.parametrize("label", ["x.10-0-0-1", "10-0-0-1-9", "10-0-0", "", "blah"])
def test_what_spells_no_address_is_no_pod(label):
    zone = build_zone(Options(pods="insecure"), [namespace("a")], 1)
    labels = (*split_name(label), "a", "pod")
    assert zone.lookup(labels, A_) == (NODATA if not label else NXDOMAIN)


def test_a_pod_with_an_ipv6_address():
    zone = build_zone(Options(pods="insecure"), [namespace("a")], 1)
    assert [each.value for each in zone.lookup(("fd00--1", "a", "pod"), AAAA_).records] == ["fd00::1"]
    assert zone.lookup(("fd00--1", "a", "pod"), A_) == NODATA


def test_a_change_leaves_everything_else_as_it_was():
    before = build_zone(OPTIONS, CLUSTER, 1)
    after = apply_changes(before, [service("testns", "svc1", "10.0.0.99")], 2)
    assert after.serial == 2
    for name, entry in before.namespaces.items():
        if name != "testns":
            assert after.namespaces[name] is entry
    entries = before.namespaces["testns"].entries
    changed = [name for name, entry in after.namespaces["testns"].entries.items() if entries[name] is not entry]
    assert changed == ["svc1"]
    assert after.pods is before.pods
    assert after.lookup_reverse("10.0.0.99", "", PTR_).exists
    assert before.lookup(("svc1", "testns", "svc"), A_).records[0].value == "10.0.0.1"


def test_what_means_nothing_to_the_zone_makes_no_new_one():
    zone = build_zone(OPTIONS, CLUSTER, 1)
    again = [service("testns", "svc1", "10.0.0.1"), namespace("testns"), gone(service("testns", "never", "10.9.9.9"))]
    again[0].object["metadata"]["resourceVersion"] = "77"
    assert apply_changes(zone, again, 2) is zone
    assert apply_changes(zone, [], 2) is zone


def test_a_slice_that_moves_to_another_service():
    zone = build_zone(OPTIONS, [*NAMESPACES, headless("testns", "a"), headless("testns", "b")], 1)
    zone = apply_changes(zone, [endpoint_slice("testns", "a", endpoint("10.0.0.1"), name="x")], 2)
    assert zone.lookup(("a", "testns", "svc"), A_).exists
    zone = apply_changes(zone, [endpoint_slice("testns", "b", endpoint("10.0.0.1"), name="x")], 3)
    assert zone.lookup(("a", "testns", "svc"), A_) == NXDOMAIN
    assert zone.lookup(("b", "testns", "svc"), A_).exists
    targets = [each.value for each in zone.lookup_reverse("10.0.0.1", "", PTR_).records]
    assert targets == ["10-0-0-1.b.testns.svc"]


_NAMES = st.sampled_from(["a", "b", "c"])
_SPACES = st.sampled_from(["x", "y"])
_IPS = st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1", "fd00::2"])
_PARTS = st.lists(
    st.builds(
        endpoint,
        _IPS,
        st.sampled_from(["", "h"]),
        zone=st.sampled_from(["", "z"]),
        ready=st.sampled_from([True, False]),
    ),
    max_size=3,
)
_CHANGES = st.one_of(
    st.builds(namespace, _SPACES),
    st.builds(service, _SPACES, _NAMES, _IPS),
    st.builds(headless, _SPACES, _NAMES),
    st.builds(lambda ns, name: service(ns, name, external="example.com"), _SPACES, _NAMES),
    st.builds(lambda ns, svc, parts, name: endpoint_slice(ns, svc, *parts, name=name), _SPACES, _NAMES, _PARTS, _NAMES),
    st.builds(pod, _SPACES, _NAMES, _IPS),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.tuples(_CHANGES, st.booleans()), max_size=6), max_size=6))
def test_changes_one_by_one_make_the_zone_that_the_objects_make_at_once(batches):
    zone = build_zone(OPTIONS, [], 0)
    objects = {}
    for batch in batches:
        changes = [gone(change) if delete else change for change, delete in batch]
        zone = apply_changes(zone, changes, 0)
        for change in changes:
            key = (change.kind, change.namespace, change.name)
            if change.object is None:
                objects.pop(key, None)
            else:
                objects[key] = change
    assert zone == build_zone(OPTIONS, objects.values(), 0)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(_CHANGES, max_size=12),
    st.lists(
        st.sampled_from(["a", "x", "svc", "pod", "h", "_http", "_tcp", "10-0-0-1", "_zone", "pin", "z"]), max_size=7
    ),
    st.sampled_from([A_, AAAA_, SRV_, PTR_, 15]),
)
def test_any_name_has_an_answer(changes, labels, qtype):
    zone = build_zone(OPTIONS, [namespace("x"), *changes], 0)
    answer = zone.lookup(tuple(labels), qtype)
    assert answer.exists or not answer.records
    for each in (*answer.records, *answer.additional):
        if each.type in (A_, AAAA_):
            assert isinstance(ip_address(each.value), IPv4Address if each.type == A_ else IPv6Address)
    # Existence is of the name, not of the type (RFC 8020), but for ports, which only their protocol's records have.
    if labels and labels[-1] == "pod":
        assert zone.lookup(tuple(labels), 16).exists == answer.exists


def test_zeros_in_front_of_a_number_do_not_make_it_octal():
    assert canonical_address("010.096.000.010") == "10.96.0.10"
    assert pod_address("010-096-000-010") == ""  # a name is not an old field: CoreDNS does not know this one
