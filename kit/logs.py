"""Structured logs. In: an event name and fields. Out: one line a call on stderr, JSON or for a person, with secrets removed.

Event names are stable (`service.degraded`, `index.reorg`): people alert on them. Fields named like a secret lose their value; addresses
of nodes lose passwords and API keys; error texts lose anything that looks like a private key.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Collection, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Literal, TextIO, cast

if "rich" not in sys.modules:
    # structlog imports rich where it is installed, only to colour tracebacks: 70 ms and 6 MB that an agent has no use for.
    sys.modules["rich"] = None  # pyright: ignore[reportArgumentType]
    import structlog

    del sys.modules["rich"]
else:
    import structlog

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger, Processor

Format = Literal["console", "json"]
Level = Literal["debug", "info", "warning", "error"]
LEVELS: dict[str, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}
HIDDEN = "[redacted]"
LONGEST = 1000
"""Characters of a line that somebody else wrote."""
MOST = 20_000
"""How much of such a text is looked at."""

_SECRET_NAME = re.compile(
    r"(?:^|[_\-. ])(?:api|auth|access|private|priv|secret|signing|bearer|session)?"
    r"(?:key|token|password|passwd|passphrase|pin|secret|mnemonic|authorization|cookie|credential)s?$"
)
_SECRET_WORD = re.compile(r"(?:^|[_\-. ])(?:secret|password|passphrase|mnemonic|private)(?:[_\-. ]|$)")
_NOT_SECRET = re.compile(r"(?:public|receipt|row|cache|sort|natural)[_\-. ]?keys?$|_(?:file|path|id)$")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_KEY_LIKE = re.compile(r"(?<![0-9a-fA-F])(?:0x)?[0-9a-fA-F]{64}(?![0-9a-fA-F])")
_TOKEN_LIKE = re.compile(r"(?:stk|sks)_[A-Za-z0-9_-]{43}")
_URL = re.compile(r"\b([a-z][a-z0-9+.\-]*)://([^\s'\"<>]+)", re.IGNORECASE)
_ERROR_FIELDS = ("error", "exception", "reason", "why", "detail", "message")


def logger() -> FilteringBoundLogger:
    return cast("FilteringBoundLogger", structlog.get_logger())


def configure(format_: Format = "console", level: Level = "info", *, stream: TextIO | None = None) -> None:
    """Once per process. Library logs of WARNING and above join ours as `library.message`."""
    out = stream or sys.stderr
    if format_ == "json":
        last: list[Processor] = [structlog.processors.format_exc_info, redact, structlog.processors.JSONRenderer()]
    else:
        last = [
            structlog.processors.format_exc_info,
            redact,
            structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback),
        ]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [_Bridge()]
    root.setLevel(max(LEVELS[level], logging.WARNING))


class _Bridge(logging.Handler):
    """What libraries say, in our format."""

    def emit(self, record: logging.LogRecord) -> None:
        logger().log(
            record.levelno,
            "library.message",
            logger=record.name,
            message=record.getMessage(),
            exc_info=record.exc_info or None,
        )


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The last processor before rendering."""
    for name, value in list(event.items()):
        event[name] = _clean(name, value)
    return event


def _clean(name: str, value: object) -> object:
    if secret_name(name):
        return HIDDEN
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, str):
        return scrub(value) if name in _ERROR_FIELDS else hide_tokens(_hide_urls(value))
    if isinstance(value, BaseException):
        return scrub(f"{type(value).__name__}: {value}")
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value)
        return {str(key): _clean(str(key), item) for key, item in items.items()}
    if isinstance(value, list | tuple):
        return [_clean(name, item) for item in cast("list[object]", value)]
    return value


def secret_name(name: str) -> bool:
    """Whether a field or setting of this name holds a secret itself (a `…_file` only names where one is)."""
    words = _CAMEL.sub("_", name).lower()
    if _NOT_SECRET.search(words):
        return False
    return bool(_SECRET_NAME.search(words) or _SECRET_WORD.search(words))


def scrub(text: str, *, known: Collection[bytes] = ()) -> str:
    """An error text without passwords in addresses and without anything that has the shape of a private key.

    A block hash has that shape too: name blocks by `BlockRef`, whose text is short, or put hashes into fields of their own. `known` are hashes
    that the caller has computed and wants to be read."""
    kept = {"0x" + one.hex() for one in known}

    def hide(found: re.Match[str]) -> str:
        return found[0] if found[0] in kept else "[64 hex digits withheld]"

    return hide_tokens(_KEY_LIKE.sub(hide, _hide_urls(text)))


def line(text: str, limit: int = LONGEST, *, known: Collection[bytes] = ()) -> str:
    """What somebody else wrote, as it may be kept and shown: scrubbed, on one line, bounded, with nothing unprintable in it. `known` as for
    `scrub`."""
    if len(text) > MOST:
        # A word that the bound would cut may be a secret that is then known by its shape no more.
        text = text[: MOST - 200].rpartition(" ")[0] or "[too long]"
    clean = scrub(text, known=known)
    shown = "".join([char if char.isprintable() else char.encode("unicode_escape").decode() for char in clean])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def hide_tokens(text: str) -> str:
    """Without anything that has the shape of a principal's token or of a session's."""
    return _TOKEN_LIKE.sub("[token withheld]", text)


def safe_url(url: str) -> str:
    """Scheme, host and port. Paths and queries of node addresses carry API keys, user parts carry passwords."""
    return _hide_urls(url)


def _hide_urls(text: str) -> str:
    return _URL.sub(_hide_url, text) if "://" in text else text


def _hide_url(match: re.Match[str]) -> str:
    scheme, rest = match.group(1), match.group(2)
    if scheme.lower() in ("sqlite", "file"):
        return match.group(0)
    authority, slash, path = rest.partition("/")
    authority, question, _ = authority.partition("?")
    user, at, host = authority.rpartition("@")
    shown = f"{scheme}://{'***@' if at and user else ''}{host}"
    if question:
        return shown + "?…"
    path, question, _ = path.partition("?")
    segments = ["…" if len(part) >= 20 else part for part in path.split("/")]
    return shown + slash + "/".join(segments) + ("?…" if question else "")
