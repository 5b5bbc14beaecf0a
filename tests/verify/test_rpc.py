"""The verifier's own client against servers that misbehave below JSON-RPC."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from verify import rpc
from verify.report import Unusable

Handler = Callable[[BaseHTTPRequestHandler, bytes], None]


@contextlib.contextmanager
def serving(answer: Handler) -> Iterator[str]:
    class Server(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            with contextlib.suppress(ConnectionError):
                answer(self, self.rfile.read(int(self.headers["content-length"])))

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def say(
    handler: BaseHTTPRequestHandler, data: bytes, *, status: int = 200, headers: dict[str, str] | None = None
) -> None:
    handler.send_response(status)
    for name, value in (headers or {"content-length": str(len(data))}).items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(data)


def result(value: Any, *, id_: Any = 1) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": id_, "result": value}).encode()


def test_credentials_of_the_url_are_sent_and_never_shown() -> None:
    seen: list[str | None] = []

    def answer(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        seen.append(handler.headers["authorization"])
        say(handler, result("0x1"))

    with serving(answer) as place:
        node = rpc.Rpc(f"http://me:s%40cret@{place}/v2/key")
        assert node.call("eth_chainId").quantity() == 1
    assert seen == ["Basic bWU6c0BjcmV0"]
    assert node.name == f"node {place}"


def test_a_redirect_is_not_followed() -> None:
    with (
        serving(lambda handler, _: say(handler, result("0x1"))) as elsewhere,
        serving(lambda h, _: say(h, b"", status=307, headers={"location": f"http://{elsewhere}/"})) as place,
        pytest.raises(Unusable, match="HTTP status 307"),
    ):
        rpc.Rpc(f"http://{place}").call("eth_chainId")


def test_an_answer_that_trickles_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc, "ANSWER_S", 0.3)

    def answer(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        say(handler, b"", headers={"content-length": "1000000"})
        done = threading.Event()
        while not done.wait(0.01):
            handler.wfile.write(b" ")

    with serving(answer) as place, pytest.raises(Unusable, match="takes longer"):
        rpc.Rpc(f"http://{place}").call("eth_chainId")


def test_an_endless_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc, "MAX_BYTES", 1 << 20)

    def answer(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        say(handler, b"", headers={"connection": "close"})
        while True:
            handler.wfile.write(b" " * 65536)

    with serving(answer) as place, pytest.raises(Unusable, match="larger than 1 MiB"):
        rpc.Rpc(f"http://{place}").call("eth_chainId")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (result("0x1", id_=7), "without an answer"),
        (result("0x1", id_="1"), "must be an integer"),
        (b"[]", "must be an object"),
        (b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"\\u001b[2Jno"}}', "refuses request"),
        (b'{"id":1,"error":"no"}', "must be an object"),
        (b"\xff", "UTF-8"),
        (b"", "not JSON"),
    ],
)
def test_an_answer_that_is_none_is_refused(data: bytes, says: str) -> None:
    with serving(lambda handler, _: say(handler, data)) as place, pytest.raises(Unusable, match=says) as caught:
        rpc.Rpc(f"http://{place}").call("eth_chainId")
    assert str(caught.value).isprintable()


def test_a_batch_may_be_answered_in_any_order() -> None:
    def answer(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        calls = json.loads(body)
        told = [json.loads(result(call["params"][0], id_=call["id"])) for call in reversed(calls)]
        say(handler, json.dumps(told).encode())

    with serving(answer) as place:
        found = rpc.Rpc(f"http://{place}").batch([("echo", [hex(n)]) for n in range(rpc.BATCH * 2 + 5)])
    assert [one.quantity() for one in found] == list(range(rpc.BATCH * 2 + 5))


def test_a_batch_answered_in_part_names_the_method_without_an_answer() -> None:
    def answer(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        first = json.loads(body)[0]
        say(handler, json.dumps([{"id": first["id"], "result": "0x0"}]).encode())

    with serving(answer) as place, pytest.raises(Unusable, match="eth_b without an answer"):
        rpc.Rpc(f"http://{place}").batch([("eth_a", []), ("eth_b", [])])
