"""A job that was woken for its turn at an API keeps that turn through calls of others."""

from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

from dingrelay_workers.calls.job_calls import JobCalls
from dingrelay_workers.dingtalk import apis
from dingrelay_workers.dingtalk.request import Request


async def test_calls_aside_leave_the_turn_to_the_call_that_it_is_for() -> None:
    claim: Any = SimpleNamespace(
        id="j", app="a", lane="normal", waiting=0, batch_key="", sender="", woken=True, queue=""
    )
    acquired: list[tuple[str, str]] = []

    async def acquire(_: str, api: str, *, woken: str, **__: Any) -> Any:
        acquired.append((api, woken))
        return SimpleNamespace(costs={})

    limiter: Any = SimpleNamespace(
        acquire=acquire,
        wanted=lambda *_: 0,
        stale=lambda _: False,
        answered=AsyncMock(),
        over=AsyncMock(),
    )
    nothing: Any = SimpleNamespace(claim_late=lambda *_: None)
    settings: Any = SimpleNamespace(app=lambda _: SimpleNamespace(organisation="o"))
    quota: Any = SimpleNamespace(check=AsyncMock(), count=lambda _: None)
    intents: Any = SimpleNamespace(open=False, write=AsyncMock(), close=lambda: None)
    calls = JobCalls(
        claim,
        settings=settings,
        limiter=limiter,
        quota=quota,
        tokens=AsyncMock(),
        transport=AsyncMock(),
        batches=nothing,
        intents=intents,
    )
    with calls.aside():
        await calls.send(Request(apis.USER))
    await calls.send(Request(apis.MESSAGE_SEND))
    await calls.send(Request(apis.MESSAGE_SEND))
    assert acquired == [
        (apis.USER.rule, ""),
        (apis.MESSAGE_SEND.rule, "j"),
        (apis.MESSAGE_SEND.rule, ""),
    ]
