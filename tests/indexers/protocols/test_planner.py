"""Actions of the grammar at work: ten real protocols, the documented examples, sagas, children, and everything that is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import eth_abi
import pytest
from eth_utils.abi import function_signature_to_4byte_selector as selector_of

from domain import chain, errors, hashing
from indexers.protocols import checks, manifest, planner
from tests.indexers.protocols import factories, test_docs
from tests.indexers.protocols.factories import ALICE, BOB, CAROL, word
from tests.indexers.protocols.test_protocols import NAMES, load

VALIDATOR = "0x" + "0b" * 20
TARGET = "0x" + "0c" * 20
ARGUMENTS: dict[str, object] = {
    "validator": VALIDATOR,
    "target": TARGET,
    "amount": "2000000000000000000",
    "shares": "7",
    "ticket": "9",
    "recipient": TARGET,
    "vote_power": True,
    "min_shares": "0",
    "max_shares": "8",
    "verifier": TARGET,
    "new_verifier": VALIDATOR,
    "pubkey": "0x" + "aa" * 48,
    "source": "0x" + "aa" * 48,
    "destination": "0x" + "bb" * 48,
    "approver_salt": "0x" + "01" * 32,
    "approver_signature": {"signature": "0x1234", "expiry": "99"},
}
PROVIDED: dict[str, planner.Value] = {
    "provider.deposit_data": (b"\1" * 48, b"\2" * 32, b"\3" * 96, b"\4" * 32),
    "provider.reward_proof": (1, 2, b"\5", (ALICE, b"\6" * 32), (3,), (b"\7",), ((BOB, 4),)),
    "provider.reward_tree": ((1, 2, 3, 4, (b"\1" * 32,)),),
    "provider.harvest": (b"\1" * 32, -5, 6, (b"\2" * 32,)),
    "provider.proof": (b"\1" * 32,),
    "event.SlashingWithdrawalQueued": (b"\1" * 32, (ALICE, BOB, ALICE, 3, 4, (CAROL,), (5,)), (6,)),
    "event.WithdrawalRequested": (11, ALICE, ALICE, 12, 13),
    "event.Unbond": (BOB, ALICE, 21, 22, 23),
    "event.ShareBurnedWithId": (31, ALICE, 32, 33, 34),
    "event.V2ExitQueueEntered": (ALICE, ALICE, 41, 42, 43),
    "block.V2ExitQueueEntered.timestamp": 44,
    "event.Unbonded": (ALICE, 51, 52),
}
CHILD = b"\xcc" * 20


def carry_out(
    made: planner.Planner,
    action: str,
    arguments: Mapping[str, object],
    *,
    known: Mapping[str, planner.Value] = PROVIDED,
    answers: Mapping[str, bytes] | None = None,
    step: planner.Step | None = None,
) -> planner.Call | planner.Unmet:
    """What a caller does, with answers made up: every word of a view's is 7, every child lives at CHILD."""
    found = dict(known)
    for _ in range(12):
        reads = made.reads(action, arguments, account=ALICE, known=found, step=step)
        for read in reads:
            child = read.id.startswith("contract.") or read.id.endswith("_address")
            default = word(CHILD) if child else word(7)
            found[read.id] = made.result(read, (answers or {}).get(read.id, default))
        lookups = made.lookups(action, arguments, account=ALICE, known=found, step=step)
        found |= {lookup.id: CHILD for lookup in lookups}
        if not reads and not lookups:
            return made.plan(action, arguments, account=ALICE, known=found, step=step)
    raise AssertionError(f"{action} never has read enough")


def arguments_of(made: planner.Planner, action: str) -> dict[str, object]:
    return {name: ARGUMENTS[name] for name in made.actions[action].arguments}


ANSWERS = {
    "view.round_initialized": word(1),
    "view.delegated_to": word(0),
    "view.hints": word(32) + word(1) + word(77),
    "view.thaw_requests": word(1) * 4,
    "view.unbond": word(1) * 2,
}


