"""The secret half of an API key: made once, shown once, kept as a digest.

A key's text is ``drk_<id>.<secret>``. The secret is 256 random bits, so there is nothing to guess
that a slow hash would protect: SHA-256 is what fits, and each request can afford it. A password
hash is for what people choose.
"""

import hashlib
import hmac
import secrets
from base64 import urlsafe_b64encode

from dingrelay_workers.http.api_keys import KEY_ID

_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
"""Nothing that is read wrong on a screen; 32 of them, so twelve are 60 bits."""
_ID_LENGTH = 12
_SECRET_BYTES = 32


def new_id(seed: bytes | None = None) -> str:
    """The public half: ``drk_`` and twelve characters. A seed always gives the same one."""
    letters = _random(seed, b"id")[:_ID_LENGTH]
    return "drk_" + "".join(_ALPHABET[each % len(_ALPHABET)] for each in letters)


def new_secret(seed: bytes | None = None) -> str:
    """The secret half: 43 characters that a URL, a header and a shell take as they are."""
    return urlsafe_b64encode(_random(seed, b"secret")).decode().rstrip("=")


def _random(seed: bytes | None, purpose: bytes) -> bytes:
    if seed is None:
        return secrets.token_bytes(_SECRET_BYTES)
    return hmac.digest(seed, purpose, hashlib.sha256)


def split(presented: str) -> tuple[str, str] | None:
    """Id and secret of a key's text; None if it is no key's."""
    key_id, dot, secret = presented.partition(".")
    return (key_id, secret) if dot and KEY_ID.fullmatch(key_id) else None


def digest(key_id: str, secret: str) -> str:
    """The stored digest of a secret and its id: one key's digest is no use in another's row."""
    # A secret that is no Unicode belongs to no key; it must not fail either.
    return hashlib.sha256(f"{key_id}.{secret}".encode(errors="surrogatepass")).hexdigest()


def matches(expected: str, given: str) -> bool:
    """Whether two digests are equal, in a time that does not tell how far they are."""
    return hmac.compare_digest(expected, given)
