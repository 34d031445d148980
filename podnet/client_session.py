"""The administrator's client of a cluster, for verbs that ask the API server without kubectl."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.types import Object, Resource
from podnet.controlplane.client.endpoint import Endpoint
from podnet.controlplane.client.rest import RestClient
from podnet.directories import ClusterDirectories
from podnet.launch import ClusterError
from podnet.topology.paths import ClusterPaths


def admin_endpoint(directories: ClusterDirectories) -> Endpoint:
    """The API server of a running cluster, as its administrator. Raises ClusterError when it is not running."""
    record = directories.record()
    if record is None or not record.running:
        raise ClusterError(f"cluster {directories.name!r} is not running", f"podnet up -c {directories.name}")
    pki_dir = ClusterPaths(directories.state).pki_dir
    return Endpoint(
        f"https://127.0.0.1:{record.api_port}",
        ca_file=pki_dir / "ca.crt",
        cert_file=pki_dir / "admin.crt",
        key_file=pki_dir / "admin.key",
        user_agent="podnet-cli",
    )


@asynccontextmanager
async def admin_client(directories: ClusterDirectories) -> AsyncIterator[RestClient]:
    """A client for the length of the block; refusals become ClusterError."""
    client = RestClient(admin_endpoint(directories))
    try:
        yield client
    except StatusError as err:
        raise ClusterError(f"Error from server ({err.reason or err.code}): {err.message}") from err
    finally:
        await client.close()


async def get_object(directories: ClusterDirectories, resource: Resource, name: str, namespace: str = "") -> Object:
    """One object by name."""
    async with admin_client(directories) as client:
        return await client.get(resource, name, namespace)
