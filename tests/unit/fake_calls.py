"""`Calls` in memory: answers what a test says, and keeps what was asked."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dingrelay_workers.dingtalk.apis import Api
from dingrelay_workers.dingtalk.request import Request

Reply = dict[str, Any] | Exception


@dataclass
class FakeRequest:
    api: Api
    query: dict[str, str]
    body: dict[str, Any]
    recipients: int


@dataclass
class FakeCalls:
    """`answer` is called with each call; what it returns comes back, what is raised is raised."""

    answer: Callable[[FakeRequest], Reply]
    app: str = "default"
    agent_id: str = "4242"
    requests: list[FakeRequest] = field(default_factory=list)

    async def send(self, request: Request) -> dict[str, Any]:
        sent = FakeRequest(
            request.api, dict(request.query or {}), dict(request.body or {}), request.recipients
        )
        self.requests.append(sent)
        reply = self.answer(sent)
        if isinstance(reply, Exception):
            raise reply
        return reply
