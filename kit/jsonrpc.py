"""JSON-RPC over HTTP, distrusting the other side. In: method and parameters. Out: msgspec-typed results, or one typed error.

    Transient                       unreachable, timed out, throttled, truncated or HTML: ask again
    ├── BadAnswer                   the answer cannot be what was asked for (wrong id, wrong type, missing batch item)
    ├── RpcError                    the node answered with an error object: `code` and `text`
    │   ├── RangeRefused            the block range or its result is too large; `blocks` is the node's own suggestion
    │   ├── BatchRefused            the batch is too large (handled here: batches shrink)
    │   ├── Throttled               the node wants to be asked less
    │   ├── UnknownBlock            the node does not have this block: behind, on another fork, or pruned
    │   └── MethodMissing           the node does not serve this method
    └── (HTTP)                      429 and 5xx carry `retry_after_s` when the peer named one
    HistoryUnavailable              the node says that it has pruned what was asked for

Every message names endpoint and method. The endpoint is named by host and port only: paths of providers carry keys.
"""

from __future__ import annotations

import email.utils
import re
import time
import urllib.parse
import zlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import aiohttp
import msgspec

from domain import errors
from kit import places

T = TypeVar("T")

Call = tuple[str, list[Any]]

MAX_RETRY_AFTER_S = 300.0
"""A peer's wish to be left alone is honoured up to here; a hostile one must not put the agent to sleep for a year."""

REVERTED = 3
"""The error code of a call that the contract refused (execution-apis)."""

FIRST_BATCH = 200
"""Items in a batch until the node refuses one. geth's default limit is 1,000."""
GROWS_AFTER = 64
"""Whole batches that a node answers before it is asked for twice as much again: what refused one may have been another backend."""


class RpcError(errors.Transient):
    """The node answered with an error object."""

    def __init__(self, what: str, *, code: int, text: str, cure: str = "") -> None:
        super().__init__(what, value=text, cure=cure)
        self.code = code
        self.text = text


class RangeRefused(RpcError):
    """Ask for fewer blocks. `blocks` is what the node would accept, when its wording says so."""

    def __init__(self, what: str, *, code: int, text: str, blocks: int | None = None) -> None:
        super().__init__(what, code=code, text=text)
        self.blocks = blocks


class BatchRefused(RpcError):
    """Send fewer calls at once."""


class Throttled(RpcError):
    """Ask less for a while."""


class UnknownBlock(RpcError):
    """The node does not have the block."""


class MethodMissing(RpcError):
    """The node does not serve the method."""


class _ErrorObject(msgspec.Struct):
    code: int
    message: str = ""
    data: msgspec.Raw = msgspec.Raw(b"")


class _Envelope(msgspec.Struct):
    id: int | None = None
    result: msgspec.Raw = msgspec.Raw(b"")
    error: _ErrorObject | None = None


class _Request(msgspec.Struct):
    id: int
    method: str
    params: list[Any]
    jsonrpc: str = "2.0"


_encoder = msgspec.json.Encoder()
_one = msgspec.json.Decoder(_Envelope)
_many = msgspec.json.Decoder(list[_Envelope])
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}

UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError)


