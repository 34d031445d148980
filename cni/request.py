"""One call of the plugin: its environment and standard input in, exit code and output out.

This file decides; it runs nothing. It validates what the spec's table asks of each verb - all missing variables in one
message - and turns an answer or a `CNIError` into what the process prints. Source: CNI SPEC section 2.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from podnet.cni.netconf import parse_cni_args, requested_version, valid_ifname, valid_name
from podnet.cni.plan import Attachment
from podnet.cni.types import DECODING_FAILURE, INVALID_ENVIRONMENT, SUPPORTED_VERSIONS, CNIError

ABOUT = (
    "podnet-bridge: the CNI plugin of podnet. It joins a pod to its node's bridge.\n"
    f"CNI protocol versions supported: {', '.join(SUPPORTED_VERSIONS)}\n"
)
VERBS = ("ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION")

_REQUIRED = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"),
    "GC": ("CNI_PATH",),
    "STATUS": ("CNI_PATH",),
    "VERSION": (),
}


@dataclass(frozen=True, slots=True)
class Request:
    """What the executed plugin was given: its CNI_* variables and its standard input."""

    env: Mapping[str, str]
    stdin: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """What it prints and how it exits."""

    exit_code: int = 0
    stdout: bytes = b""
    stderr: bytes = b""


def required_env(env: Mapping[str, str]) -> str:
    """The verb, once every variable it needs is there. CNIError 4 names all that are missing."""
    verb = env.get("CNI_COMMAND", "")
    if verb not in _REQUIRED:
        raise CNIError(INVALID_ENVIRONMENT, f"unknown CNI_COMMAND: {verb}")
    missing = [name for name in _REQUIRED[verb] if not env.get(name)]
    if missing:
        raise CNIError(INVALID_ENVIRONMENT, f"required env variables [{','.join(missing)}] missing")
    return verb


def parse_attachment(env: Mapping[str, str]) -> Attachment:
    """Container ID, interface and namespace of ADD, DEL and CHECK. CNIError 4 for a name that cannot be one."""
    container_id, ifname = env["CNI_CONTAINERID"], env["CNI_IFNAME"]
    if not valid_name(container_id):
        raise CNIError(INVALID_ENVIRONMENT, f"invalid characters in CNI_CONTAINERID {container_id!r}")
    if not valid_ifname(ifname):
        raise CNIError(INVALID_ENVIRONMENT, f"invalid CNI_IFNAME {ifname!r}")
    args = parse_cni_args(env.get("CNI_ARGS", ""))
    name = args.get("K8S_POD_NAME", "")
    pod = f"{args.get('K8S_POD_NAMESPACE', '')}/{name}" if name else ""
    return Attachment(container_id, ifname, env.get("CNI_NETNS", ""), pod)


def parse_stdin(stdin: bytes) -> dict[str, Any]:
    """The configuration as JSON. CNIError 6 when it is none."""
    try:
        conf = json.loads(stdin)
    except ValueError as error:
        raise CNIError(DECODING_FAILURE, "failed to decode the network config", str(error)) from error
    if not isinstance(conf, dict):
        raise CNIError(DECODING_FAILURE, "failed to decode the network config", "it is not an object")
    return conf


def version_answer(stdin: bytes) -> dict[str, Any]:
    """VERSION: what we speak. Whatever is on standard input, the question has an answer."""
    try:
        version = requested_version(parse_stdin(stdin))
    except CNIError:
        version = "0.1.0"
    known = version if version in SUPPORTED_VERSIONS else SUPPORTED_VERSIONS[-1]
    return {"cniVersion": known, "supportedVersions": list(SUPPORTED_VERSIONS)}


def answer(body: Mapping[str, Any] | None) -> Response:
    """Success; the verbs without a result print nothing."""
    return Response(stdout=b"" if body is None else json.dumps(body).encode() + b"\n")


def error_answer(error: CNIError, stdin: bytes) -> Response:
    """Failure: the error object on standard output, in the configuration's version."""
    try:
        version = requested_version(parse_stdin(stdin))
    except CNIError:
        version = SUPPORTED_VERSIONS[-1]
    return Response(1, json.dumps(error.to_json(version)).encode() + b"\n")


def about() -> Response:
    """A call without a verb: somebody ran the plugin by hand."""
    return Response(stderr=ABOUT.encode())