@pytest.mark.parametrize("name", NAMES)
def test_every_action_of_a_real_protocol_is_planned(name: str) -> None:
    made = planner.Planner(load(name))
    for action, info in made.actions.items():
        call = carry_out(made, action, arguments_of(made, action), answers=ANSWERS)
        assert isinstance(call, planner.Call), (action, call)
        assert call.selector == info.selector == call.data[: len(info.selector)]
        assert len(call.to) == 20 and call.effects
        assert (call.value > 0) == info.payable
        for effect in call.effects:
            assert effect.where, action


def data(name: str, action: str, **changes: object) -> tuple[planner.Call, bytes]:
    made = planner.Planner(load(name))
    call = carry_out(made, action, arguments_of(made, action) | changes, answers=ANSWERS)
    assert isinstance(call, planner.Call)
    return call, call.data


def second(signature: str, types: Sequence[str], values: Sequence[Any]) -> bytes:
    """The same calldata by eth_utils and eth_abi."""
    return selector_of(signature) + eth_abi.encode(types, values)


AMOUNT = 2 * 10**18


@pytest.mark.parametrize(
    ("name", "action", "prefix", "expected"),
    [
        ("bnb-stakehub", "delegate", "982ef0a7",
         second("delegate(address,bool)", ["address", "bool"], [VALIDATOR, True])),
        ("graph-horizon", "delegate", "6230001a",
         second("delegate(address,address,uint256,uint256)", ["address", "address", "uint256", "uint256"], [VALIDATOR, TARGET, AMOUNT, 0])),
        ("deposit-contract", "delegate", "22895118",
         second("deposit(bytes,bytes,bytes,bytes32)", ["bytes", "bytes", "bytes", "bytes32"], [b"\1" * 48, b"\2" * 32, b"\3" * 96, b"\4" * 32])),
        ("livepeer", "delegate", "b78d27dc",
         second("bond(uint256,address)", ["uint256", "address"], [AMOUNT, VALIDATOR])),
        ("lido", "withdraw", "e3afe0a3",
         second("claimWithdrawals(uint256[],uint256[])", ["uint256[]", "uint256[]"], [[11], [77]])),
        ("eigenlayer", "delegate", "eea9064b",
         second("delegateTo(address,(bytes,uint256),bytes32)", ["address", "(bytes,uint256)", "bytes32"], [VALIDATOR, (b"\x12\x34", 99), b"\1" * 32])),
        ("eigenlayer", "queue_withdrawal", "",
         second("queueWithdrawals((address[],uint256[],address)[])", ["(address[],uint256[],address)[]"], [[([bytes(19) + b"\x16"], [7], ALICE)]])),
        ("eigenlayer", "complete_withdrawal", "",
         second("completeQueuedWithdrawal((address,address,address,uint256,uint32,address[],uint256[]),address[],bool)",
                ["(address,address,address,uint256,uint32,address[],uint256[])", "address[]", "bool"],
                [(ALICE, BOB, ALICE, 3, 4, [CAROL], [5]), [bytes(19) + b"\x17"], True])),
        ("stakewise", "withdraw", "",
         second("claimExitedAssets(uint256,uint256,uint256)", ["uint256"] * 3, [41, 44, 7])),
    ],
)  # fmt: skip
def test_calldata_is_what_eth_abi_writes(name: str, action: str, prefix: str, expected: bytes) -> None:
    _, found = data(name, action)
    assert found == expected
    assert found.hex().startswith(prefix)


def test_a_withdrawal_request_counts_gwei_big_endian_and_pays_the_fee_it_read() -> None:
    call, found = data("execution-requests", "undelegate")
    assert found == b"\xaa" * 48 + (2 * 10**9).to_bytes(8, "big")
    assert (call.value, call.selector, call.amount) == (7, b"", AMOUNT)
    assert call.effects[0].topic0 == b""
    log = factories.log(topics=(), data=ALICE + found, address=call.to)
    assert planner.effect_of(call.effects[0], [log]) == 0


