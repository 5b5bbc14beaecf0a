"""What became of a nonce, proven by one block. In: a block's hash that is known to be canonical. Out: its transactions and receipts as its
header commits to them, or why that cannot be shown.

The hash proves the header, `transactionsRoot` every transaction, byte for byte and in order, `receiptsRoot` every receipt. So a
transaction is found by the bytes that were signed, its outcome by its place, and whoever else used a nonce by their signature. The search for
a block needs no trust: what is found is proven.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from domain import chain, errors, hashing
from indexers.chain import proof, transactions, wire
from kit import jsonrpc

MAX_TRANSACTIONS = 20_000
"""In one block: no chain comes near, and a hostile answer must not keep us busy."""
MAX_LINKS = 2048
"""Headers between a height and the next block that the book keeps."""
LINKS = 128
"""Headers asked for at once."""


class Full(wire.Block, frozen=True):
    """`eth_getBlockBy…` with transaction bodies."""

    transactions: list[transactions.Wire] | None = None


class Unavailable(msgspec.Struct, frozen=True):
    """It cannot be shown now, or at all."""

    why: str


class Body(msgspec.Struct, frozen=True):
    """A block and all its transactions, in order."""

    header: chain.Header
    transactions: tuple[transactions.Transaction, ...]

    def place(self, raw: bytes) -> int | None:
        """Where exactly these signed bytes are."""
        return next((index for index, tx in enumerate(self.transactions) if tx.raw == raw), None)

    def sent(self, sender: bytes, nonce: int) -> tuple[int, transactions.Transaction] | None:
        """The transaction that used the account's nonce, and its place. A nonce that an EIP-7702 authorization used has none."""
        for index, tx in enumerate(self.transactions):
            if tx.nonce == nonce and _signed_by(tx, sender):
                return index, tx
        return None


class Search(msgspec.Struct, frozen=True):
    """For the height at which a nonce was used: at `high` it was, at `low` it was not. -1 is before the chain."""

    low: int
    high: int

    @property
    def found(self) -> bool:
        return self.high - self.low == 1


class Outcome(msgspec.Struct, frozen=True):
    """What the receipt at a place of a block says. `status` is 0 or 1."""

    index: int
    status: int
    gas_used: int
    logs: tuple[chain.Log, ...]


# --- pure ---


def body(block: Full, block_hash: bytes) -> Body | Unavailable:
    """Raises BadAnswer when header or transactions are not those of the hash."""
    header = proof.header(block)
    if header.hash != block_hash:
        raise errors.BadAnswer("the node answered a block hash with another block", value=str(header.ref))
    if block.transactions is None or block.transactionsRoot is None:
        raise errors.BadAnswer("a block has no transactions", value=str(header.ref))
    if len(block.transactions) > MAX_TRANSACTIONS:
        return Unavailable(f"block {header.ref} has {len(block.transactions)} transactions")
    found: list[transactions.Transaction] = []
    for raw in block.transactions:
        tx = transactions.read(raw)
        if isinstance(tx, transactions.Unknown):
            return Unavailable(
                f"block {header.ref} has a transaction of type {tx.kind}, which this version does not know"
            )
        found.append(tx)
    root = proof.ordered_root([tx.raw for tx in found])
    if root != wire.word(block.transactionsRoot, "transactionsRoot"):
        raise errors.BadAnswer(
            f"the transactions of block {header.ref} do not hash to its transactionsRoot", value=hashing.hex0x(root)
        )
    return Body(header, tuple(found))


def outcome(of: Body, index: int, receipts: Sequence[wire.Receipt]) -> Outcome:
    """Raises BadAnswer when the receipts are not those of the block."""
    if len(receipts) != len(of.transactions):
        raise errors.BadAnswer(f"block {of.header.ref} has another number of receipts", value=len(receipts))
    logs = proof.proven_logs(of.header, receipts)
    for tx, receipt in zip(of.transactions, receipts, strict=True):
        if wire.word(receipt.transactionHash, "transactionHash") != tx.hash:
            raise errors.BadAnswer(
                f"a receipt of block {of.header.ref} names another transaction", value=receipt.transactionHash
            )
    mine = receipts[index]
    if mine.status not in ("0x0", "0x1"):
        raise errors.BadAnswer("a receipt has no status", value=mine.status)
    before = wire.number(receipts[index - 1].cumulativeGasUsed, "cumulativeGasUsed") if index else 0
    used = wire.number(mine.cumulativeGasUsed, "cumulativeGasUsed") - before
    return Outcome(index, int(mine.status, 16), used, tuple(log for log in logs if log.tx_index == index))


def _signed_by(tx: transactions.Transaction, sender: bytes) -> bool:
    try:
        return tx.sender() == sender
    except errors.BadAnswer:
        return False  # not made by a key: a system's or a development node's


# --- asking ---


