"""TLS contexts: what files they refuse, and how they take up new ones."""

from __future__ import annotations

import asyncio
import datetime
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from domain import errors
from kit import tls
from tests import certificates, said


@pytest.fixture
def ours(tmp_path: Path) -> certificates.Authority:
    return certificates.Authority(tmp_path)


def but(files: tls.Files, **changes: Any) -> tls.Files:
    return msgspec.structs.replace(files, **changes)


def test_a_good_pair_says_its_names_and_its_end(ours: certificates.Authority) -> None:
    facts = tls.server(ours.issue("hub", "127.0.0.1", "hub.example", not_after=certificates.LATER)).facts
    assert facts is not None and facts.names == ("127.0.0.1", "hub.example")
    assert facts.shown() == f"127.0.0.1, hub.example, valid until {certificates.LATER:%Y-%m-%d}"


def test_everything_that_ends_is_named_by_its_use(ours: certificates.Authority) -> None:
    files = ours.issue("hub", not_after=certificates.LATER)
    served, asked = tls.server(but(files, ca=ours.ca_file)), tls.client(but(files, ca=ours.ca_file))
    said_ca = asked._current.get_ca_certs()[0]
    authority = tls.Term(*(int(ssl.cert_time_to_seconds(str(said_ca[key]))) for key in ("notBefore", "notAfter")))
    own = served.terms()["server"]
    assert own.ends_s == int(certificates.LATER.timestamp()) != authority.ends_s
    assert tls.terms(served, None, asked) == {
        "server": own, "clients-ca": authority, "client": own, "hub-ca": authority,
    }  # fmt: skip
    assert tls.terms(tls.server(files), tls.client(tls.Files("hub"))) == {"server": own}
    assert tls.terms(None) == {}


def test_a_certificate_says_for_how_long_it_was_issued(ours: certificates.Authority) -> None:
    begins = certificates.NOW - datetime.timedelta(hours=1)
    files = ours.issue("hub", not_before=begins, not_after=begins + datetime.timedelta(hours=24))
    term = tls.server(files).terms()["server"]
    assert (term.begins_s, term.ends_s) == (int(begins.timestamp()), int(begins.timestamp()) + 86_400)


def test_of_several_authorities_the_first_to_end_is_told(ours: certificates.Authority, tmp_path: Path) -> None:
    other = certificates.Authority(tmp_path, "theirs")
    both = tmp_path / "both.pem"
    both.write_bytes(ours.ca_file.read_bytes() + other.ca_file.read_bytes())
    context = tls.server(but(ours.issue("hub"), ca=both))
    alone = [tls.client(tls.Files("hub", ca=one.ca_file)).terms()["hub-ca"] for one in (ours, other)]
    assert context.terms()["clients-ca"] == min(alone, key=lambda term: term.ends_s)


def test_a_renewed_certificate_is_seen_before_anybody_connects(ours: certificates.Authority) -> None:
    files = ours.issue("hub")
    context = tls.server(files)
    before = context.terms()["server"].ends_s
    newer = ours.issue("hub-2", not_after=certificates.LATER)
    assert files.certificate and files.key and newer.certificate and newer.key
    shutil.copyfile(newer.certificate, files.certificate)
    assert context.terms()["server"].ends_s == before  # half replaced: the old one is in force
    shutil.copyfile(newer.key, files.key)
    assert context.terms()["server"].ends_s == int(certificates.LATER.timestamp()) != before


def test_nothing_older_than_tls_1_2_is_spoken(ours: certificates.Authority) -> None:
    files = ours.issue("hub")
    for built in (tls.server(files), tls.client(but(files, ca=ours.ca_file))):
        assert built._current.minimum_version == ssl.TLSVersion.TLSv1_2


def test_a_client_checks_the_name_and_the_authority(ours: certificates.Authority) -> None:
    for ca in (None, ours.ca_file):
        built = tls.client(tls.Files("hub", ca=ca))._current
        assert built.check_hostname and built.verify_mode == ssl.CERT_REQUIRED


@pytest.mark.parametrize("role", ["server", "client"])
@pytest.mark.parametrize(
    ("validity", "said"), [(certificates.PAST, "has expired"), (certificates.FUTURE, "is not valid yet")]
)
def test_a_certificate_out_of_its_time_is_refused(
    ours: certificates.Authority, role: str, validity: dict[str, Any], said: str
) -> None:
    files = ours.issue("hub", **validity)
    with pytest.raises(errors.BadConfig, match=rf"web\.tls\.certificate_file {said}"):
        tls.server(files) if role == "server" else tls.client(but(files, ca=ours.ca_file))