def test_an_amount_that_is_no_whole_gwei_is_refused_and_not_rounded() -> None:
    with pytest.raises(planner.Refused, match="not a whole number of gwei"):
        data("execution-requests", "undelegate", amount=str(AMOUNT + 1))


def test_a_deposits_proof_holds_little_endian_gwei() -> None:
    call, _ = data("deposit-contract", "delegate", amount=str(32 * 10**18))
    little = (32 * 10**9).to_bytes(8, "little")
    assert ("amount", "0x" + little.hex()) in call.effects[0].where
    fields = [b"\1" * 48, b"\2" * 32, little, b"\3" * 96, bytes(8)]
    event = eth_abi.encode(["bytes"] * 5, fields)
    log = factories.log(topics=(call.effects[0].topic0,), data=event, address=call.to)
    assert len(event) == 576
    assert planner.effects_of(call.effects, [log]) == (0,)
    fields[2] = little[::-1]
    wrong = factories.log(topics=log.topics, data=eth_abi.encode(["bytes"] * 5, fields), address=call.to)
    assert planner.effects_of(call.effects, [wrong]) is None


def test_the_spender_and_the_emitter_may_differ_from_the_callee() -> None:
    call, _ = data("polygon-pos", "delegate", validator="12")
    addresses = load("polygon-pos").addresses
    assert call.to == CHILD
    assert call.approve == planner.Approve(addresses["pol_token"], addresses["stake_manager"], AMOUNT)
    assert call.effects[0].emitter == addresses["staking_info"]
    assert ("validatorId", "12") in call.effects[0].where


def test_an_effect_keeps_the_condition_that_tells_its_event_apart() -> None:
    text = test_docs.FIRST.replace("uint256 amount)", "uint256 amount, uint8 kind)").replace(
        'means = "Delegated"', 'means = "Delegated"\nwhen = { kind = 1 }'
    )
    call = carry_out(pool(text), "delegate", {"validator": VALIDATOR, "amount": "5"})
    assert isinstance(call, planner.Call)
    topics = (call.effects[0].topic0, word(bytes.fromhex(VALIDATOR[2:])), word(ALICE))
    logs = [factories.log(topics=topics, data=word(5) + word(kind), address=call.to) for kind in (0, 1)]
    assert planner.effects_of(call.effects, logs) == (1,)


def test_several_effects_are_all_expected() -> None:
    call, _ = data("polygon-pos", "restake", validator="12")
    assert [effect.name for effect in call.effects] == ["ShareMinted", "DelegatorRestaked"]
    assert call.direction == "in"


def test_an_allowance_is_read_granted_exactly_and_proven() -> None:
    call, _ = data("livepeer", "delegate")
    assert call.approve is not None
    read = planner.allowance(call.approve, account=ALICE)
    assert read.to == call.approve.token
    assert read.data == second("allowance(address,address)", ["address", "address"], [ALICE, call.approve.spender])
    made = planner.Planner(load("livepeer"))
    assert made.result(read, word(5)) == 5
    grant = planner.approval(call.approve, account=ALICE)
    assert grant.data == second("approve(address,uint256)", ["address", "uint256"], [call.approve.spender, AMOUNT])
    assert (grant.amount, grant.direction, grant.value) == (None, "none", 0)
    topics = (grant.effects[0].topic0, word(ALICE), word(call.approve.spender))
    log = factories.log(topics=topics, data=word(AMOUNT), address=call.approve.token)
    assert planner.effects_of(grant.effects, [log]) == (0,)
    more = factories.log(topics=topics, data=word(2**256 - 1), address=call.approve.token)
    assert planner.effects_of(grant.effects, [more]) is None


