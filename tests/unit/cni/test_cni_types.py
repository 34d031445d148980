"""Results, errors and configurations in every version of the spec."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.cni.netconf import parse_cni_args, parse_netconf, valid_ifname, valid_name
from podnet.cni.types import (
    DNS,
    SUPPORTED_VERSIONS,
    CNIError,
    Interface,
    IPConfig,
    Result,
    RouteConfig,
    parse_result,
    render_result,
)

RESULT = Result(
    (
        Interface("cni0", "0a:58:0a:f4:01:01"),
        Interface("veth1", "0e:00:00:00:00:01"),
        Interface("eth0", "", "/run/x", 1450),
    ),
    (IPConfig(ip_interface("10.244.1.5/24"), ip_address("10.244.1.1"), 2),),
    (RouteConfig(ip_network("0.0.0.0/0"), ip_address("10.244.1.1"), (("mtu", 1400),)),),
)


@pytest.mark.parametrize("version", SUPPORTED_VERSIONS)
def test_a_result_survives_rendering_in_every_version(version):
    parsed = parse_result(render_result(RESULT, version))
    assert parsed.ips == RESULT.ips
    assert [i.name for i in parsed.interfaces] == ["cni0", "veth1", "eth0"]
    assert parsed.routes[0].gw == ip_address("10.244.1.1")


@pytest.mark.parametrize(
    ("version", "has_ip_version", "has_dns", "has_mtu"),
    [
        ("0.3.1", True, True, False),
        ("0.4.0", True, True, False),
        ("1.0.0", False, False, False),
        ("1.1.0", False, False, True),
    ],
)
def test_what_each_version_writes(version, has_ip_version, has_dns, has_mtu):
    body = render_result(RESULT, version)
    assert body["cniVersion"] == version
    assert (body["ips"][0].get("version") == "4") is has_ip_version
    assert ("dns" in body) is has_dns
    assert ("mtu" in body["interfaces"][2]) is has_mtu
    assert ("mtu" in body["routes"][0]) is has_mtu


addresses = st.builds(
    lambda n, p: ip_interface((n, p)), st.integers(0x0A000000, 0x0AFFFFFF), st.integers(8, 30)
) | st.builds(lambda n: ip_interface((n, 64)), st.integers(0xFD << 120, (0xFD << 120) + 2**64))
results = st.builds(
    Result,
    st.lists(
        st.builds(Interface, st.sampled_from(["eth0", "cni0"]), st.just(""), st.sampled_from(["", "/run/n"])),
        max_size=3,
    ).map(tuple),
    st.lists(st.builds(IPConfig, addresses, st.none(), st.none() | st.integers(0, 3)), max_size=3).map(tuple),
    st.just(()),
    st.builds(DNS, st.lists(st.just("10.96.0.10"), max_size=2).map(tuple), st.sampled_from(["", "cluster.local"])),
)


@given(results, st.sampled_from(SUPPORTED_VERSIONS))
def test_parse_inverts_render(result, version):
    assert parse_result(render_result(result, version)) == result


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ([], "prevResult:"),
        ({"ips": {}}, "prevResult.ips:"),
        ({"ips": [{"address": "10.0.0.300/24"}]}, "prevResult.ips[0].address"),
        ({"ips": [{}]}, "prevResult.ips[0].address: is required"),
        ({"interfaces": [{"name": 4}]}, "prevResult.interfaces[0].name: must be a string"),
        ({"routes": [{"dst": "10.0.0.1/8"}]}, "prevResult.routes[0].dst"),
        ({"dns": {"nameservers": "8.8.8.8"}}, "prevResult.dns.nameservers: must be a list"),
    ],
)
def test_a_broken_result_names_the_field(body, path):
    with pytest.raises(CNIError) as caught:
        parse_result(body)
    assert caught.value.code == 7
    assert path in caught.value.msg


def test_a_chained_result_moves_its_interface_indexes():
    first = Result((Interface("lo", sandbox="/run/x"),), (IPConfig(ip_interface("127.0.0.1/8"), None, 0),))
    both = RESULT.after(first)
    assert [i.name for i in both.interfaces] == ["lo", "cni0", "veth1", "eth0"]
    assert [ip.interface for ip in both.ips] == [0, 3]


def test_the_error_object():
    body = CNIError(7, "no", "because").to_json("1.0.0")
    assert body == {"cniVersion": "1.0.0", "code": 7, "msg": "no", "details": "because"}


def conf(**fields):
    return {"cniVersion": "1.1.0", "name": "net", "type": "podnet-bridge"} | fields


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (conf(cniVersion="0.2.0"), 1, "0.2.0"),
        ({"name": "n"}, 1, "0.1.0"),
        (conf(cniVersion="9.9.9"), 1, "9.9.9"),
        (conf(bridgr="x"), 7, "bridgr: unknown field"),
        (conf(bridge=5), 7, "bridge: must be a string"),
        (conf(bridge="a/b"), 7, "bridge: invalid interface name"),
        (conf(bridge="sixteen-letters-"), 7, "bridge: invalid interface name"),
        (conf(mtu="1450"), 7, "mtu: must be a number"),
        (conf(mtu=True), 7, "mtu: must be a number"),
        (conf(mtu=12), 7, "mtu: 12 is outside"),
        (conf(hairpinMode="yes"), 7, "hairpinMode: must be a boolean"),
        (conf(name="../etc"), 7, "name: invalid network name"),
        (conf(name=""), 7, "name: invalid network name"),
        (conf(ipam=[]), 7, "ipam: must be an object"),
        (conf(ipam={"type": "host-local"}), 7, "ipam.type"),
        (conf(ipam={"rangs": []}), 7, "ipam.rangs: unknown field"),
        (conf(ipam={"ranges": [{}]}), 7, "ipam.ranges[0]: must be a list"),
        (conf(ipam={"ranges": [[]]}), 7, "ipam.ranges[0]: must not be empty"),
        (conf(ipam={"ranges": [[{}]]}), 7, "ipam.ranges[0][0].subnet: is required"),
        (conf(ipam={"ranges": [[{"subnet": "10.0.0.1/24"}]]}), 7, "ipam.ranges[0][0].subnet"),
        (conf(ipam={"ranges": [[{"subnet": "10.0.0.0/31"}]]}), 7, "too small"),
        (conf(ipam={"ranges": [[{"subnet": "10.0.0.0/24", "rangeStart": "10.0.1.1"}]]}), 7, "[0][0].rangeStart"),
        (conf(ipam={"ranges": [[{"subnet": "10.0.0.0/24", "rangeEnd": "10.0.0.255"}]]}), 7, "[0][0].rangeEnd"),
        (
            conf(ipam={"ranges": [[{"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.9", "rangeEnd": "10.0.0.3"}]]}),
            7,
            "is after rangeEnd",
        ),
        (conf(ipam={"ranges": [[{"subnet": "10.0.0.0/24"}], [{"subnet": "10.0.0.0/25"}]]}), 7, "overlaps"),
        (conf(ipam={"ranges": [[{"subnet": "10.0.0.0/24"}, {"subnet": "fd00::/64"}]]}), 7, "mixes IPv4 and IPv6"),
        (conf(ipam={"routes": [{"dst": "x"}]}), 7, "ipam.routes[0].dst"),
        (conf(runtimeConfig={"mac": "01:00:5e:00:00:01"}), 7, "runtimeConfig.mac"),
        (conf(runtimeConfig={"mac": "zz"}), 7, "runtimeConfig.mac"),
        (conf(runtimeConfig={"ips": ["10.0.0.999"]}), 7, "runtimeConfig.ips[0]"),
        (conf(runtimeConfig={"portMapping": []}), 7, "runtimeConfig.portMapping: unknown field"),
        (conf(**{"cni.dev/valid-attachments": [{"containerID": 5}]}), 7, "valid-attachments[0].containerID"),
        ([], 7, "$: must be an object"),
        (conf(ipMasq="no"), 7, "ipMasq: must be a boolean"),
        (conf(ipMasq=True), 2, "ipMasq: true"),
    ],
)
def test_a_wrong_configuration_names_the_field(body, code, words):
    with pytest.raises(CNIError) as caught:
        parse_netconf(body)
    assert caught.value.code == code
    assert words in caught.value.msg


def test_defaults():
    parsed = parse_netconf(conf())
    assert (parsed.bridge, parsed.is_default_gateway, parsed.hairpin_mode, parsed.range_sets) == (
        "cni0",
        True,
        True,
        (),
    )


def test_keys_reserved_for_the_spec_are_tolerated():
    parse_netconf(conf(ipMasq=False, **{"cni.dev/something-new": 1}))


def test_is_default_gateway_implies_gateway():
    assert parse_netconf(conf(isGateway=False, isDefaultGateway=True)).is_gateway
    assert not parse_netconf(conf(isGateway=False, isDefaultGateway=False)).is_gateway


@pytest.mark.parametrize(
    ("runtime", "args", "env", "mac"),
    [
        ({"mac": "02:00:00:00:00:01"}, {"mac": "02:00:00:00:00:02"}, "MAC=02:00:00:00:00:03", "02:00:00:00:00:01"),
        ({}, {"mac": "02:00:00:00:00:02"}, "MAC=02:00:00:00:00:03", "02:00:00:00:00:02"),
        ({}, {}, "MAC=02:00:00:00:00:0A", "02:00:00:00:00:0a"),
        ({}, {}, "", ""),
    ],
    ids=["runtimeConfig", "args.cni", "CNI_ARGS", "none"],
)
def test_precedence_of_a_requested_mac(runtime, args, env, mac):
    assert parse_netconf(conf(runtimeConfig=runtime, args={"cni": args}), env).mac == mac


def test_requested_addresses_with_and_without_prefix():
    parsed = parse_netconf(conf(runtimeConfig={"ips": ["10.244.1.7/24", "10.244.1.8"]}), "IP=10.244.1.9")
    assert parsed.requested_ips == (ip_address("10.244.1.7"), ip_address("10.244.1.8"))
    assert parse_netconf(conf(), "IP=10.244.1.9").requested_ips == (ip_address("10.244.1.9"),)


def test_port_mappings_pass_through_and_runtime_ranges_come_first():
    ranges = [[{"subnet": "10.9.0.0/24"}]]
    body = conf(runtimeConfig={"portMappings": [{"hostPort": 80}], "ipRanges": ranges}, ipam={"subnet": "10.8.0.0/24"})
    assert [str(s[0].subnet) for s in parse_netconf(body).range_sets] == ["10.9.0.0/24", "10.8.0.0/24"]


@pytest.mark.parametrize(
    ("text", "ok"),
    [
        ("", True),
        ("IgnoreUnknown=1;K8S_POD_NAME=a", True),
        ("K8S_POD_NAME=a", False),
        ("IP=10.0.0.1", True),
        ("nonsense", False),
        ("=x", False),
    ],
)
def test_cni_args(text, ok):
    if ok:
        parse_cni_args(text)
        return
    with pytest.raises(CNIError) as caught:
        parse_cni_args(text)
    assert caught.value.code == 4


@pytest.mark.parametrize("name", ["eth0", "a", "x" * 15, "net1.5"])
def test_valid_ifnames(name):
    assert valid_ifname(name)


@pytest.mark.parametrize("name", ["", ".", "..", "x" * 16, "a/b", "a:b", "a b", "a\tb"])
def test_invalid_ifnames(name):
    assert not valid_ifname(name)


@given(st.text(max_size=20))
def test_valid_names_are_safe_in_paths(name):
    if valid_name(name):
        assert "/" not in name
        assert not name.startswith((".", "-"))
