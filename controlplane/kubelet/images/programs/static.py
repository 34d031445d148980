"""Files over HTTP: what nginx, httpd and test-webserver share.

A path never leaves the root, not through `..` and not through encoded slashes; symbolic links are followed, as volumes
of ConfigMaps are made of them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass

from podnet.controlplane.kubelet.images.programs.http import Request, Response, http_date

TYPES = {
    "html": "text/html",
    "htm": "text/html",
    "css": "text/css",
    "js": "application/javascript",
    "json": "application/json",
    "txt": "text/plain",
    "xml": "text/xml",
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "svg": "image/svg+xml",
    "ico": "image/x-icon",
    "pdf": "application/pdf",
    "gz": "application/gzip",
    "zip": "application/zip",
    "woff2": "font/woff2",
    "wasm": "application/wasm",
}


@dataclass(frozen=True, slots=True)
class FileServer:
    """How one program serves files. `error` makes its error pages (status, extra headers)."""

    root: str
    error: Callable[[int, Request], Response]
    index: str = "index.html"
    default_type: str = "application/octet-stream"
    etag: Callable[[os.stat_result], str] = lambda info: f'"{int(info.st_mtime):x}-{info.st_size:x}"'
    methods: tuple[str, ...] = ("GET", "HEAD")
    listing: Callable[[str, str], Response] | None = None

    def answer(self, request: Request) -> Response:
        """The file, a redirect to a directory's slash, or an error page."""
        if request.method not in self.methods:
            return self.error(405, request)
        path = request.path
        if "\0" in path or not path.startswith("/"):
            return self.error(400, request)
        clean = os.path.normpath(path)
        place = self.root.rstrip("/") + ("/" + clean.lstrip("/") if clean != "/" else "")
        try:
            info = os.stat(place)
            if stat.S_ISDIR(info.st_mode):
                if not path.endswith("/"):
                    return self._redirect(request)
                listing_of = place
                place = os.path.join(place, self.index)
                if self.listing is not None and not os.path.exists(place):
                    return self.listing(listing_of, path)
                info = self._index(place)
            elif path.endswith("/"):
                return self.error(404, request)
            if not stat.S_ISREG(info.st_mode) or not os.access(place, os.R_OK):
                return self.error(403, request)
        except (FileNotFoundError, NotADirectoryError):
            return self.error(404, request)
        except PermissionError:
            return self.error(403, request)
        return self._file(request, place, info)

    def _index(self, place: str) -> os.stat_result:
        """A directory without an index may not be listed: 403."""
        try:
            return os.stat(place)
        except FileNotFoundError:
            raise PermissionError(place) from None

    def _redirect(self, request: Request) -> Response:
        query = request.target.partition("?")[2]
        target = request.raw_path + "/" + (f"?{query}" if query else "")
        host = request.header("host")
        response = self.error(301, request)
        response.headers.append(("Location", f"http://{host}{target}" if host else target))
        return response

    def _file(self, request: Request, place: str, info: os.stat_result) -> Response:
        tag = self.etag(info)
        validators = [("Last-Modified", http_date(info.st_mtime)), ("ETag", tag)]
        known = request.header("if-none-match")
        if known and (tag in [part.strip() for part in known.split(",")] or known == "*"):
            return Response(304, headers=validators)
        if not known and request.header("if-modified-since") == http_date(info.st_mtime):
            return Response(304, headers=validators)
        kind = TYPES.get(place.rpartition("/")[2].rpartition(".")[2].lower(), self.default_type)
        wanted = request.header("range")
        headers = [*validators, ("Accept-Ranges", "bytes")]
        if not wanted:
            return _content(200, place, 0, info.st_size, headers, kind)
        span = parse_range(wanted, info.st_size)
        if span is None:
            return _content(200, place, 0, info.st_size, headers, kind)
        first, last = span
        if first > last:
            response = self.error(416, request)
            response.headers.append(("Content-Range", f"bytes */{info.st_size}"))
            return response
        headers = [*validators, ("Content-Range", f"bytes {first}-{last}/{info.st_size}")]
        return _content(206, place, first, last - first + 1, headers, kind)


def _content(status: int, place: str, offset: int, length: int, headers: list[tuple[str, str]], kind: str) -> Response:
    """Small files are sent in one piece with their head."""
    if length <= 64 * 1024:
        with open(place, "rb") as file:
            file.seek(offset)
            return Response(status, file.read(length), headers, kind)
    return Response(status, b"", headers, kind, file=(place, offset, length))


def parse_range(value: str, size: int) -> tuple[int, int] | None:
    """First and last byte of a single range; None for what is to be ignored; first > last when it cannot be had."""
    unit, _, spec = value.partition("=")
    first, dash, last = spec.strip().partition("-")
    if unit.strip() != "bytes" or not dash or "," in spec:
        return None
    if not first:
        if not last.isdigit():
            return None
        return (max(0, size - int(last)), size - 1) if int(last) else (1, 0)
    if not first.isdigit() or (last and not last.isdigit()):
        return None
    start = int(first)
    end = min(int(last), size - 1) if last else size - 1
    if last and int(last) < start:
        return None
    return (start, end) if start < size else (1, 0)
