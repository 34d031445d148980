"""Which user and which capabilities a container's processes have.

Root in a container is not root of the machine, not even when it is privileged: with podnet run as root, CAP_SYS_ADMIN
would remount what is read-only and CAP_MKNOD open the machine's disk (no device cgroup stands before it), and nothing
a container does may reach the machine's files. So a container has containerd's default capabilities without MKNOD;
`privileged` and `capabilities.add` give more, up to ALLOWED: all of networking, no mounting.
Sources: capabilities(7), capset(2), containerd oci.WithDefaultUnixCaps; podnet has no ambient capabilities.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterable

_libc = ctypes.CDLL(None, use_errno=True)
_PR_CAPBSET_DROP = 24
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_VERSION_3 = 0x20080522

# By number (linux/capability.h).
_NAMES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
    "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE "
    "MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
)
_DEFAULT = "CHOWN DAC_OVERRIDE FSETID FOWNER NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE"
_MORE = (
    "NET_ADMIN NET_BROADCAST IPC_LOCK IPC_OWNER SYS_PTRACE SYS_NICE SYS_RESOURCE LEASE AUDIT_CONTROL AUDIT_READ "
    "SYS_TTY_CONFIG WAKE_ALARM BLOCK_SUSPEND"
)
CAPABILITIES = {name: number for number, name in enumerate(_NAMES.split())}
DEFAULT_CAPABILITIES = frozenset(_DEFAULT.split())
ALLOWED = DEFAULT_CAPABILITIES | frozenset(_MORE.split())
_PR_SET_NO_NEW_PRIVS = 38


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def capability_set(add: Iterable[str], drop: Iterable[str]) -> frozenset[str]:
    """The pod's securityContext.capabilities applied to the default set; ALL is a name of its own in both."""
    added = {name.upper().removeprefix("CAP_") for name in add}
    dropped = {name.upper().removeprefix("CAP_") for name in drop}
    base = ALLOWED if "ALL" in added else DEFAULT_CAPABILITIES
    kept = frozenset() if "ALL" in dropped else base - dropped
    return kept | (added & ALLOWED)


def refused_user(uid: int | None, gid: int | None, id_map: str) -> str:
    """Why this user cannot be had under this /proc/self/uid_map; empty when it can."""
    wanted = uid or 0
    for line in id_map.splitlines():
        first, _, count = (int(word) for word in line.split())
        if first <= wanted < first + count:
            break
    else:
        return (
            f"runAsUser {uid} is not possible here: this cluster runs in a user namespace of an ordinary user, where "
            "only uid 0 exists (run podnet as root for other users)"
        )
    if gid and len(id_map.split()) == 3 and id_map.split()[2] == "1":
        return f"runAsGroup {gid} is not possible here: the user namespace has only gid 0"
    return ""


def forbid_new_privileges() -> None:
    """From here on no setuid bit and no file capability gives anything (allowPrivilegeEscalation: false)."""
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl PR_SET_NO_NEW_PRIVS")


def become(uid: int | None, gid: int | None, capabilities: frozenset[str], groups: tuple[int, ...] = ()) -> None:
    """Drop to this user, its groups and these capabilities for good. OSError when the kernel refuses; only groups that
    a user namespace does not have are left out, as nothing there belongs to them.
    """
    for name, number in CAPABILITIES.items():
        if name not in capabilities:
            _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)  # EINVAL: a capability this kernel does not know
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    if groups:
        with contextlib.suppress(OSError):
            os.setgroups(groups)
    if uid or gid:
        if not groups:
            os.setgroups([])
        os.setgid(gid or 0)
        os.setuid(uid or 0)
    if not uid:
        mask = sum(1 << CAPABILITIES[name] for name in capabilities)
        _capset(mask)


def _capset(mask: int) -> None:
    """What the runtime itself does not have (a capability of a newer kernel, one dropped above it) nobody can get."""
    header = _Header(_VERSION_3, 0)
    have = (_Data * 2)()
    _check(_libc.capget(ctypes.byref(header), have), "capget")
    mask &= have[0].permitted | have[1].permitted << 32
    low, high = mask & 0xFFFFFFFF, mask >> 32
    data = (_Data * 2)(_Data(low, low, 0), _Data(high, high, 0))
    _check(_libc.capset(ctypes.byref(header), data), "capset")


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
