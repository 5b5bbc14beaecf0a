"""The independent verifier. In: a statement file, maybe a node. Out: a report that names the first difference.

It shares no code with what made the statement: standard library, keccak and secp256k1 only, every rule written anew from
`docs/wire/statement.md` and the staking contract. `check` is the whole of its interface.
"""

from verify.checker import check
from verify.report import Finding, Report

__all__ = ["Finding", "Report", "check"]
