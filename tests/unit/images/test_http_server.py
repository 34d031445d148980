"""The catalogue's HTTP server: parsing, bodies, files, nginx's configuration and words."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.controlplane.kubelet.images.programs import flags, http, nginx, static
from podnet.controlplane.kubelet.images.programs.http import BadRequestError, Request, Response, Server


def request(target: str = "/", method: str = "GET", **headers: str) -> Request:
    pairs = [("Host", "web"), *((name.replace("_", "-"), value) for name, value in headers.items())]
    return Request(method, target, "HTTP/1.1", pairs, ("::ffff:10.0.0.9", 4242), ("::", 80))


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"GET",
        b"GET /",
        b"GET / HTTP/2.0",
        b"GET x HTTP/1.1\r\nHost: a",
        b"G@T / HTTP/1.1\r\nHost: a",
        b"GET / HTTP/1.1",
        b"GET / HTTP/1.1\r\nHost: a\r\nbroken",
        b"GET / HTTP/1.1\r\nHost: a\r\n folded: x",
    ],
)
def test_what_is_not_http(head):
    with pytest.raises(BadRequestError):
        http.parse_head(head)


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=6), st.data())
def test_chunked_bodies_are_found_wherever_they_are_cut(chunks, data):
    wire = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    reader = http.BodyReader(request(Transfer_Encoding="chunked"))
    cut = data.draw(st.integers(0, len(wire) - 1))
    assert reader.result(wire[:cut]) is None
    assert reader.result(wire + b"GET") == (b"".join(chunks), len(wire))


@given(st.binary(max_size=200))
def test_no_bytes_break_the_parser(data):
    with contextlib.suppress(BadRequestError):
        assert http.parse_head(data)[2].startswith("HTTP/1.")


async def _talk(server: Server, wire: bytes) -> bytes:
    listener = await server.listen("127.0.0.1", 0)
    try:
        reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
        writer.write(wire)
        writer.write_eof()
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        await writer.wait_closed()
        return answer
    finally:
        listener.close()
        assert server.expirer is not None
        server.expirer.cancel()


async def test_pipelined_requests_are_answered_in_order():
    async def slow(asked: Request) -> Response:
        await asyncio.sleep(0.02)
        return Response(200, asked.path.encode())

    server = Server(lambda asked: slow(asked) if asked.path == "/a" else Response(200, asked.path.encode()))
    wire = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nPOST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
    answer = await _talk(server, wire + b"HEAD /c HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.count(b"HTTP/1.1 200 OK") == 3
    assert answer.index(b"/a") < answer.index(b"/b")
    assert b"/c" not in answer
    assert answer.rstrip().endswith(b"Connection: close")


async def test_bad_requests_get_400_and_a_broken_handler_500(capsys):
    def broken(_: Request) -> Response:
        raise RuntimeError("bug")

    assert (await _talk(Server(broken), b"nonsense\r\n\r\n")).startswith(b"HTTP/1.1 400 Bad Request")
    assert (await _talk(Server(broken), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")).startswith(b"HTTP/1.1 500")
    assert "bug" in capsys.readouterr().err


async def test_large_files_are_streamed(tmp_path):
    (tmp_path / "big").write_bytes(bytes(3_000_000))
    files = static.FileServer(str(tmp_path), nginx.error_page)
    answer = await _talk(Server(files.answer), b"GET /big HTTP/1.0\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Content-Length: 3000000" in head
    assert len(body) == 3_000_000


@pytest.fixture
def site(tmp_path):
    (tmp_path / "index.html").write_text("home")
    (tmp_path / "a.txt").write_text("0123456789")
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "index.html").write_text("dir")
    (tmp_path / "empty").mkdir()
    (tmp_path.parent / "secret").write_text("s")
    return static.FileServer(str(tmp_path), nginx.error_page)


@pytest.mark.parametrize(
    ("target", "status", "body"),
    [
        ("/", 200, b"home"),
        ("/a.txt", 200, b"0123456789"),
        ("/a.txt?x=1", 200, b"0123456789"),
        ("/dir/", 200, b"dir"),
        ("/dir", 301, None),
        ("/empty/", 403, None),
        ("/nope", 404, None),
        ("/a.txt/", 404, None),
        ("/../secret", 404, None),
        ("/%2e%2e/secret", 404, None),
        ("/dir/%2e%2e%2f..%2fsecret", 404, None),
        ("/%00", 400, None),
    ],
)
def test_static_files(site, target, status, body):
    response = site.answer(request(target))
    assert response.status == status
    if body is not None:
        assert response.body == body


@pytest.mark.parametrize(
    ("wanted", "status", "body"),
    [
        ("bytes=2-4", 206, b"234"),
        ("bytes=7-", 206, b"789"),
        ("bytes=-3", 206, b"789"),
        ("bytes=20-", 416, None),
        ("bytes=0-1,3-4", 200, b"0123456789"),
        ("lines=1-2", 200, b"0123456789"),
    ],
)
def test_ranges(site, wanted, status, body):
    response = site.answer(request("/a.txt", Range=wanted))
    assert response.status == status
    if body is not None:
        assert response.body == body


@given(st.text(max_size=20), st.integers(1, 1000))
def test_a_range_never_leaves_the_file(value, size):
    span = static.parse_range("bytes=" + value, size)
    assert span is None or span == (1, 0) or 0 <= span[0] <= span[1] < size


def test_conditional_requests_and_methods(site):
    first = site.answer(request("/a.txt"))
    tag = dict(first.headers)["ETag"]
    assert site.answer(request("/a.txt", If_None_Match=tag)).status == 304
    assert site.answer(request("/a.txt", If_None_Match='"other"')).status == 200
    assert site.answer(request("/a.txt", "POST")).status == 405


def test_nginx_configuration():
    text = """
    # a comment
    server { listen 8080 default_server; listen [::]:8080; server_name a b;
      root /srv; location = /x { return 200 "ok $hostname\\n"; }
      location /old { return 301 http://new$request_uri; } location ~ \\.php$ { fastcgi_pass x; } proxy_pass y; }
    server { location / { root /other; } }
    """
    sites, ignored = nginx.parse_sites(text, "t.conf")
    assert [(site.ports, site.names, site.root) for site in sites] == [
        ([8080], ["a", "b"], "/srv"),
        ([], [], "/usr/share/nginx/html"),
    ]
    assert ignored == {"location ~ \\.php$", "fastcgi_pass", "proxy_pass"}
    asked = request("/x")
    asked.local = ("::ffff:10.0.0.1", 8080)
    assert nginx.answer(sites, asked).body.startswith(b"ok ")
    asked.target = "/old/y?z"
    moved = nginx.answer(sites, asked)
    assert (moved.status, ("Location", "http://new/old/y?z") in moved.headers) == (301, True)


@pytest.mark.parametrize("text", ["server {", "}", "server { listen x; }", "server { root /a"])
def test_nginx_refuses_broken_configuration(text):
    with pytest.raises(nginx.ConfigurationError):
        nginx.parse_sites(text, "t.conf")


def test_nginx_log_line():
    line = nginx.log_line(request("/a?b", User_Agent="curl/8"), Response(200, b"abc"), 0)
    assert line == '10.0.0.9 - - [01/Jan/1970:00:00:00 +0000] "GET /a?b HTTP/1.1" 200 3 "-" "curl/8" "-"'


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1), ("500ms", 0.5), ("1m30s", 90), ("0", 0), ("1.5h", 5400), ("-2s", -2)],
)
def test_go_durations(text, seconds):
    assert flags.parse_duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "1", "s", "1x", "1..5s", "-"])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match="invalid duration"):
        flags.parse_duration_s(text)


def test_flags():
    defaults = {"port": 80, "on": False, "name": "", "wait": 0.0}
    values, rest = flags.parse_flags(["--port=81", "--on", "x", "--name", "n", "--wait=2s", "--", "--y"], defaults)
    assert (values, rest) == ({"port": 81, "on": True, "name": "n", "wait": 2.0}, ["x", "--y"])
    assert flags.parse_flags(["-name=n"], defaults, strict=False)[0]["name"] == "n"
    for bad in (["--nope"], ["--port=x"], ["--on=maybe"], ["--name"], ["-name"]):
        with pytest.raises(flags.FlagError):
            flags.parse_flags(bad, defaults)


def test_a_dual_stack_listener_takes_ipv4():
    with http.listening_socket(None, 0) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), 2):
            assert http.peer_name(("::ffff:127.0.0.1", port)) == f"127.0.0.1:{port}"
