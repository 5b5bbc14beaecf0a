"""What a statement file proves by itself. In: its contents. Out: one sentence for each check that holds; Difference otherwise.

Nothing here asks a node. That the logs are the chain's is proven by `onchain`; without it, k signers vouch for the evidence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from verify import decoding, digests, replay
from verify.contents import Body, Certificate, Log, Receipt, Signed, Statement, camel
from verify.decoding import Ruleset
from verify.digests import KINDS, Header, Leaf
from verify.document import Document, Stream
from verify.primitives import ZERO, SignatureError, canonical, hexed, keccak, recover
from verify.report import Difference, Unusable, counted, shown
from verify.strict import Json, Node

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Frame:
    """The place a certified frame claims."""

    document: Document
    stream: Stream
    signed: Signed

    @property
    def header(self) -> Header:
        return self.signed.certificate.header

    @property
    def path(self) -> str:
        return self.signed.certificate.path


def place(statement: Statement) -> Frame:
    """Which stream of the document the statement is about."""
    header = statement.signed.certificate.header
    return Frame(statement.document, statement.document.stream(header.stream), statement.signed)


def before(statement: Statement, frame: Frame) -> Frame | None:
    """The certified frame that this one follows; None for the first."""
    if frame.header.sequence == 0:
        if statement.previous is not None:
            raise Difference("statement.previous", "the first frame follows none")
        return None
    if statement.previous is None:
        raise Difference(
            "statement.previous", f"frame {frame.header.sequence} follows a frame that the file does not hold"
        )
    header = statement.previous.certificate.header
    if header.stream != frame.stream.id:
        raise Difference("statement.previous", "it is of another stream", expected=frame.stream.id, got=header.stream)
    return Frame(frame.document, frame.stream, statement.previous)


def _same(where: str, what: str, expected: object, got: object) -> None:
    if expected != got:
        raise Difference(where, what, expected=expected, got=got)


# --- header and signatures --------------------------------------------------------------------------------------------


def header(frame: Frame, *, revision: int | None = None) -> str:
    """Everything of a header that the document alone decides."""
    document, stream, found = frame.document, frame.stream, frame.header
    where = f"{frame.path}.header"
    first, last = stream.span(found.sequence)
    listed = document.revision(stream, found.sequence) if revision is None else revision
    for name, expected in (
        ("schema", SCHEMA),
        ("ruleset", document.ruleset(stream, found.sequence)),
        ("revision", listed),
        ("from_position", first),
        ("to_position", last),
    ):
        _same(f"{where}.{camel(name)}", "not what the document says", expected, getattr(found, name))
    if (found.revision == 0) != (found.supersedes == ZERO):
        raise Difference(f"{where}.supersedes", "zero exactly for revision 0", got=found.supersedes)
    if (found.sequence == 0) != (found.previous == ZERO):
        raise Difference(f"{where}.previous", "zero exactly for the first frame", got=found.previous)
    return f"blocks {first} to {last}, as the document rules"


def digest(frame: Frame) -> bytes:
    """The statement's digest, recomputed and compared with what the certificate says."""
    certificate = frame.signed.certificate
    _same(f"{frame.path}.chainId", "not the stream's chain", frame.stream.chain, certificate.chain_id)
    config = frame.document.config_digest(frame.stream, frame.header.sequence)
    _same(f"{frame.path}.configDigest", "not the document's for this frame", config, certificate.config_digest)
    found = digests.header_digest(frame.header, chain_id=frame.stream.chain, config_digest=config)
    _same(f"{frame.path}.digest", "not the digest of the header", found, certificate.digest)
    return found


def signatures(frame: Frame, signed: bytes) -> str:
    """Every signature is by another signer of the epoch, and there are at least k."""
    certificate: Certificate = frame.signed.certificate
    epoch = frame.document.epoch(frame.stream, frame.header.sequence)
    counted: set[bytes] = set()
    for index, vote in enumerate(certificate.votes):
        where = f"{frame.path}.signatures[{index}]"
        try:
            signer = recover(signed, vote.signature)
        except SignatureError as error:
            raise Difference(where, f"the signature is refused: {error}") from None
        _same(where, "the signature is not by the signer it names", vote.signer, signer)
        if signer not in epoch.signers:
            raise Difference(where, f"no signer of epoch {epoch.signer_epoch}", got=signer)
        if signer in counted:
            raise Difference(where, "the same signer twice", got=signer)
        counted.add(signer)
    if len(counted) < epoch.k:
        raise Difference(f"{frame.path}.signatures", "too few signers", expected=epoch.k, got=len(counted))
    return f"{len(counted)} of {len(epoch.signers)} signers, {epoch.k} are needed (epoch {epoch.signer_epoch})"


# --- body -------------------------------------------------------------------------------------------------------------


