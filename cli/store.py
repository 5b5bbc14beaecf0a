"""`stakeside store copy|digest`. In: addresses of books, the agent's or the hub's. Out: a copy that is proven equal, or a digest."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import TYPE_CHECKING

from cli import serving

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kit import books, digests

_ADDRESS = "sqlite:///file or postgresql://user@host/database"


def register(subparsers: serving.Subparsers[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("store", help="move a book between SQLite and PostgreSQL, or compare two")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    copy_ = commands.add_parser(
        "copy",
        help="copy a whole book into an empty database and prove it equal (its process stopped)",
        epilog="exit code: 0 copied and equal, 1 the digests differ and nothing was left, 2 an error. The old book stays as it is: never "
        "start a process on it again.",
    )
    copy_.add_argument("source", metavar="FROM", help=_ADDRESS)
    copy_.add_argument("target", metavar="TO", help="an empty database, or a file that does not exist")
    copy_.set_defaults(run=copy)
    digest_ = commands.add_parser(
        "digest", help="print a book's digest, the same on both databases; works beside a running process"
    )
    digest_.add_argument("address", metavar="URL", help=_ADDRESS)
    digest_.set_defaults(run=digest)


def copy(args: argparse.Namespace) -> int:
    with serving.importing():
        from kit import copying, logs

    done = asyncio.run(copying.copy(args.source, args.target, kinds()))
    _print(done.source)
    sys.stdout.write(f"digest {done.source.whole.hex()} {logs.safe_url(args.source)}\n")
    sys.stdout.write(f"digest {done.target.whole.hex()} {logs.safe_url(args.target)}\n")
    if done.same:
        return 0
    differing = [a.name for a, b in zip(done.source.tables, done.target.tables, strict=True) if a != b]
    sys.stdout.write(f"the copy differs in {', '.join(differing)}: nothing was left\n")
    return 1


def digest(args: argparse.Namespace) -> int:
    with serving.importing():
        from kit import copying, logs

    found = asyncio.run(copying.digest(args.address, kinds()))
    _print(found)
    sys.stdout.write(f"digest {found.whole.hex()} {logs.safe_url(args.address)}\n")
    return 0


def kinds() -> Sequence[books.Kind]:
    from earnings import copy as hub_copy
    from store import copy as agent_copy

    return agent_copy.BOOK, hub_copy.BOOK


def _print(found: digests.Digest) -> None:
    for table in found.tables:
        sys.stdout.write(f"{table.name:<20} {table.rows:>12} {table.digest.hex()[:16]}\n")
