"""Ask a server everything its OpenAPI document allows, and what it forbids. In: the document and an address. Out: how much was asked, or
an AssertionError that says which request broke which rule, and the seed that makes it happen again.

Rules: no 5xx; every answer is one that the document describes, of its type and shape; nothing of the inside (a traceback, a statement of
the database, a path, a canary) shows in it.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi import checks

TIMEOUT_S = 20.0
LEAKS = re.compile(
    rb'Traceback \(most|File "[^"]+", line|sqlalchemy|sqlite3?\.|asyncpg|SELECT .+ FROM|INSERT INTO|/site-packages/|\.py:\d+|'
    rb"-----BEGIN [A-Z ]*PRIVATE KEY|0x[0-9a-f]+>"
)
"""What belongs into a log, if anywhere."""


class Report:
    """`asked` counts requests by operation, `statuses` answers by status."""

    def __init__(self, used: int) -> None:
        self.seed = used
        self.asked: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()


async def run(
    openapi_path: Path,
    base_url: str,
    headers: Mapping[str, str],
    *,
    max_examples: int = 20,
    seed: int | None = None,
    skip: Iterable[str] = (),
    canaries: Sequence[bytes] = (),
    may_be_unavailable: Iterable[str] = (),
) -> Report:
    """`max_examples` for each operation, twice: as the document allows and as it forbids. `skip` names paths (`/v1/feed`: it never ends),
    `may_be_unavailable` those whose 503 is an answer (`/readyz`). The seed is STAKESIDE_FUZZ_SEED, or random and printed."""
    chosen = int(os.environ.get("STAKESIDE_FUZZ_SEED") or random.randrange(1 << 32)) if seed is None else seed
    print(f"fuzz seed {chosen} (STAKESIDE_FUZZ_SEED={chosen} repeats it)")
    asking = _Asking(base_url, headers, Report(chosen), canaries, frozenset(may_be_unavailable))
    operations = [operation for operation in _operations(openapi_path) if operation.path not in frozenset(skip)]
    await asyncio.to_thread(asking.everything, operations, max_examples)
    print(
        f"fuzzed: {sum(asking.report.asked.values())} requests, answers {dict(sorted(asking.report.statuses.items()))}"
    )
    return asking.report


def _operations(path: Path) -> list[Any]:
    return [result.ok() for result in schemathesis.openapi.from_path(path).get_all_operations()]


class _Asking:
    def __init__(
        self,
        base_url: str,
        headers: Mapping[str, str],
        report: Report,
        canaries: Sequence[bytes],
        unavailable: frozenset[str],
    ) -> None:
        self.report = report
        self._base_url = base_url
        self._headers = dict(headers)
        self._canaries = [*canaries, *(value.partition(" ")[2].encode() for value in headers.values())]
        self._unavailable = unavailable
        self._session = requests.Session()

    def everything(self, operations: list[Any], max_examples: int) -> None:
        with self._session:
            for operation in operations:
                for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                    self._one(operation, mode, max_examples)

    def _one(self, operation: Any, mode: GenerationMode, max_examples: int) -> None:
        name = f"{operation.method.upper()} {operation.path}"

        @seed(self.report.seed)
        @settings(
            max_examples=max_examples,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],  # one request that breaks a rule is enough; making it smaller asks a hundred more
        )
        @given(operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            self._ask(name, case)

        try:
            ask()
        except Unsatisfiable:
            if mode == GenerationMode.POSITIVE:
                raise
            return  # an operation without inputs has nothing to forbid
        except AssertionError as error:
            raise AssertionError(f"{error}\nseed {self.report.seed}") from None

    def _ask(self, name: str, case: Any) -> None:
        response = case.call(
            base_url=self._base_url,
            session=self._session,
            headers=self._headers,
            timeout=TIMEOUT_S,
            allow_redirects=False,
        )
        self.report.asked[name] += 1
        self.report.statuses[response.status_code] += 1
        shown = f"{case.as_curl_command()}\n{response.status_code} {response.content[:500]!r}"
        available = response.status_code < 500 or (
            response.status_code == 503 and name.partition(" ")[2] in self._unavailable
        )
        assert available, f"{name} fails: {shown}"
        whole = response.content + repr(response.headers).encode()
        leak = LEAKS.search(whole)
        assert leak is None, f"{name} shows its inside ({leak[0] if leak else b''!r}): {shown}"
        assert not any(canary in whole for canary in self._canaries if canary), f"{name} shows a secret: {shown}"
        try:
            case.validate_response(response, checks=CHECKS)
        except (Failure, FailureGroup) as error:
            found = "; ".join(str(one) for one in getattr(error, "exceptions", [error]))
            raise AssertionError(f"{name} is not as described: {found}\n{shown}") from None


CHECKS = [
    getattr(checks, name)
    for name in (
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    )
]
