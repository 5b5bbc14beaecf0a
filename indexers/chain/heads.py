"""New heads: a bell, not a source of truth. In: the node's websocket. Out: a ring whenever the head moved, or may have.

The index service polls anyway; a head announced here only wakes it earlier. So nothing is lost when the socket drops, stays silent or
lies: nodes announce no rollback, some never announce a removed log, and a half-open socket announces nothing at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import websockets
from websockets.asyncio import client

from domain import errors
from indexers.chain import wire
from kit import jsonrpc, runtime

STALL_S = 60.0
"""Without a new head for this long the socket is replaced. Five slots of Ethereum; slower chains set their own."""

WAIT_S = 1.0
"""Longest wait for a message in one step, and so what a shutdown may wait for it."""

MAX_MESSAGE = 1 << 20


class _Head(msgspec.Struct):
    number: str
    hash: str


class _Params(msgspec.Struct):
    subscription: str
    result: _Head


class _Message(msgspec.Struct):
    id: int | None = None
    result: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"")
    method: str = ""
    params: _Params | None = None


_decoder = msgspec.json.Decoder(_Message)


class HeadWatch:
    """A service: connected, one step waits for one message at most `WAIT_S`; otherwise it connects and subscribes.

    `on_head` is called for every announced head and after every (re)connection, when heads may have been missed. Only a head higher
    than all before, on the monotonic clock, counts as a sign of life: a node that repeats itself is as stuck as a silent one.
    """

    name = "heads"

    def __init__(
        self,
        url: str,
        on_head: Callable[[], None],
        *,
        clock: runtime.Clock,
        stall_s: float = STALL_S,
        open_timeout_s: float = 5.0,
        wait_s: float = WAIT_S,
    ) -> None:
        self.bell = runtime.Bell()
        self.connections = 0
        self.stalls = 0
        self.heads = 0
        self._url = url
        self._on_head = on_head
        self._clock = clock
        self._stall_s = stall_s
        self._open_timeout_s = open_timeout_s
        self._wait_s = min(wait_s, stall_s)
        self._socket: client.ClientConnection | None = None
        self._subscription = ""
        self._highest = -1
        self._alive_at = 0.0

    @property
    def connected(self) -> bool:
        return self._socket is not None

    async def step(self) -> float:
        if self._socket is None:
            self._socket = await self._connect()
            self.connections += 1
            self._alive_at = self._clock.monotonic()
            self._highest = -1  # a restarted or rolled-back node counts anew
            self._on_head()
            return 0.0
        try:
            async with asyncio.timeout(self._wait_s):
                data = await self._socket.recv(decode=False)
        except TimeoutError:
            await self._check_stall()
            return 0.0
        except websockets.ConnectionClosed:
            await self.close()
            self._on_head()
            raise errors.Transient("the node closed the websocket") from None
        self._received(data)
        await self._check_stall()
        return 0.0

    async def close(self) -> None:
        """Drop the socket; the next step opens another."""
        socket, self._socket = self._socket, None
        if socket is not None:
            socket.transport.abort()
            await socket.wait_closed()

    async def _connect(self) -> client.ClientConnection:
        socket: client.ClientConnection | None = None
        try:
            socket = await client.connect(
                self._url,
                open_timeout=self._open_timeout_s,
                max_size=MAX_MESSAGE,
                max_queue=16,
                ping_interval=20,
                proxy=None,
            )
            async with asyncio.timeout(self._open_timeout_s):
                await socket.send('{"jsonrpc":"2.0","id":1,"method":"eth_subscribe","params":["newHeads"]}')
                message = _parse(await socket.recv(decode=False))
                while message.id != 1:
                    message = _parse(await socket.recv(decode=False))
            self._subscription = jsonrpc.decoder_for(str).decode(message.result)
        except (OSError, TimeoutError, websockets.WebSocketException, *jsonrpc.UNDECODABLE) as error:
            if socket is not None:
                socket.transport.abort()
            raise errors.Transient(
                f"new heads cannot be subscribed to: {type(error).__name__}",
                cure="check the node's websocket address; polling goes on",
            ) from None
        return socket

    def _received(self, data: bytes) -> None:
        try:
            message = _parse(data)
        except jsonrpc.UNDECODABLE:
            raise errors.BadAnswer(
                "the node sent something over the websocket that is no head", value=data[:80]
            ) from None
        if message.params is None or message.params.subscription != self._subscription:
            return
        number = wire.height(message.params.result.number, "head number")
        self.heads += 1
        if number > self._highest:
            self._highest = number
            self._alive_at = self._clock.monotonic()
        self._on_head()

    async def _check_stall(self) -> None:
        if self._clock.monotonic() - self._alive_at < self._stall_s:
            return
        self.stalls += 1
        await self.close()
        self._on_head()


def _parse(data: bytes) -> _Message:
    return _decoder.decode(data)
