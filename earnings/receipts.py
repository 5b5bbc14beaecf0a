"""Receipts: the hub's signed word that it stored an item. In: attester and digest. Out: the receipt, chained per attester.

The same item gets the identical receipt for ever; a new one takes the next number and names the one before it. It is signed inside the
transaction that stores the item, with a deterministic signature, and handed out only after the commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import sqlalchemy as sa

from domain import errors, hashing, signatures, statement, wire
from earnings import tables
from earnings.book import Connection
from earnings.seats import Seats
from signers import base

SIGN_TIMEOUT_S = 10
PAGE = 256


async def highest(c: Connection) -> int:
    """The highest receipt number of any attester, 0 when there is none."""
    return await c.scalar(sa.select(sa.func.max(tables.receipt.c.number))) or 0


class Clerk:
    """Signs receipts. Several keys only while the document moves from one to the next."""

    def __init__(self, keys: Sequence[base.Signer], *, chain_id: int, deployment: bytes) -> None:
        self._keys = {key.address: key for key in keys}
        self._chain_id = chain_id
        self._deployment = deployment
        self._domain = statement.hub_domain(chain_id=chain_id, deployment=deployment)

    @property
    def addresses(self) -> tuple[bytes, ...]:
        return tuple(sorted(self._keys))

    async def find(self, c: Connection, *, attester: bytes, digest: bytes) -> wire.SignedReceipt | None:
        table = tables.receipt
        row = (
            await c.execute(sa.select(table).where(table.c.attester == attester, table.c.digest == digest))
        ).one_or_none()
        return None if row is None else self._signed(row)

    async def issue(
        self, c: Connection, seats: Seats, *, attester: bytes, digest: bytes, at_s: int
    ) -> wire.SignedReceipt:
        """The item's receipt, made now if there is none. Raises Transient when no key may or can sign it."""
        known = await self.find(c, attester=attester, digest=digest)
        if known is not None:
            return known
        table = tables.receipt
        query = (
            sa.select(table.c.number, table.c.id).where(table.c.attester == attester).order_by(table.c.number.desc())
        )
        last = (await c.execute(query.limit(1))).one_or_none()
        number, previous = (1, hashing.ZERO32) if last is None else (last.number + 1, last.id)
        receipt = statement.Receipt(digest, attester, number, previous)
        receipt_id = statement.receipt_digest(receipt, self._domain)
        signature = await self._sign(receipt_id, seats.receipt_key(number), number=number)
        await c.execute(
            table.insert().values(
                attester=attester,
                number=number,
                digest=digest,
                previous=previous,
                id=receipt_id,
                signature=signature,
                at_s=at_s,
            )
        )
        return self._wire(receipt, signature)

    async def vouch(self, digest: bytes, seats: Seats, *, number: int) -> bytes:
        """A signature over something else than a receipt, by the key in force for receipt `number`, or by another listed one of ours."""
        preferred = seats.receipt_key(number)
        address = preferred if preferred in self._keys else next(iter(self.addresses))
        return await self._sign(digest, address, number=number)

    async def page(self, c: Connection, *, attester: bytes, first: int) -> tuple[wire.SignedReceipt, ...]:
        table = tables.receipt
        query = sa.select(table).where(table.c.attester == attester, table.c.number >= first)
        return tuple(self._signed(row) for row in await c.execute(query.order_by(table.c.number).limit(PAGE)))

    async def _sign(self, receipt_id: bytes, address: bytes | None, *, number: int) -> bytes:
        key = None if address is None else self._keys.get(address)
        if key is None or address is None:
            raise errors.Transient(
                f"the document's key for receipt {number} is not this hub's",
                value=None if address is None else hashing.hex0x(address),
                cure="configure the key that the document lists from this receipt number on",
                retry_after_s=60,
            )
        try:
            async with asyncio.timeout(SIGN_TIMEOUT_S):
                signature = await key.sign_digest(receipt_id)
            signer = signatures.recover(receipt_id, signature)
        except TimeoutError:
            raise errors.Transient("the receipt signer does not answer", retry_after_s=10) from None
        except errors.BadAnswer as error:  # our own signer's fault, not the attester's
            raise errors.Transient(f"the receipt signer fails: {error.what}", retry_after_s=10) from None
        if signer != address:
            raise errors.Transient(
                "the receipt signer answered with another key", value=hashing.hex0x(signer), retry_after_s=10
            )
        return signature

    def _signed(self, row: sa.Row[tuple[object, ...]]) -> wire.SignedReceipt:
        receipt = statement.Receipt(row.digest, row.attester, row.number, row.previous)
        if statement.receipt_digest(receipt, self._domain) != row.id:
            raise errors.StoreError(
                f"receipt {row.number} in the hub's book is not what was signed",
                value=hashing.hex0x(row.attester),
                cure="restore the book from a backup",
            )
        return self._wire(receipt, row.signature)

    def _wire(self, receipt: statement.Receipt, signature: bytes) -> wire.SignedReceipt:
        return wire.SignedReceipt(
            chain_id=str(self._chain_id),
            deployment=hashing.hex0x(self._deployment),
            receipt=wire.receipt_to_wire(receipt),
            signature=hashing.hex0x(signature),
        )
