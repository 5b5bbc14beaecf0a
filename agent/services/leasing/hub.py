"""A lease at the hub. In: the account's signer and a HubClient. Out: `Held`, believed only with the hub's signature under it."""

from __future__ import annotations

from typing import Protocol

from agent.reporting.sinks import http
from agent.services.leasing import base
from domain import deployment, errors, hashing, lease, signatures, wire
from kit import runtime

SKEWED = "clocks differ"
HELD = "lease held"
ENDED = "lease ended"
REPEATED = "request repeated"


class Repeated(errors.Transient):
    """The hub has taken a request of this second from this holder already."""


class AccountSigner(Protocol):
    """What a lease needs of the account's signer."""

    @property
    def address(self) -> bytes: ...

    async def sign_digest(self, digest: bytes) -> bytes: ...


class HubLeases:
    """`holder` is this run's (`domain.lease.holder_of`); `last_token` the highest token the book has seen for the account."""

    def __init__(
        self,
        hub: http.HubClient,
        signer: AccountSigner,
        document: deployment.Document,
        *,
        chain_id: int,
        holder: bytes,
        ttl_s: int,
        clock: runtime.Clock,
        last_token: int = 0,
    ) -> None:
        self._hub = hub
        self._signer = signer
        self._deployment = document.digest()
        self._keys = frozenset(key.address for key in document.receipt_keys)
        self._chain_id = chain_id
        self._holder = holder
        self._ttl_s = ttl_s
        self._clock = clock
        self._last_token = last_token
        self._issued_at_s = 0

    async def acquire(self) -> base.Held:
        return await self._ask("acquire")

    async def renew(self, held: base.Held) -> base.Held:
        self._last_token = max(self._last_token, held.token)
        return await self._ask("renew")

    async def release(self, held: base.Held) -> None:
        self._last_token = max(self._last_token, held.token)
        await self._ask("release")

    async def look(self) -> str:
        """A renewal of what nobody was granted: the hub checks clock, account and signature, and then refuses."""
        try:
            await self._ask("renew")
        except base.Ended:
            return "the hub grants leases of this account; nobody holds it"
        except Repeated:
            return "the hub grants leases of this account; it was asked within this second"
        except base.Taken as error:
            return f"the hub grants leases of this account; {error.value}"
        raise errors.BadAnswer("the hub renewed a lease that was never granted")

    async def _ask(self, action: lease.Action) -> base.Held:
        sent = self._clock.monotonic()
        # Strictly newer than the one before, also within one second: the hub refuses repetitions by it. Unless that one was sent in a
        # wrong time: the hub takes the right one only.
        now_s = int(self._clock.now())
        self._issued_at_s = now_s if self._issued_at_s > now_s + lease.SKEW_S else max(now_s, self._issued_at_s + 1)
        request = lease.Request(
            action=action,
            chain_id=self._chain_id,
            account=self._signer.address,
            holder=self._holder,
            ttl_s=self._ttl_s,
            issued_at_s=self._issued_at_s,
            last_token=self._last_token,
        )
        digest = lease.request_digest(request, deployment=self._deployment)
        signature = await self._signer.sign_digest(digest)
        payload = wire.encode(lease.request_to_wire(request, deployment=self._deployment, signature=signature))
        try:
            signed = await self._hub.lease(payload)
        except http.Refused as error:
            raise self._refused(error) from None
        grant = self._verify(signed, request, digest)
        self._last_token = grant.token
        return base.Held(grant.token, base.until(sent, grant.expires_in_s))

    def _refused(self, error: http.Refused) -> errors.StakesideError:
        """Another holder is one thing; everything else is a matter of configuration or of time, and asked again."""
        if error.status == 409 and error.problem.title == HELD:
            return base.Taken(
                f"another holder has the lease of {hashing.hex0x(self._signer.address)}",
                value=error.problem.detail[:200],
                cure="this agent stands by and takes over when the lease ends; stop the other one to make it soon",
                for_s=int(error.retry_after_s or 0),
            )
        if error.status == 409 and error.problem.title == ENDED:
            return base.Ended("the hub does not know this lease any more", cure="it is acquired anew")
        if error.problem.title == REPEATED:
            return Repeated(error.what, value=error.value, retry_after_s=error.retry_after_s)
        cure = "set the clocks of agent and hub" if error.problem.title == SKEWED else error.cure
        return errors.Transient(error.what, value=error.value, cure=cure, retry_after_s=error.retry_after_s)

    def _verify(self, signed: lease.SignedGrant, request: lease.Request, digest: bytes) -> lease.Grant:
        """The grant, if one of the document's hub keys signed it for this very request. Raises BadAnswer otherwise."""
        grant = lease.grant_from_wire(signed)
        if grant.request != digest or grant.account != request.account or grant.holder != request.holder:
            raise errors.BadAnswer("the lease was granted to another request", value=signed.grant.request)
        if grant.token < max(1, self._last_token) or grant.expires_in_s > request.ttl_s:
            raise errors.BadAnswer(
                "the lease is not what was asked for", value=(grant.token, grant.expires_in_s, self._last_token)
            )
        signature = hashing.unhex(signed.signature, size=65, what="the grant's signature")
        ours = lease.grant_digest(grant, chain_id=request.chain_id, deployment=self._deployment)
        signer = hashing.hex0x(signatures.recover(ours, signature))
        if signer not in self._keys:
            raise errors.BadAnswer("the lease is not signed by a hub key of the document", value=signer)
        return grant
