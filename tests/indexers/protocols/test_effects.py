"""Only the expected log proves an effect; hostile logs prove nothing and raise nothing; simulations are read strictly."""

from __future__ import annotations

from typing import Any

import eth_abi
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain import chain, errors, hashing
from indexers.protocols import decoder, effects, signatures
from tests.indexers.protocols import factories
from tests.indexers.protocols.factories import ALICE, BOB, STAKING, word

SIGNATURE = signatures.parse("event Queued(address indexed who, (address staker, uint256[] shares) what, string note)")
EXPECTED = effects.Expected(
    effects.declaration(SIGNATURE),
    STAKING,
    SIGNATURE.topic0,
    (("who", hashing.hex0x(ALICE)), ("what.staker", hashing.hex0x(ALICE)), ("what.shares[0]", "7"), ("note", "hé")),
)


def proof(*, staker: bytes = ALICE, shares: tuple[int, ...] = (7,), note: str = "hé") -> chain.Log:
    data = eth_abi.encode(["(address,uint256[])", "string"], [(staker, shares), note])
    return factories.log(topics=(SIGNATURE.topic0, word(ALICE)), data=data)


def test_a_log_with_every_field_right_is_the_proof() -> None:
    assert effects.effect_of(EXPECTED, [proof(note="no"), proof(), proof()]) == 1


@pytest.mark.parametrize(
    "log",
    [
        proof(staker=BOB),
        proof(shares=(8,)),
        proof(shares=()),
        proof(note="h"),
        factories.log(topics=(), data=proof().data),
        factories.log(topics=(SIGNATURE.topic0,), data=proof().data),
        factories.log(topics=(SIGNATURE.topic0, word(ALICE) + b"\0"), data=proof().data),
        factories.log(topics=proof().topics, data=b""),
        factories.log(topics=proof().topics, data=b"\xff" * 320),
        factories.log(topics=proof().topics, data=proof().data, address=BOB),
    ],
)
def test_anything_else_proves_nothing(log: chain.Log) -> None:
    assert effects.effect_of(EXPECTED, [log]) is None


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.binary(max_size=40), max_size=5),
    st.binary(max_size=400),
    st.sampled_from([STAKING, BOB]),
    st.booleans(),
)
def test_no_log_whatever_its_bytes_raises(topics: list[bytes], data: bytes, address: bytes, ours: bool) -> None:
    first = [SIGNATURE.topic0, word(ALICE)] if ours else []
    log = factories.log(topics=(*first, *topics), data=data, address=address)
    assert effects.effect_of(EXPECTED, [log]) is None


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(proof().data) - 1), st.integers(1, 255))
def test_a_changed_byte_is_no_proof_or_the_same_proof(at: int, change: int) -> None:
    """Padding between tails may differ, as Solidity's own decoder lets it; what is compared may not."""
    data = bytearray(proof().data)
    data[at] ^= change
    log = msgspec.structs.replace(proof(), data=bytes(data))
    if effects.effect_of(EXPECTED, [log]) is not None:
        assert decoder.fields(SIGNATURE)(log) == decoder.fields(SIGNATURE)(proof())


def test_several_effects_must_all_be_there() -> None:
    other = msgspec.structs.replace(EXPECTED, where=(("note", "other"),))
    logs = [proof(note="other"), proof()]
    assert effects.effects_of((EXPECTED, other), logs) == (1, 0)
    assert effects.effects_of((EXPECTED, other), logs[1:]) is None
    assert effects.missing((EXPECTED, other), logs[1:]) == (other,)


def test_expecting_nothing_proves_nothing() -> None:
    assert effects.effects_of((), [proof()]) is None


def test_packed_logs_have_no_topics_and_an_exact_length() -> None:
    signature = signatures.parse("packed(address caller, bytes48 pubkey, uint64 amount)")
    expected = effects.Expected(
        effects.declaration(signature), STAKING, b"", (("caller", hashing.hex0x(ALICE)), ("amount", "5"))
    )
    data = ALICE + b"\1" * 48 + bytes(7) + b"\5"
    assert effects.effect_of(expected, [factories.log(topics=(), data=data)]) == 0
    for bad in (
        factories.log(topics=(), data=data + b"\0"),
        factories.log(topics=(), data=data[:-1]),
        factories.log(topics=(word(1),), data=data),
        factories.log(topics=(), data=BOB + data[20:]),
    ):
        assert effects.effect_of(expected, [bad]) is None


