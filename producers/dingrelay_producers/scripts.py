"""Lua scripts as data: one file a transition, called by content with EVALSHA.

A `Script` turns into a `Call` (script, keys, arguments) without touching Redis, so that the
synchronous client and the asynchronous workers share every signature and differ in one line.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import NoScriptError

Value = str | bytes | int | float


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script and the hash by which Redis knows it."""

    body: str
    sha: str

    @classmethod
    def load(cls, package: str, name: str) -> "Script":
        """The script ``lua/<name>.lua`` of a package."""
        body = resources.files(package).joinpath("lua", f"{name}.lua").read_text("utf-8")
        digest = hashlib.sha1(body.encode(), usedforsecurity=False).hexdigest()
        return cls(body, digest)

    def call(self, keys: Sequence[str], arguments: Sequence[Value] = ()) -> "Call":
        """This script with its KEYS and ARGV."""
        return Call(self, tuple(keys), tuple(arguments))


@dataclass(frozen=True, slots=True)
class Call:
    """A script about to run."""

    script: Script
    keys: tuple[str, ...]
    arguments: tuple[Value, ...]


def run(redis: Redis, call: Call) -> Any:
    """Run the call; Redis learns the script the first time."""
    parts = (*call.keys, *call.arguments)
    try:
        return redis.evalsha(call.script.sha, len(call.keys), *parts)
    except NoScriptError:
        return redis.eval(call.script.body, len(call.keys), *parts)


async def run_async(redis: AsyncRedis, call: Call) -> Any:
    """Run the call; Redis learns the script the first time."""
    parts = (*call.keys, *call.arguments)
    try:
        return await redis.evalsha(call.script.sha, len(call.keys), *parts)
    except NoScriptError:
        return await redis.eval(call.script.body, len(call.keys), *parts)


def run_many(redis: Redis, calls: Sequence[Call]) -> list[Any]:
    """Run many calls of one script in one round trip; the answers in order."""
    if not calls:
        return []
    # In a pipeline an unknown script would fail every call after it, so it is taught first.
    for script in {call.script for call in calls}:
        if not redis.script_exists(script.sha)[0]:
            redis.script_load(script.body)
    pipe = redis.pipeline(transaction=False)
    for call in calls:
        pipe.evalsha(call.script.sha, len(call.keys), *call.keys, *call.arguments)
    answers: list[Any] = pipe.execute()
    return answers
