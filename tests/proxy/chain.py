"""A small real chain for the lying node to lie about: a contract that emits two logs a call."""

from __future__ import annotations

from typing import Any

import aiohttp

from devnet import anvil

Json = Any

BLOCKS = 10
CALLS = 3
LOGS_PER_BLOCK = 2 * CALLS

# The calldata is emitted twice: LOG2(0xaa, caller) and LOG1(0xbb).
_RUNTIME = "365f5f37" + "3360aa365fa2" + "60bb365fa1" + "00"
_SIZE = f"{len(_RUNTIME) // 2:02x}"
_CREATION = "0x60" + _SIZE + "600a5f3960" + _SIZE + "5ff3" + _RUNTIME


class Chain:
    """An Anvil with `BLOCKS` blocks of `LOGS_PER_BLOCK` logs each, from block 2 on."""

    def __init__(self, node: anvil.Anvil, session: aiohttp.ClientSession) -> None:
        self.node = node
        self.url = node.url
        self.ws_url = node.ws_url
        self.address = ""
        self._session = session
        self._accounts: list[str] = []
        self._count = 0

    async def set_up(self) -> None:
        self._accounts = await self.call("eth_accounts")
        creation = await self.call(
            "eth_sendTransaction", {"from": self._accounts[0], "data": _CREATION, "gas": "0x186a0"}
        )
        await self.call("evm_mine")
        self.address = (await self.call("eth_getTransactionReceipt", creation))["contractAddress"]
        for _ in range(BLOCKS):
            await self.mine()

    async def call(self, method: str, *params: Json, url: str = "") -> Json:
        answer = await self.ask(method, *params, url=url)
        assert "error" not in answer, answer
        return answer["result"]

    async def ask(self, method: str, *params: Json, url: str = "") -> Json:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        async with self._session.post(url or self.url, json=body) as response:
            return await response.json(content_type=None)

    async def raw(self, body: bytes, *, url: str = "") -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json"}
        async with self._session.post(url or self.url, data=body, headers=headers) as response:
            return response.status, await response.read()

    async def mine(self, calls: int = CALLS) -> None:
        """One block with `calls` calls."""
        for at in range(calls):
            self._count += 1
            data = f"0x{self._count:064x}"
            tx = {"from": self._accounts[at], "to": self.address, "data": data, "gas": "0x186a0"}
            await self.call("eth_sendTransaction", tx)
        await self.call("evm_mine")

    async def head(self, url: str = "") -> int:
        return int(await self.call("eth_blockNumber", url=url), 16)

    async def logs(self, first: int = 0, last: int | str = "latest", *, url: str = "") -> list[Json]:
        return await self.call("eth_getLogs", self.filter(first, last), url=url)

    def filter(self, first: int = 0, last: int | str = "latest") -> dict[str, Json]:
        end = last if isinstance(last, str) else hex(last)
        return {"address": self.address, "fromBlock": hex(first), "toBlock": end}

    async def block(self, which: int | str, url: str = "") -> Json:
        return await self.call("eth_getBlockByNumber", which if isinstance(which, str) else hex(which), False, url=url)

    async def receipts(self, which: int | str, url: str = "") -> list[Json]:
        return await self.call("eth_getBlockReceipts", which if isinstance(which, str) else hex(which), url=url)
