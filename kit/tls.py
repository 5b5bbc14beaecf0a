"""TLS both ways. In: PEM files. Out: contexts that take up changed files by themselves, and errors that say what is wrong with which file.

A certificate is replaced by replacing its files: each new connection looks whether they changed, and takes the new ones when they are good
together; until then the old ones stay. Nothing of a key ever reaches an error or a log.
"""

from __future__ import annotations

import math
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from domain import errors
from kit import logs

REFUSED_LOG_S = 10.0
"""Refused handshakes are logged at most this often: anybody can fail."""
Role = Literal["server", "client"]
log = logs.logger()


class Files(msgspec.Struct, frozen=True):
    """`setting` is the table that names them, for errors. A server needs certificate and key; `ca` is whom it lets in. For a client, `ca` is
    whom it trusts (None: whom the system trusts), and certificate and key what it shows when it is asked."""

    setting: str
    certificate: Path | None = None
    key: Path | None = None
    ca: Path | None = None

    def paths(self) -> tuple[Path, ...]:
        return tuple(path for path in (self.certificate, self.key, self.ca) if path is not None)


class Term(msgspec.Struct, frozen=True):
    """From when to when a certificate is valid, in unix seconds."""

    begins_s: int
    ends_s: int


class Facts(msgspec.Struct, frozen=True):
    """What a certificate says of itself."""

    term: Term
    names: tuple[str, ...]

    def shown(self) -> str:
        day = time.strftime("%Y-%m-%d", time.gmtime(self.term.ends_s))
        return f"{', '.join(self.names) or 'no names'}, valid until {day}"


class Context(ssl.SSLContext):
    """Stands for the newest good files: asyncio asks it for every connection (`wrap_bio`), and gets one of the context in force."""

    files: Files
    facts: Facts | None

    def __new__(cls, protocol: int, files: Files, build: Callable[[Files], ssl.SSLContext], role: Role) -> Context:
        del files, build, role
        return super().__new__(cls, protocol)

    def __init__(self, protocol: int, files: Files, build: Callable[[Files], ssl.SSLContext], role: Role) -> None:
        del protocol
        self.files = files
        self._build = build
        self._role: Role = role
        self._seen = _stamp(files)
        self._current, self.facts = self._load()

    def wrap_bio(self, *args: Any, **kw: Any) -> ssl.SSLObject:
        self._refresh()
        return self._current.wrap_bio(*args, **kw)

    def terms(self) -> dict[str, Term]:
        """From when to when what is in force is valid, by its use: `server` or `client` is the own certificate, `clients-ca` or `hub-ca` the
        authority that others are known by (of several the first to end). The system's authorities are not ours to renew."""
        self._refresh()
        own, trusted = ("server", "clients-ca") if self._role == "server" else ("client", "hub-ca")
        found = {} if self.facts is None else {own: self.facts.term}
        if self.files.ca is not None:
            authorities = [_term(one) for one in self._current.get_ca_certs() if "notAfter" in one]
            found |= {trusted: min(authorities, key=lambda term: term.ends_s)} if authorities else {}
        return found

    def _refresh(self) -> None:
        seen = _stamp(self.files)
        if seen != self._seen:
            self._seen = seen
            try:
                self.reload()
            except errors.BadConfig as error:
                log.error("tls.not_rotated", error=str(error))

    def reload(self) -> None:
        """Raises BadConfig, and keeps what was in force, when the files are not good together."""
        self._seen = _stamp(self.files)
        self._current, self.facts = self._load()
        log.info(
            "tls.rotated", setting=self.files.setting, certificate=None if self.facts is None else self.facts.shown()
        )

    def _load(self) -> tuple[ssl.SSLContext, Facts | None]:
        built = self._build(self.files)
        return built, examine(self.files, role=self._role)


def terms(*contexts: Context | None) -> dict[str, Term]:
    """`Context.terms` of all that there are."""
    return {use: term for context in contexts if context is not None for use, term in context.terms().items()}


_TOLD = frozenset({"PEER_DID_NOT_RETURN_A_CERTIFICATE", "CERTIFICATE_VERIFY_FAILED", "UNSUPPORTED_PROTOCOL"})
"""What a peer that does speak TLS can do something about."""


