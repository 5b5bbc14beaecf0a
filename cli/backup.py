"""`stakeside backup`. In: a settings file. Out: one file with a consistent copy of the book, taken beside the running process."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from cli import serving

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kit import books


def register(subparsers: serving.Subparsers[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "backup", help="write a consistent copy of the book into one file, beside the running process"
    )
    configured(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="a file that does not exist")
    parser.set_defaults(run=run)


def configured(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, metavar="FILE", help="default: agent.toml, or hub.toml with --hub")
    parser.add_argument("--hub", action="store_true", help="the book is a hub's")


def run(args: argparse.Namespace) -> int:
    from kit import backups

    url, _, kinds = book_of(args)
    done = asyncio.run(backups.take(url, args.out, kinds, at_s=int(time.time())))
    sys.stdout.write(f"{args.out}: {done.rows} rows of the {done.kind}'s book, digest {done.digest}\n")
    return 0


def book_of(args: argparse.Namespace) -> tuple[str, dict[str, str], Sequence[books.Kind]]:
    """Its address, what it must be bound to, and its kind."""
    with serving.importing():
        from config import deployments, settings
        from domain import hashing

        if args.hub:
            from earnings import copy as hub_copy

            hub = settings.load_hub(args.config or Path("hub.toml"), os.environ)
            store, document, kind = hub.hub.store, hub.deployment.document, hub_copy.BOOK
        else:
            from store import copy as agent_copy

            agent = settings.load_agent(args.config or Path("agent.toml"), os.environ)
            store, document, kind = agent.agent.store, agent.deployment.document, agent_copy.BOOK
    return store, {"deployment": hashing.hex0x(deployments.load(document).digest())}, (kind,)
