"""The Valkey of a run, what can be wrong with it, and what it holds and publishes."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from dingrelay_chaos.process import Process, reserve, wait_until
from dingrelay_workers.embedded.system import valkey_program

START_SECONDS = 20
LOOK_SECONDS = 0.02
CLOSED_PORT = 1
"""A port on which nothing listens: a replica of it takes no writes."""
REPLICA_SECONDS = 3
"""Within which a replica is up to date. A primary that is itself away has none."""
PAUSE_MS = 3_000
"""Time in which a primary takes no writes while its replica catches up."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Writes that a failover lost, by the driver's monotonic clock: those between two moments."""

    since: float
    until: float


class Valkey:
    """A Valkey with an append-only file, always at one address, whichever server is behind it."""

    def __init__(self, folder: Path) -> None:
        self.port = reserve()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.lost: list[Lost] = []
        self._folder = folder
        self._servers = 1
        self._process = self._server(self.port)
        self._replica: tuple[Process, int] | None = None
        """One that waits to be promoted, and its port."""

    def start(self) -> None:
        """Start it, and return once it answers. A replica that waits takes its place instead."""
        if self._replica is not None:
            self.promote()
            return
        self._process.spawn()
        _wait_for(self._answers, START_SECONDS)

    def _answers(self) -> bool:
        with suppress(RedisError), self.connect() as redis:
            return bool(redis.ping())
        return False

    def end(self, *, kill: bool) -> None:
        """End it, politely or not, and wait until it has."""
        self._process.resume()
        if not kill:
            self._process.terminate()
        if kill or not self._process.ended_within(10):
            self._process.kill()

    def fail_over(self, losing: float) -> None:
        """End it, with a replica that takes its place once that is promoted.

        Args:
            losing: seconds of writes that never reach the replica; 0: all of them do.
        """
        if self._replica is not None:
            return
        self._servers += 1
        port = reserve()
        process = self._server(port, "--replicaof", "127.0.0.1", str(self.port))
        written: list[tuple[float, int]] = []
        try:
            with self.connect() as redis, _connect(port) as copy:

                def linked() -> bool:
                    written.append((time.monotonic(), _offset(redis)))
                    return _linked(copy)

                redis.config_set("repl-diskless-sync-delay", 0)
                process.spawn()
                _wait_for(linked, REPLICA_SECONDS)
                if not losing:
                    redis.execute_command("CLIENT", "PAUSE", PAUSE_MS, "WRITE")
                    _wait_for(lambda: _offset(redis) == _offset(copy), PAUSE_MS / 1_000 / 2)
                written.append((time.monotonic(), _offset(redis)))
                copy.replicaof("NO", "ONE")
                since = replicated_until(written, _offset(copy))
        except (RedisError, TimeoutError):
            # The primary is away, full of something else, or a replica itself: it has no replica.
            process.kill()
            return
        time.sleep(losing)
        self._process.kill()
        if losing:
            self.lost.append(Lost(since, time.monotonic()))
        self._replica = process, port

    def promote(self) -> None:
        """Let the replica listen where the primary did, as a name or an address that moves."""
        replica, self._replica = self._replica, None
        if replica is None:
            return
        self._process, port = replica
        with _connect(port) as redis:
            _wait_for(lambda: _on_disk(redis), START_SECONDS)
            redis.config_set("port", self.port)
        # From now on it restarts there, too.
        self._process.command = self._command(self.port, self._process.name)
        self.start()

    def close(self) -> None:
        """End everything, with the run."""
        if self._replica is not None:
            self._replica[0].kill()
        self.end(kill=True)

    def suspend(self) -> None:
        """Let it answer nothing."""
        self._process.suspend()

    def resume(self) -> None:
        """Let it answer again."""
        self._process.resume()

    def refuse_writes(self, *, full: bool) -> None:
        """Let it refuse writes: out of memory, or a replica."""
        self._set("1" if full else "", ("127.0.0.1", CLOSED_PORT) if not full else None)

    def take_writes(self, *, full: bool) -> None:
        """Let it take writes again."""
        self._set("0" if full else "", ("NO", "ONE") if not full else None)

    def _set(self, memory: str, primary: tuple[str, Any] | None) -> None:
        with suppress(RedisError), self.connect() as redis:
            if memory:
                redis.config_set("maxmemory", memory)
            if primary:
                redis.replicaof(*primary)

    def mend(self) -> None:
        """End everything that is wrong with it."""
        self.resume()
        self.start()
        self._set("0", ("NO", "ONE"))

    def connect(self) -> Redis:
        """A connection that gives up soon."""
        return _connect(self.port)

    def _server(self, port: int, *options: str) -> Process:
        name = "valkey" if self._servers == 1 else f"valkey-{self._servers}"
        return Process(name, [*self._command(port, name), *options], self._folder)

    def _command(self, port: int, folder: str) -> list[str]:
        return list(valkey_program(port, self._folder / folder).command)


