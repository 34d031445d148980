"""LinuxKernel: the operations of `topology.kernel` on the real kernel.

Each operation becomes one to three rtnetlink requests (`links`, `tables`), sent through one socket per batch
(`rtnetlink`); sysctls and nft have their own doors. Nothing is remembered between calls but nft contexts, so a
LinuxKernel may be shared by threads, and a cluster may have several.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Sequence

from podnet.topology.kernel import (
    MAX_IFNAME,
    AddAddress,
    AddBridge,
    AddVeth,
    AddVxlan,
    DeleteAddress,
    DeleteFdb,
    DeleteLink,
    DeleteNeighbour,
    DeleteRoute,
    KernelError,
    LimitRate,
    Netns,
    NetnsState,
    Op,
    ReplaceFdb,
    ReplaceNeighbour,
    ReplaceRoute,
    SetLink,
    SetSysctl,
)
from podnet.topology.linux import links, sysctl, tables
from podnet.topology.linux import netlink as nl
from podnet.topology.linux.nft import Nft
from podnet.topology.linux.observe import parse_state
from podnet.topology.linux.rtnetlink import RouteSocket


class LinuxKernel:
    """The real `Kernel`."""

    def __init__(self) -> None:
        self._nft = Nft()

    def apply(self, netns: Netns, ops: Sequence[Op]) -> None:
        """Apply in order; stop at the first refusal."""
        if not ops:
            return
        with RouteSocket(netns) as socket, contextlib.ExitStack() as opened:
            for op in ops:
                try:
                    _apply_one(socket, netns, op, opened)
                except KernelError as error:
                    raise KernelError(f"{type(op).__name__}: {error}", _errno_of(op, error), op) from error
                except ValueError as error:
                    raise KernelError(f"{type(op).__name__}: {error}", 22, op) from error

    def observe(self, netns: Netns) -> NetnsState:
        """Five dumps through one socket."""
        with RouteSocket(netns) as socket:
            # RTEXT_FILTER_SKIP_STATS: counters are most of a link's bytes, and nobody asks for them here.
            wanted = links.ifinfo() + nl.attr_u32(links.IFLA_EXT_MASK, 8)
            return parse_state(
                socket.dump(nl.RTM_GETLINK, wanted),
                socket.dump(nl.RTM_GETADDR, tables.IFADDR.pack(0, 0, 0, 0, 0)),
                socket.dump(nl.RTM_GETROUTE, tables.RTMSG.pack(0, 0, 0, 0, 0, 0, 0, 0, 0)),
                socket.dump(nl.RTM_GETNEIGH, tables.NDMSG.pack(0, 0, 0, 0, 0)),
                socket.dump(nl.RTM_GETNEIGH, links.ifinfo(family=nl.AF_BRIDGE)),
            )

    def sysctl(self, netns: Netns, key: str) -> str:
        """Read a sysctl."""
        return sysctl.read_sysctl(netns, key)

    def nft(self, netns: Netns, script: str) -> str:
        """Run an nft script as one transaction."""
        return self._nft.run(netns, script)

    def forget(self, netns: Netns) -> None:
        """Let go of a namespace that is about to be deleted: nothing here keeps it alive afterwards."""
        self._nft.forget(netns)

    def close(self) -> None:
        """Let go of everything."""
        self._nft.close()


def _errno_of(op: Op, error: KernelError) -> int:
    """ENOENT for a queue means that its kind is unknown: the kernel lacks it."""
    lacking = isinstance(op, LimitRate) and (op.rate_bit_s or op.delay_ms) and error.errno == errno.ENOENT
    return errno.EOPNOTSUPP if lacking else error.errno


def _apply_one(socket: RouteSocket, netns: Netns, op: Op, opened: contextlib.ExitStack) -> None:
    if isinstance(op, SetSysctl):
        sysctl.write_sysctl(netns, op.key, op.value)
        return
    if isinstance(op, AddBridge | AddVeth | AddVxlan | SetLink):
        _check_names(op)

    def netns_fd(path: Netns) -> int:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise KernelError(f"network namespace {path!r}: {error.strerror}", error.errno or 0) from error
        opened.callback(os.close, fd)
        return fd

    for request in _requests(socket, op, netns_fd):
        socket.request(request)
    if isinstance(op, AddVeth):
        for request in links.add_veth_hairpin(op, socket.index_of):
            socket.request(request)


def _requests(socket: RouteSocket, op: Op, netns_fd: links.NetnsFd) -> list[bytes]:
    index_of = socket.index_of
    match op:
        case AddBridge():
            return links.add_bridge(op)
        case AddVeth():
            return links.add_veth(op, index_of, netns_fd)
        case AddVxlan():
            return links.add_vxlan(op, index_of)
        case SetLink():
            return links.set_link(op, index_of, netns_fd)
        case DeleteLink():
            return links.delete_link(op, index_of)
        case AddAddress():
            return tables.add_address(op, index_of)
        case DeleteAddress():
            return tables.delete_address(op, index_of)
        case ReplaceRoute():
            return tables.replace_route(op, index_of)
        case DeleteRoute():
            return tables.delete_route(op, index_of)
        case ReplaceNeighbour():
            return tables.replace_neighbour(op, index_of)
        case DeleteNeighbour():
            return tables.delete_neighbour(op, index_of)
        case ReplaceFdb():
            return tables.replace_fdb(op, index_of)
        case DeleteFdb():
            return tables.delete_fdb(op, index_of)
        case LimitRate():
            return links.limit_rate(op, index_of)
        case _:
            raise KernelError(f"no such operation: {op!r}", 95, op)


def _check_names(op: AddBridge | AddVeth | AddVxlan | SetLink) -> None:
    """Refuse here what the kernel would only call an invalid argument."""
    names = [op.peer, op.name] if isinstance(op, AddVeth) else [op.name]
    if isinstance(op, SetLink) and op.rename is not None:
        names.append(op.rename)
    for name in names:
        if not 0 < len(name.encode()) <= MAX_IFNAME or name in (".", "..") or any(c in "/: \t\n" for c in name):
            raise KernelError(
                f"not an interface name (1 to {MAX_IFNAME} characters, no '/', ':' or space): {name!r}", 22
            )
