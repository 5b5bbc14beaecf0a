"""`stakeside restore`. In: a settings file and a backup. Out: the book it names, whole, and marked as restored."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cli import backup, serving

if TYPE_CHECKING:
    from kit import backups


def register(subparsers: serving.Subparsers[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("restore", help="make the book again from a backup (its process stopped)")
    backup.configured(parser)
    parser.add_argument("file", type=Path, metavar="FILE", help="what `stakeside backup` wrote")
    parser.add_argument(
        "--force", action="store_true", help="keep a book that is there under another name and take its place"
    )
    parser.add_argument("--reason", default="", help="why; an agent's book keeps it, with your user's name")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from kit import backups, logs

    url, expect, kinds = backup.book_of(args)
    also = None if args.hub else _commanded(args.reason)
    at_s = int(time.time())
    bound, keys = _hub(args) if args.hub else _agent(args)
    done = asyncio.run(
        backups.restore(
            args.file, url, kinds, expect={**expect, **bound}, keys=keys, at_s=at_s, force=args.force, also=also
        )
    )
    taken = datetime.fromtimestamp(done.manifest.taken_at_s, UTC).isoformat()
    lines = [f"{logs.safe_url(url)}: {done.manifest.rows} rows as they were at {taken}, digest {done.manifest.digest}"]
    if done.kept:
        lines.append(f"{done.kept}: the book that was there")
    if done.untold:
        lines.append(f"the backup does not say: {', '.join(done.untold)}; see that the settings are the ones it was of")
    if args.hub:
        lines.append(
            "it may have forgotten who holds a lease: no account's is granted anew until the hub has run for an hour"
        )
    else:
        lines.append(
            "nothing is submitted from a restored book until an operator has compared it with the chain and cleared latch submit.restored"
        )
        lines.append(
            "no token from before the restore is valid, since the backup does not know who was revoked after it: "
            "`stakeside principal rotate NAME --reason …` lets an admin in again, who rotates the others"
        )
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


Bound = tuple[dict[str, str], dict[str, frozenset[str]]]
"""What a book must be bound to, and the keys it must be of."""


def _agent(args: argparse.Namespace) -> Bound:
    with serving.importing():
        from agent import app, staking
        from config import settings

        parts = app.assemble(settings.load_agent(args.config or Path("agent.toml"), os.environ))
        bound = {"chain_id": str(parts.chain.id), "genesis": parts.chain.genesis}
        attester = app.signer_of(parts)
        account = staking.signer_of(parts.settings, chain_id=parts.chain.id, attester=attester)
    return bound, {name: _one(key.address) for name, key in (("attester", attester), ("account", account)) if key}


def _hub(args: argparse.Namespace) -> Bound:
    with serving.importing():
        from config import settings
        from domain import hashing
        from signers import registry

        loaded = settings.load_hub(args.config or Path("hub.toml"), os.environ)
        keys = [registry.build(table, chain_id=loaded.deployment.chain_id) for table in loaded.receipt_tables]
    return {}, {"receipt key": frozenset(hashing.hex0x(key.address) for key in keys)}


def _one(address: bytes) -> frozenset[str]:
    from domain import hashing

    return frozenset([hashing.hex0x(address)])


def _commanded(reason: str) -> backups.Also:
    """Who made the book again and why is a row of it, in the transaction that makes it."""
    with serving.importing():
        from agent import operations
        from domain import errors
        from store import commands

    if (refused := commands.reason_refused(reason)) is not None:
        raise errors.BadConfig(refused.why, value=reason, cure="say why with --reason")
    return commands.restoring(by=operations.local_user(), reason=reason)
