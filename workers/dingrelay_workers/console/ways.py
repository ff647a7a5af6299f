"""Ways into the console that lead through another site, which says who a person is."""

import hmac
import json
import secrets
from abc import ABC, abstractmethod
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import ClassVar

from dingrelay_producers.current_apps import CurrentApps
from dingrelay_producers.language import tr
from dingrelay_producers.settings.apps import App
from dingrelay_producers.store import clock
from dingrelay_workers.dingtalk.errors import DingTalkError
from dingrelay_workers.dingtalk.sign_in import sign_in_url, signed_in
from dingrelay_workers.dingtalk.transport import Transport
from dingrelay_workers.directory.models import UserRow
from dingrelay_workers.directory.service import DirectoryService

STATE_SECONDS = 600
"""Time in which a person must come back."""


class NotSignedIn(Exception):
    """The other site does not say who a person is; the reason is for people."""


Arrival = tuple[str | None, str]
"""Userid of a person who has come back, None where the directory has no such person; and what the other site calls them."""


class SignInWay(ABC):
    """One of these ways. Nothing is stored: what must come back with a person is in a signed cookie.

    Args:
        app: in whose directory people must be.
        console_url: of the console; the other site must know its path ``/sign-in/…/done``.
        directory: of the app.
    """

    name: ClassVar[str]

    def __init__(self, app: str, console_url: str, directory: DirectoryService) -> None:
        self.app = app
        self.back = f"{console_url.rstrip('/')}/sign-in/{self.name}/done"
        self.directory = directory

    @property
    @abstractmethod
    def secret(self) -> str:
        """The secret that no other site knows."""

    @abstractmethod
    async def url(self, state: str) -> str:
        """The address to which a person is sent.

        Raises:
            NotSignedIn: the other site does not answer.
        """

    @abstractmethod
    async def arrival(self, code: str, state: str) -> Arrival:
        """Identify the person who comes back with this code.

        Raises:
            NotSignedIn: the other site does not say.
        """

    def begin(self, following: str) -> tuple[str, str]:
        """A new state, and the cookie that a browser must bring back with it.

        Args:
            following: the path to which the person wants.
        """
        state = secrets.token_urlsafe(16)
        content = json.dumps([state, int(clock.now().timestamp()) + STATE_SECONDS, following])
        body = urlsafe_b64encode(content.encode()).decode()
        return state, f"{body}.{self.derived('cookie', body)}"

    def following(self, state: str, cookie: str) -> str | None:
        """The path to which a person wanted; None if another browser was sent, or too long ago."""
        body, _, seal = cookie.partition(".")
        if not hmac.compare_digest(seal.encode(), self.derived("cookie", body).encode()):
            return None
        stored_state, ends, following = json.loads(urlsafe_b64decode(body))
        fits = hmac.compare_digest(stored_state.encode(), state.encode(errors="replace"))
        return following if fits and clock.now().timestamp() < ends else None

    def derived(self, purpose: str, text: str) -> str:
        """A text derived from the secret: 43 characters for a URL."""
        key = hmac.digest(self.secret.encode(), f"{self.name} {purpose}".encode(), "sha256")
        mac = hmac.digest(key, text.encode(errors="replace"), "sha256")
        return urlsafe_b64encode(mac).decode().rstrip("=")


class DingTalkWay(SignInWay):
    """Through DingTalk's page for one app."""

    name = "dingtalk"

    def __init__(
        self,
        app: str,
        console_url: str,
        directory: DirectoryService,
        *,
        login_url: str,
        apps: CurrentApps,
        transport: Transport,
    ) -> None:
        super().__init__(app, console_url, directory)
        self._login_url = login_url
        self._apps = apps
        self._transport = transport

    @property
    def _app(self) -> App:
        return self._apps.app(self.app)

    @property
    def secret(self) -> str:
        """The app's."""
        return self._app.app_secret.get_secret_value()

    async def url(self, state: str) -> str:
        """DingTalk's page."""
        return sign_in_url(self._login_url, self._app, self.back, state)

    async def arrival(self, code: str, state: str) -> Arrival:
        """Identify the person by their unionid at DingTalk."""
        try:
            unionid, nick = await signed_in(self._transport, self._app, code)
        except DingTalkError as error:
            problem = tr("DingTalk does not say who you are: {code}. Try again.", code=error.code)
            raise NotSignedIn(problem) from error
        user = await self.directory.userid_of(self.app, UserRow.unionid == unionid)
        return user, nick
