"""Decoding of name lookups in captures: in and out of VXLAN, answers with their questions."""

from __future__ import annotations

import pytest
from scapy.layers.dns import DNS, DNSQR, DNSRR, DNSRRSOA, DNSRRSRV
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN
from scapy.utils import PcapNgWriter

from podnet.lab.lookups import decode_lookups, lookups

CLIENT, SERVER = "10.244.1.2", "10.96.0.10"


def question(name, ident=1, qtype="A"):
    return (
        Ether()
        / IP(src=CLIENT, dst=SERVER)
        / UDP(sport=4000, dport=53)
        / DNS(id=ident, qd=DNSQR(qname=name, qtype=qtype))
    )


def answer(name, ident=1, rcode=0, **sections):
    dns = DNS(id=ident, qr=1, rcode=rcode, qd=DNSQR(qname=name), **sections)
    return Ether() / IP(src=SERVER, dst=CLIENT) / UDP(sport=53, dport=4000) / dns


@pytest.fixture
def captured(tmp_path):
    def write(*packets):
        path = tmp_path / "x.pcapng"
        with PcapNgWriter(str(path)) as writer:
            for number, packet in enumerate(packets):
                packet.time, packet.sniffed_on = float(number), "pod/a"
                writer.write(packet)
        return decode_lookups(path)

    return write


def point_of(packets):
    return packets[0].point


def test_a_question_and_its_answer(captured):
    packets = captured(
        question("www.example.com"),
        answer("www.example.com", an=DNSRR(rrname="www.example.com", type="A", ttl=30, rdata="192.0.2.1")),
    )
    (found,) = lookups(packets, point_of(packets))
    assert (found.question.name, found.question.type, found.rcode) == ("www.example.com.", "A", "NOERROR")
    assert (found.answer.answers, found.answer.ttls) == (("192.0.2.1",), (30,))


def test_a_denial_says_for_how_long(captured):
    soa = DNSRRSOA(rrname="example.com", mname="a", rname="b", serial=1, minimum=20, ttl=20)
    packets = captured(question("nope.example.com", 9), answer("nope.example.com", 9, 3, ns=soa))
    (found,) = lookups(packets, point_of(packets))
    assert (found.rcode, found.answer.negative_ttl) == ("NXDOMAIN", 20)


def test_no_answer_is_none_and_a_retry_is_the_same_lookup(captured):
    packets = captured(question("a.test"), question("a.test"), question("b.test", 2))
    found = lookups(packets, point_of(packets))
    assert [(each.question.name, each.rcode) for each in found] == [("a.test.", "no answer"), ("b.test.", "no answer")]
    assert lookups(packets, "elsewhere") == []


def test_inside_vxlan_and_beside_other_packets(captured):
    outer = Ether() / IP(src="192.168.100.11", dst="192.168.100.12") / UDP(dport=8472) / VXLAN(vni=1)
    other = Ether() / IP(src=CLIENT, dst=SERVER) / UDP(sport=1, dport=2) / b"x"
    srv = DNSRRSRV(rrname="_http._tcp.a.test", type="SRV", priority=0, weight=50, port=80, target="b.a.test")
    packets = captured(other, outer / question("a.test", 5, "SRV"), outer / answer("a.test", 5, an=srv))
    assert [packet.source for packet in packets] == [f"{CLIENT}:4000", f"{SERVER}:53"]
    assert packets[1].answers == ("0 50 80 b.a.test.",)
    assert packets[0].type == "SRV"
