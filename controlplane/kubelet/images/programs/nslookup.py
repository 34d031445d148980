"""A small `nslookup` for machines without one: A and AAAA records, the search list of /etc/resolv.conf, busybox's output.

nslookup NAME [SERVER]     reverse look-ups for an address
"""

from __future__ import annotations

import ipaddress
import random
import socket
import struct
import sys

from podnet.controlplane.kubelet.images.programs.agnhost.resolver import parse_resolv_conf

TIMEOUT_S = 5.0
TYPES = {"A": 1, "AAAA": 28, "PTR": 12, "CNAME": 5, "SRV": 33, "TXT": 16}
_NAMES = {number: name for name, number in TYPES.items()}


def encode_query(number: int, name: str, kind: int) -> bytes:
    """A DNS question (RFC 1035 §4)."""
    labels = b"".join(bytes([len(part)]) + part for part in name.rstrip(".").encode().split(b".") if part)
    return struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", kind, 1)


def read_name(data: bytes, at: int) -> tuple[str, int]:
    """A possibly compressed name, and where it ends."""
    parts: list[str] = []
    end = -1
    for _ in range(128):
        length = data[at]
        if length & 0xC0 == 0xC0:
            end = at + 2 if end < 0 else end
            at = ((length & 0x3F) << 8) | data[at + 1]
        elif length == 0:
            return ".".join(parts), (at + 1 if end < 0 else end)
        else:
            parts.append(data[at + 1 : at + 1 + length].decode("latin-1"))
            at += 1 + length
    raise ValueError("name too long")


def decode_answers(data: bytes) -> tuple[int, list[tuple[str, str, str]]]:
    """(rcode, [(owner, type, value)])."""
    _, flags, questions, answers, _, _ = struct.unpack(">HHHHHH", data[:12])
    at = 12
    for _ in range(questions):
        at = read_name(data, at)[1] + 4
    found: list[tuple[str, str, str]] = []
    for _ in range(answers):
        owner, at = read_name(data, at)
        kind, _, _, size = struct.unpack(">HHIH", data[at : at + 10])
        at += 10
        raw = data[at : at + size]
        if kind in (1, 28):
            value = str(ipaddress.ip_address(bytes(raw)))
        elif kind in (5, 12):
            value = read_name(data, at)[0]
        elif kind == 33:
            value = "{} {} {} ".format(*struct.unpack(">HHH", raw[:6])) + read_name(data, at + 6)[0]
        else:
            value = raw[1:].decode(errors="replace")
        found.append((owner, _NAMES.get(kind, str(kind)), value))
        at += size
    return flags & 0xF, found


def candidates(name: str, search: list[str], ndots: int) -> list[str]:
    """The names to try, in the C library's order."""
    if name.endswith("."):
        return [name.rstrip(".")]
    suffixed = [f"{name}.{suffix.rstrip('.')}" for suffix in search]
    return [name, *suffixed] if name.count(".") >= ndots else [*suffixed, name]


def ask(server: str, name: str, kind: int) -> tuple[int, list[tuple[str, str, str]]]:
    """One question over UDP, twice if need be. OSError when nobody answers."""
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(TIMEOUT_S)
        sock.connect((server, 53))
        for attempt in (1, 2):
            number = random.getrandbits(16)
            sock.send(encode_query(number, name, kind))
            try:
                data = sock.recv(4096)
            except TimeoutError:
                if attempt == 2:
                    raise
                continue
            if len(data) >= 12 and data[:2] == struct.pack(">H", number):
                return decode_answers(data)
    raise TimeoutError


def main(argv: list[str]) -> int:
    """0 when there was an answer, else 1."""
    words = [word for word in argv[1:] if not word.startswith("-")]
    kinds = [word.partition("=")[2].upper() for word in argv[1:] if word.startswith(("-type=", "-query=", "-q="))]
    if not words:
        print("Usage: nslookup [-type=QUERY_TYPE] HOST [DNS_SERVER]", file=sys.stderr)
        return 1
    with open("/etc/resolv.conf", encoding="utf-8", errors="replace") as file:
        text = file.read()
    servers, search = parse_resolv_conf(text)
    ndots = next((int(word[6:]) for word in text.split() if word.startswith("ndots:") and word[6:].isdigit()), 1)
    server = words[1] if len(words) > 1 else (servers or ["127.0.0.1"])[0]
    print(f"Server:\t\t{server}\nAddress:\t{server}:53\n")
    try:
        ipaddress.ip_address(words[0])
        names, kinds = [ipaddress.ip_address(words[0]).reverse_pointer], ["PTR"]
    except ValueError:
        names = candidates(words[0], search, ndots)
    return _look_up(server, names, [TYPES[kind] for kind in kinds if kind in TYPES] or [1, 28])


def _look_up(server: str, names: list[str], kinds: list[int]) -> int:
    code = 3
    for name in names:
        found: list[tuple[str, str, str]] = []
        for kind in kinds:
            try:
                code, records = ask(server, name, kind)
            except OSError:
                print(";; connection timed out; no servers could be reached\n", file=sys.stderr)
                return 1
            found += records
        if found:
            for owner, kind_name, value in found:
                if kind_name in ("A", "AAAA"):
                    print(f"Name:\t{owner}\nAddress: {value}")
                else:
                    print(f"{owner}\t{kind_name} = {value}")
            print()
            return 0
    print(f"** server can't find {names[0]}: {'NXDOMAIN' if code == 3 else f'rcode {code}'}\n")
    return 1
