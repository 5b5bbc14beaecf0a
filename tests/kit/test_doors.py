"""Who gets a connection while many want one."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from kit import doors, http, places, tls
from tests import certificates, said

EACH = 50
HEAD = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """400 descriptors, of which strangers may have half, and one address `EACH`."""
    monkeypatch.setattr(doors.resource, "getrlimit", lambda _which: (400, 400))
    monkeypatch.setattr(
        doors, "_files", doors.Files(count=lambda: 0)
    )  # whatever else the process of the tests has open


@pytest.fixture
def abroad(few: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses of this machine stand for those of others."""
    monkeypatch.setattr(places, "loopback", lambda _host: False)


@asynccontextmanager
async def served(*, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    async def hello(_request: web.Request) -> web.Response:
        return web.Response(text="hello")

    app = http.application()
    app.add_routes([web.get("/", hello)])
    async with http.serving(app, host="127.0.0.1", port=0, tls=context) as port, asyncio.timeout(60):
        yield port


class Guests:
    """Connections that say `first` and wait."""

    def __init__(self, port: int, stack: AsyncExitStack) -> None:
        self._port = port
        self._stack = stack
        self.here = dict[str, list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]()

    async def come(self, source: str, count: int, *, first: bytes = HEAD) -> None:
        for _ in range(count):
            pair = await asyncio.open_connection("127.0.0.1", self._port, local_addr=(source, 0))
            self._stack.callback(pair[1].close)
            pair[1].write(first)
            self.here.setdefault(source, []).append(pair)

    async def turned_away(self, source: str) -> None:
        """The last one to come."""
        reader, _ = self.here[source].pop()
        try:
            assert await reader.read(1) == b""
        except ConnectionError:
            pass

    def leave(self, source: str) -> None:
        for _, writer in self.here.pop(source):
            writer.close()


async def greeted(port: int, source: str, context: ssl.SSLContext | None = None) -> bool:
    try:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, local_addr=(source, 0), ssl=context, server_hostname=context and "127.0.0.1"
        )
        try:
            writer.write(HEAD + b"Connection: close\r\n\r\n")
            return b"hello" in await reader.read()
        finally:
            writer.close()
    except OSError:
        return False


@pytest.mark.usefixtures("abroad")
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_one_address_has_a_share_of_the_connections_and_keeps_no_other_one_out(
    secure: bool, tmp_path: Path
) -> None:
    """Over TLS none of them ever begins the handshake."""
    issued = certificates.Authority(tmp_path)
    ours = tls.server(issued.issue("hub")) if secure else None
    theirs = tls.client(tls.Files("hub", ca=issued.ca_file)) if secure else None
    async with served(context=ours) as port, AsyncExitStack() as stack:
        guests = Guests(port, stack)
        await guests.come("127.0.0.2", EACH + 1, first=b"" if secure else HEAD)
        await guests.turned_away("127.0.0.2")
        assert await greeted(port, "127.0.0.3", theirs)
        guests.leave("127.0.0.2")
        while not await greeted(port, "127.0.0.2", theirs):
            await asyncio.sleep(0)


@pytest.mark.usefixtures("few")
async def test_what_comes_from_this_machine_has_no_share_of_its_own() -> None:
    """A proxy on it speaks for everybody."""
    async with served() as port, AsyncExitStack() as stack:
        await Guests(port, stack).come("127.0.0.1", EACH + 10)
        assert await greeted(port, "127.0.0.1")


@pytest.mark.usefixtures("abroad")
async def test_who_is_turned_away_is_logged_once_for_many() -> None:
    with said.heard() as log:
        async with served() as port, AsyncExitStack() as stack:
            guests = Guests(port, stack)
            await guests.come("127.0.0.2", EACH)
            for _ in range(5):
                await guests.come("127.0.0.2", 1)
                await guests.turned_away("127.0.0.2")
    assert log.getvalue().count("http.turned_away") == 1


async def test_without_a_descriptor_who_waits_is_turned_away_and_the_log_stays_quiet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Left in the queue it would keep the loop busy, and asyncio logging."""
    accept, spare = socket.socket.accept, set[int]()

    def accepting(self: socket.socket) -> tuple[socket.socket, Any]:
        """What is put aside is the only descriptor there is."""
        if any(os.path.exists(f"/dev/fd/{number}") for number in spare):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return accept(self)

    def put_aside(*given: Any) -> int:
        spare.add(number := opened(*given))
        return number

    opened = os.open
    monkeypatch.setattr(doors.os, "open", put_aside)
    with said.heard() as log:
        async with served() as port, AsyncExitStack() as stack:
            monkeypatch.setattr(socket.socket, "accept", accepting)
            guests = Guests(port, stack)
            for _ in range(3):
                await guests.come("127.0.0.1", 1)
                await guests.turned_away("127.0.0.1")
            monkeypatch.setattr(socket.socket, "accept", accept)
            assert await greeted(port, "127.0.0.1")
    assert log.getvalue().count("http.turned_away") == 1
    assert "system resource" not in log.getvalue()


def test_descriptors_are_counted_when_they_may_run_out_and_seldom() -> None:
    """Each count costs more the more there are: whoever comes and goes must not have it repeated for every connection."""
    now_s, counted, there = 0.0, 0, 90

    def count() -> int:
        nonlocal now_s, counted
        now_s, counted = now_s + 0.1, counted + 1
        return there

    files = doors.Files(now=lambda: now_s, count=count)
    assert [files.take(100) for _ in range(11)] == [True] * 11, "there were 90, and came ten"
    assert counted == 1
    there = 101
    assert [files.take(100) for _ in range(5)] == [False] * 5, "nothing says that one went"
    assert files.take(150), "who may take more of them finds room"
    now_s += 5
    there = 60
    assert files.take(100)
    assert counted == 2
