"""What every signature must survive before it is stored or sent. In: what was asked, the answer, the address. Out: nothing, or BadAnswer."""

from __future__ import annotations

from domain import errors, hashing, signatures, transaction

OVERHEAD = 512
"""More bytes than the fields around the calldata can take: whatever is longer is not read."""
_FIELDS = (
    ("chain_id", "chainId"),
    ("nonce", "nonce"),
    ("tip", "maxPriorityFeePerGas"),
    ("max_fee", "maxFeePerGas"),
    ("gas", "gas"),
    ("to", "to"),
    ("value", "value"),
    ("data", "data"),
)


def same_signer(digest: bytes, signature: bytes, address: bytes) -> bytes:
    """`signature` again, if it recovers to `address`."""
    found = signatures.recover(digest, signature)
    if found != address:
        raise _other_key(found, address)
    return signature


def same_transaction(asked: transaction.Unsigned, raw: bytes, address: bytes) -> transaction.Signed:
    """`raw` read back, if every field is as asked and `address` signed it. Raises BadAnswer naming the first field that is not."""
    if len(raw) > len(asked.data) + OVERHEAD:
        raise errors.BadAnswer("the signed transaction is longer than what was asked for can be", value=len(raw))
    found = transaction.parse(raw)
    for name, shown in _FIELDS:
        have, want = getattr(found.unsigned, name), getattr(asked, name)
        if have != want:
            raise errors.BadAnswer(
                f"the signer changed {shown}: {_shown(want)} was asked",
                value=_shown(have),
                cure="do not use this signer until you know why",
            )
    if found.sender != address:
        raise _other_key(found.sender, address)
    return found


def distinct(attester: bytes | None, delegator: bytes | None) -> None:
    """One key never does both: whoever could make an attester sign transactions would hold the stake. Raises BadConfig."""
    if attester is not None and attester == delegator:
        raise errors.BadConfig(
            "[attester] and [delegator] have the same key",
            value=hashing.hex0x(attester),
            cure="use two keys: the one that signs statements must not move stake",
        )


def _other_key(found: bytes, address: bytes) -> errors.BadAnswer:
    return errors.BadAnswer(
        f"the signer answered with the key of {hashing.hex0x(found)} where {hashing.hex0x(address)} was asked",
        cure="check which key the signer's configuration names",
    )


def _shown(value: int | bytes) -> str:
    return hashing.hex0x(value) if isinstance(value, bytes) else str(value)
