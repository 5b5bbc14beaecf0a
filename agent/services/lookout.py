"""One look at the node: its chain, its head, what it calls final. In: a reader. Out: a tip of the right chain, or an error."""

from __future__ import annotations

from domain import chain, errors, hashing
from indexers.chain import reader
from kit import faults


class OtherChain(errors.Transient):
    """The endpoint, which served the right chain before, serves another one now."""


class Lookout:
    """`depth` is the finality rule where the chain has no `finalized` tag."""

    def __init__(self, source: reader.Reader, *, chain_id: int, genesis: bytes, depth: int | None) -> None:
        self._source = source
        self._chain_id = chain_id
        self._genesis = genesis
        self._depth = depth
        self._checked = False

    async def look(self) -> reader.Tip:
        """Raises WrongChain at first, OtherChain later."""
        faults.point("index.before_look")
        tip = await self._source.tip()
        self._check_chain(tip)
        if tip.finalized is not None and tip.finalized.number > tip.head.number:
            raise errors.BadAnswer("the node's finalized block is above its head", value=str(tip.finalized.ref))
        return tip

    def final_number(self, tip: reader.Tip) -> int:
        """How far the node's chain is final, by height: how far to read, not what to believe."""
        if self._depth is not None:
            return max(0, tip.head.number - self._depth)
        return 0 if tip.finalized is None else tip.finalized.number

    def is_final(self, header: chain.Header, tip: reader.Tip) -> bool:
        """Whether this is the node's finalized block itself, or genesis; BadAnswer when it is another one of that height."""
        if header.number == 0:
            if header.hash != self._genesis:
                raise errors.BadAnswer("the node answered block 0 with another genesis", value=str(header.ref))
            return True
        if self._depth is not None or tip.finalized is None or header.number != tip.finalized.number:
            return False
        if header.hash != tip.finalized.hash:
            raise errors.BadAnswer(
                "the node's chain has another block where its finalized one is",
                value=f"{header.ref}, finalized {tip.finalized.ref}",
            )
        return True

    def _check_chain(self, tip: reader.Tip) -> None:
        """Every look checks it: an endpoint can become another chain's at any time (failover, a restarted devnet)."""
        wrong = wrong_chain(tip, chain_id=self._chain_id, genesis=self._genesis)
        if wrong is None:
            self._checked = True
            return
        raise OtherChain(wrong.what, value=wrong.value, cure=wrong.cure) if self._checked else wrong


def wrong_chain(tip: reader.Tip, *, chain_id: int, genesis: bytes) -> errors.WrongChain | None:
    """What is wrong when the node serves another chain; None for the right one."""
    if tip.chain_id == chain_id and tip.genesis == genesis:
        return None
    if tip.chain_id != chain_id:
        what, value = f"the node serves chain {tip.chain_id}, not {chain_id}", str(tip.chain_id)
    else:
        what = f"the node's genesis is {tip.genesis.hex()[:16]}…, not {genesis.hex()[:16]}…"
        value = hashing.hex0x(tip.genesis)[:18]
    cure = "point node.url at the deployment's chain; a devnet that was restarted anew needs a new deployment document and book"
    return errors.WrongChain(what, value=value, cure=cure)
