"""What the hub's tests are made of: keys, a document, a stream of valid frames, and agents that sign them."""

from __future__ import annotations

import msgspec

from domain import deployment, hashing, signatures, statement, wire
from signers import keys

CHAIN = 31337
ASSET = "0x" + "00" * 20
TOKEN = "a consumer's token"


def key(number: int) -> keys.LocalKey:
    return keys.LocalKey(hashing.keccak256(b"test key %d" % number))


AGENTS = [key(n) for n in range(4)]
STRANGER = key(66)
HUB = key(100)
NEXT_HUB = key(101)


def address(of: keys.LocalKey) -> str:
    return hashing.hex0x(of.address)


def stream(name: str = "rewards", size: int = 10) -> deployment.Stream:
    return deployment.Stream(name, "staking", CHAIN, "devnet", name, "all", ASSET, 1, f"blocks:{size}")


def epoch(
    number: int = 0,
    *,
    agents: list[keys.LocalKey] | None = None,
    start: int = 0,
    streams: tuple[str, ...] = ("rewards",),
) -> deployment.Epoch:
    signers = tuple(sorted(address(agent) for agent in (agents or AGENTS)))
    ruleset = hashing.hex0x(hashing.keccak256(b"ruleset"))
    return deployment.Epoch(
        number, signers, deployment.quorum(len(signers)), dict.fromkeys(streams, ruleset), dict.fromkeys(streams, start)
    )


def document(**changes: object) -> deployment.Document:
    base = deployment.Document(
        name="test",
        chains=(deployment.Chain(CHAIN, "0x" + "11" * 32),),
        streams=(stream(),),
        epochs=(epoch(),),
        receipt_keys=(deployment.ReceiptKey(address(HUB)),),
    )
    return msgspec.structs.replace(base, **changes)


class Frame(msgspec.Struct, frozen=True):
    header: statement.Header
    domain: statement.Domain
    body: statement.Body
    changed: tuple[statement.Leaf, ...]

    @property
    def digest(self) -> bytes:
        return statement.header_digest(self.header, self.domain)

    def but(self, **changes: object) -> Frame:
        """The same frame with a header that says something else."""
        return msgspec.structs.replace(self, header=msgspec.structs.replace(self.header, **changes))

    def chunks(self) -> list[wire.BodyChunk]:
        return wire.chunk_body(self.changed, self.body.carry, self.header)


def leaf(who: int, amount: int, *, kind: int = statement.REWARD, protocol: str = "devnet") -> statement.Leaf:
    parts = statement.delegation_parts(protocol=protocol, validator=hashing.word(7), delegator=hashing.word(1000 + who))
    penalty = amount if kind == statement.SLASHED else 0
    return statement.Leaf(statement.subject_hash(parts), bytes(20), kind, amount - penalty, penalty, parts)


def block(number: int) -> bytes:
    return hashing.keccak256(b"block %d" % number)


def frames(
    count: int, *, of: deployment.Document | None = None, holders: int = 3, salt: bytes = b"", name: str = "rewards"
) -> list[Frame]:
    """`count` consecutive frames, each valid and each with one leaf more and one changed. Another `salt`: another history."""
    doc = of or document()
    where = doc.stream(name)
    made: list[Frame] = []
    leaves: tuple[statement.Leaf, ...] = ()
    for sequence in range(count):
        kept = [leaf(who, 100 * (sequence + 1) + who) for who in range(holders)]
        changed = (*kept, leaf(holders + sequence, 5))
        made.append(frame(doc, where, sequence, changed, leaves, made[-1] if made else None, salt=salt))
        leaves = made[-1].body.leaves
    return made


def frame(
    doc: deployment.Document,
    where: deployment.Stream,
    sequence: int,
    changed: tuple[statement.Leaf, ...],
    before: tuple[statement.Leaf, ...],
    previous: Frame | None,
    *,
    salt: bytes = b"",
    revision: int | None = None,
    supersedes: bytes = hashing.ZERO32,
    carry: bytes | None = None,
) -> Frame:
    first, last = where.frame_range(sequence)
    text = (
        hashing.canonical_json({"model": "test", "sequence": str(sequence), "salt": salt.hex()})
        if carry is None
        else carry
    )
    body = statement.Body(wire.merge_leaves(before, changed), text)
    totals = statement.totals(body.leaves)
    header = statement.Header(
        schema=1,
        ruleset=doc.ruleset(where, sequence),
        stream=where.id(),
        sequence=sequence,
        revision=doc.revision(where, sequence) if revision is None else revision,
        from_position=first,
        from_anchor=block(first - 1),
        to_position=last,
        to_anchor=block(last),
        to_time=1_700_000_000 + last,
        state_root=block(-last),
        evidence=hashing.keccak256(b"evidence" + salt),
        previous=previous.digest if previous else hashing.ZERO32,
        supersedes=supersedes,
        body_root=body.root(),
        leaf_count=len(body.leaves),
        carry=body.carry_hash(),
        total_reward=totals.reward,
        total_penalty=totals.penalty,
    )
    return Frame(header, statement.Domain(where.chain, doc.config_digest(where, sequence)), body, changed)


def sign(of: keys.LocalKey, digest: bytes) -> bytes:
    """A local key signs without waiting for anything, so its coroutine ends at the first step."""
    coroutine = of.sign_digest(digest)
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("a local key waited for something")


def attestation(of: keys.LocalKey, made: Frame, *, context: str = '{"agent":"test"}') -> wire.Attestation:
    return wire.Attestation(
        config_digest=hashing.hex0x(made.domain.config_digest),
        chain_id=str(made.domain.chain_id),
        header=wire.header_to_wire(made.header),
        signer=address(of),
        signature=hashing.hex0x(sign(of, made.digest)),
        context=context,
        context_signature=hashing.hex0x(sign(of, statement.context_digest(made.digest, context.encode(), made.domain))),
    )


def replacement(of: keys.LocalKey, old: Frame, new: Frame, *, ballot: int = 1) -> wire.Replacement:
    header = old.header
    replace = statement.Replace(header.stream, header.sequence, header.revision, old.digest, new.digest, ballot)
    return wire.Replacement(
        config_digest=hashing.hex0x(new.domain.config_digest),
        chain_id=str(new.domain.chain_id),
        replace=wire.replace_to_wire(replace),
        signer=address(of),
        signature=hashing.hex0x(sign(of, statement.replace_digest(replace, new.domain))),
    )


def high_s(signature: str) -> str:
    """The other signature of the same key over the same digest, which EIP-2 forbids."""
    raw = bytes.fromhex(signature[2:])
    s = signatures.CURVE_ORDER - int.from_bytes(raw[32:64], "big")
    return hashing.hex0x(raw[:32] + s.to_bytes(32, "big") + bytes([55 - raw[64]]))
