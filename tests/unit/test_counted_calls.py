"""Calls that count against the month: successful ones and those that DingTalk refused (API §6)."""

from contextlib import suppress
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from dingrelay_workers.dingtalk import apis
from dingrelay_workers.dingtalk.apis import Api
from dingrelay_workers.dingtalk.errors import (
    Ambiguous,
    DingTalkError,
    NotFound,
    Permanent,
    Permission,
    QuotaExhausted,
    Throttled,
    Transient,
)
from dingrelay_workers.dingtalk.request import Request
from unit.fake_calls import job_calls, limiter


@pytest.mark.parametrize(
    ("answer", "counted"),
    [
        ({}, 1),
        (Permanent("40035", "a parameter is wrong"), 1),
        (Permission("60011", "the app may not"), 1),
        (NotFound("60121", "there is no such user"), 1),
        (Throttled("90018", "too many"), 0),
        (QuotaExhausted("90020", "the month is used up"), 0),
        (Transient("-1", "busy"), 0),
        (Ambiguous("timeout", "no answer"), 0),
    ],
)
async def test_refused_calls_count_but_limited_or_lost_do_not(answer: Any, counted: int) -> None:
    assert await calls_of_the_month(apis.MESSAGE_SEND, answer) == counted


async def test_a_refused_call_that_is_not_of_the_month_does_not_count() -> None:
    assert await calls_of_the_month(apis.USER, NotFound("60121", "there is no such user")) == 0


@pytest.mark.parametrize("answer", [{}, Permanent("40035", "a parameter is wrong")])
async def test_a_call_counts_although_redis_is_away_by_then(answer: Any) -> None:
    away = AsyncMock(side_effect=RedisConnectionError)
    assert await calls_of_the_month(apis.MESSAGE_SEND, answer, report=away) == 1


async def calls_of_the_month(api: Api, answer: Any, *, report: Any = None) -> int:
    """How many calls were counted after one to which DingTalk gave this answer."""
    quota = SimpleNamespace(check=AsyncMock(), count=Mock())
    transport = SimpleNamespace(request=AsyncMock(side_effect=[answer]))
    reporting = limiter(report=report or AsyncMock())
    calls = job_calls(quota=quota, transport=transport, limiter=reporting)
    with suppress(DingTalkError, RedisConnectionError):
        await calls.send(Request(api))
    return int(quota.count.call_count)
