"""A small JSON-RPC client for the devnet's own play and ground truth. In: method calls. Out: plain JSON values.

It shares nothing with the client the indexer reads through: a mistake there must not hide itself from the ground truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import aiohttp
import msgspec

from domain import errors

BATCH = 400
"""Calls a request: Anvil answers a batch in order on one task, so larger ones only delay the first answer."""
TIMEOUT_S = 60

Call = tuple[str, list[Any]]


class _Reply(msgspec.Struct):
    id: int
    result: Any = None
    error: dict[str, Any] | None = None


class Rpc:
    """One endpoint. `async with Rpc(url) as rpc: await rpc.call("eth_chainId")`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def call(self, method: str, *params: Any) -> Any:
        """One call. Raises Transient when the node cannot be reached, BadAnswer with the node's own words when it refuses."""
        return (await self.batch([(method, list(params))]))[0]

    async def batch(self, calls: Sequence[Call]) -> list[Any]:
        """Many calls, answers in the order asked. The first refusal raises BadAnswer."""
        answers: list[Any] = []
        for start in range(0, len(calls), BATCH):
            part = calls[start : start + BATCH]
            replies = await self._post(part)
            for (method, _), reply in zip(part, replies, strict=True):
                if reply.error is not None:
                    raise errors.BadAnswer(
                        f"the node refused {method}: {reply.error.get('message')}", value=reply.error
                    )
                answers.append(reply.result)
        return answers

    async def _post(self, calls: Sequence[Call]) -> list[_Reply]:
        if self._session is None:
            raise RuntimeError("the client is used outside its `async with`")
        body = msgspec.json.encode(
            [
                {"jsonrpc": "2.0", "id": i, "method": method, "params": params}
                for i, (method, params) in enumerate(calls)
            ]
        )
        headers = {"content-type": "application/json"}
        try:
            async with self._session.post(self.url, data=body, headers=headers) as response:
                text = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise errors.Transient(f"the node at {self.url} does not answer: {error}") from error
        try:
            replies = msgspec.json.decode(text, type=list[_Reply])
        except msgspec.MsgspecError as error:
            raise errors.BadAnswer(
                f"the node at {self.url} answered no JSON-RPC batch: {error}", value=text[:200]
            ) from error
        replies.sort(key=lambda reply: reply.id)
        if [reply.id for reply in replies] != list(range(len(calls))):
            raise errors.BadAnswer("the node answered another number of calls", value=len(replies))
        return replies
