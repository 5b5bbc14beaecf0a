"""Web3 Secret Storage. In: a keystore file, and its password from a file or a descriptor. Out: a signer.

The format is eth_keyfile's business (version 3, scrypt or PBKDF2 with AES-128-CTR); it is imported only when a keystore is used,
because it costs an observe-only agent nothing then. A descriptor leaves no password on any disk: whoever starts the agent opens it
(`stakeside agent run --config agent.toml 3< <(get-password)`), and it is read once and closed.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import ModuleType

from domain import errors, hashing
from kit import imports
from signers import files, keys

FIRST_FD = 3
"""Below are the standard streams."""


def load(path: Path, *, password_file: Path | None = None, password_fd: int | None = None) -> keys.LocalKey:
    """Raises BadConfig for an unreadable file, a wrong password, or a key that is not the one the file names."""
    decode_keyfile_json = _library().decode_keyfile_json
    password = _password(password_file, password_fd)
    try:
        document = json.loads(files.read(path, what="the keystore file"))
        if not isinstance(document, dict):
            raise ValueError("not a JSON object")
        secret = decode_keyfile_json(document, password)  # pyright: ignore[reportUnknownArgumentType]
    except (ValueError, KeyError, TypeError, NotImplementedError):
        # The library's message may quote the derived key's MAC; ours names the file alone.
        raise errors.BadConfig(
            "the keystore cannot be opened",
            value=str(path),
            cure="check its password and that it is a version 3 keystore",
        ) from None
    key = keys.LocalKey(bytes(secret))
    named = str(document.get("address", "")).lower().removeprefix("0x")  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
    if named and named != key.address.hex():
        raise errors.BadConfig(
            f"the keystore holds the key of {hashing.hex0x(key.address)} and names another",
            value=named,
            cure="use an intact file",
        )
    return key


def create(path: Path, *, password_file: Path, secret: bytes) -> bytes:
    """Write a new keystore (mode 0600, never over an existing file) and return its address."""
    create_keyfile_json = _library().create_keyfile_json
    key = keys.LocalKey(secret)
    password = files.read(password_file, what="the keystore's password file").rstrip(b"\r\n")
    document = create_keyfile_json(secret, password)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(document, file)
    return key.address


def _library() -> ModuleType:
    """eth_keyfile, without what importing it does to the process."""
    with imports.guarded():
        from eth_keyfile import keyfile
    return keyfile


def _password(file: Path | None, fd: int | None) -> bytes:
    """Line ends are the editor's, everything else is the password."""
    if (file is None) == (fd is None):
        raise errors.BadConfig(
            "a keystore's password comes from one place", cure="give either password_file or password_fd"
        )
    if file is not None:
        return files.read(file, what="the keystore's password file").rstrip(b"\r\n")
    assert fd is not None
    if fd < FIRST_FD:
        raise errors.BadConfig("password_fd is a standard stream", value=fd, cure=f"use {FIRST_FD} or a higher one")
    try:
        with os.fdopen(fd, "rb") as stream:
            data = files.bounded(stream, what="the keystore's password")
    except OSError as error:
        raise errors.BadConfig(
            f"password_fd cannot be read: {error.strerror}", value=fd, cure="start the agent with it open: 3< FILE"
        ) from None
    if not data:
        raise errors.BadConfig("password_fd gave nothing", value=fd, cure="it is read once: one descriptor a keystore")
    return data.rstrip(b"\r\n")
