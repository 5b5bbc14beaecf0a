"""`stakeside restore`. In: a settings file and a backup. Out: the book it names, whole, and marked as restored."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cli import backup, serving

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import sqlalchemy as sa

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
    done = asyncio.run(backups.restore(args.file, url, kinds, expect=expect, at_s=at_s, force=args.force, also=also))
    taken = datetime.fromtimestamp(done.manifest.taken_at_s, UTC).isoformat()
    lines = [f"{logs.safe_url(url)}: {done.manifest.rows} rows as they were at {taken}, digest {done.manifest.digest}"]
    if done.kept:
        lines.append(f"{done.kept}: the book that was there")
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


def _commanded(reason: str) -> Callable[[sa.Connection, backups.Restored], Awaitable[None]]:
    """Who made the book again and why is a row of it, in the transaction that makes it."""
    with serving.importing():
        from agent import operations
        from domain import errors
        from store import commands, connection

    if (refused := commands.reason_refused(reason)) is not None:
        raise errors.BadConfig(refused.why, value=reason, cure="say why with --reason")

    async def write(sync: sa.Connection, found: backups.Restored) -> None:
        await commands.restored(connection.Connection(sync), found, by=operations.local_user(), reason=reason)

    return write
