"""Forge's runner API over HTTPS: one method a message."""

from __future__ import annotations

import json
import random
import re
import ssl
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import requests
from requests.auth import AuthBase
from urllib3.exceptions import NewConnectionError

from runners.worker import protocol
from runners.worker.configuration import Configuration, Trust
from runners.worker.errors import RefusedError, RevokedError, UnreachableError
from runners.worker.fields import Message, ProtocolError, printable
from runners.worker.tls import (
    NOT_TLS,
    TlsAdapter,
    context_for,
    may_tls_pass,
    tls_error_in,
    tls_reason,
)

CONNECT_TIMEOUT = 5.0
ANSWER_TIMEOUT = 30.0
READ_BYTES = 64 * 1024
# What Forge's quotas may ask for; and what a proxy that is in trouble may.
LONGEST_RETRY_AFTER = 300.0
LONGEST_IN_TROUBLE = 30.0
# What Forge's own codes look like; a proxy's JSON may have a number, or its own words, there.
_CODE = re.compile(r"[a-z]+(?:_[a-z]+)*")
# X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH.
_FOR_ANOTHER_NAME = (62, 64)

_UNKNOWN = "unauthorized"
# By the code of a 401; the sentence says what to do. A 401 without one of these is not Forge's.
_WHY_REVOKED = {
    _UNKNOWN: ("it is wrong or the runner was removed. Add a runner in Forge and use its token."),
    "removed": "the runner was removed. Add a runner in Forge and use its token.",
    "replaced": "a newer one has replaced it. Put the newer one in its place.",
    "other_runner": "it belongs to another runner. Put this runner's own in its place.",
}

_Reply = TypeVar("_Reply", bound=Message)


class _Bearer(AuthBase):
    """Sets the header itself, so that an entry in ~/.netrc cannot replace it."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _no_sign_in(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keeps an entry in ~/.netrc from being sent along."""
    return request


class _Exchange:
    """One request after the other to one Forge. Thread-safe: each thread has its connection."""

    def __init__(self, url: str, trust: Trust) -> None:
        self.url = url
        self._tls = context_for(trust)
        self.headers = {"Content-Type": "application/json"}
        self._local = threading.local()

    def send(
        self, path: str, message: Message, token: str, patience: float
    ) -> tuple[requests.Response, bytes]:
        """The answer, whatever its status, and its body; `patience` is in seconds.

        Raises UnreachableError.
        """
        try:
            response = self._session().post(
                f"{self.url}/runner/v1/{path}",
                data=message.as_bytes(),
                headers=self.headers,
                auth=_Bearer(token),
                timeout=(min(CONNECT_TIMEOUT, patience), patience),
                # A redirect would carry the token to wherever it points.
                allow_redirects=False,
                stream=True,
            )
            return response, _read(self.url, response)
        except requests.RequestException as error:
            raise _unreachable(self.url, error) from error

    def reach(self) -> None:
        """Ask for a page that needs no token. Raises UnreachableError."""
        try:
            timeout = (CONNECT_TIMEOUT, ANSWER_TIMEOUT)
            response = self._session().get(
                f"{self.url}/healthz", auth=_no_sign_in, timeout=timeout, allow_redirects=False
            )
        except requests.RequestException as error:
            raise _unreachable(self.url, error) from error
        if response.status_code != requests.codes.ok:
            raise UnreachableError(_not_like_forge(self.url, f"HTTP {response.status_code}"))

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            session.mount("https://", TlsAdapter(self._tls))
        return session


