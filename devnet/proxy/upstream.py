"""The honest node behind the lying one. In: raw bodies or calls. Out: its answers, as bytes or parsed.

`views` asks it what a block number or hash means before bending a call.
"""

from __future__ import annotations

from typing import Any, cast

import aiohttp
import msgspec

from domain import errors

Json = Any


class Call(msgspec.Struct):
    """One JSON-RPC request as it came in; `params` may be rewritten, everything else goes through as it is."""

    method: str
    id: msgspec.Raw = msgspec.Raw(b"null")
    params: list[Json] | dict[str, Json] = msgspec.field(default_factory=list[Json])
    jsonrpc: str = "2.0"

    def argument(self, at: int) -> Json:
        """A positional parameter, None where there is none."""
        return self.params[at] if isinstance(self.params, list) and at < len(self.params) else None


class Envelope(msgspec.Struct, omit_defaults=True):
    """One JSON-RPC answer. `result` and `error` stay the upstream's own bytes unless a fault replaces them."""

    jsonrpc: str
    id: msgspec.Raw
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET

    def parsed(self) -> Json:
        return None if self.result is msgspec.UNSET else msgspec.json.decode(self.result)


class Answer(msgspec.Struct, frozen=True):
    """What the lying node says by itself, without asking."""

    result: Json = None
    error: Json = None


class Reply(msgspec.Struct, frozen=True):
    """A whole HTTP answer."""

    status: int
    content_type: str
    body: bytes


def as_object(value: Json) -> dict[str, Json] | None:
    return cast(dict[str, Json], value) if isinstance(value, dict) else None


def as_list(value: Json) -> list[Json] | None:
    return cast(list[Json], value) if isinstance(value, list) else None


def envelope(call: Call, answer: Answer) -> Envelope:
    if answer.error is not None:
        return Envelope("2.0", call.id, error=msgspec.Raw(msgspec.json.encode(answer.error)))
    return Envelope("2.0", call.id, result=msgspec.Raw(msgspec.json.encode(answer.result)))


class Upstream:
    """JSON-RPC over HTTP to one node."""

    def __init__(self, session: aiohttp.ClientSession, url: str, *, timeout_s: float = 60) -> None:
        self._session = session
        self.url = url
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)

    async def forward(self, body: bytes) -> Reply:
        """Raises aiohttp.ClientError or TimeoutError when the node is not there."""
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        async with self._session.post(self.url, data=body, headers=headers, timeout=self._timeout) as answer:
            return Reply(answer.status, answer.content_type, await answer.read())

    async def call(self, method: str, *params: Json) -> Json:
        """One call of our own. Raises Transient with the node's words."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        reply = await self.forward(msgspec.json.encode(body))
        parsed: dict[str, Json] = msgspec.json.decode(reply.body)
        if "error" in parsed:
            raise errors.Transient(f"{method} failed upstream", value=parsed["error"])
        return parsed["result"]

    async def head(self) -> int:
        return int(await self.call("eth_blockNumber"), 16)

    async def number_of(self, which: Json) -> int | None:
        """The number of a block given as number, tag, hash or EIP-1898 object; None when the node has no such block."""
        named = as_object(which)
        if named is not None:
            which = named.get("blockHash") or named.get("blockNumber")
        text = str(which or "latest")
        if len(text) == 66:
            block = await self.call("eth_getBlockByHash", text, False)
        elif text.startswith("0x"):
            return int(text, 16)
        elif text == "earliest":
            return 0
        else:
            block = await self.call("eth_getBlockByNumber", text, False)
        return None if block is None else int(block["number"], 16)
