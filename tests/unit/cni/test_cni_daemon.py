"""The daemon's end of one call: the caller sees the end of the answer whatever else holds the connection."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import cast

from podnet.cni.daemon import _Service
from podnet.cni.plugin import Plugin


async def test_the_answer_ends_although_a_forked_child_holds_the_connection(tmp_path: Path) -> None:
    copies: list[int] = []
    service = _Service(cast(Plugin, None))  # a cut request is answered before any plugin is asked

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        copies.append(os.dup(writer.get_extra_info("socket").fileno()))  # as fork() does
        await service.connected(reader, writer)

    server = await asyncio.start_unix_server(connected, tmp_path / "cni.sock")
    try:
        async with server, asyncio.timeout(5):
            reader, writer = await asyncio.open_unix_connection(tmp_path / "cni.sock")
            writer.write(b"cut")
            writer.write_eof()
            answer = await reader.read()
            writer.close()
    finally:
        for fd in copies:
            os.close(fd)
    assert b"cut short on its way" in answer
