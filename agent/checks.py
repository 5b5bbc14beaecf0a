"""`agent check`: try everything the settings name, one after the other. In: settings. Out: a line for each, with advice.

Nothing is written, not even an empty book.
"""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path

import aiohttp
import msgspec

from agent import app, staking
from config import settings
from domain import errors, hashing, transaction
from indexers.chain import account, outcomes, reader
from kit import http, jsonrpc, runtime
from signers import transactions
from store import book, intents

CHECK_S = 5.0
"""Longest wait for one connection."""


class Check(msgspec.Struct, frozen=True):
    """`warning`: it is as it should be, and a person should know what does not work with it; `advice` says what to do."""

    name: str
    ok: bool
    detail: str
    advice: str = ""
    warning: bool = False


async def check(loaded: settings.AgentSettings) -> list[Check]:
    """One check for everything the settings name."""
    try:
        parts = app.assemble(loaded)
    except errors.StakesideError as error:
        return [Check("configuration", False, error.what, str(error))]
    done = [
        Check("configuration", True, f"deployment {hashing.hex0x(parts.document.digest())[:18]}…, proof {parts.proof}")
    ]
    done.append(await _try("book", _check_book(parts)))
    if loaded.web.tls is not None:
        done.append(await _try("tls", _check_tls(loaded)))
    async with http.client_session(timeout_s=CHECK_S) as session:
        endpoint = jsonrpc.Endpoint(loaded.node.url, session=session, timeout_s=CHECK_S)
        done.append(await _try("node", _check_node(parts, endpoint)))
        done.append(await _try("attester", _check_signer(parts)))
        done.append(await _try("delegator", _check_delegator(parts, endpoint)))
        if loaded.delegator is not None:
            done.append(await _check_proofs(parts, endpoint))
        if loaded.submit is not None:
            done.append(await _try("lease", _check_lease(parts, session)))
        if loaded.hub is not None:
            done.append(await _try("hub", _check_hub(loaded, session)))
    return done


async def _try(name: str, attempt: Awaitable[str]) -> Check:
    try:
        return Check(name, True, await attempt)
    except errors.StakesideError as error:
        return Check(name, False, error.what, error.cure or str(error))


async def _check_book(parts: app.Parts) -> str:
    file = Path(parts.settings.agent.store.removeprefix("sqlite:///"))
    if parts.settings.agent.store.startswith("sqlite:///") and not file.exists():
        return f"will be created at {file}"
    the_book = await app.open_book(parts, read_only=True)
    try:
        async with the_book.read() as c:
            wrong, empty = await intents.audit(c), await book.holds_nothing(c)
    finally:
        await the_book.close()
    if wrong:
        raise errors.StoreError(
            "the staking belt's rows contradict each other",
            value=wrong[:3],
            cure="submit nothing from this book; keep it, restore a backup, and report it",
        )
    if empty:
        return "holds nothing yet"
    return "belongs to this deployment and chain; intents, nonces and signatures agree"


async def _check_tls(loaded: settings.AgentSettings) -> str:
    context = app.web_tls_of(loaded)
    return "" if context is None or context.facts is None else context.facts.shown()


async def _check_node(parts: app.Parts, endpoint: jsonrpc.Endpoint) -> str:
    tip = await reader.Reader(endpoint, finality_tag=parts.chain.finality == "tag").tip()
    if tip.chain_id != parts.chain.id or hashing.hex0x(tip.genesis) != parts.chain.genesis:
        raise errors.WrongChain(
            f"the node serves chain {tip.chain_id} with genesis {hashing.hex0x(tip.genesis)[:18]}…",
            cure=f"the document is about chain {parts.chain.id}, genesis {parts.chain.genesis[:18]}…",
        )
    final = "no finalized block yet" if tip.finalized is None else f"finalized {tip.finalized.number}"
    return f"{await app.node_version(endpoint)}, chain {tip.chain_id}, head {tip.head.number}, {final}"


