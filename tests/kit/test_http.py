"""The server side's manners and the client's limits."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import http_exceptions, web

from domain import errors
from kit import doors, http
from tests import said


def app_with(error: Exception | None = None, **options: int) -> web.Application:
    async def handler(request: web.Request) -> web.StreamResponse:
        if error is not None:
            raise error
        body = await http.read_body(request, max_bytes=1000, timeout_s=0.2)
        return http.json_response({"size": len(body)})

    app = http.application(**options)
    app.add_routes([web.route("*", "/", handler)])
    return app


@asynccontextmanager
async def served(app: web.Application) -> AsyncIterator[str]:
    async with http.serving(app, host="127.0.0.1", port=0) as port:
        yield f"http://127.0.0.1:{port}/"


async def answer(app: web.Application, **options: object) -> tuple[int, dict[str, str], bytes]:
    async with served(app) as url, http.client_session() as session:
        async with session.request("POST", url, **options) as response:  # type: ignore[arg-type]
            return response.status, dict(response.headers), await response.read()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.BadAnswer("limit must be 1 to 5"), 400),
        (errors.Transient("busy", retry_after_s=7.0), 503),
        (errors.StoreError("a table is missing at row 0xdeadbeef"), 500),
        (web.HTTPForbidden(), 403),
        (web.HTTPRequestEntityTooLarge(max_size=1, actual_size=2), 413),
    ],
)
async def test_an_error_becomes_a_problem(error: Exception, status: int) -> None:
    code, headers, body = await answer(app_with(error))
    assert code == status
    assert headers["Content-Type"] == "application/problem+json"
    assert json.loads(body)["status"] == status
    assert headers["X-Content-Type-Options"] == "nosniff"


async def test_a_wish_to_wait_is_passed_on() -> None:
    _, headers, _ = await answer(app_with(errors.Transient("busy", retry_after_s=7.0)))
    assert headers["Retry-After"] == "7"


async def test_an_inner_error_is_not_told() -> None:
    _, _, body = await answer(app_with(errors.StoreError("a table is missing")))
    assert b"table" not in body


async def test_a_body_beyond_the_cap_is_refused_with_and_without_a_length() -> None:
    assert (await answer(app_with(), data=b"x" * 1001))[0] == 413

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b"x" * 100

    assert (await answer(app_with(), data=pieces()))[0] == 413
    assert (await answer(app_with(), data=b"x" * 1000))[0] == 200


async def test_a_client_that_stalls_is_let_go() -> None:
    async with served(app_with()) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rsplit(":", 1)[1].strip("/")))
        writer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc")
        async with asyncio.timeout(5):
            assert b"503" in await reader.readline()
        writer.close()


async def test_a_port_in_use_is_a_setting_to_change() -> None:
    async with http.serving(http.application(), host="127.0.0.1", port=0) as port:
        with pytest.raises(errors.BadConfig, match=r"choose another web\.port"):
            async with http.serving(http.application(), host="127.0.0.1", port=port):
                pass


async def test_leaving_lets_a_running_request_finish() -> None:
    began, finish = asyncio.Event(), asyncio.Event()

    async def slow(_request: web.Request) -> web.Response:
        began.set()
        await finish.wait()
        return web.Response(text="done")

    app = http.application()
    app.add_routes([web.get("/", slow)])
    async with http.client_session() as session:
        serving = http.serving(app, host="127.0.0.1", port=0)
        port = await serving.__aenter__()
        asked = asyncio.create_task(session.get(f"http://127.0.0.1:{port}/"))
        await began.wait()
        left = asyncio.create_task(serving.__aexit__(None, None, None))
        await asyncio.sleep(0)
        finish.set()
        async with asyncio.timeout(5):
            assert await (await asked).text() == "done"
            await left


async def test_the_client_gives_up_in_time() -> None:
    async def hang(_request: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    app = http.application()
    app.add_routes([web.get("/", hang)])
    async with (
        http.serving(app, host="127.0.0.1", port=0, shutdown_s=0.1) as port,
        http.client_session(timeout_s=0.2) as session,
    ):
        with pytest.raises((TimeoutError, aiohttp.ServerTimeoutError)):
            await session.get(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("1", True),
        ("5", True),
        ("0", False),
        ("6", False),
        ("-1", False),
        ("x", False),
        ("٣", False),
        ("1" * 30, False),
    ],
)
async def test_a_number_of_the_query_is_bounded(text: str, good: bool) -> None:
    async def handler(request: web.Request) -> web.Response:
        return http.json_response(http.query_int(request, "n", default=3, minimum=1, maximum=5))

    app = http.application()
    app.add_routes([web.get("/", handler)])
    async with served(app) as url, http.client_session() as session, session.get(url, params={"n": text}) as response:
        assert response.status == (200 if good else 400)


BROKEN = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03hello\r\n\r\n",
    "a method that is none": b"G\x01T / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a header without a name": b"GET / HTTP/1.1\r\nHost: localhost\r\n: b\r\n\r\n",
    "a header with NUL": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
    "a head without end": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 40_000 + b"\r\n\r\n",
    "a length that is none": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a chunk that is none": b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n0\r\n\r\n",
    "no compression": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: deflate\r\nContent-Length: 4\r\n\r\nabcd",
    "another version": b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
    "an address that is none": b"GET http://[::1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a body that ends early": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nab",
}


async def sent(url: str, data: bytes) -> bytes:
    """All that comes back."""
    port = int(url.rpartition(":")[2].strip("/"))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        await writer.drain()
        writer.write_eof()
        return await asyncio.wait_for(reader.read(), 30)
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize("name", BROKEN)
async def test_what_is_not_http_is_no_error_of_ours_and_one_short_line(name: str) -> None:
    with said.heard() as log:
        async with served(app_with()) as url:
            answers = [await sent(url, BROKEN[name]) for _ in range(5)]
    assert not any(b" 500 " in answer for answer in answers), answers[0]
    lines = [line for line in log.getvalue().splitlines() if "asyncio" not in line]
    assert "Traceback" not in log.getvalue()
    assert len(lines) <= 1, lines
    assert all(len(line) < 400 for line in lines)


async def test_lines_about_malformed_requests_are_limited_and_counted() -> None:
    now_s = 0.0
    with said.heard() as log:
        noise = http.Noise(now=lambda: now_s)
        for _ in range(1000):
            noise.malformed("10.0.0.1", web_error())
        now_s = doors.NOISE_S
        noise.malformed("10.0.0.2", web_error())
    first, second = (json.loads(line) for line in log.getvalue().splitlines())
    assert (first["event"], first["address"], first["unsaid"]) == ("http.malformed", "10.0.0.1", 0)
    assert (second["address"], second["unsaid"]) == ("10.0.0.2", 999)


def web_error() -> Exception:
    return http_exceptions.BadHttpMessage("x" * 10_000)


async def test_a_fault_of_ours_still_says_where() -> None:
    with said.heard() as log:
        code, _, _ = await answer(app_with(ZeroDivisionError("ours")))
    assert code == 500
    assert "ZeroDivisionError" in log.getvalue()
    assert "Traceback" in log.getvalue()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example", 421), ("evil.example:8480", 421), ("127.0.0.1.evil.example", 421), ("localhost.evil.example", 421),
        ("", 421), (":8480", 421), ("[::1.example", 421),
        ("127.0.0.1:8480", 200), ("127.9.9.9", 200), ("localhost", 200), ("LocalHost.:8480", 200), ("[::1]:8480", 200), ("[::1]", 200),
        ("10.0.0.7", 200), ("Agent.example:443", 200),
    ],
)  # fmt: skip
async def test_a_server_that_only_this_machine_reaches_is_not_read_by_a_foreign_name(host: str, status: int) -> None:
    """A page of that name may have it lead here, and would then read the answers."""

    async def hello(request: web.Request) -> web.Response:
        return web.Response(text="hello")

    app = http.application()
    app.add_routes([web.get("/", hello)])
    async with http.serving(app, host="127.0.0.1", port=0, hosts=["agent.Example"]) as port:
        async with http.client_session() as session:
            async with session.get(f"http://127.0.0.1:{port}/", headers={"Host": host}) as answer_:
                assert answer_.status == status
                assert ("hello" in await answer_.text()) == (status == 200)


async def test_whoever_is_reached_from_elsewhere_is_asked_by_any_name() -> None:
    async def hello(request: web.Request) -> web.Response:
        return web.Response(text="hello")

    app = http.application()
    app.add_routes([web.get("/", hello)])
    async with http.serving(app, host="0.0.0.0", port=0) as port, http.client_session() as session:
        async with session.get(f"http://127.0.0.1:{port}/", headers={"Host": "node-7.internal"}) as answer_:
            assert answer_.status == 200


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system has no such limit")
async def test_whoever_reads_nothing_of_an_answer_loses_the_connection() -> None:
    """And whoever reads it slowly does not."""
    ended = asyncio.Queue[str]()

    async def much(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            for _ in range(256):
                await response.write(b"x" * 65_536)
        except ConnectionError:
            ended.put_nowait("cut off")
            raise
        ended.put_nowait("read")
        return response

    app = http.application()
    app.add_routes([web.get("/", much)])
    async with http.serving(app, host="127.0.0.1", port=0, unread_s=1.0) as port, asyncio.timeout(60):
        with socket.create_connection(("127.0.0.1", port)) as idle:
            idle.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert await ended.get() == "cut off"
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        slow.connect(("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(sock=slow, limit=4096)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        for _ in range(6):
            assert await reader.read(1 << 16)
            await asyncio.sleep(0.3)
        while await reader.read(1 << 20):
            pass
        assert await ended.get() == "read"
        writer.close()


FLOODED = """
import asyncio, os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (96, 480))
from aiohttp import web
from kit import http, logs

