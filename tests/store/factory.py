"""Values for the store's tests. Everything follows from small numbers, so a failure names what it means."""

from __future__ import annotations

from collections.abc import Sequence

from domain import chain, events, hashing, statement
from store import book, logs, statements

DEPLOYMENT = b"\xd0" * 32
GENESIS = b"\x9e" * 32
PROTOCOL = "devnet"
STREAM = hashing.keccak256(b"stream")


def word(value: int) -> bytes:
    return value.to_bytes(32, "big")


def digest(*parts: object) -> bytes:
    return hashing.keccak256(repr(parts).encode())


async def open_book(url: str, **changes: object) -> book.Book:
    bound = {"deployment": DEPLOYMENT, "chain_id": 31337, "genesis": GENESIS, **changes}
    return await book.open_book(url, **bound)  # type: ignore[arg-type]


def header(number: int, fork: str = "a", *, parent_fork: str | None = None) -> chain.Header:
    """Block `number` of a fork; its parent is on the same fork unless said otherwise."""
    return chain.Header(
        number=number,
        hash=digest("block", number, fork),
        parent=digest("block", number - 1, parent_fork or fork),
        time=1_700_000_000 + number,
        state_root=digest("state", number, fork),
        receipts_root=digest("receipts", number, fork),
        bloom=bytes([number % 256]) * 256,
    )


def row(
    of: chain.Header,
    log_index: int = 0,
    *,
    amount: int = 10**18,
    tx: int | None = None,
    validator: int = 7,
    delegator: int = 9,
    proof: str = "receipts",
) -> logs.Indexed:
    """A `Delegated` log of a block."""
    tx_hash = digest("tx", of.number, log_index) if tx is None else digest("tx", tx)
    log = chain.Log(
        block=of.ref,
        log_index=log_index,
        tx_hash=tx_hash,
        tx_index=log_index,
        address=b"\x5f" * 20,
        topics=(digest("Delegated"), word(validator), word(delegator)),
        data=word(amount % (1 << 256)),
    )
    at = events.At(of.ref, log_index, of.time, tx_hash)
    event = events.Delegated(at, validator=word(validator), delegator=word(delegator), amount=amount)
    return logs.Indexed(log, of.time, PROTOCOL, event, proof)


def noted(of: chain.Header, log_index: int, note: str) -> logs.Indexed:
    """A `CommissionChanged` log with a text that the chain chose."""
    plain = row(of, log_index)
    event = events.CommissionChanged(
        events.At(of.ref, log_index, of.time, plain.log.tx_hash), validator=word(7), rate_bps=100, note=note
    )
    return logs.Indexed(plain.log, of.time, PROTOCOL, event, "receipts")


def leaf(who: int, reward: int, *, kind: int = statement.REWARD, penalty: int = 0) -> statement.Leaf:
    parts = statement.delegation_parts(protocol=PROTOCOL, validator=word(7), delegator=word(who))
    return statement.Leaf(statement.subject_hash(parts), hashing.ZERO_ADDRESS, kind, reward, penalty, parts)


def frame(
    sequence: int,
    leaves: Sequence[statement.Leaf],
    *,
    previous: statements.Stored | None = None,
    revision: int = 0,
    carry: bytes = b'{"model":"reward-per-share"}',
    salt: str = "",
    stream: bytes = STREAM,
    origin: statements.Origin = "derived",
) -> statements.Stored:
    body = statement.Body(tuple(sorted(leaves, key=lambda one: (one.subject, one.asset, one.kind))), carry)
    totals = statement.totals(body.leaves)
    made = statement.Header(
        schema=1,
        ruleset=digest("ruleset", salt),
        stream=stream,
        sequence=sequence,
        revision=revision,
        from_position=sequence * 10,
        from_anchor=digest("anchor", sequence - 1),
        to_position=sequence * 10 + 9,
        to_anchor=digest("anchor", sequence),
        to_time=1_700_000_000 + sequence,
        state_root=digest("state", sequence),
        evidence=digest("evidence", sequence, salt),
        previous=hashing.ZERO32 if previous is None else previous.digest,
        supersedes=hashing.ZERO32,
        body_root=body.root(),
        leaf_count=len(body.leaves),
        carry=body.carry_hash(),
        total_reward=totals.reward,
        total_penalty=totals.penalty,
    )
    config_digest = digest("config")
    domain = statement.Domain(chain_id=31337, config_digest=config_digest)
    before = set() if previous is None else set(previous.body.leaves)
    return statements.Stored(
        stream=stream,
        sequence=sequence,
        revision=revision,
        digest=statement.header_digest(made, domain),
        config_digest=config_digest,
        header=made,
        origin=origin,
        body=body,
        changed=tuple(one for one in body.leaves if one not in before),
    )