async def _check_signer(parts: app.Parts) -> str:
    signer = app.signer_of(parts)
    if signer is None:
        return "none: this agent only observes"
    await signer.sign_digest(hashing.keccak256(b"stakeside agent check"))
    address = hashing.hex0x(signer.address)
    if not any(address in epoch.signers for epoch in parts.document.epochs):
        raise errors.BadConfig(
            f"no epoch of the document lists {address}", cure="add the signer to the document or use another key"
        )
    return f"{address} signs and is listed in the document"


async def _check_delegator(parts: app.Parts, endpoint: jsonrpc.Endpoint) -> str:
    """It signs, it is not the attester, and the account is what the node says. Nothing is sent, and no lease is taken."""
    signer = staking.signer_of(parts.settings, chain_id=parts.chain.id, attester=app.signer_of(parts))
    if signer is None:
        return "none: this agent sends no transactions"
    unsigned = transaction.Unsigned(parts.chain.id, 0, 0, 0, 21_000, signer.address, 0, b"")
    await transactions.sign(signer, unsigned)
    rules = staking.rules_of(parts.settings, chain_id=parts.chain.id, account=signer.address)
    found = await account.Account(endpoint, chain_id=parts.chain.id, address=signer.address, recompute=False).standing()
    address = hashing.hex0x(signer.address)
    if found.balance <= rules.min_balance:
        raise errors.BadConfig(
            f"{address} has {found.balance} wei and must keep {rules.min_balance}", cure="send coins to the account"
        )
    return f"{address} signs, has {found.balance // 10**9} gwei, nonce {found.count_latest}, policy {rules.hash().hex()[:12]}"


async def _check_proofs(parts: app.Parts, endpoint: jsonrpc.Endpoint) -> Check:
    """Whether blocks like the newest one can prove how an intent ended. It works without, but then a person has to look."""
    asking = outcomes.Outcomes(endpoint, address=bytes(20))
    try:
        head = (await reader.Reader(endpoint, finality_tag=parts.chain.finality == "tag").tip()).head
    except errors.StakesideError as error:
        return _unproven(error.what)
    body = await asking.body(head.hash)
    if isinstance(body, outcomes.Unavailable):
        return _unproven(body.why)
    if not body.transactions:
        return Check(
            "proofs", True, f"block {head.ref} hashes to its header; it has no transactions, so more cannot be said"
        )
    ended = await asking.outcome(body, body.transactions[0].raw)
    if isinstance(ended, outcomes.Unavailable):
        return _unproven(ended.why)
    count = len(body.transactions)
    return Check(
        "proofs", True, f"block {head.ref} proves its {count} transactions and their receipts: ends can be proven"
    )


def _unproven(why: str) -> Check:
    return Check(
        "proofs",
        True,
        f"ends other than success cannot be proven here: {why}",
        "reverts, cancels and taken nonces will wait for a person's word (intents settle); see docs/staking.md",
        warning=True,
    )


async def _check_lease(parts: app.Parts, session: aiohttp.ClientSession) -> str:
    """Its authority would be asked. No lease is taken; the holder is one that never holds, the same at every check."""
    loaded = parts.settings
    signer = staking.signer_of(loaded, chain_id=parts.chain.id, attester=app.signer_of(parts))
    if signer is None:
        return "none: this agent sends no transactions"
    authority = staking.authority_of(
        loaded, parts.document, signer, chain_id=parts.chain.id, upstream=app.hub_of(loaded, session),
        random=bytes(staking.TOKEN_BYTES), clock=runtime.SystemClock(), last_token=0,
    )  # fmt: skip
    return await authority.look()


async def _check_hub(loaded: settings.AgentSettings, session: aiohttp.ClientSession) -> str:
    hub = app.hub_of(loaded, session)
    assert hub is not None
    await hub.streams()
    shown = None if loaded.hub is None else app.hub_tls_of(loaded.hub)
    ours = "" if shown is None or shown.facts is None else f"; it is shown {shown.facts.shown()}"
    return f"answers at {loaded.hub.url if loaded.hub else ''}{ours}"
