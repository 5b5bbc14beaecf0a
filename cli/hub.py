"""`stakeside hub run`, `hub check` and `hub release`. In: a settings file. Out: a running hub, what is wrong, a held frame that may go on."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from pathlib import Path

from cli import serving

DEFAULT = "hub.toml"


def register(subparsers: serving.Subparsers[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("hub", help="the upstream: collect attestations and seal statements")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    command = commands.add_parser("run", help="serve until SIGTERM")
    command.add_argument("--config", type=Path, default=Path(DEFAULT), metavar="FILE", help=f"default: {DEFAULT}")
    command.set_defaults(run=run)
    command = commands.add_parser(
        "check", help="print the settings in force and try everything they name; writes nothing"
    )
    command.add_argument("--config", type=Path, default=Path(DEFAULT), metavar="FILE", help=f"default: {DEFAULT}")
    command.add_argument("--json", action="store_true", help="print one JSON object")
    command.set_defaults(run=check)
    command = commands.add_parser("release", help="let a frame go on that a cap holds; the hub must be stopped")
    command.add_argument("digest", metavar="DIGEST", help="the held statement, as the status page shows it")
    command.add_argument("--by", required=True, metavar="NAME", help="who looked at its numbers; kept in the book")
    command.add_argument("--reason", required=True, metavar="TEXT", help="why they are right; kept in the book")
    command.add_argument("--config", type=Path, default=Path(DEFAULT), metavar="FILE", help=f"default: {DEFAULT}")
    command.set_defaults(run=release)


def run(args: argparse.Namespace) -> int:
    with serving.importing():
        from config import settings
        from kit import logs

        loaded = settings.load_hub(args.config, os.environ)
        logs.configure(loaded.log.format, loaded.log.level)
        from earnings import app

    return serving.until_signal(lambda stop: app.run(loaded, stop=stop, ready=serving.ready))


def check(args: argparse.Namespace) -> int:
    """0: everything the settings name can be used. 1: something cannot, and how to mend it."""
    from cli import checked
    from config import settings
    from kit import logs

    loaded = settings.load_hub(args.config, os.environ)
    logs.configure(loaded.log.format, "error")
    from earnings import checks

    results = asyncio.run(checks.check(loaded))
    return checked.tell(results, shown=settings.redacted(loaded), as_json=args.json)


def release(args: argparse.Namespace) -> int:
    """0: the frame goes on at the next start. 1: it is not held."""
    with serving.importing():
        from config import settings
        from domain import errors, hashing
        from kit import logs

        loaded = settings.load_hub(args.config, os.environ)
        logs.configure(loaded.log.format, loaded.log.level)
        from earnings import app

    by: str = args.by.strip()
    if not 1 <= len(by) <= 200 or not by.isprintable():
        raise errors.BadConfig("--by is not a name", value=args.by, cure="say who releases the frame")
    reason: str = args.reason.strip()
    if not 1 <= len(reason) <= 500 or not reason.isprintable():
        raise errors.BadConfig(
            "--reason is not a reason", value=args.reason, cure="say in 1 to 500 characters why the frame is right"
        )
    digest = hashing.unhex(args.digest, size=32, what="DIGEST")
    done = asyncio.run(app.release(loaded, digest, by=by, reason=reason, at_s=int(time.time())))
    sys.stdout.write(f"released {args.digest}\n" if done else f"{args.digest} is not held\n")
    return 0 if done else 1
