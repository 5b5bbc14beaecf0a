"""Receipts: the same item gets the same bytes for ever, and each one names the one before it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent.reporting import receipts as judge
from domain import deployment, errors, hashing, wire
from tests.earnings import factory, hub

FRAMES = factory.frames(3)
ALICE, BOB = factory.AGENTS[:2]


async def raw(h: hub.Hub, of: object, made: factory.Frame) -> bytes:
    data = wire.encode(factory.attestation(of, made))  # pyright: ignore[reportArgumentType]
    async with h.session.post(h.url + "/v1/attestations", data=data) as response:
        assert response.status == 200
        return wire.encode(wire.decode(await response.read(), wire.Accepted, what="answer").receipt)


def checked(data: bytes, document: deployment.Document | None = None) -> judge.Kept:
    """As the agent checks it."""
    signed = wire.decode(data, wire.SignedReceipt, what="receipt")
    attester = hashing.unhex(signed.receipt.attester, size=20)
    return judge.verify(signed, document=document or factory.document(), chain_id=factory.CHAIN, attester=attester)


GOLDEN = (
    '{"chainId":"31337","deployment":"0x54471ba05de92947cde41007cf33eceda9855e71d97d3aeb16485bca7968f49d","receipt":'
    '{"digest":"0x8e9b9b87c2b19cd0e0054261399ef93be50b02916592f31bc1930a34b1170163",'
    '"attester":"0x2c0aba5df884cce250de15e643813e04219ea2ba","receiptNumber":"1",'
    '"previousReceipt":"0x0000000000000000000000000000000000000000000000000000000000000000"},'
    '"signature":"0x01307941de81018290bc6e8fdd782b01ee7334ef408a9ee19ab0b953fa4e7414447170d5e91f73b09d348af1bfadad31b50320fd684ecc60'
    '7daeb77d919f09141c"}'
)


async def test_the_first_receipt_is_these_bytes(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        assert (await raw(h, ALICE, FRAMES[0])).decode() == GOLDEN


def test_another_library_recovers_the_same_signer_from_the_golden_receipt() -> None:
    from eth_account import Account
    from eth_account.messages import encode_typed_data

    signed = wire.decode(GOLDEN, wire.SignedReceipt, what="receipt")
    typed = encode_typed_data(
        domain_data={
            "name": "stakeside hub", "version": "1", "chainId": factory.CHAIN,
            "verifyingContract": "0x" + "00" * 20, "salt": bytes.fromhex(signed.deployment[2:]),
        },
        message_types={
            "Receipt": [
                {"name": "digest", "type": "bytes32"}, {"name": "attester", "type": "address"},
                {"name": "receiptNumber", "type": "uint64"}, {"name": "previousReceipt", "type": "bytes32"},
            ]
        },
        message_data={
            "digest": bytes.fromhex(signed.receipt.digest[2:]), "attester": signed.receipt.attester,
            "receiptNumber": 1, "previousReceipt": bytes(32),
        },
    )  # fmt: skip
    assert Account.recover_message(typed, signature=signed.signature).lower() == factory.address(factory.HUB)


@pytest.mark.usefixtures("database")
async def test_the_same_attestation_gets_the_identical_receipt(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        first = await raw(h, ALICE, FRAMES[0])
        await raw(h, ALICE, FRAMES[1])
        assert await raw(h, ALICE, FRAMES[0]) == first
    async with hub.running(tmp_path) as h:
        assert await raw(h, ALICE, FRAMES[0]) == first


async def test_another_context_of_the_same_vote_gets_the_same_receipt(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        answers = [(await h.attest(ALICE, FRAMES[0], context=text))[1]["receipt"] for text in ("{}", '{"later":1}')]
    assert answers[0] == answers[1]


@pytest.mark.usefixtures("database")
async def test_receipts_count_by_one_and_chain_per_attester_through_a_restart(tmp_path: Path) -> None:
    kept: list[judge.Kept] = []
    for number, made in enumerate(FRAMES, start=1):
        async with hub.running(tmp_path) as h:
            kept.append(checked(await raw(h, ALICE, made)))
            assert checked(await raw(h, BOB, made)).number == number
    assert [item.number for item in kept] == [1, 2, 3]
    assert [item.previous for item in kept] == [hashing.ZERO32, kept[0].id, kept[1].id]
    assert [item.digest for item in kept] == [made.digest for made in FRAMES]


@pytest.mark.usefixtures("database")
async def test_concurrent_attestations_leave_an_unbroken_chain(tmp_path: Path) -> None:
    made = factory.frames(20)
    async with hub.running(tmp_path) as h:
        await asyncio.gather(*(raw(h, ALICE, frame) for frame in made for _ in range(2)))
        page = (await h.get(f"/v1/receipts/{factory.address(ALICE)}", token=None))[1]["receipts"]
    kept = [checked(wire.encode(item)) for item in page]
    assert [item.number for item in kept] == list(range(1, 21))
    assert [item.previous for item in kept] == [hashing.ZERO32, *(item.id for item in kept[:-1])]


async def test_receipts_are_listed_from_a_number_on(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        sent = [await raw(h, ALICE, made) for made in FRAMES]
        page = (await h.get(f"/v1/receipts/{factory.address(ALICE)}?from=2", token=None))[1]["receipts"]
        assert [wire.encode(wire.decode(wire.encode(r), wire.SignedReceipt, what="r")) for r in page] == sent[1:]
        assert (await h.get(f"/v1/receipts/{factory.address(ALICE)}?from=x", token=None))[0] == 400
        assert (await h.get("/v1/receipts/0x12", token=None))[0] == 400


async def test_a_hub_that_lost_its_book_numbers_from_one_again(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        for made in FRAMES:
            await raw(h, ALICE, made)
    for file in tmp_path.glob("hub.db*"):
        file.unlink()
    async with hub.running(tmp_path) as h:
        kept = checked(await raw(h, ALICE, FRAMES[2]))
    assert (kept.number, kept.previous) == (1, hashing.ZERO32)


async def test_a_hub_whose_key_the_document_does_not_list_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(errors.BadConfig, match="does not list this hub's receipt key"):
        async with hub.running(tmp_path, keys_=(factory.STRANGER,)):
            pass


async def test_the_key_changes_at_the_receipt_number_the_document_says(tmp_path: Path) -> None:
    keys = (
        deployment.ReceiptKey(factory.address(factory.HUB)),
        deployment.ReceiptKey(factory.address(factory.NEXT_HUB), 2),
    )
    document = factory.document(receipt_keys=keys)
    async with hub.running(tmp_path, document, keys_=(factory.HUB, factory.NEXT_HUB)) as h:
        kept = [checked(await raw(h, ALICE, made), document) for made in FRAMES]
    assert [item.number for item in kept] == [1, 2, 3]


async def test_without_the_key_in_force_nothing_is_stored_and_the_agent_is_told_to_wait(tmp_path: Path) -> None:
    keys = (
        deployment.ReceiptKey(factory.address(factory.HUB)),
        deployment.ReceiptKey(factory.address(factory.NEXT_HUB), 2),
    )
    document = factory.document(receipt_keys=keys)
    async with hub.running(tmp_path, document) as h:
        await raw(h, ALICE, FRAMES[0])
        status, problem = await h.attest(ALICE, FRAMES[1])
        assert status == 503
        assert "key for receipt 2 is not this hub's" in problem["detail"]
        assert await h.frame(1) == {}
