"""A manifest is checked whole when it is loaded: every complaint names the line and what to write instead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import pytest

from domain import errors, events, hashing
from indexers.protocols import checks, decoder, inspect, manifest
from tests.indexers.protocols import factories
from verify import contents, decoding, strict

TEXT = manifest.open_file("devnet", folder="protocols").text
NETWORK = manifest.open_file("devnet", folder="networks").text
GOLDEN = factories.HERE / "golden" / "devnet-ruleset.json"


def line_of(fragment: str, text: str = TEXT) -> int:
    return text[: text.index(fragment)].count("\n") + 1


def problems(text: str) -> list[str]:
    examined, found = checks.examine(text)
    assert (examined is None) == bool(found)
    return [str(problem) for problem in found]


def changed(old: str, new: str, text: str = TEXT) -> str:
    assert old in text, old
    return text.replace(old, new, 1)


DELEGATED = 'signature = "event Delegated(address indexed validator, address indexed delegator, uint256 amount)"'

# what an author got wrong: (old, new, the line it is reported at, what is said)
WRONG: dict[str, tuple[str, str, str, str]] = {
    "a misspelt key": ('means = "Delegated"', 'mean = "Delegated"', 'means = "Delegated"', "did you mean means?"),
    "a misspelt top-level key": ('unit = "wei"', 'units = "wei"', 'unit = "wei"', "did you mean unit?"),
    "a misspelt key in an inline table": (
        "role = { literal",
        "role = { litteral",
        'role = { literal = "delegator"',
        "did you mean literal?",
    ),
    "a missing key": ('mode = "replay"\n', "", "[earnings]", "missing required field `mode`"),
    "a wrong type of value": ('asset = "native"', "asset = 5", 'asset = "native"', "Expected `str`"),
    "no TOML": ('unit = "wei"', 'unit = "wei', 'unit = "wei"', "this is not TOML"),
    "an unknown meaning": (
        'means = "Delegated"',
        'means = "Delegate"',
        'means = "Delegated"',
        "did you mean Delegated?",
    ),
    "an unknown field of the log": (
        'ticket = "id"\nrelease_time',
        'ticket = "ids"\nrelease_time',
        'ticket = "id"',
        "has no field ids; did you mean id?",
    ),
    "a field the meaning does not have": (
        'fraction_bps = "bps"',
        'rate_bps = "bps"',
        'fraction_bps = "bps"',
        "Slashed has no rate_bps",
    ),
    "a field the meaning needs": (
        'validator = "source"\n',
        "",
        '[[events]]\nemitter = "staking"\nsignature = "event Redelegated',
        "means Moved, which needs validator",
    ),
    "an identity that is text": (
        'validator = "validator"\nrate_bps',
        'validator = "metadata"\nrate_bps',
        'validator = "validator"\nrate_bps',
        "string cannot be an identity",
    ),
    "an amount that is an address": (
        'amount = "amount"\nticket',
        'amount = "delegator"\nticket',
        'amount = "amount"\nticket',
        "address cannot be an amount",
    ),
    "text that is a number": (
        'note = "metadata"',
        'note = "commissionBps"',
        'note = "metadata"',
        "uint256 cannot be a text",
    ),
    "a role that is no role": (
        '{ literal = "operator" }',
        '{ literal = "owner" }',
        'role = { literal = "operator" }',
        "a role is a literal",
    ),
    "two sources at once": (
        '{ literal = "operator" }',
        '{ literal = "operator", field = "amount" }',
        'role = { literal = "operator" }',
        "a value comes from one place",
    ),
    "an unknown emitter": (
        f'emitter = "staking"\n{DELEGATED}',
        f'emitter = "stakin"\n{DELEGATED}',
        'emitter = "staking"',
        "there is no contract stakin; did you mean staking?",
    ),
    "a signature that cannot be read": (
        "address indexed delegator, uint256 amount)",
        "address indexed delegator, uint257 amount)",
        DELEGATED,
        "uint8 to uint256 in steps of 8",
    ),
    "the same log twice": (
        '[[events]]\nemitter = "staking"\nsignature = "event Undelegated',
        f'[[events]]\nid = "Again"\nemitter = "staking"\n{DELEGATED}\n\n[[events]]\nemitter = "staking"\nsignature = "event Undelegated',
        '[[events]]\nemitter = "staking"\nsignature = "event Undelegated',
        "Again and Delegated are the same log of staking",
    ),
    "the same name twice": (
        "event Undelegated(address indexed validator",
        "event Delegated(uint8 kind, address indexed validator",
        '[[events]]\nemitter = "staking"\nsignature = "event Undelegated',
        'add id = "Delegated2"',
    ),
    "an indexed text": (
        "uint256 commissionBps, string metadata)",
        "uint256 commissionBps, string indexed metadata)",
        'note = "metadata"',
        "keeps only its hash",
    ),
    "an effect nobody emits": (
        'effect = { event = "RewardClaimed"',
        'effect = { event = "RewardClaim"',
        'effect = { event = "RewardClaimed"',
        "did you mean RewardClaimed?",
    ),
    "an effect anybody could cause": (
        'effect = { event = "Withdrawn", where = { delegator = "account", id = "intent.ticket" } }',
        'effect = { event = "Withdrawn" }',
        'effect = { event = "Withdrawn"',
        "any Withdrawn would prove withdraw",
    ),
    "an effect that compares the wrong things": (
        'where = { delegator = "account", id = "intent.ticket" }',
        'where = { delegator = "intent.amount" }',
        'effect = { event = "Withdrawn"',
        "intent.amount is uint256 where address is needed",
    ),
    "an argument that is missing": (
        'args = { id = "intent.ticket" }',
        "args = {}",
        'args = { id = "intent.ticket" }',
        "withdraw needs id",
    ),
    "an argument too many": (
        'args = { id = "intent.ticket" }',
        'args = { id = "intent.ticket", ids = 1 }',
        'args = { id = "intent.ticket" }',
        "withdraw has no parameter ids; did you mean id?",
    ),
    "an argument from nowhere": (
        'args = { id = "intent.ticket" }',
        'args = { id = "intent.tickets" }',
        'args = { id = "intent.ticket" }',
        "there is no intent tickets; did you mean ticket?",
    ),
    "an argument that is no expression": (
        'args = { id = "intent.ticket" }',
        'args = { id = "ticket" }',
        'args = { id = "intent.ticket" }',
        "write { literal = … } for a constant",
    ),
    "a literal out of range": (
        'args = { id = "intent.ticket" }',
        "args = { id = -1 }",
        'args = { id = "intent.ticket" }',
        "this literal is not uint256",
    ),
    "value to a function that takes none": (
        'call = "function delegate(address validator) payable"',
        'call = "function delegate(address validator)"',
        'call = "function delegate(address validator) payable"',
        "remove value, or write `payable`",
    ),
    "a payable function without value": (
        'value = "intent.amount"\n',
        "",
        'call = "function delegate(address validator) payable"',
        'add value = "intent.amount"',
    ),
    "a view that is not one": (
        "address delegator) view returns (uint256)",
        "address delegator) returns (uint256)",
        'call = "function stakeOf',
        "stakeOf is not a view",
    ),
    "a view in the wrong place": (
        'until = "event.Undelegated.releaseTime"',
        'until = "field.releaseTime"',
        'wait = { clock = "seconds"',
        "means nothing in an action",
    ),
    "a wait for what has not happened": (
        'until = "event.Undelegated.releaseTime"',
        'until = "event.Withdrawn.amount"',
        'wait = { clock = "seconds"',
        "no earlier step has the effect Withdrawn",
    ),
    "a clock no block shows": (
        'wait = { clock = "seconds"',
        'wait = { clock = "epochs"',
        'wait = { clock = "seconds"',
        "a block does not show epochs",
    ),
    "a saga of unknown actions": (
        'action = "undelegate"',
        'action = "undelegat"',
        'action = "undelegate"',
        "did you mean undelegate?",
    ),
    "a requirement that compares twice": (
        "at_least = 1 }",
        "at_least = 1, at_most = 2 }",
        'require = [{ of = "intent.amount"',
        "give one of equals, differs, at_least, at_most",
    ),
    "an unknown replay model": (
        'model = "reward-per-share"',
        'model = "rewards-per-share"',
        'model = "reward-per-share"',
        "did you mean reward-per-share?",
    ),
    "no scale": (
        'scale = "1000000000000000000"',
        'scale = "1e18"',
        'scale = "1000000000000000000"',
        "the contract's own scale",
    ),
    "an address in the manifest": (
        'staking = "network"',
        'staking = "0x5fbdb2315678afecb367f032d93f642f64180aa3"',
        'staking = "network"',
        "network files keep addresses",
    ),
    "approval of the native asset": (
        'value = "intent.amount"\n',
        'value = "intent.amount"\napprove = { token = "asset", spender = "staking", amount = "intent.amount" }\n',
        'require = [{ of = "intent.amount", at_least = 1 }]',
        "the native asset needs no approval",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_named_with_its_line_and_cure(case: str) -> None:
    old, new, where, expected = WRONG[case]
    found = problems(changed(old, new))
    assert any(expected in one for one in found), found
    said = next(one for one in found if expected in one)
    assert int(said.split()[1].rstrip(":")) in (line_of(where), line_of(where) + 1), said


MEASURES = {
    'amount = { field = "amount", measure = "deltas" }': "did you mean delta?",
    'amount = { field = "amount", measure = "signed" }': "uint256 cannot be an amount",
    'amount = { field = "amount", unit = "ether" }': "there is no unit ether",
    'amount = { field = "amount", transform = "uint_le" }': "uint256 cannot be an amount",
    'amount = { field = "amount", asset = "GRT" }': "there is no asset GRT",
    'amount = { field = "amount", clock = "blocks" }': "amount has no clock",
    'amount = { child = "x" }': "staking is not a child contract",
    'amount = { view = "nothing" }': "there is no view nothing",
    'amount = { view = "stake" }': "cannot be read in an event",
    "amount = { emitter = true }": "address cannot be an amount",
    'amount = "amount"\nnegative = "Slashed"': "the amount is never negative",
    'amount = "amount"\nwhen = { nobody = 1 }': "has no field nobody",
    'amount = "amount"\nwhen = { amount = "much" }': "this literal is not uint256",
}


@pytest.mark.parametrize("new", MEASURES)
def test_how_a_value_is_read_must_suit_it(new: str) -> None:
    found = problems(changed('amount = "amount"\n', new + "\n"))
    assert any(MEASURES[new] in one for one in found), found


def test_all_problems_are_named_at_once() -> None:
    text = changed('means = "Moved"', 'means = "Move"')
    text = changed('scale = "1000000000000000000"', 'scale = "0"', text)
    text = changed('event = "RewardClaimed", where', 'event = "Reward", where', text)
    assert len(problems(text)) == 3


def test_loading_names_the_file_and_counts_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(changed('means = "Moved"', 'means = "Move"', changed('scale = "1', 'scale = "x')))
    with pytest.raises(errors.BadConfig, match=r"mine\.toml, line \d+: earnings\.scale: .* \(and 1 more: run"):
        manifest.load(path, network="devnet")


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(errors.BadConfig, match="did you mean devnet"):
        manifest.load("devnett", network="devnet")
    with pytest.raises(errors.BadConfig, match="did you mean devnet"):
        manifest.load("devnet", network="devnot")
    with pytest.raises(errors.BadConfig, match="cannot be read"):
        manifest.load("nowhere/x.toml", network="devnet")


ADDRESS = "5fbdb2315678afecb367f032d93f642f64180aa3"
NETWORKS = {
    "an address is missing": (f'staking = "0x{ADDRESS}"', "", "devnet needs the address of staking"),
    "an address nobody asked for": ('staking = "0x', 'stakin = "0x', "did you mean staking?"),
    "an address cut short": (ADDRESS, ADDRESS[:-1], "staking is not an address"),
    "a wrong checksum": (ADDRESS, "5FbDB2315678afecb367f032d93F642f64180aA3", "checksum included"),
    "the zero address": (ADDRESS, "00" * 20, "staking is not an address"),
    "another protocol": ("[protocols.devnet.", "[protocols.other.", "has no protocol devnet"),
    "an unknown key": ("start = 1", "begin = 1", "known are: addresses, start, upgrades"),
    "a negative start": ("start = 1", "start = -1", "start at least 0"),
    "an unknown upgrade": ("start = 1", "start = 1\nupgrades = { v2 = 5 }", "the manifest has no upgrade v2"),
}


@pytest.mark.parametrize("case", NETWORKS)
def test_a_network_files_mistake_is_named(case: str, tmp_path: Path) -> None:
    old, new, expected = NETWORKS[case]
    path = tmp_path / "net.toml"
    path.write_text(
        changed(old, new, NETWORK).replace("[protocols.devnet]\nstart = 1\n\n[protocols.other", "[protocols.other")
    )
    found = inspect.check("devnet", network=path).problems
    with pytest.raises(errors.BadConfig, match=r"net\.toml, line \d+"):
        manifest.load("devnet", network=path)
    assert any(expected in one and f"{path}, line " in one for one in found), found


def test_a_correct_checksum_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "net.toml"
    path.write_text(
        changed("0x5fbdb2315678afecb367f032d93f642f64180aa3", "0x5FbDB2315678afecb367f032d93F642f64180aa3", NETWORK)
    )
    assert manifest.load("devnet", network=path).addresses == {"staking": factories.STAKING}


def test_the_shipped_manifest_has_no_problems() -> None:
    assert problems(TEXT) == []
    loaded = factories.devnet()
    assert (loaded.name, loaded.chain_id, loaded.start) == ("devnet", 31337, 1)
    assert [c.action.name for c in loaded.calls] == ["delegate", "undelegate", "redelegate", "withdraw", "claim"]


def test_the_ruleset_is_the_golden_one() -> None:
    """Whatever changes these bytes changes every statement's name for them: it must be meant."""
    found = factories.devnet().ruleset_json(factories.stream(), proof="receipts")
    golden = json.loads(GOLDEN.read_text())
    assert found == golden["ruleset"]
    assert hashing.hex0x(factories.devnet().ruleset(factories.stream(), proof="receipts")) == golden["digest"]


