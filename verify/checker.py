"""The verifier's one entry. In: a statement file, maybe a node. Out: a `Report`.

Modes: offline (always), one step from the previous certified frame (always, from the file's logs; from the chain's with `rpc`),
in full from the stream's first block (`full`, needs `rpc`). Every stage runs unless one that it needs has failed.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar, cast

from verify import checks, contents, document, onchain, strict
from verify.primitives import hexed
from verify.report import Difference, Finding, Report, Unusable, shown
from verify.rpc import Rpc
from verify.strict import Json, Node

T = TypeVar("T")


def check(
    file_path: str | Path, *, rpc: str | None = None, full: bool = False, document_path: str | Path | None = None
) -> Report:
    """Verify one statement file. `rpc` is an http(s) URL of an execution node that the reader trusts to be of the right chain;
    `document_path` the reader's own copy of the deployment document (JSON or TOML), which the file's must not contradict."""
    stages = _Stages(Report(str(file_path)))
    statement = stages.run("file", lambda: contents.load(file_path))
    if full and rpc is None:
        stages.run("full", _needs_node)
    if statement is not None:
        _check(stages, statement, rpc=rpc, full=full, document_path=document_path)
    return stages.report


def _needs_node() -> str:
    raise Unusable("--full", "deriving every frame anew needs a node: pass --rpc URL")


class _Stages:
    """Runs stages and keeps what they found. A stage that fails yields None."""

    def __init__(self, report: Report) -> None:
        self.report = report

    def run(self, name: str, work: Callable[[], T]) -> T | None:
        """The result of `work`; a text becomes the line of an ok finding."""
        try:
            result = work()
        except Difference as error:
            found = Finding("difference", name, error.what, error.where, error.expected, error.got)
        except Unusable as error:
            found = Finding("unusable", name, error.what, error.where)
        else:
            self.report.findings.append(Finding("ok", name, result if isinstance(result, str) else "well formed"))
            return result
        self.report.findings.append(found)
        return None

    def get(self, name: str, work: Callable[[], T]) -> T | None:
        """Like `run`, without a line when all is well."""
        before = len(self.report.findings)
        result = self.run(name, work)
        if result is not None:
            del self.report.findings[before:]
        return result

    def skip(self, name: str, why: str) -> None:
        self.report.findings.append(Finding("skipped", name, why))

    def note(self, name: str, text: str) -> None:
        self.report.findings.append(Finding("note", name, text))


def _check(
    stages: _Stages, statement: contents.Statement, *, rpc: str | None, full: bool, document_path: str | Path | None
) -> None:
    statement = _document(stages, statement, document_path)
    frame = stages.get("header", lambda: checks.place(statement))
    if frame is None:
        return
    stages.report.subject = (
        f"frame {frame.header.sequence} revision {frame.header.revision} of stream {shown(frame.stream.name, quote=False)}, "
        f"deployment {shown(statement.document.name, quote=False)}"
    )
    rules = stages.get("ruleset", lambda: checks.ruleset(statement, frame))
    digest = _signed(stages, frame, "")
    previous = _previous(stages, statement, frame, certified=digest is not None)
    stages.run("receipts", lambda: checks.receipts(statement, frame.stream))
    if rules is None or digest is None or previous is None:
        for name in ("evidence", "leaves", "carry"):
            stages.skip(name, "something before it failed")
        return
    step = _Step(statement, frame, rules, previous.frame)
    if rpc is None:
        _offline_step(stages, step)
    else:
        _chain_step(stages, step, rpc, full=full)


def _document(stages: _Stages, statement: contents.Statement, path: str | Path | None) -> contents.Statement:
    """The statement, to be judged by the reader's own document when that continues the file's: it may know of signers who were
    replaced since, or of a revision."""
    theirs = statement.document
    if path is None:
        stages.run("document", lambda: f"deployment {hexed(theirs.deployment)}")
        stages.note("document", "it comes from the file itself: compare it with your copy, or pass --document")
        return statement

    def compare() -> document.Document:
        found = _own_document(path)
        document.check_against(found, theirs)
        return found

    ours = stages.get("document", compare)
    if ours is None:
        return statement
    stages.run("document", lambda: f"your copy agrees, deployment {hexed(theirs.deployment)}")
    return replace(statement, document=ours)


def _own_document(path: str | Path) -> document.Document:
    data = contents.slurp(path)
    if Path(path).suffix != ".toml":
        return document.read(strict.parse(data, "your document"))
    try:
        parsed = cast("Json", tomllib.loads(data.decode()))
    except (ValueError, RecursionError) as error:  # ValueError: not TOML, not UTF-8, an endless number
        raise Unusable("your document", f"not TOML: {shown(str(error), quote=False)}") from None
    return document.read(Node(parsed, "your document"))


def _signed(stages: _Stages, frame: checks.Frame, prefix: str, *, revision: int | None = None) -> bytes | None:
    """Header, digest, signatures, body. The digest when all of them hold."""
    ok = stages.run(f"{prefix}header", lambda: checks.header(frame, revision=revision)) is not None
    digest = stages.get(f"{prefix}digest", lambda: checks.digest(frame))
    if digest is not None:
        ok = stages.run(f"{prefix}signatures", lambda: checks.signatures(frame, digest)) is not None and ok
    ok = stages.run(f"{prefix}body", lambda: checks.body(frame)) is not None and ok
    return digest if ok else None


class _Previous:
    """The certified frame before, or the knowledge that there is none."""

    def __init__(self, frame: checks.Frame | None) -> None:
        self.frame = frame


def _previous(
    stages: _Stages, statement: contents.Statement, frame: checks.Frame, *, certified: bool
) -> _Previous | None:
    found = stages.get("previous", lambda: _Previous(checks.before(statement, frame)))
    if found is None or found.frame is None:
        return found
    earlier, head = found.frame, frame.header
    revision = statement.document.revision_before(frame.stream, head.sequence, head.revision)
    digest = _signed(stages, earlier, "previous ", revision=revision)
    if digest is None or not certified:
        stages.skip("previous", "a certificate failed")
        return None
    return found if stages.run("previous", lambda: checks.follows(frame, earlier, digest)) is not None else None


class _Step:
    """What one step from the previous frame needs."""

    def __init__(
        self,
        statement: contents.Statement,
        frame: checks.Frame,
        rules: checks.Ruleset,
        previous: checks.Frame | None,
    ) -> None:
        self.statement = statement
        self.frame = frame
        self.rules = rules
        self.previous = previous
        self.after_time = 0 if previous is None else previous.header.to_time


def _offline_step(stages: _Stages, step: _Step) -> None:
    logs = step.statement.logs

    def evidence() -> str:
        folded = checks.evidence(logs, step.rules, step.frame.header, after_time=step.after_time)
        return checks.evidence_equals(folded, step.frame.header, len(logs))

    if stages.run("evidence", evidence) is None:
        stages.skip("leaves", "the logs are not those that were signed")
        return
    stages.note("evidence", "that these are the chain's logs is vouched for by the signers: pass --rpc to prove it")
    _replayed(stages, step, logs)


def _replayed(stages: _Stages, step: _Step, logs: tuple[contents.Log, ...]) -> None:
    body = step.frame.signed.body
    carry = None if step.previous is None else step.previous.signed.body.carry
    ledger = stages.get("replay", lambda: checks.step(carry, "statement.previous.body.carry", logs, step.rules))
    if ledger is None:
        return
    stages.run("leaves", lambda: checks.equal_leaves(ledger, body.leaves, step.frame.stream, step.rules.protocol))
    stages.run("carry", lambda: checks.equal_carry(ledger, strict.parse_text(body.carry, f"{body.path}.carry")))


def _chain_step(stages: _Stages, step: _Step, url: str, *, full: bool) -> None:
    node = stages.get("chain", lambda: Rpc(url))
    if node is None:
        return
    head, stream = step.frame.header, step.frame.stream
    chain = step.frame.document.chain(stream)
    if stages.run("chain", lambda: onchain.identify(node, chain)) is None:
        return
    if stages.run("anchor", lambda: onchain.anchor(node, chain, head)) is None:
        stages.skip("logs", "the frame's last block is not the chain's")
        return
    proven = stages.get(
        "logs", lambda: onchain.frame(node, step.rules, first=head.from_position, last=head.to_position)
    )
    if proven is None:
        return
    stages.run("logs", lambda: onchain.same_edges(proven, head))
    stages.run("logs", lambda: onchain.same_logs(proven.logs, step.statement.logs))

    def evidence() -> str:
        folded = checks.evidence(proven.logs, step.rules, head, after_time=step.after_time)
        return checks.evidence_equals(folded, head, len(proven.logs))

    stages.run("evidence", evidence)
    _replayed(stages, step, proven.logs)
    if full:
        stages.run("full", lambda: onchain.from_start(node, step.statement, step.frame))
