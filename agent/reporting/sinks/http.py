"""The hub over HTTP. In: wire bytes. Out: parsed answers, or an error that says whether to try again.

Every answer is hostile until parsed: sizes are capped, times are bounded, redirects are not followed, and the token never appears in
an error.
"""

from __future__ import annotations

import io
import ssl
from typing import TypeVar

import aiohttp
import msgspec

from domain import errors, hashing, lease, statement, wire
from kit import tls as tls_

MAX_BYTES = 64 << 20
"""A page of 4,096 leaves is under 3 MiB; a carry of a large stream is the most there can be."""

REFUSED_S = 30.0
"""When to ask again what the hub refused to answer."""

T = TypeVar("T")


class Refused(errors.StakesideError):
    """The hub answered 4xx: this item as it is will never be taken. `status` and `problem` say why."""

    def __init__(self, status: int, problem: wire.Problem, *, retry_after_s: float | None = None) -> None:
        super().__init__(
            f"the hub refused ({status} {problem.title}): {problem.detail[:300]}",
            value=problem.field,
            cure="compare this agent's deployment document with the hub's",
        )
        self.status = status
        self.problem = problem
        self.retry_after_s = retry_after_s


class _Frame(msgspec.Struct, rename="camel"):
    sequence: str
    revision: str
    digest: str | None
    state: str


class _Frames(msgspec.Struct):
    frames: tuple[_Frame, ...]
    next: str | None = None


class _Stream(msgspec.Struct, rename="camel"):
    id: str
    name: str
    sealed: str | None = None


class _Streams(msgspec.Struct):
    streams: tuple[_Stream, ...]


class _Wanted(msgspec.Struct):
    wanted: tuple[str, ...]


class _Receipts(msgspec.Struct):
    receipts: tuple[wire.SignedReceipt, ...]


class _BodyPage(msgspec.Struct):
    page: int
    pages: int
    leaves: tuple[wire.LeafWire, ...]
    carry: str = ""


