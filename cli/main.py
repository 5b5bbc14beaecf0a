"""The console script. In: arguments. Out: an exit code: 0 done, 1 the answer is no, 2 a clear error, 130 cancelled.

Command modules are listed here and imported only when they are called for; what they need is imported inside their handlers. An error of
ours is one line (what, which value, what to do); anything unexpected is one line too, without secrets, and a traceback with `--debug`.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Sequence
from types import TracebackType
from typing import cast

from domain import errors

COMMANDS = ("agent", "hub", "verify", "protocol", "devnet", "demo", "store", "backup", "restore", "delegate", "intents", "principal")  # fmt: skip
"""`cli.<name>` each, with `register(subparsers)`; handlers set `run` to a function of the parsed arguments."""
HOMES = {
    **dict.fromkeys(("undelegate", "redelegate", "withdraw", "claim"), "delegate"),
    **dict.fromkeys(("pause", "resume"), "intents"),
}
"""Commands that are registered together with another one."""
DISTRIBUTION = "stakeside"
OK, NO, UNUSABLE, CANCELLED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    if "--version" in given[:1]:
        sys.stdout.write(f"{DISTRIBUTION} {version()}\n")
        return OK
    args = _parser(given).parse_args(given)
    sys.excepthook = functools.partial(_report_unexpected, debug=args.debug)
    try:
        return args.run(args)
    except errors.StakesideError as error:
        return _refuse(error, debug=args.debug)
    except BaseExceptionGroup as group:
        error = _first_of_ours(group)
        if error is None:
            raise
        return _refuse(error, debug=args.debug)
    except (KeyboardInterrupt, asyncio.CancelledError):
        return CANCELLED
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # the reader left; the flush at exit must not complain
        return OK


def version() -> str:
    from importlib import metadata

    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "0+source"


def _parser(given: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stakeside", description="Index staking events through reorgs and report attested rewards upstream."
    )
    parser.add_argument("--version", action="store_true", help="print the version and end")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    called = next((word for word in given if not word.startswith("-")), "")
    called = HOMES.get(called, called)
    for name in (called,) if called in COMMANDS else COMMANDS:
        if importlib.util.find_spec(f"cli.{name}") is not None:
            importlib.import_module(f"cli.{name}").register(subparsers)
    return parser


def _refuse(error: errors.StakesideError, *, debug: bool) -> int:
    from kit import logs

    if debug:
        sys.stderr.write(logs.scrub("".join(traceback.format_exception(error))))
    sys.stderr.write(f"stakeside: {logs.scrub(str(error))}\n")
    return UNUSABLE


def _first_of_ours(group: BaseExceptionGroup[BaseException]) -> errors.StakesideError | None:
    """The first of our errors, when a task group holds nothing else."""
    found: errors.StakesideError | None = None
    for error in group.exceptions:
        inner = error
        if isinstance(error, BaseExceptionGroup):
            inner = _first_of_ours(cast("BaseExceptionGroup[BaseException]", error))
        if not isinstance(inner, errors.StakesideError):
            return None
        found = found or inner
    return found


def _report_unexpected(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None, *, debug: bool
) -> None:
    from kit import logs

    if debug:
        sys.stderr.write(logs.scrub("".join(traceback.format_exception(kind, error, trace))))
        return
    sys.stderr.write(
        f"stakeside: unexpected {kind.__name__}: {logs.scrub(errors.clip(str(error)))}; run again with --debug and report it\n"
    )


if __name__ == "__main__":
    sys.exit(main())
