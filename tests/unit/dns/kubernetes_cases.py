"""Questions and the answers the kubernetes plugin owes them, one table per Corefile and set of objects.

A record is written `[OWNER] TYPE DATA [ttl=N]`: without an owner it is the name that was asked, without a TTL the default of
5 s. `soa` is the zone whose SOA must stand in the authority section. NOERROR without an answer is NODATA.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    id: str
    name: str
    type: str
    rcode: str = "NOERROR"
    answer: tuple[str, ...] = ()
    additional: tuple[str, ...] = ()
    soa: str = ""

    def __str__(self) -> str:
        return self.id


COMMON = [
    Case("C01", "svc1.testns.svc.cluster.local.", "A", answer=("A 10.0.0.1",)),
    Case("C02", "svcempty.testns.svc.cluster.local.", "A", answer=("A 10.0.0.1",)),
    Case(
        "C04",
        "svcempty.testns.svc.cluster.local.",
        "SRV",
        answer=("SRV 0 100 80 svcempty.testns.svc.cluster.local.",),
        additional=("A 10.0.0.1",),
    ),
    Case(
        "C05",
        "svc6.testns.svc.cluster.local.",
        "SRV",
        answer=("SRV 0 100 80 svc6.testns.svc.cluster.local.",),
        additional=("AAAA 1234:abcd::1",),
    ),
    Case(
        "C07",
        "_http._tcp.svcempty.testns.svc.cluster.local.",
        "SRV",
        answer=("SRV 0 100 80 svcempty.testns.svc.cluster.local.",),
        additional=("svcempty.testns.svc.cluster.local. A 10.0.0.1",),
    ),
    Case(
        "C08",
        "hdls1.testns.svc.cluster.local.",
        "A",
        answer=("A 172.0.0.2", "A 172.0.0.3", "A 172.0.0.4", "A 172.0.0.5"),
    ),
    Case("C10", "svc1.testns.svc.cluster.local.", "AAAA", soa="cluster.local."),
    Case("C11", "svc0.testns.svc.cluster.local.", "AAAA", "NXDOMAIN", soa="cluster.local."),
    Case("C13", "svc0.svc-nons.svc.cluster.local.", "A", "NXDOMAIN", soa="cluster.local."),
    Case("C14", "dns-version.cluster.local.", "TXT", answer=("TXT 1.1.0 ttl=28800",)),
    Case("C16", "svc0.svc-nons.svc.cluster.local.", "TXT", "NXDOMAIN", soa="cluster.local."),
    Case("C17", "bogusendpoint.hdls1.testns.svc.cluster.local.", "A", "NXDOMAIN", soa="cluster.local."),
    Case("C19", "svc6.testns.svc.cluster.local.", "AAAA", answer=("AAAA 1234:abcd::1",)),
    Case(
        "C20",
        "_http._tcp.svc6.testns.svc.cluster.local.",
        "SRV",
        answer=("SRV 0 100 80 svc6.testns.svc.cluster.local.",),
        additional=("svc6.testns.svc.cluster.local. AAAA 1234:abcd::1",),
    ),
    Case("C22", "svc.cluster.local.", "A", soa="cluster.local."),
    Case("C23", "pod.cluster.local.", "A", soa="cluster.local."),
    Case("C25", "svc.cluster.local.", "NS", soa="cluster.local."),
    Case("C26", "testns.svc.cluster.local.", "NS", soa="cluster.local."),
    Case("C28", "foo.svc.cluster.local.", "NS", "NXDOMAIN", soa="cluster.local."),
    Case("C29", "svc-dual-stack.testns.svc.cluster.local.", "A", answer=("A 10.0.0.3",)),
    Case(
        "C31",
        "svc-dual-stack.testns.svc.cluster.local.",
        "SRV",
        answer=("SRV 0 50 80 svc-dual-stack.testns.svc.cluster.local.",),
        additional=("A 10.0.0.3", "AAAA 10::3"),
    ),
    Case("C32", "svc1.testns.svc.cluster.local.", "SOA", soa="cluster.local."),
    Case("C34", "subdomain.subdomain.external.testns.svc.cluster.local.", "CNAME", "NXDOMAIN", soa="cluster.local."),
]

ENDPOINTS_AND_ALIASES = [
    Case(
        "D01",
        "_http._tcp.hdls1.testns.svc.cluster.local.",
        "SRV",
        answer=(
            "SRV 0 16 80 172-0-0-2.hdls1.testns.svc.cluster.local.",
            "SRV 0 16 80 172-0-0-3.hdls1.testns.svc.cluster.local.",
            "SRV 0 16 80 5678-abcd--1.hdls1.testns.svc.cluster.local.",
            "SRV 0 16 80 5678-abcd--2.hdls1.testns.svc.cluster.local.",
            "SRV 0 16 80 dup-name.hdls1.testns.svc.cluster.local.",
        ),
        additional=(
            "172-0-0-2.hdls1.testns.svc.cluster.local. A 172.0.0.2",
            "172-0-0-3.hdls1.testns.svc.cluster.local. A 172.0.0.3",
            "5678-abcd--1.hdls1.testns.svc.cluster.local. AAAA 5678:abcd::1",
            "5678-abcd--2.hdls1.testns.svc.cluster.local. AAAA 5678:abcd::2",
            "dup-name.hdls1.testns.svc.cluster.local. A 172.0.0.4",
            "dup-name.hdls1.testns.svc.cluster.local. A 172.0.0.5",
        ),
    ),
    Case(
        "D02",
        "hdls1.testns.svc.cluster.local.",
        "A",
        answer=("A 172.0.0.2", "A 172.0.0.3", "A 172.0.0.4", "A 172.0.0.5"),
    ),
    Case("D04", "5678-abcd--1.hdls1.testns.svc.cluster.local.", "AAAA", answer=("AAAA 5678:abcd::1",)),
    Case("D05", "172-0-0-20.hdlsprtls.testns.svc.cluster.local.", "A", answer=("A 172.0.0.20",)),
    Case("D07", "172-0-0-3.hdls1.testns.svc.cluster.local.", "A", answer=("A 172.0.0.3",)),
    Case("D08", "dup-name.hdls1.testns.svc.cluster.local.", "A", answer=("A 172.0.0.4", "A 172.0.0.5")),
    Case(
        "D10",
        "external.testns.svc.cluster.local.",
        "A",
        answer=("ext.interwebs.test. A 1.2.3.4", "CNAME ext.interwebs.test."),
    ),
    Case(
        "D11",
        "external-to-service.testns.svc.cluster.local.",
        "A",
        answer=("CNAME svc1.testns.svc.cluster.local.", "svc1.testns.svc.cluster.local. A 10.0.0.1"),
    ),
]

MULTICLUSTER = [
    Case(
        "M01",
        "_http._tcp.hdls1.testns.svc.cluster.local.",
        "SRV",
        answer=(
            "SRV 0 16 80 172-0-0-2.cluster1.hdls1.testns.svc.cluster.local.",
            "SRV 0 16 80 172-0-0-3.cluster1.hdls1.testns.svc.cluster.local.",
            "SRV 0 16 80 5678-abcd--1.cluster1.hdls1.testns.svc.cluster.local.",
            "SRV 0 16 80 5678-abcd--2.cluster1.hdls1.testns.svc.cluster.local.",
            "SRV 0 16 80 dup-name.cluster1.hdls1.testns.svc.cluster.local.",
        ),
        additional=(
            "172-0-0-2.cluster1.hdls1.testns.svc.cluster.local. A 172.0.0.2",
            "172-0-0-3.cluster1.hdls1.testns.svc.cluster.local. A 172.0.0.3",
            "5678-abcd--1.cluster1.hdls1.testns.svc.cluster.local. AAAA 5678:abcd::1",
            "5678-abcd--2.cluster1.hdls1.testns.svc.cluster.local. AAAA 5678:abcd::2",
            "dup-name.cluster1.hdls1.testns.svc.cluster.local. A 172.0.0.4",
            "dup-name.cluster1.hdls1.testns.svc.cluster.local. A 172.0.0.5",
        ),
    ),
    Case(
        "M02",
        "hdls1.testns.svc.cluster.local.",
        "A",
        answer=("A 172.0.0.2", "A 172.0.0.3", "A 172.0.0.4", "A 172.0.0.5"),
    ),
    Case("M04", "5678-abcd--1.cluster1.hdls1.testns.svc.cluster.local.", "AAAA", answer=("AAAA 5678:abcd::1",)),
    Case("M05", "172-0-0-20.cluster1.hdlsprtls.testns.svc.cluster.local.", "A", answer=("A 172.0.0.20",)),
    Case("M07", "172-0-0-2.cluster1.hdls1.testns.svc.cluster.local.", "A", answer=("A 172.0.0.2",)),
    Case("M08", "172-0-0-3.cluster1.hdls1.testns.svc.cluster.local.", "A", answer=("A 172.0.0.3",)),
]

NAMESPACE_EXISTENCE = [
    Case("N01", "svc1.testns.svc.cluster.local.", "A", answer=("A 10.0.0.1",)),
    Case("N02", "svc1.nsnoexist.svc.cluster.local.", "A", "NXDOMAIN", soa="cluster.local."),
]

NOT_SYNCED = [
    Case("S01", "svc0.testns.svc.cluster.local.", "A", "SERVFAIL", soa="cluster.local."),
]

CASE = [
    Case("K01", "not-a-service.testns.svc.ClUsTeR.lOcAl.", "A", "NXDOMAIN", soa="ClUsTeR.lOcAl."),
    Case("K02", "SvC1.TeStNs.SvC.cLuStEr.LoCaL.", "A", answer=("A 10.0.0.1",)),
    Case(
        "K04",
        "Cluster.local.",
        "SOA",
        answer=("SOA ns.dns.Cluster.local. hostmaster.Cluster.local. 1499347823 7200 1800 86400 5",),
    ),
]

IGNORE_EMPTY = [
    Case("E01", "svcempty.testns.svc.cluster.local.", "A", "NXDOMAIN", soa="cluster.local."),
    Case("E02", "external.testns.svc.cluster.local.", "CNAME", answer=("CNAME ext.interwebs.test.",)),
]

PODS_DISABLED = [
    Case("PD01", "10-240-0-1.podns.pod.cluster.local.", "A", "NXDOMAIN", soa="cluster.local."),
    Case("PD02", "172-0-0-2.podns.pod.cluster.local.", "A", "NXDOMAIN", soa="cluster.local."),
]

PODS_INSECURE = [
    Case("PI01", "10-240-0-1.podns.pod.cluster.local.", "A", answer=("A 10.240.0.1",)),
    Case("PI02", "172-0-0-2.podns.pod.cluster.local.", "A", answer=("A 172.0.0.2",)),
    Case("PI04", "blah.podns.pod.cluster.local.", "AAAA", "NXDOMAIN", soa="cluster.local."),
    Case("PI05", "blah.podns.pod.cluster.local.", "HINFO", "NXDOMAIN", soa="cluster.local."),
    Case("PI07", "podns.pod.cluster.local.", "A", soa="cluster.local."),
]

PODS_VERIFIED = [
    Case("PV01", "10-240-0-1.podns.pod.cluster.local.", "A", answer=("A 10.240.0.1",)),
    Case("PV02", "podns.pod.cluster.local.", "A", soa="cluster.local."),
    Case("PV04", "pod-nons.pod.cluster.local.", "A", "NXDOMAIN", soa="cluster.local."),
    Case("PV05", "172-0-0-2.podns.pod.cluster.local.", "A", "NXDOMAIN", soa="cluster.local."),
]

REVERSE = [
    Case("R01", "100.0.0.10.in-addr.arpa.", "PTR", answer=("PTR ep1a.svc1.testns.svc.cluster.local.",)),
    Case(
        "R03",
        "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.c.b.a.4.3.2.1.ip6.arpa.",
        "PTR",
        answer=("PTR ep1b.svc1.testns.svc.cluster.local.",),
    ),
    Case(
        "R04",
        "a.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.3.0.0.7.7.0.0.0.0.d.f.ip6.arpa.",
        "PTR",
        answer=("PTR ip6svc1ex.svc1.testns.svc.cluster.local.",),
    ),
    Case("R06", "101.0.0.10.in-addr.arpa.", "PTR", "NXDOMAIN", soa="0.10.in-addr.arpa."),
    Case("R07", "example.org.cluster.local.", "PTR", "NXDOMAIN", soa="cluster.local."),
    Case("R09", "svc1.testns.svc.0.10.in-addr.arpa.", "A", "NXDOMAIN", soa="0.10.in-addr.arpa."),
    Case("R10", "100.0.0.10.cluster.local.", "PTR", "NXDOMAIN", soa="cluster.local."),
]

APEX = [
    Case(
        "A01",
        "cluster.local.",
        "SOA",
        answer=("SOA ns.dns.cluster.local. hostmaster.cluster.local. 1499347823 7200 1800 86400 5",),
    ),
    Case("A02", "cluster.local.", "HINFO", soa="cluster.local."),
    Case("A04", "cluster.local.", "A", soa="cluster.local."),
    Case("A05", "cluster.local.", "AAAA", soa="cluster.local."),
]

ZONAL = [
    Case("Z01", "us-west-2a.pin._zone.hdls.testns.svc.cluster.local.", "A", answer=("A 172.0.0.1",)),
    Case("Z02", "us-west-2b.pin._zone.hdls.testns.svc.cluster.local.", "A", answer=("A 172.0.0.2", "A 172.0.0.3")),
    Case("Z04", "us-west-2a.prefer._zone.hdls.testns.svc.cluster.local.", "A", answer=("A 172.0.0.1",)),
    Case(
        "Z05",
        "us-west-2c.prefer._zone.hdls.testns.svc.cluster.local.",
        "A",
        answer=("A 172.0.0.1", "A 172.0.0.2", "A 172.0.0.3"),
    ),
    Case("Z07", "us-west-2a.florp._zone.hdls.testns.svc.cluster.local.", "A", "NXDOMAIN", soa="cluster.local."),
    Case("Z08", "us-west-2a.pin._zone.clstr.testns.svc.cluster.local.", "A", "NXDOMAIN", soa="cluster.local."),
    Case(
        "Z10",
        "us-west-2c.prefer._zone.hdls.testns.svc.cluster.local.",
        "SRV",
        answer=(
            "SRV 0 33 80 172-0-0-1.hdls.testns.svc.cluster.local.",
            "SRV 0 33 80 172-0-0-2.hdls.testns.svc.cluster.local.",
            "SRV 0 33 80 172-0-0-3.hdls.testns.svc.cluster.local.",
        ),
        additional=(
            "172-0-0-1.hdls.testns.svc.cluster.local. A 172.0.0.1",
            "172-0-0-2.hdls.testns.svc.cluster.local. A 172.0.0.2",
            "172-0-0-3.hdls.testns.svc.cluster.local. A 172.0.0.3",
        ),
    ),
    Case("Z11", "us-west-2c.prefer._zone.hdls.testns.svc.cluster.local.", "TXT", soa="cluster.local."),
]

ZONAL_OFF = [
    Case("ZO01", "us-west-2a.pin._zone.hdls.testns.svc.cluster.local.", "A", "NXDOMAIN", soa="cluster.local."),
]

# A ClusterIP does not depend on its endpoints.
NOT_READY = [
    Case("X13", "svc1.testns.svc.cluster.local.", "A", answer=("A 10.0.0.1",)),
    Case(
        "X13-SRV",
        "svc1.testns.svc.cluster.local.",
        "SRV",
        answer=("SRV 0 100 80 svc1.testns.svc.cluster.local.",),
        additional=("A 10.0.0.1",),
    ),
    Case("X13-endpoint", "ep1a.svc1.testns.svc.cluster.local.", "A", "NXDOMAIN", soa="cluster.local."),
]

# An option of podnet's own: names of nodes.
NODES = [
    Case("NN01", "worker-1.node.cluster.local.", "A", answer=("A 192.168.100.11",)),
    Case("NN02", "WORKER-1.node.cluster.local.", "AAAA", answer=("WORKER-1.node.cluster.local. AAAA fd00::11",)),
    Case("NN03", "node.cluster.local.", "A", soa="cluster.local."),
    Case("NN04", "worker-9.node.cluster.local.", "A", "NXDOMAIN", soa="cluster.local."),
    Case("NN05", "worker-1.node.cluster.local.", "MX", soa="cluster.local."),
    Case("NN06", "node-2.example.com.node.cluster.local.", "A", answer=("A 192.168.100.12",)),
    Case("NN07", "example.com.node.cluster.local.", "A", soa="cluster.local."),
    Case("NN08", "11.100.168.192.in-addr.arpa.", "PTR", answer=("PTR worker-1.node.cluster.local.",)),
    Case("NN09", "svc1.testns.svc.cluster.local.", "A", answer=("A 10.0.0.1",)),
    Case("NN10", "nowhere.node.cluster.local.", "A", "NXDOMAIN", soa="cluster.local."),
]

NODES_OFF = [
    Case("NO01", "worker-1.node.cluster.local.", "A", "NXDOMAIN", soa="cluster.local."),
    Case("NO02", "node.cluster.local.", "A", "NXDOMAIN", soa="cluster.local."),
]

MORE = [
    Case("X01", "ep1a.svc1.testns.svc.cluster.local.", "A", answer=("A 172.0.0.1",)),
    Case("X03", "_nope._tcp.svc1.testns.svc.cluster.local.", "SRV", "NXDOMAIN", soa="cluster.local."),
    Case("X04", "_http._tcp.external.testns.svc.cluster.local.", "SRV", "NXDOMAIN", soa="cluster.local."),
    Case("X06", "svc1.unexposedns.svc.cluster.local.", "A", "NXDOMAIN", soa="cluster.local."),
    Case("X07", "headless-none.testns.svc.cluster.local.", "A", "NXDOMAIN", soa="cluster.local."),
    Case("X09", "hdlsprtls.testns.svc.cluster.local.", "SRV", soa="cluster.local."),
    Case("X10", "cluster.local.", "AXFR", "REFUSED"),
]
