"""A small `curl` for machines without one: GET, HEAD, POST, headers, -i -s -S -f -L -o -w -m --connect-timeout -k -v."""

from __future__ import annotations

import http.client
import sys

from podnet.controlplane.kubelet.images.programs import fetch

_VALUES = {
    "-o": "output",
    "--output": "output",
    "-m": "max-time",
    "--max-time": "max-time",
    "--connect-timeout": "connect-timeout",
    "-H": "header",
    "--header": "header",
    "-d": "data",
    "--data": "data",
    "--data-raw": "data",
    "-X": "method",
    "--request": "method",
    "-w": "write-out",
    "--write-out": "write-out",
    "-A": "agent",
    "--user-agent": "agent",
    "--retry": "retry",
}
_FLAGS = {
    "-s": "silent",
    "--silent": "silent",
    "-S": "show-error",
    "--show-error": "show-error",
    "-i": "include",
    "--include": "include",
    "-I": "head",
    "--head": "head",
    "-f": "fail",
    "--fail": "fail",
    "-L": "location",
    "--location": "location",
    "-k": "insecure",
    "--insecure": "insecure",
    "-v": "verbose",
    "--verbose": "verbose",
    "-g": "globoff",
    "--globoff": "globoff",
    "-q": "no-config",
    "-4": "ipv4",
    "-6": "ipv6",
    "--http1.1": "http1.1",
}


def parse(args: list[str]) -> tuple[set[str], dict[str, list[str]], list[str]]:
    """Flags, values, URLs. ValueError for what it does not have."""
    flags: set[str] = set()
    values: dict[str, list[str]] = {}
    urls: list[str] = []
    queue = list(args)
    while queue:
        word = queue.pop(0)
        if not word.startswith("-") or word == "-":
            urls.append(word)
        elif word in _FLAGS:
            flags.add(_FLAGS[word])
        elif word.startswith("--"):
            if word not in _VALUES:
                raise ValueError(f"curl: option {word}: is unknown")
            values.setdefault(_VALUES[word], []).append(queue.pop(0) if queue else "")
        elif word[:2] in _VALUES:
            values.setdefault(_VALUES[word[:2]], []).append(word[2:] or (queue.pop(0) if queue else ""))
        elif word[:2] in _FLAGS and len(word) > 2:
            flags.add(_FLAGS[word[:2]])
            queue.insert(0, "-" + word[2:])
        else:
            raise ValueError(f"curl: option {word}: is unknown")
    return flags, values, urls


def main(argv: list[str]) -> int:
    """Curl's exit codes: 2 usage, 3 URL, 6 name, 7 connect, 22 -f, 28 timeout, 52 empty reply."""
    if "--version" in argv[1:] or "-V" in argv[1:]:
        print("curl 8.0.0 (podnet) own small curl\nProtocols: http https")
        return 0
    try:
        flags, values, urls = parse(argv[1:])
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if not urls:
        print("curl: (2) no URL specified", file=sys.stderr)
        return 2
    code = 0
    for url in urls:
        code = _get(url, flags, values)
    return code


def _get(url: str, flags: set[str], values: dict[str, list[str]]) -> int:
    limits = [float(values[name][-1]) for name in ("max-time", "connect-timeout") if values.get(name)]
    data = "&".join(values["data"]).encode() if "data" in values else None
    headers = [("User-Agent", values.get("agent", ["curl/8.0.0"])[-1]), ("Accept", "*/*")]
    for header in values.get("header", []):
        name, _, value = header.partition(":")
        headers = [pair for pair in headers if pair[0].lower() != name.strip().lower()]
        headers.append((name.strip(), value.strip()))
    if data is not None and not any(name.lower() == "content-type" for name, _ in headers):
        headers.append(("Content-Type", "application/x-www-form-urlencoded"))
    default = "HEAD" if "head" in flags else "POST" if data is not None else "GET"
    method = values.get("method", [default])[-1]
    wanted = fetch.Fetch(
        url, method, headers, data, min(limits) if limits else None, "location" in flags, "insecure" not in flags
    )
    try:
        answer = fetch.run(wanted)
    except (OSError, ValueError, fetch.ResolveError, http.client.HTTPException) as error:
        code, text = _failure(error, url)
        if "silent" not in flags or "show-error" in flags:
            print(f"curl: ({code}) {text}", file=sys.stderr)
        if values.get("write-out"):
            sys.stdout.write(_write_out(values["write-out"][-1], None))
        return code
    return _show(answer, flags, values)


def _failure(error: Exception, url: str) -> tuple[int, str]:
    place = url.partition("://")[2] or url
    host, _, port = place.partition("/")[0].partition(":")
    if isinstance(error, fetch.ResolveError):
        return 6, f"Could not resolve host: {error}"
    if isinstance(error, TimeoutError):
        return 28, "Connection timed out"
    if isinstance(error, http.client.HTTPException):
        return 52, "Empty reply from server"
    if isinstance(error, ValueError):
        return 3, f"URL rejected: {error}"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return 7, f"Failed to connect to {host} port {port or 80}: {reason}"


def _show(answer: fetch.Answer, flags: set[str], values: dict[str, list[str]]) -> int:
    head = f"{answer.version} {answer.status} {answer.reason}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in answer.headers) + "\r\n"
    failed = "fail" in flags and answer.status >= 400
    if "verbose" in flags:
        print("".join(f"< {line}\n" for line in head.split("\r\n")), end="", file=sys.stderr)
    body = b"" if failed else answer.body
    if "include" in flags or "head" in flags:
        body = head.encode() + body
    output = values.get("output", ["-"])[-1]
    if output == "-":
        sys.stdout.buffer.write(body)
        sys.stdout.buffer.flush()
    else:
        with open(output, "wb") as file:
            file.write(body)
    if values.get("write-out"):
        sys.stdout.write(_write_out(values["write-out"][-1], answer))
    if failed:
        if "silent" not in flags or "show-error" in flags:
            print(f"curl: (22) The requested URL returned error: {answer.status}", file=sys.stderr)
        return 22
    return 0


def _write_out(text: str, answer: fetch.Answer | None) -> str:
    known = {
        "http_code": f"{answer.status if answer else 0:03d}",
        "response_code": f"{answer.status if answer else 0:03d}",
        "size_download": str(len(answer.body) if answer else 0),
        "url_effective": answer.effective if answer else "",
    }
    for name, value in known.items():
        text = text.replace(f"%{{{name}}}", value)
    return text.replace("\\n", "\n").replace("\\t", "\t")
