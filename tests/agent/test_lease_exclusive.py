"""`exclusive = true` on one machine: a lock of the user's own that no link, file or folder of somebody else can stand in for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent import staking
from agent.services import lease
from agent.services.leasing import base, exclusive
from domain import errors
from kit import runtime
from tests.config import test_staking as settings_of
from tests.earnings import factory

ACCOUNT = bytes(19) + b"\x01"
ROOT = Path(__file__).resolve().parents[2]


def leases(folder: Path, *, account: bytes = ACCOUNT, chain_id: int = 1, last: int = 0) -> exclusive.ExclusiveLeases:
    return exclusive.ExclusiveLeases(
        chain_id=chain_id, account=account, clock=runtime.SystemClock(), last_token=last, folder=folder
    )


async def test_a_second_agent_with_another_book_and_the_same_key_is_refused(tmp_path: Path) -> None:
    first, second = leases(tmp_path / "locks"), leases(tmp_path / "locks")
    held = await first.acquire()
    with pytest.raises(base.Taken, match=r"another agent on this machine submits for 0x0{39}1"):
        await second.acquire()
    await first.release(held)
    assert (await second.acquire()).token == 1


async def test_other_accounts_and_chains_do_not_wait(tmp_path: Path) -> None:
    one = leases(tmp_path / "locks")
    await one.acquire()
    assert await leases(tmp_path / "locks", chain_id=2).acquire()
    assert await leases(tmp_path / "locks", account=bytes(20)).acquire()


async def test_the_token_is_the_one_the_book_knows_so_that_an_authority_can_count_on_from_it(tmp_path: Path) -> None:
    kept = leases(tmp_path / "locks", last=57)
    held = await kept.acquire()
    assert (held.token, (await kept.renew(held)).token) == (57, 57)


async def test_a_killed_process_leaves_no_lock_behind(tmp_path: Path) -> None:
    script = (
        "import asyncio, os, sys; from pathlib import Path; from tests.agent import test_lease_exclusive as t\n"
        "async def main():\n"
        "    kept = t.leases(Path(sys.argv[1])); await kept.acquire(); print('held', flush=True); sys.stdin.read()\n"
        "asyncio.run(main())"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "locks")], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with child:
        assert child.stdout is not None and child.stdout.readline() == b"held\n"
        with pytest.raises(base.Taken):
            await leases(tmp_path / "locks").acquire()
        child.kill()
        child.wait(timeout=30)
    assert (await leases(tmp_path / "locks").acquire()).token == 1


async def test_a_link_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "locks").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(errors.BadConfig, match="folder of lock files cannot be used"):
        await leases(tmp_path / "locks").acquire()


async def test_a_link_in_place_of_the_lock_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "locks"
    folder.mkdir(mode=0o700)
    (folder / f"1-{ACCOUNT.hex()}.lock").symlink_to(tmp_path / "somebody's file")
    with pytest.raises(errors.Transient, match="cannot be opened"):
        await leases(folder).acquire()
    assert not (tmp_path / "somebody's file").exists()


async def test_a_folder_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks").chmod(0o755)
    with pytest.raises(errors.BadConfig, match="open to others"):
        await leases(tmp_path / "locks").acquire()


def test_the_folder_is_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert exclusive.runtime_folder() == tmp_path / "stakeside"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "gone"))
    assert exclusive.runtime_folder().name == f"stakeside-{os.geteuid()}"


@pytest.mark.parametrize("ttl_s", [30, 3600])
async def test_the_lock_counts_as_held_from_one_look_to_the_next_however_far_apart_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ttl_s: int
) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    wanted = settings_of.WHOLE.replace("exclusive = true", f"exclusive = true\nlease_ttl_s = {ttl_s}")
    clock = runtime.ManualClock()
    authority = staking.authority_of(
        settings_of.load(tmp_path, wanted), factory.document(), factory.key(7),
        chain_id=1, upstream=None, random=bytes(24), clock=clock, last_token=0,
    )  # fmt: skip
    service = lease.LeaseService(authority, ttl_s=ttl_s, clock=clock, downstream=[])
    for _ in range(3):
        await clock.advance(await service.step())
        assert service.guard.token() == 1
    await service.close()


async def test_a_short_lease_time_makes_the_lock_no_shorter(tmp_path: Path) -> None:
    clock = runtime.ManualClock()
    for ttl_s, until in ((5, 48), (60, 48), (100, 80)):
        one = exclusive.ExclusiveLeases(
            chain_id=1, account=ACCOUNT, clock=clock, ttl_s=ttl_s, folder=tmp_path / "locks"
        )
        held = await one.acquire()
        assert held.until_monotonic - clock.monotonic() == pytest.approx(until)
        await one.release(held)
