"""The mounts of a container: its volumeMounts, and the files that the kubelet writes for every pod.

`/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` live in the pod's directory and are rewritten in place, so that a
running container that has them mounted sees the change. A container that mounts something else there keeps it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from podnet.controlplane.kubelet.cri import Mount
from podnet.controlplane.kubelet.downward import ConfigError
from podnet.controlplane.kubelet.env import Environment
from podnet.controlplane.kubelet.expansion import expand
from podnet.controlplane.kubelet.volumes.pod_volumes import resolve_sub_path

ETC_FILES = {"/etc/hosts": "etc-hosts", "/etc/hostname": "hostname", "/etc/resolv.conf": "resolv.conf"}


def container_mounts(
    container: Mapping[str, Any],
    volumes: Mapping[str, Path],
    environment: Environment,
    pod_dir: Path,
    *,
    read_only: Collection[str] = (),
) -> list[Mount]:
    """In the order of the spec, the kubelet's own last; ConfigError for a volume or a subPath that is not there.
    `read_only` volumes are mounted so, whatever the mount says.
    """
    mounts: list[Mount] = []
    for mount in container.get("volumeMounts") or ():
        volume = volumes.get(mount["name"])
        if volume is None:
            raise ConfigError(f'cannot find volume "{mount["name"]}" to mount into container "{container["name"]}"')
        sub_path = mount.get("subPath") or _expanded(mount.get("subPathExpr") or "", environment)
        host = resolve_sub_path(volume, sub_path) if sub_path else volume
        mounts.append(Mount(mount["mountPath"], str(host), bool(mount.get("readOnly")) or mount["name"] in read_only))
    taken = {mount.container_path.rstrip("/") for mount in mounts}
    mounts += [Mount(path, str(pod_dir / name)) for path, name in ETC_FILES.items() if path not in taken]
    return mounts


def write_etc_files(pod_dir: Path, hosts: str, hostname: str, resolv_conf: str) -> None:
    """Write the three files, in place where they are already mounted."""
    pod_dir.mkdir(parents=True, exist_ok=True)
    texts = {"etc-hosts": hosts, "hostname": hostname + "\n", "resolv.conf": resolv_conf}
    for name, text in texts.items():
        path = pod_dir / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def _expanded(expression: str, environment: Environment) -> str:
    if not expression:
        return ""
    variables = environment.lookup()
    missing: set[str] = set()

    def lookup(name: str) -> str | None:
        if not variables.get(name):
            missing.add(name)
        return variables.get(name)

    text = expand(expression, lookup)
    if missing:
        raise ConfigError(f"missing value for {', '.join(sorted(missing))}")
    return text
