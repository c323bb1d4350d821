"""axe-core over every page: no serious or critical finding, in light and dark, wide and narrow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.broker import required
from tests.browser.conftest import CHROMIUM
from tests.deployment.deployment import ROOT


def test_no_page_keeps_anybody_out(tmp_path: Path) -> None:
    """The pages of the screenshots, with their believable data; see tests/browser/screenshots.py.

    It also fails on an error in the console and on a breach of the content security policy.
    """
    if not CHROMIUM:
        missing = pytest.fail if "chromium" in required() else pytest.skip
        missing("chromium is not installed")
    command = [sys.executable, "tests/browser/screenshots.py", str(tmp_path / "audit"), "--audit"]
    audit = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert audit.returncode == 0, audit.stdout + audit.stderr[-2000:]
    assert "axe-core looked" in audit.stdout
    print(audit.stdout)
