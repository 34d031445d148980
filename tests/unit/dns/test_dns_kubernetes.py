"""The kubernetes plugin: every question of the tables, through the chain and by the prepared wire answers."""

from __future__ import annotations

import asyncio
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
import kubernetes_cases as cases
from kubernetes_objects import (
    CLUSTER,
    MULTICLUSTER,
    NAMESPACES,
    REVERSE,
    ZONAL,
    endpoint,
    endpoint_slice,
    headless,
    node,
    pod,
    service,
)
from kubernetes_server import SERIAL, ask, options_of, request_of, start_plugin

from podnet.dns import wire
from podnet.dns.config import ConfigError
from podnet.dns.fastpath import FastPath
from podnet.dns.handler import Response, refuse
from podnet.dns.message import SOA, Message, Record, query, rcode_name, reply, type_name, type_number
from podnet.dns.records.edit import apply_changes

DEFAULT_TTL = 5
_REVERSE_ZONES = (
    "cluster.local 0.10.in-addr.arpa 168.192.in-addr.arpa d.c.b.a.4.3.2.1.ip6.arpa 0.3.0.0.7.7.0.0.0.0.d.f.ip6.arpa"
)
NOT_READY = [
    *CLUSTER,
    endpoint_slice("testns", "svc1", endpoint("172.0.0.1", "ep1a", ready=False)),
]
NODES = [
    *CLUSTER,
    node("worker-1", "192.168.100.11", "fd00::11"),
    node("node-2.example.com", "192.168.100.12"),
]
_EXPOSED = "kubernetes cluster.local {\n namespaces testns\n}"
_IMPORTED = "kubernetes cluster.local {\n namespaces testns\n multicluster cluster.local\n}"
TABLES = {
    "common": (_EXPOSED, CLUSTER, cases.COMMON),
    "common-multicluster": (_IMPORTED, MULTICLUSTER, cases.COMMON),
    "endpoints-and-aliases": (_EXPOSED, CLUSTER, cases.ENDPOINTS_AND_ALIASES),
    "multicluster": (_IMPORTED, MULTICLUSTER, cases.MULTICLUSTER),
    "namespaces": ("kubernetes cluster.local", CLUSTER, cases.NAMESPACE_EXISTENCE),
    "not-synced": ("kubernetes cluster.local", None, cases.NOT_SYNCED),
    "case": (_EXPOSED, CLUSTER, cases.CASE),
    "ignore-empty": ("kubernetes cluster.local {\n ignore empty_service\n}", CLUSTER, cases.IGNORE_EMPTY),
    "pods-disabled": ("kubernetes cluster.local", CLUSTER, cases.PODS_DISABLED),
    "pods-insecure": ("kubernetes cluster.local {\n pods insecure\n}", CLUSTER, cases.PODS_INSECURE),
    "pods-verified": ("kubernetes cluster.local {\n pods verified\n}", CLUSTER, cases.PODS_VERIFIED),
    "reverse": (f"kubernetes {_REVERSE_ZONES}", REVERSE, cases.REVERSE),
    "apex": ("kubernetes cluster.local", CLUSTER, cases.APEX),
    "zonal": ("kubernetes cluster.local {\n zonal\n}", ZONAL, cases.ZONAL),
    "zonal-off": ("kubernetes cluster.local", ZONAL, cases.ZONAL_OFF),
    "more": (_EXPOSED, CLUSTER, cases.MORE),
    "not-ready": (_EXPOSED, NOT_READY, cases.NOT_READY),
    "nodes": ("kubernetes cluster.local in-addr.arpa {\n nodes\n}", NODES, cases.NODES),
    "nodes-off": ("kubernetes cluster.local", NODES, cases.NODES_OFF),
}
ALL = [
    pytest.param(corefile, changes, case, id=f"{table}-{case.id}")
    for table, (corefile, changes, rows) in TABLES.items()
    for case in rows
]


def expected(text: str, qname: str) -> tuple[str, str, str, int]:
    """(owner, type, data, ttl) of `[OWNER] TYPE DATA [ttl=N]`."""
    words = text.split()
    ttl = int(words.pop().removeprefix("ttl=")) if words[-1].startswith("ttl=") else DEFAULT_TTL
    owner = words.pop(0) if words[0].endswith(".") else qname
    data = " ".join(words[1:])
    return owner, words[0], f'"{data}"' if words[0] == "TXT" else data, ttl


def written(each: Record) -> tuple[str, str, str, int]:
    return each.name, type_name(each.type), str(each.data), each.ttl


