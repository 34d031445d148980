"""What the plugin is called with, and what it answers while the daemon is down."""

from __future__ import annotations

import json

import pytest

from podnet.cni.offline import answer_offline, refusal
from podnet.cni.request import Request
from podnet.cni.store import LeaseStore
from podnet.topology.fake import FakeKernel
from podnet.topology.paths import NodePaths

# --- the environment ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "missing"),
    [
        ("ADD", "CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH"),
        ("CHECK", "CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH"),
        ("DEL", "CNI_CONTAINERID,CNI_IFNAME,CNI_PATH"),
        ("GC", "CNI_PATH"),
    ],
)
async def test_all_missing_variables_in_one_message(world, verb, missing):
    response = await world.plugin.handle(Request({"CNI_COMMAND": verb}, b"{}"))
    body = json.loads(response.stdout)
    assert (response.exit_code, body["code"]) == (1, 4)
    assert f"[{missing}]" in body["msg"]


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"CNI_COMMAND": "NOPE"}, "unknown CNI_COMMAND: NOPE"),
        ({"CNI_COMMAND": "add"}, "unknown CNI_COMMAND: add"),
        ({"CNI_COMMAND": "DEL", "CNI_CONTAINERID": "a/b", "CNI_IFNAME": "e", "CNI_PATH": "/"}, "CNI_CONTAINERID"),
        ({"CNI_COMMAND": "DEL", "CNI_CONTAINERID": "a", "CNI_IFNAME": "e:0", "CNI_PATH": "/"}, "CNI_IFNAME"),
        ({"CNI_COMMAND": "DEL", "CNI_CONTAINERID": "a", "CNI_IFNAME": "x" * 16, "CNI_PATH": "/"}, "CNI_IFNAME"),
    ],
)
async def test_a_bad_environment(world, env, words):
    response = await world.plugin.handle(Request(env, b"{}"))
    body = json.loads(response.stdout)
    assert body["code"] == 4
    assert words in body["msg"]


async def test_a_blank_command_says_what_this_is(world):
    response = await world.plugin.handle(Request({}, b""))
    assert response.exit_code == 0
    assert response.stdout == b""
    assert b"CNI plugin of podnet" in response.stderr


@pytest.mark.parametrize("stdin", [b"", b"{", b'{"cniVersion": "0.4.0"}', b"[]"])
async def test_version_answers_whatever_is_on_stdin(world, stdin):
    response = await world.plugin.handle(Request({"CNI_COMMAND": "VERSION"}, stdin))
    body = json.loads(response.stdout)
    assert response.exit_code == 0
    assert body["supportedVersions"] == ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]


@pytest.mark.parametrize("stdin", [b"", b"{", b"[1]", b"\xff\xfe"])
async def test_input_that_is_no_configuration(world, stdin):
    env = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "a", "CNI_NETNS": "/pod1", "CNI_IFNAME": "e", "CNI_PATH": "/"}
    response = await world.plugin.handle(Request(env, stdin))
    assert json.loads(response.stdout)["code"] == 6


# --- while the daemon is down ---------------------------------------------------------------------------------------------


def _request(verb, **conf):
    env = {"CNI_COMMAND": verb, "CNI_CONTAINERID": "c1", "CNI_NETNS": "/pod1", "CNI_IFNAME": "eth0", "CNI_PATH": "/"}
    return Request(env, json.dumps({"cniVersion": "1.1.0", "name": "podnet", "type": "podnet-bridge"} | conf).encode())


@pytest.mark.parametrize(("verb", "code"), [("ADD", 11), ("STATUS", 50)])
def test_offline_refusals(verb, code):
    assert refusal(_request(verb)).code == code


@pytest.mark.parametrize("verb", ["DEL", "GC", "CHECK", "VERSION"])
def test_offline_answers_the_rest(verb):
    assert refusal(_request(verb)) is None


def test_offline_still_validates():
    assert refusal(_request("ADD", nonsense=1)).code == 7


async def test_offline_delete_releases_the_lease(tmp_path):
    paths = NodePaths(tmp_path / "state", tmp_path / "run")
    store = LeaseStore(paths.cni_state_dir)
    from podnet.cni.netconf import node_range_sets

    store.reserve("podnet", "c1", "eth0", node_range_sets(["10.244.1.0/24"]))
    store.close()
    response = await answer_offline(_request("DEL"), paths, FakeKernel())
    assert response.exit_code == 0
    again = LeaseStore(paths.cni_state_dir)
    assert again.leases("podnet") == ()
    again.close()
