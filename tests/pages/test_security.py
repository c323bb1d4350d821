"""What a browser is told before it trusts a page."""

from __future__ import annotations

import pytest
from django.test import Client

from tests.cast import Cast


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/", "/sign-in/", "/no/such/page", "/healthz"])
def test_no_page_runs_inline_scripts_or_loads_from_elsewhere(path: str, cast: Cast) -> None:
    client = Client()
    client.force_login(cast.owner)
    policy = client.get(path).headers["Content-Security-Policy"]
    assert "script-src 'self';" in policy and "default-src 'none'" in policy
    assert "unsafe" not in policy and "http" not in policy


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/admin/", "/api/v1/projects/"])
def test_the_admin_and_the_api_run_only_scripts_from_here(path: str, cast: Cast) -> None:
    policy = Client().get(path).headers["Content-Security-Policy"]
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy and "http" not in policy