class Endpoint:
    """One node behind one URL. Leaves retries, pauses and connection limits to its caller.

    `observe(method, seconds, outcome)` is called once per HTTP exchange, with a batch's first method; outcome is "ok" or the error's class name.
    """

    def __init__(
        self,
        url: str,
        *,
        session: aiohttp.ClientSession,
        timeout_s: float = 10.0,
        max_bytes: int = 64 << 20,
        observe: Callable[[str, float, str], None] | None = None,
    ) -> None:
        self.url = url
        self.name = _public_name(url)
        self.timeout_s = timeout_s
        self.max_bytes = max_bytes
        self.max_batch = FIRST_BATCH
        self._whole = 0
        self.calls = 0
        self.bytes_received = 0
        self._session = session
        self._observe = observe
        self._next_id = 1
        # A neighbour's answers are not worth compressing; a provider's are.
        self._headers = {
            "content-type": "application/json",
            "accept-encoding": "identity" if places.loopback(urllib.parse.urlsplit(url).hostname or "") else "gzip",
        }

    def __repr__(self) -> str:
        return f"Endpoint({self.name})"

    async def call(self, method: str, params: list[Any], type_: type[T], *, what: str = "") -> T:
        """One call. `what` names the thing asked for in errors. With `msgspec.Raw` as `type_` the JSON text is returned."""
        wire_id = self._take_ids(1)
        body = _encoder.encode(_Request(wire_id, method, params))
        data = await self._post(body, method, _of(method, what))
        envelope = self._decode(_one, data, method, what)
        if envelope.id != wire_id and not (envelope.id is None and envelope.error is not None):
            raise errors.BadAnswer(f"{self.name} answered {method} with a foreign id", value=envelope.id)
        return self._result(envelope, type_, method, what)

    async def batch(self, calls: Sequence[Call], type_: type[T]) -> list[T]:
        """Results in the order of `calls`, in as few exchanges as the node tolerates. Any error of one is the error of all."""
        results: list[T] = []
        while len(results) < len(calls):
            part = calls[len(results) : len(results) + self.max_batch]
            try:
                results += await self._batch(part, type_)
                self._answered(len(part))
            except BatchRefused:
                if len(part) == 1:
                    raise
                self._shrink(len(part))
        return results

    async def each(self, calls: Sequence[Call], type_: type[T]) -> list[T | errors.StakesideError]:
        """As `batch`, for reads that stand for themselves: each call's own result or error. Raises where the node could not be asked."""
        results: list[T | errors.StakesideError] = []
        while len(results) < len(calls):
            part = calls[len(results) : len(results) + self.max_batch]
            try:
                results += await self._settle(part, type_) if len(part) > 1 else [await self._alone(part[0], type_)]
                self._answered(len(part))
            except BatchRefused:
                self._shrink(len(part))
        return results

    def _shrink(self, refused: int) -> None:
        self.max_batch, self._whole = refused // 2, 0

    def _answered(self, items: int) -> None:
        """A node that once refused a batch is not asked in small pieces for ever."""
        if items < self.max_batch or self.max_batch >= FIRST_BATCH:
            return
        self._whole += 1
        if self._whole >= GROWS_AFTER:
            self.max_batch, self._whole = min(FIRST_BATCH, 2 * self.max_batch), 0

    async def _alone(self, call: Call, type_: type[T]) -> T | errors.StakesideError:
        try:
            return await self.call(call[0], call[1], type_)
        except (RpcError, errors.BadAnswer, errors.HistoryUnavailable) as error:
            return error

    async def outcomes(self, calls: Sequence[Call], type_: type[T]) -> list[T | errors.StakesideError]:
        """One exchange, and each call's own result or error, in the order of `calls`: for calls that each leave something behind.
        Raises only when the exchange as a whole failed, which says nothing about any of them."""
        return await self._settle(calls, type_)

    async def _batch(self, calls: Sequence[Call], type_: type[T]) -> list[T]:
        if len(calls) == 1:
            return [await self.call(calls[0][0], calls[0][1], type_)]
        results: list[T] = []
        for outcome in await self._settle(calls, type_):
            if isinstance(outcome, errors.StakesideError):
                raise outcome
            results.append(outcome)
        return results

    async def _settle(self, calls: Sequence[Call], type_: type[T]) -> list[T | errors.StakesideError]:
        first = self._take_ids(len(calls))
        body = _encoder.encode([_Request(first + i, method, params) for i, (method, params) in enumerate(calls)])
        method = f"batch of {len(calls)} ({calls[0][0]})"
        data = await self._post(body, calls[0][0], method)
        if data[:1] == b"{":  # the batch as a whole was refused
            envelope = self._decode(_one, data, method, "")
            if envelope.error is None:
                raise errors.BadAnswer(f"{self.name} answered a batch with one object", value=bytes(data[:80]))
            raise self._error(envelope.error, method, whole_batch=True)
        slots: list[_Envelope | None] = [None] * len(calls)
        for envelope in self._decode(_many, data, method, ""):
            index = -1 if envelope.id is None else envelope.id - first
            if not 0 <= index < len(calls) or slots[index] is not None:
                if envelope.error is not None and envelope.id is None:
                    raise self._error(envelope.error, method, whole_batch=True)
                raise errors.BadAnswer(f"{self.name} answered a batch with a foreign or repeated id", value=envelope.id)
            slots[index] = envelope
        results: list[T | errors.StakesideError] = []
        for index, envelope in enumerate(slots):
            try:
                if envelope is None:
                    raise errors.BadAnswer(f"{self.name} left a batch item unanswered", value=calls[index])
                results.append(self._result(envelope, type_, calls[index][0], errors.clip(calls[index][1], 80)))
            except errors.StakesideError as error:
                results.append(error)
        return results

    def _take_ids(self, count: int) -> int:
        first = self._next_id
        self._next_id += count
        return first

    def _decode(
        self, decoder: msgspec.json.Decoder[T], data: bytearray | bytes | msgspec.Raw, method: str, what: str
    ) -> T:
        try:
            return decoder.decode(data)
        except UNDECODABLE as error:
            if "truncated" in str(error):
                raise errors.Transient(f"{self.name} answered {_of(method, what)} with a truncated body") from None
            raise errors.BadAnswer(
                f"{self.name} answered {_of(method, what)} with something that is not JSON-RPC: {errors.clip(str(error), 120)}",
                value=head(data, 80),
            ) from None

    def _result(self, envelope: _Envelope, type_: type[T], method: str, what: str) -> T:
        if envelope.error is not None:
            raise self._error(envelope.error, _of(method, what))
        if not head(envelope.result, 1):
            raise errors.BadAnswer(f"{self.name} answered {_of(method, what)} with neither result nor error")
        if type_ is msgspec.Raw:
            return envelope.result  # pyright: ignore[reportReturnType]
        return self._decode(decoder_for(type_), envelope.result, method, what)

    def _error(self, error: _ErrorObject, method: str, *, whole_batch: bool = False) -> errors.StakesideError:
        text = error.message
        if head(error.data, 1) == b'"':
            text += " " + head(error.data, 200).decode("utf-8", "replace")
        return classify(f"{self.name} refused {method}", error.code, text, whole_batch=whole_batch)

    async def _post(self, body: bytes, method: str, asked: str) -> bytearray | bytes:
        """`method` is what `observe` sees: one of few names, whatever a batch holds; `asked` is what errors say."""
        started = time.monotonic()
        outcome = "ok"
        try:
            return await self._exchange(body, asked)
        except errors.StakesideError as error:
            outcome = type(error).__name__
            raise
        finally:
            self.calls += 1
            if self._observe is not None:
                self._observe(method, time.monotonic() - started, outcome)

    async def _exchange(self, body: bytes, asked: str) -> bytearray | bytes:
        timeout = aiohttp.ClientTimeout(total=self.timeout_s)
        try:
            async with self._session.post(
                self.url,
                data=body,
                headers=self._headers,
                timeout=timeout,
                allow_redirects=False,
                auto_decompress=False,
            ) as response:
                data = await self._read(response, asked)
                status, headers = response.status, response.headers
        except TimeoutError:
            raise errors.Transient(
                f"{self.name} did not answer {asked} within {self.timeout_s:g} s",
                cure="check the node's load or raise timeout_s",
            ) from None
        except aiohttp.ClientError as error:
            # The text of some of these contains the whole URL, and with it a provider's key.
            reason = (
                error.os_error.strerror if isinstance(error, aiohttp.ClientConnectorError) else type(error).__name__
            )
            raise errors.Transient(
                f"{self.name} could not be asked {asked}: {reason}",
                cure="check that the node runs and the URL is right",
            ) from None
        self.bytes_received += len(data)
        _check_status(self.name, asked, status, data, headers.get("retry-after"))
        return data

    async def _read(self, response: aiohttp.ClientResponse, asked: str) -> bytearray | bytes:
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        inflate = None
        if encoding in ("gzip", "x-gzip", "deflate"):
            inflate = zlib.decompressobj(wbits=47)  # gzip or zlib, by its own header
        elif encoding not in ("", "identity"):
            raise errors.Transient(f"{self.name} answered {asked} in an encoding that was not offered", value=encoding)
        data = bytearray()
        async for chunk in response.content.iter_any():
            if inflate is not None:
                try:
                    chunk = inflate.decompress(chunk, self.max_bytes + 1 - len(data))
                except zlib.error:
                    raise errors.Transient(f"{self.name} answered {asked} with damaged compression") from None
            data += chunk
            if len(data) > self.max_bytes:
                response.close()
                raise RangeRefused(
                    f"{self.name} answered {asked} with more than {self.max_bytes} bytes",
                    code=0,
                    text="answer too large",
                )
        if inflate is not None and not inflate.eof:
            raise errors.Transient(f"{self.name} answered {asked} with a truncated body", value=len(data))
        return data


