"""`stakeside devnet up|play|papers|proxy`: a chain of one's own, a history on it, papers for a fleet, and a node that lies about it."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

from cli import serving

if TYPE_CHECKING:
    from devnet import staking

NETWORK_FILE = "devnet-network.toml"


def register(subparsers: serving.Subparsers[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("devnet", help="a local chain with the staking contract, scenarios and a lying node")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    up_ = commands.add_parser("up", help="boot Anvil, deploy the contract, stay until SIGTERM")
    up_.add_argument("--port", type=int, default=8545)
    up_.add_argument(
        "--mining", default="2", help='"manual", "auto" (a block per transaction) or seconds between blocks'
    )
    up_.add_argument("--network-file", type=Path, default=Path(NETWORK_FILE), metavar="FILE")
    up_.set_defaults(run=up)

    play_ = commands.add_parser(
        "play", help="play a seeded history with reorgs on a running devnet, or on one of its own"
    )
    play_.add_argument("--rpc", metavar="URL", help="a running devnet (default: boot one for the occasion)")
    play_.add_argument("--start-block", type=int, default=1, help="block of the contract's deployment, with --rpc")
    play_.add_argument("--seed", type=int, default=1)
    play_.add_argument("--steps", type=int, default=200, help="operations, at least")
    play_.add_argument("--reorgs", default="all", help='"all", "none", or kinds joined by commas')
    play_.set_defaults(run=play)

    papers_ = commands.add_parser(
        "papers",
        help="deploy the contract on a running devnet, write keys, document and tokens for a hub and its agents",
    )
    papers_.add_argument("--rpc", metavar="URL", required=True, help="the running devnet")
    papers_.add_argument(
        "--folder", type=Path, required=True, help="gets a folder for each role; kept when it is there"
    )
    papers_.add_argument("--agents", type=int, default=3, help="default: 3")
    papers_.add_argument("--k", type=int, help="how many must agree (default: the least that is allowed)")
    papers_.add_argument("--frame-blocks", type=int, default=10, help="blocks of a frame; default: 10")
    papers_.add_argument(
        "--treasury",
        action="store_true",
        help="write treasury.key too, of an account with coins, and register a validator",
    )
    papers_.set_defaults(run=papers)

    proxy_ = commands.add_parser(
        "proxy", help="a lying node in front of an honest one", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    proxy_.add_argument("--upstream", required=True, metavar="URL")
    proxy_.add_argument("--port", type=int, default=8546)
    proxy_.add_argument(
        "--fault", action="append", default=[], metavar="NAME[:key=value,…]", help="--fault help lists them"
    )
    proxy_.add_argument("--seed", type=int, default=1)
    proxy_.set_defaults(run=proxy)


def up(args: argparse.Namespace) -> int:
    from devnet import anvil, staking
    from domain import errors

    if args.mining not in ("manual", "auto") and not args.mining.isdecimal():
        raise errors.BadConfig(
            "--mining is not a way to mine", value=args.mining, cure='use "manual", "auto" or seconds'
        )
    mining = int(args.mining) if args.mining.isdecimal() else args.mining

    async def serve(stop: asyncio.Event) -> None:
        node = anvil.Anvil(port=args.port, mining=mining)
        async with staking.up(node, network_file=args.network_file) as devnet:
            serving.ready(
                {
                    "url": devnet.node.url,
                    "ws_url": devnet.node.ws_url,
                    "address": devnet.staking.address,
                    "start_block": devnet.staking.start_block,
                    "network_file": str(args.network_file),
                }
            )
            await stop.wait()

    return serving.until_signal(serve)


def play(args: argparse.Namespace) -> int:
    return asyncio.run(_play(args))


async def _play(args: argparse.Namespace) -> int:
    from devnet import play as scenarios
    from devnet import rpc, staking
    from domain import errors

    named: dict[str, tuple[str, ...]] = {"all": scenarios.REORGS, "none": ()}
    asked = str(args.reorgs)
    kinds = named[asked] if asked in named else tuple(filter(None, asked.split(",")))
    for kind in kinds:
        if kind not in scenarios.REORGS:
            raise errors.BadConfig("no such reorg", value=kind, cure=f"use {', '.join(scenarios.REORGS)}")

    async def run(chain: staking.Staking) -> int:
        player = scenarios.Player(chain, args.seed)
        played = await player.run(args.steps, reorgs=kinds)
        result = {
            "seed": args.seed,
            "operations": played.operations,
            "blocks": played.blocks,
            "refused": played.refused,
            "reorgs": [{"kind": r.kind, "depth": r.depth, "first": r.first} for r in played.reorgs],
        }
        sys.stdout.write(json.dumps(result) + "\n")
        return 0

    if args.rpc is None:
        async with staking.up() as devnet:
            return await run(devnet.staking)
    async with rpc.Rpc(args.rpc) as node:
        await staking.refuse_foreign(node)
        return await run(await staking.connect(node, start_block=args.start_block))


def papers(args: argparse.Namespace) -> int:
    from devnet import papers as office

    written = office.write(
        rpc_url=args.rpc, folder=args.folder, agents=args.agents, k=args.k, frame_blocks=args.frame_blocks
    )
    done = asyncio.run(written)
    said: dict[str, object] = {"folder": str(done.folder), "signers": done.signers, "written": done.written}
    if args.treasury:
        acting = asyncio.run(office.treasury(rpc_url=args.rpc, folder=args.folder))
        said |= {"treasury": acting.account, "validator": acting.validator}
    sys.stdout.write(json.dumps(said) + "\n")
    return 0


def proxy(args: argparse.Namespace) -> int:
    from devnet import proxy as lying

    if "help" in args.fault:
        sys.stdout.write(lying.catalogue.describe() + "\n")
        return 0
    return asyncio.run(lying.main(cast("lying.Options", args)))
