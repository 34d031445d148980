"""The runtime's side of CNI: load network configurations, run their plugin chains, remember the results.

The rule: plugins are reached through the contract only, an executable with `CNI_*` variables and JSON on its standard
input. No plugin is imported, so a user may put any plugin chain into the directory. Files are chosen as containerd
chooses them: `*.conf`, `*.conflist` and `*.json` sorted together, the first is the pod network, and a broken file is an
error rather than skipped.

    ADD, CHECK   plugin 1 -> result -> plugin 2 (prevResult) -> ... -> result, cached
    DEL          the other way round, every plugin given the cached result; one that fails does not spare the others

Source: CNI 1.1.0 SPEC sections 1 to 4, CONVENTIONS (capabilities, CNI_ARGS of Kubernetes).
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from podnet.controlplane.kubelet.cni_config import (
    SUPPORTED_VERSIONS,
    Attachment,
    CNIRuntimeError,
    NetworkList,
    PodInfo,
    Result,
    capability_port_mappings,
    cni_args,
    parse_network_list,
    plugin_config,
    result_ips,
    valid_id,
    version_tuple,
)
from podnet.controlplane.kubelet.cni_exec import Finished, execute
from podnet.controlplane.kubelet.cri import PortMapping
from podnet.topology.gate import Gate

__all__ = ["CNIRuntime", "CNIRuntimeError", "NetworkList", "PodInfo", "Result", "result_ips"]

_CHECK_SINCE = (0, 4, 0)
_GC_SINCE = (1, 1, 0)
_NO_POD = PodInfo()


class CNIRuntime:
    """Runs one node's default network.

    Operations on different containers run in parallel, on one container one after the other, and GC alone, as the
    SPEC asks. All directories are read afresh at each call, so a changed configuration counts from the next pod on;
    a pod is deleted with the configuration it was added with.
    """

    def __init__(
        self,
        conf_dir: Path,
        bin_dirs: Sequence[Path],
        cache_dir: Path,
        *,
        timeout_s: float = 60.0,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._conf_dir = conf_dir
        self._bin_dirs = tuple(bin_dirs)
        self._cache = ResultCache(cache_dir)
        self._timeout_s = timeout_s
        self._env = dict(os.environ if env is None else env)
        self._gate = Gate()

    def network(self) -> NetworkList:
        """The default network: the first file of the directory. CNIRuntimeError when there is none or it is broken."""
        files = sorted(p for p in _files(self._conf_dir) if p.suffix in (".conf", ".conflist", ".json"))
        if not files:
            raise CNIRuntimeError(f"no network config found in {self._conf_dir}: cni plugin not initialized", code=50)
        networks = [self._load(file) for file in files]
        return networks[0]

    async def add(
        self,
        container_id: str,
        netns: str,
        ifname: str = "eth0",
        pod: PodInfo = _NO_POD,
        port_mappings: Sequence[PortMapping] = (),
        *,
        capability_args: Mapping[str, Any] | None = None,
    ) -> Result:
        """Attach; the last plugin's result. On failure what was done is undone (DEL), then the error is raised."""
        args = dict(capability_args or {})
        if port_mappings:
            args["portMappings"] = capability_port_mappings(port_mappings)
        attachment = Attachment(container_id, ifname, netns, pod, args)
        async with self._turn(container_id):
            if self._cache.read(container_id, ifname) is not None:
                # Adding again would fail, and undoing that failure would take the first attachment away.
                raise CNIRuntimeError(f"{container_id} already has an interface {ifname}: delete it first", code=4)
            network = self.network()
            try:
                result = await self._chain_add(network, attachment)
            except CNIRuntimeError:
                with contextlib.suppress(CNIRuntimeError):
                    await self._chain_del(network, attachment, None)
                raise
            self._cache.write(network, attachment, result)
            return result

    async def delete(self, container_id: str, netns: str = "", ifname: str = "eth0", pod: PodInfo = _NO_POD) -> None:
        """Detach; idempotent, also with an empty or vanished netns. Every plugin gets its turn; the first error is
        raised at the end, and the cached result stays for the retry."""
        async with self._turn(container_id):
            cached = self._cache.read(container_id, ifname)
            if cached is None:
                network, attachment, result = self.network(), Attachment(container_id, ifname, netns, pod), None
            else:
                network, attachment, result = cached
                attachment = Attachment(container_id, ifname, netns, attachment.pod, attachment.capability_args)
            await self._chain_del(network, attachment, result)
            self._cache.remove(network.name, container_id, ifname)

    def _turn(self, container_id: str) -> contextlib.AbstractAsyncContextManager[None]:
        """One operation on a container at a time, and GC beside none (SPEC section 3)."""
        if not valid_id(container_id):
            raise CNIRuntimeError(f"invalid container ID {container_id!r}", code=4)
        return self._gate.one(container_id)

    async def check(self, container_id: str, netns: str, ifname: str = "eth0") -> None:
        """Verify an attachment against its cached result (nothing to do below 0.4.0, or with disableCheck)."""
        async with self._turn(container_id):
            cached = self._cache.read(container_id, ifname)
            if cached is None:
                raise CNIRuntimeError(f"no cached result for {container_id} {ifname}: it was never added", code=3)
            network, kept, result = cached
            if network.disable_check or version_tuple(network.cni_version) < _CHECK_SINCE:
                return
            attachment = Attachment(container_id, ifname, netns, kept.pod, kept.capability_args)
            for plugin in network.plugins:
                config = plugin_config(network, plugin, capability_args=attachment.capability_args, prev_result=result)
                await self._execute("CHECK", plugin, config, attachment)

    async def gc(self, valid: Iterable[tuple[str, str]]) -> None:
        """Drop every attachment that is not in `valid` [(container ID, ifname)]: cached ones by DEL, the rest by the
        plugins' own GC (1.1.0). All errors are collected into one."""
        keep = set(valid)
        async with self._gate.alone():
            errors: list[CNIRuntimeError] = []
            for network, attachment, result in self._cache.entries():
                if (attachment.container_id, attachment.ifname) in keep:
                    continue
                try:
                    await self._chain_del(network, attachment, result)
                    self._cache.remove(network.name, attachment.container_id, attachment.ifname)
                except CNIRuntimeError as error:
                    errors.append(error)
            network = self.network()
            if not network.disable_gc and version_tuple(network.cni_version) >= _GC_SINCE:
                attachments = [{"containerID": cid, "ifname": ifname} for cid, ifname in sorted(keep)]
                # The second key is the SPEC's own earlier spelling, which plugins were written against.
                extra = {"cni.dev/valid-attachments": attachments, "cni.dev/attachments": attachments}
                for plugin in network.plugins:
                    try:
                        await self._execute("GC", plugin, plugin_config(network, plugin, extra=extra), None)
                    except CNIRuntimeError as error:
                        errors.append(error)
            _raise_joined(errors)

    async def status(self) -> None:
        """Return when the network is ready for ADD, else CNIRuntimeError: no configuration, a missing plugin, or what a
        plugin's STATUS says (1.1.0)."""
        network = self.network()
        for plugin in network.plugins:
            self._find(plugin["type"])
        if version_tuple(network.cni_version) >= _GC_SINCE:
            for plugin in network.plugins:
                await self._execute("STATUS", plugin, plugin_config(network, plugin), None)

    async def version(self, plugin_type: str) -> tuple[str, ...]:
        """The versions a plugin says it supports (verb VERSION)."""
        out = await self._execute("VERSION", {"type": plugin_type}, {"cniVersion": SUPPORTED_VERSIONS[-1]}, None)
        return tuple(out.get("supportedVersions", ()))

    def _load(self, file: Path) -> NetworkList:
        try:
            raw = file.read_bytes()
        except OSError as error:
            raise CNIRuntimeError(f"{file}: {error.strerror}", code=5) from error
        return parse_network_list(raw, file=str(file))

    async def _chain_add(self, network: NetworkList, attachment: Attachment) -> Result:
        result: Result | None = None
        for plugin in network.plugins:
            config = plugin_config(network, plugin, capability_args=attachment.capability_args, prev_result=result)
            result = await self._execute("ADD", plugin, config, attachment)
            result.setdefault("cniVersion", network.cni_version)
        return result or {}

    async def _chain_del(self, network: NetworkList, attachment: Attachment, result: Result | None) -> None:
        errors: list[CNIRuntimeError] = []
        previous = result if version_tuple(network.cni_version) >= _CHECK_SINCE else None
        for plugin in reversed(network.plugins):
            config = plugin_config(network, plugin, capability_args=attachment.capability_args, prev_result=previous)
            try:
                await self._execute("DEL", plugin, config, attachment)
            except CNIRuntimeError as error:
                errors.append(error)
        _raise_joined(errors)

    def _find(self, plugin_type: str) -> Path:
        for directory in self._bin_dirs:
            candidate = directory / plugin_type
            if candidate.is_file() and os.access(candidate, os.X_OK):
                return candidate
        where = ", ".join(str(directory) for directory in self._bin_dirs)
        raise CNIRuntimeError(f"failed to find plugin {plugin_type!r} in path [{where}]", plugin=plugin_type)

    async def _execute(
        self, verb: str, plugin: Mapping[str, Any], config: Mapping[str, Any], attachment: Attachment | None
    ) -> Result:
        kind = str(plugin["type"])
        env = self._env | {"CNI_COMMAND": verb, "CNI_PATH": os.pathsep.join(str(d) for d in self._bin_dirs)}
        if attachment is not None:
            env |= {
                "CNI_CONTAINERID": attachment.container_id,
                "CNI_IFNAME": attachment.ifname,
                "CNI_NETNS": attachment.netns,
                "CNI_ARGS": cni_args(attachment.container_id, attachment.pod),
            }
        done = await _run(self._find(kind), env, json.dumps(config).encode(), self._timeout_s)
        return _parse_output(verb, kind, done)


