"""Faults that bend a call before it is forwarded: lag, clamped and refused ranges, pruned history.

In: a call and a shot. Out: an `Answer` given without asking, the call to forward instead, or None when the fault does not apply.
"""

from __future__ import annotations

from typing import Any

import msgspec

from devnet.proxy import armed, upstream, wordings

Json = Any
Bent = upstream.Answer | upstream.Call | None

_BLOCK_ARGUMENT = {
    "eth_getBlockByNumber": 0, "eth_getBlockByHash": 0, "eth_getBlockReceipts": 0, "eth_getBlockTransactionCountByNumber": 0,
    "eth_call": 1, "eth_getBalance": 1, "eth_getCode": 1, "eth_getTransactionCount": 1, "eth_getStorageAt": 2, "eth_getProof": 2,
}  # fmt: skip
_STATE_METHODS = (
    "eth_call",
    "eth_getBalance",
    "eth_getCode",
    "eth_getTransactionCount",
    "eth_getStorageAt",
    "eth_getProof",
)
_UNKNOWN = {"code": -32000, "message": "unknown block"}
_NO_HEADER = {"code": -32000, "message": "header not found"}
_BEYOND = {"code": -32602, "message": "block range extends beyond current head block"}


async def bend(shot: armed.Shot, call: upstream.Call, node: upstream.Upstream) -> Bent:
    match shot.fault.name:
        case "empty":
            return upstream.Answer(result=[])
        case "null":
            return upstream.Answer(result=None)
        case "error":
            return upstream.Answer(error={"code": shot.fault.integer("code"), "message": shot.fault.text("message")})
        case "clamp-range":
            return await _clamp(call, node, await node.head() - shot.fault.integer("k"))
        case "refuse-range":
            return await _refuse(shot, call, node)
        case "lag" | "head-back":
            seen = max(0, await node.head() - shot.fault.integer("k"))
            return await lag(call, node, seen=seen, strict=shot.fault.text("beyond") == "error")
        case "pruned":
            return await _pruned(shot, call, node)
        case _:
            return None


async def lag(call: upstream.Call, node: upstream.Upstream, *, seen: int, strict: bool) -> Bent:
    """The call as a node would answer it whose head is `seen`. Not `strict`: log ranges past the head are cut, silently."""
    if call.method == "eth_blockNumber":
        return upstream.Answer(result=hex(seen))
    if call.method == "eth_getLogs":
        query = _query(call)
        if query is None:
            return None
        if "blockHash" in query:
            number = await node.number_of(query["blockHash"])
            if number is None or number <= seen:
                return None
            return upstream.Answer(error=_UNKNOWN) if strict else upstream.Answer(result=[])
        last = await node.number_of(query.get("toBlock"))
        named = str(query.get("toBlock", "latest")).startswith("0x")
        if strict and named and last is not None and last > seen:
            return upstream.Answer(error=_BEYOND)
        return await _clamp(call, node, seen)
    if call.method in ("eth_getTransactionReceipt", "eth_getTransactionByHash"):
        found = await node.call(call.method, *call.params)
        block = found and found.get("blockNumber")
        return upstream.Answer(result=None) if block is not None and int(block, 16) > seen else None
    at = _BLOCK_ARGUMENT.get(call.method)
    if at is None or not isinstance(call.params, list):
        return None
    which = call.argument(at) or "latest"
    number = await node.number_of(which)
    if number is None or number <= seen:
        return None
    if which in ("latest", "pending", "safe", "finalized"):
        return msgspec.structs.replace(call, params=[*call.params[:at], hex(seen), *call.params[at + 1 :]])
    return upstream.Answer(error=_NO_HEADER) if call.method in _STATE_METHODS else upstream.Answer(result=None)


async def _clamp(call: upstream.Call, node: upstream.Upstream, end: int) -> Bent:
    span = await log_range(call, node)
    if span is None or (span[1] <= end and not _open(call)):
        return None
    first, last = span
    if first > end:
        return upstream.Answer(result=[])
    if last <= end:
        return None
    query = {**(_query(call) or {}), "fromBlock": hex(first), "toBlock": hex(end)}
    return msgspec.structs.replace(call, params=[query])


async def _refuse(shot: armed.Shot, call: upstream.Call, node: upstream.Upstream) -> Bent:
    span = await log_range(call, node)
    limit = shot.fault.integer("blocks")
    if span is None or span[1] - span[0] + 1 <= limit:
        return None
    return upstream.Answer(error=wordings.range_too_wide(shot.fault.text("style"), first=span[0], limit=limit))


async def _pruned(shot: armed.Shot, call: upstream.Call, node: upstream.Upstream) -> Bent:
    fault, style = shot.fault, shot.fault.text("style")
    limit = fault.integer("before") or await node.head() - fault.integer("keep")
    if call.method == "eth_getLogs":
        query = _query(call) or {}
        number = await node.number_of(query.get("blockHash") or query.get("fromBlock"))
        if number is None or number >= limit:
            return None
        if style == "silent":
            if "blockHash" in query or await node.number_of(query.get("toBlock")) is None:
                return upstream.Answer(result=[])
            return await _only_from(call, node, limit)
        return upstream.Answer(error=wordings.history_gone(style, block=number, limit=limit))
    at = _BLOCK_ARGUMENT.get(call.method)
    if at is None or call.argument(at) is None:
        return None
    number = await node.number_of(call.argument(at))
    if number is None or number >= limit:
        return None
    if call.method in _STATE_METHODS:
        return upstream.Answer(error=wordings.state_gone(style, block=number, limit=limit))
    if call.method == "eth_getBlockReceipts":
        kind = fault.text("receipts")
        if kind == "empty" or (kind == "same" and style == "silent"):
            return upstream.Answer(result=[])
        if kind == "null":
            return upstream.Answer(result=None)
        gone = "geth" if style == "silent" else style
        return upstream.Answer(error=wordings.history_gone(gone, block=number, limit=limit))
    return upstream.Answer(result=None) if fault.text("headers") == "null" and number > 0 else None


async def _only_from(call: upstream.Call, node: upstream.Upstream, limit: int) -> Bent:
    span = await log_range(call, node)
    if span is None or span[1] < limit:
        return upstream.Answer(result=[])
    return msgspec.structs.replace(call, params=[{**(_query(call) or {}), "fromBlock": hex(limit)}])


async def log_range(call: upstream.Call, node: upstream.Upstream) -> tuple[int, int] | None:
    """First and last block of an eth_getLogs by range, tags resolved; None for one by block hash."""
    query = _query(call)
    if query is None or "blockHash" in query:
        return None
    first, last = await node.number_of(query.get("fromBlock")), await node.number_of(query.get("toBlock"))
    return None if first is None or last is None else (first, last)


def _query(call: upstream.Call) -> dict[str, Json] | None:
    return upstream.as_object(call.argument(0)) if call.method == "eth_getLogs" else None


def _open(call: upstream.Call) -> bool:
    return not str((_query(call) or {}).get("toBlock", "latest")).startswith("0x")
