"""What an account still has to do or to wait for, in few queries. In: an account. Out: what its services read at every step.

Nothing here moves an intent; the one row that is written is why an intent waits, which is no move.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec
import sqlalchemy as sa

from domain import chain, errors, hashing
from domain import intent as domain_intent
from kit import logs
from store import cursors
from store.connection import AnyRow, AnySelect, Connection
from store.staking import attempt, broadcast, inclusion, intent, nonce_slot, progress, signed_tx
from store.tables import block, log

AHEAD = 4096
"""Blocks above the indexed one in which a transaction may be that was mined."""


class Nonces(msgspec.Struct, frozen=True):
    """`open`: of intents that are not final, ascending; `unsigned`: those of them that nothing was ever signed for; `settled`: the highest
    one that was seen final on chain."""

    highest: int | None
    open: tuple[int, ...]
    unsigned: tuple[int, ...]
    settled: int | None


async def nonces(c: Connection, chain_id: int, account: bytes) -> Nonces:
    of_account = (nonce_slot.c.chain_id == chain_id, nonce_slot.c.account == account)
    highest = await c.scalar(sa.select(sa.func.max(nonce_slot.c.nonce)).where(*of_account))
    signed = sa.exists().where(signed_tx.c.intent == nonce_slot.c.intent)
    rows = await _holding(c, chain_id, account, sa.select(nonce_slot.c.nonce, signed.label("signed")))
    rows.sort(key=lambda row: row.nonce)
    final = sa.exists().where(inclusion.c.intent == nonce_slot.c.intent, inclusion.c.final_at_s.is_not(None))
    newest = sa.select(nonce_slot.c.nonce).where(*of_account, final).order_by(nonce_slot.c.nonce.desc()).limit(1)
    settled = await c.scalar(newest)
    return Nonces(
        highest=None if highest is None else int(highest),
        open=tuple(row.nonce for row in rows),
        unsigned=tuple(row.nonce for row in rows if not row.signed),
        settled=None if settled is None else int(settled),
    )


async def height(c: Connection, chain_id: int, account: bytes) -> int:
    """The highest block that this book has seen: indexed, or with a transaction of the account in it, of an intent that is not final (what
    is final was indexed). 0 before there is one. No index is far behind what it follows, so an inclusion far above it says nothing: it was
    invented, or history is being read."""
    indexed = await cursors.get(c, "index")
    if indexed is None:
        return 0
    found = sa.select(inclusion.c.block_number).join_from(
        nonce_slot, inclusion, inclusion.c.intent == nonce_slot.c.intent
    )
    found = found.where(inclusion.c.orphaned_at_s.is_(None), inclusion.c.block_number <= indexed.number + AHEAD)
    mined = await _holding(c, chain_id, account, found)
    return max([indexed.number, *(row.block_number for row in mined)])


async def originals(c: Connection, chain_id: int, account: bytes) -> list[tuple[int, int]]:
    """(gas, value in wei) of the original of every intent that holds a nonce of the account."""
    query = sa.select(attempt.c.gas, attempt.c.value_wei).join_from(
        nonce_slot, attempt, sa.and_(attempt.c.intent == nonce_slot.c.intent, attempt.c.number == 0)
    )
    return [(row.gas, row.value_wei) for row in await _holding(c, chain_id, account, query)]


async def _holding(c: Connection, chain_id: int, account: bytes, what: AnySelect) -> list[AnyRow]:
    """Of the account's intents that hold a nonce. Which account is looked at here: a database that is told would go through all of its slots."""
    query = what.add_columns(nonce_slot.c.chain_id.label("on_chain"), nonce_slot.c.account.label("of_account"))
    query = query.join(progress, progress.c.intent == nonce_slot.c.intent)
    query = query.where(progress.c.state.in_(sorted(domain_intent.HOLDING)))
    return [row for row in await c.rows(query) if (row.on_chain, row.of_account) == (chain_id, account)]


