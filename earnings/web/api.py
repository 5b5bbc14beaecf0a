"""The JSON API. In: agents' attestations and bodies, consumers' questions. Out: receipts, certificates, bodies, proofs.

Agents need no token: what they send is signed. Consumers need one. `docs/wire/openapi.json` describes every route.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from aiohttp import web

from domain import errors, hashing, merkle, statement, wire
from earnings import book, leases, queries, receipts, sealing, votes
from earnings.ingest import Refused
from earnings.intake import Intake, Wires
from earnings.web import guard
from earnings.web.guard import Tokens, refusal, require, tagged
from kit import http

ATTESTATION_BYTES = 64 << 10
"""The largest valid one has about 8 KiB; a context of control characters is six times as long when escaped."""
REPLACEMENT_BYTES = 8 << 10
LEASE_BYTES = 2 << 10
SAID = {
    "/v1/attestations": ATTESTATION_BYTES,
    "/v1/replacements": REPLACEMENT_BYTES,
    "/v1/leases": LEASE_BYTES,
}
"""What agents sign, with the longest body of each."""
FREE = frozenset({("GET", "/v1/wanted"), ("POST", "/v1/bodies/{root}")})
"""The one waits for nothing, the other has `CHUNKS` and `KNOWN_CHUNKS`."""
CHUNK_BYTES = 8 << 20
CHUNKS = guard.Reading(total=128, each=48, bytes_total=32 << 20, bytes_each=16 << 20)
"""Chunks of strangers in memory at a time, from their first byte until they are kept or refused."""
KNOWN_CHUNKS = guard.Reading(total=128, each=128, bytes_total=64 << 20, bytes_each=64 << 20)
"""The same of those who show a token or a certificate, apart from strangers'."""
CHUNKS_AT_WORK = 4
"""Chunks that are parsed and written at a time, of strangers and of the others each: parsed, one takes many times its bytes."""
TREES = 4
"""Merkle trees kept for proofs: consumers ask for many proofs of one statement."""


