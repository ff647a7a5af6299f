"""Whole numbers that a script gives to a command, on servers that write some with an exponent."""

import pytest
from redis.asyncio import Redis

from dingrelay_producers.store.scripts import Script

# 1.9e12 milliseconds are a day in 2030.
GIVE = """
local given, failed = redis.call('HSET', 1.9e12, 1.5, 'x', -1e9), redis.pcall(1e8)
local kinds = {}
for _, each in ipairs(given) do kinds[#kinds + 1] = type(each) .. ' ' .. each end
kinds[#kinds + 1] = failed[1] .. ''
kinds[#kinds + 1] = redis.sha1hex('')
return kinds
"""


@pytest.mark.parametrize(
    ("server", "kind"),
    [
        ("REDIS_VERSION_NUM = 0x00070204", "string"),
        ("REDIS_VERSION_NUM = 0x00070400", "number"),
        # It reports the version of Redis that it is compatible with beside its own.
        ("REDIS_VERSION_NUM = 0x00070204, VALKEY_VERSION_NUM = 0x00080000", "number"),
    ],
)
async def test_redis_7_2_is_given_texts(redis: Redis, server: str, kind: str) -> None:
    echo = "function(...) return {...} end"
    stand_in = (
        f"local server = {{call = {echo}, pcall = {echo}, sha1hex = redis.sha1hex, {server}}}\n"
    )
    stand_in += "local redis = server\n"
    answer = await redis.eval(stand_in + Script.of(GIVE).body, 0)
    assert [each.decode() for each in answer[:-1]] == [
        "string HSET",
        f"{kind} 1900000000000",
        "number 1.5",
        "string x",
        f"{kind} -1000000000",
        "100000000",
    ]
    assert len(answer[-1]) == 40


async def test_whole_numbers_written_by_this_server_are_read_as_such(redis: Redis) -> None:
    written = Script.of(
        "redis.call('SET', KEYS[1], 1.9e12, 'PX', 1000) return redis.call('GET', KEYS[1])"
    )
    assert int(await redis.eval(written.body, 1, "dingrelay:number")) == 1_900_000_000_000
