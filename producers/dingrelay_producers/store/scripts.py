"""Lua scripts as data, called by content with EVALSHA.

A script's declaration (`script_functions.py`) turns into a `Call` (script, keys, arguments) without touching Redis, so that
the synchronous client and the asynchronous workers share every signature and differ in one line.
"""

import hashlib
from asyncio import Future, Task, get_running_loop, sleep, timeout
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from math import inf
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, ref

from hiredis import pack_command
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from dingrelay_tasks.sentence import en

Value = str | bytes | int | float

CALLS_TOGETHER = 16
"""Calls that one run of a script carries at most: it blocks Redis for half a millisecond."""
VALUES_TOGETHER = 500
"""Keys and arguments that these have at most, for the same reason; a call of more goes alone."""


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script and the hash by which Redis knows it.

    Attributes:
        together: several calls can be one run of it (`together.lua`).
    """

    body: str
    sha: str
    together: bool = False

    @classmethod
    def of(cls, body: str, *, together: bool = False) -> "Script":
        """The script with this text."""
        body = _exact_numbers() + body
        sha = hashlib.sha1(body.encode(), usedforsecurity=False).hexdigest()
        return cls(body, sha, together)

    def call(self, keys: Sequence[str], arguments: Sequence[Value] = ()) -> "Call":
        """This script with its KEYS and ARGV."""
        return Call(self, tuple(keys), tuple(arguments))


@cache
def _exact_numbers() -> str:
    file = resources.files("dingrelay_producers.store").joinpath("lua", "exact_numbers.lua")
    return file.read_text("utf-8")


class Call(NamedTuple):
    """A script about to run."""

    script: Script
    keys: tuple[str, ...]
    arguments: tuple[Value, ...]
    besides: int = 0
    """Further work of the script, counted like its keys and arguments."""


def run(redis: Redis, call: Call) -> Any:
    """Run the call; the first one loads the script into Redis."""
    parts = (*call.keys, *call.arguments)
    try:
        return redis.evalsha(call.script.sha, len(call.keys), *parts)
    except NoScriptError:
        return redis.eval(call.script.body, len(call.keys), *parts)


async def run_async(redis: AsyncRedis, call: Call) -> Any:
    """Run the call; it shares a round trip with those that are made at the same time."""
    pending = _PENDING.get(redis)
    if pending is None:
        pending = _PENDING[redis] = _Pending(redis)
    return await pending.run(call)


class _Pending:
    """The calls of one event loop that wait for their round trip: one is under way at a time.

    So a lone call leaves at once, and the busier the loop, the more calls a round trip carries.
    """

    def __init__(self, redis: AsyncRedis) -> None:
        self._redis = ref(redis)
        self._calls: list[tuple[Call, Future[Any]]] = []
        self._sending: Task[None] | None = None

    async def run(self, call: Call) -> Any:
        loop = get_running_loop()
        future: Future[Any] = loop.create_future()
        self._calls.append((call, future))
        if self._sending is None or self._sending.done():
            self._sending = loop.create_task(self._send())
        return await future

    async def _send(self) -> None:
        while self._calls:
            calls, self._calls = self._calls, []
            answers: list[Any]
            try:
                answers = await self._round_trip([call for call, _ in calls])
            except Exception as error:  # noqa: BLE001 - every caller must get it
                answers = [error] * len(calls)
            for (_, future), answer in zip(calls, answers, strict=True):
                if future.done():  # its caller was cancelled
                    continue
                if isinstance(answer, Exception):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)
            # Let the callers run first, so that their next calls join the next round trip.
            await sleep(0)

    async def _round_trip(self, calls: Sequence[Call]) -> list[Any]:
        redis = self._redis()
        assert redis is not None, "callers hold a reference"
        return await run_many_async(redis, calls)


async def run_many_async(redis: AsyncRedis, calls: Sequence[Call]) -> list[Any]:
    """Run many calls in one round trip; for each its answer, or the error that Redis answered."""
    if not calls:
        return []
    groups = _together(calls)
    evaluations = [
        (calls[group[0]].script, _parts([calls[index] for index in group])) for group in groups
    ]
    replies = await round_trip(
        redis, [("EVALSHA", script.sha, *parts) for script, parts in evaluations]
    )
    answers: list[Any] = [None] * len(calls)
    for group, (script, parts), reply in zip(groups, evaluations, replies, strict=True):
        group_answers = (
            await _taught(redis, script, parts) if isinstance(reply, NoScriptError) else reply
        )
        if isinstance(group_answers, Exception) or len(group) == 1:
            group_answers = [group_answers] * len(group)
        for index, answer in zip(group, group_answers, strict=True):
            answers[index] = answer
    return answers


async def run_all_async(redis: AsyncRedis, calls: Sequence[Call]) -> list[Any]:
    """Run calls in one round trip; the answers in order.

    Raises:
        RedisError: as `run_many`.
    """
    answers = await run_many_async(redis, calls)
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


def _together(calls: Sequence[Call]) -> list[list[int]]:
    """Groups of calls, by index, that leave as one."""
    groups: list[list[int]] = []
    open_groups: dict[str, tuple[list[int], int]] = {}
    for index, call in enumerate(calls):
        if not call.script.together:
            groups.append([index])
            continue
        size = len(call.keys) + len(call.arguments) + call.besides
        group, held = open_groups.get(call.script.sha, ([], 0))
        if not group or len(group) == CALLS_TOGETHER or held + size > VALUES_TOGETHER:
            group, held = [], 0
            groups.append(group)
        group.append(index)
        open_groups[call.script.sha] = group, held + size
    return groups


def _parts(calls: Sequence[Call]) -> list[Any]:
    """The number of keys, the keys and the arguments of a script that runs for these calls."""
    if len(calls) == 1:
        (call,) = calls
        return [len(call.keys), *call.keys, *call.arguments]
    keys = [key for call in calls for key in call.keys]
    arguments: list[Value] = [""]
    for call in calls:
        arguments += (len(call.keys), len(call.arguments), *call.arguments)
    return [len(keys), *keys, *arguments]


async def round_trip(redis: AsyncRedis, commands: Sequence[tuple[Value, ...]]) -> list[Any]:
    """Send commands; for each its answer, or the error that Redis answered.

    They have one time-out together. A pipeline of redis-py would set one for each, which costs as
    much as all the rest of it. And they are packed in C, as redis-py does for its synchronous connections only.
    """
    pool = redis.connection_pool
    connection: AbstractConnection = await pool.get_connection()  # type: ignore[no-untyped-call]
    try:
        answers: list[Any] = await connection.retry.call_with_retry(
            lambda: _exchange(connection, commands), lambda _: connection.disconnect()
        )
    finally:
        await pool.release(connection)
    return answers


async def _exchange(
    connection: AbstractConnection, commands: Sequence[tuple[Value, ...]]
) -> list[Any]:
    pack: Any = pack_command
    await connection.send_packed_command(b"".join(map(pack, commands)))
    answers: list[Any] = []
    try:
        async with timeout(connection.socket_timeout):
            for _ in commands:
                try:
                    answers.append(await connection.read_response(timeout=inf))
                except ResponseError as error:
                    answers.append(error)
    except TimeoutError:
        raise RedisTimeoutError(en("Redis did not answer in time")) from None
    return answers


async def _taught(redis: AsyncRedis, script: Script, parts: Sequence[Value]) -> Any:
    """The answer of a script that Redis does not know yet, or its error."""
    try:
        return await redis.execute_command("EVAL", script.body, *parts)  # type: ignore[no-untyped-call]
    except RedisError as error:
        return error


_PENDING: WeakKeyDictionary[AsyncRedis, _Pending] = WeakKeyDictionary()


def run_many(redis: Redis, calls: Sequence[Call]) -> list[Any]:
    """Run calls in one round trip; the answers in order.

    Raises:
        RedisError: the first that Redis answers, or its silence. If it answers, the calls behind that one
            are carried out all the same.
    """
    answers = _round_trip(redis, calls) if calls else []
    while unknown := [at for at, answer in enumerate(answers) if isinstance(answer, NoScriptError)]:
        # The first of them loads the script into Redis. Another server may have become the primary since.
        first, *later = unknown
        try:
            answers[first] = redis.eval(calls[first].script.body, *_parts([calls[first]]))
        except ResponseError as error:
            answers[first] = error
        later_answers = _round_trip(redis, [calls[at] for at in later]) if later else []
        for at, answer in zip(later, later_answers, strict=True):
            answers[at] = answer
    for answer in answers:
        if isinstance(answer, RedisError):
            raise answer
    return answers


def _round_trip(redis: Redis, calls: Sequence[Call]) -> list[Any]:
    """Send calls; for each its answer, or the error that Redis answered.

    redis-py's own way takes three times as long for a call, and does no more.
    """
    pack: Any = pack_command
    pool = redis.connection_pool
    connection: Any = pool.get_connection()

    def exchange() -> list[Any]:
        # Redis carries one out while the next one is packed.
        for call in calls:
            connection.send_packed_command([pack(("EVALSHA", call.script.sha, *_parts([call])))])
        answers: list[Any] = []
        for _ in calls:
            try:
                answers.append(connection.read_response())
            except ResponseError as error:
                answers.append(error)
        return answers

    def give_up(_: Exception) -> None:
        connection.disconnect()

    try:
        answers: list[Any] = connection.retry.call_with_retry(exchange, give_up)
    except BaseException:
        # Answers that still arrive belong to no call.
        connection.disconnect()
        raise
    finally:
        pool.release(connection)
    return answers
