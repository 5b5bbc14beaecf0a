"""`agent check`: try everything the settings name, one after the other. In: settings. Out: a line for each, with advice.

Nothing is written, not even an empty book.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from pathlib import Path

import aiohttp
import msgspec

from agent import app, staking
from agent.services import lookout
from config import settings
from domain import amounts, errors, hashing, transaction
from indexers.chain import account, outcomes, reader
from kit import http, jsonrpc, runtime
from signers import base, files, registry, transactions
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
    """One check for everything the settings name. What failed is said once: what needs it is not tried, and says so."""
    try:
        parts = app.assemble(loaded)
    except errors.StakesideError as error:
        return [_failed("configuration", error)]
    done = [
        Check("configuration", True, f"deployment {hashing.hex0x(parts.document.digest())[:18]}…, proof {parts.proof}")
    ]
    tried, holder = await _check_book(parts)
    done += [tried, *await _check_web(loaded, holder)]
    if loaded.web.tls is not None:
        done.append(await _try("tls", _check_tls(loaded)))
    async with http.client_session(timeout_s=CHECK_S) as session:
        endpoint = jsonrpc.Endpoint(loaded.node.url, session=session, timeout_s=CHECK_S)
        node = await _try("node", _check_node(parts, endpoint))
        done.append(node)
        attester, signed = await _check_attester(parts)
        done.append(signed)
        if loaded.delegator is not None:
            delegator, signed = await _check_delegator(parts, attester, endpoint if node.ok else None)
            done.append(signed)
            done.append(await _check_proofs(parts, endpoint) if node.ok else _not_tried("proofs", "node"))
        else:
            delegator = None
            done.append(Check("delegator", True, "none: this agent sends no transactions"))
        hub = None if loaded.hub is None else await _try("hub", _check_hub(loaded, session))
        if loaded.submit is not None:
            done.append(await _check_lease(parts, session, delegator, hub))
        if hub is not None:
            done.append(hub)
    return done


async def _try(name: str, attempt: Awaitable[str]) -> Check:
    try:
        return Check(name, True, await attempt)
    except errors.StakesideError as error:
        return _failed(name, error)


def _failed(name: str, error: errors.StakesideError) -> Check:
    return Check(name, False, error.fact, error.cure)


def _not_tried(name: str, needed: str) -> Check:
    return Check(name, True, f"not tried: the {needed} failed", warning=True)


async def _check_book(parts: app.Parts) -> tuple[Check, str | None]:
    """And who writes to it now."""
    file = Path(parts.settings.agent.store.removeprefix("sqlite:///"))
    if parts.settings.agent.store.startswith("sqlite:///") and not file.exists():
        return Check("book", True, f"will be created at {file}"), None
    holder = None
    try:
        the_book = await app.open_book(parts, read_only=True)
        try:
            holder = await the_book.holder()
            return Check("book", True, await _audit(the_book)), holder
        finally:
            await the_book.close()
    except errors.StakesideError as error:
        return _failed("book", error), holder


async def _audit(the_book: book.Book) -> str:
    async with the_book.read() as c:
        wrong, empty = await intents.audit(c), await book.holds_nothing(c)
    if wrong:
        raise errors.StoreError(
            "the staking belt's rows contradict each other",
            value=wrong[:3],
            cure="submit nothing from this book; keep it, restore a backup, and report it",
        )
    if empty:
        return "holds nothing yet"
    return "belongs to this deployment and chain; intents, nonces and signatures agree"


async def _check_web(loaded: settings.AgentSettings, holder: str | None) -> list[Check]:
    """Whether it could listen. A running agent may be looked at by this command: that its port is taken is as it should be."""
    web = loaded.web
    seen = app.open_to_all(web)
    done = [] if seen is None else [Check("web.read", True, seen.fact, seen.cure, warning=True)]
    done.append(await _check_port("web.port", web.host, web.port, holder, settings.port_file(loaded.agent.store)))
    if web.tls is not None and web.tls.health_port is not None:
        done.append(await _check_port("web.tls.health_port", web.host, web.tls.health_port, holder, None))
    return done


async def _check_port(setting: str, host: str, port: int, holder: str | None, told: Path | None) -> Check:
    try:
        await http.listenable(host=host, port=port, setting=setting)
    except http.Taken as error:
        if holder is not None and _says(told, port):
            return Check(setting, True, f"{host}:{port} is used by the agent that runs with this book ({holder})")
        other = "another program, or an agent with another book, listens there: see `ss -ltnp`, stop it, or "
        return Check(setting, False, f"{host}:{port} is taken", other + error.cure)
    except errors.StakesideError as error:
        return _failed(setting, error)
    return Check(setting, True, f"any free port of {host}" if port == 0 else f"{host}:{port} is free")


def _says(told: Path | None, port: int) -> bool:
    """Whether the running agent has told this port beside its book; where it tells none, it is taken to have the one of the settings."""
    if told is None:
        return True
    try:
        return told.read_text(encoding="ascii").strip() == str(port)
    except (OSError, UnicodeDecodeError):
        return False


async def _check_tls(loaded: settings.AgentSettings) -> str:
    context = app.web_tls_of(loaded)
    return "" if context is None or context.facts is None else context.facts.shown()


async def _check_node(parts: app.Parts, endpoint: jsonrpc.Endpoint) -> str:
    tip = await reader.Reader(endpoint, finality_tag=parts.chain.finality == "tag").tip()
    genesis = hashing.unhex(parts.chain.genesis, size=32, what="genesis")
    wrong = lookout.wrong_chain(tip, chain_id=parts.chain.id, genesis=genesis)
    if wrong is not None:
        raise wrong
    final = "no finalized block yet" if tip.finalized is None else f"finalized {tip.finalized.number}"
    return f"{await app.node_version(endpoint)}, chain {tip.chain_id}, head {tip.head.number}, {final}"


async def _check_attester(parts: app.Parts) -> tuple[base.Signer | None, Check]:
    """None also for one that cannot be used."""
    name = "attester"
    try:
        signer = app.signer_of(parts)
        if signer is None:
            return None, Check(name, True, "none: signs no statements")
        await signer.sign_digest(hashing.keccak256(b"stakeside agent check"))
    except errors.StakesideError as error:
        return None, _failed(name, error)
    wrong = app.unlisted(parts, signer)
    if wrong is not None:
        return signer, _failed(name, wrong)
    told = f"{hashing.hex0x(signer.address)} signs and is listed in the document"
    return signer, _exposed(Check(name, True, told), parts.settings.attester)


async def _check_delegator(
    parts: app.Parts, attester: base.Signer | None, endpoint: jsonrpc.Endpoint | None
) -> tuple[base.Signer | None, Check]:
    """It signs, it is not the attester, and the account is what the node says, where there is one to ask. Nothing is sent, and no lease is
    taken. The signer is None when it cannot be used."""
    name, signer = "delegator", None
    try:
        signer = staking.signer_of(parts.settings, chain_id=parts.chain.id, attester=attester)
        assert signer is not None
        unsigned = transaction.Unsigned(parts.chain.id, 0, 0, 0, 21_000, signer.address, 0, b"")
        await transactions.sign(signer, unsigned)
        rules = staking.rules_of(parts.settings, chain_id=parts.chain.id, account=signer.address)
    except errors.StakesideError as error:
        return None, _failed(name, error)
    address = hashing.hex0x(signer.address)
    if endpoint is None:
        return signer, Check(name, True, f"{address} signs; what it has was not tried: the node failed", warning=True)
    try:
        node = account.Account(endpoint, chain_id=parts.chain.id, address=signer.address, recompute=False)
        found = await node.standing()
    except errors.StakesideError as error:
        return signer, _failed(name, error)
    if found.balance <= rules.min_balance:
        what = f"{address} has {amounts.coins(found.balance)} and must keep {amounts.coins(rules.min_balance)}"
        return signer, Check(name, False, what, "send coins to the account")
    told = (
        f"{address} signs, has {amounts.coins(found.balance)}, nonce {found.count_latest}, "
        f"policy {rules.hash().hex()[:12]}"
    )
    return signer, _exposed(Check(name, True, told), parts.settings.delegator)


def _exposed(check: Check, table: Mapping[str, object] | None) -> Check:
    """What a start would say aloud of the files of a signer."""
    open_ = [str(path) for path in registry.files_of(table or {}) if files.exposed(path)]
    if not open_:
        return check
    told = f"{check.detail}; every user of this machine can read {' and '.join(open_)}"
    return Check(check.name, True, told, f"chmod 600 {' '.join(open_)}, or mount it with mode 0400", warning=True)


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
            "proofs",
            True,
            f"block {head.ref} hashes to its header; it has no transactions: check again to see whether ends can be proven",
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


async def _check_lease(
    parts: app.Parts, session: aiohttp.ClientSession, signer: base.Signer | None, hub: Check | None
) -> Check:
    """Its authority would be asked. No lease is taken; the holder is one that never holds, the same at every check."""
    loaded = parts.settings
    if signer is None:
        return _not_tried("lease", "delegator")
    if hub is not None and not hub.ok and loaded.submit is not None and loaded.submit.lease == "hub":
        return _not_tried("lease", "hub")
    try:
        authority = staking.authority_of(
            loaded, parts.document, signer, chain_id=parts.chain.id, upstream=app.hub_of(loaded, session),
            random=bytes(staking.TOKEN_BYTES), clock=runtime.SystemClock(), last_token=0,
        )  # fmt: skip
        return Check("lease", True, await authority.look())
    except errors.StakesideError as error:
        return _failed("lease", error)


async def _check_hub(loaded: settings.AgentSettings, session: aiohttp.ClientSession) -> str:
    hub = app.hub_of(loaded, session)
    assert hub is not None
    await hub.streams()
    shown = None if loaded.hub is None else app.hub_tls_of(loaded.hub)
    ours = "" if shown is None or shown.facts is None else f"; it is shown {shown.facts.shown()}"
    return f"answers at {loaded.hub.url if loaded.hub else ''}{ours}"
