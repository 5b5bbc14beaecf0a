"""Signers of this process: what they sign recovers to them, and what is wrong with a key file is said without quoting it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from domain import errors, hashing, signatures
from signers import checks, keystore, registry
from tests import said

SECRET = bytes.fromhex("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")  # Anvil's public account 0
ADDRESS = bytes.fromhex("f39fd6e51aad88f6f4ce6ab8827279cfffb92266")


def dev_table(tmp_path: Path, text: str = hashing.hex0x(SECRET)) -> dict[str, object]:
    path = tmp_path / "key"
    path.write_text(text)
    return {"kind": "dev", "key_file": str(path)}


async def test_a_thousand_signatures_recover_to_the_signer_with_low_s(tmp_path: Path) -> None:
    signer = registry.build(dev_table(tmp_path), chain_id=31337)
    assert signer.address == ADDRESS
    for n in range(1000):
        digest = hashing.keccak256(n.to_bytes(4, "big"))
        assert signatures.recover(digest, await signer.sign_digest(digest)) == ADDRESS


def test_the_dev_signer_refuses_off_a_devnet(tmp_path: Path) -> None:
    with pytest.raises(errors.BadConfig, match="devnet only"):
        registry.build(dev_table(tmp_path), chain_id=1)


@pytest.mark.parametrize("text", ["", "0x12", "ff" * 32, "0x" + "zz" * 32, "0x" + "00" * 32])
def test_a_bad_key_file_is_named_and_never_quoted(tmp_path: Path, text: str) -> None:
    with pytest.raises(errors.BadConfig) as caught:
        registry.build(dev_table(tmp_path, text), chain_id=31337)
    assert not text or text not in str(caught.value)


def test_a_key_file_that_everybody_can_read_is_said_aloud_and_one_of_ones_own_is_not(tmp_path: Path) -> None:
    table = dev_table(tmp_path)
    for mode, said_aloud in ((0o644, True), (0o640, False), (0o600, False)):
        (tmp_path / "key").chmod(mode)
        with said.heard() as out:
            assert registry.build(table, chain_id=31337).address == ADDRESS
        assert ("signer.exposed" in out.getvalue()) is said_aloud
        assert SECRET.hex() not in out.getvalue()


def test_a_key_file_that_everybody_can_change_is_refused(tmp_path: Path) -> None:
    table = dev_table(tmp_path)
    (tmp_path / "key").chmod(0o602)
    with pytest.raises(errors.BadConfig, match=r"changed by every user.*chmod 600"):
        registry.build(table, chain_id=31337)


@pytest.mark.parametrize("kind", ["key", "password", "keystore"])
def test_a_file_that_is_missing_or_is_none_is_named_with_what_to_do(tmp_path: Path, kind: str) -> None:
    (tmp_path / "password").write_text("x")
    tables = {
        "key": {"kind": "dev", "key_file": str(tmp_path / "it")},
        "password": {"kind": "keystore", "path": str(tmp_path / "password"), "password_file": str(tmp_path / "it")},
        "keystore": {"kind": "keystore", "path": str(tmp_path / "it"), "password_file": str(tmp_path / "password")},
    }
    with pytest.raises(errors.BadConfig, match=rf"{kind} file cannot be read: No such.*it'.*correct the path"):
        registry.build(tables[kind], chain_id=31337)
    (tmp_path / "it").mkdir()
    with pytest.raises(errors.BadConfig, match=rf"{kind} file cannot be read: Is a directory.*name a file"):
        registry.build(tables[kind], chain_id=31337)


async def test_a_keystore_signs_with_the_key_that_was_put_in(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("correct horse\n")
    path = tmp_path / "keystore.json"
    assert keystore.create(path, password_file=password, secret=SECRET) == ADDRESS
    assert path.stat().st_mode & 0o777 == 0o600
    signer = registry.build({"kind": "keystore", "path": str(path), "password_file": str(password)}, chain_id=1)
    digest = hashing.keccak256(b"statement")
    assert signatures.recover(digest, await signer.sign_digest(digest)) == ADDRESS
    with pytest.raises(FileExistsError):
        keystore.create(path, password_file=password, secret=SECRET)


def test_opening_a_keystore_leaves_the_recursion_limit_alone() -> None:
    code = (
        "import sys\nfrom signers import keystore\nbefore = sys.getrecursionlimit()\n"
        "keystore._library()\nsys.exit(before != sys.getrecursionlimit())"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_wrong_password_is_refused_without_naming_it(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("correct horse")
    path = tmp_path / "keystore.json"
    keystore.create(path, password_file=password, secret=SECRET)
    password.write_text("canary-password")
    with pytest.raises(errors.BadConfig) as caught:
        registry.build({"kind": "keystore", "path": str(path), "password_file": str(password)}, chain_id=1)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"version": 3}', "\0"])
def test_a_damaged_keystore_is_refused_with_advice(tmp_path: Path, damage: str) -> None:
    password, path = tmp_path / "password", tmp_path / "keystore.json"
    password.write_text("x")
    path.write_text(damage)
    with pytest.raises(errors.BadConfig, match="keystore cannot be opened"):
        registry.build({"kind": "keystore", "path": str(path), "password_file": str(password)}, chain_id=1)


def test_an_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(errors.BadConfig, match="dev, keystore"):
        registry.build({"kind": "hsm"}, chain_id=1)


async def test_a_high_s_a_wrong_v_and_a_foreign_key_are_refused(tmp_path: Path) -> None:
    signer = registry.build(dev_table(tmp_path), chain_id=31337)
    digest = hashing.keccak256(b"x")
    good = await signer.sign_digest(digest)
    high = (signatures.CURVE_ORDER - int.from_bytes(good[32:64], "big")).to_bytes(32, "big")
    for bad in (good[:32] + high + bytes([55 - good[64]]), good[:64] + b"\0", good[:64], bytes(65), os.urandom(31)):
        with pytest.raises(errors.BadAnswer):
            checks.same_signer(digest, bad, ADDRESS)
    with pytest.raises(errors.BadAnswer, match="where"):
        checks.same_signer(digest, good, bytes(20))
