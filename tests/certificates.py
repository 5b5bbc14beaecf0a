"""Certificates for tests, made by a small authority of the test's own."""

from __future__ import annotations

import datetime
from pathlib import Path

import trustme

from kit import tls

NOW = datetime.datetime.now(datetime.UTC)
PAST = {"not_before": NOW - datetime.timedelta(days=9), "not_after": NOW - datetime.timedelta(days=2)}
FUTURE = {"not_before": NOW + datetime.timedelta(days=2), "not_after": NOW + datetime.timedelta(days=9)}
LATER = NOW + datetime.timedelta(days=90)
ADDRESS = "127.0.0.1"


class Authority:
    """Writes `NAME.pem` and `NAME.key` into `folder`, and its own `ca-NAME.pem`."""

    def __init__(self, folder: Path, name: str = "ours") -> None:
        self.folder = folder
        self.name = name
        self._ca = trustme.CA(organization_name=name)
        self.ca_file = folder / f"ca-{name}.pem"
        self._ca.cert_pem.write_to_path(self.ca_file)

    def issue(self, name: str, *identities: str, **validity: datetime.datetime) -> tls.Files:
        """Overwrites what is there. Without identities: for this machine's own address."""
        made = self._ca.issue_cert(*(identities or (ADDRESS, "localhost")), **validity)
        certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        certificate.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
        key.write_bytes(made.private_key_pem.bytes())
        return tls.Files("web.tls", certificate, key)
