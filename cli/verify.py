"""`stakeside verify`: prove a statement file. In: arguments. Out: lines or JSON, exit code 0, 1 (a difference) or 2 (unusable)."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # pyright: ignore[reportPrivateUsage]

_EPILOG = """\
offline   the document rules the header, k signers of the epoch signed it, body and carry are what they signed, the
          previous frame is certified too, and replaying this frame's logs from its carry gives every leaf
--rpc     the same with the logs taken from the chain, proven by receipts to the frame's last block
--full    every frame since the stream's start derived from the chain alone

exit code: 0 verified, 1 something differs (the first difference is named), 2 the input cannot be checked
"""


def register(subparsers: Subparsers) -> None:
    """Adds the command; `args.run(args)` carries it out and returns the exit code."""
    parser = subparsers.add_parser(
        "verify",
        help="prove a statement file against its signers, its logs and the chain",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", help="a statement.json")
    parser.add_argument("--rpc", metavar="URL", help="an execution node to take the logs from")
    parser.add_argument("--full", action="store_true", help="derive every frame from the stream's start (needs --rpc)")
    parser.add_argument("--document", metavar="FILE", help="your own copy of the deployment document (TOML or JSON)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    import verify  # here, so that other commands do not load it

    report = verify.check(args.file, rpc=args.rpc, full=args.full, document_path=args.document)
    text = json.dumps(report.to_json()) if args.json else "\n".join(report.lines())
    sys.stdout.write(text + "\n")
    return report.exit_code
