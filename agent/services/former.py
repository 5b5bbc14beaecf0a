"""Accounts whose key this agent no longer has. In: their open intents in the book. Out: outcomes, and the same bytes sent again.

After a change of the delegator's key the old account's transactions may still be mined. They are followed to their ends as ever: receipts,
finality, our own index. What is signed is sent again; nothing new can be signed, so bumps and cancels wait, and say for what. The nonces of
such an account are not audited: its owner may use the key elsewhere by now.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from agent.delegations import nonces
from agent.services import confirm, delegator, nonce_audit, submit
from domain import errors, hashing
from indexers.chain import account
from kit import logs, runtime
from store import book, slots

log = logs.logger()


async def accounts(c: book.Connection, *, current: bytes) -> dict[bytes, int]:
    """How many open intents with a nonce there are of every other account."""
    found = await slots.holding(c)
    return {address: count for address, count in found.items() if address != current}


class NoKey:
    """In place of a signer, of a lease and of an audit: nothing new may be signed for the account."""

    def __init__(self, address: bytes) -> None:
        self.address = address
        self.reason = f"the key of {hashing.hex0x(address)} is not configured here"

    def token(self) -> int | None:
        return None

    def following(self) -> int | None:
        return None

    async def check(self, standing: account.Standing) -> nonces.Ok | nonce_audit.Held:
        return nonce_audit.Held(self.reason)

    async def sign_digest(self, digest: bytes) -> bytes:
        raise errors.BadConfig(self.reason)


class FormerService:
    """Each of these accounts in turn, as long as anything of it is open. `the` is of the account whose key there is."""

    name = "former"

    def __init__(self, the: delegator.Delegator, nodes: Sequence[account.Account]) -> None:
        self.bell = runtime.Bell()
        self._the = the
        self._follow = [self._follower(the, node) for node in nodes]

    async def step(self) -> float:
        failed: errors.Transient | None = None
        for address, stages in self._follow:
            async with self._the.book.read() as c:
                if not await slots.open(c, self._the.chain_id, address):
                    continue
            try:
                for stage in stages:
                    await stage.step()
            except errors.Transient as error:
                failed = error  # what is wrong about one of them must not hold up the others
        if failed is not None:
            raise failed
        return self._the.timing.poll_s

    def _follower(
        self, the: delegator.Delegator, node: account.Account
    ) -> tuple[bytes, tuple[confirm.ConfirmService, submit.SubmitService]]:
        none = NoKey(node.address)
        own = msgspec.structs.replace(
            the, address=node.address, node=node, guard=none, again=delegator.Again(), balance=_unshown
        )
        return node.address, (confirm.ConfirmService(own, none), submit.SubmitService(own, none, none))


def _unshown(_wei: int) -> None:
    """What is shown is the balance of the account that acts."""


def tell(found: dict[bytes, int], *, followed: bool) -> None:
    """At the start, for whoever reads logs."""
    for address, count in found.items():
        log.error("staking.former_account", account=hashing.hex0x(address), intents=count, followed=followed)