def decoder_for(type_: type[T]) -> msgspec.json.Decoder[T]:
    """A cached decoder: building one costs more than using it."""
    decoder = _decoders.get(type_)
    if decoder is None:
        decoder = _decoders[type_] = msgspec.json.Decoder(type_)
    return decoder


def head(data: bytes | bytearray | msgspec.Raw, count: int) -> bytes:
    """The first bytes of JSON text, without copying the rest. (`msgspec.Raw` is a buffer, although its types say bytes.)"""
    return bytes(memoryview(data)[:count])


def _check_status(name: str, asked: str, status: int, data: bytes | bytearray, retry_after: str | None) -> None:
    """Raises for everything that is not a JSON-RPC answer; nodes put error objects under several statuses."""
    wish = _retry_after_s(retry_after)
    if status in (429, 502, 503, 504):
        raise errors.Transient(
            f"{name} asks for patience with {asked} (HTTP {status})",
            value=bytes(data[:80]),
            cure="lower the request rate or use another endpoint" if status == 429 else "",
            retry_after_s=wish,
        )
    start = bytes(data[:64]).lstrip()
    if start[:1] not in (b"{", b"["):
        cure = (
            "check the endpoint's credentials" if status in (401, 403) else "check that the URL is a JSON-RPC endpoint"
        )
        if status == 413:
            raise BatchRefused(f"{name} found {asked} too large (HTTP 413)", code=413, text="request too large")
        raise errors.Transient(f"{name} answered {asked} with HTTP {status} and no JSON", value=start[:80], cure=cure)


