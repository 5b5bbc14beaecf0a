"""JSON-RPC over urllib. In: method and parameters. Out: a `Node` of the result, or Unusable when the node does not answer well."""

from __future__ import annotations

import base64
import itertools
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException, HTTPMessage, HTTPResponse
from typing import IO

from verify import strict
from verify.report import Unusable, shown
from verify.strict import Json, Node

TIMEOUT_S = 30.0
"""The longest silence."""
ANSWER_S = 180.0
"""The longest answer, however diligently it trickles."""
MAX_BYTES = 256 << 20
BATCH = 50
"""Calls in one request: nodes commonly allow 100."""


class NoSuchMethod(Unusable):
    """The node does not serve a method; there may be another way to ask."""


class Rpc:
    """One execution node. Only http and https are spoken; credentials of the URL are never shown."""

    def __init__(self, url: str) -> None:
        try:
            parts = urllib.parse.urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port, parts = None, None, urllib.parse.urlsplit("")
        if parts.scheme not in ("http", "https") or not host:
            raise Unusable("--rpc", "it must be an http:// or https:// URL of an execution node")
        self.name = f"node {shown(host, quote=False)}" + (f":{port}" if port else "")
        place = parts.netloc.rpartition("@")[2]
        self._url = urllib.parse.urlunsplit((parts.scheme, place, parts.path, parts.query, ""))
        self._headers = {"content-type": "application/json"}
        if parts.username is not None:
            pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
            self._headers["authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        self._opener = urllib.request.build_opener(_NoRedirects)
        self._ids = itertools.count(1)

    def call(self, method: str, *params: Json) -> Node:
        return self.batch([(method, list(params))])[0]

    def batch(self, calls: Sequence[tuple[str, list[Json]]]) -> list[Node]:
        """Results in the order of the calls."""
        found: list[Node] = []
        for start in range(0, len(calls), BATCH):
            found += self._post(calls[start : start + BATCH])
        return found

    def _post(self, calls: Sequence[tuple[str, list[Json]]]) -> list[Node]:
        ids = [next(self._ids) for _ in calls]
        requests: list[Json] = [
            {"jsonrpc": "2.0", "id": i, "method": method, "params": params}
            for i, (method, params) in zip(ids, calls, strict=True)
        ]
        answer = self._send(requests[0] if len(requests) == 1 else requests)
        answers = [answer] if len(requests) == 1 else list(answer.items())
        by_id: dict[int, Node] = {}
        for one in answers:
            if not one.get("id").is_null():
                by_id[one.get("id").integer()] = one
            else:
                self._raise(one, "request")
        return [self._result(by_id.get(i), method) for i, (method, _) in zip(ids, calls, strict=True)]

    def _result(self, answer: Node | None, method: str) -> Node:
        if answer is None:
            raise Unusable(self.name, f"it left {method} without an answer")
        if not answer.get("error").is_null():
            self._raise(answer, method)
        return Node(answer.get("result").value, f"{self.name} {method}")

    def _raise(self, answer: Node, method: str) -> None:
        error = answer.get("error")
        kind = NoSuchMethod if not error.is_null() and error.get("code").value == -32601 else Unusable
        message = "" if error.is_null() else error.get("message").value
        raise kind(self.name, f"it refuses {method}: {shown(str(message), quote=False)}")

    def _send(self, payload: Json) -> Node:
        try:
            request = urllib.request.Request(
                self._url, data=json.dumps(payload).encode(), headers=self._headers, method="POST"
            )
            with self._opener.open(request, timeout=TIMEOUT_S) as response:
                data = self._read(response)
        except urllib.error.HTTPError as error:
            raise Unusable(self.name, f"it answers with HTTP status {error.code}") from None
        except (OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise Unusable(self.name, f"it cannot be reached: {shown(str(reason), quote=False)}") from None
        return strict.parse(data, self.name)

    def _read(self, response: HTTPResponse) -> bytes:
        """The whole body, bounded in size and time."""
        ends = time.monotonic() + ANSWER_S
        parts: list[bytes] = []
        size = 0
        while part := response.read1(1 << 20):
            parts.append(part)
            size += len(part)
            if size > MAX_BYTES:
                raise Unusable(self.name, f"its answer is larger than {MAX_BYTES >> 20} MiB")
            if time.monotonic() > ends:
                raise Unusable(self.name, f"its answer takes longer than {ANSWER_S:.0f} s")
        if response.length:
            raise Unusable(self.name, f"its answer ends {response.length} bytes early")
        return b"".join(parts)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A node that sends its readers elsewhere is not the node they named."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None
