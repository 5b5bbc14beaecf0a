"""The staking belt's wiring. In: settings, document, node. Out: its services, and what the web shows of them; None for an agent that observes.

Everything is built here, as in `agent.app`. The only reason why this agent may sign for the account is the lease it holds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

import aiohttp
import msgspec

from agent.delegations import policy
from agent.reporting.sinks import http as hub_http
from agent.services import confirm, decide, delegator, draft, former, lease, nonce_audit, submit
from agent.services.leasing import base as leasing
from agent.services.leasing import exclusive, hub, postgres
from agent.web import items, live, metrics
from config import settings
from domain import deployment, errors, intent
from domain import lease as domain_lease
from indexers.chain import account
from indexers.protocols import grammar, manifest, planner
from kit import jsonrpc, runtime
from signers import base, checks, registry
from store import book, leases, slots

TOKEN_BYTES = 24


class Belt(msgspec.Struct, frozen=True):
    """`services` in the order of the flow; `confirm` is for the index to ring; `shown` is what the web may know. Close `lease` when nothing
    steps any more."""

    services: tuple[runtime.Service, ...]
    confirm: runtime.Bell
    lease: lease.LeaseService
    shown: live.Staking


def signer_of(loaded: settings.AgentSettings, *, chain_id: int, attester: base.Signer | None) -> base.Signer | None:
    """The delegator's. Raises BadConfig for a key that attests too."""
    if loaded.delegator is None:
        return None
    signer = registry.build(loaded.delegator, chain_id=chain_id)
    checks.distinct(None if attester is None else attester.address, signer.address)
    return signer


def rules_of(loaded: settings.AgentSettings, *, chain_id: int, account: bytes) -> policy.Policy:
    """Raises BadConfig."""
    if loaded.policy is None or loaded.submit is None:
        raise errors.BadConfig("[delegator] without [policy]", cure="say what the agent may do with the account")
    return policy.build(loaded.policy, chain_id=chain_id, account=account, approval_ttl_s=loaded.submit.approval_ttl_s)


def known(loaded: settings.AgentSettings, manifests: Sequence[manifest.Manifest]) -> None:
    """Raises BadConfig for a `[[policy.allow]]` whose action its protocol does not have: it would allow nothing, unnoticed. `manifests` in
    the order of the settings' protocols."""
    if loaded.policy is None:
        return
    actions = {
        named.name: [call.action.name for call in source.calls]
        for named, source in zip(loaded.protocols, manifests, strict=True)
    }
    for entry in loaded.policy.allow:
        if entry.action not in actions[entry.protocol]:
            raise errors.BadConfig(
                f"policy.allow: protocol {entry.protocol} has no such action",
                value=entry.action,
                cure=grammar.nearest(entry.action, actions[entry.protocol]),
            )


def assets_of(loaded: settings.AgentSettings, manifests: Sequence[manifest.Manifest]) -> dict[str, policy.Asset]:
    """By protocol, in the words of the pages."""
    of = [
        ("coins" if item.document.asset == "native" else item.document.asset, item.document.decimals)
        for item in manifests
    ]
    return {
        named.name: policy.Asset(decimals, name, only=len(set(of)) == 1)
        for named, (name, decimals) in zip(loaded.protocols, of, strict=True)
    }


async def wire(
    loaded: settings.AgentSettings,
    *,
    document: deployment.Document,
    chain: deployment.Chain,
    manifests: Sequence[manifest.Manifest],
    recompute: bool,
    the_book: book.Book,
    endpoint: jsonrpc.Endpoint,
    session: aiohttp.ClientSession,
    upstream: hub_http.HubClient | None,
    attester: base.Signer | None,
    clock: runtime.Clock,
    meters: metrics.Metrics,
) -> Belt | None:
    """`manifests` in the order of the settings' protocols. Raises BadConfig."""
    signer = signer_of(loaded, chain_id=chain.id, attester=attester)
    wanted = loaded.submit
    async with the_book.read() as c:
        left = await former.accounts(c, current=b"" if signer is None else signer.address)
    former.tell(left, followed=signer is not None and wanted is not None)
    if signer is None or wanted is None:
        return None
    planners = {named.name: planner.Planner(source) for named, source in zip(loaded.protocols, manifests, strict=True)}
    rules = rules_of(loaded, chain_id=chain.id, account=signer.address)
    async with the_book.read() as c:
        last_token = await slots.highest_fence(c, chain.id, signer.address)
    authority = authority_of(
        loaded, document, signer, chain_id=chain.id, upstream=upstream, random=os.urandom(TOKEN_BYTES), clock=clock,
        last_token=last_token,
    )  # fmt: skip
    bells: list[runtime.Bell] = []
    leased = lease.LeaseService(
        authority, ttl_s=wanted.lease_ttl_s, clock=clock, downstream=bells, last_token=last_token
    )
    depth = int(chain.finality.removeprefix("depth:")) if chain.finality.startswith("depth:") else None

    def node(address: bytes) -> account.Account:
        return account.Account(endpoint, chain_id=chain.id, address=address, finality_depth=depth, recompute=recompute)

    the = delegator.Delegator(
        book=the_book,
        chain_id=chain.id,
        address=signer.address,
        node=node(signer.address),
        policy=rules,
        guard=leased.guard,
        clock=clock,
        timing=delegator.Timing(
            poll_s=wanted.poll_s,
            resend_after_s=wanted.resend_after_s,
            bump_after_s=wanted.bump_after_s,
            approval_ttl_s=wanted.approval_ttl_s,
        ),
        again=delegator.Again(),
        observe=meters.transaction,
        balance=meters.account,
        assets=assets_of(loaded, manifests),
    )
    meters.lease(lambda: leased.guard.token() is not None)
    audit = nonce_audit.NonceAudit(the, exclusive=wanted.exclusive)
    deciding, submitting, confirming = _stages(the, planners, signer, audit)
    bells += [deciding.bell, submitting.bell, confirming.bell]
    shown = live.Staking(
        account=signer.address,
        validate=validator(planners, chain_id=chain.id, address=signer.address),
        actions=_actions(planners),
        policy_hash=rules.hash(),
        policy_body=rules.text().encode(),
        lease=leased.guard,
        ttl_s=wanted.intent_ttl_s,
        approval_ttl_s=wanted.approval_ttl_s,
    )
    others = [former.FormerService(the, [node(address) for address in left])] if left else []
    gentle = delegator.Gentle(confirming.bell, clock)
    return Belt((leased, deciding, submitting, confirming, *others), gentle, leased, shown)