def test_the_ruleset_depends_on_meaning_not_on_layout(tmp_path: Path) -> None:
    """Comments, the order of events and everything about actions are not part of what statements are derived by."""
    head, *events = TEXT.split("[[events]]")
    last, _, _actions = events[-1].partition("# --- what a delegator")
    events[-1] = last
    path = tmp_path / "devnet.toml"
    path.write_text("# other\n" + head + "".join(f"[[events]]{e}\n" for e in reversed(events)))
    shuffled = manifest.load(path, network="devnet")
    assert shuffled.ruleset(factories.stream(), proof="receipts") == factories.devnet().ruleset(
        factories.stream(), proof="receipts"
    )


def test_the_ruleset_changes_with_every_part_of_a_rule() -> None:
    base = factories.devnet().ruleset(factories.stream(), proof="receipts")
    assert factories.devnet().ruleset(factories.stream(), proof="bloom") != base
    assert factories.devnet().ruleset(factories.stream(start=0), proof="receipts") != base


def test_the_verifier_decodes_every_log_alike_from_the_ruleset() -> None:
    """It shares no code with the decoder: the ruleset alone must carry the meaning."""
    from tests.indexers.protocols import test_decoder

    found = factories.devnet().ruleset_json(factories.stream(), proof="receipts")
    rules = decoding.read(strict.Node(cast("strict.Json", found), "ruleset"))
    ours = decoder.compile(factories.devnet())
    for log, _ in test_decoder.CASES.values():
        event = ours.decode(log, 99)
        theirs = rules.decode(
            contents.Log(
                number=log.block.number,
                block=log.block.hash,
                time=99,
                index=log.log_index,
                tx_hash=log.tx_hash,
                address=log.address,
                topics=log.topics,
                data=log.data,
            )
        )
        assert theirs.means == event.kind
        for name, value in theirs.values.items():
            assert value == getattr(event, name), (event.kind, name)
        assert theirs.texts == ({"role": event.role} if isinstance(event, events.RewardClaimed) else {})


