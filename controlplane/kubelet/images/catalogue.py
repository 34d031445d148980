"""The catalogue: image names, and what stands behind each instead of an image.

Any registry, repository prefix, tag and digest is accepted and ignored: `nginx`, `docker.io/library/nginx:1.27` and
`mirror.example/x/nginx@sha256:…` are one entry. What an image brings besides the machine's own /usr, /etc and /var
(its programs, its files) is in `layers.py`; its defaults here are those of the real image's configuration. Pure.
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass, field


class UnknownImageError(Exception):
    """No entry of that name; the message is what containerd would say, plus the known names."""


class InvalidImageNameError(UnknownImageError):
    """Not an image reference at all."""


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """One image. `provides` says in a line what is real about it."""

    name: str
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    ports: tuple[str, ...] = ()
    working_dir: str = "/"
    stop_signal: int = int(signal.SIGTERM)
    aliases: tuple[str, ...] = field(default=(), compare=False)
    provides: str = ""

    @property
    def ref(self) -> str:
        """What the kubelet reports as imageID."""
        return f"podnet.dev/catalogue/{self.name}"


_NGINX_VERSION = "1.27.4"
_SHELL_TOOLS = "a shell and the machine's tools; ping, nc, wget, nslookup from the machine, else small own ones"

ENTRIES = (
    CatalogueEntry("pause", entrypoint=("/pause",), aliases=("pause-amd64",), provides="sleeps until a signal"),
    CatalogueEntry("busybox", cmd=("sh",), aliases=("busyboxplus",), provides=_SHELL_TOOLS),
    CatalogueEntry("alpine", cmd=("/bin/sh",), provides=_SHELL_TOOLS),
    CatalogueEntry("debian", cmd=("bash",), provides=_SHELL_TOOLS),
    CatalogueEntry("ubuntu", cmd=("/bin/bash",), provides=_SHELL_TOOLS),
    CatalogueEntry("bash", entrypoint=("docker-entrypoint.sh",), cmd=("bash",), provides=_SHELL_TOOLS),
    CatalogueEntry(
        "nginx",
        entrypoint=("/docker-entrypoint.sh",),
        cmd=("nginx", "-g", "daemon off;"),
        env=(("NGINX_VERSION", _NGINX_VERSION),),
        ports=("80/tcp",),
        stop_signal=int(signal.SIGQUIT),
        provides="a file server of /usr/share/nginx/html on 80 with nginx's headers, log and error pages",
    ),
    CatalogueEntry(
        "httpd",
        cmd=("httpd-foreground",),
        env=(("HTTPD_PREFIX", "/usr/local/apache2"), ("HTTPD_VERSION", "2.4.63")),
        ports=("80/tcp",),
        working_dir="/usr/local/apache2",
        stop_signal=int(signal.SIGWINCH),
        provides="a file server of /usr/local/apache2/htdocs on 80 with Apache's headers and log",
    ),
    CatalogueEntry("python", cmd=("python3",), provides="the machine's python3"),
    CatalogueEntry(
        "curl",
        entrypoint=("curl",),
        cmd=("--version",),
        aliases=("curl-alpine",),
        provides="the machine's curl, else a small own one",
    ),
    CatalogueEntry(
        "netshoot",
        cmd=("zsh",),
        provides="a shell (zsh where the machine has it) and the machine's network tools",
    ),
    CatalogueEntry(
        "dnsutils",
        cmd=("sleep", "infinity"),
        aliases=("jessie-dnsutils", "network-multitool"),
        provides="the machine's dig, nslookup and host",
    ),
    CatalogueEntry(
        "http-echo", entrypoint=("/http-echo",), ports=("5678/tcp",), provides="hashicorp/http-echo: -text, -listen"
    ),
    CatalogueEntry(
        "http-https-echo",
        entrypoint=("/http-https-echo",),
        ports=("8080/tcp",),
        env=(("HTTP_PORT", "8080"),),
        provides="mendhak/http-https-echo over HTTP: the request as JSON",
    ),
    CatalogueEntry("whoami", entrypoint=("/whoami",), ports=("80/tcp",), provides="traefik/whoami"),
    CatalogueEntry(
        "echo-basic",
        entrypoint=("/echo-basic",),
        ports=("3000/tcp",),
        provides="the Gateway API conformance tests' echo server over HTTP",
    ),
    CatalogueEntry(
        "echoserver",
        entrypoint=("/echoserver",),
        ports=("8080/tcp",),
        aliases=("echo-server",),
        provides="the tutorials' echoserver: the request as text",
    ),
    CatalogueEntry(
        "hello-app",
        entrypoint=("/hello-app",),
        ports=("8080/tcp",),
        provides="google-samples/hello-app: a greeting, a version and the host name",
    ),
    CatalogueEntry(
        "agnhost",
        entrypoint=("/agnhost",),
        cmd=("pause",),
        ports=("80/tcp", "8080/tcp", "8081/tcp", "9376/tcp"),
        provides="the Kubernetes network tests' image; `/agnhost --help` lists the subcommands",
    ),
    CatalogueEntry(
        "coredns",
        entrypoint=("/coredns",),
        ports=("53/udp", "53/tcp"),
        provides="podnet's DNS server: CoreDNS's Corefile, plugins and answers",
    ),
)

_BY_NAME = {name: entry for entry in ENTRIES for name in (entry.name, *entry.aliases)}
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_DOMAIN = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9-]+)*(?::[0-9]+)?/)?"
_REFERENCE = re.compile(
    rf"(?P<domain>{_DOMAIN})(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[\w][\w.-]{0,127}))?(?:@(?P<digest>[a-z0-9]+:[0-9a-fA-F]{32,}))?"
)


def normalize(image: str) -> str:
    """The full reference Docker's rules make of a short name: `nginx` → `docker.io/library/nginx:latest`."""
    match = _REFERENCE.fullmatch(image)
    if match is None or len(image) > 1024:
        raise InvalidImageNameError(f'couldn\'t parse image name "{image}": invalid reference format')
    domain, path = match["domain"].rstrip("/"), match["path"]
    if domain and not ("." in domain or ":" in domain or domain == "localhost" or domain != domain.lower()):
        domain, path = "", f"{domain}/{path}"
    if not domain:
        domain = "docker.io"
        path = path if "/" in path else f"library/{path}"
    tag = f":{match['tag']}" if match["tag"] else ""
    digest = f"@{match['digest']}" if match["digest"] else ""
    return f"{domain}/{path}{tag}{digest}" if tag or digest else f"{domain}/{path}:latest"


def resolve(image: str) -> CatalogueEntry:
    """The entry behind an image name. UnknownImageError says which there are."""
    reference = normalize(image)
    repository = reference.partition("@")[0].rpartition("/")[2].partition(":")[0]
    entry = _BY_NAME.get(repository)
    if entry is None:
        known = ", ".join(sorted(entry.name for entry in ENTRIES))
        message = f'failed to pull and unpack image "{reference}": not found in podnet\'s catalogue (known: {known})'
        raise UnknownImageError(message)
    return entry


def known_images() -> list[str]:
    """The names of all entries."""
    return sorted(entry.name for entry in ENTRIES)
