"""Deployment documents from TOML and JSON."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from config import deployments
from domain import errors

DOCUMENT = """
name = "devnet"

[[chains]]
id = 31337
genesis = "0x1111111111111111111111111111111111111111111111111111111111111111"

[[streams]]
name = "staking"
kind = "staking"
chain = 31337
protocol = "devnet"
deployment = "local"
accounts = "all"
asset = "0x0000000000000000000000000000000000000000"
start = 1
frame = "blocks:32"

[[epochs]]
signer_epoch = 0
signers = ["0x00000000000000000000000000000000000000aa"]
k = 1
rulesets = { staking = "0x2222222222222222222222222222222222222222222222222222222222222222" }
from_sequence = { staking = 0 }
"""


def load(folder: Path, text: str) -> object:
    path = folder / "deployment.toml"
    path.write_text(text)
    return deployments.load(path)


def test_toml_and_json_give_one_document(tmp_path: Path) -> None:
    document = load(tmp_path, DOCUMENT)
    assert deployments.parse(msgspec.json.encode(document)) == document


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("frame =", "frames =", "did you mean frame?"),
        ("k = 1", "k = 2", "k must be 1 to 1"),
        ("0x1111", "1111", "genesis is not 0x-hex"),
        ('"blocks:32"', '"hours:2"', 'use "blocks:<size>"'),
        ("signer_epoch = 0", "signer_epoch = 1", "numbered 0, 1, 2"),
        ("chain = 31337", "chain = 1", "a chain the document does not list"),
        ("start = 1", 'start = "1"', "streams.0.start"),
        ("0x00000000000000000000000000000000000000aa", "0xaa", "signer has 1 bytes"),
    ],
)
def test_a_wrong_document_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(errors.BadConfig) as caught:
        load(tmp_path, DOCUMENT.replace(old, new, 1))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "{", '{"name":"x"}', "[]", '{"name":"x","chains":[],"streams":[],"epochs":[]}', "\x00"]
)
def test_malformed_json_is_refused(text: str) -> None:
    with pytest.raises(errors.BadConfig):
        deployments.parse(text)