def test_an_expected_effect_survives_storage() -> None:
    kept = msgspec.json.encode(EXPECTED)
    assert msgspec.json.decode(kept, type=effects.Expected) == EXPECTED
    assert EXPECTED.name == "Queued"


@pytest.mark.parametrize(
    "text",
    [
        "event A(uint8 indexed kind, (bytes32 a, (address b, uint64[2] c)[] d)[3] e, bytes)",
        "packed(address caller, bytes48 pubkey, uint64 amount)",
    ],
)
def test_a_declaration_says_the_same_signature_again(text: str) -> None:
    signature = signatures.parse(text)
    again = signatures.parse(effects.declaration(signature))
    assert again.inputs == signature.inputs
    assert again.canonical == signature.canonical


# --- simulations ----------------------------------------------------------------------------------------------------------

LOG = {
    "address": hashing.hex0x(STAKING),
    "topics": [hashing.hex0x(topic) for topic in proof().topics],
    "data": hashing.hex0x(proof().data),
    "blockHash": None,
    "logIndex": "0x0",
}
CALL: dict[str, Any] = {"returnData": "0x", "logs": [LOG], "gasUsed": "0x5208", "status": "0x1"}


def simulated(*calls: dict[str, Any]) -> tuple[effects.Simulated, ...]:
    return effects.simulated(msgspec.json.encode([{"number": "0x1", "calls": calls}]))


def test_a_simulations_logs_prove_effects_like_a_receipts() -> None:
    (found,) = simulated(CALL)
    assert (found.ok, found.gas_used, found.reason) == (True, 21_000, "")
    assert effects.effect_of(EXPECTED, found.logs) == 0
    assert len(effects.logs_of_simulation(msgspec.json.encode([{"calls": [CALL, CALL]}]))) == 2


def test_the_logs_of_a_failed_call_count_for_nothing() -> None:
    failed = CALL | {"status": "0x0", "error": {"code": -32000, "message": "execution reverted"}}
    assert effects.logs_of_simulation(msgspec.json.encode([{"calls": [failed]}])) == []
    (found,) = simulated(failed)
    assert (found.ok, found.reason) == (False, "'execution reverted'")
    (contradiction,) = simulated(CALL | {"error": {"message": "but"}})
    assert not contradiction.ok


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"null",
        b"{}",
        b'[{"calls":[{}]}]',
        msgspec.json.encode([{"calls": [CALL | {"status": "0x2"}]}]),
        msgspec.json.encode([{"calls": [CALL | {"status": True}]}]),
        msgspec.json.encode([{"calls": [CALL | {"gasUsed": "21000"}]}]),
        msgspec.json.encode([{"calls": [CALL | {"gasUsed": "0x-1"}]}]),
        msgspec.json.encode([{"calls": [CALL | {"gasUsed": "0x" + "f" * 40}]}]),
        msgspec.json.encode([{"calls": [CALL | {"returnData": "zz"}]}]),
        msgspec.json.encode([{"calls": [CALL | {"logs": [LOG | {"topics": ["0x00"]}]}]}]),
        msgspec.json.encode([{"calls": [CALL | {"logs": [LOG | {"address": "0x00"}]}]}]),
    ],
)
def test_an_answer_that_is_no_simulation_is_refused(answer: bytes) -> None:
    with pytest.raises(errors.BadAnswer):
        effects.simulated(answer)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", ""),
        (bytes.fromhex("08c379a0") + eth_abi.encode(["string"], ["too early"]), "'too early'"),
        (bytes.fromhex("08c379a0") + eth_abi.encode(["string"], ["\x1b[31m\n"]), "'\\x1b[31m\\n'"),
        (bytes.fromhex("08c379a0") + b"\xff" * 64, "error 0x08c379a0"),
        (bytes.fromhex("4e487b71") + word(0x11), "panic 0x11"),
        (bytes.fromhex("4e487b71"), "error 0x4e487b71"),
        (b"\x12\x34", "error 0x1234"),
    ],
)
def test_a_revert_says_why_in_words_that_can_be_printed(data: bytes, said: str) -> None:
    found = effects.revert_reason(data)
    assert found.startswith(said) and (said or not found)
    assert found.isprintable() and len(found) < 500
