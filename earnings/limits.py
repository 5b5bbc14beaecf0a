"""How fast one attester may talk. In: a verified signer and the time. Out: seconds to wait, 0 when it may go on.

Only signers of the document have a bucket, and only a valid signature takes from it: nobody can spend another's allowance, and the
table cannot grow.
"""

from __future__ import annotations

import math

import msgspec


class Rate(msgspec.Struct, frozen=True):
    """`per_s` requests a second, after a `burst` of them."""

    per_s: int = 50
    burst: int = 500


class Buckets:
    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._levels: dict[bytes, tuple[float, float]] = {}

    def take(self, signer: bytes, *, now_s: float) -> int:
        """Whole seconds until the signer may try again; 0 takes one."""
        level, at = self._levels.get(signer, (float(self._rate.burst), now_s))
        level = min(float(self._rate.burst), level + max(0.0, now_s - at) * self._rate.per_s)
        if level < 1:
            self._levels[signer] = (level, now_s)
            return max(1, math.ceil((1 - level) / self._rate.per_s))
        self._levels[signer] = (level - 1, now_s)
        return 0
