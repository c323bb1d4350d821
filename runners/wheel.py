"""`/runner/forge_runner-….whl`: what a host installs, built from the files of this Forge.

So the runner is always of the server's version, and a host needs no checkout. A wheel is a zip
archive with four files of metadata (PyPA binary distribution format).
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import zipfile
from functools import cache
from pathlib import Path

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from runners.worker.protocol import VERSION

NAME = f"forge_runner-{VERSION}-py3-none-any.whl"
_ROOT = Path(__file__).resolve().parent
# A zip entry cannot be older; one fixed date makes the same files the same wheel.
_DATE = (1980, 1, 1, 0, 0, 0)
_ENTRY_POINTS = b"[console_scripts]\nforge-runner = runners.worker.commands:main\n"


@require_safe
def download(request: HttpRequest) -> HttpResponse:
    response = HttpResponse(build(), content_type="application/zip")
    response["Content-Disposition"] = f'attachment; filename="{NAME}"'
    return response


@cache
def build() -> bytes:
    """The wheel's bytes."""
    files = {f"runners/{path.relative_to(_ROOT)}": path.read_bytes() for path in _sources()}
    info = f"forge_runner-{VERSION}.dist-info"
    files[f"{info}/METADATA"] = _metadata().encode()
    files[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: forge\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    files[f"{info}/entry_points.txt"] = _ENTRY_POINTS
    record = [f"{name},{_hash(data)},{len(data)}" for name, data in files.items()]
    record.append(f"{info}/RECORD,,")
    files[f"{info}/RECORD"] = ("\n".join(record) + "\n").encode()
    return _zipped(files)


def _sources() -> list[Path]:
    return [_ROOT / "__init__.py", *sorted((_ROOT / "worker").rglob("*.py"))]


def _metadata() -> str:
    text = (_ROOT / "worker" / "requirements.txt").read_text()
    lines = [re.sub(r"\s+#.*|^#.*", "", line).strip() for line in text.splitlines()]
    fields = ["Metadata-Version: 2.1", "Name: forge-runner", f"Version: {VERSION}"]
    fields += ["Requires-Python: >=3.11", *(f"Requires-Dist: {line}" for line in lines if line)]
    return "\n".join(fields) + "\n"


def _hash(data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=")
    return "sha256=" + digest.decode()


def _zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, _DATE)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
