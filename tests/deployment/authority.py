"""A private certificate authority, made with the openssl program."""

from __future__ import annotations

import subprocess
from pathlib import Path


class Authority:
    """`certificate` is what hosts have to trust; `issue` makes certificates for a name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        self.certificate = folder / "ca.pem"
        self._key = folder / "ca.key"
        self._openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=A private CA", "-keyout", str(self._key), "-out", self.certificate),
        )

    def issue(self, name: str, alternatives: str) -> tuple[Path, Path]:
        """Certificate and key for `name`; alternatives as openssl writes them: `DNS:…,IP:…`."""
        certificate, key = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        request, extension = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        extension.write_text(f"subjectAltName={alternatives}\n")
        self._openssl(
            *("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}"),
            *("-keyout", key, "-out", request),
        )
        self._openssl(
            *("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key),
            *("-CAcreateserial", "-days", "2", "-extfile", extension, "-out", certificate),
        )
        return certificate, key

    def _openssl(self, *arguments: str | Path) -> None:
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
