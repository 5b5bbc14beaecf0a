"""Show the follower a head and the parents it asks for. In: a follower, a head. Out: its verdict, never `Need`."""

from __future__ import annotations

from domain import chain
from indexers.chain import follower, reader

AT_ONCE = 200
"""Headers in one look-ahead."""

REMEMBERED = 4 * AT_ONCE
"""Headers kept from earlier walks: after a revert the same walk is made again."""

Verdict = follower.Idle | follower.Behind | follower.Committed | follower.Reverted | follower.Violation


class Walker:
    """Walks one node's chain. Its memory is a cache by hash, so nothing in it can be stale."""

    def __init__(self, source: reader.Reader) -> None:
        self.remembered: dict[bytes, chain.Header] = {}
        self._source = source

    async def walk(self, machine: follower.Follower, target: chain.Header) -> Verdict:
        """Bounded by the machine. A block the node no longer has ends the walk (Idle)."""
        output = machine.seen(target)
        ahead = max(1, target.number - machine.head.number)
        while isinstance(output, follower.Need):
            header = await self._parent(output, floor=machine.anchor.number, ahead=ahead)
            ahead = min(ahead * 4, AT_ONCE)
            output = machine.missing() if header is None else machine.parent(header)
        return output

    async def _parent(self, need: follower.Need, *, floor: int, ahead: int) -> chain.Header | None:
        """By hash; but where several are likely to be wanted they come by height in one exchange, and only matching ones count."""
        if need.hash not in self.remembered and ahead > 1:
            wanted = range(max(floor, 0, need.number - ahead + 1), need.number + 1)
            for header in await self._source.headers_at(wanted):
                self.remembered[header.hash] = header
        header = self.remembered.get(need.hash) or await self._source.header_by_hash(need.hash)
        if header is not None:
            self.remembered[header.hash] = header
        while len(self.remembered) > REMEMBERED:
            self.remembered.pop(next(iter(self.remembered)))
        return header
