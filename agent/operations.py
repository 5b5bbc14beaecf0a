"""What an operator does beside a running agent or while it is stopped. In: settings. Out: a file, or a changed book.

Each opens the book itself; those that write need the agent stopped, since a book has one writer.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Collection
from contextlib import AsyncExitStack
from pathlib import Path

from agent import app, export
from agent.reporting.sinks import http as hub_http
from agent.services.plan import StreamPlan
from agent.web import people
from config import settings
from domain import errors, hashing
from kit import http
from store import book, commands, cursors, latches, renewal, statements
from store import principals as people_rows

UNSAID = "no reason given"


async def clear_latch(
    loaded: settings.AgentSettings, name: str, *, reason: str, at_s: float
) -> commands.Done | commands.Refused:
    """Who did it is this machine's user; that stays in the book, with the reason."""
    the_book = await app.open_book(app.assemble(loaded), read_only=False)
    try:
        async with the_book.write() as c:
            return await commands.clear_latch(c, name, by=local_user(), reason=reason, at_s=at_s)
    finally:
        await the_book.close()


async def principals(loaded: settings.AgentSettings) -> list[dict[str, object]]:
    """Names and roles, former ones too. Works beside a running agent."""
    the_book = await app.open_book(app.assemble(loaded), read_only=True)
    try:
        async with the_book.read() as c:
            rows = await people_rows.list_(c, ended=True)
    finally:
        await the_book.close()
    return [
        {"id": row.id, "name": row.name, "roles": sorted(row.roles), "sinceS": row.since_s, "untilS": row.until_s}
        for row in rows
    ]


async def change_principal(
    loaded: settings.AgentSettings, verb: str, name: str, *, roles: Collection[str], reason: str, at_s: float
) -> dict[str, object] | commands.Refused:
    """`add`, `rotate` or `revoke`, as this machine's user; the first two answer with the new token. Whoever can write the book's file is
    the root of trust: this is how the first admin comes to be."""
    the_book = await app.open_book(app.assemble(loaded), read_only=False)
    token, by = people.new_token(), local_user()
    try:
        async with the_book.write() as c:
            match verb:
                case "add":
                    done = await people_rows.add(c, name, roles, people.hash_of(token), by=by, reason=reason, at_s=at_s)
                case "rotate":
                    done = await people_rows.rotate(c, name, people.hash_of(token), by=by, reason=reason, at_s=at_s)
                case _:
                    done = await people_rows.revoke(c, name, by=by, reason=reason, at_s=at_s)
    finally:
        await the_book.close()
    if isinstance(done, commands.Refused):
        return done
    return {"command": done.command_id} if verb == "revoke" else {"principal": name, "token": token}


def local_user() -> str:
    """`local:` and the name of the user at this machine: no principal's name has a colon."""
    try:
        return f"local:{getpass.getuser()}"
    except (KeyError, OSError):
        return f"local:{os.getuid()}"


async def rederive(
    loaded: settings.AgentSettings, stream_name: str, *, first: int, reason: str = UNSAID, at_s: float = 0
) -> int:
    """Set the statements of a stream from frame `first` on aside, so that the next run derives and votes them anew; returns how
    many. What changed is voted by a Replace: for frames that are sealed already the hub will refuse it. Frames up to an adopted one
    cannot be: what is before it was perhaps never indexed here, and nothing would ever derive them."""
    parts = app.assemble(loaded)
    plan = next((plan for plan in parts.plans if plan.stream.name == stream_name), None)
    if plan is None:
        raise errors.BadConfig("this agent has no such stream", value=stream_name)
    await _refuse_sealed(loaded, plan, first)
    the_book = await app.open_book(parts, read_only=False)
    try:
        async with the_book.write() as c:
            if (adopted := await _last_adopted(c, plan, first)) is not None:
                raise errors.BadConfig(
                    f"frame {adopted} of stream {stream_name} is adopted: frames up to it cannot be derived anew",
                    value=first,
                    cure=f"use --from {adopted + 1}, or `stakeside agent reindex` with a node that has the whole history",
                )
            stored = await statements.derived_from(c, plan.stream.id(), first)
            for frame in stored:
                await statements.supersede(c, frame.digest)
            found = len({frame.sequence for frame in stored})
            seen = await cursors.get(c, f"attest:{stream_name}")
            if seen is not None and seen.number > first:
                await cursors.put(c, f"attest:{stream_name}", cursors.Cursor(first, hashing.ZERO32, 0))
            await commands.add(
                c, principal=local_user(), kind="rederive", subject=stream_name, reason=reason, at_s=at_s,
                before={"frames": found}, after={"first": first},
            )  # fmt: skip
            return found
    finally:
        await the_book.close()


