"""Validators, targets and recipients in one spelling. In: how people and intents write them. Out: what can be compared.

An identity is a 32-byte word: an address padded to the left, or a number. A typing error in an allow-list would send stake to a stranger,
so mixed case must carry a correct checksum (EIP-55).
"""

from __future__ import annotations

from domain import errors, hashing


def plain(text: str) -> str:
    """The word of a canonical argument as 0x and 64 lower-case digits; what is none stays as it is."""
    found = _word(text)
    return text if found is None else hashing.hex0x(found)


def read(text: str, *, what: str, free: bool = False) -> str:
    """As `plain`, for what a person wrote. `free` lets what is no identity stand for itself. Raises BadConfig."""
    found = _word(text)
    if found is None:
        if free and text and not text.startswith("0x"):
            return text
        raise errors.BadConfig(
            f"{what} is no identity",
            value=text,
            cure="give an address (0x and 40 hex digits), a 32-byte word (0x and 64) or a decimal id",
        )
    digits = text[2:] if text.startswith("0x") else ""
    if len(digits) == 40 and digits not in (digits.lower(), digits.upper()) and text != checksum(found[12:]):
        raise errors.BadConfig(
            f"{what} has a wrong checksum", value=text, cure="copy the address again, or write it in lower case"
        )
    return hashing.hex0x(found)


def shown(text: str) -> str:
    """For people: an identity that an address fits is written as that address, and so is told from a key in any log."""
    found = _word(text)
    return checksum(found[12:]) if found is not None and found[:12] == bytes(12) and any(found[:16]) else text


def checksum(address: bytes) -> str:
    """EIP-55: the case of each letter tells whether a typing error was made."""
    digits = address.hex()
    bits = hashing.keccak256(digits.encode()).hex()
    return "0x" + "".join([c.upper() if int(bit, 16) > 7 else c for c, bit in zip(digits, bits, strict=False)])


def _word(text: str) -> bytes | None:
    if text.isascii() and text.isdecimal():
        number = int(text) if len(text) <= 78 and (text == "0" or text[0] != "0") else -1
        return hashing.word(number) if 0 <= number <= hashing.UINT256_MAX else None
    if len(text) not in (42, 66):
        return None
    try:
        return hashing.unhex(text).rjust(32, b"\0")
    except errors.BadAnswer:
        return None