logs.configure("json", "info", stream=sys.stderr)

async def main() -> None:
    app = http.application()

    async def hello(request: web.Request) -> web.Response:
        return web.Response(text="hello")

    app.add_routes([web.get("/", hello)])
    async with http.serving(app, host="127.0.0.1", port=0, idle_s=1.0) as port:
        print(port, flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        files = [os.open(os.devnull, os.O_RDONLY) for _ in range(60)]
        for file in files:
            os.close(file)
        print("spare", flush=True)
        await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main())
"""


async def test_guests_who_fill_a_server_with_connections_leave_descriptors_for_everything_else() -> None:
    """Half heads, far more than the process may have files open; its own limit is raised to what it may have first."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FLOODED, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None
    guests = list[socket.socket]()
    try:
        async with asyncio.timeout(30):
            port = int(await process.stdout.readline())
            for _ in range(700):
                guest = socket.create_connection(("127.0.0.1", port), timeout=5)
                guests.append(guest)
                with contextlib.suppress(OSError):
                    guest.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
            process.stdin.write(b"\n")
            assert (await process.stdout.readline()) == b"spare\n"
            for guest in guests:
                guest.close()
            async with http.client_session() as session:
                while True:
                    with contextlib.suppress(aiohttp.ClientError, OSError):
                        async with session.get(f"http://127.0.0.1:{port}/") as answer_:
                            assert await answer_.text() == "hello"
                            break
                    await asyncio.sleep(0.1)
            process.stdin.write(b"\n")
            assert await process.wait() == 0
    finally:
        for guest in guests:
            guest.close()
        if process.returncode is None:
            process.kill()
            await process.wait()
