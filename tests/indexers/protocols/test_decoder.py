"""Logs of the devnet's contract become normalised events; what is no encoding is parked with its reason."""

from __future__ import annotations

import eth_abi
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain import chain, errors, events
from indexers.protocols import decoder, manifest
from tests.indexers.protocols import factories
from tests.indexers.protocols.factories import ALICE, BOB, CAROL, word

MANIFEST = factories.devnet()
DECODER = decoder.compile(MANIFEST)
TOPIC = {rule.id: rule.signature.topic0 for rule in MANIFEST.rules}
AMOUNTS = st.integers(0, (1 << 256) - 1)


def at(log: chain.Log, time: int = 99) -> events.At:
    return events.At(log.block, log.log_index, time, log.tx_hash)


def make(id_: str, *indexed: bytes, data: bytes = b"") -> chain.Log:
    return factories.log(topics=(TOPIC[id_], *[word(i) for i in indexed]), data=data)


def words(*values: int) -> bytes:
    return b"".join(word(v) for v in values)


CASES = {
    "Delegated": (
        make("Delegated", ALICE, BOB, data=words(5)),
        lambda p: events.Delegated(p, word(ALICE), word(BOB), 5),
    ),
    "Undelegated": (
        make("Undelegated", ALICE, BOB, data=words(3, 4, 1000)),
        lambda p: events.Undelegated(p, word(ALICE), word(BOB), 4, ticket=3, release_time=1000),
    ),
    "Withdrawn": (
        make("Withdrawn", ALICE, BOB, data=words(3, 0)),
        lambda p: events.Withdrawn(p, word(ALICE), word(BOB), 0, ticket=3),
    ),
    "Redelegated": (
        make("Redelegated", ALICE, CAROL, BOB, data=words(7)),
        lambda p: events.Moved(p, word(ALICE), word(CAROL), word(BOB), 7),
    ),
    "RewardDistributed": (
        make("RewardDistributed", ALICE, data=words(100, 10, 10**18)),
        lambda p: events.RewardAccrued(p, word(ALICE), 100, commission=10, index=10**18),
    ),
    "RewardClaimed": (
        make("RewardClaimed", ALICE, BOB, data=words(9)),
        lambda p: events.RewardClaimed(p, word(ALICE), word(BOB), 9, role="delegator"),
    ),
    "CommissionClaimed": (
        make("CommissionClaimed", ALICE, data=words(9)),
        lambda p: events.RewardClaimed(p, word(ALICE), word(ALICE), 9, role="operator"),
    ),
    "Slashed": (
        make("Slashed", ALICE, data=words(500, 77)),
        lambda p: events.Slashed(p, word(ALICE), 77, fraction_bps=500),
    ),
    "ValidatorUpdated": (
        make("ValidatorUpdated", ALICE, data=eth_abi.encode(["uint256", "string"], [250, "Zürich 🥩"])),
        lambda p: events.CommissionChanged(p, word(ALICE), 250, note="Zürich 🥩"),
    ),
}


def test_every_event_of_the_manifest_has_a_case() -> None:
    assert set(CASES) == set(TOPIC)


@pytest.mark.parametrize("id_", CASES)
def test_a_log_becomes_the_event_it_means(id_: str) -> None:
    log, expected = CASES[id_]
    assert DECODER.wants(log)
    assert DECODER.decode(log, 99) == expected(at(log))


@pytest.mark.parametrize("id_", CASES)
def test_an_event_survives_its_row_form(id_: str) -> None:
    log, _ = CASES[id_]
    event = DECODER.decode(log, 99)
    assert events.from_row(events.to_row(event), event.at) == event


def test_the_decoder_says_what_to_ask_a_node_for() -> None:
    assert DECODER.name == "devnet"
    assert DECODER.addresses == (factories.STAKING,)
    assert DECODER.topics == tuple(sorted(TOPIC.values()))


def test_logs_of_others_are_not_wanted() -> None:
    log, _ = CASES["Delegated"]
    for other in (
        msgspec.structs.replace(log, address=ALICE),
        msgspec.structs.replace(log, topics=(b"\1" * 32, *log.topics[1:])),
        msgspec.structs.replace(log, topics=()),
    ):
        assert not DECODER.wants(other)
        with pytest.raises(errors.Parked, match="no rule"):
            DECODER.decode(other, 99)


@given(AMOUNTS, AMOUNTS, AMOUNTS)
def test_amounts_up_to_the_last_bit_are_exact(ticket: int, amount: int, release: int) -> None:
    event = DECODER.decode(make("Undelegated", ALICE, BOB, data=words(ticket, amount, release)), 1)
    assert isinstance(event, events.Undelegated)
    assert (event.ticket, event.amount, event.release_time) == (ticket, amount, release)


@given(st.integers(0, 10_000), st.text(max_size=100))
def test_any_text_of_a_validator_is_kept(bps: int, text: str) -> None:
    data = eth_abi.encode(["uint256", "string"], [bps, text])
    event = DECODER.decode(make("ValidatorUpdated", ALICE, data=data), 1)
    assert isinstance(event, events.CommissionChanged)
    assert event.note.replace("\\x5cx", "\\x") == text


@pytest.mark.parametrize("raw", [b"\xff\xfe\0", b"\0" * 40, b"\x1b[2J\xe2\x80\xae"])
def test_bytes_that_are_no_text_do_not_stop_the_stream(raw: bytes) -> None:
    data = eth_abi.encode(["uint256", "bytes"], [1, raw])  # bytes and string are encoded alike
    event = DECODER.decode(make("ValidatorUpdated", ALICE, data=data), 1)
    assert events.from_row(events.to_row(event), event.at) == event


