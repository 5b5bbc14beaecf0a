"""How nodes and providers say no. In: a style and the numbers of the case. Out: a JSON-RPC error object.

Codes and texts follow what clients and providers send (see the range-error tables of public indexers and
EIP-4444's code 4444); range limits keep the numbers a client may parse out of them.
"""

from __future__ import annotations

from typing import Any

_RANGE: dict[str, tuple[int, str]] = {
    "infura": (-32005, "query exceeds block range {limit}. Try with this block range [{first}, {fits}]."),
    "alchemy": (
        -32600,
        "eth_getLogs requests take up to a {limit} block range. This block range should work: [{first}, {fits}]",
    ),
    "quicknode": (-32614, "eth_getLogs is limited to a {limit} range"),
    "ankr": (-32600, "block range is too wide"),
    "cloudflare": (-32047, "Invalid eth_getLogs request. 'fromBlock'-'toBlock' range too large. Max range: {limit}"),
    "blockpi": (-32602, "eth_getLogs is limited to {limit} block range"),
    "publicnode": (-32701, "exceed maximum block range: {limit}"),
    "coinbase": (-32602, "please limit the query to at most {limit} blocks"),
    "reth": (-32602, "query exceeds max block range {limit}"),
    "vague": (-32000, "Block range is too large"),
}

_SIZE: dict[str, tuple[int, str]] = {
    "infura": (-32005, "query returned more than {limit} results. Try with this block range [{first}, {fits}]."),
    "alchemy": (
        -32602,
        "Log response size exceeded: {limit} logs at most. This block range should work: [{first}, {fits}]",
    ),
    "ankr": (-32005, "query exceeds max results {limit}"),
    "reth": (-32602, "query exceeds max results {limit}, retry with the range {first_plain}-{fits_plain}"),
    "arbitrum": (-32000, "logs matched by query exceeds limit of {limit}"),
    "vague": (-32020, "backend response too large"),
}

_PRUNED: dict[str, tuple[int, str]] = {
    "geth": (4444, "pruned history unavailable"),
    "reth": (4444, "pruned history unavailable"),
    "nethermind": (4444, "Pruned history unavailable"),
    "erigon": (
        -32000,
        "old data not available due to pruning: requested block {block}, history is available from block {limit}",
    ),
    "trie": (-32000, "missing trie node {noise} (path ) state 0x{noise} is not available, not found"),
}

_STATE: dict[str, tuple[int, str]] = {
    "geth": (-32000, "missing trie node {noise} (path ) state 0x{noise} is not available, not found"),
    "reth": (-32000, "state at block #{block} is pruned"),
    "nethermind": (-32002, "No state available for block {block}"),
    "erigon": _PRUNED["erigon"],
}

STYLES = {"refuse-range": tuple(_RANGE), "refuse-size": tuple(_SIZE), "pruned": (*_PRUNED, "silent")}


def range_too_wide(style: str, *, first: int, limit: int) -> dict[str, Any]:
    return _say(_RANGE[style], first=first, limit=limit, fits=first + limit - 1)


def too_many_logs(style: str, *, first: int, last: int, limit: int) -> dict[str, Any]:
    return _say(_SIZE[style], first=first, limit=limit, fits=first + (last - first) // 2)


def history_gone(style: str, *, block: int, limit: int) -> dict[str, Any]:
    return _say(_PRUNED[style], block=block, limit=limit)


def state_gone(style: str, *, block: int, limit: int) -> dict[str, Any]:
    return _say(_STATE.get(style, _STATE["geth"]), block=block, limit=limit)


def _say(said: tuple[int, str], *, first: int = 0, fits: int = 0, block: int = 0, limit: int = 0) -> dict[str, Any]:
    code, text = said
    spans = {"first": hex(first), "fits": hex(fits), "first_plain": first, "fits_plain": fits}
    return {"code": code, "message": text.format(**spans, block=block, limit=limit, noise=f"{block:064x}")}
