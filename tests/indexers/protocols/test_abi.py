"""What eth_abi encodes, we decode to the same values; what is no encoding is refused, never guessed and never a crash."""

from __future__ import annotations

import eth_abi
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexers.protocols import abi, abitypes, signatures

VALUE_TYPES = [
    "uint256",
    "uint8",
    "uint64",
    "int256",
    "int8",
    "int128",
    "address",
    "bool",
    "bytes1",
    "bytes20",
    "bytes32",
]
TYPES = st.recursive(
    st.sampled_from([*VALUE_TYPES, "string", "bytes"]),
    lambda inner: st.one_of(
        inner.map(lambda t: f"{t}[]"),
        st.tuples(inner, st.integers(1, 3)).map(lambda pair: f"{pair[0]}[{pair[1]}]"),
        st.lists(inner, min_size=1, max_size=3).map(lambda ts: f"({','.join(ts)})"),
    ),
    max_leaves=4,
)


def values(type_: abitypes.Type) -> st.SearchStrategy[object]:
    match type_.kind:
        case "uint":
            return st.integers(0, (1 << type_.size) - 1)
        case "int":
            return st.integers(-(1 << type_.size - 1), (1 << type_.size - 1) - 1)
        case "address":
            return st.binary(min_size=20, max_size=20)
        case "fixed":
            return st.binary(min_size=type_.size, max_size=type_.size)
        case "bool":
            return st.booleans()
        case "string":
            return st.text(max_size=70)
        case "bytes":
            return st.binary(max_size=70)
        case "tuple":
            return st.tuples(*[values(c.type) for c in type_.components])
        case _:
            least, most = (0, 3) if type_.length is None else (type_.length, type_.length)
            return st.lists(values(type_.item), min_size=least, max_size=most).map(tuple)


def encoded(text: str, value: object) -> bytes:
    """eth_abi wants hex for addresses inside anything nested; bytes are fine at any depth."""
    return eth_abi.encode([text], [value])


def decode(text: str, data: bytes) -> abi.Value:
    read = abi.members([signatures.type_of(text)])
    return read(data, 0, abi.room(data))[0]


@st.composite
def typed_values(draw: st.DrawFn) -> tuple[str, object]:
    text = draw(TYPES)
    return text, draw(values(signatures.type_of(text)))


def shown(value: object) -> object:
    """A value as we give it: strings through the same reversible escape."""
    if isinstance(value, str):
        return abi.text(value.encode())
    return tuple(shown(v) for v in value) if isinstance(value, tuple) else value


@settings(max_examples=300, deadline=None)
@given(typed_values())
def test_what_eth_abi_encodes_is_decoded_to_the_same_values(pair: tuple[str, object]) -> None:
    text, value = pair
    assert decode(text, encoded(text, value)) == shown(value)


@settings(max_examples=300, deadline=None)
@given(typed_values(), st.data())
def test_damaged_data_is_decoded_or_refused_but_never_crashes(pair: tuple[str, object], data: st.DataObject) -> None:
    text, value = pair
    damaged = bytearray(encoded(text, value))
    for _ in range(data.draw(st.integers(1, 4))):
        if not damaged:
            break
        at = data.draw(st.integers(0, len(damaged) - 1))
        match data.draw(st.sampled_from(["set", "cut", "insert"])):
            case "set":
                damaged[at] = data.draw(st.integers(0, 255))
            case "cut":
                del damaged[at : at + data.draw(st.integers(1, 40))]
            case _:
                damaged[at:at] = data.draw(st.binary(max_size=40))
    try:
        decode(text, bytes(damaged))
    except abi.Malformed:
        pass


@settings(max_examples=200, deadline=None)
@given(TYPES, st.binary(max_size=400))
def test_arbitrary_bytes_are_decoded_or_refused(text: str, data: bytes) -> None:
    try:
        decode(text, data)
    except abi.Malformed:
        pass


def word(value: int) -> bytes:
    return value.to_bytes(32, "big")


