"""`stakeside protocol`: check a manifest, try it on a transaction, plan an action, hash a ruleset. Exit code 0, 1 (problems) or 2 (unusable)."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from domain import chain
    from indexers.protocols import planner

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # pyright: ignore[reportPrivateUsage]

_MANIFEST = "a manifest: a file, or the name of one that ships (devnet)"
_NETWORK = "a network: a file, or the name of one that ships (devnet)"


def register(subparsers: Subparsers) -> None:
    """Adds the command; `args.run(args)` carries it out and returns the exit code."""
    parser = subparsers.add_parser(
        "protocol", help="check a protocol manifest, try it on a transaction, plan an action, hash a ruleset"
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    check_ = commands.add_parser("check", help="list everything wrong with a manifest, with line and cure")
    check_.add_argument("file", metavar="FILE", help=_MANIFEST)
    check_.add_argument("--network", metavar="FILE", help=f"also check its addresses there; {_NETWORK}")

    test_ = commands.add_parser("test", help="decode one transaction and show what its logs would mean")
    test_.add_argument("file", metavar="FILE", help=_MANIFEST)
    test_.add_argument("--tx", metavar="HASH", required=True, help="the transaction")
    test_.add_argument("--rpc", metavar="URL", required=True, help="an execution node")
    test_.add_argument("--network", metavar="FILE", help=f"show logs of its addresses only; {_NETWORK}")

    plan_ = commands.add_parser(
        "plan", help="show the call that an action would be, and what would prove it; sends nothing"
    )
    plan_.add_argument("file", metavar="FILE", help=_MANIFEST)
    plan_.add_argument("action", metavar="ACTION", help="one of the manifest's actions")
    plan_.add_argument("arguments", metavar="NAME=VALUE", nargs="*", help="its arguments; amounts in the smallest unit")
    plan_.add_argument("--network", metavar="FILE", required=True, help=_NETWORK)
    plan_.add_argument("--account", metavar="ADDRESS", required=True, help="whose stake it is")
    plan_.add_argument("--rpc", metavar="URL", help="an execution node, to carry out the reads the action needs")

    ruleset_ = commands.add_parser("ruleset", help="print the digest that a deployment document names for a stream")
    ruleset_.add_argument("--document", metavar="FILE", type=Path, required=True, help="the deployment document (TOML)")
    ruleset_.add_argument("--stream", metavar="NAME", required=True, help="a stream of the document")
    ruleset_.add_argument("--manifest", metavar="FILE", required=True, help=_MANIFEST)
    ruleset_.add_argument("--network", metavar="FILE", required=True, help=_NETWORK)
    ruleset_.add_argument(
        "--proof", choices=("node", "bloom", "receipts"), default="receipts", help="default: receipts"
    )
    ruleset_.add_argument("--json", action="store_true", help="print the ruleset itself")

    for command, handler in ((check_, check), (test_, test), (plan_, plan), (ruleset_, ruleset)):
        command.set_defaults(run=handler)


def check(args: argparse.Namespace) -> int:
    from indexers.protocols import inspect

    verdict = inspect.check(args.file, network=args.network)
    if verdict.problems:
        _print([*verdict.problems, f"{len(verdict.problems)} problem{'s' * (len(verdict.problems) > 1)}"])
        return 1
    notes = [f"note: {note}" for note in verdict.notes]
    _print([*verdict.summary, *notes, "no problems" + (f", {len(notes)} not indexed by this version" if notes else "")])
    return 0


def test(args: argparse.Namespace) -> int:
    from domain import errors, hashing
    from indexers.protocols import checks, inspect, manifest

    if args.network is None:
        file = manifest.open_file(args.file, folder="protocols")
        examined, problems = checks.examine(file.text)
        if examined is None:
            _print([f"{file.shown}, {problem}" for problem in problems])
            return 1
        rules = inspect.known(examined)
    else:
        rules = inspect.bound(manifest.load(args.file, network=args.network))
    try:
        tx_hash = hashing.unhex(args.tx, size=32, what="--tx")
    except errors.BadAnswer as error:
        raise errors.BadConfig(
            error.what, value=error.value, cure="give the transaction's hash: 0x and 64 hex digits"
        ) from None
    logs = asyncio.run(_logs(args.rpc, tx_hash))
    _print(rules.explain(logs) or ["the transaction has no logs"])
    return 0


async def _logs(url: str, tx_hash: bytes) -> list[chain.Log]:
    """The logs of a transaction, as its receipt has them."""
    import aiohttp
    import msgspec

    from domain import errors, hashing
    from indexers.chain import wire
    from kit import jsonrpc

    async with aiohttp.ClientSession() as session:
        endpoint = jsonrpc.Endpoint(url, session=session)
        shown = hashing.hex0x(tx_hash)
        answer = await endpoint.call("eth_getTransactionReceipt", [shown], msgspec.Raw, what=shown)
        try:
            receipt: wire.Receipt | None = msgspec.json.decode(answer, type=wire.Receipt | None)
        except msgspec.DecodeError as error:
            raise errors.BadAnswer(f"{endpoint.name} answered a malformed receipt: {error}", value=shown) from None
        if receipt is None:
            raise errors.HistoryUnavailable(
                "the node has no receipt of this transaction", value=shown, cure="is it this chain, and is it mined?"
            )
        return [wire.log(log) for log in receipt.logs]


def plan(args: argparse.Namespace) -> int:
    from domain import errors
    from indexers.protocols import inspect, manifest, planner

    loaded = manifest.load(args.file, network=args.network)
    made = planner.Planner(loaded)
    given: dict[str, str] = {}
    for text in args.arguments:
        name, equals, value = text.partition("=")
        if not equals or name in given:
            raise errors.BadConfig("an argument is NAME=VALUE, each name once", value=text, cure="as in amount=5000")
        given[name] = value
    checked = made.check(args.action, given)
    account = planner.address(args.account, what="--account")
    known = asyncio.run(_read(args.rpc, made, args.action, checked, account, loaded.start)) if args.rpc else {}
    told = inspect.plan(made, args.action, checked, account=account, known=known)
    _print([*told.summary, *told.notes, *told.problems])
    return 1 if told.problems else 0


async def _read(
    url: str, made: planner.Planner, action: str, checked: dict[str, str], account: bytes, start: int
) -> dict[str, planner.Value]:
    """Every read the action needs, all at the latest block's hash."""
    import aiohttp

    from domain import errors, hashing
    from indexers.chain import wire
    from kit import jsonrpc

    async with aiohttp.ClientSession() as session:
        endpoint = jsonrpc.Endpoint(url, session=session)
        chain_id = wire.number(await endpoint.call("eth_chainId", [], str), "the chain id")
        if chain_id != made.chain_id:
            raise errors.WrongChain(
                f"{endpoint.name} is chain {chain_id}, the network file is chain {made.chain_id}",
                cure="give the node of the network file's chain",
            )
        head = await endpoint.call("eth_getBlockByNumber", ["latest", False], wire.Block)
        known: dict[str, planner.Value] = {}
        while True:
            reads = made.reads(action, checked, account=account, known=known)
            for read in reads:
                request = {"to": hashing.hex0x(read.to), "data": hashing.hex0x(read.data)}
                answer = await endpoint.call("eth_call", [request, {"blockHash": head.hash}], str, what=read.id)
                known[read.id] = made.result(read, hashing.unhex(answer, what=read.id))
            lookups = made.lookups(action, checked, account=account, known=known)
            for lookup in lookups:
                topics = [None if topic is None else hashing.hex0x(topic) for topic in lookup.topics]
                wanted = {"address": hashing.hex0x(lookup.address), "topics": topics}
                blocks = {"fromBlock": hex(start), "toBlock": head.number}
                logs = await endpoint.call("eth_getLogs", [wanted | blocks], list[wire.Log], what=lookup.id)
                known[lookup.id] = made.found(lookup, [wire.log(log) for log in logs])
            if not reads and not lookups:
                return known


def ruleset(args: argparse.Namespace) -> int:
    from config import deployments
    from domain import hashing
    from indexers.protocols import manifest

    stream = deployments.load(args.document).stream(args.stream)
    loaded = manifest.load(args.manifest, network=args.network)
    if args.json:
        _print([json.dumps(loaded.ruleset_json(stream, proof=args.proof), indent=2, ensure_ascii=False)])
    else:
        _print([hashing.hex0x(loaded.ruleset(stream, proof=args.proof))])
    return 0


def _print(lines: list[str]) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