def body(frame: Frame) -> str:
    """Leaves and carry are what the header stands for."""
    found, head = frame.signed.body, frame.header
    _leaves_in_order(found, frame.stream)
    where = found.path
    _same(f"{where}.leaves", "another number of leaves than the header says", head.leaf_count, len(found.leaves))
    root = digests.merkle_root(leaf.hash() for leaf in found.leaves)
    _same(f"{where}.leaves", "their root is not the header's", head.body_root, root)
    reward, penalty = digests.totals(found.leaves)
    _same(f"{where}.leaves", "the rewards do not add up to the header's", head.total_reward, reward)
    _same(f"{where}.leaves", "the penalties do not add up to the header's", head.total_penalty, penalty)
    _same(f"{where}.carry", "not the carry that the header hashes", head.carry, keccak(found.carry.encode()))
    return f"{counted(len(found.leaves), 'leaf', 'leaves')}, root {hexed(root)}"


def _leaves_in_order(found: Body, stream: Stream) -> None:
    last: tuple[bytes, bytes, int] | None = None
    for index, leaf in enumerate(found.leaves):
        where = f"{found.path}.leaves[{index}]"
        if last is not None and leaf.key <= last:
            raise Difference(where, "not after the leaf before it by subject, asset and kind")
        last = leaf.key
        if leaf.reward == 0 and leaf.penalty == 0:
            raise Difference(where, "a leaf of nothing")
        _same(f"{where}.asset", "not the stream's asset", stream.asset, leaf.asset)
        if leaf.parts[0] != "validator":
            _same(f"{where}.parts", "not the stream's protocol", stream.protocol, leaf.parts[1])


def follows(frame: Frame, previous: Frame, previous_digest: bytes) -> str:
    """The frame continues the previous one: digest, positions, anchors, time, and no leaf fell."""
    head, old = frame.header, previous.header
    where = f"{frame.path}.header"
    _same(f"{previous.path}.header.sequence", "not the frame before", head.sequence - 1, old.sequence)
    _same(f"{where}.previous", "not the digest of the previous frame", previous_digest, head.previous)
    _same(f"{where}.fromPosition", "does not continue the previous frame", old.to_position + 1, head.from_position)
    _same(f"{where}.fromAnchor", "does not continue the previous frame", old.to_anchor, head.from_anchor)
    if head.to_time < old.to_time:
        raise Difference(
            f"{where}.toTime", "before the previous frame's", expected=f"≥ {old.to_time}", got=head.to_time
        )
    now = {leaf.key: leaf for leaf in frame.signed.body.leaves}
    for leaf in previous.signed.body.leaves:
        later = now.get(leaf.key)
        if later is None:
            raise Difference(
                leaf.name(), "it was in the previous frame and is gone", expected=_amounts(leaf), got="absent"
            )
        if later.reward < leaf.reward or later.penalty < leaf.penalty:
            raise Difference(
                leaf.name(), "a cumulative amount fell", expected=f"≥ {_amounts(leaf)}", got=_amounts(later)
            )
    return f"continues frame {old.sequence}, {hexed(previous_digest)}"


def _amounts(leaf: Leaf) -> str:
    return f"reward {leaf.reward} penalty {leaf.penalty}"


# --- receipts ---------------------------------------------------------------------------------------------------------


def receipts(statement: Statement, stream: Stream) -> str:
    """Each is signed by the hub key in force, for a signer of the document; numbers that touch are chained."""
    document = statement.document
    known = {signer for epoch in document.epochs for signer in epoch.signers}
    seen: dict[tuple[bytes, int], tuple[bytes, Receipt]] = {}
    for receipt in statement.receipts:
        _same(f"{receipt.path}.chainId", "not the stream's chain", stream.chain, receipt.chain_id)
        _same(f"{receipt.path}.deployment", "another deployment", document.deployment, receipt.deployment)
        identity = digests.receipt_digest(
            receipt.digest,
            receipt.attester,
            receipt.number,
            receipt.previous,
            chain_id=stream.chain,
            deployment=document.deployment,
        )
        try:
            signer = recover(identity, receipt.signature)
        except SignatureError as error:
            raise Difference(f"{receipt.path}.signature", f"it is refused: {error}") from None
        key = document.receipt_key(receipt.number)
        if key is None:
            raise Difference(
                f"{receipt.path}.receipt.receiptNumber", "the document has no hub key for it", got=receipt.number
            )
        _same(f"{receipt.path}.signature", "not by the hub key in force", key, signer)
        if receipt.attester not in known:
            raise Difference(f"{receipt.path}.receipt.attester", "no signer of the document", got=receipt.attester)
        if seen.setdefault((receipt.attester, receipt.number), (identity, receipt))[0] != identity:
            raise Difference(receipt.path, "the hub gave this number twice", got=receipt.number)
    for (attester, number), (_, receipt) in seen.items():
        earlier = ZERO if number <= 1 else seen.get((attester, number - 1), (receipt.previous,))[0]
        _same(f"{receipt.path}.receipt.previousReceipt", "the receipt chain is broken", earlier, receipt.previous)
    ours = {r.attester for r in statement.receipts if r.digest == statement.signed.certificate.digest}
    return f"{counted(len(statement.receipts), 'receipt')}, for {counted(len(ours), 'vote')} on this statement"


# --- one step -----------------------------------------------------------------------------------------------------------


