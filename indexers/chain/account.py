"""Typed reads of one account, and its sends. In: pinned blocks, hashes, raw transactions. Out: plain values, or one typed error.

Counts are read in the exchange that reads the head, so that they belong to one node at one moment. Receipts are hostile: each is compared
with the signed transaction it is for, and one that contradicts it is BadAnswer, as if nothing had been said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from domain import chain, errors, hashing, transaction
from indexers.chain import outcomes, proof, wire
from kit import jsonrpc, logs

T = TypeVar("T")

FEE_BLOCKS = 20
"""A few minutes of the market."""
MIDDLE = 50
"""The percentile of tips that is asked for."""
U256 = 256
FEE_BITS = 128
"""No fee comes near; a larger number is an answer that cannot be true."""


class Block(msgspec.Struct, frozen=True):
    """A header with what fees follow from, in wei."""

    header: chain.Header
    base_fee: int


class Standing(msgspec.Struct, frozen=True):
    """An account on its chain, at one moment of one node. Counts are of mined transactions, `pending` with the node's pool. `finalized` is
    the number of the block that `count_finalized` was asked at, None where nothing is final yet or the node has dropped that state.
    `balance` is in wei at `head`."""

    head: Block
    finalized: int | None
    count_latest: int
    count_pending: int
    count_finalized: int
    balance: int


class Fees(msgspec.Struct, frozen=True):
    """Wei per gas: the next block's base fee, and the tip in the middle of each of the last blocks (0: it was empty)."""

    base_fee_next: int
    tips: tuple[int, ...]


class Receipt(msgspec.Struct, frozen=True):
    """A receipt that agrees with the transaction that was signed. `status` is 0 or 1."""

    tx_hash: bytes
    block: chain.BlockRef
    tx_index: int
    status: int
    gas_used: int
    logs: tuple[chain.Log, ...]


class Sent(msgspec.Struct, frozen=True):
    """What a node said to one raw transaction: a hint, never a verdict. `other` is the hash it named, where that is not ours."""

    hint: str
    other: str = ""


class Away(errors.Transient):
    """The node says that it lacks the state, or the receipt, of a new block."""


class _Receipt(msgspec.Struct, frozen=True):
    transactionHash: str
    transactionIndex: str
    blockHash: str
    blockNumber: str
    sender: str = msgspec.field(name="from")
    gasUsed: str
    status: str
    logs: list[wire.Log]
    to: str | None = None
    contractAddress: str | None = None
    type: str = "0x2"


class _Fees(msgspec.Struct, frozen=True):
    baseFeePerGas: list[str]
    reward: list[list[str]] | None = None