def test_a_stream_of_something_else_is_refused() -> None:
    loaded = factories.devnet()
    for changes, expected in (
        ({"protocol": "other"}, "the manifest is devnet"),
        ({"kind": "validators"}, "the manifest is devnet"),
        ({"chain": 1}, "the network file is chain 31337"),
        ({"start": 50}, "has logs from block 1 on"),
    ):
        with pytest.raises(errors.BadConfig, match=expected):
            loaded.ruleset(factories.stream(**changes), proof="receipts")


def test_a_protocol_that_is_not_replayed_has_no_ruleset_yet(tmp_path: Path) -> None:
    path = tmp_path / "devnet.toml"
    text = changed(
        'mode = "replay"\nmodel = "reward-per-share"\nversion = "1"\nscale = "1000000000000000000"', 'mode = "claimed"'
    )
    path.write_text(text)
    loaded = manifest.load(path, network="devnet")
    assert decoder.compile(loaded).topics
    with pytest.raises(errors.BadConfig, match="by replay in this version, not by claimed"):
        loaded.ruleset(factories.stream(), proof="receipts")


NOT_INDEXED = {
    'amount = { field = "amount", measure = "total" }': "is measured as total",
    'amount = { field = "amount", measure = "cumulative" }': "is measured as cumulative",
    'amount = { field = "amount", measure = "shares" }': "is measured as shares",
    'amount = { field = "amount", unit = "gwei" }': "is converted: unit = gwei",
    'amount = "amount"\nsince = "v2"': "has a condition: since",
    'amount = "amount"\nwhen = { amount = 1 }': "has a condition: when",
    "amount = { literal = 5 }": "is a literal",
}