def _stages(
    the: delegator.Delegator,
    planners: Mapping[str, planner.Planner],
    signer: base.Signer,
    audit: nonce_audit.NonceAudit,
) -> tuple[decide.DecideService, submit.SubmitService, confirm.ConfirmService]:
    """They ring each other in a circle: what was decided is signed, what was sent is followed, what is final frees what waits."""
    to_confirm: list[runtime.Bell] = []
    submitting = submit.SubmitService(the, signer, audit, downstream=to_confirm)
    drafter = draft.Drafter(the.node, planners, the.policy.caps)
    deciding = decide.DecideService(the, drafter, audit, downstream=[submitting.bell])
    confirming = confirm.ConfirmService(the, audit, submit=[submitting.bell], freed=[deciding.bell])
    to_confirm.append(confirming.bell)
    return deciding, submitting, confirming


def authority_of(
    loaded: settings.AgentSettings,
    document: deployment.Document,
    signer: base.Signer,
    *,
    chain_id: int,
    upstream: hub_http.HubClient | None,
    random: bytes,
    clock: runtime.Clock,
    last_token: int,
) -> leasing.Leases:
    """Who says that nobody else signs for the account. The settings name exactly one. `random` tells this run from every other one."""
    wanted = loaded.submit
    assert wanted is not None
    holder = domain_lease.holder_of(loaded.agent.name, random=random)
    match wanted.lease:
        case None:
            return exclusive.ExclusiveLeases(
                chain_id=chain_id, account=signer.address, clock=clock, last_token=last_token, ttl_s=wanted.lease_ttl_s
            )
        case "hub":
            if upstream is None:
                raise errors.BadConfig('submit.lease = "hub" without [hub]', cure="add [hub] with its url")
            return hub.HubLeases(
                upstream,
                signer,
                document,
                chain_id=chain_id,
                holder=holder,
                ttl_s=wanted.lease_ttl_s,
                clock=clock,
                last_token=last_token,
            )
        case "postgresql":
            assert wanted.lease_store is not None
            return postgres.PostgresLeases(
                leases.LeaseTable(wanted.lease_store),
                chain_id=chain_id,
                account=signer.address,
                holder=holder,
                ttl_s=wanted.lease_ttl_s,
                clock=clock,
                last_token=last_token,
            )


def validator(
    planners: Mapping[str, planner.Planner], *, chain_id: int, address: bytes
) -> Callable[[str, str, str, Mapping[str, str]], intent.Intent]:
    """What a person wrote → the intent with canonical arguments."""

    def validate(key: str, protocol: str, action: str, arguments: Mapping[str, str]) -> intent.Intent:
        source = planners.get(protocol)
        if source is None:
            raise errors.BadConfig("no such protocol", value=protocol, cure=f"use one of {', '.join(sorted(planners))}")
        return intent.Intent(chain_id, address, key, protocol, action, source.check(action, arguments))

    return validate


def _actions(planners: Mapping[str, planner.Planner]) -> list[items.Action]:
    return [
        items.Action(
            protocol=protocol,
            name=action.name,
            direction=action.direction,
            arguments=[items.Field(name=name, type=type_) for name, type_ in action.arguments.items()],
        )
        for protocol, source in sorted(planners.items())
        for action in source.actions.values()
    ]