class Account:
    """One account through one endpoint. `finality_depth` is None where the node has a `finalized` tag; with `recompute` every header's
    hash is computed from its fields, base fee included."""

    def __init__(
        self,
        endpoint: jsonrpc.Endpoint,
        *,
        chain_id: int,
        address: bytes,
        finality_depth: int | None = None,
        recompute: bool = True,
    ) -> None:
        self.address = address
        self.chain_id = chain_id
        self.outcomes = outcomes.Outcomes(endpoint, address=address)
        self._endpoint = endpoint
        self._hex = hashing.hex0x(address)
        self._depth = finality_depth
        self._recompute = recompute

    # --- where it stands ---

    async def standing(self) -> Standing:
        """Raises Transient when the endpoint serves another chain."""
        return (await self.look(()))[0]

    async def look(
        self, signed: Sequence[transaction.Signed]
    ) -> tuple[Standing, dict[bytes, Receipt | None], errors.StakesideError | None]:
        """Where it stands, and what became of transactions, asked in the same exchange: a receipt by hash, None where there is none. An error,
        or a receipt that contradicts what was signed, is no answer: its hash is left out, and (one of) the errors comes last."""
        calls: list[jsonrpc.Call] = [
            ("eth_chainId", []),
            ("eth_getBlockByNumber", ["latest", False]),
            ("eth_getTransactionCount", [self._hex, "latest"]),
            ("eth_getTransactionCount", [self._hex, "pending"]),
        ]
        if self._depth is None:
            calls.append(("eth_getBlockByNumber", ["finalized", False]))
        asked = len(calls)
        calls += [("eth_getTransactionReceipt", [hashing.hex0x(tx.hash)]) for tx in signed]
        answers = await self._each(calls, msgspec.Raw)
        wrong: errors.StakesideError | None = None
        found: dict[bytes, Receipt | None] = {}
        for tx, answer in zip(signed, answers[asked:], strict=True):
            try:
                raw = _result(answer)
                found[tx.hash] = None if _is_null(raw) else _receipt(_json(raw, _Receipt, "a receipt"), tx)
            except errors.StakesideError as error:
                wrong = _worse(wrong, error)
        return await self._standing([_result(answer) for answer in answers[:asked]]), found, wrong

    async def _standing(self, answers: Sequence[msgspec.Raw]) -> Standing:
        found = wire.number(_json(answers[0], str, "eth_chainId"), "chain id")
        if found != self.chain_id:
            raise errors.Transient(
                f"the node serves chain {found}, not {self.chain_id}", cure="point node.url at the account's chain"
            )
        head = self._block(answers[1], "latest")
        if head is None:
            raise errors.Transient("the node has no head yet", cure="wait until it has synchronised")
        if self._depth is None:
            final = self._block(answers[4], "finalized")
            final_number = None if final is None else final.header.number
        else:
            final_number = head.header.number - self._depth if head.header.number >= self._depth else None
        if final_number is not None and final_number > head.header.number:
            raise errors.BadAnswer("the node's finalized block is above its head", value=final_number)
        more: list[jsonrpc.Call] = [("eth_getBalance", [self._hex, pinned(head.header.ref)])]
        if final_number is not None:
            more.append(("eth_getTransactionCount", [self._hex, wire.quantity(final_number)]))
        balance, *counted = await self._each(more, str)
        latest, pending = (_count(_json(raw, str, "eth_getTransactionCount")) for raw in answers[2:4])
        finalized = 0
        if counted and isinstance(counted[0], errors.HistoryUnavailable):
            # Without finality for long, the node drops that state. Less is known then, and nothing that is done needs it.
            final_number = None
        elif counted:
            finalized = _count(_result(counted[0]))
        if finalized > latest:
            raise errors.BadAnswer(
                "the node counts more finalized transactions than mined ones", value=(finalized, latest)
            )
        return Standing(
            head=head,
            finalized=final_number,
            count_latest=latest,
            count_pending=max(pending, latest),
            count_finalized=finalized,
            balance=wire.number(_result(balance), "balance", bits=U256),
        )

    async def blocks(self, numbers: Sequence[int]) -> tuple[dict[int, Block], errors.StakesideError | None]:
        """The node's blocks at heights; those it lacks are left out, and those that cannot be, whose error comes last."""
        wanted = sorted(set(numbers))
        calls: list[jsonrpc.Call] = [("eth_getBlockByNumber", [wire.quantity(number), False]) for number in wanted]
        wrong: errors.StakesideError | None = None
        found: dict[int, Block] = {}
        for number, answer in zip(wanted, await self._each(calls, msgspec.Raw), strict=True):
            try:
                block = self._block(_result(answer), f"block {number}")
                if block is not None and block.header.number != number:
                    raise errors.BadAnswer(
                        f"the node answered block {number} with another one", value=str(block.header.ref)
                    )
            except errors.StakesideError as error:
                wrong = _worse(wrong, error)
                continue
            if block is not None:
                found[number] = block
        return found, wrong

    # --- before a transaction ---

    async def call(self, *, to: bytes, data: bytes, at: chain.BlockRef) -> bytes:
        """A view, at a block that is named by its hash."""
        asked = {"from": self._hex, "to": hashing.hex0x(to), "data": hashing.hex0x(data)}
        text = await self._one("eth_call", [asked, pinned(at)], str)
        return hashing.unhex(text, what="the answer of eth_call")

    async def simulate(self, *, to: bytes, data: bytes, value: int, at: chain.BlockRef) -> msgspec.Raw:
        """`eth_simulateV1` of one call behind a block, as the node answered it. Raises MethodMissing where the node has it not."""
        calls = [self._transaction(to=to, data=data, value=value)]
        asked = {"blockStateCalls": [{"calls": calls}], "validation": False, "traceTransfers": False}
        return await self._one("eth_simulateV1", [asked, pinned(at)], msgspec.Raw)

    async def estimate(self, *, to: bytes, data: bytes, value: int, at: chain.BlockRef) -> int:
        """The gas a call takes at a block. Raises RpcError, with code 3 when the call reverts."""
        asked = [self._transaction(to=to, data=data, value=value), pinned(at)]
        return wire.number(await self._one("eth_estimateGas", asked, str), "gas")

    async def fees(self) -> Fees:
        """What the next block asks for, and what the last ones were paid."""
        raw = await self._one("eth_feeHistory", [wire.quantity(FEE_BLOCKS), "latest", [MIDDLE]], _Fees)
        rows = raw.reward or []
        if not raw.baseFeePerGas or max(len(raw.baseFeePerGas) - 1, len(rows)) > FEE_BLOCKS:
            raise errors.BadAnswer("eth_feeHistory has the wrong shape", value=(len(raw.baseFeePerGas), len(rows)))
        if any(len(row) != 1 for row in rows):
            raise errors.BadAnswer("eth_feeHistory answered other percentiles than asked for")
        tips = tuple(wire.number(row[0], "tip", bits=FEE_BITS) for row in rows)
        return Fees(wire.number(raw.baseFeePerGas[-1], "base fee", bits=FEE_BITS), tips)

    # --- after it ---

    async def send(self, signed: Sequence[tuple[bytes, bytes]]) -> list[Sent]:
        """`eth_sendRawTransaction` of (hash, raw), in this order, and a hint for each. Never raises for what a node says: whatever it is,
        the transaction may be on its way."""
        calls: list[jsonrpc.Call] = [("eth_sendRawTransaction", [hashing.hex0x(raw)]) for _, raw in signed]
        try:
            answers = await self._endpoint.outcomes(calls, str)
        except jsonrpc.BatchRefused:
            answers = [await self._send_alone(call) for call in calls]
        except errors.StakesideError as error:
            answers = [error] * len(calls)
        return [_sent(tx_hash, answer) for (tx_hash, _), answer in zip(signed, answers, strict=True)]

    async def _send_alone(self, call: jsonrpc.Call) -> str | errors.StakesideError:
        try:
            return await self._endpoint.call(*call, str)
        except errors.StakesideError as error:
            return error

    async def _each(self, calls: Sequence[jsonrpc.Call], type_: type[T]) -> list[T | errors.StakesideError]:
        try:
            return await self._endpoint.each(calls, type_)
        except errors.HistoryUnavailable as error:  # said of the whole exchange
            raise _away(error) from error

    async def _one(self, method: str, params: list[Any], type_: type[T]) -> T:
        try:
            return await self._endpoint.call(method, params, type_)
        except errors.HistoryUnavailable as error:
            raise _away(error) from error

    def _block(self, raw: msgspec.Raw, what: str) -> Block | None:
        if _is_null(raw):
            return None
        found = _json(raw, wire.Block, what)
        if found.baseFeePerGas is None:
            raise errors.BadAnswer(f"{what} has no base fee", cure="the chain must have EIP-1559 transactions")
        header = proof.header(found) if self._recompute else wire.header(found)
        return Block(header, wire.number(found.baseFeePerGas, "base fee", bits=U256))

    def _transaction(self, *, to: bytes, data: bytes, value: int) -> dict[str, str]:
        return {
            "from": self._hex,
            "to": hashing.hex0x(to),
            "data": hashing.hex0x(data),
            "value": wire.quantity(value),
        }


