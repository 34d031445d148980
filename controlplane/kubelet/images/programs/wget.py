"""A small `wget` for machines without one, with busybox's options and messages: -q -O -T --spider -S --header --post-data."""

from __future__ import annotations

import http.client
import sys

from podnet.controlplane.kubelet.images.programs import fetch

_VALUES = {
    "-O": "output",
    "--output-document": "output",
    "-T": "timeout",
    "--timeout": "timeout",
    "--header": "header",
    "--post-data": "post",
    "-U": "agent",
    "--user-agent": "agent",
    "-t": "tries",
    "--tries": "tries",
    "-P": "directory",
}
_FLAGS = {
    "-q": "quiet",
    "--quiet": "quiet",
    "-S": "show",
    "--server-response": "show",
    "--spider": "spider",
    "-c": "continue",
}
_IGNORED = ("--no-check-certificate", "--no-verbose", "-nv", "-4", "-6")


def parse(args: list[str]) -> tuple[set[str], dict[str, list[str]], list[str]]:
    """Flags, values, URLs; `-qO-` and `-T5` are understood. ValueError for what it does not have."""
    flags: set[str] = set()
    values: dict[str, list[str]] = {}
    urls: list[str] = []
    queue = list(args)
    while queue:
        word = queue.pop(0)
        name, equals, value = word.partition("=")
        if not word.startswith("-") or word == "-":
            urls.append(word)
        elif word in _IGNORED:
            continue
        elif word in _FLAGS:
            flags.add(_FLAGS[word])
        elif word.startswith("--") and name in _VALUES:
            values.setdefault(_VALUES[name], []).append(value if equals else queue.pop(0) if queue else "")
        elif word[:2] in _VALUES:
            values.setdefault(_VALUES[word[:2]], []).append(word[2:] or (queue.pop(0) if queue else ""))
        elif word[:2] in _FLAGS:
            flags.add(_FLAGS[word[:2]])
            queue.insert(0, "-" + word[2:])
        else:
            raise ValueError(f"wget: unrecognized option: {word.lstrip('-')}")
    return flags, values, urls


def main(argv: list[str]) -> int:
    """0, or 1 with a message."""
    try:
        flags, values, urls = parse(argv[1:])
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    if not urls:
        print("Usage: wget [-q] [-O FILE] [-T SEC] [--spider] [-S] [--header H] [--post-data D] URL", file=sys.stderr)
        return 1
    for url in urls:
        code = _get(url, flags, values)
        if code:
            return code
    return 0


def _get(url: str, flags: set[str], values: dict[str, list[str]]) -> int:
    timeout = values.get("timeout", [""])[-1]
    post = values.get("post")
    headers = [("User-Agent", values.get("agent", ["Wget"])[-1])]
    for header in values.get("header", []):
        name, _, value = header.partition(":")
        headers.append((name.strip(), value.strip()))
    method = "POST" if post else "HEAD" if "spider" in flags else "GET"
    wanted = fetch.Fetch(
        url, method, headers, post[-1].encode() if post else None, float(timeout) if timeout else 900.0
    )
    host = url.partition("://")[2].partition("/")[0] or url
    try:
        answer = fetch.run(wanted)
    except fetch.ResolveError as error:
        print(f"wget: bad address '{error}'", file=sys.stderr)
        return 1
    except TimeoutError:
        print("wget: download timed out", file=sys.stderr)
        return 1
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        print(f"wget: can't connect to remote host ({host}): {reason}", file=sys.stderr)
        return 1
    if "show" in flags:
        print(f"  {answer.version} {answer.status} {answer.reason}", file=sys.stderr)
        for name, value in answer.headers:
            print(f"  {name}: {value}", file=sys.stderr)
    if answer.status >= 400:
        print(f"wget: server returned error: {answer.version} {answer.status} {answer.reason}", file=sys.stderr)
        return 1
    if "spider" in flags:
        return 0
    return _save(url, answer.body, flags, values)


def _save(url: str, body: bytes, flags: set[str], values: dict[str, list[str]]) -> int:
    path = (
        values.get("output", [""])[-1] or url.partition("://")[2].partition("?")[0].rpartition("/")[2] or "index.html"
    )
    if path == "-":
        sys.stdout.flush()
        sys.stdout.buffer.write(body)
        sys.stdout.buffer.flush()
        return 0
    try:
        with open(path, "wb") as file:
            file.write(body)
    except OSError as error:
        print(f"wget: can't open '{path}': {error.strerror}", file=sys.stderr)
        return 1
    if "quiet" not in flags:
        print(f"'{path}' saved", file=sys.stderr)
    return 0
