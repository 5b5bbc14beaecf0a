"""One frame of a contract stream. In: document, ruleset, previous frame, headers at the edges, rows. Out: header and body.

This is the pure heart of a statement (`docs/wire/statement.md`): nothing enters it that two honest agents could see differently.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from accounting import reward_per_share
from domain import chain, deployment, errors, events, hashing, statement

_WORD = 1 << 256


class Entry(msgspec.Struct, frozen=True):
    """A canonical log that the ruleset matches, with what it means."""

    log: chain.Log
    event: events.StakingEvent


class Previous(msgspec.Struct, frozen=True):
    """What the frame before hands on: its digest, last block, leaves and carry."""

    digest: bytes
    to_position: int
    to_anchor: bytes
    body: statement.Body


class Frame(msgspec.Struct, frozen=True):
    """A derived frame, not yet stored. `changed` are the leaves that the previous frame did not have."""

    header: statement.Header
    digest: bytes
    config_digest: bytes
    body: statement.Body
    changed: tuple[statement.Leaf, ...]


def derive(
    document: deployment.Document,
    stream: deployment.Stream,
    *,
    sequence: int,
    revision: int,
    supersedes: bytes,
    previous: Previous | None,
    first: chain.Header,
    last: chain.Header,
    entries: Sequence[Entry],
    scale: int,
) -> Frame:
    """The statement of one frame. `first` and `last` are the canonical headers at its edges.

    Raises Parked when the events contradict the replay, BadConfig when the document does not cover the frame.
    """
    from_position, to_position = stream.frame_range(sequence)
    _check_edges(previous, first, last, sequence=sequence, span=(from_position, to_position))
    outside = [e for e in entries if not from_position <= e.log.block.number <= to_position]
    if outside:
        raise errors.StoreError("rows of another frame were handed to this one", value=outside[0].log.block)
    folded = reward_per_share.fold(
        previous.body.carry if previous else None, (entry.event for entry in entries), scale=scale
    )
    _check_carried(folded)
    asset = hashing.unhex(stream.asset, size=20, what="stream asset")
    leaves = folded.leaves(protocol=stream.protocol, asset=asset)
    totals = statement.totals(leaves)
    for leaf in leaves:
        _check_word(leaf.reward, leaf.penalty, of=("leaf", leaf.kind, *leaf.parts))
    _check_word(totals.reward, totals.penalty, of=("totals",))
    body = statement.Body(leaves=leaves, carry=reward_per_share.write_carry(folded))
    header = statement.Header(
        schema=statement.SCHEMA,
        ruleset=document.ruleset(stream, sequence),
        stream=stream.id(),
        sequence=sequence,
        revision=revision,
        from_position=from_position,
        from_anchor=first.parent,
        to_position=to_position,
        to_anchor=last.hash,
        to_time=last.time,
        state_root=last.state_root,
        evidence=statement.evidence(entry.log for entry in entries),
        previous=previous.digest if previous else hashing.ZERO32,
        supersedes=supersedes,
        body_root=body.root(),
        leaf_count=len(body.leaves),
        carry=body.carry_hash(),
        total_reward=totals.reward,
        total_penalty=totals.penalty,
    )
    config_digest = document.config_digest(stream, sequence)
    domain = statement.Domain(chain_id=stream.chain, config_digest=config_digest)
    before = {(leaf.subject, leaf.kind): leaf for leaf in previous.body.leaves} if previous else {}
    _check_monotone(before, body.leaves)
    changed = tuple(leaf for leaf in body.leaves if before.get((leaf.subject, leaf.kind)) != leaf)
    return Frame(header, statement.header_digest(header, domain), config_digest, body, changed)


def _check_edges(
    previous: Previous | None, first: chain.Header, last: chain.Header, *, sequence: int, span: tuple[int, int]
) -> None:
    if (first.number, last.number) != span:
        raise errors.StoreError(
            "the headers handed over are not the frame's edges", value=(first.number, last.number, span)
        )
    if (previous is None) != (sequence == 0):
        raise errors.StoreError("only the first frame has no previous one", value=sequence)
    if previous is not None and (previous.to_position + 1, previous.to_anchor) != (first.number, first.parent):
        raise errors.StoreError(
            "the frame does not continue the previous one",
            value=(str(first.ref), previous.to_position),
            cure="the book holds a block that is not on the finalized chain; restore it or index anew",
        )


def _check_monotone(before: dict[tuple[bytes, int], statement.Leaf], leaves: Sequence[statement.Leaf]) -> None:
    now = {(leaf.subject, leaf.kind): leaf for leaf in leaves}
    for key, old in before.items():
        new = now.get(key)
        if new is None or new.reward < old.reward or new.penalty < old.penalty:
            raise errors.Parked(
                "a cumulative leaf would fall", value=old.parts, cure="stop and compare with `stakeside verify`"
            )


def _check_carried(folded: reward_per_share.Book) -> None:
    """The carry is text and could hold any number, but the next frame, and whoever checks it, count in words of 256 bits."""
    for validator, pool in folded.pools.items():
        _check_word(*msgspec.structs.astuple(pool), of=("validator", hashing.hex0x(validator)))
    for validator, holders in folded.positions.items():
        for delegator, position in holders.items():
            of = ("position", hashing.hex0x(validator), hashing.hex0x(delegator))
            _check_word(*msgspec.structs.astuple(position), of=of)
    for ticket, entry in folded.unbondings.items():
        _check_word(ticket, entry.amount, entry.lost, entry.release_time, of=("unbonding", str(ticket)[:80]))


def _check_word(*amounts: int, of: tuple[object, ...]) -> None:
    if max(amounts) >= _WORD:
        raise errors.Parked(
            "an amount goes beyond 256 bits, which no contract can hold",
            value=of,
            cure="the contract's events contradict themselves: check the manifest, and the contract",
        )
