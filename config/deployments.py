"""Deployment documents. In: a TOML file, or the JSON form inside statement.json. Out: a checked `domain.deployment.Document`."""

from __future__ import annotations

from pathlib import Path

import msgspec

from config import toml
from domain import deployment, errors


def load(path: Path) -> deployment.Document:
    """Raises BadConfig naming the file, the field and the cure."""
    document = toml.convert(toml.read(path), deployment.Document)
    return _checked(document, path.name)


def parse(text: str | bytes) -> deployment.Document:
    """From JSON. Raises BadConfig."""
    try:
        document = msgspec.json.decode(text, type=deployment.Document)
    except msgspec.DecodeError as error:
        raise errors.BadConfig(f"the deployment document is malformed: {error}") from None
    return _checked(document, "document")


def _checked(document: deployment.Document, name: str) -> deployment.Document:
    try:
        deployment.check(document)
    except errors.BadAnswer as error:  # a digest or address that is not hex
        raise errors.BadConfig(
            f"{name}: {error.what}", value=error.value, cure="write 0x and lower-case hex digits"
        ) from None
    deployment.check_supported(document)
    return document