async def unsent(c: Connection, chain_id: int, account: bytes) -> list[bytes]:
    """Hashes that are signed for an open intent and were never sent, lowest nonce first, newest attempt first. As many as are open at most,
    times their attempts."""
    query = sa.select(signed_tx.c.hash, signed_tx.c.number, nonce_slot.c.nonce).join_from(
        nonce_slot, signed_tx, signed_tx.c.intent == nonce_slot.c.intent
    )
    query = query.outerjoin(broadcast, broadcast.c.hash == signed_tx.c.hash).where(broadcast.c.hash.is_(None))
    rows = await _holding(c, chain_id, account, query)
    return [row.hash for row in sorted(rows, key=lambda row: (row.nonce, -row.number))]


async def logs_of(c: Connection, hashes: Collection[bytes], *, numbers: Collection[int]) -> list[chain.Log]:
    """Canonical, decoded logs of these transactions in blocks of these heights, in the chain's order."""
    query = (
        sa.select(log)
        .join(block, sa.and_(block.c.number == log.c.number, block.c.hash == log.c.block_hash))
        .where(log.c.number.in_(sorted(numbers)), log.c.tx_hash.in_(sorted(hashes)))
        .where(block.c.orphaned_generation.is_(None), log.c.kind.is_not(None))
        .order_by(log.c.number, log.c.log_index)
    )
    return [
        chain.Log(
            chain.BlockRef(row.number, row.block_hash), row.log_index, row.tx_hash, row.tx_index, row.address,
            tuple(row.topics[at : at + 32] for at in range(0, len(row.topics), 32)), row.data,
        )
        for row in await c.rows(query)
    ]  # fmt: skip


async def held_since(c: Connection, hashes: Collection[bytes], *, first: int) -> set[bytes]:
    """Those of these transactions that a canonical, decoded log is of, in blocks from `first` on. It reads that part of the table."""
    query = (
        sa.select(log.c.tx_hash)
        .join(block, sa.and_(block.c.number == log.c.number, block.c.hash == log.c.block_hash))
        .where(log.c.number >= first, log.c.tx_hash.in_(sorted(hashes)))
        .where(block.c.orphaned_generation.is_(None), log.c.kind.is_not(None))
    )
    return {row.tx_hash for row in await c.rows(query)}


async def oldest_s(c: Connection) -> int | None:
    """When the open intent that has been in its state for longest came into it."""
    moving = sorted(set(domain_intent.STATES) - domain_intent.FINAL)
    found = await c.scalar(sa.select(sa.func.min(progress.c.changed_at_s)).where(progress.c.state.in_(moving)))
    return None if found is None else int(found)


async def wait(c: Connection, id: bytes, *, why: str, next_s: float) -> None:
    """Why it does not move for now, and when to look again."""
    changed = {"why": logs.line(why), "next_s": int(next_s)}
    if await c.change(progress.update().where(progress.c.intent == id).values(**changed)) != 1:
        raise errors.StoreError("there is no such intent", value=hashing.hex0x(id))


async def say(c: Connection, id: bytes, *, why: str, next_s: float) -> bool:
    """The same, written only when it says something else than before, and never over an end: then True."""
    why = logs.line(why)
    found = await c.row(sa.select(progress.c.why, progress.c.state).where(progress.c.intent == id))
    if found is not None and (found.why == why or found.state in domain_intent.FINAL):
        return False
    await wait(c, id, why=why, next_s=next_s)
    return True


async def wake(c: Connection, most: int) -> None:
    """The oldest of those that wait to be reserved are looked at again at once: something that may have held them up is over. The others'
    own timers wake them."""
    waiting = sorted(domain_intent.UNSENT - {"awaiting_approval"})
    oldest = (
        sa.select(progress.c.intent)
        .join(intent, intent.c.id == progress.c.intent)
        .where(progress.c.state.in_(waiting))
        .order_by(intent.c.position)
        .limit(max(0, most))
    )
    await c.change(progress.update().where(progress.c.intent.in_(oldest)).values(next_s=None))
