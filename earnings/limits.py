"""How fast one attester may talk. In: a verified signer and the time. Out: seconds to wait, 0 when it may go on.

Votes: only signers of the document have a bucket, and only a valid signature takes from it, so nobody can spend another's allowance and
the table cannot grow. Leases, which any key may ask for: a bucket for each source, of which the least recent are forgotten.
"""

from __future__ import annotations

import math

import msgspec


class Rate(msgspec.Struct, frozen=True):
    """`per_s` requests a second, after a `burst` of them."""

    per_s: int = 50
    burst: int = 500


class Buckets:
    """`most`: how many are kept; None where their number is bounded otherwise."""

    def __init__(self, rate: Rate, *, most: int | None = None) -> None:
        self._rate = rate
        self._most = most
        self._levels: dict[bytes, tuple[float, float]] = {}

    def take(self, signer: bytes, *, now_s: float) -> int:
        """Whole seconds until the signer may try again; 0 takes one."""
        level, at = self._levels.pop(signer, (float(self._rate.burst), now_s))
        while self._most is not None and len(self._levels) >= self._most:
            del self._levels[next(iter(self._levels))]
        level = min(float(self._rate.burst), level + max(0.0, now_s - at) * self._rate.per_s)
        if level < 1:
            self._levels[signer] = (level, now_s)
            return max(1, math.ceil((1 - level) / self._rate.per_s))
        self._levels[signer] = (level - 1, now_s)
        return 0