async def _run(path: Path, env: Mapping[str, str], stdin: bytes, timeout_s: float) -> Finished:
    try:
        return await execute(path, env, stdin, timeout_s)
    except TimeoutError as error:
        message = f"plugin {path.name} did not answer within {timeout_s:g} s"
        raise CNIRuntimeError(message, code=11, plugin=path.name) from error
    except OSError as error:
        raise CNIRuntimeError(f"cannot execute {path}: {error.strerror}", plugin=path.name) from error


def _parse_output(verb: str, plugin: str, done: Finished) -> Result:
    code, out, err = done.exit_code, done.stdout, done.stderr
    parsed: Any = None
    with contextlib.suppress(ValueError):
        parsed = json.loads(out) if out.strip() else {}
    if code == 0:
        if isinstance(parsed, dict):
            return parsed
        raise CNIRuntimeError(f"plugin {plugin} {verb}: output is not JSON: {out[:200]!r}", code=6, plugin=plugin)
    if isinstance(parsed, dict) and parsed.get("msg"):
        details = str(parsed.get("details") or "")
        message = f"plugin {plugin} failed ({verb}): {parsed['msg']}" + (f": {details}" if details else "")
        number = parsed.get("code")
        raise CNIRuntimeError(message, code=number if isinstance(number, int) else 0, plugin=plugin, details=details)
    text = err.decode(errors="replace").strip() or out.decode(errors="replace").strip()
    raise CNIRuntimeError(f"plugin {plugin} failed ({verb}): exit code {code}: {text[:500]}", plugin=plugin)


