"""The outside world, small enough to know by heart: one host that serves a few names and one web page.

    pod ─▶ kube-dns ─▶ coredns ─ forward ─▶ node's resolv.conf ─▶ 192.168.100.201:53   names, below
    pod ─▶ node (masqueraded) ─────────────────────────────────▶ 192.168.100.201:80   a page that says who asked

The zones are plain data made from one address and written as files into the cluster's directory (`internet/`), where they
can be read, and edited while the cluster runs (with another serial). The server is podnet's own (`dns/`). Nobody outside the room is ever asked:
a name that is not in these files does not exist.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from podnet.controlplane.kubelet.images.programs import http
from podnet.dns.main import configure_logging, run_dns
from podnet.topology.spec.types import ClusterSpec

SEARCH_DOMAIN = "dc1.example.net"
"""What the data centre's DHCP server would hand out: the node's own search domain, inherited by ClusterFirst pods. With it
the name of a host outside costs five lookups."""
SLOW_S = 1
DNS_PORT, WEB_PORT = 53, 80
NO_INTERNET = "# no name server outside this cluster\n"
_SERIAL = 2026010101
_NEGATIVE_TTL_S = 20
_BIG = 100

_COREFILE = f"""\
. {{
    errors
    log
    any
    file db.root .
    file db.example.com example.com {{
        reload 1s
    }}
    file db.example.net example.net {{
        reload 1s
    }}
    loadbalance
}}

slow.example.com {{
    errors
    log
    erratic {{
        delay 1 {SLOW_S}s
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class InternetConfig:
    """Where the files go, the host's address, and whom it knows by name."""

    directory: Path
    address: IPv4Address
    gateway: IPv4Address


def resolv_conf(spec: ClusterSpec) -> str:
    """What every node and outside host finds in /etc/resolv.conf. Without the host `internet` nobody outside can be
    asked, and the machine's own name servers would only be waited for."""
    internet = spec.internet
    if internet is None:
        return NO_INTERNET
    return f"nameserver {internet.ip}\nsearch {SEARCH_DOMAIN}\n"


def render_files(config: InternetConfig) -> dict[str, str]:
    """Every file by name: the Corefile and its zones."""
    ip = config.address
    big = "".join(f"big     IN A     198.51.100.{number}\n" for number in range(1, _BIG + 1))
    text = "".join(f'bigtext IN TXT   "{number:02d} {"." * 200}"\n' for number in range(20))
    return {
        "Corefile": _COREFILE,
        "db.root": _soa(".", "ns1.example.net.")
        + f"com. IN NS ns1.example.net.\nnet. IN NS ns1.example.net.\nns1.example.net. IN A {ip}\n",
        "db.example.com": _soa("example.com.", "ns1.example.net.")
        + f"""\
@       IN A     {ip}
@       IN MX    10 mail
@       IN MX    20 backup.example.net.
@       IN TXT   "v=spf1 mx -all"
www     IN A     {ip}
mail    IN A     {ip}
; both families, and one of them alone
dual    IN A     {ip}
dual    IN AAAA  2001:db8::80
ipv6    IN AAAA  2001:db8::80
; aliases: inside the zone, in another one, to nowhere
blog    IN CNAME www
cdn     IN CNAME edge.example.net.
gone    IN CNAME nothing-here.example.net.
; whatever stands before .apps
*.apps  IN A     {ip}
_http._tcp IN SRV 0 100 80 www
; kept for a short time, and for a long one
brief 5 IN A     {ip}
long 86400 IN A  {ip}
; too big for a datagram: truncated, and asked again over TCP
{big}{text}; slow.example.com is a zone of its own in the Corefile: every answer takes {SLOW_S} s
slow    IN NS    ns1.example.net.
""",
        "db.example.net": _soa("example.net.", "ns1")
        + f"""\
ns1     IN A     {ip}
edge    IN A     {ip}
backup  IN A     {ip}
gw.dc1  IN A     {config.gateway}
ntp.dc1 IN A     {ip}
""",
    }


def _soa(origin: str, server: str) -> str:
    """How each zone begins; a name that does not exist may be remembered for as long as the last number says."""
    return (
        f"$ORIGIN {origin}\n$TTL 60\n"
        f"@ IN SOA {server} hostmaster.example.net. {_SERIAL} 7200 3600 1209600 {_NEGATIVE_TTL_S}\n"
        f"@ IN NS {server}\n"
    )


def page(request: http.Request) -> http.Response:
    """The web page: who asked, as the outside sees it."""
    peer = http.peer_name(request.peer)
    text = f"Hello from the internet.\nYou are {peer}.\nYou asked {request.header('host', 'nobody')} for {request.target}\n"
    return http.Response(200, text.encode(), content_type="text/plain; charset=utf-8")


def write_files(config: InternetConfig) -> None:
    """At every boot of the cluster, not at every start of the server: an edited zone outlives its server."""
    config.directory.mkdir(parents=True, exist_ok=True)
    for name, text in render_files(config).items():
        (config.directory / name).write_text(text, encoding="utf-8")


def serve_internet(config: InternetConfig) -> None:
    """Serve names and the page until SIGTERM."""
    configure_logging()
    asyncio.run(_serve(config))


async def _serve(config: InternetConfig) -> None:
    listener = await http.Server(page).listen(None, WEB_PORT)
    try:
        await run_dns(config.directory / "Corefile", environ={}, port=DNS_PORT)
    finally:
        listener.close()