def check(case: cases.Case, message: Message) -> None:
    assert rcode_name(message.rcode) == case.rcode
    assert sorted(map(written, message.answers)) == sorted(expected(text, case.name) for text in case.answer)
    assert sorted(map(written, message.additional)) == sorted(expected(text, case.name) for text in case.additional)
    soas = [each for each in message.authority if isinstance(each.data, SOA)]
    assert [each.name for each in soas] == ([case.soa] if case.soa else [])
    for each in soas:
        serial = each.data.serial if case.rcode == "SERVFAIL" else SERIAL
        zone = case.soa
        assert each.data == SOA(f"ns.dns.{zone}", f"hostmaster.{zone}", serial, 7200, 1800, 86400, DEFAULT_TTL)
    if case.rcode != "REFUSED":
        assert message.authoritative


@pytest.mark.parametrize(("corefile", "changes", "case"), ALL)
async def test_every_question_has_its_answer(corefile, changes, case):
    plugin = await start_plugin(corefile, changes)
    check(case, await ask(plugin, case.name, case.type))


@pytest.mark.parametrize(("corefile", "changes", "case"), ALL)
async def test_what_is_prepared_as_bytes_is_what_the_chain_says(corefile, changes, case):
    plugin = await start_plugin(corefile, changes)
    for name in {case.name, case.name.lower(), case.name.upper()}:
        for qtype in {case.type, "A", "AAAA", "SRV", "MX", "TXT", "TYPE65", "AXFR", "IXFR"}:
            asked = query(name, type_number(qtype), id_=7)
            data = wire.encode(asked)
            path = FastPath(lambda question: _source(plugin, question))
            out = path.answer(data, 0.0)
            if out is None:
                continue
            slow = (await plugin.serve(request_of(name, qtype), refuse)).message
            assert wire.decode(out) == wire.decode(wire.encode(slow))


_WORDS = st.sampled_from(
    ["svc1", "svc6", "hdls1", "external", "testns", "podns", "svc", "pod", "cluster", "local", "dns", "ns", "_http", "_tcp",
     "172-0-0-3", "dup-name", "10-240-0-1", "dns-version", "x y", "a.b", "SvC1", "TESTNS"]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    st.lists(_WORDS, max_size=6),
    st.sampled_from(["testns.svc.cluster.local.", "cluster.local.", "CLUSTER.local.", "local.", ""]),
    st.sampled_from([0, 1, 2, 5, 6, 12, 15, 16, 28, 33, 41, 65, 251, 252, 255]),
    st.sampled_from(["disabled", "insecure", "verified"]),
)
def test_any_question_gets_one_answer_by_both_ways(labels, end, qtype, pods):
    name = wire.name_of([label.encode() for label in labels]) if labels else ""
    name = (name + end) or "."

    async def both():
        plugin = await start_plugin(f"kubernetes cluster.local {{\n pods {pods}\n}}", CLUSTER)
        out = FastPath(lambda question: _source(plugin, question)).answer(wire.encode(query(name, qtype, id_=7)), 0.0)
        return out, (await plugin.serve(request_of(name, qtype), refuse)).message

    fast, slow = asyncio.run(both())
    assert len(slow.questions) == 1
    assert fast is None or wire.decode(fast) == wire.decode(wire.encode(slow))


def _source(plugin, question):
    prepared = plugin.prepare(question)
    return None if prepared is None else (".", prepared)


@pytest.mark.parametrize("corefile", ["kubernetes cluster.local", "kubernetes cluster.local {\n pods insecure\n}"])
@pytest.mark.parametrize(
    ("name", "qtype", "count"),
    [
        ("svc1.testns.svc.cluster.local.", "A", 1),
        ("svc1.testns.svc.cluster.local.", "AAAA", 0),
        ("hdls1.testns.svc.cluster.local.", "A", 4),
        ("hdls1.testns.svc.cluster.local.", "AAAA", 2),
        ("172-0-0-3.hdls1.testns.svc.cluster.local.", "A", 1),
        ("nope.testns.svc.cluster.local.", "A", 0),
        ("www.example.com.testns.svc.cluster.local.", "A", 0),
        ("www.example.com.cluster.local.", "AAAA", 0),
        ("svc.cluster.local.", "A", 0),
    ],
)
async def test_addresses_and_refusals_are_prepared(corefile, name, qtype, count):
    plugin = await start_plugin(corefile, CLUSTER)
    question = wire.encode(query(name, type_number(qtype)))[12:]
    prepared = plugin.prepare(question)
    assert prepared is not None
    assert (prepared.answers, prepared.authority) == ((count, 0) if count else (0, 1))
    assert prepared.case_safe


