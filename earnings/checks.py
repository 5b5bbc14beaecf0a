"""`hub check`: try everything the settings name, one after the other. In: settings. Out: a line for each, with advice.

Nothing is written, not even an empty book; a running hub is not disturbed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path

import msgspec

from config import settings
from domain import errors, hashing, signatures
from earnings import app, book, seats
from earnings.web import guard
from kit import tls

CHECK_S = 10.0


class Check(msgspec.Struct, frozen=True):
    """`warning`: it works, and a person should know what it lets happen; `advice` says what to do."""

    name: str
    ok: bool
    detail: str
    advice: str = ""
    warning: bool = False


async def check(loaded: settings.HubSettings) -> list[Check]:
    """One check for everything the settings name."""
    done = [await _try("tls", _tls(loaded))]
    try:
        arguments = app.assemble(msgspec.structs.replace(loaded, web=msgspec.structs.replace(loaded.web, tls=None)))
        places = seats.Seats(arguments.document)
    except errors.StakesideError as error:
        return [Check("configuration", False, error.fact, error.cure), *done]
    told = f"deployment {hashing.hex0x(places.deployment)[:18]}…, {len(arguments.document.streams)} streams"
    return [
        Check("configuration", True, told),
        *done,
        await _try("receipts", _receipts(arguments, places)),
        await _try("consumers", _consumers(arguments)),
        _leases(arguments),
        await _try("book", _book(arguments, places)),
    ]


async def _try(name: str, attempt: Awaitable[str]) -> Check:
    try:
        async with asyncio.timeout(CHECK_S):
            return Check(name, True, await attempt)
    except errors.StakesideError as error:
        return Check(name, False, error.fact, error.cure)
    except TimeoutError:
        return Check(name, False, f"no answer within {CHECK_S:.0f} seconds", "is it reachable from here?")


async def _tls(loaded: settings.HubSettings) -> str:
    section = loaded.web.tls
    if section is None:
        return "none: plain HTTP, for a network that nobody else is on"
    facts = tls.server(app.tls_files(section)).facts
    asked = "; clients have to show a certificate" if section.client_ca_file is not None else ""
    return f"{'' if facts is None else facts.shown()}{asked}"


async def _receipts(arguments: app.Arguments, places: seats.Seats) -> str:
    places.check_receipt_keys(key.address for key in arguments.keys)
    digest = hashing.keccak256(b"stakeside hub check")
    for key in arguments.keys:
        if signatures.recover(digest, await key.sign_digest(digest)) != key.address:
            raise errors.BadConfig("the receipt signer answers with another key", value=hashing.hex0x(key.address))
    return f"{', '.join(hashing.hex0x(key.address) for key in arguments.keys)} signs and is listed in the document"


async def _consumers(arguments: app.Arguments) -> str:
    tokens = guard.Tokens(arguments.tokens_file)
    return f"{len(tokens)} tokens" if arguments.tokens_file is not None else "none: nobody can read statements"


def _leases(arguments: app.Arguments) -> Check:
    if arguments.accounts is None:
        return Check(
            "leases",
            True,
            "for any account that anybody who reaches this hub asks for, as long as there is room",
            'write [leases] accounts = ["0x…"] with the accounts that your agents delegate from, or accounts = [] when none does',
            warning=True,
        )
    if not arguments.accounts:
        return Check("leases", True, 'for no account: an agent with submit.lease = "hub" signs nothing')
    return Check("leases", True, f"for {', '.join(sorted(map(hashing.hex0x, arguments.accounts)))} only")


async def _book(arguments: app.Arguments, places: seats.Seats) -> str:
    file = Path(arguments.store.removeprefix("sqlite:///"))
    if arguments.store.startswith("sqlite:///") and not file.exists():
        return f"will be created at {file}"
    stored = await book.look(arguments.store)
    if stored is None:
        return "is empty, and will be filled"
    if stored != places.deployment:
        raise errors.StoreError(
            "the hub's book is of another deployment",
            value=stored.hex(),
            cure="give every deployment a store of its own",
        )
    return "belongs to this deployment"