# --- caps ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "action", "amount", "direction"),
    [
        ("livepeer", "delegate", AMOUNT, "in"),
        ("lido", "delegate", AMOUNT, "in"),
        ("lido", "undelegate", AMOUNT, "out"),
        ("lido", "withdraw", None, "out"),
        ("bnb-stakehub", "redelegate", None, "move"),
        ("bnb-stakehub", "undelegate", None, "out"),
        ("stakewise", "harvest", None, "none"),
        ("execution-requests", "consolidate", None, "none"),
    ],
)
def test_what_caps_count_is_the_stake_that_is_asked_for(
    name: str, action: str, amount: int | None, direction: str
) -> None:
    call, _ = data(name, action)
    assert (call.amount, call.direction) == (amount, direction)


def test_what_goes_in_is_counted_even_when_no_argument_names_it() -> None:
    """A manifest with a fixed stake cannot pass a cap by not calling it an amount."""
    made = pool(test_docs.FIRST.replace('value = "intent.amount"', 'value = { literal = "32000000000000000000" }')
                .replace(', amount = "intent.amount"', ""))  # fmt: skip
    call = carry_out(made, "delegate", {"validator": VALIDATOR})
    assert isinstance(call, planner.Call)
    assert call.amount == call.value == 32 * 10**18


def test_an_allowance_that_brings_stake_in_is_counted() -> None:
    text = test_docs.FIRST.replace(" payable", "").replace('value = "intent.amount"', APPROVAL)
    made = pool(text.replace(', amount = "intent.amount"', "") + '[assets.TOKEN]\ntoken = "pool"\n')
    call = carry_out(made, "delegate", {"validator": VALIDATOR})
    assert isinstance(call, planner.Call)
    assert (call.amount, call.value) == (77, 0)


APPROVAL = 'approve = { token = "TOKEN", spender = "pool", amount = 77 }'

# --- the documented examples ------------------------------------------------------------------------------------------------


def pool(text: str) -> planner.Planner:
    network = test_docs.NETWORK if 'until = "v2"' in text else test_docs.NETWORK.split("[protocols.pool.upgrades]")[0]
    examined, problems = checks.examine(text)
    assert examined is not None, [str(problem) for problem in problems]
    return planner.Planner(manifest.bind(examined, file="page", network=manifest.File("page", network)))


def test_every_documented_action_is_planned() -> None:
    made = pool("\n".join([test_docs.FIRST, *test_docs.ADDED]))
    assert {"delegate", "delegate_tokens", "undelegate", "withdraw"} <= set(made.actions)
    for action in made.actions:
        call = carry_out(made, action, arguments_of(made, action))
        assert isinstance(call, planner.Call), (action, call)


def test_documented_examples_one_by_one_are_planned() -> None:
    for text in test_docs.ADDED:
        made = pool(test_docs.FIRST + "\n" + text)
        for action in made.actions:
            assert isinstance(carry_out(made, action, arguments_of(made, action)), planner.Call), action


# --- sagas ---------------------------------------------------------------------------------------------------------------


def test_a_sagas_step_waits_on_its_clock_for_what_the_step_before_said() -> None:
    made = pool("\n".join([test_docs.FIRST, *test_docs.ADDED]))
    assert made.sagas["leave"] == ("undelegate", "withdraw")
    first = carry_out(made, "undelegate", {"amount": "5"}, step=("leave", 0))
    assert isinstance(first, planner.Call)
    unbonded = factories.log(topics=(first.effects[0].topic0, word(ALICE)), data=word(51) + word(20), address=first.to)
    hostile = factories.log(topics=(first.effects[0].topic0, word(BOB)), data=word(99) + word(0), address=first.to)
    known = made.learn(first.effects, [hostile, unbonded], time=1000)
    assert known["event.Unbonded"] == (ALICE, 51, 20)
    assert (known["block.Unbonded.timestamp"], known["block.Unbonded.number"]) == (1000, 7)

    early = carry_out(made, "withdraw", {}, known=known, answers={"view.round": word(20)}, step=("leave", 1))
    assert early == planner.Unmet("it is 20 on the clock of rounds, and 21 must be reached first")
    ready = carry_out(made, "withdraw", {}, known=known, answers={"view.round": word(21)}, step=("leave", 1))
    assert isinstance(ready, planner.Call)
    assert ready.data == second("withdraw(uint256)", ["uint256"], [51])