def _retry_after_s(text: str | None) -> float | None:
    """Seconds or an HTTP date (RFC 9110 §10.2.3), clipped to 0..MAX_RETRY_AFTER_S."""
    if not text:
        return None
    if text.strip().isdecimal():
        seconds = float(text) if len(text) < 10 else MAX_RETRY_AFTER_S
    else:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S)


# Wordings of geth, erigon, nethermind, reth, besu, anvil and the large providers. Order matters: a provider's "limit" may be
# a rate, a range or a batch, and only the longer wording tells.
_PRUNED = re.compile(
    r"pruned|pruning|missing trie node|history (is )?(not available|unavailable)|historical (state|data|block)[^.]{0,40}"
    r"(not available|unavailable)|receipts?[^.]{0,40}(not available|unavailable|missing)|data before txnum|world state unavailable"
    r"|required historical state|no state available|archive node|old data not available|distance to target block exceeds",
    re.IGNORECASE,
)
_RATE = re.compile(
    r"rate.?limit|too many requests|request (count|limit)|compute units|capacity|throughput|daily (limit|request)|per second|"
    r"credits",
    re.IGNORECASE,
)
_BATCH = re.compile(
    r"batch (size|limit|too large|request)|too many (calls|requests in batch)|batch.*(exceed|large|limit)",
    re.IGNORECASE,
)
_RANGE = re.compile(
    r"returned more than|more than [\d,]+ (results|logs)|max(imum)? (block )?range|block range|range (is )?too|range limit|exceeds? "
    r"(the )?(max|range|limit)|limited to|response (size|too|is too)|too many (blocks|logs|results)|number of requested blocks|query "
    r"(timeout|must be smaller)|at most [\d,.]+ blocks|blocks distance|max results|result (set )?too|reduc\w+ (your|the) (block )?range|"
    r"requested range|response exceed|maximum allowed",
    re.IGNORECASE,
)
_UNKNOWN = re.compile(
    r"unknown (block|header)|(block|header|resource|header for hash)s?[^.]{0,30}not found|cannot be found|could not find (block|header)|"
    r"blockoutofrange|beyond (the )?(current )?(head|latest)|past head|after last accepted block|invalid block range|"
    r"greater than (the )?(latest|head)|block is not available|future block",
    re.IGNORECASE,
)
_RANGE_LIMIT_SURE = re.compile(r"too (large|wide|many)|exceed|limited|maximum", re.IGNORECASE)
_SUGGESTED = re.compile(r"\[\s*0x([0-9a-f]{1,16}),\s*0x([0-9a-f]{1,16})\s*\]", re.IGNORECASE)
_AT_MOST = re.compile(
    r"(?:maximum is set to|max(?:imum)? (?:block )?range(?: is)?:?|limited to an?|limited to|at most|up to an?|blocks is|"
    r"blocks distance:|greater than|range exceeds|smaller than size|\(maximum|\d+ >)\s*(\d[\d,.]{0,9})(k?)",
    re.IGNORECASE,
)