async def test_the_alias_comes_before_what_it_stands_for():
    plugin = await start_plugin(_EXPOSED, CLUSTER)
    message = await ask(plugin, "external-to-service.testns.svc.cluster.local.", "A")
    assert [type_name(each.type) for each in message.answers] == ["CNAME", "A"]


async def test_a_truncated_upstream_answer_makes_a_truncated_reply():
    plugin = await start_plugin(_EXPOSED, CLUSTER)
    message = await ask(plugin, "external.testns.svc.cluster.local.", "A")
    assert message.truncated
    assert str(message.answers[0].data) == "ext.interwebs.test."


async def test_aliases_in_a_circle_end():
    changes = [
        *NAMESPACES,
        service("testns", "a", external="b.testns.svc.cluster.local"),
        service("testns", "b", external="a.testns.svc.cluster.local"),
    ]
    plugin = await start_plugin("kubernetes cluster.local", changes)
    message = await ask(plugin, "a.testns.svc.cluster.local.", "A")
    assert {str(each.data) for each in message.answers} <= {
        "a.testns.svc.cluster.local.",
        "b.testns.svc.cluster.local.",
    }
    assert type_name(message.answers[0].type) == "CNAME"


async def test_two_servers_of_aliases_that_point_at_each_other_end():
    plugin = None

    async def resolve(request):
        again = await plugin.serve(request.asking("a.testns.svc.cluster.local."), refuse)
        return again.with_message(again.message.with_(answers=again.message.answers[:1]))

    changes = [*NAMESPACES, service("testns", "a", external="a.example.com")]
    plugin = await start_plugin("kubernetes cluster.local", changes, resolve=resolve)
    message = await ask(plugin, "a.testns.svc.cluster.local.", "A")
    assert str(message.answers[0].data) == "a.example.com."


async def test_an_alias_that_leads_nowhere_is_still_an_alias():
    changes = [*NAMESPACES, service("testns", "a", external="nope.testns.svc.cluster.local")]
    plugin = await start_plugin("kubernetes cluster.local", changes)
    message = await ask(plugin, "a.testns.svc.cluster.local.", "A")
    assert [str(each.data) for each in message.answers] == ["nope.testns.svc.cluster.local."]


@pytest.mark.parametrize("target", ["10.1.2.3", "fd00::1", "", "."])
async def test_an_address_is_no_external_name(target):
    changes = [*NAMESPACES, service("testns", "a", external=target or "x")]
    changes[-1].object["spec"]["externalName"] = target
    plugin = await start_plugin("kubernetes cluster.local", changes)
    assert rcode_name((await ask(plugin, "a.testns.svc.cluster.local.", "A")).rcode) == "NXDOMAIN"


@pytest.mark.parametrize(
    ("fallthrough", "name", "passed"),
    [
        ("fallthrough", "nope.testns.svc.cluster.local.", True),
        ("fallthrough in-addr.arpa", "nope.testns.svc.cluster.local.", False),
        ("fallthrough in-addr.arpa", "9.9.9.10.in-addr.arpa.", True),
        ("", "9.9.9.10.in-addr.arpa.", False),
        ("fallthrough", "unknown.testns.svc.cluster.local.", True),
        ("fallthrough", "svc1.testns.svc.cluster.local.", False),
        ("", "www.example.com.", True),
    ],
)
async def test_what_is_passed_on(fallthrough, name, passed):
    async def next_(request):
        return Response(reply(request.message, 4))

    plugin = await start_plugin(f"kubernetes cluster.local in-addr.arpa {{\n {fallthrough}\n}}", CLUSTER)
    message = await ask(plugin, name, "PTR" if "arpa" in name else "A", next_)
    assert (message.rcode == 4) == passed
    question = wire.encode(query(name, 12 if "arpa" in name else 1))[12:]
    assert not passed or plugin.prepare(question) is None


NAME_SERVERS = [
    ("dns-service", service("kube-system", "dns-service", "10.0.0.111"), "10.0.0.111"),
    ("hdls-dns-service", headless("kube-system", "hdls-dns-service"), "10.244.0.20"),
    ("dns6-service", service("kube-system", "dns6-service", "10::111"), "10::111"),
]


