"""What the chain itself says. In: a node, a header. Out: logs proven to the frame's last block, or Difference.

The node is trusted for one thing only, which blocks are finalized: headers are hashed again and linked from the frame's last
block to its first, a block whose bloom may hold a matching log must give receipts that hash to its receipts root. A node that
hides, alters or invents a log is found out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

from verify import checks, digests, proofs
from verify.contents import Log, Statement, as_json, camel
from verify.decoding import Ruleset
from verify.digests import Header
from verify.document import Chain, Stream
from verify.primitives import ZERO, hexed, keccak
from verify.report import Difference, Unusable, counted
from verify.rpc import BATCH, NoSuchMethod, Rpc
from verify.strict import Node


@dataclass(frozen=True, slots=True)
class Block:
    number: int
    hash: bytes
    parent: bytes
    time: int
    state_root: bytes
    receipts_root: bytes
    bloom: bytes
    transactions: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Proven:
    """A frame's edges and all its logs that a ruleset matches."""

    first: Block
    last: Block
    logs: tuple[Log, ...]


def identify(node: Rpc, chain: Chain) -> str:
    """The node serves the document's chain."""
    chain_id = node.call("eth_chainId").quantity(256)
    _same("chain id", "the node serves another chain", chain.id, chain_id)
    genesis = _block(node.call("eth_getBlockByNumber", "0x0", False))
    _same("block 0", "the node serves a chain with another genesis", chain.genesis, genesis.hash)
    return f"{node.name} serves chain {chain_id}"


def anchor(node: Rpc, chain: Chain, header: Header) -> str:
    """The frame's last block is the header's, and final."""
    last = next(blocks(node, header.to_position, header.to_position))
    where = "statement.certificate.header"
    _same(f"{where}.toAnchor", f"not the chain's block {last.number}", last.hash, header.to_anchor)
    _same(f"{where}.stateRoot", f"not that of block {last.number}", last.state_root, header.state_root)
    _same(f"{where}.toTime", f"not the time of block {last.number}", last.time, header.to_time)
    if chain.finality_depth is None:
        final = node.call("eth_getBlockByNumber", "finalized", False).get("number").quantity()
    else:
        final = node.call("eth_blockNumber").quantity() - chain.finality_depth
    if final < header.to_position:
        raise Difference(
            f"{where}.toPosition", "the chain has not finalized it", expected=f"≤ {final}", got=header.to_position
        )
    return f"block {last.number} {hexed(last.hash)} is on the chain and final"


def same_edges(proven: Proven, header: Header) -> str:
    """The header's anchors are the ends of the chain of parents that was walked."""
    where = "statement.certificate.header"
    _same(
        f"{where}.fromAnchor", f"not the parent of block {proven.first.number}", proven.first.parent, header.from_anchor
    )
    _same(f"{where}.toAnchor", f"not the chain's block {proven.last.number}", proven.last.hash, header.to_anchor)
    return f"headers {proven.first.number} to {proven.last.number} are hashed again and linked"


def same_logs(proven: tuple[Log, ...], told: tuple[Log, ...]) -> str:
    """Names the first log in which file and chain differ."""
    for ours, theirs in zip(proven, told, strict=False):
        if ours == theirs:
            continue
        expected, got = as_json(ours), as_json(theirs)
        name = next(key for key in expected if expected[key] != got[key])
        raise Difference(
            f"{ours.place()}: {name}", "the file's log is not the chain's", expected=expected[name], got=got[name]
        )
    if len(proven) > len(told):
        missing = proven[len(told)]
        raise Difference(missing.place(), "this log of the chain is missing from the file", expected=as_json(missing))
    if len(told) > len(proven):
        extra = told[len(proven)]
        raise Difference(extra.place(), "the chain has no such log", got=as_json(extra))
    return f"{counted(len(proven), 'log')} of the file, all the chain's, proven by receipts"


def frame(node: Rpc, rules: Ruleset, *, first: int, last: int) -> Proven:
    """Every log of a range that the ruleset matches, proven to the last block."""
    emitters, topics = rules.filters()
    logs: list[Log] = []
    opening = block = parent = next(blocks(node, first, first))
    for block in blocks(node, first, last):
        if block.number != first:
            _same(f"block {block.number}", "it does not follow the block before it", parent.hash, block.parent)
        if proofs.may_hold(block.bloom, emitters, topics):
            logs += (log for log in _logs(node, block) if rules.match(log) is not None)
        parent = block
    return Proven(opening, block, tuple(logs))


def blocks(node: Rpc, first: int, last: int) -> Iterator[Block]:
    """Headers by number, each hashed again, fetched as they are needed."""
    for start in range(first, last + 1, BATCH):
        numbers = range(start, min(start + BATCH, last + 1))
        answers = node.batch([("eth_getBlockByNumber", [hex(number), False]) for number in numbers])
        for number, answer in zip(numbers, answers, strict=True):
            block = _block(answer)
            _same(f"block {number}", "the node answered with another block", number, block.number)
            yield block


def _block(answer: Node) -> Block:
    if answer.is_null():
        raise Unusable(answer.path, "the node does not have a block of the frame")
    told = answer.get("hash").hex(32)
    number = answer.get("number").quantity()
    _same(f"block {number}", "its header does not hash to its hash", proofs.header_hash(answer), told)
    return Block(
        number=number,
        hash=told,
        parent=answer.get("parentHash").hex(32),
        time=answer.get("timestamp").quantity(),
        state_root=answer.get("stateRoot").hex(32),
        receipts_root=answer.get("receiptsRoot").hex(32),
        bloom=answer.get("logsBloom").hex(256),
        transactions=tuple(item.hex(32) for item in answer.get("transactions").items()),
    )