def test_a_wait_in_seconds_is_for_the_block_the_plan_is_made_on() -> None:
    made = planner.Planner(factories.devnet())
    known: dict[str, planner.Value] = {"event.Undelegated": (BOB, ALICE, 3, 5, 900)}
    step = ("leave", 1)
    early = made.plan("withdraw", {"ticket": "3"}, account=ALICE, known=known | made.at(number=7, time=899), step=step)
    assert isinstance(early, planner.Unmet)
    due = made.plan("withdraw", {"ticket": "3"}, account=ALICE, known=known | made.at(number=7, time=900), step=step)
    assert isinstance(due, planner.Call)
    with pytest.raises(planner.Refused, match="block the plan is made on"):
        made.plan("withdraw", {"ticket": "3"}, account=ALICE, known=known, step=step)


def test_a_step_may_require_more_than_its_action() -> None:
    made = planner.Planner(load("livepeer"))
    answers = {"view.round_initialized": word(0), "view.current_round": word(99)}
    assert isinstance(carry_out(made, "withdraw", {}, answers=answers), planner.Call)
    found = carry_out(made, "withdraw", {}, answers=answers, step=("leave", 1))
    assert found == planner.Unmet("view.round_initialized is false where exactly true is needed")


def test_a_receipt_without_the_effect_teaches_nothing() -> None:
    made = pool("\n".join([test_docs.FIRST, *test_docs.ADDED]))
    first = carry_out(made, "undelegate", {"amount": "5"})
    assert isinstance(first, planner.Call)
    assert made.learn(first.effects, [], time=1) == {}


@pytest.mark.parametrize("step", [("leave", 2), ("leave", -1), ("arrive", 0), ("leave", 0)])
def test_a_step_that_is_not_there_or_is_another_action_is_refused(step: planner.Step) -> None:
    made = planner.Planner(factories.devnet())
    with pytest.raises(planner.Refused, match="step"):
        made.check("withdraw", {"ticket": "3"}, step=step)


# --- children -------------------------------------------------------------------------------------------------------------


def vaults() -> tuple[planner.Planner, planner.Lookup]:
    made = planner.Planner(load("stakewise"))
    (lookup,) = made.lookups("delegate", arguments_of(made, "delegate"), account=ALICE, known={})
    return made, lookup


def added(vault: bytes, *, address: bytes, caller: bytes = BOB) -> chain.Log:
    topic0 = factories.rule(load("stakewise"), "VaultAdded").topic0
    return factories.log(topics=(topic0, word(caller), word(vault)), address=address)


def test_a_child_is_found_by_the_log_that_announced_it() -> None:
    made, lookup = vaults()
    child = bytes.fromhex(VALIDATOR[2:])
    assert lookup.topics[1:] == (None, word(child))
    assert made.found(lookup, [added(CAROL, address=lookup.address), added(child, address=lookup.address)]) == child
    call = made.plan("delegate", arguments_of(made, "delegate"), account=ALICE, known={lookup.id: child})
    assert isinstance(call, planner.Call)
    assert call.to == call.effects[0].emitter == child


def test_a_child_that_nobody_announced_is_no_callee() -> None:
    made, lookup = vaults()
    child = bytes.fromhex(VALIDATOR[2:])
    nobody = made.found(lookup, [added(child, address=CAROL), added(CAROL, address=lookup.address)])
    found = made.plan("delegate", arguments_of(made, "delegate"), account=ALICE, known={lookup.id: nobody})
    assert isinstance(found, planner.Unmet)
    assert "there is no contract vault of 0x0b" in found.reason


def test_a_child_that_a_view_does_not_know_is_no_callee() -> None:
    made = planner.Planner(load("polygon-pos"))
    arguments = arguments_of(made, "claim") | {"validator": "12"}
    found = carry_out(made, "claim", arguments, answers={"contract.validator_share(12)": word(0)})
    assert found == planner.Unmet("there is no contract validator_share of 12")


