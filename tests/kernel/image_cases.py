"""The catalogue's programs as containers, asked over the pod's own network. Run by tests/kernel/test_runtime.py."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import runtime_node

from podnet.controlplane.kubelet.cri import ContainerState, Mount, RuntimeServiceError
from podnet.controlplane.kubelet.images import catalogue

pytestmark = pytest.mark.kernel
node = runtime_node.node


async def get(node: Any, container_id: str, path: str, port: int = 80, *more: str) -> str:
    """curl in the pod, as soon as the server listens: the answer with its head, CRs removed."""
    url = f"http://127.0.0.1:{port}{path}"
    command = ("curl", "-si", "--max-time", "10", *more, url)
    result = None
    for _ in range(100):
        result = await node.runtime.exec_sync(container_id, command, 20)
        if result.exit_code != 7:
            break
    assert result is not None
    assert result.exit_code == 0, result
    return str(result.stdout.decode().replace("\r", ""))


async def test_nginx(node: Any) -> None:
    server = await node.started(image="nginx")
    answer = await get(node, server, "/")
    assert answer.startswith("HTTP/1.1 200 OK\nServer: nginx/")
    assert "<title>Welcome to nginx!</title>" in answer
    missing = await get(node, server, "/nope")
    assert missing.startswith("HTTP/1.1 404 Not Found\n")
    assert "<center><h1>404 Not Found</h1></center>" in missing
    await node.shell(server, "echo changed > /usr/share/nginx/html/index.html")
    assert (await get(node, server, "/")).endswith("\n\nchanged\n")
    title = await node.shell(server, "cat /proc/1/cmdline | tr '\\0' ' '")
    assert title.startswith("nginx -g daemon off;")
    await node.runtime.stop_container(server, 10)
    status = await node.runtime.container_status(server)
    assert status.exit_code == 0
    log = Path(status.log_path).read_text()
    assert '"GET / HTTP/1.1" 200 ' in log
    assert '"GET /nope HTTP/1.1" 404 ' in log
    assert 'open() "/usr/share/nginx/html/nope" failed (2: No such file or directory)' in log


async def test_nginx_serves_what_is_mounted(node: Any, tmp_path: Path) -> None:
    pages, conf = tmp_path / "pages", tmp_path / "conf"
    pages.mkdir()
    conf.mkdir()
    (pages / "index.html").write_text("from a volume\n")
    (conf / "default.conf").write_text(
        "server { listen 8080; location / { root /usr/share/nginx/html; }\n"
        "  location = /who { return 200 '$hostname\\n'; } }\n"
    )
    mounts = (Mount("/usr/share/nginx/html", str(pages), read_only=True), Mount("/etc/nginx/conf.d", str(conf)))
    server = await node.started(image="nginx:1.27-alpine", mounts=mounts)
    assert (await get(node, server, "/", 8080)).endswith("\n\nfrom a volume\n")
    assert (await get(node, server, "/who", 8080)).endswith("\n\nweb\n")


async def test_httpd(node: Any) -> None:
    server = await node.started(image="httpd:2.4")
    answer = await get(node, server, "/")
    assert "Server: Apache/" in answer
    assert "It works!" in answer
    assert await node.shell(server, "pwd") == "/usr/local/apache2\n"


@pytest.mark.parametrize(
    ("image", "args", "port", "wanted"),
    [
        ("hashicorp/http-echo", ("-text=hello there", "-listen=:5679"), 5679, "\n\nhello there\n"),
        ("hashicorp/http-echo:1.0", ("-text", "hi"), 5678, "\n\nhi\n"),
        ("traefik/whoami", (), 80, "\nHostname: web\n"),
        ("registry.k8s.io/echoserver:1.10", (), 8080, "\nHostname: web\n"),
        ("gcr.io/google-samples/hello-app:1.0", (), 8080, "Hello, world!\nVersion: 1.0.0\nHostname: web\n"),
        ("mendhak/http-https-echo", (), 8080, '"path": "/x"'),
        ("gcr.io/k8s-staging-gateway-api/echo-basic:v1", (), 3000, '"path": "/x"'),
    ],
)
async def test_echo_servers(node: Any, image: str, args: tuple[str, ...], port: int, wanted: str) -> None:
    server = await node.started(image=image, args=args)
    assert wanted in await get(node, server, "/x", port)
    await node.runtime.stop_container(server, 10)
    assert (await node.runtime.container_status(server)).exit_code == 0


async def test_agnhost(node: Any) -> None:
    sandbox_id = await node.sandbox()
    server = await node.started(
        image="registry.k8s.io/e2e-test-images/agnhost:2.47", args=("netexec",), sandbox_id=sandbox_id
    )
    assert (await get(node, server, "/hostname", 8080)).endswith("\n\nweb")
    udp = "for i in 1 2 3 4 5; do echo hostname | nc -w 1 -u 127.0.0.1 8081 && break; done"
    assert (await node.shell(server, udp)).startswith("web")
    dialed = await get(node, server, "/dial?host=127.0.0.1&port=8081&protocol=udp&request=hostname", 8080)
    assert json.loads(dialed.partition("\n\n")[2]) == {"responses": ["web"]}
    for command in (("/agnhost",), ("sh", "-c", 'exec /agnhost "$@"', "sh"), ("/agnhost-2",)):
        done = await node.runtime.exec_sync(server, (*command, "connect", "127.0.0.1:8080", "--timeout=1s"), 20)
        assert (done.exit_code, done.stdout, done.stderr) == (0, b"", b"")
        done = await node.runtime.exec_sync(server, (*command, "connect", "127.0.0.1:1"), 20)
        assert (done.exit_code, done.stdout, done.stderr) == (1, b"", b"REFUSED\n")
    porter = await node.started(
        image="agnhost", args=("porter",), env=(("SERVE_PORT_81", "eighty-one"),), sandbox_id=sandbox_id, name="porter"
    )
    assert (await get(node, porter, "/any", 81)).endswith("\n\neighty-one")
    paused = await node.started(image="agnhost", sandbox_id=sandbox_id, name="paused")
    await node.runtime.stop_container(paused, 10)
    assert (await node.runtime.container_status(paused)).exit_code == 0
    await node.runtime.stop_container(server, 10)
    assert (await node.runtime.container_status(server)).exit_code == 0


async def test_pause(node: Any) -> None:
    container_id = await node.started(image="registry.k8s.io/pause:3.9")
    assert (await node.runtime.container_status(container_id)).image_ref == "podnet.dev/catalogue/pause"
    await node.runtime.stop_container(container_id, 10)
    assert (await node.runtime.container_status(container_id)).exit_code == 0


@pytest.mark.parametrize("image", ["busybox:1.36", "alpine", "debian:12-slim", "ubuntu:24.04", "bash"])
async def test_a_shell_without_input_ends_at_once(node: Any, image: str) -> None:
    status, output = await node.ran(image=image)
    assert (status.exit_code, output) == (0, "")


async def test_python_and_curl_and_netshoot(node: Any) -> None:
    status, output = await node.ran("python", "-c", "import json, ssl; print(json.dumps([1]))", image="python:3.12")
    assert (status.exit_code, output) == (0, "[1]\n"), output
    status, output = await node.ran(image="curlimages/curl", args=("--version",), name="curl")
    assert output.startswith("curl ")
    status, output = await node.ran(image="nicolaka/netshoot", name="netshoot")
    assert (status.exit_code, output) == (0, "")
    status, output = await node.ran("sh", "-c", "ip -o addr show lo | head -1", image="nicolaka/netshoot", name="ip")
    if shutil.which("ip"):
        assert "127.0.0.1/8" in output


async def test_tools_of_busybox(node: Any) -> None:
    container_id = await node.started("sleep", "1000")
    for tool in ("nc", "wget", "nslookup", "curl"):
        assert (await node.shell(container_id, f"command -v {tool}")).strip() == f"/usr/bin/{tool}"


async def test_an_unknown_image(node: Any) -> None:
    with pytest.raises(RuntimeServiceError) as refused:
        await node.runtime.pull_image("redis")
    assert refused.value.reason == "ErrImagePull"
    assert refused.value.message.startswith('failed to pull and unpack image "docker.io/library/redis:latest": ')
    with pytest.raises(RuntimeServiceError) as refused:
        await node.runtime.pull_image("Not An Image")
    assert refused.value.reason == "InvalidImageName"


async def test_every_server_of_the_catalogue_starts(node: Any) -> None:
    sandbox_id = await node.sandbox()
    quiet = {"curl", "coredns", "http-echo", "busybox", "alpine", "debian", "ubuntu", "bash", "python", "netshoot"}
    for entry in catalogue.ENTRIES:
        if entry.name in quiet:
            continue
        container_id = await node.started(image=entry.name, sandbox_id=sandbox_id, name=entry.name)
        assert (await node.runtime.container_status(container_id)).state is ContainerState.RUNNING
        await node.runtime.stop_container(container_id, 0)
