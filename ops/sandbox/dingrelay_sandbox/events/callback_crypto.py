"""How an HTTP push is signed and encrypted (API §7.1)."""

import base64
import hashlib
import secrets
import string

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

RANDOM_BYTES = 16
LENGTH_BYTES = 4
BLOCK_BYTES = 32
"""Of the padding; that of AES itself is 16."""
AES_KEY_CHARACTERS = 43
LETTERS = string.ascii_letters + string.digits


def signature(token: str, timestamp: str, nonce: str, encrypt: str) -> str:
    """The SHA-1 over the four texts in the order of the alphabet, as hexadecimal digits."""
    return hashlib.sha1("".join(sorted((token, timestamp, nonce, encrypt))).encode()).hexdigest()


def new_nonce() -> str:
    """Eight letters and digits."""
    return random_letters(8)


def random_letters(length: int) -> str:
    """So many letters and digits."""
    return "".join(secrets.choice(LETTERS) for _ in range(length))


class CallbackCrypto:
    """The cipher between DingTalk and one callback.

    Args:
        aes_key: 43 characters of Base64.
        owner: the key that ends every text: the app's, or the organisation's.

    Raises:
        ValueError: when the key is none.
    """

    def __init__(self, aes_key: str, owner: str) -> None:
        if len(aes_key) != AES_KEY_CHARACTERS:
            raise ValueError(f"aes_key: {AES_KEY_CHARACTERS} characters are needed")
        try:
            key = base64.b64decode(f"{aes_key}=", validate=True)
        except ValueError:
            raise ValueError("aes_key: only letters and digits are allowed") from None
        self._cipher = Cipher(algorithms.AES(key), modes.CBC(key[:16]))
        self._owner = owner.encode()

    def encrypt(self, message: str, random: str | None = None) -> str:
        """A message as Base64. `random` are the 16 characters before it."""
        before = (random or random_letters(RANDOM_BYTES)).encode()
        # Halves of characters, which a remark may have brought along, can't be sent.
        content = message.encode(errors="replace")
        plain = before + len(content).to_bytes(LENGTH_BYTES, "big") + content + self._owner
        missing = BLOCK_BYTES - len(plain) % BLOCK_BYTES
        encryptor = self._cipher.encryptor()
        sealed = encryptor.update(plain + bytes([missing]) * missing) + encryptor.finalize()
        return base64.b64encode(sealed).decode()

    def decrypt(self, encrypted: str) -> str:
        """The message in a text that the same key encrypted.

        Raises:
            ValueError: when it is none, or another owner's.
        """
        sealed = base64.b64decode(encrypted, validate=True)
        decryptor = self._cipher.decryptor()
        padded = decryptor.update(sealed) + decryptor.finalize()
        if not padded or not 1 <= padded[-1] <= BLOCK_BYTES:
            raise ValueError("padding")
        plain = padded[: -padded[-1]]
        start = RANDOM_BYTES + LENGTH_BYTES
        end = start + int.from_bytes(plain[RANDOM_BYTES:start], "big")
        if len(plain) < end:
            raise ValueError("length")
        if plain[end:] != self._owner:
            raise ValueError("owner key")
        return plain[start:end].decode()
