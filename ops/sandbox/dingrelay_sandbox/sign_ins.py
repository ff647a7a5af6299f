"""People who sign in to other sites with DingTalk: codes, and the tokens that they buy."""

import secrets

CODE_SECONDS = 300
TOKEN_SECONDS = 7_200


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
        return _keep(self._tokens, (app_key, userid, at + TOKEN_SECONDS))

    def person(self, token: str, at: float) -> str | None:
        """Whose token it is."""
        _, userid, until = self._tokens.get(token, NO_ONE)
        return userid if until > at else None


def _keep(where: dict[str, SignIn], sign_in: SignIn) -> str:
    value = secrets.token_hex(16)
    where[value] = sign_in
    return value
