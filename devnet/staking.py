"""The devnet's staking contract at work. In: a node. Out: a deployed contract, its transactions and its views.

Transactions are values (`Operation`) until they are sent, so that a player can order, drop and resend them. Accounts are
Anvil's unlocked ones: the node signs. Nothing here is shared with the indexer or the accounting.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

from eth_abi.abi import decode as abi_decode
from eth_abi.abi import encode as abi_encode
from eth_utils.abi import function_abi_to_4byte_selector

from devnet import anvil, rpc
from domain import errors

ADDRESS = "0x5fbdb2315678afecb367f032d93f642f64180aa3"
"""Where the contract of the first account's first transaction lives, on every Anvil."""
UNBONDING_DELAY_S = 120
GAS = 2_000_000
GAS_PER_BYTE = 1_400
"""Storing and logging a byte of metadata: 22,100 gas a word to store, 8 a byte to log, 16 to 40 to send."""
GAS_MOST = 16_000_000
"""Below the protocol's limit of 2**24 a transaction (EIP-7825)."""
FEE_WEI = 100 * 10**9

Block = int | bytes | str
"""A block by number, by hash, or by a tag of the node."""


class Operation(NamedTuple):
    """A transaction to be sent: who calls which function with what, and how much coin goes along."""

    sender: str
    function: str
    arguments: tuple[Any, ...]
    value: int = 0


@dataclass(frozen=True, slots=True)
class Function:
    """`outputs` reads text as bytes: what the chain calls a string need not be UTF-8."""

    selector: bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@functools.cache
def artifact() -> dict[str, Any]:
    """The committed build of `Staking.sol`."""
    path = Path(__file__).resolve().parents[1] / "contracts" / "artifacts" / "Staking.json"
    return json.loads(path.read_text())


@functools.cache
def functions() -> dict[str, Function]:
    entries = [entry for entry in artifact()["abi"] if entry["type"] == "function"]
    return {
        entry["name"]: Function(
            bytes(function_abi_to_4byte_selector(entry)),
            tuple(abi_type(part) for part in entry["inputs"]),
            tuple(abi_type(part).replace("string", "bytes") for part in entry["outputs"]),
        )
        for entry in entries
    }


def abi_type(part: dict[str, Any]) -> str:
    """The canonical type of an ABI input or output; a struct becomes a tuple."""
    if not part["type"].startswith("tuple"):
        return part["type"]
    inner = ",".join(abi_type(component) for component in part["components"])
    return f"({inner}){part['type'][len('tuple') :]}"


# --- transactions ---------------------------------------------------------------------------------------------------------


def register_validator(operator: str, *, commission_bps: int, metadata: str | bytes) -> Operation:
    return Operation(operator, "registerValidator", (commission_bps, metadata))


def set_commission(operator: str, *, commission_bps: int) -> Operation:
    return Operation(operator, "setCommission", (commission_bps,))


def set_metadata(operator: str, metadata: str | bytes) -> Operation:
    """`metadata` as bytes may be no UTF-8 at all: the chain does not mind."""
    return Operation(operator, "setMetadata", (metadata,))


def claim_commission(operator: str) -> Operation:
    return Operation(operator, "claimCommission", ())


def delegate(delegator: str, validator: str, amount_wei: int) -> Operation:
    return Operation(delegator, "delegate", (validator,), amount_wei)


def undelegate(delegator: str, validator: str, amount_wei: int) -> Operation:
    return Operation(delegator, "undelegate", (validator, amount_wei))


def withdraw(delegator: str, ticket: int) -> Operation:
    return Operation(delegator, "withdraw", (ticket,))


def redelegate(delegator: str, *, source: str, target: str, amount_wei: int) -> Operation:
    return Operation(delegator, "redelegate", (source, target, amount_wei))


def claim(delegator: str, validator: str) -> Operation:
    return Operation(delegator, "claim", (validator,))


def distribute_reward(payer: str, validator: str, amount_wei: int) -> Operation:
    return Operation(payer, "distributeReward", (validator,), amount_wei)


def slash(owner: str, validator: str, *, fraction_bps: int) -> Operation:
    return Operation(owner, "slash", (validator, fraction_bps))


def calldata(function: str, arguments: Sequence[Any]) -> bytes:
    """Selector and ABI-encoded arguments. Text given as bytes is encoded as it is."""
    known = functions()[function]
    types = [
        "bytes" if kind == "string" and isinstance(argument, bytes) else kind
        for kind, argument in zip(known.inputs, arguments, strict=True)
    ]
    return known.selector + abi_encode(types, list(arguments))