async def _refuse_sealed(loaded: settings.AgentSettings, plan: StreamPlan, first: int) -> None:
    """What is sealed stays: a vote that differs could not be withdrawn any more. A hub that is away seals nothing either."""
    async with http.client_session() as session:
        hub = app.hub_of(loaded, session)
        try:
            sealed = None if hub is None else await hub.last_sealed(plan.stream.id())
        except errors.Transient:
            return
    if sealed is not None and first <= sealed:
        raise errors.BadConfig(
            f"frames up to {sealed} of stream {plan.stream.name} are sealed and stay",
            value=first,
            cure=f"use --from {sealed + 1}; if a sealed frame is wrong, prove it with `stakeside verify --full`",
        )


async def _last_adopted(c: book.Connection, plan: StreamPlan, first: int) -> int | None:
    found: int | None = None
    while (frame := await statements.first_from_header(c, plan.stream.id(), first)) is not None:
        found = frame.sequence if frame.origin == "adopted" else found
        first = frame.sequence + 1
    return found


async def reindex(
    loaded: settings.AgentSettings, *, clear: Collection[str], at_s: float, reason: str = UNSAID
) -> renewal.Renewed:
    """A fresh book under the old name, with all that was signed, sent and received: the next run reads the chain from the start, signs
    nothing twice, and withdraws votes for frames that come out otherwise. `clear` names latches not to take over."""
    parts = app.assemble(loaded)
    await _note_reindex(parts, clear=clear, at_s=at_s, reason=reason)
    return await renewal.renew(
        loaded.agent.store,
        deployment=parts.document.digest(),
        chain_id=parts.chain.id,
        genesis=hashing.unhex(parts.chain.genesis, size=32, what="genesis"),
        clear=clear,
        at_s=at_s,
    )


async def _note_reindex(parts: app.Parts, *, clear: Collection[str], at_s: float, reason: str) -> None:
    """Who did it and why, in the old book: the fresh one takes over what people did. A book that is not there is refused later."""
    url = parts.settings.agent.store
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        return
    the_book = await app.open_book(parts, read_only=False)
    try:
        async with the_book.write() as c:
            set_ = {latch.name: latch.reason for latch in await latches.active(c)}
            renewal.refuse_unknown(clear, set_)
            await commands.add(
                c, principal=local_user(), kind="reindex", subject="book", reason=reason, at_s=at_s,
                before={"latches": set_}, after={"latches": {name: why for name, why in set_.items() if name not in clear}},
            )  # fmt: skip
    finally:
        await the_book.close()


async def export_statement(loaded: settings.AgentSettings, stream_name: str | None, *, sequence: int | None) -> bytes:
    """`statement.json` of a frame (the newest sealed one without `sequence`). Works beside the running agent."""
    parts = app.assemble(loaded)
    names = [plan.stream.name for plan in parts.plans]
    if not names or (stream_name is not None and stream_name not in names):
        raise errors.BadConfig("this agent has no such stream", value=stream_name, cure=f"it has {names}")
    plan = parts.plans[0 if stream_name is None else names.index(stream_name)]
    source = next(item for item in parts.manifests if item.name == plan.protocol)
    the_book = await app.open_book(parts, read_only=True)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(the_book.close)
        session = await stack.enter_async_context(http.client_session())
        hub = app.hub_of(loaded, session)
        if sequence is None:
            sequence = await _newest(the_book, plan, hub)
        return await export.build(
            the_book,
            parts.document,
            plan.stream,
            protocol=plan.protocol,
            rulesets={
                digest: source.ruleset_json(plan.stream, proof=level)
                for digest, level in ((plan.ruleset, plan.proof), *plan.weaker)
                if digest in _listed(parts, plan, sequence)
            },
            sequence=sequence,
            hub=hub,
        )


def _listed(parts: app.Parts, plan: StreamPlan, sequence: int) -> set[bytes]:
    """Rulesets of the frame and of the one before it, which the file holds too."""
    return {parts.document.ruleset(plan.stream, at) for at in (sequence, max(0, sequence - 1))}


async def _newest(the_book: book.Book, plan: StreamPlan, hub: hub_http.HubClient | None) -> int:
    async with the_book.read() as c:
        latest = await statements.latest(c, plan.stream.id())
    sealed = None if hub is None else await hub.last_sealed(plan.stream.id())
    known = [n for n in (None if latest is None else latest.sequence, sealed) if n is not None]
    if latest is None or (hub is not None and sealed is None):
        raise errors.BadConfig(f"stream {plan.stream.name} has no sealed frame yet", cure="wait for the first one")
    return min(known)
