from redis import Redis

from dingrelay_producers.scripts import Call, Script, run


def test_a_script_is_learned_once_and_called_by_content(valkey_url: str) -> None:
    body = "return {KEYS[1], ARGV[1]}"
    import hashlib

    script = Script(body, hashlib.sha1(body.encode()).hexdigest())
    with Redis.from_url(valkey_url) as redis:
        redis.script_flush()
        call: Call = script.call(["k"], [7])
        assert run(redis, call) == [b"k", b"7"]
        assert redis.script_exists(script.sha) == [True]
        assert run(redis, call) == [b"k", b"7"]