class Client:
    """Thread-safe: each thread keeps a connection of its own alive.

    Every method raises RevokedError (a 401 of Forge's own), RefusedError (Forge said no, for a
    reason), and UnreachableError (anything that may pass: no connection, time-outs, 429, 5xx, what
    is no answer of Forge's).
    """

    def __init__(self, configuration: Configuration) -> None:
        self._tokens = configuration.tokens
        self._exchange = _Exchange(configuration.url, configuration.trust)

    def reach(self) -> None:
        """Whether Forge is there at all, asked without the token. Raises UnreachableError."""
        self._exchange.reach()

    def speak_as(self, account: str) -> None:
        """Say with every request which runner this is, once it is known."""
        self._exchange.headers["Forge-Runner"] = account

    def verify(self, request: protocol.VerifyRequest) -> protocol.VerifyReply:
        return self._post("verify", request, protocol.VerifyReply)

    def connect(self, request: protocol.ConnectRequest) -> protocol.ConnectReply:
        return self._post("connect", request, protocol.ConnectReply)

    def claim(self, request: protocol.ClaimRequest) -> protocol.Job:
        return self._post("claim", request, protocol.Job)

    def report(self, request: protocol.Report) -> protocol.ReportReply:
        return self._post("report", request, protocol.ReportReply)

    def heartbeat(
        self, request: protocol.Heartbeat, *, patience: float = ANSWER_TIMEOUT
    ) -> protocol.HeartbeatReply:
        """`patience`: how many seconds to wait for the answer."""
        return self._post("heartbeat", request, protocol.HeartbeatReply, patience)

    def unregister(self, request: protocol.UnregisterRequest) -> protocol.UnregisterReply:
        return self._post("unregister", request, protocol.UnregisterReply)

    def _post(
        self,
        path: str,
        message: Message,
        reply: type[_Reply],
        patience: float = ANSWER_TIMEOUT,
    ) -> _Reply:
        """Send with the token of this moment; if it is refused, with another that there is."""
        token, refused = self._tokens.current(), set[str]()
        while True:
            response, body = self._exchange.send(path, message, token, patience)
            if response.status_code != requests.codes.unauthorized:
                break
            refused.add(token)
            other = self._tokens.another(refused)
            if other is None:
                break
            token = other
        accept = partial(self._tokens.accept, token)
        return _parse(self._exchange.url, response, body, reply, accept)


def register(
    url: str, trust: Trust, registration_token: str, request: protocol.RegisterRequest
) -> protocol.RegisterReply:
    """Exchange a registration token for a runner. Raises as Client's methods."""
    exchange = _Exchange(url, trust)
    response, body = exchange.send("register", request, registration_token, ANSWER_TIMEOUT)
    is_refused = response.status_code == requests.codes.unauthorized
    if is_refused and _said(body)[0] == _UNKNOWN:
        raise RevokedError(
            f"Forge at {url} does not know this registration token. Check that it is whole, and "
            "FORGE_URL."
        )
    return _parse(url, response, body, protocol.RegisterReply)


def _parse(
    url: str,
    response: requests.Response,
    body: bytes,
    reply: type[_Reply],
    authenticated: Callable[[], None] = lambda: None,
) -> _Reply:
    """The message in an answer; calls `authenticated` if it is Forge's own and not a 401.

    Raises as Client's methods.
    """
    if response.status_code != requests.codes.ok:
        raise _refusal(url, response, body)
    try:
        answer = reply.parse(body)
    except ProtocolError as error:
        raise UnreachableError(_not_like_forge(url, str(error))) from error
    authenticated()
    return answer


def _not_like_forge(url: str, why: str) -> str:
    return (
        f"{url} does not answer like Forge ({why}). Check FORGE_URL, that ALLOWED_HOSTS of Forge "
        "has its host name, and whether a proxy before it asks for a client certificate "
        "(FORGE_CLIENT_CERT)."
    )


def _read(url: str, response: requests.Response) -> bytes:
    """The answer's body, as far as any answer of Forge's may go. Raises UnreachableError."""
    body = bytearray()
    for piece in response.iter_content(READ_BYTES):
        body += piece
        if len(body) > protocol.MAXIMUM_ANSWER_BYTES:
            response.close()
            raise UnreachableError(_not_like_forge(url, "too much"))
    return bytes(body)


def _unreachable(url: str, error: requests.RequestException) -> UnreachableError:
    """What became of a request. ValueErrors are addresses that there cannot be, a proxy's too."""
    may_pass = not isinstance(error, ValueError) and may_tls_pass(error)
    return UnreachableError(
        _why_unreachable(url, error), may_pass=may_pass, may_have_arrived=not _is_unsent(error)
    )


