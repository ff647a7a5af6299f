"""Advice where TLS fails."""

ADVICE = (
    "check DINGRELAY_TLS_CA, DINGRELAY_TLS_CERT, and that the URL names the host as its certificate"
)
