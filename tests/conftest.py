"""What holds for every test."""

from __future__ import annotations

from kit import imports

with imports.guarded():  # some tests compare with eth-account; see kit/imports.py for what it does to a process
    import eth_account  # noqa: F401  pyright: ignore[reportUnusedImport]
