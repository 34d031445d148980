"""`agnhost dns-suffix`, `dns-server-list`, `etc-hosts`: what the pod's resolver files say."""

from __future__ import annotations


def parse_resolv_conf(text: str) -> tuple[list[str], list[str]]:
    """(name servers, search list); of several `search` lines the last counts, as in the C library."""
    servers: list[str] = []
    search: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            servers.append(words[1])
        elif words and words[0] in ("search", "domain"):
            search = words[1:]
    return servers, search


def main(argv: list[str]) -> int:
    """Print one of them."""
    if argv[0] == "etc-hosts":
        with open("/etc/hosts", encoding="utf-8", errors="replace") as file:
            print(file.read(), end="")
        return 0
    with open("/etc/resolv.conf", encoding="utf-8", errors="replace") as file:
        servers, search = parse_resolv_conf(file.read())
    print(",".join(servers if argv[0] == "dns-server-list" else search))
    return 0
