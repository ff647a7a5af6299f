"""`Calls` in memory: answers what a test says, and keeps what was asked; and real ones of a job."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from math import inf
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, Mock

from dingrelay_workers.calls.job_calls import JobCalls
from dingrelay_workers.calls.tokens import Token
from dingrelay_workers.dingtalk.apis import Api
from dingrelay_workers.dingtalk.request import Request

Reply = dict[str, Any] | Exception
TOKEN = Token("a token", 1, inf)


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


def limiter(**given: Any) -> Any:
    """One that gives every call its slot."""
    acquire, report = AsyncMock(return_value=SimpleNamespace()), AsyncMock()
    plain = {"acquire": acquire, "report": report, "wanted": lambda *_: 0}
    return SimpleNamespace(**plain | {"stale": lambda _: False} | given)


def intents(write: Any = None) -> Any:
    """The log of a job none of whose calls is open."""
    written = write or AsyncMock(return_value=inf)
    return SimpleNamespace(open=False, write=written, take_back=Mock(), call=nullcontext)


def job_calls(*, turn: str = "", **parts: Any) -> JobCalls:
    """Calls of a job that goes alone, with the given parts only."""
    claim: Any = SimpleNamespace(
        id="j",
        app="default",
        lane="normal",
        waiting=0,
        batch_key="",
        sender="",
        turn=turn,
        queue="",
    )
    nothing: dict[str, Any] = {
        "settings": SimpleNamespace(app=lambda _: SimpleNamespace(organisation="o")),
        "limiter": limiter(),
        "quota": SimpleNamespace(check=AsyncMock(), count=Mock()),
        "tokens": AsyncMock(
            at_hand=Mock(return_value=TOKEN),
            note_refusal=Mock(return_value=False),
            note_acceptance=Mock(),
        ),
        "transport": AsyncMock(),
        "clock": SimpleNamespace(ahead=AsyncMock(return_value=0)),
        "batches": SimpleNamespace(claim_late=lambda *_: None, withdraw=lambda _: None),
        "intents": intents(),
    }
    return JobCalls(claim, **nothing | parts)
