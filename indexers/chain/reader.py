"""Typed reads of one execution node. In: heights, hashes, filters. Out: `domain.chain` values, or one typed error.

Whatever belongs to one block is asked for by hash or checked against the hash, so a reorg between two calls shows as a missing
block and never as a mixture. With `recompute` every header's hash is computed from its fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from domain import chain, errors, hashing
from indexers.chain import proof, wire
from kit import jsonrpc


class Filter(msgspec.Struct, frozen=True):
    """Which logs: emitted by any of `addresses` with any of `topics` first (empty: any)."""

    addresses: tuple[bytes, ...]
    topics: tuple[bytes, ...] = ()

    def to_params(self) -> dict[str, Any]:
        params: dict[str, Any] = {"address": [hashing.hex0x(address) for address in self.addresses]}
        if self.topics:
            params["topics"] = [[hashing.hex0x(topic) for topic in self.topics]]
        return params

    def admits(self, log: chain.Log) -> bool:
        return log.address in self.addresses and (
            not self.topics or (bool(log.topics) and log.topics[0] in self.topics)
        )


class Tip(msgspec.Struct, frozen=True):
    """One look at the node, all in one exchange. `finalized` is None where the chain has no such tag."""

    chain_id: int
    genesis: bytes
    head: chain.Header
    finalized: chain.Header | None


class Reader:
    """Reads through one endpoint."""

    def __init__(self, endpoint: jsonrpc.Endpoint, *, recompute: bool = True, finality_tag: bool = True) -> None:
        self.endpoint = endpoint
        self.recompute = recompute
        self._finality_tag = finality_tag

    async def chain_id(self) -> int:
        return wire.number(await self.endpoint.call("eth_chainId", [], str), "chain id")

    async def genesis(self) -> bytes:
        """Hash of block 0."""
        return (await self.header_at(0)).hash

    async def tip(self) -> Tip:
        """Chain id, genesis, head and finalized head from one node at one moment."""
        calls: list[jsonrpc.Call] = [
            ("eth_chainId", []),
            ("eth_getBlockByNumber", ["0x0", False]),
            ("eth_getBlockByNumber", ["latest", False]),
        ]
        if self._finality_tag:
            calls.append(("eth_getBlockByNumber", ["finalized", False]))
        answers = await self.endpoint.batch(calls, msgspec.Raw)
        chain_id = wire.number(_json(answers[0], str, "eth_chainId"), "chain id")
        # Genesis is compared with the configured hash, not proven: a foreign one is another chain rather than a lie.
        blocks = [self._header(answers[1], recompute=False), *(self._header(raw) for raw in answers[2:])]
        if blocks[0] is None or blocks[1] is None:
            raise errors.Transient(f"{self.endpoint.name} has no head yet", cure="wait until the node has synchronised")
        if blocks[0].number != 0:
            raise errors.BadAnswer("the node answered block 0 with another block", value=blocks[0].number)
        finalized = blocks[2] if self._finality_tag else None
        return Tip(chain_id=chain_id, genesis=blocks[0].hash, head=blocks[1], finalized=finalized)

    async def finalized(self) -> chain.Header:
        """The node's finalized block; genesis where it has none yet."""
        for tag in ("finalized", "0x0"):
            header = self._header(await self.endpoint.call("eth_getBlockByNumber", [tag, False], msgspec.Raw, what=tag))
            if header is not None:
                return header
        raise self._unknown("block 0")

    async def header_at(self, number: int) -> chain.Header:
        """The canonical header at a height, as this node sees it now. Raises UnknownBlock when it has none."""
        return (await self.headers_at([number]))[0]

    async def headers_at(self, numbers: Sequence[int]) -> list[chain.Header]:
        """Headers at heights, in their order, in as few exchanges as the node tolerates. Not linked to each other by this."""
        calls: list[jsonrpc.Call] = [("eth_getBlockByNumber", [wire.quantity(n), False]) for n in numbers]
        found: list[chain.Header] = []
        for number, raw in zip(numbers, await self.endpoint.batch(calls, msgspec.Raw), strict=True):
            header = self._header(raw)
            if header is None:
                raise self._unknown(f"block {number}")
            if header.number != number:
                raise errors.BadAnswer(
                    f"{self.endpoint.name} answered block {number} with another", value=header.number
                )
            found.append(header)
        return found

    async def header_by_hash(self, block_hash: bytes) -> chain.Header | None:
        """None when the node does not have it (any more)."""
        text = hashing.hex0x(block_hash)
        raw = await self.endpoint.call("eth_getBlockByHash", [text, False], msgspec.Raw, what=text)
        header = self._header(raw)
        if header is not None and header.hash != block_hash:
            raise errors.BadAnswer(
                f"{self.endpoint.name} answered a block hash with another block", value=str(header.ref)
            )
        return header

    async def logs_in(self, filter_: Filter, *, first: int, last: int) -> tuple[list[chain.Log], chain.Header]:
        """Logs of a range, ascending, with the header of its last block from the same exchange.

        A node that lacks `last` is refused (UnknownBlock): some clamp the range and answer what they have. Order, bounds
        and filter are checked, and that one height has one block hash.
        """
        params = filter_.to_params() | {"fromBlock": wire.quantity(first), "toBlock": wire.quantity(last)}
        calls: list[jsonrpc.Call] = [("eth_getBlockByNumber", [wire.quantity(last), False]), ("eth_getLogs", [params])]
        raw_header, raw_logs = await self.endpoint.batch(calls, msgspec.Raw)
        header = self._header(raw_header)
        if header is None or header.number != last:
            raise self._unknown(f"block {last}")
        logs = self._logs(raw_logs, filter_, f"{first} to {last}")
        hashes: dict[int, bytes] = {last: header.hash}
        for log in logs:
            if not first <= log.block.number <= last:
                raise errors.BadAnswer(f"a log lies outside the range {first} to {last}", value=str(log.block))
            if hashes.setdefault(log.block.number, log.block.hash) != log.block.hash:
                raise errors.BadAnswer("logs of one height name two blocks", value=str(log.block))
        return logs, header

    async def logs_of(self, filter_: Filter, heads: Sequence[chain.BlockRef]) -> list[list[chain.Log]]:
        """Logs of each block, asked for by its hash: a block that was replaced meanwhile is UnknownBlock, not somebody else's logs."""
        calls: list[jsonrpc.Call] = [
            ("eth_getLogs", [filter_.to_params() | {"blockHash": hashing.hex0x(ref.hash)}]) for ref in heads
        ]
        answers = await self.endpoint.batch(calls, msgspec.Raw)
        found: list[list[chain.Log]] = []
        for ref, raw in zip(heads, answers, strict=True):
            logs = self._logs(raw, filter_, f"block {ref}")
            for log in logs:
                if log.block != ref:
                    raise errors.BadAnswer(f"logs of block {ref} name another block", value=str(log.block))
            found.append(logs)
        return found

    async def receipts_of(self, ref: chain.BlockRef) -> list[wire.Receipt] | None:
        """All receipts of a block, by hash, unproven; None when the node has none for it."""
        text = hashing.hex0x(ref.hash)
        raw = await self.endpoint.call("eth_getBlockReceipts", [text], msgspec.Raw, what=str(ref))
        return _json(raw, list[wire.Receipt], "eth_getBlockReceipts") if not _is_null(raw) else None

    def _header(self, raw: msgspec.Raw, *, recompute: bool = True) -> chain.Header | None:
        if _is_null(raw):
            return None
        block = _json(raw, wire.Block, "a block")
        if not (self.recompute and recompute):
            return wire.header(block)
        try:
            return proof.header(block)
        except errors.BadAnswer:
            unknown = proof.unknown_fields(_json(raw, dict[str, msgspec.Raw], "a block"))
            if unknown:
                raise errors.BadAnswer(
                    "a header has fields that this version cannot hash",
                    value=", ".join(unknown)[:120],
                    cure="upgrade stakeside, or run this protocol at proof level node",
                ) from None
            raise

    def _logs(self, raw: msgspec.Raw, filter_: Filter, what: str) -> list[chain.Log]:
        if _is_null(raw):
            raise errors.BadAnswer(f"{self.endpoint.name} answered eth_getLogs of {what} with null")
        logs = [wire.log(entry) for entry in _json(raw, list[wire.Log], "eth_getLogs")]
        last = (-1, -1)
        for log in logs:
            place = (log.block.number, log.log_index)
            if place <= last:
                raise errors.BadAnswer(f"the logs of {what} are out of order or repeated", value=place)
            if not filter_.admits(log):
                raise errors.BadAnswer(f"the logs of {what} hold one that the filter excludes", value=place)
            last = place
        return logs

    def _unknown(self, what: str) -> jsonrpc.UnknownBlock:
        return jsonrpc.UnknownBlock(f"{self.endpoint.name} does not have {what}", code=0, text="null")


def _is_null(raw: msgspec.Raw) -> bool:
    return jsonrpc.head(raw, 4) == b"null"


def _json(raw: msgspec.Raw, type_: type[Any], what: str) -> Any:
    try:
        return jsonrpc.decoder_for(type_).decode(raw)
    except jsonrpc.UNDECODABLE as error:
        raise errors.BadAnswer(
            f"{what} has the wrong shape: {errors.clip(str(error), 120)}", value=jsonrpc.head(raw, 80)
        ) from None
