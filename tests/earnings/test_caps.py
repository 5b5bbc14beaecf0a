"""Plausibility caps and the person who releases what they hold."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from config import settings
from domain import errors, hashing
from earnings import caps
from tests.earnings import factory, hub, test_crashes

FRAMES = factory.frames(3)
HEADERS = [made.header for made in FRAMES]


def reasons(growth: str | None = None, bps: int | None = None, *, at: int) -> list[str]:
    built = caps.build(growth, max_growth_bps=bps)
    previous = None if at == 0 else HEADERS[at - 1]
    return [reason for cap in built if (reason := cap(previous, HEADERS[at])) is not None]


def test_without_a_setting_there_is_no_cap() -> None:
    assert caps.build(None, max_growth_bps=None) == ()


def test_growth_at_the_cap_passes_and_one_more_is_held() -> None:
    grown = HEADERS[1].total_reward - HEADERS[0].total_reward
    assert reasons(str(grown), at=1) == []
    assert reasons(str(grown - 1), at=1) == [f"the total reward grows by {grown}, more than {grown - 1}"]
    assert reasons(str(HEADERS[0].total_reward - 1), at=0) != [], "the first frame grows from nothing"


def test_a_ratio_is_exact_and_says_nothing_of_growth_from_zero() -> None:
    before, after = HEADERS[0].total_reward, HEADERS[1].total_reward
    least = -(-(after - before) * 10_000 // before)
    assert reasons(bps=least, at=1) == []
    assert len(reasons(bps=least - 1, at=1)) == 1
    assert reasons(bps=0, at=0) == []


@pytest.mark.parametrize("wrong", ["max_reward_growth = 5", 'max_reward_growth = "1.5"', "max_growth_bps = -1"])
def test_a_cap_that_is_no_exact_amount_is_refused(tmp_path: Path, wrong: str) -> None:
    test_crashes.write(tmp_path)
    with (tmp_path / "hub.toml").open("a") as file:
        file.write(f"[caps]\n{wrong}\n")
    with pytest.raises(errors.BadConfig, match="caps"):
        settings.load_hub(tmp_path / "hub.toml", {})


async def release(folder: Path, digest: str, *, reason: str = "the genesis stake came in") -> tuple[int, str]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli.main", "hub", "release", digest,
        "--config", str(folder / "hub.toml"), "--by", "a person", "--reason", reason,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=test_crashes.ROOT, env={**os.environ},
    )  # fmt: skip
    async with asyncio.timeout(30):
        out, _ = await child.communicate()
    return child.returncode or 0, out.decode()


async def test_a_frame_over_the_cap_waits_for_a_person_and_then_seals(tmp_path: Path) -> None:
    test_crashes.write(tmp_path)
    with (tmp_path / "hub.toml").open("a") as file:
        file.write('[caps]\nmax_reward_growth = "100"\n')
    digest = hashing.hex0x(FRAMES[0].digest)
    async with test_crashes.process(tmp_path) as (h, _):
        for agent in factory.AGENTS[:3]:
            assert (await h.attest(agent, FRAMES[0]))[0] == 200
        await h.deliver(FRAMES[0], factory.AGENTS[0])

        async def held() -> bool | None:
            return True if (await h.frame(0)).get("state") == "held" else None

        await hub.until(held)
        code, said = await release(tmp_path, digest)
        assert code == 2 and "another process writes" in said, "only while the hub is stopped"
    assert (await release(tmp_path, "0x" + "11" * 32))[0] == 1
    code, said = await release(tmp_path, digest, reason=" ")
    assert code == 2 and "--reason" in said
    assert await release(tmp_path, digest) == (0, f"released {digest}\n")
    with closing(sqlite3.connect(tmp_path / "hub.db")) as c:
        kept = c.execute("SELECT released_by, released_why FROM hub_hold").fetchall()
    assert kept == [("a person", "the genesis stake came in")]
    assert (await release(tmp_path, digest))[0] == 1
    async with test_crashes.process(tmp_path) as (h, _):
        await h.sealed(FRAMES[0])


async def test_a_shipped_hub_signs_with_two_receipt_keys_in_their_turn(tmp_path: Path) -> None:
    test_crashes.write(tmp_path)
    document = tmp_path / "document.toml"
    document.write_text(
        f'{document.read_text()}[[receipt_keys]]\naddress = "{factory.address(factory.NEXT_HUB)}"\nfirst_receipt = 2\n'
    )
    (tmp_path / "next").write_text(hashing.hex0x(hashing.keccak256(b"test key 101")))
    file = tmp_path / "hub.toml"
    both = '[[receipts]]\nkind = "dev"\nkey_file = "key"\n[[receipts]]\nkind = "dev"\nkey_file = "next"\n'
    file.write_text(file.read_text().replace('[receipts]\nkind = "dev"\nkey_file = "key"\n', both))
    async with test_crashes.process(tmp_path) as (h, _):
        for made in FRAMES[:2]:
            assert (await h.attest(factory.AGENTS[0], made))[0] == 200
        shown = (await h.get("/status"))[1]["receiptKeys"]
    assert set(shown) == {factory.address(factory.HUB), factory.address(factory.NEXT_HUB)}
