"""What we encode is, byte for byte, what eth_abi and web3 encode, and what we decode again; nothing that does not fit is made to."""

from __future__ import annotations

import eth_abi
import eth_abi.packed
import pytest
import web3
from hypothesis import given, settings
from hypothesis import strategies as st

from indexers.protocols import abi, encoding, signatures
from tests.indexers.protocols.test_abi import shown, typed_values


@settings(max_examples=300, deadline=None)
@given(typed_values())
def test_encoding_is_the_inverse_of_decoding_and_equals_eth_abi(pair: tuple[str, object]) -> None:
    text, value = pair
    type_ = signatures.type_of(text)
    ours: abi.Value = shown(value)  # type: ignore[assignment]
    data = encoding.encode([type_], [ours])
    assert data == eth_abi.encode([text], [value])
    assert abi.members([type_])(data, 0, abi.room(data)) == (ours,)


@settings(max_examples=100, deadline=None)
@given(st.lists(typed_values(), max_size=4))
def test_several_arguments_are_laid_out_as_eth_abi_lays_them_out(pairs: list[tuple[str, object]]) -> None:
    types = [signatures.type_of(text) for text, _ in pairs]
    data = encoding.encode(types, [shown(value) for _, value in pairs])  # type: ignore[misc]
    assert data == eth_abi.encode([text for text, _ in pairs], [value for _, value in pairs])


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=90))
def test_text_that_is_no_utf_8_is_encoded_to_the_bytes_it_came_from(data: bytes) -> None:
    assert encoding.encode([signatures.type_of("string")], [abi.text(data)]) == eth_abi.encode(["bytes"], [data])


@settings(max_examples=50, deadline=None)
@given(st.binary(min_size=20, max_size=20), st.binary(min_size=32, max_size=32), st.integers(0, 2**64 - 1))
def test_packed_fields_are_eth_abis_packed_fields(address: bytes, word: bytes, number: int) -> None:
    signature = signatures.parse("packed(address a, bytes32 b, uint64 c)")
    data = encoding.call(signature, [address, word, number])
    assert data == eth_abi.packed.encode_packed(["address", "bytes32", "uint64"], [address, word, number])
    assert abi.packed(signature.inputs)(data) == (address, word, number)


def test_a_withdrawal_request_is_pubkey_and_big_endian_amount() -> None:
    signature = signatures.parse("packed(bytes48 pubkey, uint64 amount) payable")
    assert encoding.call(signature, [b"\xaa" * 48, 1]) == b"\xaa" * 48 + bytes(7) + b"\1"


def test_web3_writes_the_same_deposit() -> None:
    text = "function deposit(bytes pubkey, bytes withdrawal_credentials, bytes signature, bytes32 deposit_data_root) payable"
    entry = {
        "type": "function",
        "name": "deposit",
        "stateMutability": "payable",
        "outputs": [],
        "inputs": [
            {"name": "pubkey", "type": "bytes"},
            {"name": "withdrawal_credentials", "type": "bytes"},
            {"name": "signature", "type": "bytes"},
            {"name": "deposit_data_root", "type": "bytes32"},
        ],
    }
    values = [b"\1" * 48, b"\2" * 32, b"\3" * 96, b"\4" * 32]
    contract = web3.Web3().eth.contract(abi=[entry])  # type: ignore[call-overload]
    data = encoding.call(signatures.parse(text), values)
    assert "0x" + data.hex() == contract.encode_abi("deposit", args=values)
    assert data[:4].hex() == "22895118"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("uint8", 256),
        ("uint256", -1),
        ("uint256", True),
        ("uint256", b"\1"),
        ("int8", 128),
        ("int8", -129),
        ("bool", 1),
        ("address", b"\1" * 19),
        ("address", b"\1" * 32),
        ("bytes4", b"\1" * 3),
        ("bytes4", b"\1" * 5),
        ("bytes", "text"),
        ("string", b"bytes"),
        ("uint8[2]", (1,)),
        ("uint8[]", 1),
        ("(uint8,bool)", (1,)),
        ("(uint8,bool)", (True, 1)),
    ],
)
def test_what_does_not_fit_is_refused_and_never_cut_or_padded(text: str, value: abi.Value) -> None:
    with pytest.raises(encoding.Unfit):
        encoding.encode([signatures.type_of(text)], [value])


def test_an_enum_outside_its_members_is_refused() -> None:
    type_ = signatures.type_of("Kind", signatures.Types({"Kind": "enum { A, B }"}))
    assert encoding.encode([type_], [1])[-1] == 1
    with pytest.raises(encoding.Unfit, match="does not fit Kind"):
        encoding.encode([type_], [2])


def test_calldata_has_a_bound() -> None:
    with pytest.raises(encoding.Unfit, match="bytes of data"):
        encoding.encode([signatures.type_of("bytes")], [bytes(1 << 17)])
