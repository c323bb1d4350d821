"""Whom this host trusts: the system's authorities, or the one that the configuration names."""

from __future__ import annotations

import ssl
from typing import Any

from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from runners.worker.configuration import Trust
from runners.worker.errors import ConfigurationError

MAXIMUM_WRAPPINGS = 50
# OpenSSL's words for bytes that are no TLS, by version.
NOT_TLS = (
    "WRONG_VERSION_NUMBER",
    "HTTP_REQUEST",
    "RECORD_LAYER_FAILURE",
    "PACKET_LENGTH_TOO_LONG",
)
# X509_V_ERR_CERT_NOT_YET_VALID: this host's clock has not been set since it started.
_NOT_YET_VALID = 9
# The peer refuses a certificate that this host shows, or does not.
_ABOUT_CERTIFICATES = ("CERTIFICATE", "UNKNOWN_CA")


def context_for(trust: Trust) -> ssl.SSLContext:
    """For every TLS connection of the worker. Raises ConfigurationError."""
    authority = trust.ca_file
    try:
        # Without a file: what the system trusts, where a private CA is usually installed, and
        # what SSL_CERT_FILE and SSL_CERT_DIR name.
        context = ssl.create_default_context(cafile=authority or None)
        if authority is None:
            context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"FORGE_CA_FILE: {authority} cannot be read as certificates in PEM form "
            f"({_detail(error)})."
        ) from error
    _add_certificate(context, trust)
    return context


def _add_certificate(context: ssl.SSLContext, trust: Trust) -> None:
    if trust.client_certificate is None:
        return
    try:
        context.load_cert_chain(trust.client_certificate, trust.client_key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"FORGE_CLIENT_CERT: {trust.client_certificate} and its key cannot be used "
            f"({_detail(error)}). Give PEM files; FORGE_CLIENT_KEY names the key if it is not in "
            "the same file."
        ) from error


def _detail(error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None)
    return str(reason or error)


class TlsAdapter(HTTPAdapter):
    """Makes `requests` use this context, whatever bundle it would choose itself."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options, ssl_context=self._context)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        return super().proxy_manager_for(proxy, **options, ssl_context=self._context)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Nothing to add: requests would load its own bundle into the context."""

    def build_connection_pool_key_attributes(
        self, request: Any, verify: Any, cert: Any = None
    ) -> Any:
        """Always with verification, whatever the environment says."""
        host, _ = super().build_connection_pool_key_attributes(request, True, None)
        return host, {"ssl_context": self._context, "cert_reqs": "CERT_REQUIRED"}


def tls_error_in(error: BaseException) -> ssl.SSLError | None:
    """What OpenSSL said; requests and urllib3 wrap it several times, as arguments and causes."""
    waiting: list[object] = [error]
    for _ in range(MAXIMUM_WRAPPINGS):
        if not waiting:
            break
        found = waiting.pop(0)
        if isinstance(found, ssl.SSLError):
            return found
        if isinstance(found, BaseException):
            waiting += [*found.args, getattr(found, "reason", None), found.__context__]
    return None


def tls_reason(error: ssl.SSLError | None) -> str:
    """OpenSSL's word for it; empty if there is none, as for errors that Python makes itself."""
    return str(getattr(error, "reason", None) or "")


def may_tls_pass(error: BaseException) -> bool:
    """False if `error` is about a certificate, or no TLS: somebody has to change something."""
    cause = tls_error_in(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return cause.verify_code == _NOT_YET_VALID
    reason = tls_reason(cause)
    return reason not in NOT_TLS and not any(word in reason for word in _ABOUT_CERTIFICATES)