def _away(error: errors.HistoryUnavailable) -> Away:
    """Only the newest blocks are asked about: what is not there now will be, or another node has it."""
    return Away(error.what, value=error.value, cure="use a node that keeps the state of the newest blocks")


def pinned(at: chain.BlockRef) -> dict[str, str]:
    """EIP-1898's block parameter."""
    return {"blockHash": hashing.hex0x(at.hash)}


def _sent(tx_hash: bytes, answer: str | errors.StakesideError) -> Sent:
    if isinstance(answer, errors.StakesideError):
        shown = answer.text if isinstance(answer, jsonrpc.RpcError) else answer.what
        return Sent(logs.scrub(errors.clip(shown, 200)[1:-1].strip("'\"")))
    if answer.lower() == hashing.hex0x(tx_hash):
        return Sent("accepted")
    shown = errors.clip(answer, 80)
    return Sent("the node named another hash", other=shown)


def _receipt(raw: _Receipt, tx: transaction.Signed) -> Receipt:
    """Every field that the signed transaction decides must be as it says."""
    if wire.word(raw.transactionHash, "transaction hash") != tx.hash:
        raise _contradicts(tx, "transactionHash", raw.transactionHash)
    if hashing.unhex(raw.sender, size=20, what="from") != tx.sender:
        raise _contradicts(tx, "from", raw.sender)
    if raw.to is None or hashing.unhex(raw.to, size=20, what="to") != tx.unsigned.to:
        raise _contradicts(tx, "to", raw.to)
    if raw.contractAddress is not None or raw.type != "0x2":
        raise _contradicts(tx, "contractAddress or type", (raw.contractAddress, raw.type))
    if raw.status not in ("0x0", "0x1"):
        raise _contradicts(tx, "status", raw.status)
    gas_used = wire.number(raw.gasUsed, "gas used")
    if not 0 < gas_used <= tx.unsigned.gas:
        raise _contradicts(tx, "gasUsed", raw.gasUsed)
    ref = chain.BlockRef(wire.height(raw.blockNumber, "block number"), wire.word(raw.blockHash, "block hash"))
    index = wire.height(raw.transactionIndex, "transaction index")
    found = tuple(wire.log(entry) for entry in raw.logs)
    last = -1
    for log in found:
        if (log.block, log.tx_hash, log.tx_index) != (ref, tx.hash, index) or log.log_index <= last:
            raise _contradicts(tx, "logs", (str(log.block), log.log_index))
        last = log.log_index
    if raw.status == "0x0" and found:
        raise _contradicts(tx, "logs of a reverted transaction", len(found))
    return Receipt(tx.hash, ref, index, int(raw.status, 16), gas_used, found)


