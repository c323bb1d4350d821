"""What a browser is told before it trusts a page."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.test import Client

from forge.asgi import Application, _is_in_utf8
from forge.log_lines import Line
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


UNREADABLE = {
    "charset": ("application/x-www-form-urlencoded; charset=latin-1", b"a=b"),
    "no boundary": ("multipart/form-data", b"a=b"),
    "no text charset": (
        "multipart/form-data; boundary=x; charset=rot13",
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n',
    ),
    "bad base64": (
        "multipart/form-data; boundary=x",
        b'--x\r\nContent-Disposition: form-data; name="a"; filename="b"\r\n'
        b"Content-Transfer-Encoding: base64\r\n\r\n!\r\n--x--\r\n",
    ),
    "too many fields": ("application/x-www-form-urlencoded", b"a=b&" * 5000),
}


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/sign-in/", "/", "/no/such/page", "/admin/login/", "/healthz"])
@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_form_that_cannot_be_read_costs_strangers_a_page_and_the_log_no_traceback(
    kind: str, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    client.cookies["forge_csrf"] = "a" * 32
    content_type, body = UNREADABLE[kind]
    for _ in range(5):
        answer = client.generic("POST", path, body, content_type=content_type)
        assert answer.status_code == 400
        assert "This request cannot be understood" in answer.content.decode()
        for header in ("Content-Security-Policy", "X-Content-Type-Options", "X-Frame-Options"):
            assert answer.headers[header]
    assert "Traceback" not in caplog.text
    assert len(caplog.text) < 2000


@pytest.fixture
def log() -> Iterator[StringIO]:
    """What the server writes to its log."""
    [handler] = [
        handler
        for handler in logging.getLogger().handlers
        if isinstance(handler, logging.StreamHandler) and isinstance(handler.formatter, Line)
    ]
    before = handler.setStream(stream := StringIO())
    yield stream
    handler.setStream(before)


@pytest.mark.django_db
def test_what_was_entered_makes_no_lines_in_the_log(cast: Cast, log: StringIO) -> None:
    forged = "2026-11-27 16:00:00,000 WARNING runners.refusals: FORGED"
    client = Client()
    client.force_login(cast.owner)
    address = f"/projects/{cast.project.pk}/audit/csv"
    entered = f"x\n{forged}\x1b]0;title\x07\0"
    assert client.get(address, {"since": entered}).status_code == 400
    assert client.get("/" + "%25s" * 10_000).status_code == 404
    assert len(log.getvalue()) < 2000
    assert "Traceback" not in log.getvalue()
    try:
        raise ValueError(entered)
    except ValueError:
        logging.getLogger("forge.some").exception("It failed")
    lines = log.getvalue().splitlines()
    assert "FORGED" in log.getvalue() and "Traceback" in log.getvalue()
    assert not [line for line in lines if line.startswith(forged)]
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f]", log.getvalue())


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/", "/sign-in/", "/no/such/page"])
def test_a_name_that_is_not_allowed_is_told_with_the_setting(path: str) -> None:
    answer = Client().get(path, headers={"host": "new-name.example"})
    assert answer.status_code == 400
    assert "<code>new-name.example</code>" in answer.text and "ALLOWED_HOSTS" in answer.text
    hostile = Client().get(path, headers={"host": "<script>.example"})
    assert hostile.status_code == 400 and "<script>." not in hostile.text


def answered(*types: bytes) -> list[dict[str, Any]]:
    """What a POST of these types gets from the server, before anything reads it."""
    headers = [(b"content-type", one) for one in types]
    scope = {"type": "http", "method": "POST", "path": "/sign-in/", "headers": headers}
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        pytest.fail("something began to read it")

    asyncio.run(Application()(scope, receive, send))
    return sent


@pytest.mark.parametrize(
    "types",
    [
        (b"multipart/form-data; boundary=x; charset=punycode",),
        (b'multipart/form-data; boundary=x; CHARSET = "idna"',),
        (b"application/json;charset=utf-7",),
        (b"text/plain; charset*=punycode",),
        (b'multipart/form-data; a="\\";charset=punycode; b="x"',),
        (b"text/plain; charset=utf-8", b"text/plain; charset=punycode"),
        (b"text/plain; a*=punycode''" + b"a" * 60_000,),
        (b"text/plain; charset=utf-8; charset=punycode",),
    ],
)
def test_nobody_chooses_the_codec_that_a_request_is_read_with(types: tuple[bytes, ...]) -> None:
    """Some of Python's take a minute of a core for 300 KB, and no account is needed for it."""
    head, body = answered(*types)
    assert head["status"] == 415
    told = json.loads(body["body"])
    assert (
        told["code"] == "unsupported_media_type" and "Text comes in UTF-8 here." in told["message"]
    )


@pytest.mark.parametrize(
    "text",
    [
        b"application/json",
        b"application/json; charset=utf-8",
        b'multipart/form-data; boundary="----x"; charset="UTF-8"',
        b"",
    ],
)
def test_what_browsers_and_workers_send_is_let_in(text: bytes) -> None:
    assert _is_in_utf8({"headers": [(b"content-type", text)]})
    assert _is_in_utf8({"headers": []})
