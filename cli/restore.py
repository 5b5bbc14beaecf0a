"""`stakeside restore`. In: a settings file and a backup. Out: the book it names, whole, and marked as restored."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from cli import backup, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from kit import backups

T = TypeVar("T")
KEYS = {
    "account": ("--account", "an agent's", "delegator"),
    "attester": ("--attester", "an agent's", "attester"),
    "receipt key": ("--receipt-key", "a hub's", "receipts"),
}
"""The keys a book is of, each with the option that names its address, whose book has it, and its table in the settings."""


def register(subparsers: serving.Subparsers[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("restore", help="make the book again from a backup (its process stopped)")
    backup.configured(parser)
    parser.add_argument("file", type=Path, metavar="FILE", help="what `stakeside backup` wrote")
    parser.add_argument(
        "--force", action="store_true", help="keep a book that is there under another name and take its place"
    )
    parser.add_argument("--reason", default="", help="why; an agent's book keeps it, with your user's name")
    for name, (flag, whose, table) in KEYS.items():
        parser.add_argument(
            flag,
            metavar="0x…",
            help=f"{whose} book is of this {name}; instead of the key in [{table}], which need not be there",
        )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from kit import backups, logs

    url, expect, kinds = backup.book_of(args)
    also = None if args.hub else _commanded(args.reason)
    at_s = int(time.time())
    bound, keys = _expected(args)
    done = asyncio.run(
        backups.restore(
            args.file, url, kinds, expect={**expect, **bound}, keys=keys, at_s=at_s, force=args.force, also=also
        )
    )
    taken = datetime.fromtimestamp(done.manifest.taken_at_s, UTC).isoformat()
    lines = [f"{logs.safe_url(url)}: {done.manifest.rows} rows as they were at {taken}, digest {done.manifest.digest}"]
    if done.kept:
        lines.append(f"{done.kept}: the book that was there")
    lines.extend(_compared(args, done, {**expect, **bound}, keys))
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


def _expected(args: argparse.Namespace) -> Bound:
    """What is given goes before what is configured: the key itself may be lost."""
    given = {name: key for name, (flag, *_) in KEYS.items() if (key := _given(args, name, flag)) is not None}
    bound, keys = _hub(args, given) if args.hub else _agent(args, given)
    return bound, {**keys, **given}


def _given(args: argparse.Namespace, name: str, flag: str) -> frozenset[str] | None:
    from domain import errors, hashing

    text = getattr(args, flag[2:].replace("-", "_"))
    if text is None:
        return None
    if (KEYS[name][1] == "a hub's") != args.hub:
        raise errors.BadConfig(
            f"{flag} is for {KEYS[name][1]} book", value=_some(text), cure="see `stakeside restore --help`"
        )
    try:
        return _one(hashing.unhex(text, size=20, what=flag))
    except errors.StakesideError:
        raise errors.BadConfig(f"{flag} is no address", value=_some(text), cure="0x and 40 hex digits") from None


def _some(text: str) -> str:
    """Enough to know it again: it may be a private key."""
    return f"{text[:6]}…, {len(text)} characters"


def _agent(args: argparse.Namespace, given: Mapping[str, frozenset[str]]) -> Bound:
    with serving.importing():
        from agent import app, staking
        from config import settings
        from signers import checks

        parts = app.assemble(settings.load_agent(args.config or Path("agent.toml"), os.environ))
        bound = {"chain_id": str(parts.chain.id), "genesis": parts.chain.genesis}
        attester = None if "attester" in given else _read("attester", lambda: app.signer_of(parts))
        account = None
        if "account" not in given:
            account = _read(
                "account", lambda: staking.signer_of(parts.settings, chain_id=parts.chain.id, attester=attester)
            )
    keys = {name: _one(key.address) for name, key in (("attester", attester), ("account", account)) if key}
    named = {**keys, **given}
    checks.distinct(_only(named.get("attester")), _only(named.get("account")))
    return bound, keys


def _hub(args: argparse.Namespace, given: Collection[str]) -> Bound:
    with serving.importing():
        from config import settings
        from domain import hashing
        from signers import registry

        loaded = settings.load_hub(args.config or Path("hub.toml"), os.environ)
        if "receipt key" in given:
            return {}, {}
        keys = _read(
            "receipt key",
            lambda: [registry.build(table, chain_id=loaded.deployment.chain_id) for table in loaded.receipt_tables],
        )
    return {}, {"receipt key": frozenset(hashing.hex0x(key.address) for key in keys)}


def _read(name: str, key: Callable[[], T]) -> T:
    """Raises BadConfig that tells how to go on without the key."""
    from domain import errors

    try:
        return key()
    except errors.BadConfig as error:
        way = f"name its address with {KEYS[name][0]} if the key is lost"
        raise errors.BadConfig(
            error.what, value=error.value, cure=f"{error.cure}; or {way}" if error.cure else way
        ) from None


def _one(address: bytes) -> frozenset[str]:
    from domain import hashing

    return frozenset([hashing.hex0x(address)])


def _only(addresses: frozenset[str] | None) -> bytes | None:
    """What `_one` was made of."""
    return None if addresses is None else bytes.fromhex(next(iter(addresses))[2:])


def _compared(
    args: argparse.Namespace, done: backups.Done, bound: Mapping[str, str], keys: Mapping[str, frozenset[str]]
) -> Iterator[str]:
    """A line for each thing that the book could be of, whether it was compared or not."""
    for key, value in bound.items():
        name = key.replace("_", " ")
        yield (
            f"not compared: {name}, since the backup does not say it; see that the settings are the ones it was of"
            if key in done.untold
            else f"compared: {name} {value if len(value) <= 42 else value[:18] + '…'}"
        )
    for name, (flag, whose, table) in KEYS.items():
        if (whose == "a hub's") != args.hub:
            continue
        found = ", ".join(sorted(done.whose.get(name, ())))
        if name in done.untold:
            yield f"not compared: {name}, since the backup does not say it: the book has not used one"
        elif not found:
            yield f"not compared: {name}, since there is no [{table}], and the book has not used one"
        elif name in keys:
            by = f"given by {flag}" if getattr(args, flag[2:].replace("-", "_")) else f"by [{table}]"
            yield f"compared: {name} {', '.join(sorted(keys[name]))}, {by}"
        else:
            yield f"not compared: {name}, since there is no [{table}]; the backup is of {found}: {flag} compares it"


def _commanded(reason: str) -> backups.Also:
    """Who made the book again and why is a row of it, in the transaction that makes it."""
    with serving.importing():
        from agent import operations
        from domain import errors
        from store import commands

    if (refused := commands.reason_refused(reason)) is not None:
        raise errors.BadConfig(refused.why, value=reason, cure="say why with --reason")
    return commands.restoring(by=operations.local_user(), reason=reason)
