"""The faults the lying node knows. In: `NAME[:key=value,…]`. Out: a checked `Fault`.

Every fault takes these keys besides its own:

    methods=a|b   only these JSON-RPC methods (and `newHeads`, `logs` for subscription messages)
    p=0.3         fire with this probability
    count=2       fire at most twice (0: no limit); an answer the fault could not change is not counted
    skip=1        leave the first matching call alone
    for_s=5       stop five seconds after being armed (0: never)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import msgspec

from devnet.proxy import wordings
from domain import errors

Option = int | float | str

LOGS = ("eth_getLogs", "eth_getBlockReceipts", "eth_getTransactionReceipt", "logs")
HEADERS = ("eth_getBlockByNumber", "eth_getBlockByHash", "newHeads")
EVERY: tuple[str, ...] = ()


class Kind(msgspec.Struct, frozen=True):
    """One fault: `stage` says where it acts, `methods` what it touches unless told otherwise (empty: everything)."""

    name: str
    what: str
    stage: str
    methods: tuple[str, ...] = EVERY
    options: dict[str, Option] = {}


_SOME: dict[str, Option] = {"k": 1, "of": 0, "cover": 0}

_CALLED = ("eth_getLogs",)
_PUSHED = ("newHeads", "logs")
_RETRY: dict[str, Option] = {"retry_after": ""}
_PRUNED: dict[str, Option] = {"before": 0, "keep": 0, "style": "geth", "receipts": "same", "headers": "keep"}

_KINDS = (
    Kind("drop-logs", "leave out k logs (of=n: each with chance k/n, the same ones every time)", "result", LOGS, _SOME),
    Kind("drop-all-logs", "leave out every log", "result", LOGS, {"cover": 0}),
    Kind("alter-logs", "change one thing in k logs", "result", LOGS, {"what": "data", **_SOME}),
    Kind("duplicate-logs", "say k logs twice", "result", LOGS, _SOME),
    Kind("reorder-logs", "put the logs in another order", "result", LOGS, {"cover": 0}),
    Kind("invent-logs", "add k logs that never happened", "result", LOGS, {"k": 1, "cover": 0}),
    Kind("drop-receipts", "leave out k receipts of a block", "result", ("eth_getBlockReceipts",), {"k": 1}),
    Kind("empty", "answer an empty list", "request", ("eth_getLogs", "eth_getBlockReceipts")),
    Kind("null", "answer null", "request", ("eth_getBlockByNumber", "eth_getBlockByHash", "eth_getBlockReceipts")),
    Kind("error", "answer a JSON-RPC error", "request", EVERY, {"code": -32603, "message": "internal error"}),
    Kind("clamp-range", "cut toBlock to the head minus k, without a word", "request", _CALLED, {"k": 0}),
    Kind(
        "refuse-range", "refuse log ranges over `blocks` blocks", "request", _CALLED, {"blocks": 100, "style": "infura"}
    ),
    Kind("refuse-size", "refuse answers of over `logs` logs", "result", _CALLED, {"logs": 100, "style": "infura"}),
    Kind("lag", "answer as a node k blocks behind", "request", _CALLED, {"k": 5, "beyond": "clamp"}),
    Kind("head-back", "the whole node falls k blocks back", "request", EVERY, {"k": 5, "beyond": "error"}),
    Kind("pruned", "history below block `before` (or older than `keep` blocks) is gone", "request", EVERY, _PRUNED),
    Kind("swap-fork", "replace the last `depth` blocks just before the call", "request", _CALLED, {"depth": 1}),
    Kind("other-node", "let another node answer", "request", _CALLED, {"url": ""}),
    Kind("chain-id", "claim another chain id", "result", ("eth_chainId", "net_version"), {"id": 1}),
    Kind("genesis", "claim another genesis hash", "result"),
    Kind("wrong-header", "change a header's field under an unchanged hash", "result", HEADERS, {"field": "stateRoot"}),
    Kind("cut", "close the connection without forwarding", "before"),
    Kind("429", "too many requests (retry_after: seconds; empty for no header)", "before", EVERY, _RETRY),
    Kind("503", "service unavailable (retry_after: seconds; empty for no header)", "before", EVERY, _RETRY),
    Kind("html", "an HTML page with status 200", "before"),
    Kind("hang", "wait, before or after forwarding", "after", EVERY, {"seconds": 30.0, "when": "after"}),
    Kind("swallow", "forward, then close the connection without the reply", "after"),
    Kind("truncate", "send half a body (stream: announce it whole, then close)", "after", EVERY, {"how": "body"}),
    Kind("huge", "pad the body with `bytes` bytes", "after", EVERY, {"bytes": 256 << 20}),
    Kind("ws-refuse", "refuse the websocket handshake", "handshake"),
    Kind("ws-drop", "cut the websocket instead of sending a message", "socket", _PUSHED),
    Kind("ws-silent", "keep the websocket open and say nothing more on it", "socket", _PUSHED),
    Kind("ws-skip", "lose one message", "socket", _PUSHED),
    Kind("ws-repeat", "send one message twice", "socket", _PUSHED),
)

KINDS: dict[str, Kind] = {kind.name: kind for kind in _KINDS}

_CHOICES = {
    ("alter-logs", "what"): ("data", "topic", "address", "index", "tx", "block"),
    ("lag", "beyond"): ("clamp", "error"),
    ("head-back", "beyond"): ("clamp", "error"),
    ("pruned", "receipts"): ("same", "null", "empty", "error"),
    ("pruned", "headers"): ("keep", "null"),
    ("hang", "when"): ("before", "after"),
    ("truncate", "how"): ("body", "stream"),
    **{(name, "style"): styles for name, styles in wordings.STYLES.items()},
}

_CHOICES_TEXT = {key: "|".join(words) for key, words in _CHOICES.items()}


class Fault(msgspec.Struct, frozen=True):
    """A fault with its settings. `options` holds every option of its kind."""

    name: str
    methods: tuple[str, ...]
    options: dict[str, Option]
    p: float = 1.0
    count: int = 0
    skip: int = 0
    for_s: float = 0.0

    @property
    def kind(self) -> Kind:
        return KINDS[self.name]

    @property
    def stage(self) -> str:
        return "before" if self.options.get("when") == "before" else self.kind.stage

    def matches(self, method: str) -> bool:
        return not self.methods or method in self.methods

    def integer(self, option: str) -> int:
        return int(self.options[option])

    def text(self, option: str) -> str:
        return str(self.options[option])

    def __str__(self) -> str:
        shown: dict[str, Option] = {}
        if self.methods != self.kind.methods:
            shown["methods"] = "|".join(self.methods)
        for key, plain in (("p", 1.0), ("count", 0), ("skip", 0), ("for_s", 0.0)):
            if getattr(self, key) != plain:
                shown[key] = getattr(self, key)
        shown.update({k: v for k, v in self.options.items() if v != self.kind.options[k]})
        return self.name + (":" if shown else "") + ",".join(f"{k}={v}" for k, v in shown.items())


def parse(text: str) -> Fault:
    """`NAME[:key=value,…]` → Fault. Raises BadConfig naming the nearest known word."""
    name, _, rest = text.partition(":")
    name = name.strip().replace("_", "-")
    kind = KINDS.get(name)
    if kind is None:
        raise errors.BadConfig("no such fault", value=name, cure=_nearest(name, KINDS))
    common: dict[str, Option] = {}
    options = dict(kind.options)
    methods = kind.methods
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise errors.BadConfig(f"fault {name}: settings read key=value", value=part)
        if key == "methods":
            methods = tuple(filter(None, value.split("|")))
        elif key in options:
            options[key] = _typed(name, key, value, kind.options[key])
        elif key in ("count", "skip"):
            common[key] = _typed(name, key, value, 0)
        elif key in ("p", "for_s"):
            common[key] = _typed(name, key, value, 0.0)
        else:
            known = [*options, "methods", "count", "skip", "p", "for_s"]
            raise errors.BadConfig(f"fault {name} has no setting {key!r}", cure=_nearest(key, known))
    return msgspec.convert({"name": name, "methods": methods, "options": options, **common}, Fault, strict=False)


def describe() -> str:
    """The catalogue as text, for help pages."""
    lines: list[str] = []
    for kind in _KINDS:
        settings = " ".join(f"{k}={_CHOICES_TEXT.get((kind.name, k), v)}" for k, v in kind.options.items())
        lines.append(f"  {kind.name:<15}{kind.what}" + (f"  [{settings}]" if settings else ""))
    return "\n".join(lines)


def _typed(name: str, key: str, value: str, default: Option) -> Option:
    try:
        parsed = type(default)(value)
    except ValueError:
        raise errors.BadConfig(f"fault {name}: {key} wants {type(default).__name__}", value=value) from None
    choices = _CHOICES.get((name, key))
    if choices and parsed not in choices:
        raise errors.BadConfig(f"fault {name}: unknown {key}", value=value, cure="use " + ", ".join(choices))
    if not isinstance(parsed, str) and parsed < 0 and key != "code":
        raise errors.BadConfig(f"fault {name}: {key} is not negative", value=value)
    return parsed


def _nearest(word: str, known: Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(word, names, n=1)
    return f"did you mean {close[0]!r}?" if close else "known: " + ", ".join(names)