# --- the contract on one node ---------------------------------------------------------------------------------------------


class Staking:
    """The contract at `address`, reached through `node`. `accounts` are the node's unlocked ones, the owner first."""

    def __init__(
        self, node: rpc.Rpc, *, address: str, accounts: Sequence[str], start_block: int, chain_id: int
    ) -> None:
        self.node = node
        self.address = address
        self.accounts = tuple(accounts)
        self.start_block = start_block
        self.chain_id = chain_id

    @property
    def owner(self) -> str:
        return self.accounts[0]

    def request(self, operation: Operation, *, nonce: int | None = None) -> dict[str, str]:
        """The JSON-RPC transaction object. Gas is set here, so the node need not simulate."""
        data = calldata(operation.function, operation.arguments)
        gas = min(GAS + GAS_PER_BYTE * len(data), GAS_MOST)
        fields = {
            "from": operation.sender,
            "to": self.address,
            "data": "0x" + data.hex(),
            "value": hex(operation.value),
            "gas": hex(gas),
            "maxFeePerGas": hex(FEE_WEI),
            "maxPriorityFeePerGas": "0x0",
        }
        return fields if nonce is None else {**fields, "nonce": hex(nonce)}

    async def send(self, operations: Sequence[Operation]) -> list[bytes]:
        """Put operations into the pool in this order; they land in the next block. Returns their hashes."""
        senders = sorted({operation.sender for operation in operations})
        counts = await self.node.batch([("eth_getTransactionCount", [sender, "pending"]) for sender in senders])
        nonces = {sender: int(count, 16) for sender, count in zip(senders, counts, strict=True)}
        calls: list[rpc.Call] = []
        for operation in operations:
            calls.append(("eth_sendTransaction", [self.request(operation, nonce=nonces[operation.sender])]))
            nonces[operation.sender] += 1
        return [bytes.fromhex(text[2:]) for text in await self.node.batch(calls)]

    async def mine(self, blocks: int = 1) -> None:
        """Mine what is in the pool into the next block, and empty blocks after it."""
        await self.node.call("anvil_mine", hex(blocks))

    @contextlib.asynccontextmanager
    async def still(self) -> AsyncIterator[None]:
        """No block but those asked for: a node that mines by itself is held back meanwhile."""
        auto, seconds = await self.node.batch([("anvil_getAutomine", []), ("anvil_getIntervalMining", [])])
        if auto:
            await self.node.call("anvil_setAutomine", False)
        if seconds:
            await self.node.call("evm_setIntervalMining", 0)
        try:
            yield
        finally:
            if auto:
                await self.node.call("anvil_setAutomine", True)
            if seconds:
                await self.node.call("evm_setIntervalMining", seconds)

    async def do(self, *operations: Operation) -> list[bool]:
        """Send, mine one block, and say which operations succeeded."""
        hashes = await self.send(operations)
        await self.mine()
        receipts = await self.node.batch([("eth_getTransactionReceipt", ["0x" + h.hex()]) for h in hashes])
        return [receipt["status"] == "0x1" for receipt in receipts]

    async def read(self, views: Sequence[tuple[str, Sequence[Any]]], *, block: Block = "latest") -> list[Any]:
        """Many view calls in batches, all at one block. One value each; a struct or several values come as a tuple."""
        at = block_parameter(block)
        calls: list[rpc.Call] = [
            ("eth_call", [{"to": self.address, "data": "0x" + calldata(name, arguments).hex()}, at])
            for name, arguments in views
        ]
        answers = await self.node.batch(calls)
        return [_decoded(name, answer) for (name, _), answer in zip(views, answers, strict=True)]

    async def balance(self, *, block: Block = "latest") -> int:
        """What the contract holds, in wei."""
        return int(await self.node.call("eth_getBalance", self.address, block_parameter(block)), 16)

    async def height(self, tag: str = "latest") -> int:
        """The number of the latest, or of the `finalized`, block."""
        return int((await self.node.call("eth_getBlockByNumber", tag, False))["number"], 16)


def block_parameter(block: Block) -> str | dict[str, str]:
    """The JSON-RPC form of a block: hex number, tag, or EIP-1898's object for a hash."""
    match block:
        case int():
            return hex(block)
        case bytes():
            return {"blockHash": "0x" + block.hex()}
        case _:
            return block


