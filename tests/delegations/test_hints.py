"""What nodes say to a sent transaction. A hint decides nothing; these hold the words for metrics and people, and that no text does harm."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.delegations import hints, sight

SAID: list[tuple[str, str, hints.Hint]] = [
    ("geth", "already known", "already_known"),
    ("geth", "nonce too low: next nonce 5, tx nonce 4", "nonce_too_low"),
    ("geth", "nonce too high", "nonce_too_high"),
    ("geth", "replacement transaction underpriced", "replacement_underpriced"),
    ("geth", "transaction underpriced: gas tip cap 0, minimum needed 1", "underpriced"),
    ("geth", "insufficient funds for gas * price + value: balance 0, tx cost 1, overshot 1", "insufficient_funds"),
    ("geth", "max fee per gas less than block base fee: address 0x1, maxFeePerGas: 1", "underpriced"),
    ("geth", "exceeds block gas limit", "gas_limit"),
    ("geth", "intrinsic gas too low: gas 0, minimum needed 21000", "gas_limit"),
    ("geth", "txpool is full", "pool_full"),
    ("geth", "invalid sender", "refused"),
    ("anvil", "transaction already imported", "already_known"),
    ("anvil", "nonce too low", "nonce_too_low"),
    ("anvil", "transaction underpriced", "underpriced"),
    ("anvil", "replacement transaction underpriced", "replacement_underpriced"),
    ("anvil", "Insufficient funds for gas * price + value", "insufficient_funds"),
    ("anvil", "max fee per gas less than block base fee", "underpriced"),
    ("besu", "Known transaction", "already_known"),
    ("besu", "Nonce too low", "nonce_too_low"),
    ("besu", "Transaction nonce is too distant from current sender nonce", "nonce_too_high"),
    ("besu", "Replacement transaction underpriced", "replacement_underpriced"),
    ("besu", "Gas price below configured minimum gas price", "underpriced"),
    ("besu", "Upfront cost exceeds account balance", "insufficient_funds"),
    ("nethermind", "AlreadyKnown", "already_known"),
    ("nethermind", "OldNonce, Current nonce: 5, nonce of rejected tx: 4", "nonce_too_low"),
    ("nethermind", "NonceGap, Future nonce. Expected nonce: 5", "nonce_too_high"),
    ("nethermind", "ReplacementNotAllowed", "replacement_underpriced"),
    ("nethermind", "FeeTooLow, MaxFeePerGas too low", "underpriced"),
    ("nethermind", "InsufficientFunds, Account balance: 0", "insufficient_funds"),
    ("erigon", "ALREADY_EXISTS: already known", "already_known"),
    ("erigon", "nonce too low", "nonce_too_low"),
    ("erigon", "could not replace existing tx", "replacement_underpriced"),
    ("erigon", "fee too low", "underpriced"),
    ("erigon", "insufficient funds", "insufficient_funds"),
    ("ours", "accepted", "accepted"),
    ("unknown", "", "unknown"),
    ("unknown", "the request was rejected", "unknown"),
    ("unknown", "Internal error", "unknown"),
]


@pytest.mark.parametrize(("client", "text", "hint"), SAID, ids=[f"{client}: {text[:30]}" for client, text, _ in SAID])
def test_a_wording_is_understood(client: str, text: str, hint: hints.Hint) -> None:
    assert hints.read(text) == hint


@given(st.text(max_size=3000))
def test_any_text_gives_one_of_the_words(text: str) -> None:
    assert hints.read(text) in get_args(hints.Hint)


def test_only_the_exact_word_counts_as_accepted() -> None:
    assert hints.read("accepted, or so it seems") == "unknown"


def test_the_tracker_has_no_way_in_for_a_hint() -> None:
    """Send errors are never verdicts."""
    fields = {field.name for type_ in (sight.View, sight.Attempt) for field in msgspec.structs.fields(type_)}
    assert not [name for name in fields if "hint" in name or "error" in name]