class CeleryEvents:
    """Writes everything that Celery publishes to its listeners into a file, to be searched for secrets."""

    def __init__(self, valkey: Valkey, path: Path) -> None:
        self._valkey = valkey
        self._path = path
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def end(self) -> None:
        """Stop listening."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def _listen(self) -> None:
        with self._path.open("ab") as out:
            while not self._ending.is_set():
                # Whatever is wrong with Valkey, it is listened to again.
                with suppress(RedisError, OSError), self._valkey.connect() as redis:
                    pubsub = redis.pubsub()
                    pubsub.psubscribe("*")
                    while not self._ending.is_set():
                        message = pubsub.get_message(timeout=0.5)
                        if message and isinstance(message["data"], bytes):
                            out.write(message["data"] + b"\n")
                self._ending.wait(0.2)


VALUES: dict[bytes, Callable[[Redis, bytes], Any]] = {
    b"hash": lambda redis, key: redis.hgetall(key),
    b"zset": lambda redis, key: redis.zrange(key, 0, -1),
    b"list": lambda redis, key: redis.lrange(key, 0, -1),
    b"set": lambda redis, key: redis.smembers(key),
    b"stream": lambda redis, key: redis.xrange(key),
    b"string": lambda redis, key: redis.get(key),
}


def records(redis: Redis) -> Iterator[tuple[str, str]]:
    """Each key with its value as text; not the tokens, which are the one secret that belongs there."""
    for key in redis.scan_iter("*"):
        if (
            not key.startswith(b"dingrelay:token:")
            and (kind := cast("bytes", redis.type(key))) != b"none"
        ):
            yield key.decode(errors="replace"), repr(VALUES[kind](redis, key))


def _connect(port: int) -> Redis:
    return Redis(port=port, socket_timeout=2, socket_connect_timeout=2)


def _wait_for(done: Callable[[], bool], seconds: float) -> None:
    """Wait for a server, which may not listen yet."""

    def connected_and_done() -> bool:
        with suppress(RedisConnectionError):
            return done()
        return False

    wait_until(connected_and_done, seconds, "Valkey does not answer", pause=LOOK_SECONDS)


def _info(redis: Redis, section: str) -> dict[str, Any]:
    return redis.info(section)


def _linked(replica: Redis) -> bool:
    return _info(replica, "replication").get("master_link_status") == "up"


def _offset(redis: Redis) -> int:
    info = _info(redis, "replication")
    replica = info["role"] == "slave"
    return int(info["slave_repl_offset" if replica else "master_repl_offset"])


def replicated_until(written: Sequence[tuple[float, int]], offset: int) -> float:
    """The last known moment at which a primary had written no more than its replica has got.

    A replica on a busy machine is behind by any time.

    Args:
        written: moments, and how far the primary had written by then, at least.
        offset: how far the replica has got.
    """
    return max(moment for moment, number in written if number <= offset)


def _on_disk(redis: Redis) -> bool:
    """Whether what a replica was given is in its append-only file, so that a restart keeps it."""
    info = _info(redis, "persistence")
    busy = info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"]
    return not busy and info["aof_last_bgrewrite_status"] == "ok"
