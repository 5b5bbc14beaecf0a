"""What can go wrong, divided by what the supervisor does about it.

StakesideError            says what, which value, and what the operator can do
├── Transient             back off and try the same step again (a node is slow, a hub is away)
├── HistoryUnavailable    the node cannot serve this range; adopt, or ask another node
├── BadAnswer             a node or peer answered something that cannot be true; counted, retried
├── Parked                one item cannot be processed; it is set aside, visibly, and the stage goes on
├── FinalityViolated      the chain contradicts a finalized block; latches until an operator clears it
├── WrongChain            chain id or genesis is not the configured one
├── BadConfig             a file or setting is wrong; the process does not start
└── StoreError            the book refuses what is asked of it, or cannot be used (locked by another process, wrong deployment)
    └── Unusable          whatever is asked of it: damaged, full, not to be written
"""

from __future__ import annotations


class StakesideError(Exception):
    """`what` happened, with which `value`, and the `cure` an operator can apply."""

    def __init__(self, what: str, *, value: object = None, cure: str = "") -> None:
        self.what = what
        self.value = value
        self.cure = cure
        super().__init__(what)

    @property
    def fact(self) -> str:
        """Without the cure."""
        return self.what if self.value is None else f"{self.what} (value: {clip(self.value)})"

    def __str__(self) -> str:
        advice = "" if not self.cure else f"; {self.cure}"
        return f"{self.fact}{advice}"


class Transient(StakesideError):
    """Try again later. `retry_after_s` is the peer's own wish, when it named one."""

    def __init__(self, what: str, *, value: object = None, cure: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(what, value=value, cure=cure)
        self.retry_after_s = retry_after_s


class HistoryUnavailable(StakesideError):
    """The node no longer has, or never had, what was asked for."""


class BadAnswer(Transient):
    """The answer contradicts itself or what is already proven."""


class Parked(StakesideError):
    """This one item is set aside; `value` names it."""


class FinalityViolated(StakesideError):
    """A block at or below finality was replaced."""


class WrongChain(StakesideError):
    """The endpoint serves another chain."""


class BadConfig(StakesideError):
    """A setting or file is wrong."""


class StoreError(StakesideError):
    """The book cannot be used as it is."""


class Unusable(StoreError):
    """The book cannot be used at all, whichever row is meant."""


def clip(value: object, limit: int = 200) -> str:
    """`repr` of a hostile value, bounded, with nothing unprintable in it."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
