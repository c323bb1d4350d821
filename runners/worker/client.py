"""Forge's runner API over HTTPS: one method a message."""

from __future__ import annotations

import json
import random
import re
import threading
from typing import TypeVar

import requests
from requests.auth import AuthBase

from runners.worker import protocol
from runners.worker.configuration import Configuration
from runners.worker.errors import RefusedError, RevokedError, UnreachableError
from runners.worker.tls import TlsAdapter, context_for

CONNECT_TIMEOUT = 5.0
ANSWER_TIMEOUT = 30.0
MAXIMUM_ANSWER_BYTES = 64 * 1024 * 1024
READ_BYTES = 64 * 1024
LONGEST_RETRY_AFTER = 300.0

_Reply = TypeVar("_Reply", bound=protocol.Message)


class _Bearer(AuthBase):
    """Sets the header itself, so that an entry in ~/.netrc cannot replace it."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class Client:
    """Thread-safe: each thread keeps a connection of its own alive.

    Every method raises RevokedError (401), RefusedError (Forge said no, for a reason),
    and UnreachableError (anything that may pass: no connection, time-outs, 429, 5xx).
    """

    def __init__(self, configuration: Configuration) -> None:
        self._url = configuration.url
        self._auth = _Bearer(configuration.token)
        self._tls = context_for(configuration)
        self._local = threading.local()

    def connect(self, request: protocol.ConnectRequest) -> protocol.ConnectReply:
        return self._post("connect", request, protocol.ConnectReply)

    def claim(self, request: protocol.ClaimRequest) -> protocol.Job:
        return self._post("claim", request, protocol.Job)

    def report(self, request: protocol.Report) -> protocol.ReportReply:
        return self._post("report", request, protocol.ReportReply)

    def heartbeat(self, request: protocol.Heartbeat) -> protocol.HeartbeatReply:
        return self._post("heartbeat", request, protocol.HeartbeatReply)

    def _post(self, path: str, message: protocol.Message, reply: type[_Reply]) -> _Reply:
        try:
            response = self._session().post(
                f"{self._url}/runner/v1/{path}",
                data=message.as_bytes(),
                timeout=(CONNECT_TIMEOUT, ANSWER_TIMEOUT),
                # A redirect would carry the token to wherever it points.
                allow_redirects=False,
                stream=True,
            )
            body = _read(self._url, response)
        except requests.RequestException as error:
            raise UnreachableError(_unreachable(self._url, error)) from error
        if response.status_code != requests.codes.ok:
            raise _refusal(self._url, response, body)
        try:
            return reply.parse(body)
        except protocol.ProtocolError as error:
            detail = f"{self._url} does not answer like Forge ({error}). Check FORGE_URL."
            raise UnreachableError(detail) from error

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            session.auth = self._auth
            session.mount("https://", TlsAdapter(self._tls))
            session.headers["Content-Type"] = "application/json"
        return session


def _read(url: str, response: requests.Response) -> bytes:
    """The answer's body, as far as any answer of Forge's may go. Raises UnreachableError."""
    body = bytearray()
    for piece in response.iter_content(READ_BYTES):
        body += piece
        if len(body) > MAXIMUM_ANSWER_BYTES:
            response.close()
            raise UnreachableError(f"{url} does not answer like Forge (too much). Check FORGE_URL.")
    return bytes(body)


def _unreachable(url: str, error: requests.RequestException) -> str:
    if isinstance(error, requests.exceptions.SSLError):
        return (
            f"The certificate of {url} is not trusted here. With a private CA, set "
            "FORGE_CA_FILE to its file."
        )
    if isinstance(error, requests.Timeout):
        return f"Forge at {url} did not answer in time. Check FORGE_URL and the network."
    return f"Forge at {url} cannot be reached. Check FORGE_URL, the network and the proxy settings."


def _refusal(url: str, response: requests.Response, body: bytes) -> Exception:
    status = response.status_code
    code, sentence = _said(body)
    if status == requests.codes.unauthorized:
        return RevokedError(
            f"Forge at {url} does not accept this runner's token: it is wrong or the runner was "
            "removed. Add a runner in Forge and use its token."
        )
    retry_after = _retry_after(response)
    if status == requests.codes.too_many_requests:
        return UnreachableError(f"Forge at {url} asks for patience: {sentence}", retry_after)
    if status >= requests.codes.server_error:
        trouble = f"Forge at {url} is in trouble (HTTP {status}). {sentence}"
        return UnreachableError(trouble, retry_after)
    if not code:
        hint = (
            "Check FORGE_URL, that ALLOWED_HOSTS of Forge has its host name, and whether a proxy "
            "before it asks for a client certificate (FORGE_CLIENT_CERT)."
        )
        return UnreachableError(f"{url} does not answer like Forge (HTTP {status}). {hint}")
    return RefusedError(sentence, code)


def _retry_after(response: requests.Response) -> float:
    """The seconds that the answer asks to wait for; 0 if it says none that can be believed."""
    text = response.headers.get("Retry-After", "").strip()
    return min(float(text), LONGEST_RETRY_AFTER) if re.fullmatch(r"[0-9]{1,6}", text) else 0.0


def spread_pause(own: float, asked: float) -> float:
    """How long to wait: as long as Forge asked, or part of one's own pause, whichever is longer.

    Random beyond that, so that many workers that were told the same do not come back at once.
    """
    share: float = random.uniform(0.5, 1.0)  # noqa: S311
    return max(own * share, asked * (0.5 + share))


def _said(body: bytes) -> tuple[str, str]:
    """The code and the sentence of an error answer; empty if it is not Forge's."""
    try:
        content = json.loads(body)
    except ValueError:
        return "", ""
    if not isinstance(content, dict):
        return "", ""
    code, message = str(content.get("code", "")), str(content.get("message", ""))
    # It ends up in logs and on a terminal.
    return protocol.printable(code, 100), protocol.printable(message, 500)