class Api:
    def __init__(
        self,
        the_book: book.Book,
        wires: Wires,
        intake: Intake,
        desk: leases.Desk,
        clerk: receipts.Clerk,
        sealer: sealing.Sealer,
        tokens: Tokens,
    ) -> None:
        self._book = the_book
        self._wires = wires
        self._intake = intake
        self._desk = desk
        self._clerk = clerk
        self._sealer = sealer
        self._tokens = tokens
        self._trees: OrderedDict[bytes, tuple[bytes, list[statement.Leaf], list[bytes]]] = OrderedDict()
        self._growing = asyncio.Lock()
        self._uploads = {known: guard.Arrivals(KNOWN_CHUNKS if known else CHUNKS) for known in (False, True)}
        self._at_work = {known: asyncio.Semaphore(CHUNKS_AT_WORK) for known in (False, True)}

    def routes(self) -> list[web.RouteDef]:
        def consumer(path: str, handler: http.Handler) -> web.RouteDef:
            return web.get(path, require(self._tokens, handler))

        return [
            web.post("/v1/attestations", self.attest),
            web.post("/v1/replacements", self.replace),
            web.post("/v1/leases", self.lease),
            web.get("/v1/wanted", self.wanted),
            web.post("/v1/bodies/{root}", self.upload),
            web.get("/v1/receipts/{attester}", self.receipts),
            consumer("/v1/streams", self.streams),
            consumer("/v1/streams/{id}/frames", self.frames),
            consumer("/v1/statements/{digest}", self.statement),
            consumer("/v1/bodies/{root}", self.body),
            consumer("/v1/proofs/{digest}/{subject}", self.proof),
        ]

    async def attest(self, request: web.Request) -> web.Response:
        return _answer(await self._intake.attest(guard.said(request)))

    async def replace(self, request: web.Request) -> web.Response:
        return _answer(await self._intake.replace(guard.said(request)))

    async def lease(self, request: web.Request) -> web.Response:
        answer = await self._desk.ask(guard.said(request), source=guard.source(request, self._tokens))
        return refusal(answer) if isinstance(answer, Refused) else http.json_response(answer)

    async def wanted(self, request: web.Request) -> web.Response:
        attester = _bytes(request.query.get("attester"), size=20, what="attester")
        return http.json_response({"wanted": self._intake.wanted(attester)})

    async def upload(self, request: web.Request) -> web.Response:
        guard.check_length(request, max_bytes=CHUNK_BYTES)
        root = request.match_info["root"]
        refused = self._intake.welcome(root)
        if refused is not None:
            return refusal(refused)
        source = guard.source(request, self._tokens)
        known = guard.known(request, source)
        async with self._uploads[known].hold(request, source=source, max_bytes=CHUNK_BYTES) as data:
            async with self._at_work[known]:
                refused = await self._intake.upload(root, data, source=source)
        return refusal(refused) if refused is not None else web.Response(status=202)

    async def receipts(self, request: web.Request) -> web.Response:
        attester = _bytes(request.match_info["attester"], size=20, what="attester")
        first = http.query_int(request, "from", default=1, minimum=1, maximum=1 << 62)
        async with self._book.look() as c:
            found = await self._clerk.page(c, attester=attester, first=first)
        return http.json_response({"receipts": found})

    async def streams(self, request: web.Request) -> web.Response:
        async with self._book.look() as c:
            found = await queries.streams(c, self._wires.seats, self._sealer.waiting)
        return tagged(request, {"streams": found})

    async def frames(self, request: web.Request) -> web.Response:
        stream = _bytes(request.match_info["id"], size=32, what="stream")
        first = http.query_int(request, "from", default=0, minimum=0, maximum=1 << 62)
        limit = http.query_int(request, "limit", default=64, minimum=1, maximum=queries.PAGE_FRAMES)
        seats = self._wires.seats
        if stream not in seats.streams:
            return _missing("the deployment document has no such stream")
        async with self._book.look() as c:
            waiting = self._sealer.waiting.get(stream)
            found = await queries.frames(c, seats, stream, first=first, limit=limit, waiting=waiting)
        return tagged(request, found)

    async def statement(self, request: web.Request) -> web.Response:
        digest = _bytes(request.match_info["digest"], size=32, what="digest")
        async with self._book.look() as c:
            found = await queries.certificate(c, digest)
        return _missing("no sealed statement has this digest") if found is None else tagged(request, found)

    async def body(self, request: web.Request) -> web.Response:
        root = _bytes(request.match_info["root"], size=32, what="root")
        text = request.query.get("digest")
        digest = None if text is None else _bytes(text, size=32, what="digest")
        page = http.query_int(request, "page", default=0, minimum=0, maximum=1 << 32)
        async with self._book.look() as c:
            known = await queries.sealed_with_root(c, root, digest)
        tree = None if known is None else await self._tree(known.digest)
        found = None
        if known is not None and tree is not None:
            carry = await self._carry(known) if page == 0 else None
            found = await asyncio.to_thread(queries.body_page, tree[1], carry, page)
        if found is None:
            return _missing("no sealed statement has this body, or the body has no such page")
        return tagged(request, found, immutable=digest is not None)

    async def proof(self, request: web.Request) -> web.Response:
        digest = _bytes(request.match_info["digest"], size=32, what="digest")
        subject = _bytes(request.match_info["subject"], size=32, what="subject")
        tree = await self._tree(digest)
        if tree is None:
            return _missing("no sealed statement has this digest")
        root, leaves, nodes = tree
        proofs = await asyncio.to_thread(_proofs, leaves, nodes, subject)
        if not proofs:
            return _missing("the statement has no leaf of this subject")
        return tagged(
            request,
            {"digest": hashing.hex0x(digest), "bodyRoot": hashing.hex0x(root), "leaves": proofs},
            immutable=True,
        )

    async def _tree(self, digest: bytes) -> tuple[bytes, list[statement.Leaf], list[bytes]] | None:
        """Root, leaves and nodes of a sealed statement, kept only when they are the signed ones. Raises StoreError otherwise."""
        async with self._growing:  # one at a time: a tree may be large
            found = self._trees.get(digest)
            if found is None:
                async with self._book.look() as c:
                    sealed = await queries.sealed_leaves(c, digest)
                if sealed is None:
                    return None
                known, leaves = sealed
                nodes = await asyncio.to_thread(_grow, leaves)
                if nodes[0] != known.header.body_root:
                    raise errors.StoreError(
                        "the leaves in the hub's book do not hash to the sealed root", value=hashing.hex0x(digest)
                    )
                found = self._trees[digest] = (known.header.body_root, leaves, nodes)
                while len(self._trees) > TREES:
                    self._trees.popitem(last=False)
            self._trees.move_to_end(digest)
            return found

    async def _carry(self, known: votes.Known) -> bytes:
        """Raises StoreError when it is not the signed one."""
        async with self._book.look() as c:
            found = await sealing.carry(c, known.header.carry)
        if found is None or await asyncio.to_thread(hashing.keccak256, found) != known.header.carry:
            raise errors.StoreError(
                "the carry in the hub's book does not hash to the sealed one", value=hashing.hex0x(known.digest)
            )
        return found


def _grow(leaves: list[statement.Leaf]) -> list[bytes]:
    return merkle.tree([leaf.hash() for leaf in leaves])


def _proofs(leaves: list[statement.Leaf], nodes: list[bytes], subject: bytes) -> list[dict[str, object]]:
    return [
        {
            "leaf": wire.leaf_to_wire(leaf),
            "proof": [hashing.hex0x(node) for node in merkle.proof(nodes, leaf.hash())],
        }
        for leaf in leaves
        if leaf.subject == subject
    ]


def _answer(answer: wire.Accepted | Refused) -> web.Response:
    return refusal(answer) if isinstance(answer, Refused) else http.json_response(answer)


def _missing(detail: str) -> web.Response:
    return http.problem(404, "not found", detail)


def _bytes(text: str | None, *, size: int, what: str) -> bytes:
    """Raises BadAnswer (→ 400)."""
    return hashing.unhex_lower(text, size=size, what=what)
