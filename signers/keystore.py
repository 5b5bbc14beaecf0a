"""Web3 Secret Storage. In: a keystore file and a password file. Out: a signer.

The format is eth_keyfile's business (version 3, scrypt or PBKDF2 with AES-128-CTR); it is imported only when a keystore is used,
because it costs an observe-only agent nothing then.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

from domain import errors, hashing
from kit import imports
from signers import keys

MAX_BYTES = 64 << 10


def load(path: Path, *, password_file: Path) -> keys.LocalKey:
    """Raises BadConfig for an unreadable file, a wrong password, or a key that is not the one the file names."""
    decode_keyfile_json = _library().decode_keyfile_json
    password = _read(password_file, what="the keystore's password file").rstrip(b"\r\n")
    try:
        document = json.loads(_read(path, what="the keystore file"))
        if not isinstance(document, dict):
            raise ValueError("not a JSON object")
        secret = decode_keyfile_json(document, password)  # pyright: ignore[reportUnknownArgumentType]
    except (ValueError, KeyError, TypeError, NotImplementedError):
        # The library's message may quote the derived key's MAC; ours names the file alone.
        raise errors.BadConfig(
            "the keystore cannot be opened",
            value=str(path),
            cure="check the password file and that it is a version 3 keystore",
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
    import os

    create_keyfile_json = _library().create_keyfile_json
    key = keys.LocalKey(secret)
    password = _read(password_file, what="the keystore's password file").rstrip(b"\r\n")
    document = create_keyfile_json(secret, password)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(document, file)
    return key.address


def _library() -> ModuleType:
    """eth_keyfile, without what importing it does to the process."""
    with imports.guarded():
        from eth_keyfile import keyfile
    return keyfile


def _read(path: Path, *, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise errors.BadConfig(f"{what} cannot be read: {error.strerror}", value=str(path)) from None
    if len(data) > MAX_BYTES:
        raise errors.BadConfig(f"{what} is larger than {MAX_BYTES} bytes", value=str(path))
    return data
