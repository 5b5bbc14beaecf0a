"""ABI encoding, the other direction of `abi`. In: types and plain values. Out: calldata, or Unfit naming type and value.

Values are those that `abi` reads: int for uint, int and enum; bool; bytes for address, bytesN and bytes; str for string, in the
spelling of `abi.text`; tuple for struct and array. Nothing is rounded, cut or padded to make it fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from domain import errors, hashing
from indexers.protocols import abi, abitypes

_WIDEST = 1 << 16
"""Bytes of calldata: nodes refuse transactions above 128 KB, and no staking call comes near this."""


class Unfit(errors.StakesideError):
    """The value is none of the type's."""


def encode(types: Sequence[abitypes.Type], values: Sequence[abi.Value]) -> bytes:
    """`abi.encode`: the heads, then the tails the offsets point at."""
    data = _sequence(types, values)
    if len(data) > _WIDEST:
        raise Unfit(f"the call has {len(data)} bytes of data", cure=f"at most {_WIDEST}: ask for less at once")
    return data


def call(signature: abitypes.Signature, values: Sequence[abi.Value]) -> bytes:
    """Calldata: selector and arguments, or the fields of `packed(…)` end to end."""
    if signature.kind == "packed":
        return packed(signature.inputs, values)
    return signature.selector + encode([p.type for p in signature.inputs], values)


def packed(params: Sequence[abitypes.Param], values: Sequence[abi.Value]) -> bytes:
    """Fields without padding, integers big-endian, as EIP-7002 and EIP-7251 want them."""
    return b"".join([_field(param.type, value) for param, value in zip(params, values, strict=True)])


def _field(type_: abitypes.Type, value: abi.Value) -> bytes:
    match type_.kind:
        case "uint":
            return _integer(type_, value).to_bytes(type_.size // 8, "big")
        case "address":
            return _exactly(20, type_, value)
        case _:
            return _exactly(type_.size, type_, value)


def _sequence(types: Sequence[abitypes.Type], values: Sequence[abi.Value]) -> bytes:
    heads: list[bytes] = []
    tails: list[bytes] = []
    offset = 32 * sum([type_.words for type_ in types])
    for type_, value in zip(types, values, strict=True):
        data = _encode(type_, value)
        if type_.dynamic:
            heads.append(hashing.word(offset))
            tails.append(data)
            offset += len(data)
        else:
            heads.append(data)
    return b"".join(heads + tails)


def _encode(type_: abitypes.Type, value: abi.Value) -> bytes:
    match type_.kind:
        case "uint":
            return hashing.word(_integer(type_, value))
        case "int":
            return _integer(type_, value).to_bytes(32, "big", signed=True)
        case "bool":
            if not isinstance(value, bool):
                raise _unfit(type_, value)
            return hashing.word(int(value))
        case "address":
            return _exactly(20, type_, value).rjust(32, b"\0")
        case "fixed":
            return _exactly(type_.size, type_, value).ljust(32, b"\0")
        case "bytes" | "string":
            return _tail(type_, value)
        case "tuple":
            return _sequence([c.type for c in type_.components], _items(type_, value, len(type_.components)))
        case "array":
            items = _items(type_, value, type_.length)
            count = hashing.word(len(items)) if type_.length is None else b""
            return count + _sequence([type_.item] * len(items), items)
        case _:
            raise ValueError(f"{type_.canonical} has no encoding")


def _integer(type_: abitypes.Type, value: abi.Value) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _unfit(type_, value)
    if type_.kind == "uint":
        least, most = 0, (type_.members or 1 << type_.size) - 1
    else:
        least, most = -(1 << type_.size - 1), (1 << type_.size - 1) - 1
    if not least <= value <= most:
        raise Unfit(
            f"a number does not fit {type_.declared or type_.canonical}",
            value=value,
            cure=f"it holds {least} to {most}",
        )
    return value


def _exactly(size: int, type_: abitypes.Type, value: abi.Value) -> bytes:
    if not isinstance(value, bytes) or len(value) != size:
        raise _unfit(type_, value)
    return value


def _tail(type_: abitypes.Type, value: abi.Value) -> bytes:
    if not isinstance(value, str if type_.kind == "string" else bytes):
        raise _unfit(type_, value)
    data = abi.untext(value) if isinstance(value, str) else value
    return hashing.word(len(data)) + data + bytes(-len(data) % 32)


def _items(type_: abitypes.Type, value: abi.Value, count: int | None) -> tuple[abi.Value, ...]:
    if not isinstance(value, tuple) or (count is not None and len(value) != count):
        raise _unfit(type_, value)
    return cast("tuple[abi.Value, ...]", value)


def _unfit(type_: abitypes.Type, value: object) -> Unfit:
    return Unfit(f"the value is no {type_.declared or type_.canonical}", value=value)