class _Handshake(ssl.SSLObject):
    """A server's side, which tells a refused client why: asyncio ends a failed handshake without sending the alert that OpenSSL wrote, and
    says nothing to the operator. So such a failure first asks for more to read, on which asyncio sends what there is to send, and is raised
    when the client has reacted; the time for handshakes bounds that."""

    _failed: ssl.SSLError | None = None
    _told_s = -math.inf

    def do_handshake(self) -> None:
        if self._failed is not None:
            raise self._failed
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            self._tell(error)
            if error.reason not in _TOLD:
                raise
            self._failed = error
            raise ssl.SSLWantReadError from None

    @classmethod
    def _tell(cls, error: ssl.SSLError) -> None:
        now_s = time.monotonic()
        if now_s - cls._told_s >= REFUSED_LOG_S:
            cls._told_s = now_s
            log.warning("tls.refused", reason=error.reason or "the connection ended")


def server(files: Files) -> Context:
    """For listening. Raises BadConfig."""
    return Context(ssl.PROTOCOL_TLS_SERVER, files, _server, "server")


def client(files: Files) -> Context:
    """For connecting. The peer's name is always checked. Raises BadConfig."""
    return Context(ssl.PROTOCOL_TLS_CLIENT, files, _client, "client")


def _server(files: Files) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.sslobject_class = _Handshake
    _identify(context, files)
    if files.ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        _trust(context, files.ca, f"{files.setting}.client_ca_file")
    return context


def _client(files: Files) -> ssl.SSLContext:
    context = ssl.create_default_context() if files.ca is None else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if files.ca is not None:
        _trust(context, files.ca, f"{files.setting}.ca_file")
    if files.certificate is not None:
        _identify(context, files)
    return context


def _trust(context: ssl.SSLContext, path: Path, key: str) -> None:
    _readable(path, key)
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError:
        raise errors.BadConfig(f"{key} holds no certificates", value=str(path), cure="it has to be PEM text") from None


def _identify(context: ssl.SSLContext, files: Files) -> None:
    """Load certificate and key, saying which of both is wrong."""
    certificate, key = files.certificate, files.key
    assert certificate is not None and key is not None
    _readable(certificate, f"{files.setting}.certificate_file")
    _readable(key, f"{files.setting}.key_file")
    try:
        ssl.PEM_cert_to_DER_cert(_first_certificate(certificate, files.setting))
        context.load_cert_chain(certificate, key, password=_no_password)
    except _Locked:
        raise errors.BadConfig(
            f"{files.setting}.key_file is encrypted",
            value=str(key),
            cure="store it without a password, readable by this user only",
        ) from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise errors.BadConfig(
                f"{files.setting}.key_file is not the key of {files.setting}.certificate_file",
                value=str(key),
                cure="take both files from one issue of the certificate",
            ) from None
        raise errors.BadConfig(
            f"{files.setting}.key_file holds no private key, or its certificate is refused",
            value=f"{key} ({error.reason or 'not PEM'})",
            cure="both have to be PEM text",
        ) from None


def _first_certificate(path: Path, setting: str) -> str:
    text = path.read_text(encoding="ascii", errors="replace")
    start, end = text.find(ssl.PEM_HEADER), text.find(ssl.PEM_FOOTER)
    if start < 0 or end < start:
        raise errors.BadConfig(
            f"{setting}.certificate_file holds no certificate",
            value=str(path),
            cure="it has to be PEM text, the leaf first",
        )
    return text[start : end + len(ssl.PEM_FOOTER)]


def _readable(path: Path, key: str) -> None:
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise errors.BadConfig(
            f"{key} cannot be read: {error.strerror}", value=str(path), cure="check the path and who may read it"
        ) from None


class _Locked(Exception):
    """OpenSSL asked for a password."""


def _no_password() -> str:
    raise _Locked


def _stamp(files: Files) -> tuple[tuple[int, int, int] | None, ...]:
    """Changes whenever a file is written, replaced, or reached through another link."""
    found: list[tuple[int, int, int] | None] = []
    for path in files.paths():
        try:
            status = path.stat()
        except OSError:
            found.append(None)
        else:
            found.append((status.st_mtime_ns, status.st_ino, status.st_size))
    return tuple(found)


def examine(files: Files, *, role: Role) -> Facts | None:
    """What the own certificate says, found out as a peer would: by a handshake in memory, which trusts the certificate itself. None
    without one. Raises BadConfig when a peer would refuse it whatever it trusts: over, not yet begun, or for another purpose."""
    if files.certificate is None:
        return None
    # Whoever verifies trusts the file itself; the other side shows it. For a client's certificate both sides show it, since a server
    # always shows something.
    showing = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT if role == "client" else ssl.PROTOCOL_TLS_SERVER)
    checking = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if role == "client" else ssl.PROTOCOL_TLS_CLIENT)
    for context in (showing, checking):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    checking.verify_mode = ssl.CERT_REQUIRED
    checking.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    _identify(showing, files)
    if role == "client":
        _identify(checking, files)
    _trust(checking, files.certificate, f"{files.setting}.certificate_file")
    try:
        verified = _shake(showing, checking, role)
    except ssl.SSLCertVerificationError as error:
        raise errors.BadConfig(
            f"{files.setting}.certificate_file {_PROBLEMS.get(error.verify_code, error.verify_message)}",
            value=str(files.certificate),
            cure="issue a new one and replace the files; they are taken up without a restart",
        ) from None
    return _facts(verified)


