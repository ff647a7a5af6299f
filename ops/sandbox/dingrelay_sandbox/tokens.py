"""Access tokens: one per app, renewed by fetching it again (API §1)."""

import secrets
from dataclasses import dataclass, field
from typing import Literal

TokenState = Literal["good", "expired", "unknown"]


@dataclass(slots=True)
class Token:
    """One access token. `expires_at` is in Unix seconds."""

    app_key: str
    value: str = field(repr=False)
    expires_at: float


class Tokens:
    """All tokens that were ever issued and not revoked."""

    def __init__(self) -> None:
        self._current: dict[str, Token] = {}
        self._tokens: dict[str, Token] = {}
        self.values: list[str] = []
        """Every value that was ever issued, for searching what must not hold one."""
        self.fetches = 0
        self.issued = 0

    def fetch(self, app_key: str, at: float, seconds: int) -> str:
        """An app's token: the one it has, renewed, or a new one."""
        self.fetches += 1
        token = self._current.get(app_key)
        if token is None or token.expires_at <= at:
            self.issued += 1
            token = Token(app_key, secrets.token_hex(16), 0)
            self._current[app_key] = self._tokens[token.value] = token
            self.values.append(token.value)
        token.expires_at = at + seconds
        return token.value

    def look_up(self, value: str, at: float) -> tuple[TokenState, str]:
        """What a token is worth, and whose it is (empty when unknown)."""
        token = self._tokens.get(value)
        if token is None:
            return "unknown", ""
        return ("good" if token.expires_at > at else "expired"), token.app_key

    def live(self, at: float) -> int:
        """How many tokens are good."""
        return sum(token.expires_at > at for token in self._tokens.values())

    def revoke(self, app_key: str | None = None) -> int:
        """Forget the tokens of an app, or all; how many there were."""
        gone = [t for t in self._tokens.values() if app_key in {None, t.app_key}]
        for token in gone:
            del self._tokens[token.value]
            self._current.pop(token.app_key, None)
        return len(gone)

    def expire(self, at: float, app_key: str | None = None) -> int:
        """End the validity of the tokens of an app, or all; how many were good."""
        ended = 0
        for token in self._tokens.values():
            if app_key in {None, token.app_key} and token.expires_at > at:
                token.expires_at = at
                ended += 1
        return ended
