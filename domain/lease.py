"""Leases: one account is signed for by one agent at a time. In: who asks for which account. Out: digests that are signed and compared.

A request is signed by the account's own key, so only who holds the key can take its lease, and an authority needs no list of accounts.
The answer is signed by the hub and names the request it answers, so neither can be replayed. Golden vectors: `docs/wire/vectors/lease.json`.
"""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from domain import errors, hashing, statement, wire

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

REQUEST_TYPE = "LeaseRequest(string action,uint256 chainId,address account,bytes32 holder,uint64 ttl,uint64 issuedAt,uint64 lastToken)"
GRANT_TYPE = "LeaseGrant(bytes32 request,address account,bytes32 holder,uint64 token,uint64 expiresIn)"
_REQUEST = hashing.keccak256(REQUEST_TYPE.encode())
_GRANT = hashing.keccak256(GRANT_TYPE.encode())


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


class _Wire(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Base of what crosses the wire: integers are decimal texts, bytes are lower-case 0x-hex, unknown fields are refused."""


class RequestWire(_Wire, frozen=True):
    action: str
    account: str
    holder: str
    ttl: str
    issued_at: str
    last_token: str


class SignedRequest(_Wire, frozen=True):
    """`POST /v1/leases`. `signature` is the account's own, over the LeaseRequest in the `stakeside lease` domain of chain `chainId` with
    salt `deployment`."""

    chain_id: str
    deployment: str
    lease: RequestWire
    signature: str


class GrantWire(_Wire, frozen=True):
    request: str
    account: str
    holder: str
    token: str
    expires_in: str


class SignedGrant(_Wire, frozen=True):
    """The hub's 200: a LeaseGrant in the same domain, signed by one of the document's receipt keys."""

    chain_id: str
    deployment: str
    grant: GrantWire
    signature: str


def request_to_wire(request: Request, *, deployment: bytes, signature: bytes) -> SignedRequest:
    return SignedRequest(
        chain_id=str(request.chain_id),
        deployment=hashing.hex0x(deployment),
        lease=RequestWire(
            action=request.action,
            account=hashing.hex0x(request.account),
            holder=hashing.hex0x(request.holder),
            ttl=str(request.ttl_s),
            issued_at=str(request.issued_at_s),
            last_token=str(request.last_token),
        ),
        signature=hashing.hex0x(signature),
    )


def request_from_wire(signed: SignedRequest) -> Request:
    """Raises BadAnswer naming the field."""
    asked = signed.lease
    action: Action | None = next((known for known in ACTIONS if known == asked.action), None)
    if action is None:
        raise errors.BadAnswer("lease.action is none of " + ", ".join(ACTIONS), value=asked.action)
    ttl = wire.uint(asked.ttl, bits=32, what="lease.ttl")
    if not MIN_TTL_S <= ttl <= MAX_TTL_S:
        raise errors.BadAnswer(f"lease.ttl is not between {MIN_TTL_S} and {MAX_TTL_S} seconds", value=ttl)
    last_token = wire.uint(asked.last_token, bits=64, what="lease.lastToken")
    if last_token >= MAX_TOKEN:
        raise errors.BadAnswer("lease.lastToken is beyond every token", value=last_token)
    return Request(
        action=action,
        chain_id=wire.uint(signed.chain_id, bits=53, what="chainId"),
        account=hashing.unhex_lower(asked.account, size=20, what="lease.account"),
        holder=hashing.unhex_lower(asked.holder, size=32, what="lease.holder"),
        ttl_s=ttl,
        issued_at_s=wire.uint(asked.issued_at, bits=53, what="lease.issuedAt"),
        last_token=last_token,
    )


def grant_to_wire(grant: Grant, *, chain_id: int, deployment: bytes, signature: bytes) -> SignedGrant:
    return SignedGrant(
        chain_id=str(chain_id),
        deployment=hashing.hex0x(deployment),
        grant=GrantWire(
            request=hashing.hex0x(grant.request),
            account=hashing.hex0x(grant.account),
            holder=hashing.hex0x(grant.holder),
            token=str(grant.token),
            expires_in=str(grant.expires_in_s),
        ),
        signature=hashing.hex0x(signature),
    )


def grant_from_wire(signed: SignedGrant) -> Grant:
    """Raises BadAnswer naming the field."""
    told = signed.grant
    return Grant(
        request=hashing.unhex_lower(told.request, size=32, what="grant.request"),
        account=hashing.unhex_lower(told.account, size=20, what="grant.account"),
        holder=hashing.unhex_lower(told.holder, size=32, what="grant.holder"),
        token=wire.uint(told.token, bits=62, what="grant.token"),
        expires_in_s=wire.uint(told.expires_in, bits=32, what="grant.expiresIn"),
    )
