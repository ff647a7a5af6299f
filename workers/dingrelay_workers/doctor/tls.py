"""What TLS found wrong, in the words of OpenSSL, which hold no secret."""

import ssl
from collections.abc import Iterator

ADVICE = (
    "check DINGRELAY_TLS_CA, DINGRELAY_TLS_CERT, and that the URL names the host as its certificate"
)


def tls_trouble(error: BaseException) -> str | None:
    """Why a certificate was refused, of ours or of theirs; None if that is not what happened."""
    for each in _chain(error):
        if isinstance(each, ssl.SSLCertVerificationError):
            return f"its certificate is refused: {each.verify_message}"
        if isinstance(each, ssl.SSLError) and each.reason:
            return f"TLS fails: {each.reason.lower().replace('_', ' ')}"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
