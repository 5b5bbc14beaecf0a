"""`stakeside agent run|check|status|…`. In: a settings file. Out: a running agent, a list of checks, or how the running one is."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cli import asking, serving

if TYPE_CHECKING:
    from config import settings

DEFAULT = "agent.toml"


def register(subparsers: serving.Subparsers[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("agent", help="the process beside a node: run it, check its settings, ask how it is")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    run_ = commands.add_parser("run", help="index, attest and report until SIGTERM")
    check_ = commands.add_parser("check", help="print the settings without secrets and test every connection")
    check_.add_argument("--json", action="store_true", help="print one JSON object")
    status_ = commands.add_parser(
        "status",
        help="ask the running agent how it is",
        epilog="exit code: 0 ready, 1 alive but not ready, 2 nobody answers or not alive",
    )
    status_.add_argument("--quiet", action="store_true", help="print nothing: only the exit code")
    status_.add_argument("--alive", action="store_true", help="ask only whether the process is alive")
    export_ = commands.add_parser("export", help="write a frame as statement.json, for `stakeside verify`")
    export_.add_argument("--stream", help="default: the first one")
    export_.add_argument("--sequence", type=int, help="default: the newest sealed frame")
    export_.add_argument("--out", type=Path, default=Path("statement.json"), metavar="FILE")
    rederive_ = commands.add_parser(
        "rederive",
        help="derive a stream's frames anew at the next start, and withdraw votes that differ (agent stopped)",
    )
    rederive_.add_argument("--stream", required=True)
    rederive_.add_argument("--from", dest="first", type=int, required=True, metavar="SEQUENCE")
    reindex_ = commands.add_parser(
        "reindex",
        help="start a fresh book that keeps every vote and receipt, and read the chain anew at the next start (agent stopped)",
    )
    reindex_.add_argument(
        "--clear", action="append", default=[], metavar="LATCH", help="do not take this latch over; may be repeated"
    )
    for command in (rederive_, reindex_):
        command.add_argument("--reason", default="", help="why; stays in the book with your user's name")
    clear_ = commands.add_parser("clear-latch", help="let the agent go on after a durable stop (agent stopped)")
    clear_.add_argument("name", help="as /readyz names it, for example finality")
    clear_.add_argument("--by", required=True, help="who decided; stays in the book")
    clear_.add_argument("--reason", default="", help="why; stays in the book too")
    for command, handler in (
        (run_, run),
        (check_, check),
        (status_, status),
        (export_, export),
        (rederive_, rederive),
        (reindex_, reindex),
        (clear_, clear_latch),
    ):
        if command is status_:
            asking.options(command)
        else:
            command.add_argument(
                "--config", type=Path, default=Path(DEFAULT), metavar="FILE", help=f"default: {DEFAULT}"
            )
        command.set_defaults(run=handler)


def _load(args: argparse.Namespace) -> settings.AgentSettings:
    from config import settings

    return settings.load_agent(args.config, os.environ)


def run(args: argparse.Namespace) -> int:
    with serving.importing():
        from kit import logs

        loaded = _load(args)
        logs.configure(loaded.log.format, loaded.log.level)
        from agent import app

    return serving.until_signal(lambda stop: app.run(loaded, stop=stop, ready=serving.ready))


def check(args: argparse.Namespace) -> int:
    from cli import checked
    from config import settings
    from kit import logs

    loaded = _load(args)
    logs.configure(loaded.log.format, "error")
    from agent import checks

    results = asyncio.run(checks.check(loaded))
    return checked.tell(results, shown=settings.redacted(loaded), as_json=args.json)


def status(args: argparse.Namespace) -> int:
    from domain import errors

    agent = asking.agent(args)
    try:
        code, health = agent.ask("GET", "/healthz", fail=False)
        alive = code == 200
        code, readiness = (code, health) if args.alive else agent.ask("GET", "/readyz", fail=False)
        shown = health if args.alive else agent.ask("GET", "/status", fail=False)[1]
    except errors.Transient:
        if args.quiet:
            return 2
        raise
    if args.json:
        sys.stdout.write(json.dumps(shown) + "\n")
    elif not args.quiet:
        reasons = readiness.get("reasons")
        sys.stdout.write("\n".join([f"ready: {'yes' if code == 200 else 'no'}", *serving.outline(reasons, 1)]) + "\n")
        sys.stdout.write("\n".join(serving.outline(shown)) + "\n")
    return (0 if code == 200 else 1) if alive else 2


def export(args: argparse.Namespace) -> int:
    from agent import operations

    content = asyncio.run(operations.export_statement(_load(args), args.stream, sequence=args.sequence))
    args.out.write_bytes(content)
    sys.stdout.write(f"{args.out}: check it with `stakeside verify {args.out}`\n")
    return 0


def rederive(args: argparse.Namespace) -> int:
    import time

    from agent import operations

    reason, at_s = args.reason or operations.UNSAID, time.time()
    count = asyncio.run(operations.rederive(_load(args), args.stream, first=args.first, reason=reason, at_s=at_s))
    sys.stdout.write(f"{count} frames of {args.stream} will be derived anew\n")
    return 0


def reindex(args: argparse.Namespace) -> int:
    import time

    from agent import operations

    reason = args.reason or operations.UNSAID
    done = asyncio.run(operations.reindex(_load(args), clear=args.clear, at_s=time.time(), reason=reason))
    lines = [
        f"{done.path}: a fresh book with {done.votes} votes, {done.outbox} items for the hub and {done.receipts} receipts",
        f"{done.kept}: the old one; delete it when the agent is ready again and its votes agree",
        *(
            f"latch {name} is still set: `stakeside agent clear-latch {name} --by YOUR-NAME --config {args.config}` when its cause is gone"
            for name in done.latches
        ),
        f"next: `stakeside agent run --config {args.config}` reads the chain from the start; a frame that comes out as it was is not signed "
        "again, for one that comes out otherwise the old vote is withdrawn",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def clear_latch(args: argparse.Namespace) -> int:
    import time

    from agent import operations
    from store import commands

    reason = f"{args.by}: {args.reason or 'no reason given'}"
    done = asyncio.run(operations.clear_latch(_load(args), args.name, reason=reason, at_s=time.time()))
    if isinstance(done, commands.Refused):
        sys.stdout.write(f"{done.why}\n")
        return 1
    sys.stdout.write(f"latch {args.name} cleared\n")
    return 0
