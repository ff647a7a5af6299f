"""Errors of TLS in the words of OpenSSL, which hold no secret."""

import ssl
from collections.abc import Iterator

from dingrelay_tasks.sentence import en

ASKED = "CERTIFICATE_REQUIRED"
"""The end of OpenSSL's error for a server that requires a client certificate."""


ENDED = en(
    "TLS fails: it ends the connection, and may ask for a certificate of ours, or for another one"
)
NO_REASONS = {"", "unknown error"}
"""OpenSSL's where we wrote while the server had refused our certificate: what it said is lost then."""
CLOSED = ("closed by server", "unexpectedly closed", "reset by peer", "Broken pipe")
"""Texts of redis-py, py-amqp and the system for a connection that the other side has closed."""


def tls_trouble(error: BaseException, *, unshown: bool = False) -> str | None:
    """Why a certificate was refused, of ours or of theirs; None if that is not what happened.

    Args:
        error: of the connection.
        unshown: it was tried with TLS and without a certificate of ours. A server that asks for one may
            end the connection before its reason is read.
    """
    for cause in _chain(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return en("its certificate is refused: {}", cause.verify_message)
        if isinstance(cause, ssl.SSLError):
            return _reason_of(cause.reason or "")
    if unshown and any(word in str(cause) for cause in _chain(error) for word in CLOSED):
        return ENDED
    return None


def _reason_of(reason: str) -> str:
    if reason.endswith(ASKED):
        return en("TLS fails: it asks for a certificate of ours")
    if reason in NO_REASONS:
        return ENDED
    return en("TLS fails: {}", reason.lower().replace("_", " "))


def cause(error: BaseException, *, unshown: bool = False) -> str:
    """The error of TLS, or the class of any other error: its text may hold a secret."""
    return tls_trouble(error, unshown=unshown) or type(error).__name__


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