def ruleset(statement: Statement, frame: Frame) -> Ruleset:
    """The parsed ruleset of the frame, checked against the stream."""
    name = frame.document.ruleset(frame.stream, frame.header.sequence)
    return ruleset_of(statement.rulesets, name, frame.stream)


def ruleset_of(rulesets: dict[bytes, Node], name: bytes, stream: Stream) -> Ruleset:
    if name not in rulesets:
        raise Difference("statement.rulesets", "the frame's ruleset is not in the file", expected=name)
    node = rulesets[name]
    found = decoding.read(node)
    if stream.kind != "staking" or (found.model, found.version) != (replay.MODEL, replay.VERSION):
        raise Unusable(
            node.path, f"this verifier replays {replay.MODEL} {replay.VERSION} of staking streams, nothing else"
        )
    _same(f"{node.path}.protocol", "not the stream's", stream.protocol, found.protocol)
    _same(f"{node.path}.asset", "not the stream's", stream.asset, found.asset)
    _same(f"{node.path}.start", "not the stream's", stream.start, found.start)
    return found


def evidence(logs: Sequence[Log], rules: Ruleset, head: Header, *, after_time: int) -> bytes:
    """The fold over logs, which must be in order, inside the frame, and matched by the ruleset."""
    folded = ZERO
    last: Log | None = None
    for log in logs:
        if not head.from_position <= log.number <= head.to_position:
            raise Difference(log.place(), "outside the frame", expected=f"{head.from_position} to {head.to_position}")
        if rules.match(log) is None:
            raise Difference(log.place(), "the ruleset does not match this log")
        if last is not None:
            _check_neighbours(last, log)
        if not after_time <= log.time <= head.to_time:
            raise Difference(
                log.place(), "its time is outside the frame", expected=f"{after_time} to {head.to_time}", got=log.time
            )
        last = log
        folded = digests.fold(folded, number=log.number, block=log.block, index=log.index, content=log.content())
    return folded


def _check_neighbours(last: Log, log: Log) -> None:
    if (log.number, log.index) <= (last.number, last.index):
        raise Difference(log.place(), f"not after {last.place()}")
    one_block = log.number == last.number
    if one_block and (log.block, log.time) != (last.block, last.time):
        raise Difference(log.place(), "another hash or time than the log before it in the same block")
    if not one_block and (log.block == last.block or log.time < last.time):
        raise Difference(log.place(), "a later block with the hash of, or before the time of, an earlier one")


def evidence_equals(folded: bytes, head: Header, count: int) -> str:
    _same("statement.certificate.header.evidence", "not the fold of the logs", folded, head.evidence)
    return f"the fold of {counted(count, 'log')} is the evidence that was signed"


def step(carry: str | None, where: str, logs: Iterable[Log], rules: Ruleset) -> replay.Ledger:
    """The ledger after the logs, from the carry of the frame before (None: from nothing)."""
    ledger = replay.Ledger(rules.scale) if carry is None else replay.read_carry(carry, scale=rules.scale, where=where)
    return replay.replay(ledger, (rules.decode(log) for log in logs))


def equal_leaves(ledger: replay.Ledger, found: Sequence[Leaf], stream: Stream, protocol: str) -> str:
    """Names the first leaf, in the body's order, that the replay does not yield."""
    expected = {leaf.key: leaf for leaf in ledger.leaves(protocol=protocol, asset=stream.asset)}
    have = {leaf.key: leaf for leaf in found}
    for key in sorted(expected.keys() | have.keys()):
        mine, theirs = expected.get(key), have.get(key)
        if mine is None and theirs is not None:
            raise Difference(theirs.name(), "the replay has no such leaf", expected="absent", got=_amounts(theirs))
        if mine is not None and theirs is None:
            raise Difference(mine.name(), "the statement lacks this leaf", expected=_amounts(mine), got="absent")
        if mine is not None and theirs is not None and (mine.reward, mine.penalty) != (theirs.reward, theirs.penalty):
            text = f"another {KINDS[mine.kind]} than the replay of the logs yields"
            raise Difference(mine.name(), text, expected=_amounts(mine), got=_amounts(theirs))
    return f"{counted(len(have), 'leaf', 'leaves')}, all as the replay yields them"


def equal_carry(ledger: replay.Ledger, found: Node) -> str:
    """Names the first value of the accounting state that differs."""
    expected = ledger.carry()
    if canonical(expected) != canonical(found.value, where=found.path):
        _walk(expected, found.value, found.path)
    return "the accounting state handed to the next frame equals the replay's"


def _walk(expected: Json, got: Json, path: str) -> None:
    if isinstance(expected, dict) and isinstance(got, dict):
        for key in sorted(expected.keys() | got.keys()):
            if key not in got or key not in expected:
                text = "missing" if key not in got else "not in the replay"
                raise Difference(f"{path}[{shown(key)}]", f"{text}: an entry of the accounting state")
            _walk(expected[key], got[key], f"{path}[{shown(key)}]")
    elif expected != got:
        raise Difference(path, "another value in the accounting state", expected=expected, got=got)
