"""Forge's runner API over HTTPS: one method a message."""

from __future__ import annotations

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
            )
        except requests.RequestException as error:
            raise UnreachableError(_unreachable(self._url, error)) from error
        if response.status_code != requests.codes.ok:
            raise _refusal(self._url, response)
        try:
            return reply.parse(response.content)
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


def _unreachable(url: str, error: requests.RequestException) -> str:
    if isinstance(error, requests.exceptions.SSLError):
        return (
            f"The certificate of {url} is not trusted here. With a private CA, set "
            "FORGE_CA_FILE to its file."
        )
    if isinstance(error, requests.Timeout):
        return f"Forge at {url} did not answer in time. Check FORGE_URL and the network."
    return f"Forge at {url} cannot be reached. Check FORGE_URL, the network and the proxy settings."


def _refusal(url: str, response: requests.Response) -> Exception:
    status = response.status_code
    code, sentence = _said(response)
    if status == requests.codes.unauthorized:
        return RevokedError(
            f"Forge at {url} does not accept this runner's token: it is wrong or the runner was "
            "removed. Add a runner in Forge and use its token."
        )
    if status == requests.codes.too_many_requests or status >= requests.codes.server_error:
        return UnreachableError(f"Forge at {url} is in trouble (HTTP {status}). {sentence}")
    if not code:
        hint = "Check FORGE_URL, and that Forge's ALLOWED_HOSTS has its host name."
        return UnreachableError(f"{url} does not answer like Forge (HTTP {status}). {hint}")
    return RefusedError(sentence, code)


def _said(response: requests.Response) -> tuple[str, str]:
    """The code and the sentence of an error answer; empty if it is not Forge's."""
    try:
        content = response.json()
    except ValueError:
        return "", ""
    if not isinstance(content, dict):
        return "", ""
    return str(content.get("code", ""))[:100], str(content.get("message", ""))[:500]
