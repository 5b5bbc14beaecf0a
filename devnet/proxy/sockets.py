"""One client's websocket, relayed. In: frames from both sides. Out: the same frames, or what a fault makes of them.

Subscriptions live on a websocket of our own to the upstream, one per client. Other calls are answered as over HTTP, so every HTTP
fault works here too; a fault that would close the HTTP connection closes the socket. Subscription messages count as calls of the
method `newHeads` or `logs`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Protocol

import aiohttp
import msgspec
from aiohttp import web

from devnet.proxy import armed, delivery, upstream
from domain import errors

Json = Any
_SUBSCRIPTION_CALLS = ("eth_subscribe", "eth_unsubscribe")


class Host(Protocol):
    """What a relay needs of the lying node."""

    session: aiohttp.ClientSession
    node: upstream.Upstream
    ws_upstream_url: str
    calls: Any

    async def respond(self, body: bytes) -> delivery.Outcome: ...
    def concerns(self, method: str) -> bool: ...
    def draw(self, method: str, stage: str) -> Iterator[armed.Shot]: ...
    def missed(self, shot: armed.Shot) -> None: ...
    async def lie_about(self, shot: armed.Shot, call: upstream.Call, result: Json) -> Json | None: ...
    async def genesis(self) -> tuple[str, str]: ...


class _Told(msgspec.Struct):
    result: Json
    subscription: str


class _Notice(msgspec.Struct):
    jsonrpc: str
    method: str
    params: _Told


class Relay:
    def __init__(self, host: Host, request: web.Request) -> None:
        self._host = host
        self._request = request
        self._client = web.WebSocketResponse(max_msg_size=0, autoping=True)
        self._silent = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> web.StreamResponse:
        try:
            far = await self._host.session.ws_connect(self._host.ws_upstream_url, max_msg_size=0)
        except aiohttp.ClientError as error:
            return web.Response(status=502, text=f"upstream: {error}")
        async with far:
            try:
                await self._client.prepare(self._request)
            except ConnectionError:  # the client left during the handshake
                return web.Response()
            down = asyncio.create_task(self._down(far))
            try:
                await self._up(far)
            finally:
                for task in (down, *self._tasks):
                    task.cancel()
                await asyncio.gather(down, *self._tasks, return_exceptions=True)
                await self._client.close()
        return self._client

    def cut(self) -> None:
        """As a dying node would: no close frame."""
        if self._request.transport is not None:
            self._request.transport.abort()

    async def _up(self, far: aiohttp.ClientWebSocketResponse) -> None:
        async for message in self._client:
            if message.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                continue
            body: bytes = message.data.encode() if isinstance(message.data, str) else message.data
            if await self._subscribed(body, far):
                continue
            task = asyncio.create_task(self._reply(body))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _subscribed(self, body: bytes, far: aiohttp.ClientWebSocketResponse) -> bool:
        """Whether this was about subscriptions, which only the socket itself can answer; only `error` by name touches it."""
        try:
            call = msgspec.json.decode(body, type=upstream.Call)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return False
        if call.method not in _SUBSCRIPTION_CALLS:
            return False
        self._host.calls[call.method] += 1
        for shot in self._host.draw(call.method, "request") if self._host.concerns(call.method) else ():
            if shot.fault.name == "error":
                refusal = {"code": shot.fault.integer("code"), "message": shot.fault.text("message")}
                answer = upstream.envelope(call, upstream.Answer(error=refusal))
                await self._send(msgspec.json.encode(answer).decode())
                return True
            self._host.missed(shot)
        await far.send_str(body.decode())
        return True

    async def _reply(self, body: bytes) -> None:
        try:
            outcome = await self._host.respond(body)
        except (aiohttp.ClientError, TimeoutError, errors.Transient):
            self.cut()
            return
        name = outcome.shot.fault.name if outcome.shot else ""
        if self._silent or self._client.closed:
            return
        if name in ("cut", "swallow"):
            self.cut()
            return
        text = delivery.halved(outcome.reply.body) if name == "truncate" else outcome.reply.body
        if outcome.shot and name == "huge":
            text = b" " * outcome.shot.fault.integer("bytes") + text
        await self._send(text.decode(errors="replace"))

    async def _down(self, far: aiohttp.ClientWebSocketResponse) -> None:
        async for message in far:
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue
            text: str = message.data
            try:
                notice = msgspec.json.decode(text, type=_Notice)
            except msgspec.MsgspecError:
                if not self._silent:
                    await self._send(text)
                continue
            await self._announce(notice, text)
        self.cut()

    async def _announce(self, notice: _Notice, text: str) -> None:
        method = _topic(notice.params.result)
        self._host.calls[method] += 1
        times = 1
        for shot in self._host.draw(method, "socket"):
            match shot.fault.name:
                case "ws-drop":
                    self.cut()
                    return
                case "ws-silent":
                    self._silent = True
                case "ws-skip":
                    times = 0
                case _:
                    times = 2
        if self._silent:
            return
        lied = await self._bent(method, notice.params.result)
        if lied is not None:
            notice.params.result = lied
            text = msgspec.json.encode(notice).decode()
        for _ in range(times):
            await self._send(text)

    async def _bent(self, method: str, result: Json) -> Json | None:
        lied: Json = None
        for shot in [*self._host.draw(method, "request"), *self._host.draw(method, "result")]:
            told = await self._told(shot, method, result if lied is None else lied)
            if told is None:
                self._host.missed(shot)
            else:
                lied = told
        return lied

    async def _told(self, shot: armed.Shot, method: str, result: Json) -> Json | None:
        match shot.fault.name:
            case "lag" | "head-back" if method == "newHeads":
                behind = max(0, int(result["number"], 16) - shot.fault.integer("k"))
                return await self._host.node.call("eth_getBlockByNumber", hex(behind), False)
            case "genesis":
                real, fake = await self._host.genesis()
                raw = msgspec.json.encode(result)
                lied = raw.replace(real.encode(), fake.encode())
                return None if lied == raw else msgspec.json.decode(lied)
            case "wrong-header" | "drop-logs" | "drop-all-logs" | "alter-logs":
                return await self._host.lie_about(shot, upstream.Call(method=method), result)
            case _:
                return None

    async def _send(self, text: str) -> None:
        try:
            await self._client.send_str(text)
        except (ConnectionResetError, RuntimeError):
            self.cut()


def _topic(result: Json) -> str:
    if isinstance(result, dict) and "parentHash" in result:
        return "newHeads"
    if isinstance(result, dict) and "topics" in result:
        return "logs"
    return "eth_subscription"
