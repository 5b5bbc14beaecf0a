"""Talking to the running agent as a principal. In: its settings and a token file. Out: its answers, or an error that says what to do.

The token is read from a file that `--auth-file` or STAKESIDE_TOKEN_FILE names, and travels in a header only: never in an address, an
argument or a message. Over TLS the agent must show the very certificate that its settings name, or with `--ca-file` one of that authority.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import ssl
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlencode, urlsplit

from domain import errors
from kit import places

if TYPE_CHECKING:
    from config import settings

DEFAULT = "agent.toml"
TOKEN_FILE = "STAKESIDE_TOKEN_FILE"
MAX_ANSWER = 4 << 20
TIMEOUT_S = 15.0
OK, NO, UNUSABLE = 0, 1, 2
PROBES = ("/healthz", "/readyz")
"""Asked without a token: whoever answers there need not be the agent, and they need none."""
_TOKEN = re.compile(r"stk_[A-Za-z0-9_-]{43}\Z")
Json = dict[str, object]


class Refused(errors.StakesideError):
    """The agent's answer is no. `status` is HTTP's."""

    def __init__(self, status: int, title: str, detail: str) -> None:
        self.status = status
        super().__init__(f"{title}: {detail}" if detail else title)


class Agent:
    """A running agent. `token` None asks as a guest; `trust` is for https; `insecure` lets the token leave the machine without it."""

    def __init__(
        self, base: str, *, token: str | None, trust: ssl.SSLContext | None = None, insecure: bool = False
    ) -> None:
        self._insecure = insecure
        self.base = base
        self._token = token
        self._trust = trust

    def alive(self) -> bool:
        """Whether an agent answers there at all."""
        try:
            answer = self.ask("GET", "/healthz", fail=False)[1]
        except errors.StakesideError:
            return False
        return isinstance(answer.get("alive"), bool)

    def get(self, path: str, **query: object) -> Json:
        given = {name: value for name, value in query.items() if value is not None}
        return self.ask("GET", path + (f"?{urlencode(given)}" if given else ""))[1]

    def post(self, path: str, body: Mapping[str, object]) -> Json:
        return self.ask("POST", path, body)[1]

    def ask(
        self, method: str, path: str, body: Mapping[str, object] | None = None, *, fail: bool = True
    ) -> tuple[int, Json]:
        """Raises Refused for a no, Transient when nobody answers or when the agent asks to come back later."""
        headers = {"Accept": "application/json"}
        if self._token is not None and path not in PROBES:
            self._private()
            headers["Authorization"] = f"Bearer {self._token}"
        data = None
        if body is not None:
            data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        status, answer = self._exchange(method, path, data, headers)
        if status < 400 or not fail:
            return status, answer
        title, detail = str(answer.get("title", "refused")), str(answer.get("detail", ""))
        if status in (429, 503):
            raise errors.Transient(f"{title}: {detail}", cure="try again later")
        if status == 401:
            raise errors.BadConfig(f"{title}: {detail}", cure=f"name your token's file by --auth-file or {TOKEN_FILE}")
        raise Refused(status, title, detail)

    def _private(self) -> None:
        """Raises BadConfig where whoever listens would have the token."""
        parts = urlsplit(self.base)
        if parts.scheme == "http" and not self._insecure and not places.loopback(parts.hostname or ""):
            raise errors.BadConfig(
                "your token would travel in plain HTTP, to be read by whoever listens",
                value=self.base,
                cure="give the agent a [web.tls], or accept it with --insecure-http",
            )

    def _exchange(self, method: str, path: str, data: bytes | None, headers: dict[str, str]) -> tuple[int, Json]:
        connection = self._connection()
        try:
            connection.request(method, path, body=data, headers=headers)
            response = connection.getresponse()
            text, status = response.read(MAX_ANSWER + 1), response.status
        except ssl.SSLCertVerificationError as error:
            raise errors.BadConfig(
                f"the agent's certificate is not trusted: {error.verify_message}",
                value=self.base,
                cure="name its authority by --ca-file",
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise errors.Transient(
                f"nobody answers there: {type(error).__name__}",
                value=self.base,
                cure="is it running, with this settings file?",
            ) from None
        finally:
            connection.close()
        try:
            value: object = json.loads(text) if text else {}
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise errors.BadAnswer("the answer is not JSON", value=text[:80], cure="is another program on this port?")
        return status, cast("Json", value)

    def _connection(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.base)
        host, port = parts.hostname or "", parts.port
        if parts.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=self._trust)


def options(parser: argparse.ArgumentParser) -> None:
    """What every command that talks to an agent takes."""
    parser.add_argument("--config", type=Path, default=Path(DEFAULT), metavar="FILE", help=f"default: {DEFAULT}")
    parser.add_argument("--auth-file", type=Path, metavar="FILE", help=f"your token's file; default: ${TOKEN_FILE}")
    parser.add_argument(
        "--ca-file", type=Path, metavar="FILE", help="trust this authority instead of the certificate in the settings"
    )
    parser.add_argument("--certificate-file", type=Path, metavar="FILE", help="yours, where the agent asks for one")
    parser.add_argument("--key-file", type=Path, metavar="FILE", help="its key, unless it is in the same file")
    parser.add_argument(
        "--insecure-http", action="store_true", help="send your token even without TLS and beyond this machine"
    )
    parser.add_argument("--json", action="store_true", help="print the answer as one JSON object")


def load(args: argparse.Namespace) -> settings.AgentSettings:
    from config import settings

    return settings.load_agent(args.config, os.environ)


def agent(args: argparse.Namespace, loaded: settings.AgentSettings | None = None) -> Agent:
    """The running agent of these settings, with the caller's token if one is named."""
    loaded = loaded or load(args)
    trusted = None if loaded.web.tls is None else trust(args, loaded.web.tls)
    return Agent(base(loaded), token=_token(args), trust=trusted, insecure=args.insecure_http)


