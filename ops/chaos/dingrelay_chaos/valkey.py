"""The Valkey of a run, and what can be wrong with it."""

import os
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from dingrelay_chaos.process import Process
from dingrelay_workers.embedded import valkey

START_SECONDS = 20
LOOK_SECONDS = 0.02
NOBODY = 1
"""A port on which nothing listens: a replica of it takes no writes."""


class Valkey:
    """A Valkey with an append-only file."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        command = valkey.program(self.port, folder / "valkey").command
        self._process = Process("valkey", command, folder / "valkey.log")

    def start(self) -> None:
        """Start it, and return once it answers."""
        self._process.spawn(os.environ)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with suppress(RedisError), self.connect() as redis:
                if redis.ping():
                    return
            time.sleep(LOOK_SECONDS)
        raise TimeoutError(f"Valkey does not answer; see {self._process.log}")

    def end(self, *, kill: bool) -> None:
        """End it, politely or not, and wait until it has."""
        self._process.resume()
        if kill:
            self._process.kill()
        else:
            self._process.terminate()
            if not self._process.ended_within(10):
                self._process.kill()

    def suspend(self) -> None:
        """Let it answer nothing."""
        self._process.suspend()

    def resume(self) -> None:
        """Let it answer again."""
        self._process.send(signal.SIGCONT)

    def refuse_writes(self, *, full: bool) -> None:
        """Let it refuse writes: out of memory, or a replica."""
        with suppress(RedisError), self.connect() as redis:
            if full:
                redis.config_set("maxmemory", "1")
            else:
                redis.replicaof("127.0.0.1", NOBODY)

    def take_writes(self, *, full: bool) -> None:
        """Let it take writes again."""
        with suppress(RedisError), self.connect() as redis:
            if full:
                redis.config_set("maxmemory", "0")
            else:
                redis.replicaof("NO", "ONE")

    def mend(self) -> None:
        """End everything that is wrong with it."""
        self.resume()
        self.start()
        self.take_writes(full=True)
        self.take_writes(full=False)

    def connect(self) -> Redis:
        """A connection that gives up soon."""
        return Redis.from_url(self.url, socket_timeout=2, socket_connect_timeout=2)


def free_port() -> int:
    """A port on which nothing listens just now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
