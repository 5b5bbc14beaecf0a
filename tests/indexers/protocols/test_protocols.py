"""Ten real protocols, said in the grammar: they load, and their topics and selectors are the ones on chain."""

from __future__ import annotations

import msgspec
import pytest

from domain import errors
from indexers.protocols import abitypes, checks, decoder, inspect, manifest
from tests.indexers.protocols import factories

NAMES = sorted(path.stem for path in factories.MANIFESTS.glob("*.toml"))

KNOWN: dict[str, dict[str, str]] = {
    "livepeer": {"Bond": "e5917769", "delegate": "b78d27dc", "undelegate": "27de9e32", "withdraw": "25d5971f"},
    "polygon-pos": {"ShareMinted": "c9afff09"},
    "bnb-stakehub": {"Delegated": "24d7bda8", "delegate": "982ef0a7"},
    "graph-horizon": {"TokensDelegated": "237818af", "ThawRequestCreated": "036538df", "delegate": "6230001a"},
    "eigenlayer": {
        "SlashingWithdrawalQueued": "26b2aae2",
        "delegate": "eea9064b",
        "claim": "3ccc861d",
        "deposit": "e7a050aa",
    },
    "lido": {"TokenRebased": "ff08c3ef", "delegate": "a1903eab", "undelegate": "d6681042", "withdraw": "e3afe0a3"},
    "rocket-pool": {"delegate": "d0e30db0", "withdraw": "42966c68"},
    "stakewise": {"delegate": "f9609f08"},
    "deposit-contract": {"DepositEvent": "649bbc62", "delegate": "22895118"},
    "execution-requests": {},
}


def load(name: str) -> manifest.Manifest:
    return manifest.load(factories.MANIFESTS / f"{name}.toml", network=factories.NETWORK)


def test_there_are_ten() -> None:
    assert NAMES == sorted(KNOWN)


@pytest.mark.parametrize("name", NAMES)
def test_it_can_be_said_and_checked(name: str) -> None:
    verdict = inspect.check(factories.MANIFESTS / f"{name}.toml", network=factories.NETWORK)
    assert verdict.problems == ()
    loaded = load(name)
    assert loaded.rules
    assert loaded.calls
    assert len(loaded.calls) == len(loaded.document.actions)


@pytest.mark.parametrize("name", NAMES)
def test_topics_and_selectors_are_the_known_ones(name: str) -> None:
    loaded = load(name)
    found = {r.id: r.signature.topic0.hex() for r in loaded.rules if r.signature.kind == "event"}
    found |= {c.action.name: c.signature.selector.hex() for c in loaded.calls if c.signature.kind == "function"}
    for key, prefix in KNOWN[name].items():
        assert found[key][:8] == prefix, key


@pytest.mark.parametrize("name", NAMES)
def test_what_cannot_be_indexed_yet_is_refused_with_advice(name: str) -> None:
    """Every one of the ten says something that a ruleset has no words for."""
    with pytest.raises(errors.BadConfig, match=r"line \d+: this version cannot index it") as caught:
        decoder.compile(load(name))
    assert caught.value.cure


def test_two_events_of_one_name_are_told_apart_by_their_full_signature() -> None:
    rules = {r.id: r for r in load("rocket-pool").rules}
    new, old = rules["RPLStaked"], rules["RPLStakedBefore"]
    assert new.signature.canonical == "RPLStaked(address,address,uint256,uint256)"
    assert old.signature.canonical == "RPLStaked(address,uint256,uint256)"
    assert new.signature.topic0 != old.signature.topic0


def test_a_registry_key_is_the_hash_of_the_contracts_name() -> None:
    from domain import hashing

    view = load("rocket-pool").document.views["deposit_pool_address"]
    assert view.args["_key"] == {"literal": hashing.hex0x(hashing.keccak256(b"contract.addressrocketDepositPool"))}


def test_the_deposit_contracts_little_endian_gwei_are_shown_as_wei() -> None:
    import eth_abi

    loaded = load("deposit-contract")
    amount, index = (32 * 10**9).to_bytes(8, "little"), (7).to_bytes(8, "little")
    data = eth_abi.encode(["bytes"] * 5, [b"\1" * 48, b"\2" * 32, amount, b"\3" * 96, index])
    assert len(data) == 576
    log = factories.log(
        topics=(factories.rule(loaded, "DepositEvent").topic0,), data=data, address=loaded.addresses["deposit"]
    )
    assert f"    amount = {32 * 10**18}" in inspect.bound(loaded).explain([log])


def test_a_withdrawal_requests_big_endian_gwei_are_shown_as_wei() -> None:
    loaded = load("execution-requests")
    data = factories.ALICE + b"\5" * 48 + (10**9).to_bytes(8, "big")
    log = factories.log(topics=(), data=data, address=loaded.addresses["withdrawals"])
    lines = inspect.bound(loaded).explain([log])
    assert f"    amount = {10**18}" in lines
    assert "  may prove undelegate, exit" in lines


def test_a_whole_struct_of_an_event_can_be_an_argument() -> None:
    call = next(c for c in load("eigenlayer").calls if c.action.name == "complete_withdrawal")
    assert call.action.args["withdrawal"] == "event.SlashingWithdrawalQueued.withdrawal"
    param = call.signature.input("withdrawal")
    assert param is not None
    assert param.type.declared == "Withdrawal"


def test_an_event_restricted_to_a_value_is_not_shown_to_mean_anything_else() -> None:
    import eth_abi

    loaded = load("graph-horizon")
    event = factories.rule(loaded, "ThawRequestCreated")
    data = eth_abi.encode(
        ["address", "uint256", "uint64", "bytes32", "uint256"], [factories.ALICE, 5, 99, b"\7" * 32, 1]
    )
    for kind, meant in ((1, True), (0, False)):
        topics = (event.topic0, factories.word(kind), factories.word(factories.BOB), factories.word(factories.CAROL))
        log = factories.log(topics=topics, data=data, address=loaded.addresses["staking"])
        assert ("  means Undelegated" in inspect.bound(loaded).explain([log])) is meant


def test_a_path_past_the_end_of_an_array_is_said_to_be_nothing() -> None:
    import eth_abi

    loaded = load("rocket-pool")
    event = factories.rule(loaded, "RewardsClaimed")
    log = factories.log(
        topics=(event.topic0, factories.word(factories.ALICE)),
        data=eth_abi.encode([event.inputs[1].type.canonical], [[]]),
        address=loaded.addresses["distributor"],
    )
    assert "    amount = nothing: claims[0].amountSmoothingPoolETH lies past the end" in inspect.bound(loaded).explain(
        [log]
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_typed_manifest_is_a_plain_value(name: str) -> None:
    """What was read can be compared and shown: nothing of it holds files or closures."""
    first, second = load(name), load(name)
    assert msgspec.structs.astuple(first.document) == msgspec.structs.astuple(second.document)
    assert isinstance(first.calls[0].signature, abitypes.Signature)
    assert isinstance(first.rules[0], checks.Rule)