def _decoded(name: str, answer: str) -> Any:
    values = abi_decode(functions()[name].outputs, bytes.fromhex(answer[2:]))
    return values[0] if len(values) == 1 else values


# --- bringing it up -------------------------------------------------------------------------------------------------------


async def deploy(node: rpc.Rpc, *, unbonding_delay_s: int = UNBONDING_DELAY_S) -> Staking:
    """Deploy as the first account's first transaction, mined into a block of its own."""
    accounts = cast("list[str]", await node.call("eth_accounts"))
    data = artifact()["bytecode"] + abi_encode(["uint256"], [unbonding_delay_s]).hex()
    request = {"from": accounts[0], "data": data, "gas": hex(GAS_MOST), "nonce": "0x0",
               "maxFeePerGas": hex(FEE_WEI), "maxPriorityFeePerGas": "0x0"}  # fmt: skip
    sent = await node.call("eth_sendTransaction", request)
    await node.call("anvil_mine", "0x1")
    receipt = await node.call("eth_getTransactionReceipt", sent)
    if receipt is None or receipt["status"] != "0x1" or receipt["contractAddress"] != ADDRESS:
        raise errors.StakesideError("the staking contract was not deployed", value=receipt, cure="use a fresh Anvil")
    return await connect(node, start_block=int(receipt["blockNumber"], 16))


async def refuse_foreign(node: rpc.Rpc) -> None:
    """Raises BadConfig for a node that is no devnet: on another one nothing is to be deployed or played. Somebody's own Anvil has fewer
    accounts, and the first contract that was deployed on it is at the very address of ours."""
    client, chain_id = await node.batch([("web3_clientVersion", []), ("eth_chainId", [])])
    seen = f"{client}, chain {int(chain_id, 16)}"
    known = str(client).startswith("anvil/") and int(chain_id, 16) == anvil.CHAIN_ID
    if known:
        accounts, code = await node.batch([("eth_accounts", []), ("eth_getCode", [ADDRESS, "latest"])])
        seen += f", {len(accounts)} accounts"
        known = len(accounts) == anvil.ACCOUNTS
        if known and code != "0x" and not _ours(bytes.fromhex(code[2:])):
            seen, known = f"{seen}, another contract at {ADDRESS}", False
    if not known:
        raise errors.BadConfig(
            "the node is no devnet",
            value=seen,
            cure="run `stakeside devnet up`, with --port if another node has that one, and name its address",
        )


def _ours(code: bytes) -> bool:
    """Whether it is the contract's build, in which what the constructor sets is zero."""
    built = bytes.fromhex(artifact()["deployedBytecode"][2:])
    return len(code) == len(built) and all(own in (0, there) for own, there in zip(built, code, strict=True))


async def connect(node: rpc.Rpc, *, start_block: int, address: str = ADDRESS) -> Staking:
    """The contract that is already on the node. Raises StakesideError when there is no code at the address."""
    accounts, chain_id, code = await node.batch(
        [("eth_accounts", []), ("eth_chainId", []), ("eth_getCode", [address, "latest"])]
    )
    if code == "0x":
        raise errors.StakesideError(
            "no contract lives at the staking address", value=address, cure="run `stakeside devnet up`"
        )
    return Staking(node, address=address, accounts=accounts, start_block=start_block, chain_id=int(chain_id, 16))


def network_text(staking: Staking) -> str:
    """The network file that agents read: chain, first block, address."""
    return (
        f"chain_id = {staking.chain_id}\n"
        "\n"
        "[protocols.devnet]\n"
        f"start = {staking.start_block}\n"
        "\n"
        "[protocols.devnet.addresses]\n"
        f'staking = "{staking.address}"\n'
    )


@dataclass(frozen=True, slots=True)
class Devnet:
    """A running node with the contract on it."""

    node: anvil.Anvil
    staking: Staking
    network: str


@contextlib.asynccontextmanager
async def up(
    node: anvil.Anvil | None = None, *, network_file: Path | None = None, unbonding_delay_s: int = UNBONDING_DELAY_S
) -> AsyncIterator[Devnet]:
    """Boot Anvil, deploy, and write the network file where one is wanted; everything ends with the block."""
    async with node or anvil.Anvil() as running, rpc.Rpc(running.url) as client:
        staking = await deploy(client, unbonding_delay_s=unbonding_delay_s)
        text = network_text(staking)
        if network_file is not None:
            network_file.write_text(text)
        yield Devnet(running, staking, text)
