"""People who sign in to other sites with DingTalk: codes, and the tokens that they buy."""

import secrets
from dataclasses import dataclass

CODE_SECONDS = 300
TOKEN_SECONDS = 7_200


@dataclass(frozen=True, slots=True)
class SignIn:
    """A person at an app, until a moment in Unix seconds."""

    app_key: str
    userid: str
    ends_at: float


class SignIns:
    """Codes, each good once, and tokens of people."""

    def __init__(self) -> None:
        self._codes: dict[str, SignIn] = {}
        self._tokens: dict[str, SignIn] = {}

    def code(self, app_key: str, userid: str, at: float) -> str:
        """A code for a person who agreed."""
        return _keep(self._codes, SignIn(app_key, userid, at + CODE_SECONDS))

    def take(self, code: str, app_key: str, at: float) -> SignIn | None:
        """What a code of this app stands for; it is used up."""
        found = self._codes.pop(code, None)
        return found if found and found.app_key == app_key and found.ends_at > at else None

    def token(self, sign_in: SignIn, at: float) -> str:
        """A token of the person."""
        return _keep(self._tokens, SignIn(sign_in.app_key, sign_in.userid, at + TOKEN_SECONDS))

    def person(self, token: str, at: float) -> str | None:
        """Whose token it is."""
        found = self._tokens.get(token)
        return found.userid if found and found.ends_at > at else None


def _keep(where: dict[str, SignIn], sign_in: SignIn) -> str:
    value = secrets.token_hex(16)
    where[value] = sign_in
    return value
