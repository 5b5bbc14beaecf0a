"""The devnet's contracts. In: Solidity. Out: `artifacts/*.json`, built by `build.mjs` and committed (see README.md)."""
