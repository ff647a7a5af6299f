"""Runs flows: generators that yield calls of scripts, receive their answers, and do no I/O.

One body then serves a thread, which runs it with `run_flow`, and an event loop, which runs it with `run_flow_async`.
"""

from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, TypeVar

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from dingrelay_producers.store import scripts
from dingrelay_producers.store.scripts import Call

T = TypeVar("T")

Step = Call | Sequence[Call]
"""A yield of a flow: one call, which is answered by its answer; or several, which share a round trip, by their list."""
Flow = Generator[Step, Any, T]
"""Ends with its result; an error of a step is raised at its yield."""


def run_flow(flow: Generator[Any, Any, T], carry_out: Callable[[Any], Any]) -> T:
    """The result of a flow, whose steps `carry_out` answers: calls by `run_step`, over the caller's connection."""
    try:
        step = next(flow)
        while True:
            try:
                answer = carry_out(step)
            except BaseException as error:  # noqa: BLE001 - the flow raises it
                step = flow.throw(error)
            else:
                step = flow.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result


async def run_flow_async(
    flow: Generator[Any, Any, T], carry_out: Callable[[Any], Awaitable[Any]]
) -> T:
    """Like `run_flow`, by `run_step_async`. A cancellation, too, is raised at the flow's yield."""
    try:
        step = next(flow)
        while True:
            try:
                answer = await carry_out(step)
            except BaseException as error:  # noqa: BLE001 - the flow raises it
                step = flow.throw(error)
            else:
                step = flow.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result


def run_step(redis: Redis, step: Step) -> Any:
    """Redis's answer to a step.

    Raises:
        RedisError: Redis is silent, or answers it; of several calls the first one's. The calls behind that one are carried
            out all the same.
    """
    return scripts.run(redis, step) if isinstance(step, Call) else scripts.run_many(redis, step)


async def run_step_async(redis: AsyncRedis, step: Step) -> Any:
    """Like `run_step`; one call shares its round trip with those that others make at the same time."""
    if isinstance(step, Call):
        return await scripts.run_async(redis, step)
    return await scripts.run_all_async(redis, step)