@pytest.mark.parametrize(("name", "changed", "address"), NAME_SERVERS, ids=[row[0] for row in NAME_SERVERS])
async def test_the_name_server_is_the_service_before_this_server(name, changed, address):
    changes = [*NAMESPACES, changed, endpoint_slice("kube-system", name, endpoint("10.244.0.20"))]
    plugin = await start_plugin("kubernetes inter.webs.test", changes, own=("10.244.0.20",))
    message = await ask(plugin, "inter.webs.test.", "NS")
    target = f"{name}.kube-system.svc.inter.webs.test."
    target = f"10-244-0-20.{target}" if name.startswith("hdls") else target
    assert [written(each) for each in message.answers] == [("inter.webs.test.", "NS", target, 5)]
    assert [(each.name, str(each.data)) for each in message.additional] == [(target, address)]
    qtype = "AAAA" if ":" in address else "A"
    message = await ask(plugin, "ns.dns.inter.webs.test.", qtype)
    assert [str(each.data) for each in message.answers] == [address]


async def test_without_a_service_the_server_names_itself():
    plugin = await start_plugin("kubernetes cluster.local", CLUSTER)
    message = await ask(plugin, "cluster.local.", "NS")
    assert [str(each.data) for each in message.answers] == ["ns.dns.cluster.local."]
    assert [(each.name, str(each.data)) for each in message.additional] == [("ns.dns.cluster.local.", "127.0.0.1")]


async def test_one_address_behind_two_services_has_two_names():
    plugin = await start_plugin(f"kubernetes {_REVERSE_ZONES}", REVERSE)
    message = await ask(plugin, "99.0.0.10.in-addr.arpa.", "PTR")
    assert sorted(str(each.data) for each in message.answers) == [
        "double-ep.svc1.testns.svc.cluster.local.",
        "double-ep.svc2.testns.svc.cluster.local.",
    ]
    message = await ask(plugin, "100.1.168.192.in-addr.arpa.", "PTR")
    assert [str(each.data) for each in message.answers] == ["svc1.testns.svc.cluster.local."]
    assert rcode_name((await ask(plugin, "100.1.168.192.in-addr.arpa.", "A")).rcode) == "NOERROR"


async def test_the_search_path_of_a_pod_begins_in_its_namespace(monkeypatch):
    monkeypatch.setattr("podnet.dns.plugins.kubernetes.observe_searches", lambda: ("example.org.",))
    plugin = await start_plugin("kubernetes cluster.local in-addr.arpa {\n pods verified\n}", CLUSTER)
    assert plugin.search_path(ip_address("10.240.0.1")) == [
        "podns.svc.cluster.local.",
        "svc.cluster.local.",
        "cluster.local.",
        "example.org.",
        "",
    ]
    assert plugin.search_path(ip_address("10.240.0.2")) is None


async def test_a_swap_ends_the_answers_that_changed_and_no_others():
    plugin = await start_plugin("kubernetes cluster.local", CLUSTER)
    names = {"svc1": "A", "svc-dual-stack": "A", "hdls1": "SRV", "nope": "A"}
    before = {
        name: (await plugin.serve(request_of(f"{name}.testns.svc.cluster.local.", qtype), refuse)).reuse
        for name, qtype in names.items()
    }
    assert all(each is not None and all(v.valid for v in each.validities) for each in before.values())
    zone = apply_changes(plugin._zone, [service("testns", "svc1", "10.0.0.77")], SERIAL + 1)
    plugin.swap(zone)
    valid = {name: all(v.valid for v in each.validities) for name, each in before.items()}
    assert valid == {"svc1": False, "svc-dual-stack": True, "hdls1": True, "nope": False}
    assert str((await ask(plugin, "svc1.testns.svc.cluster.local.", "A")).answers[0].data) == "10.0.0.77"


async def test_a_namespace_that_goes_takes_its_answers_with_it():
    from kubernetes_objects import gone, namespace

    plugin = await start_plugin("kubernetes cluster.local", CLUSTER)
    reuse = (await plugin.serve(request_of("svc1.testns.svc.cluster.local.", "A"), refuse)).reuse
    plugin.swap(apply_changes(plugin._zone, [gone(namespace("testns"))], SERIAL + 1))
    assert not all(each.valid for each in reuse.validities)
    assert rcode_name((await ask(plugin, "svc1.testns.svc.cluster.local.", "A")).rcode) == "NXDOMAIN"


async def test_until_the_first_sync_it_is_not_ready():
    plugin = await start_plugin("kubernetes cluster.local", None)
    assert not plugin.ready()
    assert plugin.prepare(wire.encode(query("svc1.testns.svc.cluster.local.", 1))[12:]) is None
    plugin = await start_plugin("kubernetes cluster.local", CLUSTER)
    assert plugin.ready()


