"""Capture filters: the pcap language, compiled by tcpdump into classic BPF and attached to the socket.

Only the compiler is borrowed (`tcpdump -ddd`, which needs no privilege and no device); the capture is podnet's own.
"""

from __future__ import annotations

import ctypes
import shutil
import socket
import struct
import subprocess

SO_ATTACH_FILTER = 26


class FilterError(ValueError):
    """A filter that cannot be compiled; the message is the compiler's."""


def compile_filter(expression: str, snaplen: int = 262144) -> bytes:
    """`sock_filter` instructions of an expression, e.g. `udp port 8472`. Raises FilterError."""
    tcpdump = shutil.which("tcpdump") or shutil.which("tcpdump", path="/usr/sbin:/usr/bin:/sbin")
    if tcpdump is None:
        raise FilterError("a capture filter needs tcpdump to compile it: apt install tcpdump")
    command = [tcpdump, "-y", "EN10MB", "-s", str(snaplen), "-ddd", expression]
    result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    if result.returncode:
        reason = result.stderr.strip().splitlines()[-1:] or ["no reason given"]
        shown = expression if len(expression) <= 80 else f"{expression[:77]}..."
        raise FilterError(f"filter {shown!r}: {reason[0].removeprefix('tcpdump: ')}")
    return parse_program(result.stdout)


def parse_program(text: str) -> bytes:
    """The decimal form that `-ddd` prints: a count, then `code jt jf k` lines."""
    lines = text.split("\n")
    count = int(lines[0])
    instructions = [tuple(int(word) for word in line.split()) for line in lines[1 : count + 1]]
    if len(instructions) != count or any(len(i) != 4 for i in instructions):
        raise FilterError("the compiled filter is not a BPF program")
    return b"".join(struct.pack("HBBI", *instruction) for instruction in instructions)


def attach_filter(sock: socket.socket, program: bytes) -> None:
    """Let the kernel drop what the program refuses."""
    buffer = ctypes.create_string_buffer(program)
    fprog = struct.pack("HL", len(program) // 8, ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, fprog)
