"""Settings files: what is accepted, and how everything else is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from config import settings
from domain import errors

AGENT = """
[agent]
name = "alice"
store = "sqlite:///data/book.db"

[node]
url = "https://user:hunter2@node.example/v3/0123456789abcdef0123456789abcdef?key=abc"
ws = "ws://127.0.0.1:8546"

[deployment]
document = "deployment.toml"

[[protocols]]
name = "devnet"
manifest = "devnet"
network = "net/devnet.toml"
streams = ["staking"]

[attester]
kind = "dev"
key_file = "keys/alice.key"

[hub]
url = "http://127.0.0.1:8490"
token_file = "hub.token"
"""

HUB = """
[hub]
name = "exchange"

[deployment]
document = "deployment.toml"
chain_id = 31337

[receipts]
kind = "keystore"
path = "hub.json"
password_file = "hub.password"

[consumers]
tokens_file = "consumers.txt"
"""


def write(folder: Path, text: str, name: str = "agent.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def agent(folder: Path, text: str = AGENT, **env: str) -> settings.AgentSettings:
    return settings.load_agent(write(folder, text), env)


def test_a_complete_file_is_read_with_paths_beside_it(tmp_path: Path) -> None:
    loaded = agent(tmp_path)
    assert loaded.agent.store == f"sqlite:///{tmp_path}/data/book.db"
    assert loaded.deployment.document == tmp_path / "deployment.toml"
    assert loaded.protocols[0].manifest == "devnet"
    assert loaded.protocols[0].network == f"{tmp_path}/net/devnet.toml"
    assert loaded.attester == {"kind": "dev", "key_file": f"{tmp_path}/keys/alice.key"}
    assert loaded.hub is not None and loaded.hub.token_file == tmp_path / "hub.token"


def test_defaults_listen_on_loopback_and_observe_only(tmp_path: Path) -> None:
    text = AGENT.partition("[attester]")[0]
    loaded = agent(tmp_path, text)
    assert (loaded.web.host, loaded.attester, loaded.hub) == ("127.0.0.1", None, None)
    assert settings.load_hub(write(tmp_path, HUB, "hub.toml"), {}).web.host == "127.0.0.1"


def test_an_absolute_path_stays(tmp_path: Path) -> None:
    loaded = agent(tmp_path, AGENT.replace("sqlite:///data/book.db", "sqlite:////var/lib/stakeside/book.db"))
    assert loaded.agent.store == "sqlite:////var/lib/stakeside/book.db"


def test_a_postgresql_address_stays(tmp_path: Path) -> None:
    loaded = agent(tmp_path, AGENT.replace("sqlite:///data/book.db", "postgresql://u:p@db/book"))
    assert loaded.agent.store == "postgresql://u:p@db/book"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("[node]", "[nod]"), ("unknown key nod", "did you mean node?", "line 6")),
        (("ws =", "wz ="), ("unknown key node.wz", "did you mean ws?", "line 8")),
        (("manifest =", "manifset ="), ("unknown key protocols.manifset", "did you mean manifest?", "line 15")),
        (("url = ", "# url = "), ("node", "missing required field `url`")),
        (("http://127.0.0.1:8490", "127.0.0.1:8490"), ("hub.url is not an address", "http://host:port")),
        (('url = "https', 'url = "ftp'), ("node.url is not an address",)),
        (("sqlite:///data/book.db", "book.db"), ("agent.store is not a database address", "sqlite:///file.db")),
        (("sqlite:///data/book.db", "mysql://x/y"), ("agent.store is not a database address",)),
        (('kind = "dev"', ""), ("[attester] needs `kind`",)),
        (('key_file = "keys/alice.key"', 'private_key = "0x01"'), ("attester.private_key would hold a secret",)),
        (('name = "alice"', 'name = "a\\u0000b"'), ("agent.name contains a NUL byte",)),
        (('name = "alice"', "name = 3"), ("agent.name", "expected `str`, got `int`")),
        (('name = "alice"', 'name = ""'), ("agent.name", "length >= 1")),
    ],
)
def test_a_wrong_setting_is_refused_with_its_place_and_cure(
    tmp_path: Path, wrong: tuple[str, str], said: tuple[str, ...]
) -> None:
    with pytest.raises(errors.BadConfig) as caught:
        agent(tmp_path, AGENT.replace(*wrong))
    for part in said:
        assert part in str(caught.value)


def test_a_truncated_file_is_refused_with_its_line(tmp_path: Path) -> None:
    text = AGENT[: AGENT.index("hunter2")]
    with pytest.raises(errors.BadConfig) as caught:
        agent(tmp_path, text)
    assert "agent.toml is not valid TOML" in str(caught.value)
    assert "line 7" in str(caught.value)
    assert "cut off" in str(caught.value)


@pytest.mark.parametrize("cut", range(0, len(AGENT), 7))
def test_no_truncation_gets_past_as_anything_but_a_config_error(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path, AGENT[:cut])
    try:
        settings.load_agent(path, {})
    except errors.BadConfig as error:
        assert str(error)


@pytest.mark.parametrize("data", [b"\x00\x01", b'[agent]\nname = "a\x00b"', b"\xff\xfe[agent]", b"x" * (2 << 20)])
def test_binary_and_oversized_files_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "agent.toml"
    path.write_bytes(data)
    with pytest.raises(errors.BadConfig):
        settings.load_agent(path, {})


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.BadConfig, match="cannot read the file"):
        settings.load_agent(tmp_path / "none.toml", {})
    with pytest.raises(errors.BadConfig, match="cannot read the file"):
        settings.load_agent(tmp_path, {})


def test_the_environment_overrides_keys_and_opens_sections(tmp_path: Path) -> None:
    text = AGENT.partition("[hub]")[0]
    loaded = agent(
        tmp_path,
        text,
        STAKESIDE_WEB__PORT="9001",
        STAKESIDE_NODE__TIMEOUT_S="2.5",
        STAKESIDE_HUB__URL="http://hub:1",
        STAKESIDE_ATTESTER__KEY_FILE="other.key",
        STAKESIDE_CRASH_AT="index.before_commit:2",
        HOME="/nowhere",
    )
    assert (loaded.web.port, loaded.node.timeout_s) == (9001, 2.5)
    assert loaded.hub is not None and loaded.hub.url == "http://hub:1"
    assert loaded.attester is not None and loaded.attester["key_file"] == f"{tmp_path}/other.key"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("STAKESIDE_WEB__PROT", "1", "did you mean port?"),
        ("STAKESIDE_WEBB__PORT", "1", "did you mean web?"),
        ("STAKESIDE_WEB__PORT", "99999", "<= 65535"),
        ("STAKESIDE_WEB__PORT", "eighty", "STAKESIDE_WEB__PORT"),
        ("STAKESIDE_PROTOCOLS__NAME", "x", "cannot override a list"),
        ("STAKESIDE_LOG__LEVEL", "loud", "STAKESIDE_LOG__LEVEL"),
    ],
)
def test_a_wrong_override_is_refused_by_its_own_name(tmp_path: Path, name: str, value: str, said: str) -> None:
    with pytest.raises(errors.BadConfig) as caught:
        agent(tmp_path, AGENT, **{name: value})
    assert said in str(caught.value)


def test_two_protocols_of_one_name_are_refused(tmp_path: Path) -> None:
    table = AGENT[AGENT.index("[[protocols]]") : AGENT.index("[attester]")]
    with pytest.raises(errors.BadConfig, match=r"protocols\.name is used twice"):
        agent(tmp_path, AGENT + table)


def test_shown_settings_hold_no_secret(tmp_path: Path) -> None:
    loaded = agent(tmp_path, AGENT.replace("sqlite:///data/book.db", "postgresql://me:topsecret@db/book"))
    shown = str(settings.redacted(loaded))
    for secret in ("hunter2", "0123456789abcdef", "key=abc", "topsecret"):
        assert secret not in shown
    for plain in ("node.example", "alice.key", "@db/book", "deployment.toml"):
        assert plain in shown


def test_a_hub_file_is_read_with_paths_beside_it(tmp_path: Path) -> None:
    loaded = settings.load_hub(write(tmp_path, HUB, "hub.toml"), {"STAKESIDE_DEPLOYMENT__CHAIN_ID": "1337"})
    assert loaded.deployment.chain_id == 1337
    assert loaded.receipts == {
        "kind": "keystore", "path": f"{tmp_path}/hub.json", "password_file": f"{tmp_path}/hub.password"
    }  # fmt: skip
    assert loaded.consumers is not None and loaded.consumers.tokens_file == tmp_path / "consumers.txt"


@pytest.mark.parametrize(
    ("url", "more", "refused"),
    [
        ("http://hub.example:8490", "", True),
        ("http://10.0.0.5:8490", "", True),
        ("http://0.0.0.0:8490", "", True),
        ("http://127.0.0.1.example:8490", "", True),
        ("http://localhost@hub.example:8490", "", True),
        ("http://hub.example:8490", "insecure_http = true", False),
        ("https://hub.example:8490", "", False),
        ("http://127.0.0.1:8490", "", False),
        ("http://[::1]:8490", "", False),
        ("http://localhost:8490", "", False),
    ],
)
def test_a_hubs_token_does_not_leave_the_machine_without_tls_unless_somebody_says_so(
    tmp_path: Path, url: str, more: str, refused: bool
) -> None:
    text = AGENT.partition("[hub]")[0] + f'[hub]\nurl = "{url}"\ntoken_file = "hub.token"\n{more}\n'
    if not refused:
        assert agent(tmp_path, text).hub is not None
        return
    with pytest.raises(errors.BadConfig, match="in plain HTTP") as told:
        agent(tmp_path, text)
    assert "hub.insecure_http = true" in str(told.value)
    assert agent(tmp_path, text.replace('token_file = "hub.token"', "")).hub is not None