def test_the_key_of_another_certificate_is_refused(ours: certificates.Authority) -> None:
    files, other = ours.issue("hub"), ours.issue("other")
    with pytest.raises(errors.BadConfig, match=r"web\.tls\.key_file is not the key of web\.tls\.certificate_file"):
        tls.server(but(files, key=other.key))


@pytest.mark.parametrize(
    ("field", "content", "said"),
    [
        ("certificate", None, "certificate_file cannot be read"),
        ("key", None, "key_file cannot be read"),
        ("ca", None, "client_ca_file cannot be read"),
        ("certificate", b"rubbish", "certificate_file holds no certificate"),
        ("key", b"rubbish", "key_file holds no private key"),
        ("ca", b"rubbish", "client_ca_file holds no certificates"),
    ],
)
def test_a_file_that_is_missing_or_rubbish_is_named(
    ours: certificates.Authority, field: str, content: bytes | None, said: str
) -> None:
    wrong = ours.folder / "wrong.pem"
    if content is not None:
        wrong.write_bytes(content)
    with pytest.raises(errors.BadConfig, match=said) as refused:
        tls.server(but(ours.issue("hub"), **{field: wrong}))
    assert str(wrong) in str(refused.value)


def test_a_key_with_a_password_is_refused_without_asking_for_it(ours: certificates.Authority) -> None:
    files = ours.issue("hub")
    assert files.key is not None
    locked = ours.folder / "locked.key"
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    subprocess.run(
        [openssl, "pkey", "-aes256", "-passout", "pass:canary", "-in", files.key, "-out", locked],
        check=True,
        timeout=30,
    )
    with pytest.raises(errors.BadConfig, match="key_file is encrypted"):
        tls.server(but(files, key=locked))


def test_no_error_shows_anything_of_a_key(ours: certificates.Authority) -> None:
    files = ours.issue("hub")
    assert files.key is not None
    secret = files.key.read_text().splitlines()[2]
    broken = ours.folder / "broken.key"
    broken.write_text(files.key.read_text().replace("-----END", "=====END"))
    for wrong in (but(files, key=broken), but(files, certificate=files.key), but(files, ca=files.key)):
        with pytest.raises(errors.BadConfig) as refused:
            tls.server(wrong)
        assert secret not in str(refused.value) and secret not in repr(refused.value.__cause__)


async def shown_by(context: ssl.SSLContext, ours: certificates.Authority) -> bytes | None:
    """The certificate that a server with this context shows a new connection."""

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        client = tls.client(tls.Files("hub", ca=ours.ca_file))
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
        found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return found


def leaf(files: tls.Files) -> bytes:
    assert files.certificate is not None
    return ssl.PEM_cert_to_DER_cert(files.certificate.read_text())


async def test_new_files_are_taken_up_by_the_next_connection(ours: certificates.Authority) -> None:
    files = ours.issue("hub")
    context = tls.server(files)
    assert await shown_by(context, ours) == leaf(files)
    old = leaf(files)
    ours.issue("hub")
    assert leaf(files) != old
    assert await shown_by(context, ours) == leaf(files)


async def test_files_that_are_not_good_together_leave_the_old_ones_in_force(ours: certificates.Authority) -> None:
    files = ours.issue("hub")
    context, old = tls.server(files), leaf(files)
    assert files.certificate is not None
    files.certificate.write_bytes(b"half written")
    with said.heard() as log:
        assert await shown_by(context, ours) == old
    assert "tls.not_rotated" in log.getvalue()
    with pytest.raises(errors.BadConfig):
        context.reload()
    assert await shown_by(context, ours) == old
    ours.issue("hub")
    assert await shown_by(context, ours) == leaf(files)


def test_the_page_explains_what_is_really_said() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "tls.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `the hub ")]
    sentences = {sentence for _, sentence, _ in tls._ALERTS}
    assert len(rows) >= 4
    for row in rows:
        assert row.split("`")[1].removeprefix("the hub ") in sentences, row
    for code in (9, 10, 18, 20, 62):
        assert tls._PROBLEMS[code] in page