def _raise_joined(errors: Sequence[CNIRuntimeError]) -> None:
    if not errors:
        return
    first = errors[0]
    text = "; ".join(str(error) for error in errors)
    raise CNIRuntimeError(text, code=first.code, plugin=first.plugin, details=first.details)


class ResultCache:
    """What was added, one file per attachment, so that DEL and CHECK see the configuration and result of their ADD
    (as /var/lib/cni/results, kind cniCacheV1). A file that cannot be read counts as absent: DEL must still work."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def write(self, network: NetworkList, attachment: Attachment, result: Result) -> None:
        """Keep it, durable against a crash of this process: written aside, then renamed."""
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self._path(network.name, attachment.container_id, attachment.ifname)
        entry = {
            "kind": "cniCacheV1",
            "containerId": attachment.container_id,
            "ifName": attachment.ifname,
            "networkName": network.name,
            "netns": attachment.netns,
            "config": {"cniVersion": network.cni_version, "name": network.name, "plugins": list(network.plugins)},
            "pod": {"namespace": attachment.pod.namespace, "name": attachment.pod.name, "uid": attachment.pod.uid},
            "capabilityArgs": dict(attachment.capability_args),
            "result": result,
        }
        aside = path.with_name(f".{path.name}.new")
        aside.write_text(json.dumps(entry))
        aside.replace(path)

    def read(self, container_id: str, ifname: str) -> tuple[NetworkList, Attachment, Result] | None:
        """The entry of one attachment, whichever network it is in."""
        for path in self._directory.glob(f"*-{container_id}-{ifname}"):
            entry = _parse_entry(path)
            if entry is not None and (entry[1].container_id, entry[1].ifname) == (container_id, ifname):
                return entry
        return None

    def entries(self) -> list[tuple[NetworkList, Attachment, Result]]:
        """Every readable entry."""
        parsed = (_parse_entry(path) for path in sorted(_files(self._directory)) if not path.name.startswith("."))
        return [entry for entry in parsed if entry is not None]

    def remove(self, network: str, container_id: str, ifname: str) -> None:
        """Forget one attachment."""
        self._path(network, container_id, ifname).unlink(missing_ok=True)

    def _path(self, network: str, container_id: str, ifname: str) -> Path:
        return self._directory / f"{network}-{container_id}-{ifname}"


def _parse_entry(path: Path) -> tuple[NetworkList, Attachment, Result] | None:
    try:
        entry = json.loads(path.read_bytes())
        network = parse_network_list(json.dumps(entry["config"]), file=str(path))
        attachment = Attachment(
            entry["containerId"], entry["ifName"], entry["netns"], PodInfo(**entry["pod"]), entry["capabilityArgs"]
        )
        return network, attachment, dict(entry["result"])
    except (OSError, ValueError, KeyError, TypeError, CNIRuntimeError):
        return None


def _files(directory: Path) -> list[Path]:
    try:
        return [path for path in directory.iterdir() if path.is_file()]
    except OSError:
        return []
