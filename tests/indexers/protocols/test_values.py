"""One value has one text; what is ambiguous, rounded or mistyped is refused with the argument's name."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from domain import errors, hashing
from indexers.protocols import abi, expressions, signatures, values
from tests.indexers.protocols.test_abi import shown, typed_values

ADDRESS = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
LOWER = ADDRESS.lower()
WORD = "0x" + "00" * 12 + LOWER[2:]


def canonical(value: object, text: str) -> str:
    type_ = expressions.WORD if text == "identity" else signatures.type_of(text, wide=True)
    return values.canonical(value, type_, what="it")


@settings(max_examples=200, deadline=None)
@given(typed_values())
def test_a_value_survives_its_text(pair: tuple[str, object]) -> None:
    type_ = signatures.type_of(pair[0])
    value: abi.Value = shown(pair[1])  # type: ignore[assignment]
    text = values.text(value, type_)
    assert values.read(text, type_, what="it") == value
    assert values.canonical(text, type_, what="it") == text


@pytest.mark.parametrize(
    ("value", "type_", "text"),
    [
        (ADDRESS, "identity", WORD),
        (LOWER, "identity", WORD),
        ("0x" + LOWER[2:].upper(), "identity", WORD),
        (WORD, "identity", WORD),
        ("7", "identity", "0x" + "00" * 31 + "07"),
        (ADDRESS, "address", LOWER),
        ("5000", "uint256", "5000"),
        (str(2**256 - 1), "uint256", str(2**256 - 1)),
        ("-5", "int8", "-5"),
        (True, "bool", "true"),
        ("false", "bool", "false"),
        ("0xAB", "bytes1", "0xab"),
        ("0x", "bytes", "0x"),
        ("0x" + "AB" * 48, "bytes48", "0x" + "ab" * 48),
        ("héllo", "string", "héllo"),
        (["1", "2"], "uint8[]", '["1","2"]'),
        ('["1", "2"]', "uint8[]", '["1","2"]'),
        ({"b": "2", "a": True}, "(bool a, uint8 b)", '{"a":"true","b":"2"}'),
    ],
)
def test_what_people_write_has_one_text(value: object, type_: str, text: str) -> None:
    assert canonical(value, type_) == text
    assert canonical(text, type_) == text


@pytest.mark.parametrize(
    ("value", "type_"),
    [
        (5000, "uint256"),
        (5e3, "uint256"),
        (None, "uint256"),
        (True, "uint256"),
        ("5e3", "uint256"),
        ("5.0", "uint256"),
        ("0x10", "uint256"),
        ("007", "uint256"),
        ("+7", "uint256"),
        (" 7", "uint256"),
        ("7\n", "uint256"),
        ("1_000", "uint256"),
        ("٣", "uint256"),
        ("", "uint256"),
        ("-1", "uint256"),
        (str(2**256), "uint256"),
        ("9" * 400, "uint256"),
        ("256", "uint8"),
        ("-0", "int8"),
        ("128", "int8"),
        (1, "bool"),
        ("True", "bool"),
        (ADDRESS[:-1] + "4", "address"),
        ("0x5fBDB2315678afecb367f032d93F642f64180aa3", "address"),
        ("0x5fBDB2315678afecb367f032d93F642f64180aa3", "identity"),
        (WORD, "address"),
        (LOWER[2:], "address"),
        (LOWER[:-2], "identity"),
        (7, "identity"),
        (str(2**256), "identity"),
        ("0x0g", "bytes"),
        ("0xabc", "bytes"),
        ("0xabcd", "bytes1"),
        ("\ud800", "string"),
        (5, "string"),
        (["1", 2], "uint8[]"),
        (["1"], "uint8[2]"),
        ("[1]", "uint8[]"),
        ("{", "uint8[]"),
        ("[" * 5000, "uint8[]"),
        ({"a": True}, "(bool a, uint8 b)"),
        ({"a": True, "b": "1", "c": "1"}, "(bool a, uint8 b)"),
        ("0x" + "00" * 70_000, "bytes"),
    ],
)
def test_what_is_not_exactly_a_value_is_refused_by_name(value: object, type_: str) -> None:
    with pytest.raises(values.Refused, match=r"^it") as refused:
        canonical(value, type_)
    assert refused.value.cure
    assert len(str(refused.value)) < 600


@pytest.mark.parametrize(
    ("want", "word", "found"),
    [
        ("address", WORD, hashing.unhex(LOWER)),
        ("uint256", "0x" + "00" * 31 + "07", 7),
        ("uint8", "0x" + "00" * 31 + "ff", 255),
        ("bytes32", WORD, hashing.unhex(WORD)),
    ],
)
def test_an_identity_becomes_what_the_chain_wants_and_back(want: str, word: str, found: abi.Value) -> None:
    type_ = signatures.type_of(want)
    data = hashing.unhex(word)
    assert values.convert(data, expressions.WORD, type_, what="it") == found
    assert values.convert(found, type_, expressions.WORD, what="it") == data


@pytest.mark.parametrize(("want", "word"), [("address", "0x01" + "00" * 31), ("uint8", "0x" + "00" * 30 + "0100")])
def test_an_identity_that_the_chain_cannot_hold_is_refused(want: str, word: str) -> None:
    with pytest.raises(errors.StakesideError, match=r"^it is"):
        values.convert(hashing.unhex(word), expressions.WORD, signatures.type_of(want), what="it")
