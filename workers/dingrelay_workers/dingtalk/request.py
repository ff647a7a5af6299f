"""A call of DingTalk's API as a job asks for it, and what makes it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from dingrelay_workers.dingtalk.apis import MESSAGE_SEND, Api
from dingrelay_workers.dingtalk.lenient import Answer

TOKEN_HEADER = "x-acs-dingtalk-access-token"  # noqa: S105 - the header's name


@dataclass(frozen=True, slots=True)
class FileForm:
    """A body that is no JSON: a form with a file.

    Attributes:
        content_type: with the boundary between its parts.
    """

    content_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Request:
    """One call.

    Attributes:
        api: what is called.
        query: parameters of the URL, without the token.
        body: what is sent as JSON, or a form that is sent as it is.
        recipients: how many people a message reaches, for the limit on recipients.
    """

    api: Api
    query: Mapping[str, str] | None = None
    body: Mapping[str, Any] | Sequence[Any] | FileForm | None = None
    recipients: int = 0

    @property
    def users(self) -> list[str]:
        """The userids that a work notification names; others can share its call."""
        if self.api is not MESSAGE_SEND or "userid_list" not in self._fields:
            return []
        return str(self._fields["userid_list"]).split(",")

    @property
    def _fields(self) -> Mapping[str, Any]:
        return self.body if isinstance(self.body, Mapping) else {}

    def to(self, users: Iterable[str]) -> "Request":
        """The same work notification for other people."""
        userids = list(users)
        body = {**self._fields, "userid_list": ",".join(userids)}
        return replace(self, body=body, recipients=len(userids))

    def parameters(self, token: str) -> Mapping[str, str] | None:
        """The parameters of the URL; the old dialect carries the token there (API §0)."""
        if self.api.dialect == "oapi":
            return {**(self.query or {}), "access_token": token}
        return self.query

    def headers(self, token: str) -> Mapping[str, str]:
        """The headers; the new dialect carries the token there (API §0)."""
        return {} if self.api.dialect == "oapi" else {TOKEN_HEADER: token}


class Calls(Protocol):
    """Makes the calls of one job."""

    @property
    def app(self) -> str:
        """The app for which it calls."""
        ...

    @property
    def agent_id(self) -> str:
        """The app's agent id."""
        ...

    async def send(self, request: Request) -> dict[str, Any]:
        """DingTalk's answer, which is a success.

        Raises:
            DingTalkError: exactly one of its classes.
        """
        ...


async def ask(calls: Calls, request: Request) -> Answer:
    """DingTalk's answer to a request, with readers for its fields."""
    return Answer(request.api, await calls.send(request))
