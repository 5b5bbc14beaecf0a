"""Signing a transaction with any signer. In: a signer and the frozen fields. Out: the signed transaction, every field compared, or an error.

Whatever comes back is decoded again, compared field by field with what was asked, and its sender recovered, before it can be stored or sent. A
signer has `timeout_s`; what it says later is heard by nobody.
"""

from __future__ import annotations

import asyncio

from domain import errors, hashing, transaction
from signers import base, checks

_BROKEN = (ArithmeticError, AssertionError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError)
"""What a signer's own code, or an answer that is none, may raise besides our errors: it concerns one signature, and nobody else's."""
TIMEOUT_S = 30.0
"""A remote signer that needs a person's click is slower, and of another shape."""


async def sign(
    signer: base.AnySigner, unsigned: transaction.Unsigned, *, timeout_s: float = TIMEOUT_S
) -> transaction.Signed:
    """Raises Transient when the signer is away or late, BadAnswer naming the field that is not as asked. Signing again is always safe:
    the fields are frozen, and nothing was sent."""
    try:
        async with asyncio.timeout(timeout_s):
            raw = await _raw(signer, unsigned)
        return checks.same_transaction(unsigned, raw, signer.address)
    except TimeoutError:
        raise errors.Transient(
            f"the signer of {hashing.hex0x(signer.address)} did not answer within {timeout_s:g} s",
            cure="is it up, and does it wait for somebody?",
        ) from None
    except errors.BadConfig as error:
        raise errors.Transient(error.what, value=error.value, cure=error.cure) from None
    except _BROKEN as error:
        # Its text may hold anything, a key too.
        raise errors.Transient(
            f"the signer of {hashing.hex0x(signer.address)} failed with {type(error).__name__}",
            cure="see its own log: this is no answer that a signer gives",
        ) from None


async def _raw(signer: base.AnySigner, unsigned: transaction.Unsigned) -> bytes:
    if isinstance(signer, base.TransactionSigner):
        return await signer.sign_transaction(unsigned)
    digest = unsigned.digest()
    signature = checks.same_signer(digest, await signer.sign_digest(digest), signer.address)
    return transaction.join(unsigned, signature)
