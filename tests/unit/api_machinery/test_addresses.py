"""IP addresses and networks as old fields of Kubernetes have them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.controlplane.api.addresses import parse_ip, parse_network


@given(st.ip_addresses().filter(lambda ip: not getattr(ip, "ipv4_mapped", None)))
def test_what_is_written_as_usual_is_read_as_usual(ip):
    assert parse_ip(str(ip)) == ip


@given(st.ip_addresses(v=4), st.lists(st.integers(0, 3), min_size=4, max_size=4), st.integers(0, 32))
def test_zeros_in_front_change_nothing(ip, zeros, length):
    text = ".".join("0" * count + part for count, part in zip(zeros, str(ip).split("."), strict=True))
    assert parse_ip(text) == ip
    assert parse_network(f"{text}/{length}") == ip_network((ip, length), strict=False)


@pytest.mark.parametrize(
    ("text", "ip"),
    [
        ("010.096.000.001", IPv4Address("10.96.0.1")),
        ("0.0.0.0", IPv4Address(0)),
        ("::ffff:10.0.0.1", IPv4Address("10.0.0.1")),
        ("FD00::1", IPv6Address("fd00::1")),
    ],
)
def test_addresses(text, ip):
    assert parse_ip(text) == ip


@pytest.mark.parametrize(
    "text", ["x", "10.0.0", "10.0.0.256", "0400.0.0.1", "1\u0660.0.0.1", "10.0.0.0.1", " 10.0.0.1", "fe80::1%eth0"]
)
def test_no_addresses(text):
    with pytest.raises(ValueError, match=r"."):
        parse_ip(text)


@pytest.mark.parametrize(
    "text", ["10.0.0.0", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/255.0.0.0", "10.0.0.0/-1", "fe80::%e/64", "/8"]
)
def test_no_networks(text):
    with pytest.raises(ValueError, match=r"."):
        parse_network(text)


@given(st.text(max_size=20))
def test_whatever_is_written_is_an_address_or_none(text):
    try:
        found = parse_ip(text)
    except ValueError:
        return
    assert parse_ip(str(found)) == found == ip_address(str(found))