class HubClient:
    """One hub. Raises Transient (away, busy), BadAnswer (nonsense) or Refused (4xx)."""

    def __init__(
        self,
        url: str,
        *,
        session: aiohttp.ClientSession,
        token: str | None,
        timeout_s: float = 10.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`tls` (`kit.tls.client`) for an https address; None: the system's authorities, and no certificate of ours."""
        self.url = url.rstrip("/")
        self._tls: ssl.SSLContext | bool = True if tls is None else tls
        self._session = session
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)

    async def attest(self, payload: bytes) -> wire.Accepted:
        return await self._send("/v1/attestations", payload, wire.Accepted)

    async def replace(self, payload: bytes) -> wire.Accepted:
        return await self._send("/v1/replacements", payload, wire.Accepted)

    async def lease(self, payload: bytes) -> lease.SignedGrant:
        """A signed request for an account's lease. Raises Refused when another holder has it."""
        return await self._send("/v1/leases", payload, lease.SignedGrant)

    async def wanted(self, attester: bytes) -> tuple[bytes, ...]:
        answer = await self._get(f"/v1/wanted?attester={hashing.hex0x(attester)}", _Wanted)
        return tuple(hashing.unhex(text, size=32, what="wanted root") for text in answer.wanted)

    async def upload(self, chunk: wire.BodyChunk) -> None:
        await self._request("POST", f"/v1/bodies/{chunk.root}", wire.encode(chunk))

    async def receipts(self, attester: bytes, *, first: int) -> tuple[wire.SignedReceipt, ...]:
        path = f"/v1/receipts/{hashing.hex0x(attester)}?from={first}"
        return (await self._get(path, _Receipts)).receipts

    async def streams(self) -> int:
        """How many streams the hub serves us: a check of address and token."""
        return len((await self._get("/v1/streams", _Streams)).streams)

    async def last_sealed(self, stream: bytes) -> int | None:
        """The highest sealed sequence of a stream, None when there is none."""
        for item in (await self._get("/v1/streams", _Streams)).streams:
            if item.id == hashing.hex0x(stream) and item.sealed is not None:
                return wire.uint(item.sealed, bits=64, what="sealed")
        return None

    async def sealed_digest(self, stream: bytes, sequence: int) -> bytes | None:
        path = f"/v1/streams/{hashing.hex0x(stream)}/frames?from={sequence}&limit=8"
        for frame in (await self._get(path, _Frames)).frames:
            if frame.sequence == str(sequence) and frame.state == "sealed" and frame.digest is not None:
                return hashing.unhex(frame.digest, size=32, what="digest")
        return None

    async def certificate(self, digest: bytes) -> wire.Certificate:
        """Raises Refused when the hub has none."""
        path = f"/v1/statements/{hashing.hex0x(digest)}"
        return wire.decode(await self._request("GET", path, None), wire.Certificate, what=f"the hub's answer to {path}")

    async def body(self, root: bytes, digest: bytes, *, leaf_count: int) -> statement.Body:
        """All pages. `leaf_count` must come from a header whose signatures were checked: it bounds what a hub can make us read."""
        leaves: list[statement.Leaf] = []
        carry, page, pages = "", 0, 1
        while page < pages:
            path = f"/v1/bodies/{hashing.hex0x(root)}?digest={hashing.hex0x(digest)}&page={page}"
            answer = await self._get(path, _BodyPage)
            leaves += [wire.leaf_from_wire(leaf) for leaf in answer.leaves]
            if len(leaves) > leaf_count or (not answer.leaves and page > 0):
                raise errors.BadAnswer("the hub's body has another number of leaves than was signed", value=len(leaves))
            carry = answer.carry if page == 0 else carry
            page, pages = page + 1, answer.pages
        return statement.Body(leaves=tuple(leaves), carry=carry.encode())

    async def _send(self, path: str, payload: bytes, type_: type[T]) -> T:
        return wire.decode(await self._request("POST", path, payload), type_, what=f"the hub's answer to {path}")

    async def _get(self, path: str, type_: type[T]) -> T:
        """A refused question is a matter of configuration or of a proxy in between: asked again later, never a reason to stop."""
        try:
            answer = await self._request("GET", path, None)
        except Refused as error:
            shown = path.partition("?")[0]
            raise errors.Transient(
                f"the hub refuses {shown}: {error.what}",
                cure="check hub.url and hub.token_file",
                retry_after_s=REFUSED_S,
            ) from None
        return wire.decode(answer, type_, what=f"the hub's answer to {path}")

    async def _request(self, method: str, path: str, payload: bytes | None) -> bytes:
        body_out = None if payload is None else io.BytesIO(payload)  # aiohttp warns of large bytes objects
        headers = self._headers if payload is None else {**self._headers, "Content-Type": "application/json"}
        try:
            async with self._session.request(
                method,
                self.url + path,
                data=body_out,
                headers=headers,
                timeout=self._timeout,
                allow_redirects=False,
                ssl=self._tls,
            ) as response:
                body = await _read(response)
                retry_after = response.headers.get("Retry-After", "")
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._away(error) from None
        if status in (200, 202):
            return body
        wait = float(retry_after) if retry_after.isdecimal() and len(retry_after) < 6 else None
        if status in (429, 503) or status >= 500 or status < 400:
            said = _title(body)
            raise errors.Transient(f"the hub answered {status}{said}", value=path.partition("?")[0], retry_after_s=wait)
        try:
            problem = msgspec.json.decode(body, type=wire.Problem)
        except msgspec.MsgspecError:
            problem = wire.Problem(title="unreadable answer", status=status, detail=body[:100].decode(errors="replace"))
        raise Refused(status, problem, retry_after_s=wait)

    def _away(self, error: BaseException) -> errors.Transient:
        explained = tls_.explain(error, peer="the hub")
        if explained is not None:
            return errors.Transient(explained[0], value=self.url, cure=explained[1])
        cure = "check hub.url and the hub's /readyz"
        if isinstance(error, aiohttp.ServerDisconnectedError | ConnectionResetError) and self.url.startswith("http:"):
            cure += "; a hub that speaks TLS hangs up on http://"
        return errors.Transient(f"the hub does not answer: {type(error).__name__}", value=self.url, cure=cure)


def _title(body: bytes) -> str:
    """What a hub that is busy or broken says about it, when it says so in our words."""
    try:
        return f": {errors.clip(msgspec.json.decode(body, type=wire.Problem).title, 80)}"
    except msgspec.MsgspecError:
        return ""


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body, up to MAX_BYTES."""
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_chunked(1 << 16):
        size += len(part)
        if size > MAX_BYTES:
            raise errors.BadAnswer("the hub's answer is too large", value=size)
        parts.append(part)
    return b"".join(parts)