def _shake(showing: ssl.SSLContext, checking: ssl.SSLContext, role: Role) -> ssl.SSLObject:
    """The side that verified."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    shower = showing.wrap_bio(there, back, server_side=role == "server")
    checker = checking.wrap_bio(back, there, server_side=role == "client")
    pending = [checker, shower]
    for _ in range(10):  # a handshake takes three turns
        for side in list(pending):
            try:
                side.do_handshake()
                pending.remove(side)
            except ssl.SSLWantReadError:
                pass
        if checker not in pending:
            return checker
    raise errors.BadConfig("the certificate cannot be used for TLS", cure="issue one with an RSA or ECDSA key")


def _facts(verified: ssl.SSLObject) -> Facts:
    found: dict[str, Any] = verified.getpeercert() or {}
    names = tuple(value for _, value in found.get("subjectAltName", ()))
    return Facts(_term(found), names)


def _term(said: Mapping[str, Any]) -> Term:
    """As the ssl module tells a certificate."""
    return Term(*(int(ssl.cert_time_to_seconds(str(said[key]))) for key in ("notBefore", "notAfter")))


_PROBLEMS = {
    9: "is not valid yet",
    10: "has expired",
    18: "is self-signed, and not among the trusted",
    19: "ends at an authority that is not among the trusted",
    20: "is signed by an authority that is not among the trusted",
    21: "is signed by an authority that is not among the trusted",
    26: "is not for this purpose (its extended key usage forbids it)",
    62: "is for another name",
    64: "is for another address",
}
"""OpenSSL's X509_V_ERR codes, as sentences about a certificate."""

_ALERTS = (
    ("CERTIFICATE_REQUIRED", "wants a client certificate", "name hub.certificate_file and hub.key_file"),
    ("UNKNOWN_CA", "does not trust the authority of our certificate", "ask for a certificate of its client_ca_file"),
    ("CERTIFICATE_EXPIRED", "says that our certificate has expired", "replace hub.certificate_file and hub.key_file"),
    ("BAD_CERTIFICATE", "refuses our certificate", "compare it with the peer's client_ca_file"),
    ("CERTIFICATE_UNKNOWN", "refuses our certificate", "compare it with the peer's client_ca_file"),
    ("UNSUPPORTED_CERTIFICATE", "refuses the purpose of our certificate", "issue one for clients"),
    ("HANDSHAKE_FAILURE", "agrees to no way of encrypting, or wants a client certificate", "look at its log"),
    ("PROTOCOL_VERSION", "speaks no TLS of 1.2 or later", "upgrade it"),
    ("UNSUPPORTED_PROTOCOL", "speaks no TLS of 1.2 or later", "upgrade it"),
    ("WRONG_VERSION_NUMBER", "speaks no TLS there", "write http:// instead of https://, or give it a certificate"),
    ("HTTP_REQUEST", "speaks no TLS there", "write http:// instead of https://, or give it a certificate"),
    ("RECORD_LAYER_FAILURE", "speaks no TLS there", "write http:// instead of https://, or give it a certificate"),
)


def explain(error: BaseException, *, peer: str) -> tuple[str, str] | None:
    """What went wrong in a sentence about `peer`, and what to do, when TLS is what went wrong."""
    found = _ssl_error(error)
    if isinstance(found, ssl.SSLCertVerificationError):
        problem = _PROBLEMS.get(found.verify_code, found.verify_message)
        return f"{peer}'s certificate {problem}", "compare hub.url and hub.ca_file with the certificate it shows"
    if found is None:
        return None
    reason = found.reason or ""
    for part, sentence, cure in _ALERTS:
        if part in reason:
            return f"{peer} {sentence}", cure
    return f"{peer} does not agree on TLS ({reason or 'the connection ended'})", "look at its log"


def _ssl_error(error: BaseException | None) -> ssl.SSLError | None:
    """The TLS error inside what a library wrapped around it. A wrapper may pose as one itself, but has no reason of its own."""
    for _ in range(8):
        if error is None:
            return None
        inner = getattr(error, "certificate_error", None) or getattr(error, "os_error", None)
        if not isinstance(inner, BaseException):
            if isinstance(error, ssl.SSLError):
                return error
            inner = error.__cause__ or error.__context__
        error = inner
    return None