def _contradicts(tx: transaction.Signed, field: str, value: object) -> errors.BadAnswer:
    return errors.BadAnswer(
        f"a receipt's {field} is not that of the signed transaction with nonce {tx.unsigned.nonce}", value=value
    )


def _result(outcome: T | errors.StakesideError) -> T:
    if isinstance(outcome, errors.HistoryUnavailable):
        raise _away(outcome)
    if isinstance(outcome, errors.StakesideError):
        raise outcome
    return outcome


def _worse(one: errors.StakesideError | None, other: errors.StakesideError) -> errors.StakesideError:
    """An answer that cannot be is worse than none, and one that asks for patience comes before the others: it is what helps."""
    if isinstance(one, errors.BadAnswer):
        return one
    return one if isinstance(one, jsonrpc.Throttled) and not isinstance(other, errors.BadAnswer) else other


def _count(text: str) -> int:
    return wire.height(text, "transaction count")


def _is_null(raw: msgspec.Raw) -> bool:
    return jsonrpc.head(raw, 4) == b"null"


def _json(raw: msgspec.Raw, type_: type[Any], what: str) -> Any:
    try:
        return jsonrpc.decoder_for(type_).decode(raw)
    except jsonrpc.UNDECODABLE as error:
        raise errors.BadAnswer(
            f"{what} has the wrong shape: {errors.clip(str(error), 120)}", value=jsonrpc.head(raw, 80)
        ) from None