# --- refusals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "arguments", "words"),
    [
        ("delgate", {}, r"has no action delgate .*did you mean delegate\?"),
        ("delegate", {"validator": VALIDATOR}, "delegate needs amount; give amount: a uint256"),
        ("delegate", {"validator": VALIDATOR, "amount": "5", "amout": "5"}, "delegate takes no amout"),
        ("delegate", {"validator": VALIDATOR, "amount": "5", "target": TARGET}, "delegate takes no target"),
        ("delegate", {"validator": VALIDATOR, "amount": 5}, "amount is no number"),
        ("delegate", {"validator": VALIDATOR, "amount": 5.0}, "amount is no number"),
        ("delegate", {"validator": VALIDATOR, "amount": "0"}, "amount is zero"),
        ("delegate", {"validator": VALIDATOR, "amount": str(2**256)}, "amount does not fit uint256"),
        ("delegate", {"validator": "0x" + "01" * 32, "amount": "5"}, "validator is no address"),
        ("delegate", {"validator": "0x5fBDB2315678afecb367f032d93F642f64180aa3", "amount": "5"}, "wrong checksum"),
        ("withdraw", {"ticket": "-1"}, "ticket is no identity"),
    ],
)
def test_a_wrong_argument_is_refused_by_name(action: str, arguments: dict[str, object], words: str) -> None:
    made = planner.Planner(factories.devnet())
    with pytest.raises(planner.Refused, match=words):
        made.check(action, arguments)


def test_arguments_have_one_canonical_form() -> None:
    made = planner.Planner(factories.devnet())
    mixed = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
    checked = made.check("delegate", {"amount": "5", "validator": mixed})
    assert checked == {"amount": "5", "validator": "0x" + "00" * 12 + mixed[2:].lower()}
    assert made.check("delegate", checked) == checked


def test_a_recipient_of_nobody_is_refused() -> None:
    text = test_docs.FIRST.replace("stake(address validator)", "stake(address validator, address to)").replace(
        "args = { ", 'args = { to = "intent.recipient", '
    )
    with pytest.raises(planner.Refused, match="zero address"):
        pool(text).check("delegate", {"validator": VALIDATOR, "amount": "5", "recipient": "0x" + "00" * 20})


def test_a_plug_in_that_is_not_there_is_named() -> None:
    made = planner.Planner(load("deposit-contract"))
    with pytest.raises(planner.Refused, match="provider deposit_data is not configured"):
        made.reads("delegate", {"amount": str(AMOUNT)}, account=ALICE, known={})


def test_an_earlier_log_that_is_not_known_is_named() -> None:
    made = planner.Planner(load("livepeer"))
    assert made.actions["withdraw"].events == ("Unbond",)
    with pytest.raises(planner.Refused, match=r"event\.Unbond is not known"):
        made.reads("withdraw", {}, account=ALICE, known={})


def test_planning_before_reading_is_refused() -> None:
    made = planner.Planner(factories.devnet())
    with pytest.raises(planner.Refused, match=r"view\.stake has not been read"):
        made.plan("undelegate", {"validator": VALIDATOR, "amount": "5"}, account=ALICE, known={})


@pytest.mark.parametrize("answer", [b"", word(5)[:-1], b"\xff" * 8])
def test_a_view_that_answers_something_else_is_a_bad_answer(answer: bytes) -> None:
    made = planner.Planner(factories.devnet())
    (read,) = made.reads("undelegate", {"validator": VALIDATOR, "amount": "5"}, account=ALICE, known={})
    with pytest.raises(errors.BadAnswer, match=r"view\.stake answered something else"):
        made.result(read, answer)


