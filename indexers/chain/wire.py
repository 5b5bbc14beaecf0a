"""What nodes answer, as they spell it. In: JSON of the execution APIs. Out: values of `domain.chain`, every number bounded.

The structs keep the specification's camelCase names because they are the specification's; nothing else uses them.
"""

from __future__ import annotations

import msgspec

from domain import chain, errors, hashing

U64 = 64
"""Heights, indexes, gas and times: no chain needs more, and both databases hold them as integers."""

MAX_HEIGHT = (1 << 63) - 1
"""SQLite's and PostgreSQL's widest integer."""


class Block(msgspec.Struct, frozen=True):
    """`eth_getBlockBy…` without transaction bodies. Null hash or number: a pending block, which is never asked for."""

    hash: str
    number: str
    parentHash: str
    timestamp: str
    stateRoot: str
    receiptsRoot: str
    logsBloom: str
    sha3Uncles: str | None = None
    miner: str | None = None
    transactionsRoot: str | None = None
    difficulty: str | None = None
    gasLimit: str | None = None
    gasUsed: str | None = None
    extraData: str | None = None
    mixHash: str | None = None
    nonce: str | None = None
    baseFeePerGas: str | None = None
    withdrawalsRoot: str | None = None
    blobGasUsed: str | None = None
    excessBlobGas: str | None = None
    parentBeaconBlockRoot: str | None = None
    requestsHash: str | None = None


class Log(msgspec.Struct, frozen=True):
    """One entry of `eth_getLogs` or of a receipt."""

    address: str
    topics: list[str]
    data: str
    blockNumber: str
    blockHash: str
    transactionHash: str
    transactionIndex: str
    logIndex: str
    removed: bool = False


class Receipt(msgspec.Struct, frozen=True):
    """One entry of `eth_getBlockReceipts`."""

    transactionHash: str
    transactionIndex: str
    cumulativeGasUsed: str
    logsBloom: str
    logs: list[Log]
    type: str | None = None
    status: str | None = None
    root: str | None = None


def number(text: object, what: str, *, bits: int = U64) -> int:
    """A QUANTITY: 0x, hex digits, within `bits`. Leading zeros are tolerated, signs, spaces and underscores are not."""
    if not isinstance(text, str) or not text.startswith("0x") or not 3 <= len(text) <= 66:
        raise errors.BadAnswer(f"{what} is not a 0x-hex number", value=text)
    digits = text[2:]
    if not digits.isalnum() or not digits.isascii():
        raise errors.BadAnswer(f"{what} is not a 0x-hex number", value=text)
    try:
        value = int(digits, 16)
    except ValueError:
        raise errors.BadAnswer(f"{what} is not a 0x-hex number", value=text) from None
    if value >> bits:
        raise errors.BadAnswer(f"{what} does not fit {bits} bits", value=text)
    return value


def height(text: object, what: str) -> int:
    """A number that a database column can hold."""
    value = number(text, what)
    if value > MAX_HEIGHT:
        raise errors.BadAnswer(f"{what} is beyond any chain", value=text)
    return value


def word(text: object, what: str) -> bytes:
    return hashing.unhex(text, size=32, what=what)


def header(block: Block) -> chain.Header:
    """The header as it was answered; `proof.header` is the same with the hash recomputed."""
    return chain.Header(
        number=height(block.number, "block number"),
        hash=word(block.hash, "block hash"),
        parent=word(block.parentHash, "parent hash"),
        time=height(block.timestamp, "timestamp"),
        state_root=word(block.stateRoot, "state root"),
        receipts_root=word(block.receiptsRoot, "receipts root"),
        bloom=hashing.unhex(block.logsBloom, size=256, what="logsBloom"),
    )


def log(raw: Log) -> chain.Log:
    """Raises BadAnswer for a malformed or a retracted log: a query by block never returns one."""
    if raw.removed:
        raise errors.BadAnswer("the node answered with a removed log", value=raw.blockHash)
    if len(raw.topics) > 4:
        raise errors.BadAnswer("a log has more than four topics", value=len(raw.topics))
    return chain.Log(
        block=chain.BlockRef(height(raw.blockNumber, "block number"), word(raw.blockHash, "block hash")),
        log_index=height(raw.logIndex, "log index"),
        tx_hash=word(raw.transactionHash, "transaction hash"),
        tx_index=height(raw.transactionIndex, "transaction index"),
        address=hashing.unhex(raw.address, size=20, what="address"),
        topics=tuple(word(topic, "topic") for topic in raw.topics),
        data=hashing.unhex(raw.data, what="data"),
    )


def quantity(value: int) -> str:
    """A number as the specification wants it in parameters."""
    return hex(value)
