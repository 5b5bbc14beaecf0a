"""The proof that an action worked. In: an expected effect and the logs of a receipt or a simulation. Out: which log proves it, if any.

An `Expected` carries its event's whole signature, so it can be kept in a book and still be judged after a restart or a change of the
manifest. Logs are hostile: whatever does not decode, or says anything else than expected, proves nothing and raises nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import msgspec

from domain import chain, errors, hashing
from indexers.protocols import abi, abitypes, decoder, signatures, values

_ERROR, _PANIC = bytes.fromhex("08c379a0"), bytes.fromhex("4e487b71")  # Error(string), Panic(uint256)
_WORDS = 200  # characters, or bytes, of a contract's reason that are shown


class Expected(msgspec.Struct, frozen=True):
    """One log, concretely. `event` is its declaration with canonical types, as `signatures` reads it; `topic0` is empty where the
    log has no topics; `where` holds paths into the log and the canonical text of what must stand there."""

    event: str
    emitter: bytes
    topic0: bytes
    where: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        """The event's bare name, `packed` for a log without topics."""
        return self.event.removeprefix("event ").partition("(")[0]


class Simulated(msgspec.Struct, frozen=True):
    """One call of an `eth_simulateV1` answer. `reason` says why it failed, in the contract's words where it gave any."""

    ok: bool
    gas_used: int
    output: bytes
    logs: tuple[chain.Log, ...]
    reason: str = ""


def effect_of(expected: Expected, logs: Sequence[chain.Log]) -> int | None:
    """The place in `logs` of the first one that proves the effect: its emitter, its topic, and every field equal."""
    signature, read = _reader(expected.event)
    for place, log in enumerate(logs):
        if log.address == expected.emitter and _proves(expected, signature, read, log):
            return place
    return None


def effects_of(expected: Sequence[Expected], logs: Sequence[chain.Log]) -> tuple[int, ...] | None:
    """The places of all effects; None as soon as one is missing, or when nothing was expected."""
    places = [effect_of(one, logs) for one in expected]
    found = tuple([place for place in places if place is not None])
    return found if found and len(found) == len(places) else None


def missing(expected: Sequence[Expected], logs: Sequence[chain.Log]) -> tuple[Expected, ...]:
    """The effects that no log proves."""
    return tuple([one for one in expected if effect_of(one, logs) is None])


def _proves(
    expected: Expected,
    signature: abitypes.Signature,
    read: Callable[[chain.Log], Mapping[str, abi.Value]],
    log: chain.Log,
) -> bool:
    if log.topics[:1] != ((expected.topic0,) if expected.topic0 else ()) or any(len(t) != 32 for t in log.topics):
        return False
    try:
        fields = read(log)
    except errors.Parked:
        return False
    for path, wanted in expected.where:
        found, type_ = abi.pick(signature.inputs, fields, path), abitypes.resolve(signature.inputs, path)
        if found is None or type_ is None or values.text(found, type_) != wanted:
            return False
    return True


@functools.lru_cache(maxsize=256)
def _reader(event: str) -> tuple[abitypes.Signature, Callable[[chain.Log], dict[str, abi.Value]]]:
    signature = signatures.parse(event)
    return signature, decoder.fields(signature)


def declaration(signature: abitypes.Signature) -> str:
    """The signature with canonical types, names and `indexed`: what `signatures.parse` reads without any declared types."""
    inner = ", ".join([_declared(p) for p in signature.inputs])
    return f"packed({inner})" if signature.kind == "packed" else f"{signature.kind} {signature.name}({inner})"


def _declared(param: abitypes.Param) -> str:
    return f"{spelled(param.type)} {'indexed ' if param.indexed else ''}{param.name}"


def spelled(type_: abitypes.Type) -> str:
    """A type as a signature writes it, structs by their parts."""
    match type_.kind:
        case "tuple":
            return f"({', '.join([_declared(c) for c in type_.components])})"
        case "array":
            return f"{spelled(type_.item)}[{'' if type_.length is None else type_.length}]"
        case _:
            return type_.canonical


# --- simulations ----------------------------------------------------------------------------------------------------------


class _Log(msgspec.Struct):
    address: str
    topics: list[str]
    data: str
    logIndex: str = "0x0"
    removed: bool = False


class _Refusal(msgspec.Struct):
    message: str = ""
    data: str | None = None


class _Call(msgspec.Struct):
    returnData: str
    gasUsed: str
    status: str
    logs: list[_Log] = []
    error: _Refusal | None = None


class _Block(msgspec.Struct):
    calls: list[_Call]


def simulated(raw: bytes | msgspec.Raw) -> tuple[Simulated, ...]:
    """Every call of an `eth_simulateV1` result, in order. Raises BadAnswer when it is none.

    Its blocks and hashes are invented by the node, so the logs' places are too: only emitter, topics and data mean anything."""
    try:
        blocks = msgspec.json.decode(raw, type=list[_Block])
    except msgspec.DecodeError as error:
        raise errors.BadAnswer(f"the answer is no simulation: {error}", value=bytes(raw)[:200]) from None
    return tuple([_simulated(call) for block in blocks for call in block.calls])


def logs_of_simulation(raw: bytes | msgspec.Raw) -> list[chain.Log]:
    """The logs of all its calls that succeeded, in order."""
    return [log for call in simulated(raw) if call.ok for log in call.logs]


def _simulated(call: _Call) -> Simulated:
    output = hashing.unhex(call.returnData, what="a simulation's output")
    ok = call.status == "0x1" and call.error is None
    if not ok and call.status not in ("0x0", "0x1"):
        raise errors.BadAnswer("a simulated call has no such status", value=call.status)
    refusal = call.error or _Refusal()
    data = hashing.unhex(refusal.data, what="a simulation's error") if refusal.data else output
    reason = "" if ok else revert_reason(data) or errors.clip(refusal.message or "no reason given", _WORDS)
    return Simulated(
        ok, _quantity(call.gasUsed), output, tuple([_log(log, i) for i, log in enumerate(call.logs)]), reason
    )


def _log(log: _Log, index: int) -> chain.Log:
    return chain.Log(
        block=chain.BlockRef(0, bytes(32)),
        log_index=index,
        tx_hash=bytes(32),
        tx_index=0,
        address=hashing.unhex(log.address, size=20, what="a log's address"),
        topics=tuple([hashing.unhex(topic, size=32, what="a topic") for topic in log.topics]),
        data=hashing.unhex(log.data, what="a log's data"),
    )


def _quantity(text: str) -> int:
    if not text.startswith("0x") or not text[2:].isalnum() or len(text) > 18:
        raise errors.BadAnswer("a quantity is not 0x-hex", value=text)
    try:
        return int(text, 16)
    except ValueError:
        raise errors.BadAnswer("a quantity is not 0x-hex", value=text) from None


def revert_reason(data: bytes) -> str:
    """What a reverted call returned, for people: the contract's words, its panic code, or its error's selector. Never raises."""
    selector, rest = data[:4], data[4:]
    try:
        if selector == _ERROR:
            return errors.clip(abi.text(abi.tail(rest, 0, abi.room(rest))), _WORDS)
        if selector == _PANIC and len(rest) >= 32:
            return f"panic 0x{int.from_bytes(rest[:32], 'big'):02x}"
    except abi.Malformed:
        pass
    return f"error {hashing.hex0x(data[:_WORDS])}" if data else ""