def trust(args: argparse.Namespace, served: settings.TlsSection) -> ssl.SSLContext:
    """The authority that was named, or just the one certificate: then its names do not matter, since it is known."""
    named: Path | None = args.ca_file
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody yet
        if named is not None:
            context.load_verify_locations(cafile=named)
        else:
            # The first one of the file alone: the issuers behind it would vouch for strangers too.
            context.load_verify_locations(cadata=_first(served.certificate_file))
            context.check_hostname = False
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if args.certificate_file is not None:
            context.load_cert_chain(args.certificate_file, args.key_file)
    except OSError as error:
        raise errors.BadConfig("a certificate file cannot be used", value=str(error)) from None
    return context


def _first(file: Path) -> str:
    """The first certificate of a chain, which is the server's own. What stands around it is of no meaning, whatever its letters."""
    head, end, _ = file.read_text(encoding="latin-1").partition("-----END CERTIFICATE-----")
    begin = head.rfind("-----BEGIN CERTIFICATE-----")
    if begin < 0 or not end:
        raise errors.BadConfig("the file holds no certificate", value=str(file), cure="is it being renewed right now?")
    return head[begin:] + end


def _token(args: argparse.Namespace) -> str | None:
    from config import settings

    named = args.auth_file or (Path(os.environ[TOKEN_FILE]) if os.environ.get(TOKEN_FILE) else None)
    if named is None:
        return None
    token = settings.read_secret(named, what="the token file")
    if not _TOKEN.match(token):
        raise errors.BadConfig("the file holds no token", value=str(named), cure="one begins with stk_")
    return token


def base(loaded: settings.AgentSettings) -> str:
    """Where the running agent listens: its port file beside the book, else the configured port."""
    from config import settings

    port = loaded.web.port
    file = settings.port_file(loaded.agent.store)
    if file is not None and file.exists():
        text = file.read_text().strip()
        port = int(text) if text.isdecimal() else port
    host = "127.0.0.1" if loaded.web.host in ("0.0.0.0", "::") else loaded.web.host
    scheme = "http" if loaded.web.tls is None else "https"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def finish(args: argparse.Namespace, answer: Json, lines: list[str], *, code: int = OK) -> int:
    """Print an answer as it was asked for."""
    sys.stdout.write(json.dumps(answer) + "\n" if args.json else "".join(f"{line}\n" for line in lines))
    return code


def refused(args: argparse.Namespace, error: Refused) -> int:
    """The answer is no, and why: one line, or the same as JSON."""
    if args.json:
        sys.stdout.write(json.dumps({"refused": {"status": error.status, "why": error.what}}) + "\n")
    else:
        sys.stderr.write(f"refused: {plain(error.what)}\n")
    return NO


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def plain(value: object) -> str:
    """Foreign text for a terminal."""
    text = str(value)
    return text if text.isprintable() else repr(text)