PARKED = {
    "a topic is missing": (make("Delegated", ALICE, data=words(5)), "has 3 topics, not 2"),
    "a topic too many": (make("Slashed", ALICE, BOB, data=words(5, 5)), "has 2 topics, not 3"),
    "an address with padding": (
        factories.log(topics=(TOPIC["Slashed"], b"\1" + bytes(31)), data=words(5, 5)),
        "the padding of an address",
    ),
    "no data": (make("Delegated", ALICE, BOB), "ends after 0 of 32"),
    "half a word": (make("Delegated", ALICE, BOB, data=b"\0" * 31), "ends after 31 of 32"),
    "a text outside": (make("ValidatorUpdated", ALICE, data=words(1, 999)), "points outside"),
    "a text too long": (make("ValidatorUpdated", ALICE, data=words(1, 64, 2)), "ends outside"),
    "a huge length": (make("ValidatorUpdated", ALICE, data=words(1, 64, 1 << 255)), "points outside"),
}


@pytest.mark.parametrize("case", PARKED)
def test_a_log_that_is_no_encoding_is_parked_with_its_reason(case: str) -> None:
    log, expected = PARKED[case]
    with pytest.raises(errors.Parked, match=expected) as caught:
        DECODER.decode(log, 1)
    message = str(caught.value)
    assert "devnet" in message
    assert "block 7:0x07070707, log 0" in message
    assert "protocol test" in message


@settings(max_examples=500, deadline=None)
@given(
    st.sampled_from(sorted(CASES)), st.lists(st.binary(min_size=32, max_size=32), max_size=4), st.binary(max_size=300)
)
def test_no_bytes_crash_the_decoder(id_: str, topics: list[bytes], data: bytes) -> None:
    log = factories.log(topics=(TOPIC[id_], *topics), data=data)
    try:
        event = DECODER.decode(log, 1)
    except errors.Parked:
        return
    assert events.from_row(events.to_row(event), event.at) == event


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(CASES)), st.integers(0, 255), st.integers(0, 10_000))
def test_a_changed_byte_changes_the_event_or_parks_it_or_was_padding(id_: str, value: int, where: int) -> None:
    log, _ = CASES[id_]
    if not log.data:
        return
    place = where % len(log.data)
    damaged = bytearray(log.data)
    damaged[place] = value
    changed = msgspec.structs.replace(log, data=bytes(damaged))
    try:
        event = DECODER.decode(changed, 99)
    except errors.Parked:
        return
    if event == DECODER.decode(log, 99) and bytes(damaged) != log.data:
        assert id_ == "ValidatorUpdated"  # only a string has padding that nobody reads


def test_numbers_and_bytes32_become_identities_too() -> None:
    """A protocol may number its validators or name them by a hash; all look alike as 32-byte words."""
    text = """
name = "other"
[contracts]
pool = "network"
[earnings]
mode = "claimed"
[[events]]
emitter = "pool"
signature = "event In(uint64 indexed id, bytes32 who, uint128 amount, address target)"
means = "Moved"
validator = "id"
delegator = "who"
target = "target"
amount = "amount"
"""
    from indexers.protocols import checks

    examined, problems = checks.examine(text)
    assert examined is not None, problems
    network = f'chain_id = 1\n[protocols.other.addresses]\npool = "0x{ALICE.hex()}"\n'
    loaded = manifest.bind(examined, file="x", network=manifest.File("n", network))
    compiled = decoder.compile(loaded)
    log = factories.log(topics=(compiled.topics[0], word(12)), data=b"\x77" * 32 + words(5) + word(BOB), address=ALICE)
    event = compiled.decode(log, 99)
    assert event == events.Moved(at(log), word(12), word(BOB), b"\x77" * 32, 5)
    for bad in (words(1 << 128), b"\1" + bytes(31)):
        with pytest.raises(errors.Parked, match="uint128"):
            compiled.decode(msgspec.structs.replace(log, data=b"\x77" * 32 + bad + word(BOB)), 99)


def test_a_fingerprint_is_the_same_for_the_same_rules_in_any_order() -> None:
    again = msgspec.structs.replace(MANIFEST, rules=MANIFEST.rules[::-1])
    assert decoder.compile(again).fingerprint == DECODER.fingerprint
    assert len(DECODER.fingerprint) == 32


def test_a_fingerprint_follows_every_wanted_log_and_every_meaning() -> None:
    first = MANIFEST.rules[0]
    changed = [
        msgspec.structs.replace(MANIFEST, rules=MANIFEST.rules[1:]),
        msgspec.structs.replace(MANIFEST, addresses={name: bytes(20) for name in MANIFEST.addresses}),
    ]
    swapped = {**first.fields, "validator": first.fields["delegator"], "delegator": first.fields["validator"]}
    changed.append(
        msgspec.structs.replace(MANIFEST, rules=(msgspec.structs.replace(first, fields=swapped), *MANIFEST.rules[1:]))
    )
    found = {decoder.compile(item).fingerprint for item in changed} | {DECODER.fingerprint}
    assert len(found) == len(changed) + 1


def test_a_fingerprint_names_neither_proof_nor_start() -> None:
    later = msgspec.structs.replace(MANIFEST, start=MANIFEST.start + 5)
    assert decoder.compile(later).fingerprint == DECODER.fingerprint