WRONG = [
    ("kubernetes cluster.local {\n pods maybe\n}", "wrong value for pods: maybe"),
    ("kubernetes cluster.local {\n ttl 3601\n}", "3601"),
    ("kubernetes cluster.local {\n ttl -1\n}", "-1"),
    ("kubernetes cluster.local {\n ttl\n}", "number of arguments"),
    ("kubernetes cluster.local {\n ignore nothing\n}", "empty_service"),
    ("kubernetes cluster.local {\n banana\n}", "unknown property 'banana'"),
    ("kubernetes in-addr.arpa", "non-reverse zone"),
    ("kubernetes cluster.local {\n namespaces a\n namespace_labels x=y\n}", "cannot both be set"),
    ("kubernetes cluster.local {\n labels x in (\n}", "label selector"),
    ("kubernetes cluster.local {\n endpoint banana\n}", "no URL"),
    ("kubernetes cluster.local {\n tls a b\n}", "number of arguments"),
    ("kubernetes cluster.local {\n multicluster other.local\n}", "not authoritative"),
    ("kubernetes cluster.local {\n startup_timeout soon\n}", "invalid duration"),
]


@pytest.mark.parametrize(("corefile", "reason"), WRONG, ids=[row[1] for row in WRONG])
def test_a_wrong_option_is_an_error_that_says_so(corefile, reason):
    with pytest.raises(ConfigError, match=reason.replace("(", r"\(")) as caught:
        options_of(corefile)
    assert "Corefile:" in str(caught.value)


def test_every_option_is_understood():
    options = options_of(
        "kubernetes cluster.local 10.96.0.0/16 {\n endpoint https://10.0.0.1:6443\n tls cert key ca\n"
        " namespaces a b\n labels app=x,y!=z\n pods verified\n endpoint_pod_names\n ttl 30\n noendpoints\n"
        " fallthrough in-addr.arpa\n ignore empty_service\n zonal\n startup_timeout 2s\n apiserver_qps 10\n}"
    )
    assert options.zones == ("cluster.local.", "96.10.in-addr.arpa.")
    assert options.primary == "cluster.local."
    assert options.api.server == "https://10.0.0.1:6443"
    assert options.records.namespaces == {"a", "b"}
    assert str(options.records.labels) == "app=x,y!=z"
    assert (options.records.pods, options.records.ttl_s, options.records.endpoints) == ("verified", 30, False)
    assert options.records.zonal
    assert options.records.ignore_empty_service
    assert options.fallthrough == ("in-addr.arpa.",)
    assert options.startup_timeout_s == 2.0


async def test_options_that_choose_objects():
    labelled = [
        *NAMESPACES,
        service("testns", "mine", "10.0.0.1", labels={"app": "x"}),
        service("testns", "other", "10.0.0.2"),
        headless("testns", "many", labels={"app": "x"}),
        endpoint_slice("testns", "many", endpoint("10.1.0.1"), labels={"app": "x"}),
        pod("testns", "p", "10.1.0.1"),
    ]
    plugin = await start_plugin("kubernetes cluster.local {\n labels app=x\n}", labelled)
    assert (await ask(plugin, "mine.testns.svc.cluster.local.", "A")).answers
    assert rcode_name((await ask(plugin, "other.testns.svc.cluster.local.", "A")).rcode) == "NXDOMAIN"
    assert (await ask(plugin, "many.testns.svc.cluster.local.", "A")).answers
    plugin = await start_plugin("kubernetes cluster.local {\n noendpoints\n}", labelled)
    assert rcode_name((await ask(plugin, "many.testns.svc.cluster.local.", "A")).rcode) == "NXDOMAIN"
    assert (await ask(plugin, "mine.testns.svc.cluster.local.", "A")).answers


async def test_namespaces_are_chosen_by_their_labels():
    from kubernetes_objects import namespace

    changes = [namespace("a", team="x"), namespace("b"), service("a", "s", "10.0.0.1"), service("b", "s", "10.0.0.2")]
    plugin = await start_plugin("kubernetes cluster.local {\n namespace_labels team=x\n}", changes)
    assert (await ask(plugin, "s.a.svc.cluster.local.", "A")).answers
    assert rcode_name((await ask(plugin, "s.b.svc.cluster.local.", "A")).rcode) == "NXDOMAIN"
    assert rcode_name((await ask(plugin, "b.svc.cluster.local.", "A")).rcode) == "NXDOMAIN"


async def test_the_ttl_is_everybodys():
    plugin = await start_plugin("kubernetes cluster.local {\n ttl 30\n}", CLUSTER)
    assert (await ask(plugin, "svc1.testns.svc.cluster.local.", "A")).answers[0].ttl == 30
    (soa,) = (await ask(plugin, "nope.testns.svc.cluster.local.", "A")).authority
    assert (soa.ttl, soa.data.minimum) == (30, 30)
