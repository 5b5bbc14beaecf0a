"""What people and programs send. In: a request's body, JSON or a form. Out: a frozen value, or a refusal naming the place.

JSON is read twice, once to refuse what a decoder would silently resolve (a name that is there twice), once into its type. Amounts are
text: a number with a point or an exponent has no place here. A form is the same value with the same names.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, TypeVar, cast
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web

from domain import errors, intent, wire
from kit import http, logs

JSON, FORM = "application/json", "application/x-www-form-urlencoded"
MAX_BYTES = 16 << 10
"""The largest proposal with all its arguments has a tenth of this."""
TIMEOUT_S = 10.0
"""So little arrives at once; who trickles does not keep a place for long."""
MAX_FIELDS = 64
_LIST = "roles"
_MAP = "arguments."
_LACKING = re.compile(
    r"Expected `str` of length >= 1 - at `\$\.(?P<empty>\w+)`\Z|Object missing required field `(?P<absent>\w+)`\Z"
)
T = TypeVar("T", bound=msgspec.Struct)

Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
Name = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?\Z")]
Key = Annotated[str, msgspec.Meta(pattern=r"\A[\x21-\x7e]{1,128}\Z")]
Word = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Hash = Annotated[str, msgspec.Meta(pattern=r"\A0x[0-9a-f]{64}\Z")]
Value = Annotated[str, msgspec.Meta(max_length=2000)]
Moment = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Seconds = Annotated[int, msgspec.Meta(ge=1, le=30 * 86400)]


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Base of every body."""


class Because(_Body, frozen=True):
    """`reason` stays in the book."""

    reason: Reason


class Propose(_Body, frozen=True):
    """`key` may come as the header Idempotency-Key instead."""

    protocol: Word
    action: Word
    reason: Reason
    arguments: Annotated[dict[Word, Value], msgspec.Meta(max_length=32)] = {}
    key: Key | None = None
    expires_in_s: Seconds | None = None


class Approve(_Body, frozen=True):
    """`payload_hash` is what was looked at: an approval is for that and nothing else."""

    payload_hash: Hash
    reason: Reason


class Settle(_Body, frozen=True):
    """`outcome` is what became of the intent; that it worked is for nobody to say but the agent's own index."""

    outcome: intent.Outcome
    reason: Reason


class Pause(_Body, frozen=True):
    """Without `until_s` it lasts until somebody resumes."""

    reason: Reason
    until_s: Moment | None = None


class AddPrincipal(_Body, frozen=True):
    name: Name
    roles: Annotated[list[Word], msgspec.Meta(min_length=1, max_length=5)]
    reason: Reason


class SignIn(_Body, frozen=True):
    token: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Nothing(_Body, frozen=True):
    """No body, or an empty one."""


def is_form(request: web.Request) -> bool:
    """Whether a browser's form sent this, which is answered with a page."""
    return request.content_type == FORM


async def read(request: web.Request, type_: type[T]) -> T:
    """Raises BadAnswer (→ 400), or HTTP's 413 and 415."""
    data = await http.read_body(request, max_bytes=MAX_BYTES, timeout_s=TIMEOUT_S)
    if is_form(request):
        found = _form(data, type_)
    elif request.content_type == JSON or not data:
        found = _json(data or b"{}", type_)
    else:
        raise web.HTTPUnsupportedMediaType(reason="send application/json")
    if type_ is not SignIn:
        _readable(msgspec.to_builtins(found), "the body")
    return found


def _json(data: bytes, type_: type[T]) -> T:
    try:
        json.loads(data, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        if isinstance(error, RecursionError):
            raise errors.BadAnswer("the body is nested too deeply") from None
        raise errors.BadAnswer(f"the body is not JSON: {errors.clip(str(error))}") from None
    try:
        return wire.decode(data, type_, what="the body")
    except errors.BadAnswer as error:
        raise errors.BadAnswer(_worded(error.what)) from None


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise errors.BadAnswer("a name is there twice", value=name)
        found[name] = value
    return found


def _form(data: bytes, type_: type[T]) -> T:
    try:
        pairs = parse_qsl(
            data.decode("ascii"), strict_parsing=True, max_num_fields=MAX_FIELDS, encoding="utf-8", errors="strict"
        )
    except (ValueError, UnicodeDecodeError):
        raise errors.BadAnswer("the form is malformed") from None
    found: dict[str, object] = {}
    for name, text in pairs:
        if not text:
            continue  # an input that was left empty
        if name == _LIST:
            cast("list[str]", found.setdefault(_LIST, [])).append(text)
            continue
        place = found
        if name.startswith(_MAP):
            inner = found.setdefault(_MAP[:-1], {})
            if not isinstance(inner, dict):
                raise errors.BadAnswer("arguments are given in two ways", value=name)
            place = cast("dict[str, object]", inner)
            name = name[len(_MAP) :]
        if name in place:
            raise errors.BadAnswer("a name is there twice", value=name)
        place[name] = text
    try:
        return msgspec.convert(found, type_, strict=False)
    except msgspec.ValidationError as error:
        raise errors.BadAnswer(_worded(f"the form is malformed: {error}")) from None


def _worded(message: str) -> str:
    """A text that is empty or not there by its name alone."""
    return _LACKING.sub(lambda found: f"{found['empty'] or found['absent']} is needed", message)


def _readable(value: object, where: str) -> None:
    """Every text can be kept and shown as it is: no NUL, no control or direction-changing character, no half of a character, no token."""
    if isinstance(value, dict):
        for name, item in cast("dict[str, object]", value).items():
            _readable(name, where)
            _readable(item, name)
    elif isinstance(value, list):
        for item in cast("list[object]", value):
            _readable(item, where)
    elif isinstance(value, str):
        if not value.isprintable():
            raise errors.BadAnswer(f"{where} holds characters that cannot be shown", value=value)
        if logs.hide_tokens(value) != value:
            raise errors.BadAnswer(f"{where} holds a token, and would stay in the book", cure="rotate that token")
