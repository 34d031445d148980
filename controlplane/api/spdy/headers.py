"""Header blocks of SPDY/3: name-value pairs, deflated with a dictionary that both sides know by heart.

    count | (length name length value)*      lengths are 32 bits; several values of a name are separated by NUL

One deflate stream runs each way through the whole life of a connection, so blocks must be read in the order they were
written. Source: SPDY/3 draft, section 2.6.10 and 2.6.10.1.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

_WORDS = """options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow
authorization cache-control connection content-base content-encoding content-language content-length content-location
content-md5 content-range content-type date etag expect expires from host if-match if-modified-since if-none-match
if-range if-unmodified-since last-modified location max-forwards pragma proxy-authenticate proxy-authorization range
referer retry-after server te trailer transfer-encoding upgrade user-agent vary via warning www-authenticate method get
status 200_OK version HTTP/1.1 url public set-cookie keep-alive origin"""

_STATUS_NUMBERS = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
_PHRASES = (
    "203 Non-Authoritative Information", "204 No Content", "301 Moved Permanently", "400 Bad Request",
    "401 Unauthorized", "403 Forbidden", "404 Not Found", "500 Internal Server Error", "501 Not Implemented",
    "503 Service Unavailable", "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 ",
    "Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT", "chunked,text/html,image/png,image/jpg,image/gif,",
    "application/xml,application/xhtml+xml,text/plain,text/javascript,", "publicprivatemax-age=",
    "gzip,deflate,sdch", "charset=utf-8charset=iso-8859-1,utf-,*,enq=0.",
)  # fmt: skip

DICTIONARY = (
    b"".join(struct.pack(">I", len(word)) + word.replace("_", " ").encode() for word in _WORDS.split())
    + (_STATUS_NUMBERS + "".join(_PHRASES)).encode()
)
"""1,423 bytes; Adler-32 0xe3c6a7c2."""

MAX_HEADERS = 64 * 1024
"""Bytes a header block may expand to: port-forward and exec need a hundred."""


class HeaderError(Exception):
    """A header block that cannot be read; the deflate stream is lost and the connection with it."""


class HeaderWriter:
    """One direction's compressor."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(zdict=DICTIONARY)

    def encode(self, headers: Mapping[str, str]) -> bytes:
        """The block of these headers; names must be lower case."""
        plain = struct.pack(">I", len(headers))
        for name, value in headers.items():
            for text in (name.encode(), value.encode()):
                plain += struct.pack(">I", len(text)) + text
        return self._deflate.compress(plain) + self._deflate.flush(zlib.Z_SYNC_FLUSH)


class HeaderReader:
    """The other direction's decompressor."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)

    def decode(self, block: bytes) -> dict[str, str]:
        """The headers of a block; of a name with several values the first."""
        try:
            plain = self._inflate.decompress(block, MAX_HEADERS)
        except zlib.error as error:
            raise HeaderError(f"the header block cannot be inflated: {error}") from None
        if self._inflate.unconsumed_tail:
            raise HeaderError(f"the header block is larger than {MAX_HEADERS} bytes")
        return _parse(plain)


def _parse(plain: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    try:
        (count,), at = struct.unpack_from(">I", plain), 4
        for _ in range(count):
            pair = []
            for _ in range(2):
                (length,) = struct.unpack_from(">I", plain, at)
                at += 4 + length
                if at > len(plain):
                    raise HeaderError("the header block is cut short")
                pair.append(plain[at - length : at].decode(errors="replace"))
            headers[pair[0].lower()] = pair[1].partition("\0")[0]
    except struct.error:
        raise HeaderError("the header block is cut short") from None
    return headers
