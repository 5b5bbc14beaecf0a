"""The simulator's lies."""

from __future__ import annotations

import random

from devnet import lying_menu, proxy


def test_every_lie_of_the_menu_is_a_fault_the_node_knows() -> None:
    told = {
        proxy.parse(text).name
        for seed in range(2_000)
        for text in lying_menu.choose(random.Random(seed), head=seed % 50, proof="receipts")
    }
    assert set(proxy.catalogue.KINDS) - told == {"other-node"}


def test_one_seed_chooses_the_same_lies() -> None:
    assert lying_menu.choose(random.Random(5), head=9, proof="node") == lying_menu.choose(
        random.Random(5), head=9, proof="node"
    )