def _is_unsent(error: requests.RequestException) -> bool:
    """Whether there was not even a connection, as where nobody listens."""
    cause = error.args[0] if error.args else None
    return isinstance(error, requests.ConnectTimeout) or isinstance(
        getattr(cause, "reason", None), NewConnectionError
    )


def _why_unreachable(url: str, error: requests.RequestException) -> str:
    if isinstance(error, requests.exceptions.SSLError):
        return _no_secure_connection(url, error)
    if isinstance(error, requests.Timeout):
        return f"Forge at {url} did not answer in time. Check FORGE_URL and the network."
    return f"Forge at {url} cannot be reached. Check FORGE_URL, the network and the proxy settings."


def _no_secure_connection(url: str, error: requests.exceptions.SSLError) -> str:
    """Only what is wrong with a certificate is said to be: the remedy is another one."""
    cause = tls_error_in(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        why = printable(cause.verify_message, 200).rstrip(".")
        if cause.verify_code in _FOR_ANOTHER_NAME:
            return f"The certificate of {url} is for another address ({why}). Check FORGE_URL."
        return (
            f"The certificate of {url} is not trusted here ({why}). With a private CA, set "
            "FORGE_CA_FILE to its file."
        )
    if tls_reason(cause) in NOT_TLS:
        return (
            f"{url} does not speak TLS: something answers there, but not https. Check the port in "
            "FORGE_URL and the proxy settings."
        )
    detail = printable(str(cause or error), 200)
    return (
        f"No secure connection to {url} can be made ({detail}). Check FORGE_URL, the network and "
        "the proxy settings, and FORGE_CLIENT_CERT if a proxy before Forge asks for a certificate."
    )


def _refusal(url: str, response: requests.Response, body: bytes) -> Exception:
    status = response.status_code
    code, sentence = _said(body)
    if status == requests.codes.unauthorized:
        # Forge says why in a code of its own. A proxy that asks for a password, and a gateway that
        # asks for a token of its own, say nothing of the runner's.
        if why := _WHY_REVOKED.get(code):
            return RevokedError(f"Forge at {url} does not accept this runner's token: {why}", code)
        return UnreachableError(_not_like_forge(url, f"HTTP {status}"))
    if status == requests.codes.too_many_requests:
        patience = f"Forge at {url} asks for patience: {sentence}"
        asked = _retry_after(response, LONGEST_RETRY_AFTER)
        return UnreachableError(patience, asked, may_have_arrived=False)
    if status >= requests.codes.server_error:
        trouble = f"Forge at {url} is in trouble (HTTP {status}). {sentence}".rstrip()
        return UnreachableError(trouble, _retry_after(response, LONGEST_IN_TROUBLE))
    if not code:
        return UnreachableError(_not_like_forge(url, f"HTTP {status}"))
    return RefusedError(sentence, code)


def _retry_after(response: requests.Response, most: float) -> float:
    """The seconds that the answer asks to wait for; 0 if it says none that can be believed."""
    text = response.headers.get("Retry-After", "").strip()
    return min(float(text), most) if re.fullmatch(r"[0-9]{1,6}", text) else 0.0


def spread_pause(own: float, asked: float) -> float:
    """How long to wait: as long as Forge asked, or part of one's own pause, whichever is longer.

    Random beyond that, so that many workers that were told the same do not come back at once.
    """
    share: float = random.uniform(0.5, 1.0)  # noqa: S311
    return max(own * share, asked * (0.5 + share))


def _said(body: bytes) -> tuple[str, str]:
    """The code and the sentence of an error answer; no code if it is not Forge's."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return "", ""
    if not isinstance(content, dict):
        return "", ""
    code, message = content.get("code"), str(content.get("message", ""))
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        code = ""
    # It ends up in logs and on a terminal.
    return printable(code, 100), printable(message, 500)
