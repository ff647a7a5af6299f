"""The forms of the console. Each is good in one session, for one path and one state, and has one effect.

What a form was made for travels in it, signed with a key that follows from the session's token: nothing is stored
until it is sent, and it outlives a restart.
"""

import hashlib
import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web
from aiohttp.web_request import FileField
from multidict import MultiDictProxy
from yarl import URL

from dingrelay_producers.language import tr
from dingrelay_workers.console.declared import LONGEST_FORM, FormValues
from dingrelay_workers.http.body_reader import FRAMING_ERRORS
from dingrelay_workers.sessions.sessions import Session

FIELD = "form"
"""The hidden field with the token."""
COUNT = "count"
"""The field in which a number is typed."""


@dataclass(frozen=True, slots=True)
class FormToken:
    """The state and page that a form was made for, and the number to be typed.

    Attributes:
        sent: forms that the session had sent by then, so that the next form differs.
        state: of what it changes, as the person saw it.
        count: that must be typed; "" for none.
        page: on which it stood.
    """

    sent: int
    state: Mapping[str, str]
    count: str
    page: str

    def sealed(self, session: Session, path: str) -> str:
        """The token as a field of a form to this path."""
        text = json.dumps([self.sent, self.state, self.count, self.page], ensure_ascii=False)
        body = urlsafe_b64encode(text.encode(errors="surrogatepass")).decode()
        return f"{body}.{_sign(session, path, body)}"

    @classmethod
    def opened(cls, session: Session, path: str, token: str) -> Self | None:
        """The token of a form that was made in this session for this path; None if it was not."""
        body, _, seal = token.partition(".")
        if not hmac.compare_digest(
            seal.encode(errors="replace"), _sign(session, path, body).encode()
        ):
            return None
        return cls(*json.loads(urlsafe_b64decode(body).decode(errors="surrogatepass")))

    def changed(self, now: Mapping[str, object]) -> list[tuple[str, str, str]]:
        """The differences from what the person saw: name, then, now."""
        present = {name: str(value) for name, value in now.items()}
        names = dict.fromkeys([*self.state, *present])
        pairs = [(name, self.state.get(name, ""), present.get(name, "")) for name in names]
        return [pair for pair in pairs if pair[1] != pair[2]]


def forged() -> web.HTTPForbidden:
    """Refuses what no form of the console sends."""
    return web.HTTPForbidden(reason=tr("This form was not sent from the console."))


async def read_form(request: web.Request, limit: int = LONGEST_FORM) -> FormValues:
    """The values of a form of at most so many bytes.

    Raises:
        HTTPForbidden: no browser sends such a body.
    """
    try:
        return await request.clone(client_max_size=limit).post()
    except FRAMING_ERRORS:
        raise forged() from None


def digest_of_form(session: Session, path: str, form: MultiDictProxy[Any]) -> str:
    """The same for a form that is sent twice; another for one with other values."""
    digest = hashlib.sha256(f"{session.digest} {path}".encode(errors="replace"))
    for name, value in sorted(form.items(), key=lambda entry: entry[0]):
        if isinstance(value, FileField):
            content = hashlib.file_digest(value.file, "sha256").hexdigest()  # type: ignore[arg-type]
            value.file.seek(0)
        else:
            content = str(value)
        digest.update(json.dumps([name, content]).encode())
    return digest.hexdigest()


def _sign(session: Session, path: str, body: str) -> str:
    # The path of the template and that of the request may differ in what they escape.
    text = f"{URL(path).path}\n{body}"
    return hmac.digest(session.form_key, text.encode(errors="replace"), "sha256").hex()
