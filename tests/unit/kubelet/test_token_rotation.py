"""Tokens in projected volumes: issued once, replaced at four fifths of their life, kept while nobody issues new ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from podnet.controlplane.api.errors import StatusError, internal_error
from podnet.controlplane.kubelet.config_cache import ConfigCache
from podnet.controlplane.kubelet.downward import PodFacts
from podnet.controlplane.kubelet.timestamps import SECOND_NS
from podnet.controlplane.kubelet.volumes.pod_volumes import RETRY_S, PodVolumes, VolumeError

TOKEN = {"serviceAccountToken": {"path": "token", "audience": "vault", "expirationSeconds": 1000}}
POD = {
    "metadata": {"name": "p", "namespace": "default", "uid": "u"},
    "spec": {"serviceAccountName": "robot", "volumes": [{"name": "v", "projected": {"sources": [TOKEN]}}]},
}


class Issuer:
    """A client that issues tokens, or says why not."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.refusal: StatusError | None = None

    async def create(self, _resource: Any, body: Any, *, subresource: str, name: str) -> Any:
        assert subresource == "token"
        if self.refusal is not None:
            raise self.refusal
        self.asked.append((name, body["spec"]))
        return {"status": {"token": f"token-{len(self.asked)}"}}


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def volumes(issuer: Issuer, tmp_path: Path) -> PodVolumes:
    nothing = cast("ConfigCache", None)  # a volume of a token alone refers to no object
    return PodVolumes(cast("Any", issuer), nothing, tmp_path, "u")


async def token_at(volumes: PodVolumes, second: int) -> str:
    paths = await volumes.set_up(PodFacts(POD, "192.0.2.1"), second * SECOND_NS)
    return (paths["v"] / "token").read_text()


async def test_a_token_is_asked_for_as_the_volume_says(volumes: PodVolumes, issuer: Issuer) -> None:
    assert await token_at(volumes, 1) == "token-1"
    [(account, spec)] = issuer.asked
    assert (account, spec["audiences"], spec["expirationSeconds"]) == ("robot", ["vault"], 1000)
    assert spec["boundObjectRef"] == {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}


async def test_a_token_is_replaced_before_it_expires(volumes: PodVolumes) -> None:
    assert [await token_at(volumes, second) for second in (0, 799, 800, 900)] == [
        "token-1",
        "token-1",
        "token-2",
        "token-2",
    ]
    assert volumes.refresh_at_ns() == 1600 * SECOND_NS


async def test_the_old_one_is_kept_while_no_new_one_is_issued(volumes: PodVolumes, issuer: Issuer) -> None:
    await token_at(volumes, 0)
    issuer.refusal = internal_error("the API server is away")
    assert await token_at(volumes, 900) == "token-1"
    assert volumes.refresh_at_ns() == (900 + RETRY_S) * SECOND_NS, "not at once again"
    with pytest.raises(VolumeError, match="failed to fetch token: "):
        await token_at(volumes, 1000)
    issuer.refusal = None
    assert await token_at(volumes, 1001) == "token-2"