class Outcomes:
    """Asks one endpoint. Never raises for what a node says or does not say: that is Unavailable. What a large block costs to decode and to
    hash is spent in a thread."""

    def __init__(self, endpoint: jsonrpc.Endpoint, *, address: bytes) -> None:
        self._endpoint = endpoint
        self._account = hashing.hex0x(address)

    async def body(self, block_hash: bytes) -> Body | Unavailable:
        text = hashing.hex0x(block_hash)
        try:
            raw = await self._endpoint.call("eth_getBlockByHash", [text, True], msgspec.Raw, what=text)
            if _is_null(raw):
                return Unavailable(f"the node does not have block {text}")
            return await asyncio.to_thread(_body, raw, block_hash)
        except errors.StakesideError as error:
            return Unavailable(str(error))

    async def outcome(self, of: Body, raw: bytes) -> Outcome | Unavailable | None:
        """Of the transaction with these bytes; None when the block, all of which is known, does not hold it."""
        index = of.place(raw)
        if index is None:
            return None
        try:
            return await asyncio.to_thread(outcome, of, index, await self._receipts(of))
        except errors.StakesideError as error:
            return Unavailable(str(error))

    async def _receipts(self, of: Body) -> list[wire.Receipt]:
        """Of the whole block, or one by one where the node has no such method."""
        text = hashing.hex0x(of.header.hash)
        try:
            raw = await self._endpoint.call("eth_getBlockReceipts", [text], msgspec.Raw, what=text)
            if not _is_null(raw):
                return await asyncio.to_thread(_json, raw, list[wire.Receipt], "eth_getBlockReceipts")
        except (jsonrpc.RpcError, errors.HistoryUnavailable):
            pass
        calls: list[jsonrpc.Call] = [("eth_getTransactionReceipt", [hashing.hex0x(tx.hash)]) for tx in of.transactions]
        answers = await self._endpoint.batch(calls, msgspec.Raw)
        if any(_is_null(raw) for raw in answers):
            raise errors.HistoryUnavailable(f"the node lacks receipts of block {of.header.ref}")
        return [_json(raw, wire.Receipt, "a receipt") for raw in answers]

    async def link(self, number: int, kept: chain.BlockRef) -> chain.BlockRef | Unavailable:
        """The block at a height below another one, or one on the way there: by the parents of the headers between them, each of which proves
        itself. One exchange."""
        if not 0 <= kept.number - number <= MAX_LINKS:
            return Unavailable(f"the next block that the book keeps after {number} is {kept.number}: too far to link")
        expected = kept.hash
        part = range(kept.number, max(number, kept.number - LINKS), -1)
        calls: list[jsonrpc.Call] = [("eth_getBlockByNumber", [wire.quantity(n), False]) for n in part]
        try:
            for n, raw in zip(part, await self._endpoint.batch(calls, msgspec.Raw), strict=True):
                if _is_null(raw):
                    return Unavailable(f"the node does not have block {n}")
                header = proof.header(_json(raw, wire.Block, "a block"))
                if header.hash != expected or header.number != n:
                    return Unavailable(f"the node's block {n} is not the one that the book's block {kept} links to")
                expected = header.parent
        except errors.StakesideError as error:
            return Unavailable(str(error))
        return chain.BlockRef(kept.number - len(part), expected)

    async def search(self, nonce: int, *, free: int, last: int) -> Search | Unavailable | None:
        """Where to look for the height at which the account's count passes the nonce; None when it is not passed at `last`. At `free` the
        nonce is said to have been free; where it was not, all before it is searched. Nothing here is proven."""
        try:
            if await self._count(last) <= nonce:
                return None
        except errors.StakesideError as error:
            return Unavailable(str(error))
        return Search(-1, last) if not 0 < free < last else await self._cut(nonce, Search(-1, last), free)

    async def narrow(self, nonce: int, search: Search) -> Search | Unavailable:
        """Half of it, by one call."""
        return await self._cut(nonce, search, (search.low + search.high) // 2)

    async def _cut(self, nonce: int, search: Search, at: int) -> Search | Unavailable:
        """Heights whose state the node has dropped count as before it."""
        try:
            used = await self._count(at) > nonce
        except (errors.HistoryUnavailable, jsonrpc.RpcError):
            used = False
        except errors.StakesideError as error:
            return Unavailable(str(error))
        return Search(search.low, at) if used else Search(at, search.high)

    async def _count(self, number: int) -> int:
        text = await self._endpoint.call("eth_getTransactionCount", [self._account, wire.quantity(number)], str)
        return wire.height(text, "transaction count")


def _body(raw: msgspec.Raw, block_hash: bytes) -> Body | Unavailable:
    """Raises BadAnswer."""
    try:
        return body(_json(raw, Full, "a block"), block_hash)
    except errors.BadAnswer:
        names = _json(raw, dict[str, msgspec.Raw], "a block")
        if unknown := proof.unknown_fields(names):
            text, shown = hashing.hex0x(block_hash), errors.clip(", ".join(unknown), 120)
            return Unavailable(f"block {text} has fields that this version cannot hash: {shown}")
        raise


def _is_null(raw: msgspec.Raw) -> bool:
    return jsonrpc.head(raw, 4) == b"null"


def _json(raw: msgspec.Raw, type_: type[Any], what: str) -> Any:
    try:
        return jsonrpc.decoder_for(type_).decode(raw)
    except jsonrpc.UNDECODABLE as error:
        raise errors.BadAnswer(
            f"{what} has the wrong shape: {errors.clip(str(error), 120)}", value=jsonrpc.head(raw, 80)
        ) from None
