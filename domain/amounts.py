"""Amounts as people read them. In: whole numbers of the smallest unit. Out: decimal text with every digit. No floats anywhere."""

from __future__ import annotations

COINS = "coins"
WEI_DIGITS, GWEI_DIGITS = 18, 9
"""Decimals of every chain's own coin, and of the unit in which gas is paid for."""


def decimal(value: int, decimals: int) -> str:
    """In whole units: `1500000000000000000` with 18 is `1.5`."""
    sign, (whole, rest) = "-" if value < 0 else "", divmod(abs(value), 10**decimals)
    return f"{sign}{whole:,}.{rest:0{decimals}d}".rstrip("0") if rest else f"{sign}{whole:,}"


def unit(digits: str, name: str) -> str:
    """The name that goes with a number: of the chain's own coin, which no manifest names, there can be one."""
    return "coin" if (digits, name) == ("1", COINS) else name


def coins(wei: int) -> str:
    digits = decimal(wei, WEI_DIGITS)
    return f"{digits} {unit(digits, COINS)}"


def gwei(wei: int) -> str:
    return f"{decimal(wei, GWEI_DIGITS)} gwei"