def classify(what: str, code: int, text: str, *, whole_batch: bool = False) -> errors.StakesideError:
    """The typed error for an error object. EIP-4444's code and the specification's codes decide before any wording."""
    shown = errors.clip(text)
    if code == 4444:
        return errors.HistoryUnavailable(
            f"{what}: {shown}", cure="use a node that keeps history, or adopt these frames"
        )
    if code == -32601:
        return MethodMissing(what, code=code, text=shown, cure="enable the eth namespace of the node's HTTP API")
    too_often = _RATE.search(text) and not _BATCH.search(text)  # smaller batches would be more requests
    if whole_batch and not too_often and (_BATCH.search(text) or code in (-32600, -32005) or "large" in text):
        return BatchRefused(what, code=code, text=shown)
    if _UNKNOWN.search(text) and not _RANGE_LIMIT_SURE.search(text):
        return UnknownBlock(what, code=code, text=shown)
    if _PRUNED.search(text):
        return errors.HistoryUnavailable(
            f"{what}: {shown}", cure="use a node that keeps history, or adopt these frames"
        )
    if _RANGE.search(text) and not _RATE.search(text):
        return RangeRefused(what, code=code, text=shown, blocks=_suggestion(text))
    if _RATE.search(text) and code != REVERTED and "revert" not in text.lower():  # a contract may say anything
        return Throttled(what, code=code, text=shown, cure="lower the request rate or use another endpoint")
    return RpcError(what, code=code, text=shown)


def _suggestion(text: str) -> int | None:
    found = _SUGGESTED.search(text)
    if found:
        blocks = int(found[2], 16) - int(found[1], 16) + 1
        return blocks if blocks >= 1 else None
    found = _AT_MOST.search(text)
    lower = text.lower().replace("getlogs", "")
    if found and not any(
        other in lower for other in ("result", "logs", "response")
    ):  # limits of something else than blocks
        blocks = int(re.sub(r"[,.]", "", found[1])) * (1000 if found[2] else 1)
        return blocks if blocks >= 1 else None
    return None


def _of(method: str, what: str) -> str:
    return f"{method} {what}" if what else method


def _public_name(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    host = parts.hostname or "node"
    return f"{host}:{parts.port}" if parts.port else host
