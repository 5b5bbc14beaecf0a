"""Leases: one account is signed for by one agent at a time. In: who asks for which account. Out: digests that are signed and compared.

A request is signed by the account's own key, so only who holds the key can take its lease, and an authority needs no list of accounts.
The answer is signed by the hub and names the request it answers, so neither can be replayed. Golden vectors: `docs/wire/vectors/lease.json`.
"""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from domain import hashing, statement

Action = Literal["acquire", "renew", "release"]
ACTIONS: tuple[Action, ...] = get_args(Action)

MIN_TTL_S = 2
MAX_TTL_S = 3600
"""A lease that outlives its dead holder by more than an hour helps nobody."""
SKEW_S = 60
"""How far `issued_at` may be from the authority's clock: the window in which a request could be replayed at all."""
MAX_TOKEN = (1 << 62) - 1
"""Databases count in signed 64-bit integers; a stranger to the hub may name any floor below this for its own account only."""
SHOWN = 8
"""Bytes of a holder that an error shows: those that name the agent (`holder_of`)."""

_REQUEST_TYPE = "LeaseRequest(string action,uint256 chainId,address account,bytes32 holder,uint64 ttl,uint64 issuedAt,uint64 lastToken)"
_GRANT_TYPE = "LeaseGrant(bytes32 request,address account,bytes32 holder,uint64 token,uint64 expiresIn)"
_REQUEST = hashing.keccak256(_REQUEST_TYPE.encode())
_GRANT = hashing.keccak256(_GRANT_TYPE.encode())


class Request(msgspec.Struct, frozen=True):
    """`account` has 20 bytes, `holder` 32. `last_token` is the highest fencing token that the asker has seen for the account (0: none): a
    renewal has to name the token it renews, and a new token is always greater, also at an authority that was set up anew."""

    action: Action
    chain_id: int
    account: bytes
    holder: bytes
    ttl_s: int
    issued_at_s: int
    last_token: int = 0


class Grant(msgspec.Struct, frozen=True):
    """What the authority says to the request with the digest `request`: the account is `holder`'s for `expires_in_s` more seconds, under
    `token`. After a release `expires_in_s` is 0."""

    request: bytes
    account: bytes
    holder: bytes
    token: int
    expires_in_s: int


class Lease(msgspec.Struct, frozen=True):
    """Who holds an account. `token` grows with every change of hands, for ever."""

    chain_id: int
    account: bytes
    holder: bytes
    token: int
    expires_in_s: int


def domain_of(*, chain_id: int, deployment: bytes) -> statement.Domain:
    """The EIP-712 domain of requests and grants: bound to one chain and one deployment, so to its hub."""
    return statement.Domain(chain_id=chain_id, config_digest=deployment, name="stakeside lease")


def request_digest(request: Request, *, deployment: bytes) -> bytes:
    """What the account's key signs."""
    struct = hashing.abi_encode(
        _REQUEST,
        hashing.keccak256(request.action.encode()),
        request.chain_id,
        hashing.address_word(request.account),
        request.holder,
        request.ttl_s,
        request.issued_at_s,
        request.last_token,
    )
    return statement.typed_digest(
        domain_of(chain_id=request.chain_id, deployment=deployment), hashing.keccak256(struct)
    )


def grant_digest(grant: Grant, *, chain_id: int, deployment: bytes) -> bytes:
    """What the hub's receipt key signs."""
    struct = hashing.abi_encode(
        _GRANT,
        grant.request,
        hashing.address_word(grant.account),
        grant.holder,
        grant.token,
        grant.expires_in_s,
    )
    return statement.typed_digest(domain_of(chain_id=chain_id, deployment=deployment), hashing.keccak256(struct))


def holder_of(agent: str, *, random: bytes) -> bytes:
    """The holder id of one run of an agent: 8 bytes that name it, 24 that nobody can have copied.

    Not kept in the book: a copied book would be the same holder then, and two agents would both hold."""
    if len(random) != 24:
        raise ValueError(f"a holder id takes 24 random bytes, not {len(random)}")
    return hashing.keccak256(agent.encode())[:SHOWN] + random


def shown(holder: bytes) -> str:
    """The part of a holder that names an agent."""
    return hashing.hex0x(holder[:SHOWN])
