"""Logs: what is written, and what never is."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest
import structlog

from kit import logs

KEY = "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    structlog.reset_defaults()
    root.handlers, root.level = handlers, level


def lines(format_: logs.Format = "json", level: logs.Level = "info") -> io.StringIO:
    stream = io.StringIO()
    logs.configure(format_, level, stream=stream)
    return stream


@pytest.mark.parametrize(
    "name",
    [
        "key", "api_key", "apiKey", "private_key", "privateKey", "token", "access_token", "password", "db_password", "passphrase",
        "pin", "user_pin", "secret", "client_secret", "mnemonic", "authorization", "Authorization", "signing-key", "secret_hex", "cookie",
    ],
)  # fmt: skip
def test_a_field_named_like_a_secret_loses_its_value(name: str) -> None:
    stream = lines()
    logs.logger().info("x.happened", **{name: "hunter2"}, nested={name: "hunter2", "list": [{name: "hunter2"}]})
    assert "hunter2" not in stream.getvalue()
    assert json.loads(stream.getvalue())[name] == logs.HIDDEN


@pytest.mark.parametrize(
    "name",
    [
        "key_file",
        "token_file",
        "public_key",
        "receipt_key",
        "spinning",
        "monkey",
        "tokens_file",
        "keystore_path",
        "block_hash",
    ],
)
def test_a_field_that_only_sounds_like_one_keeps_it(name: str) -> None:
    assert not logs.secret_name(name)


@pytest.mark.parametrize("format_", ["json", "console"])
def test_a_private_key_in_an_error_is_withheld(format_: logs.Format) -> None:
    stream = lines(format_)
    try:
        raise ValueError(f"cannot use 0x{KEY}")
    except ValueError as error:
        logs.logger().error("x.failed", error=str(error), exc_info=error)
        logs.logger().error("x.failed", error=error)
    said = stream.getvalue()
    assert KEY not in said and "withheld" in said and "ValueError" in said


def test_a_hash_in_a_field_of_its_own_stays() -> None:
    stream = lines()
    logs.logger().info("x.happened", digest=bytes.fromhex(KEY))
    assert json.loads(stream.getvalue())["digest"] == "0x" + KEY


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://mainnet.example/v3/0123456789abcdef0123456789abcdef", "https://mainnet.example/v3/…"),
        ("http://user:hunter2@node:8545/", "http://***@node:8545/"),
        ("wss://node/ws?apikey=hunter2", "wss://node/ws?…"),
        ("http://node:8545?key=hunter2", "http://node:8545?…"),
        ("postgresql://me:hunter2@db/book", "postgresql://***@db/book"),
        ("http://127.0.0.1:8545", "http://127.0.0.1:8545"),
        (
            "sqlite:////var/lib/a-very-long-folder-name-indeed/book.db",
            "sqlite:////var/lib/a-very-long-folder-name-indeed/book.db",
        ),
    ],
)
def test_an_address_keeps_its_host_and_loses_its_secrets(url: str, shown: str) -> None:
    assert logs.safe_url(url) == shown
    stream = lines()
    logs.logger().info("x.happened", url=url, text=f"asked {url}")
    assert "hunter2" not in stream.getvalue()


def test_json_lines_have_event_level_and_time() -> None:
    stream = lines()
    logs.logger().warning("index.reorg", depth=3)
    said = json.loads(stream.getvalue())
    assert (said["event"], said["level"], said["depth"]) == ("index.reorg", "warning", 3)
    assert said["timestamp"].endswith("Z")


def test_the_level_is_kept_to() -> None:
    stream = lines(level="warning")
    logs.logger().info("x.happened")
    assert stream.getvalue() == ""


def test_what_libraries_say_joins_ours() -> None:
    stream = lines()
    logging.getLogger("aiohttp.server").error("broken %s", "pipe")
    said = json.loads(stream.getvalue())
    assert (said["event"], said["logger"], said["message"]) == ("library.message", "aiohttp.server", "broken pipe")


def test_hostile_text_stays_on_its_line() -> None:
    stream = lines()
    logs.logger().info("x.happened", note='a\nb\x1b[31m\u202e"}')
    assert stream.getvalue().count("\n") == 1


def test_importing_logs_does_not_load_rich() -> None:
    code = "import sys, kit.logs; print(sorted(m for m in sys.modules if m.split('.')[0] == 'rich'))\nimport rich; print(rich.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "rich"]