def _logs(node: Rpc, block: Block) -> Iterator[Log]:
    """All logs of a block, from receipts that hash to its receipts root."""
    receipts = _receipts(node, block)
    _same(
        f"block {block.number}",
        "its receipts are not those of its header",
        block.receipts_root,
        proofs.receipts_root(receipts),
    )
    index = 0
    for receipt, tx_hash in zip(receipts, block.transactions, strict=True):
        for log in receipt.get("logs").items():
            yield Log(
                number=block.number,
                block=block.hash,
                time=block.time,
                index=index,
                tx_hash=tx_hash,
                address=log.get("address").hex(20),
                topics=tuple(topic.hex(32) for topic in log.get("topics").items()),
                data=log.get("data").hex(),
            )
            index += 1


def _receipts(node: Rpc, block: Block) -> list[Node]:
    try:
        found = list(node.call("eth_getBlockReceipts", hexed(block.hash)).items())
    except NoSuchMethod:
        found = node.batch([("eth_getTransactionReceipt", [hexed(tx_hash)]) for tx_hash in block.transactions])
    _same(f"block {block.number}", "another number of receipts than transactions", len(block.transactions), len(found))
    return found


def _same(where: str, what: str, expected: object, got: object) -> None:
    if expected != got:
        raise Difference(where, what, expected=expected, got=got)


# --- in full ------------------------------------------------------------------------------------------------------------


def from_start(node: Rpc, statement: Statement, target: checks.Frame) -> str:
    """Derive every frame since the stream's start from the chain alone; the last header must be the one that was signed."""
    stream, document = target.stream, statement.document
    carry: str | None = None
    digest_of: dict[int, bytes] = {}
    for sequence in range(target.header.sequence + 1):
        name = document.ruleset(stream, sequence)
        rules = checks.ruleset_of(statement.rulesets, name, stream)
        first, last = stream.span(sequence)
        proven = frame(node, rules, first=first, last=last)
        derived = _derive(proven, rules, carry, stream, sequence, name)
        carry = derived.carry
        digest_of = _revisions(derived.header, digest_of, target, sequence)
        if statement.previous is not None and sequence + 1 == target.header.sequence:
            listed = statement.previous.certificate
            _same(
                f"{listed.path}.digest",
                "the chain yields another previous frame",
                digest_of[listed.header.revision],
                listed.digest,
            )
        if sequence == target.header.sequence:
            _same_header(derived.header, digest_of, target)
    return (
        f"{counted(target.header.sequence + 1, 'frame')} from block {stream.start} on: the last is "
        f"{hexed(digest_of[target.header.revision])}"
    )


@dataclass(frozen=True, slots=True)
class _Derived:
    header: Header
    carry: str


def _derive(
    proven: Proven, rules: Ruleset, carry: str | None, stream: Stream, sequence: int, ruleset: bytes
) -> _Derived:
    """The frame's header with `revision`, `previous` and `supersedes` left zero."""
    where = f"frame {sequence}"
    ledger = checks.step(carry, f"carry of frame {sequence - 1}", proven.logs, rules)
    leaves = ledger.leaves(protocol=rules.protocol, asset=stream.asset)
    text = checks.canonical(ledger.carry(), where=where).decode()
    reward, penalty = digests.totals(leaves)
    folded = ZERO
    for log in proven.logs:
        folded = digests.fold(folded, number=log.number, block=log.block, index=log.index, content=log.content())
    header = Header(
        schema=checks.SCHEMA,
        ruleset=ruleset,
        stream=stream.id,
        sequence=sequence,
        revision=0,
        from_position=proven.first.number,
        from_anchor=proven.first.parent,
        to_position=proven.last.number,
        to_anchor=proven.last.hash,
        to_time=proven.last.time,
        state_root=proven.last.state_root,
        evidence=folded,
        previous=ZERO,
        supersedes=ZERO,
        body_root=digests.merkle_root(leaf.hash() for leaf in leaves),
        leaf_count=len(leaves),
        carry=keccak(text.encode()),
        total_reward=reward,
        total_penalty=penalty,
    )
    return _Derived(header, text)


def _linked(header: Header, *, revision: int, previous: bytes, supersedes: bytes) -> Header:
    values = dict(header.values()) | {"revision": revision, "previous": previous, "supersedes": supersedes}
    return Header(**values)  # pyright: ignore[reportArgumentType]  # the header's own values, three of them replaced


def _revisions(header: Header, before: dict[int, bytes], target: checks.Frame, sequence: int) -> dict[int, bytes]:
    """The digest of each revision of a frame that the document lists, from those of the frame before."""
    stream, document = target.stream, target.document
    found: dict[int, bytes] = {}
    for revision in range(document.revision(stream, sequence) + 1):
        previous = ZERO if sequence == 0 else before[document.revision_before(stream, sequence, revision)]
        linked = _linked(header, revision=revision, previous=previous, supersedes=found.get(revision - 1, ZERO))
        config = document.config_digest(stream, sequence)
        found[revision] = digests.header_digest(linked, chain_id=stream.chain, config_digest=config)
    return found


def _same_header(header: Header, digest_of: dict[int, bytes], target: checks.Frame) -> None:
    """Field by field first, so that a difference has a name."""
    told = target.header
    for field in fields(Header):
        if field.name not in ("revision", "previous", "supersedes"):
            expected, got = getattr(header, field.name), getattr(told, field.name)
            _same(f"statement.certificate.header.{camel(field.name)}", "the chain yields another value", expected, got)
    mine = digest_of[told.revision]
    _same(
        "statement.certificate.digest",
        "the chain yields another previous or superseded frame",
        mine,
        target.signed.certificate.digest,
    )