@pytest.mark.parametrize(
    ("text", "data", "expected"),
    [
        ("address", b"\x01" + bytes(31), "the padding of an address"),
        ("address", bytes(11) + b"\x01" + bytes(20), "the padding of an address"),
        ("bool", word(2), "a bool has no value"),
        ("uint8", word(256), "the padding of uint8"),
        ("uint64", word(1 << 64), "the padding of uint64"),
        ("int8", word(128), "not sign-extended"),
        ("int8", word((1 << 256) - 129), "not sign-extended"),
        ("bytes4", b"abcde" + bytes(27), "the padding of bytes4"),
        ("uint256", bytes(31), "the data ends inside a uint256"),
        ("string", word(32) + word(1), "ends outside the data"),
        ("string", word(1 << 255) + word(0), "points outside the data"),
        ("string", word(32) + word(1 << 255), "points outside the data"),
        ("string", word(64) + word(0), "ends inside an offset"),
        ("uint256[]", word(32) + word(3) + word(0) * 2, "an array ends outside"),
        ("uint256[]", word(32) + word((1 << 256) - 1), "points outside the data"),
        ("string[]", word(32) + word(1) + word(500), "points outside the data"),
    ],
)
def test_an_encoding_solidity_would_refuse_is_refused(text: str, data: bytes, expected: str) -> None:
    with pytest.raises(abi.Malformed, match=expected):
        decode(text, data)


def test_the_widest_amounts_survive() -> None:
    top = (1 << 256) - 1
    assert decode("uint256", word(top)) == top
    assert decode("int256", word(top)) == -1


def test_bytes_after_the_last_value_are_tolerated() -> None:
    assert decode("uint256", word(5) + b"\xff" * 7) == 5
    assert decode("string", encoded("string", "a") + b"\xff" * 33) == "a"


def test_a_strings_padding_is_the_encoders_business() -> None:
    assert decode("string", word(32) + word(3) + b"abc") == "abc"
    assert decode("string", word(32) + word(3) + b"abc" + b"\xff" * 29) == "abc"


def test_a_declared_enum_has_only_its_members() -> None:
    type_ = signatures.type_of("Kind", signatures.Types({"Kind": "enum { A, B }"}))
    read = abi.read(type_)
    assert read(word(1), 0, abi.room(word(1))) == 1
    with pytest.raises(abi.Malformed, match="the enum Kind"):
        read(word(2), 0, abi.room(word(2)))


def test_offsets_that_share_a_tail_cannot_grow_the_data() -> None:
    """1,000 elements that all point at one array of 1,000 would be a million values out of 64 KB."""
    count = 1000
    inner = word(count) + word(7) * count
    data = word(32) + word(count) + word(32 * count) * count + inner
    with pytest.raises(abi.Malformed, match="overlap"):
        decode("uint256[][]", data)


HOSTILE = [
    b"",
    b"\0",
    b"a\0b",
    b"\xff\xfe",
    b"\xed\xa0\x80",  # a lone surrogate
    b"\xc0\x80",  # an overlong NUL
    b"\\xff",  # the escape itself, as text
    b"\\x5cxff",
    b"C:\\xampp\\new",
    b"'; DROP TABLE block; --",
    "\u202eoperator\u0007\x1b[31m".encode(),
    "\U0001f969 stake".encode(),
    "e\u0301".encode(),
]


@pytest.mark.parametrize("data", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_string_survives_and_can_be_had_back(data: bytes) -> None:
    shown_ = abi.text(data)
    shown_.encode()  # storable as UTF-8
    assert abi.untext(shown_) == data


@given(st.binary(max_size=60))
def test_every_string_can_be_had_back(data: bytes) -> None:
    assert abi.untext(abi.text(data)) == data


def test_ordinary_text_is_left_alone() -> None:
    for text in ("", "Zürich validator", "a\\b", "tab\there", "\0"):
        assert abi.text(text.encode()) == text


def test_packed_data_has_an_exact_length() -> None:
    read = abi.packed(signatures.parse("packed(address caller, bytes48 pubkey, uint64 amount)").inputs)
    data = b"\x01" * 20 + b"\x02" * 48 + (32 * 10**9).to_bytes(8, "big")
    assert len(data) == 76
    assert read(data) == (b"\x01" * 20, b"\x02" * 48, 32 * 10**9)
    for wrong in (data[:-1], data + b"\0"):
        with pytest.raises(abi.Malformed, match="where 76 are needed"):
            read(wrong)
