"""A keystore's password: from a file or a descriptor, never both, never in an error, never where everybody can change it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from domain import errors
from signers import base, files, keystore, registry
from tests.signers.test_signers import ADDRESS, SECRET

CANARY = "canary-correct-horse"


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A keystore that is cheap to open, with its password beside it."""
    (tmp_path / "password").write_text(f"{CANARY}\n")
    (tmp_path / "password").chmod(0o600)
    library = keystore._library()  # pyright: ignore[reportPrivateUsage]
    document = library.create_keyfile_json(SECRET, CANARY.encode(), kdf="pbkdf2", iterations=1)
    (tmp_path / "key.json").write_text(json.dumps(document))
    (tmp_path / "key.json").chmod(0o600)
    return tmp_path / "key.json"


def pipe(text: str) -> int:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        stream.write(text)
    return reading


def build(path: Path, **more: object) -> base.Signer:
    return registry.build({"kind": "keystore", "path": str(path), **more}, chain_id=1)


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_password_comes_from_a_descriptor(made: Path, end: str) -> None:
    assert build(made, password_fd=pipe(CANARY + end)).address == ADDRESS


def test_a_descriptor_is_closed_after_it_was_read(made: Path) -> None:
    fd = pipe(CANARY)
    build(made, password_fd=fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_a_wrong_password_from_a_descriptor_is_not_quoted(made: Path) -> None:
    with pytest.raises(errors.BadConfig, match="cannot be opened") as caught:
        build(made, password_fd=pipe(CANARY + "x"))
    assert CANARY not in str(caught.value)


def test_an_empty_descriptor_says_that_it_is_read_once(made: Path) -> None:
    with pytest.raises(errors.BadConfig, match="read once"):
        build(made, password_fd=pipe(""))


def test_a_descriptor_that_is_not_open_is_named(made: Path) -> None:
    fd = pipe("")
    os.close(fd)
    with pytest.raises(errors.BadConfig, match="password_fd cannot be read"):
        build(made, password_fd=fd)


@pytest.mark.parametrize("fd", [-1, 0, 1, 2])
def test_a_standard_stream_is_no_password(made: Path, fd: int) -> None:
    with pytest.raises(errors.BadConfig, match="standard stream"):
        build(made, password_fd=fd)


def test_more_than_a_password_is_refused(made: Path, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(b"x" * (files.MAX_BYTES + 1))
    with pytest.raises(errors.BadConfig, match="larger than"):
        build(made, password_fd=os.open(large, os.O_RDONLY))


@pytest.mark.parametrize(
    "more",
    [{}, {"password_file": "password", "password_fd": 3}, {"password_fd": "three"}, {"password_fd": True}],
    ids=["neither", "both", "no number", "a truth"],
)
def test_a_password_comes_from_exactly_one_place(made: Path, more: dict[str, object]) -> None:
    with pytest.raises(errors.BadConfig, match="password"):
        build(made, **more)


@pytest.mark.parametrize("name", ["password", "key.json"])
def test_a_secret_that_everybody_can_change_is_refused(made: Path, name: str) -> None:
    (made.parent / name).chmod(0o602)
    with pytest.raises(errors.BadConfig, match="changed by every user"):
        build(made, password_file=str(made.parent / "password"))


def test_a_password_that_everybody_can_read_is_said_aloud(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (made.parent / "password").chmod(0o644)
    assert build(made, password_file=str(made.parent / "password")).address == ADDRESS
    said = "".join(capsys.readouterr())
    assert "signer.exposed" in said
    assert CANARY not in said


def test_a_password_of_ones_own_is_not_worth_a_word(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build(made, password_file=str(made.parent / "password"))
    assert "signer.exposed" not in "".join(capsys.readouterr())