@pytest.mark.parametrize(
    ("have", "bound", "met"),
    [(7, {"equals": 7}, True), (7, {"equals": 8}, False), (7, {"differs": 8}, True), (7, {"differs": 7}, False),
     (7, {"at_least": 7}, True), (7, {"at_least": 8}, False), (7, {"at_most": 7}, True), (7, {"at_most": 6}, False)],
)  # fmt: skip
def test_a_requirement_compares_as_it_says(have: int, bound: dict[str, int], met: bool) -> None:
    (word_, limit), *_ = bound.items()
    view = '[views.v]\ntarget = "pool"\ncall = "function v() view returns (uint256)"\n'
    text = test_docs.FIRST + f'require = [{{ of = "view.v", {word_} = {limit} }}]\n' + view
    found = carry_out(pool(text), "delegate", arguments_of(pool(text), "delegate"), answers={"view.v": word(have)})
    assert isinstance(found, planner.Call) == met
    if isinstance(found, planner.Unmet):
        assert found.reason.startswith(f"view.v is {have} where ") and found.reason.endswith(f"{limit} is needed")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            'value = "intent.amount"\n',
            'value = "intent.amount"\nrequire = [{ of = "account", at_least = "account" }]\n',
            "account is no number to be at least or at most another",
        ),
        (
            'pool = "network"  ',
            'pool = { view = "where" }  ',
            "view where takes its arguments from itself",
        ),
    ],
)
def test_what_can_never_be_planned_is_found_when_the_manifest_is_checked(old: str, new: str, words: str) -> None:
    view = '\n[views.where]\ntarget = "pool"\ncall = "function where() view returns (address)"\n'
    examined, problems = checks.examine(test_docs.FIRST.replace(old, new) + view)
    assert examined is None
    assert any(words in str(problem) for problem in problems), [str(p) for p in problems]


def test_a_proof_from_one_of_many_contracts_must_be_the_callees() -> None:
    text = (
        (factories.MANIFESTS / "stakewise.toml")
        .read_text()
        .replace(
            'target = "vault(intent.validator)"\ncall = "function deposit',
            'target = "keeper"\ncall = "function deposit',
        )
    )
    examined, problems = checks.examine(text)
    assert examined is None
    assert any("Deposited comes from one of many vault, and delegate does not say which" in str(p) for p in problems)


# --- words for people ---------------------------------------------------------------------------------------------------


def test_a_plan_is_described_to_the_last_unit() -> None:
    made = planner.Planner(factories.devnet())
    assert (
        made.describe(
            "delegate", {"validator": "0x5fbdb2315678afecb367f032d93f642f64180aa3", "amount": "1500000000000000001"}
        )
        == "delegate: amount 1.500000000000000001 (1500000000000000001 wei), validator 0x5FbDB2315678afecb367f032d93F642f64180aa3"
    )
    assert made.describe("withdraw", {"ticket": "3"}) == "withdraw: ticket 3"


@pytest.mark.parametrize(
    ("amount", "decimals", "shown"),
    [
        (0, 18, "0"),
        (1, 18, "0.000000000000000001"),
        (10**18, 18, "1"),
        (2**256 - 1, 0, str(2**256 - 1)),
        (1050, 2, "10.5"),
    ],
)
def test_decimals_lose_no_digit(amount: int, decimals: int, shown: str) -> None:
    assert planner.decimal(amount, decimals) == shown


def test_hostile_text_in_an_argument_is_shown_escaped() -> None:
    text = test_docs.FIRST.replace("stake(address validator)", "stake(address validator, string note)").replace(
        "args = { ", 'args = { note = "intent.note", '
    )
    made = pool(text + '[inputs]\nnote = "string"\n')
    shown = made.describe("delegate", {"validator": VALIDATOR, "amount": "5", "note": "\x1b[31m\n\u202e"})
    assert shown.isprintable()


def test_the_info_of_an_action_says_what_a_form_needs() -> None:
    info = planner.Planner(factories.devnet()).actions["undelegate"]
    assert info.arguments == {"amount": "uint256", "validator": "identity"}
    assert info.signature == "undelegate(address,uint256)"
    assert info.requires == ("view.stake at least intent.amount",)
    assert not info.payable and hashing.hex0x(info.selector) == "0x4d99dd16"
