"""Principals, intents and switches from the console: in the book of a stopped agent, and by the API of a running one."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from agent.delegations import identities
from agent.web import people
from cli import amounts, asking, main
from config import settings
from domain import errors, hashing
from kit import tls
from store import book, commands, decisions, latches, principals
from tests import certificates
from tests.cli.test_backup import AGENT, DOCUMENT
from tests.store import belt
from tests.web.conftest import World, serving

WHY = ("--reason", "because")
VALIDATOR = "0x" + "11" * 20


@pytest.fixture
def stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an agent that does not run. Its port is one where nobody answers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(asking.TOKEN_FILE, raising=False)
    (tmp_path / "deployment.toml").write_text(DOCUMENT.format(zero="0x" + "00" * 32))
    (tmp_path / "agent.toml").write_text(AGENT + "[web]\nport = 1\n")
    return tmp_path


async def commands_of(folder: Path) -> list[commands.Command]:
    the_book = await book.open_book(
        f"sqlite:///{folder}/agent.db",
        deployment=_digest(folder),
        chain_id=31337,
        genesis=hashing.ZERO32,
        read_only=True,
    )
    try:
        async with the_book.read() as c:
            return (await commands.list_(c, limit=100))[::-1]
    finally:
        await the_book.close()


def _digest(folder: Path) -> bytes:
    from config import deployments

    return deployments.load(folder / "deployment.toml").digest()


# --- a stopped agent ---


def test_the_first_admin_is_made_in_the_book_by_whoever_can_write_it(
    stopped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["principal", "add", "root", "--role", "admin", *WHY]) == 0
    token = capsys.readouterr().out.strip()
    assert token.startswith("stk_") and len(token) == 47
    assert main.main(["principal", "list"]) == 0
    assert capsys.readouterr().out == "root: admin\n"
    made = asyncio.run(commands_of(stopped))[0]
    assert (made.kind, made.subject, made.reason) == ("principal-add", "root", "because")
    assert made.principal.startswith("local:")
    kept = b"".join(path.read_bytes() for path in stopped.glob("agent.db*"))
    assert token.encode() not in kept


def test_a_token_file_is_for_its_owner_alone_and_never_written_over(
    stopped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = stopped / "root.token"
    assert main.main(["principal", "add", "root", "--role", "admin", "--token-file", str(out), *WHY]) == 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    first = out.read_text()
    assert first.startswith("stk_") and first.strip() not in capsys.readouterr().out
    assert main.main(["principal", "rotate", "root", "--token-file", str(out), *WHY]) == main.UNUSABLE
    assert out.read_text() == first
    assert [row.kind for row in asyncio.run(commands_of(stopped))] == ["principal-add"]


def test_a_refused_principal_leaves_no_token_file(stopped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = stopped / "x.token"
    assert main.main(["principal", "add", "Bad Name", "--role", "viewer", "--token-file", str(out), *WHY]) == main.NO
    assert not out.exists()
    assert "bad-name" in capsys.readouterr().err


def test_roles_and_reasons_are_checked_before_anything_happens(stopped: Path) -> None:
    for arguments in (["add", "x", "--role", "king", *WHY], ["add", "x", *WHY], ["add", "x", "--role", "viewer"]):
        with pytest.raises(SystemExit) as ended:
            main.main(["principal", *arguments])
        assert ended.value.code == 2
    assert not (stopped / "agent.db").exists()


def test_the_last_admin_is_not_revoked_by_accident(stopped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main.main(["principal", "add", "root", "--role", "admin", *WHY])
    assert main.main(["principal", "revoke", "root", *WHY]) == main.NO
    assert "last-admin" in capsys.readouterr().err
    main.main(["principal", "add", "root2", "--role", "admin", *WHY])
    assert main.main(["principal", "revoke", "root", *WHY]) == main.OK


def test_who_lost_the_only_admins_token_gives_it_another_one_in_the_book(
    stopped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main.main(["principal", "add", "root", "--role", "admin", *WHY])
    lost = capsys.readouterr().out.strip()
    assert main.main(["principal", "rotate", "root", *WHY]) == main.OK
    found = capsys.readouterr().out.strip()

    async def opened() -> list[bool]:
        the_book = await book.open_book(
            f"sqlite:///{stopped}/agent.db", deployment=_digest(stopped), chain_id=31337, genesis=hashing.ZERO32
        )
        async with the_book.read() as c:
            who = [await principals.by_token_hash(c, people.hash_of(token)) for token in (lost, found)]
        await the_book.close()
        return [one is not None and one.roles == {"admin"} for one in who]

    assert asyncio.run(opened()) == [False, True]


def test_clearing_a_latch_while_the_agent_is_stopped_is_a_command_too(
    stopped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main.main(["principal", "add", "root", "--role", "admin", *WHY])

    async def latch() -> None:
        the_book = await book.open_book(
            f"sqlite:///{stopped}/agent.db", deployment=_digest(stopped), chain_id=31337, genesis=hashing.ZERO32
        )
        async with the_book.write() as c:
            await latches.set(c, "finality", reason="look", at_s=1)
        await the_book.close()

    asyncio.run(latch())
    clear = ["agent", "clear-latch", "finality", "--by", "otto", "--reason", "the node was replaced"]
    assert main.main(clear) == 0
    assert main.main(clear) == 1
    assert "no latch 'finality' is set" in capsys.readouterr().out
    row = asyncio.run(commands_of(stopped))[-1]
    assert (row.kind, row.subject, row.reason) == ("clear-latch", "finality", "otto: the node was replaced")
    assert row.principal.startswith("local:")


def test_a_stopped_agent_takes_no_intents(stopped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["delegate", "--validator", VALIDATOR, "--amount", "1", *WHY]) == main.UNUSABLE
    assert "nobody answers there" in capsys.readouterr().err


# --- a running agent ---


class Console:
    """The console beside a served agent; each call is a process of its own in a thread, as somebody."""

    def __init__(self, world: World, capsys: pytest.CaptureFixture[str]) -> None:
        self.world = world
        self._capsys = capsys

    async def __call__(self, *words: str, by: str | None = None) -> tuple[int, str, str]:
        given = list(words)
        if by is not None:
            file = self.world.folder / f"{by}.token"
            file.write_text(self.world.tokens[by] + "\n")
            given += ["--auth-file", str(file)]
        code = await asyncio.to_thread(main.main, given)
        said = self._capsys.readouterr()
        assert not any(token in said.out + said.err for token in self.world.tokens.values())
        return code, said.out, said.err


@pytest.fixture
async def console(stopped: Path, capsys: pytest.CaptureFixture[str]) -> AsyncIterator[Console]:
    (stopped / "agent.toml").write_text(AGENT.replace("agent.db", "book.db"))
    async with serving(stopped) as world:
        for name, role in (("root", "admin"), ("pat", "proposer"), ("amy", "approver"), ("otto", "operator")):
            await world.person(name, role)
        yield Console(world, capsys)


async def delegate(console: Console, *more: str, by: str = "pat") -> dict[str, object]:
    words = ("delegate", "--validator", VALIDATOR, "--amount", "1.5ether", "--key", "k1", "--json", *WHY, *more)
    code, out, err = await console(*words, by=by)
    assert code == 0, err
    return json.loads(out)


async def test_an_intent_is_proposed_once_for_its_key_and_amounts_are_exact(console: Console) -> None:
    first = await delegate(console)
    assert first["arguments"] == {"validator": VALIDATOR, "amount": "1500000000000000000"}
    assert (await delegate(console))["id"] == first["id"]
    code, _, err = await console("delegate", "--validator", VALIDATOR, "--amount", "2", "--key", "k1", *WHY, by="pat")
    assert code == main.NO and "conflict" in err
    code, out, _ = await console("intents", "list")
    assert code == 0 and out.count(str(first["id"])) == 1


async def test_a_refusal_says_why_and_ends_with_one(console: Console) -> None:
    code, _, err = await console("delegate", "--validator", VALIDATOR, "--amount", "2", *WHY, by="otto")
    assert code == main.NO and "needs the role proposer; otto has: operator" in err
    code, out, _ = await console("delegate", "--validator", VALIDATOR, "--json", *WHY, by="pat")
    refused = json.loads(out)["refused"]
    assert code == main.NO and refused["status"] == 422 and "takes validator and amount" in refused["why"]


async def test_what_was_not_given_is_named_as_it_is_typed(console: Console) -> None:
    code, _, err = await console("delegate", "--amount", "2", *WHY, by="pat")
    assert code == main.NO and "not given: --validator VALIDATOR (its identity, as 0x-hex)" in err
    assert "--amount" not in err
    code, _, err = await console("pause", "--reason", "", by="otto")
    assert code == main.NO and "reason is needed" in err and "$" not in err


async def test_an_unknown_intent_leads_to_those_there_are(console: Console) -> None:
    for words in (("show",), ("approve", *WHY), ("reject", *WHY)):
        code, _, err = await console("intents", words[0], "0x" + "ab" * 32, *words[1:], by="amy")
        assert code == main.NO and "there is no" in err and "`stakeside intents list`" in err


async def test_without_a_token_the_console_says_how_to_give_one(console: Console) -> None:
    code, _, err = await console("pause", *WHY)
    assert code == main.UNUSABLE and "--auth-file" in err and asking.TOKEN_FILE in err


async def test_a_token_may_come_from_the_environment(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    file = console.world.folder / "from-env"
    file.write_text(console.world.tokens["otto"])
    monkeypatch.setenv(asking.TOKEN_FILE, str(file))
    assert (await console("pause", "--for", "30m", *WHY))[0] == 0
    assert (await console("resume", *WHY))[0] == 0
    assert [row.kind for row in await console.world.commanded()] == ["pause", "resume"]


async def test_another_person_approves_from_the_console(console: Console) -> None:
    made = await delegate(console)
    code, _, err = await console("intents", "approve", str(made["id"]), *WHY, by="pat")
    assert code == main.NO and "role approver" in err
    stale = ("--payload-hash", "0x" + "00" * 32)
    code, _, err = await console("intents", "approve", str(made["id"]), *stale, *WHY, by="amy")
    assert code == main.NO and "other-payload" in err
    code, out, _ = await console("intents", "approve", str(made["id"]), *WHY, by="amy")
    assert code == 0 and f"approved: exactly the payload {made['payloadHash']}" in out
    code, out, _ = await console("intents", "show", str(made["id"]))
    assert code == 0 and "amy" in out
    assert (await console("intents", "cancel", str(made["id"]), *WHY, by="pat"))[0] == 0
    assert (await console("intents", "reject", str(made["id"]), *WHY, by="amy"))[0] == main.NO


async def test_an_intent_is_shown_as_people_read_it(console: Console) -> None:
    arguments = {"validator": "0x" + "00" * 12 + "ab" * 20, "amount": str(10**40), "ticket": "0x" + "00" * 31 + "07"}
    findings = [{"rule": rule, "outcome": "pass", "detail": f"{rule} is fine"} for rule in ("chain", "account")]
    findings += [
        {"rule": "approve", "outcome": "skipped", "detail": "none"},
        {"rule": "approval", "outcome": "ask", "detail": "0 of 1 approvals"},
    ]
    async with console.world.book.write() as c:
        of = await belt.propose(c, msgspec.structs.replace(belt.wanted("shown"), arguments=arguments))
        await decisions.save_policy(c, belt.POLICY_HASH, belt.POLICY, 1)
        made = belt.decision(of, "ask")
        await decisions.save(c, msgspec.structs.replace(made, findings=json.dumps(findings)))
        whole = await belt.bring(c, "final_ok", belt.wanted("done"))
    listed = (await console("intents", "list"))[1]
    assert f"validator={identities.checksum(bytes.fromhex('ab' * 20))} " in listed
    assert f"amount={10**40} " in listed and "ticket=7 " in listed and " UTC " in listed
    shown = (await console("intents", "show", hashing.hex0x(of.id)))[1]
    assert "\n  pass chain, account\n" in shown and "\n  skipped approve\n" in shown
    assert "\n  ask approval: 0 of 1 approvals\n" in shown and hashing.hex0x(of.payload_hash) in shown
    assert "pass account: account is fine" in (await console("intents", "show", "--all", hashing.hex0x(of.id)))[1]
    lines = (await console("intents", "show", hashing.hex0x(whole.id)))[1].splitlines()
    assert len(lines) < 45 and any("pending → included" in line and " UTC" in line for line in lines)
    assert any(line.startswith("  in block ") for line in lines), lines


async def test_the_json_of_an_intent_is_the_agents_own_answer(console: Console) -> None:
    made = str((await delegate(console))["id"])
    for words, path in ((("list",), "/v1/intents?limit=20"), (("show", made), f"/v1/intents/{made}")):
        said = json.loads((await console("intents", *words, "--json"))[1])
        assert said == (await console.world.ask("GET", path)).json


async def test_a_pause_says_until_when_and_an_approval_that_it_waits_for_it(console: Console) -> None:
    made = str((await delegate(console))["id"])
    code, out, _ = await console("pause", "--for", "2h", *WHY, by="otto")
    assert code == 0 and re.fullmatch(r"paused until 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC\n", out)
    code, out, _ = await console("intents", "approve", made, *WHY, by="amy")
    assert code == 0 and "it waits: paused by otto until 20" in out
    assert "paused, until somebody resumes" in (await console("pause", *WHY, by="otto"))[1]
    assert (await console("resume", *WHY, by="otto"))[0] == 0
    other = str((await delegate(console, "--key", "k2"))["id"])
    assert "it waits" not in (await console("intents", "approve", other, *WHY, by="amy"))[1]


async def test_an_operator_settles_from_the_console_what_needs_one(console: Console) -> None:
    made = str((await delegate(console))["id"])
    code, _, err = await console("intents", "settle", made, "--as", "superseded", *WHY, by="otto")
    assert code == main.NO and "not-needed" in err
    async with console.world.book.write() as c:
        needy = hashing.hex0x((await belt.bring(c, "needs_operator")).id)
    code, out, _ = await console("intents", "settle", needy, "--as", "superseded", *WHY, by="otto")
    assert code == 0 and "superseded, as soon as" in out
    assert [row.kind for row in await console.world.commanded()][-1] == "settle"


async def test_waiting_ends_with_one_when_the_intent_ends_without_effect(console: Console) -> None:
    made = await delegate(console)
    await console("intents", "reject", str(made["id"]), *WHY, by="amy")
    code, out, _ = await console(
        "delegate", "--validator", VALIDATOR, "--amount", "1.5ether", "--key", "k1", "--wait", *WHY, by="pat"
    )
    assert code == main.NO and "rejected" in out and "amy: because" in out


async def test_waiting_has_an_end(console: Console) -> None:
    code, _, err = await console(
        "delegate", "--validator", VALIDATOR, "--amount", "1", "--wait", "--timeout", "0", *WHY, by="pat"
    )
    assert code == main.UNUSABLE and "not final after 0 s" in err


async def test_principals_of_a_running_agent_need_an_admin(console: Console) -> None:
    code, _, err = await console("principal", "add", "new", "--role", "viewer", *WHY, by="otto")
    assert code == main.NO and "needs the role admin" in err
    out_file = console.world.folder / "new.token"
    words = ("principal", "add", "new", "--role", "viewer", "--token-file", str(out_file), *WHY)
    assert (await console(*words, by="root"))[0] == 0
    async with console.world.book.read() as c:
        found = await principals.by_name(c, "new")
    assert found is not None and found.roles == {"viewer"}
    code, out, _ = await console("principal", "list", by="root")
    assert code == 0 and "new: viewer" in out
    assert (await console("principal", "revoke", "new", *WHY, by="root"))[0] == 0
    code, _, err = await console("principal", "revoke", "a/../b", *WHY, by="root")
    assert code == main.NO and "unknown" in err


async def test_status_asks_the_same_agent(console: Console) -> None:
    code, out, _ = await console("agent", "status", "--json")
    assert code == 1 and json.loads(out)["belts"][1]["name"] == "staking"


# --- TLS ---


class Listener:
    """Whoever listens at a port: keeps what was sent, and answers like an agent that is well."""

    def __init__(self) -> None:
        self.heard = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heard += await reader.readuntil(b"\r\n\r\n")
        body = b'{"alive":true,"stuck":[],"ready":true,"reasons":[],"intents":[],"next":null}'
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()


@pytest.mark.parametrize(
    ("host", "flags", "sent"),
    [("127.0.0.1", (), True), ("elsewhere.example", (), False), ("elsewhere.example", ("--insecure-http",), True)],
)
async def test_a_token_does_not_leave_the_machine_without_tls_unless_somebody_says_so(
    stopped: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    host: str,
    flags: tuple[str, ...],
    sent: bool,
) -> None:
    """`elsewhere.example` stands for another machine: the connection itself is to this one."""
    token, listener = "stk_" + "A" * 43, Listener()
    (stopped / "my.token").write_text(token)
    server = await asyncio.start_server(listener.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    (stopped / "agent.toml").write_text(AGENT + f'[web]\nhost = "{host}"\nport = {port}\n')
    real = asking.http.client.HTTPConnection
    monkeypatch.setattr(asking.http.client, "HTTPConnection", lambda _, port, **kw: real("127.0.0.1", port, **kw))
    async with server:
        words = ["intents", "list", "--auth-file", "my.token", *flags]
        code = await asyncio.to_thread(main.main, words)
    said = capsys.readouterr()
    assert (token.encode() in listener.heard) is sent
    assert token not in said.out + said.err
    assert code == (0 if sent else main.UNUSABLE)
    assert ("--insecure-http" in said.err) is not sent


async def test_probes_are_asked_without_a_token(
    stopped: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    token, listener = "stk_" + "A" * 43, Listener()
    (stopped / "my.token").write_text(token)
    server = await asyncio.start_server(listener.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    (stopped / "agent.toml").write_text(AGENT + f"[web]\nport = {port}\n")
    async with server:
        words = ["agent", "status", "--auth-file", "my.token"]
        assert await asyncio.to_thread(main.main, words) == 0
    asked = [part.partition(b" HTTP")[0] for part in listener.heard.split(b"GET ")[1:] if token.encode() in part]
    assert asked == [b"/status"]
    capsys.readouterr()


@pytest.mark.parametrize("text", ["", "-----BEGIN CERTIFICATE-----\n", "-----END CERTIFICATE-----\n", "no certificate"])
def test_a_certificate_file_that_is_being_written_makes_the_console_trust_nobody(stopped: Path, text: str) -> None:
    """An empty one would otherwise have meant every authority of the system, and any name."""
    pem = stopped / "empty.pem"
    pem.write_text(text)
    served = settings.TlsSection(certificate_file=pem, key_file=pem)
    args = argparse.Namespace(ca_file=None, certificate_file=None, key_file=None)
    with pytest.raises(errors.BadConfig, match="holds no certificate"):
        asking.trust(args, served)


def test_words_around_a_certificate_mean_nothing_to_the_console(stopped: Path) -> None:
    served = certificates.Authority(stopped).issue("agent")
    pem = stopped / "commented.pem"
    pem.write_text("Zürich -----BEGIN\n" + served.certificate.read_text() + "ß\n", encoding="utf-8")
    args = argparse.Namespace(ca_file=None, certificate_file=None, key_file=None)
    context = asking.trust(args, settings.TlsSection(certificate_file=pem, key_file=pem))
    assert context.cert_store_stats()["x509"] == 1


async def test_over_tls_the_console_trusts_the_certificate_in_the_settings_and_no_other(
    stopped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    authority, stranger = certificates.Authority(stopped), certificates.Authority(stopped, "stranger")
    served = authority.issue("agent", "agent.example")
    other = stranger.issue("other")
    where = f'[web.tls]\ncertificate_file = "{served.certificate}"\nkey_file = "{served.key}"\n'
    (stopped / "agent.toml").write_text(AGENT.replace("agent.db", "book.db") + where)
    elsewhere = where.replace(str(served.certificate), str(other.certificate))
    (stopped / "other.toml").write_text(AGENT.replace("agent.db", "book.db") + elsewhere)
    chain = stopped / "chain.pem"
    sibling = authority.issue("sibling")
    chain.write_text(sibling.certificate.read_text() + authority.ca_file.read_text())
    (stopped / "chain.toml").write_text(
        AGENT.replace("agent.db", "book.db") + where.replace(str(served.certificate), str(chain))
    )
    async with serving(stopped, tls=tls.server(served)) as world:
        console = Console(world, capsys)
        assert (await console("agent", "status", "--quiet"))[0] == 1
        code, _, err = await console("agent", "status", "--config", "chain.toml")
        assert code == main.UNUSABLE and "is not trusted" in err, "an issuer in the file vouches for nobody else"
        code, _, err = await console("agent", "status", "--config", "other.toml")
        assert code == main.UNUSABLE and "is not trusted" in err
        code, _, err = await console("agent", "status", "--ca-file", str(authority.ca_file))
        assert code == main.UNUSABLE and "is not trusted" in err, "its name is not this address"


# --- amounts ---


@pytest.mark.parametrize(
    ("text", "wei"),
    [
        ("0", "0"),
        ("1000", "1000"),
        ("007", "7"),
        ("1.5 ether", "1500000000000000000"),
        ("0.000000000000000001ether", "1"),
        ("1.10gwei", "1100000000"),
        ("1.000", "1"),
        (str(2**256 - 1), str(2**256 - 1)),
    ],
)
def test_amounts_are_exact(text: str, wei: str) -> None:
    assert amounts.wei(text) == wei


@pytest.mark.parametrize(
    "text",
    ["", "-1", "+1", "1e18", "1.5", "0.0000000000000000001ether", "1 eth", "0x10", "٣", "1_000", "1,5ether", ".5ether", "1.ether", str(2**256), "NaN"],
)  # fmt: skip
def test_what_is_no_exact_amount_is_refused(text: str) -> None:
    with pytest.raises(errors.BadConfig):
        amounts.wei(text)
