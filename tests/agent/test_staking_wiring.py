"""The wiring of the staking belt: what settings lead to which services, and what `agent check` says of them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent import app, checks, staking
from agent.delegations import policy
from agent.services import delegator
from agent.web import server
from config import settings
from devnet import anvil, kill
from domain import errors
from kit import http, jsonrpc, runtime
from signers import registry
from store import book
from tests.agent import staking_belt


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[kill.Desk]:
    async with kill.desk(tmp_path / "fleet") as it:
        yield it


def _loaded(desk: kill.Desk) -> settings.AgentSettings:
    return settings.load_agent(desk.agent.folder / "agent.toml", {})


def _without(desk: kill.Desk, *tables: str) -> settings.AgentSettings:
    """The settings without some tables."""
    file = desk.agent.folder / "agent.toml"
    text = file.read_text()
    for name in tables:
        text = re.sub(rf"^\[{re.escape(name)}\]\n(?:(?!\[).*\n)*", "", text, flags=re.MULTILINE)
        text = re.sub(rf"^\[\[{re.escape(name)}\]\]\n(?:(?!\[).*\n)*", "", text, flags=re.MULTILINE)
    file.write_text(text)
    return _loaded(desk)


async def _wired(loaded: settings.AgentSettings, folder: Path) -> staking.Belt | None:
    parts = app.assemble(loaded)
    opened = await book.open_book(
        f"sqlite:///{folder / 'wired.db'}",
        deployment=parts.document.digest(),
        chain_id=anvil.CHAIN_ID,
        genesis=b"\x01" * 32,
    )
    try:
        async with http.client_session() as session:
            return await staking.wire(
                loaded, document=parts.document, chain=parts.chain, manifests=parts.manifests, recompute=True,
                the_book=opened, endpoint=jsonrpc.Endpoint(loaded.node.url, session=session), session=session,
                upstream=None, attester=None, clock=runtime.ManualClock(), meters=server.metrics(),
            )  # fmt: skip
    finally:
        await opened.close()


async def test_with_a_delegator_four_services_run_and_without_one_none_of_them(desk: kill.Desk, tmp_path: Path) -> None:
    belt = await _wired(_loaded(desk), tmp_path)
    assert belt is not None
    assert [service.name for service in belt.services] == ["lease", "decide", "submit", "confirm"]
    observer = _without(desk, "delegator", "submit", "policy", "policy.allow")
    assert await _wired(observer, tmp_path) is None


async def test_decisions_tell_figures_of_a_protocol_in_its_asset(desk: kill.Desk) -> None:
    loaded = _loaded(desk)
    (known,) = staking.assets_of(loaded, app.assemble(loaded).manifests).values()
    assert known == policy.Asset(18, "coins", only=True)


async def test_a_delegator_without_a_policy_does_not_start(desk: kill.Desk) -> None:
    with pytest.raises(errors.BadConfig, match=r"without \[policy\]"):
        _without(desk, "policy", "policy.allow")


async def test_one_key_for_attesting_and_delegating_is_refused(desk: kill.Desk) -> None:
    loaded = _loaded(desk)
    assert loaded.delegator is not None
    same = registry.build(loaded.delegator, chain_id=anvil.CHAIN_ID)
    with pytest.raises(errors.BadConfig, match="same key"):
        staking.signer_of(loaded, chain_id=anvil.CHAIN_ID, attester=same)


async def test_the_check_names_the_account_and_what_it_has(desk: kill.Desk) -> None:
    (line,) = [found for found in await checks.check(_loaded(desk)) if found.name == "delegator"]
    assert line.ok and desk.account.address in line.detail and "has 100,000 coins, nonce 0" in line.detail
    await desk.client.call("anvil_setBalance", desk.account.address, "0x0")
    (line,) = [found for found in await checks.check(_loaded(desk)) if found.name == "delegator"]
    assert not line.ok and "send coins" in line.advice


async def _proofs(loaded: settings.AgentSettings, url: str) -> checks.Check:
    elsewhere = msgspec.structs.replace(loaded, node=msgspec.structs.replace(loaded.node, url=url))
    (line,) = [found for found in await checks.check(elsewhere) if found.name == "proofs"]
    return line


async def test_the_check_says_whether_ends_can_be_proven_and_a_warning_is_no_failure(desk: kill.Desk) -> None:
    loaded = _loaded(desk)
    await desk.client.call("eth_sendTransaction", {"from": desk.chain.accounts[1], "to": desk.chain.accounts[2]})
    await desk.client.call("anvil_mine", "0x1")
    honest = await _proofs(loaded, loaded.node.url)
    assert honest.ok and not honest.warning and "ends can be proven" in honest.detail
    gone = {"error": {"code": -32601, "message": "no such method"}}

    def deposit(block: dict[str, Any]) -> dict[str, Any]:
        return block | {"transactions": [tx | {"type": "0x7e"} for tx in block["transactions"]]}

    async with staking_belt.answering(loaded.node.url, "eth_getBlockByHash", change=deposit) as url:
        line = await _proofs(loaded, url)
        assert line.ok and line.warning and "a transaction of type 126" in line.detail and "settle" in line.advice
    async with staking_belt.answering(loaded.node.url, "eth_getBlockByHash", {"result": None}) as url:
        line = await _proofs(loaded, url)
        assert line.ok and line.warning and "does not have block" in line.detail
    async with staking_belt.answering(loaded.node.url, "eth_getBlockReceipts", gone) as one_by_one:
        async with staking_belt.answering(one_by_one, "eth_getTransactionReceipt", {"result": None}) as url:
            line = await _proofs(loaded, url)
            assert line.ok and line.warning and "lacks receipts" in line.detail
    await desk.client.call("anvil_mine", "0x1")
    line = await _proofs(loaded, loaded.node.url)
    assert line.ok and not line.warning and "has no transactions" in line.detail


async def test_the_check_asks_for_the_lease_and_takes_none(tmp_path: Path) -> None:
    async with kill.desk(tmp_path / "leased", hub=True) as desk:
        for _ in range(2):
            (line,) = [found for found in await checks.check(_loaded(desk)) if found.name == "lease"]
            assert line.ok and "the hub grants leases of this account" in line.detail
        hub = next(process for process in desk.ships.processes if process.name == "hub")
        await hub.stop()
        found = {line.name: line for line in await checks.check(_loaded(desk))}
        assert not found["hub"].ok and found["hub"].advice
        assert found["lease"].warning and found["lease"].detail == "not tried: the hub failed"


async def test_arguments_are_made_canonical_and_wrong_ones_are_refused_with_a_cure(
    desk: kill.Desk, tmp_path: Path
) -> None:
    belt = await _wired(_loaded(desk), tmp_path)
    assert belt is not None
    validate = belt.shown.validate
    wanted = validate("k", "devnet", "delegate", {"validator": desk.chain.accounts[1], "amount": "7"})
    assert validate("k", "devnet", "delegate", wanted.arguments) == wanted
    assert wanted.account.hex() == desk.account.address[2:]
    for protocol, action in (("nobody", "delegate"), ("devnet", "steal"), ("devnet", "delegate")):
        with pytest.raises(errors.StakesideError):
            validate("k", protocol, action, {"validator": "me"})


async def test_a_bell_that_an_index_rings_is_passed_on_a_few_times_a_second_only() -> None:
    clock, inner = runtime.ManualClock(), runtime.Bell()
    gentle = delegator.Gentle(inner, clock)
    heard: list[bool] = []
    for _ in range(3):
        gentle.ring()
        heard.append(await inner.wait(0))
    await clock.advance(delegator.LEAST_S)
    gentle.ring()
    heard.append(await inner.wait(0))
    assert heard == [True, False, False, True]


def test_what_is_to_be_sent_again_is_bounded_and_said_once() -> None:
    again = delegator.Again()
    again.ask([bytes([n % 256, n // 256]) for n in range(2 * delegator.MOST_AGAIN)])
    again.ask([b"\x00\x00"])
    first = again.take(3)
    assert first == [b"\x00\x00", b"\x01\x00", b"\x02\x00"]
    assert len(again.take(1000)) == delegator.MOST_AGAIN - 3 and again.take(1) == []


def _edited(desk: kill.Desk, old: str, new: str) -> settings.AgentSettings:
    file = desk.agent.folder / "agent.toml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    return _loaded(desk)


async def test_an_action_that_no_manifest_has_is_refused_by_check_and_run_with_the_nearest_name(
    desk: kill.Desk,
) -> None:
    loaded = _edited(desk, 'action = "delegate"', 'action = "delgate"')
    found = await checks.check(loaded)
    assert any(not line.ok and "did you mean delegate?" in line.advice for line in found)
    with pytest.raises(errors.BadConfig, match=r"no such action.*delgate.*did you mean delegate\?"):
        await app.run(loaded, stop=asyncio.Event(), ready=lambda _: None)


async def test_an_action_must_be_one_of_its_own_protocol_whatever_the_other_ones_have(desk: kill.Desk) -> None:
    folder = desk.agent.folder
    text = (Path(__file__).parents[2] / "config" / "protocols" / "devnet.toml").read_text()
    less = re.sub(r'\[\[actions\]\]\nname = "claim"\n(?:(?!\[\[).*\n)*', "", text)
    assert less != text
    (folder / "less.toml").write_text(less)
    _without(desk, "policy.allow")
    bare = (folder / "agent.toml").read_text()
    for protocol, action in (("devnet", "claim"), ("less", "delegate"), ("less", "claim")):
        (folder / "agent.toml").write_text(
            f'{bare}\n[[protocols]]\nname = "less"\nmanifest = "less.toml"\nnetwork = "devnet"\n'
            f'[[policy.allow]]\nprotocol = "{protocol}"\naction = "{action}"\n'
        )
        if (protocol, action) == ("less", "claim"):
            with pytest.raises(errors.BadConfig, match=r"protocol less has no such action.*claim"):
                app.assemble(_loaded(desk))
        else:
            app.assemble(_loaded(desk))
