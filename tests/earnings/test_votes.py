"""What the hub takes, and what it refuses, naming why."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from domain import hashing, statement, wire
from earnings import book, limits, tables
from tests.earnings import factory, hub

FRAME, SECOND = factory.frames(2)
OTHER = factory.frames(1, salt=b"other")[0]
ALICE = factory.AGENTS[0]


def sent(**changes: object) -> wire.Attestation:
    return msgspec.structs.replace(factory.attestation(ALICE, FRAME), **changes)


def header(**changes: object) -> factory.Frame:
    return FRAME.but(**changes)


async def rows(folder: Path, table: sa.Table) -> int:
    """Of a stopped hub's book."""
    the_book = await book.open_book(f"sqlite:///{folder / 'hub.db'}", deployment=factory.document().digest())
    try:
        async with the_book.read() as c:
            return await c.scalar(sa.select(sa.func.count()).select_from(table)) or 0
    finally:
        await the_book.close()


MALFORMED = {
    "not JSON": (b"{", ""),
    "no header": (b'{"configDigest":"0x"}', ""),
    "an unknown field": (wire.encode(msgspec.to_builtins(sent()) | {"more": 1}), ""),
    "a number instead of a text": (
        wire.encode(msgspec.to_builtins(sent()) | {"header": msgspec.to_builtins(sent().header) | {"sequence": 0}}),
        "header.sequence",
    ),
    "an integer with an underscore": (
        sent(header=msgspec.structs.replace(sent().header, to_time="1_7")),
        "header.toTime",
    ),
    "an integer with leading zeros": (
        sent(header=msgspec.structs.replace(sent().header, sequence="00")),
        "header.sequence",
    ),
    "a word of 31 bytes": (sent(header=msgspec.structs.replace(sent().header, carry="0x" + "00" * 31)), "header.carry"),
    "a sequence beyond 64 bits": (
        sent(header=msgspec.structs.replace(sent().header, sequence=str(1 << 64))),
        "header.sequence",
    ),
    "another chain": (sent(chain_id="1"), "chainId"),
    "another configDigest": (sent(config_digest="0x" + "22" * 32), "configDigest"),
    "another stream": (factory.attestation(ALICE, header(stream=hashing.keccak256(b"x"))), "header.stream"),
    "another schema": (factory.attestation(ALICE, header(schema=2)), "header.schema"),
    "another ruleset": (factory.attestation(ALICE, header(ruleset=hashing.keccak256(b"x"))), "header.ruleset"),
    "a frame that starts elsewhere": (factory.attestation(ALICE, header(from_position=2)), "header.fromPosition"),
    "a frame that ends elsewhere": (factory.attestation(ALICE, header(to_position=11)), "header.toPosition"),
    "a previous digest on the first frame": (
        factory.attestation(ALICE, header(previous=FRAME.digest)),
        "header.previous",
    ),
    "no previous digest on the second": (factory.attestation(ALICE, SECOND.but(previous=bytes(32))), "header.previous"),
    "supersedes at revision 0": (factory.attestation(ALICE, header(supersedes=FRAME.digest)), "header.supersedes"),
    "no leaves under a root": (factory.attestation(ALICE, header(leaf_count=0)), "header.bodyRoot"),
    "a forged signature": (sent(signature=factory.attestation(factory.STRANGER, FRAME).signature), "signature"),
    "a high s": (sent(signature=factory.high_s(sent().signature)), "signature"),
    "a v of 0": (sent(signature=sent().signature[:-2] + "00"), "signature"),
    "a short signature": (sent(signature="0x00"), "signature"),
    "a signature over another header": (sent(signature=factory.attestation(ALICE, OTHER).signature), "signature"),
    "a context of 4,097 bytes": (factory.attestation(ALICE, FRAME, context="x" * 4097), "context"),
    "a context that was not signed": (sent(context="{}"), "contextSignature"),
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_a_malformed_attestation_is_refused_by_the_name_of_its_field(tmp_path: Path, name: str) -> None:
    value, field = MALFORMED[name]
    async with hub.running(tmp_path) as h:
        status, problem = await h.post("/v1/attestations", value)
    assert (status, problem["status"]) == (400, 400)
    assert problem["field"] == field
    assert await rows(tmp_path, tables.vote) == 0


async def test_a_stranger_is_refused(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        status, problem = await h.attest(factory.STRANGER, FRAME)
    assert (status, problem["field"]) == (401, "signer")


async def test_an_attestation_for_another_deployment_is_refused(tmp_path: Path) -> None:
    elsewhere = factory.frames(1, of=factory.document(name="elsewhere"))[0]
    async with hub.running(tmp_path) as h:
        status, problem = await h.attest(ALICE, elsewhere)
    assert (status, problem["field"]) == (400, "configDigest")


async def test_an_attestation_for_another_stream_of_the_document_does_not_pass_for_this_one(tmp_path: Path) -> None:
    two = factory.document(
        streams=(factory.stream(), factory.stream("more")), epochs=(factory.epoch(streams=("rewards", "more")),)
    )
    made = factory.frames(1, of=two)[0]
    moved = msgspec.structs.replace(
        factory.attestation(ALICE, made),
        header=wire.header_to_wire(made.but(stream=factory.stream("more").id()).header),
    )
    async with hub.running(tmp_path, two) as h:
        status, problem = await h.post("/v1/attestations", moved)
    assert (status, problem["field"]) == (400, "signature")


async def test_votes_1024_frames_ahead_are_kept_and_farther_ones_wait(tmp_path: Path) -> None:
    doc = factory.document()
    near, far = (
        factory.frame(doc, factory.stream(), sequence, (factory.leaf(1, 5),), (), FRAME) for sequence in (1024, 1025)
    )
    async with hub.running(tmp_path) as h:
        assert (await h.attest(ALICE, near))[0] == 200
        async with h.session.post(
            h.url + "/v1/attestations", data=wire.encode(factory.attestation(ALICE, far))
        ) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (429, "5")
            assert "frame 0, which is to be sealed next" in (await answer.json(content_type=None))["detail"]


async def test_an_unlisted_revision_is_a_conflict_with_advice(tmp_path: Path) -> None:
    made = FRAME.but(revision=1, supersedes=FRAME.digest)
    async with hub.running(tmp_path) as h:
        status, problem = await h.attest(ALICE, made)
    assert (status, problem["field"]) == (409, "header.revision")


@pytest.mark.usefixtures("database")
async def test_a_second_digest_without_a_replace_is_kept_as_evidence_and_its_signer_does_not_count(
    tmp_path: Path,
) -> None:
    async with hub.running(tmp_path) as h:
        assert (await h.attest(ALICE, FRAME))[0] == 200
        status, problem = await h.attest(ALICE, OTHER)
        assert (status, problem["title"], problem["has"]) == (409, "equivocation", hashing.hex0x(FRAME.digest))
        shown = (await h.get("/status"))[1]
        assert shown["evidence"][0]["signer"] == factory.address(ALICE)
        assert {shown["evidence"][0]["first"], shown["evidence"][0]["second"]} == {
            hashing.hex0x(FRAME.digest), hashing.hex0x(OTHER.digest),
        }  # fmt: skip
        assert await h.metric("stakeside_hub_equivocations_total") == 1
        for agent in factory.AGENTS[1:3]:
            assert (await h.attest(agent, FRAME))[0] == 200
        assert sum(vote["counts"] for vote in (await h.frame(0))["votes"]) == 2
        assert (await h.frame(0))["state"] == "validated"
        await h.seal(FRAME, factory.AGENTS[1:4])  # the other three still can


async def test_a_quarantined_signer_counts_for_no_other_unsealed_frame(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        await h.attest(ALICE, SECOND)
        await h.attest(ALICE, FRAME)
        await h.attest(ALICE, OTHER)
        assert not any(vote["counts"] for vote in (await h.frame(1))["votes"])


@pytest.mark.usefixtures("database")
async def test_a_replace_moves_the_vote(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        await h.attest(ALICE, OTHER)
        status, accepted = await h.replace(ALICE, OTHER, FRAME)
        assert status == 200
        expected = statement.Replace(FRAME.header.stream, 0, 0, OTHER.digest, FRAME.digest, 1)
        assert accepted["receipt"]["receipt"]["digest"] == hashing.hex0x(
            statement.replace_digest(expected, FRAME.domain)
        )
        assert (await h.attest(ALICE, FRAME))[0] == 200
        for agent in factory.AGENTS[1:3]:
            await h.attest(agent, FRAME)
        assert sum(vote["counts"] for vote in (await h.frame(0))["votes"]) == 3


@pytest.mark.usefixtures("database")
async def test_a_late_replace_explains_what_looked_like_equivocation(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        await h.attest(ALICE, OTHER)
        assert (await h.attest(ALICE, FRAME))[0] == 409
        assert (await h.replace(ALICE, OTHER, FRAME))[0] == 200
        status, accepted = await h.attest(ALICE, FRAME)
        assert (status, accepted["receipt"]["receipt"]["receiptNumber"]) == (200, "3")
        assert [item["open"] for item in (await h.get("/status"))[1]["evidence"]] == [False]


async def test_a_replace_of_a_sealed_vote_is_a_conflict_with_the_sealed_digest(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        await h.seal(FRAME)
        status, problem = await h.replace(ALICE, FRAME, OTHER)
        assert (status, problem["has"]) == (409, hashing.hex0x(FRAME.digest))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"signature": "0x" + "11" * 65}, "signature"),
        ({"chain_id": "5"}, "chainId"),
        ({"config_digest": "0x" + "11" * 32}, "configDigest"),
    ],
)
async def test_a_malformed_replacement_names_its_field(tmp_path: Path, changes: dict[str, str], field: str) -> None:
    value = msgspec.structs.replace(factory.replacement(ALICE, OTHER, FRAME), **changes)
    async with hub.running(tmp_path) as h:
        status, problem = await h.post("/v1/replacements", value)
    assert (status, problem["field"]) == (400, field)


async def test_a_digest_cannot_replace_itself(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        status, problem = await h.replace(ALICE, FRAME, FRAME)
    assert (status, problem["field"]) == (400, "replace.replacement")


@pytest.mark.parametrize(
    "count",
    [
        300,
        pytest.param(2_000, marks=pytest.mark.slow, id="two thousand"),
        pytest.param(10_000, marks=[pytest.mark.soak, pytest.mark.timeout(900)], id="ten thousand"),
    ],
)
async def test_a_flood_of_variants_of_one_signer_leaves_two_rows_and_flat_memory(tmp_path: Path, count: int) -> None:
    """Each carries a real signature."""
    async with hub.running(tmp_path) as h:
        before = 0
        for number in range(count):
            status, _ = await h.attest(ALICE, FRAME.but(evidence=hashing.keccak256(b"%d" % number)))
            assert status == (409 if number else 200)
            before = _resident_kib() if number == 200 else before
        assert _resident_kib() - before < 20 << 10
        assert (await h.get("/status"))[1]["evidence"][0]["repeats"] == count - 2
    found = {
        table.name: await rows(tmp_path, table)
        for table in (tables.vote, tables.statement, tables.evidence, tables.receipt)
    }
    assert found == {"hub_vote": 2, "hub_statement": 2, "hub_evidence": 1, "hub_receipt": 1}


def _resident_kib() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1])


async def test_an_attester_beyond_its_rate_is_told_when_to_come_back(tmp_path: Path) -> None:
    async with hub.running(tmp_path, rate=limits.Rate(per_s=1, burst=2)) as h:
        statuses = [(await h.attest(ALICE, FRAME))[0] for _ in range(3)]
        assert statuses == [200, 200, 429]
        async with h.session.post(h.url + "/v1/attestations", data=wire.encode(sent())) as answer:
            assert answer.headers["Retry-After"] == "1"
        assert (await h.attest(factory.AGENTS[1], FRAME))[0] == 200, "another attester has a bucket of its own"


async def test_forged_requests_do_not_spend_an_attesters_allowance(tmp_path: Path) -> None:
    forged = sent(signature=factory.attestation(factory.STRANGER, FRAME).signature)
    async with hub.running(tmp_path, rate=limits.Rate(per_s=1, burst=1)) as h:
        for _ in range(5):
            assert (await h.post("/v1/attestations", forged))[0] == 400
        assert (await h.attest(ALICE, FRAME))[0] == 200
