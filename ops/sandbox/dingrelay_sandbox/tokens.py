"""Access tokens of apps, renewed by fetching them again, and of people who sign in to other sites (API §1)."""

import secrets
from typing import Literal

TokenState = Literal["good", "expired", "unknown"]


class Tokens:
    """All tokens that were ever issued and not revoked."""

    def __init__(self) -> None:
        self._current: dict[str, str] = {}
        self._tokens: dict[str, tuple[str, float]] = {}
        """Each with its app, and until when it is good, in Unix seconds."""
        self.values: list[str] = []
        """Every value that was ever issued, for searching what must not hold one."""
        self.fetches = 0
        self.issued = 0

    def fetch(self, app_key: str, at: float, seconds: int) -> str:
        """An app's token: the one it has, renewed, or a new one."""
        self.fetches += 1
        value = self._current.get(app_key, "")
        if self.look_up(value, at)[0] != "good":
            self.issued += 1
            value = self._current[app_key] = secrets.token_hex(16)
            self.values.append(value)
        self._tokens[value] = app_key, at + seconds
        return value

    def look_up(self, value: str, at: float) -> tuple[TokenState, str]:
        """State of a token, and its app (empty when unknown)."""
        app_key, until = self._tokens.get(value, ("", 0))
        if not app_key:
            return "unknown", ""
        return ("good" if until > at else "expired"), app_key

    def live(self, at: float) -> int:
        """How many tokens are good."""
        return sum(until > at for _, until in self._tokens.values())

    def revoke(self, app_key: str | None = None) -> int:
        """Forget the tokens of an app, or all; how many there were."""
        gone = [value for value, (app, _) in self._tokens.items() if app_key in {None, app}]
        for value in gone:
            del self._tokens[value]
        return len(gone)

    def expire(self, at: float, app_key: str | None = None) -> int:
        """End the validity of the tokens of an app, or all; how many were good."""
        good = [
            (value, app)
            for value, (app, until) in self._tokens.items()
            if app_key in {None, app} and until > at
        ]
        self._tokens |= {value: (app, at) for value, app in good}
        return len(good)


CODE_SECONDS = 300
SIGN_IN_SECONDS = 7_200


SignIn = tuple[str, str, float]
"""An app, the person who is there, and until when, in Unix seconds."""
NO_ONE: SignIn = ("", "", 0)


class SignIns:
    """Codes, each good once, and tokens of people."""

    def __init__(self) -> None:
        self._codes: dict[str, SignIn] = {}
        self._tokens: dict[str, SignIn] = {}

    def code(self, app_key: str, userid: str, at: float) -> str:
        """A code for a person who agreed."""
        return _keep(self._codes, (app_key, userid, at + CODE_SECONDS))

    def take(self, code: str, app_key: str, at: float) -> str | None:
        """The person that a code of this app stands for; it is used up."""
        app, userid, until = self._codes.pop(code, NO_ONE)
        return userid if app == app_key and until > at else None

    def token(self, app_key: str, userid: str, at: float) -> str:
        """A token of the person."""
        return _keep(self._tokens, (app_key, userid, at + SIGN_IN_SECONDS))

    def person(self, token: str, at: float) -> str | None:
        """The person that a token belongs to."""
        _, userid, until = self._tokens.get(token, NO_ONE)
        return userid if until > at else None


def _keep(where: dict[str, SignIn], sign_in: SignIn) -> str:
    value = secrets.token_hex(16)
    where[value] = sign_in
    return value
