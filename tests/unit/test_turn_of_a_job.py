"""A job that was woken for its turn at an API keeps that turn through calls of others."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest

from dingrelay_workers.calls.job_calls import JobCalls
from dingrelay_workers.dingtalk import apis
from dingrelay_workers.dingtalk.apis import Api
from dingrelay_workers.dingtalk.request import Request
from dingrelay_workers.limiter.slot import SlotRequest
from dingrelay_workers.limiter.turns import Turns


@pytest.mark.parametrize("api", [apis.USER, apis.MESSAGE_SEND])
async def test_calls_of_other_apis_leave_the_turn_to_the_one_that_it_is_for(api: Api) -> None:
    turn = Turns("a", api.rule, "normal").coming
    claim: Any = SimpleNamespace(
        id="j", app="a", lane="normal", waiting=0, batch_key="", sender="", turn=turn, queue=""
    )
    acquired: list[tuple[str, str]] = []

    async def acquire(request: SlotRequest) -> Any:
        acquired.append((request.turns.api, request.woken))
        return SimpleNamespace()

    limiter: Any = SimpleNamespace(
        acquire=acquire,
        wanted=lambda *_: 0,
        stale=lambda _: False,
        report=AsyncMock(),
    )
    nothing: Any = SimpleNamespace(claim_late=lambda *_: None, withdraw=lambda _: None)
    settings: Any = SimpleNamespace(app=lambda _: SimpleNamespace(organisation="o"))
    quota: Any = SimpleNamespace(check=AsyncMock(), count=lambda _: None)
    intents: Any = SimpleNamespace(open=False, write=AsyncMock(), call=nullcontext)
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
    for _ in range(2):
        for each in (apis.USER, apis.MESSAGE_SEND):
            await calls.send(Request(each))
    woken = [(name, job) for name, job in acquired if job]
    assert woken == [(api.rule, "j")]
    assert acquired.index((api.rule, "j")) < 2
