"""The cipher between DingTalk and an app's callback (API §7.1; the vectors of API §7.2 are its tests)."""

import base64
import hashlib
import hmac
import secrets
import string
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

AES_KEY_CHARACTERS = 43
RANDOM_BYTES = 16
LENGTH_BYTES = 4
BLOCK_BYTES = 32
"""Of the padding; AES's own block has 16."""
_LETTERS = string.ascii_letters + string.digits
_NONCE_LETTERS = 8


class Undecipherable(ValueError):
    """A text was not made with the key. Which part is wrong is not revealed."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What an encrypted text held.

    Attributes:
        message: as bytes; DingTalk sends JSON in UTF-8.
        owner: the key that it ended with: that of the app or of the organisation.
    """

    message: bytes
    owner: str


class CallbackCrypto:
    """Signs, opens and seals the texts of one callback.

    Args:
        token: part of every signature.
        aes_key: 43 characters of Base64.
        owners: keys that a text may end with; the first that fits is taken.

    Raises:
        ValueError: the AES key is none.
    """

    def __init__(self, token: str, aes_key: str, owners: Sequence[str]) -> None:
        self._token = token
        self._cipher = _cipher(aes_key)
        self._owners = [(owner, owner.encode()) for owner in owners if owner]

    def signature(self, timestamp: str, nonce: str, encrypt: str) -> str:
        """The SHA-1 over token, time, nonce and text in the order of the alphabet, in hexadecimal."""
        signed = "".join(sorted((self._token, timestamp, nonce, encrypt)))
        return hashlib.sha1(signed.encode("utf-8", "surrogatepass")).hexdigest()  # noqa: S324 - DingTalk's choice

    def is_signed(self, signature: str, *, timestamp: str, nonce: str, encrypt: str) -> bool:
        """Whether the signature is right; takes as long wherever it is wrong."""
        right = self.signature(timestamp, nonce, encrypt)
        return hmac.compare_digest(right.encode(), signature.encode("utf-8", "surrogatepass"))

    def open(self, encrypt: str) -> Opened:
        """What an encrypted text holds.

        Raises:
            Undecipherable: it was not made with the key, or not for this app.
        """
        plain = self._plain(encrypt)
        start = RANDOM_BYTES + LENGTH_BYTES
        end = start + int.from_bytes(plain[RANDOM_BYTES:start], "big")
        if len(plain) < start or len(plain) < end:
            raise Undecipherable
        for owner, key in self._owners:
            if hmac.compare_digest(plain[end:], key):
                return Opened(plain[start:end], owner)
        raise Undecipherable

    def seal(self, message: str, owner: str, *, random: str | None = None) -> str:
        """A message as an encrypted text in Base64. `random` is the 16 letters before it."""
        before = (random or _random_letters(RANDOM_BYTES)).encode()
        content = message.encode()
        plain = before + len(content).to_bytes(LENGTH_BYTES, "big") + content + owner.encode()
        missing = BLOCK_BYTES - len(plain) % BLOCK_BYTES
        encryptor = self._cipher.encryptor()
        sealed = encryptor.update(plain + bytes([missing]) * missing) + encryptor.finalize()
        return base64.b64encode(sealed).decode()

    def answer(self, message: str, owner: str, *, at: float) -> dict[str, str]:
        """A signed answer, as JSON values. `at`: Unix seconds."""
        timestamp, nonce = str(int(at * 1000)), _random_letters(_NONCE_LETTERS)
        encrypt = self.seal(message, owner)
        return {
            "msg_signature": self.signature(timestamp, nonce, encrypt),
            "timeStamp": timestamp,
            "nonce": nonce,
            "encrypt": encrypt,
        }

    def _plain(self, encrypt: str) -> bytes:
        try:
            sealed = base64.b64decode(encrypt, validate=True)
            decryptor = self._cipher.decryptor()
            padded = decryptor.update(sealed) + decryptor.finalize()
        except ValueError:
            raise Undecipherable from None
        missing = padded[-1] if padded else 0
        if not 1 <= missing <= BLOCK_BYTES or padded[-missing:] != bytes([missing]) * missing:
            raise Undecipherable
        return padded[:-missing]


def _cipher(aes_key: str) -> Cipher[modes.CBC]:
    if len(aes_key) != AES_KEY_CHARACTERS:
        raise ValueError(f"must have {AES_KEY_CHARACTERS} characters")
    try:
        # The last character holds two bits too many; generators of keys don't care what they are.
        key = base64.b64decode(aes_key + "=", validate=True)
    except ValueError:
        raise ValueError("must be letters and digits") from None
    return Cipher(algorithms.AES(key), modes.CBC(key[:RANDOM_BYTES]))


def _random_letters(count: int) -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(count))
