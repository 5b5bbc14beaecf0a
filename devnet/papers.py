"""Papers for a fleet in containers. In: a running devnet node, an empty folder. Out: the contract on the chain, and a folder for each role.

    agent-1/ … agent-N/   deployment.toml  attester.key  hub.token
    hub/                  deployment.toml  receipts.key  consumers
    treasury.key          only where one is wanted

Each role mounts its own folder and sees no other's key. Writing again over papers of the same chain changes nothing, so a fleet can be
started again; papers of another chain are refused.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from devnet import anvil, documents, fleet, rpc, staking
from domain import errors

CONSUMER = "devnet"
"""The name under which the agents' token stands in the hub's list of consumers."""


TREASURY, VALIDATOR = anvil.ACCOUNTS - 2, 1
"""Which of the devnet's own accounts: one that no scenario touches, and the first validator of all of them."""


@dataclass(frozen=True, slots=True)
class Papers:
    """Where the roles' folders are, and who signs."""

    folder: Path
    signers: tuple[str, ...]
    written: bool


@dataclass(frozen=True, slots=True)
class Treasury:
    """Who can delegate, and to whom."""

    account: str
    validator: str


async def write(*, rpc_url: str, folder: Path, agents: int, k: int | None, frame_blocks: int) -> Papers:
    """Raises BadConfig for papers of another chain, StakesideError when the contract cannot be deployed."""
    if agents < 1:
        raise errors.BadConfig("a fleet has at least one agent", value=agents, cure="use --agents 1 or more")
    async with rpc.Rpc(rpc_url) as node:
        await staking.refuse_foreign(node)
        if (folder / "hub" / "deployment.toml").exists():
            return await _present(node, folder)
        code = await node.call("eth_getCode", staking.ADDRESS, "latest")
        contract = await (staking.deploy(node) if code == "0x" else staking.connect(node, start_block=1))
        genesis = await _genesis(node)
    names = [f"agent-{number}" for number in range(1, agents + 1)]
    with TemporaryDirectory() as drafts:
        async with fleet.Fleet(Path(drafts)) as office:
            keys = [office.key(name) for name in (*names, "hub")]
            document = documents.document(
                chain_id=contract.chain_id,
                genesis=genesis,
                start=1,
                signers=[key.address for key in keys[:-1]],
                frame_blocks=frame_blocks,
                k=k,
                receipt_key=keys[-1].address,
            )
            text = documents.text(documents.with_ruleset(document, await office.ruleset(document)))
            _hand_out(folder, names, keys, text)
    return Papers(folder, tuple(key.address for key in keys[:-1]), written=True)


def _hand_out(folder: Path, names: Sequence[str], keys: Sequence[fleet.Key], document: str) -> None:
    """The hub's folder comes last: it says that the papers are complete."""
    token = secrets.token_hex(32)
    for name, key in zip(names, keys[:-1], strict=True):
        _folder(folder / name, {"hub.token": f"{token}\n", "deployment.toml": document}, key.file, "attester.key")
    consumers = f"{CONSUMER}:{hashlib.sha256(token.encode()).hexdigest()}\n"
    _folder(folder / "hub", {"consumers": consumers, "deployment.toml": document}, keys[-1].file, "receipts.key")


def _folder(folder: Path, texts: dict[str, str], key: Path, key_name: str) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copy(key, folder / key_name)
    (folder / key_name).chmod(0o600)
    for name, text in texts.items():
        file = folder / name
        file.touch(mode=0o600)
        file.write_text(text)


async def treasury(*, rpc_url: str, folder: Path) -> Treasury:
    """Papers must be there. Raises StakesideError where the contract is not."""
    async with rpc.Rpc(rpc_url) as node:
        contract = await staking.connect(node, start_block=1)
        validator = contract.accounts[VALIDATOR]
        (state,) = await contract.read([("validatorOf", (validator,))])
        if not state[0]:
            await contract.do(staking.register_validator(validator, commission_bps=500, metadata="of the papers"))
    with TemporaryDirectory() as drafts:
        async with fleet.Fleet(Path(drafts)) as office:
            key = office.funded_key("treasury", account=TREASURY)
            _folder(folder, {}, key.file, "treasury.key")
    return Treasury(key.address, validator)


async def _present(node: rpc.Rpc, folder: Path) -> Papers:
    """What was written before, if it is of this chain."""
    found = tomllib.loads((folder / "hub" / "deployment.toml").read_text())
    here, there = await _genesis(node), str(found["chains"][0]["genesis"])
    if here != there:
        raise errors.BadConfig(
            "the papers in this folder are of another chain",
            value=f"{folder}: genesis {there}",
            cure="remove the papers and the books together, or give the node its old state back",
        )
    return Papers(folder, tuple(cast("list[str]", found["epochs"][-1]["signers"])), written=False)


async def _genesis(node: rpc.Rpc) -> str:
    return str((await node.call("eth_getBlockByNumber", "0x0", False))["hash"])
