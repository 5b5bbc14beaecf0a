"""`stakeside restore`. In: a settings file and a backup. Out: the book it names, whole, and marked as restored."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from cli import backup, serving


def register(subparsers: serving.Subparsers[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("restore", help="make the book again from a backup (its process stopped)")
    backup.configured(parser)
    parser.add_argument("file", type=Path, metavar="FILE", help="what `stakeside backup` wrote")
    parser.add_argument(
        "--force", action="store_true", help="keep a book that is there under another name and take its place"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from kit import backups, logs

    url, expect, kinds = backup.book_of(args)
    done = asyncio.run(backups.restore(args.file, url, kinds, expect=expect, at_s=int(time.time()), force=args.force))
    taken = datetime.fromtimestamp(done.manifest.taken_at_s, UTC).isoformat()
    lines = [f"{logs.safe_url(url)}: {done.manifest.rows} rows as they were at {taken}, digest {done.manifest.digest}"]
    if done.kept:
        lines.append(f"{done.kept}: the book that was there")
    if not args.hub:
        lines.append(
            "nothing is submitted from a restored book until an operator has compared it with the chain and cleared latch submit.restored"
        )
        lines.append(
            "no token from before the restore is valid, since the backup does not know who was revoked after it: "
            "`stakeside principal rotate NAME --reason …` lets an admin in again, who rotates the others"
        )
    sys.stdout.write("\n".join(lines) + "\n")
    return 0