@pytest.mark.parametrize("new", NOT_INDEXED)
def test_what_needs_more_than_the_log_is_refused_for_indexing(new: str, tmp_path: Path) -> None:
    path, network = tmp_path / "devnet.toml", tmp_path / "net.toml"
    path.write_text(changed('amount = "amount"\n', new + "\n"))
    network.write_text(changed("start = 1", "start = 1\nupgrades = { v2 = 5 }", NETWORK) if "since" in new else NETWORK)
    loaded = manifest.load(path, network=network)
    with pytest.raises(errors.BadConfig, match=NOT_INDEXED[new]) as caught:
        decoder.compile(loaded)
    assert "leave out `means`" in caught.value.cure or "map" in caught.value.cure


def test_one_signature_may_mean_different_things_before_and_after_an_upgrade(tmp_path: Path) -> None:
    twice = f'[[events]]\nid = "Old"\nemitter = "staking"\nuntil = "v2"\n{DELEGATED}\n\n[[events]]\nemitter = "staking"\nsince = "v2"\n{DELEGATED}'
    path, network = tmp_path / "devnet.toml", tmp_path / "net.toml"
    path.write_text(changed(f'[[events]]\nemitter = "staking"\n{DELEGATED}', twice))
    network.write_text(changed("start = 1", "start = 1\nupgrades = { v2 = 5 }", NETWORK))
    assert manifest.load(path, network=network).upgrades == {"v2": 5}
    path.write_text(path.read_text().replace('until = "v2"\n', ""))
    with pytest.raises(errors.BadConfig, match="are the same log, from the same address in the same blocks"):
        manifest.load(path, network=network)


def test_two_contracts_at_one_address_may_not_emit_the_same_event(tmp_path: Path) -> None:
    more = f'[[events]]\nid = "Other"\nemitter = "second"\n{DELEGATED}\n\n[[events]]\nemitter = "staking"\n{DELEGATED}'
    text = changed(f'[[events]]\nemitter = "staking"\n{DELEGATED}', more)
    path, network = tmp_path / "devnet.toml", tmp_path / "net.toml"
    path.write_text(changed('staking = "network"', 'staking = "network"\nsecond = "network"', text))
    network.write_text(NETWORK + f'second = "0x{factories.ALICE.hex()}"\n')
    manifest.load(path, network=network)
    network.write_text(NETWORK + f'second = "0x{factories.STAKING.hex()}"\n')
    with pytest.raises(errors.BadConfig, match="give the contracts their own addresses"):
        manifest.load(path, network=network)
